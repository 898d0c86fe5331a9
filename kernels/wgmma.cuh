#pragma once
/*
 * Products of a warpgroup for any number of columns that gemm_wgmma.cu uses, and the layout of
 * their operands in shared memory. PTX ISA 8.0 and later, section 9.7.15.
 *
 * A tile is rows of 128 bytes (one step of k: 64 bf16 or 128 e4m3), each row's sixteen-byte pieces
 * permuted by the row: piece c of row r lies at r * 128 + ((c ^ r % 8) * 16), which is the layout
 * that tensor maps and matrix descriptors call a 128-byte swizzle. A tile begins on a boundary of
 * 1024 bytes.
 */
#include "kernels/hopper.cuh"

enum { TILE_BYTES_K = 128, SWIZZLE_ALIGN = 1024 };

/* Where piece `piece` of row `row` lies in its tile. */
static __device__ __forceinline__ uint32_t tile_offset(int row, int piece)
{
    return (uint32_t)(row * TILE_BYTES_K + ((piece ^ (row & 7)) << 4));
}

/* Keep the compiler from moving what reads or writes sums across this place. */
template <int n> static __device__ __forceinline__ void wgmma_pin(float (&d)[n])
{
#pragma unroll
    for (int i = 0; i < n; i++)
        asm volatile("" : "+f"(d[i])::"memory");
}

/*
 * d[N / 2] = a b^T + (accumulate ? d : 0): a is 64 rows, b is N rows, both K-major, 32 bytes deep.
 * Thread t of the warpgroup holds, for each j < N / 8, d[4j..] = (row, col), (row, col + 1),
 * (row + 8, col), (row + 8, col + 1) with row = t / 32 * 16 + t % 32 / 4, col = 8j + t % 4 * 2.
 */
template <int N> struct wgmma;

#define WGMMA_D4(d, i)  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define WGMMA_D8(d, i)  WGMMA_D4(d, i), WGMMA_D4(d, i + 4)
#define WGMMA_D16(d, i) WGMMA_D8(d, i), WGMMA_D8(d, i + 8)
#define WGMMA_D32(d, i) WGMMA_D16(d, i), WGMMA_D16(d, i + 16)
#define WGMMA_D48(d, i) WGMMA_D32(d, i), WGMMA_D16(d, i + 32)
#define WGMMA_D56(d, i) WGMMA_D32(d, i), WGMMA_D16(d, i + 32), WGMMA_D8(d, i + 48)
#define WGMMA_D64(d, i) WGMMA_D32(d, i), WGMMA_D32(d, i + 32)

#define WGMMA_S4_0  "%0,%1,%2,%3"
#define WGMMA_S8_0  WGMMA_S4_0 ",%4,%5,%6,%7"
#define WGMMA_S16_0 WGMMA_S8_0 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_S32_0 WGMMA_S16_0 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define WGMMA_S48_0                                                                             \
    WGMMA_S32_0 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define WGMMA_S56_0                                                                             \
    WGMMA_S32_0 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50," \
                "%51,%52,%53,%54,%55"
#define WGMMA_S64_0                                                                             \
    WGMMA_S32_0 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50," \
                "%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/* Operand numbers of the two descriptors and the flag follow those of d. */
#define WGMMA_SHAPE(N, D, SLOTS, OUTS, A, B, P)                                             \
    template <> struct wgmma<N> {                                                           \
        static __device__ __forceinline__ void e4m3(float (&d)[D], uint64_t a, uint64_t b,  \
                                                    int accumulate)                         \
        {                                                                                   \
            asm volatile("{.reg .pred p; setp.ne.b32 p, " P ", 0;"                          \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k32.f32.e4m3.e4m3 {" SLOTS \
                         "}, " A ", " B ", p, 1, 1;}"                                       \
                         : OUTS(d, 0)                                                       \
                         : "l"(a), "l"(b), "r"(accumulate));                                \
        }                                                                                   \
        static __device__ __forceinline__ void bf16(float (&d)[D], uint64_t a, uint64_t b,  \
                                                    int accumulate)                         \
        {                                                                                   \
            asm volatile("{.reg .pred p; setp.ne.b32 p, " P ", 0;"                          \
                         "wgmma.mma_async.sync.aligned.m64n" #N "k16.f32.bf16.bf16 {" SLOTS \
                         "}, " A ", " B ", p, 1, 1, 0, 0;}"                                 \
                         : OUTS(d, 0)                                                       \
                         : "l"(a), "l"(b), "r"(accumulate));                                \
        }                                                                                   \
    }
WGMMA_SHAPE(16, 8, WGMMA_S8_0, WGMMA_D8, "%8", "%9", "%10");
WGMMA_SHAPE(32, 16, WGMMA_S16_0, WGMMA_D16, "%16", "%17", "%18");
WGMMA_SHAPE(64, 32, WGMMA_S32_0, WGMMA_D32, "%32", "%33", "%34");
WGMMA_SHAPE(96, 48, WGMMA_S48_0, WGMMA_D48, "%48", "%49", "%50");
WGMMA_SHAPE(112, 56, WGMMA_S56_0, WGMMA_D56, "%56", "%57", "%58");
WGMMA_SHAPE(128, 64, WGMMA_S64_0, WGMMA_D64, "%64", "%65", "%66");
