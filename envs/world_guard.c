/*
 * What keeps SQL in its place (world.h): the clock, limits, the authorizer with its
 * list of functions, the budget of operations. Found by running (limits.md, facts
 * 11 to 13): printf() ignores every limit, datetime('now') passes any list, and
 * EXPLAIN shows bytecode, hence each of the rules below.
 */
#include "envs/world_internal.h"
#include "envs/world_memory.h"

#include "sandbox/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    PROGRESS_STEPS = 1000,
    EPOCH_DAY_MS = 86400000,
};
/* 50 million operations, the most that our own questions take, are some 3 s; those of others are
 * some 30 ms. */
static const int64_t STATEMENT_CPU_NS_MAX = 10000000000, STATEMENT_CPU_NS_OTHERS = 5000000000;
/* The world's clock: 2025-01-01 00:00:00 UTC as a Julian day number in milliseconds. */
static const sqlite3_int64 CLOCK_JULIAN_MS = (sqlite3_int64)(2460676.5 * EPOCH_DAY_MS);

static int clock_now64(sqlite3_vfs *vfs, sqlite3_int64 *ret)
{
    (void)vfs;
    *ret = CLOCK_JULIAN_MS;
    return SQLITE_OK;
}

static int clock_now(sqlite3_vfs *vfs, double *ret)
{
    (void)vfs;
    *ret = (double)CLOCK_JULIAN_MS / EPOCH_DAY_MS;
    return SQLITE_OK;
}

/* Worlds live in memory: nothing is opened by this VFS. */
static int clock_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags,
                      int *ret_flags)
{
    (void)vfs, (void)name, (void)flags, (void)ret_flags;
    file->pMethods = NULL;
    return SQLITE_CANTOPEN;
}

static int clock_register(void)
{
    static sqlite3_vfs clock;
    if (clock.zName)
        return SQLITE_OK;
    sqlite3_vfs *stock = sqlite3_vfs_find(NULL);
    if (!stock)
        return SQLITE_ERROR;
    clock = *stock;
    clock.zName = "agon";
    clock.pNext = NULL;
    clock.xOpen = clock_open;
    clock.xCurrentTime = clock_now;
    clock.xCurrentTimeInt64 = clock_now64;
    /* 'localtime' would read the machine's time zone. */
    sqlite3_test_control(SQLITE_TESTCTRL_LOCALTIME_FAULT, 1);
    /* What SQLite draws by lot, statement_step() starts anew. */
    sqlite3_test_control(SQLITE_TESTCTRL_PRNG_SEED, 7, NULL);
    sqlite3_hard_heap_limit64(AGON_WORLD_HEAP_MAX); /* where the memory is SQLite's own */
    return sqlite3_vfs_register(&clock, 0);
}

int world_open_memory(sqlite3 **ret, struct agon_err *err)
{
    if (clock_register() != SQLITE_OK)
        return agon_fail(err, AGON_ESTORE, "world: no VFS");
    sqlite3 *db = NULL;
    if (sqlite3_open_v2(":memory:", &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, "agon") !=
        SQLITE_OK) {
        agon_fail(err, AGON_ESTORE, "world: %s", db ? sqlite3_errmsg(db) : "out of memory");
        sqlite3_close(db);
        return AGON_ESTORE;
    }
    *ret = db;
    return 0;
}

/* Sorted. Deterministic, bounded by their arguments, and without a view on anything else. */
static const char *const functions[] = {
    "->",
    "->>",
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "cos",
    "count",
    "cume_dist",
    "current_date",
    "current_time",
    "current_timestamp",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "glob",
    "group_concat",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_each",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_type",
    "json_valid",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "likelihood",
    "likely",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "percent_rank",
    "pi",
    "pow",
    "power",
    "quote",
    "radians",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sqrt",
    "strftime",
    "substr",
    "substring",
    "sum",
    "tan",
    "time",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unicode",
    "unixepoch",
    "unlikely",
    "upper",
};

static int text_order(const void *a, const void *b)
{
    return strcmp(a, *(const char *const *)b);
}

bool world_function_allowed(const char *name)
{
    return name && bsearch(name, functions, sizeof(functions) / sizeof(*functions),
                           sizeof(*functions), text_order);
}

/* Tables that are no part of the world: a list of JSON values, and the schema for people. */
static bool extra_table(const struct agon_statement *st, const char *table)
{
    static const char *const schema[] = {
        "sqlite_master",           "sqlite_schema",     "pragma_table_info", "pragma_table_xinfo",
        "pragma_foreign_key_list", "pragma_index_list", "pragma_index_info"};
    if (!strcmp(table, "json_each"))
        return true;
    for (size_t i = 0; st->by == AGON_BY_PEOPLE && i < sizeof(schema) / sizeof(*schema); i++)
        if (!strcmp(table, schema[i]))
            return true;
    return false;
}

/* A common table expression of which no column is used is announced like a table, without a column.
 */
static bool may_be_expression(const char *table, const char *column)
{
    static const char *const virtual_tables[] = {"bytecode", "dbstat", "tables_used"};
    bool is = !*column && sqlite3_strnicmp(table, "sqlite_", 7) != 0 &&
              sqlite3_strnicmp(table, "pragma_", 7) != 0;
    for (size_t i = 0; i < sizeof(virtual_tables) / sizeof(*virtual_tables); i++)
        is = is && sqlite3_stricmp(table, virtual_tables[i]) != 0;
    return is;
}

/* A table of which no column is used is announced as the statement writes it, and not by its name.
 */
static int table_as_written(const struct agon_world *w, const char *table)
{
    for (int i = 0; i < w->n_tables; i++)
        if (sqlite3_stricmp(w->tables[i].name, table) == 0)
            return i;
    return -1;
}

static int guard_read(struct agon_statement *st, const char *table, const char *column)
{
    const struct agon_world *w = st->world;
    if (!table || !column)
        return SQLITE_DENY;
    int t = table_as_written(w, table);
    if (t < 0)
        return extra_table(st, table) || may_be_expression(table, column) ? SQLITE_OK : SQLITE_DENY;
    st->tables[t] = 1;
    int c = agon_world_find_column(&w->tables[t], agon_str(column));
    if (c >= 0)
        st->reads[w->tables[t].first + c] = 1;
    return SQLITE_OK;
}

static int guard(void *user, int action, const char *a, const char *b, const char *schema,
                 const char *trigger)
{
    (void)trigger;
    struct agon_world *w = user;
    struct agon_statement *st = w->current;
    if (w->trusted > 0)
        return SQLITE_OK;
    if (!st || (schema && strcmp(schema, "main") != 0))
        return SQLITE_DENY;
    switch (action) {
    case SQLITE_SELECT:
    case SQLITE_RECURSIVE: return SQLITE_OK;
    case SQLITE_READ: return guard_read(st, a, b);
    case SQLITE_FUNCTION: return world_function_allowed(b) ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_INSERT:
    case SQLITE_UPDATE:
    case SQLITE_DELETE:
        return st->writes && agon_world_find_table(w, agon_str(a)) >= 0 ? SQLITE_OK : SQLITE_DENY;
    case SQLITE_PRAGMA: /* the functions pragma_...() of the schema, which read only */
        return st->by == AGON_BY_PEOPLE && a && extra_table(st, "sqlite_schema") &&
                       (!strcmp(a, "table_info") || !strcmp(a, "table_xinfo") ||
                        !strcmp(a, "index_list") || !strcmp(a, "index_info") ||
                        !strcmp(a, "foreign_key_list"))
                   ? SQLITE_OK
                   : SQLITE_DENY;
    default: return SQLITE_DENY;
    }
}

static int64_t cpu_ns(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* cannot fail on Linux */
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int guard_progress(void *user)
{
    struct agon_world *w = user;
    if (w->trusted > 0) {
        agon_worker_beat();
        return 0;
    }
    if (w->statement_ops == 0)
        w->statement_cpu_ns = cpu_ns();
    w->statement_ops += PROGRESS_STEPS;
    /* Some operations read a long value that stays where it is: a path into JSON, a sum with a
     * text of digits. Whether one does is not known; how long the values are is. */
    w->bulk_bytes += (int64_t)(w->largest / BYTES_DEARER) * PROGRESS_STEPS * BYTES_OP;
    /* Operations that are cheap to count and dear to run (functions over long texts) are no hang,
     * but no work either: the heartbeat stops, and the cell is lost. */
    bool ours = w->current && w->current->by == AGON_BY_PEOPLE;
    if (cpu_ns() - w->statement_cpu_ns < (ours ? STATEMENT_CPU_NS_MAX : STATEMENT_CPU_NS_OTHERS))
        agon_worker_beat();
    return world_ops_left(w) < 0;
}

int64_t world_ops_left(const struct agon_world *w)
{
    int64_t used = w->statement_ops + w->bulk_bytes / BYTES_OP;
    if (w->current && w->current->by == AGON_BY_PEOPLE)
        return AGON_WORLD_OPS_PEOPLE - used;
    int64_t run = agon_world_run_ops_max(w) - w->run_ops;
    return (run < w->ops_max ? run : w->ops_max) - used;
}

void world_charge(struct agon_world *w, size_t bytes)
{
    if (w->trusted > 0 || !w->current)
        return;
    w->bulk_bytes += (int64_t)bytes;
    if (world_ops_left(w) < 0)
        sqlite3_interrupt(w->db); /* at its next jump */
}

/*
 * SQLite makes most long values in a block of memory, and then the block tells. Not
 * counted: preparing, and the hash of the cache of pages, which grows when something is
 * written, by powers of two, and then stays as it is.
 */
static void guard_large(void *user, size_t n)
{
    struct agon_world *w = user;
    const struct agon_statement *st = w->current;
    if (!st || !st->busy || (st->writes && (n & (n - 1)) == 0))
        return;
    w->largest = n > w->largest ? n : w->largest;
    world_charge(w, n);
}

void world_unguard(struct agon_world *w)
{
    if (w->guarded)
        agon_world_memory_watch(NULL, NULL);
}

/* A number that one of our own queries gives; 0 where it fails. */
static int64_t guard_count(const struct agon_world *w, const char *sql)
{
    int64_t n = 0;
    sqlite3_stmt *q = NULL;
    if (sqlite3_prepare_v2(w->db, sql, -1, &q, NULL) == SQLITE_OK && sqlite3_step(q) == SQLITE_ROW)
        n = sqlite3_column_int64(q, 0);
    sqlite3_finalize(q);
    return n;
}

static void guard_budget(struct agon_world *w)
{
    w->ops_max = AGON_WORLD_OPS;
    for (int i = 0; i < w->n_tables; i++) {
        char sql[128];
        snprintf(sql, sizeof(sql), "SELECT count(*) FROM \"%s\"", w->tables[i].name);
        w->ops_max += AGON_WORLD_OPS_ROW * guard_count(w, sql);
    }
    if (w->ops_max > AGON_WORLD_OPS_MAX)
        w->ops_max = AGON_WORLD_OPS_MAX;
}

static void guard_limits(sqlite3 *db)
{
    static const struct {
        int id, most;
    } limits[] = {
        {SQLITE_LIMIT_LENGTH, 1 << 20},
        {SQLITE_LIMIT_SQL_LENGTH, 64 << 10},
        {SQLITE_LIMIT_COLUMN, 256},
        {SQLITE_LIMIT_EXPR_DEPTH, 100},
        {SQLITE_LIMIT_COMPOUND_SELECT, 30},
        {SQLITE_LIMIT_VDBE_OP, 25000},
        {SQLITE_LIMIT_FUNCTION_ARG, 32},
        {SQLITE_LIMIT_ATTACHED, 0},
        {SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 100},
        {SQLITE_LIMIT_VARIABLE_NUMBER, 250},
        {SQLITE_LIMIT_TRIGGER_DEPTH, 8},
        {SQLITE_LIMIT_WORKER_THREADS, 0},
    };
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++)
        sqlite3_limit(db, limits[i].id, limits[i].most);
}

int world_guard(struct agon_world *w, struct agon_err *err)
{
    static const struct {
        int id, on;
    } config[] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1},       {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
        {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},  {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
        {SQLITE_DBCONFIG_DQS_DML, 0},         {SQLITE_DBCONFIG_DQS_DDL, 0},
        {SQLITE_DBCONFIG_WRITABLE_SCHEMA, 0}, {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
        {SQLITE_DBCONFIG_ENABLE_FKEY, 1},
    };
    for (size_t i = 0; i < sizeof(config) / sizeof(*config); i++)
        if (sqlite3_db_config(w->db, config[i].id, config[i].on, NULL) != SQLITE_OK)
            return world_fail(w, "world", err);
    /* The world may double and grow by 4 MiB of pages. */
    int64_t pages = guard_count(w, "PRAGMA page_count");
    guard_budget(w);
    /* Table-valued functions are made on first use, by an UPDATE that the guard would refuse. */
    char sql[512];
    snprintf(sql, sizeof(sql),
             "PRAGMA max_page_count=%lld; PRAGMA temp_store=MEMORY; PRAGMA cell_size_check=ON;"
             "SELECT 1 FROM pragma_table_info('t'); SELECT 1 FROM pragma_table_xinfo('t');"
             "SELECT 1 FROM pragma_index_list('t'); SELECT 1 FROM pragma_index_info('t');"
             "SELECT 1 FROM pragma_foreign_key_list('t'); SELECT 1 FROM json_each('[]')",
             (long long)(2 * pages + 1024));
    int r = world_exec(w, sql, err);
    if (r)
        return r;
    if ((r = world_functions(w, err)))
        return r;
    agon_world_memory_watch(guard_large, w);
    w->guarded = true;
    guard_limits(w->db);
    if ((r = changes_hook(w, err)))
        return r;
    sqlite3_progress_handler(w->db, PROGRESS_STEPS, guard_progress, w);
    if (sqlite3_set_authorizer(w->db, guard, w) != SQLITE_OK)
        return world_fail(w, "world", err);
    return 0;
}
