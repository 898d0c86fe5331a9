/* See ranks.h. */
#include "tests/model/ranks.h"

#include "model/engine_internal.h"

#include <stdio.h>
#include <string.h>

enum { PROMPT = 40, CACHE_BYTES = 256 << 20 };

struct job {
    const struct agon_checkpoint *checkpoint;
    const char *device;
    struct agon_group *group;
    int n_ranks;
    bool breaks;
    struct rank_draws *draws; /* each rank writes its own sequences' */
};

static int sequence_begin(struct agon_sequence **ret, struct agon_engine *e, int i,
                          struct agon_err *err)
{
    struct agon_sequence *s AGON_AUTO(agon_sequence_freep) = NULL, *fork = NULL;
    int n_vocab = agon_engine_config(e)->n_vocab, r = agon_sequence_new(&s, e, err);
    for (int k = 0; k < PROMPT + i && r == 0; k++) {
        int id = (int)((unsigned)(k * 7919 + i * 104729 + 13) % (unsigned)n_vocab);
        r = agon_sequence_append(s, &id, 1, err);
    }
    if (r || i != RANKS_SEQUENCES - 1) {
        *ret = r ? NULL : AGON_STEAL(s);
        return r;
    }
    r = agon_sequence_fork(&fork, s, err);
    *ret = fork;
    return r;
}

static int sequence_start(struct agon_sequence *s, int i, struct agon_err *err)
{
    struct agon_generation g = {.sample = {.temperature = i % 2 ? 1 : 0, .top_p = 0.9},
                                .seed = (uint64_t)i + 5,
                                .tokens_max = 3 * i + 5};
    return agon_sequence_generate(s, &g, err);
}

static void sequence_take(struct rank_draws *to, int i, const struct agon_sequence *s)
{
    int n;
    const struct agon_drawn *drawn = agon_sequence_drawn(s, &n);
    const int *ids = agon_sequence_ids(s) + agon_sequence_length(s) - n;
    to->n[i] = n;
    for (int k = 0; k < n && k < RANKS_IDS_MAX; k++) {
        to->ids[i][k] = ids[k];
        to->logprobs[i][k] = drawn[k].logprob;
        to->raw[i][k] = drawn[k].logprob_raw;
    }
}

static int broken_run(struct agon_engine *e, const struct agon_forward_trace *trace,
                      struct agon_err *err)
{
    (void)e, (void)trace;
    return agon_fail(err, AGON_EDEVICE, "it broke");
}

static int broken_burst(struct agon_engine *e, int n_steps, struct agon_err *err)
{
    (void)n_steps;
    return broken_run(e, NULL, err);
}

static void engine_break(struct agon_engine *e)
{
    static struct engine_compute_ops broken;
    broken = *e->compute->ops;
    broken.run = broken_run;
    broken.burst = broken.burst ? broken_burst : NULL;
    e->compute->ops = &broken;
}

static int rank_work(struct job *job, int rank, struct agon_err *err)
{
    struct agon_sequence *s[RANKS_SEQUENCES] = {0};
    struct agon_engine_options options = {.device = job->device,
                                          .cpu = AGON_CPU_BEST,
                                          .n_threads = 1,
                                          .n_batch_max = 16,
                                          .n_chunk_max = 64,
                                          .cache_bytes_max = CACHE_BYTES,
                                          .group = job->group,
                                          .rank = rank};
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = NULL;
    int r = agon_engine_new(&e, job->checkpoint, &options, err);
    if (r == 0 && job->breaks && rank == job->n_ranks - 1)
        engine_break(e);
    for (int i = rank; i < RANKS_SEQUENCES && r == 0; i += job->n_ranks)
        if ((r = sequence_begin(&s[i], e, i, err)) == 0)
            r = sequence_start(s[i], i, err);
    while (r == 0 && agon_engine_step(e) > 0)
        ;
    for (int i = rank; i < RANKS_SEQUENCES; i += job->n_ranks) {
        if (r == 0 && agon_sequence_state(s[i]) != AGON_SEQUENCE_LENGTH)
            r = agon_fail(err, AGON_EDEVICE, "sequence %d ended otherwise: %s", i,
                          agon_engine_failure(e));
        if (r == 0)
            sequence_take(job->draws, i, s[i]);
        agon_sequence_free(s[i]);
    }
    return r;
}

static void rank_main(void *user, int rank)
{
    struct job *job = user;
    struct agon_err err;
    if (rank_work(job, rank, &err))
        agon_group_fail(job->group, rank, &err);
}

static int job_run(struct job *job, struct agon_err *err)
{
    struct agon_group *group AGON_AUTO(agon_group_freep) = NULL;
    int r = agon_group_new(&group, job->n_ranks, err);
    job->group = group;
    memset(job->draws, 0, sizeof(*job->draws));
    return r ? r : agon_group_run(group, rank_main, job, err);
}

int rank_draws_make(struct rank_draws *ret, const struct agon_checkpoint *checkpoint,
                    const char *device, int n_ranks, struct agon_err *err)
{
    struct job job = {
        .checkpoint = checkpoint, .device = device, .n_ranks = n_ranks ? n_ranks : 1, .draws = ret};
    if (n_ranks > 0)
        return job_run(&job, err);
    memset(ret, 0, sizeof(*ret));
    return rank_work(&job, 0, err);
}

int rank_draws_break(struct rank_draws *ret, const struct agon_checkpoint *checkpoint,
                     const char *device, int n_ranks, struct agon_err *err)
{
    struct job job = {.checkpoint = checkpoint,
                      .device = device,
                      .n_ranks = n_ranks,
                      .breaks = true,
                      .draws = ret};
    return job_run(&job, err);
}

int rank_draws_differ(const struct rank_draws *a, const struct rank_draws *b)
{
    int n_differ = 0;
    for (int i = 0; i < RANKS_SEQUENCES; i++) {
        int k = 0;
        while (k < a->n[i] && a->ids[i][k] == b->ids[i][k] &&
               memcmp(&a->logprobs[i][k], &b->logprobs[i][k], sizeof(float)) == 0 &&
               memcmp(&a->raw[i][k], &b->raw[i][k], sizeof(float)) == 0)
            k++;
        bool same = a->n[i] == b->n[i] && k == a->n[i] && a->n[i] == 3 * i + 5;
        if (!same && n_differ++ == 0)
            printf("# sequence %d: %d and %d draws; at %d ids %d and %d, logprobs %.9g and %.9g\n",
                   i, a->n[i], b->n[i], k, a->ids[i][k], b->ids[i][k], (double)a->raw[i][k],
                   (double)b->raw[i][k]);
    }
    return n_differ;
}
