#pragma once
/*
 * The MLP's stages (stack.cu). Every block routes all of its rows (cheaper than another launch), so
 * that each knows which rows a group of weights has; the first of those that have the same rows
 * leaves that for DOWN. On the way up a task is a group and 8 of its inner values: gate and up of
 * its rows. On the way down a warp is a group; a row's groups are added up in their order.
 */
#include "kernels/stack.cuh"

enum { UP_CHUNK = 4, DOWN_WARPS = 9, DOWN_STEPS = STACK_INNER_MAX / 32 };

/* At the beginning of shared memory. */
struct up_block {
    struct stack_groups groups;
    float factor[STACK_ROWS_MAX];
    __align__(16) float scores[STACK_ROWS_MAX][STACK_EXPERTS_MAX];
    float weight[STACK_ROWS_MAX][STACK_TOPK_MAX];
    short id[STACK_ROWS_MAX][STACK_TOPK_MAX];
};

/* ---- routes ------------------------------------------------------------------------- */

/* Each row's factor, and its experts' scores, from what the parts have of them: two threads a row,
 * each four experts. */
static __device__ __forceinline__ void route_scores(struct up_block *u,
                                                    const struct stack_place &at,
                                                    const struct agon_stack &p,
                                                    const struct stack_buffers &b)
{
    enum { EACH = 4, SHARES = STACK_EXPERTS_MAX / EACH };
    int r = threadIdx.x / SHARES, share = threadIdx.x % SHARES;
    if (r >= at.n_rows)
        return;
    const float *part = b.parts + (size_t)(at.row0 + r) * STACK_PARTS * PART_LD;
    float4 logits[STACK_PARTS], sum = make_float4(0, 0, 0, 0);
    float squares[STACK_PARTS], square = 0;
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++) {
        logits[i] = __ldcg((const float4 *)(part + i * PART_LD + PART_ROUTER) + share);
        squares[i] = __ldcg(part + i * PART_LD + PART_SQUARES);
    }
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++) {
        square += squares[i];
        sum.x += logits[i].x;
        sum.y += logits[i].y;
        sum.z += logits[i].z;
        sum.w += logits[i].w;
    }
    float by = rsqrtf(square / p.hidden + p.eps);
    ((float4 *)u->scores[r])[share] =
        make_float4(1 / (1 + __expf(-sum.x * by)), 1 / (1 + __expf(-sum.y * by)),
                    1 / (1 + __expf(-sum.z * by)), 1 / (1 + __expf(-sum.w * by)));
    if (share == 0)
        u->factor[r] = by;
}

/* The best top_k experts of a row, the lowest on ties, and their weights: a thread. NaN leaves ids
 * that are in range all the same. */
static __device__ __forceinline__ void route_row_of(struct up_block *u, const struct agon_stack &p,
                                                    const float *bias, const uint16_t *forced,
                                                    int r)
{
    const float *scores = u->scores[r];
    float total = 0, ranked[STACK_EXPERTS_MAX];
    uint32_t taken = ~0u << p.n_experts;
#pragma unroll
    for (int e = 0; e < STACK_EXPERTS_MAX; e++)
        ranked[e] = e < p.n_experts ? scores[e] + bias[e] : 0;
    for (int slot = 0; slot < p.top_k; slot++) {
        int best = -1;
        float most = 0;
#pragma unroll
        for (int e = 0; e < STACK_EXPERTS_MAX; e++)
            if (!(taken >> e & 1) && (best < 0 || ranked[e] > most)) {
                best = e;
                most = ranked[e];
            }
        if (forced && forced[0] != AGON_CUDA_NOT_FORCED)
            best = min((int)forced[slot], p.n_experts - 1);
        taken |= 1u << best;
        u->id[r][slot] = (short)best;
        u->weight[r][slot] = scores[best];
        total += scores[best];
    }
    float by = p.normalise ? p.route_scale / total : p.route_scale;
    for (int slot = 0; slot < p.top_k; slot++)
        u->weight[r][slot] *= by;
}

/* The rows of group g, ascending: a warp. */
static __device__ __forceinline__ void list_rows(struct up_block *u, const struct agon_stack &p,
                                                 const struct stack_place &at, int g, bool dense)
{
    int n = 0, expert = g - p.n_shared;
    for (int base = 0; base < at.n_rows; base += 32) {
        int r = base + stack_lane(), slot = dense ? g : 0;
        bool mine = false;
        float weight = 1;
        if (r < at.n_rows && row_is(p, at.row0 + r)) {
            mine = dense || expert < 0;
            for (int i = 0; i < p.top_k && !dense && expert >= 0; i++) {
                int id = u->id[r][i];
                if (id == expert && !mine) {
                    mine = true;
                    weight = u->weight[r][i];
                }
                slot += id < expert;
            }
            slot += !dense && expert >= 0 ? p.n_shared : 0;
        }
        uint32_t all = __ballot_sync(~0u, mine);
        int place = n + __popc(all & ((1U << stack_lane()) - 1));
        if (mine) {
            u->groups.row[g][place] = (short)r;
            u->groups.slot[g][place] = (short)slot;
            u->groups.weight[g][place] = weight;
        }
        n += __popc(all);
    }
    if (stack_lane() == 0)
        u->groups.n[g] = n;
}

/* Where each group's pairs begin: a warp. */
static __device__ __forceinline__ void list_begins(struct stack_groups *groups, int n_groups)
{
    int lane = stack_lane(), n = lane < n_groups ? groups->n[lane] : 0, sum = n;
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        int other = __shfl_up_sync(~0u, sum, apart);
        sum += lane >= apart ? other : 0;
    }
    if (lane < n_groups)
        groups->begin[lane + 1] = sum;
    if (lane == 0)
        groups->begin[0] = 0;
}

/* The rows to `to`; who goes where. */
static __device__ __forceinline__ void route(struct up_block *u, const struct agon_stack &p,
                                             const struct agon_stack_layer &l,
                                             const struct stack_place &at,
                                             const struct stack_buffers &b, char *to, int stride)
{
    bool dense = l.router == NULL;
    rows_copy(to, stride, b.x, NULL, at.row0, at.n_rows, p.hidden);
    route_scores(u, at, p, b);
    __syncthreads();
    if (!dense) {
        int r = threadIdx.x, row = at.row0 + r;
        if (r < at.n_rows) {
            route_row_of(u, p, l.router_bias, p.forced ? p.forced + (size_t)row * p.top_k : NULL,
                         r);
            for (int slot = 0; p.route_ids && at.rank == 0 && slot < p.top_k; slot++)
                p.route_ids[(size_t)row * p.top_k + slot] = u->id[r][slot];
        }
        __syncthreads();
    }
    for (int g = stack_warp(); g < l.n_groups; g += STACK_WARPS)
        list_rows(u, p, at, g, dense);
    __syncthreads();
    if (stack_warp() == 0)
        list_begins(&u->groups, l.n_groups);
    mma_copies_wait<0>();
    __syncthreads();
}

/* ---- up ----------------------------------------------------------------------------- */

static __device__ __forceinline__ float gated(float gate, float up)
{
    return gate / (1 + __expf(-gate)) * up;
}

/* 8 inner values of a group's rows. */
template <int MT>
static __device__ __forceinline__ void up_put(uint16_t *out, int ld, const struct up_block *u,
                                              const float (&acc)[2][MT][4], int group)
{
    int n = u->groups.n[group];
    out += (size_t)u->groups.begin[group] * ld + 2 * (stack_lane() % 4);
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int i = m * 16 + stack_lane() / 4 + 8 * half;
            if (i >= n)
                continue;
            float by = u->factor[u->groups.row[group][i]];
            *(uint32_t *)(out + (size_t)i * ld) =
                bf16_pack(gated(acc[0][m][2 * half] * by, acc[1][m][2 * half] * by),
                          gated(acc[0][m][2 * half + 1] * by, acc[1][m][2 * half + 1] * by));
        }
}

template <int MT>
static __global__ void __launch_bounds__(STACK_THREADS, 2)
    up_kernel(const __grid_constant__ struct agon_stack p,
              const __grid_constant__ struct agon_stack_layer l, int n_each)
{
    struct up_block *u = (struct up_block *)block_shared();
    char *rows = block_shared() + bytes_up(sizeof(*u));
    struct stack_place at = stack_place(p, n_each);
    struct stack_buffers b;
    stack_buffers(&b, p);
    b.act += (size_t)at.row0 * p.pairs_max * p.inner_max;
    int stride = p.hidden * 2 + 16, n_tiles = l.inner / 8, n_steps = p.hidden / 32;
    int step = at.size * STACK_WARPS, n_tasks = l.n_groups * n_tiles;
    int task = at.rank + at.size * stack_warp();
    size_t ld = (size_t)n_steps * 32;
    const uint4 *weights = (const uint4 *)l.gate_up + stack_lane();
    struct held<2, UP_CHUNK> next;
    held_load(next, weights + 2 * ld * task, ld, task < n_tasks ? 2 : 0, 0, n_steps);
    depends_wait();
    route(u, p, l, at, b, rows, stride);
    if (at.rank == 0)
        for (int i = threadIdx.x; i < (int)(sizeof(u->groups) / sizeof(uint32_t));
             i += STACK_THREADS)
            ((uint32_t *)&b.groups[blockIdx.x])[i] = ((const uint32_t *)&u->groups)[i];
    for (; task < n_tasks; task += step) {
        int group = task / n_tiles, n = u->groups.n[group];
        uint32_t a[MT];
        float acc[2][MT][4] = {};
#pragma unroll
        for (int m = 0; m < MT; m++)
            a[m] =
                mma_address(rows) + stack_lane() / 16 * 16 +
                (n > 0 ? u->groups.row[group][min(m * 16 + stack_lane() % 16, n - 1)] : 0) * stride;
        held_stream(acc, next, weights, ld, n_steps, a, (n + 15) / 16, task, task + step, n_tasks);
        up_put(b.act + task % n_tiles * 8, l.inner, u, acc, group);
    }
}

static size_t up_bytes(const struct agon_stack *p, int mt)
{
    return bytes_up(sizeof(struct up_block)) + (size_t)mt * 16 * (p->hidden * 2 + 16);
}

/* ---- down --------------------------------------------------------------------------- */

/* slots [which of a row's groups][16 MT][PARTIAL_LD] = the weighted outputs of a group. */
template <int MT>
static __device__ __forceinline__ void down_put(float *slots, const struct stack_groups *groups,
                                                const float (&acc)[STACK_PART_TILES][MT][4],
                                                int group)
{
    int n = groups->n[group], lane = stack_lane();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int i = m * 16 + lane / 4 + 8 * half;
            if (i >= n)
                continue;
            float by = groups->weight[group][i];
            float *to = slots +
                        (groups->slot[group][i] * MT * 16 + groups->row[group][i]) * PARTIAL_LD +
                        2 * (lane % 4);
#pragma unroll
            for (int t = 0; t < STACK_PART_TILES; t++)
                *(float2 *)(to + t * 8) =
                    make_float2(by * acc[t][m][2 * half], by * acc[t][m][2 * half + 1]);
        }
}

template <int MT>
static __global__ void __launch_bounds__(DOWN_WARPS * 32, 1)
    down_kernel(const __grid_constant__ struct agon_stack p,
                const __grid_constant__ struct agon_stack_layer l, int n_each)
{
    struct stack_groups *groups = (struct stack_groups *)block_shared();
    char *rows = block_shared() + bytes_up(sizeof(*groups));
    struct stack_place at = stack_place(p, n_each);
    struct stack_buffers b;
    stack_buffers(&b, p);
    int stride = l.inner * 2 + 16, n_steps = l.inner / 32, group = stack_warp();
    int most = p.hidden / 8 / STACK_PARTS, n_slots = l.router ? p.n_shared + p.top_k : l.n_groups;
    size_t ld = (size_t)n_steps * 32, size = (size_t)(p.hidden / 8) * ld;
    const uint4 *weights = (const uint4 *)l.down + at.rank * most * ld + stack_lane();
    float *slots = (float *)(rows + (size_t)MT * 16 * n_slots * stride);
    struct held<STACK_PART_TILES, DOWN_STEPS> h;
    struct residual<MT> x;
    held_load(h, weights + group * size, ld, group < l.n_groups ? most : 0, 0, n_steps);
    residual_begin(x, p, at, l.next_norm, NULL);
    depends_wait();
    for (int i = threadIdx.x; i < (int)(sizeof(*groups) / sizeof(uint4)); i += DOWN_WARPS * 32)
        ((uint4 *)groups)[i] = __ldcg((const uint4 *)&b.groups[blockIdx.x] + i);
    __syncthreads();
    rows_copy(rows, stride, b.act + (size_t)at.row0 * p.pairs_max * p.inner_max, NULL, 0,
              groups->begin[l.n_groups], l.inner);
    mma_copies_wait<0>();
    __syncthreads();
    for (; group < l.n_groups; group += DOWN_WARPS) {
        int n = groups->n[group];
        uint32_t a[MT];
        float acc[STACK_PART_TILES][MT][4] = {};
        if (group >= DOWN_WARPS)
            held_load(h, weights + group * size, ld, most, 0, n_steps);
#pragma unroll
        for (int m = 0; m < MT; m++)
            a[m] = mma_address(rows) + stack_lane() / 16 * 16 +
                   (groups->begin[group] + max(0, min(m * 16 + stack_lane() % 16, n - 1))) * stride;
        held_multiply(acc, h, a, (n + 15) / 16, 0, n_steps);
        down_put(slots, groups, acc, group);
    }
    __syncthreads();
    residual_put(x, p, at, b, [&](int row, int pair) {
        float2 sum = make_float2(0, 0);
        for (int i = 0; i < n_slots && row_is(p, at.row0 + row); i++) {
            float2 v = *(const float2 *)(slots + (i * MT * 16 + row) * PARTIAL_LD + 2 * pair);
            sum = make_float2(sum.x + v.x, sum.y + v.y);
        }
        return sum;
    });
}

static size_t down_bytes(const struct agon_stack *p, int mt)
{
    size_t rows = (size_t)mt * 16 * p->pairs_max;
    return bytes_up(sizeof(struct stack_groups)) + rows * (p->inner_max * 2 + 16) +
           rows * PARTIAL_LD * sizeof(float);
}
