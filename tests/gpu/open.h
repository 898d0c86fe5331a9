#pragma once
/* The GPU that a test or a benchmark runs on, the first one. Where there is none, a case is skipped
 * and a benchmark ends well; both say why. */
#include "kernels/cuda.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* In a TEST(). */
#define SKIP_WITHOUT_GPU(info, err)    \
    if (agon_cuda_open(info, 0, &err)) \
    SKIP(err.text)

/* In a benchmark's main(). Lines appear as they are printed, wherever they go. */
static inline struct agon_cuda_info gpu_or_leave(void)
{
    struct agon_cuda_info info;
    struct agon_err err;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (agon_cuda_open(&info, 0, &err)) {
        printf("skipped: %s\n", err.text);
        exit(0);
    }
    return info;
}

/* Bytes a second that a large copy reads and writes, measured: what a floor in bytes is held to. */
static inline double gpu_copy_rate(const struct agon_cuda_info *info)
{
    return strstr(info->name, "H200") ? 4.3e12 : 3.0e12;
}
