#pragma once
/*
 * The operators of a DeepSeek sparse-attention model (MLA, lightning indexer, MoE) on one
 * thread of a CPU. Each has a plain C twin in <name>_ref.c, which sums in double and reads
 * like the equation; the fast ones stand behind `struct agon_kernels`, one table for each
 * instruction set, chosen at run time.
 *
 * Invariant that the engine is built on: an output row depends on its own inputs alone. The
 * order of every sum is fixed by the shapes (matmul: one accumulator an output, k ascending),
 * never by how many rows a call holds or which thread makes it. So results do not depend on
 * the batch or on the number of threads, bit for bit within one instruction set.
 *
 * Arrays are row-major; ld_x is the distance between rows of x in elements. Shapes are
 * written [a][b]. Nothing here allocates but agon_matrix_*. Equations: DeepSeek-V3.2's
 * report, section 2, and its reference inference code.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- numbers: number_ref.c ---------------------------------------------------- */

enum agon_dtype { AGON_F32, AGON_BF16, AGON_F16, AGON_E4M3 };

size_t agon_dtype_size(enum agon_dtype dtype);
const char *agon_dtype_name(enum agon_dtype dtype); /* "F32", "BF16", "F16", "F8_E4M3" */
/* float8 e4m3fn: bias 7, largest 448, NaN 0x7f and 0xff, no infinities. Encoding rounds to
 * nearest even and saturates. */
float agon_e4m3_decode(uint8_t code);
uint8_t agon_e4m3_encode(float x);
float agon_bf16_decode(uint16_t code);
uint16_t agon_bf16_encode(float x); /* to nearest even */
float agon_f16_decode(uint16_t code);
uint16_t agon_f16_encode(float x); /* to nearest even; what F16 does not reach is its largest */
/* The smallest power of two that is not below x (x > 0). */
float agon_ue8m0_round_up(float x);
/* Quantise n values to e4m3 with one scale, max(amax, 1e-4) / 448, rounded up to a power of
 * two where ue8m0. x is about codes * scale. */
void agon_act_quant_ref(uint8_t *codes, float *ret_scale, const float *x, int n, bool ue8m0);
/* y = H x / sqrt(n), H in Sylvester's order, n a power of two. y may be x. */
void agon_hadamard_ref(float *y, const float *x, int n);

/* ---- rotary embedding: rope_ref.c ---------------------------------------------- */

struct agon_rope {
    int dim;      /* even */
    double theta; /* base of the frequencies */
    bool yarn;    /* the fields below hold */
    double factor, beta_fast, beta_slow, mscale_all_dim;
    double original_positions;
};
/* inv_freq[dim / 2] (Peng et al. 2023, YaRN; without it theta^(-2i/dim)). */
void agon_rope_frequencies(double *inv_freq, const struct agon_rope *rope);
/* qk_dim^-0.5, times (0.1 mscale_all_dim ln factor + 1)^2 under YaRN. */
double agon_rope_softmax_scale(const struct agon_rope *rope, int qk_dim);
/* cos and sin [dim / 2] at a position. */
void agon_rope_angles(float *ret_cos, float *ret_sin, const double *inv_freq, int half,
                      int64_t position);
/* Rotate x[2 * half] in place: pairs (2i, 2i+1), as MLA does, or (i, i+half), as the indexer. */
void agon_rope_interleaved_ref(float *x, const float *cosine, const float *sine, int half);
void agon_rope_half_split_ref(float *x, const float *cosine, const float *sine, int half);

/* ---- weights packed for matmul: matrix.c ---------------------------------------- */

enum {
    AGON_PANEL = 16,        /* outputs in a panel */
    AGON_SCALE_BLOCK = 128, /* one e4m3 scale covers 128 x 128 */
};
/*
 * W [n][k] as panels of 16 outputs: data [panel][k][16], outputs past n are zero. e4m3 keeps
 * one scale an output and block of k: scale [panel][ceil(k/128)][16].
 */
struct agon_matrix {
    int n, k;
    enum agon_dtype dtype; /* F32, BF16 or E4M3 */
    void *data;            /* owned, 64-byte aligned */
    float *scale;          /* owned; E4M3 only */
};
/* n outputs before packing: element (i, j) is data[i * stride_n + j * stride_k]. e4m3's
 * scale_inv, which multiplies, is scale [..][scale_ld]; output i has row (scale_row + i) / 128. */
struct agon_matrix_source {
    int n;
    enum agon_dtype dtype;
    const void *data; /* borrowed, any alignment */
    size_t stride_n, stride_k;
    const float *scale; /* borrowed; E4M3 only */
    int scale_ld, scale_row;
};
enum { AGON_MATRIX_SOURCES_MAX = 4 };
/*
 * Pack sources of k inputs, one above the other. The dtype is theirs where they agree on one
 * of F32, BF16, E4M3; otherwise, or where as_f32, it is F32. AGON_EINPUT where a value is NaN.
 */
int agon_matrix_init(struct agon_matrix *w, int k, const struct agon_matrix_source *sources,
                     int n_sources, bool as_f32, struct agon_err *err) AGON_MUST_USE;
void agon_matrix_deinit(struct agon_matrix *w);
int agon_matrix_panels(const struct agon_matrix *w);
float agon_matrix_at(const struct agon_matrix *w, int i, int j);
/* Row i, as floats: out [k]. */
void agon_matrix_row(const struct agon_matrix *w, int i, float *out);
size_t agon_matrix_bytes(const struct agon_matrix *w);

/* ---- sampling ------------------------------------------------------------------- */

struct agon_sample_options {
    double temperature; /* 0: the largest logit, lowest id on ties */
    double top_p;       /* >= 1: off */
    int top_k;          /* 0: off */
};
enum { AGON_SAMPLE_SCRATCH = 20 };
struct agon_sample {
    int id;
    int n_kept;         /* ids that top-k and top-p left over */
    double logprob;     /* under the distribution drawn from (renormalised; 0 when greedy) */
    double logprob_raw; /* under softmax(logits) */
};

/* ---- one table for each instruction set ----------------------------------------- */

struct agon_kernels {
    const char *name; /* "plain", "portable", "avx2", "avx512" */

    /* out[r][i] = w[i] x[r][i] / sqrt(mean(x[r]^2) + eps). out may be x. */
    void (*rmsnorm)(float *out, size_t ld_out, const float *x, size_t ld_x, const float *w,
                    int n_rows, int n, float eps);
    /* out = w (x - mean) / sqrt(var + eps) + bias, one row. out may be x. */
    void (*layernorm)(float *out, const float *x, const float *w, const float *bias, int n,
                      float eps);
    /*
     * out[r][i] = sum_k x[rows[r]][k] W[i][k] for the outputs of panels [panel_begin,
     * panel_end). rows may be NULL: row r. Stores only outputs below w->n.
     */
    void (*matmul)(float *out, size_t ld_out, const float *x, size_t ld_x, const int *rows,
                   int n_rows, const struct agon_matrix *w, int panel_begin, int panel_end);
    /* out[r][i] = silu(x[r][i]) x[r][n + i]: the gate's n values stand before up's n. */
    void (*swiglu)(float *out, size_t ld_out, const float *x, size_t ld_x, int n_rows, int n);
    /*
     * Absorbed attention of one query over n gathered latent entries, which all heads share:
     * a[h] = softmax_s(scale q[h] . entries[s]), out[h] = sum_s a[h][s] entries[s][0:value_dim].
     *   q [n_heads][entry_dim], out [n_heads][value_dim], both dims multiples of 16 (the caller
     *   pads with zeros), n > 0; scores: scratch [n_heads][n rounded up to 16].
     */
    void (*mla)(float *out, const float *q, const float *const *entries, int n, int n_heads,
                int entry_dim, int value_dim, float scale, float *scores);
    /*
     * scores[s] = sum_h weights[h] relu(q[h] . k_s) for s < n. Keys lie in blocks of
     * AGON_PANEL positions, each [dim][AGON_PANEL]; scores has room for whole blocks.
     */
    void (*indexer)(float *scores, const float *q, const float *weights, const float *const *blocks,
                    int n, int n_heads, int dim);
    /*
     * The positions of the k largest of scores[n], ascending; the lowest position first on
     * ties, -0 equal to 0, NaN below all. Returns min(n, k). scratch: n values.
     */
    int (*topk)(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch);
    /*
     * Draw one id: softmax(logits / temperature) cut to the top_k largest, then to the shortest
     * prefix (largest first, lowest id on ties) that holds top_p of the rest; uniform in [0, 1)
     * picks along the ids that are left, in their order. scratch: AGON_SAMPLE_SCRATCH n bytes.
     * False where a logit is NaN or +inf, or all are -inf.
     */
    bool (*sample)(struct agon_sample *ret, const float *logits, int n,
                   const struct agon_sample_options *options, double uniform, void *scratch);
    /* Multiply and add in registers, for the speed that the machine could have: returns the
     * floating-point operations done. *sink takes a result, so that it is not left out. */
    double (*fma_loop)(long n_rounds, float *sink);
};

enum agon_cpu {
    AGON_CPU_PLAIN,    /* the twins: slow */
    AGON_CPU_PORTABLE, /* four lanes of the compiler's vectors */
    AGON_CPU_AVX2,
    AGON_CPU_AVX512,
    AGON_CPU_BEST,
};
/* The table of an instruction set; NULL where this machine lacks it (never for PLAIN,
 * PORTABLE, BEST). */
const struct agon_kernels *agon_kernels_for(enum agon_cpu cpu);

/* ---- plain twins (the fast ones' meaning is above) ------------------------------- */

void agon_rmsnorm_ref(float *out, size_t ld_out, const float *x, size_t ld_x, const float *w,
                      int n_rows, int n, float eps);
void agon_layernorm_ref(float *out, const float *x, const float *w, const float *bias, int n,
                        float eps);
void agon_matmul_ref(float *out, size_t ld_out, const float *x, size_t ld_x, const int *rows,
                     int n_rows, const struct agon_matrix *w, int panel_begin, int panel_end);
void agon_swiglu_ref(float *out, size_t ld_out, const float *x, size_t ld_x, int n_rows, int n);
void agon_mla_ref(float *out, const float *q, const float *const *entries, int n, int n_heads,
                  int entry_dim, int value_dim, float scale, float *scores);
void agon_indexer_ref(float *scores, const float *q, const float *weights,
                      const float *const *blocks, int n, int n_heads, int dim);
int agon_topk_ref(int *ret_selected, const float *scores, int n, int k, uint32_t *scratch);
bool agon_sample_ref(struct agon_sample *ret, const float *logits, int n,
                     const struct agon_sample_options *options, double uniform, void *scratch);

double agon_fma_loop_ref(long n_rounds, float *sink);

/*
 * Router of one token (noaux_tc): s = sigmoid(logits); experts are ranked by s + bias within
 * the topk_group best groups, a group's score being the sum of its two best; others count as
 * -inf. weights = s of the chosen, divided by their sum where normalise, times scale. ids are
 * in descending order of s + bias, the lowest id first on ties.
 */
struct agon_router {
    int n_experts, n_group, topk_group, top_k;
    bool normalise;
    float scale;
};
enum { AGON_EXPERTS_MAX = 1024, AGON_EXPERT_TOPK_MAX = 64 };
void agon_router_ref(int *ret_ids, float *ret_weights, const float *logits, const float *bias,
                     const struct agon_router *router);
/* The weights of experts that were chosen elsewhere (a recorded routing), by the same formula. */
void agon_router_weights_ref(float *ret_weights, const float *logits, const int *ids,
                             const struct agon_router *router);

/*
 * Rows grouped by expert: pair p stands for (row pair_row[p], its slot-th choice); pairs of
 * expert e are begin[e] .. begin[e+1], rows ascending. pair_of[row * top_k + slot] is the way
 * back. ids [n_rows][top_k]; begin [n_experts + 1].
 */
void agon_moe_group(int *begin, int *pair_row, int *pair_of, const int *ids, int n_rows, int top_k,
                    int n_experts);
/* x[row] += sum over slots, in their order, of weight * y[pair]. One row. */
void agon_moe_combine(float *x, const float *y, size_t ld_y, const int *pair_of,
                      const float *weights, int top_k, int n);

#ifdef __cplusplus
}
#endif
