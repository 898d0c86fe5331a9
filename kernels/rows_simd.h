/*
 * Norms, SwiGLU, latent attention and indexer over vectors; included by rows_avx2.c and
 * rows_avx512.c, which define ISA(name) and the tile heights.
 */
#include "kernels/kernels.h"
#include "kernels/simd.h"
#include "kernels/topk.h"

#include <math.h>

SIMD_TARGET void ISA(agon_rmsnorm)(float *out, size_t ld_out, const float *x, size_t ld_x,
                                   const float *w, int n_rows, int n, float eps)
{
    for (int r = 0; r < n_rows; r++, out += ld_out, x += ld_x) {
        vec squares = vec_zero();
        int i = 0;
        for (; i + LANES <= n; i += LANES)
            squares = vec_fma(vec_load(x + i), vec_load(x + i), squares);
        float square = vec_sum(squares);
        for (; i < n; i++)
            square += x[i] * x[i];
        float factor = 1 / sqrtf(square / (float)n + eps);
        for (i = 0; i + LANES <= n; i += LANES)
            vec_store(out + i, vec_mul(vec_load(w + i), vec_mul(vec_load(x + i), vec_set(factor))));
        for (; i < n; i++)
            out[i] = w[i] * (x[i] * factor);
    }
}

SIMD_TARGET void ISA(agon_layernorm)(float *out, const float *x, const float *w, const float *bias,
                                     int n, float eps)
{
    vec sums = vec_zero(), squares = vec_zero();
    float sum = 0, square = 0;
    int i = 0;
    for (; i + LANES <= n; i += LANES)
        sums = vec_add(sums, vec_load(x + i));
    for (; i < n; i++)
        sum += x[i];
    float mean = (vec_sum(sums) + sum) / (float)n;
    for (i = 0; i + LANES <= n; i += LANES) {
        vec d = vec_sub(vec_load(x + i), vec_set(mean));
        squares = vec_fma(d, d, squares);
    }
    for (; i < n; i++)
        square += (x[i] - mean) * (x[i] - mean);
    float factor = 1 / sqrtf((vec_sum(squares) + square) / (float)n + eps);
    for (i = 0; i + LANES <= n; i += LANES) {
        vec d = vec_mul(vec_sub(vec_load(x + i), vec_set(mean)), vec_set(factor));
        vec_store(out + i, vec_fma(d, vec_load(w + i), vec_load(bias + i)));
    }
    for (; i < n; i++)
        out[i] = (x[i] - mean) * factor * w[i] + bias[i];
}

SIMD_INLINE vec silu_times(vec gate, vec up)
{
    vec sigmoid = vec_div(vec_set(1), vec_add(vec_set(1), vec_exp(vec_sub(vec_zero(), gate))));
    return vec_mul(vec_mul(gate, sigmoid), up);
}

SIMD_TARGET void ISA(agon_swiglu)(float *out, size_t ld_out, const float *x, size_t ld_x,
                                  int n_rows, int n)
{
    for (int r = 0; r < n_rows; r++, out += ld_out, x += ld_x) {
        int i = 0;
        for (; i + LANES <= n; i += LANES)
            vec_store(out + i, silu_times(vec_load(x + i), vec_load(x + n + i)));
        float gate[LANES] = {0}, up[LANES] = {0};
        for (int j = i; j < n; j++) {
            gate[j - i] = x[j];
            up[j - i] = x[n + j];
        }
        vec_store(gate, silu_times(vec_load(gate), vec_load(up)));
        for (int j = i; j < n; j++)
            out[j] = gate[j - i];
    }
}

/* ---- attention --------------------------------------------------------------------- */

/* The four sums of four vectors. */
SIMD_INLINE quad sum_of_each(vec a, vec b, vec c, vec d)
{
#if defined(AGON_SIMD_PORTABLE)
    return (quad){vec_sum(a), vec_sum(b), vec_sum(c), vec_sum(d)};
#else
#ifdef AGON_SIMD_AVX512
    vec ab = vec_add(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
    vec cd = vec_add(_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
    vec all = vec_add(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(all), _mm512_extractf32x8_ps(all, 1));
#else
    __m256 half = _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
#endif
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
#endif
}

enum { SCORE_ENTRIES = 4 };

/* scores[h][0..3] = scale q[h] . entry[0..3] */
SIMD_INLINE void score_tile(const int n_heads, float *scores, size_t ld_scores, const float *q,
                            const float *const *entry, int entry_dim, float scale)
{
    vec sum[MLA_SCORE_HEADS][SCORE_ENTRIES];
    SIMD_UNROLL
    for (int h = 0; h < n_heads; h++) {
        SIMD_UNROLL
        for (int s = 0; s < SCORE_ENTRIES; s++)
            sum[h][s] = vec_zero();
    }
    for (int d = 0; d < entry_dim; d += LANES) {
        vec e[SCORE_ENTRIES];
        SIMD_UNROLL
        for (int s = 0; s < SCORE_ENTRIES; s++)
            e[s] = vec_load(entry[s] + d);
        SIMD_UNROLL
        for (int h = 0; h < n_heads; h++) {
            vec a = vec_load(q + h * entry_dim + d);
            SIMD_UNROLL
            for (int s = 0; s < SCORE_ENTRIES; s++)
                sum[h][s] = vec_fma(a, e[s], sum[h][s]);
        }
    }
    SIMD_UNROLL
    for (int h = 0; h < n_heads; h++) {
        quad four = sum_of_each(sum[h][0], sum[h][1], sum[h][2], sum[h][3]);
        four *= (quad){scale, scale, scale, scale};
        memcpy(scores + ld_scores * (size_t)h, &four, sizeof(four));
    }
}

/* scores become weights that sum to one. scores has n rounded up to 16 places. */
SIMD_INLINE void softmax_row(float *scores, int n)
{
    int n_padded = (n + AGON_PANEL - 1) / AGON_PANEL * AGON_PANEL;
    for (int i = n; i < n_padded; i++)
        scores[i] = -INFINITY;
    vec largest = vec_set(-INFINITY), total = vec_zero();
    for (int i = 0; i < n_padded; i += LANES)
        largest = vec_max(largest, vec_load(scores + i));
    vec shift = vec_set(vec_max_of(largest));
    for (int i = 0; i < n_padded; i += LANES)
        vec_store(scores + i, vec_exp(vec_sub(vec_load(scores + i), shift)));
    for (int i = n; i < n_padded; i++)
        scores[i] = 0;
    for (int i = 0; i < n_padded; i += LANES)
        total = vec_add(total, vec_load(scores + i));
    vec factor = vec_set(1 / vec_sum(total));
    for (int i = 0; i < n_padded; i += LANES)
        vec_store(scores + i, vec_mul(vec_load(scores + i), factor));
}

enum { VALUE_VECS = 4 };

/* out[h][0 .. n_vecs * LANES) = sum_s weights[h][s] entries[s][offset ..] */
SIMD_INLINE void value_tile(const int n_heads, const int n_vecs, float *out, size_t ld_out,
                            const float *weights, size_t ld_weights, const float *const *entries,
                            int n, int offset)
{
    vec sum[MLA_VALUE_HEADS][VALUE_VECS];
    SIMD_UNROLL
    for (int h = 0; h < n_heads; h++) {
        SIMD_UNROLL
        for (int v = 0; v < n_vecs; v++)
            sum[h][v] = vec_zero();
    }
    for (int s = 0; s < n; s++) {
        vec e[VALUE_VECS];
        SIMD_UNROLL
        for (int v = 0; v < n_vecs; v++)
            e[v] = vec_load(entries[s] + offset + v * LANES);
        SIMD_UNROLL
        for (int h = 0; h < n_heads; h++) {
            vec a = vec_set(weights[ld_weights * (size_t)h + (size_t)s]);
            SIMD_UNROLL
            for (int v = 0; v < n_vecs; v++)
                sum[h][v] = vec_fma(a, e[v], sum[h][v]);
        }
    }
    SIMD_UNROLL
    for (int h = 0; h < n_heads; h++) {
        SIMD_UNROLL
        for (int v = 0; v < n_vecs; v++)
            vec_store(out + ld_out * (size_t)h + offset + v * LANES, sum[h][v]);
    }
}

/* The four entries from s on; past n the last one again. */
SIMD_INLINE void entries_from(const float **ret, const float *const *entries, int n, int s)
{
    for (int i = 0; i < SCORE_ENTRIES; i++)
        ret[i] = entries[s + i < n ? s + i : n - 1];
}

static SIMD_TARGET void mla_scores(float *scores, size_t ld_scores, const float *q,
                                   const float *const *entries, int n, int n_heads, int entry_dim,
                                   float scale)
{
    for (int s = 0; s < n; s += SCORE_ENTRIES) {
        const float *entry[SCORE_ENTRIES], *next[SCORE_ENTRIES];
        entries_from(entry, entries, n, s);
        entries_from(next, entries, n, s + SCORE_ENTRIES);
        /* Gathered entries lie anywhere: without this, two thirds of the time is waiting. */
        for (int i = 0; i < SCORE_ENTRIES; i++)
            for (int d = 0; d < entry_dim; d += 16)
                __builtin_prefetch(next[i] + d);
        int h = 0;
        for (; h + MLA_SCORE_HEADS <= n_heads; h += MLA_SCORE_HEADS)
            score_tile(MLA_SCORE_HEADS, scores + ld_scores * (size_t)h + s, ld_scores,
                       q + h * entry_dim, entry, entry_dim, scale);
        for (; h < n_heads; h++)
            score_tile(1, scores + ld_scores * (size_t)h + s, ld_scores, q + h * entry_dim, entry,
                       entry_dim, scale);
    }
}

static SIMD_TARGET void mla_values(float *out, const float *weights, size_t ld_weights,
                                   const float *const *entries, int n, int n_heads, int value_dim)
{
    size_t ld_out = (size_t)value_dim;
    int offset = 0;
    for (; offset + VALUE_VECS * LANES <= value_dim; offset += VALUE_VECS * LANES) {
        int h = 0;
        for (; h + MLA_VALUE_HEADS <= n_heads; h += MLA_VALUE_HEADS)
            value_tile(MLA_VALUE_HEADS, VALUE_VECS, out + ld_out * (size_t)h, ld_out,
                       weights + ld_weights * (size_t)h, ld_weights, entries, n, offset);
        for (; h < n_heads; h++)
            value_tile(1, VALUE_VECS, out + ld_out * (size_t)h, ld_out,
                       weights + ld_weights * (size_t)h, ld_weights, entries, n, offset);
    }
    for (; offset < value_dim; offset += LANES)
        for (int h = 0; h < n_heads; h++)
            value_tile(1, 1, out + ld_out * (size_t)h, ld_out, weights + ld_weights * (size_t)h,
                       ld_weights, entries, n, offset);
}

SIMD_TARGET void ISA(agon_mla)(float *out, const float *q, const float *const *entries, int n,
                               int n_heads, int entry_dim, int value_dim, float scale,
                               float *scores)
{
    size_t ld_scores = (size_t)(n + AGON_PANEL - 1) / AGON_PANEL * AGON_PANEL;
    mla_scores(scores, ld_scores, q, entries, n, n_heads, entry_dim, scale);
    for (int h = 0; h < n_heads; h++)
        softmax_row(scores + ld_scores * (size_t)h, n);
    mla_values(out, scores, ld_scores, entries, n, n_heads, value_dim);
}

/* ---- indexer ------------------------------------------------------------------------ */

enum { INDEXER_HEADS = 4, KEY_VECS = AGON_PANEL / LANES, INDEXER_VECS = INDEXER_BLOCKS * KEY_VECS };

/* Add n_heads heads to the scores of n_blocks blocks of keys. */
SIMD_INLINE void indexer_tile(const int n_heads, const int n_blocks, float *scores, const float *q,
                              const float *weights, const float *const *blocks, int dim, bool first)
{
    vec dot[INDEXER_HEADS][INDEXER_VECS];
    SIMD_UNROLL
    for (int h = 0; h < n_heads; h++) {
        SIMD_UNROLL
        for (int v = 0; v < n_blocks * KEY_VECS; v++)
            dot[h][v] = vec_zero();
    }
    for (int d = 0; d < dim; d++) {
        vec key[INDEXER_VECS];
        SIMD_UNROLL
        for (int v = 0; v < n_blocks * KEY_VECS; v++)
            key[v] = vec_load(blocks[v / KEY_VECS] + d * AGON_PANEL + v % KEY_VECS * LANES);
        SIMD_UNROLL
        for (int h = 0; h < n_heads; h++) {
            vec a = vec_set(q[h * dim + d]);
            SIMD_UNROLL
            for (int v = 0; v < n_blocks * KEY_VECS; v++)
                dot[h][v] = vec_fma(a, key[v], dot[h][v]);
        }
    }
    SIMD_UNROLL
    for (int v = 0; v < n_blocks * KEY_VECS; v++) {
        vec score = first ? vec_zero() : vec_load(scores + v * LANES);
        SIMD_UNROLL
        for (int h = 0; h < n_heads; h++)
            score = vec_fma(vec_set(weights[h]), vec_max(vec_zero(), dot[h][v]), score);
        vec_store(scores + v * LANES, score);
    }
}

SIMD_INLINE void indexer_blocks(const int n_blocks, float *scores, const float *q,
                                const float *weights, const float *const *blocks, int n_heads,
                                int dim)
{
    int h = 0;
    for (; h + INDEXER_HEADS <= n_heads; h += INDEXER_HEADS)
        indexer_tile(INDEXER_HEADS, n_blocks, scores, q + h * dim, weights + h, blocks, dim,
                     h == 0);
    for (; h < n_heads; h++)
        indexer_tile(1, n_blocks, scores, q + h * dim, weights + h, blocks, dim, h == 0);
}

SIMD_TARGET void ISA(agon_indexer)(float *scores, const float *q, const float *weights,
                                   const float *const *blocks, int n, int n_heads, int dim)
{
    int n_blocks = (n + AGON_PANEL - 1) / AGON_PANEL, b = 0;
    for (; b + INDEXER_BLOCKS <= n_blocks; b += INDEXER_BLOCKS)
        indexer_blocks(INDEXER_BLOCKS, scores + b * AGON_PANEL, q, weights, blocks + b, n_heads,
                       dim);
    for (; b < n_blocks; b++)
        indexer_blocks(1, scores + b * AGON_PANEL, q, weights, blocks + b, n_heads, dim);
}

SIMD_TARGET int ISA(agon_topk)(int *ret_selected, const float *scores, int n, int k,
                               uint32_t *scratch)
{
    return topk_body(ret_selected, scores, n, k, scratch);
}

/* ---- sampling ----------------------------------------------------------------------- */

SIMD_TARGET double ISA(agon_exp_sum)(float *out, const float *x, int n, float shift, float factor)
{
    double total = 0;
    for (int i = 0; i < n; i += LANES) {
        float lane[LANES];
        int n_lanes = n - i < LANES ? n - i : LANES;
        for (int j = 0; j < LANES; j++)
            lane[j] = j < n_lanes ? (x[i + j] - shift) * factor : 0;
        vec_store(lane, vec_exp(vec_load(lane)));
        for (int j = 0; j < n_lanes; j++) {
            /* vec_exp clamps; what lies below is no probability at all. */
            out[i + j] = (x[i + j] - shift) * factor < -87 ? 0 : lane[j];
            total += out[i + j];
        }
    }
    return total;
}

/* ---- measuring ---------------------------------------------------------------------- */

SIMD_TARGET double ISA(agon_fma_loop)(long n_rounds, float *sink)
{
    enum { CHAINS = 12 }; /* enough to hide the latency of both units */
    vec sum[CHAINS], a = vec_set(0.999F), b = vec_set(1e-3F);
    SIMD_UNROLL
    for (int i = 0; i < CHAINS; i++)
        sum[i] = vec_set((float)i);
    for (long round = 0; round < n_rounds; round++) {
        SIMD_UNROLL
        for (int i = 0; i < CHAINS; i++)
            sum[i] = vec_fma(sum[i], a, b);
    }
    SIMD_UNROLL
    for (int i = 0; i < CHAINS; i++)
        *sink += vec_sum(sum[i]);
    return 2.0 * CHAINS * LANES * (double)n_rounds;
}
