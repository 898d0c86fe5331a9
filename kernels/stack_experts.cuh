#pragma once
/*
 * The MLP's stages (stack.cu). Every block of a cluster norms all of its cluster's rows and routes
 * them (cheaper than to wait for each other), so that each knows which rows a group of weights has.
 * A task is a group and 8 of its inner values: gate and up of its rows. On the way down a block has
 * some outputs of all rows: group after group is added up in shared memory.
 */
#include "kernels/stack.cuh"

enum { ROUTED_AT_ONCE = 2, HIDDEN_FLOATS4 = STACK_HIDDEN_MAX / 128 };

/* Eight sums over the warp: lane l gets that of value l % 8. */
static __device__ __forceinline__ float sums_of_8(const float (&v)[8])
{
    int lane = stack_lane();
    float w[4], u[2];
#pragma unroll
    for (int i = 0; i < 4; i++)
        w[i] = (lane & 1 ? v[2 * i + 1] : v[2 * i]) +
               __shfl_xor_sync(~0u, lane & 1 ? v[2 * i] : v[2 * i + 1], 1);
#pragma unroll
    for (int i = 0; i < 2; i++)
        u[i] = (lane & 2 ? w[2 * i + 1] : w[2 * i]) +
               __shfl_xor_sync(~0u, lane & 2 ? w[2 * i] : w[2 * i + 1], 2);
    float sum = (lane & 4 ? u[1] : u[0]) + __shfl_xor_sync(~0u, lane & 4 ? u[0] : u[1], 4);
    sum += __shfl_xor_sync(~0u, sum, 8);
    return sum + __shfl_xor_sync(~0u, sum, 16);
}

/* Router logits of n rows that a warp holds, to logits[row of the cluster]. */
static __device__ __forceinline__ void router_logits(
    struct stack_routes *routes, const struct agon_stack &p, const float *router,
    const float4 (&v)[ROUTED_AT_ONCE][HIDDEN_FLOATS4], const int (&row)[ROUTED_AT_ONCE])
{
    int lane = stack_lane();
    for (int first = 0; first < p.n_experts; first += 8) {
        float part[ROUTED_AT_ONCE][8] = {};
#pragma unroll
        for (int e = 0; e < 8; e++) {
            if (first + e >= p.n_experts)
                break;
#pragma unroll
            for (int i = 0; i < HIDDEN_FLOATS4; i++) {
                if (i * 128 >= p.hidden)
                    break;
                float4 w =
                    ((const float4 *)(router + (size_t)(first + e) * p.hidden + i * 128))[lane];
#pragma unroll
                for (int r = 0; r < ROUTED_AT_ONCE; r++) {
                    part[r][e] = fmaf(v[r][i].x, w.x, part[r][e]);
                    part[r][e] = fmaf(v[r][i].y, w.y, part[r][e]);
                    part[r][e] = fmaf(v[r][i].z, w.z, part[r][e]);
                    part[r][e] = fmaf(v[r][i].w, w.w, part[r][e]);
                }
            }
        }
#pragma unroll
        for (int r = 0; r < ROUTED_AT_ONCE; r++) {
            float sum = sums_of_8(part[r]);
            if (lane < 8 && first + lane < p.n_experts && row[r] >= 0)
                routes->logits[row[r]][first + lane] = sum;
        }
    }
}

/* The best top_k experts of a row, the lowest on ties, and their weights: a thread. NaN leaves ids
 * that are in range all the same. */
static __device__ void route_row_of(struct stack_routes *routes, const struct agon_stack &p,
                                    const float *bias, const uint16_t *forced, int r)
{
    const float *logits = routes->logits[r];
    float total = 0;
    uint32_t taken = 0;
    for (int slot = 0; slot < p.top_k; slot++) {
        int best = -1;
        float most = 0;
        for (int e = 0; e < p.n_experts; e++) {
            float ranked = 1 / (1 + expf(-logits[e])) + bias[e];
            if (!(taken >> e & 1) && (best < 0 || ranked > most)) {
                best = e;
                most = ranked;
            }
        }
        if (forced && forced[0] != AGON_CUDA_NOT_FORCED)
            best = min((int)forced[slot], p.n_experts - 1);
        taken |= 1u << best;
        routes->id[r][slot] = (short)best;
        routes->weight[r][slot] = 1 / (1 + expf(-logits[best]));
        total += routes->weight[r][slot];
    }
    for (int slot = 0; slot < p.top_k; slot++)
        routes->weight[r][slot] *= p.normalise ? p.route_scale / total : p.route_scale;
}

/* The rows of group g, ascending: a warp. */
static __device__ void list_rows(struct stack_routes *routes, const struct agon_stack &p,
                                 const struct stack_place &at, int g, bool dense)
{
    int n = 0, expert = g - p.n_shared;
    for (int base = 0; base < at.n_rows; base += 32) {
        int r = base + stack_lane();
        bool mine = false;
        float weight = 1;
        if (r < at.n_rows && row_is(p, at.row0 + r)) {
            mine = dense || expert < 0;
            for (int slot = 0; slot < p.top_k && !mine; slot++) {
                mine = routes->id[r][slot] == expert;
                weight = mine ? routes->weight[r][slot] : 1;
            }
        }
        uint32_t all = __ballot_sync(~0u, mine);
        int place = n + __popc(all & ((1U << stack_lane()) - 1));
        if (mine) {
            routes->row[g][place] = (short)r;
            routes->row_weight[g][place] = weight;
        }
        n += __popc(all);
    }
    if (stack_lane() == 0)
        routes->n[g] = n;
}

/* The rows, normed, to `to`; who goes where to routes. */
static __device__ void route(struct stack_routes *routes, const struct agon_stack &p,
                             const struct agon_stack_layer &l, const struct stack_place &at,
                             char *to, int stride)
{
    bool dense = l.router == NULL;
    for (int base = stack_warp(); base < at.n_rows; base += STACK_WARPS * ROUTED_AT_ONCE) {
        float4 v[ROUTED_AT_ONCE][HIDDEN_FLOATS4] = {};
        int row[ROUTED_AT_ONCE];
#pragma unroll
        for (int i = 0; i < ROUTED_AT_ONCE; i++) {
            row[i] = base + i * STACK_WARPS < at.n_rows ? base + i * STACK_WARPS : -1;
            if (row[i] >= 0)
                row_load(v[i], p.x + (size_t)(at.row0 + row[i]) * p.hidden, p.hidden);
        }
#pragma unroll
        for (int i = 0; i < ROUTED_AT_ONCE; i++) {
            row_norm(v[i], l.mlp_norm, p.hidden, p.eps);
            if (row[i] >= 0)
                row_store(to + row[i] * stride, v[i], p.hidden);
        }
        if (!dense)
            router_logits(routes, p, l.router, v, row);
    }
    __syncthreads();
    if (!dense && stack_thread() < at.n_rows) {
        int r = stack_thread(), row = at.row0 + r;
        route_row_of(routes, p, l.router_bias, p.forced ? p.forced + (size_t)row * p.top_k : NULL,
                     r);
        for (int slot = 0; p.route_ids && at.rank == 0 && slot < p.top_k; slot++)
            p.route_ids[(size_t)row * p.top_k + slot] = routes->id[r][slot];
    }
    __syncthreads();
    for (int g = stack_warp(); g < l.n_groups; g += STACK_WARPS)
        list_rows(routes, p, at, g, dense);
    __syncthreads();
    if (stack_thread() == 0) {
        routes->begin[0] = 0;
        for (int g = 0; g < l.n_groups; g++)
            routes->begin[g + 1] = routes->begin[g] + routes->n[g];
    }
    __syncthreads();
}

static __device__ __forceinline__ float gated(float gate, float up)
{
    return gate / (1 + __expf(-gate)) * up;
}

template <int MT>
static __device__ __forceinline__ void stage_up(struct stack_routes *routes,
                                                const struct agon_stack &p,
                                                const struct agon_stack_layer &l,
                                                const struct stack_place &at, uint16_t *act)
{
    int stride = p.hidden * 2 + 16, n_tiles = l.inner / 8, n_steps = p.hidden / 32;
    int step = at.size * STACK_WARPS, n_tasks = l.n_groups * n_tiles;
    size_t ld = (size_t)n_steps * 32;
    route(routes, p, l, at, stack_room(), stride);
    auto next_task = [&](int task) {
        while (task < n_tasks && routes->n[task / n_tiles] == 0)
            task += step;
        return task;
    };
    const uint4 *weights = (const uint4 *)l.gate_up + stack_lane();
    struct stream<2> s = {
    };
    uint32_t rows = mma_address(stack_room());
    int task = next_task(at.rank + at.size * stack_warp());
    if (task < n_tasks)
        stream_load<2>(s, weights + 2 * ld * task, ld, 0, n_steps);
    while (task < n_tasks) {
        int group = task / n_tiles, tile = task % n_tiles, n = routes->n[group];
        int after = next_task(task + step), n_m = (n + 15) / 16;
        const uint4 *w = weights + 2 * ld * task;
        uint32_t a[MT];
        float acc[2][MT][4] = {};
#pragma unroll
        for (int m = 0; m < MT; m++)
            a[m] = rows + routes->row[group][min(m * 16 + stack_lane() % 16, n - 1)] * stride +
                   stack_lane() / 16 * 16;
        multiply<MT, 2>(acc, s, a, n_m, w, ld, 0, n_steps,
                        after < n_tasks ? weights + 2 * ld * after : NULL, 0, n_steps);
        uint16_t *out =
            act + (size_t)routes->begin[group] * l.inner + tile * 8 + 2 * (stack_lane() % 4);
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int i = m * 16 + stack_lane() / 4 + 8 * half;
                if (i < n)
                    *(uint32_t *)(out + (size_t)i * l.inner) =
                        bf16_pack(gated(acc[0][m][2 * half], acc[1][m][2 * half]),
                                  gated(acc[0][m][2 * half + 1], acc[1][m][2 * half + 1]));
            }
        task = after;
    }
}

/* halves [2][16 MT][ld] += the weighted outputs of a group for one tile. */
template <int MT>
static __device__ __forceinline__ void add_group(float *half, int ld, int column,
                                                 const float (&acc)[1][MT][4],
                                                 const struct stack_routes *routes, int group,
                                                 int n)
{
    int lane = stack_lane();
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int part = 0; part < 2; part++) {
            int i = m * 16 + lane / 4 + 8 * part;
            if (i >= n)
                continue;
            float weight = routes->row_weight[group][i];
            float2 *to = (float2 *)(half + routes->row[group][i] * ld + column);
            float2 sum = *to;
            *to = make_float2(fmaf(weight, acc[0][m][2 * part], sum.x),
                              fmaf(weight, acc[0][m][2 * part + 1], sum.y));
        }
    __syncwarp();
}

template <int MT>
static __device__ __forceinline__ void stage_down(const struct stack_routes *routes,
                                                  const struct agon_stack &p,
                                                  const struct agon_stack_layer &l,
                                                  const struct stack_place &at, const uint16_t *act)
{
    int stride = l.inner * 2 + 16, n_steps = l.inner / 32, first,
        n_pairs = routes->begin[l.n_groups];
    int n_tiles = tiles_of(at, p.hidden / 8, &first), ld = halves_ld(n_tiles);
    int middle = (n_steps + 1) / 2;
    size_t group_size = (size_t)(p.hidden / 8) * n_steps * 32;
    char *rows = stack_room();
    float *halves = (float *)(rows + (size_t)MT * 16 * p.pairs_max * stride);
    rows_copy(rows, stride, act, n_pairs, l.inner);
    for (int i = stack_thread(); i < 2 * MT * 16 * ld; i += STACK_THREADS)
        halves[i] = 0;
    mma_copies_wait<0>();
    __syncthreads();
    for (int task = stack_warp(); task < 2 * n_tiles; task += STACK_WARPS) {
        int tile = task % n_tiles, lower = task < n_tiles;
        int begin = lower ? 0 : middle, end = lower ? middle : n_steps, group = 0;
        const uint4 *w =
            (const uint4 *)l.down + stack_lane() + (size_t)(first + tile) * n_steps * 32;
        struct stream<1> s = {
        };
        stream_load<1>(s, w, 0, begin, end);
        for (; group < l.n_groups; group++) {
            int n = routes->n[group];
            const uint4 *from = w + group * group_size,
                        *after = group + 1 < l.n_groups ? from + group_size : NULL;
            uint32_t a[MT];
            float acc[1][MT][4] = {};
#pragma unroll
            for (int m = 0; m < MT; m++)
                a[m] = mma_address(rows) + stack_lane() / 16 * 16 +
                       (routes->begin[group] + max(0, min(m * 16 + stack_lane() % 16, n - 1))) *
                           stride;
            multiply<MT, 1>(acc, s, a, (n + 15) / 16, from, 0, begin, end, after, begin, end);
            add_group<MT>(halves + (lower ? 0 : MT * 16 * ld), ld,
                          tile * 8 + 2 * (stack_lane() % 4), acc, routes, group, n);
        }
    }
    __syncthreads();
    for (int i = stack_thread(); i < at.n_rows * n_tiles * 8; i += STACK_THREADS) {
        int r = i / (n_tiles * 8), c = i % (n_tiles * 8);
        float *x = p.x + (size_t)(at.row0 + r) * p.hidden + first * 8 + c;
        *x = __ldcg(x) + (halves[r * ld + c] + halves[(MT * 16 + r) * ld + c]);
    }
}
