#pragma once
/*
 * What a verifier's SELECT gave, kept while the world cannot change. The gates judge
 * 10,000 answers on one world, and most checks ask it the same each time; without this
 * a scan of a few thousand rows is paid 10,000 times. Nothing that a check can see
 * depends on it: rows, fuel and operations are charged as if the statement had run.
 *
 * Invariants: 1. it is filled only while the world is query_only, and emptied with the
 * statements, before each statement that writes and at every reset that does something;
 * 2. a result is kept whole or not at all, and errors never; 3. its size is bounded.
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
 * What the statement is being bound to, in order: agon_memo_bind() first, then each parameter. It
 * is the name under which a result is kept, so two numbers that differ in the last bit are two.
 */
void agon_memo_bind(struct agon_world *w, struct agon_statement *st);
void agon_memo_bind_int(struct agon_world *w, int64_t value);
void agon_memo_bind_real(struct agon_world *w, double value);
void agon_memo_bind_text(struct agon_world *w, struct agon_str value);
void agon_memo_bind_null(struct agon_world *w);
/*
 * The rows that this statement, bound as it is, gave before, or NULL; then what
 * agon_memo_row() sees until agon_memo_done() is kept. all: every row is wanted, not
 * the first alone. The result stands until the next call.
 */
const struct agon_memo_rows *agon_memo_find(struct agon_world *w, struct agon_statement *st,
                                            bool all);
/* The row on which the statement stands. */
void agon_memo_row(struct agon_world *w, struct agon_statement *st);
/* The statement ended after so many operations. */
void agon_memo_done(struct agon_world *w, struct agon_statement *st, int64_t ops);
/* In place of a run: reset the statement and count what it would have used, which is returned. */
int64_t agon_memo_replay(struct agon_world *w, struct agon_statement *st,
                         const struct agon_memo_rows *rows);
