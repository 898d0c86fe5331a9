/* Expert choice, grouping of pairs by expert, and the sum over a row's experts: see cuda_ops.h.
 * Twins: router_ref.c. */
#include "kernels/check.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/number.cuh"

#include <cmath>

enum { ROUTE_WARPS = 4, GROUP_THREADS = 256, COMBINE_THREADS = 128 };

static __device__ double share_of(float logit)
{
    return 1 / (1 + exp(-(double)logit));
}

/* The sum of the group's two best, as router_mask_groups() takes it. */
static __device__ double group_score(const double *ranked, int group_size)
{
    double first = -INFINITY, second = -INFINITY;
    for (int e = 0; e < group_size; e++) {
        if (ranked[e] > first) {
            second = first;
            first = ranked[e];
        } else if (ranked[e] > second) {
            second = ranked[e];
        }
    }
    return group_size > 1 ? first + second : first;
}

/* Experts of the groups that are not among the best become -inf; lane g scores groups g, g + 32. */
static __device__ void mask_groups(double *ranked, double *score, const struct agon_router &router)
{
    int lane = threadIdx.x % 32, group_size = router.n_experts / router.n_group;
    for (int g = lane; g < router.n_group; g += 32)
        score[g] = group_score(ranked + g * group_size, group_size);
    __syncwarp();
    for (int g = lane; g < router.n_group; g += 32) {
        int n_before = 0;
        for (int o = 0; o < router.n_group; o++)
            n_before += score[o] > score[g] || (score[o] == score[g] && o < g);
        for (int e = g * group_size; e < (g + 1) * group_size && n_before >= router.topk_group; e++)
            ranked[e] = -INFINITY;
    }
    __syncwarp();
}

/* The best of those not taken, the lowest id on ties; a taken one is NaN. */
static __device__ int best_of(const double *ranked, int n)
{
    int best = n;
    double value = -INFINITY;
    for (int e = threadIdx.x % 32; e < n; e += 32)
        if (!isnan(ranked[e]) && (best == n || ranked[e] > value)) {
            best = e;
            value = ranked[e];
        }
    for (int offset = 16; offset > 0; offset /= 2) {
        int other = __shfl_xor_sync(~0u, best, offset);
        double other_value = __shfl_xor_sync(~0u, value, offset);
        bool better = other < n &&
                      (best == n || other_value > value || (other_value == value && other < best));
        best = better ? other : best;
        value = better ? other_value : value;
    }
    return best;
}

/* Fill chosen[0 .. top_k): a warp. Logits that are NaN leave ids that are in range all the same. */
static __device__ void choose(int32_t *chosen, double *ranked, double *score, const float *logits,
                              const float *bias, const struct agon_router &router)
{
    int lane = threadIdx.x % 32;
    for (int e = lane; e < router.n_experts; e += 32)
        ranked[e] = share_of(logits[e]) + bias[e];
    __syncwarp();
    if (router.n_group > 1)
        mask_groups(ranked, score, router);
    for (int slot = 0; slot < router.top_k; slot++) {
        int best = best_of(ranked, router.n_experts);
        best = best < router.n_experts ? best : slot;
        __syncwarp();
        if (lane == 0) {
            chosen[slot] = best;
            ranked[best] = NAN;
        }
        __syncwarp();
    }
}

/* A warp is a row. Dynamic shared memory: doubles [warp][n_experts + n_group]. */
static __global__ void route_kernel(int32_t *ids, float *weights, const float *logits,
                                    size_t ld_logits, const float *bias, const uint16_t *forced,
                                    struct agon_router router, int n_rows, const int32_t *d_n_rows)
{
    extern __shared__ double shared[];
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, r = blockIdx.x * ROUTE_WARPS + warp;
    double *ranked = shared + warp * (router.n_experts + router.n_group);
    if (r >= rows_today(n_rows, d_n_rows))
        return;
    logits += r * ld_logits;
    ids += (size_t)r * router.top_k;
    weights += (size_t)r * router.top_k;
    forced = forced ? forced + (size_t)r * router.top_k : NULL;
    if (forced && forced[0] != AGON_CUDA_NOT_FORCED) {
        for (int slot = lane; slot < router.top_k; slot += 32)
            ids[slot] = forced[slot] < router.n_experts ? forced[slot] : router.n_experts - 1;
    } else {
        choose(ids, ranked, ranked + router.n_experts, logits, bias, router);
    }
    __syncwarp();
    if (lane > 0)
        return;
    double total = 0;
    for (int slot = 0; slot < router.top_k; slot++)
        total += share_of(logits[ids[slot]]);
    for (int slot = 0; slot < router.top_k; slot++) {
        double share = share_of(logits[ids[slot]]);
        weights[slot] = (float)((router.normalise ? share / total : share) * router.scale);
    }
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
    route_kernel<<<agon_ceil_div(n_rows, ROUTE_WARPS), 32 * ROUTE_WARPS, shared,
                   (cudaStream_t)stream>>>(ids, weights, logits, ld_logits, bias, forced, *router,
                                           n_rows, d_n_rows);
    AGON_CUDA(err, "router launch", cudaGetLastError());
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
    moe_group_kernel<<<n_experts, GROUP_THREADS, 0, (cudaStream_t)stream>>>(
        begin, pair_row, pair_of, ids, n_rows, d_n_rows, top_k, n_experts);
    AGON_CUDA(err, "grouping launch", cudaGetLastError());
    return 0;
}

static __global__ void combine_kernel(struct agon_cuda_combine p)
{
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

extern "C" int agon_cuda_moe_combine(const struct agon_cuda_combine *combine, void *stream,
                                     struct agon_err *err)
{
    if (combine->n <= 0 || combine->n_rows < 0 || combine->top_k <= 0 ||
        (combine->y_dtype != AGON_F32 && combine->y_dtype != AGON_BF16))
        return agon_fail(err, AGON_EINPUT, "combining %d of %s [%d][%d]", combine->top_k,
                         agon_dtype_name(combine->y_dtype), combine->n_rows, combine->n);
    if (combine->n_rows == 0)
        return 0;
    dim3 grid(agon_ceil_div(combine->n, COMBINE_THREADS),
              combine->n_rows < 65535 ? combine->n_rows : 65535);
    combine_kernel<<<grid, COMBINE_THREADS, 0, (cudaStream_t)stream>>>(*combine);
    AGON_CUDA(err, "combining launch", cudaGetLastError());
    return 0;
}
