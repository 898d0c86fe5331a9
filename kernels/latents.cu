/* Between the products of a layer: see cuda_latents.h. All of it moves bytes, and few of them; the
 * cost is that of a launch, so each of the two is one. (With FP8 caches, of large models, where a
 * launch is nothing, they are three and two.) */
#include "kernels/check.cuh"
#include "kernels/cuda_latents.h"
#include "kernels/hadamard.cuh"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"

static __device__ __forceinline__ void rotate(float *low, float *high, float a, float b, float c,
                                              float s)
{
    *low = __fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s));
    *high = __fadd_rn(__fmul_rn(a, s), __fmul_rn(b, c));
}

/* Where the i-th pair of `half` stands. */
static __device__ __forceinline__ void pair_of(int i, int half, bool interleaved, int *first,
                                               int *second)
{
    *first = interleaved ? 2 * i : i;
    *second = interleaved ? 2 * i + 1 : i + half;
}

/* The threads that share a part of a row: a warp, or a block, which wide rows keep busy. */
template <bool BLOCK> struct team {
    int at, n;
    __device__ team() : at(BLOCK ? threadIdx.x : threadIdx.x % 32), n(BLOCK ? blockDim.x : 32)
    {
    }
    /* The sum over them, in one order, in every thread. scratch: 32 values for each sum. */
    __device__ double sum(double x, double *scratch) const
    {
        return BLOCK ? block_sum(x, scratch) : warp_sum(x);
    }
};

/* 1 / rms of x[n]. */
template <bool BLOCK>
static __device__ double rms_factor(team<BLOCK> t, const float *x, int n, float eps,
                                    double *scratch)
{
    double square = 0;
    for (int i = t.at; i < n; i += t.n)
        square += (double)x[i] * x[i];
    return 1 / sqrt(t.sum(square, scratch) / n + eps);
}

static __device__ float normed(const float *w, float x, double factor)
{
    return (float)(w[0] * (x * factor));
}

/* The q latent. */
template <bool BLOCK>
static __device__ void write_q(const struct agon_cuda_latents &p, const float *x, int row,
                               double *scratch)
{
    team<BLOCK> t;
    double factor = rms_factor(t, x, p.q_lora, p.eps, scratch);
    for (int i = t.at; i < p.q_lora; i += t.n)
        number_store(p.q_latent, p.q_dtype, (size_t)row * p.q_lora + i,
                     normed(p.q_norm + i, x[i], factor));
}

/* The latent entry, to `to` from element `at` on. */
template <bool BLOCK>
static __device__ void write_entry(const struct agon_cuda_latents &p, const float *x, int row,
                                   void *to, enum agon_dtype dtype, size_t at, double *scratch)
{
    team<BLOCK> t;
    int n = p.cache.kv_lora, half = p.cache.rope_dim / 2;
    double factor = rms_factor(t, x, n, p.eps, scratch);
    for (int i = t.at; i < n; i += t.n)
        number_store(to, dtype, at + i, normed(p.kv_norm + i, x[i], factor));
    for (int i = t.at; i < half; i += t.n) {
        float low, high;
        size_t angle = (size_t)row * half + i;
        rotate(&low, &high, x[n + 2 * i], x[n + 2 * i + 1], p.cosine[angle], p.sine[angle]);
        number_store(to, dtype, at + n + 2 * i, low);
        number_store(to, dtype, at + n + 2 * i + 1, high);
    }
}

/* The index key. */
template <bool BLOCK>
static __device__ void write_key(const struct agon_cuda_latents &p, const float *x, int row,
                                 float *key, double *scratch)
{
    team<BLOCK> t;
    int n = p.index_dim, half = p.cache.rope_dim / 2;
    double sum = 0, square = 0;
    for (int i = t.at; i < n; i += t.n)
        sum += x[i];
    double mean = t.sum(sum, scratch) / n;
    for (int i = t.at; i < n; i += t.n)
        square += (x[i] - mean) * (x[i] - mean);
    double factor = 1 / sqrt(t.sum(square, scratch + 32) / n + p.eps);
    auto value = [&](int i) {
        return (float)(p.index_norm[i] * ((x[i] - mean) * factor) + p.index_bias[i]);
    };
    for (int i = t.at; i < half; i += t.n) {
        int first, second;
        float low, high;
        size_t at = (size_t)row * half + i;
        pair_of(i, half, p.index_interleaved, &first, &second);
        rotate(&low, &high, value(first), value(second), p.cosine[at], p.sine[at]);
        key[first] = low;
        key[second] = high;
    }
    for (int i = 2 * half + t.at; i < n; i += t.n)
        key[i] = value(i);
}

/* blockIdx.x is a row; its parts are the block's warps, or blockIdx.y. */
template <bool BLOCK> static __global__ void latents_kernel(struct agon_cuda_latents p)
{
    depends_wait();
    __shared__ double scratch[BLOCK ? 64 : 1];
    int row = blockIdx.x, part = BLOCK ? blockIdx.y : threadIdx.x / 32;
    int sequence = p.store.row_sequence[row];
    const float *x = p.input + (size_t)row * p.ld_input;
    if (part == 0)
        return write_q<BLOCK>(p, x, row, scratch);
    if (sequence < 0)
        return;
    bool latent = part == 1;
    x += latent ? p.q_lora : p.q_lora + p.cache.kv_lora + p.cache.rope_dim;
    int position = p.store.row_position[row];
    int page = p.store.pages[(size_t)sequence * p.store.ld_pages + position / AGON_CUDA_PAGE];
    size_t slot = (size_t)page * AGON_CUDA_PAGE + position % AGON_CUDA_PAGE;
    size_t entry_dim = (size_t)(p.cache.kv_lora + p.cache.rope_dim);
    if (latent && p.cache.format == AGON_LATENT_FP8)
        write_entry<BLOCK>(p, x, row, p.entry_rows, AGON_F32, row * entry_dim, scratch);
    else if (latent)
        write_entry<BLOCK>(p, x, row, p.cache.latents,
                           p.cache.format == AGON_LATENT_F32 ? AGON_F32 : AGON_BF16,
                           slot * entry_dim, scratch);
    else if (p.keys.format == AGON_KEYS_FP8)
        write_key<BLOCK>(p, x, row, p.key_rows + (size_t)row * p.index_dim, scratch);
    else
        write_key<BLOCK>(p, x, row, (float *)p.keys.pool + slot * (size_t)p.index_dim, scratch);
}

/* FP8: the rows made by the kernel become codes in the cache. */
static int latents_store(const struct agon_cuda_latents *p, void *stream, struct agon_err *err)
{
    struct agon_mla_rows rows = {p->store.n_rows, p->store.row_sequence, p->store.row_position,
                                 p->store.pages, p->store.ld_pages};
    int r = 0;
    if (p->cache.format == AGON_LATENT_FP8)
        r = agon_mla_store_cuda(&p->cache, p->entry_rows, AGON_F32,
                                (size_t)(p->cache.kv_lora + p->cache.rope_dim), &rows, stream, err);
    if (!r && p->index_dim > 0 && p->keys.format == AGON_KEYS_FP8)
        r = agon_cuda_index_store(&p->keys, p->key_rows, (size_t)p->index_dim, &p->store, stream,
                                  err);
    return r;
}

extern "C" int agon_cuda_latents(const struct agon_cuda_latents *p, void *stream,
                                 struct agon_err *err)
{
    if ((p->cache.format == AGON_LATENT_FP8 && !p->entry_rows) || p->index_dim < 0 ||
        (p->index_dim > 0 &&
         ((p->keys.format == AGON_KEYS_FP8 && !p->key_rows) || p->index_dim < p->cache.rope_dim)))
        return agon_fail(err, AGON_EINPUT, "latents: %d + %d values, keys of %d", p->cache.kv_lora,
                         p->cache.rope_dim, p->index_dim);
    if (p->store.n_rows <= 0)
        return 0;
    unsigned n_rows = (unsigned)p->store.n_rows, n_parts = p->index_dim > 0 ? 3 : 2;
    if (p->q_lora > 512)
        AGON_CUDA(
            err, "latents launch",
            launch_overlapping(latents_kernel<true>, dim3(n_rows, n_parts), 256, 0, stream, *p));
    else
        AGON_CUDA(err, "latents launch",
                  launch_overlapping(latents_kernel<false>, n_rows, 32 * n_parts, 0, stream, *p));
    return latents_store(p, stream, err);
}

static __device__ __forceinline__ float query_at(const struct agon_cuda_queries &p, int row, int i)
{
    return number_load(p.query, p.query_dtype, (size_t)row * p.ld_query + i);
}

/* A block is a row. */
static __global__ void queries_kernel(struct agon_cuda_queries p)
{
    depends_wait();
    int row = blockIdx.x, half = p.rope_dim / 2, qk = p.nope_dim + p.rope_dim;
    const float *cosine = p.cosine + (size_t)row * half, *sine = p.sine + (size_t)row * half;
    int entry_dim = p.kv_lora + p.rope_dim;
    for (int at = threadIdx.x; at < p.n_heads * half; at += blockDim.x) {
        int h = at / half, i = at % half, from = h * qk + p.nope_dim + 2 * i;
        size_t to = ((size_t)row * p.n_heads + h) * entry_dim + p.kv_lora + 2 * i;
        float low, high;
        rotate(&low, &high, query_at(p, row, from), query_at(p, row, from + 1), cosine[i], sine[i]);
        number_store(p.entry, p.entry_dtype, to, low);
        number_store(p.entry, p.entry_dtype, to + 1, high);
    }
    if (p.index_codes)
        return;
    int index = p.n_heads * qk;
    float *out = p.index_query + (size_t)row * p.index_heads * p.index_dim;
    for (int at = threadIdx.x; at < p.index_heads * p.index_dim; at += blockDim.x) {
        int h = at / p.index_dim, i = at % p.index_dim, first, second;
        if (i >= 2 * half)
            out[at] = query_at(p, row, index + at);
        if (i >= half)
            continue;
        pair_of(i, half, p.index_interleaved, &first, &second);
        int from = index + h * p.index_dim;
        float *to = out + h * p.index_dim;
        rotate(to + first, to + second, query_at(p, row, from + first),
               query_at(p, row, from + second), cosine[i], sine[i]);
    }
    for (int h = threadIdx.x; h < p.index_heads; h += blockDim.x)
        p.index_weights[(size_t)row * p.index_heads + h] =
            p.index_weights_from[(size_t)row * p.ld_weights_from + h] * p.index_scale;
}

enum { CODE_WARPS = 4 };

/* Index queries as codes: a warp is a head, blockIdx.x its row. */
static __global__ void query_codes_kernel(struct agon_cuda_queries p)
{
    depends_wait();
    __shared__ float shared[CODE_WARPS][HADAMARD_MAX];
    int row = blockIdx.x, head = blockIdx.y * CODE_WARPS + threadIdx.x / 32,
        lane = threadIdx.x % 32;
    if (head >= p.index_heads)
        return;
    int n = p.index_dim, half = p.rope_dim / 2;
    int from = p.n_heads * (p.nope_dim + p.rope_dim) + head * n;
    float *values = shared[threadIdx.x / 32];
    for (int i = lane; i < half; i += 32) {
        int first, second;
        size_t at = (size_t)row * half + i;
        pair_of(i, half, p.index_interleaved, &first, &second);
        rotate(values + first, values + second, query_at(p, row, from + first),
               query_at(p, row, from + second), p.cosine[at], p.sine[at]);
    }
    for (int i = 2 * half + lane; i < n; i += 32)
        values[i] = query_at(p, row, from + i);
    if ((n & (n - 1)) == 0)
        hadamard(values, n);
    __syncwarp();
    float largest = 1e-4F;
    for (int i = lane; i < n; i += 32)
        largest = fmaxf(largest, fabsf(values[i]));
    float scale = ue8m0_round_up(warp_max(largest) / 448);
    size_t at = (size_t)row * p.index_heads + head;
    for (int i = lane; i < n; i += 32)
        p.index_codes[at * n + i] = e4m3_encode(values[i] / scale);
    if (lane == 0)
        p.index_weights[at] =
            p.index_weights_from[(size_t)row * p.ld_weights_from + head] * p.index_scale * scale;
}

extern "C" int agon_cuda_queries(const struct agon_cuda_queries *p, void *stream,
                                 struct agon_err *err)
{
    if (p->index_heads > 0 &&
        (p->index_dim < p->rope_dim || (p->index_codes && p->index_dim > HADAMARD_MAX)))
        return agon_fail(err, AGON_EINPUT, "queries: %d of %d index values are to be rotated",
                         p->rope_dim, p->index_dim);
    if (p->n_rows <= 0)
        return 0;
    AGON_CUDA(err, "queries launch",
              launch_overlapping(queries_kernel, (unsigned)p->n_rows,
                                 p->n_heads * p->rope_dim > 1024 ? 512 : 128, 0, stream, *p));
    if (p->index_codes && p->index_heads > 0)
        AGON_CUDA(err, "index queries launch",
                  launch_overlapping(query_codes_kernel,
                                     dim3(p->n_rows, agon_ceil_div(p->index_heads, CODE_WARPS)),
                                     32 * CODE_WARPS, 0, stream, *p));
    return 0;
}
