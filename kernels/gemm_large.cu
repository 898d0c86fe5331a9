/*
 * Large products on the tensor cores, where rows are many: see cuda_gemm.h, AGON_GEMM_FAST. The
 * same sums in the same order as gemm_wgmma.cu's, so a row is the same to the bit by either.
 *
 * A block stays on its multiprocessor and takes tile after tile of 256 outputs by 128 rows of x.
 * Its first two warpgroups each do 128 of the outputs (two products of 64 by 128, or by 64 where no
 * more rows are left). A warp of the last copies steps of 128 bytes of k by tensor maps, up to
 * STAGES ahead, another the scales (FP8). The tile is that large because L2 gives a multiprocessor
 * some 35 bytes a cycle: 48 KB feed a step of 1,024 cycles. FP8: one step is one scale block, whose
 * products are scaled and added to F32 sums. Sums go to memory by way of shared memory, outputs
 * side by side.
 *
 * Tiles are numbered part after part; within one, eight tiles of outputs for all rows, then the
 * next eight, so that what 132 blocks read at a time stays in L2.
 */
#include "kernels/gemm_tile.cuh"
#include "kernels/launch.cuh"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

namespace
{
enum {
    ROWS = 128,
    STAGES = 4,
    TOGETHER = 8, /* tiles of outputs that take turns with rows */
    X_BYTES = ROWS * TILE_BYTES_K,
    LEAVING = 32,    /* rows of x whose 64 outputs leave together */
    LEAVING_LD = 68, /* floats: threads that write or read at a time meet in no bank */
    LEAVING_BYTES = LEAVING * LEAVING_LD * 4,
};

/* BLOCKS: FP8 weights have a scale for 64 outputs, not for each. */
template <bool FP8_, bool BLOCKS_> struct shape {
    static constexpr bool FP8 = FP8_, BLOCKS = BLOCKS_;
    static constexpr int GROUPS = 2; /* warpgroups that multiply */
    static constexpr int TILES = 2;  /* of 64 outputs in each */
    static constexpr int OUT = 64 * GROUPS * TILES;
    static constexpr int THREADS = 128 * (GROUPS + 1), K = FP8 ? 128 : 64;
    static constexpr int W_BYTES = OUT * TILE_BYTES_K, N_SCALES = ROWS + OUT;
    /* Registers of a thread that copies, and of one that multiplies: 168 are there at the start. */
    static constexpr int FEW = 40, MANY = 232;
    static constexpr int SHARED =
        STAGES * (W_BYTES + X_BYTES + N_SCALES * 4 + 16) + GROUPS * LEAVING_BYTES + SWIZZLE_ALIGN;
    static_assert(SHARED <= 227 * 1024, "shared memory of a block");
};

/* Places in shared memory. */
template <class T> struct stages {
    uint32_t base; /* of the buffers: W's, x's, what leaves, scales, barriers */
    __device__ uint32_t w(int s) const
    {
        return base + s * T::W_BYTES;
    }
    __device__ uint32_t x(int s) const
    {
        return w(STAGES) + s * X_BYTES;
    }
    __device__ uint32_t leaving(int group) const
    {
        return x(STAGES) + group * LEAVING_BYTES;
    }
    __device__ uint32_t scales(int s) const /* of rows, then of outputs */
    {
        return leaving(T::GROUPS) + s * T::N_SCALES * 4;
    }
    __device__ uint32_t full(int s) const
    {
        return scales(STAGES) + s * 8;
    }
    __device__ uint32_t empty(int s) const
    {
        return full(STAGES) + s * 8;
    }
};

/* Steps go through the buffers in turn, over all tiles of a block. */
struct turn {
    int stage;
    uint32_t parity;
    __device__ void next()
    {
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        parity ^= stage == 0;
    }
};

/* The tiles of a block, in the order in which it takes them. */
template <class T> struct tiles {
    const struct gemm_launch &p;
    int tile, part, before; /* before: tiles of the parts before this one */

    /* The next tile; false at the end. */
    __device__ bool next(struct gemm_tile *at)
    {
        int each = p.gemm.gated ? T::OUT / 2 : T::OUT, n_outs = agon_ceil_div(p.n, each);
        for (; part < p.n_parts; part++) {
            at->row = p.begin ? p.begin[part] : 0;
            at->end = p.begin ? p.begin[part + 1] : rows_today(p.gemm.n_rows, p.gemm.d_n_rows);
            int n_rows = agon_ceil_div(at->end - at->row, ROWS), i = tile - before;
            if (i >= n_rows * n_outs) {
                before += n_rows * n_outs;
                continue;
            }
            int first = i / (TOGETHER * n_rows) * TOGETHER, width = min(n_outs - first, TOGETHER);
            i -= first * n_rows;
            first = (first + i % width) * each;
            at->row += i / width * ROWS;
            at->w_row = part * p.w_rows + first;
            at->n_out = p.n - first;
            at->n_up = p.gemm.gated ? p.n : 0;
            at->x_k = (int)(part * p.gemm.batch_x);
            tile += gridDim.x;
            return true;
        }
        return false;
    }
    /* Where the tile's outputs of row 0 are. */
    __device__ char *out(const struct gemm_tile &at) const
    {
        size_t o = part * p.gemm.batch_out + (p.n - at.n_out);
        return (char *)p.gemm.out + o * (p.gemm.out_dtype == AGON_F32 ? 4 : 2);
    }
};

/* ---- what is copied: one thread, and one warp ---------------------------------------------- */

template <class T>
__device__ void copy_tiles(const struct gemm_launch &p, const struct gemm_maps &maps,
                           struct stages<T> buffers, int n_steps)
{
    struct tiles<T> tiles = {
        p, (int)blockIdx.x, 0, 0
    };
    struct turn turn = {0, 1};
    struct gemm_tile at;
    while (tiles.next(&at))
        for (int step = 0; step < n_steps; step++, turn.next()) {
            uint32_t full = buffers.full(turn.stage);
            barrier_wait(buffers.empty(turn.stage), turn.parity);
            barrier_expect(full, T::W_BYTES + X_BYTES);
#pragma unroll
            for (int i = 0; i < T::OUT / 64; i++)
                copy_box_2d(buffers.w(turn.stage) + i * 64 * TILE_BYTES_K, &maps.w, step * T::K,
                            at.w_row + gemm_tile_row(at, i), full);
            copy_box_2d(buffers.x(turn.stage), &maps.x, at.x_k + step * T::K, at.row, full);
        }
}

/* A scale to shared memory, without waiting for it. */
__device__ __forceinline__ void copy4(uint32_t to, const float *from)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

/* Lane l copies those of rows l, l + 32, ..., and of outputs: the first of 64 where they have one.
 * They arrive by themselves. */
template <class T>
__device__ void copy_scales(const struct gemm_launch &p, struct stages<T> buffers, int n_steps)
{
    constexpr int N_OUT = T::BLOCKS ? 1 : T::OUT / 32, N_TILES = T::OUT / 64;
    struct tiles<T> tiles = {
        p, (int)blockIdx.x, 0, 0
    };
    struct turn turn = {0, 1};
    struct gemm_tile at;
    int lane = threadIdx.x % 32;
    while (tiles.next(&at)) {
        int of_row[ROWS / 32], of_out[N_OUT]; /* places, of the step */
#pragma unroll
        for (int i = 0; i < ROWS / 32; i++)
            of_row[i] = min(at.row + lane + i * 32, at.end - 1) * (int)p.gemm.ld_x_scale;
#pragma unroll
        for (int i = 0; i < N_OUT; i++) {
            int o = T::BLOCKS ? lane % N_TILES * 64 : lane + i * 32;
            int row = min(at.w_row + gemm_tile_row(at, o / 64) + o % 64, p.w.n - 1);
            of_out[i] = row / p.w.scale_rows * p.w.ld_scale;
        }
        for (int step = 0; step < n_steps; step++, turn.next()) {
            uint32_t to = buffers.scales(turn.stage);
            barrier_wait(buffers.empty(turn.stage), turn.parity);
#pragma unroll
            for (int i = 0; i < ROWS / 32; i++)
                copy4(to + (lane + i * 32) * 4, p.gemm.x_scale + of_row[i] + step);
#pragma unroll
            for (int i = 0; i < N_OUT; i++)
                if (!T::BLOCKS || lane < N_TILES)
                    copy4(to + (ROWS + (T::BLOCKS ? lane * 64 : lane + i * 32)) * 4,
                          p.w.scale + of_out[i] + step);
            asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(
                             buffers.full(turn.stage))
                         : "memory");
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* ---- what is multiplied: two warpgroups ---------------------------------------------------- */

/* 64 outputs by N rows over a step; first: nothing is added up yet. */
template <bool FP8, int N>
__device__ __forceinline__ void multiply(float (&sum)[N / 2], uint32_t w, uint32_t x, bool first)
{
    uint64_t a = wgmma_descriptor(w), b = wgmma_descriptor(x);
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (FP8)
            wgmma<N>::e4m3(sum, a + 2 * i, b + 2 * i, !first || i > 0);
        else
            wgmma<N>::bf16(sum, a + 2 * i, b + 2 * i, !first || i > 0);
    wgmma_commit();
}

/* sum += part * (row's scale * output's scale). scales: of the rows; out: of the thread's outputs,
 * that of 64 and their 8th next. */
template <bool BLOCKS, int N>
__device__ __forceinline__ void add_scaled(float (&sum)[N / 2], const float (&part)[N / 2],
                                           const float *scales, const float *out)
{
    int column = threadIdx.x % 4 * 2;
    float low = out[0], high = BLOCKS ? low : out[8];
#pragma unroll
    for (int j = 0; j < N / 8; j++) {
        float2 row = *(const float2 *)&scales[8 * j + column];
        sum[4 * j] = fmaf(part[4 * j], row.x * low, sum[4 * j]);
        sum[4 * j + 1] = fmaf(part[4 * j + 1], row.y * low, sum[4 * j + 1]);
        sum[4 * j + 2] = fmaf(part[4 * j + 2], row.x * high, sum[4 * j + 2]);
        sum[4 * j + 3] = fmaf(part[4 * j + 3], row.y * high, sum[4 * j + 3]);
    }
}

/* This warp has read the buffer. */
template <class T> __device__ __forceinline__ void release(struct stages<T> buffers, int stage)
{
    if (threadIdx.x % 32 == 0)
        barrier_arrive(buffers.empty(stage));
}

/* While one warpgroup scales and adds, the others multiply. */
template <class T, int N>
__device__ __forceinline__ void sum_fp8(float (&sum)[T::TILES][N / 2], struct stages<T> buffers,
                                        const char *shared, int n_steps, struct turn *turn)
{
    int group = threadIdx.x / 128, my_row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    for (int step = 0; step < n_steps; step++, turn->next()) {
        int s = turn->stage;
        const float *scales = (const float *)(shared + (buffers.scales(s) - buffers.base));
        barrier_wait(buffers.full(s), turn->parity);
#pragma unroll
        for (int t = 0; t < T::TILES; t++) {
            float part[N / 2];
            int tile = group * T::TILES + t;
            wgmma_fence();
            multiply<true, N>(part, buffers.w(s) + tile * 64 * TILE_BYTES_K, buffers.x(s), true);
            wgmma_wait<0>();
            wgmma_pin(part);
            add_scaled<T::BLOCKS, N>(sum[t], part, scales,
                                     scales + ROWS + tile * 64 + (T::BLOCKS ? 0 : my_row));
        }
        release(buffers, s);
    }
}

/* A step's products run while the next one's are begun. */
template <class T, int N>
__device__ __forceinline__ void sum_bf16(float (&sum)[T::TILES][N / 2], struct stages<T> buffers,
                                         int n_steps, struct turn *turn)
{
    int group = threadIdx.x / 128, before = 0;
    for (int step = 0; step < n_steps; step++, turn->next()) {
        int s = turn->stage;
        barrier_wait(buffers.full(s), turn->parity);
        wgmma_fence();
#pragma unroll
        for (int t = 0; t < T::TILES; t++)
            multiply<false, N>(sum[t], buffers.w(s) + (group * T::TILES + t) * 64 * TILE_BYTES_K,
                               buffers.x(s), step == 0);
        wgmma_wait<T::TILES>();
        if (step > 0)
            release(buffers, before);
        before = s;
    }
    wgmma_wait<0>();
#pragma unroll
    for (int t = 0; t < T::TILES; t++)
        wgmma_pin(sum[t]);
    release(buffers, before);
}

/* ---- and what leaves ------------------------------------------------------------------------ */

/* Four sums of a row, from output o on. */
__device__ __forceinline__ void leave(const struct gemm_launch &p, char *out, size_t to, float4 x,
                                      int n, bool whole)
{
    const float value[4] = {x.x, x.y, x.z, x.w};
    if (whole && n >= 4 && p.gemm.out_dtype == AGON_BF16) {
        *(uint2 *)((uint16_t *)out + to) = make_uint2(bf16_pack(x.x, x.y), bf16_pack(x.z, x.w));
    } else if (whole && n >= 4) {
        float4 *at = (float4 *)((float *)out + to);
        if (p.gemm.add) {
            float4 y = *at;
            x = make_float4(y.x + x.x, y.y + x.y, y.z + x.z, y.w + x.w);
        }
        *at = x;
    } else {
        for (int i = 0; i < 4 && i < n; i++)
            number_store(out, p.gemm.out_dtype, to + i,
                         p.gemm.add ? ((float *)out)[to + i] + value[i] : value[i]);
    }
}

/* One warpgroup's 64 outputs of N rows. first: of the tile's outputs. A thread has them by
 * columns; LEAVING rows at a time they change places in shared memory. */
template <int N>
__device__ __forceinline__ void store(const struct gemm_launch &p, const struct gemm_tile &at,
                                      char *out, const float (&sum)[N / 2], int first,
                                      float *leaving)
{
    int group = threadIdx.x / 128, thread = threadIdx.x % 128, column = threadIdx.x % 4 * 2;
    int my_row = thread / 32 * 16 + thread % 32 / 4, o = first + thread % 16 * 4;
    size_t size = p.gemm.out_dtype == AGON_F32 ? 4 : 2;
    bool whole = ((uintptr_t)out | p.gemm.ld_out * size) % (4 * size) == 0;
#pragma unroll
    for (int chunk = 0; chunk < N / LEAVING; chunk++) {
#pragma unroll
        for (int i = 0; i < LEAVING / 2; i++)
            leaving[(i / 4 * 8 + column + (i & 1)) * LEAVING_LD + my_row + (i & 2) * 4] =
                sum[chunk * (LEAVING / 2) + i];
        barrier_some(1 + group, 128);
#pragma unroll
        for (int i = 0; i < LEAVING / 8; i++) {
            int r = thread / 16 + i * 8, row = at.row + chunk * LEAVING + r;
            float4 x = *(const float4 *)&leaving[r * LEAVING_LD + thread % 16 * 4];
            if (row < at.end)
                leave(p, out, row * p.gemm.ld_out + o, x, at.n_out - o, whole);
        }
        barrier_some(1 + group, 128);
    }
}

/* A tile of which N rows exist, or fewer. */
template <class T, int N>
__device__ __forceinline__ void multiply_tile(const struct gemm_launch &p, struct gemm_tile &at,
                                              char *out, struct stages<T> buffers, char *shared,
                                              int n_steps, struct turn *turn)
{
    int group = threadIdx.x / 128;
    float *leaving = (float *)(shared + (buffers.leaving(group) - buffers.base));
    float sum[T::TILES][N / 2];
#pragma unroll
    for (int i = 0; i < T::TILES * N / 2; i++)
        sum[i / (N / 2)][i % (N / 2)] = 0;
    if (T::FP8)
        sum_fp8<T, N>(sum, buffers, shared, n_steps, turn);
    else
        sum_bf16<T, N>(sum, buffers, n_steps, turn);
    if (at.n_up) {
#pragma unroll
        for (int i = 0; i < N / 2; i++)
            sum[0][i] = gemm_gate(sum[0][i], sum[1][i]);
        store<N>(p, at, out, sum[0], group * 64, leaving);
    } else {
#pragma unroll
        for (int t = 0; t < T::TILES; t++)
            store<N>(p, at, out, sum[t], (group * T::TILES + t) * 64, leaving);
    }
}

template <class T>
__device__ void multiply_tiles(const struct gemm_launch &p, struct stages<T> buffers, char *shared,
                               int n_steps)
{
    struct tiles<T> tiles = {
        p, (int)blockIdx.x, 0, 0
    };
    struct turn turn = {0, 0};
    struct gemm_tile at;
    while (tiles.next(&at)) {
        char *out = tiles.out(at);
        if (at.end - at.row > ROWS / 2)
            multiply_tile<T, ROWS>(p, at, out, buffers, shared, n_steps, &turn);
        else
            multiply_tile<T, ROWS / 2>(p, at, out, buffers, shared, n_steps, &turn);
    }
}

template <class T>
__global__ void __launch_bounds__(T::THREADS, 1)
    gemm_large_kernel(const __grid_constant__ struct gemm_launch p,
                      const __grid_constant__ struct gemm_maps maps)
{
    extern __shared__ char shared[];
    uint32_t start = shared_address(shared);
    struct stages<T> buffers = {
        (start + SWIZZLE_ALIGN - 1) & ~(uint32_t)(SWIZZLE_ALIGN - 1)
    };
    int warp = threadIdx.x / 32, n_steps = (p.w.k + T::K - 1) / T::K;
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(buffers.full(s), T::FP8 ? 33 : 1);
            barrier_init(buffers.empty(s), T::GROUPS * 4);
        }
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    depends_wait();
    if (warp >= T::GROUPS * 4) {
        registers_fewer<T::FEW>();
        if (warp == T::GROUPS * 4 && threadIdx.x % 32 == 0)
            copy_tiles<T>(p, maps, buffers, n_steps);
        if (T::FP8 && warp == T::GROUPS * 4 + 1)
            copy_scales<T>(p, buffers, n_steps);
    } else {
        registers_more<T::MANY>();
        multiply_tiles<T>(p, buffers, shared + (buffers.base - start), n_steps);
    }
}

template <class T>
int large_launch(const struct gemm_launch *launch, int n_tiles, void *stream, struct agon_err *err)
{
    auto kernel = gemm_large_kernel<T>;
    struct gemm_maps maps = {};
    int r = gemm_maps_make(&maps, launch, ROWS, err), device, n_blocks;
    if (r)
        return r;
    AGON_CUDA(err, "large product", cudaGetDevice(&device));
    AGON_CUDA(err, "large product",
              cudaDeviceGetAttribute(&n_blocks, cudaDevAttrMultiProcessorCount, device));
    AGON_CUDA(err, "large product",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::SHARED));
    AGON_CUDA(err, "large product launch",
              launch_overlapping(kernel, n_tiles < n_blocks ? n_tiles : n_blocks, T::THREADS,
                                 T::SHARED, stream, *launch, maps));
    return 0;
}

/* Many rows for each part, and tiles enough, most of which are full. Of groups rows_each is twice
 * the mean: from 24 rows in the mean on, some have more than the other kernel's tiles of 32, and
 * read their weights twice there. */
template <class T>
int large_choose(const struct gemm_launch *launch, int rows_each, void *stream,
                 struct agon_err *err)
{
    int each = launch->gemm.gated ? T::OUT / 2 : T::OUT, n_outs = agon_ceil_div(launch->n, each);
    double n_tiles = (double)n_outs * agon_ceil_div(rows_each, ROWS) * launch->n_parts;
    bool full = launch->n * 4 >= n_outs * each * 3;
    bool many = rows_each > (launch->begin ? ROWS * 3 / 8 : ROWS);
    if (!many || n_tiles < 100 || n_tiles > 1 << 30 || !full)
        return GEMM_NOT_HERE;
    return large_launch<T>(launch, (int)n_tiles, stream, err);
}
} // namespace

int gemm_large_launch(const struct gemm_launch *launch, int rows_each, void *stream,
                      struct agon_err *err)
{
    const struct agon_cuda_matrix *w = &launch->w;
    bool blocks = w->scale_rows % 64 == 0 && (launch->n_parts == 1 || launch->w_rows % 64 == 0) &&
                  (!launch->gemm.gated || launch->n % 64 == 0);
    if (w->dtype != AGON_E4M3)
        return large_choose<shape<false, false>>(launch, rows_each, stream, err);
    return blocks ? large_choose<shape<true, true>>(launch, rows_each, stream, err)
                  : large_choose<shape<true, false>>(launch, rows_each, stream, err);
}
