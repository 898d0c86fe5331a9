/* The heap of a Lua state: blocks do not overlap, and snapshots put every byte back. */
#include "base/rng.h"
#include "sandbox/heap.h"
#include "tests/test.h"

#include <string.h>

enum { BLOCKS = 300, SIZE_MAX_TEST = 6000 };

struct blocks {
    unsigned char *at[BLOCKS];
    size_t size[BLOCKS];
};

static size_t some_size(struct agon_rng *rng)
{
    return 1 + (size_t)agon_rng_below(rng, agon_rng_below(rng, 4) ? 200 : SIZE_MAX_TEST);
}

/* Free, take or resize one; each is filled with its own number. */
static void step(struct agon_heap *h, struct blocks *b, struct agon_rng *rng)
{
    int i = (int)agon_rng_below(rng, BLOCKS);
    size_t size = agon_rng_below(rng, 3) ? some_size(rng) : 0;
    unsigned char *now = agon_heap_realloc(h, b->at[i], b->size[i], size);
    if (size && !now)
        return;
    b->at[i] = now;
    b->size[i] = size;
    if (now)
        memset(now, i % 251, size);
}

static bool intact(const struct blocks *b)
{
    for (int i = 0; i < BLOCKS; i++)
        for (size_t k = 0; k < b->size[i]; k++)
            if (b->at[i][k] != i % 251)
                return false;
    return true;
}

TEST(blocks_of_all_sizes_never_overlap)
{
    struct agon_heap h;
    struct agon_err err;
    struct agon_rng rng;
    static struct blocks b;
    agon_rng_init(&rng, 5);
    REQUIRE(agon_heap_init(&h, 1 << 20, &err) == 0);
    for (int i = 0; i < 20000; i++) {
        step(&h, &b, &rng);
        if (i % 500 == 0)
            REQUIRE(intact(&b));
    }
    size_t sum = 0;
    for (int i = 0; i < BLOCKS; i++)
        sum += b.size[i];
    EXPECT(sum <= agon_heap_used(&h) && agon_heap_used(&h) <= 1 << 20);
    agon_heap_deinit(&h);
}

/* What is free goes into small blocks before the heap grows. */
TEST(small_blocks_are_cut_from_what_was_freed)
{
    struct agon_heap h;
    struct agon_err err;
    REQUIRE(agon_heap_init(&h, 1 << 20, &err) == 0);
    char *large = agon_heap_realloc(&h, NULL, 0, 1000), *small = large;
    agon_heap_realloc(&h, large, 1000, 0);
    for (int i = 0; i < 1000 / 48; i++) {
        small = agon_heap_realloc(&h, NULL, 0, 48);
        EXPECT(small >= large && small + 48 <= large + 1008);
    }
    agon_heap_deinit(&h);
}

TEST(a_layer_is_restored_until_it_is_dropped_and_then_the_snapshot_is)
{
    struct agon_heap h;
    struct agon_err err;
    struct agon_rng rng;
    static struct blocks first, second, now;
    agon_rng_init(&rng, 6);
    REQUIRE(agon_heap_init(&h, 1 << 20, &err) == 0);
    for (int i = 0; i < 500; i++)
        step(&h, &first, &rng);
    size_t used_first = agon_heap_used(&h);
    REQUIRE(agon_heap_snapshot(&h, &err) == 0);
    for (int round = 0; round < 20; round++) {
        second = first;
        for (int i = 0; i < 200; i++)
            step(&h, &second, &rng);
        size_t used_second = agon_heap_used(&h);
        REQUIRE(agon_heap_layer(&h, &err) == 0);
        for (int again = 0; again < 3; again++) {
            now = second;
            for (int i = 0; i < 400; i++)
                step(&h, &now, &rng);
            agon_heap_restore(&h);
            EXPECT(intact(&second) && agon_heap_used(&h) == used_second);
        }
        agon_heap_drop_layer(&h);
        agon_heap_restore(&h);
        EXPECT(intact(&first) && agon_heap_used(&h) == used_first);
    }
    agon_heap_deinit(&h);
}

/* Blocks that never change lie apart; only where something was about there are they put back. */
TEST(fixed_blocks_are_restored_once_stirred)
{
    struct agon_heap h;
    struct agon_err err;
    REQUIRE(agon_heap_init(&h, 1 << 20, &err) == 0);
    size_t used = agon_heap_used(&h);
    char *gone = agon_heap_take_fixed(&h, 100), *kept = agon_heap_take_fixed(&h, 3000);
    REQUIRE(gone && kept);
    agon_heap_realloc(&h, gone, 100, 0);
    EXPECT(agon_heap_take_fixed(&h, 100) == gone); /* what is freed is taken again */
    memset(gone, 1, 100);
    memset(kept, 2, 3000);
    kept = agon_heap_realloc(&h, kept, 3000, 2500);
    char *larger = agon_heap_realloc(&h, gone, 100, 200);
    EXPECT(larger != gone && larger[99] == 1);
    EXPECT(agon_heap_used(&h) - used == 4096 + 208);
    REQUIRE(agon_heap_snapshot(&h, &err) == 0);
    EXPECT(!agon_heap_take_fixed(&h, 16));
    larger[5] = kept[2400] = 9;
    agon_heap_stir(&h);
    REQUIRE(agon_heap_layer(&h, &err) == 0);
    for (int again = 0; again < 2; again++) {
        larger[5] = 10; /* in a layer that was made after a stir, without another one */
        agon_heap_restore(&h);
        EXPECT(larger[5] == 9 && kept[2400] == 9);
    }
    agon_heap_drop_layer(&h);
    agon_heap_restore(&h);
    EXPECT(larger[5] == 1 && kept[2400] == 2);
    agon_heap_realloc(&h, kept, 2500, 0); /* lost until the restore, and not written to */
    agon_heap_restore(&h);
    EXPECT(kept[0] == 2 && agon_heap_used(&h) - used == 4096 + 208);
    agon_heap_deinit(&h);
}
