#pragma once
/*
 * What a turn leaves for training, beside its text: the ids as they were fed and drawn, the
 * log-probabilities, what the sampler kept (keep sampling mask), the experts that the router
 * chose (keep routing), what the indexer selected, and which weights did it. Asked for by flags;
 * a sampler draws the same with and without.
 *
 * Positions count from 0 over all ids. The last id drawn has not been fed, so rows end before it.
 * Sources: DeepSeek-V3.2's report, section 3.1 (keep routing, keep sampling mask).
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>
#include <stdint.h>

enum agon_trace_flags {
    AGON_TRACE_TOKENS = 1,  /* ids and both log-probabilities */
    AGON_TRACE_MASK = 2,    /* and the kept set of each id drawn */
    AGON_TRACE_ROUTING = 4, /* and the experts of every position fed */
    AGON_TRACE_INDEXER = 8, /* and the indexer's selection there */
};

struct agon_trace {
    uint64_t weights_version; /* agon_model_version() when the turn was sampled */
    int n_prompt, n_sampled;
    int *ids;            /* [n_prompt + n_sampled] */
    float *logprobs;     /* [n_sampled], under the distribution drawn from, renormalised */
    float *logprobs_raw; /* [n_sampled], under softmax(logits) over the tokenizer's ids */
    /* The kept ids of drawn id i, ascending, are mask_ids[mask_offsets[i] .. mask_offsets[i + 1]).
     * NULL where not asked for, and where nothing was cut (then all of the tokenizer's ids). */
    int *mask_ids, *mask_offsets;
    /* [n_rows][n_moe_layers][n_experts]: layers with experts only, in their order; NULL: not asked
     */
    uint16_t *experts;
    int n_rows, n_moe_layers, n_experts, n_experts_all; /* all: ids are below it */
    /* [n_rows][n_index_layers][index_topk]: layers with an indexer of their own; -1 behind the
     * last; while all of the past fits, all of it is selected. NULL: not asked */
    int32_t *selected;
    int n_index_layers, index_topk;
};
void agon_trace_free(struct agon_trace *t);
AGON_DEFINE_FREEP(struct agon_trace, agon_trace_free)

struct agon_sequence;
/*
 * The trace of what the last generation drew after the first n_prompt ids. AGON_EINPUT where
 * flags ask for what the engine does not record (agon_engine_options.record).
 */
int agon_trace_new(struct agon_trace **ret, const struct agon_sequence *s, int n_prompt,
                   unsigned flags, struct agon_err *err) AGON_MUST_USE;

/*
 * Append a trace as JSON members (no braces), shapes as trainers read them (README.md, "Records"):
 * prompt_token_ids, token_ids, logprobs, logprobs_raw, sampling_mask {ids, offsets},
 * routed_experts and indexer_topk {data (base64, little-endian), dtype, shape, start, valid_rows},
 * weight_version.
 */
void agon_trace_json(struct agon_buf *b, const struct agon_trace *t);

/* ---- the other way: what is to be forced (agon model score) -------------------------- */

/* A sampling mask in CSR for n ids, checked: offsets begin at 0 and do not fall, ids are below
 * n_vocab. Arrays are the caller's, freed with free(). */
int agon_trace_mask_parse(int **ret_ids, int **ret_offsets, const json_t *mask, int n, int n_vocab,
                          struct agon_err *err) AGON_MUST_USE;
/* Experts for positions [0, *ret_rows): dimensions and ids checked, each id once a row. */
int agon_trace_experts_parse(uint16_t **ret, int *ret_rows, const json_t *routing, int n_moe_layers,
                             int n_experts, int n_experts_all, struct agon_err *err) AGON_MUST_USE;
/* "tokens", "mask", "routing", "indexer", as a list of names or true (tokens and mask). */
int agon_trace_flags_parse(unsigned *ret, const json_t *names, struct agon_err *err) AGON_MUST_USE;
