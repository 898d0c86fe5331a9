/*
 * Around the exchange of rows: see cuda_exchange.h. Each kernel moves what it says once; a thread
 * is an id, or one value of a choice's row.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_exchange.h"
#include "kernels/launch.cuh"

enum { THREADS = 256 };

static __global__ void local_kernel(int32_t *local, const int32_t *ids, int n, int first,
                                    int n_here)
{
    depends_wait();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= n)
        return;
    int id = ids[i] - first;
    local[i] = ids[i] >= first && id < n_here ? id : n_here;
}

extern "C" int agon_cuda_exchange_local(int32_t *local, const int32_t *ids, int n, int first,
                                        int n_here, void *stream, struct agon_err *err)
{
    if (n < 0 || first < 0 || n_here < 0)
        return agon_fail(err, AGON_EINPUT, "exchange: %d choices, %d experts from %d on", n, n_here,
                         first);
    if (n == 0)
        return 0;
    AGON_CUDA(err, "exchange launch",
              launch_overlapping(local_kernel, agon_ceil_div(n, THREADS), THREADS, 0, stream, local,
                                 ids, n, first, n_here));
    return 0;
}

/* A block of x is a piece of a row; blocks of y stride over choices. */
static __global__ void spread_kernel(float *wide, const float *y, size_t ld_y,
                                     const int32_t *pair_of, const int32_t *local, int n_here,
                                     int n, int n_choices)
{
    depends_wait();
    int j = blockIdx.x * THREADS + threadIdx.x;
    for (int i = blockIdx.y; i < n_choices && j < n; i += gridDim.y)
        wide[(size_t)i * n + j] = local[i] < n_here ? y[pair_of[i] * ld_y + j] : 0;
}

extern "C" int agon_cuda_exchange_spread(float *wide, const float *y, size_t ld_y,
                                         const int32_t *pair_of, const int32_t *local, int n_here,
                                         int n, int n_choices, void *stream, struct agon_err *err)
{
    if (n <= 0 || n_choices < 0 || n_here < 0)
        return agon_fail(err, AGON_EINPUT, "exchange: %d choices of %d values", n_choices, n);
    if (n_choices == 0)
        return 0;
    dim3 grid(agon_ceil_div(n, THREADS), n_choices < 65535 ? n_choices : 65535);
    AGON_CUDA(err, "exchange launch",
              launch_overlapping(spread_kernel, grid, THREADS, 0, stream, wide, y, ld_y, pair_of,
                                 local, n_here, n, n_choices));
    return 0;
}

static __global__ void count_kernel(int32_t *to, int n)
{
    depends_wait();
    int i = blockIdx.x * THREADS + threadIdx.x;
    if (i < n)
        to[i] = i;
}

extern "C" int agon_cuda_exchange_count(int32_t *to, int n, void *stream, struct agon_err *err)
{
    if (n < 0)
        return agon_fail(err, AGON_EINPUT, "exchange: %d numbers", n);
    if (n == 0)
        return 0;
    AGON_CUDA(
        err, "exchange launch",
        launch_overlapping(count_kernel, agon_ceil_div(n, THREADS), THREADS, 0, stream, to, n));
    return 0;
}
