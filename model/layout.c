/* See layout.h. */
#include "model/layout.h"

#include "base/json.h"
#include "model/jsontext.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { NAME_SIZE = 256, PREDICT_MAX = 16, CONFIG_BYTES_MAX = 4 << 20 };

struct walk {
    const struct agon_layout *layout;
    int (*fn)(void *user, const struct agon_expected *tensor);
    void *user;
    char prefix[NAME_SIZE];
    bool optional;
    int r; /* the first result that is not 0; nothing is called after it */
};

static void prefix(struct walk *w, const char *fmt, ...) AGON_PRINTF(2, 3);
static void prefix(struct walk *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(w->prefix, sizeof(w->prefix), fmt, ap); /* ours, and short */
    va_end(ap);
}

static void tensor(struct walk *w, const char *name, enum agon_tensor_kind kind, int n, int k)
{
    char full[2 * NAME_SIZE];
    (void)snprintf(full, sizeof(full), "%s%s", w->prefix, name); /* ours, and short */
    struct agon_expected expected = {
        .name = full, .kind = kind, .n = n, .k = k, .optional = w->optional};
    if (w->r == 0)
        w->r = w->fn(w->user, &expected);
}

static void mlp(struct walk *w, int inner)
{
    int hidden = w->layout->config.hidden;
    tensor(w, "gate_proj.weight", AGON_KIND_MATRIX, inner, hidden);
    tensor(w, "up_proj.weight", AGON_KIND_MATRIX, inner, hidden);
    tensor(w, "down_proj.weight", AGON_KIND_MATRIX, hidden, inner);
}

static void indexer(struct walk *w)
{
    const struct agon_config *c = &w->layout->config;
    tensor(w, "indexer.wq_b.weight", AGON_KIND_MATRIX, c->index_heads * c->index_dim, c->q_lora);
    tensor(w, "indexer.wk.weight", AGON_KIND_MATRIX, c->index_dim, c->hidden);
    tensor(w, "indexer.k_norm.weight", AGON_KIND_NORM, c->index_dim, 0);
    tensor(w, "indexer.k_norm.bias", AGON_KIND_BIAS, c->index_dim, 0);
    tensor(w, "indexer.weights_proj.weight", AGON_KIND_PLAIN, c->index_heads, c->hidden);
}

static void attention(struct walk *w, bool own_indexer)
{
    const struct agon_config *c = &w->layout->config;
    bool optional = w->optional;
    int qk = c->nope_dim + c->rope_dim;
    tensor(w, "q_a_proj.weight", AGON_KIND_MATRIX, c->q_lora, c->hidden);
    tensor(w, "q_a_layernorm.weight", AGON_KIND_NORM, c->q_lora, 0);
    tensor(w, "q_b_proj.weight", AGON_KIND_MATRIX, c->n_heads * qk, c->q_lora);
    tensor(w, "kv_a_proj_with_mqa.weight", AGON_KIND_MATRIX, c->kv_lora + c->rope_dim, c->hidden);
    tensor(w, "kv_a_layernorm.weight", AGON_KIND_NORM, c->kv_lora, 0);
    tensor(w, "kv_b_proj.weight", AGON_KIND_MATRIX, c->n_heads * (c->nope_dim + c->v_dim),
           c->kv_lora);
    tensor(w, "o_proj.weight", AGON_KIND_MATRIX, c->hidden, c->n_heads * c->v_dim);
    w->optional |= !own_indexer;
    indexer(w);
    w->optional = optional;
}

static void experts(struct walk *w, int i)
{
    const struct agon_config *c = &w->layout->config;
    prefix(w, "model.layers.%d.mlp.", i);
    tensor(w, "gate.weight", AGON_KIND_PLAIN, c->router.n_experts, c->hidden);
    tensor(w, "gate.e_score_correction_bias", AGON_KIND_BIAS, c->router.n_experts, 0);
    for (int e = 0; e < c->router.n_experts; e++) {
        prefix(w, "model.layers.%d.mlp.experts.%d.", i, e);
        mlp(w, c->expert_dim);
    }
    prefix(w, "model.layers.%d.mlp.shared_experts.", i);
    if (c->n_shared > 0)
        mlp(w, c->n_shared * c->expert_dim);
}

static void layer(struct walk *w, int i, bool sparse, bool own_indexer)
{
    const struct agon_config *c = &w->layout->config;
    prefix(w, "model.layers.%d.", i);
    tensor(w, "input_layernorm.weight", AGON_KIND_NORM, c->hidden, 0);
    tensor(w, "post_attention_layernorm.weight", AGON_KIND_NORM, c->hidden, 0);
    prefix(w, "model.layers.%d.self_attn.", i);
    attention(w, own_indexer);
    if (sparse) {
        experts(w, i);
        return;
    }
    prefix(w, "model.layers.%d.mlp.", i);
    mlp(w, c->dense_dim);
}

/* A block that predicts one token more: a layer of the last one's kind, and what joins it. */
static void predict(struct walk *w, int i)
{
    const struct agon_config *c = &w->layout->config;
    w->optional = true;
    layer(w, i, c->router.n_experts > 0, true);
    prefix(w, "model.layers.%d.", i);
    tensor(w, "eh_proj.weight", AGON_KIND_PLAIN, c->hidden, 2 * c->hidden);
    tensor(w, "enorm.weight", AGON_KIND_NORM, c->hidden, 0);
    tensor(w, "hnorm.weight", AGON_KIND_NORM, c->hidden, 0);
    tensor(w, "embed_tokens.weight", AGON_KIND_PLAIN, c->n_vocab, c->hidden);
    tensor(w, "shared_head.norm.weight", AGON_KIND_NORM, c->hidden, 0);
    tensor(w, "shared_head.head.weight", AGON_KIND_PLAIN, c->n_vocab, c->hidden);
    w->optional = false;
}

int agon_layout_each(const struct agon_layout *l,
                     int (*fn)(void *user, const struct agon_expected *tensor), void *user)
{
    const struct agon_config *c = &l->config;
    struct walk w = {.layout = l, .fn = fn, .user = user};
    tensor(&w, "model.embed_tokens.weight", AGON_KIND_PLAIN, c->n_vocab, c->hidden);
    for (int i = 0; i < c->n_layers; i++)
        layer(&w, i, c->sparse[i], c->indexer[i]);
    for (int i = 0; i < l->n_predict; i++)
        predict(&w, c->n_layers + i);
    prefix(&w, "%s", "");
    tensor(&w, "model.norm.weight", AGON_KIND_NORM, c->hidden, 0);
    if (!c->tied)
        tensor(&w, "lm_head.weight", AGON_KIND_PLAIN, c->n_vocab, c->hidden);
    return w.r;
}

int agon_layout_of(struct agon_layout *ret, const json_t *config, struct agon_err *err)
{
    struct agon_layout l = {0};
    int r = agon_config_parse(&l.config, config, err);
    if (r)
        return r;
    const json_t *n = json_object_get(config, "num_nextn_predict_layers");
    if (json_integer_value(n) < 0 || json_integer_value(n) > PREDICT_MAX)
        return agon_fail(err, AGON_EINPUT, "num_nextn_predict_layers: not from 0 to %d",
                         PREDICT_MAX);
    l.n_predict = (int)json_integer_value(n);
    const char *dtype =
        agon_json_text(config, "torch_dtype", agon_json_text(config, "dtype", "bfloat16"));
    l.as_f32 = strcmp(dtype, "float32") == 0;
    l.norms_f32 = l.as_f32 || strcmp(l.config.model_type, "deepseek_v32") == 0;
    *ret = l;
    return 0;
}

int agon_layout_load(struct agon_layout *ret, const char *dir, struct agon_err *err)
{
    char path[4096];
    json_t *config AGON_AUTO(agon_json_decrefp) = NULL;
    if ((size_t)snprintf(path, sizeof(path), "%s/config.json", dir) >= sizeof(path))
        return agon_fail(err, AGON_EINPUT, "'%.100s...': path too long", dir);
    int r = agon_json_load_file(&config, path, CONFIG_BYTES_MAX, err);
    if (r)
        return r; /* names the path */
    r = agon_layout_of(ret, config, err);
    return r ? agon_err_in(err, r, "%s", path) : 0;
}
