#pragma once
/*
 * Attention of a block's one or two rows (stack_attend.cuh): their heads are one tile of 16, which
 * a list's four warps share: each scores some of a page's keys, and sums up some of the values'
 * columns; weights go through shared memory.
 */
#include "kernels/stack_lists.cuh"

enum {
    WEIGHTS_STRIDE = (AGON_CUDA_PAGE + 8) * 2,
    WEIGHTS_BYTES = 16 * WEIGHTS_STRIDE,
    MOST_FLOATS = LIST_WARPS * 16,
    FEW_QUERIES_BYTES = 16 * ENTRY * 2,
    FEW_BYTES =
        FEW_QUERIES_BYTES + ATTEND_LISTS * (WEIGHTS_BYTES + MOST_FLOATS * (int)sizeof(float)),
};
static_assert((int)FEW_BYTES <= (int)QUERIES_BYTES, "a launch's last block may have few rows");

/* A warp of a list, at its work. */
struct attend_warp {
    int list, part;
    uint32_t weights; /* of the list; the lane writes at its own place */
    float *most;      /* [LIST_WARPS][16] */
};
typedef struct attend_state<LIST_WARPS> few_state;
typedef float few_scores[AGON_CUDA_PAGE / 8 / LIST_WARPS][4];
static_assert((int)AGON_CUDA_PAGE == 16 * (int)LIST_WARPS,
              "a warp has two tiles of a page's scores");

static __device__ __forceinline__ void list_sync(int list)
{
    barrier_some(list + 1, LIST_WARPS * 32);
}

/* Scores of the warp's entries of the page at `page`: s[n / 8] holds columns n .. n + 7. held: the
 * queries' values 16 k .. as a product's left side. */
static __device__ __forceinline__ void few_score(few_scores &s,
                                                 const uint32_t (&held)[ENTRY / 16][4],
                                                 uint32_t page, int part)
{
    int lane = stack_lane(), matrix = lane / 8;
    int entry = part * (AGON_CUDA_PAGE / LIST_WARPS) + (matrix >> 1) * 8 + lane % 8;
    uint32_t at = page + entry * 128 + ((matrix & 1) ^ lane % 8) * 16;
    uint32_t rest = page + REST_AT + (matrix & 1) * REST_UNIT_BYTES + entry * 16;
#pragma unroll
    for (int n = 0; n < 2; n++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[n][c] = 0;
#pragma unroll
    for (int k = 0; k < ENTRY / 16; k++) {
        uint32_t b[4];
        mma_load(b, k < KV / 16 ? (at ^ k % 4 * 32) + k / 4 * CHUNK_BYTES : rest);
        mma(s[0], held[k], b[0], b[1]);
        mma(s[1], held[k], b[2], b[3]);
    }
}

/* The warp's columns of the output. a[k]: weights of 16 entries. */
static __device__ __forceinline__ void few_accumulate(few_state &state,
                                                      const uint32_t (&a)[AGON_CUDA_PAGE / 16][4],
                                                      uint32_t page, int part)
{
    enum { N = KV / 16 / LIST_WARPS };
    int lane = stack_lane(), matrix = lane / 8, unit = part * 2 * N;
    uint32_t at = page + unit / 8 * CHUNK_BYTES + ((matrix & 1) * 8 + lane % 8) * 128 +
                  ((matrix >> 1) ^ lane % 8 ^ unit % 8) * 16;
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
#pragma unroll
        for (int n = 0; n < N; n++) {
            uint32_t b[4];
            mma_load_transposed(b, (at ^ n * 32) + k * 16 * 128);
            mma(state.out[2 * n], a[k], b[0], b[1]);
            mma(state.out[2 * n + 1], a[k], b[2], b[3]);
        }
}

/* Weights from the lanes that made them to those that multiply with them. */
static __device__ __forceinline__ void weights_put(const struct attend_warp &w, const few_scores &s)
{
    int lane = stack_lane();
    char *to = block_shared() + w.weights + lane / 4 * WEIGHTS_STRIDE + lane % 4 * 4 +
               w.part * (AGON_CUDA_PAGE / LIST_WARPS * 2);
#pragma unroll
    for (int n = 0; n < AGON_CUDA_PAGE / 8 / LIST_WARPS; n++) {
        *(uint32_t *)(to + n * 16) = bf16_pack(s[n][0], s[n][1]);
        *(uint32_t *)(to + 8 * WEIGHTS_STRIDE + n * 16) = bf16_pack(s[n][2], s[n][3]);
    }
}

/* The heads' values k * 16 .. as a product's left side. Queries lie as 16 entries of a page. */
static __device__ __forceinline__ void query_load(uint32_t (&a)[4], uint32_t queries, int k)
{
    int lane = stack_lane(), m = lane % 16;
    uint32_t at = queries + m * 128 + (lane / 16 ^ lane % 8) * 16;
    uint32_t rest = queries + 2 * 16 * 128 + lane / 16 * 16 * 16 + m * 16;
    mma_load(a, k < KV / 16 ? (at ^ k % 4 * 32) + k / 4 * 16 * 128 : rest);
}

/* A page, by a list's warps, which meet twice on the way. */
static __device__ __forceinline__ void few_page(few_state &state,
                                                const uint32_t (&held)[ENTRY / 16][4],
                                                const struct attend_warp &w,
                                                const uint64_t (&seen)[2], uint32_t page,
                                                float scale, bool any)
{
    few_scores s;
    float most[2];
    uint32_t a[AGON_CUDA_PAGE / 16][4];
    int lane = stack_lane();
    if (!any) /* all of the list's warps see that */
        return;
    few_score(s, held, page, w.part);
    see<LIST_WARPS>(s, most, seen, w.part);
    if (lane % 4 == 0) {
        w.most[w.part * 16 + lane / 4] = most[0];
        w.most[w.part * 16 + lane / 4 + 8] = most[1];
    }
    list_sync(w.list);
#pragma unroll
    for (int i = 0; i < LIST_WARPS; i++) {
        most[0] = fmaxf(most[0], w.most[i * 16 + lane / 4]);
        most[1] = fmaxf(most[1], w.most[i * 16 + lane / 4 + 8]);
    }
    weigh<LIST_WARPS>(state, s, most, scale);
    weights_put(w, s);
    list_sync(w.list);
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
        mma_load(a[k], mma_address(block_shared()) + w.weights + lane % 16 * WEIGHTS_STRIDE +
                           lane / 16 * 16 + k * 32);
    sum_up(state, a);
    few_accumulate(state, a, page, w.part);
}

/* What the warp finds in its list's pages, the first n_begun of which are under way. */
static __device__ __forceinline__ void run_few(few_state &state, const struct attend_warp &w,
                                               const struct own_rows *own,
                                               const struct own_pages *pages,
                                               struct own_barriers *barriers, uint32_t at,
                                               uint32_t queries, const struct agon_stack &p,
                                               int n_own, const char *latents, int n_begun)
{
    const struct page_item *items = pages->items + pages->begin[w.list];
    int n = pages->begin[w.list + 1] - pages->begin[w.list];
    uint32_t came = mma_address(&barriers->came[w.list * LIST_PLACES]);
    uint32_t done = mma_address(&barriers->done[w.list * LIST_PLACES]);
    bool leads = list_leads();
    float scale = p.softmax_scale * 1.44269504F;
    uint32_t held[ENTRY / 16][4];
#pragma unroll
    for (int k = 0; k < ENTRY / 16; k++)
        query_load(held[k], queries, k);
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
        uint64_t seen[2];
#pragma unroll
        for (int half = 0; half < 2; half++)
            seen[half] = half < n_own && (item.row < 0 || item.row == half)
                             ? own->mask[half][item.index]
                             : 0;
        few_page(state, held, w, seen, at + place * PAGE_BYTES, scale, (seen[0] | seen[1]) != 0);
        __syncwarp();
        if (stack_lane() == 0)
            barrier_arrive(done + place * 8);
    }
}

/* The block's rows, to `partial`, where the pages were, once all lists are done. */
static __device__ __forceinline__ void attend_few(const struct own_rows *own,
                                                  const struct own_pages *pages,
                                                  struct own_barriers *barriers,
                                                  const struct agon_stack &p, int n_own,
                                                  const char *latents, char *room, int n_begun)
{
    char *weights = room + PAGES_BYTES + FEW_QUERIES_BYTES;
    few_state state = {};
    struct attend_warp w;
    w.list = warp_list();
    w.part = warp_number();
    w.weights = (uint32_t)(weights - block_shared()) + w.list * WEIGHTS_BYTES;
    w.most = (float *)(weights + ATTEND_LISTS * WEIGHTS_BYTES) + w.list * MOST_FLOATS;
    state.most[0] = state.most[1] = MINUS_INFINITY;
    run_few(state, w, own, pages, barriers, mma_address(room), mma_address(room + PAGES_BYTES), p,
            n_own, latents, n_begun);
    __syncthreads();
    write_partial((float *)room, state, w.list, 0, w.part);
}
