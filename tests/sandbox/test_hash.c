/*
 * Keys that were chosen to collide: the work that they make for Lua is charged, so each
 * program here ends by fuel, and not by the clock. The bound on processor time is some
 * ten times what was measured: without the charge these run for seconds to hours.
 */
#include "sandbox/script_lib.h"
#include "tests/sandbox/script_help.h"

#include <stdlib.h>
#include <time.h>

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#define SECONDS_MAX 3.0

static void ends_by_fuel(const char *code)
{
    double start = cpu_seconds();
    struct trial t = trial(code);
    double seconds = cpu_seconds() - start;
    if (!EXPECT(t.end == AGON_SCRIPT_FUEL) || !EXPECT(seconds < SECONDS_MAX))
        printf("# %s\n#   ended %d \"%s\" after %.2f s\n", code, t.end, t.text, seconds);
    else
        printf("# %.0f ms\n", 1e3 * seconds);
}

TEST(growing_a_table_of_integers_that_collide_is_charged_before_it_is_done)
{
    ends_by_fuel("local t = {} for i = 1, 140000 do t[i * 131071] = true end");
    ends_by_fuel("local t = {} for i = 1, 70000 do t[i * 65535] = true end");
    ends_by_fuel("local t = {} for i = 1, 9000 do t[i * 8191] = true end");
}

TEST(floats_that_collide_are_charged_too)
{
    ends_by_fuel("local t = {} for i = 1, 20000 do t[0.5 + i * 2^-50] = true end");
}

#define CHAIN "local t, n = {}, 3000 for i = 1, n do t[i * 4095] = true end "

TEST(looking_up_along_a_long_chain_is_charged)
{
    ends_by_fuel(CHAIN "for i = 1, 200000 do local x = t[4095] end");
    ends_by_fuel(CHAIN "for i = 1, 200000 do local x = t[4095 * 5000] end");
    ends_by_fuel(CHAIN "for i = 1, 200000 do t[4095] = i end");
    ends_by_fuel(CHAIN "for i = 1, 200000 do local x = rawget(t, 4095) end");
    ends_by_fuel(CHAIN "for i = 1, 200000 do rawset(t, 4095, 1) end");
    ends_by_fuel(CHAIN "for i = 1, 1000 do for k in pairs(t) do end end");
    ends_by_fuel(CHAIN "for i = 1, 200000 do local x = next(t, 4095) end");
}

TEST(the_border_of_a_list_in_a_long_chain_is_charged)
{
    /* 1, 2, 4, ... are there, so that # looks for others on its way */
    ends_by_fuel("local t = {} for i = 1, 3000 do t[i * 4095 + 2049] = true end "
                 "for i = 0, 12 do t[2^i] = true end "
                 "for i = 1, 300000 do local n = #t end");
}

TEST(a_list_is_not_looked_through_for_nothing_when_a_few_keys_come_and_go)
{
    ends_by_fuel("local t = {} for i = 1, 200000 do t[i] = true end "
                 "for r = 9, 300000 do t[r * 325500] = true t[(r - 4) * 325500] = nil end");
}

/* A key whose place is taken by one of a chain drives that one out, whose predecessor is found
 * along the whole chain: those at its end are driven out here, each by a key of its own. */
TEST(driving_keys_of_a_long_chain_out_of_their_places_is_charged)
{
    ends_by_fuel("local t = {} for i = 1, 5000 do t[i * 8191] = true end "
                 "for k = 8190, 5001, -1 do t[k] = true end");
}

TEST(a_full_table_that_is_made_anew_for_each_key_is_charged)
{
    ends_by_fuel("local t = {} for i = 1, 4096 do t[i * 4095] = true end "
                 "for r = 1, 100000 do t[r * 4095] = nil t[(4096 + r) * 4095] = true end");
    ends_by_fuel("local function f(...) return {[4095] = 1, [8190] = 1, [12285] = 1, ...} end "
                 "for i = 1, 1e6 do f(1, 2, 3) end");
}

/* ---- short strings ---- */

static uint32_t seed_of(lua_State *L)
{
    uint32_t hash; /* that of the empty string is the seed; text begins 24 bytes into a TString */
    memcpy(&hash, lua_pushliteral(L, "") - 12, sizeof(hash));
    lua_pop(L, 1);
    return hash;
}

static uint32_t text_hash(uint32_t seed, const char *s, size_t n)
{
    uint32_t h = seed ^ (uint32_t)n;
    while (n > 0)
        h ^= (h << 5) + (h >> 2) + (unsigned char)s[--n];
    return h;
}

enum { TEXTS = 4000, TEXT_SIZE = 8 };
static char texts[TEXTS][TEXT_SIZE + 1];
static bool in_table;

/* Strings whose hashes end in the same 13 bits: as many as 5,000 strings have buckets. */
static void texts_make(uint32_t seed)
{
    static uint32_t made_for;
    if (made_for == seed && texts[0][0])
        return;
    for (uint64_t at = 0, n = 0; n < TEXTS; at++) {
        for (int i = 0; i < TEXT_SIZE; i++)
            texts[n][i] = "0123456789abcdef"[at >> 4 * i & 15];
        n += (text_hash(seed, texts[n], TEXT_SIZE) & 0x1fff) == 77;
    }
    made_for = seed;
}

static int texts_use(lua_State *L, void *arg)
{
    size_t *done = arg;
    lua_newtable(L);
    for (*done = 0; *done < TEXTS; ++*done) {
        agon_script_charge(L, 3);
        lua_pushlstring(L, texts[*done], TEXT_SIZE);
        if (in_table) {
            lua_pushboolean(L, 1);
            lua_rawset(L, -3);
        } else {
            lua_rawseti(L, -2, (lua_Integer)*done + 1);
        }
    }
    return 0;
}

TEST(short_strings_that_collide_are_charged)
{
    for (int i = 0; i < 2; i++) {
        struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
        struct agon_err err;
        REQUIRE(agon_script_new(&s, NULL, &err) == 0);
        char reason[64];
        size_t done = 0;
        texts_make(seed_of(s->L));
        in_table = i == 1;
        double start = cpu_seconds();
        EXPECT(agon_script_protect(s, texts_use, &done, reason, sizeof(reason), &err) ==
               AGON_SCRIPT_FUEL);
        printf("# %zu strings, %.0f ms\n", done, 1e3 * (cpu_seconds() - start));
        EXPECT(done > 1000 && done < TEXTS);
    }
}

/* ---- what was not chosen costs what it did ---- */

static int64_t fuel_of(const char *code)
{
    struct trial t = trial(code);
    if (!EXPECT(t.end == AGON_SCRIPT_OK))
        printf("# %s\n#   ended %d %s\n", code, t.end, t.text);
    return t.fuel_used;
}

TEST(keys_that_were_not_chosen_are_as_cheap_as_before)
{
    /* The same instructions over keys that fall well and over those of daily life: at most a
     * third more. */
    int64_t plain = fuel_of("local t = {} for i = 1, 4000 do t[i * 7919 + 0] = i end return #t");
    static const char *const keys[] = {"i * 1000",    "i * 3600",         "1700000000 + i * 86400",
                                       "i * 1024",    "-i * 7919",        "i * 7919.5",
                                       "i * 1000003", "i * i * 17 + 5000"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        char code[128];
        snprintf(code, sizeof(code), "local t = {} for i = 1, 4000 do t[%s] = i end return #t",
                 keys[i]);
        int64_t fuel = fuel_of(code);
        printf("# %-24s %lld of %lld\n", keys[i], (long long)fuel, (long long)plain);
        EXPECT(fuel <= plain + plain / 3);
    }
}

TEST(keys_of_each_kind_are_found_again_while_a_table_grows_and_shrinks)
{
    GIVES(
        "local t, n, f = {}, 0, {} "
        "for i = 1, 700 do f[i] = function() return i end "
        "t[i * 3] = 1 t[i + 0.5] = 2 t['k' .. i] = 3 t[('l'):rep(50) .. i] = 4 t[f[i]] = 5 t[-i] = "
        "6 end "
        "t[true] = 7 t[false] = 8 t[1/0] = 9 t[-1/0] = 9 t[2^53] = 9 t[2^70] = 9 "
        "for i = 1, 700 do if t[i * 3.0] == 1 and t[i + 0.5] == 2 and t['k' .. i] == 3 and "
        "t[('l'):rep(50) .. i] == 4 and t[f[i]] == 5 and t[-i] == 6 then n = n + 1 end "
        "t['k' .. i] = nil t[i * 3] = nil assert(t['k' .. i] == nil and t[i * 3] == nil) end "
        "assert(t[true] == 7 and t[false] == 8 and t[1/0] == 9 and t[-1/0] == 9 and t[0/0] == nil "
        "and t[nil] == nil and t[1 << 53] == 9 and t[2^70] == 9) return n",
        "700");
}

TEST(the_border_is_lua_s_own)
{
    GIVES("local t = {} for i = 20, 1, -1 do t[i] = i end local a = #t t[20] = nil local b = #t "
          "t[19], t[18], t[17] = nil local c = #t for i = 17, 40 do t[i] = i end local d = #t "
          "for i = 40, 1, -1 do t[i] = nil assert(#t == i - 1) end return a .. b .. c .. d .. #t",
          "201916400");
}
