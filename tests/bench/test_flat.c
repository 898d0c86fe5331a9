/* What must not grow while rollouts pass through a cell. ./run bench runtime does 100,000 of them.
 */
#include "tests/bench/rollouts.h"
#include "tests/test.h"

TEST(memory_of_a_cell_is_flat_over_rollouts)
{
    enum { ROLLOUTS = 6000, SLACK_KIB = 512 };
    struct agon_err err = {0};
    long kib[ROLLOUTS_POINTS] = {0};
    if (!EXPECT(rollouts_memory(ROLLOUTS, kib, &err) == 0))
        printf("# %s\n", err.text);
    EXPECT(kib[0] > 1000);
    if (!EXPECT(kib[ROLLOUTS_POINTS - 1] <= kib[ROLLOUTS_POINTS / 2] + SLACK_KIB))
        printf("# %ld KiB after half, %ld after all\n", kib[ROLLOUTS_POINTS / 2],
               kib[ROLLOUTS_POINTS - 1]);
}
