#pragma once
/*
 * A tool is run once before it is accepted: with arguments taken from the world
 * where a parameter is named like a column. SQL against a table that is not there
 * and Lua that indexes nil are found now, while the author can mend them.
 */
#include "envs/runtime.h"

/* Run tool 0 of rt, whose source is given. 0, AGON_REJECTED with the sentence in reason, or <0.
 * A tool that raises errors of its own (error(...) stands in the source) may refuse the
 * arguments; that is no fault. What it writes is forgotten with the instance. */
int agon_author_try_tool(struct agon_runtime *rt, struct agon_str source, struct agon_buf *reason,
                         struct agon_err *err) AGON_MUST_USE;
