/* Tensors into device matrices: see cuda_load.h. Bound by the way from the host (some 50 GB/s). */
#include "kernels/check.cuh"
#include "kernels/cuda_load.h"
#include "kernels/number.cuh"

enum { LOAD_THREADS = 256, LOAD_GRID_MAX = 65535 };

/* Element (i, j) of the part, widened; i counts from the part's first row. */
static __device__ float load_at(const struct agon_cuda_load &p, int i, int j)
{
    size_t at = (size_t)i * p.k + j;
    if (p.dtype == AGON_F16)
        return __half2float(__ushort_as_half(((const uint16_t *)p.from)[at]));
    if (p.dtype != AGON_E4M3)
        return number_load(p.from, p.dtype, at);
    int n_blocks = agon_ceil_div(p.k, AGON_SCALE_BLOCK);
    float scale =
        p.scale[(size_t)((p.row + i) / AGON_SCALE_BLOCK) * n_blocks + j / AGON_SCALE_BLOCK];
    return e4m3_decode(((const uint8_t *)p.from)[at]) * scale;
}

/* A thread is an element of row blockIdx.y, and of every gridDim.y-th after it. */
static __global__ void load_rows_kernel(struct agon_cuda_load p, struct agon_cuda_matrix to, int at)
{
    int j = blockIdx.x * LOAD_THREADS + threadIdx.x;
    for (int i = blockIdx.y; i < p.n_rows && j < p.k; i += gridDim.y) {
        size_t place = (size_t)(at + p.row + i) * to.ld + j;
        if (to.dtype == AGON_E4M3) {
            uint8_t code = ((const uint8_t *)p.from)[(size_t)i * p.k + j];
            ((uint8_t *)to.data)[place] = code;
            if ((code & 0x7f) == 0x7f)
                atomicMax(p.bad, p.mark);
            continue;
        }
        float x = load_at(p, i, j);
        number_store(to.data, to.dtype, place, x);
        if (x != x)
            atomicMax(p.bad, p.mark);
    }
}

static __global__ void load_kv_b_kernel(struct agon_cuda_load p, struct agon_cuda_matrix absorb,
                                        struct agon_cuda_matrix value, int nope, int v)
{
    int j = blockIdx.x * LOAD_THREADS + threadIdx.x;
    for (int i = blockIdx.y; i < p.n_rows && j < p.k; i += gridDim.y) {
        int head = (p.row + i) / (nope + v), inner = (p.row + i) % (nope + v);
        float x = load_at(p, i, j);
        if (inner < nope)
            number_store(absorb.data, absorb.dtype, ((size_t)head * p.k + j) * absorb.ld + inner,
                         x);
        else
            number_store(value.data, value.dtype, ((size_t)head * v + inner - nope) * value.ld + j,
                         x);
        if (x != x)
            atomicMax(p.bad, p.mark);
    }
}

static int load_check(const struct agon_cuda_load *p, bool codes, struct agon_err *err)
{
    if (p->n_rows < 0 || p->k <= 0 || (codes && p->dtype != AGON_E4M3) ||
        (!codes && p->dtype == AGON_E4M3 && !p->scale))
        return agon_fail(err, AGON_EINPUT, "loading: %s [%d][%d]", agon_dtype_name(p->dtype),
                         p->n_rows, p->k);
    return 0;
}

static dim3 load_grid(const struct agon_cuda_load *p)
{
    return dim3(agon_ceil_div(p->k, LOAD_THREADS),
                p->n_rows < LOAD_GRID_MAX ? p->n_rows : LOAD_GRID_MAX);
}

extern "C" int agon_cuda_load_rows(const struct agon_cuda_load *p,
                                   const struct agon_cuda_matrix *to, int at, void *stream,
                                   struct agon_err *err)
{
    int r = load_check(p, to->dtype == AGON_E4M3, err);
    if (!r && (to->k != p->k || at < 0 || at + p->row + p->n_rows > to->n))
        r = agon_fail(err, AGON_EINPUT, "loading: rows to %d of %d, into a matrix [%d][%d]",
                      at + p->row + p->n_rows, p->k, to->n, to->k);
    if (r || p->n_rows == 0)
        return r;
    load_rows_kernel<<<load_grid(p), LOAD_THREADS, 0, (cudaStream_t)stream>>>(*p, *to, at);
    AGON_CUDA(err, "loading launch", cudaGetLastError());
    return 0;
}

extern "C" int agon_cuda_load_kv_b(const struct agon_cuda_load *p,
                                   const struct agon_cuda_matrix *absorb,
                                   const struct agon_cuda_matrix *value, int nope, int v,
                                   void *stream, struct agon_err *err)
{
    int r = load_check(p, false, err), end = p->row + p->n_rows;
    if (!r &&
        (nope <= 0 || v <= 0 || absorb->k != nope || value->k != p->k ||
         (size_t)end > (size_t)(value->n / v) * (nope + v) || absorb->n / p->k != value->n / v))
        r = agon_fail(err, AGON_EINPUT, "loading: kv_b of %d rows of %d + %d", end, nope, v);
    if (r || p->n_rows == 0)
        return r;
    load_kv_b_kernel<<<load_grid(p), LOAD_THREADS, 0, (cudaStream_t)stream>>>(*p, *absorb, *value,
                                                                              nope, v);
    AGON_CUDA(err, "loading launch", cudaGetLastError());
    return 0;
}
