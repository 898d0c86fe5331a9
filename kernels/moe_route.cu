/* Expert choice, grouping of pairs by expert, and the sum over a row's experts: see cuda_ops.h.
 * Twins: router_ref.c. */
#include "kernels/check.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"
#include "kernels/route.cuh"

enum { ROUTE_WARPS = 4, GROUP_THREADS = 256, COMBINE_THREADS = 128 };

/* A warp is a row. Dynamic shared memory: doubles [warp][n_experts + n_group]. */
static __global__ void route_kernel(int32_t *ids, float *weights, const float *logits,
                                    size_t ld_logits, const float *bias, const uint16_t *forced,
                                    struct agon_router router, int n_rows, const int32_t *d_n_rows)
{
    depends_wait();
    extern __shared__ double shared[];
    int warp = threadIdx.x / 32, r = blockIdx.x * ROUTE_WARPS + warp;
    double *ranked = shared + warp * (router.n_experts + router.n_group);
    if (r >= rows_today(n_rows, d_n_rows))
        return;
    logits += r * ld_logits;
    ids += (size_t)r * router.top_k;
    weights += (size_t)r * router.top_k;
    forced = forced ? forced + (size_t)r * router.top_k : NULL;
    route_row(ids, weights, logits, bias, forced, ranked, router);
}

extern "C" int agon_cuda_route(int32_t *ids, float *weights, const float *logits, size_t ld_logits,
                               const float *bias, const uint16_t *forced,
                               const struct agon_router *router, int n_rows,
                               const int32_t *d_n_rows, void *stream, struct agon_err *err)
{
    if (n_rows < 0 || router->n_experts <= 0 || router->n_experts > AGON_EXPERTS_MAX ||
        router->n_group <= 0 || router->n_experts % router->n_group != 0 || router->top_k <= 0 ||
        router->top_k > router->n_experts || router->top_k > AGON_EXPERT_TOPK_MAX)
        return agon_fail(err, AGON_EINPUT, "router: %d rows, %d of %d experts in %d groups", n_rows,
                         router->top_k, router->n_experts, router->n_group);
    if (n_rows == 0)
        return 0;
    size_t shared = sizeof(double) * ROUTE_WARPS * (router->n_experts + router->n_group);
    if (shared > 48 * 1024)
        AGON_CUDA(err, "router",
                  cudaFuncSetAttribute(route_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       (int)shared));
    AGON_CUDA(err, "router launch",
              launch_overlapping(route_kernel, agon_ceil_div(n_rows, ROUTE_WARPS), 32 * ROUTE_WARPS,
                                 shared, stream, ids, weights, logits, ld_logits, bias, forced,
                                 *router, n_rows, d_n_rows));
    return 0;
}

/*
 * Block e finds the pairs of expert e: it counts those of lower experts, which is begin[e], then
 * lays its own down in order. Each block reads all ids (from L2); no block waits for another.
 */
static __global__ void moe_group_kernel(int32_t *begin, int32_t *pair_row, int32_t *pair_of,
                                        const int32_t *ids, int n_rows, const int32_t *d_n_rows,
                                        int top_k, int n_experts)
{
    depends_wait();
    __shared__ int counts[32];
    int expert = blockIdx.x, n = rows_today(n_rows, d_n_rows) * top_k, n_lower = 0;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = threadIdx.x; i < n; i += GROUP_THREADS)
        n_lower += ids[i] < expert;
    int at = block_sum(n_lower, counts);
    if (threadIdx.x == 0)
        begin[expert] = at;
    for (int i = threadIdx.x; i - threadIdx.x < n; i += GROUP_THREADS) {
        bool mine = i < n && ids[i] == expert;
        unsigned ballot = __ballot_sync(~0u, mine);
        __syncthreads(); /* counts have been read */
        if (lane == 0)
            counts[warp] = __popc(ballot);
        __syncthreads();
        int before = __popc(ballot & ((1u << lane) - 1)), all = 0;
        for (int w = 0; w < GROUP_THREADS / 32; w++) {
            before += w < warp ? counts[w] : 0;
            all += counts[w];
        }
        if (mine) {
            pair_row[at + before] = i / top_k;
            pair_of[i] = at + before;
        }
        at += all;
    }
    if (expert == n_experts - 1 && threadIdx.x == 0)
        begin[n_experts] = at;
}

extern "C" int agon_cuda_moe_group(int32_t *begin, int32_t *pair_row, int32_t *pair_of,
                                   const int32_t *ids, int n_rows, const int32_t *d_n_rows,
                                   int top_k, int n_experts, void *stream, struct agon_err *err)
{
    if (n_rows < 0 || top_k <= 0 || n_experts <= 0 || n_experts > AGON_EXPERTS_MAX)
        return agon_fail(err, AGON_EINPUT, "grouping: %d rows, %d of %d experts", n_rows, top_k,
                         n_experts);
    AGON_CUDA(err, "grouping launch",
              launch_overlapping(moe_group_kernel, n_experts, GROUP_THREADS, 0, stream, begin,
                                 pair_row, pair_of, ids, n_rows, d_n_rows, top_k, n_experts));
    return 0;
}

static __global__ void combine_kernel(struct agon_cuda_combine p)
{
    depends_wait();
    int j = blockIdx.x * COMBINE_THREADS + threadIdx.x, n_rows = rows_today(p.n_rows, p.d_n_rows);
    for (int r = blockIdx.y; r < n_rows && j < p.n; r += gridDim.y) {
        float sum = p.x[r * p.ld_x + j];
        for (int slot = 0; slot < p.top_k; slot++) {
            size_t at = (size_t)r * p.top_k + slot;
            float y = number_load(p.y, p.y_dtype, p.pair_of[at] * p.ld_y + j);
            sum = __fadd_rn(sum, __fmul_rn(p.weights[at], y));
        }
        if (p.shared)
            sum = __fadd_rn(sum, p.shared[r * p.ld_shared + j]);
        p.x[r * p.ld_x + j] = sum;
    }
}

/* The same, four values a thread. */
static __global__ void combine_four_kernel(struct agon_cuda_combine p)
{
    depends_wait();
    int j = (blockIdx.x * COMBINE_THREADS + threadIdx.x) * 4;
    int n_rows = rows_today(p.n_rows, p.d_n_rows);
    auto add = [](float4 a, float4 b, float by) {
        return make_float4(__fadd_rn(a.x, __fmul_rn(by, b.x)), __fadd_rn(a.y, __fmul_rn(by, b.y)),
                           __fadd_rn(a.z, __fmul_rn(by, b.z)), __fadd_rn(a.w, __fmul_rn(by, b.w)));
    };
    for (int r = blockIdx.y; r < n_rows && j < p.n; r += gridDim.y) {
        float4 *x = (float4 *)(p.x + r * p.ld_x + j), sum = *x;
#pragma unroll 4
        for (int slot = 0; slot < p.top_k; slot++) {
            size_t at = (size_t)r * p.top_k + slot;
            sum = add(sum, *(const float4 *)((const float *)p.y + p.pair_of[at] * p.ld_y + j),
                      p.weights[at]);
        }
        if (p.shared)
            sum = add(sum, *(const float4 *)(p.shared + r * p.ld_shared + j), 1);
        *x = sum;
    }
}

static bool combines_four(const struct agon_cuda_combine *c)
{
    size_t odd = (uintptr_t)c->x | (uintptr_t)c->y | (uintptr_t)c->shared;
    return c->y_dtype == AGON_F32 && odd % 16 == 0 && c->n % 4 == 0 && c->ld_x % 4 == 0 &&
           c->ld_y % 4 == 0 && (!c->shared || c->ld_shared % 4 == 0);
}

extern "C" int agon_cuda_moe_combine(const struct agon_cuda_combine *combine, void *stream,
                                     struct agon_err *err)
{
    if (combine->n <= 0 || combine->n_rows < 0 || combine->top_k <= 0 ||
        (combine->y_dtype != AGON_F32 && combine->y_dtype != AGON_BF16))
        return agon_fail(err, AGON_EINPUT, "combining %d of %s [%d][%d]", combine->top_k,
                         agon_dtype_name(combine->y_dtype), combine->n_rows, combine->n);
    if (combine->n_rows == 0)
        return 0;
    bool four = combines_four(combine);
    dim3 grid(agon_ceil_div(combine->n, COMBINE_THREADS * (four ? 4 : 1)),
              combine->n_rows < 65535 ? combine->n_rows : 65535);
    AGON_CUDA(err, "combining launch",
              launch_overlapping(four ? combine_four_kernel : combine_kernel, grid, COMBINE_THREADS,
                                 0, stream, *combine));
    return 0;
}
