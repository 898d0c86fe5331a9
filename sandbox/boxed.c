/* A boxed process as the driver holds it: see boxed.h. */
#include "sandbox/boxed.h"

#include "base/file.h"
#include "sandbox/interrupt.h"
#include "sandbox/runner.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    HELLO_MS = 10000,
    POLL_MS = 100,
    STALL_MS = 200,       /* without a beat: look at the CPU time */
    HANG_CPU_MS = 800,    /* of its own CPU time since then: it hangs */
    HANG_WALL_MS = 10000, /* without a beat, however little it ran */
    DEATH_MS = 1000,      /* from the end of its channel to its own end */
    STDERR_BYTES = 4096,
    READ_BYTES = 64 << 10,
    GROUP_OTHERS = 8, /* bubblewrap and the runner, and some that are ending */
};

static int64_t now_ms(clockid_t clock)
{
    struct timespec t = {0};
    if (clock_gettime(clock, &t) < 0)
        return -1;
    return t.tv_sec * INT64_C(1000) + t.tv_nsec / 1000000;
}

/* A sealed memory file: what has it open in a box can neither grow it (and fill the
 * machine's memory) nor shrink it (and make our mapping fault). */
static int memory_file(const char *name, size_t size, struct agon_err *err)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0) {
        agon_fail(err, AGON_ESYS, "box: memory file: %s", strerror(errno));
        if (fd >= 0)
            (void)close(fd); /* nothing is kept in it */
        return -1;
    }
    return fd;
}

static int filter_file(const struct agon_buf *filter, struct agon_err *err)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0 || agon_fd_write(fd, agon_buf_str(filter)) || lseek(fd, 0, SEEK_SET) < 0) {
        agon_fail(err, AGON_ESYS, "box: filter file: %s", strerror(errno));
        if (fd >= 0)
            (void)close(fd); /* nothing is kept in it */
        return -1;
    }
    return fd;
}

static void closep(const int *fd)
{
    if (*fd >= 0)
        (void)close(*fd); /* nothing written through it is waited for */
}

static int boxed_launch(struct agon_boxed *b, const struct agon_box_options *o,
                        struct agon_err *err)
{
    struct agon_box_options options = *o;
    if (o->docs && agon_launcher_drops_root())
        options.docs = "/mnt"; /* where the launcher mounts it */
    struct agon_box_plan plan;
    struct agon_buf argv AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 10);
    int r = agon_box_plan(&plan, &options, err);
    if (r || (r = agon_box_argv(&argv, &plan, err)))
        return r;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return agon_fail(err, AGON_ESYS, "box: socketpair: %s", strerror(errno));
    b->fd = pair[0];
    int far AGON_AUTO(closep) = pair[1];
    int heartbeat AGON_AUTO(closep) = memory_file("heartbeat", 4096, err);
    int filter AGON_AUTO(closep) = filter_file(&b->sb->filter, err);
    b->stderr_fd = memory_file("stderr", STDERR_BYTES, err);
    if (heartbeat < 0 || filter < 0 || b->stderr_fd < 0)
        return AGON_ESYS;
    int yes = 1; /* the hello tells the process's pid as we see it */
    if (setsockopt(b->fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof(yes)) < 0)
        return agon_fail(err, AGON_ESYS, "box: SO_PASSCRED: %s", strerror(errno));
    void *p = mmap(NULL, 4096, PROT_READ, MAP_SHARED, heartbeat, 0);
    if (p == MAP_FAILED)
        return agon_fail(err, AGON_ESYS, "box: mmap: %s", strerror(errno));
    b->heartbeat = p;
    struct agon_launch launch = {
        .program = b->sb->bwrap,
        .argv = agon_buf_str(&argv),
        .docs = o->docs,
        .fixed_addresses = o->kind == AGON_BOX_CELL,
        .memory_bytes_max = agon_box_memory_max(o),
        .processes_max = AGON_RUNNER_PROCESSES_MAX + GROUP_OTHERS,
        .stderr_fd = b->stderr_fd,
        .fds = {far, heartbeat, o->program_fd ? o->program_fd : b->sb->program_fd, filter},
        .n_fds = 4};
    return agon_launcher_start(b->sb->launcher, &launch, &b->pid, err);
}

/* The first line that the box left on its standard error. */
static void boxed_stderr(const struct agon_boxed *b, char *ret, size_t size)
{
    char text[STDERR_BYTES + 1];
    ssize_t n = pread(b->stderr_fd, text, STDERR_BYTES, 0);
    text[n > 0 ? n : 0] = '\0';
    text[strcspn(text, "\n")] = '\0';
    for (char *p = text; *p; p++)
        *p = *p < ' ' || *p > '~' ? '?' : *p;
    snprintf(ret, size, "%.*s", (int)size - 1, text);
}

static void boxed_end(struct agon_boxed *b, int wait_ms, int *ret_status)
{
    struct agon_err ignored;
    *ret_status = 0;
    if (b->pid > 0)
        (void)!agon_launcher_end(b->sb->launcher, b->pid, wait_ms, ret_status,
                                 &ignored); /* then the launcher is gone, and the box with it */
    b->pid = -1;
}

static void boxed_lose(struct agon_boxed *b, const char *reason)
{
    int status;
    if (!b->lost)
        snprintf(b->reason, sizeof(b->reason), "%.*s", (int)sizeof(b->reason) - 1, reason);
    b->lost = true;
    boxed_end(b, 0, &status);
}

/* Its channel has closed: say how it ended. */
static void boxed_died(struct agon_boxed *b)
{
    int status;
    char text[80];
    boxed_end(b, DEATH_MS, &status);
    boxed_stderr(b, text, sizeof(text));
    /* bubblewrap turns its child's signal into 128 + signal */
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (!b->lost)
        snprintf(b->reason, sizeof(b->reason), "%s %d%s%s",
                 code > 128 ? "killed by signal" : "ended with status",
                 code > 128 ? code - 128 : code, text[0] ? ": " : "", text);
    b->lost = true;
}

static bool wait_readable(int fd, int ms)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return TEMP_FAILURE_RETRY(poll(&p, 1, ms)) > 0;
}

static int boxed_hello(struct agon_boxed *b, struct agon_err *err)
{
    struct agon_frame_head head;
    union {
        char bytes[CMSG_SPACE(sizeof(struct ucred))];
        struct cmsghdr align;
    } control;
    struct iovec io = {&head, sizeof(head)};
    struct msghdr m = {.msg_iov = &io,
                       .msg_iovlen = 1,
                       .msg_control = control.bytes,
                       .msg_controllen = sizeof(control.bytes)};
    ssize_t n = -1;
    if (wait_readable(b->fd, HELLO_MS))
        n = TEMP_FAILURE_RETRY(recvmsg(b->fd, &m, MSG_CMSG_CLOEXEC));
    struct cmsghdr *c = n == sizeof(head) ? CMSG_FIRSTHDR(&m) : NULL;
    struct agon_err why;
    if (!c || c->cmsg_type != SCM_CREDENTIALS || agon_frame_check(&head, &why) != 0) {
        boxed_died(b);
        b->sb->start_failed = true;
        return agon_fail(err, AGON_ESYS, "the boxed program did not start: %s", b->reason);
    }
    struct ucred cred;
    memcpy(&cred, CMSG_DATA(c), sizeof(cred));
    if (clock_getcpuclockid(cred.pid, &b->clock) != 0)
        return agon_fail(err, AGON_ESYS, "box: no CPU clock of process %d", cred.pid);
    int no = 0;
    (void)setsockopt(b->fd, SOL_SOCKET, SO_PASSCRED, &no, sizeof(no)); /* only costs time */
    return 0;
}

int agon_boxed_open(struct agon_boxed **ret, struct agon_sandbox *sb,
                    const struct agon_box_options *options, struct agon_err *err)
{
    struct agon_boxed *b AGON_AUTO(agon_boxed_closep) = calloc(1, sizeof(*b));
    if (!b)
        return agon_fail(err, AGON_ENOMEM, "box: out of memory");
    b->sb = sb;
    b->hang_cpu_ms = options->hang_cpu_ms ? options->hang_cpu_ms : HANG_CPU_MS;
    b->fd = b->stderr_fd = b->pid = -1;
    b->in = (struct agon_buf)AGON_BUF(AGON_FRAME_SIZE_MAX + sizeof(struct agon_frame_head) +
                                      READ_BYTES);
    int r = boxed_launch(b, options, err);
    if (r || (r = boxed_hello(b, err)))
        return r;
    *ret = AGON_STEAL(b);
    return 0;
}

void agon_boxed_close(struct agon_boxed *b)
{
    if (!b)
        return;
    int status;
    boxed_end(b, 0, &status);
    closep(&b->fd);
    closep(&b->stderr_fd);
    if (b->heartbeat)
        munmap((void *)(uintptr_t)b->heartbeat, 4096);
    agon_buf_deinit(&b->in);
    free(b);
}

static void watch_begin(struct agon_boxed *b)
{
    b->beat = atomic_load_explicit(b->heartbeat, memory_order_relaxed);
    b->beat_ms = now_ms(CLOCK_MONOTONIC);
    b->stall_cpu_ms = -1;
}

/* Has it made no progress for too long? Then it is lost. */
static void watch_look(struct agon_boxed *b)
{
    if (agon_interrupted()) {
        boxed_lose(b, "interrupted");
        return;
    }
    int64_t now = now_ms(CLOCK_MONOTONIC), stall = now - b->beat_ms;
    if (now > b->deadline_ms) {
        boxed_lose(b, "no reply in time");
        return;
    }
    if (atomic_load_explicit(b->heartbeat, memory_order_relaxed) != b->beat) {
        watch_begin(b);
        return;
    }
    if (stall < STALL_MS)
        return;
    int64_t cpu = now_ms(b->clock);
    if (b->stall_cpu_ms < 0)
        b->stall_cpu_ms = cpu;
    int wall_max = b->hang_cpu_ms * 2 > HANG_WALL_MS ? b->hang_cpu_ms * 2 : HANG_WALL_MS;
    if (stall < wall_max && (cpu < 0 || cpu - b->stall_cpu_ms < b->hang_cpu_ms))
        return;
    char why[64];
    snprintf(why, sizeof(why), "no heartbeat for %lld ms", (long long)stall);
    boxed_lose(b, why);
}

/* Send what the socket takes; a reader that takes nothing is watched like one that hangs. */
static int boxed_send(struct agon_boxed *b, const char *data, size_t size, struct agon_err *err)
{
    while (size > 0 && !b->lost) {
        ssize_t n = send(b->fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0) {
            data += n;
            size -= (size_t)n;
            watch_begin(b);
        } else if (errno == EAGAIN) {
            struct pollfd p = {.fd = b->fd, .events = POLLOUT};
            (void)poll(&p, 1, POLL_MS); /* whatever it says, the next send tells */
            watch_look(b);
        } else if (errno == EPIPE || errno == ECONNRESET) {
            boxed_died(b);
        } else if (errno != EINTR) {
            return agon_fail(err, AGON_ESYS, "box: send: %s", strerror(errno));
        }
    }
    return 0;
}

int agon_boxed_start(struct agon_boxed *b, const char *op, struct agon_str request, int wall_ms_max,
                     struct agon_err *err)
{
    if (b->busy)
        return agon_fail(err, AGON_EINPUT, "box: a request is in flight");
    if (request.size > AGON_FRAME_SIZE_MAX)
        return agon_fail(err, AGON_EINPUT, "box: a request of %zu bytes, at most %d are allowed",
                         request.size, AGON_FRAME_SIZE_MAX);
    struct {
        struct agon_frame_head head;
        char content[4096];
    } first;
    agon_frame_head_init(&first.head, op, 0, request.size);
    size_t n = request.size < sizeof(first.content) ? request.size : sizeof(first.content);
    if (n > 0)
        memcpy(first.content, request.data, n);
    memcpy(b->op, first.head.op, sizeof(b->op));
    agon_buf_reset(&b->in);
    b->busy = true;
    watch_begin(b);
    b->deadline_ms = b->beat_ms + wall_ms_max;
    int r = boxed_send(b, (const char *)&first, sizeof(first.head) + n, err);
    return r || request.size == n ? r : boxed_send(b, request.data + n, request.size - n, err);
}

/* Is the reply whole? A head or content that breaks the format loses the box. */
static bool reply_whole(struct agon_boxed *b, struct agon_frame_head *head)
{
    struct agon_err why;
    if (b->in.size < sizeof(*head))
        return false;
    memcpy(head, b->in.data, sizeof(*head));
    if (agon_frame_check(head, &why) != 0)
        boxed_lose(b, why.text);
    else if (strcmp(head->op, b->op) != 0 || b->in.size > sizeof(*head) + head->size)
        boxed_lose(b, "frame: not the reply to our request");
    return !b->lost && b->in.size == sizeof(*head) + head->size;
}

static int reply_give(struct agon_boxed *b, const struct agon_frame_head *head,
                      struct agon_buf *reply, struct agon_err *err)
{
    struct agon_str content = {b->in.data + sizeof(*head), head->size};
    if (head->status < 0) {
        char why[AGON_BOXED_REASON];
        size_t n = content.size < 120 ? content.size : 120;
        for (size_t i = 0; i < n; i++) /* a cell that was taken over may say anything */
            why[i] = content.data[i] < ' ' || content.data[i] > '~' ? '?' : content.data[i];
        why[n] = '\0';
        boxed_lose(b, n ? why : "the operation failed without a word");
        return AGON_CELL_TAKE_LOST;
    }
    b->busy = false;
    agon_buf_reset(reply);
    agon_buf_add_str(reply, content);
    int r = agon_buf_check(reply, "reply of a box", err);
    return r ? r : AGON_CELL_TAKE_DONE;
}

static int take_lost(const struct agon_boxed *b, char *ret_reason)
{
    memcpy(ret_reason, b->reason, AGON_BOXED_REASON);
    return AGON_CELL_TAKE_LOST;
}

int agon_boxed_take(struct agon_boxed *b, struct agon_buf *reply, char *ret_reason,
                    struct agon_err *err)
{
    struct agon_frame_head head;
    if (!b->busy && !b->lost)
        return agon_fail(err, AGON_EINPUT, "box: no request is in flight");
    while (!b->lost) {
        char *at = agon_buf_extend(&b->in, READ_BYTES);
        if (!at)
            return agon_buf_check(&b->in, "reply of a box", err);
        ssize_t n = recv(b->fd, at, READ_BYTES, MSG_DONTWAIT);
        b->in.size -= READ_BYTES - (size_t)(n > 0 ? n : 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET)) {
            boxed_died(b);
        } else if (n < 0 && errno == EAGAIN) {
            watch_look(b);
            if (!b->lost)
                return AGON_CELL_TAKE_WAIT;
        } else if (n < 0 && errno != EINTR) {
            return agon_fail(err, AGON_ESYS, "box: recv: %s", strerror(errno));
        } else if (n > 0) {
            watch_begin(b);
            if (reply_whole(b, &head)) {
                int r = reply_give(b, &head, reply, err);
                return r == AGON_CELL_TAKE_LOST ? take_lost(b, ret_reason) : r;
            }
        }
    }
    return take_lost(b, ret_reason);
}

int agon_boxed_finish(struct agon_boxed *b, struct agon_buf *reply, char *ret_reason,
                      struct agon_err *err)
{
    int r = 0;
    while (r == 0) {
        if (!b->lost)
            (void)wait_readable(b->fd, POLL_MS); /* readable or not, take tells */
        r = agon_boxed_take(b, reply, ret_reason, err);
    }
    return r == AGON_CELL_TAKE_DONE ? 0 : r == AGON_CELL_TAKE_LOST ? AGON_CELL_LOST : r;
}

int agon_boxed_call(struct agon_boxed *b, const char *op, struct agon_str request, int wall_ms_max,
                    struct agon_buf *reply, char *ret_reason, struct agon_err *err)
{
    int r = b->lost ? 0 : agon_boxed_start(b, op, request, wall_ms_max, err);
    return r ? r : agon_boxed_finish(b, reply, ret_reason, err);
}
