#pragma once
/* Shared by the tests on a GPU: a device or a skip, buffers there, and how far apart two arrays
 * are. */
#include "base/mem.h"
#include "kernels/kernels.h"
#include "tests/gpu/open.h"
#include "tests/kernels/random.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Skip the case where there is no GPU that the kernels run on. */
#define REQUIRE_GPU()           \
    static struct agon_err err; \
    struct agon_cuda_info gpu;  \
    SKIP_WITHOUT_GPU(&gpu, err)

/* A device buffer; freed at the end of the scope: GPU_AUTO x = gpu_upload(...). */
struct gpu_buffer {
    void *p;
    size_t bytes;
};
static inline void gpu_buffer_free(struct gpu_buffer *b)
{
    agon_cuda_free(b->p);
}
#define GPU_AUTO __attribute__((cleanup(gpu_buffer_free))) struct gpu_buffer

/* Room for bytes, every byte of it `poison`: what a kernel leaves out is seen. */
static inline struct gpu_buffer gpu_poisoned(size_t bytes, int poison)
{
    struct agon_err err = {0};
    struct gpu_buffer b = {.bytes = bytes};
    if (agon_cuda_alloc(&b.p, bytes, &err) || agon_cuda_set(b.p, poison, bytes, NULL, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    return b;
}

static inline struct gpu_buffer gpu_upload(const void *from, size_t bytes)
{
    struct agon_err err = {0};
    struct gpu_buffer b = gpu_poisoned(bytes, 0xff);
    if (agon_cuda_copy(b.p, from, bytes, NULL, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    return b;
}

static inline void gpu_download(void *to, const struct gpu_buffer *b)
{
    struct agon_err err = {0};
    if (agon_cuda_copy(to, b->p, b->bytes, NULL, &err) || agon_cuda_sync(NULL, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
}

/* ||a - b|| / ||b||; infinity where one has a NaN or infinity and the other not the same. */
static inline double relative_error(const float *a, const float *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) {
            if (isnan(a[i]) && isnan(b[i]))
                continue;
            if (a[i] == b[i])
                continue;
            return INFINITY;
        }
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    return norm > 0 ? sqrt(difference / norm) : sqrt(difference);
}
