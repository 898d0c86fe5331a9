#pragma once
/*
 * The instructions of Hopper that the fast kernels are made of, as PTX (ISA 8.x: mbarrier,
 * cp.async.bulk, what surrounds wgmma), and the driver's tensor maps. Shared memory is addressed by
 * 32-bit addresses. Products themselves: wgmma.cuh, mla_wgmma.cuh.
 */
#include "kernels/check.cuh"

#include <cuda.h>
#include <cudaTypedefs.h>
#include <stdint.h>

static __device__ inline uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ inline void barrier_init(uint32_t barrier, uint32_t n_arrivals)
{
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(n_arrivals));
}

/* The barriers that this thread has made may be told of copies. */
static __device__ inline void barriers_made(void)
{
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
/* What this thread did to shared memory comes before what copies write there, and may be read by
 * wgmma, behind a barrier from here. */
static __device__ inline void shared_written()
{
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

static __device__ inline void barrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/* Arrive, and let the phase end only when n_bytes more have been copied. */
static __device__ inline void barrier_expect(uint32_t barrier, uint32_t n_bytes)
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier),
                 "r"(n_bytes)
                 : "memory");
}

/* Wait for the end of the phase of this parity; a fresh barrier's parity-1 phase has ended. */
static __device__ inline void barrier_wait(uint32_t barrier, uint32_t parity)
{
    asm volatile("{\n\t"
                 ".reg .pred p;\n\t"
                 "again:\n\t"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n\t"
                 "@!p bra again;\n\t"
                 "}" ::"r"(barrier),
                 "r"(parity)
                 : "memory");
}

static __device__ inline void shared_store(uint32_t to, uint4 v)
{
    asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
}

static __device__ inline void shared_store_4(uint32_t to, uint32_t v)
{
    asm volatile("st.shared.b32 [%0], %1;" ::"r"(to), "r"(v) : "memory");
}

/* A box of a tensor map, n_bytes from global memory: both tell `barrier` of their bytes. */
static __device__ inline void copy_box_2d(uint32_t to, const CUtensorMap *map, int x, int y,
                                          uint32_t barrier)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(barrier)
                 : "memory");
}
static __device__ inline void copy_box_3d(uint32_t to, const CUtensorMap *map, int x, int y, int z,
                                          uint32_t barrier)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(to),
                 "l"(map), "r"(x), "r"(y), "r"(z), "r"(barrier)
                 : "memory");
}
static __device__ inline void copy_bytes(uint32_t to, const void *from, uint32_t n_bytes,
                                         uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "l"(from), "r"(n_bytes), "r"(barrier)
                 : "memory");
}

/* ---- clusters: blocks that see each other's shared memory ---- */

/* All threads of all blocks of the cluster meet; barriers_made() before it holds behind it, nothing
 * else does. */
static __device__ inline void cluster_arrive(void)
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
static __device__ inline void cluster_wait(void)
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/* Where block `rank` of the cluster has what is at `address` here. */
static __device__ inline uint32_t cluster_address(uint32_t address, uint32_t rank)
{
    uint32_t there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(address), "r"(rank));
    return there;
}

/* Arrive at a barrier that cluster_address() has found. It tells of copies and products that are
 * over, not of what threads wrote. */
static __device__ inline void cluster_barrier_arrive(uint32_t barrier)
{
    asm volatile("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier)
                 : "memory");
}

/* Shared memory to that of a block of the cluster, whose barrier is told; both as
 * cluster_address() says. */
static __device__ inline void copy_to_block(uint32_t to, uint32_t from, uint32_t n_bytes,
                                            uint32_t barrier)
{
    asm volatile("cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes "
                 "[%0], [%1], %2, [%3];" ::"r"(to),
                 "r"(from), "r"(n_bytes), "r"(barrier)
                 : "memory");
}

/* Descriptor of a K-major operand whose rows are 128 bytes, as a copy with
 * CU_TENSOR_MAP_SWIZZLE_128B left them at a multiple of 1,024: groups of 8 rows lie 1,024 bytes
 * apart. 32 bytes along k are 2 units of its address. */
static __device__ inline uint64_t wgmma_descriptor(uint32_t address)
{
    return (uint64_t)1 << 62 | (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 16 |
           (uint64_t)((address & 0x3ffff) >> 4);
}

/* The same of an operand that is not swizzled: pieces of 8 rows by 16 bytes, each 128 bytes one
 * behind the other; from one to the next along k, and to that of the next 8 rows. */
static __device__ inline uint64_t wgmma_descriptor_plain(uint32_t address, uint32_t along_k,
                                                         uint32_t along_rows)
{
    return (uint64_t)(along_rows >> 4) << 32 | (uint64_t)(along_k >> 4) << 16 |
           (uint64_t)((address & 0x3ffff) >> 4);
}

static __device__ inline void wgmma_fence()
{
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
static __device__ inline void wgmma_commit()
{
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
template <int N_LEFT> static __device__ inline void wgmma_wait()
{
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(N_LEFT) : "memory");
}

/* max(x, 0); NaN stays NaN. */
static __device__ inline float relu(float x)
{
    float y;
    asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
    return y;
}

template <int N> static __device__ inline void registers_more()
{
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
}
template <int N> static __device__ inline void registers_fewer()
{
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
}

/* The driver's function that makes tensor maps, without linking the driver's library. */
static inline int tensor_map_encoder(PFN_cuTensorMapEncodeTiled_v12000 *ret, struct agon_err *err)
{
    void *found = NULL;
    cudaDriverEntryPointQueryResult result;
    AGON_CUDA(err, "tensor maps",
              cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                               cudaEnableDefault, &result));
    if (result != cudaDriverEntryPointSuccess)
        return agon_fail(err, AGON_EDEVICE, "tensor maps: this driver has none");
    *ret = (PFN_cuTensorMapEncodeTiled_v12000)found;
    return 0;
}
