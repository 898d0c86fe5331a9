/*
 * Misses of the golden answer that no column suggests: near ones, and those far off that a check
 * takes for the answer which reads only a part of it, or reads it as something else (a pattern, a
 * piece of SQL). Each stands for a way in which a verifier was wrong
 * (tests/verifiers/test_planted_more.c).
 */
#include "base/json.h"
#include "base/text.h"
#include "verifiers/mutants_internal.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- near ---- */

json_t *mutants_other_case(const char *text)
{
    json_t *value = NULL;
    char *copy = strdup(text);
    bool any = false;
    for (char *p = copy; p && *p; p++)
        if (isalpha((unsigned char)*p)) {
            *p ^= 0x20;
            any = true;
        }
    if (any)
        value = json_string(copy);
    free(copy);
    return value;
}

static int near_text(struct making *m, int i, struct agon_err *err)
{
    const char *text = json_string_value(m->t->leaves[i].value);
    json_t *other = mutants_other_case(text);
    int r = other ? mutants_leaf(m, i, other, err) : 0;
    if (!r)
        r = mutants_leaf(m, i, json_sprintf("%s ", text), err);
    return r ? r : mutants_leaf(m, i, json_string(""), err);
}

/* One more and one less, unless mutants_number() made them, and one in the last place written. */
static int near_number(struct making *m, int i, struct agon_err *err)
{
    const struct agon_leaf *leaf = &m->t->leaves[i];
    json_int_t n = json_integer_value(leaf->value);
    double x = json_real_value(leaf->value), last = pow(10, -agon_real_decimals(x));
    bool whole = json_is_integer(leaf->value);
    int r = 0;
    for (int sign = 1; sign >= -1 && !r; sign -= 2) {
        if (!leaf->computed)
            r = mutants_leaf(m, i, whole ? json_integer(n + sign) : json_real(x + sign), err);
        if (!r && !whole)
            r = mutants_leaf(m, i, agon_real_rounded(x + sign * last, agon_real_decimals(x)), err);
    }
    return r;
}

int mutants_near(struct making *m, struct agon_err *err)
{
    int r = 0;
    for (int i = 0; i < m->t->n_leaves && !r; i++) {
        if (json_is_string(m->t->leaves[i].value))
            r = near_text(m, i, err);
        else if (json_is_number(m->t->leaves[i].value))
            r = near_number(m, i, err);
    }
    return r;
}

/* ---- far ---- */

enum { FAR_LEAVES_MAX = 40, PAIRS_MAX = 60, LONG_TEXT = 2000 };

/* What a check lets through that looks the answer up by GLOB or LIKE, as a pattern or as SQL. */
static int far_patterns(struct making *m, int i, const char *text, struct agon_err *err)
{
    static const char *const patterns[] = {"*", "%", ".*"};
    static const char *const behind[] = {"' OR '1'='2", "\" OR \"1\"=\"2", "' --"};
    int r = 0;
    for (size_t k = 0; k < sizeof(patterns) / sizeof(*patterns) && !r; k++)
        r = mutants_leaf_by(m, i, json_string(patterns[k]), AGON_MUTANT_PATTERN, err);
    for (size_t k = 0; k < sizeof(behind) / sizeof(*behind) && !r; k++)
        r = mutants_leaf_by(m, i, json_sprintf("%s%s", text, behind[k]), AGON_MUTANT_SQL, err);
    return r ? r : mutants_leaf(m, i, json_sprintf("%s.", text), err);
}

/* Its first and its last word exchanged, or NULL where it has but one. */
static json_t *text_turned(const char *text)
{
    const char *first = strchr(text, ' '), *last = strrchr(text, ' ');
    if (!first || first == text || !last[1])
        return NULL;
    if (first == last)
        return json_sprintf("%s %.*s", last + 1, (int)(first - text), text);
    return json_sprintf("%s%.*s%.*s", last + 1, (int)(last + 1 - first), first, (int)(first - text),
                        text);
}

static int far_text(struct making *m, int i, struct agon_err *err)
{
    const char *text = json_string_value(m->t->leaves[i].value);
    char long_text[LONG_TEXT + 1];
    size_t size = strlen(text), head = 0, tail = size;
    memset(long_text, 'x', LONG_TEXT);
    long_text[LONG_TEXT] = '\0';
    if (size)
        (void)agon_utf8_next((struct agon_str){text, size}, &head); /* valid: it is JSON */
    while (tail > 0 && ((unsigned char)text[--tail] & 0xc0) == 0x80)
        continue;
    json_t *turned = text_turned(text);
    int r = turned ? mutants_leaf(m, i, turned, err) : 0;
    if (!r)
        r = mutants_leaf(m, i, json_stringn(text, head), err);
    if (!r)
        r = mutants_leaf(m, i, json_stringn(text, tail), err);
    if (!r)
        r = mutants_leaf(m, i, json_string(text + head), err);
    if (!r && isdigit((unsigned char)*text))
        r = mutants_leaf(m, i, json_sprintf("0%s", text), err);
    if (!r)
        r = mutants_leaf_by(m, i, json_string(long_text), AGON_MUTANT_LONG, err);
    return r ? r : far_patterns(m, i, text, err);
}

/* Nothing, the other sign, a fraction more, and numbers whose digits or bits hold its own. */
static int far_number(struct making *m, int i, struct agon_err *err)
{
    static const json_int_t more[] = {10000, INT64_C(1) << 32};
    const json_t *value = m->t->leaves[i].value;
    double x = json_number_value(value);
    if (!json_is_integer(value) || fabs(x) > 1e15) {
        int r = mutants_leaf(m, i, json_real(0), err);
        r = r ? r : mutants_leaf(m, i, json_real(-x), err);
        r = r ? r : mutants_leaf(m, i, json_real(10 * x), err);
        return r ? r : mutants_leaf(m, i, json_real(x + (double)more[0]), err);
    }
    json_int_t n = json_integer_value(value), above = 1;
    while (above <= llabs(n))
        above *= 10;
    json_int_t made[] = {0,           -n,         10 * n, n / 10, n + (n < 0 ? -above : above),
                         n + more[0], n + more[1]};
    int r = mutants_leaf(m, i, json_real(x + 0.5), err);
    for (size_t k = 0; k < sizeof(made) / sizeof(*made) && !r; k++)
        r = mutants_leaf(m, i, json_integer(made[k]), err);
    return r;
}

/* Of another type: most schemas refuse it, and where one does not, the checks have to. */
static int far_types(struct making *m, int i, struct agon_err *err)
{
    const json_t *value = m->t->leaves[i].value;
    int r = mutants_leaf(m, i, json_null(), err);
    if (!r && !json_is_string(value))
        r = mutants_leaf(m, i, json_string("x"), err);
    if (!r && !json_is_number(value))
        r = mutants_leaf(m, i, json_integer(7), err);
    return r;
}

static int far_leaves(struct making *m, struct agon_err *err)
{
    int step = m->t->n_leaves / FAR_LEAVES_MAX + 1, r = 0;
    for (int i = 0; i < m->t->n_leaves && !r; i += step) {
        if (json_is_string(m->t->leaves[i].value))
            r = far_text(m, i, err);
        else if (json_is_number(m->t->leaves[i].value))
            r = far_number(m, i, err);
        if (!r)
            r = far_types(m, i, err);
    }
    return r;
}

/* The leaves i and j replaced by these values, whose references are taken. */
static int far_pair(struct making *m, int i, json_t *at_i, int j, json_t *at_j, const char *how,
                    struct agon_err *err)
{
    const struct agon_template *t = m->t;
    char what[320];
    for (int k = 0; k < t->n_leaves; k++) {
        agon_buf_adds(&m->text, t->segments[k]);
        agon_json_dump(&m->text, k == i ? at_i : k == j ? at_j : t->leaves[k].value);
    }
    agon_buf_adds(&m->text, t->segments[t->n_leaves]);
    json_decref(at_i);
    json_decref(at_j);
    snprintf(what, sizeof(what), "%.120s and %.120s %s", t->leaves[i].path, t->leaves[j].path, how);
    return mutants_emit(m, what, err);
}

/* Two of a kind exchanged; two whole numbers whose sum stays. */
static int far_pairs(struct making *m, struct agon_err *err)
{
    const struct agon_template *t = m->t;
    int pairs = 0, r = 0;
    for (int i = 0; i < t->n_leaves; i++)
        for (int j = i + 1; j < t->n_leaves && pairs < PAIRS_MAX && !r; j++) {
            json_t *a = t->leaves[i].value, *b = t->leaves[j].value;
            if (json_typeof(a) != json_typeof(b))
                continue;
            pairs++;
            r = far_pair(m, i, json_incref(b), j, json_incref(a), "exchanged", err);
            if (!r && json_is_integer(a))
                r = far_pair(m, i, json_integer(json_integer_value(a) + 1), j,
                             json_integer(json_integer_value(b) - 1), "one more and one less", err);
        }
    return r;
}

/* Members left out, lists emptied, and elements in each other's place. */
static int far_parts(struct making *m, json_t *answer, json_t *at, struct agon_err *err)
{
    size_t n = json_array_size(at);
    int r = 0;
    if (n > 0) {
        json_auto_t *all = json_copy(at);
        json_array_clear(at);
        r = mutants_whole(m, answer, "an empty list", err);
        json_array_extend(at, all);
    }
    for (size_t i = 0; i < n && n > 1 && i < FAR_LEAVES_MAX && !r; i++) {
        json_auto_t *one = json_incref(json_array_get(at, i));
        json_array_set(at, i, json_array_get(at, (i + 1) % n));
        r = mutants_whole(m, answer, "an element in the place of another", err);
        json_array_set(at, i, one);
    }
    for (size_t i = 0; i < n && i < FAR_LEAVES_MAX && !r; i++)
        r = far_parts(m, answer, json_array_get(at, i), err);
    json_auto_t *members =
        json_copy(at); /* the order of what stands stays: each is put back last */
    const char *key;
    json_t *value;
    if (!json_is_object(at))
        return r;
    json_object_foreach(members, key, value)
    {
        char what[320];
        if (r || (r = far_parts(m, answer, value, err)))
            break;
        json_object_del(at, key);
        snprintf(what, sizeof(what), "%.200s left out", key);
        r = mutants_whole(m, answer, what, err);
        json_object_set(at, key, value);
    }
    return r;
}

int mutants_far(struct making *m, json_t *answer, struct agon_err *err)
{
    int r = far_leaves(m, err);
    if (!r)
        r = far_pairs(m, err);
    return r ? r : far_parts(m, answer, answer, err);
}
