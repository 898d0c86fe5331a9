#include "tests/bench/floor.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

struct floor {
    sqlite3 *db;
    sqlite3_stmt *begin, *rollback, *sql[SAMPLE_SQL];
};

static volatile int64_t sink; /* keeps the reading of columns */

static void die(sqlite3 *db)
{
    fprintf(stderr, "bench: floor: %s\n", sqlite3_errmsg(db));
    exit(1);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v3(db, sql, -1, SQLITE_PREPARE_PERSISTENT, &q, NULL) != SQLITE_OK)
        die(db);
    return q;
}

static sqlite3 *open_world(const struct sample *s)
{
    sqlite3 *from = NULL, *db = NULL;
    unsigned char *bytes = (unsigned char *)(uintptr_t)s->world.data;
    sqlite3_int64 size = (sqlite3_int64)s->world.size;
    if (sqlite3_open(":memory:", &from) || sqlite3_open(":memory:", &db) ||
        sqlite3_deserialize(from, "main", bytes, size, size, SQLITE_DESERIALIZE_READONLY))
        die(from);
    sqlite3_stmt *q = prepare(from, "PRAGMA quick_check(1)");
    if (sqlite3_step(q) != SQLITE_ROW)
        die(from);
    sqlite3_finalize(q);
    sqlite3_backup *backup = sqlite3_backup_init(db, "main", from, "main");
    if (!backup || sqlite3_backup_step(backup, -1) != SQLITE_DONE ||
        sqlite3_backup_finish(backup) != SQLITE_OK)
        die(db);
    sqlite3_close(from);
    return db;
}

struct floor *floor_open(const struct sample *s)
{
    struct floor *f = calloc(1, sizeof(*f));
    if (!f)
        exit(1);
    f->db = open_world(s);
    f->begin = prepare(f->db, "BEGIN");
    f->rollback = prepare(f->db, "ROLLBACK");
    for (int i = 0; i < SAMPLE_SQL; i++)
        f->sql[i] = prepare(f->db, sample_sql[i]);
    return f;
}

void floor_close(struct floor *f)
{
    for (int i = 0; i < SAMPLE_SQL; i++)
        sqlite3_finalize(f->sql[i]);
    sqlite3_finalize(f->begin);
    sqlite3_finalize(f->rollback);
    sqlite3_close(f->db);
    free(f);
}

static void read_columns(sqlite3_stmt *q)
{
    for (int i = 0; i < sqlite3_column_count(q); i++)
        switch (sqlite3_column_type(q, i)) {
        case SQLITE_INTEGER: sink += sqlite3_column_int64(q, i); break;
        case SQLITE_FLOAT: sink += (int64_t)sqlite3_column_double(q, i); break;
        default: sink += *sqlite3_column_text(q, i) + sqlite3_column_bytes(q, i);
        }
}

static void run(sqlite3 *db, sqlite3_stmt *q)
{
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW)
        read_columns(q);
    if (rc != SQLITE_DONE)
        die(db);
    sqlite3_reset(q);
}

static void run_step(struct floor *f, const struct sample_step *s)
{
    sqlite3_stmt *q = f->sql[s->sql];
    for (int i = 0; i < s->n_params; i++)
        if (s->text[i])
            sqlite3_bind_text(q, i + 1, s->text[i], -1, SQLITE_STATIC);
        else
            sqlite3_bind_int64(q, i + 1, s->number[i]);
    run(f->db, q);
}

void floor_episode(struct floor *f, const struct sample_episode *e, int first)
{
    run(f->db, f->begin);
    for (int i = first; i < e->n_steps; i++)
        run_step(f, &e->steps[i]);
    run(f->db, f->rollback);
}

void floor_writes(struct floor *f, const struct sample_episode *e)
{
    run(f->db, f->begin);
    for (int i = 0; i < e->n_steps; i++)
        if (e->steps[i].sql == SQL_BOOK || e->steps[i].sql == SQL_SEAT)
            run_step(f, &e->steps[i]);
    run(f->db, f->rollback);
}

void floor_first_verdict(const struct sample *s)
{
    struct floor f = {.db = open_world(s)};
    const struct sample_episode *e = &s->reading[0];
    for (int i = e->n_steps - SAMPLE_VERDICT; i < e->n_steps; i++) {
        enum sample_sql sql = e->steps[i].sql;
        f.sql[sql] = prepare(f.db, sample_sql[sql]);
        run_step(&f, &e->steps[i]);
        sqlite3_finalize(f.sql[sql]);
    }
    sqlite3_close(f.db);
}
