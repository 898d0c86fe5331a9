/* Small operators and the sampler at the shapes of the embedded model and of the full-size one:
 * median time, and the bytes read and written once a second. Between launches the data stays in the
 * L2 cache as far as it fits; most of a small one's time is its start. */
#include "kernels/cuda_sample.h"
#include "tests/gpu/median.h"

#include "kernels/cuda_ops.h"

static const char *device;

static void *room(size_t bytes, int byte)
{
    return gpu_poisoned(bytes, byte).p; /* small; the process ends soon */
}

static void *floats(size_t n)
{
    float *x = random_floats(n);
    struct gpu_buffer b = gpu_upload(x, n * sizeof(float));
    free(x);
    return b.p;
}

static void tell(const char *what, struct gpu_launch launch, int n_rows, int n, double bytes)
{
    double us = gpu_median_us(launch, 20);
    printf("%s: %s [%d][%d]: %.2f us, %.0f GB/s\n", device, what, n_rows, n, us, bytes / us / 1e3);
}

static int run_norm(void *arg, void *stream, struct agon_err *err)
{
    return agon_cuda_rmsnorm(arg, stream, err);
}

static int run_quantise(void *arg, void *stream, struct agon_err *err)
{
    return agon_cuda_quantise(arg, stream, err);
}

static void bench_rows(int n_rows, int n)
{
    size_t count = (size_t)n_rows * (size_t)n;
    struct agon_cuda_norm norm = {.out = room(2 * count, 0),
                                  .out_dtype = AGON_BF16,
                                  .ld_out = (size_t)n,
                                  .x = floats(count),
                                  .ld_x = (size_t)n,
                                  .add = room(4 * count, 0),
                                  .ld_add = (size_t)n,
                                  .w = floats((size_t)n),
                                  .n = n,
                                  .n_rows = n_rows,
                                  .eps = 1e-6F};
    tell("sum and RMSNorm", (struct gpu_launch){run_norm, &norm}, n_rows, n, 14.0 * (double)count);
    struct agon_cuda_quant quant = {.codes = room(count, 0),
                                    .ld_codes = (size_t)n,
                                    .scales = room(4 * count / 64, 0),
                                    .ld_scales = (size_t)(n + 127) / 128,
                                    .x = norm.x,
                                    .x_dtype = AGON_F32,
                                    .ld_x = (size_t)n,
                                    .n = n,
                                    .group = 128,
                                    .ue8m0 = true,
                                    .n_rows = n_rows};
    tell("quantise to e4m3", (struct gpu_launch){run_quantise, &quant}, n_rows, n,
         5.0 * (double)count);
}

struct router {
    struct agon_router options;
    float *logits, *bias, *weights;
    int32_t *ids, *begin, *pair_row, *pair_of;
    int n_rows;
};

static int run_route(void *arg, void *stream, struct agon_err *err)
{
    struct router *r = arg;
    int e = r->options.n_experts;
    int failed = agon_cuda_route(r->ids, r->weights, r->logits, (size_t)e, r->bias, NULL,
                                 &r->options, r->n_rows, NULL, stream, err);
    return failed ? failed
                  : agon_cuda_moe_group(r->begin, r->pair_row, r->pair_of, r->ids, r->n_rows, NULL,
                                        r->options.top_k, e, stream, err);
}

static void bench_router(int n_rows, struct agon_router options)
{
    size_t logits = (size_t)n_rows * (size_t)options.n_experts;
    size_t pairs = (size_t)n_rows * (size_t)options.top_k;
    struct router r = {options,
                       floats(logits),
                       floats((size_t)options.n_experts),
                       room(4 * pairs, 0),
                       room(4 * pairs, 0),
                       room(8192, 0),
                       room(4 * pairs, 0),
                       room(4 * pairs, 0),
                       n_rows};
    tell("router and grouping", (struct gpu_launch){run_route, &r}, n_rows, options.n_experts,
         4.0 * (double)logits);
}

struct fused {
    struct agon_cuda_norm_route route;
};

static int run_fused(void *arg, void *stream, struct agon_err *err)
{
    struct fused *f = arg;
    return agon_cuda_norm_route(&f->route, stream, err);
}

static void bench_fused(int n_rows, int n, struct agon_router options)
{
    size_t count = (size_t)n_rows * (size_t)n, pairs = (size_t)(n_rows * (options.top_k + 1));
    size_t e = (size_t)options.n_experts;
    struct fused f = {.route = {.norm = {.out = room(2 * count, 0),
                                         .out_dtype = AGON_BF16,
                                         .ld_out = (size_t)n,
                                         .x = floats(count),
                                         .ld_x = (size_t)n,
                                         .w = floats((size_t)n),
                                         .n = n,
                                         .n_rows = n_rows,
                                         .eps = 1e-6F},
                                .router = {.n = options.n_experts,
                                           .k = n,
                                           .dtype = AGON_F32,
                                           .data = floats(e * (size_t)n),
                                           .ld = (size_t)n},
                                .bias = floats(e),
                                .options = options,
                                .shared = true,
                                .ids = room(4 * pairs, 0),
                                .weights = room(4 * pairs, 0),
                                .begin = room(4 * e + 8, 0),
                                .pair_row = room(4 * pairs, 0),
                                .pair_of = room(4 * pairs, 0),
                                .counter = room(4, 0)}};
    tell("norm, router, choice and grouping", (struct gpu_launch){run_fused, &f}, n_rows, n,
         6.0 * (double)count);
}

static int run_sample(void *arg, void *stream, struct agon_err *err)
{
    return agon_cuda_sample(arg, stream, err);
}

static void bench_sample(int n_rows, int n, double top_p, int top_k)
{
    struct agon_cuda_slot *slots = calloc((size_t)n_rows, sizeof(*slots));
    for (int r = 0; r < n_rows; r++)
        slots[r] = (struct agon_cuda_slot){.temperature = 1,
                                           .top_p = top_p,
                                           .top_k = top_k,
                                           .seed = (uint64_t)r,
                                           .n_drawn_max = 1 << 30,
                                           .state = AGON_SLOT_RUNNING};
    struct agon_cuda_sampler s = {.logits = floats((size_t)n_rows * (size_t)n),
                                  .ld_logits = (size_t)n,
                                  .n_rows = n_rows,
                                  .n = n,
                                  .slots = gpu_upload(slots, (size_t)n_rows * sizeof(*slots)).p,
                                  .drawn =
                                      room((size_t)n_rows * 16 * sizeof(struct agon_cuda_drawn), 0),
                                  .ld_drawn = 16,
                                  .scratch = room(agon_cuda_sample_scratch(n_rows, n), 0)};
    char what[64];
    snprintf(what, sizeof(what), "sampler, top-p %g, top-k %d", top_p, top_k);
    tell(what, (struct gpu_launch){run_sample, &s}, n_rows, n, 4.0 * n_rows * n);
    free(slots);
}

int main(void)
{
    struct agon_cuda_info gpu = gpu_or_leave();
    device = gpu.name;
    const struct agon_router small = {8, 1, 1, 2, true, 1}, full = {256, 8, 4, 8, true, 2.5F};
    bench_rows(100, 384);
    bench_rows(1000, 384);
    bench_rows(128, 7168);
    bench_rows(4096, 7168);
    bench_router(100, small);
    bench_router(128, full);
    bench_router(4096, full);
    bench_fused(100, 384, small);
    bench_fused(1000, 384, small);
    bench_sample(100, 2048, 1, 0);
    bench_sample(100, 2048, 0.95, 0);
    bench_sample(1000, 2048, 1, 0);
    bench_sample(1000, 2048, 0.95, 50);
    bench_sample(128, 129280, 1, 0);
    bench_sample(128, 129280, 0.95, 0);
    return 0;
}
