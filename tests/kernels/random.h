#pragma once
/* Random inputs and nearness for the kernel tests. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state = 1;

/* Uniform in [-1, 1), a multiple of 2^-23. */
static inline float random_float(void)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (float)(int64_t)(random_state >> 40) / 8388608.0F - 1;
}

static inline int random_below(int n)
{
    random_state = random_state * 6364136223846793005U + 1442695040888963407U;
    return (int)((random_state >> 33) % (uint64_t)n);
}

static inline float *random_floats(size_t n)
{
    float *x = malloc((n + 1) * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = random_float();
    return x;
}

/* Outputs start as NaN, so that what a kernel leaves out is seen. */
static inline float *poisoned_floats(size_t n)
{
    float *x = malloc((n + 1) * sizeof(*x));
    for (size_t i = 0; i < n; i++)
        x[i] = NAN;
    return x;
}

/* ||a - b|| / ||b||; NaN where one holds NaN. */
static inline double distance(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return sqrt(difference / (norm > 0 ? norm : 1));
}

/* float32 sums of a thousand terms lose three or four bits of 24; 1e-5 leaves room. */
#define F32_NEAR 1e-5
