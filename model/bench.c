/* Measuring: see bench.h. */
#include "model/bench.h"

#include "base/rng.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { COPY_FLOATS = 8 << 20, FMA_ROUNDS = 4 << 20, STEPS_MAX = 1 << 16 };

static double now(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at); /* cannot fail */
    return (double)at.tv_sec + (double)at.tv_nsec * 1e-9;
}

/* ---- the machine -------------------------------------------------------------------- */

struct machine {
    const struct agon_kernels *kernels;
    float *memory; /* [threads][COPY_FLOATS] */
    double n_flops;
};

static void flops_task(void *user, int task, int thread)
{
    struct machine *m = user;
    (void)thread; /* one task a thread, whichever */
    m->n_flops = m->kernels->fma_loop(FMA_ROUNDS, &m->memory[(size_t)task * COPY_FLOATS]);
}

static void bytes_task(void *user, int task, int thread)
{
    struct machine *m = user;
    float *x = m->memory + (size_t)task * COPY_FLOATS;
    float sum[16] = {0};
    (void)thread; /* one task a thread, whichever */
    for (size_t i = 0; i < COPY_FLOATS; i += 16)
        for (int k = 0; k < 16; k++)
            sum[k] += x[i + (size_t)k];
    for (int k = 0; k < 16; k++)
        x[k] = sum[k] * 1e-9F; /* used, so that the loop stays */
}

/* The best of three rounds of fn, one task a thread. */
static double best_seconds(struct agon_pool *pool, agon_pool_fn *fn, struct machine *m)
{
    double best = 1e9;
    for (int i = 0; i < 3; i++) {
        double begin = now();
        agon_pool_run(pool, fn, m, agon_pool_threads(pool));
        double took = now() - begin;
        best = took < best ? took : best;
    }
    return best;
}

static int bench_machine(struct agon_bench *b, const struct agon_engine_options *options,
                         struct agon_err *err)
{
    struct agon_pool *pool AGON_AUTO(agon_pool_freep) = NULL;
    int r = agon_pool_new(&pool, options->n_threads, err);
    if (r)
        return r;
    b->n_threads = agon_pool_threads(pool);
    struct machine m = {.kernels = agon_kernels_for(options->cpu)};
    m.memory = calloc((size_t)b->n_threads * COPY_FLOATS, sizeof(*m.memory));
    if (!m.memory)
        return agon_fail(err, AGON_ENOMEM, "bench: out of memory");
    for (size_t i = 0; i < (size_t)b->n_threads * COPY_FLOATS; i += 1024)
        m.memory[i] = 1; /* own every page */
    b->kernels = m.kernels->name;
    double seconds = best_seconds(pool, flops_task, &m);
    b->machine_gflops = b->n_threads * m.n_flops / seconds * 1e-9;
    seconds = best_seconds(pool, bytes_task, &m);
    b->machine_gbytes = b->n_threads * (double)COPY_FLOATS * sizeof(float) / seconds * 1e-9;
    free(m.memory);
    return 0;
}

/* ---- the model ---------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* A prefix of random ids, computed; *ret_seconds of computing it. */
static int bench_prefix(struct agon_sequence **ret, struct agon_engine *e, int n,
                        double *ret_seconds, struct agon_err *err)
{
    struct agon_sequence *s AGON_AUTO(agon_sequence_freep) = NULL, *fork = NULL;
    struct agon_rng rng;
    int r = agon_sequence_new(&s, e, err);
    agon_rng_init(&rng, 1);
    for (int i = 0; i < n && r == 0; i++) {
        int id = (int)agon_rng_below(&rng, (uint32_t)agon_engine_config(e)->n_vocab);
        r = agon_sequence_append(s, &id, 1, err);
    }
    double begin = now();
    if (r || (r = agon_sequence_fork(&fork, s, err))) /* computes what it shares */
        return r;
    *ret_seconds = now() - begin;
    agon_sequence_free(fork);
    *ret = AGON_STEAL(s);
    return 0;
}

/* Generate n_tokens from n forks of prefix together, seeds from `seed` on; tokens a second. */
static int bench_decode(struct agon_engine *e, struct agon_sequence *prefix, int seed, int n,
                        int n_tokens, double *ret_tokens, double *ret_step_ms, struct agon_err *err)
{
    struct agon_sequence **s = calloc((size_t)n, sizeof(struct agon_sequence *));
    double *steps = calloc(STEPS_MAX, sizeof(*steps)), total = 0;
    int r = s && steps ? 0 : agon_fail(err, AGON_ENOMEM, "bench: out of memory"), n_steps = 0;
    for (int i = 0; i < n && r == 0; i++) {
        struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 0.95},
                                             .seed = (uint64_t)(seed + i),
                                             .tokens_max = n_tokens};
        if ((r = agon_sequence_fork(&s[i], prefix, err)) == 0)
            r = agon_sequence_generate(s[i], &generation, err);
    }
    for (int left = n; r == 0 && left > 0 && n_steps < STEPS_MAX; n_steps++) {
        int n_before = agon_sequence_length(s[0]);
        double begin = now();
        left = agon_engine_step(e);
        double took = now() - begin;
        int n_drawn = agon_sequence_length(s[0]) - n_before; /* several in a burst */
        steps[n_steps] = took / (n_drawn > 1 ? n_drawn : 1);
        total += took;
    }
    if (r == 0) {
        qsort(steps, (size_t)n_steps, sizeof(*steps), compare_doubles);
        *ret_step_ms = steps[n_steps / 2] * 1e3;
        *ret_tokens = (double)n * n_tokens / total;
    }
    for (int i = 0; s && i < n; i++)
        agon_sequence_free(s[i]);
    free(s);
    free(steps);
    return r;
}

static int bench_engine(struct agon_bench *b, struct agon_engine *e,
                        const struct agon_bench_options *options, struct agon_err *err)
{
    struct agon_sequence *prefix AGON_AUTO(agon_sequence_freep) = NULL;
    double seconds, step_ms;
    int r, first = 0, n = options->n_sequences;
    if (options->n_ranks > 0) {
        first = n * options->engine.rank / options->n_ranks;
        n = n * (options->engine.rank + 1) / options->n_ranks - first;
    }
    if ((r = bench_prefix(&prefix, e, options->n_prefix, &seconds, err)) ||
        (r = bench_decode(e, prefix, first, n, options->n_tokens, &b->decode_tokens,
                          &b->step_ms_median, err)) ||
        (r = bench_decode(e, prefix, first, 1, options->n_tokens, &b->single_tokens, &step_ms,
                          err)))
        return r;
    b->prefill_tokens = options->n_prefix / seconds;
    return 0;
}

/* ---- several ranks ------------------------------------------------------------------ */

struct ranks {
    const struct agon_checkpoint *checkpoint;
    const struct agon_bench_options *options;
    struct agon_group *group;
    struct agon_bench b[AGON_RANKS_MAX];
};

static void bench_rank(void *user, int rank)
{
    struct ranks *ranks = user;
    struct agon_bench_options options = *ranks->options;
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = NULL;
    struct agon_err err;
    options.engine.group = ranks->group;
    options.engine.rank = rank;
    if (agon_engine_new(&e, ranks->checkpoint, &options.engine, &err) ||
        bench_engine(&ranks->b[rank], e, &options, &err))
        agon_group_fail(ranks->group, rank, &err);
}

static int bench_ranks(struct agon_bench *b, const struct agon_checkpoint *checkpoint,
                       const struct agon_bench_options *options, struct agon_err *err)
{
    struct agon_group *group AGON_AUTO(agon_group_freep) = NULL;
    struct ranks ranks = {.checkpoint = checkpoint, .options = options};
    if (options->n_ranks > options->n_sequences)
        return agon_fail(err, AGON_EINPUT, "bench: %d sequences are too few for %d ranks",
                         options->n_sequences, options->n_ranks);
    int r = agon_group_new(&group, options->n_ranks, err);
    ranks.group = group;
    if (r || (r = agon_group_run(group, bench_rank, &ranks, err)))
        return r;
    for (int i = 0; i < options->n_ranks; i++) {
        const struct agon_bench *one = &ranks.b[i];
        b->decode_tokens += one->decode_tokens;
        b->single_tokens += one->single_tokens;
        b->prefill_tokens += one->prefill_tokens;
        b->step_ms_median =
            one->step_ms_median > b->step_ms_median ? one->step_ms_median : b->step_ms_median;
    }
    return 0;
}

static int bench_alone(struct agon_bench *b, const struct agon_checkpoint *checkpoint,
                       const struct agon_bench_options *options, struct agon_err *err)
{
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = NULL;
    bool cpu = !options->engine.device || strcmp(options->engine.device, "cpu") == 0;
    int r = agon_engine_new(&e, checkpoint, &options->engine, err);
    if (r || (cpu && (r = bench_machine(b, &options->engine, err))))
        return r;
    return bench_engine(b, e, options, err);
}

int agon_bench_run(struct agon_bench *ret, const struct agon_checkpoint *checkpoint,
                   const struct agon_bench_options *options, struct agon_err *err)
{
    struct agon_bench b = {.kernels = options->engine.device};
    if (options->n_prefix + options->n_tokens > checkpoint->config.window)
        return agon_fail(err, AGON_EINPUT, "bench: %d + %d tokens are over the window of %d",
                         options->n_prefix, options->n_tokens, checkpoint->config.window);
    int r = options->n_ranks > 0 ? bench_ranks(&b, checkpoint, options, err)
                                 : bench_alone(&b, checkpoint, options, err);
    if (r)
        return r;
    b.decode_gflops = 2 * (double)checkpoint->n_active * b.decode_tokens * 1e-9;
    *ret = b;
    return 0;
}
