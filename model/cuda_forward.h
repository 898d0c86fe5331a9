#pragma once
/*
 * One forward pass over a batch of rows on a GPU: forward.h's, over the paged cache of
 * kernels/cuda.h. Everything is launched in one stream and nothing waits, so that a pass can be
 * recorded in a graph; what rows there are is read from device memory.
 *
 * Reference mode computes in F32 with one order of sums (AGON_GEMM_EXACT); fast mode in BF16 with
 * F32 sums where the kernels have a fast way for the shapes.
 */
#include "kernels/cuda_indexer.h"
#include "kernels/cuda_mla.h"
#include "model/cuda_stack.h"
#include "model/cuda_weights.h"

/* Device arrays of a batch; all int32. */
struct cuda_batch {
    int32_t *ids, *position, *sequence; /* [n_rows_max]; sequence -1: no row */
    int32_t *store;      /* as sequence, but -1 where the cache has the entry already */
    int32_t *logit_rows; /* [n_logits_max] */
    int32_t *pages;      /* [n_sequences][ld_pages] */
    uint16_t *forced;    /* [n_sparse][n_rows_max][top_k], or NULL: the router's choice */
};

/* What one launch of a pass is sized for. */
struct cuda_pass {
    int n_rows, n_logits; /* the most; padded rows have sequence -1 */
    int n_max;            /* no position + 1 is above this */
    int ld_pages;
    int n_group_rows; /* where experts are shared: the most rows that any rank has */
    bool forced;      /* batch.forced counts */
    bool store_apart; /* batch.store differs from batch.sequence */
    bool apart;       /* no two rows are of one sequence, and row i has the i-th logits */
    bool select_all;  /* the trace wants selections even while all of the past is selected */
    /* Where not NULL, the first *n_slots of them make the rows (agon_cuda_step_rows()). */
    const struct agon_cuda_slot *slots;
    const int32_t *n_slots;
    /* Called after each layer's attention, where it is not NULL: positions are in f->positions. */
    int (*layer_done)(void *user, int layer, struct agon_err *err);
    void *user;
};

struct cuda_share;
struct cuda_forward {
    const struct agon_config *config;
    struct cuda_share *share; /* borrowed; NULL: all experts are here */
    struct cuda_weights weights;
    struct cuda_stack stack; /* small models */
    struct cuda_batch batch;
    int n_rows_max, n_logits_max;
    bool fast, fp8; /* fp8: weights, caches and the products' inputs, where the model has them */
    float softmax_scale, index_scale;

    /* Pools, each [n_pages + 1] pages a layer; page n_pages is nobody's. Owned. */
    int n_pages;
    enum agon_latent_format latent_format;
    enum agon_keys_format keys_format;
    size_t latent_layer_bytes, keys_layer_bytes; /* of one layer's pool */
    char *latents, *keys;
    uint16_t *experts; /* records of positions, where asked for */
    int32_t *selected;
    int n_experts, n_selected; /* values of a position; 0: not recorded */

    /* Buffers of a pass, each [n_rows_max][..]; one allocation. F32 unless said otherwise; "act" is
     * BF16 in fast mode. */
    char *memory;
    float *x, *cosine, *sine, *input, *index_query, *index_weights;
    void *h, *q_latent, *heads, *act; /* act */
    /* F32, or BF16 with FP8: [n_heads][nope + rope] and the indexer's, [n_heads][kv_lora + rope],
     * [n_heads][kv_lora]. */
    void *query, *absorbed, *attended;
    float *update, *shared_down, *routed; /* routed: [top_k][hidden] */
    float *route_logits, *route_weights;
    int32_t *route_ids, *begin, *pair_row, *pair_of, *route_counter;
    int32_t *slots, *n_slots; /* selected: slot numbers [index_topk], how many */
    int32_t *positions;       /* the same as positions, where recorded or traced */
    float *scores;            /* [score_rows][window] */
    size_t scores_bytes;
    uint64_t *mask; /* what stack.cu selects: bits of positions */
    /* FP8 alone (cuda_forward_fp8.c): a product's input as codes, rows before they are stored, the
     * indexer's queries as codes and the source of its weights, how its scores are shared out. */
    uint8_t *codes, *index_codes;
    float *code_scales, *entry_rows, *key_rows, *index_input;
    char *plan;
    int mla_split; /* struct agon_mla's; 0 unless mla_scratch was made for another */
    void *mla_scratch;
    void *moe_scratch;
    float *logits; /* [n_logits_max][n_vocab] */
};

struct cuda_forward_options {
    int n_rows_max, n_logits_max;
    size_t cache_bytes_max; /* 0: most of what is left */
    bool fast, fp8, record_routing, record_indexer;
    bool stack;        /* a small model's layers in few launches (cuda_stack.h) */
    int rank, n_ranks; /* which experts are here, and the number of the device; 0 ranks are 1 */
};
/* Buffers and pools around weights that stand in f->weights already; config is borrowed. */
int cuda_forward_prepare(struct cuda_forward *f, const struct agon_config *config,
                         const struct cuda_forward_options *options,
                         struct agon_err *err) AGON_MUST_USE;
/* The checkpoint's config is borrowed. */
int cuda_forward_init(struct cuda_forward *f, const struct agon_checkpoint *checkpoint,
                      const struct cuda_forward_options *options,
                      struct agon_err *err) AGON_MUST_USE;
void cuda_forward_deinit(struct cuda_forward *f);
/* Forget what the cache holds: numbers of weights that were no good must not stay in its pages,
 * where attention multiplies them by 0. */
int cuda_forward_clear(struct cuda_forward *f, struct agon_err *err) AGON_MUST_USE;
/* Launch a pass over f->batch in stream. One of no rows takes part in what other ranks do. */
int cuda_forward_run(struct cuda_forward *f, const struct cuda_pass *pass, void *stream,
                     struct agon_err *err) AGON_MUST_USE;
