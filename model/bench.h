#pragma once
/*
 * How fast a checkpoint runs here, and how fast it could: generation at a batch over a shared
 * prefix, prefill, one sequence alone; beside them the arithmetic and the memory speed that the
 * same threads reach in loops that do nothing else.
 */
#include "model/engine.h"

struct agon_bench_options {
    struct agon_engine_options engine;
    int n_prefix, n_sequences, n_tokens; /* tokens: of each sequence */
    int n_ranks; /* GPUs that share the sequences and the experts; 0: one engine alone */
};
struct agon_bench {
    const char *kernels; /* or the device; then there are no numbers of the machine beside it */
    int n_threads;
    double machine_gflops, machine_gbytes; /* all threads together */
    /* A second; of all ranks together, each of which computes the prefix and has one sequence. */
    double prefill_tokens, decode_tokens, single_tokens;
    double decode_gflops;  /* of weights alone: 2 x active parameters a token */
    double step_ms_median; /* of drawing one id of each sequence */
};
int agon_bench_run(struct agon_bench *ret, const struct agon_checkpoint *checkpoint,
                   const struct agon_bench_options *options, struct agon_err *err) AGON_MUST_USE;
