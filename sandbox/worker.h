#pragma once
/*
 * Cells, seen from inside: the loop of agon-cell. envs/ and verifiers/ register
 * ops; each gets the request's bytes and appends its reply. An op that returns <0
 * ends the cell (its own failure, not the model's code's).
 */
#include "base/buf.h"
#include "base/err.h"

struct agon_worker;

struct agon_worker_op {
    const char *name;
    int (*run)(void *state, struct agon_str request, struct agon_buf *reply, struct agon_err *err);
};

/* main() of agon-cell calls this with the ops of all folders; state is handed to
 * each op. Runs until the driver closes the channel; returns the exit status. */
int agon_worker_main(const struct agon_worker_op *const *tables, void *state);
/* Long-running trusted loops call this so that the heartbeat goes on. */
void agon_worker_beat(void);
