/* y = x W^T over a packed matrix, each sum in double. */
#include "kernels/kernels.h"

void agon_matmul_ref(float *out, size_t ld_out, const float *x, size_t ld_x, const int *rows,
                     int n_rows, const struct agon_matrix *w, int panel_begin, int panel_end)
{
    int end = panel_end * AGON_PANEL < w->n ? panel_end * AGON_PANEL : w->n;
    for (int i = panel_begin * AGON_PANEL; i < end; i++)
        for (int r = 0; r < n_rows; r++) {
            const float *row = x + ld_x * (size_t)(rows ? rows[r] : r);
            double sum = 0;
            for (int k = 0; k < w->k; k++)
                sum += (double)row[k] * agon_matrix_at(w, i, k);
            out[ld_out * (size_t)r + (size_t)i] = (float)sum;
        }
}
