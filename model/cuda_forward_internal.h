#pragma once
/* Private to cuda_forward*.c. */
#include "kernels/cuda_step.h"
#include "model/cuda_forward.h"

/* Several arrays in one allocation of the device's, all zeros. */
struct cuda_buffer {
    void *at; /* the address of a pointer */
    size_t bytes;
};
int cuda_buffers_alloc(char **ret_memory, const struct cuda_buffer *wanted, size_t n,
                       struct agon_err *err);

/* A pass under way. */
struct cuda_run {
    struct cuda_forward *f;
    const struct cuda_pass *pass;
    const struct cuda_layer *layer;
    int i_layer, i_sparse, i_indexer; /* the layer; those with experts, with indexers before it */
    const float *pending;             /* what the residual stream still has to take up, or NULL */
    bool normed;                      /* h is what the next cuda_run_norm() would make */
    void *stream;
    struct agon_err *err;
};

/* The widest row of `input`. */
static inline int cuda_input_width(const struct agon_config *c)
{
    return c->q_lora + c->kv_lora + c->rope_dim + c->index_dim + c->index_heads;
}
static inline int cuda_entry_dim(const struct agon_config *c)
{
    return c->kv_lora + c->rope_dim;
}
static inline enum agon_dtype cuda_act_dtype(const struct cuda_forward *f)
{
    return f->fast ? AGON_BF16 : AGON_F32;
}
/* Of queries, and of what attention makes of them. */
static inline enum agon_dtype cuda_query_dtype(const struct cuda_forward *f)
{
    return f->fp8 ? AGON_BF16 : AGON_F32;
}
static inline enum agon_gemm_mode cuda_gemm_mode(const struct cuda_forward *f)
{
    return f->fast ? AGON_GEMM_FAST : AGON_GEMM_EXACT;
}

/* Scores are computed for so many rows at a time. */
static inline int cuda_score_rows(const struct cuda_run *run)
{
    return (int)(run->f->scores_bytes / ((size_t)run->pass->n_max * sizeof(float)));
}
static inline size_t cuda_blocks(int k)
{
    return ((size_t)k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
}

/* Rows begin .. begin + n, for reading the cache or for storing. */
struct agon_cuda_rows cuda_run_rows(const struct cuda_run *run, int begin, int n, bool store);
/* h = norm(x + pending), as a launch's arguments. */
struct agon_cuda_norm cuda_run_norm_of(const struct cuda_run *run, const float *w);
/* h = norm(x + pending). */
int cuda_run_norm(struct cuda_run *run, const float *w);
/* out = x w^T for all rows. */
struct cuda_product {
    void *out;
    enum agon_dtype out_dtype;
    size_t ld_out;
    const void *x;
    enum agon_dtype x_dtype;
    size_t ld_x;
    int n_batch;
    size_t batch_x, batch_out;
    bool gated;
};
int cuda_run_product(struct cuda_run *run, const struct cuda_product *product,
                     const struct agon_cuda_matrix *w, enum agon_gemm_mode mode);
/* The same where w is in e4m3. */
int cuda_run_product_fp8(struct cuda_run *run, const struct cuda_product *product,
                         const struct agon_cuda_matrix *w);
/* FP8 keys: how the scores of the pass's rows are shared out, for all layers; and the plan of the
 * rows from `begin` on, a multiple of cuda_score_rows(), or NULL. */
int cuda_run_plan(struct cuda_run *run);
const void *cuda_plan_at(const struct cuda_run *run, int begin);
/* FP8: what the indexer's weights are made of, from h. */
int cuda_run_index_input(struct cuda_run *run);
/* pending = attention(h). */
int cuda_run_attention(struct cuda_run *run);
/* pending = the MLP of h, or x takes it up. */
int cuda_run_mlp(struct cuda_run *run);
