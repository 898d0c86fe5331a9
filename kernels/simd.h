#pragma once
/*
 * What the vector kernels share. A file that includes this defines first
 *   AGON_SIMD_PORTABLE for 4 lanes of the compiler's own vectors, on any machine;
 *   AGON_SIMD_AVX512   for 16 lanes with AVX-512; else 8 lanes with AVX2, FMA, F16C.
 * Everything is static and carries the target attribute, so that the rest of the program
 * stays baseline x86-64 and the choice is made at run time (table.c).
 */
#include <stdint.h>
#include <string.h>

#ifdef AGON_SIMD_PORTABLE
#define SIMD_TARGET
enum { LANES = 4 };
typedef float vec __attribute__((vector_size(16)));
typedef int32_t vec_int __attribute__((vector_size(16)));
typedef vec quad;
#define vec_zero()        vec_set(0)
#define vec_set(x)        ((vec){(x), (x), (x), (x)})
#define vec_load(p)       portable_load(p)
#define vec_store(p, v)   portable_store(p, v)
#define vec_add(a, b)     ((a) + (b))
#define vec_sub(a, b)     ((a) - (b))
#define vec_mul(a, b)     ((a) * (b))
#define vec_div(a, b)     ((a) / (b))
#define vec_max(a, b)     portable_choose((a) > (b), a, b)
#define vec_min(a, b)     portable_choose((a) < (b), a, b)
#define vec_fma(a, b, c)  ((a) * (b) + (c))
#define vec_fnma(a, b, c) ((c) - (a) * (b))
/* 1.5 * 2^23 leaves no place for a fraction. */
#define vec_round(a)  (((a) + vec_set(12582912.0F)) - vec_set(12582912.0F))
#define vec_sum(a)    portable_sum(a)
#define vec_max_of(a) portable_max_of(a)
#define vec_exp2i(n)  ((vec)((__builtin_convertvector(n, vec_int) + 127) << 23))
#else
#include <immintrin.h>
typedef __m128 quad;
#endif

/* Loads and stores are unaligned throughout. */
#if defined(AGON_SIMD_AVX512)
#define SIMD_TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c")))
enum { LANES = 16 };
typedef __m512 vec;
#define vec_zero()        _mm512_setzero_ps()
#define vec_set(x)        _mm512_set1_ps(x)
#define vec_load(p)       _mm512_loadu_ps(p)
#define vec_store(p, v)   _mm512_storeu_ps(p, v)
#define vec_add(a, b)     _mm512_add_ps(a, b)
#define vec_sub(a, b)     _mm512_sub_ps(a, b)
#define vec_mul(a, b)     _mm512_mul_ps(a, b)
#define vec_div(a, b)     _mm512_div_ps(a, b)
#define vec_max(a, b)     _mm512_max_ps(a, b)
#define vec_min(a, b)     _mm512_min_ps(a, b)
#define vec_fma(a, b, c)  _mm512_fmadd_ps(a, b, c)
#define vec_fnma(a, b, c) _mm512_fnmadd_ps(a, b, c)
#define vec_round(a)      _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_sum(a)        _mm512_reduce_add_ps(a)
#define vec_max_of(a)     _mm512_reduce_max_ps(a)
/* 2^n for integral n in [-126, 127] */
#define vec_exp2i(n)     \
    _mm512_castsi512_ps( \
        _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23))
#elif !defined(AGON_SIMD_PORTABLE)
#define SIMD_TARGET       __attribute__((target("avx2,fma,f16c")))
enum { LANES = 8 };
typedef __m256 vec;
#define vec_zero()        _mm256_setzero_ps()
#define vec_set(x)        _mm256_set1_ps(x)
#define vec_load(p)       _mm256_loadu_ps(p)
#define vec_store(p, v)   _mm256_storeu_ps(p, v)
#define vec_add(a, b)     _mm256_add_ps(a, b)
#define vec_sub(a, b)     _mm256_sub_ps(a, b)
#define vec_mul(a, b)     _mm256_mul_ps(a, b)
#define vec_div(a, b)     _mm256_div_ps(a, b)
#define vec_max(a, b)     _mm256_max_ps(a, b)
#define vec_min(a, b)     _mm256_min_ps(a, b)
#define vec_fma(a, b, c)  _mm256_fmadd_ps(a, b, c)
#define vec_fnma(a, b, c) _mm256_fnmadd_ps(a, b, c)
#define vec_round(a)      _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vec_sum(a)        avx2_sum(a)
#define vec_max_of(a)     avx2_max(a)
#define vec_exp2i(n)     \
    _mm256_castsi256_ps( \
        _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23))
#endif

#define SIMD_INLINE static inline __attribute__((always_inline)) SIMD_TARGET
#ifdef __clang__
#define SIMD_UNROLL _Pragma("clang loop unroll(full)")
#else
#define SIMD_UNROLL _Pragma("GCC unroll 32")
#endif

#ifdef AGON_SIMD_PORTABLE
SIMD_INLINE vec portable_load(const float *from)
{
    vec v;
    memcpy(&v, from, sizeof(v));
    return v;
}

SIMD_INLINE void portable_store(float *to, vec v)
{
    memcpy(to, &v, sizeof(v));
}

/* a where the mask holds, b elsewhere: as x86 does, the second where one is NaN. */
SIMD_INLINE vec portable_choose(vec_int mask, vec a, vec b)
{
    return (vec)(((vec_int)a & mask) | ((vec_int)b & ~mask));
}

SIMD_INLINE float portable_sum(vec a)
{
    return (a[0] + a[2]) + (a[1] + a[3]);
}

SIMD_INLINE float portable_max_of(vec a)
{
    float low = a[0] > a[1] ? a[0] : a[1], high = a[2] > a[3] ? a[2] : a[3];
    return low > high ? low : high;
}
#elif !defined(AGON_SIMD_AVX512)
SIMD_INLINE float avx2_sum(__m256 a)
{
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)));
}

SIMD_INLINE float avx2_max(__m256 a)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)));
}
#endif

/* e^x within 2 units in the last place for x in [-87, 88], clamped outside (so never 0 or
 * infinite): 2^n e^r with |r| <= ln 2 / 2 and Cephes' polynomial. */
SIMD_INLINE vec vec_exp(vec x)
{
    x = vec_min(vec_set(88.0F), vec_max(vec_set(-87.0F), x)); /* in this order NaN stays NaN */
    vec n = vec_round(vec_mul(x, vec_set(1.44269504088896341F)));
    vec r = vec_fnma(n, vec_set(0.693359375F), x);
    r = vec_fnma(n, vec_set(-2.12194440e-4F), r);
    vec p = vec_set(1.9875691500e-4F);
    p = vec_fma(p, r, vec_set(1.3981999507e-3F));
    p = vec_fma(p, r, vec_set(8.3334519073e-3F));
    p = vec_fma(p, r, vec_set(4.1665795894e-2F));
    p = vec_fma(p, r, vec_set(1.6666665459e-1F));
    p = vec_fma(p, r, vec_set(5.0000001201e-1F));
    p = vec_fma(p, vec_mul(r, r), vec_add(r, vec_set(1)));
    return vec_mul(p, vec_exp2i(n));
}
