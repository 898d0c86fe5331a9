#pragma once
/*
 * Products of small models, where all of k fits in shared memory: no pipeline, one wait, one chain
 * of tensor-core steps. What is computed is agon_cuda_gemm()'s in fast mode, with BF16 weights:
 * sums in F32, k ascending by sixteens, so a row's result does not depend on which others there
 * are.
 */
#include "kernels/cuda_gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* gemm as for agon_cuda_gemm(), without add, d_n_rows; k a multiple of 16. n_groups 0: one matrix,
 * or gemm->n_batch of them. Else as agon_cuda_gemm_grouped(), gemm->n_rows being the most rows of
 * all groups together. */
bool agon_cuda_small_does(const struct agon_cuda_gemm *gemm, const struct agon_cuda_matrix *w,
                          int n_groups);
int agon_cuda_small(const struct agon_cuda_gemm *gemm, const struct agon_cuda_matrix *w,
                    int n_groups, const int32_t *begin, void *stream,
                    struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
