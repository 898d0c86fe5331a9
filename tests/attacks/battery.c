/* The frame around each attack: see battery.h. */
#include "tests/attacks/battery.h"

#include "base/sha256.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Sanitizers take their time and their memory; and on a machine that is busy with other things an
 * attack of three seconds takes thirty. */
#ifdef UNBOXED
static const double seconds_default = 120;
#else
static const double seconds_default = 60;
#endif
/* A cell's own pages, three Lua states of 16 MiB and the buffers of one request. What a statement
 * takes in SQLite comes on top: such attacks say so. */
enum { RSS_MIB_DEFAULT = 64, PIDS_MAX = 4096, GUARDS_MAX = 8, WATCH_MS = 10, GONE_MS = 5000 };

const char *outcome_name(enum outcome o)
{
    static const char *const names[] = {"CONTAINED",     "TOOL_ERROR",    "EPISODE_FAIL",
                                        "ITEM_REJECTED", "WORKER_KILLED", "STOP"};
    return names[o];
}

bool battery_expect(enum outcome got, enum outcome wanted, const char *said, const char *part,
                    const char *file, int line)
{
    bool same = got == wanted;
    if (!same) {
        printf("# %s:%d: ended %s instead of %s: %.200s\n", file, line, outcome_name(got),
               outcome_name(wanted), said);
        test_failures++;
    }
    return test_has(said, part, file, line) && same;
}

/* ---- processes ---- */

struct pids {
    int n, pid[PIDS_MAX];
};

static size_t proc_read(int pid, const char *name, char *ret, size_t size)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, ret, size - 1);
    if (fd >= 0)
        (void)close(fd); /* read only */
    ret[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

static void pids_below(int pid, struct pids *p)
{
    char name[32], text[16384];
    snprintf(name, sizeof(name), "task/%d/children", pid);
    if (!proc_read(pid, name, text, sizeof(text)))
        return;
    char *at = text;
    for (long child; p->n < PIDS_MAX && (child = strtol(at, &at, 10)) > 0;) {
        p->pid[p->n++] = (int)child;
        pids_below((int)child, p);
    }
}

/* A number of /proc/PID/status; 0 where the process is gone or a zombie. */
static long status_kib(int pid, const char *key)
{
    char text[4096];
    (void)proc_read(pid, "status", text, sizeof(text)); /* "" when it is gone */
    const char *at = strstr(text, key);
    return at ? strtol(at + strlen(key), NULL, 10) : 0;
}

static struct pids *pids_now(struct pids *p)
{
    struct pids all = {0};
    p->n = 0;
    pids_below((int)getpid(), &all);
    for (int i = 0; i < all.n; i++)
        if (status_kib(all.pid[i], "VmRSS:") > 0)
            p->pid[p->n++] = all.pid[i];
    return p;
}

int battery_processes(void)
{
    struct pids now;
    return pids_now(&now)->n;
}

static bool pids_have(const struct pids *p, int pid)
{
    for (int i = 0; i < p->n; i++)
        if (p->pid[i] == pid)
            return true;
    return false;
}

/* Those of `now` that were not there before: how many, and one of them. */
static int pids_new(const struct pids *before, int *ret_pid)
{
    struct pids now;
    int n = 0;
    pids_now(&now);
    for (int i = 0; i < now.n; i++)
        if (!pids_have(before, now.pid[i])) {
            *ret_pid = now.pid[i];
            n++;
        }
    return n;
}

/* ---- memory ---- */

static _Atomic int watching;
static _Atomic long peak_kib;

static void watch_look(void)
{
    struct pids all = {0};
    pids_below((int)getpid(), &all);
    for (int i = 0; i < all.n; i++) {
        long kib = status_kib(all.pid[i], "VmHWM:");
        if (kib > peak_kib)
            peak_kib = kib;
    }
}

/* A process may die by its own memory, so somebody looks all the time. */
static void *watch(void *unused)
{
    for (;;) {
        struct timespec nap = {0, WATCH_MS * 1000000L};
        (void)nanosleep(&nap, NULL); /* cut short or not */
        if (watching)
            watch_look();
    }
    return unused;
}

int battery_rss_mib(void)
{
    watch_look();
    return (int)(peak_kib / 1024);
}

/* ---- what must stay as it was ---- */

static struct {
    char folder[1024], hex[65];
} guards[GUARDS_MAX];
static int n_guards;

static struct {
    void (*check)(void), (*drop)(void);
} neighbours[GUARDS_MAX];
static int n_neighbours;

static void digest_file(struct agon_sha256 *h, const char *path, const struct stat *st)
{
    char text[4096];
    ssize_t n = 0;
    if (S_ISLNK(st->st_mode) && (n = readlink(path, text, sizeof(text))) > 0)
        agon_sha256_add(h, text, (size_t)n);
    int fd = S_ISREG(st->st_mode) ? open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
    while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0)
        agon_sha256_add(h, text, (size_t)n);
    if (fd >= 0)
        (void)close(fd); /* read only */
}

static void digest_below(struct agon_sha256 *h, const char *path)
{
    struct stat st;
    struct dirent **names = NULL;
    if (lstat(path, &st) < 0)
        return;
    char head[1200];
    int n = snprintf(head, sizeof(head), "%s %o\n", path, st.st_mode);
    agon_sha256_add(h, head, (size_t)n);
    digest_file(h, path, &st);
    int count = S_ISDIR(st.st_mode) ? scandir(path, &names, NULL, alphasort) : 0;
    for (int i = 0; i < count; i++) {
        char child[1100];
        snprintf(child, sizeof(child), "%s/%s", path, names[i]->d_name);
        if (strcmp(names[i]->d_name, ".") != 0 && strcmp(names[i]->d_name, "..") != 0)
            digest_below(h, child);
        free(names[i]);
    }
    free(names);
}

void battery_digest(const char *folder, char ret_hex[65])
{
    struct agon_sha256 h;
    agon_sha256_init(&h);
    digest_below(&h, folder);
    agon_sha256_hex(&h, ret_hex);
}

void battery_guard(const char *folder)
{
    if (!EXPECT(n_guards < GUARDS_MAX))
        return;
    snprintf(guards[n_guards].folder, sizeof(guards[0].folder), "%s", folder);
    battery_digest(folder, guards[n_guards].hex);
    n_guards++;
}

void battery_neighbour(void (*check)(void), void (*drop)(void))
{
    if (!EXPECT(n_neighbours < GUARDS_MAX))
        return;
    neighbours[n_neighbours].check = check;
    neighbours[n_neighbours++].drop = drop;
}

/* ---- one attack ---- */

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void battery_begin(void)
{
    static pthread_t thread;
    if (!thread) {
        EXPECT(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
        EXPECT(pthread_create(&thread, NULL, watch, NULL) == 0);
    }
    peak_kib = 0;
    watching = 1;
}

/* Whatever came up since then goes away, at the latest when the neighbours let go of it. */
static void expect_no_process(const struct pids *before)
{
    int pid = 0, left = pids_new(before, &pid);
    for (int i = 0; left && i < n_neighbours; i++)
        neighbours[i].drop();
    double start = seconds();
    while ((left = pids_new(before, &pid)) > 0 && seconds() - start < GONE_MS / 1000.0) {
        struct timespec nap = {0, 5000000};
        (void)nanosleep(&nap, NULL); /* cut short or not */
    }
    char command[256] = "";
    if (!EXPECT(left == 0)) {
        (void)proc_read(pid, "comm", command, sizeof(command)); /* "" when it is gone by now */
        printf("# %d processes are left, one of them is %d %s\n", left, pid, command);
    }
}

static void expect_all_as_before(void)
{
    for (int i = 0; i < n_guards; i++) {
        char hex[65];
        battery_digest(guards[i].folder, hex);
        if (!EXPECT(strcmp(hex, guards[i].hex) == 0))
            printf("# %s has changed\n", guards[i].folder);
    }
    for (int i = 0; i < n_neighbours; i++)
        neighbours[i].check();
}

void battery_run(const char *id, void (*attack)(struct battery *b))
{
    struct battery b = {.id = id, .seconds_max = seconds_default, .rss_mib_max = RSS_MIB_DEFAULT};
    struct agon_rng root;
    struct pids before;
    agon_rng_init(&root, 1);
    b.rng = agon_rng_split(&root, agon_str(id));
    for (int i = 0; i < n_neighbours; i++)
        neighbours[i].check(); /* what one attack lost is whole for the next */
    battery_begin();
    pids_now(&before);
    double start = seconds();
    attack(&b);
    double took = seconds() - start;
    int mib = battery_rss_mib();
    watching = 0;
    printf("# %s: %.3f s, %d MiB\n", id, took, mib);
    EXPECT(took <= b.seconds_max);
    EXPECT(mib <= b.rss_mib_max);
    expect_no_process(&before);
    expect_all_as_before();
}
