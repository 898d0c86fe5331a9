/*
 * Index keys into pages: one block a row, one thread for every 4 values or so. FP8 rotates in
 * shared memory (the butterflies of agon_hadamard_ref(), in its order, so bit for bit), then takes
 * the largest magnitude and encodes. Bytes: 4 index_dim read, index_dim + 4 written: nothing beside
 * the rest of a layer.
 */
#include "kernels/index.cuh"

#include <cuda_fp8.h>

enum { STORE_THREADS = 128, STORE_DIM_MAX = 1024 };

static __device__ void rotate(float *x, int n)
{
    for (int half = 1; half < n; half *= 2) {
        for (int pair = (int)threadIdx.x; pair < n / 2; pair += STORE_THREADS) {
            int i = pair / half * 2 * half + pair % half;
            float a = x[i], b = x[i + half];
            x[i] = a + b;
            x[i + half] = a - b;
        }
        __syncthreads();
    }
    for (int i = (int)threadIdx.x; i < n; i += STORE_THREADS)
        x[i] = (float)(x[i] / sqrt((double)n));
    __syncthreads();
}

/* max(amax, 1e-4) / 448 rounded up to a power of two; NaN is passed over, as fmaxf does. */
static __device__ float scale_of(const float *x, int n)
{
    __shared__ float largest_of_warp[STORE_THREADS / 32];
    float largest = 1e-4F;
    for (int i = (int)threadIdx.x; i < n; i += STORE_THREADS)
        largest = fmaxf(largest, fabsf(x[i]));
    for (int step = 16; step > 0; step /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffff, largest, step));
    if (threadIdx.x % 32 == 0)
        largest_of_warp[threadIdx.x / 32] = largest;
    __syncthreads();
    for (int w = 0; w < STORE_THREADS / 32; w++)
        largest = fmaxf(largest, largest_of_warp[w]);
    uint32_t bits = __float_as_uint(largest / 448);
    return __uint_as_float(((bits >> 23 & 255) + ((bits & 0x7fffff) != 0)) << 23);
}

static __global__ void store_kernel(struct agon_cuda_keys keys, size_t page_bytes, const float *x,
                                    size_t ld_x, struct agon_cuda_rows rows)
{
    __shared__ float key[STORE_DIM_MAX];
    int row = (int)blockIdx.x, n = keys.index_dim, sequence = rows.row_sequence[row];
    if (sequence < 0)
        return;
    int position = rows.row_position[row], slot = position % AGON_CUDA_PAGE;
    char *page = (char *)keys.pool + (size_t)index_page(rows, sequence, position) * page_bytes;
    x += (size_t)row * ld_x;
    if (keys.format == AGON_KEYS_F32) {
        for (int i = (int)threadIdx.x; i < n; i += STORE_THREADS)
            ((float *)page)[slot * n + i] = x[i];
        return;
    }
    for (int i = (int)threadIdx.x; i < n; i += STORE_THREADS)
        key[i] = x[i];
    __syncthreads();
    if ((n & (n - 1)) == 0)
        rotate(key, n);
    float scale = scale_of(key, n);
    for (int i = (int)threadIdx.x; i < n; i += STORE_THREADS)
        page[slot * n + i] = (char)__nv_cvt_float_to_fp8(key[i] / scale, __NV_SATFINITE, __NV_E4M3);
    if (threadIdx.x == 0)
        ((float *)(page + (size_t)AGON_CUDA_PAGE * (size_t)n))[slot] = scale;
}

extern "C" int agon_cuda_index_store(const struct agon_cuda_keys *keys, const float *x, size_t ld_x,
                                     const struct agon_cuda_rows *rows, void *stream,
                                     struct agon_err *err)
{
    int r = index_check_rows(rows, "index keys", err);
    if (r)
        return r;
    if (keys->index_dim < 1 || keys->index_dim > STORE_DIM_MAX)
        return agon_fail(err, AGON_EINPUT, "index keys: %d values a key; 1 to %d", keys->index_dim,
                         STORE_DIM_MAX);
    if (rows->n_rows == 0)
        return 0;
    store_kernel<<<rows->n_rows, STORE_THREADS, 0, (cudaStream_t)stream>>>(
        *keys, agon_keys_page_bytes(keys->format, keys->index_dim), x, ld_x, *rows);
    AGON_CUDA(err, "index keys launch", cudaGetLastError());
    return 0;
}
