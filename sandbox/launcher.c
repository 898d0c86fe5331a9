/*
 * The launcher: see launcher.h. One SOCK_SEQPACKET message asks, one answers; the
 * descriptors of a box come with the request.
 *
 * Invariants: 1. between fork and exec a child of the launcher calls only what is
 * async-signal-safe in spirit: no allocation, no stdio; 2. a pid is signalled only
 * while it is in the table, that is, before it was reaped.
 */
#include "sandbox/launcher.h"

#include "sandbox/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    NOBODY = 65534,
    DATA_MAX = 24 << 10,
    ARGS_MAX = 256,
    BOXES_MAX = 1024,
    STACK_BYTES = 8 << 20, /* the address of the first mapping depends on this limit */
};
static const char docs_mount[] = "/mnt";

enum request_op { REQUEST_START = 1, REQUEST_END };

struct request {
    uint32_t op;
    int32_t pid, wait_ms;
    uint32_t fixed_addresses, n_fds;
    uint32_t program_size, docs_size, argv_size; /* with their NULs; 0: none */
    uint64_t memory_bytes_max;                   /* of the group; 0: no group */
    uint32_t processes_max;
    char data[DATA_MAX];
};
struct answer {
    int32_t error; /* errno, or 0 */
    int32_t pid, status;
    char what[64]; /* the call that failed */
};

struct agon_launcher {
    int fd, pid;
    pthread_mutex_t lock; /* one question at a time */
};

bool agon_launcher_drops_root(void)
{
    return geteuid() == 0 || getuid() == 0;
}

/* ---- the launcher's own process ---- */

static pid_t boxes[BOXES_MAX];
static struct agon_cgroup_place groups; /* box i is in group i, where it has one */

static void answer_fail(struct answer *a, const char *what)
{
    a->error = errno ? errno : EIO;
    snprintf(a->what, sizeof(a->what), "%s", what);
}

/* docs may lie where an unprivileged user cannot go: show them under /mnt, in a mount
 * namespace of this child's own. */
static bool child_mount_docs(const char *docs, struct answer *a)
{
    if (unshare(CLONE_NEWNS) < 0)
        return answer_fail(a, "unshare"), false;
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
        mount(docs, docs_mount, NULL, MS_BIND, NULL) < 0)
        return answer_fail(a, "mount of the documents' directory"), false;
    return true;
}

static bool child_drop_root(struct answer *a)
{
    if (setgroups(0, NULL) < 0)
        return answer_fail(a, "setgroups"), false;
    if (setresgid(NOBODY, NOBODY, NOBODY) < 0)
        return answer_fail(a, "setresgid"), false;
    if (setresuid(NOBODY, NOBODY, NOBODY) < 0)
        return answer_fail(a, "setresuid"), false;
    return true;
}

/* Boxes are the first to go when memory runs out, leave no core and have one stack size. */
static void child_limit(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1000", 4); /* a wish */
        (void)close(fd);
    }
    /* One byte: where the kernel pipes cores to a program, which is the host's and runs as root, it
     * asks no limit but this one (core(5)). Lower limits stay. */
    if (setrlimit(RLIMIT_CORE, &(struct rlimit){1, 1}) < 0)
        (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    (void)setrlimit(RLIMIT_STACK, &(struct rlimit){STACK_BYTES, STACK_BYTES});
}

/* fds[0] becomes stderr, the others 3, 4, ...; all else closes at exec, report too. */
static bool child_place_fds(const int *fds, int n_fds, int *report, struct answer *a)
{
    enum { ABOVE = 16 }; /* where nothing that is placed lies */
    int high[AGON_LAUNCH_FDS_MAX + 1];
    for (int i = 0; i < n_fds; i++)
        if ((high[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, ABOVE)) < 0)
            return answer_fail(a, "fcntl"), false;
    int up = fcntl(*report, F_DUPFD_CLOEXEC, ABOVE);
    if (up < 0)
        return answer_fail(a, "fcntl"), false;
    *report = up;
    for (int i = 0; i < n_fds; i++)
        if (dup2(high[i], i == 0 ? 2 : 2 + i) < 0)
            return answer_fail(a, "dup2"), false;
    if (close_range((unsigned)(2 + n_fds), ABOVE - 1, 0) < 0 ||
        close_range(ABOVE, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
        return answer_fail(a, "close_range"), false;
    return true;
}

static void child_run(const struct request *q, char **argv, int slot, const int *fds, int report)
{
    struct answer a = {0};
    const char *docs = q->data + q->program_size;
    char *const no_environment[] = {NULL};
    bool root = agon_launcher_drops_root();
    signal(SIGPIPE, SIG_DFL);
    (void)setsid(); /* its group is what box_kill() kills */
    child_limit();
    if (q->memory_bytes_max > 0) /* a wish, too: the box's own limits hold without */
        (void)agon_cgroup_enter(&groups, (int)getppid(), slot);
    if (child_place_fds(fds, (int)q->n_fds, &report, &a) &&
        (!root || q->docs_size == 0 || child_mount_docs(docs, &a)) &&
        (!root || child_drop_root(&a))) {
        if (q->fixed_addresses)
            (void)personality(ADDR_NO_RANDOMIZE); /* see agon_script_new() */
        execve(q->data, argv, no_environment);
        answer_fail(&a, "execve");
    }
    (void)!write(report, &a, sizeof(a)); /* the reader sees a short answer as EIO */
    _exit(127);
}

static int box_find(pid_t pid)
{
    for (int i = 0; i < BOXES_MAX; i++)
        if (boxes[i] == pid)
            return i;
    return -1;
}

static bool argv_split(struct request *q, char **argv)
{
    char *at = q->data + q->program_size + q->docs_size, *end = at + q->argv_size;
    int n = 0;
    for (; at < end && n < ARGS_MAX; at += strlen(at) + 1)
        argv[n++] = at;
    argv[n] = NULL;
    return at >= end && n > 0;
}

/* Processes may be short for a moment: dead boxes count until they are reaped. */
static pid_t fork_patiently(void)
{
    enum { TRIES = 20, WAIT_MS = 50 };
    pid_t pid = fork();
    for (int i = 0; i < TRIES && pid < 0 && errno == EAGAIN; i++) {
        (void)poll(NULL, 0, WAIT_MS);
        pid = fork();
    }
    return pid;
}

static void launch_box(struct request *q, const int *fds, struct answer *a)
{
    char *argv[ARGS_MAX + 1];
    int slot = box_find(0), report[2];
    errno = EINVAL;
    if (!argv_split(q, argv))
        return answer_fail(a, "arguments");
    errno = EAGAIN;
    if (slot < 0)
        return answer_fail(a, "too many boxes");
    if (pipe2(report, O_CLOEXEC) < 0)
        return answer_fail(a, "pipe2");
    if (q->memory_bytes_max > 0)
        (void)agon_cgroup_make(&groups, slot, q->memory_bytes_max, (int)q->processes_max);
    pid_t pid = fork_patiently();
    if (pid == 0)
        child_run(q, argv, slot, fds, report[1]);
    (void)close(report[1]);
    if (pid < 0) {
        answer_fail(a, "fork");
        (void)close(report[0]);
        agon_cgroup_remove(&groups, slot);
        return;
    }
    /* Nothing comes when exec succeeded: it closed the pipe. */
    struct answer failed;
    ssize_t n = read(report[0], &failed, sizeof(failed));
    (void)close(report[0]);
    if (n != 0) {
        if (n == sizeof(failed))
            *a = failed;
        else
            a->error = EIO;
        (void)waitpid(pid, NULL, 0); /* it has called _exit() */
        agon_cgroup_remove(&groups, slot);
        return;
    }
    boxes[slot] = pid;
    a->pid = pid;
}

/*
 * Kill a box that was not reaped yet. Its first process is bubblewrap, whose own child
 * ends with it only from the moment it starts the program; before that the child waits
 * for its parent, for ever if that is gone, but it is still of the same group.
 */
static void box_kill(pid_t pid)
{
    (void)kill(-pid, SIGKILL);
    (void)kill(pid, SIGKILL);
}

/* Has it ended? It stays a zombie, so that its number stays its own. */
static bool box_ended(pid_t pid)
{
    siginfo_t info = {0};
    return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid == pid;
}

static void end_box(const struct request *q, struct answer *a)
{
    int slot = q->pid > 0 ? box_find(q->pid) : -1;
    errno = ESRCH;
    if (slot < 0)
        return answer_fail(a, "no such box");
    for (int waited = 0; waited < q->wait_ms && !box_ended(q->pid); waited += 5)
        (void)poll(NULL, 0, 5);
    box_kill(q->pid);
    if (waitpid(q->pid, &a->status, 0) < 0)
        answer_fail(a, "waitpid");
    agon_cgroup_remove(&groups, slot);
    boxes[slot] = 0;
}

static ssize_t request_receive(int fd, struct request *q, int *fds, size_t *ret_n)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * (AGON_LAUNCH_FDS_MAX + 1))];
        struct cmsghdr align;
    } control;
    struct iovec io = {q, sizeof(*q)};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    ssize_t n;
    do
        n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
    while (n < 0 && errno == EINTR);
    *ret_n = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); n > 0 && c; c = CMSG_NXTHDR(&m, c))
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            *ret_n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            memcpy(fds, CMSG_DATA(c), *ret_n * sizeof(int));
        }
    return n;
}

static void launcher_loop(int fd)
{
    static struct request q;
    int fds[AGON_LAUNCH_FDS_MAX + 1];
    size_t n_fds;
    ssize_t n;
    while ((n = request_receive(fd, &q, fds, &n_fds)) > 0) {
        struct answer a = {0};
        errno = EINVAL;
        if (n != sizeof(q) || q.n_fds != n_fds ||
            q.program_size + q.docs_size + q.argv_size > sizeof(q.data))
            answer_fail(&a, "request");
        else if (q.op == REQUEST_START)
            launch_box(&q, fds, &a);
        else
            end_box(&q, &a);
        for (size_t i = 0; i < n_fds; i++)
            (void)close(fds[i]); /* the box has its own copies */
        if (send(fd, &a, sizeof(a), MSG_NOSIGNAL) < 0)
            break;
    }
    for (int i = 0; i < BOXES_MAX; i++)
        if (boxes[i] > 0)
            box_kill(boxes[i]);
    for (int i = 0; i < BOXES_MAX; i++)
        if (boxes[i] > 0)
            agon_cgroup_remove(&groups, i);
}

static void launcher_main(int fd)
{
    (void)setsid(); /* a terminal's Ctrl-C is the driver's to handle */
    (void)prctl(PR_SET_NAME, "agon-launcher");
    for (int s = 1; s < NSIG; s++)
        if (s != SIGKILL && s != SIGSTOP)
            (void)signal(s, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(fd, 3) < 0 || close_range(4, ~0U, 0) < 0) /* another sandbox's channel among them */
        _exit(1);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int i = 0; i < 3; i++)
        if (null < 0 || dup2(null, i) < 0)
            _exit(1);
    (void)fcntl(3, F_SETFD, FD_CLOEXEC);
    if (agon_cgroup_find(&groups, ""))
        agon_cgroup_sweep(&groups);
    launcher_loop(3);
    _exit(0);
}

/* ---- the driver's side ---- */

int agon_launcher_new(struct agon_launcher **ret, struct agon_err *err)
{
    int pair[2];
    struct agon_launcher *l = calloc(1, sizeof(*l));
    if (!l)
        return agon_fail(err, AGON_ENOMEM, "launcher: out of memory");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
        free(l);
        return agon_fail(err, AGON_ESYS, "launcher: socketpair: %s", strerror(errno));
    }
    pid_t pid = fork();
    if (pid == 0) {
        (void)close(pair[0]);
        launcher_main(pair[1]);
    }
    (void)close(pair[1]);
    if (pid < 0) {
        int e = errno;
        (void)close(pair[0]);
        free(l);
        return agon_fail(err, AGON_ESYS, "launcher: fork: %s", strerror(e));
    }
    l->fd = pair[0];
    l->pid = pid;
    pthread_mutex_init(&l->lock, NULL);
    *ret = l;
    return 0;
}

void agon_launcher_free(struct agon_launcher *l)
{
    if (!l)
        return;
    (void)shutdown(l->fd, SHUT_RDWR); /* whoever holds a copy of it: it kills its boxes and ends */
    (void)close(l->fd);
    (void)waitpid(l->pid, NULL, 0);
    pthread_mutex_destroy(&l->lock);
    free(l);
}

static int launcher_ask(struct agon_launcher *l, const struct request *q, const int *fds,
                        struct answer *a, struct agon_err *err)
{
    union {
        char bytes[CMSG_SPACE(sizeof(int) * (AGON_LAUNCH_FDS_MAX + 1))];
        struct cmsghdr align;
    } control = {0};
    struct iovec io = {(void *)(uintptr_t)q, sizeof(*q)};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    if (q->n_fds > 0) {
        size_t size = sizeof(int) * q->n_fds;
        m.msg_control = control.bytes;
        m.msg_controllen = CMSG_SPACE(size);
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        *c = (struct cmsghdr){CMSG_LEN(size), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), fds, size);
    }
    pthread_mutex_lock(&l->lock);
    ssize_t n = TEMP_FAILURE_RETRY(sendmsg(l->fd, &m, MSG_NOSIGNAL));
    if (n == sizeof(*q))
        do
            n = recv(l->fd, a, sizeof(*a), 0);
        while (n < 0 && errno == EINTR);
    int e = errno;
    pthread_mutex_unlock(&l->lock);
    if (n != sizeof(*a))
        return agon_fail(err, AGON_ESYS, "launcher: %s", n < 0 ? strerror(e) : "it has ended");
    return 0;
}

int agon_launcher_start(struct agon_launcher *l, const struct agon_launch *launch, int *ret_pid,
                        struct agon_err *err)
{
    struct agon_str program = {launch->program, strlen(launch->program) + 1};
    struct agon_str docs = {launch->docs, launch->docs ? strlen(launch->docs) + 1 : 0};
    if (program.size + docs.size + launch->argv.size > DATA_MAX ||
        launch->n_fds > AGON_LAUNCH_FDS_MAX)
        return agon_fail(err, AGON_EINPUT, "launcher: too many arguments");
    struct request q = {.op = REQUEST_START,
                        .fixed_addresses = launch->fixed_addresses,
                        .n_fds = (uint32_t)launch->n_fds + 1,
                        .program_size = (uint32_t)program.size,
                        .docs_size = (uint32_t)docs.size,
                        .argv_size = (uint32_t)launch->argv.size,
                        .memory_bytes_max = launch->memory_bytes_max,
                        .processes_max = (uint32_t)launch->processes_max};
    memcpy(q.data, program.data, program.size);
    if (docs.size > 0)
        memcpy(q.data + program.size, docs.data, docs.size);
    memcpy(q.data + program.size + docs.size, launch->argv.data, launch->argv.size);
    int fds[AGON_LAUNCH_FDS_MAX + 1] = {launch->stderr_fd};
    memcpy(fds + 1, launch->fds, sizeof(int) * (size_t)launch->n_fds);
    struct answer a = {0};
    int r = launcher_ask(l, &q, fds, &a, err);
    if (r)
        return r;
    if (a.error)
        return agon_fail(err, AGON_ESYS, "launcher: %s: %s", a.what, strerror(a.error));
    *ret_pid = a.pid;
    return 0;
}

int agon_launcher_end(struct agon_launcher *l, int pid, int wait_ms, int *ret_status,
                      struct agon_err *err)
{
    /* On the stack: a box must end when memory has run out, too. */
    struct request q = {.op = REQUEST_END, .pid = pid, .wait_ms = wait_ms};
    struct answer a = {0};
    int r = launcher_ask(l, &q, NULL, &a, err);
    if (r)
        return r;
    if (a.error)
        return agon_fail(err, AGON_ESYS, "launcher: %s: %s", a.what, strerror(a.error));
    *ret_status = a.status;
    return 0;
}
