/* Small operators against their twins, on odd shapes, with poisoned outputs. */
#include "kernels/cuda_ops.h"
#include "tests/gpu/gpu.h"

/* Sums are in double on both sides; the rest is one rounding. */
#define ROUNDING  2e-7
#define BF16_NEAR 4e-3

static float *down(const struct gpu_buffer *b)
{
    float *x = malloc(b->bytes + 1);
    gpu_download(x, b);
    return x;
}

static void random_matrix(struct agon_matrix *w, int n, int k, enum agon_dtype dtype)
{
    static struct agon_err err;
    int blocks_n = (n + 127) / 128, blocks_k = (k + 127) / 128;
    float *scale = malloc((size_t)(blocks_n * blocks_k) * sizeof(*scale));
    uint8_t *data = malloc((size_t)n * (size_t)k * 4);
    for (int i = 0; i < blocks_n * blocks_k; i++)
        scale[i] = ldexpf(1, -random_below(8));
    for (size_t i = 0; i < (size_t)n * (size_t)k; i++) {
        if (dtype == AGON_F32)
            ((float *)data)[i] = random_float();
        else if (dtype == AGON_BF16)
            ((uint16_t *)data)[i] = agon_bf16_encode(random_float());
        else
            data[i] = agon_e4m3_encode(random_float());
    }
    struct agon_matrix_source source = {.n = n,
                                        .dtype = dtype,
                                        .data = data,
                                        .stride_n = (size_t)k,
                                        .stride_k = 1,
                                        .scale = scale,
                                        .scale_ld = blocks_k};
    if (agon_matrix_init(w, k, &source, 1, false, &err))
        printf("# %s\n", err.text);
    free(data);
    free(scale);
}

static const enum agon_dtype dtypes[] = {AGON_F32, AGON_BF16, AGON_E4M3};

TEST(embedding_takes_rows_of_any_dtype_and_zeros_for_ids_out_of_range)
{
    REQUIRE_GPU();
    enum { N = 150, K = 137, ROWS = 9 };
    const int32_t ids[ROWS + 1] = {149, 0, 130, -1, 150, 127, 128, 1, 1};
    const int32_t nine = ROWS;
    GPU_AUTO d_ids = gpu_upload(ids, sizeof(ids));
    GPU_AUTO d_n = gpu_upload(&nine, sizeof(nine));
    for (size_t t = 0; t < 3; t++) {
        struct agon_matrix w;
        struct agon_cuda_matrix table;
        random_matrix(&w, N, K, dtypes[t]);
        REQUIRE(agon_cuda_matrix_alloc(&table, N, K, dtypes[t], t % 2 ? 1 : 128, &err) == 0);
        REQUIRE(agon_cuda_matrix_put(&table, 0, &w, &err) == 0);
        GPU_AUTO out = gpu_poisoned((ROWS + 1) * K * sizeof(float), 0xff);
        EXPECT(agon_cuda_embed(out.p, K, d_ids.p, &table, ROWS + 1, d_n.p, NULL, &err) == 0);
        float *got = down(&out), want[K];
        EXPECT(isnan(got[ROWS * K]) && isnan(got[(ROWS + 1) * K - 1])); /* past the count */
        for (int r = 0; r < ROWS; r++) {
            memset(want, 0, sizeof(want));
            if (ids[r] >= 0 && ids[r] < N)
                agon_matrix_row(&w, ids[r], want);
            EXPECT(memcmp(want, got + (size_t)r * K, sizeof(want)) == 0);
        }
        free(got);
        agon_cuda_matrix_free(&table);
        agon_matrix_deinit(&w);
    }
}

static void norm_case(int n_rows, int n, bool with_add, enum agon_dtype out_dtype)
{
    struct agon_err err = {0};
    size_t ld = (size_t)n + 3, count = (size_t)n_rows * ld;
    float *x = random_floats(count), *add = random_floats(count), *w = random_floats((size_t)n);
    float *want = poisoned_floats((size_t)n);
    GPU_AUTO d_x = gpu_upload(x, count * sizeof(float));
    GPU_AUTO d_add = gpu_upload(add, count * sizeof(float));
    GPU_AUTO d_w = gpu_upload(w, (size_t)n * sizeof(float));
    GPU_AUTO d_out = gpu_poisoned((size_t)(n_rows * n) * agon_dtype_size(out_dtype), 0xff);
    struct agon_cuda_norm norm = {.out = d_out.p,
                                  .out_dtype = out_dtype,
                                  .ld_out = (size_t)n,
                                  .x = d_x.p,
                                  .ld_x = ld,
                                  .add = with_add ? d_add.p : NULL,
                                  .ld_add = ld,
                                  .w = d_w.p,
                                  .n = n,
                                  .n_rows = n_rows,
                                  .eps = 1e-6F};
    EXPECT(agon_cuda_rmsnorm(&norm, NULL, &err) == 0);
    float *got = down(&d_out), *x_after = down(&d_x);
    for (int r = 0; r < n_rows; r++) {
        float *row = x + (size_t)r * ld;
        for (int i = 0; i < n && with_add; i++)
            row[i] += add[(size_t)r * ld + (size_t)i];
        agon_rmsnorm_ref(want, 0, row, 0, w, 1, n, 1e-6F);
        EXPECT(memcmp(row, x_after + (size_t)r * ld, ld * sizeof(float)) == 0);
        float *at = got + (size_t)r * (size_t)n;
        if (out_dtype == AGON_BF16) {
            const uint16_t *codes = (const uint16_t *)(const void *)got + (size_t)r * (size_t)n;
            at = poisoned_floats((size_t)n);
            for (int i = 0; i < n; i++)
                at[i] = agon_bf16_decode(codes[i]);
        }
        EXPECT(relative_error(at, want, (size_t)n) <
               (out_dtype == AGON_F32 ? ROUNDING : BF16_NEAR));
        if (out_dtype == AGON_BF16)
            free(at);
    }
    free(x), free(add), free(w), free(want), free(got), free(x_after);
}

TEST(norms_equal_their_twins)
{
    REQUIRE_GPU();
    const int sizes[] = {1, 16, 127, 384, 512, 7168};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (int variant = 0; variant < 4; variant++)
            norm_case(5, sizes[i], variant & 1, variant & 2 ? AGON_BF16 : AGON_F32);
}

TEST(rope_rotates_both_layouts_and_leaves_the_rest)
{
    REQUIRE_GPU();
    enum { ROWS = 7, HEADS = 3, HALF = 8, HEAD = 29, LD = HEADS * HEAD + 5 };
    const int32_t position[ROWS] = {0, 1, 2, 511, 4096, 163839, 77};
    const struct agon_rope rope = {.dim = 2 * HALF, .theta = 10000};
    double inv_freq[HALF];
    agon_rope_frequencies(inv_freq, &rope);
    GPU_AUTO d_freq = gpu_upload(inv_freq, sizeof(inv_freq));
    GPU_AUTO d_position = gpu_upload(position, sizeof(position));
    GPU_AUTO d_cos = gpu_poisoned(ROWS * HALF * sizeof(float), 0xff);
    GPU_AUTO d_sin = gpu_poisoned(ROWS * HALF * sizeof(float), 0xff);
    REQUIRE(agon_cuda_rope_angles(d_cos.p, d_sin.p, d_freq.p, HALF, d_position.p, ROWS, NULL, NULL,
                                  &err) == 0);
    float *cosine = down(&d_cos), *sine = down(&d_sin), want_cos[HALF], want_sin[HALF];
    for (int interleaved = 0; interleaved < 2; interleaved++) {
        float *x = random_floats(ROWS * LD);
        GPU_AUTO d_x = gpu_upload(x, ROWS * LD * sizeof(float));
        struct agon_cuda_rope run = {.out = (float *)d_x.p + 2,
                                     .ld_out = LD,
                                     .ld_out_head = HEAD,
                                     .x = (float *)d_x.p + 2,
                                     .ld_x = LD,
                                     .ld_head = HEAD,
                                     .n_heads = HEADS,
                                     .half = HALF,
                                     .interleaved = interleaved,
                                     .cosine = d_cos.p,
                                     .sine = d_sin.p,
                                     .n_rows = ROWS};
        EXPECT(agon_cuda_rope(&run, NULL, &err) == 0);
        float *got = down(&d_x);
        for (int r = 0; r < ROWS; r++) {
            agon_rope_angles(want_cos, want_sin, inv_freq, HALF, position[r]);
            EXPECT(relative_error(cosine + r * HALF, want_cos, HALF) < ROUNDING);
            EXPECT(relative_error(sine + r * HALF, want_sin, HALF) < ROUNDING);
            for (int h = 0; h < HEADS; h++)
                (interleaved ? agon_rope_interleaved_ref : agon_rope_half_split_ref)(
                    x + r * LD + 2 + h * HEAD, cosine + r * HALF, sine + r * HALF, HALF);
        }
        EXPECT(memcmp(x, got, d_x.bytes) == 0);
        free(x), free(got);
    }
    free(cosine), free(sine);
}

TEST(quantised_rows_equal_the_twin_s_code_for_code)
{
    REQUIRE_GPU();
    const struct {
        int n, group;
        bool hadamard;
    } cases[] = {{300, 128, false}, {384, 128, false}, {1152, 128, false}, {384, 128, true},
                 {64, 32, true},    {7, 128, false},   {256, 256, true},   {1, 1, true}};
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
        for (int ue8m0 = 0; ue8m0 < 2; ue8m0++) {
            enum { ROWS = 6 };
            int n = cases[c].n, group = cases[c].group, n_groups = (n + group - 1) / group;
            float *x = random_floats((size_t)(ROWS * n)), rotated[512], scale;
            for (int i = 0; i < ROWS * n; i++)
                x[i] *= i / n == 2 ? 0 : ldexpf(1, 3 * (i / n) - 6); /* one row is zero */
            GPU_AUTO d_x = gpu_upload(x, (size_t)(ROWS * n) * sizeof(float));
            GPU_AUTO d_codes = gpu_poisoned((size_t)(ROWS * n), 0xff);
            GPU_AUTO d_scales = gpu_poisoned((size_t)(ROWS * n_groups) * sizeof(float), 0xff);
            struct agon_cuda_quant quant = {.codes = d_codes.p,
                                            .ld_codes = (size_t)n,
                                            .scales = d_scales.p,
                                            .ld_scales = (size_t)n_groups,
                                            .x = d_x.p,
                                            .x_dtype = AGON_F32,
                                            .ld_x = (size_t)n,
                                            .n = n,
                                            .group = group,
                                            .hadamard = cases[c].hadamard,
                                            .ue8m0 = ue8m0,
                                            .n_rows = ROWS};
            EXPECT(agon_cuda_quantise(&quant, NULL, &err) == 0);
            uint8_t *codes = (uint8_t *)(void *)down(&d_codes), want[512];
            float *scales = down(&d_scales);
            for (int r = 0; r < ROWS; r++)
                for (int g = 0; g < n_groups; g++) {
                    int at = r * n + g * group, m = n - g * group < group ? n - g * group : group;
                    memcpy(rotated, x + at, (size_t)m * sizeof(float));
                    if (cases[c].hadamard)
                        agon_hadamard_ref(rotated, rotated, m);
                    agon_act_quant_ref(want, &scale, rotated, m, ue8m0);
                    EXPECT(scales[r * n_groups + g] == scale);
                    EXPECT(memcmp(want, codes + at, (size_t)m) == 0);
                }
            free(x), free(codes), free(scales);
        }
}

static void route_case(const struct agon_router *router, bool ties, bool force)
{
    enum { ROWS = 13 };
    struct agon_err err = {0};
    size_t n = (size_t)router->n_experts, pairs = ROWS * (size_t)router->top_k;
    float *logits = random_floats(ROWS * n), *bias = random_floats(n);
    uint16_t *forced = malloc(pairs * sizeof(*forced));
    for (size_t i = 0; i < ROWS * n; i++)
        logits[i] = ties ? (float)random_below(3) : 4 * logits[i];
    for (size_t i = 0; i < n; i++)
        bias[i] = ties ? 0 : -bias[i] * bias[i];
    for (size_t i = 0; i < pairs; i++)
        forced[i] =
            i / (size_t)router->top_k % 3 == 0 ? AGON_CUDA_NOT_FORCED : (uint16_t)(i * 7 % n);
    GPU_AUTO d_logits = gpu_upload(logits, ROWS * n * sizeof(float));
    GPU_AUTO d_bias = gpu_upload(bias, n * sizeof(float));
    GPU_AUTO d_forced = gpu_upload(forced, pairs * sizeof(*forced));
    GPU_AUTO d_ids = gpu_poisoned(pairs * sizeof(int), 0xff);
    GPU_AUTO d_weights = gpu_poisoned(pairs * sizeof(float), 0xff);
    EXPECT(agon_cuda_route(d_ids.p, d_weights.p, d_logits.p, n, d_bias.p, force ? d_forced.p : NULL,
                           router, ROWS, NULL, NULL, &err) == 0);
    int *ids = (int *)(void *)down(&d_ids), want_ids[AGON_EXPERT_TOPK_MAX];
    float *weights = down(&d_weights), want[AGON_EXPERT_TOPK_MAX];
    for (size_t r = 0; r < ROWS; r++) {
        const uint16_t *row = forced + r * (size_t)router->top_k;
        agon_router_ref(want_ids, want, logits + r * n, bias, router);
        if (force && row[0] != AGON_CUDA_NOT_FORCED) {
            for (int s = 0; s < router->top_k; s++)
                want_ids[s] = row[s];
            agon_router_weights_ref(want, logits + r * n, want_ids, router);
        }
        size_t at = r * (size_t)router->top_k;
        EXPECT(memcmp(want_ids, ids + at, (size_t)router->top_k * sizeof(int)) == 0);
        EXPECT(relative_error(weights + at, want, (size_t)router->top_k) < ROUNDING);
    }
    free(logits), free(bias), free(forced), free(ids), free(weights);
}

TEST(the_router_chooses_as_its_twin)
{
    REQUIRE_GPU();
    const struct agon_router routers[] = {{256, 8, 4, 8, true, 2.5F},
                                          {8, 1, 1, 2, true, 1},
                                          {6, 3, 2, 3, false, 1.5F},
                                          {1024, 1, 1, 64, true, 1},
                                          {5, 5, 2, 2, true, 1}};
    for (size_t i = 0; i < sizeof(routers) / sizeof(routers[0]); i++)
        for (int variant = 0; variant < 4; variant++)
            route_case(&routers[i], variant & 1, variant & 2);
}

static void pairs_case(int n)
{
    enum { ROWS = 301, TOP_K = 3, EXPERTS = 11, PAIRS = ROWS * TOP_K };
    struct agon_err err = {0};
    size_t n_x = (size_t)(ROWS * n), n_y = (size_t)(PAIRS * n);
    static int ids[PAIRS], begin[EXPERTS + 1], pair_row[PAIRS], pair_of[PAIRS];
    for (int i = 0; i < PAIRS; i++)
        ids[i] = random_below(EXPERTS - 1); /* the last has none */
    agon_moe_group(begin, pair_row, pair_of, ids, ROWS, TOP_K, EXPERTS);
    GPU_AUTO d_ids = gpu_upload(ids, sizeof(ids));
    GPU_AUTO d_begin = gpu_poisoned(sizeof(begin), 0xff);
    GPU_AUTO d_row = gpu_poisoned(sizeof(pair_row), 0xff);
    GPU_AUTO d_of = gpu_poisoned(sizeof(pair_of), 0xff);
    EXPECT(agon_cuda_moe_group(d_begin.p, d_row.p, d_of.p, d_ids.p, ROWS, NULL, TOP_K, EXPERTS,
                               NULL, &err) == 0);
    float *got_begin = down(&d_begin), *got_row = down(&d_row), *got_of = down(&d_of);
    EXPECT(memcmp(got_begin, begin, sizeof(begin)) == 0);
    EXPECT(memcmp(got_row, pair_row, sizeof(pair_row)) == 0);
    EXPECT(memcmp(got_of, pair_of, sizeof(pair_of)) == 0);
    float *x = random_floats(n_x), *y = random_floats(n_y);
    float *weights = random_floats(PAIRS), *shared = random_floats(n_x);
    GPU_AUTO d_x = gpu_upload(x, n_x * sizeof(float));
    GPU_AUTO d_y = gpu_upload(y, n_y * sizeof(float));
    GPU_AUTO d_weights = gpu_upload(weights, PAIRS * sizeof(float));
    GPU_AUTO d_shared = gpu_upload(shared, n_x * sizeof(float));
    struct agon_cuda_combine combine = {.x = d_x.p,
                                        .ld_x = (size_t)n,
                                        .y = d_y.p,
                                        .y_dtype = AGON_F32,
                                        .ld_y = (size_t)n,
                                        .pair_of = d_of.p,
                                        .weights = d_weights.p,
                                        .top_k = TOP_K,
                                        .shared = d_shared.p,
                                        .ld_shared = (size_t)n,
                                        .n = n,
                                        .n_rows = ROWS};
    EXPECT(agon_cuda_moe_combine(&combine, NULL, &err) == 0);
    float *got = down(&d_x);
    for (int r = 0; r < ROWS; r++) {
        agon_moe_combine(x + r * n, y, n, pair_of + r * TOP_K, weights + r * TOP_K, TOP_K, n);
        for (int i = 0; i < n; i++)
            x[r * n + i] += shared[r * n + i];
    }
    EXPECT(relative_error(got, x, n_x) < ROUNDING); /* the host may fuse, the device may not */
    free(got_begin), free(got_row), free(got_of), free(got);
    free(x), free(y), free(weights), free(shared);
}

TEST(pairs_are_grouped_and_combined_as_on_the_cpu)
{
    REQUIRE_GPU();
    pairs_case(77);
    pairs_case(516); /* four values a thread */
}

struct fused {
    struct agon_router router;
    int n_rows, n;
    bool shared, forced;
};

/* What the one launch left, against the twins fed with its own h. */
static void fused_check(const struct fused *f, const float *h, const float *router,
                        const float *bias, const uint16_t *forced, const int *ids,
                        const float *weights, const int *begin, const int *pair_row,
                        const int *pair_of)
{
    int top_k = f->router.top_k, slots = top_k + f->shared, n_pairs = f->n_rows * slots;
    int n_experts = f->router.n_experts, n_all = n_experts + f->shared;
    int *want_row = calloc((size_t)n_pairs, sizeof(int)), want_begin[40];
    int *want_of = calloc((size_t)n_pairs, sizeof(int)), want_ids[33];
    float logits[32], want[33];
    for (int r = 0; r < f->n_rows; r++) {
        for (int e = 0; e < n_experts; e++) {
            logits[e] = 0;
            for (int k = 0; k < f->n; k++)
                logits[e] = fmaf(h[r * f->n + k], router[e * f->n + k], logits[e]);
        }
        agon_router_ref(want_ids, want, logits, bias, &f->router);
        if (f->forced && forced[r * top_k] != AGON_CUDA_NOT_FORCED) {
            for (int s = 0; s < top_k; s++)
                want_ids[s] = forced[r * top_k + s];
            agon_router_weights_ref(want, logits, want_ids, &f->router);
        }
        want_ids[top_k] = n_experts;
        want[top_k] = 1;
        EXPECT(memcmp(want_ids, ids + r * slots, (size_t)slots * sizeof(int)) == 0);
        EXPECT(relative_error(weights + r * slots, want, (size_t)slots) < ROUNDING);
    }
    agon_moe_group(want_begin, want_row, want_of, ids, f->n_rows, slots, n_all);
    EXPECT(memcmp(want_begin, begin, ((size_t)n_all + 1) * sizeof(int)) == 0);
    EXPECT(memcmp(want_row, pair_row, (size_t)n_pairs * sizeof(int)) == 0);
    EXPECT(memcmp(want_of, pair_of, (size_t)n_pairs * sizeof(int)) == 0);
    free(want_row), free(want_of);
}

static void fused_case(const struct fused *f)
{
    struct agon_err err = {0};
    size_t n = (size_t)f->n, rows = (size_t)f->n_rows,
           slots = (size_t)(f->router.top_k + f->shared);
    size_t n_experts = (size_t)f->router.n_experts;
    float *x = random_floats(rows * n), *add = random_floats(rows * n), *w = random_floats(n);
    float *router = random_floats(n_experts * n), *bias = random_floats(n_experts);
    uint16_t *forced = malloc(rows * slots * sizeof(*forced));
    for (size_t i = 0; i < rows * slots; i++)
        forced[i] =
            i / (size_t)f->router.top_k % 2 ? (uint16_t)(i * 5 % n_experts) : AGON_CUDA_NOT_FORCED;
    GPU_AUTO d_x = gpu_upload(x, rows * n * sizeof(float));
    GPU_AUTO d_add = gpu_upload(add, rows * n * sizeof(float));
    GPU_AUTO d_w = gpu_upload(w, n * sizeof(float));
    GPU_AUTO d_router = gpu_upload(router, n_experts * n * sizeof(float));
    GPU_AUTO d_bias = gpu_upload(bias, n_experts * sizeof(float));
    GPU_AUTO d_forced = gpu_upload(forced, rows * slots * sizeof(*forced));
    GPU_AUTO d_h = gpu_poisoned(rows * n * sizeof(float), 0xff);
    GPU_AUTO d_ids = gpu_poisoned(rows * slots * sizeof(int), 0x7f);
    GPU_AUTO d_weights = gpu_poisoned(rows * slots * sizeof(float), 0xff);
    GPU_AUTO d_begin = gpu_poisoned((n_experts + 2) * sizeof(int), 0xff);
    GPU_AUTO d_row = gpu_poisoned(rows * slots * sizeof(int), 0xff);
    GPU_AUTO d_of = gpu_poisoned(rows * slots * sizeof(int), 0xff);
    GPU_AUTO d_counter = gpu_poisoned(sizeof(int), 0);
    struct agon_cuda_norm_route route = {.norm = {.out = d_h.p,
                                                  .out_dtype = AGON_F32,
                                                  .ld_out = n,
                                                  .x = d_x.p,
                                                  .ld_x = n,
                                                  .add = d_add.p,
                                                  .ld_add = n,
                                                  .w = d_w.p,
                                                  .n = f->n,
                                                  .n_rows = f->n_rows,
                                                  .eps = 1e-6F},
                                         .router = {.n = f->router.n_experts,
                                                    .k = f->n,
                                                    .dtype = AGON_F32,
                                                    .data = d_router.p,
                                                    .ld = n},
                                         .bias = d_bias.p,
                                         .forced = f->forced ? d_forced.p : NULL,
                                         .options = f->router,
                                         .shared = f->shared,
                                         .ids = d_ids.p,
                                         .weights = d_weights.p,
                                         .begin = d_begin.p,
                                         .pair_row = d_row.p,
                                         .pair_of = d_of.p,
                                         .counter = d_counter.p};
    EXPECT(agon_cuda_norm_route_fits(&f->router, f->n));
    for (int turn = 0; turn < 2; turn++) { /* the second finds the counter as the first did */
        EXPECT(agon_cuda_norm_route(&route, NULL, &err) == 0);
        float *h = down(&d_h), *weights = down(&d_weights), *ids = down(&d_ids),
              *row = down(&d_row);
        float *of = down(&d_of), *begin = down(&d_begin), *want = poisoned_floats(n);
        for (size_t r = 0; r < rows; r++) {
            for (size_t i = 0; i < n; i++)
                x[r * n + i] += add[r * n + i];
            agon_rmsnorm_ref(want, 0, x + r * n, 0, w, 1, f->n, 1e-6F);
            EXPECT(relative_error(h + r * n, want, n) < ROUNDING);
        }
        fused_check(f, h, router, bias, forced, (int *)(void *)ids, weights, (int *)(void *)begin,
                    (int *)(void *)row, (int *)(void *)of);
        free(h), free(weights), free(ids), free(row), free(of), free(begin), free(want);
    }
    free(x), free(add), free(w), free(router), free(bias), free(forced);
}

TEST(norm_router_and_grouping_in_one_launch)
{
    REQUIRE_GPU();
    const struct fused cases[] = {{{8, 1, 1, 2, true, 1}, 100, 384, true, false},
                                  {{8, 1, 1, 2, true, 1}, 1000, 384, true, true},
                                  {{32, 4, 2, 5, false, 2.5F}, 77, 130, false, true},
                                  {{5, 5, 2, 1, true, 1}, 1, 7, true, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        fused_case(&cases[i]);
    const struct agon_router large = {256, 8, 4, 8, true, 2.5F};
    EXPECT(!agon_cuda_norm_route_fits(&large, 7168));
}

TEST(combining_and_the_next_norm_in_one_launch)
{
    REQUIRE_GPU();
    enum { ROWS = 50, TOP_K = 3, N = 385, PAIRS = ROWS * TOP_K };
    int pair_of[PAIRS];
    for (int i = 0; i < PAIRS; i++)
        pair_of[i] = (i * 7 + 3) % PAIRS;
    float *x = random_floats(ROWS * N), *y = random_floats(PAIRS * N), *w = random_floats(N);
    float *weights = random_floats(PAIRS), want[N];
    GPU_AUTO d_x = gpu_upload(x, ROWS * N * sizeof(float));
    GPU_AUTO d_y = gpu_upload(y, PAIRS * N * sizeof(float));
    GPU_AUTO d_w = gpu_upload(w, N * sizeof(float));
    GPU_AUTO d_weights = gpu_upload(weights, PAIRS * sizeof(float));
    GPU_AUTO d_of = gpu_upload(pair_of, sizeof(pair_of));
    GPU_AUTO d_h = gpu_poisoned(ROWS * N * sizeof(float), 0xff);
    struct agon_cuda_combine combine = {.x = d_x.p,
                                        .ld_x = N,
                                        .y = d_y.p,
                                        .y_dtype = AGON_F32,
                                        .ld_y = N,
                                        .pair_of = d_of.p,
                                        .weights = d_weights.p,
                                        .top_k = TOP_K,
                                        .n = N,
                                        .n_rows = ROWS};
    struct agon_cuda_norm norm = {.out = d_h.p,
                                  .out_dtype = AGON_F32,
                                  .ld_out = N,
                                  .w = d_w.p,
                                  .n = N,
                                  .n_rows = ROWS,
                                  .eps = 1e-5F};
    EXPECT(agon_cuda_combine_norm(&combine, &norm, NULL, &err) == 0);
    float *got = down(&d_x), *h = down(&d_h);
    for (int r = 0; r < ROWS; r++) {
        agon_moe_combine(x + r * N, y, N, pair_of + r * TOP_K, weights + r * TOP_K, TOP_K, N);
        agon_rmsnorm_ref(want, 0, got + r * N, 0, w, 1, N, 1e-5F);
        EXPECT(relative_error(h + r * N, want, N) < ROUNDING);
    }
    EXPECT(relative_error(got, x, ROWS * N) < ROUNDING);
    free(got), free(h), free(x), free(y), free(w), free(weights);
}

TEST(shapes_that_cannot_be_are_refused_before_a_launch)
{
    REQUIRE_GPU();
    const struct agon_router router = {7, 2, 1, 2, true, 1};
    struct agon_cuda_quant quant = {
        .x_dtype = AGON_F32, .n = 100, .group = 12, .n_rows = 1, .hadamard = true};
    EXPECT(agon_cuda_route(NULL, NULL, NULL, 7, NULL, NULL, &router, 1, NULL, NULL, &err) ==
           AGON_EINPUT);
    EXPECT_HAS(err.text, "2 of 7 experts in 2 groups");
    EXPECT(agon_cuda_quantise(&quant, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "groups of 12");
}
