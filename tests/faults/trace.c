/*
 * Runs a program and stops it at system calls of its own: the one hand of the fault
 * sweeps (faults.py is the other, and decides). Below libc, so SQLite's calls, stdio's
 * and the allocator's are caught alike; the program itself is the one that ships.
 *
 *   trace [--data] [--below DIR] CALL,CALL,... REPORT_FD ORDER_FD PROGRAM [ARGUMENT]...
 *
 * Only the program's own threads are traced, not the processes that it starts. At the
 * entry of each named call (with --below: of those on a path or descriptor there) one line
 * goes to REPORT_FD:
 *
 *   NAME \t ARG0 \t ... \t ARG4 \t PATH \t PATH2 \t SIZE \n  and SIZE bytes
 *
 * where the paths are absolute (what the arguments name, or what the descriptor is open
 * on; newlines and tabs as \n, \t) and the bytes are, with --data, what it is about to write.
 * One line is then read from ORDER_FD, while the whole program stands still:
 *
 *   go            the call is made
 *   fail ERRNO    it is not made, and fails
 *   short N       it is made with N as its count (its third argument)
 *   kill          SIGKILL, before it is made
 *   done          as go, and its result is reported as one more line: the number
 *   alone         as go, and nothing more is reported: the program runs free
 *   skip N        as go, and so are the next N that would be reported; they are not
 *
 * The exit status is the program's; 128 + N when signal N ended it. x86-64 only.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 8192, THREADS_MAX = 256, NO_DIR = -1 };

/* What a call's arguments are: nothing of ours, a descriptor (and what is written to it), a path or
 * two, each after its folder's descriptor, the second one alone. */
enum shape { PLAIN, ON_FD, WRITES, ON_PATH, AT_PATH, PATHS, AT_PATHS, SECOND };
struct call {
    const char *name;
    long number;
    enum shape shape;
};
/* clang-format off */
#define CALL(name, shape) {#name, SYS_##name, shape}
static const struct call calls[] = {
    CALL(read, ON_FD), CALL(pread64, ON_FD), CALL(writev, ON_FD), CALL(fsync, ON_FD),
    CALL(fdatasync, ON_FD), CALL(ftruncate, ON_FD), CALL(flock, ON_FD), CALL(fcntl, ON_FD),
    CALL(fchmod, ON_FD), CALL(fstat, ON_FD), CALL(getdents64, ON_FD), CALL(recvmsg, ON_FD),
    CALL(recvfrom, ON_FD), CALL(sendmsg, ON_FD), CALL(sendto, ON_FD), CALL(connect, ON_FD),
    CALL(close, ON_FD), CALL(sendfile, ON_FD), CALL(lseek, ON_FD), CALL(write, WRITES),
    CALL(pwrite64, WRITES), CALL(open, ON_PATH), CALL(mkdir, ON_PATH), CALL(rmdir, ON_PATH),
    CALL(unlink, ON_PATH), CALL(truncate, ON_PATH), CALL(chmod, ON_PATH), CALL(stat, ON_PATH),
    CALL(lstat, ON_PATH), CALL(access, ON_PATH), CALL(readlink, ON_PATH), CALL(openat, AT_PATH),
    CALL(openat2, AT_PATH), CALL(mkdirat, AT_PATH), CALL(unlinkat, AT_PATH),
    CALL(newfstatat, AT_PATH), CALL(faccessat, AT_PATH), CALL(faccessat2, AT_PATH),
    CALL(readlinkat, AT_PATH), CALL(rename, PATHS), CALL(link, PATHS), CALL(renameat, AT_PATHS),
    CALL(renameat2, AT_PATHS), CALL(symlink, SECOND), CALL(poll, PLAIN), CALL(ppoll, PLAIN),
    CALL(wait4, PLAIN), CALL(mmap, PLAIN), CALL(clone, PLAIN), CALL(clone3, PLAIN),
    CALL(fork, PLAIN), CALL(vfork, PLAIN), CALL(pipe2, PLAIN), CALL(socketpair, PLAIN),
    CALL(socket, PLAIN), CALL(memfd_create, PLAIN), CALL(nanosleep, PLAIN),
    CALL(clock_nanosleep, PLAIN), CALL(epoll_wait, PLAIN), CALL(getrandom, PLAIN),
};
/* clang-format on */

/* A traced thread between the entry of a call and its exit. */
struct thread {
    pid_t tid;
    bool fails, reports;
    int error;
};

struct tracer {
    pid_t pid;
    bool data, alone;
    long n_skipped; /* of the calls to come, so many are not reported */
    const char *below;
    const struct call *wanted[1024]; /* by number */
    FILE *report, *order;
    struct thread threads[THREADS_MAX];
};

static void die(const char *what)
{
    fprintf(stderr, "trace: %s: %s\n", what, strerror(errno));
    exit(99);
}

static struct thread *thread_of(struct tracer *t, pid_t tid)
{
    for (int i = 0; i < THREADS_MAX; i++) {
        if (t->threads[i].tid == tid)
            return &t->threads[i];
        if (!t->threads[i].tid) {
            t->threads[i].tid = tid;
            return &t->threads[i];
        }
    }
    errno = ENOSPC;
    die("threads");
    return NULL;
}

/* ---- what a call is about ---------------------------------------------------- */

static size_t peek(pid_t pid, uint64_t at, void *to, size_t size)
{
    struct iovec here = {to, size}, there = {(void *)(uintptr_t)at, size};
    ssize_t n = process_vm_readv(pid, &here, 1, &there, 1, 0);
    return n < 0 ? 0 : (size_t)n;
}

static void peek_text(pid_t pid, uint64_t at, char to[PATH_BYTES])
{
    size_t n = 0; /* page by page: the text may end just before an unmapped one */
    while (n < PATH_BYTES - 1 && !memchr(to, '\0', n)) {
        size_t want = 4096 - (size_t)((at + n) % 4096), got;
        if (want > PATH_BYTES - 1 - n)
            want = PATH_BYTES - 1 - n;
        if (!(got = peek(pid, at + n, to + n, want)))
            break;
        n += got;
    }
    to[n] = '\0';
}

static void link_text(char to[PATH_BYTES], pid_t pid, const char *what, int fd)
{
    char link[64];
    snprintf(link, sizeof(link), fd < 0 ? "/proc/%d/%s" : "/proc/%d/%s/%d", (int)pid, what, fd);
    ssize_t n = readlink(link, to, PATH_BYTES - 1);
    to[n < 0 ? 0 : n] = '\0';
}

/* The absolute path that `path` is to the program, "." and links unresolved. */
static void path_text(char to[PATH_BYTES], pid_t pid, const uint64_t *args, int dir, int path)
{
    char name[PATH_BYTES];
    size_t n = 0;
    peek_text(pid, args[path], name);
    if (name[0] != '/') {
        int fd = dir == NO_DIR ? AT_FDCWD : (int)args[dir];
        link_text(to, pid, fd == AT_FDCWD ? "cwd" : "fd", fd == AT_FDCWD ? -1 : fd);
        n = strlen(to);
        if (name[0] && n + 1 < PATH_BYTES)
            to[n++] = '/';
    }
    snprintf(to + n, PATH_BYTES - n, "%s", name);
}

struct about {
    char path[PATH_BYTES], path2[PATH_BYTES];
};

static void about_call(const struct tracer *t, const struct call *c, const uint64_t *args,
                       struct about *a)
{
    a->path[0] = a->path2[0] = '\0';
    switch (c->shape) {
    case PLAIN: break;
    case ON_FD:
    case WRITES: link_text(a->path, t->pid, "fd", (int)args[0]); break;
    case ON_PATH: path_text(a->path, t->pid, args, NO_DIR, 0); break;
    case AT_PATH: path_text(a->path, t->pid, args, 0, 1); break;
    case SECOND: path_text(a->path, t->pid, args, NO_DIR, 1); break;
    case PATHS:
        path_text(a->path, t->pid, args, NO_DIR, 0);
        path_text(a->path2, t->pid, args, NO_DIR, 1);
        break;
    case AT_PATHS:
        path_text(a->path, t->pid, args, 0, 1);
        path_text(a->path2, t->pid, args, 2, 3);
        break;
    }
}

static bool is_below(const char *path, const char *dir)
{
    size_t n = strlen(dir);
    return strncmp(path, dir, n) == 0 && (path[n] == '/' || path[n] == '\0' || path[n] == ' ');
}

static void print_text(FILE *f, const char *text)
{
    for (; *text; text++)
        if (*text == '\n' || *text == '\t' || *text == '\\')
            fprintf(f, "\\%c", *text == '\n' ? 'n' : *text == '\t' ? 't' : '\\');
        else
            fputc(*text, f);
}

static void report(struct tracer *t, const struct call *c, const uint64_t *args,
                   const struct about *a)
{
    size_t size = t->data && c->shape == WRITES ? (size_t)args[2] : 0;
    char *bytes = size ? malloc(size) : NULL;
    if (size)
        size = bytes ? peek(t->pid, args[1], bytes, size) : 0;
    fprintf(t->report, "%s\t", c->name);
    for (int i = 0; i < 5; i++)
        fprintf(t->report, "%lld\t", (long long)args[i]);
    print_text(t->report, a->path);
    fputc('\t', t->report);
    print_text(t->report, a->path2);
    fprintf(t->report, "\t%zu\n", size);
    if (size)
        fwrite(bytes, 1, size, t->report);
    free(bytes);
    if (fflush(t->report))
        die("report");
}

/* ---- stops ------------------------------------------------------------------- */

static void set_registers(struct thread *th, void (*change)(struct user_regs_struct *, long),
                          long v)
{
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, th->tid, NULL, &regs))
        return; /* it was killed meanwhile */
    change(&regs, v);
    (void)ptrace(PTRACE_SETREGS, th->tid, NULL, &regs);
}

static void no_call(struct user_regs_struct *regs, long v)
{
    regs->orig_rax = (unsigned long long)v;
}
static void result_is(struct user_regs_struct *regs, long v)
{
    regs->rax = (unsigned long long)v;
}
static void count_is(struct user_regs_struct *regs, long v)
{
    regs->rdx = (unsigned long long)v;
}

static void obey(struct tracer *t, struct thread *th)
{
    char line[64];
    if (!fgets(line, sizeof(line), t->order))
        strcpy(line, "kill"); /* whoever decides is gone */
    long n = strchr(line, ' ') ? strtol(strchr(line, ' '), NULL, 10) : 0;
    if (strncmp(line, "fail", 4) == 0) {
        th->fails = true;
        th->error = (int)n;
        set_registers(th, no_call, -1);
    } else if (strncmp(line, "short", 5) == 0) {
        set_registers(th, count_is, n);
    } else if (strncmp(line, "kill", 4) == 0) {
        (void)kill(t->pid, SIGKILL);
    } else if (strncmp(line, "done", 4) == 0) {
        th->reports = true;
    } else if (strncmp(line, "alone", 5) == 0) {
        t->alone = true;
    } else if (strncmp(line, "skip", 4) == 0) {
        t->n_skipped = n;
    }
}

static void at_entry(struct tracer *t, struct thread *th, const struct __ptrace_syscall_info *info)
{
    static struct about about;
    uint64_t number = info->entry.nr;
    const struct call *c = number < 1024 ? t->wanted[number] : NULL;
    if (!c || t->alone)
        return;
    uint64_t args[6];
    memcpy(args, info->entry.args, sizeof(args));
    about_call(t, c, args, &about);
    if (t->below && !is_below(about.path, t->below) && !is_below(about.path2, t->below))
        return;
    if (t->n_skipped > 0) {
        t->n_skipped--;
        return;
    }
    report(t, c, args, &about);
    obey(t, th);
}

static void at_exit_of(struct tracer *t, struct thread *th,
                       const struct __ptrace_syscall_info *info)
{
    if (th->fails)
        set_registers(th, result_is, -th->error);
    if (th->reports) {
        fprintf(t->report, "%lld\n", (long long)info->exit.rval);
        if (fflush(t->report))
            die("report");
    }
    th->fails = th->reports = false;
}

/* The signal that the thread goes on with. */
static int at_stop(struct tracer *t, pid_t tid, int status)
{
    struct __ptrace_syscall_info info;
    struct thread *th = thread_of(t, tid);
    int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) {
        memset(&info, 0, sizeof(info));
        if (ptrace(PTRACE_GET_SYSCALL_INFO, tid, sizeof(info), &info) <= 0)
            return 0; /* killed meanwhile */
        if (info.op == PTRACE_SYSCALL_INFO_ENTRY)
            at_entry(t, th, &info);
        else if (info.op == PTRACE_SYSCALL_INFO_EXIT)
            at_exit_of(t, th, &info);
        return 0;
    }
    if (status >> 16 || signal == SIGTRAP || signal == SIGSTOP)
        return 0; /* an event of ptrace, or a new thread's first stop */
    return signal;
}

static int trace(struct tracer *t)
{
    for (;;) {
        int status;
        pid_t tid = waitpid(-1, &status, __WALL);
        if (tid < 0 && errno == EINTR)
            continue;
        if (tid < 0)
            die("waitpid");
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (tid == t->pid)
                return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            continue;
        }
        if (WIFSTOPPED(status))
            (void)ptrace(t->alone ? PTRACE_CONT : PTRACE_SYSCALL, tid, NULL,
                         (void *)(intptr_t)at_stop(t, tid, status));
    }
}

static void start(struct tracer *t, char **argv)
{
    int status;
    if ((t->pid = fork()) < 0)
        die("fork");
    if (t->pid == 0) {
        (void)close(fileno(t->report));
        (void)close(fileno(t->order));
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
            die("traceme");
        execvp(argv[0], argv);
        die(argv[0]);
    }
    if (waitpid(t->pid, &status, 0) != t->pid || !WIFSTOPPED(status) ||
        ptrace(PTRACE_SETOPTIONS, t->pid, NULL,
               (void *)(PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL | PTRACE_O_TRACECLONE |
                        PTRACE_O_TRACEEXEC)) ||
        ptrace(PTRACE_SYSCALL, t->pid, NULL, NULL))
        die("ptrace");
}

static void want(struct tracer *t, char *names)
{
    for (char *name = strtok(names, ","); name; name = strtok(NULL, ",")) {
        bool found = false;
        for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++)
            if (strcmp(calls[i].name, name) == 0) {
                t->wanted[calls[i].number] = &calls[i];
                found = true;
            }
        if (!found) {
            fprintf(stderr, "trace: no call '%s' is known\n", name);
            exit(99);
        }
    }
}

int main(int argc, char **argv)
{
    static struct tracer t;
    int at = 1;
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++)
        if (strcmp(argv[at], "--data") == 0)
            t.data = true;
        else if (strcmp(argv[at], "--below") == 0 && at + 1 < argc)
            t.below = argv[++at];
    if (argc - at < 4) {
        fprintf(stderr, "usage: trace [--data] [--below DIR] CALL,... REPORT_FD ORDER_FD PROGRAM "
                        "[ARGUMENT]...\n");
        return 99;
    }
    want(&t, argv[at]);
    t.report = fdopen(atoi(argv[at + 1]), "w");
    t.order = fdopen(atoi(argv[at + 2]), "r");
    if (!t.report || !t.order)
        die("descriptors");
    (void)signal(SIGPIPE, SIG_IGN);
    start(&t, argv + at + 3);
    return trace(&t);
}
