#pragma once
/*
 * A checkpoint's tensors, as they stand in its files, into matrices on the device: rows arrive
 * part by part, are widened or kept as codes, and find their place. Values are those of
 * agon_matrix_at() on the CPU (F32), or these rounded to nearest even (BF16).
 */
#include "kernels/cuda_ops.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows row .. row + n_rows of a tensor [..][k]. */
struct agon_cuda_load {
    const void *from;      /* device, 16-byte aligned: [n_rows][k] */
    enum agon_dtype dtype; /* of from: F32, BF16, F16 or E4M3 */
    int row, n_rows, k;
    /* E4M3 that is to be widened: the whole tensor's scales, one for 128 by 128, device. */
    const float *scale;
    /* Device: raised to `mark` where a value is NaN. */
    int32_t *bad;
    int32_t mark;
};
/* The tensor's row 0 becomes row `at` of `to`, whose k is the tensor's; a matrix in E4M3 takes
 * codes alone (its scales are copied apart). */
int agon_cuda_load_rows(const struct agon_cuda_load *load, const struct agon_cuda_matrix *to,
                        int at, void *stream, struct agon_err *err) AGON_MUST_USE;
/*
 * kv_b [n_heads][nope + v][kv_lora], for absorbed attention: of each head, the first nope rows go
 * to absorb [n_heads * kv_lora][nope], transposed, and the others to value [n_heads * v][kv_lora]
 * (engine.md 4). Neither is in E4M3.
 */
int agon_cuda_load_kv_b(const struct agon_cuda_load *load, const struct agon_cuda_matrix *absorb,
                        const struct agon_cuda_matrix *value, int nope, int v, void *stream,
                        struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
