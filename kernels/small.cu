/*
 * Products of small models: see cuda_small.h.
 *
 * A block has a tile of BM rows by BN outputs. It brings all of k of both operands to shared memory
 * (weights by cp.async before it waits for the kernel before it; rows by cp.async, or through
 * registers where they are F32), then its 4 warps, 2 by 2, run mma.m16n8k16 over k. Where the
 * product is gated the block holds the gate's rows and up's, and writes silu(gate) * up. Floor:
 * [1000][384] by [372][384] moves 2.6 MB through L2 and is 0.3 GFLOP: 1 us; the launch is more.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_small.h"
#include "kernels/launch.cuh"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

enum { SMALL_THREADS = 128, SHARED_MAX = 220 << 10, SMALL_ROWS = 256 };

struct small_product {
    struct agon_cuda_gemm g;
    const uint16_t *w;
    size_t ld_w;
    int k, n, w_rows, n_groups; /* n outputs of w_rows rows of W, in each part */
    const int32_t *begin;
};

/* Rows first .. first + n of a matrix, from `at` on; those from `end` on are zeros. */
static __device__ __forceinline__ void load_weights(uint32_t at, const struct small_product &p,
                                                    int first, int n, int end)
{
    int n_chunks = p.k / 8, stride = 2 * p.k + 16;
    for (int i = threadIdx.x; i < n * n_chunks; i += SMALL_THREADS) {
        int row = i / n_chunks, chunk = i % n_chunks;
        bool there = first + row < end;
        mma_copy16(at + row * stride + chunk * 16,
                   p.w + (size_t)(there ? first + row : 0) * p.ld_w + chunk * 8, there);
    }
}

/* Rows [row, row + n) of x, those from `end` on being zeros. x is where the part begins. */
static __device__ __forceinline__ void load_rows(char *to, const struct small_product &p,
                                                 const void *x, int row, int n, int end)
{
    int n_chunks = p.k / 8, stride = 2 * p.k + 16;
    uint32_t at = mma_address(to);
    for (int i = threadIdx.x; i < n * n_chunks; i += SMALL_THREADS) {
        int r = row + i / n_chunks, chunk = i % n_chunks,
            place = i / n_chunks * stride + chunk * 16;
        bool there = r < end;
        int from = there && p.g.rows ? p.g.rows[r] : r;
        if (p.g.x_dtype == AGON_BF16) {
            mma_copy16(at + place,
                       (const uint16_t *)x + (there ? (size_t)from * p.g.ld_x : 0) + chunk * 8,
                       there);
            continue;
        }
        uint4 packed = {0, 0, 0, 0};
        if (there) {
            const float4 *f =
                (const float4 *)((const float *)x + (size_t)from * p.g.ld_x + chunk * 8);
            float4 a = f[0], b = f[1];
            packed = {bf16_pack(a.x, a.y), bf16_pack(a.z, a.w), bf16_pack(b.x, b.y),
                      bf16_pack(b.z, b.w)};
        }
        *(uint4 *)(to + place) = packed;
    }
}

/* acc[m][n]: 16 rows by 8 outputs each. */
template <int MT, int NT>
static __device__ __forceinline__ void multiply(float acc[MT][NT][4], uint32_t a, uint32_t b, int k)
{
    int lane = threadIdx.x % 32, matrix = lane / 8, stride = 2 * k + 16;
    a += (lane % 16) * stride + lane / 16 * 16;
    b += ((matrix >> 1) * 8 + lane % 8) * stride + (matrix & 1) * 16;
    for (int at = 0; at < 2 * k; at += 32) {
        uint32_t x[MT][4];
#pragma unroll
        for (int m = 0; m < MT; m++)
            mma_load(x[m], a + m * 16 * stride + at);
#pragma unroll
        for (int n = 0; n < NT; n += 2) {
            uint32_t w[4];
            mma_load(w, b + n * 8 * stride + at);
#pragma unroll
            for (int m = 0; m < MT; m++) {
                mma(acc[m][n], x[m], w[0], w[1]);
                mma(acc[m][n + 1], x[m], w[2], w[3]);
            }
        }
    }
}

static __device__ __forceinline__ float gate(float g, float up)
{
    return g / (1 + __expf(-g)) * up;
}

/* Which rows and which matrix a block has; false: none. */
static __device__ bool place_of(const struct small_product &p, int bm, int *part, int *row,
                                int *end)
{
    if (p.n_groups == 0) {
        *part = blockIdx.z;
        *row = blockIdx.y * bm;
        *end = p.g.n_rows;
        return true;
    }
    int tile = blockIdx.y;
    for (int g = 0; g < p.n_groups; g++) {
        int first = p.begin[g], last = p.begin[g + 1], n_tiles = agon_ceil_div(last - first, bm);
        if (tile < n_tiles) {
            *part = g;
            *row = first + tile * bm;
            *end = last;
            return true;
        }
        tile -= n_tiles;
    }
    return false;
}

template <int BM, int BN, bool GATED>
static __global__ void __launch_bounds__(SMALL_THREADS) small_kernel(struct small_product p)
{
    enum { MT = BM / 32, NT = BN / 16, HALVES = GATED ? 2 : 1 };
    extern __shared__ __align__(128) char shared[];
    int stride = 2 * p.k + 16, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    int out = blockIdx.x * BN, part = blockIdx.z, row, end;
    uint32_t w = mma_address(shared + BM * stride), a = w - BM * stride;
    if (p.n_groups > 0)
        depends_wait(); /* which matrix is in begin */
    if (!place_of(p, BM, &part, &row, &end))
        return;
    for (int h = 0; h < HALVES; h++)
        load_weights(w + h * BN * stride, p, part * p.w_rows + h * p.n + out, BN,
                     part * p.w_rows + (h + 1) * p.n);
    if (p.n_groups == 0)
        depends_wait();
    const char *x = (const char *)p.g.x +
                    (p.n_groups ? 0 : part * p.g.batch_x * (p.g.x_dtype == AGON_F32 ? 4 : 2));
    load_rows(shared, p, x, row, BM, end);
    asm volatile("cp.async.wait_all;" ::: "memory");
    __syncthreads();

    float acc[HALVES][MT][NT][4] = {};
    int first_row = warp / 2 * (BM / 2), first_out = warp % 2 * (BN / 2);
    for (int h = 0; h < HALVES; h++)
        multiply<MT, NT>(acc[h], a + first_row * stride, w + (h * BN + first_out) * stride, p.k);

    size_t base = p.n_groups ? 0 : part * p.g.batch_out;
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int c = 0; c < 4; c++) {
                int r = row + first_row + m * 16 + lane / 4 + c / 2 * 8;
                int o = out + first_out + n * 8 + lane % 4 * 2 + c % 2;
                float value =
                    GATED ? gate(acc[0][m][n][c], acc[HALVES - 1][m][n][c]) : acc[0][m][n][c];
                if (r < end && o < p.n)
                    number_store(p.g.out, p.g.out_dtype, base + (size_t)r * p.g.ld_out + o, value);
            }
}

static size_t tile_bytes(int bm, int bn, bool gated, int k)
{
    return (size_t)(bm + bn * (gated ? 2 : 1)) * (size_t)(2 * k + 16);
}

template <int BM, int BN, bool GATED>
static int launch(const struct small_product *p, void *stream, struct agon_err *err)
{
    size_t bytes = tile_bytes(BM, BN, GATED, p->k);
    AGON_CUDA(err, "small product",
              cudaFuncSetAttribute(small_kernel<BM, BN, GATED>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED_MAX));
    unsigned n_parts = p->n_groups == 0 && p->g.n_batch > 1 ? (unsigned)p->g.n_batch : 1;
    dim3 grid((unsigned)agon_ceil_div(p->n, BN),
              (unsigned)(agon_ceil_div(p->g.n_rows, BM) + p->n_groups), n_parts);
    AGON_CUDA(
        err, "small product launch",
        launch_overlapping(small_kernel<BM, BN, GATED>, grid, SMALL_THREADS, bytes, stream, *p));
    return 0;
}

static bool aligned16(const void *p, size_t bytes)
{
    return (uintptr_t)p % 16 == 0 && bytes % 16 == 0;
}

extern "C" bool agon_cuda_small_does(const struct agon_cuda_gemm *g,
                                     const struct agon_cuda_matrix *w, int n_groups)
{
    size_t x_size = g->x_dtype == AGON_F32 ? 4 : 2;
    return w->dtype == AGON_BF16 && (g->x_dtype == AGON_F32 || g->x_dtype == AGON_BF16) &&
           w->k % 16 == 0 && tile_bytes(32, 32, g->gated, w->k) <= SHARED_MAX && !g->add &&
           !g->d_n_rows && aligned16(w->data, w->ld * 2) && aligned16(g->x, g->ld_x * x_size) &&
           g->batch_x * x_size % 16 == 0 && n_groups <= 64;
}

extern "C" int agon_cuda_small(const struct agon_cuda_gemm *g, const struct agon_cuda_matrix *w,
                               int n_groups, const int32_t *begin, void *stream,
                               struct agon_err *err)
{
    int n_parts = n_groups > 0 ? n_groups : g->n_batch > 1 ? g->n_batch : 1;
    if (!agon_cuda_small_does(g, w, n_groups) || w->n % (n_parts * (g->gated ? 2 : 1)))
        return agon_fail(err, AGON_EINPUT, "small product: [%d][%d] by [%d][%d] in %d parts",
                         g->n_rows, w->k, w->n, w->k, n_parts);
    if (g->n_rows <= 0)
        return 0;
    struct small_product p = {};
    p.g = *g;
    p.w = (const uint16_t *)w->data;
    p.ld_w = w->ld;
    p.k = w->k;
    p.w_rows = w->n / n_parts;
    p.n = g->gated ? p.w_rows / 2 : p.w_rows;
    p.n_groups = n_groups;
    p.begin = begin;
    /* Large tiles once small ones fill the device, and where they leave room for a second block. */
    bool large =
        g->n_rows > SMALL_ROWS && tile_bytes(64, g->gated ? 32 : 64, g->gated, w->k) <= 110 << 10;
    if (g->gated)
        return large ? launch<64, 32, true>(&p, stream, err)
                     : launch<32, 32, true>(&p, stream, err);
    return large ? launch<64, 64, false>(&p, stream, err) : launch<32, 32, false>(&p, stream, err);
}
