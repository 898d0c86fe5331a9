#pragma once
/*
 * What is stored, as the model reads it: the slots `world`, `tools` and `below` of
 * PROTOCOL.md, and signatures. The world is read through the cell.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/rng.h"
#include "envs/runtime.h"

/* Slot `world`. rng: the stream of the samples shown. */
int agon_render_world(struct agon_buf *b, struct agon_instance *in, const struct agon_rng *rng,
                      struct agon_err *err) AGON_MUST_USE;
/* TYPE of a schema: "array of {name: string}". */
void agon_render_type(struct agon_buf *b, const json_t *schema);
/* "NAME(ARG: TYPE, ARG?: TYPE) -> TYPE". */
void agon_render_signature(struct agon_buf *b, const struct agon_tool *tool);
/* Slot `tools`. */
void agon_render_tools(struct agon_buf *b, const struct agon_runtime *rt);
/* Slot `below` for a level above `below`; nothing for NULL. */
void agon_render_below(struct agon_buf *b, const struct agon_task *below);
/* Slot `below` at level 1 of a later line. */
void agon_render_others(struct agon_buf *b, const struct agon_task *tasks, int n);
/* One value as prompts show it: "Fiat 128", "21.0", "null". */
void agon_render_value(struct agon_buf *b, const json_t *value);
