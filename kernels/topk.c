/*
 * Exact top-k by radix: find the k-th largest key from its high bits down (11, 11, 10), then
 * one pass over the positions. Linear, and no branch depends on the values' order.
 */
#include "kernels/fast.h"

#include <string.h>

enum { RADIX_BINS = 2048 };

/* Order-preserving: larger float, larger key; -0 as 0; NaN lowest. */
static inline uint32_t key_of(float score)
{
    uint32_t bits;
    score += 0.0F; /* -0 + 0 is 0 */
    memcpy(&bits, &score, sizeof(bits));
    uint32_t key = bits & 0x80000000 ? ~bits : bits | 0x80000000;
    return score == score ? key : 0;
}

/* The bin in which the k-th largest lies; *k becomes its rank within the bin. */
static uint32_t radix_find(const uint32_t *counts, uint32_t n_bins, uint32_t *k)
{
    uint32_t bin = n_bins - 1;
    while (counts[bin] < *k)
        *k -= counts[bin--];
    return bin;
}

/* The k-th largest key; *k becomes how many equal to it are to be taken. */
static uint32_t radix_threshold(const uint32_t *keys, int n, uint32_t *k)
{
    static const struct {
        uint32_t shift, bits;
    } digits[] = {{21, 11}, {10, 11}, {0, 10}};
    uint32_t threshold = 0, known = 0; /* the mask of the bits found so far */
    for (int digit = 0; digit < 3; digit++) {
        uint32_t counts[RADIX_BINS] = {0}, n_bins = 1U << digits[digit].bits;
        for (int i = 0; i < n; i++)
            if ((keys[i] & known) == threshold)
                counts[keys[i] >> digits[digit].shift & (n_bins - 1)]++;
        threshold |= radix_find(counts, n_bins, k) << digits[digit].shift;
        known |= (n_bins - 1) << digits[digit].shift;
    }
    return threshold;
}

int agon_topk_fast(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch)
{
    if (k <= 0)
        return 0;
    if (n <= k) {
        for (int i = 0; i < n; i++)
            ret_selected[i] = i;
        return n;
    }
    for (int i = 0; i < n; i++)
        scratch[i] = key_of(scores[i]);
    uint32_t n_equal = (uint32_t)k;
    uint32_t threshold = radix_threshold(scratch, n, &n_equal);
    int n_selected = 0;
    for (int i = 0; n_selected < k; i++) {
        bool equal = scratch[i] == threshold && n_equal > 0;
        ret_selected[n_selected] = i;
        n_selected += scratch[i] > threshold || equal;
        n_equal -= equal;
    }
    return n_selected;
}
