/*
 * Gate 5: every check bites. The pool of answers, judged in batches: the author's wrong
 * answers, gate 4's mutants, mutants of the writes, gate 3's nonsense, and gate 9's draws
 * where those do not do. A check bites when one of them fails it alone: were the
 * check not there, that answer would pass.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    BATCH_ITEMS = 10000,   /* gate 9's draws in one request, whose fuel is bounded (ops.c) */
    BATCH_BYTES = 4 << 20, /* of answers; flushed before it grows further */
    SURVIVORS_MAX = 20,    /* of evidence */
    ONE_LEAF_MAX = 600,
    TWO_LEAF_DRAWS = 400,
    WRITE_ARGUMENTS_MAX = 300,
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

static uint64_t gate_all_checks(const struct gate_run *g)
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
static int gate_bite(struct gate_run *g, const struct gate_judged *judged, struct agon_err *err)
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
    int r = agon_trial(g->in->rt, &input, &t, &reason, err);
    if (r == AGON_REJECTED)
        return gate_refuse(g, "%s", agon_buf_text(&reason)); /* too slow, most likely */
    for (int i = 0; i < b->n && !r; i++) {
        struct gate_judged judged = {b->items[i].what, items[i].answer, b->items[i].writes,
                                     &t.briefs[i]};
        r = gate_bite(g, &judged, err);
        if (!r)
            r = b->done(b->user, &judged, err);
    }
    batch_empty(b);
    return r;
}

/* ---- the pool ---- */

struct pool {
    struct gate_run *g;
    int n_mutants, n_survivors;
    json_t *survivors;
};

/* Under answers="many" another answer may be right: survivors are listed, not accused. */
static int pool_done(void *user, const struct gate_judged *judged, struct agon_err *err)
{
    struct pool *pool = user;
    pool->n_mutants++;
    if (!judged->brief->pass || pool->n_survivors++ >= SURVIVORS_MAX)
        return 0;
    json_t *answer = NULL;
    int r = agon_json_parse(&answer, judged->answer, err);
    if (!r && json_array_append_new(pool->survivors, json_pack("{s:o, s:s}", "answer", answer,
                                                               "mutation", judged->what)))
        r = agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    return r;
}

static int wrong_done(void *user, const struct gate_judged *judged, struct agon_err *err)
{
    (void)err;
    if (!judged->brief->pass)
        return 0;
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    gate_example(&example, judged->answer);
    return gate_refuse(user, "the verifier accepts what you handed in as wrong: %s",
                       agon_buf_text(&example));
}

static int pool_wrong(struct gate_run *g, struct agon_err *err)
{
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    int r = gate_batch_new(&batch, g, wrong_done, g, err);
    size_t i;
    json_t *one;
    json_array_foreach(g->in->wrong, i, one)
    {
        const json_t *answer = json_object_get(one, "answer"),
                     *writes = json_object_get(one, "writes");
        if (r)
            break;
        if (!answer || (writes && !json_is_array(writes)))
            return gate_refuse(
                g, "wrong answer %zu is no object with 'answer' and, if it writes, a list 'writes'",
                i + 1);
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        agon_json_dump(&text, answer);
        if (!(r = agon_buf_check(&text, "wrong answer", err)))
            r = gate_batch_add(batch, "handed in", agon_buf_str(&text), writes, err);
    }
    return r ? r : gate_batch_flush(batch, err);
}

static int pool_mutants(struct gate_run *g, struct agon_err *err)
{
    const struct agon_solved *run = &g->golden.run;
    struct pool pool = {.g = g, .survivors = json_array()};
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    struct agon_rng rng = agon_rng_split(&g->in->rng, agon_str("mutants"));
    struct agon_mutant_options options = {ONE_LEAF_MAX, TWO_LEAF_DRAWS};
    int r = gate_batch_new(&batch, g, pool_done, &pool, err);
    if (!r)
        r = agon_mutants_answer(run->answer, &g->answer, run->writes, &options, &rng,
                                gate_batch_add, batch, err);
    if (!r && json_array_size(run->writes))
        r = agon_mutants_writes(run->answer, run->writes, &g->columns, WRITE_ARGUMENTS_MAX,
                                gate_batch_add, batch, err);
    if (!r)
        r = gate_batch_flush(batch, err);
    json_object_set_new(g->report->evidence, "mutants", json_integer(pool.n_mutants));
    json_object_set_new(g->report->evidence, "n_survivors", json_integer(pool.n_survivors));
    json_object_set_new(g->report->evidence, "survivors", pool.survivors);
    return r;
}

int gate_bites(struct gate_run *g, struct agon_err *err)
{
    uint64_t all = gate_all_checks(g);
    int r = gate_prepare(g, err);
    if (!r)
        r = pool_wrong(g, err);
    if (!r)
        r = pool_mutants(g, err);
    if (!r && g->bitten != all)
        r = gate_guesses_make(g, err);
    json_object_set_new(g->report->evidence, "checks",
                        json_integer(__builtin_popcountll(g->bitten)));
    if (r || g->bitten == all)
        return r;
    int first = __builtin_ctzll(~g->bitten);
    return gate_refuse(g,
                       "no wrong answer that was tried fails check '%s' alone; hand one in under "
                       "'wrong' (the golden answer "
                       "changed so that only this check minds), or leave the check out",
                       g->checks.checks[first].name);
}
