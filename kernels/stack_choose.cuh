#pragma once
/*
 * The k best of a row's scores (stack.cu): they are counted in BINS between the least and the most.
 * Above the bin of the k-th all are taken; where those in it are few, they are held one against
 * another, else they are counted again, in bins of their own. Bins decide how long that takes,
 * never what is selected: the k largest, of equal ones the lowest positions.
 */
#include "kernels/stack_pages.cuh"

enum {
    BINS = 256,
    RIVALS_MAX = 128,
};

/* So that two that differ do so by as much as makes two bins. */
#define SCORE_LEAST 1e-28F
#define SCORE_MOST  1e30F

/* What a row's warps find out together, of all its scores or of those in a bin. */
struct chosen {
    uint32_t low, high; /* the least and the most: order_key() */
    int n_rivals;
    int zeros; /* how many are 0, in the higher half, and how many above */
};

/* A score whose place among a row's is looked for. */
struct rival {
    float score;
    int at;
};

/* NaN is lowest. */
static __device__ __forceinline__ float score_within(float score)
{
    score = fminf(fmaxf(score, -SCORE_MOST), SCORE_MOST);
    return fabsf(score) < SCORE_LEAST ? 0 : score;
}

/* Larger score, larger key; -0 as 0. */
static __device__ __forceinline__ uint32_t order_key(float score)
{
    uint32_t bits = __float_as_uint(score + 0.0F);
    return bits ^ (bits >> 31 ? 0xffffffffU : 0x80000000U);
}
static __device__ __forceinline__ float order_score(uint32_t key)
{
    return __uint_as_float(key ^ (key >> 31 ? 0x80000000U : 0xffffffffU));
}

/* The largest of BINS bins that at least k counts are in or above: a lane sums its own, then all
 * above. *k becomes how many are wanted of that bin, *ret_n how many are in it. */
static __device__ __forceinline__ int bin_of(const int *counts, int *k, int *ret_n)
{
    enum { EACH = BINS / 32 };
    static_assert((int)EACH == 8, "two loads");
    int lane = stack_lane(), sum = 0;
    int4 low = ((const int4 *)counts)[lane * 2], high = ((const int4 *)counts)[lane * 2 + 1];
    const int n[EACH] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < EACH; i++)
        sum += n[i];
    int above = sum; /* of this lane's bins and all higher ones */
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        int other = __shfl_down_sync(~0u, above, apart);
        above += lane + apart < 32 ? other : 0;
    }
    int from = 31 - __clz(__ballot_sync(~0u, above >= *k)), found = -1, in = 0;
    above -= sum;
#pragma unroll
    for (int i = EACH - 1; i >= 0; i--) {
        if (found >= 0)
            continue;
        if (above + n[i] >= *k) {
            found = i;
            in = n[i];
        } else {
            above += n[i];
        }
    }
    *k -= __shfl_sync(~0u, above, from);
    *ret_n = __shfl_sync(~0u, in, from);
    return from * EACH + __shfl_sync(~0u, found, from);
}

/* A warp at work on a row that sees more than k positions: it has STEP of them, every n_parts-th
 * time. */
enum { STEP = 128, WORDS = STEP / 32 };
struct chooser {
    const float
        *scores; /* none but 0 is nearer to 0 than SCORE_LEAST, or farther than SCORE_MOST */
    uint32_t *mask;
    int row, part, n_parts, n, k;
    struct chosen *chosen;
    int *counts;          /* [BINS], of 0 */
    struct rival *rivals; /* [RIVALS_MAX] */
};

/* Waits for the row's warps. */
static __device__ __forceinline__ void chooser_sync(const struct chooser &c)
{
    barrier_some(1 + c.row, c.n_parts * 32);
}

/* Bins from the least score on: the larger a score, the higher its bin; -1 and BINS for others. */
struct bins {
    float low, high, by;
};
static __device__ __forceinline__ struct bins bins_between(float low, float high)
{
    return {low, high, __fdividef(BINS - 1, high - low)};
}
static __device__ __forceinline__ int bin_at(const struct bins &b, float score)
{
    const float whole = 8388608; /* from here on floats are whole numbers */
    float place = fmaf(score - b.low, b.by, whole);
    int bin = (int)(__float_as_uint(place) - __float_as_uint(whole));
    return score < b.low ? -1 : score > b.high ? (int)BINS : bin;
}

/* Bins of the lane's positions from `at` on, 32 apart; -1 behind the row's end. */
static __device__ __forceinline__ void bins_of(int (&bin)[WORDS], const struct chooser &c,
                                               const struct bins &b, int at)
{
#pragma unroll
    for (int i = 0; i < WORDS; i++)
        bin[i] = at + i * 32 < c.n ? bin_at(b, c.scores[at + i * 32]) : -1;
}

static __device__ __forceinline__ void bins_count(const struct chooser &c, const struct bins &b)
{
#pragma unroll 1
    for (int at = c.part * STEP + stack_lane(); at < c.n; at += c.n_parts * STEP) {
        int bin[WORDS];
        bins_of(bin, c, b, at);
#pragma unroll
        for (int i = 0; i < WORDS; i++)
            if ((uint32_t)bin[i] < BINS)
                atomicAdd(&c.counts[bin[i]], 1);
    }
}

/* The mask: what is in bin `from` or above, and a list of what is in bin `rival`. */
static __device__ __forceinline__ void bins_mask(const struct chooser &c, const struct bins &b,
                                                 int from, int rival)
{
    static_assert((int)AGON_STACK_WINDOW_MAX / STEP / 2 * WORDS <= 64, "a bit a position");
    int lane = stack_lane();
    uint64_t found = 0; /* the last first */
#pragma unroll 1
    for (int first = c.part * STEP; first < c.n; first += c.n_parts * STEP) {
        int bin[WORDS];
        uint32_t bits[WORDS];
        bins_of(bin, c, b, first + lane);
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            bits[i] = __ballot_sync(~0u, bin[i] >= from);
            found = found * 2 + (bin[i] == rival);
        }
        if (lane == 0)
            *(uint4 *)(c.mask + first / 32) = make_uint4(bits[0], bits[1], bits[2], bits[3]);
    }
    if (found == 0)
        return;
    int n_steps = (c.n + STEP - 1) / STEP, to = atomicAdd(&c.chosen->n_rivals, __popcll(found));
    int step = (n_steps - 1 - c.part) / c.n_parts * c.n_parts + c.part; /* the last */
#pragma unroll 1
    for (int i = WORDS - 1; found; found /= 2) {
        int at = step * STEP + i * 32 + lane;
        if (found & 1)
            c.rivals[to++] = {c.scores[at], at};
        if (--i < 0)
            i = WORDS - 1, step -= c.n_parts;
    }
}

/* The best of n rivals to the mask. */
static __device__ __forceinline__ void rivals_mask(const struct chooser &c, int n, int wanted)
{
#pragma unroll 1
    for (int i = c.part * 32 + stack_lane(); i < n; i += c.n_parts * 32) {
        struct rival mine = c.rivals[i];
        int n_better = 0;
#pragma unroll 1
        for (int j = 0; j < n; j += 2)
#pragma unroll
            for (int k = 0; k < 2; k++) {
                struct rival other = c.rivals[j + k];
                n_better += j + k < n && (other.score > mine.score ||
                                          (other.score == mine.score && other.at < mine.at));
            }
        if (n_better < wanted)
            atomicOr(&c.mask[mine.at / 32], 1U << mine.at % 32);
    }
}

/* What is above `score`, and of what equals it the first `wanted`: a warp. */
static __device__ __forceinline__ void equals_mask(const struct chooser &c, float score, int wanted)
{
    int lane = stack_lane();
#pragma unroll 1
    for (int first = 0; first < c.n; first += STEP) {
        uint32_t bits[WORDS];
#pragma unroll
        for (int i = 0; i < WORDS; i++) {
            int at = first + i * 32 + lane;
            float mine = at < c.n ? c.scores[at] : -2 * SCORE_MOST;
            uint32_t equals = __ballot_sync(~0u, mine == score);
            bool early = __popc(equals & ((1U << lane) - 1)) < wanted;
            bits[i] = __ballot_sync(~0u, mine > score || (mine == score && early));
            wanted = max(0, wanted - __popc(equals));
        }
        if (lane == 0)
            *(uint4 *)(c.mask + first / 32) = make_uint4(bits[0], bits[1], bits[2], bits[3]);
    }
}

/* What is in a bin, to c.chosen; counts of 0 again. */
static __device__ __forceinline__ void bin_look(const struct chooser &c, const struct bins &b,
                                                int which)
{
    float low = SCORE_MOST, high = -SCORE_MOST;
    int zeros = 0;
    if (c.part == 0 && stack_lane() == 0)
        *c.chosen = {~0u, 0, 0, 0};
    chooser_sync(c);
#pragma unroll 1
    for (int at = c.part * 32 + stack_lane(); at < c.n; at += c.n_parts * 32) {
        float score = c.scores[at];
        if (bin_at(b, score) != which)
            continue;
        low = fminf(low, score);
        high = fmaxf(high, score);
        zeros += score == 0 ? 1 << 16 : score > 0;
    }
#pragma unroll 1
    for (int i = c.part * 32 + stack_lane(); i < BINS; i += c.n_parts * 32)
        c.counts[i] = 0;
    __syncwarp();
    uint32_t least = __reduce_min_sync(~0u, order_key(low));
    uint32_t most = __reduce_max_sync(~0u, order_key(high));
    zeros = __reduce_add_sync(~0u, zeros);
    if (stack_lane() == 0) {
        atomicMin(&c.chosen->low, least);
        atomicMax(&c.chosen->high, most);
        atomicAdd(&c.chosen->zeros, zeros);
    }
    chooser_sync(c);
}

/* The mask of a row that sees more than k positions, by its warps. */
static __device__ __forceinline__ void choose(const struct chooser &c)
{
    int wanted = c.k, n_in;
#pragma unroll 1
    while (c.chosen->low != c.chosen->high) {
        struct bins b = bins_between(order_score(c.chosen->low), order_score(c.chosen->high));
        bins_count(c, b);
        chooser_sync(c);
        int bin = bin_of(c.counts, &wanted, &n_in);
        bool all = n_in == wanted;
        if (all || n_in <= RIVALS_MAX) {
            bins_mask(c, b, all ? bin : bin + 1, all ? -2 : bin);
            if (!all) {
                chooser_sync(c);
                rivals_mask(c, n_in, wanted);
            }
            return;
        }
        bin_look(c, b, bin);
        int n_above = c.chosen->zeros & 0xffff, n_zeros = c.chosen->zeros >> 16;
        if (n_above < wanted && wanted <= n_above + n_zeros) {
            if (c.part == 0)
                equals_mask(c, 0, wanted - n_above);
            return;
        }
    }
    if (c.part == 0)
        equals_mask(c, order_score(c.chosen->low), wanted);
}
