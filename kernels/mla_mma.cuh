#pragma once
/*
 * Pieces of attention with mma.sync m16n8k16 (BF16 in, float sums), a warp for 16 rows of queries
 * (PTX ISA, "Warp-level matrix instructions"). Lane l holds rows l / 4 and l / 4 + 8 of queries and
 * sums; of every 8 columns, l % 4 * 2 and the next.
 */
#include "kernels/mla.cuh"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

/* 16 rows of 16 * STEPS queries, from element `begin` on; rows from n_rows on are zeros. */
template <int STEPS>
static __device__ __forceinline__ void mma_query(uint32_t (&q)[STEPS][4], const void *from,
                                                 enum agon_dtype dtype, size_t begin, int n_rows)
{
    int lane = threadIdx.x % 32;
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int row = lane / 4 + i % 2 * 8;
            size_t at = begin + (size_t)row * (STEPS * 16) + k * 16 + i / 2 * 8 + lane % 4 * 2;
            if (row >= n_rows)
                q[k][i] = 0;
            else if (dtype == AGON_BF16)
                q[k][i] = *(const uint32_t *)((const uint16_t *)from + at);
            else
                q[k][i] = bf16_pack(((const float *)from)[at], ((const float *)from)[at + 1]);
        }
}

/* scores = queries x entries; entries: 8 * TILES rows of STRIDE bytes in shared memory. */
template <int STEPS, int TILES, int STRIDE>
static __device__ __forceinline__ void mma_scores(float (&scores)[TILES][4],
                                                  const uint32_t (&q)[STEPS][4], uint32_t entries)
{
    int lane = threadIdx.x % 32;
    uint32_t from = entries + (lane / 16 * 8 + lane % 8) * STRIDE + lane / 8 % 2 * 16;
#pragma unroll
    for (int j = 0; j < TILES; j++)
#pragma unroll
        for (int i = 0; i < 4; i++)
            scores[j][i] = 0;
#pragma unroll
    for (int k = 0; k < STEPS; k++)
#pragma unroll
        for (int j = 0; j < TILES; j += 2) {
            uint32_t b[4];
            mma_load(b, from + j * 8 * STRIDE + k * 32);
            mma(scores[j], q[k], b[0], b[1]);
            mma(scores[j + 1], q[k], b[2], b[3]);
        }
}

/*
 * Scores become weights against the running maximum (in log2), sums and totals shrink to it; total
 * is of the lane's own columns. Bit c of there_low and there_high: column c of the lane's first and
 * second row counts.
 */
template <int TILES, int VALUE_TILES, typename BITS>
static __device__ __forceinline__ void mma_softmax(float (&scores)[TILES][4],
                                                   float (&sums)[VALUE_TILES][4],
                                                   float (&largest)[2], float (&total)[2],
                                                   BITS there_low, BITS there_high, float scale)
{
    int column = threadIdx.x % 4 * 2;
    float by[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
        BITS there = r ? there_high : there_low;
        float most = -INFINITY;
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float *score = &scores[j][2 * r + i];
                *score = there >> (j * 8 + column + i) & 1 ? *score * scale : -INFINITY;
                most = fmaxf(most, *score);
            }
        most = fmaxf(most, __shfl_xor_sync(~0U, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0U, most, 2));
        most = fmaxf(most, largest[r]);
        float base = most == -INFINITY ? 0 : most;
        by[r] = exp2_fast(largest[r] - base);
        largest[r] = most;
        float added = 0;
#pragma unroll
        for (int j = 0; j < TILES; j++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                scores[j][2 * r + i] = exp2_fast(scores[j][2 * r + i] - base);
                added += scores[j][2 * r + i];
            }
        total[r] = fmaf(total[r], by[r], added);
    }
    if (__any_sync(~0U, by[0] != 1 || by[1] != 1))
#pragma unroll
        for (int j = 0; j < VALUE_TILES; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                sums[j][i] *= by[i / 2];
}

/* sums += weights x the first 8 * TILES values of the 8 * ENTRY_TILES entries. */
template <int TILES, int ENTRY_TILES, int STRIDE>
static __device__ __forceinline__ void mma_add(float (&sums)[TILES][4],
                                               const float (&weights)[ENTRY_TILES][4],
                                               uint32_t entries)
{
    int lane = threadIdx.x % 32;
    uint32_t from = entries + (lane / 8 % 2 * 8 + lane % 8) * STRIDE + lane / 16 * 16;
#pragma unroll
    for (int k = 0; k < ENTRY_TILES / 2; k++) {
        uint32_t a[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *w = &weights[2 * k + i / 2][i % 2 * 2];
            a[i] = bf16_pack(w[0], w[1]);
        }
#pragma unroll
        for (int j = 0; j < TILES; j += 2) {
            uint32_t b[4];
            mma_load_transposed(b, from + k * 16 * STRIDE + j * 16);
            mma(sums[j], a, b[0], b[1]);
            mma(sums[j + 1], a, b[2], b[3]);
        }
    }
}

/* Totals over all columns, in every lane. */
static __device__ __forceinline__ void mma_totals(float (&total)[2])
{
#pragma unroll
    for (int r = 0; r < 2; r++) {
        total[r] += __shfl_xor_sync(~0U, total[r], 1);
        total[r] += __shfl_xor_sync(~0U, total[r], 2);
    }
}
