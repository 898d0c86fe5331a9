#pragma once
/*
 * What a box is: options become a list of operations, the list becomes bubblewrap's
 * arguments. Nothing is run here (launcher.h does), so each step can be tested.
 *
 * Every box: all namespaces unshared, no further user namespaces, a read-only root,
 * /proc and /dev, tmpfs only with a size, no capability, a system call filter, an
 * empty environment, dead with its parent. Descriptors as AGON_BOX_FD_*.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

enum agon_box_kind {
    AGON_BOX_CELL, /* the system's libraries, no writable place */
    AGON_BOX_BASH, /* /usr, /docs, a tmpfs at /work and /tmp */
};

struct agon_box_options {
    enum agon_box_kind kind;
    const char *docs;      /* directory to be shown at /docs (bash), or NULL */
    size_t work_bytes_max; /* of /work (bash) */
    const char *argument;  /* for the boxed program, or NULL */
    int program_fd;        /* what runs in it; 0: agon-cell */
    int hang_cpu_ms;       /* processor time without a beat that is a hang; 0: 800 */
};

enum {
    AGON_BOX_FD_CHANNEL = 3,
    AGON_BOX_FD_HEARTBEAT = 4,
    AGON_BOX_FD_PROGRAM = 5, /* agon-cell or agon-parse, run as /proc/self/fd/5 */
    AGON_BOX_FD_FILTER = 6,  /* BPF, read and closed by bubblewrap */
};

enum agon_box_op_kind {
    AGON_BOX_FLAG,      /* --a */
    AGON_BOX_VALUE,     /* --a b */
    AGON_BOX_RO_BIND,   /* host path a at b */
    AGON_BOX_SYMLINK,   /* b -> a */
    AGON_BOX_TMPFS,     /* at b, of size bytes */
    AGON_BOX_DIR,       /* empty directory b */
    AGON_BOX_REMOUNT_RO /* b */
};
struct agon_box_op {
    enum agon_box_op_kind kind;
    const char *a, *b;
    size_t size;
};
enum { AGON_BOX_OPS_MAX = 64 };
struct agon_box_plan {
    struct agon_box_op ops[AGON_BOX_OPS_MAX];
    int n_ops;
    char links[8][64]; /* targets of the host's /bin, /lib, ... */
    const char *argument;
};

int agon_box_plan(struct agon_box_plan *ret, const struct agon_box_options *options,
                  struct agon_err *err) AGON_MUST_USE;
/* What the control group of a box may hold: all that its own limits let it have, and a little for
 * the kernel. 0: no group is worth its price (a cell has one process with an address space). */
uint64_t agon_box_memory_max(const struct agon_box_options *options);
/* Append argv, each string with its NUL; the first is "bwrap". */
int agon_box_argv(struct agon_buf *b, const struct agon_box_plan *plan,
                  struct agon_err *err) AGON_MUST_USE;
