#pragma once
/* What the stages of stack.cu share: places, products, rows and their norms. */
#include "kernels/cluster.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/cuda_stack.h"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

enum {
    STACK_THREADS = 512,
    STACK_WARPS = STACK_THREADS / 32,
    STACK_CLUSTER = 8,
    STACK_ROWS_MAX = 80,                            /* of a cluster */
    STACK_OWN_MAX = STACK_ROWS_MAX / STACK_CLUSTER, /* of a block: 10 */
    STACK_HIDDEN_MAX = 384,
    STACK_Q_MAX = 256,
    STACK_EXPERTS_MAX = AGON_STACK_GROUPS_MAX - 1,
    STACK_TOPK_MAX = 4,
};

/*
 * The thread's number, read anew wherever it is asked for: what is made of it then lives as long as
 * its stage. The compiler would rather keep it for all stages, in registers that there are not.
 */
static __device__ __forceinline__ int stack_thread(void)
{
    return opaque_thread();
}
static __device__ __forceinline__ int stack_warp(void)
{
    return stack_thread() / 32;
}
static __device__ __forceinline__ int stack_lane(void)
{
    return stack_thread() % 32;
}

/* Where a block is. */
struct stack_place {
    int rank, size;   /* the block in its cluster */
    int row0, n_rows; /* the cluster's rows */
    int own0, n_own;  /* the block's: first, how many */
};

/* Buffers between the stages, each [n_rows][..]. */
struct stack_buffers {
    float *input; /* [ld_input] */
    float *index_query;
    uint16_t *query, *attended, *act;
    int ld_input;
};

/* Which rows go through which group of weights, and how much its output counts. */
struct stack_routes {
    int n[AGON_STACK_GROUPS_MAX], begin[AGON_STACK_GROUPS_MAX + 1];
    float logits[STACK_ROWS_MAX][STACK_EXPERTS_MAX + 1];
    float weight[STACK_ROWS_MAX][STACK_TOPK_MAX];
    short id[STACK_ROWS_MAX][STACK_TOPK_MAX];
    short row[AGON_STACK_GROUPS_MAX][STACK_ROWS_MAX];
    float row_weight[AGON_STACK_GROUPS_MAX][STACK_ROWS_MAX];
};

/* At the beginning of a block's shared memory: once for all threads, where registers are short. */
struct stack_block {
    struct stack_place at;
    struct stack_buffers buffers;
    struct agon_stack_layer layer;
    struct stack_routes routes;
};

/* Room for a stage. */
static __device__ __forceinline__ char *stack_room(void)
{
    return cluster_shared() + (sizeof(struct stack_block) + 127) / 128 * 128;
}

static __device__ __forceinline__ int stack_width(const struct agon_stack &p)
{
    return p.n_heads * AGON_STACK_ENTRY;
}

static __device__ __forceinline__ bool row_is(const struct agon_stack &p, int row)
{
    return row < p.rows.n_rows && p.rows.row_sequence[row] >= 0;
}

/* ---- weights ------------------------------------------------------------------------ */

/* NB tiles of weights that take the same rows, a few steps of 32 ahead of their use. */
template <int NB> struct stream {
    enum { CHUNK = NB == 1 ? 4 : 3 };
    uint4 next[NB][CHUNK];
};

/* Steps [k, end) of tile b, which this lane has at w + b * ld. */
template <int NB>
static __device__ __forceinline__ void stream_load(struct stream<NB> &s, const uint4 *w, size_t ld,
                                                   int k, int end)
{
#pragma unroll
    for (int b = 0; b < NB; b++)
#pragma unroll
        for (int i = 0; i < stream<NB>::CHUNK; i++)
            s.next[b][i] = k + i < end ? weights_load(w + b * ld + (size_t)(k + i) * 32)
                                       : make_uint4(0, 0, 0, 0); /* never as it was before */
}

/*
 * acc[b][m] += 16 rows by the 8 outputs of tile b, over steps [begin, end), the first of which are
 * in s. a[m]: this lane's address for ldmatrix. `after`: what s is to hold next (its steps from
 * after_begin), or NULL.
 */
template <int MT, int NB>
static __device__ __forceinline__ void multiply(float (&acc)[NB][MT][4], struct stream<NB> &s,
                                                const uint32_t (&a)[MT], int n_m, const uint4 *w,
                                                size_t ld, int begin, int end, const uint4 *after,
                                                int after_begin, int after_end)
{
    enum { CHUNK = stream<NB>::CHUNK };
    for (int k = begin; k < end; k += CHUNK) {
        struct stream<NB> now = s;
        if (k + CHUNK < end)
            stream_load<NB>(s, w, ld, k + CHUNK, end);
        else if (after)
            stream_load<NB>(s, after, ld, after_begin, after_end);
#pragma unroll
        for (int i = 0; i < CHUNK; i++) {
            if (k + i >= end)
                break;
#pragma unroll
            for (int m = 0; m < MT; m++) {
                if (m >= n_m)
                    break;
                uint32_t x[4];
                mma_load(x, a[m] + (k + i) * 64);
#pragma unroll
                for (int b = 0; b < NB; b++)
                    mma(acc[b][m], x, now.next[b][i].x, now.next[b][i].y);
                mma_load(x, a[m] + (k + i) * 64 + 32);
#pragma unroll
                for (int b = 0; b < NB; b++)
                    mma(acc[b][m], x, now.next[b][i].z, now.next[b][i].w);
            }
        }
    }
}

/* Addresses of rows 0 .. 16 MT of the tile at `at`. */
template <int MT>
static __device__ __forceinline__ void rows_in_order(uint32_t (&a)[MT], uint32_t at, int stride)
{
    int lane = stack_lane();
#pragma unroll
    for (int m = 0; m < MT; m++)
        a[m] = at + (m * 16 + lane % 16) * stride + lane / 16 * 16;
}

/* ---- rows --------------------------------------------------------------------------- */

/* n floats of a row, 4 a lane at a time; N of those. */
template <int N>
static __device__ __forceinline__ void row_load(float4 (&v)[N], const float *from, int n)
{
#pragma unroll
    for (int i = 0; i < N; i++)
        v[i] = i * 128 < n ? __ldcg((const float4 *)(from + i * 128) + stack_lane())
                           : make_float4(0, 0, 0, 0);
}

/* RMSNorm of a row that a warp holds. */
template <int N>
static __device__ __forceinline__ void row_norm(float4 (&v)[N], const float *w, int n, float eps)
{
    float square = 0;
#pragma unroll
    for (int i = 0; i < N; i++)
        if (i * 128 < n)
            square += v[i].x * v[i].x + v[i].y * v[i].y + v[i].z * v[i].z + v[i].w * v[i].w;
    float factor = 1 / sqrtf(warp_sum(square) / n + eps);
#pragma unroll
    for (int i = 0; i < N; i++)
        if (i * 128 < n) {
            float4 by = ((const float4 *)(w + i * 128))[stack_lane()];
            v[i] = make_float4(by.x * (v[i].x * factor), by.y * (v[i].y * factor),
                               by.z * (v[i].z * factor), by.w * (v[i].w * factor));
        }
}

/* A row as BF16. */
template <int N>
static __device__ __forceinline__ void row_store(char *to, const float4 (&v)[N], int n)
{
#pragma unroll
    for (int i = 0; i < N; i++)
        if (i * 128 < n)
            ((uint2 *)(to + i * 256))[stack_lane()] =
                make_uint2(bf16_pack(v[i].x, v[i].y), bf16_pack(v[i].z, v[i].w));
}

/* [n_rows][n] BF16 to shared memory, rows `stride` bytes apart there; waited for by the caller. */
static __device__ __forceinline__ void rows_copy(char *to, int stride, const uint16_t *from,
                                                 int n_rows, int n)
{
    uint32_t at = mma_address(to);
    int n_chunks = n / 8;
    for (int i = stack_thread(); i < n_rows * n_chunks; i += STACK_THREADS) {
        int row = i / n_chunks, chunk = i % n_chunks;
        mma_copy16(at + row * stride + chunk * 16, from + (size_t)row * n + chunk * 8, true);
    }
    mma_copies_end();
}

/* ---- products whose k is halved ----------------------------------------------------- */

/* A block's share of n_tiles: the first, and how many. */
static __device__ __forceinline__ int tiles_of(const struct stack_place &at, int n_tiles,
                                               int *first)
{
    int most = (n_tiles + at.size - 1) / at.size;
    *first = at.rank * most;
    return max(0, min(most, n_tiles - *first));
}
static __host__ __device__ inline int halves_ld(int n_tiles)
{
    return n_tiles * 8 + 4;
}

/* Add a tile of 16 rows, times a weight for each, to half [rows][ld]. */
static __device__ __forceinline__ void half_put(float *half, int ld, int row, int column, float a,
                                                float b)
{
    *(float2 *)(half + row * ld + column) = make_float2(a, b);
}

/*
 * halves [2][R][ld] = rows (at `a`, `stride` apart) by this block's tiles of w, k halved: half of
 * the steps, and the other half. The caller has the first steps in s.
 */
struct halves {
    const uint4 *w;
    int n_steps, first, n_tiles;
};
static __device__ __forceinline__ struct halves halves_of(const struct stack_place &at,
                                                          const void *w, int n, int k)
{
    struct halves h = {};
    h.n_steps = k / 32;
    h.n_tiles = tiles_of(at, (n + 7) / 8, &h.first);
    h.w = (const uint4 *)w + (size_t)h.first * h.n_steps * 32 + stack_lane();
    return h;
}
static __device__ __forceinline__ void halves_range(const struct halves &h, int task, int *tile,
                                                    int *begin, int *end)
{
    int middle = (h.n_steps + 1) / 2;
    *tile = task % h.n_tiles;
    *begin = task < h.n_tiles ? 0 : middle;
    *end = task < h.n_tiles ? middle : h.n_steps;
}
static __device__ __forceinline__ void halves_begin(struct stream<1> &s, const struct halves &h,
                                                    int task)
{
    int tile, begin, end;
    if (task >= 2 * h.n_tiles)
        return;
    halves_range(h, task, &tile, &begin, &end);
    stream_load<1>(s, h.w + (size_t)tile * h.n_steps * 32, 0, begin, end);
}

template <int MT>
static __device__ __forceinline__ void halves_multiply(float *out, int ld, struct stream<1> &s,
                                                       const struct halves &h, uint32_t rows,
                                                       int stride)
{
    int warp = stack_warp(), lane = stack_lane();
    uint32_t a[MT];
    rows_in_order<MT>(a, rows, stride);
    for (int task = warp; task < 2 * h.n_tiles; task += STACK_WARPS) {
        int tile, begin, end;
        float acc[1][MT][4] = {};
        halves_range(h, task, &tile, &begin, &end);
        multiply<MT, 1>(acc, s, a, MT, h.w + (size_t)tile * h.n_steps * 32, 0, begin, end, NULL, 0,
                        0);
        halves_begin(s, h, task + STACK_WARPS);
        float *half = out + (task < h.n_tiles ? 0 : MT * 16 * ld);
#pragma unroll
        for (int m = 0; m < MT; m++) {
            int row = m * 16 + lane / 4, column = tile * 8 + 2 * (lane % 4);
            half_put(half, ld, row, column, acc[0][m][0], acc[0][m][1]);
            half_put(half, ld, row + 8, column, acc[0][m][2], acc[0][m][3]);
        }
    }
}
