/*
 * The order of the gates, and the first three: does the proposal load, does its
 * solution pass, does its verifier reject nonsense.
 */
#include "verifiers/gates_internal.h"

#include "base/json.h"
#include "envs/schema.h"

#include <stdlib.h>
#include <string.h>

enum { REASON_BYTES_MAX = 4000 };

static const struct gate gates[] = {
    {1, "loads", GATE_WORLD_ANY, GATE_CHECK_ANY, gate_loads},
    {2, "golden", GATE_WORLD_ANY, GATE_CHECK_ANY, gate_golden},
    {3, "rejects", GATE_WORLD_ANY, GATE_CHECK_ANY, gate_rejects},
    {4, "answer mutants", GATE_WORLD_DB, GATE_CHECK_CODE, gate_mutants},
    {5, "every check bites", GATE_WORLD_ANY, GATE_CHECK_CODE, gate_bites},
    {6, "writes", GATE_WORLD_DB, GATE_CHECK_CODE, gate_writes},
    {7, "text", GATE_WORLD_DB, GATE_CHECK_CODE, gate_text},
    {8, "metamorphic", GATE_WORLD_DB, GATE_CHECK_CODE, gate_metamorphic},
    {9, "guessing", GATE_WORLD_DB, GATE_CHECK_CODE, gate_guess},
    {10, "ladder", GATE_WORLD_DB, GATE_CHECK_CODE, gate_ladder},
};

int gate_refuse(struct gate_run *g, const char *fmt, ...)
{
    va_list ap;
    g->report->gate = g->gate->number;
    agon_buf_addf(&g->report->reason, "gate %d (%s): ", g->gate->number, g->gate->name);
    va_start(ap, fmt);
    agon_buf_addv(&g->report->reason, fmt, ap);
    va_end(ap);
    return AGON_REJECTED;
}

void gate_explain(const struct agon_verdict *v, struct agon_buf *b)
{
    if (v->schema) {
        agon_buf_addf(b, "it does not fit its schema (%s)", v->schema);
        return;
    }
    if (v->replay) {
        agon_buf_addf(b, "a writing call does not succeed again (%s)", v->replay);
        return;
    }
    for (int i = 0; i < v->n_checks; i++) {
        const struct agon_check_result *c = &v->checks[i];
        if (c->end == AGON_CHECK_PASS)
            continue;
        agon_buf_addf(
            b, c->end == AGON_CHECK_ERROR ? "check '%s' ends in an error (%s)" : "check '%s' fails",
            c->name, c->reason ? c->reason : "no reason given");
        return;
    }
    if (v->unclaimed)
        agon_buf_addf(b, "no check claims a change: %s", v->unclaimed);
}

void gate_example(struct agon_buf *b, struct agon_str text)
{
    if (text.size <= GATE_EXAMPLE_BYTES_MAX) {
        agon_buf_add_str(b, text);
        return;
    }
    size_t size = GATE_EXAMPLE_BYTES_MAX;
    while (size && ((unsigned char)text.data[size] & 0xc0) == 0x80) /* not inside a character */
        size--;
    agon_buf_add(b, text.data, size);
    agon_buf_adds(b, "...");
}

/* ---- gate 1 ---- */

static int loads_checks(struct gate_run *g)
{
    const struct agon_verdict *v = &g->checks;
    if (v->n_checks == 0)
        return gate_refuse(g, "the verifier has no check; write check{ name=, text=, run= } for "
                              "each thing the prompt asks");
    for (int i = 0; i < v->n_checks; i++) {
        if (!v->checks[i].name[0] || !v->checks[i].text[0])
            return gate_refuse(g, "check %d has an empty name or text", i + 1);
    }
    return 0;
}

int gate_loads(struct gate_run *g, struct agon_err *err)
{
    const struct agon_task *task = g->in->task;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    struct agon_err why;
    if (!task->prompt[strspn(task->prompt, " \t\r\n")])
        return gate_refuse(g, "the prompt is empty");
    int r = agon_schema_check(task->answer_schema, &why);
    if (r)
        return gate_refuse(g, "the answer schema is not valid: %s", why.text);

    r = agon_verdict_checks(g->in->rt, agon_str(task->verifier), &g->checks, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "the verifier does not load: %s", agon_buf_text(&reason));
    if (r || (r = loads_checks(g)))
        return r;

    struct agon_trial_input input = {
        .answer_schema = task->answer_schema,
        .verifier = agon_str(task->verifier),
        .solution = agon_str(task->solution),
    };
    r = gate_trial(g, &input, &g->golden, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "the solution does not load: %s", agon_buf_text(&reason));
    return r;
}

/* ---- gate 2 ---- */

static int golden_passes(struct gate_run *g, const struct agon_trial *t, const char *when)
{
    if (!t->solved)
        return gate_refuse(g, "the solution gives no answer%s: %s", when,
                           t->unsolved ? t->unsolved : "it returned nil");
    if (t->own.pass)
        return 0;
    struct agon_buf why AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    gate_explain(&t->own, &why);
    agon_json_dump(&answer, t->run.answer);
    gate_example(&example, agon_buf_str(&answer));
    return gate_refuse(g, "the solution's answer %s does not pass%s: %s", agon_buf_text(&example),
                       when, agon_buf_text(&why));
}

/* The first call of which the two runs got different results, or NULL. */
static const char *first_difference(const json_t *a, const json_t *b)
{
    for (size_t i = 0; i < json_array_size(a); i++) {
        const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);
        if (!json_equal(x, y))
            return agon_json_text(x, "tool", NULL);
    }
    return NULL;
}

/* Is another run of the solution the same, to the byte? `when` and `remedy` are for the author. */
static int golden_same(struct gate_run *g, const struct agon_trial *t, const char *when,
                       const char *remedy)
{
    struct agon_buf again AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    agon_json_dump(&again, t->run.answer);
    if (agon_str_equal(agon_buf_str(&again), agon_buf_str(&g->golden_text)) &&
        json_equal(t->run.writes, g->golden.run.writes))
        return 0;
    const char *tool = first_difference(g->golden.run.calls, t->run.calls);
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    gate_example(&example, agon_buf_str(&again));
    return gate_refuse(g, "the solution gives another answer %s (%s)%s%s%s: %s", when,
                       agon_buf_text(&example), tool ? "; tool '" : "", tool ? tool : "",
                       tool ? "' differs first" : "", remedy);
}

enum { SMALL_CACHE_KIB = 16 }; /* four pages: what SQLite caches must not show */

static int golden_again(struct gate_run *g, bool reverse, const char *when, const char *remedy,
                        struct agon_err *err)
{
    const struct agon_task *task = g->in->task;
    struct agon_trial_item stored = {agon_buf_str(&g->golden_text), g->golden.run.writes};
    struct agon_trial_input input = {
        .reverse = reverse,
        .cache_kib = reverse ? 0 : SMALL_CACHE_KIB,
        .answer_schema = task->answer_schema,
        .verifier = agon_str(task->verifier),
        .solution = agon_str(task->solution),
        .items = &stored,
        .n_items = 1,
    };
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    int r = gate_trial(g, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "the second time it does not load: %s", agon_buf_text(&reason));
    if (r || (r = golden_passes(g, &t, when)) || (r = golden_same(g, &t, when, remedy)))
        return r;
    if (!t.briefs[0].pass)
        return gate_refuse(g,
                           "the solution's answer passes when it is given, but not when it is "
                           "submitted as text%s; checks "
                           "must look at the answer and the world only",
                           when);
    return 0;
}

int gate_golden(struct gate_run *g, struct agon_err *err)
{
    int r = golden_passes(g, &g->golden, "");
    if (r)
        return r;
    if (json_array_size(g->golden.run.calls) == 0)
        return gate_refuse(g, "the solution calls no tool; an answer has to come from the world");
    agon_json_dump(&g->golden_text, g->golden.run.answer);
    if ((r = agon_buf_check(&g->golden_text, "answer", err)))
        return r;
    r = golden_again(g, true, " with unordered rows reversed",
                     "give every query of tools and checks an ORDER BY over a key", err);
    if (r)
        return r;
    /* A verdict counts when a second, fresh cell gives the same. */
    agon_runtime_renew(g->in->rt);
    return golden_again(g, false, " in a fresh process",
                        "a solution must not keep anything between runs", err);
}

/* ---- gate 3 ---- */

/* A value that fits the schema and says nothing; texts become `text`. New reference. */
static json_t *blank_value(const json_t *schema, const char *text)
{
    const json_t *values = json_object_get(schema, "enum"), *any = json_object_get(schema, "anyOf");
    const char *type = agon_json_text(schema, "type", "");
    if (json_array_size(values))
        return json_incref(json_array_get(values, 0));
    if (json_array_size(any))
        return blank_value(json_array_get(any, 0), text);
    if (!strcmp(type, "object")) {
        json_t *object = json_object();
        const char *key;
        json_t *property;
        json_object_foreach(json_object_get(schema, "properties"), key, property)
            json_object_set_new(object, key, blank_value(property, text));
        return object;
    }
    if (!strcmp(type, "array")) {
        json_t *array = json_array();
        json_int_t n = json_integer_value(json_object_get(schema, "minItems"));
        for (json_int_t i = 0; i < n && i < 1000; i++)
            json_array_append_new(array, blank_value(json_object_get(schema, "items"), text));
        return array;
    }
    json_int_t least = json_integer_value(json_object_get(schema, "minimum"));
    if (!strcmp(type, "integer"))
        return json_integer(least);
    if (!strcmp(type, "number"))
        return json_real((double)least);
    if (!strcmp(type, "boolean"))
        return json_false();
    if (!strcmp(type, "string"))
        return json_string(text);
    return json_null();
}

static int reject_passed(void *user, const struct agon_gate_judged *judged, struct agon_err *err)
{
    (void)err;
    if (!judged->brief->pass)
        return 0;
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(REASON_BYTES_MAX);
    gate_example(&example, judged->answer);
    return gate_refuse(user,
                       "the verifier accepts %s (%s) on the untouched world; a check must compare "
                       "it with what the "
                       "world says, and the right answer must not be nothing",
                       judged->what, agon_buf_text(&example));
}

/* The golden answer with every leaf of another type. */
static json_t *wrong_types(const json_t *value)
{
    if (json_is_object(value)) {
        json_t *object = json_object();
        for (void *at = json_object_iter((json_t *)(uintptr_t)value); at;
             at = json_object_iter_next((json_t *)(uintptr_t)value, at))
            json_object_set_new(object, json_object_iter_key(at),
                                wrong_types(json_object_iter_value(at)));
        return object;
    }
    if (json_is_array(value)) {
        json_t *array = json_array();
        for (size_t i = 0; i < json_array_size(value); i++)
            json_array_append_new(array, wrong_types(json_array_get(value, i)));
        return array;
    }
    return json_is_string(value) ? json_integer(7) : json_string("x");
}

static int add_value(struct gate_batch *batch, const char *what, json_t *value_taken,
                     struct agon_err *err)
{
    json_auto_t *value = value_taken;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    agon_json_dump(&text, value);
    int r = agon_buf_check(&text, "answer", err);
    return r ? r : gate_batch_add(batch, what, agon_buf_str(&text), NULL, err);
}

int gate_rejects(struct gate_run *g, struct agon_err *err)
{
    static const struct {
        const char *what, *text;
    } nonsense[] = {
        {"an empty submission", ""},
        {"null", "null"},
        {"an empty object", "{}"},
        {"an empty list", "[]"},
        {"an empty text", "\"\""},
        {"zero", "0"},
        {"true", "true"},
        {"false", "false"},
        {"garbage", "lorem ipsum {"},
        {"a text", "\"lorem\""},
        {"a list of null", "[null]"},
        {"an unknown key", "{\"x\": 1}"},
    };
    const struct agon_task *task = g->in->task;
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    int r = gate_batch_new(&batch, g, reject_passed, g, err);
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(*nonsense) && !r; i++)
        r = gate_batch_add(batch, nonsense[i].what, agon_str(nonsense[i].text), NULL, err);
    if (!r)
        r = add_value(batch, "an answer without content", blank_value(task->answer_schema, ""),
                      err);
    if (!r)
        r = add_value(batch, "an answer of dummy texts", blank_value(task->answer_schema, "lorem"),
                      err);
    if (!r)
        r = add_value(batch, "the prompt echoed in every text",
                      blank_value(task->answer_schema, task->prompt), err);
    if (!r)
        r = add_value(batch, "the prompt echoed", json_string(task->prompt), err);
    if (!r)
        r = add_value(batch, "an answer of wrong types", wrong_types(g->golden.run.answer), err);
    return r ? r : gate_batch_flush(batch, err);
}

/* ---- a second cell ---- */

enum { TAPE_BYTES_MAX = 32 << 20 }; /* then the second cell is asked at once, and goes on */

static const struct gate *gate_numbered(int number)
{
    for (size_t i = 0; i < sizeof(gates) / sizeof(*gates); i++)
        if (gates[i].number == number)
            return &gates[i];
    return &gates[0];
}

/* All that was asked, once more of a fresh cell: a verdict counts when it gives the same. */
static int run_again(struct gate_run *g, struct agon_err *err)
{
    int number = 0;
    json_t *traces = NULL;
    int r = agon_tape_again(&g->tape, g->in->rt, &number, &traces, err);
    agon_tape_deinit(&g->tape);
    if (r != AGON_TAPE_DIFFERS)
        return r;
    json_object_set_new(g->report->evidence, "disagreement", traces);
    agon_buf_reset(&g->report->reason); /* of a refusal that does not count */
    g->gate = gate_numbered(number);
    return gate_refuse(g, "a second, fresh process judges the same otherwise; solution, tools and "
                          "checks must depend on nothing but the world and the answer");
}

int gate_trial(struct gate_run *g, struct agon_trial_input *input, struct agon_trial *ret,
               struct agon_buf *reason, struct agon_err *err)
{
    int r = g->tape.bytes > TAPE_BYTES_MAX ? run_again(g, err) : 0;
    if (r == AGON_REJECTED)
        agon_buf_adds(reason, "a second, fresh process judges otherwise");
    if (r)
        return r;
    input->tape = &g->tape;
    input->gate = g->gate->number;
    return agon_trial(g->in->rt, input, ret, reason, err);
}

/* ---- the run ---- */

int gate_prepare(struct gate_run *g, struct agon_err *err)
{
    if (g->ready)
        return 0;
    const struct agon_solved *run = &g->golden.run;
    int r = agon_columns_read(&g->columns, g->in->rt, run->columns, err);
    if (!r)
        r = agon_template_init(&g->answer, run->answer, g->in->task->answer_schema, &g->columns,
                               err);
    if (!r)
        r = agon_template_init(&g->writes, run->writes, NULL, &g->columns, err);
    g->ready = !r;
    return r;
}

static void run_deinit(struct gate_run *g)
{
    agon_verdict_deinit(&g->checks);
    agon_trial_deinit(&g->golden);
    agon_buf_deinit(&g->golden_text);
    agon_columns_deinit(&g->columns);
    agon_template_deinit(&g->answer);
    agon_template_deinit(&g->writes);
    json_decref(g->alone);
    json_decref(g->probes);
    json_decref(g->worlds);
    json_decref(g->held);
    free(g->guesses.example);
    free(g->guesses.false_example);
    gate_writes_found_deinit(&g->writes_found);
    agon_tape_deinit(&g->tape);
}

/* What came of a gate, where the code in it may have ended its process. */
static int run_ended(struct gate_run *g, int r, struct agon_err *err)
{
    if (r == AGON_ESYS && agon_runtime_gave_up(g->in->rt)) {
        g->lost = true;
        return gate_refuse(g, "the process that runs it ended, in three fresh ones: %s",
                           err ? err->text : "no reason given");
    }
    return r < 0 ? agon_err_in(err, r, "gate %d (%s)", g->gate->number, g->gate->name) : r;
}

/* Note a refusal and go on, where what follows can do without it: 0, else AGON_REJECTED. */
static int run_note(struct gate_run *g, int number)
{
    json_t *refusals = json_object_get(g->report->evidence, "refusals");
    if (!refusals)
        json_object_set_new(g->report->evidence, "refusals", refusals = json_array());
    json_array_append_new(refusals, json_pack("{s:i, s:s}", "gate", number, "reason",
                                              agon_buf_text(&g->report->reason)));
    agon_buf_reset(&g->report->reason);
    return number <= 2 || g->lost ? AGON_REJECTED : 0;
}

/* The report of the first refusal that was noted. */
static int run_first(struct agon_gate_report *report)
{
    const json_t *first = json_array_get(json_object_get(report->evidence, "refusals"), 0);
    report->gate = (int)json_integer_value(json_object_get(first, "gate"));
    agon_buf_reset(&report->reason);
    agon_buf_adds(&report->reason, agon_json_text(first, "reason", ""));
    return AGON_REJECTED;
}

/* Write what was proved into the task. */
static int run_accept(struct gate_run *g, struct agon_err *err)
{
    struct agon_task *task = g->in->task;
    json_t *golden =
        json_pack("{s:O, s:O}", "answer", g->golden.run.answer, "writes", g->golden.run.writes);
    json_t *negatives = json_array();
    size_t i;
    json_t *negative;
    json_array_foreach(g->alone, i, negative) json_array_append(negatives, negative);
    if (!golden || !negatives) {
        json_decref(golden);
        json_decref(negatives);
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    }
    json_decref(task->golden);
    json_decref(task->negatives);
    task->golden = golden;
    task->negatives = negatives;
    return 0;
}

void agon_gate_report_deinit(struct agon_gate_report *r)
{
    agon_buf_deinit(&r->reason);
    json_decref(r->evidence);
    *r = (struct agon_gate_report){0};
}

int agon_gates(struct agon_gate_input *in, struct agon_gate_report *ret, struct agon_err *err)
{
    *ret =
        (struct agon_gate_report){.reason = AGON_BUF(REASON_BYTES_MAX), .evidence = json_object()};
    struct agon_rng seeds = agon_rng_split(&in->rng, agon_str("perturb"));
    struct gate_run g AGON_AUTO(run_deinit) = {
        .in = in,
        .report = ret,
        .golden_text = AGON_BUF(GATE_ANSWER_BYTES_MAX),
        .alone = json_array(),
        .worlds = json_array(),
        .perturb_seed = agon_rng_u64(&seeds),
    };
    int r = ret->evidence && g.alone && g.worlds
                ? 0
                : agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    for (size_t i = 0; i < sizeof(gates) / sizeof(*gates) && !r; i++) {
        /* Every task so far lives in a database and is judged by code. */
        if (!(gates[i].worlds & GATE_WORLD_DB) || !(gates[i].checks & GATE_CHECK_CODE))
            continue;
        g.gate = &gates[i];
        r = run_ended(&g, gates[i].run(&g, err), err);
        if (r == AGON_REJECTED && in->go_on)
            r = run_note(&g, gates[i].number);
    }
    if (r >= 0 && !g.lost) {
        int again = run_ended(&g, run_again(&g, err), err);
        if (again == AGON_REJECTED && in->go_on)
            (void)run_note(&g, g.gate->number);
        r = again ? again : r;
    }
    if (r >= 0 && in->go_on && json_object_get(ret->evidence, "refusals"))
        r = run_first(ret);
    return r ? r : run_accept(&g, err);
}
