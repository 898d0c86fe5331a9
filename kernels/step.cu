/* Between the passes: see cuda_step.h. All of it moves bytes; the floor is their number. */
#include "kernels/check.cuh"
#include "kernels/cuda_step.h"
#include "kernels/launch.cuh"

/* A thread a row. */
static __global__ void step_rows_kernel(int32_t *ids, int32_t *position, int32_t *sequence,
                                        const struct agon_cuda_slot *slots, int n_rows,
                                        const int32_t *d_n_rows)
{
    depends_wait();
    int r = blockIdx.x * blockDim.x + threadIdx.x;
    if (r >= n_rows)
        return;
    bool runs = (!d_n_rows || r < *d_n_rows) && slots[r].state == AGON_SLOT_RUNNING;
    ids[r] = runs ? slots[r].id : 0;
    position[r] = runs ? slots[r].position - 1 : 0;
    sequence[r] = runs ? r : -1;
}

extern "C" int agon_cuda_step_rows(int32_t *ids, int32_t *position, int32_t *sequence,
                                   const struct agon_cuda_slot *slots, int n_rows,
                                   const int32_t *d_n_rows, void *stream, struct agon_err *err)
{
    if (n_rows <= 0)
        return 0;
    AGON_CUDA(err, "rows of a step",
              launch_overlapping(step_rows_kernel, (unsigned)agon_ceil_div(n_rows, 128), 128, 0,
                                 stream, ids, position, sequence, slots, n_rows, d_n_rows));
    return 0;
}

/* Block (i, layer) copies one page of one layer, 16 bytes a thread at a time. */
static __global__ void pages_copy_kernel(char *pools, size_t layer_bytes, size_t page_bytes,
                                         const int32_t *copy)
{
    char *pool = pools + blockIdx.y * layer_bytes;
    int4 *to = (int4 *)(pool + (size_t)copy[2 * blockIdx.x] * page_bytes);
    const int4 *from = (const int4 *)(pool + (size_t)copy[2 * blockIdx.x + 1] * page_bytes);
    for (size_t i = threadIdx.x; i < page_bytes / sizeof(int4); i += blockDim.x)
        to[i] = from[i];
}

extern "C" int agon_cuda_pages_copy(void *pools, size_t layer_bytes, size_t page_bytes,
                                    int n_layers, const int32_t *copy, int n, void *stream,
                                    struct agon_err *err)
{
    if (n <= 0 || n_layers <= 0)
        return 0;
    if (page_bytes % sizeof(int4) || layer_bytes % sizeof(int4))
        return agon_fail(err, AGON_EINPUT, "copying pages: %zu bytes of %zu are no multiple of 16",
                         page_bytes, layer_bytes);
    pages_copy_kernel<<<dim3((unsigned)n, (unsigned)n_layers), 256, 0, (cudaStream_t)stream>>>(
        (char *)pools, layer_bytes, page_bytes, copy);
    AGON_CUDA(err, "copying pages", cudaGetLastError());
    return 0;
}

/* A block a row. */
template <typename T>
static __global__ void record_kernel(T *pool, size_t ld, int at, const int32_t *from,
                                     size_t ld_from, int n, struct agon_cuda_rows rows)
{
    depends_wait();
    int r = blockIdx.x, sequence = rows.row_sequence[r];
    if (sequence < 0)
        return;
    int position = rows.row_position[r];
    size_t page = (size_t)rows.pages[(size_t)sequence * rows.ld_pages + position / AGON_CUDA_PAGE];
    T *to = pool + (page * AGON_CUDA_PAGE + position % AGON_CUDA_PAGE) * ld + at;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        to[i] = (T)from[(size_t)r * ld_from + i];
}

template <typename T>
static int record(T *pool, size_t ld, int at, const int32_t *from, size_t ld_from, int n,
                  const struct agon_cuda_rows *rows, void *stream, struct agon_err *err)
{
    if (rows->n_rows <= 0)
        return 0;
    unsigned n_blocks = (unsigned)rows->n_rows;
    int n_threads = n < 32 ? 32 : 128;
    AGON_CUDA(err, "recording positions",
              launch_overlapping(record_kernel<T>, n_blocks, (unsigned)n_threads, 0, stream, pool,
                                 ld, at, from, ld_from, n, *rows));
    return 0;
}

extern "C" int agon_cuda_record_experts(uint16_t *pool, size_t ld, int at, const int32_t *from,
                                        size_t ld_from, int n, const struct agon_cuda_rows *rows,
                                        void *stream, struct agon_err *err)
{
    return record(pool, ld, at, from, ld_from, n, rows, stream, err);
}

extern "C" int agon_cuda_record_selected(int32_t *pool, size_t ld, int at, const int32_t *from,
                                         size_t ld_from, int n, const struct agon_cuda_rows *rows,
                                         void *stream, struct agon_err *err)
{
    return record(pool, ld, at, from, ld_from, n, rows, stream, err);
}
