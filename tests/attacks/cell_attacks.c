/*
 * A worker program whose ops misbehave, each in one way: what model-written code
 * would do if it had taken its cell over.
 */
#include "sandbox/box.h"
#include "sandbox/frame.h"
#include "sandbox/script_lib.h"
#include "sandbox/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define OP(name)                                                                       \
    static int op_##name(void *state, struct agon_str request, struct agon_buf *reply, \
                         struct agon_err *err)
static volatile bool forever = true;

#define UNUSED (void)state, (void)request, (void)reply, (void)err

OP(hang)
{
    UNUSED;
    while (forever)
        ;
    return 0;
}

OP(crash)
{
    UNUSED;
    int *volatile nowhere = NULL;
    return *nowhere;
}

OP(abort)
{
    UNUSED;
    abort();
}

OP(exit)
{
    UNUSED;
    _exit(3);
}

/* The request is written to the channel as it is. */
OP(raw)
{
    UNUSED;
    (void)!write(AGON_BOX_FD_CHANNEL, request.data, request.size);
    while (forever)
        agon_worker_beat();
    return 0;
}

/* A reply one byte shorter than its head says, and nothing more; the request is the content. */
OP(cut_short)
{
    UNUSED;
    struct agon_frame_head head;
    agon_frame_head_init(&head, "cut_short", 0, request.size + 1);
    (void)!write(AGON_BOX_FD_CHANNEL, &head, sizeof(head));
    (void)!write(AGON_BOX_FD_CHANNEL, request.data, request.size);
    _exit(0);
}

/* A reply that comes byte by byte is one all the same. */
OP(drip)
{
    UNUSED;
    struct agon_frame_head head;
    agon_frame_head_init(&head, "drip", 0, request.size);
    for (size_t i = 0; i < sizeof(head); i++)
        (void)!write(AGON_BOX_FD_CHANNEL, (const char *)&head + i, 1);
    for (size_t i = 0; i < request.size; i++)
        (void)!write(AGON_BOX_FD_CHANNEL, request.data + i, 1);
    while (forever)
        agon_worker_beat();
    return 0;
}

/* Last words that would write over a terminal. */
OP(last_words)
{
    UNUSED;
    static const char words[] = "\x1b[2J\x1b]0;owned\a\xff pass\n";
    (void)!write(STDERR_FILENO, words, sizeof(words) - 1);
    _exit(4);
}

OP(refuse)
{
    UNUSED;
    return agon_fail(err, AGON_EINPUT, "\x1b[31mfine\r\nverdict: pass\xe2\x80\xae");
}

OP(flood)
{
    UNUSED;
    static char zeros[1 << 16];
    while (forever)
        (void)!write(AGON_BOX_FD_CHANNEL, zeros, sizeof(zeros));
    return 0;
}

OP(noise)
{
    UNUSED;
    char text[1000];
    memset(text, 'n', sizeof(text));
    int n = 0;
    while (n < 100000 && write(STDERR_FILENO, text, sizeof(text)) > 0)
        n++;
    agon_buf_addf(reply, "%d", n);
    return 0;
}

static void report(struct agon_buf *b, const char *what, long result)
{
    if (result >= 0)
        agon_buf_addf(b, "%s ", what);
}

/* Names what worked of all that must not. */
OP(escape)
{
    UNUSED;
    report(reply, "open", open("/usr/lib", O_RDONLY));
    report(reply, "proc", open("/proc/self/environ", O_RDONLY));
    report(reply, "socket", socket(AF_INET, SOCK_STREAM, 0));
    report(reply, "unix", socket(AF_UNIX, SOCK_STREAM, 0));
    report(reply, "pipe", pipe((int[2]){0, 0}));
    report(reply, "fork", syscall(SYS_fork));
    report(reply, "clone3", syscall(SYS_clone3, NULL, 0));
    report(reply, "execve", execl("/bin/true", "true", NULL));
    report(reply, "kill", kill(-1, 0));
    report(reply, "ptrace", ptrace(PTRACE_TRACEME, 0, NULL, NULL));
    report(reply, "memfd", memfd_create("x", 0));
    report(reply, "io_uring", syscall(SYS_io_uring_setup, 1, NULL));
    report(reply, "mprotect", mprotect((void *)0x200000000000, 4096, PROT_READ | PROT_EXEC));
    report(reply, "chdir", chdir("/"));
    void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    report(reply, "mmap_exec", p == MAP_FAILED ? -1 : 0);
    for (int fd = 0; fd < 1024; fd++) /* an open descriptor takes zero bytes, or says why not */
        if (fd > AGON_BOX_FD_CHANNEL && (write(fd, "", 0) == 0 || errno != EBADF))
            agon_buf_addf(reply, "fd%d ", fd);
    for (char **e = environ; *e; e++)
        agon_buf_addf(reply, "%s ", *e);
    return 0;
}

OP(memory)
{
    UNUSED;
    size_t got = 0;
    for (char *p; got < (4UL << 30) && (p = malloc(1 << 20)); got += 1 << 20)
        memset(p, 1, 1 << 20);
    agon_buf_addf(reply, "%zu", got >> 20);
    return 0;
}

static int raw_order(lua_State *L, void *arg)
{
    agon_script_run_chunk(
        L, "=code", agon_str("local t = {} for i = 1, 60 do t['key' .. i] = i end return t"), 1);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        agon_buf_addf(arg, "%d ", (int)lua_tointeger(L, -1));
    return 0;
}

/* The order of Lua's own table slots, which no script sees but which its hash seed decides. */
OP(seed)
{
    (void)state, (void)request;
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    char reason[64];
    volatile char deeper[2000];
    deeper[request.size % sizeof(deeper)] = 1;
    int r = agon_script_new(&s, NULL, err);
    return r ? r : agon_script_protect(s, raw_order, reply, reason, sizeof(reason), err);
}

static int run_code(lua_State *L, void *arg)
{
    agon_script_run_chunk(L, "=code", *(struct agon_str *)arg, 0);
    return 0;
}

/* Runs the request as a script. */
OP(lua)
{
    (void)state;
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    char reason[128];
    struct agon_script_limits limits = {.fuel_max = INT64_MAX / 2};
    int r = agon_script_new(&s, &limits, err);
    if (r)
        return r;
    r = agon_script_protect(s, run_code, &request, reason, sizeof(reason), err);
    agon_buf_addf(reply, "%d %s", r, reason);
    return r < 0 ? r : 0;
}

static int nothing(lua_State *L, void *arg)
{
    (void)arg;
    lua_settop(L, 0);
    return 0;
}

OP(panic)
{
    UNUSED;
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    int r = agon_script_new(&s, NULL, err);
    if (r)
        return r;
    lua_pushliteral(s->L, "nobody catches this");
    return lua_error(s->L);
}

/* No attack: two seconds of entries that are each too short for the count hook. */
OP(busy)
{
    UNUSED;
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    char why[64];
    struct timespec start, now;
    int r = agon_script_new(&s, NULL, err);
    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        for (int i = 0; r == 0 && i < 1000; i++)
            r = agon_script_protect(s, nothing, NULL, why, sizeof(why), err);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (r == 0 && now.tv_sec - start.tv_sec < 3);
    return r;
}

int main(int argc, char **argv)
{
    static const struct agon_worker_op ops[] = {
        {"hang", op_hang},     {"crash", op_crash},
        {"abort", op_abort},   {"exit", op_exit},
        {"raw", op_raw},       {"flood", op_flood},
        {"noise", op_noise},   {"escape", op_escape},
        {"memory", op_memory}, {"seed", op_seed},
        {"lua", op_lua},       {"busy", op_busy},
        {"panic", op_panic},   {"cut_short", op_cut_short},
        {"drip", op_drip},     {"last_words", op_last_words},
        {"refuse", op_refuse}, {0}};
    static const struct agon_worker_op *const tables[] = {ops, NULL};
    struct agon_worker_options o = {.tables = tables,
                                    .bytes_max = argc > 1 ? strtoull(argv[1] + 7, NULL, 10) : 0,
                                    .filter = true};
    return agon_worker_main(&o);
}

time_t time(time_t *ret)
{
    if (ret)
        *ret = 0;
    return 0;
}
