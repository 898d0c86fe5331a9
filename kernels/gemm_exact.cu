/*
 * The product in plain F32: out[r][i] = fma chain over k ascending from 0, whatever the launch. So
 * a row is the same bit for bit in any batch, and the same as the CPU's vector kernels make
 * (matmul_simd.h). Floor: 2 m n k operations at the F32 rate (67 TFLOP/s); no tensor core does
 * F32 in one order.
 *
 * A block computes tiles of 32 rows by 64 outputs of one part (blockIdx.z); its 256 threads hold
 * 2 x 4 outputs each. Steps of 16 k lie in shared memory as floats, k outermost.
 */
#include "kernels/check.cuh"
#include "kernels/gemm.cuh"
#include "kernels/number.cuh"

enum { TILE_ROWS = 32, TILE_OUT = 64, TILE_K = 16, EXACT_THREADS = 256, EXACT_GRID_MAX = 1024 };

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

struct exact_tile {
    float x[TILE_K][TILE_ROWS], w[TILE_K][TILE_OUT + 1];
};

static __device__ void tile_load(struct exact_tile &tile, const struct gemm_launch &p,
                                 const struct agon_cuda_gemm &g, int part, int row, int end,
                                 int out, int k)
{
    for (int i = threadIdx.x; i < TILE_ROWS * TILE_K; i += EXACT_THREADS) {
        int r = row + i / TILE_K, at = k + i % TILE_K;
        float value = 0;
        if (r < end && at < p.w.k)
            value = x_at(g, g.x, g.rows ? g.rows[r] : r, at);
        tile.x[i % TILE_K][i / TILE_K] = value;
    }
    for (int i = threadIdx.x; i < TILE_OUT * TILE_K; i += EXACT_THREADS) {
        int o = out + i / TILE_K, at = k + i % TILE_K;
        float value = 0;
        if (o < p.n && at < p.w.k)
            value = matrix_at(p.w, part * p.n + o, at);
        tile.w[i % TILE_K][i / TILE_K] = value;
    }
}

static __global__ void __launch_bounds__(EXACT_THREADS) gemm_exact_kernel(struct gemm_launch p)
{
    __shared__ struct exact_tile tile;
    int part = blockIdx.z, out = blockIdx.x * TILE_OUT;
    struct agon_cuda_gemm g = part_of(p, part);
    int begin = p.begin ? p.begin[part] : 0;
    int end = p.begin ? p.begin[part + 1] : rows_today(g.n_rows, g.d_n_rows);
    int my_row = threadIdx.x / 16, my_out = threadIdx.x % 16;
    for (int row = begin + blockIdx.y * TILE_ROWS; row < end; row += gridDim.y * TILE_ROWS) {
        float sum[2][4] = {};
        for (int k = 0; k < p.w.k; k += TILE_K) {
            tile_load(tile, p, g, part, row, end, out, k);
            __syncthreads();
            int n_k = p.w.k - k < TILE_K ? p.w.k - k : TILE_K; /* a product with 0 is no no-op */
            for (int i = 0; i < n_k; i++)
#pragma unroll
                for (int a = 0; a < 2; a++)
#pragma unroll
                    for (int b = 0; b < 4; b++)
                        sum[a][b] =
                            fmaf(tile.x[i][my_row + 16 * a], tile.w[i][my_out + 16 * b], sum[a][b]);
            __syncthreads();
        }
#pragma unroll
        for (int a = 0; a < 2; a++)
#pragma unroll
            for (int b = 0; b < 4; b++) {
                int r = row + my_row + 16 * a, o = out + my_out + 16 * b;
                if (r >= end || o >= p.n)
                    continue;
                size_t at = r * g.ld_out + o;
                float value = g.add ? ((float *)g.out)[at] + sum[a][b] : sum[a][b];
                number_store(g.out, g.out_dtype, at, value);
            }
    }
}

int gemm_exact_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    int n_row_tiles = agon_ceil_div(launch->gemm.n_rows, TILE_ROWS);
    dim3 grid(agon_ceil_div(launch->n, TILE_OUT),
              n_row_tiles < EXACT_GRID_MAX ? n_row_tiles : EXACT_GRID_MAX, launch->n_parts);
    gemm_exact_kernel<<<grid, EXACT_THREADS, 0, (cudaStream_t)stream>>>(*launch);
    AGON_CUDA(err, "exact product launch", cudaGetLastError());
    return 0;
}
