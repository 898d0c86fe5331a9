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

/* This thread's share of a step; zeros past the ends. */
template <int OUTS> struct exact_share {
    static constexpr int N_X = TILE_ROWS * TILE_K / EXACT_THREADS;
    static constexpr int N_W = 16 * OUTS * TILE_K / EXACT_THREADS;
    float x[N_X], w[N_W];

    __device__ void fetch(const struct gemm_launch &p, const struct agon_cuda_gemm &g, int part,
                          int row, int end, int out, int k)
    {
        int at = k + threadIdx.x % TILE_K;
#pragma unroll
        for (int i = 0; i < N_X; i++) {
            int r = row + (i * EXACT_THREADS + threadIdx.x) / TILE_K;
            x[i] = r < end && at < p.w.k ? x_at(g, g.x, g.rows ? g.rows[r] : r, at) : 0;
        }
#pragma unroll
        for (int i = 0; i < N_W; i++) {
            int o = (i * EXACT_THREADS + threadIdx.x) / TILE_K, up = 0;
            if (p.gemm.gated && o >= 8 * OUTS) { /* the upper half of the tile: the same outputs */
                o -= 8 * OUTS;
                up = p.n;
            }
            bool inside = out + o < p.n && at < p.w.k;
            w[i] = inside ? matrix_at(p.w, part * p.w_rows + out + o + up, at) : 0;
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

template <int OUTS>
static __global__ void __launch_bounds__(EXACT_THREADS) gemm_exact_kernel(struct gemm_launch p)
{
    depends_wait();
    __shared__ struct exact_tile<OUTS> tile;
    struct exact_share<OUTS> share;
    int part = blockIdx.z, width = p.gemm.gated ? 8 * OUTS : 16 * OUTS, out = blockIdx.x * width;
    struct agon_cuda_gemm g = part_of(p, part);
    int begin = p.begin ? p.begin[part] : 0;
    int end = p.begin ? p.begin[part + 1] : rows_today(g.n_rows, g.d_n_rows);
    for (int row = begin + blockIdx.y * TILE_ROWS; row < end; row += gridDim.y * TILE_ROWS) {
        float sum[2][OUTS] = {};
        share.fetch(p, g, part, row, end, out, 0);
        for (int k = 0; k < p.w.k; k += TILE_K) {
            share.store(tile);
            __syncthreads();
            if (k + TILE_K < p.w.k)
                share.fetch(p, g, part, row, end, out, k + TILE_K);
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

int gemm_exact_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    int n_row_tiles = agon_ceil_div(launch->gemm.n_rows, TILE_ROWS);
    bool few = launch->w_rows <= 32 && !launch->gemm.gated; /* then small tiles: a shorter way */
    int outs = few ? 1 : 4;
    dim3 grid(agon_ceil_div(launch->w_rows, 16 * outs),
              n_row_tiles < EXACT_GRID_MAX ? n_row_tiles : EXACT_GRID_MAX, launch->n_parts);
    if (few)
        AGON_CUDA(
            err, "exact product launch",
            launch_overlapping(gemm_exact_kernel<1>, grid, EXACT_THREADS, 0, stream, *launch));
    else
        AGON_CUDA(
            err, "exact product launch",
            launch_overlapping(gemm_exact_kernel<4>, grid, EXACT_THREADS, 0, stream, *launch));
    return 0;
}
