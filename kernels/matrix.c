/* Packing weights into panels: see kernels.h. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MATRIX_ALIGN = 64 };

int agon_matrix_panels(const struct agon_matrix *w)
{
    return (w->n + AGON_PANEL - 1) / AGON_PANEL;
}

static size_t matrix_scale_blocks(int k)
{
    return (size_t)(k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
}

/* Where element (i, j) lies in panels of k inputs. */
static size_t matrix_index(int k, int i, int j)
{
    return ((size_t)(i / AGON_PANEL) * (size_t)k + (size_t)j) * AGON_PANEL + i % AGON_PANEL;
}

static size_t matrix_scale_index(int k, int i, int j)
{
    return ((size_t)(i / AGON_PANEL) * matrix_scale_blocks(k) + (size_t)j / AGON_SCALE_BLOCK) *
               AGON_PANEL +
           i % AGON_PANEL;
}

static float source_scale(const struct agon_matrix_source *source, int i, int j)
{
    size_t row = (size_t)(source->scale_row + i) / AGON_SCALE_BLOCK;
    return source->scale[row * (size_t)source->scale_ld + (size_t)j / AGON_SCALE_BLOCK];
}

static float source_at(const struct agon_matrix_source *source, int i, int j)
{
    size_t at = (size_t)i * source->stride_n + (size_t)j * source->stride_k;
    const uint8_t *bytes = source->data;
    uint16_t half;
    float x = 0;
    switch (source->dtype) {
    case AGON_F32: memcpy(&x, bytes + 4 * at, sizeof(x)); return x;
    case AGON_BF16: memcpy(&half, bytes + 2 * at, sizeof(half)); return agon_bf16_decode(half);
    case AGON_F16: memcpy(&half, bytes + 2 * at, sizeof(half)); return agon_f16_decode(half);
    case AGON_E4M3: return agon_e4m3_decode(bytes[at]) * source_scale(source, i, j);
    }
    return x;
}

/* Is the element NaN? Without widening: this is most of the time that loading takes. */
static bool source_is_nan(const struct agon_matrix_source *source, size_t at)
{
    const uint8_t *bytes = source->data;
    uint16_t half;
    if (source->dtype == AGON_E4M3)
        return (bytes[at] & 0x7f) == 0x7f;
    memcpy(&half, bytes + 2 * at, sizeof(half));
    return (half & 0x7fff) > 0x7f80; /* BF16 */
}

/* Convert or copy one element; false where it is NaN. */
static bool matrix_put_one(struct agon_matrix *w, int row, const struct agon_matrix_source *source,
                           int i, int j)
{
    size_t from = (size_t)i * source->stride_n + (size_t)j * source->stride_k;
    size_t to = matrix_index(w->k, row, j);
    if (w->dtype == AGON_F32) {
        float x = source_at(source, i, j);
        ((float *)w->data)[to] = x;
        return !isnan(x);
    }
    if (w->dtype == AGON_BF16)
        memcpy((uint16_t *)w->data + to, (const uint8_t *)source->data + 2 * from, 2);
    else
        ((uint8_t *)w->data)[to] = ((const uint8_t *)source->data)[from];
    return !source_is_nan(source, from);
}

static bool matrix_put(struct agon_matrix *w, int at_row, const struct agon_matrix_source *source)
{
    bool good = true;
    for (int i = 0; i < source->n; i++) {
        for (int j = 0; j < w->k; j++)
            good &= matrix_put_one(w, at_row + i, source, i, j);
        for (int j = 0; w->scale && j < w->k; j += AGON_SCALE_BLOCK)
            w->scale[matrix_scale_index(w->k, at_row + i, j)] = source_scale(source, i, j);
    }
    return good;
}

static void *alloc_zeroed(size_t size)
{
    size = (size + MATRIX_ALIGN - 1) / MATRIX_ALIGN * MATRIX_ALIGN;
    void *data = aligned_alloc(MATRIX_ALIGN, size);
    if (data)
        memset(data, 0, size);
    return data;
}

int agon_matrix_init(struct agon_matrix *w, int k, const struct agon_matrix_source *sources,
                     int n_sources, bool as_f32, struct agon_err *err)
{
    struct agon_matrix made = {.k = k, .dtype = sources[0].dtype};
    for (int s = 0; s < n_sources; s++) {
        made.n += sources[s].n;
        as_f32 |= sources[s].dtype != made.dtype || sources[s].dtype == AGON_F16;
    }
    if (as_f32)
        made.dtype = AGON_F32;
    size_t n_padded = (size_t)agon_matrix_panels(&made) * AGON_PANEL;
    made.data = alloc_zeroed(n_padded * (size_t)k * agon_dtype_size(made.dtype));
    if (made.dtype == AGON_E4M3)
        made.scale = alloc_zeroed(n_padded * matrix_scale_blocks(k) * sizeof(*made.scale));
    if (!made.data || (made.dtype == AGON_E4M3 && !made.scale)) {
        agon_matrix_deinit(&made);
        return agon_fail(err, AGON_ENOMEM, "matrix [%d][%d]: out of memory", made.n, k);
    }
    for (int s = 0, row = 0; s < n_sources; row += sources[s++].n)
        if (!matrix_put(&made, row, &sources[s])) {
            agon_matrix_deinit(&made);
            return agon_fail(err, AGON_EINPUT, "holds NaN");
        }
    *w = made;
    return 0;
}

void agon_matrix_deinit(struct agon_matrix *w)
{
    free(w->data);
    free(w->scale);
    *w = (struct agon_matrix){0};
}

float agon_matrix_at(const struct agon_matrix *w, int i, int j)
{
    size_t at = matrix_index(w->k, i, j);
    switch (w->dtype) {
    case AGON_F32: return ((const float *)w->data)[at];
    case AGON_BF16: return agon_bf16_decode(((const uint16_t *)w->data)[at]);
    case AGON_E4M3:
        return agon_e4m3_decode(((const uint8_t *)w->data)[at]) *
               w->scale[matrix_scale_index(w->k, i, j)];
    case AGON_F16: break; /* never packed */
    }
    return NAN;
}

void agon_matrix_row(const struct agon_matrix *w, int i, float *out)
{
    for (int j = 0; j < w->k; j++)
        out[j] = agon_matrix_at(w, i, j);
}

size_t agon_matrix_bytes(const struct agon_matrix *w)
{
    size_t n_padded = (size_t)agon_matrix_panels(w) * AGON_PANEL;
    return n_padded * (size_t)w->k * agon_dtype_size(w->dtype) +
           (w->scale ? n_padded * matrix_scale_blocks(w->k) * sizeof(*w->scale) : 0);
}
