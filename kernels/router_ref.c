/* Expert choice (DeepSeek-V3's report, section 2.1.2; noaux_tc) and grouping of rows by expert.
 * A few hundred operations a token, so these are the only versions. */
#include "kernels/kernels.h"

#include <assert.h>
#include <math.h>

/* Group scores: the sum of the two best of each group. */
static void router_mask_groups(double *ranked, const struct agon_router *router)
{
    int group_size = router->n_experts / router->n_group;
    double score[AGON_EXPERTS_MAX];
    for (int g = 0; g < router->n_group; g++) {
        double first = -INFINITY, second = -INFINITY;
        for (int e = g * group_size; e < (g + 1) * group_size; e++) {
            if (ranked[e] > first) {
                second = first;
                first = ranked[e];
            } else if (ranked[e] > second) {
                second = ranked[e];
            }
        }
        score[g] = group_size > 1 ? first + second : first;
    }
    for (int g = 0; g < router->n_group; g++) {
        int n_before = 0;
        for (int o = 0; o < router->n_group; o++)
            n_before += score[o] > score[g] || (score[o] == score[g] && o < g);
        if (n_before < router->topk_group)
            continue;
        for (int e = g * group_size; e < (g + 1) * group_size; e++)
            ranked[e] = -INFINITY; /* not 0: a bias may make every rank negative */
    }
}

void agon_router_ref(int *ret_ids, float *ret_weights, const float *logits, const float *bias,
                     const struct agon_router *router)
{
    assert(router->n_experts <= AGON_EXPERTS_MAX);
    double share[AGON_EXPERTS_MAX], ranked[AGON_EXPERTS_MAX];
    bool taken[AGON_EXPERTS_MAX] = {0};
    for (int e = 0; e < router->n_experts; e++) {
        share[e] = 1 / (1 + exp(-(double)logits[e]));
        ranked[e] = share[e] + bias[e];
    }
    if (router->n_group > 1)
        router_mask_groups(ranked, router);

    for (int slot = 0; slot < router->top_k; slot++) {
        int best = -1;
        for (int e = 0; e < router->n_experts; e++)
            if (!taken[e] && (best < 0 || ranked[e] > ranked[best]))
                best = e;
        taken[best] = true;
        ret_ids[slot] = best;
    }
    agon_router_weights_ref(ret_weights, logits, ret_ids, router);
}

void agon_router_weights_ref(float *ret_weights, const float *logits, const int *ids,
                             const struct agon_router *router)
{
    double share[AGON_EXPERT_TOPK_MAX], total = 0;
    for (int slot = 0; slot < router->top_k; slot++) {
        share[slot] = 1 / (1 + exp(-(double)logits[ids[slot]]));
        total += share[slot];
    }
    for (int slot = 0; slot < router->top_k; slot++)
        ret_weights[slot] =
            (float)((router->normalise ? share[slot] / total : share[slot]) * router->scale);
}

void agon_moe_group(int *begin, int *pair_row, int *pair_of, const int *ids, int n_rows, int top_k,
                    int n_experts)
{
    for (int e = 0; e <= n_experts; e++)
        begin[e] = 0;
    for (int i = 0; i < n_rows * top_k; i++)
        begin[ids[i] + 1]++;
    for (int e = 0; e < n_experts; e++)
        begin[e + 1] += begin[e];
    /* Fill from each expert's begin, then move the begins back. */
    for (int i = 0; i < n_rows * top_k; i++) {
        int pair = begin[ids[i]]++;
        pair_row[pair] = i / top_k;
        pair_of[i] = pair;
    }
    for (int e = n_experts; e > 0; e--)
        begin[e] = begin[e - 1];
    begin[0] = 0;
}

void agon_moe_combine(float *x, const float *y, size_t ld_y, const int *pair_of,
                      const float *weights, int top_k, int n)
{
    for (int slot = 0; slot < top_k; slot++) {
        const float *from = y + ld_y * (size_t)pair_of[slot];
        for (int i = 0; i < n; i++)
            x[i] += weights[slot] * from[i];
    }
}
