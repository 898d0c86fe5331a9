#pragma once
/*
 * Which groups of weights a row goes through (stack_experts.cuh): a bit each. In ascending order
 * they are the row's slots; an expert counts as much as row_weights has, the others 1. Two lanes
 * make a row's, each half of the experts; where rows are few each block does so for itself, which
 * is cheaper than another launch. Few instructions, for they come from L2 each time.
 */
#include "kernels/stack.cuh"

enum { ROUTE_LANES = 2, ROUTE_EACH = STACK_EXPERTS_MAX / ROUTE_LANES };
static_assert(ROUTE_EACH == 4, "logits are read by float4");

/* Which row of a block a thread has; a warp has 16, and its halves share out their experts. */
static __device__ __forceinline__ int route_row(void)
{
    return stack_warp() * 16 + stack_lane() % 16;
}

/* What is known of a row before the stage before has ended: a lane's. */
struct route {
    float bias[ROUTE_EACH]; /* -infinity: no such expert */
    int row, share;
    bool there; /* a row that is computed */
};

static __device__ __forceinline__ void route_begin(struct route *r, const struct agon_stack &p,
                                                   const struct agon_stack_layer &l, int row)
{
    r->share = stack_lane() / 16;
    r->there = row_is(p, row);
    r->row = min(row, p.rows.n_rows - 1);
#pragma unroll
    for (int i = 0; i < ROUTE_EACH; i++) {
        int e = r->share * ROUTE_EACH + i;
        r->bias[i] = l.router && e < p.n_experts ? l.router_bias[e] : -INFINITY;
    }
}

/* What all parts of the columns add to a row's sum. */
static __device__ __forceinline__ float route_squares(const struct stack_buffers &b, int row)
{
    float squares[STACK_PARTS], sum = 0;
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++)
        squares[i] = __ldcg(b.squares + (size_t)i * b.ld_rows + row);
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++)
        sum += squares[i];
    return sum;
}

/* The same to the logits of the lane's experts. */
static __device__ __forceinline__ float4 route_logits(const struct stack_buffers &b,
                                                      const struct route &r)
{
    float4 logits[STACK_PARTS], sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++)
        logits[i] = __ldcg((const float4 *)b.logits +
                           ((size_t)i * b.ld_rows + r.row) * ROUTE_LANES + r.share);
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++)
        sum = make_float4(sum.x + logits[i].x, sum.y + logits[i].y, sum.z + logits[i].z,
                          sum.w + logits[i].w);
    return sum;
}

/* The best top_k experts of a row, the lowest on ties: their bits. NaN leaves experts that there
 * are all the same. */
static __device__ __forceinline__ uint32_t route_choose(const struct route &r,
                                                        const float (&scores)[ROUTE_EACH],
                                                        const struct agon_stack &p, bool keep)
{
    const uint16_t *forced = p.forced ? p.forced + (size_t)r.row * p.top_k : NULL;
    const float least = -3e38F;
    float rank[STACK_EXPERTS_MAX];
    uint32_t chosen = 0;
    if (forced && forced[0] == AGON_CUDA_NOT_FORCED)
        forced = NULL;
#pragma unroll
    for (int i = 0; i < ROUTE_EACH; i++) {
        float mine = r.bias[i] == -INFINITY ? -INFINITY : fmaxf(scores[i] + r.bias[i], least);
        float other = __shfl_xor_sync(~0u, mine, 16);
        rank[i] = r.share ? other : mine;
        rank[ROUTE_EACH + i] = r.share ? mine : other;
    }
#pragma unroll 1
    for (int slot = 0; slot < p.top_k; slot++) {
        int best = 0;
        float most = -INFINITY;
#pragma unroll
        for (int e = 0; e < STACK_EXPERTS_MAX; e++)
            if (rank[e] > most) {
                best = e;
                most = rank[e];
            }
        if (forced)
            best = min((int)forced[slot], p.n_experts - 1);
        chosen |= 1U << best;
        if (keep && p.route_ids)
            p.route_ids[(size_t)r.row * p.top_k + slot] = best;
#pragma unroll
        for (int e = 0; e < STACK_EXPERTS_MAX; e++)
            rank[e] = e == best ? -INFINITY : rank[e];
    }
    return chosen;
}

/* Returns the row's groups, and its factor; keep: in the buffers as well, with the experts'
 * weights. All lanes of a warp. */
static __device__ __forceinline__ uint32_t route_end(float *factor, const struct route &r,
                                                     const struct agon_stack &p,
                                                     const struct agon_stack_layer &l,
                                                     const struct stack_buffers &b, bool keep)
{
    uint32_t groups = (1U << l.n_groups) - 1;
    float4 sum = l.router ? route_logits(b, r) : make_float4(0, 0, 0, 0);
    float by = rsqrtf(__fdividef(route_squares(b, r.row), p.hidden) + p.eps);
    bool first = keep && r.share == 0;
    if (l.router) {
        float scores[ROUTE_EACH] = {sum.x, sum.y, sum.z, sum.w}, total = 0;
#pragma unroll
        for (int i = 0; i < ROUTE_EACH; i++)
            scores[i] = __fdividef(1, 1 + __expf(-scores[i] * by));
        uint32_t chosen = route_choose(r, scores, p, first);
        groups = chosen << p.n_shared | ((1U << p.n_shared) - 1);
#pragma unroll
        for (int i = 0; i < ROUTE_EACH; i++)
            total += chosen >> (r.share * ROUTE_EACH + i) & 1 ? scores[i] : 0;
        total += __shfl_xor_sync(~0u, total, 16);
        float times = p.normalise ? __fdividef(p.route_scale, total) : p.route_scale;
        if (keep)
            ((float4 *)b.row_weights)[r.row * ROUTE_LANES + r.share] = make_float4(
                scores[0] * times, scores[1] * times, scores[2] * times, scores[3] * times);
    }
    *factor = by;
    groups = r.there ? groups : 0;
    if (first) {
        b.row_groups[r.row] = groups;
        b.row_factors[r.row] = by;
    }
    return groups;
}

/* A block is a warp, which is faster than two: 16 rows, half of a word of row_members of each
 * group. */
enum { ROUTE_ROWS = 32 / ROUTE_LANES };

static __global__ void __launch_bounds__(32)
    route_kernel(const __grid_constant__ struct agon_stack p,
                 const __grid_constant__ struct stack_buffers b,
                 const __grid_constant__ struct agon_stack_layer l)
{
    struct route r;
    float factor;
    int row = blockIdx.x * ROUTE_ROWS + route_row(), lane = stack_lane();
    depends_tell(); /* the weights of what follows are much to fetch */
    route_begin(&r, p, l, row);
    depends_wait();
    uint32_t groups = route_end(&factor, r, p, l, b, row < p.rows.n_rows), members = 0;
#pragma unroll 1
    for (int g = 0; g < l.n_groups; g++) {
        uint32_t all = __ballot_sync(~0u, groups >> g & 1);
        members = lane == g ? all : members;
    }
    uint16_t *word = (uint16_t *)(b.row_members + blockIdx.x / 2 * AGON_STACK_GROUPS_MAX);
    if (lane < AGON_STACK_GROUPS_MAX)
        word[2 * lane + blockIdx.x % 2] = (uint16_t)members;
}
