/* Answers and writes near the golden ones: see mutants.h. */
#include "verifiers/mutants_internal.h"

#include "base/json.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_BYTES_MAX = 1 << 20, WHAT_BYTES_MAX = 320 };

/* ---- the same or not ---- */

static bool numbers_same(const json_t *a, const json_t *b, const json_t *schema)
{
    double x = json_number_value(a), y = json_number_value(b),
           tolerance = json_number_value(json_object_get(schema, "tolerance"));
    if (json_is_integer(a) && json_is_integer(b) && !(tolerance > 0))
        return json_integer_value(a) == json_integer_value(b);
    return fabs(x - y) <= fmax(tolerance, 1e-9 * fmax(fabs(x), fabs(y)));
}

bool agon_answers_same(const json_t *a, const json_t *b, const json_t *schema)
{
    const char *key;
    json_t *value;
    bool same = true;
    if (json_is_number(a) && json_is_number(b))
        return numbers_same(a, b, schema);
    if (json_is_array(a) && json_is_array(b)) {
        size_t n = json_array_size(a);
        same = n == json_array_size(b);
        for (size_t i = 0; same && i < n; i++)
            same = agon_answers_same(json_array_get(a, i), json_array_get(b, i),
                                     json_object_get(schema, "items"));
        return same;
    }
    if (!json_is_object(a) || !json_is_object(b))
        return json_equal(a, b);
    const json_t *properties = json_object_get(schema, "properties");
    json_object_foreach((json_t *)(uintptr_t)a, key, value) same =
        same && json_object_get(b, key) &&
        agon_answers_same(value, json_object_get(b, key), json_object_get(properties, key));
    return same && json_object_size(a) == json_object_size(b);
}

/* ---- mutants of an answer ---- */

int mutants_emit(struct making *m, const char *what, struct agon_err *err)
{
    int r = agon_buf_check(&m->text, "mutant", err);
    if (!r && !agon_str_equal(agon_buf_str(&m->text), agon_buf_str(&m->golden)))
        r = m->fn(m->user, what, agon_buf_str(&m->text), m->writes, err);
    agon_buf_reset(&m->text);
    return r;
}

int mutants_leaf(struct making *m, int i, json_t *value_taken, struct agon_err *err)
{
    return mutants_leaf_by(m, i, value_taken, "", err);
}

int mutants_leaf_by(struct making *m, int i, json_t *value_taken, const char *by,
                    struct agon_err *err)
{
    json_auto_t *value = value_taken;
    for (int j = 0; j < m->t->n_leaves; j++) {
        agon_buf_adds(&m->text, m->t->segments[j]);
        agon_json_dump(&m->text, i == j ? value : m->t->leaves[j].value);
    }
    agon_buf_adds(&m->text, m->t->segments[m->t->n_leaves]);
    char what[WHAT_BYTES_MAX];
    snprintf(what, sizeof(what), "%s replaced%s",
             m->t->leaves[i].path[0] ? m->t->leaves[i].path : "the answer", by);
    return mutants_emit(m, what, err);
}

/* A computed number: one more, one less, doubled, negated. */
static int mutants_number(struct making *m, int i, struct agon_err *err)
{
    const json_t *value = m->t->leaves[i].value;
    json_int_t n = json_integer_value(value);
    double x = json_real_value(value);
    bool whole = json_is_integer(value);
    json_t *made[] = {
        whole ? json_integer(n + 1) : json_real(x + 1),
        whole ? json_integer(n - 1) : json_real(x - 1),
        whole ? json_integer(2 * n) : json_real(2 * x),
        whole ? json_integer(-n) : json_real(-x),
    };
    int r = 0;
    for (size_t k = 0; k < sizeof(made) / sizeof(*made); k++) {
        if (r)
            json_decref(made[k]);
        else
            r = mutants_leaf(m, i, made[k], err);
    }
    return r;
}

/* A text that no column holds: a little longer, and what the other leaves say. */
static int mutants_text(struct making *m, int i, struct agon_err *err)
{
    const struct agon_leaf *leaf = &m->t->leaves[i];
    int r = mutants_leaf(m, i, json_sprintf("%s?", json_string_value(leaf->value)), err);
    for (int j = 0; j < m->t->n_leaves && !r; j++)
        if (json_is_string(m->t->leaves[j].value))
            r = mutants_leaf(m, i, json_incref(m->t->leaves[j].value), err);
    return r;
}

static int mutants_one_leaf(struct making *m, const struct agon_mutant_options *options,
                            struct agon_err *err)
{
    int n_leaves = m->t->n_leaves, r = 0;
    uint32_t share = (uint32_t)(options->one_leaf_max / (n_leaves ? n_leaves : 1)) + 1;
    for (int i = 0; i < n_leaves && !r; i++) {
        const struct agon_leaf *leaf = &m->t->leaves[i];
        uint32_t n = agon_leaf_count(leaf);
        if (leaf->computed)
            r = mutants_number(m, i, err);
        else if (n == 1 && json_is_string(leaf->value))
            r = mutants_text(m, i, err);
        else
            for (uint32_t k = 0; k < n && k < share && !r; k++) /* evenly over the domain */
                r = mutants_leaf(
                    m, i,
                    agon_leaf_value(leaf, n <= share ? k : (uint32_t)((uint64_t)k * n / share)),
                    err);
    }
    return r;
}

int mutants_whole(struct making *m, const json_t *answer, const char *what, struct agon_err *err)
{
    agon_json_dump(&m->text, answer);
    return mutants_emit(m, what, err);
}

/* Elements of `list` (inside answer, both private copies) dropped, doubled, swapped; the list is
 * put back each time. */
static int mutants_list(struct making *m, json_t *answer, json_t *list, struct agon_err *err)
{
    int r = 0;
    for (size_t i = 0; i < json_array_size(list) && !r; i++) {
        json_auto_t *one = json_incref(json_array_get(list, i));
        json_array_remove(list, i);
        r = mutants_whole(m, answer, "an element dropped", err);
        json_array_insert(list, i, one);
        if (r)
            break;
        json_array_insert(list, i, one);
        r = mutants_whole(m, answer, "an element doubled", err);
        json_array_remove(list, i);
        if (r || i + 1 == json_array_size(list))
            continue;
        json_auto_t *next = json_incref(json_array_get(list, i + 1));
        json_array_set(list, i, next);
        json_array_set(list, i + 1, one);
        r = mutants_whole(m, answer, "two elements swapped", err);
        json_array_set(list, i, one);
        json_array_set(list, i + 1, next);
    }
    return r;
}

static int mutants_lists(struct making *m, json_t *answer, json_t *at, struct agon_err *err)
{
    int r = 0;
    if (json_is_array(at)) {
        r = mutants_list(m, answer, at, err);
        for (size_t i = 0; i < json_array_size(at) && !r; i++)
            r = mutants_lists(m, answer, json_array_get(at, i), err);
    }
    const char *key;
    json_t *value;
    json_object_foreach(at, key, value) if (!r) r = mutants_lists(m, answer, value, err);
    return r;
}

static int mutants_two_leaves(struct making *m, int n, struct agon_rng *rng, struct agon_err *err)
{
    uint32_t indices[AGON_LEAVES_MAX];
    int n_leaves = m->t->n_leaves, r = 0;
    for (int k = 0; k < n && n_leaves > 1 && !r; k++) {
        for (int i = 0; i < n_leaves; i++)
            indices[i] = UINT32_MAX;
        for (int i = 0; i < 2; i++) {
            uint32_t leaf = agon_rng_below(rng, (uint32_t)n_leaves);
            indices[leaf] = agon_rng_below(rng, agon_leaf_count(&m->t->leaves[leaf]));
        }
        agon_template_fill(m->t, indices, &m->text);
        r = mutants_emit(m, "two leaves replaced", err);
    }
    return r;
}

int agon_mutants_answer(const json_t *answer, const struct agon_template *t, const json_t *writes,
                        const struct agon_mutant_options *options, struct agon_rng *rng,
                        agon_mutant_fn fn, void *user, struct agon_err *err)
{
    struct making m = {.t = t,
                       .writes = writes,
                       .golden = AGON_BUF(ANSWER_BYTES_MAX),
                       .text = AGON_BUF(ANSWER_BYTES_MAX),
                       .fn = fn,
                       .user = user};
    json_auto_t *copy = json_deep_copy(answer);
    agon_json_dump(&m.golden, answer);
    int r = copy ? agon_buf_check(&m.golden, "answer", err)
                 : agon_fail(err, AGON_ENOMEM, "mutants: out of memory");
    if (!r)
        r = mutants_one_leaf(&m, options, err);
    if (!r)
        r = mutants_lists(&m, copy, copy, err);
    if (!r)
        r = mutants_two_leaves(&m, options->two_leaf, rng, err);
    if (!r)
        r = mutants_near(&m, err);
    if (!r && options->far)
        r = mutants_far(&m, copy, err);
    if (!r && options->held)
        r = mutants_held(&m, copy, options, err);
    agon_buf_deinit(&m.golden);
    agon_buf_deinit(&m.text);
    return r;
}

/* ---- mutants of writes ---- */

struct write_making {
    struct agon_str answer;
    const json_t *writes;
    agon_mutant_fn fn;
    void *user;
};

static int write_emit(struct write_making *m, const char *what, json_t *writes_taken,
                      struct agon_err *err)
{
    json_auto_t *writes = writes_taken;
    if (!writes)
        return agon_fail(err, AGON_ENOMEM, "mutants: out of memory");
    return m->fn(m->user, what, m->answer, writes, err);
}

static int mutants_calls(struct write_making *m, struct agon_err *err)
{
    size_t n = json_array_size(m->writes);
    int r = n > 1 ? write_emit(m, "no write made", json_array(), err) : 0;
    for (size_t i = 0; i < n && !r; i++) {
        json_t *dropped = json_copy((json_t *)(uintptr_t)m->writes);
        json_array_remove(dropped, i);
        r = write_emit(m, "a write dropped", dropped, err);
        if (r)
            break;
        json_t *doubled = json_copy((json_t *)(uintptr_t)m->writes);
        json_array_insert(doubled, i, json_array_get(m->writes, i));
        r = write_emit(m, "a write made twice", doubled, err);
    }
    return r;
}

/* Argument leaf `leaf` of the writes' template replaced by this value, whose reference is taken. */
static int mutant_argument(struct write_making *m, const struct agon_template *t, int leaf,
                           json_t *value_taken, struct agon_err *err)
{
    json_auto_t *value = value_taken, *writes = NULL;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(ANSWER_BYTES_MAX);
    for (int i = 0; i < t->n_leaves; i++) {
        agon_buf_adds(&text, t->segments[i]);
        agon_json_dump(&text, i == leaf ? value : t->leaves[i].value);
    }
    agon_buf_adds(&text, t->segments[t->n_leaves]);
    int r = agon_buf_check(&text, "mutant", err);
    if (!r)
        r = agon_json_parse(&writes, agon_buf_str(&text), err);
    if (r || json_equal(writes, m->writes))
        return r;
    return write_emit(m, "an argument of a write replaced", AGON_STEAL(writes), err);
}

/* Values that no column holds and a lenient check takes for the right one. */
static int near_argument(struct write_making *m, const struct agon_template *t, int leaf,
                         struct agon_err *err)
{
    const json_t *value = t->leaves[leaf].value;
    if (json_is_string(value)) {
        json_t *other = mutants_other_case(json_string_value(value));
        int r = other ? mutant_argument(m, t, leaf, other, err) : 0;
        return r ? r
                 : mutant_argument(m, t, leaf, json_sprintf("%s ", json_string_value(value)), err);
    }
    if (!json_is_integer(value))
        return 0;
    json_int_t n = json_integer_value(value), made[] = {n + 1, n - 1, -n, n + 10000};
    int r = 0;
    for (size_t k = 0; k < sizeof(made) / sizeof(*made) && !r; k++)
        r = mutant_argument(m, t, leaf, json_integer(made[k]), err);
    return r;
}

int agon_mutants_writes(const json_t *answer, const json_t *writes,
                        const struct agon_columns *columns, int args_max, agon_mutant_fn fn,
                        void *user, struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(ANSWER_BYTES_MAX);
    agon_json_dump(&text, answer);
    struct write_making m = {
        .answer = agon_buf_str(&text), .writes = writes, .fn = fn, .user = user};
    int r = agon_buf_check(&text, "answer", err);
    if (!r)
        r = mutants_calls(&m, err);
    if (r)
        return r;

    struct agon_template t AGON_AUTO(agon_template_deinit) = {0};
    if ((r = agon_template_init(&t, writes, NULL, columns, err)))
        return r;
    uint32_t share = (uint32_t)(args_max / (t.n_leaves ? t.n_leaves : 1)) + 1;
    for (int i = 0; i < t.n_leaves && !r; i++) {
        const char *path = t.leaves[i].path;
        size_t size = strlen(path);
        if (size >= 5 && !strcmp(path + size - 5, ".tool") && !strstr(path, ".arguments"))
            continue; /* which tool is called is no argument */
        uint32_t n = agon_leaf_count(&t.leaves[i]);
        for (uint32_t k = 0; k < n && k < share && !r; k++)
            r = mutant_argument(
                &m, &t, i,
                agon_leaf_value(&t.leaves[i], n <= share ? k : (uint32_t)((uint64_t)k * n / share)),
                err);
        if (!r)
            r = near_argument(&m, &t, i, err);
    }
    return r;
}
