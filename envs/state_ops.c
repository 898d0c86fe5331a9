/* What a cell says of states: the difference of two, the digest of one. See state.h for their
 * form, ops.h for the messages. */
#include "envs/ops.h"

#include "base/json.h"
#include "base/sha256.h"
#include "base/text.h"
#include "envs/cell_state.h"

#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { TEXT_BYTES_MAX = 32 << 20, ROW_BYTES_MAX = 64 << 20, SQL_BYTES_MAX = 1 << 20 };

/* ---- values as JSON ---- */

static void add_blob(struct agon_buf *out, sqlite3_value *v)
{
    const unsigned char *bytes = sqlite3_value_blob(v);
    int n = sqlite3_value_bytes(v);
    agon_buf_adds(out, "{\"blob\": \"");
    for (int i = 0; i < n; i++)
        agon_buf_addf(out, "%02x", bytes[i]);
    agon_buf_adds(out, "\"}");
}

static void add_real(struct agon_buf *out, double real)
{
    if (isfinite(real))
        agon_json_dump_real(out, real);
    else
        agon_buf_adds(out, real > 0 ? "{\"real\": \"inf\"}" : "{\"real\": \"-inf\"}");
}

static void add_value(struct agon_buf *out, sqlite3_value *v, bool is_real)
{
    switch (sqlite3_value_type(v)) {
    case SQLITE_NULL: agon_buf_adds(out, "null"); return;
    case SQLITE_FLOAT: add_real(out, sqlite3_value_double(v)); return;
    case SQLITE_INTEGER:
        if (is_real) /* the preupdate hook gives whole numbers of REAL columns as they are stored */
            add_real(out, sqlite3_value_double(v));
        else
            agon_buf_addf(out, "%lld", (long long)sqlite3_value_int64(v));
        return;
    case SQLITE_TEXT: {
        struct agon_str text = {.data = (const char *)sqlite3_value_text(v)};
        text.size = (size_t)sqlite3_value_bytes(v);
        if (agon_utf8_valid(text) && !memchr(text.data, '\0', text.size)) {
            agon_json_dump_string(out, text);
            return;
        }
        break;
    }
    default: break;
    }
    add_blob(out, v);
}

/* ---- the difference of two states ---- */

/* A row that one of the two lists of writes touched: what the world held at first, and now. */
struct touched {
    int table, side;               /* 0: from, 1: to */
    sqlite3_value **before, **now; /* owned copies, by column; NULL: no such row */
};
struct diff {
    const struct agon_world *world;
    struct touched *rows;
    int n, capacity;
};

static int table_width(const struct agon_world *w, int table)
{
    return agon_world_table(w, table)->n_columns;
}

static void row_free(sqlite3_value **row, int n)
{
    for (int i = 0; row && i < n; i++)
        sqlite3_value_free(row[i]);
    free(row);
}

static void diff_deinit(struct diff *d)
{
    for (int i = 0; i < d->n; i++) {
        int n = table_width(d->world, d->rows[i].table);
        row_free(d->rows[i].before, n);
        row_free(d->rows[i].now, n);
    }
    free(d->rows);
}

/* NULL stays NULL; false: no memory. */
static bool row_copy(sqlite3_value ***ret, sqlite3_value **row, int n)
{
    if (!row)
        return true;
    sqlite3_value **copy = calloc((size_t)n, sizeof(*copy));
    for (int i = 0; copy && i < n; i++)
        if (!(copy[i] = sqlite3_value_dup(row[i]))) {
            row_free(copy, n);
            copy = NULL;
        }
    *ret = copy;
    return copy != NULL;
}

static int diff_add(struct diff *d, const struct agon_change *c, int side, struct agon_err *err)
{
    if (d->n == d->capacity) {
        int capacity = d->capacity ? 2 * d->capacity : 64;
        struct touched *rows = realloc(d->rows, (size_t)capacity * sizeof(*rows));
        if (!rows)
            return agon_fail(err, AGON_ENOMEM, "difference: out of memory");
        d->rows = rows;
        d->capacity = capacity;
    }
    struct touched *t = &d->rows[d->n++];
    int n = table_width(d->world, c->table);
    *t = (struct touched){.table = c->table, .side = side};
    if (!row_copy(&t->before, c->before, n) || !row_copy(&t->now, c->after, n))
        return agon_fail(err, AGON_ENOMEM, "difference: out of memory");
    return 0;
}

/* The cell as these writes leave it; 1 with a sentence in err where one does not succeed. */
static int state_begin(struct agon_env_cell *cell, struct agon_wire *wire, struct agon_err *err)
{
    if (!cell->world)
        return agon_fail(err, AGON_EINPUT, "no environment is open");
    return agon_session_replay(cell, wire, err);
}

static int diff_side(struct diff *d, struct agon_env_cell *cell, int side, struct agon_wire *wire,
                     struct agon_err *err)
{
    struct agon_changes changes AGON_AUTO(agon_changes_deinit) = {0};
    int r = state_begin(cell, wire, err);
    if (!r)
        r = agon_changes_of(&changes, cell->world, err);
    for (int i = 0; i < changes.n && !r; i++)
        r = diff_add(d, &changes.items[i], side, err);
    return r;
}

/* As SQLite orders them: NULL, numbers, text, BLOBs. */
static int type_rank(sqlite3_value *v)
{
    static const int ranks[] = {
        [SQLITE_INTEGER] = 1, [SQLITE_FLOAT] = 1, [SQLITE_TEXT] = 2, [SQLITE_BLOB] = 3};
    int type = sqlite3_value_type(v);
    return type == SQLITE_NULL ? 0 : ranks[type];
}

static int compare_numbers(sqlite3_value *a, sqlite3_value *b)
{
    if (sqlite3_value_type(a) == SQLITE_INTEGER && sqlite3_value_type(b) == SQLITE_INTEGER) {
        sqlite3_int64 i = sqlite3_value_int64(a), k = sqlite3_value_int64(b);
        return (i > k) - (i < k);
    }
    double x = sqlite3_value_double(a), y = sqlite3_value_double(b);
    return (x > y) - (x < y);
}

static int compare_values(sqlite3_value *a, sqlite3_value *b)
{
    int rank = type_rank(a);
    if (rank != type_rank(b))
        return rank - type_rank(b);
    if (rank == 0)
        return 0;
    if (rank == 1)
        return compare_numbers(a, b);
    int n = sqlite3_value_bytes(a), m = sqlite3_value_bytes(b);
    int order = memcmp(sqlite3_value_blob(a), sqlite3_value_blob(b), (size_t)(n < m ? n : m));
    return order ? order : n - m;
}

static int compare_keys(const struct agon_table *t, sqlite3_value **a, sqlite3_value **b)
{
    for (int k = 1; k <= t->n_keys; k++)
        for (int i = 0; i < t->n_columns; i++) {
            int order = t->columns[i].key == k ? compare_values(a[i], b[i]) : 0;
            if (order)
                return order;
        }
    return 0;
}

static bool rows_equal(const struct agon_table *t, sqlite3_value **a, sqlite3_value **b)
{
    for (int i = 0; i < t->n_columns; i++)
        if (compare_values(a[i], b[i]))
            return false;
    return true;
}

static int compare_touched(const void *a, const void *b, void *world)
{
    const struct touched *x = a, *y = b;
    if (x->table != y->table)
        return x->table - y->table; /* tables are in the order of their names */
    int order = compare_keys(agon_world_table(world, x->table), x->before ? x->before : x->now,
                             y->before ? y->before : y->now);
    return order ? order : x->side - y->side;
}

static void add_row(struct agon_buf *out, const struct agon_table *t, sqlite3_value **row,
                    bool keys_only)
{
    bool first = true;
    agon_buf_addc(out, '{');
    for (int i = 0; i < t->n_columns; i++) {
        if (keys_only && !t->columns[i].key)
            continue;
        agon_buf_adds(out, first ? "" : ", ");
        agon_json_dump_string(out, agon_str(t->columns[i].name));
        agon_buf_adds(out, ": ");
        add_value(out, row[i], t->columns[i].real);
        first = false;
    }
    agon_buf_addc(out, '}');
}

static void add_change(struct agon_buf *out, const struct agon_table *t, sqlite3_value **from,
                       sqlite3_value **to)
{
    if (!from == !to && (!from || rows_equal(t, from, to)))
        return;
    agon_buf_addf(out,
                  "%s{\"change\": \"%s\", \"table\": \"%s\", \"key\": ", out->size > 1 ? ", " : "",
                  !from ? "inserted"
                  : to  ? "updated"
                        : "deleted",
                  t->name);
    add_row(out, t, from ? from : to, true);
    if (from) {
        agon_buf_adds(out, ", \"before\": ");
        add_row(out, t, from, false);
    }
    if (to) {
        agon_buf_adds(out, ", \"after\": ");
        add_row(out, t, to, false);
    }
    agon_buf_addc(out, '}');
}

/* A row that one side alone touched is on the other as it was at first. */
static void diff_text(struct diff *d, struct agon_buf *out)
{
    if (d->n)
        qsort_r(d->rows, (size_t)d->n, sizeof(*d->rows), compare_touched,
                (void *)(uintptr_t)d->world);
    agon_buf_addc(out, '[');
    for (int i = 0; i < d->n; i++) {
        const struct touched *a = &d->rows[i], *b = i + 1 < d->n ? a + 1 : NULL;
        const struct agon_table *t = agon_world_table(d->world, a->table);
        bool both =
            b && a->side == 0 && b->side == 1 && b->table == a->table &&
            compare_keys(t, a->before ? a->before : a->now, b->before ? b->before : b->now) == 0;
        if (both)
            add_change(out, t, a->now, b->now);
        else
            add_change(out, t, a->side ? a->before : a->now, a->side ? a->now : a->before);
        i += both;
    }
    agon_buf_addc(out, ']');
}

static int state_reply(struct agon_buf *reply, int r, const char *text, struct agon_err *err)
{
    if (r < 0)
        return r;
    agon_wire_add_int(reply, r ? 1 : 0);
    agon_wire_add_text(reply, r ? err->text : text);
    return 0;
}

static int op_diff(void *state, struct agon_str request, struct agon_buf *reply,
                   struct agon_err *err)
{
    struct agon_env_cell *cell = state;
    struct agon_wire wire = agon_wire_of(request);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    struct diff d AGON_AUTO(diff_deinit) = {.world = cell->world};
    int r = diff_side(&d, cell, 0, &wire, err);
    if (!r)
        r = diff_side(&d, cell, 1, &wire, err);
    if (!r)
        r = agon_wire_end(&wire, "state.diff", err);
    if (!r)
        diff_text(&d, &text);
    if (text.failed == AGON_ENOMEM)
        return agon_buf_check(&text, "difference", err);
    if (!r && text.failed)
        r = agon_fail(err, 1, "the difference is over %d MiB", TEXT_BYTES_MAX >> 20);
    return state_reply(reply, r, agon_buf_text(&text), err);
}

/* ---- the digest of a world ---- */

/* Rows of one query, each handed to fn. <0, or 1 with a sentence where the query fails. */
static int each_row(struct agon_world *w, const char *sql, bool (*fn)(void *user, sqlite3_stmt *q),
                    void *user, struct agon_err *err)
{
    struct agon_statement *st;
    enum agon_step step = AGON_STEP_END;
    int r = agon_statement_get(&st, w, AGON_BY_PEOPLE, false, agon_str(sql), err);
    bool ok = true;
    while (!r && ok && (step = agon_statement_step(st, err)) == AGON_STEP_ROW)
        ok = fn(user, agon_statement_sqlite(st));
    agon_world_settle(w);
    if (r || !ok)
        return r ? r : agon_fail(err, AGON_ENOMEM, "digest: out of memory");
    return step == AGON_STEP_END ? 0 : 1;
}

struct digest {
    struct agon_sha256 sha;
    struct agon_buf line; /* scratch */
    const struct agon_table *table;
};

static bool digest_line(struct digest *d)
{
    agon_buf_addc(&d->line, '\n');
    agon_sha256_add(&d->sha, d->line.data, d->line.size);
    bool ok = !d->line.failed;
    agon_buf_reset(&d->line);
    return ok;
}

static bool digest_column(void *user, sqlite3_stmt *q)
{
    struct digest *d = user;
    agon_buf_addf(&d->line, "column %s %s %d", (const char *)sqlite3_column_text(q, 0),
                  (const char *)sqlite3_column_text(q, 1), sqlite3_column_int(q, 2));
    return digest_line(d);
}

static bool digest_row(void *user, sqlite3_stmt *q)
{
    struct digest *d = user;
    agon_buf_addc(&d->line, '[');
    for (int i = 0; i < d->table->n_columns; i++) {
        agon_buf_adds(&d->line, i ? ", " : "");
        add_value(&d->line, sqlite3_column_value(q, i), d->table->columns[i].real);
    }
    agon_buf_addc(&d->line, ']');
    return digest_line(d);
}

/* All columns in their order, ordered by the key's, then by the others. */
static void rows_sql(struct agon_buf *sql, const struct agon_table *t)
{
    agon_buf_adds(sql, "SELECT ");
    for (int i = 0; i < t->n_columns; i++)
        agon_buf_addf(sql, "%s\"%s\"", i ? ", " : "", t->columns[i].name);
    agon_buf_addf(sql, " FROM \"%s\" ORDER BY ", t->name);
    for (int k = 1; k <= t->n_keys; k++)
        for (int i = 0; i < t->n_columns; i++)
            if (t->columns[i].key == k)
                agon_buf_addf(sql, "%s\"%s\" COLLATE BINARY", k > 1 ? ", " : "",
                              t->columns[i].name);
    for (int i = 0; i < t->n_columns; i++)
        if (!t->columns[i].key)
            agon_buf_addf(sql, ", \"%s\" COLLATE BINARY", t->columns[i].name);
}

static int digest_table(struct digest *d, struct agon_world *w, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    agon_buf_addf(&d->line, "table %s", d->table->name);
    if (!digest_line(d))
        return agon_fail(err, AGON_ENOMEM, "digest: out of memory");
    agon_buf_addf(&sql, "SELECT name, type, pk FROM pragma_table_info('%s') ORDER BY cid",
                  d->table->name);
    int r = each_row(w, agon_buf_text(&sql), digest_column, d, err);
    agon_buf_reset(&sql);
    rows_sql(&sql, d->table);
    if (!r)
        r = agon_buf_check(&sql, "digest", err);
    return r ? r : each_row(w, agon_buf_text(&sql), digest_row, d, err);
}

static int op_hash(void *state, struct agon_str request, struct agon_buf *reply,
                   struct agon_err *err)
{
    struct agon_env_cell *cell = state;
    struct agon_wire wire = agon_wire_of(request);
    struct digest d = {.line = AGON_BUF(ROW_BYTES_MAX)};
    char hex[AGON_SHA256_HEX];
    int r = state_begin(cell, &wire, err);
    if (!r)
        r = agon_wire_end(&wire, "state.hash", err);
    agon_sha256_init(&d.sha);
    for (int i = 0; !r && i < agon_world_n_tables(cell->world); i++) {
        d.table = agon_world_table(cell->world, i);
        r = digest_table(&d, cell->world, err);
    }
    agon_buf_deinit(&d.line);
    agon_sha256_hex(&d.sha, hex);
    return state_reply(reply, r, hex, err);
}

const struct agon_worker_op agon_state_ops[] = {
    {"state.diff", op_diff}, {"state.hash", op_hash}, {NULL, NULL}};
