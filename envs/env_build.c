/*
 * world.sql -> a database file. The text is written by hand and kept under git, but
 * it may come from a stranger's folder: an authorizer lets it create tables and
 * indexes and insert rows, and a budget ends it.
 */
#include "envs/env_internal.h"

#include "base/str.h"

#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

enum { STEPS = 100000, STEPS_MAX = 2000 }; /* 200 million operations */

static int build_guard(void *user, int action, const char *a, const char *b, const char *schema,
                       const char *trigger)
{
    (void)user, (void)b, (void)trigger;
    if (schema && strcmp(schema, "main") != 0)
        return SQLITE_DENY;
    switch (action) {
    case SQLITE_CREATE_TABLE:
    case SQLITE_CREATE_INDEX:
    case SQLITE_TRANSACTION:
    case SQLITE_SELECT:
    case SQLITE_READ:
    case SQLITE_UPDATE: /* of the schema, inside CREATE */
    case SQLITE_INSERT:
    case SQLITE_REINDEX: return SQLITE_OK;
    case SQLITE_PRAGMA: return a && !strcmp(a, "foreign_keys") ? SQLITE_OK : SQLITE_DENY;
    default: return SQLITE_DENY;
    }
}

static int build_progress(void *user)
{
    return ++*(int *)user > STEPS_MAX;
}

static int build_run(const char *path, const char *sql, struct agon_err *err)
{
    sqlite3 *db = NULL;
    int steps = 0,
        rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
    if (rc == SQLITE_OK) {
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        (void)sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        (void)sqlite3_exec(db, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF", NULL, NULL, NULL);
        sqlite3_set_authorizer(db, build_guard, NULL);
        sqlite3_progress_handler(db, STEPS, build_progress, &steps);
        rc = sqlite3_exec(db, "BEGIN", NULL, NULL, NULL);
        if (rc == SQLITE_OK)
            rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
        if (rc == SQLITE_OK && !sqlite3_get_autocommit(db))
            rc = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    }
    int r = rc == SQLITE_OK ? 0
                            : agon_fail(err, AGON_EINPUT, "world.sql: %s",
                                        db ? sqlite3_errmsg(db) : "out of memory");
    sqlite3_close(db);
    return r;
}

int env_build_world(char **ret_path, const char *sql, struct agon_err *err)
{
    const char *dir = getenv("TMPDIR");
    char *path AGON_AUTO(env_free_text) = NULL;
    if (asprintf(&path, "%s/agon-world-XXXXXX", dir && *dir ? dir : "/tmp") < 0)
        return agon_fail(err, AGON_ENOMEM, "world.sql: out of memory");
    int fd = mkstemp(path);
    if (fd < 0)
        return agon_fail(err, AGON_ESYS, "%s: %m", path);
    (void)close(fd); /* nothing was written */
    int r = build_run(path, sql, err);
    if (r)
        (void)unlink(path); /* best effort: the error is what matters */
    else
        *ret_path = AGON_STEAL(path);
    return r;
}
