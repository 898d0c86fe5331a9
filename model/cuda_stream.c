/* See cuda_stream.h. */
#include "model/cuda_stream.h"

#include <stdlib.h>

enum { PIECE_BYTES = 1 << 20 }; /* a reader takes so much at a time */

int cuda_stream_init(struct cuda_stream *s, const struct agon_tensors *tensors,
                     struct agon_err *err)
{
    int r;
    void *p;
    *s = (struct cuda_stream){.tensors = tensors};
    if ((r = agon_cuda_stream_new(&s->queue, err)) ||
        (r = agon_pool_new(&s->readers, CUDA_STREAM_READERS, err)) ||
        (r = agon_cuda_alloc(&p, sizeof(*s->bad), err)))
        return r;
    s->bad = p;
    for (int i = 0; i < CUDA_STREAM_SLOTS; i++) {
        if ((r = agon_cuda_host_alloc(&p, CUDA_STREAM_BYTES, err)))
            return r;
        s->slots[i].host = p;
        if ((r = agon_cuda_alloc(&p, CUDA_STREAM_BYTES, err)))
            return r;
        s->slots[i].device = p;
        if ((r = agon_cuda_event_new(&s->slots[i].done, err)) ||
            (r = agon_cuda_event_record(s->slots[i].done, s->queue, err)))
            return r;
    }
    return agon_cuda_set(s->bad, 0, sizeof(*s->bad), s->queue, err);
}

void cuda_stream_deinit(struct cuda_stream *s)
{
    if (s->queue)
        (void)agon_cuda_sync(s->queue, NULL); /* buffers are in use until then */
    for (int i = 0; i < CUDA_STREAM_SLOTS; i++) {
        agon_cuda_host_free(s->slots[i].host);
        agon_cuda_free(s->slots[i].device);
        if (s->slots[i].done)
            agon_cuda_event_free(s->slots[i].done);
    }
    agon_cuda_free(s->scale);
    agon_cuda_free(s->bad);
    agon_pool_free(s->readers);
    agon_cuda_stream_free(s->queue);
    *s = (struct cuda_stream){0};
}

/* ---- reading, by several threads ---------------------------------------------------- */

struct read_work {
    const struct agon_tensors *tensors;
    const struct agon_tensor *tensor;
    uint64_t at;
    size_t size;
    char *to;
    struct agon_err errors[CUDA_STREAM_READERS]; /* the first of each thread */
};

static void read_piece(void *user, int task, int thread)
{
    struct read_work *w = user;
    struct agon_err *err = &w->errors[thread];
    size_t begin = (size_t)task * PIECE_BYTES;
    size_t n = w->size - begin < PIECE_BYTES ? w->size - begin : PIECE_BYTES;
    if (err->code == 0 &&
        agon_tensor_read_part(w->tensors, w->tensor, w->at + begin, n, w->to + begin, err))
        return; /* err says so */
}

static int read_part(struct cuda_stream *s, const struct agon_tensor *t, uint64_t at, size_t size,
                     char *to, struct agon_err *err)
{
    struct read_work work = {.tensors = s->tensors, .tensor = t, .at = at, .size = size, .to = to};
    agon_pool_run(s->readers, read_piece, &work, (int)((size + PIECE_BYTES - 1) / PIECE_BYTES));
    for (int i = 0; i < CUDA_STREAM_READERS; i++)
        if (work.errors[i].code)
            return agon_fail(err, work.errors[i].code, "%s", work.errors[i].text);
    s->bytes += size;
    return 0;
}

/* ---- a tensor ----------------------------------------------------------------------- */

static int scale_upload(struct cuda_stream *s, const float *scale, const struct agon_tensor *t,
                        struct agon_err *err)
{
    size_t blocks_n = ((size_t)t->dims[0] + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
    size_t blocks_k = ((size_t)t->dims[1] + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK;
    size_t bytes = blocks_n * blocks_k * sizeof(*scale);
    if (bytes > s->scale_bytes) {
        void *p;
        int r = agon_cuda_sync(s->queue, err); /* the old ones may be in use */
        if (r || (r = agon_cuda_alloc(&p, bytes, err)))
            return r;
        agon_cuda_free(s->scale);
        s->scale = p;
        s->scale_bytes = bytes;
    }
    return agon_cuda_copy(s->scale, scale, bytes, s->queue, err);
}

int cuda_stream_tensor(struct cuda_stream *s, const struct agon_tensor *t, const float *scale,
                       cuda_stream_put *put, void *user, struct agon_err *err)
{
    int n = (int)t->dims[0], k = t->n_dims > 1 ? (int)t->dims[1] : 1, r;
    size_t row_bytes = (size_t)k * agon_dtype_size(t->dtype);
    int n_most = (int)(CUDA_STREAM_BYTES / row_bytes);
    if (n_most == 0)
        return agon_fail(err, AGON_EINPUT, "tensor '%s': rows of %zu bytes", t->name, row_bytes);
    if (scale && (r = scale_upload(s, scale, t, err)))
        return r;
    struct agon_cuda_load part = {.dtype = t->dtype,
                                  .k = k,
                                  .scale = scale ? s->scale : NULL,
                                  .bad = s->bad,
                                  .mark = (int32_t)(t - agon_tensors_at(s->tensors, 0)) + 1};
    for (part.row = 0; part.row < n; part.row += part.n_rows) {
        char *host = s->slots[s->i_slot].host, *device = s->slots[s->i_slot].device;
        void *done = s->slots[s->i_slot].done;
        part.n_rows = n - part.row < n_most ? n - part.row : n_most;
        part.from = device;
        size_t bytes = (size_t)part.n_rows * row_bytes;
        if ((r = agon_cuda_event_wait(done, err)) ||
            (r = read_part(s, t, (uint64_t)part.row * row_bytes, bytes, host, err)) ||
            (r = agon_cuda_copy(device, host, bytes, s->queue, err)) ||
            (r = put(user, &part, err)) || (r = agon_cuda_event_record(done, s->queue, err)))
            return r;
        s->i_slot = (s->i_slot + 1) % CUDA_STREAM_SLOTS;
    }
    return 0;
}

int cuda_stream_finish(struct cuda_stream *s, struct agon_err *err)
{
    int32_t bad = 0;
    int r;
    if ((r = agon_cuda_copy(&bad, s->bad, sizeof(bad), s->queue, err)) ||
        (r = agon_cuda_sync(s->queue, err)))
        return r;
    if (bad == 0)
        return 0;
    const struct agon_tensor *t = agon_tensors_at(s->tensors, (size_t)(bad - 1));
    return agon_fail(err, AGON_EINPUT, "%s: tensor '%s' holds NaN",
                     agon_tensors_file(s->tensors, t), t->name);
}
