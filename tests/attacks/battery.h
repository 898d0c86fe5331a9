#pragma once
/*
 * The frame of the attack battery: one attack, one test. ATTACK(A6_no_coroutines) { ... } is a
 * TEST whose body does the harm and says how it must end; around the body the frame asserts what
 * must hold whatever the attack is:
 *
 *   - it took at most b->seconds_max of wall time (generous: the machine is shared);
 *   - no process below this one held more than b->rss_mib_max of memory at its peak;
 *   - no process that the attack started is left (orphans are ours, too: we are a subreaper);
 *   - each guarded folder (a corpus) has the same bytes in the same files;
 *   - each neighbour (a world in a cell that is shared with other attacks) answers as before.
 *
 * The body may change b->seconds_max and b->rss_mib_max, and draws randomness from b->rng, whose
 * seed is the id alone: an attack does the same in any order and company.
 */
#include "base/rng.h"
#include "tests/test.h"

/* How an attack ends, as the threat model names it. */
enum outcome {
    CONTAINED,     /* no error: the attack came to nothing, or only to its own result */
    TOOL_ERROR,    /* the agent sees a sentence, and the episode goes on */
    EPISODE_FAIL,  /* the episode ends, recorded */
    ITEM_REJECTED, /* tool, task, verifier or world is refused with a reason */
    WORKER_KILLED, /* the worker is lost, the item refused, others unaffected */
    STOP,          /* the driver stops with one line */
};
const char *outcome_name(enum outcome o);

struct battery {
    const char *id;
    struct agon_rng rng;
    double seconds_max;
    int rss_mib_max;
};

#define ATTACK(id)                              \
    static void attack_##id(struct battery *b); \
    TEST(id)                                    \
    {                                           \
        battery_run(#id, attack_##id);          \
    }                                           \
    static void attack_##id(struct battery *b __attribute__((unused)))

void battery_run(const char *id, void (*attack)(struct battery *b));

/* Prints what was said where the outcome is another one or the words lack `part`. */
#define EXPECT_OUTCOME(got, wanted, said, part) \
    battery_expect(got, wanted, said, part, __FILE__, __LINE__)
bool battery_expect(enum outcome got, enum outcome wanted, const char *said, const char *part,
                    const char *file, int line);

/* The bytes of all files below this folder (names, modes, contents, targets of links) must stay. */
void battery_guard(const char *folder);
/* A digest of the same, for tests that compare by themselves. */
void battery_digest(const char *folder, char ret_hex[65]);
/* Something alive that all attacks of this program share: `check` fails the test when it is not as
 * it was; `drop` lets go of its processes (check may start new ones). */
void battery_neighbour(void (*check)(void), void (*drop)(void));
/* Peak of memory among the processes below this one during this attack so far, in MiB. */
int battery_rss_mib(void);
/* Processes below this one that are not zombies. */
int battery_processes(void);
