#pragma once
/*
 * The MLP's first stage (stack.cu): gate and up of the experts. A block has a tile, up to 128 rows
 * of one group of weights, and some of its inner values: gate and up by wgmma, rows first. Up to
 * UP_ROWS rows in all are a tile for each group, and each block routes them itself; of more, a
 * launch of its own routes (stack_route.cuh) and each block counts which tiles there are. What a
 * slot makes is left in [row][slot][inner]. Neither where a row stands in a tile nor how large the
 * tiles are changes any sum.
 */
#include "kernels/stack_route.cuh"
#include "kernels/wgmma.cuh"

enum {
    UP_ROWS = 128, /* of a tile: two warpgroups' */
    UP_K = 64,     /* of a step: a row of 128 bytes */
    UP_STEPS_MAX = STACK_HIDDEN_MAX / UP_K,
    UP_WHOLE = 2, /* tiles of 8 inner values of a block, where a group is one tile */
    UP_FEW = 4,   /* for some hundred rows */
    UP_MANY = 7,
    UP_FEW_ROWS = 512,
};

/* At the beginning of shared memory. Behind it: rows [step][UP_ROWS][128 bytes], weights [tile of 8
 * outputs][step][8][128 bytes], swizzled. */
struct up_block {
    uint64_t arrived[UP_STEPS_MAX]; /* barriers: weights of a step */
    int n;                          /* rows of the tile */
    int count[STACK_WARPS][AGON_STACK_GROUPS_MAX];
    int row[UP_ROWS];
    short slot[UP_ROWS];
    float factor[UP_ROWS];
};
enum { UP_BLOCK_BYTES = 2048 };
static_assert(sizeof(struct up_block) <= UP_BLOCK_BYTES, "tiles are aligned");

static __device__ __forceinline__ struct up_block *up_block(void)
{
    uintptr_t at = (uintptr_t)block_shared();
    return (struct up_block *)((at + SWIZZLE_ALIGN - 1) / SWIZZLE_ALIGN * SWIZZLE_ALIGN);
}

/* Of rows; first a word of each row that there is stands there. */
static __host__ __device__ inline uint32_t up_rows_bytes(const struct agon_stack &p)
{
    uint32_t rows = UP_ROWS * (uint32_t)p.hidden * 2, masks = ((uint32_t)p.rows.n_rows + 255) * 4;
    return rows > masks ? rows : (masks + SWIZZLE_ALIGN - 1) / SWIZZLE_ALIGN * SWIZZLE_ALIGN;
}

static __device__ __forceinline__ int up_slot(uint32_t groups, int group)
{
    return __popc(groups & ((1U << group) - 1));
}

/* Weights of a group's tiles of 8 inner values from `first` on, gate and up, to shared memory: a
 * warp. */
static __device__ __forceinline__ void up_weights(struct up_block *u, uint32_t to,
                                                  const struct agon_stack &p,
                                                  const struct agon_stack_layer &l, int group,
                                                  int first, int n_tiles)
{
    enum { ATOM = 8 * TILE_BYTES_K };
    int lane = stack_lane(), n = 2 * min(n_tiles, l.inner / 8 - first), tile_bytes = p.hidden * 16;
    const char *from =
        (const char *)l.gate_up + (size_t)(2 * (group * (l.inner / 8) + first) + lane) * tile_bytes;
    for (int k = 0; k < p.hidden / UP_K; k++) {
        uint32_t arrived = shared_address(&u->arrived[k]);
        if (lane == 0)
            barrier_expect(arrived, n * ATOM);
        __syncwarp();
        if (lane < n)
            copy_bytes(to + lane * tile_bytes + k * ATOM, from + k * ATOM, ATOM, arrived);
    }
}

/* All rows of the block's group are its tile. */
static __device__ __forceinline__ void up_list_whole(struct up_block *u, const struct route &r,
                                                     const struct agon_stack &p,
                                                     const struct agon_stack_layer &l,
                                                     const struct stack_buffers &b, int group)
{
    float factor;
    bool keep = blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x / ROUTE_LANES < p.rows.n_rows;
    uint32_t groups = route_end(&factor, r, p, l, b, keep);
    bool mine = r.share == 0 && groups >> group & 1;
    uint32_t all = __ballot_sync(~0u, mine);
    int at = 0;
    if (stack_lane() == 0 && all)
        at = atomicAdd(&u->n, __popc(all));
    at = __shfl_sync(~0u, at, 0) + __popc(all & ((1U << stack_lane()) - 1));
    if (mine) {
        u->row[at] = r.row;
        u->slot[at] = (short)up_slot(groups, group);
        u->factor[at] = factor;
    }
    __syncthreads();
}

/* Which group's rows the block's tile has, whose weights then are on their way, and which of them.
 * masks: room for a word of each row. Returns whether there is such a tile. */
static __device__ __forceinline__ bool up_list_tile(struct up_block *u, uint32_t *masks,
                                                    uint32_t weights, const struct agon_stack &p,
                                                    const struct agon_stack_layer &l,
                                                    const struct stack_buffers &b, int first,
                                                    int n_tiles)
{
    int lane = stack_lane(), warp = stack_warp(), n_rows = p.rows.n_rows;
    int each = (n_rows + STACK_THREADS - 1) / STACK_THREADS, begin = warp * each * 32, count = 0;
#pragma unroll 4
    for (int i = 0; i < each; i++) {
        int row = begin + i * 32 + lane;
        uint32_t groups = row < n_rows ? __ldcg(b.row_groups + row) : 0;
        masks[row] = groups;
        for (int g = 0; g < l.n_groups; g++) {
            uint32_t all = __ballot_sync(~0u, groups >> g & 1);
            count += lane == g ? __popc(all) : 0;
        }
    }
    if (lane < AGON_STACK_GROUPS_MAX)
        u->count[warp][lane] = count;
    __syncthreads();
    int before = 0, total = 0;
#pragma unroll
    for (int w = 0; w < STACK_WARPS; w++) {
        int n = lane < l.n_groups ? u->count[w][lane] : 0;
        before += w < warp ? n : 0;
        total += n;
    }
    int tiles = (total + UP_ROWS - 1) / UP_ROWS, upto = tiles, tile = blockIdx.y;
#pragma unroll
    for (int apart = 1; apart < AGON_STACK_GROUPS_MAX; apart *= 2) {
        int other = __shfl_up_sync(~0u, upto, apart);
        upto += lane >= apart ? other : 0;
    }
    int group = __ffs(__ballot_sync(~0u, upto > tile)) - 1;
    if (group < 0)
        return false;
    if (warp == 0)
        up_weights(u, weights, p, l, group, first, n_tiles);
    int skip = (tile - __shfl_sync(~0u, upto - tiles, group)) * UP_ROWS;
    int at = __shfl_sync(~0u, before, group) - skip;
    for (int i = 0; i < each; i++) {
        uint32_t groups = masks[begin + i * 32 + lane];
        bool mine = groups >> group & 1;
        uint32_t all = __ballot_sync(~0u, mine);
        int place = at + __popc(all & ((1U << lane) - 1));
        if (mine && place >= 0 && place < UP_ROWS) {
            u->row[place] = begin + i * 32 + lane;
            u->slot[place] = (short)up_slot(groups, group);
        }
        at += __popc(all);
    }
    total = __shfl_sync(~0u, total, group);
    if (threadIdx.x == 0)
        u->n = min((int)UP_ROWS, total - skip);
    __syncthreads();
    return true;
}

/* Pieces of 16 bytes of the tile's rows on their way to shared memory: a thread's. (By registers,
 * not by cp.async, whose 16 bytes take longer where all blocks copy, and which wgmma's fence would
 * wait for all together.) */
struct up_rows {
    enum { EACH = UP_ROWS * UP_K / 8 / STACK_THREADS };
    uint4 v[UP_STEPS_MAX][EACH];
};

static __device__ __forceinline__ void up_load(struct up_rows &r, const struct up_block *u,
                                               const uint16_t *x, int hidden)
{
    int piece = threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < up_rows::EACH; i++) {
        int at = i * (STACK_THREADS / 8) + threadIdx.x / 8;
        const uint4 *from = (const uint4 *)(x + (at < u->n ? u->row[at] : 0) * (size_t)hidden);
#pragma unroll
        for (int k = 0; k < UP_STEPS_MAX; k++)
            if (at < u->n && k < hidden / UP_K)
                r.v[k][i] = __ldcg(from + k * 8 + piece);
    }
}

/* acc = 64 rows, from `far` on, by gate and up of TILES times 8 inner values; a step begins when it
 * has arrived. */
template <int TILES>
static __device__ __forceinline__ void up_multiply(float (&acc)[8 * TILES], const struct up_rows &r,
                                                   const struct up_block *u, uint32_t rows,
                                                   uint32_t weights, int hidden, int far)
{
    /* From 8 outputs to the next 8: hidden / 64 times 1,024 bytes. */
    uint64_t apart = (uint64_t)((hidden / UP_K - 1) * (1024 >> 4)) << 32;
    uint64_t x = wgmma_descriptor(rows + far * TILE_BYTES_K);
    uint64_t w = wgmma_descriptor(weights) + apart;
    uint32_t to = rows + tile_offset(threadIdx.x / 8, threadIdx.x % 8);
#pragma unroll
    for (int k = 0; k < UP_STEPS_MAX; k++) {
        if (k >= hidden / UP_K)
            break;
#pragma unroll
        for (int i = 0; i < up_rows::EACH; i++)
            shared_store(to + (k * UP_ROWS + i * (STACK_THREADS / 8)) * TILE_BYTES_K, r.v[k][i]);
        fence_for_wgmma();
        __syncthreads();
        /* Even where there are no rows: shared memory is not given back under a copy. */
        barrier_wait(shared_address(&u->arrived[k]), 0);
        if (far >= u->n)
            continue;
        wgmma_fence();
#pragma unroll
        for (int i = 0; i < 4; i++)
            wgmma<16 * TILES>::bf16(acc, x + k * (UP_ROWS * TILE_BYTES_K >> 4) + 2 * i,
                                    w + k * (8 * TILE_BYTES_K >> 4) + 2 * i, k + i > 0);
        wgmma_commit();
    }
    wgmma_wait<0>();
}

static __device__ __forceinline__ float gated(float gate, float up)
{
    return __fdividef(gate, 1 + __expf(-gate)) * up;
}

/* What the tile's rows have made to [row][slot][inner], from inner value 8 `first` on. */
template <int TILES>
static __device__ __forceinline__ void up_put(char *act, const struct up_block *u,
                                              const float (&acc)[8 * TILES],
                                              const float (&factor)[2],
                                              const struct agon_stack_layer &l, int n_slots, int i0,
                                              int first)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = i0 + 8 * half;
        if (i >= u->n)
            continue;
        float by = factor[half];
        char *slot = act + ((size_t)u->row[i] * n_slots + u->slot[i]) * act_bytes(l.inner);
        uint32_t *to = (uint32_t *)slot + first * 4 + threadIdx.x % 4;
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            const float *gate = &acc[8 * t + 2 * half], *up = gate + 4;
            if (first + t < l.inner / 8)
                to[t * 4] =
                    bf16_pack(gated(gate[0] * by, up[0] * by), gated(gate[1] * by, up[1] * by));
        }
    }
}

static __host__ __device__ inline int layer_slots(const struct agon_stack &p,
                                                  const struct agon_stack_layer &l)
{
    return l.router ? p.n_shared + p.top_k : l.n_groups;
}

template <int TILES>
static __global__ void __launch_bounds__(STACK_THREADS, 1)
    up_kernel(const __grid_constant__ struct agon_stack p,
              const __grid_constant__ struct agon_stack_layer l)
{
    constexpr bool whole = TILES == UP_WHOLE;
    struct up_block *u = up_block();
    uint32_t rows = shared_address(u) + UP_BLOCK_BYTES;
    uint32_t weights = rows + up_rows_bytes(p);
    struct stack_buffers b;
    struct route r;
    int first = blockIdx.x * TILES, group = blockIdx.y;
    stack_buffers(&b, p);
    if (threadIdx.x == 0) {
        u->n = 0;
        for (int k = 0; k < p.hidden / UP_K; k++)
            barrier_init(shared_address(&u->arrived[k]), 1);
        barriers_made();
    }
    if (whole) {
        if (stack_warp() == 0)
            up_weights(u, weights, p, l, group, first, TILES);
        route_begin(&r, p, l, threadIdx.x / ROUTE_LANES);
    }
    __syncthreads();
    depends_wait();
    if (whole)
        up_list_whole(u, r, p, l, b, group);
    else if (!up_list_tile(u, (uint32_t *)((char *)u + UP_BLOCK_BYTES), weights, p, l, b, first,
                           TILES))
        return;
    int mine = stack_warp() * 16 + stack_lane() / 4, far = stack_warp() / 4 * 64;
    float acc[8 * TILES], factor[2] = {};
    struct up_rows pieces;
    up_load(pieces, u, b.x, p.hidden);
    for (int half = 0; half < 2; half++)
        if (mine + 8 * half < u->n)
            factor[half] = whole ? u->factor[mine + 8 * half]
                                 : __ldcg(b.row_factors + u->row[mine + 8 * half]);
    up_multiply<TILES>(acc, pieces, u, rows, weights, p.hidden, far);
    up_put<TILES>(b.act, u, acc, factor, l, layer_slots(p, l), mine, first);
}

static size_t up_bytes(const struct agon_stack *p, int tiles)
{
    return SWIZZLE_ALIGN + UP_BLOCK_BYTES + (size_t)up_rows_bytes(*p) +
           (size_t)tiles * 16 * (size_t)p->hidden * 2;
}
