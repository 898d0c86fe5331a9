#pragma once
/*
 * A tape of what was asked of a cell and what it said, so that all of it can be
 * asked again of a fresh one: a gate's verdict counts when a second cell gives the
 * same bytes (DESIGN.md, "The sandbox"). Where two differ, both traces are kept.
 */
#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>

struct agon_runtime;

struct agon_tape_item {
    int gate;              /* on whose behalf */
    char *request, *reply; /* owned */
    size_t request_size, reply_size;
};
struct agon_tape {
    struct agon_tape_item *items; /* owned */
    int n, capacity;
    size_t bytes; /* of all requests and replies */
};
void agon_tape_deinit(struct agon_tape *t);
/* Copies both. */
int agon_tape_add(struct agon_tape *t, int gate, const struct agon_buf *request,
                  const struct agon_buf *reply, struct agon_err *err) AGON_MUST_USE;

enum { AGON_TAPE_DIFFERS = 1 };
/*
 * Ask everything again, in its order, of a fresh cell. AGON_TAPE_DIFFERS at the first reply that
 * is another one: *ret_gate is whose request it was, *ret_traces (new reference) what was said:
 * {"request": {"verifier", "solution", "item"?}, "first": TRACE, "second": TRACE}, where a trace
 * holds "refused" or "answer", "calls", "checks" (that failed) and, of the first answer on
 * which the two disagree, "pass" and "failed".
 */
int agon_tape_again(const struct agon_tape *t, struct agon_runtime *rt, int *ret_gate,
                    json_t **ret_traces, struct agon_err *err) AGON_MUST_USE;
