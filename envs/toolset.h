#pragma once
/*
 * The tools of an environment inside a cell: one Lua state that has run tools.lua
 * and was then snapshot; each call starts from that snapshot, so nothing passes
 * from one call to the next but through the world.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "envs/world.h"

#include <jansson.h>

struct agon_toolset;

enum {
    AGON_TOOLS_MAX = 64,
    AGON_TOOL_PARAMS_MAX = 32,
    AGON_TOOLSET_REFUSED = 1,
    AGON_CALL_ERROR = 1
};

struct agon_tool_entry {
    char *name, *description;
    json_t *params, *returns;
    bool writes;
};

/* AGON_TOOLSET_REFUSED with a sentence in err when text does not load or declares a bad signature.
 */
int agon_toolset_load(struct agon_toolset **ret, struct agon_world *w, struct agon_str text,
                      struct agon_err *err) AGON_MUST_USE;
void agon_toolset_free(struct agon_toolset *ts);
AGON_DEFINE_FREEP(struct agon_toolset, agon_toolset_free)
int agon_toolset_count(const struct agon_toolset *ts);
const struct agon_tool_entry *agon_toolset_get(const struct agon_toolset *ts, int i);
int agon_toolset_find(const struct agon_toolset *ts, struct agon_str name); /* -1: none */

struct agon_tool_call {
    int tool;
    struct agon_str arguments;  /* JSON text; "" is {} */
    int64_t fuel;               /* to spend; what is left after the call */
    struct agon_buf *canonical; /* emptied, then the arguments as the tool got them; stays empty
                                   when they do not fit */
    struct agon_buf *result;    /* emptied, then JSON text or the sentence of the error */
    /* Asked once the arguments stand: true when it has put another result in place. May be NULL. */
    bool (*override)(void *user, const struct agon_tool_call *call);
    void *user;
};
/* 0, AGON_CALL_ERROR (result is a sentence for a model), or <0. The caller keeps the savepoint. */
int agon_toolset_call(struct agon_toolset *ts, struct agon_tool_call *call,
                      struct agon_err *err) AGON_MUST_USE;
