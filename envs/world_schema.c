/*
 * The world's tables (world.h). Only what DESIGN.md allows is accepted: STRICT
 * tables with a primary key and plain names. Views, triggers and virtual tables
 * would run SQL that nobody called.
 */
#include "envs/schema.h"
#include "envs/world_internal.h"
#include "sandbox/script_record.h"

#include <stdlib.h>

enum { TABLES_MAX = 100, COLUMNS_MAX = 1000 };

void world_tables_free(struct agon_world *w)
{
    for (int i = 0; i < w->n_tables; i++) {
        for (int k = 0; k < w->tables[i].n_columns; k++)
            free(w->tables[i].columns[k].name);
        free(w->tables[i].columns);
        free((void *)(uintptr_t)w->tables[i].shape.names);
        free(w->tables[i].in_lua);
        free(w->tables[i].name);
    }
    free(w->tables);
    w->tables = NULL;
    w->n_tables = 0;
}

int agon_world_find_table(const struct agon_world *w, struct agon_str name)
{
    for (int i = 0; i < w->n_tables; i++)
        if (agon_str_is(name, w->tables[i].name))
            return i;
    return -1;
}

int agon_world_find_column(const struct agon_table *t, struct agon_str name)
{
    for (int i = 0; name.size > 0 && i < t->n_columns; i++) {
        const char *column = t->columns[i].name;
        if (*column == *name.data && agon_str_is(name, column)) /* most differ at once */
            return i;
    }
    return -1;
}

/* One row of a query about the schema; name is the first column, borrowed. */
typedef int row_fn(void *user, sqlite3_stmt *q, struct agon_err *err);

/* *q: the statement, prepared when it is NULL; the caller's to finalize. */
static int schema_rows(struct agon_world *w, sqlite3_stmt **q, const char *sql, const char *name,
                       row_fn *fn, void *user, struct agon_err *err)
{
    if (!*q && sqlite3_prepare_v2(w->db, sql, -1, q, NULL) != SQLITE_OK) {
        agon_fail(err, AGON_WORLD_REFUSED, "world: the schema cannot be read: %s",
                  sqlite3_errmsg(w->db));
        return AGON_WORLD_REFUSED;
    }
    if (name)
        (void)sqlite3_bind_text(*q, 1, name, -1,
                                SQLITE_TRANSIENT); /* an unbound one finds nothing */
    int r = 0;
    while (!r && sqlite3_step(*q) == SQLITE_ROW)
        r = fn(user, *q, err);
    (void)sqlite3_reset(*q);
    return r;
}

static int schema_query(struct agon_world *w, const char *sql, row_fn *fn, void *user,
                        struct agon_err *err)
{
    sqlite3_stmt *q = NULL;
    int r = schema_rows(w, &q, sql, NULL, fn, user, err);
    sqlite3_finalize(q);
    return r;
}

static const char *text_at(sqlite3_stmt *q, int i)
{
    const char *text = (const char *)sqlite3_column_text(q, i);
    return text ? text : "";
}

/* A whole number in a REAL column lies there as an integer. */
static uint8_t stored_as(const char *type, bool not_null)
{
    static const struct {
        const char *type;
        uint8_t stored;
    } types[] = {
        {"INTEGER", AGON_STORED_INTEGER}, {"INT", AGON_STORED_INTEGER},
        {"TEXT", AGON_STORED_TEXT},       {"REAL", AGON_STORED_REAL | AGON_STORED_INTEGER},
        {"BLOB", AGON_STORED_BLOB},       {"ANY", AGON_STORED_ANY & ~AGON_STORED_NULL},
    };
    for (size_t i = 0; i < sizeof(types) / sizeof(*types); i++)
        if (sqlite3_stricmp(type, types[i].type) == 0)
            return not_null ? types[i].stored : types[i].stored | AGON_STORED_NULL;
    return 0;
}

static int add_column(void *user, sqlite3_stmt *q, struct agon_err *err)
{
    struct agon_table *t = user;
    struct agon_column *columns =
        realloc(t->columns, (size_t)(t->n_columns + 1) * sizeof(*columns));
    if (!columns)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    t->columns = columns;
    struct agon_column *c = &columns[t->n_columns];
    *c = (struct agon_column){.name = strdup(text_at(q, 0))};
    if (!c->name)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    t->n_columns++;
    c->real = sqlite3_stricmp(text_at(q, 1), "REAL") == 0;
    c->stored = stored_as(text_at(q, 1), sqlite3_column_int(q, 4) != 0);
    c->key = sqlite3_column_int(q, 2);
    t->n_keys += c->key > 0;
    if (sqlite3_column_int(q, 3) > 0) { /* the preupdate hook does not see them */
        agon_fail(err, AGON_WORLD_REFUSED,
                  "world: table '%s': column '%.60s' is generated; store its values", t->name,
                  c->name);
        return AGON_WORLD_REFUSED;
    }
    if (agon_name_check(c->name, err)) {
        agon_err_in(err, 0, "world: table '%s': column", t->name);
        return AGON_WORLD_REFUSED;
    }
    return 0;
}

static int add_table(void *user, sqlite3_stmt *q, struct agon_err *err)
{
    struct agon_world *w = user;
    const char *name = text_at(q, 0), *type = text_at(q, 1), *why = NULL;
    if (!strncmp(name, "sqlite_", 7))
        return 0;
    if (agon_name_check(name, err)) {
        agon_err_in(err, 0, "world: table");
        return AGON_WORLD_REFUSED;
    }
    if (strcmp(type, "table") != 0)
        why = "is no plain table (views and virtual tables are not possible)";
    else if (!sqlite3_column_int(q, 2))
        why = "is not STRICT";
    else if (w->n_tables == TABLES_MAX)
        why = "is one table too many (at most 100)";
    if (why) {
        agon_fail(err, AGON_WORLD_REFUSED, "world: '%s' %s", name, why);
        return AGON_WORLD_REFUSED;
    }
    struct agon_table *tables = realloc(w->tables, (size_t)(w->n_tables + 1) * sizeof(*tables));
    if (!tables)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    w->tables = tables;
    struct agon_table *t = &tables[w->n_tables];
    *t = (struct agon_table){.name = strdup(name), .rowid = !sqlite3_column_int(q, 3)};
    if (!t->name)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    w->n_tables++;
    return 0;
}

/* A UNIQUE index or a reference: alone or with others. */
static int mark_index(void *user, sqlite3_stmt *q, struct agon_err *err)
{
    struct agon_table *t = user;
    if (sqlite3_column_type(q, 0) == SQLITE_NULL) {
        agon_fail(err, AGON_WORLD_REFUSED,
                  "world: table '%s': a UNIQUE index over an expression is not possible", t->name);
        return AGON_WORLD_REFUSED;
    }
    int c = agon_world_find_column(t, agon_str(text_at(q, 0)));
    t->key_index |= sqlite3_column_int(q, 3) != 0;
    if (c >= 0 && sqlite3_column_int(q, 1) > 1)
        t->columns[c].composite = true;
    else if (c >= 0 && sqlite3_column_int(q, 2))
        t->columns[c].unique = true;
    return 0;
}

/* A key that is the row number itself is not stored twice. */
static void mark_row_number(struct agon_table *t)
{
    for (int i = 0; i < t->n_columns; i++)
        if (t->rowid && t->columns[i].key && !t->key_index)
            t->columns[i].stored = AGON_STORED_NULL;
}

/* q: the three questions, which are the same for each table. */
static int read_table(struct agon_world *w, sqlite3_stmt *q[3], struct agon_table *t,
                      struct agon_err *err)
{
    int r = schema_rows(w, &q[0],
                        "SELECT name, type, pk, hidden, \"notnull\" FROM pragma_table_xinfo(?)",
                        t->name, add_column, t, err);
    if (!r && t->n_keys == 0) {
        agon_fail(err, AGON_WORLD_REFUSED, "world: table '%s' has no PRIMARY KEY", t->name);
        return AGON_WORLD_REFUSED;
    }
    for (int i = 0; !r && i < t->n_columns; i++) {
        t->columns[i].unique = t->columns[i].key && t->n_keys == 1;
        t->columns[i].composite = t->columns[i].key && t->n_keys > 1;
    }
    if (!r)
        r = schema_rows(
            w, &q[1],
            "SELECT i.name, (SELECT count(*) FROM pragma_index_info(l.name)), 1, l.origin = 'pk'"
            " FROM pragma_index_list(?) l, pragma_index_info(l.name) i WHERE l.\"unique\"",
            t->name, mark_index, t, err);
    if (!r)
        r = schema_rows(w, &q[2],
                        "SELECT f.\"from\", (SELECT count(*) FROM pragma_foreign_key_list(?1) g "
                        "WHERE g.id = f.id), 0, 0"
                        " FROM pragma_foreign_key_list(?1) f",
                        t->name, mark_index, t, err);
    mark_row_number(t);
    return r;
}

static int shape_table(struct agon_table *t, struct agon_err *err)
{
    const char **names = calloc((size_t)t->n_columns + 1, sizeof(*names));
    t->shape = (struct agon_shape){names, t->n_columns};
    t->in_lua = calloc((size_t)t->n_columns + 1, sizeof(*t->in_lua));
    if (!names || !t->in_lua)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    for (int i = 0; i < t->n_columns; i++)
        t->in_lua[i].text = names[i] = t->columns[i].name;
    return 0;
}

static int refuse_trigger(void *user, sqlite3_stmt *q, struct agon_err *err)
{
    (void)user;
    agon_fail(err, AGON_WORLD_REFUSED, "world: '%.60s' is a %.20s, which is not possible",
              text_at(q, 0), text_at(q, 1));
    return AGON_WORLD_REFUSED;
}

int world_read_schema(struct agon_world *w, struct agon_err *err)
{
    int r =
        schema_query(w, "SELECT name, type FROM sqlite_schema WHERE type NOT IN ('table', 'index')",
                     refuse_trigger, w, err);
    if (!r)
        r = schema_query(
            w,
            "SELECT name, type, strict, wr FROM pragma_table_list WHERE schema = 'main'"
            " ORDER BY name",
            add_table, w, err);
    sqlite3_stmt *q[3] = {NULL};
    for (int i = 0; !r && i < w->n_tables; i++) {
        r = read_table(w, q, &w->tables[i], err);
        r = r ? r : shape_table(&w->tables[i], err);
        w->tables[i].first = w->n_columns;
        w->n_columns += w->tables[i].n_columns;
    }
    for (size_t i = 0; i < sizeof(q) / sizeof(*q); i++)
        sqlite3_finalize(q[i]);
    if (!r && w->n_columns > COLUMNS_MAX) {
        agon_fail(err, AGON_WORLD_REFUSED, "world: over %d columns", COLUMNS_MAX);
        return AGON_WORLD_REFUSED;
    }
    return r;
}
