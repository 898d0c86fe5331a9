/*
 * Answers of an audit: those that no gate asks about, and all of them once more where rows
 * come in another order and the page cache is small.
 */
#include "base/json.h"
#include "verifiers/audit_internal.h"
#include "verifiers/mutants.h"

#include <stdlib.h>
#include <string.h>

enum {
    TEXTS_BYTES_MAX = 64 << 20,
    BATCH_ANSWERS = 1000, /* in one request, whose fuel is bounded (ops.c) */
    CUTS = 12,
    SHUFFLES = 12,
    SMALL_CACHE_KIB = 16,
};

void audit_answers_deinit(struct audit_answers *a)
{
    for (int i = 0; i < a->n; i++)
        json_decref(a->items[i].writes);
    free(a->items);
    agon_buf_deinit(&a->texts);
    *a = (struct audit_answers){0};
}

int audit_keep(struct audit_answers *a, struct agon_str text, const json_t *writes,
               struct agon_err *err)
{
    if (a->n == a->capacity) {
        int capacity = a->capacity ? 2 * a->capacity : 256;
        struct audit_answer *items = realloc(a->items, (size_t)capacity * sizeof(*items));
        if (!items)
            return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
        a->items = items;
        a->capacity = capacity;
    }
    a->texts.size_max = TEXTS_BYTES_MAX;
    a->items[a->n++] =
        (struct audit_answer){a->texts.size, text.size, json_incref((json_t *)(uintptr_t)writes)};
    agon_buf_add_str(&a->texts, text);
    return agon_buf_check(&a->texts, "audit", err);
}

static struct agon_str answer_text(const struct audit_answers *a, int i)
{
    return (struct agon_str){a->texts.data + a->items[i].offset, a->items[i].size};
}

/* Judge items from..from+n of `a` in this place; ret is the caller's to deinit. AGON_REJECTED, and
 * a finding, where the verifier takes too much for that. */
static int judge(struct audit_task *t, const struct audit_answers *a, int from, int n, int place,
                 bool reverse, int cache_kib, struct agon_trial *ret, struct agon_err *err)
{
    struct agon_trial_item items[BATCH_ANSWERS];
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    for (int i = 0; i < n; i++)
        items[i] = (struct agon_trial_item){answer_text(a, from + i), a->items[from + i].writes};
    struct agon_trial_input input = {
        .reverse = reverse,
        .cache_kib = cache_kib,
        .answer_schema = t->task->answer_schema,
        .verifier = agon_str(t->task->verifier),
        .items = items,
        .n_items = n,
    };
    int r = agon_trial(t->places[place], &input, ret, &reason, err);
    if (r > 0)
        audit_find(t, "budget", true, "%s", agon_buf_text(&reason));
    return r;
}

/* ---- more answers ---- */

static int keep_json(struct audit_answers *a, json_t *value_taken, const json_t *writes,
                     struct agon_err *err)
{
    json_auto_t *value = value_taken;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(AUDIT_ANSWER_BYTES_MAX);
    agon_json_dump(&text, value);
    int r = agon_buf_check(&text, "audit", err);
    return r ? r : audit_keep(a, agon_buf_str(&text), writes, err);
}

/* The text cut short, doubled, with something behind it, and as a text within a text. */
static int more_broken(struct audit_answers *a, struct agon_str golden, const json_t *writes,
                       struct agon_err *err)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(AUDIT_ANSWER_BYTES_MAX);
    int r = 0;
    for (size_t i = 1; i < CUTS && !r; i++)
        r = audit_keep(a, (struct agon_str){golden.data, golden.size * i / CUTS}, writes, err);
    agon_buf_add_str(&text, golden);
    agon_buf_add_str(&text, golden);
    if (!r)
        r = audit_keep(a, agon_buf_str(&text), writes, err);
    return r ? r : keep_json(a, json_stringn(golden.data, golden.size), writes, err);
}

/* An object without one of its keys, with one more, and inside a list. */
static int more_keys(struct audit_answers *a, const json_t *golden, const json_t *writes,
                     struct agon_err *err)
{
    const char *key;
    json_t *value, *more = json_copy((json_t *)(uintptr_t)golden);
    int r = 0;
    json_object_foreach((json_t *)(uintptr_t)golden, key, value)
    {
        json_t *less = json_copy((json_t *)(uintptr_t)golden);
        json_object_del(less, key);
        if (!r)
            r = keep_json(a, less, writes, err);
        else
            json_decref(less);
    }
    if (json_is_object(more))
        json_object_set_new(more, "pass", json_true());
    if (!r)
        r = keep_json(a, more, writes, err);
    else
        json_decref(more);
    return r ? r : keep_json(a, json_pack("[O]", golden), writes, err);
}

/* Leaves of one type dealt anew among their places. */
static int more_shuffled(struct audit_answers *a, const struct agon_template *t,
                         struct agon_rng *rng, const json_t *writes, struct agon_err *err)
{
    struct agon_template shuffled = *t;
    int r = 0;
    shuffled.leaves = calloc((size_t)t->n_leaves + 1, sizeof(*shuffled.leaves));
    if (!shuffled.leaves)
        return agon_fail(err, AGON_ENOMEM, "audit: out of memory");
    uint32_t own[AGON_LEAVES_MAX];
    memset(own, 0xff, sizeof(own)); /* UINT32_MAX: the leaf's own value */
    memcpy(shuffled.leaves, t->leaves, (size_t)t->n_leaves * sizeof(*t->leaves));
    for (int k = 0; k < SHUFFLES && t->n_leaves > 1 && !r; k++) {
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(AUDIT_ANSWER_BYTES_MAX);
        for (int i = t->n_leaves - 1; i > 0; i--) {
            int j = (int)agon_rng_below(rng, (uint32_t)i + 1);
            struct agon_leaf *x = &shuffled.leaves[i], *y = &shuffled.leaves[j];
            if (json_typeof(x->value) != json_typeof(y->value))
                continue;
            json_t *value = x->value;
            x->value = y->value;
            y->value = value;
        }
        agon_template_fill(&shuffled, own, &text);
        if (!(r = agon_buf_check(&text, "audit", err)))
            r = audit_keep(a, agon_buf_str(&text), writes, err);
    }
    free(shuffled.leaves);
    return r;
}

/* What passes here and says something else than the golden answer is a false accept. */
static int more_judged(struct audit_task *t, const struct audit_answers *a, struct agon_err *err)
{
    struct agon_trial trial AGON_AUTO(agon_trial_deinit) = {0};
    uint64_t golden_changes = 0;
    int r = judge(t, a, 0, a->n, 0, false, 0, &trial, err);
    if (!r && trial.n_briefs)
        golden_changes = trial.briefs[0].changes; /* the first is the golden answer itself */
    for (int i = 1; i < a->n && !r; i++) {
        json_auto_t *answer = NULL;
        const struct agon_brief *b = &trial.briefs[i];
        if (b->pass)
            r = agon_json_parse(&answer, answer_text(a, i), err);
        bool same = b->pass && b->changes == golden_changes &&
                    agon_answers_same(json_object_get(t->task->golden, "answer"), answer,
                                      t->task->answer_schema);
        struct agon_gate_judged judged = {"an audit's answer", answer_text(a, i),
                                          a->items[i].writes, b, !same};
        audit_count(t, 0, &judged);
    }
    return r;
}

int audit_more_answers(struct audit_task *t, struct agon_err *err)
{
    const json_t *golden = json_object_get(t->task->golden, "answer"),
                 *writes = json_object_get(t->task->golden, "writes");
    struct audit_answers more AGON_AUTO(audit_answers_deinit) = {0};
    struct agon_template template AGON_AUTO(agon_template_deinit) = {0};
    struct agon_columns none AGON_AUTO(agon_columns_deinit) = {.values = json_object()};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(AUDIT_ANSWER_BYTES_MAX);
    struct agon_rng rng;
    agon_rng_init(&rng, t->options->seed);
    agon_json_dump(&text, golden);
    int r = agon_buf_check(&text, "audit", err);
    if (!r)
        r = agon_template_init(&template, golden, t->task->answer_schema, &none, err);
    if (!r)
        r = audit_keep(&more, agon_buf_str(&text), writes, err);
    if (!r)
        r = more_broken(&more, agon_buf_str(&text), writes, err);
    if (!r)
        r = more_keys(&more, golden, writes, err);
    if (!r)
        r = more_shuffled(&more, &template, &rng, writes, err);
    for (int i = 0; i < t->env->n_tasks && !r; i++) { /* the answers of the other tasks */
        const json_t *other = t->env->tasks[i].golden;
        if (other && &t->env->tasks[i] != t->task && more.n + 1 < BATCH_ANSWERS)
            r = keep_json(&more, json_incref(json_object_get(other, "answer")),
                          json_object_get(other, "writes"), err);
    }
    return r ? r : more_judged(t, &more, err);
}

/* ---- again, elsewhere ---- */

static bool same_brief(const struct agon_brief *a, const struct agon_brief *b)
{
    return a->pass == b->pass && a->schema == b->schema && a->replay == b->replay &&
           a->unclaimed == b->unclaimed && a->failed == b->failed && a->changes == b->changes;
}

/* Which of the two it was that made this answer's verdict another one. */
static int name_cause(struct audit_task *t, int i, const struct agon_brief *usual,
                      struct agon_err *err)
{
    struct agon_trial reversed AGON_AUTO(agon_trial_deinit) = {0},
                               cached AGON_AUTO(agon_trial_deinit) = {0};
    int r = judge(t, &t->answers, i, 1, 0, true, 0, &reversed, err);
    if (!r)
        r = judge(t, &t->answers, i, 1, 0, false, SMALL_CACHE_KIB, &cached, err);
    if (r)
        return r;
    bool order = !same_brief(usual, &reversed.briefs[0]),
         cache = !same_brief(usual, &cached.briefs[0]);
    struct agon_str text = answer_text(&t->answers, i);
    audit_find(
        t,
        order   ? "order"
        : cache ? "cache"
                : "process",
        true,
        "%s: the verdict is another one %s; give every query of tools and checks an ORDER BY "
        "over a key, so that nothing depends on it (answer %.*s)",
        t->task->id,
        order   ? "with unordered rows reversed"
        : cache ? "with a small page cache"
                : "in another process",
        (int)(text.size < 200 ? text.size : 200), text.data);
    return 0;
}

int audit_judge_again(struct audit_task *t, struct agon_err *err)
{
    const struct audit_answers *a = &t->answers;
    int place = t->options->n_places > 1 ? 1 : 0, r = 0;
    bool found = false;
    for (int from = 0; from < a->n && !r && !found; from += BATCH_ANSWERS) {
        struct agon_trial usual AGON_AUTO(agon_trial_deinit) = {0},
                                again AGON_AUTO(agon_trial_deinit) = {0};
        int n = a->n - from < BATCH_ANSWERS ? a->n - from : BATCH_ANSWERS;
        if ((r = judge(t, a, from, n, 0, false, 0, &usual, err)) ||
            (r = judge(t, a, from, n, place, true, SMALL_CACHE_KIB, &again, err)))
            break;
        for (int i = 0; i < n && !found && !r; i++) {
            found = !same_brief(&usual.briefs[i], &again.briefs[i]);
            if (found)
                r = name_cause(t, from + i, &usual.briefs[i], err);
        }
    }
    json_object_set_new(t->card, "rejudged", json_integer(a->n));
    return r;
}
