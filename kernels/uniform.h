#pragma once
/*
 * The uniform number of a draw, for C and for device code alike: what base/rng.h makes of (seed,
 * position), written out, since kernels/ may not include base/rng.h. XXH3's 128-bit hash of eight
 * bytes (Collet, xxHash 0.8), then PCG32 (O'Neill 2014). tests/gpu/test_sample.c holds numbers that
 * it made.
 */
#include <stdint.h>

#ifdef __CUDACC__
#define UNIFORM_FN static __host__ __device__ inline
#else
#define UNIFORM_FN static inline
#endif

struct uniform_stream {
    uint64_t state, inc;
};

UNIFORM_FN uint32_t uniform_u32(struct uniform_stream *s)
{
    uint64_t old = s->state;
    s->state = old * UINT64_C(6364136223846793005) + s->inc;
    uint32_t x = (uint32_t)(((old >> 18) ^ old) >> 27), rot = (uint32_t)(old >> 59);
    return x >> rot | x << (-rot & 31);
}

UNIFORM_FN struct uniform_stream uniform_hash(uint64_t value, uint64_t seed)
{
    uint32_t low = (uint32_t)seed;
    low = low << 24 | (low & 0xff00) << 8 | (low >> 8 & 0xff00) | low >> 24;
    seed ^= (uint64_t)low << 32;
    /* Bytes 16 to 31 of the default secret, as two little-endian words. */
    uint64_t flip = (UINT64_C(0xdb979083e96dd4de) ^ UINT64_C(0x1f67b3b7a4a44072)) + seed;
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)(value ^ flip) * (UINT64_C(0x9E3779B185EBCA87) + (8 << 2));
    uint64_t l = (uint64_t)product, h = (uint64_t)(product >> 64);
    h += l << 1;
    l ^= h >> 3;
    l = (l ^ l >> 35) * UINT64_C(0x9FB21C651E98DF25);
    l ^= l >> 28;
    h = (h ^ h >> 37) * UINT64_C(0x165667919E3779F9);
    h ^= h >> 32;
    struct uniform_stream s = {l, h | 1};
    (void)uniform_u32(&s);
    return s;
}

UNIFORM_FN double uniform_draw(uint64_t seed, uint64_t position)
{
    struct uniform_stream root = uniform_hash(seed, 0);
    struct uniform_stream s = uniform_hash(position, root.inc ^ UINT64_C(0x9E3779B97F4A7C15));
    uint64_t high = uniform_u32(&s);
    uint64_t bits = high << 32 | uniform_u32(&s);
    return (double)(bits >> 11) * (1.0 / 9007199254740992.0); /* 2^-53 */
}
