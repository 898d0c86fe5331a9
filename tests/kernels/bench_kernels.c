/* Each kernel on the embedded model's shapes, one thread: the median of several rounds, beside
 * the arithmetic that the instruction set can do in registers. */
#include "tests/kernels/random.h"

#include <stdio.h>
#include <time.h>

enum { ROUNDS = 9, COPIES = 8 };

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at); /* cannot fail */
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct work {
    const struct agon_kernels *kernels;
    struct agon_matrix w[COPIES]; /* so that weights come from L2 and not from L1 */
    int m, next;
    float *x, *y;
    const float *entries[256], *keys[64];
    float *scores;
    int *selected;
    uint32_t *scratch;
};

/* Seconds of one call of fn. */
static double median_seconds(void (*fn)(struct work *), struct work *work, int n_calls)
{
    double took[ROUNDS];
    for (int r = 0; r < ROUNDS; r++) {
        double begin = now();
        for (int i = 0; i < n_calls; i++)
            fn(work);
        took[r] = (now() - begin) / n_calls;
    }
    qsort(took, ROUNDS, sizeof(*took), compare_doubles);
    return took[ROUNDS / 2];
}

static void run_matmul(struct work *k)
{
    const struct agon_matrix *w = &k->w[k->next++ % COPIES];
    k->kernels->matmul(k->y, (size_t)w->n, k->x, (size_t)w->k, NULL, k->m, w, 0,
                       agon_matrix_panels(w));
}

static void run_mla(struct work *k)
{
    k->kernels->mla(k->y, k->x, k->entries, 256, 6, 144, 128, 0.1F, k->scores);
}

static void run_indexer(struct work *k)
{
    k->kernels->indexer(k->scores, k->x, k->x + 1024, k->keys, 1000, 4, 32);
}

static void run_topk(struct work *k)
{
    (void)k->kernels->topk(k->selected, k->scores, 1000, 256, k->scratch);
}

static double peak_gflops(const struct agon_kernels *kernels)
{
    float sink = 0;
    double best = 0;
    for (int i = 0; i < 3; i++) {
        double begin = now(), n = kernels->fma_loop(1 << 20, &sink);
        double speed = n / (now() - begin) * 1e-9;
        best = speed > best && sink != 1 ? speed : best;
    }
    return best;
}

static void bench_matmul(struct work *k, enum agon_dtype dtype, double peak)
{
    enum { N = 448, K = 384 };
    uint8_t *bytes = malloc((size_t)N * K * 4);
    float scale[16];
    struct agon_err err;
    memset(bytes, 0x31, (size_t)N * K * 4);
    for (int i = 0; i < 16; i++)
        scale[i] = 1;
    struct agon_matrix_source source = {.n = N,
                                        .dtype = dtype,
                                        .data = bytes,
                                        .stride_n = K,
                                        .stride_k = 1,
                                        .scale = scale,
                                        .scale_ld = 3};
    for (int i = 0; i < COPIES; i++)
        if (agon_matrix_init(&k->w[i], K, &source, 1, false, &err))
            exit(1);
    static const int rows[] = {1, 8, 16, 64, 256};
    for (int i = 0; i < 5; i++) {
        k->m = rows[i];
        double seconds = median_seconds(run_matmul, k, 1 + 2000 / k->m);
        double gflops = 2.0 * N * K * k->m / seconds * 1e-9;
        printf("%-8s matmul %-7s [%3d x %d] x [%d x %d]: %6.1f GFLOP/s, %3.0f%%\n",
               k->kernels->name, agon_dtype_name(dtype), k->m, K, N, K, gflops,
               100 * gflops / peak);
    }
    for (int i = 0; i < COPIES; i++)
        agon_matrix_deinit(&k->w[i]);
    free(bytes);
}

static void bench_all(const struct agon_kernels *kernels)
{
    float *pool = random_floats(1024 * 144);
    struct work k = {.kernels = kernels,
                     .x = random_floats(256 * 1024),
                     .y = random_floats(256 * 2048),
                     .scores = random_floats(6 * 4096),
                     .selected = malloc(1024 * sizeof(int)),
                     .scratch = malloc(4096 * sizeof(uint32_t))};
    double peak = peak_gflops(kernels);
    for (int i = 0; i < 256; i++)
        k.entries[i] = pool + random_below(1024) * 144;
    for (int i = 0; i < 64; i++)
        k.keys[i] = pool + i * 32 * AGON_PANEL;
    printf("%-8s %.1f GFLOP/s in registers\n", kernels->name, peak);
    bench_matmul(&k, AGON_F32, peak);
    bench_matmul(&k, AGON_BF16, peak);
    bench_matmul(&k, AGON_E4M3, peak);
    double seconds = median_seconds(run_mla, &k, 200);
    printf("%-8s mla, 6 heads over 256 gathered entries of 144: %.2f us, %.1f GFLOP/s\n",
           kernels->name, seconds * 1e6, 2.0 * 6 * 256 * (144 + 128) / seconds * 1e-9);
    seconds = median_seconds(run_indexer, &k, 200);
    printf("%-8s indexer, 4 heads over 1,000 keys of 32: %.2f us, %.1f GFLOP/s\n", kernels->name,
           seconds * 1e6, 2.0 * 4 * 1000 * 32 / seconds * 1e-9);
    seconds = median_seconds(run_topk, &k, 200);
    printf("%-8s top-k, 256 of 1,000: %.2f us\n", kernels->name, seconds * 1e6);
    free(pool), free(k.x), free(k.y), free(k.scores), free(k.selected), free(k.scratch);
}

int main(void)
{
    for (int cpu = AGON_CPU_PORTABLE; cpu < AGON_CPU_BEST; cpu++)
        if (agon_kernels_for((enum agon_cpu)cpu))
            bench_all(agon_kernels_for((enum agon_cpu)cpu));
    return 0;
}
