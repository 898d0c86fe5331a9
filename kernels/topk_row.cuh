#pragma once
/*
 * Exact top-k of one row of scores by a cluster of 1 to 8 blocks: radix select, then compaction in
 * order of position.
 *
 * Each block has a slice of the row's positions, whose scores it turns into keys that order as they
 * do (uint32), kept in shared memory as far as they fit and made again from the scores beyond.
 * Rounds find the smallest selected key, a digit each: each block counts its slice's keys that
 * share the prefix found so far, the blocks add up each other's counts over distributed shared
 * memory, and all see the same bin. Then each warp counts what it will select of its part of the
 * slice, and writes it behind what lies before: no order depends on timing. Counts are integers, so
 * atomics do no harm.
 */
#include "kernels/index.cuh"

#include <cooperative_groups.h>

namespace cg = cooperative_groups;

enum { CLUSTER_MAX = 8, WARPS_MAX = 32, STEP = 128, UNROLL = 4 };
/* Digits of 11, 11 and 10 bits where one or two blocks have a row and a round costs a pass over
 * many keys; four of 8 bits where more blocks have it and a round costs reading each other's
 * counts. */
template <int BITS> struct digits {
    enum { N_ROUNDS = (31 + BITS) / BITS, N = 1 << BITS, BLOCKS_MAX = BITS == 8 ? CLUSTER_MAX : 2 };
};
enum { FINDERS = 256 };
enum { CACHED_MAX = 49152 }; /* keys in shared memory: 192 KiB */

struct topk_work {
    int32_t *selected, *n_selected;
    size_t ld_selected, ld_scores;
    const float *scores;
    int k, n_cached; /* n_cached: keys of a slice that shared memory holds, a multiple of STEP */
    bool as_slots, aligned;
};

/* What the blocks of a cluster read of each other. */
template <int BITS> struct topk_shared {
    uint32_t count[digits<BITS>::N_ROUNDS][digits<BITS>::N];
    uint32_t n_above, n_equal; /* of the slice */
};

/* Larger score, larger key; -0 as 0; NaN lowest. */
static __device__ uint32_t topk_key(float score)
{
    uint32_t bits = __float_as_uint(score + 0.0F); /* -0 + 0 is 0 */
    return score != score ? 0 : bits ^ (bits >> 31 ? 0xffffffff : 0x80000000);
}

static __device__ uint4 topk_keys(float4 s)
{
    return make_uint4(topk_key(s.x), topk_key(s.y), topk_key(s.z), topk_key(s.w));
}

/* One block's part of a row. Places are counted from its begin, a multiple of STEP; those of the
 * last four past its end have the key 0. */
struct slice {
    const float *scores;
    uint4 *cache;
    int begin, n, n_cached; /* n_cached: n, or a multiple of STEP */
    bool aligned;           /* scores, to 16 bytes */

    __device__ uint32_t key_made(int i) const
    {
        return i < n ? topk_key(scores[i]) : 0;
    }
    __device__ uint4 made(int i) const /* i: a multiple of 4 */
    {
        if (aligned && i + 4 <= n)
            return topk_keys(*(const float4 *)(scores + i));
        return make_uint4(key_made(i), key_made(i + 1), key_made(i + 2), key_made(i + 3));
    }
    __device__ uint32_t key_at(int i) const
    {
        return i < n_cached ? ((const uint32_t *)cache)[i] : key_made(i);
    }
};

/* A digit of the keys that begin with a prefix. */
struct digit {
    int shift, bits;
    uint32_t prefix;
};

template <bool ALL>
static __device__ void count_keys(uint32_t *count, uint4 keys, struct digit digit)
{
    const uint32_t key[4] = {keys.x, keys.y, keys.z, keys.w}, mask = (1U << digit.bits) - 1;
    bool match[4];
#pragma unroll
    for (int c = 0; c < 4; c++)
        match[c] = ALL || key[c] >> digit.shift >> digit.bits == digit.prefix;
    if (!ALL && !(match[0] || match[1] || match[2] || match[3]))
        return;
#pragma unroll
    for (int c = 0; c < 4; c++)
        if (match[c])
            atomicAdd(&count[key[c] >> digit.shift & mask], 1);
}

/* Count the keys of places from.., made from their scores; FIRST: all of them, and what fits is
 * put into the cache. Loads of UNROLL groups are on their way at a time. */
template <bool FIRST>
static __device__ void count_made(uint32_t *count, const struct slice &slice, int from,
                                  int n_cached_max, struct digit digit)
{
    int stride = (int)blockDim.x * 4, i = from + (int)threadIdx.x * 4;
    for (; slice.aligned && i + (UNROLL - 1) * stride + 4 <= slice.n; i += UNROLL * stride) {
        float4 scores[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++)
            scores[j] = *(const float4 *)(slice.scores + i + j * stride);
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            uint4 keys = topk_keys(scores[j]);
            if (FIRST && i + j * stride < n_cached_max)
                slice.cache[i / 4 + j * stride / 4] = keys;
            count_keys<FIRST>(count, keys, digit);
        }
    }
    for (; i < slice.n; i += stride) {
        uint4 keys = slice.made(i);
        if (FIRST && i < n_cached_max)
            slice.cache[i / 4] = keys;
        count_keys<FIRST>(count, keys, digit);
    }
}

/* add(keys) for four cached keys at places i, i + stride .. below `end`, UNROLL fours on their way
 * at a time. Returns the place behind. */
template <class Add>
static __device__ __forceinline__ int each_cached(const struct slice &slice, int i, int end,
                                                  int stride, Add add)
{
    for (; i + (UNROLL - 1) * stride < end; i += UNROLL * stride) {
        uint4 keys[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++)
            keys[j] = slice.cache[i / 4 + j * stride / 4];
#pragma unroll
        for (int j = 0; j < UNROLL; j++)
            add(keys[j]);
    }
    for (; i < end; i += stride)
        add(slice.cache[i / 4]);
    return i;
}

static __device__ void count_cached(uint32_t *count, const struct slice &slice, struct digit digit)
{
    each_cached(slice, (int)threadIdx.x * 4, slice.n_cached, (int)blockDim.x * 4,
                [&](uint4 keys) { count_keys<false>(count, keys, digit); });
}

/* Called by the first FINDERS threads, with the counts of their BINS_EACH bins: the one whose bins
 * hold the need-th largest key writes which bin, what is needed of it and how many it has. */
template <int BINS_EACH>
static __device__ void find_bin(const uint32_t (&count)[BINS_EACH], uint32_t need,
                                uint32_t *ret_bin, uint32_t *ret_need, uint32_t *ret_count,
                                uint32_t *warp_sum)
{
    int thread = (int)threadIdx.x, lane = thread % 32;
    uint32_t mine = 0;
    for (int b = 0; b < BINS_EACH; b++)
        mine += count[b];
    uint32_t from_here = mine; /* keys in this thread's bins and those above */
    for (int step = 1; step < 32; step *= 2) {
        uint32_t more = __shfl_down_sync(0xffffffff, from_here, step);
        from_here += lane + step < 32 ? more : 0;
    }
    if (lane == 0)
        warp_sum[thread / 32] = from_here;
    asm volatile("bar.sync 1, 256;" ::: "memory"); /* the FINDERS */
    for (int w = thread / 32 + 1; w < FINDERS / 32; w++)
        from_here += warp_sum[w];
    if (from_here < need || from_here - mine >= need)
        return;
    uint32_t above = from_here - mine;
    bool found = false;
#pragma unroll
    for (int b = BINS_EACH - 1; b >= 0; b--) {
        if (!found && above + count[b] >= need) {
            *ret_bin = (uint32_t)(thread * BINS_EACH + b);
            *ret_need = need - above;
            *ret_count = count[b];
            found = true;
        }
        above += count[b];
    }
}

/* All blocks of the row: what each wrote into its shared memory is seen by all. */
static __device__ void sync_row(int n_blocks)
{
    if (n_blocks == 1)
        __syncthreads(); /* the other waits for global memory, too */
    else
        cg::this_cluster().sync();
}

/* Positions or slots of a row that is selected whole, and what follows them. */
static __device__ void select_all(int32_t *selected, const struct topk_work &work,
                                  const struct agon_cuda_rows &rows, int sequence, int n, int rank,
                                  int n_blocks)
{
    for (int i = rank * (int)blockDim.x + (int)threadIdx.x; i < work.k;
         i += n_blocks * (int)blockDim.x) {
        int value = i;
        if (work.as_slots && i < n)
            value = index_page(rows, sequence, i) * AGON_CUDA_PAGE + i % AGON_CUDA_PAGE;
        selected[i] = i < n ? value : -1;
    }
}

/* Which row a cluster has, and the positions that it sees. */
struct topk_of {
    int row, sequence, n;
};

/* Its count; and its selection where that is all. */
static __device__ struct topk_of row_begin(const struct topk_work &work,
                                           const struct agon_cuda_rows &rows)
{
    cg::cluster_group cluster = cg::this_cluster();
    int rank = (int)cluster.block_rank(), n_blocks = (int)cluster.num_blocks();
    struct topk_of of;
    of.row = (int)blockIdx.x / n_blocks;
    of.sequence = rows.row_sequence[of.row];
    of.n = of.sequence < 0 ? 0 : rows.row_position[of.row] + 1;
    if (rank == 0 && threadIdx.x == 0 && work.n_selected)
        work.n_selected[of.row] = min(of.n, work.k);
    if (of.n <= work.k)
        select_all(work.selected + (size_t)of.row * work.ld_selected, work, rows, of.sequence, of.n,
                   rank, n_blocks);
    return of;
}

/* The least selected key of a row: above it all are selected, of its equals the `need` lowest. */
struct least {
    uint32_t key, need;
};

/* Round by round, `need` of the keys that share a prefix are selected, and all above. Places past
 * the end, only ever in the last block with any, count as keys 0: they are taken off the counts,
 * and come behind every true key 0 when ties are broken. */
template <int BITS>
static __device__ struct least find_least(struct topk_shared<BITS> *mine, struct slice *slice,
                                          const struct topk_work &work, int n_blocks)
{
    enum { BINS_EACH = digits<BITS>::N / FINDERS, BLOCKS_MAX = digits<BITS>::BLOCKS_MAX };
    __shared__ uint32_t bin, bin_need, bin_count, warp_sum[FINDERS / 32];
    int thread = (int)threadIdx.x;
    struct least least = {0, (uint32_t)work.k};
    struct digit digit = {32, 0, 0};
    for (int round = 0; digit.shift > 0; round++) {
        digit.bits = min(BITS, digit.shift);
        digit.shift -= digit.bits;
        if (round == 0) {
            count_made<true>(mine->count[0], *slice, 0, work.n_cached, digit);
            slice->n_cached = min(work.n_cached, slice->n);
        } else {
            count_cached(mine->count[round], *slice, digit);
            count_made<false>(mine->count[round], *slice, slice->n_cached, 0, digit);
        }
        __syncthreads();
        if (thread == 0 && digit.prefix == 0)
            mine->count[round][0] -= (uint32_t)(-slice->n & 3);
        sync_row(n_blocks);
        if (thread < FINDERS) {
            uint32_t count[BLOCKS_MAX][BINS_EACH] = {};
#pragma unroll
            for (int b = 0; b < BLOCKS_MAX; b++) { /* all asked for at once */
                if (b >= n_blocks)
                    break;
                const uint32_t *of = cg::this_cluster().map_shared_rank(mine, b)->count[round];
#pragma unroll
                for (int v = 0; v < BINS_EACH; v++)
                    count[b][v] = of[thread * BINS_EACH + v];
            }
            for (int b = 1; b < BLOCKS_MAX; b++)
                for (int v = 0; v < BINS_EACH; v++)
                    count[0][v] += count[b][v];
            find_bin(count[0], least.need, &bin, &bin_need, &bin_count, warp_sum);
        }
        __syncthreads();
        digit.prefix = digit.prefix << digit.bits | bin;
        least.need = bin_need;
        bool whole = bin_count == bin_need; /* the bin is selected whole */
        __syncthreads();
        if (whole) /* n > k, so some key is below this, and it is not 0 */
            return {(digit.prefix << digit.shift) - 1, 0};
    }
    least.key = digit.prefix;
    return least;
}

/* Places [begin, end) of a slice, which one warp counts and writes. */
struct run {
    int begin, end;
};

/* This lane's keys of a run that are above / equal to the least. */
static __device__ void count_run(uint32_t *ret_above, uint32_t *ret_equal,
                                 const struct slice &slice, struct run run, uint32_t least)
{
    uint32_t above = 0, equal = 0;
    int i = run.begin + (int)(threadIdx.x % 32) * 4;
    auto add = [&](uint4 k) {
        above += (k.x > least) + (k.y > least) + (k.z > least) + (k.w > least);
        equal += (k.x == least) + (k.y == least) + (k.z == least) + (k.w == least);
    };
    i = each_cached(slice, i, min(run.end, slice.n_cached), STEP, add);
    for (; i < run.end; i += STEP)
        add(slice.made(i));
    *ret_above = above;
    *ret_equal = equal;
}

/* Write what is selected of a run, behind n_above and n_equal keys that lie before it. */
static __device__ void place_run(int32_t *selected, const struct slice &slice, struct run run,
                                 struct least least, uint32_t n_above, uint32_t n_equal,
                                 const struct agon_cuda_rows &rows, int sequence, bool as_slots)
{
    enum { CHUNK = 32 * AGON_CUDA_PAGE };
    int lane = (int)threadIdx.x % 32;
    uint32_t lower = (1U << lane) - 1;
    for (int at = run.begin, page = 0; at < run.end; at += STEP) {
        if (as_slots && (at - run.begin) % CHUNK == 0 && at + lane * AGON_CUDA_PAGE < run.end)
            page = index_page(rows, sequence, slice.begin + at + lane * AGON_CUDA_PAGE);
        uint32_t key[STEP / 32];
#pragma unroll
        for (int j = 0; j < STEP / 32; j++)
            key[j] = slice.key_at(at + j * 32 + lane);
#pragma unroll
        for (int j = 0; j < STEP / 32; j++) {
            int i = at + j * 32 + lane;
            bool above = key[j] > least.key, equal = false; /* past the end: never above */
            uint32_t all_above = __ballot_sync(0xffffffff, above), all_equal = 0;
            if (n_equal < least.need) {
                equal = key[j] == least.key && i < run.end;
                all_equal = __ballot_sync(0xffffffff, equal);
            }
            if (all_above == 0 && all_equal == 0)
                continue;
            uint32_t equal_here = n_equal + (uint32_t)__popc(all_equal & lower);
            uint32_t to =
                n_above + (uint32_t)__popc(all_above & lower) + min(equal_here, least.need);
            int value = slice.begin + i;
            if (as_slots)
                value = __shfl_sync(0xffffffff, page, (i - run.begin) % CHUNK / AGON_CUDA_PAGE) *
                            AGON_CUDA_PAGE +
                        value % AGON_CUDA_PAGE;
            if (above || (equal && equal_here < least.need))
                selected[to] = value;
            n_above += (uint32_t)__popc(all_above);
            n_equal += (uint32_t)__popc(all_equal);
        }
    }
}

/* Row `row`, whose n positions are more than are selected. */
template <int BITS>
static __device__ void select_row(uint4 *cache, const struct topk_work &work,
                                  const struct agon_cuda_rows &rows, int row, int sequence, int n)
{
    __shared__ struct topk_shared<BITS> mine;
    __shared__ uint32_t warp_above[WARPS_MAX], warp_equal[WARPS_MAX];
    cg::cluster_group cluster = cg::this_cluster();
    int rank = (int)cluster.block_rank(), n_blocks = (int)cluster.num_blocks();
    int thread = (int)threadIdx.x;
    int32_t *selected = work.selected + (size_t)row * work.ld_selected;
    uint32_t *counts = &mine.count[0][0];
    for (int i = thread; i < digits<BITS>::N_ROUNDS * digits<BITS>::N; i += (int)blockDim.x)
        counts[i] = 0;
    __syncthreads();
    int n_slice = (agon_ceil_div(n, n_blocks) + STEP - 1) / STEP * STEP;
    int begin = min(n, rank * n_slice);
    struct slice slice = {work.scores + (size_t)row * work.ld_scores + begin,
                          cache,
                          begin,
                          min(n - begin, n_slice),
                          0,
                          work.aligned && begin % 4 == 0};
    struct least least = find_least<BITS>(&mine, &slice, work, n_blocks);

    int warp = thread / 32, lane = thread % 32, n_warps = (int)blockDim.x / 32;
    int n_run = (agon_ceil_div(slice.n, n_warps) + STEP - 1) / STEP * STEP;
    struct run run = {min(slice.n, warp * n_run), min(slice.n, (warp + 1) * n_run)};
    uint32_t above, equal;
    count_run(&above, &equal, slice, run, least.key);
    above = __reduce_add_sync(0xffffffff, above);
    equal = __reduce_add_sync(0xffffffff, equal);
    if (lane == 0) {
        warp_above[warp] = above;
        warp_equal[warp] = equal;
    }
    __syncthreads();
    uint32_t of_above = lane < n_warps ? warp_above[lane] : 0;
    uint32_t of_equal = lane < n_warps ? warp_equal[lane] : 0;
    /* In the runs before this one. */
    uint32_t n_above = __reduce_add_sync(0xffffffff, lane < warp ? of_above : 0);
    uint32_t n_equal = __reduce_add_sync(0xffffffff, lane < warp ? of_equal : 0);
    if (warp == 0) {
        of_above = __reduce_add_sync(0xffffffff, of_above);
        of_equal = __reduce_add_sync(0xffffffff, of_equal);
        if (lane == 0) {
            mine.n_above = of_above;
            mine.n_equal = of_equal;
        }
    }
    sync_row(n_blocks);
    uint32_t of_others = 0, equal_of_others = 0;
    if (lane < rank) {
        of_others = cluster.map_shared_rank(&mine, lane)->n_above;
        equal_of_others = cluster.map_shared_rank(&mine, lane)->n_equal;
    }
    n_above += __reduce_add_sync(0xffffffff, of_others); /* so they have come before the barrier */
    n_equal += __reduce_add_sync(0xffffffff, equal_of_others);
    if (n_blocks > 1) /* no block leaves while another reads its counts */
        asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
    place_run(selected, slice, run, least, n_above, n_equal, rows, sequence, work.as_slots);
    __syncwarp();
    if (n_blocks > 1)
        asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}
