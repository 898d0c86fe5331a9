#pragma once
/*
 * Hopper's warpgroup matrix instructions that only latent attention uses: m64 x n x k16, BF16 in,
 * float sums in registers (PTX ISA, "Asynchronous warpgroup-level matrix instructions").
 *
 * Matrices in shared memory are made of chunks of [rows][64] bf16, a row of 128 bytes, its 16-byte
 * units swizzled: unit u of row r lies at u ^ (r % 8) (the 128-byte mode; a chunk begins at a
 * multiple of 1,024 bytes). Sum fragment: thread t of the warpgroup holds, for row
 * 16 * (t / 32) + t % 32 / 4 (+ 8), columns 8 * j + t % 4 * 2 (+ 1) at d[4 * j + (0, 1)], and those
 * of the row 8 below at d[4 * j + (2, 3)].
 */
#include "kernels/wgmma.cuh"

/* A descriptor of a matrix whose k is the row (wgmma_descriptor(): whose k is contiguous): 64
 * columns of a chunk, the next 64 one chunk (chunk_bytes) further. */
static __device__ __forceinline__ uint64_t wgmma_columns(uint32_t address, uint32_t chunk_bytes)
{
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)(chunk_bytes >> 4) << 16 |
           (address & 0x3ffff) >> 4;
}

/* Operands of an asm statement: 128 sums. */
#define WGMMA_D128(d) WGMMA_D64(d, 0), WGMMA_D64(d, 64)

/* d += a b: a [64][k] with k contiguous, b [k][256]. */
static __device__ __forceinline__ void wgmma_256(float (&d)[128], uint64_t a, uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                 " %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                 " %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
                 " %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "
                 "%110, %111, "
                 " %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
                 "%125, %126, %127}, "
                 "%128, %129, 1, 1, 1, 0, 1;"
                 : WGMMA_D128(d)
                 : "l"(a), "l"(b));
}

/* The same with a in registers: of rows r and r + 8 (see above), k 2 * (t % 4) (+ 1), then k + 8.
 */
static __device__ __forceinline__ void wgmma_256(float (&d)[128], const uint32_t *a, uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
                 " %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
                 " %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
                 " %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, "
                 "%110, %111, "
                 " %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, "
                 "%125, %126, %127}, "
                 "{%128, %129, %130, %131}, %132, 1, 1, 1, 1;"
                 : WGMMA_D128(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

/* d += a b: a [64][16] in registers (see above), b [16][128] as wgmma_columns() describes it. */
static __device__ __forceinline__ void wgmma_128(float (&d)[64], const uint32_t (&a)[4], uint64_t b)
{
    asm volatile("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WGMMA_S64_0
                 "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
                 : WGMMA_D64(d, 0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
