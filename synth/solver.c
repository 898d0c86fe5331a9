/*
 * The solver: see solver.h. A rollout waits in its slot until every rollout before it is
 * finished; so what counts does not depend on which finishes first.
 */
#include "synth/solver.h"

#include "base/json.h"
#include "synth/episode.h"
#include "synth/prompts.h"
#include "synth/submit.h"
#include "synth/trajectory.h"
#include "verifiers/verdict.h"

#include <stdlib.h>

enum { PROMPT_BYTES_MAX = 4 << 20 };

/* A rollout at work. */
struct attempt {
    struct agon_solver *solver; /* borrowed */
    int index;
    struct agon_trajectory *tries[AGON_TRAJECTORIES_MAX]; /* owned */
    int n_tries;
    struct agon_trajectory *chosen; /* when over: one of them */
    struct agon_rollout rollout;    /* when over; until it is taken */
    struct attempt *next;           /* by index */
};

struct agon_solver {
    struct agon_solver_options o;
    char *key;
    json_t *tools; /* as the model sees them, submit_result last */
    json_t *head;
    struct agon_session *prefix;
    struct attempt *first; /* begun and not yet taken, by index */
    int next_index;        /* to begin */
    int n_taken, n_passed;
};

void agon_rollout_deinit(struct agon_rollout *r)
{
    free(r->answer);
    json_decref(r->writes);
    json_decref(r->checks);
    agon_episode_free(r->episode);
    *r = (struct agon_rollout){0};
}

static void attempt_free(struct attempt *a)
{
    if (!a)
        return;
    for (int i = 0; i < a->n_tries; i++)
        agon_trajectory_free(a->tries[i]);
    agon_rollout_deinit(&a->rollout);
    free(a);
}
AGON_DEFINE_FREEP(struct attempt, attempt_free)

void agon_solver_free(struct agon_solver *s)
{
    if (!s)
        return;
    while (s->first) {
        struct attempt *a = s->first;
        s->first = a->next;
        attempt_free(a);
    }
    agon_session_free(s->prefix);
    json_decref(s->tools);
    json_decref(s->head);
    free(s->key);
    free(s);
}

/* ---- beginning --------------------------------------------------------------- */

static int solver_tools(struct agon_solver *s, struct agon_err *err)
{
    json_t *submit = (json_t *)(uintptr_t)agon_prompts_tool(s->o.prompts, "submit_result");
    s->tools = agon_runtime_tools_json(s->o.rt);
    if (!submit)
        return agon_fail(err, AGON_EINPUT, "prompts: tools.json has no tool 'submit_result'");
    if (!s->tools || json_array_append(s->tools, submit))
        return agon_fail(err, AGON_ENOMEM, "solver: out of memory");
    if (json_array_size(s->tools) > AGON_TRAJECTORY_TOOLS_MAX)
        return agon_fail(err, AGON_EINPUT, "%s: over %d tools", s->key, AGON_TRAJECTORY_TOOLS_MAX);
    return 0;
}

static int solver_head(struct agon_solver *s, struct agon_err *err)
{
    struct agon_buf system AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    struct agon_buf user AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    struct agon_buf schema AGON_AUTO(agon_buf_deinit) = AGON_BUF(PROMPT_BYTES_MAX);
    agon_json_dump(&schema, s->o.task->answer_schema);
    struct agon_slot slots[] = {
        {"prompt", agon_str(s->o.task->prompt)}, {"schema", agon_buf_str(&schema)}, {0}};
    int r = agon_buf_check(&schema, "answer schema", err);
    if (r ||
        (r = agon_prompts_fill(s->o.prompts, s->o.family->solver_system, NULL, &system, err)) ||
        (r = agon_prompts_fill(s->o.prompts, s->o.family->solver_task, slots, &user, err)))
        return r;
    s->head = json_pack("[{s:s, s:s, s:O}, {s:s, s:s}]", "role", "system", "content",
                        agon_buf_text(&system), "tools", s->tools, "role", "user", "content",
                        agon_buf_text(&user));
    return s->head ? 0 : agon_fail(err, AGON_ENOMEM, "solver: prompt is no UTF-8 text");
}

int agon_solver_new(struct agon_solver **ret, const struct agon_solver_options *o,
                    struct agon_err *err)
{
    struct agon_solver *s AGON_AUTO(agon_solver_freep) = calloc(1, sizeof(*s));
    if (!s || !(s->key = strdup(o->key)))
        return agon_fail(err, AGON_ENOMEM, "solver: out of memory");
    s->o = *o;
    s->next_index = s->n_taken = o->n_done;
    s->n_passed = o->n_passed;
    int r = solver_tools(s, err);
    if (r || (r = solver_head(s, err)))
        return agon_err_in(err, r, "%s", o->key);
    r = agon_session_new(&s->prefix, o->model, AGON_THINKING_ON, s->head, err);
    if (r && r != AGON_EINPUT) /* over the window: each rollout will say so */
        return agon_err_in(err, r, "%s", o->key);
    *ret = AGON_STEAL(s);
    return 0;
}

/* ---- a rollout --------------------------------------------------------------- */

static int solver_n_tries(const struct agon_solver *s)
{
    return s->o.context == AGON_CONTEXT_PARALLEL && s->o.n_trajectories > 1 ? s->o.n_trajectories
                                                                            : 1;
}

/* The k-th trajectory of a rollout. A rollout of one has the key and the randomness of its own. */
static int attempt_try(struct attempt *a, int k, struct agon_err *err)
{
    char key[512];
    const struct agon_solver *s = a->solver;
    bool several = solver_n_tries(s) > 1;
    struct agon_rng rng = agon_rng_split_int(&s->o.rng, (uint64_t)a->index);
    if (several)
        rng = agon_rng_split_int(&rng, (uint64_t)k);
    int n = snprintf(key, sizeof(key), "%s/%d", s->key, a->index);
    if (several)
        snprintf(key + n, sizeof(key) - (size_t)n, "/%d", k);
    struct agon_episode_options o = {
        .model = s->o.model,
        .prefix = s->prefix,
        .head = s->head,
        .turns_max = s->o.family->solver_turns_max,
        .tries_max = 1, /* sampling again would falsify pass rates */
        .sampling = s->o.sampling,
        .rng = rng,
        .key = key,
        .context = s->o.context,
        .prompts = s->o.prompts,
    };
    return agon_trajectory_new(&a->tries[k], s->o.task, s->o.rt, s->tools, &o, err);
}

static int attempt_new(struct attempt **ret, struct agon_solver *s, int index, struct agon_err *err)
{
    struct attempt *a AGON_AUTO(attempt_freep) = calloc(1, sizeof(*a));
    if (!a)
        return agon_fail(err, AGON_ENOMEM, "rollout: out of memory");
    a->solver = s;
    a->index = index;
    for (; a->n_tries < solver_n_tries(s); a->n_tries++) {
        int r = attempt_try(a, a->n_tries, err);
        if (r)
            return r;
    }
    *ret = AGON_STEAL(a);
    return 0;
}

static int attempt_in_flight(const struct attempt *a)
{
    int n = 0;
    for (int i = 0; i < a->n_tries; i++)
        n += !a->tries[i]->over;
    return n;
}

/* Does t count more than the one that counts most of those before it? */
static bool is_better(const struct agon_trajectory *t, const struct agon_trajectory *best)
{
    bool answered = t->answer && t->calls > 0, other = best->answer && best->calls > 0;
    if (answered != other)
        return answered;
    return agon_episode_report(t->episode)->turns < agon_episode_report(best->episode)->turns;
}

static struct agon_trajectory *attempt_choose(const struct attempt *a)
{
    struct agon_trajectory *best = a->tries[0];
    for (int i = 1; i < a->n_tries; i++)
        if (is_better(a->tries[i], best))
            best = a->tries[i];
    return best;
}

/* ---- verdicts ---------------------------------------------------------------- */

/* Judge an answer to the chosen trajectory's world. A verifier that no longer loads is a broken
 * environment. */
static int judge(const struct agon_solver *s, const struct attempt *a, const char *answer,
                 json_t **ret_checks, bool *ret_pass, struct agon_err *err)
{
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    int r = agon_verdict(s->o.rt, s->o.task, agon_str(answer), agon_instance_writes(a->chosen->in),
                         &v, &reason, err);
    if (r > 0)
        return agon_fail(err, AGON_ESCRIPT, "%s: its verifier does not load: %s", s->key,
                         agon_buf_text(&reason));
    if (r)
        return r;
    *ret_pass = v.pass;
    json_decref(*ret_checks);
    *ret_checks = agon_submit_checks(&v);
    return *ret_checks ? 0 : agon_fail(err, AGON_ENOMEM, "verdict: out of memory");
}

/* All trajectories are over: what came of the one that counts? */
static int attempt_finish(struct agon_solver *s, struct attempt *a, struct agon_err *err)
{
    struct agon_rollout *out = &a->rollout;
    struct agon_trajectory *t = a->chosen = attempt_choose(a);
    bool pass = false;
    out->index = a->index;
    out->verdict = "none";
    out->end = agon_episode_end_name(agon_episode_report(t->episode)->end);
    out->writes = json_deep_copy(agon_instance_writes(t->in));
    out->checks = json_array();
    if (!out->writes || !out->checks)
        return agon_fail(err, AGON_ENOMEM, "rollout: out of memory");
    for (int i = 0; i < a->n_tries; i++)
        out->tokens += agon_episode_report(a->tries[i]->episode)->tokens;
    if (t->answer) {
        int r = judge(s, a, t->answer, &out->checks, &pass, err);
        if (r)
            return r;
        if (pass && t->calls == 0)
            out->end = "no_calls";
        out->pass = pass && t->calls > 0;
        out->verdict = out->pass ? "pass" : "fail";
        out->answer = AGON_STEAL(t->answer);
    }
    out->episode = AGON_STEAL(t->episode);
    return 0;
}

/* Move its trajectories on; when the last of them has ended, so has the rollout. */
static int attempt_step(struct agon_solver *s, struct attempt *a, struct agon_err *err)
{
    int r = 0;
    for (int i = 0; i < a->n_tries && !r; i++)
        r = agon_trajectory_step(a->tries[i], err);
    return r || attempt_in_flight(a) > 0 ? r : attempt_finish(s, a, err);
}

/* Say of each check of a trace which cell gave it. */
static int mark_cell(json_t *checks, int cell)
{
    size_t i;
    json_t *check;
    int r = 0;
    json_array_foreach(checks, i, check) r |=
        json_object_set_new(check, "cell", json_integer(cell));
    return r;
}

/* The pass that keeps a task counts when a second, fresh cell gives the same. */
static int confirm(struct agon_solver *s, struct attempt *a, struct agon_err *err)
{
    bool pass = false;
    json_auto_t *first = json_incref(a->rollout.checks);
    agon_runtime_renew(s->o.rt);
    int r = judge(s, a, a->rollout.answer, &a->rollout.checks, &pass, err);
    if (!r && !pass) { /* both traces are kept: the first, then the second */
        if (mark_cell(first, 1) || mark_cell(a->rollout.checks, 2) ||
            json_array_extend(first, a->rollout.checks))
            return agon_fail(err, AGON_ENOMEM, "rollout: out of memory");
        json_decref(a->rollout.checks);
        a->rollout.checks = json_incref(first);
        a->rollout.pass = false;
        a->rollout.verdict = "none";
        a->rollout.end = AGON_ROLLOUT_DISPUTED;
    }
    return r;
}

/* ---- going on ---------------------------------------------------------------- */

/* How many rollouts count, as far as those taken tell. */
static int solver_goal(const struct agon_solver *s)
{
    if (s->o.estimate || (s->n_taken >= s->o.n_first && s->n_passed == 0))
        return s->o.n_max;
    if (s->n_taken < s->o.n_first)
        return s->o.n_first;
    return s->n_taken;
}

int agon_solver_in_flight(const struct agon_solver *s)
{
    int n = 0;
    for (const struct attempt *a = s->first; a; a = a->next)
        n += attempt_in_flight(a);
    return n;
}

static int solver_begin(struct agon_solver *s, int at_most, struct agon_err *err)
{
    struct attempt **end = &s->first;
    while (*end)
        end = &(*end)->next;
    if (at_most > s->o.n_parallel)
        at_most = s->o.n_parallel;
    int n = agon_solver_in_flight(s), more = solver_n_tries(s);
    for (; n < at_most && (n == 0 || n + more <= at_most) && s->next_index < solver_goal(s);
         n += more) {
        int r = attempt_new(end, s, s->next_index, err);
        if (r)
            return r;
        s->next_index++;
        end = &(*end)->next;
    }
    return 0;
}

int agon_solver_step(struct agon_solver *s, int at_most, struct agon_err *err)
{
    if (s->n_taken >= solver_goal(s))
        return AGON_SOLVER_OVER;
    int r = solver_begin(s, at_most, err);
    for (struct attempt *a = s->first; a && !r; a = a->next)
        r = a->chosen ? 0 : attempt_step(s, a, err);
    return r < 0 ? agon_err_in(err, r, "%s", s->key) : 0;
}

int agon_solver_take(struct agon_solver *s, struct agon_rollout *ret, struct agon_err *err)
{
    struct attempt *a = s->first;
    if (!a || !a->chosen || s->n_taken >= solver_goal(s))
        return 0;
    if (a->rollout.pass && s->n_passed == 0) {
        int r = confirm(s, a, err);
        if (r)
            return agon_err_in(err, r, "%s/%d", s->key, a->index);
    }
    s->first = a->next;
    *ret = a->rollout;
    a->rollout = (struct agon_rollout){0};
    attempt_free(a);
    s->n_taken++;
    s->n_passed += ret->pass;
    return 1;
}
