#pragma once
/* Run a chunk in a fresh script and see how it ends. */
#include "sandbox/script.h"
#include "tests/test.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

struct trial {
    int end;
    char text[512]; /* tostring(result) when OK, else the reason */
    int64_t fuel_used;
};

struct trial_arg {
    struct agon_str code;
    char *text;
    size_t text_size;
};

static inline int trial_fn(lua_State *L, void *arg)
{
    struct trial_arg *a = arg;
    agon_script_run_chunk(L, "=code", a->code, 1);
    size_t n;
    const char *s = luaL_tolstring(L, -1, &n);
    snprintf(a->text, a->text_size, "%s", s);
    return 0;
}

static inline struct trial trial_in(struct agon_script *s, struct agon_str code)
{
    struct trial t = {.end = -1};
    char value[512] = "";
    struct trial_arg arg = {code, value, sizeof(value)};
    struct agon_err err;
    agon_script_set_fuel(s, 2000000);
    t.end = agon_script_protect(s, trial_fn, &arg, t.text, sizeof(t.text), &err);
    t.fuel_used = 2000000 - agon_script_fuel(s);
    if (t.end == 0)
        memcpy(t.text, value, sizeof(t.text));
    return t;
}

static inline struct trial trial(const char *code)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    if (agon_script_new(&s, NULL, &err) != 0) {
        struct trial t = {.end = -1};
        snprintf(t.text, sizeof(t.text), "%s", err.text);
        return t;
    }
    return trial_in(s, agon_str(code));
}

/* The chunk gives this value, or ends this way with this in its reason. */
#define GIVES(code, value)                                                \
    do {                                                                  \
        struct trial t_ = trial(code);                                    \
        if (!EXPECT(t_.end == 0) || !EXPECT(strcmp(t_.text, value) == 0)) \
            printf("# %s\n#   gave \"%s\"\n", code, t_.text);             \
    } while (0)
#define ENDS(code, how, part)                                                   \
    do {                                                                        \
        struct trial t_ = trial(code);                                          \
        if (!EXPECT(t_.end == (how)) || !EXPECT(strstr(t_.text, part) != NULL)) \
            printf("# %s\n#   ended %d \"%s\"\n", code, t_.end, t_.text);       \
    } while (0)
