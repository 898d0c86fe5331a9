/* Products of small models against the product in double: one, a batch, groups of rows, gated; and
 * each row alone. */
#include "kernels/cuda_small.h"
#include "tests/gpu/gpu.h"

struct product {
    int n_rows, k, n, n_parts; /* n: outputs of a part */
    bool grouped, gated, f32_rows, bf16_out;
};

static float rounded(float x)
{
    return agon_bf16_decode(agon_bf16_encode(x));
}

struct world {
    int n_x, *begin, *rows; /* rows: gathers, where grouped */
    float *x, *w;           /* BF16 values: x [n_x][parts * k] */
    uint16_t *x16, *w16;
    size_t ld_x;
};

static struct world world_new(const struct product *p)
{
    int n_w = p->n_parts * p->n * (p->gated ? 2 : 1);
    struct world w = {.n_x = p->grouped ? p->n_rows / 2 + 1 : p->n_rows,
                      .begin = calloc((size_t)p->n_parts + 1, sizeof(int)),
                      .rows = calloc((size_t)p->n_rows, sizeof(int)),
                      .ld_x = (size_t)(p->k * (p->grouped ? 1 : p->n_parts))};
    size_t nx = (size_t)w.n_x * w.ld_x, nw = (size_t)n_w * (size_t)p->k;
    w.x = random_floats(nx);
    w.w = random_floats(nw);
    w.x16 = malloc(nx * 2);
    w.w16 = malloc(nw * 2);
    for (size_t i = 0; i < nx; i++)
        w.x[i] = rounded(w.x[i]), w.x16[i] = agon_bf16_encode(w.x[i]);
    for (size_t i = 0; i < nw; i++)
        w.w[i] = rounded(w.w[i]), w.w16[i] = agon_bf16_encode(w.w[i]);
    for (int r = 0; r < p->n_rows; r++)
        w.rows[r] = random_below(w.n_x);
    for (int g = 1; g < p->n_parts; g++) /* some groups are empty */
        w.begin[g] = g % 3 == 2 ? w.begin[g - 1] : p->n_rows * g / p->n_parts;
    w.begin[p->n_parts] = p->n_rows;
    return w;
}

static void world_free(struct world *w)
{
    free(w->begin);
    free(w->rows);
    free(w->x);
    free(w->w);
    free(w->x16);
    free(w->w16);
}

static double dot(const float *a, const float *b, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += (double)a[i] * b[i];
    return sum;
}

static float wanted(const struct product *p, const struct world *w, int part, int r, int o)
{
    const float *x = p->grouped ? w->x + (size_t)w->rows[r] * w->ld_x
                                : w->x + (size_t)r * w->ld_x + (size_t)(part * p->k);
    int first = part * p->n * (p->gated ? 2 : 1);
    double a = dot(x, w->w + (size_t)(first + o) * (size_t)p->k, p->k);
    if (!p->gated)
        return (float)a;
    double up = dot(x, w->w + (size_t)(first + p->n + o) * (size_t)p->k, p->k);
    return (float)(a / (1 + exp(-a)) * up);
}

/* out [n_rows][parts * n], or [n_rows][n] where grouped. */
static void run(const struct product *p, const struct world *w, int n_rows, const int *begin,
                float *out)
{
    struct agon_err err = {0};
    int n_w = p->n_parts * p->n * (p->gated ? 2 : 1);
    size_t ld_out = (size_t)(p->n * (p->grouped ? 1 : p->n_parts)), n_out = (size_t)n_rows * ld_out;
    size_t nx = (size_t)w->n_x * w->ld_x, nw = (size_t)n_w * (size_t)p->k;
    GPU_AUTO x = p->f32_rows ? gpu_upload(w->x, nx * 4) : gpu_upload(w->x16, nx * 2);
    GPU_AUTO weights = gpu_upload(w->w16, nw * 2);
    GPU_AUTO rows = gpu_upload(w->rows, (size_t)p->n_rows * 4);
    GPU_AUTO groups = gpu_upload(begin, (size_t)(p->n_parts + 1) * 4);
    GPU_AUTO d_out = gpu_poisoned(n_out * (p->bf16_out ? 2 : 4), 0xff);
    struct agon_cuda_gemm g = {.out = d_out.p,
                               .out_dtype = p->bf16_out ? AGON_BF16 : AGON_F32,
                               .ld_out = ld_out,
                               .x = x.p,
                               .x_dtype = p->f32_rows ? AGON_F32 : AGON_BF16,
                               .ld_x = w->ld_x,
                               .rows = p->grouped ? rows.p : NULL,
                               .n_rows = n_rows,
                               .n_batch = p->grouped ? 0 : p->n_parts,
                               .batch_x = p->grouped ? 0 : (size_t)p->k,
                               .batch_out = p->grouped ? 0 : (size_t)p->n,
                               .gated = p->gated};
    struct agon_cuda_matrix m = {
        .n = n_w, .k = p->k, .dtype = AGON_BF16, .data = weights.p, .ld = (size_t)p->k};
    int n_groups = p->grouped ? p->n_parts : 0;
    if (!EXPECT(agon_cuda_small_does(&g, &m, n_groups)) ||
        !EXPECT(agon_cuda_small(&g, &m, n_groups, groups.p, NULL, &err) == 0))
        printf("# %s\n", err.text);
    if (p->bf16_out) {
        uint16_t *narrow = malloc(n_out * 2);
        gpu_download(narrow, &d_out);
        for (size_t i = 0; i < n_out; i++)
            out[i] = agon_bf16_decode(narrow[i]);
        free(narrow);
    } else {
        gpu_download(out, &d_out);
    }
}

static int part_of_row(const struct product *p, const struct world *w, int r)
{
    int part = 0;
    while (p->grouped && r >= w->begin[part + 1])
        part++;
    return part;
}

static void check(struct product p)
{
    struct world w = world_new(&p);
    size_t width = (size_t)(p.n * (p.grouped ? 1 : p.n_parts)), n = (size_t)p.n_rows * width;
    float *got = poisoned_floats(n), *want = poisoned_floats(n), *fewer = poisoned_floats(n);
    int n_told = 0;
    run(&p, &w, p.n_rows, w.begin, got);
    for (int r = 0; r < p.n_rows; r++)
        for (size_t o = 0; o < width; o++)
            want[(size_t)r * width + o] =
                wanted(&p, &w, p.grouped ? part_of_row(&p, &w, r) : (int)o / p.n, r, (int)o % p.n);
    for (size_t i = 0; i < n && n_told < 3; i++)
        if (!(fabsf(got[i] - want[i]) <= 0.02F + 0.02F * fabsf(want[i]))) {
            printf("# row %zu output %zu: %g, wanted %g\n", i / width, i % width, (double)got[i],
                   (double)want[i]);
            n_told++;
        }
    double error = relative_error(got, want, n);
    printf("# [%d][%d] by [%d][%d]%s%s%s%s: error %.2g\n", p.n_rows, p.k, p.n_parts * p.n, p.k,
           p.grouped ? " grouped" : "", p.gated ? " gated" : "", p.f32_rows ? " f32" : "",
           p.bf16_out ? " to bf16" : "", error);
    EXPECT(error < (p.bf16_out ? 3e-3 : 1e-5));
    if (!p.grouped && p.n_rows > 20) { /* the first rows alone are the same, bit for bit */
        run(&p, &w, 20, w.begin, fewer);
        EXPECT(memcmp(fewer, got, 20 * width * sizeof(float)) == 0);
    }
    free(got);
    free(want);
    free(fewer);
    world_free(&w);
}

TEST(small_products_equal_the_plain_one)
{
    REQUIRE_GPU();
    for (int large = 0; large < 2; large++) {
        int n = large ? 1000 : 100;
        check((struct product){.n_rows = n, .k = 384, .n = 372, .n_parts = 1});
        check(
            (struct product){.n_rows = n + 1, .k = 192, .n = 512, .n_parts = 1, .bf16_out = true});
        check((struct product){.n_rows = n, .k = 48, .n = 128, .n_parts = 6, .f32_rows = true});
        check((struct product){
            .n_rows = n + 7, .k = 128, .n = 64, .n_parts = 6, .f32_rows = true, .bf16_out = true});
        check((struct product){.n_rows = 2 * n,
                               .k = 384,
                               .n = 224,
                               .n_parts = 9,
                               .grouped = true,
                               .gated = true,
                               .bf16_out = true});
        check((struct product){.n_rows = 3 * n, .k = 224, .n = 384, .n_parts = 9, .grouped = true});
        check((struct product){
            .n_rows = n, .k = 384, .n = 1024, .n_parts = 1, .gated = true, .bf16_out = true});
        check((struct product){.n_rows = n, .k = 1024, .n = 384, .n_parts = 1});
    }
    check((struct product){.n_rows = 1, .k = 16, .n = 1, .n_parts = 1});
    check((struct product){.n_rows = 300, .k = 384, .n = 2048, .n_parts = 1});
}

/* For racecheck. */
TEST(few_rows_equal_the_plain_product)
{
    REQUIRE_GPU();
    check((struct product){.n_rows = 21, .k = 48, .n = 40, .n_parts = 2, .f32_rows = true});
    check((struct product){.n_rows = 9,
                           .k = 64,
                           .n = 24,
                           .n_parts = 3,
                           .grouped = true,
                           .gated = true,
                           .bf16_out = true});
}
