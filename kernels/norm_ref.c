/* RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016). */
#include "kernels/kernels.h"

#include <math.h>

void agon_rmsnorm_ref(float *out, size_t ld_out, const float *x, size_t ld_x, const float *w,
                      int n_rows, int n, float eps)
{
    for (int r = 0; r < n_rows; r++, out += ld_out, x += ld_x) {
        double square = 0;
        for (int i = 0; i < n; i++)
            square += (double)x[i] * x[i];
        double factor = 1 / sqrt(square / n + eps);
        for (int i = 0; i < n; i++)
            out[i] = (float)(w[i] * (x[i] * factor));
    }
}

void agon_layernorm_ref(float *out, const float *x, const float *w, const float *bias, int n,
                        float eps)
{
    double mean = 0, variance = 0;
    for (int i = 0; i < n; i++)
        mean += x[i];
    mean /= n;
    for (int i = 0; i < n; i++)
        variance += (x[i] - mean) * (x[i] - mean);
    double factor = 1 / sqrt(variance / n + eps);
    for (int i = 0; i < n; i++)
        out[i] = (float)((x[i] - mean) * factor * w[i] + bias[i]);
}
