#pragma once
/*
 * Attention of a block's three to eight rows (stack_attend.cuh): a warp has two rows, of each list;
 * a list's four warps are a warpgroup. Pages are first those that all rows have in common from
 * their beginning on, by wgmma, 64 heads at a time; then a row's own, by mma.sync, a warp a page.
 * Both add up alike to the bit, so that it does not matter to a row which of its pages others have.
 *
 * Rows' own pages come in turns, in the places that the common ones leave: turn t in place
 * t % N_PLACES, and whoever is done with one has the next one there copied. Turns are [row of a
 * tile][group of indices][index][tile]: neighbours are of different warps.
 */
#include "kernels/stack_attend_own.cuh"
#include "kernels/stack_lists.cuh"

/* What own pages there are: a warp; a barrier is to follow. */
static __device__ __forceinline__ void own_order_put(struct own_order *to,
                                                     const struct own_pages *pages, int n_own)
{
    int lane = stack_lane();
    uint32_t open = STACK_PAGES_MAX;
    uint32_t most = lane < n_own ? agon_ceil_div(pages->n[lane], AGON_CUDA_PAGE) : 0;
#pragma unroll 1
    for (int i = lane; i < pages->begin[ATTEND_LISTS]; i += 32)
        if (pages->items[i].row >= 0)
            open = min(open, (uint32_t)pages->items[i].index);
    most = __reduce_max_sync(~0u, most);
    open = min(__reduce_min_sync(~0u, open), most);
    int n = (int)(most - open);
    if (lane == 0)
        *to = {(int)open, n, min(n, (int)ATTEND_LISTS), (n + ATTEND_LISTS - 1) / ATTEND_LISTS,
               n_own > QUERY_TILES ? 2 : 1};
}

/* How many pages of a list are common. */
static __device__ __forceinline__ int common_of(const struct own_order &o, int list)
{
    return (o.open + ATTEND_LISTS - 1 - list) / ATTEND_LISTS;
}

/* What all turns need. */
struct turns {
    const struct own_order &order; /* shared, as the next two are */
    const struct own_pages *pages;
    struct own_barriers *barriers;
    const char *latents;
    uint32_t at; /* the places */
};

/* Where rows' pages are among the items: a thread an item; a barrier is to follow. */
static __device__ __forceinline__ void items_find(struct own_barriers *barriers,
                                                  const struct own_pages *pages)
{
    if ((int)threadIdx.x >= pages->begin[ATTEND_LISTS])
        return;
    struct page_item item = pages->items[threadIdx.x];
#pragma unroll 1
    for (int r = 0; r < STACK_OWN_MAX; r++)
        if (item.row < 0 ? pages->n[r] > item.index * AGON_CUDA_PAGE : item.row == r)
            barriers->item_of[r][item.index] = (short)(threadIdx.x + 1);
}

static __device__ __forceinline__ int turn_page(const struct turns &t, int row, int index)
{
    int item = index < STACK_PAGES_MAX ? t.barriers->item_of[row][index] : 0;
    return item > 0 ? t.pages->items[item - 1].page : -1;
}
/* How many of such a page's entries the row sees, rounded up to a product's step. */
static __device__ __forceinline__ int turn_entries(const struct turns &t, int row, int index)
{
    int n = min(t.pages->n[row] - index * AGON_CUDA_PAGE, (int)AGON_CUDA_PAGE);
    return (n + 15) / 16 * 16;
}

/* The first n entries of a page, as they lie: f(offset, bytes) of each piece. */
template <class F> static __device__ __forceinline__ void pieces_of(int n, F f)
{
    if (n == AGON_CUDA_PAGE)
        return f(0, (int)PAGE_BYTES);
    f(0, n * 128);
    f((int)CHUNK_BYTES, n * 128);
    f((int)REST_AT, n * 16);
    f((int)(REST_AT + REST_UNIT_BYTES), n * 16);
}

/* Which page a turn is; false: there is no such turn. */
static __device__ __forceinline__ bool turn_find(const struct own_order &o, int turn, int *row,
                                                 int *index)
{
    int tile = turn % QUERY_TILES, i = turn / QUERY_TILES;
    if (i >= o.halves * o.groups * o.width)
        return false;
    int round = i / o.width, half = round >= o.groups, group = round - half * o.groups;
    *row = half * QUERY_TILES + tile;
    *index = o.open + group * ATTEND_LISTS + i - round * o.width;
    return true;
}

/* Page `turn` to its place, if there is such a page: a thread. */
static __device__ __forceinline__ void turn_fetch(const struct turns &t, int turn)
{
    int row, index;
    if (!turn_find(t.order, turn, &row, &index))
        return;
    int page = turn_page(t, row, index),
        warp = index % ATTEND_LISTS * LIST_WARPS + turn % QUERY_TILES;
    uint32_t came = mma_address(&t.barriers->own_came[warp][row / QUERY_TILES]);
    if (page < 0)
        return barrier_arrive(came);
    int n = turn_entries(t, row, index);
    const char *from = t.latents + (size_t)page * PAGE_BYTES;
    uint32_t to = t.at + turn % N_PLACES * PAGE_BYTES;
    barrier_expect(came, n * (ENTRY * 2));
    pieces_of(n, [&](int at, int bytes) { copy_bytes(to + at, from + at, bytes, came); });
}

/* ---- a page --------------------------------------------------------------------------- */

/* A common page, by all warps of a list. */
static __device__ __forceinline__ void common_page(struct attend_state<1> &state, uint32_t queries,
                                                   const uint64_t (&seen)[2], uint32_t page,
                                                   float scale)
{
    float s[AGON_CUDA_PAGE / 8][4], most[2];
    uint32_t a[AGON_CUDA_PAGE / 16][4];
    auto &scores = reinterpret_cast<float(&)[AGON_CUDA_PAGE / 2]>(s);
    auto &out = reinterpret_cast<float(&)[KV / 2]>(state.out);
    wgmma_pin(scores);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < KV / 16; k++)
        wgmma<AGON_CUDA_PAGE>::bf16(
            scores, wgmma_descriptor(queries + k / 4 * CHUNK_BYTES) + k % 4 * 2,
            wgmma_descriptor(page + k / 4 * CHUNK_BYTES) + k % 4 * 2, k > 0);
    wgmma<AGON_CUDA_PAGE>::bf16(scores,
                                wgmma_descriptor_plain(queries + REST_AT, REST_UNIT_BYTES, 128),
                                wgmma_descriptor_plain(page + REST_AT, REST_UNIT_BYTES, 128), 1);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(scores);
    see<1>(s, most, seen, 0);
    weigh<1>(state, s, most, scale);
    weights_pack(a, s);
    wgmma_pin(out);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
        wgmma_128(out, a[k], wgmma_columns(page + k * 16 * 128, CHUNK_BYTES));
    wgmma_commit();
    sum_up(state, a);
    wgmma_wait<0>();
    wgmma_pin(out);
}

/* ---- lists ---------------------------------------------------------------------------- */

/* The i-th page of a list to its place, or, where the common ones are at their end, the first turns
 * there: the list's leader. */
static __device__ __forceinline__ void common_fetch(const struct turns &t, int list, int i, int n)
{
    int place = list * LIST_PLACES + i % LIST_PLACES;
    if (i < n)
        fetch(t.at + place * PAGE_BYTES, t.latents, t.pages->items[t.pages->begin[list] + i].page,
              mma_address(&t.barriers->came[place]));
    else
        turn_fetch(t, place);
}

/* Common pages of the warp's list, the first n_begun of which are under way. */
static __device__ __forceinline__ void run_common(struct attend_state<1> &state,
                                                  const struct own_rows *own, const struct turns &t,
                                                  uint32_t queries, float scale, int n_begun)
{
    int list = warp_list(), tile = stack_warp() % LIST_WARPS, n = common_of(t.order, list);
    uint32_t came = mma_address(&t.barriers->came[list * LIST_PLACES]);
    uint32_t done = mma_address(&t.barriers->done[list * LIST_PLACES]);
    bool leads = list_leads();
    if (leads)
        for (int i = min(n_begun, n); i < LIST_PLACES; i++)
            common_fetch(t, list, i, n);
#pragma unroll 1
    for (int i = 0; i <= n; i++) {
        int place = i % LIST_PLACES, next = i + 1, other = next % LIST_PLACES;
        if (leads && next >= LIST_PLACES && next < n + LIST_PLACES) {
            barrier_wait(done + other * 8, (next / LIST_PLACES - 1) % 2);
            common_fetch(t, list, next, n);
        }
        __syncwarp();
        if (i == n)
            break;
        barrier_wait(came + place * 8, i / LIST_PLACES % 2);
        uint64_t seen[2];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = half * QUERY_TILES + tile;
            int index = list + i * ATTEND_LISTS;
            seen[half] = t.pages->n[row] > index * AGON_CUDA_PAGE ? own->mask[row][index] : 0;
        }
        common_page(state, queries, seen, t.at + (list * LIST_PLACES + place) * PAGE_BYTES, scale);
        __syncwarp();
        if (stack_lane() == 0)
            barrier_arrive(done + place * 8);
    }
}

/* A tile's rows change places: what is done with the first is then done with the second. */
static __device__ __forceinline__ void rows_swap(struct attend_state<1> &state)
{
    auto swap = [](float &x, float &y) {
        float z = x;
        x = y;
        y = z;
    };
#pragma unroll
    for (int n = 0; n < KV / 8; n++) {
        swap(state.out[n][0], state.out[n][2]);
        swap(state.out[n][1], state.out[n][3]);
    }
    swap(state.sum[0], state.sum[1]);
    swap(state.most[0], state.most[1]);
}

/* Pages of the warp's rows that are in its list. */
static __device__ __forceinline__ void run_own(struct attend_state<1> &state,
                                               const struct own_rows *own, const struct turns &t,
                                               uint32_t queries, float scale)
{
    const struct own_order &o = t.order;
    int list = warp_list(), tile = stack_warp() % LIST_WARPS;
    int first = (list - o.open % ATTEND_LISTS + ATTEND_LISTS) % ATTEND_LISTS;
    if (first >= o.width)
        return;
#pragma unroll 1
    for (int half = 0; half < o.halves; half++) {
        struct own_state own_state;
        int row = half * QUERY_TILES + tile;
        uint32_t came = mma_address(&t.barriers->own_came[stack_warp()][half]);
        own_take(own_state, state);
#pragma unroll 1
        for (int group = 0; group < o.groups; group++) {
            int index = o.open + group * ATTEND_LISTS + first;
            int turn = ((half * o.groups + group) * o.width + first) * QUERY_TILES + tile;
            uint64_t seen = turn_page(t, row, index) >= 0 ? own->mask[row][index] : 0;
            barrier_wait(came, group % 2);
            if (seen != 0)
                own_page(own_state, queries, tile * 16 + half * HEADS, seen,
                         t.at + turn % N_PLACES * PAGE_BYTES, turn_entries(t, row, index), scale);
            __syncwarp();
            if (stack_lane() == 0)
                turn_fetch(t, turn + N_PLACES);
        }
        own_give(state, own_state);
        if (o.halves == 2)
            rows_swap(state);
    }
}

/* The block's rows, to `partial`, where the pages were, once all lists are done. */
static __device__ __forceinline__ void attend_many(const struct own_rows *own,
                                                   const struct agon_stack &p,
                                                   const struct turns &t, char *room, int n_begun)
{
    uint32_t queries = mma_address(room + PAGES_BYTES);
    float scale = p.softmax_scale * 1.44269504F;
    struct attend_state<1> state = {
    };
    state.most[0] = state.most[1] = MINUS_INFINITY;
    run_common(state, own, t, queries, scale, n_begun);
    run_own(state, own, t, queries, scale);
    __syncthreads();
    write_partial((float *)room, state, warp_list(), stack_warp() % LIST_WARPS, 0);
}
