#include "verifiers/passk.h"

#include <math.h>
#include <stdbool.h>

enum { BISECTIONS = 60 }; /* halves [0, 1] down to less than a double can tell */

static bool counts_fit(int n, int c)
{
    return n >= 0 && c >= 0 && c <= n;
}

double agon_pass_at_k(int n, int c, int k)
{
    if (!counts_fit(n, c) || k < 1 || k > n)
        return NAN;
    double none = 1.0; /* the chance that k of n, drawn without replacement, all failed */
    for (int i = 0; i < k; i++)
        none *= (double)(n - c - i > 0 ? n - c - i : 0) / (n - i);
    return 1.0 - none;
}

static double log_choose(int n, int k)
{
    return lgamma(n + 1.0) - lgamma(k + 1.0) - lgamma(n - k + 1.0);
}

/* P(X >= c) for X ~ Binomial(n, p). */
static double binomial_tail(int n, int c, double p)
{
    if (c <= 0)
        return 1.0;
    if (p <= 0.0)
        return 0.0;
    if (p >= 1.0)
        return 1.0;
    double sum = 0.0;
    for (int i = c; i <= n; i++)
        sum += exp(log_choose(n, i) + i * log(p) + (n - i) * log1p(-p));
    return sum;
}

/* The p at which P(X >= c) is `target`; the tail grows with p. */
static double rate_at_tail(int n, int c, double target)
{
    double low = 0.0, high = 1.0;
    for (int i = 0; i < BISECTIONS; i++) {
        double mid = (low + high) / 2;
        if (binomial_tail(n, c, mid) < target)
            low = mid;
        else
            high = mid;
    }
    return (low + high) / 2;
}

void agon_pass_at_k_interval(int n, int c, int k, double alpha, double *ret_low, double *ret_high)
{
    if (!counts_fit(n, c) || k < 1 || k > n || !(alpha > 0.0 && alpha < 1.0)) {
        *ret_low = *ret_high = NAN;
        return;
    }
    double low = c == 0 ? 0.0 : rate_at_tail(n, c, alpha / 2);
    double high = c == n ? 1.0 : rate_at_tail(n, c + 1, 1.0 - alpha / 2);
    *ret_low = 1.0 - pow(1.0 - low, k);
    *ret_high = 1.0 - pow(1.0 - high, k);
}

double agon_fisher_easier(int c_low, int n_low, int c_high, int n_high)
{
    if (!counts_fit(n_low, c_low) || !counts_fit(n_high, c_high))
        return NAN;
    int passed = c_low + c_high, most = passed < n_high ? passed : n_high;
    double total = log_choose(n_low + n_high, passed), sum = 0.0;
    for (int x = c_high; x <= most; x++)
        if (passed - x <= n_low)
            sum += exp(log_choose(n_high, x) + log_choose(n_low, passed - x) - total);
    return sum < 1.0 ? sum : 1.0;
}
