/*
 * bench_engine [DIR]: generation at several batches over a shared prefix of 1,000 tokens, beside
 * what the machine could do. DIR: a checkpoint, where it exists; else a random one of the
 * embedded model's size. To reach: 1,200 tokens/s at batch 64 on two cores.
 */
#include "base/file.h"
#include "model/bench.h"
#include "tests/model/random_checkpoint.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { N_PREFIX = 1000, N_TOKENS = 64, TARGET = 1200 };

static int load(struct agon_checkpoint **ret, const char *dir, struct agon_err *err)
{
    char config[4096], temporary[] = "/tmp/agon-bench-XXXXXX";
    struct random_checkpoint embedded = RANDOM_CHECKPOINT_EMBEDDED;
    (void)snprintf(config, sizeof(config), "%s/config.json", dir);
    if (access(config, R_OK) == 0) {
        printf("checkpoint %s\n", dir);
        return agon_checkpoint_load(ret, dir, err);
    }
    printf("checkpoint: random, of the embedded model's size\n");
    if (!mkdtemp(temporary))
        return agon_fail(err, AGON_ESYS, "no folder for a checkpoint below /tmp");
    int r = random_checkpoint_write(temporary, &embedded, err);
    if (r == 0)
        r = agon_checkpoint_load(ret, temporary, err);
    int removed = agon_dir_remove(temporary, r ? NULL : err);
    return r ? r : removed;
}

static int measure(const struct agon_checkpoint *checkpoint, int n_sequences, struct agon_err *err)
{
    struct agon_bench_options options = {.engine = AGON_ENGINE_OPTIONS,
                                         .n_prefix = N_PREFIX,
                                         .n_sequences = n_sequences,
                                         .n_tokens = N_TOKENS};
    struct agon_bench b;
    int r = agon_bench_run(&b, checkpoint, &options, err);
    if (r)
        return r;
    printf("batch %3d: %6.0f tokens/s, %6.2f ms a step; prefill %6.0f tokens/s; weights %5.1f of "
           "%.0f GFLOP/s; memory %.1f GB/s (%d threads, %s)%s\n",
           n_sequences, b.decode_tokens, b.step_ms_median, b.prefill_tokens, b.decode_gflops,
           b.machine_gflops, b.machine_gbytes, b.n_threads, b.kernels,
           n_sequences < 64           ? ""
           : b.decode_tokens < TARGET ? ": BELOW the 1,200 to reach"
                                      : ": 1,200 to reach");
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    static const int batches[] = {1, 4, 16, 64, 128};
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = NULL;
    struct agon_err err = {0};
    int r = load(&checkpoint, argc > 1 ? argv[1] : "", &err);
    for (size_t i = 0; r == 0 && i < sizeof(batches) / sizeof(batches[0]); i++)
        r = measure(checkpoint, batches[i], &err);
    if (r)
        fprintf(stderr, "bench_engine: %s\n", err.text);
    return r != 0;
}
