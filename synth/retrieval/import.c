/* Importing tables: see import.h. */
#include "synth/retrieval/import.h"

#include "base/store.h"
#include "base/text.h"
#include "envs/schema.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { IMPORT_TABLES_MAX = 8, IMPORT_TEXT_MAX = 4000, IMPORT_NAME_MAX = 40 };

enum column_type { COLUMN_INTEGER, COLUMN_REAL, COLUMN_TEXT };
static const char *const type_names[] = {"INTEGER", "REAL", "TEXT"};

struct column {
    int source; /* index in the document's table */
    char name[64];
    enum column_type type;
    bool unique; /* no value is missing or occurs twice: it can be the key */
};

struct import {
    const struct agon_table *table;
    struct column columns[AGON_TABLE_COLUMNS_MAX];
    int n_columns;
    int key; /* index in columns, or -1: row_id is added */
};

/* ---- names */

void agon_import_fold(struct agon_str header, char ret_name[64])
{
    size_t n = 0;
    bool gap = false;
    for (size_t i = 0; i < header.size && n < IMPORT_NAME_MAX; i++) {
        unsigned char c = (unsigned char)header.data[i];
        if (!isascii(c) || !isalnum(c)) {
            gap = n > 0;
            continue;
        }
        if (gap)
            ret_name[n++] = '_';
        gap = false;
        if (n == 0 && isdigit(c)) { /* an identifier begins with a letter */
            ret_name[n++] = 'c';
            ret_name[n++] = '_';
        }
        ret_name[n++] = (char)tolower(c);
    }
    ret_name[n] = '\0';
    if (n == 0)
        strcpy(ret_name, "col"); /* a header without one ASCII letter */
    if (agon_name_check(ret_name, NULL))
        strcat(ret_name, "_"); /* a keyword: "class" is "class_" */
}

static bool name_taken(const struct import *in, const char *name)
{
    for (int i = 0; i < in->n_columns; i++)
        if (strcmp(in->columns[i].name, name) == 0)
            return true;
    return strcmp(name, "row_id") == 0;
}

static void name_column(struct import *in, int source)
{
    char name[64], unique[80];
    agon_import_fold(in->table->headers[source], name);
    snprintf(unique, sizeof(unique), "%s", name);
    for (int n = 2; name_taken(in, unique); n++)
        snprintf(unique, sizeof(unique), "%s_%d", name, n);
    struct column *c = &in->columns[in->n_columns++];
    *c = (struct column){.source = source};
    snprintf(c->name, sizeof(c->name), "%.63s", unique);
}

static int find_header(const struct agon_table *t, const char *wanted)
{
    for (int i = 0; i < t->n_columns; i++)
        if (agon_str_is(t->headers[i], wanted))
            return i;
    for (int i = 0; i < t->n_columns; i++) {
        char name[64];
        agon_import_fold(t->headers[i], name);
        if (strcmp(name, wanted) == 0)
            return i;
    }
    return -1;
}

static int refuse(struct agon_buf *result, const char *fmt, ...) AGON_PRINTF(2, 3);
static int refuse(struct agon_buf *result, const char *fmt, ...)
{
    agon_buf_adds(result, "error: ");
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(result, fmt, ap);
    va_end(ap);
    return AGON_IMPORT_REFUSED;
}

static void list_headers(struct agon_buf *b, const struct agon_table *t)
{
    for (int i = 0; i < t->n_columns; i++)
        agon_buf_addf(b, "%s%.*s", i ? ", " : "", AGON_STR_ARG(t->headers[i]));
}

static int choose_columns(struct import *in, const json_t *wanted, struct agon_buf *result)
{
    if (!json_array_size(wanted)) {
        for (int i = 0; i < in->table->n_columns; i++)
            name_column(in, i);
        return 0;
    }
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)(uintptr_t)wanted, i, item)
    {
        const char *header = json_string_value(item);
        int source = header ? find_header(in->table, header) : -1;
        if (source < 0) {
            refuse(result, "there is no column '%.60s'; the columns are: ", header ? header : "?");
            list_headers(result, in->table);
            return AGON_IMPORT_REFUSED;
        }
        if (in->n_columns == AGON_TABLE_COLUMNS_MAX)
            return refuse(result, "columns: more than %d columns", AGON_TABLE_COLUMNS_MAX);
        name_column(in, source);
    }
    return 0;
}

/* ---- types */

/* Is text an integer that survives as one? "007" is a code, not a number, and "-0" would be a
 * second 0, which a key cannot have. */
static bool text_is_integer(struct agon_str s)
{
    size_t i = s.size && s.data[0] == '-';
    if (i == s.size || s.size - i > 18 || (s.data[i] == '0' && s.size > 1))
        return false;
    for (; i < s.size; i++)
        if (!isdigit((unsigned char)s.data[i]))
            return false;
    return true;
}

static bool text_is_real(struct agon_str s)
{
    char text[40];
    if (s.size == 0 || s.size >= sizeof(text) || strspn(s.data, "0123456789.-eE+") < s.size)
        return false;
    memcpy(text, s.data, s.size);
    text[s.size] = '\0';
    const char *digits = text + (text[0] == '-');
    if (digits[0] == '0' && isdigit((unsigned char)digits[1]))
        return false;
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    return !*end && errno == 0 && value - value == 0;
}

static enum column_type cell_type(const struct agon_cell_value *v)
{
    switch (v->kind) {
    case AGON_CELL_INTEGER: return COLUMN_INTEGER;
    case AGON_CELL_REAL: return COLUMN_REAL;
    case AGON_CELL_TEXT:
        return text_is_integer(v->text) ? COLUMN_INTEGER
               : text_is_real(v->text)  ? COLUMN_REAL
                                        : COLUMN_TEXT;
    case AGON_CELL_MISSING:
    case AGON_CELL_STRING: break;
    }
    return COLUMN_TEXT;
}

/* Text as the world keeps it: cut between characters. */
static struct agon_str stored_text(struct agon_str s)
{
    return agon_utf8_cut(s, IMPORT_TEXT_MAX);
}

static int64_t integer_of(struct agon_str s)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%.*s", AGON_STR_ARG(s)); /* cell_type() saw that it fits */
    return strtoll(text, NULL, 10);
}

/* By value: "5" and "+5" may both come from a document that says that they are integers. */
static int compare_integers(const void *a, const void *b)
{
    int64_t x = integer_of(*(const struct agon_str *)a),
            y = integer_of(*(const struct agon_str *)b);
    return (x > y) - (x < y);
}

static int compare_texts(const void *a, const void *b)
{
    const struct agon_str *x = a, *y = b;
    int c = memcmp(x->data, y->data, x->size < y->size ? x->size : y->size);
    return c ? c : (x->size > y->size) - (x->size < y->size);
}

/* The narrowest type that holds every value of the column, and whether it may be the key. */
static int type_column(const struct agon_table *t, struct column *c, struct agon_err *err)
{
    struct agon_str *values = calloc((size_t)t->n_rows + 1, sizeof(*values));
    if (!values)
        return agon_fail(err, AGON_ENOMEM, "import: out of memory");
    enum column_type widest = COLUMN_INTEGER;
    int n = 0;
    for (int row = 0; row < t->n_rows; row++) {
        const struct agon_cell_value *v = agon_table_cell(t, row, c->source);
        if (v->kind == AGON_CELL_MISSING)
            continue;
        enum column_type type = cell_type(v);
        widest = type > widest ? type : widest;
        values[n++] = stored_text(v->text); /* two may be the same in their beginning */
    }
    c->type = n ? widest : COLUMN_TEXT;
    c->unique = n > 0 && n == t->n_rows && c->type != COLUMN_REAL;
    int (*compare)(const void *, const void *) =
        c->type == COLUMN_INTEGER ? compare_integers : compare_texts;
    if (c->unique)
        qsort(values, (size_t)n, sizeof(*values), compare);
    for (int i = 1; c->unique && i < n; i++)
        c->unique = compare(&values[i - 1], &values[i]) != 0;
    free(values);
    return 0;
}

/* ---- into the world */

static int count_tables(struct sqlite3 *world, const char *name, int *ret_n, bool *ret_exists,
                        struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_query_new(
        &q, world, "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name", err);
    if (r)
        return r;
    *ret_n = 0;
    *ret_exists = false;
    while ((r = agon_query_next(q, err)) == AGON_ROW) {
        ++*ret_n;
        *ret_exists = *ret_exists || strcmp(agon_query_get_text(q, 0), name) == 0;
    }
    return r;
}

/* Names are identifiers by now, so they stand in SQL as they are. */
static int create_table(struct sqlite3 *world, const struct import *in, const char *into,
                        struct agon_err *err)
{
    struct agon_buf sql = AGON_BUF(64 << 10);
    agon_buf_addf(&sql, "CREATE TABLE %s (", into);
    if (in->key < 0)
        agon_buf_adds(&sql, "row_id INTEGER PRIMARY KEY, ");
    for (int i = 0; i < in->n_columns; i++)
        agon_buf_addf(&sql, "%s%s %s%s", i ? ", " : "", in->columns[i].name,
                      type_names[in->columns[i].type], i == in->key ? " NOT NULL PRIMARY KEY" : "");
    agon_buf_adds(&sql, ") STRICT");
    int r = agon_buf_check(&sql, "import", err);
    if (!r)
        r = agon_store_exec(world, sql.data, err);
    agon_buf_deinit(&sql);
    return r;
}

static void bind_cell(struct agon_query *q, int param, enum column_type type,
                      const struct agon_cell_value *v)
{
    char text[64];
    struct agon_str s = v->text;
    if (v->kind == AGON_CELL_MISSING) {
        agon_query_null(q, param);
        return;
    }
    if (type == COLUMN_TEXT) {
        agon_query_str(q, param, stored_text(s));
        return;
    }
    snprintf(text, sizeof(text), "%.*s",
             AGON_STR_ARG(s)); /* numbers are short: cell_type() saw to it */
    if (type == COLUMN_INTEGER)
        agon_query_int(q, param, integer_of(s));
    else
        agon_query_real(q, param, strtod(text, NULL));
}

static int insert_rows(struct sqlite3 *world, const struct import *in, const char *into,
                       struct agon_err *err)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    struct agon_buf sql = AGON_BUF(64 << 10);
    agon_buf_addf(&sql, "INSERT INTO %s (", into);
    for (int i = 0; i < in->n_columns; i++)
        agon_buf_addf(&sql, "%s%s", i ? ", " : "", in->columns[i].name);
    agon_buf_adds(&sql, ") VALUES (");
    for (int i = 0; i < in->n_columns; i++)
        agon_buf_adds(&sql, i ? ", ?" : "?");
    agon_buf_adds(&sql, ")");
    int r = agon_buf_check(&sql, "import", err);
    if (!r)
        r = agon_query_new(&q, world, sql.data, err);
    agon_buf_deinit(&sql);
    for (int row = 0; !r && row < in->table->n_rows; row++) {
        for (int i = 0; i < in->n_columns; i++)
            bind_cell(q, i + 1, in->columns[i].type,
                      agon_table_cell(in->table, row, in->columns[i].source));
        r = agon_query_run(q, err);
    }
    return r;
}

static void describe(const struct import *in, const char *into, struct agon_buf *result)
{
    const struct agon_table *t = in->table;
    agon_buf_addf(result, "table %s: %d row%s, key %s", into, t->n_rows, t->n_rows == 1 ? "" : "s",
                  in->key < 0 ? "row_id" : in->columns[in->key].name);
    if (t->n_rows_left_out)
        agon_buf_addf(result, ", %d more rows left out", t->n_rows_left_out);
    agon_buf_addc(result, '\n');
    if (in->key < 0)
        agon_buf_adds(result, "- row_id INTEGER added\n");
    for (int i = 0; i < in->n_columns; i++) {
        const struct column *c = &in->columns[i];
        struct agon_str header = t->headers[c->source];
        agon_buf_addf(result, "- %s %s", c->name, type_names[c->type]);
        if (!agon_str_is(header, c->name))
            agon_buf_addf(result, " from %.*s", AGON_STR_ARG(header));
        agon_buf_addc(result, '\n');
    }
}

static int check_into(struct sqlite3 *world, const char *into, struct agon_buf *result,
                      struct agon_err *err)
{
    struct agon_err why;
    int n;
    bool exists;
    if (agon_name_check(into, &why))
        return refuse(result, "into: %s", why.text);
    int r = count_tables(world, into, &n, &exists, err);
    if (r)
        return r;
    if (exists)
        return refuse(result, "the world has a table %s already", into);
    if (n >= IMPORT_TABLES_MAX)
        return refuse(result, "the world has %d tables already, the most it may have", n);
    return 0;
}

int agon_import(struct sqlite3 *world, const struct agon_table *table, const char *into,
                const json_t *columns, struct agon_buf *result, struct agon_err *err)
{
    struct import in = {.table = table, .key = -1};
    int r = check_into(world, into, result, err);
    if (r)
        return r;
    if (table->n_rows < 2)
        return refuse(result, "the table has %d rows, too few to ask about", table->n_rows);
    if ((r = choose_columns(&in, columns, result)))
        return r;
    for (int i = 0; i < in.n_columns; i++) {
        if ((r = type_column(table, &in.columns[i], err)))
            return r;
        if (in.key < 0 && in.columns[i].unique)
            in.key = i;
    }

    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    if ((r = agon_txn_begin(&txn, world, err)) || (r = create_table(world, &in, into, err)) ||
        (r = insert_rows(world, &in, into, err)) || (r = agon_txn_commit(&txn, err)))
        return agon_err_in(err, r, "import_table into %s", into);
    describe(&in, into, result);
    return 0;
}
