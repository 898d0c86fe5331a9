/* The indexer's scores: prefill of a chunk, decode of rows with nothing in common, forks of one
 * prompt. */
#include "tests/gpu/median.h"
#include "tests/gpu/paged.h"

enum { DIM = 128 };

struct scores {
    struct paged paged;
    struct agon_cuda_keys keys;
    struct gpu_buffer pool, q, weights, scores, plan;
    size_t ld;
    int n_heads;
};

static int run_scores(void *arg, void *stream, struct agon_err *err)
{
    struct scores *s = arg;
    return agon_cuda_index_scores(s->scores.p, s->ld, &s->keys, s->q.p, s->weights.p, s->n_heads, 0,
                                  &s->paged.rows, stream, err);
}

static int run_plan(void *arg, void *stream, struct agon_err *err)
{
    struct scores *s = arg;
    return agon_cuda_index_plan(s->plan.p, 0, &s->paged.rows, stream, err);
}

/* Random codes without NaN: 64 KiB drawn, then repeated; pages of keys (page_bytes > 0) get scales.
 */
static struct gpu_buffer random_codes(size_t bytes, size_t page_bytes)
{
    enum { DRAWN = 65536 };
    uint8_t *codes = malloc(bytes);
    for (size_t i = 0; i < bytes; i++)
        codes[i] =
            i < DRAWN ? agon_e4m3_encode(random_float() * 448) : codes[i - DRAWN + (i >> 16) % 7];
    const float scale = 1.0F / 1024;
    for (size_t page = 0; page_bytes && page < bytes; page += page_bytes)
        for (size_t i = AGON_CUDA_PAGE * DIM; i < page_bytes; i += sizeof(scale))
            memcpy(codes + page + i, &scale, sizeof(scale));
    struct gpu_buffer b = gpu_upload(codes, bytes);
    struct agon_err err;
    (void)agon_cuda_sync(NULL, &err);
    free(codes);
    return b;
}

/* `paged` has its rows set; it is freed. */
static void bench(const struct agon_cuda_info *gpu, const char *what, struct paged paged,
                  int n_heads, int n_launches)
{
    struct agon_err err = {0};
    bool h200 = strstr(gpu->name, "H200") != NULL;
    paged_upload(&paged);
    size_t n_rows = (size_t)paged.n_rows, page_bytes = agon_keys_page_bytes(AGON_KEYS_FP8, DIM);
    struct scores s = {.paged = paged, .n_heads = n_heads, .ld = (size_t)paged.rows.n_max};
    s.pool = random_codes((size_t)paged.n_pages * page_bytes, page_bytes);
    s.keys = (struct agon_cuda_keys){s.pool.p, AGON_KEYS_FP8, DIM, paged.n_pages};
    s.q = random_codes(n_rows * (size_t)n_heads * DIM, 0);
    float *weights = random_floats(n_rows * (size_t)n_heads);
    s.weights = gpu_upload(weights, n_rows * (size_t)n_heads * 4);
    (void)agon_cuda_sync(NULL, &err);
    s.scores = gpu_poisoned(n_rows * s.ld * 4, 0x5a);
    s.plan = gpu_poisoned(agon_cuda_index_plan_bytes(paged.n_rows), 0x5a);
    s.paged.rows.plan = s.plan.p;
    double plan_us = gpu_median_us((struct gpu_launch){run_plan, &s}, 3);
    double us = gpu_median_us((struct gpu_launch){run_scores, &s}, n_launches);
    double pairs = 0;
    for (int r = 0; r < paged.n_rows; r++)
        pairs += paged.row_position[r] + 1;
    double flop = pairs * 2 * n_heads * DIM, bytes = (double)s.pool.bytes + pairs * 4;
    double floor_us = fmax(flop / 1979e6, bytes / (h200 ? 4.3e6 : 3.0e6));
    printf("%s: index scores, %s, %d heads: %.1f us, %.0f TFLOP/s, %.0f GB/s, %.0f%% of the floor; "
           "plan %.1f us\n",
           gpu->name, what, n_heads, us, flop / us * 1e-6, bytes / us * 1e-3, 100 * floor_us / us,
           plan_us);
    fflush(stdout);
    free(weights);
    gpu_buffer_free(&s.pool), gpu_buffer_free(&s.q), gpu_buffer_free(&s.weights);
    gpu_buffer_free(&s.scores), gpu_buffer_free(&s.plan);
    paged_free(&s.paged);
}

/* Rows of `n` positions each; `n_shared` of them (whole pages) common to all where forks. */
static struct paged decode(int n_rows, int n, int n_shared)
{
    struct paged p = paged_new(n_rows, n_rows, n / AGON_CUDA_PAGE, n_shared / AGON_CUDA_PAGE);
    for (int r = 0; r < n_rows; r++) {
        p.row_sequence[r] = r;
        p.row_position[r] = n - 1;
    }
    return p;
}

static struct paged prefill(int n_rows, int n)
{
    struct paged p = paged_new(n_rows, 1, n / AGON_CUDA_PAGE, 0);
    for (int r = 0; r < n_rows; r++)
        p.row_position[r] = n - n_rows + r;
    return p;
}

int main(void)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    bench(&gpu, "2,048 rows of a chunk at 4K", prefill(2048, 4096), 64, 4);
    bench(&gpu, "2,048 rows of a chunk at 64K", prefill(2048, 65536), 64, 1);
    bench(&gpu, "2,048 rows of a chunk at 64K", prefill(2048, 65536), 32, 1);
    bench(&gpu, "64 rows at 128K", decode(64, 131072, 0), 64, 2);
    bench(&gpu, "64 rows at 8K", decode(64, 8192, 0), 64, 4);
    bench(&gpu, "1 row at 128K", decode(1, 131072, 0), 64, 10);
    bench(&gpu, "100 forks, 128K in common", decode(100, 131072, 131072), 64, 2);
    bench(&gpu, "100 forks, 16K of 24K in common", decode(100, 24576, 16384), 64, 4);
    return 0;
}
