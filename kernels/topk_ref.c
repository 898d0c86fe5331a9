/* Exact top-k by counting how many stand before each: quadratic, and plainly right. */
#include "kernels/kernels.h"

#include <math.h>

static bool ranks_before(float a, int at_a, float b, int at_b)
{
    if (isnan(a) || isnan(b))
        return isnan(a) && isnan(b) ? at_a < at_b : isnan(b);
    return a > b || (a == b && at_a < at_b);
}

int agon_topk_ref(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch)
{
    (void)scratch; /* only the fast twin needs it */
    int n_selected = 0;
    for (int i = 0; i < n; i++) {
        int n_before = 0;
        for (int j = 0; j < n; j++)
            n_before += ranks_before(scores[j], j, scores[i], i);
        if (n_before < k)
            ret_selected[n_selected++] = i;
    }
    return n_selected;
}
