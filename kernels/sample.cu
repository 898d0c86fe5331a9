/*
 * Sampling: see cuda_sample.h. A block is a row of logits. Warp w owns the ids of its w-th segment,
 * so that prefixes in the order of ids are prefixes over warps. Small vocabularies:
 * sample_small.cu.
 *
 * Probabilities are integers from the moment they are made: q = exp((logit - largest) /
 * temperature) in units of 2^-shift, with a shift that keeps their sum below 2^63. Integer sums do
 * not depend on their order, so thresholds and draws are exact. The cuts are found by bisection
 * over keys that order as logits do: top-k counts keys, top-p adds up q. What is kept is then "key
 * above the threshold, or equal to it and among the first n_ties of those".
 *
 * Floor: the logits once, 4 n bytes a row; each round of a bisection reads them again, from L2.
 */
#include "kernels/check.cuh"
#include "kernels/sample.cuh"

enum { LARGE_THREADS = 1024 };

/* One row while it is sampled. */
struct row {
    const float *logits;
    u64 *q;            /* [n] */
    int n, begin, end; /* ids; this warp's */
    float largest;
    int best, best_key; /* the largest logit's id and key */
    double raw;         /* sum of exp(logit - largest) */
    double unit;        /* of q */
    u64 (*sums)[32];    /* of warps, taken by turns */
    int2 (*ends)[32];
};

static __device__ __forceinline__ int key_at(const struct row *row, int i)
{
    return key_of(row->logits[i]);
}

/* False where a logit is NaN or +inf, or all are -inf. */
static __device__ bool row_scan(struct row *row)
{
    u64 best = 0;
    bool bad = false;
    for (int i = row->begin + threadIdx.x % 32; i < row->end; i += 32) {
        float logit = row->logits[i];
        int key = key_of(logit);
        bad |= !(logit < INFINITY);
        u64 order = (u64)((uint32_t)key ^ 0x80000000U) << 32 | (0xffffffffU - i);
        best = order > best ? order : best;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        u64 other = __shfl_xor_sync(~0u, best, offset);
        best = other > best ? other : best;
    }
    if (threadIdx.x % 32 == 0)
        row->sums[0][threadIdx.x / 32] = best;
    bad = __syncthreads_or(bad);
    for (unsigned w = 0; w < blockDim.x / 32; w++)
        best = row->sums[0][w] > best ? row->sums[0][w] : best;
    row->best = (int)(0xffffffffU - (uint32_t)best);
    row->best_key = (int)((uint32_t)(best >> 32) ^ 0x80000000U);
    row->largest = row->logits[row->best];
    return !bad && row->largest > -INFINITY;
}

/* Fills q (where the temperature is above 0) and raw. */
static __device__ void row_probabilities(struct row *row, double temperature)
{
    double raw = 0;
    row->unit = unit_of(row->n);
    for (int i = row->begin + threadIdx.x % 32; i < row->end; i += 32) {
        double below = (double)row->logits[i] - row->largest;
        double p = exp(below);
        raw += p;
        if (temperature > 0)
            row->q[i] =
                __double2ull_rn((temperature == 1 ? p : exp(below / temperature)) * row->unit);
    }
    row->raw = block_sum(raw, (double *)row->sums[1]);
}

enum what { COUNT, MASS };

/* How many keys are at least `least`, or the sum of their q. */
static __device__ u64 sum_from(const struct row *row, long long least, enum what what, int turn)
{
    u64 sum = 0;
    for (int i = row->begin + threadIdx.x % 32; i < row->end; i += 32)
        if (key_at(row, i) >= least)
            sum += what == COUNT ? 1 : row->q[i];
    sum = warp_sum_62(sum);
    if (threadIdx.x % 32 == 0)
        row->sums[turn & 1][threadIdx.x / 32] = sum;
    __syncthreads();
    sum = 0;
#pragma unroll 8
    for (unsigned w = 0; w < blockDim.x / 32; w++)
        sum += row->sums[turn & 1][w];
    return sum;
}

/* Keys at least `middle`: how many, or the sum of their q, and the least of them; and the largest
 * of those below. */
struct sides {
    u64 sum;
    int least, most;
};

static __device__ struct sides sides_of(const struct row *row, int middle, enum what what, int turn)
{
    struct sides s = {0, INT_MAX, INT_MIN};
    for (int i = row->begin + threadIdx.x % 32; i < row->end; i += 32) {
        int key = key_at(row, i);
        if (key >= middle) {
            s.sum += what == COUNT ? 1 : row->q[i];
            s.least = min(s.least, key);
        } else {
            s.most = max(s.most, key);
        }
    }
    s.sum = warp_sum_62(s.sum);
    s.least = __reduce_min_sync(~0u, s.least);
    s.most = __reduce_max_sync(~0u, s.most);
    if (threadIdx.x % 32 == 0) {
        row->sums[turn & 1][threadIdx.x / 32] = s.sum;
        row->ends[turn & 1][threadIdx.x / 32] = make_int2(s.least, s.most);
    }
    __syncthreads();
    s = {0, INT_MAX, INT_MIN};
#pragma unroll 8
    for (unsigned w = 0; w < blockDim.x / 32; w++) {
        int2 end = row->ends[turn & 1][w];
        s.sum += row->sums[turn & 1][w];
        s.least = min(s.least, end.x);
        s.most = max(s.most, end.y);
    }
    return s;
}

/*
 * The largest key from which on there are at least `wanted`; *ret_above: how many above it. From
 * `low` on there are. Both ends move to keys that are there, so that few turns are needed.
 */
static __device__ int bisect(const struct row *row, u64 wanted, enum what what, int low,
                             u64 *ret_above)
{
    int high = row->best_key + 1; /* a finite number's key is far from INT_MAX */
    u64 above = 0;
    for (int turn = 0; (uint32_t)high - (uint32_t)low > 1; turn++) {
        int middle = (int)((uint32_t)low + ((uint32_t)high - (uint32_t)low) / 2);
        struct sides s = sides_of(row, middle, what, turn);
        if (s.sum >= wanted) {
            low = s.least;
        } else {
            high = s.most + 1;
            above = s.sum;
        }
    }
    __syncthreads(); /* sums may be taken again */
    *ret_above = above;
    return low;
}

static __device__ struct cut cut_top_k(const struct row *row, int top_k)
{
    struct cut cut = {INT_MIN, 0, row->n}; /* no key is INT_MIN: all are above it */
    if (top_k <= 0 || top_k >= row->n)
        return cut;
    u64 above;
    cut.key = bisect(row, (u64)top_k, COUNT, INT_MIN, &above);
    cut.n_ties = top_k - (int)above;
    cut.n_kept = top_k;
    return cut;
}

static __device__ u64 q_of(const struct row *row, int key)
{
    float logit = logit_of(key);
    for (int i = row->begin + threadIdx.x % 32; i < row->end; i += 32)
        if (row->logits[i] == logit)
            row->sums[2][0] = row->q[i]; /* every writer writes the same */
    __syncthreads();
    return row->sums[2][0];
}

/* Within `cut`, the shortest prefix in descending order that holds top_p of its mass. */
static __device__ struct cut cut_top_p(const struct row *row, struct cut cut, double top_p)
{
    if (!(top_p < 1))
        return cut;
    u64 total = sum_from(row, (long long)cut.key + 1, MASS, 0), above;
    if (cut.n_ties > 0)
        total += cut.n_ties * q_of(row, cut.key);
    u64 wanted = mass_wanted(top_p, total);
    __syncthreads();
    int key = bisect(row, wanted, MASS, cut.key, &above);
    u64 share = q_of(row, key), n_ties = (wanted - above + share - 1) / (share > 0 ? share : 1);
    __syncthreads();
    int n_above = (int)sum_from(row, (long long)key + 1, COUNT, 0);
    __syncthreads();
    if (key == cut.key && n_ties > (u64)cut.n_ties)
        n_ties = cut.n_ties;
    struct cut shorter = {key, (int)n_ties, n_above + (int)n_ties};
    return shorter;
}

/* What the kept ids of the warps before this one, and of all, amount to. */
struct prefix {
    int n_ties, n_kept; /* before */
    u64 mass, mass_all;
};

static __device__ struct prefix prefix_of(const struct row *row, struct cut cut)
{
    u64 mass = 0, tie = 0;
    int n_above = 0, n_ties = 0, warp = threadIdx.x / 32;
    for (int i = row->begin + threadIdx.x % 32; i < row->end; i += 32) {
        int key = key_at(row, i);
        n_above += key > cut.key;
        n_ties += key == cut.key;
        mass += key > cut.key ? row->q[i] : 0;
        tie = key == cut.key ? row->q[i] : tie;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        u64 other = __shfl_xor_sync(~0u, tie, offset);
        tie = other > tie ? other : tie;
    }
    mass = warp_sum(mass);
    n_above = warp_sum(n_above);
    n_ties = warp_sum(n_ties);
    if (threadIdx.x % 32 == 0) {
        row->sums[0][warp] = mass;
        row->sums[1][warp] = (u64)n_above << 32 | (u64)n_ties;
        row->sums[2][warp] = tie;
    }
    __syncthreads();
    struct prefix p = {};
    int n_ties_left = cut.n_ties;
    for (int w = 0; w < (int)(blockDim.x / 32); w++) {
        int ties = (int)(uint32_t)row->sums[1][w], taken = ties < n_ties_left ? ties : n_ties_left;
        u64 warp_mass = row->sums[0][w] + taken * row->sums[2][w];
        if (w < warp) {
            p.n_ties += ties;
            p.n_kept += (int)(row->sums[1][w] >> 32) + taken;
            p.mass += warp_mass;
        }
        n_ties_left -= taken;
        p.mass_all += warp_mass;
    }
    return p;
}

/* Walk this warp's kept ids in order: find the one whose share holds `target` (it is written to
 * *ret_id by the lane that has it), and list them where kept is given. */
static __device__ void walk(const struct row *row, struct cut cut, struct prefix at, u64 target,
                            int32_t *kept, int *ret_id)
{
    int lane = threadIdx.x % 32;
    unsigned before = (1u << lane) - 1;
    for (int base = row->begin; base < row->end; base += 32) {
        int i = base + lane, key = i < row->end ? key_at(row, i) : INT_MIN;
        bool inside = i < row->end, tie = inside && key == cut.key;
        unsigned ties = __ballot_sync(~0u, tie);
        bool mine =
            inside && (key > cut.key || (tie && at.n_ties + __popc(ties & before) < cut.n_ties));
        unsigned all = __ballot_sync(~0u, mine);
        u64 share = mine ? row->q[i] : 0, sum = share;
        for (int offset = 1; offset < 32; offset *= 2) {
            u64 other = __shfl_up_sync(~0u, sum, offset);
            sum += lane >= offset ? other : 0;
        }
        if (mine && at.mass + sum - share <= target && target < at.mass + sum)
            *ret_id = i;
        if (kept && mine)
            kept[at.n_kept + __popc(all & before)] = i;
        at.n_ties += __popc(ties);
        at.n_kept += __popc(all);
        at.mass += __shfl_sync(~0u, sum, 31);
    }
}

/* Where the kept ids of this draw go: NULL where they are not recorded. */
static __device__ int32_t *kept_room(const struct agon_cuda_sampler &s,
                                     const struct agon_cuda_slot *slot, struct cut cut, int n,
                                     long long *at)
{
    if (threadIdx.x == 0)
        *at = kept_take(s, slot, cut.n_kept, n);
    __syncthreads();
    return *at >= 0 ? s.kept + *at : NULL;
}

static __device__ void draw(const struct agon_cuda_sampler &s, struct row *row,
                            struct agon_cuda_slot *slot, int i_slot)
{
    __shared__ int id;
    __shared__ long long kept_at;
    double temperature = slot->temperature;
    struct cut cut = {row->best_key, 1, 1};
    struct prefix at = {};
    row_probabilities(row, temperature);
    if (threadIdx.x == 0)
        id = row->best;
    __syncthreads();
    if (temperature > 0) {
        cut = cut_top_p(row, cut_top_k(row, slot->top_k), slot->top_p);
        at = prefix_of(row, cut);
    }
    int32_t *kept = kept_room(s, slot, cut, row->n, &kept_at);
    if (temperature > 0) {
        double uniform = uniform_draw(slot->seed, (uint64_t)slot->position);
        u64 target = __double2ull_rd(uniform * (double)at.mass_all);
        target = target < at.mass_all ? target : at.mass_all - 1;
        walk(row, cut, at, target, kept, &id);
    } else if (kept && threadIdx.x == 0) {
        kept[0] = row->best;
    }
    __syncthreads();
    if (threadIdx.x > 0)
        return;
    double below = (double)row->logits[id] - row->largest;
    struct agon_cuda_drawn drawn = {id, cut.n_kept, 0, (float)(below - log(row->raw)), kept_at};
    if (temperature > 0)
        drawn.logprob = (float)(below / temperature - log((double)at.mass_all / row->unit));
    slot_advance(s, i_slot, slot, drawn);
}

static __global__ void __launch_bounds__(LARGE_THREADS) sample_kernel(struct agon_cuda_sampler s)
{
    depends_wait();
    __shared__ u64 sums[3][32];
    __shared__ int2 ends[2][32];
    int r = blockIdx.x, i_slot = s.row_slot ? s.row_slot[r] : r;
    if (r >= rows_today(s.n_rows, s.d_n_rows) || i_slot < 0)
        return;
    struct agon_cuda_slot *slot = &s.slots[i_slot];
    if (slot->state != AGON_SLOT_RUNNING)
        return;
    struct row row = {};
    row.logits = s.logits + r * s.ld_logits;
    row.q = (u64 *)s.scratch + (size_t)r * s.n;
    row.n = slot->n_ids > 0 && slot->n_ids < s.n ? slot->n_ids : s.n;
    row.sums = sums;
    row.ends = ends;
    int n_warps = blockDim.x / 32, segment = agon_ceil_div(agon_ceil_div(row.n, n_warps), 32) * 32;
    int begin = (int)(threadIdx.x / 32) * segment;
    row.begin = begin < row.n ? begin : row.n;
    row.end = begin + segment < row.n ? begin + segment : row.n;
    bool good = row_scan(&row);
    __syncthreads();
    if (good)
        draw(s, &row, slot, i_slot);
    else if (threadIdx.x == 0)
        slot_end(s, i_slot);
}

extern "C" size_t agon_cuda_sample_scratch(int n_rows, int n)
{
    return n <= SMALL_VOCABULARY ? 0 : (size_t)n_rows * n * sizeof(u64);
}

extern "C" int agon_cuda_sample(const struct agon_cuda_sampler *sampler, void *stream,
                                struct agon_err *err)
{
    if (sampler->n <= 0 || sampler->n_rows < 0 || sampler->ld_drawn <= 0 ||
        (sampler->n > SMALL_VOCABULARY && !sampler->scratch))
        return agon_fail(err, AGON_EINPUT, "sampler: [%d][%d], %d records a slot", sampler->n_rows,
                         sampler->n, sampler->ld_drawn);
    if (sampler->n_rows == 0)
        return 0;
    if (sampler->n <= SMALL_VOCABULARY)
        return sample_small(sampler, stream, err);
    AGON_CUDA(
        err, "sampler launch",
        launch_overlapping(sample_kernel, sampler->n_rows, LARGE_THREADS, 0, stream, *sampler));
    return 0;
}
