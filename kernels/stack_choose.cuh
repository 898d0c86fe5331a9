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
    RIVALS_MAX = 64,
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

/* Of 32 numbers, a lane each, the sum from the lane's to the last. */
static __device__ __forceinline__ int sum_behind(int n)
{
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        int other = __shfl_down_sync(~0u, n, apart);
        n += stack_lane() + apart < 32 ? other : 0;
    }
    return n;
}

/* The largest of BINS bins that at least k counts are in or above: among lanes, each with some of
 * them, then among those. *k becomes how many are wanted of that bin, *ret_n how many are in it. */
static __device__ __forceinline__ int bin_of(const int *counts, int *k, int *ret_n)
{
    enum { EACH = BINS / 32 };
    static_assert((int)EACH == 8, "two loads");
    int lane = stack_lane();
    int4 low = ((const int4 *)counts)[lane * 2], high = ((const int4 *)counts)[lane * 2 + 1];
    int sum = low.x + low.y + low.z + low.w + high.x + high.y + high.z + high.w;
    int above = sum_behind(sum);
    int from = 31 - __clz(__ballot_sync(~0u, above >= *k));
    *k -= __shfl_sync(~0u, above - sum, from);
    int n = lane < EACH ? counts[from * EACH + lane] : 0;
    above = sum_behind(n);
    int found = 31 - __clz(__ballot_sync(~0u, above >= *k));
    *k -= __shfl_sync(~0u, above - n, found);
    *ret_n = __shfl_sync(~0u, n, found);
    return from * EACH + found;
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

/*
 * Bins from the least score on: the larger a score, the higher its bin. ALL: all scores are between
 * the two; else what is not is in none.
 */
struct bins {
    float low, high, by;
};
static __device__ __forceinline__ struct bins bins_between(float low, float high)
{
    return {low, high, __fdividef(BINS - 1, high - low)};
}

/* Floats from 2^23 on are whole numbers: a bin's, plus 2^23. */
static __device__ __forceinline__ float bin_float(int bin)
{
    return __uint_as_float(0x4b000000U + (uint32_t)bin);
}
template <bool ALL>
static __device__ __forceinline__ float bin_at(const struct bins &b, float score)
{
    float bin = fmaf(score - b.low, b.by, bin_float(0));
    if (!ALL && score > b.high)
        bin = bin_float(BINS);
    return ALL || score >= b.low ? bin : 0;
}

template <bool ALL>
static __device__ __forceinline__ void bins_count(const struct chooser &c, const struct bins &b)
{
#pragma unroll 1
    for (int at = c.part * STEP + stack_lane(); at < c.n; at += c.n_parts * STEP)
#pragma unroll
        for (int i = 0; i < WORDS; i++)
            if (at + i * 32 < c.n) {
                uint32_t bin = __float_as_uint(bin_at<ALL>(b, c.scores[at + i * 32])) - 0x4b000000U;
                if (ALL || bin < BINS)
                    atomicAdd(&c.counts[bin], 1);
            }
}

/* The mask: what is in bin `from` or above, and a list of what is in bin `rival`. */
template <bool ALL>
static __device__ __forceinline__ void bins_mask(const struct chooser &c, const struct bins &b,
                                                 int from, int rival)
{
    enum { STEPS = 32 / WORDS };
    int lane = stack_lane(), step = c.n_parts * STEP;
    float least = bin_float(from), same = bin_float(rival);
#pragma unroll 1
    for (int begin = c.part * STEP; begin < c.n; begin += STEPS * step) {
        uint32_t found = 0; /* WORDS bits of each step */
#pragma unroll 1
        for (int i = 0, first = begin; i < STEPS && first < c.n; i++, first += step) {
            uint32_t bits[WORDS], mine = 0;
#pragma unroll
            for (int word = 0; word < WORDS; word++) {
                int at = first + word * 32 + lane;
                float bin = at < c.n ? bin_at<ALL>(b, c.scores[at]) : 0;
                bits[word] = __ballot_sync(~0u, bin >= least);
                mine |= bin == same ? 1U << word : 0;
            }
            found |= mine << i * WORDS;
            if (lane == 0)
                *(uint4 *)(c.mask + first / 32) = make_uint4(bits[0], bits[1], bits[2], bits[3]);
        }
        if (found == 0)
            continue;
        int to = atomicAdd(&c.chosen->n_rivals, __popc(found));
#pragma unroll 1
        for (; found; found &= found - 1, to++) {
            int i = __ffs((int)found) - 1;
            int at = begin + i / WORDS * step + i % WORDS * 32 + lane;
            c.rivals[to] = {c.scores[at], at};
        }
    }
}

/* The best of n rivals to the mask: a warp takes one at a time, a lane one or two others. */
static __device__ __forceinline__ void rivals_mask(const struct chooser &c, int n, int wanted)
{
    static_assert((int)RIVALS_MAX <= 64, "two a lane");
    int lane = stack_lane();
    struct rival low = {-2 * SCORE_MOST, 0}, high = low;
    if (lane < n)
        low = c.rivals[lane];
    if (lane + 32 < n)
        high = c.rivals[lane + 32];
#pragma unroll 1
    for (int i = c.part; i < n; i += c.n_parts) {
        struct rival mine = c.rivals[i];
        auto better = [&](const struct rival &other) {
            return other.score > mine.score || (other.score == mine.score && other.at < mine.at);
        };
        int n_better =
            __popc(__ballot_sync(~0u, better(low))) + __popc(__ballot_sync(~0u, better(high)));
        if (lane == 0 && n_better < wanted)
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
        if (bin_at<false>(b, score) != bin_float(which))
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

/* Looks for the k-th among what is between two scores; false: many are in its bin, c.chosen has
 * it. *wanted: how many of those. */
template <bool ALL>
static __device__ __forceinline__ bool choose_between(const struct chooser &c, int *wanted)
{
    struct bins b = bins_between(order_score(c.chosen->low), order_score(c.chosen->high));
    int n_in;
    bins_count<ALL>(c, b);
    chooser_sync(c);
    int bin = bin_of(c.counts, wanted, &n_in);
    bool all = n_in == *wanted;
    if (!all && n_in > RIVALS_MAX) {
        bin_look(c, b, bin);
        return false;
    }
    bins_mask<ALL>(c, b, all ? bin : bin + 1, all ? (int)BINS + 1 : bin);
    if (!all) {
        chooser_sync(c);
        rivals_mask(c, n_in, *wanted);
    }
    return true;
}

/* The mask of a row that sees more than k positions, by its warps. */
static __device__ __forceinline__ void choose(const struct chooser &c)
{
    int wanted = c.k;
    bool same = c.chosen->low == c.chosen->high;
    if (!same && choose_between<true>(c, &wanted))
        return;
#pragma unroll 1
    while (!same) {
        int n_above = c.chosen->zeros & 0xffff, n_zeros = c.chosen->zeros >> 16;
        if (n_above < wanted && wanted <= n_above + n_zeros) {
            if (c.part == 0)
                equals_mask(c, 0, wanted - n_above);
            return;
        }
        same = c.chosen->low == c.chosen->high;
        if (!same && choose_between<false>(c, &wanted))
            return;
    }
    if (c.part == 0)
        equals_mask(c, order_score(c.chosen->low), wanted);
}
