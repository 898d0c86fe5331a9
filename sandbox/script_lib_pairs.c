/*
 * pairs and next in an order that is the same in each run: numbers, strings
 * (bytewise), booleans. pairs takes the keys as they are when it begins and skips
 * those that have gone when their turn comes; a list (1..n in the array part) needs
 * no copy of its keys.
 */
#include "sandbox/script_lib.h"

#include <math.h>
#include <string.h>

enum key_kind { KEY_INTEGER, KEY_FLOAT, KEY_STRING, KEY_BOOLEAN, KEY_OURS };

struct key {
    enum key_kind kind;
    size_t size;
    union {
        lua_Integer i; /* and booleans */
        lua_Number n;
        const char *s; /* borrowed from the key itself, which its table holds */
    };
};

static struct key key_at(lua_State *L, int index)
{
    struct key k = {0};
    switch (lua_type(L, index)) {
    case LUA_TNUMBER:
        k.kind = lua_isinteger(L, index) ? KEY_INTEGER : KEY_FLOAT;
        if (k.kind == KEY_INTEGER)
            k.i = lua_tointeger(L, index);
        else
            k.n = lua_tonumber(L, index);
        break;
    case LUA_TSTRING:
        k.kind = KEY_STRING;
        k.s = lua_tolstring(L, index, &k.size);
        break;
    case LUA_TBOOLEAN:
        k.kind = KEY_BOOLEAN;
        k.i = lua_toboolean(L, index);
        break;
    case LUA_TLIGHTUSERDATA: k.kind = KEY_OURS; break;
    default:
        luaL_error(L, "pairs: a key that is a %s has no order; use numbers, strings or booleans",
                   luaL_typename(L, index));
    }
    return k;
}

static void key_push(lua_State *L, const struct key *k)
{
    switch (k->kind) {
    case KEY_INTEGER: lua_pushinteger(L, k->i); break;
    case KEY_FLOAT: lua_pushnumber(L, k->n); break;
    case KEY_STRING: lua_pushlstring(L, k->s, k->size); break;
    case KEY_BOOLEAN: lua_pushboolean(L, (int)k->i); break;
    case KEY_OURS: lua_pushnil(L); break;
    }
}

/* Exact: a float key has no integer value, or lies outside the integers. */
static bool integer_below_float(lua_Integer i, lua_Number n)
{
    if (n >= 0x1p63)
        return true;
    return n > -0x1p63 && i <= (lua_Integer)floor(n);
}

static bool key_below(const struct key *a, const struct key *b)
{
    bool number_a = a->kind <= KEY_FLOAT, number_b = b->kind <= KEY_FLOAT;
    if (number_a != number_b || (!number_a && a->kind != b->kind))
        return a->kind < b->kind;
    if (a->kind == KEY_STRING) {
        size_t n = a->size < b->size ? a->size : b->size;
        int c = memcmp(a->s, b->s, n);
        return c != 0 ? c < 0 : a->size < b->size;
    }
    if (a->kind == KEY_FLOAT)
        return b->kind == KEY_FLOAT ? a->n < b->n : !integer_below_float(b->i, a->n);
    return b->kind == KEY_FLOAT ? integer_below_float(a->i, b->n) : a->i < b->i;
}

static void keys_sift(struct key *keys, size_t at, size_t n)
{
    struct key k = keys[at];
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && key_below(&keys[child], &keys[child + 1]))
            child++;
        if (!key_below(&k, &keys[child]))
            break;
        keys[at] = keys[child];
        at = child;
    }
    keys[at] = k;
}

/* Heapsort: no memory, no bad case. */
static void keys_sort(struct key *keys, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        keys_sift(keys, i, n);
    while (n > 1) {
        struct key last = keys[--n];
        keys[n] = keys[0];
        keys[0] = last;
        keys_sift(keys, 0, n);
    }
}

/* Count the keys of the table at 1; whether they came as 1, 2, 3, ... */
static size_t keys_count(lua_State *L, bool *ret_list, size_t *ret_bytes)
{
    size_t n = 0, bytes = 0;
    bool list = true;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        struct key k = key_at(L, -2);
        if (k.kind == KEY_OURS)
            continue;
        n++;
        bytes += k.kind == KEY_STRING ? k.size : 0;
        list = list && k.kind == KEY_INTEGER && k.i == (lua_Integer)n;
        script_charge(L, 1);
    }
    *ret_list = list;
    *ret_bytes = bytes;
    return n;
}

/* Push a list of the n keys of the table at 1, sorted. */
static void keys_push_sorted(lua_State *L, size_t n, size_t bytes)
{
    struct key *keys = lua_newuserdatauv(L, (n ? n : 1) * sizeof(*keys), 0);
    size_t i = 0, log = 1;
    bool sorted = true;
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        struct key k = key_at(L, -2);
        if (k.kind == KEY_OURS || i == n)
            continue;
        sorted = sorted && (i == 0 || key_below(&keys[i - 1], &k));
        keys[i++] = k;
    }
    for (size_t m = n; m > 1; m /= 2)
        log++;
    /* Charged whether it is sorted already or not: that depends on Lua's hash seed. */
    script_charge(L, (int64_t)((n + bytes / 32) * log));
    if (!sorted)
        keys_sort(keys, n);
    lua_createtable(L, (int)n, 0);
    for (i = 0; i < n; i++) {
        key_push(L, &keys[i]);
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_remove(L, -2);
}

static int pairs_list_step(lua_State *L)
{
    lua_Integer n = lua_tointeger(L, lua_upvalueindex(1));
    luaL_checktype(L, 1, LUA_TTABLE);
    for (lua_Integer i = luaL_checkinteger(L, 2); i >= 0 && i < n;) {
        script_charge(L, 1);
        lua_pushinteger(L, ++i);
        if (lua_rawgeti(L, 1, i) != LUA_TNIL)
            return 2;
        lua_pop(L, 2);
    }
    lua_pushnil(L);
    return 1;
}

static int pairs_step(lua_State *L)
{
    lua_Integer i = lua_tointeger(L, lua_upvalueindex(2));
    luaL_checktype(L, 1, LUA_TTABLE);
    for (;;) {
        script_charge(L, 1);
        if (lua_rawgeti(L, lua_upvalueindex(1), ++i) == LUA_TNIL)
            return 1;
        lua_pushvalue(L, -1);
        if (lua_rawget(L, 1) != LUA_TNIL)
            break;
        lua_pop(L, 2);
    }
    lua_pushinteger(L, i);
    lua_replace(L, lua_upvalueindex(2));
    return 2;
}

static int base_pairs(lua_State *L)
{
    luaL_checkany(L, 1);
    script_charge(L, 4);
    if (luaL_getmetafield(L, 1, "__pairs") != LUA_TNIL) {
        lua_pushvalue(L, 1);
        lua_call(L, 1, 3);
        return 3;
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    bool list;
    size_t bytes, n = keys_count(L, &list, &bytes);
    if (list) {
        lua_pushinteger(L, (lua_Integer)n);
        lua_pushcclosure(L, pairs_list_step, 1);
        lua_pushvalue(L, 1);
        lua_pushinteger(L, 0);
        return 3;
    }
    keys_push_sorted(L, n, bytes);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, pairs_step, 2);
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}

/* The smallest key above the given one: a pass over all keys, charged as one. */
static int base_next(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 2);
    bool first = lua_isnil(L, 2), found = false;
    struct key after = {0}, best = {0};
    if (!first)
        after = key_at(L, 2);
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        struct key k = key_at(L, -2);
        script_charge_bytes(L, k.kind == KEY_STRING ? k.size : 0);
        if (k.kind == KEY_OURS || (!first && !key_below(&after, &k)))
            continue;
        if (!found || key_below(&k, &best))
            best = k;
        found = true;
    }
    if (!found) {
        lua_pushnil(L);
        return 1;
    }
    key_push(L, &best);
    lua_pushvalue(L, -1);
    lua_rawget(L, 1);
    return 2;
}

void agon_script_add_pairs(lua_State *L)
{
    static const luaL_Reg own[] = {{"pairs", base_pairs}, {"next", base_next}, {NULL, NULL}};
    luaL_setfuncs(L, own, 0);
}
