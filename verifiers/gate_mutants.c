/*
 * Gate 4: near misses of the golden answer. Under answers="one" each that differs must
 * fail. Under "many" another answer may be right: what passes is listed with what
 * each check did, and counts as unproven.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"
#include "verifiers/lexicon.h"

#include <stdlib.h>
#include <string.h>

enum {
    SURVIVORS_MAX = 20,
    ONE_LEAF_MAX = 600,
    TWO_LEAF_DRAWS = 400,
    HELD_OWN_MAX = 100,
    HELD_MAX = 150,
    COLUMN_SHARE = 40, /* of a column that the checks alone read */
    COLUMNS_SHARE = 200
};

struct pool {
    int n_mutants, n_survivors;
    json_t *survivors;
    char *what, *answer;           /* of the shortest survivor, owned */
    char *misread;                 /* one that passes as a pattern or as SQL, owned; NULL: none */
    bool misread_as_sql, anything; /* anything: a text that says nothing passes, too */
    char *held; /* one of which each part is a text of the verifier's, owned; NULL: none */
    struct gate_run *g;
    json_t *candidates; /* of gate_planted() */
};

static void pool_deinit(struct pool *p)
{
    json_decref(p->survivors);
    json_decref(p->candidates);
    free(p->what);
    free(p->answer);
    free(p->misread);
    free(p->held);
}

static bool ends_in(const char *text, const char *end)
{
    size_t n = strlen(text), size = strlen(end);
    return n >= size && !strcmp(text + n - size, end);
}

/* What no answer can mean, whatever answers are right. */
static int pool_misread(struct pool *p, const struct agon_gate_judged *judged, struct agon_err *err)
{
    bool sql = ends_in(judged->what, AGON_MUTANT_SQL);
    p->anything = p->anything || ends_in(judged->what, AGON_MUTANT_LONG);
    if (p->misread || !(sql || ends_in(judged->what, AGON_MUTANT_PATTERN)))
        return 0;
    p->misread = strndup(judged->answer.data, judged->answer.size);
    p->misread_as_sql = sql;
    return p->misread ? 0 : agon_fail(err, AGON_ENOMEM, "gates: out of memory");
}

static int pool_held(struct pool *p, const struct agon_gate_judged *judged, struct agon_err *err)
{
    if (p->held || strcmp(judged->what, AGON_MUTANT_HELD_ALL) != 0)
        return 0;
    p->held = strndup(judged->answer.data, judged->answer.size);
    return p->held ? 0 : agon_fail(err, AGON_ENOMEM, "gates: out of memory");
}

static int pool_example(struct pool *p, const struct agon_gate_judged *judged, struct agon_err *err)
{
    /* What is held is told where nothing else passes: other examples say more. */
    if (p->answer &&
        (strlen(p->answer) <= judged->answer.size || ends_in(judged->what, AGON_MUTANT_HELD)))
        return 0;
    free(p->what);
    free(p->answer);
    p->what = strdup(judged->what);
    p->answer = strndup(judged->answer.data, judged->answer.size);
    return p->what && p->answer ? 0 : agon_fail(err, AGON_ENOMEM, "gates: out of memory");
}

static int pool_done(void *user, const struct agon_gate_judged *judged, struct agon_err *err)
{
    struct pool *p = user;
    p->n_mutants++;
    if (!judged->brief->pass || !judged->differs)
        return 0;
    int r = pool_example(p, judged, err);
    r = r ? r : pool_misread(p, judged, err);
    r = r ? r : pool_held(p, judged, err);
    if (!r && ends_in(judged->what, AGON_MUTANT_HELD))
        r = gate_planted_note(p->g, p->candidates, judged, err);
    if (r || p->n_survivors++ >= SURVIVORS_MAX)
        return r;
    json_t *answer = NULL;
    r = agon_json_parse(&answer, judged->answer, err);
    if (!r && json_array_append_new(p->survivors, json_pack("{s:o, s:s}", "answer", answer,
                                                            "mutation", judged->what)))
        r = agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    return r;
}

/* What each check took to let this survivor pass. */
static int survivor_trace(struct gate_run *g, json_t *survivor, struct agon_err *err)
{
    struct agon_buf answer AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    agon_json_dump(&answer, json_object_get(survivor, "answer"));
    int r = agon_verdict(g->in->rt, g->in->task, agon_buf_str(&answer), g->golden.run.writes, &v,
                         &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "the second time the verifier does not load: %s",
                           agon_buf_text(&reason));
    json_t *checks = json_array();
    for (int i = 0; i < v.n_checks; i++)
        json_array_append_new(checks, json_pack("{s:s, s:I, s:I}", "name", v.checks[i].name, "fuel",
                                                (json_int_t)v.checks[i].fuel, "ops",
                                                (json_int_t)v.checks[i].ops));
    if (json_object_set_new(survivor, "checks", checks))
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    return r;
}

/* Under answers="one": what passes beside the golden answer; else what cannot be one of many. */
static int mutants_judge(struct gate_run *g, const struct pool *p)
{
    struct agon_buf misread AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    bool many = g->in->task->answers == AGON_ANSWERS_MANY;
    if (many && p->misread && !p->anything) {
        gate_example(&misread, agon_str(p->misread));
        return gate_refuse(
            g,
            "the verifier accepts %s, which it reads as %s; let it hand the answer's "
            "texts to world:value and its kin as parameters, and compare them with ==",
            agon_buf_text(&misread), p->misread_as_sql ? "SQL" : "a pattern");
    }
    if (many && p->held && !p->anything && g->answer.n_leaves > 1) {
        gate_example(&misread, agon_str(p->held));
        return gate_refuse(g,
                           "the verifier accepts %s, of which nothing is right: a text of its own "
                           "is enough; compare the answer with the world and with nothing else",
                           agon_buf_text(&misread));
    }
    if (!p->n_survivors || many)
        return 0;
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    gate_example(&example, agon_str(p->answer));
    return gate_refuse(g,
                       "the verifier accepts %s too (the answer with %s), but answers is \"one\"; "
                       "let a check compare it with the world, or say answers \"many\"",
                       agon_buf_text(&example), p->what);
}

/* ---- what the verifier holds ---- */

static bool column_has(const struct agon_columns *c, const json_t *text)
{
    const char *name;
    json_t *values;
    json_object_foreach(c->values, name, values) if (agon_json_array_has(values, text)) return true;
    return false;
}

/* Numbers of its source, of either sign. */
static int held_numbers(struct gate_run *g, json_t *held, struct agon_err *err)
{
    struct agon_literals all = {0};
    int r = agon_lua_literals(&all, agon_str(g->in->task->verifier), NULL, err);
    for (size_t i = 0; !r && i < all.n && json_array_size(held) < HELD_MAX; i++) {
        double number = all.items[i].number;
        bool whole = number < 1e15 && number == (double)(json_int_t)number;
        if (!all.items[i].is_number)
            continue;
        json_array_append_new(held, whole ? json_integer((json_int_t)number) : json_real(number));
        json_array_append_new(held, whole ? json_integer(-(json_int_t)number) : json_real(-number));
    }
    agon_literals_deinit(&all);
    return r;
}

/* Values of columns that the checks read and the solution does not, evenly over each. */
static int held_columns(struct gate_run *g, const json_t *reads, json_t *held, struct agon_err *err)
{
    struct agon_columns columns AGON_AUTO(agon_columns_deinit) = {0};
    json_auto_t *names = json_array();
    const char *key;
    json_t *name, *values;
    size_t i, most = json_array_size(held) + COLUMNS_SHARE;
    json_array_foreach(reads, i,
                       name) if (!json_object_get(g->columns.values, json_string_value(name)))
        json_array_append(names, name);
    int r = agon_columns_read(&columns, g->in->rt, names, err);
    json_object_foreach(columns.values, key, values)
    {
        size_t n = json_array_size(values), share = n < COLUMN_SHARE ? n : COLUMN_SHARE;
        for (i = 0; i < share && json_array_size(held) < most; i++)
            json_array_append(held, json_array_get(values, i * n / share));
    }
    return r;
}

/* An answer of other values of each leaf's domain, so that no check ends early. */
static void held_other(struct gate_run *g, struct agon_buf *b)
{
    uint32_t next[AGON_LEAVES_MAX];
    for (int i = 0; i < g->answer.n_leaves; i++) {
        const struct agon_leaf *leaf = &g->answer.leaves[i];
        uint32_t n = agon_leaf_count(leaf);
        json_auto_t *first = agon_leaf_value(leaf, 0);
        next[i] = n > 1 && json_equal(first, leaf->value) ? 1 : 0;
    }
    agon_template_fill(&g->answer, next, b);
}

/* Texts that its state holds when it is loaded, the numbers of its source, what else it held while
 * its checks judged the golden answer and another one; without those of rows, which are tried as
 * such, but with rows that only the checks look at. */
static int held_by_verifier(struct gate_run *g, json_t *held, struct agon_err *err)
{
    struct agon_buf other AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    held_other(g, &other);
    struct agon_trial_item items[] = {{agon_buf_str(&g->golden_text), g->golden.run.writes},
                                      {agon_buf_str(&other), g->golden.run.writes}};
    struct agon_trial_input input = {.answer_schema = g->in->task->answer_schema,
                                     .verifier = agon_str(g->in->task->verifier),
                                     .items = items,
                                     .n_items = 2,
                                     .texts = true};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    int r = agon_buf_check(&other, "answer", err);
    if (!r)
        r = gate_trial(g, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "%s", agon_buf_text(&reason));
    size_t n = json_array_size(t.texts);
    for (size_t i = 0; i < n && i < t.n_loaded && json_array_size(held) < HELD_OWN_MAX; i++)
        if (!column_has(&g->columns, json_array_get(t.texts, i)))
            json_array_append(held, json_array_get(t.texts, i));
    g->n_held_own = json_array_size(held);
    if (!r)
        r = held_numbers(g, held, err);
    for (size_t i = t.n_loaded; i < n && json_array_size(held) < HELD_MAX; i++)
        if (!column_has(&g->columns, json_array_get(t.texts, i)))
            json_array_append(held, json_array_get(t.texts, i));
    return r ? r : held_columns(g, t.reads, held, err);
}

int gate_mutants(struct gate_run *g, struct agon_err *err)
{
    const struct agon_solved *run = &g->golden.run;
    struct pool pool AGON_AUTO(pool_deinit) = {
        .survivors = json_array(), .g = g, .candidates = json_array()};
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    struct agon_rng rng = agon_rng_split(&g->in->rng, agon_str("mutants"));
    struct agon_mutant_options options = {ONE_LEAF_MAX, TWO_LEAF_DRAWS, true, NULL, 0};
    int r = gate_prepare(g, err);
    if (!r)
        r = held_by_verifier(g, g->held = json_array(), err);
    options.held = g->held;
    options.n_held_own = g->n_held_own;
    if (!r)
        r = gate_wrong(g, false, err); /* first, so that they are the negatives that are kept */
    if (!r)
        r = gate_batch_new(&batch, g, pool_done, &pool, err);
    if (!r)
        r = agon_mutants_answer(run->answer, &g->answer, run->writes, &options, &rng,
                                gate_batch_add, batch, err);
    if (!r)
        r = gate_batch_flush(batch, err);
    for (size_t i = 0; i < json_array_size(pool.survivors) && !r; i++)
        r = survivor_trace(g, json_array_get(pool.survivors, i), err);
    json_object_set_new(g->report->evidence, "mutants", json_integer(pool.n_mutants));
    json_object_set_new(g->report->evidence, "n_survivors", json_integer(pool.n_survivors));
    json_object_set(g->report->evidence, "survivors", pool.survivors);
    if (!r)
        r = mutants_judge(g, &pool);
    bool asked = g->in->task->answers == AGON_ANSWERS_MANY && !pool.anything;
    return r || !asked ? r : gate_planted(g, pool.candidates, err);
}
