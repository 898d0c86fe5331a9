/*
 * The engine on a GPU: passes by cuda_forward.c, draws by the device's sampler. Two ways to step:
 *
 *   run, draw   rows of any kind, launched one by one; the host sees each draw.
 *   burst       decoding rows alone: a graph of one step (rows from slots, pass, draw) is launched
 *               as often as asked; slots, positions and stops stay on the device. The host looks at
 *               the draws every LOOK_STEPS steps, while the next step runs, and goes on while there
 *               is nothing else to do. There is a graph for each size of batch and of context, made
 *               when first needed.
 *
 * What the host prepares for a launch stands in page-locked memory, one block that is copied whole.
 * It is written again only after the stream was waited for.
 */
#include "model/engine_cuda_internal.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_DEFAULT = 1024, CHUNK_DEFAULT = 2048 };

int cuda_wait(struct cuda_compute *c, struct agon_err *err)
{
    return c->engine->group ? cuda_share_sync(&c->share, c->stream, err)
                            : agon_cuda_sync(c->stream, err);
}

/* ---- pages -------------------------------------------------------------------------- */

/* Launch the copies that are due. */
int cuda_copies_flush(struct cuda_compute *c, struct agon_err *err)
{
    struct cuda_forward *f = &c->forward;
    const struct agon_config *config = f->config;
    int n = c->n_copies, r;
    if (n == 0)
        return 0;
    c->n_copies = 0;
    c->copy_round++;
    size_t latent =
        AGON_CUDA_PAGE * agon_latent_bytes(f->latent_format, config->kv_lora, config->rope_dim);
    size_t keys = agon_keys_page_bytes(f->keys_format, config->index_dim);
    size_t experts = AGON_CUDA_PAGE * (size_t)f->n_experts * sizeof(*f->experts);
    size_t selected = AGON_CUDA_PAGE * (size_t)f->n_selected * sizeof(*f->selected);
    if ((r = agon_cuda_copy(c->copies, c->host_copies, 2 * (size_t)n * sizeof(*c->copies),
                            c->stream, err)) ||
        (r = agon_cuda_pages_copy(f->latents, f->latent_layer_bytes, latent, config->n_layers,
                                  c->copies, n, c->stream, err)) ||
        (r = agon_cuda_pages_copy(f->keys, f->keys_layer_bytes, keys, agon_config_indexers(config),
                                  c->copies, n, c->stream, err)) ||
        (r = agon_cuda_pages_copy(f->experts, 0, experts, f->n_experts > 0, c->copies, n, c->stream,
                                  err)) ||
        (r = agon_cuda_pages_copy(f->selected, 0, selected, f->n_selected > 0, c->copies, n,
                                  c->stream, err)))
        return r;
    return agon_cuda_sync(c->stream, err); /* the list is written again */
}

static int cuda_page_copy(struct agon_engine *e, const struct agon_page *to,
                          const struct agon_page *from, struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    /* A page that waits to be read, was given back since, and is to be written. */
    if (c->n_copies == COPIES_MAX || c->copied_from[to->number] == c->copy_round) {
        int r = cuda_copies_flush(c, err);
        if (r)
            return r;
    }
    c->host_copies[2 * c->n_copies] = to->number;
    c->host_copies[2 * c->n_copies++ + 1] = from->number;
    c->copied_from[from->number] = c->copy_round;
    return 0;
}

/* ---- what the host prepares --------------------------------------------------------- */

void cuda_put_pages(int32_t *to, int ld, const struct agon_sequence *s)
{
    int n = s->n_pages < ld ? s->n_pages : ld;
    for (int i = 0; i < n; i++)
        to[i] = s->pages[i]->number;
    for (int i = n; i < ld; i++)
        to[i] = -1;
}

/* The rows of e->parts; returns the largest position + 1. */
static int put_rows(struct cuda_compute *c, const struct agon_engine *e, struct cuda_pass *pass)
{
    int32_t *ids = host_at(c, c->ids_at), *position = host_at(c, c->position_at);
    int32_t *sequence = host_at(c, c->sequence_at), *store = host_at(c, c->store_at);
    int32_t *logit_rows = host_at(c, c->logit_rows_at);
    for (int i = 0; i < e->n_parts; i++)
        pass->n_max = pass->n_max > e->parts[i].end ? pass->n_max : e->parts[i].end;
    pass->ld_pages = cuda_ld_pages(pass->n_max);
    for (int i = 0, r = 0; i < e->n_parts; i++) {
        const struct step_part *part = &e->parts[i];
        cuda_put_pages(host_at(c, c->pages_at) + (size_t)i * (size_t)pass->ld_pages, pass->ld_pages,
                       part->s);
        for (int p = part->begin; p < part->end; p++, r++) {
            const struct agon_row *row = &e->rows[r];
            ids[r] = row->id;
            position[r] = row->position;
            sequence[r] = i;
            store[r] = row->store ? i : -1;
            pass->store_apart |= !row->store;
            pass->forced |= row->experts != NULL;
            if (row->logits >= 0) {
                logit_rows[row->logits] = r;
                pass->n_logits =
                    pass->n_logits > row->logits + 1 ? pass->n_logits : row->logits + 1;
            }
        }
    }
    pass->n_rows = e->n_rows;
    pass->n_group_rows = e->agreed.n_rows;
    return 0;
}

static int put_forced(struct cuda_compute *c, const struct agon_engine *e, struct agon_err *err)
{
    struct cuda_forward *f = &c->forward;
    size_t layers = (size_t)agon_config_sparse_layers(f->config), rows = (size_t)f->n_rows_max;
    size_t top_k = (size_t)f->config->router.top_k,
           bytes = layers * rows * top_k * sizeof(uint16_t);
    int r;
    if (!c->host_forced) {
        void *device, *host;
        if ((r = agon_cuda_alloc(&device, bytes, err)))
            return r;
        f->batch.forced = device;
        if ((r = agon_cuda_host_alloc(&host, bytes, err)))
            return r;
        c->host_forced = host;
    }
    for (size_t l = 0; l < layers; l++)
        for (size_t i = 0; i < (size_t)e->n_rows; i++) {
            const uint16_t *from = e->rows[i].experts;
            uint16_t *to = c->host_forced + (l * rows + i) * top_k;
            for (size_t k = 0; k < top_k; k++)
                to[k] = from ? from[l * top_k + k] : AGON_CUDA_NOT_FORCED;
        }
    return agon_cuda_copy(f->batch.forced, c->host_forced, bytes, c->stream, err);
}

/* The block up to the end of n page tables. */
int cuda_block_upload(struct cuda_compute *c, int n_tables, int ld_pages, struct agon_err *err)
{
    size_t bytes = c->pages_at + (size_t)n_tables * (size_t)ld_pages * sizeof(int32_t);
    return agon_cuda_copy(c->device, c->host, bytes, c->stream, err);
}

/* ---- rows of any kind --------------------------------------------------------------- */

/* What a layer selected, to the trace. */
static int trace_layer(void *user, int layer, struct agon_err *err)
{
    struct cuda_compute *c = user;
    const struct agon_engine *e = c->engine;
    const struct agon_forward_trace *t = c->trace;
    size_t topk = (size_t)c->forward.config->index_topk, n = (size_t)e->n_rows;
    size_t at = (size_t)layer * (size_t)e->n_chunk_max;
    int r;
    if ((r = agon_cuda_copy(t->n_selected + at, c->forward.n_slots, n * sizeof(int32_t), c->stream,
                            err)) ||
        (r = agon_cuda_copy(t->selected + at * topk, c->forward.positions,
                            n * topk * sizeof(int32_t), c->stream, err)))
        return r;
    return agon_cuda_sync(c->stream, err);
}

static int cuda_run(struct agon_engine *e, const struct agon_forward_trace *trace,
                    struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    struct cuda_pass pass = {.select_all = trace != NULL, .user = c};
    int r;
    if (trace)
        pass.layer_done = trace_layer;
    c->trace = trace;
    put_rows(c, e, &pass);
    if ((r = cuda_copies_flush(c, err)) ||
        (r = cuda_block_upload(c, e->n_parts, pass.ld_pages, err)) ||
        (pass.forced && (r = put_forced(c, e, err))) ||
        (r = cuda_forward_run(&c->forward, &pass, c->stream, err)))
        return r;
    if (trace && pass.n_logits > 0) {
        size_t n = (size_t)pass.n_logits * (size_t)c->forward.config->n_vocab;
        if ((r = agon_cuda_copy(c->host_logits, c->forward.logits, n * sizeof(float), c->stream,
                                err)))
            return r;
    }
    return cuda_wait(c, err);
}

static const float *cuda_logits(struct agon_engine *e, int i)
{
    struct cuda_compute *c = cuda_of(e);
    return c->host_logits + (size_t)i * (size_t)c->forward.config->n_vocab;
}

/* ---- records of positions ----------------------------------------------------------- */

static int cuda_experts(struct agon_engine *e, const struct agon_page *page, int slot, int n,
                        uint16_t *ret, struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    const struct cuda_forward *f = &c->forward;
    size_t width = (size_t)f->n_experts;
    size_t at = ((size_t)page->number * AGON_CUDA_PAGE + (size_t)slot) * width;
    int r = cuda_copies_flush(c, err);
    if (r || (r = agon_cuda_copy(ret, f->experts + at, (size_t)n * width * sizeof(*ret), c->stream,
                                 err)))
        return r;
    return agon_cuda_sync(c->stream, err);
}

static int cuda_selected(struct agon_engine *e, const struct agon_page *page, int slot, int n,
                         int32_t *ret, struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    const struct cuda_forward *f = &c->forward;
    size_t width = (size_t)f->n_selected;
    size_t at = ((size_t)page->number * AGON_CUDA_PAGE + (size_t)slot) * width;
    int r = cuda_copies_flush(c, err);
    if (r || (r = agon_cuda_copy(ret, f->selected + at, (size_t)n * width * sizeof(*ret), c->stream,
                                 err)))
        return r;
    return agon_cuda_sync(c->stream, err);
}

static int cuda_weights_changed(struct agon_engine *e, struct agon_err *err)
{
    struct cuda_compute *c = cuda_of(e);
    int r;
    if ((r = agon_cuda_sync(c->stream, err)) || (r = cuda_forward_clear(&c->forward, err)))
        return r;
    r = cuda_weights_replace(&c->forward.weights, e->checkpoint, err);
    return r ? r : cuda_stack_pack(&c->forward, err);
}

/* ---- making and ending it ----------------------------------------------------------- */

static void cuda_free(struct engine_compute *base)
{
    struct cuda_compute *c = (struct cuda_compute *)base;
    for (int i = 0; i < c->n_graphs; i++)
        agon_cuda_graph_free(c->graphs[i].graph);
    void *on_device[] = {c->device, c->forward.batch.forced, c->slots, c->drawn, c->kept,
                         c->n_kept, c->sample_scratch,       c->copies};
    for (size_t i = 0; i < sizeof(on_device) / sizeof(on_device[0]); i++)
        agon_cuda_free(on_device[i]);
    void *locked[] = {c->host,      c->host_forced, c->host_slots,  c->host_drawn,
                      c->host_kept, c->host_n_kept, c->host_copies, c->host_logits};
    for (size_t i = 0; i < sizeof(locked) / sizeof(locked[0]); i++)
        agon_cuda_host_free(locked[i]);
    cuda_share_deinit(&c->share);
    cuda_forward_deinit(&c->forward);
    agon_cuda_event_free(c->looked);
    agon_cuda_stream_free(c->stream);
    free(c->copied_from);
    free(c->host_scratch);
    free(c);
}

/* Where the parts of the block stand. */
static void block_layout(struct cuda_compute *c, const struct agon_engine *e)
{
    size_t rows = (size_t)e->n_chunk_max * sizeof(int32_t), at = 0;
    size_t tables = (size_t)e->n_batch_max * (size_t)cuda_ld_pages(e->checkpoint->config.window);
    c->ids_at = at;
    c->position_at = at += rows;
    c->sequence_at = at += rows;
    c->store_at = at += rows;
    c->logit_rows_at = at += rows;
    c->count_at = at += (size_t)e->n_batch_max * sizeof(int32_t);
    c->pages_at = at += 4 * sizeof(int32_t);
    c->block_bytes = at + tables * sizeof(int32_t);
}

/* Memory of both sides; each pointer set is freed by cuda_free(). */
static int compute_alloc(struct cuda_compute *c, const struct agon_engine *e, struct agon_err *err)
{
    size_t logits = (size_t)e->n_batch_max, n_vocab = (size_t)e->checkpoint->config.n_vocab;
    size_t slots = logits * sizeof(*c->slots), drawn = logits * BURST_MAX * sizeof(*c->drawn);
    size_t copies = 2 * COPIES_MAX * sizeof(*c->copies);
    const struct {
        void *at; /* the address of a pointer */
        size_t bytes;
        bool host;
    } wanted[] = {
        {&c->host, c->block_bytes, true},
        {&c->device, c->block_bytes, false},
        {&c->host_slots, slots, true},
        {&c->slots, slots, false},
        {&c->host_drawn, drawn, true},
        {&c->drawn, drawn, false},
        {&c->host_n_kept, sizeof(*c->n_kept), true},
        {&c->n_kept, sizeof(*c->n_kept), false},
        {&c->host_copies, copies, true},
        {&c->copies, copies, false},
        {&c->host_logits, logits * n_vocab * sizeof(float), true},
        {&c->sample_scratch, agon_cuda_sample_scratch(e->n_batch_max, (int)n_vocab), false},
    };
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *p;
        int r = wanted[i].host ? agon_cuda_host_alloc(&p, wanted[i].bytes, err)
                               : agon_cuda_alloc(&p, wanted[i].bytes, err);
        if (r)
            return agon_err_in(err, r, "engine");
        *(void **)wanted[i].at = p;
    }
    c->host_scratch = malloc(n_vocab * AGON_SAMPLE_SCRATCH);
    return c->host_scratch ? 0 : agon_fail(err, AGON_ENOMEM, "engine: out of memory");
}

static int compute_init(struct cuda_compute *c, struct agon_engine *e,
                        const struct agon_engine_options *options, enum engine_cuda_mode mode,
                        struct agon_err *err)
{
    struct agon_cuda_info info;
    struct cuda_forward_options forward = {.n_rows_max = e->n_chunk_max,
                                           .n_logits_max = e->n_batch_max,
                                           .cache_bytes_max = options->cache_bytes_max,
                                           .fast = mode != ENGINE_CUDA_REFERENCE,
                                           .fp8 = mode == ENGINE_CUDA_FP8,
                                           .stack = mode == ENGINE_CUDA_FAST && !e->group,
                                           .rank = e->rank,
                                           .n_ranks = e->group ? agon_group_ranks(e->group) : 1,
                                           .record_routing = e->record & AGON_TRACE_ROUTING,
                                           .record_indexer = e->record & AGON_TRACE_INDEXER};
    int r;
    block_layout(c, e);
    if ((r = agon_cuda_open(&info, e->rank, err)) || (r = agon_cuda_stream_new(&c->stream, err)) ||
        (r = agon_cuda_event_new(&c->looked, err)) || (r = compute_alloc(c, e, err)) ||
        (r = cuda_forward_init(&c->forward, e->checkpoint, &forward, err)) ||
        (e->group && (r = cuda_share_init(&c->share, &c->forward, e->group, e->rank, err))))
        return r;
    c->forward.batch = (struct cuda_batch){.ids = device_at(c, c->ids_at),
                                           .position = device_at(c, c->position_at),
                                           .sequence = device_at(c, c->sequence_at),
                                           .store = device_at(c, c->store_at),
                                           .logit_rows = device_at(c, c->logit_rows_at),
                                           .pages = device_at(c, c->pages_at)};
    c->copied_from = calloc((size_t)c->forward.n_pages, sizeof(*c->copied_from));
    c->copy_round = 1;
    if (!c->copied_from)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    agon_cache_init_numbers(&e->cache, AGON_CUDA_PAGE, (size_t)c->forward.n_pages);
    e->cache.n_experts = c->forward.n_experts;
    e->cache.n_selected = c->forward.n_selected;
    return 0;
}

int agon_engine_cuda_new(struct agon_engine *e, const struct agon_engine_options *options,
                         enum engine_cuda_mode mode, struct agon_err *err)
{
    static const struct engine_compute_ops ops = {.free = cuda_free,
                                                  .run = cuda_run,
                                                  .logits = cuda_logits,
                                                  .draw = cuda_draw,
                                                  .burst = cuda_burst,
                                                  .page_copy = cuda_page_copy,
                                                  .experts = cuda_experts,
                                                  .selected = cuda_selected,
                                                  .weights_changed = cuda_weights_changed};
    struct cuda_compute *c = calloc(1, sizeof(*c));
    if (!c)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    c->base.ops = &ops;
    c->engine = e;
    e->compute = &c->base;
    e->n_batch_max = e->n_batch_max ? e->n_batch_max : BATCH_DEFAULT;
    e->n_chunk_max = e->n_chunk_max ? e->n_chunk_max : CHUNK_DEFAULT;
    e->n_chunk_max = e->n_chunk_max < e->n_batch_max ? e->n_batch_max : e->n_chunk_max;
    return compute_init(c, e, options, mode, err);
}
