/* SwiGLU (Shazeer 2020): silu(gate) up. */
#include "kernels/kernels.h"

#include <math.h>

void agon_swiglu_ref(float *out, size_t ld_out, const float *x, size_t ld_x, int n_rows, int n)
{
    for (int r = 0; r < n_rows; r++, out += ld_out, x += ld_x)
        for (int i = 0; i < n; i++) {
            double gate = x[i];
            out[i] = (float)(gate / (1 + exp(-gate)) * x[n + i]);
        }
}
