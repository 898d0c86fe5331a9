/*
 * A11: programs that nobody wrote. Bytes, words and pieces of programs change
 * places, and what comes of it is compiled and run in the restricted Lua, in
 * this process, so that the sanitizers see it. AGON_ATTACK_ROUNDS=10000000 goes
 * on with new programs (tests/attacks/long.sh).
 */
#include "tests/attacks/battery.h"

#include "sandbox/script.h"

#include <lauxlib.h>
#include <lua.h>

enum { PROGRAM_MAX = 2000, FUEL = 30000, ROUNDS = 20000 };

static const char *const programs[] = {
    "local t = {} for i = 1, 30 do t[i] = {n = i, s = ('x'):rep(i)} end "
    "table.sort(t, function(a, b) "
    "return a.n > b.n end) return t[1].n",
    "local m = setmetatable({}, {__index = function(t, k) return k .. 'x' end, "
    "__newindex = rawset, "
    "__len = function() return 7 end, __call = function(s, a) return a end}) "
    "m.a = 1 return m(2) + #m",
    "local s = 'the quick brown fox' local out = {} for w in s:gmatch('%a+') "
    "do out[#out + 1] = "
    "w:upper() end return table.concat(out, '-', 1, #out)",
    "local function f(n, ...) if n == 0 then return select('#', ...) end "
    "return f(n - 1, n, ...) end "
    "return f(20)",
    "goto a do local x <const> = 5 ::b:: goto c end ::a:: local y <close> = "
    "nil goto d ::d:: do return "
    "1 end ::c::",
    "local a, b = {}, {} for i = 1, 10 do a[i] = i b[-i] = i end for k, v in "
    "pairs(b) do a[#a + 1] = v "
    "end return table.unpack(a, 1, 3)",
    "return string.format('%5.2f %d %s %q %x', 1.5, 3, 'a', 'b\\n', 255) .. "
    "tostring(nil) .. 7 // 2 .. "
    "2^10 .. (5 & 3 | 8 ~ 1) .. (1 << 4)",
    "local ok, why = pcall(function() local x = nil return x.y.z end) return "
    "tostring(ok) .. why",
    "local c = {} for i = 1, 5 do c[i] = function() i = i + 1 return i end end "
    "local n = 0 for _, f in "
    "ipairs(c) do n = n + f() + f() end return n",
    "local s = ('a,b;c'):gsub('[,;]', {[','] = '.', [';'] = '!'}) return "
    "s:find('%.', 1, true), "
    "utf8.len('\\u{fc}x'), utf8.char(252)",
    "repeat local x = math.floor(3.7) until x == 3 while false do break end "
    "for i = 10, 1, -3 do end "
    "return math.max(1, 2.5), math.type(1), 1e15, 0x1p4",
    "local t = table.pack(1, nil, 3) table.insert(t, 2, 'x') table.remove(t, "
    "1) table.move(t, 1, 2, 3) "
    "return #t, t.n, next(t)",
};
static const char *const words[] = {
    "and ",
    "break ",
    "do ",
    "else ",
    "elseif ",
    "end ",
    "false ",
    "for ",
    "function ",
    "goto ",
    "if ",
    "in ",
    "local ",
    "nil ",
    "not ",
    "or ",
    "repeat ",
    "return ",
    "then ",
    "true ",
    "until ",
    "while ",
    "(",
    ")",
    "{",
    "}",
    "[",
    "]",
    "::a::",
    ";",
    ":",
    ",",
    "...",
    "..",
    "==",
    "~=",
    "<=",
    "//",
    "<<",
    "~",
    "#",
    "-",
    "1e309",
    "0x7fffffffffffffff",
    "'\\xff'",
    "[==[",
    "]==]",
    "<const>",
    "<close>",
    "_ENV",
    "_G",
    "setmetatable",
    "getmetatable",
    "pcall",
    "error",
    "string.rep",
    "table.concat",
    "select",
    "rawset",
    "self",
    "\n",
    "--",
    "\"",
    "\\",
};
enum {
    N_PROGRAMS = sizeof(programs) / sizeof(*programs),
    N_WORDS = sizeof(words) / sizeof(*words)
};

struct text {
    char data[PROGRAM_MAX];
    uint32_t size;
};

/* Put n bytes in the place of `cut` bytes at `at`, as far as there is room. */
static void splice(struct text *t, uint32_t at, uint32_t cut, const char *data, uint32_t n)
{
    cut = cut > t->size - at ? t->size - at : cut;
    if (t->size - cut + n > PROGRAM_MAX)
        return;
    memmove(t->data + at + n, t->data + at + cut, t->size - at - cut);
    memcpy(t->data + at, data, n);
    t->size = t->size - cut + n;
}

static void mutate(struct text *t, struct agon_rng *rng)
{
    uint32_t at = agon_rng_below(rng, t->size + 1);
    const char *other = programs[agon_rng_below(rng, N_PROGRAMS)];
    uint32_t size = (uint32_t)strlen(other), from = agon_rng_below(rng, size);
    const char *word = words[agon_rng_below(rng, N_WORDS)];
    char byte = (char)agon_rng_below(rng, 256), copy[40];
    switch (agon_rng_below(rng, 6)) {
    case 0: splice(t, at, 1, &byte, 1); break;
    case 1: splice(t, at, agon_rng_below(rng, 12), "", 0); break;
    case 2: splice(t, at, agon_rng_below(rng, 8), word, (uint32_t)strlen(word)); break;
    case 3:
        splice(t, at, agon_rng_below(rng, 30), other + from, agon_rng_below(rng, size - from));
        break;
    case 4: splice(t, at, 0, &byte, 1); break;
    default: /* something of itself once more */
        from = agon_rng_below(rng, t->size + 1);
        size = t->size - from < sizeof(copy) ? t->size - from : sizeof(copy);
        memcpy(copy, t->data + from, size);
        splice(t, at, 0, copy, size);
    }
}

static int run_text(lua_State *L, void *arg)
{
    const struct text *t = arg;
    agon_script_run_chunk(L, "=code", (struct agon_str){t->data, t->size}, 1);
    size_t size;
    (void)luaL_tolstring(L, -1, &size); /* whatever it is, it has a text */
    return 0;
}

static int run_check(lua_State *L, void *arg)
{
    agon_script_run_chunk(L, "=check", agon_str("return string.format('%d', 7) .. type(pairs)"), 1);
    snprintf(arg, 20, "%s", lua_tostring(L, -1));
    return 0;
}

ATTACK(A11_programs_that_nobody_wrote)
{
    const char *given = getenv("AGON_ATTACK_ROUNDS");
    int rounds = given ? atoi(given) : ROUNDS, ends[8] = {0};
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_script_limits limits = {.mem_bytes_max = 2 << 20, .fuel_max = FUEL};
    struct agon_err err;
    char reason[200], check[20];
    b->seconds_max = given ? 1e9 : 6 * b->seconds_max;
    REQUIRE(agon_script_new(&s, &limits, &err) == 0 && agon_script_snapshot(s, &err) == 0);
    for (int i = 0; i < rounds; i++) {
        const char *base = programs[agon_rng_below(&b->rng, N_PROGRAMS)];
        struct text t = {.size = (uint32_t)strlen(base)};
        memcpy(t.data, base, t.size);
        for (uint32_t n = agon_rng_below(&b->rng, 6); n > 0; n--)
            mutate(&t, &b->rng);
        int end = agon_script_protect(s, run_text, &t, reason, sizeof(reason), &err);
        if (!EXPECT(end >= 0 && end <= AGON_SCRIPT_LIMIT))
            printf("# %d: %s\n", i, err.text);
        ends[end & 7]++;
        agon_script_restore(s);
        if (i % 100 == 0) {
            EXPECT(agon_script_protect(s, run_check, check, reason, sizeof(reason), &err) == 0);
            EXPECT_TEXT(check, "7function");
            agon_script_restore(s);
        }
    }
    printf("# well %d, error %d, fuel %d, memory %d, syntax %d\n", ends[0], ends[1], ends[2],
           ends[3], ends[4]);
    EXPECT(ends[0] > rounds / 50 && ends[1] > rounds / 100 && ends[4] > rounds / 10);
}
