#pragma once
/* The choice of one row's experts by a warp. Twin: agon_router_ref(). */
#include "kernels/cuda_ops.h"

#include <cmath>

static __device__ double share_of(float logit)
{
    return 1 / (1 + exp(-(double)logit));
}

/* The sum of the group's two best, as router_mask_groups() takes it. */
static __device__ double group_score(const double *ranked, int group_size)
{
    double first = -INFINITY, second = -INFINITY;
    for (int e = 0; e < group_size; e++) {
        if (ranked[e] > first) {
            second = first;
            first = ranked[e];
        } else if (ranked[e] > second) {
            second = ranked[e];
        }
    }
    return group_size > 1 ? first + second : first;
}

/* Experts of the groups that are not among the best become -inf; lane g scores groups g, g + 32. */
static __device__ void mask_groups(double *ranked, double *score, const struct agon_router &router)
{
    int lane = threadIdx.x % 32, group_size = router.n_experts / router.n_group;
    for (int g = lane; g < router.n_group; g += 32)
        score[g] = group_score(ranked + g * group_size, group_size);
    __syncwarp();
    for (int g = lane; g < router.n_group; g += 32) {
        int n_before = 0;
        for (int o = 0; o < router.n_group; o++)
            n_before += score[o] > score[g] || (score[o] == score[g] && o < g);
        for (int e = g * group_size; e < (g + 1) * group_size && n_before >= router.topk_group; e++)
            ranked[e] = -INFINITY;
    }
    __syncwarp();
}

/* The best of those not taken, the lowest id on ties; a taken one is NaN. */
static __device__ int best_of(const double *ranked, int n)
{
    int best = n;
    double value = -INFINITY;
    for (int e = threadIdx.x % 32; e < n; e += 32)
        if (!isnan(ranked[e]) && (best == n || ranked[e] > value)) {
            best = e;
            value = ranked[e];
        }
    for (int offset = 16; offset > 0; offset /= 2) {
        int other = __shfl_xor_sync(~0u, best, offset);
        double other_value = __shfl_xor_sync(~0u, value, offset);
        bool better = other < n &&
                      (best == n || other_value > value || (other_value == value && other < best));
        best = better ? other : best;
        value = better ? other_value : value;
    }
    return best;
}

/* Fill chosen[0 .. top_k): a warp. Logits that are NaN leave ids that are in range all the same. */
static __device__ void choose(int32_t *chosen, double *ranked, double *score, const float *logits,
                              const float *bias, const struct agon_router &router)
{
    int lane = threadIdx.x % 32;
    for (int e = lane; e < router.n_experts; e += 32)
        ranked[e] = share_of(logits[e]) + bias[e];
    __syncwarp();
    if (router.n_group > 1)
        mask_groups(ranked, score, router);
    for (int slot = 0; slot < router.top_k; slot++) {
        int best = best_of(ranked, router.n_experts);
        best = best < router.n_experts ? best : slot;
        __syncwarp();
        if (lane == 0) {
            chosen[slot] = best;
            ranked[best] = NAN;
        }
        __syncwarp();
    }
}

/* The weights of ids[0 .. top_k), by one thread. */
static __device__ void route_weights(float *weights, const int32_t *ids, const float *logits,
                                     const struct agon_router &router)
{
    double total = 0;
    for (int slot = 0; slot < router.top_k; slot++)
        total += share_of(logits[ids[slot]]);
    for (int slot = 0; slot < router.top_k; slot++) {
        double share = share_of(logits[ids[slot]]);
        weights[slot] = (float)((router.normalise ? share / total : share) * router.scale);
    }
}

/*
 * ids[0 .. top_k) and their weights. forced: this row's, or NULL; scratch: doubles [n_experts +
 * n_group].
 */
static __device__ void route_row(int32_t *ids, float *weights, const float *logits,
                                 const float *bias, const uint16_t *forced, double *scratch,
                                 const struct agon_router &router)
{
    int lane = threadIdx.x % 32;
    if (forced && forced[0] != AGON_CUDA_NOT_FORCED) {
        for (int slot = lane; slot < router.top_k; slot += 32)
            ids[slot] = forced[slot] < router.n_experts ? forced[slot] : router.n_experts - 1;
    } else {
        choose(ids, scratch, scratch + router.n_experts, logits, bias, router);
    }
    __syncwarp();
    if (lane == 0)
        route_weights(weights, ids, logits, router);
}
