/* The engine on a CPU: passes by forward.c, draws in the threads of its pool. */
#include "model/engine_internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BATCH_DEFAULT = 64, CHUNK_DEFAULT = 256 };

struct cpu_compute {
    struct engine_compute base;
    struct agon_pool *pool;
    struct agon_forward *forward;
    void *sample_scratch; /* [threads][AGON_SAMPLE_SCRATCH * n_vocab] */
};

static struct cpu_compute *cpu_of(struct agon_engine *e)
{
    return (struct cpu_compute *)e->compute;
}

static void cpu_free(struct engine_compute *base)
{
    struct cpu_compute *c = (struct cpu_compute *)base;
    agon_forward_free(c->forward);
    agon_pool_free(c->pool);
    free(c->sample_scratch);
    free(c);
}

static int cpu_run(struct agon_engine *e, const struct agon_forward_trace *trace,
                   struct agon_err *err)
{
    (void)err; /* nothing fails */
    agon_forward_run(cpu_of(e)->forward, e->rows, e->n_rows, trace);
    return 0;
}

static const float *cpu_logits(struct agon_engine *e, int i)
{
    return agon_forward_logits(cpu_of(e)->forward, i);
}

static void sample_task(void *user, int task, int thread)
{
    struct agon_engine *e = user;
    struct step_part *part = &e->parts[task];
    if (part->logits < 0)
        return;
    const struct agon_generation *generation = &part->s->generation;
    size_t n_vocab = (size_t)e->checkpoint->config.n_vocab;
    int n = generation->n_ids > 0 ? generation->n_ids : (int)n_vocab;
    const float *logits = cpu_logits(e, part->logits);
    void *scratch =
        (char *)cpu_of(e)->sample_scratch + (size_t)thread * n_vocab * AGON_SAMPLE_SCRATCH;
    part->good = e->kernels->sample(&part->sample, logits, n, &generation->sample,
                                    sequence_uniform(part->s, part->end), scratch);
    part->memory = true;
    if (part->good)
        part->memory = sequence_record(part->s, &part->sample, logits, n, scratch);
}

static int cpu_draw(struct agon_engine *e, struct agon_err *err)
{
    (void)err; /* nothing fails */
    agon_pool_run(cpu_of(e)->pool, sample_task, e, e->n_parts);
    return 0;
}

static int cpu_page_copy(struct agon_engine *e, const struct agon_page *to,
                         const struct agon_page *from, struct agon_err *err)
{
    (void)err; /* nothing fails */
    memcpy(to->data, from->data, e->cache.page_floats * sizeof(*to->data));
    return 0;
}

static int cpu_experts(struct agon_engine *e, const struct agon_page *page, int slot, int n,
                       uint16_t *ret, struct agon_err *err)
{
    (void)err; /* nothing fails */
    memcpy(ret, agon_page_experts(&e->cache, page, slot),
           (size_t)n * (size_t)e->cache.n_experts * sizeof(*ret));
    return 0;
}

static int cpu_selected(struct agon_engine *e, const struct agon_page *page, int slot, int n,
                        int32_t *ret, struct agon_err *err)
{
    (void)err; /* nothing fails */
    memcpy(ret, agon_page_selected(&e->cache, page, slot),
           (size_t)n * (size_t)e->cache.n_selected * sizeof(*ret));
    return 0;
}

static int cpu_weights_changed(struct agon_engine *e, struct agon_err *err)
{
    (void)e, (void)err; /* the passes read the checkpoint itself */
    return 0;
}

static size_t memory_half(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? (size_t)pages * (size_t)size / 2 : (size_t)1 << 30;
}

int engine_cpu_new(struct agon_engine *e, const struct agon_engine_options *options,
                   struct agon_err *err)
{
    static const struct engine_compute_ops ops = {.free = cpu_free,
                                                  .run = cpu_run,
                                                  .logits = cpu_logits,
                                                  .draw = cpu_draw,
                                                  .page_copy = cpu_page_copy,
                                                  .experts = cpu_experts,
                                                  .selected = cpu_selected,
                                                  .weights_changed = cpu_weights_changed};
    struct cpu_compute *c = calloc(1, sizeof(*c));
    if (!c)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    c->base.ops = &ops;
    e->compute = &c->base;
    e->n_batch_max = e->n_batch_max ? e->n_batch_max : BATCH_DEFAULT;
    e->n_chunk_max = e->n_chunk_max ? e->n_chunk_max : CHUNK_DEFAULT;
    e->n_chunk_max = e->n_chunk_max < e->n_batch_max ? e->n_batch_max : e->n_chunk_max;
    agon_cache_init(&e->cache, &e->checkpoint->config,
                    options->cache_bytes_max ? options->cache_bytes_max : memory_half(),
                    e->record & AGON_TRACE_ROUTING, e->record & AGON_TRACE_INDEXER);
    int r;
    if ((r = agon_pool_new(&c->pool, options->n_threads, err)) ||
        (r = agon_forward_new(&c->forward, e->checkpoint, e->kernels, c->pool, &e->cache,
                              e->n_chunk_max, e->n_batch_max, err)))
        return r;
    c->sample_scratch = malloc((size_t)agon_pool_threads(c->pool) *
                               (size_t)e->checkpoint->config.n_vocab * AGON_SAMPLE_SCRATCH);
    return c->sample_scratch ? 0 : agon_fail(err, AGON_ENOMEM, "engine: out of memory");
}
