#pragma once
/*
 * Control groups, where this user may make them: what a box's processes hold together in
 * memory, the kernel's included, and how many there are. They are a second line: a box's limits
 * hold without (the runner looks at the resident memory, rlimits count processes), but only
 * a group counts what the kernel holds for them.
 *
 * Both versions: in version 1 the groups of `memory` and `pids` that this process is in; in
 * version 2 the nearest group above it (itself included) that hands both controllers down.
 * Groups are called agon-PID-N after the launcher that made them; what a killed one left is
 * removed when the next one starts.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { AGON_CGROUP_PATH = 512, AGON_CGROUP_DIRS = 2 };

/* Where groups can be made; n_dirs 0: nowhere. */
struct agon_cgroup_place {
    char dirs[AGON_CGROUP_DIRS][AGON_CGROUP_PATH]; /* version 1: memory, pids; version 2: one */
    int n_dirs, version;
};
/* Look in the machine whose root directory is `root` ("" is this one). True when there is a place.
 */
bool agon_cgroup_find(struct agon_cgroup_place *ret, const char *root);
/* Remove empty groups of launchers that are no more. */
void agon_cgroup_sweep(const struct agon_cgroup_place *place);

/* Make group number `n` of this process. False (nothing is left) where it cannot be made. */
bool agon_cgroup_make(const struct agon_cgroup_place *place, int n, uint64_t memory_bytes_max,
                      int processes_max);
/* Put the calling process into group `n` of process `launcher`; system calls only. */
bool agon_cgroup_enter(const struct agon_cgroup_place *place, int launcher, int n);
/* Remove it, waiting a little for its last processes. */
void agon_cgroup_remove(const struct agon_cgroup_place *place, int n);
