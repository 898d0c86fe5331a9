/*
 * The routed experts of a layer: gate and up, SwiGLU, down; see cuda_gemm.h.
 *
 * Floor at decode: the weights of the experts that have rows, once: 3 hidden inner bytes each in
 * e4m3. Between the two products lie pairs, not weights, a hundredth of the bytes.
 */
#include "kernels/check.cuh"
#include "kernels/cuda_gemm.h"

/* How the inputs of the products are held. */
enum moe_kind { MOE_F32, MOE_BF16, MOE_E4M3 };

static enum moe_kind kind_of(const struct agon_cuda_moe *moe, enum agon_gemm_mode mode)
{
    enum agon_dtype dtype = moe->gate_up.dtype;
    if (mode == AGON_GEMM_EXACT || dtype != moe->down.dtype || dtype == AGON_F32)
        return MOE_F32;
    return dtype == AGON_E4M3 ? MOE_E4M3 : MOE_BF16;
}

static size_t up_to(size_t n, size_t step)
{
    return (n + step - 1) / step * step;
}

/* Rows of `n` inputs of a product, as its kind holds them. */
struct moe_input {
    void *data;
    size_t ld;
    float *scales;
    size_t ld_scales;
};

/* What lies in a run's scratch. */
struct moe_scratch {
    struct moe_input x, act;
    float *wide; /* E4M3: act [n_pairs][inner] before it is quantised */
    size_t bytes;
};

static void *take(struct moe_scratch *s, void *base, size_t bytes)
{
    void *at = (char *)base + s->bytes;
    s->bytes += up_to(bytes, 256);
    return at;
}

static struct moe_input input_take(struct moe_scratch *s, void *base, enum moe_kind kind,
                                   size_t n_rows, int n)
{
    struct moe_input in = {};
    in.ld = up_to((size_t)n, 16);
    in.ld_scales = (size_t)agon_ceil_div(n, AGON_SCALE_BLOCK);
    in.data = take(s, base, n_rows * in.ld * (kind == MOE_F32 ? 4 : kind == MOE_BF16 ? 2 : 1));
    if (kind == MOE_E4M3)
        in.scales = (float *)take(s, base, n_rows * in.ld_scales * sizeof(float));
    return in;
}

static struct moe_scratch scratch_lay(void *base, const struct agon_cuda_moe *moe,
                                      enum moe_kind kind, size_t n_rows, int top_k)
{
    struct moe_scratch s = {};
    if (kind == MOE_E4M3) {
        s.wide = (float *)take(&s, base, n_rows * top_k * moe->inner * sizeof(float));
        s.x = input_take(&s, base, kind, n_rows * top_k, moe->hidden);
    }
    s.act = input_take(&s, base, kind, n_rows * top_k, moe->inner);
    return s;
}

extern "C" size_t agon_cuda_moe_scratch(const struct agon_cuda_moe *moe, int n_rows, int top_k,
                                        enum agon_gemm_mode mode)
{
    char base; /* only distances from it are used */
    return scratch_lay(&base, moe, kind_of(moe, mode), (size_t)n_rows, top_k).bytes;
}

static int moe_check(const struct agon_cuda_moe *moe, const struct agon_cuda_moe_run *run,
                     struct agon_err *err)
{
    const struct agon_cuda_matrix *gate_up = &moe->gate_up, *down = &moe->down;
    if (moe->n_experts <= 0 || gate_up->n != moe->n_experts * 2 * moe->inner ||
        gate_up->k != moe->hidden || down->n != moe->n_experts * moe->hidden ||
        down->k != moe->inner || run->n_rows < 0 || run->top_k <= 0)
        return agon_fail(err, AGON_EINPUT,
                         "experts: %d of hidden %d, inner %d do not fit gate and up [%d][%d], "
                         "down [%d][%d]",
                         moe->n_experts, moe->hidden, moe->inner, gate_up->n, gate_up->k, down->n,
                         down->k);
    return 0;
}

static enum agon_dtype dtype_of(enum moe_kind kind)
{
    return kind == MOE_F32 ? AGON_F32 : kind == MOE_BF16 ? AGON_BF16 : AGON_E4M3;
}

/* F32 or BF16 rows, gathered where rows are given, as codes and scales. */
static int quantise_rows(const struct moe_input *to, const void *x, enum agon_dtype dtype,
                         size_t ld, int n, const int32_t *rows, int n_rows, const int32_t *d_n_rows,
                         void *stream, struct agon_err *err)
{
    struct agon_cuda_quant quant = {};
    quant.codes = (uint8_t *)to->data;
    quant.ld_codes = to->ld;
    quant.scales = to->scales;
    quant.ld_scales = to->ld_scales;
    quant.x = x;
    quant.x_dtype = dtype;
    quant.ld_x = ld;
    quant.n = n;
    quant.group = AGON_SCALE_BLOCK;
    quant.ue8m0 = true;
    quant.rows = rows;
    quant.n_rows = n_rows;
    quant.d_n_rows = d_n_rows;
    return agon_cuda_quantise(&quant, stream, err);
}

static struct agon_cuda_gemm product_of(void *out, enum agon_dtype out_dtype, size_t ld_out,
                                        const struct moe_input *x, enum agon_dtype dtype,
                                        int n_pairs)
{
    struct agon_cuda_gemm gemm = {};
    gemm.out = out;
    gemm.out_dtype = out_dtype;
    gemm.ld_out = ld_out;
    gemm.x = x->data;
    gemm.x_dtype = dtype;
    gemm.ld_x = x->ld;
    gemm.x_scale = x->scales;
    gemm.ld_x_scale = x->ld_scales;
    gemm.n_rows = n_pairs;
    return gemm;
}

extern "C" int agon_cuda_moe(const struct agon_cuda_moe *moe, const struct agon_cuda_moe_run *run,
                             enum agon_gemm_mode mode, void *stream, struct agon_err *err)
{
    int r = moe_check(moe, run, err), n_pairs = run->n_rows * run->top_k, n = moe->n_experts;
    if (r || n_pairs == 0)
        return r;
    enum moe_kind kind = kind_of(moe, mode);
    struct moe_scratch s = scratch_lay(run->scratch, moe, kind, (size_t)run->n_rows, run->top_k);
    struct moe_input x = s.x;
    bool codes = kind == MOE_E4M3;
    size_t inner = (size_t)moe->inner;
    if (codes) {
        r = quantise_rows(&x, run->x, run->x_dtype, run->ld_x, moe->hidden, run->pair_row, n_pairs,
                          run->begin + n, stream, err);
    } else {
        x.data = (void *)run->x;
        x.ld = run->ld_x;
    }
    struct agon_cuda_gemm up =
        product_of(codes ? s.wide : s.act.data, codes ? AGON_F32 : dtype_of(kind),
                   codes ? inner : s.act.ld, &x, codes ? AGON_E4M3 : run->x_dtype, n_pairs);
    struct agon_cuda_gemm down =
        product_of(run->y, AGON_F32, run->ld_y, &s.act, dtype_of(kind), n_pairs);
    up.rows = codes ? NULL : run->pair_row;
    up.gated = true;
    if (!r)
        r = agon_cuda_gemm_grouped(&up, &moe->gate_up, n, run->begin, mode, stream, err);
    if (!r && codes)
        r = quantise_rows(&s.act, s.wide, AGON_F32, inner, moe->inner, NULL, n_pairs,
                          run->begin + n, stream, err);
    if (!r)
        r = agon_cuda_gemm_grouped(&down, &moe->down, n, run->begin, mode, stream, err);
    return r;
}
