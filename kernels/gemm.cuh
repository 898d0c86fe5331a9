#pragma once
/* Between gemm.cu, which checks shapes and chooses, and the files that compute. */
#include "kernels/cuda_gemm.h"

/* One launch, plain, batched or grouped. */
struct gemm_launch {
    struct agon_cuda_gemm gemm;
    struct agon_cuda_matrix w;
    int n;                /* outputs of one product: w.n / n_parts, or half of it if gated */
    int w_rows;           /* rows of W of one product */
    int n_parts;          /* products in the launch: batches or groups */
    const int32_t *begin; /* grouped: where each group's rows begin; else NULL */
};

/* silu(gate) * up, as agon_swiglu_ref(). */
static __device__ __forceinline__ float gemm_gate(float gate, float up)
{
    return gate / (1 + expf(-gate)) * up;
}

/* Any shape: one F32 chain an output. */
int gemm_exact_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err);

/* The tensor cores: GEMM_NOT_HERE, and nothing launched, where dtypes or alignment are not theirs.
 */
enum { GEMM_NOT_HERE = 1 };
int gemm_wgmma_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err);
/* Of those, large ones whose x comes by tensor map; rows_each: of a part, some may have more. */
int gemm_large_launch(const struct gemm_launch *launch, int rows_each, void *stream,
                      struct agon_err *err);
