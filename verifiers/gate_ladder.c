/*
 * Gate 10: a level is harder than the one below by evidence: one more check that
 * bites, or more necessary calls. A call is necessary when a result that the same call
 * gives in another of gate 8's worlds, put in the place of its own, makes the answer fail.
 * (The rule after rollouts is agon_fisher_easier().)
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"

#include <string.h>

enum { CALLS_MAX = 64, WORLDS_MAX = 8 }; /* calls beyond are not tried and count as not necessary */

/* A solution in its worlds. */
struct ladder_side {
    const struct agon_task *task;
    const struct agon_solved *run;
    json_t *calls;  /* distinct calls, borrowed */
    json_t *worlds; /* for each world the calls' results, borrowed */
    int n_necessary;
};

/* The result that the call gave in the golden run (the first time), or NULL where it was an error.
 */
static json_t *result_of(const json_t *calls, const json_t *call)
{
    size_t i;
    json_t *one;
    json_array_foreach(
        calls, i,
        one) if (json_equal(json_object_get(one, "tool"), json_object_get(call, "tool")) &&
                 json_equal(json_object_get(one, "arguments"),
                            json_object_get(call, "arguments"))) return json_object_get(one,
                                                                                        "result");
    return NULL;
}

static bool tool_writes(const struct agon_runtime *rt, const char *name)
{
    for (int i = 0; i < agon_runtime_n_tools(rt); i++)
        if (!strcmp(agon_runtime_tool(rt, i)->name, name))
            return agon_runtime_tool(rt, i)->writes;
    return false;
}

/* Does the answer fail with this result in the place of the call's own? */
static int call_matters(struct gate_run *g, const struct ladder_side *side, json_t *call,
                        json_t *result, bool *ret, struct agon_err *err)
{
    json_auto_t *overrides =
        json_pack("[{s:O, s:O, s:O}]", "tool", json_object_get(call, "tool"), "arguments",
                  json_object_get(call, "arguments"), "result", result);
    if (!overrides)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    struct agon_trial_input input = {
        .answer_schema = side->task->answer_schema,
        .verifier = agon_str(side->task->verifier),
        .solution = agon_str(side->task->solution),
        .overrides = overrides,
    };
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    int r = gate_trial(g, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "it does not load: %s", agon_buf_text(&reason));
    *ret = !r && !(t.solved && t.own.pass);
    return r;
}

static int ladder_count(struct gate_run *g, struct ladder_side *side, struct agon_err *err)
{
    size_t n_calls = json_array_size(side->calls), n_worlds = json_array_size(side->worlds);
    int r = 0;
    for (size_t i = 0; i < n_calls && i < CALLS_MAX; i++) {
        json_t *call = json_array_get(side->calls, i), *own = result_of(side->run->calls, call);
        /* A writing call that is not executed matters by what it does not write, whatever it says.
         */
        bool matters = false, writes = tool_writes(g->in->rt, agon_json_text(call, "tool", ""));
        for (size_t w = 0; w < n_worlds && !matters && !r; w++) {
            json_t *result =
                json_object_get(json_array_get(json_array_get(side->worlds, w), i), "result");
            if (result && (writes || !own || !json_equal(result, own)))
                r = call_matters(g, side, call, result, &matters, err);
        }
        if (r)
            return r;
        side->n_necessary += matters;
    }
    return 0;
}

/* The level below with today's toolset: its golden run, then its calls in worlds of its own
 * columns. */
static int below_count(struct gate_run *g, int *ret, struct agon_err *err)
{
    const struct agon_task *below = g->in->below;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_trial golden AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_trial_input input = {.answer_schema = below->answer_schema,
                                     .verifier = agon_str(below->verifier),
                                     .solution = agon_str(below->solution)};
    int r = gate_trial(g, &input, &golden, &reason, err);
    if (r == AGON_REJECTED || (!r && !(golden.solved && golden.own.pass)))
        return gate_refuse(g, "the level below no longer passes with these tools: %s",
                           r                 ? agon_buf_text(&reason)
                           : golden.unsolved ? golden.unsolved
                                             : "a check fails");
    json_auto_t *calls = r ? NULL : gate_distinct_calls(golden.run.calls);
    json_auto_t *worlds = json_array();
    for (int draw = 0; draw < WORLDS_MAX && !r; draw++) {
        struct agon_perturb perturb = {g->perturb_seed, draw, golden.run.columns};
        struct agon_trial_input probe = {.perturb = &perturb, .probes = calls};
        struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
        r = gate_trial(g, &probe, &t, &reason, err);
        if (!r)
            json_array_append(worlds, t.probes);
    }
    struct ladder_side side = {below, &golden.run, calls, worlds, 0};
    if (!r)
        r = ladder_count(g, &side, err);
    *ret = side.n_necessary;
    return r;
}

int gate_ladder(struct gate_run *g, struct agon_err *err)
{
    struct ladder_side side = {g->in->task, &g->golden.run, g->probes, g->worlds, 0};
    int r = ladder_count(g, &side, err);
    if (r)
        return r;
    json_object_set_new(g->report->evidence, "calls",
                        json_integer((json_int_t)json_array_size(g->probes)));
    json_object_set_new(g->report->evidence, "necessary_calls", json_integer(side.n_necessary));
    if (!g->in->below)
        return 0;

    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_verdict below AGON_AUTO(agon_verdict_deinit) = {0};
    r = agon_verdict_checks(g->in->rt, agon_str(g->in->below->verifier), &below, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "the verifier of the level below does not load: %s",
                           agon_buf_text(&reason));
    /* All checks of an accepted level bite, and so do all of this one (gate 5). */
    if (r || g->checks.n_checks > below.n_checks)
        return r;
    int below_necessary = 0;
    if ((r = below_count(g, &below_necessary, err)) || side.n_necessary > below_necessary)
        return r;
    return gate_refuse(g,
                       "this level has %d checks that bite and %d necessary calls, the level below "
                       "%d and %d; ask for one more "
                       "thing, or for something that takes more calls to find",
                       g->checks.n_checks, side.n_necessary, below.n_checks, below_necessary);
}
