/*
 * Completions beside each other in a cache that is too small for all of them (linked with
 * --wrap=agon_engine_new, which sets its size): who is preempted is computed again and draws the
 * same ids with the same log-probabilities and records as in a run that nothing hindered, and who
 * has ended and is not yet read is in nobody's way.
 */
#include "model/replies.h"

#include "base/file.h"
#include "base/rng.h"
#include "model/cache.h"
#include "model/engine.h"
#include "model/trace.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <stdlib.h>

enum { JOBS = 24, CHOICES_MAX = 3, PROMPT_MAX = 150, TOKENS_MAX = 160, STEPS_MAX = 200000 };

static int n_pages; /* 0: as many as the machine's memory has */

int __real_agon_engine_new(struct agon_engine **ret, const struct agon_checkpoint *checkpoint,
                           const struct agon_engine_options *options, struct agon_err *err);
int __wrap_agon_engine_new(struct agon_engine **ret, const struct agon_checkpoint *checkpoint,
                           const struct agon_engine_options *options, struct agon_err *err);

int __wrap_agon_engine_new(struct agon_engine **ret, const struct agon_checkpoint *checkpoint,
                           const struct agon_engine_options *options, struct agon_err *err)
{
    struct agon_engine_options o = *options;
    struct agon_engine *probe = NULL;
    struct agon_cache cache;
    int r = n_pages ? __real_agon_engine_new(&probe, checkpoint, options, err) : 0;
    if (r)
        return r;
    if (probe) {
        agon_cache_init(&cache, agon_engine_config(probe), 0, true, true);
        o.cache_bytes_max = (size_t)n_pages * cache.page_floats * sizeof(float);
        agon_engine_free(probe);
    }
    return __real_agon_engine_new(ret, checkpoint, &o, err);
}

static struct agon_model *model_open(void)
{
    const struct random_checkpoint tiny = {RANDOM_CHECKPOINT_TINY, .seed = 4,
                                           .n_vocab = 600,         .index_topk = 64,
                                           .window = 3000,         .dtype = AGON_F32};
    char dir[64] = "/tmp/agon-test-XXXXXX", spec[128];
    struct agon_model *m = NULL;
    struct agon_err err;
    struct agon_model_options options = {.n_threads = 1,
                                         .record = AGON_TRACE_ROUTING | AGON_TRACE_INDEXER};
    if (!EXPECT(mkdtemp(dir) != NULL))
        return NULL;
    snprintf(spec, sizeof(spec), "local:%s", dir);
    if (!EXPECT(random_checkpoint_write(dir, &tiny, &err) == 0 &&
                agon_model_open(&m, spec, &options, &err) == 0))
        printf("# %s\n", err.text);
    EXPECT(agon_dir_remove(dir, &err) == 0); /* all is in memory */
    return m;
}

/* What one run said. */
struct said {
    enum agon_choice_end end[JOBS][CHOICES_MAX];
    int n[JOBS][CHOICES_MAX];
    int ids[JOBS][CHOICES_MAX][TOKENS_MAX];
    float logprobs[JOBS][CHOICES_MAX][TOKENS_MAX];
    uint64_t record[JOBS][CHOICES_MAX]; /* a hash of its text */
    uint64_t n_preempted;
    int n_steps;
};

static int job_choices(int j)
{
    return 1 + j % CHOICES_MAX;
}

static unsigned job_record(int j)
{
    static const unsigned all =
        AGON_TRACE_TOKENS | AGON_TRACE_MASK | AGON_TRACE_ROUTING | AGON_TRACE_INDEXER;
    return j % 2 ? 0 : all;
}

static uint64_t record_hash(struct agon_reply *reply, int i)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    struct agon_trace *trace AGON_AUTO(agon_trace_freep) = NULL;
    struct agon_err err;
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    if (!EXPECT(agon_reply_trace(reply, i, &trace, &err) == 0))
        return 0;
    agon_trace_json(&text, trace);
    for (size_t k = 0; k < text.size; k++)
        hash = (hash ^ (unsigned char)text.data[k]) * UINT64_C(0x100000001b3);
    return hash;
}

static struct agon_reply *job_new(struct agon_replies *c, int j, int n_prompt, int tokens_max)
{
    struct agon_rng rng;
    int prompt[PROMPT_MAX * 20];
    struct agon_reply *reply = NULL;
    struct agon_err err;
    agon_rng_init(&rng, (uint64_t)j / 4); /* four begin alike */
    for (int i = 0; i < n_prompt; i++)
        prompt[i] = 3 + (int)agon_rng_below(&rng, 256);
    struct agon_reply_options o = {.ids = prompt,
                                   .n_ids = n_prompt,
                                   .n = job_choices(j),
                                   .sample = {.temperature = 1, .top_p = 1},
                                   .seed = (uint64_t)j + 1,
                                   .record = job_record(j),
                                   .tokens_max = tokens_max,
                                   .ignore_eos = j % 2 == 0};
    if (!EXPECT(agon_reply_new(&reply, c, &o, &err) == 0))
        printf("# %s\n", err.text);
    return reply;
}

static void job_read(struct said *s, int j, struct agon_reply *reply)
{
    for (int i = 0; i < job_choices(j); i++) {
        struct agon_choice o = agon_reply_choice(reply, i);
        s->end[j][i] = o.end;
        s->n[j][i] = o.n;
        for (int k = 0; k < o.n && k < TOKENS_MAX; k++) {
            s->ids[j][i][k] = o.ids[k];
            s->logprobs[j][i][k] = o.drawn[k].logprob;
        }
        if (job_record(j) && o.end != AGON_CHOICE_FAILED)
            s->record[j][i] = record_hash(reply, i);
    }
}

/* All jobs, a new one every `apart` steps; `dropped` (or -1) is freed in the middle. */
static void run(struct said *s, int pages, int apart, int dropped)
{
    struct agon_reply *replies[JOBS] = {0};
    struct agon_replies *c = NULL;
    struct agon_replies_stats stats;
    struct agon_err err;
    n_pages = pages;
    memset(s, 0, sizeof(*s));
    struct agon_model *m AGON_AUTO(agon_model_freep) = model_open();
    REQUIRE(m && agon_replies_new(&c, m, &err) == 0);
    int begun = 0, left = 1;
    for (; (left > 0 || begun < JOBS) && s->n_steps < STEPS_MAX; s->n_steps++) {
        if (begun < JOBS && s->n_steps >= begun * apart) {
            replies[begun] = job_new(c, begun, 20 + begun * 37 % (PROMPT_MAX - 20),
                                     30 + begun * 53 % (TOKENS_MAX - 30));
            begun++;
        }
        left = agon_replies_step(c);
        if (s->n_steps == JOBS * apart + 10 && dropped >= 0)
            agon_reply_free(AGON_STEAL(replies[dropped]));
    }
    EXPECT(s->n_steps < STEPS_MAX);
    agon_replies_stats(c, &stats);
    s->n_preempted = stats.n_preempted;
    for (int j = 0; j < JOBS; j++) {
        if (replies[j])
            job_read(s, j, replies[j]);
        agon_reply_free(replies[j]);
    }
    agon_replies_free(c);
}

static void expect_same(const struct said *a, const struct said *b, int but, const char *what)
{
    int n_other = 0;
    for (int j = 0; j < JOBS; j++)
        for (int i = 0; i < job_choices(j) && j != but; i++) {
            size_t n = (size_t)a->n[j][i];
            bool same = a->end[j][i] == b->end[j][i] && a->n[j][i] == b->n[j][i] &&
                        a->record[j][i] == b->record[j][i] &&
                        memcmp(a->ids[j][i], b->ids[j][i], n * sizeof(int)) == 0 &&
                        memcmp(a->logprobs[j][i], b->logprobs[j][i], n * sizeof(float)) == 0;
            if (!same && n_other++ < 3)
                printf("# %s: completion %d, choice %d: end %d and %d, %d and %d ids\n", what, j, i,
                       a->end[j][i], b->end[j][i], a->n[j][i], b->n[j][i]);
        }
    EXPECT(n_other == 0);
}

TEST(who_is_preempted_says_what_it_says_unhindered)
{
    static struct said alone, small;
    run(&alone, 0, 0, -1);
    EXPECT(alone.n_preempted == 0);
    for (int j = 0; j < JOBS; j++)
        for (int i = 0; i < job_choices(j); i++)
            EXPECT(alone.end[j][i] == AGON_CHOICE_LENGTH || alone.end[j][i] == AGON_CHOICE_STOP);
    /* From room for two of them to room for most, all at once and one after the other. */
    static const int pages[] = {24, 40, 90, 130}, apart[] = {0, 1, 7};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 3; k++) {
            char what[64];
            run(&small, pages[i], apart[k], -1);
            snprintf(what, sizeof(what), "%d pages, %d steps apart", pages[i], apart[k]);
            printf("# %s: %d preempted, %d steps (%d unhindered)\n", what, (int)small.n_preempted,
                   small.n_steps, alone.n_steps);
            EXPECT(small.n_preempted > 0);
            expect_same(&alone, &small, -1, what);
        }
}

TEST(who_is_cancelled_among_the_preempted_takes_nobody_along)
{
    static struct said alone, small;
    run(&alone, 0, 0, -1);
    for (int dropped = 0; dropped < JOBS; dropped += 5) {
        run(&small, 40, 0, dropped);
        EXPECT(small.n_preempted > 0);
        expect_same(&alone, &small, dropped, "one is cancelled");
    }
}

/* One ends in the very step in which the other finds no page: its pages are free then. */
TEST(who_ends_in_the_step_in_which_another_finds_no_room_makes_room)
{
    n_pages = 24;
    struct agon_model *m AGON_AUTO(agon_model_freep) = model_open();
    REQUIRE(m);
    for (int tokens_max = 40; tokens_max < 120; tokens_max++) {
        struct agon_replies *c = NULL;
        struct agon_err err;
        REQUIRE(agon_replies_new(&c, m, &err) == 0);
        struct agon_reply *first = job_new(c, 0, 150, tokens_max),
                          *second = job_new(c, 12, 130, 130);
        int steps = 0;
        while (agon_replies_step(c) > 0 && steps++ < STEPS_MAX)
            ;
        if (!EXPECT(agon_reply_choice(first, 0).end == AGON_CHOICE_LENGTH &&
                    agon_reply_choice(second, 0).end == AGON_CHOICE_LENGTH))
            printf("# %d ids\n", tokens_max);
        agon_reply_free(first);
        agon_reply_free(second);
        agon_replies_free(c);
    }
}

TEST(one_that_no_cache_holds_fails_alone)
{
    struct agon_replies *c = NULL;
    struct agon_err err;
    n_pages = 24;
    struct agon_model *m AGON_AUTO(agon_model_freep) = model_open();
    REQUIRE(m && agon_replies_new(&c, m, &err) == 0);
    struct agon_reply *big = job_new(c, 0, PROMPT_MAX * 15, 10), *good = job_new(c, 3, 60, 40);
    int steps = 0;
    while (agon_replies_step(c) > 0 && steps++ < STEPS_MAX)
        ;
    EXPECT(steps < STEPS_MAX);
    EXPECT(agon_reply_choice(big, 0).end == AGON_CHOICE_FAILED);
    EXPECT_TEXT(agon_reply_choice(big, 0).reason, "the cache is too small for it");
    EXPECT(agon_reply_choice(good, 0).n > 0 &&
           agon_reply_choice(good, 0).end != AGON_CHOICE_FAILED);
    agon_reply_free(big);
    agon_reply_free(good);
    agon_replies_free(c);
}
