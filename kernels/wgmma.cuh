#pragma once
/*
 * Hopper's warpgroup products, wgmma m64nNk(32 bytes), and what feeds them: asynchronous copies
 * into tiles of shared memory. PTX ISA 8.0 and later, sections 9.7.15 (wgmma) and 9.7.9.25
 * (cp.async).
 *
 * A tile is rows of 128 bytes (one step of k: 64 bf16 or 128 e4m3), each row's sixteen-byte pieces
 * permuted by the row: piece c of row r lies at r * 128 + ((c ^ r % 8) * 16), which is the layout
 * that the matrix descriptors call a 128-byte swizzle. A tile begins on a boundary of 1024 bytes.
 */
#include <cstdint>

enum { TILE_BYTES_K = 128, SWIZZLE_ALIGN = 1024 };

static __device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Where piece `piece` of row `row` lies in its tile. */
static __device__ __forceinline__ uint32_t tile_offset(int row, int piece)
{
    return (uint32_t)(row * TILE_BYTES_K + ((piece ^ (row & 7)) << 4));
}

/* Sixteen bytes to shared memory, of which the first n_bytes are copied and the rest are 0. */
static __device__ __forceinline__ void copy_16(uint32_t to, const void *from, int n_bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(n_bytes)
                 : "memory");
}

static __device__ __forceinline__ void copy_4(uint32_t to, const void *from, int n_bytes)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(to), "l"(from), "r"(n_bytes)
                 : "memory");
}

static __device__ __forceinline__ void copies_commit(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int n> static __device__ __forceinline__ void copies_wait(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

/* What this thread wrote to shared memory may now be read by wgmma (after a barrier). */
static __device__ __forceinline__ void fence_for_wgmma(void)
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int n> static __device__ __forceinline__ void wgmma_wait(void)
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
}

/* The descriptor of a tile in the layout above: address / 16, eight rows every 1024 bytes, 128-byte
 * swizzle. A step of 32 bytes along k adds 2. */
static __device__ __forceinline__ uint64_t tile_descriptor(uint32_t address)
{
    return (uint64_t)((address & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)(1024 >> 4) << 32 |
           (uint64_t)1 << 62;
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
#define WGMMA_D64(d, i) WGMMA_D32(d, i), WGMMA_D32(d, i + 32)

#define WGMMA_S4_0  "%0,%1,%2,%3"
#define WGMMA_S8_0  WGMMA_S4_0 ",%4,%5,%6,%7"
#define WGMMA_S16_0 WGMMA_S8_0 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define WGMMA_S32_0 WGMMA_S16_0 ",%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
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
WGMMA_SHAPE(128, 64, WGMMA_S64_0, WGMMA_D64, "%64", "%65", "%66");
