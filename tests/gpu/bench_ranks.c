/*
 * What the exchange of a layer costs at V3.2's dimensions (hidden 7168, 8 choices a row): rows and
 * choices to all ranks, and each choice's vector back, by rows of a rank. Ranks are all GPUs that
 * the process sees. The floor is what a rank must receive over NVLink, 450 GB/s each way.
 */
#include "kernels/cuda.h"
#include "model/cuda_nccl.h"
#include "tests/gpu/open.h"

#include <stdio.h>
#include <stdlib.h>

enum { HIDDEN = 7168, CHOICES = 8, ROWS_MAX = 512, N_TIMES = 41, N_EACH = 10 };
static const double link_bytes = 450e9;

struct bench {
    struct agon_group *group;
    int n_ranks;
};

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

struct buffers {
    void *rows, *all_rows, *ids, *all_ids, *wide, *mine, *stream, *begin, *end;
};

static int buffers_make(struct buffers *b, int n_ranks, struct agon_err *err)
{
    size_t rows = (size_t)ROWS_MAX * HIDDEN * 2, ids = (size_t)ROWS_MAX * CHOICES * 4,
           n = (size_t)n_ranks;
    size_t vectors = (size_t)ROWS_MAX * CHOICES * HIDDEN * sizeof(float);
    int r;
    if ((r = agon_cuda_stream_new(&b->stream, err)) || (r = agon_cuda_event_new(&b->begin, err)) ||
        (r = agon_cuda_event_new(&b->end, err)) || (r = agon_cuda_alloc(&b->rows, rows, err)) ||
        (r = agon_cuda_alloc(&b->all_rows, rows * n, err)) ||
        (r = agon_cuda_alloc(&b->ids, ids, err)) ||
        (r = agon_cuda_alloc(&b->all_ids, ids * n, err)) ||
        (r = agon_cuda_alloc(&b->wide, vectors * n, err)) ||
        (r = agon_cuda_alloc(&b->mine, vectors, err)))
        return r;
    /* Not zeros: 0x3c3c is a BF16 near 0.01, twice that an F32. */
    if ((r = agon_cuda_set(b->rows, 0x3c, rows, b->stream, err)) ||
        (r = agon_cuda_set(b->wide, 0x3c, vectors * n, b->stream, err)))
        return r;
    return agon_cuda_sync(b->stream, err);
}

static int exchange(struct cuda_nccl *nccl, const struct buffers *b, int n_rows, bool back,
                    struct agon_err *err)
{
    const struct cuda_nccl_array arrays[] = {
        {b->all_rows, b->rows, (size_t)n_rows * HIDDEN * 2},
        {b->all_ids, b->ids, (size_t)n_rows * CHOICES * 4},
    };
    if (back)
        return cuda_nccl_sum(nccl, b->mine, b->wide, (size_t)n_rows * CHOICES * HIDDEN, b->stream,
                             err);
    return cuda_nccl_gather(nccl, arrays, 2, b->stream, err);
}

/* The median of N_TIMES, each of N_EACH in a row. */
static int measure(float *ret_us, struct cuda_nccl *nccl, const struct buffers *b, int n_rows,
                   bool back, struct agon_err *err)
{
    float ms[N_TIMES];
    int r = 0;
    for (int i = -3; i < N_TIMES && r == 0; i++) {
        float one;
        r = agon_cuda_event_record(b->begin, b->stream, err);
        for (int k = 0; k < N_EACH && r == 0; k++)
            r = exchange(nccl, b, n_rows, back, err);
        if (r || (r = agon_cuda_event_record(b->end, b->stream, err)) ||
            (r = agon_cuda_event_ms(&one, b->begin, b->end, err)))
            return r;
        if (i >= 0)
            ms[i] = one;
    }
    qsort(ms, N_TIMES, sizeof(ms[0]), compare);
    *ret_us = ms[N_TIMES / 2] / N_EACH * 1e3F;
    return r;
}

static int bench(const struct bench *bench, int rank, struct agon_err *err)
{
    static const int rows[] = {1, 16, 128, 512};
    struct agon_cuda_info info;
    struct buffers b = {0}; /* the process ends when they are not needed */
    struct cuda_nccl *nccl = NULL;
    float us;
    int r;
    if ((r = agon_cuda_open(&info, rank, err)) || (r = buffers_make(&b, bench->n_ranks, err)) ||
        (r = cuda_nccl_new(&nccl, bench->group, rank, err)))
        return r;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]) && r == 0; i++)
        for (int back = 0; back < 2 && r == 0; back++) {
            double others = (bench->n_ranks - 1) * (double)rows[i];
            double bytes =
                others * (back ? CHOICES * HIDDEN * sizeof(float) : HIDDEN * 2 + CHOICES * 4);
            if ((r = measure(&us, nccl, &b, rows[i], back, err)) || rank > 0)
                continue;
            printf("%-22s %d ranks, %3d rows each: %-22s %8.1f us, %6.1f MB to a rank, %5.1f GB/s, "
                   "%3.0f%% of the floor\n",
                   info.name, bench->n_ranks, rows[i],
                   back ? "vectors back (sum)" : "rows to all (gather)", (double)us, bytes * 1e-6,
                   bytes / (double)us * 1e-3, 100 * bytes / link_bytes / ((double)us * 1e-6));
        }
    cuda_nccl_free(nccl, r != 0);
    return r;
}

static void bench_rank(void *user, int rank)
{
    const struct bench *b = user;
    struct agon_err err;
    if (bench(b, rank, &err))
        agon_group_fail(b->group, rank, &err);
}

int main(void)
{
    struct agon_cuda_info info = gpu_or_leave();
    struct agon_err err;
    struct bench b = {0};
    b.n_ranks = info.n_devices;
    int r = agon_group_new(&b.group, b.n_ranks, &err);
    if (r == 0)
        r = agon_group_run(b.group, bench_rank, &b, &err);
    if (r)
        printf("%s\n", err.text);
    agon_group_free(b.group);
    return r != 0;
}
