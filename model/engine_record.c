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

/* The n_kept largest, the lowest id first on ties: what the sampler kept, by its definition. */
static bool record_kept(struct agon_sequence *s, int n_kept, const float *logits, int n,
                        uint32_t *scratch)
{
    if (!engine_grow(&s->kept, &s->kept_capacity, s->n_kept + n_kept, sizeof(*s->kept)))
        return false;
    s->n_kept += s->engine->kernels->topk(s->kept + s->n_kept, logits, n, n_kept, scratch);
    s->kept_at[s->n_drawn + 1] = s->n_kept;
    return true;
}

static void record_top(struct agon_sequence *s, const struct agon_sample *sample,
                       const float *logits, int n, uint32_t *scratch)
{
    int ids[AGON_TOP_MAX], n_top = s->generation.n_top;
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

bool sequence_record(struct agon_sequence *s, const struct agon_sample *sample, const float *logits,
                     int n, void *scratch)
{
    const struct agon_generation *g = &s->generation;
    if (g->n_top > 0)
        record_top(s, sample, logits, n, scratch);
    if (!(g->record & AGON_TRACE_MASK))
        return true;
    if (cuts(&g->sample, n))
        return record_kept(s, sample->n_kept, logits, n, scratch);
    s->kept_at[s->n_drawn + 1] = 0;
    return true;
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

bool agon_sequence_experts(const struct agon_sequence *s, int begin, int end, uint16_t *ret)
{
    const struct agon_cache *cache = &s->engine->cache;
    size_t n = (size_t)cache->n_experts;
    if (!(s->engine->record & AGON_TRACE_ROUTING) || end > s->n_cached)
        return false;
    for (int p = begin; p < end; p++)
        memcpy(ret + (size_t)(p - begin) * n,
               agon_page_experts(cache, s->pages[p / AGON_PAGE], p % AGON_PAGE), n * sizeof(*ret));
    return true;
}

bool agon_sequence_selected(const struct agon_sequence *s, int begin, int end, int32_t *ret)
{
    const struct agon_cache *cache = &s->engine->cache;
    size_t n = (size_t)cache->n_selected;
    if (!(s->engine->record & AGON_TRACE_INDEXER) || end > s->n_cached)
        return false;
    for (int p = begin; p < end; p++)
        memcpy(ret + (size_t)(p - begin) * n,
               agon_page_selected(cache, s->pages[p / AGON_PAGE], p % AGON_PAGE), n * sizeof(*ret));
    return true;
}

const struct agon_engine *agon_sequence_engine(const struct agon_sequence *s)
{
    return s->engine;
}
