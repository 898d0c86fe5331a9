/* Attention of small models against its twin: shared and own pages, selections, groups of any size.
 */
#include "kernels/cuda_attend.h"
#include "tests/gpu/gpu.h"

enum { KV = 128, ROPE = 16, ENTRY = KV + ROPE, LD_PAGES = 40, POSITIONS = 2400 };

/* Sequences in families of `n_alike`, which have all whole pages of their first `n_shared`
 * positions in common. */
struct world {
    int n_rows, n_pages, n_heads, topk;
    int32_t *sequence, *position, *pages, *selected, *n_selected;
    uint64_t *mask; /* [n_rows][LD_PAGES] */
    uint16_t *pool;
    float *q;
};

static struct world world_new(int n_rows, int n_heads, int n_alike, int n_shared, int topk)
{
    size_t rows = (size_t)n_rows;
    struct world w = {.n_rows = n_rows,
                      .n_heads = n_heads,
                      .topk = topk,
                      .sequence = malloc(rows * sizeof(int32_t)),
                      .position = malloc(rows * sizeof(int32_t)),
                      .pages = malloc(rows * LD_PAGES * sizeof(int32_t)),
                      .selected = malloc((rows * (size_t)topk + 1) * sizeof(int32_t)),
                      .n_selected = malloc(rows * sizeof(int32_t)),
                      .mask = calloc(rows * LD_PAGES, sizeof(uint64_t))};
    for (int r = 0; r < n_rows; r++) {
        int n_common = n_shared / AGON_CUDA_PAGE;
        w.sequence[r] = r % 11 == 7 ? -1 : r;
        w.position[r] = n_shared + random_below(200) - (r % 13 == 5 ? n_shared - 1 : 0);
        for (int i = 0; i < LD_PAGES; i++) {
            bool shared = i < n_common && r % n_alike > 0 && r % 17 != 3;
            int needed = w.position[r] / AGON_CUDA_PAGE;
            int32_t *at = &w.pages[r * LD_PAGES + i];
            *at = shared                        ? w.pages[(r - r % n_alike) * LD_PAGES + i]
                  : i <= needed || i < n_common ? w.n_pages++
                                                : -1;
        }
    }
    size_t n = (size_t)w.n_pages * AGON_CUDA_PAGE * ENTRY;
    w.pool = malloc(n * sizeof(*w.pool));
    for (size_t i = 0; i < n; i++)
        w.pool[i] = agon_bf16_encode(random_float());
    size_t n_q = rows * (size_t)n_heads * ENTRY;
    w.q = random_floats(n_q);
    for (size_t i = 0; i < n_q; i++)
        w.q[i] = agon_bf16_decode(agon_bf16_encode(3 * w.q[i]));
    for (int r = 0; r < n_rows; r++) {
        int n_seen = w.position[r] + 1, k = 0;
        for (int p = 0; p < n_seen && k < topk; p++)
            if (n_seen - p <= topk - k || random_below(n_seen) < topk) {
                w.selected[r * topk + k++] = p;
                w.mask[r * LD_PAGES + p / 64] |= (uint64_t)1 << p % 64;
            }
        w.n_selected[r] = k;
        for (; k < topk; k++)
            w.selected[r * topk + k] = -1;
    }
    return w;
}

static void world_free(struct world *w)
{
    free(w->sequence);
    free(w->position);
    free(w->pages);
    free(w->selected);
    free(w->n_selected);
    free(w->mask);
    free(w->pool);
    free(w->q);
}

static void twin(const struct world *w, int r, float *out)
{
    static float entries[POSITIONS][ENTRY], scores[8 * (POSITIONS + 16)];
    static const float *list[POSITIONS];
    int n = w->topk ? w->n_selected[r] : w->position[r] + 1;
    for (int i = 0; i < n; i++) {
        int p = w->topk ? w->selected[r * w->topk + i] : i;
        int page = w->pages[w->sequence[r] * LD_PAGES + p / AGON_CUDA_PAGE];
        const uint16_t *from =
            w->pool + ((size_t)page * AGON_CUDA_PAGE + (size_t)(p % AGON_CUDA_PAGE)) * ENTRY;
        for (int d = 0; d < ENTRY; d++)
            entries[i][d] = agon_bf16_decode(from[d]);
        list[i] = entries[i];
    }
    agon_mla_ref(out, w->q + (size_t)r * (size_t)w->n_heads * ENTRY, list, n, w->n_heads, ENTRY, KV,
                 0.125F, scores);
}

/* Attend to rows [begin, begin + n) alone; out [n][n_heads][KV]. */
static void attend(const struct world *w, int begin, int n, float *out)
{
    struct agon_err err = {0};
    size_t rows = (size_t)n, out_bytes = rows * (size_t)w->n_heads * KV * sizeof(float);
    size_t at = (size_t)begin;
    GPU_AUTO pool = gpu_upload(w->pool, (size_t)w->n_pages * AGON_CUDA_PAGE * ENTRY * 2);
    GPU_AUTO sequence = gpu_upload(w->sequence + at, rows * 4);
    GPU_AUTO position = gpu_upload(w->position + at, rows * 4);
    GPU_AUTO pages = gpu_upload(w->pages, (size_t)w->n_rows * LD_PAGES * 4);
    GPU_AUTO mask = gpu_upload(w->mask + at * LD_PAGES, rows * LD_PAGES * 8);
    GPU_AUTO q =
        gpu_upload(w->q + at * (size_t)w->n_heads * ENTRY, rows * (size_t)w->n_heads * ENTRY * 4);
    GPU_AUTO d_out = gpu_poisoned(out_bytes, 0xff);
    struct agon_attend a = {.cache = {pool.p, AGON_LATENT_BF16, KV, ROPE},
                            .rows = {n, sequence.p, position.p, pages.p, LD_PAGES},
                            .n_heads = w->n_heads,
                            .scale = 0.125F,
                            .q = q.p,
                            .out = d_out.p,
                            .out_dtype = AGON_F32,
                            .mask = w->topk ? mask.p : NULL,
                            .ld_mask = LD_PAGES,
                            .n_max = POSITIONS};
    if (!EXPECT(agon_attend_does(&a)) || !EXPECT(agon_attend_cuda(&a, NULL, &err) == 0))
        printf("# %s\n", err.text);
    gpu_download(out, &d_out);
}

static void check(int n_rows, int n_heads, int n_alike, int n_shared, int topk)
{
    struct world w = world_new(n_rows, n_heads, n_alike, n_shared, topk);
    size_t width = (size_t)n_heads * KV;
    float *got = poisoned_floats((size_t)n_rows * width), *want = poisoned_floats(width);
    float *alone = poisoned_floats((size_t)n_rows * width);
    double worst = 0;
    int n_told = 0;
    attend(&w, 0, n_rows, got);
    for (int r = 0; r < n_rows; r++) {
        if (w.sequence[r] < 0)
            memset(want, 0, width * sizeof(*want));
        else
            twin(&w, r, want);
        double error = relative_error(got + (size_t)r * width, want, width);
        worst = fmax(worst, error);
        if (!(error < 6e-3) && n_told++ < 3)
            printf("# %d rows, %d heads: row %d (position %d, %d selected): error %.2g; got %g %g, "
                   "wanted "
                   "%g %g\n",
                   n_rows, n_heads, r, w.position[r], w.n_selected[r], error,
                   (double)got[(size_t)r * width], (double)got[(size_t)r * width + 1],
                   (double)want[0], (double)want[1]);
    }
    printf("# %d rows of %d heads, %d alike, %d shared, top %d: largest error %.2g\n", n_rows,
           n_heads, n_alike, n_shared, topk, worst);
    EXPECT(worst < 6e-3);
    for (int r = 0; r < n_rows && r < 24; r++)
        attend(&w, r, 1, alone + (size_t)r * width);
    EXPECT(memcmp(alone, got, (size_t)(n_rows < 24 ? n_rows : 24) * width * sizeof(float)) == 0);
    free(got);
    free(want);
    free(alone);
    world_free(&w);
}

TEST(rows_together_attend_as_the_twin_and_as_each_alone)
{
    REQUIRE_GPU();
    check(1, 6, 1, 1000, 0);
    check(5, 6, 5, 1000, 512);
    check(100, 6, 50, 1000, 512);
    check(300, 6, 100, 1000, 512);
    check(301, 5, 7, 700, 64);
    check(40, 8, 40, 2100, 512);
    check(37, 3, 9, 130, 16);
}

/* For racecheck, which takes a thousand times as long. */
TEST(few_rows_attend_as_the_twin)
{
    REQUIRE_GPU();
    check(5, 6, 4, 130, 40);
    check(3, 3, 3, 70, 0);
}

/* ---- selection ---------------------------------------------------------------------- */

enum { DIM = 32 };

/* Scores of a row by the twin's formula; all numbers are multiples of 1/8, so that sums are exact
 * and ties many. */
static void scores_of(const struct world *w, const float *keys, const float *q,
                      const float *weights, int n_heads, int r, float *scores)
{
    for (int p = 0; p <= w->position[r]; p++) {
        int page = w->pages[w->sequence[r] * LD_PAGES + p / AGON_CUDA_PAGE];
        const float *key =
            keys + ((size_t)page * AGON_CUDA_PAGE + (size_t)(p % AGON_CUDA_PAGE)) * DIM;
        scores[p] = 0;
        for (int h = 0; h < n_heads; h++) {
            float dot = 0;
            for (int d = 0; d < DIM; d++)
                dot += q[(r * n_heads + h) * DIM + d] * key[d];
            scores[p] += dot < 0 ? 0 : weights[r * n_heads + h] * dot;
        }
    }
}

/* Rows whose list is another than the twin's. */
static int select_differences(const struct world *w, const float *keys, const float *q,
                              const float *weights, int n_heads, int k, const int32_t *got,
                              const int32_t *n_got)
{
    static float scores[POSITIONS];
    static int want[POSITIONS];
    static uint32_t scratch[POSITIONS];
    int n_bad = 0;
    for (int r = 0; r < w->n_rows; r++) {
        int n_want = 0, i = 0;
        if (w->sequence[r] >= 0) {
            scores_of(w, keys, q, weights, n_heads, r, scores);
            n_want = agon_topk_ref(want, scores, w->position[r] + 1, k, scratch);
        }
        while (i < n_want && got[r * k + i] == want[i])
            i++;
        bool good = n_got[r] == n_want && i == n_want && (n_want == k || got[r * k + n_want] == -1);
        if (!good && n_bad++ < 3)
            printf("# row %d, position %d: %d selected, wanted %d; the %d-th is %d, wanted %d\n", r,
                   w->position[r], n_got[r], n_want, i, i < k ? got[r * k + i] : -9,
                   i < n_want ? want[i] : -1);
    }
    return n_bad;
}

static float *eighths(size_t n)
{
    float *x = random_floats(n);
    for (size_t i = 0; i < n; i++)
        x[i] = roundf(x[i] * 4) / 8;
    return x;
}

static void check_select(int n_rows, int n_heads, int n_alike, int n_shared, int k)
{
    struct agon_err err = {0};
    struct world w = world_new(n_rows, 6, n_alike, n_shared, 0);
    size_t rows = (size_t)n_rows, n_keys = (size_t)w.n_pages * AGON_CUDA_PAGE * DIM;
    size_t n_q = rows * (size_t)n_heads * DIM, n_weights = rows * (size_t)n_heads;
    float *keys = eighths(n_keys), *q = eighths(n_q), *weights = eighths(n_weights);
    GPU_AUTO pool = gpu_upload(keys, n_keys * 4);
    GPU_AUTO d_q = gpu_upload(q, n_q * 4);
    GPU_AUTO d_weights = gpu_upload(weights, n_weights * 4);
    GPU_AUTO sequence = gpu_upload(w.sequence, rows * 4);
    GPU_AUTO position = gpu_upload(w.position, rows * 4);
    GPU_AUTO pages = gpu_upload(w.pages, rows * LD_PAGES * 4);
    GPU_AUTO mask = gpu_poisoned(rows * LD_PAGES * 8, 0xff);
    GPU_AUTO list = gpu_poisoned(rows * (size_t)k * 4, 0xff);
    GPU_AUTO counts = gpu_poisoned(rows * 4, 0xff);
    struct agon_select select = {.keys = {pool.p, AGON_KEYS_F32, DIM, w.n_pages},
                                 .rows = {.n_rows = n_rows,
                                          .n_max = POSITIONS,
                                          .row_sequence = sequence.p,
                                          .row_position = position.p,
                                          .pages = pages.p,
                                          .ld_pages = LD_PAGES},
                                 .n_heads = n_heads,
                                 .q = d_q.p,
                                 .weights = d_weights.p,
                                 .k = k,
                                 .mask = mask.p,
                                 .ld_mask = LD_PAGES};
    EXPECT(agon_select_does(&select) && agon_select_cuda(&select, NULL, &err) == 0);
    EXPECT(agon_select_list_cuda(list.p, counts.p, k, mask.p, LD_PAGES, n_rows, NULL, &err) == 0);
    int32_t *got = malloc(list.bytes), *n_got = malloc(counts.bytes);
    gpu_download(got, &list);
    gpu_download(n_got, &counts);
    int n_bad = select_differences(&w, keys, q, weights, n_heads, k, got, n_got);
    printf("# %d rows of %d heads, top %d: %d bad\n", n_rows, n_heads, k, n_bad);
    EXPECT(n_bad == 0);
    free(got);
    free(n_got);
    free(keys);
    free(q);
    free(weights);
    world_free(&w);
}

TEST(the_k_best_are_selected_and_the_lowest_of_equals)
{
    REQUIRE_GPU();
    check_select(1, 4, 1, 1000, 512);
    check_select(100, 4, 50, 1000, 512);
    check_select(300, 4, 100, 1000, 512);
    check_select(290, 8, 9, 2100, 100);
    check_select(20, 1, 20, 700, 16);
}

TEST(few_rows_select_the_k_best)
{
    REQUIRE_GPU();
    check_select(5, 4, 4, 130, 40);
}
