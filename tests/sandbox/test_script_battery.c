/*
 * The attack battery, sections A, B, C and E of the threat model as far as they are
 * Lua's: each snippet must end by itself, in the expected way and in bounded time.
 */
#include "tests/sandbox/script_help.h"

#include <lualib.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { ANY = -100 }; /* any way of ending but a hang */

struct attack {
    const char *id, *code;
    int end;
    const char *part; /* of the reason, or of the value when it ends well */
};

static const struct attack absent[] = {
    {"A1",
     "return tostring(os) .. tostring(io) .. tostring(package) .. tostring(require) .. "
     "tostring(debug) .. tostring(dofile) .. tostring(loadfile)",
     0, "nilnilnilnilnilnilnil"},
    {"A1 os", "os.execute('id')", AGON_SCRIPT_ERROR, "global 'os'"},
    {"A1 io", "io.open('/etc/passwd')", AGON_SCRIPT_ERROR, "global 'io'"},
    {"A2", "return tostring(load) .. tostring(loadstring) .. tostring(string.dump)", 0,
     "nilnilnil"},
    {"A2 pack", "return tostring(string.pack) .. tostring(string.unpack)", 0, "nilnil"},
    {"A3", "getmetatable('').__index = nil", AGON_SCRIPT_ERROR, "attempt to index a nil value"},
    {"A6", "return tostring(coroutine)", 0, "nil"},
    {"B3",
     "return tostring(xpcall) .. tostring(collectgarbage) .. tostring(print) .. tostring(warn)", 0,
     "nilnilnilnil"},
    {"C2", "return tostring(math.random) .. tostring(math.randomseed)", 0, "nilnil"},
    {"C2 address",
     "return tostring({}) .. tostring(print) .. tostring(pairs) .. string.format('%s', {})", 0,
     "tablenilfunctiontable"},
    {"C2 %p", "return string.format('%p', {})", AGON_SCRIPT_ERROR, "invalid conversion"},
    {"C2 error", "error(setmetatable({}, {}))", AGON_SCRIPT_ERROR, "error object is a table"},
};

static const struct attack features[] = {
    {"A5 mode", "setmetatable({}, {__mode='k'})", AGON_SCRIPT_ERROR, "'__mode' is not available"},
    {"A5 mode later",
     "local m = {} local t = setmetatable({}, m) m.__mode = 'k' t[{}] = 1 "
     "for i = 1, 1e5 do local x = {i} end local n = 0 return tostring(rawlen(t))",
     0, "0"},
    {"A5 mode again",
     "local m = {} local t = setmetatable({}, m) m.__mode = 'k' setmetatable(t, m)",
     AGON_SCRIPT_ERROR, "'__mode' is not available"},
    {"A5 mode by rawset", "local m = {} rawset(m, '__mode', 'v') setmetatable({}, m)",
     AGON_SCRIPT_ERROR, "'__mode'"},
    {"B4 gc", "setmetatable({}, {__gc=function() while true do end end})", AGON_SCRIPT_ERROR,
     "'__gc' is not available"},
    {"B4 gc later",
     "local m = {} setmetatable({}, m) m.__gc = function() while true do end end "
     "for i = 1, 1e5 do local x = {i} end return 'quiet'",
     0, "quiet"},
    {"B4 close", "local x <close> = setmetatable({}, {__close=function() end})", AGON_SCRIPT_ERROR,
     "'__close' is not available"},
    {"B4 close later",
     "local m = {} local t = setmetatable({}, m) m.__close = function() while true do end end "
     "local x <close> = t",
     AGON_SCRIPT_ERROR, "non-closable"},
    {"name", "setmetatable({}, {__name='x'})", AGON_SCRIPT_ERROR, "'__name'"},
    {"call chain", "setmetatable({}, {__call={}})", AGON_SCRIPT_ERROR, "must be a function"},
};

static const struct attack parser[] = {
    {"A7 locals", NULL, AGON_SCRIPT_SYNTAX, "too many local variables"},
    {"A7 parens", NULL, AGON_SCRIPT_SYNTAX, "overflow"},
    {"A7 size", NULL, AGON_SCRIPT_SYNTAX, "at most"},
    {"A2 bytecode", "\x1bLua", AGON_SCRIPT_SYNTAX, "attempt to load a binary chunk"},
    {"A11 env const", "local _ENV <const> = {} x = 1 return x", ANY, ""},
    {"A11 goto", "goto l do local x ::l:: end", AGON_SCRIPT_SYNTAX, "no visible label 'l'"},
};

static const struct attack cpu[] = {
    {"B1 loop", "while true do end", AGON_SCRIPT_FUEL, "fuel"},
    {"B1 goto", "::l:: goto l", AGON_SCRIPT_FUEL, "fuel"},
    {"B1 repeat", "repeat until false", AGON_SCRIPT_FUEL, "fuel"},
    {"B1 for", "for i = 1, math.huge do end", AGON_SCRIPT_FUEL, "fuel"},
    {"B1 tail", "local function f() return f() end f()", AGON_SCRIPT_FUEL, "fuel"},
    {"B1 pcall", "while true do pcall(error) end", AGON_SCRIPT_FUEL, "fuel"},
    {"B1 pcall in pcall", "local function f() pcall(f) while true do end end f()", AGON_SCRIPT_FUEL,
     "fuel"},
    {"B1 pcall keeps", "pcall(function() while true do end end) return 'survived'",
     AGON_SCRIPT_FUEL, "fuel"},
    {"B1 pcall loop", "while true do pcall(function() while true do end end) end", AGON_SCRIPT_FUEL,
     "fuel"},
    {"B3 handler",
     "local ok = pcall(error, setmetatable({}, {__tostring=function() while true do "
     "end end})) while true do end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"B3 reason", "error(setmetatable({}, {__tostring=function() while true do end end}))",
     AGON_SCRIPT_FUEL, "fuel"},
    {"metamethod index",
     "local t = setmetatable({}, {__index=function(t, k) return t[k] end}) return t.x",
     AGON_SCRIPT_ERROR, "overflow"},
    {"metamethod eq",
     "local m = {__eq=function(a, b) while true do end end} "
     "return setmetatable({}, m) == setmetatable({}, m)",
     AGON_SCRIPT_FUEL, "fuel"},
    {"metamethod concat",
     "local m = {__concat=function(a, b) return a .. b end} "
     "return setmetatable({}, m) .. 'x'",
     AGON_SCRIPT_ERROR, "overflow"},
    {"index chain",
     "local t = {} for i = 1, 1900 do t = setmetatable({}, {__index=t}) end "
     "while true do local x = pcall(function() return t.x end) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"index loop",
     "local a = {} setmetatable(a, {__index=a}) while true do pcall(function() return "
     "a.x end) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"newindex loop",
     "local a = {} setmetatable(a, {__newindex=a}) while true do pcall(function() "
     "a.x = 1 end) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"B5 rep ''", "return #string.rep('', 2^62)", 0, "0"},
    {"B5 rep max", "return #string.rep('', math.maxinteger, '')", 0, "0"},
    {"B5 rep 1 GB", "return #string.rep('x', 1 << 30)", ANY, "ran out"},
    {"B5 rep huge", "return #string.rep('xx', math.maxinteger)", AGON_SCRIPT_ERROR, "too large"},
    {"B5 rep sep", "return #string.rep('', 2^40, 'x')", ANY, ""},
    {"B5 rep loop", "while true do local s = ('x'):rep(1e6) end", AGON_SCRIPT_FUEL, "fuel"},
    {"B5 upper loop", "local s = ('x'):rep(1e6) while true do s:upper() end", AGON_SCRIPT_FUEL,
     "fuel"},
    {"B5 sub loop", "local s = ('x'):rep(1e6) while true do s:sub(2) end", AGON_SCRIPT_FUEL,
     "fuel"},
    {"B5 byte", "return ('x'):rep(1e5):byte(1, -1)", AGON_SCRIPT_ERROR, "too long"},
    {"B7 lazy 20", "return ('a'):rep(3000):find(('a-'):rep(20) .. 'b')", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 lazy 40", "return ('a'):rep(40):find(('a-'):rep(40) .. 'b')", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 greedy", "return ('a'):rep(3000):match(('.*'):rep(12) .. 'b')", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 optional", "return ('a'):rep(60):match(('a?'):rep(60) .. ('a'):rep(60))", ANY, ""},
    {"B7 balance", "return ('('):rep(1e5):find('%b()')", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 back reference", "return ('a'):rep(5000):match('(.*)%1b')", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 frontier", "return ('a'):rep(1e6):find('%f[%z]x')", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 set", "return ('a'):rep(1e4):find('[' .. ('b'):rep(1e4) .. ']x')", AGON_SCRIPT_FUEL,
     "fuel"},
    {"B7 plain",
     "local s = ('a'):rep(1e6) while true do s:find(('a'):rep(1000) .. 'b', 1, true) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"B7 gsub", "return #('x'):rep(1e5):gsub('.', ('y'):rep(1e4))", ANY, "ran out"},
    {"B7 gsub captures", "return #('x'):rep(1e4):gsub('(.)', ('%1'):rep(1000))", ANY, "ran out"},
    {"B7 gmatch", "for a in ('a'):rep(1e6):gmatch('()') do end", AGON_SCRIPT_FUEL, "fuel"},
    {"B7 complex", "return ('a'):rep(1e5):match(('(a'):rep(30))", AGON_SCRIPT_ERROR, "unfinished"},
    {"B7 deep", "return ('a'):rep(1e3):match(('a?'):rep(300))", AGON_SCRIPT_ERROR, "too complex"},
    {"format", "while true do string.format(('%99.99f'):rep(50), 1, 1, 1, 1, 1, 1, 1, 1, 1, 1) end",
     AGON_SCRIPT_ERROR, "no value"},
    {"format wide", "local s = ('x'):rep(1e6) while true do string.format('%s%s', s, s) end", ANY,
     "ran out"},
    {"table.move", "table.move({}, 1, math.maxinteger, 2)", ANY, ""},
    {"table.move back", "table.move({}, -2^62 | 0, -1, 5)", ANY, ""},
    {"table.insert", "local t = {} while true do table.insert(t, 1, 1) end", AGON_SCRIPT_FUEL,
     "fuel"},
    {"table.insert len",
     "local t = setmetatable({}, {__len=function() return 2^53 | 0 end}) "
     "table.insert(t, 1, 1) return #t",
     0, "9007199254740992"},
    {"table.remove len",
     "local t = setmetatable({}, {__len=function() return 2^53 | 0 end}) "
     "return tostring(table.remove(t, 1))",
     0, "nil"},
    {"table.concat", "return table.concat({}, '', 1, math.maxinteger)", AGON_SCRIPT_ERROR,
     "invalid value"},
    {"table.concat loop",
     "local t = {} for i = 1, 1000 do t[i] = ('x'):rep(1000) end "
     "while true do table.concat(t) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"table.unpack", "return table.unpack({}, 1, 1e8)", AGON_SCRIPT_ERROR, "too many results"},
    {"table.unpack wrap", "return table.unpack({}, math.mininteger, math.maxinteger)",
     AGON_SCRIPT_ERROR, "too many results"},
    {"table.unpack loop", "local t = {} while true do local a = {table.unpack(t, 1, 7000)} end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"C8 sort true",
     "local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() return true end)",
     AGON_SCRIPT_ERROR, "invalid order function"},
    {"C8 sort <=", "table.sort({1, 1, 1}, function(a, b) return a <= b end)", AGON_SCRIPT_ERROR,
     "invalid order function"},
    {"sort loop", "local t = {} for i = 1, 1e4 do t[i] = -i end while true do table.sort(t) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"sort grows",
     "local t = {3, 2, 1} table.sort(t, function(a, b) t[#t + 1] = 1 return a < b end) "
     "return 'ended'",
     0, "ended"},
    {"sort clears",
     "local t = {5, 4, 3, 2, 1} pcall(table.sort, t, function(a, b) for i = 1, 5 do "
     "t[i] = nil end return (a or 0) < (b or 0) end) return 'ended'",
     0, "ended"},
    {"next loop", "local t = {} for i = 1, 1e4 do t['k' .. i] = i end for k in next, t do end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"pairs loop", "local t = {} for i = 1, 1e4 do t['k' .. i] = i end while true do pairs(t) end",
     ANY, "ran out"},
    {"tonumber", "local s = ('1'):rep(1e6) while true do tonumber(s, 10) end", AGON_SCRIPT_FUEL,
     "fuel"},
    {"tonumber hex", "local s = '0x' .. ('f'):rep(1e6) while true do tonumber(s) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"utf8.len", "local s = ('\x80'):rep(1e6) while true do utf8.len(s) end", AGON_SCRIPT_FUEL,
     "fuel"},
    {"utf8.offset", "local s = ('\x80'):rep(1e6) while true do utf8.offset(s, 0, 900000) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"utf8.codes", "local f, s = utf8.codes(('\x80'):rep(1e6)) while true do pcall(f, s, 1) end",
     AGON_SCRIPT_FUEL, "fuel"},
    {"compare",
     "local a, b = ('x'):rep(5e5) .. 'a', ('x'):rep(5e5) .. 'b' local n = 0 "
     "for i = 1, 3000 do if a < b then n = n + 1 end end return n",
     0, "3000"},
    {"select",
     "local function f(...) return select('#', ...) end "
     "while true do f(table.unpack({}, 1, 7000)) end",
     AGON_SCRIPT_FUEL, "fuel"},
};

static const struct attack memory[] = {
    {"B8 doubling", "local s = 'x' while true do s = s .. s end", ANY, "ran out"},
    {"B8 growth", "local t = {} while true do t[#t + 1] = {} end", ANY, "ran out"},
    {"B8 big table", "local t = {} for i = 1, 1 << 26 do t[i] = i end", ANY, "ran out"},
    {"B8 recursion", "local function f() return 1 + f() end return f()", ANY, ""},
    {"B8 recursion deep",
     "local function f(n) local a, b, c, d, e = 1, 2, 3, 4, 5 return f(n + 1) + a end "
     "return f(1)",
     ANY, ""},
    {"B8 pcall recursion", "local function f() return pcall(f) end return tostring(f())", ANY, ""},
    {"B8 pcall keeps",
     "pcall(function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1000) .. i end end) "
     "return 'survived'",
     ANY, "ran out"},
    {"B8 closures", "local t = {} while true do t[#t + 1] = function() return t end end", ANY,
     "ran out"},
    {"B8 strings", "local t = {} for i = 1, 1e9 do t[i] = 'key' .. i end", ANY, "ran out"},
    {"B8 varargs", "local function f(...) return f(1, ...) end f()", ANY, ""},
    {"B9 thrash",
     "local k = {} local ok = pcall(function() end) for i = 1, 150000 do k[i] = {i} end "
     "while true do local x = {} end",
     ANY, "ran out"},
    {"B9 thrash strings",
     "local k = ('x'):rep(15000000) while true do local s = ('y'):rep(500000) end", ANY, "ran out"},
    {"B9 near the cap",
     "local k = ('x'):rep(16000000) local t = {} for i = 1, 1e9 do t[i % 100] = 'a' .. i end", ANY,
     "ran out"},
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double worst;
static const char *worst_id;

static void attack_run(const struct attack *a, const char *code, size_t size)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    REQUIRE(agon_script_new(&s, NULL, &err) == 0);
    alarm(20); /* a hang is a failure of the whole program */
    double start = seconds();
    struct trial t = trial_in(s, (struct agon_str){code, size});
    double took = seconds() - start;
    alarm(0);
    if (took > worst) {
        worst = took;
        worst_id = a->id;
    }
    bool how = a->end == ANY ? t.end >= 0 : t.end == a->end;
    if (!EXPECT(how) || !EXPECT(strstr(t.text, a->part) != NULL) || !EXPECT(took < 2.0))
        printf("# %s: ended %d \"%.200s\" in %.3f s\n", a->id, t.end, t.text, took);
}

#define RUN_ALL(list)                                              \
    for (size_t i_ = 0; i_ < sizeof(list) / sizeof(*(list)); i_++) \
        if ((list)[i_].code)                                       \
    attack_run(&(list)[i_], (list)[i_].code, strlen((list)[i_].code))

TEST(what_leads_outside_is_absent)
{
    RUN_ALL(absent);
}

TEST(what_reaches_known_bugs_is_refused)
{
    RUN_ALL(features);
}

TEST(the_parser_is_bounded)
{
    static char text[2 << 20];
    size_t n = 0;
    for (int i = 0; i < 300; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "local x%d ", i);
    attack_run(&parser[0], text, n);
    memset(text, '(', 100000);
    attack_run(&parser[1], text, 100000);
    memset(text, ' ', sizeof(text));
    attack_run(&parser[2], text, sizeof(text));
    memset(text, 'x', 1000000);
    attack_run(&(struct attack){"A7 line", NULL, ANY, ""}, text, 1000000);
    RUN_ALL(parser);
}

TEST(every_loop_runs_out_of_fuel)
{
    worst = 0;
    RUN_ALL(cpu);
    printf("# worst: %s, %.0f ms\n", worst_id, worst * 1e3);
}

TEST(every_growth_runs_out_of_memory_or_fuel)
{
    worst = 0;
    RUN_ALL(memory);
    printf("# worst: %s, %.0f ms\n", worst_id, worst * 1e3);
}

/* A3, A10 of the model: what one entry does to its libraries is gone after a restore. */
TEST(a_spoilt_library_is_whole_after_restore)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    REQUIRE(agon_script_new(&s, NULL, &err) == 0 && agon_script_snapshot(s, &err) == 0);
    static const char *const spoil[] = {
        "string.format = function() return 'evil' end",
        "pairs = nil _G = nil",
        "for k in pairs(_G) do _G[k] = nil end",
        "table.insert = error",
        "setmetatable(_G, {__index=function() return 'evil' end})",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
    };
    for (int i = 0; i < 1200; i++) {
        (void)trial_in(s, agon_str(spoil[i % (i % 100 == 5 ? 6 : 5)]));
        agon_script_restore(s);
        struct trial t = trial_in(s, agon_str("return string.format('%d', 7) .. type(pairs) .. "
                                              "tostring(nowhere) .. type(table.insert)"));
        EXPECT(t.end == 0 && strcmp(t.text, "7functionnilfunction") == 0);
        agon_script_restore(s);
    }
}

/* B13: whatever memory there is, the end is clean. */
TEST(every_memory_limit_ends_cleanly)
{
    static const char code[] =
        "local t = setmetatable({}, {__newindex=function(t, k, v) rawset(t, k, v) end}) "
        "for i = 1, 300 do t[i] = {n = i, s = ('x'):rep(i)} end table.sort({3, 2, 1}) "
        "local n = 0 for k, v in pairs(t) do n = n + #v.s end "
        "return n .. (('a,b'):gsub(',', ';')) .. string.format('%5d', n)";
    int ok = 0, failed = 0;
    for (size_t mem = 24 << 10; mem < 256 << 10; mem += 512) {
        struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
        struct agon_err err;
        if (agon_script_new(&s, &(struct agon_script_limits){.mem_bytes_max = mem}, &err) != 0)
            continue;
        struct trial t = trial_in(s, agon_str(code));
        EXPECT(t.end == AGON_SCRIPT_OK || t.end == AGON_SCRIPT_MEMORY || t.end == AGON_SCRIPT_FUEL);
        ok += t.end == 0;
        failed += t.end != 0;
        EXPECT(t.end != 0 || strcmp(t.text, "45150a;b45150") == 0);
    }
    EXPECT(ok > 10 && failed > 10);
}

/* Our patterns against the stock matcher on random texts. */
static uint64_t random_state = 42;
static unsigned random_below(unsigned n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(random_state >> 33) % n;
}

static const char *stock_run(lua_State *L, const char *code)
{
    lua_settop(L, 0);
    if (luaL_loadstring(L, code) == LUA_OK)
        (void)lua_pcall(L, 0, 1, 0);
    return luaL_tolstring(L, -1, NULL);
}

TEST(patterns_match_as_the_stock_ones_do)
{
    static const char *const pieces[] = {
        "a",  "b", ".", "%a",    "%d",   "[ab]",  "[^a]", "*", "-", "+", "?",  "(",     ")", "()",
        "%1", "$", "^", "%f[a]", "%bab", "[a-c]", "%s",   "%", "[", "]", "%W", "[%a_]", "x", "1"};
    lua_State *stock = luaL_newstate();
    luaL_openlibs(stock);
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    REQUIRE(agon_script_new(&s, NULL, &err) == 0);
    for (int i = 0; i < 20000 && test_failures == 0; i++) {
        char text[32] = "", pattern[64] = "", code[512];
        for (unsigned n = random_below(12); n > 0; n--)
            strncat(text, (const char *[]){"a", "b", "ab", "1", " ", "x"}[random_below(6)], 3);
        for (unsigned n = random_below(7) + 1; n > 0; n--)
            strncat(pattern, pieces[random_below(sizeof(pieces) / sizeof(*pieces))], 6);
        snprintf(
            code, sizeof(code),
            "local o = {} local function add(...) for i = 1, select('#', ...) do "
            "o[#o+1] = tostring((select(i, ...))) end o[#o+1] = ';' end "
            "local s, p = '%s', '%s' add(pcall(string.find, s, p)) add(pcall(string.match, s, p)) "
            "add(pcall(string.gsub, s, p, '<%%0>')) "
            "pcall(function() for a, b in s:gmatch(p) do add(a, b) end end) "
            "return table.concat(o, ' ')",
            text, pattern);
        struct trial t = trial_in(s, agon_str(code));
        const char *want = stock_run(stock, code);
        if (!EXPECT(strcmp(t.text, want) == 0))
            printf("# '%s' '%s': \"%s\", stock \"%s\"\n", text, pattern, t.text, want);
    }
    lua_close(stock);
}
