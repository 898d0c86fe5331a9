#pragma once
/* Private to the indexer: the fast FP8 scores, for keys and queries of 128 values and 32 or 64
 * heads. */
#include "kernels/index.cuh"

enum { FAST_DIM = 128 };

static inline bool index_fast_heads(int n_heads)
{
    return n_heads == 32 || n_heads == 64;
}

int index_scores_fp8(float *scores, size_t ld_scores, const struct agon_cuda_keys *keys,
                     const void *q, const float *weights, int n_heads, int k_skip,
                     const struct agon_cuda_rows *rows, cudaStream_t stream, struct agon_err *err);
