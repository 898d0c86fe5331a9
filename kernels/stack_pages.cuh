#pragma once
/*
 * Which pages the rows of a block of attention see (stack.cu): items, in lists. The first layer
 * makes them and leaves a copy in scratch, a plan, which the other layers read.
 */
#include "kernels/stack.cuh"

#include <stddef.h>

enum {
    ATTEND_WARPS = 16,
    ATTEND_THREADS = ATTEND_WARPS * 32,
    ATTEND_LISTS = 4, /* of pages */
};

/* A block's rows. */
struct own_place {
    int own0, n_own;
};

/* A page to be read: its number, which positions it holds, whose it is (-1: all rows'), and whether
 * a row's last position is there. */
struct page_item {
    int page;
    short index;
    signed char row;
    bool open;
};

/* What the block's rows see. */
struct own_pages {
    __align__(16) int n[STACK_OWN_MAX]; /* positions that each sees; 0: no row */
    int begin[ATTEND_LISTS + 1];
    int n_words; /* of a mask */
    int selects; /* there is a row that does not see all of its past */
    __align__(16) struct page_item items[STACK_OWN_MAX * STACK_PAGES_MAX];  /* list by list */
    __align__(8) int n_items[ATTEND_LISTS][STACK_PAGES_MAX / ATTEND_LISTS]; /* on the way */
};
static_assert(offsetof(struct own_pages, items) +
                      STACK_OWN_MAX * STACK_PAGES_MAX * sizeof(struct page_item) <=
                  STACK_OWN_MAX * STACK_PLAN_ROW,
              "a plan has its place");

/*
 * Page i of a row is in list i % ATTEND_LISTS; lists stand one behind the other, and rows that have
 * ended their pages take no part. Nothing of the launch before is read; a barrier at the end. A
 * warp has one page of each list, eight lanes for each: its rows. plan: a copy for later layers.
 */
static __device__ __forceinline__ void pages_init(struct own_pages *pages,
                                                  const struct agon_stack &p,
                                                  const struct own_place &at, char *plan)
{
    static_assert((int)STACK_OWN_MAX == 8 && (int)ATTEND_LISTS == 4, "a lane a row of a page");
    static_assert((int)STACK_PAGES_MAX == (int)ATTEND_LISTS * 2 * STACK_OWN_MAX &&
                      (int)STACK_PAGES_MAX == (int)ATTEND_LISTS * (int)ATTEND_WARPS,
                  "a warp has a page of each list, a lane two of its list's counts");
    int lane = stack_lane(), warp = stack_warp(), row = lane % 8, list = lane / 8;
    int index = warp * ATTEND_LISTS + list, n_seen = 0, page = -1;
    if (row < at.n_own) {
        int sequence = p.rows.row_sequence[at.own0 + row];
        int position = p.rows.row_position[at.own0 + row];
        n_seen = sequence >= 0 ? position + 1 : 0;
        if (index * AGON_CUDA_PAGE < n_seen)
            page = p.rows.pages[(size_t)sequence * p.rows.ld_pages + index];
    }
    if (index == 0)
        pages->n[row] = n_seen;
    uint32_t selects = __ballot_sync(~0u, n_seen > p.index_topk);
    if (threadIdx.x == 0) {
        pages->n_words = (p.rows.n_max + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE;
        pages->selects = selects != 0;
    }
    uint32_t there = __ballot_sync(~0u, page >= 0) >> list * 8 & 0xff;
    int first = __ffs((int)(there | 0x100)) - 1;
    int common = __shfl_sync(~0u, page, list * 8 + first % 8);
    bool differ = (__ballot_sync(~0u, page >= 0 && page != common) >> list * 8 & 0xff) != 0;
    bool open = __ballot_sync(~0u, page >= 0 && (n_seen - 1) / AGON_CUDA_PAGE == index) >>
                    (differ ? lane : list * 8) &
                (differ ? 1 : 0xff);
    if (row == 0)
        pages->n_items[list][warp] = differ ? __popc(there) : there != 0;
    __syncthreads();
    int2 two = *(const int2 *)&pages->n_items[list][2 * row];
    int before = (2 * row < warp ? two.x : 0) + (2 * row + 1 < warp ? two.y : 0);
    int all = two.x + two.y, begin = 0;
#pragma unroll
    for (int apart = 1; apart < 8; apart *= 2) {
        before += __shfl_xor_sync(~0u, before, apart);
        all += __shfl_xor_sync(~0u, all, apart);
    }
#pragma unroll
    for (int i = 0; i < ATTEND_LISTS - 1; i++) {
        int other = __shfl_sync(~0u, all, i * 8);
        begin += i < list ? other : 0;
    }
    if (warp == 0 && row == 0) {
        pages->begin[list] = begin;
        if (list == ATTEND_LISTS - 1)
            pages->begin[ATTEND_LISTS] = begin + all;
    }
    if (page >= 0 && (differ || row == first))
        pages->items[begin + before + (differ ? __popc(there & ((1U << row) - 1)) : 0)] = {
            page, (short)index, (signed char)(differ ? row : -1), open};
    __syncthreads();
    int n = (int)(offsetof(struct own_pages, items) / 16) +
            (pages->begin[ATTEND_LISTS] * (int)sizeof(struct page_item) + 15) / 16;
    if ((int)threadIdx.x < n)
        ((uint4 *)plan)[threadIdx.x] = ((const uint4 *)pages)[threadIdx.x];
}

/* How much of a plan is read: of n_each rows. */
static __device__ __forceinline__ uint32_t plan_bytes(const struct agon_stack &p, int n_each)
{
    int n_pages = (p.rows.n_max + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE;
    size_t items = (size_t)(n_each * n_pages) * sizeof(struct page_item);
    return (uint32_t)(offsetof(struct own_pages, items) + (items + 15) / 16 * 16);
}
