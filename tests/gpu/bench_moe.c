/* The routed experts of one layer: median time of a decode step, and its share of what reading the
 * weights of all experts once takes. Weights are random, made on the device from one block of them
 * that is copied over and over. */
#include "kernels/cuda_gemm.h"
#include "tests/gpu/median.h"

enum { BLOCK_BYTES = 1 << 24 };

struct layer {
    struct agon_cuda_moe moe;
    struct agon_cuda_moe_run run;
    struct gpu_buffer y, x, begin, pair_row, scratch;
    int mode;
};

/* Fill bytes of the device with repeats of a random block of valid numbers. */
static void fill(void *to, size_t bytes, enum agon_dtype dtype)
{
    struct agon_err err = {0};
    size_t size = agon_dtype_size(dtype), n = BLOCK_BYTES / size;
    uint8_t *block = malloc(BLOCK_BYTES);
    for (size_t i = 0; i < n; i++) {
        float x = random_float();
        if (dtype == AGON_E4M3)
            block[i] = agon_e4m3_encode(x);
        else if (dtype == AGON_BF16)
            ((uint16_t *)(void *)block)[i] = agon_bf16_encode(x / 16);
        else
            ((float *)(void *)block)[i] = 0.02F + x * x / 64;
    }
    GPU_AUTO source = gpu_upload(block, BLOCK_BYTES);
    int r = 0;
    for (size_t at = 0; at < bytes && !r; at += BLOCK_BYTES)
        r = agon_cuda_copy((char *)to + at, source.p,
                           bytes - at < BLOCK_BYTES ? bytes - at : BLOCK_BYTES, NULL, &err);
    if (r || agon_cuda_sync(NULL, &err)) {
        printf("failed: %s\n", err.text);
        exit(1);
    }
    free(block);
}

static struct agon_cuda_matrix matrix_new(int n, int k, enum agon_dtype dtype)
{
    struct agon_err err = {0};
    struct agon_cuda_matrix w;
    if (agon_cuda_matrix_alloc(&w, n, k, dtype, AGON_SCALE_BLOCK, &err)) {
        printf("failed: %s\n", err.text);
        exit(1);
    }
    fill(w.data, (size_t)n * w.ld * agon_dtype_size(dtype), dtype);
    if (dtype == AGON_E4M3)
        fill(w.scale, (size_t)((n + 127) / 128) * (size_t)w.ld_scale * sizeof(float), AGON_F32);
    return w;
}

static int run_moe(void *arg, void *stream, struct agon_err *err)
{
    struct layer *l = arg;
    return agon_cuda_moe(&l->moe, &l->run, (enum agon_gemm_mode)l->mode, stream, err);
}

/* Each row takes top_k different experts at random, as a trained router's balance has it. */
static void route(struct layer *l, int n_rows, int top_k)
{
    int n = l->moe.n_experts, n_pairs = n_rows * top_k;
    int *ids = calloc((size_t)n_pairs, sizeof(int)), *begin = calloc((size_t)n + 1, sizeof(int));
    int *pair_row = calloc((size_t)n_pairs, sizeof(int));
    int *pair_of = calloc((size_t)n_pairs, sizeof(int));
    for (int i = 0; i < n_pairs; i++) {
        bool again = true;
        while (again) {
            ids[i] = random_below(n);
            again = false;
            for (int j = i / top_k * top_k; j < i; j++)
                again |= ids[j] == ids[i];
        }
    }
    agon_moe_group(begin, pair_row, pair_of, ids, n_rows, top_k, n);
    l->begin = gpu_upload(begin, ((size_t)n + 1) * sizeof(int));
    l->pair_row = gpu_upload(pair_row, (size_t)n_pairs * sizeof(int));
    free(ids), free(begin), free(pair_row), free(pair_of);
}

static void bench(const char *device, double rate, struct layer *l, int n_rows, int top_k,
                  int n_launches)
{
    size_t hidden = (size_t)l->moe.hidden, n_x = (size_t)n_rows * hidden;
    float *x = random_floats(n_x);
    route(l, n_rows, top_k);
    l->x = gpu_upload(x, n_x * sizeof(float));
    l->y = gpu_poisoned(n_x * (size_t)top_k * sizeof(float), 0xff);
    l->scratch = gpu_poisoned(agon_cuda_moe_scratch(&l->moe, n_rows, top_k, AGON_GEMM_FAST), 0xff);
    l->mode = AGON_GEMM_FAST;
    l->run = (struct agon_cuda_moe_run){.y = l->y.p,
                                        .ld_y = hidden,
                                        .x = l->x.p,
                                        .x_dtype = AGON_F32,
                                        .ld_x = hidden,
                                        .n_rows = n_rows,
                                        .top_k = top_k,
                                        .begin = l->begin.p,
                                        .pair_row = l->pair_row.p,
                                        .scratch = l->scratch.p};
    double us = gpu_median_us((struct gpu_launch){run_moe, l}, n_launches);
    double bytes = 3.0 * l->moe.n_experts * (double)hidden * l->moe.inner *
                   (double)agon_dtype_size(l->moe.down.dtype);
    double flops = 6.0 * n_rows * top_k * (double)hidden * l->moe.inner;
    printf("%s: %d experts %s, hidden %d, inner %d, %d rows by %d: %.1f us, %.0f GB/s (%.0f%% of "
           "%.1f TB/s), %.1f TFLOP/s\n",
           device, l->moe.n_experts, agon_dtype_name(l->moe.down.dtype), l->moe.hidden,
           l->moe.inner, n_rows, top_k, us, bytes / us / 1e3, 100 * bytes / us * 1e6 / rate,
           rate / 1e12, flops / us / 1e6);
    free(x);
    gpu_buffer_free(&l->x), gpu_buffer_free(&l->y), gpu_buffer_free(&l->scratch);
    gpu_buffer_free(&l->begin), gpu_buffer_free(&l->pair_row);
}

static struct layer layer_new(int n_experts, int hidden, int inner, enum agon_dtype dtype)
{
    struct layer l = {.moe = {.n_experts = n_experts, .hidden = hidden, .inner = inner}};
    l.moe.gate_up = matrix_new(n_experts * 2 * inner, hidden, dtype);
    l.moe.down = matrix_new(n_experts * hidden, inner, dtype);
    return l;
}

int main(void)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    double rate = gpu_copy_rate(&gpu);
    struct layer full = layer_new(256, 7168, 2048, AGON_E4M3);
    static const int batches[] = {128, 16, 256, 512, 768, 1024, 2048, 4096};
    for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
        bench(gpu.name, rate, &full, batches[i], 8, 2);
    agon_cuda_matrix_free(&full.moe.gate_up);
    agon_cuda_matrix_free(&full.moe.down);
    struct layer small = layer_new(8, 384, 224, AGON_BF16);
    bench(gpu.name, rate, &small, 100, 2, 50);
    bench(gpu.name, rate, &small, 1000, 2, 50);
    return 0;
}
