#pragma once
/*
 * Attention of a block's rows (stack.cu). A row's query heads are eight, of which the last are
 * none. Page i of a row is in list i % ATTEND_LISTS; four warps are a list: one of their threads
 * has its pages copied, the next while one is computed. A page that all rows of the block have is
 * read once for all, any other once for each row that has it. What is not selected weighs nothing.
 * What is added up in which order is the same for one row (stack_attend_few.cuh) and for many
 * (stack_attend_many.cuh).
 */
#include "kernels/stack_attend_few.cuh"
#include "kernels/stack_attend_many.cuh"

/* Queries of the block's rows to shared memory, as a page's entries lie there, of which there are
 * 16 for few rows; heads that are none are 0. */
static __device__ __forceinline__ void load_queries(char *to, const uint16_t *from, int n_own,
                                                    int n_heads)
{
    enum { UNITS = ENTRY / 8, CHUNK_UNITS = 8 };
    uint32_t at = mma_address(to);
    int n = n_own <= FEW_ROWS ? FEW_ROWS * HEADS : STACK_OWN_MAX * HEADS;
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < n * UNITS; i += ATTEND_THREADS) {
        int head = i / UNITS % HEADS, unit = i % UNITS, row = i / (UNITS * HEADS);
        int m = row_place(row, n_own) + head;
        int place = unit < KV / 8
                        ? (unit / CHUNK_UNITS * n + m) * CHUNK_UNITS + (unit % CHUNK_UNITS ^ m % 8)
                        : unit * n + m;
        bool there = row < n_own && head < n_heads;
        mma_copy16(at + place * 16,
                   from + (size_t)(there ? row * n_heads + head : 0) * ENTRY + unit * 8, there);
    }
    mma_copies_end();
}

/* ---- the stage ------------------------------------------------------------------------ */

/* What the stage keeps before its room, which begins as wgmma wants it. */
static __host__ __device__ inline size_t attend_fixed(void)
{
    size_t bytes = bytes_up(sizeof(struct own_pages)) + bytes_up(sizeof(struct own_rows)) +
                   bytes_up(sizeof(struct own_barriers));
    return (bytes + SWIZZLE_ALIGN - 1) / SWIZZLE_ALIGN * SWIZZLE_ALIGN;
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
    char *room = block_shared() + attend_fixed();
    const char *latents = p.latents + layer * p.latent_layer_bytes;
    float *scores = (float *)(room + scores_at);
    struct own_place at;
    int n_begun = 0;
    at.own0 = blockIdx.x * n_each;
    at.n_own = min(n_each, p.rows.n_rows - at.own0);
    bool few = at.n_own <= FEW_ROWS;
    char *plan = b.plans + (size_t)at.own0 * STACK_PLAN_ROW;
    selection_init(own, pages, layer > 0 ? plan : NULL, plan_bytes(p, n_each));
    barriers_init(barriers, few);
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
    if (!few) {
        items_find(barriers, pages);
        if (stack_warp() == ATTEND_WARPS - 1)
            own_order_put(&barriers->order, pages, at.n_own);
    }
    if (pages->selects)
        select_scores(own, keys, p.index_heads, room, scores, ld_scores, at.n_own);
    __syncthreads();
    if (scores_at >= PAGES_BYTES) {
        int list = stack_warp() - (ATTEND_WARPS - ATTEND_LISTS); /* of warps that choose least */
        if (list >= 0 && stack_lane() == 0)
            pages_begin(pages, barriers, list, few ? STACK_PAGES_MAX : barriers->order.open,
                        latents, room);
        n_begun = LIST_PLACES;
    }
    select_masks(own, p, at, pages, scores, ld_scores);
    shared_written(); /* scores, perhaps where pages are copied to */
    __syncthreads();
    load_queries(room + PAGES_BYTES, b.query + (size_t)at.own0 * p.n_heads * ENTRY, at.n_own,
                 p.n_heads);
    mma_copies_wait<0>();
    shared_written(); /* queries */
    __syncthreads();
    if (few)
        attend_few(own, pages, barriers, p, at.n_own, latents, room, n_begun);
    else
        attend_many(own, p, {barriers->order, pages, barriers, latents, mma_address(room)}, room,
                    n_begun);
    __syncthreads();
    merge_lists(b.attended + (size_t)at.own0 * p.n_heads * KV, (const float *)room, at.n_own,
                p.n_heads);
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
    int n_pages = agon_ceil_div(n_max, AGON_CUDA_PAGE);
    size_t scores = (size_t)n_each * (n_pages * AGON_CUDA_PAGE + SCORES_APART) * sizeof(float);
    size_t fixed = attend_fixed(), keys;
    size_t room = PAGES_BYTES + (n_each <= FEW_ROWS ? (int)FEW_BYTES : (int)QUERIES_BYTES);
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
