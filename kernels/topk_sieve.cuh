#pragma once
/*
 * Exact top-k of one row by one block that looks at all scores but once. The scores of a sample say
 * which score some more than k are likely to reach; what is above it (a few thousand) is kept with
 * its position, and where it is equal to it, a bit of its position is set. Among what was kept the
 * k-th largest is found exactly. Its bits join the others', and what is set is written in order of
 * position. Where the sample led astray (fewer than k, or more than there is room for) nothing is
 * written, and the row is done by topk_row.cuh.
 *
 * Bits and counts do not depend on the order in which threads come, so neither does the selection.
 */
#include "kernels/topk_row.cuh"

enum {
    SIEVE_THREADS = 512,
    SIEVE_WARPS = SIEVE_THREADS / 32,
    SAMPLES = 16,                                     /* of a thread, 4 by 4 */
    SIEVED_MAX = 6144,                                /* scores that are kept */
    SIEVE_AT_LEAST = 4 * SAMPLES * SIEVE_THREADS / 4, /* positions of a row */
    SIEVE_AT_MOST = 1 << 18,
    WORDS_AT_ONCE = 8, /* of 32 positions, by a warp */
    SIEVE_BITS = 11,
    SIEVE_BINS = 1 << SIEVE_BITS,
};

struct sieved {
    uint32_t key[SIEVED_MAX]; /* less the sieve's */
    int32_t position[SIEVED_MAX];
    uint32_t bits[]; /* a bit a position */
};

/* The score of a key. */
static __device__ float topk_score(uint32_t key)
{
    return __uint_as_float(key >> 31 ? key ^ 0x80000000 : ~key);
}

/* The need-th largest of keys: it, how many of its equals are needed, and how many there are. */
struct ranked {
    uint32_t key, need, n_equal;
};

/* Of the keys below 2^bits that each() gives to its argument. Called by all threads. */
template <class EACH>
static __device__ struct ranked rank_keys(int bits, uint32_t need, const EACH &each)
{
    __shared__ uint32_t count[SIEVE_BINS], bin, bin_need, bin_count, warp_sum[FINDERS / 32];
    struct ranked ranked = {0, need, 0};
    for (int shift = bits; shift > 0;) {
        int width = min((int)SIEVE_BITS, shift);
        shift -= width;
        for (int i = (int)threadIdx.x; i < SIEVE_BINS; i += SIEVE_THREADS)
            count[i] = 0;
        __syncthreads();
        each([&](uint32_t key) {
            if (key >> shift >> width == ranked.key)
                atomicAdd(&count[key >> shift & ((1U << width) - 1)], 1);
        });
        __syncthreads();
        if (threadIdx.x < FINDERS) {
            enum { EACH_BINS = SIEVE_BINS / FINDERS };
            uint32_t mine[EACH_BINS];
            for (int b = 0; b < EACH_BINS; b++)
                mine[b] = count[threadIdx.x * EACH_BINS + b];
            find_bin(mine, ranked.need, &bin, &bin_need, &bin_count, warp_sum);
        }
        __syncthreads();
        ranked = {ranked.key << width | bin, bin_need, bin_count};
        __syncthreads(); /* they are written again */
    }
    return ranked;
}

/* A score that some more than k of n are likely to reach, by its key; 0: none. */
static __device__ uint32_t sieve_key(const float *scores, int n, int k)
{
    enum { N = SAMPLES * SIEVE_THREADS };
    uint32_t sample[SAMPLES];
    int apart = n / (N / 4);
#pragma unroll
    for (int i = 0; i < SAMPLES; i++)
        sample[i] = topk_key(scores[(i / 4 * SIEVE_THREADS + (int)threadIdx.x) * apart + i % 4]);
    /* The k-th of all is about the expected-th of these; four side by side may be alike. */
    float expected = (float)k * N / (float)n;
    uint32_t wanted = (uint32_t)(expected + 6 * sqrtf(2 * expected)) + 16;
    return rank_keys(32, min(wanted, (uint32_t)N),
                     [&](auto take) {
                         for (int i = 0; i < SAMPLES; i++)
                             take(sample[i]);
                     })
        .key;
}

/* Threads' numbers before this one's, and all together. */
static __device__ uint32_t sum_before(uint32_t mine, uint32_t *ret_all)
{
    __shared__ uint32_t sum[SIEVE_WARPS];
    uint32_t to_here = mine, before = 0, all = 0;
    for (int step = 1; step < 32; step *= 2) {
        uint32_t less = __shfl_up_sync(0xffffffff, to_here, step);
        to_here += threadIdx.x % 32 >= step ? less : 0;
    }
    __syncthreads(); /* read by the call before */
    if (threadIdx.x % 32 == 31)
        sum[threadIdx.x / 32] = to_here;
    __syncthreads();
    for (int w = 0; w < SIEVE_WARPS; w++) {
        before += w < (int)threadIdx.x / 32 ? sum[w] : 0;
        all += sum[w];
    }
    *ret_all = all;
    return before + to_here - mine;
}

/* All positions: kept where the score is above the sieve's, a bit where it is equal; a warp's next
 * scores come while it looks at these. Returns how many were above, which may be more than were
 * kept. */
static __device__ uint32_t sieve_scores(struct sieved *s, const float *scores, int n,
                                        uint32_t sieve)
{
    __shared__ uint32_t n_kept;
    int warp = (int)threadIdx.x / 32, lane = (int)threadIdx.x % 32, n_words = agon_ceil_div(n, 32);
    float least = topk_score(sieve);
    if (threadIdx.x == 0)
        n_kept = 0;
    __syncthreads();
    auto load = [&](float(&score)[WORDS_AT_ONCE], int first) {
#pragma unroll
        for (int j = 0; j < WORDS_AT_ONCE; j++) {
            int i = (first + j) * 32 + lane;
            score[j] = i < n ? __ldg(scores + i) : NAN;
        }
    };
    float next[WORDS_AT_ONCE];
    load(next, warp * WORDS_AT_ONCE);
    for (int first = warp * WORDS_AT_ONCE; first < n_words; first += SIEVE_WARPS * WORDS_AT_ONCE) {
        float score[WORDS_AT_ONCE];
        uint32_t total = 0, at = 0;
#pragma unroll
        for (int j = 0; j < WORDS_AT_ONCE; j++)
            score[j] = next[j];
        load(next, first + SIEVE_WARPS * WORDS_AT_ONCE);
#pragma unroll
        for (int j = 0; j < WORDS_AT_ONCE; j++) {
            uint32_t equal = __ballot_sync(0xffffffff, score[j] == least);
            total += (uint32_t)__popc(__ballot_sync(0xffffffff, score[j] > least));
            if (lane == 0 && first + j < n_words)
                s->bits[first + j] = equal;
        }
        if (total == 0)
            continue;
        if (lane == 0)
            at = atomicAdd(&n_kept, total);
        at = __shfl_sync(0xffffffff, at, 0);
#pragma unroll
        for (int j = 0; j < WORDS_AT_ONCE; j++) {
            uint32_t above = __ballot_sync(0xffffffff, score[j] > least);
            uint32_t to = at + (uint32_t)__popc(above & ((1U << lane) - 1));
            if (score[j] > least && to < SIEVED_MAX) {
                s->key[to] = topk_key(score[j]) - sieve;
                s->position[to] = (first + j) * 32 + lane;
            }
            at += (uint32_t)__popc(above);
        }
    }
    __syncthreads();
    return n_kept;
}

/* A thread's words of the bits. */
struct words {
    int begin, end;
};

static __device__ struct words words_of(int n)
{
    int n_words = agon_ceil_div(n, 32), each = agon_ceil_div(n_words, SIEVE_THREADS);
    return {min(n_words, (int)threadIdx.x * each), min(n_words, ((int)threadIdx.x + 1) * each)};
}

static __device__ uint32_t bits_before(const struct sieved *s, struct words mine, uint32_t *ret_all)
{
    uint32_t n = 0;
    for (int w = mine.begin; w < mine.end; w++)
        n += (uint32_t)__popc(s->bits[w]);
    return sum_before(n, ret_all);
}

/* Of the bits that are set, the lowest `need` stay. False: there are fewer. */
static __device__ bool bits_trim(struct sieved *s, int n, uint32_t need)
{
    struct words mine = words_of(n);
    uint32_t all, before = bits_before(s, mine, &all);
    for (int w = mine.begin; w < mine.end && before < all; w++) {
        uint32_t word = s->bits[w];
        before += (uint32_t)__popc(word);
        for (uint32_t more = before > need ? before - need : 0; more > 0 && word; more--)
            word &= ~(0x80000000U >> __clz((int)word));
        s->bits[w] = word;
    }
    __syncthreads();
    return all >= need;
}

/* Set the bits of those kept that are above the key, or equal to it. */
static __device__ void bits_set(struct sieved *s, uint32_t n_kept, uint32_t key, bool equal)
{
    for (uint32_t i = threadIdx.x; i < n_kept; i += SIEVE_THREADS) {
        int p = s->position[i];
        if (equal ? s->key[i] == key : s->key[i] > key)
            atomicOr(&s->bits[p / 32], 1U << p % 32);
    }
    __syncthreads();
}

/* The k-th largest of those kept, at least k: their bits, alone. */
static __device__ void bits_of_kept(struct sieved *s, int n, uint32_t n_kept, uint32_t k)
{
    __shared__ uint32_t most;
    struct words mine = words_of(n);
    uint32_t my_most = 0;
    for (int w = mine.begin; w < mine.end; w++)
        s->bits[w] = 0;
    if (threadIdx.x == 0)
        most = 0;
    __syncthreads();
    for (uint32_t i = threadIdx.x; i < n_kept; i += SIEVE_THREADS)
        my_most = max(my_most, s->key[i]);
    my_most = __reduce_max_sync(0xffffffff, my_most);
    if (threadIdx.x % 32 == 0)
        atomicMax(&most, my_most);
    __syncthreads();
    struct ranked least = rank_keys(32 - __clz((int)most), k, [&](auto take) {
        for (uint32_t i = threadIdx.x; i < n_kept; i += SIEVE_THREADS)
            take(s->key[i]);
    });
    bits_set(s, n_kept, least.key, true);
    if (least.n_equal > least.need)
        (void)bits_trim(s, n, least.need);
    bits_set(s, n_kept, least.key, false);
}

/* Positions whose bits are set, or their slots, in order. */
static __device__ void bits_write(int32_t *selected, const struct sieved *s, int n,
                                  const struct agon_cuda_rows &rows, int sequence, bool as_slots)
{
    struct words mine = words_of(n);
    uint32_t all, to = bits_before(s, mine, &all);
    for (int w = mine.begin; w < mine.end; w++) {
        uint32_t word = s->bits[w];
        int base = w * 32; /* half a page: one look-up */
        if (word && as_slots)
            base = index_page(rows, sequence, base) * AGON_CUDA_PAGE + base % AGON_CUDA_PAGE;
        for (; word; word &= word - 1)
            selected[to++] = base + __ffs((int)word) - 1;
    }
}

/* Row `row`, whose n positions are more than are selected; false, and nothing done, where it is not
 * for the sieve. */
static __device__ bool sieve_row(struct sieved *s, const struct topk_work &work,
                                 const struct agon_cuda_rows &rows, int row, int sequence, int n)
{
    const float *scores = work.scores + (size_t)row * work.ld_scores;
    uint32_t k = (uint32_t)work.k;
    if (n < SIEVE_AT_LEAST || n / 4 < work.k || n > SIEVE_AT_MOST)
        return false;
    uint32_t sieve = sieve_key(scores, n, work.k);
    if (sieve == 0) /* a NaN's */
        return false;
    uint32_t n_kept = sieve_scores(s, scores, n, sieve);
    if (n_kept > SIEVED_MAX)
        return false;
    if (n_kept >= k)
        bits_of_kept(s, n, n_kept, k);
    else if (bits_trim(s, n, k - n_kept))
        bits_set(s, n_kept, 0, false);
    else
        return false;
    bits_write(work.selected + (size_t)row * work.ld_selected, s, n, rows, sequence, work.as_slots);
    return true;
}
