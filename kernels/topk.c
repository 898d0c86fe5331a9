/* Exact top-k for any machine: see topk.h. */
#include "kernels/topk.h"

#include "kernels/fast.h"

int agon_topk_plain(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch)
{
    return topk_body(ret_selected, scores, n, k, scratch);
}
