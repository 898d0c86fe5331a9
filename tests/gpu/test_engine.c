/*
 * The engine on a GPU against the engine on the CPU: logits, selections and draws of random models
 * with odd dimensions. What must not depend on anything: batch, chunks, bursts, forks.
 */
#include "base/file.h"
#include "model/score.h"
#include "tests/gpu/engine.h"
#include "tests/model/random_checkpoint.h"

#include <unistd.h>

/* ---- models ------------------------------------------------------------------------- */

static const struct random_checkpoint configs[] = {
    {RANDOM_CHECKPOINT_ODD, .seed = 3, .n_layers = 3, .n_heads = 5, .window = 400, .n_experts = 8,
     .n_group = 4, .topk_group = 2, .dtype = AGON_E4M3, .tied = true, .yarn = true, .n_shards = 2},
    {.seed = 4,
     .n_vocab = 512,
     .hidden = 128,
     .n_layers = 4,
     .n_heads = 4,
     .q_lora = 64,
     .kv_lora = 64,
     .nope = 32,
     .rope = 16,
     .v = 32,
     .index_heads = 4,
     .index_dim = 32,
     .index_topk = 64,
     .window = 1024,
     .dense = 256,
     .n_dense = 2,
     .expert = 64,
     .n_experts = 16,
     .top_k = 4,
     .n_shared = 1,
     .n_group = 1,
     .topk_group = 1,
     .dtype = AGON_BF16,
     .n_shards = 1},
    {.seed = 5,
     .n_vocab = 333,
     .hidden = 100,
     .n_layers = 2,
     .n_heads = 3,
     .q_lora = 36,
     .kv_lora = 20,
     .nope = 8,
     .rope = 4,
     .v = 12,
     .index_heads = 2,
     .index_dim = 16,
     .index_topk = 7,
     .window = 300,
     .dense = 40,
     .n_dense = 0,
     .expert = 20,
     .n_experts = 6,
     .top_k = 2,
     .n_shared = 0,
     .n_group = 2,
     .topk_group = 1,
     .dtype = AGON_F32,
     .n_shards = 1},
};
enum { N_CONFIGS = sizeof(configs) / sizeof(configs[0]) };

static struct agon_checkpoint *random_model(int i)
{
    static struct agon_checkpoint *made[N_CONFIGS]; /* loaded once for all cases */
    if (!made[i] && !EXPECT(random_checkpoint_load(&made[i], NULL, &configs[i], &err) == 0))
        printf("# %s\n", err.text);
    return made[i];
}

TEST(logits_and_selections_of_odd_models_are_the_cpus)
{
    REQUIRE_GPU();
    for (int i = 0; i < N_CONFIGS; i++) {
        char name[32];
        REQUIRE(random_model(i));
        (void)snprintf(name, sizeof(name), "random %d", i);
        check_model(random_model(i), name, 200);
    }
}

/* ---- generation --------------------------------------------------------------------- */

enum { N_SEQUENCES = 9, N_GENERATED = 40 };
struct made {
    int n[N_SEQUENCES], ids[N_SEQUENCES][512];
    float logprobs[N_SEQUENCES][N_GENERATED], raw[N_SEQUENCES][N_GENERATED];
};

static void generate(struct made *m, struct agon_engine *e, int first, int n, double temperature)
{
    struct agon_sequence *s[N_SEQUENCES] = {0};
    const struct agon_config *c = agon_engine_config(e);
    int prompt[128];
    for (int i = 0; i < n; i++) {
        int k = first + i, n_prompt = 5 + 13 * k % 90;
        struct agon_generation generation = {.sample = {.temperature = temperature,
                                                        .top_p = k % 2 ? 0.9 : 1,
                                                        .top_k = k % 4 ? 0 : 50},
                                             .seed = (uint64_t)k + 100,
                                             .tokens_max = N_GENERATED - k % 3};
        ids_of(prompt, n_prompt, k, c->n_vocab);
        REQUIRE(agon_sequence_new(&s[i], e, &err) == 0);
        REQUIRE(agon_sequence_append(s[i], prompt, n_prompt, &err) == 0);
        REQUIRE(agon_sequence_generate(s[i], &generation, &err) == 0);
        if (i == n / 2) /* the others join while some are under way */
            (void)agon_engine_step(e);
    }
    while (agon_engine_step(e) > 0)
        ;
    for (int i = 0; i < n; i++) {
        int n_drawn, k = first + i;
        const struct agon_drawn *drawn = agon_sequence_drawn(s[i], &n_drawn);
        if (!EXPECT(agon_sequence_state(s[i]) == AGON_SEQUENCE_LENGTH))
            printf("# state %d: %s\n", (int)agon_sequence_state(s[i]), agon_engine_failure(e));
        EXPECT(n_drawn == N_GENERATED - k % 3);
        m->n[k] = agon_sequence_length(s[i]);
        memcpy(m->ids[k], agon_sequence_ids(s[i]), (size_t)m->n[k] * sizeof(int));
        for (int d = 0; d < n_drawn; d++) {
            m->logprobs[k][d] = drawn[d].logprob;
            m->raw[k][d] = drawn[d].logprob_raw;
        }
        agon_sequence_free(s[i]);
    }
}

TEST(greedy_draws_are_the_cpus_and_their_logprobs_near)
{
    REQUIRE_GPU();
    static struct made cpu, gpu;
    for (int i = 0; i < N_CONFIGS; i++) {
        struct agon_engine *a = engine_of(random_model(i), "cpu", (struct agon_engine_options){0});
        struct agon_engine *b =
            engine_of(random_model(i), "cuda:reference", (struct agon_engine_options){0});
        REQUIRE(a && b);
        generate(&cpu, a, 0, N_SEQUENCES, 0);
        generate(&gpu, b, 0, N_SEQUENCES, 0);
        double worst = 0;
        for (int k = 0; k < N_SEQUENCES; k++) {
            EXPECT(cpu.n[k] == gpu.n[k]);
            EXPECT(memcmp(cpu.ids[k], gpu.ids[k], (size_t)cpu.n[k] * sizeof(int)) == 0);
            for (int d = 0; d < N_GENERATED; d++)
                worst = fmax(worst, fabs((double)cpu.raw[k][d] - (double)gpu.raw[k][d]));
        }
        printf("# random %d: log-probabilities differ by at most %.2g\n", i, worst);
        EXPECT(worst < 1e-3);
        agon_engine_free(a);
        agon_engine_free(b);
    }
}

static void check_batches(const char *device)
{
    static struct made alone, together;
    struct agon_engine *one =
        engine_of(random_model(0), device, (struct agon_engine_options){.n_batch_max = 1});
    REQUIRE(one);
    for (int i = 0; i < N_SEQUENCES; i++)
        generate(&alone, one, i, 1, 1);
    agon_engine_free(one);
    static const int sizes[][2] = {/* batch, chunk */ {9, 256}, {4, 7}, {64, 64}};
    for (int i = 0; i < 3; i++) {
        struct agon_engine *e = engine_of(
            random_model(0), device,
            (struct agon_engine_options){.n_batch_max = sizes[i][0], .n_chunk_max = sizes[i][1]});
        REQUIRE(e);
        generate(&together, e, 0, N_SEQUENCES, 1);
        EXPECT(memcmp(alone.ids, together.ids, sizeof(alone.ids)) == 0);
        EXPECT(memcmp(alone.logprobs, together.logprobs, sizeof(alone.logprobs)) == 0);
        EXPECT(memcmp(alone.raw, together.raw, sizeof(alone.raw)) == 0);
        agon_engine_free(e);
    }
}

TEST(what_is_drawn_does_not_depend_on_batch_or_chunk)
{
    REQUIRE_GPU();
    check_batches("cuda:reference");
}

TEST(nor_in_fast_mode)
{
    REQUIRE_GPU();
    check_batches("cuda");
}

TEST(nor_with_fp8)
{
    REQUIRE_GPU();
    check_batches("cuda:fp8");
}

static void go_on(struct agon_engine *e, struct agon_sequence *s, uint64_t seed, int n)
{
    struct agon_generation generation = {
        .sample = {.temperature = 1, .top_p = 0.9}, .seed = seed, .tokens_max = n};
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    while (e && agon_engine_step(e) > 0)
        ;
}

static bool same_ids(const struct agon_sequence *a, const struct agon_sequence *b)
{
    int n = agon_sequence_length(a);
    return n == agon_sequence_length(b) &&
           memcmp(agon_sequence_ids(a), agon_sequence_ids(b), (size_t)n * sizeof(int)) == 0;
}

TEST(forks_share_their_beginning_and_draw_what_each_would_alone)
{
    REQUIRE_GPU();
    static const int lengths[] = {1, 63, 64, 65, 130};
    struct agon_engine *e =
        engine_of(random_model(0), "cuda:reference", (struct agon_engine_options){0});
    REQUIRE(e);
    for (int k = 0; k < 5; k++) {
        struct agon_sequence *s[4] = {0}, *alone = NULL;
        int prompt[130], n = lengths[k];
        size_t room = agon_engine_room(e);
        ids_of(prompt, n, k, 301);
        REQUIRE(agon_sequence_new(&s[0], e, &err) == 0);
        REQUIRE(agon_sequence_append(s[0], prompt, n, &err) == 0);
        for (int i = 1; i < 4; i++)
            REQUIRE(agon_sequence_fork(&s[i], s[i - 1], &err) == 0);
        for (int i = 0; i < 4; i++)
            go_on(NULL, s[i], (uint64_t)i, 70);
        while (agon_engine_step(e) > 0)
            ;
        for (int i = 0; i < 4; i++) {
            REQUIRE(agon_sequence_new(&alone, e, &err) == 0);
            REQUIRE(agon_sequence_append(alone, prompt, n, &err) == 0);
            go_on(e, alone, (uint64_t)i, 70);
            EXPECT(same_ids(s[i], alone));
            agon_sequence_free(alone);
        }
        for (int i = 0; i < 4; i++)
            agon_sequence_free(s[i]);
        EXPECT(agon_engine_room(e) == room); /* no page is lost */
    }
    agon_engine_free(e);
}

TEST(generation_ends_at_stop_ids_and_cancel_and_goes_on_in_turns)
{
    REQUIRE_GPU();
    struct agon_engine *e =
        engine_of(random_model(0), "cuda:reference", (struct agon_engine_options){0});
    struct agon_sequence *s, *whole;
    int prompt[40], n_drawn, first = 0;
    REQUIRE(e);
    ids_of(prompt, 40, 7, 301);
    REQUIRE(agon_sequence_new(&s, e, &err) == 0 && agon_sequence_append(s, prompt, 40, &err) == 0);
    go_on(e, s, 9, 30);
    EXPECT(agon_sequence_length(s) == 70);
    int stop = agon_sequence_ids(s)[40 + 11];
    while (agon_sequence_ids(s)[40 + first] != stop)
        first++;
    agon_sequence_truncate(s, 40);
    struct agon_generation generation = {.sample = {.temperature = 1, .top_p = 0.9},
                                         .seed = 9,
                                         .tokens_max = 30,
                                         .stop = &stop,
                                         .n_stop = 1};
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s) == AGON_SEQUENCE_STOPPED);
    (void)agon_sequence_drawn(s, &n_drawn);
    EXPECT(n_drawn == first + 1);
    REQUIRE(agon_sequence_append(s, prompt, 17, &err) == 0);
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    (void)agon_engine_step(e);
    agon_sequence_cancel(s);
    EXPECT(agon_sequence_state(s) == AGON_SEQUENCE_IDLE && agon_engine_step(e) == 0);
    REQUIRE(agon_sequence_new(&whole, e, &err) == 0);
    REQUIRE(agon_sequence_append(whole, agon_sequence_ids(s), agon_sequence_length(s), &err) == 0);
    go_on(e, s, 12, 40);
    go_on(e, whole, 12, 40);
    EXPECT(same_ids(s, whole));
    agon_sequence_free(s);
    agon_sequence_free(whole);
    agon_engine_free(e);
}

TEST(a_full_cache_ends_the_youngest_which_goes_on_later)
{
    REQUIRE_GPU();
    const struct agon_config *c = &random_model(0)->config;
    /* Pages for one of two: 5 + 200 ids are 4 pages. */
    size_t page = AGON_CUDA_PAGE * (size_t)c->n_layers *
                  (size_t)(c->kv_lora + c->rope_dim + c->index_dim) * sizeof(float);
    struct agon_engine *e = engine_of(random_model(0), "cuda:reference",
                                      (struct agon_engine_options){.cache_bytes_max = 6 * page});
    struct agon_sequence *s[2], *alone;
    int prompt[5];
    REQUIRE(e);
    ids_of(prompt, 5, 1, 301);
    for (int i = 0; i < 2; i++) {
        REQUIRE(agon_sequence_new(&s[i], e, &err) == 0);
        REQUIRE(agon_sequence_append(s[i], prompt, 5, &err) == 0);
        go_on(NULL, s[i], 3, 200);
    }
    while (agon_sequence_state(s[1]) == AGON_SEQUENCE_GENERATING && agon_engine_step(e) >= 0)
        ;
    EXPECT(agon_sequence_state(s[1]) == AGON_SEQUENCE_CACHE);
    agon_sequence_forget(s[1]);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s[0]) == AGON_SEQUENCE_LENGTH);
    agon_sequence_forget(s[0]);
    agon_sequence_resume(s[1]);
    while (agon_engine_step(e) > 0)
        ;
    EXPECT(agon_sequence_state(s[1]) == AGON_SEQUENCE_LENGTH && same_ids(s[0], s[1]));
    agon_sequence_free(s[0]);
    agon_sequence_free(s[1]);
    REQUIRE(agon_sequence_new(&alone, e, &err) == 0);
    EXPECT(agon_engine_room(e) == 6 * AGON_CUDA_PAGE);
    agon_sequence_free(alone);
    agon_engine_free(e);
}

/* ---- records ------------------------------------------------------------------------ */

struct recorded {
    int n, n_drawn, ids[128], kept[128][64], n_kept[128];
    uint16_t experts[128 * 6];
    int32_t selected[128 * 36];
};

static void record(struct recorded *r, const char *device)
{
    struct agon_engine *e =
        engine_of(random_model(0), device,
                  (struct agon_engine_options){.record = AGON_TRACE_ROUTING | AGON_TRACE_INDEXER});
    struct agon_sequence *s AGON_AUTO(agon_sequence_freep) = NULL;
    struct agon_generation generation = {.sample = {.temperature = 0.8, .top_p = 1, .top_k = 20},
                                         .seed = 5,
                                         .tokens_max = 45,
                                         .record = AGON_TRACE_TOKENS | AGON_TRACE_MASK};
    int prompt[50];
    memset(r, 0, sizeof(*r));
    REQUIRE(e);
    ids_of(prompt, 50, 2, 301);
    REQUIRE(agon_sequence_new(&s, e, &err) == 0 && agon_sequence_append(s, prompt, 50, &err) == 0);
    REQUIRE(agon_sequence_generate(s, &generation, &err) == 0);
    while (agon_engine_step(e) > 0)
        ;
    (void)agon_sequence_drawn(s, &r->n_drawn);
    r->n = agon_sequence_length(s);
    memcpy(r->ids, agon_sequence_ids(s), (size_t)r->n * sizeof(int));
    for (int i = 0; i < r->n_drawn; i++) {
        const int *kept = agon_sequence_kept(s, i, &r->n_kept[i]);
        if (EXPECT(kept && r->n_kept[i] <= 64))
            memcpy(r->kept[i], kept, (size_t)r->n_kept[i] * sizeof(int));
    }
    EXPECT(agon_sequence_experts(s, 0, r->n - 1, r->experts));
    EXPECT(agon_sequence_selected(s, 0, r->n - 1, r->selected));
    agon_sequence_free(AGON_STEAL(s));
    agon_engine_free(e);
}

TEST(what_is_recorded_is_what_the_cpu_records)
{
    REQUIRE_GPU();
    static struct recorded cpu, gpu;
    record(&cpu, "cpu");
    record(&gpu, "cuda:reference");
    EXPECT(cpu.n == 95 && gpu.n == 95 && gpu.n_drawn == 45);
    EXPECT(memcmp(cpu.ids, gpu.ids, sizeof(cpu.ids)) == 0);
    EXPECT(memcmp(cpu.n_kept, gpu.n_kept, sizeof(cpu.n_kept)) == 0);
    EXPECT(memcmp(cpu.kept, gpu.kept, sizeof(cpu.kept)) == 0);
    EXPECT(memcmp(cpu.experts, gpu.experts, sizeof(cpu.experts)) == 0);
    EXPECT(memcmp(cpu.selected, gpu.selected, sizeof(cpu.selected)) == 0);
}

TEST(forced_experts_change_the_scores_as_on_the_cpu)
{
    REQUIRE_GPU();
    enum { N = 90, WIDTH = 6 };
    static uint16_t experts[N * WIDTH];
    static struct agon_score free_scores[2][N], forced[2][N];
    int ids[N];
    double change = 0, worst = 0;
    ids_of(ids, N, 4, 301);
    for (int i = 0; i < N * WIDTH; i++)
        experts[i] = (uint16_t)((i / WIDTH + 3 * (i % 3)) % 8);
    for (int d = 0; d < 2; d++) {
        struct agon_engine *e = engine_of(random_model(0), d ? "cuda:reference" : "cpu",
                                          (struct agon_engine_options){0});
        struct agon_score_request q = {.ids = ids,
                                       .n = N,
                                       .start = 20,
                                       .n_vocab = 301,
                                       .sample = {.temperature = 1, .top_p = 1}};
        REQUIRE(e);
        EXPECT(agon_score(e, &q, free_scores[d], &err) == 0);
        q.experts = experts;
        q.n_expert_rows = 60;
        EXPECT(agon_score(e, &q, forced[d], &err) == 0);
        agon_engine_free(e);
    }
    for (int i = 0; i < N - 20; i++) {
        change = fmax(
            change, fabs((double)free_scores[0][i].logprob_raw - (double)forced[0][i].logprob_raw));
        worst =
            fmax(worst, fabs((double)forced[1][i].logprob_raw - (double)forced[0][i].logprob_raw));
        worst = fmax(worst, fabs((double)free_scores[1][i].logprob_raw -
                                 (double)free_scores[0][i].logprob_raw));
    }
    printf("# forcing changes by %.2g, the devices differ by %.2g\n", change, worst);
    EXPECT(change > 1e-2 && worst < 1e-4);
}

TEST(other_weights_take_effect)
{
    REQUIRE_GPU();
    struct random_checkpoint other = configs[0];
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = NULL;
    char first[] = "/tmp/agon-test-XXXXXX", second[] = "/tmp/agon-test-XXXXXX";
    other.seed = 99;
    REQUIRE(mkdtemp(first) && mkdtemp(second));
    REQUIRE(random_checkpoint_write(first, &configs[0], &err) == 0);
    REQUIRE(random_checkpoint_write(second, &other, &err) == 0);
    REQUIRE(agon_checkpoint_load(&checkpoint, first, &err) == 0);
    struct agon_engine *e =
        engine_of(checkpoint, "cuda:reference", (struct agon_engine_options){.n_batch_max = 9});
    REQUIRE(e);
    static struct made before, after, wanted;
    generate(&before, e, 0, N_SEQUENCES, 0);
    EXPECT(agon_checkpoint_replace(checkpoint, second, &err) == 0);
    EXPECT(agon_engine_weights_changed(e, &err) == 0);
    generate(&after, e, 0, N_SEQUENCES, 0);
    agon_engine_free(e);
    e = engine_of(checkpoint, "cpu", (struct agon_engine_options){0});
    REQUIRE(e);
    generate(&wanted, e, 0, N_SEQUENCES, 0);
    EXPECT(memcmp(before.ids, after.ids, sizeof(before.ids)) != 0);
    EXPECT(memcmp(wanted.ids, after.ids, sizeof(wanted.ids)) == 0);
    agon_engine_free(e);
    EXPECT(agon_dir_remove(first, &err) == 0 && agon_dir_remove(second, &err) == 0);
}
