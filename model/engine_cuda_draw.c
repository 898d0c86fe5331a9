/*
 * Draws on a GPU, and bursts: decode steps that the host does not see one by one. See
 * engine_cuda.c.
 */
#include "model/engine_cuda_internal.h"

#include <string.h>
#include <time.h>

/* ---- draws -------------------------------------------------------------------------- */

/* A slot for the draws of s, the next of which is of position `at`; n_max of them. */
static struct agon_cuda_slot slot_of(const struct agon_sequence *s, int at, int n_max)
{
    const struct agon_generation *g = &s->generation;
    struct agon_cuda_slot slot = {.temperature = g->sample.temperature,
                                  .top_p = g->sample.top_p,
                                  .seed = g->seed,
                                  .top_k = g->sample.top_k,
                                  .n_ids = g->n_ids,
                                  .position = at,
                                  .n_drawn_max = n_max,
                                  .state = AGON_SLOT_RUNNING,
                                  .id = s->ids[at - 1],
                                  .keep = sequence_records_kept(s)};
    for (; slot.n_stop < g->n_stop && slot.n_stop < AGON_SLOT_STOPS_MAX; slot.n_stop++)
        slot.stop[slot.n_stop] = g->stop[slot.n_stop]; /* the host looks at all of them */
    return slot;
}

/* Room for recorded kept sets. */
static int kept_prepare(struct cuda_compute *c, struct agon_err *err)
{
    void *kept, *host;
    int r;
    if (!c->kept) {
        if ((r = agon_cuda_alloc(&kept, KEPT_MAX * sizeof(*c->kept), err)))
            return r;
        c->kept = kept;
    }
    if (c->host_kept)
        return 0;
    if ((r = agon_cuda_host_alloc(&host, KEPT_MAX * sizeof(*c->kept), err)))
        return r;
    c->host_kept = host;
    return 0;
}

static int launch_sampler(struct cuda_compute *c, int n, const int32_t *d_n_rows, bool kept,
                          struct agon_err *err)
{
    struct agon_cuda_sampler sampler = {.logits = c->forward.logits,
                                        .ld_logits = (size_t)c->forward.config->n_vocab,
                                        .n_rows = n,
                                        .n = c->forward.config->n_vocab,
                                        .d_n_rows = d_n_rows,
                                        .slots = c->slots,
                                        .drawn = c->drawn,
                                        .ld_drawn = BURST_MAX,
                                        .kept = kept ? c->kept : NULL,
                                        .n_kept_max = kept ? KEPT_MAX : 0,
                                        .n_kept = c->n_kept,
                                        .scratch = c->sample_scratch};
    return agon_cuda_sample(&sampler, c->stream, err);
}

static int slots_upload(struct cuda_compute *c, int n, struct agon_err *err)
{
    int r = agon_cuda_copy(c->slots, c->host_slots, (size_t)n * sizeof(*c->slots), c->stream, err);
    return r ? r : agon_cuda_set(c->n_kept, 0, sizeof(*c->n_kept), c->stream, err);
}

/* Draws [begin, end) of n slots back to the host: what it waits for by looked_wait(). */
static int look_launch(struct cuda_compute *c, int n, int begin, int end, struct agon_err *err)
{
    size_t size = sizeof(*c->drawn), ld = BURST_MAX * size;
    int r = n == 0 ? 0
                   : agon_cuda_copy_rows(c->host_drawn + begin, c->drawn + begin, ld,
                                         (size_t)(end - begin) * size, (size_t)n, c->stream, err);
    return r || c->engine->group ? r : agon_cuda_event_record(c->looked, c->stream, err);
}

static int look_wait(struct cuda_compute *c, struct agon_err *err)
{
    return c->engine->group ? cuda_wait(c, err) : agon_cuda_event_wait(c->looked, err);
}

/* Kept sets back to the host, those of all draws so far. */
static int kept_download(struct cuda_compute *c, struct agon_err *err)
{
    int r = agon_cuda_copy(c->host_n_kept, c->n_kept, sizeof(*c->n_kept), c->stream, err);
    if (r || (r = cuda_wait(c, err)) || *c->host_n_kept == 0)
        return r;
    size_t n_kept = *c->host_n_kept < KEPT_MAX ? (size_t)*c->host_n_kept : KEPT_MAX;
    r = agon_cuda_copy(c->host_kept, c->kept, n_kept * sizeof(*c->kept), c->stream, err);
    return r ? r : agon_cuda_sync(c->stream, err);
}

static struct agon_sample sample_of(const struct agon_cuda_drawn *drawn)
{
    return (struct agon_sample){.id = drawn->id,
                                .n_kept = drawn->n_kept,
                                .logprob = drawn->logprob,
                                .logprob_raw = drawn->logprob_raw};
}

/* What a part's draw leaves behind, apart from the draw itself. */
static int draw_record(struct cuda_compute *c, struct step_part *part,
                       const struct agon_cuda_drawn *drawn, struct agon_err *err)
{
    struct agon_sequence *s = part->s;
    size_t n_vocab = (size_t)c->forward.config->n_vocab;
    int n = s->generation.n_ids > 0 ? s->generation.n_ids : (int)n_vocab;
    part->memory = true;
    if (s->generation.n_top > 0) {
        int r = agon_cuda_copy(c->host_logits, c->forward.logits + (size_t)part->logits * n_vocab,
                               n_vocab * sizeof(float), c->stream, err);
        if (r || (r = agon_cuda_sync(c->stream, err)))
            return r;
        sequence_record_top(s, &part->sample, c->host_logits, n, c->host_scratch);
    }
    if (s->generation.record & AGON_TRACE_MASK)
        part->memory = sequence_record_kept(
            s, drawn->kept_at >= 0 ? c->host_kept + drawn->kept_at : NULL, drawn->n_kept);
    return 0;
}

static bool records_kept(const struct agon_engine *e)
{
    for (int i = 0; i < e->n_parts; i++)
        if (e->parts[i].logits >= 0 && sequence_records_kept(e->parts[i].s))
            return true;
    return false;
}

int cuda_draw(struct agon_engine *e, struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    bool kept = records_kept(e);
    int r = kept ? kept_prepare(c, err) : 0;
    if (r || e->n_logits == 0)
        return r;
    for (int i = 0; i < e->n_parts; i++)
        if (e->parts[i].logits >= 0)
            c->host_slots[e->parts[i].logits] = slot_of(e->parts[i].s, e->parts[i].end, 1);
    if ((r = slots_upload(c, e->n_logits, err)) ||
        (r = launch_sampler(c, e->n_logits, NULL, kept, err)) ||
        (r = look_launch(c, e->n_logits, 0, 1, err)) || (r = look_wait(c, err)) ||
        (kept && (r = kept_download(c, err))))
        return r;
    for (int i = 0; i < e->n_parts && r == 0; i++) {
        struct step_part *part = &e->parts[i];
        if (part->logits < 0)
            continue;
        const struct agon_cuda_drawn *drawn = &c->host_drawn[part->logits * BURST_MAX];
        part->good = drawn->id >= 0;
        part->sample = sample_of(drawn);
        if (part->good)
            r = draw_record(c, part, drawn, err);
    }
    return r;
}

/* ---- bursts ------------------------------------------------------------------------- */

/* One decode step of at most n_rows slots, launched or recorded. */
static int launch_step(struct cuda_compute *c, int n_rows, int n_max, bool kept,
                       struct agon_err *err)
{
    const int32_t *count = device_at(c, c->count_at);
    struct cuda_pass pass = {.n_rows = n_rows,
                             .n_logits = n_rows,
                             .n_group_rows = n_rows,
                             .n_max = n_max,
                             .ld_pages = cuda_ld_pages(n_max),
                             .apart = true,
                             .slots = c->slots,
                             .n_slots = count};
    int r = cuda_forward_run(&c->forward, &pass, c->stream, err);
    return r ? r : launch_sampler(c, n_rows, count, kept, err);
}

static struct step_graph *graph_find(struct cuda_compute *c, int n_rows, int n_max, bool kept)
{
    for (int i = 0; i < c->n_graphs; i++) {
        struct step_graph *g = &c->graphs[i];
        if (g->n_rows == n_rows && g->n_max == n_max && g->kept == kept)
            return g;
    }
    return NULL;
}

static int graph_make(struct step_graph **ret, struct cuda_compute *c, int n_rows, int n_max,
                      bool kept, struct agon_err *err)
{
    if (c->n_graphs == GRAPHS_MAX) {
        agon_cuda_graph_free(c->graphs[0].graph);
        c->graphs[0] = c->graphs[--c->n_graphs];
    }
    struct step_graph made = {.n_rows = n_rows, .n_max = n_max, .kept = kept};
    struct agon_err ignored;
    int r = agon_cuda_graph_begin(c->stream, err);
    if (r)
        return r;
    if ((r = launch_step(c, n_rows, n_max, kept, err))) {
        void *broken = NULL;
        (void)agon_cuda_graph_end(&broken, c->stream, &ignored); /* the first error is told */
        agon_cuda_graph_free(broken);
        return r;
    }
    if ((r = agon_cuda_graph_end(&made.graph, c->stream, err)))
        return r;
    *ret = &c->graphs[c->n_graphs++];
    **ret = made;
    return 0;
}

/*
 * n_steps steps. A size that has no graph yet is launched once as it is, which loads what its
 * kernels need (not allowed while recording), and then recorded.
 */
static int launch_steps(struct cuda_compute *c, int n_rows, int n_max, bool kept, int n_steps,
                        struct agon_err *err)
{
    struct step_graph *g = graph_find(c, n_rows, n_max, kept);
    int i = 0, r = 0;
    if (!g) {
        if ((r = launch_step(c, n_rows, n_max, kept, err)) ||
            (r = graph_make(&g, c, n_rows, n_max, kept, err)))
            return r;
        i = 1;
    }
    for (; i < n_steps && r == 0; i++)
        r = agon_cuda_graph_run(g->graph, c->stream, err);
    return r;
}

/* What the graph is sized for, and the steps for which it will do: of a group, what all ranks
 * agreed on, so that all record and replay the same launches. */
static void burst_size(const struct agon_engine *e, int *n_steps, int *ret_n_rows, int *ret_n_max)
{
    int n_end = 0, window = e->checkpoint->config.window;
    *ret_n_rows = e->agreed.n_rows;
    *ret_n_max = e->agreed.n_max;
    if (e->group)
        return;
    for (int i = 0; i < e->n_parts; i++)
        n_end = n_end > e->parts[i].end ? n_end : e->parts[i].end;
    *ret_n_rows = engine_bucket(e->n_parts, e->n_batch_max);
    *ret_n_max = engine_bucket(n_end + (*n_steps < LOOK_STEPS ? *n_steps : LOOK_STEPS), window);
    if (*ret_n_max<window && * n_steps> * ret_n_max - n_end)
        *n_steps = *ret_n_max - n_end; /* the next size is slower */
}

/* Slots and page tables of e->parts, whose every row is logits row and slot alike. */
static int burst_prepare(struct cuda_compute *c, struct agon_engine *e, int n_steps, int n_rows,
                         int n_max, struct agon_err *err)
{
    int n = e->n_parts, r;
    for (int i = 0; i < n; i++) {
        const struct step_part *part = &e->parts[i];
        int left = sequence_left(part->s);
        c->host_slots[i] = slot_of(part->s, part->end, left < n_steps ? left : n_steps);
        host_at(c, c->logit_rows_at)[i] = i;
        cuda_put_pages(host_at(c, c->pages_at) + (size_t)i * (size_t)cuda_ld_pages(n_max),
                       cuda_ld_pages(n_max), part->s);
    }
    for (int i = n; i < n_rows; i++)
        host_at(c, c->logit_rows_at)[i] = i;
    *host_at(c, c->count_at) = n;
    if ((r = cuda_copies_flush(c, err)) || (r = cuda_block_upload(c, n, cuda_ld_pages(n_max), err)))
        return r;
    return slots_upload(c, n, err);
}

/* Draws [begin, end) of part i, one after the other, as if the host had seen each. */
static int burst_take(struct cuda_compute *c, struct agon_engine *e, int i, int begin, int end,
                      struct agon_err *err)
{
    struct step_part *part = &e->parts[i];
    struct agon_sequence *s = part->s;
    int r = 0;
    for (int k = begin; k < end && r == 0 && s->state == AGON_SEQUENCE_GENERATING; k++) {
        const struct agon_cuda_drawn *drawn = &c->host_drawn[i * BURST_MAX + k];
        part->good = drawn->id >= 0;
        part->sample = sample_of(drawn);
        if (part->good && (r = draw_record(c, part, drawn, err)))
            return r;
        s->n_cached = part->good && s->n > s->n_cached ? s->n : s->n_cached;
        sequence_advance(s, part);
        e->n_rows_total += part->good;
    }
    return 0;
}

static int burst_take_all(struct cuda_compute *c, struct agon_engine *e, int begin, int end,
                          struct agon_err *err)
{
    int r = look_wait(c, err);
    for (int i = 0; i < e->n_parts && r == 0; i++)
        r = burst_take(c, e, i, begin, end, err);
    return r;
}

/* A burst as far as it is. */
struct burst {
    int n_steps, n_launched, n_taken;
    int n_rows, n_max;
    bool kept;
    struct timespec begun;
};

/* What the host does with the last draws it takes costs time, so these are few. */
static int burst_next_look(const struct burst *b)
{
    enum { LAST_STEPS = 2 };
    int last = b->n_steps - LAST_STEPS, next = b->n_taken + LOOK_STEPS;
    return b->n_taken >= last ? b->n_steps : next < last ? next : last;
}

/* Up to the next look, which is taken while one more step runs. */
static int burst_look(struct cuda_compute *c, struct agon_engine *e, struct burst *b,
                      struct agon_err *err)
{
    int look = burst_next_look(b), beyond = look < b->n_steps ? look + 1 : look, r = 0;
    if (b->n_launched < look)
        r = launch_steps(c, b->n_rows, b->n_max, b->kept, look - b->n_launched, err);
    if (r || (r = look_launch(c, e->n_parts, b->n_taken, look, err)) ||
        (look < beyond && (r = launch_steps(c, b->n_rows, b->n_max, b->kept, 1, err))))
        return r;
    b->n_launched = beyond;
    if ((r = burst_take_all(c, e, b->n_taken, look, err)))
        return r;
    b->n_taken = look;
    return 0;
}

/* Others have their turn when one in 16 has ended, or when time is up. */
static bool burst_ends(const struct agon_engine *e, const struct burst *b)
{
    const long most_ms = 50;
    struct timespec now;
    int n_ended = 0;
    for (int i = 0; i < e->n_parts; i++)
        n_ended += e->parts[i].s->state != AGON_SEQUENCE_GENERATING;
    (void)clock_gettime(CLOCK_MONOTONIC, &now); /* cannot fail */
    long ms = (now.tv_sec - b->begun.tv_sec) * 1000 + (now.tv_nsec - b->begun.tv_nsec) / 1000000;
    return n_ended > e->n_parts / 16 || ms >= most_ms;
}

/* Steps that others count on, or whose kept sets are recorded: the host looks at their end. */
static int burst_whole(struct cuda_compute *c, struct agon_engine *e, const struct burst *b,
                       struct agon_err *err)
{
    int r;
    if ((r = launch_steps(c, b->n_rows, b->n_max, b->kept, b->n_steps, err)) ||
        (r = look_launch(c, e->n_parts, 0, b->n_steps, err)) ||
        (b->kept && (r = kept_download(c, err))))
        return r;
    return burst_take_all(c, e, 0, b->n_steps, err);
}

int cuda_burst(struct agon_engine *e, int n_steps, struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    struct burst b = {.n_steps = n_steps, .kept = records_kept(e)};
    int r = b.kept ? kept_prepare(c, err) : 0;
    if (b.kept) {
        long most = KEPT_MAX / ((long)e->n_parts * e->checkpoint->config.n_vocab);
        most = most < LOOK_STEPS ? most : LOOK_STEPS;
        b.n_steps = most < n_steps ? most > 1 ? (int)most : 1 : n_steps;
    }
    burst_size(e, &b.n_steps, &b.n_rows, &b.n_max);
    (void)clock_gettime(CLOCK_MONOTONIC, &b.begun); /* cannot fail */
    if (r || (r = burst_prepare(c, e, b.n_steps, b.n_rows, b.n_max, err)))
        return r;
    if (e->group || b.kept)
        return burst_whole(c, e, &b, err);
    while (b.n_taken < b.n_steps && r == 0) {
        r = burst_look(c, e, &b, err);
        if (b.n_taken < b.n_steps && burst_ends(e, &b))
            b.n_steps = b.n_launched;
    }
    return r;
}
