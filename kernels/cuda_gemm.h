#pragma once
/*
 * Products with weights on the GPU: out[r][i] = sum_k x[rows[r]][k] W[i][k].
 *
 * Two ways to compute, chosen by the caller:
 *   AGON_GEMM_EXACT  one chain of F32 fused multiply-adds an output, k ascending, weights widened
 *                    to F32 before: the arithmetic of the CPU's vector kernels, bit for bit, and
 *                    any shape. The reference mode.
 *   AGON_GEMM_FAST   tensor cores where the shapes allow (see gemm.cu), else as EXACT. Inputs are
 *                    rounded to BF16 (or are e4m3 codes with scales), sums are F32, in an order
 *                    that the shapes n and k alone fix: a row's result does not depend on how many
 *                    rows there are, nor on which others.
 */
#include "kernels/cuda_ops.h"

#ifdef __cplusplus
extern "C" {
#endif

enum agon_gemm_mode { AGON_GEMM_EXACT, AGON_GEMM_FAST };

struct agon_cuda_gemm {
    void *out;
    enum agon_dtype out_dtype; /* F32 or BF16 */
    size_t ld_out;
    bool add; /* out += (F32 only) */
    const void *x;
    enum agon_dtype x_dtype; /* F32, BF16; E4M3 with x_scale: agon_cuda_quantise(), group 128 */
    size_t ld_x;
    const float *x_scale; /* [row][ld_x_scale] */
    size_t ld_x_scale;
    const int32_t *rows; /* gathers rows of x; NULL: row r */
    int n_rows;
    const int32_t *d_n_rows; /* or NULL */
    /*
     * n_batch products of the same shape in one launch (absorption: one a head): product b reads
     * x + b * batch_x, rows b * w->n / n_batch .. of W (w holds them stacked), and writes out + b *
     * batch_out. 0 and 1 mean one product.
     */
    int n_batch;
    size_t batch_x, batch_out;
    /* Each product's rows of W are a gate's, then as many of up: out[r][i] = silu(gate_i x) * up_i
     * x, half as many outputs as rows. Not together with add. */
    bool gated;
};
int agon_cuda_gemm(const struct agon_cuda_gemm *gemm, const struct agon_cuda_matrix *w,
                   enum agon_gemm_mode mode, void *stream, struct agon_err *err) AGON_MUST_USE;

/*
 * Grouped: w holds n_groups matrices of w->n / n_groups rows, stacked; row p of out, begin[g] <= p
 * < begin[g + 1], is x[rows ? rows[p] : p] times matrix g. gemm->n_rows is the most rows there can
 * be (grid); begin [n_groups + 1] is on the device. n_batch is not used.
 */
int agon_cuda_gemm_grouped(const struct agon_cuda_gemm *gemm, const struct agon_cuda_matrix *w,
                           int n_groups, const int32_t *begin, enum agon_gemm_mode mode,
                           void *stream, struct agon_err *err) AGON_MUST_USE;

/*
 * The routed experts of a layer, for pairs as agon_cuda_moe_group() orders them:
 * y[p] = down_e (silu(gate_e x) * up_e x), x = x[pair_row[p]], e being p's expert.
 */
struct agon_cuda_moe {
    int n_experts, hidden, inner;
    struct agon_cuda_matrix
        gate_up;                  /* [n_experts * 2 * inner][hidden], gate first in each expert */
    struct agon_cuda_matrix down; /* [n_experts * hidden][inner] */
};
struct agon_cuda_moe_run {
    float *y; /* [n_pairs_max][ld_y] */
    size_t ld_y;
    const void *x; /* F32 or BF16 */
    enum agon_dtype x_dtype;
    size_t ld_x;
    int n_rows; /* rows of x (most, where d_n_rows is given) */
    int top_k;
    const int32_t *d_n_rows;
    const int32_t *begin, *pair_row; /* agon_cuda_moe_group() */
    void *scratch;                   /* agon_cuda_moe_scratch() bytes */
};
size_t agon_cuda_moe_scratch(const struct agon_cuda_moe *moe, int n_rows, int top_k,
                             enum agon_gemm_mode mode);
int agon_cuda_moe(const struct agon_cuda_moe *moe, const struct agon_cuda_moe_run *run,
                  enum agon_gemm_mode mode, void *stream, struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
