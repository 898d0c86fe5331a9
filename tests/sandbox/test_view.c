/* What C sees of a table (sandbox/script_view.h) is what Lua says of it. */
#include "sandbox/script_view.h"

#include "sandbox/script.h"
#include "tests/test.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>

/* Tables of all sizes: filled, with holes, emptied, mixed; keys of each kind; long names. */
static const char code[] =
    "local all, seed = {}, 1\n"
    "local function chance(n) seed = (seed * 1103515245 + 12345) % 2147483648 "
    "return (seed >> 8) % n end\n"
    "local long = ('long name '):rep(8)\n"
    "local keys = {function(i) return 'k' .. i end, function(i) return i end,\n"
    "  function(i) return long .. i end, function(i) return i + 0.5 end, function(i) return -i "
    "end,\n"
    "  function(i) return i % 2 == 0 end, function(i) return keys end, function(i) return i * 2.0 "
    "end}\n"
    "local values = {function(i) return i end, function(i) return i / 4 end,\n"
    "  function(i) return 'text ' .. i end, function(i) return long .. i end,\n"
    "  function(i) return i % 2 == 0 end, function(i) return {} end, function(i) return nil end}\n"
    "for n = 1, 400 do\n"
    "  local t, kind = {}, chance(#keys + 3)\n"
    "  for i = 1, chance(40) do\n"
    "    local k = kind < #keys and keys[kind + 1] or kind == #keys and keys[1 + chance(#keys)]\n"
    "      or keys[1 + chance(2)]\n"
    "    k = k(i)\n"
    "    if k ~= nil then t[k] = values[1 + chance(#values)](i) end\n"
    "    if chance(6) == 0 then t[next(t) or 1] = nil end\n"
    "  end\n"
    "  all[n] = t\n"
    "end\n"
    "return all\n";

static bool keys_are(lua_State *L)
{
    size_t length = lua_rawlen(L, -1), names = 0, items = 0, other = 0;
    struct agon_script_keys keys = agon_script_keys(L, -1, length);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_Integer i = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        bool name = lua_type(L, -2) == LUA_TSTRING, item = i >= 1 && (size_t)i <= length;
        names += name;
        items += !name && item;
        other += !name && !item;
    }
    return keys.n_names == names && keys.n_items == items && keys.n_other == other &&
           keys.n_slots >= names + items + other;
}

/* The value on the top is what was seen. */
static bool value_is(lua_State *L, const struct agon_script_field *field)
{
    size_t size = 0;
    if (lua_type(L, -1) != field->type)
        return false;
    switch (field->type) {
    case LUA_TBOOLEAN: return lua_toboolean(L, -1) == (int)field->boolean;
    case LUA_TNUMBER:
        return lua_isinteger(L, -1) == (int)field->is_integer &&
               (field->is_integer ? lua_tointeger(L, -1) == field->integer
                                  : lua_tonumber(L, -1) == field->number);
    default: return field->text.data == lua_tolstring(L, -1, &size) && field->text.size == size;
    }
}

static bool field_is(lua_State *L, int k, int *ret_seen)
{
    struct agon_script_field field;
    char name[16];
    snprintf(name, sizeof(name), "k%d", k);
    bool seen = agon_script_field(L, -1, agon_str(name), &field);
    *ret_seen += seen;
    if (!seen)
        return true; /* Lua is asked */
    lua_pushstring(L, name);
    lua_rawget(L, -2);
    bool same = value_is(L, &field);
    lua_pop(L, 1);
    return same;
}

static int look_at_all(lua_State *L, void *arg)
{
    int *seen = arg;
    agon_script_run_chunk(L, "=tables", agon_str(code), 1);
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TTABLE; i++) {
        bool same = keys_are(L);
        for (int k = 0; k <= 41 && same; k++)
            same = field_is(L, k, seen);
        if (!EXPECT(same)) {
            printf("# table %d\n", (int)i);
            return 0;
        }
        lua_pop(L, 1);
    }
    return 0;
}

TEST(keys_and_fields_are_those_that_lua_gives)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    char why[200];
    int seen = 0;
    REQUIRE(agon_script_new(&s, NULL, &err) == 0);
    if (!EXPECT(agon_script_protect(s, look_at_all, &seen, why, sizeof(why), &err) == 0))
        printf("# %s\n", why);
    EXPECT(seen > 200);
}
