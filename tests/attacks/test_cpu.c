/* B: work without end, or for which nobody is charged. */
#include "base/buf.h"
#include "tests/attacks/victim.h"

LUA_ATTACK(B1_loop, TOOL_ERROR, "ran out of fuel", "while true do end")
LUA_ATTACK(B1_goto, TOOL_ERROR, "ran out of fuel", "::l:: goto l")
LUA_ATTACK(B1_repeat, TOOL_ERROR, "ran out of fuel", "repeat until false")
LUA_ATTACK(B1_for, TOOL_ERROR, "ran out of fuel", "for i = 1, math.huge do end")
LUA_ATTACK(B1_tail, TOOL_ERROR, "ran out of fuel", "local function f() return f() end f()")
LUA_ATTACK(B1_pcall, TOOL_ERROR, "ran out of fuel", "while true do pcall(error) end")
LUA_ATTACK(B1_pcall_in_pcall, TOOL_ERROR, "ran out of fuel",
           "local function f() pcall(f) while true do end end f()")
LUA_ATTACK(B1_pcall_keeps, TOOL_ERROR, "ran out of fuel",
           "pcall(function() while true do end end) return 'survived'")
LUA_ATTACK(B1_pcall_loop, TOOL_ERROR, "ran out of fuel",
           "while true do pcall(function() while true do end end) end")
LUA_ATTACK(B3_handler, TOOL_ERROR, "ran out of fuel",
           "local ok = pcall(error, setmetatable({}, {__tostring=function() while true do "
           "end end})) while true do end")
LUA_ATTACK(B3_reason, TOOL_ERROR, "ran out of fuel",
           "error(setmetatable({}, {__tostring=function() while true do end end}))")
LUA_ATTACK(B1_index_calls_itself, TOOL_ERROR, "overflow",
           "local t = setmetatable({}, {__index=function(t, k) return t[k] end}) return t.x")
LUA_ATTACK(B1_eq_never_returns, TOOL_ERROR, "ran out of fuel",
           "local m = {__eq=function(a, b) while true do end end} "
           "return setmetatable({}, m) == setmetatable({}, m)")
LUA_ATTACK(B1_concat_calls_itself, TOOL_ERROR, "overflow",
           "local m = {__concat=function(a, b) return a .. b end} "
           "return setmetatable({}, m) .. 'x'")
LUA_ATTACK(B1_index_chain, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 1900 do t = setmetatable({}, {__index=t}) end "
           "while true do local x = pcall(function() return t.x end) end")
LUA_ATTACK(B1_index_loop, TOOL_ERROR, "ran out of fuel",
           "local a = {} setmetatable(a, {__index=a}) while true do pcall(function() return "
           "a.x end) end")
LUA_ATTACK(B1_newindex_loop, TOOL_ERROR, "ran out of fuel",
           "local a = {} setmetatable(a, {__newindex=a}) while true do pcall(function() "
           "a.x = 1 end) end")
LUA_ATTACK(B5_rep_of_nothing, CONTAINED, "0", "return #string.rep('', 2^62)")
LUA_ATTACK(B5_rep_max, CONTAINED, "0", "return #string.rep('', math.maxinteger, '')")
LUA_ATTACK(B5_rep_1_GB, TOOL_ERROR, "ran out", "return #string.rep('x', 1 << 30)")
LUA_ATTACK(B5_rep_huge, TOOL_ERROR, "too large", "return #string.rep('xx', math.maxinteger)")
LUA_ATTACK(B5_rep_sep, TOOL_ERROR, "", "return #string.rep('', 2^40, 'x')")
LUA_ATTACK(B5_rep_loop, TOOL_ERROR, "ran out of fuel", "while true do local s = ('x'):rep(1e6) end")
LUA_ATTACK(B5_upper_loop, TOOL_ERROR, "ran out of fuel",
           "local s = ('x'):rep(1e6) while true do s:upper() end")
LUA_ATTACK(B5_sub_loop, TOOL_ERROR, "ran out of fuel",
           "local s = ('x'):rep(1e6) while true do s:sub(2) end")
LUA_ATTACK(B5_byte, TOOL_ERROR, "too long", "return ('x'):rep(1e5):byte(1, -1)")
LUA_ATTACK(B7_lazy_20, TOOL_ERROR, "ran out of fuel",
           "return ('a'):rep(3000):find(('a-'):rep(20) .. 'b')")
LUA_ATTACK(B7_lazy_40, TOOL_ERROR, "ran out of fuel",
           "return ('a'):rep(40):find(('a-'):rep(40) .. 'b')")
LUA_ATTACK(B7_greedy, TOOL_ERROR, "ran out of fuel",
           "return ('a'):rep(3000):match(('.*'):rep(12) .. 'b')")
LUA_ATTACK(B7_optional, TOOL_ERROR, "",
           "return ('a'):rep(60):match(('a?'):rep(60) .. ('a'):rep(60))")
LUA_ATTACK(B7_balance, TOOL_ERROR, "ran out of fuel", "return ('('):rep(1e5):find('%b()')")
LUA_ATTACK(B7_back_reference, TOOL_ERROR, "ran out of fuel",
           "return ('a'):rep(5000):match('(.*)%1b')")
LUA_ATTACK(B7_frontier, TOOL_ERROR, "ran out of fuel",
           "local s = ('a'):rep(1e6) while true do s:find('%f[%z]x') end")
LUA_ATTACK(B7_set, TOOL_ERROR, "ran out of fuel",
           "return ('a'):rep(1e4):find('[' .. ('b'):rep(1e4) .. ']x')")
LUA_ATTACK(B7_plain, TOOL_ERROR, "ran out of fuel",
           "local s = ('a'):rep(1e6) while true do s:find(('a'):rep(1000) .. 'b', 1, true) end")
LUA_ATTACK(B7_gsub, TOOL_ERROR, "ran out", "return #('x'):rep(1e5):gsub('.', ('y'):rep(1e4))")
LUA_ATTACK(B7_gsub_captures, TOOL_ERROR, "ran out",
           "return #('x'):rep(1e4):gsub('(.)', ('%1'):rep(1000))")
LUA_ATTACK(B7_gmatch, TOOL_ERROR, "ran out of fuel", "for a in ('a'):rep(1e6):gmatch('()') do end")
LUA_ATTACK(B7_complex, TOOL_ERROR, "unfinished", "return ('a'):rep(1e5):match(('(a'):rep(30))")
LUA_ATTACK(B7_deep, TOOL_ERROR, "too complex", "return ('a'):rep(1e3):match(('a?'):rep(300))")
LUA_ATTACK(B5_format_many, TOOL_ERROR, "no value",
           "while true do string.format(('%99.99f'):rep(50), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) end")
LUA_ATTACK(B5_format_wide, TOOL_ERROR, "ran out",
           "local s = ('x'):rep(1e6) while true do string.format('%s%s', s, s) end")
LUA_ATTACK(B5_table_move, TOOL_ERROR, "", "table.move({}, 1, math.maxinteger, 2)")
LUA_ATTACK(B5_table_move_back, TOOL_ERROR, "", "table.move({}, -2^62 | 0, -1, 5)")
LUA_ATTACK(B5_table_insert, TOOL_ERROR, "ran out of fuel",
           "local t = {} while true do table.insert(t, 1, 1) end")
LUA_ATTACK(B5_table_insert_len, CONTAINED, "9007199254740992",
           "local t = setmetatable({}, {__len=function() return 2^53 | 0 end}) "
           "table.insert(t, 1, 1) return #t")
LUA_ATTACK(B5_table_remove_len, CONTAINED, "nil",
           "local t = setmetatable({}, {__len=function() return 2^53 | 0 end}) "
           "return tostring(table.remove(t, 1))")
LUA_ATTACK(B5_table_concat, TOOL_ERROR, "invalid value",
           "return table.concat({}, '', 1, math.maxinteger)")
LUA_ATTACK(B5_table_concat_loop, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(1000) end "
           "while true do table.concat(t) end")
LUA_ATTACK(B5_table_unpack, TOOL_ERROR, "too many results", "return table.unpack({}, 1, 1e8)")
LUA_ATTACK(B5_table_unpack_wrap, TOOL_ERROR, "too many results",
           "return table.unpack({}, math.mininteger, math.maxinteger)")
LUA_ATTACK(B5_table_unpack_loop, TOOL_ERROR, "ran out of fuel",
           "local t = {} while true do local a = {table.unpack(t, 1, 7000)} end")
LUA_ATTACK(B1_sort_loop, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 1e4 do t[i] = -i end while true do table.sort(t) end")
LUA_ATTACK(B1_next_loop, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 1e4 do t['k' .. i] = i end for k in next, t do end")
LUA_ATTACK(B1_pairs_loop, TOOL_ERROR, "ran out",
           "local t = {} for i = 1, 1e4 do t['k' .. i] = i end while true do pairs(t) end")
LUA_ATTACK(B5_tonumber, TOOL_ERROR, "ran out of fuel",
           "local s = ('1'):rep(1e6) while true do tonumber(s, 10) end")
LUA_ATTACK(B5_tonumber_hex, TOOL_ERROR, "ran out of fuel",
           "local s = '0x' .. ('f'):rep(1e6) while true do tonumber(s) end")
LUA_ATTACK(B5_utf8_len, TOOL_ERROR, "ran out of fuel",
           "local s = ('\x80'):rep(1e6) while true do utf8.len(s) end")
LUA_ATTACK(B5_utf8_offset, TOOL_ERROR, "ran out of fuel",
           "local s = ('\x80'):rep(1e6) while true do utf8.offset(s, 0, 900000) end")
LUA_ATTACK(B5_utf8_codes, TOOL_ERROR, "ran out of fuel",
           "local f, s = utf8.codes(('\x80'):rep(1e6)) while true do pcall(f, s, 1) end")
LUA_ATTACK(B1_select, TOOL_ERROR, "ran out of fuel",
           "local function f(...) return select('#', ...) end "
           "while true do f(table.unpack({}, 1, 7000)) end")

/* ---- one instruction over megabytes ---- */

LUA_ATTACK(X13_long_strings_are_ordered, TOOL_ERROR, "ran out of fuel",
           "local a, b = ('x'):rep(2e6) .. 'a', ('x'):rep(2e6) .. 'b' local n = 0 "
           "while true do if a < b then n = n + 1 end end")
LUA_ATTACK(X13_strings_of_nul_are_ordered, TOOL_ERROR, "ran out of fuel",
           "local a, b = ('\\0'):rep(2e6) .. 'a', ('\\0'):rep(2e6) .. 'b' local n = 0 "
           "while true do if a <= b then n = n + 1 end end")
LUA_ATTACK(X14_long_strings_are_equal, TOOL_ERROR, "ran out of fuel",
           "local a, b = ('x'):rep(2e6) .. 'a', ('x'):rep(2e6) .. 'a' local n = 0 "
           "while true do if a == b then n = n + 1 end end")
LUA_ATTACK(X14_long_strings_are_rawequal, TOOL_ERROR, "ran out of fuel",
           "local a, b = ('x'):rep(2e6) .. 'a', ('x'):rep(2e6) .. 'a' "
           "while true do rawequal(a, b) end")
LUA_ATTACK(X14_long_strings_are_the_same, TOOL_ERROR, "ran out of fuel",
           "local a, b = {('x'):rep(2e6) .. 'a'}, {('x'):rep(2e6) .. 'a'} "
           "while true do same(a, b) end")
LUA_ATTACK(X15_long_strings_are_keys, TOOL_ERROR, "ran out of fuel",
           "local a, b = ('x'):rep(2e6) .. 'a', ('x'):rep(2e6) .. 'a' local t = {[a] = 1} "
           "while true do local n = t[b] end")
LUA_ATTACK(X16_numerals_of_megabytes, TOOL_ERROR, "ran out of fuel",
           "local s = ('0'):rep(2e6) .. '1' while true do pcall(math.floor, s) end")
LUA_ATTACK(X16_numerals_in_spaces, TOOL_ERROR, "ran out of fuel",
           "local s = (' '):rep(2e6) .. '1' while true do pcall(string.rep, 'x', s) end")
LUA_ATTACK(X16_numerals_of_hexadecimal_digits, TOOL_ERROR, "ran out of fuel",
           "local s = '0x' .. ('f'):rep(2e6) while true do pcall(math.abs, s) end")
LUA_ATTACK(X17_remainders_of_floats_far_apart, TOOL_ERROR, "ran out of fuel",
           "local a, b, x = 1.7e308, 5e-324 while true do x = a % b x = a % b x = a % b x = a % b "
           "x = a % b x = a % b x = a % b x = a % b x = a % b x = a % b end")
LUA_ATTACK(X17_fmod_of_floats_far_apart, TOOL_ERROR, "ran out of fuel",
           "while true do math.fmod(1.7e308, 5e-324) end")
/* The lengths of long strings are read where this build of Lua has them. */
LUA_ATTACK(X18_comparisons_stay_right, CONTAINED, "true",
           "local s = ('x'):rep(5000) local a, b, c, d = s .. 'a', s .. 'b', s .. 'a', s .. 'aa' "
           "local z = ('x'):rep(2500) .. '\\0' .. ('x'):rep(2499) "
           "return a == c and a ~= b and a ~= d and a < b and b > a and a < d and a <= c and "
           "z < s and z ~= s and s .. '\\0' > s and not (a < c) and ({[a] = 1})[c] == 1 and "
           "({[a] = 1})[b] == nil and 5.5 % 2 == 1.5 and -5.5 % 2 == 0.5 and "
           "1e300 % 3 == math.fmod(1e300, 3) and tonumber('  12  ') == 12 and ('\\200' > 'z')")

/* ---- amplifiers: few instructions, much work ---- */

LUA_ATTACK(X20_ipairs_over_a_table_without_end, TOOL_ERROR, "ran out of fuel",
           "for i in ipairs(setmetatable({}, {__index = function() return 1 end})) do end")
LUA_ATTACK(X20_concat_over_a_table_without_end, CONTAINED, "",
           "return table.concat(setmetatable({}, {__len = function() return 2^53 | 0 end, "
           "__index = function() return 'x' end}))")
LUA_ATTACK(X20_sort_of_a_table_without_end, TOOL_ERROR, "",
           "table.sort(setmetatable({}, {__len = function() return 2^31 - 2 | 0 end, "
           "__index = function(t, i) return -i end, __newindex = function() end}))")
LUA_ATTACK(X21_pairs_over_keys_that_breed, TOOL_ERROR, "ran out",
           "local t = {a = 1} while true do for k in pairs(t) do t[k .. 'x'] = 1 end end")
LUA_ATTACK(X21_pairs_over_long_keys, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 100 do t[('x'):rep(1e4) .. i] = 1 end "
           "while true do pairs(t) end")
LUA_ATTACK(X22_a_table_emptied_and_filled, TOOL_ERROR, "ran out of fuel",
           "local t = {} while true do for i = 1, 4096 do t[i * 7.5] = i end "
           "for i = 1, 4096 do t[i * 7.5] = nil end end")
LUA_ATTACK(X22_the_border_of_a_sparse_table, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 0, 40 do t[1 << i] = 1 end local n while true do n = #t end")
LUA_ATTACK(X23_numbers_as_text, TOOL_ERROR, "ran out of fuel",
           "local x, s = 1.2345678901234e300 while true do s = x .. x .. x .. x .. x .. x end")
LUA_ATTACK(X23_format_of_long_numbers, TOOL_ERROR, "ran out of fuel",
           "while true do string.format('%99.99f%99.99f%99.99f', 1e308, -1e308, 1e-308) end")
LUA_ATTACK(X24_gsub_with_a_function_that_never_ends, TOOL_ERROR, "ran out of fuel",
           "('x'):rep(100):gsub('.', function() while true do end end)")
LUA_ATTACK(
    X24_gsub_with_a_table_that_never_ends, TOOL_ERROR, "ran out of fuel",
    "('x'):rep(100):gsub('.', setmetatable({}, {__index = function() while true do end end}))")
LUA_ATTACK(X24_patterns_of_captures, TOOL_ERROR, "",
           "return ('a'):rep(4000):match(('(a*)'):rep(31) .. 'b')")
LUA_ATTACK(X25_errors_in_a_loop, TOOL_ERROR, "ran out of fuel",
           "local m = ('x'):rep(1e5) while true do pcall(error, m) end")
LUA_ATTACK(X25_type_errors_in_a_loop, TOOL_ERROR, "ran out of fuel",
           "while true do pcall(function() local x = nil .. {} end) end")
LUA_ATTACK(X26_a_stack_that_grows_and_shrinks, TOOL_ERROR, "ran out of fuel",
           "local function f(n) if n > 0 then return 1 + f(n - 1) end return 0 end "
           "while true do f(15000) end")

LUA_ATTACK(X27_gsub_in_gsub, TOOL_ERROR, "overflow",
           "local function f() return (('x'):gsub('.', f)) end return f()")
LUA_ATTACK(X27_sort_in_sort, TOOL_ERROR, "overflow",
           "local function f() table.sort({2, 1}, f) return false end return f()")
LUA_ATTACK(X27_format_in_tostring, TOOL_ERROR, "overflow",
           "local m = {} m.__tostring = function(t) return string.format('%s', t) end "
           "return tostring(setmetatable({}, m))")
LUA_ATTACK(X27_pairs_in_pairs, TOOL_ERROR, "overflow",
           "local m = {} m.__pairs = function(t) return pairs(t) end "
           "for k in pairs(setmetatable({}, m)) do end")
LUA_ATTACK(X28_code_points_of_a_megabyte, TOOL_ERROR, "",
           "return utf8.codepoint(('x'):rep(1e6), 1, -1)")
LUA_ATTACK(X28_characters_of_a_megabyte, TOOL_ERROR, "ran out",
           "while true do utf8.char(table.unpack({('x'):rep(7000):byte(1, 7000)})) end")
LUA_ATTACK(X28_quoting_a_megabyte, TOOL_ERROR, "ran out",
           "local s = ('\\0'):rep(1e6) while true do string.format('%q', s) end")
LUA_ATTACK(X28_gsub_of_nothing, TOOL_ERROR, "ran out",
           "local s = ('x'):rep(1e5) while true do s:gsub('', 'y') end")
LUA_ATTACK(X28_a_prefix_of_a_megabyte, TOOL_ERROR, "ran out",
           "local s = ('x'):rep(1e6) while true do s:match('^' .. s) end")
LUA_ATTACK(X29_the_least_integer, CONTAINED, "-92233720368547758080-9223372036854775808",
           "return (math.mininteger // -1) .. (math.mininteger % -1) .. math.abs(math.mininteger)")
LUA_ATTACK(X29_remainder_of_nothing, TOOL_ERROR, "'n%0'", "return 1 % 0")
LUA_ATTACK(X29_a_loop_at_the_end_of_integers, CONTAINED, "2",
           "local n = 0 for i = math.maxinteger - 1, math.maxinteger do n = n + 1 end return n")

/* Keys that collide: script_hash.c, and more of these in tests/sandbox/test_hash.c. */
LUA_ATTACK(B11_integers_that_collide, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 140000 do t[i * 131071] = true end return 1")
LUA_ATTACK(B11_floats_that_collide, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 20000 do t[0.5 + i * 2^-50] = true end return 1")
LUA_ATTACK(B11_a_long_chain_looked_through, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 3000 do t[i * 4095] = true end "
           "for i = 1, 200000 do local x = t[4095] end")
LUA_ATTACK(B11_a_list_counted_for_each_key, TOOL_ERROR, "ran out of fuel",
           "local t = {} for i = 1, 200000 do t[i] = true end "
           "for r = 9, 300000 do t[r * 325500] = true t[(r - 4) * 325500] = nil end")
LUA_ATTACK(B11_few_keys_that_collide, CONTAINED, "1",
           "local t = {} for i = 1, 3000 do t[i * 4095] = true end return 1")

ATTACK(X19_closures_over_190_locals)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    for (int i = 0; i < 190; i++)
        agon_buf_addf(&text, "local x%d ", i);
    agon_buf_adds(&text, "while true do local f = function() return x0");
    for (int i = 1; i < 190; i++)
        agon_buf_addf(&text, ", x%d", i);
    agon_buf_adds(&text, " end end");
    victim_expect_lua(agon_buf_str(&text), TOOL_ERROR, "ran out of fuel");
}
