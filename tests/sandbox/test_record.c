/* A table that C made at once (sandbox/script_record.h) is the one that Lua makes member by member:
 * the same slots, memory and fuel, whatever comes after. */
#include "sandbox/script_record.h"

#include "base/rng.h"
#include "sandbox/script.h"
#include "sandbox/script_layout.h"
#include "tests/test.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <string.h>

enum { ROUNDS = 300, NAMES = 60, LONG_NAME = 50 };

static char names[NAMES][LONG_NAME + 8];
static struct agon_err err;

struct draw {
    const char *names[AGON_SCRIPT_RECORD_MAX];
    int n, seed;
};

static void names_make(void)
{
    for (int i = 0; i < NAMES; i++) /* a few are too long to be kept once */
        snprintf(names[i], sizeof(names[i]), "%.*s%d", i % 9 ? 0 : LONG_NAME,
                 "a column whose name is made of its whole expression", i * i);
}

static struct draw draw_make(struct agon_rng *rng)
{
    struct draw d = {.n = (int)agon_rng_below(rng, AGON_SCRIPT_RECORD_MAX + 1),
                     .seed = (int)agon_rng_below(rng, 1000)};
    for (int i = 0; i < d.n; i++) /* some stand twice */
        d.names[i] = names[agon_rng_below(rng, NAMES)];
    return d;
}

static void push_value(lua_State *L, const struct draw *d, int i)
{
    switch ((d->seed + i) % 5) {
    case 0: lua_pushinteger(L, d->seed + i); break;
    case 1: lua_pushnumber(L, i + 0.5); break;
    case 2: lua_pushfstring(L, "text %d", d->seed * 100 + i); break;
    case 3: lua_pushboolean(L, i % 2); break;
    default: lua_pushlightuserdata(L, NULL);
    }
}

static int at_once(lua_State *L, void *arg)
{
    const struct draw *d = arg;
    luaL_checkstack(L, 2 * d->n + 8, "test");
    for (int i = 0; i < d->n; i++)
        push_value(L, d, i);
    struct agon_script_name all[AGON_SCRIPT_RECORD_MAX];
    for (int i = 0; i < d->n; i++)
        all[i] = (struct agon_script_name){.text = d->names[i]};
    agon_script_record(L, all, d->n);
    lua_setglobal(L, "made");
    return lua_gettop(L) == 0 ? 0 : -1;
}

static int one_by_one(lua_State *L, void *arg)
{
    const struct draw *d = arg;
    luaL_checkstack(L, 2 * d->n + 8, "test");
    for (int i = 0; i < d->n; i++)
        push_value(L, d, i);
    lua_createtable(L, 0, d->n);
    for (int i = 0; i < d->n; i++) {
        lua_pushvalue(L, i + 1);
        lua_setfield(L, -2, d->names[i]);
    }
    lua_insert(L, 1);
    lua_settop(L, 1);
    lua_setglobal(L, "made");
    return 0;
}

/* What lies in the table "made", slot by slot, with what Lua can add to it afterwards. */
static int describe(lua_State *L, void *arg)
{
    char *text = arg;
    lua_getglobal(L, "made");
    const struct lua_table *t = lua_topointer(L, -1);
    size_t n = (size_t)sprintf(text, "%d %d:", t->log_nodes,
                               t->last_free ? (int)(t->last_free - t->nodes) : -1);
    for (size_t i = 0; i < (size_t)1 << t->log_nodes; i++) {
        const struct lua_node *node = &t->nodes[i];
        const struct lua_text *key = (const struct lua_text *)(uintptr_t)node->key; // NOLINT
        bool taken = node->key_tag != 0;
        n += (size_t)sprintf(text + n, " %x %x %d %.12s", node->tag, node->key_tag,
                             taken ? node->next : 0, taken ? (const char *)(key + 1) : "");
    }
    for (int i = 0; i < NAMES; i++) {
        lua_getfield(L, -1, names[i]);
        n += (size_t)sprintf(text + n, " %s", luaL_tolstring(L, -1, NULL));
        lua_pop(L, 2);
    }
    for (int i = 0; i < NAMES; i++) { /* it grows like any other */
        lua_pushinteger(L, i);
        lua_setfield(L, -2, names[NAMES - 1 - i]);
    }
    int sum = 0;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        sum += (int)lua_tointeger(L, -1);
    sprintf(text + n, " %d", sum);
    return 0;
}

/* Fuel that it took, and what was made; the state is as before. */
static int64_t make(struct agon_script *s, int (*fn)(lua_State *L, void *arg), struct draw *d,
                    char *ret_text)
{
    char why[100];
    EXPECT(agon_script_protect(s, fn, d, why, sizeof(why), &err) == 0);
    int64_t fuel = agon_script_fuel(s);
    if (!EXPECT(agon_script_protect(s, describe, ret_text, why, sizeof(why), &err) == 0))
        printf("# %s\n", why);
    agon_script_restore(s);
    return fuel;
}

TEST(a_table_made_at_once_is_the_one_that_lua_makes)
{
    static char a[20000], b[20000];
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL; /* one: its seed may be its own */
    struct agon_rng rng;
    names_make();
    agon_rng_init(&rng, 3);
    REQUIRE(agon_script_new(&s, NULL, &err) == 0 && agon_script_snapshot(s, &err) == 0);
    for (int i = 0; i < ROUNDS; i++) {
        struct draw d = draw_make(&rng);
        int64_t fuel = make(s, at_once, &d, a);
        EXPECT(fuel == make(s, one_by_one, &d, b));
        if (!EXPECT(!strcmp(a, b)))
            printf("# %s\n# %s\n", a, b);
    }
}

enum { KEPT = 100, MADE = 40000, COLUMNS = 5 };

/* f, in a script of its own, leaves its bool true. */
static void expect_fine(int (*f)(lua_State *L, void *arg))
{
    struct agon_script_limits limits = {.fuel_max = 100000000};
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    bool fine = true;
    char why[100];
    names_make();
    REQUIRE(agon_script_new(&s, &limits, &err) == 0);
    EXPECT(agon_script_protect(s, f, &fine, why, sizeof(why), &err) == 0);
    EXPECT(fine);
}

/* Tables come and go, so that the collector is at work all the time, at any place in the making of
 * one. */
static int many(lua_State *L, void *arg)
{
    bool *fine = arg;
    struct agon_script_name columns[COLUMNS] = {{.text = names[0]},
                                                {.text = names[1]},
                                                {.text = names[2]},
                                                {.text = names[3]},
                                                {.text = names[1]}};
    lua_newtable(L);
    for (int i = 0; i < MADE && *fine; i++) {
        for (int k = 0; k < COLUMNS; k++)
            lua_pushfstring(L, "value %d of %d", k, i);
        agon_script_record(L, columns, COLUMNS);
        lua_rawseti(L, 1, 1 + i * 7 % KEPT);
        lua_pushfstring(L, "value 4 of %d", i - i % 13);
        if (i >= KEPT && lua_rawgeti(L, 1, 1 + (i - i % 13) * 7 % KEPT) == LUA_TTABLE) {
            lua_getfield(L, -1, columns[1].text);
            *fine = lua_rawequal(L, -1, -3);
        }
        lua_settop(L, 1);
    }
    return 0;
}

TEST(tables_made_at_once_stay_what_they_are_while_others_are_collected)
{
    expect_fine(many);
}

/* Names that nobody has any more are found dead while a collection sweeps: then they are Lua's to
 * bring back. */
static int come_and_go(lua_State *L, void *arg)
{
    enum { PERIOD = 37, OTHERS = 40000 };
    bool *fine = arg;
    struct agon_script_name columns[2] = {{.text = "by name"}, {.text = "my name, too"}};
    lua_newtable(L);
    for (int i = 0; i < 2 + OTHERS; i++) { /* so that it takes its time to come to the names */
        lua_pushfstring(L, i < 2 ? columns[i].text : "another %d", i);
        lua_rawseti(L, 1, i + 2);
    }
    for (int i = 0; i < 2; i++) {
        lua_pushnil(L);
        lua_rawseti(L, 1, i + 2);
    }
    for (int i = 0; i < 6000 * PERIOD && *fine; i++) {
        lua_pushfstring(L, "of no use %d", i);
        lua_settop(L, 1);
        if (i % PERIOD == 0) { /* in use for half of the time, at any point of a collection */
            lua_pushinteger(L, i);
            lua_pushinteger(L, i + 1);
            agon_script_record(L, columns, 2);
            lua_rawseti(L, 1, 1);
        } else if (i % PERIOD == PERIOD / 2) {
            lua_rawgeti(L, 1, 1); /* asking for a name would bring it back to life */
            for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1))
                *fine = *fine && strstr(lua_tostring(L, -2), "y name") != NULL;
            lua_pushnil(L);
            lua_rawseti(L, 1, 1);
            lua_settop(L, 1);
        }
    }
    return 0;
}

TEST(names_that_were_given_up_are_not_taken_for_living_ones)
{
    expect_fine(come_and_go);
}

/* A name among many strings of the same bucket costs what it does by lua_pushstring(). */
static int crowd(lua_State *L, void *arg)
{
    const char *name = arg;
    struct lua_thread thread;
    char text[32];
    memcpy(&thread, L, sizeof(thread));
    unsigned seed = thread.global->seed, want = luaS_hash(name, strlen(name), seed) % 1024;
    lua_newtable(L);
    for (int i = 0, n = 0; n < 80; i++) {
        size_t size = (size_t)snprintf(text, sizeof(text), "crowd %d", i);
        if (luaS_hash(text, size, seed) % 1024 != want)
            continue;
        lua_pushlstring(L, text, size);
        lua_rawseti(L, 1, ++n);
        if (n == 10) { /* the others come before it in its bucket */
            lua_pushstring(L, name);
            lua_setfield(L, 1, name);
        }
    }
    lua_setglobal(L, "crowd");
    return 0;
}

TEST(a_name_in_a_crowd_is_charged_for)
{
    static char a[20000], b[20000], why[100];
    struct draw d = {.names = {names[1]}, .n = 1};
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    names_make();
    REQUIRE(agon_script_new(&s, NULL, &err) == 0);
    REQUIRE(agon_script_protect(s, crowd, names[1], why, sizeof(why), &err) == 0);
    REQUIRE(agon_script_snapshot(s, &err) == 0);
    int64_t fuel = make(s, at_once, &d, a);
    EXPECT(fuel == make(s, one_by_one, &d, b) && !strcmp(a, b));
    d.names[0] = names[2];
    EXPECT(fuel < make(s, at_once, &d, a));
}
