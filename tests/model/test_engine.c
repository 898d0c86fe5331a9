/*
 * The engine against transformers: checkpoints and expected.json in
 * ../shared/spec/engine_vectors (see engine.md 12). And what must not depend on anything:
 * chunks, batches, threads, forks.
 */
#include "base/json.h"
#include "model/engine.h"
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
