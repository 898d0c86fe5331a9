#pragma once
/* What every .cu file uses: errors as lines, and sizes of grids. */
#include "base/err.h"

#include <cuda_runtime.h>

/* Leave the calling wrapper if a CUDA call failed; what names it for the reader. */
#define AGON_CUDA(err, what, call)                                                       \
    do {                                                                                 \
        cudaError_t e_ = (call);                                                         \
        if (e_ != cudaSuccess)                                                           \
            return agon_fail(err, AGON_EDEVICE, "%s: %s", what, cudaGetErrorString(e_)); \
    } while (0)

static inline __host__ __device__ int agon_ceil_div(int a, int b)
{
    return (a + b - 1) / b;
}
