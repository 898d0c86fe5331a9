#pragma once
/*
 * Statistics of rollouts (DESIGN.md, "pass@k" and gate 10's rule after rollouts).
 * Plain functions of counts: nothing here draws, stores or decides.
 */

/*
 * pass@k from n rollouts of which c passed: 1 - C(n-c, k) / C(n, k), the unbiased
 * estimator of Chen et al. 2021 (Evaluating Large Language Models Trained on Code,
 * section 2.1). Needs 0 <= c <= n and 1 <= k <= n; NaN otherwise.
 */
double agon_pass_at_k(int n, int c, int k);

/*
 * A two-sided interval for pass@k at level 1 - alpha: the exact (Clopper-Pearson 1934)
 * interval of the single rollout's rate p, mapped by 1 - (1-p)^k, which is monotone.
 * It holds at least that often, whatever p is. Same domain as above. With k near n the
 * estimator above is coarse (k = n: 0 or 1) and may lie outside.
 */
void agon_pass_at_k_interval(int n, int c, int k, double alpha, double *ret_low, double *ret_high);

/*
 * Is the higher level easier than the one below? Fisher's exact one-sided test: the
 * probability, if both had the same rate, of c_high or more passes among the n_high
 * rollouts of the higher level, given c_low + c_high passes in all. Below 0.1 the
 * higher level is significantly easier and is not kept. NaN outside 0 <= c <= n.
 */
double agon_fisher_easier(int c_low, int n_low, int c_high, int n_high);
