#pragma once
/* Shared by the parts of mla_fast.cu, whose head says how they work together. */
#include "kernels/mla.cuh"
#include "kernels/mla_wgmma.cuh"
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

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* ---- barriers ----------------------------------------------------------------------- */

__device__ __forceinline__ void bar_sync(int bar, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(bar), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void bar_arrive(int bar, int n_threads)
{
    asm volatile("bar.arrive %0, %1;" ::"r"(bar), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void mbar_init(uint64_t *bar, int n)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(bar)), "r"(n)
                 : "memory");
}
__device__ __forceinline__ void mbar_arrive(uint64_t *bar)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(bar)) : "memory");
}
/* Arrive once all copies that this thread has begun are done. */
__device__ __forceinline__ void mbar_arrive_copies(uint64_t *bar)
{
    asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(shared_address(bar))
                 : "memory");
}
__device__ __forceinline__ void mbar_wait(uint64_t *bar, uint32_t parity)
{
    uint32_t done;
    do
        asm volatile("{\n.reg .pred p;\n"
                     "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                     "selp.u32 %0, 1, 0, p;\n}"
                     : "=r"(done)
                     : "r"(shared_address(bar)), "r"(parity)
                     : "memory");
    while (!done);
}
/* What this thread wrote to shared memory is seen by matrix instructions after a barrier. */
__device__ __forceinline__ void fence_matrix(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
template <int n> __device__ __forceinline__ void registers_fewer(void)
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n));
}
template <int n> __device__ __forceinline__ void registers_more(void)
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n));
}

__device__ __forceinline__ void store16(uint32_t address, uint4 x)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(x.x), "r"(x.y),
                 "r"(x.z), "r"(x.w)
                 : "memory");
}
/* 16 bytes from global to shared memory, or zeros. */
__device__ __forceinline__ void copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}

} // namespace
