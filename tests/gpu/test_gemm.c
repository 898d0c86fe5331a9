/* Products with weights: the exact mode bit for bit, the fast one near; plain, gathered, per head,
 * grouped, and the same for a row whatever stands beside it. */
#include "kernels/cuda_gemm.h"
#include "tests/gpu/gpu.h"

struct shape {
    int m, n, k;
};

/* A device matrix with its values as floats [n][k]. */
struct weights {
    struct agon_cuda_matrix on_device;
    float *values;
};

static struct weights weights_new(int n, int k, enum agon_dtype dtype)
{
    struct agon_err err = {0};
    struct weights w = {.values = random_floats((size_t)n * (size_t)k)};
    if (agon_cuda_matrix_alloc(&w.on_device, n, k, dtype, 128, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    size_t size = agon_dtype_size(dtype), ld = w.on_device.ld;
    int ld_scale = (k + 127) / 128, n_scales = (n + 127) / 128 * ld_scale;
    uint8_t *data = calloc((size_t)n * ld, size);
    float *scale = random_floats((size_t)n_scales);
    for (int i = 0; i < n_scales; i++)
        scale[i] = 0.5F + scale[i] * scale[i];
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            float *x = &w.values[(size_t)i * (size_t)k + (size_t)j];
            size_t at = (size_t)i * ld + (size_t)j;
            if (dtype == AGON_F32) {
                ((float *)(void *)data)[at] = *x;
            } else if (dtype == AGON_BF16) {
                ((uint16_t *)(void *)data)[at] = agon_bf16_encode(*x);
                *x = agon_bf16_decode(agon_bf16_encode(*x));
            } else {
                data[at] = agon_e4m3_encode(*x);
                *x = agon_e4m3_decode(data[at]) * scale[i / 128 * ld_scale + j / 128];
            }
        }
    if (agon_cuda_copy(w.on_device.data, data, (size_t)n * ld * size, NULL, &err) ||
        (dtype == AGON_E4M3 &&
         agon_cuda_copy(w.on_device.scale, scale, (size_t)n_scales * sizeof(float), NULL, &err)) ||
        agon_cuda_sync(NULL, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    free(data), free(scale);
    return w;
}

static void weights_free(struct weights *w)
{
    agon_cuda_matrix_free(&w->on_device);
    free(w->values);
}

/* x in a dtype, on the device and as the floats it stands for. */
struct input {
    struct gpu_buffer codes, scales;
    float *values; /* [m][k] */
    size_t ld, ld_scale;
};

static struct input input_new(int m, int k, enum agon_dtype dtype)
{
    size_t count = (size_t)m * (size_t)k;
    struct input in = {.values = random_floats(count),
                       .ld = ((size_t)k + 15) / 16 * 16,
                       .ld_scale = (size_t)(k + 127) / 128};
    uint8_t *data = calloc((size_t)m * in.ld, 4);
    float *scales = calloc((size_t)m * in.ld_scale, sizeof(float));
    for (int r = 0; r < m; r++) {
        float *row = in.values + (size_t)r * (size_t)k;
        size_t at = (size_t)r * in.ld;
        for (int i = 0; i < k && dtype != AGON_E4M3; i++) {
            if (dtype == AGON_BF16) {
                uint16_t code = agon_bf16_encode(row[i]);
                ((uint16_t *)(void *)data)[at + (size_t)i] = code;
                row[i] = agon_bf16_decode(code);
            } else {
                ((float *)(void *)data)[at + (size_t)i] = row[i];
            }
        }
        for (int b = 0; b * 128 < k && dtype == AGON_E4M3; b++) {
            int n = k - b * 128 < 128 ? k - b * 128 : 128;
            float *scale = &scales[(size_t)r * in.ld_scale + (size_t)b];
            agon_act_quant_ref(data + at + b * 128, scale, row + b * 128, n, true);
            for (int i = 0; i < n; i++)
                row[b * 128 + i] = agon_e4m3_decode(data[at + (size_t)(b * 128 + i)]) * *scale;
        }
    }
    in.codes = gpu_upload(data, (size_t)m * in.ld * agon_dtype_size(dtype));
    in.scales = gpu_upload(scales, (size_t)m * in.ld_scale * sizeof(float));
    free(data), free(scales);
    return in;
}

static void input_free(struct input *in)
{
    gpu_buffer_free(&in->codes);
    gpu_buffer_free(&in->scales);
    free(in->values);
}

static struct agon_cuda_gemm gemm_of(const struct input *in, enum agon_dtype dtype, int m, int n,
                                     void *out)
{
    return (struct agon_cuda_gemm){.out = out,
                                   .out_dtype = AGON_F32,
                                   .ld_out = (size_t)n,
                                   .x = in->codes.p,
                                   .x_dtype = dtype,
                                   .ld_x = in->ld,
                                   .x_scale = in->scales.p,
                                   .ld_x_scale = in->ld_scale,
                                   .n_rows = m};
}

/* One chain of fused multiply-adds, k ascending. */
static float chain(const float *x, const float *w, int k)
{
    float sum = 0;
    for (int i = 0; i < k; i++)
        sum = fmaf(x[i], w[i], sum);
    return sum;
}

static float in_double(const float *x, const float *w, int k)
{
    double sum = 0;
    for (int i = 0; i < k; i++)
        sum += (double)x[i] * w[i];
    return (float)sum;
}

static void expect_bits(const char *what, const float *got, const float *want, int m, int n)
{
    int n_different = 0;
    for (int i = 0; i < m * n; i++) {
        if (memcmp(&got[i], &want[i], sizeof(float)) == 0)
            continue;
        if (n_different++ < 4)
            printf("# %s: [%d][%d]: got %.9g, want %.9g\n", what, i / n, i % n, (double)got[i],
                   (double)want[i]);
    }
    if (n_different > 0)
        printf("# %s: %d of %d differ\n", what, n_different, m * n);
    EXPECT(n_different == 0);
}

static void expect_near(const char *what, const float *got, const float *want, int m, int n,
                        double near)
{
    double error = relative_error(got, want, (size_t)m * (size_t)n);
    EXPECT(error < near);
    if (error < near)
        return;
    printf("# %s [%d][%d]: error %g\n", what, m, n, error);
    for (int i = 0, shown = 0; i < m * n && shown < 8; i++)
        if (!(fabsf(got[i] - want[i]) <= 0.05F * (1 + fabsf(want[i])))) {
            printf("# [%d][%d]: got %g, want %g\n", i / n, i % n, (double)got[i], (double)want[i]);
            shown++;
        }
}

static const enum agon_dtype dtypes[] = {AGON_F32, AGON_BF16, AGON_E4M3};

TEST(the_exact_product_is_one_chain_an_output)
{
    REQUIRE_GPU();
    const struct shape shapes[] = {{1, 1, 1}, {3, 65, 17}, {33, 130, 200}, {70, 64, 384}};
    for (size_t s = 0; s < 4; s++)
        for (size_t a = 0; a < 3; a++)
            for (size_t b = 0; b < 3; b++) {
                struct shape t = shapes[s];
                struct weights w = weights_new(t.n, t.k, dtypes[b]);
                struct input in = input_new(t.m, t.k, dtypes[a]);
                float *want = poisoned_floats((size_t)(t.m * t.n));
                float *got = poisoned_floats((size_t)(t.m * t.n));
                for (int i = 0; i < t.m * t.n; i++)
                    want[i] = chain(in.values + i / t.n * t.k, w.values + i % t.n * t.k, t.k);
                GPU_AUTO out = gpu_poisoned((size_t)(t.m * t.n) * sizeof(float), 0xff);
                struct agon_cuda_gemm gemm = gemm_of(&in, dtypes[a], t.m, t.n, out.p);
                EXPECT(agon_cuda_gemm(&gemm, &w.on_device, AGON_GEMM_EXACT, NULL, &err) == 0);
                gpu_download(got, &out);
                expect_bits("exact", got, want, t.m, t.n);
                free(want), free(got);
                weights_free(&w);
                input_free(&in);
            }
}

TEST(gathered_added_and_counted_rows)
{
    REQUIRE_GPU();
    enum { M = 9, N = 70, K = 33, FROM = 5 };
    const int32_t rows[M] = {4, 4, 0, 1, 2, 3, 0, 2, 4}, count = 8;
    struct weights w = weights_new(N, K, AGON_BF16);
    struct input in = input_new(FROM, K, AGON_F32);
    float *before = random_floats(M * N), *want = poisoned_floats(M * N),
          *got = random_floats(M * N);
    memcpy(want, before, M * N * sizeof(float));
    for (int i = 0; i < count * N; i++)
        want[i] += chain(in.values + rows[i / N] * K, w.values + i % N * K, K);
    GPU_AUTO out = gpu_upload(before, M * N * sizeof(float));
    GPU_AUTO d_rows = gpu_upload(rows, sizeof(rows));
    GPU_AUTO d_count = gpu_upload(&count, sizeof(count));
    struct agon_cuda_gemm gemm = gemm_of(&in, AGON_F32, M, N, out.p);
    gemm.rows = d_rows.p;
    gemm.d_n_rows = d_count.p;
    gemm.add = true;
    EXPECT(agon_cuda_gemm(&gemm, &w.on_device, AGON_GEMM_EXACT, NULL, &err) == 0);
    gpu_download(got, &out);
    expect_bits("gathered", got, want, M, N);
    free(before), free(want), free(got);
    weights_free(&w);
    input_free(&in);
}

/* Heads side by side in x and out, their matrices stacked. */
static void heads_case(enum agon_gemm_mode mode, enum agon_dtype x_dtype, double near)
{
    enum { M = 37, HEADS = 6, N = 136, K = 48, LD_OUT = HEADS * (N + 8) };
    struct agon_err err = {0};
    struct weights w = weights_new(HEADS * N, K, AGON_BF16);
    struct input in = input_new(M, HEADS * K, x_dtype);
    float *got = poisoned_floats(M * LD_OUT), *want = poisoned_floats(M * LD_OUT);
    GPU_AUTO out = gpu_poisoned(M * LD_OUT * sizeof(float), 0);
    struct agon_cuda_gemm gemm = gemm_of(&in, x_dtype, M, LD_OUT, out.p);
    gemm.n_batch = HEADS;
    gemm.batch_x = K;
    gemm.batch_out = N + 8;
    EXPECT(agon_cuda_gemm(&gemm, &w.on_device, mode, NULL, &err) == 0);
    gpu_download(got, &out);
    memset(want, 0, M * LD_OUT * sizeof(float));
    for (int r = 0; r < M; r++)
        for (int h = 0; h < HEADS; h++)
            for (int i = 0; i < N; i++)
                want[r * LD_OUT + h * (N + 8) + i] =
                    chain(in.values + (r * HEADS + h) * K, w.values + (h * N + i) * K, K);
    expect_near("heads", got, want, M, LD_OUT, near);
    free(got), free(want);
    weights_free(&w);
    input_free(&in);
}

TEST(each_head_has_its_own_matrix)
{
    REQUIRE_GPU();
    heads_case(AGON_GEMM_EXACT, AGON_F32, 1e-7);
    heads_case(AGON_GEMM_FAST, AGON_BF16, 2e-6);
    heads_case(AGON_GEMM_FAST, AGON_F32, 4e-3);
}

static void grouped_case(enum agon_gemm_mode mode, struct shape t, enum agon_dtype x_dtype,
                         enum agon_dtype w_dtype, double near)
{
    enum { GROUPS = 5 };
    struct agon_err err = {0};
    int begin[GROUPS + 1] = {0, t.m / 2, t.m / 2, t.m / 2 + 1, t.m, t.m};
    int *rows = calloc((size_t)t.m, sizeof(*rows));
    for (int i = 0; i < t.m; i++)
        rows[i] = random_below(t.m);
    struct weights w = weights_new(GROUPS * t.n, t.k, w_dtype);
    struct input in = input_new(t.m, t.k, x_dtype);
    float *want = poisoned_floats((size_t)(t.m * t.n)), *got = poisoned_floats((size_t)(t.m * t.n));
    for (int g = 0; g < GROUPS; g++)
        for (int p = begin[g]; p < begin[g + 1]; p++)
            for (int i = 0; i < t.n; i++)
                want[p * t.n + i] =
                    in_double(in.values + rows[p] * t.k, w.values + (g * t.n + i) * t.k, t.k);
    GPU_AUTO out = gpu_poisoned((size_t)(t.m * t.n) * sizeof(float), 0xff);
    GPU_AUTO d_begin = gpu_upload(begin, sizeof(begin));
    GPU_AUTO d_rows = gpu_upload(rows, (size_t)t.m * sizeof(*rows));
    struct agon_cuda_gemm gemm = gemm_of(&in, x_dtype, t.m, t.n, out.p);
    gemm.rows = d_rows.p;
    EXPECT(agon_cuda_gemm_grouped(&gemm, &w.on_device, GROUPS, d_begin.p, mode, NULL, &err) == 0);
    gpu_download(got, &out);
    expect_near("grouped", got, want, t.m, t.n, near);
    free(rows), free(want), free(got);
    weights_free(&w);
    input_free(&in);
}

static void gated_case(enum agon_gemm_mode mode, struct shape t, enum agon_dtype x_dtype,
                       enum agon_dtype w_dtype, enum agon_dtype out_dtype, double near)
{
    enum { GROUPS = 3 };
    struct agon_err err = {0};
    int begin[GROUPS + 1] = {0, t.m / 3, t.m / 3, t.m}, inner = t.n / 2;
    struct weights w = weights_new(GROUPS * t.n, t.k, w_dtype);
    struct input in = input_new(t.m, t.k, x_dtype);
    size_t count = (size_t)(t.m * inner);
    float *want = poisoned_floats(count), *got = poisoned_floats(count);
    for (int g = 0; g < GROUPS; g++)
        for (int p = begin[g]; p < begin[g + 1]; p++)
            for (int i = 0; i < inner; i++) {
                const float *gate = w.values + (g * t.n + i) * t.k, *x = in.values + p * t.k;
                float both[2] = {in_double(x, gate, t.k), in_double(x, gate + inner * t.k, t.k)};
                agon_swiglu_ref(&want[p * inner + i], 1, both, 2, 1, 1);
            }
    GPU_AUTO out = gpu_poisoned(count * agon_dtype_size(out_dtype), 0xff);
    GPU_AUTO d_begin = gpu_upload(begin, sizeof(begin));
    struct agon_cuda_gemm gemm = gemm_of(&in, x_dtype, t.m, inner, out.p);
    gemm.out_dtype = out_dtype;
    gemm.gated = true;
    EXPECT(agon_cuda_gemm_grouped(&gemm, &w.on_device, GROUPS, d_begin.p, mode, NULL, &err) == 0);
    uint16_t *codes = (uint16_t *)(void *)got;
    gpu_download(got, &out);
    for (size_t i = count; i-- > 0 && out_dtype == AGON_BF16;)
        got[i] = agon_bf16_decode(codes[i]);
    char what[64];
    snprintf(what, sizeof(what), "gated %s by %s to %s", agon_dtype_name(x_dtype),
             agon_dtype_name(w_dtype), agon_dtype_name(out_dtype));
    expect_near(what, got, want, t.m, inner, near);
    free(want), free(got);
    weights_free(&w);
    input_free(&in);
}

TEST(gate_and_up_become_one_output)
{
    REQUIRE_GPU();
    const struct shape shapes[] = {{101, 70, 90}, {77, 448, 384}, {9, 256, 512}, {200, 18, 64}};
    for (size_t s = 0; s < 4; s++)
        for (size_t b = 0; b < 3; b++) {
            gated_case(AGON_GEMM_EXACT, shapes[s], AGON_F32, dtypes[b], AGON_F32, 2e-6);
            gated_case(AGON_GEMM_FAST, shapes[s], AGON_BF16, dtypes[b], AGON_BF16, 1e-2);
            gated_case(AGON_GEMM_FAST, shapes[s], AGON_F32, dtypes[b], AGON_F32, 1e-2);
            gated_case(AGON_GEMM_FAST, shapes[s], AGON_E4M3, dtypes[b], AGON_F32, 2e-3);
        }
}

TEST(groups_of_rows_take_their_own_matrix)
{
    REQUIRE_GPU();
    const struct shape shapes[] = {{101, 70, 90}, {77, 448, 384}, {300, 384, 224}, {9, 256, 512}};
    for (size_t s = 0; s < 4; s++)
        for (size_t b = 0; b < 3; b++) {
            grouped_case(AGON_GEMM_EXACT, shapes[s], AGON_F32, dtypes[b], 1e-6);
            grouped_case(AGON_GEMM_FAST, shapes[s], AGON_BF16, dtypes[b], 4e-3);
            grouped_case(AGON_GEMM_FAST, shapes[s], AGON_F32, dtypes[b], 6e-3);
            grouped_case(AGON_GEMM_FAST, shapes[s], AGON_E4M3, dtypes[b], 1e-3);
        }
}

TEST(the_fast_product_is_near_on_any_shape)
{
    REQUIRE_GPU();
    const struct shape shapes[] = {{1, 8, 16},    {100, 368, 384}, {129, 2048, 384},
                                   {17, 100, 72}, {64, 448, 1024}, {1000, 24, 64},
                                   {5, 129, 129}, {256, 576, 640}};
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
        for (size_t a = 0; a < 3; a++)
            for (size_t b = 0; b < 3; b++) {
                struct shape t = shapes[s];
                struct weights w = weights_new(t.n, t.k, dtypes[b]);
                struct input in = input_new(t.m, t.k, dtypes[a]);
                float *want = poisoned_floats((size_t)(t.m * t.n));
                float *got = poisoned_floats((size_t)(t.m * t.n));
                for (int i = 0; i < t.m * t.n; i++)
                    want[i] = in_double(in.values + i / t.n * t.k, w.values + i % t.n * t.k, t.k);
                GPU_AUTO out = gpu_poisoned((size_t)(t.m * t.n) * sizeof(float), 0xff);
                struct agon_cuda_gemm gemm = gemm_of(&in, dtypes[a], t.m, t.n, out.p);
                EXPECT(agon_cuda_gemm(&gemm, &w.on_device, AGON_GEMM_FAST, NULL, &err) == 0);
                gpu_download(got, &out);
                char what[64];
                snprintf(what, sizeof(what), "fast %s by %s k %d", agon_dtype_name(dtypes[a]),
                         agon_dtype_name(dtypes[b]), t.k);
                expect_near(what, got, want, t.m, t.n, 6e-3);
                free(want), free(got);
                weights_free(&w);
                input_free(&in);
            }
}

/* For racecheck: one product of each pair of formats, alone, in groups and gated. */
TEST(few_rows_are_near)
{
    REQUIRE_GPU();
    const struct shape t = {17, 72, 200};
    heads_case(AGON_GEMM_FAST, AGON_BF16, 2e-6);
    for (size_t a = 0; a < 3; a++) {
        grouped_case(AGON_GEMM_FAST, t, dtypes[a], dtypes[a ? a : 1], 6e-3);
        gated_case(AGON_GEMM_FAST, t, dtypes[a], dtypes[a ? a : 1], AGON_F32, 1e-2);
    }
}

TEST(a_row_is_the_same_in_any_batch)
{
    REQUIRE_GPU();
    enum { M = 200, N = 448, K = 384 };
    const int counts[] = {1, 7, 16, 17, 64, 65, 128, 200};
    for (size_t a = 0; a < 3; a++)
        for (size_t b = 0; b < 3; b++) {
            struct weights w = weights_new(N, K, dtypes[b]);
            struct input in = input_new(M, K, dtypes[a]);
            float *all = poisoned_floats(M * N), *part = poisoned_floats(M * N);
            GPU_AUTO out = gpu_poisoned(M * N * sizeof(float), 0xff);
            struct agon_cuda_gemm gemm = gemm_of(&in, dtypes[a], M, N, out.p);
            EXPECT(agon_cuda_gemm(&gemm, &w.on_device, AGON_GEMM_FAST, NULL, &err) == 0);
            gpu_download(all, &out);
            for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
                int first = M - counts[c];
                GPU_AUTO few = gpu_poisoned((size_t)(counts[c] * N) * sizeof(float), 0xff);
                gemm = gemm_of(&in, dtypes[a], counts[c], N, few.p);
                gemm.x = (char *)in.codes.p + (size_t)first * in.ld * agon_dtype_size(dtypes[a]);
                gemm.x_scale = (float *)in.scales.p + (size_t)first * in.ld_scale;
                EXPECT(agon_cuda_gemm(&gemm, &w.on_device, AGON_GEMM_FAST, NULL, &err) == 0);
                gpu_download(part, &few);
                expect_bits("batch", part, all + first * N, counts[c], N);
            }
            free(all), free(part);
            weights_free(&w);
            input_free(&in);
        }
}

/* Rows in order come by tensor map, and where they are many to gemm_large.cu; the same rows by a
 * list of theirs go another way, by the kernel that does few. */
struct large {
    struct shape shape; /* n: outputs of a part, or rows of its gates and ups */
    int n_parts;        /* heads side by side; groups where grouped */
    bool grouped, gated;
    enum agon_dtype out_dtype;
};

static void large_case(const struct large *l, enum agon_dtype dtype)
{
    struct agon_err err = {0};
    struct shape t = l->shape;
    int heads = l->grouped ? 1 : l->n_parts, n = t.n / (l->gated ? 2 : 1), ld_out = heads * n + 8;
    struct weights w = weights_new(l->n_parts * t.n, t.k, dtype);
    struct input in = input_new(t.m, heads * t.k, dtype);
    int *rows = malloc((size_t)t.m * sizeof(*rows)), *begin = malloc((size_t)t.m * sizeof(*begin));
    size_t bytes = (size_t)(t.m + 1) * (size_t)ld_out * agon_dtype_size(l->out_dtype);
    char *got[2] = {malloc(bytes), malloc(bytes)};
    for (int i = 0; i < t.m; i++)
        rows[i] = i;
    begin[0] = 0;
    for (int g = 0; g < l->n_parts; g++) /* some have none, some take several tiles */
        begin[g + 1] =
            g % 7 == 3 ? begin[g] : (int)((int64_t)t.m * (g * g + 1) / (l->n_parts * l->n_parts));
    begin[l->n_parts] = t.m;
    GPU_AUTO d_rows = gpu_upload(rows, (size_t)t.m * sizeof(*rows));
    GPU_AUTO d_begin = gpu_upload(begin, ((size_t)l->n_parts + 1) * sizeof(*begin));
    for (int i = 0; i < 2; i++) {
        GPU_AUTO out = gpu_poisoned(bytes, 0xff);
        struct agon_cuda_gemm gemm = gemm_of(&in, dtype, t.m, ld_out, out.p);
        gemm.out_dtype = l->out_dtype;
        gemm.gated = l->gated;
        gemm.rows = i ? d_rows.p : NULL;
        gemm.n_batch = heads;
        gemm.batch_x = (size_t)t.k;
        gemm.batch_out = (size_t)n;
        int r = l->grouped ? agon_cuda_gemm_grouped(&gemm, &w.on_device, l->n_parts, d_begin.p,
                                                    AGON_GEMM_FAST, NULL, &err)
                           : agon_cuda_gemm(&gemm, &w.on_device, AGON_GEMM_FAST, NULL, &err);
        if (!EXPECT(r == 0))
            printf("# %s\n", err.text);
        gpu_download(got[i], &out);
    }
    size_t row_bytes = (size_t)ld_out * agon_dtype_size(l->out_dtype), at = 0;
    while (at < bytes && got[0][at] == got[1][at])
        at++;
    if (!EXPECT(at == bytes))
        printf("# %s, %d parts%s%s of [%d][%d][%d]: first apart at row %zu, output %zu\n",
               agon_dtype_name(dtype), l->n_parts, l->grouped ? " (groups)" : "",
               l->gated ? ", gated" : "", t.m, t.n, t.k, at / row_bytes,
               at % row_bytes / agon_dtype_size(l->out_dtype));
    free(rows), free(begin), free(got[0]), free(got[1]);
    weights_free(&w);
    input_free(&in);
}

TEST(many_rows_are_what_few_are)
{
    REQUIRE_GPU();
    static const struct large cases[] = {
        {{300, 8776, 328}, 1, .out_dtype = AGON_F32},
        {{1000, 5000, 1000}, 1, .out_dtype = AGON_BF16},
        {{700, 9280, 200}, 1, .gated = true, .out_dtype = AGON_BF16},
        {{700, 9344, 200}, 1, .gated = true, .out_dtype = AGON_BF16},
        {{200, 9328, 392},
         1,
         .gated = true,
         .out_dtype = AGON_F32}, /* ups' blocks begin anywhere */
        {{333, 136, 128}, 40, .out_dtype = AGON_BF16},
        {{3000, 384, 384}, 60, .grouped = true, .out_dtype = AGON_F32},
        {{3000, 392, 200}, 60, .grouped = true, .out_dtype = AGON_F32},
        {{3000, 768, 328}, 60, .grouped = true, .gated = true, .out_dtype = AGON_F32},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        for (size_t d = 1; d < (cases[i].n_parts == 1 || cases[i].grouped ? 3 : 2); d++)
            large_case(&cases[i], dtypes[d]); /* heads: BF16 alone */
}
