#pragma once
/*
 * Inside the restricted Lua: what script.c and the libraries script_lib_*.c share.
 * Every library function charges fuel in proportion to what it does, holds no
 * resource across a call that may raise, and uses no luaL_Buffer (whose userdata
 * has a finalizer).
 */
#include "sandbox/heap.h"
#include "sandbox/script.h"

#include <lauxlib.h>
#include <lua.h>

struct script_stack {
    const void *block;
    size_t bytes;
    int n_buckets; /* of all strings: with more, all were linked anew */
};
struct agon_script {
    struct agon_heap heap;
    lua_State *L; /* owned; lives in heap */
    int64_t fuel; /* left of this entry */
    int64_t fuel_max;
    int64_t fuel_next;        /* set for the next entry, or -1 */
    int depth;                /* entries on the stack */
    enum agon_script_end end; /* sticky within an outermost entry */
    size_t bulk;              /* bytes worked on that are not yet a unit of fuel */
    uint64_t hooks;           /* hook calls in this entry */
    int64_t cpu_start_ns;
    bool overdue;      /* it took far longer than its fuel explains: no heartbeat any more */
    const void *stack; /* the block of Lua's stack */
    size_t stack_bytes;
    struct script_stack saved, layer; /* the same in the snapshots */
    uint64_t n_allocs;                /* calls of Lua's for memory, freeing included */
    const void *newest;               /* the last block handed out */
    size_t newest_bytes;
    bool stack_probe;
    bool parsing;   /* Lua's parser is at work */
    void *user;     /* borrowed */
    char text[256]; /* why it ended */
};

/* The script that is charged for what Lua does in bulk, or NULL; returns the one before. */
struct agon_script *agon_script_running(struct agon_script *s);
/* The running script pays for the work of so many bytes at 1 ns; raises nothing. False when there
 * is no fuel left for it. */
bool agon_script_bulk(size_t bytes);
/* lua_newstate() with a seed that is the same in each cell. */
lua_State *agon_script_newstate(lua_Alloc alloc, void *user);
/* End the entry: remembers why and raises; no allocation. */
void agon_script_end(lua_State *L, enum agon_script_end end, const char *text)
    __attribute__((noreturn));
void agon_script_out_of_fuel(lua_State *L) __attribute__((noreturn));

static inline struct agon_script *script_of(lua_State *L)
{
    return *(struct agon_script **)lua_getextraspace(L);
}

static inline void script_charge(lua_State *L, int64_t fuel)
{
    struct agon_script *s = script_of(L);
    if ((s->fuel -= fuel) < 0)
        agon_script_out_of_fuel(L);
}

/* For work over n bytes that the C library does in bulk. */
static inline void script_charge_bytes(lua_State *L, size_t n)
{
    script_charge(L, 1 + (int64_t)(n / 32));
}

/* A byte buffer kept in a userdata at a stack slot: no finalizer, all memory counted. */
struct script_buf {
    lua_State *L;
    int slot;
    char *data;
    size_t size, capacity;
};
void agon_script_buf_init(struct script_buf *b, lua_State *L); /* pushes one value */
char *agon_script_buf_extend(struct script_buf *b, size_t size);
void agon_script_buf_add(struct script_buf *b, const void *data, size_t size);
void agon_script_buf_push(struct script_buf *b); /* pushes the content as a string */

/* tostring() without addresses; pushes a string. */
void agon_script_tostring(lua_State *L, int index);

/* Libraries: each pushes its table (base: the new table of globals). */
int agon_script_open_base(lua_State *L);
int agon_script_open_string(lua_State *L);
int agon_script_open_table(lua_State *L);
int agon_script_open_math(lua_State *L);
int agon_script_open_utf8(lua_State *L);
/* Into the table on the top of the stack: find, match, gmatch, gsub; format; sort; pairs, next. */
void agon_script_add_match(lua_State *L);
void agon_script_add_format(lua_State *L);
void agon_script_add_sort(lua_State *L);
void agon_script_add_pairs(lua_State *L);
