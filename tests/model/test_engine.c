/*
 * The engine against transformers: checkpoints and expected.json in
 * ../shared/spec/engine_vectors (see engine.md 12). And what must not depend on anything:
 * chunks, batches, threads, forks.
 */
#include "base/json.h"
#include "model/engine.h"
#include "tests/model/random_checkpoint.h"
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum { N_IDS_MAX = 128, TOPK_MAX = 16, LAYERS_MAX = 4 };

/* What the engine said of each position of expected.json. */
struct said {
    int n_vocab, n_layers, n_rows;
    int argmax[N_IDS_MAX];
    double sum[N_IDS_MAX], norm[N_IDS_MAX];
    float logits[N_IDS_MAX][512];
    int n_selected[N_IDS_MAX][LAYERS_MAX], selected[N_IDS_MAX][LAYERS_MAX][TOPK_MAX];
};

static void said_row(void *user, const struct agon_evaluated *row)
{
    struct said *said = user;
    int p = row->position;
    said->n_rows++;
    for (int i = 0; i < said->n_vocab; i++) {
        said->logits[p][i] = row->logits[i];
        said->sum[p] += row->logits[i];
        said->norm[p] += (double)row->logits[i] * row->logits[i];
        if (row->logits[i] > row->logits[said->argmax[p]])
            said->argmax[p] = i;
    }
    said->norm[p] = sqrt(said->norm[p]);
    for (int l = 0; l < said->n_layers; l++) {
        said->n_selected[p][l] = row->n_selected[l];
        memcpy(said->selected[p][l], row->selected + (size_t)l * TOPK_MAX, sizeof(int) * TOPK_MAX);
    }
}

struct oracle {
    json_t *expected;
    struct agon_checkpoint *checkpoint;
    int ids[N_IDS_MAX], n;
};

static bool oracle_open(struct oracle *o, const char *name)
{
    char path[1024];
    struct agon_err err;
    *o = (struct oracle){0};
    (void)snprintf(path, sizeof(path), "%s/%s", VECTORS_DIR, name);
    if (access(path, F_OK) != 0)
        return false;
    if (agon_checkpoint_load(&o->checkpoint, path, &err)) {
        printf("# %s\n", err.text);
        test_failures++;
        return false;
    }
    (void)snprintf(path, sizeof(path), "%s/%s/expected.json", VECTORS_DIR, name);
    if (agon_json_load_file(&o->expected, path, 1 << 20, &err))
        return false;
    const json_t *ids = json_object_get(o->expected, "input_ids");
    o->n = (int)json_array_size(ids);
    for (int i = 0; i < o->n; i++)
        o->ids[i] = (int)json_integer_value(json_array_get(ids, (size_t)i));
    return true;
}

static void oracle_close(struct oracle *o)
{
    agon_checkpoint_free(o->checkpoint);
    json_decref(o->expected);
}

/* The first n_together positions in chunks of as many, the rest one by one. */
static bool oracle_run(const struct oracle *o, struct said *said,
                       const struct agon_engine_options *options, int n_first, int chunk)
{
    struct agon_err err;
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = NULL;
    struct agon_sequence *s AGON_AUTO(agon_sequence_freep) = NULL;
    memset(said, 0, sizeof(*said));
    said->n_vocab = o->checkpoint->config.n_vocab;
    said->n_layers = o->checkpoint->config.n_layers;
    bool good = agon_engine_new(&e, o->checkpoint, options, &err) == 0 &&
                agon_sequence_new(&s, e, &err) == 0 &&
                agon_sequence_append(s, o->ids, n_first, &err) == 0 &&
                agon_sequence_evaluate(s, chunk, said_row, said, &err) == 0;
    for (int i = n_first; good && i < o->n; i++)
        good = agon_sequence_append(s, o->ids + i, 1, &err) == 0 &&
               agon_sequence_evaluate(s, 1, said_row, said, &err) == 0;
    if (!good)
        printf("# %s\n", err.text);
    return good && said->n_rows == o->n;
}

static double expected_at(const struct oracle *o, const char *key, int i)
{
    return json_number_value(json_array_get(json_object_get(o->expected, key), (size_t)i));
}

static void check_selected(const struct oracle *o, const struct said *said)
{
    const json_t *topk = json_object_get(o->expected, "topk");
    for (int l = 0; l < said->n_layers; l++) {
        const json_t *rows = json_array_get(topk, (size_t)l);
        int n_rows = (int)json_array_size(rows);
        EXPECT(n_rows == 4);
        for (int r = 0; r < n_rows; r++) {
            const json_t *row = json_array_get(rows, (size_t)r);
            int p = o->n - n_rows + r;
            EXPECT(said->n_selected[p][l] == (int)json_array_size(row));
            for (int s = 0; s < said->n_selected[p][l]; s++)
                EXPECT(said->selected[p][l][s] ==
                       (int)json_integer_value(json_array_get(row, (size_t)s)));
        }
    }
}

static void check_against_oracle(const struct oracle *o, const struct said *said)
{
    for (int p = 0; p < o->n; p++) {
        EXPECT(said->argmax[p] == (int)expected_at(o, "argmax", p));
        EXPECT(fabs(said->sum[p] - expected_at(o, "logits_sum", p)) < 1e-2);
        EXPECT(fabs(said->norm[p] - expected_at(o, "logits_norm", p)) < 1e-3);
    }
    double worst = 0;
    for (int i = 0; i < said->n_vocab; i++)
        worst = fmax(worst, fabs(said->logits[o->n - 1][i] - expected_at(o, "logits_last", i)));
    printf("# largest difference of a logit: %.2g\n", worst);
    EXPECT(worst < 1e-3);
    check_selected(o, said);
}

static void check_model(const char *name)
{
    struct oracle o;
    if (!oracle_open(&o, name))
        SKIP("the vectors in ../shared/spec/engine_vectors are absent");
    static struct said said;
    for (int cpu = AGON_CPU_PLAIN; cpu <= AGON_CPU_AVX512; cpu++) {
        if (!agon_kernels_for((enum agon_cpu)cpu))
            continue;
        struct agon_engine_options options = {
            .cpu = (enum agon_cpu)cpu, .n_threads = 2, .n_batch_max = 128};
        EXPECT(oracle_run(&o, &said, &options, o.n, o.n));
        check_against_oracle(&o, &said);
    }
    oracle_close(&o);
}

TEST(deepseek_v32_says_what_transformers_says)
{
    check_model("tiny_v32");
}

TEST(glm_moe_dsa_says_what_transformers_says)
{
    check_model("tiny_glm_dsa");
}

TEST(incremental_decoding_equals_the_full_pass_bit_for_bit)
{
    struct oracle o;
    if (!oracle_open(&o, "tiny_v32"))
        SKIP("the vectors in ../shared/spec/engine_vectors are absent");
    static struct said full, other;
    struct agon_engine_options options = {.cpu = AGON_CPU_BEST, .n_threads = 1, .n_batch_max = 128};
    REQUIRE(oracle_run(&o, &full, &options, o.n, o.n));
    static const int cuts[][3] = {/* first, chunk, threads */ {1, 1, 1}, {40, 7, 2}, {96, 33, 3}};
    for (int i = 0; i < 3; i++) {
        options.n_threads = cuts[i][2];
        REQUIRE(oracle_run(&o, &other, &options, cuts[i][0], cuts[i][1]));
        EXPECT(memcmp(full.logits, other.logits, sizeof(full.logits)) == 0);
        EXPECT(memcmp(full.selected, other.selected, sizeof(full.selected)) == 0);
    }
    oracle_close(&o);
}

/* ---- generation, on a random checkpoint with odd dimensions --------------------------- */

static const struct random_checkpoint odd = {
    RANDOM_CHECKPOINT_ODD, .seed = 3,      .n_layers = 3, .n_heads = 5,
    .window = 200,         .n_experts = 8, .n_group = 4,  .topk_group = 2,
    .dtype = AGON_E4M3,    .tied = true,   .yarn = true,  .n_shards = 2};

static struct agon_checkpoint *odd_checkpoint(void)
{
    static struct agon_checkpoint *made; /* loaded once for all cases */
    struct agon_err err;
    if (!made && !EXPECT(random_checkpoint_load(&made, NULL, &odd, &err) == 0))
        printf("# %s\n", err.text);
    return made;
}

enum { N_GENERATED = 40, N_SEQUENCES = 9 };

static void prompt_of(int i, int *ids, int *ret_n)
{
    *ret_n = 5 + 13 * i % 60;
    for (int k = 0; k < *ret_n; k++)
        ids[k] = 3 + (k * k * 7 + i * 31) % 290;
}

static struct agon_generation generation_of(int i)
{
    return (struct agon_generation){.sample = {.temperature = i % 3 ? 1 : 0.7,
                                               .top_p = i % 2 ? 0.95 : 1,
                                               .top_k = i % 4 ? 0 : 50},
                                    .seed = (uint64_t)i + 100,
                                    .tokens_max = N_GENERATED};
}

static struct agon_engine *engine_of(struct agon_engine_options options)
{
    struct agon_engine *e = NULL;
    struct agon_err err;
    if (!odd_checkpoint() || agon_engine_new(&e, odd_checkpoint(), &options, &err)) {
        printf("# %s\n", err.text);
        test_failures++;
    }
    return e;
}

/* Generate from the prompts [first, first + n) together; ids [n][N_GENERATED]. */
static void generate(struct agon_engine *e, int first, int n, int *ids, float *logprobs)
{
    struct agon_sequence *s[N_SEQUENCES] = {0};
    struct agon_err err;
    int prompt[128], n_prompt;
    for (int i = 0; i < n; i++) {
        struct agon_generation generation = generation_of(first + i);
        prompt_of(first + i, prompt, &n_prompt);
        REQUIRE(agon_sequence_new(&s[i], e, &err) == 0);
        REQUIRE(agon_sequence_append(s[i], prompt, n_prompt, &err) == 0);
        REQUIRE(agon_sequence_generate(s[i], &generation, &err) == 0);
        if (i == n / 2) /* the others join while some are under way */
            (void)agon_engine_step(e);
    }
    while (agon_engine_step(e) > 0)
        ;
    for (int i = 0; i < n; i++) {
        int n_drawn;
        const struct agon_drawn *drawn = agon_sequence_drawn(s[i], &n_drawn);
        EXPECT(agon_sequence_state(s[i]) == AGON_SEQUENCE_LENGTH && n_drawn == N_GENERATED);
        for (int k = 0; k < n_drawn; k++)
            logprobs[i * N_GENERATED + k] = drawn[k].logprob;
        memcpy(ids + i * N_GENERATED,
               agon_sequence_ids(s[i]) + agon_sequence_length(s[i]) - N_GENERATED,
               N_GENERATED * sizeof(*ids));
        agon_sequence_free(s[i]);
    }
}

TEST(what_is_generated_does_not_depend_on_batch_chunk_or_threads)
{
    static int alone[N_SEQUENCES][N_GENERATED], together[N_SEQUENCES][N_GENERATED];
    static float logprobs[N_SEQUENCES][N_GENERATED], others[N_SEQUENCES][N_GENERATED];
    struct agon_engine *one = engine_of(
        (struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 1, .n_batch_max = 1});
    REQUIRE(one);
    for (int i = 0; i < N_SEQUENCES; i++)
        generate(one, i, 1, alone[i], logprobs[i]);
    agon_engine_free(one);
    static const int sizes[][3] = {/* threads, batch, chunk */ {1, 9, 256}, {2, 4, 7}, {4, 64, 64}};
    for (int i = 0; i < 3; i++) {
        struct agon_engine *e = engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST,
                                                                       .n_threads = sizes[i][0],
                                                                       .n_batch_max = sizes[i][1],
                                                                       .n_chunk_max = sizes[i][2]});
        REQUIRE(e);
        generate(e, 0, N_SEQUENCES, together[0], others[0]);
        EXPECT(memcmp(alone, together, sizeof(alone)) == 0);
        EXPECT(memcmp(logprobs, others, sizeof(logprobs)) == 0);
        agon_engine_free(e);
    }
}

/* Generate n ids from s, alone in the engine. */
static void go_on(struct agon_engine *e, struct agon_sequence *s, uint64_t seed, int n)
{
    struct agon_generation generation = {
        .sample = {.temperature = 1, .top_p = 1}, .seed = seed, .tokens_max = n};
    struct agon_err err;
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    while (agon_engine_step(e) > 0)
        ;
}

static bool same_ids(const struct agon_sequence *a, const struct agon_sequence *b)
{
    int n = agon_sequence_length(a);
    return n == agon_sequence_length(b) &&
           memcmp(agon_sequence_ids(a), agon_sequence_ids(b), (size_t)n * sizeof(int)) == 0;
}

TEST(a_fork_goes_on_as_its_parent_would_and_leaves_it_alone)
{
    struct agon_engine *e =
        engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 2});
    struct agon_sequence *parent, *child, *fresh;
    struct agon_err err;
    int prompt[128], n;
    REQUIRE(e);
    prompt_of(4, prompt, &n);
    REQUIRE(agon_sequence_new(&parent, e, &err) == 0 && agon_sequence_new(&fresh, e, &err) == 0);
    REQUIRE(agon_sequence_append(parent, prompt, n, &err) == 0);
    REQUIRE(agon_sequence_append(fresh, prompt, n, &err) == 0);
    REQUIRE(agon_sequence_fork(&child, parent, &err) == 0);
    uint64_t rows = agon_engine_rows(e);
    go_on(e, child, 1, 30);
    EXPECT(agon_engine_rows(e) - rows == 30); /* nothing of the prompt but its last row again */
    go_on(e, parent, 2, 30);
    go_on(e, fresh, 2, 30);
    EXPECT(same_ids(parent, fresh)); /* the child's writes did not reach the parent's page */
    agon_sequence_truncate(fresh, n);
    go_on(e, fresh, 1, 30);
    EXPECT(same_ids(child, fresh)); /* nor does the past that was cut off show */
    agon_sequence_free(parent);
    go_on(e, child, 3, 20); /* outlives its parent */
    EXPECT(agon_sequence_length(child) == n + 50);
    agon_sequence_free(child);
    agon_sequence_free(fresh);
    agon_engine_free(e);
}

/* Begin to generate n ids from s; the caller steps. */
static void begin(struct agon_sequence *s, uint64_t seed, int n)
{
    struct agon_generation generation = {
        .sample = {.temperature = 1, .top_p = 1}, .seed = seed, .tokens_max = n};
    struct agon_err err;
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
}

TEST(forks_that_write_the_same_page_in_the_same_steps_do_not_meet)
{
    struct agon_engine *e =
        engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 2});
    struct agon_sequence *s[3], *alone;
    struct agon_err err;
    int prompt[128], n;
    REQUIRE(e);
    prompt_of(4, prompt, &n);
    EXPECT(n % AGON_PAGE != 0); /* else no page is shared half full */
    REQUIRE(agon_sequence_new(&s[0], e, &err) == 0);
    REQUIRE(agon_sequence_append(s[0], prompt, n, &err) == 0);
    REQUIRE(agon_sequence_fork(&s[1], s[0], &err) == 0);
    REQUIRE(agon_sequence_fork(&s[2], s[1], &err) == 0);
    for (int i = 0; i < 3; i++)
        begin(s[i], (uint64_t)i, 25);
    while (agon_engine_step(e) > 0)
        ;
    for (int i = 0; i < 3; i++) {
        REQUIRE(agon_sequence_new(&alone, e, &err) == 0);
        REQUIRE(agon_sequence_append(alone, prompt, n, &err) == 0);
        go_on(e, alone, (uint64_t)i, 25);
        EXPECT(same_ids(s[i], alone));
        agon_sequence_free(alone);
    }
    for (int i = 0; i < 3; i++)
        agon_sequence_free(s[i]);
    agon_engine_free(e);
}

TEST(what_is_shared_with_one_that_generates_is_what_it_has_computed)
{
    for (int n_steps = 0; n_steps < 7; n_steps++) {
        struct agon_engine *e = engine_of((struct agon_engine_options){
            .cpu = AGON_CPU_BEST, .n_threads = 1, .n_batch_max = 4, .n_chunk_max = 10});
        struct agon_sequence *other, *s, *alone;
        struct agon_err err;
        int prompt[128], n;
        REQUIRE(e);
        prompt_of(4, prompt, &n);
        REQUIRE(agon_sequence_new(&other, e, &err) == 0 && agon_sequence_new(&s, e, &err) == 0);
        REQUIRE(agon_sequence_append(other, prompt, n, &err) == 0);
        begin(other, 1, 12);
        for (int i = 0; i < n_steps; i++)
            (void)agon_engine_step(e);
        REQUIRE(agon_sequence_share(s, other, n, &err) == 0);
        int n_shared = agon_sequence_length(s);
        EXPECT(n_shared == (10 * n_steps < n ? 10 * n_steps : n));
        REQUIRE(agon_sequence_append(s, prompt + n_shared, n - n_shared, &err) == 0);
        begin(s, 2, 12);
        while (agon_engine_step(e) > 0)
            ;
        REQUIRE(agon_sequence_new(&alone, e, &err) == 0);
        REQUIRE(agon_sequence_append(alone, prompt, n, &err) == 0);
        go_on(e, alone, 2, 12);
        EXPECT(same_ids(s, alone));
        agon_sequence_truncate(alone, n);
        go_on(e, alone, 1, 12);
        EXPECT(same_ids(other, alone));
        agon_sequence_free(other);
        agon_sequence_free(s);
        agon_sequence_free(alone);
        agon_engine_free(e);
    }
}

TEST(turns_in_tokens_equal_one_prompt_with_the_same_ids)
{
    struct agon_engine *e =
        engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 1});
    struct agon_sequence *turns, *whole;
    struct agon_err err;
    int prompt[128], n;
    REQUIRE(e);
    prompt_of(2, prompt, &n);
    REQUIRE(agon_sequence_new(&turns, e, &err) == 0 && agon_sequence_new(&whole, e, &err) == 0);
    REQUIRE(agon_sequence_append(turns, prompt, n, &err) == 0);
    go_on(e, turns, 5, 17);
    REQUIRE(agon_sequence_append(turns, prompt, n, &err) == 0);
    REQUIRE(agon_sequence_append(whole, agon_sequence_ids(turns), agon_sequence_length(turns),
                                 &err) == 0);
    go_on(e, turns, 6, 20);
    go_on(e, whole, 6, 20);
    EXPECT(same_ids(turns, whole));
    agon_sequence_free(turns);
    agon_sequence_free(whole);
    agon_engine_free(e);
}

TEST(generation_ends_at_stop_ids_budget_window_and_cancel)
{
    struct agon_engine *e =
        engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 1});
    struct agon_sequence *s;
    struct agon_err err;
    int prompt[128], n, n_drawn;
    REQUIRE(e);
    prompt_of(1, prompt, &n);
    REQUIRE(agon_sequence_new(&s, e, &err) == 0 && agon_sequence_append(s, prompt, n, &err) == 0);
    go_on(e, s, 9, 10);
    EXPECT(agon_sequence_state(s) == AGON_SEQUENCE_LENGTH && agon_sequence_length(s) == n + 10);
    int stop = agon_sequence_ids(s)[n + 4], first = 0;
    while (agon_sequence_ids(s)[n + first] != stop)
        first++;
    agon_sequence_truncate(s, n);
    struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 1},
                                         .seed = 9,
                                         .tokens_max = 10,
                                         .stop = &stop,
                                         .n_stop = 1};
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s) == AGON_SEQUENCE_STOPPED);
    (void)agon_sequence_drawn(s, &n_drawn);
    EXPECT(n_drawn == first + 1 && agon_sequence_ids(s)[n + first] == stop);

    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    (void)agon_engine_step(e);
    agon_sequence_cancel(s);
    EXPECT(agon_sequence_state(s) == AGON_SEQUENCE_IDLE && agon_engine_step(e) == 0);

    go_on(e, s, 10, 1000);
    EXPECT(agon_sequence_state(s) == AGON_SEQUENCE_LENGTH && agon_sequence_length(s) == odd.window);
    EXPECT(agon_sequence_append(s, prompt, 1, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "window of 200");
    int bad = odd.n_vocab;
    agon_sequence_truncate(s, 3);
    EXPECT(agon_sequence_append(s, &bad, 1, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "token id 301");
    agon_sequence_free(s);
    agon_engine_free(e);
}

TEST(ids_past_the_tokenizers_are_never_drawn)
{
    struct agon_engine *e =
        engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 1});
    struct agon_sequence *s;
    struct agon_err err;
    int prompt[128], n;
    REQUIRE(e);
    prompt_of(1, prompt, &n);
    REQUIRE(agon_sequence_new(&s, e, &err) == 0 && agon_sequence_append(s, prompt, n, &err) == 0);
    struct agon_generation generation = {
        .sample = {.temperature = 5, .top_p = 1}, .tokens_max = 60, .n_ids = 7};
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    while (agon_engine_step(e) > 0)
        ;
    for (int i = n; i < agon_sequence_length(s); i++)
        EXPECT(agon_sequence_ids(s)[i] < 7);
    agon_sequence_free(s);
    agon_engine_free(e);
}

TEST(a_full_cache_ends_the_youngest_and_the_others_go_on)
{
    static int alone[2][N_GENERATED];
    static float logprobs[2][N_GENERATED];
    struct agon_engine *e =
        engine_of((struct agon_engine_options){.cpu = AGON_CPU_BEST, .n_threads = 1});
    REQUIRE(e);
    generate(e, 0, 1, alone[0], logprobs[0]);
    agon_engine_free(e);
    /* 5 + 40 ids are 3 pages; so 4 pages do for one and not for two. */
    struct agon_cache cache;
    agon_cache_init(&cache, &odd_checkpoint()->config, 0, false, false);
    e = engine_of(
        (struct agon_engine_options){.cpu = AGON_CPU_BEST,
                                     .n_threads = 1,
                                     .cache_bytes_max = 4 * cache.page_floats * sizeof(float)});
    struct agon_sequence *s[2];
    struct agon_err err;
    int prompt[128], n;
    struct agon_generation generation = generation_of(0);
    prompt_of(0, prompt, &n);
    for (int i = 0; i < 2; i++) {
        REQUIRE(agon_sequence_new(&s[i], e, &err) == 0);
        REQUIRE(agon_sequence_append(s[i], prompt, n, &err) == 0);
        REQUIRE(agon_sequence_generate(s[i], &generation, &err) == 0);
    }
    while (agon_sequence_state(s[1]) == AGON_SEQUENCE_GENERATING)
        (void)agon_engine_step(e);
    EXPECT(agon_sequence_state(s[1]) == AGON_SEQUENCE_CACHE);
    agon_sequence_free(s[1]);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s[0]) == AGON_SEQUENCE_LENGTH);
    EXPECT(memcmp(agon_sequence_ids(s[0]) + n, alone[0], sizeof(alone[0])) == 0);
    agon_sequence_free(s[0]);
    agon_engine_free(e);
}
