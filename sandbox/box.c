/* What a box is: see box.h. */
#include "sandbox/box.h"

#include "sandbox/runner.h"

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static const size_t tmp_bytes = 64U << 20, shm_bytes = 16U << 20, kernel_bytes = 64U << 20;

uint64_t agon_box_memory_max(const struct agon_box_options *o)
{
    return o->kind == AGON_BOX_BASH ? ((uint64_t)AGON_RUNNER_MIB_MAX << 20) + o->work_bytes_max +
                                          tmp_bytes + shm_bytes + kernel_bytes
                                    : 0;
}

static void plan_add(struct agon_box_plan *p, enum agon_box_op_kind kind, const char *a,
                     const char *b, size_t size)
{
    if (p->n_ops < AGON_BOX_OPS_MAX)
        p->ops[p->n_ops] = (struct agon_box_op){kind, a, b, size};
    p->n_ops++; /* one too many is reported in the end */
}

static void plan_isolate(struct agon_box_plan *p)
{
    static const char *const flags[] = {"unshare-all",     "unshare-user", "disable-userns",
                                        "die-with-parent", "new-session",  "as-pid-1",
                                        "clearenv"};
    for (size_t i = 0; i < sizeof(flags) / sizeof(*flags); i++)
        plan_add(p, AGON_BOX_FLAG, flags[i], NULL, 0);
    plan_add(p, AGON_BOX_VALUE, "uid", "65534", 0);
    plan_add(p, AGON_BOX_VALUE, "gid", "65534", 0);
    plan_add(p, AGON_BOX_VALUE, "hostname", "agon", 0);
    plan_add(p, AGON_BOX_VALUE, "cap-drop", "ALL", 0);
}

/* /bin, /lib and so on, which are links into /usr on most systems. */
static int plan_system(struct agon_box_plan *p, bool programs, struct agon_err *err)
{
    static const char *const dirs[] = {"/lib", "/lib64", "/lib32", "/libx32", "/bin", "/sbin"};
    struct stat st;
    for (int i = 0; i < (programs ? 6 : 4); i++) {
        if (lstat(dirs[i], &st) < 0)
            continue;
        if (!S_ISLNK(st.st_mode)) {
            plan_add(p, AGON_BOX_RO_BIND, dirs[i], dirs[i], 0);
            continue;
        }
        ssize_t n = readlink(dirs[i], p->links[i], sizeof(p->links[i]) - 1);
        if (n < 0 || n == sizeof(p->links[i]) - 1)
            return agon_fail(err, AGON_ESYS, "box: cannot read the link %s", dirs[i]);
        p->links[i][n] = '\0';
        plan_add(p, AGON_BOX_SYMLINK, p->links[i], dirs[i], 0);
    }
    return 0;
}

static void plan_cell(struct agon_box_plan *p)
{
    static const char *const libraries[] = {"/usr/lib", "/usr/lib64"};
    for (int i = 0; i < 2; i++)
        if (access(libraries[i], X_OK) == 0)
            plan_add(p, AGON_BOX_RO_BIND, libraries[i], libraries[i], 0);
}

static void plan_bash(struct agon_box_plan *p, const struct agon_box_options *o)
{
    plan_add(p, AGON_BOX_RO_BIND, "/usr", "/usr", 0);
    if (access("/usr/local", F_OK) == 0) /* what a machine's owner added is not ours to show */
        plan_add(p, AGON_BOX_TMPFS, NULL, "/usr/local", 4096);
    if (access("/etc/alternatives", F_OK) == 0) /* where /usr/bin/awk leads */
        plan_add(p, AGON_BOX_RO_BIND, "/etc/alternatives", "/etc/alternatives", 0);
    if (access("/etc/ld.so.cache", F_OK) == 0)
        plan_add(p, AGON_BOX_RO_BIND, "/etc/ld.so.cache", "/etc/ld.so.cache", 0);
    plan_add(p, AGON_BOX_TMPFS, NULL, "/tmp", tmp_bytes);
    plan_add(p, AGON_BOX_TMPFS, NULL, "/work", o->work_bytes_max);
    if (o->docs)
        plan_add(p, AGON_BOX_RO_BIND, o->docs, "/docs", 0);
    else
        plan_add(p, AGON_BOX_DIR, NULL, "/docs", 0);
}

/*
 * What /proc tells of the machine and not of the box: through counters of load, memory and
 * files one box would hear another. A file becomes a device on a mount without devices,
 * which cannot be opened; a folder is empty.
 */
static void plan_proc(struct agon_box_plan *p)
{
    static const char *const files[] = {"/proc/loadavg",   "/proc/stat",      "/proc/meminfo",
                                        "/proc/vmstat",    "/proc/uptime",    "/proc/zoneinfo",
                                        "/proc/softirqs",  "/proc/schedstat", "/proc/interrupts",
                                        "/proc/diskstats", "/proc/cmdline",   "/proc/buddyinfo",
                                        "/proc/key-users", "/proc/locks",     "/proc/swaps"};
    static const char *const folders[] = {"/proc/pressure", "/proc/sys"};
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
        if (access(files[i], F_OK) == 0)
            plan_add(p, AGON_BOX_RO_BIND, "/dev/null", files[i], 0);
    for (int i = 0; i < 2; i++)
        if (access(folders[i], F_OK) == 0) {
            plan_add(p, AGON_BOX_TMPFS, NULL, folders[i], 4096);
            plan_add(p, AGON_BOX_REMOUNT_RO, NULL, folders[i], 0);
        }
}

int agon_box_plan(struct agon_box_plan *ret, const struct agon_box_options *o, struct agon_err *err)
{
    *ret = (struct agon_box_plan){.argument = o->argument};
    bool bash = o->kind == AGON_BOX_BASH;
    plan_isolate(ret);
    int r = plan_system(ret, bash, err);
    if (r)
        return r;
    if (bash)
        plan_bash(ret, o);
    else
        plan_cell(ret);
    /* Fresh mounts of a file system type come before the remounts that close them. */
    plan_add(ret, AGON_BOX_VALUE, "proc", "/proc", 0);
    if (bash)
        plan_proc(ret);
    plan_add(ret, AGON_BOX_REMOUNT_RO, NULL, "/proc", 0);
    if (bash) {
        plan_add(ret, AGON_BOX_VALUE, "dev", "/dev", 0);
        plan_add(ret, AGON_BOX_TMPFS, NULL, "/dev/shm", shm_bytes);
        plan_add(ret, AGON_BOX_REMOUNT_RO, NULL, "/dev", 0);
        if (access("/usr/local", F_OK) == 0)
            plan_add(ret, AGON_BOX_REMOUNT_RO, NULL, "/usr/local", 0);
    }
    plan_add(ret, AGON_BOX_REMOUNT_RO, NULL, "/", 0);
    plan_add(ret, AGON_BOX_VALUE, "chdir", bash ? "/work" : "/", 0);
    plan_add(ret, AGON_BOX_VALUE, "seccomp", "6", 0);
    if (ret->n_ops > AGON_BOX_OPS_MAX)
        return agon_fail(err, AGON_ENOMEM, "box: more than %d operations", AGON_BOX_OPS_MAX);
    return 0;
}

static void argv_add(struct agon_buf *b, const char *arg)
{
    agon_buf_add(b, arg, strlen(arg) + 1);
}

static void argv_op(struct agon_buf *b, const struct agon_box_op *op)
{
    switch (op->kind) {
    case AGON_BOX_FLAG:
    case AGON_BOX_VALUE:
        agon_buf_adds(b, "--");
        argv_add(b, op->a);
        break;
    case AGON_BOX_RO_BIND:
        argv_add(b, "--ro-bind");
        argv_add(b, op->a);
        break;
    case AGON_BOX_SYMLINK:
        argv_add(b, "--symlink");
        argv_add(b, op->a);
        break;
    case AGON_BOX_TMPFS:
        argv_add(b, "--size");
        agon_buf_addf(b, "%zu", op->size);
        agon_buf_addc(b, '\0');
        argv_add(b, "--tmpfs");
        break;
    case AGON_BOX_DIR: argv_add(b, "--dir"); break;
    case AGON_BOX_REMOUNT_RO: argv_add(b, "--remount-ro"); break;
    }
    if (op->b)
        argv_add(b, op->b);
}

int agon_box_argv(struct agon_buf *b, const struct agon_box_plan *plan, struct agon_err *err)
{
    argv_add(b, "bwrap");
    for (int i = 0; i < plan->n_ops; i++)
        argv_op(b, &plan->ops[i]);
    argv_add(b, "--");
    argv_add(b, "/proc/self/fd/5");
    if (plan->argument)
        argv_add(b, plan->argument);
    return agon_buf_check(b, "box: arguments", err);
}
