/* The filter: see filter.h. */
#include "synth/filter.h"

#include "verifiers/passk.h"

#include <stdio.h>

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
    double p =
        below ? agon_fisher_easier(below->c_first, below->n_first, t->c_first, t->n_first) : 1;
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
