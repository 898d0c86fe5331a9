#pragma once
/* What the samplers of sample.cu and sample_small.cu share: keys, cuts, slots. */
#include "kernels/cuda_sample.h"
#include "kernels/launch.cuh"
#include "kernels/number.cuh"
#include "kernels/uniform.h"

#include <climits>
#include <cmath>

typedef unsigned long long u64;

/* Up to so many ids a row is sampled by sample_small.cu. */
enum { SMALL_VOCABULARY = 4096 };

/* Larger logit, larger key; -0 as 0. As topk_key() in topk.h. None is INT_MIN. */
static __device__ __forceinline__ int key_of(float logit)
{
    int bits = __float_as_int(logit + 0.0F);
    return bits ^ (bits >> 31 & 0x7fffffff);
}

static __device__ __forceinline__ float logit_of(int key)
{
    return __int_as_float(key ^ (key >> 31 & 0x7fffffff));
}

/* What is kept: keys above `key`, and the first n_ties of those equal to it. */
struct cut {
    int key, n_ties, n_kept;
};

/* Probabilities of n ids are integers in units of 2^-shift: their sum stays below 2^62. */
static __device__ __forceinline__ double unit_of(int n)
{
    return (double)(1ULL << (62 - (32 - __clz(n))));
}

/* Over the warp, for values whose sum is below 2^62: in pieces of 21 bits. */
static __device__ __forceinline__ u64 warp_sum_62(u64 x)
{
    u64 low = __reduce_add_sync(~0u, (uint32_t)x & 0x1fffff);
    u64 middle = __reduce_add_sync(~0u, (uint32_t)(x >> 21) & 0x1fffff);
    u64 high = __reduce_add_sync(~0u, (uint32_t)(x >> 42));
    return low + (middle << 21) + (high << 42);
}

/* Of a mass that is `total`, what top_p asks for. */
static __device__ __forceinline__ u64 mass_wanted(double top_p, u64 total)
{
    u64 wanted = top_p > 0 ? __double2ull_ru(top_p * (double)total) : 1;
    return wanted < 1 ? 1 : wanted > total ? total : wanted;
}

/* One thread: room for n_kept ids of a draw, or why there is none (agon_cuda_drawn.kept_at). */
static __device__ __forceinline__ long long kept_take(const struct agon_cuda_sampler &s,
                                                      const struct agon_cuda_slot *slot, int n_kept,
                                                      int n)
{
    if (!slot->keep || !s.kept || n_kept >= n)
        return -1;
    long long at = (long long)atomicAdd(s.n_kept, (u64)n_kept);
    return at + n_kept > s.n_kept_max ? -2 : at;
}

/* One thread: what was drawn becomes the slot's, which was `was` (or is, still). */
static __device__ __forceinline__ void slot_advance(const struct agon_cuda_sampler &s, int i_slot,
                                                    const struct agon_cuda_slot *was,
                                                    struct agon_cuda_drawn drawn)
{
    struct agon_cuda_slot *slot = &s.slots[i_slot];
    int n_drawn = was->n_drawn + 1;
    int state = n_drawn >= was->n_drawn_max ? AGON_SLOT_LENGTH : AGON_SLOT_RUNNING;
#pragma unroll 1
    for (int i = 0; i < was->n_stop; i++)
        if (was->stop[i] == drawn.id)
            state = AGON_SLOT_STOPPED;
    s.drawn[(size_t)i_slot * s.ld_drawn + was->n_drawn % s.ld_drawn] = drawn;
    slot->id = drawn.id;
    slot->position = was->position + 1;
    slot->n_drawn = n_drawn;
    slot->state = state;
}

/* One thread: there was nothing to draw from. */
static __device__ __forceinline__ void slot_end(const struct agon_cuda_sampler &s, int i_slot)
{
    struct agon_cuda_slot *slot = &s.slots[i_slot];
    struct agon_cuda_drawn none = {-1, 0, 0, 0, -1};
    s.drawn[(size_t)i_slot * s.ld_drawn + slot->n_drawn % s.ld_drawn] = none;
    slot->state = AGON_SLOT_NAN;
}

/* The sampler for up to SMALL_VOCABULARY ids. */
int sample_small(const struct agon_cuda_sampler *sampler, void *stream, struct agon_err *err);
