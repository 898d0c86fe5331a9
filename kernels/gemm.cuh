#pragma once
/* Between gemm.cu, which checks shapes and chooses, and the files that compute. */
#include "kernels/cuda_gemm.h"

/* One launch, plain, batched or grouped. */
struct gemm_launch {
    struct agon_cuda_gemm gemm;
    struct agon_cuda_matrix w;
    int n;                /* outputs of one product: w.n / n_parts */
    int n_parts;          /* products in the launch: batches or groups */
    const int32_t *begin; /* grouped: where each group's rows begin; else NULL */
};

/* Any shape: one F32 chain an output. */
int gemm_exact_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err);
