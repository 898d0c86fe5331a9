/* near() and same(): pure functions that verifiers, solutions and tools get (codec.h). */
#include "envs/codec_internal.h"
#include "sandbox/script.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>

static int logic_near(lua_State *L)
{
    lua_Number tolerance = luaL_checknumber(L, 3);
    if (lua_type(L, 1) != LUA_TNUMBER || lua_type(L, 2) != LUA_TNUMBER)
        lua_pushboolean(L, 0);
    else
        lua_pushboolean(L, fabs(lua_tonumber(L, 1) - lua_tonumber(L, 2)) <= tolerance);
    return 1;
}

static bool same_values(lua_State *L, int a, int b, int depth);

/* Every key of a is in b with the same value, and b has no more keys. */
static bool same_tables(lua_State *L, int a, int b, int depth)
{
    if (depth >= AGON_CODEC_DEPTH_MAX)
        luaL_error(L, "same: nested over %d deep", AGON_CODEC_DEPTH_MAX);
    luaL_checkstack(L, 8, "value nested too deep");
    int64_t n = 0;
    for (lua_pushnil(L); lua_next(L, a);) {
        lua_pushvalue(L, -2);
        lua_rawget(L, b);
        bool same = same_values(L, lua_gettop(L) - 1, lua_gettop(L), depth + 1);
        lua_pop(L, 2);
        if (!same) {
            lua_pop(L, 1);
            return false;
        }
        n++;
    }
    for (lua_pushnil(L); lua_next(L, b); lua_pop(L, 1))
        n--;
    return n == 0;
}

static bool same_values(lua_State *L, int a, int b, int depth)
{
    agon_script_charge(L, 2);
    if (lua_type(L, a) != lua_type(L, b))
        return false;
    if (!lua_istable(L, a) || lua_rawequal(L, a, b))
        return lua_rawequal(L, a, b);
    return same_tables(L, a, b, depth);
}

static int logic_same(lua_State *L)
{
    lua_settop(L, 2);
    lua_pushboolean(L, same_values(L, 1, 2, 0));
    return 1;
}

void agon_codec_open_logic(lua_State *L)
{
    lua_pushcfunction(L, logic_near);
    lua_setglobal(L, "near");
    lua_pushcfunction(L, logic_same);
    lua_setglobal(L, "same");
}
