#pragma once
/*
 * Private to kernels/: exact top-k by bisection over keys that order as the scores do. Each
 * round counts the keys above a middle, a loop that vectorises, so the same text serves every
 * instruction set. At most 32 rounds, and fewer where a
 * middle parts the keys just so.
 */
#include "kernels/kernels.h"

#include <string.h>

/* Larger score, larger key; -0 as 0; NaN lowest. */
static inline __attribute__((always_inline)) int32_t topk_key(float score)
{
    int32_t bits;
    float plus = score + 0.0F; /* -0 + 0 is 0 */
    memcpy(&bits, &plus, sizeof(bits));
    return score == score ? bits ^ (bits >> 31 & 0x7fffffff) : INT32_MIN;
}

static inline __attribute__((always_inline)) int topk_count(const int32_t *keys, int n,
                                                            int32_t least)
{
    int count = 0;
    for (int i = 0; i < n; i++)
        count += keys[i] >= least;
    return count;
}

/* The least key that is selected whole; *ret_n_below of those just below it are taken too. */
static inline __attribute__((always_inline)) int64_t topk_least(const int32_t *keys, int n, int k,
                                                                int *ret_n_below)
{
    int32_t smallest = INT32_MAX, largest = INT32_MIN;
    for (int i = 0; i < n; i++) {
        smallest = keys[i] < smallest ? keys[i] : smallest;
        largest = keys[i] > largest ? keys[i] : largest;
    }
    /* At least k keys are >= low, and n_high < k are >= high. */
    int64_t low = smallest, high = (int64_t)largest + 1;
    int n_high = 0;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        int count = topk_count(keys, n, (int32_t)middle);
        if (count >= k)
            low = middle;
        if (count <= k) {
            high = middle;
            n_high = count;
        }
        if (count == k)
            break;
    }
    *ret_n_below = k - n_high;
    return high;
}

static inline __attribute__((always_inline)) int topk_body(int *ret_selected, const float *scores,
                                                           int n, int k, uint32_t *scratch)
{
    if (k <= 0)
        return 0;
    if (n <= k) {
        for (int i = 0; i < n; i++)
            ret_selected[i] = i;
        return n;
    }
    int32_t *keys = (int32_t *)scratch;
    for (int i = 0; i < n; i++)
        keys[i] = topk_key(scores[i]);
    int n_below, n_selected = 0;
    int64_t least = topk_least(keys, n, k, &n_below);
    for (int i = 0; n_selected < k; i++) {
        bool below = keys[i] == least - 1 && n_below > 0;
        ret_selected[n_selected] = i;
        n_selected += keys[i] >= least || below;
        n_below -= below;
    }
    return n_selected;
}
