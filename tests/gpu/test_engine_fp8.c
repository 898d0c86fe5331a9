/*
 * The engine with FP8 weights and caches (device cuda:fp8) against the CPU's engine in F32, on
 * random checkpoints in e4m3 of smaller sizes than the published one: dimensions that the fast
 * kernels do, and dimensions with partial blocks that they leave to plain ones.
 *
 * How near: e4m3 keeps three bits behind the point, so a value is off by 2.5% in the mean, and so
 * is a product's output relative to its size. Scores of attention are off by the noise of a query
 * and of an entry, some 5% of a spread of two, which the exponential makes a tenth of each weight;
 * two or three layers make 11 and 15%. fp8_error.py computes that, from engine.md 4, 6 and 7 in
 * double with and without the roundings: what it says of these models is `error` below, and the
 * GPU's error is to be that. The experts are the CPU's: a choice that falls otherwise because two
 * are nearly equal is no error of a number. What is selected may differ where scores at the cut are
 * nearer than that; it is compared for itself, and logits where all is selected.
 */
#include "base/file.h"
#include "tests/gpu/engine.h"
#include "tests/model/random_checkpoint.h"

#include <math.h>
#include <stdio.h>

#define SELECTED_ALIKE 0.85

/* A row's relative error in the mean, while all is selected: fp8_error.py. */
static const double errors[] = {0.1521, 0.1092};

static const struct random_checkpoint configs[] = {
    {RANDOM_CHECKPOINT_FP8, .seed = 11, .index_topk = 128, .window = 1024, .n_experts = 16,
     .top_k = 4, .n_group = 4, .topk_group = 2, .yarn = true, .n_shards = 4},
    {.seed = 12, /* blocks are partial wherever they can be */
     .n_vocab = 301,
     .hidden = 328,
     .n_layers = 2,
     .n_heads = 3,
     .q_lora = 200,
     .kv_lora = 200,
     .nope = 40,
     .rope = 16,
     .v = 72,
     .index_heads = 3,
     .index_dim = 64,
     .index_topk = 96,
     .window = 700,
     .dense = 340,
     .n_dense = 1,
     .expert = 136,
     .n_experts = 6,
     .top_k = 2,
     .n_shared = 2,
     .n_group = 1,
     .topk_group = 1,
     .dtype = AGON_E4M3,
     .tied = true,
     .n_shards = 1},
};
enum { N_CONFIGS = sizeof(configs) / sizeof(configs[0]), N_IDS = 400 };

static struct agon_checkpoint *random_model(int i)
{
    static struct agon_checkpoint *made[N_CONFIGS];
    const char *keep = getenv("AGON_FP8_DIR"); /* folders 0, 1, ... there, for fp8_error.py */
    char dir[4096];
    if (keep)
        (void)snprintf(dir, sizeof(dir), "%s/%d", keep, i);
    if (!made[i] &&
        !EXPECT(random_checkpoint_load(&made[i], keep ? dir : NULL, &configs[i], &err) == 0))
        printf("# %s\n", err.text);
    return made[i];
}

/* The share of b's selections that are a's too; rows that select everything are left out. */
static double alike(const struct seen *a, const struct seen *b)
{
    size_t n = 0, same = 0, topk = (size_t)a->topk;
    for (size_t at = 0; at < (size_t)N_IDS * (size_t)a->n_layers; at++) {
        if (at / (size_t)a->n_layers < topk)
            continue;
        const int *x = a->selected + at * topk, *y = b->selected + at * topk;
        for (size_t i = 0, k = 0; i < topk; i++, n++) { /* both ascend */
            while (k < topk && y[k] < x[i])
                k++;
            same += k < topk && y[k] == x[i];
        }
    }
    return (double)same / (double)n;
}

static void check(int i)
{
    struct agon_checkpoint *checkpoint = random_model(i);
    REQUIRE(checkpoint);
    struct agon_engine *gpu AGON_AUTO(agon_engine_freep) =
        engine_of(checkpoint, "cuda:fp8", (struct agon_engine_options){0});
    struct agon_engine *cpu AGON_AUTO(agon_engine_freep) =
        engine_of(checkpoint, "cpu",
                  (struct agon_engine_options){.n_threads = 2, .record = AGON_TRACE_ROUTING});
    REQUIRE(gpu && cpu);
    struct seen a = seen_new(&checkpoint->config, N_IDS), b = seen_new(&checkpoint->config, N_IDS);
    static uint16_t experts[N_IDS * 16];
    int ids[N_IDS];
    double sum = 0, largest = 0, all_selected = 0;
    ids_of(ids, N_IDS, i, checkpoint->config.n_vocab);
    if (EXPECT(look_recorded(&b, cpu, ids, N_IDS, 150, experts)) &&
        EXPECT(look_forced(&a, gpu, ids, N_IDS, N_IDS - 20, 150, experts))) {
        for (int p = 0; p < N_IDS; p++) {
            double e = row_error(&a, &b, p);
            sum += e;
            all_selected += p < a.topk ? e : 0;
            largest = p < a.topk && e > largest ? e : largest;
        }
        all_selected /= a.topk;
        printf("# model %d: a row's error %.4f in the mean, at most %.4f while all is selected, "
               "%.4f over all; %.4f of the selections are the CPU's\n",
               i, all_selected, largest, sum / N_IDS, alike(&a, &b));
        tell_agreement("while all is selected", &a, &b, a.topk);
        EXPECT(fabs(all_selected / errors[i] - 1) < 0.1);
        EXPECT(alike(&a, &b) > SELECTED_ALIKE);
    }
    seen_free(&a);
    seen_free(&b);
}

TEST(fp8_logits_are_as_far_from_the_cpus_as_their_roundings_say)
{
    for (int i = 0; i < N_CONFIGS && getenv("AGON_FP8_DIR"); i++)
        REQUIRE(random_model(i)); /* also where there is no GPU */
    REQUIRE_GPU();
    for (int i = 0; i < N_CONFIGS; i++)
        check(i);
}

/* ---- memory of rollouts ------------------------------------------------------------- */

enum { N_ROLLOUTS = 100, N_PROMPT = 16384, N_ROLLOUT = 8192, V32_LAYERS = 61 };
/* Pages of the group, and of as many sequences without a common prompt. */
enum {
    PAGES_SHARED = (N_PROMPT + N_ROLLOUTS * N_ROLLOUT) / AGON_CUDA_PAGE,
    PAGES_APART = N_ROLLOUTS * (N_PROMPT + N_ROLLOUT) / AGON_CUDA_PAGE,
};

/* A model with the published cache (entries of 512 + 64, keys of 128), otherwise small. */
static struct agon_checkpoint *small_with_large_cache(int n_layers)
{
    const struct random_checkpoint config = {.seed = 13,
                                             .n_vocab = 512,
                                             .hidden = 128,
                                             .n_layers = n_layers,
                                             .n_heads = 2,
                                             .q_lora = 128,
                                             .kv_lora = 512,
                                             .nope = 64,
                                             .rope = 64,
                                             .v = 64,
                                             .index_heads = 32,
                                             .index_dim = 128,
                                             .index_topk = 2048,
                                             .window = 32768,
                                             .dense = 128,
                                             .n_dense = n_layers,
                                             .expert = 128,
                                             .n_experts = 2,
                                             .top_k = 1,
                                             .n_group = 1,
                                             .topk_group = 1,
                                             .dtype = AGON_E4M3,
                                             .n_shards = 1};
    struct agon_checkpoint *made = NULL;
    char dir[] = "/tmp/agon-test-XXXXXX";
    if (!mkdtemp(dir) || random_checkpoint_write(dir, &config, &err) ||
        agon_checkpoint_open(&made, dir, &err)) {
        printf("# %s\n", err.text);
        test_failures++;
    }
    EXPECT(agon_dir_remove(dir, &err) == 0); /* the files stay open */
    return made;
}

/* One prompt, n_rollouts forks of it with n_ids more each, in a cache of n_pages; returns the pages
 * that are taken at the end, -1 where something failed. */
static long roll_out(const struct agon_checkpoint *checkpoint, size_t n_pages, int n_ids)
{
    size_t page = (AGON_CUDA_PAGE * agon_latent_bytes(AGON_LATENT_FP8, 512, 64) +
                   agon_keys_page_bytes(AGON_KEYS_FP8, 128)) *
                  (size_t)checkpoint->config.n_layers;
    struct agon_engine *e AGON_AUTO(agon_engine_freep) = engine_of(
        checkpoint, "cuda:fp8",
        (struct agon_engine_options){.cache_bytes_max = n_pages * page, .n_batch_max = N_ROLLOUTS});
    struct agon_sequence *s[N_ROLLOUTS + 1] = {0};
    int *prompt = malloc(N_PROMPT * sizeof(*prompt));
    long taken = -1;
    if (!e || !EXPECT(agon_engine_room(e) == n_pages * AGON_CUDA_PAGE))
        return taken;
    ids_of(prompt, N_PROMPT, 1, checkpoint->config.n_vocab);
    bool good = agon_sequence_new(&s[N_ROLLOUTS], e, &err) == 0 &&
                agon_sequence_append(s[N_ROLLOUTS], prompt, N_PROMPT, &err) == 0;
    for (int i = 0; i < N_ROLLOUTS && good; i++) {
        struct agon_generation generation = {
            .sample = {.temperature = 1, .top_p = 1}, .seed = (uint64_t)i, .tokens_max = n_ids};
        good = agon_sequence_fork(&s[i], s[N_ROLLOUTS], &err) == 0 &&
               agon_sequence_generate(s[i], &generation, &err) == 0;
    }
    if (!EXPECT(good))
        printf("# %s\n", err.text);
    while (good && agon_engine_step(e) > 0)
        ;
    int n_ended = 0;
    for (int i = 0; i < N_ROLLOUTS; i++)
        n_ended += s[i] && agon_sequence_state(s[i]) == AGON_SEQUENCE_LENGTH &&
                   agon_sequence_length(s[i]) == N_PROMPT + n_ids;
    EXPECT(n_ended == N_ROLLOUTS);
    /* Each fork feeds the prompt's last id once more, for its logits; the last id drawn is not
     * computed, and nothing else twice. */
    if (!EXPECT(agon_engine_rows(e) == N_PROMPT + (uint64_t)N_ROLLOUTS * (uint64_t)n_ids))
        printf("# %llu rows\n", (unsigned long long)agon_engine_rows(e));
    if (good && n_ended == N_ROLLOUTS)
        taken = (long)(n_pages - agon_engine_room(e) / AGON_CUDA_PAGE);
    for (int i = 0; i <= N_ROLLOUTS; i++)
        agon_sequence_free(s[i]);
    free(prompt);
    return taken;
}

TEST(a_hundred_rollouts_hold_their_prompt_once)
{
    REQUIRE_GPU();
    struct agon_checkpoint *one AGON_AUTO(agon_checkpoint_freep) = small_with_large_cache(1);
    REQUIRE(one);
    long taken = roll_out(one, PAGES_SHARED, N_ROLLOUT);
    double layer = (double)taken * 50432e-9, apart = PAGES_APART * 50432e-9;
    printf("# %d rollouts of %d after a prompt of %d: %ld pages, %.3f GB in one layer, %.1f GB in "
           "%d; without a common prompt %.1f GB\n",
           N_ROLLOUTS, N_ROLLOUT, N_PROMPT, taken, layer, V32_LAYERS * layer, V32_LAYERS,
           V32_LAYERS * apart);
    EXPECT(taken == PAGES_SHARED);
}

TEST(the_cache_of_a_hundred_rollouts_fits_in_61_layers)
{
    REQUIRE_GPU();
    struct agon_cuda_info gpu;
    enum { N_IDS_HERE = 129 };
    REQUIRE(agon_cuda_open(&gpu, 0, &err) == 0);
    if (gpu.memory_free < (size_t)56 << 30)
        SKIP("the device has less than 56 GiB left");
    struct agon_checkpoint *all AGON_AUTO(agon_checkpoint_freep) =
        small_with_large_cache(V32_LAYERS);
    REQUIRE(all);
    long taken = roll_out(all, PAGES_SHARED, N_IDS_HERE);
    printf("# %.1f GB of pages in %d layers; of them %ld after %d ids of each rollout\n",
           PAGES_SHARED * 50432e-9 * V32_LAYERS, V32_LAYERS, taken, N_IDS_HERE);
    EXPECT(taken == N_PROMPT / AGON_CUDA_PAGE + N_ROLLOUTS * ((N_IDS_HERE - 1) / AGON_CUDA_PAGE));
}
