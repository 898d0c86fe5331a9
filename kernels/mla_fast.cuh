#pragma once
/* Shared by the parts of mla_fast.cu, whose head says how they work together. */
#include "kernels/mla.cuh"
#include "kernels/mla_wgmma.cuh"
#include "kernels/mma.cuh"
#include "kernels/number.cuh"

namespace
{
enum {
    HEADS = 64,
    ENTRIES = 64,
    VALUES = 512,
    CHUNKS = 9, /* 8 of c, one of k_pe */
    CHUNK = 64 * 128,
    MATRIX = CHUNKS * CHUNK,
    THREADS = 384,
};

/* Barriers among threads, by number; 0 is __syncthreads(). */
enum { BAR_EVEN = 1, BAR_ODD, BAR_QUERY, BAR_CONSUMER /* two */ };

struct __align__(1024) shared_state
{
    uint8_t query[MATRIX];
    uint8_t entries[2][MATRIX];
    float largest[2][HEADS]; /* the running maximum after the last block of each buffer */
    float total[2][HEADS];   /* at the end: each consumer's share of the sum of weights */
    uint32_t there[2][2];    /* bit e % 32 of word e / 32: entry e exists */
    uint64_t full[2], empty[2];
};
static_assert(sizeof(struct shared_state) <= 227 * 1024, "shared memory of a block");

struct fast_args {
    const uint8_t *latents;
    struct mla_list list;
    const void *q;
    void *out;
    enum agon_dtype q_dtype, out_dtype;
    int n_heads, n_tiles, split, n_splits;
    float scale;        /* with log2(e) */
    float *partial_out; /* [row][n_splits][n_heads][VALUES], where n_splits > 0 */
    float2 *partial;    /* [row][n_splits][n_heads]: largest score in log2, sum of weights */
};

/* The threads that arrive at a barrier of some, without waiting for the others. */
__device__ __forceinline__ void bar_arrive(int bar, int n_threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(bar), "r"(n_threads) : "memory");
}
/* Arrive once all copies that this thread has begun are done. */
__device__ __forceinline__ void mbar_arrive_copies(uint32_t barrier)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

__device__ __forceinline__ void store16(uint32_t address, uint4 x)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x.x), "r"(x.y),
                 "r"(x.z), "r"(x.w)
                 : "memory");
}
} // namespace
