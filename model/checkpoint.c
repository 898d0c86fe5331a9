/* Loading weights: see checkpoint.h. Tensor names: engine.md 2, from the published listing. */
#include "model/checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct loader {
    struct agon_tensor_scope scope;
    struct agon_checkpoint *checkpoint;
    const struct agon_config *config;
    struct agon_err *err;
};

/* ---- one tensor --------------------------------------------------------------------- */

/* Find prefix + name and check its shape; n_dims is 1 or 2. */
static int tensor_expect(struct loader *l, const struct agon_tensor **ret, const char *name,
                         int n_dims, int64_t rows, int64_t columns)
{
    char shape[128], expected[64];
    const struct agon_tensor *t;
    int r = agon_tensor_scope_find(&t, &l->scope, name, "", l->err);
    if (r)
        return r;
    if (t->n_dims != n_dims || t->dims[0] != rows || (n_dims == 2 && t->dims[1] != columns)) {
        agon_tensor_shape(t, shape, sizeof(shape));
        (void)snprintf(expected, sizeof(expected), n_dims == 2 ? "[%lld, %lld]" : "[%lld]",
                       (long long)rows, (long long)columns); /* fits */
        return agon_fail(l->err, AGON_EINPUT, "%s: tensor '%s' is %s, config.json makes it %s",
                         agon_tensors_file(l->scope.tensors, t), t->name, shape, expected);
    }
    if (!t->readable)
        return agon_fail(l->err, AGON_EINPUT,
                         "%s: tensor '%s' has a dtype that is none of F32, BF16, F16, F8_E4M3",
                         agon_tensors_file(l->scope.tensors, t), t->name);
    *ret = t;
    return 0;
}

static int tensor_bytes(struct loader *l, void **ret, const struct agon_tensor *t)
{
    void *data = malloc(t->size ? t->size : 1);
    if (!data)
        return agon_fail(l->err, AGON_ENOMEM, "tensor '%s': no memory for %llu bytes", t->name,
                         (unsigned long long)t->size);
    int r = agon_tensor_read(l->scope.tensors, t, data, l->err);
    if (r)
        free(data);
    else
        *ret = data;
    return r;
}

/* What has no scales is not in E4M3. */
static int check_plain(struct loader *l, const struct agon_tensor *t)
{
    return t->dtype == AGON_E4M3
               ? agon_fail(l->err, AGON_EINPUT, "%s: tensor '%s' is F8_E4M3, expected F32 or BF16",
                           agon_tensors_file(l->scope.tensors, t), t->name)
               : 0;
}

static int load_vector(struct loader *l, float **ret, const char *name, int n)
{
    const struct agon_tensor *t;
    int r = tensor_expect(l, &t, name, 1, n, 0);
    if (r == 0 && l->checkpoint->open_only)
        r = check_plain(l, t);
    else if (r == 0)
        r = agon_tensor_floats(l->scope.tensors, t, ret, l->err);
    if (r)
        return r;
    l->checkpoint->n_parameters += (uint64_t)n;
    l->checkpoint->n_active += (uint64_t)n;
    return 0;
}

/* A weight [n][k] as a source for packing; frees with source_deinit(). */
struct loaded {
    struct agon_matrix_source source;
    void *data;
    float *scale;
};

static void loaded_deinit(struct loaded *from)
{
    free(from->data);
    free(from->scale);
}

static int load_source(struct loader *l, struct loaded *ret, const char *name, int n, int k)
{
    const struct agon_tensor *t, *scale;
    struct loaded from = {.source = {.n = n, .stride_n = (size_t)k, .stride_k = 1}};
    bool data = !l->checkpoint->open_only;
    int r = tensor_expect(l, &t, name, 2, n, k);
    if (r || (data && (r = tensor_bytes(l, &from.data, t))))
        return r;
    from.source.dtype = t->dtype;
    from.source.data = from.data;
    if (t->dtype == AGON_E4M3) {
        char scale_name[sizeof(l->scope.prefix)];
        int blocks_n = (n + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
        int blocks_k = (k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
        (void)snprintf(scale_name, sizeof(scale_name), "%s_scale_inv", name); /* ours, short */
        if ((r = tensor_expect(l, &scale, scale_name, 2, blocks_n, blocks_k)) ||
            (r = check_plain(l, scale)) ||
            (data && (r = agon_tensor_floats(l->scope.tensors, scale, &from.scale, l->err)))) {
            loaded_deinit(&from);
            return r;
        }
        from.source.scale = from.scale;
        from.source.scale_ld = blocks_k;
    }
    *ret = from;
    return 0;
}

/* ---- one matrix --------------------------------------------------------------------- */

struct part {
    const char *name;
    int n;
};

static int matrix_pack(struct loader *l, struct agon_matrix *w, int k,
                       const struct agon_matrix_source *sources, int n_sources, bool as_f32,
                       const char *name)
{
    if (l->checkpoint->open_only)
        return 0;
    int r = agon_matrix_init(w, k, sources, n_sources, as_f32, l->err);
    if (r)
        return agon_err_in(l->err, r, "tensor '%s%s'", l->scope.prefix, name);
    l->checkpoint->bytes += agon_matrix_bytes(w);
    return 0;
}

/* Stack parts of k inputs into w. */
static int load_stack(struct loader *l, struct agon_matrix *w, const struct part *parts,
                      int n_parts, int k, bool as_f32)
{
    struct loaded loaded[AGON_MATRIX_SOURCES_MAX] = {0};
    struct agon_matrix_source sources[AGON_MATRIX_SOURCES_MAX];
    int r = 0, i;
    for (i = 0; i < n_parts && r == 0; i++) {
        if ((r = load_source(l, &loaded[i], parts[i].name, parts[i].n, k)))
            break;
        sources[i] = loaded[i].source;
        l->checkpoint->n_parameters += (uint64_t)parts[i].n * (uint64_t)k;
    }
    if (r == 0)
        r = matrix_pack(l, w, k, sources, n_parts, as_f32, parts[0].name);
    for (i = 0; i < n_parts; i++)
        loaded_deinit(&loaded[i]);
    return r;
}

static int load_matrix(struct loader *l, struct agon_matrix *w, const char *name, int n, int k)
{
    int r = load_stack(l, w, &(struct part){name, n}, 1, k, false);
    if (r == 0)
        l->checkpoint->n_active += (uint64_t)n * (uint64_t)k;
    return r;
}

static int load_mlp(struct loader *l, struct agon_mlp *mlp, int inner)
{
    const struct part gate_up[] = {{"gate_proj.weight", inner}, {"up_proj.weight", inner}};
    const struct part down = {"down_proj.weight", l->config->hidden};
    int r = load_stack(l, &mlp->gate_up, gate_up, 2, l->config->hidden, false);
    return r ? r : load_stack(l, &mlp->down, &down, 1, inner, false);
}

/*
 * kv_b [n_heads][nope + v][kv_lora]: of each head, rows 0..nope are W_UK and the rest W_UV.
 * W_UK is packed transposed, so that q_nope W_UK is a matmul like any other; its block scales
 * then run along the wrong axis, so FP8 becomes F32 here (a small part of the model).
 */
static int load_kv_b(struct loader *l, struct agon_layer *layer)
{
    const struct agon_config *c = l->config;
    int per_head = c->nope_dim + c->v_dim;
    static const char name[] = "kv_b_proj.weight";
    struct loaded from = {0};
    uint64_t n_values = (uint64_t)(c->n_heads * per_head) * (uint64_t)c->kv_lora;
    l->checkpoint->n_parameters += n_values;
    l->checkpoint->n_active += n_values;
    if (l->checkpoint->open_only)
        return load_source(l, &from, name, c->n_heads * per_head, c->kv_lora);
    layer->absorb = calloc((size_t)c->n_heads, sizeof(*layer->absorb));
    layer->value = calloc((size_t)c->n_heads, sizeof(*layer->value));
    if (!layer->absorb || !layer->value)
        return agon_fail(l->err, AGON_ENOMEM, "out of memory");
    int r = load_source(l, &from, name, c->n_heads * per_head, c->kv_lora);
    struct agon_matrix whole = {0};
    if (r == 0) /* floats, so that any view of them can be packed */
        r = agon_matrix_init(&whole, c->kv_lora, &from.source, 1, true, l->err);
    loaded_deinit(&from);
    float *rows = r ? NULL : malloc((size_t)whole.n * (size_t)whole.k * sizeof(*rows));
    if (r == 0 && !rows)
        r = agon_fail(l->err, AGON_ENOMEM, "tensor '%s%s': out of memory", l->scope.prefix, name);
    for (int i = 0; r == 0 && i < whole.n; i++)
        agon_matrix_row(&whole, i, rows + (size_t)i * (size_t)whole.k);
    for (int h = 0; r == 0 && h < c->n_heads; h++) {
        const float *uk = rows + (size_t)(h * per_head) * (size_t)c->kv_lora;
        const float *uv = uk + (size_t)c->nope_dim * (size_t)c->kv_lora;
        struct agon_matrix_source absorb = {
            .n = c->kv_lora, .data = uk, .stride_n = 1, .stride_k = (size_t)c->kv_lora};
        struct agon_matrix_source value = {
            .n = c->v_dim, .data = uv, .stride_n = (size_t)c->kv_lora, .stride_k = 1};
        r = matrix_pack(l, &layer->absorb[h], c->nope_dim, &absorb, 1, true, name);
        if (r == 0)
            r = matrix_pack(l, &layer->value[h], c->kv_lora, &value, 1, true, name);
    }
    free(rows);
    agon_matrix_deinit(&whole);
    return r;
}

/* ---- layers ------------------------------------------------------------------------- */

static int load_attention(struct loader *l, struct agon_layer *layer, bool indexer)
{
    const struct agon_config *c = l->config;
    int qk = c->n_heads * (c->nope_dim + c->rope_dim);
    const struct part input[] = {{"q_a_proj.weight", c->q_lora},
                                 {"kv_a_proj_with_mqa.weight", c->kv_lora + c->rope_dim},
                                 {"indexer.wk.weight", c->index_dim}};
    const struct part query[] = {{"q_b_proj.weight", qk},
                                 {"indexer.wq_b.weight", c->index_heads * c->index_dim}};
    int r;
    if ((r = load_stack(l, &layer->input, input, indexer ? 3 : 2, c->hidden, false)) ||
        (r = load_vector(l, &layer->q_a_norm, "q_a_layernorm.weight", c->q_lora)) ||
        (r = load_vector(l, &layer->kv_a_norm, "kv_a_layernorm.weight", c->kv_lora)) ||
        (r = load_stack(l, &layer->query, query, indexer ? 2 : 1, c->q_lora, false)) ||
        (r = load_kv_b(l, layer)) ||
        (r = load_matrix(l, &layer->output, "o_proj.weight", c->hidden, c->n_heads * c->v_dim)))
        return r;
    for (int i = 0; i < (indexer ? 3 : 2); i++)
        l->checkpoint->n_active += (uint64_t)input[i].n * (uint64_t)c->hidden;
    for (int i = 0; i < (indexer ? 2 : 1); i++)
        l->checkpoint->n_active += (uint64_t)query[i].n * (uint64_t)c->q_lora;
    if (!indexer)
        return 0;
    if ((r = load_vector(l, &layer->index_norm, "indexer.k_norm.weight", c->index_dim)) ||
        (r = load_vector(l, &layer->index_bias, "indexer.k_norm.bias", c->index_dim)) ||
        (r = load_matrix(l, &layer->index_weights, "indexer.weights_proj.weight", c->index_heads,
                         c->hidden)))
        return r;
    return 0;
}

static uint64_t mlp_parameters(const struct agon_config *c, int inner)
{
    return 3 * (uint64_t)c->hidden * (uint64_t)inner;
}

static int load_experts(struct loader *l, struct agon_layer *layer, int i)
{
    const struct agon_config *c = l->config;
    const struct part gate = {"gate.weight", c->router.n_experts};
    int r;
    agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.", i);
    if ((r = load_stack(l, &layer->router, &gate, 1, c->hidden, true)) ||
        (r = load_vector(l, &layer->router_bias, "gate.e_score_correction_bias",
                         c->router.n_experts)))
        return r;
    layer->experts = calloc((size_t)c->router.n_experts, sizeof(*layer->experts));
    if (!layer->experts)
        return agon_fail(l->err, AGON_ENOMEM, "out of memory");
    for (int e = 0; e < c->router.n_experts; e++) {
        agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.experts.%d.", i, e);
        if ((r = load_mlp(l, &layer->experts[e], c->expert_dim)))
            return r;
    }
    l->checkpoint->n_active += (uint64_t)c->router.n_experts * (uint64_t)c->hidden +
                               mlp_parameters(c, (c->router.top_k + c->n_shared) * c->expert_dim);
    if (c->n_shared == 0)
        return 0;
    agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.shared_experts.", i);
    return load_mlp(l, &layer->shared, c->n_shared * c->expert_dim);
}

static int load_layer(struct loader *l, struct agon_layer *layer, int i)
{
    const struct agon_config *c = l->config;
    int r;
    agon_tensor_scope_set(&l->scope, "model.layers.%d.", i);
    if ((r = load_vector(l, &layer->attention_norm, "input_layernorm.weight", c->hidden)) ||
        (r = load_vector(l, &layer->mlp_norm, "post_attention_layernorm.weight", c->hidden)))
        return r;
    agon_tensor_scope_set(&l->scope, "model.layers.%d.self_attn.", i);
    if ((r = load_attention(l, layer, c->indexer[i])))
        return r;
    if (c->sparse[i])
        return load_experts(l, layer, i);
    agon_tensor_scope_set(&l->scope, "model.layers.%d.mlp.", i);
    l->checkpoint->n_active += mlp_parameters(c, c->dense_dim);
    return load_mlp(l, &layer->dense, c->dense_dim);
}

/* Indexers with parts that this engine does not know would run, and be wrong. */
static int check_unknown(const struct loader *l)
{
    static const char *const known[] = {"wq_b.weight", "wk.weight", "k_norm.weight", "k_norm.bias",
                                        "weights_proj.weight"};
    for (size_t i = 0; i < agon_tensors_count(l->scope.tensors); i++) {
        const char *name = agon_tensors_at(l->scope.tensors, i)->name;
        const char *part = strstr(name, ".indexer.");
        int layer;
        if (!part || sscanf(name, "model.layers.%d.", &layer) != 1 || layer >= l->config->n_layers)
            continue;
        part += strlen(".indexer.");
        bool found = false;
        for (size_t k = 0; k < sizeof(known) / sizeof(known[0]); k++)
            found |= strncmp(part, known[k], strlen(known[k])) == 0;
        if (!found)
            return agon_fail(l->err, AGON_EINPUT,
                             "tensor '%.200s': this engine knows no such part of an indexer", name);
    }
    return 0;
}

static int load_all(struct loader *l)
{
    struct agon_checkpoint *made = l->checkpoint;
    const struct agon_config *c = l->config;
    int r = check_unknown(l);
    agon_tensor_scope_set(&l->scope, "model.");
    if (r || (r = load_matrix(l, &made->embedding, "embed_tokens.weight", c->n_vocab, c->hidden)) ||
        (r = load_vector(l, &made->norm, "norm.weight", c->hidden)))
        return r;
    made->layers = calloc((size_t)c->n_layers, sizeof(*made->layers));
    if (!made->layers)
        return agon_fail(l->err, AGON_ENOMEM, "out of memory");
    for (int i = 0; i < c->n_layers; i++)
        if ((r = load_layer(l, &made->layers[i], i)))
            return r;
    if (c->tied)
        return 0;
    made->n_active -= (uint64_t)c->n_vocab * (uint64_t)c->hidden; /* a token reads one row of it */
    agon_tensor_scope_set(&l->scope, "%s", "");
    return load_matrix(l, &made->head, "lm_head.weight", c->n_vocab, c->hidden);
}

static int checkpoint_make(struct agon_checkpoint **ret, const char *dir, bool open_only,
                           struct agon_err *err)
{
    struct agon_checkpoint *made AGON_AUTO(agon_checkpoint_freep) = calloc(1, sizeof(*made));
    if (!made)
        return agon_fail(err, AGON_ENOMEM, "checkpoint: out of memory");
    int r = agon_config_load(&made->config, dir, err);
    if (r || (r = agon_tensors_open(&made->tensors, dir, err)))
        return agon_err_in(err, r, "checkpoint");
    made->open_only = open_only;
    struct loader l = {.scope = {.tensors = made->tensors},
                       .checkpoint = made,
                       .config = &made->config,
                       .err = err};
    if ((r = load_all(&l)))
        return agon_err_in(err, r, "checkpoint: %s", dir);
    *ret = AGON_STEAL(made);
    return 0;
}

int agon_checkpoint_load(struct agon_checkpoint **ret, const char *dir, struct agon_err *err)
{
    return checkpoint_make(ret, dir, false, err);
}

int agon_checkpoint_open(struct agon_checkpoint **ret, const char *dir, struct agon_err *err)
{
    return checkpoint_make(ret, dir, true, err);
}

const struct agon_matrix *agon_checkpoint_head(const struct agon_checkpoint *c)
{
    return c->config.tied ? &c->embedding : &c->head;
}

int agon_checkpoint_replace(struct agon_checkpoint *c, const char *dir, struct agon_err *err)
{
    struct agon_checkpoint *fresh AGON_AUTO(agon_checkpoint_freep) = NULL;
    int r = checkpoint_make(&fresh, dir, c->open_only, err);
    if (r)
        return r;
    const char *differs = agon_config_difference(&c->config, &fresh->config);
    if (differs)
        return agon_fail(err, AGON_EINPUT, "checkpoint: %s: another %s than the weights in use",
                         dir, differs);
    struct agon_checkpoint old = *c;
    *c = *fresh;
    *fresh = old; /* freed */
    return 0;
}

static void mlp_deinit(struct agon_mlp *mlp)
{
    agon_matrix_deinit(&mlp->gate_up);
    agon_matrix_deinit(&mlp->down);
}

static void layer_deinit(struct agon_layer *layer, const struct agon_config *c)
{
    float *vectors[] = {layer->attention_norm, layer->mlp_norm,   layer->q_a_norm,
                        layer->kv_a_norm,      layer->index_norm, layer->index_bias,
                        layer->router_bias};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++)
        free(vectors[i]);
    for (int h = 0; h < c->n_heads; h++) {
        if (layer->absorb)
            agon_matrix_deinit(&layer->absorb[h]);
        if (layer->value)
            agon_matrix_deinit(&layer->value[h]);
    }
    for (int e = 0; layer->experts && e < c->router.n_experts; e++)
        mlp_deinit(&layer->experts[e]);
    free(layer->absorb);
    free(layer->value);
    free(layer->experts);
    mlp_deinit(&layer->dense);
    mlp_deinit(&layer->shared);
    agon_matrix_deinit(&layer->input);
    agon_matrix_deinit(&layer->query);
    agon_matrix_deinit(&layer->output);
    agon_matrix_deinit(&layer->index_weights);
    agon_matrix_deinit(&layer->router);
}

void agon_checkpoint_free(struct agon_checkpoint *c)
{
    if (!c)
        return;
    for (int i = 0; c->layers && i < c->config.n_layers; i++)
        layer_deinit(&c->layers[i], &c->config);
    agon_matrix_deinit(&c->embedding);
    agon_matrix_deinit(&c->head);
    agon_tensors_free(c->tensors);
    free(c->layers);
    free(c->norm);
    free(c);
}
