/* SQLite: see store.h. */
#include "base/store.h"

#include "base/memory.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>

enum { STORE_BUSY_MS = 10 * 1000 };

struct agon_query {
    sqlite3_stmt *stmt; /* owned */
    struct sqlite3 *db; /* borrowed */
    int failed;         /* the first bind error, or 0 */
};

static int store_fail(struct agon_err *err, struct sqlite3 *db, const char *sql)
{
    int code = sqlite3_errcode(db) == SQLITE_NOMEM ? AGON_ENOMEM : AGON_ESTORE;
    return agon_fail(err, code, "%s: %s", sqlite3_errmsg(db), sql);
}

static int store_configure(struct sqlite3 *db)
{
    int rc = sqlite3_busy_timeout(db, STORE_BUSY_MS);
    static const struct {
        int option, on;
    } settings[] = {
        {SQLITE_DBCONFIG_ENABLE_FKEY, 1}, {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_DEFENSIVE, 1},   {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_DQS_DML, 0}, /* a mistyped "column" is an error, no string */
        {SQLITE_DBCONFIG_DQS_DDL, 0},
    };
    for (size_t i = 0; !rc && i < sizeof(settings) / sizeof(settings[0]); i++)
        rc = sqlite3_db_config(db, settings[i].option, settings[i].on, NULL);
    return rc;
}

int agon_store_open(struct sqlite3 **ret, const char *path, enum agon_store_mode mode,
                    struct agon_err *err)
{
    static const int flags[] = {[AGON_STORE_READ] = SQLITE_OPEN_READONLY,
                                [AGON_STORE_WRITE] = SQLITE_OPEN_READWRITE,
                                [AGON_STORE_CREATE] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE};
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    int rc = sqlite3_open_v2(path, &db, flags[mode], NULL);
    if (!db || rc == SQLITE_NOMEM)
        return agon_fail(err, AGON_ENOMEM, "%s: out of memory", path);
    int system = rc == SQLITE_CANTOPEN ? sqlite3_system_errno(db) : 0;
    if (rc && system)
        return agon_fail(err, AGON_ESTORE, "%s: %s", path, strerror(system));
    if (rc || store_configure(db))
        return agon_fail(err, AGON_ESTORE, "%s: %s", path, sqlite3_errmsg(db));
    /* SQLite opens lazily: read the header now, so that a file that is no database fails here. */
    if (sqlite3_exec(db, "PRAGMA schema_version", NULL, NULL, NULL))
        return store_fail(err, db, path);
    *ret = AGON_STEAL(db);
    return 0;
}

bool agon_store_refused(struct sqlite3 *db)
{
    int code = sqlite3_errcode(db) & 0xff;
    return code == SQLITE_CONSTRAINT || code == SQLITE_MISMATCH || code == SQLITE_TOOBIG;
}

void agon_store_close(struct sqlite3 *db)
{
    (void)sqlite3_close_v2(db); /* always SQLITE_OK; waits for queries that outlive db */
}

int agon_store_exec(struct sqlite3 *db, const char *sql, struct agon_err *err)
{
    return sqlite3_exec(db, sql, NULL, NULL, NULL) ? store_fail(err, db, sql) : 0;
}

static bool sql_is_blank(const char *sql)
{
    return sql[strspn(sql, " \t\r\n;")] == '\0';
}

int agon_query_new(struct agon_query **ret, struct sqlite3 *db, const char *sql,
                   struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = calloc(1, sizeof(*q));
    if (!q)
        return agon_fail(err, AGON_ENOMEM, "query: out of memory");
    q->db = db;
    const char *tail;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &q->stmt, &tail))
        return store_fail(err, db, sql);
    if (!q->stmt || !sql_is_blank(tail))
        return agon_fail(err, AGON_EINPUT, "exactly one statement at a time: %s", sql);
    *ret = AGON_STEAL(q);
    return 0;
}

void agon_query_free(struct agon_query *q)
{
    if (!q)
        return;
    (void)sqlite3_finalize(q->stmt); /* repeats the last step's error, already reported */
    free(q);
}

static void query_bound(struct agon_query *q, int rc)
{
    if (!q->failed)
        q->failed = rc;
}

void agon_query_int(struct agon_query *q, int param, int64_t value)
{
    query_bound(q, sqlite3_bind_int64(q->stmt, param, value));
}

void agon_query_real(struct agon_query *q, int param, double value)
{
    query_bound(q, sqlite3_bind_double(q->stmt, param, value));
}

void agon_query_text(struct agon_query *q, int param, const char *value)
{
    query_bound(q, sqlite3_bind_text(q->stmt, param, value, -1, SQLITE_TRANSIENT));
}

void agon_query_str(struct agon_query *q, int param, struct agon_str value)
{
    query_bound(q, sqlite3_bind_text64(q->stmt, param, value.size ? value.data : "", value.size,
                                       SQLITE_TRANSIENT, SQLITE_UTF8));
}

void agon_query_null(struct agon_query *q, int param)
{
    query_bound(q, sqlite3_bind_null(q->stmt, param));
}

void agon_query_reset(struct agon_query *q)
{
    (void)sqlite3_reset(q->stmt); /* repeats the last step's error */
    q->failed = 0;
}

int agon_query_next(struct agon_query *q, struct agon_err *err)
{
    int rc = q->failed ? q->failed : sqlite3_step(q->stmt);
    if (rc == SQLITE_ROW)
        return AGON_ROW;
    int r = 0;
    if (q->failed) {
        r = agon_fail(err, rc == SQLITE_NOMEM ? AGON_ENOMEM : AGON_ESTORE, "binding: %s: %s",
                      sqlite3_errstr(rc), sqlite3_sql(q->stmt));
    } else if (rc != SQLITE_DONE) {
        r = store_fail(err, q->db, sqlite3_sql(q->stmt));
    }
    agon_query_reset(q);
    return r;
}

int agon_query_run(struct agon_query *q, struct agon_err *err)
{
    int r;
    while ((r = agon_query_next(q, err)) == AGON_ROW)
        ;
    return r;
}

int64_t agon_query_get_int(struct agon_query *q, int column)
{
    return sqlite3_column_int64(q->stmt, column);
}

double agon_query_get_real(struct agon_query *q, int column)
{
    return sqlite3_column_double(q->stmt, column);
}

const char *agon_query_get_text(struct agon_query *q, int column)
{
    return agon_query_get_str(q, column).data;
}

struct agon_str agon_query_get_str(struct agon_query *q, int column)
{
    /* In this order: column_text may convert, column_bytes then counts the result. */
    const void *text = sqlite3_column_text(q->stmt, column);
    int size = sqlite3_column_bytes(q->stmt, column);
    return text ? (struct agon_str){text, (size_t)size} : agon_str("");
}

bool agon_query_is_null(struct agon_query *q, int column)
{
    return sqlite3_column_type(q->stmt, column) == SQLITE_NULL;
}

int agon_txn_begin(struct agon_txn *txn, struct sqlite3 *db, struct agon_err *err)
{
    int r = agon_store_exec(db, "BEGIN IMMEDIATE", err);
    if (!r)
        txn->db = db;
    return r;
}

int agon_txn_commit(struct agon_txn *txn, struct agon_err *err)
{
    if (agon_memory_ran_out())
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    int r = agon_store_exec(txn->db, "COMMIT", err);
    if (!r)
        txn->db = NULL;
    return r;
}

void agon_txn_end(struct agon_txn *txn)
{
    /* An error such as a full disk may have rolled back already; then this one fails harmlessly. */
    if (txn->db)
        (void)sqlite3_exec(txn->db, "ROLLBACK", NULL, NULL, NULL);
    txn->db = NULL;
}
