/* The device layer: memory, copies, graphs, events. */
#include "tests/gpu/gpu.h"

TEST(memory_comes_back_as_it_was_written)
{
    REQUIRE_GPU();
    float *x = random_floats(12345), *y = poisoned_floats(12345);
    GPU_AUTO d = gpu_upload(x, 12345 * sizeof(*x));
    gpu_download(y, &d);
    EXPECT(memcmp(x, y, d.bytes) == 0);
    free(x);
    free(y);
}

TEST(too_much_memory_is_one_error_and_no_later_one)
{
    REQUIRE_GPU();
    void *p;
    EXPECT(agon_cuda_alloc(&p, (size_t)1 << 50, &err) == AGON_ENOMEM);
    EXPECT_HAS(err.text, "the device has no");
    EXPECT(p == NULL);
    EXPECT(agon_cuda_sync(NULL, &err) == 0);
}

TEST(a_device_that_is_not_there_is_named)
{
    REQUIRE_GPU();
    EXPECT(agon_cuda_open(&gpu, 99, &err) == AGON_EDEVICE);
    EXPECT_HAS(err.text, "CUDA device 99");
    EXPECT(agon_cuda_open(&gpu, 0, &err) == 0);
}

TEST(a_graph_does_again_what_it_recorded)
{
    REQUIRE_GPU();
    void *stream, *graph;
    REQUIRE(agon_cuda_stream_new(&stream, &err) == 0);
    float x[64], y[64];
    for (int i = 0; i < 64; i++)
        x[i] = (float)i;
    GPU_AUTO a = gpu_upload(x, sizeof(x));
    GPU_AUTO b = gpu_poisoned(sizeof(x), 0xff);
    REQUIRE(agon_cuda_sync(NULL, &err) == 0);
    REQUIRE(agon_cuda_graph_begin(stream, &err) == 0);
    REQUIRE(agon_cuda_copy(b.p, a.p, sizeof(x), stream, &err) == 0);
    REQUIRE(agon_cuda_graph_end(&graph, stream, &err) == 0);
    gpu_download(y, &b);
    EXPECT(isnan(y[0])); /* recorded, not run */
    for (int i = 0; i < 2; i++) {
        REQUIRE(agon_cuda_set(b.p, 0xff, sizeof(x), stream, &err) == 0);
        REQUIRE(agon_cuda_graph_run(graph, stream, &err) == 0);
        REQUIRE(agon_cuda_sync(stream, &err) == 0);
        gpu_download(y, &b);
        EXPECT(memcmp(x, y, sizeof(x)) == 0);
    }
    agon_cuda_graph_free(graph);
    agon_cuda_stream_free(stream);
}
