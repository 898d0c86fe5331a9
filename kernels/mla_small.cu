/*
 * Latent attention of small models (entries of 128 + 16 values in BF16) with mma.sync: cuda_mla.h.
 * What costs time is reading entries, 288 bytes each, mostly from the L2 cache.
 *
 * small_kernel: a block of 4 warps does 16 heads of one row. The row's list is cut into chunks of
 * 16 entries; warp w takes chunks w, w + 4, ... with sums and maximum of its own, and copies ahead
 * into shared memory of its own, so warps meet at the end alone, where their sums are added in
 * their order.
 */
#include "kernels/mla.cuh"
#include "kernels/mla_mma.cuh"

namespace
{
enum { WARPS = 4, CHUNK = 16, STAGES = 3, VALUES = 128, ROPE = 16, DIM = VALUES + ROPE };
enum { STEPS = DIM / 16, TILES = VALUES / 8 };
enum {
    STRIDE = DIM * 2 + 16
}; /* bytes; an odd multiple of 16: rows of a matrix meet no bank twice */

enum { SUM_STRIDE = VALUES + 8 }; /* floats; lanes that store a fragment meet no bank twice */

struct warp_state {
    uint8_t entries[STAGES][CHUNK * STRIDE]; /* at the end: sums, float [16][SUM_STRIDE] */
};
struct shared_state {
    struct warp_state warp[WARPS];
    float2 part[WARPS][16]; /* largest in log2, total */
};
static_assert(sizeof(struct warp_state) >= 16 * SUM_STRIDE * sizeof(float), "sums fit");

struct small_args {
    const uint8_t *latents;
    struct mla_list list;
    const void *q;
    void *out;
    enum agon_dtype q_dtype, out_dtype;
    int n_heads;
    float scale; /* with log2(e) */
};

/* Lane l: the slot of entry l % 16 of a chunk. */
__device__ __forceinline__ int chunk_slots(const struct small_args *args, int row, int chunk, int n)
{
    int i = chunk * CHUNK + threadIdx.x % 16;
    return i < n ? args->list.slot(row, i) : -1;
}

/* Copy a chunk's entries; a missing one becomes zeros. Returns which are there. */
__device__ __forceinline__ uint32_t fetch_chunk(uint32_t to, const uint8_t *latents, int slot)
{
    int lane = threadIdx.x % 32;
    uint32_t place = to + lane / 16 * STRIDE + lane % 16 * 16;
#pragma unroll
    for (int i = 0; i < CHUNK / 2; i++) { /* c: 16 lanes an entry */
        int from = __shfl_sync(~0U, slot, 2 * i + lane / 16);
        mma_copy16(place + 2 * i * STRIDE,
                   latents + ((size_t)max(from, 0) * (DIM / 8) + lane % 16) * 16, from >= 0);
    }
    int from = __shfl_sync(~0U, slot, lane / 2); /* k_pe: 2 lanes an entry */
    mma_copy16(to + lane / 2 * STRIDE + VALUES * 2 + lane % 2 * 16,
               latents + ((size_t)max(from, 0) * (DIM / 8) + VALUES / 8 + lane % 2) * 16,
               from >= 0);
    mma_copies_end();
    return __ballot_sync(~0U, slot >= 0) & 0xffff;
}

/* Add one part's total and sum, moved to the largest score of all parts. */
__device__ __forceinline__ void add_part(float *all, float *sum, float2 part, float part_sum,
                                         float most)
{
    float by = part.y == 0 ? 0 : exp2_fast(part.x - most);
    *all = fmaf(part.y, by, *all);
    *sum = fmaf(part_sum, by, *sum);
}

__global__ void __launch_bounds__(WARPS * 32, 3)
    small_kernel(const __grid_constant__ small_args args)
{
    extern __shared__ __align__(16) uint8_t shared[];
    struct shared_state *s = (struct shared_state *)shared;
    int row = blockIdx.x, first_head = blockIdx.y * 16;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32, group = lane / 4, pair = lane % 4 * 2;
    int n = args.list.count(row), n_chunks = (n + CHUNK - 1) / CHUNK;
    uint32_t entries = mma_address(s->warp[warp].entries);

    uint32_t there[STAGES];
    int slot = chunk_slots(&args, row, warp, n);
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        int now = slot;
        slot = chunk_slots(&args, row, warp + (i + 1) * WARPS, n);
        there[i] = fetch_chunk(entries + i * CHUNK * STRIDE, args.latents, now);
    }
    uint32_t q[STEPS][4];
    mma_query<STEPS>(q, args.q, args.q_dtype, ((size_t)row * args.n_heads + first_head) * DIM,
                     args.n_heads - first_head);

    float sums[TILES][4] = {}, largest[2] = {-INFINITY, -INFINITY}, total[2] = {};
    for (int base = warp; base < n_chunks; base += WARPS * STAGES) {
#pragma unroll
        for (int stage = 0; stage < STAGES; stage++) {
            int chunk = base + stage * WARPS;
            if (chunk >= n_chunks)
                break;
            int to = (stage + STAGES - 1) % STAGES, now = slot;
            slot = chunk_slots(&args, row, chunk + STAGES * WARPS, n);
            there[to] = fetch_chunk(entries + to * CHUNK * STRIDE, args.latents, now);
            mma_copies_wait<STAGES - 1>();
            __syncwarp();
            float scores[2][4];
            mma_scores<STEPS, 2, STRIDE>(scores, q, entries + stage * CHUNK * STRIDE);
            mma_softmax<2, TILES>(scores, sums, largest, total, there[stage], there[stage],
                                  args.scale);
            mma_add<TILES, 2, STRIDE>(sums, scores, entries + stage * CHUNK * STRIDE);
            __syncwarp(); /* read before the next copy into it */
        }
    }
    mma_copies_wait<0>();
    __syncwarp();
    mma_totals(total);
    float *mine = (float *)s->warp[warp].entries;
#pragma unroll
    for (int r = 0; r < 2; r++) {
        if (lane % 4 == 0)
            s->part[warp][group + 8 * r] = {largest[r], total[r]};
#pragma unroll
        for (int j = 0; j < TILES; j++)
            *(float2 *)(mine + (group + 8 * r) * SUM_STRIDE + j * 8 + pair) = {sums[j][2 * r],
                                                                               sums[j][2 * r + 1]};
    }
    __syncthreads();
    int n_heads = min(args.n_heads - first_head, 16);
    for (int i = threadIdx.x; i < n_heads * VALUES; i += WARPS * 32) {
        int head = i / VALUES;
        float most = -INFINITY, all = 0, sum = 0;
        for (int w = 0; w < WARPS; w++)
            most = fmaxf(most, s->part[w][head].x);
        for (int w = 0; w < WARPS; w++)
            add_part(&all, &sum, s->part[w][head],
                     ((float *)s->warp[w].entries)[head * SUM_STRIDE + i % VALUES], most);
        mla_write(args.out, args.out_dtype, ((size_t)row * args.n_heads + first_head) * VALUES + i,
                  all == 0 ? 0 : sum / all);
    }
}
} // namespace

bool agon_mla_small_does(const struct agon_mla *mla)
{
    return mla->cache.kv_lora == VALUES && mla->cache.rope_dim == ROPE &&
           mla->cache.format == AGON_LATENT_BF16 && mla->scale > 0;
}

int agon_mla_small(const struct agon_mla *mla, cudaStream_t stream, struct agon_err *err)
{
    struct small_args args = {};
    args.latents = (const uint8_t *)mla->cache.latents;
    args.list = mla_list_of(mla);
    args.q = mla->q;
    args.out = mla->out;
    args.q_dtype = mla->q_dtype;
    args.out_dtype = mla->out_dtype;
    args.n_heads = mla->n_heads;
    args.scale = mla->scale * 1.4426950408889634F;
    AGON_CUDA(err, "latent attention",
              cudaFuncSetAttribute(small_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   sizeof(struct shared_state)));
    dim3 grid(mla->rows.n_rows, agon_ceil_div(mla->n_heads, 16));
    small_kernel<<<grid, WARPS * 32, sizeof(struct shared_state), stream>>>(args);
    AGON_CUDA(err, "latent attention", cudaGetLastError());
    return 0;
}
