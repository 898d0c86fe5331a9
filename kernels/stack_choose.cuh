#pragma once
/*
 * The k best of a row's scores (stack.cu): they are counted in BINS between the least and the most.
 * Above the bin of the k-th all are taken; those in it are few, and held one against another. The
 * bins decide how long that takes, never what is selected: the k largest, of equal ones the lowest
 * positions.
 */
#include "kernels/stack_pages.cuh"

enum {
    BINS = 256,
    RIVALS_MAX = 128,
};

/* A score whose place among a row's is looked for. */
struct rival {
    float score;
    int at;
};

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
    const float *scores;
    uint32_t *mask;
    float low, high; /* of all scores */
    int row, part, n_parts, n, k;
    /* Of the row: counts [BINS] and *n_rivals are 0. */
    int *counts, *n_rivals;
    struct rival *rivals; /* [RIVALS_MAX] */
};

/* Waits for the row's warps. */
static __device__ __forceinline__ void chooser_sync(const struct chooser &c)
{
    barrier_some(1 + c.row, c.n_parts * 32);
}

/* Bins from the least score on: the larger a score, the higher its bin. */
struct bins {
    float low, by;
};
static __device__ __forceinline__ int bin_at(const struct bins &b, float score)
{
    const float whole = 8388608; /* from here on floats are whole numbers */
    return (int)(__float_as_uint(fmaf(score - b.low, b.by, whole)) - __float_as_uint(whole));
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
            if (bin[i] >= 0)
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
    int n_steps = (c.n + STEP - 1) / STEP, to = atomicAdd(c.n_rivals, __popcll(found));
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

/* The mask by any scores, however many equal each other, bit by bit of the k-th: a warp. */
static __device__ __forceinline__ void any_mask(const struct chooser &c)
{
    int lane = stack_lane(), wanted = c.k;
    uint32_t found = 0;
    auto count = [&](uint32_t least) {
        int n = 0;
#pragma unroll 4
        for (int at = lane; at < c.n; at += 32)
            n += order_key(c.scores[at]) >= least;
        return (int)__reduce_add_sync(~0u, n);
    };
#pragma unroll 1
    for (uint32_t bit = 1U << 31; bit > 0; bit /= 2)
        if (count(found | bit) >= c.k)
            found |= bit;
    wanted -= count(found + 1); /* no score's key is the largest number */
#pragma unroll 1
    for (int word = 0; word < (c.n + STEP - 1) / STEP * WORDS; word++) {
        int at = word * 32 + lane;
        uint32_t key = at < c.n ? order_key(c.scores[at]) : 0;
        bool equal = at < c.n && key == found;
        uint32_t equals = __ballot_sync(~0u, equal);
        bool taken =
            at < c.n && (key > found || (equal && __popc(equals & ((1U << lane) - 1)) < wanted));
        uint32_t bits = __ballot_sync(~0u, taken);
        wanted = max(0, wanted - __popc(equals));
        if (lane == 0)
            c.mask[word] = bits;
    }
}

/* The mask of a row that sees more than k positions, by its warps. */
static __device__ __forceinline__ void choose(const struct chooser &c)
{
    struct bins b = {c.low, __fdividef(BINS - 1, c.high - c.low)};
    int wanted = c.k, n_in;
    if (c.high - c.low > 1e-30F) {
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
    }
    if (c.part == 0)
        any_mask(c);
}
