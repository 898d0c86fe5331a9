/*
 * Latent attention: median times by shape (launches in a graph), operations a second and the share
 * of the floor. Operations: 2 * heads * (576 + 512) for each entry seen. Floor: the larger of
 * operations at the matrix units' dense BF16 rate (989 TFLOP/s) and bytes (each slot a launch reads
 * once, queries, outputs) at the rate of a copy.
 */
#include "kernels/cuda_mla.h"
#include "tests/gpu/median.h"

struct shape {
    const char *name;
    enum agon_latent_format format;
    int n_rows, n_heads, n_seen; /* entries a row sees */
    bool sparse, shared;         /* shared: all rows choose among the same n_pool positions */
    int n_pool, split;
    bool plain;
    bool small;   /* entries of 128 + 16, not of 512 + 64 */
    int n_prefix; /* positions that all sequences share */
};

static const struct shape shapes[] = {
    {"sparse prefill 2048", AGON_LATENT_BF16, 1024, 128, 2048, .sparse = true, .shared = true,
     .n_pool = 65536},
    {"sparse prefill 2048", AGON_LATENT_FP8, 1024, 128, 2048, .sparse = true, .shared = true,
     .n_pool = 65536},
    {"sparse prefill 2048", AGON_LATENT_BF16, 2048, 64, 2048, .sparse = true, .shared = true,
     .n_pool = 65536},
    {"sparse decode 2048", AGON_LATENT_FP8, 128, 128, 2048, .sparse = true, .n_pool = 8192},
    {"sparse decode 2048, 2 tokens", AGON_LATENT_FP8, 256, 128, 2048, .sparse = true,
     .n_pool = 4096},
    {"sparse decode 2048", AGON_LATENT_BF16, 128, 128, 2048, .sparse = true, .n_pool = 8192},
#define SPLIT(rows, pool, entries)                                                           \
    {                                                                                        \
        "split " #entries, AGON_LATENT_FP8, rows, 128, 2048, .sparse = true, .n_pool = pool, \
                                                             .split = entries                \
    }
#define SPLITS(rows, pool) \
    SPLIT(rows, pool, 0), SPLIT(rows, pool, 256), SPLIT(rows, pool, 512), SPLIT(rows, pool, 1024)
    SPLITS(1, 8192),
    SPLITS(16, 8192),
    SPLITS(64, 8192),
    SPLITS(128, 8192),
    SPLITS(256, 4096),
    SPLITS(512, 4096),
    {"dense decode 4K, split 1024", AGON_LATENT_FP8, 64, 128, 4096, .n_pool = 4096, .split = 1024},
    {"dense decode 32K, split 4096", AGON_LATENT_FP8, 16, 128, 32768, .n_pool = 32768,
     .split = 4096},
    {"dense decode 128K, split 8192", AGON_LATENT_FP8, 4, 128, 131072, .n_pool = 131072,
     .split = 8192},
    {"dense prefill 2K", AGON_LATENT_BF16, 1024, 128, 2048, .shared = true, .n_pool = 2048},
    {"sparse decode 2048, plain", AGON_LATENT_FP8, 16, 128, 2048, .sparse = true, .n_pool = 8192,
     .plain = true},
#define SMALL(what, rows, seen, pool, prefix, ...)                                         \
    {                                                                                      \
        "small, " what, AGON_LATENT_BF16, rows, 6, seen,                                   \
            .n_pool = pool, .sparse = true, .small = true, .n_prefix = prefix, __VA_ARGS__ \
    }
    SMALL("1000 + 536", 1, 512, 1536, 1000, .plain = false),
    SMALL("1000 + 536", 100, 512, 1536, 1000, .plain = false),
    SMALL("1000 + 536", 1000, 512, 1536, 1000, .plain = false),
    SMALL("1000 + 3032", 100, 512, 4032, 1000, .plain = false),
    SMALL("1000 + 3032", 1000, 512, 4032, 1000, .plain = false),
    SMALL("1536, none shared", 100, 512, 1536, 0, .plain = false),
    SMALL("1536, none shared", 1000, 512, 1536, 0, .plain = false),
    SMALL("all of 512, 448 shared", 100, 512, 512, 448, .plain = false),
    SMALL("all of 512, 448 shared", 1000, 512, 512, 448, .plain = false),
    SMALL("1000 + 536, plain", 1000, 512, 1536, 1000, .plain = true),
};

static int run(void *arg, void *stream, struct agon_err *err)
{
    return agon_mla_cuda(arg, stream, err);
}

/* A pool with n entries stored from random values. */
static struct gpu_buffer pool_new(const struct shape *s, size_t n, const struct agon_mla_rows *rows)
{
    enum { PART = 16384 };
    int kv_lora = s->small ? 128 : 512, rope_dim = kv_lora / 8;
    static float *kv;
    struct agon_err err = {0};
    if (!kv)
        kv = random_floats((size_t)PART * 576);
    GPU_AUTO d_kv = gpu_upload(kv, (size_t)PART * 576 * sizeof(float));
    struct gpu_buffer pool = gpu_poisoned(n * agon_latent_bytes(s->format, kv_lora, rope_dim), 0);
    struct agon_mla_cache cache = {pool.p, s->format, kv_lora, rope_dim};
    for (size_t i = 0; i < n; i += PART) {
        struct agon_mla_rows part = *rows;
        part.n_rows = n - i < PART ? (int)(n - i) : PART;
        part.sequence += i;
        part.position += i;
        if (agon_mla_store_cuda(&cache, d_kv.p, AGON_F32, (size_t)(kv_lora + rope_dim), &part, NULL,
                                &err))
            printf("%s\n", err.text);
    }
    if (agon_cuda_sync(NULL, &err))
        printf("%s\n", err.text);
    return pool;
}

/* n random values, which repeat after the first million. */
static struct gpu_buffer queries(size_t n, enum agon_dtype dtype)
{
    enum { REPEAT = 1 << 20 };
    size_t size = agon_dtype_size(dtype);
    float *x = random_floats(REPEAT);
    char *q = malloc(n * size);
    for (size_t i = 0; i < n; i++) {
        uint16_t code = agon_bf16_encode(x[i % REPEAT]);
        memcpy(q + i * size, dtype == AGON_F32 ? (const void *)&x[i % REPEAT] : &code, size);
    }
    struct gpu_buffer b = gpu_upload(q, n * size);
    free(x);
    free(q);
    return b;
}

static void bench(const struct shape *s, const struct agon_cuda_info *gpu)
{
    struct agon_err err = {0};
    int kv_lora = s->small ? 128 : 512, rope_dim = kv_lora / 8, dim = kv_lora + rope_dim;
    int n_sequences = s->shared ? 1 : s->n_rows;
    int ld_pages = s->n_pool / AGON_CUDA_PAGE, n_pages = n_sequences * ld_pages;
    size_t n_slots = (size_t)n_pages * AGON_CUDA_PAGE, n_rows = (size_t)s->n_rows;
    int32_t *sequence = malloc(n_slots * sizeof(*sequence));
    int32_t *position = malloc(n_slots * sizeof(*position));
    int32_t *pages = malloc((size_t)n_pages * sizeof(*pages));
    int32_t *selected = malloc(n_rows * (size_t)s->n_seen * sizeof(*selected));
    for (int i = 0; i < n_pages; i++)
        pages[i] = i % ld_pages < s->n_prefix / AGON_CUDA_PAGE ? i % ld_pages : i;
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
        position[r] = (s->small ? s->n_pool : s->n_seen) - 1;
        for (int i = 0; i < s->n_seen; i++) /* ascending, as the indexer gives them */
        {
            int p = (int)(((int64_t)i * s->n_pool + random_below(s->n_pool)) / s->n_seen);
            selected[r * (size_t)s->n_seen + (size_t)i] =
                pages[sequence[r] * ld_pages + p / AGON_CUDA_PAGE] * AGON_CUDA_PAGE +
                p % AGON_CUDA_PAGE;
        }
    }
    GPU_AUTO d_row_sequence = gpu_upload(sequence, n_rows * sizeof(*sequence));
    GPU_AUTO d_row_position = gpu_upload(position, n_rows * sizeof(*position));
    GPU_AUTO d_selected = gpu_upload(selected, n_rows * (size_t)s->n_seen * sizeof(*selected));
    size_t n_q = n_rows * (size_t)(s->n_heads * dim);
    size_t n_out = n_rows * (size_t)(s->n_heads * kv_lora);
    GPU_AUTO d_q = queries(n_q, AGON_BF16);
    GPU_AUTO d_out = gpu_poisoned(n_out * sizeof(uint16_t), 0xff);
    rows.sequence = d_row_sequence.p;
    rows.position = d_row_position.p;
    struct agon_mla mla = {.cache = {pool.p, s->format, kv_lora, rope_dim},
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

    if (agon_cuda_sync(NULL, &err)) { /* other streams do not wait for what was uploaded */
        printf("%s: %s\n", s->name, err.text);
        exit(1);
    }
    double seconds = 1e-6 * gpu_median_us((struct gpu_launch){run, &mla}, 8);
    double operations = 2.0 * (double)n_rows * s->n_heads * s->n_seen * (dim + kv_lora);
    double read = (double)n_rows * s->n_seen;
    if (read > (double)n_slots)
        read = (double)n_slots;
    double bytes = read * (double)agon_latent_bytes(s->format, kv_lora, rope_dim) +
                   (double)(n_q + n_out) * sizeof(uint16_t);
    double bandwidth = gpu_copy_rate(gpu);
    double floor = fmax(operations / 989e12, bytes / bandwidth);
    printf("mla %-30s %-4s %5d rows x %3d heads: %9.1f us %6.1f TFLOP/s %7.1f GB/s %3.0f%% of the "
           "floor\n",
           s->name, s->format == AGON_LATENT_FP8 ? "fp8" : "bf16", s->n_rows, s->n_heads,
           seconds * 1e6, operations / seconds * 1e-12, bytes / seconds * 1e-9,
           100 * floor / seconds);
    fflush(stdout);
    free(sequence);
    free(position);
    free(pages);
    free(selected);
}

int main(int argc, char **argv)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    printf("mla on %s\n", gpu.name);
    for (size_t i = 0; i < sizeof(shapes) / sizeof(*shapes); i++)
        if (argc < 2 || strstr(shapes[i].name, argv[1]))
            bench(&shapes[i], &gpu);
    return 0;
}
