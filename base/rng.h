#pragma once
/*
 * Random numbers from one seed, split by names so that no draw depends on the
 * order of work: random = f(seed, category, stage, sample, position) (DESIGN.md).
 * Generator: PCG32 (O'Neill 2014); splitting hashes the name into a new state
 * with XXH3.
 */
#include "base/str.h"

#include <stdint.h>

struct agon_rng {
    uint64_t state, inc;
};

void agon_rng_init(struct agon_rng *r, uint64_t seed);
/* An independent stream, named; the parent is not advanced. */
struct agon_rng agon_rng_split(const struct agon_rng *r, struct agon_str name);
struct agon_rng agon_rng_split_int(const struct agon_rng *r, uint64_t name);
uint32_t agon_rng_u32(struct agon_rng *r);
uint64_t agon_rng_u64(struct agon_rng *r);
/* Uniform in [0, n), without bias; n > 0. */
uint32_t agon_rng_below(struct agon_rng *r, uint32_t n);
/* Uniform in [0, 1), 53 bits. */
double agon_rng_real(struct agon_rng *r);
