/* Sampling by a full sort, in double. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdlib.h>

struct ranked {
    double logit;
    int id;
};

static int ranked_compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

/* Enough of a distribution to draw from: the kept prefix and its mass. */
static int sample_cut(const struct ranked *order, int n, const struct agon_sample_options *options,
                      double *ret_mass)
{
    int n_kept = options->top_k > 0 && options->top_k < n ? options->top_k : n;
    double total = 0, mass = 0;
    for (int i = 0; i < n_kept; i++)
        total += exp((order[i].logit - order[0].logit) / options->temperature);
    if (options->top_p >= 1) {
        *ret_mass = total;
        return n_kept;
    }
    for (int i = 0; i < n_kept; i++) {
        mass += exp((order[i].logit - order[0].logit) / options->temperature);
        if (mass >= options->top_p * total) {
            *ret_mass = mass;
            return i + 1;
        }
    }
    *ret_mass = mass;
    return n_kept;
}

bool agon_sample_ref(struct agon_sample *ret, const float *logits, int n,
                     const struct agon_sample_options *options, double uniform, void *scratch)
{
    (void)scratch; /* sorts structs instead; this twin may allocate */
    struct ranked *order = malloc((size_t)n * sizeof(*order));
    if (!order)
        return false;
    bool bad = false;
    for (int i = 0; i < n; i++) {
        order[i] = (struct ranked){logits[i], i};
        bad |= isnan(logits[i]) || logits[i] == INFINITY;
    }
    qsort(order, (size_t)n, sizeof(*order), ranked_compare);
    if (bad || order[0].logit == -INFINITY) {
        free(order);
        return false;
    }
    double raw = 0;
    for (int i = 0; i < n; i++)
        raw += exp(order[i].logit - order[0].logit);

    int at = 0, n_kept = 1;
    double logprob = 0;
    if (options->temperature > 0) {
        double mass, sum = 0;
        n_kept = sample_cut(order, n, options, &mass);
        for (at = 0; at < n_kept - 1; at++) {
            sum += exp((order[at].logit - order[0].logit) / options->temperature);
            if (sum > uniform * mass)
                break;
        }
        logprob = (order[at].logit - order[0].logit) / options->temperature - log(mass);
    }
    *ret = (struct agon_sample){.id = order[at].id,
                                .n_kept = n_kept,
                                .logprob = logprob,
                                .logprob_raw = order[at].logit - order[0].logit - log(raw)};
    free(order);
    return true;
}
