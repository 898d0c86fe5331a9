/* Rotary embedding with YaRN (Peng et al. 2023), in the model's two layouts. */
#include "kernels/kernels.h"

#include <math.h>

/* The (fractional) pair whose wavelength turns `turns` times in the original context. */
static double yarn_pair(const struct agon_rope *rope, double turns)
{
    return rope->dim * log(rope->original_positions / (turns * 2 * M_PI)) / (2 * log(rope->theta));
}

void agon_rope_frequencies(double *inv_freq, const struct agon_rope *rope)
{
    double low = 0, high = 0;
    if (rope->yarn) {
        low = fmax(floor(yarn_pair(rope, rope->beta_fast)), 0);
        high = fmin(ceil(yarn_pair(rope, rope->beta_slow)), rope->dim - 1);
        if (low == high)
            high += 0.001; /* the reference's guard; decides for small dims */
    }
    for (int i = 0; i < rope->dim / 2; i++) {
        double plain = pow(rope->theta, -2.0 * i / rope->dim);
        if (!rope->yarn) {
            inv_freq[i] = plain;
            continue;
        }
        double ramp = fmin(fmax((i - low) / (high - low), 0), 1);
        inv_freq[i] = plain / rope->factor * ramp + plain * (1 - ramp);
    }
}

double agon_rope_softmax_scale(const struct agon_rope *rope, int qk_dim)
{
    double m = 1;
    if (rope->yarn && rope->factor > 1)
        m = 0.1 * rope->mscale_all_dim * log(rope->factor) + 1;
    return m * m / sqrt((double)qk_dim);
}

void agon_rope_angles(float *ret_cos, float *ret_sin, const double *inv_freq, int half,
                      int64_t position)
{
    for (int i = 0; i < half; i++) {
        double angle = (double)position * inv_freq[i];
        ret_cos[i] = (float)cos(angle);
        ret_sin[i] = (float)sin(angle);
    }
}

void agon_rope_interleaved_ref(float *x, const float *cosine, const float *sine, int half)
{
    for (int i = 0; i < half; i++) {
        float a = x[2 * i], b = x[2 * i + 1];
        x[2 * i] = a * cosine[i] - b * sine[i];
        x[2 * i + 1] = a * sine[i] + b * cosine[i];
    }
}

void agon_rope_half_split_ref(float *x, const float *cosine, const float *sine, int half)
{
    for (int i = 0; i < half; i++) {
        float a = x[i], b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = a * sine[i] + b * cosine[i];
    }
}
