/* table: raw (no metamethods), each call charged for the elements that it touches. */
#include "sandbox/script_lib.h"

#include <string.h>

enum { RESULTS_MAX = 8000, LIST_MAX = 1 << 30 };

/* A table with a key at each power of two is as long as there are integers: no sum with such a
 * length is an integer. */
static lua_Integer list_size(lua_State *L, int arg)
{
    luaL_checktype(L, arg, LUA_TTABLE);
    lua_Unsigned n = lua_rawlen(L, arg);
    luaL_argcheck(L, n < LIST_MAX, arg, "the list is too long");
    return (lua_Integer)n;
}

static int table_insert(lua_State *L)
{
    lua_Integer n = list_size(L, 1), at = n + 1;
    script_charge(L, 2);
    int n_args = lua_gettop(L);
    if (n_args != 2 && n_args != 3)
        return luaL_error(L, "wrong number of arguments to 'insert'");
    if (n_args == 3) {
        at = luaL_checkinteger(L, 2);
        luaL_argcheck(L, at >= 1 && at <= n + 1, 2, "position out of bounds");
        script_charge(L, n - at + 1);
        for (lua_Integer i = n; i >= at; i--) {
            lua_rawgeti(L, 1, i);
            lua_rawseti(L, 1, i + 1);
        }
    }
    lua_rawseti(L, 1, at);
    return 0;
}

static int table_remove(lua_State *L)
{
    lua_Integer n = list_size(L, 1), at = luaL_optinteger(L, 2, n);
    script_charge(L, 2);
    if (!lua_isnoneornil(L, 2))
        luaL_argcheck(L, (n == 0 && at == 0) || (at >= 1 && at <= n + 1), 2,
                      "position out of bounds");
    lua_rawgeti(L, 1, at); /* the result */
    if (at < n)
        script_charge(L, n - at);
    for (lua_Integer i = at; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        lua_rawseti(L, 1, i);
    }
    if (at <= n && n > 0) {
        lua_pushnil(L);
        lua_rawseti(L, 1, n);
    }
    return 1;
}

static int table_concat(lua_State *L)
{
    lua_Integer n = list_size(L, 1);
    size_t n_sep;
    const char *sep = luaL_optlstring(L, 2, "", &n_sep);
    lua_Integer i = luaL_optinteger(L, 3, 1), j = luaL_optinteger(L, 4, n);
    lua_settop(L, 4);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    for (; i <= j; i++) {
        lua_rawgeti(L, 1, i);
        size_t size;
        const char *s = lua_isstring(L, -1) ? lua_tolstring(L, -1, &size) : NULL;
        if (!s)
            return luaL_error(L, "invalid value (a %s at index %I) in table for 'concat'",
                              luaL_typename(L, -1), (LUAI_UACINT)i);
        script_charge(L, 2 + (int64_t)((size + n_sep) / 32));
        agon_script_buf_add(&b, s, size);
        lua_pop(L, 1);
        if (i == j) /* also keeps i from running over the largest integer */
            break;
        agon_script_buf_add(&b, sep, n_sep);
    }
    agon_script_buf_push(&b);
    return 1;
}

static int table_unpack(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer i = luaL_optinteger(L, 2, 1);
    lua_Integer j = lua_isnoneornil(L, 3) ? (lua_Integer)lua_rawlen(L, 1) : luaL_checkinteger(L, 3);
    if (i > j)
        return 0;
    lua_Unsigned n = (lua_Unsigned)j - (lua_Unsigned)i;
    if (n >= RESULTS_MAX)
        return luaL_error(L, "too many results to unpack: at most %d", RESULTS_MAX);
    script_charge(L, (int64_t)n + 1);
    luaL_checkstack(L, (int)n + 1, "too many results to unpack");
    for (lua_Unsigned k = 0; k <= n; k++)
        lua_rawgeti(L, 1, i + (lua_Integer)k);
    return (int)n + 1;
}

static int table_pack(lua_State *L)
{
    int n = lua_gettop(L);
    script_charge(L, 2 + n);
    lua_createtable(L, n, 1);
    lua_insert(L, 1);
    for (int i = n; i >= 1; i--)
        lua_rawseti(L, 1, i);
    lua_pushinteger(L, n);
    lua_setfield(L, 1, "n");
    return 1;
}

static int table_move(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer first = luaL_checkinteger(L, 2), last = luaL_checkinteger(L, 3);
    lua_Integer to = luaL_checkinteger(L, 4);
    int into = lua_isnoneornil(L, 5) ? 1 : 5;
    luaL_checktype(L, into, LUA_TTABLE);
    if (last >= first) {
        luaL_argcheck(L, first > 0 || last < LUA_MAXINTEGER + first, 3,
                      "too many elements to move");
        lua_Integer n = last - first + 1;
        luaL_argcheck(L, to <= LUA_MAXINTEGER - n + 1, 4, "destination wrap around");
        script_charge(L, n);
        bool up = to > last || to <= first || into != 1; /* else it would overwrite its source */
        for (lua_Integer k = 0; k < n; k++) {
            lua_Integer i = up ? k : n - 1 - k;
            lua_rawgeti(L, 1, first + i);
            lua_rawseti(L, into, to + i);
        }
    }
    lua_pushvalue(L, into);
    return 1;
}

int agon_script_open_table(lua_State *L)
{
    static const luaL_Reg own[] = {{"insert", table_insert},
                                   {"remove", table_remove},
                                   {"concat", table_concat},
                                   {"unpack", table_unpack},
                                   {"pack", table_pack},
                                   {"move", table_move},
                                   {NULL, NULL}};
    lua_newtable(L);
    luaL_setfuncs(L, own, 0);
    agon_script_add_sort(L);
    return 1;
}
