#pragma once
/*
 * Does a tool put its arguments into the text of its SQL? Bound parameters never make a
 * statement fail to parse; text that was concatenated does as soon as it holds a quote.
 * So a call that works is made again with quotes in one text argument after the other.
 */
#include "base/buf.h"
#include "base/err.h"
#include "envs/runtime.h"

/*
 * arguments: an object with which the tool may be called (what it leaves out is filled in where
 * its schema says "string"). AGON_REJECTED with one sentence in reason when an argument becomes
 * SQL; 0: none was found to. Nothing of the calls stays.
 */
int agon_taint_check(struct agon_runtime *rt, const struct agon_tool *tool, const json_t *arguments,
                     struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
