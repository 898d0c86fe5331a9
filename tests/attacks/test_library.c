/*
 * The library at the ends of its arguments' ranges: positions behind every text, lists as long as
 * there are integers, numbers that no conversion expects. Each gives what the manual says, or an
 * error, and reads nothing but what it was given; the sanitizers see the unboxed run.
 */
#include "tests/attacks/victim.h"

/* ---- positions ---- */

LUA_ATTACK(X14_code_points_behind_the_end, TOOL_ERROR, "out of bounds",
           "return tostring(utf8.codepoint('abc', 5, 5))")
LUA_ATTACK(X14_code_points_far_behind_the_end, TOOL_ERROR, "out of bounds",
           "return tostring(utf8.codepoint('abc', 4000000, 4000000))")
LUA_ATTACK(X14_code_points_up_to_the_largest_integer, TOOL_ERROR, "out of bounds",
           "return tostring(utf8.codepoint('abc', 1, math.maxinteger))")
LUA_ATTACK(X14_code_points_of_no_text, TOOL_ERROR, "out of bounds",
           "return tostring(utf8.codepoint('', 1, 1))")
LUA_ATTACK(X14_a_length_from_the_smallest_integer, TOOL_ERROR, "initial position",
           "return tostring(utf8.len('abc', math.mininteger))")
LUA_ATTACK(X14_a_length_up_to_the_smallest_integer, CONTAINED, "0",
           "return tostring(utf8.len('abc', 1, math.mininteger))")
LUA_ATTACK(X14_a_length_up_to_the_largest_integer, TOOL_ERROR, "final position",
           "return tostring(utf8.len('abc', 1, math.maxinteger))")
LUA_ATTACK(X14_offsets_at_both_ends, CONTAINED, "nil nil 1 nil nil",
           "local t = {} for i, n in ipairs{math.maxinteger, math.mininteger, 1, 5, -4} do "
           "t[i] = tostring(utf8.offset('abc', n)) end return table.concat(t, ' ')")
LUA_ATTACK(X14_an_offset_from_the_smallest_integer, TOOL_ERROR, "position out of bounds",
           "return tostring(utf8.offset('abc', 1, math.mininteger))")
LUA_ATTACK(X14_an_offset_from_the_largest_integer, TOOL_ERROR, "position out of bounds",
           "return tostring(utf8.offset('abc', 1, math.maxinteger))")
LUA_ATTACK(X14_codes_from_any_place, CONTAINED, "nil nil out of bounds",
           "local step, s = utf8.codes('abc') local _, why = pcall(step, s, math.mininteger) "
           "return tostring((step(s, math.maxinteger))) .. ' ' .. tostring((step(s, 4))) .. ' ' .. "
           "why:match('out of bounds')")
LUA_ATTACK(X14_finding_from_both_ends, CONTAINED, "1 nil 1 nil",
           "local s, a, b = 'abc', math.mininteger, math.maxinteger "
           "return tostring(s:find('a', a)) .. ' ' .. tostring(s:find('a', b)) .. ' ' .. "
           "tostring(s:find('a', a, true)) .. ' ' .. tostring(s:find('', b, true))")
LUA_ATTACK(X14_matching_from_both_ends, CONTAINED, "a nil a nil",
           "local s, a, b = 'abc', math.mininteger, math.maxinteger "
           "return tostring(s:match('a', a)) .. ' ' .. tostring(s:match('a', b)) .. ' ' .. "
           "tostring((s:gmatch('a', a)())) .. ' ' .. tostring((s:gmatch('', b)()))")
LUA_ATTACK(X14_parts_from_both_ends, CONTAINED, "abc||abc|0|3",
           "local s, a, b = 'abc', math.mininteger, math.maxinteger return s:sub(a, b) .. '|' .. "
           "s:sub(b, a) .. '|' .. s:sub(a) .. '|' .. select('#', s:byte(b, a)) .. '|' .. "
           "select('#', s:byte(a, b))")

/* ---- lists as long as there are integers ---- */

/* Each power of two and the last integer: the border that `#` finds is the last integer. */
#define ENDLESS                                                            \
    "local t = {} for i = 0, 62 do t[1 << i] = i t[(1 << i) + 1] = i end " \
    "t[math.maxinteger] = 63 if #t ~= math.maxinteger then error(#t) end "
LUA_ATTACK(X15_inserting_behind_the_last_integer, TOOL_ERROR, "too long",
           ENDLESS "table.insert(t, 'x')")
LUA_ATTACK(X15_inserting_before_the_last_integer, TOOL_ERROR, "too long",
           ENDLESS "table.insert(t, math.maxinteger, 'x') return 'done'")
LUA_ATTACK(X15_removing_the_last_integer, TOOL_ERROR, "too long",
           ENDLESS "return table.remove(t) .. ' ' .. tostring(t[math.maxinteger] == nil)")
LUA_ATTACK(X15_removing_from_the_first_on, TOOL_ERROR, "too long", ENDLESS "table.remove(t, 1)")
LUA_ATTACK(X15_unpacking_them_all, TOOL_ERROR, "too many results", ENDLESS "return table.unpack(t)")
LUA_ATTACK(X15_unpacking_over_the_ends, TOOL_ERROR, "too many results",
           "return table.unpack({}, math.mininteger, math.maxinteger)")
LUA_ATTACK(X15_unpacking_at_the_last, CONTAINED, "63",
           ENDLESS "return tostring(table.unpack(t, math.maxinteger, math.maxinteger))")
LUA_ATTACK(X15_joining_at_the_last, CONTAINED, "63",
           "return table.concat({[math.maxinteger] = 63}, ',', math.maxinteger, math.maxinteger)")
LUA_ATTACK(X15_sorting_them_all, TOOL_ERROR, "array too big", ENDLESS "table.sort(t)")
LUA_ATTACK(X15_moving_them_all, TOOL_ERROR, "",
           ENDLESS "table.move(t, math.mininteger, math.maxinteger, 1)")
LUA_ATTACK(X15_moving_the_last, CONTAINED, "63",
           ENDLESS "return tostring(table.move(t, math.maxinteger, math.maxinteger, 1, {})[1])")
LUA_ATTACK(X15_stepping_behind_the_last, CONTAINED, "nil nil",
           "local step, t = pairs({1, 2}) return tostring(step(t, math.maxinteger)) .. ' ' .. "
           "tostring(step(t, math.mininteger))")
LUA_ATTACK(X15_selecting_at_the_ends, TOOL_ERROR, "index out of range",
           "return select(math.mininteger, 1, 2)")
LUA_ATTACK(X15_next_of_what_is_no_key, CONTAINED, "1 1 1 nil",
           "local t = {1, 2} return tostring(next(t, -math.huge)) .. ' ' .. "
           "tostring(next(t, math.mininteger)) .. ' ' .. tostring(next(t, 0/0)) .. ' ' .. "
           "tostring(next(t, math.huge))")

/* ---- numbers ---- */

LUA_ATTACK(X16_repeating_the_largest_number_of_times, TOOL_ERROR, "too large",
           "return ('x'):rep(math.maxinteger, 'yy')")
LUA_ATTACK(X16_repeating_nothing, CONTAINED, "0", "return tostring(#(''):rep(math.maxinteger, ''))")
LUA_ATTACK(X16_widths_of_two_digits, CONTAINED, "99 200 410",
           "return #string.format('%99d', 1) .. ' ' .. #string.format('%-99.99s|', 'x') + 100 .. "
           "' ' .. #string.format('%99.99f', -1.7976931348623157e308)")
LUA_ATTACK(X16_all_flags_at_once, CONTAINED, "+1.0000|0x1.p-1",
           "return string.format('%-+ #0.4f|%-#0a', 1, 0.5)")
LUA_ATTACK(X16_a_width_of_three_digits, TOOL_ERROR, "invalid conversion",
           "return string.format('%100d', 1)")
LUA_ATTACK(X16_a_conversion_at_the_end, TOOL_ERROR, "invalid conversion",
           "return string.format('%99.99', 1)")
LUA_ATTACK(X16_a_nul_in_a_conversion, TOOL_ERROR, "invalid conversion",
           "return string.format('%\\0s', 1)")
LUA_ATTACK(X16_a_number_of_arguments_that_are_not_there, TOOL_ERROR, "no value",
           "return string.format(('%d'):rep(300))")
LUA_ATTACK(X16_a_float_for_an_integer, TOOL_ERROR, "no integer representation",
           "return string.format('%d', 1e300)")
LUA_ATTACK(
    X16_the_smallest_integer, CONTAINED, "-9223372036854775808 0 -9223372036854775808",
    "local m = math.mininteger return tostring(m // -1) .. ' ' .. tostring(m % -1) .. ' ' .. "
    "tostring(math.abs(m))")
LUA_ATTACK(X16_remainders_of_the_smallest, CONTAINED, "0 0",
           "local m = math.mininteger return tostring(math.fmod(m, -1)) .. ' ' .. "
           "tostring(math.fmod(m, m))")
LUA_ATTACK(X16_numerals_in_odd_bases, TOOL_ERROR, "base out of range",
           "return tonumber('z', math.mininteger)")
LUA_ATTACK(
    X16_numerals_that_are_too_long, CONTAINED, "number true",
    "return type(tonumber(('9'):rep(400))) .. ' ' .. tostring(tonumber(('9'):rep(40), 36) ~= "
    "nil)")
LUA_ATTACK(X16_a_loop_over_both_ends, TOOL_ERROR, "ran out of fuel",
           "for i = math.mininteger, math.maxinteger do end")
LUA_ATTACK(X16_a_loop_without_a_step, TOOL_ERROR, "'for' step is zero", "for i = 1, 2, 0 do end")
LUA_ATTACK(X16_a_loop_that_would_go_round, CONTAINED, "2",
           "local n = 0 for i = math.maxinteger - 1, math.maxinteger do n = n + 1 end return n")
LUA_ATTACK(
    X16_shifts_by_any_number, CONTAINED, "0 0 0 0",
    "local a, b = math.mininteger, math.maxinteger return (1 << a) .. ' ' .. (1 << b) .. ' ' "
    ".. (1 >> a) .. ' ' .. (1 >> b)")
LUA_ATTACK(X16_numbers_as_texts_at_the_ends, CONTAINED, "-9223372036854775808 9.2233720368548e+18",
           "return ('9223372036854775807' + 1) .. ' ' .. ('9223372036854775808' + 0)")
