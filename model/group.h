#pragma once
/*
 * Ranks: engines that compute one model together, each on a device of its own. Every rank has its
 * own sequences and cache (attention is data-parallel); the experts of each layer are shared out
 * among them, so that a pass of one is a pass of all, with as many rows as any of them has.
 *
 * One process, a thread for each rank: what all must agree on before each pass (does anyone go on,
 * with how many rows) is then a meeting of threads, a few microseconds, where processes would need
 * a message through the devices; and the checkpoint stands in memory once. It ends at one host's
 * GPUs.
 *
 * Everybody goes to the same meetings in the same order. Whoever fails tells the group, which ends
 * every meeting from then on with that line.
 */
#include "base/err.h"
#include "base/mem.h"

#include <stdbool.h>
#include <stddef.h>

struct agon_group;

enum { AGON_RANKS_MAX = 64 };
/* Sets environment variables of NCCL's: while the process has one thread. */
int agon_group_new(struct agon_group **ret, int n_ranks, struct agon_err *err) AGON_MUST_USE;
void agon_group_free(struct agon_group *g); /* no thread may be in it */
AGON_DEFINE_FREEP(struct agon_group, agon_group_free)
int agon_group_ranks(const struct agon_group *g);
/* fn for each rank in a thread of its own; returns when all have. What fails in fn is told by
 * agon_group_fail(); the first such error is returned. */
int agon_group_run(struct agon_group *g, void (*fn)(void *user, int rank), void *user,
                   struct agon_err *err) AGON_MUST_USE;

/* What a rank would do next, and what all do then: the larger of each. */
enum agon_group_kind {
    AGON_GROUP_IDLE,  /* nothing: take part in what the others do */
    AGON_GROUP_BURST, /* n_steps passes without the host, each of n_rows rows on every rank */
    AGON_GROUP_PASS,  /* one pass, of at most n_rows rows */
};
struct agon_group_plan {
    enum agon_group_kind kind;
    int n_rows, n_steps;
    int n_max; /* of a burst: no position + 1 is above this */
};
/* Wait for all ranks; *plan becomes what was agreed. AGON_EDEVICE after agon_group_fail(). */
int agon_group_meet(struct agon_group *g, struct agon_group_plan *plan,
                    struct agon_err *err) AGON_MUST_USE;
/* A meeting where rank 0 gives the others `size` bytes, at most AGON_GROUP_TOLD_MAX. */
enum { AGON_GROUP_TOLD_MAX = 256 };
int agon_group_tell(struct agon_group *g, int rank, void *bytes, size_t size,
                    struct agon_err *err) AGON_MUST_USE;
/* Rank `rank` cannot go on. The first to say so is remembered. */
void agon_group_fail(struct agon_group *g, int rank, const struct agon_err *why);
bool agon_group_failed(struct agon_group *g);
