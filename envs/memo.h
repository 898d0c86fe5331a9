#pragma once
/*
 * What a SELECT gave, kept for the state in which it was asked. Sixteen rollouts of a task
 * and the gates' 10,000 answers ask one world mostly the same; without this a scan of a
 * few thousand rows is paid each time. Nothing that tools or checks can see depends on it:
 * rows, fuel, operations and the columns read are as if the statement had run.
 *
 * Invariants: 1. what is known of the clean world is used where none of the tables that the
 * statement reads has an event in the log of changes, what is known of a written state that has a
 * number (recall.h) in that state, and both are emptied when the clean world becomes another one
 * (perturbed, its statements dropped); what a verifier asked a written world without a number is
 * emptied before each statement that writes, when a call is undone and at the reset; 2. a result is
 * kept whole or not at all, and errors never; 3. its size is bounded; 4. a result belongs to one
 * principal's statement; people's are not kept.
 */
#include "envs/world.h"

struct agon_memo;

/* A value, in memory of our own: what is kept takes nothing of what statements may have. */
struct agon_memo_cell {
    int type; /* as SQLite's */
    union {
        int64_t integer;
        double real;
        struct agon_str text; /* owned */
    };
};
/* A result: cells by row, then column. */
struct agon_memo_rows {
    struct agon_memo_cell *cells;
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
/* In place of a run: note what it reads and count what it would have used, which is returned. */
int64_t agon_memo_replay(struct agon_world *w, struct agon_statement *st,
                         const struct agon_memo_rows *rows);
