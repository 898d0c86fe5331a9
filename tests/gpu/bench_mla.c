/*
 * Latent attention: median times by shape, operations a second and the share of the floor.
 * Operations: 2 * heads * (576 + 512) for each entry seen. Floor: the larger of operations at the
 * matrix units' dense BF16 rate (989 TFLOP/s) and bytes (each slot a launch reads once, queries,
 * outputs) at 4.8 TB/s (H200; 3.35 for H100).
 */
#include "kernels/cuda_mla.h"
#include "tests/gpu/gpu.h"

struct shape {
    const char *name;
    enum agon_latent_format format;
    int n_rows, n_heads, n_seen; /* entries a row sees */
    bool sparse, shared;         /* shared: all rows choose among the same n_pool positions */
    int n_pool, split;
    bool plain;
};

static const struct shape shapes[] = {
    {"sparse prefill 2048", AGON_LATENT_BF16, 1024, 128, 2048, true, true, 65536, 0, false},
    {"sparse prefill 2048", AGON_LATENT_FP8, 1024, 128, 2048, true, true, 65536, 0, false},
    {"sparse prefill 2048, 64 heads", AGON_LATENT_BF16, 2048, 64, 2048, true, true, 65536, 0,
     false},
    {"sparse decode 2048", AGON_LATENT_FP8, 128, 128, 2048, true, false, 8192, 0, false},
    {"sparse decode 2048 x 2", AGON_LATENT_FP8, 256, 128, 2048, true, false, 4096, 0, false},
    {"sparse decode 2048", AGON_LATENT_BF16, 128, 128, 2048, true, false, 8192, 0, false},
    {"sparse decode 2048, split 512", AGON_LATENT_FP8, 16, 128, 2048, true, false, 8192, 512,
     false},
    {"sparse decode 2048, split 256", AGON_LATENT_FP8, 1, 128, 2048, true, false, 8192, 256, false},
    {"dense decode 4K, split 1024", AGON_LATENT_FP8, 64, 128, 4096, false, false, 4096, 1024,
     false},
    {"dense decode 32K, split 4096", AGON_LATENT_FP8, 16, 128, 32768, false, false, 32768, 4096,
     false},
    {"dense decode 128K, split 8192", AGON_LATENT_FP8, 4, 128, 131072, false, false, 131072, 8192,
     false},
    {"dense prefill 2K", AGON_LATENT_BF16, 1024, 128, 2048, false, true, 2048, 0, false},
    {"sparse decode 2048, plain", AGON_LATENT_FP8, 16, 128, 2048, true, false, 8192, 0, true},
};

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* A pool with n entries stored from random values. */
static struct gpu_buffer pool_new(const struct shape *s, size_t n, const struct agon_mla_rows *rows)
{
    enum { PART = 16384 };
    static float *kv;
    struct agon_err err = {0};
    if (!kv)
        kv = random_floats((size_t)PART * 576);
    GPU_AUTO d_kv = gpu_upload(kv, (size_t)PART * 576 * sizeof(float));
    struct gpu_buffer pool = gpu_poisoned(n * agon_latent_bytes(s->format, 512, 64), 0);
    struct agon_mla_cache cache = {pool.p, s->format, 512, 64};
    for (size_t i = 0; i < n; i += PART) {
        struct agon_mla_rows part = *rows;
        part.n_rows = n - i < PART ? (int)(n - i) : PART;
        part.sequence += i;
        part.position += i;
        if (agon_mla_store_cuda(&cache, d_kv.p, AGON_F32, 576, &part, NULL, &err))
            printf("%s\n", err.text);
    }
    if (agon_cuda_sync(NULL, &err))
        printf("%s\n", err.text);
    return pool;
}

static void bench(const struct shape *s, const struct agon_cuda_info *gpu)
{
    struct agon_err err = {0};
    int n_sequences = s->shared ? 1 : s->n_rows;
    int ld_pages = s->n_pool / AGON_CUDA_PAGE, n_pages = n_sequences * ld_pages;
    size_t n_slots = (size_t)n_pages * AGON_CUDA_PAGE, n_rows = (size_t)s->n_rows;
    int32_t *sequence = malloc(n_slots * sizeof(*sequence));
    int32_t *position = malloc(n_slots * sizeof(*position));
    int32_t *pages = malloc((size_t)n_pages * sizeof(*pages));
    int32_t *selected = malloc(n_rows * (size_t)s->n_seen * sizeof(*selected));
    for (int i = 0; i < n_pages; i++)
        pages[i] = i;
    for (size_t i = 0; i < n_slots; i++) {
        sequence[i] = (int32_t)(i / (size_t)s->n_pool);
        position[i] = (int32_t)(i % (size_t)s->n_pool);
    }
    GPU_AUTO d_sequence = gpu_upload(sequence, n_slots * sizeof(*sequence));
    GPU_AUTO d_position = gpu_upload(position, n_slots * sizeof(*position));
    GPU_AUTO d_pages = gpu_upload(pages, (size_t)n_pages * sizeof(*pages));
    struct agon_mla_rows rows = {s->n_rows, d_sequence.p, d_position.p, d_pages.p, ld_pages};
    GPU_AUTO pool = pool_new(s, n_slots, &rows);
    for (size_t r = 0; r < n_rows; r++) {
        sequence[r] = s->shared ? 0 : (int32_t)r;
        position[r] = s->n_seen - 1;
        for (int i = 0; i < s->n_seen; i++) /* ascending, as the indexer gives them */
            selected[r * (size_t)s->n_seen + (size_t)i] =
                sequence[r] * s->n_pool +
                (int)(((int64_t)i * s->n_pool + random_below(s->n_pool)) / s->n_seen);
    }
    GPU_AUTO d_row_sequence = gpu_upload(sequence, n_rows * sizeof(*sequence));
    GPU_AUTO d_row_position = gpu_upload(position, n_rows * sizeof(*position));
    GPU_AUTO d_selected = gpu_upload(selected, n_rows * (size_t)s->n_seen * sizeof(*selected));
    size_t n_q = n_rows * (size_t)s->n_heads * 576, n_out = n_rows * (size_t)s->n_heads * 512;
    uint16_t *q = malloc(n_q * sizeof(*q));
    for (size_t i = 0; i < n_q; i++)
        q[i] = i < 1U << 20 ? agon_bf16_encode(random_float()) : q[i - (1U << 20)];
    GPU_AUTO d_q = gpu_upload(q, n_q * sizeof(*q));
    GPU_AUTO d_out = gpu_poisoned(n_out * sizeof(uint16_t), 0xff);
    rows.sequence = d_row_sequence.p;
    rows.position = d_row_position.p;
    struct agon_mla mla = {.cache = {pool.p, s->format, 512, 64},
                           .rows = rows,
                           .n_heads = s->n_heads,
                           .scale = 0.1352337788608801F,
                           .q = d_q.p,
                           .out = d_out.p,
                           .q_dtype = AGON_BF16,
                           .out_dtype = AGON_BF16,
                           .selected = s->sparse ? d_selected.p : NULL,
                           .ld_selected = s->n_seen,
                           .n_positions_max = s->n_seen,
                           .split = s->split,
                           .plain = s->plain};
    GPU_AUTO scratch = gpu_poisoned(agon_mla_scratch(&mla), 0xff);
    mla.scratch = scratch.p;

    enum { RUNS = 15 };
    float ms[RUNS];
    void *begin, *end;
    int failed = agon_cuda_event_new(&begin, &err) || agon_cuda_event_new(&end, &err);
    for (int i = -2; !failed && i < RUNS; i++)
        failed = agon_cuda_event_record(begin, NULL, &err) || agon_mla_cuda(&mla, NULL, &err) ||
                 agon_cuda_event_record(end, NULL, &err) ||
                 agon_cuda_event_ms(&ms[i < 0 ? 0 : i], begin, end, &err);
    if (failed) {
        printf("%s: %s\n", s->name, err.text);
        exit(1);
    }
    qsort(ms, RUNS, sizeof(*ms), compare);
    double seconds = ms[RUNS / 2] * 1e-3;
    double operations = 2.0 * (double)n_rows * s->n_heads * s->n_seen * (576 + 512);
    double read = (double)n_rows * s->n_seen;
    if (read > (double)n_slots)
        read = (double)n_slots;
    double bytes = read * (double)agon_latent_bytes(s->format, 512, 64) +
                   (double)(n_q + n_out) * sizeof(uint16_t);
    double bandwidth = strstr(gpu->name, "H200") ? 4.8e12 : 3.35e12;
    double floor = fmax(operations / 989e12, bytes / bandwidth);
    printf("mla %-30s %-4s %5d rows x %3d heads: %9.1f us (best %9.1f) %6.1f TFLOP/s %7.1f GB/s "
           "%3.0f%% of the floor\n",
           s->name, s->format == AGON_LATENT_FP8 ? "fp8" : "bf16", s->n_rows, s->n_heads,
           seconds * 1e6, (double)ms[0] * 1e3, operations / seconds * 1e-12, bytes / seconds * 1e-9,
           100 * floor / seconds);
    fflush(stdout);
    agon_cuda_event_free(begin);
    agon_cuda_event_free(end);
    free(sequence);
    free(position);
    free(pages);
    free(selected);
    free(q);
}

int main(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_cuda_info gpu;
    if (agon_cuda_open(&gpu, 0, &err)) {
        printf("%s\n", err.text);
        return 77;
    }
    printf("mla on %s\n", gpu.name);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        if (argc < 2 || strstr(shapes[i].name, argv[1]))
            bench(&shapes[i], &gpu);
    return 0;
}
