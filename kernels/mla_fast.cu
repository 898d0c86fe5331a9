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
 * The running maximum passes from block to block, and so from consumer to consumer.
 */
#include "kernels/mla_fast_read.cuh"

namespace
{
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
                x = {bf16_pack(a.x, a.y), bf16_pack(a.z, a.w), bf16_pack(b.x, b.y),
                     bf16_pack(b.z, b.w)};
            }
        }
        store16(to + unit / 8 * CHUNK + head * 128 + ((unit % 8) ^ (head % 8)) * 16, x);
    }
    shared_written();
    barrier_some(BAR_QUERY, 256);
}

/* scores = queries x entries of a buffer, both over 576 values; under way on return. */
__device__ __forceinline__ void score(float (&scores)[32], uint32_t query, uint32_t entries)
{
    wgmma_fence();
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
#pragma unroll
        for (int k = 0; k < 4; k++)
            wgmma<64>::bf16(scores, wgmma_descriptor(query + chunk * CHUNK + k * 32),
                            wgmma_descriptor(entries + chunk * CHUNK + k * 32), chunk + k > 0);
    wgmma_commit();
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

/* Move to a new maximum; by: what sums shrink by. */
__device__ __forceinline__ void run_to(struct running *run, float (&by)[2], float largest_low,
                                       float largest_high, float scale)
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        float largest = r ? largest_high : largest_low;
        float base = largest == -INFINITY ? 0 : largest;
        by[r] = exp2_fast((run->largest[r] - base) * scale);
        run->largest[r] = largest;
        run->total[r] *= by[r];
    }
}
__device__ __forceinline__ void shrink(float (&sums)[128], const float (&by)[2])
{
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
        w[i] = exp2_fast(fmaf(scores[i], scale, -base[i / 2 % 2]));
        run->total[i / 2 % 2] += w[i];
    }
#pragma unroll
    for (int i = 0; i < 16; i++)
        weights[i] = bf16_pack(w[2 * i], w[2 * i + 1]);
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
    shared_written();
}

/* sums += weights in registers x 256 dimensions of the entries. */
__device__ __forceinline__ void add_own(float (&sums)[128], const uint32_t (&weights)[16],
                                        uint32_t entries)
{
    wgmma_pin(sums);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_256(sums, weights + 4 * k, wgmma_columns(entries + k * 2048, CHUNK));
    wgmma_commit();
}
/* The same with the other consumer's weights. */
__device__ __forceinline__ void add_other(float (&sums)[128], uint32_t weights, uint32_t entries)
{
    wgmma_pin(sums);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < 4; k++)
        wgmma_256(sums, wgmma_descriptor(weights + k * 32),
                  wgmma_columns(entries + k * 2048, CHUNK));
    wgmma_commit();
}

/* This warp is done with a buffer, once at most `pending` matrix products are under way. */
template <int pending>
__device__ __forceinline__ void release(struct shared_state *s, int buffer, float (&sums)[128])
{
    wgmma_wait<pending>();
    wgmma_pin(sums);
    if (threadIdx.x % 32 == 0)
        barrier_arrive(shared_address(&s->empty[buffer]));
}

/* The thread's two rows of heads. */
__device__ __forceinline__ int row_of(int r)
{
    int thread = threadIdx.x % 128;
    return thread / 32 * 16 + thread % 32 / 4 + r * 8;
}

/* Begin to score the block of a pair that is in this consumer's own buffer. */
template <int self>
__device__ __forceinline__ void score_own(struct shared_state *s, float (&scores)[32], int pair)
{
    barrier_wait(shared_address(&s->full[self]), pair % 2);
    shared_written(); /* copies that arrived by themselves (BF16) had none */
    score(scores, shared_address(s->query), shared_address(s->entries[self]));
}

/* All products under way are done; the scores are there. */
__device__ __forceinline__ void scored(float (&scores)[32])
{
    wgmma_wait<0>();
    wgmma_pin(scores);
}

/* Weights of the block in this consumer's own buffer, for both; by: what sums must shrink by. */
template <int self>
__device__ __forceinline__ void weigh_own(struct shared_state *s, const struct fast_args *args,
                                          uint32_t (&weights)[16], float (&by)[2],
                                          float (&scores)[32], struct running *run)
{
    float largest[2];
    block_largest(scores, largest, s->there[self]);
    run_to(run, by, fmaxf(run->largest[0], largest[0]), fmaxf(run->largest[1], largest[1]),
           args->scale);
    weigh(weights, scores, run, args->scale);
    barrier_some(BAR_CONSUMER + self, 128); /* no warp reads k_pe any more */
    publish(shared_address(s->entries[self]) + 8 * CHUNK, weights);
    if (threadIdx.x % 4 == 0)
        for (int r = 0; r < 2; r++)
            s->largest[self][row_of(r)] = run->largest[r];
    bar_arrive(BAR_EVEN + self, 256);
}

template <int self>
__device__ __forceinline__ void sum_own(struct shared_state *s, float (&sums)[128],
                                        const uint32_t (&weights)[16], const float (&by)[2])
{
    shrink(sums, by);
    add_own(sums, weights, shared_address(s->entries[self]) + self * 4 * CHUNK);
    release<0>(s, self, sums);
}

/* Begin to sum the block in the other one's buffer. */
template <int self>
__device__ __forceinline__ void sum_other(struct shared_state *s, const struct fast_args *args,
                                          float (&sums)[128], struct running *run)
{
    const int other = 1 - self;
    uint32_t entries = shared_address(s->entries[other]);
    float by[2];
    barrier_some(BAR_EVEN + other, 256);
    run_to(run, by, s->largest[other][row_of(0)], s->largest[other][row_of(1)], args->scale);
    shrink(sums, by);
    add_other(sums, entries + 8 * CHUNK, entries + self * 4 * CHUNK);
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
    barrier_some(BAR_QUERY, 256);
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
                *(uint32_t *)((uint16_t *)args->out + at + j * 8) = bf16_pack(x.x, x.y);
        }
    }
}

/* early: consumer 1 scores its block while consumer 0 weighs the one before, not after that is
 * summed: better where filling a buffer is quick. */
template <int self, bool early>
__device__ __forceinline__ void consumer(struct shared_state *s, const struct fast_args *args,
                                         int row, int tile, int split, int n_pairs)
{
    float sums[128];
#pragma unroll
    for (int i = 0; i < 128; i++)
        sums[i] = 0;
    struct running run = {{-INFINITY, -INFINITY}, {0, 0}};
    load_query(s, args, row, tile);
    float scores[32], by[2];
    uint32_t weights[16];
    for (int pair = 0; pair < n_pairs; pair++) {
        if (self == 0) {
            score_own<self>(s, scores, pair);
            scored(scores);
            weigh_own<self>(s, args, weights, by, scores, &run);
            sum_own<self>(s, sums, weights, by);
            sum_other<self>(s, args, sums, &run);
            release<0>(s, 1 - self, sums);
        } else if (early) {
            score_own<self>(s, scores, pair);
            scored(scores);
            sum_other<self>(s, args, sums, &run);
            weigh_own<self>(s, args, weights, by, scores, &run);
            release<0>(s, 1 - self, sums);
            sum_own<self>(s, sums, weights, by);
        } else {
            sum_other<self>(s, args, sums, &run);
            release<0>(s, 1 - self, sums);
            score_own<self>(s, scores, pair);
            scored(scores);
            weigh_own<self>(s, args, weights, by, scores, &run);
            sum_own<self>(s, sums, weights, by);
        }
    }
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
            barrier_init(shared_address(&s->full[i]), format == AGON_LATENT_BF16 ? 132 : 128);
            barrier_init(shared_address(&s->empty[i]), 8);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    /* 168 registers a thread are there at the start: 3 x 168 = 504. */
    constexpr int few = format == AGON_LATENT_BF16 ? 72 : 104, many = (504 - few) / 2;
    constexpr bool early = format == AGON_LATENT_FP8;
    if (threadIdx.x >= 256) {
        registers_fewer<few>();
        if (format == AGON_LATENT_BF16)
            produce_bf16(s, &args, row, begin, end, n_pairs);
        else
            produce_fp8(s, &args, row, begin, end, n_pairs);
    } else if (threadIdx.x < 128) {
        registers_more<many>();
        consumer<0, early>(s, &args, row, tile, split, n_pairs);
    } else {
        registers_more<many>();
        consumer<1, early>(s, &args, row, tile, split, n_pairs);
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
        float by = part.y == 0 ? 0 : exp2_fast(part.x - largest);
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
        uint2 x = {bf16_pack(sum.x * by, sum.y * by), bf16_pack(sum.z * by, sum.w * by)};
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
