/*
 * What a world's schema may call (world.h). The authorizer of a world sees the functions of
 * a statement, but not those of the schema that a statement runs into: a column's default,
 * a CHECK, an index over an expression are resolved when the schema is read. So each of
 * them is made once more in an empty database, under an authorizer with the same list.
 * `DEFAULT (random())` gave other bytes each time, and a CHECK over printf() may take
 * seconds for each row.
 */
#include "envs/world_internal.h"

#include <strings.h>

static int only_functions(void *user, int action, const char *a, const char *b, const char *schema,
                          const char *trigger)
{
    (void)user, (void)a, (void)schema, (void)trigger;
    return action != SQLITE_FUNCTION || world_function_allowed(b) ? SQLITE_OK : SQLITE_DENY;
}

static int refuse(sqlite3 *scratch, const char *name, struct agon_err *err)
{
    agon_fail(err, AGON_WORLD_REFUSED, "world: '%.60s': %.200s", name, sqlite3_errmsg(scratch));
    return AGON_WORLD_REFUSED;
}

bool world_sql_has_word(const char *sql, const char *word)
{
    size_t size = strlen(word);
    for (; *sql; sql++)
        if (strncasecmp(sql, word, size) == 0)
            return true;
    return false;
}

/* Make all of the schema again, tables before what refers to them. */
static int schema_again(struct agon_world *w, sqlite3 *scratch, struct agon_err *err)
{
    sqlite3_stmt *q = NULL;
    int r = 0;
    if (sqlite3_prepare_v2(w->db,
                           "SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT "
                           "LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY type DESC",
                           -1, &q, NULL) != SQLITE_OK)
        return world_fail(w, "world", err);
    while (!r && sqlite3_step(q) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        if (sqlite3_exec(scratch, (const char *)sqlite3_column_text(q, 1), NULL, NULL, NULL) !=
            SQLITE_OK)
            r = refuse(scratch, name ? name : "?", err);
    }
    sqlite3_finalize(q);
    return r;
}

static int defaults_again(struct agon_world *w, sqlite3 *scratch, struct agon_err *err)
{
    sqlite3_stmt *q = NULL, *one;
    int r = 0;
    if (sqlite3_prepare_v2(w->db,
                           "SELECT m.name || '.' || c.name, 'SELECT ' || c.dflt_value FROM "
                           "sqlite_schema m, pragma_table_xinfo(m.name) c WHERE m.type = 'table' "
                           "AND c.dflt_value IS NOT NULL",
                           -1, &q, NULL) != SQLITE_OK)
        return world_fail(w, "world", err);
    while (!r && sqlite3_step(q) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(q, 0);
        int rc =
            sqlite3_prepare_v2(scratch, (const char *)sqlite3_column_text(q, 1), -1, &one, NULL);
        sqlite3_finalize(one);
        /* A bare word is a text there, and no column here. */
        if (rc != SQLITE_OK && strstr(sqlite3_errmsg(scratch), "not authorized"))
            r = refuse(scratch, name ? name : "?", err);
    }
    sqlite3_finalize(q);
    return r;
}

/* An index over columns by their names: words, commas and spaces between its only brackets, and
 * nothing behind them. */
static bool index_is_plain(const char *sql)
{
    const char *at = strchr(sql, '(');
    if (!at)
        return false;
    at +=
        1 + strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_, \t\n");
    return *at == ')' && at[1 + strspn(at + 1, " \t\n")] == '\0';
}

/* Most worlds have none of these words, and no index but of plain columns. */
static bool calls_nothing(struct agon_world *w)
{
    sqlite3_stmt *q = NULL;
    bool nothing =
        sqlite3_prepare_v2(w->db, "SELECT type, sql FROM sqlite_schema WHERE sql IS NOT NULL", -1,
                           &q, NULL) == SQLITE_OK;
    while (nothing && sqlite3_step(q) == SQLITE_ROW) {
        const char *type = (const char *)sqlite3_column_text(q, 0);
        const char *sql = (const char *)sqlite3_column_text(q, 1);
        nothing = type && sql && (strcmp(type, "index") != 0 || index_is_plain(sql)) &&
                  !world_sql_has_word(sql, "default") && !world_sql_has_word(sql, "check");
    }
    sqlite3_finalize(q);
    return nothing;
}

int world_check_functions(struct agon_world *w, struct agon_err *err)
{
    sqlite3 *scratch = NULL;
    if (calls_nothing(w))
        return 0;
    int r = world_open_memory(&scratch, err);
    if (!r && sqlite3_set_authorizer(scratch, only_functions, NULL) != SQLITE_OK)
        r = world_fail(w, "world", err);
    if (!r)
        r = schema_again(w, scratch, err);
    if (!r)
        r = defaults_again(w, scratch, err);
    sqlite3_close(scratch);
    return r;
}
