#include "envs/memo.h"

#include "envs/world_internal.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    ENTRIES_MAX = 2048, /* then all are forgotten; simple beats clever */
    CELLS_MAX = 256,    /* of a result; larger ones are not kept */
    BYTES_MAX = 4096,   /* of a result's texts, and of a statement */
};

struct memo_entry {
    char *key; /* owned: 'a' or 'f', then the statement with its parameters written in */
    struct agon_memo_rows rows;
    UT_hash_handle hh;
};

struct agon_memo {
    struct memo_entry *entries; /* hash table by key */
    struct memo_entry *pending; /* being recorded, or NULL */
    struct agon_statement *of;  /* whose rows those are: only what it gives is recorded */
    size_t bytes;               /* of their texts */
};

static void entry_free(struct memo_entry *e)
{
    if (!e)
        return;
    for (int i = 0; i < e->rows.n_rows * e->rows.n_columns; i++)
        sqlite3_value_free(e->rows.cells[i]);
    free(e->rows.cells);
    free(e->key);
    free(e);
}

static void memo_drop_pending(struct agon_memo *m)
{
    entry_free(m->pending);
    m->pending = NULL;
}

void world_memo_flush(struct agon_world *w)
{
    struct memo_entry *e, *next;
    if (!w->memo)
        return;
    memo_drop_pending(w->memo);
    HASH_ITER(hh, w->memo->entries, e, next)
    {
        HASH_DEL(w->memo->entries, e);
        entry_free(e);
    }
}

void world_memo_free(struct agon_world *w)
{
    world_memo_flush(w);
    free(w->memo);
    w->memo = NULL;
}

void agon_memo_skip(struct agon_statement *st)
{
    st->no_memo = true;
}

/* The key, owned by the caller, or NULL where there is none that is exact and short enough. */
static char *memo_key(struct agon_statement *st, bool all)
{
    if (st->no_memo)
        return NULL;
    char *key = NULL, *sql = sqlite3_expanded_sql(st->stmt);
    if (sql && strlen(sql) <= BYTES_MAX && asprintf(&key, "%c%s", all ? 'a' : 'f', sql) < 0)
        key = NULL;
    sqlite3_free(sql);
    return key;
}

/* Record what comes; out of memory only means that nothing is kept. Takes the key. */
static void memo_begin(struct agon_memo *m, struct agon_statement *st, char *key)
{
    m->pending = calloc(1, sizeof(*m->pending));
    if (!m->pending) {
        free(key);
        return;
    }
    m->bytes = 0;
    m->of = st;
    m->pending->key = key;
    m->pending->rows.n_columns = st->n_columns;
}

const struct agon_memo_rows *agon_memo_find(struct agon_world *w, struct agon_statement *st,
                                            bool all)
{
    if (w->memo)
        memo_drop_pending(w->memo); /* of a statement that raised */
    if (!w->query_only || st->by != AGON_BY_VERIFIER || agon_world_lost(w))
        return NULL;
    if (!w->memo && !(w->memo = calloc(1, sizeof(*w->memo))))
        return NULL;
    char *key = memo_key(st, all);
    if (!key)
        return NULL;
    struct memo_entry *e;
    HASH_FIND_STR(w->memo->entries, key, e);
    if (!e) {
        memo_begin(w->memo, st, key);
        return NULL;
    }
    free(key);
    /* Where the budget would end it, it has to run and be ended. */
    w->statement_ops = 0;
    return e->rows.ops <= world_ops_left(w) ? &e->rows : NULL;
}

void agon_memo_row(struct agon_world *w, struct agon_statement *st)
{
    struct agon_memo *m = w->memo;
    if (!m || !m->pending || m->of != st)
        return;
    struct agon_memo_rows *rows = &m->pending->rows;
    int n = rows->n_rows * rows->n_columns;
    struct sqlite3_value **cells = NULL;
    if (n + rows->n_columns <= CELLS_MAX)
        cells = realloc(rows->cells, (size_t)(n + rows->n_columns) * sizeof(*cells));
    if (!cells) {
        memo_drop_pending(m);
        return;
    }
    rows->cells = cells;
    rows->n_rows++;
    bool whole = true;
    for (int i = 0; i < rows->n_columns; i++) {
        m->bytes += (size_t)sqlite3_column_bytes(st->stmt, i);
        cells[n + i] = sqlite3_value_dup(sqlite3_column_value(st->stmt, i));
        whole = whole && cells[n + i];
    }
    if (!whole || m->bytes > BYTES_MAX)
        memo_drop_pending(m);
}

void agon_memo_done(struct agon_world *w, struct agon_statement *st, int64_t ops)
{
    struct agon_memo *m = w->memo;
    if (!m || !m->pending || m->of != st)
        return;
    struct memo_entry *e = m->pending;
    m->pending = NULL;
    e->rows.ops = ops;
    if (HASH_COUNT(m->entries) >= ENTRIES_MAX)
        world_memo_flush(w);
    HASH_ADD_KEYPTR(hh, m->entries, e->key, strlen(e->key), e);
}

int64_t agon_memo_replay(struct agon_world *w, struct agon_statement *st,
                         const struct agon_memo_rows *rows)
{
    (void)agon_statement_end(st); /* it took no step: nothing is counted */
    w->run_ops += rows->ops;
    return rows->ops;
}
