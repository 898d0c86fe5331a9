/* Writing latent entries into pages: cuda_mla.h. */
#include "kernels/mla.cuh"

/* Entries of any kv_lora begin at any byte, so what is wider than a byte goes byte by byte there.
 */
template <typename T> static __device__ void store_bytes(uint8_t *to, T value)
{
    if ((uintptr_t)to % sizeof(T) == 0) {
        *(T *)to = value;
        return;
    }
    for (size_t i = 0; i < sizeof(T); i++)
        to[i] = ((const uint8_t *)&value)[i];
}

/* The scale of agon_act_quant_ref(ue8m0), at most 128; NaN for a block with one. */
static __device__ float scale_of(float largest, bool any_nan)
{
    if (any_nan)
        return __int_as_float(0x7fc00000);
    uint32_t bits = __float_as_uint(fmaxf(largest, 1e-4F) / 448);
    uint32_t exponent = (bits >> 23) + ((bits & 0x7fffff) != 0);
    return __uint_as_float(min(exponent, 134U) << 23);
}

/* A block of 128 threads a row; a warp quantises 128 values of c at a time. */
template <enum agon_latent_format format>
static __global__ void store_kernel(uint8_t *latents, size_t entry_bytes, int kv_lora, int rope_dim,
                                    const void *kv, enum agon_dtype kv_dtype, size_t ld_kv,
                                    struct agon_mla_rows rows)
{
    int row = blockIdx.x, sequence = rows.sequence[row];
    if (sequence < 0)
        return;
    int position = rows.position[row];
    int page = rows.pages[(size_t)sequence * rows.ld_pages + position / AGON_CUDA_PAGE];
    if (page < 0)
        return;
    uint8_t *entry =
        latents + ((size_t)page * AGON_CUDA_PAGE + position % AGON_CUDA_PAGE) * entry_bytes;
    size_t begin = row * ld_kv;

    if (format != AGON_LATENT_FP8) {
        for (int i = threadIdx.x; i < kv_lora + rope_dim; i += blockDim.x) {
            float x = mla_read(kv, kv_dtype, begin + i);
            if (format == AGON_LATENT_F32)
                ((float *)entry)[i] = x;
            else
                ((__nv_bfloat16 *)entry)[i] = __float2bfloat16_rn(x);
        }
        return;
    }
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, n_blocks = agon_ceil_div(kv_lora, 128);
    for (int block = warp; block < n_blocks; block += blockDim.x / 32) {
        float x[4], largest = 0;
        bool any_nan = false;
        for (int i = 0; i < 4; i++) {
            int d = block * 128 + i * 32 + lane;
            x[i] = d < kv_lora ? mla_read(kv, kv_dtype, begin + d) : 0;
            largest = fmaxf(largest, fabsf(x[i]));
            any_nan |= x[i] != x[i];
        }
        for (int distance = 16; distance; distance /= 2)
            largest = fmaxf(largest, __shfl_xor_sync(~0U, largest, distance));
        float scale = scale_of(largest, __any_sync(~0U, any_nan));
        for (int i = 0; i < 4; i++) {
            int d = block * 128 + i * 32 + lane;
            if (d < kv_lora)
                entry[d] = __nv_cvt_float_to_fp8(x[i] / scale, __NV_SATFINITE, __NV_E4M3);
        }
        if (lane == 0)
            store_bytes(entry + kv_lora + block * sizeof(float), scale);
    }
    uint8_t *rope = entry + kv_lora + n_blocks * sizeof(float);
    for (int i = threadIdx.x; i < rope_dim; i += blockDim.x)
        store_bytes(rope + i * sizeof(uint16_t), __bfloat16_as_ushort(__float2bfloat16_rn(
                                                     mla_read(kv, kv_dtype, begin + kv_lora + i))));
}

template <enum agon_latent_format format>
static void store_launch(const struct agon_mla_cache *cache, const void *kv,
                         enum agon_dtype kv_dtype, size_t ld_kv, const struct agon_mla_rows *rows,
                         cudaStream_t stream)
{
    uint8_t *latents = (uint8_t *)cache->latents;
    size_t bytes = agon_latent_bytes(format, cache->kv_lora, cache->rope_dim);
    store_kernel<format><<<rows->n_rows, 128, 0, stream>>>(
        latents, bytes, cache->kv_lora, cache->rope_dim, kv, kv_dtype, ld_kv, *rows);
}

extern "C" int agon_mla_store_cuda(const struct agon_mla_cache *cache, const void *kv,
                                   enum agon_dtype kv_dtype, size_t ld_kv,
                                   const struct agon_mla_rows *rows, void *stream,
                                   struct agon_err *err)
{
    if (cache->kv_lora <= 0 || cache->rope_dim < 0 || rows->n_rows < 0 || rows->ld_pages <= 0 ||
        ld_kv < (size_t)(cache->kv_lora + cache->rope_dim))
        return agon_fail(err, AGON_EINPUT,
                         "latent store: %d rows of %d + %d values, ld %zu, %d pages a sequence",
                         rows->n_rows, cache->kv_lora, cache->rope_dim, ld_kv, rows->ld_pages);
    if (kv_dtype != AGON_F32 && kv_dtype != AGON_BF16)
        return agon_fail(err, AGON_EINPUT, "latent store: entries in %s, not in F32 or BF16",
                         agon_dtype_name(kv_dtype));
    if (rows->n_rows == 0)
        return 0;
    switch (cache->format) {
    case AGON_LATENT_F32:
        store_launch<AGON_LATENT_F32>(cache, kv, kv_dtype, ld_kv, rows, (cudaStream_t)stream);
        break;
    case AGON_LATENT_BF16:
        store_launch<AGON_LATENT_BF16>(cache, kv, kv_dtype, ld_kv, rows, (cudaStream_t)stream);
        break;
    case AGON_LATENT_FP8:
        store_launch<AGON_LATENT_FP8>(cache, kv, kv_dtype, ld_kv, rows, (cudaStream_t)stream);
        break;
    }
    AGON_CUDA(err, "latent store", cudaGetLastError());
    return 0;
}
