#pragma once
/*
 * Lists of pages (stack_attend.cuh): their places in shared memory, what comes there and when, and
 * what the lists find, put together.
 */
#include "kernels/stack_page.cuh"

enum {
    LIST_WARPS = ATTEND_WARPS / ATTEND_LISTS,
    LIST_PLACES = 2, /* for pages */
    FEW_ROWS = 2,    /* stack_attend_few.cuh */
    N_PLACES = ATTEND_LISTS * LIST_PLACES,
    PAGES_BYTES = N_PLACES * PAGE_BYTES,
    FOUND_LD = KV + 8, /* floats: what a warp writes at once lies in different banks */
};
static_assert((int)(ATTEND_LISTS * QUERY_TILES * 16 * FOUND_LD * 4) <= (int)PAGES_BYTES,
              "what the lists find goes where the pages were");

/* Rows' own pages (stack_attend_many.cuh): the first index of which rows have some, how many there
 * are; how many are a group, how many groups there are; how many of its rows a warp has: 1 or 2. */
struct own_order {
    int open, n, width, groups, halves;
};

/* Of each place for a page: that it has come, that all warps of its list are done with it. And
 * that a page of one row has come for a warp (stack_attend_many.cuh). */
struct own_barriers {
    uint64_t came[N_PLACES], done[N_PLACES];
    uint64_t own_came[ATTEND_WARPS][2];
    struct own_order order;
    short item_of[STACK_OWN_MAX][STACK_PAGES_MAX]; /* a row's page: which item, + 1; 0: none */
};

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

/* A warp some of them: lanes would make them one after the other. */
static __device__ __forceinline__ void barriers_init(struct own_barriers *barriers, bool few)
{
    int i = stack_warp();
    static_assert((int)N_PLACES <= (int)ATTEND_WARPS, "a warp a place");
    static_assert((int)(STACK_OWN_MAX * STACK_PAGES_MAX) == (int)ATTEND_THREADS, "a thread a page");
    barriers->item_of[0][threadIdx.x] = 0;
    if (stack_lane() != 0)
        return;
    if (i < N_PLACES) {
        barrier_init(mma_address(&barriers->came[i]), 1);
        barrier_init(mma_address(&barriers->done[i]), LIST_WARPS);
    }
    if (few)
        return;
    barrier_init(mma_address(&barriers->own_came[i][0]), 1);
    barrier_init(mma_address(&barriers->own_came[i][1]), 1);
}

/* A page to shared memory: a thread. */
static __device__ __forceinline__ void fetch(uint32_t to, const char *latents, int page,
                                             uint32_t came)
{
    barrier_expect(came, PAGE_BYTES);
    copy_bytes(to, latents + (size_t)page * PAGE_BYTES, PAGE_BYTES, came);
}

/* A list's first pages, as many as there is room for, not from index `end` on: a thread. */
static __device__ __forceinline__ void pages_begin(const struct own_pages *pages,
                                                   struct own_barriers *barriers, int list, int end,
                                                   const char *latents, char *to)
{
    int begin = pages->begin[list];
    int n = min(pages->begin[list + 1] - begin, (int)LIST_PLACES);
#pragma unroll 1
    for (int i = 0; i < n && pages->items[begin + i].index < end; i++)
        fetch(mma_address(to) + (list * LIST_PLACES + i) * PAGE_BYTES, latents,
              pages->items[begin + i].page, mma_address(&barriers->came[list * LIST_PLACES + i]));
}

/* What a list has found of 16 heads, tile `tile` of the block's: partial
 * [list][tile][16][FOUND_LD], the most and the sum behind the values. */
template <int PARTS>
static __device__ __forceinline__ void write_partial(float *partial,
                                                     const struct attend_state<PARTS> &state,
                                                     int list, int tile, int part)
{
    int lane = stack_lane();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int m = (list * QUERY_TILES + tile) * 16 + lane / 4 + 8 * half;
        float *to = partial + (size_t)m * FOUND_LD;
        if (lane % 4 == 0 && part == 0)
            *(float2 *)(to + KV) = make_float2(state.most[half], state.sum[half]);
        to += part * (KV / PARTS) + 2 * (lane % 4);
#pragma unroll
        for (int n = 0; n < KV / 8 / PARTS; n++)
            *(float2 *)(to + 8 * n) =
                make_float2(state.out[n][2 * half], state.out[n][2 * half + 1]);
    }
}

/* Where a row's heads are among the block's queries: rows 0 and 4, 1 and 5 and so on are a tile,
 * two rows that are alone another. */
static __device__ __forceinline__ int row_place(int row, int n_own)
{
    return n_own <= FEW_ROWS ? row * HEADS : row % QUERY_TILES * 16 + row / QUERY_TILES * HEADS;
}

/* out [n_own][n_heads][KV], from all lists: a warp a head. */
static __device__ void merge_lists(uint16_t *out, const float *partial, int n_own, int n_heads)
{
#pragma unroll 1
    for (int i = stack_warp(); i < n_own * n_heads; i += ATTEND_WARPS) {
        const float *from = partial + (row_place(i / n_heads, n_own) + i % n_heads) * FOUND_LD;
        size_t list = QUERY_TILES * 16 * FOUND_LD;
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
