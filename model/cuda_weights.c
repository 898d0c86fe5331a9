/* Weights to the device: see cuda_weights.h. */
#include "model/cuda_weights.h"

#include <stdlib.h>
#include <string.h>

/* What is under way: each array is made where it is missing, and filled. */
struct uploader {
    struct cuda_weights *weights;
    const struct agon_config *config;
    bool fast;
    void *host; /* owned: one array, row-major */
    size_t host_size;
    struct agon_err *err;
};

/* ---- one array ---------------------------------------------------------------------- */

static int host_reserve(struct uploader *u, size_t bytes)
{
    if (bytes <= u->host_size)
        return 0;
    free(u->host);
    u->host_size = 0;
    u->host = malloc(bytes);
    if (!u->host)
        return agon_fail(u->err, AGON_ENOMEM, "weights: no memory for %zu bytes", bytes);
    u->host_size = bytes;
    return 0;
}

/* *to, made where it is NULL, gets the bytes. */
static int upload(struct uploader *u, void **to, const void *from, size_t bytes)
{
    int r;
    if (!*to) {
        if ((r = agon_cuda_alloc(to, bytes, u->err)))
            return agon_err_in(u->err, r, "weights");
        u->weights->bytes += bytes;
    }
    if ((r = agon_cuda_copy(*to, from, bytes, NULL, u->err)))
        return r;
    return agon_cuda_sync(NULL, u->err);
}

static int upload_floats(struct uploader *u, float **to, const float *from, int n)
{
    void *device = *to;
    int r = upload(u, &device, from, (size_t)n * sizeof(*from));
    *to = device;
    return r;
}

/* ---- one matrix --------------------------------------------------------------------- */

/* A row as `as`: F32 or BF16. */
static void row_put(void *to, enum agon_dtype as, const struct agon_matrix *w, int i, float *row)
{
    agon_matrix_row(w, i, as == AGON_F32 ? to : row);
    for (int j = 0; as == AGON_BF16 && j < w->k; j++)
        ((uint16_t *)to)[j] = agon_bf16_encode(row[j]);
}

/* All rows of w to *at, which moves on. */
static void matrix_put(char **at, enum agon_dtype as, const struct agon_matrix *w, float *row)
{
    for (int i = 0; i < w->n; i++, *at += (size_t)w->k * agon_dtype_size(as))
        row_put(*at, as, w, i, row);
}

/*
 * n matrices of k inputs, one above the other; those of `from` stand `stride` bytes apart (they are
 * members of an array of structs). `last` comes behind them, or is NULL.
 */
static int upload_stack(struct uploader *u, struct agon_cuda_matrix *to,
                        const struct agon_matrix *from, size_t stride, int n,
                        const struct agon_matrix *last, enum agon_dtype as)
{
    size_t rows = (size_t)from->n * (size_t)n + (size_t)(last ? last->n : 0);
    size_t bytes = rows * (size_t)from->k * agon_dtype_size(as);
    int r = host_reserve(u, bytes);
    float *row = malloc((size_t)from->k * sizeof(*row));
    if (r == 0 && !row)
        r = agon_fail(u->err, AGON_ENOMEM, "weights: out of memory");
    char *at = u->host;
    for (int m = 0; m < n && r == 0; m++)
        matrix_put(
            &at, as,
            (const struct agon_matrix *)(const void *)((const char *)from + (size_t)m * stride),
            row);
    if (last && r == 0)
        matrix_put(&at, as, last, row);
    free(row);
    if (r || (r = upload(u, &to->data, u->host, bytes)))
        return r;
    to->n = (int)rows;
    to->k = from->k;
    to->dtype = as;
    to->ld = (size_t)from->k;
    return 0;
}

static enum agon_dtype weights_dtype(const struct uploader *u)
{
    return u->fast ? AGON_BF16 : AGON_F32;
}

/* n matrices of one shape, and behind them one more, which is not counted. */
static int upload_array(struct uploader *u, struct agon_cuda_matrix *to,
                        const struct agon_matrix *from, size_t stride, int n,
                        const struct agon_matrix *more)
{
    int r = upload_stack(u, to, from, stride, n, more, weights_dtype(u));
    to->n = from->n * n;
    return r;
}

static int upload_matrix(struct uploader *u, struct agon_cuda_matrix *to,
                         const struct agon_matrix *from)
{
    return upload_stack(u, to, from, 0, 1, NULL, weights_dtype(u));
}

/* ---- layers ------------------------------------------------------------------------- */

static int upload_attention(struct uploader *u, struct cuda_layer *to,
                            const struct agon_layer *from, bool indexer)
{
    const struct agon_config *c = u->config;
    int r;
    if ((r = upload_floats(u, &to->q_a_norm, from->q_a_norm, c->q_lora)) ||
        (r = upload_floats(u, &to->kv_a_norm, from->kv_a_norm, c->kv_lora)) ||
        (r = upload_stack(u, &to->input, &from->input, 0, 1, indexer ? &from->index_weights : NULL,
                          weights_dtype(u))) ||
        (r = upload_matrix(u, &to->query, &from->query)) ||
        (r = upload_array(u, &to->absorb, from->absorb, sizeof(*from->absorb), c->n_heads, NULL)) ||
        (r = upload_array(u, &to->value, from->value, sizeof(*from->value), c->n_heads, NULL)) ||
        (r = upload_matrix(u, &to->output, &from->output)) || !indexer)
        return r;
    r = upload_floats(u, &to->index_norm, from->index_norm, c->index_dim);
    return r ? r : upload_floats(u, &to->index_bias, from->index_bias, c->index_dim);
}

void cuda_weights_part(int n_experts, int rank, int n_ranks, int *ret_first, int *ret_n)
{
    int first = (int)((long)n_experts * rank / n_ranks);
    *ret_first = first;
    *ret_n = (int)((long)n_experts * (rank + 1) / n_ranks) - first;
}

static int upload_experts(struct uploader *u, struct cuda_layer *to, const struct agon_layer *from)
{
    const struct agon_config *c = u->config;
    int r, n, first;
    size_t stride = sizeof(*from->experts);
    bool one = c->n_shared == 1;
    cuda_weights_part(c->router.n_experts, u->weights->rank, u->weights->n_ranks, &first, &n);
    const struct agon_mlp *experts = from->experts + first;
    to->moe.n_experts = n;
    to->moe.hidden = c->hidden;
    to->moe.inner = c->expert_dim;
    if ((r = upload_stack(u, &to->router, &from->router, 0, 1, NULL, AGON_F32)) ||
        (r = upload_floats(u, &to->router_bias, from->router_bias, c->router.n_experts)) ||
        (r = upload_array(u, &to->moe.gate_up, &experts->gate_up, stride, n,
                          one ? &from->shared.gate_up : NULL)) ||
        (r = upload_array(u, &to->moe.down, &experts->down, stride, n,
                          one ? &from->shared.down : NULL)) ||
        c->n_shared == 0)
        return r;
    r = upload_matrix(u, &to->gate_up, &from->shared.gate_up);
    return r ? r : upload_matrix(u, &to->down, &from->shared.down);
}

static int upload_layer(struct uploader *u, int i, const struct agon_layer *from)
{
    const struct agon_config *c = u->config;
    struct cuda_layer *to = &u->weights->layers[i];
    int r;
    if ((r = upload_floats(u, &to->attention_norm, from->attention_norm, c->hidden)) ||
        (r = upload_floats(u, &to->mlp_norm, from->mlp_norm, c->hidden)) ||
        (r = upload_attention(u, to, from, c->indexer[i])))
        return r;
    if (c->sparse[i])
        return upload_experts(u, to, from);
    r = upload_matrix(u, &to->gate_up, &from->dense.gate_up);
    return r ? r : upload_matrix(u, &to->down, &from->dense.down);
}

static int upload_frequencies(struct uploader *u)
{
    size_t half = (size_t)u->config->rope_dim / 2;
    double *inv_freq = malloc((half ? half : 1) * sizeof(*inv_freq));
    if (!inv_freq)
        return agon_fail(u->err, AGON_ENOMEM, "weights: out of memory");
    agon_rope_frequencies(inv_freq, &u->config->rope);
    void *device = u->weights->inv_freq;
    int r = upload(u, &device, inv_freq, half * sizeof(*inv_freq));
    u->weights->inv_freq = device;
    free(inv_freq);
    return r;
}

static int upload_all(struct uploader *u, const struct agon_checkpoint *from)
{
    struct cuda_weights *w = u->weights;
    int r;
    if ((r = upload_frequencies(u)) || (r = upload_matrix(u, &w->embedding, &from->embedding)) ||
        (r = upload_floats(u, &w->norm, from->norm, u->config->hidden)))
        return r;
    for (int i = 0; i < w->n_layers; i++)
        if ((r = upload_layer(u, i, &from->layers[i])))
            return agon_err_in(u->err, r, "layer %d", i);
    if (!w->tied)
        return upload_matrix(u, &w->head, &from->head);
    w->head = w->embedding;
    return 0;
}

int cuda_weights_replace(struct cuda_weights *w, const struct agon_checkpoint *checkpoint,
                         struct agon_err *err)
{
    struct uploader u = {.weights = w,
                         .config = &checkpoint->config,
                         .fast = w->embedding.dtype == AGON_BF16,
                         .err = err};
    int r = upload_all(&u, checkpoint);
    free(u.host);
    return r;
}

int cuda_weights_init(struct cuda_weights *w, const struct agon_checkpoint *checkpoint, bool fast,
                      int rank, int n_ranks, struct agon_err *err)
{
    *w = (struct cuda_weights){.n_layers = checkpoint->config.n_layers,
                               .rank = rank,
                               .n_ranks = n_ranks,
                               .tied = checkpoint->config.tied};
    w->layers = calloc((size_t)w->n_layers, sizeof(*w->layers));
    if (!w->layers)
        return agon_fail(err, AGON_ENOMEM, "weights: out of memory");
    struct uploader u = {.weights = w, .config = &checkpoint->config, .fast = fast, .err = err};
    int r = upload_all(&u, checkpoint);
    free(u.host);
    return r;
}

void cuda_weights_deinit(struct cuda_weights *w)
{
    for (int i = 0; w->layers && i < w->n_layers; i++) {
        struct cuda_layer *l = &w->layers[i];
        void *arrays[] = {l->attention_norm,  l->mlp_norm,     l->q_a_norm,    l->kv_a_norm,
                          l->index_norm,      l->index_bias,   l->router_bias, l->input.data,
                          l->query.data,      l->absorb.data,  l->value.data,  l->output.data,
                          l->router.data,     l->gate_up.data, l->down.data,   l->moe.down.data,
                          l->moe.gate_up.data};
        for (size_t k = 0; k < sizeof(arrays) / sizeof(arrays[0]); k++)
            agon_cuda_free(arrays[k]);
    }
    agon_cuda_free(w->embedding.data);
    if (!w->tied)
        agon_cuda_free(w->head.data);
    agon_cuda_free(w->norm);
    agon_cuda_free(w->inv_freq);
    free(w->layers);
    *w = (struct cuda_weights){0};
}
