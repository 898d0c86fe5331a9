/* The log of changed rows and its net difference: see changes.h. */
#include "envs/world_internal.h"

#include "base/buf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void values_free(sqlite3_value **values, int n)
{
    for (int i = 0; values && i < n; i++)
        sqlite3_value_free(values[i]);
    free(values);
}

void changes_cut(struct change_log *log, int n)
{
    /* The arrays end with a NULL, so that the log need not know its tables. */
    while (log->n > n) {
        struct change_row *row = &log->rows[--log->n];
        log->by_table[row->table]--;
        for (int side = 0; side < 2; side++) {
            sqlite3_value **values = side ? row->after : row->before;
            int count = 0;
            while (values && values[count])
                count++;
            values_free(values, count);
        }
    }
    log->over = 0;
}

void changes_free(struct change_log *log)
{
    changes_cut(log, 0);
    free(log->rows);
    free(log->by_table);
    *log = (struct change_log){0};
}

typedef int value_fn(sqlite3 *db, int i, sqlite3_value **ret);

static sqlite3_value **values_take(sqlite3 *db, value_fn *get, int n)
{
    sqlite3_value **values = calloc((size_t)n + 1, sizeof(*values));
    for (int i = 0; values && i < n; i++) {
        sqlite3_value *v = NULL;
        if (get(db, i, &v) != SQLITE_OK || !(values[i] = sqlite3_value_dup(v))) {
            values_free(values, i);
            return NULL;
        }
    }
    return values;
}

/* Called by SQLite before each row changes. It cannot fail the statement: `over` does, after it. */
static void log_row(void *user, sqlite3 *db, int op, const char *schema, const char *name,
                    sqlite3_int64 key_before, sqlite3_int64 key_after)
{
    (void)schema, (void)key_before, (void)key_after;
    struct agon_world *w = user;
    struct change_log *log = &w->log;
    int table = log->paused ? -1 : agon_world_find_table(w, agon_str(name));
    if (table < 0)
        return;
    if (log->n == log->capacity && log->n < AGON_WORLD_CHANGES_MAX) {
        int capacity = log->capacity ? 2 * log->capacity : 64;
        struct change_row *rows = realloc(log->rows, (size_t)capacity * sizeof(*rows));
        if (rows) {
            log->rows = rows;
            log->capacity = capacity;
        }
    }
    if (log->n >= log->capacity || log->n >= AGON_WORLD_CHANGES_MAX) {
        log->over = log->n >= AGON_WORLD_CHANGES_MAX ? 1 : AGON_ENOMEM;
        return;
    }
    int n = w->tables[table].n_columns;
    struct change_row row = {.table = table};
    if (op != SQLITE_INSERT && !(row.before = values_take(db, sqlite3_preupdate_old, n)))
        log->over = AGON_ENOMEM;
    if (op != SQLITE_DELETE && !(row.after = values_take(db, sqlite3_preupdate_new, n)))
        log->over = AGON_ENOMEM;
    log->rows[log->n++] = row;
    log->by_table[table]++;
}

int changes_hook(struct agon_world *w, struct agon_err *err)
{
    w->log.by_table = calloc((size_t)w->n_tables + 1, sizeof(*w->log.by_table));
    if (!w->log.by_table)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    (void)sqlite3_preupdate_hook(w->db, log_row, w); /* returns the former hook's argument */
    return 0;
}

bool changes_touch(const struct agon_world *w, const uint8_t *tables)
{
    if (w->log.over)
        return true;
    for (int i = 0; w->log.n > 0 && i < w->n_tables; i++)
        if (tables[i] && w->log.by_table[i] > 0)
            return true;
    return false;
}

int agon_changes_logged(const struct agon_world *w)
{
    return w->log.n;
}

static bool value_same(sqlite3_value *a, sqlite3_value *b)
{
    int type = sqlite3_value_type(a);
    if (type != sqlite3_value_type(b))
        return false;
    switch (type) {
    case SQLITE_INTEGER: return sqlite3_value_int64(a) == sqlite3_value_int64(b);
    case SQLITE_FLOAT: return sqlite3_value_double(a) == sqlite3_value_double(b);
    case SQLITE_NULL: return true;
    default: {
        int n = sqlite3_value_bytes(a);
        return n == sqlite3_value_bytes(b) &&
               !memcmp(sqlite3_value_blob(a), sqlite3_value_blob(b), (size_t)n);
    }
    }
}

static bool rows_same(const struct agon_table *t, sqlite3_value **a, sqlite3_value **b)
{
    for (int i = 0; i < t->n_columns; i++)
        if (!value_same(a[i], b[i]))
            return false;
    return true;
}

static bool keys_same(const struct agon_table *t, sqlite3_value **a, sqlite3_value **b)
{
    for (int i = 0; i < t->n_columns; i++)
        if (t->columns[i].key && !value_same(a[i], b[i]))
            return false;
    return true;
}

/* ---- the net difference ---- */

struct fold {  /* what became of one row */
    char *key; /* owned */
    size_t key_size;
    int table;
    sqlite3_value **before, **after; /* borrowed */
    struct fold *next;               /* in the order of first events */
    UT_hash_handle hh;
};
struct folding {
    struct fold *all, *first, **end;
};

static void folding_free(struct folding *f)
{
    struct fold *fold, *next;
    HASH_ITER(hh, f->all, fold, next)
    {
        HASH_DEL(f->all, fold);
        free(fold->key);
        free(fold);
    }
}

static void key_write(struct agon_buf *b, const struct agon_table *t, int table,
                      sqlite3_value **row)
{
    agon_buf_add(b, &table, sizeof(table));
    for (int i = 0; i < t->n_columns; i++) {
        if (!t->columns[i].key)
            continue;
        int type = sqlite3_value_type(row[i]), size = sqlite3_value_bytes(row[i]);
        double real = sqlite3_value_double(row[i]);
        sqlite3_int64 integer = sqlite3_value_int64(row[i]);
        agon_buf_add(b, &type, sizeof(type));
        if (type == SQLITE_INTEGER)
            agon_buf_add(b, &integer, sizeof(integer));
        else if (type == SQLITE_FLOAT)
            agon_buf_add(b, &real, sizeof(real));
        else if (type != SQLITE_NULL) {
            agon_buf_add(b, &size, sizeof(size));
            agon_buf_add(b, sqlite3_value_blob(row[i]), (size_t)size);
        }
    }
}

/* The row with this key was before and is after now (either may be NULL). */
static int fold_event(struct folding *f, const struct agon_world *w, int table,
                      sqlite3_value **before, sqlite3_value **after, struct agon_err *err)
{
    struct agon_buf key AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    key_write(&key, &w->tables[table], table, before ? before : after);
    int r = agon_buf_check(&key, "changes", err);
    if (r)
        return r;
    struct fold *fold;
    HASH_FIND(hh, f->all, agon_buf_text(&key), key.size, fold);
    if (fold) {
        fold->after = after;
        return 0;
    }
    fold = calloc(1, sizeof(*fold));
    size_t size = key.size;
    if (!fold || !(fold->key = agon_buf_steal(&key))) {
        free(fold);
        return agon_fail(err, AGON_ENOMEM, "changes: out of memory");
    }
    fold->key_size = size;
    fold->table = table;
    fold->before = before;
    fold->after = after;
    HASH_ADD_KEYPTR(hh, f->all, fold->key, fold->key_size, fold);
    if (!fold->hh.tbl) {
        free(fold->key);
        free(fold);
        return agon_fail(err, AGON_ENOMEM, "changes: out of memory");
    }
    *f->end = fold;
    f->end = &fold->next;
    return 0;
}

static int fold_log(struct folding *f, const struct agon_world *w, struct agon_err *err)
{
    for (int i = 0; i < w->log.n; i++) {
        const struct change_row *row = &w->log.rows[i];
        bool moved = row->before && row->after &&
                     !keys_same(&w->tables[row->table], row->before, row->after);
        int r = 0;
        if (moved) /* a row whose key changes is one row gone and another come */
            r = fold_event(f, w, row->table, row->before, NULL, err);
        if (!r && moved)
            r = fold_event(f, w, row->table, NULL, row->after, err);
        else if (!r)
            r = fold_event(f, w, row->table, row->before, row->after, err);
        if (r)
            return r;
    }
    return 0;
}

static void changes_collect(struct agon_changes *ret, const struct folding *f,
                            const struct agon_world *w)
{
    for (struct fold *fold = f->first; fold; fold = fold->next) {
        if (!fold->before && !fold->after)
            continue;
        if (fold->before && fold->after &&
            rows_same(&w->tables[fold->table], fold->before, fold->after))
            continue;
        enum agon_change_kind kind = !fold->before ? AGON_INSERTED
                                     : fold->after ? AGON_UPDATED
                                                   : AGON_DELETED;
        ret->items[ret->n++] =
            (struct agon_change){kind, fold->table, fold->before, fold->after, false};
    }
}

int agon_changes_of(struct agon_changes *ret, const struct agon_world *w, struct agon_err *err)
{
    *ret = (struct agon_changes){0};
    if (w->log.n == 0)
        return 0;
    struct folding f AGON_AUTO(folding_free) = {0};
    f.end = &f.first;
    int r = fold_log(&f, w, err);
    if (r)
        return r;
    ret->items = calloc(HASH_COUNT(f.all), sizeof(*ret->items));
    if (!ret->items)
        return agon_fail(err, AGON_ENOMEM, "changes: out of memory");
    changes_collect(ret, &f, w);
    return 0;
}

void agon_changes_deinit(struct agon_changes *c)
{
    free(c->items);
    *c = (struct agon_changes){0};
}

void agon_change_text(const struct agon_world *w, const struct agon_change *c, char *ret,
                      size_t size)
{
    static const char *const verbs[] = {"inserted", "updated", "deleted"};
    const struct agon_table *t = &w->tables[c->table];
    sqlite3_value **row = c->after ? c->after : c->before;
    size_t used = (size_t)snprintf(ret, size, "%s %s", verbs[c->kind], t->name);
    bool first = true;
    for (int i = 0; i < t->n_columns && used < size; i++) {
        if (!t->columns[i].key)
            continue;
        bool text = sqlite3_value_type(row[i]) == SQLITE_TEXT;
        used += (size_t)snprintf(ret + used, size - used, "%s %s=%s%.80s%s", first ? "" : ",",
                                 t->columns[i].name, text ? "'" : "",
                                 text || sqlite3_value_type(row[i]) != SQLITE_NULL
                                     ? (const char *)sqlite3_value_text(row[i])
                                     : "NULL",
                                 text ? "'" : "");
        first = false;
    }
}
