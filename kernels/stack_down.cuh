#pragma once
/*
 * The MLP's second stage (stack.cu): from the experts' inner values to the residual stream. Of few
 * rows a block has 16 and a part of the columns, and a warp a group of weights. Of many, a block
 * has a tile of UP and 128 columns (or has done both: stack_pair.cuh), and a launch of its own adds
 * up a row's slots. They are added up in their order, whatever rows there are beside it; mma.sync
 * and wgmma make the same sums (seen on Hopper, and held by test_stack.c).
 */
#include "kernels/stack_experts.cuh"

/* ---- a row's part of the columns ----------------------------------------------------- */

/* Eight lanes have it, four columns each. x is read long before it is needed, as in stack.cuh. */
enum { ROW_LANES = 8 };
struct row_part {
    float4 x, norm;
    int row, part, column;
    bool there, mine; /* such a row; columns of this lane's */
};

static __device__ __forceinline__ void row_part_begin(struct row_part *r,
                                                      const struct agon_stack &p, const float *norm,
                                                      int row, int part, bool there)
{
    int n = p.hidden / STACK_PARTS, lane = threadIdx.x % ROW_LANES;
    r->row = row;
    r->part = part;
    r->column = part * n + 4 * lane;
    r->there = there;
    r->mine = there && 4 * lane < n;
    r->x = r->norm = make_float4(0, 0, 0, 0);
    if (r->mine) {
        r->norm = *(const float4 *)(norm + r->column);
        r->x = __ldcg((const float4 *)(p.x + (size_t)row * p.hidden + r->column));
    }
}

static __device__ __forceinline__ float4 add4(float4 a, float4 b)
{
    return make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
}

/* x += the sum of the row's slots; published for the norm that follows. All lanes of a warp. */
static __device__ __forceinline__ void row_part_end(const struct row_part &r,
                                                    const struct agon_stack &p,
                                                    const struct stack_buffers &b, float4 sum)
{
    size_t to = (size_t)r.row * p.hidden + r.column;
    float4 v = add4(r.x, sum);
    float squares = 0;
    if (r.mine)
        squares = fmaf(v.w, v.w, fmaf(v.z, v.z, fmaf(v.y, v.y, v.x * v.x)));
#pragma unroll
    for (int apart = 1; apart < ROW_LANES; apart *= 2)
        squares += __shfl_xor_sync(~0u, squares, apart);
    if (r.mine) {
        *(float4 *)(p.x + to) = v;
        *(uint2 *)(b.x + to) = make_uint2(bf16_pack(v.x * r.norm.x, v.y * r.norm.y),
                                          bf16_pack(v.z * r.norm.z, v.w * r.norm.w));
    }
    if (r.there && threadIdx.x % ROW_LANES == 0)
        b.squares[(size_t)r.part * b.ld_rows + r.row] = squares;
}

/* ---- few rows ------------------------------------------------------------------------ */

enum {
    DOWN_ROWS = 16, /* of a block */
    DOWN_WARPS = 9,
    DOWN_THREADS = DOWN_WARPS * 32,
    DOWN_STEPS = STACK_INNER_MAX / 32,
};
static_assert(DOWN_ROWS * ROW_LANES <= DOWN_THREADS, "a thread has one row");

struct down_block {
    uint32_t groups[DOWN_ROWS];
    uint64_t arrived;
    __align__(16) float weight[DOWN_ROWS][STACK_EXPERTS_MAX];
    short list[DOWN_WARPS][DOWN_ROWS]; /* of a warp's group: rows, and 256 times their slots */
};

/* The rows of a group, ascending: a warp. Returns how many. */
static __device__ __forceinline__ int down_list(short *list, const uint32_t *groups, int n_rows,
                                                int group)
{
    int row = stack_lane();
    uint32_t mask = row < n_rows ? groups[row] : 0, all = __ballot_sync(~0u, mask >> group & 1);
    if (mask >> group & 1)
        list[__popc(all & ((1U << row) - 1))] = (short)(row + 256 * up_slot(mask, group));
    __syncwarp();
    return __popc(all);
}

/* slots [which of a row's groups][DOWN_ROWS][PARTIAL_LD] = the outputs of a group's rows, weighted
 * where it is an expert, not below 0. */
static __device__ __forceinline__ void down_put(float *slots, const struct down_block *u,
                                                const short *list, int n,
                                                const float (&acc)[STACK_PART_TILES][1][4],
                                                int expert)
{
    int lane = stack_lane();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = lane / 4 + 8 * half;
        if (i >= n)
            continue;
        int row = list[i] % 256, slot = list[i] / 256;
        float by = expert >= 0 ? u->weight[row][expert] : 1;
        float *to = slots + (slot * DOWN_ROWS + row) * PARTIAL_LD + 2 * (lane % 4);
#pragma unroll
        for (int t = 0; t < STACK_PART_TILES; t++)
            *(float2 *)(to + t * 8) =
                make_float2(by * acc[t][0][2 * half], by * acc[t][0][2 * half + 1]);
    }
}

/* All slots of the block's rows, `each` bytes a row: they stand one behind the other. */
static __device__ __forceinline__ void down_copy(uint32_t arrived, char *rows, const char *act,
                                                 const struct stack_place &at, int each)
{
    enum { PIECE = 32 << 10 };
    int n = at.n_rows * each;
    act += (size_t)at.row0 * each;
    barrier_expect(arrived, n);
    for (int i = 0; i < n; i += PIECE)
        copy_bytes(shared_address(rows) + i, act + i, min(n - i, (int)PIECE), arrived);
}

static __global__ void __launch_bounds__(DOWN_THREADS, 1)
    down_kernel(const __grid_constant__ struct agon_stack p,
                const __grid_constant__ struct stack_buffers b,
                const __grid_constant__ struct agon_stack_layer l)
{
    struct down_block *u = (struct down_block *)block_shared();
    char *rows = block_shared() + bytes_up(sizeof(*u));
    struct stack_place at = stack_place(p, DOWN_ROWS);
    int stride = act_bytes(l.inner), n_steps = l.inner / 32, n_slots = layer_slots(p, l);
    int most = p.hidden / 8 / STACK_PARTS, group = stack_warp();
    size_t ld = (size_t)n_steps * 32, size = (size_t)(p.hidden / 8) * ld;
    const uint4 *weights = (const uint4 *)l.down + at.rank * most * ld + stack_lane();
    float *slots = (float *)(rows + (size_t)DOWN_ROWS * n_slots * stride);
    struct held<STACK_PART_TILES, DOWN_STEPS> h;
    struct row_part x;
    uint32_t arrived = shared_address(&u->arrived);
    int own = threadIdx.x / ROW_LANES; /* row */
    if (threadIdx.x == 0) {
        barrier_init(arrived, 1);
        barriers_made();
    }
    held_load(h, weights + group * size, ld, group < l.n_groups ? most : 0, 0, n_steps);
    row_part_begin(&x, p, l.next_norm, at.row0 + own, at.rank, own < at.n_rows);
    depends_wait();
    if (threadIdx.x == 0)
        down_copy(arrived, rows, b.act, at, n_slots * stride);
    if (threadIdx.x < at.n_rows)
        u->groups[threadIdx.x] = __ldcg(b.row_groups + at.row0 + threadIdx.x);
    if (threadIdx.x < at.n_rows * STACK_EXPERTS_MAX)
        u->weight[0][threadIdx.x] =
            __ldcg(b.row_weights + (size_t)at.row0 * STACK_EXPERTS_MAX + threadIdx.x);
    __syncthreads();
    short *list = u->list[stack_warp()];
    for (; group < l.n_groups; group += DOWN_WARPS) {
        int n = down_list(list, u->groups, at.n_rows, group);
        if (group >= DOWN_WARPS)
            held_load(h, weights + group * size, ld, most, 0, n_steps);
        int one = n > 0 ? list[min(stack_lane() % 16, n - 1)] : 0;
        uint32_t a[1] = {mma_address(rows) + stack_lane() / 16 * 16 +
                         (one % 256 * n_slots + one / 256) * stride};
        float acc[STACK_PART_TILES][1][4] = {};
        barrier_wait(arrived, 0);
        held_multiply(acc, h, a, 1, 0, n_steps);
        down_put(slots, u, list, n, acc, l.router ? group - p.n_shared : -1);
        __syncwarp();
    }
    __syncthreads();
    if (threadIdx.x >= DOWN_ROWS * ROW_LANES)
        return;
    float4 sum = make_float4(0, 0, 0, 0);
    const float *from = slots + own * PARTIAL_LD + 4 * (threadIdx.x % ROW_LANES);
    for (int slot = 0; x.mine && slot < __popc(u->groups[own]); slot++)
        sum = add4(sum, *(const float4 *)(from + slot * DOWN_ROWS * PARTIAL_LD));
    row_part_end(x, p, b, sum);
}

static size_t down_bytes(int n_slots, int inner)
{
    size_t rows = (size_t)DOWN_ROWS * (size_t)n_slots;
    return bytes_up(sizeof(struct down_block)) + rows * (size_t)act_bytes(inner) +
           rows * PARTIAL_LD * sizeof(float);
}

/* ---- many rows ----------------------------------------------------------------------- */

enum { PAIR_ROWS = 64 }; /* of a tile of stack_pair.cuh */
enum { DOWN_COLUMNS = 128, COMBINE_ROWS = 2, COMBINE_THREADS = COMBINE_ROWS * STACK_PARTS * 8 };
enum { COMBINE_BYTES = AGON_STACK_GROUPS_MAX * (int)sizeof(int) };
static_assert(ROW_LANES == 8, "of a row's part");

/* Steps of 64 inner values; the last may be half of one. */
static __host__ __device__ inline int down_steps(int inner)
{
    return (inner + UP_K - 1) / UP_K;
}

/* Inner values [step][STACK_TILE_ROWS][128 bytes], weights [tile of 8 outputs][step][8][128 bytes],
 * swizzled, behind a barrier. */
static __global__ void __launch_bounds__(STACK_THREADS, 1)
    down_tile_kernel(const __grid_constant__ struct agon_stack p,
                     const __grid_constant__ struct stack_buffers b,
                     const __grid_constant__ struct agon_stack_layer l)
{
    uintptr_t base =
        ((uintptr_t)block_shared() + SWIZZLE_ALIGN - 1) / SWIZZLE_ALIGN * SWIZZLE_ALIGN;
    uint32_t arrived = shared_address((void *)base), act = arrived + SWIZZLE_ALIGN;
    int n_steps = down_steps(l.inner), first = blockIdx.x * DOWN_COLUMNS;
    uint32_t act_size = stack_tile_bytes(l.inner);
    uint32_t weights = act + act_size, weights_size = DOWN_COLUMNS * n_steps * TILE_BYTES_K;
    const struct stack_tile *tile = b.tiles + blockIdx.y;
    if (threadIdx.x == 0) {
        barrier_init(arrived, 1);
        barriers_made();
    }
    depends_wait();
    int group = __ldcg(&tile->group), n = __ldcg(&tile->n);
    if (n == 0)
        return;
    if (threadIdx.x == 0) {
        barrier_expect(arrived, act_size + weights_size);
        for (int k = 0; k < n_steps; k++)
            copy_bytes(act + k * (act_size / n_steps),
                       b.act + (size_t)blockIdx.y * act_size + k * (act_size / n_steps),
                       act_size / n_steps, arrived);
        for (int k = 0; k < n_steps; k++)
            copy_bytes(weights + k * (weights_size / n_steps),
                       (const char *)l.down_tiles +
                           ((size_t)group * p.hidden + first) * n_steps * TILE_BYTES_K +
                           k * (weights_size / n_steps),
                       weights_size / n_steps, arrived);
    }
    int i0 = stack_warp() * 16 + stack_lane() / 4, far = stack_warp() / 4 * 64, slot[2];
    float acc[DOWN_COLUMNS / 2], by[2];
    for (int half = 0; half < 2; half++) {
        slot[half] = __ldcg(&tile->slot[min(i0 + 8 * half, n - 1)]);
        by[half] = __ldcg(&tile->weight[min(i0 + 8 * half, n - 1)]);
    }
    __syncthreads(); /* the barrier is there */
    barrier_wait(arrived, 0);
    if (far >= n)
        return;
    uint64_t x = wgmma_descriptor(act + far * TILE_BYTES_K);
    uint64_t w = wgmma_descriptor(weights) + ((uint64_t)((n_steps - 1) * (1024 >> 4)) << 32);
#pragma unroll 1
    for (int k = 0; k < l.inner / 16; k++) {
        wgmma_fence();
        wgmma<DOWN_COLUMNS>::bf16(acc,
                                  x + k / 4 * (STACK_TILE_ROWS * TILE_BYTES_K >> 4) + k % 4 * 2,
                                  w + k / 4 * (8 * TILE_BYTES_K >> 4) + k % 4 * 2, k > 0);
    }
    wgmma_commit();
    wgmma_wait<0>();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float *to = b.outputs + (size_t)slot[half] * p.hidden + first + 2 * (threadIdx.x % 4);
        if (i0 + 8 * half < n)
#pragma unroll
            for (int t = 0; t < DOWN_COLUMNS / 8; t++)
                *(float2 *)(to + t * 8) = make_float2(by[half] * acc[4 * t + 2 * half],
                                                      by[half] * acc[4 * t + 2 * half + 1]);
    }
}

static size_t down_tile_bytes(const struct agon_stack_layer *l)
{
    return 2 * SWIZZLE_ALIGN + stack_tile_bytes(l->inner) +
           (size_t)DOWN_COLUMNS * (size_t)down_steps(l->inner) * TILE_BYTES_K;
}

/* How many tiles each group has, for the next time: a block. */
static __device__ __forceinline__ void tiles_count(int *tiles, const uint32_t *members, int n_words)
{
    int *rows = (int *)block_shared();
    int group = threadIdx.x % AGON_STACK_GROUPS_MAX;
    if (threadIdx.x == group)
        rows[group] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < n_words * AGON_STACK_GROUPS_MAX; i += COMBINE_THREADS)
        atomicAdd(&rows[group], __popc(__ldcg(members + i)));
    __syncthreads();
    if (threadIdx.x == group)
        tiles[group] = (rows[group] + PAIR_ROWS - 1) / PAIR_ROWS;
}

/* x += a row's slots. Behind the blocks of rows there may be one that counts the layer's tiles. */
static __global__ void __launch_bounds__(COMBINE_THREADS)
    combine_kernel(const __grid_constant__ struct agon_stack p,
                   const __grid_constant__ struct stack_buffers b,
                   const __grid_constant__ struct agon_stack_layer l, int layer)
{
    int row = blockIdx.x * COMBINE_ROWS + threadIdx.x / (STACK_PARTS * ROW_LANES);
    int part = threadIdx.x / ROW_LANES % STACK_PARTS, n_slots = layer_slots(p, l);
    struct row_part x;
    row_part_begin(&x, p, l.next_norm, row, part, row < p.rows.n_rows);
    depends_wait();
    if (blockIdx.x * COMBINE_ROWS >= p.rows.n_rows) {
        tiles_count(b.pair_tiles + layer * AGON_STACK_GROUPS_MAX, b.row_members,
                    (p.rows.n_rows + 31) / 32);
        return;
    }
    float4 slots[AGON_STACK_GROUPS_MAX / 4], sum = make_float4(0, 0, 0, 0);
    const float *from = b.outputs + (size_t)row * n_slots * p.hidden + x.column;
    int n = x.mine ? __popc(__ldcg(b.row_groups + row)) : 0;
#pragma unroll 1
    for (int first = 0; first < n_slots; first += AGON_STACK_GROUPS_MAX / 4) {
#pragma unroll
        for (int i = 0; i < AGON_STACK_GROUPS_MAX / 4; i++)
            if (x.mine && first + i < n_slots)
                slots[i] = __ldcg((const float4 *)(from + (size_t)(first + i) * p.hidden));
#pragma unroll
        for (int i = 0; i < AGON_STACK_GROUPS_MAX / 4; i++)
            if (first + i < n)
                sum = add4(sum, slots[i]);
    }
    row_part_end(x, p, b, sum);
}
