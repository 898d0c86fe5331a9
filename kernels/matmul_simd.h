/*
 * y = x W^T with W in panels; included by matmul_avx2.c and matmul_avx512.c, which define
 * TILE_PANELS and TILE_ROWS and the function's name.
 *
 * One tile is up to TILE_ROWS rows by TILE_PANELS panels of accumulators in registers. A block
 * of a panel (BLOCK_K inputs) is converted to float once, stays in L1, and serves all rows: the
 * weights are read once for the batch. Between blocks the accumulators rest in `out`, which
 * loses nothing, so each output is one chain of fused multiply-adds with k ascending however
 * many rows there are.
 */
#include "kernels/kernels.h"
#include "kernels/simd.h"

#include <string.h>

enum {
    PREFETCH_BYTES = 8192,
    BLOCK_K = 256,
    PANEL_VECS = AGON_PANEL / LANES,
    TILE_WIDTH = TILE_PANELS * AGON_PANEL
};

SIMD_INLINE void tile_run(const int n_rows, const int n_panels, float *const *out,
                          const float *const *x, const float *const *panel, int k, bool first)
{
    vec sum[TILE_ROWS][TILE_PANELS * PANEL_VECS];
    SIMD_UNROLL
    for (int r = 0; r < n_rows; r++) {
        SIMD_UNROLL
        for (int v = 0; v < n_panels * PANEL_VECS; v++)
            sum[r][v] = first ? vec_zero() : vec_load(out[r] + v * LANES);
    }
    for (int i = 0; i < k; i++) {
        vec w[TILE_PANELS * PANEL_VECS];
        SIMD_UNROLL
        for (int v = 0; v < n_panels * PANEL_VECS; v++)
            w[v] = vec_load(panel[v / PANEL_VECS] + i * AGON_PANEL + v % PANEL_VECS * LANES);
        const float *const *rows = x;
#if TILE_ROWS > 6
        /* Row pointers are read anew each time: gcc 12 would move those that it has no register
         * for through vector registers, which costs a third of the speed. */
        __asm__("" : "+r"(rows));
#endif
        SIMD_UNROLL
        for (int r = 0; r < n_rows; r++) {
            vec a = vec_set(rows[r][i]);
            SIMD_UNROLL
            for (int v = 0; v < n_panels * PANEL_VECS; v++)
                sum[r][v] = vec_fma(a, w[v], sum[r][v]);
        }
    }
    SIMD_UNROLL
    for (int r = 0; r < n_rows; r++) {
        SIMD_UNROLL
        for (int v = 0; v < n_panels * PANEL_VECS; v++)
            vec_store(out[r] + v * LANES, sum[r][v]);
    }
}

/* One function for each height, so that the accumulators have fixed registers. */
#define TILE_CASE(n)                                           \
    case n:                                                    \
        if (n_panels == 1)                                     \
            tile_run(n, 1, out, x, panel, k, first);           \
        else                                                   \
            tile_run(n, TILE_PANELS, out, x, panel, k, first); \
        break

static SIMD_TARGET void tile_dispatch(int n_rows, int n_panels, float *const *out,
                                      const float *const *x, const float *const *panel, int k,
                                      bool first)
{
    switch (n_rows) {
        TILE_CASE(1);
        TILE_CASE(2);
        TILE_CASE(3);
#if TILE_ROWS > 3
        TILE_CASE(4);
        TILE_CASE(5);
        TILE_CASE(6);
#endif
#if TILE_ROWS > 6
        TILE_CASE(7);
        TILE_CASE(8);
        TILE_CASE(9);
        TILE_CASE(10);
        TILE_CASE(11);
        TILE_CASE(12);
#endif
    default: __builtin_unreachable();
    }
}

#ifdef AGON_SIMD_PORTABLE
SIMD_INLINE float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

SIMD_INLINE void panel_bf16(float *to, const uint16_t *from, int k)
{
    for (int i = 0; i < k * AGON_PANEL; i++)
        to[i] = float_of_bits((uint32_t)from[i] << 16);
}

/* e4m3's bits in a float's fields are the value / 2^120, subnormals included. */
SIMD_INLINE void panel_e4m3_block(float *to, const uint8_t *from, int k, const float *scale)
{
    for (int i = 0; i < k; i++)
        for (int j = 0; j < AGON_PANEL; j++) {
            uint32_t code = from[i * AGON_PANEL + j];
            float x = float_of_bits((code & 0x7f) << 20 | (code & 0x80) << 24);
            to[i * AGON_PANEL + j] = x * 0x1p120F * scale[j];
        }
}
#else
#ifdef AGON_SIMD_AVX512
SIMD_INLINE void panel_bf16(float *to, const uint16_t *from, int k)
{
    for (int i = 0; i < k; i++) {
        __m256i code = _mm256_loadu_si256((const __m256i *)(const void *)(from + i * AGON_PANEL));
        __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(code), 16);
        vec_store(to + i * AGON_PANEL, _mm512_castsi512_ps(bits));
    }
}
#else
SIMD_INLINE void panel_bf16(float *to, const uint16_t *from, int k)
{
    for (int i = 0; i < 2 * k; i++) {
        __m128i code = _mm_loadu_si128((const __m128i *)(const void *)(from + i * LANES));
        __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(code), 16);
        vec_store(to + i * LANES, _mm256_castsi256_ps(bits));
    }
}
#endif

/* e4m3's bits, moved into a half's fields, are the value / 256: hardware widens the rest,
 * subnormals included, and the scale takes the factor back. */
SIMD_INLINE __m256i half_of_e4m3(const uint8_t *from)
{
    __builtin_prefetch(from + PREFETCH_BYTES);
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
    __m256i magnitude = _mm256_and_si256(_mm256_slli_epi16(code, 7), _mm256_set1_epi16(0x3f80));
    return _mm256_or_si256(sign, magnitude);
}

#ifdef AGON_SIMD_AVX512
SIMD_INLINE void panel_e4m3_block(float *to, const uint8_t *from, int k, const float *scale)
{
    vec factor = vec_mul(vec_load(scale), vec_set(256));
    for (int i = 0; i < k; i++) {
        vec value = _mm512_cvtph_ps(half_of_e4m3(from + i * AGON_PANEL));
        vec_store(to + i * AGON_PANEL, vec_mul(value, factor));
    }
}
#else
SIMD_INLINE void panel_e4m3_block(float *to, const uint8_t *from, int k, const float *scale)
{
    vec low_factor = vec_mul(vec_load(scale), vec_set(256));
    vec high_factor = vec_mul(vec_load(scale + LANES), vec_set(256));
    for (int i = 0; i < k; i++) {
        __m256i half = half_of_e4m3(from + i * AGON_PANEL);
        vec low = _mm256_cvtph_ps(_mm256_castsi256_si128(half));
        vec high = _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1));
        vec_store(to + i * AGON_PANEL, vec_mul(low, low_factor));
        vec_store(to + i * AGON_PANEL + LANES, vec_mul(high, high_factor));
    }
}
#endif
#endif

SIMD_INLINE void panel_e4m3(float *to, const uint8_t *from, int k, const float *scale)
{
    for (int i = 0; i < k; i += AGON_SCALE_BLOCK, scale += AGON_PANEL)
        panel_e4m3_block(to + i * AGON_PANEL, from + i * AGON_PANEL,
                         k - i < AGON_SCALE_BLOCK ? k - i : AGON_SCALE_BLOCK, scale);
}

/* Inputs [k_begin, k_begin + k) of a panel as floats: in place for F32, else in scratch. */
SIMD_INLINE const float *panel_floats(const struct agon_matrix *w, int panel, int k_begin, int k,
                                      float *scratch)
{
    size_t at = ((size_t)panel * (size_t)w->k + (size_t)k_begin) * AGON_PANEL;
    if (w->dtype == AGON_F32)
        return (const float *)w->data + at;
    if (w->dtype == AGON_BF16) {
        panel_bf16(scratch, (const uint16_t *)w->data + at, k);
        return scratch;
    }
    size_t n_blocks = (size_t)(w->k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
    size_t block = (size_t)panel * n_blocks + (size_t)k_begin / AGON_SCALE_BLOCK;
    panel_e4m3(scratch, (const uint8_t *)w->data + at, k, w->scale + block * AGON_PANEL);
    return scratch;
}

/* One block of one or two panels for all rows. Where the last panel has outputs past n, the
 * tile works on a copy, since out has no room for them. */
SIMD_INLINE void matmul_block(float *out, size_t ld_out, const float *x, size_t ld_x,
                              const int *rows, int n_rows, int width, int n_panels,
                              const float *const *panel, int k, bool first)
{
    bool partial = width < n_panels * AGON_PANEL;
    /* Tiles of equal height: 16 rows as 8 and 8, since a low tile waits for its own sums. */
    int n_tiles = (n_rows + TILE_ROWS - 1) / TILE_ROWS;
    int tile_rows = n_tiles ? (n_rows + n_tiles - 1) / n_tiles : 1;
    for (int begin = 0; begin < n_rows; begin += tile_rows) {
        int height = n_rows - begin < tile_rows ? n_rows - begin : tile_rows;
        float edge[TILE_ROWS][TILE_WIDTH];
        if (partial)
            memset(edge, 0, sizeof(edge));
        float *to[TILE_ROWS];
        const float *from[TILE_ROWS];
        for (int r = 0; r < height; r++) {
            from[r] = x + ld_x * (size_t)(rows ? rows[begin + r] : begin + r);
            to[r] = partial ? edge[r] : out + ld_out * (size_t)(begin + r);
            for (int i = 0; partial && !first && i < width; i++)
                edge[r][i] = out[ld_out * (size_t)(begin + r) + (size_t)i];
        }
        tile_dispatch(height, n_panels, to, from, panel, k, first);
        for (int r = 0; partial && r < height; r++)
            for (int i = 0; i < width; i++)
                out[ld_out * (size_t)(begin + r) + (size_t)i] = edge[r][i];
    }
}

SIMD_TARGET void MATMUL_NAME(float *out, size_t ld_out, const float *x, size_t ld_x,
                             const int *rows, int n_rows, const struct agon_matrix *w,
                             int panel_begin, int panel_end)
{
    float scratch[TILE_PANELS][BLOCK_K * AGON_PANEL] __attribute__((aligned(64)));
    int n_panels;
    for (int p = panel_begin; p < panel_end; p += n_panels) {
        n_panels = panel_end - p >= TILE_PANELS ? TILE_PANELS : 1;
        int width = w->n - p * AGON_PANEL;
        width = width < n_panels * AGON_PANEL ? width : n_panels * AGON_PANEL;
        for (int k = 0; k < w->k; k += BLOCK_K) {
            int block = w->k - k < BLOCK_K ? w->k - k : BLOCK_K;
            const float *panel[TILE_PANELS];
            for (int i = 0; i < n_panels; i++)
                panel[i] = panel_floats(w, p + i, k, block, scratch[i]);
            matmul_block(out + (size_t)p * AGON_PANEL, ld_out, x + k, ld_x, rows, n_rows, width,
                         n_panels, panel, block, k == 0);
        }
    }
}
