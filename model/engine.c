/*
 * Scheduling: see engine.h. A step takes one row from every sequence that decodes, in the order
 * in which they began, then fills up with rows of those whose ids are not computed yet. Where
 * the cache has no page for a sequence it waits; when nobody can move, the one that began last
 * ends, so the others go on.
 */
#include "model/engine.h"

#include "base/rng.h"
#include "model/engine_cuda.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH_MAX = 4096 };

/* ---- engine ------------------------------------------------------------------------- */

int agon_engine_check_device(const char *device, struct agon_err *err)
{
    static const char *const known[] = {"cpu", "cuda", "cuda:fp8", "cuda:reference"};
    for (size_t i = 0; device && i < sizeof(known) / sizeof(known[0]); i++)
        if (strcmp(device, known[i]) == 0)
            return 0;
    return device ? agon_fail(err, AGON_EINPUT, "device '%.40s' is none of " AGON_DEVICES, device)
                  : 0;
}

static int engine_compute_new(struct agon_engine *e, const struct agon_engine_options *options,
                              struct agon_err *err)
{
    const char *device = options->device ? options->device : "cpu";
    int r = agon_engine_check_device(device, err);
    if (r)
        return r;
    if (strcmp(device, "cpu") == 0)
        return e->checkpoint->open_only
                   ? agon_fail(err, AGON_EINPUT, "engine: the CPU needs the weights in memory")
                   : engine_cpu_new(e, options, err);
    return engine_cuda_new(e, options,
                           strcmp(device, "cuda") == 0       ? ENGINE_CUDA_FAST
                           : strcmp(device, "cuda:fp8") == 0 ? ENGINE_CUDA_FP8
                                                             : ENGINE_CUDA_REFERENCE,
                           err);
}

int agon_engine_checkpoint(struct agon_checkpoint **ret, const char *dir, const char *device,
                           struct agon_err *err)
{
    return !device || strcmp(device, "cpu") == 0 ? agon_checkpoint_load(ret, dir, err)
                                                 : agon_checkpoint_open(ret, dir, err);
}

static int engine_options(struct agon_engine *e, const struct agon_engine_options *options,
                          struct agon_err *err)
{
    e->n_batch_max = options->n_batch_max;
    e->n_chunk_max = options->n_chunk_max;
    if (e->n_batch_max < 0 || e->n_batch_max > BATCH_MAX || e->n_chunk_max < 0 ||
        e->n_chunk_max > BATCH_MAX)
        return agon_fail(err, AGON_EINPUT, "engine: batch %d and chunk %d are not from 1 to %d",
                         e->n_batch_max, e->n_chunk_max, BATCH_MAX);
    e->kernels = agon_kernels_for(options->cpu);
    if (!e->kernels)
        return agon_fail(err, AGON_EINPUT,
                         "engine: this machine lacks the instruction set asked for");
    e->record = options->record;
    e->group = options->group;
    e->rank = options->rank;
    return engine_compute_new(e, options, err);
}

int agon_engine_new(struct agon_engine **ret, const struct agon_checkpoint *checkpoint,
                    const struct agon_engine_options *options, struct agon_err *err)
{
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = calloc(1, sizeof(*e));
    if (!e)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    e->checkpoint = checkpoint;
    int r = engine_options(e, options, err);
    if (r && options->group)
        agon_group_fail(options->group, options->rank, err); /* the others wait for it */
    if (r)
        return r;
    e->rows = calloc((size_t)e->n_chunk_max, sizeof(*e->rows));
    e->parts = calloc((size_t)e->n_chunk_max, sizeof(*e->parts));
    if (!e->rows || !e->parts)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    *ret = AGON_STEAL(e);
    return 0;
}

void agon_engine_free(struct agon_engine *e)
{
    if (!e)
        return;
    assert(!e->all);
    if (e->compute)
        e->compute->ops->free(e->compute);
    agon_cache_deinit(&e->cache);
    free(e->rows);
    free(e->parts);
    free(e);
}

const struct agon_config *agon_engine_config(const struct agon_engine *e)
{
    return &e->checkpoint->config;
}

int agon_engine_generating(const struct agon_engine *e)
{
    int n = 0;
    for (const struct agon_sequence *s = e->first; s; s = s->next)
        n++;
    return n;
}

size_t agon_engine_room(const struct agon_engine *e)
{
    return agon_cache_left(&e->cache) * (size_t)e->cache.page;
}

int agon_engine_weights_changed(struct agon_engine *e, struct agon_err *err)
{
    assert(!e->first);
    for (struct agon_sequence *s = e->all; s; s = s->all_next)
        agon_sequence_forget(s);
    e->version++;
    return e->compute->ops->weights_changed(e, err);
}

const char *agon_engine_failure(const struct agon_engine *e)
{
    return e->failure.text;
}

uint64_t agon_engine_version(const struct agon_engine *e)
{
    return e->version;
}

uint64_t agon_engine_rows(const struct agon_engine *e)
{
    return e->n_rows_total;
}

/* ---- sequences ---------------------------------------------------------------------- */

int agon_sequence_new(struct agon_sequence **ret, struct agon_engine *e, struct agon_err *err)
{
    struct agon_sequence *s = calloc(1, sizeof(*s));
    if (!s)
        return agon_fail(err, AGON_ENOMEM, "sequence: out of memory");
    s->engine = e;
    s->all_next = e->all;
    if (e->all)
        e->all->all_previous = s;
    e->all = s;
    *ret = s;
    return 0;
}

static void sequence_unlink(struct agon_sequence *s, enum agon_sequence_state state)
{
    struct agon_engine *e = s->engine;
    if (s->state == AGON_SEQUENCE_GENERATING) {
        *(s->previous ? &s->previous->next : &e->first) = s->next;
        *(s->next ? &s->next->previous : &e->last) = s->previous;
        s->previous = s->next = NULL;
    }
    s->state = state;
}

void agon_sequence_free(struct agon_sequence *s)
{
    if (!s)
        return;
    sequence_unlink(s, AGON_SEQUENCE_IDLE);
    agon_sequence_forget(s);
    *(s->all_previous ? &s->all_previous->all_next : &s->engine->all) = s->all_next;
    if (s->all_next)
        s->all_next->all_previous = s->all_previous;
    sequence_record_free(s);
    free(s->ids);
    free(s->pages);
    free(s->drawn);
    free(s);
}

bool engine_grow(void *array, int *capacity, int n, size_t item)
{
    if (n >= 0 && n <= *capacity)
        return true;
    if (n < 0 || n > 1 << 29) /* doubling would overflow */
        return false;
    int wanted = *capacity ? *capacity : 64;
    while (wanted < n)
        wanted *= 2;
    void **at = array, *grown = realloc(*at, (size_t)wanted * item);
    if (!grown)
        return false;
    *at = grown;
    *capacity = wanted;
    return true;
}

int agon_sequence_append(struct agon_sequence *s, const int *ids, int n, struct agon_err *err)
{
    const struct agon_config *c = &s->engine->checkpoint->config;
    for (int i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= c->n_vocab)
            return agon_fail(err, AGON_EINPUT, "token id %d is not from 0 to %d", ids[i],
                             c->n_vocab - 1);
    if (n > c->window - s->n)
        return agon_fail(err, AGON_EINPUT, "%d tokens and %d more are over the window of %d", s->n,
                         n, c->window);
    if (!engine_grow(&s->ids, &s->capacity, s->n + n, sizeof(*s->ids)))
        return agon_fail(err, AGON_ENOMEM, "sequence: out of memory");
    if (n > 0)
        memcpy(s->ids + s->n, ids, (size_t)n * sizeof(*ids));
    s->n += n;
    return 0;
}

static int pages_for(const struct agon_sequence *s, int n)
{
    int page = s->engine->cache.page;
    return (n + page - 1) / page;
}

void agon_sequence_truncate(struct agon_sequence *s, int n)
{
    assert(n >= 0 && n <= s->n);
    s->n = n;
    s->n_cached = s->n_cached < n ? s->n_cached : n;
    while (s->n_pages > pages_for(s, s->n_cached))
        agon_page_unref(&s->engine->cache, s->pages[--s->n_pages]);
}

void agon_sequence_forget(struct agon_sequence *s)
{
    s->n_cached = 0;
    while (s->n_pages > 0)
        agon_page_unref(&s->engine->cache, s->pages[--s->n_pages]);
}

int agon_sequence_computed(const struct agon_sequence *s)
{
    return s->n_cached;
}

void agon_sequence_force(struct agon_sequence *s, const uint16_t *experts, int n_rows)
{
    s->forced = experts;
    s->n_forced = n_rows;
}

int agon_sequence_length(const struct agon_sequence *s)
{
    return s->n;
}

const int *agon_sequence_ids(const struct agon_sequence *s)
{
    return s->ids;
}

enum agon_sequence_state agon_sequence_state(const struct agon_sequence *s)
{
    return s->state;
}

const struct agon_drawn *agon_sequence_drawn(const struct agon_sequence *s, int *ret_n)
{
    *ret_n = s->n_drawn;
    return s->drawn;
}

/* A page shared with others is copied. */
bool sequence_reserve(struct agon_sequence *s, int end)
{
    struct agon_cache *cache = &s->engine->cache;
    if (!engine_grow(&s->pages, &s->page_capacity, pages_for(s, end), sizeof(struct agon_page *)))
        return false;
    int first = s->n_cached / cache->page;
    if (end > s->n_cached && first < s->n_pages && s->pages[first]->n_refs > 1) {
        struct agon_page *copy = agon_cache_take(cache);
        if (!copy)
            return false;
        if (s->engine->compute->ops->page_copy(s->engine, copy, s->pages[first],
                                               &s->engine->failure)) {
            agon_page_unref(cache, copy);
            return false; /* the device failed: so will the next run */
        }
        agon_page_unref(cache, s->pages[first]);
        s->pages[first] = copy;
    }
    while (s->n_pages < pages_for(s, end)) {
        struct agon_page *page = agon_cache_take(cache);
        if (!page)
            return false;
        s->pages[s->n_pages++] = page;
    }
    return true;
}

/* ---- a step ------------------------------------------------------------------------- */

void engine_step_begin(struct agon_engine *e)
{
    e->n_rows = e->n_parts = e->n_logits = 0;
}

/* Where the next computation of s begins: the last position again if all are cached, since its
 * logits are wanted. */
static int sequence_begin(const struct agon_sequence *s)
{
    return s->n_cached < s->n ? s->n_cached : s->n - 1;
}

/* Add positions [begin, end) of s to the step; false where the cache has no room. */
bool engine_step_add(struct agon_engine *e, struct agon_sequence *s, int end, bool logits)
{
    if (!sequence_reserve(s, end))
        return false;
    struct step_part *part = &e->parts[e->n_parts++];
    *part = (struct step_part){.s = s, .begin = sequence_begin(s), .end = end, .logits = -1};
    const struct agon_config *c = &e->checkpoint->config;
    size_t width = s->forced ? (size_t)agon_config_sparse_layers(c) * (size_t)c->router.top_k : 0;
    for (int p = part->begin; p < end; p++)
        e->rows[e->n_rows++] =
            (struct agon_row){.id = s->ids[p],
                              .position = p,
                              .store = p >= s->n_cached,
                              .logits = -1,
                              .pages = s->pages,
                              .experts = p < s->n_forced ? s->forced + (size_t)p * width : NULL};
    if (logits)
        e->rows[e->n_rows - 1].logits = part->logits = e->n_logits++;
    return true;
}

/* What was planned, and agreed upon where there are other ranks. */
static int step_compute(struct agon_engine *e, const struct agon_forward_trace *trace,
                        struct agon_err *err)
{
    int r = e->compute->ops->run(e, trace, err);
    if (r)
        return r;
    e->n_rows_total += (uint64_t)e->n_rows;
    for (int i = 0; i < e->n_parts; i++)
        if (e->parts[i].s->n_cached < e->parts[i].end)
            e->parts[i].s->n_cached = e->parts[i].end;
    return 0;
}

int engine_step_run(struct agon_engine *e, const struct agon_forward_trace *trace,
                    struct agon_err *err)
{
    e->agreed = (struct agon_group_plan){.kind = AGON_GROUP_PASS, .n_rows = e->n_rows};
    int r = e->group ? agon_group_meet(e->group, &e->agreed, err) : 0;
    if (r || (r = step_compute(e, trace, err)) == 0)
        return r;
    if (e->group)
        agon_group_fail(e->group, e->rank, err);
    return r;
}

void engine_step_fill(struct agon_engine *e)
{
    int n_chosen = 0;
    engine_step_begin(e);
    for (struct agon_sequence *s = e->first; s && n_chosen < e->n_batch_max;
         s = s->next, n_chosen++)
        if (s->n - sequence_begin(s) == 1)
            (void)engine_step_add(e, s, s->n, true); /* no room: it waits */
    n_chosen = 0;
    for (struct agon_sequence *s = e->first; s && n_chosen < e->n_batch_max;
         s = s->next, n_chosen++) {
        int n_wanted = s->n - sequence_begin(s), n_room = e->n_chunk_max - e->n_rows;
        if (n_wanted == 1 || n_room == 0)
            continue;
        int n = n_wanted < n_room ? n_wanted : n_room;
        (void)engine_step_add(e, s, sequence_begin(s) + n, n == n_wanted); /* no room: it waits */
    }
}

double sequence_uniform(const struct agon_sequence *s, int position)
{
    struct agon_rng seed, at;
    agon_rng_init(&seed, s->generation.seed);
    at = agon_rng_split_int(&seed, (uint64_t)position);
    return agon_rng_real(&at);
}

static bool is_stop(const struct agon_generation *generation, int id)
{
    for (int i = 0; i < generation->n_stop; i++)
        if (generation->stop[i] == id)
            return true;
    return false;
}

void sequence_advance(struct agon_sequence *s, const struct step_part *part)
{
    const struct agon_sample *sample = &part->sample;
    if (!part->good || !part->memory) {
        sequence_unlink(s, part->good ? AGON_SEQUENCE_MEMORY : AGON_SEQUENCE_NAN);
        return;
    }
    /* Room for both was made in agon_sequence_generate(). */
    s->ids[s->n++] = sample->id;
    s->drawn[s->n_drawn++] = (struct agon_drawn){.logprob = (float)sample->logprob,
                                                 .logprob_raw = (float)sample->logprob_raw,
                                                 .n_kept = sample->n_kept};
    if (is_stop(&s->generation, sample->id))
        sequence_unlink(s, AGON_SEQUENCE_STOPPED);
    else if (s->n_drawn == s->generation.tokens_max || s->n == s->engine->checkpoint->config.window)
        sequence_unlink(s, AGON_SEQUENCE_LENGTH);
}

int engine_fail(struct agon_engine *e)
{
    if (e->group)
        agon_group_fail(e->group, e->rank, &e->failure);
    while (e->first)
        sequence_unlink(e->first, AGON_SEQUENCE_FAILED);
    return 0;
}

int engine_step_nobody(struct agon_engine *e)
{
    sequence_unlink(e->last, AGON_SEQUENCE_CACHE);
    int n = agon_engine_generating(e);
    return e->group && n == 0 ? 1 : n; /* the other ranks may go on */
}

int engine_step_take(struct agon_engine *e)
{
    int r = step_compute(e, NULL, &e->failure);
    if (r || (r = e->compute->ops->draw(e, &e->failure)))
        return r;
    for (int i = 0; i < e->n_parts; i++)
        if (e->parts[i].logits >= 0)
            sequence_advance(e->parts[i].s, &e->parts[i]);
    return 0;
}

int agon_engine_step(struct agon_engine *e)
{
    int n_steps;
    if (e->group)
        return engine_group_step(e);
    if (!e->first)
        return 0;
    if (engine_burst_begin(e, &n_steps)) {
        if (e->compute->ops->burst(e, n_steps, &e->failure))
            return engine_fail(e);
        engine_burst_end(e);
        return agon_engine_generating(e);
    }
    engine_step_fill(e);
    if (e->n_parts == 0)
        return engine_step_nobody(e);
    return engine_step_take(e) ? engine_fail(e) : agon_engine_generating(e);
}

/* ---- generation --------------------------------------------------------------------- */

static void sequence_link(struct agon_sequence *s)
{
    s->state = AGON_SEQUENCE_GENERATING;
    s->previous = s->engine->last;
    *(s->previous ? &s->previous->next : &s->engine->first) = s;
    s->engine->last = s;
}

int agon_sequence_generate(struct agon_sequence *s, const struct agon_generation *generation,
                           struct agon_err *err)
{
    const struct agon_config *c = &s->engine->checkpoint->config;
    assert(s->state != AGON_SEQUENCE_GENERATING);
    if (s->n == 0)
        return agon_fail(err, AGON_EINPUT, "sequence: nothing to go on from");
    if (generation->n_ids < 0 || generation->n_ids > c->n_vocab)
        return agon_fail(err, AGON_EINPUT, "n_ids: %d is not from 0 to %d", generation->n_ids,
                         c->n_vocab);
    assert(generation->n_top >= 0 && generation->n_top <= AGON_TOP_MAX);
    if (generation->tokens_max < 1)
        return agon_fail(err, AGON_EINPUT, "tokens_max: %d is below 1", generation->tokens_max);
    s->n_drawn = 0;
    s->state = AGON_SEQUENCE_IDLE;
    if (s->n == c->window) {
        s->state = AGON_SEQUENCE_LENGTH;
        return 0;
    }
    int n = generation->tokens_max < c->window - s->n ? generation->tokens_max : c->window - s->n;
    if (!engine_grow(&s->ids, &s->capacity, s->n + n, sizeof(*s->ids)) ||
        !engine_grow(&s->drawn, &s->drawn_capacity, n, sizeof(*s->drawn)))
        return agon_fail(err, AGON_ENOMEM, "sequence: out of memory");
    s->generation = *generation;
    if (!sequence_record_begin(s, n))
        return agon_fail(err, AGON_ENOMEM, "sequence: out of memory");
    sequence_link(s);
    return 0;
}

void agon_sequence_resume(struct agon_sequence *s)
{
    assert(s->state == AGON_SEQUENCE_CACHE);
    sequence_link(s);
}

void agon_sequence_cancel(struct agon_sequence *s)
{
    sequence_unlink(s, AGON_SEQUENCE_IDLE);
}

int agon_sequence_compute(struct agon_sequence *s, struct agon_err *err)
{
    struct agon_engine *e = s->engine;
    while (s->n_cached < s->n) {
        int n = s->n - s->n_cached;
        engine_step_begin(e);
        if (!engine_step_add(e, s, s->n_cached + (n < e->n_chunk_max ? n : e->n_chunk_max), false))
            return agon_fail(err, AGON_ENOMEM, "the cache is full (%zu pages of %d positions)",
                             e->cache.n_pages_max, e->cache.page);
        int r = engine_step_run(e, NULL, err);
        if (r)
            return r;
    }
    return 0;
}

int agon_sequence_share(struct agon_sequence *s, struct agon_sequence *other, int n,
                        struct agon_err *err)
{
    assert(s->n == 0 && n <= other->n);
    int r = 0;
    if (other->state != AGON_SEQUENCE_GENERATING && other->n_cached < n)
        r = agon_sequence_compute(other, err);
    n = n < other->n_cached ? n : other->n_cached;
    if (r || (r = agon_sequence_append(s, other->ids, n, err)))
        return r;
    if (!engine_grow(&s->pages, &s->page_capacity, pages_for(s, n), sizeof(struct agon_page *)))
        return agon_fail(err, AGON_ENOMEM, "sequence: out of memory");
    for (; s->n_pages < pages_for(s, n); s->n_pages++) {
        s->pages[s->n_pages] = other->pages[s->n_pages];
        s->pages[s->n_pages]->n_refs++;
    }
    s->n_cached = n;
    return 0;
}

int agon_sequence_fork(struct agon_sequence **ret, struct agon_sequence *parent,
                       struct agon_err *err)
{
    assert(parent->state != AGON_SEQUENCE_GENERATING);
    struct agon_sequence *s AGON_AUTO(agon_sequence_freep) = NULL;
    int r;
    if ((r = agon_sequence_new(&s, parent->engine, err)) ||
        (r = agon_sequence_share(s, parent, parent->n, err)))
        return r;
    *ret = AGON_STEAL(s);
    return 0;
}
