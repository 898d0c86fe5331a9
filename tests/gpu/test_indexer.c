/* Index keys and scores on the GPU against the CPU twins, through shuffled pages. */
#include "tests/gpu/paged.h"

/* One layer's keys: stored on the GPU from `x`, and what the twins make of them, by slot. */
struct layer {
    struct agon_cuda_keys keys;
    struct gpu_buffer pool;
    float *wide; /* [n_pages * AGON_CUDA_PAGE][dim]: codes without their scale where FP8 */
    float *scale;
};
static void layer_free(struct layer *l)
{
    free(l->wide), free(l->scale);
    gpu_buffer_free(&l->pool);
}
#define LAYER_AUTO __attribute__((cleanup(layer_free))) struct layer

static void twin_of_key(uint8_t *codes, float *ret_scale, const float *x, int dim)
{
    float rotated[1024];
    memcpy(rotated, x, (size_t)dim * sizeof(*x));
    if ((dim & (dim - 1)) == 0)
        agon_hadamard_ref(rotated, x, dim);
    agon_act_quant_ref(codes, ret_scale, rotated, dim, true);
}

/* Store a random key at every position that a row sees; every byte is held against the twin's. */
static struct layer layer_new(const struct paged *p, enum agon_keys_format format, int dim)
{
    struct agon_err err = {0};
    size_t page_bytes = agon_keys_page_bytes(format, dim),
           n_slots = (size_t)p->n_pages * AGON_CUDA_PAGE;
    struct layer l = {.pool = gpu_poisoned((size_t)p->n_pages * page_bytes, 0x7f)};
    l.keys = (struct agon_cuda_keys){l.pool.p, format, dim, p->n_pages};
    l.wide = poisoned_floats(n_slots * (size_t)dim);
    l.scale = poisoned_floats(n_slots);
    uint8_t *expected = malloc(l.pool.bytes), *got = malloc(l.pool.bytes);
    memset(expected, 0x7f, l.pool.bytes);
    for (int r = 0; r < p->n_rows; r++) {
        if (p->row_sequence[r] < 0)
            continue;
        int n = p->row_position[r] + 1;
        float *x = random_floats((size_t)(n * (dim + 2)));
        PAGED_AUTO store = paged_new(n, p->n_sequences, p->ld_pages, 0);
        memcpy(store.pages, p->pages, (size_t)(p->n_sequences * p->ld_pages) * sizeof(int32_t));
        for (int s = 0; s < n; s++) {
            store.row_sequence[s] = isnan(l.scale[paged_slot(p, r, s)]) ? p->row_sequence[r] : -1;
            store.row_position[s] = s;
            size_t slot = paged_slot(p, r, s), page = slot / AGON_CUDA_PAGE,
                   at = slot % AGON_CUDA_PAGE;
            if (store.row_sequence[s] < 0)
                continue; /* of a shared page: stored by an earlier row */
            float *key = x + (size_t)(s * (dim + 2)), scale = 1,
                  *wide = l.wide + slot * (size_t)dim;
            uint8_t *bytes = expected + page * page_bytes, codes[1024];
            key[random_below(dim)] = random_float() * 30;
            for (int d = 0; d < dim && s == 3; d++)
                key[d] = 0; /* the smallest scale */
            if (format == AGON_KEYS_F32) {
                memcpy(bytes + at * (size_t)dim * 4, key, (size_t)dim * 4);
                memcpy(wide, key, (size_t)dim * 4);
            } else {
                twin_of_key(codes, &scale, key, dim);
                memcpy(bytes + at * (size_t)dim, codes, (size_t)dim);
                memcpy(bytes + AGON_CUDA_PAGE * (size_t)dim + at * 4, &scale, 4);
                for (int d = 0; d < dim; d++)
                    wide[d] = agon_e4m3_decode(codes[d]);
            }
            l.scale[slot] = scale;
        }
        paged_upload(&store);
        GPU_AUTO d_x = gpu_upload(x, (size_t)(n * (dim + 2)) * sizeof(float));
        EXPECT(agon_cuda_index_store(&l.keys, d_x.p, (size_t)dim + 2, &store.rows, NULL, &err) ==
               0);
        EXPECT(agon_cuda_sync(NULL, &err) == 0);
        free(x);
    }
    gpu_download(got, &l.pool);
    size_t n_wrong = 0;
    for (size_t i = 0; i < l.pool.bytes; i++)
        if (got[i] != expected[i] && n_wrong++ < 3)
            printf("# key bytes: format %d dim %d page %zu byte %zu is %02x, not %02x\n", format,
                   dim, i / page_bytes, i % page_bytes, got[i], expected[i]);
    EXPECT(n_wrong == 0);
    free(expected), free(got);
    return l;
}

/* The twin's score of one row and position. */
static float twin_score(const struct layer *l, size_t slot, const float *q, const float *weights,
                        int n_heads)
{
    int dim = l->keys.index_dim;
    float *block = malloc((size_t)dim * AGON_PANEL * sizeof(float)), score[AGON_PANEL];
    for (int d = 0; d < dim; d++)
        block[d * AGON_PANEL] = l->wide[slot * (size_t)dim + (size_t)d];
    agon_indexer_ref(score, q, weights, (const float *const[]){block}, 1, n_heads, dim);
    free(block);
    return score[0] * l->scale[slot];
}

/* Scores of all rows against the twin: `near` in ||a - b|| / ||b|| of a row; nothing else written.
 */
static void check_scores(const struct paged *p, const struct layer *l, int n_heads, int k_skip,
                         double near)
{
    struct agon_err err = {0};
    int dim = l->keys.index_dim;
    bool fp8 = l->keys.format == AGON_KEYS_FP8;
    size_t n_q = (size_t)(p->n_rows * n_heads * dim), ld = (size_t)p->rows.n_max + 5;
    float *q = random_floats(n_q), *weights = random_floats((size_t)(p->n_rows * n_heads));
    uint8_t *codes = malloc(n_q);
    for (size_t i = 0; i < n_q && fp8; i++) {
        codes[i] = agon_e4m3_encode(q[i] * 448);
        q[i] = agon_e4m3_decode(codes[i]);
    }
    GPU_AUTO d_q = gpu_upload(fp8 ? (void *)codes : (void *)q, n_q * (fp8 ? 1 : 4));
    GPU_AUTO d_weights = gpu_upload(weights, (size_t)(p->n_rows * n_heads) * 4);
    size_t bytes = (size_t)p->n_rows * ld * sizeof(float);
    float *got = malloc(bytes), *again = malloc(bytes), *expected = malloc(ld * sizeof(float));
    for (int run = 0; run < 2; run++) {
        GPU_AUTO d_scores = gpu_poisoned(bytes, 0x5a);
        REQUIRE(agon_cuda_index_scores(d_scores.p, ld, &l->keys, d_q.p, d_weights.p, n_heads,
                                       k_skip, &p->rows, NULL, &err) == 0);
        gpu_download(run ? again : got, &d_scores);
    }
    EXPECT(memcmp(got, again, bytes) == 0);
    int n_touched = 0;
    for (int r = 0; r < p->n_rows; r++) {
        int n = p->row_sequence[r] < 0 || p->row_position[r] < k_skip ? 0 : p->row_position[r] + 1;
        const float *row = got + (size_t)r * ld;
        for (int s = 0; s < n; s++)
            expected[s] = twin_score(l, paged_slot(p, r, s), q + (size_t)(r * n_heads * dim),
                                     weights + (size_t)(r * n_heads), n_heads);
        double error = relative_error(row, expected, (size_t)n);
        if (!EXPECT(error < near)) {
            printf("# format %d, %d heads of %d, row %d of %d, %d positions: error %g\n",
                   l->keys.format, n_heads, dim, r, p->n_rows, n, error);
            for (int s = 0, told = 0; s < n && told < 4; s++)
                if (!(fabsf(row[s] - expected[s]) <= 1e-2F * fabsf(expected[s]) + 1e-2F) && ++told)
                    printf("#   position %d: %g, not %g\n", s, row[s], expected[s]);
        }
        for (size_t s = (size_t)n; s < ld; s++)
            n_touched += memcmp(&row[s], "ZZZZ", 4) != 0;
    }
    EXPECT(n_touched == 0);
    free(q), free(codes), free(weights), free(got), free(again), free(expected);
}

/* Rows of forks that share a prefix, rows of one chunk, a row that is none. */
static struct paged mixed_rows(void)
{
    struct paged p = paged_new(9, 5, 6, 2);
    static const int sequence[] = {0, 0, 0, 0, 1, 2, -1, 3, 4},
                     position[] = {0, 63, 64, 65, 200, 383, 7, 130, 100};
    memcpy(p.row_sequence, sequence, sizeof(sequence));
    memcpy(p.row_position, position, sizeof(position));
    paged_upload(&p);
    return p;
}

TEST(keys_and_scores_are_the_twins_in_every_shape)
{
    REQUIRE_GPU();
    static const int shapes[][2] = {{1, 1},   {4, 32},   {3, 20},   {5, 100},
                                    {17, 64}, {64, 128}, {33, 129}, {2, 600}};
    PAGED_AUTO p = mixed_rows();
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
        for (int format = AGON_KEYS_F32; format <= AGON_KEYS_FP8; format++) {
            LAYER_AUTO l = layer_new(&p, (enum agon_keys_format)format, shapes[s][1]);
            check_scores(&p, &l, shapes[s][0], s % 2 ? 100 : 0, F32_NEAR);
        }
}

/* FP8 scores of random queries, with the plan or without. */
static float *run_scores(const struct paged *p, const struct layer *l,
                         const struct agon_cuda_rows *rows, const struct gpu_buffer *q,
                         const struct gpu_buffer *weights, int n_heads, int k_skip,
                         size_t first_row)
{
    struct agon_err err = {0};
    size_t ld = (size_t)p->rows.n_max + 3, bytes = (size_t)rows->n_rows * ld * sizeof(float);
    GPU_AUTO d_scores = gpu_poisoned(bytes, 0x5a);
    float *scores = malloc(bytes);
    EXPECT(agon_cuda_index_scores(d_scores.p, ld, &l->keys,
                                  (char *)q->p + first_row * (size_t)(n_heads * l->keys.index_dim),
                                  (float *)weights->p + first_row * (size_t)n_heads, n_heads,
                                  k_skip, rows, NULL, &err) == 0);
    gpu_download(scores, &d_scores);
    return scores;
}

/* The tensor cores' scores against the plain kernel's; every row again alone, for the same bits. */
static void check_fast(const struct paged *p, int n_heads, int k_skip)
{
    struct agon_err err = {0};
    enum { DIM = 128 };
    size_t page_bytes = agon_keys_page_bytes(AGON_KEYS_FP8, DIM),
           n_q = (size_t)(p->n_rows * n_heads * DIM);
    size_t n_pool = (size_t)p->n_pages * page_bytes;
    uint8_t *pool = malloc(n_pool), *codes = malloc(n_q);
    for (size_t i = 0; i < n_pool; i++)
        pool[i] = agon_e4m3_encode(random_float() * 300);
    for (size_t page = 0; page < (size_t)p->n_pages; page++)
        for (size_t i = 0; i < AGON_CUDA_PAGE; i++) {
            float scale = ldexpf(1, random_below(8) - 12);
            memcpy(pool + page * page_bytes + AGON_CUDA_PAGE * DIM + i * 4, &scale, 4);
        }
    for (size_t i = 0; i < n_q; i++)
        codes[i] = agon_e4m3_encode(random_float() * 448);
    float *weights = random_floats((size_t)(p->n_rows * n_heads));
    GPU_AUTO d_pool = gpu_upload(pool, n_pool);
    GPU_AUTO d_q = gpu_upload(codes, n_q);
    GPU_AUTO d_weights = gpu_upload(weights, (size_t)(p->n_rows * n_heads) * 4);
    GPU_AUTO d_plan = gpu_poisoned(agon_cuda_index_plan_bytes(p->n_rows), 0x5a);
    struct layer l = {.keys = {d_pool.p, AGON_KEYS_FP8, DIM, p->n_pages}};
    struct agon_cuda_rows rows = p->rows;
    float *plain = run_scores(p, &l, &rows, &d_q, &d_weights, n_heads, k_skip, 0);
    rows.plan = d_plan.p;
    EXPECT(agon_cuda_index_plan(d_plan.p, k_skip, &rows, NULL, &err) == 0);
    float *fast = run_scores(p, &l, &rows, &d_q, &d_weights, n_heads, k_skip, 0);
    size_t ld = (size_t)p->rows.n_max + 3;
    int n_told = 0, n_other = 0;
    for (size_t r = 0; r < (size_t)p->n_rows; r++) {
        int n = p->row_sequence[r] < 0 || p->row_position[r] < k_skip ? 0 : p->row_position[r] + 1;
        double error = relative_error(fast + r * ld, plain + r * ld, (size_t)n);
        /* The tensor cores keep some 14 bits of the largest product while they add. */
        if (!(error < 1e-3) && n_told++ < 4) {
            printf("# %d heads, row %zu of %d (sequence %d), %d positions: error %g\n", n_heads, r,
                   p->n_rows, p->row_sequence[r], n, error);
            for (int s = 0, told = 0; s < n && told < 6; s++)
                if (!(fabsf(fast[r * ld + (size_t)s] - plain[r * ld + (size_t)s]) <=
                      0.01F * fabsf(plain[r * ld + (size_t)s]) + 1) &&
                    ++told)
                    printf("#   position %d: %g, not %g\n", s, fast[r * ld + (size_t)s],
                           plain[r * ld + (size_t)s]);
        }
        n_other += memcmp(fast + r * ld + n, plain + r * ld + n, (ld - (size_t)n) * 4) != 0;
        if (r % 7 != 3 && r + 1 < (size_t)p->n_rows)
            continue;
        rows.n_rows = 1;
        rows.row_sequence = (const int32_t *)p->d_sequence.p + r;
        rows.row_position = (const int32_t *)p->d_position.p + r;
        EXPECT(agon_cuda_index_plan(d_plan.p, k_skip, &rows, NULL, &err) == 0);
        float *alone = run_scores(p, &l, &rows, &d_q, &d_weights, n_heads, k_skip, r);
        n_other += memcmp(alone, fast + r * ld, ld * 4) != 0;
        free(alone);
    }
    EXPECT(n_told == 0);
    EXPECT(n_other == 0);
    free(pool), free(codes), free(weights), free(plain), free(fast);
}

TEST(fast_scores_are_the_plain_ones_for_a_chunk_of_one_sequence)
{
    REQUIRE_GPU();
    PAGED_AUTO p = paged_new(77, 1, 20, 20);
    for (int r = 0; r < p.n_rows; r++)
        p.row_position[r] = 1100 + r;
    paged_upload(&p);
    check_fast(&p, 64, 0);
    check_fast(&p, 32, 1130);
}

TEST(fast_scores_are_the_plain_ones_for_forks_of_one_prompt)
{
    REQUIRE_GPU();
    PAGED_AUTO p = paged_new(101, 101, 40, 30);
    for (int r = 0; r < p.n_rows; r++) {
        p.row_sequence[r] = r % 13 == 5 ? -1 : r;
        p.row_position[r] = 1920 + random_below(600);
    }
    paged_upload(&p);
    check_fast(&p, 64, 0);
    check_fast(&p, 32, 2048);
}

TEST(fast_scores_are_the_plain_ones_for_rows_with_nothing_in_common)
{
    REQUIRE_GPU();
    PAGED_AUTO p = paged_new(33, 11, 70, 0);
    for (int r = 0; r < p.n_rows; r++) {
        p.row_sequence[r] = random_below(11);
        p.row_position[r] = random_below(r % 4 ? 4480 : 65);
    }
    paged_upload(&p);
    check_fast(&p, 64, 0);
    check_fast(&p, 32, 100);
    p.row_sequence[0] = -1;
    p.n_rows = 1;
    paged_upload(&p);
    check_fast(&p, 64, 0);
}

TEST(a_shape_that_is_not_done_is_told)
{
    REQUIRE_GPU();
    struct agon_cuda_rows rows = {.n_rows = 1, .n_max = 10, .ld_pages = 1};
    struct agon_cuda_keys keys = {.format = AGON_KEYS_F32, .index_dim = 641};
    EXPECT(agon_cuda_index_scores(NULL, 10, &keys, NULL, NULL, 4, 0, &rows, NULL, &err) ==
           AGON_EINPUT);
    EXPECT_HAS(err.text, "index scores: 4 heads of 641 values (1 to 640)");
    keys.index_dim = 1025;
    EXPECT(agon_cuda_index_store(&keys, NULL, 0, &rows, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "index keys: 1025 values a key; 1 to 1024");
}
