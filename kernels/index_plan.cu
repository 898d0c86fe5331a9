/*
 * The plan of a batch's scores: index_plan.cuh. One block; a warp takes a tile,
 * 32 tiles at a time. A page belongs to the tile's common part while every row
 * that needs it has the same page there. Bytes: the page tables once, some 10
 * us for 100 tables of 2,048 pages, once a step for all layers.
 */
#include "kernels/index_plan.cuh"

enum { PLAN_THREADS = 1024, PLAN_WARPS = PLAN_THREADS / 32, UNROLL = 4 };

/* The rows of a tile, one a lane: n_pages 0 where there is none or it is
 * skipped. */
struct tile_row {
    int sequence, n_pages;
};

static __device__ struct tile_row tile_row(const struct agon_cuda_rows &rows, int row, int k_skip)
{
    struct tile_row r = {-1, 0};
    if ((int)threadIdx.x % 32 >= TILE_ROWS || row >= rows.n_rows)
        return r;
    r.sequence = rows.row_sequence[row];
    int n = r.sequence < 0 ? 0 : rows.row_position[row] + 1;
    r.n_pages = n > k_skip ? agon_ceil_div(n, AGON_CUDA_PAGE) : 0;
    return r;
}

/* The first page that two rows see differently, at most n_pages_max. Called by
 * a whole warp. */
static __device__ int common_pages(const struct agon_cuda_rows &rows, struct tile_row mine,
                                   int n_pages_max)
{
    int lane = (int)threadIdx.x % 32;
    for (int begin = 0; begin < n_pages_max; begin += 32 * UNROLL) {
        int page[TILE_ROWS][UNROLL]; /* all asked for before one is waited for */
#pragma unroll
        for (int r = 0; r < TILE_ROWS; r++) {
            int sequence = __shfl_sync(0xffffffff, mine.sequence, r);
            int n_pages = __shfl_sync(0xffffffff, mine.n_pages, r);
#pragma unroll
            for (int j = 0; j < UNROLL; j++) {
                int at = begin + j * 32 + lane;
                page[r][j] = at < n_pages ? index_page(rows, sequence, at * AGON_CUDA_PAGE) : -1;
            }
        }
        bool differs[UNROLL] = {};
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            int first = -1;
#pragma unroll
            for (int r = 0; r < TILE_ROWS; r++) {
                differs[j] |= page[r][j] >= 0 && first >= 0 && page[r][j] != first;
                first = max(first, page[r][j]);
            }
        }
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            uint32_t lanes = __ballot_sync(0xffffffff, differs[j]);
            if (lanes)
                return begin + j * 32 + __ffs((int)lanes) - 1;
        }
    }
    return n_pages_max;
}

static __global__ __launch_bounds__(PLAN_THREADS) void plan_kernel(struct index_plan *plan,
                                                                   struct agon_cuda_rows rows,
                                                                   int k_skip)
{
    __shared__ int n_of_warp[PLAN_WARPS], cost_of_warp[PLAN_WARPS];
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32;
    int n_tiles = agon_ceil_div(rows.n_rows, TILE_ROWS), n_before = 0, cost_before = 0;
    for (int first_tile = 0; first_tile < n_tiles; first_tile += PLAN_WARPS) {
        int row = (first_tile + warp) * TILE_ROWS + lane;
        struct tile_row mine = tile_row(rows, row, k_skip);
        uint32_t valid = __ballot_sync(0xffffffff, mine.n_pages > 0);
        int n_pages_max = __reduce_max_sync(0xffffffff, mine.n_pages);
        int from = valid ? __ffs((int)valid) - 1 : 0, to = 32 - __clz((int)valid);
        int sequence = __shfl_sync(0xffffffff, mine.sequence, from);
        bool one = mine.n_pages == 0 || mine.sequence == sequence;
        int n_common =
            __all_sync(0xffffffff, one) ? n_pages_max : common_pages(rows, mine, n_pages_max);

        /* Lane r has the segment of row r alone; lane TILE_ROWS the common one. */
        struct index_segment segment = {row, 1, n_common, mine.n_pages, 0, PAGE_COST_LEAST};
        if (lane == TILE_ROWS) {
            int n_rows = to - from;
            segment = {
                row - lane + from, n_rows, 0,
                n_common,          0,      n_rows > PAGE_COST_LEAST ? n_rows : PAGE_COST_LEAST};
        }
        bool some = lane <= TILE_ROWS && segment.page_end > segment.page_begin;
        int cost =
            some ? index_stages(segment.page_begin, segment.page_end) * segment.stage_cost : 0;
        uint32_t have = __ballot_sync(0xffffffff, some);
        int cost_to_here = cost;
        for (int step = 1; step < 32; step *= 2) {
            int less = __shfl_up_sync(0xffffffff, cost_to_here, step);
            cost_to_here += lane >= step ? less : 0;
        }
        if (lane == 31) {
            n_of_warp[warp] = __popc(have);
            cost_of_warp[warp] = cost_to_here;
        }
        __syncthreads();
        int n_here = n_before, cost_here = cost_before;
        for (int w = 0; w < PLAN_WARPS; w++) {
            n_here += w < warp ? n_of_warp[w] : 0;
            cost_here += w < warp ? cost_of_warp[w] : 0;
            n_before += n_of_warp[w];
            cost_before += cost_of_warp[w];
        }
        if (some) {
            segment.cost_begin = cost_here + cost_to_here - cost;
            plan->segments[n_here + __popc(have & ((1U << lane) - 1))] = segment;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        plan->n_segments = n_before;
        plan->cost = cost_before;
    }
}

extern "C" size_t agon_cuda_index_plan_bytes(int n_rows)
{
    size_t n = (size_t)n_rows + (size_t)agon_ceil_div(n_rows, TILE_ROWS);
    return sizeof(struct index_plan) + n * sizeof(struct index_segment);
}

extern "C" int agon_cuda_index_plan(void *plan, int k_skip, const struct agon_cuda_rows *rows,
                                    void *stream, struct agon_err *err)
{
    int r = index_check_rows(rows, "index plan", err);
    if (r)
        return r;
    plan_kernel<<<1, PLAN_THREADS, 0, (cudaStream_t)stream>>>((struct index_plan *)plan, *rows,
                                                              k_skip);
    AGON_CUDA(err, "index plan launch", cudaGetLastError());
    return 0;
}
