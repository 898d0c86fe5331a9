#pragma once
/*
 * What was asked once, by fingerprints: keeping a result costs as much as asking, and most that is
 * asked once is not asked again, so memo.c and recall.c keep what is asked for the second time.
 * Four to a set: with one each, two questions of the same place drive each other out for ever. Zero
 * it.
 */
#include <stdbool.h>
#include <string.h>

enum { SEEN_SETS = 1024, SEEN_WAYS = 4 };

struct seen {
    unsigned salt; /* another one makes all others unknown */
    unsigned sets[SEEN_SETS][SEEN_WAYS];
};

static inline void seen_forget(struct seen *s)
{
    s->salt += 0x9e3779b9;
}

/* Whether it was asked; from now on it was. */
static inline bool seen_before(struct seen *s, unsigned hash)
{
    unsigned *set = s->sets[hash % SEEN_SETS], mark = (hash ^ s->salt) | 1;
    for (int i = 0; i < SEEN_WAYS; i++)
        if (set[i] == mark)
            return true;
    memmove(set + 1, set, (SEEN_WAYS - 1) * sizeof(*set)); /* the oldest goes */
    set[0] = mark;
    return false;
}
