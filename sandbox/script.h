#pragma once
/*
 * The restricted Lua 5.4: text chunks; reduced base, string, table, math (no
 * random), utf8; no coroutines, xpcall, load, __gc, weak tables; pairs in sorted
 * order (numbers, then strings, then booleans); no addresses printed. CPU is
 * bounded by fuel that C functions charge too; memory by a counting allocator.
 * Running out of either aborts the call for good: pcall does not catch it.
 * Runs inside cells only. One struct owns one lua_State (a principal): tools,
 * solution and verifier each have their own.
 *
 * C code that implements library functions for a principal (world:rows and the
 * like) is written against lua.h and entered through agon_script_protect().
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>

struct lua_State;
struct agon_script;

struct agon_script_limits {
    size_t mem_bytes_max; /* 0: 16 MiB */
    int64_t fuel_max;     /* per entry; 0: 2,000,000 */
};

enum agon_script_end {
    AGON_SCRIPT_OK = 0,
    AGON_SCRIPT_ERROR = 1,  /* the code raised; the message is in the reason */
    AGON_SCRIPT_FUEL = 2,   /* ran out of fuel */
    AGON_SCRIPT_MEMORY = 3, /* ran out of memory */
    AGON_SCRIPT_SYNTAX = 4, /* the chunk does not compile */
    AGON_SCRIPT_LIMIT =
        5, /* another stated limit (SQL operations, output), set by agon_script_abort() */
};

int agon_script_new(struct agon_script **ret, const struct agon_script_limits *limits,
                    struct agon_err *err) AGON_MUST_USE;
void agon_script_free(struct agon_script *s);
AGON_DEFINE_FREEP(struct agon_script, agon_script_free)

/*
 * The one door: run fn(L, arg) under lua_pcall with fresh fuel. Returns an
 * agon_script_end (>= 0) with the message, without addresses and at most
 * reason_size bytes, in ret_reason when it is not OK; <0 only for our own
 * failures: fn's own negative result, passed up after fn has filled the caller's err
 * through arg. The stack is restored. fn starts with an empty stack of its own and may
 * leave results in arg. An entry made from within another of the same script shares
 * its fuel and its end.
 */
int agon_script_protect(struct agon_script *s, int (*fn)(struct lua_State *L, void *arg), void *arg,
                        char *ret_reason, size_t reason_size, struct agon_err *err) AGON_MUST_USE;
/* Inside fn or a C function: compile a text chunk ("=name") of at most 96 KiB and leave it on the
 * stack as a function with _ENV as its only upvalue. Raises. */
void agon_script_load_chunk(struct lua_State *L, const char *name, struct agon_str text);
/* The same, and call it: compile and call a text chunk ("=name"), leaving n_results. Raises. */
void agon_script_run_chunk(struct lua_State *L, const char *name, struct agon_str text,
                           int n_results);
/* Charge fuel from a C function; raises when it runs out. */
void agon_script_charge(struct lua_State *L, int64_t fuel);
/* The same where there is so much; false: nothing was charged. */
bool agon_script_afford(struct lua_State *L, int64_t fuel);
/* End the current entry with AGON_SCRIPT_LIMIT and this message; pcall does not catch it. */
void agon_script_abort(struct lua_State *L, const char *message) __attribute__((noreturn));
/* What is left of this (or, between entries, the last) entry's fuel, and what this (or the
 * next) entry has: for sharing one budget between principals. */
int64_t agon_script_fuel(const struct agon_script *s);
void agon_script_set_fuel(struct agon_script *s, int64_t fuel);
/* The owner of L, and a slot for the owner's own pointer. */
struct agon_script *agon_script_of(struct lua_State *L);
void *agon_script_user(struct lua_State *L);
void agon_script_set_user(struct agon_script *s, void *user);
/* Keep the heap as it is now; agon_script_restore() puts it back by memcpy. Between entries
 * only. A userdata made since then vanishes without its __gc: C resources must not hang on it. */
int agon_script_snapshot(struct agon_script *s, struct agon_err *err) AGON_MUST_USE;
void agon_script_restore(struct agon_script *s);
/* How often Lua asked for memory or gave some back. An entry of our own code alone that asked for
 * none has left nothing, and the heap need not be put back after it. */
uint64_t agon_script_n_allocs(const struct agon_script *s);
/* Keep what was made since the snapshot, too: what several entries begin with, each of which leaves
 * nothing to the next. agon_script_restore() puts this back until it is dropped. */
int agon_script_layer(struct agon_script *s, struct agon_err *err) AGON_MUST_USE;
void agon_script_drop_layer(struct agon_script *s);
