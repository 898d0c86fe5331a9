#include "base/rng.h"
#include "tests/test.h"

/* The first outputs of the published generator (pcg32_srandom(42, 54)), which starts from
 * this state and increment. */
TEST(steps_as_pcg32_does)
{
    struct agon_rng r = {.inc = 54 << 1 | 1};
    (void)agon_rng_u32(&r);
    r.state += 42;
    (void)agon_rng_u32(&r);
    static const uint32_t expected[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330,
                                        0x83d2f293, 0xbfa4784b, 0xcbed606e};
    for (size_t i = 0; i < 6; i++)
        EXPECT(agon_rng_u32(&r) == expected[i]);
}

/* Written down once; a change here changes every corpus made from a seed. */
TEST(a_seed_means_the_same_for_ever)
{
    struct agon_rng r;
    agon_rng_init(&r, 2024);
    struct agon_rng stage = agon_rng_split(&r, agon_str("stage"));
    struct agon_rng sample = agon_rng_split_int(&stage, 7);
    EXPECT(agon_rng_u32(&r) == 0x2745881c);
    EXPECT(agon_rng_u32(&stage) == 0x34c67f1c);
    EXPECT(agon_rng_u32(&sample) == 0x678c6526);
}

TEST(a_split_depends_on_names_and_not_on_draws)
{
    struct agon_rng a, b;
    agon_rng_init(&a, 1);
    agon_rng_init(&b, 1);
    for (int i = 0; i < 100; i++)
        (void)agon_rng_u32(&b);
    struct agon_rng x = agon_rng_split(&a, agon_str("x")), y = agon_rng_split(&b, agon_str("x"));
    EXPECT(x.state == y.state && x.inc == y.inc);
    struct agon_rng before = a;
    (void)agon_rng_split_int(&a, 3);
    EXPECT(a.state == before.state && a.inc == before.inc);
}

TEST(other_names_give_other_streams)
{
    struct agon_rng root, parts[200];
    agon_rng_init(&root, 5);
    for (size_t i = 0; i < 100; i++) {
        char name[8] = {(char)i};
        parts[i] = agon_rng_split_int(&root, i);
        parts[100 + i] = agon_rng_split(&root, (struct agon_str){name, 8}); /* the same bytes */
    }
    for (size_t i = 0; i < 200; i++)
        for (size_t j = 0; j < i; j++)
            REQUIRE(parts[i].inc != parts[j].inc && parts[i].state != parts[j].state);
}

TEST(below_is_uniform)
{
    struct agon_rng r;
    agon_rng_init(&r, 9);
    static const uint32_t sizes[] = {1, 2, 6, 1000};
    for (size_t k = 0; k < 4; k++) {
        uint32_t n = sizes[k];
        static int counts[1000];
        memset(counts, 0, sizeof(counts));
        int draws = 1000 * (int)n;
        for (int i = 0; i < draws; i++) {
            uint32_t x = agon_rng_below(&r, n);
            REQUIRE(x < n);
            counts[x]++;
        }
        double chi2 = 0;
        for (uint32_t i = 0; i < n; i++)
            chi2 += (counts[i] - 1000.0) * (counts[i] - 1000.0) / 1000.0;
        EXPECT(chi2 < n + 5 * sqrt(2.0 * n)); /* five standard deviations */
    }
    /* Of 3 * 2^30 values, a biased remainder would give the lowest third twice as often. */
    int low = 0;
    for (int i = 0; i < 30000; i++)
        low += agon_rng_below(&r, 3u << 30) < 1u << 30;
    EXPECT(abs(low - 10000) < 500);
}

TEST(reals_lie_in_the_unit_interval)
{
    struct agon_rng r;
    agon_rng_init(&r, 11);
    double sum = 0, least = 1, most = 0;
    for (int i = 0; i < 100000; i++) {
        double x = agon_rng_real(&r);
        REQUIRE(x >= 0 && x < 1);
        sum += x;
        least = x < least ? x : least;
        most = x > most ? x : most;
    }
    EXPECT(fabs(sum / 100000 - 0.5) < 0.005 && least < 0.001 && most > 0.999);
}
