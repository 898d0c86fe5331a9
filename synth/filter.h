#pragma once
/*
 * The filter: which tasks of an environment are kept, from the counts of their
 * rollouts (DESIGN.md, "pass@k" and gate 10). A pure function of counts.
 */
#include <stdbool.h>

struct agon_filter_rule {
    double band_low, band_high; /* of the rate over the first rollouts; 0 and 1 keep every rate */
    double fisher_p;            /* a level whose p is below is significantly easier; 0.1 */
};
struct agon_filter_task {
    int parent; /* index of the level below in the array, or -1 */
    int level;
    int n, c;             /* rollouts and passes, all */
    int n_first, c_first; /* of the first that always run */
    bool disputed;        /* two cells gave different verdicts */
    bool kept;            /* out */
    char reason[160];     /* out: why not */
};
void agon_filter_decide(const struct agon_filter_rule *rule, struct agon_filter_task *tasks, int n);
