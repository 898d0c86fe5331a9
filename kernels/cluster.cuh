#pragma once
/*
 * Thread block clusters (CUDA's programming guide, 5.2.1; PTX ISA, barrier.cluster): blocks that
 * run at the same time on neighbouring multiprocessors and may wait for each other.
 */
#include "kernels/launch.cuh"

static __device__ __forceinline__ int cluster_rank(void)
{
    int x;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(x));
    return x;
}
static __device__ __forceinline__ int cluster_size(void)
{
    int x;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(x));
    return x;
}
/* Which cluster of the launch this is. */
static __device__ __forceinline__ int cluster_number(void)
{
    int x;
    asm("mov.u32 %0, %%clusterid.x;" : "=r"(x));
    return x;
}
/* All threads of the cluster: what any of them wrote before it arrived is seen by all that have
 * waited. */
static __device__ __forceinline__ void cluster_arrive(void)
{
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
static __device__ __forceinline__ void cluster_wait(void)
{
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/* The block's dynamic shared memory. */
static __device__ __forceinline__ char *cluster_shared(void)
{
    extern __shared__ __align__(128) char bytes[];
    return bytes;
}
/* n_threads of the block, whole warps; number: 1 .. 15. */
static __device__ __forceinline__ void barrier_some(int number, int n_threads)
{
    asm volatile("bar.sync %0, %1;" ::"r"(number), "r"(n_threads) : "memory");
}
/* The thread's number, which the compiler cannot know to be the same again. */
static __device__ __forceinline__ int opaque_thread(void)
{
    int x;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(x));
    return x;
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

template <class... Parameters, class... Arguments>
static cudaError_t launch_clusters(void (*kernel)(Parameters...), unsigned n_clusters,
                                   unsigned n_blocks, unsigned n_threads, size_t shared,
                                   void *stream, Arguments &&...arguments)
{
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    attributes[1].id = cudaLaunchAttributeClusterDimension;
    attributes[1].val.clusterDim.x = n_blocks;
    attributes[1].val.clusterDim.y = attributes[1].val.clusterDim.z = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(n_clusters * n_blocks);
    config.blockDim = dim3(n_threads);
    config.dynamicSmemBytes = shared;
    config.stream = (cudaStream_t)stream;
    config.attrs = attributes;
    config.numAttrs = 2;
    return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}
