#pragma once
/* Private to kernels/: the vector versions that table.c chooses from. Meanings: kernels.h. */
#include "kernels/kernels.h"

#if defined(__x86_64__)
#define AGON_HAVE_X86
#endif

#define AGON_FAST_DECLARE(isa)                                                                    \
    void agon_rmsnorm_##isa(float *out, size_t ld_out, const float *x, size_t ld_x,               \
                            const float *w, int n_rows, int n, float eps);                        \
    void agon_layernorm_##isa(float *out, const float *x, const float *w, const float *bias,      \
                              int n, float eps);                                                  \
    void agon_matmul_##isa(float *out, size_t ld_out, const float *x, size_t ld_x,                \
                           const int *rows, int n_rows, const struct agon_matrix *w,              \
                           int panel_begin, int panel_end);                                       \
    void agon_swiglu_##isa(float *out, size_t ld_out, const float *x, size_t ld_x, int n_rows,    \
                           int n);                                                                \
    void agon_mla_##isa(float *out, const float *q, const float *const *entries, int n,           \
                        int n_heads, int entry_dim, int value_dim, float scale, float *scores);   \
    void agon_indexer_##isa(float *scores, const float *q, const float *weights,                  \
                            const float *const *blocks, int n, int n_heads, int dim);             \
    int agon_topk_##isa(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch); \
    double agon_fma_loop_##isa(long n_rounds, float *sink);                                       \
    double agon_exp_sum_##isa(float *out, const float *x, int n, float shift, float factor);      \
    bool agon_sample_##isa(struct agon_sample *ret, const float *logits, int n,                   \
                           const struct agon_sample_options *options, double uniform,             \
                           void *scratch);
AGON_FAST_DECLARE(portable)
AGON_FAST_DECLARE(avx2)
AGON_FAST_DECLARE(avx512)

int agon_topk_plain(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch);
/* out[i] = exp((x[i] - shift) factor), 0 below e^-87; returns the sum. */
typedef double agon_exp_sum_fn(float *out, const float *x, int n, float shift, float factor);
bool agon_sample_fast(struct agon_sample *ret, const float *logits, int n,
                      const struct agon_sample_options *options, double uniform, void *scratch,
                      agon_exp_sum_fn *exp_sum);
