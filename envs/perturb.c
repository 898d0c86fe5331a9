/*
 * Perturbing the world (verifiers/trial.h, DESIGN.md gate 8): each table that has a
 * chosen column is read, its columns are dealt anew, and its rows are put back.
 * Constraints are off meanwhile: permuting keeps the values of each key, so
 * references hold again in the end; CHECKs between columns may not, and need not.
 */
#include "envs/world_internal.h"

#include "base/buf.h"
#include "base/rng.h"

#include <stdio.h>
#include <stdlib.h>

struct rows { /* of one table: cells[row * n_columns + column], owned */
    sqlite3_value **cells;
    int n, n_columns, capacity;
};

static void rows_free(struct rows *rows)
{
    for (int i = 0; i < rows->n * rows->n_columns; i++)
        sqlite3_value_free(rows->cells[i]);
    free(rows->cells);
}

static int rows_add(struct rows *rows, sqlite3_stmt *q, struct agon_err *err)
{
    if (rows->n == rows->capacity) {
        int capacity = rows->capacity ? 2 * rows->capacity : 256;
        sqlite3_value **cells =
            realloc(rows->cells, (size_t)capacity * (size_t)rows->n_columns * sizeof(*cells));
        if (!cells)
            return agon_fail(err, AGON_ENOMEM, "perturb: out of memory");
        rows->cells = cells;
        rows->capacity = capacity;
    }
    sqlite3_value **row = rows->cells + (size_t)rows->n * (size_t)rows->n_columns;
    for (int i = 0; i < rows->n_columns; i++)
        row[i] = sqlite3_value_dup(sqlite3_column_value(q, i));
    rows->n++;
    for (int i = 0; i < rows->n_columns; i++)
        if (!row[i])
            return agon_fail(err, AGON_ENOMEM, "perturb: out of memory");
    return 0;
}

/* "a, b, c" */
static void add_names(struct agon_buf *b, const struct agon_table *t, bool keys_only)
{
    bool first = true;
    for (int i = 0; i < t->n_columns; i++) {
        if (keys_only && !t->columns[i].key)
            continue;
        agon_buf_addf(b, "%s\"%s\"", first ? "" : ", ", t->columns[i].name);
        first = false;
    }
}

static int rows_read(struct rows *rows, struct agon_world *w, const struct agon_table *t,
                     struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    agon_buf_adds(&sql, "SELECT ");
    add_names(&sql, t, false);
    agon_buf_addf(&sql, " FROM \"%s\" ORDER BY ", t->name);
    if (t->rowid)
        agon_buf_adds(&sql, "rowid");
    else
        add_names(&sql, t, true);
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(w->db, agon_buf_text(&sql), -1, &q, NULL) != SQLITE_OK)
        return world_fail(w, agon_buf_text(&sql), err);
    rows->n_columns = t->n_columns;
    int rc, r = 0;
    while (!r && (rc = sqlite3_step(q)) == SQLITE_ROW)
        r = rows_add(rows, q, err);
    sqlite3_finalize(q);
    return r ? r : rc == SQLITE_DONE ? 0 : world_fail(w, "perturb", err);
}

static sqlite3_value **cell(const struct rows *rows, uint32_t row, int column)
{
    return &rows->cells[(size_t)row * (size_t)rows->n_columns + (size_t)column];
}

/* Fisher-Yates. */
static void permute(struct rows *rows, int column, struct agon_rng *rng)
{
    for (uint32_t i = (uint32_t)rows->n; i > 1; i--) {
        sqlite3_value **a = cell(rows, i - 1, column),
                      **b = cell(rows, agon_rng_below(rng, i), column);
        sqlite3_value *v = *a;
        *a = *b;
        *b = v;
    }
}

static int draw(struct rows *rows, int column, struct agon_rng *rng, struct agon_err *err)
{
    sqlite3_value **drawn = calloc((size_t)rows->n + 1, sizeof(*drawn));
    bool full = drawn != NULL;
    for (int i = 0; full && i < rows->n; i++) {
        drawn[i] = sqlite3_value_dup(*cell(rows, agon_rng_below(rng, (uint32_t)rows->n), column));
        full = drawn[i] != NULL;
    }
    for (int i = 0; drawn && i < rows->n; i++) {
        sqlite3_value **at = cell(rows, (uint32_t)i, column);
        sqlite3_value_free(full ? *at : drawn[i]);
        if (full)
            *at = drawn[i];
    }
    free(drawn);
    return full ? 0 : agon_fail(err, AGON_ENOMEM, "perturb: out of memory");
}

static int rows_write(const struct rows *rows, struct agon_world *w, const struct agon_table *t,
                      struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    agon_buf_addf(&sql, "DELETE FROM \"%s\"", t->name);
    int r = world_exec(w, agon_buf_text(&sql), err);
    if (r)
        return r;
    agon_buf_reset(&sql);
    agon_buf_addf(&sql, "INSERT INTO \"%s\" (", t->name);
    add_names(&sql, t, false);
    agon_buf_adds(&sql, ") VALUES (");
    for (int i = 0; i < t->n_columns; i++)
        agon_buf_adds(&sql, i ? ", ?" : "?");
    agon_buf_adds(&sql, ")");
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(w->db, agon_buf_text(&sql), -1, &q, NULL) != SQLITE_OK)
        return world_fail(w, agon_buf_text(&sql), err);
    int rc = SQLITE_DONE;
    for (int i = 0; i < rows->n && rc == SQLITE_DONE; i++) {
        for (int k = 0; k < t->n_columns && rc == SQLITE_DONE; k++)
            rc = sqlite3_bind_value(q, k + 1, *cell(rows, (uint32_t)i, k)) == SQLITE_OK
                     ? SQLITE_DONE
                     : SQLITE_NOMEM;
        if (rc == SQLITE_DONE)
            rc = sqlite3_step(q);
        (void)sqlite3_reset(q); /* repeats the error of the step */
    }
    if (rc != SQLITE_DONE)
        r = world_fail(w, "perturb", err);
    sqlite3_finalize(q);
    return r;
}

static bool dealt(const struct agon_world *w, const struct agon_table *t, int column)
{
    return w->plan.columns[t->first + column] && !t->columns[column].composite;
}

static int perturb_table(struct agon_world *w, const struct agon_table *t, struct agon_err *err)
{
    struct rows rows AGON_AUTO(rows_free) = {0};
    int r = rows_read(&rows, w, t, err);
    struct agon_rng seed;
    agon_rng_init(&seed, w->plan.seed);
    seed = agon_rng_split_int(&seed, (uint64_t)w->plan.draw);
    seed = agon_rng_split(&seed, agon_str(t->name));
    for (int i = 0; !r && i < t->n_columns; i++) {
        struct agon_rng rng = agon_rng_split(&seed, agon_str(t->columns[i].name));
        if (!dealt(w, t, i))
            continue;
        if (w->plan.draw % 2 == 0 || t->columns[i].unique)
            permute(&rows, i, &rng);
        else
            r = draw(&rows, i, &rng, err);
    }
    return r ? r : rows_write(&rows, w, t, err);
}

static int empty_table(struct agon_world *w, const struct agon_table *t, struct agon_err *err)
{
    char sql[128];
    snprintf(sql, sizeof(sql), "DELETE FROM \"%s\"", t->name);
    return world_exec(w, sql, err);
}

static int perturb_tables(struct agon_world *w, struct agon_err *err)
{
    int r = 0;
    for (int i = 0; !r && i < w->n_tables; i++) {
        bool any = false;
        if (w->plan.draw == AGON_DRAW_NO_ROW) {
            r = empty_table(w, &w->tables[i], err);
            continue;
        }
        for (int k = 0; k < w->tables[i].n_columns; k++)
            any |= dealt(w, &w->tables[i], k);
        if (any)
            r = perturb_table(w, &w->tables[i], err);
    }
    return r;
}

/* Foreign keys by sqlite3_db_config(): the pragma does nothing inside a transaction. */
static int set_constraints(struct agon_world *w, bool on, struct agon_err *err)
{
    if (sqlite3_db_config(w->db, SQLITE_DBCONFIG_ENABLE_FKEY, on, NULL) != SQLITE_OK)
        return world_fail(w, "perturb", err);
    return world_exec(
        w, on ? "PRAGMA ignore_check_constraints=0" : "PRAGMA ignore_check_constraints=1", err);
}

int world_apply_plan(struct agon_world *w, struct agon_err *err)
{
    world_flush_statements(w);
    bool query_only = w->query_only;
    int r = agon_world_set_query_only(w, false, err);
    w->log.paused = true;
    w->trusted++;
    if (!r)
        r = set_constraints(w, false, err);
    if (!r)
        r = perturb_tables(w, err);
    if (!r)
        r = set_constraints(w, true, err);
    w->trusted--;
    w->log.paused = false;
    return r ? r : agon_world_set_query_only(w, query_only, err);
}
