/* Which kernels this machine can run. */
#include "kernels/fast.h"

double agon_fma_loop_ref(long n_rounds, float *sink)
{
    float sum[4] = {0, 1, 2, 3};
    for (long round = 0; round < n_rounds; round++)
        for (int i = 0; i < 4; i++)
            sum[i] = sum[i] * 0.999F + 1e-3F;
    *sink += sum[0] + sum[1] + sum[2] + sum[3];
    return 2.0 * 4 * (double)n_rounds;
}

static const struct agon_kernels plain = {
    .name = "plain",
    .rmsnorm = agon_rmsnorm_ref,
    .layernorm = agon_layernorm_ref,
    .matmul = agon_matmul_ref,
    .swiglu = agon_swiglu_ref,
    .mla = agon_mla_ref,
    .indexer = agon_indexer_ref,
    .topk = agon_topk_plain, /* the quadratic twin serves the tests */
    .sample = agon_sample_ref,
    .fma_loop = agon_fma_loop_ref,
};

#define TABLE(isa)                                                                           \
    {                                                                                        \
        .name = #isa, .rmsnorm = agon_rmsnorm_##isa, .layernorm = agon_layernorm_##isa,      \
        .matmul = agon_matmul_##isa, .swiglu = agon_swiglu_##isa, .mla = agon_mla_##isa,     \
        .indexer = agon_indexer_##isa, .topk = agon_topk_##isa, .sample = agon_sample_##isa, \
        .fma_loop = agon_fma_loop_##isa,                                                     \
    }
static const struct agon_kernels portable = TABLE(portable);

#ifdef AGON_HAVE_X86
#include <cpuid.h>

static const struct agon_kernels avx2 = TABLE(avx2);
static const struct agon_kernels avx512 = TABLE(avx512);

static bool has_avx2(void)
{
    unsigned a, b, c, d; /* clang 14's builtin does not know "f16c" */
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

const struct agon_kernels *agon_kernels_for(enum agon_cpu cpu)
{
    switch (cpu) {
    case AGON_CPU_PLAIN: return &plain;
    case AGON_CPU_PORTABLE: return &portable;
#ifdef AGON_HAVE_X86
    case AGON_CPU_AVX2: return has_avx2() ? &avx2 : NULL;
    case AGON_CPU_AVX512: return has_avx512() ? &avx512 : NULL;
    case AGON_CPU_BEST: return has_avx512() ? &avx512 : has_avx2() ? &avx2 : &portable;
#else
    case AGON_CPU_AVX2:
    case AGON_CPU_AVX512: return NULL;
    case AGON_CPU_BEST: return &portable;
#endif
    }
    return &plain;
}
