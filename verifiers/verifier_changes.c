/*
 * `changes` for a verifier: inserted, updated, deleted and all return net changes
 * and claim them; a change that no check claims fails the verdict. count() only
 * counts.
 */
#include "sandbox/script.h"
#include "sandbox/script_record.h"
#include "sandbox/script_view.h"
#include "verifiers/verifier_internal.h"

#include <lauxlib.h>
#include <lua.h>
#include <sqlite3.h>

/* ---- their digest ---- */

/* FNV-1a, 64 bits (Fowler, Noll, Vo). */
static uint64_t hash_bytes(uint64_t h, const void *data, size_t size)
{
    const unsigned char *bytes = data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
    return h;
}

static uint64_t hash_value(uint64_t h, sqlite3_value *value)
{
    int type = sqlite3_value_type(value);
    double real = type == SQLITE_FLOAT ? sqlite3_value_double(value) : 0;
    int64_t number = type == SQLITE_INTEGER ? sqlite3_value_int64(value) : 0;
    h = hash_bytes(h, &type, sizeof(type));
    if (type == SQLITE_INTEGER)
        return hash_bytes(h, &number, sizeof(number));
    if (type == SQLITE_FLOAT)
        return hash_bytes(h, &real, sizeof(real));
    const void *data = type == SQLITE_NULL ? NULL : sqlite3_value_blob(value);
    int size = data ? sqlite3_value_bytes(value) : 0;
    return hash_bytes(hash_bytes(h, &size, sizeof(size)), data, (size_t)size);
}

static uint64_t hash_row(uint64_t h, const struct agon_table *t, sqlite3_value **row)
{
    h = hash_bytes(h, row ? "+" : "-", 1);
    for (int i = 0; row && i < t->n_columns; i++)
        h = hash_value(h, row[i]);
    return h;
}

uint64_t verifier_changes_digest(const struct agon_verifier *v)
{
    uint64_t sum = 0; /* of the rows' digests: their order does not matter */
    for (int i = 0; i < v->changes.n; i++) {
        const struct agon_change *c = &v->changes.items[i];
        const struct agon_table *t = agon_world_table(v->host.world, c->table);
        uint64_t h = hash_bytes(UINT64_C(0xcbf29ce484222325), &c->table, sizeof(c->table));
        sum += hash_row(hash_row(h, t, c->before), t, c->after);
    }
    return sum;
}

/* ---- in Lua ---- */

static struct agon_verifier *verifier_of(lua_State *L)
{
    return ((struct agon_host *)agon_script_user(L))->owner;
}

/* Whether a column has the value at the index. */
static bool value_matches(lua_State *L, int index, sqlite3_value *value)
{
    int type = sqlite3_value_type(value);
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
        if (type == SQLITE_INTEGER && lua_isinteger(L, index))
            return lua_tointeger(L, index) == sqlite3_value_int64(value);
        return (type == SQLITE_INTEGER || type == SQLITE_FLOAT) &&
               lua_tonumber(L, index) == sqlite3_value_double(value);
    case LUA_TBOOLEAN:
        return type == SQLITE_INTEGER && sqlite3_value_int64(value) == lua_toboolean(L, index);
    case LUA_TSTRING: {
        size_t size;
        const char *text = lua_tolstring(L, index, &size);
        return type == SQLITE_TEXT && (size_t)sqlite3_value_bytes(value) == size &&
               !memcmp(sqlite3_value_text(value), text, size);
    }
    default:
        if (!agon_codec_is_null(L, index))
            luaL_error(L, "changes: compare with text, numbers, booleans or null");
        return type == SQLITE_NULL;
    }
}

/* The column that the key at index names; a misspelt one must not pass as "no such change". */
static int column_named(lua_State *L, const struct agon_table *t, int index)
{
    size_t size = 0;
    const char *name = lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, &size) : "";
    int c = agon_world_find_column(t, (struct agon_str){name, size});
    if (c < 0)
        luaL_error(L, "changes: table '%s' has no column '%s'", t->name, name);
    return c;
}

/* A table of values that are all nil holds none, and would claim every row: what a check looked up
 * in the world and did not find there any more, once the writes were made. */
static void check_columns(lua_State *L, const struct agon_table *t)
{
    if (!lua_istable(L, 3))
        return;
    int n = 0;
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1), n++)
        (void)column_named(L, t, -2);
    if (n == 0)
        luaL_error(L,
                   "changes: the values to compare with '%s' are nil; leave the table out to claim "
                   "every row",
                   t->name);
}

/* Whether the row has all values of the table at 3 (none: any row matches). */
static bool row_matches(lua_State *L, const struct agon_table *t, sqlite3_value **row)
{
    bool same = true;
    if (!lua_istable(L, 3))
        return true;
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1))
        same = value_matches(L, -1, row[column_named(L, t, -2)]) && same;
    return same;
}

static void push_row(lua_State *L, const struct agon_table *t, sqlite3_value **row)
{
    agon_script_charge(L, 2 + 2 * t->n_columns);
    if (t->n_columns <= AGON_SCRIPT_RECORD_MAX) {
        agon_script_room(L, t->n_columns, "a row of too many columns");
        for (int i = 0; i < t->n_columns; i++)
            agon_world_push_value(L, row[i], &t->columns[i]);
        agon_script_record(L, t->in_lua, t->n_columns);
    } else {
        lua_createtable(L, 0, t->n_columns);
        for (int i = 0; i < t->n_columns; i++) {
            agon_world_push_value(L, row[i], &t->columns[i]);
            lua_setfield(L, -2, t->columns[i].name);
        }
    }
    agon_codec_push_shape(L, &t->shape);
    lua_setmetatable(L, -2);
}

/* {old=, new=} as far as they exist; op and table before them where named. */
static void push_change(lua_State *L, const struct agon_table *t, const struct agon_change *c,
                        bool named)
{
    static const char *const keys[] = {"op", "table", "old", "new"};
    static const struct agon_shape shape = {keys, 4};
    static const char *const ops[] = {"insert", "update", "delete"};
    lua_createtable(L, 0, 4);
    if (named) {
        lua_pushstring(L, ops[c->kind]);
        lua_setfield(L, -2, "op");
        lua_pushstring(L, t->name);
        lua_setfield(L, -2, "table");
    }
    if (c->before) {
        push_row(L, t, c->before);
        lua_setfield(L, -2, "old");
    }
    if (c->after) {
        push_row(L, t, c->after);
        lua_setfield(L, -2, "new");
    }
    agon_codec_push_shape(L, &shape);
    lua_setmetatable(L, -2);
}

static int changes_find(lua_State *L, enum agon_change_kind kind, const char *method)
{
    struct agon_verifier *v = verifier_of(L);
    if (!lua_istable(L, 1) || lua_type(L, 2) != LUA_TSTRING || lua_gettop(L) > 3 ||
        (!lua_isnoneornil(L, 3) && !lua_istable(L, 3)))
        return luaL_error(L, "call it as changes:%s('table', { column = value, ... })", method);
    int table = agon_world_find_table(v->host.world, agon_str(lua_tostring(L, 2)));
    if (table < 0)
        return luaL_error(L, "changes: there is no table '%s'", lua_tostring(L, 2));
    const struct agon_table *t = agon_world_table(v->host.world, table);
    lua_settop(L, 3);
    check_columns(L, t);
    lua_newtable(L);
    lua_Integer n = 0;
    for (int i = 0; i < v->changes.n; i++) {
        struct agon_change *c = &v->changes.items[i];
        sqlite3_value **row = c->after ? c->after : c->before;
        agon_script_charge(L, 2);
        if (c->kind != kind || c->table != table || !row_matches(L, t, row))
            continue;
        c->claimed = true;
        if (kind == AGON_UPDATED)
            push_change(L, t, c, false);
        else
            push_row(L, t, row);
        lua_rawseti(L, 4, ++n);
    }
    return 1;
}

static int changes_inserted(lua_State *L)
{
    return changes_find(L, AGON_INSERTED, "inserted");
}

static int changes_updated(lua_State *L)
{
    return changes_find(L, AGON_UPDATED, "updated");
}

static int changes_deleted(lua_State *L)
{
    return changes_find(L, AGON_DELETED, "deleted");
}

static int changes_all(lua_State *L)
{
    struct agon_verifier *v = verifier_of(L);
    lua_settop(L, 0);
    lua_newtable(L);
    for (int i = 0; i < v->changes.n; i++) {
        struct agon_change *c = &v->changes.items[i];
        c->claimed = true;
        push_change(L, agon_world_table(v->host.world, c->table), c, true);
        lua_rawseti(L, 1, i + 1);
    }
    return 1;
}

static int changes_count(lua_State *L)
{
    lua_pushinteger(L, verifier_of(L)->changes.n);
    return 1;
}

void verifier_push_changes(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"inserted", changes_inserted}, {"updated", changes_updated}, {"deleted", changes_deleted},
        {"all", changes_all},           {"count", changes_count},     {NULL, NULL},
    };
    luaL_newlib(L, methods);
}
