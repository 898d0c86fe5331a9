#pragma once
/* Shared by the indexer's kernels: rows as a kernel argument, and where a position lies. */
#include "kernels/check.cuh"
#include "kernels/cuda_indexer.h"

/* The page of row r's sequence that holds position s. */
static __device__ inline int index_page(const struct agon_cuda_rows &rows, int sequence, int s)
{
    return rows.pages[(size_t)sequence * (size_t)rows.ld_pages + (size_t)(s / AGON_CUDA_PAGE)];
}

/* What every wrapper asks of rows. */
static inline int index_check_rows(const struct agon_cuda_rows *rows, const char *what,
                                   struct agon_err *err)
{
    if (rows->n_rows < 0 || rows->n_rows > 65535 || rows->n_max < 0 || rows->ld_pages < 0 ||
        (int64_t)rows->ld_pages * AGON_CUDA_PAGE < rows->n_max)
        return agon_fail(err, AGON_EINPUT, "%s: %d rows of up to %d positions, %d pages a sequence",
                         what, rows->n_rows, rows->n_max, rows->ld_pages);
    return 0;
}
