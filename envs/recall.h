#pragma once
/*
 * What a tool call did, kept while the world that it starts from is the same. A call is a function
 * of the state, its tool and its arguments, so one that was made before from the same state gives
 * the same bytes at the same cost without its Lua: rollouts of one task begin alike, forks and the
 * verdicts of an answer start from a list of calls that the cell has made already. What a call
 * wrote is kept as its statements with their parameters, and those run again: log of changes,
 * foreign keys and budgets are SQLite's own work each time.
 *
 * Invariants: 1. a state has a number, 0 as the reset left it, which is never used for another one;
 * a call that writes is known by the number of the state it was made from, one that reads may be
 * known for all states in which the tables it reads are as the reset left them; 2. all is forgotten
 * when the clean world becomes another one, with the rows of memo.h; 3. what fails is never kept,
 * and where a budget might end a call, it is made; 4. the size is bounded.
 */
#include "envs/world.h"

struct agon_recall;

enum { AGON_STATE_CLEAN = 0, AGON_STATE_UNKNOWN = -1 };

struct agon_recalled { /* all borrowed from the recall; stands until the next call on it */
    struct agon_str canonical, result;
    int64_t fuel, ops;
    int64_t state;                 /* that it leads to */
    int n_events;                  /* that it adds to the log of changes */
    uint64_t noted;                /* in which round its reads were noted */
    const uint8_t *reads, *tables; /* as in a statement */
    struct agon_str statements;    /* that wrote, with what they were bound to */
};
/* A call: of which tool (its number), from which state, with these arguments as they came. */
struct agon_recall_call {
    int64_t state;
    int tool;
    bool writes;  /* the tool may */
    int64_t fuel; /* that it may use */
    struct agon_str arguments;
};

struct agon_recall *agon_recall_new(void); /* NULL: no memory */
void agon_recall_free(struct agon_recall *r);
/* What it did, or NULL: then it is to be made, between agon_recall_begin() and agon_recall_end().
 */
struct agon_recalled *agon_recall_find(struct agon_recall *r, struct agon_world *w,
                                       const struct agon_recall_call *call);
/* In place of the call: note what it read, run what it wrote. Returns 0, or 1 where SQLite did not
 * what it did before (no memory): the state is none then, and has to be made again. */
int agon_recall_redo(struct agon_recalled *known, struct agon_world *w);
/* Record the call that agon_recall_find() has just missed. */
void agon_recall_begin(struct agon_recall *r, struct agon_world *w);
/* What came of it; NULL: an error, not kept. did: canonical, result, fuel, ops. Returns the number
 * of the state it led to. */
int64_t agon_recall_end(struct agon_recall *r, struct agon_world *w,
                        const struct agon_recalled *did);
