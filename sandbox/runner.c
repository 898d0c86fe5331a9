/*
 * The runner in a bash box: see runner.h. It is process 1 of its namespace, so
 * kill(-1) reaches everything but itself, and orphans come to it.
 *
 * Invariant: between two requests no other process is alive in the box; that is why
 * files can be read without a race.
 */
#include "sandbox/runner.h"

#include "sandbox/box.h"
#include "sandbox/worker.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    FILES_MAX = 128,
    SIGNALS_MAX = 512, /* queued, timers among them: the kernel's memory */
    LOOK_MS = 25,      /* between two looks at the memory of all processes */
    NAME_MAX_SIZE = 1024,
};
static const rlim_t process_bytes_max = 1U << 30;
static size_t file_bytes_max;

static int64_t now_ms(void)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_MONOTONIC, &t); /* cannot fail on Linux */
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* After vfork: system calls only. */
static void child_run(const char *command, int out)
{
    static const char *const environment[] = {"PATH=/usr/bin:/bin:/usr/sbin:/sbin",
                                              "HOME=/work",
                                              "LANG=C.UTF-8",
                                              "TZ=UTC",
                                              "TERM=dumb",
                                              NULL};
    const char *const argv[] = {"bash", "-c", command, NULL};
    static const char failed[] = "bash: cannot be started: the command may be too long\n";
    const struct rlimit processes = {AGON_RUNNER_PROCESSES_MAX, AGON_RUNNER_PROCESSES_MAX},
                        files = {FILES_MAX, FILES_MAX};
    const struct rlimit space = {process_bytes_max, process_bytes_max};
    const struct rlimit size = {file_bytes_max, file_bytes_max};
    const struct rlimit signals = {SIGNALS_MAX, SIGNALS_MAX}, none = {0, 0};
    if (setsid() < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0 ||
        setrlimit(RLIMIT_NPROC, &processes) < 0 || setrlimit(RLIMIT_AS, &space) < 0 ||
        setrlimit(RLIMIT_NOFILE, &files) < 0 || setrlimit(RLIMIT_FSIZE, &size) < 0 ||
        setrlimit(RLIMIT_SIGPENDING, &signals) < 0 || setrlimit(RLIMIT_MSGQUEUE, &none) < 0 ||
        setrlimit(RLIMIT_MEMLOCK, &none) < 0)
        _exit(126);
    execve("/bin/bash", (char *const *)(uintptr_t)argv, (char *const *)(uintptr_t)environment);
    (void)!write(2, failed, sizeof(failed) - 1); /* there is nobody else to tell */
    _exit(126);
}

/* Resident bytes of all processes in the box. */
static uint64_t all_bytes(void)
{
    DIR *d = opendir("/proc");
    uint64_t pages = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[64], text[64];
        unsigned long long size, resident;
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof(path), "/proc/%.20s/statm", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
        if (fd >= 0)
            (void)close(fd); /* read only */
        text[n > 0 ? n : 0] = '\0';
        if (sscanf(text, "%llu %llu", &size, &resident) == 2)
            pages += resident;
    }
    if (d)
        (void)closedir(d); /* read only */
    return pages * 4096;
}

/* Files in all places that take any. An empty one costs a kilobyte that counts for no size. */
static uint64_t all_files(void)
{
    static const char *const places[] = {"/work", "/tmp", "/dev/shm"};
    uint64_t n = 0;
    for (int i = 0; i < 3; i++) {
        struct statvfs st;
        if (statvfs(places[i], &st) == 0)
            n += st.f_files - st.f_ffree;
    }
    return n;
}

/* Terminals that are open: as many as descriptors, if nobody looked. */
static int all_terminals(void)
{
    DIR *d = opendir("/dev/pts");
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));)
        n += e->d_name[0] >= '0' && e->d_name[0] <= '9';
    if (d)
        (void)closedir(d); /* read only */
    return n;
}

/* What one command gives while it runs. */
struct run {
    int pipe, pidfd;
    pid_t pid;
    int64_t start_ms, deadline_ms;
    size_t output_start; /* of the output in the reply */
    uint64_t files_max;  /* more than there were, so that a box that is full can be cleaned */
    struct agon_runner_ran ran;
};

/* Take what is in the pipe; false at its end, or when the output has reached its cap. */
static bool run_read(struct run *run, struct agon_buf *reply)
{
    for (;;) {
        size_t room = AGON_RUNNER_OUTPUT_MAX - (reply->size - run->output_start);
        char piece[16 << 10], *at = piece;
        ssize_t n = read(run->pipe, at, sizeof(piece));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return true;
        if (n <= 0)
            return false;
        agon_buf_add(reply, piece, (size_t)n < room ? (size_t)n : room);
        if ((size_t)n > room) {
            run->ran.output_capped = 1;
            return false;
        }
    }
}

static void run_watch(struct run *run, struct agon_buf *reply)
{
    bool open = true;
    int64_t looked_ms = run->start_ms;
    for (;;) {
        struct pollfd p[2] = {{.fd = run->pidfd, .events = POLLIN},
                              {.fd = open ? run->pipe : -1, .events = POLLIN}};
        (void)poll(p, 2, LOOK_MS); /* an interrupted wait is a short one */
        agon_worker_beat();
        if (open)
            open = run_read(run, reply);
        int64_t now = now_ms();
        if (p[0].revents || run->ran.output_capped)
            return;
        if (now >= looked_ms + LOOK_MS) {
            run->ran.over_memory = all_bytes() > (uint64_t)AGON_RUNNER_MIB_MAX << 20;
            run->ran.over_files = all_files() > run->files_max;
            run->ran.over_terminals = all_terminals() > AGON_RUNNER_TERMINALS_MAX;
            looked_ms = now;
        }
        run->ran.timed_out = now >= run->deadline_ms;
        if (run->ran.timed_out || run->ran.over_memory || run->ran.over_files ||
            run->ran.over_terminals)
            return;
    }
}

/* Nothing of the command is left after this. */
static void run_end(struct run *run)
{
    int status;
    pid_t pid;
    bool ended = false;
    /* What ended by itself keeps its own status. */
    if (waitpid(run->pid, &status, WNOHANG) == run->pid)
        ended = true;
    (void)kill(-1, SIGKILL); /* ESRCH: nobody is left */
    while ((pid = waitpid(-1, ended ? NULL : &status, 0)) > 0 || errno == EINTR)
        if (pid == run->pid)
            ended = true;
    run->ran.exit_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    run->ran.wall_ms = now_ms() - run->start_ms;
}

static int op_run(void *state, struct agon_str request, struct agon_buf *reply,
                  struct agon_err *err)
{
    (void)state;
    struct agon_runner_run q;
    struct run run = {.start_ms = now_ms()};
    int out[2];
    if (request.size < sizeof(q))
        return agon_fail(err, AGON_EINPUT, "run: a request of %zu bytes", request.size);
    memcpy(&q, request.data, sizeof(q));
    run.deadline_ms = run.start_ms + q.timeout_ms;
    char *command = strndup(request.data + sizeof(q), request.size - sizeof(q));
    if (!command || pipe2(out, O_CLOEXEC) < 0) {
        free(command);
        return agon_fail(err, AGON_ENOMEM, "run: out of memory");
    }
    pid_t pid = vfork();
    if (pid == 0)
        child_run(command, out[1]);
    free(command);
    (void)close(out[1]);
    run.pid = pid;
    run.pipe = out[0];
    run.pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
    if (run.pidfd < 0 || fcntl(out[0], F_SETFL, O_NONBLOCK) < 0)
        return agon_fail(err, AGON_ESYS, "run: cannot start a process: %s", strerror(errno));
    agon_buf_add(reply, &run.ran, sizeof(run.ran)); /* filled in below */
    run.output_start = reply->size;
    uint64_t files = all_files();
    run.files_max = files < AGON_RUNNER_FILES_MAX ? AGON_RUNNER_FILES_MAX : files + 100;
    run_watch(&run, reply);
    run_end(&run);
    if (!run.ran.output_capped)
        (void)run_read(&run, reply); /* what was left in the pipe */
    (void)close(run.pidfd);
    (void)close(run.pipe);
    if (reply->size >= sizeof(run.ran))
        memcpy(reply->data, &run.ran, sizeof(run.ran));
    return 0;
}

/* Open a name below /work, where commands may have planted anything. */
static int work_open(const char *name, uint64_t flags)
{
    static int work = -1;
    if (work < 0)
        work = open("/work", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct open_how how = {.flags = flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY,
                           .mode = flags & O_CREAT ? 0644 : 0,
                           .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV |
                                      RESOLVE_NO_MAGICLINKS};
    return (int)syscall(SYS_openat2, work, name, &how, sizeof(how));
}

static int reply_refused(struct agon_buf *reply, const char *why)
{
    struct agon_runner_done done = {-1};
    agon_buf_add(reply, &done, sizeof(done));
    agon_buf_adds(reply, why);
    return 0;
}

static bool name_take(struct agon_str from, char *ret)
{
    if (from.size == 0 || from.size >= NAME_MAX_SIZE || memchr(from.data, 0, from.size))
        return false;
    memcpy(ret, from.data, from.size);
    ret[from.size] = '\0';
    return true;
}

static int read_open(const struct agon_runner_file *q, int fd, struct agon_buf *reply)
{
    struct stat st;
    if (fd < 0)
        return reply_refused(reply, errno == ELOOP || errno == EXDEV
                                        ? "a link, or a way out of /work"
                                        : strerror(errno));
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return reply_refused(reply, "not a regular file");
    struct agon_runner_done done = {st.st_size};
    agon_buf_add(reply, &done, sizeof(done));
    size_t left = q->size_max < AGON_RUNNER_PIECE_MAX ? q->size_max : AGON_RUNNER_PIECE_MAX;
    off_t at = (off_t)q->offset;
    while (left > 0) {
        char piece[64 << 10];
        ssize_t n = pread(fd, piece, left < sizeof(piece) ? left : sizeof(piece), at);
        if (n <= 0)
            break;
        agon_buf_add(reply, piece, (size_t)n);
        at += n;
        left -= (size_t)n;
    }
    return 0;
}

static int op_read(void *state, struct agon_str request, struct agon_buf *reply,
                   struct agon_err *err)
{
    (void)state;
    struct agon_runner_file q;
    char name[NAME_MAX_SIZE];
    if (request.size < sizeof(q))
        return agon_fail(err, AGON_EINPUT, "read: a request of %zu bytes", request.size);
    memcpy(&q, request.data, sizeof(q));
    if (!name_take((struct agon_str){request.data + sizeof(q), request.size - sizeof(q)}, name))
        return reply_refused(reply, "not a file name");
    int fd = work_open(name, O_RDONLY);
    int r = read_open(&q, fd, reply);
    if (fd >= 0)
        (void)close(fd); /* read only */
    return r;
}

static int op_write(void *state, struct agon_str request, struct agon_buf *reply,
                    struct agon_err *err)
{
    (void)state;
    struct agon_runner_file q;
    char name[NAME_MAX_SIZE];
    if (request.size < sizeof(q))
        return agon_fail(err, AGON_EINPUT, "write: a request of %zu bytes", request.size);
    memcpy(&q, request.data, sizeof(q));
    struct agon_str rest = {request.data + sizeof(q), request.size - sizeof(q)};
    if (q.name_size > rest.size || !name_take((struct agon_str){rest.data, q.name_size}, name))
        return reply_refused(reply, "not a file name");
    const char *data = rest.data + q.name_size;
    size_t size = rest.size - q.name_size, done = 0;
    int fd = work_open(name, O_WRONLY | O_CREAT | (q.offset == 0 ? O_TRUNC : 0));
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        int e = fd < 0 ? errno : EINVAL;
        if (fd >= 0)
            (void)close(fd); /* nothing was written */
        return reply_refused(reply, strerror(e));
    }
    while (done < size) {
        ssize_t n = pwrite(fd, data + done, size - done, (off_t)(q.offset + done));
        if (n <= 0)
            break;
        done += (size_t)n;
    }
    int e = errno;
    if (close(fd) < 0 || done < size)
        return reply_refused(reply, done < size ? strerror(e) : "close failed");
    struct agon_runner_done ok = {(int64_t)(q.offset + done)};
    agon_buf_add(reply, &ok, sizeof(ok));
    return 0;
}

/* A command never runs under other limits than these, or its result would depend on the machine:
 * where one can't be set, the box does not start. */
static bool limits_can_be_set(void)
{
    const struct {
        int resource;
        rlim_t wanted;
        const char *name;
    } limits[] = {{RLIMIT_NPROC, AGON_RUNNER_PROCESSES_MAX, "processes (ulimit -u)"},
                  {RLIMIT_AS, process_bytes_max, "memory (ulimit -v)"},
                  {RLIMIT_NOFILE, FILES_MAX, "open files (ulimit -n)"},
                  {RLIMIT_FSIZE, file_bytes_max, "file size (ulimit -f)"},
                  {RLIMIT_SIGPENDING, SIGNALS_MAX, "signals (ulimit -i)"}};
    for (size_t i = 0; i < sizeof(limits) / sizeof(*limits); i++) {
        struct rlimit now;
        if (getrlimit((__rlimit_resource_t)limits[i].resource, &now) == 0 &&
            now.rlim_max >= limits[i].wanted)
            continue;
        dprintf(STDERR_FILENO, "limit of %s below %llu\n", limits[i].name,
                (unsigned long long)limits[i].wanted);
        return false;
    }
    return true;
}

int agon_runner_main(size_t bytes)
{
    static const struct agon_worker_op ops[] = {
        {"run", op_run}, {"read", op_read}, {"write", op_write}, {0}};
    static const struct agon_worker_op *const tables[] = {ops, NULL};
    file_bytes_max = bytes;
    if (!limits_can_be_set() || fcntl(AGON_BOX_FD_CHANNEL, F_SETFD, FD_CLOEXEC) < 0)
        return 2;
    return agon_worker_main(&(struct agon_worker_options){.tables = tables});
}
