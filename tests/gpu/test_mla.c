/* Latent attention on the GPU against its twin: odd shapes, every format, poisoned outputs. */
#include "tests/gpu/far.h"
#include "tests/gpu/mla.h"

static const enum agon_latent_format formats[] = {AGON_LATENT_F32, AGON_LATENT_BF16,
                                                  AGON_LATENT_FP8};
static const char *const format_names[] = {"f32", "bf16", "fp8"};

static uint16_t *to_bf16(const float *x, size_t n)
{
    uint16_t *y = malloc((n + 1) * sizeof(*y));
    for (size_t i = 0; i < n; i++)
        y[i] = agon_bf16_encode(x[i]);
    return y;
}

/* Where two pools differ first, for the reader of a failed test. */
static bool pools_equal(const struct mla_world *w, const uint8_t *got)
{
    size_t bytes = mla_world_bytes(w);
    for (size_t i = 0; i < bytes; i++)
        if (got[i] != w->expected[i]) {
            printf("# %s %d+%d: slot %zu byte %zu is %02x, not %02x\n", format_names[w->format],
                   w->kv_lora, w->rope_dim, i / w->entry_bytes, i % w->entry_bytes, got[i],
                   w->expected[i]);
            return false;
        }
    return true;
}

static void store_case(enum agon_latent_format format, int kv_lora, int rope_dim, bool bf16_input)
{
    struct mla_world w = mla_world_new(format, kv_lora, rope_dim, 3, 150, 2);
    struct agon_err err = {0};
    int n_rows = 3 * 150 + 2, dim = kv_lora + rope_dim, ld = dim + 3;
    int32_t *sequence = malloc((size_t)n_rows * sizeof(*sequence));
    int32_t *position = malloc((size_t)n_rows * sizeof(*position));
    float *rows = poisoned_floats((size_t)n_rows * (size_t)ld);
    for (int r = 0; r < n_rows; r++) { /* the rows in a scattered order, two of them not there */
        int i = r * 7 % n_rows;
        sequence[r] = i < 450 ? i / 150 : -1;
        position[r] = i < 450 ? i % 150 : 0;
        if (i < 450)
            memcpy(rows + (size_t)r * (size_t)ld, w.kv + (size_t)i * (size_t)dim,
                   (size_t)dim * sizeof(*rows));
    }
    uint16_t *narrow = to_bf16(rows, (size_t)n_rows * (size_t)ld);
    GPU_AUTO kv = bf16_input ? gpu_upload(narrow, (size_t)n_rows * (size_t)ld * sizeof(*narrow))
                             : gpu_upload(rows, (size_t)n_rows * (size_t)ld * sizeof(*rows));
    GPU_AUTO d_sequence = gpu_upload(sequence, (size_t)n_rows * sizeof(*sequence));
    GPU_AUTO d_position = gpu_upload(position, (size_t)n_rows * sizeof(*position));
    GPU_AUTO d_pages = gpu_upload(w.pages, (size_t)(3 * w.ld_pages) * sizeof(*w.pages));
    GPU_AUTO pool = gpu_poisoned(mla_world_bytes(&w), 0xa5);
    struct agon_mla_cache cache = {pool.p, format, kv_lora, rope_dim};
    struct agon_mla_rows where = {n_rows, d_sequence.p, d_position.p, d_pages.p, w.ld_pages};
    EXPECT(agon_mla_store_cuda(&cache, kv.p, bf16_input ? AGON_BF16 : AGON_F32, (size_t)ld, &where,
                               NULL, &err) == 0);
    uint8_t *got = malloc(mla_world_bytes(&w));
    gpu_download(got, &pool);
    if (bf16_input) /* what was stored from is rounded first */
        for (size_t i = 0; i < (size_t)450; i++) {
            float *kv_i = w.kv + i * (size_t)dim;
            for (int d = 0; d < dim; d++)
                kv_i[d] = agon_bf16_decode(agon_bf16_encode(kv_i[d]));
            mla_world_entry(&w,
                            w.expected + (size_t)mla_world_slot(&w, (int)i / 150, (int)i % 150) *
                                             w.entry_bytes,
                            w.decoded + i * (size_t)dim, kv_i);
        }
    EXPECT(pools_equal(&w, got));
    free(got);
    free(narrow);
    free(rows);
    free(sequence);
    free(position);
    mla_world_free(&w);
}

TEST(entries_are_stored_as_the_formats_say)
{
    REQUIRE_GPU();
    static const int dims[][2] = {{512, 64}, {128, 16}, {96, 8}, {37, 5}, {1, 0}, {300, 33}};
    for (size_t d = 0; d < sizeof(dims) / sizeof(*dims); d++)
        for (size_t f = 0; f < 3; f++) {
            store_case(formats[f], dims[d][0], dims[d][1], false);
            store_case(formats[f], dims[d][0], dims[d][1], true);
        }
}

/* One call of attention and its twin. */
struct attention {
    int n_heads, n_rows, ld_selected; /* ld_selected 0: dense */
    float query_size;                 /* sets how sharp the softmax is */
    bool bf16_query, bf16_out, plain;
    int split;
};

/* The world's pool on the device; one that begins elsewhere has its first page, poisoned (0: all of
 * it is there), and the world's. */
static struct far_range far_pool(const struct mla_world *w)
{
    if (w->first_page == 0)
        return (struct far_range){0};
    size_t page = AGON_CUDA_PAGE * w->entry_bytes, begin = page * (size_t)w->first_page;
    struct far_range f = far_new(begin + mla_world_bytes(w));
    uint8_t *poison = malloc(page);
    memset(poison, 0xff, page);
    far_put(&f, 0, poison, page);
    far_put(&f, begin, w->expected, mla_world_bytes(w));
    free(poison);
    return f;
}

/* Rows of growing positions; sparse ones select some of what they could see, with gaps (-1). */
static double attention_error(const struct mla_world *w, const struct attention *a)
{
    struct agon_err err = {0};
    size_t dim = (size_t)(w->kv_lora + w->rope_dim), n_rows = (size_t)a->n_rows;
    size_t n_q = n_rows * (size_t)a->n_heads * dim;
    size_t n_out = n_rows * (size_t)a->n_heads * (size_t)w->kv_lora;
    int32_t *sequence = malloc(n_rows * sizeof(*sequence));
    int32_t *position = malloc(n_rows * sizeof(*position));
    int32_t *selected = malloc(n_rows * (size_t)(a->ld_selected + 1) * sizeof(*selected));
    int32_t *n_selected = malloc(n_rows * sizeof(*n_selected));
    float *q = random_floats(n_q), *want = poisoned_floats(n_out), *got = poisoned_floats(n_out);
    const float **entries = malloc((size_t)(w->n_positions + 1) * sizeof(*entries));
    float *scores = malloc((size_t)(w->n_positions + 1) * sizeof(*scores));
    for (size_t i = 0; i < n_q; i++) {
        q[i] *= a->query_size;
        if (a->bf16_query)
            q[i] = agon_bf16_decode(agon_bf16_encode(q[i]));
    }
    const float scale = 0.1352337788608801F;
    for (int r = 0; r < a->n_rows; r++) {
        sequence[r] = r % 5 == 4 ? -1 : random_below(w->n_sequences);
        position[r] = r == 0 ? w->n_positions - 1 : r == 1 ? 0 : random_below(w->n_positions);
        n_selected[r] = 0;
        int n = 0, s = sequence[r];
        for (int i = 0; s >= 0 && i <= position[r]; i++) {
            int p = position[r] - i; /* in falling order */
            bool take = a->ld_selected == 0 || random_below(w->n_positions) < a->ld_selected;
            int32_t *list = selected + (size_t)r * (size_t)a->ld_selected;
            if (a->ld_selected && n_selected[r] < a->ld_selected && random_below(16) == 0)
                list[n_selected[r]++] = -1;
            if (!take || (a->ld_selected && n_selected[r] == a->ld_selected))
                continue;
            if (a->ld_selected)
                list[n_selected[r]++] = mla_world_slot(w, s, p);
            entries[n++] = w->decoded + ((size_t)s * (size_t)w->n_positions + (size_t)p) * dim;
        }
        for (int i = n_selected[r]; i < a->ld_selected; i++)
            selected[(size_t)r * (size_t)a->ld_selected + (size_t)i] = 1 << 30; /* not to be read */
        float *out = want + (size_t)r * (size_t)(a->n_heads * w->kv_lora);
        if (n == 0)
            memset(out, 0, (size_t)(a->n_heads * w->kv_lora) * sizeof(*out));
        else
            agon_mla_ref(out, q + (size_t)r * (size_t)a->n_heads * dim, entries, n, a->n_heads,
                         (int)dim, w->kv_lora, scale, scores);
    }
    uint16_t *narrow = to_bf16(q, n_q);
    FAR_AUTO far = far_pool(w);
    GPU_AUTO pool = gpu_upload(w->expected, mla_world_bytes(w));
    GPU_AUTO d_q =
        a->bf16_query ? gpu_upload(narrow, n_q * sizeof(*narrow)) : gpu_upload(q, n_q * sizeof(*q));
    GPU_AUTO d_sequence = gpu_upload(sequence, n_rows * sizeof(*sequence));
    GPU_AUTO d_position = gpu_upload(position, n_rows * sizeof(*position));
    GPU_AUTO d_pages =
        gpu_upload(w->pages, (size_t)(w->n_sequences * w->ld_pages) * sizeof(*w->pages));
    GPU_AUTO d_selected =
        gpu_upload(selected, n_rows * (size_t)(a->ld_selected + 1) * sizeof(*selected));
    GPU_AUTO d_n_selected = gpu_upload(n_selected, n_rows * sizeof(*n_selected));
    size_t out_bytes = n_out * (a->bf16_out ? sizeof(uint16_t) : sizeof(float));
    GPU_AUTO d_out = gpu_poisoned(out_bytes, 0xff);
    struct agon_mla mla = {
        .cache = {far.begin ? (void *)far.begin : pool.p, w->format, w->kv_lora, w->rope_dim},
        .rows = {a->n_rows, d_sequence.p, d_position.p, d_pages.p, w->ld_pages},
        .n_heads = a->n_heads,
        .scale = scale,
        .q = d_q.p,
        .out = d_out.p,
        .q_dtype = a->bf16_query ? AGON_BF16 : AGON_F32,
        .out_dtype = a->bf16_out ? AGON_BF16 : AGON_F32,
        .selected = a->ld_selected ? d_selected.p : NULL,
        .n_selected = d_n_selected.p,
        .ld_selected = a->ld_selected,
        .n_positions_max = w->n_positions,
        .split = a->split,
        .plain = a->plain,
    };
    GPU_AUTO scratch = gpu_poisoned(agon_mla_scratch(&mla), 0xff);
    mla.scratch = scratch.p;
    if (!EXPECT(agon_mla_cuda(&mla, NULL, &err) == 0))
        printf("# %s\n", err.text);
    if (a->bf16_out) {
        uint16_t *codes = malloc(out_bytes);
        gpu_download(codes, &d_out);
        for (size_t i = 0; i < n_out; i++)
            got[i] = agon_bf16_decode(codes[i]);
        free(codes);
    } else {
        gpu_download(got, &d_out);
    }
    double error = relative_error(got, want, n_out);
    if (!(error < 2e-2)) { /* where it begins, for the reader */
        int shown = 0;
        for (size_t i = 0; i < n_out && shown < 6; i++)
            if (!(fabs((double)got[i] - want[i]) < 2e-2 * (fabs((double)want[i]) + 0.05))) {
                size_t per_row = (size_t)(a->n_heads * w->kv_lora);
                printf("# row %zu head %zu dim %zu: got %g want %g\n", i / per_row,
                       i % per_row / (size_t)w->kv_lora, i % (size_t)w->kv_lora, got[i], want[i]);
                shown++;
            }
    }
    free(narrow);
    free(sequence);
    free(position);
    free(selected);
    free(n_selected);
    free(q);
    free(want);
    free(got);
    free(entries);
    free(scores);
    return error;
}

static void expect_near(const struct mla_world *w, struct attention a, double tolerance)
{
    double error = attention_error(w, &a);
    if (!EXPECT(error < tolerance))
        printf("# %s %d+%d, %d positions from page %d on, %d rows x %d heads, %s %d, query %g %s, "
               "split %d: %g\n",
               format_names[w->format], w->kv_lora, w->rope_dim, w->n_positions, w->first_page,
               a.n_rows, a.n_heads, a.ld_selected ? "selected" : "dense", a.ld_selected,
               (double)a.query_size, a.bf16_query ? "bf16" : "f32", a.split, error);
}

/* float32: sums of some hundred products in blocks; 1e-5 leaves a factor of five or so. */
TEST(plain_attention_is_its_twin_for_any_shape_and_format)
{
    REQUIRE_GPU();
    static const struct {
        int kv_lora, rope_dim, n_heads, n_positions, ld_selected;
    } cases[] = {{128, 16, 6, 300, 0},  {128, 16, 6, 300, 40}, {37, 5, 3, 65, 0},
                 {37, 5, 3, 65, 7},     {1, 0, 1, 33, 0},      {512, 64, 17, 200, 0},
                 {512, 64, 9, 200, 64}, {600, 70, 2, 70, 33},  {130, 2, 11, 64, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (size_t f = 0; f < 3; f++) {
            struct mla_world w = mla_world_new(formats[f], cases[i].kv_lora, cases[i].rope_dim, 3,
                                               cases[i].n_positions, 3);
            struct attention a = {.n_heads = cases[i].n_heads,
                                  .n_rows = 11,
                                  .ld_selected = cases[i].ld_selected,
                                  .query_size = 3,
                                  .plain = true};
            expect_near(&w, a, 1e-5);
            a.bf16_query = true;
            expect_near(&w, a, 1e-5);
            a.query_size = 30; /* scores near 100: their own rounding, 1e-5, moves the weights */
            expect_near(&w, a, 5e-5);
            a.bf16_out = true;
            expect_near(&w, a, 4e-3); /* one rounding to bf16: at most 2^-8 */
            mla_world_free(&w);
        }
}

/* BF16 queries, entries and weights, each rounded to 2^-9: some 3e-3 in all. */
TEST(fast_attention_is_its_twin)
{
    REQUIRE_GPU();
    static const struct {
        int n_heads, n_positions, ld_selected, split;
    } cases[] = {{64, 64, 64, 0},        {64, 128, 0, 0},     {128, 700, 0, 0},
                 {128, 900, 300, 0},     {128, 1000, 65, 0},  {16, 200, 0, 0},
                 {65, 130, 40, 0},       {128, 1500, 0, 256}, {64, 1500, 600, 64},
                 {128, 3000, 2048, 512}, {130, 500, 200, 192}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        for (size_t f = 1; f < 3; f++) {
            struct mla_world w = mla_world_new(formats[f], 512, 64, 3, cases[i].n_positions, 3);
            struct attention a = {.n_heads = cases[i].n_heads,
                                  .n_rows = 5,
                                  .ld_selected = cases[i].ld_selected,
                                  .query_size = 1,
                                  .bf16_query = true,
                                  .split = cases[i].split};
            expect_near(&w, a, 1e-2);
            if (cases[i].n_positions > 800) { /* the twin is slow */
                mla_world_free(&w);
                continue;
            }
            a.query_size = 8;
            a.bf16_out = true;
            expect_near(&w, a, 1e-2);
            a.bf16_query = false;
            expect_near(&w, a, 2e-2);
            mla_world_free(&w);
        }
}

/* Pools of 69 GB and 1.4 TB a layer: behind what 32 bits of 16 bytes count, and at the last slots
 * that a number has. */
TEST(entries_of_a_pool_of_any_size_are_found)
{
    REQUIRE_GPU();
    static const int last_pages[] = {(1 << 20) + 7, (int)(UINT32_MAX / 41 / AGON_CUDA_PAGE) + 4,
                                     INT32_MAX / AGON_CUDA_PAGE};
    for (size_t i = 0; i < sizeof(last_pages) / sizeof(*last_pages); i++)
        for (size_t f = 1; f < 3; f++) {
            struct mla_world w = mla_world_new(formats[f], 512, 64, 3, 200, 0);
            mla_world_move(&w, last_pages[i] - w.n_pages);
            struct attention a = {.n_heads = 64, .n_rows = 4, .query_size = 1, .bf16_query = true};
            expect_near(&w, a, 1e-2);
            a.ld_selected = 90;
            expect_near(&w, a, 1e-2);
            a.plain = true;
            expect_near(&w, a, 1e-5);
            mla_world_free(&w);
        }
}

/* For racecheck: selected and all, in one part and in several, in both families. */
TEST(few_rows_attend_as_the_twin)
{
    REQUIRE_GPU();
    for (size_t f = 1; f < 3; f++) {
        struct mla_world w = mla_world_new(formats[f], 512, 64, 3, 130, 3);
        struct attention a = {.n_heads = 64, .n_rows = 3, .query_size = 1, .bf16_query = true};
        a.ld_selected = 70;
        expect_near(&w, a, 1e-2);
        a.ld_selected = 0;
        a.split = 64;
        expect_near(&w, a, 1e-2);
        mla_world_free(&w);
    }
    struct mla_world w = mla_world_new(AGON_LATENT_BF16, 128, 16, 3, 200, 3);
    struct attention a = {
        .n_heads = 6, .n_rows = 9, .ld_selected = 50, .query_size = 2, .bf16_query = true};
    expect_near(&w, a, 1e-2);
    mla_world_free(&w);
}

TEST(small_fast_attention_is_its_twin)
{
    REQUIRE_GPU();
    static const struct {
        int n_heads, n_rows, n_positions, ld_selected;
    } cases[] = {{6, 11, 300, 0},   {6, 11, 900, 300},  {1, 3, 33, 0},    {17, 7, 200, 64},
                 {6, 40, 900, 300}, {16, 9, 1500, 512}, {5, 70, 200, 50}, {1, 200, 400, 100}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct mla_world w = mla_world_new(AGON_LATENT_BF16, 128, 16, 3, cases[i].n_positions, 3);
        struct attention a = {.n_heads = cases[i].n_heads,
                              .n_rows = cases[i].n_rows,
                              .ld_selected = cases[i].ld_selected,
                              .query_size = 2,
                              .bf16_query = true};
        expect_near(&w, a, 1e-2);
        a.query_size = 10;
        a.bf16_query = false;
        a.bf16_out = true;
        expect_near(&w, a, 2e-2);
        a.plain = true; /* the same lists by the plain kernel */
        a.bf16_out = false;
        expect_near(&w, a, 1e-5);
        mla_world_free(&w);
    }
}

/* Dense attention of n rows, then of each row alone: the same bits. */
static void alone_case(enum agon_latent_format format, int kv_lora, int rope_dim, int n_heads,
                       int split)
{
    enum { ROWS = 9, POSITIONS = 700 };
    struct agon_err err = {0};
    struct mla_world w = mla_world_new(format, kv_lora, rope_dim, 3, POSITIONS, 1);
    size_t q_row = (size_t)(n_heads * (kv_lora + rope_dim)), out_row = (size_t)(n_heads * kv_lora);
    int32_t sequence[ROWS], position[ROWS];
    for (int r = 0; r < ROWS; r++) {
        sequence[r] = r % 3;
        position[r] = random_below(POSITIONS);
    }
    float *q = random_floats(ROWS * q_row), *all = poisoned_floats(ROWS * out_row),
          *alone = poisoned_floats(out_row);
    GPU_AUTO pool = gpu_upload(w.expected, mla_world_bytes(&w));
    GPU_AUTO d_q = gpu_upload(q, ROWS * q_row * sizeof(*q));
    GPU_AUTO d_sequence = gpu_upload(sequence, sizeof(sequence));
    GPU_AUTO d_position = gpu_upload(position, sizeof(position));
    GPU_AUTO d_pages = gpu_upload(w.pages, (size_t)(3 * w.ld_pages) * sizeof(*w.pages));
    struct agon_mla mla = {.cache = {pool.p, format, kv_lora, rope_dim},
                           .rows = {ROWS, d_sequence.p, d_position.p, d_pages.p, w.ld_pages},
                           .n_heads = n_heads,
                           .scale = 0.1F,
                           .q = d_q.p,
                           .n_positions_max = POSITIONS,
                           .split = split};
    GPU_AUTO d_all = gpu_poisoned(ROWS * out_row * sizeof(float), 0xff);
    GPU_AUTO scratch = gpu_poisoned(agon_mla_scratch(&mla), 0xff);
    mla.out = d_all.p;
    mla.scratch = scratch.p;
    EXPECT(agon_mla_cuda(&mla, NULL, &err) == 0);
    gpu_download(all, &d_all);
    for (int r = 0; r < ROWS; r++) {
        GPU_AUTO d_alone = gpu_poisoned(out_row * sizeof(float), 0xff);
        mla.rows.n_rows = 1;
        mla.rows.sequence = (const int32_t *)d_sequence.p + r;
        mla.rows.position = (const int32_t *)d_position.p + r;
        mla.q = (const float *)d_q.p + (size_t)r * q_row;
        mla.out = d_alone.p;
        EXPECT(agon_mla_cuda(&mla, NULL, &err) == 0);
        gpu_download(alone, &d_alone);
        if (!EXPECT(memcmp(alone, all + (size_t)r * out_row, out_row * sizeof(float)) == 0))
            printf("# %s %d+%d, split %d: row %d\n", format_names[format], kv_lora, rope_dim, split,
                   r);
    }
    free(q);
    free(all);
    free(alone);
    mla_world_free(&w);
}

TEST(a_row_is_the_same_to_the_bit_alone_and_among_others)
{
    REQUIRE_GPU();
    alone_case(AGON_LATENT_F32, 128, 16, 6, 0);
    alone_case(AGON_LATENT_BF16, 128, 16, 6, 0);
    alone_case(AGON_LATENT_BF16, 512, 64, 64, 0);
    alone_case(AGON_LATENT_FP8, 512, 64, 128, 0);
    alone_case(AGON_LATENT_FP8, 512, 64, 128, 192);
}

TEST(a_shape_that_is_not_done_is_refused_in_one_line)
{
    REQUIRE_GPU();
    struct agon_mla mla = {
        .cache = {NULL, AGON_LATENT_BF16, 512, 64}, .rows = {.n_rows = 1}, .n_heads = 0};
    EXPECT(agon_mla_cuda(&mla, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "0 heads");
    mla.n_heads = 8;
    EXPECT(agon_mla_cuda(&mla, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "neither selected slots nor pages");
    mla.q_dtype = AGON_E4M3;
    EXPECT(agon_mla_cuda(&mla, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "F8_E4M3");
}
