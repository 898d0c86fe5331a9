#pragma once
/* The producers of mla_fast.cu: entries from the cache into swizzled chunks of shared memory. */
#include "kernels/mla_fast.cuh"

namespace
{
/* The slot of entry i of this row; -1 from end on. */
__device__ __forceinline__ int slot_of(const struct fast_args *args, int row, int i, int end)
{
    return i < end ? args->list.slot(row, i) : -1;
}

/*
 * BF16: every warp fills 16 entries of each block; 8 lanes copy 16 bytes each of a row of a chunk,
 * 4 entries at a time. No warp waits for its copies: they arrive at the barrier by themselves, so
 * the other buffer's may begin.
 */
__device__ __forceinline__ void produce_bf16(struct shared_state *s, const struct fast_args *args,
                                             int row, int begin, int end, int n_pairs)
{
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, first = warp * 16;
    int at = begin + first + lane % 16;
    int next = slot_of(args, row, at, end);
    for (int n = 0; n < 2 * n_pairs; n++) {
        int buffer = n % 2, slot = next;
        uint32_t to = shared_address(s->entries[buffer]);
        uint32_t there = __ballot_sync(~0U, slot >= 0);
        next = slot_of(args, row, at + (n + 1) * ENTRIES, end);
        barrier_wait(shared_address(&s->empty[buffer]), n / 2 % 2 ^ 1);
#pragma unroll
        for (int group = 0; group < 4; group++) {
            int i = group * 4 + lane / 8, r = first + i, unit = lane % 8;
            int from_slot = __shfl_sync(~0U, slot, i);
            const uint8_t *from = args->latents + (size_t)max(from_slot, 0) * (2 * 576) + unit * 16;
            uint32_t place = to + r * 128 + (unit ^ (r % 8)) * 16;
#pragma unroll
            for (int chunk = 0; chunk < CHUNKS; chunk++)
                mma_copy16(place + chunk * CHUNK, from + chunk * 128, from_slot >= 0);
        }
        mbar_arrive_copies(shared_address(&s->full[buffer]));
        if (lane == 0) {
            ((uint16_t *)s->there[buffer])[warp] = (uint16_t)there;
            barrier_arrive(shared_address(&s->full[buffer]));
        }
    }
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/*
 * Four e4m3 codes as bf16, times scale_up: the code's bits, shifted to where bf16 has its own, mean
 * the value times 2^-120 (bias 127 against 7; subnormals too), so scale_up is the scale times
 * 2^120, twice in a word. Exact: a power of two times 4 bits.
 */
__device__ __forceinline__ void widen4(uint32_t *to, uint32_t codes, uint32_t scale_up)
{
    __nv_bfloat162 scale = *(__nv_bfloat162 *)&scale_up;
#pragma unroll
    for (int i = 0; i < 2; i++) {
        uint32_t x; /* bytes: a code, its sign eight times, the next code, its sign */
        asm("prmt.b32 %0, %1, 0, %2;" : "=r"(x) : "r"(codes), "r"(i ? 0xb3a2 : 0x9180));
        x = x << 4 & 0x87f087f0;
        __nv_bfloat162 y = __hmul2(*(__nv_bfloat162 *)&x, scale);
        to[i] = *(uint32_t *)&y;
    }
}

/*
 * FP8: every warp fills 16 entries of each block. A lane has 16 codes of each (a warp reads an
 * entry's 512 at once), all in registers one block ahead, so that a buffer that comes free is
 * filled without waiting for memory. They are asked for after the fence, which would wait for them.
 * k_pe is copied as it is, 8 lanes an entry.
 */
enum { FP8_ENTRY = 656 };

/* Where in the entry of slot 0 a lane reads; kept as one sum, so that a slot costs a product. */
__device__ __forceinline__ const uint8_t *fp8_from(const uint8_t *latents, int at)
{
    latents += at;
    asm("" : "+l"(latents));
    return latents;
}
/* The same in the entry in a slot, from 0 on. */
__device__ __forceinline__ const uint8_t *fp8_at(const uint8_t *from, int slot)
{
    return from + (size_t)(uint32_t)slot * FP8_ENTRY;
}

__device__ __forceinline__ uint4 fp8_codes(const uint8_t *from)
{
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(from));
    return x;
}
/* What widen4() wants of a scale: times 2^120 as bf16, twice; a NaN stays one. */
__device__ __forceinline__ uint32_t fp8_scale_up(float scale)
{
    asm volatile("" : "+f"(scale)); /* not before what comes before: it would wait for memory */
    uint32_t up = scale == scale ? __float_as_uint(scale) + (120 << 23) : 0x7fc00000;
    return __byte_perm(up, 0, 0x3232); /* its upper half twice */
}

/* Widen a lane's 16 codes into row r of a buffer's chunks. A missing entry's codes are those of
 * another one: finite as bf16, and their weight is 0. */
__device__ __forceinline__ void fp8_widen(uint32_t buffer, int r, uint4 codes, uint32_t scale_up)
{
    int lane = threadIdx.x % 32, chunk = lane / 4, odd = chunk % 2, unit = lane % 4 * 2;
    uint32_t x[8];
    /* The lanes of odd chunks store their second half first: no two of 8 lanes then meet in a
     * bank. Exclusive-or on the address, whose low bits are the unit's alone, swizzles. */
    widen4(x, odd ? codes.z : codes.x, scale_up);
    widen4(x + 2, odd ? codes.w : codes.y, scale_up);
    widen4(x + 4, odd ? codes.x : codes.z, scale_up);
    widen4(x + 6, odd ? codes.y : codes.w, scale_up);
    uint32_t place = buffer + chunk * CHUNK + (unit + odd) * 16;
    store16((place ^ r % 8 * 16) + r * 128, {x[0], x[1], x[2], x[3]});
    store16((place ^ 16 ^ r % 8 * 16) + r * 128, {x[4], x[5], x[6], x[7]});
}

__device__ __forceinline__ void produce_fp8(struct shared_state *s, const struct fast_args *args,
                                            int row, int begin, int end, int n_pairs)
{
    int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32, first = warp * 16;
    int at = begin + first + lane % 16;
    int next = slot_of(args, row, at, end);
    const uint8_t *codes_from = fp8_from(args->latents, lane * 16);
    const uint8_t *scale_from = fp8_from(args->latents, 512 + lane % 4 * 4);
    const uint8_t *k_pe_from = fp8_from(args->latents, 528 + lane % 8 * 16);
    uint4 codes[16];
    for (int n = 0; n < 2 * n_pairs; n++) {
        int buffer = n % 2, slot = next;
        uint32_t to = shared_address(s->entries[buffer]);
        int some_slot = max(slot, 0); /* what is missing is read from somewhere, and not used */
        uint32_t there = __ballot_sync(~0U, slot >= 0);
#pragma unroll
        for (int i = 0; i < 16; i++)
            codes[i] = fp8_codes(fp8_at(codes_from, __shfl_sync(~0U, some_slot, i)));
        float scale[2]; /* lane % 4 of entry 8 i + lane / 4 */
        for (int i = 0; i < 2; i++) {
            int of = __shfl_sync(~0U, slot, 8 * i + lane / 4);
            scale[i] = 0;
            if (of >= 0)
                scale[i] = __ldg((const float *)fp8_at(scale_from, of));
        }
        next = slot_of(args, row, at + (n + 1) * ENTRIES, end);

        barrier_wait(shared_address(&s->empty[buffer]), n / 2 % 2 ^ 1);
        if (lane == 0)
            ((uint16_t *)s->there[buffer])[warp] = (uint16_t)there;
#pragma unroll
        for (int group = 0; group < 4; group++) { /* k_pe */
            int i = group * 4 + lane / 8, r = first + i, unit = lane % 8;
            int of = __shfl_sync(~0U, slot, i);
            mma_copy16(to + 8 * CHUNK + r * 128 + (unit ^ (r % 8)) * 16,
                       fp8_at(k_pe_from, max(of, 0)), of >= 0);
        }
        uint32_t scales[2] = {fp8_scale_up(scale[0]), fp8_scale_up(scale[1])};
#pragma unroll
        for (int i = 0; i < 16; i++) {
            uint32_t scale_up = __shfl_sync(~0U, scales[i / 8], i % 8 * 4 + lane / 8);
            fp8_widen(to + first * 128, i, codes[i], scale_up);
        }
        asm volatile("cp.async.wait_all;" ::: "memory");
        shared_written();
        barrier_arrive(shared_address(&s->full[buffer]));
    }
}
} // namespace
