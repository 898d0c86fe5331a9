/*
 * Answers judged in batches, for every gate that judges many. Whatever is judged also
 * counts for gate 5: the first answer that fails a check alone becomes its negative.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_ITEMS = 10000,   /* gate 9's draws in one request, whose fuel is bounded (ops.c) */
    BATCH_BYTES = 4 << 20, /* of answers; flushed before it grows further */
};

struct batch_item {
    const char *what; /* owned */
    size_t offset, size;
    json_t *writes;
};

struct gate_batch {
    struct gate_run *g;
    gate_done_fn done;
    void *user;
    struct agon_buf texts;
    struct batch_item items[BATCH_ITEMS];
    struct agon_trial_item trial[BATCH_ITEMS]; /* the same, for the request */
    int n;
};

int gate_batch_new(struct gate_batch **ret, struct gate_run *g, gate_done_fn done, void *user,
                   struct agon_err *err)
{
    struct gate_batch *b = calloc(1, sizeof(*b));
    if (!b)
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    b->g = g;
    b->done = done;
    b->user = user;
    b->texts = (struct agon_buf)AGON_BUF(BATCH_BYTES + GATE_ANSWER_BYTES_MAX);
    *ret = b;
    return 0;
}

static void batch_empty(struct gate_batch *b)
{
    for (int i = 0; i < b->n; i++) {
        free((char *)(uintptr_t)b->items[i].what);
        json_decref(b->items[i].writes);
    }
    b->n = 0;
    agon_buf_reset(&b->texts);
}

void gate_batch_free(struct gate_batch *b)
{
    if (!b)
        return;
    batch_empty(b);
    agon_buf_deinit(&b->texts);
    free(b);
}

int gate_batch_add(void *batch, const char *what, struct agon_str answer, const json_t *writes,
                   struct agon_err *err)
{
    struct gate_batch *b = batch;
    if (answer.size > GATE_ANSWER_BYTES_MAX)
        return agon_fail(err, AGON_EINPUT, "gates: an answer of %zu bytes", answer.size);
    struct batch_item *item = &b->items[b->n];
    *item = (struct batch_item){strdup(what), b->texts.size, answer.size,
                                json_incref((json_t *)(uintptr_t)writes)};
    agon_buf_add_str(&b->texts, answer);
    b->n++;
    int r = item->what ? agon_buf_check(&b->texts, "gates", err)
                       : agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    if (!r && (b->n == BATCH_ITEMS || b->texts.size > BATCH_BYTES))
        r = gate_batch_flush(b, err);
    return r;
}

uint64_t gate_all_checks(const struct gate_run *g)
{
    return g->checks.n_checks == 64 ? UINT64_MAX : (UINT64_C(1) << g->checks.n_checks) - 1;
}

/* Which check an answer fails alone, or -1: it would pass without it. */
static int failed_alone(const struct agon_brief *brief)
{
    if (brief->pass || brief->schema || brief->replay || brief->unclaimed ||
        __builtin_popcountll(brief->failed) != 1)
        return -1;
    return __builtin_ctzll(brief->failed);
}

/* Keep the first answer that fails a check alone, as the task's negative. */
static int gate_bite(struct gate_run *g, const struct agon_gate_judged *judged,
                     struct agon_err *err)
{
    int check = failed_alone(judged->brief);
    if (check < 0 || (g->bitten >> check & 1))
        return 0;
    json_t *answer = NULL;
    int r = agon_json_parse(&answer, judged->answer, err);
    if (r)
        return r;
    json_t *negative =
        json_pack("{s:o, s:s}", "answer", answer, "fails", g->checks.checks[check].name);
    if (json_array_size(judged->writes))
        json_object_set(negative, "writes", (json_t *)(uintptr_t)judged->writes);
    if (json_array_append_new(g->alone, negative))
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    g->bitten |= UINT64_C(1) << check;
    return 0;
}

/* An answer that passes may be the golden one in another writing, with writes that leave the same.
 */
static int judged_differs(const struct gate_run *g, struct agon_gate_judged *judged,
                          struct agon_err *err)
{
    json_auto_t *answer = NULL;
    int r = agon_json_parse(&answer, judged->answer, err);
    if (!r)
        judged->differs =
            judged->brief->changes != g->golden.own.changes ||
            !agon_answers_same(g->golden.run.answer, answer, g->in->task->answer_schema);
    return r;
}

int gate_batch_flush(struct gate_batch *b, struct agon_err *err)
{
    struct gate_run *g = b->g;
    if (!b->n)
        return 0;
    struct agon_trial_item *items = b->trial;
    for (int i = 0; i < b->n; i++)
        items[i] = (struct agon_trial_item){{b->texts.data + b->items[i].offset, b->items[i].size},
                                            b->items[i].writes};
    struct agon_trial_input input = {
        .answer_schema = g->in->task->answer_schema,
        .verifier = agon_str(g->in->task->verifier),
        .items = items,
        .n_items = b->n,
        /* Whether one check fails alone is all that is asked, and not even that once all have
           bitten. */
        .failed_max = g->bitten == gate_all_checks(g) ? 1 : 2,
    };
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    int r = gate_trial(g, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "%s", agon_buf_text(&reason)); /* too slow, most likely */
    for (int i = 0; i < b->n && !r; i++) {
        struct agon_gate_judged judged = {b->items[i].what, items[i].answer, b->items[i].writes,
                                          &t.briefs[i], true};
        if (judged.brief->pass)
            r = judged_differs(g, &judged, err);
        if (!r)
            r = gate_bite(g, &judged, err);
        if (!r && g->in->observe)
            g->in->observe(g->in->observer, g->gate->number, &judged);
        if (!r && b->done)
            r = b->done(b->user, &judged, err);
    }
    batch_empty(b);
    return r;
}
