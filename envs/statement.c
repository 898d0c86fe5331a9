/* Statements of the world's principals (world.h): prepared once, checked, run on a budget. */
#include "envs/world_internal.h"
#include "envs/world_memory.h"

#include <ctype.h>
#include <stdlib.h>

enum { PREPARE_BYTES_MAX = 16 << 20 };

static void shape_free(struct world_shape *shape)
{
    for (int i = 0; i < shape->shape.n; i++)
        free(shape->names[i]);
    free(shape);
}

void agon_world_end_entry(struct agon_world *w)
{
    agon_world_settle(w);
    for (struct world_shape *shape = w->dropped, *next; shape; shape = next) {
        next = shape->next;
        shape_free(shape);
    }
    w->dropped = NULL;
    w->entry++;
    w->entry_used = 0;
    w->entry_bytes = w->entry_shapes = 0;
}

static void statement_free(struct agon_statement *st)
{
    if (!st)
        return;
    struct agon_world *w = st->world;
    sqlite3_finalize(st->stmt);
    if (st->shape && st->entry == w->entry) { /* rows of the entry at hand may have it */
        st->shape->next = w->dropped;
        w->dropped = st->shape;
    } else if (st->shape) {
        shape_free(st->shape);
    }
    free(st->reads);
    free(st->tables);
    free(st->sql);
    free(st);
}
AGON_DEFINE_FREEP(struct agon_statement, statement_free)

/* All but those that this entry has used (0: all). */
static void statements_drop(struct agon_world *w, uint64_t but)
{
    w->current = NULL;
    world_memo_flush(w);
    for (int writes = 0; writes < 2; writes++)
        for (int by = 0; by < AGON_N_PRINCIPALS; by++) {
            struct agon_statement *st, *next;
            HASH_ITER(hh, w->cached[writes][by], st, next)
            {
                if (but && st->entry == but)
                    continue;
                HASH_DEL(w->cached[writes][by], st);
                w->statements_bytes -= st->bytes;
                statement_free(st);
            }
        }
    agon_world_memory_spare(w->statements_bytes);
}

void world_flush_statements(struct agon_world *w)
{
    statements_drop(w, 0);
    w->entry_used = 0;
    w->entry_bytes = 0;
}

static int refuse(struct agon_err *err, const char *why)
{
    agon_fail(err, AGON_WORLD_REFUSED, "SQL: %s", why);
    return AGON_WORLD_REFUSED;
}

/* Only space, comments and semicolons may follow the statement. */
static bool tail_is_empty(const char *tail)
{
    while (*tail) {
        if (isspace((unsigned char)*tail) || *tail == ';') {
            tail++;
        } else if (tail[0] == '-' && tail[1] == '-') {
            while (*tail && *tail != '\n')
                tail++;
        } else if (tail[0] == '/' && tail[1] == '*') {
            const char *end = strstr(tail + 2, "*/");
            tail = end ? end + 2 : tail + strlen(tail);
        } else {
            return false;
        }
    }
    return true;
}

static int statement_check(struct agon_statement *st, const char *tail, struct agon_err *err)
{
    if (!st->stmt)
        return refuse(err, "the statement is empty");
    if (!tail_is_empty(tail))
        return refuse(err, "one statement only");
    if (sqlite3_stmt_isexplain(st->stmt))
        return refuse(err, "EXPLAIN is not available");
    if (!st->writes && !sqlite3_stmt_readonly(st->stmt))
        return refuse(err, "this statement writes; only SELECT is possible here");
    if (st->writes && sqlite3_stmt_readonly(st->stmt))
        return refuse(err, "exec is for INSERT, UPDATE and DELETE; use rows, row or value to read");
    for (int i = 1; i <= sqlite3_bind_parameter_count(st->stmt); i++)
        if (sqlite3_bind_parameter_name(st->stmt, i))
            return refuse(err, "write parameters as plain ?");
    return 0;
}

static int statement_name_columns(struct agon_statement *st, struct agon_err *err)
{
    int n = sqlite3_column_count(st->stmt);
    struct world_shape *shape =
        calloc(1, sizeof(*shape) + (size_t)n * (sizeof(*shape->names) + sizeof(*shape->in_lua)));
    if (!shape)
        return agon_fail(err, AGON_ENOMEM, "SQL: out of memory");
    st->shape = shape;
    st->n_columns = n;
    shape->shape.names = (const char *const *)shape->names;
    shape->in_lua = (struct agon_script_name *)(void *)(shape->names + n);
    shape->bytes = sizeof(*shape);
    for (int i = 0; i < n; i++) {
        const char *name = sqlite3_column_name(st->stmt, i);
        if (!(shape->names[i] = strdup(name ? name : "?")))
            return agon_fail(err, AGON_ENOMEM, "SQL: out of memory");
        shape->in_lua[i].text = shape->names[i];
        shape->shape.n = i + 1;
        shape->bytes += strlen(shape->names[i]) + sizeof(char *);
        for (int k = 0; k < i; k++)
            if (!strcmp(shape->names[k], shape->names[i])) {
                agon_fail(err, AGON_WORLD_REFUSED,
                          "SQL: two columns are named '%.60s': give one a name with AS",
                          shape->names[i]);
                return AGON_WORLD_REFUSED;
            }
    }
    return 0;
}

/* What SQLite says, with a hint where its words leave a writer helpless. */
static int statement_refused(struct agon_world *w, int rc, struct agon_err *err)
{
    const char *text = sqlite3_errmsg(w->db), *hint = "";
    if (rc == SQLITE_AUTH && !strncmp(text, "not authorized to use function", 30))
        hint = " (it is not available here)";
    else if (rc == SQLITE_AUTH)
        text = "not allowed here: only SELECT, and INSERT, UPDATE, DELETE in a tool that writes";
    agon_fail(err, AGON_WORLD_REFUSED, "SQL: %.400s%s", text, hint);
    return AGON_WORLD_REFUSED;
}

static int statement_prepare(struct agon_statement **ret, struct agon_world *w,
                             enum agon_principal by, bool writes, struct agon_str sql,
                             struct agon_err *err)
{
    struct agon_statement *st AGON_AUTO(statement_freep) = calloc(1, sizeof(*st));
    if (!st || !(st->sql = strndup(sql.data, sql.size)) ||
        !(st->reads = calloc((size_t)w->n_columns + 1, 1)) ||
        !(st->tables = calloc((size_t)w->n_tables + 1, 1)))
        return agon_fail(err, AGON_ENOMEM, "SQL: out of memory");
    if (strlen(st->sql) != sql.size)
        return refuse(err, "the statement holds a NUL character");
    st->world = w;
    st->by = by;
    st->writes = writes;
    const char *tail = "";
    w->current = st;
    w->statement_ops = w->bulk_bytes = 0;
    /* Nobody is asked while SQLite prepares: twenty common tables that each use the one before
     * twice kept it busy for seconds. What it may take of memory bounds its time, too. */
    agon_world_memory_limit(PREPARE_BYTES_MAX);
    int rc = sqlite3_prepare_v3(w->db, st->sql, (int)sql.size + 1, SQLITE_PREPARE_PERSISTENT,
                                &st->stmt, &tail);
    agon_world_memory_limit(SIZE_MAX);
    w->current = NULL;
    int r = rc == SQLITE_OK ? statement_check(st, tail, err) : statement_refused(w, rc, err);
    if (!r)
        r = statement_name_columns(st, err);
    if (!r) {
        st->n_params = sqlite3_bind_parameter_count(st->stmt);
        st->bytes = (size_t)sqlite3_stmt_status(st->stmt, SQLITE_STMTSTATUS_MEMUSED, 0);
        *ret = AGON_STEAL(st);
    }
    return r;
}

/* Prepare it and keep it, in the place of those that this entry has not used where they are many.
 */
static int statement_add(struct agon_statement **ret, struct agon_world *w, enum agon_principal by,
                         bool writes, struct agon_str sql, struct agon_err *err)
{
    struct agon_statement *st AGON_AUTO(statement_freep) = NULL, **cache = &w->cached[writes][by];
    int r = statement_prepare(&st, w, by, writes, sql, err);
    if (r)
        return r;
    if (HASH_COUNT(*cache) >= STATEMENTS_MAX || w->statements_bytes > PREPARED_BYTES_MAX)
        statements_drop(w, w->entry);
    HASH_ADD_KEYPTR(hh, *cache, st->sql, sql.size, st);
    if (!st->hh.tbl)
        return agon_fail(err, AGON_ENOMEM, "SQL: out of memory");
    w->statements_bytes += st->bytes;
    agon_world_memory_spare(w->statements_bytes);
    *ret = AGON_STEAL(st);
    return 0;
}

/*
 * Which statements are at hand depends on what ran before, so nothing that an entry into Lua can
 * see may depend on them: what it has used itself stays until it has used too many, which is the
 * same in each cell, and what all of them take of SQLite's memory is not counted.
 */
int agon_statement_get(struct agon_statement **ret, struct agon_world *w, enum agon_principal by,
                       bool writes, struct agon_str sql, struct agon_err *err)
{
    agon_world_settle(w);
    w->largest_bound = w->bound_size = 0;
    struct agon_statement *st, **cache = &w->cached[writes][by];
    HASH_FIND(hh, *cache, sql.data, sql.size, st);
    bool first = by != AGON_BY_PEOPLE && !(st && st->entry == w->entry);
    if (first && w->entry_shapes > SHAPES_BYTES_MAX)
        return refuse(err, "too many different statements in one call");
    if (first && (w->entry_used >= STATEMENTS_MAX || w->entry_bytes > PREPARED_BYTES_MAX)) {
        world_flush_statements(w); /* a generator of SQL text; simple beats clever */
        st = NULL;
    }
    if (!st) {
        int r = statement_add(&st, w, by, writes, sql, err);
        if (r)
            return r;
    }
    if (first) {
        st->entry = w->entry;
        w->entry_used++;
        w->entry_bytes += st->bytes;
        w->entry_shapes += st->shape->bytes;
    }
    *ret = st;
    return 0;
}

static enum agon_step step_failed(struct agon_world *w, int rc, struct agon_err *err)
{
    int code = rc & 0xff;
    if (code == SQLITE_INTERRUPT) {
        int64_t ops = w->statement_ops + w->bulk_bytes / BYTES_OP;
        bool run = ops <= w->ops_max && w->current && w->current->by != AGON_BY_PEOPLE;
        agon_fail(err, AGON_STEP_LIMIT, "SQL ran over %lld operations in %s",
                  (long long)(run ? AGON_WORLD_OPS_RUN * w->ops_max : ops),
                  run ? "all" : "one statement");
        return AGON_STEP_LIMIT;
    }
    if (code == SQLITE_NOMEM || code == SQLITE_FULL) {
        agon_fail(err, AGON_STEP_LIMIT,
                  code == SQLITE_FULL ? "the world grew over its size limit"
                                      : "SQL ran out of memory");
        return AGON_STEP_LIMIT;
    }
    (void)statement_refused(w, rc, err); /* an outcome: fills err */
    return AGON_STEP_ERROR;
}

void world_note_reads(struct agon_statement *st)
{
    struct agon_world *w = st->world;
    if (st->by != AGON_BY_TOOLS && !w->notes_checks)
        return;
    if (w->trace)
        world_trace_read(w->trace, st);
    if (st->noted == w->reads_round)
        return;
    for (int i = 0; i < w->n_columns; i++)
        w->reads[i] |= st->reads[i];
    st->noted = w->reads_round;
}

enum agon_step agon_statement_step(struct agon_statement *st, struct agon_err *err)
{
    struct agon_world *w = st->world;
    if (agon_world_lost(w)) {
        agon_fail(err, AGON_STEP_LIMIT,
                  "SQL: an earlier statement of this call rolled everything back");
        return AGON_STEP_LIMIT;
    }
    if (w->query_only && !sqlite3_stmt_readonly(st->stmt)) {
        agon_fail(err, AGON_STEP_ERROR, "SQL: nothing writes while a verifier judges");
        return AGON_STEP_ERROR;
    }
    if (!st->busy) {
        w->statement_ops = w->bulk_bytes = 0;
        sqlite3_randomness(0, NULL); /* row numbers may be drawn: the same ones every run */
        world_note_reads(st);
        w->largest = w->largest_bound;
        w->largest_bound = 0;
    }
    w->current = st;
    st->busy = true;
    if (st->writes) {
        w->clean = false;
        w->state = -1;
        world_memo_changed(w);
    }
    int rc = sqlite3_step(st->stmt);
    if (rc == SQLITE_ROW)
        return AGON_STEP_ROW;
    if (rc == SQLITE_DONE && !w->log.over)
        return AGON_STEP_END;
    if (rc != SQLITE_DONE)
        return step_failed(w, rc, err);
    if (w->log.over == AGON_ENOMEM)
        agon_fail(err, AGON_STEP_LIMIT, "out of memory for changes");
    else
        agon_fail(err, AGON_STEP_LIMIT, "over %d rows were changed", AGON_WORLD_CHANGES_MAX);
    return AGON_STEP_LIMIT;
}

int64_t agon_statement_end(struct agon_statement *st)
{
    struct agon_world *w = st->world;
    (void)sqlite3_reset(st->stmt); /* repeats the error of the step, which was handled */
    (void)sqlite3_clear_bindings(st->stmt);
    /* Counted from zero each time: where the progress handler looks must not depend on history. */
    int64_t ops =
        sqlite3_stmt_status(st->stmt, SQLITE_STMTSTATUS_VM_STEP, 1) + w->bulk_bytes / BYTES_OP;
    w->run_ops += ops;
    st->busy = false;
    w->current = NULL;
    return ops;
}

void agon_world_settle(struct agon_world *w)
{
    if (w->current)
        (void)agon_statement_end(w->current); /* nobody is left to be charged */
}

sqlite3_stmt *agon_statement_sqlite(struct agon_statement *st)
{
    return st->stmt;
}

void agon_statement_note_bound(struct agon_statement *st, size_t size)
{
    struct agon_world *w = st->world;
    if (size > w->largest_bound)
        w->largest_bound = size;
}

/* Short ones lie with the world until the next statement: SQLite would take memory for each. */
int agon_statement_bind_text(struct agon_statement *st, int param, struct agon_str text)
{
    struct agon_world *w = st->world;
    agon_statement_note_bound(st, text.size);
    if (text.size == 0 || text.size > sizeof(w->bound) - w->bound_size)
        return sqlite3_bind_text(st->stmt, param, text.data, (int)text.size, SQLITE_TRANSIENT);
    char *at = memcpy(w->bound + w->bound_size, text.data, text.size);
    w->bound_size += text.size;
    return sqlite3_bind_text(st->stmt, param, at, (int)text.size, SQLITE_STATIC);
}

int agon_statement_n_columns(const struct agon_statement *st)
{
    return st->n_columns;
}

int agon_statement_n_params(const struct agon_statement *st)
{
    return st->n_params;
}

struct agon_script_name *agon_statement_names(struct agon_statement *st)
{
    return st->shape->in_lua;
}

const struct agon_shape *agon_statement_shape(const struct agon_statement *st)
{
    return &st->shape->shape;
}
