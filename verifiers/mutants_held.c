/*
 * Answers made of what the verifier itself holds: a check that lets a word or a number of its own
 * pass ("if known[answer.item] then return true end") is found by trying each, wherever it stands
 * in the code and however it is put together.
 */
#include "base/json.h"
#include "verifiers/mutants_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    HELD_LEAVES_MAX = 8, /* a list's elements are judged alike, most of the time */
    HELD_LISTS_MAX = 4,
    HELD_PAIRS_MAX = 300,
    NO_NUMBER = 918273645, /* in no world, and the right answer to nothing */
};

/* `held` as a value of the leaf's kind; NULL: it is none. New reference. */
static json_t *held_as(const json_t *held, const json_t *leaf)
{
    char *end = NULL, text[64];
    if (json_is_string(leaf) && json_is_string(held))
        return json_incref((json_t *)(uintptr_t)held);
    if (json_is_string(leaf)) {
        if (json_is_integer(held))
            snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(held));
        else
            snprintf(text, sizeof(text), "%.14g", json_real_value(held));
        return json_string(text);
    }
    if (!json_is_number(leaf))
        return NULL;
    double number = json_number_value(held);
    if (json_is_string(held)) {
        number = strtod(json_string_value(held), &end);
        if (end == json_string_value(held) || *end || !(number > -1e15 && number < 1e15))
            return NULL;
    }
    if (json_is_real(leaf))
        return json_real(number);
    return number == (double)(json_int_t)number ? json_integer((json_int_t)number) : NULL;
}

static int held_leaves(struct making *m, const json_t *held, struct agon_err *err)
{
    int n = m->t->n_leaves < HELD_LEAVES_MAX ? m->t->n_leaves : HELD_LEAVES_MAX, r = 0;
    size_t k;
    json_t *one;
    json_array_foreach(held, k, one)
    {
        for (int i = 0; i < n && !r; i++) {
            json_t *value = held_as(one, m->t->leaves[i].value);
            if (value)
                r = mutants_leaf_by(m, i, value, AGON_MUTANT_HELD, err);
        }
    }
    return r;
}

/* All texts this one, all numbers that one. */
static int held_all(struct making *m, const json_t *text, const json_t *number, const char *what,
                    struct agon_err *err)
{
    const struct agon_template *t = m->t;
    for (int i = 0; i < t->n_leaves; i++) {
        const json_t *leaf = t->leaves[i].value;
        json_auto_t *value = held_as(json_is_string(leaf) ? text : number, leaf);
        agon_buf_adds(&m->text, t->segments[i]);
        agon_json_dump(&m->text, value ? value : leaf);
    }
    agon_buf_adds(&m->text, t->segments[t->n_leaves]);
    return mutants_emit(m, what, err);
}

static int held_alls(struct making *m, const struct agon_mutant_options *options,
                     struct agon_err *err)
{
    const json_t *held = options->held;
    json_auto_t *none = json_integer(NO_NUMBER);
    int n_pairs = 0, r = 0;
    size_t i, k;
    json_t *text, *number;
    json_array_foreach(held, i, text) if (!r && json_is_string(text)) r =
        held_all(m, text, none,
                 i < options->n_held_own ? AGON_MUTANT_HELD_ALL
                                         : "every text replaced, too," AGON_MUTANT_HELD,
                 err);
    json_array_foreach(held, i, number)
    {
        if (!json_is_number(number))
            continue;
        json_array_foreach(held, k, text)
        {
            if (!r && json_is_string(text) && n_pairs++ < HELD_PAIRS_MAX)
                r = held_all(m, text, number, "every part replaced" AGON_MUTANT_HELD, err);
        }
    }
    return r;
}

/* One element more, in each of the first lists. */
static int held_elements(struct making *m, json_t *answer, json_t *at, const json_t *held,
                         int *lists, struct agon_err *err)
{
    int r = 0;
    size_t n = json_array_size(at), i;
    json_t *one;
    if (json_is_array(at) && (*lists)++ < HELD_LISTS_MAX && !json_is_object(json_array_get(at, 0)))
        json_array_foreach(held, i, one)
        {
            json_t *value = n ? held_as(one, json_array_get(at, 0)) : json_incref(one);
            if (r || !value)
                continue;
            json_array_append_new(at, value);
            r = mutants_whole(m, answer, "an element given" AGON_MUTANT_HELD, err);
            json_array_remove(at, n);
        }
    for (i = 0; i < n && !r; i++)
        r = held_elements(m, answer, json_array_get(at, i), held, lists, err);
    const char *key;
    json_t *value;
    json_object_foreach(at, key, value) if (!r) r =
        held_elements(m, answer, value, held, lists, err);
    return r;
}

/* One member more; a closed schema refuses it before any check runs. */
static int held_members(struct making *m, json_t *answer, const json_t *held, struct agon_err *err)
{
    int r = 0;
    size_t i;
    json_t *one;
    json_array_foreach(held, i, one)
    {
        const char *name = json_string_value(one);
        if (r || !name || !json_is_object(answer) || json_object_get(answer, name))
            continue;
        json_object_set_new(answer, name, json_true());
        r = mutants_whole(m, answer, "a member given" AGON_MUTANT_HELD, err);
        json_object_del(answer, name);
    }
    return r;
}

int mutants_held(struct making *m, json_t *answer, const struct agon_mutant_options *options,
                 struct agon_err *err)
{
    const json_t *held = options->held;
    int lists = 0, r = held_leaves(m, held, err);
    if (!r)
        r = held_alls(m, options, err);
    if (!r)
        r = held_elements(m, answer, answer, held, &lists, err);
    return r ? r : held_members(m, answer, held, err);
}
