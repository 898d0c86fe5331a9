#pragma once
/* Number formats in device code, and sums over a warp or a block in one fixed order. Twins:
 * number_ref.c. */
#include "kernels/cuda_ops.h"

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <stdint.h>

static __device__ __forceinline__ float bf16_decode(uint16_t code)
{
    return __uint_as_float((uint32_t)code << 16);
}

/* 2^x, 2 ulp; what is below F32's normal numbers is 0. */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

static __device__ __forceinline__ uint16_t bf16_encode(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

static __device__ __forceinline__ float e4m3_decode(uint8_t code)
{
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(code, __NV_E4M3)));
}

static __device__ __forceinline__ uint8_t e4m3_encode(float x)
{
    return __nv_cvt_float_to_fp8(x, __NV_SATFINITE, __NV_E4M3);
}

/* The smallest power of two that is not below x (x > 0). */
static __device__ __forceinline__ float ue8m0_round_up(float x)
{
    uint32_t bits = __float_as_uint(x);
    return __uint_as_float(((bits >> 23 & 255) + ((bits & 0x7fffff) != 0)) << 23);
}

/* Element i of an array of F32 or BF16. */
static __device__ __forceinline__ float number_load(const void *x, enum agon_dtype dtype, size_t i)
{
    return dtype == AGON_F32 ? ((const float *)x)[i] : bf16_decode(((const uint16_t *)x)[i]);
}

static __device__ __forceinline__ void number_store(void *x, enum agon_dtype dtype, size_t i,
                                                    float value)
{
    if (dtype == AGON_F32)
        ((float *)x)[i] = value;
    else
        ((uint16_t *)x)[i] = bf16_encode(value);
}

/* How many rows a launch for n_rows has today. */
static __device__ __forceinline__ int rows_today(int n_rows, const int32_t *d_n_rows)
{
    return d_n_rows && *d_n_rows < n_rows ? *d_n_rows : n_rows;
}

template <typename T> static __device__ __forceinline__ T warp_sum(T x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x += __shfl_xor_sync(~0u, x, offset);
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
    for (int offset = 16; offset > 0; offset /= 2)
        x = fmaxf(x, __shfl_xor_sync(~0u, x, offset));
    return x;
}

/* The sum over the block's threads (whole warps), in every thread; scratch has 32 values, and may
 * be used again after the next barrier. */
template <typename T> static __device__ __forceinline__ T block_sum(T x, T *scratch)
{
    int warp = threadIdx.x / 32, n_warps = blockDim.x / 32;
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0)
        scratch[warp] = x;
    __syncthreads();
    T sum = 0;
    for (int w = 0; w < n_warps; w++)
        sum += scratch[w];
    return sum;
}

/* Element (i, j) of a device matrix. */
static __device__ __forceinline__ float matrix_at(const struct agon_cuda_matrix &w, int i, int j)
{
    size_t at = i * w.ld + j;
    if (w.dtype != AGON_E4M3)
        return number_load(w.data, w.dtype, at);
    float scale = w.scale[(size_t)(i / w.scale_rows) * w.ld_scale + j / AGON_SCALE_BLOCK];
    return e4m3_decode(((const uint8_t *)w.data)[at]) * scale;
}

/* Two bf16 values, the first in the low half. */
static __device__ __forceinline__ uint32_t bf16_pack(float low, float high)
{
    __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *(uint32_t *)&both;
}

/* Two F16 values, the first in the low half; what F16 does not reach is its largest. */
static __device__ __forceinline__ uint32_t half_pack(float low, float high)
{
    const float most = 65504;
    __half2 both =
        __floats2half2_rn(fminf(fmaxf(low, -most), most), fminf(fmaxf(high, -most), most));
    return *(uint32_t *)&both;
}
