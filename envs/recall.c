/* Calls that were made before: see recall.h. */
#include "envs/recall.h"

#include "base/buf.h"
#include "envs/seen.h"
#include "envs/world_internal.h"

#include <stdlib.h>

enum {
    ENTRIES_MAX = 4096, /* then all are forgotten, as in memo.c */
    KEY_BYTES_MAX = 1024,
    RESULT_BYTES_MAX = 16 << 10,
    STATEMENTS_BYTES_MAX = 16 << 10,
    ALL_BYTES_MAX = 8 << 20,
};

struct entry {
    struct agon_recalled what;
    const char *key; /* these, and all that `what` shows, are: */
    size_t key_size, bytes_size;
    UT_hash_handle hh;
    char bytes[];
};

struct agon_recall {
    struct entry *entries; /* hash table by key, owned */
    size_t bytes_all;
    uint64_t round;               /* of the world's rows, as these were recorded */
    int64_t state_new;            /* the next number */
    struct agon_recall_call call; /* that was looked for last; its arguments are in the key */
    char key[KEY_BYTES_MAX];      /* of it */
    size_t key_size;              /* 0: it is not kept */
    int logged;                   /* events when it began */
    struct world_trace trace;
    struct seen seen;
};

static void recall_empty(struct agon_recall *r)
{
    struct entry *e, *next;
    HASH_ITER(hh, r->entries, e, next)
    {
        HASH_DEL(r->entries, e);
        free(e);
    }
    r->bytes_all = 0;
}

struct agon_recall *agon_recall_new(void)
{
    struct agon_recall *r = calloc(1, sizeof(*r));
    if (!r)
        return NULL;
    r->state_new = AGON_STATE_CLEAN + 1;
    r->trace.statements = (struct agon_buf)AGON_BUF(STATEMENTS_BYTES_MAX);
    return r;
}

void agon_recall_free(struct agon_recall *r)
{
    if (!r)
        return;
    recall_empty(r);
    free(r->trace.reads);
    agon_buf_deinit(&r->trace.statements);
    free(r);
}

/* ---- the trace of a call that is being made ---- */

void world_trace_read(struct world_trace *t, const struct agon_statement *st)
{
    for (int i = 0; i < st->world->n_columns; i++)
        t->reads[i] |= st->reads[i];
    for (int i = 0; i < st->world->n_tables; i++)
        t->tables[i] |= st->tables[i];
}

void world_trace_write(struct world_trace *t, struct agon_statement *st)
{
    t->void_call |= t->open; /* one that raised: what it was bound to may be half of it */
    t->open = true;
    agon_buf_add(&t->statements, &st, sizeof(st));
}

void world_trace_param(struct world_trace *t, char type, const void *data, size_t size)
{
    if (!t->open)
        return;
    agon_buf_addc(&t->statements, type);
    agon_buf_add(&t->statements, &size, sizeof(size));
    agon_buf_add(&t->statements, data, size);
}

/* ---- finding ---- */

static void key_set_state(struct agon_recall *r, int64_t state)
{
    memcpy(r->key, &state, sizeof(state));
}

/* A state, the tool, the arguments. */
static bool key_make(struct agon_recall *r, const struct agon_recall_call *call)
{
    size_t head = sizeof(call->state) + sizeof(call->tool);
    r->key_size = 0;
    if (call->arguments.size > sizeof(r->key) - head)
        return false;
    memcpy(r->key + sizeof(call->state), &call->tool, sizeof(call->tool));
    if (call->arguments.size)
        memcpy(r->key + head, call->arguments.data, call->arguments.size);
    r->key_size = head + call->arguments.size;
    return true;
}

static struct entry *entry_find(struct agon_recall *r, int64_t state)
{
    struct entry *e;
    key_set_state(r, state);
    HASH_FIND(hh, r->entries, r->key, r->key_size, e);
    return e;
}

/* Where a budget would end it, the call has to be made and be ended. */
static bool affordable(const struct agon_world *w, const struct agon_recall_call *call,
                       const struct entry *e)
{
    return e->what.fuel <= call->fuel && e->what.ops <= agon_world_run_ops_max(w) - w->run_ops;
}

struct agon_recalled *agon_recall_find(struct agon_recall *r, struct agon_world *w,
                                       const struct agon_recall_call *call)
{
    struct entry *e = NULL;
    if (r->round != w->rows_round) {
        recall_empty(r);
        seen_forget(&r->seen);
        r->round = w->rows_round;
    }
    r->call = *call;
    if (agon_world_lost(w) || !key_make(r, call))
        return NULL;
    if (!call->writes) {
        e = entry_find(r, AGON_STATE_CLEAN);
        if (e && !w->clean && changes_touch(w, e->what.tables))
            e = NULL;
    }
    if (!e && call->state != AGON_STATE_UNKNOWN && (call->writes || call->state))
        e = entry_find(r, call->state);
    if (e && affordable(w, call, e))
        return &e->what;
    if (e)
        r->key_size = 0; /* it stands already */
    return NULL;
}

/* ---- making it again ---- */

struct cursor {
    const char *at, *end;
};

static void cursor_take(struct cursor *c, void *ret, size_t size)
{
    memcpy(ret, c->at, size);
    c->at += size;
}

static int bind_next(struct agon_statement *st, int param, struct cursor *c)
{
    size_t size;
    int64_t integer;
    double real;
    int rc;
    char type = *c->at++;
    cursor_take(c, &size, sizeof(size));
    const char *data = c->at;
    c->at += size;
    switch (type) {
    case 'i':
        memcpy(&integer, data, sizeof(integer));
        return sqlite3_bind_int64(st->stmt, param, integer);
    case 'r': memcpy(&real, data, sizeof(real)); return sqlite3_bind_double(st->stmt, param, real);
    case 't':
        /* The bytes stay where they are until the statement has ended. */
        rc = sqlite3_bind_text(st->stmt, param, data, (int)size, SQLITE_STATIC);
        agon_statement_note_bound(st, size);
        return rc;
    default: return sqlite3_bind_null(st->stmt, param);
    }
}

static bool statement_redo(struct agon_world *w, struct cursor *c)
{
    struct agon_statement *st;
    struct agon_err err;
    enum agon_step step = AGON_STEP_ERROR;
    cursor_take(c, &st, sizeof(st));
    w->largest_bound = 0;
    int rc = SQLITE_OK;
    for (int i = 1; i <= st->n_params && rc == SQLITE_OK; i++)
        rc = bind_next(st, i, c);
    while (rc == SQLITE_OK && (step = agon_statement_step(st, &err)) == AGON_STEP_ROW)
        continue;
    (void)agon_statement_end(st); /* what it cost is known */
    return step == AGON_STEP_END;
}

int agon_recall_redo(struct agon_recalled *known, struct agon_world *w)
{
    agon_world_settle(w);
    if (known->noted != w->reads_round) {
        for (int i = 0; i < w->n_columns; i++)
            w->reads[i] |= known->reads[i];
        known->noted = w->reads_round;
    }
    struct cursor c = {known->statements.data, known->statements.data + known->statements.size};
    int64_t ops = w->run_ops;
    int logged = w->log.n;
    bool ok = true;
    w->run_ops = 0; /* the sum may not stop one that it did not stop */
    while (ok && c.at < c.end)
        ok = statement_redo(w, &c);
    ok = ok && w->log.n - logged == known->n_events;
    w->run_ops = ok ? ops + known->ops : ops;
    return ok ? 0 : 1;
}

/* ---- recording ---- */

/* Reads are kept from the second time on (seen.h says why); what writes at once, since a list of
 * writes is made again by whoever forks. */
static bool worth_it(struct agon_recall *r)
{
    unsigned hash;
    if (r->call.writes)
        return r->call.state != AGON_STATE_UNKNOWN;
    key_set_state(r, r->call.state);
    HASH_VALUE(r->key, r->key_size, hash);
    return seen_before(&r->seen, hash);
}

void agon_recall_begin(struct agon_recall *r, struct agon_world *w)
{
    struct world_trace *t = &r->trace;
    size_t n_columns = (size_t)w->n_columns, n_tables = (size_t)w->n_tables;
    r->logged = w->log.n;
    w->trace = NULL;
    if (!r->key_size || !worth_it(r))
        return;
    uint8_t *bytes = realloc(t->reads, n_columns + n_tables + 1);
    if (!bytes)
        return;
    memset(bytes, 0, n_columns + n_tables);
    t->reads = bytes;
    t->tables = bytes + n_columns;
    t->open = t->void_call = false;
    agon_buf_reset(&t->statements);
    w->trace = t;
}

static char *put(char **at, const void *data, size_t size)
{
    char *to = *at;
    if (size)
        memcpy(to, data, size);
    *at += size;
    return to;
}

static struct agon_str put_str(char **at, struct agon_str s)
{
    return (struct agon_str){put(at, s.data, s.size), s.size};
}

/* NULL: no memory, which only means that it is not kept. */
static struct entry *entry_new(const struct agon_recall *r, const struct agon_world *w,
                               const struct agon_recalled *did)
{
    const struct world_trace *t = &r->trace;
    size_t n_columns = (size_t)w->n_columns, n_tables = (size_t)w->n_tables;
    struct agon_str statements = agon_buf_str(&t->statements);
    if (w->log.n == r->logged) /* it changed no row, and was undone (session.c) */
        statements.size = 0;
    size_t size = r->key_size + did->canonical.size + did->result.size + statements.size +
                  n_columns + n_tables;
    struct entry *e = malloc(sizeof(*e) + size);
    if (!e)
        return NULL;
    char *at = e->bytes;
    *e = (struct entry){.what = *did, .key_size = r->key_size, .bytes_size = sizeof(*e) + size};
    e->key = put(&at, r->key, r->key_size);
    e->what.canonical = put_str(&at, did->canonical);
    e->what.result = put_str(&at, did->result);
    e->what.statements = put_str(&at, statements);
    e->what.reads = (const uint8_t *)put(&at, t->reads, n_columns);
    e->what.tables = (const uint8_t *)put(&at, t->tables, n_tables);
    e->what.n_events = w->log.n - r->logged;
    e->what.noted = 0;
    return e;
}

static bool entry_add(struct agon_recall *r, struct entry *e)
{
    if (HASH_COUNT(r->entries) >= ENTRIES_MAX || r->bytes_all + e->bytes_size > ALL_BYTES_MAX)
        recall_empty(r);
    HASH_ADD_KEYPTR(hh, r->entries, e->key, e->key_size, e);
    if (!e->hh.tbl)
        return false;
    r->bytes_all += e->bytes_size;
    return true;
}

int64_t agon_recall_end(struct agon_recall *r, struct agon_world *w,
                        const struct agon_recalled *did)
{
    const struct world_trace *t = w->trace;
    bool wrote = w->log.n != r->logged;
    w->trace = NULL;
    if (!did) /* it left nothing */
        return r->call.state;
    int64_t unknown = wrote ? AGON_STATE_UNKNOWN : r->call.state;
    if (!t || t->open || t->void_call || t->statements.failed || r->round != w->rows_round ||
        did->result.size > RESULT_BYTES_MAX)
        return unknown;
    /* A reading call of a written world whose tables are as at the reset is as good there. */
    bool anywhere = !r->call.writes && (w->clean || !changes_touch(w, t->tables));
    if (!anywhere && r->call.state == AGON_STATE_UNKNOWN)
        return unknown;
    struct entry *e = entry_find(r, anywhere ? AGON_STATE_CLEAN : r->call.state);
    if (e || !(e = entry_new(r, w, did)))
        return unknown;
    e->what.state = wrote ? r->state_new : r->call.state;
    if (!entry_add(r, e)) {
        free(e);
        return unknown;
    }
    r->state_new += wrote;
    return wrote ? e->what.state : r->call.state;
}
