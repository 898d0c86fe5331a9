/*
 * How fast the engine is on a GPU: the embedded model (its folder is in AGON_EMBEDDED), decoding
 * over a shared prefix of 1,000 ids, and prefill.
 */
#include "kernels/cuda.h"
#include "model/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int bench(const struct agon_checkpoint *checkpoint, const char *name, const char *device,
                 int n, int n_tokens)
{
    struct agon_err err;
    struct agon_bench b;
    struct agon_bench_options options = {.engine = {.device = device,
                                                    .cpu = AGON_CPU_BEST,
                                                    .n_threads = 1,
                                                    .n_batch_max = n,
                                                    .cache_bytes_max = (size_t)8 << 30},
                                         .n_prefix = 1000,
                                         .n_sequences = n,
                                         .n_tokens = n_tokens};
    if (agon_bench_run(&b, checkpoint, &options, &err)) {
        printf("%s B=%d: %s\n", device, n, err.text);
        return 1;
    }
    printf("%-26s %-14s B=%-5d %9.0f tok/s  %6.3f ms a token step  prefill %8.0f tok/s  alone "
           "%6.0f tok/s\n",
           name, device, n, b.decode_tokens, 1e3 * n / b.decode_tokens, b.prefill_tokens,
           b.single_tokens);
    return 0;
}

/* With a number: that batch alone, for a profiler. */
int main(int argc, char **argv)
{
    const char *dir = getenv("AGON_EMBEDDED"), *devices[] = {"cuda", "cuda:reference"};
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = NULL;
    struct agon_cuda_info info;
    struct agon_err err;
    int r = 0;
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    if (agon_cuda_open(&info, 0, &err)) {
        printf("%s\n", err.text);
        return 0;
    }
    if (agon_checkpoint_load(&checkpoint, dir ? dir : "model/embedded", &err)) {
        printf("%s\n", err.text);
        return 1;
    }
    if (argc > 1)
        return bench(checkpoint, info.name, "cuda", atoi(argv[1]), 32);
    for (int d = 0; d < 2; d++) {
        r |= bench(checkpoint, info.name, devices[d], 100, 256);
        r |= bench(checkpoint, info.name, devices[d], 1000, 128);
    }
    return r;
}
