#pragma once
/*
 * Making a table of named members from C, as Lua would make it, to the byte of its memory and the
 * unit of its fuel, without a look-up, an insertion and a charge for each: rows of SQL and decoded
 * objects are most of what is made in an entry.
 */
struct lua_State;

/* At most so many: their chains are shorter than what is charged for (script_hash.c). */
enum { AGON_SCRIPT_RECORD_MAX = 32 };

/* In the place of the n values on the top, none of them nil, push a table with these names; of two
 * of the same name the later one stays. Raises where there is no memory. */
void agon_script_record(struct lua_State *L, const char *const *names, int n);
/* Push a table with one member, as lua_rawsetp() would set it: a light userdata. */
void agon_script_tag(struct lua_State *L, const void *key, const void *value);
