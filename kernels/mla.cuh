#pragma once
/* Shared by the kernels of cuda_mla.h: numbers of the cache, and which entries a row sees. */
#include "kernels/check.cuh"
#include "kernels/cuda_mla.h"

#include <cuda_bf16.h>
#include <cuda_fp8.h>

/* The kernels behind agon_mla_cuda(); shapes have been checked. */
int agon_mla_plain(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err);
bool agon_mla_fast_does(const struct agon_mla *mla);
size_t agon_mla_fast_scratch(const struct agon_mla *mla);
int agon_mla_fast(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err);
bool agon_mla_small_does(const struct agon_mla *mla);
int agon_mla_small(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err);

/* What a row sees, as slot numbers in order: a list, or the pages of a sequence. */
struct mla_list {
    const int32_t *selected, *n_selected; /* sparse */
    int ld_selected;
    const int32_t *sequence, *position, *pages; /* dense */
    int ld_pages;

    __device__ int count(int row) const
    {
        if (selected)
            return n_selected ? min(max(n_selected[row], 0), ld_selected) : ld_selected;
        return sequence[row] < 0 ? 0 : position[row] + 1;
    }
    /* The i-th of them; -1: none. i < count(row). */
    __device__ int slot(int row, int i) const
    {
        if (selected)
            return selected[(size_t)row * ld_selected + i];
        int page = pages[(size_t)sequence[row] * ld_pages + i / AGON_CUDA_PAGE];
        return page < 0 ? -1 : page * AGON_CUDA_PAGE + i % AGON_CUDA_PAGE;
    }
};

static inline struct mla_list mla_list_of(const struct agon_mla *mla)
{
    return {mla->selected,      mla->n_selected, mla->ld_selected,  mla->rows.sequence,
            mla->rows.position, mla->rows.pages, mla->rows.ld_pages};
}

/* Element i of an array of F32 or BF16. */
static inline __device__ float mla_read(const void *x, enum agon_dtype dtype, size_t i)
{
    return dtype == AGON_F32 ? ((const float *)x)[i]
                             : __bfloat162float(((const __nv_bfloat16 *)x)[i]);
}
static inline __device__ void mla_write(void *x, enum agon_dtype dtype, size_t i, float value)
{
    if (dtype == AGON_F32)
        ((float *)x)[i] = value;
    else
        ((__nv_bfloat16 *)x)[i] = __float2bfloat16_rn(value);
}
