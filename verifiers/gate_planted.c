/*
 * Gates 4 and 6, where many answers are right: one that passes because of a text or a number that
 * stands in the verifier's own code and nowhere else. It is told from a right one by where it might
 * come from (prompt, answer schema, tools, solution, world: none says it), by its neighbour
 * (another text of the same kind does not pass, so the check does not take whatever looks like
 * that), and, unless the verifier's code holds it before any check runs, by a world without a row,
 * where it passes all the same.
 */
#include "base/json.h"
#include "envs/world.h"
#include "verifiers/gates_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    CANDIDATES_MAX = 24,
    TEXT_MIN = 3, /* shorter ones stand anywhere by chance */
    TEXT_MAX = 1000,
    NUMBER_MIN = 11, /* smaller ones count something */
    SQL_BYTES_MAX = 8 << 10,
};

/* ---- which values these are ---- */

static bool value_has(const json_t *value, const json_t *leaf)
{
    const char *key;
    json_t *below;
    size_t i;
    if (json_equal(value, leaf))
        return true;
    json_object_foreach((json_t *)(uintptr_t)value, key,
                        below) if (value_has(below, leaf)) return true;
    json_array_foreach(value, i, below) if (value_has(below, leaf)) return true;
    return false;
}

static bool worth_asking(const json_t *leaf)
{
    if (json_is_string(leaf))
        return json_string_length(leaf) >= TEXT_MIN && json_string_length(leaf) <= TEXT_MAX;
    return json_is_number(leaf) && fabs(json_number_value(leaf)) >= NUMBER_MIN;
}

/* The first leaf of an answer, or of its writes, that the verifier holds and the golden ones do
 * not; borrowed. */
static json_t *held_leaf(const struct gate_run *g, json_t *answer)
{
    const char *key;
    json_t *below, *found = NULL;
    size_t i;
    if (worth_asking(answer) && agon_json_array_has(g->held, answer) &&
        !value_has(g->golden.run.answer, answer) && !value_has(g->golden.run.writes, answer))
        return answer;
    json_object_foreach(answer, key, below) if (!found) found = held_leaf(g, below);
    json_array_foreach(answer, i, below) if (!found) found = held_leaf(g, below);
    return found;
}

int gate_planted_note(struct gate_run *g, json_t *candidates, const struct agon_gate_judged *judged,
                      struct agon_err *err)
{
    json_auto_t *answer = NULL;
    json_t *one, *writes = (json_t *)(uintptr_t)judged->writes;
    size_t i;
    if (json_array_size(candidates) >= CANDIDATES_MAX)
        return 0;
    int r = agon_json_parse(&answer, judged->answer, err);
    json_t *leaf = r ? NULL : held_leaf(g, answer);
    if (!r && !leaf)
        leaf = held_leaf(g, writes);
    if (!leaf)
        return r;
    json_array_foreach(candidates, i,
                       one) if (json_equal(json_object_get(one, "held"), leaf)) return 0;
    one =
        json_pack("{s:O, s:{s:O, s:O?}}", "held", leaf, "run", "answer", answer, "writes", writes);
    if (json_array_append_new(candidates, one))
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    return 0;
}

/* ---- where it might come from ---- */

/* As it would be written in a text. */
static void held_text(const json_t *held, struct agon_buf *b)
{
    if (json_is_string(held))
        agon_buf_adds(b, json_string_value(held));
    else
        agon_buf_addf(b, "%.14g", fabs(json_number_value(held)));
}

static bool is_stated(const struct gate_run *g, const char *text, struct agon_err *err, int *ret_r)
{
    struct agon_buf schema AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    agon_json_dump(&schema, g->in->task->answer_schema);
    agon_buf_add_str(&tools, agon_runtime_tools_text(g->in->rt));
    *ret_r = agon_buf_check(&schema, "gates", err);
    if (!*ret_r)
        *ret_r = agon_buf_check(&tools, "gates", err);
    return *ret_r || strcasestr(g->in->task->prompt, text) ||
           strcasestr(g->in->task->solution, text) || strcasestr(agon_buf_text(&schema), text) ||
           strcasestr(agon_buf_text(&tools), text);
}

/* Is it in some row of this column, or a part of what is? Names are identifiers without quotes. */
static void ask_column(struct agon_buf *sql, const char *table, const char *column,
                       const json_t *held)
{
    agon_buf_addf(sql, "SELECT 1 AS v FROM \"%s\" WHERE ", table);
    if (json_is_string(held)) {
        agon_buf_addf(sql, "instr(lower(\"%s\"), lower('", column);
        for (const char *c = json_string_value(held); *c; c++)
            agon_buf_addf(sql, *c == '\'' ? "''" : "%c", *c);
        agon_buf_adds(sql, "')) > 0");
    } else {
        agon_buf_addf(sql, "\"%s\" = %.17g", column, json_number_value(held));
    }
    agon_buf_adds(sql, " LIMIT 1");
}

static int rows_of(struct agon_instance *in, const char *sql, json_t **ret, struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    int r = agon_instance_sql(in, agon_str(sql), ret, &reason, err);
    return r == AGON_REJECTED
               ? agon_fail(err, AGON_ESTORE, "gates: %s (%s)", agon_buf_text(&reason), sql)
               : r;
}

static int in_world(struct gate_run *g, const json_t *held, bool *ret, struct agon_err *err)
{
    static const char columns[] =
        "SELECT m.name AS t, p.name AS c FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS "
        "p WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite%' ORDER BY 1, 2";
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    json_auto_t *all = NULL;
    size_t i;
    json_t *one;
    int r = agon_instance_new(&in, g->in->rt, err);
    if (!r)
        r = rows_of(in, columns, &all, err);
    *ret = false;
    json_array_foreach(all, i, one)
    {
        if (r || *ret)
            break;
        struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
        json_auto_t *found = NULL;
        ask_column(&sql, agon_json_text(one, "t", ""), agon_json_text(one, "c", ""), held);
        r = agon_buf_check(&sql, "gates", err);
        if (!r)
            r = rows_of(in, agon_buf_text(&sql), &found, err);
        *ret = json_array_size(found) > 0;
    }
    return r;
}

/* ---- what passes in its place, and where it does ---- */

/* The next letter and digit in the place of each: as long, and nothing that anyone would say. */
static json_t *neighbour_of(const json_t *held)
{
    if (json_is_real(held))
        return json_real(json_real_value(held) + 1);
    if (json_is_integer(held))
        return json_integer(json_integer_value(held) + 1);
    char *text = strdup(json_string_value(held));
    for (char *c = text; c && *c; c++)
        if (isalnum((unsigned char)*c))
            *c = *c == 'z' ? 'a' : *c == 'Z' ? 'A' : *c == '9' ? '0' : (char)(*c + 1);
    json_t *other = text ? json_string(text) : NULL;
    free(text);
    return other;
}

/* A copy of the value in which `other` stands wherever `held` did. New reference; NULL where there
 * is no memory. */
static json_t *replaced(const json_t *value, const json_t *held, const json_t *other)
{
    const char *key;
    json_t *below, *copy;
    size_t i;
    bool whole = true;
    if (json_equal(value, held))
        return json_incref((json_t *)(uintptr_t)other);
    copy = json_copy((json_t *)(uintptr_t)value);
    json_object_foreach((json_t *)(uintptr_t)value, key, below) whole =
        !json_object_set_new(copy, key, replaced(below, held, other)) && whole;
    json_array_foreach(value, i, below) whole =
        !json_array_set_new(copy, i, replaced(below, held, other)) && whole;
    if (whole)
        return copy;
    json_decref(copy);
    return NULL;
}

/* Does this answer pass with its writes, here or in the world that is left when each row is gone?
 */
static int passes(struct gate_run *g, const json_t *run, bool empty, bool *ret,
                  struct agon_err *err)
{
    struct agon_perturb perturb = {0, AGON_DRAW_NO_ROW, g->golden.run.columns};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    agon_json_dump(&text, json_object_get(run, "answer"));
    struct agon_trial_item item = {agon_buf_str(&text), json_object_get(run, "writes")};
    struct agon_trial_input input = {
        .perturb = empty ? &perturb : NULL,
        .answer_schema = g->in->task->answer_schema,
        .verifier = agon_str(g->in->task->verifier),
        .items = &item,
        .n_items = 1,
    };
    int r = agon_buf_check(&text, "answer", err);
    if (!r)
        r = gate_trial(g, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "%s", agon_buf_text(&reason));
    *ret = !r && t.briefs[0].pass;
    return r;
}

static int is_planted(struct gate_run *g, const json_t *candidate, bool *ret, struct agon_err *err)
{
    const json_t *held = json_object_get(candidate, "held"),
                 *run = json_object_get(candidate, "run");
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_MAX + 100);
    bool own = false, known = false, passed = false;
    int r;
    for (size_t i = 0; i < g->n_held_own; i++)
        own = own || json_equal(json_array_get(g->held, i), held);
    held_text(held, &text);
    *ret = false;
    if (is_stated(g, agon_buf_text(&text), err, &r) || (r = in_world(g, held, &known, err)) ||
        known)
        return r;
    json_auto_t *neighbour = neighbour_of(held), *other = replaced(run, held, neighbour);
    if (!neighbour || !other)
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    if ((r = passes(g, other, false, &passed, err)) || passed)
        return r;
    *ret = own;
    return own ? 0 : passes(g, run, true, ret, err);
}

/* What passes, for the author: the answer, or the first write that is none of the golden ones. */
static void run_example(const struct gate_run *g, const json_t *run, struct agon_buf *b)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    const json_t *shown = json_object_get(run, "answer"), *writes = json_object_get(run, "writes");
    size_t i;
    json_t *write;
    json_array_foreach(writes, i, write) if (!agon_json_array_has(g->golden.run.writes, write))
        shown = write;
    agon_json_dump(&text, shown);
    gate_example(b, agon_buf_str(&text));
}

int gate_planted(struct gate_run *g, const json_t *candidates, struct agon_err *err)
{
    size_t i;
    json_t *one;
    json_array_foreach(candidates, i, one)
    {
        bool planted = false;
        int r = is_planted(g, one, &planted, err);
        if (r)
            return r;
        if (!planted)
            continue;
        struct agon_buf held AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
        agon_json_dump(&held, json_object_get(one, "held"));
        run_example(g, json_object_get(one, "run"), &example);
        return gate_refuse(g,
                           "the verifier accepts %s, and %.240s stands in its code alone, neither "
                           "in the world nor in prompt, answer schema, tools or solution; compare "
                           "what is submitted with the world and with nothing else",
                           agon_buf_text(&example), agon_buf_text(&held));
    }
    return 0;
}
