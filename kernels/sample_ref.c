/* Sampling by a full sort, in double. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

struct ranked {
    double logit, p;
    int id;
};

static int ranked_compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

static int id_compare(const void *a, const void *b)
{
    return ((const struct ranked *)a)->id - ((const struct ranked *)b)->id;
}

/* How many of the largest top-k and top-p leave over. */
static int sample_cut(const struct ranked *order, int n, const struct agon_sample_options *options)
{
    int n_kept = options->top_k > 0 && options->top_k < n ? options->top_k : n;
    double total = 0, mass = 0;
    for (int i = 0; i < n_kept; i++)
        total += order[i].p;
    for (int i = 0; i < n_kept && options->top_p < 1; i++) {
        mass += order[i].p;
        if (mass >= options->top_p * total)
            return i + 1;
    }
    return n_kept;
}

/* The id whose share of [0, mass) in order of ids holds uniform * mass. */
static struct ranked sample_draw(struct ranked *kept, int n, double uniform, double *ret_mass)
{
    double sum = 0;
    int at = 0;
    *ret_mass = 0;
    qsort(kept, (size_t)n, sizeof(*kept), id_compare);
    for (int i = 0; i < n; i++)
        *ret_mass += kept[i].p;
    for (sum = kept[0].p; at + 1 < n && sum <= uniform * *ret_mass; sum += kept[at].p)
        at++;
    return kept[at];
}

static bool sample_sorted(struct agon_sample *ret, struct ranked *order, int n,
                          const struct agon_sample_options *options, double uniform)
{
    double largest = order[0].logit, raw = 0, mass;
    if (largest == -INFINITY)
        return false;
    for (int i = 0; i < n; i++)
        raw += exp(order[i].logit - largest);
    if (options->temperature <= 0) {
        *ret = (struct agon_sample){.id = order[0].id, .n_kept = 1, .logprob_raw = -log(raw)};
        return true;
    }
    for (int i = 0; i < n; i++)
        order[i].p = exp((order[i].logit - largest) / options->temperature);
    int n_kept = sample_cut(order, n, options);
    struct ranked drawn = sample_draw(order, n_kept, uniform, &mass);
    *ret = (struct agon_sample){.id = drawn.id,
                                .n_kept = n_kept,
                                .logprob = log(drawn.p / mass),
                                .logprob_raw = drawn.logit - largest - log(raw)};
    return true;
}

bool agon_sample_ref(struct agon_sample *ret, const float *logits, int n,
                     const struct agon_sample_options *options, double uniform, void *scratch)
{
    (void)scratch; /* this twin may allocate */
    struct ranked *order = malloc((size_t)n * sizeof(*order));
    bool good = order != NULL;
    for (int i = 0; i < n && good; i++) {
        order[i] = (struct ranked){.logit = logits[i], .id = i};
        good = logits[i] < INFINITY; /* false for NaN too */
    }
    if (good) {
        qsort(order, (size_t)n, sizeof(*order), ranked_compare);
        good = sample_sorted(ret, order, n, options, uniform);
    }
    free(order);
    return good;
}
