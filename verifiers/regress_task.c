/*
 * Regression over the tasks of an environment: golden answer, solution and negatives of one go to
 * the cell in one request; only a golden answer that fails is asked about again. While the driver
 * looks at what came of one task, the cell has the next.
 */
#include "base/arena.h"
#include "base/json.h"
#include "verifiers/regress_baseline.h"
#include "verifiers/regress_diff.h"
#include "verifiers/regress_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum { NEGATIVES_MAX = 200, SAID_MAX = 3, SENTENCE_BYTES = 200, EXCERPT_BYTES_MAX = 4000 };

/* ---- a task at the cell ---- */

struct regress_turn {
    const struct agon_task *task; /* borrowed; NULL: none is left */
    struct agon_trial_item items[NEGATIVES_MAX + 1];
    int n_items;
    struct agon_trial_input input;
    struct agon_buf texts, request, reason;
    struct agon_trial trial;
    bool sent;    /* and not yet answered */
    bool gave_up; /* it ended three cells */
    int status;   /* as agon_trial(); 0 until then */
    struct agon_err err;
};

static void turn_deinit(struct regress_turn *t)
{
    agon_trial_deinit(&t->trial);
    agon_buf_deinit(&t->texts);
    agon_buf_deinit(&t->request);
    agon_buf_deinit(&t->reason);
}

/* The golden answer and the negatives as items; texts are kept in `texts`, which must not grow
 * later. */
static void turn_items(struct regress_turn *t)
{
    size_t n = json_array_size(t->task->negatives) + 1, offsets[NEGATIVES_MAX + 2];
    if (n > NEGATIVES_MAX + 1)
        n = NEGATIVES_MAX + 1;
    for (size_t i = 0; i < n; i++) {
        const json_t *one = i ? json_array_get(t->task->negatives, i - 1) : t->task->golden;
        offsets[i] = t->texts.size;
        agon_json_dump(&t->texts, json_object_get(one, "answer"));
        t->items[i].writes = json_object_get(one, "writes");
    }
    offsets[n] = t->texts.size;
    for (size_t i = 0; i < n; i++)
        t->items[i].answer =
            (struct agon_str){t->texts.data + offsets[i], offsets[i + 1] - offsets[i]};
    t->n_items = (int)n;
}

/* Send the task at this index, if there is one and there is something to judge. */
static void turn_begin(struct regress *g, struct regress_turn *t, int index)
{
    *t = (struct regress_turn){.task = index < g->env->n_tasks ? &g->env->tasks[index] : NULL,
                               .texts = AGON_BUF(REGRESS_TEXT_MAX),
                               .request = AGON_BUF(REGRESS_TEXT_MAX),
                               .reason = AGON_BUF(REGRESS_REASON_MAX)};
    if (!t->task || !t->task->golden)
        return;
    turn_items(t);
    t->input = (struct agon_trial_input){.answer_schema = t->task->answer_schema,
                                         .verifier = agon_str(t->task->verifier),
                                         .solution = agon_str(t->task->solution),
                                         .items = t->items,
                                         .n_items = t->n_items};
    if ((t->status = agon_buf_check(&t->texts, "answers.jsonl", &t->err)) ||
        t->input.verifier.size == 0)
        return;
    t->status = agon_trial_begin(g->rt, &t->input, &t->request, &t->err);
    t->gave_up = t->status && agon_runtime_gave_up(g->rt);
    t->sent = !t->status;
}

/* Wait for its answer, so that the cell is free. */
static void turn_settle(struct regress *g, struct regress_turn *t)
{
    if (!t || !t->sent)
        return;
    t->sent = false;
    t->status = agon_trial_end(g->rt, &t->input, &t->request, &t->trial, &t->reason, &t->err);
    t->gave_up = t->status && agon_runtime_gave_up(g->rt);
}

/* ---- sentences ---- */

/* What a full verdict says against an answer: at most three checks, with their words. */
static void add_verdict(struct agon_buf *out, const struct agon_verdict *v)
{
    int n_failed = 0;
    if (v->schema || v->replay) {
        agon_buf_adds(out, v->schema ? v->schema : v->replay);
        return;
    }
    for (int i = 0; i < v->n_checks; i++) {
        const struct agon_check_result *c = &v->checks[i];
        if (c->end == AGON_CHECK_PASS || n_failed++ >= SAID_MAX)
            continue;
        agon_buf_addf(out, "%scheck '%s' %s: \"", n_failed > 1 ? "; " : "", c->name,
                      c->reason ? "raises an error" : "fails");
        agon_text_add_plain(out, agon_utf8_cut(agon_str(c->text), SENTENCE_BYTES), false);
        agon_buf_addc(out, '"');
        if (c->reason)
            agon_buf_addf(out, " (%s)", c->reason);
    }
    if (n_failed > SAID_MAX)
        agon_buf_addf(out, "; and %d more", n_failed - SAID_MAX);
    if (v->unclaimed)
        agon_buf_addf(out, "%sno check claims this change: %s", n_failed ? "; " : "", v->unclaimed);
}

/* The names of what a brief fails on. */
static void add_brief(struct agon_buf *out, const struct agon_brief *b,
                      const struct agon_verdict *checks)
{
    if (b->schema || b->replay) {
        agon_buf_adds(out, b->schema ? "it does not fit the answer schema"
                                     : "a writing call does not succeed");
        return;
    }
    for (int i = 0, n = 0; i < checks->n_checks; i++)
        if (b->failed >> i & 1)
            agon_buf_addf(out, "%s%s", n++ ? ", " : "", checks->checks[i].name);
    if (b->unclaimed)
        agon_buf_addf(out, "%sa change that no check claims", b->failed ? ", " : "");
    if (b->pass)
        agon_buf_adds(out, "nothing: it passes");
}

/* ---- golden answer and solution ---- */

/* expected and got of the first difference, as a failed case; a passed one where there is none. */
static bool compare(struct regress *g, const struct agon_task *task, const char *name,
                    const char *whole, const char *message, const json_t *expected,
                    const json_t *got)
{
    struct agon_buf path AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    struct agon_buf want AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    struct agon_buf have AGON_AUTO(agon_buf_deinit) = AGON_BUF(EXCERPT_BYTES_MAX);
    agon_buf_adds(&path, whole);
    if (!agon_regress_diff(expected, got, &path, &want, &have))
        return agon_regress_pass(g->report, task->id, name);
    return agon_regress_fail(g->report, task->id, name, agon_buf_text(&want), agon_buf_text(&have),
                             "%s: %s differs", message, agon_buf_text(&path));
}

static bool regress_solution(struct regress *g, const struct agon_task *task,
                             const struct agon_trial *t)
{
    if (!t->solved)
        return agon_regress_fail(g->report, task->id, "solution", NULL, NULL,
                                 "the solution gives no answer: %s",
                                 t->unsolved ? t->unsolved : "it returned nil");
    const json_t *writes = json_object_get(task->golden, "writes");
    json_auto_t *none = json_array();
    return compare(g, task, "solution", "answer",
                   "the solution gives another answer than the golden one",
                   json_object_get(task->golden, "answer"), t->run.answer) &&
           compare(g, task, "solution's writes", "writes",
                   "the solution writes other things than the golden answer states",
                   writes ? writes : none, t->run.writes);
}

static int regress_golden(struct regress *g, const struct agon_task *task,
                          const struct agon_trial_item *item, const struct agon_brief *golden,
                          struct agon_err *err)
{
    if (golden->pass)
        return agon_regress_pass(g->report, task->id, "golden") ? 0 : regress_no_memory(err);
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf why AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_TEXT_MAX);
    turn_settle(g, g->ahead);
    int r = agon_verdict(g->rt, task, item->answer, item->writes, &v, &why, err);
    if (r < 0)
        return r;
    if (r == 0)
        add_verdict(&why, &v);
    return agon_regress_fail(g->report, task->id, "golden", NULL, NULL,
                             "the golden answer does not pass: %s", agon_buf_text(&why))
               ? 0
               : regress_no_memory(err);
}

/* ---- negatives ---- */

static int check_index(const struct agon_verdict *v, const char *name)
{
    for (int i = 0; i < v->n_checks; i++)
        if (!strcmp(v->checks[i].name, name))
            return i;
    return -1;
}

static bool regress_negative(struct regress *g, const struct agon_task *task, size_t i,
                             const struct agon_brief *b, const struct agon_verdict *checks)
{
    char name[32];
    struct agon_buf got AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_TEXT_MAX);
    const char *fails = agon_json_text(json_array_get(task->negatives, i), "fails", NULL);
    int check = fails ? check_index(checks, fails) : -1;
    g->report->n_negatives++;
    snprintf(name, sizeof(name), "negative %zu", i + 1);
    add_brief(&got, b, checks);
    if (b->pass)
        return agon_regress_fail(g->report, task->id, name, fails, agon_buf_text(&got),
                                 "negative %zu passes, it should fail check '%s'", i + 1,
                                 fails ? fails : "any");
    if (fails && check < 0)
        return agon_regress_fail(g->report, task->id, name, NULL, NULL,
                                 "negative %zu names check '%s', which the verifier does not have",
                                 i + 1, fails);
    if (fails && !(b->failed >> check & 1))
        return agon_regress_fail(g->report, task->id, name, fails, agon_buf_text(&got),
                                 "negative %zu does not fail check '%s'", i + 1, fails);
    return agon_regress_pass(g->report, task->id, name);
}

/* ---- limits ---- */

static bool share_case(struct regress *g, const struct agon_task *task, const char *run,
                       const struct agon_usage *usage)
{
    char want[64], have[64];
    int most = g->options->share_max ? g->options->share_max : 1000;
    if (usage->share > g->report->share_most) {
        g->report->share_most = usage->share;
        g->report->share_task = agon_arena_strdup(g->report->arena, agon_str(task->id));
    }
    if (usage->share <= most)
        return !g->report->share_most || g->report->share_task;
    snprintf(want, sizeof(want), "at most %d.%d%% of a limit", most / 10, most % 10);
    snprintf(have, sizeof(have), "%d.%d%%", usage->share / 10, usage->share % 10);
    return agon_regress_fail(g->report, task->id, "budget", want, have,
                             "the %s comes near to a limit of fuel or SQL operations (%lld fuel, "
                             "%lld operations)",
                             run, (long long)usage->fuel, (long long)usage->ops);
}

static bool regress_budget(struct regress *g, const struct agon_task *task,
                           const struct agon_trial *t)
{
    int failures = g->report->n_failures;
    if (!share_case(g, task, "golden verdict", &t->briefs[0].usage) ||
        !share_case(g, task, "solution", &t->run.usage))
        return false;
    return g->report->n_failures > failures || agon_regress_pass(g->report, task->id, "budget");
}

/* ---- a task ---- */

/* 1 where the trial could not be held and that was noted. */
static int regress_held(struct regress *g, const struct regress_turn *t, struct agon_err *err)
{
    const char *why = NULL;
    if (t->status == 0 && t->input.verifier.size == 0)
        why = "verifier.lua is empty";
    else if (t->status == AGON_REJECTED)
        why = agon_buf_text(&t->reason);
    else if (t->status == AGON_ESYS && t->gave_up)
        why = "the process that runs it ended, in three fresh ones";
    if (!why && t->status) {
        agon_err_set(err, t->err.code, t->err.file, t->err.line, "%s", t->err.text);
        return agon_err_in(err, t->status, "%s/%s", g->env->id, t->task->id);
    }
    if (!why)
        return 0;
    return agon_regress_fail(g->report, t->task->id, "loads", NULL, NULL, "it can't be judged: %s",
                             why)
               ? 1
               : regress_no_memory(err);
}

/* Names of the checks: the trial has them where the solution was judged. */
static int regress_checks(struct regress *g, const struct agon_task *task, struct agon_trial *t,
                          struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REGRESS_REASON_MAX);
    if (t->own.n_checks)
        return 0;
    agon_verdict_deinit(&t->own);
    turn_settle(g, g->ahead);
    int r = agon_verdict_checks(g->rt, agon_str(task->verifier), &t->own, &reason, err);
    return r > 0 ? agon_fail(err, AGON_ESCRIPT, "%s/%s: %s", g->env->id, task->id,
                             agon_buf_text(&reason))
                 : r;
}

static int regress_baseline(struct regress *g, const struct agon_task *task,
                            const struct agon_trial *t, struct agon_err *err)
{
    if (!g->report->measured)
        return 0;
    int r = regress_measure_task(g, task, t, err);
    if (r || !g->baseline)
        return r;
    size_t last = json_array_size(g->report->measured) - 1;
    return agon_baseline_compare_task(
        g->report, task->id, json_object_get(json_object_get(g->baseline, "tasks"), task->id),
        json_array_get(g->report->measured, last), g->options->slack_percent, err);
}

/* What came of it. */
static int regress_task(struct regress *g, struct regress_turn *turn, struct agon_err *err)
{
    const struct agon_task *task = turn->task;
    struct agon_trial *t = &turn->trial;
    g->report->n_tasks++;
    if (!task->golden)
        return agon_regress_fail(g->report, task->id, "golden", NULL, NULL,
                                 "there is no golden answer in answers.jsonl")
                   ? 0
                   : regress_no_memory(err);
    int r = regress_held(g, turn, err);
    if (r)
        return r < 0 ? r : 0;
    if ((r = regress_checks(g, task, t, err)) ||
        (r = regress_golden(g, task, &turn->items[0], &t->briefs[0], err)))
        return r;
    bool ok = regress_solution(g, task, t);
    for (int i = 1; i < turn->n_items && ok; i++)
        ok = regress_negative(g, task, (size_t)i - 1, &t->briefs[i], &t->own);
    ok = ok && regress_budget(g, task, t);
    return ok ? regress_baseline(g, task, t, err) : regress_no_memory(err);
}

int regress_all(struct regress *g, struct agon_err *err)
{
    struct regress_turn turns[2];
    int r = 0, i = 0;
    turn_begin(g, &turns[0], 0);
    for (; i < g->env->n_tasks && !r; i++) {
        struct regress_turn *now = &turns[i % 2];
        g->ahead = &turns[(i + 1) % 2];
        turn_settle(g, now);
        turn_begin(g, g->ahead, i + 1);
        r = regress_task(g, now, err);
        turn_deinit(now);
    }
    g->ahead = NULL;
    turn_settle(g, &turns[i % 2]);
    turn_deinit(&turns[i % 2]);
    return r;
}
