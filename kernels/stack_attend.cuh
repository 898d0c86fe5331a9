#pragma once
/*
 * Attention of a block's rows (stack.cu): two rows' query heads are a tile of 16, 8 for each, of
 * which the last are none. Page i of a row is in list i % ATTEND_LISTS; four warps are a list: one
 * of their threads has its pages copied, the next while one is computed, and they share out its
 * tiles; where there are fewer tiles than warps, PARTS of them share a tile: each scores some of
 * the page's keys, and sums up some of the values' columns (weights go through shared memory). What
 * is added up in which order is the same for any PARTS. A page that all rows of the block have is
 * read once for all, any other once for each row that has it. What is not selected weighs nothing.
 *   scores  S[16][64] = Q[16][144] K^T     mma.m16n8k16, 8 x 9 of them
 *   output  O[16][128] += P[16][64] V      16 x 4; V is the first 128 of the same entries
 */
#include "kernels/hopper.cuh"
#include "kernels/stack_select.cuh"

enum {
    KV = AGON_STACK_KV,
    ENTRY = AGON_STACK_ENTRY,
    LIST_WARPS = ATTEND_WARPS / ATTEND_LISTS,
    LIST_PLACES = 2, /* for pages */
    HEADS = 8,       /* of a row in a tile */
    TILE_ROWS = 16 / HEADS,
    TILES_MAX = STACK_OWN_MAX / TILE_ROWS,
    Q_ENTRY_STRIDE = (ENTRY + 8) * 2, /* bytes: eight heads lie in different banks */
    PAGE_BYTES = AGON_CUDA_PAGE * ENTRY * 2,
    VALUE_BYTES = KV * 2,
    REST_AT = AGON_CUDA_PAGE * VALUE_BYTES, /* in a page */
    REST_BYTES = (ENTRY - KV) * 2,
    WEIGHTS_STRIDE = (AGON_CUDA_PAGE + 8) * 2,
    WEIGHTS_BYTES = 16 * WEIGHTS_STRIDE,
    MOST_FLOATS = LIST_WARPS * 16,
    FOUND_LD = KV + 4,
    PAGES_BYTES = ATTEND_LISTS * LIST_PLACES * PAGE_BYTES,
};
static_assert((int)AGON_STACK_HEADS_MAX <= (int)HEADS, "a row's heads are half of a tile");
static_assert(TILES_MAX <= LIST_WARPS, "each tile has a warp of each list");
static_assert(ATTEND_LISTS * TILES_MAX * 16 * FOUND_LD * 4 <= PAGES_BYTES,
              "what the lists find goes where the pages were");
#define MINUS_INFINITY __int_as_float(0xff800000)

/* Where the stage's parts lie in its room, of n_tiles tiles. */
struct attend_room {
    char *pages, *queries, *weights;
    float *most;
};
static __host__ __device__ inline size_t attend_bytes(int n_tiles)
{
    size_t shared =
        n_tiles <= 2 ? (size_t)ATTEND_LISTS * (2 * WEIGHTS_BYTES + MOST_FLOATS * sizeof(float)) : 0;
    return PAGES_BYTES + (size_t)n_tiles * 16 * Q_ENTRY_STRIDE + shared;
}
static __device__ __forceinline__ struct attend_room attend_room_of(char *room, int n_tiles)
{
    struct attend_room r;
    r.pages = room;
    r.queries = room + PAGES_BYTES;
    r.weights = r.queries + n_tiles * 16 * Q_ENTRY_STRIDE;
    r.most = (float *)(r.weights + ATTEND_LISTS * 2 * WEIGHTS_BYTES);
    return r;
}

/* Of each place for a page: that it has come, that all warps are done with it. */
struct own_barriers {
    uint64_t came[ATTEND_LISTS * LIST_PLACES], done[ATTEND_LISTS * LIST_PLACES];
};

/* What a warp keeps of its tile: the lane's heads are lane / 4 of both rows. sum: as a column. */
template <int PARTS> struct attend_state {
    float out[KV / 8 / PARTS][4], sum[4];
    float most[2];
};

/* A warp of a list, at its work on one tile. */
struct attend_warp {
    int list, tile, part; /* tile: -1: none */
    uint32_t q;           /* this lane's address of 16 queries */
    uint32_t weights;     /* of the tile's weights; the lane writes at its own place */
    float *most;          /* [PARTS][16] */
};

static __device__ __forceinline__ void list_sync(int list)
{
    barrier_some(list + 1, LIST_WARPS * 32);
}

/* A page to shared memory: a thread. */
static __device__ __forceinline__ void fetch(uint32_t to, const char *latents, int page,
                                             uint32_t came)
{
    barrier_expect(came, PAGE_BYTES);
    copy_bytes(to, latents + (size_t)page * PAGE_BYTES, PAGE_BYTES, came);
}

/* Queries of a tile, 16 values after the other: held, or read each time where PARTS is 1 and the
 * output needs the registers. */
template <int PARTS> struct tile_queries {
    uint32_t q[ENTRY / 16][4];
};
template <> struct tile_queries<1> {
};
template <int PARTS>
static __device__ __forceinline__ void queries_hold(struct tile_queries<PARTS> &held, uint32_t q)
{
    if constexpr (PARTS > 1)
#pragma unroll
        for (int k = 0; k < ENTRY / 16; k++)
            mma_load(held.q[k], q + k * 32);
}

/*
 * Scores of this part's entries of the page at `page`: s[n / 8] holds columns n .. n + 7. Unit u
 * of entry e lies at u ^ e % 8 (agon_stack_entry_at()): pages begin at multiples of 256, so that
 * the unit of another step is a change of some bits of the address.
 */
template <int PARTS>
static __device__ __forceinline__ void score(float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                             const struct tile_queries<PARTS> &held, uint32_t q,
                                             uint32_t page, int part)
{
    enum { N = AGON_CUDA_PAGE / 16 / PARTS };
    int lane = stack_lane(), matrix = lane / 8;
    int entry = part * N * 16 + (matrix >> 1) * 8 + lane % 8;
    uint32_t at = page + entry * VALUE_BYTES + ((matrix & 1) ^ lane % 8) * 16;
    uint32_t rest = page + REST_AT + entry * REST_BYTES + ((matrix & 1) ^ lane / 4 % 2) * 16;
#pragma unroll
    for (int n = 0; n < 2 * N; n++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[n][c] = 0;
#pragma unroll
    for (int k = 0; k < ENTRY / 16; k++) {
        uint32_t a[4];
        if constexpr (PARTS == 1)
            mma_load(a, q + k * 32);
        else
#pragma unroll
            for (int i = 0; i < 4; i++)
                a[i] = held.q[k][i];
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint32_t b[4];
            mma_load(b, k < KV / 16 ? (at ^ k * 32) + n * 16 * VALUE_BYTES
                                    : rest + n * 16 * REST_BYTES);
            mma(s[2 * n], a, b[0], b[1]);
            mma(s[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* What is not in `seen` (64 bits for each of the lane's rows) out of the way; the most of each
 * row's scores, of this part. */
template <int PARTS>
static __device__ __forceinline__ void see(float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                           float (&most)[2], const uint64_t (&seen)[2], int part)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint64_t bits = seen[half] >> (2 * (stack_lane() % 4) + part * (AGON_CUDA_PAGE / PARTS));
        uint32_t low = (uint32_t)bits, high = (uint32_t)(bits >> 32);
        float found[2] = {MINUS_INFINITY, MINUS_INFINITY};
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                uint32_t bit = 1U << (8 * (n % 4) + c);
                float *x = &s[n][2 * half + c];
                *x = (n < 4 ? low : high) & bit ? *x : MINUS_INFINITY;
                found[c] = fmaxf(found[c], *x);
            }
        most[half] = fmaxf(found[0], found[1]);
        most[half] = fmaxf(most[half], __shfl_xor_sync(~0u, most[half], 1));
        most[half] = fmaxf(most[half], __shfl_xor_sync(~0u, most[half], 2));
    }
}

/* Scores, times `scale`, to weights, against the most that was ever seen; what was summed before
 * follows. */
template <int PARTS>
static __device__ __forceinline__ void weigh(struct attend_state<PARTS> &state,
                                             float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                             const float (&most)[2], float scale)
{
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float now = fmaxf(state.most[half], most[half] * scale);
        float base = now == MINUS_INFINITY ? 0 : -now;
        factor[half] = exp2_fast(state.most[half] + base); /* 0 before the first */
        state.most[half] = now;
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++)
#pragma unroll
            for (int c = 0; c < 2; c++)
                s[n][2 * half + c] = exp2_fast(fmaf(s[n][2 * half + c], scale, base));
    }
    if (!__any_sync(~0u, factor[0] != 1 || factor[1] != 1))
        return;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int n = 0; n < KV / 8 / PARTS; n++) {
            state.out[n][2 * half] *= factor[half];
            state.out[n][2 * half + 1] *= factor[half];
        }
        state.sum[2 * half] *= factor[half];
        state.sum[2 * half + 1] *= factor[half];
    }
}

/* The part's columns of the output, and the weights' sums. a[k]: weights of 16 entries. */
template <int PARTS>
static __device__ __forceinline__ void accumulate(struct attend_state<PARTS> &state,
                                                  const uint32_t (&a)[AGON_CUDA_PAGE / 16][4],
                                                  uint32_t page, int part)
{
    enum { ONES = 0x3f803f80 };
    int lane = stack_lane(), matrix = lane / 8;
    uint32_t at = page + ((matrix & 1) * 8 + lane % 8) * VALUE_BYTES +
                  ((matrix >> 1) ^ lane % 8 ^ part * (KV / 8 / PARTS)) * 16;
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++) {
        mma(state.sum, a[k], ONES, ONES);
#pragma unroll
        for (int n = 0; n < KV / 16 / PARTS; n++) {
            uint32_t b[4];
            mma_load_transposed(b, (at ^ n * 32) + k * 16 * VALUE_BYTES);
            mma(state.out[2 * n], a[k], b[0], b[1]);
            mma(state.out[2 * n + 1], a[k], b[2], b[3]);
        }
    }
}

/* Weights from the lanes that made them to those that multiply with them: for one warp, they are
 * where they should be. */
static __device__ __forceinline__ void weights_pack(uint32_t (&a)[AGON_CUDA_PAGE / 16][4],
                                                    const float (&s)[AGON_CUDA_PAGE / 8][4])
{
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[k][i] = bf16_pack(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]);
}
template <int PARTS>
static __device__ __forceinline__ void weights_put(const struct attend_warp &w,
                                                   const float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4])
{
    int lane = stack_lane();
    char *to = block_shared() + w.weights + lane / 4 * WEIGHTS_STRIDE + lane % 4 * 4 +
               w.part * (AGON_CUDA_PAGE / PARTS * 2);
#pragma unroll
    for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++) {
        *(uint32_t *)(to + n * 16) = bf16_pack(s[n][0], s[n][1]);
        *(uint32_t *)(to + 8 * WEIGHTS_STRIDE + n * 16) = bf16_pack(s[n][2], s[n][3]);
    }
}

/* A page, by the PARTS warps of a tile, which meet twice on the way. */
template <int PARTS>
static __device__ __forceinline__ void attend_page(struct attend_state<PARTS> &state,
                                                   const struct tile_queries<PARTS> &held,
                                                   const struct attend_warp &w,
                                                   const uint64_t (&seen)[2], uint32_t page,
                                                   float scale, bool mine)
{
    float s[AGON_CUDA_PAGE / 8 / PARTS][4], most[2];
    uint32_t a[AGON_CUDA_PAGE / 16][4];
    int lane = stack_lane();
    if (mine) {
        score<PARTS>(s, held, w.q, page, w.part);
        see<PARTS>(s, most, seen, w.part);
    }
    if constexpr (PARTS == 1) {
        if (!mine)
            return;
        weigh<PARTS>(state, s, most, scale);
        weights_pack(a, s);
    } else {
        if (mine && lane % 4 == 0) {
            w.most[w.part * 16 + lane / 4] = most[0];
            w.most[w.part * 16 + lane / 4 + 8] = most[1];
        }
        list_sync(w.list);
        if (mine) {
#pragma unroll
            for (int i = 0; i < PARTS; i++) {
                most[0] = fmaxf(most[0], w.most[i * 16 + lane / 4]);
                most[1] = fmaxf(most[1], w.most[i * 16 + lane / 4 + 8]);
            }
            weigh<PARTS>(state, s, most, scale);
            weights_put<PARTS>(w, s);
        }
        list_sync(w.list);
        if (!mine)
            return;
#pragma unroll
        for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
            mma_load(a[k], mma_address(block_shared()) + w.weights + lane % 16 * WEIGHTS_STRIDE +
                               lane / 16 * 16 + k * 32);
    }
    accumulate<PARTS>(state, a, page, w.part);
}

/* ---- lists -------------------------------------------------------------------------- */

/* The warp's list, and its number among the list's: every list has each number in another quarter
 * of the multiprocessor. */
static __device__ __forceinline__ int warp_list(void)
{
    return stack_warp() / LIST_WARPS;
}
static __device__ __forceinline__ int warp_number(void)
{
    return (stack_warp() + warp_list()) % LIST_WARPS;
}
/* The thread that has its list's pages copied. */
static __device__ __forceinline__ bool list_leads(void)
{
    return warp_number() == 0 && stack_lane() == 0;
}

/* A warp two of them: lanes would make them one after the other. */
static __device__ __forceinline__ void barriers_init(struct own_barriers *barriers, int n_own)
{
    int n_tiles = agon_ceil_div(n_own, TILE_ROWS), i = stack_warp();
    static_assert((int)(ATTEND_LISTS * LIST_PLACES) <= (int)ATTEND_WARPS, "a warp a place");
    if (stack_lane() == 0 && i < ATTEND_LISTS * LIST_PLACES) {
        barrier_init(mma_address(&barriers->came[i]), 1);
        barrier_init(mma_address(&barriers->done[i]), n_tiles <= 2 ? LIST_WARPS : n_tiles);
    }
}

/* A list's first pages, as many as there is room for: a thread. */
static __device__ __forceinline__ void pages_begin(const struct own_pages *pages,
                                                   struct own_barriers *barriers, int list,
                                                   const char *latents, char *to)
{
    int begin = pages->begin[list];
    int n = min(pages->begin[list + 1] - begin, (int)LIST_PLACES);
#pragma unroll 1
    for (int i = 0; i < n; i++)
        fetch(mma_address(to) + (list * LIST_PLACES + i) * PAGE_BYTES, latents,
              pages->items[begin + i].page, mma_address(&barriers->came[list * LIST_PLACES + i]));
}

/* All pages of a list, the first n_begun of which are under way. */
template <int PARTS>
static __device__ __forceinline__ void run_list(
    struct attend_state<PARTS> &state, const struct attend_warp &w, const struct own_rows *own,
    const struct own_pages *pages, struct own_barriers *barriers, uint32_t at,
    const struct agon_stack &p, int n_own, const char *latents, int n_begun)
{
    const struct page_item *items = pages->items + pages->begin[w.list];
    int n = pages->begin[w.list + 1] - pages->begin[w.list];
    uint32_t came = mma_address(&barriers->came[w.list * LIST_PLACES]);
    uint32_t done = mma_address(&barriers->done[w.list * LIST_PLACES]);
    bool leads = list_leads();
    float scale = p.softmax_scale * 1.44269504F;
    struct tile_queries<PARTS> held;
    queries_hold(held, w.q);
    at += w.list * LIST_PLACES * PAGE_BYTES;
    if (leads)
        for (int i = n_begun; i < min(n, (int)LIST_PLACES); i++)
            fetch(at + i * PAGE_BYTES, latents, items[i].page, came + i * 8);
#pragma unroll 1
    for (int i = 0; i < n; i++) {
        struct page_item item = items[i];
        int place = i % LIST_PLACES, next = i + 1, other = next % LIST_PLACES;
        if (leads && next >= LIST_PLACES && next < n) {
            barrier_wait(done + other * 8, (next / LIST_PLACES - 1) % 2);
            fetch(at + other * PAGE_BYTES, latents, items[next].page, came + other * 8);
        }
        __syncwarp();
        barrier_wait(came + place * 8, i / LIST_PLACES % 2);
        bool mine = w.tile >= 0 && (item.row < 0 || item.row / TILE_ROWS == w.tile);
        uint64_t seen[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = w.tile * TILE_ROWS + half;
            seen[half] = mine && row < n_own && (item.row < 0 || item.row == row)
                             ? own->mask[row][item.index]
                             : 0;
        }
        attend_page<PARTS>(state, held, w, seen, at + place * PAGE_BYTES, scale,
                           mine && __any_sync(~0u, (seen[0] | seen[1]) != 0));
        __syncwarp();
        if (stack_lane() == 0)
            barrier_arrive(done + place * 8);
    }
}

/* What a list has found: partial [list][ld][FOUND_LD], the most and the sum behind the values. */
template <int PARTS>
static __device__ __forceinline__ void write_partial(float *partial,
                                                     const struct attend_state<PARTS> &state,
                                                     const struct attend_warp &w, int ld)
{
    int lane = stack_lane();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int m = w.tile * 16 + lane / 4 + 8 * half;
        float *to = partial + ((size_t)w.list * ld + m) * FOUND_LD;
        if (lane % 4 == 0 && w.part == 0)
            *(float2 *)(to + KV) = make_float2(state.most[half], state.sum[2 * half]);
        to += w.part * (KV / PARTS) + 2 * (lane % 4);
#pragma unroll
        for (int n = 0; n < KV / 8 / PARTS; n++)
            *(float2 *)(to + 8 * n) =
                make_float2(state.out[n][2 * half], state.out[n][2 * half + 1]);
    }
}

/* out [n_own][n_heads][KV], from all lists: a warp a head. */
static __device__ void merge_lists(uint16_t *out, const float *partial, int n_own, int n_heads,
                                   int ld)
{
#pragma unroll 1
    for (int i = stack_warp(); i < n_own * n_heads; i += ATTEND_WARPS) {
        const float *from = partial + (size_t)(i / n_heads * HEADS + i % n_heads) * FOUND_LD;
        size_t list = (size_t)ld * FOUND_LD;
        float most = MINUS_INFINITY, sum = 0;
        float2 found[ATTEND_LISTS];
        float4 value = make_float4(0, 0, 0, 0);
#pragma unroll
        for (int l = 0; l < ATTEND_LISTS; l++) {
            found[l] = *(const float2 *)(from + l * list + KV);
            most = fmaxf(most, found[l].x);
        }
        most = most == MINUS_INFINITY ? 0 : most;
#pragma unroll
        for (int l = 0; l < ATTEND_LISTS; l++) {
            float4 v = ((const float4 *)(from + l * list))[stack_lane()];
            float factor = exp2_fast(found[l].x - most);
            sum = fmaf(factor, found[l].y, sum);
            value.x = fmaf(factor, v.x, value.x);
            value.y = fmaf(factor, v.y, value.y);
            value.z = fmaf(factor, v.z, value.z);
            value.w = fmaf(factor, v.w, value.w);
        }
        float by = sum > 0 ? 1 / sum : 0;
        ((uint2 *)(out + (size_t)i * KV))[stack_lane()] = make_uint2(
            half_pack(value.x * by, value.y * by), half_pack(value.z * by, value.w * by));
    }
}

/* Queries of the block's rows to shared memory, [n_tiles][TILE_ROWS][HEADS][Q_ENTRY_STRIDE bytes].
 */
static __device__ __forceinline__ void load_queries(char *to, const uint16_t *from, int n_own,
                                                    int n_heads, int n_tiles)
{
    uint32_t at = mma_address(to);
#pragma unroll 1
    for (int m = stack_warp(); m < n_tiles * 16; m += ATTEND_WARPS) {
        int row = m / HEADS, head = m % HEADS;
        bool there = row < n_own && head < n_heads;
        if (stack_lane() < ENTRY / 8)
            mma_copy16(at + m * Q_ENTRY_STRIDE + stack_lane() * 16,
                       from + (size_t)(there ? row * n_heads + head : 0) * ENTRY + stack_lane() * 8,
                       there);
    }
    mma_copies_end();
}

template <int PARTS>
static __device__ __forceinline__ void attend_parts(
    const struct own_rows *own, const struct own_pages *pages, struct own_barriers *barriers,
    const struct agon_stack &p, int n_own, const char *latents, const struct attend_room &room,
    int n_tiles, int n_begun)
{
    struct attend_state<PARTS> state = {
    };
    struct attend_warp w;
    int number = warp_number();
    w.list = warp_list();
    w.tile = number / PARTS < n_tiles ? number / PARTS : -1;
    w.part = number % PARTS;
    w.q = mma_address(room.queries) + (w.tile * 16 + stack_lane() % 16) * Q_ENTRY_STRIDE +
          stack_lane() / 16 * 16;
    w.weights = (uint32_t)(room.weights - block_shared()) + (w.list * 2 + w.tile) * WEIGHTS_BYTES;
    w.most = room.most + w.list * MOST_FLOATS + w.tile * PARTS * 16;
    state.most[0] = state.most[1] = MINUS_INFINITY;
    if (w.tile >= 0)
        run_list<PARTS>(state, w, own, pages, barriers, mma_address(room.pages), p, n_own, latents,
                        n_begun);
    __syncthreads(); /* the pages give way to what the lists have found */
    if (w.tile >= 0)
        write_partial<PARTS>((float *)room.pages, state, w, n_tiles * 16);
}

/* attended of the block's rows; room: attend_bytes(). */
static __device__ void attend_rows(const struct own_rows *own, const struct own_pages *pages,
                                   struct own_barriers *barriers, const struct agon_stack &p,
                                   const struct own_place &at, const struct stack_buffers &b,
                                   const char *latents, char *room, int n_begun)
{
    int n_tiles = agon_ceil_div(at.n_own, TILE_ROWS);
    struct attend_room parts = attend_room_of(room, n_tiles);
    load_queries(parts.queries, b.query + (size_t)at.own0 * p.n_heads * ENTRY, at.n_own, p.n_heads,
                 n_tiles);
    mma_copies_wait<0>();
    __syncthreads();
    if (n_tiles == 1)
        attend_parts<4>(own, pages, barriers, p, at.n_own, latents, parts, n_tiles, n_begun);
    else if (n_tiles == 2)
        attend_parts<2>(own, pages, barriers, p, at.n_own, latents, parts, n_tiles, n_begun);
    else
        attend_parts<1>(own, pages, barriers, p, at.n_own, latents, parts, n_tiles, n_begun);
    __syncthreads();
    merge_lists(b.attended + (size_t)at.own0 * p.n_heads * KV, (const float *)room, at.n_own,
                p.n_heads, n_tiles * 16);
}

/* scores_at: where the scores of selection lie in the room, behind its keys; where that is behind
 * the pages, too, these come while the k best are looked for. */
static __global__ void __launch_bounds__(ATTEND_THREADS, 1)
    attend_kernel(const __grid_constant__ struct agon_stack p,
                  const __grid_constant__ struct stack_buffers b, int layer, int n_each,
                  int scores_at)
{
    struct own_pages *pages = (struct own_pages *)block_shared();
    struct own_rows *own = (struct own_rows *)(block_shared() + bytes_up(sizeof(*pages)));
    struct own_barriers *barriers = (struct own_barriers *)((char *)own + bytes_up(sizeof(*own)));
    char *room = (char *)barriers + bytes_up(sizeof(*barriers));
    const char *latents = p.latents + layer * p.latent_layer_bytes;
    float *scores = (float *)(room + scores_at);
    struct own_place at;
    int n_begun = 0;
    at.own0 = blockIdx.x * n_each;
    at.n_own = min(n_each, p.rows.n_rows - at.own0);
    char *plan = b.plans + (size_t)at.own0 * STACK_PLAN_ROW;
    selection_init(own, pages, layer > 0 ? plan : NULL, plan_bytes(p, n_each));
    barriers_init(barriers, at.n_own);
    barriers_made();
    if (layer == 0)
        pages_init(pages, p, at, plan);
    else
        __syncthreads();
    struct keys_flow keys =
        keys_flow_of(pages, own, p.keys + layer * p.keys_layer_bytes, room, scores_at);
    if (layer > 0)
        barrier_wait(mma_address(&own->keys.plan), 0);
    if (pages->selects && p.apart)
        keys_begin(keys, false);
    depends_wait();
    struct queries_part queries = queries_load(p, at, b);
    if (pages->selects) {
        if (!p.apart)
            keys_begin(keys, false);
        keys_begin(keys, true);
    }
    queries_store(own, queries, p, at.n_own);
    __syncthreads();
    int ld_scores = pages->n_words * AGON_CUDA_PAGE + SCORES_APART;
    if (pages->selects)
        select_scores(own, keys, p.index_heads, room, scores, ld_scores, at.n_own);
    __syncthreads();
    if (scores_at >= PAGES_BYTES) {
        int list = stack_warp() - (ATTEND_WARPS - ATTEND_LISTS); /* of warps that choose least */
        if (list >= 0 && stack_lane() == 0)
            pages_begin(pages, barriers, list, latents, room);
        n_begun = LIST_PLACES;
    }
    select_masks(own, p, at, pages, scores, ld_scores);
    shared_written(); /* scores, perhaps where pages are copied to */
    __syncthreads();
    attend_rows(own, pages, barriers, p, at, b, latents, room, n_begun);
}

static size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Shared memory of n_each rows that see up to n_max positions; *ret_scores_at: as above, behind as
 * many pages of keys as there is room for. */
static size_t attend_kernel_bytes(int *ret_scores_at, const struct agon_stack *p, int n_each,
                                  int n_max)
{
    int n_tiles = agon_ceil_div(n_each, TILE_ROWS), n_pages = agon_ceil_div(n_max, AGON_CUDA_PAGE);
    size_t scores = (size_t)n_each * (n_pages * AGON_CUDA_PAGE + SCORES_APART) * sizeof(float);
    size_t fixed = bytes_up(sizeof(struct own_pages)) + bytes_up(sizeof(struct own_rows)) +
                   bytes_up(sizeof(struct own_barriers));
    /* The last block may have fewer rows, and two tiles take more than three. */
    size_t room = larger_of(attend_bytes(n_tiles), attend_bytes(n_tiles < 2 ? n_tiles : 2)), keys;
    for (int places = KEYS_PLACES_MAX; places > 0; places--) {
        keys = (size_t)places * KEYS_LISTS * KEYS_PAGE_BYTES;
        if (places == KEYS_PLACES_MAX)
            keys = larger_of(keys, PAGES_BYTES);
        if (fixed + keys + scores <= STACK_SHARED_MAX)
            break;
    }
    *ret_scores_at = (int)keys;
    return fixed + larger_of(room, keys + scores);
}
