/*
 * Sampling without a full sort: the cuts need the threshold alone. Top-k comes from the exact
 * selection; top-p from a histogram of mass over the leading bits of the probabilities, whose
 * one decisive bin is sorted. Linear in the vocabulary for any distribution.
 */
#include "kernels/fast.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct candidate {
    float logit, p;
    int id;
};

/* A probability relative to the largest, in (0, 1]: eight bins an octave. */
enum { MASS_BINS = 1024, MASS_SHIFT = 20 };

static int mass_bin(float p)
{
    uint32_t bits;
    memcpy(&bits, &p, sizeof(bits));
    return bits >> MASS_SHIFT < MASS_BINS ? (int)(bits >> MASS_SHIFT) : MASS_BINS - 1;
}

static int candidate_compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return x->id - y->id;
}

static int largest_of(const float *logits, int n, bool *ret_good)
{
    int at = 0;
    *ret_good = true;
    for (int i = 0; i < n; i++) {
        *ret_good &= logits[i] < INFINITY; /* false for NaN too */
        if (logits[i] > logits[at])
            at = i;
    }
    *ret_good &= logits[at] > -INFINITY;
    return at;
}

/* The last of those in `bin` that are kept when `enough` mass is wanted and *mass stands above
 * the bin; at least one is. */
static struct candidate bin_last(struct candidate *in_bin, const float *logits, const float *p,
                                 const int *ids, int n, int bin, double mass, double enough)
{
    int n_in_bin = 0, last = 0;
    for (int i = 0; i < n; i++)
        if (mass_bin(p[ids[i]]) == bin)
            in_bin[n_in_bin++] = (struct candidate){logits[ids[i]], p[ids[i]], ids[i]};
    qsort(in_bin, (size_t)n_in_bin, sizeof(*in_bin), candidate_compare);
    for (mass += in_bin[0].p; last + 1 < n_in_bin && mass < enough; mass += in_bin[last].p)
        last++;
    return in_bin[last];
}

/* Leave of ids[n] the shortest prefix in descending order that holds top_p of their mass. */
static int cut_top_p(int *ids, int n, const float *logits, const float *p, double top_p,
                     struct candidate *scratch)
{
    double masses[MASS_BINS] = {0}, total = 0, mass = 0;
    for (int i = 0; i < n; i++) {
        masses[mass_bin(p[ids[i]])] += p[ids[i]];
        total += p[ids[i]];
    }
    int bin = MASS_BINS - 1;
    while (bin > 0 && (masses[bin] == 0 || mass + masses[bin] < top_p * total))
        mass += masses[bin--];
    if (bin == 0) /* rounding: all of them */
        return n;
    struct candidate last = bin_last(scratch, logits, p, ids, n, bin, mass, top_p * total);
    int n_kept = 0;
    for (int i = 0; i < n; i++) {
        float logit = logits[ids[i]];
        if (logit > last.logit || (logit == last.logit && ids[i] <= last.id))
            ids[n_kept++] = ids[i];
    }
    return n_kept;
}

bool agon_sample_fast(struct agon_sample *ret, const float *logits, int n,
                      const struct agon_sample_options *options, double uniform, void *scratch,
                      agon_exp_sum_fn *exp_sum)
{
    bool good;
    int best = largest_of(logits, n, &good), n_kept = n, at = 0;
    if (!good)
        return false;
    float *p = scratch;
    int *ids = (int *)(void *)(p + n);
    struct candidate *candidates = (struct candidate *)(void *)(ids + n);
    double raw = exp_sum(p, logits, n, logits[best], 1), mass = 0, sum = 0;
    if (options->temperature <= 0) {
        *ret = (struct agon_sample){.id = best, .n_kept = 1, .logprob_raw = -log(raw)};
        return true;
    }
    int top_k = options->top_k > 0 && options->top_k < n ? options->top_k : n;
    n_kept = agon_topk_plain(ids, logits, n, top_k, scratch);
    (void)exp_sum(p, logits, n, logits[best], (float)(1 / options->temperature));
    if (options->top_p < 1)
        n_kept = cut_top_p(ids, n_kept, logits, p, options->top_p, candidates);
    for (int i = 0; i < n_kept; i++)
        mass += p[ids[i]];
    for (sum = p[ids[0]]; at + 1 < n_kept && sum <= uniform * mass; sum += p[ids[at]])
        at++;
    double logit = logits[ids[at]];
    *ret =
        (struct agon_sample){.id = ids[at],
                             .n_kept = n_kept,
                             .logprob = (logit - logits[best]) / options->temperature - log(mass),
                             .logprob_raw = logit - logits[best] - log(raw)};
    return true;
}

bool agon_sample_portable(struct agon_sample *ret, const float *logits, int n,
                          const struct agon_sample_options *options, double uniform, void *scratch)
{
    return agon_sample_fast(ret, logits, n, options, uniform, scratch, agon_exp_sum_portable);
}

#ifdef AGON_HAVE_X86
bool agon_sample_avx2(struct agon_sample *ret, const float *logits, int n,
                      const struct agon_sample_options *options, double uniform, void *scratch)
{
    return agon_sample_fast(ret, logits, n, options, uniform, scratch, agon_exp_sum_avx2);
}

bool agon_sample_avx512(struct agon_sample *ret, const float *logits, int n,
                        const struct agon_sample_options *options, double uniform, void *scratch)
{
    return agon_sample_fast(ret, logits, n, options, uniform, scratch, agon_exp_sum_avx512);
}
#endif
