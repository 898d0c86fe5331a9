/*
 * Operators over elements and over rows: see cuda_ops.h. All are bound by memory: the floor of each
 * is its bytes read and written once. Products and sums that the CPU twin rounds one by one are
 * written with __fmul_rn and __fadd_rn, so that nvcc does not fuse them.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/hadamard.cuh"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"

enum { ROW_THREADS = 128, ROWS_GRID_MAX = 65535 };

static dim3 rows_grid(int n_columns, int n_rows)
{
    return dim3(agon_ceil_div(n_columns, ROW_THREADS),
                n_rows < ROWS_GRID_MAX ? n_rows : ROWS_GRID_MAX);
}

static int rows_check(const char *what, int n, int n_rows, struct agon_err *err)
{
    if (n <= 0 || n_rows < 0)
        return agon_fail(err, AGON_EINPUT, "%s: shape [%d][%d]", what, n_rows, n);
    return 0;
}

static bool is_float(enum agon_dtype dtype)
{
    return dtype == AGON_F32 || dtype == AGON_BF16;
}

/* ---- elements: blockIdx.y is the row, blockIdx.x * ROW_THREADS its columns --------------- */

static __global__ void embed_kernel(float *out, size_t ld_out, const int32_t *ids,
                                    struct agon_cuda_matrix table, int n_rows,
                                    const int32_t *d_n_rows)
{
    depends_wait();
    int j = blockIdx.x * ROW_THREADS + threadIdx.x;
    n_rows = rows_today(n_rows, d_n_rows);
    for (int r = blockIdx.y; r < n_rows && j < table.k; r += gridDim.y) {
        int id = ids[r];
        out[r * ld_out + j] = id >= 0 && id < table.n ? matrix_at(table, id, j) : 0;
    }
}

extern "C" int agon_cuda_embed(float *out, size_t ld_out, const int32_t *ids,
                               const struct agon_cuda_matrix *table, int n_rows,
                               const int32_t *d_n_rows, void *stream, struct agon_err *err)
{
    int r = rows_check("embedding", table->k, n_rows, err);
    if (r || n_rows == 0)
        return r;
    AGON_CUDA(err, "embedding launch",
              launch_overlapping(embed_kernel, rows_grid(table->k, n_rows), ROW_THREADS, 0, stream,
                                 out, ld_out, ids, *table, n_rows, d_n_rows));
    return 0;
}

/* ---- rotary embedding -------------------------------------------------------------------- */

static __global__ void rope_angles_kernel(float *cosine, float *sine, const double *inv_freq,
                                          int half, const int32_t *position, int n_rows,
                                          const int32_t *d_n_rows)
{
    depends_wait();
    n_rows = rows_today(n_rows, d_n_rows);
    for (int i = blockIdx.x * ROW_THREADS + threadIdx.x; i < n_rows * half;
         i += gridDim.x * ROW_THREADS) {
        double angle = (double)position[i / half] * inv_freq[i % half];
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
}

extern "C" int agon_cuda_rope_angles(float *cosine, float *sine, const double *inv_freq, int half,
                                     const int32_t *position, int n_rows, const int32_t *d_n_rows,
                                     void *stream, struct agon_err *err)
{
    int r = rows_check("angles", half, n_rows, err);
    if (r || n_rows == 0)
        return r;
    AGON_CUDA(err, "angles launch",
              launch_overlapping(rope_angles_kernel, agon_ceil_div(n_rows * half, ROW_THREADS),
                                 ROW_THREADS, 0, stream, cosine, sine, inv_freq, half, position,
                                 n_rows, d_n_rows));
    return 0;
}

/* A block is a row; its threads take the pairs of all heads. A pair is read whole before it is
 * written, so out may be x. */
static __global__ void rope_kernel(struct agon_cuda_rope p)
{
    depends_wait();
    int n_rows = rows_today(p.n_rows, p.d_n_rows);
    for (int r = blockIdx.x; r < n_rows; r += gridDim.x)
        for (int at = threadIdx.x; at < p.n_heads * p.half; at += blockDim.x) {
            int h = at / p.half, i = at % p.half;
            int first = p.interleaved ? 2 * i : i, second = p.interleaved ? 2 * i + 1 : i + p.half;
            const float *x = p.x + r * p.ld_x + h * p.ld_head;
            float *out = p.out + r * p.ld_out + h * p.ld_out_head;
            float a = x[first], b = x[second];
            float c = p.cosine[(size_t)r * p.half + i], s = p.sine[(size_t)r * p.half + i];
            out[first] = __fsub_rn(__fmul_rn(a, c), __fmul_rn(b, s));
            out[second] = __fadd_rn(__fmul_rn(a, s), __fmul_rn(b, c));
        }
}

extern "C" int agon_cuda_rope(const struct agon_cuda_rope *rope, void *stream, struct agon_err *err)
{
    int r = rows_check("RoPE", rope->half * rope->n_heads, rope->n_rows, err);
    if (r || rope->n_rows == 0)
        return r;
    AGON_CUDA(err, "RoPE launch",
              launch_overlapping(rope_kernel, rope->n_rows, ROW_THREADS, 0, stream, *rope));
    return 0;
}

/* ---- quantisation ------------------------------------------------------------------------ */

enum { QUANT_WARPS = 4, QUANT_GROUPS = 4 };

/* A warp is one group of one row. Without the rotation, values are read twice (the second time from
 * L1). */
static __global__ void quantise_kernel(struct agon_cuda_quant p)
{
    depends_wait();
    __shared__ float rotated[QUANT_WARPS][HADAMARD_MAX];
    int lane = threadIdx.x % 32, n_groups = agon_ceil_div(p.n, p.group);
    int n_rows = rows_today(p.n_rows, p.d_n_rows);
    float *values = rotated[threadIdx.x / 32];
    for (int at = blockIdx.x * QUANT_WARPS + threadIdx.x / 32; at < n_rows * n_groups;
         at += gridDim.x * QUANT_WARPS) {
        int r = at / n_groups, g = at % n_groups, begin = g * p.group;
        int n = p.n - begin < p.group ? p.n - begin : p.group;
        size_t from = (p.rows ? p.rows[r] : r) * p.ld_x + begin;
        if (p.hadamard) {
            for (int i = lane; i < n; i += 32)
                values[i] = number_load(p.x, p.x_dtype, from + i);
            hadamard(values, n);
        }
        float largest = 1e-4F;
        for (int i = lane; i < n; i += 32) {
            float x = p.hadamard ? values[i] : number_load(p.x, p.x_dtype, from + i);
            largest = fmaxf(largest, fabsf(x));
        }
        largest = warp_max(largest);
        float scale = p.ue8m0 ? ue8m0_round_up(largest / 448) : largest / 448;
        for (int i = lane; i < n; i += 32) {
            float x = p.hadamard ? values[i] : number_load(p.x, p.x_dtype, from + i);
            p.codes[r * p.ld_codes + begin + i] = e4m3_encode(x / scale);
        }
        if (lane == 0)
            p.scales[r * p.ld_scales + g] = scale;
        __syncwarp();
    }
}

/* Four values of a row from element i on, a multiple of four. */
static __device__ __forceinline__ float4 four_values(const void *x, enum agon_dtype dtype, size_t i)
{
    if (dtype == AGON_F32)
        return *(const float4 *)((const float *)x + i);
    uint2 codes = *(const uint2 *)((const uint16_t *)x + i);
    return make_float4(bf16_decode((uint16_t)codes.x), bf16_decode(codes.x >> 16),
                       bf16_decode((uint16_t)codes.y), bf16_decode(codes.y >> 16));
}

/* Whole groups of 128, without a rotation: a warp is QUANT_GROUPS groups of a row, all asked for
 * before the first is used; a lane has four values of each. A power of two divides as its inverse
 * multiplies. */
static __global__ void quantise_whole_kernel(struct agon_cuda_quant p)
{
    depends_wait();
    int lane = threadIdx.x % 32, n_groups = p.n / 128, each = agon_ceil_div(n_groups, QUANT_GROUPS);
    int n = rows_today(p.n_rows, p.d_n_rows) * each;
    for (int at = blockIdx.x * QUANT_WARPS + threadIdx.x / 32; at < n;
         at += gridDim.x * QUANT_WARPS) {
        int r = at / each, first = at % each * QUANT_GROUPS;
        size_t from = (p.rows ? p.rows[r] : r) * p.ld_x + lane * 4;
        float4 x[QUANT_GROUPS];
#pragma unroll
        for (int i = 0; i < QUANT_GROUPS; i++)
            x[i] = four_values(p.x, p.x_dtype, from + min(first + i, n_groups - 1) * 128);
#pragma unroll
        for (int i = 0; i < QUANT_GROUPS; i++) {
            int g = first + i;
            if (g >= n_groups)
                break;
            float largest = fmaxf(1e-4F, fmaxf(fmaxf(fabsf(x[i].x), fabsf(x[i].y)),
                                               fmaxf(fabsf(x[i].z), fabsf(x[i].w))));
            largest = warp_max(largest);
            float scale = p.ue8m0 ? ue8m0_round_up(largest / 448) : largest / 448;
            float by = 1 / scale;
            auto code = [&](float v, float w) {
                float2 two =
                    p.ue8m0 ? make_float2(v * by, w * by) : make_float2(v / scale, w / scale);
                return (uint32_t)__nv_cvt_float2_to_fp8x2(two, __NV_SATFINITE, __NV_E4M3);
            };
            uint32_t low = code(x[i].x, x[i].y), high = code(x[i].z, x[i].w);
            *(uint32_t *)(p.codes + r * p.ld_codes + g * 128 + lane * 4) = low | high << 16;
            if (lane == 0)
                p.scales[r * p.ld_scales + g] = scale;
        }
    }
}

static bool quantises_whole(const struct agon_cuda_quant *q)
{
    size_t align = 4 * agon_dtype_size(q->x_dtype);
    return q->group == 128 && q->n % 128 == 0 && !q->hadamard && q->ld_x % 4 == 0 &&
           q->ld_codes % 4 == 0 && (uintptr_t)q->x % align == 0 && (uintptr_t)q->codes % 4 == 0;
}

extern "C" int agon_cuda_quantise(const struct agon_cuda_quant *quant, void *stream,
                                  struct agon_err *err)
{
    int r = rows_check("quantise", quant->n, quant->n_rows, err), group = quant->group;
    bool power = group > 0 && (group & (group - 1)) == 0;
    if (!r && (group <= 0 || !is_float(quant->x_dtype) ||
               (quant->hadamard && (!power || group > HADAMARD_MAX || quant->n % group != 0))))
        r = agon_fail(err, AGON_EINPUT, "quantise: groups of %d of [%d][%d] %s%s", group,
                      quant->n_rows, quant->n, agon_dtype_name(quant->x_dtype),
                      quant->hadamard ? ", rotated" : "");
    if (r || quant->n_rows == 0)
        return r;
    int n_groups = quant->n_rows * agon_ceil_div(quant->n, group);
    if (quantises_whole(quant)) {
        int n_warps = quant->n_rows * agon_ceil_div(quant->n / 128, QUANT_GROUPS);
        AGON_CUDA(err, "quantise launch",
                  launch_overlapping(quantise_whole_kernel, agon_ceil_div(n_warps, QUANT_WARPS),
                                     32 * QUANT_WARPS, 0, stream, *quant));
        return 0;
    }
    AGON_CUDA(err, "quantise launch",
              launch_overlapping(quantise_kernel, agon_ceil_div(n_groups, QUANT_WARPS),
                                 32 * QUANT_WARPS, 0, stream, *quant));
    return 0;
}
