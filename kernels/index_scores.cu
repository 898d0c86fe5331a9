/*
 * The indexer's scores in float, for every shape: the oracle of the fast kernels, the float32
 * reference mode, and what small models run.
 *
 * One block a page of keys and a row. The keys stand in shared memory as floats, transposed
 * [dim][64 + 1], so that the lanes of a warp, one a key, read without conflicts; 16 heads of the
 * query at a time stand beside them and are broadcast. Thread: key = thread % 64, and of the 16
 * heads the 4 that begin at thread / 64 * 4, so a loaded key value serves 4 products. A key's sum
 * runs over the heads of its four threads in ascending order, then over the threads: the same in
 * every launch.
 * Floor: 2 n_heads index_dim operations a score at 60 TFLOP/s; this takes some four times that.
 */
#include "kernels/index_fp8.cuh"

#include <cuda_fp8.h>

enum { SCORE_THREADS = 256, GROUPS = 4, GROUP_HEADS = 4, CHUNK = GROUPS * GROUP_HEADS };
enum { KEY_STRIDE = AGON_CUDA_PAGE + 1, SCORE_DIM_MAX = 640 };

struct scores_work {
    float *scores;
    size_t ld_scores, page_bytes;
    const void *q;
    const float *weights;
    int n_heads, k_skip;
};

static __device__ float widen(float x)
{
    return x;
}
static __device__ float widen(__nv_fp8_storage_t x)
{
    return __half2float(__half(__nv_cvt_fp8_to_halfraw(x, __NV_E4M3)));
}

/* sum over this thread's heads of weight * relu(q . key). q, key: shared; heads past n_heads are
 * zeros there, and have weight 0. */
static __device__ float score_chunk(float score, const float *q, const float *key,
                                    const float *weights, int head, int n_heads, int dim)
{
    float dot[GROUP_HEADS] = {};
    for (int d = 0; d < dim; d++) {
        float k = key[d * KEY_STRIDE];
        for (int h = 0; h < GROUP_HEADS; h++)
            dot[h] += q[h * dim + d] * k;
    }
    for (int h = 0; h < GROUP_HEADS && head + h < n_heads; h++)
        score += dot[h] < 0 ? 0 : weights[head + h] * dot[h]; /* NaN stays NaN */
    return score;
}

template <typename T>
static __global__ __launch_bounds__(SCORE_THREADS) void scores_kernel(struct scores_work work,
                                                                      struct agon_cuda_keys keys,
                                                                      struct agon_cuda_rows rows)
{
    extern __shared__ float shared[];
    __shared__ float part[GROUPS][AGON_CUDA_PAGE];
    int row = (int)blockIdx.y, first = (int)blockIdx.x * AGON_CUDA_PAGE, dim = keys.index_dim;
    int sequence = rows.row_sequence[row];
    if (sequence < 0)
        return;
    int n = rows.row_position[row] + 1;
    if (first >= n || n <= work.k_skip)
        return;
    int thread = (int)threadIdx.x, slot = thread % AGON_CUDA_PAGE, group = thread / AGON_CUDA_PAGE;
    float *key = shared, *q = shared + KEY_STRIDE * dim;
    const char *page =
        (const char *)keys.pool + (size_t)index_page(rows, sequence, first) * work.page_bytes;
    /* Slots past the row's position may hold anything: they are computed and not stored. */
    for (int i = thread; i < AGON_CUDA_PAGE * dim; i += SCORE_THREADS)
        key[i % dim * KEY_STRIDE + i / dim] = widen(((const T *)page)[i]);
    const T *row_q = (const T *)work.q + (size_t)row * (size_t)work.n_heads * (size_t)dim;
    const float *weights = work.weights + (size_t)row * (size_t)work.n_heads;
    float score = 0;
    for (int head = 0; head < work.n_heads; head += CHUNK) {
        __syncthreads();
        int n_here = min(CHUNK, work.n_heads - head) * dim;
        for (int i = thread; i < CHUNK * dim; i += SCORE_THREADS)
            q[i] = i < n_here ? widen(row_q[head * dim + i]) : 0;
        __syncthreads();
        score = score_chunk(score, q + group * GROUP_HEADS * dim, key + slot, weights,
                            head + group * GROUP_HEADS, work.n_heads, dim);
    }
    part[group][slot] = score;
    __syncthreads();
    if (group > 0 || first + slot >= n)
        return;
    for (int g = 1; g < GROUPS; g++)
        score += part[g][slot];
    if (sizeof(T) == 1)
        score *= ((const float *)(page + (size_t)AGON_CUDA_PAGE * (size_t)dim))[slot];
    work.scores[(size_t)row * work.ld_scores + (size_t)(first + slot)] = score;
}

template <typename T>
static int scores_launch(const struct scores_work *work, const struct agon_cuda_keys *keys,
                         const struct agon_cuda_rows *rows, cudaStream_t stream,
                         struct agon_err *err)
{
    int bytes = (KEY_STRIDE + CHUNK) * keys->index_dim * (int)sizeof(float);
    AGON_CUDA(err, "index scores",
              cudaFuncSetAttribute(scores_kernel<T>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   (KEY_STRIDE + CHUNK) * SCORE_DIM_MAX * (int)sizeof(float)));
    dim3 grid((unsigned)agon_ceil_div(rows->n_max, AGON_CUDA_PAGE), (unsigned)rows->n_rows);
    scores_kernel<T><<<grid, SCORE_THREADS, (size_t)bytes, stream>>>(*work, *keys, *rows);
    AGON_CUDA(err, "index scores launch", cudaGetLastError());
    return 0;
}

extern "C" int agon_cuda_index_scores(float *scores, size_t ld_scores,
                                      const struct agon_cuda_keys *keys, const void *q,
                                      const float *weights, int n_heads, int k_skip,
                                      const struct agon_cuda_rows *rows, void *stream,
                                      struct agon_err *err)
{
    int r = index_check_rows(rows, "index scores", err);
    if (r)
        return r;
    if (n_heads < 1 || keys->index_dim < 1 || keys->index_dim > SCORE_DIM_MAX ||
        ld_scores < (size_t)rows->n_max)
        return agon_fail(err, AGON_EINPUT,
                         "index scores: %d heads of %d values (1 to %d), rows of %zu scores for "
                         "%d positions",
                         n_heads, keys->index_dim, SCORE_DIM_MAX, ld_scores, rows->n_max);
    if (rows->n_rows == 0 || rows->n_max == 0)
        return 0;
    if (rows->plan && keys->format == AGON_KEYS_FP8 && keys->index_dim == FAST_DIM &&
        index_fast_heads(n_heads))
        return index_scores_fp8(scores, ld_scores, keys, q, weights, n_heads, k_skip, rows,
                                (cudaStream_t)stream, err);
    struct scores_work work = {
        scores,  ld_scores, agon_keys_page_bytes(keys->format, keys->index_dim), q, weights,
        n_heads, k_skip};
    if (keys->format == AGON_KEYS_F32)
        return scores_launch<float>(&work, keys, rows, (cudaStream_t)stream, err);
    return scores_launch<__nv_fp8_storage_t>(&work, keys, rows, (cudaStream_t)stream, err);
}
