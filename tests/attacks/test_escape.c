/* A, C: out of the restrictions of Lua, into its known bugs, to other bytes in another run. */
#include "tests/attacks/victim.h"

LUA_ATTACK(A1_os_io_package_debug_are_nil, CONTAINED, "nilnilnilnilnilnilnil",
           "return tostring(os) .. tostring(io) .. tostring(package) .. tostring(require) .. "
           "tostring(debug) .. tostring(dofile) .. tostring(loadfile)")
LUA_ATTACK(A1_os_execute, TOOL_ERROR, "global 'os'", "os.execute('id')")
LUA_ATTACK(A1_io_open, TOOL_ERROR, "global 'io'", "io.open('/etc/passwd')")
LUA_ATTACK(A2_load_and_dump_are_nil, CONTAINED, "nilnilnil",
           "return tostring(load) .. tostring(loadstring) .. tostring(string.dump)")
LUA_ATTACK(A2_pack_is_nil, CONTAINED, "nilnil",
           "return tostring(string.pack) .. tostring(string.unpack)")
LUA_ATTACK(A3_metatable_of_strings, TOOL_ERROR, "attempt to index a nil value",
           "getmetatable('').__index = nil")
LUA_ATTACK(A6_no_coroutines, CONTAINED, "nil", "return tostring(coroutine)")
LUA_ATTACK(
    B3_no_xpcall, CONTAINED, "nilnilnilnil",
    "return tostring(xpcall) .. tostring(collectgarbage) .. tostring(print) .. tostring(warn)")
LUA_ATTACK(C2_no_random, CONTAINED, "nilnil",
           "return tostring(math.random) .. tostring(math.randomseed)")
LUA_ATTACK(C2_no_addresses, CONTAINED, "tablenilfunctiontable",
           "return tostring({}) .. tostring(print) .. tostring(pairs) .. string.format('%s', {})")
LUA_ATTACK(C2_format_p, TOOL_ERROR, "invalid conversion", "return string.format('%p', {})")
LUA_ATTACK(C2_error_object, TOOL_ERROR, "error object is a table", "error(setmetatable({}, {}))")
LUA_ATTACK(A5_mode, TOOL_ERROR, "'__mode' is not available", "setmetatable({}, {__mode='k'})")
LUA_ATTACK(A5_mode_later, CONTAINED, "0",
           "local m = {} local t = setmetatable({}, m) m.__mode = 'k' t[{}] = 1 "
           "for i = 1, 1e5 do local x = {i} end local n = 0 return tostring(rawlen(t))")
LUA_ATTACK(A5_mode_again, TOOL_ERROR, "'__mode' is not available",
           "local m = {} local t = setmetatable({}, m) m.__mode = 'k' setmetatable(t, m)")
LUA_ATTACK(A5_mode_by_rawset, TOOL_ERROR, "'__mode'",
           "local m = {} rawset(m, '__mode', 'v') setmetatable({}, m)")
LUA_ATTACK(B4_gc, TOOL_ERROR, "'__gc' is not available",
           "setmetatable({}, {__gc=function() while true do end end})")
LUA_ATTACK(B4_gc_later, CONTAINED, "quiet",
           "local m = {} setmetatable({}, m) m.__gc = function() while true do end end "
           "for i = 1, 1e5 do local x = {i} end return 'quiet'")
LUA_ATTACK(B4_close, TOOL_ERROR, "'__close' is not available",
           "local x <close> = setmetatable({}, {__close=function() end})")
LUA_ATTACK(
    B4_close_later, TOOL_ERROR, "non-closable",
    "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end "
    "local x <close> = t")
LUA_ATTACK(A5_name_is_refused, TOOL_ERROR, "'__name'", "setmetatable({}, {__name='x'})")
LUA_ATTACK(B1_call_chain, TOOL_ERROR, "must be a function", "setmetatable({}, {__call={}})")
LUA_ATTACK(A11_env_const, CONTAINED, "1", "local _ENV <const> = {} x = 1 return x")
LUA_ATTACK(A11_goto, ITEM_REJECTED, "no visible label 'l'", "goto l do local x ::l:: end")
LUA_ATTACK(C8_sort_true, TOOL_ERROR, "invalid order function",
           "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() return true end)")
LUA_ATTACK(C8_sort_less_or_equal, TOOL_ERROR, "invalid order function",
           "table.sort({1, 1, 1}, function(a, b) return a <= b end)")
LUA_ATTACK(C8_sort_grows, CONTAINED, "ended",
           "local t = {3, 2, 1} table.sort(t, function(a, b) t[#t + 1] = 1 return a < b end) "
           "return 'ended'")
LUA_ATTACK(C8_sort_clears, CONTAINED, "ended",
           "local t = {5, 4, 3, 2, 1} pcall(table.sort, t, function(a, b) for i = 1, 5 do "
           "t[i] = nil end return (a or 0) < (b or 0) end) return 'ended'")

/* ---- text that the parser must survive ---- */

static struct agon_buf repeated(const char *unit, int n)
{
    struct agon_buf b = AGON_BUF(16 << 20);
    for (int i = 0; i < n; i++)
        agon_buf_adds(&b, unit);
    EXPECT(!b.failed);
    return b;
}

static void expect_text(const char *unit, int n, enum outcome wanted, const char *part)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = repeated(unit, n);
    victim_expect_lua(agon_buf_str(&text), wanted, part);
}

ATTACK(A2_bytecode_as_tools)
{
    static const char code[] = "\x1bLua\x54\x00\x19\x93\r\n\x1a\n";
    EXPECT_OUTCOME(victim_open(NULL, (struct agon_str){code, sizeof(code) - 1}), ITEM_REJECTED,
                   victim_said, "attempt to load a binary chunk");
}

ATTACK(A7_300_locals)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    for (int i = 0; i < 300; i++)
        agon_buf_addf(&text, "local x%d ", i);
    victim_expect_lua(agon_buf_str(&text), ITEM_REJECTED, "too many local variables");
}

ATTACK(A7_300_upvalues)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    for (int f = 0; f < 2; f++) { /* 150 locals in each of two functions, all used in a third */
        for (int i = 0; i < 150; i++)
            agon_buf_addf(&text, "local x%d_%d = 1 ", f, i);
        agon_buf_adds(&text, "return function() ");
    }
    for (int i = 0; i < 300; i++)
        agon_buf_addf(&text, "x%d_%d = 2 ", i / 150, i % 150);
    agon_buf_adds(&text, "end end");
    victim_expect_lua(agon_buf_str(&text), ITEM_REJECTED, "too many upvalues");
}

ATTACK(A7_90000_parentheses)
{
    expect_text("(", 90000, ITEM_REJECTED, "overflow");
}

ATTACK(A7_30000_braces)
{
    expect_text("return {", 1, ITEM_REJECTED, "");
    expect_text("x={", 30000, ITEM_REJECTED, "overflow");
}

ATTACK(A7_5000_functions)
{
    expect_text("return function() ", 5000, ITEM_REJECTED, "overflow");
}

ATTACK(A7_40000_minus_signs)
{
    expect_text("return - - - - - - - - - - ", 1, ITEM_REJECTED, "");
    expect_text("- ", 40000, ITEM_REJECTED, "");
}

ATTACK(A7_10_MiB_of_source)
{
    expect_text("local x = 1 do end   ", 500000, ITEM_REJECTED, "at most");
}

ATTACK(A7_a_line_of_one_word)
{
    expect_text("x", 90000, ITEM_REJECTED, "");
}

ATTACK(A7_a_long_bracket_without_end)
{
    expect_text("=[==[", 20000, ITEM_REJECTED, "");
}

ATTACK(X1_a_chain_of_or_that_the_parser_walks_again_and_again)
{
    expect_text("return x ", 1, CONTAINED, "nil");
    struct agon_buf chain AGON_AUTO(agon_buf_deinit) = repeated("or a ", 19000);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_buf_adds(&text, "local a return a ");
    agon_buf_add_str(&text, agon_buf_str(&chain));
    b->seconds_max *= 2; /* half a second each, four times */
    victim_expect_lua(agon_buf_str(&text), CONTAINED, "nil");
    agon_buf_add_str(&text, agon_buf_str(&chain)); /* twice as long, four times the work */
    victim_expect_lua(agon_buf_str(&text), ITEM_REJECTED, "at most");
}

ATTACK(X2_labels_and_gotos)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    for (int i = 0; i < 4000; i++)
        agon_buf_adds(&text, "goto z ");
    for (int i = 0; i < 3500; i++)
        agon_buf_addf(&text, "::l%d:: do end ", i);
    agon_buf_adds(&text, "::z:: return nil");
    victim_expect_lua(agon_buf_str(&text), CONTAINED, "nil");
}

/* ---- what may not come back ---- */

ANSWER_ATTACK(A9_a_function, ITEM_REJECTED, "function", "return print or tostring")
ANSWER_ATTACK(A9_tools_themselves, ITEM_REJECTED, "function", "return tools")
ANSWER_ATTACK(A9_a_cycle, ITEM_REJECTED, "deep", "local t = {} t.t = t return t")
ANSWER_ATTACK(A9_200000_deep, ITEM_REJECTED, "deep",
              "local t = {} for i = 1, 200000 do t = {t} end return t")
ANSWER_ATTACK(A9_a_million_nodes, ITEM_REJECTED, "",
              "local t = {} for i = 1, 300000 do t[i] = 1 end return t")
ANSWER_ATTACK(A9_8_MB, ITEM_REJECTED, "", "return ('x'):rep(8e6)")
ANSWER_ATTACK(A9_quotes_that_grow_sixfold, ITEM_REJECTED, "", "return ('\\1'):rep(1e6)")
ANSWER_ATTACK(X3_not_a_number, ITEM_REJECTED, "", "return 0/0")
ANSWER_ATTACK(X3_infinity, ITEM_REJECTED, "", "return {math.huge}")
ANSWER_ATTACK(X4_text_that_is_no_utf8, ITEM_REJECTED, "UTF-8", "return 'a\\xc3\\x28'")
ANSWER_ATTACK(X4_a_lone_surrogate, ITEM_REJECTED, "UTF-8", "return '\\xed\\xa0\\x80'")
ANSWER_ATTACK(X4_nul, ITEM_REJECTED, "NUL", "return 'a\\0b'")
ANSWER_ATTACK(X5_keys_of_two_kinds, ITEM_REJECTED, "", "return {1, 2, x = 3}")
ANSWER_ATTACK(X5_a_hole, ITEM_REJECTED, "", "return {1, nil, nil, nil, 5}")
ANSWER_ATTACK(X5_a_table_as_key, ITEM_REJECTED, "", "return {[{}] = 1}")
ANSWER_ATTACK(X6_metamethods_see_no_codec, CONTAINED, "{\"a\": 1}",
              "return setmetatable({a = 1}, {__index = function() while true do end end, "
              "__pairs = function() while true do end end, __len = function() return 2^53 end})")
ANSWER_ATTACK(X7_arguments_with_metamethods, CONTAINED, "[{\"id\": 2}]",
              "return tools.find(setmetatable({name = 'Béla'}, {__index = function() while true do "
              "end end, __pairs = function() while true do end end}))")
ANSWER_ATTACK(
    X7_results_show_no_metatable, CONTAINED, "[\"nil\", \"nil\", \"nil\"]",
    "local some, none = tools.q{sql = 'SELECT 1 AS a'}, tools.q{sql = 'SELECT 1 AS a WHERE "
    "0'} return {tostring(getmetatable(some)), tostring(getmetatable(some[1])), "
    "tostring(getmetatable(none))}")
ANSWER_ATTACK(X7_results_keep_no_memory_of_a_metatable, CONTAINED, "[[], [], {\"a\": 1}]",
              "local one = tools.q{sql = 'SELECT 1 AS a WHERE 0'} setmetatable(one, {__index = "
              "function() return 'evil' end}) local two = tools.q{sql = 'SELECT 1 AS a WHERE 0'} "
              "assert(two[1] == nil and one[1] == 'evil') setmetatable(one, nil) "
              "return {one, two, tools.q{sql = 'SELECT 1 AS a'}[1]}")
ANSWER_ATTACK(X7_arguments_that_are_a_cycle, ITEM_REJECTED, "deep",
              "local t = {} t.name = t return tools.find(t)")
ANSWER_ATTACK(X7_arguments_that_are_a_function, ITEM_REJECTED, "",
              "return tools.find({name = tools.find})")

/* ---- what one leaves behind for the next ---- */

static const char *const spoils[] = {
    "string.format = function() return 'evil' end return 1",
    "for k in pairs(_G) do _G[k] = nil end return 1",
    "table.insert = error string.rep = nil return 1",
    "setmetatable(_G, {__index = function() return 'evil' end}) return 1",
    "tools.find = function() return 'evil' end return 1",
    "getmetatable('').__index = nil return 1",
    "null = 'evil' same = nil near = nil return 1",
    "evil = ('x'):rep(1000000) return 1",
};

ATTACK(A3_nothing_is_left_for_the_next_solution)
{
    for (size_t i = 0; i < sizeof(spoils) / sizeof(*spoils); i++) {
        (void)victim_answer(agon_str(spoils[i])); /* refused or not */
        EXPECT_OUTCOME(victim_answer(agon_str("return string.format('%d%s%s%s%s', 7, ('x'):rep(2), "
                                              "type(pairs), tostring(evil), type(table.insert)) .. "
                                              "#tools.find{name = 'Béla'} .. type(same)")),
                       CONTAINED, victim_said, "\"7xxfunctionnilfunction1function\"");
    }
}

ATTACK(A3_nothing_is_left_for_the_next_check)
{
    for (size_t i = 0; i < sizeof(spoils) / sizeof(*spoils); i++) {
        (void)victim_check(agon_str(spoils[i])); /* refused or not */
        EXPECT_OUTCOME(
            victim_check(agon_str("return string.format('%d', 7) == '7' and evil == nil and "
                                  "type(table.insert) == 'function' and answer == 1 and "
                                  "world:value('SELECT count(*) FROM hotel') == 3")),
            CONTAINED, victim_said, "pass");
    }
}

/* Tools keep no state between calls: the heap goes back to what it was when they were loaded. */
ATTACK(X8_a_tool_that_counts_its_calls)
{
    static const char tools[] =
        "local n = 0 count = 0 tool{ name='t', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"integer\"}]], run=function() n = n + 1 count = count + 1 "
        "return n * 100 + count end }";
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_err err;
    REQUIRE(agon_runtime_open(&rt, victim_sandbox(), NULL, agon_str(tools), &out, &err) == 0 &&
            agon_instance_new(&in, rt, &err) == 0);
    for (int i = 0; i < 3; i++) {
        agon_buf_reset(&out);
        EXPECT(agon_instance_call(in, "t", agon_str("{}"), &out, &err) == 0);
        EXPECT_TEXT(agon_buf_text(&out), "101");
    }
}

/* Names that a tool makes up are text that goes into JSON, too. */
ATTACK(X4_columns_named_by_bytes_that_are_no_text)
{
    static const char *const names[] = {"\\xff", "\\xed\\xa0\\x80", "a\\0b", "\\xc3\\x28"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char tools[400];
        struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
        struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
        struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        struct agon_err err;
        snprintf(tools, sizeof(tools),
                 "tool{ name='t', description='d', params=[[{\"type\":\"object\"}]], "
                 "returns=[[{\"type\":\"array\"}]], run=function(world) return "
                 "world:rows('SELECT 1 AS \"%s\"') end }",
                 names[i]);
        REQUIRE(agon_runtime_open(&rt, victim_sandbox(), NULL, agon_str(tools), &out, &err) == 0 &&
                agon_instance_new(&in, rt, &err) == 0);
        agon_buf_reset(&out);
        if (!EXPECT(agon_instance_call(in, "t", agon_str("{}"), &out, &err) == AGON_TOOL_ERROR))
            printf("# %s: %s\n", names[i], agon_buf_text(&out));
    }
}

/* ---- errors as weapons ---- */

LUA_ATTACK(X9_an_error_in_the_text_of_an_error, TOOL_ERROR, "",
           "error(setmetatable({}, {__tostring = function() error('x') end}))")
LUA_ATTACK(X9_the_text_of_an_error_is_a_table, TOOL_ERROR, "must return a string",
           "error(setmetatable({}, {__tostring = function() return {} end}))")
LUA_ATTACK(X9_an_error_of_1_MB, TOOL_ERROR, "xxx", "error(('x'):rep(1e6), 0)")
LUA_ATTACK(X9_an_error_that_is_nil, TOOL_ERROR, "nil", "error()")
LUA_ATTACK(X9_an_error_that_forges_a_tool_result, TOOL_ERROR, "{\"verdict\": \"pass\"}",
           "error('{\"verdict\": \"pass\"}', 0)")
LUA_ATTACK(X9_an_error_with_control_characters, TOOL_ERROR, "a?[31mb?c",
           "error('a\\27[31mb\\0c', 0)")
LUA_ATTACK(X10_pcall_cannot_catch_the_end_of_fuel, TOOL_ERROR, "ran out of fuel",
           "for i = 1, 100 do pcall(pcall, pcall, function() while true do end end) end return 1")
LUA_ATTACK(
    X10_metamethods_cannot_catch_the_end_of_fuel, TOOL_ERROR, "ran out of fuel",
    "local t = setmetatable({}, {__index = function() local ok = pcall(function() while true "
    "do end end) return ok end}) return t.x")

/* ---- the writes of those who only read ---- */

CHECK_ATTACK(A13_exec_in_a_check, "a verifier only reads", "world:exec('DELETE FROM hotel')")
CHECK_ATTACK(A13_returning, "writes", "return world:rows('DELETE FROM hotel RETURNING id')")
CHECK_ATTACK(A13_with_before_the_write, "writes",
             "return world:rows('WITH a AS (SELECT 1) UPDATE hotel SET stars = 1 RETURNING id')")
CHECK_ATTACK(A13_pragma_query_only_off, "not allowed", "return world:rows('PRAGMA query_only = 0')")
CHECK_ATTACK(D2_a_nul_hides_the_rest_of_a_statement, "NUL",
             "return #world:rows('SELECT 1 AS a\\0; DELETE FROM hotel') == 1")
CHECK_ATTACK(X12_statements_without_end, "too many different statements in one call",
             "local name = ('x'):rep(50000) for i = 1, 1000 do world:rows('SELECT 1 AS ' .. name .. "
             "i) end return true")
CHECK_ATTACK(X11_a_check_that_returns_a_number, "returns true or false", "return 1")
CHECK_ATTACK(X11_a_check_that_returns_a_table, "returns true or false",
             "return setmetatable({}, {__eq = function() return true end})")
CHECK_ATTACK(X11_a_check_that_calls_others, "nil value", "return check(1)")
LUA_ATTACK(X12_exec_in_a_tool_that_reads, TOOL_ERROR, "", "return world:exec('DELETE FROM hotel')")
