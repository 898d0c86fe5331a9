#pragma once
/*
 * SQLite, prepared statements only. Bindings stick: the first failure is
 * reported by agon_query_next(). Parameters count from 1, columns from 0.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>

struct sqlite3;
struct agon_query; /* one prepared statement, reusable */

enum { AGON_ROW = 1 };

enum agon_store_mode { AGON_STORE_READ, AGON_STORE_WRITE, AGON_STORE_CREATE };

/* Open a database with foreign keys on, extensions off, defensive on, schema not
 * trusted, "text" in double quotes always a name, and a busy timeout of 10 s. */
int agon_store_open(struct sqlite3 **ret, const char *path, enum agon_store_mode mode,
                    struct agon_err *err) AGON_MUST_USE;
/* Was the last failure the data's own: a constraint, a wrong type, a value too big? Not a disk's. */
bool agon_store_refused(struct sqlite3 *db);
void agon_store_close(struct sqlite3 *db); /* NULL is fine */
AGON_DEFINE_FREEP(struct sqlite3, agon_store_close)
/* Trusted SQL of our own, one or several statements without results. */
int agon_store_exec(struct sqlite3 *db, const char *sql, struct agon_err *err) AGON_MUST_USE;

int agon_query_new(struct agon_query **ret, struct sqlite3 *db, const char *sql,
                   struct agon_err *err) AGON_MUST_USE;
void agon_query_free(struct agon_query *q);
AGON_DEFINE_FREEP(struct agon_query, agon_query_free)

void agon_query_int(struct agon_query *q, int param, int64_t value);
void agon_query_real(struct agon_query *q, int param, double value);
void agon_query_text(struct agon_query *q, int param,
                     const char *value); /* copied; NULL binds NULL */
void agon_query_str(struct agon_query *q, int param, struct agon_str value); /* copied */
void agon_query_null(struct agon_query *q, int param);
/* AGON_ROW with a row, 0 at the end (and the query is reset), <0 on error. */
int agon_query_next(struct agon_query *q, struct agon_err *err) AGON_MUST_USE;
/* Run to the end and reset; rows are ignored. */
int agon_query_run(struct agon_query *q, struct agon_err *err) AGON_MUST_USE;
void agon_query_reset(struct agon_query *q);
int64_t agon_query_get_int(struct agon_query *q, int column);
double agon_query_get_real(struct agon_query *q, int column);
/* Borrowed until the next step; "" for NULL. */
const char *agon_query_get_text(struct agon_query *q, int column);
struct agon_str agon_query_get_str(struct agon_query *q, int column);
bool agon_query_is_null(struct agon_query *q, int column);

/* A transaction that rolls back when it leaves scope without a commit. Nothing is committed once
 * memory ran out unseen (memory.h): what is in it may not be whole. */
struct agon_txn {
    struct sqlite3 *db; /* borrowed; NULL once ended */
};
int agon_txn_begin(struct agon_txn *txn, struct sqlite3 *db, struct agon_err *err) AGON_MUST_USE;
int agon_txn_commit(struct agon_txn *txn, struct agon_err *err) AGON_MUST_USE;
void agon_txn_end(struct agon_txn *txn);
