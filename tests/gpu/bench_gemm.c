/* Products with weights: median time, TFLOP/s and bytes a second of the weights. The buffers stay
 * in the L2 cache between launches as far as they fit. */
#include "kernels/cuda_small.h"
#include "tests/gpu/median.h"

struct product {
    struct agon_cuda_gemm gemm;
    struct agon_cuda_matrix w;
    enum agon_gemm_mode mode;
    bool small; /* by cuda_small.h */
};

static int run_product(void *arg, void *stream, struct agon_err *err)
{
    struct product *p = arg;
    return p->small ? agon_cuda_small(&p->gemm, &p->w, 0, NULL, stream, err)
                    : agon_cuda_gemm(&p->gemm, &p->w, p->mode, stream, err);
}

/* A byte pattern that is a number near 1 in each dtype, signs by turns. */
static struct gpu_buffer numbers(size_t n, enum agon_dtype dtype)
{
    size_t size = agon_dtype_size(dtype);
    uint8_t *data = malloc(n * size);
    for (size_t i = 0; i < n; i++) {
        float x = random_float();
        if (dtype == AGON_E4M3)
            data[i] = agon_e4m3_encode(x);
        else if (dtype == AGON_BF16)
            ((uint16_t *)(void *)data)[i] = agon_bf16_encode(x);
        else
            ((float *)(void *)data)[i] = x;
    }
    struct gpu_buffer b = gpu_upload(data, n * size);
    free(data);
    return b;
}

static void bench(const char *device, int m, int n, int k, enum agon_dtype x_dtype,
                  enum agon_dtype w_dtype, enum agon_gemm_mode mode)
{
    int blocks = (k + 127) / 128;
    GPU_AUTO x = numbers((size_t)m * (size_t)k, x_dtype);
    GPU_AUTO w = numbers((size_t)n * (size_t)k, w_dtype);
    GPU_AUTO x_scale = numbers((size_t)(m * blocks), AGON_F32);
    GPU_AUTO w_scale = numbers((size_t)((n + 127) / 128 * blocks), AGON_F32);
    GPU_AUTO out = gpu_poisoned((size_t)m * (size_t)n * sizeof(float), 0xff);
    struct product p = {.gemm = {.out = out.p,
                                 .out_dtype = AGON_F32,
                                 .ld_out = (size_t)n,
                                 .x = x.p,
                                 .x_dtype = x_dtype,
                                 .ld_x = (size_t)k,
                                 .x_scale = x_scale.p,
                                 .ld_x_scale = (size_t)blocks,
                                 .n_rows = m},
                        .w = {.n = n,
                              .k = k,
                              .dtype = w_dtype,
                              .data = w.p,
                              .ld = (size_t)k,
                              .scale = w_scale.p,
                              .ld_scale = blocks,
                              .scale_rows = 128},
                        .mode = mode};
    double us = gpu_median_us((struct gpu_launch){run_product, &p}, 20);
    double flops = 2.0 * m * n * k;
    double bytes = (double)n * k * (double)agon_dtype_size(w_dtype);
    printf("%s: [%d][%d] %s by [%d][%d] %s%s: %.2f us, %.1f TFLOP/s, weights at %.0f GB/s\n",
           device, m, k, agon_dtype_name(x_dtype), n, k, agon_dtype_name(w_dtype),
           mode == AGON_GEMM_EXACT ? ", exact" : "", us, flops / us / 1e6, bytes / us / 1e3);
}

/* A matrix for each of 128 heads, as W_UK and W_UV have, by the pipeline and by cuda_small.h. */
static void bench_heads(const char *device, int m, int n, int k)
{
    enum { HEADS = 128 };
    GPU_AUTO x = numbers((size_t)m * HEADS * (size_t)k, AGON_BF16);
    GPU_AUTO w = numbers((size_t)HEADS * (size_t)(n * k), AGON_BF16);
    GPU_AUTO out = gpu_poisoned((size_t)m * HEADS * (size_t)n * sizeof(uint16_t), 0xff);
    struct product p = {
        .gemm = {.out = out.p,
                 .out_dtype = AGON_BF16,
                 .ld_out = (size_t)(HEADS * n),
                 .x = x.p,
                 .x_dtype = AGON_BF16,
                 .ld_x = (size_t)(HEADS * k),
                 .n_rows = m,
                 .n_batch = HEADS,
                 .batch_x = (size_t)k,
                 .batch_out = (size_t)n},
        .w = {.n = HEADS * n, .k = k, .dtype = AGON_BF16, .data = w.p, .ld = (size_t)k},
        .mode = AGON_GEMM_FAST};
    double us[2];
    for (int i = 0; i < 2; i++) {
        p.small = i;
        us[i] = gpu_median_us((struct gpu_launch){run_product, &p}, 10);
    }
    printf("%s: %d heads' [%d][%d] by [%d][%d] bf16: %.1f us, %.1f TFLOP/s (small.cu %.1f us)\n",
           device, HEADS, m, k, n, k, us[0], 2.0 * HEADS * m * n * k / us[0] / 1e6, us[1]);
}

static void bench_large(const char *device)
{
    static const int large[][3] = {{128, 7168, 16384}, {128, 24576, 1536},  {512, 7168, 16384},
                                   {512, 32768, 1536}, {2048, 2240, 7168},  {2048, 32768, 1536},
                                   {2048, 7168, 2048}, {2048, 7168, 16384}, {4096, 4096, 7168},
                                   {4096, 7168, 16384}};
    for (int m = 16; m <= 2048; m = m == 16 ? 128 : m * 4) {
        bench_heads(device, m, 512, 128);
        bench_heads(device, m, 128, 512);
    }
    for (size_t s = 0; s < sizeof(large) / sizeof(large[0]); s++) {
        bench(device, large[s][0], large[s][1], large[s][2], AGON_BF16, AGON_BF16, AGON_GEMM_FAST);
        bench(device, large[s][0], large[s][1], large[s][2], AGON_E4M3, AGON_E4M3, AGON_GEMM_FAST);
    }
}

/* With an argument: the large ones alone. */
int main(int argc, char **argv)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    static const int embedded[][2] = {{368, 384}, {512, 192}, {384, 384}, {2048, 384}};
    (void)argv;
    for (int m = 100; m <= 1000 && argc == 1; m += 900)
        for (size_t s = 0; s < 4; s++) {
            int n = embedded[s][0], k = embedded[s][1];
            bench(gpu.name, m, n, k, AGON_BF16, AGON_BF16, AGON_GEMM_FAST);
            bench(gpu.name, m, n, k, AGON_F32, AGON_BF16, AGON_GEMM_FAST);
        }
    if (argc == 1) {
        bench(gpu.name, 100, 384, 384, AGON_F32, AGON_F32, AGON_GEMM_EXACT);
        bench(gpu.name, 1000, 2048, 384, AGON_F32, AGON_F32, AGON_GEMM_EXACT);
    }
    bench_large(gpu.name);
    return 0;
}
