/* Logits and selections of given ids: a window into the model (engine.h). */
#include "model/engine_internal.h"

#include <stdlib.h>
#include <string.h>

static void trace_free(struct agon_forward_trace *trace)
{
    free(trace->n_selected);
    free(trace->selected);
}

static int trace_alloc(struct agon_forward_trace *trace, const struct agon_engine *e,
                       struct agon_err *err)
{
    const struct agon_config *c = &e->checkpoint->config;
    size_t n = (size_t)c->n_layers * (size_t)e->n_chunk_max;
    trace->n_selected = calloc(n, sizeof(int));
    trace->selected = calloc(n * (size_t)c->index_topk, sizeof(int));
    if (trace->n_selected && trace->selected)
        return 0;
    trace_free(trace);
    return agon_fail(err, AGON_ENOMEM, "trace: out of memory");
}

/* Hand out row r of the step, gathering its selections by layer. */
static void evaluated_call(struct agon_engine *e, const struct agon_forward_trace *trace, int r,
                           int *n_selected, int *selected,
                           void (*fn)(void *user, const struct agon_evaluated *row), void *user)
{
    const struct agon_config *c = &e->checkpoint->config;
    size_t topk = (size_t)c->index_topk;
    for (int i = 0; i < c->n_layers; i++) {
        size_t at = (size_t)i * (size_t)e->n_chunk_max + (size_t)r;
        n_selected[i] = trace->n_selected[at];
        memcpy(selected + (size_t)i * topk, trace->selected + at * topk, topk * sizeof(int));
    }
    struct agon_evaluated row = {.position = e->rows[r].position,
                                 .logits = e->compute->ops->logits(e, e->rows[r].logits),
                                 .n_selected = n_selected,
                                 .selected = selected};
    fn(user, &row);
}

int agon_sequence_evaluate(struct agon_sequence *s, int n_rows_max,
                           void (*fn)(void *user, const struct agon_evaluated *row), void *user,
                           struct agon_err *err)
{
    struct agon_engine *e = s->engine;
    const struct agon_config *c = &e->checkpoint->config;
    struct agon_forward_trace trace;
    int n_most = n_rows_max < e->n_batch_max ? n_rows_max : e->n_batch_max;
    int r = trace_alloc(&trace, e, err);
    if (r)
        return r;
    int *n_selected = calloc((size_t)c->n_layers, sizeof(int));
    int *selected = calloc((size_t)c->n_layers * (size_t)c->index_topk, sizeof(int));
    if (!n_selected || !selected)
        r = agon_fail(err, AGON_ENOMEM, "trace: out of memory");
    while (r == 0 && s->n_cached < s->n) {
        int n = s->n - s->n_cached;
        engine_step_begin(e);
        if (!engine_step_add(e, s, s->n_cached + (n < n_most ? n : n_most), false)) {
            r = agon_fail(err, AGON_ENOMEM, "the cache is full");
            break;
        }
        for (int i = 0; i < e->n_rows; i++)
            e->rows[i].logits = i;
        r = engine_step_run(e, &trace, err);
        for (int i = 0; i < e->n_rows && r == 0; i++)
            evaluated_call(e, &trace, i, n_selected, selected, fn, user);
    }
    trace_free(&trace);
    free(n_selected);
    free(selected);
    return r;
}
