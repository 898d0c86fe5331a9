/* What must hold for any chunk: it ends within its fuel, one of the documented ways, and
 * a restore leaves no trace of it. The text runs twice: both runs cost the same. */
#include "sandbox/script.h"

#include <assert.h>
#include <lua.h>
#include <stdint.h>
#include <stdio.h>

enum { FUEL = 200000, MEM_BYTES = 2 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int run(lua_State *L, void *arg)
{
    agon_script_run_chunk(L, "=fuzz", *(struct agon_str *)arg, 1);
    return 0;
}

static int count(lua_State *L, void *arg)
{
    int n = 0;
    lua_pushglobaltable(L);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        n++;
    *(int *)arg = n;
    agon_script_run_chunk(
        L, "=check", agon_str("return string.format('%d', #table.pack(1, 2)) .. type(pairs)"), 1);
    assert(strcmp(lua_tostring(L, -1), "2function") == 0);
    return 0;
}

static struct agon_script *script(int *ret_globals)
{
    static struct agon_script *s;
    static int globals;
    struct agon_script_limits limits = {MEM_BYTES, FUEL};
    struct agon_err err;
    char reason[128];
    if (!s) {
        assert(agon_script_new(&s, &limits, &err) == 0);
        assert(agon_script_protect(s, count, &globals, reason, sizeof(reason), &err) == 0);
        assert(agon_script_snapshot(s, &err) == 0);
    }
    *ret_globals = globals;
    return s;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_str text = {(const char *)data, size};
    struct agon_err err;
    char reason[2][128];
    int end[2], globals, now = 0;
    int64_t left[2];
    struct agon_script *s = script(&globals);
    for (int i = 0; i < 2; i++) {
        end[i] = agon_script_protect(s, run, &text, reason[i], sizeof(reason[i]), &err);
        left[i] = agon_script_fuel(s);
        agon_script_restore(s);
    }
    assert(end[0] >= AGON_SCRIPT_OK && end[0] <= AGON_SCRIPT_SYNTAX);
    assert(end[0] == end[1] && left[0] == left[1] && strcmp(reason[0], reason[1]) == 0);
    assert((end[0] == AGON_SCRIPT_OK) == (reason[0][0] == '\0') || end[0] == AGON_SCRIPT_ERROR);
    assert(agon_script_protect(s, count, &now, reason[0], sizeof(reason[0]), &err) == 0);
    assert(now == globals);
    agon_script_restore(s);
    return 0;
}
