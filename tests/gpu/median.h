#pragma once
/* Timing of kernels: the median over replays of a graph that holds a launch some times. */
#include "tests/gpu/gpu.h"

enum { MEDIAN_REPLAYS = 15 };

struct gpu_launch {
    int (*run)(void *arg, void *stream, struct agon_err *err);
    void *arg;
};

static inline int median_order(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Microseconds of one launch, of n_launches in a graph. Leaves the program on an error. */
static inline double gpu_median_us(struct gpu_launch launch, int n_launches)
{
    struct agon_err err = {0};
    void *stream, *graph, *begin, *end;
    float ms[MEDIAN_REPLAYS];
    int r = agon_cuda_stream_new(&stream, &err);
    if (!r)
        r = agon_cuda_event_new(&begin, &err) || agon_cuda_event_new(&end, &err);
    if (!r)
        r = agon_cuda_graph_begin(stream, &err);
    for (int i = 0; i < n_launches && !r; i++)
        r = launch.run(launch.arg, stream, &err);
    if (!r)
        r = agon_cuda_graph_end(&graph, stream, &err);
    for (int i = -2; i < MEDIAN_REPLAYS && !r; i++) { /* two to warm up */
        r = agon_cuda_event_record(begin, stream, &err) ||
            agon_cuda_graph_run(graph, stream, &err) || agon_cuda_event_record(end, stream, &err) ||
            agon_cuda_event_ms(&ms[i < 0 ? 0 : i], begin, end, &err);
    }
    if (r) {
        printf("failed: %s\n", err.text);
        exit(1);
    }
    qsort(ms, MEDIAN_REPLAYS, sizeof(*ms), median_order);
    agon_cuda_graph_free(graph);
    agon_cuda_event_free(begin);
    agon_cuda_event_free(end);
    agon_cuda_stream_free(stream);
    return 1e3 * ms[MEDIAN_REPLAYS / 2] / n_launches;
}
