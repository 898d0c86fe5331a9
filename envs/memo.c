#include "envs/memo.h"

#include "envs/seen.h"
#include "envs/world_internal.h"

#include <stdlib.h>

enum {
    ENTRIES_MAX = 8192, /* then all are forgotten; simple beats clever */
    CELLS_MAX = 256,    /* of a result; larger ones are not kept */
    BYTES_MAX = 4096,   /* of a result's texts */
    KEY_BYTES_MAX = 512,
    VALUE_BYTES = 48,        /* of a value without its text, about */
    ALL_BYTES_MAX = 8 << 20, /* of all results, about */
};

enum { KEPT, PASSING };

struct memo_entry {
    char *key; /* owned: 'a' or 'f', the state, the statement, then its parameters */
    size_t key_size;
    unsigned hash;
    struct agon_memo_rows rows;
    UT_hash_handle hh;
};

struct agon_memo {
    struct memo_entry
        *entries[2];            /* hash tables by key: of states with numbers, of the one at hand */
    struct memo_entry *pending; /* being recorded, or NULL */
    struct agon_statement *of;  /* whose rows those are: only what it gives is recorded */
    size_t bytes;               /* of their texts */
    size_t bytes_all[2];        /* of all results */
    int table;                  /* in which the pending one goes */
    struct agon_statement *key_of; /* whose parameters follow, or NULL: no key is being made */
    size_t key_size;
    unsigned hash; /* of the key */
    char key[KEY_BYTES_MAX];
    struct seen seen;
};

static void entry_free(struct memo_entry *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->rows.n_rows * e->rows.n_columns; i++)
        if (e->rows.cells[i].type == SQLITE_TEXT)
            free((char *)(uintptr_t)e->rows.cells[i].text.data);
    free(e->rows.cells);
    free(e->key);
    free(e);
}

static void memo_drop_pending(struct agon_memo *m)
{
    entry_free(m->pending);
    m->pending = NULL;
}

static void memo_empty(struct agon_memo *m, int table)
{
    struct memo_entry *e, *next;
    m->bytes_all[table] = 0;
    HASH_ITER(hh, m->entries[table], e, next)
    {
        HASH_DEL(m->entries[table], e);
        entry_free(e);
    }
}

void world_memo_changed(struct agon_world *w)
{
    if (!w->memo)
        return;
    memo_drop_pending(w->memo);
    w->memo->key_of = NULL;
    memo_empty(w->memo, PASSING);
}

void world_memo_flush(struct agon_world *w)
{
    w->rows_round++;
    world_memo_changed(w);
    if (w->memo)
        memo_empty(w->memo, KEPT);
}

void agon_world_forget_rows(struct agon_world *w)
{
    world_memo_flush(w);
    if (w->memo)
        seen_forget(&w->memo->seen);
}

void world_memo_free(struct agon_world *w)
{
    world_memo_flush(w);
    free(w->memo);
    w->memo = NULL;
}

/* ---- the key: which statement, and what it is bound to, to the last bit ---- */

static bool key_add(struct agon_memo *m, const void *data, size_t size)
{
    if (size > sizeof(m->key) - m->key_size)
        return false;
    memcpy(m->key + m->key_size, data, size);
    m->key_size += size;
    return true;
}

/* A parameter: its type, its size, its bytes. */
static void key_param(struct agon_world *w, char type, const void *data, size_t size)
{
    struct agon_memo *m = w->memo;
    if (w->trace)
        world_trace_param(w->trace, type, data, size);
    if (!m || !m->key_of)
        return;
    if (!key_add(m, &type, 1) || !key_add(m, &size, sizeof(size)) || !key_add(m, data, size))
        m->key_of = NULL;
}

void agon_memo_bind(struct agon_world *w, struct agon_statement *st)
{
    if (w->memo) {
        memo_drop_pending(w->memo); /* of a statement that raised */
        w->memo->key_of = NULL;
    }
    if (st->writes && w->trace)
        world_trace_write(w->trace, st);
    if (st->writes || st->by == AGON_BY_PEOPLE || agon_world_lost(w))
        return;
    bool clean = w->clean || !changes_touch(w, st->tables), kept = clean || w->state > 0;
    if (!kept && !w->query_only) /* a state that is not likely to come again */
        return;
    if (!w->memo && !(w->memo = calloc(1, sizeof(*w->memo))))
        return;
    w->memo->key_of = st;
    w->memo->table = kept ? KEPT : PASSING;
    w->memo->key_size = 1; /* the first byte is set when it is known */
    int64_t state = clean ? 0 : w->state;
    (void)key_add(w->memo, &state, sizeof(state)); /* there is room for these two */
    (void)key_add(w->memo, &st, sizeof(st));
}

void agon_memo_bind_int(struct agon_world *w, int64_t value)
{
    key_param(w, 'i', &value, sizeof(value));
}

void agon_memo_bind_real(struct agon_world *w, double value)
{
    key_param(w, 'r', &value, sizeof(value));
}

void agon_memo_bind_text(struct agon_world *w, struct agon_str value)
{
    key_param(w, 't', value.data, value.size);
}

void agon_memo_bind_null(struct agon_world *w)
{
    key_param(w, 'n', "", 0);
}

/* ---- results ---- */

/* Record what comes, from the second time on. Out of memory only means that nothing is kept. */
static void memo_begin(struct agon_memo *m, struct agon_statement *st)
{
    if (!seen_before(&m->seen, m->hash))
        return;
    struct memo_entry *e = calloc(1, sizeof(*e));
    if (!e || !(e->key = malloc(m->key_size))) {
        free(e);
        return;
    }
    memcpy(e->key, m->key, m->key_size);
    e->key_size = m->key_size;
    e->hash = m->hash;
    e->rows.n_columns = st->n_columns;
    m->bytes = 0;
    m->of = st;
    m->pending = e;
}

const struct agon_memo_rows *agon_memo_find(struct agon_world *w, struct agon_statement *st,
                                            bool all)
{
    struct agon_memo *m = w->memo;
    if (!m || m->key_of != st)
        return NULL;
    m->key_of = NULL;
    m->key[0] = all ? 'a' : 'f';
    struct memo_entry *e;
    HASH_VALUE(m->key, m->key_size, m->hash);
    HASH_FIND_BYHASHVALUE(hh, m->entries[m->table], m->key, m->key_size, m->hash, e);
    if (!e) {
        memo_begin(m, st);
        return NULL;
    }
    /* Where the budget would end it, it has to run and be ended. */
    w->statement_ops = w->bulk_bytes = 0;
    return e->rows.ops <= world_ops_left(w) ? &e->rows : NULL;
}

/* False where there is no memory for it, or it is none that is kept. */
static bool cell_copy(struct agon_memo_cell *ret, sqlite3_stmt *q, int i)
{
    int type = sqlite3_column_type(q, i);
    char *text;
    *ret = (struct agon_memo_cell){.type = SQLITE_NULL};
    switch (type) {
    case SQLITE_INTEGER: ret->integer = sqlite3_column_int64(q, i); break;
    case SQLITE_FLOAT: ret->real = sqlite3_column_double(q, i); break;
    case SQLITE_NULL: break;
    case SQLITE_TEXT:
        ret->text.size = (size_t)sqlite3_column_bytes(q, i);
        if (ret->text.size > BYTES_MAX || !(text = malloc(ret->text.size + 1)))
            return false;
        memcpy(text, sqlite3_column_text(q, i), ret->text.size + 1);
        ret->text.data = text;
        break;
    default: return false;
    }
    ret->type = type;
    return true;
}

void agon_memo_row(struct agon_world *w, struct agon_statement *st)
{
    struct agon_memo *m = w->memo;
    if (!m || !m->pending || m->of != st)
        return;
    struct agon_memo_rows *rows = &m->pending->rows;
    int n = rows->n_rows * rows->n_columns;
    struct agon_memo_cell *cells = NULL;
    if (n + rows->n_columns <= CELLS_MAX)
        cells = realloc(rows->cells, (size_t)(n + rows->n_columns) * sizeof(*cells));
    if (!cells) {
        memo_drop_pending(m);
        return;
    }
    rows->cells = cells;
    memset(cells + n, 0, (size_t)rows->n_columns * sizeof(*cells));
    rows->n_rows++;
    bool whole = true;
    for (int i = 0; i < rows->n_columns && whole; i++) {
        whole = cell_copy(&cells[n + i], st->stmt, i);
        if (whole && cells[n + i].type == SQLITE_TEXT)
            m->bytes += cells[n + i].text.size;
    }
    if (!whole || m->bytes > BYTES_MAX)
        memo_drop_pending(m);
}

void agon_memo_done(struct agon_world *w, struct agon_statement *st, int64_t ops)
{
    struct agon_memo *m = w->memo;
    if (st->writes && w->trace)
        w->trace->open = false;
    if (!m || !m->pending || m->of != st)
        return;
    struct memo_entry *e = m->pending;
    m->pending = NULL;
    e->rows.ops = ops;
    size_t size = sizeof(*e) + e->key_size + m->bytes +
                  (size_t)(e->rows.n_rows * e->rows.n_columns) * VALUE_BYTES;
    if (HASH_COUNT(m->entries[m->table]) >= ENTRIES_MAX ||
        m->bytes_all[m->table] + size > ALL_BYTES_MAX)
        memo_empty(m, m->table);
    m->bytes_all[m->table] += size;
    HASH_ADD_KEYPTR_BYHASHVALUE(hh, m->entries[m->table], e->key, e->key_size, e->hash, e);
    if (!e->hh.tbl) { /* no memory: it is not kept */
        m->bytes_all[m->table] -= size;
        entry_free(e);
    }
}

int64_t agon_memo_replay(struct agon_world *w, struct agon_statement *st,
                         const struct agon_memo_rows *rows)
{
    world_note_reads(st);
    w->run_ops += rows->ops;
    return rows->ops;
}
