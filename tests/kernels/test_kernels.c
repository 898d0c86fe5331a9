/* Each fast kernel against its plain twin, on odd shapes; and rows that do not depend on the
 * batch they are computed in. */
#include "tests/kernels/random.h"
#include "tests/test.h"

static const enum agon_cpu cpus[] = {AGON_CPU_PLAIN, AGON_CPU_PORTABLE, AGON_CPU_AVX2, AGON_CPU_AVX512};

#define EACH_CPU(k)                                                \
    for (size_t c_ = 0; c_ < sizeof(cpus) / sizeof(cpus[0]); c_++) \
        for (const struct agon_kernels *k = agon_kernels_for(cpus[c_]); k; k = NULL)

/* A random matrix of any dtype, with scales where e4m3. */
static struct agon_matrix random_matrix(int n, int k, enum agon_dtype dtype)
{
    size_t count = (size_t)n * (size_t)k;
    size_t rows = (size_t)(n + 127) / 128, columns = (size_t)(k + 127) / 128;
    uint8_t *bytes = malloc(count * 4);
    float *scale = random_floats(rows * columns);
    for (size_t i = 0; i < count; i++) {
        float x = random_float();
        uint16_t half = agon_bf16_encode(x);
        if (dtype == AGON_F32)
            memcpy(bytes + 4 * i, &x, 4);
        else if (dtype == AGON_BF16)
            memcpy(bytes + 2 * i, &half, 2);
        else
            bytes[i] = (uint8_t)random_below(256) & 0xf7; /* never NaN */
    }
    struct agon_matrix_source source = {.n = n,
                                        .dtype = dtype,
                                        .data = bytes,
                                        .stride_n = (size_t)k,
                                        .stride_k = 1,
                                        .scale = scale,
                                        .scale_ld = (int)columns};
    struct agon_matrix w = {0};
    struct agon_err err;
    EXPECT(agon_matrix_init(&w, k, &source, 1, false, &err) == 0);
    free(bytes);
    free(scale);
    return w;
}

/* Every F16 value is itself again; between two of them the nearer one, the even one of two as near. */
TEST(f16_is_rounded_to_nearest_even)
{
    int n_differ = 0;
    for (int code = 0; code < 0x7c00; code++) {
        float x = agon_f16_decode((uint16_t)code), next = agon_f16_decode((uint16_t)(code + 1));
        n_differ += agon_f16_encode(x) != code;
        n_differ += agon_f16_encode(-x) != (code | 0x8000);
        if (code == 0x7bff)
            break;
        float middle = (x + next) / 2;
        n_differ += agon_f16_encode(middle) != code + code % 2;
        n_differ += agon_f16_encode(nextafterf(middle, x)) != code;
        n_differ += agon_f16_encode(nextafterf(middle, next)) != code + 1;
    }
    EXPECT(n_differ == 0);
    EXPECT(agon_f16_encode(1e6F) == 0x7bff && agon_f16_encode(-INFINITY) == 0xfbff);
    EXPECT(isnan(agon_f16_decode(agon_f16_encode(NAN))));
}

TEST(matmul_equals_its_twin_in_every_shape_and_dtype)
{
    static const int shapes[][3] = {{1, 1, 1},     {3, 17, 5},     {6, 16, 128}, {7, 33, 129},
                                    {13, 40, 257}, {25, 100, 300}, {64, 48, 384}};
    static const enum agon_dtype dtypes[] = {AGON_F32, AGON_BF16, AGON_E4M3};
    for (int s = 0; s < 7; s++)
        for (int d = 0; d < 3; d++) {
            int m = shapes[s][0], n = shapes[s][1], k = shapes[s][2];
            struct agon_matrix w = random_matrix(n, k, dtypes[d]);
            size_t ld = (size_t)n + 3;
            float *x = random_floats((size_t)m * (size_t)k);
            float *expected = poisoned_floats((size_t)m * ld),
                  *out = poisoned_floats((size_t)m * ld);
            agon_matmul_ref(expected, ld, x, (size_t)k, NULL, m, &w, 0, agon_matrix_panels(&w));
            EACH_CPU(kernels)
            {
                kernels->matmul(out, ld, x, (size_t)k, NULL, m, &w, 0, agon_matrix_panels(&w));
                for (int r = 0; r < m; r++) {
                    EXPECT(distance(out + ld * (size_t)r, expected + ld * (size_t)r, (size_t)n) <
                           F32_NEAR);
                    EXPECT(isnan(out[ld * (size_t)r + (size_t)n])); /* nothing past n is written */
                }
            }
            agon_matrix_deinit(&w);
            free(x);
            free(expected);
            free(out);
        }
}

TEST(matmul_row_does_not_depend_on_the_rows_beside_it)
{
    enum { M = 31, N = 50, K = 300 };
    struct agon_matrix w = random_matrix(N, K, AGON_E4M3);
    float *x = random_floats(M * K), all[M * N], one[N];
    int rows[M];
    for (int r = 0; r < M; r++)
        rows[r] = M - 1 - r;
    EACH_CPU(kernels)
    {
        kernels->matmul(all, N, x, K, rows, M, &w, 0, agon_matrix_panels(&w));
        for (int r = 0; r < M; r++) {
            for (int p = 0; p < agon_matrix_panels(&w); p++)
                kernels->matmul(one, N, x + K * rows[r], K, NULL, 1, &w, p, p + 1);
            EXPECT(memcmp(one, all + N * r, sizeof(one)) == 0);
        }
    }
    agon_matrix_deinit(&w);
    free(x);
}

TEST(stacked_and_strided_sources_pack_to_the_right_places)
{
    float data[6] = {1, 2, 3, 4, 5, 6};
    struct agon_matrix_source sources[2] = {
        {.n = 2, .dtype = AGON_F32, .data = data, .stride_n = 3, .stride_k = 1},
        {.n = 3, .dtype = AGON_F32, .data = data, .stride_n = 1, .stride_k = 3}};
    struct agon_matrix w;
    struct agon_err err;
    REQUIRE(agon_matrix_init(&w, 2, sources, 2, false, &err) == 0);
    EXPECT(w.n == 5 && w.dtype == AGON_F32);
    EXPECT(agon_matrix_at(&w, 1, 1) == 5 && agon_matrix_at(&w, 3, 1) == 5);
    EXPECT(agon_matrix_at(&w, 2, 0) == 1 && agon_matrix_at(&w, 4, 1) == 6);
    agon_matrix_deinit(&w);
    data[3] = NAN;
    EXPECT(agon_matrix_init(&w, 2, sources, 2, false, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "NaN");
}

TEST(norms_and_swiglu_equal_their_twins)
{
    static const int sizes[] = {1, 7, 16, 32, 48, 100, 129, 384};
    for (int s = 0; s < 8; s++) {
        size_t n = (size_t)sizes[s], m = 3;
        float *x = random_floats(2 * m * n), *w = random_floats(n), *bias = random_floats(n);
        float *expected = poisoned_floats(m * n), *out = poisoned_floats(m * n);
        EACH_CPU(kernels)
        {
            agon_rmsnorm_ref(expected, n, x, 2 * n, w, (int)m, (int)n, 1e-6F);
            kernels->rmsnorm(out, n, x, 2 * n, w, (int)m, (int)n, 1e-6F);
            EXPECT(distance(out, expected, m * n) < F32_NEAR);
            agon_layernorm_ref(expected, x, w, bias, (int)n, 1e-6F);
            kernels->layernorm(out, x, w, bias, (int)n, 1e-6F);
            EXPECT(distance(out, expected, n) < F32_NEAR);
            for (size_t i = 0; i < n; i++)
                x[i] *= 60; /* far into both tails of the sigmoid */
            agon_swiglu_ref(expected, n, x, 2 * n, (int)m, (int)n);
            kernels->swiglu(out, n, x, 2 * n, (int)m, (int)n);
            EXPECT(distance(out, expected, m * n) < F32_NEAR);
        }
        free(x), free(w), free(bias), free(expected), free(out);
    }
}

TEST(latent_attention_equals_its_twin)
{
    static const int shapes[][4] = {/* n, heads, entry, value */
                                    {1, 1, 16, 16},  {5, 6, 144, 128},   {16, 7, 48, 32},
                                    {33, 3, 80, 64}, {128, 6, 144, 128}, {250, 13, 96, 80}};
    for (int s = 0; s < 6; s++) {
        int n = shapes[s][0], heads = shapes[s][1], entry = shapes[s][2], value = shapes[s][3];
        float *pool = random_floats((size_t)(n * entry)),
              *q = random_floats((size_t)(heads * entry));
        const float **entries = malloc((size_t)n * sizeof(*entries));
        for (int i = 0; i < n; i++)
            entries[i] = pool + (size_t)random_below(n) * (size_t)entry;
        size_t n_out = (size_t)(heads * value);
        float *expected = poisoned_floats(n_out), *out = poisoned_floats(n_out);
        float *scores = poisoned_floats((size_t)heads * (size_t)(n + 16));
        agon_mla_ref(expected, q, entries, n, heads, entry, value, 0.3F, scores);
        EACH_CPU(kernels)
        {
            kernels->mla(out, q, entries, n, heads, entry, value, 0.3F, scores);
            EXPECT(distance(out, expected, n_out) < F32_NEAR);
        }
        free(pool), free(q), free(entries), free(expected), free(out), free(scores);
    }
}

TEST(attention_puts_all_weight_on_a_far_larger_score)
{
    float pool[2][16] = {{0}, {100, 7}}, q[16] = {10}, out[16], scores[16];
    const float *entries[2] = {pool[0], pool[1]};
    EACH_CPU(kernels)
    {
        kernels->mla(out, q, entries, 2, 1, 16, 16, 1, scores);
        EXPECT(fabsf(out[1] - 7) < 1e-5F);
    }
}

TEST(indexer_equals_its_twin_and_keeps_negative_scores)
{
    static const int shapes[][3] = {
        {1, 1, 8}, {16, 4, 32}, {17, 5, 32}, {100, 4, 32}, {130, 9, 20}};
    for (int s = 0; s < 5; s++) {
        int n = shapes[s][0], heads = shapes[s][1], dim = shapes[s][2];
        int n_blocks = (n + AGON_PANEL - 1) / AGON_PANEL;
        float *pool = random_floats((size_t)(n_blocks * dim * AGON_PANEL));
        const float **blocks = malloc((size_t)n_blocks * sizeof(*blocks));
        for (int b = 0; b < n_blocks; b++)
            blocks[b] = pool + (size_t)(n_blocks - 1 - b) * (size_t)(dim * AGON_PANEL);
        float *q = random_floats((size_t)(heads * dim)), *weights = random_floats((size_t)heads);
        weights[0] = -1;
        float *expected = poisoned_floats((size_t)n), *out = poisoned_floats((size_t)n + 16);
        agon_indexer_ref(expected, q, weights, blocks, n, heads, dim);
        EACH_CPU(kernels)
        {
            kernels->indexer(out, q, weights, blocks, n, heads, dim);
            EXPECT(distance(out, expected, (size_t)n) < F32_NEAR);
            for (int i = 0; i < n; i++)
                EXPECT((out[i] == 0) == (expected[i] == 0)); /* exact zeros stay exact */
        }
        free(pool), free(blocks), free(q), free(weights), free(expected), free(out);
    }
}

TEST(topk_is_exact_and_prefers_the_lowest_position_on_ties)
{
    enum { N = 300 };
    float scores[N];
    int expected[N], selected[N];
    uint32_t scratch[N];
    for (int round = 0; round < 300; round++) {
        int n = 1 + random_below(N), k = 1 + random_below(N), levels = 1 + random_below(6);
        for (int i = 0; i < n; i++) {
            scores[i] = round % 2 ? random_float() * 1e-3F : (float)(random_below(levels) - 2);
            if (random_below(20) == 0)
                scores[i] = random_below(2) ? -0.0F : NAN;
            if (random_below(50) == 0)
                scores[i] = random_below(2) ? INFINITY : -INFINITY;
        }
        int n_expected = agon_topk_ref(expected, scores, n, k, scratch);
        EACH_CPU(kernels)
        {
            int n_selected = kernels->topk(selected, scores, n, k, scratch);
            EXPECT(n_selected == n_expected && n_selected == (n < k ? n : k));
            EXPECT(memcmp(selected, expected, (size_t)n_selected * sizeof(int)) == 0);
        }
    }
}

TEST(sampling_equals_its_twin_draw_for_draw)
{
    enum { N = 200 };
    float logits[N];
    char scratch[N * AGON_SAMPLE_SCRATCH] __attribute__((aligned(16)));
    struct agon_sample expected, out;
    int n_equal = 0, n_drawn = 0;
    for (int round = 0; round < 2000; round++) {
        int n = 1 + random_below(N);
        for (int i = 0; i < n; i++)
            logits[i] = roundf(random_float() * 20) / (round % 3 ? 2 : 5); /* with ties */
        struct agon_sample_options options = {.temperature =
                                                  round % 7 ? 0.2 + random_below(20) * 0.1 : 0,
                                              .top_p = round % 2 ? 1 : random_below(11) * 0.1,
                                              .top_k = round % 3 ? 0 : 1 + random_below(n)};
        double u = (random_float() + 1) / 2.0;
        REQUIRE(agon_sample_ref(&expected, logits, n, &options, u, scratch));
        EACH_CPU(kernels)
        {
            REQUIRE(kernels->sample(&out, logits, n, &options, u, scratch));
            n_drawn++;
            if (out.id != expected.id || out.n_kept != expected.n_kept)
                continue; /* u or top_p fell within rounding of a boundary: rare, counted */
            n_equal++;
            EXPECT(fabs(out.logprob - expected.logprob) < 1e-4);
            EXPECT(fabs(out.logprob_raw - expected.logprob_raw) < 1e-4);
        }
    }
    EXPECT(n_equal > n_drawn * 0.98);
}

TEST(sampling_follows_the_distribution_and_refuses_nan)
{
    float logits[3] = {logf(0.5F), logf(0.3F), logf(0.2F)};
    char scratch[3 * AGON_SAMPLE_SCRATCH] __attribute__((aligned(16)));
    struct agon_sample_options options = {.temperature = 1, .top_p = 1};
    EACH_CPU(kernels)
    {
        int counts[3] = {0};
        struct agon_sample sample;
        for (int i = 0; i < 1000; i++) {
            REQUIRE(kernels->sample(&sample, logits, 3, &options, (i + 0.5) / 1000, scratch));
            counts[sample.id]++;
        }
        EXPECT(counts[0] == 500 && counts[1] == 300 && counts[2] == 200);
        float bad[2] = {NAN, 0}, none[2] = {-INFINITY, -INFINITY};
        EXPECT(!kernels->sample(&sample, bad, 2, &options, 0.5, scratch));
        EXPECT(!kernels->sample(&sample, none, 2, &options, 0.5, scratch));
    }
}

TEST(rows_are_grouped_by_expert_and_come_back)
{
    int ids[] = {2, 0, 1, 2, 0, 1}, begin[5], pair_row[6], pair_of[6];
    agon_moe_group(begin, pair_row, pair_of, ids, 3, 2, 4);
    static const int begins[] = {0, 2, 4, 6, 6};
    EXPECT(memcmp(begin, begins, sizeof(begins)) == 0);
    EXPECT(pair_row[0] == 0 && pair_row[1] == 2 && pair_row[4] == 0 && pair_row[5] == 1);
    for (int i = 0; i < 6; i++)
        EXPECT(pair_row[pair_of[i]] == i / 2);
    float x[1] = {1}, y[6] = {10, 20, 30, 40, 50, 60}, weights[2] = {0.5F, 0.25F};
    agon_moe_combine(x, y, 1, pair_of, weights, 2, 1);
    EXPECT(x[0] == 1 + 0.5F * 50 + 0.25F * 10);
}

TEST(router_masks_groups_below_every_negative_score)
{
    /* Biases make all ranks negative; a mask of 0 would pick from the group left out. */
    float logits[4] = {0, 0, 0, 0}, bias[4] = {-3, -3, -2, -2};
    struct agon_router router = {
        .n_experts = 4, .n_group = 2, .topk_group = 1, .top_k = 2, .scale = 1};
    int ids[2];
    float weights[2];
    agon_router_ref(ids, weights, logits, bias, &router);
    EXPECT(ids[0] == 2 && ids[1] == 3);
    EXPECT(weights[0] == 0.5F);
}
