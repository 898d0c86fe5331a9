/*
 * What holds over many entries of the restricted Lua: restores, memory limits of each
 * size, patterns that match as the stock ones do. Single attacks: tests/attacks/.
 */
#include "base/buf.h"
#include "sandbox/script_layout.h"
#include "sandbox/script_lib.h"
#include "tests/sandbox/script_help.h"

#include <lualib.h>
#include <stdlib.h>

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

/* Names, until a few more make Lua link all strings anew. */
static int fill_buckets(lua_State *L, void *arg)
{
    (void)arg;
    lua_gc(L, LUA_GCCOLLECT);
    for (int i = 0; i < 1000; i++) {
        struct lua_thread thread;
        memcpy(&thread, L, sizeof(thread));
        if (thread.global->n_texts >= thread.global->n_buckets - 3)
            return 0;
        lua_pushfstring(L, "kept%d", i);
        lua_setglobal(L, lua_tostring(L, -1));
    }
    return 0;
}

/* What is left out of a restore (sandbox/heap.h) is as it was, whatever went on: collections, more
 * strings than there was room for, long strings that became keys, a layer made in the midst of it.
 */
TEST(not_a_byte_of_strings_and_code_is_other_than_before)
{
    static const char *const busy[] = {
        "return select('#', one, two(3), ('x'):rep(100))",
        "local t = {} for i = 1, 2000 do t[i] = {i} end t = nil for i = 1, 900 do t = {t} end",
        "local t = {} for i = 1, 400 do t['key' .. i] = i end",
        "local a = 'a' .. one local b = 'b' .. one local c = 'c' .. one local d = 'd' .. one",
        "return pcall(string.rep, 'x', 2 << 20)",
        "local t = {[long] = 1, [('y'):rep(50)] = 2} return t[long]",
        "two, one, string.format = nil for i = 1, 3000 do local t = {'a' .. i} end return long",
        "local t = {} for i = 1, 1e9 do t[i] = {} end",
    };
    enum { N = sizeof(busy) / sizeof(*busy) };
    const struct agon_script_limits limits = {.mem_bytes_max = 1 << 20};
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    REQUIRE(agon_script_new(&s, &limits, &err) == 0);
    REQUIRE(trial_in(s, agon_str("one = 'a word' long = ('long '):rep(20) function two(n) return n "
                                 "+ 1, 'another word', 'and a literal of more than forty bytes, "
                                 "which is kept another way' end"))
                .end == 0);
    REQUIRE(agon_script_protect(s, fill_buckets, NULL, (char[100]){""}, 100, &err) == 0);
    REQUIRE(agon_script_snapshot(s, &err) == 0);
    const struct agon_heap *h = &s->heap;
    size_t size = (size_t)(h->zone_at - h->zone);
    EXPECT(size > 4000);
    for (int i = 0; i < N * N; i++) {
        (void)trial_in(s, agon_str(busy[i / N]));
        REQUIRE(agon_script_layer(s, &err) == 0);
        char *layer = malloc(size);
        REQUIRE(layer);
        memcpy(layer, h->zone, size);
        for (int again = 0; again < 2; again++) {
            (void)trial_in(s, agon_str(busy[i % N]));
            agon_script_restore(s);
            EXPECT(memcmp(h->zone, layer, size) == 0);
        }
        free(layer);
        (void)trial_in(s, agon_str(busy[i % N]));
        agon_script_drop_layer(s);
        agon_script_restore(s);
        EXPECT(memcmp(h->zone, h->saved.zone, size) == 0);
    }
}

/* The head of f(n), each call of which takes 190 slots of the stack. */
static void wide_function_begin(struct agon_buf *code)
{
    agon_buf_adds(code, "local function f(n) local x0");
    for (int k = 1; k < 190; k++)
        agon_buf_addf(code, ", x%d", k);
}

/* B8: calls copy their arguments, so the stack itself has a limit, whatever memory there is. */
TEST(a_stack_beyond_its_limit_ends_the_entry)
{
    static const int depths[] = {200, 400}; /* of 190 slots each; 65,536 are allowed */
    for (int i = 0; i < 2; i++) {
        struct agon_buf code AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
        wide_function_begin(&code);
        agon_buf_addf(&code,
                      " if n > 0 then return 1 + f(n - 1) end return 0 end "
                      "local ok, n = pcall(f, %d) return n",
                      depths[i]);
        if (i == 0)
            GIVES(agon_buf_text(&code), "200");
        else
            ENDS(agon_buf_text(&code), AGON_SCRIPT_MEMORY, "ran out of memory");
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

static struct trial trial_with(const char *code, size_t mem_bytes_max)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_script_limits limits = {.mem_bytes_max = mem_bytes_max};
    struct agon_err err;
    if (!EXPECT(agon_script_new(&s, &limits, &err) == 0))
        return (struct trial){.end = -1};
    return trial_in(s, agon_str(code));
}

/* What a limit ended is not gone on with, whatever caught it. */
TEST(nothing_runs_after_the_end_that_pcall_saw)
{
    struct trial t =
        trial_with("pcall(string.rep, 'x', 4 << 20) for i = 1, 1 << 40 do end", 4 << 20);
    if (!EXPECT(t.end == AGON_SCRIPT_MEMORY && t.fuel_used < 1900000))
        printf("# %d after %lld\n", t.end, (long long)t.fuel_used);
}

/* Lua collects all it has before it gives up, so a refusal costs what there is to walk. */
TEST(a_failed_allocation_has_its_price)
{
    static const char *const codes[] = {
        "local s = ('x'):rep(1 << 20) return #s",
        "local s = ('x'):rep(1 << 20) pcall(string.rep, 'y', 4 << 20)"};
    int64_t used[2];
    for (int i = 0; i < 2; i++) {
        struct trial t = trial_with(codes[i], 4 << 20);
        EXPECT(t.end == (i ? AGON_SCRIPT_MEMORY : AGON_SCRIPT_OK));
        used[i] = t.fuel_used;
    }
    /* 1.31 million is what is asked for, three times; fuel is the same in each build. */
    if (!EXPECT(used[1] - used[0] >= 1400000))
        printf("# %lld\n", (long long)(used[1] - used[0]));
}

/* A block costs by its size, while a heap is filled and once it is kept. */
TEST(memory_has_its_price_in_a_kept_heap_too)
{
    int64_t used[2];
    for (int i = 0; i < 2; i++) {
        struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
        struct agon_buf code AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
        struct agon_err err;
        REQUIRE(agon_script_new(&s, NULL, &err) == 0 && agon_script_snapshot(s, &err) == 0);
        /* The same instructions; 220 places of 16 bytes in one block, or in the registers. */
        agon_buf_adds(&code, i ? "for i = 1, 1000 do local t = {nil"
                               : "local f = function() end "
                                 "for i = 1, 1000 do f(nil");
        for (int k = 1; k < 220; k++)
            agon_buf_adds(&code, ", nil");
        agon_buf_adds(&code, i ? "} end" : ") end");
        struct trial t = trial_in(s, agon_buf_str(&code));
        EXPECT(t.end == AGON_SCRIPT_OK);
        used[i] = t.fuel_used;
    }
    if (!EXPECT(used[1] - used[0] >= 50000))
        printf("# %lld and %lld\n", (long long)used[1], (long long)used[0]);
}

/* B8: each call among many on the stack copies more than it says. */
TEST(a_deep_stack_has_its_price)
{
    int64_t used[2];
    for (int i = 0; i < 2; i++) {
        struct agon_buf code AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
        wide_function_begin(&code);
        agon_buf_addf(&code,
                      " if n > 0 then return 1 + f(n - 1) end "
                      "for i = 1, 10000 do end return 0 end return f(%d)",
                      i ? 200 : 1);
        struct trial t = trial(agon_buf_text(&code));
        EXPECT(t.end == AGON_SCRIPT_OK);
        used[i] = t.fuel_used;
    }
    if (!EXPECT(used[1] - used[0] >= 500000))
        printf("# %lld and %lld\n", (long long)used[1], (long long)used[0]);
}

TEST(captures_have_an_end)
{
    GIVES("return select('#', ('x'):rep(32):match(('(x)'):rep(32)))", "32");
    ENDS("return ('x'):rep(33):match(('(x)'):rep(33))", AGON_SCRIPT_ERROR, "too many captures");
}

/*
 * What a hundred of these cost at least: most of it the work that the library does, so that a price
 * which goes missing shows here, and not only where it has become a matter of seconds.
 */
TEST(work_has_its_price)
{
    static const char text[] = "local s, t = ('a'):rep(3000), {} for i = 1, 300 do t[i] = i end ";
    static const struct {
        const char *code;
        int64_t least;
    } work[] = {
        {"setmetatable(t, {})", 22},
        {"(function(...) for k = 1, 10 do select('#', ...) end end)(table.unpack(t))", 800},
        {"tonumber(s)", 1100},
        {"s:match('^(.-)%1$', 2900)", 550},
        {"s:match('^(aaaaaaaa*)%1$', 2000)", 15000},
        {"s:find('b', 1, true)", 370},
        {"('b'):gsub('b', s)", 900},
        {"('a'):rep(3000)", 900},
        {"(''):rep(3000, 'a')", 900},
        {"string.format('%s', s)", 200},
        {"string.format('%g', 1e300)", 130},
        {"s:upper()", 800},
        {"table.insert(t, 1, 0) t[#t] = nil", 300},
        {"table.concat{s, s}", 450},
        {"table.move(t, 1, 300, 2)", 300},
        {"table.sort{s .. 1, s .. 2}", 450},
        {"next{[s] = 1}", 150},
        {"pairs{[s] = 1, [s .. 1] = 2}", 500},
        {"pairs(t)", 300},
    };
    char code[1000];
    snprintf(code, sizeof(code), "%sfor i = 1, 100 do end", text);
    int64_t idle = trial(code).fuel_used;
    for (size_t i = 0; i < sizeof(work) / sizeof(*work); i++) {
        snprintf(code, sizeof(code), "%sfor i = 1, 100 do %s end", text, work[i].code);
        struct trial t = trial(code);
        int64_t cost = (t.fuel_used - idle) / 100;
        if (!EXPECT(t.end == AGON_SCRIPT_OK && cost >= work[i].least))
            printf("# %s: %lld\n", work[i].code, (long long)cost);
    }
}
