/*
 * Attention for small models: see cuda_attend.h.
 *
 * A block takes a group of rows: N_TILES tiles of 16 query heads (8 rows of 6 heads fill 3). It has
 * 4 warps for each tile, one a list of pages; the warps of one list share the page that is being
 * read: 64 entries of 144 BF16, brought to shared memory by cp.async while the one before is
 * computed. A page that all rows of the group have is read once for all of them, any other once for
 * each row that has it. scores  S[16][64] = Q[16][144] K^T    mma.m16n8k16, 8 x 9 of them output
 * O[16][128] += P[16][64] V     16 x 4; V is the first 128 of the same entries Floor, 1,000 rows of
 * 6 heads over 1,000 shared positions: 288 KB of entries and 13 MFLOP a row's layer: tensor cores,
 * some 5 us a layer.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_attend.h"
#include "kernels/launch.cuh"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

enum {
    KV = 128,
    ROPE = 16,
    ENTRY = KV + ROPE,
    N_LISTS = 4,
    STRIDE = ENTRY + 8, /* elements: 304 bytes, so that eight rows lie in different banks */
    TILE_BYTES = AGON_CUDA_PAGE * STRIDE * 2,
    ROWS_MAX = 16,
    ITEMS_MAX = 2048,
};
#define MINUS_INFINITY __int_as_float(0xff800000)

/* A page to be read: its number, which positions it holds, and whose it is (-1: all rows'). */
struct item {
    int page;
    short index, row;
};

/* What a warp keeps of its 16 query heads: lane's rows are lane / 4 and lane / 4 + 8. */
struct state {
    float out[KV / 8][4];
    float most[2], sum[2]; /* sum: of this lane's columns */
};

/* The queries of a tile as fragments: element (head m, d) for m in the lane's rows. */
static __device__ void load_queries(uint32_t q[ENTRY / 16][4], const float *from, int first, int n)
{
    int lane = threadIdx.x % 32;
    for (int half = 0; half < 2; half++) {
        int m = first + lane / 4 + 8 * half;
        const float *row = from + (size_t)m * ENTRY + 2 * (lane % 4);
        for (int k = 0; k < ENTRY / 16; k++) {
            q[k][half] = m < n ? bf16_pack(row[16 * k], row[16 * k + 1]) : 0;
            q[k][half + 2] = m < n ? bf16_pack(row[16 * k + 8], row[16 * k + 9]) : 0;
        }
    }
}

/* A page to shared memory, by the `n_threads` threads of a list. */
static __device__ void fetch(uint32_t to, const void *latents, int page, int thread, int n_threads)
{
    const char *from = (const char *)latents + (size_t)page * AGON_CUDA_PAGE * ENTRY * 2;
    for (int i = thread; i < AGON_CUDA_PAGE * (ENTRY / 8); i += n_threads) {
        int row = i / (ENTRY / 8), at = i % (ENTRY / 8);
        asm volatile(
            "cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + row * STRIDE * 2 + at * 16),
            "l"(from + (row * (ENTRY / 8) + at) * 16)
            : "memory");
    }
    mma_copies_end();
}

/* Scores of the 64 entries at `tile`: s[n / 8] holds columns n .. n + 7. */
static __device__ __forceinline__ void score(float s[AGON_CUDA_PAGE / 8][4],
                                             const uint32_t q[ENTRY / 16][4], uint32_t tile)
{
    int lane = threadIdx.x % 32, matrix = lane / 8;
    uint32_t at = tile + (((matrix >> 1) * 8 + lane % 8) * STRIDE + (matrix & 1) * 8) * 2;
#pragma unroll
    for (int n = 0; n < AGON_CUDA_PAGE / 16; n++) {
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[2 * n][c] = s[2 * n + 1][c] = 0;
#pragma unroll
        for (int k = 0; k < ENTRY / 16; k++) {
            uint32_t b[4];
            mma_load(b, at + (n * 16 * STRIDE + k * 16) * 2);
            mma(s[2 * n], q[k], b[0], b[1]);
            mma(s[2 * n + 1], q[k], b[2], b[3]);
        }
    }
}

/* Scores to weights; what is not in `mask` (64 bits for each of the lane's rows) weighs nothing. */
static __device__ __forceinline__ void weigh(struct state &state, float s[AGON_CUDA_PAGE / 8][4],
                                             const uint64_t mask[2], float scale_log2)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float most = state.most[half];
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                bool seen = mask[half] >> (8 * n + 2 * (lane % 4) + c) & 1;
                float x = seen ? s[n][2 * half + c] * scale_log2 : MINUS_INFINITY;
                s[n][2 * half + c] = x;
                most = fmaxf(most, x);
            }
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 1));
        most = fmaxf(most, __shfl_xor_sync(0xffffffff, most, 2));
        float base = most == MINUS_INFINITY ? 0 : most;
        float factor = exp2f(state.most[half] - base); /* 0 before the first */
        float sum = state.sum[half] * factor;
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                float p = exp2f(s[n][2 * half + c] - base);
                s[n][2 * half + c] = p;
                sum += p;
            }
        state.most[half] = most;
        state.sum[half] = sum;
#pragma unroll
        for (int n = 0; n < KV / 8; n++) {
            state.out[n][2 * half] *= factor;
            state.out[n][2 * half + 1] *= factor;
        }
    }
}

static __device__ __forceinline__ void accumulate(struct state &state,
                                                  const float p[AGON_CUDA_PAGE / 8][4],
                                                  uint32_t tile)
{
    int lane = threadIdx.x % 32, matrix = lane / 8;
    uint32_t at = tile + (((matrix & 1) * 8 + lane % 8) * STRIDE + (matrix >> 1) * 8) * 2;
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++) {
        uint32_t a[4] = {bf16_pack(p[2 * k][0], p[2 * k][1]), bf16_pack(p[2 * k][2], p[2 * k][3]),
                         bf16_pack(p[2 * k + 1][0], p[2 * k + 1][1]),
                         bf16_pack(p[2 * k + 1][2], p[2 * k + 1][3])};
#pragma unroll
        for (int n = 0; n < KV / 16; n++) {
            uint32_t b[4];
            mma_load_transposed(b, at + (k * 16 * STRIDE + n * 16) * 2);
            mma(state.out[2 * n], a, b[0], b[1]);
            mma(state.out[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* ---- a group ------------------------------------------------------------------------ */

/* Shared by the block, behind the tiles. */
struct group {
    int n_rows, n_words; /* words of 64 bits in a row's mask */
    int n_pages[ROWS_MAX], n_items[N_LISTS];
    struct item items[N_LISTS][ITEMS_MAX / N_LISTS];
};

/* Which positions each row sees: mask [row][n_words]. */
static __device__ void group_masks(uint64_t *mask, const struct group *g,
                                   const struct agon_attend &p, int first)
{
    for (int i = threadIdx.x; i < g->n_rows * g->n_words; i += blockDim.x) {
        int row = first + i / g->n_words, word = i % g->n_words;
        int n = p.rows.sequence[row] < 0 ? 0 : p.rows.position[row] + 1 - 64 * word;
        uint64_t all = n <= 0 ? 0 : n >= 64 ? ~(uint64_t)0 : ((uint64_t)1 << n) - 1;
        mask[i] = p.mask ? all & p.mask[(size_t)row * p.ld_mask + word] : all;
    }
}

/* The pages of list `list`, by one thread. Rows that have ended their pages take no part. */
static __device__ void group_items(struct group *g, const struct agon_attend &p, int first,
                                   int list)
{
    int n_most = 0, n = 0;
    for (int r = 0; r < g->n_rows; r++)
        n_most = max(n_most, g->n_pages[r]);
    for (int index = list; index < n_most; index += N_LISTS) {
        int common = -1;
        bool shared = true;
        for (int r = 0; r < g->n_rows; r++) {
            if (index >= g->n_pages[r])
                continue;
            int page = p.rows.pages[(size_t)p.rows.sequence[first + r] * p.rows.ld_pages + index];
            shared = shared && (common < 0 || page == common);
            common = page;
        }
        if (shared) {
            g->items[list][n++] = {common, (short)index, -1};
            continue;
        }
        for (int r = 0; r < g->n_rows; r++)
            if (index < g->n_pages[r])
                g->items[list][n++] = {
                    p.rows.pages[(size_t)p.rows.sequence[first + r] * p.rows.ld_pages + index],
                    (short)index, (short)r};
    }
    g->n_items[list] = n;
}

static __device__ __forceinline__ void list_sync(int list, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(list + 1), "r"(n_threads) : "memory");
}

/* All pages of a list, for one tile. */
template <int N_TILES>
static __device__ void run_list(struct state &state, const struct group *g, const uint64_t *mask,
                                const uint32_t q[ENTRY / 16][4], uint32_t tiles,
                                const struct agon_attend &p, int tile, int list)
{
    enum { THREADS = 32 * N_TILES };
    int lane = threadIdx.x % 32, thread = tile * 32 + lane, n = g->n_items[list];
    int row[2];
    for (int half = 0; half < 2; half++)
        row[half] = (tile * 16 + lane / 4 + 8 * half) / p.n_heads;
    uint32_t at = tiles + list * 2 * TILE_BYTES;
    if (n > 0)
        fetch(at, p.cache.latents, g->items[list][0].page, thread, THREADS);
    for (int i = 0; i < n; i++) {
        struct item item = g->items[list][i];
        if (i + 1 < n)
            fetch(at + (i + 1) % 2 * TILE_BYTES, p.cache.latents, g->items[list][i + 1].page,
                  thread, THREADS);
        else
            mma_copies_end();
        mma_copies_wait<1>();
        list_sync(list, THREADS);
        bool mine = item.row < 0 ||
                    (item.row >= tile * 16 / p.n_heads && item.row <= (tile * 16 + 15) / p.n_heads);
        if (mine) {
            float s[AGON_CUDA_PAGE / 8][4];
            uint64_t seen[2];
            for (int half = 0; half < 2; half++)
                seen[half] = row[half] < g->n_rows && (item.row < 0 || item.row == row[half])
                                 ? mask[row[half] * g->n_words + item.index]
                                 : 0;
            score(s, q, at + i % 2 * TILE_BYTES);
            weigh(state, s, seen, p.scale * 1.44269504F);
            accumulate(state, s, at + i % 2 * TILE_BYTES);
        }
        list_sync(list, THREADS); /* the tile is written again */
    }
    mma_copies_wait<0>();
}

/* What the lists have found, one behind the other: partial [list][N_TILES * 16][KV + 2]. */
template <int N_TILES>
static __device__ void write_partial(float *partial, struct state &state, int tile, int list)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float sum = state.sum[half];
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        int m = tile * 16 + lane / 4 + 8 * half;
        float *to = partial + ((size_t)list * N_TILES * 16 + m) * (KV + 2);
        if (lane % 4 == 0) {
            to[KV] = state.most[half];
            to[KV + 1] = sum;
        }
#pragma unroll
        for (int n = 0; n < KV / 8; n++) {
            to[8 * n + 2 * (lane % 4)] = state.out[n][2 * half];
            to[8 * n + 2 * (lane % 4) + 1] = state.out[n][2 * half + 1];
        }
    }
}

static __device__ void merge(const float *partial, const struct agon_attend &p, int first, int n,
                             int ld_list)
{
    for (int i = threadIdx.x; i < n * KV; i += blockDim.x) {
        int m = i / KV, d = i % KV;
        float most = MINUS_INFINITY, sum = 0, out = 0;
        for (int l = 0; l < N_LISTS; l++)
            most = fmaxf(most, partial[(size_t)l * ld_list + (size_t)m * (KV + 2) + KV]);
        for (int l = 0; l < N_LISTS && most > MINUS_INFINITY; l++) {
            const float *from = partial + (size_t)l * ld_list + (size_t)m * (KV + 2);
            float factor = exp2f(from[KV] - most);
            sum = fmaf(factor, from[KV + 1], sum);
            out = fmaf(factor, from[d], out);
        }
        number_store(p.out, p.out_dtype, ((size_t)first * p.n_heads + m) * KV + d,
                     sum > 0 ? out / sum : 0);
    }
}

template <int N_TILES>
static __global__ void __launch_bounds__(32 * N_TILES * N_LISTS)
    attend_kernel(struct agon_attend p, int n_group)
{
    depends_wait();
    extern __shared__ __align__(128) char shared[];
    struct group *g = (struct group *)(shared + N_LISTS * 2 * TILE_BYTES);
    uint64_t *mask = (uint64_t *)(g + 1);
    int first = blockIdx.x * n_group, warp = threadIdx.x / 32, tile = warp % N_TILES,
        list = warp / N_TILES;
    if (threadIdx.x == 0) {
        g->n_rows = min(n_group, p.rows.n_rows - first);
        g->n_words = agon_ceil_div(p.n_max, AGON_CUDA_PAGE);
    }
    __syncthreads();
    if (threadIdx.x < g->n_rows) {
        int row = first + threadIdx.x;
        g->n_pages[threadIdx.x] =
            p.rows.sequence[row] < 0 ? 0 : p.rows.position[row] / AGON_CUDA_PAGE + 1;
    }
    __syncthreads();
    if (threadIdx.x % (32 * N_TILES) == 0)
        group_items(g, p, first, list);
    group_masks(mask, g, p, first);
    __syncthreads();

    uint32_t q[ENTRY / 16][4];
    struct state state = {};
    state.most[0] = state.most[1] = MINUS_INFINITY;
    load_queries(q, p.q + (size_t)first * p.n_heads * ENTRY, tile * 16, g->n_rows * p.n_heads);
    run_list<N_TILES>(state, g, mask, q, mma_address(shared), p, tile, list);
    __syncthreads(); /* the tiles give way to what the lists have found */
    write_partial<N_TILES>((float *)shared, state, tile, list);
    __syncthreads();
    merge((const float *)shared, p, first, g->n_rows * p.n_heads, N_TILES * 16 * (KV + 2));
}

static size_t shared_bytes(const struct agon_attend *p, int n_group)
{
    return (size_t)N_LISTS * 2 * TILE_BYTES + sizeof(struct group) +
           (size_t)n_group * agon_ceil_div(p->n_max, AGON_CUDA_PAGE) * sizeof(uint64_t);
}

template <int N_TILES>
static int attend(const struct agon_attend *p, cudaStream_t stream, struct agon_err *err)
{
    int n_group = N_TILES * 16 / p->n_heads;
    size_t bytes = shared_bytes(p, n_group);
    AGON_CUDA(err, "attention",
              cudaFuncSetAttribute(attend_kernel<N_TILES>,
                                   cudaFuncAttributeMaxDynamicSharedMemorySize, (int)bytes));
    unsigned n_blocks = (unsigned)agon_ceil_div(p->rows.n_rows, n_group);
    AGON_CUDA(err, "attention launch",
              launch_overlapping(attend_kernel<N_TILES>, n_blocks, 32 * N_TILES * N_LISTS, bytes,
                                 stream, *p, n_group));
    return 0;
}

extern "C" bool agon_attend_does(const struct agon_attend *p)
{
    return p->cache.format == AGON_LATENT_BF16 && p->cache.kv_lora == KV &&
           p->cache.rope_dim == ROPE && p->n_heads >= 3 && p->n_heads <= 8 &&
           p->n_max <= AGON_ATTEND_POSITIONS_MAX;
}

extern "C" int agon_attend_cuda(const struct agon_attend *p, void *stream, struct agon_err *err)
{
    if (!agon_attend_does(p) || p->rows.n_rows < 0 ||
        (p->out_dtype != AGON_F32 && p->out_dtype != AGON_BF16))
        return agon_fail(err, AGON_EINPUT,
                         "attention: %d heads of %d + %d values over %d positions", p->n_heads,
                         p->cache.kv_lora, p->cache.rope_dim, p->n_max);
    if (p->rows.n_rows == 0)
        return 0;
    /* Large groups once they fill the device. */
    return p->rows.n_rows > 264 ? attend<3>(p, (cudaStream_t)stream, err)
                                : attend<1>(p, (cudaStream_t)stream, err);
}
