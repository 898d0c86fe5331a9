#pragma once
/*
 * Launches that overlap: a kernel may be set up while the one before it in the stream still runs
 * (programmatic dependent launch; CUDA's programming guide, 4.5). A pass over a small model is some
 * hundred short kernels, and half of its time would be their starts.
 *
 * The rule: a kernel launched by launch_overlapping() calls depends_wait() before it reads or
 * writes anything that another kernel writes or reads, in every thread; it then holds all that was
 * launched before it as finished. Earlier it may read weights, and what the launch before last or
 * one before that wrote: the launch before has waited for those in all its blocks, or this one
 * would not have been set up.
 */
#include <cuda_runtime.h>
#include <utility>

/* Everything before this kernel in the stream is done, and seen. Lets the next one be set up. */
static __device__ __forceinline__ void depends_wait(void)
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/* Lets the next kernel be set up at once. It may read weights alone before depends_wait(). */
static __device__ __forceinline__ void depends_tell(void)
{
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

/* The block's dynamic shared memory. */
static __device__ __forceinline__ char *block_shared(void)
{
    extern __shared__ __align__(1024) char bytes[];
    return bytes;
}

template <class... Parameters, class... Arguments>
static cudaError_t launch_overlapping(void (*kernel)(Parameters...), dim3 grid, unsigned n_threads,
                                      size_t shared, void *stream, Arguments &&...arguments)
{
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3(n_threads);
    config.dynamicSmemBytes = shared;
    config.stream = (cudaStream_t)stream;
    config.attrs = &overlap;
    config.numAttrs = 1;
    return cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
}
