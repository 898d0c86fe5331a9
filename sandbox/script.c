/*
 * The restricted Lua: states, entries and limits (script.h). The libraries are in
 * script_lib_*.c.
 *
 * Fuel is charged in five places, so that nothing is free: the count hook for VM
 * instructions, library functions for what they do, the allocator for what it
 * hands out and for each full collection that a refusal causes (a heap kept just
 * below its limit would otherwise collect for ever at no cost), script_bulk.c for
 * what one instruction does to long strings, and script_hash.c for keys that collide.
 *
 * Invariants: 1. nothing that can raise runs outside agon_script_protect(); 2. once
 * s->end is set, the outermost entry ends with it whatever the code catches;
 * 3. the lua_State and all it owns lie in s->heap, all else in struct agon_script.
 */
#include "sandbox/script.h"

#include "base/text.h"
#include "sandbox/script_layout.h"
#include "sandbox/script_lib.h"
#include "sandbox/worker.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    HOOK_STEPS = 200, /* VM instructions between two looks at the fuel */
    CLOCK_HOOKS = 64, /* hook calls between two looks at the clock */
    /* The parser walks the jumps of `a or a or ...` again for each operand: 1 MiB of it took a
     * minute, and nothing of ours is called meanwhile. This much takes half a second. */
    CHUNK_MAX = 96 << 10,
    STACK_BYTES_FREE = 16 << 10,
    STACK_BYTES_MAX = 1 << 20,
    STACK_PROBE = 200, /* slots, more than a new stack has */
    PANIC_STATUS = 70,
    KIND_PROTO = LUA_NUMTYPES + 1, /* what lua_Alloc is told of a function's code */
};
static const size_t MEM_BYTES_MAX = 16U << 20;
static const int64_t FUEL_MAX = 2000000;
/* An entry spends its fuel in some 60 ms at worst. One that runs this long has found
 * work that is charged too little: the heartbeat stops, and the cell is lost. */
static const int64_t ENTRY_CPU_NS_MAX = 3000000000;

/* Copy what Lua said into ret (size bytes): cut at a character, nothing unprintable. */
static void reason_copy(char *ret, size_t size, struct agon_str s)
{
    size_t used = 0;
    for (size_t at = 0; at < s.size && size > 0;) {
        size_t start = at;
        int32_t c = agon_utf8_next(s, &at);
        bool shown = c == '\t' || c == '\n' || (c >= 0x20 && c < 0x7f) || c > 0x9f;
        size_t n = shown ? at - start : 1;
        if (used + n + 1 > size)
            break;
        memcpy(ret + used, shown ? s.data + start : "?", n);
        used += n;
    }
    if (size > 0)
        ret[used] = '\0';
}

/*
 * Each call copies its variable arguments, at the price of one instruction, so a big
 * stack makes all calls slow: 300,000 tail calls that each pass one argument more
 * took minutes. The stack is recognised by its block, bounded, and charged for.
 */
static int64_t stack_charge(const struct agon_script *s)
{
    return s->stack_bytes > STACK_BYTES_FREE ? (int64_t)(s->stack_bytes - STACK_BYTES_FREE) / 32
                                             : 0;
}

static void stack_is(struct agon_script *s, const void *block, size_t size)
{
    s->stack = block;
    s->stack_bytes = size;
    if (size > STACK_BYTES_MAX && !s->end) {
        s->end = AGON_SCRIPT_MEMORY; /* raised at the next charge */
        s->fuel = -1;
    }
}

/* Lua grows its stack by a new block and then frees the old one (5.4.3 and later), or by realloc.
 */
static void stack_follow(struct agon_script *s, const void *block, const void *now, size_t size)
{
    if (s->stack_probe && size >= STACK_PROBE * 16)
        stack_is(s, now, size);
    else if (block && block == s->stack)
        stack_is(s, size > 0 ? now : s->newest, size > 0 ? size : s->newest_bytes);
    if (size > 0) {
        s->newest = now;
        s->newest_bytes = size;
    }
}

/* Strings and code are what Lua writes once; code is what the parser asks for without a kind. */
static bool fixed(const struct agon_script *s, size_t kind)
{
    return !s->heap.settled &&
           (kind == LUA_TSTRING || kind == KIND_PROTO || (kind == 0 && s->parsing));
}

/* It did not get it: there was no fuel for it, or no memory, and Lua collects everything now. */
static __attribute__((noinline)) void *alloc_refuse(struct agon_script *s)
{
    if (s->fuel >= 0)
        s->fuel -= (int64_t)(agon_heap_used(&s->heap) / 16);
    else if (!s->end)
        s->end = AGON_SCRIPT_FUEL;
    return NULL;
}

/* Outside of entries, while the heap is being filled, and where a block is there already. */
static __attribute__((noinline)) void *script_realloc(struct agon_script *s, void *block,
                                                      size_t old, size_t size)
{
    bool grows = size > (block ? old : 0), charged = grows && s->depth > 0;
    if (charged && (s->fuel -= 1 + (int64_t)(size / 64)) < 0)
        return alloc_refuse(s);
    void *p = NULL;
    if (!block && fixed(s, old))
        p = agon_heap_take_fixed(&s->heap, size);
    if (!p)
        p = agon_heap_realloc(&s->heap, block, old, size);
    if (p || size == 0)
        stack_follow(s, block, p, size);
    else if (s->depth > 0)
        return alloc_refuse(s);
    return p;
}

static void *script_alloc(void *user, void *block, size_t old, size_t size)
{
    struct agon_script *s = user;
    s->n_allocs++;
    if (block || size == 0 || s->depth == 0 || !s->heap.settled)
        return script_realloc(s, block, old, size);
    s->fuel -= 1 + (int64_t)(size / 64);
    void *p = s->fuel >= 0 ? agon_heap_take(&s->heap, size) : NULL;
    if (!p)
        return alloc_refuse(s);
    s->newest = p;
    s->newest_bytes = size;
    return p;
}

static int64_t cpu_ns(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t); /* cannot fail on Linux */
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Entries of less than HOOK_STEPS instructions make no system call. */
static void script_hook(lua_State *L, lua_Debug *at)
{
    (void)at;
    struct agon_script *s = script_of(L);
    if (s->hooks++ % CLOCK_HOOKS == 0) {
        int64_t now = cpu_ns();
        if (s->hooks == 1)
            s->cpu_start_ns = now;
        s->overdue = now - s->cpu_start_ns > ENTRY_CPU_NS_MAX;
    }
    if (!s->overdue)
        agon_worker_beat();
    script_charge(L, HOOK_STEPS + stack_charge(s));
}

/* Lua calls this when it raises outside a protected call: our own mistake. */
static int script_panic(lua_State *L)
{
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "?";
    (void)!write(STDERR_FILENO, "agon: lua panic: ", 17);
    (void)!write(STDERR_FILENO, text, strlen(text));
    _exit(PANIC_STATUS);
}

void agon_script_end(lua_State *L, enum agon_script_end end, const char *text)
{
    struct agon_script *s = script_of(L);
    if (!s->end) {
        s->end = end;
        snprintf(s->text, sizeof(s->text), "%s", text);
    }
    lua_pushlightuserdata(L, s);
    lua_error(L);
    abort(); /* lua_error does not return */
}

void agon_script_out_of_fuel(lua_State *L)
{
    agon_script_end(L, AGON_SCRIPT_FUEL, "ran out of fuel");
}

void agon_script_abort(lua_State *L, const char *message)
{
    agon_script_end(L, AGON_SCRIPT_LIMIT, message);
}

void agon_script_charge(lua_State *L, int64_t fuel)
{
    script_charge(L, fuel);
}

bool agon_script_afford(lua_State *L, int64_t fuel)
{
    struct agon_script *s = script_of(L);
    if (s->fuel < fuel)
        return false;
    s->fuel -= fuel;
    return true;
}

int64_t agon_script_fuel(const struct agon_script *s)
{
    return s->fuel_next >= 0 ? s->fuel_next : s->fuel > 0 ? s->fuel : 0;
}

void agon_script_set_fuel(struct agon_script *s, int64_t fuel)
{
    if (s->depth > 0)
        s->fuel = fuel;
    else
        s->fuel_next = fuel > 0 ? fuel : 0;
}

struct agon_script *agon_script_of(lua_State *L)
{
    return script_of(L);
}

void *agon_script_user(lua_State *L)
{
    return script_of(L)->user;
}

void agon_script_set_user(struct agon_script *s, void *user)
{
    s->user = user;
}

static int script_open(lua_State *L, void *arg)
{
    (void)arg;
    static const luaL_Reg libs[] = {
        {"string", agon_script_open_string},
        {"table", agon_script_open_table},
        {"math", agon_script_open_math},
        {"utf8", agon_script_open_utf8},
        {NULL, NULL},
    };
    agon_script_open_base(L);
    for (const luaL_Reg *lib = libs; lib->func; lib++) {
        lib->func(L);
        lua_setfield(L, -2, lib->name);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, -2, "_G");
    lua_rawseti(L, LUA_REGISTRYINDEX, LUA_RIDX_GLOBALS);
    /* Short steps and an early start keep the heap well below its limit. */
    lua_gc(L, LUA_GCINC, 120, 200, 10);
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}

int agon_script_new(struct agon_script **ret, const struct agon_script_limits *limits,
                    struct agon_err *err)
{
    struct agon_script *s AGON_AUTO(agon_script_freep) = calloc(1, sizeof(*s));
    if (!s)
        return agon_fail(err, AGON_ENOMEM, "script: out of memory");
    s->fuel_max = limits && limits->fuel_max > 0 ? limits->fuel_max : FUEL_MAX;
    s->fuel_next = -1;
    size_t mem_bytes_max = limits && limits->mem_bytes_max ? limits->mem_bytes_max : MEM_BYTES_MAX;
    int r = agon_heap_init(&s->heap, mem_bytes_max, err);
    if (r)
        return r;
    s->L = agon_script_newstate(script_alloc, s);
    if (!s->L)
        return agon_fail(err, AGON_ENOMEM, "script: memory limit %zu bytes is too small",
                         mem_bytes_max);
    *(struct agon_script **)lua_getextraspace(s->L) = s;
    lua_atpanic(s->L, script_panic);
    s->stack_probe = true;
    bool grown = lua_checkstack(s->L, STACK_PROBE);
    s->stack_probe = false;
    if (!grown || !s->stack)
        return agon_fail(err, AGON_ENOMEM, "script: memory limit %zu bytes is too small",
                         mem_bytes_max);
    char reason[128];
    r = agon_script_protect(s, script_open, NULL, reason, sizeof(reason), err);
    if (r < 0)
        return r;
    if (r > 0)
        return agon_fail(err, AGON_ENOMEM, "script: opening libraries: %s", reason);
    *ret = AGON_STEAL(s);
    return 0;
}

void agon_script_free(struct agon_script *s)
{
    if (!s)
        return;
    agon_heap_deinit(&s->heap); /* no lua_close: no finalizer exists, and the heap goes as one */
    free(s);
}

struct script_call {
    int (*fn)(lua_State *L, void *arg);
    void *arg;
    int result;
};

static int script_enter(lua_State *L)
{
    struct script_call *c = lua_touserdata(L, 1);
    lua_settop(L, 0);
    c->result = c->fn(L, c->arg);
    return 0;
}

static int script_describe(lua_State *L)
{
    if (lua_istable(L, 1) && !luaL_getmetafield(L, 1, "__tostring")) {
        lua_getfield(L, 1, "message"); /* what error{message=...} means to a reader */
        if (lua_type(L, -1) == LUA_TSTRING)
            return 1;
        lua_pushliteral(L, "(error object is a table)");
        return 1;
    }
    agon_script_tostring(L, 1);
    return 1;
}

/* The message of the error object on the top of the stack. */
static void script_reason(struct agon_script *s, char *ret, size_t size)
{
    lua_State *L = s->L;
    if (lua_type(L, -1) != LUA_TSTRING) {
        lua_pushcfunction(L, script_describe);
        lua_insert(L, -2);
        (void)lua_pcall(L, 1, 1, 0); /* a failure is described by its own message */
    }
    size_t n = 0;
    const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &n) : NULL;
    if (s->end == AGON_SCRIPT_OK) /* describing may have run out of fuel, too */
        reason_copy(ret, size, text ? (struct agon_str){text, n} : agon_str("error"));
}

static enum agon_script_end script_ended(struct agon_script *s, int status, char *ret, size_t size)
{
    if (s->fuel < 0 && !s->end && status != LUA_ERRMEM)
        s->end = AGON_SCRIPT_FUEL; /* spent where nothing can be raised: script_bulk.c */
    if (status == LUA_OK && !s->end)
        return AGON_SCRIPT_OK;
    if (!s->end && status == LUA_ERRMEM)
        s->end = AGON_SCRIPT_MEMORY;
    if (!s->end)
        script_reason(s, ret, size);
    if (s->end) {
        const char *text = s->text[0]                     ? s->text
                           : s->end == AGON_SCRIPT_MEMORY ? "ran out of memory"
                                                          : "ran out of fuel";
        reason_copy(ret, size, agon_str(text));
    }
    return s->end ? s->end : AGON_SCRIPT_ERROR;
}

int agon_script_protect(struct agon_script *s, int (*fn)(lua_State *L, void *arg), void *arg,
                        char *ret_reason, size_t reason_size, struct agon_err *err)
{
    lua_State *L = s->L;
    if (!lua_checkstack(L, 8))
        return agon_fail(err, AGON_ENOMEM, "script: no room on the stack");
    if (reason_size > 0)
        ret_reason[0] = '\0';
    if (s->depth == 0) {
        s->fuel = s->fuel_next >= 0 ? s->fuel_next : s->fuel_max;
        s->fuel_next = -1;
        s->end = AGON_SCRIPT_OK;
        s->text[0] = '\0';
        s->bulk = 0;
        s->hooks = 0;
        s->overdue = false;
        agon_worker_beat(); /* an op may make thousands of entries too short for the hook */
        lua_sethook(L, script_hook, LUA_MASKCOUNT, HOOK_STEPS);
    }
    s->depth++;
    struct agon_script *before = agon_script_running(s);
    struct script_call call = {.fn = fn, .arg = arg};
    int top = lua_gettop(L);
    lua_pushcfunction(L, script_enter); /* light: cannot raise */
    lua_pushlightuserdata(L, &call);
    int status = lua_pcall(L, 1, 0, 0);
    enum agon_script_end end = script_ended(s, status, ret_reason, reason_size);
    (void)agon_script_running(before); /* which is s: entries end in their order */
    lua_settop(L, top);
    s->depth--;
    if (end)
        return (int)end;
    return call.result < 0 ? call.result : 0;
}

void agon_script_load_chunk(lua_State *L, const char *name, struct agon_str text)
{
    char why[96];
    if (text.size > CHUNK_MAX) {
        snprintf(why, sizeof(why), "the chunk has %zu bytes, at most %d are allowed", text.size,
                 (int)CHUNK_MAX);
        agon_script_end(L, AGON_SCRIPT_SYNTAX, why);
    }
    script_charge(L, (int64_t)text.size); /* compiling takes about 19 ns a byte */
    script_of(L)->parsing = true;
    int status = luaL_loadbufferx(L, text.data, text.size, name, "t"); /* raises nothing */
    script_of(L)->parsing = false;
    if (status == LUA_ERRMEM)
        lua_error(L);
    if (status != LUA_OK) {
        struct agon_script *s = script_of(L);
        size_t n = 0;
        const char *message = lua_tolstring(L, -1, &n);
        reason_copy(s->text, sizeof(s->text),
                    message ? (struct agon_str){message, n} : agon_str("syntax error"));
        if (!s->end)
            s->end = AGON_SCRIPT_SYNTAX;
        lua_error(L);
    }
}

void agon_script_run_chunk(lua_State *L, const char *name, struct agon_str text, int n_results)
{
    agon_script_load_chunk(L, name, text);
    lua_call(L, 0, n_results);
}

static int script_collect(lua_State *L, void *arg)
{
    (void)arg;
    lua_gc(L, LUA_GCCOLLECT);
    return 0;
}

static struct script_stack script_stack(const struct agon_script *s)
{
    struct lua_thread thread;
    memcpy(&thread, s->L, sizeof(thread));
    return (struct script_stack){s->stack, s->stack_bytes, thread.global->n_buckets};
}

/* As it was when what a restore goes back to was kept. */
static const struct script_stack *script_base(const struct agon_script *s)
{
    return s->heap.layered ? &s->layer : &s->saved;
}

int agon_script_snapshot(struct agon_script *s, struct agon_err *err)
{
    char reason[64];
    int r = agon_script_protect(s, script_collect, NULL, reason, sizeof(reason), err);
    if (r)
        return r < 0 ? r
                     : agon_fail(err, AGON_ENOMEM, "script: collecting before a snapshot: %s",
                                 reason);
    s->saved = script_stack(s);
    return agon_heap_snapshot(&s->heap, err);
}

int agon_script_layer(struct agon_script *s, struct agon_err *err)
{
    const struct script_stack *before = script_base(s);
    s->layer = script_stack(s);
    if (s->layer.n_buckets != before->n_buckets)
        agon_heap_stir(&s->heap);
    return agon_heap_layer(&s->heap, err);
}

void agon_script_drop_layer(struct agon_script *s)
{
    agon_heap_drop_layer(&s->heap);
}

uint64_t agon_script_n_allocs(const struct agon_script *s)
{
    return s->n_allocs;
}

void agon_script_restore(struct agon_script *s)
{
    if (!s->heap.saved.data)
        return;
    const struct script_stack *stack = script_base(s);
    if (script_stack(s).n_buckets != stack->n_buckets)
        agon_heap_stir(&s->heap);
    agon_heap_restore(&s->heap);
    s->stack = stack->block;
    s->stack_bytes = stack->bytes;
}
