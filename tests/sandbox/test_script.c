/* What the restricted Lua gives to honest code. */
#include "tests/sandbox/script_help.h"

TEST(runs_text_chunks_and_reports_errors_with_their_line)
{
    GIVES("return 1 + 2", "3");
    ENDS("local x\nreturn x.y", AGON_SCRIPT_ERROR, "code:2: attempt to index a nil value");
    ENDS("return +", AGON_SCRIPT_SYNTAX, "code:1: unexpected symbol");
    ENDS("error{message='no such room'}", AGON_SCRIPT_ERROR, "no such room");
    ENDS("error{}", AGON_SCRIPT_ERROR, "table");
    ENDS("error(setmetatable({}, {__tostring=function() return 'mine' end}))", AGON_SCRIPT_ERROR,
         "mine");
    ENDS("error()", AGON_SCRIPT_ERROR, "nil");
    ENDS("error('a\\0\\27[2J\\xff', 0)", AGON_SCRIPT_ERROR, "a??[2J?");
}

TEST(pairs_gives_numbers_then_strings_then_booleans)
{
    GIVES("local o = {} for k in pairs{z=1, a=1, [true]=1, [3]=1, [-1.5]=1, [1]=1, aa=1, "
          "[false]=1} do o[#o+1] = tostring(k) end return table.concat(o, ' ')",
          "-1.5 1 3 a aa z false true");
    GIVES("local o = {} for k, v in pairs{10, 20, nil, 40} do o[#o+1] = k .. '=' .. v end "
          "return table.concat(o, ' ')",
          "1=10 2=20 4=40");
    GIVES("local o = {} for k in next, {c=1, b=1, [2]=1} do o[#o+1] = k end "
          "return table.concat(o, ' ')",
          "2 b c");
    GIVES(
        "local o = {} for k in pairs{[2^53]=1, [math.maxinteger]=1, [2^63]=1, [-2^63]=1, "
        "[1e300]=1, [math.mininteger+1]=1} do o[#o+1]=tostring(k) end return table.concat(o, ' ')",
        "-9223372036854775808 -9223372036854775807 9007199254740992 9223372036854775807 "
        "9.2233720368548e+18 1e+300");
    GIVES("return next{}", "nil");
    ENDS("for k in pairs{[{}]=1} do end", AGON_SCRIPT_ERROR, "a key that is a table has no order");
}

TEST(pairs_allows_removal_while_it_runs)
{
    GIVES("local t = {a=1, b=2, c=3, 7, 8} local n = 0 "
          "for k in pairs(t) do n = n + 1 t[k] = nil t.b = nil end return n .. tostring(next(t))",
          "4nil");
    GIVES("local t = {1, 2, 3, 4} local n = 0 for k in pairs(t) do n = n + 1 t[k + 1] = nil end "
          "return n",
          "2");
}

TEST(metatables_work_through_their_copy)
{
    GIVES("local A = {} A.__index = A function A.f() return 'A.f' end "
          "local B = setmetatable({}, A) B.__index = B "
          "local o = setmetatable({}, B) return o.f()",
          "A.f");
    GIVES("local m = {__add=function(a, b) return a.v + b.v end} "
          "local function n(v) return setmetatable({v=v}, m) end return n(2) + n(3)",
          "5");
    GIVES("local m = {} local t = setmetatable({}, m) return tostring(getmetatable(t) == m)",
          "true");
    GIVES("local m = {__index={x=1}} local t = setmetatable({}, m) m.__index = {x=2} "
          "local u = setmetatable({}, m) return t.x + u.x",
          "4");
    GIVES("local t = setmetatable({}, {__newindex=function(t, k, v) rawset(t, k, v * 2) end}) "
          "t.a = 2 return t.a",
          "4");
    GIVES("local log = {} local t = setmetatable({}, {__newindex=log}) t.a = 5 "
          "return tostring(rawget(t, 'a')) .. log.a",
          "nil5");
    GIVES("local m = {__len=function() return 9 end, __call=function(self, x) return x + 1 end} "
          "local t = setmetatable({}, m) return #t + t(1)",
          "11");
    GIVES("local m = {__index=function() return 1 end} local t = setmetatable({}, m) "
          "m.__index = nil setmetatable(t, m) return tostring(t.x)",
          "nil");
    GIVES("local o = {} for k in pairs(getmetatable(setmetatable({}, {__eq=rawequal}))) do "
          "o[#o+1]=k end return o[1] .. #o",
          "__eq1");
    ENDS("setmetatable(setmetatable({}, {__metatable='x'}), {})", AGON_SCRIPT_ERROR, "protected");
    GIVES("return getmetatable(setmetatable({}, {__metatable='x'}))", "x");
}

TEST(strings_do_what_the_manual_says)
{
    GIVES("return ('hello world'):find('o w')", "5");
    GIVES("return table.concat({('key = value'):match('^(%w+)%s*=%s*(%w+)$')}, ',')", "key,value");
    GIVES("return (('abc'):gsub('%w', '%0%0'))", "aabbcc");
    GIVES("return (('hello world'):gsub('o', {o='0'}))", "hell0 w0rld");
    GIVES("return (('abc'):gsub('', '-'))", "-a-b-c-");
    GIVES("return (('hello'):gsub('l', function(c) return nil end))", "hello");
    GIVES("local o = {} for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do o[#o+1] = k .. v end "
          "return table.concat(o, ' ')",
          "a1 b2");
    GIVES("return ('THE (quick) fox'):find('%((%a+)%)')", "5");
    GIVES("return ('f(a(b)c)d'):match('%b()')", "(a(b)c)");
    GIVES("return (('THE (quick) fox'):gsub('%f[%a]%a+', 'x'))", "x (x) x");
    GIVES("return string.format('%5.2f|%-5d|%05d|%x|%s|%q|%%|%g', 3.14159, 42, 42, 255, 'hi', "
          "'a\\n\"', 0.1)",
          " 3.14|42   |00042|ff|hi|\"a\\\n\\\"\"|%|0.1");
    GIVES("return string.format('%s %s %s', nil, true, 1.0)", "nil true 1.0");
    GIVES("return string.rep('ab', 3, ',')", "ab,ab,ab");
    GIVES("return ('abc'):upper():lower():reverse():len()", "3");
    GIVES("return ('abc'):sub(-2) .. ('abc'):sub(2, 2) .. ('abc'):sub(0, 1)", "bcba");
    GIVES("return string.char(('AB'):byte(1, -1))", "AB");
    GIVES("return '10' + 1 .. ' ' .. -'2' .. ' ' .. '3' * '4'", "11 -2 12");
    GIVES("return #('x'):rep(1000)", "1000");
    ENDS("return ('x'):rep({})", AGON_SCRIPT_ERROR, "to 'rep' (number expected, got table)");
    ENDS("return string.format('%p', {})", AGON_SCRIPT_ERROR, "invalid conversion '%p'");
    ENDS("return string.format('%------d', 1)", AGON_SCRIPT_ERROR, "invalid conversion '%------d'");
    GIVES("return string.format('%-----2dx', 1)", "1 x");
    ENDS("table.move({1, 2}, 1, 2, math.maxinteger)", AGON_SCRIPT_ERROR, "destination wrap around");
    GIVES("return table.move({1, 2}, 1, 2, math.maxinteger - 1)[math.maxinteger]", "2");
    ENDS("return ('x'):find('[a')", AGON_SCRIPT_ERROR, "malformed pattern (missing ']')");
    ENDS("return ('x'):find('%')", AGON_SCRIPT_ERROR, "malformed pattern (ends with '%')");
}

TEST(tables_do_what_the_manual_says)
{
    GIVES("local t = {3, 1, 2} table.sort(t) return table.concat(t, ' ')", "1 2 3");
    GIVES("local t = {} for i = 1, 1000 do t[i] = (i * 7919) % 1009 end "
          "table.sort(t, function(a, b) return a > b end) "
          "for i = 2, 1000 do assert(t[i - 1] >= t[i]) end return #t",
          "1000");
    GIVES("local t = {} for i = 1, 100 do t[i] = {k = i % 3, i = i} end "
          "table.sort(t, function(a, b) return a.k < b.k end) "
          "for i = 2, 100 do assert(t[i-1].k < t[i].k or t[i-1].i < t[i].i) end return 'stable'",
          "stable");
    GIVES("local t = {1, 2, 3} table.insert(t, 4) table.insert(t, 1, 0) "
          "return table.concat(t, ' ') .. table.remove(t) .. table.remove(t, 1) .. #t",
          "0 1 2 3 4403");
    GIVES("return tostring(table.remove({}))", "nil");
    GIVES("return table.concat(table.move({1, 2, 3}, 1, 3, 2), ' ')", "1 1 2 3");
    GIVES("return select('#', table.unpack({1, nil, 3}, 1, 3))", "3");
    GIVES("return table.pack(1, nil, 3).n", "3");
    GIVES("return table.concat({1, 'a', 2.5}, '-', 2, 3)", "a-2.5");
    ENDS("table.concat{{}}", AGON_SCRIPT_ERROR,
         "invalid value (a table at index 1) in table for 'concat'");
    ENDS("table.insert({}, 5, 1)", AGON_SCRIPT_ERROR, "position out of bounds");
    ENDS("table.sort{1, 'a'}", AGON_SCRIPT_ERROR, "attempt to compare");
    ENDS("table.insert(nil, 1)", AGON_SCRIPT_ERROR,
         "bad argument #1 to 'insert' (table expected, got nil)");
}

TEST(utf8_does_what_the_manual_says)
{
    GIVES("return utf8.len('h\u00e9llo')", "5");
    GIVES("return utf8.char(72, 233, 0x4e2d, 0x1f600)", "H\u00e9\u4e2d\U0001f600");
    GIVES("return utf8.codepoint('\u4e2d')", "20013");
    GIVES("local o = {} for p, c in utf8.codes('a\u4e2db') do o[#o+1] = p .. ':' .. c end "
          "return table.concat(o, ' ')",
          "1:97 2:20013 5:98");
    GIVES("local s = 'a\u4e2db' return utf8.offset(s, 3) .. utf8.offset(s, -1) .. utf8.offset(s, "
          "0, 3)",
          "552");
    GIVES("local n = 0 for c in ('a\u4e2db'):gmatch(utf8.charpattern) do n = n + 1 end return n",
          "3");
    GIVES("local ok, at = utf8.len('a\\xff') return tostring(ok) .. at", "nil2");
}

TEST(pcall_catches_errors_of_the_code)
{
    GIVES("local ok, e = pcall(error, 'x') return tostring(ok) .. e", "falsex");
    GIVES("local ok, e = pcall(error, {1}) return e[1]", "1");
    GIVES("return select('#', pcall(function() return 1, 2, 3 end))", "4");
}

static int charge_fn(lua_State *L, void *arg)
{
    agon_script_charge(L, *(int64_t *)arg);
    return 0;
}

static int fail_fn(lua_State *L, void *arg)
{
    (void)L;
    (void)arg;
    return AGON_EINPUT;
}

TEST(fuel_is_fresh_for_each_entry_and_can_be_shared)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    char reason[64];
    int64_t most = 1000, over = 1001;
    REQUIRE(agon_script_new(&s, &(struct agon_script_limits){.fuel_max = 1000}, &err) == 0);
    EXPECT(agon_script_protect(s, charge_fn, &most, reason, sizeof(reason), &err) ==
           AGON_SCRIPT_OK);
    EXPECT(agon_script_fuel(s) == 0);
    EXPECT(agon_script_protect(s, charge_fn, &most, reason, sizeof(reason), &err) ==
           AGON_SCRIPT_OK);
    EXPECT(agon_script_protect(s, charge_fn, &over, reason, sizeof(reason), &err) ==
           AGON_SCRIPT_FUEL);
    EXPECT_HAS(reason, "ran out of fuel");
    agon_script_set_fuel(s, 5000);
    EXPECT(agon_script_protect(s, charge_fn, &over, reason, sizeof(reason), &err) ==
           AGON_SCRIPT_OK);
    EXPECT(agon_script_fuel(s) == 3999);
    EXPECT(agon_script_protect(s, fail_fn, NULL, reason, sizeof(reason), &err) == AGON_EINPUT);
}

static int abort_in_pcall(lua_State *L)
{
    agon_script_abort(L, "too many rows");
}

static int abort_fn(lua_State *L, void *arg)
{
    (void)arg;
    lua_pushcfunction(L, abort_in_pcall);
    lua_setglobal(L, "stop");
    agon_script_run_chunk(L, "=code", agon_str("pcall(stop) while true do end"), 0);
    return 0;
}

TEST(an_abort_passes_through_pcall)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    char reason[64];
    REQUIRE(agon_script_new(&s, NULL, &err) == 0);
    EXPECT(agon_script_protect(s, abort_fn, NULL, reason, sizeof(reason), &err) ==
           AGON_SCRIPT_LIMIT);
    EXPECT_HAS(reason, "too many rows");
}

/* Two loops of as many instructions; what the second does a thousand times takes so much more. */
TEST(work_within_an_instruction_costs_fuel)
{
    static const struct {
        const char *start, *cheap, *dear;
        int64_t more;
    } rows[] = {
        {"", "local y = 1.7e308 % 1.1e307", "local y = 1.7e308 % 5e-324", 30000},
        {"", "local a = 1 local f = function() return b end",
         "local a = 1 local f = function() return a end", 3500},
        {"local s, t = ('x'):rep(3200), ('x'):rep(3201) local u = s .. 'x'", "local y = s == u",
         "local y = t == u", 12000},
        {"local s, t = ('x'):rep(32), ('x'):rep(3200)", "local y = s < s .. ''",
         "local y = t < t .. ''", 90000},
        {"local s, t = ('x'):rep(64), ('x'):rep(6464)", "local y = s .. i", "local y = t .. i",
         95000},
        {"", "local y = tostring(1.5)", "local y = tostring(1e300)", 30000},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char code[2][512];
        struct trial t[2];
        for (int k = 0; k < 2; k++) {
            snprintf(code[k], sizeof(code[k]), "%s for i = 1, 1000 do %s end", rows[i].start,
                     k ? rows[i].dear : rows[i].cheap);
            t[k] = trial(code[k]);
            EXPECT(t[k].end == 0);
        }
        EXPECT(t[1].fuel_used - t[0].fuel_used >= rows[i].more);
    }
    char remark[400] = "--";
    memset(remark + 2, 'x', sizeof(remark) - 3);
    EXPECT(trial(remark).fuel_used - trial("").fuel_used >= 390);
}

TEST(restore_brings_the_heap_back)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    REQUIRE(agon_script_new(&s, NULL, &err) == 0);
    EXPECT(trial_in(s, agon_str("kept = {1, 2, 3}")).end == 0);
    REQUIRE(agon_script_snapshot(s, &err) == 0);
    int64_t fuel = 0;
    for (int i = 0; i < 100; i++) {
        struct trial t =
            trial_in(s, agon_str("local n = #kept kept[#kept + 1] = 1 string.format = nil "
                                 "leak = ('x'):rep(1e5) local t = {} for i = 1, 1000 do t[i] = {i} "
                                 "end pairs = nil return n .. tostring(left)"));
        EXPECT(t.end == 0 && strcmp(t.text, "3nil") == 0);
        EXPECT(i == 0 || t.fuel_used == fuel);
        fuel = t.fuel_used;
        agon_script_restore(s);
    }
    int end = trial_in(s, agon_str("while true do kept = {kept} end")).end;
    EXPECT(end == AGON_SCRIPT_MEMORY || end == AGON_SCRIPT_FUEL);
    agon_script_restore(s);
    EXPECT(strcmp(trial_in(s, agon_str("return #kept .. type(pairs) .. type(leak)")).text,
                  "3functionnil") == 0);
}
