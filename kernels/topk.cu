/*
 * Exact top-k of rows of scores. Few rows: a cluster of blocks has one (topk_row.cuh). Many: a
 * block has one, and looks at all scores but once (topk_sieve.cuh).
 *
 * Floor: 4 bytes a score, once: 7.8 us for 64 rows of 131,072. Latency rules for few rows.
 */
#include "kernels/topk_sieve.cuh"

#include <stddef.h>

/* A cluster is a row. */
template <int BITS>
static __global__ __launch_bounds__(1024) void topk_kernel(struct topk_work work,
                                                           struct agon_cuda_rows rows)
{
    extern __shared__ uint4 cache[];
    struct topk_of of = row_begin(work, rows);
    if (of.n > work.k) /* so for the whole cluster */
        select_row<BITS>(cache, work, rows, of.row, of.sequence, of.n);
}

/* A block is a row: sieved, or as above. */
static __global__ __launch_bounds__(SIEVE_THREADS, 2) void sieve_kernel(struct topk_work work,
                                                                        struct agon_cuda_rows rows)
{
    extern __shared__ uint4 shared[];
    struct topk_of of = row_begin(work, rows);
    if (of.n > work.k && !sieve_row((struct sieved *)shared, work, rows, of.row, of.sequence, of.n))
        select_row<11>(shared, work, rows, of.row, of.sequence, of.n);
}

/* Blocks for a row: as many as leave no row waiting, and none with a slice so short that the rounds
 * cost more than the counting. */
static int cluster_of(int n_rows, int n_max)
{
    int n_blocks = 1;
    while (n_blocks < CLUSTER_MAX && n_rows * n_blocks <= 66 && n_max > n_blocks * 2048)
        n_blocks *= 2;
    return n_blocks;
}

static int topk_launch(struct topk_work *work, const struct agon_cuda_rows *rows,
                       cudaStream_t stream, struct agon_err *err)
{
    int n_blocks = cluster_of(rows->n_rows, rows->n_max);
    int n_slice = (agon_ceil_div(rows->n_max, n_blocks) + STEP - 1) / STEP * STEP;
    work->n_cached = rows->n_max <= work->k ? 0 : n_slice < CACHED_MAX ? n_slice : CACHED_MAX;
    void (*kernel)(struct topk_work, struct agon_cuda_rows) =
        n_blocks > 2 ? topk_kernel<8> : topk_kernel<11>;
    AGON_CUDA(err, "top-k",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   CACHED_MAX * (int)sizeof(uint32_t)));
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = (unsigned)n_blocks;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(rows->n_rows * n_blocks));
    config.blockDim = dim3(n_slice <= 4096 ? 256 : 1024);
    config.dynamicSmemBytes = (size_t)work->n_cached * sizeof(uint32_t);
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    AGON_CUDA(err, "top-k launch", cudaLaunchKernelEx(&config, kernel, *work, *rows));
    return 0;
}

/* Enough rows to do without clusters, and scores enough to leave most of them out. */
static bool topk_sieves(const struct agon_cuda_rows *rows, int k)
{
    return rows->n_rows > 16 && k <= SIEVED_MAX / 3 && rows->n_max / 4 >= k &&
           rows->n_max >= SIEVE_AT_LEAST && rows->n_max <= SIEVE_AT_MOST;
}

static int sieve_launch(struct topk_work *work, const struct agon_cuda_rows *rows,
                        cudaStream_t stream, struct agon_err *err)
{
    const size_t kept = offsetof(struct sieved, bits);
    work->n_cached = (int)(kept / sizeof(uint32_t));
    AGON_CUDA(err, "top-k",
              cudaFuncSetAttribute(sieve_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   (int)kept + SIEVE_AT_MOST / 8));
    sieve_kernel<<<rows->n_rows, SIEVE_THREADS,
                   kept + agon_ceil_div(rows->n_max, 32) * sizeof(uint32_t), stream>>>(*work,
                                                                                       *rows);
    AGON_CUDA(err, "top-k launch", cudaGetLastError());
    return 0;
}

extern "C" int agon_cuda_topk(int32_t *selected, size_t ld_selected, int32_t *n_selected,
                              const float *scores, size_t ld_scores, int k, bool as_slots,
                              const struct agon_cuda_rows *rows, void *stream, struct agon_err *err)
{
    int r = index_check_rows(rows, "top-k", err);
    if (r)
        return r;
    if (k < 1 || ld_selected < (size_t)k || (rows->n_max > k && ld_scores < (size_t)rows->n_max))
        return agon_fail(err, AGON_EINPUT,
                         "top-k: %d of rows of %zu scores for %d positions into rows of %zu", k,
                         ld_scores, rows->n_max, ld_selected);
    if (rows->n_rows == 0)
        return 0;
    struct topk_work work = {
        selected,  n_selected, ld_selected,
        ld_scores, scores,     k,
        0,         as_slots,   ld_scores % 4 == 0 && (uintptr_t)scores % 16 == 0};
    return (topk_sieves(rows, k) ? sieve_launch : topk_launch)(&work, rows, (cudaStream_t)stream,
                                                               err);
}
