/*
 * The product in plain F32: out[r][i] = fma chain over k ascending from 0, whatever the launch. So
 * a row is the same bit for bit in any batch, and the same as the CPU's vector kernels make
 * (matmul_simd.h). Floor: 2 m n k operations at the F32 rate (67 TFLOP/s); no tensor core does
 * F32 in one order.
 *
 * A block computes tiles of 32 rows by 16 OUTS outputs of one part (blockIdx.z); its 256 threads
 * hold 2 x OUTS outputs each. Steps of 32 k lie in shared memory as floats, k outermost; the next
 * step is on its way to registers meanwhile.
 */
#include "kernels/check.cuh"
#include "kernels/gemm.cuh"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"

enum { TILE_ROWS = 32, TILE_K = 32, EXACT_THREADS = 256, EXACT_GRID_MAX = 1024 };

static __device__ float x_at(const struct agon_cuda_gemm &g, const void *x, int row, int k)
{
    size_t at = row * g.ld_x + k;
    if (g.x_dtype != AGON_E4M3)
        return number_load(x, g.x_dtype, at);
    float scale = g.x_scale[row * g.ld_x_scale + k / AGON_SCALE_BLOCK];
    return e4m3_decode(((const uint8_t *)x)[at]) * scale;
}

/* Where product `part` reads and writes; the dtype decides how far an element is. */
static __device__ struct agon_cuda_gemm part_of(const struct gemm_launch &p, int part)
{
    struct agon_cuda_gemm g = p.gemm;
    size_t x_size = g.x_dtype == AGON_F32 ? 4 : g.x_dtype == AGON_BF16 ? 2 : 1;
    size_t out_size = g.out_dtype == AGON_F32 ? 4 : 2;
    g.x = (const char *)g.x + part * g.batch_x * x_size;
    g.out = (char *)g.out + part * g.batch_out * out_size;
    return g;
}

template <int OUTS> struct exact_tile {
    float x[TILE_K][TILE_ROWS + 1], w[TILE_K][16 * OUTS + 1];
};

/* Which dtypes a kernel is made for: those of the reference mode, where loads are in flight
 * together, or any. */
enum exact_kind { F32_ROWS, BF16_ROWS, ANY_DTYPES }; /* the first two with weights in F32 */

/* This thread's share of a step; zeros past the ends. Element i lies in row (or output) i *
 * EXACT_THREADS / TILE_K further on than the first. */
template <enum exact_kind KIND, int OUTS> struct exact_share {
    static constexpr int N_X = TILE_ROWS * TILE_K / EXACT_THREADS;
    static constexpr int N_W = 16 * OUTS * TILE_K / EXACT_THREADS;
    float x[N_X], w[N_W];
    int x_row[N_X], w_row[N_W]; /* -1: none */

    __device__ void aim(const struct gemm_launch &p, int part, int row, int end, int out)
    {
#pragma unroll
        for (int i = 0; i < N_X; i++) {
            int r = row + (i * EXACT_THREADS + threadIdx.x) / TILE_K;
            x_row[i] = r >= end ? -1 : p.gemm.rows ? p.gemm.rows[r] : r;
        }
#pragma unroll
        for (int i = 0; i < N_W; i++) {
            int o = (i * EXACT_THREADS + threadIdx.x) / TILE_K, up = 0;
            if (p.gemm.gated && o >= 8 * OUTS) { /* the upper half of the tile: the same outputs */
                o -= 8 * OUTS;
                up = p.n;
            }
            w_row[i] = out + o < p.n ? part * p.w_rows + out + o + up : -1;
        }
    }

    __device__ void fetch(const struct gemm_launch &p, const struct agon_cuda_gemm &g, int k)
    {
        int at = k + threadIdx.x % TILE_K;
        bool inside = at < p.w.k;
#pragma unroll
        for (int i = 0; i < N_X; i++) {
            size_t from = x_row[i] * g.ld_x + at;
            if (!inside || x_row[i] < 0)
                x[i] = 0;
            else if (KIND == F32_ROWS)
                x[i] = ((const float *)g.x)[from];
            else
                x[i] = KIND == BF16_ROWS ? bf16_decode(((const uint16_t *)g.x)[from])
                                         : x_at(g, g.x, x_row[i], at);
        }
#pragma unroll
        for (int i = 0; i < N_W; i++) {
            if (!inside || w_row[i] < 0)
                w[i] = 0;
            else if (KIND == ANY_DTYPES)
                w[i] = matrix_at(p.w, w_row[i], at);
            else
                w[i] = ((const float *)p.w.data)[w_row[i] * p.w.ld + at];
        }
    }

    __device__ void store(struct exact_tile<OUTS> &tile) const
    {
#pragma unroll
        for (int i = 0; i < N_X; i++)
            tile.x[threadIdx.x % TILE_K][(i * EXACT_THREADS + threadIdx.x) / TILE_K] = x[i];
#pragma unroll
        for (int i = 0; i < N_W; i++)
            tile.w[threadIdx.x % TILE_K][(i * EXACT_THREADS + threadIdx.x) / TILE_K] = w[i];
    }
};

/* n_k steps of the chain: a product with 0 would be no no-op where the other factor is infinite. */
template <int OUTS>
static __device__ __forceinline__ void chain(float (&sum)[2][OUTS],
                                             const struct exact_tile<OUTS> &tile, int n_k)
{
    int my_row = threadIdx.x / 16, my_out = threadIdx.x % 16;
#pragma unroll 8
    for (int i = 0; i < n_k; i++)
#pragma unroll
        for (int a = 0; a < 2; a++)
#pragma unroll
            for (int b = 0; b < OUTS; b++)
                sum[a][b] = fmaf(tile.x[i][my_row + 16 * a], tile.w[i][my_out + 16 * b], sum[a][b]);
}

template <enum exact_kind KIND, int OUTS>
static __global__ void __launch_bounds__(EXACT_THREADS) gemm_exact_kernel(struct gemm_launch p)
{
    depends_wait();
    __shared__ struct exact_tile<OUTS> tile;
    struct exact_share<KIND, OUTS> share;
    int part = blockIdx.z, width = p.gemm.gated ? 8 * OUTS : 16 * OUTS, out = blockIdx.x * width;
    struct agon_cuda_gemm g = part_of(p, part);
    int begin = p.begin ? p.begin[part] : 0;
    int end = p.begin ? p.begin[part + 1] : rows_today(g.n_rows, g.d_n_rows);
    for (int row = begin + blockIdx.y * TILE_ROWS; row < end; row += gridDim.y * TILE_ROWS) {
        float sum[2][OUTS] = {};
        share.aim(p, part, row, end, out);
        share.fetch(p, g, 0);
        for (int k = 0; k < p.w.k; k += TILE_K) {
            share.store(tile);
            __syncthreads();
            if (k + TILE_K < p.w.k)
                share.fetch(p, g, k + TILE_K);
            if (p.w.k - k >= TILE_K)
                chain<OUTS>(sum, tile, TILE_K);
            else
                chain<OUTS>(sum, tile, p.w.k - k);
            __syncthreads();
        }
#pragma unroll
        for (int i = 0; i < 2 * OUTS; i++) {
            int r = row + threadIdx.x / 16 + i / OUTS * 16;
            int o = threadIdx.x % 16 + i % OUTS * 16;
            if (r >= end || o >= width || out + o >= p.n)
                continue;
            size_t at = r * g.ld_out + out + o;
            float value = sum[i / OUTS][i % OUTS];
            if (OUTS > 1 && p.gemm.gated)
                value = gemm_gate(value, sum[i / OUTS][(i + OUTS / 2) % OUTS]);
            value = g.add ? ((float *)g.out)[at] + value : value;
            number_store(g.out, g.out_dtype, at, value);
        }
    }
}

template <enum exact_kind KIND>
static int exact_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    int n_row_tiles = agon_ceil_div(launch->gemm.n_rows, TILE_ROWS);
    bool few = launch->w_rows <= 32 && !launch->gemm.gated; /* then small tiles: a shorter way */
    dim3 grid(agon_ceil_div(launch->w_rows, few ? 16 : 64),
              n_row_tiles < EXACT_GRID_MAX ? n_row_tiles : EXACT_GRID_MAX, launch->n_parts);
    auto kernel = few ? gemm_exact_kernel<KIND, 1> : gemm_exact_kernel<KIND, 4>;
    AGON_CUDA(err, "exact product launch",
              launch_overlapping(kernel, grid, EXACT_THREADS, 0, stream, *launch));
    return 0;
}

int gemm_exact_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    enum agon_dtype x = launch->gemm.x_dtype, w = launch->w.dtype;
    if (w == AGON_F32 && x == AGON_F32)
        return exact_launch<F32_ROWS>(launch, stream, err);
    if (w == AGON_F32 && x == AGON_BF16)
        return exact_launch<BF16_ROWS>(launch, stream, err);
    return exact_launch<ANY_DTYPES>(launch, stream, err);
}
