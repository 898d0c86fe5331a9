#pragma once
/*
 * A row's own page, by a warp (stack_attend_many.cuh). The row's heads are columns here, of scores
 * [64][8] = K Q^T and of output [128][8] += V^T P^T: as rows they would be half of a tile. A lane
 * has heads lane % 4 * 2 and the next, of entries and values lane / 4 and so on. What is added up
 * in which order is what stack_page.cuh adds up.
 */
#include "kernels/stack_page.cuh"

struct own_state {
    float out[KV / 16][4], sum[2], most[2];
};

/* An 8 x 8 tile of floats transposed. */
static __device__ __forceinline__ void turn_over(float &x, float &y)
{
    uint32_t a = __float_as_uint(x), b = __float_as_uint(y);
    uint32_t low = mma_transpose(__byte_perm(a, b, 0x5410));
    uint32_t high = mma_transpose(__byte_perm(a, b, 0x7632));
    x = __uint_as_float(__byte_perm(low, high, 0x5410));
    y = __uint_as_float(__byte_perm(low, high, 0x7632));
}

/* What a warp keeps of its tile's first row, turned over, and back. */
static __device__ __forceinline__ void own_take(struct own_state &to,
                                                const struct attend_state<1> &from)
{
#pragma unroll
    for (int n = 0; n < KV / 8; n++) {
        float x = from.out[n][0], y = from.out[n][1];
        turn_over(x, y);
        to.out[n / 2][n % 2 * 2] = x;
        to.out[n / 2][n % 2 * 2 + 1] = y;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        int lane = (stack_lane() % 4 * 2 + i) * 4;
        to.most[i] = __shfl_sync(~0u, from.most[0], lane);
        to.sum[i] = __shfl_sync(~0u, from.sum[0], lane);
    }
}
static __device__ __forceinline__ void own_give(struct attend_state<1> &to,
                                                const struct own_state &from)
{
#pragma unroll
    for (int n = 0; n < KV / 8; n++) {
        to.out[n][0] = from.out[n / 2][n % 2 * 2];
        to.out[n][1] = from.out[n / 2][n % 2 * 2 + 1];
        turn_over(to.out[n][0], to.out[n][1]);
    }
    int head = stack_lane() / 4;
    float most = __shfl_sync(~0u, from.most[0], head / 2);
    float other = __shfl_sync(~0u, from.most[1], head / 2);
    to.most[0] = head % 2 ? other : most;
    most = __shfl_sync(~0u, from.sum[0], head / 2);
    other = __shfl_sync(~0u, from.sum[1], head / 2);
    to.sum[0] = head % 2 ? other : most;
}

/* Scores of all entries; query: this lane's address of the row's heads. */
static __device__ __forceinline__ void own_score(float (&s)[AGON_CUDA_PAGE / 16][4],
                                                 uint32_t queries, int m0, uint32_t page)
{
    int lane = stack_lane(), matrix = lane / 8, m = m0 + lane % 8;
    int entry = (matrix & 1) * 8 + lane % 8;
    uint32_t at = page + entry * 128 + ((matrix >> 1) ^ lane % 8) * 16;
    uint32_t rest = page + REST_AT + (matrix >> 1) * REST_UNIT_BYTES + entry * 16;
    uint32_t q = queries + m * 128 + (matrix ^ lane % 8) * 16; /* of two steps */
    uint32_t q_rest = queries + REST_AT + (matrix & 1) * REST_UNIT_BYTES + m * 16;
#pragma unroll
    for (int n = 0; n < AGON_CUDA_PAGE / 16; n++)
#pragma unroll
        for (int c = 0; c < 4; c++)
            s[n][c] = 0;
    uint32_t b[4];
#pragma unroll
    for (int k = 0; k < ENTRY / 16; k++) {
        if (k % 2 == 0)
            mma_load(b, k < KV / 16 ? (q ^ k % 4 * 32) + k / 4 * CHUNK_BYTES : q_rest);
#pragma unroll
        for (int n = 0; n < AGON_CUDA_PAGE / 16; n++) {
            uint32_t a[4];
            mma_load(a, k < KV / 16 ? (at ^ k % 4 * 32) + k / 4 * CHUNK_BYTES + n * 16 * 128
                                    : rest + n * 16 * 16);
            mma(s[n], a, b[k % 2 * 2], b[k % 2 * 2 + 1]);
        }
    }
}

/* As see() and weigh() do it. p: weights as a product's right side. */
static __device__ __forceinline__ void own_weigh(struct own_state &state,
                                                 uint32_t (&p)[AGON_CUDA_PAGE / 16][2],
                                                 float (&s)[AGON_CUDA_PAGE / 16][4], uint64_t seen,
                                                 float scale)
{
    float factor[2];
    seen >>= stack_lane() / 4;
    uint32_t low = (uint32_t)seen, high = (uint32_t)(seen >> 32);
#pragma unroll
    for (int e = 0; e < 2; e++) {
        float most = MINUS_INFINITY;
#pragma unroll
        for (int i = 0; i < AGON_CUDA_PAGE / 8; i++) {
            float *x = &s[i / 2][i % 2 * 2 + e];
            *x = (i < 4 ? low : high) & (1U << (8 * (i % 4))) ? *x : MINUS_INFINITY;
            most = fmaxf(most, *x);
        }
#pragma unroll
        for (int apart = 4; apart < 32; apart *= 2)
            most = fmaxf(most, __shfl_xor_sync(~0u, most, apart));
        float now = fmaxf(state.most[e], most * scale);
        float base = now == MINUS_INFINITY ? 0 : -now;
        factor[e] = exp2_fast(state.most[e] + base);
        state.most[e] = now;
#pragma unroll
        for (int i = 0; i < AGON_CUDA_PAGE / 8; i++) {
            float *x = &s[i / 2][i % 2 * 2 + e];
            *x = exp2_fast(fmaf(*x, scale, base));
        }
    }
#pragma unroll
    for (int n = 0; n < AGON_CUDA_PAGE / 16; n++)
#pragma unroll
        for (int h = 0; h < 2; h++)
            p[n][h] = mma_transpose(bf16_pack(s[n][2 * h], s[n][2 * h + 1]));
    if (!__any_sync(~0u, factor[0] != 1 || factor[1] != 1))
        return;
#pragma unroll
    for (int e = 0; e < 2; e++) {
#pragma unroll
        for (int n = 0; n < KV / 16; n++) {
            state.out[n][e] *= factor[e];
            state.out[n][e + 2] *= factor[e];
        }
        state.sum[e] *= factor[e];
    }
}

/* The page of a row, whose first n entries are there. What else is scored is not seen. */
static __device__ __forceinline__ void own_page(struct own_state &state, uint32_t queries, int m0,
                                                uint64_t seen, uint32_t page, int n, float scale)
{
    const uint32_t ones[4] = {0x3f803f80, 0x3f803f80, 0x3f803f80, 0x3f803f80};
    float s[AGON_CUDA_PAGE / 16][4], sum[4] = {};
    uint32_t p[AGON_CUDA_PAGE / 16][2];
    int lane = stack_lane(), matrix = lane / 8;
    uint32_t at = page + ((matrix >> 1) * 8 + lane % 8) * 128 + ((matrix & 1) ^ lane % 8) * 16;
    own_score(s, queries, m0, page);
    own_weigh(state, p, s, seen, scale);
    sum[0] = state.sum[0];
    sum[1] = state.sum[1];
#pragma unroll
    for (int k = 0; k < AGON_CUDA_PAGE / 16; k++) {
        mma(sum, ones, p[k][0], p[k][1]);
        if (k * 16 >= n)
            continue;
#pragma unroll
        for (int i = 0; i < KV / 16; i++) {
            uint32_t a[4];
            mma_load_transposed(a, (at ^ i % 4 * 32) + i / 4 * CHUNK_BYTES + k * 16 * 128);
            mma(state.out[i], a, p[k][0], p[k][1]);
        }
    }
    state.sum[0] = sum[0];
    state.sum[1] = sum[1];
}
