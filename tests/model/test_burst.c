/*
 * Several steps in one go: planned by engine_burst.c, done here by a compute that takes the CPU's
 * passes and draws one after the other, as a GPU does without the host in between. What is drawn
 * must be what single steps draw, whatever ends a burst.
 */
#include "kernels/cuda.h"
#include "model/engine_cuda.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <unistd.h>

static struct agon_err err;
static int n_bursts, n_burst_steps;

/* ---- a compute with bursts ---------------------------------------------------------- */

/* Step every part that still goes on, as one batch, n_steps times. */
static int burst(struct agon_engine *e, int n_steps, struct agon_err *error)
{
    struct step_part parts[64];
    int n = e->n_parts;
    n_bursts++;
    memcpy(parts, e->parts, (size_t)n * sizeof(*parts));
    for (int k = 0; k < n_steps; k++) {
        engine_step_begin(e);
        for (int i = 0; i < n; i++) {
            struct agon_sequence *s = parts[i].s;
            int n_pages = s->n_pages;
            if (s->state != AGON_SEQUENCE_GENERATING)
                continue;
            if (!EXPECT(engine_step_add(e, s, s->n, true)) || !EXPECT(s->n_pages == n_pages))
                return agon_fail(error, AGON_EDEVICE, "a burst without pages");
        }
        int r = e->n_parts ? engine_step_run(e, NULL, error) : 0;
        if (r || (e->n_parts && (r = e->compute->ops->draw(e, error))))
            return r;
        for (int i = 0; i < e->n_parts; i++)
            sequence_advance(e->parts[i].s, &e->parts[i]);
        n_burst_steps += e->n_parts > 0;
    }
    return 0;
}

static int broken(struct agon_engine *e, int n_steps, struct agon_err *error)
{
    (void)e, (void)n_steps;
    return agon_fail(error, AGON_EDEVICE, "the device is on fire");
}

static struct engine_compute_ops ops;

static void give_bursts(struct agon_engine *e,
                        int (*fn)(struct agon_engine *e, int n_steps, struct agon_err *error))
{
    ops = *e->compute->ops;
    ops.burst = fn;
    e->compute->ops = &ops;
}

/* ---- a model ------------------------------------------------------------------------ */

static const struct random_checkpoint small = {RANDOM_CHECKPOINT_TINY, .seed = 6,
                                               .n_vocab = 301,         .index_topk = 12,
                                               .window = 150,          .dtype = AGON_F32};

static struct agon_engine *engine_of(struct agon_engine_options options)
{
    static struct agon_checkpoint *made;
    struct agon_engine *e = NULL;
    options.cpu = AGON_CPU_BEST;
    options.n_threads = 1;
    if (!made)
        EXPECT(random_checkpoint_load(&made, NULL, &small, &err) == 0);
    EXPECT(made && agon_engine_new(&e, made, &options, &err) == 0);
    return e;
}

enum { N = 7, N_TOKENS = 45 };
struct made {
    int n[N], ids[N][160];
    enum agon_sequence_state state[N];
};

static struct agon_sequence *begin(struct agon_engine *e, int i, const int *stop)
{
    struct agon_sequence *s = NULL;
    struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 0.9},
                                         .seed = (uint64_t)i,
                                         .tokens_max = i == 3 ? 1000 : N_TOKENS - 5 * i,
                                         .stop = stop,
                                         .n_stop = stop ? 1 : 0,
                                         .record = AGON_TRACE_MASK,
                                         .n_top = i == 6 ? 3 : 0};
    int ids[80];
    for (int k = 0; k < 80; k++)
        ids[k] = 3 + (k * k * 7 + i * 31) % 290;
    EXPECT(agon_sequence_new(&s, e, &err) == 0);
    EXPECT(agon_sequence_append(s, ids, 3 + 11 * i, &err) == 0);
    EXPECT(agon_sequence_generate(s, &generation, &err) == 0);
    return s;
}

static void keep(struct made *m, int i, const struct agon_sequence *s)
{
    m->n[i] = agon_sequence_length(s);
    m->state[i] = agon_sequence_state(s);
    memcpy(m->ids[i], agon_sequence_ids(s), (size_t)m->n[i] * sizeof(int));
}

/* Generate all together; n_top makes the last one keep out of bursts, so it comes after. */
static void generate(struct made *m, struct agon_engine *e, const int *stop)
{
    struct agon_sequence *s[N];
    size_t room = agon_engine_room(e);
    memset(m, 0, sizeof(*m));
    for (int i = 0; i < N; i++)
        s[i] = i < N - 1 ? begin(e, i, stop) : NULL;
    while (agon_engine_step(e) > 0)
        ;
    s[N - 1] = begin(e, N - 1, stop);
    while (agon_engine_step(e) > 0)
        ;
    for (int i = 0; i < N; i++) {
        keep(m, i, s[i]);
        agon_sequence_free(s[i]);
    }
    EXPECT(agon_engine_room(e) == room); /* no page is lost */
}

static void check_bursts(struct agon_engine_options options, const int *stop)
{
    static struct made single, bursts;
    struct agon_engine *a = engine_of((struct agon_engine_options){0}), *b = engine_of(options);
    REQUIRE(a && b);
    generate(&single, a, stop);
    give_bursts(b, burst);
    n_bursts = n_burst_steps = 0;
    generate(&bursts, b, stop);
    EXPECT(n_bursts > 0 && n_burst_steps > n_bursts);
    EXPECT(memcmp(&single, &bursts, sizeof(single)) == 0);
    agon_engine_free(a);
    agon_engine_free(b);
}

TEST(bursts_draw_what_single_steps_draw)
{
    check_bursts((struct agon_engine_options){0}, NULL);
    check_bursts((struct agon_engine_options){.n_batch_max = 2}, NULL);
    check_bursts((struct agon_engine_options){.n_batch_max = 3, .n_chunk_max = 5}, NULL);
}

TEST(a_stop_id_inside_a_burst_ends_it_there)
{
    int stop = 40;
    static struct made free_running;
    struct agon_engine *e = engine_of((struct agon_engine_options){0});
    REQUIRE(e);
    generate(&free_running, e, NULL);
    stop = free_running.ids[3][free_running.n[3] - 20];
    agon_engine_free(e);
    check_bursts((struct agon_engine_options){0}, &stop);
}

TEST(a_cache_too_small_for_a_burst_still_serves_single_steps)
{
    static struct made alone;
    struct agon_cache cache;
    struct agon_engine *e = engine_of((struct agon_engine_options){0});
    REQUIRE(e);
    generate(&alone, e, NULL);
    agon_cache_init(&cache, agon_engine_config(e), 0, false, false);
    agon_engine_free(e);
    /* 3 + 45 ids are 3 pages of 16: five pages do for one and not for two. */
    e = engine_of(
        (struct agon_engine_options){.cache_bytes_max = 5 * cache.page_floats * sizeof(float)});
    REQUIRE(e);
    give_bursts(e, burst);
    struct agon_sequence *s[2] = {begin(e, 0, NULL), begin(e, 0, NULL)};
    while (agon_sequence_state(s[1]) == AGON_SEQUENCE_GENERATING && agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s[1]) == AGON_SEQUENCE_CACHE);
    /* It got as far as its pages: single steps used up what no burst could. */
    EXPECT(agon_sequence_length(s[1]) == 33);
    agon_sequence_forget(s[1]);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s[0]) == AGON_SEQUENCE_LENGTH && agon_sequence_length(s[0]) == 48);
    EXPECT(memcmp(agon_sequence_ids(s[0]), alone.ids[0], 48 * sizeof(int)) == 0);
    agon_sequence_forget(s[0]);
    agon_sequence_resume(s[1]);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(memcmp(agon_sequence_ids(s[1]), alone.ids[0], 48 * sizeof(int)) == 0);
    agon_sequence_free(s[0]);
    agon_sequence_free(s[1]);
    EXPECT(agon_engine_room(e) == 80);
    agon_engine_free(e);
}

TEST(cancelling_and_turns_between_bursts)
{
    struct agon_engine *e = engine_of((struct agon_engine_options){0});
    REQUIRE(e);
    give_bursts(e, burst);
    struct agon_sequence *s = begin(e, 3, NULL), *whole = NULL;
    int id = 5;
    (void)agon_engine_step(e);
    (void)agon_engine_step(e);
    agon_sequence_cancel(s);
    int n = agon_sequence_length(s);
    EXPECT(n > 36 + 1 && agon_sequence_computed(s) == n - 1);
    REQUIRE(agon_sequence_append(s, &id, 1, &err) == 0);
    REQUIRE(agon_sequence_new(&whole, e, &err) == 0);
    REQUIRE(agon_sequence_append(whole, agon_sequence_ids(s), n + 1, &err) == 0);
    struct agon_generation generation = {
        .sample = {.temperature = 1, .top_p = 1}, .seed = 1, .tokens_max = 30};
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    REQUIRE(agon_sequence_generate(whole, &generation, &err) == 0);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(memcmp(agon_sequence_ids(s), agon_sequence_ids(whole), (size_t)(n + 31) * sizeof(int)) ==
           0);
    agon_sequence_free(s);
    agon_sequence_free(whole);
    agon_engine_free(e);
}

TEST(a_device_that_fails_ends_all_and_says_why)
{
    struct agon_engine *e = engine_of((struct agon_engine_options){0});
    REQUIRE(e);
    give_bursts(e, broken);
    struct agon_sequence *s[2] = {begin(e, 0, NULL), begin(e, 1, NULL)};
    while (agon_engine_step(e) > 0)
        ;
    for (int i = 0; i < 2; i++) {
        EXPECT(agon_sequence_state(s[i]) == AGON_SEQUENCE_FAILED);
        agon_sequence_free(s[i]);
    }
    EXPECT_HAS(agon_engine_failure(e), "on fire");
    agon_engine_free(e);
}

/* ---- what a GPU's engine is made of ------------------------------------------------- */

TEST(a_device_that_is_none_is_refused)
{
    struct agon_engine *e;
    struct agon_engine_options options = {.device = "tpu", .cpu = AGON_CPU_BEST};
    struct agon_engine *cpu = engine_of((struct agon_engine_options){0});
    REQUIRE(cpu);
    EXPECT(agon_engine_new(&e, cpu->checkpoint, &options, &err) == AGON_EINPUT);
    EXPECT_TEXT(err.text, "device 'tpu' is none of cpu|cuda|cuda:fp8|cuda:reference");
    options.device = "cuda"; /* what runs it stands beside agon, not beside this program */
    EXPECT(agon_engine_new(&e, cpu->checkpoint, &options, &err) == AGON_EDEVICE);
    EXPECT_HAS(err.text, "agon-cuda.so: this agon was built without CUDA");
    agon_engine_free(cpu);
}

TEST(pages_that_stand_elsewhere_are_numbered_and_counted)
{
    struct agon_cache cache;
    struct agon_page *pages[40];
    bool seen[40] = {0};
    agon_cache_init_numbers(&cache, 64, 40);
    EXPECT(agon_cache_left(&cache) == 40 && cache.page == 64);
    for (int i = 0; i < 40; i++) {
        pages[i] = agon_cache_take(&cache);
        REQUIRE(pages[i] && pages[i]->number >= 0 && pages[i]->number < 40);
        EXPECT(!seen[pages[i]->number] && !pages[i]->data);
        seen[pages[i]->number] = true;
    }
    EXPECT(!agon_cache_take(&cache) && agon_cache_left(&cache) == 0);
    agon_page_unref(&cache, pages[7]);
    EXPECT(agon_cache_take(&cache) == pages[7]);
    agon_cache_deinit(&cache);
}

TEST(buckets_cover_every_size_with_little_waste)
{
    for (int n = 1; n <= 5000; n++) {
        int bucket = engine_bucket(n, 4096);
        EXPECT(bucket == 4096 || (bucket >= n && bucket <= n + n / 2 + 1));
        EXPECT(engine_bucket(bucket, 4096) == bucket);
    }
    EXPECT(engine_bucket(65, 1000) == 96 && engine_bucket(1000, 1000) == 1000);
}
