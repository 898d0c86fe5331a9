#pragma once
/*
 * Tensors on their way from a checkpoint's files to a GPU: in parts of whole rows, through two
 * page-locked buffers of CUDA_STREAM_BYTES, so that one is read from disk while the other is
 * copied. What the host holds at a time is that, whatever the model's size.
 */
#include "kernels/cuda_load.h"
#include "model/pool.h"
#include "model/safetensors.h"

enum { CUDA_STREAM_BYTES = 32 << 20, CUDA_STREAM_SLOTS = 2, CUDA_STREAM_READERS = 4 };

struct cuda_stream {
    const struct agon_tensors *tensors; /* borrowed */
    void *queue;                        /* the CUDA stream in which all is done */
    struct agon_pool *readers;
    struct {
        char *host, *device;
        void *done; /* event: the buffers are free again */
    } slots[CUDA_STREAM_SLOTS];
    int i_slot;
    float *scale; /* device; of the tensor under way */
    size_t scale_bytes;
    int32_t *bad; /* device: 1 + the number of a tensor that holds NaN, or 0 */
    uint64_t bytes;
};
int cuda_stream_init(struct cuda_stream *s, const struct agon_tensors *tensors,
                     struct agon_err *err) AGON_MUST_USE;
void cuda_stream_deinit(struct cuda_stream *s);

/* Launches what puts a part in its place, in s->queue. */
typedef int cuda_stream_put(void *user, const struct agon_cuda_load *part, struct agon_err *err);
/*
 * Call put for all parts of tensor t [n][k]. scale: its scales, host, where it is E4M3 and is to be
 * widened; else NULL. Rows must be shorter than CUDA_STREAM_BYTES.
 */
int cuda_stream_tensor(struct cuda_stream *s, const struct agon_tensor *t, const float *scale,
                       cuda_stream_put *put, void *user, struct agon_err *err) AGON_MUST_USE;
/* Wait for all of it. AGON_EINPUT: a tensor holds NaN, by name. */
int cuda_stream_finish(struct cuda_stream *s, struct agon_err *err) AGON_MUST_USE;
