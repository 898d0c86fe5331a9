/* Lightning indexer (DeepSeek-V3.2's report, section 2.1, equation 1). The weights are signed,
 * and so are the scores. */
#include "kernels/kernels.h"

void agon_indexer_ref(float *scores, const float *q, const float *weights,
                      const float *const *blocks, int n, int n_heads, int dim)
{
    for (int s = 0; s < n; s++) {
        const float *key = blocks[s / AGON_PANEL] + s % AGON_PANEL;
        double score = 0;
        for (int h = 0; h < n_heads; h++) {
            double dot = 0;
            for (int d = 0; d < dim; d++)
                dot += (double)q[h * dim + d] * key[d * AGON_PANEL];
            score += dot < 0 ? 0 : weights[h] * dot; /* NaN stays NaN */
        }
        scores[s] = (float)score;
    }
}
