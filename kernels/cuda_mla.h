#pragma once
/*
 * Absorbed latent attention on the GPU (DeepSeek-V2, section 2.1; DeepSeek-V3.2's report, section
 * 2.1). The cache holds one entry for each position: c (kv_lora values, normed), then k_pe
 * (rope_dim values, roped). A head's query has the length of an entry, its output that of c:
 *     a = softmax over the entries seen of scale * q . entry;    out = sum of a * c
 * What is seen: the slots a row has selected (sparse), or all positions 0..position (dense).
 *
 * Order of sums: entries are taken in the order of the list (or of positions), in blocks of fixed
 * size, with the running softmax of Milakov and Gimelshein 2018; so a row's output depends on its
 * own entries, their order and `split` alone.
 *
 * Two families behind one call. The plain kernels do every shape and format and sum in float: with
 * F32 latents, queries and outputs they are the reference mode (1e-5 from agon_mla_ref). The fast
 * ones round queries, entries and weights to BF16 and sum in float: kv_lora 512 with rope_dim 64,
 * latents in BF16 or FP8. Twin: agon_mla_ref() over decoded entries.
 */
#include "kernels/cuda.h"
#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One layer's pool of latents; layout in cuda.h. */
struct agon_mla_cache {
    void *latents; /* device */
    enum agon_latent_format format;
    int kv_lora, rope_dim;
};

/* Rows of a batch and the page tables of their sequences; all device memory, meaning in cuda.h. A
 * row with a negative sequence is not there: nothing is stored for it, its output is zeros. */
struct agon_mla_rows {
    int n_rows;
    const int32_t *sequence, *position; /* [n_rows] */
    const int32_t *pages;               /* [n_sequences][ld_pages] */
    int ld_pages;
};

/*
 * Store the entries kv [n_rows][ld_kv] (F32 or BF16 by kv_dtype; kv_lora values of c, then rope_dim
 * of k_pe) at the rows' positions. FP8 quantises c by agon_act_quant_ref(ue8m0), with scales of at
 * most 128 (values beyond 57,344 saturate; a NaN makes its block NaN), and rounds k_pe to BF16.
 */
int agon_mla_store_cuda(const struct agon_mla_cache *cache, const void *kv,
                        enum agon_dtype kv_dtype, size_t ld_kv, const struct agon_mla_rows *rows,
                        void *stream, struct agon_err *err);

struct agon_mla {
    struct agon_mla_cache cache;
    struct agon_mla_rows rows; /* dense: what is seen. Sparse: n_rows alone is read */
    int n_heads;
    float scale;

    const void *q;                      /* device, [n_rows][n_heads][kv_lora + rope_dim] */
    void *out;                          /* device, [n_rows][n_heads][kv_lora] */
    enum agon_dtype q_dtype, out_dtype; /* F32 or BF16 */

    /* Sparse, where selected is not NULL: device, int32 [n_rows][ld_selected] slot numbers, -1 for
     * none; row r's first n_selected[r] count (NULL: all ld_selected). A row that selects nothing
     * gets zeros. */
    const int32_t *selected, *n_selected;
    int ld_selected;

    /* Dense: the largest number of positions any row sees (bounds the grid; 0 for sparse). */
    int n_positions_max;
    /* Entries that one block of threads takes of a row, a multiple of 64, or 0: all. Small batches
     * need it to fill the device. Sums differ in the last bits between values of it, so an engine
     * whose tokens must not depend on the batch keeps one value. Read by fast kernels alone. */
    int split;
    bool plain; /* the plain kernel even where a fast one does the shape */

    void *scratch; /* device, agon_mla_scratch() bytes; NULL where that is 0 */
};
size_t agon_mla_scratch(const struct agon_mla *mla);
int agon_mla_cuda(const struct agon_mla *mla, void *stream, struct agon_err *err);

#ifdef __cplusplus
}
#endif
