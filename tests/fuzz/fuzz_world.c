/* Any bytes as world.db: refused, or a world that SQLite's own check passes, in which queries end
 * and that a reset gives back. */
#include "envs/world.h"

#include <assert.h>
#include <sqlite3.h>
#include <stdint.h>
#include <stdio.h>

enum { ROWS_MAX = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(struct agon_world *w, bool writes, const char *sql)
{
    struct agon_statement *st = NULL;
    struct agon_err err;
    if (agon_statement_get(&st, w, AGON_BY_TOOLS, writes, agon_str(sql), &err))
        return;
    for (int n = 0; n < ROWS_MAX && agon_statement_step(st, &err) == AGON_STEP_ROW; n++)
        for (int i = 0; i < agon_statement_n_columns(st); i++)
            (void)sqlite3_column_text(agon_statement_sqlite(st), i);
    (void)agon_statement_end(st);
}

static void walk(struct agon_world *w, const struct agon_table *t)
{
    char sql[200];
    static const char *const forms[] = {"SELECT * FROM %s", "SELECT * FROM %s ORDER BY %s DESC",
                                        "SELECT count(*), max(%2$s) FROM %1$s"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
        (void)snprintf(sql, sizeof(sql), forms[i], t->name, t->columns[0].name);
#pragma GCC diagnostic pop
        run(w, false, sql);
    }
    struct agon_err err;
    if (agon_world_begin_call(w, &err))
        return;
    (void)snprintf(sql, sizeof(sql), "DELETE FROM %s", t->name);
    run(w, true, sql);
    (void)!agon_world_end_call(w, false, &err); /* a damaged page may fail here too */
}

static void quick_check(const uint8_t *data, size_t size)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    unsigned char *image = (unsigned char *)(uintptr_t)data; /* SQLITE_DESERIALIZE_READONLY */
    int rc = sqlite3_open(":memory:", &db);
    if (rc == SQLITE_OK)
        rc = sqlite3_deserialize(db, "main", image, (sqlite3_int64)size, (sqlite3_int64)size,
                                 SQLITE_DESERIALIZE_READONLY);
    if (rc == SQLITE_OK)
        rc = sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &q, NULL);
    assert(rc == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW);
    assert(!strcmp((const char *)sqlite3_column_text(q, 0), "ok"));
    sqlite3_finalize(q);
    sqlite3_close(db);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_world *w AGON_AUTO(agon_world_freep) = NULL;
    struct agon_err err;
    int r = agon_world_open(&w, (struct agon_str){(const char *)data, size}, &err);
    assert(r == 0 || r == AGON_WORLD_REFUSED || r == AGON_ESTORE);
    if (r)
        return 0;
    if (size > 0)
        quick_check(data, size);
    for (int i = 0; i < agon_world_n_tables(w); i++)
        walk(w, agon_world_table(w, i));
    (void)!agon_world_reset(w, &err);
    return 0;
}
