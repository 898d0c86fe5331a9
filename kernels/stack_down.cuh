#pragma once
/*
 * The MLP's second stage (stack.cu): from the experts' inner values to the residual stream. A block
 * has some rows and a part of the columns, a warp a group of weights, or a share of its rows; a
 * row's slots are added up in their order, whatever rows there are beside it.
 */
#include "kernels/stack_experts.cuh"

enum { DOWN_STEPS = STACK_INNER_MAX / 32 };

/* Of 16 MT rows. Warps beyond the groups take a share of the first group's rows, which all go
 * through where it is the shared one. */
template <int MT> struct down {
    static constexpr int WARPS = MT == 1 ? 9 : 12;
    static constexpr int ROWS = 16 * MT;
    static constexpr int TILES = MT == 1 ? 1 : 2; /* of 16 rows, multiplied at a time */

    struct block {
        uint32_t groups[ROWS];
        uint64_t arrived;
        __align__(16) float weight[ROWS][STACK_EXPERTS_MAX];
        short list[WARPS][ROWS]; /* of a warp's group: rows, and 256 times their slots */
    };
};

/* The rows of a group, ascending: a warp. Returns how many. */
static __device__ __forceinline__ int down_list(short *list, const uint32_t *groups, int n_rows,
                                                int group)
{
    int n = 0;
    for (int base = 0; base < n_rows; base += 32) {
        int row = base + stack_lane();
        uint32_t mask = row < n_rows ? groups[row] : 0, all = __ballot_sync(~0u, mask >> group & 1);
        if (mask >> group & 1)
            list[n + __popc(all & ((1U << stack_lane()) - 1))] =
                (short)(row + 256 * up_slot(mask, group));
        n += __popc(all);
    }
    __syncwarp();
    return n;
}

/* slots [which of a row's groups][16 MT][PARTIAL_LD] = the outputs of a group's rows from `first`
 * on, weighted where it is an expert, not below 0. */
template <int MT>
static __device__ __forceinline__ void down_put(
    float *slots, const typename down<MT>::block *u, const short *list, int n,
    const float (&acc)[STACK_PART_TILES][down<MT>::TILES][4], int first, int expert)
{
    int lane = stack_lane();
#pragma unroll
    for (int m = 0; m < down<MT>::TILES; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int i = first + m * 16 + lane / 4 + 8 * half;
            if (i >= n)
                continue;
            int row = list[i] % 256, slot = list[i] / 256;
            float by = expert >= 0 ? u->weight[row][expert] : 1;
            float *to = slots + (slot * 16 * MT + row) * PARTIAL_LD + 2 * (lane % 4);
#pragma unroll
            for (int t = 0; t < STACK_PART_TILES; t++)
                *(float2 *)(to + t * 8) =
                    make_float2(by * acc[t][m][2 * half], by * acc[t][m][2 * half + 1]);
        }
}

/* A part of the residual stream: eight lanes have a row, four columns each. Read long before it is
 * needed, as in stack.cuh. */
template <int MT> struct down_rows {
    enum { LANES = 8, EACH = down<MT>::WARPS * 32 / LANES };
    enum { TIMES = (down<MT>::ROWS + EACH - 1) / EACH };
    float4 x[TIMES], norm;
    int column, first;
    bool mine;
};

template <int MT>
static __device__ __forceinline__ void down_rows_begin(struct down_rows<MT> &r,
                                                       const struct agon_stack &p,
                                                       const struct stack_place &at,
                                                       const float *norm)
{
    int n = p.hidden / STACK_PARTS, lane = threadIdx.x % down_rows<MT>::LANES;
    r.mine = 4 * lane < n;
    r.column = at.rank * n + 4 * lane;
    r.first = threadIdx.x / down_rows<MT>::LANES;
    r.norm = r.mine ? *(const float4 *)(norm + r.column) : make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < down_rows<MT>::TIMES; i++) {
        int row = r.first + i * down_rows<MT>::EACH;
        r.x[i] = make_float4(0, 0, 0, 0);
        if (r.mine && row < at.n_rows)
            r.x[i] = __ldcg((const float4 *)(p.x + (size_t)(at.row0 + row) * p.hidden + r.column));
    }
}

/* x += a row's slots; published for the norm that follows. */
template <int MT>
static __device__ __forceinline__ void down_rows_end(struct down_rows<MT> &r,
                                                     const struct agon_stack &p,
                                                     const struct stack_place &at,
                                                     const struct stack_buffers &b,
                                                     const uint32_t *groups, const float *slots)
{
    slots += 4 * (threadIdx.x % down_rows<MT>::LANES);
#pragma unroll
    for (int i = 0; i < down_rows<MT>::TIMES; i++) {
        int row = r.first + i * down_rows<MT>::EACH;
        bool there = row < at.n_rows;
        size_t to = (size_t)(at.row0 + row) * p.hidden + r.column;
        float4 v = r.x[i], sum = make_float4(0, 0, 0, 0);
        int n = there && r.mine ? __popc(groups[row]) : 0;
        for (int slot = 0; slot < n; slot++) {
            float4 w = *(const float4 *)(slots + (slot * down<MT>::ROWS + row) * PARTIAL_LD);
            sum = make_float4(sum.x + w.x, sum.y + w.y, sum.z + w.z, sum.w + w.w);
        }
        v = make_float4(v.x + sum.x, v.y + sum.y, v.z + sum.z, v.w + sum.w);
        float squares = v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
#pragma unroll
        for (int apart = 1; apart < down_rows<MT>::LANES; apart *= 2)
            squares += __shfl_xor_sync(~0u, squares, apart);
        if (there && r.mine) {
            *(float4 *)(p.x + to) = v;
            *(uint2 *)(b.x + to) = make_uint2(bf16_pack(v.x * r.norm.x, v.y * r.norm.y),
                                              bf16_pack(v.z * r.norm.z, v.w * r.norm.w));
        }
        if (there && threadIdx.x % down_rows<MT>::LANES == 0)
            b.squares[(size_t)at.rank * b.ld_rows + at.row0 + row] = squares;
    }
}

/* What a warp does of the product: its group, and which share of the group's rows. */
struct down_share {
    int group, share, n_shares;
};

template <int MT>
static __device__ __forceinline__ struct down_share down_share(const struct agon_stack_layer &l)
{
    constexpr int WARPS = down<MT>::WARPS;
    int warp = stack_warp(), spare = max(0, WARPS - l.n_groups);
    if (!l.router)
        return {warp % l.n_groups, warp / l.n_groups,
                max(1, (WARPS - warp % l.n_groups + l.n_groups - 1) / l.n_groups)};
    bool first = warp == 0 || warp >= l.n_groups;
    return {first ? 0 : warp, warp >= l.n_groups ? 1 + warp - l.n_groups : 0,
            first ? 1 + spare : 1};
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

template <int MT>
static __global__ void __launch_bounds__(down<MT>::WARPS * 32, 1)
    down_kernel(const __grid_constant__ struct agon_stack p,
                const __grid_constant__ struct agon_stack_layer l, int n_each)
{
    constexpr int TILES = down<MT>::TILES, WARPS = down<MT>::WARPS;
    typename down<MT>::block *u = (typename down<MT>::block *)block_shared();
    char *rows = block_shared() + bytes_up(sizeof(*u));
    struct stack_place at = stack_place(p, n_each);
    struct stack_buffers b;
    stack_buffers(&b, p);
    int stride = act_bytes(l.inner), n_steps = l.inner / 32, n_slots = layer_slots(p, l);
    int most = p.hidden / 8 / STACK_PARTS;
    size_t ld = (size_t)n_steps * 32, size = (size_t)(p.hidden / 8) * ld;
    const uint4 *weights = (const uint4 *)l.down + at.rank * most * ld + stack_lane();
    float *slots = (float *)(rows + (size_t)MT * 16 * n_slots * stride);
    struct down_share mine = down_share<MT>(l);
    struct held<STACK_PART_TILES, DOWN_STEPS> h;
    struct down_rows<MT> x;
    uint32_t arrived = shared_address(&u->arrived);
    if (threadIdx.x == 0) {
        barrier_init(arrived, 1);
        barriers_made();
    }
    if (mine.share * TILES >= MT)
        mine.group = l.n_groups; /* nothing is left for it */
    held_load(h, weights + mine.group * size, ld, mine.group < l.n_groups ? most : 0, 0, n_steps);
    down_rows_begin(x, p, at, l.next_norm);
    depends_wait();
    if (threadIdx.x == 0)
        down_copy(arrived, rows, b.act, at, n_slots * stride);
    for (int r = threadIdx.x; r < at.n_rows; r += WARPS * 32)
        u->groups[r] = __ldcg(b.row_groups + at.row0 + r);
    for (int i = threadIdx.x; i < at.n_rows * STACK_EXPERTS_MAX / 4; i += WARPS * 32)
        ((float4 *)u->weight)[i] =
            __ldcg((const float4 *)b.row_weights + at.row0 * (STACK_EXPERTS_MAX / 4) + i);
    __syncthreads();
    short *list = u->list[stack_warp()];
    for (int group = mine.group; group < l.n_groups; group += WARPS) {
        int n = down_list(list, u->groups, at.n_rows, group);
        if (group >= WARPS)
            held_load(h, weights + group * size, ld, most, 0, n_steps);
        barrier_wait(arrived, 0);
        for (int i = mine.share * TILES * 16; i < n; i += mine.n_shares * TILES * 16) {
            uint32_t a[TILES];
            float acc[STACK_PART_TILES][TILES][4] = {};
#pragma unroll
            for (int m = 0; m < TILES; m++) {
                int one = list[min(i + m * 16 + stack_lane() % 16, n - 1)];
                a[m] = mma_address(rows) + stack_lane() / 16 * 16 +
                       (one % 256 * n_slots + one / 256) * stride;
            }
            held_multiply(acc, h, a, (n - i + 15) / 16, 0, n_steps);
            down_put<MT>(slots, u, list, n, acc, i, l.router ? group - p.n_shared : -1);
        }
        __syncwarp();
    }
    __syncthreads();
    down_rows_end(x, p, at, b, u->groups, slots);
}

template <int MT> static size_t down_bytes(int n_slots, int inner)
{
    size_t rows = (size_t)MT * 16 * (size_t)n_slots;
    return bytes_up(sizeof(typename down<MT>::block)) + rows * (size_t)act_bytes(inner) +
           rows * PARTIAL_LD * sizeof(float);
}
