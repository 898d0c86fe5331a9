/*
 * Products on the tensor cores: see cuda_gemm.h, AGON_GEMM_FAST. Weights are the first operand of
 * wgmma and rows of x the second, so few rows cost few columns: with four tokens an expert the
 * weights stream at the speed of memory, which is the floor there (n k bytes); with hundreds of
 * rows the tensor cores are (2 m n k operations: 989 TFLOP/s in BF16, 1979 in FP8).
 *
 * A block makes OUT outputs (of W's rows) by ROWS rows of x of one part. Its STAGES buffers hold
 * steps of 128 bytes of k. Weights come by tensor map; so do rows of x that stand one after the
 * other in the dtype of the product, while gathered ones, and F32, which becomes BF16, go through
 * registers. (Not by cp.async: the fence that makes a thread's own writes visible to wgmma would
 * wait for all that is on its way.) FP8: one step is one scale block; its product is scaled and
 * added to F32 sums (DeepSeek-V3's report, 3.3.2). The order of sums along k is the same for every
 * tile shape.
 */
#include "kernels/check.cuh"
#include "kernels/gemm_tile.cuh"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"

template <enum gemm_kind KIND_, bool MAPPED_, int ROWS_, int GROUPS_, int TILES_, int STAGES_>
struct tiling {
    static constexpr enum gemm_kind KIND = KIND_;
    static constexpr bool FP8 = KIND == E4M3_BY_E4M3;
    static constexpr bool MAPPED = MAPPED_; /* x comes by tensor map */
    static constexpr int ROWS = ROWS_;      /* of x: the N of wgmma */
    static constexpr int GROUPS = GROUPS_;  /* warpgroups */
    static constexpr int TILES = TILES_;    /* of 64 outputs in each */
    static constexpr int OUT = 64 * GROUPS * TILES;
    static constexpr int THREADS = 128 * GROUPS;
    static constexpr int STAGES = STAGES_;
    static constexpr int K = FP8 ? 128 : 64; /* in a step */
    static constexpr int W_BYTES = OUT * TILE_BYTES_K, X_BYTES = ROWS * TILE_BYTES_K;
    static constexpr int N_SCALES = FP8 ? ROWS + OUT : 0;
    static constexpr int SHARED = STAGES * (W_BYTES + X_BYTES + N_SCALES * 4 + 8) + SWIZZLE_ALIGN;
};

template <class T> struct stages {
    uint32_t base; /* of the buffers: all of W's, then x's, then scales, then barriers */
    __device__ uint32_t w(int s) const
    {
        return base + s * T::W_BYTES;
    }
    __device__ uint32_t x(int s) const
    {
        return base + T::STAGES * T::W_BYTES + s * T::X_BYTES;
    }
    __device__ uint32_t scales(int s) const /* of rows, then of outputs */
    {
        return base + T::STAGES * (T::W_BYTES + T::X_BYTES) + s * T::N_SCALES * 4;
    }
    __device__ uint32_t full(int s) const
    {
        return base + T::STAGES * (T::W_BYTES + T::X_BYTES + T::N_SCALES * 4) + s * 8;
    }
};

static __device__ __forceinline__ int row_of(const struct agon_cuda_gemm &g, int row)
{
    return g.rows ? g.rows[row] : row;
}

/* One thread: the copies of a step begin. */
template <class T>
static __device__ void copy_weights(const struct gemm_maps &maps, const struct gemm_tile &at,
                                    const struct stages<T> &buffers, int step)
{
    int s = (at.n_filled + step) % T::STAGES;
    barrier_expect(buffers.full(s), T::W_BYTES + (T::MAPPED ? T::X_BYTES : 0));
#pragma unroll
    for (int i = 0; i < T::OUT / 64; i++)
        copy_box_2d(buffers.w(s) + i * 64 * TILE_BYTES_K, &maps.w, step * T::K,
                    at.w_row + gemm_tile_row(at, i), buffers.full(s));
}

template <class T>
static __device__ void copy_rows(const struct gemm_maps &maps, const struct gemm_tile &at,
                                 const struct stages<T> &buffers, int step)
{
    int s = (at.n_filled + step) % T::STAGES;
    copy_box_2d(buffers.x(s), &maps.x, at.x_k + step * T::K, at.row, buffers.full(s));
}

/* Rows of x and scales that go through registers: sixteen bytes of a tile make one piece. */
template <class T> struct row_share {
    static constexpr int PIECES = T::MAPPED ? 0 : (T::ROWS * 8 + T::THREADS - 1) / T::THREADS;
    static constexpr int SCALES = (T::N_SCALES + T::THREADS - 1) / T::THREADS;
    uint4 pieces[PIECES > 0 ? PIECES : 1];
    float scales[SCALES > 0 ? SCALES : 1];

    static __device__ uint32_t pack(float a, float b)
    {
        return bf16_encode(a) | (uint32_t)bf16_encode(b) << 16;
    }

    /* Values [k, k + 8) of a row in F32, of which n exist. */
    static __device__ uint4 narrow(const float *from, int n)
    {
        float v[8];
        if (n >= 8) {
            float4 a = ((const float4 *)from)[0], b = ((const float4 *)from)[1];
            return make_uint4(pack(a.x, a.y), pack(a.z, a.w), pack(b.x, b.y), pack(b.z, b.w));
        }
#pragma unroll
        for (int j = 0; j < 8; j++)
            v[j] = j < n ? from[j] : 0;
        return make_uint4(pack(v[0], v[1]), pack(v[2], v[3]), pack(v[4], v[5]), pack(v[6], v[7]));
    }

    /* Sixteen bytes, of which n exist. */
    static __device__ uint4 bytes(const char *from, int n)
    {
        uint4 v = *(const uint4 *)from; /* rows are padded to whole pieces */
        if (n < 16) {
            v.x = n >= 4 ? v.x : n > 0 ? v.x & ((1u << 8 * n) - 1) : 0;
            v.y = n >= 8 ? v.y : n > 4 ? v.y & ((1u << 8 * (n - 4)) - 1) : 0;
            v.z = n >= 12 ? v.z : n > 8 ? v.z & ((1u << 8 * (n - 8)) - 1) : 0;
            v.w = n > 12 ? v.w & ((1u << 8 * (n - 12)) - 1) : 0;
        }
        return v;
    }

    __device__ void fetch(const struct gemm_launch &p, const struct gemm_tile &at, int step)
    {
        constexpr int SIZE = T::FP8 ? 1 : 2;
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            int item = i * T::THREADS + threadIdx.x, r = item / 8;
            int k = step * T::K + item % 8 * (16 / SIZE);
            pieces[i] = make_uint4(0, 0, 0, 0);
            if (r >= T::ROWS || at.row + r >= at.end || k >= p.w.k)
                continue;
            size_t from = row_of(p.gemm, at.row + r) * p.gemm.ld_x + k;
            if (T::KIND == BF16_BY_F32)
                pieces[i] = narrow((const float *)at.x + from, p.w.k - k);
            else
                pieces[i] = bytes(at.x + from * SIZE, (p.w.k - k) * SIZE);
        }
#pragma unroll
        for (int i = 0; i < SCALES; i++) {
            int item = i * T::THREADS + threadIdx.x, o = item - T::ROWS;
            scales[i] = 0;
            if (item >= T::N_SCALES || step >= at.n_steps)
                continue;
            if (item < T::ROWS) {
                if (at.row + item < at.end)
                    scales[i] =
                        p.gemm.x_scale[row_of(p.gemm, at.row + item) * p.gemm.ld_x_scale + step];
                continue;
            }
            int w_row = at.w_row + gemm_tile_row(at, o / 64) + o % 64;
            if (w_row < p.w.n)
                scales[i] = p.w.scale[(size_t)(w_row / p.w.scale_rows) * p.w.ld_scale + step];
        }
    }

    __device__ void store(uint32_t x, uint32_t to_scales) const
    {
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            int item = i * T::THREADS + threadIdx.x, r = item / 8;
            if (r < T::ROWS)
                asm volatile(
                    "st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(x + tile_offset(r, item % 8)),
                    "r"(pieces[i].x), "r"(pieces[i].y), "r"(pieces[i].z), "r"(pieces[i].w)
                    : "memory");
        }
#pragma unroll
        for (int i = 0; i < SCALES; i++) {
            int item = i * T::THREADS + threadIdx.x;
            if (item < T::N_SCALES)
                asm volatile("st.shared.f32 [%0], %1;" ::"r"(to_scales + 4 * item), "f"(scales[i])
                             : "memory");
        }
    }
};

/* One step of k begins: TILES products of 64 outputs, four wgmma deep. */
template <class T>
static __device__ __forceinline__ void multiply(float (&sum)[T::TILES][T::ROWS / 2], uint32_t w,
                                                uint32_t x, bool first)
{
    uint64_t b = wgmma_descriptor(x);
    wgmma_fence();
#pragma unroll
    for (int t = 0; t < T::TILES; t++) {
        uint64_t a = wgmma_descriptor(w + t * 64 * TILE_BYTES_K);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int accumulate = !(first && i == 0);
            if (T::FP8)
                wgmma<T::ROWS>::e4m3(sum[t], a + 2 * i, b + 2 * i, accumulate);
            else
                wgmma<T::ROWS>::bf16(sum[t], a + 2 * i, b + 2 * i, accumulate);
        }
    }
    wgmma_commit();
}

/* sum += part * (row's scale * output's scale); scales lie in shared memory. */
template <class T>
static __device__ __forceinline__ void add_scaled(float (&sum)[T::TILES][T::ROWS / 2],
                                                  const float (&part)[T::TILES][T::ROWS / 2],
                                                  const float *scales, int my_row)
{
    int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int t = 0; t < T::TILES; t++) {
        float low = scales[T::ROWS + my_row + 64 * t], high = scales[T::ROWS + my_row + 64 * t + 8];
#pragma unroll
        for (int j = 0; j < T::ROWS / 8; j++) {
            float2 row = *(const float2 *)&scales[8 * j + column];
            sum[t][4 * j] = fmaf(part[t][4 * j], row.x * low, sum[t][4 * j]);
            sum[t][4 * j + 1] = fmaf(part[t][4 * j + 1], row.y * low, sum[t][4 * j + 1]);
            sum[t][4 * j + 2] = fmaf(part[t][4 * j + 2], row.x * high, sum[t][4 * j + 2]);
            sum[t][4 * j + 3] = fmaf(part[t][4 * j + 3], row.y * high, sum[t][4 * j + 3]);
        }
    }
}

/* first: the outputs before this warpgroup's, or half as many where they are gated; my_row: in 64.
 */
template <int TILES, int ROWS>
static __device__ void gemm_store(const struct gemm_launch &p, const struct gemm_tile &at,
                                  char *out, const float (&sum)[TILES][ROWS / 2], int first,
                                  int my_row)
{
#pragma unroll
    for (int t = 0; t < TILES; t++)
#pragma unroll
        for (int i = 0; i < ROWS / 2; i++) {
            int o = first + my_row + 64 * t + (i & 2) * 4;
            int r = at.row + i / 4 * 8 + threadIdx.x % 4 * 2 + (i & 1);
            float value = sum[t][i];
            if (TILES % 2 == 0 && at.n_up) {
                if (t % 2)
                    continue;
                o -= 32 * t;
                value = gemm_gate(value, sum[(t + 1) % TILES][i]);
            }
            if (o >= at.n_out || r >= at.end)
                continue;
            size_t to = r * p.gemm.ld_out + o;
            value = p.gemm.add ? ((float *)out)[to] + value : value;
            number_store(out, p.gemm.out_dtype, to, value);
        }
}

/*
 * A block's tile under way. In BF16 the product of one step runs while the buffer of the step
 * before is filled again. In FP8 it is waited for, since its sums are scaled before they are added
 * up.
 */
template <class T> struct tile_work {
    const struct gemm_launch &p;
    const struct gemm_maps &maps;
    const struct gemm_tile &at;
    const struct stages<T> &buffers;
    const char *shared; /* at buffers.base */
    int group, my_row;
    struct row_share<T> share;
    float sum[T::TILES][T::ROWS / 2];

    /* Rows and scales of a step from registers to its buffer. */
    __device__ void put(int step)
    {
        int s = (at.n_filled + step) % T::STAGES;
        share.store(buffers.x(s), buffers.scales(s));
        if (!T::MAPPED)
            shared_written();
    }

    __device__ void begin(bool weights)
    {
        for (int step = 0; step < T::STAGES && step < at.n_steps; step++) {
            if (threadIdx.x == 0 && weights)
                copy_weights<T>(maps, at, buffers, step);
            if (threadIdx.x == 0 && T::MAPPED)
                copy_rows<T>(maps, at, buffers, step);
            share.fetch(p, at, step);
            put(step);
        }
        __syncthreads();
    }

    __device__ void add(const float (&part)[T::TILES][T::ROWS / 2], int step)
    {
        int s = (at.n_filled + step) % T::STAGES;
        const char *scales = shared + (buffers.scales(s) - buffers.base);
        add_scaled<T>(sum, part, (const float *)scales, group * 64 * T::TILES + my_row);
    }

    __device__ __forceinline__ void run(int step)
    {
        int filled = at.n_filled + step, s = filled % T::STAGES, next = step - 1 + T::STAGES;
        bool more = step > 0 && next < at.n_steps;
        uint32_t w = buffers.w(s) + group * T::TILES * 64 * TILE_BYTES_K;
        barrier_wait(buffers.full(s), filled / T::STAGES & 1);
        if (T::FP8) {
            float part[T::TILES][T::ROWS / 2];
            multiply<T>(part, w, buffers.x(s), true);
            if (more)
                share.fetch(p, at, next);
            wgmma_wait<0>();
            add(part, step);
        } else {
            multiply<T>(sum, w, buffers.x(s), step == 0);
            if (more)
                share.fetch(p, at, next);
            wgmma_wait<1>();
        }
        __syncthreads(); /* the buffer of the step before is free */
        if (!more)
            return;
        if (threadIdx.x == 0) {
            copy_weights<T>(maps, at, buffers, next);
            if (T::MAPPED)
                copy_rows<T>(maps, at, buffers, next);
        }
        put(next);
    }
};

/* weights: those of the first steps are still to be loaded. */
template <class T>
static __device__ void tile_run(const struct gemm_launch &p, const struct gemm_maps &maps,
                                const struct gemm_tile &at, char *out,
                                const struct stages<T> &buffers, const char *shared, bool weights)
{
    int group = threadIdx.x / 128;
    int my_row = threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    struct tile_work<T> work = {
        p, maps, at, buffers, shared, group, my_row, {},
        {
        }
    };
    work.begin(weights);
    for (int step = 0; step < at.n_steps; step++)
        work.run(step);
    wgmma_wait<0>();
    __syncthreads(); /* the buffers are filled again for the next tile */
    gemm_store<T::TILES, T::ROWS>(p, at, out, work.sum, group * (at.n_up ? 32 : 64) * T::TILES,
                                  my_row);
}

/* Grid: x: tiles of outputs, y: tiles of rows (a block takes every gridDim.y-th), z: parts. */
template <class T>
static __global__ void __launch_bounds__(T::THREADS)
    gemm_wgmma_kernel(const __grid_constant__ struct gemm_launch p,
                      const __grid_constant__ struct gemm_maps maps)
{
    extern __shared__ char shared[];
    struct stages<T> buffers;
    uint32_t start = shared_address(shared);
    buffers.base = (start + SWIZZLE_ALIGN - 1) & ~(uint32_t)(SWIZZLE_ALIGN - 1);
    int part = blockIdx.z, first = blockIdx.x * (p.gemm.gated ? T::OUT / 2 : T::OUT);
    struct gemm_tile at = {};
    at.n_up = p.gemm.gated ? p.n : 0;
    at.w_row = part * p.w_rows + first;
    at.n_out = p.n - first;
    at.x_k = (int)(part * p.gemm.batch_x);
    at.x = (const char *)p.gemm.x + part * p.gemm.batch_x *
                                        (T::KIND == BF16_BY_F32 ? 4
                                         : T::FP8               ? 1
                                                                : 2);
    at.n_steps = (p.w.k + T::K - 1) / T::K;
    if (threadIdx.x == 0) {
        for (int s = 0; s < T::STAGES; s++)
            barrier_init(buffers.full(s), 1);
        barriers_made();
        /* Weights depend on nobody: their first steps are on the way while the kernel before ends.
         * Not where the rows of a group say whether they are needed at all. */
        for (int s = 0; s < T::STAGES && s < at.n_steps && !p.begin; s++)
            copy_weights<T>(maps, at, buffers, s);
    }
    __syncthreads();
    depends_wait();
    bool weights = p.begin;
    at.end = p.begin ? p.begin[part + 1] : rows_today(p.gemm.n_rows, p.gemm.d_n_rows);
    char *out = (char *)p.gemm.out +
                (part * p.gemm.batch_out + first) * (p.gemm.out_dtype == AGON_F32 ? 4 : 2);
    int begin = p.begin ? p.begin[part] : 0;
    for (at.row = begin + blockIdx.y * T::ROWS; at.row < at.end; at.row += gridDim.y * T::ROWS) {
        tile_run<T>(p, maps, at, out, buffers, shared + (buffers.base - start), weights);
        at.n_filled += at.n_steps;
        weights = true;
    }
    /* Where no row took the weights, they must have arrived before the block may end; a phase ends
     * with the bytes of x. */
    for (int s = 0; s < T::STAGES && s < at.n_steps && !weights; s++) {
        if (T::MAPPED && threadIdx.x == 0)
            copy_rows<T>(maps, at, buffers, s);
        barrier_wait(buffers.full(s), 0);
    }
}

/* ---- choosing, and the host's side --------------------------------------------------------- */

template <class T>
static int wgmma_launch(const struct gemm_launch *launch, int rows_each, void *stream,
                        struct agon_err *err)
{
    auto kernel = gemm_wgmma_kernel<T>;
    struct gemm_maps maps = {};
    int r = gemm_maps_make(&maps, launch, T::MAPPED ? T::ROWS : 0, err);
    if (r)
        return r;
    AGON_CUDA(err, "product",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::SHARED));
    int n_tiles = agon_ceil_div(rows_each, T::ROWS);
    dim3 grid(agon_ceil_div(launch->w_rows, T::OUT), n_tiles < 65535 ? n_tiles : 65535,
              launch->n_parts);
    AGON_CUDA(err, "product launch",
              launch_overlapping(kernel, grid, T::THREADS, T::SHARED, stream, *launch, maps));
    return 0;
}

/*
 * The tiling by what a launch holds: few rows for each of many parts stream weights through tall
 * tiles; small products take small tiles, so that they spread over the multiprocessors.
 */
template <enum gemm_kind KIND, bool MAPPED>
static int wgmma_choose(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    int rows = launch->gemm.n_rows;
    bool gated = launch->gemm.gated;
    if (launch->begin)
        rows = agon_ceil_div(rows, launch->n_parts) * 2; /* some have more than others */
    if (MAPPED) {
        int r = gemm_large_launch(launch, rows, stream, err);
        if (r != GEMM_NOT_HERE)
            return r;
    }
    double tiles =
        (double)agon_ceil_div(launch->w_rows, 128) * agon_ceil_div(rows, 128) * launch->n_parts;
    bool tall = (double)launch->w.n >= 128 * 132;
    if (rows > 64 && tiles >= 100 && gated)
        return wgmma_launch<tiling<KIND, MAPPED, 64, 2, 2, 4>>(launch, rows, stream, err);
    if (rows > 64 && tiles >= 100)
        return wgmma_launch<tiling<KIND, MAPPED, 128, 2, 1, 4>>(launch, rows, stream, err);
    if (tall && rows <= 16)
        return wgmma_launch<tiling<KIND, MAPPED, 16, 1, 2, 3>>(launch, rows, stream, err);
    if (tall && rows <= 64)
        return wgmma_launch<tiling<KIND, MAPPED, 32, 1, 2, 4>>(launch, rows, stream, err);
    if (gated && tiles >= 24)
        return wgmma_launch<tiling<KIND, MAPPED, 32, 1, 2, 4>>(launch, rows, stream, err);
    if (gated)
        return wgmma_launch<tiling<KIND, MAPPED, 16, 1, 2, 3>>(launch, rows, stream, err);
    if (tiles >= 24)
        return wgmma_launch<tiling<KIND, MAPPED, 64, 1, 1, 4>>(launch, rows, stream, err);
    return wgmma_launch<tiling<KIND, MAPPED, 16, 1, 1, 4>>(launch, rows, stream, err);
}

/* Rows of x one after the other; and no part's last step reads the next part's columns. */
template <enum gemm_kind KIND>
static int wgmma_source(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    constexpr int K = KIND == E4M3_BY_E4M3 ? 128 : 64;
    bool apart = launch->w.k % K == 0 || launch->n_parts == 1 || launch->begin;
    if (!launch->gemm.rows && apart)
        return wgmma_choose<KIND, true>(launch, stream, err);
    return wgmma_choose<KIND, false>(launch, stream, err);
}

static bool aligned(const void *p, size_t bytes)
{
    return (uintptr_t)p % 16 == 0 && bytes % 16 == 0;
}

int gemm_wgmma_launch(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    const struct agon_cuda_gemm *g = &launch->gemm;
    const struct agon_cuda_matrix *w = &launch->w;
    size_t size = agon_dtype_size(g->x_dtype);
    if (!aligned(w->data, w->ld * agon_dtype_size(w->dtype)) || !aligned(g->x, g->ld_x * size) ||
        g->batch_x * size % 16 != 0)
        return GEMM_NOT_HERE;
    if (w->dtype == AGON_BF16 && g->x_dtype == AGON_BF16)
        return wgmma_source<BF16_BY_BF16>(launch, stream, err);
    if (w->dtype == AGON_BF16 && g->x_dtype == AGON_F32)
        return wgmma_choose<BF16_BY_F32, false>(launch, stream, err);
    if (w->dtype == AGON_E4M3 && g->x_dtype == AGON_E4M3)
        return wgmma_source<E4M3_BY_E4M3>(launch, stream, err);
    return GEMM_NOT_HERE;
}
