/* world:rows and its kin: see world_lua.h. */
#include "envs/world_lua.h"

#include "base/text.h"
#include "envs/memo.h"
#include "sandbox/script.h"
#include "sandbox/script_record.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

enum { FUEL_STATEMENT = 20, FUEL_OPS = 8 }; /* a statement; so many operations for one unit */

static struct agon_host *host_of(lua_State *L)
{
    return agon_script_user(L);
}

/* Look at a parameter, raise where it is none, and tell the memo of it. */
static void param_check(lua_State *L, struct agon_world *w, int param)
{
    int index = param + 2;
    struct agon_str text;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: agon_memo_bind_int(w, lua_toboolean(L, index)); break;
    case LUA_TNUMBER:
        if (lua_isinteger(L, index))
            agon_memo_bind_int(w, lua_tointeger(L, index));
        else if (isfinite(lua_tonumber(L, index)))
            agon_memo_bind_real(w, lua_tonumber(L, index));
        else
            luaL_error(L, "parameter %d: the number is infinite or not a number", param);
        break;
    case LUA_TSTRING:
        text.data = lua_tolstring(L, index, &text.size);
        if (memchr(text.data, '\0', text.size))
            luaL_error(L, "parameter %d: the text holds a NUL character", param);
        if (!agon_utf8_valid(text))
            luaL_error(L, "parameter %d: the text is not valid UTF-8", param);
        agon_script_charge(L, (int64_t)(text.size / 32));
        agon_memo_bind_text(w, text);
        break;
    default:
        if (!lua_isnil(L, index) && !agon_codec_is_null(L, index))
            luaL_error(L, "parameter %d is a %s; use text, numbers, booleans or null", param,
                       luaL_typename(L, index));
        agon_memo_bind_null(w);
    }
}

static void param_bind(lua_State *L, struct agon_statement *st, int param)
{
    sqlite3_stmt *q = agon_statement_sqlite(st);
    int index = param + 2, rc;
    struct agon_str text;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN: rc = sqlite3_bind_int(q, param, lua_toboolean(L, index)); break;
    case LUA_TNUMBER:
        rc = lua_isinteger(L, index) ? sqlite3_bind_int64(q, param, lua_tointeger(L, index))
                                     : sqlite3_bind_double(q, param, lua_tonumber(L, index));
        break;
    case LUA_TSTRING:
        text.data = lua_tolstring(L, index, &text.size);
        rc = agon_statement_bind_text(st, param, text);
        if (rc == SQLITE_NOMEM)
            agon_script_abort(L, "SQL ran out of memory");
        if (rc != SQLITE_OK)
            luaL_error(L, "parameter %d: the text is too long", param);
        break;
    default: rc = sqlite3_bind_null(q, param);
    }
    if (rc != SQLITE_OK)
        luaL_error(L, "parameter %d cannot be bound", param);
}

/* How many rows are wanted of a statement: what it wrote, the first one, all of them. */
enum wanted { WANTED_WRITES, WANTED_FIRST, WANTED_ALL };

/* (world, sql, ...) on the stack: the statement, its parameters bound, or what it is known to give
 * in *ret_known (then it is not bound). */
static struct agon_statement *statement_start(lua_State *L, enum wanted wanted, const char *name,
                                              const struct agon_memo_rows **ret_known)
{
    struct agon_host *h = host_of(L);
    if (!lua_istable(L, 1) || lua_type(L, 2) != LUA_TSTRING)
        luaL_error(L, "call it as world:%s(sql, ...)", name);
    struct agon_str sql;
    sql.data = lua_tolstring(L, 2, &sql.size);
    agon_script_charge(L, FUEL_STATEMENT);
    struct agon_err err;
    struct agon_statement *st = NULL;
    int r = agon_statement_get(&st, h->world, h->by, wanted == WANTED_WRITES, sql, &err);
    if (r < 0)
        agon_script_abort(L, err.text);
    if (r)
        luaL_error(L, "%s", err.text);
    int n = agon_statement_n_params(st), given = lua_gettop(L) - 2;
    if (n != given)
        luaL_error(L, "SQL: the statement has %d parameters, %d given", n, given);
    agon_memo_bind(h->world, st);
    for (int i = 1; i <= n; i++)
        param_check(L, h->world, i);
    *ret_known =
        wanted == WANTED_WRITES ? NULL : agon_memo_find(h->world, st, wanted == WANTED_ALL);
    for (int i = 1; i <= n && !*ret_known; i++)
        param_bind(L, st, i);
    return st;
}

/* known: the result that took the place of the run, or NULL. */
static void statement_finish(lua_State *L, struct agon_statement *st,
                             const struct agon_memo_rows *known)
{
    struct agon_world *w = host_of(L)->world;
    int64_t ops = known ? agon_memo_replay(w, st, known) : agon_statement_end(st);
    if (!known)
        agon_memo_done(w, st, ops);
    agon_script_charge(L, ops / FUEL_OPS);
}

/* Whether there is a row; raises on an error. */
static bool statement_next(lua_State *L, struct agon_statement *st)
{
    struct agon_err err;
    enum agon_step step = agon_statement_step(st, &err);
    if (step == AGON_STEP_LIMIT)
        agon_script_abort(L, err.text);
    if (step == AGON_STEP_ERROR)
        luaL_error(L, "%s", err.text);
    return step == AGON_STEP_ROW;
}

void agon_world_push_value(lua_State *L, sqlite3_value *value, const struct agon_column *c)
{
    switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER:
        if (c && c->real)
            lua_pushnumber(L, sqlite3_value_double(value));
        else
            lua_pushinteger(L, sqlite3_value_int64(value));
        break;
    case SQLITE_FLOAT: lua_pushnumber(L, sqlite3_value_double(value)); break;
    case SQLITE_TEXT:
        lua_pushlstring(L, (const char *)sqlite3_value_text(value),
                        (size_t)sqlite3_value_bytes(value));
        break;
    case SQLITE_NULL: agon_codec_push_null(L); break;
    default: luaL_error(L, "SQL: a column holds a BLOB; read it with hex()");
    }
}

static void push_column(lua_State *L, sqlite3_stmt *q, int i)
{
    sqlite3_value *value = sqlite3_column_value(q, i); /* which no other thread can change */
    switch (sqlite3_value_type(value)) {
    case SQLITE_INTEGER: lua_pushinteger(L, sqlite3_value_int64(value)); break;
    case SQLITE_FLOAT: lua_pushnumber(L, sqlite3_value_double(value)); break;
    case SQLITE_TEXT: {
        const char *text = (const char *)sqlite3_column_text(q, i);
        size_t size = (size_t)sqlite3_value_bytes(value);
        lua_pushlstring(L, text, size);
        agon_script_charge(L, (int64_t)(size / 32));
        break;
    }
    case SQLITE_NULL: agon_codec_push_null(L); break;
    default:
        luaL_error(L, "SQL: column '%s' holds a BLOB; read it with hex()",
                   sqlite3_column_name(q, i));
    }
}

static void push_known(lua_State *L, const struct agon_memo_cell *cell)
{
    switch (cell->type) {
    case SQLITE_INTEGER: lua_pushinteger(L, cell->integer); break;
    case SQLITE_FLOAT: lua_pushnumber(L, cell->real); break;
    case SQLITE_TEXT:
        lua_pushlstring(L, cell->text.data, cell->text.size);
        agon_script_charge(L, (int64_t)(cell->text.size / 32));
        break;
    default: agon_codec_push_null(L);
    }
}

/* A value of the row that the statement stands on, or of a known one. */
static void push_cell(lua_State *L, struct agon_statement *st, const struct agon_memo_cell *known,
                      int i)
{
    if (known)
        push_known(L, &known[i]);
    else
        push_column(L, agon_statement_sqlite(st), i);
}

/* Push the row that the statement stands on, or a known one, with the shape at index. */
static void push_row(lua_State *L, struct agon_statement *st, const struct agon_memo_cell *known,
                     int shape)
{
    const struct agon_shape *columns = agon_statement_shape(st);
    agon_script_charge(L, 1 + columns->n);
    if (columns->n <= AGON_SCRIPT_RECORD_MAX) {
        for (int i = 0; i < columns->n; i++)
            push_cell(L, st, known, i);
        agon_script_record(L, agon_statement_names(st), columns->n);
    } else {
        lua_createtable(L, 0, columns->n);
        for (int i = 0; i < columns->n; i++) {
            push_cell(L, st, known, i);
            lua_setfield(L, -2, columns->names[i]);
        }
    }
    lua_pushvalue(L, shape);
    lua_setmetatable(L, -2);
}

static void push_shape(lua_State *L, struct agon_statement *st)
{
    agon_codec_push_shape(L, agon_statement_shape(st));
}

static int world_rows(lua_State *L)
{
    const struct agon_memo_rows *known;
    struct agon_statement *st = statement_start(L, WANTED_ALL, "rows", &known);
    struct agon_world *w = host_of(L)->world;
    lua_settop(L, 0);
    lua_newtable(L);
    push_shape(L, st);
    lua_Integer n = 0;
    while (known ? n < known->n_rows : statement_next(L, st)) {
        if (n == AGON_WORLD_ROWS_MAX)
            luaL_error(L, "SQL: over %d rows; narrow it with WHERE or LIMIT", AGON_WORLD_ROWS_MAX);
        if (!known)
            agon_memo_row(w, st);
        push_row(L, st, known ? known->cells + n * known->n_columns : NULL, 2);
        lua_rawseti(L, 1, ++n);
    }
    statement_finish(L, st, known);
    lua_settop(L, 1);
    if (n == 0)
        agon_codec_mark_list(L);
    return 1;
}

/* The first row of (world, sql, ...), which leave the stack. *ret_row: a known one, or NULL for the
 * one that the statement stands on. Returns whether there is one. */
static bool first_row(lua_State *L, const char *name, struct agon_statement **ret_st,
                      const struct agon_memo_rows **ret_known,
                      const struct agon_memo_cell **ret_row)
{
    const struct agon_memo_rows *known;
    struct agon_statement *st = statement_start(L, WANTED_FIRST, name, &known);
    lua_settop(L, 0);
    *ret_st = st;
    *ret_known = known;
    *ret_row = known ? known->cells : NULL;
    if (known)
        return known->n_rows > 0;
    if (!statement_next(L, st))
        return false;
    agon_memo_row(host_of(L)->world, st);
    return true;
}

static int world_row(lua_State *L)
{
    struct agon_statement *st;
    const struct agon_memo_rows *known;
    const struct agon_memo_cell *row;
    if (first_row(L, "row", &st, &known, &row)) {
        push_shape(L, st);
        push_row(L, st, row, 1);
    } else {
        lua_pushnil(L);
    }
    statement_finish(L, st, known);
    return 1;
}

/* NULL is nil here: `world:value(...) or 0` says what it means. */
static int world_value(lua_State *L)
{
    struct agon_statement *st;
    const struct agon_memo_rows *known;
    const struct agon_memo_cell *row;
    bool any = first_row(L, "value", &st, &known, &row);
    sqlite3_stmt *q = agon_statement_sqlite(st);
    int type = !any ? SQLITE_NULL : row ? row[0].type : sqlite3_column_type(q, 0);
    if (type != SQLITE_NULL)
        push_cell(L, st, row, 0);
    else
        lua_pushnil(L);
    statement_finish(L, st, known);
    return 1;
}

static int world_exec_lua(lua_State *L)
{
    struct agon_host *h = host_of(L);
    if (!h->may_write)
        return luaL_error(L, h->by == AGON_BY_VERIFIER
                                 ? "a verifier only reads"
                                 : "world:exec needs a tool with writes=true");
    const struct agon_memo_rows *none;
    struct agon_statement *st = statement_start(L, WANTED_WRITES, "exec", &none);
    while (statement_next(L, st))
        continue; /* rows of RETURNING; read what was written with a SELECT */
    int64_t changes = sqlite3_changes64(sqlite3_db_handle(agon_statement_sqlite(st)));
    statement_finish(L, st, NULL);
    lua_pushinteger(L, changes);
    return 1;
}

void agon_world_push(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"rows", world_rows},     {"row", world_row}, {"value", world_value},
        {"exec", world_exec_lua}, {NULL, NULL},
    };
    luaL_newlib(L, methods);
}
