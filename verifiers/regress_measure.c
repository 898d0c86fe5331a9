/* What a baseline keeps of an environment: see regress_baseline.h for its form. */
#include "base/json.h"
#include "base/sha256.h"
#include "envs/state.h"
#include "verifiers/regress_internal.h"

#include <stdio.h>

enum { DIGEST_DIGITS = 16 };

static json_t *digest_of(struct agon_str text)
{
    char hex[AGON_SHA256_HEX];
    agon_sha256_of(text, hex);
    return json_stringn(hex, DIGEST_DIGITS);
}

static json_t *digest_json(const json_t *const *values, int n)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_TEXT_MAX);
    for (int i = 0; i < n; i++) {
        if (values[i])
            agon_json_dump(&text, values[i]);
        agon_buf_addc(&text, '\n');
    }
    return text.failed ? NULL : digest_of(agon_buf_str(&text));
}

int regress_measure_env(struct regress *g, struct agon_err *err)
{
    char hex[AGON_STATE_HEX];
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_REASON_MAX);
    int r = agon_state_hash(g->rt, NULL, hex, &reason, err);
    if (r > 0)
        return agon_fail(err, AGON_EINPUT, "%s: %s", g->env->id, agon_buf_text(&reason));
    if (r)
        return r;
    json_t *line = json_pack("{s:s, s:s, s:o}", "environment", g->env->id, "world", hex, "tools",
                             digest_of(agon_str(g->env->tools)));
    return json_array_append_new(g->report->measured, line) ? regress_no_memory(err) : 0;
}

static json_t *measure_files(const struct agon_task *task)
{
    const json_t *answers[] = {task->golden, task->negatives};
    const json_t *shape[] = {task->answer_schema, task->effects};
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "task.json", digest_json(shape, 2), "prompt.md",
                     digest_of(agon_str(task->prompt)), "solution.lua",
                     digest_of(agon_str(task->solution)), "verifier.lua",
                     digest_of(agon_str(task->verifier)), "answers.jsonl", digest_json(answers, 2));
}

static json_t *measure_usage(const struct agon_usage *u)
{
    return json_pack("{s:I, s:I}", "fuel", (json_int_t)u->fuel, "ops", (json_int_t)u->ops);
}

/* The names of what fails a brief. */
static json_t *measure_failed(const struct agon_brief *b, const struct agon_verdict *checks)
{
    json_t *names = json_array();
    int bad = !names;
    for (int i = 0; i < checks->n_checks; i++)
        if (b->failed >> i & 1)
            bad |= json_array_append_new(names, json_string(checks->checks[i].name));
    if (b->schema)
        bad |= json_array_append_new(names, json_string("(schema)"));
    if (b->replay)
        bad |= json_array_append_new(names, json_string("(writes)"));
    if (b->unclaimed)
        bad |= json_array_append_new(names, json_string("(changes)"));
    if (bad)
        json_decref(names);
    return bad ? NULL : names;
}

int regress_measure_task(struct regress *g, const struct agon_task *task,
                         const struct agon_trial *t, struct agon_err *err)
{
    json_t *names = json_array(), *negatives = json_array();
    json_t *solution = measure_usage(&t->run.usage);
    int bad = !names || !negatives || !solution;
    for (int i = 0; i < t->own.n_checks && !bad; i++)
        bad = json_array_append_new(names, json_string(t->own.checks[i].name));
    for (int i = 1; i < t->n_briefs && !bad; i++)
        bad = json_array_append_new(negatives, measure_failed(&t->briefs[i], &t->own));
    if (!bad)
        bad = json_object_set_new(solution, "calls",
                                  json_integer((json_int_t)json_array_size(t->run.calls)));
    json_t *line =
        json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "environment", g->env->id, "task",
                  task->id, "files", measure_files(task), "checks", names, "golden",
                  measure_usage(&t->briefs[0].usage), "solution", solution, "negatives", negatives);
    if (bad || !line || json_array_append_new(g->report->measured, line))
        return regress_no_memory(err);
    return 0;
}
