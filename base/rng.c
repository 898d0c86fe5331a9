/* Random numbers: see rng.h. The increment names the stream, so that a split
 * depends on the names that led to it and not on how much was drawn before. */
#include "base/rng.h"

#include <xxhash.h>

/* Told apart from names of eight bytes by the hash's seed. */
#define RNG_SEED_INT UINT64_C(0x9E3779B97F4A7C15)

static struct agon_rng rng_from(XXH128_hash_t hash)
{
    struct agon_rng r = {.state = hash.low64, .inc = hash.high64 | 1};
    (void)agon_rng_u32(&r); /* the first output would show the state's top bits as they are */
    return r;
}

/* Bytes written out, so that a seed means the same on any byte order. */
static XXH128_hash_t rng_hash_int(uint64_t value, uint64_t seed)
{
    unsigned char bytes[8];
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)(value >> (8 * i));
    return XXH3_128bits_withSeed(bytes, sizeof(bytes), seed);
}

void agon_rng_init(struct agon_rng *r, uint64_t seed)
{
    *r = rng_from(rng_hash_int(seed, 0));
}

struct agon_rng agon_rng_split(const struct agon_rng *r, struct agon_str name)
{
    return rng_from(XXH3_128bits_withSeed(name.data, name.size, r->inc));
}

struct agon_rng agon_rng_split_int(const struct agon_rng *r, uint64_t name)
{
    return rng_from(rng_hash_int(name, r->inc ^ RNG_SEED_INT));
}

uint32_t agon_rng_u32(struct agon_rng *r)
{
    uint64_t old = r->state;
    r->state = old * UINT64_C(6364136223846793005) + r->inc;
    uint32_t x = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rot = (uint32_t)(old >> 59);
    return x >> rot | x << (-rot & 31);
}

uint64_t agon_rng_u64(struct agon_rng *r)
{
    uint64_t high = agon_rng_u32(r);
    return high << 32 | agon_rng_u32(r);
}

uint32_t agon_rng_below(struct agon_rng *r, uint32_t n)
{
    uint32_t reject = -n % n; /* 2^32 mod n: the draws that would make small values likelier */
    for (;;) {
        uint32_t x = agon_rng_u32(r);
        if (x >= reject)
            return x % n;
    }
}

double agon_rng_real(struct agon_rng *r)
{
    return (double)(agon_rng_u64(r) >> 11) * 0x1p-53;
}
