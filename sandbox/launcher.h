#pragma once
/*
 * The launcher: a small process, forked before the driver's memory grows (fork takes
 * 0.2 ms there and 17 ms at 512 MB), that starts bubblewrap with an empty environment,
 * no descriptors but those named, and never as real root (measured: that is no
 * sandbox), and keeps the processes it started. When the driver goes, however it
 * goes, the launcher sees its channel close, kills every box and ends.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

struct agon_launcher;

int agon_launcher_new(struct agon_launcher **ret, struct agon_err *err) AGON_MUST_USE;
void agon_launcher_free(struct agon_launcher *l); /* kills every box; NULL is fine */
AGON_DEFINE_FREEP(struct agon_launcher, agon_launcher_free)

enum { AGON_LAUNCH_FDS_MAX = 8 };
struct agon_launch {
    const char *program;  /* path of bwrap */
    struct agon_str argv; /* strings, each with its NUL; at most 16 KiB */
    const char *docs;     /* shown to bubblewrap as /mnt when we are root; NULL: none */
    bool fixed_addresses; /* no address space randomisation */
    /* Of all its processes together, where there are control groups (cgroup.h); 0: not counted. */
    uint64_t memory_bytes_max;
    int processes_max;
    int stderr_fd;
    int fds[AGON_LAUNCH_FDS_MAX]; /* become 3, 4, ... */
    int n_fds;
};
/* Start a process; *ret_pid names it to agon_launcher_end(). */
int agon_launcher_start(struct agon_launcher *l, const struct agon_launch *launch, int *ret_pid,
                        struct agon_err *err) AGON_MUST_USE;
/* Wait at most wait_ms for a started process, then kill it; *ret_status as from waitpid(2). */
int agon_launcher_end(struct agon_launcher *l, int pid, int wait_ms, int *ret_status,
                      struct agon_err *err) AGON_MUST_USE;
/* The uid that boxes run under. */
bool agon_launcher_drops_root(void);
