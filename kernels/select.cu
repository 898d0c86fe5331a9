/*
 * The indexer of small models: see cuda_attend.h.
 *
 * A block takes a group of rows. First a thread is a key: it holds the key's 32 values and makes
 * its score for every row that sees its page (for all rows of the group where they hold the same
 * page); scores become integers that order as they do, in shared memory. Then a warp is a row: bit
 * by bit from the top it finds the largest threshold that k keys reach (most of them in registers),
 * and among equals takes the lowest positions. Floor, 1,000 rows of 4 heads over 1,000 shared
 * positions: 128 kFMA a row: 2 us a layer.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_attend.h"
#include "kernels/launch.cuh"

enum {
    SELECT_THREADS = 256,
    SELECT_DIM = 32,
    SELECT_HEADS_MAX = 8,
    GROUP_MAX = 8,
    IN_REGISTERS = 48, /* keys of a lane: positions up to 1,536 */
    ROW_BYTES_MAX = 180 << 10,
};

/* Larger score, larger key; -0 as 0; NaN lowest. */
static __device__ __forceinline__ uint32_t order_key(float score)
{
    uint32_t bits = __float_as_uint(score + 0.0F);
    return score != score ? 0 : bits ^ (bits >> 31 ? 0xffffffffU : 0x80000000U);
}

struct key_values {
    float4 v[SELECT_DIM / 4];
};

static __device__ __forceinline__ struct key_values load_key(const struct agon_select &p, int page,
                                                             int slot)
{
    struct key_values key;
    const float4 *from = (const float4 *)((const float *)p.keys.pool +
                                          ((size_t)page * AGON_CUDA_PAGE + slot) * SELECT_DIM);
#pragma unroll
    for (int i = 0; i < SELECT_DIM / 4; i++)
        key.v[i] = from[i];
    return key;
}

/* One score: dims ascending in a dot, then heads ascending. q: shared, [n_heads][32]. */
static __device__ __forceinline__ float score_of(const struct key_values &key, const float *q,
                                                 const float *weights, int n_heads)
{
    float score = 0;
    for (int h = 0; h < n_heads; h++) {
        const float4 *at = (const float4 *)(q + h * SELECT_DIM);
        float dot = 0;
#pragma unroll
        for (int i = 0; i < SELECT_DIM / 4; i++) {
            float4 x = at[i];
            dot = fmaf(x.x, key.v[i].x, dot);
            dot = fmaf(x.y, key.v[i].y, dot);
            dot = fmaf(x.z, key.v[i].z, dot);
            dot = fmaf(x.w, key.v[i].w, dot);
        }
        score += dot < 0 ? 0 : weights[h] * dot; /* NaN stays NaN */
    }
    return score;
}

struct select_group {
    int n_rows, n_most; /* n_most: positions of the longest */
    int n[GROUP_MAX];   /* positions of each; 0: no row */
    float weights[GROUP_MAX][SELECT_HEADS_MAX];
    __align__(16) float q[GROUP_MAX][SELECT_HEADS_MAX * SELECT_DIM];
};

static __device__ __forceinline__ int page_at(const struct agon_select &p, int row, int index)
{
    return p.rows.pages[(size_t)p.rows.row_sequence[row] * p.rows.ld_pages + index];
}

/* The page that all rows which reach `index` hold there; -1: they differ. */
static __device__ int common_page(const struct agon_select &p, const struct select_group *g,
                                  int first, int index)
{
    int common = -1;
    for (int r = 0; r < g->n_rows; r++) {
        if (g->n[r] <= index * AGON_CUDA_PAGE)
            continue;
        int page = page_at(p, first + r, index);
        if (common >= 0 && page != common)
            return -1;
        common = page;
    }
    return common;
}

static __device__ void score_group(const struct agon_select &p, const struct select_group *g,
                                   uint32_t *keys, int ld_keys, int first)
{
    int slot = threadIdx.x % AGON_CUDA_PAGE;
    for (int index = threadIdx.x / AGON_CUDA_PAGE; index * AGON_CUDA_PAGE < g->n_most;
         index += SELECT_THREADS / AGON_CUDA_PAGE) {
        int at = index * AGON_CUDA_PAGE + slot, common = common_page(p, g, first, index);
        struct key_values key;
        if (common >= 0)
            key = load_key(p, common, slot);
        for (int r = 0; r < g->n_rows; r++) {
            if (g->n[r] <= p.k || g->n[r] <= index * AGON_CUDA_PAGE)
                continue;
            if (common < 0)
                key = load_key(p, page_at(p, first + r, index), slot);
            keys[r * ld_keys + at] =
                at < g->n[r] ? order_key(score_of(key, g->q[r], g->weights[r], p.n_heads)) : 0;
        }
    }
}

/* How many of a row's keys reach `least`. In registers up to IN_REGISTERS a lane. */
static __device__ __forceinline__ int count_from(const uint32_t held[IN_REGISTERS],
                                                 const uint32_t *keys, int n, uint32_t least)
{
    int count = 0;
#pragma unroll
    for (int i = 0; i < IN_REGISTERS; i++)
        count += held[i] >= least;
    for (int at = IN_REGISTERS * 32 + threadIdx.x % 32; at < n; at += 32)
        count += keys[at] >= least;
    return __reduce_add_sync(0xffffffffU, count);
}

/* The largest threshold that at least k keys reach. least is never 0: no key counts that is none.
 */
static __device__ uint32_t threshold_of(const uint32_t held[IN_REGISTERS], const uint32_t *keys,
                                        int n, int k)
{
    uint32_t found = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint32_t least = found | 1U << bit;
        int count = count_from(held, keys, n, least);
        if (count >= k)
            found = least;
        if (count == k)
            break;
    }
    return found;
}

/* A warp writes the mask of a row; keys [n]. */
static __device__ void select_row(uint32_t *mask, int n_words, const uint32_t *keys, int n, int k)
{
    int lane = threadIdx.x % 32;
    uint32_t held[IN_REGISTERS];
#pragma unroll
    for (int i = 0; i < IN_REGISTERS; i++)
        held[i] = i * 32 + lane < n ? keys[i * 32 + lane] : 0;
    uint32_t least = threshold_of(held, keys, n, k);
    int n_above = least == 0xffffffffU ? 0 : count_from(held, keys, n, least + 1);
    int n_equal = k - n_above; /* still to be taken among equals */
    for (int word = 0; word < n_words; word++) {
        int at = word * 32 + lane;
        uint32_t key = at < n ? keys[at] : 0;
        bool equal = at < n && key == least;
        uint32_t equals = __ballot_sync(0xffffffffU, equal);
        bool taken =
            at < n && (key > least || (equal && __popc(equals & ((1U << lane) - 1)) < n_equal));
        uint32_t bits = __ballot_sync(0xffffffffU, taken);
        n_equal = max(0, n_equal - __popc(equals));
        if (lane == 0)
            mask[word] = bits;
    }
}

static __device__ void select_all(uint32_t *mask, int n_words, int n)
{
    for (int word = threadIdx.x % 32; word < n_words; word += 32) {
        int left = n - 32 * word;
        mask[word] = left <= 0 ? 0 : left >= 32 ? 0xffffffffU : (1U << left) - 1;
    }
}

static __device__ void group_init(struct select_group *g, const struct agon_select &p, int first,
                                  int n_group)
{
    if (threadIdx.x == 0) {
        g->n_rows = min(n_group, p.rows.n_rows - first);
        g->n_most = 0;
        for (int r = 0; r < g->n_rows; r++) {
            int row = first + r;
            g->n[r] = p.rows.row_sequence[row] < 0 ? 0 : p.rows.row_position[row] + 1;
            g->n_most = max(g->n_most, g->n[r]);
        }
    }
    __syncthreads();
    int width = p.n_heads * SELECT_DIM;
    for (int i = threadIdx.x; i < g->n_rows * width; i += SELECT_THREADS)
        g->q[i / width][i % width] = p.q[(size_t)first * width + i];
    for (int i = threadIdx.x; i < g->n_rows * p.n_heads; i += SELECT_THREADS)
        g->weights[i / p.n_heads][i % p.n_heads] = p.weights[(size_t)first * p.n_heads + i];
    __syncthreads();
}

static __global__ void __launch_bounds__(SELECT_THREADS)
    select_kernel(struct agon_select p, int n_group, int ld_keys)
{
    depends_wait();
    extern __shared__ uint32_t keys[];
    __shared__ struct select_group g;
    int first = blockIdx.x * n_group, r = threadIdx.x / 32;
    group_init(&g, p, first, n_group);
    score_group(p, &g, keys, ld_keys, first);
    __syncthreads();
    if (r >= g.n_rows)
        return;
    uint32_t *mask = (uint32_t *)(p.mask + (size_t)(first + r) * p.ld_mask);
    if (g.n[r] <= p.k)
        select_all(mask, 2 * p.ld_mask, g.n[r]);
    else
        select_row(mask, 2 * p.ld_mask, keys + r * ld_keys, g.n[r], p.k);
}

extern "C" bool agon_select_does(const struct agon_select *p)
{
    return p->keys.format == AGON_KEYS_F32 && p->keys.index_dim == SELECT_DIM && p->n_heads > 0 &&
           p->n_heads <= SELECT_HEADS_MAX && p->rows.n_max <= AGON_ATTEND_POSITIONS_MAX;
}

extern "C" int agon_select_cuda(const struct agon_select *p, void *stream, struct agon_err *err)
{
    if (!agon_select_does(p) || p->ld_mask * AGON_CUDA_PAGE < p->rows.n_max || p->k < 1)
        return agon_fail(err, AGON_EINPUT, "selecting %d of %d positions by %d heads of %d", p->k,
                         p->rows.n_max, p->n_heads, p->keys.index_dim);
    if (p->rows.n_rows <= 0)
        return 0;
    int ld_keys = agon_ceil_div(p->rows.n_max, AGON_CUDA_PAGE) * AGON_CUDA_PAGE;
    /* Large groups once they fill the device, and as shared memory allows. */
    int n_group = p->rows.n_rows > 264 ? GROUP_MAX : 2;
    while (n_group > 1 && (size_t)n_group * ld_keys * sizeof(uint32_t) > ROW_BYTES_MAX)
        n_group /= 2;
    size_t bytes = (size_t)n_group * ld_keys * sizeof(uint32_t);
    AGON_CUDA(err, "selection",
              cudaFuncSetAttribute(select_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   ROW_BYTES_MAX));
    unsigned n_blocks = (unsigned)agon_ceil_div(p->rows.n_rows, n_group);
    AGON_CUDA(err, "selection launch",
              launch_overlapping(select_kernel, n_blocks, SELECT_THREADS, bytes, stream, *p,
                                 n_group, ld_keys));
    return 0;
}

/* A warp a row. */
static __global__ void list_kernel(int32_t *selected, int32_t *n_selected, int k,
                                   const uint64_t *mask, int ld_mask)
{
    depends_wait();
    int lane = threadIdx.x, n = 0;
    selected += (size_t)blockIdx.x * k;
    for (int word = 0; word < 2 * ld_mask; word++) {
        uint32_t bits = ((const uint32_t *)(mask + (size_t)blockIdx.x * ld_mask))[word];
        int at = n + __popc(bits & ((1U << lane) - 1));
        if ((bits >> lane & 1) && at < k)
            selected[at] = word * 32 + lane;
        n += __popc(bits);
    }
    for (int i = n + lane; i < k; i += 32)
        selected[i] = -1;
    if (lane == 0)
        n_selected[blockIdx.x] = min(n, k);
}

extern "C" int agon_select_list_cuda(int32_t *selected, int32_t *n_selected, int k,
                                     const uint64_t *mask, int ld_mask, int n_rows, void *stream,
                                     struct agon_err *err)
{
    if (n_rows <= 0)
        return 0;
    AGON_CUDA(err, "selections as lists",
              launch_overlapping(list_kernel, (unsigned)n_rows, 32, 0, stream, selected, n_selected,
                                 k, mask, ld_mask));
    return 0;
}
