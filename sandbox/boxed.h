#pragma once
/*
 * Inside sandbox/: a boxed process as the driver holds it - its channel, heartbeat,
 * standard error and life - and the sandbox that boxes come from. Cells and bash
 * boxes are both made of it.
 */
#include "sandbox/box.h"
#include "sandbox/cell.h"
#include "sandbox/frame.h"
#include "sandbox/launcher.h"

#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

struct agon_sandbox {
    struct agon_launcher *launcher; /* owned */
    struct agon_cell *spare; /* owned: of the first box, for who first wants a cell, or NULL */
    struct agon_buf filter;  /* BPF of a box */
    int program_fd;          /* agon-cell as it was when we began */
    int parser_fd;           /* agon-parse as it was when the first one was asked for, or -1 */
    char parser_path[4096];  /* beside agon-cell */
    size_t cell_bytes_max;
    char bwrap[256];
    bool start_failed; /* bubblewrap ran, but no program said hello: look for an obstacle */
};

enum { AGON_BOXED_REASON = 128 };

struct agon_boxed {
    struct agon_sandbox *sb; /* borrowed */
    int fd, stderr_fd, pid;  /* pid: bubblewrap's, as the launcher knows it; -1 once ended */
    clockid_t clock;         /* CPU time of the boxed process */
    const _Atomic uint64_t *heartbeat;
    bool busy, lost;
    char reason[AGON_BOXED_REASON]; /* why it is lost */
    char op[AGON_FRAME_OP];         /* of the request in flight */
    struct agon_buf in;             /* head and content as far as they have come */
    uint64_t beat;                  /* last seen, and when it came */
    int64_t beat_ms, deadline_ms;
    int hang_cpu_ms;
    int64_t stall_cpu_ms; /* CPU time when the stall was first noticed, or -1 */
};

/* Start a box and wait for its program to say hello. */
int agon_boxed_open(struct agon_boxed **ret, struct agon_sandbox *sb,
                    const struct agon_box_options *options, struct agon_err *err) AGON_MUST_USE;
void agon_boxed_close(struct agon_boxed *b); /* kills it and all it started; NULL is fine */
AGON_DEFINE_FREEP(struct agon_boxed, agon_boxed_close)
/* As agon_cell_start(), agon_cell_take(), agon_cell_finish(), agon_cell_call(). wall_ms_max: the
 * call is lost after that, beats or not. */
int agon_boxed_start(struct agon_boxed *b, const char *op, struct agon_str request, int wall_ms_max,
                     struct agon_err *err) AGON_MUST_USE;
int agon_boxed_take(struct agon_boxed *b, struct agon_buf *reply, char *ret_reason,
                    struct agon_err *err) AGON_MUST_USE;
int agon_boxed_finish(struct agon_boxed *b, struct agon_buf *reply, char *ret_reason,
                      struct agon_err *err) AGON_MUST_USE;
int agon_boxed_call(struct agon_boxed *b, const char *op, struct agon_str request, int wall_ms_max,
                    struct agon_buf *reply, char *ret_reason, struct agon_err *err) AGON_MUST_USE;

/* What on the machine whose root directory is `root` ("" is this one) keeps boxes from
 * working, as a sentence that ends with the remedy; "" when nothing known does. */
void agon_probe_remedy(const char *root, char *ret, size_t size);
/* The first of bubblewrap's steps that is refused here, what refused it and the remedy, as a
 * sentence; "" when all of them work. */
void agon_probe_steps(char *ret, size_t size);
/* Both for this machine: the more exact one that there is. */
void agon_probe_here(char *ret, size_t size);
