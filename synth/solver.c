/*
 * The solver: see solver.h. A rollout waits in its slot until every rollout before it is
 * finished; so what counts does not depend on which finishes first.
 */
#include "synth/solver.h"

#include "base/json.h"
#include "synth/episode.h"
#include "synth/prompts.h"
#include "synth/submit.h"
#include "verifiers/verdict.h"

#include <stdlib.h>

enum { PROMPT_BYTES_MAX = 4 << 20, ROLLOUT_TOOLS_MAX = 64 };

/* A rollout at work. */
struct attempt {
    struct agon_solver *solver; /* borrowed */
    int index;
    struct agon_instance *in;
    struct agon_episode_tool tools[ROLLOUT_TOOLS_MAX];
    int calls; /* of the environment's tools */
    char *answer;
    struct agon_episode *episode;
    bool over;
    struct agon_rollout rollout; /* when over; until it is taken */
    struct attempt *next;        /* by index */
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
    agon_episode_free(a->episode);
    agon_instance_free(a->in);
    agon_rollout_deinit(&a->rollout);
    free(a->answer);
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
    if (json_array_size(s->tools) > ROLLOUT_TOOLS_MAX)
        return agon_fail(err, AGON_EINPUT, "%s: over %d tools", s->key, ROLLOUT_TOOLS_MAX);
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

/* ---- tools of a rollout ------------------------------------------------------ */

static int call_tool(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                     struct agon_err *err)
{
    struct attempt *a = user;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_json_dump(&text, arguments);
    int r = agon_buf_check(&text, "arguments", err);
    if (r)
        return r;
    a->calls++;
    r = agon_instance_call(a->in, name, agon_buf_str(&text), result, err);
    return r == AGON_TOOL_ERROR ? AGON_CALL_REFUSED : r;
}

/* The first answer that is JSON and fits the schema ends the rollout. */
static int call_submit(void *user, const char *name, const json_t *arguments,
                       struct agon_buf *result, struct agon_err *err)
{
    struct attempt *a = user;
    (void)name;
    return agon_submit(a->solver->o.task->answer_schema, arguments, &a->answer, result, err);
}

static void attempt_tools(struct attempt *a)
{
    const json_t *tools = a->solver->tools;
    size_t n = json_array_size(tools);
    for (size_t i = 0; i < n; i++) {
        const json_t *function = json_array_get(tools, i);
        const char *name = agon_json_text(json_object_get(function, "function"), "name", "");
        bool last = i == n - 1;
        a->tools[i] = (struct agon_episode_tool){.name = name,
                                                 .function = function,
                                                 .checks_arguments = !last,
                                                 .call = last ? call_submit : call_tool,
                                                 .user = a};
    }
}

static int attempt_new(struct attempt **ret, struct agon_solver *s, int index, struct agon_err *err)
{
    char key[512];
    struct attempt *a AGON_AUTO(attempt_freep) = calloc(1, sizeof(*a));
    if (!a)
        return agon_fail(err, AGON_ENOMEM, "rollout: out of memory");
    a->solver = s;
    a->index = index;
    attempt_tools(a);
    snprintf(key, sizeof(key), "%s/%d", s->key, index);
    struct agon_episode_options o = {
        .model = s->o.model,
        .prefix = s->prefix,
        .head = s->head,
        .tools = a->tools,
        .n_tools = (int)json_array_size(s->tools),
        .turns_max = s->o.family->solver_turns_max,
        .tries_max = 1, /* sampling again would falsify pass rates */
        .sampling = s->o.sampling,
        .rng = agon_rng_split_int(&s->o.rng, (uint64_t)index),
        .key = key,
        .context = s->o.context,
    };
    int r = agon_instance_new(&a->in, s->o.rt, err);
    if (r || (r = agon_episode_new(&a->episode, &o, err)))
        return r;
    *ret = AGON_STEAL(a);
    return 0;
}

/* ---- verdicts ---------------------------------------------------------------- */

/* Judge an answer. A verifier that no longer loads is a broken environment. */
static int judge(const struct agon_solver *s, const struct attempt *a, json_t **ret_checks,
                 bool *ret_pass, struct agon_err *err)
{
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    int r = agon_verdict(s->o.rt, s->o.task, agon_str(a->answer), agon_instance_writes(a->in), &v,
                         &reason, err);
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

/* The episode is over: what came of it? */
static int attempt_finish(struct agon_solver *s, struct attempt *a, struct agon_err *err)
{
    struct agon_rollout *out = &a->rollout;
    bool pass = false;
    out->index = a->index;
    out->verdict = "none";
    out->end = agon_episode_end_name(agon_episode_report(a->episode)->end);
    out->writes = json_deep_copy(agon_instance_writes(a->in));
    out->checks = json_array();
    if (!out->writes || !out->checks)
        return agon_fail(err, AGON_ENOMEM, "rollout: out of memory");
    if (a->answer) {
        int r = judge(s, a, &out->checks, &pass, err);
        if (r)
            return r;
        if (pass && a->calls == 0)
            out->end = "no_calls";
        out->pass = pass && a->calls > 0;
        out->verdict = out->pass ? "pass" : "fail";
        out->answer = AGON_STEAL(a->answer);
    }
    out->episode = AGON_STEAL(a->episode);
    a->over = true;
    return 0;
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
    a->answer = a->rollout.answer;
    int r = judge(s, a, &a->rollout.checks, &pass, err);
    a->answer = NULL;
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
        n += !a->over;
    return n;
}

static int solver_begin(struct agon_solver *s, int at_most, struct agon_err *err)
{
    struct attempt **end = &s->first;
    while (*end)
        end = &(*end)->next;
    if (at_most > s->o.n_parallel)
        at_most = s->o.n_parallel;
    for (int n = agon_solver_in_flight(s); n < at_most && s->next_index < solver_goal(s); n++) {
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
    for (struct attempt *a = s->first; a && !r; a = a->next) {
        if (a->over)
            continue;
        r = agon_episode_step(a->episode, err);
        if (r == AGON_EPISODE_ENDED)
            r = attempt_finish(s, a, err);
    }
    return r < 0 ? agon_err_in(err, r, "%s", s->key) : 0;
}

int agon_solver_take(struct agon_solver *s, struct agon_rollout *ret, struct agon_err *err)
{
    struct attempt *a = s->first;
    if (!a || !a->over || s->n_taken >= solver_goal(s))
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
