#pragma once
/* Draws of a model by the ranks of a group, or by one engine alone: for tests of both engines. */
#include "model/engine.h"

enum { RANKS_SEQUENCES = 11, RANKS_IDS_MAX = 256 };

/* What each sequence drew: the same whoever computed it. */
struct rank_draws {
    int n[RANKS_SEQUENCES], ids[RANKS_SEQUENCES][RANKS_IDS_MAX];
    float logprobs[RANKS_SEQUENCES][RANKS_IDS_MAX], raw[RANKS_SEQUENCES][RANKS_IDS_MAX];
};

/*
 * Sequence i is rank i % n_ranks's: its own prompt, greedy where i is even, 3 i + 5 ids long, so
 * that ranks end at different times. The last one is a fork: its prompt is computed apart. n_ranks
 * 0: one engine, no group.
 */
int rank_draws_make(struct rank_draws *ret, const struct agon_checkpoint *checkpoint,
                    const char *device, int n_ranks, struct agon_err *err) AGON_MUST_USE;
/* The same, where the last rank's device fails in its first pass, after all have agreed on one. */
int rank_draws_break(struct rank_draws *ret, const struct agon_checkpoint *checkpoint,
                     const char *device, int n_ranks, struct agon_err *err) AGON_MUST_USE;
/* How many sequences differ in ids or in a bit of a log-probability; tells the first. */
int rank_draws_differ(const struct rank_draws *a, const struct rank_draws *b);
