/* config.json: see config.h. Field meanings and real values: DeepSeek-V3.2's config.json and
 * transformers' models/deepseek_v32. */
#include "model/config.h"

#include "base/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { CONFIG_BYTES_MAX = 4 << 20, DIM_MAX = 1 << 20 };

/* ---- fields ------------------------------------------------------------------------- */

static int field_int(const json_t *root, const char *name, int64_t min, int64_t max, int *ret,
                     struct agon_err *err)
{
    const json_t *value = json_object_get(root, name);
    if (!json_is_integer(value))
        return agon_fail(err, AGON_EINPUT, "%s: %s", name, value ? "not an integer" : "missing");
    int64_t v = json_integer_value(value);
    if (v < min || v > max)
        return agon_fail(err, AGON_EINPUT, "%s: %lld is not from %lld to %lld", name, (long long)v,
                         (long long)min, (long long)max);
    *ret = (int)v;
    return 0;
}

static int field_int_or(const json_t *root, const char *name, int64_t min, int64_t max, int dflt,
                        int *ret, struct agon_err *err)
{
    const json_t *value = json_object_get(root, name);
    if (!value || json_is_null(value)) {
        *ret = dflt;
        return 0;
    }
    return field_int(root, name, min, max, ret, err);
}

static int field_real(const json_t *root, const char *name, double min, double max, double dflt,
                      double *ret, struct agon_err *err)
{
    const json_t *value = json_object_get(root, name);
    double v = value && !json_is_null(value) ? json_number_value(value) : dflt;
    if (value && !json_is_null(value) && !json_is_number(value))
        return agon_fail(err, AGON_EINPUT, "%s: not a number", name);
    if (isnan(v))
        return agon_fail(err, AGON_EINPUT, "%s: missing", name);
    if (v < min || v > max)
        return agon_fail(err, AGON_EINPUT, "%s: %g is not from %g to %g", name, v, min, max);
    *ret = v;
    return 0;
}

/* A field that this engine knows one value of; absent is fine. */
static int field_only(const json_t *root, const char *name, const char *only, struct agon_err *err)
{
    const json_t *value = json_object_get(root, name);
    const char *text = json_string_value(value);
    if (value && !json_is_null(value) && !text)
        return agon_fail(err, AGON_EINPUT, "%s: not a string (only '%s' is supported)", name, only);
    if (text && strcmp(text, only) != 0)
        return agon_fail(err, AGON_EINPUT, "%s: '%s' is not supported (only '%s')", name, text,
                         only);
    return 0;
}

/* Something else in the place of true and false would silently be another model. */
static int field_bool(const json_t *root, const char *name, bool dflt, bool *ret,
                      struct agon_err *err)
{
    const json_t *value = json_object_get(root, name);
    if (value && !json_is_null(value) && !json_is_boolean(value))
        return agon_fail(err, AGON_EINPUT, "%s: neither true nor false", name);
    *ret = json_is_boolean(value) ? json_is_true(value) : dflt;
    return 0;
}

static int field_not(const json_t *root, const char *name, bool refused, struct agon_err *err)
{
    bool value = !refused;
    int r = field_bool(root, name, !refused, &value, err);
    if (!r && value == refused)
        return agon_fail(err, AGON_EINPUT, "%s: %s is not supported", name,
                         refused ? "true" : "false");
    return r;
}

/* ---- parts -------------------------------------------------------------------------- */

static int config_dims(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    struct {
        const char *name;
        int min, max, *ret;
    } fields[] = {
        {"vocab_size", 1, 1 << 24, &c->n_vocab},
        {"hidden_size", 1, 1 << 16, &c->hidden},
        {"num_hidden_layers", 1, AGON_LAYERS_MAX, &c->n_layers},
        {"max_position_embeddings", 1, 1 << 24, &c->window},
        {"num_attention_heads", 1, 1024, &c->n_heads},
        {"q_lora_rank", 1, 1 << 16, &c->q_lora},
        {"kv_lora_rank", 1, 1 << 13, &c->kv_lora},
        {"qk_nope_head_dim", 1, 4096, &c->nope_dim},
        {"qk_rope_head_dim", 2, 4096, &c->rope_dim},
        {"v_head_dim", 1, 4096, &c->v_dim},
        {"index_n_heads", 1, 1024, &c->index_heads},
        {"index_head_dim", 2, 4096, &c->index_dim},
        {"index_topk", 1, 1 << 16, &c->index_topk},
        {"intermediate_size", 1, DIM_MAX, &c->dense_dim},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        int r = field_int(root, fields[i].name, fields[i].min, fields[i].max, fields[i].ret, err);
        if (r)
            return r;
    }
    if (c->rope_dim % 2 || c->rope_dim > c->index_dim)
        return agon_fail(err, AGON_EINPUT,
                         "qk_rope_head_dim: %d is odd, or larger than index_head_dim (%d)",
                         c->rope_dim, c->index_dim);
    return 0;
}

/* mlp_layer_types ("dense" or "sparse" for each layer) stands for first_k_dense_replace. */
static int config_layers(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    const json_t *types = json_object_get(root, "mlp_layer_types");
    if (!json_is_array(types)) {
        int first, r = field_int(root, "first_k_dense_replace", 0, AGON_LAYERS_MAX, &first, err);
        int freq = 1;
        if (r || (r = field_int_or(root, "moe_layer_freq", 1, 1, 1, &freq, err)))
            return r;
        for (int i = first; i < c->n_layers; i++)
            c->sparse[i] = true;
        return 0;
    }
    if (json_array_size(types) != (size_t)c->n_layers)
        return agon_fail(err, AGON_EINPUT, "mlp_layer_types: %zu entries for %d layers",
                         json_array_size(types), c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (!type || (strcmp(type, "dense") != 0 && strcmp(type, "sparse") != 0))
            return agon_fail(err, AGON_EINPUT, "mlp_layer_types[%d]: neither dense nor sparse", i);
        c->sparse[i] = strcmp(type, "sparse") == 0;
    }
    return 0;
}

static int config_experts(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    bool any = false;
    for (int i = 0; i < c->n_layers; i++)
        any |= c->sparse[i];
    if (!any)
        return 0;
    struct agon_router *router = &c->router;
    double scale;
    int r;
    if ((r = field_int(root, "n_routed_experts", 1, AGON_EXPERTS_MAX, &router->n_experts, err)) ||
        (r = field_int(root, "num_experts_per_tok", 1, AGON_EXPERT_TOPK_MAX, &router->top_k,
                       err)) ||
        (r = field_int(root, "moe_intermediate_size", 1, DIM_MAX, &c->expert_dim, err)) ||
        (r = field_int_or(root, "n_shared_experts", 0, 64, 0, &c->n_shared, err)) ||
        (r = field_int_or(root, "n_group", 1, router->n_experts, 1, &router->n_group, err)) ||
        (r = field_int_or(root, "topk_group", 1, router->n_group, 1, &router->topk_group, err)) ||
        (r = field_real(root, "routed_scaling_factor", -1e6, 1e6, 1, &scale, err)) ||
        (r = field_only(root, "scoring_func", "sigmoid", err)) ||
        (r = field_only(root, "topk_method", "noaux_tc", err)) ||
        (r = field_bool(root, "norm_topk_prob", true, &router->normalise, err)))
        return r;
    router->scale = (float)scale;
    if (router->n_experts % router->n_group)
        return agon_fail(err, AGON_EINPUT, "n_group: %d does not divide n_routed_experts (%d)",
                         router->n_group, router->n_experts);
    if (router->top_k > router->n_experts / router->n_group * router->topk_group)
        return agon_fail(err, AGON_EINPUT, "num_experts_per_tok: %d, but %d groups hold only %d",
                         router->top_k, router->topk_group,
                         router->n_experts / router->n_group * router->topk_group);
    return 0;
}

/* Where rope is described; a missed nested rope_theta would silently give a wrong model. */
static int config_rope(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    const json_t *nested = json_object_get(root, "rope_parameters");
    if (!json_is_object(nested))
        nested = json_object_get(root, "rope_scaling");
    if (nested && !json_is_null(nested) && !json_is_object(nested))
        return agon_fail(err, AGON_EINPUT, "rope_scaling: not an object");
    struct agon_rope *rope = &c->rope;
    rope->dim = c->rope_dim;
    const json_t *theta = json_object_get(nested, "rope_theta") ? nested : root;
    int r = field_real(theta, "rope_theta", 1.0001, 1e12, NAN, &rope->theta, err);
    if (r)
        return r;
    const char *type =
        agon_json_text(nested, "rope_type", agon_json_text(nested, "type", "default"));
    if (strcmp(type, "default") == 0)
        return 0;
    if (strcmp(type, "yarn") != 0)
        return agon_fail(err, AGON_EINPUT, "rope type '%s' is not supported (default, yarn)", type);
    double mscale;
    rope->yarn = true;
    if ((r = field_real(nested, "factor", 1, 1e6, NAN, &rope->factor, err)) ||
        (r = field_real(nested, "beta_fast", 1e-3, 1e6, 32, &rope->beta_fast, err)) ||
        (r = field_real(nested, "beta_slow", 1e-3, 1e6, 1, &rope->beta_slow, err)) ||
        (r = field_real(nested, "mscale_all_dim", 0, 100, 0, &rope->mscale_all_dim, err)) ||
        (r = field_real(nested, "mscale", 0, 100, 1, &mscale, err)) ||
        (r = field_real(nested, "original_max_position_embeddings", 1, 1 << 24, NAN,
                        &rope->original_positions, err)))
        return r;
    if (mscale != rope->mscale_all_dim)
        return agon_fail(err, AGON_EINPUT,
                         "rope: mscale %g and mscale_all_dim %g differ, which is not supported",
                         mscale, rope->mscale_all_dim);
    return 0;
}

static int config_quantization(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    const json_t *quantization = json_object_get(root, "quantization_config");
    if (!quantization || json_is_null(quantization))
        return 0;
    const json_t *block = json_object_get(quantization, "weight_block_size");
    int r;
    if ((r = field_only(quantization, "quant_method", "fp8", err)) ||
        (r = field_only(quantization, "fmt", "e4m3", err)))
        return agon_err_in(err, r, "quantization_config");
    if (json_integer_value(json_array_get(block, 0)) != AGON_SCALE_BLOCK ||
        json_integer_value(json_array_get(block, 1)) != AGON_SCALE_BLOCK)
        return agon_fail(err, AGON_EINPUT, "quantization_config: weight_block_size is not [%d, %d]",
                         AGON_SCALE_BLOCK, AGON_SCALE_BLOCK);
    c->fp8 = true;
    return 0;
}

static int config_tokens(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    int r = field_int_or(root, "bos_token_id", 0, c->n_vocab - 1, -1, &c->bos, err);
    const json_t *eos = json_object_get(root, "eos_token_id");
    if (r)
        return r;
    if (json_is_array(eos)) {
        if (json_array_size(eos) > AGON_EOS_MAX)
            return agon_fail(err, AGON_EINPUT, "eos_token_id: more than %d", AGON_EOS_MAX);
        for (size_t i = 0; i < json_array_size(eos); i++) {
            const json_t *one = json_array_get(eos, i);
            int64_t id = json_integer_value(one);
            if (!json_is_integer(one) || id < 0 || id >= c->n_vocab)
                return agon_fail(err, AGON_EINPUT, "eos_token_id[%zu]: not an id from 0 to %d", i,
                                 c->n_vocab - 1);
            c->eos[c->n_eos++] = (int)id;
        }
        return 0;
    }
    if ((r = field_int_or(root, "eos_token_id", 0, c->n_vocab - 1, -1, &c->eos[0], err)))
        return r;
    c->n_eos = c->eos[0] >= 0;
    return 0;
}

/* Which layers have an indexer of their own: GLM-5.2's indexer_types; else all. */
static int config_indexers(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    const json_t *types = json_object_get(root, "indexer_types");
    static const char *const unread[] = {"index_topk_pattern", "index_topk_freq"};
    for (size_t i = 0; i < 2 && !json_is_array(types); i++) {
        const json_t *schedule = json_object_get(root, unread[i]);
        if (schedule && !json_is_null(schedule) && json_integer_value(schedule) != 1)
            return agon_fail(err, AGON_EINPUT, "%s: not supported without indexer_types",
                             unread[i]);
    }
    for (int i = 0; i < c->n_layers; i++)
        c->indexer[i] = true;
    if (!json_is_array(types))
        return 0;
    if (json_array_size(types) != (size_t)c->n_layers)
        return agon_fail(err, AGON_EINPUT, "indexer_types: %zu entries for %d layers",
                         json_array_size(types), c->n_layers);
    for (int i = 0; i < c->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, (size_t)i));
        if (!type || (strcmp(type, "full") != 0 && (strcmp(type, "shared") != 0 || i == 0)))
            return agon_fail(err, AGON_EINPUT, "indexer_types[%d]: neither full nor shared", i);
        c->indexer[i] = strcmp(type, "full") == 0;
    }
    return 0;
}

/* ---- the whole ---------------------------------------------------------------------- */

static int config_type(struct agon_config *c, const json_t *root, struct agon_err *err)
{
    const char *type = agon_json_text(root, "model_type", "");
    const char *architecture =
        json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
    bool known = strcmp(type, "deepseek_v32") == 0 || strcmp(type, "glm_moe_dsa") == 0;
    if (!known)
        return agon_fail(err, AGON_EINPUT,
                         "unknown architecture '%s' (model_type '%s'): this engine runs "
                         "deepseek_v32 and glm_moe_dsa",
                         architecture ? architecture : "", type);
    (void)snprintf(c->model_type, sizeof(c->model_type), "%s", type); /* one of the known, fits */
    c->index_interleaved = strcmp(type, "glm_moe_dsa") == 0;
    int r;
    if ((r = field_bool(root, "indexer_rope_interleave", c->index_interleaved,
                        &c->index_interleaved, err)) ||
        (r = field_bool(root, "tie_word_embeddings", false, &c->tied, err)) ||
        (r = field_only(root, "hidden_act", "silu", err)) ||
        (r = field_not(root, "attention_bias", true, err)) ||
        (r = field_not(root, "mlp_bias", true, err)) ||
        (r = field_not(root, "rope_interleave", false, err)))
        return r;
    return 0;
}

int agon_config_sparse_layers(const struct agon_config *c)
{
    int n = 0;
    for (int i = 0; i < c->n_layers; i++)
        n += c->sparse[i];
    return n;
}

int agon_config_indexers(const struct agon_config *c)
{
    int n = 0;
    for (int i = 0; i < c->n_layers; i++)
        n += c->indexer[i];
    return n;
}

const char *agon_config_difference(const struct agon_config *a, const struct agon_config *b)
{
    const struct agon_router *ra = &a->router, *rb = &b->router;
    const struct agon_rope *pa = &a->rope, *pb = &b->rope;
    const struct {
        const char *name;
        double a, b;
    } fields[] = {
        {"vocab_size", a->n_vocab, b->n_vocab},
        {"hidden_size", a->hidden, b->hidden},
        {"num_hidden_layers", a->n_layers, b->n_layers},
        {"max_position_embeddings", a->window, b->window},
        {"num_attention_heads", a->n_heads, b->n_heads},
        {"q_lora_rank", a->q_lora, b->q_lora},
        {"kv_lora_rank", a->kv_lora, b->kv_lora},
        {"qk_nope_head_dim", a->nope_dim, b->nope_dim},
        {"qk_rope_head_dim", a->rope_dim, b->rope_dim},
        {"v_head_dim", a->v_dim, b->v_dim},
        {"index_n_heads", a->index_heads, b->index_heads},
        {"index_head_dim", a->index_dim, b->index_dim},
        {"index_topk", a->index_topk, b->index_topk},
        {"indexer_rope_interleave", a->index_interleaved, b->index_interleaved},
        {"intermediate_size", a->dense_dim, b->dense_dim},
        {"moe_intermediate_size", a->expert_dim, b->expert_dim},
        {"n_shared_experts", a->n_shared, b->n_shared},
        {"n_routed_experts", ra->n_experts, rb->n_experts},
        {"num_experts_per_tok", ra->top_k, rb->top_k},
        {"n_group", ra->n_group, rb->n_group},
        {"topk_group", ra->topk_group, rb->topk_group},
        {"norm_topk_prob", ra->normalise, rb->normalise},
        {"routed_scaling_factor", (double)ra->scale, (double)rb->scale},
        {"rms_norm_eps", (double)a->norm_eps, (double)b->norm_eps},
        {"tie_word_embeddings", a->tied, b->tied},
        {"rope_theta", pa->theta, pb->theta},
        {"rope type", pa->yarn, pb->yarn},
        {"rope factor", pa->factor, pb->factor},
        {"rope beta_fast", pa->beta_fast, pb->beta_fast},
        {"rope beta_slow", pa->beta_slow, pb->beta_slow},
        {"rope mscale_all_dim", pa->mscale_all_dim, pb->mscale_all_dim},
        {"original_max_position_embeddings", pa->original_positions, pb->original_positions},
    };
    if (strcmp(a->model_type, b->model_type) != 0)
        return "model_type";
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        if (fields[i].a != fields[i].b) /* read from the same text, so equal or not */
            return fields[i].name;
    for (int i = 0; i < a->n_layers; i++)
        if (a->sparse[i] != b->sparse[i] || a->indexer[i] != b->indexer[i])
            return "schedule of layers";
    return NULL;
}

int agon_config_parse(struct agon_config *ret, const json_t *root, struct agon_err *err)
{
    struct agon_config c = {0};
    double eps;
    int r;
    if (!json_is_object(root))
        return agon_fail(err, AGON_EINPUT, "not a JSON object");
    if ((r = config_type(&c, root, err)) || (r = config_dims(&c, root, err)) ||
        (r = config_layers(&c, root, err)) || (r = config_experts(&c, root, err)) ||
        (r = config_rope(&c, root, err)) || (r = config_quantization(&c, root, err)) ||
        (r = config_tokens(&c, root, err)) || (r = config_indexers(&c, root, err)) ||
        (r = field_real(root, "rms_norm_eps", 0, 1, NAN, &eps, err)))
        return r;
    c.norm_eps = (float)eps;
    *ret = c;
    return 0;
}

int agon_config_load(struct agon_config *ret, const char *dir, struct agon_err *err)
{
    char path[4096];
    if ((size_t)snprintf(path, sizeof(path), "%s/config.json", dir) >= sizeof(path))
        return agon_fail(err, AGON_EINPUT, "'%.100s...': path too long", dir);
    json_t *root = NULL;
    int r = agon_json_load_file(&root, path, CONFIG_BYTES_MAX, err);
    if (r)
        return r; /* names the path */
    r = agon_config_parse(ret, root, err);
    json_decref(root);
    return r ? agon_err_in(err, r, "%s", path) : 0;
}
