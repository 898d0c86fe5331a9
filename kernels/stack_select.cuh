#pragma once
/*
 * Selection of a block's rows (stack.cu).
 *
 * Scores: index keys lie in the cache as the tensor cores read them (cuda_stack.h). Two warps
 * share out a page; one of their threads has their pages copied to shared memory, the next ahead.
 * Rows are taken four at a time, so that a lane has two keys' dots with all heads of a row and
 * nothing goes between lanes; a page that all rows hold is read once for all.
 */
#include "kernels/hopper.cuh"
#include "kernels/stack_choose.cuh"

enum {
    INDEX_DIM = AGON_STACK_INDEX_DIM,
    INDEX_HEADS_MAX = 8,
    INDEX_ROWS_MAX = STACK_OWN_MAX * INDEX_HEADS_MAX, /* rows and heads, one behind the other */
    Q_STRIDE = INDEX_DIM * 2 + 16,
    GROUP_ROWS = 4, /* that are multiplied together */
    GROUPS_MAX = STACK_OWN_MAX / GROUP_ROWS,
    UNIT = AGON_STACK_KEYS_UNIT, /* keys */
    UNIT_BYTES = UNIT * INDEX_DIM * 4,
    PAGE_UNITS = AGON_CUDA_PAGE / UNIT,
    UNITS = 2,                       /* that a warp multiplies at once */
    KEYS_WARPS = PAGE_UNITS / UNITS, /* that share out a page */
    KEYS_LISTS = ATTEND_WARPS / KEYS_WARPS,
    KEYS_PLACES_MAX = 2, /* for pages, of each list */
    KEYS_PAGE_BYTES = PAGE_UNITS * UNIT_BYTES,
    SCORES_APART = 8, /* rows' scores lie in different banks */
};

/* Of each place for a page of keys: that it has come, that all warps are done with it. And that
 * the plan has come. */
struct keys_barriers {
    uint64_t came[KEYS_LISTS * KEYS_PLACES_MAX], done[KEYS_LISTS * KEYS_PLACES_MAX], plan;
};

/* What the stage keeps beside what own_pages has. */
struct own_rows {
    __align__(16) uint64_t mask[STACK_OWN_MAX][STACK_PAGES_MAX];
    __align__(16) int counts[STACK_OWN_MAX][BINS]; /* 0, once queries are there */
    __align__(16) float weights[INDEX_ROWS_MAX];
    struct keys_barriers keys;
    __align__(16) struct chosen chosen[STACK_OWN_MAX];
    union {
        /* Index queries: BF16, and what that leaves over. */
        __align__(16) char q[2][INDEX_ROWS_MAX * Q_STRIDE];
        struct rival rivals[STACK_OWN_MAX][RIVALS_MAX]; /* once scores are made */
    };
};

/* ---- keys, queries ------------------------------------------------------------------ */

/* Two floats as BF16, and what is left over of them. */
static __device__ __forceinline__ void split(float2 v, uint32_t *high, uint32_t *low)
{
    *high = bf16_pack(v.x, v.y);
    *low =
        bf16_pack(v.x - __uint_as_float(*high << 16), v.y - __uint_as_float(*high & 0xffff0000U));
}

/* A key to the cache: a lane a dim. */
static __device__ __forceinline__ void index_key_put(char *pool, size_t slot, float v)
{
    static_assert((int)INDEX_DIM == 32, "a lane a dim");
    int lane = stack_lane(), at = (int)(slot % AGON_CUDA_PAGE);
    uint16_t *page = (uint16_t *)(pool + slot / AGON_CUDA_PAGE * KEYS_PAGE_BYTES);
    float next = __shfl_down_sync(~0u, v, 1);
    uint32_t high, low;
    split(make_float2(v, next), &high, &low);
    if (lane % 2 == 0) {
        *(uint32_t *)(page + agon_stack_key_at(at, lane, 0)) = high;
        *(uint32_t *)(page + agon_stack_key_at(at, lane, 1)) = low;
    }
}

/* Keys on their way through shared memory: item i is at place i % n_places. */
struct keys_flow {
    const struct own_pages *pages;
    const char *pool;
    int n_places;
    uint32_t room, came, done;
};

static __device__ __forceinline__ struct keys_flow keys_flow_of(const struct own_pages *pages,
                                                                struct own_rows *own,
                                                                const char *pool, char *room,
                                                                int room_bytes)
{
    struct keys_flow f;
    f.pages = pages;
    f.pool = pool;
    f.n_places =
        min(room_bytes / (KEYS_LISTS * KEYS_PAGE_BYTES), (int)KEYS_PLACES_MAX) * KEYS_LISTS;
    f.room = mma_address(room);
    f.came = mma_address(own->keys.came);
    f.done = mma_address(own->keys.done);
    return f;
}

/*
 * Barriers, and what is counted, before a barrier of the block; the plan is asked for where the
 * layer has one (else NULL). Each warp makes some barriers: lanes would do so one after the other.
 */
static __device__ __forceinline__ void selection_init(struct own_rows *own, struct own_pages *pages,
                                                      const char *plan, uint32_t n_bytes)
{
    static_assert((int)(KEYS_LISTS * KEYS_PLACES_MAX) == (int)ATTEND_WARPS, "a warp a place");
    if (threadIdx.x == 0) {
        uint32_t came = mma_address(&own->keys.plan);
        barrier_init(came, 1);
        barriers_made();
        if (plan) {
            barrier_expect(came, n_bytes);
            copy_bytes(mma_address(pages), plan, n_bytes, came);
        }
    }
    if (stack_lane() == 0) {
        barrier_init(mma_address(&own->keys.came[stack_warp()]), 1);
        barrier_init(mma_address(&own->keys.done[stack_warp()]), KEYS_WARPS);
    }
    if (threadIdx.x < STACK_OWN_MAX)
        own->chosen[threadIdx.x] = {~0u, 0, 0, 0};
}

/* Item i to its place: a thread. Of a row's own page, the units that it sees. */
static __device__ __forceinline__ void keys_fetch(const struct keys_flow &f, int i, int place)
{
    struct page_item item = f.pages->items[i];
    int n = AGON_CUDA_PAGE;
    if (item.row >= 0)
        n = min(n, f.pages->n[item.row] - item.index * AGON_CUDA_PAGE);
    uint32_t bytes = (uint32_t)((n + UNIT - 1) / UNIT * UNIT_BYTES), came = f.came + place * 8;
    barrier_expect(came, bytes);
    copy_bytes(f.room + place * KEYS_PAGE_BYTES, f.pool + (size_t)item.page * KEYS_PAGE_BYTES,
               bytes, came);
}

/* The first items that are `open`, or not: a warp one. What is not was stored by earlier passes
 * where each sequence has one row. */
static __device__ __forceinline__ void keys_begin(const struct keys_flow &f, bool open)
{
    int i = stack_warp();
    if (stack_lane() == 0 && i < min(f.n_places, f.pages->begin[ATTEND_LISTS]) &&
        f.pages->items[i].open == open)
        keys_fetch(f, i, i);
}

/* Where head h of row r is among the queries: two heads of each of four rows are a tile of 8. */
static __device__ __forceinline__ int query_at(int r, int h, int n_heads)
{
    return (r / GROUP_ROWS * (n_heads / 2) + h / 2) * 8 + r % GROUP_ROWS * 2 + h % 2;
}

/* Index queries of the block's rows and their weights, four values a thread: rows that are not
 * there are 0. */
struct queries_part {
    float4 v;
    float weight;
};
static __device__ __forceinline__ struct queries_part queries_load(const struct agon_stack &p,
                                                                   const struct own_place &at,
                                                                   const struct stack_buffers &b)
{
    enum { EACH = INDEX_DIM / 4 };
    static_assert((int)(INDEX_ROWS_MAX * EACH) <= (int)ATTEND_THREADS, "a thread four values");
    int n_heads = p.index_heads, i = (int)threadIdx.x, n = at.n_own * n_heads;
    const float *weights = b.input + p.q_lora + AGON_STACK_ENTRY + INDEX_DIM;
    const float4 *from = (const float4 *)(b.index_query + (size_t)at.own0 * n_heads * INDEX_DIM);
    struct queries_part part = {make_float4(0, 0, 0, 0), 0};
    if (i < n * EACH)
        part.v = __ldcg(from + i);
    if (i < n) {
        int bits = 31 - __clz(n_heads), r = at.own0 + (i >> bits), h = i & (n_heads - 1);
        part.weight = __ldcg(weights + (size_t)r * b.ld_input + h);
    }
    return part;
}

static __device__ __forceinline__ void queries_store(struct own_rows *own,
                                                     const struct queries_part &part,
                                                     const struct agon_stack &p, int n_own)
{
    enum { EACH = INDEX_DIM / 4 };
    int n_heads = p.index_heads, bits = 31 - __clz(n_heads), i = (int)threadIdx.x;
    int n_all = (n_own + GROUP_ROWS - 1) / GROUP_ROWS * GROUP_ROWS * n_heads;
    auto at = [&](int m) { return query_at(m >> bits, m & (n_heads - 1), n_heads); };
    if (i < n_all * EACH) {
        int place = at(i / EACH) * Q_STRIDE + i % EACH * 8;
        uint2 high, low;
        split(make_float2(part.v.x, part.v.y), &high.x, &low.x);
        split(make_float2(part.v.z, part.v.w), &high.y, &low.y);
        *(uint2 *)(own->q[0] + place) = high;
        *(uint2 *)(own->q[1] + place) = low;
    }
    if (i < n_all)
        own->weights[at(i)] = part.weight * p.index_scale;
    if (i < n_own * BINS / 4)
        ((uint4 *)own->counts)[i] = make_uint4(0, 0, 0, 0);
}

/* ---- scores ------------------------------------------------------------------------- */

/* As a product's left side, 16 keys: [step of 16 dims][register] of BF16, and of what that leaves
 * over. */
struct index_keys {
    uint32_t high[INDEX_DIM / 16][4], low[INDEX_DIM / 16][4];
};

/* One of a page's units, in shared memory. */
static __device__ __forceinline__ void keys_load(struct index_keys &keys, const char *unit)
{
    const uint4 *from = (const uint4 *)unit + stack_lane();
#pragma unroll
    for (int k = 0; k < INDEX_DIM / 16; k++) {
        uint4 high = from[k * 32], low = from[(INDEX_DIM / 16 + k) * 32];
        keys.high[k][0] = high.x, keys.high[k][1] = high.y;
        keys.high[k][2] = high.z, keys.high[k][3] = high.w;
        keys.low[k][0] = low.x, keys.low[k][1] = low.y;
        keys.low[k][2] = low.z, keys.low[k][3] = low.w;
    }
}

/*
 * Scores of keys lane / 4 and lane / 4 + 8 of each unit for row lane % 4 of a group: sum over heads
 * of weight * max(0, q . k). q and k are each the sum of two BF16: 1e-5 from F32's. NaN is lowest.
 * q: this lane's address of the group's queries; rest: from there to what they leave over.
 */
template <int HEADS>
static __device__ __forceinline__ void scores_of(float (&scores)[UNITS][2],
                                                 const struct index_keys (&keys)[UNITS], uint32_t q,
                                                 uint32_t rest, const float *weights)
{
    enum { TILES = HEADS / 2 };
    float dot[TILES][UNITS][4] = {};
#pragma unroll
    for (int t = 0; t < TILES; t++) {
        uint32_t b[4], c[4];
        mma_load(b, q + t * 8 * Q_STRIDE);
        mma_load(c, q + rest + t * 8 * Q_STRIDE);
#pragma unroll
        for (int k = 0; k < INDEX_DIM / 16; k++)
#pragma unroll
            for (int u = 0; u < UNITS; u++) {
                mma(dot[t][u], keys[u].low[k], b[2 * k], b[2 * k + 1]);
                mma(dot[t][u], keys[u].high[k], c[2 * k], c[2 * k + 1]);
                mma(dot[t][u], keys[u].high[k], b[2 * k], b[2 * k + 1]);
            }
    }
#pragma unroll
    for (int u = 0; u < UNITS; u++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float score = 0;
#pragma unroll
            for (int t = 0; t < TILES; t++) {
                float2 w = *(const float2 *)(weights + t * 8);
                score = fmaf(w.x, relu(dot[t][u][2 * half]), score);
                score = fmaf(w.y, relu(dot[t][u][2 * half + 1]), score);
            }
            scores[u][half] = score_within(score);
        }
}

/* The least and the most of the scores of row lane % 4 of each group. */
struct score_range {
    float low[GROUPS_MAX], high[GROUPS_MAX];
};
static __device__ __forceinline__ void range_put(struct score_range &range, struct own_rows *own,
                                                 int n_own)
{
    int lane = stack_lane();
#pragma unroll
    for (int g = 0; g < GROUPS_MAX; g++) {
        if (g * GROUP_ROWS >= n_own)
            break;
        float low = range.low[g], high = range.high[g];
#pragma unroll
        for (int apart = GROUP_ROWS; apart < 32; apart *= 2) {
            low = fminf(low, __shfl_xor_sync(~0u, low, apart));
            high = fmaxf(high, __shfl_xor_sync(~0u, high, apart));
        }
        if (lane < GROUP_ROWS && low <= high) {
            atomicMin(&own->chosen[g * GROUP_ROWS + lane].low, order_key(low));
            atomicMax(&own->chosen[g * GROUP_ROWS + lane].high, order_key(high));
        }
    }
}

/* scores [n_own][ld], of items list, list + KEYS_LISTS ..; the least and the most of each row's. */
template <int HEADS>
static __device__ __forceinline__ void score_rows(const struct keys_flow &f, struct own_rows *own,
                                                  const char *room, float *scores, int ld,
                                                  int n_own)
{
    enum { TILES = HEADS / 2 };
    int lane = stack_lane(), n_groups = (n_own + GROUP_ROWS - 1) / GROUP_ROWS;
    int list = stack_warp() / KEYS_WARPS, place = list, n = f.pages->begin[ATTEND_LISTS];
    /* Which of a page, in another quarter of the multiprocessor for every second list. */
    int unit = (stack_warp() + list / 2) % KEYS_WARPS * UNITS;
    bool leads = threadIdx.x % (KEYS_WARPS * 32) == 0;
    uint32_t q = mma_address(own->q[0]) + lane % 8 * Q_STRIDE + lane / 8 * 16, parity = 0;
    const float *weights = own->weights + 2 * (lane % GROUP_ROWS);
    struct score_range range;
    room += unit * UNIT_BYTES;
#pragma unroll
    for (int g = 0; g < GROUPS_MAX; g++)
        range.low[g] = 2 * SCORE_MOST, range.high[g] = -2 * SCORE_MOST;
#pragma unroll 1
    for (int i = list; i < n; i += KEYS_LISTS) {
        struct page_item item = f.pages->items[i];
        int at = item.index * AGON_CUDA_PAGE + unit * UNIT;
        int next = i + f.n_places - KEYS_LISTS; /* takes the place of the one before */
        if (leads && i >= KEYS_LISTS && next < n) {
            bool turned = place < KEYS_LISTS;
            int last = place - KEYS_LISTS + (turned ? f.n_places : 0);
            barrier_wait(f.done + last * 8, parity ^ turned);
            keys_fetch(f, next, last);
        }
        __syncwarp();
        barrier_wait(f.came + place * 8, parity);
        struct index_keys keys[UNITS];
#pragma unroll
        for (int u = 0; u < UNITS; u++)
            keys_load(keys[u], room + place * KEYS_PAGE_BYTES + u * UNIT_BYTES);
        __syncwarp();
        if (lane == 0)
            barrier_arrive(f.done + place * 8);
        place += KEYS_LISTS;
        if (place >= f.n_places)
            place = list, parity ^= 1;
        int g = item.row < 0 ? 0 : item.row / GROUP_ROWS, end = item.row < 0 ? n_groups : g + 1;
        if (item.row >= 0 && at >= f.pages->n[item.row])
            continue;
        at += lane / 4;
#pragma unroll 1
        for (; g < end; g++) {
            int r = g * GROUP_ROWS + lane % GROUP_ROWS;
            int n_seen = item.row < 0 || item.row == r ? f.pages->n[r] : 0;
            float found[UNITS][2], least = 2 * SCORE_MOST, most = -2 * SCORE_MOST;
            scores_of<HEADS>(found, keys, q + g * TILES * 8 * Q_STRIDE, sizeof(own->q[0]),
                             weights + g * TILES * 8);
#pragma unroll
            for (int m = 0; m < UNITS * 2; m++)
                if (at + m * 8 < n_seen) {
                    float score = found[m / 2][m % 2];
                    scores[r * ld + at + m * 8] = score;
                    least = fminf(least, score);
                    most = fmaxf(most, score);
                }
#pragma unroll
            for (int j = 0; j < GROUPS_MAX; j++)
                if (j == g) {
                    range.low[j] = fminf(range.low[j], least);
                    range.high[j] = fmaxf(range.high[j], most);
                }
        }
    }
    range_put(range, own, n_own);
}

/* ---- selection ---------------------------------------------------------------------- */

/* Scores of the block's rows, [n_own][ld], shared. */
static __device__ __forceinline__ void select_scores(struct own_rows *own,
                                                     const struct keys_flow &f, int n_heads,
                                                     const char *room, float *scores, int ld,
                                                     int n_own)
{
    if (n_heads == 4)
        score_rows<4>(f, own, room, scores, ld, n_own);
    else if (n_heads == 2)
        score_rows<2>(f, own, room, scores, ld, n_own);
    else
        score_rows<INDEX_HEADS_MAX>(f, own, room, scores, ld, n_own);
}

/* Masks of the block's rows. */
static __device__ __forceinline__ void select_masks(struct own_rows *own,
                                                    const struct agon_stack &p,
                                                    const struct own_place &at,
                                                    const struct own_pages *pages,
                                                    const float *scores, int ld)
{
    int n_words = pages->n_words, bits = at.n_own == 1   ? 4
                                         : at.n_own == 2 ? 3
                                         : at.n_own <= 4 ? 2
                                                         : 1;
    struct chooser c;
    c.row = stack_warp() >> bits;
    c.n_parts = 1 << bits;
    c.part = stack_warp() & (c.n_parts - 1);
    c.k = p.index_topk;
    if (c.row < at.n_own) {
        c.chosen = &own->chosen[c.row];
        c.counts = own->counts[c.row];
        c.rivals = own->rivals[c.row];
        c.scores = scores + c.row * ld;
        c.mask = (uint32_t *)own->mask[c.row];
        c.n = pages->n[c.row];
        bool all = c.n <= c.k;
        /* What is behind the row's end, and a row that takes all. */
#pragma unroll 1
        for (int word = (all ? 0 : (c.n + STEP - 1) / STEP * WORDS) + c.part * 32 + stack_lane();
             word < 2 * n_words; word += c.n_parts * 32) {
            int left = c.n - 32 * word;
            c.mask[word] = left <= 0 ? 0 : left >= 32 ? ~0U : (1U << left) - 1;
        }
        if (!all)
            choose(c);
    }
    if (!p.mask)
        return;
    __syncthreads();
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < at.n_own * n_words; i += ATTEND_THREADS)
        p.mask[(size_t)(at.own0 + i / n_words) * p.ld_mask + i % n_words] =
            own->mask[i / n_words][i % n_words];
}
