/*
 * Exact top-k of rows of scores: radix select, then compaction in order of position.
 *
 * A cluster of 1 to 8 blocks has one row; each block has a slice of its positions, whose scores it
 * turns into keys that order as they do (uint32), kept in shared memory as far as they fit and made
 * again from the scores beyond. Rounds of 11, 11 and 10 bits find the smallest selected key: each
 * block counts its slice's keys that share the prefix found so far, the blocks add up each other's
 * counts over distributed shared memory, and all see the same bin. Then each warp counts what it
 * will select of its part of the slice, and writes it behind what lies before: no order depends on
 * timing. Counts are integers, so atomics do no harm.
 *
 * Floor: 4 bytes a score, once: 7.8 us for 64 rows of 131,072. Latency rules for few rows.
 */
#include "kernels/index.cuh"

#include <cooperative_groups.h>

namespace cg = cooperative_groups;

enum { N_ROUNDS = 3, DIGIT_BITS = 11, N_DIGITS = 1 << DIGIT_BITS }; /* the last has 10 */
enum { CLUSTER_MAX = 8, WARPS_MAX = 32, STEP = 128, UNROLL = 4 };
enum { FINDERS = 256, BINS_EACH = N_DIGITS / FINDERS };
enum { CACHED_MAX = 49152 }; /* keys in shared memory: 192 KiB */

struct topk_work {
    int32_t *selected, *n_selected;
    size_t ld_selected, ld_scores;
    const float *scores;
    int k, n_cached; /* n_cached: keys of a slice that shared memory holds, a multiple of STEP */
    bool as_slots, aligned;
};

/* What the blocks of a cluster read of each other. */
struct __align__(16) topk_shared
{
    uint32_t count[N_ROUNDS][N_DIGITS];
    uint32_t n_above, n_equal; /* of the slice */
};

/* Larger score, larger key; -0 as 0; NaN lowest. */
static __device__ uint32_t topk_key(float score)
{
    uint32_t bits = __float_as_uint(score + 0.0F); /* -0 + 0 is 0 */
    return score != score ? 0 : bits ^ (bits >> 31 ? 0xffffffff : 0x80000000);
}

/* Four keys at positions at..at+3 of a row of scores, 0 past the end. */
static __device__ uint4 keys_from(const float *scores, int at, int end, bool aligned)
{
    if (aligned && at + 4 <= end) {
        float4 s = *(const float4 *)(scores + at);
        return make_uint4(topk_key(s.x), topk_key(s.y), topk_key(s.z), topk_key(s.w));
    }
    return make_uint4(
        at + 0 < end ? topk_key(scores[at + 0]) : 0, at + 1 < end ? topk_key(scores[at + 1]) : 0,
        at + 2 < end ? topk_key(scores[at + 2]) : 0, at + 3 < end ? topk_key(scores[at + 3]) : 0);
}

/* One block's part of a row. */
struct slice {
    const float *scores;
    const uint4 *cache;
    int begin, end, n_cached;
    bool aligned;

    __device__ uint4 at(int i) const /* i: position - begin, a multiple of 4 */
    {
        return i < n_cached ? cache[i / 4] : keys_from(scores, begin + i, end, aligned);
    }
};

/* Count the digits of a slice's keys that begin with `prefix`; FIRST: of all, which are made from
 * scores and put into the cache. Places past the end count as keys 0. */
template <bool FIRST>
static __device__ void count_slice(uint32_t *count, const struct slice &slice, uint4 *cache,
                                   int n_cached, int shift, int bits, uint32_t prefix)
{
    int n = slice.end - slice.begin, stride = (int)blockDim.x * 4;
    uint32_t mask = (1U << bits) - 1;
    for (int first = (int)threadIdx.x * 4; first < n; first += stride * UNROLL) {
        uint4 keys[UNROLL];
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            int i = first + j * stride;
            keys[j] = make_uint4(0, 0, 0, 0);
            if (i < n)
                keys[j] = slice.at(i);
        }
#pragma unroll
        for (int j = 0; j < UNROLL; j++) {
            int i = first + j * stride;
            if (i >= n)
                break;
            if (FIRST && i < n_cached)
                cache[i / 4] = keys[j];
            const uint32_t key[4] = {keys[j].x, keys[j].y, keys[j].z, keys[j].w};
#pragma unroll
            for (int c = 0; c < 4; c++)
                if (FIRST || key[c] >> shift >> bits == prefix)
                    atomicAdd(&count[key[c] >> shift & mask], 1);
        }
    }
}

/* Called by the first FINDERS threads, with the counts of their BINS_EACH bins: the one whose bins
 * hold the need-th largest key writes which bin, what is needed of it and how many it has. */
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

/* How many of a lane's four keys are above / equal to the least selected key, as above | equal <<
 * 16. */
static __device__ uint32_t classify(uint4 keys, uint32_t least)
{
    return (keys.x > least) + ((keys.x == least) << 16) + (keys.y > least) +
           ((keys.y == least) << 16) + (keys.z > least) + ((keys.z == least) << 16) +
           (keys.w > least) + ((keys.w == least) << 16);
}

static __global__ __launch_bounds__(1024) void topk_kernel(struct topk_work work,
                                                           struct agon_cuda_rows rows)
{
    extern __shared__ uint4 cache[];
    __shared__ struct topk_shared mine;
    __shared__ uint32_t bin, bin_need, bin_count, warp_sum[FINDERS / 32];
    __shared__ uint32_t warp_above[WARPS_MAX], warp_equal[WARPS_MAX];
    cg::cluster_group cluster = cg::this_cluster();
    int rank = (int)cluster.block_rank(), n_blocks = (int)cluster.num_blocks();
    int row = (int)blockIdx.x / n_blocks, thread = (int)threadIdx.x, n_threads = (int)blockDim.x;
    int sequence = rows.row_sequence[row];
    int n = sequence < 0 ? 0 : rows.row_position[row] + 1;
    int32_t *selected = work.selected + (size_t)row * work.ld_selected;
    if (rank == 0 && thread == 0 && work.n_selected)
        work.n_selected[row] = min(n, work.k);
    if (n <= work.k) { /* so for the whole cluster */
        select_all(selected, work, rows, sequence, n, rank, n_blocks);
        return;
    }

    int n_slice = (agon_ceil_div(n, n_blocks) + STEP - 1) / STEP * STEP;
    struct slice slice = {work.scores + (size_t)row * work.ld_scores,
                          cache,
                          min(n, rank * n_slice),
                          min(n, (rank + 1) * n_slice),
                          0,
                          work.aligned};
    int n_mine = slice.end - slice.begin;
    for (int i = thread; i < N_ROUNDS * N_DIGITS; i += n_threads)
        mine.count[i / N_DIGITS][i % N_DIGITS] = 0;
    __syncthreads();

    /* After each round, `need` of the keys that share `prefix` are selected, and all above. Places
     * past the row's end, only ever in the last block with any, count as keys 0: they are taken off
     * the counts, and come behind every true key 0 when ties are broken. */
    uint32_t prefix = 0, need = (uint32_t)work.k, least = 0;
    for (int round = 0, shift = 32; shift > 0; round++) {
        int bits = min(DIGIT_BITS, shift);
        shift -= bits;
        if (round == 0) {
            count_slice<true>(mine.count[0], slice, cache, work.n_cached, shift, bits, 0);
            slice.n_cached = min(work.n_cached, n_mine);
        } else {
            count_slice<false>(mine.count[round], slice, cache, 0, shift, bits, prefix);
        }
        __syncthreads();
        if (thread == 0 && prefix == 0)
            mine.count[round][0] -= (uint32_t)(-n_mine & 3);
        cluster.sync();
        if (thread < FINDERS) {
            uint32_t count[BINS_EACH] = {};
#pragma unroll 1
            for (int b = 0; b < n_blocks; b++) {
                const uint4 *of = (const uint4 *)cluster.map_shared_rank(&mine, b)->count[round] +
                                  thread * (BINS_EACH / 4);
#pragma unroll
                for (int v = 0; v < BINS_EACH / 4; v++) {
                    uint4 c = of[v];
                    count[4 * v] += c.x;
                    count[4 * v + 1] += c.y;
                    count[4 * v + 2] += c.z;
                    count[4 * v + 3] += c.w;
                }
            }
            find_bin(count, need, &bin, &bin_need, &bin_count, warp_sum);
        }
        __syncthreads();
        prefix = prefix << bits | bin;
        need = bin_need;
        bool whole = bin_count == need; /* the bin is selected whole */
        __syncthreads();
        if (whole) {
            least = (prefix << shift) - 1; /* n > k, so some key is below prefix << shift */
            need = 0;
            break;
        }
        least = prefix;
    }

    /* Each warp has a run of the slice; count, then place. */
    int warp = thread / 32, lane = thread % 32, n_warps = n_threads / 32;
    int n_run = (agon_ceil_div(n_mine, n_warps) + STEP - 1) / STEP * STEP;
    int run_begin = min(n_mine, warp * n_run), run_end = min(n_mine, (warp + 1) * n_run);
    uint32_t above = 0, equal = 0;
    for (int i = run_begin + lane * 4; i < run_end; i += STEP) {
        uint32_t c = classify(slice.at(i), least);
        above += c & 0xffff;
        equal += c >> 16;
    }
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
    cluster.sync();
    for (int b = 0; b < rank; b++) {
        n_above += cluster.map_shared_rank(&mine, b)->n_above;
        n_equal += cluster.map_shared_rank(&mine, b)->n_equal;
    }
    for (int at = run_begin; at < run_end; at += STEP) {
        int i = at + lane * 4;
        uint4 keys = make_uint4(0, 0, 0, 0);
        uint32_t c = 0;
        if (i < run_end) {
            keys = slice.at(i);
            c = classify(keys, least);
        }
        if (!__any_sync(0xffffffff, n_equal < need ? c != 0 : (c & 0xffff) != 0)) {
            n_equal += __reduce_add_sync(0xffffffff, c >> 16);
            continue;
        }
        uint32_t before = c;
        for (int step = 1; step < 32; step *= 2) {
            uint32_t less = __shfl_up_sync(0xffffffff, before, step);
            before += lane >= step ? less : 0;
        }
        uint32_t total = __shfl_sync(0xffffffff, before, 31);
        before -= c;
        uint32_t above_here = n_above + (before & 0xffff), equal_here = n_equal + (before >> 16);
        const uint32_t key[4] = {keys.x, keys.y, keys.z, keys.w};
        for (int j = 0; j < 4; j++) {
            bool is_above = c && key[j] > least, is_equal = c && key[j] == least;
            if (is_above || (is_equal && equal_here < need)) {
                int s = slice.begin + i + j, value = s;
                if (work.as_slots)
                    value = index_page(rows, sequence, s) * AGON_CUDA_PAGE + s % AGON_CUDA_PAGE;
                selected[above_here + min(equal_here, need)] = value;
            }
            above_here += is_above;
            equal_here += is_equal;
        }
        n_above += total & 0xffff;
        n_equal += total >> 16;
    }
    cluster.sync(); /* no block leaves while another reads its counts */
}

/* Blocks for a row: as many as leave no row waiting, and none with a slice so short that the rounds
 * cost more than the counting. */
static int cluster_of(int n_rows, int n_max)
{
    int n_blocks = 1;
    while (n_blocks < CLUSTER_MAX && n_rows * n_blocks <= 66 && n_max > n_blocks * 2048)
        n_blocks *= 2;
    return n_blocks;
}

extern "C" int agon_cuda_topk(int32_t *selected, size_t ld_selected, int32_t *n_selected,
                              const float *scores, size_t ld_scores, int k, bool as_slots,
                              const struct agon_cuda_rows *rows, void *stream, struct agon_err *err)
{
    int r = index_check_rows(rows, "top-k", err);
    if (r)
        return r;
    if (k < 1 || ld_selected < (size_t)k || (rows->n_max > k && ld_scores < (size_t)rows->n_max))
        return agon_fail(err, AGON_EINPUT,
                         "top-k: %d of rows of %zu scores for %d positions into rows of %zu", k,
                         ld_scores, rows->n_max, ld_selected);
    if (rows->n_rows == 0)
        return 0;
    int n_blocks = cluster_of(rows->n_rows, rows->n_max);
    int n_slice = (agon_ceil_div(rows->n_max, n_blocks) + STEP - 1) / STEP * STEP;
    int n_cached = rows->n_max <= k ? 0 : n_slice < CACHED_MAX ? n_slice : CACHED_MAX;
    struct topk_work work = {
        selected,  n_selected, ld_selected,
        ld_scores, scores,     k,
        n_cached,  as_slots,   ld_scores % 4 == 0 && (uintptr_t)scores % 16 == 0};
    AGON_CUDA(err, "top-k",
              cudaFuncSetAttribute(topk_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   CACHED_MAX * (int)sizeof(uint32_t)));
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = (unsigned)n_blocks;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3((unsigned)(rows->n_rows * n_blocks));
    config.blockDim = dim3(n_slice <= 4096 ? 256 : 1024);
    config.dynamicSmemBytes = (size_t)n_cached * sizeof(uint32_t);
    config.stream = (cudaStream_t)stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    AGON_CUDA(err, "top-k launch", cudaLaunchKernelEx(&config, topk_kernel, work, *rows));
    return 0;
}
