/*
 * Latent attention of small models (entries of 128 + 16 values in BF16) with mma.sync: cuda_mla.h.
 * What costs time is reading entries, 288 bytes each, mostly from the L2 cache.
 *
 * small_kernel: a block of 4 warps does 16 heads of one row. The row's list is cut into chunks of
 * 16 entries; warp w takes chunks w, w + 4, ... with sums and maximum of its own, and copies ahead
 * into shared memory of its own, so warps meet at the end alone, where their sums are added in
 * their order.
 *
 * prefix_kernel, before it, for rows in groups: a block of 4 warps does 64 queries (rows times
 * heads in the order of memory) over up to 4 pages of what the group shares: each page is read once
 * for 64 queries, and what a row has not selected gets weight 0. It leaves maximum, total and sums
 * for each query; small_kernel does the rest of the list and adds these first, in the order of
 * pages.
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
enum {
    PAGE_BYTES = AGON_CUDA_PAGE * STRIDE,
    PAGES = 4,
    QUERIES = 64,
    ROWS = QUERIES + 1,
    AT_ONCE = 16
};
struct prefix_state {
    uint8_t entries[2][PAGE_BYTES];
    uint32_t seen[ROWS][2 * PAGES]; /* bit p of a row: it sees position p of these pages */
};
static_assert(sizeof(struct warp_state) >= 16 * SUM_STRIDE * sizeof(float), "sums fit");

struct small_args {
    const uint8_t *latents;
    struct mla_list list;
    struct agon_mla_groups groups; /* n_groups 0: none */
    int n_splits;                  /* parts of the longest shared prefix */
    float *part_sums;              /* [row][head][n_splits][VALUES] */
    float2 *parts;                 /* [row][head][n_splits]: largest in log2, total */
    const void *q;
    void *out;
    enum agon_dtype q_dtype, out_dtype;
    int n_heads;
    float scale; /* with log2(e) */
};

/* Positions of whole pages that a row's group shares. */
__device__ __forceinline__ int shared_of(const struct agon_mla_groups *groups, int row)
{
    for (int g = 0; g < groups->n_groups; g++)
        if (row < groups->begin[g + 1])
            return row < groups->begin[g] || groups->sequence[g] < 0
                       ? 0
                       : groups->n_shared[g] / AGON_CUDA_PAGE * AGON_CUDA_PAGE;
    return 0;
}

/* How many entries of a row's list are positions below n_shared. */
__device__ __forceinline__ int n_below(const struct mla_list *list, int row, int n, int n_shared)
{
    if (!list->selected)
        return min(n, n_shared);
    int below = 0;
    for (int i = threadIdx.x; i - (int)threadIdx.x < n; i += WARPS * 32)
        below += __syncthreads_count(i < n && list->selected[(size_t)row * list->ld_selected + i] <
                                                  n_shared);
    return below;
}

/* Lane l: the slot of entry l % 16 of a chunk. */
__device__ __forceinline__ int chunk_slots(const struct small_args *args, int row, int begin,
                                           int chunk, int n)
{
    int i = begin + chunk * CHUNK + threadIdx.x % 16;
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
    int n = args.list.count(row), n_shared = n ? shared_of(&args.groups, row) : 0;
    int begin = n_shared ? n_below(&args.list, row, n, n_shared) : 0;
    int n_chunks = (n - begin + CHUNK - 1) / CHUNK,
        n_parts = agon_ceil_div(n_shared, PAGES * AGON_CUDA_PAGE);
    uint32_t entries = mma_address(s->warp[warp].entries);

    uint32_t there[STAGES];
    int slot = chunk_slots(&args, row, begin, warp, n);
#pragma unroll
    for (int i = 0; i < STAGES - 1; i++) {
        int now = slot;
        slot = chunk_slots(&args, row, begin, warp + (i + 1) * WARPS, n);
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
            slot = chunk_slots(&args, row, begin, chunk + STAGES * WARPS, n);
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
        size_t query = (size_t)row * args.n_heads + first_head + head;
        const float2 *parts = args.parts + query * args.n_splits;
        const float *part_sums = args.part_sums + query * args.n_splits * VALUES + i % VALUES;
        float most = -INFINITY, all = 0, sum = 0;
        for (int p = 0; p < n_parts; p++)
            most = fmaxf(most, parts[p].x);
        for (int w = 0; w < WARPS; w++)
            most = fmaxf(most, s->part[w][head].x);
        for (int p = 0; p < n_parts; p++)
            add_part(&all, &sum, parts[p], part_sums[p * VALUES], most);
        for (int w = 0; w < WARPS; w++)
            add_part(&all, &sum, s->part[w][head],
                     ((float *)s->warp[w].entries)[head * SUM_STRIDE + i % VALUES], most);
        mla_write(args.out, args.out_dtype, ((size_t)row * args.n_heads + first_head) * VALUES + i,
                  all == 0 ? 0 : sum / all);
    }
}

/* ---- what a group shares -------------------------------------------------------------- */

/* Copy a page's entries, which follow each other in memory. */
__device__ __forceinline__ void fetch_page(uint32_t to, const struct small_args *args, int sequence,
                                           int page)
{
    int number = args->list.pages[(size_t)sequence * args->list.ld_pages + page];
    const uint8_t *from = args->latents + (size_t)max(number, 0) * (AGON_CUDA_PAGE * DIM * 2);
#pragma unroll
    for (int i = 0; i < AGON_CUDA_PAGE * (DIM / 8) / (WARPS * 32); i++) {
        int unit = threadIdx.x + i * WARPS * 32;
        mma_copy16(to + unit / (DIM / 8) * STRIDE + unit % (DIM / 8) * 16, from + unit * 16,
                   number >= 0);
    }
    mma_copies_end();
}

/* Which of the positions begin .. end - 1 each of n rows sees; a warp a row. */
__device__ void find_seen(struct prefix_state *s, const struct mla_list *list, int first, int n,
                          int begin, int end)
{
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int i = threadIdx.x; i < n * 2 * PAGES; i += WARPS * 32)
        s->seen[i / (2 * PAGES)][i % (2 * PAGES)] = 0;
    __syncthreads();
    for (int r = warp; r < n; r += WARPS) {
        int row = first + r, count = list->count(row);
        if (list->selected) {
            const int32_t *list_row = list->selected + (size_t)row * list->ld_selected;
            for (int i = lane; i < count; i += 32 * AT_ONCE) {
                int p[AT_ONCE]; /* all under way before the first is used */
#pragma unroll
                for (int j = 0; j < AT_ONCE; j++)
                    p[j] = i + j * 32 < count ? list_row[i + j * 32] : -1;
#pragma unroll
                for (int j = 0; j < AT_ONCE; j++)
                    if (p[j] >= begin && p[j] < end)
                        atomicOr(&s->seen[r][(p[j] - begin) / 32], 1U << (p[j] - begin) % 32);
            }
        } else if (lane < 2 * PAGES) {
            int left = min(count, end) - begin - lane * 32;
            s->seen[r][lane] = left >= 32 ? ~0U : left > 0 ? (1U << left) - 1 : 0;
        }
    }
    __syncthreads();
}

__global__ void __launch_bounds__(WARPS * 32, 3)
    prefix_kernel(const __grid_constant__ small_args args)
{
    __shared__ __align__(16) struct prefix_state s;
    int tile = blockIdx.x, split = blockIdx.y, g = 0, n_heads = args.n_heads, queries = 0;
    int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (; g < args.groups.n_groups; g++) {
        queries = (args.groups.begin[g + 1] - args.groups.begin[g]) * n_heads;
        int tiles = agon_ceil_div(queries, QUERIES);
        if (tile < tiles)
            break;
        tile -= tiles;
    }
    if (g == args.groups.n_groups)
        return;
    int n_pages = args.groups.n_shared[g] / AGON_CUDA_PAGE, page = split * PAGES;
    int last_page = min(n_pages, page + PAGES), sequence = args.groups.sequence[g];
    if (page >= last_page || sequence < 0)
        return;
    int base = args.groups.begin[g] * n_heads, end = base + queries;
    int first = base + tile * QUERIES, first_row = first / n_heads;
    int last_row = (min(first + QUERIES, end) - 1) / n_heads;

    uint32_t entries = mma_address(s.entries);
    fetch_page(entries, &args, sequence, page);
    find_seen(&s, &args.list, first_row, last_row - first_row + 1, page * AGON_CUDA_PAGE,
              last_page * AGON_CUDA_PAGE);
    int query = first + warp * 16;
    uint32_t q[STEPS][4];
    mma_query<STEPS>(q, args.q, args.q_dtype, (size_t)query * DIM, end - query);
    int mine[2]; /* rows of the lane's two queries, as find_seen() counts */
    for (int r = 0; r < 2; r++)
        mine[r] = min(query + lane / 4 + 8 * r, end - 1) / n_heads - first_row;

    float sums[TILES][4] = {}, largest[2] = {-INFINITY, -INFINITY}, total[2] = {};
    for (int i = 0; page + i < last_page; i++) {
        if (page + i + 1 < last_page) {
            fetch_page(entries + (i + 1) % 2 * PAGE_BYTES, &args, sequence, page + i + 1);
            mma_copies_wait<1>();
        } else {
            mma_copies_wait<0>();
        }
        __syncthreads();
        uint64_t there[2];
        for (int r = 0; r < 2; r++)
            there[r] = s.seen[mine[r]][2 * i] | (uint64_t)s.seen[mine[r]][2 * i + 1] << 32;
        float scores[8][4];
        uint32_t from = entries + i % 2 * PAGE_BYTES;
        mma_scores<STEPS, 8, STRIDE>(scores, q, from);
        mma_softmax<8, TILES>(scores, sums, largest, total, there[0], there[1], args.scale);
        mma_add<TILES, 8, STRIDE>(sums, scores, from);
        __syncthreads();
    }
    mma_totals(total);
    for (int r = 0; r < 2; r++) {
        int at = query + lane / 4 + 8 * r;
        if (at >= end)
            continue;
        size_t to = (size_t)at * args.n_splits + split;
        if (lane % 4 == 0)
            args.parts[to] = {largest[r], total[r]};
#pragma unroll
        for (int j = 0; j < TILES; j++)
            *(float2 *)(args.part_sums + to * VALUES + j * 8 + lane % 4 * 2) = {sums[j][2 * r],
                                                                                sums[j][2 * r + 1]};
    }
}

int n_splits_of(const struct agon_mla *mla)
{
    return mla->groups && mla->groups->n_groups
               ? agon_ceil_div(mla->groups->n_shared_max, PAGES * AGON_CUDA_PAGE)
               : 0;
}
} // namespace

bool agon_mla_small_does(const struct agon_mla *mla)
{
    return mla->cache.kv_lora == VALUES && mla->cache.rope_dim == ROPE &&
           mla->cache.format == AGON_LATENT_BF16 && mla->scale > 0;
}

size_t agon_mla_small_scratch(const struct agon_mla *mla)
{
    return (size_t)mla->rows.n_rows * mla->n_heads * n_splits_of(mla) *
           (VALUES * sizeof(float) + sizeof(float2));
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
    args.n_splits = n_splits_of(mla);
    if (args.n_splits) {
        int n_queries = mla->rows.n_rows * mla->n_heads;
        args.groups = *mla->groups;
        args.part_sums = (float *)mla->scratch;
        args.parts = (float2 *)(args.part_sums + (size_t)n_queries * args.n_splits * VALUES);
        dim3 grid(agon_ceil_div(n_queries, QUERIES) + args.groups.n_groups, args.n_splits);
        prefix_kernel<<<grid, WARPS * 32, 0, stream>>>(args);
    }
    AGON_CUDA(err, "latent attention",
              cudaFuncSetAttribute(small_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   sizeof(struct shared_state)));
    dim3 grid(mla->rows.n_rows, agon_ceil_div(mla->n_heads, 16));
    small_kernel<<<grid, WARPS * 32, sizeof(struct shared_state), stream>>>(args);
    AGON_CUDA(err, "latent attention", cudaGetLastError());
    return 0;
}
