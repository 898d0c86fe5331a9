#pragma once
/*
 * A page of latents and 16 query heads or more (stack_attend.cuh): scores, weights against the most
 * that was seen, output. A page lies as agon_stack_entry_at() says, and so do 64 query heads. Sums
 * lie in registers as mma.m16n8k16 and wgmma leave them, which is alike: a lane has rows lane / 4
 * and lane / 4 + 8, of every 8 columns lane % 4 * 2 and the next.
 *   scores  S[..][64] = Q[..][144] K^T     nine steps of k, first to last
 *   output  O[..][128] += P[..][64] V      four; V is the first 128 of the same entries
 * mma.sync and wgmma make the same sums of them to the bit, whichever side is the left (seen on an
 * H200: test_stack.c).
 */
#include "kernels/mla_wgmma.cuh"
#include "kernels/stack_select.cuh"

enum {
    KV = AGON_STACK_KV,
    ENTRY = AGON_STACK_ENTRY,
    HEADS = 8, /* of a row, with those that are none */
    QUERY_TILES = STACK_OWN_MAX * HEADS / 16,
    PAGE_BYTES = AGON_CUDA_PAGE * ENTRY * 2,
    CHUNK_BYTES = AGON_CUDA_PAGE * 128, /* 64 values of a page's entries */
    REST_AT = 2 * CHUNK_BYTES,
    REST_UNIT_BYTES = AGON_CUDA_PAGE * 16,
    QUERIES_BYTES = PAGE_BYTES,
};
static_assert((int)AGON_STACK_HEADS_MAX <= (int)HEADS &&
                  (int)(STACK_OWN_MAX * HEADS) == (int)AGON_CUDA_PAGE,
              "a block's queries lie as a page's entries");
#define MINUS_INFINITY __int_as_float(0xff800000)

/* What a warp keeps of its 16 heads, or of a part of their output. */
template <int PARTS> struct attend_state {
    float out[KV / 8 / PARTS][4], sum[2];
    float most[2];
};

/* What is not in `seen` (64 bits for each of the lane's rows) out of the way; the most of each
 * row's scores, of this part. */
template <int PARTS>
static __device__ __forceinline__ void see(float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                           float (&most)[2], const uint64_t (&seen)[2], int part)
{
#pragma unroll
    for (int half = 0; half < 2; half++) {
        uint64_t bits = seen[half] >> (2 * (stack_lane() % 4) + part * (AGON_CUDA_PAGE / PARTS));
        uint32_t low = (uint32_t)bits, high = (uint32_t)(bits >> 32);
        float found[2] = {MINUS_INFINITY, MINUS_INFINITY};
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++)
#pragma unroll
            for (int c = 0; c < 2; c++) {
                uint32_t bit = 1U << (8 * (n % 4) + c);
                float *x = &s[n][2 * half + c];
                *x = (n < 4 ? low : high) & bit ? *x : MINUS_INFINITY;
                found[c] = fmaxf(found[c], *x);
            }
        most[half] = fmaxf(found[0], found[1]);
        most[half] = fmaxf(most[half], __shfl_xor_sync(~0u, most[half], 1));
        most[half] = fmaxf(most[half], __shfl_xor_sync(~0u, most[half], 2));
    }
}

/* Scores, times `scale`, to weights, against the most that was ever seen; what was summed before
 * follows. */
template <int PARTS>
static __device__ __forceinline__ void weigh(struct attend_state<PARTS> &state,
                                             float (&s)[AGON_CUDA_PAGE / 8 / PARTS][4],
                                             const float (&most)[2], float scale)
{
    float factor[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float now = fmaxf(state.most[half], most[half] * scale);
        float base = now == MINUS_INFINITY ? 0 : -now;
        factor[half] = exp2_fast(state.most[half] + base); /* 0 before the first */
        state.most[half] = now;
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 8 / PARTS; n++)
#pragma unroll
            for (int c = 0; c < 2; c++)
                s[n][2 * half + c] = exp2_fast(fmaf(s[n][2 * half + c], scale, base));
    }
    if (!__any_sync(~0u, factor[0] != 1 || factor[1] != 1))
        return;
#pragma unroll
    for (int half = 0; half < 2; half++) {
#pragma unroll
        for (int n = 0; n < KV / 8 / PARTS; n++) {
            state.out[n][2 * half] *= factor[half];
            state.out[n][2 * half + 1] *= factor[half];
        }
        state.sum[half] *= factor[half];
    }
}

/* Weights as a product's left side: the lanes that made them have them. */
static __device__ __forceinline__ void weights_pack(uint32_t (&a)[AGON_CUDA_PAGE / 16][4],
                                                    const float (&s)[AGON_CUDA_PAGE / 8][4])
{
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            a[k][i] = bf16_pack(s[2 * k + i / 2][i % 2 * 2], s[2 * k + i / 2][i % 2 * 2 + 1]);
}

/* The weights' sums. a[k]: weights of 16 entries. */
template <int PARTS>
static __device__ __forceinline__ void sum_up(struct attend_state<PARTS> &state,
                                              const uint32_t (&a)[AGON_CUDA_PAGE / 16][4])
{
    enum { ONES = 0x3f803f80 };
    float sum[4] = {state.sum[0], 0, state.sum[1], 0}; /* columns; the first is wanted */
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++)
        mma(sum, a[k], ONES, ONES);
    state.sum[0] = sum[0];
    state.sum[1] = sum[2];
}
