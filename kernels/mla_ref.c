/* Absorbed multi-head latent attention over gathered entries (DeepSeek-V2, section 2.1). */
#include "kernels/kernels.h"

#include <math.h>

void agon_mla_ref(float *out, const float *q, const float *const *entries, int n, int n_heads,
                  int entry_dim, int value_dim, float scale, float *scores)
{
    for (int h = 0; h < n_heads; h++, q += entry_dim, out += value_dim) {
        double largest = -INFINITY, total = 0;
        for (int s = 0; s < n; s++) {
            double dot = 0;
            for (int d = 0; d < entry_dim; d++)
                dot += (double)q[d] * entries[s][d];
            scores[s] = (float)(dot * scale);
            largest = fmax(largest, scores[s]);
        }
        for (int s = 0; s < n; s++) {
            scores[s] = (float)exp(scores[s] - largest);
            total += scores[s];
        }
        for (int d = 0; d < value_dim; d++) {
            double sum = 0;
            for (int s = 0; s < n; s++)
                sum += (double)scores[s] * entries[s][d];
            out[d] = (float)(sum / total);
        }
    }
}
