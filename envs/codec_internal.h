#pragma once
/* What codec.c, codec_read.c, codec_write.c and codec_logic.c share. */
#include "envs/codec.h"
#include "envs/schema_walk.h"

/* Look at the value on the top of the stack. */
void agon_codec_look(struct lua_State *L, enum agon_kind want, struct agon_look *ret);
/* The same for a plain member of the table on the top, without Lua's stack; false: push it and
 * look. */
bool agon_codec_look_field(struct lua_State *L, struct agon_str name, struct agon_look *ret);
/* The plan of a schema, NULL without one; raises where there is no memory. */
const struct agon_plan *agon_codec_plan(struct agon_codec *c, struct lua_State *L,
                                        const json_t *schema);
/* Whether what stands on the top fits but for its members and items. */
bool agon_codec_scalar_fits(struct agon_codec *c, struct lua_State *L, const struct agon_plan *p,
                            const struct agon_look *look);
/* By the schema itself: 0 where the value on the top fits, else its sentence in err. */
int agon_codec_misfit(struct agon_codec *c, struct lua_State *L, const json_t *schema,
                      const char *what, struct agon_err *err);
/* Push the n sorted string keys of the table on the top onto the codec's own stack. */
struct agon_str *agon_codec_keys(struct agon_codec *c, struct lua_State *L, size_t n);
/* How many bytes at its head stand for themselves in a string of JSON; ascii: and are ASCII. */
size_t agon_codec_plain(struct agon_str s, bool ascii);
/* In a row's metatable: its shape. A key of our own, which no script can have, as no script can put
 * such a table on a row. */
extern const char agon_codec_key_shape;
/* Remember that the table on the top is an object even while it is empty. */
void agon_codec_mark_object(struct lua_State *L);
/* Put near and same into the globals. */
void agon_codec_open_logic(struct lua_State *L);
