#pragma once
/*
 * Private to the indexer: how the scores of a batch are cut into work. A tile is TILE_ROWS
 * consecutive rows; the pages that all its rows see alike (a chunk of one sequence, forks of one
 * prompt) make one segment, read once for the tile; what each row sees beyond makes a segment of
 * its own. Segments lie one behind the other on an axis of cost, which the blocks of a persistent
 * grid share evenly.
 */
#include "kernels/index.cuh"

enum {
    TILE_ROWS = 8,
    STAGE_PAGES = 4,    /* pages that a block works on at a time */
    PAGE_COST_LEAST = 3 /* a page costs its rows' products, or at least its way from memory */
};

struct index_segment {
    int32_t row, n_rows, page_begin, page_end;
    int32_t cost_begin, stage_cost; /* each STAGE_PAGES pages, begun or whole, cost stage_cost */
};

struct index_plan {
    int32_t n_segments, cost, padding[2];
    struct index_segment segments[];
};

static __host__ __device__ inline int index_stages(int page_begin, int page_end)
{
    return agon_ceil_div(page_end - page_begin, STAGE_PAGES);
}
