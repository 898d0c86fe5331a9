#pragma once
/* What codec.c, codec_read.c and codec_logic.c share. */
#include "envs/codec.h"
#include "envs/schema_walk.h"

/* Look at the value on the top of the stack. */
void agon_codec_look(struct lua_State *L, enum agon_kind want, struct agon_look *ret);
/* Remember that the table on the top is an object even while it is empty. */
void agon_codec_mark_object(struct lua_State *L);
/* Put near and same into the globals. */
void agon_codec_open_logic(struct lua_State *L);
