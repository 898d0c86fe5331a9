#pragma once
/*
 * What a verifier's SELECT gave, kept while the world cannot change. The gates judge
 * 10,000 answers on one world, and most checks ask it the same each time; without this
 * a scan of a few thousand rows is paid 10,000 times. Nothing that a check can see
 * depends on it: rows, fuel and operations are charged as if the statement had run.
 *
 * Invariants: 1. it holds something only while the world is query_only, and is emptied
 * with the statements and at every reset that does something; 2. a result is kept whole
 * or not at all, and errors never; 3. its size is bounded.
 */
#include "envs/world.h"

struct agon_memo;

/* A result: cells by row, then column. */
struct agon_memo_rows {
    struct sqlite3_value **cells;
    int n_rows, n_columns;
    int64_t ops; /* that the statement took */
};

/*
 * The rows that this statement, bound as it is, gave before, or NULL; then what
 * agon_memo_row() sees until agon_memo_done() is kept under its text. all: every row
 * is wanted, not the first alone. The result stands until the next call.
 */
const struct agon_memo_rows *agon_memo_find(struct agon_world *w, struct agon_statement *st,
                                            bool all);
/* A parameter of this run is a number that the statement's text will not show to the last bit
 * (SQLite writes 15 digits): the run is neither kept nor replaced. */
void agon_memo_skip(struct agon_statement *st);
/* The row on which the statement stands. */
void agon_memo_row(struct agon_world *w, struct agon_statement *st);
/* The statement ended after so many operations. */
void agon_memo_done(struct agon_world *w, struct agon_statement *st, int64_t ops);
/* In place of a run: reset the statement and count what it would have used, which is returned. */
int64_t agon_memo_replay(struct agon_world *w, struct agon_statement *st,
                         const struct agon_memo_rows *rows);
