/*
 * Latent attention with Hopper's matrix instructions, for entries of 512 + 64 values in BF16 or FP8
 * (cuda_mla.h). 1,088 products for each entry and head; 64 heads share each entry that is read.
 *
 * A block does 64 heads of one row over its entries begin..end. Entries come in blocks of 64; the
 * even ones live in buffer 0, the odd ones in buffer 1 of shared memory, as 9 chunks of
 * [64 entries][64] bf16 (mla_wgmma.cuh). Three warpgroups:
 *   producer    reads the entries of slot after slot (BF16: copied as they are; FP8: widened), and
 *               tells which exist; a negative slot becomes zeros and weight 0
 *   consumer g  computes the scores of the blocks in buffer g, [64 heads][64 entries] in registers,
 *               and their weights; and sums dimensions 256 g .. 256 g + 255 of all blocks. The
 *               weights that the other one needs lie in chunk 8 (k_pe) of the buffer they belong
 *               to, which is not read again once the scores are there.
 * The running maximum passes from block to block: consumer 0 makes it for an even block, consumer 1
 * for the odd one after it. While one computes weights the matrix units work for the other one.
 */
#include "kernels/mla.cuh"
#include "kernels/mla_wgmma.cuh"

namespace
{
enum {
    HEADS = 64,
    ENTRIES = 64,
    VALUES = 512,
    CHUNKS = 9, /* 8 of c, one of k_pe */
    CHUNK = 64 * 128,
    MATRIX = CHUNKS * CHUNK,
    THREADS = 384,
};

/* Barriers among threads, by number; 0 is __syncthreads(). */
enum { BAR_EVEN = 1, BAR_ODD, BAR_QUERY, BAR_CONSUMER /* two */ };

struct __align__(1024) shared_state
{
    uint8_t query[MATRIX];
    uint8_t entries[2][MATRIX];
    float largest[2][HEADS]; /* the running maximum after the last block of each buffer */
    float total[2][HEADS];   /* at the end: each consumer's share of the sum of weights */
    uint32_t there[2][2];    /* bit e % 32 of word e / 32: entry e exists */
    uint64_t full[2], empty[2];
};
static_assert(sizeof(struct shared_state) <= 227 * 1024, "shared memory of a block");

struct fast_args {
    const uint8_t *latents;
    struct mla_list list;
    const void *q;
    void *out;
    enum agon_dtype q_dtype, out_dtype;
    int n_heads, n_tiles, split, n_splits;
    float scale;        /* with log2(e) */
    float *partial_out; /* [row][n_splits][n_heads][VALUES], where n_splits > 0 */
    float2 *partial;    /* [row][n_splits][n_heads]: largest score in log2, sum of weights */
};

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- barriers ----------------------------------------------------------------------- */

__device__ __forceinline__ void bar_sync(int bar, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(bar), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void bar_arrive(int bar, int n_threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(bar), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void mbar_init(uint64_t *bar, int n)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(n)
                 : "memory");
}
__device__ __forceinline__ void mbar_arrive(uint64_t *bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}
__device__ __forceinline__ void mbar_wait(uint64_t *bar, uint32_t parity)
{
    uint32_t done;
    do
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(shared_address(bar)), "r"(parity)
                     : "memory");
    while (!done);
}
/* What this thread wrote to shared memory is seen by matrix instructions after a barrier. */
__device__ __forceinline__ void fence_matrix(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
template <int n> __device__ __forceinline__ void registers_fewer(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n> __device__ __forceinline__ void registers_more(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}

__device__ __forceinline__ void store16(uint32_t address, uint4 x)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x.x), "r"(x.y),
                 "r"(x.z), "r"(x.w)
                 : "memory");
}
/* 16 bytes from global to shared memory, or zeros. */
__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ float power_of_2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ uint32_t pack_bf16(float low, float high)
{
    __nv_bfloat162 x = __floats2bfloat162_rn(low, high);
    return *(uint32_t *)&x;
}

/* ---- producer ----------------------------------------------------------------------- */

/* The slot of entry i of this row; -1 from end on. */
__device__ __forceinline__ int slot_of(const struct fast_args *args, int row, int i, int end)
{
    return i < end ? args->list.slot(row, i) : -1;
}

/*
 * BF16: warps 0 and 1 fill buffer 0, warps 2 and 3 buffer 1, a warp 32 entries: 8 lanes copy 16
 * bytes each of a row of a chunk, 4 entries at a time.
 */
__device__ __forceinline__ void produce_bf16(struct shared_state *s, const struct fast_args *args,
                                             int row, int begin, int end, int n_pairs)
{
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    int buffer = warp / 2, first = warp % 2 * 32;
    uint32_t to = shared_address(s->entries[buffer]);
    int at = begin + buffer * ENTRIES + first + lane;
    int next = slot_of(args, row, at, end);
    for (int pair = 0; pair < n_pairs; pair++) {
        int slot = next;
        next = slot_of(args, row, at + (pair + 1) * 2 * ENTRIES, end);
        uint32_t there = __ballot_sync(~0U, slot >= 0);
        mbar_wait(&s->empty[buffer], pair % 2 ^ 1);
        if (lane == 0)
            s->there[buffer][warp % 2] = there;
#pragma unroll 2
        for (int group = 0; group < 8; group++) {
            int i = group * 4 + lane / 8, r = first + i, unit = lane % 8;
            int from_slot = __shfl_sync(~0U, slot, i);
            const uint8_t *from = args->latents + (size_t)max(from_slot, 0) * (2 * 576) + unit * 16;
            uint32_t place = to + r * 128 + (unit ^ (r % 8)) * 16;
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++)
                copy16(place + chunk * CHUNK, from + chunk * 128, from_slot >= 0);
        }
        asm volatile("cp.async.wait_all;" ::: "memory");
        fence_matrix();
        mbar_arrive(&s->full[buffer]);
    }
}

/*
 * Four e4m3 codes as bf16, times scale_up: the code's bits, shifted to where bf16 has its own, mean
 * the value times 2^-120 (bias 127 against 7; subnormals too), so scale_up is the scale times
 * 2^120, twice in a word. Exact: a power of two times 4 bits.
 */
__device__ __forceinline__ void widen4(uint32_t *to, uint32_t codes, uint32_t scale_up)
{
    __nv_bfloat162 scale = *(__nv_bfloat162 *)&scale_up;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t x; /* bytes: a code, its sign eight times, the next code, its sign */
        asm("prmt.b32 %0, %1, 0, %2;" : "=r"(x) : "r"(codes), "r"(i ? 0xb3a2 : 0x9180));
        x = x << 4 & 0x87f087f0;
        __nv_bfloat162 y = __hmul2(*(__nv_bfloat162 *)&x, scale);
        to[i] = *(uint32_t *)&y;
    }
}

/*
 * FP8: every warp fills 16 entries of each block. A lane has 16 codes of each (a warp reads an
 * entry's 512 at once), held in registers FP8_AHEAD entries ahead; k_pe is copied as it is, 8 lanes
 * an entry. Places in the pool are counted in units of 16 bytes, 41 of them an entry.
 */
enum { FP8_AHEAD = 8, FP8_UNITS = 656 / 16 };

__device__ __forceinline__ uint4 fp8_codes(const uint8_t *latents, uint32_t units, int i)
{
    uint32_t unit = __shfl_sync(~0U, units, i) + threadIdx.x % 32;
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(latents + (size_t)unit * 16));
    return x;
}
/* Scale lane % 4 of entry first + lane / 4. */
__device__ __forceinline__ float fp8_scale(const uint8_t *latents, uint32_t units, int first)
{
    int lane = threadIdx.x % 32;
    uint32_t unit = __shfl_sync(~0U, units, first + lane / 4) + 512 / 16;
    return __ldg((const float *)(latents + (size_t)unit * 16) + lane % 4);
}

/* Widen a lane's 16 codes into row r of a buffer's chunks. */
__device__ __forceinline__ void fp8_widen(uint32_t buffer, int r, uint4 codes, float scale,
                                          bool exists)
{
    int lane = threadIdx.x % 32, chunk = lane / 4, odd = chunk % 2, unit = lane % 4 * 2;
    uint32_t up = !exists          ? 0
                  : scale == scale ? __float_as_uint(scale) + (120 << 23)
                                   : 0x7fc00000; /* a NaN stays one */
    up = __byte_perm(up, 0, 0x3232);             /* its upper half twice: bf16 of a power of two */
    uint32_t x[8];
    widen4(x, exists ? codes.x : 0, up);
    widen4(x + 2, exists ? codes.y : 0, up);
    widen4(x + 4, exists ? codes.z : 0, up);
    widen4(x + 6, exists ? codes.w : 0, up);
    uint4 low = {x[0], x[1], x[2], x[3]}, high = {x[4], x[5], x[6], x[7]};
    /* The lanes of odd chunks store their second half first: no two of 8 lanes then meet in a
     * bank. Exclusive-or on the address, whose low bits are the unit's alone, swizzles. */
    uint32_t place = buffer + chunk * CHUNK + (unit + odd) * 16;
    store16((place ^ r % 8 * 16) + r * 128, odd ? high : low);
    store16((place ^ 16 ^ r % 8 * 16) + r * 128, odd ? low : high);
}

__device__ __forceinline__ void produce_fp8(struct shared_state *s, const struct fast_args *args,
                                            int row, int begin, int end, int n_pairs)
{
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, first = warp * 16;
    const uint8_t *latents = args->latents;
    int at = begin + first + lane % 16;
    int slot = slot_of(args, row, at, end), next = slot_of(args, row, at + ENTRIES, end);
    uint32_t units = max(slot, 0) * FP8_UNITS;
    uint4 codes[FP8_AHEAD];
    float scales[2];
#pragma unroll
    for (int i = 0; i < FP8_AHEAD; i++)
        codes[i] = fp8_codes(latents, units, i);
#pragma unroll
    for (int i = 0; i < 2; i++)
        scales[i] = fp8_scale(latents, units, 8 * i);

    for (int n = 0; n < 2 * n_pairs; n++) {
        int buffer = n % 2;
        uint32_t to = shared_address(s->entries[buffer]);
        uint32_t there = __ballot_sync(~0U, slot >= 0), next_units = max(next, 0) * FP8_UNITS;
        slot = next;
        next = slot_of(args, row, at + (n + 2) * ENTRIES, end);

        mbar_wait(&s->empty[buffer], n / 2 % 2 ^ 1);
        if (lane == 0)
            ((uint16_t *)s->there[buffer])[warp] = (uint16_t)there;
#pragma unroll
        for (int group = 0; group < 4; group++) { /* k_pe */
            int i = group * 4 + lane / 8, r = first + i, unit = lane % 8;
            uint32_t from = __shfl_sync(~0U, units, i) + 528 / 16 + unit;
            copy16(to + 8 * CHUNK + r * 128 + (unit ^ (r % 8)) * 16, latents + (size_t)from * 16,
                   there >> i & 1);
        }
#pragma unroll
        for (int i = 0; i < 16; i++) {
            float scale = __shfl_sync(~0U, scales[i / 8], i % 8 * 4 + lane / 8);
            fp8_widen(to + first * 128, i, codes[i % FP8_AHEAD], scale, there >> i & 1);
            int ahead = i + FP8_AHEAD;
            codes[i % FP8_AHEAD] = fp8_codes(latents, ahead < 16 ? units : next_units, ahead % 16);
            if (i % 8 == 7)
                scales[i / 8] = fp8_scale(latents, next_units, i / 8 * 8);
        }
        units = next_units;
        asm volatile("cp.async.wait_all;" ::: "memory");
        fence_matrix();
        mbar_arrive(&s->full[buffer]);
    }
}

/* ---- consumers ---------------------------------------------------------------------- */

/* Both consumers: this tile's queries as bf16; heads past the last are zeros. */
__device__ void load_query(struct shared_state *s, const struct fast_args *args, int row, int tile)
{
    uint32_t to = shared_address(s->query);
    for (int i = threadIdx.x; i < HEADS * 72; i += 256) {
        int head = i / 72, unit = i % 72;
        uint4 x = {0, 0, 0, 0};
        if (tile * HEADS + head < args->n_heads) {
            size_t at = ((size_t)row * args->n_heads + tile * HEADS + head) * 576 + unit * 8;
            if (args->q_dtype == AGON_BF16) {
                x = __ldg((const uint4 *)((const uint16_t *)args->q + at));
            } else {
                float4 a = __ldg((const float4 *)((const float *)args->q + at));
                float4 b = __ldg((const float4 *)((const float *)args->q + at) + 1);
                x = {pack_bf16(a.x, a.y), pack_bf16(a.z, a.w), pack_bf16(b.x, b.y),
                     pack_bf16(b.z, b.w)};
            }
        }
        store16(to + unit / 8 * CHUNK + head * 128 + ((unit % 8) ^ (head % 8)) * 16, x);
    }
    fence_matrix();
    bar_sync(BAR_QUERY, 256);
}

/* scores = queries x entries of a buffer, both over 576 values. */
__device__ __forceinline__ void scores_of(float (&scores)[32], uint32_t query, uint32_t entries)
{
    wgmma_begin();
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            wgmma_64(scores, wgmma_rows(query + chunk * CHUNK + k * 32),
                     wgmma_rows(entries + chunk * CHUNK + k * 32), chunk + k > 0);
    wgmma_commit();
    wgmma_wait<0>();
    wgmma_pin(scores);
}

struct running {
    float largest[2], total[2]; /* of the thread's two rows; total: this thread's columns alone */
};

/* largest score of each row in a block whose missing entries become -infinity. */
__device__ __forceinline__ void block_largest(float (&scores)[32], float (&largest)[2],
                                              const uint32_t *there)
{
    uint32_t low = there[0], high = there[1];
    int column = threadIdx.x % 4 * 2;
    largest[0] = largest[1] = -INFINITY;
    if ((low & high) != ~0U) {
#pragma unroll
        for (int i = 0; i < 32; i++) {
            int entry = i / 4 * 8 + column + i % 2;
            if (!((entry < 32 ? low : high) >> (entry % 32) & 1))
                scores[i] = -INFINITY;
        }
    }
#pragma unroll
    for (int i = 0; i < 32; i++)
        largest[i / 2 % 2] = fmaxf(largest[i / 2 % 2], scores[i]);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0U, largest[r], 1));
        largest[r] = fmaxf(largest[r], __shfl_xor_sync(~0U, largest[r], 2));
    }
}

/* Move to a new maximum: sums and totals shrink. */
__device__ __forceinline__ void shrink(float (&sums)[128], struct running *run,
                                       const float (&largest)[2], float scale)
{
    float by[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float base = largest[r] == -INFINITY ? 0 : largest[r];
        by[r] = power_of_2((run->largest[r] - base) * scale);
        run->largest[r] = largest[r];
        run->total[r] *= by[r];
    }
    if (!__any_sync(~0U, by[0] != 1 || by[1] != 1))
        return;
#pragma unroll
    for (int i = 0; i < 128; i++)
        sums[i] *= by[i / 2 % 2];
}

/* scores become weights relative to run->largest, packed as the matrix instructions want them. */
__device__ __forceinline__ void weigh(uint32_t (&weights)[16], const float (&scores)[32],
                                      struct running *run, float scale)
{
    float base[2];
#pragma unroll
    for (int r = 0; r < 2; r++)
        base[r] = run->largest[r] == -INFINITY ? 0 : run->largest[r] * scale;
    float w[32];
#pragma unroll
    for (int i = 0; i < 32; i++) {
        w[i] = power_of_2(fmaf(scores[i], scale, -base[i / 2 % 2]));
        run->total[i / 2 % 2] += w[i];
    }
#pragma unroll
    for (int i = 0; i < 16; i++)
        weights[i] = pack_bf16(w[2 * i], w[2 * i + 1]);
}

/* Lay this thread's weights into a chunk, [64 heads][64 entries]. */
__device__ __forceinline__ void publish(uint32_t chunk, const uint32_t (&weights)[16])
{
    int thread = threadIdx.x % 128, r = thread / 32 * 16 + thread % 32 / 4;
#pragma unroll
    for (int i = 0; i < 16; i++) {
        int head = r + i % 2 * 8, unit = i / 2;
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(chunk + head * 128 + (unit ^ (head % 8)) * 16 +
                                                     thread % 4 * 4),
                     "r"(weights[i])
                     : "memory");
    }
    fence_matrix();
}

/* sums += weights in registers x 256 dimensions of the entries. */
__device__ __forceinline__ void add_own(float (&sums)[128], const uint32_t (&weights)[16],
                                        uint32_t entries)
{
    wgmma_pin(sums);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_256(sums, weights + 4 * k, wgmma_columns(entries + k * 2048, CHUNK));
    wgmma_commit();
}
/* The same with the other consumer's weights. */
__device__ __forceinline__ void add_other(float (&sums)[128], uint32_t weights, uint32_t entries)
{
    wgmma_pin(sums);
    wgmma_begin();
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_256(sums, wgmma_rows(weights + k * 32), wgmma_columns(entries + k * 2048, CHUNK));
    wgmma_commit();
}

/* All matrix instructions of this warp are done with a buffer. */
__device__ __forceinline__ void release(struct shared_state *s, int buffer, float (&sums)[128])
{
    wgmma_wait<0>();
    wgmma_pin(sums);
    if (threadIdx.x % 32 == 0)
        mbar_arrive(&s->empty[buffer]);
}

/* The thread's two rows of heads. */
__device__ __forceinline__ int row_of(int r)
{
    int thread = threadIdx.x % 128;
    return thread / 32 * 16 + thread % 32 / 4 + r * 8;
}

template <int self>
__device__ __forceinline__ void consume(struct shared_state *s, const struct fast_args *args,
                                        float (&sums)[128], struct running *run, int n_pairs)
{
    uint32_t query = shared_address(s->query);
    uint32_t entries[2] = {shared_address(s->entries[0]), shared_address(s->entries[1])};
    uint32_t own = entries[self] + 8 * CHUNK, other = entries[1 - self] + 8 * CHUNK;
    bool writes = threadIdx.x % 4 == 0;
    float scores[32], largest[2];
    uint32_t weights[16];
    for (int pair = 0; pair < n_pairs; pair++) {
        mbar_wait(&s->full[self], pair % 2);
        scores_of(scores, query, entries[self]);
        block_largest(scores, largest, s->there[self]);
        bar_sync(BAR_CONSUMER + self, 128); /* no warp reads k_pe any more */
        if (self == 0) {
            for (int r = 0; r < 2; r++)
                largest[r] = fmaxf(largest[r], run->largest[r]);
            shrink(sums, run, largest, args->scale);
            weigh(weights, scores, run, args->scale);
            publish(own, weights);
            if (writes)
                for (int r = 0; r < 2; r++)
                    s->largest[0][row_of(r)] = largest[r];
            bar_arrive(BAR_EVEN, 256);
            add_own(sums, weights, entries[0]);
            bar_sync(BAR_ODD, 256);
            for (int r = 0; r < 2; r++)
                largest[r] = s->largest[1][row_of(r)];
            release(s, 0, sums);
            shrink(sums, run, largest, args->scale);
            add_other(sums, other, entries[1]);
            release(s, 1, sums);
        } else {
            float even[2];
            bar_sync(BAR_EVEN, 256);
            for (int r = 0; r < 2; r++)
                even[r] = s->largest[0][row_of(r)];
            shrink(sums, run, even, args->scale);
            add_other(sums, other, entries[0] + 4 * CHUNK);
            /* The weights of the odd block while that runs; its sums wait for the new maximum. */
            struct running odd;
            for (int r = 0; r < 2; r++) {
                odd.largest[r] = fmaxf(largest[r], even[r]);
                odd.total[r] = 0;
            }
            weigh(weights, scores, &odd, args->scale);
            publish(own, weights);
            if (writes)
                for (int r = 0; r < 2; r++)
                    s->largest[1][row_of(r)] = odd.largest[r];
            bar_arrive(BAR_ODD, 256);
            release(s, 0, sums);
            shrink(sums, run, odd.largest, args->scale);
            for (int r = 0; r < 2; r++)
                run->total[r] += odd.total[r];
            add_own(sums, weights, entries[1] + 4 * CHUNK);
            release(s, 1, sums);
        }
    }
}

/* Write a consumer's half of the outputs: finished, or as one split's share. */
template <int self>
__device__ __forceinline__ void finish(struct shared_state *s, const struct fast_args *args,
                                       float (&sums)[128], struct running *run, int row, int tile,
                                       int split)
{
    bool writes = threadIdx.x % 4 == 0;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        run->total[r] += __shfl_xor_sync(~0U, run->total[r], 1);
        run->total[r] += __shfl_xor_sync(~0U, run->total[r], 2);
        if (writes)
            s->total[self][row_of(r)] = run->total[r];
    }
    bar_sync(BAR_QUERY, 256);
#pragma unroll
    for (int r = 0; r < 2; r++) {
        int head = tile * HEADS + row_of(r);
        float total = s->total[0][row_of(r)] + s->total[1][row_of(r)];
        if (head >= args->n_heads)
            continue;
        int column = self * 256 + threadIdx.x % 4 * 2;
        if (args->n_splits) {
            size_t at = ((size_t)row * args->n_splits + split) * args->n_heads + head;
            if (self == 0 && writes)
                args->partial[at] = {run->largest[r] * args->scale, total};
#pragma unroll
            for (int j = 0; j < 32; j++)
                *(float2 *)(args->partial_out + at * VALUES + column +
                            j * 8) = {sums[4 * j + 2 * r], sums[4 * j + 2 * r + 1]};
            continue;
        }
        float by = total == 0 ? 0 : 1 / total;
        size_t at = ((size_t)row * args->n_heads + head) * VALUES + column;
#pragma unroll
        for (int j = 0; j < 32; j++) {
            float2 x = {sums[4 * j + 2 * r] * by, sums[4 * j + 2 * r + 1] * by};
            if (args->out_dtype == AGON_F32)
                *(float2 *)((float *)args->out + at + j * 8) = x;
            else
                *(uint32_t *)((uint16_t *)args->out + at + j * 8) = pack_bf16(x.x, x.y);
        }
    }
}

template <int self>
__device__ __forceinline__ void consumer(struct shared_state *s, const struct fast_args *args,
                                         int row, int tile, int split, int n_pairs)
{
    float sums[128];
#pragma unroll
    for (int i = 0; i < 128; i++)
        sums[i] = 0;
    struct running run = {{-INFINITY, -INFINITY}, {0, 0}};
    load_query(s, args, row, tile);
    consume<self>(s, args, sums, &run, n_pairs);
    finish<self>(s, args, sums, &run, row, tile, split);
}

template <enum agon_latent_format format>
__global__ void __launch_bounds__(THREADS, 1) fast_kernel(const __grid_constant__ fast_args args)
{
    extern __shared__ __align__(1024) uint8_t shared[];
    struct shared_state *s = (struct shared_state *)shared;
    int row = blockIdx.x / args.n_tiles, tile = blockIdx.x % args.n_tiles, split = blockIdx.y;
    int n = args.list.count(row), begin = split * args.split;
    int end = args.split ? min(n, begin + args.split) : n;
    if (begin >= end && (split > 0 || args.n_splits))
        return; /* what combines knows it, too */
    int n_pairs = (end - begin + 2 * ENTRIES - 1) / (2 * ENTRIES);

    if (threadIdx.x == 0) {
        for (int i = 0; i < 2; i++) {
            mbar_init(&s->full[i], format == AGON_LATENT_BF16 ? 64 : 128);
            mbar_init(&s->empty[i], 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    /* 168 registers a thread are there at the start: 3 x 168 = 504. */
    constexpr int few = format == AGON_LATENT_BF16 ? 72 : 104, many = (504 - few) / 2;
    if (threadIdx.x >= 256) {
        registers_fewer<few>();
        if (format == AGON_LATENT_BF16)
            produce_bf16(s, &args, row, begin, end, n_pairs);
        else
            produce_fp8(s, &args, row, begin, end, n_pairs);
    } else if (threadIdx.x < 128) {
        registers_more<many>();
        consumer<0>(s, &args, row, tile, split, n_pairs);
    } else {
        registers_more<many>();
        consumer<1>(s, &args, row, tile, split, n_pairs);
    }
}

/* A block of 128 threads a row and head adds the splits' shares in their order. */
__global__ void combine_kernel(const __grid_constant__ fast_args args)
{
    int row = blockIdx.x, head = blockIdx.y;
    int n = min(agon_ceil_div(args.list.count(row), args.split), args.n_splits);
    float largest = -INFINITY, total = 0;
    float4 sum = {0, 0, 0, 0};
    size_t step = args.n_heads, at = (size_t)row * args.n_splits * step + head;
    for (int i = 0; i < n; i++)
        largest = fmaxf(largest, args.partial[at + i * step].x);
    for (int i = 0; i < n; i++) {
        float2 part = args.partial[at + i * step];
        float by = part.y == 0 ? 0 : power_of_2(part.x - largest);
        float4 x = *((const float4 *)(args.partial_out + (at + i * step) * VALUES) + threadIdx.x);
        total += part.y * by;
        sum = {fmaf(x.x, by, sum.x), fmaf(x.y, by, sum.y), fmaf(x.z, by, sum.z),
               fmaf(x.w, by, sum.w)};
    }
    float by = total == 0 ? 0 : 1 / total;
    size_t to = ((size_t)row * args.n_heads + head) * VALUES + 4 * threadIdx.x;
    if (args.out_dtype == AGON_F32) {
        *(float4 *)((float *)args.out + to) = {sum.x * by, sum.y * by, sum.z * by, sum.w * by};
    } else {
        uint2 x = {pack_bf16(sum.x * by, sum.y * by), pack_bf16(sum.z * by, sum.w * by)};
        *(uint2 *)((uint16_t *)args.out + to) = x;
    }
}

int n_splits_of(const struct agon_mla *mla)
{
    int n = mla->selected ? mla->ld_selected : mla->n_positions_max;
    return mla->split ? agon_ceil_div(n, mla->split) : 0;
}
} // namespace

bool agon_mla_fast_does(const struct agon_mla *mla)
{
    return mla->cache.kv_lora == VALUES && mla->cache.rope_dim == 64 &&
           mla->cache.format != AGON_LATENT_F32 && mla->scale > 0;
}

size_t agon_mla_fast_scratch(const struct agon_mla *mla)
{
    size_t n = (size_t)mla->rows.n_rows * n_splits_of(mla) * mla->n_heads;
    return n * (VALUES * sizeof(float) + sizeof(float2));
}

template <enum agon_latent_format format>
static int fast_launch(const struct fast_args *args, int n_rows, cudaStream_t stream,
                       struct agon_err *err)
{
    auto kernel = fast_kernel<format>;
    AGON_CUDA(err, "latent attention",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   sizeof(struct shared_state)));
    dim3 grid(n_rows * args->n_tiles, max(args->n_splits, 1));
    kernel<<<grid, THREADS, sizeof(struct shared_state), stream>>>(*args);
    if (args->n_splits)
        combine_kernel<<<dim3(n_rows, args->n_heads), 128, 0, stream>>>(*args);
    AGON_CUDA(err, "latent attention", cudaGetLastError());
    return 0;
}

int agon_mla_fast(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err)
{
    struct fast_args args = {};
    args.latents = (const uint8_t *)mla->cache.latents;
    args.list = mla_list_of(mla);
    args.q = mla->q;
    args.out = mla->out;
    args.q_dtype = mla->q_dtype;
    args.out_dtype = mla->out_dtype;
    args.n_heads = mla->n_heads;
    args.n_tiles = agon_ceil_div(mla->n_heads, HEADS);
    args.split = mla->split;
    args.n_splits = n_splits_of(mla);
    args.scale = mla->scale * 1.4426950408889634F;
    args.partial_out = (float *)mla->scratch;
    args.partial = (float2 *)(args.partial_out +
                              (size_t)mla->rows.n_rows * args.n_splits * mla->n_heads * VALUES);
    return mla->cache.format == AGON_LATENT_BF16
               ? fast_launch<AGON_LATENT_BF16>(&args, mla->rows.n_rows, stream, err)
               : fast_launch<AGON_LATENT_FP8>(&args, mla->rows.n_rows, stream, err);
}
