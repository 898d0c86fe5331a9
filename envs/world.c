/* The world's life: opening, the transaction, savepoints. See world.h. */
#include "envs/world_internal.h"
#include "envs/world_memory.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const control_sql[N_CONTROLS] = {
    [CONTROL_BEGIN] = "BEGIN",           [CONTROL_ROLLBACK] = "ROLLBACK",
    [CONTROL_BASE] = "SAVEPOINT base",   [CONTROL_TO_BASE] = "ROLLBACK TO base",
    [CONTROL_CALL] = "SAVEPOINT call",   [CONTROL_KEEP] = "RELEASE call",
    [CONTROL_UNDO] = "ROLLBACK TO call",
};

int world_fail(struct agon_world *w, const char *what, struct agon_err *err)
{
    return agon_fail(err, AGON_ESTORE, "%s: %s", what, sqlite3_errmsg(w->db));
}

int world_exec(struct agon_world *w, const char *sql, struct agon_err *err)
{
    w->trusted++;
    int rc = sqlite3_exec(w->db, sql, NULL, NULL, NULL);
    w->trusted--;
    return rc == SQLITE_OK ? 0 : world_fail(w, sql, err);
}

static int control_run(struct agon_world *w, enum control c, struct agon_err *err)
{
    w->trusted++;
    int rc = SQLITE_OK;
    if (!w->control[c])
        rc = sqlite3_prepare_v3(w->db, control_sql[c], -1, SQLITE_PREPARE_PERSISTENT,
                                &w->control[c], NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(w->control[c]);
        int again = sqlite3_reset(w->control[c]);
        rc = rc == SQLITE_DONE ? again : rc;
    }
    w->trusted--;
    return rc == SQLITE_OK ? 0 : world_fail(w, control_sql[c], err);
}

static int refuse(struct agon_err *err, const char *why)
{
    agon_fail(err, AGON_WORLD_REFUSED, "world: %s", why);
    return AGON_WORLD_REFUSED;
}

/* Text of the first row's first column, "" without; for checks before the authorizer stands. */
static int query_text(sqlite3 *db, const char *sql, char *ret, size_t size)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &q, NULL);
    if (rc == SQLITE_OK)
        rc = sqlite3_step(q);
    const char *text = rc == SQLITE_ROW ? (const char *)sqlite3_column_text(q, 0) : NULL;
    snprintf(ret, size, "%s", text ? text : rc == SQLITE_DONE ? "" : sqlite3_errmsg(db));
    sqlite3_finalize(q);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? 0 : 1;
}

/* A connection that reads the image where it lies. */
static int image_open(sqlite3 **ret, struct agon_str bytes, struct agon_err *err)
{
    int r = world_open_memory(ret, err);
    unsigned char *image = (unsigned char *)(uintptr_t)bytes.data; /* SQLITE_DESERIALIZE_READONLY */
    if (r)
        return r;
    if (sqlite3_deserialize(*ret, "main", image, (sqlite3_int64)bytes.size,
                            (sqlite3_int64)bytes.size, SQLITE_DESERIALIZE_READONLY) != SQLITE_OK)
        return refuse(err, "the database cannot be read");
    (void)sqlite3_db_config(*ret, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(*ret, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    /* Without this each page is copied into a cache first. */
    (void)sqlite3_exec(*ret, "PRAGMA mmap_size=50331648", NULL, NULL, NULL);
    return 0;
}

static int image_check(struct agon_str bytes, struct agon_err *err)
{
    sqlite3 *from = NULL;
    char text[200];
    int r = image_open(&from, bytes, err);
    if (!r &&
        (query_text(from, "PRAGMA quick_check(1)", text, sizeof(text)) || strcmp(text, "ok") != 0))
        r = agon_fail(err, AGON_WORLD_REFUSED, "world: the database is damaged: %s", text);
    sqlite3_close(from);
    return r;
}

/* Page by page into a database that is all cache. */
static int image_copy(struct agon_world *w, struct agon_str bytes, struct agon_err *err)
{
    sqlite3 *from = NULL;
    int r = image_open(&from, bytes, err);
    sqlite3_backup *backup = r ? NULL : sqlite3_backup_init(w->db, "main", from, "main");
    if (!r && !backup)
        r = world_fail(w, "world", err);
    if (backup) {
        int rc = sqlite3_backup_step(backup, -1), end = sqlite3_backup_finish(backup);
        if (rc != SQLITE_DONE || end != SQLITE_OK)
            r = refuse(err, "the database cannot be copied");
    }
    sqlite3_close(from);
    return r;
}

static int image_header(struct agon_str bytes, struct agon_err *err)
{
    static const char magic[] = "SQLite format 3";
    if (bytes.size < 512 || memcmp(bytes.data, magic, sizeof(magic)) != 0)
        return refuse(err, "not an SQLite database");
    if (bytes.size > AGON_WORLD_BYTES_MAX)
        return refuse(err, "the database is over 48 MiB");
    if (bytes.data[18] == 2 || bytes.data[19] == 2)
        return refuse(err,
                      "the database is in WAL mode; run PRAGMA journal_mode=DELETE on it first");
    return 0;
}

static int world_load(struct agon_world *w, struct agon_str bytes, struct agon_err *err)
{
    int r = bytes.size ? image_copy(w, bytes, err) : 0;
    if (!r)
        r = world_read_schema(w, err);
    return r ? r : world_check_functions(w, err);
}

/* Whatever is wrong with a damaged image, that it is damaged is what its author has to know. */
static int world_fill(struct agon_world *w, struct agon_str bytes, struct agon_err *err)
{
    struct agon_err damaged;
    int r = bytes.size ? image_header(bytes, err) : 0;
    if (r)
        return r;
    r = world_load(w, bytes, err);
    if (bytes.size == 0 || r == AGON_ENOMEM || (!r && world_image_is_sound(w, bytes)))
        return r;
    int check = image_check(bytes, &damaged);
    if (check)
        *err = damaged;
    return check ? check : r;
}

int agon_world_open(struct agon_world **ret, struct agon_str bytes, struct agon_err *err)
{
    struct agon_world *w AGON_AUTO(agon_world_freep) = calloc(1, sizeof(*w));
    if (!w)
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    w->reads_round = w->rows_round = w->entry = 1;
    int r = world_open_memory(&w->db, err);
    if (!r)
        r = world_fill(w, bytes, err);
    if (!r && !(w->reads = calloc((size_t)w->n_columns + 1, 1)))
        r = agon_fail(err, AGON_ENOMEM, "world: out of memory");
    if (!r)
        r = world_guard(w, err);
    if (!r)
        r = agon_world_reset(w, err);
    if (!r)
        *ret = AGON_STEAL(w);
    return r;
}

void agon_world_free(struct agon_world *w)
{
    if (!w)
        return;
    if (w->db) {
        world_flush_statements(w);
        agon_world_end_entry(w);
    }
    world_memo_free(w);
    for (int i = 0; i < N_CONTROLS; i++)
        sqlite3_finalize(w->control[i]);
    changes_free(&w->log);
    world_unguard(w);
    sqlite3_close(w->db);
    agon_world_memory_trim();
    world_tables_free(w);
    free(w->plan.columns);
    free(w->reads);
    free(w);
}

int agon_world_n_tables(const struct agon_world *w)
{
    return w->n_tables;
}

const struct agon_table *agon_world_table(const struct agon_world *w, int i)
{
    return &w->tables[i];
}

bool agon_world_lost(const struct agon_world *w)
{
    return sqlite3_get_autocommit(w->db) != 0;
}

bool agon_world_dangles(const struct agon_world *w)
{
    int dangles = 0, most = 0;
    (void)sqlite3_db_status(w->db, SQLITE_DBSTATUS_DEFERRED_FKS, &dangles, &most,
                            0); /* fails for a verb that it does not know alone */
    return dangles != 0;
}

int agon_world_reset(struct agon_world *w, struct agon_err *err)
{
    agon_world_settle(w);
    w->run_ops = 0;
    w->in_call = false;
    w->state = 0;
    bool lost = agon_world_lost(w);
    if (!lost && w->clean)
        return 0;
    changes_cut(&w->log, 0);
    world_memo_changed(w);
    int r = 0;
    if (!lost && w->based)
        r = control_run(w, CONTROL_TO_BASE, err);
    else {
        if (!lost)
            r = control_run(w, CONTROL_ROLLBACK, err);
        if (!r)
            r = control_run(w, CONTROL_BEGIN, err);
        w->based = false;
        if (!r && w->plan.columns) {
            r = world_apply_plan(w, err);
            if (!r)
                r = control_run(w, CONTROL_BASE, err);
            w->based = r == 0;
        }
    }
    w->clean = r == 0;
    return r;
}

void agon_world_set_state(struct agon_world *w, int64_t state)
{
    w->state = state;
}

int64_t agon_world_run_ops(const struct agon_world *w)
{
    return w->run_ops;
}

int64_t agon_world_run_ops_max(const struct agon_world *w)
{
    return AGON_WORLD_OPS_RUN * w->ops_max;
}

void agon_world_set_run_ops(struct agon_world *w, int64_t ops)
{
    w->run_ops = ops;
}

int agon_world_perturb(struct agon_world *w, uint64_t seed, int draw,
                       const struct agon_str *columns, int n, struct agon_err *err)
{
    if (n == 0 && !w->plan.columns) /* as it is */
        return agon_world_reset(w, err);
    world_memo_flush(w);
    free(w->plan.columns);
    w->plan = (struct plan){.seed = seed, .draw = draw};
    w->based = false; /* whatever lies under it goes, too */
    w->clean = false;
    if (n > 0 && !(w->plan.columns = calloc((size_t)w->n_columns + 1, 1)))
        return agon_fail(err, AGON_ENOMEM, "world: out of memory");
    for (int i = 0; i < n; i++) {
        const char *dot = memchr(columns[i].data, '.', columns[i].size);
        struct agon_str table = {columns[i].data, dot ? (size_t)(dot - columns[i].data) : 0};
        int t = agon_world_find_table(w, table), c = -1;
        if (t >= 0)
            c = agon_world_find_column(
                &w->tables[t], (struct agon_str){dot + 1, columns[i].size - table.size - 1});
        if (c < 0)
            return agon_fail(err, AGON_EINPUT, "world: no column '%.*s'", AGON_STR_ARG(columns[i]));
        w->plan.columns[w->tables[t].first + c] = 1;
    }
    return agon_world_reset(w, err);
}

int agon_world_begin_call(struct agon_world *w, struct agon_err *err)
{
    w->log.mark = w->log.n;
    w->log.over = 0;
    int r = control_run(w, CONTROL_CALL, err);
    w->in_call = r == 0;
    return r;
}

int agon_world_end_call(struct agon_world *w, bool keep, struct agon_err *err)
{
    agon_world_settle(w);
    bool in_call = w->in_call;
    w->in_call = false;
    if (agon_world_lost(w) || !in_call)
        return 0;
    int r = keep ? 0 : control_run(w, CONTROL_UNDO, err);
    if (!keep) {
        changes_cut(&w->log, w->log.mark);
        world_memo_changed(w);
    }
    return r ? r : control_run(w, CONTROL_KEEP, err);
}

static int world_pragma(struct agon_world *w, const char *name, int value, struct agon_err *err)
{
    char sql[64];
    snprintf(sql, sizeof(sql), "PRAGMA %s=%d", name, value);
    agon_world_settle(w);
    world_flush_statements(w); /* they expire, and what the authorizer noted with them */
    return world_exec(w, sql, err);
}

/*
 * Each statement is looked at before it takes a step (agon_statement_step). PRAGMA query_only,
 * which says the same, expires every statement: preparing them again was half the price of an
 * episode. That nothing was written after all is made sure of at the end.
 */
int agon_world_set_query_only(struct agon_world *w, bool on, struct agon_err *err)
{
    if (w->query_only == on)
        return 0;
    sqlite3_int64 changes = sqlite3_total_changes64(w->db);
    if (!on && changes != w->changes_before)
        return agon_fail(err, AGON_ESTORE, "world: something wrote while a verifier judged");
    agon_world_settle(w);
    w->changes_before = changes;
    w->query_only = on;
    return 0;
}

int agon_world_set_reverse(struct agon_world *w, bool on, struct agon_err *err)
{
    if (w->reverse == on)
        return 0;
    w->reverse = on;
    return world_pragma(w, "reverse_unordered_selects", on, err);
}

int agon_world_set_cache(struct agon_world *w, int kib, struct agon_err *err)
{
    enum { KIB_USUAL = 2000 }; /* what SQLite begins with */
    return world_pragma(w, "cache_size", -(kib > 0 ? kib : KIB_USUAL), err);
}

const uint8_t *agon_world_reads(const struct agon_world *w, int *ret_n)
{
    *ret_n = w->n_columns;
    return w->reads;
}

void agon_world_note_checks(struct agon_world *w, bool on)
{
    if (w->notes_checks == on)
        return;
    w->notes_checks = on;
    agon_world_forget_reads(w);
}

void agon_world_forget_reads(struct agon_world *w)
{
    memset(w->reads, 0, (size_t)w->n_columns);
    w->reads_round++;
}
