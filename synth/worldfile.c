/* World files: see worldfile.h. */
#include "synth/worldfile.h"

#include "base/file.h"
#include "base/json.h"
#include "base/store.h"
#include "envs/schema.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { SQL_BYTES_MAX = 64 << 10, ROWS_AT_ONCE = 500, COLUMNS_MAX = 64, ROWS_MAX = 200000 };

int agon_worldfile_create(const char *path, struct agon_err *err)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    if (unlink(path) && errno != ENOENT)
        return agon_fail(err, AGON_ESYS, "world %s: %s", path, strerror(errno));
    int r = agon_store_open(&db, path, AGON_STORE_CREATE, err);
    /* a header alone, so that the file is a database from the start */
    return r ? r : agon_store_exec(db, "PRAGMA user_version = 1", err);
}

int agon_worldfile_count(const char *path, int *ret_n, struct agon_err *err)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_store_open(&db, path, AGON_STORE_READ, err);
    if (r || (r = agon_query_new(&q, db,
                                 "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name "
                                 "NOT GLOB 'sqlite_*'",
                                 err)))
        return r;
    if ((r = agon_query_next(q, err)) < 0)
        return r;
    *ret_n = (int)agon_query_get_int(q, 0);
    return 0;
}

/* ---- adopting ---------------------------------------------------------------- */

struct adoption {
    struct agon_instance *in; /* the stranger's database, in a cell */
    struct sqlite3 *out;      /* ours */
    struct agon_buf *reason;
};

static int AGON_PRINTF(2, 3) refuse(struct adoption *a, const char *fmt, ...);
static int refuse(struct adoption *a, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(a->reason, fmt, ap);
    va_end(ap);
    return AGON_REJECTED;
}

static int adopt_rows(struct adoption *a, const struct agon_buf *sql, json_t **ret,
                      struct agon_err *err)
{
    int r = agon_buf_check(sql, "world", err);
    return r ? r : agon_instance_sql(a->in, agon_buf_str(sql), ret, a->reason, err);
}

static const char *field(const json_t *rows, size_t i, const char *key)
{
    return agon_json_text(json_array_get(rows, i), key, "");
}

static json_int_t number(const json_t *rows, size_t i, const char *key)
{
    return json_integer_value(json_object_get(json_array_get(rows, i), key));
}

/* SQLite's rule for a column's affinity, narrowed to our three types. */
static const char *type_of(const char *declared)
{
    char upper[64];
    size_t n = 0;
    for (; declared[n] && n < sizeof(upper) - 1; n++)
        upper[n] =
            (char)(declared[n] >= 'a' && declared[n] <= 'z' ? declared[n] - 32 : declared[n]);
    upper[n] = '\0';
    if (strstr(upper, "INT"))
        return "INTEGER";
    if (strstr(upper, "REAL") || strstr(upper, "FLOA") || strstr(upper, "DOUB") ||
        strstr(upper, "NUM") || strstr(upper, "DEC"))
        return "REAL";
    return "TEXT";
}

static int adopt_check_columns(struct adoption *a, const char *table, const json_t *columns)
{
    struct agon_err why;
    if (json_array_size(columns) == 0 || json_array_size(columns) > COLUMNS_MAX)
        return refuse(a, "table '%.64s' has %zu columns; 1 to %d are allowed", table,
                      json_array_size(columns), COLUMNS_MAX);
    for (size_t i = 0; i < json_array_size(columns); i++)
        if (agon_name_check(field(columns, i, "name"), &why))
            return refuse(a, "table '%.64s': column name %.200s", table, why.text);
    return 0;
}

/* CREATE TABLE and INSERT for a table, from its columns. */
static void adopt_sql(const char *table, const json_t *columns, struct agon_buf *create,
                      struct agon_buf *insert)
{
    size_t n = json_array_size(columns);
    int n_keys = 0;
    agon_buf_addf(create, "CREATE TABLE \"%s\"(", table);
    agon_buf_addf(insert, "INSERT INTO \"%s\"(", table);
    for (size_t i = 0; i < n; i++)
        n_keys += number(columns, i, "pk") > 0;
    if (!n_keys)
        agon_buf_adds(create, "row_id INTEGER PRIMARY KEY, ");
    for (size_t i = 0; i < n; i++) {
        const char *name = field(columns, i, "name");
        agon_buf_addf(create, "%s\"%s\" %s%s", i ? ", " : "", name,
                      type_of(field(columns, i, "type")),
                      number(columns, i, "pk") > 0 ? " NOT NULL" : "");
        agon_buf_addf(insert, "%s\"%s\"", i ? ", " : "", name);
    }
    for (int at = 1; at <= n_keys; at++)
        for (size_t i = 0; i < n; i++)
            if (number(columns, i, "pk") == at)
                agon_buf_addf(create, "%s\"%s\"", at == 1 ? ", PRIMARY KEY(" : ", ",
                              field(columns, i, "name"));
    agon_buf_adds(create, n_keys ? ")) STRICT" : ") STRICT");
    agon_buf_adds(insert, ") VALUES(");
    for (size_t i = 0; i < n; i++)
        agon_buf_addf(insert, "%s?%zu", i ? ", " : "", i + 1);
    agon_buf_addc(insert, ')');
}

/* The primary key, or rowid where there is none (a table without both does not exist). */
static void adopt_order(const json_t *columns, struct agon_buf *sql)
{
    int n = 0;
    for (size_t i = 0; i < json_array_size(columns); i++)
        if (number(columns, i, "pk") > 0)
            agon_buf_addf(sql, "%s\"%s\"", n++ ? ", " : "", field(columns, i, "name"));
    agon_buf_adds(sql, n ? "" : "rowid");
}

static void bind_value(struct agon_query *q, int at, const json_t *value)
{
    if (json_is_integer(value))
        agon_query_int(q, at, json_integer_value(value));
    else if (json_is_real(value))
        agon_query_real(q, at, json_real_value(value));
    else if (json_is_string(value))
        agon_query_str(q, at,
                       (struct agon_str){json_string_value(value), json_string_length(value)});
    else
        agon_query_null(q, at);
}

static int adopt_insert(struct adoption *a, struct agon_query *insert, const char *table,
                        const json_t *columns, const json_t *rows, struct agon_err *err)
{
    struct agon_err why = {0};
    for (size_t i = 0; i < json_array_size(rows); i++) {
        for (size_t k = 0; k < json_array_size(columns); k++)
            bind_value(insert, (int)k + 1,
                       json_object_get(json_array_get(rows, i), field(columns, k, "name")));
        int r = agon_query_run(insert, &why);
        if (r == AGON_ESTORE && agon_store_refused(a->out)) /* a wrong type, or a key twice */
            return refuse(a, "table '%s', row %zu: %.200s", table, i + 1, why.text);
        if (r)
            return agon_fail(err, r, "%s", why.text);
    }
    return 0;
}

static int adopt_table(struct adoption *a, const char *table, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    struct agon_buf create AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    struct agon_buf put AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    struct agon_query *insert AGON_AUTO(agon_query_freep) = NULL;
    struct agon_err why;
    json_auto_t *columns = NULL;
    if (agon_name_check(table, &why))
        return refuse(a, "table name %.200s", why.text);
    agon_buf_addf(&sql, "SELECT name, type, pk FROM pragma_table_info('%s') ORDER BY cid", table);
    int r = adopt_rows(a, &sql, &columns, err);
    if (r || (r = adopt_check_columns(a, table, columns)))
        return r;
    adopt_sql(table, columns, &create, &put);
    if ((r = agon_buf_check(&create, "world", err)) ||
        (r = agon_store_exec(a->out, agon_buf_text(&create), err)) ||
        (r = agon_query_new(&insert, a->out, agon_buf_text(&put), err)))
        return r;
    for (int at = 0; at < ROWS_MAX; at += ROWS_AT_ONCE) {
        json_auto_t *rows = NULL;
        agon_buf_reset(&sql);
        agon_buf_addf(&sql, "SELECT * FROM \"%s\" ORDER BY ", table);
        adopt_order(columns, &sql);
        agon_buf_addf(&sql, " LIMIT %d OFFSET %d", ROWS_AT_ONCE, at);
        if ((r = adopt_rows(a, &sql, &rows, err)) ||
            (r = adopt_insert(a, insert, table, columns, rows, err)))
            return r;
        if (json_array_size(rows) < ROWS_AT_ONCE)
            return 0;
    }
    return refuse(a, "table '%s' has over %d rows", table, ROWS_MAX);
}

static int adopt_all(struct adoption *a, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    json_auto_t *tables = NULL;
    agon_buf_adds(&sql, "SELECT type, name FROM sqlite_schema WHERE name NOT GLOB 'sqlite_*' "
                        "AND type <> 'index' ORDER BY rowid");
    int r = adopt_rows(a, &sql, &tables, err);
    if (r)
        return r;
    if (json_array_size(tables) > AGON_WORLD_TABLES_MAX)
        return refuse(a, "there are %zu tables; at most %d are allowed", json_array_size(tables),
                      AGON_WORLD_TABLES_MAX);
    for (size_t i = 0; i < json_array_size(tables); i++) {
        if (strcmp(field(tables, i, "type"), "table") != 0)
            return refuse(a, "%.20s '%.64s': a world holds tables only", field(tables, i, "type"),
                          field(tables, i, "name"));
        if ((r = adopt_table(a, field(tables, i, "name"), err)))
            return r;
    }
    return 0;
}

int agon_worldfile_adopt(struct agon_sandbox *sb, const char *from, const char *to,
                         struct agon_buf *reason, struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct sqlite3 *out AGON_AUTO(agon_store_closep) = NULL;
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    int r = agon_runtime_open(&rt, sb, from, agon_str(""), reason, err);
    if (r || (r = agon_instance_new(&in, rt, err)) || (r = agon_worldfile_create(to, err)) ||
        (r = agon_store_open(&out, to, AGON_STORE_WRITE, err)) ||
        (r = agon_txn_begin(&txn, out, err)))
        return r;
    struct adoption a = {in, out, reason};
    if ((r = adopt_all(&a, err)))
        return r;
    return agon_txn_commit(&txn, err);
}
