/* The device layer of cuda.h. */
#include "kernels/check.cuh"
#include "kernels/cuda.h"

extern "C" int agon_cuda_open(struct agon_cuda_info *ret, int device, struct agon_err *err)
{
    int n = 0;
    cudaError_t e = cudaGetDeviceCount(&n);
    if (e != cudaSuccess || n == 0)
        return agon_fail(err, AGON_EDEVICE, "no CUDA device: %s",
                         e != cudaSuccess ? cudaGetErrorString(e) : "none found");
    if (device < 0 || device >= n)
        return agon_fail(err, AGON_EDEVICE, "CUDA device %d: there are %d, counted from 0", device,
                         n);
    cudaDeviceProp p;
    AGON_CUDA(err, "device properties", cudaGetDeviceProperties(&p, device));
    if (p.major != 9 || p.minor != 0)
        return agon_fail(err, AGON_EDEVICE,
                         "CUDA device %d (%s) has compute capability %d.%d: the kernels are built "
                         "for 9.0 (H100, H200)",
                         device, p.name, p.major, p.minor);
    AGON_CUDA(err, "choosing the device", cudaSetDevice(device));
    *ret = {};
    for (size_t i = 0; i + 1 < sizeof(ret->name) && p.name[i]; i++)
        ret->name[i] = p.name[i];
    ret->n_devices = n;
    ret->n_multiprocessors = p.multiProcessorCount;
    ret->capability = p.major * 10 + p.minor;
    ret->l2_bytes = (size_t)p.l2CacheSize;
    AGON_CUDA(err, "device memory", cudaMemGetInfo(&ret->memory_free, &ret->memory));
    return 0;
}

extern "C" int agon_cuda_alloc(void **ret, size_t bytes, struct agon_err *err)
{
    *ret = NULL;
    if (bytes == 0)
        return 0;
    cudaError_t e = cudaMalloc(ret, bytes);
    if (e == cudaErrorMemoryAllocation) {
        cudaGetLastError(); /* it is told here, and must not be found by the next check */
        return agon_fail(err, AGON_ENOMEM, "the device has no %zu bytes left", bytes);
    }
    AGON_CUDA(err, "device memory", e);
    return 0;
}

extern "C" void agon_cuda_free(void *p)
{
    cudaFree(p);
}

extern "C" int agon_cuda_host_alloc(void **ret, size_t bytes, struct agon_err *err)
{
    *ret = NULL;
    if (bytes == 0)
        return 0;
    AGON_CUDA(err, "page-locked memory", cudaMallocHost(ret, bytes));
    return 0;
}

extern "C" void agon_cuda_host_free(void *p)
{
    cudaFreeHost(p);
}

extern "C" int agon_cuda_copy(void *to, const void *from, size_t bytes, void *stream,
                              struct agon_err *err)
{
    AGON_CUDA(err, "copy",
              cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, (cudaStream_t)stream));
    return 0;
}

extern "C" int agon_cuda_copy_rows(void *to, const void *from, size_t ld, size_t bytes,
                                   size_t n_rows, void *stream, struct agon_err *err)
{
    AGON_CUDA(err, "copy",
              cudaMemcpy2DAsync(to, ld, from, ld, bytes, n_rows, cudaMemcpyDefault,
                                (cudaStream_t)stream));
    return 0;
}

extern "C" int agon_cuda_set(void *to, int byte, size_t bytes, void *stream, struct agon_err *err)
{
    AGON_CUDA(err, "fill", cudaMemsetAsync(to, byte, bytes, (cudaStream_t)stream));
    return 0;
}

extern "C" int agon_cuda_stream_new(void **ret, struct agon_err *err)
{
    cudaStream_t s;
    AGON_CUDA(err, "stream", cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    *ret = s;
    return 0;
}

extern "C" void agon_cuda_stream_free(void *stream)
{
    if (stream)
        cudaStreamDestroy((cudaStream_t)stream);
}

extern "C" int agon_cuda_sync(void *stream, struct agon_err *err)
{
    AGON_CUDA(err, "device", cudaStreamSynchronize((cudaStream_t)stream));
    return 0;
}

extern "C" int agon_cuda_done(bool *ret, void *stream, struct agon_err *err)
{
    cudaError_t e = cudaStreamQuery((cudaStream_t)stream);
    if (e != cudaErrorNotReady)
        AGON_CUDA(err, "device", e);
    *ret = e == cudaSuccess;
    return 0;
}

extern "C" int agon_cuda_graph_begin(void *stream, struct agon_err *err)
{
    AGON_CUDA(err, "graph",
              cudaStreamBeginCapture((cudaStream_t)stream, cudaStreamCaptureModeThreadLocal));
    return 0;
}

extern "C" int agon_cuda_graph_end(void **ret, void *stream, struct agon_err *err)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    AGON_CUDA(err, "graph", cudaStreamEndCapture((cudaStream_t)stream, &graph));
    cudaError_t e = cudaGraphInstantiate(&exec, graph, 0);
    cudaGraphDestroy(graph);
    AGON_CUDA(err, "graph", e);
    *ret = exec;
    return 0;
}

extern "C" int agon_cuda_graph_run(void *graph, void *stream, struct agon_err *err)
{
    AGON_CUDA(err, "graph launch", cudaGraphLaunch((cudaGraphExec_t)graph, (cudaStream_t)stream));
    return 0;
}

extern "C" void agon_cuda_graph_free(void *graph)
{
    if (graph)
        cudaGraphExecDestroy((cudaGraphExec_t)graph);
}

extern "C" int agon_cuda_event_new(void **ret, struct agon_err *err)
{
    cudaEvent_t e;
    AGON_CUDA(err, "event", cudaEventCreate(&e));
    *ret = e;
    return 0;
}

extern "C" int agon_cuda_event_record(void *event, void *stream, struct agon_err *err)
{
    AGON_CUDA(err, "event", cudaEventRecord((cudaEvent_t)event, (cudaStream_t)stream));
    return 0;
}

extern "C" int agon_cuda_event_wait(void *event, struct agon_err *err)
{
    AGON_CUDA(err, "event", cudaEventSynchronize((cudaEvent_t)event));
    return 0;
}

extern "C" int agon_cuda_event_ms(float *ret, void *begin, void *end, struct agon_err *err)
{
    AGON_CUDA(err, "device", cudaEventSynchronize((cudaEvent_t)end));
    AGON_CUDA(err, "event", cudaEventElapsedTime(ret, (cudaEvent_t)begin, (cudaEvent_t)end));
    return 0;
}

extern "C" void agon_cuda_event_free(void *event)
{
    if (event)
        cudaEventDestroy((cudaEvent_t)event);
}
