/*
 * Stages of a pass that are one launch where the model is small: see agon_cuda_norm_route() and
 * agon_cuda_combine_norm(). A block is a row; 128 threads take its columns.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"
#include "kernels/route.cuh"

enum { FUSED_THREADS = 128, FUSED_EXPERTS_MAX = 32, FUSED_SHARED_MAX = 160 * 1024 };

/* The factor of RMSNorm for row[n], which lies in shared memory; the order of sums is norm.cu's. */
static __device__ double rms_factor(const float *row, int n, float eps, double *sums)
{
    double square = 0;
    for (int i = threadIdx.x; i < n; i += FUSED_THREADS)
        square += (double)row[i] * row[i];
    return 1 / sqrt(block_sum(square, sums) / n + eps);
}

/* row becomes its norm, which also goes to out. */
static __device__ void norm_row(float *row, const struct agon_cuda_norm &p, int r, double *sums)
{
    double factor = rms_factor(row, p.n, p.eps, sums);
    for (int i = threadIdx.x; i < p.n; i += FUSED_THREADS) {
        row[i] = (float)(p.w[i] * (row[i] * factor));
        number_store(p.out, p.out_dtype, r * p.ld_out + i, row[i]);
    }
}

/*
 * All pairs in order, by one block, when all rows have their ids: expert after expert, a stable
 * count. slots is how many choices a row has, n_experts how many there are to choose from.
 */
static __device__ void group_pairs(const struct agon_cuda_norm_route &p, int n_pairs, int slots,
                                   int n_experts, int *counts)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_warps = FUSED_THREADS / 32;
    int segment = agon_ceil_div(agon_ceil_div(n_pairs, n_warps), 32) * 32;
    int begin = warp * segment, end = begin + segment < n_pairs ? begin + segment : n_pairs;
    /* counts [warp][expert], then where each warp's pairs of an expert begin. */
    for (int e = lane; e < n_experts; e += 32)
        counts[warp * n_experts + e] = 0;
    __syncwarp();
    for (int i = begin + lane; i < end; i += 32)
        atomicAdd(&counts[warp * n_experts + __ldcg(&p.ids[i])], 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        int at = 0;
        for (int e = 0; e < n_experts; e++) {
            p.begin[e] = at;
            for (int w = 0; w < n_warps; w++) {
                int n = counts[w * n_experts + e];
                counts[w * n_experts + e] = at;
                at += n;
            }
        }
        p.begin[n_experts] = at;
    }
    __syncthreads();
    for (int base = begin; base < end; base += 32) {
        int i = base + lane, expert = i < end ? __ldcg(&p.ids[i]) : n_experts;
        unsigned same = __match_any_sync(~0u, expert);
        int before = __popc(same & ((1u << lane) - 1));
        int at = i < end ? counts[warp * n_experts + expert] + before : 0;
        __syncwarp();
        if (i < end) {
            p.pair_row[at] = i / slots;
            p.pair_of[i] = at;
            if (before == 0)
                counts[warp * n_experts + expert] += __popc(same);
        }
        __syncwarp();
    }
}

/* Dynamic shared memory: doubles [n_experts + n_group] for the choice, floats router
 * [n][n_experts], row [n], logits [n_experts]. */
static __global__ void __launch_bounds__(FUSED_THREADS)
    norm_route_kernel(struct agon_cuda_norm_route p)
{
    extern __shared__ double scratch[];
    __shared__ double sums[32];
    __shared__ int counts[FUSED_THREADS / 32 * (FUSED_EXPERTS_MAX + 1)];
    __shared__ bool last;
    const struct agon_router &o = p.options;
    int n = p.norm.n, n_experts = o.n_experts, slots = o.top_k + p.shared;
    float *router = (float *)(scratch + n_experts + o.n_group), *row = router + n * n_experts;
    float *logits = row + n;
    for (int i = threadIdx.x; i < n * n_experts; i += FUSED_THREADS) /* weights: before the wait */
        router[i % n * n_experts + i / n] =
            ((const float *)p.router.data)[i / n * p.router.ld + i % n];
    depends_wait();
    int n_rows = rows_today(p.norm.n_rows, p.norm.d_n_rows), r = blockIdx.x;
    if (r < n_rows) {
        float *x = p.norm.x + r * p.norm.ld_x;
        for (int i = threadIdx.x; i < n; i += FUSED_THREADS) {
            row[i] = x[i];
            if (p.norm.add)
                x[i] = row[i] = __fadd_rn(row[i], p.norm.add[r * p.norm.ld_add + i]);
        }
        norm_row(row, p.norm, r, sums);
        __syncthreads();
        if (threadIdx.x < n_experts) {
            float sum = 0;
#pragma unroll 16
            for (int k = 0; k < n; k++)
                sum = fmaf(row[k], router[k * n_experts + threadIdx.x], sum);
            logits[threadIdx.x] = sum;
        }
        __syncwarp();
        if (threadIdx.x < 32) {
            int32_t *ids = p.ids + (size_t)r * slots;
            float *weights = p.weights + (size_t)r * slots;
            route_row(ids, weights, logits, p.bias,
                      p.forced ? p.forced + (size_t)r * o.top_k : NULL, scratch, o);
            if (p.shared && threadIdx.x == 0) {
                ids[o.top_k] = n_experts;
                weights[o.top_k] = 1;
            }
        }
    }
    /* The block that comes last groups them all. */
    __syncthreads();
    if (threadIdx.x == 0) {
        __threadfence();
        last = atomicAdd(p.counter, 1) == (int)gridDim.x - 1;
        if (last)
            *p.counter = 0;
        __threadfence();
    }
    __syncthreads();
    if (last)
        group_pairs(p, n_rows * slots, slots, n_experts + p.shared, counts);
}

static size_t norm_route_shared(const struct agon_router *o, int n)
{
    return sizeof(double) * (o->n_experts + o->n_group) +
           sizeof(float) * ((size_t)n * o->n_experts + n + o->n_experts);
}

extern "C" bool agon_cuda_norm_route_fits(const struct agon_router *options, int n)
{
    return options->n_experts <= FUSED_EXPERTS_MAX &&
           norm_route_shared(options, n) <= FUSED_SHARED_MAX;
}

extern "C" int agon_cuda_norm_route(const struct agon_cuda_norm_route *p, void *stream,
                                    struct agon_err *err)
{
    const struct agon_router *o = &p->options;
    if (p->norm.n <= 0 || p->norm.n_rows < 0 || o->n_group <= 0 || o->n_experts <= 0 ||
        o->n_experts % o->n_group != 0 || o->top_k <= 0 || o->top_k > o->n_experts ||
        p->router.dtype != AGON_F32 || p->router.n != o->n_experts || p->router.k != p->norm.n ||
        !agon_cuda_norm_route_fits(o, p->norm.n))
        return agon_fail(err, AGON_EINPUT, "norm and route: [%d][%d], %d of %d experts",
                         p->norm.n_rows, p->norm.n, o->top_k, o->n_experts);
    if (p->norm.n_rows == 0)
        return 0;
    size_t shared = norm_route_shared(o, p->norm.n);
    AGON_CUDA(err, "norm and route",
              cudaFuncSetAttribute(norm_route_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   (int)shared));
    AGON_CUDA(
        err, "norm and route launch",
        launch_overlapping(norm_route_kernel, p->norm.n_rows, FUSED_THREADS, shared, stream, *p));
    return 0;
}

/* Dynamic shared memory: the row. */
static __global__ void __launch_bounds__(FUSED_THREADS)
    combine_norm_kernel(struct agon_cuda_combine c, struct agon_cuda_norm p)
{
    extern __shared__ double scratch[];
    __shared__ double sums[32];
    float *row = (float *)scratch;
    depends_wait();
    int r = blockIdx.x;
    if (r >= rows_today(c.n_rows, c.d_n_rows))
        return;
    for (int i = threadIdx.x; i < c.n; i += FUSED_THREADS)
        row[i] = c.x[r * c.ld_x + i];
    for (int slot = 0; slot < c.top_k; slot++) {
        size_t at = (size_t)r * c.top_k + slot;
        float weight = c.weights[at];
        size_t from = c.pair_of[at] * c.ld_y;
        for (int i = threadIdx.x; i < c.n; i += FUSED_THREADS)
            row[i] = __fadd_rn(row[i], __fmul_rn(weight, number_load(c.y, c.y_dtype, from + i)));
    }
    for (int i = threadIdx.x; i < c.n; i += FUSED_THREADS) {
        if (c.shared)
            row[i] = __fadd_rn(row[i], c.shared[r * c.ld_shared + i]);
        c.x[r * c.ld_x + i] = row[i];
    }
    norm_row(row, p, r, sums);
}

extern "C" int agon_cuda_combine_norm(const struct agon_cuda_combine *combine,
                                      const struct agon_cuda_norm *norm, void *stream,
                                      struct agon_err *err)
{
    size_t shared = sizeof(float) * (combine->n > 0 ? (size_t)combine->n : 0);
    if (combine->n <= 0 || combine->n != norm->n || combine->n_rows != norm->n_rows ||
        combine->top_k <= 0 || shared > FUSED_SHARED_MAX)
        return agon_fail(err, AGON_EINPUT, "combining %d of [%d][%d], norm of [%d][%d]",
                         combine->top_k, combine->n_rows, combine->n, norm->n_rows, norm->n);
    if (combine->n_rows <= 0)
        return 0;
    if (shared > 48 * 1024)
        AGON_CUDA(err, "combine and norm",
                  cudaFuncSetAttribute(combine_norm_kernel,
                                       cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    AGON_CUDA(err, "combine and norm launch",
              launch_overlapping(combine_norm_kernel, combine->n_rows, FUSED_THREADS, shared,
                                 stream, *combine, *norm));
    return 0;
}
