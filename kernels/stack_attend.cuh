#pragma once
/*
 * Selection and attention of a block's rows (stack.cu).
 *
 * Selection: a thread is a key, and makes its score for every row that sees its page (for all rows
 * where they hold the same page); scores become integers that order as they do. Then a warp is a
 * row: bit by bit from the top it finds the largest threshold that k keys reach, and among equals
 * takes the lowest positions.
 *
 * Attention: the rows' query heads are cut in tiles of 16; a warp is a tile and one of N_LISTS
 * lists of pages (page i of a row is in list i % N_LISTS). Warps of one list share the page being
 * read, brought by cp.async while the one before is computed. A page that all rows of the block
 * have is read once for all, any other once for each row that has it. What is not selected weighs
 * nothing. scores  S[16][64] = Q[16][144] K^T    mma.m16n8k16, 8 x 9 of them output  O[16][128] +=
 * P[16][64] V     16 x 4; V is the first 128 of the same entries
 */
#include "kernels/stack.cuh"

enum {
    KV = AGON_STACK_KV,
    ENTRY = AGON_STACK_ENTRY,
    INDEX_DIM = AGON_STACK_INDEX_DIM,
    INDEX_HEADS_MAX = 8,
    N_LISTS = 4,
    WORDS_MAX = AGON_STACK_WINDOW_MAX / 64,
    TILE_STRIDE = (ENTRY + 8) * 2, /* bytes: eight rows lie in different banks */
    TILE_BYTES = AGON_CUDA_PAGE * TILE_STRIDE,
    ITEMS_MAX = STACK_OWN_MAX * WORDS_MAX / N_LISTS,
    SCORE_GROUPS = (STACK_OWN_MAX + 7) / 8,
    Q_STRIDE = INDEX_DIM * 2 + 16,
    IN_REGISTERS = 48, /* keys of a lane: positions up to 1,536 */
};
#define MINUS_INFINITY __int_as_float(0xff800000)

/* A page to be read: its number, which positions it holds, and whose it is (-1: all rows'). */
struct item {
    int page;
    short index, row;
};

struct own_rows {
    int n[STACK_OWN_MAX]; /* positions that each sees; 0: no row */
    int n_words;          /* of a mask */
    int n_items[N_LISTS];
    struct item items[N_LISTS][ITEMS_MAX];
    int page[STACK_OWN_MAX][WORDS_MAX]; /* -1: it has ended before */
    int common[WORDS_MAX]; /* the page that all have which reach there; -1: they differ */
    uint64_t mask[STACK_OWN_MAX][WORDS_MAX];
    short count[WORDS_MAX]; /* items of a page index */
    float weights[SCORE_GROUPS * 8][INDEX_HEADS_MAX];
    /* Index queries as tiles of 16: a pair of heads of 8 rows; BF16, and what that leaves over. */
    __align__(16) char q[2][SCORE_GROUPS][INDEX_HEADS_MAX / 2][16 * Q_STRIDE];
};

/* ---- selection ---------------------------------------------------------------------- */

/* Larger score, larger key; -0 as 0; NaN lowest. */
static __device__ __forceinline__ uint32_t order_key(float score)
{
    uint32_t bits = __float_as_uint(score + 0.0F);
    return score != score ? 0 : bits ^ (bits >> 31 ? 0xffffffffU : 0x80000000U);
}

static __device__ __forceinline__ int n_items_of(const struct own_rows *own)
{
    int n = 0;
#pragma unroll
    for (int l = 0; l < N_LISTS; l++)
        n += own->n_items[l];
    return n;
}

static __device__ __forceinline__ struct item item_at(const struct own_rows *own, int i)
{
    int l = 0;
    while (i >= own->n_items[l])
        i -= own->n_items[l++];
    return own->items[l][i];
}

/* A lane's share of 8 keys: float2 at dims 2 (lane % 4) + 8 i of key lane / 4. */
struct index_keys {
    float2 v[INDEX_DIM / 8];
};

static __device__ __forceinline__ struct index_keys keys_load(const char *pool, int page, int slot)
{
    struct index_keys k;
    int lane = stack_lane();
    const float *from =
        (const float *)pool + ((size_t)page * AGON_CUDA_PAGE + slot + lane / 4) * INDEX_DIM;
#pragma unroll
    for (int i = 0; i < INDEX_DIM / 8; i++)
        k.v[i] = __ldcg((const float2 *)(from + 8 * i) + lane % 4);
    return k;
}

/* Two floats as BF16, and what is left over of them. */
static __device__ __forceinline__ void split(float2 v, uint32_t *high, uint32_t *low)
{
    *high = bf16_pack(v.x, v.y);
    *low =
        bf16_pack(v.x - __uint_as_float(*high << 16), v.y - __uint_as_float(*high & 0xffff0000U));
}

/*
 * Scores of 8 keys for 8 rows: score = sum over heads of weight * max(0, q . k), of row lane / 4
 * and keys 2 (lane % 4) and the next. q and k are each the sum of two BF16: 1e-5 from F32's.
 */
static __device__ __forceinline__ float2 scores_of(const struct own_rows *own, int group,
                                                   const uint32_t (&high)[INDEX_DIM / 8],
                                                   const uint32_t (&low)[INDEX_DIM / 8],
                                                   int n_heads)
{
    int lane = stack_lane(), at = lane % 16 * Q_STRIDE + lane / 16 * 16;
    const float *weights = own->weights[group * 8 + lane / 4];
    float2 score = make_float2(0, 0);
    for (int pair = 0; pair < n_heads / 2; pair++) {
        float dot[4] = {};
        uint32_t q_high = mma_address(own->q[0][group][pair]) + at;
        uint32_t q_low = mma_address(own->q[1][group][pair]) + at;
#pragma unroll
        for (int k = 0; k < INDEX_DIM / 16; k++) {
            uint32_t a[4], rest[4];
            mma_load(a, q_high + k * 32);
            mma_load(rest, q_low + k * 32);
            mma(dot, rest, high[2 * k], high[2 * k + 1]);
            mma(dot, a, low[2 * k], low[2 * k + 1]);
            mma(dot, a, high[2 * k], high[2 * k + 1]);
        }
        float2 w = *(const float2 *)(weights + 2 * pair);
        score.x += dot[0] < 0 ? 0 : w.x * dot[0]; /* NaN stays NaN */
        score.y += dot[1] < 0 ? 0 : w.x * dot[1];
        score.x += dot[2] < 0 ? 0 : w.y * dot[2];
        score.y += dot[3] < 0 ? 0 : w.y * dot[3];
    }
    return score;
}

/* keys [n_own][ld_keys]; a warp takes 8 keys of every second item. */
static __device__ void score_rows(const struct agon_stack &p, const struct stack_place &place,
                                  const struct own_rows *own, const char *pool, uint32_t *keys,
                                  int ld_keys)
{
    enum { AT_ONCE = STACK_WARPS / 8 };
    int lane = stack_lane(), warp = stack_warp(), slot = warp % 8 * 8, n = n_items_of(own);
    struct index_keys next = {};
    struct item item = {};
    if (warp / 8 < n) {
        item = item_at(own, warp / 8);
        next = keys_load(pool, item.page, slot);
    }
    for (int i = warp / 8; i < n; i += AT_ONCE) {
        struct item now = item;
        uint32_t high[INDEX_DIM / 8], low[INDEX_DIM / 8];
#pragma unroll
        for (int k = 0; k < INDEX_DIM / 8; k++)
            split(next.v[k], &high[k], &low[k]);
        if (i + AT_ONCE < n) {
            item = item_at(own, i + AT_ONCE);
            next = keys_load(pool, item.page, slot);
        }
        for (int group = 0; group * 8 < place.n_own; group++) {
            if (now.row >= 0 && now.row / 8 != group)
                continue;
            float2 score = scores_of(own, group, high, low, p.index_heads);
            int r = group * 8 + lane / 4, at = now.index * AGON_CUDA_PAGE + slot + 2 * (lane % 4);
            if (r < place.n_own && (now.row < 0 || now.row == r) && own->n[r] > p.index_topk &&
                own->page[r][now.index] >= 0)
                *(uint2 *)(keys + r * ld_keys + at) =
                    make_uint2(at < own->n[r] ? order_key(score.x) : 0,
                               at + 1 < own->n[r] ? order_key(score.y) : 0);
        }
    }
}

/* How many of a row's keys reach `least`. In registers up to IN_REGISTERS a lane. */
static __device__ __forceinline__ int count_from(const uint32_t held[IN_REGISTERS],
                                                 const uint32_t *keys, int n, uint32_t least)
{
    int count = 0;
#pragma unroll
    for (int i = 0; i < IN_REGISTERS; i++)
        count += held[i] >= least;
    for (int at = IN_REGISTERS * 32 + stack_lane(); at < n; at += 32)
        count += keys[at] >= least;
    return __reduce_add_sync(0xffffffffU, count);
}

/*
 * The largest threshold that at least k keys reach; *ret_count: how many do. Bits that all keys in
 * registers have in common are known where those are all keys. least is never 0: no key counts that
 * is none.
 */
static __device__ uint32_t threshold_of(const uint32_t held[IN_REGISTERS], const uint32_t *keys,
                                        int n, int k, int *ret_count)
{
    uint32_t found = 0, high = 0, low = 0xffffffffU;
    int count, n_first = 31;
    *ret_count = n;
    if (n <= IN_REGISTERS * 32) {
#pragma unroll
        for (int i = 0; i < IN_REGISTERS; i++)
            if (i * 32 + stack_lane() < n) {
                high = max(high, held[i]);
                low = min(low, held[i]);
            }
        high = __reduce_max_sync(0xffffffffU, high);
        low = __reduce_min_sync(0xffffffffU, low);
        n_first = 31 - __clz(high ^ low);
        found = n_first < 31 ? high >> (n_first + 1) << (n_first + 1) : 0;
    }
    for (int bit = n_first; bit >= 0; bit--) {
        uint32_t least = found | 1U << bit;
        count = count_from(held, keys, n, least);
        if (count < k)
            continue;
        found = least;
        *ret_count = count;
        if (count == k)
            break;
    }
    return found;
}

/* A warp writes the mask of a row; keys [n]. */
static __device__ void select_row(uint32_t *mask, int n_words, const uint32_t *keys, int n, int k)
{
    int lane = stack_lane(), count;
    uint32_t held[IN_REGISTERS];
#pragma unroll
    for (int i = 0; i < IN_REGISTERS; i++)
        held[i] = i * 32 + lane < n ? keys[i * 32 + lane] : 0;
    uint32_t least = threshold_of(held, keys, n, k, &count);
    if (count == k && least > 0) {
#pragma unroll
        for (int i = 0; i < IN_REGISTERS; i++) {
            uint32_t bits = __ballot_sync(0xffffffffU, held[i] >= least);
            if (lane == 0 && i < n_words)
                mask[i] = bits;
        }
        for (int word = IN_REGISTERS; word < n_words; word++) {
            uint32_t key = word * 32 + lane < n ? keys[word * 32 + lane] : 0;
            uint32_t bits = __ballot_sync(0xffffffffU, key >= least);
            if (lane == 0)
                mask[word] = bits;
        }
        return;
    }
    int n_above = least == 0xffffffffU ? 0 : count_from(held, keys, n, least + 1);
    int n_equal = k - n_above; /* still to be taken among equals */
    for (int word = 0; word < n_words; word++) {
        int at = word * 32 + lane;
        uint32_t key = at < n ? keys[at] : 0;
        bool equal = at < n && key == least;
        uint32_t equals = __ballot_sync(0xffffffffU, equal);
        bool taken =
            at < n && (key > least || (equal && __popc(equals & ((1U << lane) - 1)) < n_equal));
        uint32_t bits = __ballot_sync(0xffffffffU, taken);
        n_equal = max(0, n_equal - __popc(equals));
        if (lane == 0)
            mask[word] = bits;
    }
}

static __device__ void select_everything(uint32_t *mask, int n_words, int n)
{
    for (int word = stack_lane(); word < n_words; word += 32) {
        int left = n - 32 * word;
        mask[word] = left <= 0 ? 0 : left >= 32 ? 0xffffffffU : (1U << left) - 1;
    }
}

/* The items of page `index`, behind those of its list before it: a thread. Rows that have ended
 * their pages take no part. */
static __device__ __forceinline__ void list_items(struct own_rows *own,
                                                  const struct stack_place &at, int index)
{
    int list = index % N_LISTS, n = 0;
    for (int before = list; before < index; before += N_LISTS)
        n += own->count[before];
    if (own->common[index] >= 0) {
        own->items[list][n++] = {own->common[index], (short)index, -1};
    } else {
        for (int r = 0; r < at.n_own; r++)
            if (own->page[r][index] >= 0)
                own->items[list][n++] = {own->page[r][index], (short)index, (short)r};
    }
    if (index + N_LISTS >= own->n_words)
        own->n_items[list] = n;
}

/* Index queries of the block's rows, as scores_of() reads them; rows that are not there are 0. */
static __device__ __forceinline__ void own_queries(struct own_rows *own, const struct agon_stack &p,
                                                   const struct stack_place &at,
                                                   const struct stack_buffers &b)
{
    int width = p.index_heads * INDEX_DIM / 2, n_rows = (at.n_own + 7) / 8 * 8;
    const float *weights = b.input + p.q_lora + ENTRY + INDEX_DIM;
    for (int i = stack_thread(); i < n_rows * width; i += STACK_THREADS) {
        int r = i / width, head = i % width / (INDEX_DIM / 2), d = i % (INDEX_DIM / 2) * 2;
        float2 v = make_float2(0, 0);
        if (r < at.n_own)
            v = __ldcg((const float2 *)(b.index_query + (size_t)(at.own0 + r) * 2 * width) +
                       i % width);
        int place = (r % 8 + head % 2 * 8) * Q_STRIDE + d * 2;
        split(v, (uint32_t *)(own->q[0][r / 8][head / 2] + place),
              (uint32_t *)(own->q[1][r / 8][head / 2] + place));
    }
    for (int i = stack_thread(); i < n_rows * p.index_heads; i += STACK_THREADS) {
        int r = i / p.index_heads, h = i % p.index_heads;
        own->weights[r][h] =
            r < at.n_own ? __ldcg(weights + (size_t)(at.own0 + r) * b.ld_input + h) * p.index_scale
                         : 0;
    }
}

/* What the block's rows see, their pages, index queries and the lists of attention. */
static __device__ void own_init(struct own_rows *own, const struct agon_stack &p,
                                const struct stack_place &at, const struct stack_buffers &b)
{
    int n_words = (p.rows.n_max + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE, thread = stack_thread();
    if (thread < STACK_OWN_MAX) {
        int row = at.own0 + thread;
        own->n[thread] = thread < at.n_own && row_is(p, row) ? p.rows.row_position[row] + 1 : 0;
    }
    for (int i = thread; i < at.n_own * n_words; i += STACK_THREADS) {
        int r = i / n_words, index = i % n_words, sequence = p.rows.row_sequence[at.own0 + r];
        bool there = sequence >= 0 && index * AGON_CUDA_PAGE <= p.rows.row_position[at.own0 + r];
        own->page[r][index] = there ? p.rows.pages[(size_t)sequence * p.rows.ld_pages + index] : -1;
    }
    own_queries(own, p, at, b);
    __syncthreads();
    for (int index = thread; index < n_words; index += STACK_THREADS) {
        int common = -1, n = 0;
        bool differ = false;
        for (int r = 0; r < at.n_own; r++) {
            int page = own->page[r][index];
            differ |= page >= 0 && common >= 0 && page != common;
            common = page >= 0 ? page : common;
            n += page >= 0;
        }
        own->common[index] = differ ? -1 : common;
        own->count[index] = (short)(differ ? n : common >= 0);
    }
    if (thread == 0)
        own->n_words = n_words;
    if (thread < N_LISTS)
        own->n_items[thread] = 0;
    __syncthreads();
    for (int index = thread; index < n_words; index += STACK_THREADS)
        list_items(own, at, index);
    __syncthreads();
}

/* Masks of the block's rows; keys: shared, [n_own][ld_keys]. */
static __device__ void select_rows(struct own_rows *own, const struct agon_stack &p,
                                   const struct stack_place &at, const char *pool, uint32_t *keys)
{
    int ld_keys = own->n_words * AGON_CUDA_PAGE, r = stack_warp();
    bool any = false; /* row that does not see all of its past */
    for (int i = 0; i < at.n_own; i++)
        any |= own->n[i] > p.index_topk;
    if (any)
        score_rows(p, at, own, pool, keys, ld_keys);
    __syncthreads();
    if (r < at.n_own) {
        uint32_t *mask = (uint32_t *)own->mask[r];
        if (own->n[r] <= p.index_topk)
            select_everything(mask, 2 * own->n_words, own->n[r]);
        else
            select_row(mask, 2 * own->n_words, keys + r * ld_keys, own->n[r], p.index_topk);
    }
    __syncthreads();
    for (int i = stack_thread(); p.mask && i < at.n_own * own->n_words; i += STACK_THREADS)
        p.mask[(size_t)(at.own0 + i / own->n_words) * p.ld_mask + i % own->n_words] =
            own->mask[i / own->n_words][i % own->n_words];
}

/* ---- attention ---------------------------------------------------------------------- */

/* What a warp keeps of its 16 query heads: lane's rows are lane / 4 and lane / 4 + 8. */
struct state {
    float out[KV / 8][4];
    float most[2], sum[2]; /* sum: of this lane's columns */
};

/* A page to shared memory, by the `n_threads` threads of a list. */
static __device__ __forceinline__ void fetch(uint32_t to, const char *latents, int page, int thread,
                                             int n_threads)
{
    const char *from = latents + (size_t)page * AGON_CUDA_PAGE * ENTRY * 2;
    for (int i = thread; i < AGON_CUDA_PAGE * (ENTRY / 8); i += n_threads) {
        int row = i / (ENTRY / 8), at = i % (ENTRY / 8);
        mma_copy16(to + row * TILE_STRIDE + at * 16, from + (size_t)i * 16, true);
    }
    mma_copies_end();
}

/* Scores of the 64 entries at `tile`: s[n / 8] holds columns n .. n + 7. q: this lane's address of
 * 16 queries. */
static __device__ __forceinline__ void score(float (&s)[AGON_CUDA_PAGE / 8][4], uint32_t q,
                                             uint32_t tile)
{
    int lane = stack_lane(), matrix = lane / 8;
    uint32_t at = tile + ((matrix >> 1) * 8 + lane % 8) * TILE_STRIDE + (matrix & 1) * 16;
#pragma unroll
    for (int n = 0; n < AGON_CUDA_PAGE / 8; n++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[n][c] = 0;
#pragma unroll
    for (int k = 0; k < ENTRY / 16; k++) {
        uint32_t a[4];
        mma_load(a, q + k * 32);
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 16; n++) {
            uint32_t b[4];
            mma_load(b, at + n * 16 * TILE_STRIDE + k * 32);
            mma(s[2 * n], a, b[0], b[1]);
            mma(s[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* Scores to weights; what is not in `mask` (64 bits for each of the lane's rows) weighs nothing. */
static __device__ __forceinline__ void weigh(struct state &state, float s[AGON_CUDA_PAGE / 8][4],
                                             const uint64_t mask[2], float scale_log2)
{
    int lane = stack_lane();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = state.most[half];
        uint64_t seen = mask[half] >> (2 * (lane % 4));
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float x =
                    seen >> (8 * n + c) & 1 ? s[n][2 * half + c] * scale_log2 : MINUS_INFINITY;
                s[n][2 * half + c] = x;
                most = fmaxf(most, x);
            }
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
        float base = most == MINUS_INFINITY ? 0 : most;
        float factor = exp2f(state.most[half] - base); /* 0 before the first */
        float sum = state.sum[half] * factor;
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float weight = exp2f(s[n][2 * half + c] - base);
                s[n][2 * half + c] = weight;
                sum += weight;
            }
        state.most[half] = most;
        state.sum[half] = sum;
#pragma unroll
        for (int n = 0; n < KV / 8; n++) {
            state.out[n][2 * half] *= factor;
            state.out[n][2 * half + 1] *= factor;
        }
    }
}

static __device__ __forceinline__ void accumulate(struct state &state,
                                                  const float weight[AGON_CUDA_PAGE / 8][4],
                                                  uint32_t tile)
{
    int lane = stack_lane(), matrix = lane / 8;
    uint32_t at = tile + ((matrix & 1) * 8 + lane % 8) * TILE_STRIDE + (matrix >> 1) * 16;
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++) {
        const float *low = weight[2 * k], *high = weight[2 * k + 1];
        uint32_t a[4] = {bf16_pack(low[0], low[1]), bf16_pack(low[2], low[3]),
                         bf16_pack(high[0], high[1]), bf16_pack(high[2], high[3])};
#pragma unroll
        for (int n = 0; n < KV / 16; n++) {
            uint32_t b[4];
            mma_load_transposed(b, at + k * 16 * TILE_STRIDE + n * 32);
            mma(state.out[2 * n], a, b[0], b[1]);
            mma(state.out[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* All pages of a list, for one tile; the list's tiles of the cache are at `at`, two of them. */
static __device__ __forceinline__ void run_list(struct state &state, const struct own_rows *own,
                                                uint32_t q, uint32_t at, const struct agon_stack &p,
                                                const struct stack_place &place,
                                                const char *latents, int tile, int list,
                                                int n_threads)
{
    int thread = tile * 32 + stack_lane(), n = own->n_items[list], row[2];
    for (int half = 0; half < 2; half++)
        row[half] = (tile * 16 + stack_lane() / 4 + 8 * half) / p.n_heads;
    int first = tile * 16 / p.n_heads, last = (tile * 16 + 15) / p.n_heads;
    if (n > 0)
        fetch(at, latents, own->items[list][0].page, thread, n_threads);
    for (int i = 0; i < n; i++) {
        struct item item = own->items[list][i];
        if (i + 1 < n)
            fetch(at + (i + 1) % 2 * TILE_BYTES, latents, own->items[list][i + 1].page, thread,
                  n_threads);
        else
            mma_copies_end();
        mma_copies_wait<1>();
        barrier_some(list + 1, n_threads);
        if (item.row < 0 || (item.row >= first && item.row <= last)) {
            float s[AGON_CUDA_PAGE / 8][4];
            uint64_t seen[2];
            for (int half = 0; half < 2; half++)
                seen[half] = row[half] < place.n_own && (item.row < 0 || item.row == row[half])
                                 ? own->mask[row[half]][item.index]
                                 : 0;
            score(s, q, at + i % 2 * TILE_BYTES);
            weigh(state, s, seen, p.softmax_scale * 1.44269504F);
            accumulate(state, s, at + i % 2 * TILE_BYTES);
        }
        barrier_some(list + 1, n_threads); /* the tile is written again */
    }
    mma_copies_wait<0>();
}

/* What a list has found: partial [list][ld][KV + 2]. */
static __device__ __forceinline__ void write_partial(float *partial, const struct state &state,
                                                     int tile, int list, int ld)
{
    int lane = stack_lane();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = state.sum[half];
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        int m = tile * 16 + lane / 4 + 8 * half;
        float *to = partial + ((size_t)list * ld + m) * (KV + 2);
        if (lane % 4 == 0) {
            to[KV] = state.most[half];
            to[KV + 1] = sum;
        }
#pragma unroll
        for (int n = 0; n < KV / 8; n++)
            *(float2 *)(to + 8 * n + 2 * (lane % 4)) =
                make_float2(state.out[n][2 * half], state.out[n][2 * half + 1]);
    }
}

/* out [n][KV] of n query heads, from all lists. */
static __device__ void merge_lists(uint16_t *out, const float *partial, int n, int ld)
{
    for (int i = stack_thread(); i < n * KV; i += STACK_THREADS) {
        int m = i / KV, d = i % KV;
        float most = MINUS_INFINITY, sum = 0, value = 0;
        for (int l = 0; l < N_LISTS; l++)
            most = fmaxf(most, partial[((size_t)l * ld + m) * (KV + 2) + KV]);
        for (int l = 0; l < N_LISTS && most > MINUS_INFINITY; l++) {
            const float *from = partial + ((size_t)l * ld + m) * (KV + 2);
            float factor = exp2f(from[KV] - most);
            sum = fmaf(factor, from[KV + 1], sum);
            value = fmaf(factor, from[d], value);
        }
        out[i] = bf16_encode(sum > 0 ? value / sum : 0);
    }
}

/* Queries of the block's rows to shared memory, [n rounded up to 16][TILE_STRIDE bytes]. */
static __device__ __forceinline__ void load_queries(char *to, const uint16_t *from, int n)
{
    uint32_t at = mma_address(to);
    for (int i = stack_thread(); i < (n + 15) / 16 * 16 * (ENTRY / 8); i += STACK_THREADS) {
        int m = i / (ENTRY / 8), chunk = i % (ENTRY / 8);
        mma_copy16(at + m * TILE_STRIDE + chunk * 16,
                   from + (size_t)(m < n ? m : 0) * ENTRY + chunk * 8, m < n);
    }
    mma_copies_end();
}

/* attended of the block's rows; room for N_LISTS pairs of tiles and the queries, or for what the
 * lists find. */
static __device__ void attend_rows(struct own_rows *own, const struct agon_stack &p,
                                   const struct stack_place &at, const struct stack_buffers &b,
                                   const char *latents, char *room)
{
    int n = at.n_own * p.n_heads, n_tiles = (n + 15) / 16;
    int tile = stack_warp() / N_LISTS, list = stack_warp() % N_LISTS;
    char *queries = room + N_LISTS * 2 * TILE_BYTES;
    struct state state = {};
    state.most[0] = state.most[1] = MINUS_INFINITY;
    load_queries(queries, b.query + (size_t)at.own0 * stack_width(p), n);
    mma_copies_wait<0>();
    __syncthreads();
    if (tile < n_tiles) {
        uint32_t q = mma_address(queries) + (tile * 16 + stack_lane() % 16) * TILE_STRIDE +
                     stack_lane() / 16 * 16;
        run_list(state, own, q, mma_address(room) + list * 2 * TILE_BYTES, p, at, latents, tile,
                 list, 32 * n_tiles);
    }
    __syncthreads(); /* the tiles give way to what the lists have found */
    if (tile < n_tiles)
        write_partial((float *)room, state, tile, list, n_tiles * 16);
    __syncthreads();
    merge_lists(b.attended + (size_t)at.own0 * p.n_heads * KV, (const float *)room, n,
                n_tiles * 16);
}
