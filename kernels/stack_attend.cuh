#pragma once
/*
 * Attention of a block's rows (stack.cu): the rows' query heads are cut in tiles of 16. Page i of a
 * row is in list i % ATTEND_LISTS; four warps are a list: they bring its pages by cp.async, one
 * while the one before is computed, and share out its tiles; where there are fewer tiles than
 * warps, PARTS of them share a tile: each scores some of the page's keys, and sums up some of the
 * values' columns (weights go through shared memory). What is added up in which order is the same
 * for any PARTS. A page that all rows of the block have is read once for all, any other once for
 * each row that has it. What is not selected weighs nothing. scores  S[16][64] = Q[16][144] K^T
 * mma.m16n8k16, 8 x 9 of them output  O[16][128] += P[16][64] V     16 x 4; V is the first 128 of
 * the same entries
 */
#include "kernels/stack_select.cuh"

enum {
    KV = AGON_STACK_KV,
    ENTRY = AGON_STACK_ENTRY,
    LIST_WARPS = ATTEND_WARPS / ATTEND_LISTS,
    TILE_STRIDE = (ENTRY + 8) * 2, /* bytes: eight rows lie in different banks */
    TILE_BYTES = AGON_CUDA_PAGE * TILE_STRIDE,
    WEIGHTS_STRIDE = (AGON_CUDA_PAGE + 8) * 2,
    WEIGHTS_BYTES = 16 * WEIGHTS_STRIDE,
    MOST_FLOATS = LIST_WARPS * 16,
    FOUND_LD = KV + 4,
    TILES_BYTES = ATTEND_LISTS * 2 * TILE_BYTES,
};
#define MINUS_INFINITY __int_as_float(0xff800000)

/* Where the stage's parts lie in its room; n: query heads, rounded up. */
struct attend_room {
    char *tiles, *queries, *weights;
    float *most;
};
static __host__ __device__ inline size_t attend_bytes(int n_heads)
{
    size_t shared =
        n_heads <= 32 ? (size_t)ATTEND_LISTS * (2 * WEIGHTS_BYTES + MOST_FLOATS * 4) : 0;
    return TILES_BYTES + (size_t)n_heads * TILE_STRIDE + shared;
}
static __device__ __forceinline__ struct attend_room attend_room_of(char *room, int n_heads)
{
    struct attend_room r;
    r.tiles = room;
    r.queries = room + TILES_BYTES;
    r.weights = r.queries + n_heads * TILE_STRIDE;
    r.most = (float *)(r.weights + ATTEND_LISTS * 2 * WEIGHTS_BYTES);
    return r;
}

/* What a warp keeps of its tile: the lane's rows are lane / 4 and lane / 4 + 8. sum: as a column.
 */
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

/* A quarter of a page to shared memory, by each warp of a list. */
static __device__ __forceinline__ void fetch(uint32_t to, const char *latents, int page,
                                             int quarter)
{
    enum { ROWS = AGON_CUDA_PAGE / LIST_WARPS };
    int lane = stack_lane();
    const char *from =
        latents + ((size_t)page * AGON_CUDA_PAGE + quarter * ROWS) * (ENTRY * 2) + lane * 16;
    to += quarter * ROWS * TILE_STRIDE + lane * 16;
    if (lane < ENTRY / 8)
#pragma unroll
        for (int i = 0; i < ROWS; i++)
            mma_copy16(to + i * TILE_STRIDE, from + i * ENTRY * 2, true);
    mma_copies_end();
}

/* Scores of this part's entries of the page at `tile`: s[n / 8] holds columns n .. n + 7. */
template <int PARTS>
static __device__ __forceinline__ void score(float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4], uint32_t q,
                                             uint32_t tile, int part)
{
    enum { N = AGON_CUDA_PAGE / 16 / PARTS };
    int lane = stack_lane(), matrix = lane / 8;
    uint32_t at =
        tile + (part * N * 16 + (matrix >> 1) * 8 + lane % 8) * TILE_STRIDE + (matrix & 1) * 16;
#pragma unroll
    for (int n = 0; n < 2 * N; n++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[n][c] = 0;
#pragma unroll
    for (int k = 0; k < ENTRY / 16; k++) {
        uint32_t a[4];
        mma_load(a, q + k * 32);
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint32_t b[4];
            mma_load(b, at + n * 16 * TILE_STRIDE + k * 32);
            mma(s[2 * n], a, b[0], b[1]);
            mma(s[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* Scores by scale, what is not in `seen` (64 bits for each of the lane's rows) out of the way; the
 * most of each row's, of this part. */
template <int PARTS>
static __device__ __forceinline__ void see(float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                           float (&most)[2], const uint64_t (&seen)[2], float scale,
                                           int part)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint64_t bits = seen[half] >> (2 * (stack_lane() % 4) + part * (AGON_CUDA_PAGE / PARTS));
        uint32_t low = (uint32_t)bits, high = (uint32_t)(bits >> 32);
        most[half] = MINUS_INFINITY;
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                uint32_t bit = 1U << (8 * (n % 4) + c);
                float x = (n < 4 ? low : high) & bit ? s[n][2 * half + c] * scale : MINUS_INFINITY;
                s[n][2 * half + c] = x;
                most[half] = fmaxf(most[half], x);
            }
        most[half] = fmaxf(most[half], __shfl_xor_sync(~0u, most[half], 1));
        most[half] = fmaxf(most[half], __shfl_xor_sync(~0u, most[half], 2));
    }
}

/* Scores to weights, against the most that was ever seen; what was summed before follows. */
template <int PARTS>
static __device__ __forceinline__ void weigh(struct attend_state<PARTS> &state,
                                             float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                             const float (&most)[2])
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float now = fmaxf(state.most[half], most[half]);
        float base = now == MINUS_INFINITY ? 0 : now;
        float factor = exp2_fast(state.most[half] - base); /* 0 before the first */
        state.most[half] = now;
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++)
#pragma unroll
            for (int c = 0; c < 2; c++)
                s[n][2 * half + c] = exp2_fast(s[n][2 * half + c] - base);
#pragma unroll
        for (int n = 0; n < KV / 8 / PARTS; n++) {
            state.out[n][2 * half] *= factor;
            state.out[n][2 * half + 1] *= factor;
        }
        state.sum[2 * half] *= factor;
        state.sum[2 * half + 1] *= factor;
    }
}

/* The part's columns of the output, and the weights' sums. a[k]: weights of 16 entries. */
template <int PARTS>
static __device__ __forceinline__ void accumulate(struct attend_state<PARTS> &state,
                                                  const uint32_t (&a)[AGON_CUDA_PAGE / 16][4],
                                                  uint32_t tile, int part)
{
    enum { ONES = 0x3f803f80 };
    int lane = stack_lane(), matrix = lane / 8;
    uint32_t at = tile + ((matrix & 1) * 8 + lane % 8) * TILE_STRIDE + (matrix >> 1) * 16 +
                  part * (KV / PARTS * 2);
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++) {
        mma(state.sum, a[k], ONES, ONES);
#pragma unroll
        for (int n = 0; n < KV / 16 / PARTS; n++) {
            uint32_t b[4];
            mma_load_transposed(b, at + k * 16 * TILE_STRIDE + n * 32);
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
                                                   const struct attend_warp &w,
                                                   const uint64_t (&seen)[2], uint32_t tile,
                                                   float scale, bool mine)
{
    float s[AGON_CUDA_PAGE / 8 / PARTS][4], most[2];
    uint32_t a[AGON_CUDA_PAGE / 16][4];
    int lane = stack_lane();
    if (mine) {
        score<PARTS>(s, w.q, tile, w.part);
        see<PARTS>(s, most, seen, scale, w.part);
    }
    if constexpr (PARTS == 1) {
        if (!mine)
            return;
        weigh<PARTS>(state, s, most);
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
            weigh<PARTS>(state, s, most);
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
    accumulate<PARTS>(state, a, tile, w.part);
}

/*
 * A list's first pages, as many as there is room for, where nothing is stored any more. Where each
 * sequence has one row, earlier passes have written them. What run_list() finds under way.
 */
static __device__ __forceinline__ int pages_under_way(const struct own_pages *pages, int n_own,
                                                      int list)
{
    int open = STACK_PAGES_MAX, n = 0; /* the first page that a row still writes to */
    for (int r = 0; r < n_own; r++)
        if (pages->n[r] > 0)
            open = min(open, (pages->n[r] - 1) / AGON_CUDA_PAGE);
    for (int i = pages->begin[list]; i < pages->begin[list + 1] && n < 2; i++, n++)
        if (pages->items[i].index >= open)
            break;
    return n;
}

static __device__ __forceinline__ void pages_begin(const struct own_pages *pages, int n_own,
                                                   const char *latents, char *tiles)
{
    int list = stack_warp() % ATTEND_LISTS, n = pages_under_way(pages, n_own, list);
    for (int i = 0; i < n; i++)
        fetch(mma_address(tiles) + (list * 2 + i) * TILE_BYTES, latents,
              pages->items[pages->begin[list] + i].page, stack_warp() / ATTEND_LISTS);
}

/* All pages of a list; its two places for pages are at `at`, where the first n_begun are. */
template <int PARTS>
static __device__ __forceinline__ void run_list(struct attend_state<PARTS> &state,
                                                const struct attend_warp &w,
                                                const struct own_rows *own,
                                                const struct own_pages *pages, uint32_t at,
                                                const struct agon_stack &p, int n_own,
                                                const char *latents, int n_begun)
{
    const struct page_item *items = pages->items + pages->begin[w.list];
    int n = pages->begin[w.list + 1] - pages->begin[w.list], row[2];
    int quarter = stack_warp() / ATTEND_LISTS;
    for (int half = 0; half < 2; half++)
        row[half] = (w.tile * 16 + stack_lane() / 4 + 8 * half) / p.n_heads;
    int first = w.tile * 16 / p.n_heads, last = (w.tile * 16 + 15) / p.n_heads;
    float scale = p.softmax_scale * 1.44269504F;
    if (n > 0 && n_begun == 0)
        fetch(at, latents, items[0].page, quarter);
    for (int i = 0; i < n; i++) {
        struct page_item item = items[i];
        if (i + 1 < n && i + 1 >= n_begun)
            fetch(at + (i + 1) % 2 * TILE_BYTES, latents, items[i + 1].page, quarter);
        else if (i + 1 >= n_begun)
            mma_copies_end();
        mma_copies_wait<1>();
        list_sync(w.list);
        bool mine = w.tile >= 0 && (item.row < 0 || (item.row >= first && item.row <= last));
        uint64_t seen[2];
        for (int half = 0; half < 2; half++)
            seen[half] = mine && row[half] < n_own && (item.row < 0 || item.row == row[half])
                             ? own->mask[row[half]][item.index]
                             : 0;
        attend_page<PARTS>(state, w, seen, at + i % 2 * TILE_BYTES, scale, mine);
        list_sync(w.list); /* the place is written again */
    }
    mma_copies_wait<0>();
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

/* out [n][KV] of n query heads, from all lists: a warp a head. */
static __device__ void merge_lists(uint16_t *out, const float *partial, int n, int ld)
{
    for (int m = stack_warp(); m < n; m += ATTEND_WARPS) {
        const float *from = partial + (size_t)m * FOUND_LD;
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
        ((uint2 *)(out + (size_t)m * KV))[stack_lane()] = make_uint2(
            half_pack(value.x * by, value.y * by), half_pack(value.z * by, value.w * by));
    }
}

/* Queries of the block's rows to shared memory, [n rounded up to 16][TILE_STRIDE bytes]. */
static __device__ __forceinline__ void load_queries(char *to, const uint16_t *from, int n)
{
    uint32_t at = mma_address(to);
    for (int m = stack_warp(); m < (n + 15) / 16 * 16; m += ATTEND_WARPS)
        if (stack_lane() < ENTRY / 8)
            mma_copy16(at + m * TILE_STRIDE + stack_lane() * 16,
                       from + (size_t)(m < n ? m : 0) * ENTRY + stack_lane() * 8, m < n);
    mma_copies_end();
}

template <int PARTS>
static __device__ __forceinline__ void attend_parts(
    const struct own_rows *own, const struct own_pages *pages, const struct agon_stack &p,
    int n_own, const char *latents, const struct attend_room &room, int n_tiles, bool begun)
{
    struct attend_state<PARTS> state = {
    };
    struct attend_warp w;
    int number = stack_warp() / ATTEND_LISTS;
    w.list = stack_warp() % ATTEND_LISTS;
    w.tile = number / PARTS < n_tiles ? number / PARTS : -1;
    w.part = number % PARTS;
    w.q = mma_address(room.queries) + (w.tile * 16 + stack_lane() % 16) * TILE_STRIDE +
          stack_lane() / 16 * 16;
    w.weights = (uint32_t)(room.weights - block_shared()) + (w.list * 2 + w.tile) * WEIGHTS_BYTES;
    w.most = room.most + w.list * MOST_FLOATS + w.tile * PARTS * 16;
    state.most[0] = state.most[1] = MINUS_INFINITY;
    run_list<PARTS>(state, w, own, pages, mma_address(room.tiles) + w.list * 2 * TILE_BYTES, p,
                    n_own, latents, begun ? pages_under_way(pages, n_own, w.list) : 0);
    __syncthreads(); /* the pages give way to what the lists have found */
    if (w.tile >= 0)
        write_partial<PARTS>((float *)room.tiles, state, w, n_tiles * 16);
}

/* attended of the block's rows; room: attend_bytes(). */
static __device__ void attend_rows(const struct own_rows *own, const struct own_pages *pages,
                                   const struct agon_stack &p, const struct own_place &at,
                                   const struct stack_buffers &b, const char *latents, char *room,
                                   bool begun)
{
    int n = at.n_own * p.n_heads, n_tiles = (n + 15) / 16;
    struct attend_room parts = attend_room_of(room, n_tiles * 16);
    load_queries(parts.queries, b.query + (size_t)at.own0 * p.n_heads * ENTRY, n);
    mma_copies_wait<0>();
    __syncthreads();
    if (n_tiles == 1)
        attend_parts<4>(own, pages, p, at.n_own, latents, parts, n_tiles, begun);
    else if (n_tiles == 2)
        attend_parts<2>(own, pages, p, at.n_own, latents, parts, n_tiles, begun);
    else
        attend_parts<1>(own, pages, p, at.n_own, latents, parts, n_tiles, begun);
    __syncthreads();
    merge_lists(b.attended + (size_t)at.own0 * p.n_heads * KV, (const float *)room, n,
                n_tiles * 16);
}

/* keys_at: where the keys of selection lie in the room; behind the pages: these come meanwhile. */
static __global__ void __launch_bounds__(ATTEND_THREADS, 1)
    attend_kernel(const __grid_constant__ struct agon_stack p, int layer, int n_each, int keys_at)
{
    struct own_pages *pages = (struct own_pages *)block_shared();
    struct own_rows *own = (struct own_rows *)(block_shared() + bytes_up(sizeof(*pages)));
    char *room = (char *)own + bytes_up(sizeof(*own));
    const char *latents = p.latents + layer * p.latent_layer_bytes;
    struct own_place at;
    struct stack_buffers b;
    at.own0 = blockIdx.x * n_each;
    at.n_own = min(n_each, p.rows.n_rows - at.own0);
    stack_buffers(&b, p);
    pages_init(pages, p, at);
    __syncthreads();
    bool begun = p.apart && keys_at > 0;
    if (begun)
        pages_begin(pages, at.n_own, latents, room);
    depends_wait();
    own_queries(own, p, at, b);
    __syncthreads();
    select_rows(own, p, at, pages, p.keys + layer * p.keys_layer_bytes,
                (uint32_t *)(room + keys_at));
    __syncthreads();
    attend_rows(own, pages, p, at, b, latents, room, begun);
}

static size_t larger_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Shared memory of n_each rows that see up to n_max positions; *ret_keys_at: as above. */
static size_t attend_kernel_bytes(int *ret_keys_at, const struct agon_stack *p, int n_each,
                                  int n_max)
{
    size_t heads = (size_t)(n_each * p->n_heads + 15) / 16 * 16;
    size_t keys =
        (size_t)agon_ceil_div(n_max, AGON_CUDA_PAGE) * AGON_CUDA_PAGE * n_each * sizeof(uint32_t);
    size_t fixed = bytes_up(sizeof(struct own_pages)) + bytes_up(sizeof(struct own_rows));
    size_t room = larger_of(attend_bytes(heads), attend_bytes(heads < 32 ? heads : 32));
    room = larger_of(room, ATTEND_LISTS * heads * FOUND_LD * sizeof(float));
    bool apart = fixed + larger_of(room, TILES_BYTES + keys) <= STACK_SHARED_MAX;
    *ret_keys_at = apart ? TILES_BYTES : 0;
    return fixed + larger_of(room, apart ? TILES_BYTES + keys : keys);
}
