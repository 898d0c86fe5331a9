#pragma once
/*
 * A warp's matrix instructions, m16n8k16 with BF16 in and float sums, and the copies that feed them
 * (PTX ISA, "Warp-level matrix instructions", cp.async). Lane l holds rows l / 4 and l / 4 + 8; of
 * every 8 columns, l % 4 * 2 and the next.
 */
#include <stdint.h>

static __device__ __forceinline__ uint32_t mma_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}
/* Weights, which nothing writes: read past L1. */
static __device__ __forceinline__ uint4 weights_load(const uint4 *from)
{
    uint4 x;
    asm("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
        : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
        : "l"(from));
    return x;
}
/* Waits for n_threads of the block, whole warps; number: 1 .. 15. */
static __device__ __forceinline__ void barrier_some(int number, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(n_threads) : "memory");
}
/* 16 bytes from global to shared memory, or zeros. */
static __device__ __forceinline__ void mma_copy16(uint32_t to, const void *from, bool there)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(there ? 16 : 0)
                 : "memory");
}
static __device__ __forceinline__ void mma_copies_end(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Wait until at most `pending` groups of this thread's copies are under way. */
template <int pending> static __device__ __forceinline__ void mma_copies_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}
static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* The same with F16 in. */
static __device__ __forceinline__ void mma_half(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                                uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
        "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* Four 8 x 8 matrices of 16-bit values: lane l gives the address of row l % 8 of matrix l / 8. */
static __device__ __forceinline__ void mma_load(uint32_t (&x)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}
static __device__ __forceinline__ void mma_load_transposed(uint32_t (&x)[4], uint32_t address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                 : "r"(address)
                 : "memory");
}
/* An 8 x 8 matrix of 16-bit values transposed: lane l holds two of row l / 4. */
static __device__ __forceinline__ uint32_t mma_transpose(uint32_t x)
{
    uint32_t y;
    asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
    return y;
}
