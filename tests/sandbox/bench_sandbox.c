/* What the sandbox costs: medians, one line each. */
#include "sandbox/bashbox.h"
#include "sandbox/cell.h"
#include "sandbox/script.h"

#include <lua.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { TIMES = 201 };

static struct agon_err err;

static double now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void check(int r)
{
    if (r == 0)
        return;
    fprintf(stderr, "bench: %s\n", err.text);
    exit(1);
}

/* The median of TIMES runs, each of `inner` calls, for one call. */
static void measure(const char *what, void (*fn)(void *), void *arg, int inner)
{
    static double us[TIMES];
    for (int i = 0; i < TIMES; i++) {
        double start = now_us();
        for (int k = 0; k < inner; k++)
            fn(arg);
        us[i] = (now_us() - start) / inner;
    }
    qsort(us, TIMES, sizeof(*us), by_size);
    printf("%-44s %10.2f us   (p90 %.2f)\n", what, us[TIMES / 2], us[TIMES * 9 / 10]);
    fflush(stdout);
}

static void state_new(void *arg)
{
    (void)arg;
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    check(agon_script_new(&s, NULL, &err));
}

static char chunk[8192];

static int load(lua_State *L, void *arg)
{
    (void)arg;
    agon_script_run_chunk(L, "=bench", agon_str(chunk), 0);
    return 0;
}

static int call(lua_State *L, void *arg)
{
    (void)arg;
    lua_getglobal(L, "f1");
    lua_pushinteger(L, 3);
    lua_call(L, 1, 0);
    return 0;
}

static void script_load(void *s)
{
    char reason[128];
    check(agon_script_protect(s, load, NULL, reason, sizeof(reason), &err));
    agon_script_restore(s);
}

static void script_call(void *s)
{
    char reason[128];
    check(agon_script_protect(s, call, NULL, reason, sizeof(reason), &err));
}

static void script_restore(void *s)
{
    agon_script_restore(s);
}

static int spin(lua_State *L, void *arg)
{
    (void)arg;
    agon_script_run_chunk(L, "=bench",
                          agon_str("local n = 0 for i = 1, 100000 do n = n + i % 7 end"), 0);
    return 0;
}

static void script_spin(void *s)
{
    char reason[128];
    check(agon_script_protect(s, spin, NULL, reason, sizeof(reason), &err));
}

static void bench_script(void)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    char reason[128];
    size_t n = 0;
    for (int i = 0; i < 25; i++) /* 100 lines, 3.6 KB, as a toolset has them */
        n += (size_t)snprintf(
            chunk + n, sizeof(chunk) - n,
            "function f%d(x)\n  local t = {id = x, name = 'item ' .. x, price = x * 1.5, "
            "tags = {'a', 'b'}}\n  if t.price > %d then t.tags[3] = 'c' end\n  return t end\n",
            i, i);
    measure("Lua: new state with libraries", state_new, NULL, 10);
    check(agon_script_new(&s, NULL, &err));
    check(agon_script_snapshot(s, &err));
    measure("Lua: compile and run 100 lines, restore", script_load, s, 10);
    check(agon_script_protect(s, load, NULL, reason, sizeof(reason), &err));
    check(agon_script_snapshot(s, &err));
    measure("Lua: enter, call a small function", script_call, s, 100);
    measure("Lua: restore the heap after 100 lines", script_restore, s, 100);
    measure("Lua: loop of 100,000 turns", script_spin, s, 1);
}

static void cell_call(void *c)
{
    static struct agon_buf reply = AGON_BUF(1 << 20);
    char reason[128];
    check(agon_cell_call(c, "echo", agon_str("{\"op\": \"call\"}"), &reply, reason, &err));
}

static void cell_open(void *sb)
{
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    check(agon_cell_new(&c, sb, &err));
}

static void box_run(void *b)
{
    struct agon_bash_result r;
    check(agon_bashbox_run(b, agon_str(":"), 10000, &r, &err));
    agon_bash_result_deinit(&r);
}

static void box_open(void *sb)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = NULL;
    check(agon_bashbox_open(&b, sb, &(struct agon_bashbox_options){0}, &err));
}

int main(void)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = NULL;
    bench_script();
    check(agon_sandbox_open(&sb, NULL, &err));
    check(agon_cell_new(&c, sb, &err));
    check(agon_bashbox_open(&b, sb, &(struct agon_bashbox_options){0}, &err));
    measure("cell: round trip of a small request", cell_call, c, 50);
    measure("cell: open and close", cell_open, sb, 1);
    measure("bash box: a command", box_run, b, 5);
    measure("bash box: open and close", box_open, sb, 1);
    return 0;
}
