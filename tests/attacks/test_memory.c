/* B8, B9: memory without end, and a heap kept just below its limit. */
#include "tests/attacks/victim.h"

LUA_ATTACK(B8_doubling, TOOL_ERROR, "ran out", "local s = 'x' while true do s = s .. s end")
LUA_ATTACK(B8_growth, TOOL_ERROR, "ran out", "local t = {} while true do t[#t + 1] = {} end")
LUA_ATTACK(B8_big_table, TOOL_ERROR, "ran out", "local t = {} for i = 1, 1 << 26 do t[i] = i end")
LUA_ATTACK(B8_recursion, TOOL_ERROR, "", "local function f() return 1 + f() end return f()")
LUA_ATTACK(B8_recursion_deep, TOOL_ERROR, "",
           "local function f(n) local a, b, c, d, e = 1, 2, 3, 4, 5 return f(n + 1) + a end "
           "return f(1)")
LUA_ATTACK(B8_pcall_recursion, CONTAINED, "",
           "local function f() return pcall(f) end return tostring(f())")
LUA_ATTACK(B8_pcall_keeps, TOOL_ERROR, "ran out",
           "pcall(function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end end) "
           "return 'survived'")
LUA_ATTACK(B8_closures, TOOL_ERROR, "ran out",
           "local t = {} while true do t[#t + 1] = function() return t end end")
LUA_ATTACK(B8_strings, TOOL_ERROR, "ran out",
           "local t = {} for i = 1, 1e9 do t[i] = 'key' .. i end")
LUA_ATTACK(B8_varargs, TOOL_ERROR, "", "local function f(...) return f(1, ...) end f()")
LUA_ATTACK(B9_thrash, TOOL_ERROR, "ran out",
           "local k = {} local ok = pcall(function() end) for i = 1, 150000 do k[i] = {i} end "
           "while true do local x = {} end")
LUA_ATTACK(B9_thrash_strings, TOOL_ERROR, "ran out",
           "local k = ('x'):rep(15000000) while true do local s = ('y'):rep(500000) end")
LUA_ATTACK(B9_near_the_cap, TOOL_ERROR, "ran out",
           "local k = ('x'):rep(16000000) local t = {} for i = 1, 1e9 do t[i % 100] = 'a' .. i end")

LUA_ATTACK(X27_garbage_beside_180000_live_tables, TOOL_ERROR, "ran out",
           "local k, s = {}, ('x'):rep(1000) for i = 1, 150000 do k[i] = {} end "
           "local a while true do a = s .. 'y' a = s .. a end")
LUA_ATTACK(X27_a_heap_that_is_touched_in_each_collection, TOOL_ERROR, "ran out",
           "local k = {} for i = 1, 400000 do k[i] = i end "
           "local s = ('x'):rep(100000) while true do k[1] = s .. 'y' end")
LUA_ATTACK(X28_strings_that_fill_the_table_of_strings, TOOL_ERROR, "ran out",
           "local t = {} for i = 1, 1e9 do t[#t + 1] = i .. '' end")
LUA_ATTACK(
    X28_fragments, TOOL_ERROR, "ran out",
    "local t = {} for i = 1, 1e9 do t[i % 500] = ('x'):rep(i % 7000) t[-(i % 3000)] = {i} end")
LUA_ATTACK(X29_a_closure_chain, TOOL_ERROR, "ran out",
           "local f = function() end while true do local g = f f = function() return g end end")
LUA_ATTACK(X29_metatables_without_end, TOOL_ERROR, "ran out",
           "local t = {} while true do t = setmetatable({}, {__index = t}) end")
LUA_ATTACK(X30_a_global_table_as_store, TOOL_ERROR, "ran out",
           "for i = 1, 1e9 do _G['k' .. i] = i end")
LUA_ATTACK(X30_varargs_kept_in_closures, TOOL_ERROR, "",
           "local keep = {} local function f(...) local a = {...} keep[#keep + 1] = a "
           "return f(1, ...) end f()")
