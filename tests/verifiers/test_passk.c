#include "verifiers/passk.h"

#include "tests/test.h"

static bool near(double a, double b)
{
    return fabs(a - b) < 5e-5;
}

TEST(pass_at_1_is_the_rate)
{
    EXPECT(near(agon_pass_at_k(16, 4, 1), 0.25));
    EXPECT(near(agon_pass_at_k(100, 0, 1), 0));
    EXPECT(near(agon_pass_at_k(16, 16, 1), 1));
}

/* 1 - C(12,4)/C(16,4) = 1 - 495/1820. */
TEST(pass_at_k_counts_subsets)
{
    EXPECT(near(agon_pass_at_k(16, 4, 4), 1 - 495.0 / 1820.0));
    EXPECT(near(agon_pass_at_k(16, 1, 16), 1));
    EXPECT(near(agon_pass_at_k(16, 13, 4), 1)); /* fewer failures than k */
    EXPECT(near(agon_pass_at_k(16, 0, 16), 0));
}

TEST(counts_outside_their_domain_give_nan)
{
    double low, high;
    EXPECT(isnan(agon_pass_at_k(16, 17, 1)));
    EXPECT(isnan(agon_pass_at_k(16, -1, 1)));
    EXPECT(isnan(agon_pass_at_k(16, 4, 17)));
    EXPECT(isnan(agon_pass_at_k(16, 4, 0)));
    agon_pass_at_k_interval(4, 5, 1, 0.05, &low, &high);
    EXPECT(isnan(low) && isnan(high));
    EXPECT(isnan(agon_fisher_easier(3, 2, 1, 4)));
}

/* Clopper and Pearson's interval for 8 of 10, 0 of 16 and 16 of 16 (R: binom.test). */
TEST(interval_is_the_exact_one)
{
    double low, high;
    agon_pass_at_k_interval(10, 8, 1, 0.05, &low, &high);
    EXPECT(near(low, 0.44390) && near(high, 0.97479));
    agon_pass_at_k_interval(16, 0, 1, 0.05, &low, &high);
    EXPECT(low == 0 && near(high, 0.20591));
    agon_pass_at_k_interval(16, 16, 1, 0.05, &low, &high);
    EXPECT(near(low, 0.79409) && high == 1);
}

TEST(interval_holds_the_rate_and_grows_with_k)
{
    for (int c = 0; c <= 16; c++) {
        double low, high, last_low = 0, last_high = 0, p = agon_pass_at_k(16, c, 1);
        agon_pass_at_k_interval(16, c, 1, 0.05, &low, &high);
        EXPECT(low <= p && p <= high);
        for (int k = 1; k <= 16; k++) {
            agon_pass_at_k_interval(16, c, k, 0.05, &low, &high);
            EXPECT(low >= last_low && high >= last_high && low <= high && high <= 1);
            last_low = low;
            last_high = high;
        }
    }
}

/* R: fisher.test(matrix(c(3, 1, 1, 3), 2), alternative = "greater"): 0.2428571 (the lady tasting
 * tea). */
TEST(fisher_is_the_exact_test)
{
    EXPECT(near(agon_fisher_easier(1, 4, 3, 4), 17.0 / 70.0));
    EXPECT(near(agon_fisher_easier(0, 16, 16, 16), 1 / 601080390.0));
    EXPECT(near(agon_fisher_easier(8, 16, 8, 16), 0.63778));
}

TEST(a_level_that_is_solved_more_often_is_easier)
{
    EXPECT(agon_fisher_easier(4, 16, 12, 16) < 0.1);
    EXPECT(agon_fisher_easier(4, 16, 6, 16) > 0.1);
    EXPECT(agon_fisher_easier(12, 16, 4, 16) > 0.9);
    EXPECT(agon_fisher_easier(0, 0, 0, 0) == 1);
}
