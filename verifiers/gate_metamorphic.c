/*
 * Gate 8: the same task in worlds whose values are dealt anew. A solution that works
 * still passes there; one that recites its answer does not, and a verifier that
 * recites it accepts the old answer everywhere.
 *
 * Eight worlds decide most tasks. What shows in one of ten (a verifier that breaks ties
 * otherwise than the solution, an answer that hardly ever changes) they would find
 * under one seed and not under another; so where one world alone gave another answer,
 * and where worlds are cheap, more are asked, up to 32.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"

#include <string.h>

enum {
    COUNTED_WORLDS = 8,
    WORLDS_MAX = 32,
    DRAWS_MAX = 64,
    DIFFERENT_MIN = 2,
    COST_MAX = 1000000 /* fuel and operations of SQLite after which no more worlds are cheap */
};

struct worlds {
    int n_draws, n_counted, n_different, n_rejected;
    int64_t cost;
    struct agon_buf last_failure; /* why the last draw did not count */
};

json_t *gate_distinct_calls(const json_t *calls)
{
    json_t *distinct = json_array();
    json_auto_t *seen = json_object();
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        json_t *one = json_pack("{s:O, s:O}", "tool", json_object_get(call, "tool"), "arguments",
                                json_object_get(call, "arguments"));
        struct agon_buf key = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        agon_json_dump_sorted(&key, one);
        if (one && !json_object_get(seen, agon_buf_text(&key))) {
            json_object_set_new(seen, agon_buf_text(&key), json_true());
            json_array_append(distinct, one);
        }
        agon_buf_deinit(&key);
        json_decref(one);
    }
    return distinct;
}

/* The columns that were dealt anew, for the author. */
static void worlds_name_columns(const struct gate_run *g, struct agon_buf *b)
{
    size_t i, n = json_array_size(g->golden.run.columns);
    for (i = 0; i < n && i < 4; i++)
        agon_buf_addf(b, "%s%s", i ? ", " : "",
                      json_string_value(json_array_get(g->golden.run.columns, i)));
    if (n > 4)
        agon_buf_addf(b, " and %zu more", n - 4);
}

/* What a world in which the solution found an answer says. */
static int worlds_count(struct gate_run *g, struct worlds *w, int draw, struct agon_trial *t,
                        struct agon_err *err)
{
    w->n_counted++;
    if (!t->own.pass) {
        struct agon_buf why AGON_AUTO(agon_buf_deinit) = AGON_BUF(2000);
        struct agon_buf columns AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        gate_explain(&t->own, &why);
        worlds_name_columns(g, &columns);
        agon_json_dump(&answer, t->run.answer);
        gate_example(&example, agon_buf_str(&answer));
        return gate_refuse(g,
                           "with the values of %s dealt anew (draw %d) the solution answers %s and "
                           "does not pass: %s; solution "
                           "and verifier must follow the world",
                           agon_buf_text(&columns), draw, agon_buf_text(&example),
                           agon_buf_text(&why));
    }
    bool same = json_equal(t->run.answer, g->golden.run.answer) &&
                json_equal(t->run.writes, g->golden.run.writes);
    w->n_different += !same;
    w->n_rejected += !t->briefs[0].pass;
    const struct agon_usage *run = &t->run.usage, *checks = &t->briefs[0].usage;
    w->cost += run->fuel + run->ops + checks->fuel + checks->ops;
    if (w->n_counted <= COUNTED_WORLDS && json_array_append(g->worlds, t->probes))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    return 0;
}

static int worlds_draw(struct gate_run *g, struct worlds *w, int draw, struct agon_err *err)
{
    const struct agon_task *task = g->in->task;
    struct agon_perturb perturb = {g->perturb_seed, draw, g->golden.run.columns};
    struct agon_trial_item old = {agon_buf_str(&g->golden_text), g->golden.run.writes};
    struct agon_trial_input input = {
        .perturb = &perturb,
        .answer_schema = task->answer_schema,
        .verifier = agon_str(task->verifier),
        .solution = agon_str(task->solution),
        .probes = g->probes,
        .items = &old,
        .n_items = 1,
    };
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    int r = gate_trial(g, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "draw %d does not load: %s", draw, agon_buf_text(&reason));
    w->n_draws++;
    if (r || t.solved)
        return r ? r : worlds_count(g, w, draw, &t, err);
    agon_buf_reset(&w->last_failure);
    agon_buf_adds(&w->last_failure, t.unsolved ? t.unsolved : "it returned nil");
    return 0;
}

static bool worlds_enough(const struct worlds *w)
{
    if (w->n_counted < COUNTED_WORLDS)
        return false;
    if (w->n_counted >= WORLDS_MAX || w->n_different == 0 || w->n_rejected == 0)
        return true; /* it recites: no world would show otherwise */
    return w->n_different >= DIFFERENT_MIN && w->cost >= COST_MAX;
}

static int worlds_judge(struct gate_run *g, const struct worlds *w)
{
    if (w->n_counted < COUNTED_WORLDS)
        return gate_refuse(g,
                           "with other values in the world the solution finds an answer in %d of "
                           "%d worlds, %d are needed; in "
                           "the last one: %s",
                           w->n_counted, w->n_draws, COUNTED_WORLDS,
                           agon_buf_text(&w->last_failure));
    if (w->n_different < DIFFERENT_MIN)
        return gate_refuse(g,
                           "the solution gives the same answer in %d of %d worlds with other "
                           "values: it is written into the "
                           "solution, or does not depend on what it reads",
                           w->n_counted - w->n_different, w->n_counted);
    if (w->n_rejected == 0)
        return gate_refuse(g,
                           "the verifier accepts the old answer in all of %d worlds with other "
                           "values: its checks do not look "
                           "at the world",
                           w->n_counted);
    return 0;
}

int gate_metamorphic(struct gate_run *g, struct agon_err *err)
{
    struct worlds w = {.last_failure = AGON_BUF(2000)};
    int r = 0;
    if (!json_array_size(g->golden.run.columns))
        return gate_refuse(g, "the solution reads no column of the world");
    if (!(g->probes = gate_distinct_calls(g->golden.run.calls)))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    for (int draw = 0; draw < DRAWS_MAX && !worlds_enough(&w) && !r; draw++)
        r = worlds_draw(g, &w, draw, err);
    json_object_set_new(g->report->evidence, "worlds", json_integer(w.n_counted));
    json_object_set_new(g->report->evidence, "draws", json_integer(w.n_draws));
    if (!r)
        r = worlds_judge(g, &w);
    agon_buf_deinit(&w.last_failure);
    return r;
}
