/* Control groups: see cgroup.h. All of this runs in the launcher: no allocation. */
#include "sandbox/cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT_MAX = 16 << 10, REMOVE_TRIES = 20, REMOVE_MS = 5 };
static const char prefix[] = "agon-";

static bool file_read(const char *path, char *ret, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t n = 0;
    for (ssize_t got = 1; fd >= 0 && got > 0 && n + 1 < size; n += got > 0 ? (size_t)got : 0)
        got = read(fd, ret + n, size - 1 - n);
    ret[n] = '\0';
    if (fd >= 0)
        (void)close(fd); /* read only */
    return fd >= 0;
}

static bool file_write(const char *dir, const char *name, const char *text)
{
    char path[AGON_CGROUP_PATH + 64];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd); /* a control file: the write itself took effect, or not */
    return ok;
}

/* Is `word` among the words of text, which `between` divides? */
static bool has_word(const char *text, const char *word, const char *between)
{
    size_t n = strlen(word);
    while (*text) {
        size_t size = strcspn(text, between);
        if (size == n && strncmp(text, word, n) == 0)
            return true;
        text += size + (text[size] != '\0');
    }
    return false;
}

/* Where the hierarchy with this controller (NULL: version 2) is mounted, from /proc/self/mounts:
 * "cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0". */
static bool mount_of(const char *mounts, const char *controller, char ret[256])
{
    for (const char *line = mounts; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char where[256], type[32], options[512];
        if (sscanf(line, "%*s %255s %31s %511s", where, type, options) != 3)
            continue;
        bool found = controller ? strcmp(type, "cgroup") == 0 && has_word(options, controller, ",")
                                : strcmp(type, "cgroup2") == 0;
        if (found) {
            snprintf(ret, 256, "%s", where);
            return true;
        }
    }
    return false;
}

/* The group of this process in the hierarchy, from /proc/self/cgroup: "8:pids:/some/group",
 * version 2 "0::/some/group". */
static bool group_of(const char *groups, const char *controller, char ret[256])
{
    for (const char *line = groups; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        char names[128] = "", path[256];
        if (!controller ? sscanf(line, "0::%255[^\n]", path) == 1
                        : sscanf(line, "%*d:%127[^:]:%255[^\n]", names, path) == 2 &&
                              has_word(names, controller, ",")) {
            snprintf(ret, 256, "%s", path);
            return true;
        }
    }
    return false;
}

/* In a container the named group may lie above what is mounted: then the mount itself is ours. */
static bool directory_of(const char *root, const char *mounts, const char *groups,
                         const char *controller, char ret[AGON_CGROUP_PATH])
{
    char where[256], group[256];
    if (!mount_of(mounts, controller, where) || !group_of(groups, controller, group))
        return false;
    if (strlen(root) + strlen(where) + strlen(group) >= AGON_CGROUP_PATH)
        return false;
    snprintf(ret, AGON_CGROUP_PATH, "%.128s%.180s%.180s", root, where,
             strcmp(group, "/") == 0 ? "" : group);
    if (access(ret, F_OK) != 0)
        snprintf(ret, AGON_CGROUP_PATH, "%.128s%.180s", root, where);
    return access(ret, W_OK | X_OK) == 0;
}

/* The nearest group upward that hands memory and pids down and can be written to. */
static bool climb(const char *root, char dir[AGON_CGROUP_PATH], const char *mounts)
{
    char path[AGON_CGROUP_PATH + 64], text[512], top[256];
    if (!mount_of(mounts, NULL, top))
        return false;
    for (size_t least = strlen(root) + strlen(top); strlen(dir) >= least;) {
        snprintf(path, sizeof(path), "%s/cgroup.subtree_control", dir);
        if (access(dir, W_OK | X_OK) == 0 && file_read(path, text, sizeof(text)) &&
            has_word(text, "memory", " \n") && has_word(text, "pids", " \n"))
            return true;
        char *slash = strrchr(dir, '/');
        if (!slash)
            return false;
        *slash = '\0';
    }
    return false;
}

bool agon_cgroup_find(struct agon_cgroup_place *ret, const char *root)
{
    static char mounts[TEXT_MAX], groups[TEXT_MAX];
    char path[AGON_CGROUP_PATH];
    *ret = (struct agon_cgroup_place){.version = 1};
    snprintf(path, sizeof(path), "%.400s/proc/self/mounts", root);
    if (!file_read(path, mounts, sizeof(mounts)))
        return false;
    snprintf(path, sizeof(path), "%.400s/proc/self/cgroup", root);
    if (!file_read(path, groups, sizeof(groups)))
        return false;
    if (directory_of(root, mounts, groups, "memory", ret->dirs[0]) &&
        directory_of(root, mounts, groups, "pids", ret->dirs[1])) {
        ret->n_dirs = 2;
        return true;
    }
    ret->version = 2;
    char where[256], group[256];
    if (!mount_of(mounts, NULL, where) || !group_of(groups, NULL, group))
        return false;
    snprintf(ret->dirs[0], AGON_CGROUP_PATH, "%.128s%.180s%.180s", root, where,
             strcmp(group, "/") == 0 ? "" : group);
    ret->n_dirs = climb(root, ret->dirs[0], mounts) ? 1 : 0;
    return ret->n_dirs > 0;
}

/* The last processes of a killed box may still be ending in it. */
static void remove_group(const char *path)
{
    for (int tries = 0; tries < REMOVE_TRIES && rmdir(path) < 0 && errno == EBUSY; tries++)
        (void)poll(NULL, 0, REMOVE_MS);
}

static void sweep_dir(const char *dir)
{
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[AGON_CGROUP_PATH + 300];
        int launcher = strncmp(e->d_name, prefix, sizeof(prefix) - 1) == 0
                           ? atoi(e->d_name + sizeof(prefix) - 1)
                           : 0;
        if (launcher <= 0 || kill(launcher, 0) == 0 || errno != ESRCH)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
        remove_group(path); /* one that is not empty stays: somebody else's after all */
    }
    if (d)
        (void)closedir(d); /* read only */
}

void agon_cgroup_sweep(const struct agon_cgroup_place *place)
{
    for (int i = 0; i < place->n_dirs; i++)
        sweep_dir(place->dirs[i]);
}

static void group_path(char ret[AGON_CGROUP_PATH + 64], const struct agon_cgroup_place *place,
                       int i, int launcher, int n)
{
    snprintf(ret, AGON_CGROUP_PATH + 64, "%s/%s%d-%d", place->dirs[i], prefix, launcher, n);
}

static bool group_limit(const struct agon_cgroup_place *place, int i, const char *dir,
                        const char *memory, const char *processes)
{
    if (place->version == 2) {
        (void)file_write(dir, "memory.swap.max", "0"); /* not everywhere */
        return file_write(dir, "memory.max", memory) && file_write(dir, "pids.max", processes);
    }
    if (i == 1)
        return file_write(dir, "pids.max", processes);
    if (!file_write(dir, "memory.limit_in_bytes", memory))
        return false;
    (void)file_write(dir, "memory.memsw.limit_in_bytes", memory); /* not everywhere */
    return true;
}

bool agon_cgroup_make(const struct agon_cgroup_place *place, int n, uint64_t memory_bytes_max,
                      int processes_max)
{
    char path[AGON_CGROUP_PATH + 64], memory[32], processes[16];
    snprintf(memory, sizeof(memory), "%llu", (unsigned long long)memory_bytes_max);
    snprintf(processes, sizeof(processes), "%d", processes_max);
    for (int i = 0; i < place->n_dirs; i++) {
        group_path(path, place, i, (int)getpid(), n);
        if (mkdir(path, 0755) < 0 || !group_limit(place, i, path, memory, processes)) {
            agon_cgroup_remove(place, n);
            return false;
        }
    }
    return place->n_dirs > 0;
}

bool agon_cgroup_enter(const struct agon_cgroup_place *place, int launcher, int n)
{
    char path[AGON_CGROUP_PATH + 64];
    bool ok = place->n_dirs > 0;
    for (int i = 0; i < place->n_dirs; i++) {
        group_path(path, place, i, launcher, n);
        ok = file_write(path, "cgroup.procs", "0") && ok;
    }
    return ok;
}

void agon_cgroup_remove(const struct agon_cgroup_place *place, int n)
{
    char path[AGON_CGROUP_PATH + 64];
    for (int i = 0; i < place->n_dirs; i++) {
        group_path(path, place, i, (int)getpid(), n);
        remove_group(path);
    }
}
