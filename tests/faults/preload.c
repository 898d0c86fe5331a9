/*
 * What cannot be done at a system call: the n-th allocation of a program fails, and its
 * wall clock jumps. Loaded by LD_PRELOAD; all libraries of the program are meant, and only the
 * process that was started, not those that it forks or executes.
 *
 *   AGON_FAULT_ALLOC=N    the N-th call of malloc, calloc or realloc returns NULL
 *   AGON_FAULT_ALLOC=N+   that one and all after it
 *   AGON_FAULT_COUNT=PATH how many there were, written at the end
 *   AGON_FAULT_CLOCK=SEED the time of day jumps by up to ten years, back and forth, at each look
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* What glibc's own malloc is called besides. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);

static atomic_long n_calls;
static long fail_at; /* 0: none */
static bool fail_on;
static atomic_ulong clock_state; /* 0: the clock goes as it should */
static pid_t the_process;

__attribute__((constructor)) static void begin(void)
{
    const char *alloc = getenv("AGON_FAULT_ALLOC"), *seed = getenv("AGON_FAULT_CLOCK");
    the_process = getpid();
    if (seed)
        clock_state = strtoul(seed, NULL, 10) | 1;
    (void)unsetenv("LD_PRELOAD"); /* what the program starts is not meant */
    if (alloc) {
        fail_on = strchr(alloc, '+') != NULL;
        n_calls = 0;
        fail_at = strtol(alloc, NULL, 10);
    }
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("AGON_FAULT_COUNT");
    char text[32];
    int fd = path && getpid() == the_process ? open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
    if (fd < 0)
        return;
    int n = snprintf(text, sizeof(text), "%ld\n", (long)n_calls);
    (void)!write(fd, text, (size_t)n);
    (void)close(fd);
}

static bool fails(void)
{
    long n = atomic_fetch_add(&n_calls, 1) + 1;
    if (!fail_at || n < fail_at || (n > fail_at && !fail_on) || getpid() != the_process)
        return false;
    errno = ENOMEM;
    return true;
}

void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return fails() ? NULL : __libc_calloc(n, size);
}

void *realloc(void *p, size_t size)
{
    return fails() ? NULL : __libc_realloc(p, size);
}

/* Seconds by which the clock is wrong at this look: -5 to 5 years. */
static long wrong_by(void)
{
    unsigned long s = atomic_load(&clock_state);
    if (!s)
        return 0;
    s = s * 6364136223846793005UL + 1442695040888963407UL;
    atomic_store(&clock_state, s | 1);
    return (long)(s >> 33) % (10L * 365 * 86400) - 5L * 365 * 86400;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
    int r = (int)syscall(SYS_clock_gettime, clock, t);
    if (!r && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        t->tv_sec += wrong_by();
    return r;
}

time_t time(time_t *ret)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (ret)
        *ret = t.tv_sec;
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict ret, void *restrict zone)
{
    struct timespec t;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    *ret = (struct timeval){t.tv_sec, t.tv_nsec / 1000};
    return 0;
}
