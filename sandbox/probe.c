/*
 * Why boxes do not work on this machine, and what to do about it: see boxed.h. Two sources: files
 * that name a known obstacle, and a child that takes bubblewrap's own steps one by one and says
 * which is refused.
 */
#include "sandbox/boxed.h"

#include "sandbox/launcher.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* What may be in the way, the likeliest first: a file below the root, the number in it
 * (ANY: that it exists), and what to do. */
enum { ANY = -1 };
static const struct obstacle {
    const char *path;
    long value;
    const char *remedy;
} obstacles[] = {
    {"/proc/sys/kernel/unprivileged_userns_clone", 0,
     "Unprivileged user namespaces are off: sysctl -w kernel.unprivileged_userns_clone=1"},
    {"/proc/sys/user/max_user_namespaces", 0,
     "User namespaces are off: sysctl -w user.max_user_namespaces=10000"},
    {"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 1,
     "AppArmor restricts user namespaces: give /usr/bin/bwrap a profile with \"userns,\" in "
     "/etc/apparmor.d, or sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"},
    {"/.dockerenv", ANY,
     "This is a container: start it with --security-opt seccomp=unconfined --security-opt "
     "apparmor=unconfined --security-opt systempaths=unconfined"},
    {"/run/.containerenv", ANY,
     "This is a container: start it with --security-opt seccomp=unconfined --security-opt "
     "unmask=ALL"},
};

static bool obstacle_is_there(const char *root, const struct obstacle *o)
{
    char path[512], text[32];
    snprintf(path, sizeof(path), "%s%s", root, o->path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t n = read(fd, text, sizeof(text) - 1);
    (void)close(fd); /* read only */
    text[n > 0 ? n : 0] = '\0';
    return o->value == ANY || (n > 0 && strtol(text, NULL, 10) == o->value);
}

void agon_probe_remedy(const char *root, char *ret, size_t size)
{
    snprintf(ret, size, "%s", "");
    for (size_t i = 0; i < sizeof(obstacles) / sizeof(*obstacles); i++)
        if (obstacle_is_there(root, &obstacles[i])) {
            snprintf(ret, size, "%s", obstacles[i].remedy);
            return;
        }
}

/* ---- bubblewrap's steps */

enum step { STEP_NONE, STEP_USER, STEP_MAP, STEP_OTHERS, STEP_MOUNT, STEP_TMPFS, STEP_PROC, STEPS };
static const struct {
    const char *what, *remedy;
} steps[STEPS] = {
    [STEP_USER] = {"a user namespace",
                   "a system call filter, a security module or a chroot around this process "
                   "forbids it: run outside of it (a container: --security-opt "
                   "seccomp=unconfined)"},
    [STEP_MAP] = {"a uid map in a new user namespace",
                  "a security module forbids it: allow /usr/bin/bwrap user namespaces there"},
    [STEP_OTHERS] =
        {"mount, pid, network, ipc and uts namespaces in a new user namespace",
         "a security module or a limit (sysctl user.max_*_namespaces) forbids it: allow "
         "/usr/bin/bwrap user namespaces there"},
    [STEP_MOUNT] = {"private mounts in a new user namespace",
                    "a system call filter or a security module around this process forbids mount: "
                    "run outside of it (a container: --security-opt seccomp=unconfined "
                    "--security-opt apparmor=unconfined)"},
    [STEP_TMPFS] = {"a tmpfs in a new mount namespace",
                    "a security module around this process forbids mount: run outside of it (a "
                    "container: --security-opt apparmor=unconfined)"},
    [STEP_PROC] = {"a /proc of its own",
                   "parts of this /proc are covered: run outside of the container, or start it "
                   "with --security-opt systempaths=unconfined (podman: unmask=ALL)"},
};

struct step_failed {
    int step, error;
};

static bool map_ids(uid_t uid)
{
    char text[64];
    int n = snprintf(text, sizeof(text), "0 %u 1", (unsigned)uid);
    int fd = open("/proc/self/uid_map", O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, (size_t)n) == n;
    if (fd >= 0)
        (void)close(fd); /* the write took effect, or not */
    return ok;
}

/* In a child: the first step that is refused, with errno. */
static enum step steps_take(void)
{
    const uid_t nobody = 65534; /* the launcher's way as root */
    if (agon_launcher_drops_root() &&
        (setgroups(0, NULL) < 0 || setresgid(nobody, nobody, nobody) < 0 ||
         setresuid(nobody, nobody, nobody) < 0))
        return STEP_NONE;            /* the launcher says that itself */
    (void)prctl(PR_SET_DUMPABLE, 1); /* a change of uid has made /proc/self root's */
    uid_t uid = geteuid();
    if (unshare(CLONE_NEWUSER) < 0)
        return STEP_USER;
    if (!map_ids(uid))
        return STEP_MAP;
    if (unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0)
        return STEP_OTHERS;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
        return STEP_MOUNT;
    if (mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=4096") < 0)
        return STEP_TMPFS;
    pid_t pid = fork(); /* the first process of the new pid namespace */
    if (pid == 0)
        _exit(mount("proc", "/proc", "proc", MS_NOSUID | MS_NOEXEC | MS_NODEV, NULL) < 0 ? errno
                                                                                         : 0);
    int status = 0;
    if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status)) {
        errno = WEXITSTATUS(status);
        return STEP_PROC;
    }
    return STEP_NONE;
}

void agon_probe_here(char *ret, size_t size)
{
    agon_probe_remedy("", ret, size);
    if (ret[0] && !strstr(ret, "container"))
        return; /* a setting with a value is beyond doubt */
    char container[256];
    snprintf(container, sizeof(container), "%.255s", ret);
    agon_probe_steps(ret, size);
    if (!ret[0])
        snprintf(ret, size, "%s", container);
}

void agon_probe_steps(char *ret, size_t size)
{
    struct step_failed failed = {0};
    int tell[2];
    snprintf(ret, size, "%s", "");
    if (pipe2(tell, O_CLOEXEC) < 0)
        return;
    pid_t pid = fork();
    if (pid == 0) {
        failed.step = (int)steps_take();
        failed.error = errno;
        (void)!write(tell[1], &failed, sizeof(failed)); /* a short one says nothing */
        _exit(0);
    }
    (void)close(tell[1]);
    ssize_t n = pid < 0 ? 0 : read(tell[0], &failed, sizeof(failed));
    (void)close(tell[0]);
    if (pid > 0)
        (void)waitpid(pid, NULL, 0);
    if (n != sizeof(failed) || failed.step <= STEP_NONE || failed.step >= STEPS)
        return;
    bool limit = failed.error == ENOSPC || failed.error == EUSERS;
    bool kernel = failed.step == STEP_USER && (failed.error == EINVAL || failed.error == ENOSYS);
    snprintf(ret, size, "This user can't make %s (%s): %s.", steps[failed.step].what,
             strerror(failed.error),
             limit    ? "raise the sysctls user.max_*_namespaces"
             : kernel ? "use a kernel with CONFIG_USER_NS"
                      : steps[failed.step].remedy);
}
