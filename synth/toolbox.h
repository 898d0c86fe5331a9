#pragma once
/*
 * A toolset in the making: the sources of its tools, one by one, in the order of
 * their definition. tools.lua is all of them, each behind a line
 * "-- ==== NAME ====", which is how it is taken apart again.
 */
#include "base/buf.h"
#include "base/err.h"

struct agon_toolbox_item {
    char *name, *source;
};
struct agon_toolbox {
    struct agon_toolbox_item *items;
    int n;
};
enum { AGON_TOOLS_MAX = 32, AGON_TOOL_SOURCE_MAX = 16 << 10 };

void agon_toolbox_deinit(struct agon_toolbox *t);
int agon_toolbox_copy(struct agon_toolbox *to, const struct agon_toolbox *from,
                      struct agon_err *err) AGON_MUST_USE;
/* Replace the tool of this name or add it at the end. */
int agon_toolbox_put(struct agon_toolbox *t, const char *name, struct agon_str source,
                     struct agon_err *err) AGON_MUST_USE;
/* Index of a tool, or -1. */
int agon_toolbox_find(const struct agon_toolbox *t, const char *name);
/* Append tools.lua. */
void agon_toolbox_text(const struct agon_toolbox *t, struct agon_buf *b);
/* Take tools.lua apart. AGON_EINPUT where it does not begin with a "-- ==== NAME ====" line. */
int agon_toolbox_parse(struct agon_toolbox *t, struct agon_str text,
                       struct agon_err *err) AGON_MUST_USE;
/* Does a source hold a line that would tear tools.lua apart? */
bool agon_toolbox_has_mark(struct agon_str source);
