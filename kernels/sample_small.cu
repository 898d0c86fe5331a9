/*
 * Sampling from a small vocabulary: what sample.cu does, with a row's probabilities in shared
 * memory. Thread t owns the ids from t `each` on, so that prefixes in the order of ids are prefixes
 * over threads. Loops are not unrolled: this runs once a step, and fetching its instructions takes
 * longer than running them.
 *
 * top-p: ids with at most a n-th of the mass that may be left away have no more than that together,
 * so the cut is above them. The block bisects what is left until it is few ids, which one warp then
 * bisects in its own registers, without waiting for anyone.
 *
 * Floor: an exp in double for each id, some 15 operations of which a multiprocessor does 64 a
 * cycle: 500 cycles a row, 2 us for 1,000 rows of 2,048 ids; one row by itself is its latency,
 * some ten barriers and as many turns of a warp.
 */
#include "kernels/check.cuh"
#include "kernels/sample.cuh"

enum { THREADS = 128, WARPS = THREADS / 32, SLOT_WORDS = sizeof(struct agon_cuda_slot) / 4 };
static_assert(SLOT_WORDS <= THREADS && sizeof(struct agon_cuda_slot) % 4 == 0, "a word a thread");
static_assert(SMALL_VOCABULARY < 1 << 15, "ids are counted in halves of a word");
enum { KEYS_LD = THREADS + 2 }; /* a thread's keys, of every fourth, lie in different banks */
enum { FEW_EACH = 4, FEW = FEW_EACH * 32 }; /* ids that a warp bisects */

/* 2^(i / 32). */
enum { EXP_PIECES = 32 };
/* clang-format off */
static __device__ const double exp_pieces[EXP_PIECES] = {
    0x1p+0, 0x1.059b0d3158574p+0, 0x1.0b5586cf9890fp+0, 0x1.11301d0125b51p+0,
    0x1.172b83c7d517bp+0, 0x1.1d4873168b9aap+0, 0x1.2387a6e756238p+0, 0x1.29e9df51fdee1p+0,
    0x1.306fe0a31b715p+0, 0x1.371a7373aa9cbp+0, 0x1.3dea64c123422p+0, 0x1.44e086061892dp+0,
    0x1.4bfdad5362a27p+0, 0x1.5342b569d4f82p+0, 0x1.5ab07dd485429p+0, 0x1.6247eb03a5585p+0,
    0x1.6a09e667f3bcdp+0, 0x1.71f75e8ec5f74p+0, 0x1.7a11473eb0187p+0, 0x1.82589994cce13p+0,
    0x1.8ace5422aa0dbp+0, 0x1.93737b0cdc5e5p+0, 0x1.9c49182a3f09p+0, 0x1.a5503b23e255dp+0,
    0x1.ae89f995ad3adp+0, 0x1.b7f76f2fb5e47p+0, 0x1.c199bdd85529cp+0, 0x1.cb720dcef9069p+0,
    0x1.d5818dcfba487p+0, 0x1.dfc97337b9b5fp+0, 0x1.ea4afa2a490dap+0, 0x1.f50765b6e454p+0,
};
/* clang-format on */

/* How many keys are above a bound, the least of them, the largest of the others. */
struct sides {
    int n, least, most;
};

/* What the threads of a row share. */
struct block {
    struct agon_cuda_slot slot;
    int best_keys[WARPS];
    double raws[WARPS];
    u64 masses[WARPS], masses_kept[WARPS];
    uint32_t counts[WARPS]; /* ids above the cut << 16 | ties */
    struct sides sides[2][WARPS];
    u64 masses_from[2][WARPS];
    uint32_t counts_from[2][WARPS]; /* ids from the middle on << 16 | from the low end on */
    struct cut cut;
    u64 share, share_within; /* q of its ties, of those of top-k's */
    u64 mass_kept;
    int n_few; /* in any order */
    int few_keys[FEW];
    u64 few_q[FEW];
    double log_raw, log_mass, uniform;
    double exp_pieces[EXP_PIECES];
    long long kept_at;
};

/* A thread's ids: the e-th has key[e * KEYS_LD] and q[e * THREADS], INT_MIN and 0 where there is
 * none. In shared memory. There are 4 << log_fours. */
struct own {
    int each, log_fours;
    int *key;
    u64 *q;
};

static __device__ __forceinline__ int own_key(const struct own &own, int e)
{
    return own.key[e * KEYS_LD];
}
static __device__ __forceinline__ u64 own_q(const struct own &own, int e)
{
    return own.q[e * THREADS];
}
static __device__ __forceinline__ int own_id(const struct own &own, int e)
{
    return threadIdx.x * own.each + e;
}

/* N at a time, whose latencies overlap. */
template <int N, class F>
static __device__ __forceinline__ void each_own(const struct own &own, F f)
{
#pragma unroll 1
    for (int from = 0; from < own.each; from += N)
#pragma unroll
        for (int i = 0; i < N; i++)
            f(from + i);
}

/* Logits as they are, in place of their keys. fours: four may be read at once. */
static __device__ __forceinline__ void logits_load(const struct own &own, const float *logits,
                                                   int n, bool fours)
{
    if (!fours) {
        each_own<1>(own, [&](int e) {
            int at = own_id(own, e);
            own.key[e * KEYS_LD] = at < n ? __float_as_int(__ldcg(logits + at)) : 0;
        });
        return;
    }
    /* Neighbours in memory by neighbours, each four to its owner. */
    int *keys = own.key - threadIdx.x;
#pragma unroll 4
    for (int i = threadIdx.x; i < own.each / 4 * THREADS; i += THREADS) {
        float4 x = make_float4(0, 0, 0, 0);
        if (4 * i < n)
            x = __ldcg((const float4 *)logits + i);
        int *to = keys + (i >> own.log_fours) + (i & ((1 << own.log_fours) - 1)) * 4 * KEYS_LD;
        to[0] = __float_as_int(x.x);
        to[KEYS_LD] = __float_as_int(x.y);
        to[2 * KEYS_LD] = __float_as_int(x.z);
        to[3 * KEYS_LD] = __float_as_int(x.w);
    }
}

/* e^x, x <= 0, within 1.1 units of the last place: 2^(k / 32) times e^r, |r| < 0.011. Half of what
 * exp() takes. */
static __device__ __forceinline__ double exp_below(const struct block *b, double x)
{
    const double whole = 6755399441055744.0; /* 3 * 2^51: sums with it are whole numbers */
    double t = fma(x, 0x1.71547652b82fep+5, whole), k = t - whole;
    double r = fma(k, -0x1.a39ef35793c76p-38, fma(k, -0x1.62e42feep-6, x)), r2 = r * r;
    double p = fma(r2, fma(r2, 1 / 720.0, fma(r, 1 / 120.0, 1 / 24.0)), fma(r, 1 / 6.0, 0.5));
    int n = __double2loint(t);
    double piece = b->exp_pieces[n & (EXP_PIECES - 1)];
    piece = __hiloint2double(__double2hiint(piece) + (n >> 5 << 20), __double2loint(piece));
    return x < -700 ? 0 : fma(piece, fma(r2, p, r), piece);
}

/* Keys of n logits, and the largest; INT_MIN where a logit is NaN or +inf, or all are -inf. */
static __device__ __forceinline__ int keys_make(const struct own &own, struct block *b, int n)
{
    int best = INT_MIN;
    bool bad = false;
    each_own<4>(own, [&](int e) {
        float logit = __int_as_float(own_key(own, e));
        bool there = own_id(own, e) < n;
        int key = there ? key_of(logit) : INT_MIN;
        bad |= there && !(logit < INFINITY);
        own.key[e * KEYS_LD] = key;
        best = max(best, key);
    });
    best = __reduce_max_sync(~0u, best);
    if (threadIdx.x % 32 == 0)
        b->best_keys[threadIdx.x / 32] = best;
    bad = __syncthreads_or(bad);
    for (int w = 0; w < WARPS; w++)
        best = max(best, b->best_keys[w]);
    return bad || best == key_of(-INFINITY) ? INT_MIN : best;
}

/* q, and its sum; the sum of exp(logit - largest) is in b->raws. A temperature of 0 leaves the
 * largest logit's first id alone. */
static __device__ __forceinline__ u64 probabilities_make(const struct own &own, struct block *b,
                                                         int best_key, double temperature,
                                                         double unit)
{
    double largest = logit_of(best_key), raw = 0;
    u64 mass = 0;
    each_own<2>(own, [&](int e) {
        int key = own_key(own, e);
        double below = key != INT_MIN ? (double)logit_of(key) - largest : -INFINITY;
        double p = exp_below(b, below);
        u64 q = __double2ull_rn(p * unit);
        raw += p;
        mass += q;
        own.q[e * THREADS] = q;
    });
    if (temperature != 1) {
        mass = 0;
        each_own<1>(own, [&](int e) {
            int key = own_key(own, e);
            double below = key != INT_MIN ? (double)logit_of(key) - largest : -INFINITY;
            u64 q = temperature > 0 ? __double2ull_rn(exp_below(b, below / temperature) * unit)
                                    : key == best_key;
            mass += q;
            own.q[e * THREADS] = q;
        });
    }
    raw = warp_sum(raw);
    mass = warp_sum_62(mass);
    if (threadIdx.x % 32 == 0) {
        b->raws[threadIdx.x / 32] = raw;
        b->masses[threadIdx.x / 32] = mass;
    }
    __syncthreads();
    mass = 0;
    for (int w = 0; w < WARPS; w++)
        mass += b->masses[w];
    return mass;
}

/* The largest key from which on there are at least top_k: by bisection, both ends of which move to
 * keys that are there. */
static __device__ __forceinline__ struct cut cut_top_k(const struct own &own, struct block *b,
                                                       int best_key, int top_k)
{
    int low = INT_MIN, high = best_key + 1, n_above = 0;
    for (int turn = 0; (uint32_t)high - (uint32_t)low > 1; turn++) {
        int middle = (int)((uint32_t)low + ((uint32_t)high - (uint32_t)low) / 2);
        struct sides s = {0, INT_MAX, INT_MIN};
        each_own<4>(own, [&](int e) {
            int key = own_key(own, e);
            bool above = key >= middle;
            s.n += above;
            s.least = above ? min(s.least, key) : s.least;
            s.most = above ? s.most : max(s.most, key);
        });
        s.n = __reduce_add_sync(~0u, s.n);
        s.least = __reduce_min_sync(~0u, s.least);
        s.most = __reduce_max_sync(~0u, s.most);
        if (threadIdx.x % 32 == 0)
            b->sides[turn & 1][threadIdx.x / 32] = s;
        __syncthreads();
        s = {0, INT_MAX, INT_MIN};
        for (int w = 0; w < WARPS; w++) {
            s.n += b->sides[turn & 1][w].n;
            s.least = min(s.least, b->sides[turn & 1][w].least);
            s.most = max(s.most, b->sides[turn & 1][w].most);
        }
        if (s.n >= top_k) {
            low = s.least;
        } else {
            high = s.most + 1;
            n_above = s.n;
        }
    }
    struct cut cut = {low, top_k - n_above, top_k};
    return cut;
}

/* What `cut` keeps of the mass. */
static __device__ __forceinline__ u64 mass_within(const struct own &own, struct block *b,
                                                  struct cut cut)
{
    u64 mass = 0;
    each_own<1>(own, [&](int e) {
        mass += own_key(own, e) > cut.key ? own_q(own, e) : 0;
        if (own_key(own, e) == cut.key)
            b->share_within = own_q(own, e); /* every writer writes the same */
    });
    mass = warp_sum_62(mass);
    __syncthreads(); /* all have read the masses */
    if (threadIdx.x % 32 == 0)
        b->masses[threadIdx.x / 32] = mass;
    __syncthreads();
    mass = cut.n_ties * b->share_within;
    for (int w = 0; w < WARPS; w++)
        mass += b->masses[w];
    return mass;
}

/* The keys among which the cut of top-p is, and what is above them. */
struct range {
    int low, high; /* [low, high); the mass from `low` on is enough, that from `high` on is not */
    u64 above;
    int n_above;
};

/* Values are bisected, which halves the ids; keys where that leads nowhere or takes too long. */
static __device__ __forceinline__ int middle_of(const struct range *at, int turn)
{
    enum { VALUE_TURNS = 24 };
    int middle = (int)((uint32_t)at->low + ((uint32_t)at->high - (uint32_t)at->low) / 2);
    int value = key_of(0.5F * (logit_of(at->low) + logit_of(at->high)));
    return turn < VALUE_TURNS && value > at->low && value < at->high ? value : middle;
}

static __device__ __forceinline__ bool range_is_wide(const struct range *at)
{
    return (uint32_t)at->high - (uint32_t)at->low > 1;
}

/* Until at most FEW ids are left, or one key. */
static __device__ __forceinline__ void narrow(struct range *at, const struct own &own,
                                              struct block *b, u64 wanted)
{
    int n_left = INT_MAX;
    for (int turn = 0; n_left > FEW && range_is_wide(at); turn++) {
        int middle = middle_of(at, turn), warp = threadIdx.x / 32;
        u64 mass = 0;
        uint32_t counts = 0;
        each_own<4>(own, [&](int e) {
            int key = own_key(own, e);
            u64 q = own_q(own, e);
            mass += key >= middle ? q : 0;
            counts += key >= middle ? 1U << 16 | 1 : key >= at->low;
        });
        mass = warp_sum_62(mass);
        counts = __reduce_add_sync(~0u, counts);
        if (threadIdx.x % 32 == 0) {
            b->masses_from[turn & 1][warp] = mass;
            b->counts_from[turn & 1][warp] = counts;
        }
        __syncthreads();
        mass = 0;
        counts = 0;
#pragma unroll
        for (int w = 0; w < WARPS; w++) {
            mass += b->masses_from[turn & 1][w];
            counts += b->counts_from[turn & 1][w];
        }
        int n_from = (int)(counts >> 16), n_low = (int)(counts & 0xffff);
        if (mass >= wanted) {
            at->low = middle;
            n_low = n_from;
        } else {
            at->high = middle;
            at->above = mass;
            at->n_above = n_from;
        }
        n_left = n_low - at->n_above;
    }
}

/* The ids that are left, where they are few. */
static __device__ __forceinline__ void few_list(const struct range *at, const struct own &own,
                                                struct block *b)
{
    int n = 0, to = 0, lane = threadIdx.x % 32;
    bool wide = range_is_wide(at);
    each_own<4>(own, [&](int e) {
        int key = own_key(own, e);
        n += wide && key >= at->low && key < at->high;
    });
    int sum = n;
#pragma unroll
    for (int apart = 1; apart < 32; apart *= 2) {
        int other = __shfl_up_sync(~0u, sum, apart);
        sum += lane >= apart ? other : 0;
    }
    if (lane == 31 && sum > 0)
        to = atomicAdd(&b->n_few, sum);
    to = __shfl_sync(~0u, to, 31) + sum - n;
    each_own<1>(own, [&](int e) {
        int key = own_key(own, e);
        if (key < at->low || key >= at->high)
            return;
        u64 q = own_q(own, e);
        if (key == at->low)
            b->share = q; /* every writer writes the same */
        if (wide) {
            b->few_keys[to] = key;
            b->few_q[to++] = q;
        }
    });
}

/* One warp: those few bisected to one key, the largest from which on the mass is enough. */
static __device__ __forceinline__ void few_narrow(struct range *at, struct block *b, u64 wanted)
{
    int key[FEW_EACH], lane = threadIdx.x % 32, n_above = 0;
    u64 q[FEW_EACH], begin = at->above;
#pragma unroll
    for (int i = 0; i < FEW_EACH; i++) {
        bool there = i * 32 + lane < b->n_few;
        key[i] = there ? b->few_keys[i * 32 + lane] : INT_MIN;
        q[i] = there ? b->few_q[i * 32 + lane] : 0;
    }
    for (int turn = 0; range_is_wide(at); turn++) {
        int middle = middle_of(at, turn), least = INT_MAX, most = INT_MIN;
        u64 mass = 0;
#pragma unroll
        for (int i = 0; i < FEW_EACH; i++) {
            bool from = key[i] >= middle;
            mass += from ? q[i] : 0;
            least = from ? min(least, key[i]) : least;
            most = from ? most : max(most, key[i]);
        }
        mass = begin + warp_sum_62(mass);
        if (mass >= wanted) {
            at->low = __reduce_min_sync(~0u, least); /* ends move to keys that are there */
        } else {
            at->high = __reduce_max_sync(~0u, most) + 1;
            at->above = mass;
        }
    }
#pragma unroll
    for (int i = 0; i < FEW_EACH; i++) {
        n_above += key[i] > at->low;
        if (key[i] == at->low)
            b->share = q[i]; /* every writer writes the same */
    }
    at->n_above += __reduce_add_sync(~0u, n_above);
    __syncwarp();
}

/* Below it no logit can be top-p's cut, `spare` being the mass that may be left away. */
static __device__ __forceinline__ int key_bound(int best_key, double temperature, u64 spare,
                                                double unit, int n)
{
    /* q are rounded by half a unit, the logarithm by 1e-5, the bound by its last place. */
    const float margin = 0.01F, last_place = 2.4e-7F;
    float share = (float)((double)spare / (unit * n)), largest = logit_of(best_key);
    float below = (float)temperature * (__logf(share) - margin) * 1.001F;
    float bound = largest + below - last_place * fabsf(largest);
    return spare / 128 > (u64)n && bound > -INFINITY ? key_of(bound) : INT_MIN;
}

/* One warp: the largest key from which on there is the mass `wanted`, and how many of its ties are
 * needed; `within` the cut of top-k. */
static __device__ __forceinline__ void cut_put(struct range *at, struct block *b, struct cut within,
                                               u64 wanted)
{
    if (range_is_wide(at))
        few_narrow(at, b, wanted);
    u64 share = b->share, left = wanted - at->above;
    u64 n_ties = left <= share ? 1 : (left + share - 1) / share;
    if (at->low == within.key && n_ties > (u64)within.n_ties)
        n_ties = within.n_ties;
    if (threadIdx.x == 0) {
        b->cut = {at->low, (int)n_ties, at->n_above + (int)n_ties};
        b->mass_kept = at->above + n_ties * share;
    }
}

/* What the kept ids of the threads before this one, and of it, amount to. */
struct prefix {
    u64 begin, end;
    int n_ties, n_kept; /* before */
};

static __device__ __forceinline__ int count_above(uint32_t counts)
{
    return (int)(counts >> 16);
}
static __device__ __forceinline__ int count_ties(uint32_t counts)
{
    return (int)(counts & 0xffff);
}

static __device__ __forceinline__ struct prefix prefix_of(const struct own &own, struct block *b,
                                                          struct cut cut)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    u64 mass = 0, mass_before = 0;
    uint32_t counts = 0, counts_before = 0;
    each_own<4>(own, [&](int e) {
        int key = own_key(own, e);
        u64 q = own_q(own, e);
        mass += key > cut.key ? q : 0;
        counts += key > cut.key ? 1U << 16 : key == cut.key;
        if (key == cut.key)
            b->share = q; /* every writer writes the same */
    });
    u64 mass_to = mass;
    uint32_t counts_to = counts;
#pragma unroll
    for (int offset = 1; offset < 32; offset *= 2) {
        u64 m = __shfl_up_sync(~0u, mass_to, offset);
        uint32_t n = __shfl_up_sync(~0u, counts_to, offset);
        mass_to += lane >= offset ? m : 0;
        counts_to += lane >= offset ? n : 0;
    }
    if (lane == 31) {
        b->masses_kept[warp] = mass_to;
        b->counts[warp] = counts_to;
    }
    __syncthreads();
#pragma unroll 1
    for (int w = 0; w < warp; w++) {
        mass_before += b->masses_kept[w];
        counts_before += b->counts[w];
    }
    mass_before += mass_to - mass;
    counts_before += counts_to - counts;
    u64 share = b->share;
    int before = min(count_ties(counts_before), cut.n_ties);
    int to = min(count_ties(counts_before + counts), cut.n_ties);
    struct prefix p = {mass_before + before * share, mass_before + mass + to * share,
                       count_ties(counts_before), count_above(counts_before) + before};
    return p;
}

/* This thread's kept ids in order: returns the one whose share holds `target`, or -1, and its key;
 * lists them where kept is given. */
static __device__ __forceinline__ int walk(const struct own &own, struct cut cut, struct prefix at,
                                           u64 target, int32_t *kept, int *ret_key)
{
    int id = -1;
    u64 begin = at.begin;
    each_own<1>(own, [&](int e) {
        int key = own_key(own, e);
        u64 q = own_q(own, e);
        bool tie = key == cut.key, mine = key > cut.key || (tie && at.n_ties < cut.n_ties);
        at.n_ties += tie;
        if (!mine)
            return;
        if (begin <= target && target < begin + q) {
            id = own_id(own, e);
            *ret_key = key;
        }
        begin += q;
        if (kept)
            kept[at.n_kept++] = own_id(own, e);
    });
    return id;
}

/* The cut of the slot's options, and the mass it keeps, in b; and by threads that have nothing to
 * do with that, what the draw needs besides. */
static __device__ __forceinline__ void cut_make(const struct own &own, struct block *b,
                                                int best_key, u64 mass, double unit, int n)
{
    double temperature = b->slot.temperature;
    bool draws = temperature > 0, by_mass = draws && b->slot.top_p < 1;
    struct cut cut = {INT_MIN, 0, n}; /* no key is INT_MIN: all are above it */
    struct range at = {INT_MIN, best_key + 1, 0, 0};
    u64 wanted = 0;
    if (!draws)
        cut = {best_key, 1, 1};
    if (draws && b->slot.top_k > 0 && b->slot.top_k < n) {
        cut = cut_top_k(own, b, best_key, b->slot.top_k);
        mass = mass_within(own, b, cut);
    }
    if (by_mass) {
        wanted = mass_wanted(b->slot.top_p, mass);
        at.low = max(key_bound(best_key, temperature, mass - wanted, unit, n), cut.key);
        narrow(&at, own, b, wanted);
        few_list(&at, own, b);
    }
    __syncthreads();
    if (threadIdx.x < 32 && by_mass) {
        cut_put(&at, b, cut, wanted);
    } else if (threadIdx.x == 0) {
        b->cut = cut;
        b->mass_kept = draws ? mass : 1;
    }
    if (threadIdx.x == THREADS - 1) {
        double raw = 0;
        for (int w = 0; w < WARPS; w++)
            raw += b->raws[w];
        b->log_raw = log(raw);
    }
    if (threadIdx.x == THREADS - 33)
        b->uniform = draws ? uniform_draw(b->slot.seed, (uint64_t)b->slot.position) : 0;
    __syncthreads();
}

/* One thread, which has found what is drawn, `below` the largest logit. */
static __device__ __forceinline__ void drawn_put(const struct agon_cuda_sampler &s,
                                                 const struct block *b, int i_slot, int id,
                                                 double below)
{
    double temperature = b->slot.temperature;
    struct agon_cuda_drawn drawn = {id, b->cut.n_kept, 0, (float)(below - b->log_raw), b->kept_at};
    if (temperature != 1 && temperature > 0)
        below /= temperature;
    if (temperature > 0)
        drawn.logprob = (float)(below - b->log_mass);
    slot_advance(s, i_slot, &b->slot, drawn);
}

static __device__ __forceinline__ void draw(const struct agon_cuda_sampler &s, struct block *b,
                                            const struct own &own, int i_slot, int best_key, int n)
{
    double unit = unit_of(n);
    u64 mass = probabilities_make(own, b, best_key, b->slot.temperature, unit);
    cut_make(own, b, best_key, mass, unit, n);
    struct cut cut = b->cut;
    if (threadIdx.x == 0)
        b->kept_at = kept_take(s, &b->slot, cut.n_kept, n);
    if (threadIdx.x == THREADS - 1)
        b->log_mass = log((double)b->mass_kept / unit);
    struct prefix at = prefix_of(own, b, cut);
    u64 all = b->mass_kept, target = __double2ull_rd(b->uniform * (double)all);
    target = target < all ? target : all - 1;
    int32_t *kept = b->kept_at >= 0 ? s.kept + b->kept_at : NULL;
    int key, id = -1;
    if (kept || (at.begin <= target && target < at.end))
        id = walk(own, cut, at, target, kept, &key);
    if (id >= 0)
        drawn_put(s, b, i_slot, id, (double)logit_of(key) - logit_of(best_key));
}

static __global__ void __launch_bounds__(THREADS, 8)
    small_kernel(struct agon_cuda_sampler s, int log_fours, bool fours)
{
    __shared__ struct block b;
    u64 *q = (u64 *)block_shared() + threadIdx.x;
    int n_each = 4 << log_fours;
    struct own own = {n_each, log_fours, (int *)(q + n_each * THREADS) - threadIdx.x, q};
    if (threadIdx.x < EXP_PIECES)
        b.exp_pieces[threadIdx.x] = exp_pieces[threadIdx.x];
    depends_wait();
    int r = blockIdx.x, i_slot = s.row_slot ? s.row_slot[r] : r;
    int n_rows = rows_today(s.n_rows, s.d_n_rows);
    logits_load(own, s.logits + r * s.ld_logits, s.n, fours);
    if (i_slot >= 0 && threadIdx.x < SLOT_WORDS)
        ((int *)&b.slot)[threadIdx.x] = __ldcg((const int *)&s.slots[i_slot] + threadIdx.x);
    if (threadIdx.x == 0)
        b.n_few = 0;
    __syncthreads();
    if (r >= n_rows || i_slot < 0 || b.slot.state != AGON_SLOT_RUNNING)
        return;
    int n = b.slot.n_ids > 0 && b.slot.n_ids < s.n ? b.slot.n_ids : s.n;
    int best_key = keys_make(own, &b, n);
    if (best_key != INT_MIN)
        draw(s, &b, own, i_slot, best_key, n);
    else if (threadIdx.x == 0)
        slot_end(s, i_slot);
}

/* Keys and q of so many ids a thread. */
static size_t sample_shared(int n_each)
{
    return (size_t)n_each * (THREADS * sizeof(u64) + KEYS_LD * sizeof(int));
}

int sample_small(const struct agon_cuda_sampler *sampler, void *stream, struct agon_err *err)
{
    int log_fours = 0;
    while (4 * THREADS << log_fours < sampler->n)
        log_fours++;
    bool fours = (uintptr_t)sampler->logits % sizeof(float4) == 0 && sampler->ld_logits % 4 == 0 &&
                 sampler->n % 4 == 0;
    size_t shared = sample_shared(4 << log_fours);
    AGON_CUDA(err, "sampler",
              cudaFuncSetAttribute(small_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   sample_shared(SMALL_VOCABULARY / THREADS)));
    AGON_CUDA(err, "sampler launch",
              launch_overlapping(small_kernel, sampler->n_rows, THREADS, shared, stream, *sampler,
                                 log_fours, fours));
    return 0;
}
