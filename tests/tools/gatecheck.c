/*
 * The gates as a filter: one JSON object a line in, one verdict a line out. The
 * teacher in model/train is held against the real gates with it, and a trained
 * author's proposals are counted.
 *
 * In:  {"tables": [{"name","key","columns":[[name,type]...],"rows":[[...]...]}], "tools": LUA,
 *       "task": {"prompt","answer_schema","solution","verifier","level","answers"?,"effects"?},
 *       "below": task or null}
 * Out: {"gate": 0, "reason": "", "evidence": {...}}; gate -1: the tools do not load.
 *
 * gatecheck DIR: what was accepted becomes environments in DIR, one for each line without "below"
 * and the levels that follow it; for agon audit and agon verify.
 *
 * Or tools alone, for model/train/toolcheck.py:
 * In:  {"world": PATH, "tools": LUA, "calls": [[NAME, {ARGUMENTS}]...]}
 * Out: {"results": [JSON text or "error: ..."...]}
 */
#include "base/file.h"
#include "base/json.h"
#include "base/store.h"
#include "sandbox/cell.h"
#include "verifiers/gates.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int die(const struct agon_err *err)
{
    fprintf(stderr, "gatecheck: %s\n", err->text);
    return 2;
}

static void bind_value(struct agon_query *q, int at, const json_t *v)
{
    if (json_is_string(v))
        agon_query_str(q, at, (struct agon_str){json_string_value(v), json_string_length(v)});
    else if (json_is_integer(v))
        agon_query_int(q, at, json_integer_value(v));
    else if (json_is_real(v))
        agon_query_real(q, at, json_real_value(v));
    else
        agon_query_null(q, at);
}

static int make_table(struct sqlite3 *db, const json_t *t, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 10);
    struct agon_buf insert AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 10);
    const char *key = agon_json_text(t, "key", "");
    size_t i, k;
    json_t *column, *row, *value;
    agon_buf_addf(&sql, "CREATE TABLE %s (", agon_json_text(t, "name", ""));
    agon_buf_addf(&insert, "INSERT INTO %s VALUES (", agon_json_text(t, "name", ""));
    json_array_foreach(json_object_get(t, "columns"), i, column)
    {
        const char *name = json_string_value(json_array_get(column, 0));
        agon_buf_addf(&sql, "%s%s %s%s", i ? ", " : "", name,
                      json_string_value(json_array_get(column, 1)),
                      strcmp(name, key) ? "" : " NOT NULL PRIMARY KEY");
        agon_buf_adds(&insert, i ? ", ?" : "?");
    }
    agon_buf_adds(&sql, ") STRICT");
    agon_buf_adds(&insert, ")");
    int r = agon_store_exec(db, agon_buf_text(&sql), err);
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    if (r || (r = agon_query_new(&q, db, agon_buf_text(&insert), err)))
        return r;
    json_array_foreach(json_object_get(t, "rows"), i, row)
    {
        json_array_foreach(row, k, value) bind_value(q, (int)k + 1, value);
        if ((r = agon_query_run(q, err)))
            return r;
    }
    return 0;
}

static int make_world(const char *path, const json_t *tables, struct agon_err *err)
{
    struct sqlite3 *db = NULL;
    size_t i;
    json_t *t;
    (void)unlink(path);
    int r = agon_store_open(&db, path, AGON_STORE_CREATE, err);
    if (!r)
        r = agon_store_exec(db, "BEGIN", err);
    json_array_foreach(tables, i, t) if (!r) r = make_table(db, t, err);
    if (!r)
        r = agon_store_exec(db, "COMMIT", err);
    agon_store_close(db);
    return r;
}

/* All borrowed from t. */
static struct agon_task task_of(json_t *t)
{
    return (struct agon_task){
        .id = strdup("t"),
        .level = (int)json_integer_value(json_object_get(t, "level")),
        .prompt = strdup(agon_json_text(t, "prompt", "")),
        .answer_schema = json_incref(json_object_get(t, "answer_schema")),
        .answers = strcmp(agon_json_text(t, "answers", "one"), "many") ? AGON_ANSWERS_ONE
                                                                       : AGON_ANSWERS_MANY,
        .effects = json_is_array(json_object_get(t, "effects"))
                       ? json_incref(json_object_get(t, "effects"))
                       : json_array(),
        .solution = strdup(agon_json_text(t, "solution", "")),
        .verifier = strdup(agon_json_text(t, "verifier", "")),
    };
}

/* ---- what was accepted, as environments ---- */

enum { LEVELS_MAX = 16 };
struct store {
    const char *dir; /* NULL: nothing is stored */
    char *world_path;
    int n_envs;
    char *tools;
    struct agon_task tasks[LEVELS_MAX];
    int n_tasks;
};

/* The environment whose ladder has ended, if it has a task. */
static int store_flush(struct store *s, struct agon_err *err)
{
    char id[32], dir[4096];
    snprintf(id, sizeof(id), "e%04d", s->n_envs + 1);
    snprintf(dir, sizeof(dir), "%s/%s", s->dir ? s->dir : "", id);
    struct agon_env env = {.id = id,
                           .family = (char[]){"general"},
                           .category = (char[]){"a teacher's world"},
                           .format_version = 1,
                           .tools = s->tools,
                           .world_path = s->world_path,
                           .tasks = s->tasks,
                           .n_tasks = s->n_tasks};
    int r = s->n_tasks ? agon_env_store(&env, dir, err) : 0;
    s->n_envs += s->n_tasks > 0;
    for (int i = 0; i < s->n_tasks; i++)
        agon_task_deinit(&s->tasks[i]);
    free(s->tools);
    s->tools = NULL;
    s->n_tasks = 0;
    return r;
}

/* Takes what the task owns. */
static void store_add(struct store *s, struct agon_task *task, const char *tools)
{
    if (!s->dir || s->n_tasks == LEVELS_MAX)
        return;
    if (!s->tools)
        s->tools = strdup(tools);
    struct agon_task *kept = &s->tasks[s->n_tasks];
    *kept = *task;
    *task = (struct agon_task){0};
    free(kept->id);
    if (asprintf(&kept->id, "t1_l%d", kept->level) < 0)
        kept->id = NULL;
    if (s->n_tasks && s->tasks[s->n_tasks - 1].level == kept->level - 1)
        kept->parent = strdup(s->tasks[s->n_tasks - 1].id);
    s->n_tasks++;
}

static int check_line(struct agon_sandbox *sb, struct store *s, const json_t *in, uint64_t seed,
                      json_t **ret, struct agon_err *err)
{
    const char *path = s->world_path;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    struct agon_task task AGON_AUTO(agon_task_deinit) = task_of(json_object_get(in, "task"));
    json_t *lower = json_object_get(in, "below");
    bool has_below = json_is_object(lower);
    struct agon_task below AGON_AUTO(agon_task_deinit) =
        has_below ? task_of(lower) : (struct agon_task){0};
    int r = has_below ? 0 : store_flush(s, err);
    if (!r)
        r = make_world(path, json_object_get(in, "tables"), err);
    if (r)
        return r;
    r = agon_runtime_open(&rt, sb, path, agon_str(agon_json_text(in, "tools", "")), &reason, err);
    if (r == AGON_REJECTED) {
        *ret = json_pack("{s:i, s:s}", "gate", -1, "reason", agon_buf_text(&reason));
        return 0;
    }
    if (r)
        return r;
    struct agon_gate_input input = {.rt = rt, .task = &task, .below = has_below ? &below : NULL};
    agon_rng_init(&input.rng, seed);
    struct agon_gate_report report AGON_AUTO(agon_gate_report_deinit) = {0};
    r = agon_gates(&input, &report, err);
    if (r < 0)
        return r;
    *ret = json_pack("{s:i, s:s, s:O*}", "gate", report.gate, "reason",
                     r ? agon_buf_text(&report.reason) : "", "evidence", report.evidence);
    if (!r)
        store_add(s, &task, agon_json_text(in, "tools", ""));
    return 0;
}

static int call_tools(struct agon_sandbox *sb, const json_t *in, json_t **ret, struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_instance *instance AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(4 << 20);
    size_t i;
    json_t *call, *results;
    int r = agon_runtime_open(&rt, sb, agon_json_text(in, "world", ""),
                              agon_str(agon_json_text(in, "tools", "")), &result, err);
    if (r == AGON_REJECTED) {
        *ret = json_pack("{s:i, s:s}", "gate", -1, "reason", agon_buf_text(&result));
        return 0;
    }
    if (r || (r = agon_instance_new(&instance, rt, err)))
        return r;
    *ret = json_pack("{s:o}", "results", results = json_array());
    json_array_foreach(json_object_get(in, "calls"), i, call) {
        struct agon_buf arguments AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        agon_json_dump(&arguments, json_array_get(call, 1));
        agon_buf_reset(&result);
        r = agon_instance_call(instance, json_string_value(json_array_get(call, 0)),
                               agon_buf_str(&arguments), &result, err);
        if (r < 0)
            return r;
        json_array_append_new(results, json_sprintf("%s%s", r == AGON_TOOL_ERROR ? "error: " : "",
                                                    agon_buf_text(&result)));
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_sandbox_options options = {.cell_program = getenv("AGON_CELL")};
    char path[64], *line = NULL;
    size_t capacity = 0;
    snprintf(path, sizeof(path), "/tmp/gatecheck.%d.db", (int)getpid());
    struct store s = {.dir = argc > 1 ? argv[1] : NULL, .world_path = path};
    if (s.dir && agon_dir_make(s.dir, &err))
        return die(&err);
    if (agon_sandbox_open(&sb, &options, &err))
        return die(&err);
    for (uint64_t n = 0; getline(&line, &capacity, stdin) > 0; n++) {
        json_auto_t *in = json_loads(line, 0, NULL), *out = NULL;
        bool calls = json_object_get(in, "calls") != NULL;
        if (!in || (calls ? call_tools(sb, in, &out, &err)
                          : check_line(sb, &s, in, n, &out, &err))) {
            free(line);
            return die(&err);
        }
        char *text = json_dumps(out, JSON_COMPACT);
        puts(text ? text : "{}");
        fflush(stdout);
        free(text);
    }
    free(line);
    if (store_flush(&s, &err))
        return die(&err);
    (void)unlink(path);
    return 0;
}
