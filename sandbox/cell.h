#pragma once
/*
 * Cells, seen from the driver: boxed worker processes in which model-written Lua
 * and SQL run. The driver sends one request at a time and gets one reply; what
 * the ops are is registered by envs/ and verifiers/ in the worker (sandbox/worker.h).
 *
 * Two kinds of end (DESIGN.md, "The sandbox"): whatever model-written code does
 * within its limits is part of a reply. A cell that dies, hangs (no heartbeat for
 * 1 s) or breaks the frame format is lost: an infrastructure outcome, never a
 * verdict. The caller opens a fresh cell, repeats, and gives up after three.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct agon_sandbox; /* the launcher process and what the start-up probe found */
struct agon_cell;

struct agon_sandbox_options {
    const char *cell_program; /* agon-cell; NULL: $AGON_CELL, else beside the running program */
    const char *bwrap;        /* bubblewrap; NULL: /usr/bin, /bin, /usr/local/bin */
    size_t cell_bytes_max;    /* address space of a cell; 0: 512 MiB */
    bool keep_first; /* a cell is wanted soon: the box that is built to prove that boxes work is it,
                      * and waits meanwhile */
};

/*
 * Fork the launcher (call this early, while the process is small) and build one
 * box to prove that boxes work here. Where none can be built nothing runs:
 * AGON_ESYS says why and what to do (unprivileged user namespaces off, AppArmor
 * profile, bubblewrap missing).
 */
int agon_sandbox_open(struct agon_sandbox **ret, const struct agon_sandbox_options *options,
                      struct agon_err *err) AGON_MUST_USE;
void agon_sandbox_close(struct agon_sandbox *sb); /* kills every box; NULL is fine */
AGON_DEFINE_FREEP(struct agon_sandbox, agon_sandbox_close)

int agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb,
                  struct agon_err *err) AGON_MUST_USE;
/* A cell with the ops for documents from elsewhere (synth/retrieval/parse_ops.h); one of them may
 * take 20 s of processor time without a beat. */
int agon_cell_new_parser(struct agon_cell **ret, struct agon_sandbox *sb,
                         struct agon_err *err) AGON_MUST_USE;
void agon_cell_free(struct agon_cell *c);
AGON_DEFINE_FREEP(struct agon_cell, agon_cell_free)

enum { AGON_CELL_LOST = 1 };
/*
 * Send one request and wait for its reply. op: at most 31 bytes. request: any
 * bytes, at most 64 MiB. reply is emptied first and owned by the caller. Returns 0,
 * AGON_CELL_LOST (ret_reason says why: "no heartbeat for 1000 ms", "killed by
 * signal 9", what the op that failed said; the cell can only be freed), or <0 for the
 * driver's own failures. A hang is 1 s of the cell's own CPU time, or 10 s of wall
 * time, without a beat: a machine that is merely busy loses no cell. No call lasts
 * longer than half an hour.
 */
int agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                   struct agon_buf *reply, char ret_reason[128],
                   struct agon_err *err) AGON_MUST_USE;
/* The two halves of agon_cell_call, to keep several cells busy: start, then wait on
 * agon_cell_fd() for reading (at most 250 ms, so that a hang is seen), then take. */
int agon_cell_start(struct agon_cell *c, const char *op, struct agon_str request,
                    struct agon_err *err) AGON_MUST_USE;
int agon_cell_fd(const struct agon_cell *c);
enum { AGON_CELL_TAKE_WAIT = 0, AGON_CELL_TAKE_DONE = 1, AGON_CELL_TAKE_LOST = 2 };
/* Wait for the reply of what was started: returns as agon_cell_call(). */
int agon_cell_finish(struct agon_cell *c, struct agon_buf *reply, char ret_reason[128],
                     struct agon_err *err) AGON_MUST_USE;
/* What has come of the reply: AGON_CELL_TAKE_*, or <0. Never blocks. */
int agon_cell_take(struct agon_cell *c, struct agon_buf *reply, char ret_reason[128],
                   struct agon_err *err) AGON_MUST_USE;
