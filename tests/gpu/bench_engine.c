/*
 * How fast the engine is on a GPU: the embedded model (its folder is in AGON_EMBEDDED), decoding
 * over a shared prefix of 1,000 ids, and prefill.
 */
#include "kernels/cuda.h"
#include "model/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at); /* cannot fail */
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* n forks of a prefix of 1,000 ids, n_tokens of each: where the time of a run goes, step by step.
 */
static int whole(const struct agon_checkpoint *checkpoint, const char *device, int n, int n_tokens)
{
    enum { STEPS_MAX = 64 };
    struct agon_err err;
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = NULL;
    struct agon_sequence *prefix AGON_AUTO(agon_sequence_freep) = NULL;
    struct agon_sequence **s = calloc((size_t)n, sizeof(struct agon_sequence *));
    struct agon_engine_options options = {.device = device,
                                          .cpu = AGON_CPU_BEST,
                                          .n_threads = 1,
                                          .n_batch_max = n,
                                          .cache_bytes_max = (size_t)8 << 30};
    double steps[STEPS_MAX], begin, forked;
    int n_steps = 0, r = s ? 0 : agon_fail(&err, AGON_ENOMEM, "out of memory");
    if (r || (r = agon_engine_new(&e, checkpoint, &options, &err)) ||
        (r = agon_sequence_new(&prefix, e, &err)))
        return printf("%s\n", err.text), 1;
    for (int i = 0; i < 1000 && r == 0; i++)
        r = agon_sequence_append(prefix, &(int){i * 7 % checkpoint->config.n_vocab}, 1, &err);
    begin = now();
    for (int i = 0; i < n && r == 0; i++) {
        struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 0.95},
                                             .seed = (uint64_t)i,
                                             .tokens_max = n_tokens};
        if ((r = agon_sequence_fork(&s[i], prefix, &err)) == 0)
            r = agon_sequence_generate(s[i], &generation, &err);
    }
    forked = now();
    for (int left = n; r == 0 && left > 0 && n_steps < STEPS_MAX; n_steps++) {
        double from = now();
        left = agon_engine_step(e);
        steps[n_steps] = now() - from;
    }
    printf("B=%d, %d ids each: prefill and forks %.3f ms; steps of the host (ms):", n, n_tokens,
           1e3 * (forked - begin));
    for (int i = 0; i < n_steps; i++)
        printf(" %.3f", 1e3 * steps[i]);
    printf("\n");
    for (int i = 0; i < n; i++)
        agon_sequence_free(s[i]);
    free(s);
    return r ? printf("%s\n", err.text), 1 : 0;
}

/* With a number: that batch alone, for prof.c; on the device named behind it, or "cuda". */
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
        return whole(checkpoint, argc > 2 ? argv[2] : "cuda", atoi(argv[1]), 64);
    for (int d = 0; d < 2; d++) {
        r |= bench(checkpoint, info.name, devices[d], 100, 256);
        r |= bench(checkpoint, info.name, devices[d], 1000, 128);
    }
    return r;
}
