/* Random checkpoints: see random_checkpoint.h. */
#include "tests/model/random_checkpoint.h"

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SHARD_BYTES_MAX = 1 << 30, TENSORS_MAX = 4096, SHARDS_MAX = 8 };

/* ---- safetensors -------------------------------------------------------------------- */

struct shard {
    struct agon_buf header, data;
};
struct writer {
    const struct random_checkpoint *r;
    struct agon_rng rng;
    struct shard shards[SHARDS_MAX];
    struct agon_buf map; /* of the index */
    int n_tensors;
};

static void header_add(struct writer *w, const char *name, const char *dtype, int n, int k,
                       size_t size)
{
    int i = w->n_tensors++ % w->r->n_shards;
    struct shard *s = &w->shards[i];
    agon_buf_addf(&s->header, "%s\"%s\": {\"dtype\": \"%s\", \"shape\": [%d",
                  s->header.size ? ", " : "", name, dtype, n);
    if (k > 0)
        agon_buf_addf(&s->header, ", %d", k);
    agon_buf_addf(&s->header, "], \"data_offsets\": [%zu, %zu]}", s->data.size - size,
                  s->data.size);
    agon_buf_addf(&w->map, "%s\"%s\": \"model-%d.safetensors\"", w->map.size ? ", " : "", name, i);
}

static struct agon_buf *data_of_next(struct writer *w)
{
    return &w->shards[w->n_tensors % w->r->n_shards].data;
}

static float draw(struct writer *w, float middle, float spread)
{
    return middle + spread * (float)(2 * agon_rng_real(&w->rng) - 1);
}

static void add_vector(struct writer *w, const char *name, int n, float middle, float spread)
{
    for (int i = 0; i < n; i++) {
        float x = draw(w, middle, spread);
        agon_buf_add(data_of_next(w), &x, sizeof(x));
    }
    header_add(w, name, "F32", n, 0, (size_t)n * 4);
}

/* The scales of blocks of values, and the codes. */
static void add_e4m3(struct writer *w, const char *name, const float *values, int n, int k)
{
    char scale_name[256];
    int blocks_n = (n + 127) / 128, blocks_k = (k + 127) / 128;
    float *scale = calloc((size_t)(blocks_n * blocks_k), sizeof(*scale));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            float *s = &scale[i / 128 * blocks_k + j / 128];
            *s = fmaxf(*s, fabsf(values[i * k + j]) / 448);
        }
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++)
            agon_buf_addc(
                data_of_next(w),
                (char)agon_e4m3_encode(values[i * k + j] / scale[i / 128 * blocks_k + j / 128]));
    header_add(w, name, "F8_E4M3", n, k, (size_t)n * (size_t)k);
    (void)snprintf(scale_name, sizeof(scale_name), "%s_scale_inv", name);
    agon_buf_add(data_of_next(w), scale, (size_t)(blocks_n * blocks_k) * sizeof(*scale));
    header_add(w, scale_name, "F32", blocks_n, blocks_k, (size_t)(blocks_n * blocks_k) * 4);
    free(scale);
}

/* Uniform with variance 1 / k. */
static void add_matrix(struct writer *w, const char *name, int n, int k, enum agon_dtype dtype)
{
    float *values = malloc((size_t)n * (size_t)k * sizeof(*values));
    for (int i = 0; i < n * k; i++)
        values[i] = draw(w, 0, sqrtf(3.0F / (float)k));
    if (dtype == AGON_E4M3) {
        add_e4m3(w, name, values, n, k);
    } else if (dtype == AGON_BF16) {
        for (int i = 0; i < n * k; i++) {
            uint16_t code = agon_bf16_encode(values[i]);
            agon_buf_add(data_of_next(w), &code, sizeof(code));
        }
        header_add(w, name, "BF16", n, k, (size_t)n * (size_t)k * 2);
    } else {
        agon_buf_add(data_of_next(w), values, (size_t)n * (size_t)k * sizeof(*values));
        header_add(w, name, "F32", n, k, (size_t)n * (size_t)k * 4);
    }
    free(values);
}

/* ---- the model's tensors ------------------------------------------------------------ */

static void add_mlp(struct writer *w, const char *prefix, int inner)
{
    static const char *const names[] = {"gate_proj", "up_proj", "down_proj"};
    char name[256];
    for (int i = 0; i < 3; i++) {
        (void)snprintf(name, sizeof(name), "%s%s.weight", prefix, names[i]);
        add_matrix(w, name, i < 2 ? inner : w->r->hidden, i < 2 ? w->r->hidden : inner,
                   w->r->dtype);
    }
}

static void add_attention(struct writer *w, int layer)
{
    const struct random_checkpoint *r = w->r;
    char name[256];
    /* Embedding and weights_proj are BF16 in the published FP8 checkpoints. */
    enum agon_dtype small = r->dtype == AGON_E4M3 ? AGON_BF16 : r->dtype;
    struct {
        const char *name;
        int n, k;
        enum agon_dtype dtype;
    } matrices[] = {
        {"q_a_proj", r->q_lora, r->hidden, r->dtype},
        {"q_b_proj", r->n_heads * (r->nope + r->rope), r->q_lora, r->dtype},
        {"kv_a_proj_with_mqa", r->kv_lora + r->rope, r->hidden, r->dtype},
        {"kv_b_proj", r->n_heads * (r->nope + r->v), r->kv_lora, r->dtype},
        {"o_proj", r->hidden, r->n_heads * r->v, r->dtype},
        {"indexer.wq_b", r->index_heads * r->index_dim, r->q_lora, r->dtype},
        {"indexer.wk", r->index_dim, r->hidden, r->dtype},
        {"indexer.weights_proj", r->index_heads, r->hidden, small},
    };
    for (size_t i = 0; i < sizeof(matrices) / sizeof(matrices[0]); i++) {
        (void)snprintf(name, sizeof(name), "model.layers.%d.self_attn.%s.weight", layer,
                       matrices[i].name);
        add_matrix(w, name, matrices[i].n, matrices[i].k, matrices[i].dtype);
    }
    struct {
        const char *name;
        int n;
        float middle;
    } vectors[] = {{"self_attn.q_a_layernorm.weight", r->q_lora, 1},
                   {"self_attn.kv_a_layernorm.weight", r->kv_lora, 1},
                   {"self_attn.indexer.k_norm.weight", r->index_dim, 1},
                   {"self_attn.indexer.k_norm.bias", r->index_dim, 0},
                   {"input_layernorm.weight", r->hidden, 1},
                   {"post_attention_layernorm.weight", r->hidden, 1}};
    for (size_t i = 0; i < sizeof(vectors) / sizeof(vectors[0]); i++) {
        (void)snprintf(name, sizeof(name), "model.layers.%d.%s", layer, vectors[i].name);
        add_vector(w, name, vectors[i].n, vectors[i].middle, 0.1F);
    }
}

static void add_layer(struct writer *w, int layer)
{
    const struct random_checkpoint *r = w->r;
    char name[256];
    add_attention(w, layer);
    (void)snprintf(name, sizeof(name), "model.layers.%d.mlp.", layer);
    if (layer < r->n_dense) {
        add_mlp(w, name, r->dense);
        return;
    }
    (void)snprintf(name, sizeof(name), "model.layers.%d.mlp.gate.weight", layer);
    add_matrix(w, name, r->n_experts, r->hidden, AGON_F32);
    (void)snprintf(name, sizeof(name), "model.layers.%d.mlp.gate.e_score_correction_bias", layer);
    add_vector(w, name, r->n_experts, 0, 0.3F);
    for (int e = 0; e < r->n_experts; e++) {
        (void)snprintf(name, sizeof(name), "model.layers.%d.mlp.experts.%d.", layer, e);
        add_mlp(w, name, r->expert);
    }
    (void)snprintf(name, sizeof(name), "model.layers.%d.mlp.shared_experts.", layer);
    if (r->n_shared > 0)
        add_mlp(w, name, r->n_shared * r->expert);
}

/* ---- config.json -------------------------------------------------------------------- */

static void config_add(struct agon_buf *b, const struct random_checkpoint *r)
{
    agon_buf_addf(
        b,
        "{\"architectures\": [\"DeepseekV32ForCausalLM\"], \"model_type\": \"deepseek_v32\", "
        "\"vocab_size\": %d, \"hidden_size\": %d, \"num_hidden_layers\": %d, "
        "\"num_attention_heads\": %d, \"num_key_value_heads\": %d, \"q_lora_rank\": %d, "
        "\"kv_lora_rank\": %d, \"qk_nope_head_dim\": %d, \"qk_rope_head_dim\": %d, "
        "\"v_head_dim\": %d, \"index_n_heads\": %d, \"index_head_dim\": %d, \"index_topk\": %d, "
        "\"intermediate_size\": %d, \"first_k_dense_replace\": %d, \"moe_intermediate_size\": %d, "
        "\"n_routed_experts\": %d, \"num_experts_per_tok\": %d, \"n_shared_experts\": %d, ",
        r->n_vocab, r->hidden, r->n_layers, r->n_heads, r->n_heads, r->q_lora, r->kv_lora, r->nope,
        r->rope, r->v, r->index_heads, r->index_dim, r->index_topk, r->dense, r->n_dense, r->expert,
        r->n_experts, r->top_k, r->n_shared);
    agon_buf_addf(b,
                  "\"n_group\": %d, \"topk_group\": %d, \"norm_topk_prob\": true, "
                  "\"routed_scaling_factor\": 1.5, \"scoring_func\": \"sigmoid\", "
                  "\"topk_method\": \"noaux_tc\", \"hidden_act\": \"silu\", "
                  "\"rms_norm_eps\": 1e-06, \"max_position_embeddings\": %d, "
                  "\"bos_token_id\": 0, \"eos_token_id\": 1, \"tie_word_embeddings\": %s, ",
                  r->n_group, r->topk_group, r->window, r->tied ? "true" : "false");
    const char *yarn = "\"factor\": 4.0, \"original_max_position_embeddings\": 64, "
                       "\"beta_fast\": 32, \"beta_slow\": 1, \"mscale\": 1.0, "
                       "\"mscale_all_dim\": 1.0";
    if (r->hub_spelling && r->yarn)
        agon_buf_addf(b, "\"rope_theta\": 10000, \"rope_scaling\": {\"type\": \"yarn\", %s}", yarn);
    else if (r->hub_spelling)
        agon_buf_adds(b, "\"rope_theta\": 10000, \"rope_scaling\": null");
    else
        agon_buf_addf(b, "\"rope_parameters\": {\"rope_theta\": 10000, \"rope_type\": \"%s\"%s%s}",
                      r->yarn ? "yarn" : "default", r->yarn ? ", " : "", r->yarn ? yarn : "");
    if (r->dtype == AGON_E4M3)
        agon_buf_adds(b, ", \"quantization_config\": {\"quant_method\": \"fp8\", \"fmt\": "
                         "\"e4m3\", \"weight_block_size\": [128, 128]}");
    agon_buf_addf(b, ", \"%s\": \"bfloat16\"}\n", r->hub_spelling ? "torch_dtype" : "dtype");
}

/* ---- tokenizer.json ----------------------------------------------------------------- */

const char v32_pre_tokenizer[] =
    "{\"type\": \"Sequence\", \"pretokenizers\": ["
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"\\\\p{N}{1,3}\"}, \"behavior\": "
    "\"Isolated\", "
    "\"invert\": false}, "
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": \"[一-龥\\u3040-ゟ゠-ヿ]+\"}, \"behavior\": "
    "\"Isolated\", \"invert\": false}, "
    "{\"type\": \"Split\", \"pattern\": {\"Regex\": "
    "\"[!\\\"#$%&'()*+,\\\\-./:;<=>?@\\\\[\\\\\\\\\\\\]^_`{|}~][A-Za-z]+|"
    "[^\\\\r\\\\n\\\\p{L}\\\\p{P}\\\\p{S}]?[\\\\p{L}\\\\p{M}]+| ?[\\\\p{P}\\\\p{S}]+[\\\\r\\\\n]*|"
    "\\\\s*[\\\\r\\\\n]+|\\\\s+(?!\\\\S)|\\\\s+\"}, \"behavior\": \"Isolated\", \"invert\": "
    "false}, "
    "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
    "\"use_regex\": false}]}";

void byte_alphabet_add(struct agon_buf *b, unsigned char byte)
{
    uint32_t code = byte, n_moved = 0;
    bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    for (int other = 0; !itself && other < byte; other++)
        n_moved +=
            !((other >= '!' && other <= '~') || (other >= 0xa1 && other <= 0xac) || other >= 0xae);
    if (!itself)
        code = 256 + n_moved;
    if (code == '"' || code == '\\')
        agon_buf_addc(b, '\\');
    agon_utf8_add(b, code);
}

static void alphabet_text_add(struct agon_buf *b, const char *text)
{
    for (; *text; text++)
        byte_alphabet_add(b, (unsigned char)*text);
}

static const char *const first_tokens[] = {"<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
                                           "<｜▁pad▁｜>"};
static const char *const control_tokens[] = {"<｜User｜>", "<｜Assistant｜>", "<think>", "</think>",
                                             "｜DSML｜"};

static void added_add(struct agon_buf *b, const char *text, int id)
{
    agon_buf_addf(b,
                  "%s{\"id\": %d, \"content\": \"%s\", \"single_word\": false, \"lstrip\": false, "
                  "\"rstrip\": false, \"normalized\": false, \"special\": %s}",
                  id ? ", " : "", id, text, id < 3 ? "true" : "false");
}

enum { TOKEN_SIZE = 12, MERGES_MOST = 4096 };

/* Draw pairs of earlier tokens (printable ASCII first) whose union is new and short. */
static int merges_draw(char (*tokens)[TOKEN_SIZE], int (*pairs)[2], int n_merges, uint64_t seed)
{
    struct agon_rng rng;
    agon_rng_init(&rng, seed);
    int n = 0;
    for (char c = ' '; c <= '~'; c++)
        (void)snprintf(tokens[n++], TOKEN_SIZE, "%c", c);
    int n_bytes = n;
    for (int tries = 0; n < n_bytes + n_merges && tries < 100 * n_merges; tries++) {
        int a = (int)agon_rng_below(&rng, (uint32_t)n), b = (int)agon_rng_below(&rng, (uint32_t)n);
        char joined[2 * TOKEN_SIZE];
        (void)snprintf(joined, sizeof(joined), "%s%s", tokens[a], tokens[b]);
        bool known = strlen(joined) >= TOKEN_SIZE;
        for (int i = 0; i < n && !known; i++)
            known = strcmp(tokens[i], joined) == 0;
        if (known)
            continue;
        memcpy(tokens[n], joined, TOKEN_SIZE);
        pairs[n - n_bytes][0] = a;
        pairs[n++ - n_bytes][1] = b;
    }
    return n - n_bytes;
}

void tokenizer_json_add(struct agon_buf *b, int n_merges, bool arrays, uint64_t seed)
{
    char(*tokens)[TOKEN_SIZE] = calloc(MERGES_MOST + 128, sizeof(*tokens));
    int(*pairs)[2] = calloc(MERGES_MOST, sizeof(*pairs));
    n_merges = merges_draw(tokens, pairs, n_merges, seed);
    int n_bytes = '~' - ' ' + 1, id = 3;
    agon_buf_adds(b, "{\"version\": \"1.0\", \"added_tokens\": [");
    for (int i = 0; i < 3; i++)
        added_add(b, first_tokens[i], i);
    for (int i = 0; i < 5; i++)
        added_add(b, control_tokens[i], 259 + n_merges + i);
    agon_buf_addf(b,
                  "], \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": []}, "
                  "\"pre_tokenizer\": %s, \"post_processor\": null, \"decoder\": {\"type\": "
                  "\"ByteLevel\"}, \"model\": {\"type\": \"BPE\", \"dropout\": null, "
                  "\"unk_token\": null, \"byte_fallback\": false, \"vocab\": {",
                  v32_pre_tokenizer);
    for (int i = 0; i < 3; i++)
        agon_buf_addf(b, "\"%s\": %d, ", first_tokens[i], i);
    for (int byte = 0; byte < 256; byte++, id++) {
        agon_buf_adds(b, byte ? ", \"" : "\"");
        byte_alphabet_add(b, (unsigned char)byte);
        agon_buf_addf(b, "\": %d", id);
    }
    for (int i = 0; i < n_merges; i++, id++) {
        agon_buf_adds(b, ", \"");
        alphabet_text_add(b, tokens[n_bytes + i]);
        agon_buf_addf(b, "\": %d", id);
    }
    agon_buf_adds(b, "}, \"merges\": [");
    for (int i = 0; i < n_merges; i++) {
        agon_buf_adds(b, i ? ", " : "");
        agon_buf_adds(b, arrays ? "[\"" : "\"");
        alphabet_text_add(b, tokens[pairs[i][0]]);
        agon_buf_adds(b, arrays ? "\", \"" : " ");
        alphabet_text_add(b, tokens[pairs[i][1]]);
        agon_buf_adds(b, arrays ? "\"]" : "\"");
    }
    agon_buf_adds(b, "]}}\n");
    free(tokens);
    free(pairs);
}

/* ---- the folder --------------------------------------------------------------------- */

static int write_file(const char *dir, const char *name, struct agon_str content,
                      struct agon_err *err)
{
    char path[4096];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return agon_file_write(path, content, false, err);
}

static int write_shard(const char *dir, const char *name, const struct shard *s,
                       struct agon_err *err)
{
    struct agon_buf file AGON_AUTO(agon_buf_deinit) = AGON_BUF(SHARD_BYTES_MAX);
    uint64_t size = s->header.size + 2;
    agon_buf_add(&file, &size, sizeof(size));
    agon_buf_addc(&file, '{');
    agon_buf_add_str(&file, agon_buf_str(&s->header));
    agon_buf_addc(&file, '}');
    agon_buf_add_str(&file, agon_buf_str(&s->data));
    int r = agon_buf_check(&file, name, err);
    return r ? r : write_file(dir, name, agon_buf_str(&file), err);
}

static int write_shards(const char *dir, const struct writer *w, struct agon_err *err)
{
    char name[64];
    int r = 0;
    if (w->r->n_shards == 1)
        return write_shard(dir, "model.safetensors", &w->shards[0], err);
    for (int i = 0; i < w->r->n_shards && r == 0; i++) {
        (void)snprintf(name, sizeof(name), "model-%d.safetensors", i);
        r = write_shard(dir, name, &w->shards[i], err);
    }
    struct agon_buf index AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 22);
    agon_buf_addf(&index, "{\"metadata\": {}, \"weight_map\": {%s}}\n", agon_buf_text(&w->map));
    return r ? r : write_file(dir, "model.safetensors.index.json", agon_buf_str(&index), err);
}

int random_checkpoint_write(const char *dir, const struct random_checkpoint *r,
                            struct agon_err *err)
{
    struct writer w = {.r = r, .map = AGON_BUF(1 << 22)};
    struct agon_buf config AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    struct agon_buf tokenizer AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    enum agon_dtype small = r->dtype == AGON_E4M3 ? AGON_BF16 : r->dtype;
    agon_rng_init(&w.rng, r->seed);
    for (int i = 0; i < r->n_shards; i++)
        w.shards[i] = (struct shard){AGON_BUF(1 << 24), AGON_BUF(SHARD_BYTES_MAX)};
    add_matrix(&w, "model.embed_tokens.weight", r->n_vocab, r->hidden, small);
    if (!r->tied)
        add_matrix(&w, "lm_head.weight", r->n_vocab, r->hidden, small);
    for (int i = 0; i < r->n_layers; i++)
        add_layer(&w, i);
    add_vector(&w, "model.norm.weight", r->hidden, r->silent ? 0 : 1, r->silent ? 0 : 0.1F);
    config_add(&config, r);
    tokenizer_json_add(&tokenizer, (r->n_tokens ? r->n_tokens : r->n_vocab) - 264, false, r->seed);

    int result = agon_dir_make(dir, err);
    if (result == 0)
        result = write_file(dir, "config.json", agon_buf_str(&config), err);
    if (result == 0)
        result = write_file(dir, "tokenizer.json", agon_buf_str(&tokenizer), err);
    if (result == 0)
        result = write_shards(dir, &w, err);
    for (int i = 0; i < r->n_shards; i++) {
        agon_buf_deinit(&w.shards[i].header);
        agon_buf_deinit(&w.shards[i].data);
    }
    agon_buf_deinit(&w.map);
    return result;
}

int random_checkpoint_load(struct agon_checkpoint **ret_checkpoint, const char *dir,
                           const struct random_checkpoint *r, struct agon_err *err)
{
    char made[] = "/tmp/agon-test-XXXXXX";
    struct agon_err ignored;
    if (!dir && !mkdtemp(made))
        return agon_fail(err, AGON_ESYS, "%s: %m", made);
    int result = random_checkpoint_write(dir ? dir : made, r, err);
    if (result == 0)
        result = agon_checkpoint_load(ret_checkpoint, dir ? dir : made, err);
    if (!dir && agon_dir_remove(made, result ? &ignored : err) && result == 0)
        result = AGON_ESYS;
    return result;
}
