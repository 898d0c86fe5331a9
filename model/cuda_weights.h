#pragma once
/*
 * The weights of a checkpoint on a GPU: row-major, matrices with a common input stacked as in
 * checkpoint.h, the experts of a layer (and the heads' halves of kv_b) one above the other.
 * Reference mode holds all as F32, which every dtype widens to without loss; fast mode keeps BF16
 * and makes BF16 of e4m3 (exact where the scales are powers of two), F32 only where the model asks
 * for it: norms, router, indexer. FP8 mode keeps e4m3 as it is, with its scales, but for kv_b,
 * whose halves attention reads in BF16.
 *
 * Weights come from the checkpoint's files tensor by tensor (cuda_stream.h); the checkpoint need
 * only be open (agon_checkpoint_open()).
 */
#include "base/mem.h"
#include "kernels/cuda_gemm.h"
#include "model/checkpoint.h"

struct cuda_layer {
    float *attention_norm, *mlp_norm, *q_a_norm, *kv_a_norm, *index_norm, *index_bias;
    float *router_bias;
    /* [q_lora + kv_lora + rope (+ index_dim + index_heads)][hidden]: the indexer's weights too, but
     * not in e4m3, where these stand apart */
    struct agon_cuda_matrix input, index_weights;
    struct agon_cuda_matrix query;  /* [heads * qk (+ index_heads * index_dim)][q_lora] */
    struct agon_cuda_matrix absorb; /* [n_heads * kv_lora][nope] */
    struct agon_cuda_matrix value;  /* [n_heads * v][kv_lora] */
    struct agon_cuda_matrix output; /* [hidden][n_heads * v] */
    struct agon_cuda_matrix router; /* [n_experts][hidden], F32 */
    /* The dense MLP, or the shared experts; empty where there is none. */
    struct agon_cuda_matrix gate_up, down;
    /* Where the layer has experts. Where it has one shared expert, of the same size, that stands
     * behind the others (not counted in n) for kernels that take it for one more. */
    struct agon_cuda_moe moe;
};

struct cuda_weights {
    struct agon_cuda_matrix embedding, head; /* tied: head is a view of embedding */
    struct cuda_layer *layers;               /* owned; [n_layers] */
    float *norm;
    double *inv_freq; /* [rope_dim / 2] */
    int n_layers;
    bool tied, fast, fp8;
    int rank, n_ranks; /* the experts of rank `rank` alone are here */
    size_t bytes;      /* on the device */
};

/* Which of n_experts rank `rank` of n_ranks holds: *ret_n from *ret_first on. */
void cuda_weights_part(int n_experts, int rank, int n_ranks, int *ret_first, int *ret_n);

struct cuda_weights_options {
    bool fast, fp8;    /* see above */
    int rank, n_ranks; /* rank 0 of 1 (or 0) holds all */
};
int cuda_weights_init(struct cuda_weights *w, const struct agon_checkpoint *checkpoint,
                      const struct cuda_weights_options *options,
                      struct agon_err *err) AGON_MUST_USE;
/* Put another checkpoint of the same dimensions, and dtypes in FP8 mode, into place: pointers stay,
 * so graphs do too. */
int cuda_weights_replace(struct cuda_weights *w, const struct agon_checkpoint *checkpoint,
                         struct agon_err *err) AGON_MUST_USE;
void cuda_weights_deinit(struct cuda_weights *w);
