/*
 * What a sequence records while it draws (kept sets, likeliest ids), and what its pages have
 * recorded of each position: engine.h. Costs nothing where it is not asked for.
 */
#include "model/engine_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- while drawing ------------------------------------------------------------------ */

bool sequence_record_begin(struct agon_sequence *s, int n)
{
    const struct agon_generation *g = &s->generation;
    s->n_kept = 0;
    if (g->record & AGON_TRACE_MASK) {
        if (!engine_grow(&s->kept_at, &s->kept_at_capacity, n + 1, sizeof(*s->kept_at)))
            return false;
        s->kept_at[0] = 0;
    }
    return g->n_top == 0 || engine_grow(&s->top, &s->top_capacity, n * g->n_top, sizeof(*s->top));
}

void sequence_record_free(struct agon_sequence *s)
{
    free(s->kept);
    free(s->kept_at);
    free(s->top);
}

/* Could the cuts leave anything out? If not, a mask of all ids for each id drawn says nothing. */
static bool cuts(const struct agon_sample_options *o, int n)
{
    return o->temperature <= 0 || o->top_p < 1 || (o->top_k > 0 && o->top_k < n);
}

bool sequence_records_kept(const struct agon_sequence *s)
{
    const struct agon_generation *g = &s->generation;
    int n = g->n_ids > 0 ? g->n_ids : s->engine->checkpoint->config.n_vocab;
    return (g->record & AGON_TRACE_MASK) && cuts(&g->sample, n);
}

bool sequence_record_kept(struct agon_sequence *s, const int *ids, int n)
{
    if (!(s->generation.record & AGON_TRACE_MASK))
        return true;
    if (!sequence_records_kept(s))
        n = 0;
    if ((n > 0 && !ids) ||
        !engine_grow(&s->kept, &s->kept_capacity, s->n_kept + n, sizeof(*s->kept)))
        return false;
    if (n > 0)
        memcpy(s->kept + s->n_kept, ids, (size_t)n * sizeof(*ids));
    s->n_kept += n;
    s->kept_at[s->n_drawn + 1] = s->n_kept;
    return true;
}

void sequence_record_top(struct agon_sequence *s, const struct agon_sample *sample,
                         const float *logits, int n, void *scratch)
{
    int ids[AGON_TOP_MAX], n_top = s->generation.n_top;
    if (n_top == 0)
        return;
    struct agon_top *to = s->top + (size_t)s->n_drawn * (size_t)n_top;
    double log_sum = logits[sample->id] - sample->logprob_raw;
    int n_found = s->engine->kernels->topk(ids, logits, n, n_top, scratch);
    for (int i = 0; i < n_top; i++) {
        int id = i < n_found ? ids[i] : -1, at = i;
        struct agon_top top = {id, id < 0 ? 0 : (float)(logits[id] - log_sum)};
        for (; at > 0 && id >= 0 && logits[to[at - 1].id] < logits[id]; at--)
            to[at] = to[at - 1];
        to[at] = top;
    }
}

/* The n_kept largest, the lowest id first on ties: what the sampler kept, by its definition. */
bool sequence_record(struct agon_sequence *s, const struct agon_sample *sample, const float *logits,
                     int n, void *scratch)
{
    sequence_record_top(s, sample, logits, n, scratch);
    if (!sequence_records_kept(s))
        return sequence_record_kept(s, NULL, 0);
    int *kept = (int *)scratch + n; /* AGON_SAMPLE_SCRATCH has room for both */
    int n_kept = s->engine->kernels->topk(kept, logits, n, sample->n_kept, scratch);
    return sequence_record_kept(s, kept, n_kept);
}

const int *agon_sequence_kept(const struct agon_sequence *s, int i, int *ret_n)
{
    if (!(s->generation.record & AGON_TRACE_MASK) || s->n_kept == 0)
        return NULL;
    *ret_n = s->kept_at[i + 1] - s->kept_at[i];
    return s->kept + s->kept_at[i];
}

const struct agon_top *agon_sequence_top(const struct agon_sequence *s, int i)
{
    return s->top + (size_t)i * (size_t)s->generation.n_top;
}

/* ---- in the pages ------------------------------------------------------------------- */

/* Positions of [p, end) that stand in the page of p. */
static int page_share(const struct agon_sequence *s, int p, int end)
{
    int page = s->engine->cache.page, n = page - p % page;
    return n < end - p ? n : end - p;
}

bool agon_sequence_experts(const struct agon_sequence *s, int begin, int end, uint16_t *ret)
{
    struct agon_engine *e = s->engine;
    int page = e->cache.page, n;
    if (!(e->record & AGON_TRACE_ROUTING) || end > s->n_cached)
        return false;
    for (int p = begin; p < end; p += n, ret += (size_t)n * (size_t)e->cache.n_experts) {
        n = page_share(s, p, end);
        if (e->compute->ops->experts(e, s->pages[p / page], p % page, n, ret, &e->failure))
            return false;
    }
    return true;
}

bool agon_sequence_selected(const struct agon_sequence *s, int begin, int end, int32_t *ret)
{
    struct agon_engine *e = s->engine;
    int page = e->cache.page, n;
    if (!(e->record & AGON_TRACE_INDEXER) || end > s->n_cached)
        return false;
    for (int p = begin; p < end; p += n, ret += (size_t)n * (size_t)e->cache.n_selected) {
        n = page_share(s, p, end);
        if (e->compute->ops->selected(e, s->pages[p / page], p % page, n, ret, &e->failure))
            return false;
    }
    return true;
}

const struct agon_engine *agon_sequence_engine(const struct agon_sequence *s)
{
    return s->engine;
}
