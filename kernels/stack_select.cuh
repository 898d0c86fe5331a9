#pragma once
/*
 * Selection of a block's rows (stack.cu).
 *
 * Scores: rows' index heads are cut in tiles of 8; a warp takes 16 keys of a page for all tiles
 * that see it (all, where all rows hold the same page). Scores become integers that order as they
 * do. Then keys are counted by their highest bits that are not all the same, 256 ways at a time,
 * until the k-th is alone with those that equal it, and among equals the lowest positions are
 * taken.
 */
#include "kernels/stack.cuh"

enum {
    ATTEND_WARPS = 16,
    ATTEND_THREADS = ATTEND_WARPS * 32,
    ATTEND_LISTS = 4, /* of pages */
    INDEX_DIM = AGON_STACK_INDEX_DIM,
    INDEX_HEADS_MAX = 8,
    INDEX_ROWS_MAX = STACK_OWN_MAX * INDEX_HEADS_MAX, /* rows and heads, one behind the other */
    Q_STRIDE = INDEX_DIM * 2 + 16,
    DIGIT = 8, /* bits */
    DIGITS = 1 << DIGIT,
};

/* A block's rows. */
struct own_place {
    int own0, n_own;
};

/* A page to be read: its number, which positions it holds, and whose it is (-1: all rows'). */
struct page_item {
    int page;
    short index, row;
};

/* What the block's rows see. */
struct own_pages {
    int n[STACK_OWN_MAX];                     /* positions that each sees; 0: no row */
    int n_words;                              /* of a mask */
    int page[STACK_OWN_MAX][STACK_PAGES_MAX]; /* -1: it has ended before */
    int begin[ATTEND_LISTS + 1];
    struct page_item items[STACK_OWN_MAX * STACK_PAGES_MAX]; /* list by list */
};

/* A row whose k-th key is looked for. */
struct choice {
    uint32_t low, high; /* of all keys */
    uint32_t found;     /* the k-th key's bits from `left` on; it, or one as good, once done */
    int left;           /* bits that are not known; 0: done */
    int k;              /* how many are wanted of those that are as found; -1: all */
    int n;              /* keys; 0: nothing to choose */
};

/* What the stage keeps beside what own_pages has. */
struct own_rows {
    __align__(16) uint64_t mask[STACK_OWN_MAX][STACK_PAGES_MAX];
    struct choice choice[STACK_OWN_MAX];
    __align__(16) float weights[INDEX_ROWS_MAX];
    union {
        /* Index queries: BF16, and what that leaves over. */
        __align__(16) char q[2][INDEX_ROWS_MAX * Q_STRIDE];
        __align__(16) int counts[STACK_OWN_MAX][DIGITS]; /* once scores are made */
    };
};

/* ---- pages -------------------------------------------------------------------------- */

/*
 * Page i of a row is in list i % ATTEND_LISTS; lists stand one behind the other, and rows that have
 * ended their pages take no part. Nothing of the launch before is read; a barrier at the end.
 */
static __device__ __forceinline__ void pages_init(struct own_pages *pages,
                                                  const struct agon_stack &p,
                                                  const struct own_place &at)
{
    static_assert((int)STACK_OWN_MAX * (int)STACK_PAGES_MAX == (int)ATTEND_THREADS,
                  "a thread a row's page");
    static_assert((int)STACK_PAGES_MAX <= 32 * (int)ATTEND_LISTS, "a warp a list, a lane a page");
    int list = stack_warp(), row = (int)threadIdx.x / STACK_PAGES_MAX;
    int index = (int)threadIdx.x % STACK_PAGES_MAX, n_seen = 0;
    if (row < at.n_own) {
        int sequence = p.rows.row_sequence[at.own0 + row];
        n_seen = sequence >= 0 ? p.rows.row_position[at.own0 + row] + 1 : 0;
        pages->page[row][index] = index * AGON_CUDA_PAGE < n_seen
                                      ? p.rows.pages[(size_t)sequence * p.rows.ld_pages + index]
                                      : -1;
    }
    if (index == 0)
        pages->n[row] = n_seen;
    if (threadIdx.x == 0)
        pages->n_words = (p.rows.n_max + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE;
    __syncthreads();
    index = list + stack_lane() * ATTEND_LISTS;
    int common = -1, n = 0, end = 0;
    bool differ = false;
    if (list < ATTEND_LISTS) {
#pragma unroll 1
        for (int r = 0; r < at.n_own && index < STACK_PAGES_MAX; r++) {
            int page = pages->page[r][index];
            differ |= page >= 0 && common >= 0 && page != common;
            common = page >= 0 ? page : common;
            n += page >= 0;
        }
        n = differ ? n : common >= 0;
        end = n;
#pragma unroll
        for (int apart = 1; apart < STACK_PAGES_MAX / ATTEND_LISTS; apart *= 2) {
            int before = __shfl_up_sync(~0u, end, apart);
            end += stack_lane() >= apart ? before : 0;
        }
        if (stack_lane() == STACK_PAGES_MAX / ATTEND_LISTS - 1)
            pages->begin[list + 1] = end; /* so many, for now */
    }
    __syncthreads();
    if (list < ATTEND_LISTS) {
        struct page_item *items = pages->items + end - n;
        for (int i = 0; i < list; i++)
            items += pages->begin[i + 1];
        if (n > 0 && !differ)
            *items = {common, (short)index, -1};
#pragma unroll 1
        for (int r = 0; r < at.n_own && differ; r++)
            if (pages->page[r][index] >= 0)
                *items++ = {pages->page[r][index], (short)index, (short)r};
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        pages->begin[0] = 0;
        for (int i = 0; i < ATTEND_LISTS; i++)
            pages->begin[i + 1] += pages->begin[i];
    }
    __syncthreads();
}

/* ---- scores ------------------------------------------------------------------------- */

/* Larger score, larger key; -0 as 0; NaN lowest. */
static __device__ __forceinline__ uint32_t order_key(float score)
{
    uint32_t bits = __float_as_uint(score + 0.0F);
    return score != score ? 0 : bits ^ (bits >> 31 ? 0xffffffffU : 0x80000000U);
}

/* Two floats as BF16, and what is left over of them. */
static __device__ __forceinline__ void split(float2 v, uint32_t *high, uint32_t *low)
{
    *high = bf16_pack(v.x, v.y);
    *low =
        bf16_pack(v.x - __uint_as_float(*high << 16), v.y - __uint_as_float(*high & 0xffff0000U));
}

/*
 * Which pair of a product's inputs dims 2 i and 2 i + 1 are: of a key, the four lanes that have it
 * read 8 dims each, 4 of them for each step of 16.
 */
static __device__ __forceinline__ int pair_place(int i)
{
    return i % 4 / 2 * 8 + i % 2 * 4 + i / 4;
}

/* Index queries of the block's rows and their weights; rows that are not there are 0. */
static __device__ __forceinline__ void own_queries(struct own_rows *own, const struct agon_stack &p,
                                                   const struct own_place &at,
                                                   const struct stack_buffers &b)
{
    enum { PAIRS = INDEX_DIM / 2 };
    int n = at.n_own * p.index_heads, n_all = (n + 15) / 16 * 16;
    const float *weights = b.input + p.q_lora + AGON_STACK_ENTRY + INDEX_DIM;
    const float2 *from =
        (const float2 *)(b.index_query + (size_t)at.own0 * p.index_heads * INDEX_DIM);
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n_all * PAIRS; i += ATTEND_THREADS) {
        float2 v = i < n * PAIRS ? __ldcg(from + i) : make_float2(0, 0);
        int place = i / PAIRS * Q_STRIDE + pair_place(i % PAIRS) * 4;
        split(v, (uint32_t *)(own->q[0] + place), (uint32_t *)(own->q[1] + place));
    }
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n_all; i += ATTEND_THREADS) {
        int r = i / p.index_heads, h = i % p.index_heads;
        own->weights[i] =
            i < n ? __ldcg(weights + (size_t)(at.own0 + r) * b.ld_input + h) * p.index_scale : 0;
    }
}

/* 16 keys of each of N pages: a lane has dims 8 (lane % 4) .. of keys lane / 4 and lane / 4 + 8. */
template <int N> struct raw_keys {
    float4 v[N][2][2];
};
/* As a product's left side: [page][step of 16 dims][register] of BF16, and of what that leaves
 * over. */
template <int N> struct index_keys {
    uint32_t high[N][INDEX_DIM / 16][4], low[N][INDEX_DIM / 16][4];
};

template <int N>
static __device__ __forceinline__ void keys_load(struct raw_keys<N> &raw,
                                                 const struct page_item *items, int step, int n,
                                                 const char *pool, int slot)
{
    int lane = stack_lane();
#pragma unroll
    for (int j = 0; j < N; j++) {
        int page = items[min(j * step, n - 1)].page;
        const float4 *from =
            (const float4 *)((const float *)pool +
                             ((size_t)page * AGON_CUDA_PAGE + slot + lane / 4) * INDEX_DIM) +
            lane % 4 * 2;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            raw.v[j][half][0] = __ldcg(from + half * 8 * (INDEX_DIM / 4));
            raw.v[j][half][1] = __ldcg(from + half * 8 * (INDEX_DIM / 4) + 1);
        }
    }
}

template <int N>
static __device__ __forceinline__ void keys_split(struct index_keys<N> &keys,
                                                  const struct raw_keys<N> &raw)
{
#pragma unroll
    for (int j = 0; j < N; j++)
#pragma unroll
        for (int k = 0; k < INDEX_DIM / 16; k++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float4 v = raw.v[j][half][k];
                split(make_float2(v.x, v.y), &keys.high[j][k][half], &keys.low[j][k][half]);
                split(make_float2(v.z, v.w), &keys.high[j][k][half + 2], &keys.low[j][k][half + 2]);
            }
}

/*
 * Scores of 16 keys for 8 of the rows' heads: score = sum over heads of weight * max(0, q . k), of
 * keys lane / 4 and lane / 4 + 8, for the row of head 2 (lane % 4). q and k are each the sum of two
 * BF16: 1e-5 from F32's.
 */
static __device__ __forceinline__ float2 scores_of(const uint32_t (&high)[INDEX_DIM / 16][4],
                                                   const uint32_t (&low)[INDEX_DIM / 16][4],
                                                   const uint32_t (&q)[4],
                                                   const uint32_t (&rest)[4], float2 weights,
                                                   int n_heads)
{
    float dot[4] = {};
#pragma unroll
    for (int k = 0; k < INDEX_DIM / 16; k++) {
        mma(dot, high[k], rest[2 * k], rest[2 * k + 1]);
        mma(dot, low[k], q[2 * k], q[2 * k + 1]);
        mma(dot, high[k], q[2 * k], q[2 * k + 1]);
    }
    /* NaN stays NaN. */
    float2 score =
        make_float2((dot[0] < 0 ? 0 : weights.x * dot[0]) + (dot[1] < 0 ? 0 : weights.y * dot[1]),
                    (dot[2] < 0 ? 0 : weights.x * dot[2]) + (dot[3] < 0 ? 0 : weights.y * dot[3]));
    if (n_heads > 2) {
        score.x += __shfl_xor_sync(~0u, score.x, 1);
        score.y += __shfl_xor_sync(~0u, score.y, 1);
    }
    if (n_heads > 4) {
        score.x += __shfl_xor_sync(~0u, score.x, 2);
        score.y += __shfl_xor_sync(~0u, score.y, 2);
    }
    return score;
}

/* keys [n_own][ld_keys]; a warp takes 16 keys of every fourth item, AT_ONCE of them at a time, the
 * next of which are under way. */
static __device__ __forceinline__ void score_rows(const struct agon_stack &p,
                                                  const struct own_place &place,
                                                  const struct own_pages *pages,
                                                  const struct own_rows *own, const char *pool,
                                                  uint32_t *keys, int ld_keys)
{
    enum { AT_ONCE = 2, SLOTS = AGON_CUDA_PAGE / 16, STEP = ATTEND_WARPS / SLOTS };
    int n_heads = p.index_heads, lane = stack_lane(), n = pages->begin[ATTEND_LISTS];
    int slot = stack_warp() % SLOTS * 16, n_tiles = (place.n_own * n_heads + 7) / 8;
    int first = stack_warp() / SLOTS;
    bool puts = 2 * (lane % 4) % n_heads == 0;
    uint32_t at_q = lane % 8 * Q_STRIDE + lane / 8 * 16;
    struct raw_keys<AT_ONCE> raw;
    struct index_keys<AT_ONCE> held;
    if (first < n)
        keys_load(raw, pages->items + first, STEP, n - first, pool, slot);
#pragma unroll 1
    for (; first < n; first += STEP * AT_ONCE) {
        const struct page_item *items = pages->items + first;
        /* The last once more where there is no second: the same keys again. */
        struct page_item item[AT_ONCE] = {items[0], items[min((int)STEP, n - first - 1)]};
        keys_split(held, raw);
        if (first + STEP * AT_ONCE < n)
            keys_load(raw, items + STEP * AT_ONCE, STEP, n - first - STEP * AT_ONCE, pool, slot);
#pragma unroll 1
        for (int tile = 0; tile < n_tiles; tile++) {
            int r = (tile * 8 + 2 * (lane % 4)) / n_heads, n_r = 0;
            bool takes[AT_ONCE];
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++)
                takes[j] = item[j].row < 0 || item[j].row * n_heads / 8 == tile;
            if (!takes[0] && !takes[1])
                continue;
            if (puts && r < place.n_own)
                n_r = pages->n[r];
            uint32_t q[4], rest[4];
            float2 weights = *(const float2 *)&own->weights[tile * 8 + 2 * (lane % 4)], score[2];
            mma_load(q, mma_address(own->q[0]) + tile * 8 * Q_STRIDE + at_q);
            mma_load(rest, mma_address(own->q[1]) + tile * 8 * Q_STRIDE + at_q);
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++)
                score[j] = scores_of(held.high[j], held.low[j], q, rest, weights, n_heads);
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                int at = item[j].index * AGON_CUDA_PAGE + slot + lane / 4;
                uint32_t *to = keys + r * ld_keys + at;
                if (n_r == 0 || (item[j].row >= 0 && item[j].row != r))
                    continue;
                to[0] = at < n_r ? order_key(score[j].x) : 0;
                to[8] = at + 8 < n_r ? order_key(score[j].y) : 0;
            }
        }
    }
}

/* ---- the k best --------------------------------------------------------------------- */

/* f of four of a row's keys a lane, where they are. */
template <class F>
static __device__ __forceinline__ void each_key(const uint32_t *keys, int at, int n, F f)
{
    at += 4 * stack_lane();
    if (at >= n)
        return;
    uint4 four = *(const uint4 *)(keys + at);
    f(four.x);
    if (at + 1 < n)
        f(four.y);
    if (at + 2 < n)
        f(four.z);
    if (at + 3 < n)
        f(four.w);
}

/*
 * The largest of DIGITS bins that at least k counts are in or above: a lane sums its own, then all
 * above. *k becomes how many are wanted of that bin, *ret_n how many are in it.
 */
static __device__ __forceinline__ int bin_of(const int *counts, int *k, int *ret_n)
{
    enum { EACH = DIGITS / 32 };
    int lane = stack_lane(), sum = 0, n[EACH];
#pragma unroll
    for (int i = 0; i < EACH; i++)
        sum += n[i] = counts[lane * EACH + i];
    int above = sum; /* of this lane's bins and all higher ones */
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        int other = __shfl_down_sync(~0u, above, apart);
        above += lane + apart < 32 ? other : 0;
    }
    int from = 31 - __clz(__ballot_sync(~0u, above >= *k)), found = -1, in = 0;
    above -= sum;
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--) {
        if (found >= 0)
            continue;
        if (above + n[i] >= *k) {
            found = i;
            in = n[i];
        } else {
            above += n[i];
        }
    }
    *k -= __shfl_sync(~0u, above, from);
    *ret_n = __shfl_sync(~0u, in, from);
    return from * EACH + __shfl_sync(~0u, found, from);
}

/* Bits that all keys have in common are known. */
static __device__ __forceinline__ void choice_begin(struct choice *c)
{
    c->left = c->n > 0 ? 32 - __clz(c->high ^ c->low) : 0;
    c->found = c->left == 32 ? 0 : c->high >> c->left << c->left;
}

static __device__ __forceinline__ int choice_shift(const struct choice *c)
{
    return max(c->left - DIGIT, 0);
}

static __device__ __forceinline__ void choice_count(const struct choice *c, int *counts,
                                                    const uint32_t *keys, int at)
{
    int left = c->left, shift = choice_shift(c);
    uint32_t found = c->found, known = left == 32 ? 0 : ~0u << left;
    each_key(keys, at, c->n, [&](uint32_t key) {
        if (((key ^ found) & known) == 0)
            atomicAdd(&counts[(key & ~known) >> shift], 1);
    });
}

/* A digit more is known: a warp; counts are 0 again. */
static __device__ __forceinline__ void choice_narrow(struct choice *c, int *counts)
{
    int k = c->k, n_in, shift = choice_shift(c);
    uint32_t found = c->found | (uint32_t)bin_of(counts, &k, &n_in) << shift;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < DIGITS / 128; i++)
        ((uint4 *)counts)[i * 32 + stack_lane()] = make_uint4(0, 0, 0, 0);
    if (stack_lane() == 0) {
        c->found = found;
        c->k = n_in == k ? -1 : k;
        c->left = n_in == k ? 0 : shift;
    }
    __syncwarp();
}

/* 128 bits of a row's mask. */
static __device__ __forceinline__ void choice_mask(uint32_t *mask, const struct choice *c,
                                                   const uint32_t *keys, int at)
{
    uint32_t bits[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int key = at + i * 32 + stack_lane();
        bits[i] = __ballot_sync(~0u, key < c->n && keys[key] >= c->found);
    }
    if (stack_lane() == 0)
        *(uint4 *)(mask + at / 32) = make_uint4(bits[0], bits[1], bits[2], bits[3]);
}

/* A row's mask where only some of those that equal the k-th key are taken, the lowest: a warp. */
static __device__ __forceinline__ void choice_mask_equals(uint32_t *mask, const struct choice *c,
                                                          const uint32_t *keys)
{
    int lane = stack_lane(), n_equal = c->k;
#pragma unroll 1
    for (int word = 0; word * 32 < c->n; word++) {
        int at = word * 32 + lane;
        uint32_t key = at < c->n ? keys[at] : 0;
        bool equal = at < c->n && key == c->found;
        uint32_t equals = __ballot_sync(~0u, equal);
        bool taken = at < c->n &&
                     (key > c->found || (equal && __popc(equals & ((1U << lane) - 1)) < n_equal));
        uint32_t bits = __ballot_sync(~0u, taken);
        n_equal = max(0, n_equal - __popc(equals));
        if (lane == 0)
            mask[word] = bits;
    }
}

/* Masks of rows that see more than k positions; all warps on all rows, 128 keys at a time. */
static __device__ __forceinline__ void choose(struct own_rows *own, const uint32_t *keys,
                                              int ld_keys, int n_own)
{
    enum { EACH = 128 };
    int n_tasks = (ld_keys + EACH - 1) / EACH, warp = stack_warp();
    /* task: row task % n_own, keys task / n_own */
    auto each_task = [&](auto f) {
        int r = warp % n_own, at = warp / n_own * EACH, r_step = ATTEND_WARPS % n_own,
            at_step = ATTEND_WARPS / n_own * EACH;
#pragma unroll 1
        while (at < n_tasks * EACH) {
            if (at < own->choice[r].n)
                f(&own->choice[r], keys + r * ld_keys, at, r);
            r += r_step;
            at += at_step;
            if (r >= n_own) {
                r -= n_own;
                at += EACH;
            }
        }
    };
    each_task([&](struct choice *c, const uint32_t *row, int at, int) {
        uint32_t high = 0, low = ~0u;
        each_key(row, at, c->n, [&](uint32_t key) {
            high = max(high, key);
            low = min(low, key);
        });
        high = __reduce_max_sync(~0u, high);
        low = __reduce_min_sync(~0u, low);
        if (stack_lane() == 0) {
            atomicMax(&c->high, high);
            atomicMin(&c->low, low);
        }
    });
    __syncthreads();
    if ((int)threadIdx.x < n_own)
        choice_begin(&own->choice[(int)threadIdx.x]);
    __syncthreads();
    bool left = true;
#pragma unroll 1
    while (left) {
        each_task([&](struct choice *c, const uint32_t *row, int at, int r) {
            if (c->left > 0)
                choice_count(c, own->counts[r], row, at);
        });
        __syncthreads();
        if (warp < n_own && own->choice[warp].left > 0)
            choice_narrow(&own->choice[warp], own->counts[warp]);
        left = __syncthreads_or(warp < n_own && own->choice[warp].left > 0);
    }
    each_task([&](struct choice *c, const uint32_t *row, int at, int r) {
        if (c->k < 0)
            choice_mask((uint32_t *)own->mask[r], c, row, at);
    });
    if (warp < n_own && own->choice[warp].n > 0 && own->choice[warp].k >= 0)
        choice_mask_equals((uint32_t *)own->mask[warp], &own->choice[warp], keys + warp * ld_keys);
}

static __device__ __forceinline__ void select_everything(uint32_t *mask, int n_words, int n)
{
#pragma unroll 1
    for (int word = stack_lane(); word < n_words; word += 32) {
        int left = n - 32 * word;
        mask[word] = left <= 0 ? 0 : left >= 32 ? 0xffffffffU : (1U << left) - 1;
    }
}

/* Masks of the block's rows; keys: shared, [n_own][ld_keys]. */
static __device__ __forceinline__ void select_rows(struct own_rows *own, const struct agon_stack &p,
                                                   const struct own_place &at,
                                                   const struct own_pages *pages, const char *pool,
                                                   uint32_t *keys)
{
    int n_words = pages->n_words, ld_keys = n_words * AGON_CUDA_PAGE, r = stack_warp();
    bool any = false; /* row that does not see all of its past */
    for (int i = 0; i < at.n_own; i++)
        any |= pages->n[i] > p.index_topk;
    if (r < at.n_own) {
        bool all = pages->n[r] <= p.index_topk;
        select_everything((uint32_t *)own->mask[r], 2 * n_words, all ? pages->n[r] : 0);
        if (stack_lane() == 0)
            own->choice[r] = {~0u, 0, 0, 0, p.index_topk, all ? 0 : pages->n[r]};
    }
    if (any)
        score_rows(p, at, pages, own, pool, keys, ld_keys);
    __syncthreads();
    if (any) {
#pragma unroll 1
        for (int i = (int)threadIdx.x; i < at.n_own * DIGITS; i += ATTEND_THREADS)
            own->counts[i / DIGITS][i % DIGITS] = 0;
        choose(own, keys, ld_keys, at.n_own);
        __syncthreads();
    }
#pragma unroll 1
    for (int i = (int)threadIdx.x; p.mask && i < at.n_own * n_words; i += ATTEND_THREADS)
        p.mask[(size_t)(at.own0 + i / n_words) * p.ld_mask + i % n_words] =
            own->mask[i / n_words][i % n_words];
}
