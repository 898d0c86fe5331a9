#pragma once
/*
 * What the stages of stack.cu share: places, rows and their norms, products.
 *
 * A norm is not a stage: the stage before it writes rows times the norm's weights, and what each of
 * its blocks sums up of their squares; the product behind it multiplies by the row's factor at its
 * end. The router's logits come in the same way, in F32.
 */
#include "kernels/cuda_ops.h"
#include "kernels/cuda_stack.h"
#include "kernels/launch.cuh"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

enum {
    STACK_WARPS = 8, /* of a block that multiplies */
    STACK_THREADS = STACK_WARPS * 32,
    STACK_ROWS_MAX = 64, /* of a block that multiplies */
    STACK_OWN_MAX = 8,   /* of a block that attends */
    STACK_HIDDEN_MAX = 384,
    STACK_Q_MAX = 256,
    STACK_INNER_MAX = 256,
    STACK_EXPERTS_MAX = 8,
    STACK_TOPK_MAX = 4,
    STACK_PAGES_MAX = AGON_STACK_WINDOW_MAX / AGON_CUDA_PAGE,
    /* Columns of the residual stream, and of what is made of it first, are cut in so many parts,
     * for any number of rows. */
    STACK_PARTS = 16,
    STACK_PART_TILES = 3,
    STACK_SHARED_MAX = 227 << 10,
    PARTIAL_LD = STACK_PART_TILES * 8 + 4, /* floats: rows lie in different banks */
    STACK_PLAN_ROW = 64 + 8 * STACK_PAGES_MAX,
};

static __device__ __forceinline__ int stack_warp(void)
{
    return threadIdx.x / 32;
}
static __device__ __forceinline__ int stack_lane(void)
{
    return threadIdx.x % 32;
}

/* Where a block is: its share of the outputs, its rows. half: which half warp of those that have
 * part `rank`. */
struct stack_place {
    int rank, size, row0, n_rows, half;
};

static __device__ __forceinline__ struct stack_place stack_place(const struct agon_stack &p,
                                                                 int n_each)
{
    struct stack_place at;
    at.rank = blockIdx.y;
    at.size = gridDim.y;
    at.row0 = blockIdx.x * n_each;
    at.n_rows = min(n_each, p.rows.n_rows - at.row0);
    at.half = threadIdx.x / 16;
    return at;
}

/* Buffers between the stages, each [n_rows][..]. */
struct stack_buffers {
    float *input; /* [ld_input]; its q latents are in q */
    float *index_query;
    /* What each part of the columns adds to a row's sums, [STACK_PARTS][ld_rows]: to its squares in
     * the residual stream and of q latents, to the router's logits, [STACK_EXPERTS_MAX]. */
    float *squares, *q_squares, *logits;
    /* x and q: times the weights of the norm that follows, not yet by the row's factor. F16: q and
     * attended, which meet weights that are products themselves. */
    uint16_t *x, *q, *query, *attended;
    char *act; /* [slots][act_bytes()], or tiles */
    struct stack_tile *tiles;
    float *outputs; /* [slots][hidden], of tiles */
    /* Of each row's MLP (stack_route.cuh): its groups of weights, a bit each; what each expert
     * counts, [STACK_EXPERTS_MAX]; its factor. */
    uint32_t *row_groups;
    uint32_t *row_members; /* of 32 rows each, [AGON_STACK_GROUPS_MAX]: a bit a row */
    float *row_weights, *row_factors;
    /* Tiles of each layer's groups, [AGON_STACK_GROUPS_MAX], the last time that rows were many:
     * what stack_pair.cuh guesses by, which may be anything. */
    int *pair_tiles;
    char *plans; /* of attention's blocks, STACK_PLAN_ROW bytes a row (stack_select.cuh) */
    int ld_input, ld_rows;
};

static __host__ __device__ inline size_t bytes_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

/* From one slot's inner values to the next: in shared memory they lie in different banks, and one
 * copy takes them there. */
static __host__ __device__ inline int act_bytes(int inner)
{
    return inner * (int)sizeof(uint16_t) + 16;
}

/* The MLP of many rows: a tile is some rows of a group of weights; its inner values are [step of
 * 64][STACK_TILE_ROWS][128 bytes], swizzled (wgmma.cuh). */
enum { STACK_TILE_ROWS = 128 };
struct stack_tile {
    int group, n;              /* rows; 0: there is no such tile */
    int slot[STACK_TILE_ROWS]; /* place of a row's outputs */
    float weight[STACK_TILE_ROWS];
};

static __host__ __device__ inline int stack_tile_bytes(int inner)
{
    return (inner + 63) / 64 * STACK_TILE_ROWS * 128;
}

/* At most so many. */
static __host__ __device__ inline int stack_tiles(const struct agon_stack &p, int n_rows)
{
    return n_rows * p.pairs_max / STACK_TILE_ROWS + AGON_STACK_GROUPS_MAX;
}

static inline size_t stack_buffers(struct stack_buffers *b, const struct agon_stack &p)
{
    char *at = (char *)p.scratch;
    size_t rows = ((size_t)p.n_rows_max + STACK_ROWS_MAX - 1) / STACK_ROWS_MAX * STACK_ROWS_MAX;
    b->ld_input = p.q_lora + AGON_STACK_ENTRY + AGON_STACK_INDEX_DIM + p.index_heads;
    b->ld_rows = (int)rows;
    b->squares = (float *)at;
    at += bytes_up(rows * STACK_PARTS * sizeof(float));
    b->q_squares = (float *)at;
    at += bytes_up(rows * STACK_PARTS * sizeof(float));
    b->logits = (float *)at;
    at += bytes_up(rows * STACK_PARTS * STACK_EXPERTS_MAX * sizeof(float));
    b->row_groups = (uint32_t *)at;
    at += bytes_up(rows * sizeof(uint32_t));
    b->row_members = (uint32_t *)at;
    at += bytes_up(rows / 32 * AGON_STACK_GROUPS_MAX * sizeof(uint32_t));
    b->row_weights = (float *)at;
    at += bytes_up(rows * STACK_EXPERTS_MAX * sizeof(float));
    b->row_factors = (float *)at;
    at += bytes_up(rows * sizeof(float));
    b->pair_tiles = (int *)at;
    at += bytes_up((size_t)p.n_layers * AGON_STACK_GROUPS_MAX * sizeof(int));
    b->input = (float *)at;
    at += bytes_up(rows * b->ld_input * sizeof(float));
    b->index_query = (float *)at;
    at += bytes_up(rows * p.index_heads * AGON_STACK_INDEX_DIM * sizeof(float));
    b->x = (uint16_t *)at;
    at += bytes_up(rows * p.hidden * sizeof(uint16_t));
    b->q = (uint16_t *)at;
    at += bytes_up(rows * p.q_lora * sizeof(uint16_t));
    b->query = (uint16_t *)at;
    at += bytes_up(rows * p.n_heads * AGON_STACK_ENTRY * sizeof(uint16_t));
    b->attended = (uint16_t *)at;
    at += bytes_up(rows * p.n_heads * AGON_STACK_KV * sizeof(uint16_t));
    b->act = at;
    size_t few = STACK_TILE_ROWS * p.pairs_max * act_bytes(p.inner_max);
    size_t tiles = stack_tiles(p, (int)rows), many = tiles * stack_tile_bytes(p.inner_max);
    at += bytes_up(few > many ? few : many);
    b->tiles = (struct stack_tile *)at;
    at += bytes_up(tiles * sizeof(*b->tiles));
    b->plans = at;
    at += bytes_up(rows * STACK_PLAN_ROW);
    b->outputs = (float *)at;
    at += bytes_up(rows * p.pairs_max * p.hidden * sizeof(float));
    return (size_t)(at - (char *)p.scratch);
}

static __device__ __forceinline__ bool row_is(const struct agon_stack &p, int row)
{
    return row < p.rows.n_rows && p.rows.row_sequence[row] >= 0;
}

/* ---- half a warp has a row of a part: two columns a lane ----------------------------- */

static __device__ __forceinline__ int half_warp(void)
{
    return threadIdx.x / 16;
}
static __device__ __forceinline__ int half_lane(void)
{
    return threadIdx.x % 16;
}

static __device__ __forceinline__ float half_sum(float x)
{
#pragma unroll
    for (int apart = 1; apart < 16; apart *= 2)
        x += __shfl_xor_sync(~0u, x, apart);
    return x;
}

/* ---- rows --------------------------------------------------------------------------- */

/* n values of rows first .. of from (or of those that `rows` names) to shared memory, `stride`
 * bytes apart there; waited for by the caller. */
static __device__ __forceinline__ void rows_copy(char *to, int stride, const uint16_t *from,
                                                 const int32_t *rows, int first, int n_rows, int n)
{
    uint32_t at = mma_address(to);
    int lane = stack_lane(), n_warps = blockDim.x / 32;
#pragma unroll 1
    for (int r = stack_warp(); r < n_rows; r += n_warps) {
        const uint16_t *row = from + (size_t)(rows ? rows[first + r] : first + r) * n;
#pragma unroll 1
        for (int chunk = lane; chunk < n / 8; chunk += 32)
            mma_copy16(at + r * stride + chunk * 16, row + chunk * 8, true);
    }
    mma_copies_end();
}

/* What RMSNorm multiplies a row by, of the n values whose squares the parts have: a thread a row.
 */
static __device__ __forceinline__ void factors_make(float *factor, const struct stack_place &at,
                                                    const float *parts, int ld_rows,
                                                    const int32_t *rows, int n, float eps)
{
    int r = threadIdx.x;
    if (r >= at.n_rows)
        return;
    float part[STACK_PARTS], squares = 0;
    parts += rows ? rows[at.row0 + r] : at.row0 + r;
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++)
        part[i] = __ldcg(parts + (size_t)i * ld_rows);
#pragma unroll
    for (int i = 0; i < STACK_PARTS; i++)
        squares += part[i];
    factor[r] = rsqrtf(squares / n + eps);
}

/* ---- products ----------------------------------------------------------------------- */

/* NB tiles of weights, S steps of 32: this lane's. */
template <int NB, int S> struct held {
    uint4 w[NB][S];
};

/* Steps [begin, end) of n_tiles tiles, ld apart. What there is not stays undefined: no step is
 * multiplied that is not loaded, and nobody reads outputs that are not. Few instructions, for they
 * take longer to fetch than to run. */
template <int NB, int S>
static __device__ __forceinline__ void held_load(struct held<NB, S> &h, const uint4 *w, size_t ld,
                                                 int n_tiles, int begin, int end)
{
    const uint4 *from[NB];
    if (n_tiles <= 0)
        return;
#pragma unroll
    for (int b = 0; b < NB; b++)
        from[b] = w + min(b, n_tiles - 1) * ld + begin * 32;
#pragma unroll
    for (int i = 0; i < S; i++)
        if (begin + i < end)
#pragma unroll
            for (int b = 0; b < NB; b++)
                h.w[b][i] = weights_load(from[b] + i * 32);
}

/* acc[b][m] += 16 rows by the 8 outputs of tile b, over the i-th of steps [begin, end) that are
 * held, if it is one. a[m]: this lane's address for ldmatrix; n_m: how many of them there are.
 * HALF: F16, else BF16. */
template <bool HALF, int MT, int NB, int S>
static __device__ __forceinline__ void held_multiply_step(float (&acc)[NB][MT][4],
                                                          const struct held<NB, S> &h,
                                                          const uint32_t (&a)[MT], int i, int begin,
                                                          int end, int n_m = MT)
{
    if (begin + i >= end)
        return;
#pragma unroll
    for (int m = 0; m < MT; m++) {
        if (m >= n_m)
            break;
        uint32_t x[4], y[4];
        mma_load(x, a[m] + (begin + i) * 64);
        mma_load(y, a[m] + (begin + i) * 64 + 32);
#pragma unroll
        for (int b = 0; b < NB; b++)
            HALF ? mma_half(acc[b][m], x, h.w[b][i].x, h.w[b][i].y)
                 : mma(acc[b][m], x, h.w[b][i].x, h.w[b][i].y);
#pragma unroll
        for (int b = 0; b < NB; b++)
            HALF ? mma_half(acc[b][m], y, h.w[b][i].z, h.w[b][i].w)
                 : mma(acc[b][m], y, h.w[b][i].z, h.w[b][i].w);
    }
}

/* All steps that are held. */
template <bool HALF = false, int MT, int NB, int S>
static __device__ __forceinline__ void held_multiply(float (&acc)[NB][MT][4],
                                                     const struct held<NB, S> &h,
                                                     const uint32_t (&a)[MT], int n_m, int begin,
                                                     int end)
{
#pragma unroll
    for (int i = 0; i < S; i++)
        held_multiply_step<HALF>(acc, h, a, i, begin, end, n_m);
}

/*
 * acc += rows by both tiles of `unit`, all steps, CHUNK of them at a time: `next` has its first,
 * and then the first of `after`. w: this lane's, of unit 0; ld: from one tile to the next; units
 * from n_units on are none.
 */
template <int MT, int CHUNK>
static __device__ __forceinline__ void held_stream(float (&acc)[2][MT][4],
                                                   struct held<2, CHUNK> &next, const uint4 *w,
                                                   size_t ld, int n_steps, const uint32_t (&a)[MT],
                                                   int n_m, int unit, int after, int n_units)
{
    for (int k = 0; k < n_steps; k += CHUNK) {
        struct held<2, CHUNK> now = next;
        bool more = k + CHUNK < n_steps;
        int other = more ? unit : after;
        held_load(next, w + 2 * ld * other, ld, other < n_units ? 2 : 0, more ? k + CHUNK : 0,
                  n_steps);
        held_multiply(acc, now, a, n_m, k, n_steps);
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

/* Part `rank` of a product's outputs, whose k STACK_WARPS warps share out, of which this is one. */
struct part_product {
    const uint4 *w;
    int n_steps, begin, end, first, n_tiles; /* first: column */
};
enum { PART_STEPS_MAX = 3 };

static __device__ __forceinline__ struct part_product part_product_of(const void *w, int n, int k,
                                                                      int rank)
{
    struct part_product t;
    int n_tiles = (n + 7) / 8, most = (n_tiles + STACK_PARTS - 1) / STACK_PARTS;
    int warp = stack_warp() % STACK_WARPS;
    t.n_steps = k / 32;
    t.begin = t.n_steps * warp / STACK_WARPS;
    t.end = t.n_steps * (warp + 1) / STACK_WARPS;
    t.n_tiles = max(0, min(most, n_tiles - rank * most));
    t.first = rank * most * 8;
    t.w = (const uint4 *)w + (size_t)rank * most * t.n_steps * 32 + stack_lane();
    return t;
}

/* What each warp has found of a product, for all to add up: partial [warps][16 MT][PARTIAL_LD]. */
template <int MT>
static __device__ __forceinline__ void part_put(float *partial,
                                                const float (&acc)[STACK_PART_TILES][MT][4])
{
    int lane = stack_lane();
    partial += (stack_warp() * MT * 16 + lane / 4) * PARTIAL_LD + 2 * (lane % 4);
#pragma unroll
    for (int b = 0; b < STACK_PART_TILES; b++)
#pragma unroll
        for (int m = 0; m < MT; m++) {
            float *to = partial + m * 16 * PARTIAL_LD + b * 8;
            *(float2 *)to = make_float2(acc[b][m][0], acc[b][m][1]);
            *(float2 *)(to + 8 * PARTIAL_LD) = make_float2(acc[b][m][2], acc[b][m][3]);
        }
}

/* Two columns of row r, from the warps of a part: `partial` is the first one's. */
static __device__ __forceinline__ float2 part_sum(const float *partial, int n_rows, int r, int pair)
{
    float2 sum = make_float2(0, 0);
    partial += r * PARTIAL_LD + 2 * pair;
#pragma unroll
    for (int w = 0; w < STACK_WARPS; w++) {
        float2 v = *(const float2 *)(partial + w * n_rows * PARTIAL_LD);
        sum = make_float2(sum.x + v.x, sum.y + v.y);
    }
    return sum;
}

/* ---- publishing ---------------------------------------------------------------------- */

/* Eight sums: lane l gets that of value l % 8. */
static __device__ __forceinline__ float half_sums_of_8(const float (&v)[8])
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
    return sum + __shfl_xor_sync(~0u, sum, 8);
}

/* What a lane needs to publish its columns of the residual stream, for the norm that follows and
 * its router (NULL: none). */
struct publisher {
    const float *router;
    float2 norm, route[STACK_EXPERTS_MAX];
    int column;
    bool mine;
};

static __device__ __forceinline__ void publisher_init(struct publisher *f,
                                                      const struct agon_stack &p, const float *norm,
                                                      const float *router, int part)
{
    int n = p.hidden / STACK_PARTS;
    f->router = router;
    f->column = part * n + 2 * half_lane();
    f->mine = 2 * half_lane() < n;
    f->norm = f->mine ? *(const float2 *)(norm + f->column) : make_float2(0, 0);
    if (router)
#pragma unroll
        for (int e = 0; e < STACK_EXPERTS_MAX; e++)
            f->route[e] = f->mine && e < p.n_experts
                              ? *(const float2 *)(router + (size_t)e * p.hidden + f->column)
                              : make_float2(0, 0);
}

/* A part of a row; v: this lane's columns, 0 where it has none. there: there is such a row. */
static __device__ __forceinline__ void publish(const struct publisher &f,
                                               const struct agon_stack &p,
                                               const struct stack_buffers &b, int row, int part,
                                               float2 v, bool there)
{
    size_t to = (size_t)part * b.ld_rows + row;
    float squares = half_sum(v.x * v.x + v.y * v.y), logits[STACK_EXPERTS_MAX];
    v = make_float2(v.x * f.norm.x, v.y * f.norm.y);
    if (f.mine && there)
        *(uint32_t *)(b.x + (size_t)row * p.hidden + f.column) = bf16_pack(v.x, v.y);
    if (half_lane() == 0 && there)
        b.squares[to] = squares;
    if (!f.router)
        return;
#pragma unroll
    for (int e = 0; e < STACK_EXPERTS_MAX; e++)
        logits[e] = fmaf(v.y, f.route[e].y, v.x * f.route[e].x);
    float logit = half_sums_of_8(logits);
    if (half_lane() < STACK_EXPERTS_MAX && there)
        b.logits[to * STACK_EXPERTS_MAX + half_lane()] = logit;
}

/* A part of the residual stream, read long before it is needed: the launch before last, or one
 * before that, has written it (launch.cuh). */
template <int MT> struct residual {
    struct publisher f;
    float2 x[MT];
};

template <int MT>
static __device__ __forceinline__ void residual_begin(struct residual<MT> &r,
                                                      const struct agon_stack &p,
                                                      const struct stack_place &at,
                                                      const float *norm, const float *router)
{
    publisher_init(&r.f, p, norm, router, at.rank);
#pragma unroll
    for (int i = 0; i < MT; i++) {
        int row = at.half + 16 * i;
        bool there = r.f.mine && row < at.n_rows;
        r.x[i] = make_float2(0, 0);
        if (there)
            r.x[i] =
                __ldcg((const float2 *)(p.x + (size_t)(at.row0 + row) * p.hidden + r.f.column));
    }
}

/* x += sum(row), published. The loop's instructions take longer to fetch than to run. */
template <int MT, class F>
static __device__ __forceinline__ void residual_put(const struct residual<MT> &r,
                                                    const struct agon_stack &p,
                                                    const struct stack_place &at,
                                                    const struct stack_buffers &b, F sum)
{
#pragma unroll 1
    for (int i = 0; i < MT; i++) {
        int row = at.half + 16 * i;
        bool there = row < at.n_rows;
        float2 v = r.x[0];
#pragma unroll
        for (int j = 1; j < MT; j++)
            v = i == j ? r.x[j] : v;
        if (there && r.f.mine) {
            float2 more = sum(row, half_lane());
            v = make_float2(v.x + more.x, v.y + more.y);
            *(float2 *)(p.x + (size_t)(at.row0 + row) * p.hidden + r.f.column) = v;
        }
        publish(r.f, p, b, at.row0 + row, at.rank, v, there);
    }
}
