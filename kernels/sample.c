/*
 * Sampling by a heap: only as many ids are put in order as top-k, top-p and the draw need,
 * which is a handful where the model is sure.
 */
#include "kernels/fast.h"

#include <math.h>

struct candidate {
    float p;
    int id;
};

static bool candidate_before(struct candidate a, struct candidate b)
{
    return a.p > b.p || (a.p == b.p && a.id < b.id);
}

static void heap_sift(struct candidate *heap, int n, int at)
{
    struct candidate moving = heap[at];
    for (int child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && candidate_before(heap[child + 1], heap[child]))
            child++;
        if (!candidate_before(heap[child], moving))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

/* Move the first to heap[n - 1] and restore the rest. */
static void heap_pop(struct candidate *heap, int n)
{
    struct candidate first = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = first;
    heap_sift(heap, n - 1, 0);
}

/*
 * Pop one and on until `enough` mass is out or n_kept_max are; returns how many were popped,
 * and their mass. Popped ones stand at the end of the heap, the first popped last.
 */
static int heap_pop_mass(struct candidate *heap, int n, double *ret_mass, double enough,
                         int n_kept_max)
{
    int n_popped = 0;
    double mass = 0;
    while (n_popped < n_kept_max && (n_popped == 0 || mass < enough)) {
        heap_pop(heap, n - n_popped);
        n_popped++;
        mass += heap[n - n_popped].p;
    }
    *ret_mass = mass;
    return n_popped;
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

/* Draws along the popped order; pops more where the cut left the order open. */
static int heap_draw(struct candidate *heap, int n, int n_popped, int n_kept, double target)
{
    double sum = 0;
    for (int i = 0; i < n_kept - 1; i++) {
        if (i == n_popped) {
            heap_pop(heap, n - n_popped);
            n_popped++;
        }
        sum += heap[n - 1 - i].p;
        if (sum > target)
            return heap[n - 1 - i].id;
    }
    if (n_popped < n_kept)
        heap_pop(heap, n - n_popped);
    return heap[n - n_kept].id;
}

bool agon_sample_fast(struct agon_sample *ret, const float *logits, int n,
                      const struct agon_sample_options *options, double uniform, void *scratch,
                      agon_exp_sum_fn *exp_sum)
{
    bool good;
    int best = largest_of(logits, n, &good);
    if (!good)
        return false;
    struct candidate *heap = scratch;
    float *p = scratch; /* first as plain values; spread into candidates below */
    double raw = exp_sum(p, logits, n, logits[best], 1);
    if (options->temperature <= 0) {
        *ret = (struct agon_sample){.id = best, .n_kept = 1, .logprob_raw = -log(raw)};
        return true;
    }
    double total = raw;
    if (options->temperature != 1)
        total = exp_sum(p, logits, n, logits[best], (float)(1 / options->temperature));
    for (int i = n - 1; i >= 0; i--) /* from the end: candidate i lies at or past value i */
        heap[i] = (struct candidate){p[i], i};
    for (int i = n / 2 - 1; i >= 0; i--)
        heap_sift(heap, n, i);

    double mass = 0;
    int n_popped = 0, n_kept = n;
    if (options->top_k > 0 && options->top_k < n) {
        n_kept = options->top_k;
        n_popped = heap_pop_mass(heap, n, &mass, INFINITY, n_kept);
        total = mass;
    }
    if (options->top_p < 1) {
        double enough = options->top_p * total;
        double sum = 0;
        int kept = 0;
        while (kept < n_popped && (kept == 0 || sum < enough))
            sum += heap[n - 1 - kept++].p;
        if (n_popped == 0)
            kept = n_popped = heap_pop_mass(heap, n, &sum, enough, n_kept);
        n_kept = kept;
        total = sum;
    }
    int id = heap_draw(heap, n, n_popped, n_kept, uniform * total);
    *ret = (struct agon_sample){
        .id = id,
        .n_kept = n_kept,
        .logprob = ((double)logits[id] - logits[best]) / options->temperature - log(total),
        .logprob_raw = (double)logits[id] - logits[best] - log(raw)};
    return true;
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
