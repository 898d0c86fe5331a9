/*
 * The base library of the restricted Lua: what is safe of stock Lua, by name, and
 * own versions of what is not. The order of pairs is in script_lib_pairs.c.
 *
 * Metatables: Lua reads __mode when it collects and __close when a variable is
 * declared, so a check in setmetatable alone is passed by adding the field later
 * (weak tables reach a double free in 5.4.4). Therefore a table never gets the
 * script's metatable but a private copy with the permitted events, refreshed each
 * time setmetatable is called; getmetatable gives the script's own back. Chains of
 * tables in __index run inside the VM for up to 2,000 steps at the price of one;
 * here each link is a C function that charges.
 */
#include "sandbox/script_lib.h"

#include <lualib.h>
#include <string.h>

static const char *const events[] = {
    "__index", "__newindex", "__call",  "__eq",       "__lt",   "__le",   "__concat",
    "__len",   "__unm",      "__add",   "__sub",      "__mul",  "__div",  "__mod",
    "__pow",   "__idiv",     "__band",  "__bor",      "__bxor", "__bnot", "__shl",
    "__shr",   "__tostring", "__pairs", "__metatable"};
static const char *const refused_events[] = {"__gc", "__mode", "__close", "__name"};
enum { N_EVENTS = sizeof(events) / sizeof(*events), N_REFUSED = 4 };

/* Keys that no script can have: addresses of our own. In a metatable: its copy. In the
 * copy: the metatable, and the tables behind the closures of __index and __newindex. */
static const char key_copy, key_origin, key_index, key_newindex;

static int base_index(lua_State *L)
{
    script_charge(L, 2);
    lua_settop(L, 2);
    lua_gettable(L, lua_upvalueindex(1));
    return 1;
}

static int base_newindex(lua_State *L)
{
    script_charge(L, 2);
    lua_settop(L, 3);
    lua_settable(L, lua_upvalueindex(1));
    return 0;
}

/* The value on the top, meant for copy[event], becomes what may stand there. */
static void meta_convert(lua_State *L, int copy, const char *event)
{
    bool index = strcmp(event, "__index") == 0, newindex = strcmp(event, "__newindex") == 0;
    if (lua_isfunction(L, -1) || strcmp(event, "__metatable") == 0)
        return;
    if (!lua_istable(L, -1) || (!index && !newindex))
        luaL_error(L, "setmetatable: '%s' must be a function%s", event,
                   index || newindex ? " or a table" : "");
    const void *key = index ? (const void *)&key_index : (const void *)&key_newindex;
    lua_rawgetp(L, copy, key);
    if (lua_rawequal(L, -1, -2)) { /* the closure that is there serves */
        lua_pop(L, 2);
        lua_pushstring(L, event);
        lua_rawget(L, copy);
        return;
    }
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, copy, key);
    lua_pushcclosure(L, index ? base_index : base_newindex, 1);
}

static void meta_refresh(lua_State *L, int mt, int copy)
{
    for (int i = 0; i < N_REFUSED; i++) {
        lua_pushstring(L, refused_events[i]);
        if (lua_rawget(L, mt) != LUA_TNIL)
            luaL_error(L, "setmetatable: '%s' is not available here", refused_events[i]);
        lua_pop(L, 1);
    }
    for (int i = 0; i < N_EVENTS; i++) {
        lua_pushvalue(L, lua_upvalueindex(i + 1));
        lua_pushvalue(L, -1);
        int type = lua_rawget(L, mt); /* stack: name, value */
        if (type != LUA_TNIL) {
            meta_convert(L, copy, events[i]);
            lua_rawset(L, copy);
            continue;
        }
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        if (lua_rawget(L, copy) != LUA_TNIL) { /* an event that was taken away */
            lua_pop(L, 1);
            lua_pushnil(L);
            lua_rawset(L, copy);
        } else {
            lua_pop(L, 2);
        }
    }
}

static int base_setmetatable(lua_State *L)
{
    script_charge(L, 16);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_argexpected(L, lua_isnil(L, 2) || lua_istable(L, 2), 2, "nil or table");
    lua_settop(L, 2);
    if (luaL_getmetafield(L, 1, "__metatable") != LUA_TNIL)
        return luaL_error(L, "cannot change a protected metatable");
    if (lua_istable(L, 2)) {
        if (lua_rawgetp(L, 2, &key_copy) != LUA_TTABLE) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, 2);
            lua_rawsetp(L, 3, &key_origin);
            lua_pushvalue(L, 3);
            lua_rawsetp(L, 2, &key_copy);
        }
        meta_refresh(L, 2, 3);
    }
    lua_setmetatable(L, 1);
    lua_settop(L, 1);
    return 1;
}

static int base_getmetatable(lua_State *L)
{
    luaL_checkany(L, 1);
    if (!lua_istable(L, 1) || !lua_getmetatable(L, 1))
        lua_pushnil(L); /* strings and userdata keep theirs to themselves */
    else if (luaL_getmetafield(L, 1, "__metatable") == LUA_TNIL)
        lua_rawgetp(L, -1, &key_origin);
    return 1;
}

void agon_script_tostring(lua_State *L, int index)
{
    index = lua_absindex(L, index);
    if (luaL_getmetafield(L, index, "__tostring") != LUA_TNIL) {
        lua_pushvalue(L, index);
        lua_call(L, 1, 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "'__tostring' must return a string");
        return;
    }
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
        lua_pushvalue(L, index);
        lua_tolstring(L, -1, NULL); /* converts the copy in place */
        break;
    case LUA_TBOOLEAN: lua_pushstring(L, lua_toboolean(L, index) ? "true" : "false"); break;
    default: lua_pushstring(L, luaL_typename(L, index)); break; /* an address would differ by run */
    }
}

static int base_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    script_charge(L, 2);
    agon_script_tostring(L, 1);
    return 1;
}

/* Catches what the code raised, never the end of its fuel, memory or another limit. */
static int base_pcall(lua_State *L)
{
    struct agon_script *s = script_of(L);
    luaL_checkany(L, 1);
    script_charge(L, 8);
    lua_pushboolean(L, 1);
    lua_insert(L, 1);
    int status = lua_pcall(L, lua_gettop(L) - 2, LUA_MULTRET, 0);
    if (status == LUA_ERRMEM && !s->end)
        s->end = AGON_SCRIPT_MEMORY;
    if (s->end) {
        lua_pushlightuserdata(L, s);
        return lua_error(L);
    }
    if (status != LUA_OK) {
        lua_pushboolean(L, 0);
        lua_replace(L, 1);
    }
    return lua_gettop(L);
}

static int base_tonumber(lua_State *L)
{
    script_charge_bytes(L, lua_type(L, 1) == LUA_TSTRING ? lua_rawlen(L, 1) * 8 : 0);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

static int base_select(lua_State *L)
{
    script_charge(L, 1 + lua_gettop(L) / 16);
    return lua_tocfunction(L, lua_upvalueindex(1))(L);
}

/* stock[name] wrapped by a function that charges and then calls it in its own frame. */
static void base_wrap(lua_State *L, int stock, const char *name, lua_CFunction wrapper)
{
    lua_getfield(L, stock, name);
    lua_pushcclosure(L, wrapper, 1);
    lua_setfield(L, -2, name);
}

int agon_script_open_base(lua_State *L)
{
    static const char *const kept[] = {"assert", "error",  "ipairs", "rawequal", "rawget",
                                       "rawlen", "rawset", "type",   "_VERSION", NULL};
    static const luaL_Reg own[] = {{"getmetatable", base_getmetatable},
                                   {"pcall", base_pcall},
                                   {"tostring", base_tostring},
                                   {NULL, NULL}};
    lua_pushcfunction(L, luaopen_base);
    lua_call(L, 0, 1); /* fills the old table of globals, which is dropped in the end */
    int stock = lua_gettop(L);
    lua_newtable(L);
    for (int i = 0; kept[i]; i++) {
        lua_getfield(L, stock, kept[i]);
        lua_setfield(L, -2, kept[i]);
    }
    luaL_setfuncs(L, own, 0);
    base_wrap(L, stock, "tonumber", base_tonumber);
    base_wrap(L, stock, "select", base_select);
    for (int i = 0; i < N_EVENTS; i++)
        lua_pushstring(L, events[i]);
    lua_pushcclosure(L, base_setmetatable, N_EVENTS);
    lua_setfield(L, -2, "setmetatable");
    agon_script_add_pairs(L);
    lua_remove(L, stock);
    return 1;
}

int agon_script_open_math(lua_State *L)
{
    static const char *const kept[] = {
        "abs",  "acos", "asin", "atan", "ceil", "cos",  "deg",       "exp",        "floor",
        "fmod", "huge", "log",  "max",  "min",  "modf", "pi",        "maxinteger", "mininteger",
        "rad",  "sin",  "sqrt", "tan",  "type", "ult",  "tointeger", NULL};
    lua_pushcfunction(L, luaopen_math);
    lua_call(L, 0, 1);
    lua_newtable(L);
    for (int i = 0; kept[i]; i++) {
        lua_getfield(L, -2, kept[i]);
        lua_setfield(L, -2, kept[i]);
    }
    lua_remove(L, -2);
    return 1;
}
