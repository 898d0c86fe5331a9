#pragma once
/* Shared by the products on tensor cores (gemm_wgmma.cu, gemm_large.cu): a block's tile, its way
 * from memory by tensor maps. Weights are the first operand of wgmma, rows of x the second. */
#include "kernels/check.cuh"
#include "kernels/gemm.cuh"
#include "kernels/wgmma.cuh"

enum gemm_kind { BF16_BY_BF16, BF16_BY_F32, E4M3_BY_E4M3 }; /* weights by x */

struct gemm_maps {
    CUtensorMap w, x;
};

/* What a block computes. */
struct gemm_tile {
    int w_row;    /* of the matrix: the first of its outputs */
    int n_out;    /* outputs that exist from there on */
    int n_up;     /* gated: rows from a gate's to its up's; else 0 */
    int x_k;      /* mapped x: where the part's columns begin */
    int row, end; /* rows row .. end of the launch exist */
    /* gemm_wgmma.cu's alone: */
    const char *x;
    int n_steps, n_filled; /* filled: that went through the buffers before this tile */
};

/* Which row of W, counted from w_row, the i-th 64 of the block begin with. Gated, tiles take turns:
 * a gate's, then the same outputs' up; so a thread has both. */
static __device__ __forceinline__ int gemm_tile_row(const struct gemm_tile &at, int i)
{
    return at.n_up ? i / 2 * 64 + i % 2 * at.n_up : i * 64;
}

static int gemm_map(CUtensorMap *ret, const void *data, enum agon_dtype dtype, size_t k, size_t n,
                    size_t ld, int box_rows, struct agon_err *err)
{
    PFN_cuTensorMapEncodeTiled_v12000 encode = NULL;
    int r = tensor_map_encoder(&encode, err);
    if (r)
        return r;
    size_t size = agon_dtype_size(dtype);
    const cuuint64_t sizes[] = {k, n}, strides[] = {ld * size};
    const cuuint32_t box[] = {(cuuint32_t)(TILE_BYTES_K / size), (cuuint32_t)box_rows};
    const cuuint32_t steps[] = {1, 1};
    CUresult e =
        encode(ret, size == 1 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2,
               (void *)data, sizes, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
               CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
               CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (e != CUDA_SUCCESS)
        return agon_fail(err, AGON_EDEVICE, "tensor map: error %d of the driver", (int)e);
    return 0;
}

/* Maps of weights, by 64 rows, and of x by box_rows; 0: x comes another way. */
static int gemm_maps_make(struct gemm_maps *maps, const struct gemm_launch *launch, int box_rows,
                          struct agon_err *err)
{
    const struct agon_cuda_gemm *g = &launch->gemm;
    size_t k = (size_t)launch->w.k, x_k = k;
    if (!launch->begin && g->n_batch > 1)
        x_k += (g->n_batch - 1) * g->batch_x;
    int r = gemm_map(&maps->w, launch->w.data, launch->w.dtype, k, (size_t)launch->w.n,
                     launch->w.ld, 64, err);
    if (!r && box_rows > 0)
        r = gemm_map(&maps->x, g->x, g->x_dtype, x_k, (size_t)g->n_rows, g->ld_x, box_rows, err);
    return r;
}
