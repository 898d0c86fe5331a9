/* Rows E18 and E19: where no box can be built nothing is run, and nothing outlives a kill. */
#include "base/file.h"
#include "sandbox/bashbox.h"
#include "sandbox/cell.h"
#include "tests/attacks/battery.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct agon_err err;

/* ---- E18: a machine that forbids boxes */

static bool refuse_calls(int call, bool only_new_user)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int r = !ctx ? -1
            : only_new_user
                ? seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), call, 1,
                                   SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWUSER, CLONE_NEWUSER))
                : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EPERM), call, 0);
    r = r ? r : seccomp_load(ctx);
    seccomp_release(ctx);
    return r == 0;
}

static bool forbid_namespaces(void)
{
    return refuse_calls(SCMP_SYS(unshare), true) && refuse_calls(SCMP_SYS(clone), true);
}

static bool forbid_mount(void)
{
    return refuse_calls(SCMP_SYS(mount), false);
}

static bool put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        (void)close(fd); /* the write took effect, or not */
    return ok;
}

/* Mounts of one's own: root may as it is, others in a user namespace where they are who they were.
 */
static bool own_mounts(void)
{
    char uids[64], gids[64];
    snprintf(uids, sizeof(uids), "%u %u 1", geteuid(), geteuid());
    snprintf(gids, sizeof(gids), "%u %u 1", getegid(), getegid());
    if (unshare(CLONE_NEWNS) == 0)
        return true;
    return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && put("/proc/self/uid_map", uids) &&
           put("/proc/self/setgroups", "deny") && put("/proc/self/gid_map", gids);
}

/* As an outer container covers parts of /proc: then nobody below may mount a whole one. */
static bool cover_proc(void)
{
    return own_mounts() && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount("tmpfs", "/proc/bus", "tmpfs", MS_RDONLY, NULL) == 0;
}

static bool no_namespaces_left(void)
{
    int fd = unshare(CLONE_NEWUSER) ? -1 : open("/proc/sys/user/max_user_namespaces", O_WRONLY);
    return fd >= 0 && write(fd, "0", 1) == 1;
}

static bool become_nobody(void)
{
    return setgroups(0, NULL) == 0 && setresgid(65534, 65534, 65534) == 0 &&
           setresuid(65534, 65534, 65534) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0;
}

/* The program must be readable for whoever is asked to start it. */
static const char *readable_cell(void)
{
    static char path[300];
    struct agon_buf program AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
    if (path[0])
        return path;
    snprintf(path, sizeof(path), "%s", test_path("agon-cell"));
    EXPECT(agon_file_read(&program, getenv("AGON_CELL"), 1 << 26, &err) == 0 &&
           agon_file_write(path, agon_buf_str(&program), false, &err) == 0 &&
           chmod(test_folder(), 0755) == 0);
    return path;
}

/* In a child: does the sandbox say `part` and build nothing? */
static void expect_stop(bool (*obstruct)(void), const char *part)
{
    const char *cell = readable_cell();
    for (int nobody = 0; nobody < (geteuid() == 0 ? 2 : 1); nobody++) {
        fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            struct agon_sandbox *sb = NULL;
            struct agon_sandbox_options o = {.cell_program = cell};
            int failures = test_failures;
            bool ready = !nobody || obstruct == cover_proc ? obstruct() : true;
            ready = ready && (!nobody || become_nobody());
            ready = ready && (!nobody || obstruct == cover_proc ? true : obstruct());
            if (EXPECT(ready)) {
                enum outcome end =
                    agon_sandbox_open(&sb, &o, &err) == AGON_ESYS && !sb ? STOP : CONTAINED;
                EXPECT_OUTCOME(end, STOP, err.text, "nothing is run");
                EXPECT_HAS(err.text, part);
                EXPECT(!strchr(err.text, '\n'));
            }
            fflush(stdout);
            _exit(test_failures > failures);
        }
        int status = 1;
        EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    }
}

ATTACK(E18_a_filter_forbids_user_namespaces)
{
    expect_stop(forbid_namespaces,
                "This user can't make a user namespace (Operation not permitted): ");
    expect_stop(forbid_namespaces, "seccomp=unconfined");
}

ATTACK(E18_a_filter_forbids_mount)
{
    expect_stop(forbid_mount, "can't make private mounts in a new user namespace");
}

ATTACK(E18_parts_of_proc_are_covered)
{
    expect_stop(cover_proc, "systempaths=unconfined");
}

ATTACK(E18_no_user_namespaces_are_left)
{
    expect_stop(no_namespaces_left, "sysctl -w user.max_user_namespaces=10000");
}

ATTACK(E18_a_bubblewrap_that_lies_builds_no_box)
{
    static const char *const scripts[] = {"#!/bin/sh\nexit 0\n", "#!/bin/sh\nkill -9 $$\n",
                                          "#!/bin/sh\nprintf 'hello hello hello' >&3\nsleep 1\n",
                                          "no program\n"};
    for (size_t i = 0; i < sizeof(scripts) / sizeof(*scripts); i++) {
        struct agon_sandbox *sb = NULL;
        const char *path = test_path("bwrap");
        EXPECT(agon_file_write(path, agon_str(scripts[i]), false, &err) == 0 &&
               chmod(path, 0755) == 0 && chmod(test_folder(), 0755) == 0);
        struct agon_sandbox_options o = {.bwrap = path};
        EXPECT(agon_sandbox_open(&sb, &o, &err) == AGON_ESYS && !sb);
        EXPECT_HAS(err.text, "no box can be built here, so nothing is run");
    }
}

/* ---- E19: kill -9 */

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int child_of(int parent)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    FILE *f = fopen(path, "r");
    if (f && !fgets(text, sizeof(text), f))
        text[0] = '\0';
    if (f)
        (void)fclose(f);
    return atoi(text);
}

/* A driver with one box in which a command runs that wants to stay. */
static void drive(int ready)
{
    struct agon_sandbox *sb;
    struct agon_bashbox *box;
    struct agon_bash_result r;
    if (agon_sandbox_open(&sb, NULL, &err) ||
        agon_bashbox_open(&box, sb, &(struct agon_bashbox_options){0}, &err) ||
        write(ready, "x", 1) != 1)
        _exit(1);
    (void)!agon_bashbox_run(box, agon_str("trap '' TERM HUP; setsid sleep 1000 & sleep 1000"),
                            100000, &r, &err);
    _exit(0); /* its box was killed: that is told and not waited for */
}

enum victim { DRIVER, LAUNCHER, BUBBLEWRAP, RUNNER };

static void kill_one(enum victim victim)
{
    int ready[2];
    char c;
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
    pid_t driver = fork();
    if (driver == 0)
        drive(ready[1]);
    (void)close(ready[1]);
    EXPECT(read(ready[0], &c, 1) == 1);
    (void)close(ready[0]);
    (void)usleep(100000); /* the command has begun */
    int pid = (int)driver;
    for (int down = DRIVER; down < (int)victim && pid > 0; down++)
        pid = child_of(pid);
    EXPECT(pid > 0 && kill(pid, SIGKILL) == 0);
    int64_t start = now_ms();
    while (battery_processes() > 0 && now_ms() - start < 5000)
        (void)usleep(2000);
    printf("# all gone after %lld ms\n", (long long)(now_ms() - start));
    EXPECT(now_ms() - start < 1000 && waitpid(driver, NULL, 0) == driver);
}

ATTACK(E19_a_killed_driver_leaves_nothing)
{
    kill_one(DRIVER);
}

ATTACK(E19_a_killed_launcher_leaves_nothing)
{
    kill_one(LAUNCHER);
}

ATTACK(E19_a_killed_bubblewrap_leaves_nothing)
{
    kill_one(BUBBLEWRAP);
}

ATTACK(E19_a_killed_runner_leaves_nothing)
{
    kill_one(RUNNER);
}

/* All of a sandbox killed at once: what is on disk of it (control groups) goes at the next start.
 */
ATTACK(E19_the_next_start_cleans_up)
{
    static const char memory[] = "/sys/fs/cgroup/pids";
    int ready[2];
    char c, path[128];
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0);
    pid_t driver = fork();
    if (driver == 0)
        drive(ready[1]);
    (void)close(ready[1]);
    EXPECT(read(ready[0], &c, 1) == 1);
    (void)close(ready[0]);
    int launcher = child_of((int)driver), box = child_of(launcher);
    snprintf(path, sizeof(path), "%s/agon-%d-0", memory, launcher);
    bool grouped = access(path, F_OK) == 0;
    printf("# the box %s a control group\n", grouped ? "has" : "has not");
    kill(driver, SIGSTOP);
    kill(launcher, SIGKILL);
    kill(box, SIGKILL);
    kill(driver, SIGKILL);
    EXPECT(waitpid(driver, NULL, 0) == driver);
    for (int64_t start = now_ms(); battery_processes() > 0 && now_ms() - start < 2000;)
        (void)usleep(2000);
    while (waitpid(-1, NULL, WNOHANG) > 0) /* the launcher among them: its number is free then */
        ;
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    EXPECT(agon_sandbox_open(&sb, NULL, &err) == 0);
    EXPECT(!grouped || access(path, F_OK) < 0);
}
