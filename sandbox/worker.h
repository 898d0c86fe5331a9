#pragma once
/*
 * Cells, seen from inside: the loop of agon-cell. envs/ and verifiers/ register
 * ops; each gets the request's bytes and appends its reply. An op that returns <0
 * ends the cell (its own failure, not the model's code's); the driver sees its error.
 *
 * An op that is already registered: "echo" gives its request back.
 */
#include "base/buf.h"
#include "base/err.h"

struct agon_worker_op {
    const char *name; /* at most 31 bytes; a table ends with {0} */
    int (*run)(void *state, struct agon_str request, struct agon_buf *reply, struct agon_err *err);
};

struct agon_worker_options {
    const struct agon_worker_op *const *tables; /* ends with NULL */
    void *state;                                /* handed to each op */
    size_t bytes_max;                           /* address space; 0: as it is */
    bool filter;                                /* load the cell's system call filter */
};

/* main() of agon-cell calls this with the ops of all folders. Runs until the driver
 * closes the channel; returns the exit status. */
int agon_worker_main(const struct agon_worker_options *options);
/* Long-running trusted loops call this so that the heartbeat goes on. */
void agon_worker_beat(void);
