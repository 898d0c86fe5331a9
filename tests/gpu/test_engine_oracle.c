/*
 * Both engines against transformers: the folders that oracle.py writes, where AGON_ORACLES names
 * them.
 */
#include "base/json.h"
#include "tests/gpu/engine.h"

#include <unistd.h>

enum { N_ORACLES = 12, PATH_SIZE = 4096 };

struct oracle {
    struct agon_checkpoint *checkpoint;
    json_t *expected;
    int *ids, n;
};

static bool oracle_open(struct oracle *o, const char *dir)
{
    char path[PATH_SIZE];
    *o = (struct oracle){0};
    if ((size_t)snprintf(path, sizeof(path), "%s/expected.json", dir) >= sizeof(path) ||
        agon_checkpoint_load(&o->checkpoint, dir, &err) ||
        agon_json_load_file(&o->expected, path, 16 << 20, &err)) {
        printf("# %s\n", err.text);
        return false;
    }
    const json_t *ids = json_object_get(o->expected, "input_ids");
    o->n = (int)json_array_size(ids);
    o->ids = calloc((size_t)o->n, sizeof(*o->ids));
    for (int i = 0; i < o->n; i++)
        o->ids[i] = (int)json_integer_value(json_array_get(ids, (size_t)i));
    return true;
}

static void oracle_close(struct oracle *o)
{
    agon_checkpoint_free(o->checkpoint);
    json_decref(o->expected);
    free(o->ids);
}

static double expected_at(const struct oracle *o, const char *key, size_t i)
{
    return json_number_value(json_array_get(json_object_get(o->expected, key), i));
}

/* Positions whose best id is another; *ret_worst: the last row's largest difference of a logit. */
static int logits_differ(const struct oracle *o, const struct seen *s, double *ret_worst)
{
    int n_differ = 0;
    *ret_worst = 0;
    for (int p = 0; p < o->n; p++) {
        const float *x = s->logits + (size_t)p * (size_t)s->n_vocab;
        int best = 0;
        for (int i = 0; i < s->n_vocab; i++)
            best = x[i] > x[best] ? i : best;
        n_differ += best != (int)expected_at(o, "argmax", (size_t)p);
    }
    const float *last = s->logits + (size_t)(o->n - 1) * (size_t)s->n_vocab;
    for (int i = 0; i < s->n_vocab; i++)
        *ret_worst = fmax(*ret_worst, fabs(last[i] - expected_at(o, "logits_last", (size_t)i)));
    return n_differ;
}

/* Rows (of the last four, in each layer with an indexer) that select otherwise. */
static int selections_differ_from(const struct oracle *o, const struct seen *s)
{
    const json_t *layers = json_object_get(o->expected, "layers");
    const json_t *topk = json_object_get(o->expected, "topk");
    int n_differ = 0;
    for (size_t l = 0; l < json_array_size(layers); l++) {
        size_t layer = (size_t)json_integer_value(json_array_get(layers, l));
        for (size_t r = 0; r < 4; r++) {
            const json_t *row = json_array_get(json_array_get(topk, l), r);
            size_t at = ((size_t)o->n - 4 + r) * (size_t)s->n_layers + layer;
            bool same = (size_t)s->n_selected[at] == json_array_size(row);
            for (size_t k = 0; same && k < json_array_size(row); k++)
                same = s->selected[at * (size_t)s->topk + k] ==
                       (int)json_integer_value(json_array_get(row, k));
            n_differ += !same;
        }
    }
    return n_differ;
}

static void check_device(const struct oracle *o, const char *name, const char *device)
{
    struct agon_engine *e =
        engine_of(o->checkpoint, device, (struct agon_engine_options){.n_batch_max = 256});
    struct seen s = seen_new(&o->checkpoint->config, o->n);
    double worst;
    if (e && EXPECT(look(&s, e, o->ids, o->n, o->n / 2, 40))) {
        int n_differ = logits_differ(o, &s, &worst), n_selections = selections_differ_from(o, &s);
        printf("# %s %s on %s: logits differ by %.2g, %d best ids, %d selections\n", name,
               o->checkpoint->config.model_type, device, worst, n_differ, n_selections);
        EXPECT(worst < 1e-3 && n_differ == 0 && n_selections == 0);
    }
    seen_free(&s);
    agon_engine_free(e);
}

static void check_oracles(const char *device)
{
    const char *dir = getenv("AGON_ORACLES");
    char path[PATH_SIZE];
    if (!dir)
        SKIP("AGON_ORACLES names no folder that oracle.py wrote");
    for (int i = 0; i < N_ORACLES; i++) {
        struct oracle o = {0};
        int size = snprintf(path, sizeof(path), "%s/%02d", dir, i);
        if (EXPECT(size < PATH_SIZE && oracle_open(&o, path)))
            check_device(&o, path + strlen(dir) + 1, device);
        oracle_close(&o);
    }
}

TEST(transformers_says_the_same_as_the_cpu)
{
    check_oracles("cpu");
}

TEST(transformers_says_the_same_as_reference_mode)
{
    REQUIRE_GPU();
    check_oracles("cuda:reference");
}
