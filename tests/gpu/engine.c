/* See engine.h. */
#include "tests/gpu/engine.h"

#include "base/rng.h"

#include <math.h>
#include <string.h>

struct agon_err err;

const char *embedded_dir(void)
{
    const char *dir = getenv("AGON_EMBEDDED");
    return dir ? dir : "model/embedded";
}

struct agon_checkpoint *embedded(void)
{
    static struct agon_checkpoint *made;
    if (!made && agon_checkpoint_load(&made, embedded_dir(), &err))
        printf("# %s\n", err.text);
    return made;
}

struct agon_engine *engine_of(const struct agon_checkpoint *checkpoint, const char *device,
                              struct agon_engine_options options)
{
    struct agon_engine *e = NULL;
    options.device = device;
    options.cpu = AGON_CPU_BEST;
    options.cache_bytes_max = options.cache_bytes_max ? options.cache_bytes_max : 1u << 30;
    if (!checkpoint || agon_engine_new(&e, checkpoint, &options, &err)) {
        printf("# %s\n", err.text);
        test_failures++;
    }
    return e;
}

void ids_of(int *ids, int n, int seed, int n_vocab)
{
    uint64_t state = (uint64_t)seed * 77 + 1;
    for (int i = 0; i < n; i++) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        ids[i] = (int)((state >> 33) % (uint64_t)n_vocab);
    }
}

/* ---- windows into the models -------------------------------------------------------- */

struct seen seen_new(const struct agon_config *c, int n)
{
    size_t rows = (size_t)n, layers = (size_t)c->n_layers;
    return (struct seen){.n_vocab = c->n_vocab,
                         .n_layers = c->n_layers,
                         .topk = c->index_topk,
                         .logits = calloc(rows * (size_t)c->n_vocab, sizeof(float)),
                         .n_selected = calloc(rows * layers, sizeof(int)),
                         .selected = calloc(rows * layers * (size_t)c->index_topk, sizeof(int))};
}

void seen_free(struct seen *s)
{
    free(s->logits);
    free(s->n_selected);
    free(s->selected);
}

void see(void *user, const struct agon_evaluated *row)
{
    struct seen *s = user;
    size_t p = (size_t)row->position, layers = (size_t)s->n_layers, topk = (size_t)s->topk;
    s->n_rows++;
    memcpy(s->logits + p * (size_t)s->n_vocab, row->logits, (size_t)s->n_vocab * sizeof(float));
    memcpy(s->n_selected + p * layers, row->n_selected, layers * sizeof(int));
    memcpy(s->selected + p * layers * topk, row->selected, layers * topk * sizeof(int));
}

/* The first n_first ids in chunks, the rest one by one. */
static bool evaluate(struct agon_sequence *q, struct seen *s, const int *ids, int n, int n_first,
                     int chunk)
{
    bool good = agon_sequence_append(q, ids, n_first, &err) == 0 &&
                agon_sequence_evaluate(q, chunk, see, s, &err) == 0;
    for (int i = n_first; good && i < n; i++)
        good = agon_sequence_append(q, ids + i, 1, &err) == 0 &&
               agon_sequence_evaluate(q, 1, see, s, &err) == 0;
    return good;
}

bool look(struct seen *s, struct agon_engine *e, const int *ids, int n, int n_first, int chunk)
{
    return look_forced(s, e, ids, n, n_first, chunk, NULL);
}

bool look_forced(struct seen *s, struct agon_engine *e, const int *ids, int n, int n_first,
                 int chunk, const uint16_t *experts)
{
    struct agon_sequence *q AGON_AUTO(agon_sequence_freep) = NULL;
    bool good = agon_sequence_new(&q, e, &err) == 0;
    if (good && experts)
        agon_sequence_force(q, experts, n);
    if (!good || !evaluate(q, s, ids, n, n_first, chunk))
        return printf("# %s\n", err.text), false;
    return true;
}

bool look_recorded(struct seen *s, struct agon_engine *e, const int *ids, int n, int chunk,
                   uint16_t *experts)
{
    struct agon_sequence *q AGON_AUTO(agon_sequence_freep) = NULL;
    if (agon_sequence_new(&q, e, &err) || !evaluate(q, s, ids, n, n, chunk) ||
        !agon_sequence_experts(q, 0, n, experts))
        return printf("# %s\n", err.text), false;
    return true;
}

/* Prints where and how the first difference lies. */
double row_error(const struct seen *a, const struct seen *b, int p)
{
    const float *x = a->logits + (size_t)p * (size_t)a->n_vocab;
    const float *y = b->logits + (size_t)p * (size_t)a->n_vocab;
    double difference = 0, norm = 0;
    for (int i = 0; i < a->n_vocab; i++) {
        difference += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        norm += (double)y[i] * y[i];
    }
    return isfinite(difference) ? sqrt(difference / norm) : INFINITY;
}

static int best_of(const float *x, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* How often a row keeps its best id when noise of this deviation is added to it. */
static double kept_by_chance(const float *row, int n, double deviation, struct agon_rng *rng)
{
    enum { DRAWS = 10 };
    float *noisy = malloc((size_t)n * sizeof(*noisy));
    int n_kept = 0, best = best_of(row, n);
    for (int k = 0; k < DRAWS; k++) {
        for (int i = 0; i < n; i++) { /* Box and Muller 1958 */
            double u = 1 - agon_rng_real(rng), v = agon_rng_real(rng);
            noisy[i] = row[i] + (float)(deviation * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
        }
        n_kept += best_of(noisy, n) == best;
    }
    free(noisy);
    return (double)n_kept / DRAWS;
}

void tell_agreement(const char *what, const struct seen *got, const struct seen *wanted, int n)
{
    int n_vocab = got->n_vocab, n_best = 0, n_below = 0;
    double mean = 0, largest = 0, by_chance = 0, margin = 0;
    struct agon_rng rng;
    agon_rng_init(&rng, 1);
    for (int p = 0; p < n; p++) {
        const float *x = got->logits + (size_t)p * (size_t)n_vocab;
        const float *y = wanted->logits + (size_t)p * (size_t)n_vocab;
        double error = row_error(got, wanted, p), off = 0, square = 0;
        int best = best_of(y, n_vocab), other = best_of(x, n_vocab);
        for (int i = 0; i < n_vocab; i++) {
            off = fmax(off, fabs((double)x[i] - y[i]));
            square += (double)y[i] * y[i];
        }
        mean += error / n;
        largest = fmax(largest, error);
        by_chance += kept_by_chance(y, n_vocab, error * sqrt(square / n_vocab), &rng);
        n_best += best == other;
        if (best != other) {
            n_below += (double)y[best] - y[other] <= off;
            margin = fmax(margin, ((double)y[best] - y[other]) / off);
        }
    }
    printf("# %s: rows' errors %.4f in the mean, %.4f at most; %d of %d best ids the same, %.0f by "
           "chance; of the %d others %d margins are below the row's largest error, at most %.2f of "
           "it\n",
           what, mean, largest, n_best, n, by_chance, n - n_best, n_below, margin);
    (void)fflush(stdout);
}

static int selections_differ(const struct seen *a, const struct seen *b, int p, int *ret_layer)
{
    for (int l = 0; l < a->n_layers; l++) {
        size_t at = (size_t)p * (size_t)a->n_layers + (size_t)l;
        *ret_layer = l;
        if (a->n_selected[at] != b->n_selected[at])
            return 1;
        for (int k = 0; k < a->n_selected[at]; k++)
            if (a->selected[at * (size_t)a->topk + (size_t)k] !=
                b->selected[at * (size_t)a->topk + (size_t)k])
                return 2;
    }
    return 0;
}

/* The largest error of a row. Scores at the cut may be nearer than rounding: rows that select
 * otherwise are counted apart. */
static double compare(const struct seen *gpu, const struct seen *cpu, int n, int *ret_n_selections)
{
    double worst = 0;
    int n_told = 0, layer = 0;
    *ret_n_selections = 0;
    for (int p = 0; p < n; p++) {
        double error = row_error(gpu, cpu, p);
        int kind = selections_differ(gpu, cpu, p, &layer);
        *ret_n_selections += kind != 0;
        if ((kind || error > 1e-4) && n_told++ < 3) {
            size_t at = (size_t)p * (size_t)gpu->n_layers + (size_t)layer;
            printf("# position %d: error %.2g; layer %d selects %d (wanted %d), kind %d; logits %g "
                   "%g, wanted %g %g\n",
                   p, error, layer, gpu->n_selected[at], cpu->n_selected[at], kind,
                   (double)gpu->logits[(size_t)p * (size_t)gpu->n_vocab],
                   (double)gpu->logits[(size_t)p * (size_t)gpu->n_vocab + 1],
                   (double)cpu->logits[(size_t)p * (size_t)gpu->n_vocab],
                   (double)cpu->logits[(size_t)p * (size_t)gpu->n_vocab + 1]);
        }
        if (kind == 0)
            worst = error > worst ? error : worst;
    }
    return worst;
}

void check_model(const struct agon_checkpoint *checkpoint, const char *name, int n)
{
    const struct agon_config *c = &checkpoint->config;
    struct agon_engine *cpu = engine_of(checkpoint, "cpu", (struct agon_engine_options){0});
    struct agon_engine *gpu =
        engine_of(checkpoint, "cuda:reference", (struct agon_engine_options){.n_batch_max = 128});
    int *ids = calloc((size_t)n, sizeof(*ids)), n_differ;
    struct seen wanted = seen_new(c, n), got = seen_new(c, n), again = seen_new(c, n);
    ids_of(ids, n, 1, c->n_vocab);
    if (cpu && gpu && EXPECT(look(&wanted, cpu, ids, n, n, 64)) &&
        EXPECT(look(&got, gpu, ids, n, n, 100)) && EXPECT(look(&again, gpu, ids, n, n / 2, 33))) {
        double worst = compare(&got, &wanted, n, &n_differ);
        printf("# %s: largest relative error %.2g, %d of %d rows select otherwise\n", name, worst,
               n_differ, n);
        EXPECT(worst < 1e-4 && n_differ <= n / 100);
        EXPECT(memcmp(got.logits, again.logits, (size_t)n * (size_t)c->n_vocab * sizeof(float)) ==
               0);
    }
    seen_free(&wanted);
    seen_free(&got);
    seen_free(&again);
    free(ids);
    agon_engine_free(cpu);
    agon_engine_free(gpu);
}
