/* Gathering a trace from the engine's sequence: see trace.h. */
#include "model/trace.h"

#include "model/engine.h"

#include <stdlib.h>
#include <string.h>

void agon_trace_free(struct agon_trace *t)
{
    if (!t)
        return;
    free(t->ids);
    free(t->logprobs);
    free(t->logprobs_raw);
    free(t->mask_ids);
    free(t->mask_offsets);
    free(t->experts);
    free(t->selected);
    free(t);
}

static int no_memory(struct agon_err *err)
{
    return agon_fail(err, AGON_ENOMEM, "trace: out of memory");
}

static int trace_tokens(struct agon_trace *t, const struct agon_sequence *s, struct agon_err *err)
{
    const struct agon_drawn *drawn = agon_sequence_drawn(s, &t->n_sampled);
    size_t n = (size_t)t->n_prompt + (size_t)t->n_sampled, n_sampled = (size_t)t->n_sampled;
    t->ids = calloc(n + 1, sizeof(*t->ids));
    t->logprobs = calloc(n_sampled + 1, sizeof(*t->logprobs));
    t->logprobs_raw = calloc(n_sampled + 1, sizeof(*t->logprobs_raw));
    if (!t->ids || !t->logprobs || !t->logprobs_raw)
        return no_memory(err);
    memcpy(t->ids, agon_sequence_ids(s), n * sizeof(*t->ids));
    for (size_t i = 0; i < n_sampled; i++) {
        t->logprobs[i] = drawn[i].logprob;
        t->logprobs_raw[i] = drawn[i].logprob_raw;
    }
    return 0;
}

static int trace_mask(struct agon_trace *t, const struct agon_sequence *s, struct agon_err *err)
{
    int n = 0, n_all = 0;
    if (t->n_sampled == 0 || !agon_sequence_kept(s, 0, &n)) /* nothing was cut */
        return 0;
    for (int i = 0; i < t->n_sampled; i++) {
        (void)agon_sequence_kept(s, i, &n);
        n_all += n;
    }
    t->mask_ids = calloc((size_t)n_all + 1, sizeof(*t->mask_ids));
    t->mask_offsets = calloc((size_t)t->n_sampled + 1, sizeof(*t->mask_offsets));
    if (!t->mask_ids || !t->mask_offsets)
        return no_memory(err);
    for (int i = 0; i < t->n_sampled; i++) {
        const int *kept = agon_sequence_kept(s, i, &n);
        memcpy(t->mask_ids + t->mask_offsets[i], kept, (size_t)n * sizeof(*kept));
        t->mask_offsets[i + 1] = t->mask_offsets[i] + n;
    }
    return 0;
}

static int trace_rows(struct agon_trace *t, const struct agon_sequence *s, unsigned flags,
                      struct agon_err *err)
{
    const struct agon_config *c = agon_engine_config(agon_sequence_engine(s));
    t->n_rows = t->n_prompt + t->n_sampled - 1;
    t->n_moe_layers = agon_config_sparse_layers(c);
    t->n_experts = c->router.top_k;
    t->n_experts_all = c->router.n_experts;
    t->n_index_layers = agon_config_indexers(c);
    t->index_topk = c->index_topk;
    size_t rows = (size_t)t->n_rows;
    if (flags & AGON_TRACE_ROUTING) {
        size_t width = (size_t)t->n_moe_layers * (size_t)t->n_experts;
        if (!(t->experts = calloc(rows * width + 1, sizeof(*t->experts))))
            return no_memory(err);
        if (!agon_sequence_experts(s, 0, t->n_rows, t->experts))
            return agon_fail(err, AGON_EINPUT, "this engine was opened without recording routing");
    }
    if (flags & AGON_TRACE_INDEXER) {
        size_t width = (size_t)t->n_index_layers * (size_t)t->index_topk;
        if (!(t->selected = calloc(rows * width + 1, sizeof(*t->selected))))
            return no_memory(err);
        if (!agon_sequence_selected(s, 0, t->n_rows, t->selected))
            return agon_fail(err, AGON_EINPUT,
                             "this engine was opened without recording the indexer");
    }
    return 0;
}

int agon_trace_new(struct agon_trace **ret, const struct agon_sequence *s, int n_prompt,
                   unsigned flags, struct agon_err *err)
{
    struct agon_trace *t AGON_AUTO(agon_trace_freep) = calloc(1, sizeof(*t));
    int r;
    if (!t)
        return no_memory(err);
    t->n_prompt = n_prompt;
    t->weights_version = agon_engine_version(agon_sequence_engine(s));
    if ((r = trace_tokens(t, s, err)) || (flags & AGON_TRACE_MASK && (r = trace_mask(t, s, err))) ||
        (r = trace_rows(t, s, flags, err)))
        return r;
    *ret = AGON_STEAL(t);
    return 0;
}
