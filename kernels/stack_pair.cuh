#pragma once
/*
 * The experts of many rows (stack.cu), gate, up and down in one launch. Two blocks, a cluster, take
 * a tile, up to 64 rows of one group of weights: each half of the inner values, which they then
 * exchange, and each half of the outputs. Which group a pair has is guessed before the rows are
 * routed, by how many tiles the layer's groups had the time before, so that its gate and up are on
 * their way by then; a pair without such a tile takes one that another group has more than pairs.
 * The sums are those of stack_experts.cuh and stack_down.cuh.
 */
#include "kernels/stack_down.cuh"

enum {
    PAIR_BLOCKS = 2,
    PAIR_TILES = 7,    /* of 8 inner values, at most: a warpgroup's */
    PAIR_COLUMNS = 96, /* of outputs, at most: a warpgroup's */
    PAIR_GROUPS = 2,   /* warpgroups of a block */
    PAIR_SHARES = PAIR_BLOCKS * PAIR_GROUPS,
    PAIR_PIECE = PAIR_ROWS * 16, /* bytes: 8 values of all rows */
    PAIRS = 66,                  /* that run beside each other */
};
static_assert(STACK_THREADS == PAIR_GROUPS * 128, "all warps multiply");

/* At the beginning of shared memory. Behind it: rows [step][PAIR_ROWS][128 bytes], swizzled, and
 * later their inner values [inner / 8][PAIR_ROWS][16 bytes]; weights [tile of 8 outputs][step][8]
 * [128 bytes], swizzled: gate and up, and later down. */
struct pair_block {
    uint64_t up, down[PAIR_GROUPS], act; /* barriers: what arrives */
    uint64_t read, sent;                 /* the other block's rows; to it */
    int row[PAIR_ROWS];
};
enum { PAIR_BLOCK_BYTES = 1024 };
static_assert(sizeof(struct pair_block) <= PAIR_BLOCK_BYTES, "tiles are aligned");

/* As many as there may be tiles, and some to guess wrongly with. */
static int pairs_of(const struct agon_stack *p, const struct agon_stack_layer *l)
{
    int n = p->rows.n_rows, most = p->n_shared * agon_ceil_div(n, PAIR_ROWS) +
                                   (n * p->top_k + p->n_experts * (PAIR_ROWS - 1)) / PAIR_ROWS;
    int more = most + l->n_groups < PAIRS ? most + l->n_groups : PAIRS;
    return most > more ? most : more;
}

static __host__ __device__ inline uint32_t pair_rows_bytes(int hidden, int inner)
{
    return PAIR_ROWS * (uint32_t)(hidden > inner ? hidden : inner) * 2;
}

/* A warpgroup's weights are read as if they were the most that there can be. */
static size_t pair_bytes(const struct agon_stack *p, int inner)
{
    size_t up = (size_t)PAIR_GROUPS * PAIR_TILES * (size_t)p->hidden * 32;
    size_t down =
        (size_t)(p->hidden / PAIR_SHARES + PAIR_COLUMNS) * (size_t)down_steps(inner) * TILE_BYTES_K;
    return SWIZZLE_ALIGN + PAIR_BLOCK_BYTES + pair_rows_bytes(p->hidden, inner) +
           (up > down ? up : down);
}

/* The layer's MLP is for pairs, where rows are more than a block's. */
static bool pair_does(const struct agon_stack *p, const struct agon_stack_layer *l)
{
    return l->router && l->inner % 32 == 0 && l->inner <= PAIR_SHARES * PAIR_TILES * 8 &&
           p->hidden <= PAIR_SHARES * PAIR_COLUMNS && pair_bytes(p, l->inner) <= STACK_SHARED_MAX;
}

/* ---- which tile a pair takes --------------------------------------------------------- */

/* A scan over 16 lanes: what those before this one have. */
static __device__ __forceinline__ int pair_before(int mine)
{
    int upto = mine;
#pragma unroll
    for (int apart = 1; apart < AGON_STACK_GROUPS_MAX; apart *= 2) {
        int other = __shfl_up_sync(~0u, upto, apart);
        upto += stack_lane() % AGON_STACK_GROUPS_MAX >= apart ? other : 0;
    }
    return upto - mine;
}

/* Lanes are groups, in both halves of a warp. */
struct pair_guess {
    int pairs;       /* of the lane's group */
    int group, tile; /* the pair's */
};

/* tiles: of each group, the time before; any values will do. */
static __device__ __forceinline__ struct pair_guess pair_guess(const int *tiles, int n_groups,
                                                               int n_pairs)
{
    struct pair_guess to;
    int lane = stack_lane() % AGON_STACK_GROUPS_MAX, pair = blockIdx.x / PAIR_BLOCKS;
    int wanted = lane < n_groups ? min(max(0, __ldcg(tiles + lane)), n_pairs) : 0;
    int before = pair_before(wanted);
    int spare = max(0, n_pairs - __shfl_sync(~0u, before + wanted, AGON_STACK_GROUPS_MAX - 1));
    before = min(before + min(lane, spare), n_pairs); /* one more each, the last has the rest */
    to.pairs = min(before + wanted + (lane < spare), n_pairs) - before;
    to.pairs = lane < n_groups - 1 ? to.pairs : lane < n_groups ? n_pairs - before : 0;
    to.group = __ffs(__ballot_sync(~0u, pair >= before && pair < before + to.pairs)) - 1;
    to.tile = pair - __shfl_sync(~0u, before, to.group);
    return to;
}

struct pair_tile {
    int group, tile; /* group below 0: none */
};

/* The tile of a pair whose own group has none for it: of those that are more than their groups'
 * pairs, as many as pairs without one come before it. */
static __device__ __forceinline__ struct pair_tile pair_other(const struct pair_guess &guess,
                                                              const uint32_t *members, int n_words)
{
    struct pair_tile to;
    int lane = stack_lane() % AGON_STACK_GROUPS_MAX, total = 0;
#pragma unroll 8
    for (int word = stack_lane() / AGON_STACK_GROUPS_MAX; word < n_words; word += 2)
        total += __popc(__ldcg(members + word * AGON_STACK_GROUPS_MAX + lane));
    total += __shfl_xor_sync(~0u, total, AGON_STACK_GROUPS_MAX);
    int tiles = (total + PAIR_ROWS - 1) / PAIR_ROWS, over = max(0, tiles - guess.pairs);
    int before = pair_before(max(0, guess.pairs - tiles)), over_before = pair_before(over);
    int number = __shfl_sync(~0u, before - tiles, guess.group) + guess.tile;
    to.group = __ffs(__ballot_sync(~0u, number >= over_before && number < over_before + over)) - 1;
    to.tile = number + __shfl_sync(~0u, guess.pairs - over_before, max(0, to.group));
    return to;
}

/* ---- one tile ------------------------------------------------------------------------ */

/* The group's gate and up of the block's inner values: a thread. */
static __device__ __forceinline__ void pair_load_up(uint32_t barrier, uint32_t to,
                                                    const struct agon_stack &p,
                                                    const struct agon_stack_layer &l, int group,
                                                    int rank)
{
    uint32_t n = l.inner / 8 / PAIR_BLOCKS * p.hidden * 32;
    barrier_expect(barrier, n);
    copy_bytes(to, (const char *)l.gate_up + (size_t)(group * PAIR_BLOCKS + rank) * n, n, barrier);
}

/* Its down of a warpgroup's outputs, part `part` of all: a thread. */
static __device__ __forceinline__ void pair_load_down(uint32_t barrier, uint32_t to,
                                                      const struct agon_stack &p,
                                                      const struct agon_stack_layer &l, int group,
                                                      int part)
{
    uint32_t n = p.hidden / PAIR_SHARES * down_steps(l.inner) * TILE_BYTES_K;
    barrier_expect(barrier, n);
    copy_bytes(to, (const char *)l.down_tiles + (size_t)(group * PAIR_SHARES + part) * n, n,
               barrier);
}

/* The rows of a group's tile, in order. Returns how many there are, 0 or less: none. A thread has
 * four rows of 1,024, an eighth of a word. */
static __device__ __forceinline__ int pair_list(int *row, const uint32_t *members, int n_words,
                                                const struct pair_tile &tile)
{
    int lane = stack_lane(), before = -tile.tile * PAIR_ROWS, own = stack_warp() * 4 + lane / 8;
#pragma unroll 1
    for (int base = 0; base < n_words; base += 32) {
        uint32_t mine = base + lane < n_words
                            ? __ldcg(members + (base + lane) * AGON_STACK_GROUPS_MAX + tile.group)
                            : 0;
        int upto = __popc(mine);
#pragma unroll
        for (int apart = 1; apart < 32; apart *= 2) {
            int other = __shfl_up_sync(~0u, upto, apart);
            upto += lane >= apart ? other : 0;
        }
        uint32_t rows = __shfl_sync(~0u, mine, own);
        int first = lane % 8 * 4,
            place = before + __shfl_sync(~0u, upto, own) - __popc(rows >> first);
#pragma unroll
        for (int i = first; i < first + 4; i++)
            if (rows >> i & 1) {
                if (place >= 0 && place < PAIR_ROWS)
                    row[place] = (base + own) * 32 + i;
                place++;
            }
        before += __shfl_sync(~0u, upto, 31);
    }
    __syncthreads();
    return min(before, (int)PAIR_ROWS);
}
static_assert(STACK_WARPS * 4 == 32, "a warp has four words of 32");

/* What a thread knows of its two rows of a tile, 8 apart. */
struct pair_own {
    int first; /* which of the tile's */
    float factor[2], weight[2];
    int slot[2];
};

static __device__ __forceinline__ void pair_own(struct pair_own *to, const int *row, int n,
                                                const struct agon_stack &p,
                                                const struct agon_stack_layer &l,
                                                const struct stack_buffers &b, int group)
{
    int expert = group - p.n_shared;
    to->first = stack_warp() % 4 * 16 + stack_lane() / 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int r = row[min(to->first + 8 * half, n - 1)];
        to->factor[half] = __ldcg(b.row_factors + r);
        to->slot[half] = r * layer_slots(p, l) + up_slot(__ldcg(b.row_groups + r), group);
        to->weight[half] =
            expert >= 0 ? __ldcg(b.row_weights + (size_t)r * STACK_EXPERTS_MAX + expert) : 1;
    }
}

/* acc = the tile's rows by the warpgroup's gate and up. */
static __device__ __forceinline__ void pair_up(float (&acc)[8 * PAIR_TILES],
                                               const struct up_rows<PAIR_ROWS> &r, uint32_t rows,
                                               uint32_t weights, int hidden, uint32_t arrived,
                                               int parity)
{
    uint64_t apart = (uint64_t)((hidden / UP_K - 1) * (1024 >> 4)) << 32;
    uint64_t x = wgmma_descriptor(rows), w = wgmma_descriptor(weights) + apart;
#pragma unroll
    for (int k = 0; k < UP_STEPS_MAX; k++) {
        if (k >= hidden / UP_K)
            break;
        up_store(r, rows, k);
        shared_written();
        __syncthreads();
        if (k == 0)
            barrier_wait(arrived, parity);
        up_step<PAIR_ROWS, PAIR_TILES>(acc, x, w, k, true);
    }
    wgmma_wait<0>();
}

/* Two inner values of each of the thread's rows, of each of the warpgroup's tiles. */
struct pair_act {
    uint32_t v[PAIR_TILES][2];
};

static __device__ __forceinline__ void pair_gate(struct pair_act *to,
                                                 const float (&acc)[8 * PAIR_TILES],
                                                 const float (&factor)[2])
{
#pragma unroll
    for (int t = 0; t < PAIR_TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const float *gate = &acc[8 * t + 2 * half], *up = gate + 4;
            float by = factor[half];
            to->v[t][half] =
                bf16_pack(gated(gate[0] * by, up[0] * by), gated(gate[1] * by, up[1] * by));
        }
}

/* The warpgroup's n tiles of inner values to `to`. */
static __device__ __forceinline__ void pair_put_act(uint32_t to, const struct pair_act &act, int n,
                                                    int first)
{
    to += first * 16 + threadIdx.x % 4 * 4;
#pragma unroll
    for (int t = 0; t < PAIR_TILES; t++)
#pragma unroll
        for (int half = 0; half < 2; half++)
            if (t < n)
                shared_store_4(to + t * PAIR_PIECE + half * 8 * 16, act.v[t][half]);
}

/* acc += N steps of 16 inner values by the warpgroup's part of down. */
template <int N>
static __device__ __forceinline__ void pair_down_steps(float (&acc)[PAIR_COLUMNS / 2], uint64_t x,
                                                       uint64_t w)
{
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < N; i++)
        wgmma<PAIR_COLUMNS>::bf16(acc, x + i * (2 * PAIR_PIECE >> 4), w + 2 * i, 1);
    wgmma_commit();
    wgmma_wait<0>();
}

/* acc = all of them; waited for at each turn, for the compiler lets none run across one. */
static __device__ __forceinline__ void pair_down(float (&acc)[PAIR_COLUMNS / 2], uint32_t act,
                                                 uint32_t weights, int inner)
{
    uint64_t apart = (uint64_t)((down_steps(inner) - 1) * (1024 >> 4)) << 32;
    uint64_t x = wgmma_descriptor_plain(act, PAIR_PIECE, 128);
    uint64_t w = wgmma_descriptor(weights) + apart;
#pragma unroll
    for (int i = 0; i < PAIR_COLUMNS / 2; i++)
        acc[i] = 0;
#pragma unroll 1
    for (int k = 0; k < inner / 64; k++) {
        pair_down_steps<4>(acc, x, w);
        x += 8 * PAIR_PIECE >> 4;
        w += 8 * TILE_BYTES_K >> 4;
    }
    if (inner % 64)
        pair_down_steps<2>(acc, x, w);
}

/* To the slots of the tile's n rows, from a column on, n_columns of them. */
static __device__ __forceinline__ void pair_put(float *outputs, const struct pair_own &own, int n,
                                                int hidden, int column, int n_columns,
                                                const float (&acc)[PAIR_COLUMNS / 2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float *to = outputs + (size_t)own.slot[half] * hidden + column + 2 * (threadIdx.x % 4);
        float by = own.weight[half];
        if (own.first + 8 * half >= n)
            continue;
#pragma unroll
        for (int t = 0; t < PAIR_COLUMNS / 8; t++)
            if (8 * t < n_columns)
                *(float2 *)(to + t * 8) =
                    make_float2(by * acc[4 * t + 2 * half], by * acc[4 * t + 2 * half + 1]);
    }
}

static __device__ __forceinline__ void pair_begin(struct pair_block *u)
{
    barrier_init(shared_address(&u->up), 1);
    barrier_init(shared_address(&u->act), 1);
    barrier_init(shared_address(&u->read), 1);
    barrier_init(shared_address(&u->sent), 1);
    for (int i = 0; i < PAIR_GROUPS; i++)
        barrier_init(shared_address(&u->down[i]), 1);
    barriers_made();
}

/* The blocks tell each other when rows have been read, so that inner values may take their place,
 * and when what was sent is there. */
static __global__ void __cluster_dims__(PAIR_BLOCKS, 1, 1) __launch_bounds__(STACK_THREADS, 1)
    pair_kernel(const __grid_constant__ struct agon_stack p,
                const __grid_constant__ struct stack_buffers b,
                const __grid_constant__ struct agon_stack_layer l, int layer)
{
    struct pair_block *u = (struct pair_block *)up_block();
    uint32_t rows = shared_address(u) + PAIR_BLOCK_BYTES;
    uint32_t weights = rows + pair_rows_bytes(p.hidden, l.inner);
    struct pair_guess guess = pair_guess(b.pair_tiles + layer * AGON_STACK_GROUPS_MAX, l.n_groups,
                                         gridDim.x / PAIR_BLOCKS);
    int rank = blockIdx.x % PAIR_BLOCKS, other = PAIR_BLOCKS - 1 - rank, part = stack_warp() / 4;
    int each = l.inner / 8 / PAIR_SHARES, n_columns = p.hidden / PAIR_SHARES;
    int n_words = (p.rows.n_rows + 31) / 32, parity = 0;
    uint32_t up = shared_address(&u->up), act = shared_address(&u->act);
    uint32_t read = shared_address(&u->read), sent = shared_address(&u->sent);
    uint32_t down = shared_address(&u->down[part]), n_act = PAIR_GROUPS * each * PAIR_PIECE;
    uint32_t mine = rows + rank * n_act;
    uint32_t half = weights + part * n_columns * down_steps(l.inner) * TILE_BYTES_K;
    if (threadIdx.x == 0) {
        pair_begin(u);
        pair_load_up(up, weights, p, l, guess.group, rank);
    }
    cluster_arrive();
    cluster_wait(); /* the barriers are there */
    depends_wait();
    struct pair_tile tile = {guess.group, guess.tile};
    int n = pair_list(u->row, b.row_members, n_words, tile);
    if (n <= 0) {
        barrier_wait(up, 0); /* in any case: shared memory is not given back under a copy */
        tile = pair_other(guess, b.row_members, n_words);
        if (tile.group < 0)
            return;
        n = pair_list(u->row, b.row_members, n_words, tile);
        parity = 1;
        if (threadIdx.x == 0)
            pair_load_up(up, weights, p, l, tile.group, rank);
    }
    struct up_rows<PAIR_ROWS> pieces;
    struct pair_own own;
    struct pair_act values;
    float acc[8 * PAIR_TILES], out[PAIR_COLUMNS / 2];
    up_load(pieces, u->row, n, b.x, p.hidden);
    pair_own(&own, u->row, n, p, l, b, tile.group);
    pair_up(acc, pieces, rows, weights + part * each * p.hidden * 32, p.hidden, up, parity);
    __syncthreads(); /* gate and up give way to down, rows to inner values */
    if (threadIdx.x == 0)
        pair_load_down(down, half, p, l, tile.group, rank * PAIR_GROUPS);
    if (threadIdx.x == 32)
        cluster_barrier_arrive(cluster_address(read, other));
    if (threadIdx.x == 64)
        barrier_expect(act, n_act);
    pair_gate(&values, acc, own.factor);
    pair_put_act(mine + part * each * PAIR_PIECE, values, each, own.first);
    shared_written();
    __syncthreads();
    /* Copies go one after the other: the second half of down would be in the way before. */
    if (threadIdx.x == 128) {
        barrier_wait(read, 0);
        copy_to_block(cluster_address(mine, other), mine, n_act, cluster_address(act, other));
        pair_load_down(down, half, p, l, tile.group, rank * PAIR_GROUPS + part);
    }
    barrier_wait(act, 0);
    if (threadIdx.x == 0)
        cluster_barrier_arrive(cluster_address(sent, other));
    barrier_wait(down, 0);
    pair_down(out, rows, half, l.inner);
    pair_put(b.outputs, own, n, p.hidden, (rank * PAIR_GROUPS + part) * n_columns, n_columns, out);
    barrier_wait(sent, 0); /* nor is it under what the other block reads */
}
