#pragma once
/*
 * Looking into a table from C where it lies: what is written as JSON is read once, and Lua's own
 * calls (lua_next, lua_rawget), which go over its stack and its strings, were a fifth of an
 * episode. Nothing is changed or kept, and no fuel is taken: the callers charge for what they do
 * with it.
 */
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct lua_State;

struct agon_script_keys { /* of a table, whose values are not nil */
    size_t n_names;       /* text */
    size_t n_items;       /* integers from 1 to the length that was given */
    size_t n_other;
    size_t n_slots; /* that were looked at, most of them empty where a table was emptied */
};
struct agon_script_keys agon_script_keys(struct lua_State *L, int index, size_t length);
/* The same of a small table that has no integers for keys, and so no length: false of others. */
bool agon_script_names(struct lua_State *L, int index, struct agon_script_keys *ret);

struct agon_script_field {
    int type; /* LUA_TBOOLEAN, LUA_TNUMBER or LUA_TSTRING */
    bool boolean, is_integer;
    int64_t integer;
    double number;
    struct agon_str text; /* borrowed from Lua */
};
/* Look for a member by name (metatables are not asked). False where it is absent, no boolean,
 * number or text, or not found this way: ask Lua then. */
bool agon_script_field(struct lua_State *L, int index, struct agon_str name,
                       struct agon_script_field *ret);
/* Each string that the state holds, in use or not yet collected: constants of its code, keys and
 * values, what was put together. fn must not call Lua. */
void agon_script_texts(struct lua_State *L, void (*fn)(void *user, struct agon_str text),
                       void *user);
/* luaL_checkstack(), a shorter way where there is room. */
void agon_script_room(struct lua_State *L, int n, const char *message);
