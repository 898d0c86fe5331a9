/* The filter: see filter.h. */
#include "synth/filter.h"

#include "verifiers/passk.h"

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

enum { RUN = 3 };
static const double near_share = 0.8;

static void decide(const struct agon_filter_rule *rule, const struct agon_filter_task *tasks,
                   struct agon_filter_task *t)
{
    t->kept = false;
    t->reason[0] = '\0';
    if (t->disputed) {
        snprintf(t->reason, sizeof(t->reason), "two cells gave different verdicts on one answer");
        return;
    }
    if (t->c == 0) {
        snprintf(t->reason, sizeof(t->reason), "no pass in %d rollouts", t->n);
        return;
    }
    double rate = t->n_first > 0 ? (double)t->c_first / t->n_first : 0;
    if (rate < rule->band_low || rate > rule->band_high) {
        snprintf(t->reason, sizeof(t->reason), "pass rate %.3g lies outside the band %.3g to %.3g",
                 rate, rule->band_low, rule->band_high);
        return;
    }
    const struct agon_filter_task *below = t->parent >= 0 ? &tasks[t->parent] : NULL;
    double p = below ? agon_fisher_easier(below->c_first, below->n_first, t->c_first, t->n_first)
                     : 1;
    if (p < rule->fisher_p) {
        snprintf(t->reason, sizeof(t->reason),
                 "easier than level %d below: %d of %d against %d of %d (p = %.3f)", below->level,
                 t->c_first, t->n_first, below->c_first, below->n_first, p);
        return;
    }
    t->kept = true;
}

void agon_filter_decide(const struct agon_filter_rule *rule, struct agon_filter_task *tasks, int n)
{
    for (int i = 0; i < n; i++)
        decide(rule, tasks, &tasks[i]);
}

/* ---- near-duplicates --------------------------------------------------------- */

struct runs {
    uint64_t *hashes; /* sorted, each once */
    size_t n;
};

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* The hash of the next word at or after *at; false at the end. */
static bool next_word(struct agon_str s, size_t *at, uint64_t *ret)
{
    char word[64];
    size_t n = 0;
    while (*at < s.size && !is_word(s.data[*at]))
        (*at)++;
    for (; *at < s.size && is_word(s.data[*at]); (*at)++)
        if (n < sizeof(word))
            word[n++] = (char)tolower((unsigned char)s.data[*at]);
    *ret = XXH3_64bits(word, n);
    return n > 0;
}

static int runs_of(struct runs *r, struct agon_str s, struct agon_err *err)
{
    uint64_t window[RUN] = {0}, word;
    size_t at = 0, n = 0;
    r->hashes = calloc(s.size / 2 + 2, sizeof(*r->hashes));
    if (!r->hashes)
        return agon_fail(err, AGON_ENOMEM, "filter: out of memory");
    while (next_word(s, &at, &word)) {
        memmove(window, window + 1, sizeof(window) - sizeof(window[0]));
        window[RUN - 1] = word;
        if (++n >= RUN)
            r->hashes[r->n++] = XXH3_64bits(window, sizeof(window));
    }
    if (n > 0 && n < RUN) /* a text of one or two words is one run */
        r->hashes[r->n++] = XXH3_64bits(window, sizeof(window));
    qsort(r->hashes, r->n, sizeof(*r->hashes), compare_u64);
    size_t kept = 0;
    for (size_t i = 0; i < r->n; i++)
        if (kept == 0 || r->hashes[kept - 1] != r->hashes[i])
            r->hashes[kept++] = r->hashes[i];
    r->n = kept;
    return 0;
}

int agon_filter_near(struct agon_str a, struct agon_str b, bool *ret_near, struct agon_err *err)
{
    struct runs x = {0}, y = {0};
    size_t both = 0;
    int r = runs_of(&x, a, err);
    if (!r)
        r = runs_of(&y, b, err);
    if (!r) {
        for (size_t i = 0, k = 0; i < x.n && k < y.n;) {
            both += x.hashes[i] == y.hashes[k];
            if (x.hashes[i] == y.hashes[k]) {
                i++;
                k++;
            } else if (x.hashes[i] < y.hashes[k]) {
                i++;
            } else {
                k++;
            }
        }
        size_t all = x.n + y.n - both;
        *ret_near = all > 0 && (double)both >= near_share * (double)all;
    }
    free(x.hashes);
    free(y.hashes);
    return r;
}
