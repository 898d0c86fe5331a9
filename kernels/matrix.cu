/* Matrices on the device: see cuda_ops.h. */
#include "kernels/check.cuh"
#include "kernels/cuda_ops.h"
#include "kernels/number.cuh"

#include <cstdlib>
#include <cstring>

static int scale_blocks(int k)
{
    return agon_ceil_div(k, AGON_SCALE_BLOCK);
}

extern "C" int agon_cuda_matrix_alloc(struct agon_cuda_matrix *ret, int n, int k,
                                      enum agon_dtype dtype, int scale_rows, struct agon_err *err)
{
    if (n <= 0 || k <= 0 || dtype == AGON_F16 ||
        (dtype == AGON_E4M3 && scale_rows != 1 && scale_rows != AGON_SCALE_BLOCK))
        return agon_fail(err, AGON_EINPUT, "device matrix [%d][%d] %s, scales for %d rows", n, k,
                         agon_dtype_name(dtype), scale_rows);
    struct agon_cuda_matrix made = {};
    size_t size = agon_dtype_size(dtype), align = 16 / size;
    made.n = n;
    made.k = k;
    made.dtype = dtype;
    made.ld = ((size_t)k + align - 1) / align * align;
    void *scale = NULL;
    int r = agon_cuda_alloc(&made.data, (size_t)n * made.ld * size, err);
    if (!r && dtype == AGON_E4M3) {
        made.ld_scale = scale_blocks(k);
        made.scale_rows = scale_rows;
        r = agon_cuda_alloc(
            &scale, (size_t)agon_ceil_div(n, scale_rows) * made.ld_scale * sizeof(float), err);
        made.scale = (float *)scale;
    }
    if (r) {
        agon_cuda_matrix_free(&made);
        return r;
    }
    *ret = made;
    return 0;
}

extern "C" void agon_cuda_matrix_free(struct agon_cuda_matrix *w)
{
    agon_cuda_free(w->data);
    agon_cuda_free(w->scale);
    *w = {};
}

static size_t packed_at(const struct agon_matrix *w, int i, int j)
{
    return ((size_t)(i / AGON_PANEL) * w->k + j) * AGON_PANEL + i % AGON_PANEL;
}

static float packed_scale(const struct agon_matrix *w, int i, int block)
{
    return w->scale[((size_t)(i / AGON_PANEL) * scale_blocks(w->k) + block) * AGON_PANEL +
                    i % AGON_PANEL];
}

/* Rows of w as they stand on the device, ld elements apart, zeros between. */
static void unpack(void *to, size_t ld, enum agon_dtype as, const struct agon_matrix *w)
{
    for (int i = 0; i < w->n; i++)
        for (int j = 0; j < w->k; j++) {
            size_t at = (size_t)i * ld + j, from = packed_at(w, i, j);
            if (as == AGON_F32)
                ((float *)to)[at] = agon_matrix_at(w, i, j);
            else if (as == AGON_E4M3)
                ((uint8_t *)to)[at] = ((const uint8_t *)w->data)[from];
            else if (w->dtype == AGON_BF16)
                ((uint16_t *)to)[at] = ((const uint16_t *)w->data)[from];
            else
                ((uint16_t *)to)[at] = agon_bf16_encode(agon_matrix_at(w, i, j));
        }
}

/* False where a block of 128 rows has rows of different scales. */
static bool unpack_scales(float *to, const struct agon_cuda_matrix *like,
                          const struct agon_matrix *w)
{
    bool good = true;
    for (int i = 0; i < w->n; i++)
        for (int b = 0; b < like->ld_scale; b++) {
            float *at = &to[(size_t)(i / like->scale_rows) * like->ld_scale + b];
            float scale = packed_scale(w, i, b);
            if (i % like->scale_rows == 0)
                *at = scale;
            good &= *at == scale;
        }
    return good;
}

static int matrix_check(const struct agon_cuda_matrix *to, int row, const struct agon_matrix *w,
                        struct agon_err *err)
{
    bool dtypes = to->dtype == AGON_F32 || to->dtype == AGON_BF16 || to->dtype == w->dtype;
    bool blocks = to->dtype != AGON_E4M3 || row % to->scale_rows == 0;
    if (w->k != to->k || row < 0 || row + w->n > to->n || !dtypes || !blocks)
        return agon_fail(err, AGON_EINPUT,
                         "%s matrix [%d][%d] at row %d of a device matrix %s "
                         "[%d][%d]",
                         agon_dtype_name(w->dtype), w->n, w->k, row, agon_dtype_name(to->dtype),
                         to->n, to->k);
    return 0;
}

extern "C" int agon_cuda_matrix_put(const struct agon_cuda_matrix *to, int row,
                                    const struct agon_matrix *w, struct agon_err *err)
{
    int r = matrix_check(to, row, w, err);
    if (r)
        return r;
    size_t size = agon_dtype_size(to->dtype), bytes = (size_t)w->n * to->ld * size;
    size_t n_scales = 0;
    if (to->dtype == AGON_E4M3)
        n_scales = (size_t)agon_ceil_div(w->n, to->scale_rows) * to->ld_scale;
    void *data = calloc(1, bytes);
    float *scales = (float *)calloc(n_scales + 1, sizeof(float));
    if (!data || !scales) {
        r = agon_fail(err, AGON_ENOMEM, "matrix [%d][%d]: out of memory", w->n, w->k);
    } else {
        unpack(data, to->ld, to->dtype, w);
        if (n_scales > 0 && !unpack_scales(scales, to, w))
            r = agon_fail(err, AGON_EINPUT,
                          "matrix [%d][%d]: rows of one block of 128 have "
                          "different scales",
                          w->n, w->k);
    }
    if (!r)
        r = agon_cuda_copy((char *)to->data + (size_t)row * to->ld * size, data, bytes, NULL, err);
    if (!r && n_scales > 0)
        r = agon_cuda_copy(to->scale + (size_t)(row / to->scale_rows) * to->ld_scale, scales,
                           n_scales * sizeof(float), NULL, err);
    if (!r)
        r = agon_cuda_sync(NULL, err);
    free(data);
    free(scales);
    return r;
}
