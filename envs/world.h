#pragma once
/*
 * The world inside a cell: an SQLite database in memory under one transaction that
 * is never committed. Statements come from model-written code, so each belongs to a
 * principal, is prepared under an authorizer, and runs on a budget of operations.
 *
 * Invariants: 1. no statement writes but through agon_world_exec's flag; 2. after
 * every error the transaction is looked for: when SQLite rolled all of it back
 * (an interrupted write does), the world is `lost` until the next reset; 3. our own
 * statements run with the authorizer told so, since setting any pragma prepares
 * them again under whatever policy stands then.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"
#include "envs/shape.h"

#include <stdbool.h>
#include <stdint.h>

struct agon_world;
struct agon_statement; /* cached, owned by the world */
struct sqlite3_value;

enum {
    /* Operations of the virtual machine that a statement may take: a base, and some for each row of
     * the world, so that a full scan always fits; a run of several calls may take 50 times as many.
     */
    AGON_WORLD_OPS = 200000,
    AGON_WORLD_OPS_ROW = 20,
    AGON_WORLD_OPS_MAX = 2000000,
    AGON_WORLD_OPS_PEOPLE = 50000000, /* our own questions, statement by statement */
    AGON_WORLD_OPS_RUN = 50,
    AGON_WORLD_ROWS_MAX = 10000, /* that one statement hands out */
    AGON_WORLD_ROWS_PEOPLE = 200000,
    AGON_WORLD_CHANGES_MAX = 20000, /* rows touched since the reset */
    AGON_WORLD_BYTES_MAX = 48 << 20,
    AGON_WORLD_REFUSED = 1,
};

enum agon_principal {
    AGON_BY_TOOLS,
    AGON_BY_VERIFIER,
    AGON_BY_PEOPLE, /* trusted queries: may look at the schema, too */
    AGON_N_PRINCIPALS,
};

enum agon_stored { /* as what a value may lie in the file: bits */
                   AGON_STORED_NULL = 1,
                   AGON_STORED_INTEGER = 2,
                   AGON_STORED_REAL = 4,
                   AGON_STORED_TEXT = 8,
                   AGON_STORED_BLOB = 16,
                   AGON_STORED_ANY = 31,
};
struct agon_column {
    char *name;
    int key;        /* position in the PRIMARY KEY from 1, or 0 */
    uint8_t stored; /* AGON_STORED_* that it takes */
    bool real;      /* declared REAL: whole numbers are floats all the same */
    bool unique;    /* alone a key or UNIQUE */
    bool composite; /* part of a key or UNIQUE of several columns, or of such a reference */
};
struct agon_table {
    char *name;
    struct agon_column *columns;
    int n_columns, n_keys;
    int first;      /* number of the first column among all columns of the world */
    bool rowid;     /* not WITHOUT ROWID */
    bool key_index; /* an index holds its PRIMARY KEY */
    struct agon_shape shape;
    struct agon_script_name *in_lua; /* the names of the columns, for agon_script_record() */
};

/* bytes: an SQLite database file, or empty. AGON_WORLD_REFUSED with a sentence in err when it is
 * damaged or not a world of agon (STRICT tables with keys, no views or triggers, plain names). */
int agon_world_open(struct agon_world **ret, struct agon_str bytes,
                    struct agon_err *err) AGON_MUST_USE;
void agon_world_free(struct agon_world *w);
AGON_DEFINE_FREEP(struct agon_world, agon_world_free)
int agon_world_n_tables(const struct agon_world *w);
const struct agon_table *agon_world_table(const struct agon_world *w, int i);
/* -1 where there is none. */
int agon_world_find_table(const struct agon_world *w, struct agon_str name);
int agon_world_find_column(const struct agon_table *t, struct agon_str name);

/* Back to the initial (or perturbed) state; starts a new run for budgets. */
int agon_world_reset(struct agon_world *w, struct agon_err *err) AGON_MUST_USE;
/* Operations counted against the run's budget so far. */
int64_t agon_world_run_ops(const struct agon_world *w);
int64_t agon_world_run_ops_max(const struct agon_world *w); /* of that budget */
void agon_world_set_run_ops(struct agon_world *w, int64_t ops);
bool agon_world_lost(const struct agon_world *w);
/* Does a DEFERRED reference of what was written lead nowhere? SQLite asks at COMMIT, which never
 * comes. */
bool agon_world_dangles(const struct agon_world *w);
/* The number of the state that the world is in (recall.h), for what is kept of its rows (memo.h): 0
 * after a reset, unknown (-1) once a statement writes, and then what is said here. */
void agon_world_set_state(struct agon_world *w, int64_t state);
/* A savepoint around one writing call. */
int agon_world_begin_call(struct agon_world *w, struct agon_err *err) AGON_MUST_USE;
/* keep: false takes back what the call did. A lost world is left as it is. */
int agon_world_end_call(struct agon_world *w, bool keep, struct agon_err *err) AGON_MUST_USE;
/* query_only: no statement that writes takes a step. reverse flushes statements. Both do nothing
 * when the world is so already. */
int agon_world_set_query_only(struct agon_world *w, bool on, struct agon_err *err) AGON_MUST_USE;
int agon_world_set_reverse(struct agon_world *w, bool on, struct agon_err *err) AGON_MUST_USE;
/* Page cache in KiB, which also bounds what a sort keeps in one piece; 0: as usual. */
int agon_world_set_cache(struct agon_world *w, int kib, struct agon_err *err) AGON_MUST_USE;
/* Columns ("table.column") of agon_perturb's plan (verifiers/trial.h); n 0: none. Takes effect at
 * once: the world is reset to its perturbed state. AGON_DRAW_NO_ROW: all tables are empty, whatever
 * the columns. */
enum { AGON_DRAW_NO_ROW = -1 };
int agon_world_perturb(struct agon_world *w, uint64_t seed, int draw,
                       const struct agon_str *columns, int n, struct agon_err *err) AGON_MUST_USE;

/* ---- statements ---- */

enum agon_step {
    AGON_STEP_END = 0,
    AGON_STEP_ROW = 1,
    AGON_STEP_ERROR = 2, /* the statement is at fault: sentence in err */
    AGON_STEP_LIMIT = 3, /* a budget ran out: sentence in err */
};
/* 0 with a statement that is reset, or AGON_WORLD_REFUSED with a sentence. */
int agon_statement_get(struct agon_statement **ret, struct agon_world *w, enum agon_principal by,
                       bool writes, struct agon_str sql, struct agon_err *err) AGON_MUST_USE;
enum agon_step agon_statement_step(struct agon_statement *st, struct agon_err *err);
/* Reset it and count what it used; also done for the last one by agon_world_settle(). */
int64_t agon_statement_end(struct agon_statement *st);
/* After code that may have been thrown out of the middle of a statement. */
void agon_world_settle(struct agon_world *w);
/* After an entry into Lua of which no value is left: settles, and frees what its rows referred to.
 */
void agon_world_end_entry(struct agon_world *w);
struct sqlite3_stmt *agon_statement_sqlite(struct agon_statement *st);
/* A text of so many bytes was bound for its next run. */
void agon_statement_note_bound(struct agon_statement *st, size_t size);
int agon_statement_n_columns(const struct agon_statement *st);
int agon_statement_n_params(const struct agon_statement *st);
/* The names of its columns; stands until the entry into Lua ends, even if the statement does not.
 */
/* SQLite's code. The text is copied, and the statement charged for its length. */
int agon_statement_bind_text(struct agon_statement *st, int param, struct agon_str text);
/* The columns' names, for sandbox/script_record.h. */
struct agon_script_name *agon_statement_names(struct agon_statement *st);
const struct agon_shape *agon_statement_shape(const struct agon_statement *st);
/* Ask anew for all that was read before (memo.h). */
void agon_world_forget_rows(struct agon_world *w);
/* Columns that tools have read since agon_world_forget_reads(): a byte for each column of the
 * world. */
const uint8_t *agon_world_reads(const struct agon_world *w, int *ret_n);
void agon_world_forget_reads(struct agon_world *w);
/* The columns that checks read, too, from now on, or no longer; what was read is forgotten. */
void agon_world_note_checks(struct agon_world *w, bool on);
