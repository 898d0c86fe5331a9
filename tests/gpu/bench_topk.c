/* Top-k of index scores: median time, and the share of what reading the scores once takes. The
 * scores stay in the L2 cache between launches as far as they fit, as they do after the indexer
 * wrote them. */
#include "tests/gpu/median.h"
#include "tests/gpu/paged.h"

struct topk {
    struct paged paged;
    struct gpu_buffer scores, selected, count;
    size_t ld;
    int k;
};

static int run_topk(void *arg, void *stream, struct agon_err *err)
{
    struct topk *t = arg;
    return agon_cuda_topk(t->selected.p, (size_t)t->k, t->count.p, t->scores.p, t->ld, t->k, true,
                          &t->paged.rows, stream, err);
}

static void bench(const char *device, double bytes_a_second, int n_rows, int n, int k, bool zeros)
{
    int ld_pages = (n + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE;
    struct topk t = {.paged = paged_new(n_rows, 1, ld_pages, ld_pages), .ld = (size_t)n, .k = k};
    for (int r = 0; r < n_rows; r++)
        t.paged.row_position[r] = n - 1;
    paged_upload(&t.paged);
    /* Sums of 64 signed terms, as scores are; or mostly exact zeros. */
    size_t n_scores = (size_t)n_rows * (size_t)n;
    float *scores = random_floats(n_scores);
    for (size_t i = 0; i < n_scores; i++)
        scores[i] = zeros && i % 100 ? 0 : (scores[i] + random_float() + random_float()) * 0.3F;
    t.scores = gpu_upload(scores, n_scores * sizeof(float));
    t.selected = gpu_poisoned((size_t)(n_rows * k) * 4, 0x5a);
    t.count = gpu_poisoned((size_t)n_rows * 4, 0x5a);
    double us = gpu_median_us((struct gpu_launch){run_topk, &t}, 20);
    double floor_us = 4e6 * (double)n_scores / bytes_a_second;
    printf("%s: top-k %d of %d%s, %d rows: %.1f us, %.0f GB/s, %.0f%% of the floor\n", device, k, n,
           zeros ? ", 99% zeros" : "", n_rows, us, 4e-3 * (double)n_scores / us,
           100 * floor_us / us);
    free(scores);
    gpu_buffer_free(&t.scores), gpu_buffer_free(&t.selected), gpu_buffer_free(&t.count);
    paged_free(&t.paged);
}

int main(void)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    double rate = gpu_copy_rate(&gpu);
    static const int shapes[][3] = {{1, 4096, 2048},    {1, 32768, 2048},    {1, 131072, 2048},
                                    {1, 1000000, 2048}, {8, 131072, 2048},   {16, 131072, 2048},
                                    {20, 131072, 2048}, {64, 131072, 2048},  {64, 16384, 2048},
                                    {512, 65536, 2048}, {512, 131072, 2048}, {2048, 32768, 2048},
                                    {100, 1000, 512},   {1000, 1000, 512}};
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
        bench(gpu.name, rate, shapes[s][0], shapes[s][1], shapes[s][2], false);
    bench(gpu.name, rate, 1, 131072, 2048, true);
    bench(gpu.name, rate, 64, 131072, 2048, true);
    bench(gpu.name, rate, 512, 131072, 2048, true);
    return 0;
}
