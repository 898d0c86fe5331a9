/*
 * Large products on the tensor cores, where rows are many: see cuda_gemm.h, AGON_GEMM_FAST. The
 * same sums in the same order as gemm_wgmma.cu's, so a row is the same to the bit by either.
 *
 * A block stays on its multiprocessor and takes tile after tile of 256 outputs by 128 rows of x.
 * Its first two warpgroups each do 128 of the outputs (two products of 64 by 128, so that a read of
 * x's part serves both); a warp of the third copies steps of 128 bytes of k by tensor maps, up to
 * STAGES ahead, another the scales of rows of x (FP8). The tile is that large because L2 gives a
 * multiprocessor some 40 bytes a cycle: 48 KB feed a step of 1,024 cycles. FP8: one step is one
 * scale block, whose products are scaled and added to F32 sums while the other warpgroup's run: the
 * two take turns, each told when the other's are nearly done. Sums go to memory by way of shared
 * memory, outputs side by side.
 *
 * Tiles are numbered part after part; within one, eight tiles of outputs for all rows, then the
 * next eight, so that what 132 blocks read at a time stays in L2.
 */
#include "kernels/gemm_tile.cuh"
#include "kernels/launch.cuh"
#include "kernels/mma.cuh"

namespace
{
enum {
    GROUPS = 2, /* warpgroups that multiply */
    TILES = 2,  /* of 64 outputs in each */
    OUT = 64 * GROUPS * TILES,
    ROWS = 128,
    STAGES = 4,
    THREADS = 128 * (GROUPS + 1),
    TOGETHER = 8, /* tiles of outputs that take turns with rows */
    W_BYTES = OUT * TILE_BYTES_K,
    X_BYTES = ROWS * TILE_BYTES_K,
    SCALES = STAGES * ROWS * 4,
    BARRIERS = (2 * STAGES + GROUPS) * 8,
    LEAVING = 32,    /* rows of x whose 64 outputs leave together */
    LEAVING_LD = 68, /* floats: threads that write or read at a time meet in no bank */
    LEAVING_BYTES = LEAVING * LEAVING_LD * 4,
    SHARED =
        STAGES * (W_BYTES + X_BYTES) + GROUPS * LEAVING_BYTES + SCALES + BARRIERS + SWIZZLE_ALIGN,
};
static_assert(SHARED <= 227 * 1024, "shared memory of a block");

/* Places in shared memory. */
struct stages {
    uint32_t base; /* of the buffers: W's, x's, what leaves, scales of rows, barriers */
    __device__ uint32_t w(int s) const
    {
        return base + s * W_BYTES;
    }
    __device__ uint32_t x(int s) const
    {
        return base + STAGES * W_BYTES + s * X_BYTES;
    }
    __device__ uint32_t scales(int s) const
    {
        return base + STAGES * (W_BYTES + X_BYTES) + GROUPS * LEAVING_BYTES + s * ROWS * 4;
    }
    __device__ uint32_t full(int s) const
    {
        return scales(STAGES) + s * 8;
    }
    __device__ uint32_t empty(int s) const
    {
        return full(STAGES) + s * 8;
    }
    __device__ uint32_t order(int group) const /* it is this warpgroup's turn */
    {
        return empty(STAGES) + group * 8;
    }
};

/* Steps go through the buffers in turn, over all tiles of a block. */
struct turn {
    int stage;
    uint32_t parity, order; /* order: parity of the warpgroups' turns */
    __device__ void next()
    {
        stage = stage + 1 == STAGES ? 0 : stage + 1;
        parity ^= stage == 0;
    }
};

/* The tiles of a block, in the order in which it takes them. */
struct tiles {
    const struct gemm_launch &p;
    int tile, part, before; /* before: tiles of the parts before this one */

    /* The next tile; false at the end. */
    __device__ bool next(struct gemm_tile *at)
    {
        int each = p.gemm.gated ? OUT / 2 : OUT, n_outs = agon_ceil_div(p.n, each);
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

template <bool FP8>
__device__ void copy_tiles(const struct gemm_launch &p, const struct gemm_maps &maps,
                           struct stages buffers, int n_steps)
{
    constexpr int K = FP8 ? 128 : 64;
    struct tiles tiles = {p, (int)blockIdx.x, 0, 0};
    struct turn turn = {0, 1, 0};
    struct gemm_tile at;
    while (tiles.next(&at))
        for (int step = 0; step < n_steps; step++, turn.next()) {
            uint32_t full = buffers.full(turn.stage);
            barrier_wait(buffers.empty(turn.stage), turn.parity);
            barrier_expect(full, W_BYTES + X_BYTES);
#pragma unroll
            for (int i = 0; i < OUT / 64; i++)
                copy_box_2d(buffers.w(turn.stage) + i * 64 * TILE_BYTES_K, &maps.w, step * K,
                            at.w_row + gemm_tile_row(at, i), full);
            copy_box_2d(buffers.x(turn.stage), &maps.x, at.x_k + step * K, at.row, full);
        }
}

/* Lane l has rows l, l + 32, ...; a step's are asked for while the one before waits. */
__device__ void copy_scales(const struct gemm_launch &p, struct stages buffers, int n_steps)
{
    struct tiles tiles = {p, (int)blockIdx.x, 0, 0};
    struct turn turn = {0, 1, 0};
    struct gemm_tile at;
    int lane = threadIdx.x % 32;
    while (tiles.next(&at)) {
        const float *from[ROWS / 32];
        float scale[ROWS / 32];
        for (int i = 0; i < ROWS / 32; i++) {
            from[i] = p.gemm.x_scale + min(at.row + lane + i * 32, at.end - 1) * p.gemm.ld_x_scale;
            scale[i] = __ldg(from[i]);
        }
        for (int step = 0; step < n_steps; step++, turn.next()) {
            barrier_wait(buffers.empty(turn.stage), turn.parity);
            for (int i = 0; i < ROWS / 32; i++)
                asm volatile("st.shared.f32 [%0], %1;" ::"r"(buffers.scales(turn.stage) +
                                                             (lane + i * 32) * 4),
                             "f"(scale[i])
                             : "memory");
            barrier_arrive(buffers.full(turn.stage));
            for (int i = 0; i < ROWS / 32; i++)
                scale[i] = step + 1 < n_steps ? __ldg(from[i] + step + 1) : 0;
        }
    }
}

/* ---- what is multiplied: two warpgroups ---------------------------------------------------- */

/* 64 outputs by ROWS rows over the parts FROM .. TO - 1 of four of a step; first: nothing is added
 * up yet. */
template <bool FP8, int FROM, int TO>
__device__ __forceinline__ void multiply(float (&sum)[ROWS / 2], uint32_t w, uint32_t x, bool first)
{
    uint64_t a = wgmma_descriptor(w), b = wgmma_descriptor(x);
#pragma unroll
    for (int i = FROM; i < TO; i++)
        if (FP8)
            wgmma<ROWS>::e4m3(sum, a + 2 * i, b + 2 * i, !first || i > 0);
        else
            wgmma<ROWS>::bf16(sum, a + 2 * i, b + 2 * i, !first || i > 0);
    wgmma_commit();
}

/* Scales of the weights of a thread's outputs, those of 64 and their 8th next: the same for all 64
 * where blocks of 128 rows of W have one. */
template <bool BLOCKS> struct weight_scales {
    int at[TILES][BLOCKS ? 1 : 2];
    float now[TILES][BLOCKS ? 1 : 2];

    __device__ void begin(const struct agon_cuda_matrix &w, const struct gemm_tile &tile, int group,
                          int my_row)
    {
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < (BLOCKS ? 1 : 2); i++) {
                int row = tile.w_row + gemm_tile_row(tile, group * TILES + t) +
                          (BLOCKS ? 0 : my_row + 8 * i);
                at[t][i] = min(row, w.n - 1) / w.scale_rows * w.ld_scale;
            }
        fetch(w, 0);
    }
    __device__ void fetch(const struct agon_cuda_matrix &w, int step)
    {
#pragma unroll
        for (int t = 0; t < TILES; t++)
#pragma unroll
            for (int i = 0; i < (BLOCKS ? 1 : 2); i++)
                now[t][i] = __ldg(w.scale + at[t][i] + step);
    }
};

/* sum += part * (row's scale * output's scale). */
template <bool BLOCKS>
__device__ __forceinline__ void add_scaled(float (&sum)[ROWS / 2], const float (&part)[ROWS / 2],
                                           const float *scales,
                                           const float (&weights)[BLOCKS ? 1 : 2])
{
    int column = threadIdx.x % 4 * 2;
    float low = weights[0], high = weights[BLOCKS ? 0 : 1];
#pragma unroll
    for (int j = 0; j < ROWS / 8; j++) {
        float2 row = *(const float2 *)&scales[8 * j + column];
        sum[4 * j] = fmaf(part[4 * j], row.x * low, sum[4 * j]);
        sum[4 * j + 1] = fmaf(part[4 * j + 1], row.y * low, sum[4 * j + 1]);
        sum[4 * j + 2] = fmaf(part[4 * j + 2], row.x * high, sum[4 * j + 2]);
        sum[4 * j + 3] = fmaf(part[4 * j + 3], row.y * high, sum[4 * j + 3]);
    }
}

/* This warp has read the buffer. */
__device__ __forceinline__ void release(struct stages buffers, int stage)
{
    if (threadIdx.x % 32 == 0)
        barrier_arrive(buffers.empty(stage));
}

template <bool BLOCKS>
__device__ __forceinline__ void sum_fp8(float (&sum)[TILES][ROWS / 2], const struct gemm_launch &p,
                                        const struct gemm_tile &at, struct stages buffers,
                                        const char *shared, int n_steps, struct turn *turn)
{
    int group = threadIdx.x / 128, my_row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    struct weight_scales<BLOCKS> scales;
    scales.begin(p.w, at, group, my_row);
    for (int step = 0; step < n_steps; step++, turn->next()) {
        int s = turn->stage;
        const float *of_rows = (const float *)(shared + (buffers.scales(s) - buffers.base));
        barrier_wait(buffers.full(s), turn->parity);
#pragma unroll
        for (int t = 0; t < TILES; t++) {
            float part[ROWS / 2];
            uint32_t w = buffers.w(s) + (group * TILES + t) * 64 * TILE_BYTES_K;
            barrier_wait(buffers.order(group), turn->order);
            turn->order ^= 1;
            wgmma_fence();
            multiply<true, 0, 3>(part, w, buffers.x(s), true);
            multiply<true, 3, 4>(part, w, buffers.x(s), true);
            wgmma_wait<1>();
            if (threadIdx.x % 32 == 0)
                barrier_arrive(buffers.order(1 - group));
            wgmma_wait<0>();
            wgmma_pin(part);
            add_scaled<BLOCKS>(sum[t], part, of_rows, scales.now[t]);
        }
        release(buffers, s);
        scales.fetch(p.w, min(step + 1, n_steps - 1));
    }
}

/* A step's products run while the next one's are begun. */
__device__ __forceinline__ void sum_bf16(float (&sum)[TILES][ROWS / 2], struct stages buffers,
                                         int n_steps, struct turn *turn)
{
    int group = threadIdx.x / 128, before = 0;
    for (int step = 0; step < n_steps; step++, turn->next()) {
        int s = turn->stage;
        barrier_wait(buffers.full(s), turn->parity);
        wgmma_fence();
#pragma unroll
        for (int t = 0; t < TILES; t++)
            multiply<false, 0, 4>(sum[t], buffers.w(s) + (group * TILES + t) * 64 * TILE_BYTES_K,
                                  buffers.x(s), step == 0);
        wgmma_wait<TILES>();
        if (step > 0)
            release(buffers, before);
        before = s;
    }
    wgmma_wait<0>();
#pragma unroll
    for (int t = 0; t < TILES; t++)
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

/* One warpgroup's 64 outputs of all rows. first: of the tile's outputs. A thread has them by
 * columns; LEAVING rows at a time they change places in shared memory. */
__device__ __forceinline__ void store(const struct gemm_launch &p, const struct gemm_tile &at,
                                      char *out, const float (&sum)[ROWS / 2], int first,
                                      float *leaving)
{
    int group = threadIdx.x / 128, thread = threadIdx.x % 128, column = threadIdx.x % 4 * 2;
    int my_row = thread / 32 * 16 + thread % 32 / 4, o = first + thread % 16 * 4;
    size_t size = p.gemm.out_dtype == AGON_F32 ? 4 : 2;
    bool whole = ((uintptr_t)out | p.gemm.ld_out * size) % (4 * size) == 0;
#pragma unroll
    for (int chunk = 0; chunk < ROWS / LEAVING; chunk++) {
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

template <bool FP8, bool BLOCKS>
__device__ void multiply_tiles(const struct gemm_launch &p, struct stages buffers, char *shared,
                               int n_steps)
{
    struct tiles tiles = {p, (int)blockIdx.x, 0, 0};
    struct turn turn = {0, 0, threadIdx.x < 128};
    struct gemm_tile at;
    int group = threadIdx.x / 128;
    float *leaving = (float *)(shared + STAGES * (W_BYTES + X_BYTES) + group * LEAVING_BYTES);
    while (tiles.next(&at)) {
        float sum[TILES][ROWS / 2];
#pragma unroll
        for (int i = 0; i < TILES * ROWS / 2; i++)
            sum[i / (ROWS / 2)][i % (ROWS / 2)] = 0;
        if (FP8)
            sum_fp8<BLOCKS>(sum, p, at, buffers, shared, n_steps, &turn);
        else
            sum_bf16(sum, buffers, n_steps, &turn);
        char *out = tiles.out(at);
        if (at.n_up) {
#pragma unroll
            for (int i = 0; i < ROWS / 2; i++)
                sum[0][i] = gemm_gate(sum[0][i], sum[1][i]);
            store(p, at, out, sum[0], group * 64, leaving);
        } else {
#pragma unroll
            for (int t = 0; t < TILES; t++)
                store(p, at, out, sum[t], (group * TILES + t) * 64, leaving);
        }
    }
}

template <bool FP8, bool BLOCKS>
__global__ void __launch_bounds__(THREADS, 1)
    gemm_large_kernel(const __grid_constant__ struct gemm_launch p,
                      const __grid_constant__ struct gemm_maps maps)
{
    extern __shared__ char shared[];
    uint32_t start = shared_address(shared);
    struct stages buffers = {(start + SWIZZLE_ALIGN - 1) & ~(uint32_t)(SWIZZLE_ALIGN - 1)};
    int warp = threadIdx.x / 32, n_steps = (p.w.k + (FP8 ? 127 : 63)) / (FP8 ? 128 : 64);
    if (threadIdx.x == 0) {
        for (int s = 0; s < STAGES; s++) {
            barrier_init(buffers.full(s), FP8 ? 33 : 1);
            barrier_init(buffers.empty(s), GROUPS * 4);
        }
        for (int g = 0; g < GROUPS; g++)
            barrier_init(buffers.order(g), 4);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncthreads();
    depends_wait();
    /* 168 registers a thread are there at the start: 3 x 168 = 504. */
    if (warp >= GROUPS * 4) {
        registers_fewer<40>();
        if (warp == GROUPS * 4 && threadIdx.x % 32 == 0)
            copy_tiles<FP8>(p, maps, buffers, n_steps);
        if (FP8 && warp == GROUPS * 4 + 1)
            copy_scales(p, buffers, n_steps);
    } else {
        registers_more<232>();
        multiply_tiles<FP8, BLOCKS>(p, buffers, shared + (buffers.base - start), n_steps);
    }
}

template <bool FP8, bool BLOCKS>
int large_launch(const struct gemm_launch *launch, int n_tiles, void *stream, struct agon_err *err)
{
    auto kernel = gemm_large_kernel<FP8, BLOCKS>;
    struct gemm_maps maps = {};
    int r = gemm_maps_make(&maps, launch, ROWS, err), device, n_blocks;
    if (r)
        return r;
    AGON_CUDA(err, "large product", cudaGetDevice(&device));
    AGON_CUDA(err, "large product",
              cudaDeviceGetAttribute(&n_blocks, cudaDevAttrMultiProcessorCount, device));
    AGON_CUDA(err, "large product",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, SHARED));
    AGON_CUDA(err, "large product launch",
              launch_overlapping(kernel, n_tiles < n_blocks ? n_tiles : n_blocks, THREADS, SHARED,
                                 stream, *launch, maps));
    return 0;
}
} // namespace

int gemm_large_launch(const struct gemm_launch *launch, int rows_each, void *stream,
                      struct agon_err *err)
{
    const struct agon_cuda_matrix *w = &launch->w;
    int each = launch->gemm.gated ? OUT / 2 : OUT;
    double n_tiles =
        (double)agon_ceil_div(launch->n, each) * agon_ceil_div(rows_each, ROWS) * launch->n_parts;
    bool full = launch->n * 4 >= agon_ceil_div(launch->n, each) * each * 3; /* tiles, nearly */
    bool many = rows_each > (launch->begin ? ROWS / 2 : ROWS);
    if (!many || n_tiles < 100 || n_tiles > 1 << 30 || !full)
        return GEMM_NOT_HERE;
    if (w->dtype != AGON_E4M3)
        return large_launch<false, false>(launch, (int)n_tiles, stream, err);
    bool blocks = w->scale_rows % 64 == 0 && launch->w_rows % 64 == 0 &&
                  (!launch->gemm.gated || launch->n % 64 == 0);
    return blocks ? large_launch<true, true>(launch, (int)n_tiles, stream, err)
                  : large_launch<true, false>(launch, (int)n_tiles, stream, err);
}
