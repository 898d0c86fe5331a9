/* The routed experts of a layer against the CPU's: grouping, gate and up, SwiGLU, down. */
#include "kernels/cuda_gemm.h"
#include "tests/gpu/gpu.h"

struct layer {
    struct agon_cuda_moe moe;
    struct agon_matrix *gate_up, *down; /* [n_experts] */
};

static struct agon_matrix packed(int n, int k, enum agon_dtype dtype)
{
    static struct agon_err err;
    int blocks_n = (n + 127) / 128, blocks_k = (k + 127) / 128;
    size_t count = (size_t)n * (size_t)k;
    float *scale = malloc((size_t)(blocks_n * blocks_k) * sizeof(*scale));
    uint8_t *data = malloc(count * 4);
    for (int i = 0; i < blocks_n * blocks_k; i++)
        scale[i] = ldexpf(1, -3 - random_below(2));
    for (size_t i = 0; i < count; i++) {
        if (dtype == AGON_F32)
            ((float *)(void *)data)[i] = random_float() / 8;
        else if (dtype == AGON_BF16)
            ((uint16_t *)(void *)data)[i] = agon_bf16_encode(random_float() / 8);
        else
            data[i] = agon_e4m3_encode(random_float());
    }
    struct agon_matrix_source source = {.n = n,
                                        .dtype = dtype,
                                        .data = data,
                                        .stride_n = (size_t)k,
                                        .stride_k = 1,
                                        .scale = scale,
                                        .scale_ld = blocks_k};
    struct agon_matrix w;
    if (agon_matrix_init(&w, k, &source, 1, false, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    free(data), free(scale);
    return w;
}

static struct layer layer_new(int n_experts, int hidden, int inner, enum agon_dtype dtype)
{
    struct agon_err err = {0};
    struct layer l = {.moe = {.n_experts = n_experts, .hidden = hidden, .inner = inner}};
    int rows = inner % 64 == 0 && hidden % 128 == 0 ? 128 : 1; /* do blocks meet? */
    l.gate_up = calloc((size_t)n_experts, sizeof(*l.gate_up));
    l.down = calloc((size_t)n_experts, sizeof(*l.down));
    int r =
        agon_cuda_matrix_alloc(&l.moe.gate_up, n_experts * 2 * inner, hidden, dtype, rows, &err);
    if (!r)
        r = agon_cuda_matrix_alloc(&l.moe.down, n_experts * hidden, inner, dtype, rows, &err);
    for (int e = 0; e < n_experts && !r; e++) {
        l.gate_up[e] = packed(2 * inner, hidden, dtype);
        l.down[e] = packed(hidden, inner, dtype);
        if (!(r = agon_cuda_matrix_put(&l.moe.gate_up, e * 2 * inner, &l.gate_up[e], &err)))
            r = agon_cuda_matrix_put(&l.moe.down, e * hidden, &l.down[e], &err);
    }
    if (r) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
    return l;
}

static void layer_free(struct layer *l)
{
    agon_cuda_matrix_free(&l->moe.gate_up);
    agon_cuda_matrix_free(&l->moe.down);
    for (int e = 0; e < l->moe.n_experts; e++) {
        agon_matrix_deinit(&l->gate_up[e]);
        agon_matrix_deinit(&l->down[e]);
    }
    free(l->gate_up), free(l->down);
}

static void moe_case(int n_experts, int hidden, int inner, int n_rows, int top_k,
                     enum agon_dtype dtype, enum agon_gemm_mode mode, double near)
{
    struct agon_err err = {0};
    struct layer l = layer_new(n_experts, hidden, inner, dtype);
    int n_pairs = n_rows * top_k;
    int *ids = calloc((size_t)n_pairs, sizeof(int)),
        *pair_row = calloc((size_t)n_pairs, sizeof(int));
    int *pair_of = calloc((size_t)n_pairs, sizeof(int));
    int *begin = calloc((size_t)n_experts + 1, sizeof(int));
    for (int i = 0; i < n_pairs; i++)
        ids[i] = (i / top_k * 3 + i % top_k * (1 + i / top_k % 2)) % n_experts;
    agon_moe_group(begin, pair_row, pair_of, ids, n_rows, top_k, n_experts);
    float *x = random_floats((size_t)(n_rows * hidden));
    float *want = poisoned_floats((size_t)(n_pairs * hidden));
    float *got = poisoned_floats((size_t)(n_pairs * hidden));
    float *gate_up = poisoned_floats((size_t)(2 * inner)), *act = poisoned_floats((size_t)inner);
    const struct agon_kernels *cpu = agon_kernels_for(AGON_CPU_BEST);
    for (int e = 0; e < n_experts; e++)
        for (int p = begin[e]; p < begin[e + 1]; p++) {
            cpu->matmul(gate_up, 0, x + pair_row[p] * hidden, 0, NULL, 1, &l.gate_up[e], 0,
                        agon_matrix_panels(&l.gate_up[e]));
            agon_swiglu_ref(act, 0, gate_up, 0, 1, inner);
            cpu->matmul(want + p * hidden, 0, act, 0, NULL, 1, &l.down[e], 0,
                        agon_matrix_panels(&l.down[e]));
        }
    GPU_AUTO d_x = gpu_upload(x, (size_t)(n_rows * hidden) * sizeof(float));
    GPU_AUTO d_begin = gpu_upload(begin, ((size_t)n_experts + 1) * sizeof(int));
    GPU_AUTO d_row = gpu_upload(pair_row, (size_t)n_pairs * sizeof(int));
    GPU_AUTO d_y = gpu_poisoned((size_t)(n_pairs * hidden) * sizeof(float), 0xff);
    GPU_AUTO scratch = gpu_poisoned(agon_cuda_moe_scratch(&l.moe, n_rows, top_k, mode), 0xff);
    struct agon_cuda_moe_run run = {.y = d_y.p,
                                    .ld_y = (size_t)hidden,
                                    .x = d_x.p,
                                    .x_dtype = AGON_F32,
                                    .ld_x = (size_t)hidden,
                                    .n_rows = n_rows,
                                    .top_k = top_k,
                                    .begin = d_begin.p,
                                    .pair_row = d_row.p,
                                    .scratch = scratch.p};
    EXPECT(agon_cuda_moe(&l.moe, &run, mode, NULL, &err) == 0);
    gpu_download(got, &d_y);
    double error = relative_error(got, want, (size_t)(n_pairs * hidden));
    EXPECT(error < near);
    if (!(error < near)) {
        printf("# %d experts, hidden %d, inner %d, %d rows, %s, mode %d: error %g\n", n_experts,
               hidden, inner, n_rows, agon_dtype_name(dtype), (int)mode, error);
        for (int i = 0, shown = 0; i < n_pairs * hidden && shown < 6; i++)
            if (!(fabsf(got[i] - want[i]) <= 0.1F * (1 + fabsf(want[i])))) {
                printf("# pair %d (row %d), column %d: got %g, want %g\n", i / hidden,
                       pair_row[i / hidden], i % hidden, (double)got[i], (double)want[i]);
                shown++;
            }
    }
    free(ids), free(pair_row), free(pair_of), free(begin);
    free(x), free(want), free(got), free(gate_up), free(act);
    layer_free(&l);
}

static const enum agon_dtype dtypes[] = {AGON_F32, AGON_BF16, AGON_E4M3};

TEST(experts_in_exact_mode_equal_the_cpu_s)
{
    REQUIRE_GPU();
    for (size_t i = 0; i < 3; i++) {
        moe_case(8, 96, 56, 33, 2, dtypes[i], AGON_GEMM_EXACT, 2e-6);
        moe_case(16, 256, 128, 5, 4, dtypes[i], AGON_GEMM_EXACT, 2e-6);
    }
}

/* BF16 inputs: 2^-9 each; e4m3 inputs: 2^-4 each, averaged over the sums. */
TEST(experts_in_fast_mode_are_near)
{
    REQUIRE_GPU();
    for (size_t i = 0; i < 3; i++) {
        double near = dtypes[i] == AGON_E4M3 ? 5e-2 : 8e-3;
        moe_case(8, 384, 224, 100, 2, dtypes[i], AGON_GEMM_FAST, near);
        moe_case(16, 256, 128, 77, 4, dtypes[i], AGON_GEMM_FAST, near);
        moe_case(4, 512, 384, 300, 2, dtypes[i], AGON_GEMM_FAST, near);
        moe_case(16, 1024, 256, 3, 2, dtypes[i], AGON_GEMM_FAST, near);
    }
}
