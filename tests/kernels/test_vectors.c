/* The published numbers of the model's arithmetic: ../shared/spec/engine_vectors/vectors.json,
 * made in pure Python, independent of this code. A copy lies in tests/data/engine. */
#include "base/json.h"
#include "kernels/kernels.h"
#include "tests/test.h"

#include <stdlib.h>

static json_t *vectors;

static json_t *at(const char *a, const char *b)
{
    if (!vectors) {
        struct agon_err err;
        if (agon_json_load_file(&vectors, DATA_DIR "/vectors.json", 1 << 20, &err))
            printf("# %s\n", err.text);
    }
    json_t *v = json_object_get(vectors, a);
    return b ? json_object_get(v, b) : v;
}

static double number(const json_t *array, size_t i)
{
    return json_number_value(json_array_get(array, i));
}

static int floats(float *x, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        x[i] = (float)number(array, i);
    return (int)json_array_size(array);
}

TEST(e4m3_decodes_and_encodes_as_published)
{
    json_t *decode = at("e4m3fn_decode", NULL), *encode = at("e4m3fn_encode_cases", NULL);
    REQUIRE(json_array_size(decode) == 256 && json_array_size(encode) == 22);
    for (size_t i = 0; i < 256; i++) {
        json_t *value = json_array_get(decode, i);
        float x = agon_e4m3_decode((uint8_t)i);
        if (!json_is_number(value)) {
            EXPECT(isnan(x));
            continue;
        }
        EXPECT(x == json_number_value(value));
        EXPECT(agon_e4m3_encode(x) == i);
    }
    for (size_t i = 0; i < json_array_size(encode); i++) {
        json_t *pair = json_array_get(encode, i);
        EXPECT(agon_e4m3_encode((float)number(pair, 0)) == number(pair, 1));
    }
}

TEST(activations_are_quantised_as_published)
{
    float x[128], scale, zero[128] = {0};
    uint8_t codes[128];
    REQUIRE(floats(x, at("act_quant", "x_bf16")) == 128);
    agon_act_quant_ref(codes, &scale, x, 128, true);
    EXPECT(scale == json_number_value(at("act_quant", "ue8m0_scale")));
    for (size_t i = 0; i < 128; i++)
        EXPECT(codes[i] == number(at("act_quant", "ue8m0_codes"), i));
    agon_act_quant_ref(codes, &scale, x, 128, false);
    EXPECT(scale == (float)json_number_value(at("act_quant", "plain_scale_f32")));
    for (size_t i = 0; i < 128; i++)
        EXPECT(codes[i] == number(at("act_quant", "plain_codes"), i));
    agon_act_quant_ref(codes, &scale, zero, 128, true);
    EXPECT(scale == (float)json_number_value(at("act_quant_zero", "scale_ue8m0")));
    agon_act_quant_ref(codes, &scale, zero, 128, false);
    EXPECT(scale == (float)json_number_value(at("act_quant_zero", "scale_plain")));
    json_t *rounds = at("ue8m0_round_up", NULL);
    REQUIRE(json_array_size(rounds) == 6);
    for (size_t i = 0; i < 6; i++) {
        json_t *pair = json_array_get(rounds, i);
        EXPECT(agon_ue8m0_round_up((float)number(pair, 0)) == (float)number(pair, 1));
    }
}

static const struct agon_rope rope_v32 = {.dim = 64,
                                          .theta = 10000,
                                          .yarn = true,
                                          .factor = 40,
                                          .beta_fast = 32,
                                          .beta_slow = 1,
                                          .mscale_all_dim = 1,
                                          .original_positions = 4096};

TEST(yarn_frequencies_and_scale_are_those_of_v32)
{
    double inv_freq[32];
    agon_rope_frequencies(inv_freq, &rope_v32);
    json_t *expected = at("yarn_v32", "inv_freq");
    REQUIRE(json_array_size(expected) == 32);
    for (size_t i = 0; i < 32; i++)
        EXPECT(fabs(inv_freq[i] - number(expected, i)) < 1e-12);
    double scale = agon_rope_softmax_scale(&rope_v32, 192);
    EXPECT(fabs(scale - json_number_value(at("yarn_v32", "softmax_scale"))) < 1e-12);
    struct agon_rope plain = {.dim = 64, .theta = 1e6};
    scale = agon_rope_softmax_scale(&plain, 192);
    EXPECT(fabs(scale - json_number_value(at("yarn_v32", "softmax_scale_no_yarn"))) < 1e-12);
    EXPECT(agon_rope_softmax_scale(&plain, 256) ==
           json_number_value(at("rope_glm5", "softmax_scale")));
    agon_rope_frequencies(inv_freq, &plain);
    for (size_t i = 0; i < 32; i++)
        EXPECT(fabs(inv_freq[i] - number(at("rope_glm5", "inv_freq_theta1e6"), i)) < 1e-12);
}

TEST(yarn_of_small_dims_clamps_its_ramp)
{
    /* dim 16, 64 positions: low would be -1; engine.md 4.1 says 0, and high 3. */
    struct agon_rope rope = rope_v32;
    rope.dim = 16;
    rope.factor = 4;
    rope.original_positions = 64;
    double inv_freq[8];
    agon_rope_frequencies(inv_freq, &rope);
    EXPECT(inv_freq[0] == 1);
    double f1 = pow(10000, -2.0 / 16);
    EXPECT(fabs(inv_freq[1] - (f1 / 4 / 3 + f1 * 2 / 3)) < 1e-12);
    EXPECT(fabs(inv_freq[3] - pow(10000, -6.0 / 16) / 4) < 1e-12);
}

TEST(both_rope_layouts_rotate_as_published)
{
    double inv_freq[32];
    float cosine[32], sine[32], x[64];
    agon_rope_frequencies(inv_freq, &rope_v32);
    agon_rope_angles(cosine, sine, inv_freq, 32, 1234);
    REQUIRE(floats(x, at("rope_pos1234_v32", "x_bf16")) == 64);
    agon_rope_interleaved_ref(x, cosine, sine, 32);
    for (size_t i = 0; i < 64; i++)
        EXPECT(fabs(x[i] - number(at("rope_pos1234_v32", "interleaved_out"), i)) < 1e-5);
    (void)floats(x, at("rope_pos1234_v32", "x_bf16"));
    agon_rope_half_split_ref(x, cosine, sine, 32);
    for (size_t i = 0; i < 64; i++)
        EXPECT(fabs(x[i] - number(at("rope_pos1234_v32", "half_split_out"), i)) < 1e-5);
}

TEST(hadamard_transforms_as_published)
{
    float x[128];
    REQUIRE(floats(x, at("hadamard128", "x_bf16")) == 128);
    agon_hadamard_ref(x, x, 128);
    for (size_t i = 0; i < 128; i++)
        EXPECT(fabs(x[i] - number(at("hadamard128", "y"), i)) < 1e-5);
}

static void router_check(const char *name, const char *ids_name, int n_group, int topk_group)
{
    float logits[256], bias[256], weights[8];
    int ids[8];
    REQUIRE(floats(logits, at("router_v32", "logits")) == 256);
    REQUIRE(floats(bias, at("router_v32", "e_score_correction_bias")) == 256);
    struct agon_router router = {.n_experts = 256,
                                 .n_group = n_group,
                                 .topk_group = topk_group,
                                 .top_k = 8,
                                 .normalise = true,
                                 .scale = 2.5F};
    agon_router_ref(ids, weights, logits, bias, &router);
    for (size_t i = 0; i < 8; i++) {
        EXPECT(ids[i] == number(at(name, ids_name), i));
        EXPECT(fabs(weights[i] - number(at(name, "weights"), i)) < 1e-6);
    }
}

TEST(router_chooses_and_weighs_as_published)
{
    router_check("router_v32", "expert_ids_desc_by_biased_score", 8, 4);
    router_check("router_one_group", "expert_ids", 1, 1);
}

/* The toy's numbers through every kernel; weights carry no constants here. */
TEST(indexer_scores_and_order_are_those_of_the_toy)
{
    float q[32], weights[4], key[5][8], block[8 * AGON_PANEL] = {0}, scores[AGON_PANEL];
    for (size_t h = 0; h < 4; h++)
        (void)floats(q + 8 * h, json_array_get(at("indexer_toy", "q"), h));
    REQUIRE(floats(weights, at("indexer_toy", "weights_proj_out")) == 4);
    for (size_t s = 0; s < 5; s++) {
        (void)floats(key[s], json_array_get(at("indexer_toy", "k"), s));
        for (int d = 0; d < 8; d++)
            block[d * AGON_PANEL + (int)s] = key[s][d];
    }
    for (int h = 0; h < 4; h++)
        weights[h] *= (float)(1 / sqrt(4.0) / sqrt(8.0));
    const float *blocks[1] = {block};
    for (int cpu = AGON_CPU_PLAIN; cpu < AGON_CPU_BEST; cpu++) {
        const struct agon_kernels *kernels = agon_kernels_for((enum agon_cpu)cpu);
        if (!kernels)
            continue;
        kernels->indexer(scores, q, weights, blocks, 5, 4, 8);
        for (size_t s = 0; s < 5; s++)
            EXPECT(fabs(scores[s] - number(at("indexer_toy", "scores"), s)) < 1e-5);
        for (int k = 1; k <= 5; k++) {
            int selected[5], n = kernels->topk(selected, scores, 5, k, (uint32_t[5]){0});
            for (size_t i = 0; (int)i < k; i++) {
                bool found = false;
                for (int j = 0; j < n; j++)
                    found |= selected[j] == number(at("indexer_toy", "order_desc"), i);
                EXPECT(found);
            }
        }
    }
}
