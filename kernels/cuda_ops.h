#pragma once
/*
 * Small operators on the GPU: all that a forward pass does to rows between its products. The rules
 * of cuda.h hold (asynchronous, no allocation, an output row depends on its own inputs alone).
 * Twins: kernels.h (agon_rmsnorm_ref() and so on).
 *
 * All pointers are device memory. A launch covers n_rows rows; where d_n_rows is not NULL the
 * kernel reads from it how many of them there are (a graph that is replayed for fewer), and leaves
 * the rest alone. "row" arrays may be F32 or BF16 where a dtype stands beside them.
 */
#include "kernels/cuda.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A matrix on the device: W [n][k], row-major as in a checkpoint, in its own dtype.
 * Under E4M3, element (i, j) is decode(data) * scale[(i / scale_rows) * ld_scale + j / 128]:
 * scale_rows is 128 for a checkpoint's own scale_inv [ceil(n/128)][ceil(k/128)], or 1 where each
 * row has scales of its own (stacked matrices whose blocks do not meet). The fast kernels want ld
 * and data in whole 16 bytes and fall back to plain ones otherwise.
 */
struct agon_cuda_matrix {
    int n, k;
    enum agon_dtype dtype; /* F32, BF16 or E4M3 */
    void *data;
    size_t ld; /* elements from row to row, >= k */
    float *scale;
    int ld_scale, scale_rows;
};
/* Room for a matrix: F32, BF16, or E4M3 with scale_rows (128 or 1). Owned: agon_cuda_matrix_free().
 * For a checkpoint's own tensors: copy the rows to data (ld is k rounded up to 16 bytes) and
 * scale_inv to scale (ld_scale is ceil(k / 128)). */
int agon_cuda_matrix_alloc(struct agon_cuda_matrix *ret, int n, int k, enum agon_dtype dtype,
                           int scale_rows, struct agon_err *err) AGON_MUST_USE;
/*
 * Put a packed matrix at rows row .. row + w->n of `to`, in to's dtype: w's own, or F32, or BF16
 * (to nearest even, which is exact for e4m3 whose scales are powers of two). Waits for the copy.
 * AGON_EINPUT where the shapes do not fit, or to has scales for 128 rows and w's blocks do not meet
 * them.
 */
int agon_cuda_matrix_put(const struct agon_cuda_matrix *to, int row, const struct agon_matrix *w,
                         struct agon_err *err) AGON_MUST_USE;
void agon_cuda_matrix_free(struct agon_cuda_matrix *w);

/* out[r] = row ids[r] of the table, as floats; an id out of [0, table->n) gives zeros. */
int agon_cuda_embed(float *out, size_t ld_out, const int32_t *ids,
                    const struct agon_cuda_matrix *table, int n_rows, const int32_t *d_n_rows,
                    void *stream, struct agon_err *err) AGON_MUST_USE;

/*
 * out[r] = w x[r] / sqrt(mean(x[r]^2) + eps); sums in double. First x[r] += add[r] where add is
 * given: the residual stream takes up what the stage before made. out may be x (F32).
 */
struct agon_cuda_norm {
    void *out; /* F32 or BF16 */
    enum agon_dtype out_dtype;
    size_t ld_out;
    float *x;
    size_t ld_x;
    const float *add; /* or NULL */
    size_t ld_add;
    const float *w; /* [n] */
    int n, n_rows;
    const int32_t *d_n_rows;
    float eps;
};
int agon_cuda_rmsnorm(const struct agon_cuda_norm *norm, void *stream,
                      struct agon_err *err) AGON_MUST_USE;
/* cos and sin [n_rows][half] of position[r] * inv_freq[i], in double until the end; inv_freq is
 * what agon_rope_frequencies() gives, on the device. */
int agon_cuda_rope_angles(float *cosine, float *sine, const double *inv_freq, int half,
                          const int32_t *position, int n_rows, const int32_t *d_n_rows,
                          void *stream, struct agon_err *err) AGON_MUST_USE;
/*
 * Rotate 2 * half values at x + r * ld_x + h * ld_head for each row r and head h, in place, or into
 * out where out is not x: pairs (2i, 2i+1) where interleaved, else (i, i + half).
 */
struct agon_cuda_rope {
    float *out; /* may be x */
    size_t ld_out, ld_out_head;
    const float *x;
    size_t ld_x, ld_head;
    int n_heads, half;
    bool interleaved;
    const float *cosine, *sine; /* [n_rows][half] */
    int n_rows;
    const int32_t *d_n_rows;
};
int agon_cuda_rope(const struct agon_cuda_rope *rope, void *stream,
                   struct agon_err *err) AGON_MUST_USE;

/*
 * e4m3 codes of x[r][g * group .. (g + 1) * group), one scale a group (the last may be short):
 * agon_act_quant_ref(), after agon_hadamard_ref() where hadamard is set (group is then a power of
 * two, at most 256, and divides n). codes [r][ld_codes], scales [r][ld_scales]. x F32 or BF16.
 */
struct agon_cuda_quant {
    uint8_t *codes;
    size_t ld_codes;
    float *scales;
    size_t ld_scales;
    const void *x;
    enum agon_dtype x_dtype;
    size_t ld_x;
    int n, group;
    bool hadamard, ue8m0;
    const int32_t *rows; /* gathers rows of x; NULL: row r */
    int n_rows;
    const int32_t *d_n_rows;
};
int agon_cuda_quantise(const struct agon_cuda_quant *quant, void *stream,
                       struct agon_err *err) AGON_MUST_USE;

/*
 * The experts of each row: agon_router_ref() in the same arithmetic, ids [n_rows][top_k] and
 * weights beside them. Where forced is given and forced[r][0] is not AGON_CUDA_NOT_FORCED, row r
 * takes forced[r][0 .. top_k) and only the weights are computed. At most AGON_EXPERTS_MAX experts.
 */
enum { AGON_CUDA_NOT_FORCED = 0xffff };
int agon_cuda_route(int32_t *ids, float *weights, const float *logits, size_t ld_logits,
                    const float *bias, const uint16_t *forced, const struct agon_router *router,
                    int n_rows, const int32_t *d_n_rows, void *stream,
                    struct agon_err *err) AGON_MUST_USE;

/* agon_moe_group() on the device: begin [n_experts + 1], pair_row and pair_of [n_rows * top_k]. */
int agon_cuda_moe_group(int32_t *begin, int32_t *pair_row, int32_t *pair_of, const int32_t *ids,
                        int n_rows, const int32_t *d_n_rows, int top_k, int n_experts, void *stream,
                        struct agon_err *err) AGON_MUST_USE;

/* agon_moe_combine() of each row, then x[r] += shared[r] where shared is given. y [pair][ld_y] is
 * F32 or BF16. */
struct agon_cuda_combine {
    float *x;
    size_t ld_x;
    const void *y;
    enum agon_dtype y_dtype;
    size_t ld_y;
    const int32_t *pair_of;
    const float *weights;
    int top_k;
    const float *shared; /* or NULL */
    size_t ld_shared;
    int n, n_rows;
    const int32_t *d_n_rows;
};
int agon_cuda_moe_combine(const struct agon_cuda_combine *combine, void *stream,
                          struct agon_err *err) AGON_MUST_USE;

/*
 * For small models, where a launch costs more than its work: the stages between attention and a
 * layer's experts in one launch. h = norm(x += add); the router's product with h, in F32 and exact
 * (one chain an output; h before it is rounded to norm.out_dtype); the choice of experts as
 * agon_cuda_route() makes it; pairs as agon_cuda_moe_group() orders them.
 *
 * Where `shared` is set, each row has one choice more: the shared expert, which stands behind the
 * others as expert n_experts, with weight 1. ids, weights and pairs are then [n_rows][top_k + 1],
 * and begin [n_experts + 2].
 */
struct agon_cuda_norm_route {
    struct agon_cuda_norm norm;
    struct agon_cuda_matrix router; /* F32 [n_experts][norm.n] */
    const float *bias;
    const uint16_t *forced;
    struct agon_router options;
    bool shared;
    int32_t *ids;
    float *weights;
    int32_t *begin, *pair_row, *pair_of;
    int32_t *counter; /* one, 0 before the first launch; it is 0 again after each */
};
/* Does the one launch do these shapes? At most 32 experts, whose weights fit in shared memory. */
bool agon_cuda_norm_route_fits(const struct agon_router *options, int n);
int agon_cuda_norm_route(const struct agon_cuda_norm_route *route, void *stream,
                         struct agon_err *err) AGON_MUST_USE;

/* agon_cuda_moe_combine(), then agon_cuda_rmsnorm() of the same x (norm->add is not used). */
int agon_cuda_combine_norm(const struct agon_cuda_combine *combine,
                           const struct agon_cuda_norm *norm, void *stream,
                           struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
