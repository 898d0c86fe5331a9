/* Weights from a checkpoint's files to the device: see cuda_weights.h. Tensor names: engine.md 2.
 * That they are there, with these shapes, checkpoint.c has seen. */
#include "model/cuda_weights.h"

#include "model/cuda_stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is under way: each array is made where it is missing, and filled. */
struct loader {
    struct cuda_weights *weights;
    const struct agon_config *config;
    struct agon_tensor_scope scope;
    struct cuda_stream stream;
    struct agon_err *err;
};

/* One of the tensors that stand in a matrix, one above the other. */
struct part {
    const char *name;
    int n;
};

/* ---- vectors ------------------------------------------------------------------------ */

/* *to, made where it is NULL, gets the bytes. */
static int upload(struct loader *l, void **to, const void *from, size_t bytes)
{
    int r;
    if (!*to) {
        if ((r = agon_cuda_alloc(to, bytes, l->err)))
            return agon_err_in(l->err, r, "weights");
        l->weights->bytes += bytes;
    }
    if ((r = agon_cuda_copy(*to, from, bytes, l->stream.queue, l->err)))
        return r;
    return agon_cuda_sync(l->stream.queue, l->err);
}

static int load_vector(struct loader *l, float **to, const char *name, int n)
{
    const struct agon_tensor *t;
    float *values;
    void *device = *to;
    int r;
    if ((r = agon_tensor_scope_find(&t, &l->scope, name, "", l->err)) ||
        (r = agon_tensor_floats(l->scope.tensors, t, &values, l->err)))
        return r;
    r = upload(l, &device, values, (size_t)n * sizeof(*values));
    *to = device;
    free(values);
    return r;
}

static int load_frequencies(struct loader *l)
{
    size_t half = (size_t)l->config->rope_dim / 2;
    double *inv_freq = malloc((half ? half : 1) * sizeof(*inv_freq));
    if (!inv_freq)
        return agon_fail(l->err, AGON_ENOMEM, "weights: out of memory");
    agon_rope_frequencies(inv_freq, &l->config->rope);
    void *device = l->weights->inv_freq;
    int r = upload(l, &device, inv_freq, half * sizeof(*inv_freq));
    l->weights->inv_freq = device;
    free(inv_freq);
    return r;
}

/* ---- matrices ----------------------------------------------------------------------- */

/* Room for a matrix, unless it has it. */
static int matrix_room(struct loader *l, struct agon_cuda_matrix *w, int n, int k,
                       enum agon_dtype dtype, int scale_rows)
{
    if (w->data)
        return 0;
    int r = agon_cuda_matrix_alloc(w, n, k, dtype, scale_rows, l->err);
    if (r)
        return agon_err_in(l->err, r, "weights");
    l->weights->bytes += (size_t)n * w->ld * agon_dtype_size(dtype);
    if (dtype == AGON_E4M3)
        l->weights->bytes +=
            (size_t)((n + scale_rows - 1) / scale_rows) * (size_t)w->ld_scale * sizeof(*w->scale);
    return 0;
}

/* Scales of the codes that stand at rows `at` .. at + n of w. */
static int put_scales(struct loader *l, const struct agon_cuda_matrix *w, int at, int n,
                      const float *scale)
{
    size_t ld = (size_t)w->ld_scale;
    size_t n_rows = (size_t)(n + w->scale_rows - 1) / (size_t)w->scale_rows;
    float *rows = NULL;
    if (w->scale_rows == 1) {
        if (!(rows = malloc(n_rows * ld * sizeof(*rows))))
            return agon_fail(l->err, AGON_ENOMEM, "weights: out of memory");
        for (size_t i = 0; i < n_rows; i++)
            memcpy(rows + i * ld, scale + i / AGON_SCALE_BLOCK * ld, ld * sizeof(*rows));
    }
    int r = agon_cuda_copy(w->scale + (size_t)(at / w->scale_rows) * ld, rows ? rows : scale,
                           n_rows * ld * sizeof(*scale), l->stream.queue, l->err);
    free(rows);
    return r;
}

struct rows_put {
    struct loader *l;
    const struct agon_cuda_matrix *to, *value; /* value: kv_b, to being absorb */
    int at;
};

static int put_rows(void *user, const struct agon_cuda_load *part, struct agon_err *err)
{
    const struct rows_put *p = user;
    const struct agon_config *c = p->l->config;
    if (p->value)
        return agon_cuda_load_kv_b(part, p->to, p->value, c->nope_dim, c->v_dim, p->l->stream.queue,
                                   err);
    return agon_cuda_load_rows(part, p->to, p->at, p->l->stream.queue, err);
}

/* A tensor and its scales to where p says. */
static int load_tensor(struct loader *l, struct rows_put *p, const char *name)
{
    const struct agon_tensor *t, *scale_tensor;
    float *scale = NULL;
    int r = agon_tensor_scope_find(&t, &l->scope, name, "", l->err);
    if (r == 0 && t->dtype == AGON_E4M3 &&
        ((r = agon_tensor_scope_find(&scale_tensor, &l->scope, name, "_scale_inv", l->err)) == 0))
        r = agon_tensor_floats(l->scope.tensors, scale_tensor, &scale, l->err);
    bool codes = p->to->dtype == AGON_E4M3;
    if (r == 0 && codes)
        r = put_scales(l, p->to, p->at, (int)t->dims[0], scale);
    if (r == 0)
        r = cuda_stream_tensor(&l->stream, t, codes ? NULL : scale, put_rows, p, l->err);
    free(scale);
    return r;
}

/* Is every part e4m3, in a mode that keeps it? */
static int all_codes(struct loader *l, const struct part *parts, int n_parts, bool *ret)
{
    const struct agon_tensor *t;
    *ret = l->weights->fp8;
    for (int i = 0; i < n_parts; i++) {
        int r = agon_tensor_scope_find(&t, &l->scope, parts[i].name, "", l->err);
        if (r)
            return r;
        *ret &= t->dtype == AGON_E4M3;
    }
    return 0;
}

static enum agon_dtype wide_dtype(const struct loader *l)
{
    return l->weights->fast ? AGON_BF16 : AGON_F32;
}

/* Scales for 128 rows where the parts' blocks meet, also in copies one above the other. */
static int scale_rows_of(const struct part *parts, int n_parts, int n_copies)
{
    for (int i = 0; i < n_parts; i++)
        if (parts[i].n % AGON_SCALE_BLOCK && (i + 1 < n_parts || n_copies > 1))
            return 1;
    return AGON_SCALE_BLOCK;
}

/* Parts of k inputs, at row `at`; room for n_copies of the stack. */
static int load_stack(struct loader *l, struct agon_cuda_matrix *w, const struct part *parts,
                      int n_parts, int k, int copy, int n_copies)
{
    int n = 0, r;
    bool codes;
    for (int i = 0; i < n_parts; i++)
        n += parts[i].n;
    if ((r = all_codes(l, parts, n_parts, &codes)) ||
        (r = matrix_room(l, w, n * n_copies, k, codes ? AGON_E4M3 : wide_dtype(l),
                         scale_rows_of(parts, n_parts, n_copies))))
        return r;
    struct rows_put put = {.l = l, .to = w, .at = n * copy};
    for (int i = 0; i < n_parts && r == 0; put.at += parts[i++].n)
        r = load_tensor(l, &put, parts[i].name);
    return r;
}

static int load_as(struct loader *l, struct agon_cuda_matrix *w, const char *name, int n, int k,
                   enum agon_dtype dtype)
{
    struct rows_put put = {.l = l, .to = w};
    int r = matrix_room(l, w, n, k, dtype, AGON_SCALE_BLOCK);
    return r ? r : load_tensor(l, &put, name);
}

/* ---- layers ------------------------------------------------------------------------- */

static int load_kv_b(struct loader *l, struct cuda_layer *to)
{
    const struct agon_config *c = l->config;
    struct rows_put put = {.l = l, .to = &to->absorb, .value = &to->value};
    int r;
    if ((r = matrix_room(l, &to->absorb, c->n_heads * c->kv_lora, c->nope_dim, wide_dtype(l), 0)) ||
        (r = matrix_room(l, &to->value, c->n_heads * c->v_dim, c->kv_lora, wide_dtype(l), 0)))
        return r;
    return load_tensor(l, &put, "kv_b_proj.weight");
}

static int load_attention(struct loader *l, struct cuda_layer *to, bool indexer)
{
    const struct agon_config *c = l->config;
    bool apart = l->weights->fp8; /* the indexer's weights are in BF16 */
    const struct part input[] = {{"q_a_proj.weight", c->q_lora},
                                 {"kv_a_proj_with_mqa.weight", c->kv_lora + c->rope_dim},
                                 {"indexer.wk.weight", c->index_dim},
                                 {"indexer.weights_proj.weight", c->index_heads}};
    const struct part query[] = {{"q_b_proj.weight", c->n_heads * (c->nope_dim + c->rope_dim)},
                                 {"indexer.wq_b.weight", c->index_heads * c->index_dim}};
    const struct part output = {"o_proj.weight", c->hidden};
    int r;
    if ((r = load_vector(l, &to->q_a_norm, "q_a_layernorm.weight", c->q_lora)) ||
        (r = load_vector(l, &to->kv_a_norm, "kv_a_layernorm.weight", c->kv_lora)) ||
        (r = load_stack(l, &to->input, input,
                        !indexer ? 2
                        : apart  ? 3
                                 : 4,
                        c->hidden, 0, 1)) ||
        (r = load_stack(l, &to->query, query, indexer ? 2 : 1, c->q_lora, 0, 1)) ||
        (r = load_kv_b(l, to)) ||
        (r = load_stack(l, &to->output, &output, 1, c->n_heads * c->v_dim, 0, 1)) || !indexer)
        return r;
    if ((r = load_vector(l, &to->index_norm, "indexer.k_norm.weight", c->index_dim)) ||
        (r = load_vector(l, &to->index_bias, "indexer.k_norm.bias", c->index_dim)) || !apart)
        return r;
    return load_as(l, &to->index_weights, input[3].name, c->index_heads, c->hidden, AGON_BF16);
}

/* The `copy`-th of n_copies gated MLPs, which stand one above the other. */
static int load_mlp(struct loader *l, struct agon_cuda_matrix *gate_up,
                    struct agon_cuda_matrix *down, int inner, int copy, int n_copies)
{
    const struct part both[] = {{"gate_proj.weight", inner}, {"up_proj.weight", inner}};
    const struct part last = {"down_proj.weight", l->config->hidden};
    int r = load_stack(l, gate_up, both, 2, l->config->hidden, copy, n_copies);
    return r ? r : load_stack(l, down, &last, 1, inner, copy, n_copies);
}

/* In F32; FP8 mode keeps BF16 as BF16, which has the same products. */
static int load_router(struct loader *l, struct cuda_layer *to)
{
    const struct agon_config *c = l->config;
    const struct agon_tensor *t;
    int r = agon_tensor_scope_find(&t, &l->scope, "gate.weight", "", l->err);
    if (r)
        return r;
    enum agon_dtype dtype = l->weights->fp8 && t->dtype == AGON_BF16 ? AGON_BF16 : AGON_F32;
    if ((r = load_as(l, &to->router, "gate.weight", c->router.n_experts, c->hidden, dtype)))
        return r;
    return load_vector(l, &to->router_bias, "gate.e_score_correction_bias", c->router.n_experts);
}

void cuda_weights_part(int n_experts, int rank, int n_ranks, int *ret_first, int *ret_n)
{
    int first = (int)((long)n_experts * rank / n_ranks);
    *ret_first = first;
    *ret_n = (int)((long)n_experts * (rank + 1) / n_ranks) - first;
}

static int load_experts(struct loader *l, struct cuda_layer *to, int i)
{
    const struct agon_config *c = l->config;
    struct agon_cuda_moe *moe = &to->moe;
    int first, n, r;
    cuda_weights_part(c->router.n_experts, l->weights->rank, l->weights->n_ranks, &first, &n);
    int n_copies = n + (c->n_shared == 1 && !l->weights->fp8);
    agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.", i);
    if ((r = load_router(l, to)))
        return r;
    moe->n_experts = n;
    moe->hidden = c->hidden;
    moe->inner = c->expert_dim;
    moe->gate_up.n = n_copies * 2 * c->expert_dim; /* what there is, until the last has its place */
    moe->down.n = n_copies * c->hidden;
    for (int e = 0; e < n && r == 0; e++) {
        agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.experts.%d.", i, first + e);
        r = load_mlp(l, &moe->gate_up, &moe->down, c->expert_dim, e, n_copies);
    }
    agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.shared_experts.", i);
    if (r == 0 && n_copies > n)
        r = load_mlp(l, &moe->gate_up, &moe->down, c->expert_dim, n, n_copies);
    moe->gate_up.n = n * 2 * c->expert_dim;
    moe->down.n = n * c->hidden;
    if (r || c->n_shared == 0)
        return r;
    return load_mlp(l, &to->gate_up, &to->down, c->n_shared * c->expert_dim, 0, 1);
}

static int load_layer(struct loader *l, int i)
{
    const struct agon_config *c = l->config;
    struct cuda_layer *to = &l->weights->layers[i];
    int r;
    agon_tensor_scope_set(&l->scope, "model.layers.%d.", i);
    if ((r = load_vector(l, &to->attention_norm, "input_layernorm.weight", c->hidden)) ||
        (r = load_vector(l, &to->mlp_norm, "post_attention_layernorm.weight", c->hidden)))
        return r;
    agon_tensor_scope_set(&l->scope, "model.layers.%d.self_attn.", i);
    if ((r = load_attention(l, to, c->indexer[i])))
        return r;
    if (c->sparse[i])
        return load_experts(l, to, i);
    agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.", i);
    return load_mlp(l, &to->gate_up, &to->down, c->dense_dim, 0, 1);
}

static int load_all(struct loader *l)
{
    struct cuda_weights *w = l->weights;
    const struct agon_config *c = l->config;
    int r = load_frequencies(l);
    agon_tensor_scope_set(&l->scope, "model.");
    if (r ||
        (r = load_as(l, &w->embedding, "embed_tokens.weight", c->n_vocab, c->hidden,
                     wide_dtype(l))) ||
        (r = load_vector(l, &w->norm, "norm.weight", c->hidden)))
        return r;
    for (int i = 0; i < w->n_layers; i++)
        if ((r = load_layer(l, i)))
            return agon_err_in(l->err, r, "layer %d", i);
    agon_tensor_scope_set(&l->scope, "%s", "");
    if (w->tied)
        w->head = w->embedding;
    else if ((r = load_as(l, &w->head, "lm_head.weight", c->n_vocab, c->hidden, wide_dtype(l))))
        return r;
    return cuda_stream_finish(&l->stream, l->err);
}

int cuda_weights_replace(struct cuda_weights *w, const struct agon_checkpoint *checkpoint,
                         struct agon_err *err)
{
    struct loader l = {.weights = w,
                       .config = &checkpoint->config,
                       .scope = {.tensors = checkpoint->tensors},
                       .err = err};
    int r = cuda_stream_init(&l.stream, checkpoint->tensors, err);
    if (r == 0)
        r = load_all(&l);
    cuda_stream_deinit(&l.stream);
    return r;
}

int cuda_weights_init(struct cuda_weights *w, const struct agon_checkpoint *checkpoint,
                      const struct cuda_weights_options *options, struct agon_err *err)
{
    *w = (struct cuda_weights){.n_layers = checkpoint->config.n_layers,
                               .tied = checkpoint->config.tied,
                               .fast = options->fast,
                               .fp8 = options->fast && options->fp8,
                               .rank = options->rank,
                               .n_ranks = options->n_ranks ? options->n_ranks : 1};
    w->layers = calloc((size_t)w->n_layers, sizeof(*w->layers));
    if (!w->layers)
        return agon_fail(err, AGON_ENOMEM, "weights: out of memory");
    return cuda_weights_replace(w, checkpoint, err);
}

void cuda_weights_deinit(struct cuda_weights *w)
{
    for (int i = 0; w->layers && i < w->n_layers; i++) {
        struct cuda_layer *l = &w->layers[i];
        float *vectors[] = {l->attention_norm, l->mlp_norm,   l->q_a_norm,   l->kv_a_norm,
                            l->index_norm,     l->index_bias, l->router_bias};
        struct agon_cuda_matrix *matrices[] = {
            &l->input,  &l->index_weights, &l->query, &l->absorb,      &l->value,   &l->output,
            &l->router, &l->gate_up,       &l->down,  &l->moe.gate_up, &l->moe.down};
        for (size_t k = 0; k < sizeof(vectors) / sizeof(vectors[0]); k++)
            agon_cuda_free(vectors[k]);
        for (size_t k = 0; k < sizeof(matrices) / sizeof(matrices[0]); k++)
            agon_cuda_matrix_free(matrices[k]);
    }
    agon_cuda_matrix_free(&w->embedding);
    if (!w->tied)
        agon_cuda_matrix_free(&w->head);
    agon_cuda_free(w->norm);
    agon_cuda_free(w->inv_freq);
    free(w->layers);
    *w = (struct cuda_weights){0};
}
