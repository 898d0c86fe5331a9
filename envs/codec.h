#pragma once
/*
 * JSON text <-> Lua values, directly. Runs inside cells, in C functions entered
 * through agon_script_protect(): memory and fuel errors are raised, everything
 * that the model's code did wrong comes back as 1 with a sentence in err.
 *
 * The rules: null is the sentinel `null` (a light userdata); 3 is an integer, 3.0
 * a float; text is valid UTF-8 without NUL; numbers are finite and integers fit 64
 * bits; duplicate keys are refused; depth <= 32, nodes <= 100,000, text <= 1 MB.
 * The writing is Python's json.dumps(v, ensure_ascii=False). Keys stand in the
 * order of the schema's properties, then in the column order of a row, then sorted.
 * An empty table is {} or [] as the schema says; without one it is what it was
 * decoded from, else [].
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"
#include "envs/plan.h"
#include "envs/shape.h"

#include <jansson.h>

struct lua_State;

enum {
    AGON_CODEC_DEPTH_MAX = 32,
    AGON_CODEC_NODES_MAX = 100000,
    AGON_CODEC_BYTES_MAX = 1000000,
    AGON_CODEC_REFUSED = 1,
};

/* Scratch memory that outlives a raised error; zero it, deinit it. */
struct agon_codec {
    struct agon_buf text;  /* a string being unescaped */
    struct agon_buf value; /* a default being written */
    struct agon_str *keys; /* a stack of sorted keys, borrowed from their tables */
    size_t n_keys, keys_capacity;
    struct agon_plans plans; /* of the schemas it has met */
};
void agon_codec_init(struct agon_codec *c);
void agon_codec_deinit(struct agon_codec *c);

/* Put `null`, near(a, b, tolerance) and same(a, b) into the globals. */
void agon_codec_open(struct lua_State *L);
void agon_codec_push_null(struct lua_State *L);
bool agon_codec_is_null(struct lua_State *L, int index);
/* Remember that the table on the top is a list even while it is empty. */
void agon_codec_mark_list(struct lua_State *L);
/* Push what makes a row of a table: lua_setmetatable(L, row). Its keys are then written in the
 * shape's order. The shape outlives the entry. */
void agon_codec_push_shape(struct lua_State *L, const struct agon_shape *shape);

/* Push the value of text. what begins the sentence ("arguments"). */
int agon_codec_decode(struct agon_codec *c, struct lua_State *L, struct agon_str text,
                      const char *what, struct agon_err *err) AGON_MUST_USE;
/* Does the value on the top fit? */
int agon_codec_fits(struct agon_codec *c, struct lua_State *L, const json_t *schema,
                    const char *what, struct agon_err *err) AGON_MUST_USE;
/* Whether the schema has defaults to fill in, at any depth. */
bool agon_codec_has_defaults(struct agon_codec *c, struct lua_State *L, const json_t *schema);
/* Fill absent properties of the table on the top with their defaults, at all depths. */
void agon_codec_defaults(struct agon_codec *c, struct lua_State *L, const json_t *schema);
/* Append the value on the top (nil is null); guide says {} or [] and the order, and checks nothing.
 */
int agon_codec_write(struct agon_codec *c, struct lua_State *L, const json_t *guide,
                     const char *what, struct agon_buf *out, struct agon_err *err) AGON_MUST_USE;
/* The same for a value that must fit schema (NULL: unguided). */
int agon_codec_encode(struct agon_codec *c, struct lua_State *L, const json_t *schema,
                      const char *what, struct agon_buf *out, struct agon_err *err) AGON_MUST_USE;
