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
    UP_ROWS = STACK_TILE_ROWS, /* two warpgroups' */
    UP_K = 64,                 /* of a step: a row of 128 bytes */
    UP_STEPS_MAX = STACK_HIDDEN_MAX / UP_K,
    UP_WHOLE = 2, /* tiles of 8 inner values of a block, where a group is one tile */
    UP_FEW = 4,   /* for some hundred rows */
    UP_MANY = 7,  /* or one more, where that makes fewer blocks */
    UP_FEW_ROWS = 512,
};

/* At the beginning of shared memory. Behind it: rows [step][UP_ROWS][128 bytes], weights [tile of 8
 * outputs][step][8][128 bytes], swizzled. */
struct up_block {
    uint64_t arrived; /* a barrier: the weights */
    int n;            /* rows of the tile */
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

/* From a word of row_members to the next there: groups lie in different banks. */
enum { MEMBERS_LD = AGON_STACK_GROUPS_MAX + 1 };

static __host__ __device__ inline uint32_t members_bytes(const struct agon_stack &p)
{
    uint32_t members = ((uint32_t)p.rows.n_rows + 31) / 32 * MEMBERS_LD * 4;
    return (members + SWIZZLE_ALIGN - 1) / SWIZZLE_ALIGN * SWIZZLE_ALIGN;
}

/* Of rows; first row_members stands there. */
static __host__ __device__ inline uint32_t up_rows_bytes(const struct agon_stack &p)
{
    uint32_t rows = UP_ROWS * (uint32_t)p.hidden * 2, members = members_bytes(p);
    return rows > members ? rows : members;
}

static __device__ __forceinline__ int up_slot(uint32_t groups, int group)
{
    return __popc(groups & ((1U << group) - 1));
}

/* Weights of a group's tiles of 8 inner values from `first` on, gate and up, on their way to shared
 * memory: a thread, by few large copies, for each takes it a hundred cycles. */
static __device__ __forceinline__ void up_weights(struct up_block *u, uint32_t to,
                                                  const struct agon_stack &p,
                                                  const struct agon_stack_layer &l, int group,
                                                  int first, int n_tiles)
{
    int pair = p.hidden * 32, n = min(n_tiles, l.inner / 8 - first);
    const char *from = (const char *)l.gate_up + (size_t)(group * (l.inner / 8) + first) * pair;
    uint32_t arrived = shared_address(&u->arrived);
    barrier_expect(arrived, n * pair);
    for (int i = 0; i < n; i++)
        copy_bytes(to + i * pair, from + i * pair, pair, arrived);
}

/* All rows of the block's group are its tile. */
static __device__ __forceinline__ void up_list_whole(struct up_block *u, const struct route &r,
                                                     const struct agon_stack &p,
                                                     const struct agon_stack_layer &l,
                                                     const struct stack_buffers &b, int group)
{
    float factor;
    bool keep = blockIdx.x == 0 && blockIdx.y == 0 && route_row() < p.rows.n_rows;
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

/* Which tile of which group a block has. */
struct up_tile {
    int group, skip, n; /* group below 0: none; rows of the group before the tile's; of the tile */
};

/* Of tile `tile` of all groups', of which members says what rows they have. A warp. */
static __device__ __forceinline__ struct up_tile up_find(const uint32_t *members, int n_words,
                                                         int tile)
{
    int lane = stack_lane(), total = 0;
    for (int word = lane / AGON_STACK_GROUPS_MAX; word < n_words; word += 2)
        total += __popc(members[word * MEMBERS_LD + lane % AGON_STACK_GROUPS_MAX]);
    total += __shfl_xor_sync(~0u, total, AGON_STACK_GROUPS_MAX);
    int tiles = (total + UP_ROWS - 1) / UP_ROWS, upto = tiles;
#pragma unroll
    for (int apart = 1; apart < AGON_STACK_GROUPS_MAX; apart *= 2) {
        int other = __shfl_up_sync(~0u, upto, apart);
        upto += lane % AGON_STACK_GROUPS_MAX >= apart ? other : 0;
    }
    struct up_tile at;
    at.group = __ffs(__ballot_sync(~0u, upto > tile)) - 1;
    at.skip = (tile - __shfl_sync(~0u, upto - tiles, max(0, at.group))) * UP_ROWS;
    at.n = min((int)UP_ROWS, __shfl_sync(~0u, total, max(0, at.group)) - at.skip);
    return at;
}

/* Which of the rows are the tile's; the block's warps share out the words. */
static __device__ __forceinline__ void up_list(struct up_block *u, const uint32_t *members,
                                               int n_words, const struct up_tile &tile)
{
    int lane = stack_lane(), before = -tile.skip;
    for (int base = 0; base < n_words; base += 32) {
        uint32_t mine =
            base + lane < n_words ? members[(base + lane) * MEMBERS_LD + tile.group] : 0;
        int upto = __popc(mine);
#pragma unroll
        for (int apart = 1; apart < 32; apart *= 2) {
            int other = __shfl_up_sync(~0u, upto, apart);
            upto += lane >= apart ? other : 0;
        }
        for (int word = stack_warp(); word < 32; word += STACK_WARPS) {
            uint32_t rows = __shfl_sync(~0u, mine, word), below = rows & ((1U << lane) - 1);
            int place = before + __shfl_sync(~0u, upto, word) - __popc(rows) + __popc(below);
            if ((rows >> lane & 1) && place >= 0 && place < UP_ROWS)
                u->row[place] = (base + word) * 32 + lane;
        }
        before += __shfl_sync(~0u, upto, 31);
    }
    if (threadIdx.x == 0)
        u->n = tile.n;
}

/* The block's tile of many rows, and its weights on their way. members: room in shared memory.
 * Returns its group, or below 0 where there is no such tile. */
static __device__ __forceinline__ int up_list_tile(struct up_block *u, uint32_t *members,
                                                   uint32_t weights, const struct agon_stack &p,
                                                   const struct agon_stack_layer &l,
                                                   const struct stack_buffers &b, int first,
                                                   int n_tiles)
{
    int n_words = (p.rows.n_rows + 31) / 32;
    for (int i = threadIdx.x; i < n_words * AGON_STACK_GROUPS_MAX; i += STACK_THREADS)
        members[i / AGON_STACK_GROUPS_MAX * MEMBERS_LD + i % AGON_STACK_GROUPS_MAX] =
            __ldcg(b.row_members + i);
    __syncthreads();
    struct up_tile tile = up_find(members, n_words, blockIdx.y);
    if (tile.group < 0)
        return tile.group;
    if (threadIdx.x == 0)
        up_weights(u, weights, p, l, tile.group, first, n_tiles);
    up_list(u, members, n_words, tile);
    __syncthreads();
    return tile.group;
}

/* Pieces of 16 bytes of a tile of ROWS on their way to shared memory: a thread's. (By registers,
 * not by cp.async, whose 16 bytes take longer where all blocks copy, and which wgmma's fence would
 * wait for all together.) */
template <int ROWS> struct up_rows {
    enum { EACH = ROWS * UP_K / 8 / STACK_THREADS };
    uint4 v[UP_STEPS_MAX][EACH];
};

/* Those of n rows; row: which they are. */
template <int ROWS>
static __device__ __forceinline__ void up_load(struct up_rows<ROWS> &r, const int *row, int n,
                                               const uint16_t *x, int hidden)
{
    int piece = threadIdx.x % 8;
#pragma unroll
    for (int i = 0; i < up_rows<ROWS>::EACH; i++) {
        int at = i * (STACK_THREADS / 8) + threadIdx.x / 8;
        const uint4 *from = (const uint4 *)(x + (at < n ? row[at] : 0) * (size_t)hidden);
#pragma unroll
        for (int k = 0; k < UP_STEPS_MAX; k++)
            if (at < n && k < hidden / UP_K)
                r.v[k][i] = __ldcg(from + k * 8 + piece);
    }
}

/* A step of them to shared memory. */
template <int ROWS>
static __device__ __forceinline__ void up_store(const struct up_rows<ROWS> &r, uint32_t rows, int k)
{
    uint32_t to = rows + tile_offset(threadIdx.x / 8, threadIdx.x % 8);
#pragma unroll
    for (int i = 0; i < up_rows<ROWS>::EACH; i++)
        shared_store(to + (k * ROWS + i * (STACK_THREADS / 8)) * TILE_BYTES_K, r.v[k][i]);
}

/* acc (k > 0: +)= 64 rows of a tile of ROWS by gate and up of TILES times 8 inner values, step k.
 */
template <int ROWS, int TILES>
static __device__ __forceinline__ void up_step(float (&acc)[8 * TILES], uint64_t x, uint64_t w,
                                               int k, bool there)
{
    if (!there)
        return;
    x += k * (ROWS * TILE_BYTES_K >> 4);
    w += k * (8 * TILE_BYTES_K >> 4);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < 4; i++)
        wgmma<16 * TILES>::bf16(acc, x + 2 * i, w + 2 * i, k + i > 0);
    wgmma_commit();
}

/* All steps, of 64 rows from `far` on: of many rows each as soon as it has arrived, else with fewer
 * instructions. */
template <int TILES>
static __device__ __forceinline__ void up_multiply(float (&acc)[8 * TILES],
                                                   const struct up_rows<UP_ROWS> &r,
                                                   const struct up_block *u, uint32_t rows,
                                                   uint32_t weights, int hidden, int far)
{
    /* From 8 outputs to the next 8: hidden / 64 times 1,024 bytes. */
    uint64_t apart = (uint64_t)((hidden / UP_K - 1) * (1024 >> 4)) << 32;
    uint64_t x = wgmma_descriptor(rows + far * TILE_BYTES_K);
    uint64_t w = wgmma_descriptor(weights) + apart;
    bool there = far < u->n;
    uint32_t arrived = shared_address(&u->arrived);
    /* Weights are waited for even where there are no rows: shared memory is not given back under a
     * copy. */
#pragma unroll
    for (int k = 0; k < UP_STEPS_MAX; k++) {
        if (k >= hidden / UP_K)
            break;
        up_store(r, rows, k);
        if (TILES != UP_WHOLE) {
            shared_written();
            __syncthreads();
            if (k == 0)
                barrier_wait(arrived, 0);
            up_step<UP_ROWS, TILES>(acc, x, w, k, there);
        }
    }
    if (TILES == UP_WHOLE) {
        shared_written();
        __syncthreads();
        barrier_wait(arrived, 0);
#pragma unroll 1
        for (int k = 0; k < hidden / UP_K; k++)
            up_step<UP_ROWS, TILES>(acc, x, w, k, there);
    }
    wgmma_wait<0>();
}

static __device__ __forceinline__ float gated(float gate, float up)
{
    return __fdividef(gate, 1 + __expf(-gate)) * up;
}

/* What the tile's rows have made, from inner value 8 `first` on: to the tile's at `act`, or each
 * row to its slot. */
template <int TILES>
static __device__ __forceinline__ void up_put(char *act, const struct up_block *u,
                                              const float (&acc)[8 * TILES],
                                              const float (&factor)[2], const int (&slot)[2],
                                              const struct agon_stack_layer &l, int i0, int first)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int i = i0 + 8 * half;
        float by = factor[half];
        if (i >= u->n)
            continue;
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            int piece = first + t;
            uint32_t at = TILES == UP_WHOLE
                              ? slot[half] * act_bytes(l.inner) + piece * 16
                              : piece / 8 * UP_ROWS * TILE_BYTES_K + tile_offset(i, piece % 8);
            const float *gate = &acc[8 * t + 2 * half], *up = gate + 4;
            if (piece < l.inner / 8)
                *(uint32_t *)(act + at + threadIdx.x % 4 * 4) =
                    bf16_pack(gated(gate[0] * by, up[0] * by), gated(gate[1] * by, up[1] * by));
        }
    }
}

static __host__ __device__ inline int layer_slots(const struct agon_stack &p,
                                                  const struct agon_stack_layer &l)
{
    return l.router ? p.n_shared + p.top_k : l.n_groups;
}

/* What DOWN reads of the tile. */
static __device__ __forceinline__ void up_tell(struct stack_tile *tile, const struct up_block *u,
                                               const struct agon_stack &p,
                                               const struct agon_stack_layer &l,
                                               const struct stack_buffers &b, int group)
{
    int i = threadIdx.x, expert = l.router ? group - p.n_shared : -1;
    if (i == 0) {
        tile->group = group;
        tile->n = group < 0 ? 0 : u->n;
    }
    if (group < 0 || i >= u->n)
        return;
    int row = u->row[i];
    tile->slot[i] = row * layer_slots(p, l) + up_slot(__ldcg(b.row_groups + row), group);
    tile->weight[i] =
        expert >= 0 ? __ldcg(b.row_weights + (size_t)row * STACK_EXPERTS_MAX + expert) : 1;
}

template <int TILES>
static __global__ void __launch_bounds__(STACK_THREADS, 1)
    up_kernel(const __grid_constant__ struct agon_stack p,
              const __grid_constant__ struct stack_buffers b,
              const __grid_constant__ struct agon_stack_layer l)
{
    constexpr bool whole = TILES == UP_WHOLE;
    struct up_block *u = up_block();
    uint32_t rows = shared_address(u) + UP_BLOCK_BYTES;
    uint32_t weights = rows + up_rows_bytes(p);
    struct route r;
    int first = blockIdx.x * TILES, group = blockIdx.y;
    if (threadIdx.x == 0) {
        u->n = 0;
        barrier_init(shared_address(&u->arrived), 1);
        barriers_made();
    }
    if (whole) {
        if (threadIdx.x == 0)
            up_weights(u, weights, p, l, group, first, TILES);
        route_begin(&r, p, l, route_row());
    }
    __syncthreads();
    depends_wait();
    if (whole)
        up_list_whole(u, r, p, l, b, group);
    else
        group = up_list_tile(u, (uint32_t *)((char *)u + UP_BLOCK_BYTES), weights, p, l, b, first,
                             TILES);
    struct up_rows<UP_ROWS> pieces;
    if (group >= 0)
        up_load(pieces, u->row, u->n, b.x, p.hidden);
    if (!whole && blockIdx.x == 0)
        up_tell(b.tiles + blockIdx.y, u, p, l, b, group);
    if (group < 0)
        return;
    int mine = stack_warp() * 16 + stack_lane() / 4, far = stack_warp() / 4 * 64, slot[2];
    float acc[8 * TILES], factor[2];
    for (int half = 0; half < 2; half++) {
        int i = min(mine + 8 * half, max(u->n, 1) - 1), row = u->row[i];
        factor[half] = whole ? u->factor[i] : __ldcg(b.row_factors + row);
        slot[half] = whole ? row * layer_slots(p, l) + u->slot[i] : 0;
    }
    up_multiply<TILES>(acc, pieces, u, rows, weights, p.hidden, far);
    up_put<TILES>(whole ? b.act : b.act + (size_t)blockIdx.y * stack_tile_bytes(l.inner), u, acc,
                  factor, slot, l, mine, first);
}

static size_t up_bytes(const struct agon_stack *p, int tiles)
{
    return SWIZZLE_ALIGN + UP_BLOCK_BYTES + (size_t)up_rows_bytes(*p) +
           (size_t)tiles * 16 * (size_t)p->hidden * 2;
}
