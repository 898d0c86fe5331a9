/*
 * table.sort: a stable merge sort between the list and a scratch list, so that any
 * comparator ends after n log n calls and gives the same result each time. A last
 * pass finds comparators that contradict themselves ("a <= b").
 */
#include "sandbox/script_lib.h"

/* Stack: 1 the list, 2 the comparator or nil, 3 the scratch list. */
enum { LIST = 1, COMPARE = 2, SCRATCH = 3, RUN = 8 };

/* Is the value at a before the one at b? */
static bool sort_before(lua_State *L, int a, int b)
{
    a = lua_absindex(L, a);
    b = lua_absindex(L, b);
    script_charge(L, 4);
    if (lua_isnil(L, COMPARE)) {
        if (lua_type(L, a) == LUA_TSTRING && lua_type(L, b) == LUA_TSTRING)
            script_charge_bytes(L, lua_rawlen(L, a));
        return lua_compare(L, a, b, LUA_OPLT);
    }
    lua_pushvalue(L, COMPARE);
    lua_pushvalue(L, a);
    lua_pushvalue(L, b);
    lua_call(L, 2, 1);
    bool before = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return before;
}

/* Insertion sort of list[lo..hi]. */
static void sort_run(lua_State *L, lua_Integer lo, lua_Integer hi)
{
    for (lua_Integer i = lo + 1; i <= hi; i++) {
        lua_rawgeti(L, LIST, i);
        lua_Integer at = i;
        for (; at > lo; at--) {
            lua_rawgeti(L, LIST, at - 1);
            if (!sort_before(L, -2, -1)) {
                lua_pop(L, 1);
                break;
            }
            lua_rawseti(L, LIST, at);
        }
        lua_rawseti(L, LIST, at);
    }
}

/* Merge from[lo..mid] and from[mid+1..hi] into to[lo..hi]. */
static void sort_merge(lua_State *L, int from, int to, lua_Integer lo, lua_Integer mid,
                       lua_Integer hi)
{
    lua_Integer i = lo, j = mid + 1;
    for (lua_Integer k = lo; k <= hi; k++) {
        script_charge(L, 1);
        bool right = i > mid;
        if (!right && j <= hi) {
            lua_rawgeti(L, from, j);
            lua_rawgeti(L, from, i);
            right = sort_before(L, -2, -1);
            lua_pop(L, 2);
        }
        lua_rawgeti(L, from, right ? j++ : i++);
        lua_rawseti(L, to, k);
    }
}

static void sort_check(lua_State *L, lua_Integer n)
{
    for (lua_Integer i = 1; i < n; i++) {
        lua_rawgeti(L, LIST, i + 1);
        lua_rawgeti(L, LIST, i);
        if (sort_before(L, -2, -1))
            luaL_error(L, "invalid order function for sorting: it says that a comes before b and b "
                          "before a");
        lua_pop(L, 2);
    }
}

static int table_sort(lua_State *L)
{
    luaL_checktype(L, LIST, LUA_TTABLE);
    if (!lua_isnoneornil(L, COMPARE))
        luaL_checktype(L, COMPARE, LUA_TFUNCTION);
    lua_settop(L, 2);
    lua_Integer n = (lua_Integer)lua_rawlen(L, LIST);
    luaL_argcheck(L, n < INT32_MAX, 1, "array too big");
    script_charge(L, 2 + n);
    luaL_checkstack(L, 16, "sort");
    lua_createtable(L, n > RUN ? (int)n : 0, 0);
    for (lua_Integer lo = 1; lo <= n; lo += RUN)
        sort_run(L, lo, lo + RUN - 1 < n ? lo + RUN - 1 : n);
    int from = LIST, to = SCRATCH;
    for (lua_Integer width = RUN; width < n; width *= 2) {
        for (lua_Integer lo = 1; lo <= n; lo += 2 * width) {
            lua_Integer mid = lo + width - 1 < n ? lo + width - 1 : n;
            lua_Integer hi = lo + 2 * width - 1 < n ? lo + 2 * width - 1 : n;
            sort_merge(L, from, to, lo, mid, hi);
        }
        int swap = from;
        from = to;
        to = swap;
    }
    for (lua_Integer i = 1; from != LIST && i <= n; i++) {
        lua_rawgeti(L, from, i);
        lua_rawseti(L, LIST, i);
    }
    sort_check(L, n);
    return 0;
}

void agon_script_add_sort(lua_State *L)
{
    lua_pushcfunction(L, table_sort);
    lua_setfield(L, -2, "sort");
}
