/* The memory that a cell's SQLite works in. SQLite must not be in use before the first of these. */
#include "envs/world_memory.h"
#include "tests/test.h"

#include <sqlite3.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCKS = 2000, STEPS = 60000 };

static uint64_t rng(uint64_t *state)
{
    *state = *state * 6364136223846793005U + 1442695040888963407U;
    return *state >> 33;
}

static bool holds(const unsigned char *p, int size, int mark)
{
    for (int i = 0; i < size; i++)
        if (p[i] != (unsigned char)mark)
            return false;
    return true;
}

TEST(blocks_of_all_sizes_keep_what_is_in_them)
{
    static unsigned char *blocks[BLOCKS];
    static int sizes[BLOCKS];
    uint64_t state = 7;
    bool whole = true, aligned = true;
    agon_world_memory_use();
    REQUIRE(sqlite3_initialize() == SQLITE_OK);
    size_t before = agon_world_memory_used();
    for (int i = 0; i < STEPS && whole; i++) {
        int k = (int)(rng(&state) % BLOCKS);
        int size = (int)(rng(&state) % (1U << (4 + rng(&state) % 14))) + 1;
        if (blocks[k] && !(whole = holds(blocks[k], sizes[k], k)))
            break;
        if (blocks[k] && rng(&state) % 3 == 0) {
            sqlite3_free(blocks[k]);
            blocks[k] = NULL;
            continue;
        }
        int kept = !blocks[k] ? 0 : sizes[k] < size ? sizes[k] : size;
        blocks[k] = sqlite3_realloc(blocks[k], size);
        whole =
            blocks[k] && holds(blocks[k], kept, k) && sqlite3_msize(blocks[k]) >= (unsigned)size;
        aligned = aligned && ((uintptr_t)blocks[k] & 7) == 0;
        memset(blocks[k], k, (size_t)size);
        sizes[k] = size;
    }
    EXPECT(whole && aligned);
    EXPECT(agon_world_memory_used() > before);
    for (int i = 0; i < BLOCKS; i++)
        sqlite3_free(blocks[i]);
    EXPECT(agon_world_memory_used() == before);
}

TEST(a_statement_that_wants_more_than_the_limit_runs_out_of_memory)
{
    enum { STEP = 16 << 20, MANY = AGON_WORLD_HEAP_MAX / STEP + 1 };
    void *all[MANY];
    int n = 0;
    agon_world_memory_use();
    while (n < MANY && (all[n] = sqlite3_malloc(STEP)))
        n++;
    EXPECT(n == MANY - 1 || n == MANY - 2);
    EXPECT(agon_world_memory_used() <= AGON_WORLD_HEAP_MAX);
    EXPECT(sqlite3_malloc(AGON_WORLD_HEAP_MAX) == NULL);
    while (n > 0)
        sqlite3_free(all[--n]);
    void *again = sqlite3_malloc(STEP);
    EXPECT(again);
    sqlite3_free(again);
}

TEST(what_is_free_goes_back_once_all_of_it_is)
{
    agon_world_memory_use();
    void *one = sqlite3_malloc(100);
    agon_world_memory_trim(); /* keeps it */
    memset(one, 1, 100);
    sqlite3_free(one);
    agon_world_memory_trim();
    void *other = sqlite3_malloc(5000);
    REQUIRE(other);
    memset(other, 2, 5000);
    sqlite3_free(other);
}
