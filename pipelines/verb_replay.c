/* agon replay: the calls of stored rollouts made again, their results compared byte for byte. */
#include "base/json.h"
#include "envs/env.h"
#include "pipelines/corpus.h"
#include "pipelines/listing.h"
#include "pipelines/verb.h"
#include "pipelines/workers.h"
#include "sandbox/cell.h"
#include "synth/replay.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { BATCH = 32, SHOWN_MAX = 20, LINES_BYTES_MAX = 16 << 20 };

struct options {
    const char *task;
    int64_t rollout, jobs;
};
#define FIELD(f) .offset = offsetof(struct options, f)
static const struct agon_opt table[] = {
    {.name = "task",
     .type = AGON_OPT_TEXT,
     FIELD(task),
     .arg = "ID",
     .help = "only rollouts of this task: t1_l2, or ENVIRONMENT/t1_l2"},
    {.name = "rollout",
     .type = AGON_OPT_INT,
     FIELD(rollout),
     .min = -1,
     .max = 1000000,
     .arg = "N",
     .help = "only the rollout with this index, from 0; -1: all"},
    AGON_WORKERS_OPTION(offsetof(struct options, jobs)),
    {0},
};

struct verb {
    struct options o;
    const char *dir; /* of the corpus */
    enum agon_context context;
    json_t *environments; /* ids, with rollouts */
    int n_rollouts, n_calls, n_differ, n_skipped;
};

/* What came of an environment. */
struct outcome {
    struct agon_buf lines;
    int n_tasks, n_rollouts, n_calls, n_differ, n_skipped;
};

/* A batch of rows, read. */
struct row {
    int64_t index;
    json_t *segments, *writes, *checks;
    char *answer, *verdict, *end;
};

static void row_deinit(struct row *row)
{
    json_decref(row->segments);
    json_decref(row->writes);
    json_decref(row->checks);
    free(row->answer);
    free(row->verdict);
    free(row->end);
}

struct work { /* on one environment */
    const struct verb *verb;
    const char *id;
    struct agon_corpus *corpus;
    struct agon_env *env; /* NULL: not kept */
    struct agon_runtime *rt;
    struct outcome *out;
};

static int row_read(struct row *row, struct agon_query *q, struct agon_err *err)
{
    row->index = agon_query_get_int(q, 0);
    row->answer = agon_query_is_null(q, 1) ? NULL : strdup(agon_query_get_text(q, 1));
    row->verdict = strdup(agon_query_get_text(q, 2));
    row->end = strdup(agon_query_get_text(q, 3));
    if (!row->verdict || !row->end || (!row->answer && !agon_query_is_null(q, 1)))
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    int r = agon_json_parse(&row->writes, agon_query_get_str(q, 4), err);
    if (!r)
        r = agon_json_parse(&row->checks, agon_query_get_str(q, 5), err);
    return r ? r : agon_json_parse(&row->segments, agon_query_get_str(q, 6), err);
}

static void say_difference(struct work *w, const char *task, const struct row *row,
                           const struct agon_replay_result *result)
{
    struct outcome *out = w->out;
    if (out->n_differ++ >= SHOWN_MAX)
        return;
    agon_buf_addf(&out->lines, "%s/%s rollout %lld: %s\n    expected: %s\n    got:      %s\n",
                  w->id, task, (long long)row->index, agon_buf_text(&result->where),
                  agon_buf_text(&result->expected), agon_buf_text(&result->got));
}

static int work_batch(struct work *w, struct agon_replay *replay, const struct row *rows, int n,
                      struct agon_err *err)
{
    struct agon_replay_rollout rollouts[BATCH];
    struct agon_replay_result results[BATCH];
    for (int i = 0; i < n; i++)
        rollouts[i] =
            (struct agon_replay_rollout){rows[i].segments, rows[i].answer,  rows[i].writes,
                                         rows[i].checks,   rows[i].verdict, rows[i].end};
    int r = agon_replay(replay, rollouts, n, results, err);
    for (int i = 0; i < n; i++) {
        w->out->n_rollouts += !r;
        w->out->n_calls += results[i].n_calls;
        if (!r && !results[i].same)
            say_difference(w, replay->task->id, &rows[i], &results[i]);
        agon_replay_result_deinit(&results[i]);
    }
    return r ? agon_err_in(err, r, "%s/%s", w->id, replay->task->id) : 0;
}

/* Rows of q, in batches. */
static int work_rows(struct work *w, struct agon_replay *replay, struct agon_query *q,
                     struct agon_err *err)
{
    int r = AGON_ROW;
    while (r == AGON_ROW) {
        struct row rows[BATCH] = {0};
        int n = 0, e = 0;
        while (n < BATCH && !e && (r = agon_query_next(q, err)) == AGON_ROW)
            e = row_read(&rows[n++], q, err);
        if (r >= 0 && !e && n)
            e = work_batch(w, replay, rows, n, err);
        for (int i = 0; i < n; i++)
            row_deinit(&rows[i]);
        if (e)
            return e;
    }
    return r;
}

/* The task of the folder; a dropped one is in corpus.db alone. Borrows from definition. */
static bool work_task(const struct work *w, const char *id, const json_t *definition,
                      struct agon_task *ret)
{
    for (int i = 0; i < w->env->n_tasks; i++)
        if (strcmp(w->env->tasks[i].id, id) == 0) {
            *ret = w->env->tasks[i];
            return true;
        }
    *ret = (struct agon_task){
        .id = (char *)(uintptr_t)id,
        .answer_schema = json_object_get(definition, "answer_schema"),
        .verifier = (char *)(uintptr_t)agon_json_text(definition, "verifier", NULL),
    };
    return ret->answer_schema && ret->verifier;
}

static int work_rollouts(struct work *w, const char *id, const json_t *definition,
                         struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    struct agon_task task;
    if (!work_task(w, id, definition, &task))
        return agon_fail(err, AGON_EINPUT, "%s/%s: its definition is incomplete", w->id, id);
    int r = agon_query_new(&q, agon_corpus_db(w->corpus),
                           "SELECT idx, answer, verdict, end, writes, checks, transcript FROM"
                           " rollouts WHERE environment = ?1 AND task = ?2 AND status = 'scored'"
                           " AND (?3 < 0 OR idx = ?3) ORDER BY configuration, purpose, policy, idx",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, w->id);
    agon_query_text(q, 2, id);
    agon_query_int(q, 3, w->verb->o.rollout);
    struct agon_replay replay = {.rt = w->rt, .task = &task, .context = w->verb->context};
    w->out->n_tasks++;
    return work_rows(w, &replay, q, err);
}

/* The part of --task that names a task, where it names this environment or none; NULL: not ours. */
static const char *wanted_task(const struct verb *v, const char *environment)
{
    const char *slash = v->o.task ? strchr(v->o.task, '/') : NULL;
    if (!slash)
        return v->o.task;
    size_t n = (size_t)(slash - v->o.task);
    return strlen(environment) == n && !memcmp(environment, v->o.task, n) ? slash + 1 : NULL;
}

static int work_tasks(struct work *w, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(w->corpus),
                           "SELECT id, definition FROM tasks WHERE environment = ?1 AND"
                           " (?2 IS NULL OR id = ?2) ORDER BY id",
                           err);
    if (r)
        return r;
    agon_query_text(q, 1, w->id);
    agon_query_text(q, 2, wanted_task(w->verb, w->id));
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        json_auto_t *definition = NULL;
        if ((r = agon_json_parse(&definition, agon_query_get_str(q, 1), err)) ||
            (r = work_rollouts(w, agon_query_get_text(q, 0), definition, err)))
            return r;
    }
    return r;
}

static int work_open(struct work *w, struct agon_sandbox *sb, struct agon_err *err)
{
    char path[4096];
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    int r = agon_corpus_open_read(&w->corpus, w->verb->dir, err);
    if (r || (r = agon_corpus_path(w->corpus, "environments", w->id, NULL, path, err)))
        return r;
    if (access(path, F_OK))
        return 0; /* dropped: its tools are gone, and with them what could be called */
    r = agon_env_load(&w->env, path, err);
    if (r || (r = agon_runtime_open(&w->rt, sb, w->env->world_path, agon_str(w->env->tools),
                                    &reason, err)) < 0)
        return r;
    return r ? agon_fail(err, AGON_ESCRIPT, "%s: its tools do not load: %s", w->id,
                         agon_buf_text(&reason))
             : 0;
}

static int count_rollouts(struct work *w, int *ret, struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(&q, agon_corpus_db(w->corpus),
                           "SELECT count(*) FROM rollouts WHERE environment = ?1", err);
    if (r)
        return r;
    agon_query_text(q, 1, w->id);
    r = agon_query_next(q, err);
    *ret = r == AGON_ROW ? (int)agon_query_get_int(q, 0) : 0;
    return r < 0 ? r : 0;
}

static int replay_work(void *user, struct agon_sandbox *sb, int i, void **result,
                       struct agon_err *err)
{
    const struct verb *v = user;
    struct outcome *out = calloc(1, sizeof(*out));
    if (!out)
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    *result = out;
    out->lines = (struct agon_buf)AGON_BUF(LINES_BYTES_MAX);
    struct work w = {
        .verb = v, .id = json_string_value(json_array_get(v->environments, (size_t)i)), .out = out};
    int r = work_open(&w, sb, err);
    if (!r && w.env)
        r = work_tasks(&w, err);
    else if (!r)
        r = count_rollouts(&w, &out->n_skipped, err);
    if (out->n_differ > SHOWN_MAX)
        agon_buf_addf(&out->lines, "%s: %d more rollouts differ\n", w.id,
                      out->n_differ - SHOWN_MAX);
    if (out->n_skipped)
        agon_buf_addf(&out->lines, "%s: not kept, so that its %d rollouts can't be run\n", w.id,
                      out->n_skipped);
    else
        agon_buf_addf(&out->lines, "%s: %d tasks, %d rollouts, %d calls: %s\n", w.id, out->n_tasks,
                      out->n_rollouts, out->n_calls, out->n_differ ? "DIFFERS" : "same");
    agon_runtime_free(w.rt);
    agon_env_free(w.env);
    agon_corpus_close(w.corpus);
    return r;
}

static int replay_done(void *user, int i, void *result, int status, struct agon_err *err)
{
    struct verb *v = user;
    struct outcome *out = result;
    (void)i;
    (void)err;
    if (status >= 0) {
        agon_listing_block(stdout, agon_buf_text(&out->lines));
        fflush(stdout);
        v->n_rollouts += out->n_rollouts;
        v->n_calls += out->n_calls;
        v->n_differ += out->n_differ;
        v->n_skipped += out->n_skipped;
    }
    if (out)
        agon_buf_deinit(&out->lines);
    free(out);
    return status < 0 ? status : 0;
}

/* Environments with rollouts, and how the run kept its window from filling. */
static int replay_list(struct verb *v, struct agon_err *err)
{
    struct agon_corpus *c AGON_AUTO(agon_corpus_closep) = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_corpus_open_read(&c, v->dir, err);
    if (r)
        return r < 0 ? r : AGON_EINPUT;
    char *context = NULL;
    r = agon_corpus_meta(c, "config.context", &context, err);
    if (!r)
        r = agon_context_parse(&v->context, context ? context : "discard-75", err);
    free(context);
    if (r ||
        (r = agon_query_new(&q, agon_corpus_db(c),
                            "SELECT DISTINCT environment FROM rollouts ORDER BY environment", err)))
        return r;
    if (!(v->environments = json_array()))
        return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        const char *id = agon_query_get_text(q, 0);
        if (v->o.task && !wanted_task(v, id))
            continue;
        if (json_array_append_new(v->environments, json_string(id)))
            return agon_fail(err, AGON_ENOMEM, "replay: out of memory");
    }
    return r;
}

static int replay_run(struct verb *v, struct agon_err *err)
{
    int r = replay_list(v, err);
    if (r)
        return r;
    struct agon_workers w = {.n_items = (int)json_array_size(v->environments),
                             .n_jobs = (int)v->o.jobs,
                             .user = v,
                             .work = replay_work,
                             .done = replay_done};
    if ((r = agon_workers_run(&w, err)))
        return r;
    if (v->n_rollouts + v->n_skipped == 0)
        return agon_fail(err, AGON_EINPUT, "no such rollout in '%s'; agon ls %s lists tasks",
                         v->dir, v->dir);
    printf("%d rollouts, %d calls: %d differ%s", v->n_rollouts, v->n_calls, v->n_differ,
           v->n_skipped ? "" : "\n");
    if (v->n_skipped)
        printf("; %d of environments that were not kept\n", v->n_skipped);
    return 0;
}

static const char about[] =
    "Makes the calls of stored rollouts again, on fresh instances and without a model, and holds\n"
    "every result, answer and verdict against what is stored, byte for byte. The first difference\n"
    "of a rollout is named. Exit status 1 where one differs.";

int agon_verb_replay(int argc, char **argv)
{
    struct agon_err err = {0};
    struct verb v = {.o = {.rollout = -1}};
    int n, status;
    if (agon_verb_options(table, &v.o, "usage: agon replay CORPUS [OPTION]...", about, 1, 1, argc,
                          argv, &n, &status))
        return status;
    v.dir = argv[1];
    int r = replay_run(&v, &err);
    json_decref(v.environments);
    if (r)
        return agon_verb_fail("replay", &err);
    return v.n_differ ? AGON_EXIT_NO : AGON_EXIT_OK;
}
