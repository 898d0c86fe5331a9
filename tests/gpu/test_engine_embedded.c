/* The engine on a GPU against the engine on the CPU: the embedded model (engine.h says where it
 * is). */
#include "base/file.h"
#include "model/tokenizer.h"
#include "tests/gpu/engine.h"

#include <time.h>

TEST(logits_and_selections_of_the_embedded_model_are_the_cpus)
{
    REQUIRE_GPU();
    REQUIRE(embedded());
    check_model(embedded(), "embedded", 700);
}

enum { N_PROMPTS = 200, N_EMBEDDED = 48 };

/* Prompts of real text: pieces of the model's own examples. */
static bool embedded_prompts(struct agon_ids *ids, int *begin)
{
    char path[4096];
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
    (void)snprintf(path, sizeof(path), "%s/EXAMPLES.md", embedded_dir());
    if (agon_file_read(&text, path, 1 << 20, &err) ||
        agon_tokenizer_load(&t, embedded_dir(), embedded()->config.n_vocab, &err)) {
        printf("# %s\n", err.text);
        return false;
    }
    for (int i = 0; i < N_PROMPTS; i++) {
        size_t size = 40 + (size_t)i * 37 % 700, at = (size_t)i * (text.size - 2000) / N_PROMPTS;
        begin[i] = (int)ids->n;
        if (agon_tokenizer_encode(t, (struct agon_str){text.data + at, size}, false, ids, &err))
            return false;
    }
    begin[N_PROMPTS] = (int)ids->n;
    return true;
}

/* Greedy ids of all prompts, [N_PROMPTS][N_EMBEDDED]; returns the seconds. */
static double embedded_greedy(int *ret, const char *device, const int *ids, const int *begin)
{
    static struct agon_sequence *s[N_PROMPTS];
    struct agon_engine *e = engine_of(
        embedded(), device, (struct agon_engine_options){.cache_bytes_max = (size_t)4 << 30});
    struct timespec from, to;
    if (!e)
        return 0;
    (void)clock_gettime(CLOCK_MONOTONIC, &from);
    for (int i = 0; i < N_PROMPTS; i++) {
        struct agon_generation generation = {.tokens_max = N_EMBEDDED};
        EXPECT(agon_sequence_new(&s[i], e, &err) == 0);
        EXPECT(agon_sequence_append(s[i], ids + begin[i], begin[i + 1] - begin[i], &err) == 0);
        EXPECT(agon_sequence_generate(s[i], &generation, &err) == 0);
    }
    while (agon_engine_step(e) > 0)
        ;
    (void)clock_gettime(CLOCK_MONOTONIC, &to);
    for (int i = 0; i < N_PROMPTS; i++) {
        int n = begin[i + 1] - begin[i];
        EXPECT(agon_sequence_length(s[i]) == n + N_EMBEDDED);
        memcpy(ret + (size_t)i * N_EMBEDDED, agon_sequence_ids(s[i]) + n, N_EMBEDDED * sizeof(int));
        agon_sequence_free(s[i]);
    }
    agon_engine_free(e);
    return (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) * 1e-9;
}

TEST(the_embedded_model_writes_the_same_on_200_prompts)
{
    REQUIRE_GPU();
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 20);
    static int begin[N_PROMPTS + 1], cpu[N_PROMPTS][N_EMBEDDED], gpu[N_PROMPTS][N_EMBEDDED];
    REQUIRE(embedded());
    REQUIRE(embedded_prompts(&ids, begin));
    double cpu_s = embedded_greedy(cpu[0], "cpu", ids.data, begin);
    double gpu_s = embedded_greedy(gpu[0], "cuda:reference", ids.data, begin);
    int n_same = 0;
    for (int i = 0; i < N_PROMPTS; i++)
        n_same += memcmp(cpu[i], gpu[i], sizeof(cpu[i])) == 0;
    printf("# %d of %d equal; %zu prompt tokens; CPU %.2f s, GPU %.2f s\n", n_same, N_PROMPTS,
           ids.n, cpu_s, gpu_s);
    EXPECT(n_same == N_PROMPTS);
}

/* Teacher-forced: where the best id of fast mode is another, the reference's margin must be below
 * the logits' error. */
static void check_fast(const char *device)
{
    enum { N = 1200 };
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 20);
    static int begin[N_PROMPTS + 1];
    const struct agon_config *c = &embedded()->config;
    REQUIRE(embedded_prompts(&ids, begin));
    struct agon_engine *reference =
        engine_of(embedded(), "cuda:reference", (struct agon_engine_options){.n_batch_max = 256});
    struct agon_engine *fast =
        engine_of(embedded(), device, (struct agon_engine_options){.n_batch_max = 256});
    struct seen a = seen_new(c, N), b = seen_new(c, N);
    REQUIRE(reference && fast && look(&a, reference, ids.data, N, N, 256) &&
            look(&b, fast, ids.data, N, N, 256));
    int n_differ = 0, n_unsure = 0, n_early = 0;
    double mean[2] = {0, 0};
    double error = 0;
    for (int p = 0; p < N; p++) {
        const float *x = a.logits + (size_t)p * (size_t)c->n_vocab;
        const float *y = b.logits + (size_t)p * (size_t)c->n_vocab;
        int best = 0, other = 0;
        double most = 0;
        for (int i = 0; i < c->n_vocab; i++) {
            best = x[i] > x[best] ? i : best;
            other = y[i] > y[other] ? i : other;
            most = fmax(most, fabs((double)x[i] - (double)y[i]));
        }
        error = fmax(error, row_error(&b, &a, p));
        n_differ += best != other;
        n_early += best != other && p < c->index_topk;
        mean[p >= c->index_topk] += row_error(&b, &a, p);
        n_unsure += best != other && (double)x[best] - (double)x[other] <= 2 * most;
    }
    printf("# %s: %d of %d differ, %d of them within the error; largest relative error %.2g\n",
           device, n_differ, N, n_unsure, error);
    printf("# %d of them where all is selected (mean error %.2g there, %.2g behind)\n", n_early,
           mean[0] / c->index_topk, mean[1] / (N - c->index_topk));
    EXPECT(n_differ <= N / 200 && n_unsure == n_differ);
    seen_free(&a);
    seen_free(&b);
    agon_engine_free(reference);
    agon_engine_free(fast);
}

TEST(fast_mode_says_the_same_where_the_reference_is_sure)
{
    REQUIRE_GPU();
    REQUIRE(embedded());
    check_fast("cuda");
}

/* ---- draws of fast mode ------------------------------------------------------------- */

enum { N_FORKS = 300, N_FORK_IDS = 24, N_SHARED_IDS = 700 };
struct drawn {
    int ids[N_FORKS][N_FORK_IDS];
    struct agon_drawn draws[N_FORKS][N_FORK_IDS];
};

/* What n forks of a beginning draw, from the first-th on. */
static void draw_forks(struct drawn *ret, const char *device, struct agon_engine_options options,
                       int first, int n)
{
    static struct agon_sequence *s[N_FORKS];
    struct agon_sequence *prefix = NULL;
    struct agon_engine *e = engine_of(embedded(), device, options);
    int ids[N_SHARED_IDS];
    if (!e)
        return;
    ids_of(ids, N_SHARED_IDS, 5, embedded()->config.n_vocab);
    EXPECT(agon_sequence_new(&prefix, e, &err) == 0);
    EXPECT(agon_sequence_append(prefix, ids, N_SHARED_IDS, &err) == 0);
    for (int i = first; i < first + n; i++) {
        struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 0.95},
                                             .seed = (uint64_t)i,
                                             .tokens_max = N_FORK_IDS};
        EXPECT(agon_sequence_fork(&s[i], prefix, &err) == 0);
        /* some see a few more ids, so that rows differ in length */
        EXPECT(agon_sequence_append(s[i], ids + 10, i % 5 * 13, &err) == 0);
        EXPECT(agon_sequence_generate(s[i], &generation, &err) == 0);
    }
    while (agon_engine_step(e) > 0)
        ;
    for (int i = first; i < first + n; i++) {
        int n_drawn, begin = N_SHARED_IDS + i % 5 * 13;
        const struct agon_drawn *draws = agon_sequence_drawn(s[i], &n_drawn);
        if (EXPECT(n_drawn == N_FORK_IDS)) {
            memcpy(ret->ids[i], agon_sequence_ids(s[i]) + begin, sizeof(ret->ids[i]));
            memcpy(ret->draws[i], draws, sizeof(ret->draws[i]));
        }
        agon_sequence_free(s[i]);
    }
    agon_sequence_free(prefix);
    agon_engine_free(e);
}

/* Bit for bit; returns how many of them differ. */
static int drawn_differ(const struct drawn *a, const struct drawn *b, int first, int n)
{
    int n_differ = 0;
    for (int i = first; i < first + n; i++)
        for (int k = 0; k < N_FORK_IDS; k++) {
            const struct agon_drawn *x = &a->draws[i][k], *y = &b->draws[i][k];
            if (a->ids[i][k] == b->ids[i][k] &&
                memcmp(&x->logprob, &y->logprob, sizeof(x->logprob)) == 0 &&
                memcmp(&x->logprob_raw, &y->logprob_raw, sizeof(x->logprob_raw)) == 0)
                continue;
            if (n_differ++ < 3)
                printf("# sequence %d, draw %d: %d (%.9g), wanted %d (%.9g)\n", i, k, b->ids[i][k],
                       (double)y->logprob_raw, a->ids[i][k], (double)x->logprob_raw);
            break;
        }
    return n_differ;
}

static void check_forks(const char *device)
{
    static struct drawn all, some;
    static const struct agon_engine_options others[] = {
        {.n_batch_max = 100, .n_chunk_max = 333},
        {.n_batch_max = 7, .n_chunk_max = 64},
        {.n_batch_max = 64, .record = AGON_TRACE_ROUTING | AGON_TRACE_INDEXER}};
    draw_forks(&all, device, (struct agon_engine_options){.n_batch_max = N_FORKS}, 0, N_FORKS);
    for (int i = 0; i < 3; i++) {
        int n = i == 1 ? 21 : 100;
        draw_forks(&some, device, others[i], 0, n);
        EXPECT(drawn_differ(&all, &some, 0, n) == 0);
    }
    for (int i = 0; i < N_FORKS; i += 43) {
        draw_forks(&some, device, (struct agon_engine_options){.n_batch_max = 1}, i, 1);
        EXPECT(drawn_differ(&all, &some, i, 1) == 0);
    }
}

TEST(the_embedded_model_draws_the_same_in_any_batch)
{
    REQUIRE_GPU();
    REQUIRE(embedded());
    check_forks("cuda");
}

/* ---- bursts ------------------------------------------------------------------------- */

enum { N_ENDS = 18, ENDS_APART = 12, N_ENDS_ROOM = 80 + N_ENDS * ENDS_APART };

/* Sequences `first` to first + n, which end one after the other, together. */
static void draw_ends(int ids[][N_ENDS_ROOM], int *lengths, int first, int n)
{
    struct agon_sequence *s[N_ENDS];
    struct agon_engine *e =
        engine_of(embedded(), "cuda", (struct agon_engine_options){.n_batch_max = N_ENDS});
    if (!e)
        return;
    for (int i = first; i < first + n; i++) {
        struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 0.95},
                                             .seed = (uint64_t)i,
                                             .tokens_max = 1 + i * ENDS_APART,
                                             .stop = &(int){7},
                                             .n_stop = 1};
        int begin[70];
        ids_of(begin, 70, 11 + i, embedded()->config.n_vocab);
        EXPECT(agon_sequence_new(&s[i], e, &err) == 0);
        EXPECT(agon_sequence_append(s[i], begin, 50 + i, &err) == 0);
        EXPECT(agon_sequence_generate(s[i], &generation, &err) == 0);
    }
    while (agon_engine_step(e) > 0)
        ;
    for (int i = first; i < first + n; i++) {
        lengths[i] = agon_sequence_length(s[i]);
        EXPECT(agon_sequence_computed(s[i]) == lengths[i] - 1);
        memcpy(ids[i], agon_sequence_ids(s[i]), (size_t)lengths[i] * sizeof(int));
        agon_sequence_free(s[i]);
    }
    agon_engine_free(e);
}

TEST(who_ends_in_a_burst_changes_nothing_for_the_others)
{
    REQUIRE_GPU();
    REQUIRE(embedded());
    static int together[N_ENDS][N_ENDS_ROOM], alone[N_ENDS][N_ENDS_ROOM], n[2][N_ENDS];
    draw_ends(together, n[0], 0, N_ENDS);
    for (int i = 0; i < N_ENDS; i += 4)
        draw_ends(alone, n[1], i, 1);
    for (int i = 0; i < N_ENDS; i += 4) {
        EXPECT(n[0][i] == n[1][i]);
        EXPECT(memcmp(together[i], alone[i], (size_t)n[1][i] * sizeof(int)) == 0);
    }
}
