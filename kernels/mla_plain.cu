/*
 * Latent attention for every shape and format, in float: the reference mode, and the oracle of the
 * fast kernels.
 *
 * A block does up to 8 heads of one row, a warp a head. It walks the row's entries in blocks of 32:
 * all threads decode them into shared memory as float; then lane l of a head's warp holds the score
 * of entry l, and afterwards the sums of dimensions l, l + 32, ...
 */
#include "kernels/mla.cuh"

enum { HEADS = 8, ENTRIES = 32 };

/* Floats of one entry in shared memory: a multiple of 4, an odd one, so that float4 reads of
 * neighbouring entries by the lanes of a warp meet different banks. */
static inline __host__ __device__ int entry_stride(int entry_dim)
{
    int quads = (entry_dim + 3) / 4;
    return 4 * (quads + (quads % 2 == 0));
}

static size_t plain_shared_bytes(int entry_dim)
{
    return (size_t)(HEADS + ENTRIES) * entry_stride(entry_dim) * sizeof(float) +
           HEADS * ENTRIES * sizeof(float);
}

static __device__ float float_at(const uint8_t *p)
{
    if ((uintptr_t)p % sizeof(float) == 0)
        return *(const float *)p;
    return __uint_as_float(p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24);
}

template <enum agon_latent_format format>
static __device__ float entry_value(const uint8_t *entry, int d, int kv_lora)
{
    if (format == AGON_LATENT_F32)
        return ((const float *)entry)[d];
    if (format == AGON_LATENT_BF16)
        return __bfloat162float(((const __nv_bfloat16 *)entry)[d]);
    if (d < kv_lora) {
        __half x = __nv_cvt_fp8_to_halfraw(entry[d], __NV_E4M3);
        return __half2float(x) * float_at(entry + kv_lora + d / 128 * sizeof(float));
    }
    const uint8_t *p = entry + kv_lora + (kv_lora + 127) / 128 * sizeof(float) + 2 * (d - kv_lora);
    return __uint_as_float((uint32_t)(p[0] | p[1] << 8) << 16);
}

static __device__ float dot(const float *a, const float *b, int n)
{
    float4 sum = {0, 0, 0, 0};
    for (int d = 0; d < n; d += 4) {
        float4 x = *(const float4 *)(a + d), y = *(const float4 *)(b + d);
        sum.x = fmaf(x.x, y.x, sum.x);
        sum.y = fmaf(x.y, y.y, sum.y);
        sum.z = fmaf(x.z, y.z, sum.z);
        sum.w = fmaf(x.w, y.w, sum.w);
    }
    return (sum.x + sum.y) + (sum.z + sum.w);
}

/* VALUES: dimensions of c a lane sums, at least kv_lora / 32. */
template <enum agon_latent_format format, int VALUES>
static __global__ void plain_kernel(const uint8_t *latents, size_t entry_bytes, int kv_lora,
                                    int rope_dim, struct mla_list list, const void *q,
                                    enum agon_dtype q_dtype, void *out, enum agon_dtype out_dtype,
                                    int n_heads, float scale)
{
    extern __shared__ float4 shared[];
    int row = blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int head = blockIdx.y * HEADS + warp, n_warps = blockDim.x / 32;
    int entry_dim = kv_lora + rope_dim, stride = entry_stride(entry_dim);
    int padded_dim = (entry_dim + 3) / 4 * 4;
    float *queries = (float *)shared, *entries = queries + HEADS * stride;
    float *weights = entries + ENTRIES * stride + warp * ENTRIES;

    for (int d = lane; d < padded_dim; d += 32)
        queries[warp * stride + d] =
            head < n_heads && d < entry_dim
                ? mla_read(q, q_dtype, ((size_t)row * n_heads + head) * entry_dim + d)
                : 0;

    float sums[VALUES] = {}, largest = -INFINITY, total = 0;
    int n = list.count(row);
    for (int begin = 0; begin < n; begin += ENTRIES) {
        __syncthreads(); /* the entries before these have been read */
        for (int i = warp; i < ENTRIES; i += n_warps) {
            int slot = begin + i < n ? list.slot(row, begin + i) : -1;
            const uint8_t *entry = latents + (size_t)max(slot, 0) * entry_bytes;
            for (int d = lane; d < padded_dim; d += 32)
                entries[i * stride + d] =
                    slot >= 0 && d < entry_dim ? entry_value<format>(entry, d, kv_lora) : 0;
        }
        bool there = begin + lane < n && list.slot(row, begin + lane) >= 0;
        __syncthreads();

        float score =
            there ? scale * dot(queries + warp * stride, entries + lane * stride, padded_dim)
                  : -INFINITY;
        float block_largest = score;
        for (int distance = 16; distance; distance /= 2)
            block_largest = fmaxf(block_largest, __shfl_xor_sync(~0U, block_largest, distance));
        if (!__any_sync(~0U, there))
            continue;
        block_largest = fmaxf(block_largest, largest);
        float weight = there ? expf(score - block_largest) : 0, block_total = weight;
        float shrink = expf(largest - block_largest);
        for (int distance = 16; distance; distance /= 2)
            block_total += __shfl_xor_sync(~0U, block_total, distance);
        total = total * shrink + block_total;
        largest = block_largest;
        weights[lane] = weight;
        __syncwarp();
#pragma unroll
        for (int v = 0; v < VALUES; v++) {
            int d = v * 32 + lane;
            float sum = 0;
            if (d < kv_lora)
                for (int i = 0; i < ENTRIES; i++)
                    sum = fmaf(weights[i], entries[i * stride + d], sum);
            sums[v] = sums[v] * shrink + sum;
        }
        __syncwarp();
    }
    if (head >= n_heads)
        return;
    size_t begin = ((size_t)row * n_heads + head) * kv_lora;
#pragma unroll
    for (int v = 0; v < VALUES; v++)
        if (v * 32 + lane < kv_lora)
            mla_write(out, out_dtype, begin + v * 32 + lane,
                      total > 0 || total != total ? sums[v] / total : 0);
}

template <enum agon_latent_format format, int VALUES>
static int plain_launch(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err)
{
    const struct agon_mla_cache *cache = &mla->cache;
    size_t shared = plain_shared_bytes(cache->kv_lora + cache->rope_dim);
    auto kernel = plain_kernel<format, VALUES>;
    AGON_CUDA(
        err, "latent attention",
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared));
    dim3 grid(mla->rows.n_rows, agon_ceil_div(mla->n_heads, HEADS));
    kernel<<<grid, 32 * min(mla->n_heads, (int)HEADS), shared, stream>>>(
        (const uint8_t *)cache->latents, agon_latent_bytes(format, cache->kv_lora, cache->rope_dim),
        cache->kv_lora, cache->rope_dim, mla_list_of(mla), mla->q, mla->q_dtype, mla->out,
        mla->out_dtype, mla->n_heads, mla->scale);
    AGON_CUDA(err, "latent attention", cudaGetLastError());
    return 0;
}

template <enum agon_latent_format format>
static int plain_sized(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err)
{
    if (mla->cache.kv_lora <= 128)
        return plain_launch<format, 4>(mla, stream, err);
    if (mla->cache.kv_lora <= 512)
        return plain_launch<format, 16>(mla, stream, err);
    return plain_launch<format, 32>(mla, stream, err);
}

int agon_mla_plain(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err)
{
    if (mla->cache.kv_lora > 1024 ||
        plain_shared_bytes(mla->cache.kv_lora + mla->cache.rope_dim) > 227 * 1024)
        return agon_fail(err, AGON_EINPUT,
                         "latent attention: entries of %d + %d values, at most 1024 + 300 are done",
                         mla->cache.kv_lora, mla->cache.rope_dim);
    switch (mla->cache.format) {
    case AGON_LATENT_F32: return plain_sized<AGON_LATENT_F32>(mla, stream, err);
    case AGON_LATENT_BF16: return plain_sized<AGON_LATENT_BF16>(mla, stream, err);
    case AGON_LATENT_FP8: return plain_sized<AGON_LATENT_FP8>(mla, stream, err);
    }
    return agon_fail(err, AGON_EINPUT, "latent attention: no such format of latents: %d",
                     (int)mla->cache.format);
}
