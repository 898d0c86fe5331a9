#pragma once
/*
 * Making a table of named members from C, as Lua would make it, to the byte of its memory and the
 * unit of its fuel, without a look-up, an insertion and a charge for each: rows of SQL and decoded
 * objects are most of what is made in an entry.
 */
#include <stdint.h>

struct lua_State;

/* A member's name: its text ends in NUL, the rest is filled in here. */
struct agon_script_name {
    const char *text;
    uint32_t size, hash, seed; /* size 0: not known yet */
};

/* At most so many: their chains are shorter than what is charged for (script_hash.c). */
enum { AGON_SCRIPT_RECORD_MAX = 32 };

/* In the place of the n values on the top, none of them nil, push a table with these names; of two
 * of the same name the later one stays. Raises where there is no memory. */
void agon_script_record(struct lua_State *L, struct agon_script_name *names, int n);
/* The string of that name where Lua has it, charged for as lua_pushstring() is; or NULL. */
const void *agon_script_text(struct lua_State *L, struct agon_script_name *name);
/* Push a table with one member, as lua_rawsetp() would set it: a light userdata. */
void agon_script_tag(struct lua_State *L, const void *key, const void *value);
/* The value on the top, which Lua keeps somewhere else for as long as this is in use; and pushed
 * again, without looking for it. There is room for it. */
struct agon_script_kept {
    uint64_t bits;
    uint8_t tag;
};
struct agon_script_kept agon_script_keep(struct lua_State *L);
void agon_script_push(struct lua_State *L, struct agon_script_kept kept);
