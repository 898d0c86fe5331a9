/* Number formats of checkpoints and of the FP8 path: see kernels.h. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

size_t agon_dtype_size(enum agon_dtype dtype)
{
    switch (dtype) {
    case AGON_F32: return 4;
    case AGON_BF16:
    case AGON_F16: return 2;
    case AGON_E4M3: return 1;
    }
    return 0;
}

const char *agon_dtype_name(enum agon_dtype dtype)
{
    static const char *const names[] = {"F32", "BF16", "F16", "F8_E4M3"};
    return names[dtype];
}

static float float_of_bits(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof(x));
    return x;
}

static uint32_t bits_of_float(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof(bits));
    return bits;
}

float agon_e4m3_decode(uint8_t code)
{
    int exponent = code >> 3 & 15, mantissa = code & 7;
    float magnitude = exponent == 15 && mantissa == 7 ? NAN
                      : exponent == 0                 ? ldexpf((float)mantissa, -9)
                                      : ldexpf((float)(8 + mantissa), exponent - 10);
    return code & 0x80 ? -magnitude : magnitude;
}

uint8_t agon_e4m3_encode(float x)
{
    uint8_t sign = signbit(x) ? 0x80 : 0;
    float magnitude = fabsf(x);
    if (isnan(x))
        return sign | 0x7f;
    if (magnitude >= 448)
        return sign | 0x7e;
    int exponent;
    (void)frexpf(magnitude, &exponent); /* magnitude = m 2^exponent, m in [0.5, 1) */
    if (exponent < -5)
        exponent = -5; /* subnormals share the smallest exponent's step, 2^-9 */
    /* The step between neighbours is 2^(exponent - 4); rintf rounds to even. Rounding up to
     * 16 steps carries into the exponent by itself. */
    int steps = (int)rintf(ldexpf(magnitude, 4 - exponent));
    int code = steps < 8 ? steps : (exponent + 5) * 8 + steps;
    return sign | (uint8_t)(code > 0x7e ? 0x7e : code);
}

float agon_bf16_decode(uint16_t code)
{
    return float_of_bits((uint32_t)code << 16);
}

uint16_t agon_bf16_encode(float x)
{
    uint32_t bits = bits_of_float(x);
    if (isnan(x))
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

uint16_t agon_f16_encode(float x)
{
    uint32_t bits;
    float size = fabsf(x);
    memcpy(&bits, &size, sizeof(bits));
    uint16_t sign = signbit(x) ? 0x8000 : 0;
    if (isnan(x))
        return 0x7e00;
    if (size > 65504)
        return sign | 0x7bff;
    if (size < 0x1p-14F) /* subnormal */
        return (uint16_t)(sign | (uint16_t)lrintf(size * 0x1p24F));
    bits -= (127 - 15) << 23;
    return (uint16_t)(sign | (bits + 0xfff + (bits >> 13 & 1)) >> 13);
}

float agon_f16_decode(uint16_t code)
{
    int exponent = code >> 10 & 31, mantissa = code & 1023;
    float magnitude = exponent == 31  ? (mantissa ? NAN : INFINITY)
                      : exponent == 0 ? ldexpf((float)mantissa, -24)
                                      : ldexpf((float)(1024 + mantissa), exponent - 25);
    return code & 0x8000 ? -magnitude : magnitude;
}

float agon_ue8m0_round_up(float x)
{
    uint32_t bits = bits_of_float(x);
    uint32_t exponent = bits >> 23 & 255;
    return float_of_bits((exponent + ((bits & 0x7fffff) != 0)) << 23);
}

void agon_act_quant_ref(uint8_t *codes, float *ret_scale, const float *x, int n, bool ue8m0)
{
    float largest = 1e-4F;
    for (int i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    float scale = ue8m0 ? agon_ue8m0_round_up(largest / 448) : largest / 448;
    for (int i = 0; i < n; i++)
        codes[i] = agon_e4m3_encode(x[i] / scale);
    *ret_scale = scale;
}

void agon_hadamard_ref(float *y, const float *x, int n)
{
    memmove(y, x, (size_t)n * sizeof(*y));
    for (int half = 1; half < n; half *= 2)
        for (int i = 0; i < n; i++)
            if (!(i & half)) {
                float a = y[i], b = y[i + half];
                y[i] = a + b;
                y[i + half] = a - b;
            }
    for (int i = 0; i < n; i++)
        y[i] = (float)(y[i] / sqrt((double)n));
}
