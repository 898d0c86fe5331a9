#pragma once
/*
 * The lightning indexer on the GPU: index keys stored into pages, scores of the positions that a
 * row sees, and the exact top-k of them (DeepSeek-V3.2's report, section 2.1, equation 1; twins
 * agon_indexer_ref(), agon_topk_ref(), agon_hadamard_ref(), agon_act_quant_ref()). Conventions and
 * the cache's layout: cuda.h. Nothing here needs the host between the three, and no argument but
 * pointers and largest sizes, so a graph may replay them.
 */
#include "kernels/cuda.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The index keys of one layer. */
struct agon_cuda_keys {
    void *pool; /* device, 16-byte aligned: [n_pages][agon_keys_page_bytes(format, index_dim)] */
    enum agon_keys_format format;
    int index_dim, n_pages;
};

/*
 * The rows of a launch. A row whose sequence is below 0 is none: nothing is stored for it, its
 * scores are not written, its selection is -1 throughout.
 */
struct agon_cuda_rows {
    int n_rows; /* the most of a launch: 65,535 */
    int n_max;  /* no row's position + 1 is above this; sizes the grid */
    const int32_t *row_sequence, *row_position; /* device [n_rows] */
    const int32_t *pages;                       /* device [n_sequences][ld_pages] */
    int ld_pages;
    const void *plan; /* agon_cuda_index_plan() of these rows, or NULL */
};

/*
 * Store the index key of each row, which is after norm and rotary embedding: x, device float
 * [n_rows][ld_x]. FP8: Hadamard (where index_dim is a power of two; the queries must be treated
 * alike), then e4m3 with one scale a key, max(amax, 1e-4) / 448 rounded up to a power of two.
 * AGON_EINPUT: index_dim above 1,024.
 */
int agon_cuda_index_store(const struct agon_cuda_keys *keys, const float *x, size_t ld_x,
                          const struct agon_cuda_rows *rows, void *stream, struct agon_err *err);

/*
 * How the scores of these rows are shared out over the device: which pages neighbouring rows have
 * in common (those of one chunk, forks of one prompt: put them side by side) and are read once for
 * eight rows. Made once for a batch, on the device, for all layers; again when rows, positions or
 * page tables change. plan: device, 16-byte aligned, agon_cuda_index_plan_bytes(n_rows). k_skip: as
 * below.
 */
size_t agon_cuda_index_plan_bytes(int n_rows);
int agon_cuda_index_plan(void *plan, int k_skip, const struct agon_cuda_rows *rows, void *stream,
                         struct agon_err *err);

/*
 * scores[r][s] = k_scale[s] * sum over heads h of weights[r][h] * max(0, q[r][h] . k[s]) for s in
 * 0..row_position[r]; the k_scale is 1 for F32. What lies beyond is not written. Rows with
 * row_position[r] + 1 <= k_skip are skipped: their top-k is everything (0: no row).
 *   q        device, [n_rows][n_heads][index_dim]: float for F32, e4m3 for FP8
 *   weights  device float [n_rows][n_heads]: all constants, and for FP8 the query's scale,
 *            multiplied in; finite
 *   scores   device float [n_rows][ld_scores], ld_scores >= n_max
 * With rows->plan, keys of 128 e4m3 and 32 or 64 heads go through the tensor cores (q and weights
 * 16-byte aligned; k_skip as the plan's): their sums are some 1e-4 off the others', so give a model
 * a plan always or never. One score depends on its own query, weights and key alone, whatever the
 * plan. AGON_EINPUT: index_dim above 640.
 */
int agon_cuda_index_scores(float *scores, size_t ld_scores, const struct agon_cuda_keys *keys,
                           const void *q, const float *weights, int n_heads, int k_skip,
                           const struct agon_cuda_rows *rows, void *stream, struct agon_err *err);

/*
 * The positions of the k largest of scores[r][0..row_position[r]], ascending: exact, the lowest
 * position first on ties, -0 equal to 0, NaN below all. Everything, and scores are not read, where
 * row_position[r] + 1 <= k. as_slots: slot numbers (cuda.h) instead of positions, in the same
 * order.
 *   selected    device int32 [n_rows][ld_selected], ld_selected >= k; -1 from n_selected to k
 *   n_selected  device int32 [n_rows], min(row_position[r] + 1, k), or 0; may be NULL
 */
int agon_cuda_topk(int32_t *selected, size_t ld_selected, int32_t *n_selected, const float *scores,
                   size_t ld_scores, int k, bool as_slots, const struct agon_cuda_rows *rows,
                   void *stream, struct agon_err *err);

#ifdef __cplusplus
}
#endif
