#pragma once
/* The Hadamard transform of a warp's values, bit for bit agon_hadamard_ref()'s. */
#include <math.h>

enum { HADAMARD_MAX = 256 };

/* In place, over n (a power of two) values that one warp owns, in shared memory. */
static __device__ void hadamard(float *values, int n)
{
    for (int half = 1; half < n; half *= 2) {
        __syncwarp();
        for (int p = threadIdx.x % 32; p < n / 2; p += 32) {
            int i = p / half * 2 * half + p % half;
            float a = values[i], b = values[i + half];
            values[i] = __fadd_rn(a, b);
            values[i + half] = __fsub_rn(a, b);
        }
    }
    __syncwarp();
    for (int i = threadIdx.x % 32; i < n; i += 32)
        values[i] = (float)(values[i] / sqrt((double)n));
}
