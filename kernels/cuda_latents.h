#pragma once
/*
 * What stands between the first two products of a layer, each a launch: norms, rotations and the
 * cache's new entries; and between the second and attention. Twins: agon_rmsnorm_ref(),
 * agon_layernorm_ref(), agon_rope_*_ref(); sums in double.
 */
#include "kernels/cuda_indexer.h"
#include "kernels/cuda_mla.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A row of input holds [q_lora; kv_lora; rope_dim; index_dim; ...]. q_latent gets the first part
 * normed; the latent cache the second, normed, and the third, rotated interleaved; the index keys
 * the fourth, under LayerNorm, its first rope_dim values rotated. Rows of store without a sequence
 * leave the cache as it is.
 */
struct agon_cuda_latents {
    const float *input;
    size_t ld_input;
    int q_lora, index_dim; /* index_dim 0: no indexer here */
    float eps;
    const float *q_norm, *kv_norm, *index_norm, *index_bias;
    const float *cosine, *sine; /* [n_rows][rope_dim / 2] */
    bool index_interleaved;
    void *q_latent;          /* [n_rows][q_lora] */
    enum agon_dtype q_dtype; /* F32 or BF16 */
    struct agon_mla_cache cache;
    struct agon_cuda_keys keys;
    /* Where these are in FP8, room for rows before they are stored: [n_rows][kv_lora + rope_dim],
     * [n_rows][index_dim]. */
    float *entry_rows, *key_rows;
    struct agon_cuda_rows store;
};
int agon_cuda_latents(const struct agon_cuda_latents *latents, void *stream,
                      struct agon_err *err) AGON_MUST_USE;

/*
 * A row of query holds n_heads times [nope_dim; rope_dim], then index_heads times index_dim. The
 * rotated parts go to entry[r][h] + kv_lora, and the index queries, their first rope_dim values
 * rotated, to index_query[r]; index_weights[r] is ld_weights_from apart, and is multiplied by
 * index_scale.
 */
struct agon_cuda_queries {
    const void *query;
    enum agon_dtype query_dtype, entry_dtype; /* F32 or BF16 */
    size_t ld_query;
    int n_heads, nope_dim, rope_dim, kv_lora;
    void *entry;                /* [n_rows][n_heads][kv_lora + rope_dim] */
    int index_heads, index_dim; /* index_heads 0: no indexer here */
    bool index_interleaved;
    float *index_query; /* [n_rows][index_heads][index_dim] */
    /* For keys in FP8, instead of index_query: e4m3 codes, rotated by Hadamard as the keys are
     * (agon_cuda_index_store()); index_weights take up the codes' scales. At most 256 values. */
    uint8_t *index_codes;
    const float *index_weights_from; /* [n_rows][ld_weights_from] */
    size_t ld_weights_from;
    float *index_weights; /* [n_rows][index_heads] */
    float index_scale;
    const float *cosine, *sine; /* [n_rows][rope_dim / 2] */
    int n_rows;
};
int agon_cuda_queries(const struct agon_cuda_queries *queries, void *stream,
                      struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
