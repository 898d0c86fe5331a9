/* One task's card: the gates with every answer seen, then what only an audit asks. */
#include "base/json.h"
#include "verifiers/audit_internal.h"
#include "verifiers/passk.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    FINDING_BYTES_MAX = 2000,
    KEPT_ANSWERS_MAX = 6000, /* that are judged again elsewhere */
    KEPT_GUESSES_MAX = 2000,
    GOLDEN_RUNS = 100,
    RUNS_A_CELL = 25,
    SMALL_CACHE_KIB = 16,
    SHARE_REFUSED = 900, /* of a limit, in thousandths */
    SHARE_NOTED = 500,
};

void audit_find(struct audit_task *t, const char *kind, bool refused, const char *fmt, ...)
{
    char what[FINDING_BYTES_MAX];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(what, sizeof(what), fmt, ap); /* a longer one is cut */
    va_end(ap);
    struct agon_buf clean AGON_AUTO(agon_buf_deinit) = AGON_BUF(4 * FINDING_BYTES_MAX);
    json_t *text = json_string(what);
    if (!text) { /* cut inside a character, or no UTF-8 */
        json_auto_t *parsed = NULL;
        agon_json_dump_string(&clean, agon_str(what));
        text = agon_json_parse(&parsed, agon_buf_str(&clean), NULL) ? json_string("(no UTF-8)")
                                                                    : json_incref(parsed);
    }
    json_array_append_new(
        json_object_get(t->card, "findings"),
        json_pack("{s:s, s:b, s:o}", "kind", kind, "refused", refused, "what", text));
}

/* ---- what the gates judge ---- */

static bool is_dropped(const struct agon_gate_judged *j)
{
    return !strcmp(j->what, "a write dropped") || !strcmp(j->what, "no write made");
}

/* An answer that passes and is not the golden one. */
static void count_accepted(struct audit_task *t, const struct agon_gate_judged *j)
{
    if (t->task->answers == AGON_ANSWERS_MANY) {
        t->n_unproven++;
        return;
    }
    if (t->n_false++ == 0)
        audit_find(t, "false accept", true, "%.*s passes (%s), and is not the golden answer",
                   (int)(j->answer.size < 300 ? j->answer.size : 300), j->answer.data, j->what);
}

void audit_count(struct audit_task *t, int gate, const struct agon_gate_judged *j)
{
    if (gate == 4 && !strcmp(j->what, "handed in"))
        return; /* gate 5 judges them again */
    if (j->brief->pass && !j->differs && !is_dropped(j))
        return; /* the golden answer itself, in one writing or another */
    t->n_attacks++;
    t->n_dropped += is_dropped(j);
    t->n_dropped_accepted += is_dropped(j) && j->brief->pass;
    if (j->brief->pass && j->differs)
        count_accepted(t, j);
}

static void task_observe(void *user, int gate, const struct agon_gate_judged *judged)
{
    struct audit_task *t = user;
    int most = gate == 9 ? KEPT_GUESSES_MAX : KEPT_ANSWERS_MAX;
    struct agon_err err;
    audit_count(t, gate, judged);
    if (t->options->judged)
        t->options->judged(t->options->user, t->task, judged);
    if (t->answers.n < most && audit_keep(&t->answers, judged->answer, judged->writes, &err))
        t->failed = true;
}

static const struct agon_task *task_by_id(const struct agon_env *env, const char *id)
{
    for (int i = 0; id && i < env->n_tasks; i++)
        if (!strcmp(env->tasks[i].id, id))
            return &env->tasks[i];
    return NULL;
}

/* Is it of another task line ("t2_" of "t2_l1"), and did it come before? */
static bool came_before(const struct agon_task *other, const struct agon_task *task)
{
    size_t line = strcspn(task->id, "_");
    return strncmp(other->id, task->id, line + 1) != 0 && strcmp(other->id, task->id) < 0;
}

/* Tasks of earlier lines, shallow; the array is the caller's. */
static struct agon_task *others_of(const struct audit_task *t, int *ret_n)
{
    struct agon_task *others = calloc((size_t)t->env->n_tasks + 1, sizeof(*others));
    for (int i = 0; others && i < t->env->n_tasks; i++)
        if (came_before(&t->env->tasks[i], t->task))
            others[(*ret_n)++] = t->env->tasks[i];
    return others;
}

static const char *gate_kind(const char *reason, char *kind, size_t size)
{
    const char *colon = strstr(reason, ": ");
    snprintf(kind, size, "%.*s", (int)(colon ? colon - reason : 4), reason);
    return colon ? colon + 2 : reason;
}

static void card_gates(struct audit_task *t, const struct agon_gate_report *report)
{
    size_t i;
    json_t *one;
    json_object_update_missing(t->card, report->evidence);
    json_array_foreach(json_object_get(report->evidence, "refusals"), i, one)
    {
        char kind[64];
        const char *what = gate_kind(agon_json_text(one, "reason", ""), kind, sizeof(kind));
        audit_find(t, kind, true, "%s", what);
    }
    json_object_del(t->card, "refusals"); /* they are findings now */
    double low, n = json_number_value(json_object_get(t->card, "guesses")),
                passed = json_number_value(json_object_get(t->card, "guesses_passed")), high = 1;
    if (n > 0)
        agon_pass_at_k_interval((int)n, (int)passed, 1, 0.05, &low, &high);
    json_object_set_new(t->card, "guess_rate_most", json_real(high));
}

static int task_gates(struct audit_task *t, struct agon_err *err)
{
    struct agon_gate_report report AGON_AUTO(agon_gate_report_deinit) = {0};
    int n_others = 0;
    struct agon_task *others = others_of(t, &n_others);
    json_auto_t *wrong = json_incref(t->task->negatives); /* gates put their own in the place */
    json_auto_t *golden = json_incref(t->task->golden);
    struct agon_gate_input in = {
        .rt = t->places[0],
        .task = t->task,
        .below = task_by_id(t->env, t->task->parent),
        .others = others,
        .n_others = n_others,
        .wrong = wrong,
        .go_on = true,
        .observe = task_observe,
        .observer = t,
    };
    struct agon_rng rng;
    agon_rng_init(&rng, t->options->seed);
    rng = agon_rng_split(&rng, agon_str(t->env->id));
    in.rng = agon_rng_split(&rng, agon_str(t->task->id));
    int r = others ? agon_gates(&in, &report, err)
                   : agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    free(others);
    if (r < 0)
        return r;
    card_gates(t, &report);
    json_decref(t->task->golden); /* what is stored is what is audited */
    json_decref(t->task->negatives);
    t->task->golden = json_incref(golden);
    t->task->negatives = json_incref(wrong);
    return t->failed ? agon_fail(err, AGON_ENOMEM, "audit: out of memory") : 0;
}

/* ---- the golden answer, over and over ---- */

struct golden {
    struct agon_buf answer, writes; /* as stored, in the canonical writing */
    int n_runs, n_passed, n_same, share;
    bool order_noted;
    json_t *calls; /* of the first run */
};

static void golden_deinit(struct golden *g)
{
    agon_buf_deinit(&g->answer);
    agon_buf_deinit(&g->writes);
    json_decref(g->calls);
}

static bool same_bytes(const json_t *value, const struct agon_buf *wanted)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(AUDIT_ANSWER_BYTES_MAX);
    agon_json_dump(&text, value);
    return agon_str_equal(agon_buf_str(&text), agon_buf_str(wanted));
}

/* Which tool gave something else than in the first run: no fault of the task while the answer
 * is the same, but what a solver sees depends on it. */
static void golden_calls(struct audit_task *t, struct golden *g, const json_t *calls)
{
    size_t i;
    json_t *call;
    if (!g->calls) {
        g->calls = json_incref((json_t *)(uintptr_t)calls);
        return;
    }
    json_array_foreach((json_t *)(uintptr_t)calls, i, call)
    {
        if (g->order_noted || json_equal(call, json_array_get(g->calls, i)))
            continue;
        g->order_noted = true;
        audit_find(t, "order", false,
                   "tool '%s' gives its rows in another order when unordered ones are reversed",
                   agon_json_text(call, "tool", "?"));
    }
}

static int golden_run(struct audit_task *t, struct golden *g, int i, struct agon_err *err)
{
    struct agon_trial_item stored = {agon_buf_str(&g->answer),
                                     json_object_get(t->task->golden, "writes")};
    struct agon_trial_input input = {
        .reverse = i & 1,
        .cache_kib = i & 2 ? SMALL_CACHE_KIB : 0,
        .answer_schema = t->task->answer_schema,
        .verifier = agon_str(t->task->verifier),
        .solution = agon_str(t->task->solution),
        .items = &stored,
        .n_items = 1,
    };
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    struct agon_trial trial AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_runtime *rt = t->places[i / 4 % t->options->n_places];
    if (i % (RUNS_A_CELL * t->options->n_places) < 4 * t->options->n_places && i % 4 == 0)
        agon_runtime_renew(rt); /* another process */
    int r = agon_trial(rt, &input, &trial, &reason, err);
    if (r < 0)
        return r;
    g->n_runs++;
    if (r > 0 || !trial.solved)
        return 0;
    g->n_passed += trial.own.pass && trial.briefs[0].pass;
    g->n_same +=
        same_bytes(trial.run.answer, &g->answer) && same_bytes(trial.run.writes, &g->writes);
    int share = trial.run.usage.share > trial.briefs[0].usage.share ? trial.run.usage.share
                                                                    : trial.briefs[0].usage.share;
    g->share = share > g->share ? share : g->share;
    golden_calls(t, g, trial.run.calls);
    return 0;
}

static double now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* always there on Linux */
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void golden_judge(struct audit_task *t, const struct golden *g)
{
    if (g->n_passed < g->n_runs || g->n_same < g->n_runs)
        audit_find(
            t, "golden", true,
            "of %d runs of the solution %d pass, and %d give the stored answer and writes to "
            "the byte",
            g->n_runs, g->n_passed, g->n_same);
    if (g->share >= SHARE_NOTED)
        audit_find(
            t, "budget", g->share >= SHARE_REFUSED,
            "the solution or its verdict takes %d.%d %% of a limit of fuel or SQL operations",
            g->share / 10, g->share % 10);
}

int audit_golden(struct audit_task *t, struct agon_err *err)
{
    struct golden g AGON_AUTO(golden_deinit) = {.answer = AGON_BUF(AUDIT_ANSWER_BYTES_MAX),
                                                .writes = AGON_BUF(AUDIT_ANSWER_BYTES_MAX)};
    int n = t->options->golden_runs ? t->options->golden_runs : GOLDEN_RUNS;
    const json_t *writes = json_object_get(t->task->golden, "writes");
    json_auto_t *none = json_array();
    agon_json_dump(&g.answer, json_object_get(t->task->golden, "answer"));
    agon_json_dump(&g.writes, writes ? writes : none);
    int r = agon_buf_check(&g.answer, "audit", err);
    if (!r)
        r = agon_buf_check(&g.writes, "audit", err);
    double from = now_ms();
    for (int i = 0; i < n && !r; i++)
        r = golden_run(t, &g, i, err);
    if (r)
        return r;
    golden_judge(t, &g);
    json_object_set_new(t->card, "golden_runs", json_integer(g.n_runs));
    json_object_set_new(t->card, "golden_passes", json_integer(g.n_passed));
    json_object_set_new(t->card, "golden_same", json_integer(g.n_same));
    json_object_set_new(t->card, "share", json_integer(g.share));
    json_object_set_new(t->card, "run_ms", json_real((now_ms() - from) / n));
    return 0;
}

/* ---- the card ---- */

static void card_counts(struct audit_task *t)
{
    const struct {
        const char *name;
        int64_t n;
    } counts[] = {
        {"attacks", t->n_attacks},
        {"false_accepts", t->n_false},
        {"unproven", t->n_unproven},
        {"dropped", t->n_dropped},
        {"dropped_accepted", t->n_dropped_accepted},
    };
    for (size_t i = 0; i < sizeof(counts) / sizeof(*counts); i++)
        json_object_set_new(t->card, counts[i].name, json_integer(counts[i].n));
    if (t->n_unproven)
        audit_find(t, "unproven", false,
                   "%lld answers pass that are not the solution's; answers is \"many\", so nothing "
                   "here says whether they are right",
                   (long long)t->n_unproven);
}

int audit_task(struct audit_task *t, struct agon_err *err)
{
    if (!t->task->golden) {
        audit_find(t, "golden", true, "there is no golden answer");
        return 0;
    }
    int r = task_gates(t, err);
    if (!r)
        r = audit_golden(t, err);
    if (!r)
        r = audit_texts(t, err);
    if (!r && json_integer_value(json_object_get(t->card, "golden_passes")))
        r = audit_more_answers(t, err);
    if (!r)
        r = audit_judge_again(t, err);
    for (int i = 0; i < t->options->n_places && r == AGON_ESYS; i++)
        if (agon_runtime_gave_up(t->places[i])) {
            audit_find(t, "process", true, "the process that runs it ended, in three fresh ones");
            r = 0;
        }
    card_counts(t);
    return r < 0 ? r : 0; /* what is refused is a finding */
}
