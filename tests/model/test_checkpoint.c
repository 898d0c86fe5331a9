/* Checkpoint folders: every form that is read, and each way in which one can be wrong. */
#include "base/file.h"
#include "base/json.h"
#include "model/checkpoint.h"
#include "model/dequantize.h"
#include "model/engine.h"
#include "model/safetensors.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <stdlib.h>
#include <unistd.h>

static const struct random_checkpoint small = {.seed = 5,
                                               .n_vocab = 300,
                                               .hidden = 40,
                                               .n_layers = 3,
                                               .n_heads = 3,
                                               .q_lora = 24,
                                               .kv_lora = 20,
                                               .nope = 10,
                                               .rope = 6,
                                               .v = 14,
                                               .index_heads = 3,
                                               .index_dim = 9,
                                               .index_topk = 8,
                                               .window = 256,
                                               .dense = 50,
                                               .n_dense = 1,
                                               .expert = 18,
                                               .n_experts = 6,
                                               .top_k = 2,
                                               .n_shared = 1,
                                               .n_group = 3,
                                               .topk_group = 2,
                                               .dtype = AGON_F32,
                                               .n_shards = 1};

static char dir[64];

static bool folder_make(const struct random_checkpoint *r)
{
    struct agon_err err;
    (void)snprintf(dir, sizeof(dir), "/tmp/agon-test-XXXXXX");
    if (!mkdtemp(dir) || random_checkpoint_write(dir, r, &err)) {
        printf("# %s: %s\n", dir, err.text);
        test_failures++;
        return false;
    }
    return true;
}

static void folder_remove(void)
{
    struct agon_err err;
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

static const char *in_folder(const char *name)
{
    static char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static bool loads(struct agon_checkpoint **ret)
{
    struct agon_err err;
    if (agon_checkpoint_load(ret, dir, &err) == 0)
        return true;
    printf("# %s\n", err.text);
    return false;
}

static void refused(const char *reason, const char *also)
{
    struct agon_err err = {0};
    struct agon_checkpoint *c = NULL;
    EXPECT(agon_checkpoint_load(&c, dir, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, reason);
    EXPECT_HAS(err.text, also);
    EXPECT(!strchr(err.text, '\n'));
    agon_checkpoint_free(c);
}

/* Replace `from`, which must occur, by `to` of the same length in a file. */
static void patch(const char *name, const char *from, const char *to)
{
    struct agon_err err;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
    REQUIRE(agon_file_read(&b, in_folder(name), 1 << 26, &err) == 0);
    REQUIRE(strlen(from) == strlen(to));
    char *at = memmem(b.data, b.size, from, strlen(from));
    REQUIRE(at);
    memcpy(at, to, strlen(to));
    EXPECT(agon_file_write(in_folder(name), agon_buf_str(&b), false, &err) == 0);
}

TEST(every_layout_loads_with_the_same_weights)
{
    struct agon_checkpoint *first = NULL, *other = NULL;
    REQUIRE(folder_make(&small));
    REQUIRE(loads(&first));
    folder_remove();
    EXPECT(first->config.router.n_group == 3 && first->config.sparse[1] &&
           !first->config.sparse[0]);
    struct random_checkpoint variant = small;
    variant.n_shards = 3;
    variant.hub_spelling = true;
    REQUIRE(folder_make(&variant));
    REQUIRE(loads(&other));
    folder_remove();
    EXPECT(other->config.rope.theta == 10000);
    EXPECT(agon_matrix_at(&first->layers[2].experts[5].down, 7, 3) ==
           agon_matrix_at(&other->layers[2].experts[5].down, 7, 3));
    EXPECT(first->n_parameters == other->n_parameters);
    agon_checkpoint_free(first);
    agon_checkpoint_free(other);
}

TEST(stacked_and_split_matrices_hold_the_published_rows)
{
    struct agon_checkpoint *c = NULL;
    struct agon_tensors *t = NULL;
    struct agon_err err;
    REQUIRE(folder_make(&small));
    REQUIRE(loads(&c));
    REQUIRE(agon_tensors_open(&t, dir, &err) == 0);
    const struct agon_tensor *kv_b =
        agon_tensors_find(t, "model.layers.1.self_attn.kv_b_proj.weight");
    const struct agon_tensor *wk =
        agon_tensors_find(t, "model.layers.1.self_attn.indexer.wk.weight");
    REQUIRE(kv_b && wk);
    float *values = malloc(kv_b->size), *key = malloc(wk->size);
    REQUIRE(agon_tensor_read(t, kv_b, values, &err) == 0 &&
            agon_tensor_read(t, wk, key, &err) == 0);
    /* head 2: rows 48..57 are W_UK, 58..71 W_UV */
    EXPECT(agon_matrix_at(&c->layers[1].absorb[2], 19, 4) == values[(48 + 4) * 20 + 19]);
    EXPECT(agon_matrix_at(&c->layers[1].value[2], 13, 6) == values[(58 + 13) * 20 + 6]);
    EXPECT(agon_matrix_at(&c->layers[1].input, 24 + 26 + 5, 39) == key[5 * 40 + 39]);
    free(values), free(key);
    agon_tensors_free(t);
    agon_checkpoint_free(c);
    folder_remove();
}

TEST(fp8_blocks_are_scaled_with_partial_blocks_at_the_edges)
{
    struct random_checkpoint r = small;
    r.dtype = AGON_E4M3;
    r.hidden = 200;
    r.kv_lora = 130; /* kv_a has 136 rows: two row blocks, the last of 8 */
    struct agon_checkpoint *c = NULL, *exact = NULL;
    REQUIRE(folder_make(&r));
    REQUIRE(loads(&c));
    folder_remove();
    r.dtype = AGON_F32;
    REQUIRE(folder_make(&r));
    REQUIRE(loads(&exact));
    folder_remove();
    EXPECT(c->layers[1].input.dtype == AGON_E4M3);
    double worst = 0, largest = 0;
    for (int i = 0; i < c->layers[1].input.n; i++)
        for (int j = 0; j < 200; j++) {
            double x = agon_matrix_at(&exact->layers[1].input, i, j);
            worst = fmax(worst, fabs(agon_matrix_at(&c->layers[1].input, i, j) - x));
            largest = fmax(largest, fabs(x));
        }
    EXPECT(worst > 0 && worst < largest / 16); /* three bits of mantissa */
    agon_checkpoint_free(c);
    agon_checkpoint_free(exact);
}

TEST(the_bf16_twin_holds_the_rounded_products_of_codes_and_scales)
{
    struct random_checkpoint r = small;
    struct agon_checkpoint *c = NULL, *twin = NULL;
    struct agon_err err;
    char out[80];
    r.dtype = AGON_E4M3;
    r.hidden = 200;
    r.n_shards = 2;
    REQUIRE(folder_make(&r));
    (void)snprintf(out, sizeof(out), "%s/twin", dir);
    if (!EXPECT(agon_dequantize(dir, out, &err) == 0))
        printf("# %s\n", err.text);
    REQUIRE(loads(&c));
    REQUIRE(agon_checkpoint_load(&twin, out, &err) == 0);
    EXPECT(c->config.fp8 && !twin->config.fp8);
    const struct agon_matrix *a = &c->layers[2].experts[1].gate_up,
                             *b = &twin->layers[2].experts[1].gate_up;
    REQUIRE(a->dtype == AGON_E4M3 && b->dtype == AGON_BF16 && a->n == b->n);
    for (int i = 0; i < a->n; i++)
        for (int j = 0; j < a->k; j++)
            EXPECT(agon_bf16_decode(agon_bf16_encode(agon_matrix_at(a, i, j))) ==
                   agon_matrix_at(b, i, j));
    EXPECT(c->norm[3] == twin->norm[3]);
    agon_checkpoint_free(c);
    agon_checkpoint_free(twin);
    patch("model-0.safetensors", "up_proj.weight_scale_inv", "up_proj.weight_scale_xxx");
    EXPECT(agon_dequantize(dir, out, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "weight_scale");
    folder_remove();
}

TEST(bf16_and_tied_checkpoints_load)
{
    struct random_checkpoint r = small;
    struct agon_checkpoint *c = NULL;
    r.dtype = AGON_BF16;
    r.tied = true;
    r.yarn = true;
    REQUIRE(folder_make(&r));
    REQUIRE(loads(&c));
    EXPECT(agon_checkpoint_head(c) == &c->embedding && c->config.rope.yarn);
    EXPECT(c->layers[0].output.dtype == AGON_BF16);
    agon_checkpoint_free(c);
    folder_remove();
}

TEST(layers_past_the_last_are_ignored)
{
    struct agon_checkpoint *c = NULL;
    REQUIRE(folder_make(&small));
    patch("config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 2");
    EXPECT(loads(&c)); /* layer 2 now stands where MTP does */
    agon_checkpoint_free(c);
    folder_remove();
}

TEST(a_wrong_shape_names_tensor_file_found_and_expected)
{
    REQUIRE(folder_make(&small));
    patch("config.json", "\"q_lora_rank\": 24", "\"q_lora_rank\": 25");
    refused("model.safetensors: tensor 'model.layers.0.self_attn.q_a_proj.weight' is [24, 40]",
            "config.json makes it [25, 40]");
    folder_remove();
}

TEST(broken_files_are_refused_in_one_line)
{
    REQUIRE(folder_make(&small));
    patch("model.safetensors", "model.norm.weight", "model.nOrm.weight");
    refused("tensor 'model.norm.weight' is missing", dir);
    patch("model.safetensors", "model.nOrm.weight", "model.norm.weight");

    patch("config.json", "\"deepseek_v32\"", "\"deepseek_v99\"");
    refused("unknown architecture", "deepseek_v99");
    patch("config.json", "\"deepseek_v99\"", "\"deepseek_v32\"");

    patch("config.json", "\"index_topk\": 8", "\"index_topk\": 0");
    refused("index_topk: 0 is not from 1", "config.json");
    patch("config.json", "\"index_topk\": 0", "\"index_topk\": 8");

    patch("config.json", "rope_theta", "rope_thexa");
    refused("rope_theta: missing", "config.json");
    patch("config.json", "rope_thexa", "rope_theta");

    patch("model.safetensors", "indexer.k_norm.bias", "indexer.kpool_.bias");
    refused("knows no such part", "kpool_");
    patch("model.safetensors", "indexer.kpool_.bias", "indexer.k_norm.bias");

    struct agon_checkpoint *c = NULL;
    EXPECT(loads(&c)); /* whole again: each refusal above had one cause */
    agon_checkpoint_free(c);
    folder_remove();
}

TEST(truncated_and_overlong_files_are_refused)
{
    struct agon_err err;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
    REQUIRE(folder_make(&small));
    REQUIRE(agon_file_read(&b, in_folder("model.safetensors"), 1 << 26, &err) == 0);
    static const size_t cuts[] = {0, 7, 8, 100, 20000};
    for (size_t i = 0; i < 5; i++) {
        struct agon_str part = {b.data, cuts[i]};
        REQUIRE(agon_file_write(in_folder("model.safetensors"), part, false, &err) == 0);
        refused("truncated", "model.safetensors");
    }
    struct agon_str cut = {b.data, b.size - 1};
    REQUIRE(agon_file_write(in_folder("model.safetensors"), cut, false, &err) == 0);
    refused("truncated: tensor", "the file at");
    agon_buf_addc(&b, 0);
    REQUIRE(agon_file_write(in_folder("model.safetensors"), agon_buf_str(&b), false, &err) == 0);
    refused("1 bytes follow the last tensor", "model.safetensors");
    b.data[7] = 127; /* a header of 2^62 bytes */
    REQUIRE(agon_file_write(in_folder("model.safetensors"), agon_buf_str(&b), false, &err) == 0);
    refused("no safetensors, or truncated", "model.safetensors");
    EXPECT(unlink(in_folder("model.safetensors")) == 0);
    struct agon_checkpoint *c = NULL;
    EXPECT(agon_checkpoint_load(&c, dir, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "model.safetensors");
    folder_remove();
}

TEST(headers_that_lie_about_data_are_refused)
{
    REQUIRE(folder_make(&small));
    patch("model.safetensors", "\"shape\": [300, 40]", "\"shape\": [300, 41]");
    refused("do not fit its shape", "model.embed_tokens.weight");
    patch("model.safetensors", "\"shape\": [300, 41]", "\"shape\": [300, -4]");
    refused("bad shape", "model.embed_tokens.weight");
    folder_remove();
}

/* A file of this header and so many bytes of data. */
static void write_tensors(const char *header, size_t n_bytes)
{
    struct agon_err err;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    uint64_t size = strlen(header);
    agon_buf_add(&b, &size, sizeof(size));
    agon_buf_adds(&b, header);
    for (size_t i = 0; i < n_bytes; i++)
        agon_buf_addc(&b, 0);
    EXPECT(agon_file_write(in_folder("model.safetensors"), agon_buf_str(&b), false, &err) == 0);
}

TEST(tensors_that_overlap_or_leave_gaps_are_refused)
{
    static const struct {
        const char *second, *reason;
    } cases[] = {{"[4, 8]", NULL},
                 {"[5, 9]", "gap or overlaps"},
                 {"[0, 4]", "gap or overlaps"},
                 {"[2, 6]", "gap or overlaps"},
                 {"[8, 4]", "do not fit"}};
    struct agon_err err;
    (void)snprintf(dir, sizeof(dir), "/tmp/agon-test-XXXXXX");
    REQUIRE(mkdtemp(dir));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct agon_tensors *t AGON_AUTO(agon_tensors_freep) = NULL;
        char header[256];
        (void)snprintf(header, sizeof(header),
                       "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}, "
                       "\"b\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": %s}}",
                       cases[i].second);
        write_tensors(header, 9 - (i != 1));
        int r = agon_tensors_open(&t, dir, &err);
        EXPECT(r == (cases[i].reason ? AGON_EINPUT : 0));
        if (cases[i].reason)
            EXPECT_HAS(err.text, cases[i].reason);
    }
    folder_remove();
}

TEST(an_index_can_not_leave_the_folder)
{
    struct random_checkpoint r = small;
    r.n_shards = 2;
    static const char *const escapes[] = {"../etc/passwd/x/y/zz", "/etc/passwdpasswdxxx",
                                          ".odel-1.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        REQUIRE(folder_make(&r));
        char name[32];
        (void)snprintf(name, sizeof(name), "%.19s", escapes[i]);
        patch("model.safetensors.index.json", "model-1.safetensors", name);
        refused("is no plain file name", "index.json");
        folder_remove();
    }
    REQUIRE(folder_make(&r));
    patch("model.safetensors.index.json", "model-1.safetensors", "model-0.safetensors");
    refused("is not in model-0.safetensors", "index.json");
    folder_remove();
}

TEST(weights_that_are_no_numbers_are_refused)
{
    struct agon_err err;
    REQUIRE(folder_make(&small));
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
    REQUIRE(agon_file_read(&b, in_folder("model.safetensors"), 1 << 26, &err) == 0);
    memset(b.data + b.size - 4, 0xff, 4); /* the last weight of model.norm */
    REQUIRE(agon_file_write(in_folder("model.safetensors"), agon_buf_str(&b), false, &err) == 0);
    refused("NaN", "model.norm.weight");
    folder_remove();
}

TEST(an_open_checkpoint_has_checked_headers_and_no_weights)
{
    static const enum agon_dtype dtypes[] = {AGON_F32, AGON_BF16, AGON_E4M3};
    struct random_checkpoint r = small;
    struct agon_err err = {0};
    for (size_t i = 0; i < sizeof(dtypes) / sizeof(dtypes[0]); i++) {
        struct agon_checkpoint *loaded = NULL, *open = NULL;
        struct agon_engine *e = NULL;
        struct agon_engine_options options = AGON_ENGINE_OPTIONS;
        r.dtype = dtypes[i];
        REQUIRE(folder_make(&r));
        REQUIRE(loads(&loaded) && agon_checkpoint_open(&open, dir, &err) == 0);
        EXPECT(open->n_parameters == loaded->n_parameters && open->n_active == loaded->n_active);
        EXPECT(open->bytes == 0 && loaded->bytes > 0 && !open->embedding.data);
        EXPECT(agon_engine_new(&e, open, &options, &err) == AGON_EINPUT);
        EXPECT_HAS(err.text, "the CPU needs the weights in memory");
        /* Its files stay open, whatever becomes of the folder. */
        patch("model.safetensors", "\"shape\": [300, 40]", "\"shape\": [40, 300]");
        folder_remove();
        const struct agon_tensor *t = agon_tensors_find(open->tensors, "model.norm.weight");
        float *norm = NULL;
        REQUIRE(t && agon_tensor_floats(open->tensors, t, &norm, &err) == 0);
        EXPECT(memcmp(norm, loaded->norm, (size_t)open->config.hidden * sizeof(*norm)) == 0);
        free(norm);
        agon_checkpoint_free(loaded);
        agon_checkpoint_free(open);
    }
}

TEST(opening_refuses_what_loading_refuses_in_headers)
{
    struct agon_checkpoint *c = NULL;
    struct agon_err err = {0};
    REQUIRE(folder_make(&small));
    patch("model.safetensors", "\"shape\": [300, 40]", "\"shape\": [40, 300]");
    EXPECT(agon_checkpoint_open(&c, dir, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "config.json makes it [300, 40]");
    EXPECT(!c);
    folder_remove();
}

TEST(values_of_two_bytes_are_widened_in_their_place)
{
    struct random_checkpoint r = small;
    struct agon_checkpoint *c = NULL;
    struct agon_err err = {0};
    r.dtype = AGON_BF16;
    REQUIRE(folder_make(&r));
    REQUIRE(agon_checkpoint_open(&c, dir, &err) == 0);
    const struct agon_tensor *t = agon_tensors_find(c->tensors, "model.embed_tokens.weight");
    REQUIRE(t && t->dtype == AGON_BF16);
    size_t n = (size_t)t->size / 2, n_wrong = 0;
    uint16_t *codes = malloc((size_t)t->size);
    float *values = NULL;
    REQUIRE(agon_tensor_read(c->tensors, t, codes, &err) == 0);
    REQUIRE(agon_tensor_floats(c->tensors, t, &values, &err) == 0);
    for (size_t i = 0; i < n; i++)
        n_wrong += values[i] != agon_bf16_decode(codes[i]);
    EXPECT(n > 1000 && n_wrong == 0);
    REQUIRE(agon_tensor_read_part(c->tensors, t, 6, 8, values, &err) == 0);
    EXPECT(memcmp(values, codes + 3, 8) == 0);
    free(codes), free(values);
    agon_checkpoint_free(c);
    folder_remove();
}

TEST(both_spellings_of_rope_and_layer_types_mean_the_same)
{
    static const char base[] =
        "\"model_type\": \"deepseek_v32\", \"vocab_size\": 9, \"hidden_size\": 8, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 1, \"q_lora_rank\": 4, "
        "\"kv_lora_rank\": 4, \"qk_nope_head_dim\": 4, \"qk_rope_head_dim\": 2, \"v_head_dim\": 4, "
        "\"index_n_heads\": 1, \"index_head_dim\": 4, \"index_topk\": 4, \"intermediate_size\": 4, "
        "\"moe_intermediate_size\": 4, \"n_routed_experts\": 2, \"num_experts_per_tok\": 1, "
        "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-06, ";
    static const char *const tails[] = {
        "\"rope_theta\": 5000, \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4, "
        "\"original_max_position_embeddings\": 16, \"mscale\": 1.0, \"mscale_all_dim\": 1.0}, "
        "\"first_k_dense_replace\": 1, \"eos_token_id\": 3",
        "\"rope_parameters\": {\"rope_theta\": 5000.0, \"rope_type\": \"yarn\", \"factor\": 4.0, "
        "\"original_max_position_embeddings\": 16, \"mscale\": 1, \"mscale_all_dim\": 1}, "
        "\"mlp_layer_types\": [\"dense\", \"sparse\"], \"eos_token_id\": [3]"};
    struct agon_config c[2];
    struct agon_err err;
    for (int i = 0; i < 2; i++) {
        char text[2048];
        json_t *root = NULL;
        (void)snprintf(text, sizeof(text), "{%s%s}", base, tails[i]);
        REQUIRE(agon_json_parse(&root, agon_str(text), &err) == 0);
        if (!EXPECT(agon_config_parse(&c[i], root, &err) == 0))
            printf("# %s\n", err.text);
        json_decref(root);
    }
    EXPECT(c[0].rope.theta == c[1].rope.theta && c[0].rope.factor == c[1].rope.factor);
    EXPECT(c[0].rope.yarn && c[1].rope.yarn && c[0].rope.beta_fast == 32);
    EXPECT(!c[0].sparse[0] && c[0].sparse[1] && !c[1].sparse[0] && c[1].sparse[1]);
    EXPECT(c[0].n_eos == 1 && c[1].n_eos == 1 && c[0].eos[0] == 3 && c[1].eos[0] == 3);
}
