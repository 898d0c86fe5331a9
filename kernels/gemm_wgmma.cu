/*
 * Products on the tensor cores: see cuda_gemm.h, AGON_GEMM_FAST. Weights are the first operand of
 * wgmma and rows of x the second, so few rows cost few columns: with four tokens an expert the
 * weights stream at the speed of memory, which is the floor there (n k bytes); with hundreds of
 * rows the tensor cores are (2 m n k operations: 989 TFLOP/s in BF16, 1979 in FP8).
 *
 * A block makes OUT outputs (of W's rows) by ROWS rows of x of one part. Its STAGES buffers hold
 * steps of 128 bytes of k, filled by cp.async; x in F32 goes through registers, where it becomes
 * BF16. FP8: one step is one scale block; its product is scaled and added to F32 sums
 * (DeepSeek-V3's report, 3.3.2). The order of sums along k is the same for every tile shape.
 */
#include "kernels/check.cuh"
#include "kernels/gemm.cuh"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"
#include "kernels/wgmma.cuh"

enum kind { BF16_BY_BF16, BF16_BY_F32, E4M3_BY_E4M3 }; /* weights by x */

template <enum kind KIND_, int ROWS_, int GROUPS_, int TILES_, int STAGES_> struct tiling {
    static constexpr enum kind KIND = KIND_;
    static constexpr bool FP8 = KIND == E4M3_BY_E4M3;
    static constexpr int ROWS = ROWS_;     /* of x: the N of wgmma */
    static constexpr int GROUPS = GROUPS_; /* warpgroups */
    static constexpr int TILES = TILES_;   /* of 64 outputs in each */
    static constexpr int OUT = 64 * GROUPS * TILES;
    static constexpr int THREADS = 128 * GROUPS;
    static constexpr int STAGES = STAGES_;
    static constexpr int K = FP8 ? 128 : 64; /* in a step */
    static constexpr int W_BYTES = OUT * TILE_BYTES_K, X_BYTES = ROWS * TILE_BYTES_K;
    static constexpr int SCALE_BYTES = FP8 ? (ROWS + OUT) * 4 : 0;
    static constexpr int SHARED = STAGES * (W_BYTES + X_BYTES + SCALE_BYTES) + SWIZZLE_ALIGN;
};

/* Where a block works. */
struct tile_at {
    const char *w;        /* first row of its outputs */
    const float *w_scale; /* that of output 0 of the part: rows are counted from w_row */
    int w_row;            /* of the matrix */
    int n_out;            /* outputs that exist from here on */
    int n_up;             /* gated: rows from a gate's to its up's; else 0 */
    const char *x;
    int row, end; /* rows row .. end of the launch exist */
    int n_steps;
};

template <class T> struct stages {
    uint32_t base; /* of the buffers: all of W's, then x's, then scales */
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
        return base + T::STAGES * (T::W_BYTES + T::X_BYTES) + s * T::SCALE_BYTES;
    }
};

static __device__ __forceinline__ int bytes_left(int total, int at)
{
    int n = total - at;
    return n <= 0 ? 0 : n < 16 ? n : 16;
}

static __device__ __forceinline__ int row_of(const struct agon_cuda_gemm &g, int row)
{
    return g.rows ? g.rows[row] : row;
}

/*
 * Which row of W, counted from the tile's first, stands in row r of the tile; -1: none. Gated, each
 * sixteen rows are eight of the gate and the same eight of up, so that a thread, which holds rows i
 * and i + 8, has both of its outputs.
 */
static __device__ __forceinline__ int weight_row(const struct tile_at &at, int r)
{
    int o = at.n_up ? r / 16 * 8 + r % 8 : r;
    return o >= at.n_out ? -1 : r & 8 ? o + at.n_up : o;
}

template <class T>
static __device__ void load_weights(const struct gemm_launch &p, const struct tile_at &at,
                                    uint32_t to, int step)
{
    constexpr int SIZE = T::FP8 ? 1 : 2;
    int k_bytes = p.w.k * SIZE;
    size_t pitch = p.w.ld * SIZE;
#pragma unroll
    for (int i = threadIdx.x; i < T::OUT * 8; i += T::THREADS) {
        int r = i / 8, piece = i % 8, k = step * TILE_BYTES_K + piece * 16;
        int from = weight_row(at, r), n = from >= 0 ? bytes_left(k_bytes, k) : 0;
        copy_16(to + tile_offset(r, piece), n > 0 ? at.w + from * pitch + k : at.w, n);
    }
}

/* Rows of x that are as wgmma takes them. */
template <class T>
static __device__ void load_rows(const struct gemm_launch &p, const struct tile_at &at, uint32_t to,
                                 int step)
{
    constexpr int SIZE = T::FP8 ? 1 : 2;
    int k_bytes = p.w.k * SIZE;
#pragma unroll
    for (int i = threadIdx.x; i < T::ROWS * 8; i += T::THREADS) {
        int r = i / 8, piece = i % 8, k = step * TILE_BYTES_K + piece * 16;
        int n = at.row + r < at.end ? bytes_left(k_bytes, k) : 0;
        const char *from = at.x;
        if (n > 0)
            from += row_of(p.gemm, at.row + r) * p.gemm.ld_x * SIZE + k;
        copy_16(to + tile_offset(r, piece), from, n);
    }
}

template <class T>
static __device__ void load_scales(const struct gemm_launch &p, const struct tile_at &at,
                                   uint32_t to, int step)
{
    for (int i = threadIdx.x; i < T::ROWS + T::OUT; i += T::THREADS) {
        const float *from = at.w_scale;
        int o = i < T::ROWS ? -1 : weight_row(at, i - T::ROWS), n = 0;
        if (i < T::ROWS && at.row + i < at.end) {
            from = p.gemm.x_scale + row_of(p.gemm, at.row + i) * p.gemm.ld_x_scale + step;
            n = 4;
        } else if (o >= 0) {
            from += (size_t)((at.w_row + o) / p.w.scale_rows) * p.w.ld_scale + step;
            n = 4;
        }
        copy_4(to + 4 * i, from, n);
    }
}

/* Rows of x in F32, through registers: eight values make one piece. */
template <class T> struct float_rows {
    static constexpr int PIECES = (T::ROWS * 8 + T::THREADS - 1) / T::THREADS;
    float4 values[PIECES][2];

    __device__ void fetch(const struct gemm_launch &p, const struct tile_at &at, int step)
    {
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            int item = i * T::THREADS + threadIdx.x, r = item / 8, k = step * T::K + item % 8 * 8;
            bool inside = r < T::ROWS && at.row + r < at.end && step < at.n_steps;
            float part[8];
            const float *from = (const float *)at.x;
            if (inside)
                from += row_of(p.gemm, at.row + r) * p.gemm.ld_x + k;
            if (inside && k + 8 <= p.w.k) {
                values[i][0] = ((const float4 *)from)[0];
                values[i][1] = ((const float4 *)from)[1];
                continue;
            }
            for (int j = 0; j < 8; j++)
                part[j] = inside && k + j < p.w.k ? from[j] : 0;
            values[i][0] = make_float4(part[0], part[1], part[2], part[3]);
            values[i][1] = make_float4(part[4], part[5], part[6], part[7]);
        }
    }

    static __device__ uint32_t pack(float a, float b)
    {
        return bf16_encode(a) | (uint32_t)bf16_encode(b) << 16;
    }

    __device__ void store(uint32_t to) const
    {
#pragma unroll
        for (int i = 0; i < PIECES; i++) {
            int item = i * T::THREADS + threadIdx.x, r = item / 8;
            if (r >= T::ROWS)
                continue;
            float4 a = values[i][0], b = values[i][1];
            asm volatile(
                "st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to + tile_offset(r, item % 8)),
                "r"(pack(a.x, a.y)), "r"(pack(a.z, a.w)), "r"(pack(b.x, b.y)), "r"(pack(b.z, b.w))
                : "memory");
        }
    }
};

template <class T>
static __device__ void load_step(const struct gemm_launch &p, const struct tile_at &at,
                                 const struct stages<T> &buffers, int step, bool weights)
{
    int s = step % T::STAGES;
    if (step < at.n_steps) {
        if (weights)
            load_weights<T>(p, at, buffers.w(s), step);
        if (T::KIND != BF16_BY_F32)
            load_rows<T>(p, at, buffers.x(s), step);
        if (T::FP8)
            load_scales<T>(p, at, buffers.scales(s), step);
    }
    copies_commit(); /* an empty one too: groups are counted */
}

/* One step of k: TILES products of 64 outputs, four wgmma deep. */
template <class T>
static __device__ __forceinline__ void multiply(float (&sum)[T::TILES][T::ROWS / 2], uint32_t w,
                                                uint32_t x, bool first)
{
    uint64_t b = tile_descriptor(x);
    wgmma_begin();
#pragma unroll
    for (int t = 0; t < T::TILES; t++) {
        uint64_t a = tile_descriptor(w + t * 64 * TILE_BYTES_K);
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
    wgmma_wait<0>();
}

/* sum += part * (row's scale * output's scale); scales lie in shared memory. */
template <class T>
static __device__ __forceinline__ void add_scaled(float (&sum)[T::TILES][T::ROWS / 2],
                                                  const float (&part)[T::TILES][T::ROWS / 2],
                                                  const float *scales, int out)
{
    int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int t = 0; t < T::TILES; t++) {
        float low = scales[T::ROWS + out + 64 * t], high = scales[T::ROWS + out + 64 * t + 8];
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

template <class T>
static __device__ void store_sums(const struct gemm_launch &p, const struct tile_at &at, char *out,
                                  const float (&sum)[T::TILES][T::ROWS / 2], int my_out)
{
#pragma unroll
    for (int t = 0; t < T::TILES; t++)
#pragma unroll
        for (int i = 0; i < T::ROWS / 2; i++) {
            int o = my_out + 64 * t + (i & 2) * 4;
            int r = at.row + i / 4 * 8 + threadIdx.x % 4 * 2 + (i & 1);
            float value = sum[t][i];
            if (at.n_up) {
                o = o / 16 * 8 + o % 8;
                value = gemm_gate(value, sum[t][i | 2]);
            }
            if (o >= at.n_out || r >= at.end || (at.n_up && i & 2))
                continue;
            size_t to = r * p.gemm.ld_out + o;
            value = p.gemm.add ? ((float *)out)[to] + value : value;
            number_store(out, p.gemm.out_dtype, to, value);
        }
}

/* weights: those of the first steps are still to be loaded. */
template <class T>
static __device__ void tile_run(const struct gemm_launch &p, const struct tile_at &at, char *out,
                                const struct stages<T> &buffers, const char *shared, bool weights)
{
    float sum[T::TILES][T::ROWS / 2] = {}, part[T::TILES][T::ROWS / 2];
    struct float_rows<T> floats;
    int group = threadIdx.x / 128;
    int my_out = group * 64 * T::TILES + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
    for (int s = 0; s < T::STAGES - 1; s++) {
        if (T::KIND == BF16_BY_F32) {
            floats.fetch(p, at, s);
            floats.store(buffers.x(s));
        }
        load_step<T>(p, at, buffers, s, weights);
    }
    for (int step = 0; step < at.n_steps; step++) {
        int s = step % T::STAGES, next = step + T::STAGES - 1;
        copies_wait<T::STAGES - 2>();
        fence_for_wgmma();
        __syncthreads();
        load_step<T>(p, at, buffers, next, true);
        if (T::KIND == BF16_BY_F32)
            floats.fetch(p, at, next);
        uint32_t w = buffers.w(s) + group * T::TILES * 64 * TILE_BYTES_K;
        if (T::FP8) {
            multiply<T>(part, w, buffers.x(s), true);
            add_scaled<T>(sum, part, (const float *)(shared + (buffers.scales(s) - buffers.base)),
                          my_out);
        } else {
            multiply<T>(sum, w, buffers.x(s), step == 0);
        }
        if (T::KIND == BF16_BY_F32)
            floats.store(buffers.x(next % T::STAGES));
    }
    copies_wait<0>();
    __syncthreads(); /* the buffers are filled again for the next tile */
    store_sums<T>(p, at, out, sum, my_out);
}

/* Grid: x: tiles of outputs, y: tiles of rows (a block takes every gridDim.y-th), z: parts. */
template <class T>
static __global__ void __launch_bounds__(T::THREADS) gemm_wgmma_kernel(struct gemm_launch p)
{
    extern __shared__ char shared[];
    struct stages<T> buffers;
    uint32_t start = shared_address(shared);
    buffers.base = (start + SWIZZLE_ALIGN - 1) & ~(uint32_t)(SWIZZLE_ALIGN - 1);
    int part = blockIdx.z, first = blockIdx.x * (p.gemm.gated ? T::OUT / 2 : T::OUT);
    struct tile_at at;
    at.n_up = p.gemm.gated ? p.n : 0;
    at.w_row = part * p.w_rows + first;
    at.w = (const char *)p.w.data + at.w_row * p.w.ld * (T::FP8 ? 1 : 2);
    at.w_scale = p.w.scale;
    at.n_out = p.n - first;
    at.x = (const char *)p.gemm.x + part * p.gemm.batch_x *
                                        (T::KIND == BF16_BY_F32 ? 4
                                         : T::FP8               ? 1
                                                                : 2);
    at.n_steps = (p.w.k + T::K - 1) / T::K;
    /* Weights depend on nobody: their first steps are on the way while the kernel before ends. Not
     * where the rows of a group say whether they are needed at all. */
    for (int s = 0; s < T::STAGES - 1 && s < at.n_steps && !p.begin; s++)
        load_weights<T>(p, at, buffers.w(s), s);
    depends_wait();
    bool weights = p.begin;
    at.end = p.begin ? p.begin[part + 1] : rows_today(p.gemm.n_rows, p.gemm.d_n_rows);
    char *out = (char *)p.gemm.out +
                (part * p.gemm.batch_out + first) * (p.gemm.out_dtype == AGON_F32 ? 4 : 2);
    int begin = p.begin ? p.begin[part] : 0;
    for (at.row = begin + blockIdx.y * T::ROWS; at.row < at.end; at.row += gridDim.y * T::ROWS) {
        tile_run<T>(p, at, out, buffers, shared + (buffers.base - start), weights);
        weights = true;
    }
    copies_wait<0>(); /* where there was no row to use them */
}

template <class T>
static int wgmma_launch(const struct gemm_launch *launch, int rows_each, void *stream,
                        struct agon_err *err)
{
    auto kernel = gemm_wgmma_kernel<T>;
    AGON_CUDA(err, "product",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, T::SHARED));
    int n_tiles = agon_ceil_div(rows_each, T::ROWS);
    dim3 grid(agon_ceil_div(launch->w_rows, T::OUT), n_tiles < 65535 ? n_tiles : 65535,
              launch->n_parts);
    AGON_CUDA(err, "product launch",
              launch_overlapping(kernel, grid, T::THREADS, T::SHARED, stream, *launch));
    return 0;
}

/*
 * The tiling by what a launch holds: few rows for each of many parts stream weights through tall
 * tiles; small products take small tiles, so that they spread over the multiprocessors.
 */
template <enum kind KIND>
static int wgmma_choose(const struct gemm_launch *launch, void *stream, struct agon_err *err)
{
    int rows = launch->gemm.n_rows;
    if (launch->begin)
        rows = agon_ceil_div(rows, launch->n_parts) * 2; /* some have more than others */
    double tiles =
        (double)agon_ceil_div(launch->w_rows, 128) * agon_ceil_div(rows, 128) * launch->n_parts;
    if (rows > 64 && tiles >= 100)
        return wgmma_launch<tiling<KIND, 128, 2, 1, 4>>(launch, rows, stream, err);
    bool tall = (double)launch->w.n >= 128 * 132;
    if (tall && rows <= 16)
        return wgmma_launch<tiling<KIND, 16, 2, 2, 3>>(launch, rows, stream, err);
    if (tall && rows <= 64)
        return wgmma_launch<tiling<KIND, 32, 1, 2, 4>>(launch, rows, stream, err);
    if (tiles >= 24)
        return wgmma_launch<tiling<KIND, 64, 1, 1, 4>>(launch, rows, stream, err);
    return wgmma_launch<tiling<KIND, 16, 1, 1, 4>>(launch, rows, stream, err);
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
        return wgmma_choose<BF16_BY_BF16>(launch, stream, err);
    if (w->dtype == AGON_BF16 && g->x_dtype == AGON_F32)
        return wgmma_choose<BF16_BY_F32>(launch, stream, err);
    if (w->dtype == AGON_E4M3 && g->x_dtype == AGON_E4M3)
        return wgmma_choose<E4M3_BY_E4M3>(launch, stream, err);
    return GEMM_NOT_HERE;
}
