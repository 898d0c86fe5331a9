#pragma once
/*
 * Experts that are shared out among several devices (model/cuda_share.h): what stands around the
 * exchange of rows. The rules of cuda.h hold.
 */
#include "kernels/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * local[i] = ids[i] - first for an expert of this device, one of first .. first + n_here; else
 * n_here, which agon_cuda_moe_group() takes for nobody's. ids, local: [n] on the device.
 */
int agon_cuda_exchange_local(int32_t *local, const int32_t *ids, int n, int first, int n_here,
                             void *stream, struct agon_err *err) AGON_MUST_USE;

/*
 * Choice by choice what this device's experts made, zeros for the choices of others:
 * wide[i][0 .. n) = local[i] < n_here ? y[pair_of[i]][0 .. n) : 0. Summed over devices, each choice
 * then has its own value to the bit: one device's and zeros. y and wide are F32, wide
 * [n_choices][n].
 */
int agon_cuda_exchange_spread(float *wide, const float *y, size_t ld_y, const int32_t *pair_of,
                              const int32_t *local, int n_here, int n, int n_choices, void *stream,
                              struct agon_err *err) AGON_MUST_USE;

/* to[i] = i. */
int agon_cuda_exchange_count(int32_t *to, int n, void *stream, struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
