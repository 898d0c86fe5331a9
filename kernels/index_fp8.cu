/*
 * The indexer's scores of FP8 keys by the tensor cores, over a plan (index_plan.cuh).
 *
 * A persistent block on each multiprocessor, warp-specialised. One warp copies: a segment's queries
 * (up to 8 rows: 64 KiB for 64 heads) and weights once, then its key pages, four to a stage,
 * through a ring of stages. Each of four warpgroups takes one page of a stage: its 64 keys are the
 * rows of a product whose 128 columns are the heads of 2 rows (64 heads) or 4 (32 heads), k = 128
 * in four instructions; 64 columns where no more rows are left, as in a segment of one. So a thread
 * holds, of 2 keys, a quarter of the heads: it sums weight * relu there in ascending order, and
 * four lanes add up theirs, always as (own + neighbour) + (other pair's). While one warpgroup does
 * that, the others keep the tensor cores busy.
 *
 * One score's sums depend on neither its tile nor its page, so results do not depend on the batch.
 * (The tensor cores add e4m3 products with fewer bits than float32: some 1e-4 of a score's terms.)
 *
 * Floor: 2 * 64 * 128 operations a score, at 1,979 TFLOP/s; the epilogue takes half a tensor core's
 * time beside it. Decode: 132 bytes a key and row from memory, or once for a tile of forks.
 */
#include "kernels/index_fp8.cuh"
#include "kernels/index_plan.cuh"
#include "kernels/wgmma.cuh"

enum {
    N_GROUPS = STAGE_PAGES, /* warpgroups that multiply */
    FAST_THREADS = (N_GROUPS + 1) * 128,
    N_STAGES = 4,
    COLUMNS = 128,                           /* of one product */
    LOOKUP = 32 / STAGE_PAGES * STAGE_PAGES, /* page numbers that a warp looks up at a time */
    PAGE_KEYS = AGON_CUDA_PAGE * FAST_DIM,
    PAGE_SCALES = AGON_CUDA_PAGE * (int)sizeof(float),
    STAGE_KEYS = STAGE_PAGES * PAGE_KEYS,
    STAGE_SCALES = STAGE_PAGES * PAGE_SCALES,
    BLOCK_Q = COLUMNS * FAST_DIM, /* bytes of a product's queries */
    MATH_REGISTERS = 104,
    COPY_REGISTERS = 56, /* a block has what its 640 threads begin with: 96 each */
};

/* Shared memory, from a multiple of 1,024. */
template <int HEADS> struct layout {
    enum {
        ROWS = COLUMNS / HEADS,      /* of one product */
        N_BLOCKS = TILE_ROWS / ROWS, /* products for a tile */
        Q = 0,
        KEYS = Q + N_BLOCKS * BLOCK_Q,
        SCALES = KEYS + N_STAGES * STAGE_KEYS,
        WEIGHTS = SCALES + N_STAGES * STAGE_SCALES,
        BARRIERS = WEIGHTS + TILE_ROWS * HEADS * (int)sizeof(float),
        FULL = BARRIERS,
        EMPTY = FULL + N_STAGES * 8,
        Q_FULL = EMPTY + N_STAGES * 8,
        Q_EMPTY = Q_FULL + 8,
        BYTES = Q_EMPTY + 8 + 1024, /* room to align */
    };
};

struct fast_work {
    float *scores;
    const char *pool;
    const float *weights;
    const struct index_plan *plan;
    size_t ld_scores, page_bytes;
    int k_skip;
};

/* One block's share of the plan: segments in order, of each the stages [begin, end). */
struct share {
    int64_t from, to;
    int segment, n_segments;
};

static __device__ struct share share_of_block(const struct index_plan *plan)
{
    struct share s;
    s.from = (int64_t)plan->cost * blockIdx.x / gridDim.x;
    s.to = (int64_t)plan->cost * (blockIdx.x + 1) / gridDim.x;
    s.n_segments = plan->n_segments;
    s.segment = 0;
    /* The last segment that begins at `from` or before: each round looks at 32 places. */
    for (int n = s.n_segments; n > 1;) {
        int step = agon_ceil_div(n, 32), at = (int)(threadIdx.x % 32) * step;
        bool before = at < n && plan->segments[s.segment + at].cost_begin <= s.from;
        int last = max(__popc(__ballot_sync(0xffffffff, before)) - 1, 0);
        s.segment += last * step;
        n = min(step, n - last * step);
    }
    return s;
}

/* The next segment with stages for this block; false at the end. */
static __device__ bool share_next(struct share *s, const struct index_plan *plan,
                                  struct index_segment *ret_segment, int *ret_begin, int *ret_end)
{
    while (s->segment < s->n_segments) {
        struct index_segment segment = plan->segments[s->segment++];
        if (segment.cost_begin >= s->to)
            return false;
        int64_t from = max(s->from - segment.cost_begin, (int64_t)0), cost = segment.stage_cost;
        int begin = (int)((from + cost - 1) / cost);
        int end = (int)min((s->to - segment.cost_begin + cost - 1) / cost,
                           (int64_t)index_stages(segment.page_begin, segment.page_end));
        if (begin < end) {
            *ret_segment = segment;
            *ret_begin = begin;
            *ret_end = end;
            return true;
        }
    }
    return false;
}

/* The copying warp. Lane 0 issues; all lanes look page numbers up. */
template <int HEADS>
static __device__ void copy_share(uint32_t shared, const CUtensorMap *q_map,
                                  const CUtensorMap *keys_map, const struct fast_work &work,
                                  const struct agon_cuda_rows &rows)
{
    typedef layout<HEADS> at;
    struct share share = share_of_block(work.plan);
    struct index_segment segment;
    int begin, end, lane = (int)threadIdx.x % 32;
    uint32_t n_segments = 0, n_stages = 0;
    for (; share_next(&share, work.plan, &segment, &begin, &end); n_segments++) {
        int n_blocks = agon_ceil_div(segment.n_rows, at::ROWS);
        if (lane == 0) {
            uint32_t full = shared + at::Q_FULL,
                     weight_bytes = (uint32_t)(segment.n_rows * HEADS) * 4;
            barrier_wait(shared + at::Q_EMPTY, (n_segments & 1) ^ 1);
            barrier_expect(full, (uint32_t)(n_blocks * BLOCK_Q) + weight_bytes);
            for (int b = 0; b < n_blocks; b++)
                copy_box_2d(shared + at::Q + (uint32_t)(b * BLOCK_Q), q_map, 0,
                            (segment.row + b * at::ROWS) * HEADS, full);
            copy_bytes(shared + at::WEIGHTS, work.weights + (size_t)segment.row * HEADS,
                       weight_bytes, full);
        }
        __syncwarp();
        /* A segment of one row, or rows that see the same pages; the longest has the most of them.
         */
        int sequence = -1, n_longest = -1;
        for (int r = 0; r < segment.n_rows; r++) {
            int s = rows.row_sequence[segment.row + r], n = rows.row_position[segment.row + r];
            if (s >= 0 && n > n_longest) {
                sequence = s;
                n_longest = n;
            }
        }
        for (int first = begin * STAGE_PAGES; first < end * STAGE_PAGES; first += LOOKUP) {
            int n_pages = min(segment.page_end - segment.page_begin, end * STAGE_PAGES);
            int page = 0;
            if (lane < LOOKUP && first + lane < n_pages)
                page = index_page(rows, sequence,
                                  (segment.page_begin + first + lane) * AGON_CUDA_PAGE);
            for (int j = 0; j < LOOKUP && first + j < n_pages; j += STAGE_PAGES, n_stages++) {
                uint32_t stage = n_stages % N_STAGES, full = shared + at::FULL + stage * 8;
                int n_here = min(STAGE_PAGES, n_pages - first - j);
                if (lane == 0) {
                    barrier_wait(shared + at::EMPTY + stage * 8, (n_stages / N_STAGES & 1) ^ 1);
                    barrier_expect(full, (uint32_t)(n_here * (PAGE_KEYS + PAGE_SCALES)));
                }
                for (int i = 0; i < n_here; i++) {
                    int p = __shfl_sync(0xffffffff, page, j + i);
                    if (lane > 0)
                        continue;
                    copy_box_3d(shared + at::KEYS + stage * STAGE_KEYS + (uint32_t)(i * PAGE_KEYS),
                                keys_map, 0, 0, p, full);
                    copy_bytes(
                        shared + at::SCALES + stage * STAGE_SCALES + (uint32_t)(i * PAGE_SCALES),
                        work.pool + (size_t)p * work.page_bytes + PAGE_KEYS, PAGE_SCALES, full);
                }
            }
        }
    }
}

/* sum[row][b]: this thread's part of the score of `row` and its key b, over its heads in ascending
 * order. weights: the product's, in shared memory, from this lane's first column. */
template <int HEADS, int N>
static __device__ void sum_heads(float (&sum)[N / HEADS][2], const float (&d)[N / 2],
                                 const float *weights)
{
#pragma unroll
    for (int row = 0; row < N / HEADS; row++)
        sum[row][0] = sum[row][1] = 0;
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        float2 w = *(const float2 *)(weights + j * 8);
        float(&to)[2] = sum[j * 8 / HEADS];
        to[0] += w.x * relu(d[4 * j]);
        to[1] += w.x * relu(d[4 * j + 2]);
        to[0] += w.y * relu(d[4 * j + 1]);
        to[1] += w.y * relu(d[4 * j + 3]);
    }
}

static __device__ float add_across(float keep, float give, int lanes)
{
    return keep + __shfl_xor_sync(0xffffffff, give, lanes);
}

/* Add up the parts of four lanes. Lane t of them is left with: of one row, key t % 2; of two, row
 * t / 2 and key t % 2; of four, row t and both keys. */
static __device__ void sum_lanes(float (&out)[1], const float (&sum)[1][2], int t)
{
    bool b = t & 1;
    float first = add_across(b ? sum[0][1] : sum[0][0], b ? sum[0][0] : sum[0][1], 1);
    out[0] = add_across(first, first, 2);
}
static __device__ void sum_lanes(float (&out)[1], const float (&sum)[2][2], int t)
{
    bool b = t & 1, row = t & 2;
    float first = add_across(b ? sum[0][1] : sum[0][0], b ? sum[0][0] : sum[0][1], 1);
    float second = add_across(b ? sum[1][1] : sum[1][0], b ? sum[1][0] : sum[1][1], 1);
    out[0] = add_across(row ? second : first, row ? first : second, 2);
}
static __device__ void sum_lanes(float (&out)[2], const float (&sum)[4][2], int t)
{
    bool odd = t & 1, high = t & 2;
#pragma unroll
    for (int b = 0; b < 2; b++) {
        float low = add_across(odd ? sum[1][b] : sum[0][b], odd ? sum[0][b] : sum[1][b], 1);
        float up = add_across(odd ? sum[3][b] : sum[2][b], odd ? sum[2][b] : sum[3][b], 1);
        out[b] = add_across(high ? up : low, high ? low : up, 2);
    }
}

static __device__ int uniform(int x)
{
    return __shfl_sync(0xffffffff, x, 0);
}

/* A page's keys and what is asked of them: where its product's operands are. */
struct page_work {
    uint32_t keys, q;     /* in shared memory */
    const float *weights; /* of the product's columns */
    const float *scales;  /* of the page's keys */
    uint32_t empty;       /* told when the keys have been read; 0: they are still wanted */
    int row, position;    /* of the segment's rows, the product's first; of the page's first key */
    int n_seen;           /* lane r: positions that row r of the segment sees */
    float *scores;        /* of the segment's first row */
    size_t ld_scores;
};

/* The scores of a page for N / HEADS rows, by one warpgroup. */
template <int HEADS, int N> static __device__ __forceinline__ void score_page(struct page_work p)
{
    enum { ROWS = N / HEADS, N_OUT = ROWS == 4 ? 2 : 1 }; /* scores that a lane stores */
    int lane = (int)threadIdx.x % 32, t = lane % 4;
    int my_row = ROWS == 4 ? t : ROWS == 2 ? t / 2 : 0;
    int my_key = (int)threadIdx.x % 128 / 32 * 16 + lane / 4 + (N_OUT == 1 ? t % 2 * 8 : 0);
    float scale[N_OUT], d[N / 2], sum[ROWS][2], out[N_OUT];
#pragma unroll
    for (int b = 0; b < N_OUT; b++) /* and the key 8 below, if two */
        scale[b] = p.scales[my_key + b * 8];
    uint64_t keys = wgmma_descriptor(p.keys), q = wgmma_descriptor(p.q);
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < FAST_DIM / 32; k++)
        wgmma<N>::e4m3(d, keys + (uint64_t)(k * 2), q + (uint64_t)(k * 2), k > 0);
    wgmma_commit();
    wgmma_wait<0>();
    if (p.empty && lane == 0)
        barrier_arrive(p.empty); /* the keys are read, their scales in registers */
    sum_heads<HEADS, N>(sum, d, p.weights + t * 2);
    sum_lanes(out, sum, t);
    int row = p.row + my_row, n = __shfl_sync(0xffffffff, p.n_seen, row);
    float *to = p.scores + (size_t)row * p.ld_scores + p.position + my_key;
#pragma unroll
    for (int b = 0; b < N_OUT; b++)
        if (p.position + my_key + b * 8 < n && (ROWS > 1 || t < 2))
            to[b * 8] = out[b] * scale[b];
}

/* One of the multiplying warpgroups. */
template <int HEADS>
static __device__ void multiply_share(uint32_t shared, const char *shared_bytes,
                                      const struct fast_work &work,
                                      const struct agon_cuda_rows &rows)
{
    typedef layout<HEADS> at;
    enum { ROWS = at::ROWS };
    /* One value for all lanes, and the compiler is to know it: it serialises products in what it
     * takes for divergent code. */
    int group = uniform((int)threadIdx.x / 128), lane = (int)threadIdx.x % 32;
    struct share share = share_of_block(work.plan);
    struct index_segment segment;
    int begin, end;
    uint32_t n_segments = 0, n_stages = 0;
    for (; share_next(&share, work.plan, &segment, &begin, &end); n_segments++) {
        int n_rows = uniform(segment.n_rows);
        int page_end = uniform(segment.page_end);
        begin = uniform(begin);
        end = uniform(end);
        /* Lane r knows how many positions row r sees: 0 where nothing is to be stored. */
        int n_seen = 0;
        if (lane < segment.n_rows && rows.row_sequence[segment.row + lane] >= 0)
            n_seen = rows.row_position[segment.row + lane] + 1;
        n_seen = n_seen > work.k_skip ? n_seen : 0;
        barrier_wait(shared + at::Q_FULL, n_segments & 1);
        for (int s = begin; s < end; s++, n_stages++) {
            uint32_t stage = n_stages % N_STAGES, empty = shared + at::EMPTY + stage * 8;
            int page = segment.page_begin + s * STAGE_PAGES + group;
            barrier_wait(shared + at::FULL + stage * 8, n_stages / N_STAGES & 1);
            if (page >= page_end) {
                if (lane == 0)
                    barrier_arrive(empty);
                continue;
            }
            struct page_work p = {};
            p.keys = shared + at::KEYS + stage * STAGE_KEYS + (uint32_t)(group * PAGE_KEYS);
            p.scales = (const float *)(shared_bytes + at::SCALES + stage * STAGE_SCALES +
                                       (uint32_t)(group * PAGE_SCALES));
            p.position = page * AGON_CUDA_PAGE;
            p.n_seen = n_seen;
            p.scores = work.scores + (size_t)segment.row * work.ld_scores;
            p.ld_scores = work.ld_scores;
#pragma unroll 1
            for (p.row = 0; p.row < n_rows; p.row += ROWS) {
                p.q = shared + at::Q + (uint32_t)(p.row / ROWS * BLOCK_Q);
                p.weights = (const float *)(shared_bytes + at::WEIGHTS) + p.row * HEADS;
                p.empty = p.row + ROWS >= n_rows ? empty : 0;
                if ((n_rows - p.row) * HEADS <= 64)
                    score_page<HEADS, 64>(p);
                else
                    score_page<HEADS, COLUMNS>(p);
            }
        }
        __syncwarp();
        if (lane == 0)
            barrier_arrive(shared + at::Q_EMPTY);
    }
}

template <int HEADS>
static __global__ __launch_bounds__(FAST_THREADS, 1) void fast_kernel(
    const __grid_constant__ CUtensorMap q_map, const __grid_constant__ CUtensorMap keys_map,
    const __grid_constant__ struct fast_work work,
    const __grid_constant__ struct agon_cuda_rows rows)
{
    typedef layout<HEADS> at;
    extern __shared__ char unaligned[];
    uint32_t shared = (shared_address(unaligned) + 1023) / 1024 * 1024;
    if (threadIdx.x == 0) {
        for (uint32_t s = 0; s < N_STAGES; s++) {
            barrier_init(shared + at::FULL + s * 8, 1);
            barrier_init(shared + at::EMPTY + s * 8, N_GROUPS * 4);
        }
        barrier_init(shared + at::Q_FULL, 1);
        barrier_init(shared + at::Q_EMPTY, N_GROUPS * 4);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    if (threadIdx.x >= N_GROUPS * 128) {
        registers_fewer<COPY_REGISTERS>();
        if (threadIdx.x < N_GROUPS * 128 + 32)
            copy_share<HEADS>(shared, &q_map, &keys_map, work, rows);
    } else {
        registers_more<MATH_REGISTERS>();
        multiply_share<HEADS>(shared, unaligned + (shared - shared_address(unaligned)), work, rows);
    }
}

/* Bytes [n_2][n_1][128], `stride` bytes from one [n_1][128] to the next, in boxes of `rows` x 128.
 */
static int map_rows(CUtensorMap *ret, const void *base, uint32_t rank, uint64_t n_1, uint64_t n_2,
                    uint64_t stride, uint32_t rows, struct agon_err *err)
{
    PFN_cuTensorMapEncodeTiled_v12000 encode = NULL;
    int r = tensor_map_encoder(&encode, err);
    if (r)
        return r;
    const cuuint64_t sizes[] = {FAST_DIM, n_1, n_2}, strides[] = {FAST_DIM, stride};
    const cuuint32_t box[] = {FAST_DIM, rows, 1}, steps[] = {1, 1, 1};
    CUresult e = encode(ret, CU_TENSOR_MAP_DATA_TYPE_UINT8, rank, (void *)base, sizes, strides, box,
                        steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                        CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (e != CUDA_SUCCESS)
        return agon_fail(err, AGON_EDEVICE, "tensor map: error %d of the driver", (int)e);
    return 0;
}

template <int HEADS>
static int fast_launch(const CUtensorMap *q_map, const CUtensorMap *keys_map,
                       const struct fast_work *work, const struct agon_cuda_rows *rows,
                       cudaStream_t stream, struct agon_err *err)
{
    int device, n_blocks;
    AGON_CUDA(err, "index scores", cudaGetDevice(&device));
    AGON_CUDA(err, "index scores",
              cudaDeviceGetAttribute(&n_blocks, cudaDevAttrMultiProcessorCount, device));
    AGON_CUDA(err, "index scores",
              cudaFuncSetAttribute(fast_kernel<HEADS>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   layout<HEADS>::BYTES));
    fast_kernel<HEADS>
        <<<n_blocks, FAST_THREADS, layout<HEADS>::BYTES, stream>>>(*q_map, *keys_map, *work, *rows);
    AGON_CUDA(err, "index scores launch", cudaGetLastError());
    return 0;
}

int index_scores_fp8(float *scores, size_t ld_scores, const struct agon_cuda_keys *keys,
                     const void *q, const float *weights, int n_heads, int k_skip,
                     const struct agon_cuda_rows *rows, cudaStream_t stream, struct agon_err *err)
{
    if ((uintptr_t)keys->pool % 16 || (uintptr_t)q % 16 || (uintptr_t)weights % 16)
        return agon_fail(err, AGON_EINPUT,
                         "index scores: keys, queries and weights must be "
                         "aligned to 16 bytes");
    CUtensorMap q_map, keys_map;
    size_t page_bytes = agon_keys_page_bytes(AGON_KEYS_FP8, FAST_DIM);
    int r = map_rows(&q_map, q, 2, (uint64_t)rows->n_rows * (uint64_t)n_heads, 1, 0, COLUMNS, err);
    if (!r)
        r = map_rows(&keys_map, keys->pool, 3, AGON_CUDA_PAGE, (uint64_t)keys->n_pages, page_bytes,
                     AGON_CUDA_PAGE, err);
    if (r)
        return r;
    struct fast_work work = {scores,    (const char *)keys->pool,
                             weights,   (const struct index_plan *)rows->plan,
                             ld_scores, page_bytes,
                             k_skip};
    if (n_heads == 64)
        return fast_launch<64>(&q_map, &keys_map, &work, rows, stream, err);
    return fast_launch<32>(&q_map, &keys_map, &work, rows, stream, err);
}
