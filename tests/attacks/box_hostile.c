/*
 * Runs inside a bash box: box_hostile NAME does one thing that must come to nothing and prints
 * what worked of it, then "done".
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MUST_FAIL(what, call)           \
    do {                                \
        errno = 0;                      \
        if ((long)(call) >= 0)          \
            printf("%s works\n", what); \
    } while (0)

/* It is the filter that refuses, and not another lock behind it. */
#define MUST_END(what, call, error)                                    \
    do {                                                               \
        errno = 0;                                                     \
        if ((long)(call) >= 0 || errno != (error))                     \
            printf("%s: %s, not %s\n", what, strerror(errno), #error); \
    } while (0)

static char data[256];

static int connect_to(int family, int type, const void *address, socklen_t size)
{
    int fd = socket(family, type, 0);
    return fd < 0 ? -1 : connect(fd, address, size);
}

/* E11 */
static void network(void)
{
    static const int families[] = {AF_UNIX,      AF_INET, AF_INET6,   AF_NETLINK, AF_PACKET,
                                   AF_BLUETOOTH, AF_ALG,  AF_VSOCK,   AF_XDP,     AF_KEY,
                                   AF_CAN,       AF_RDS,  AF_QIPCRTR, AF_TIPC};
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET};
    unsigned char metadata[16] = {AF_INET & 0xff, 0, 0, 80, 169, 254, 169, 254};
    struct sockaddr_un host = {.sun_family = AF_UNIX, .sun_path = "\0/tmp/.X11-unix/X0"};
    int pair[2];
    for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
        for (int t = 0; t < 4; t++) {
            snprintf(data, sizeof(data), "socket(%d, %d)", families[i], types[t]);
            MUST_FAIL(data, socket(families[i], types[t], 0));
        }
    MUST_FAIL("metadata address", connect_to(AF_INET, SOCK_STREAM, metadata, sizeof(metadata)));
    MUST_FAIL("UDP", connect_to(AF_INET, SOCK_DGRAM, metadata, sizeof(metadata)));
    MUST_FAIL("ICMP", socket(AF_INET, SOCK_DGRAM, 1));
    MUST_FAIL("abstract socket", connect_to(AF_UNIX, SOCK_STREAM, &host, sizeof(host)));
    MUST_FAIL("socketpair", socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
}

/* The 32-bit entry: getpid is call 20 there. The process must not survive it. */
static int int80(void)
{
#ifdef __x86_64__
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        long r = 20;
        __asm__ volatile("int $0x80" : "+a"(r)::"memory");
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? -1 : 0;
#else
    return -1;
#endif
}

static int x32(void)
{
    pid_t pid = fork();
    int status = 0;
    if (pid == 0)
        _exit(syscall(0x40000000 + SYS_getpid) > 0 ? 0 : 1);
    waitpid(pid, &status, 0);
    return status == 0 ? 0 : -1;
}

/* E12 */
static void kernel(void)
{
    struct clone_args args = {.flags = CLONE_NEWUSER};
    MUST_FAIL("io_uring", syscall(SYS_io_uring_setup, 8, data));
    MUST_FAIL("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    MUST_FAIL("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    MUST_FAIL("bpf", syscall(SYS_bpf, 0, data, sizeof(data)));
    MUST_FAIL("perf_event_open", syscall(SYS_perf_event_open, data, 0, -1, -1, 0));
    MUST_FAIL("userfaultfd", syscall(SYS_userfaultfd, 0));
    MUST_FAIL("ptrace", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    MUST_FAIL("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), data, 0, data, 0, 0));
    MUST_FAIL("pidfd_getfd", syscall(SYS_pidfd_getfd, 0, 3, 0));
    MUST_FAIL("unshare user", unshare(CLONE_NEWUSER));
    MUST_FAIL("unshare mount", unshare(CLONE_NEWNS));
    MUST_END("clone user", syscall(SYS_clone, CLONE_NEWUSER | 17, NULL, NULL, NULL, NULL), EPERM);
    MUST_END("clone3 user", syscall(SYS_clone3, &args, sizeof(args)), ENOSYS);
    MUST_FAIL("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    MUST_FAIL("umount", umount2("/docs", MNT_DETACH));
    MUST_FAIL("open_tree", syscall(SYS_open_tree, -100, "/", 1));
    MUST_FAIL("chroot", chroot("/tmp"));
    MUST_FAIL("pivot_root", syscall(SYS_pivot_root, ".", "."));
    MUST_FAIL("setns", setns(0, 0));
    MUST_FAIL("open_by_handle_at", syscall(SYS_open_by_handle_at, -100, data, 0));
    MUST_FAIL("personality", syscall(SYS_personality, 0xffffffffUL));
    MUST_END("TIOCSTI", ioctl(0, TIOCSTI, "x"), EPERM);
    MUST_FAIL("setuid root", setuid(0));
    MUST_FAIL("sethostname", sethostname("x", 1));
    MUST_FAIL("settimeofday", settimeofday(&(struct timeval){1, 0}, NULL));
    MUST_FAIL("syslog", syscall(SYS_syslog, 3, data, sizeof(data)));
    MUST_FAIL("int 0x80", int80());
    MUST_FAIL("x32", x32());
    MUST_FAIL("write to /usr", open("/usr/x", O_WRONLY | O_CREAT, 0600));
    MUST_FAIL("core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    MUST_FAIL("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    MUST_FAIL("the runner's memory", open("/proc/1/mem", O_RDWR));
    MUST_FAIL("real-time scheduling",
              sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 1}));
    MUST_FAIL("a better priority", setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) - 5));
}

#ifdef __x86_64__
/* E12: each call that the filter refuses, with arguments of nothing: the kernel itself would say
 * something else than EPERM to most of them, or do it. */
static void refused(void)
{
#define CALL(name)        \
    {                     \
#name, SYS_##name \
    }
    static const struct {
        const char *name;
        long number;
    } calls[] = {CALL(acct),
                 CALL(add_key),
                 CALL(adjtimex),
                 CALL(bpf),
                 CALL(chroot),
                 CALL(clock_adjtime),
                 CALL(clock_settime),
                 CALL(delete_module),
                 CALL(fanotify_init),
                 CALL(fanotify_mark),
                 CALL(finit_module),
                 CALL(fsconfig),
                 CALL(fsmount),
                 CALL(fsopen),
                 CALL(fspick),
                 CALL(get_mempolicy),
                 CALL(init_module),
                 CALL(inotify_init),
                 CALL(inotify_init1),
                 CALL(io_setup),
                 CALL(io_uring_enter),
                 CALL(io_uring_register),
                 CALL(io_uring_setup),
                 CALL(ioperm),
                 CALL(iopl),
                 CALL(kcmp),
                 CALL(kexec_file_load),
                 CALL(kexec_load),
                 CALL(keyctl),
                 CALL(lookup_dcookie),
                 CALL(mbind),
                 CALL(memfd_create),
                 CALL(memfd_secret),
                 CALL(migrate_pages),
                 CALL(mincore),
                 CALL(modify_ldt),
                 CALL(mount),
                 CALL(mount_setattr),
                 CALL(move_mount),
                 CALL(move_pages),
                 CALL(mq_open),
                 CALL(msgget),
                 CALL(name_to_handle_at),
                 CALL(open_by_handle_at),
                 CALL(open_tree),
                 CALL(perf_event_open),
                 CALL(personality),
                 CALL(pidfd_getfd),
                 CALL(pivot_root),
                 CALL(process_madvise),
                 CALL(process_vm_readv),
                 CALL(process_vm_writev),
                 CALL(ptrace),
                 CALL(quotactl),
                 CALL(reboot),
                 CALL(request_key),
                 CALL(semget),
                 CALL(set_mempolicy),
                 CALL(setdomainname),
                 CALL(sethostname),
                 CALL(setns),
                 CALL(settimeofday),
                 CALL(shmat),
                 CALL(shmget),
                 CALL(swapoff),
                 CALL(swapon),
                 CALL(sysinfo),
                 CALL(syslog),
                 CALL(umount2),
                 CALL(unshare),
                 CALL(userfaultfd),
                 CALL(vhangup),
                 CALL(vmsplice),
                 {"cachestat", 451},
                 {"open_tree_attr", 467}};
    for (size_t i = 0; i < sizeof(calls) / sizeof(*calls); i++) {
        errno = 0;
        if (syscall(calls[i].number, 0, 0, 0, 0, 0, 0) != -1 || errno != EPERM)
            printf("%s: %s\n", calls[i].name, strerror(errno));
    }
    MUST_FAIL("limits of another", syscall(SYS_prlimit64, 1, RLIMIT_NOFILE, NULL, data));
    MUST_FAIL("a priority of all of a user", setpriority(PRIO_USER, 0, 19));
    MUST_FAIL("the same with high bits", syscall(SYS_setpriority, PRIO_USER | 1L << 32, 0, 19));
    MUST_FAIL("what all of a user may read and write", syscall(SYS_ioprio_set, 3, 0, 3 << 13));
    MUST_FAIL("a priority of all of a group", setpriority(PRIO_PGRP, 1, 19));
    MUST_FAIL("the processors of another", syscall(SYS_sched_setaffinity, 1, sizeof(data), data));
}
#else
static void refused(void)
{
}
#endif

/* E16: what two boxes could talk through. */
static void channels(void)
{
    int fd = open("/usr/bin/bash", O_RDONLY);
    struct flock read_lock = {.l_type = F_RDLCK}, ask = {.l_type = F_WRLCK};
    MUST_FAIL("opening /usr/bin/bash to write", open("/usr/bin/bash", O_RDWR));
    MUST_FAIL("flock", flock(fd, LOCK_SH));
    MUST_FAIL("flock exclusively", flock(fd, LOCK_EX | LOCK_NB));
    (void)fcntl(fd, F_SETLK, &read_lock); /* may be had, and nobody can tell */
    MUST_FAIL("asking for a lock", fcntl(fd, F_GETLK, &ask));
    MUST_FAIL("asking for a lock of the file", fcntl(fd, F_OFD_GETLK, &ask));
    MUST_FAIL("a write lock", fcntl(fd, F_SETLK, &ask));
    MUST_FAIL("a write lock of the file", fcntl(fd, F_OFD_SETLK, &ask));
    MUST_END("a lease", fcntl(fd, F_SETLEASE, F_RDLCK), ENOLCK);
    MUST_FAIL("asking for a lease", fcntl(fd, F_GETLEASE));
    MUST_FAIL("dnotify", fcntl(open("/usr/bin", O_RDONLY), F_NOTIFY, DN_ACCESS));
    MUST_FAIL("inotify", inotify_init());
    MUST_FAIL("fanotify", syscall(SYS_fanotify_init, 0, 0));
    void *map = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    MUST_FAIL("the page cache's state", mincore(map, 4096, (unsigned char *)data));
    MUST_FAIL("cachestat", syscall(451, fd, data, data + 16, 0));
    MUST_FAIL("dropping the page cache", syscall(SYS_fadvise64, fd, 0, 0, POSIX_FADV_DONTNEED));
    MUST_FAIL("writing out all disks", syscall(SYS_sync));
    MUST_FAIL("writing out the disk of /usr", syscall(SYS_syncfs, fd));
    MUST_FAIL("sysinfo", sysinfo(&(struct sysinfo){0}));
    MUST_FAIL("shmget", syscall(SYS_shmget, 0x1234, 1 << 20, 01600));
    MUST_FAIL("semget", syscall(SYS_semget, 0x1234, 1, 01600));
    MUST_FAIL("msgget", syscall(SYS_msgget, 0x1234, 01600));
    MUST_FAIL("mq_open", mq_open("/x", O_CREAT | O_RDWR, 0600, NULL));
    MUST_FAIL("memfd_create", syscall(SYS_memfd_create, "x", 0));
    MUST_FAIL("memfd_secret", syscall(SYS_memfd_secret, 0));
    MUST_FAIL("an AIO context", syscall(SYS_io_setup, 1, data));
    static const char *const counters[] = {"loadavg",  "stat",    "meminfo", "vmstat",
                                           "uptime",   "locks",   "cmdline", "diskstats",
                                           "zoneinfo", "softirqs"};
    for (size_t i = 0; i < sizeof(counters) / sizeof(*counters); i++) {
        snprintf(data, sizeof(data), "/proc/%s", counters[i]);
        MUST_FAIL(data, open(data, O_RDONLY));
    }
    MUST_FAIL("the count of terminals", open("/proc/sys/kernel/pty/nr", O_RDONLY));
}

static void *idle(void *unused)
{
    sleep(30);
    return unused;
}

/* E6 */
static void threads(void)
{
    int n = 0;
    pthread_t t;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    while (n < 10000 && pthread_create(&t, &small, idle, NULL) == 0)
        n++;
    if (n >= 128)
        printf("%d threads work\n", n);
    puts("done");
    fflush(stdout);
    _exit(0);
}

/* Kernel memory without a file or a page: timers and queued signals. */
static void timers(void)
{
    int n = 0;
    timer_t id;
    struct sigevent event = {.sigev_notify = SIGEV_NONE};
    while (n < 100000 && timer_create(CLOCK_MONOTONIC, &event, &id) == 0)
        n++;
    if (n > 1000)
        printf("%d timers work\n", n);
    signal(SIGRTMIN, SIG_IGN);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    for (n = 0; n < 100000 && sigqueue(getpid(), SIGRTMIN, (union sigval){0}) == 0;)
        n++;
    if (n > 1000)
        printf("%d queued signals work\n", n);
    MUST_FAIL("locked memory", mlock(data, sizeof(data)));
}

/* Bytes in pipes are the kernel's memory: 40 processes, each with as many pipes as it may have. */
static void pipes(void)
{
    static char bytes[1 << 20];
    int report[2];
    long all = 0, n;
    if (pipe(report) < 0)
        return;
    for (int i = 0; i < 40; i++) {
        if (fork() != 0)
            continue;
        long got = 0;
        for (int p[2]; pipe2(p, O_NONBLOCK) == 0;) {
            (void)fcntl(p[1], F_SETPIPE_SZ, (int)sizeof(bytes)); /* as far as it goes */
            ssize_t w;
            while ((w = write(p[1], bytes, sizeof(bytes))) > 0)
                got += w;
        }
        (void)!write(report[1], &got, sizeof(got));
        sleep(30);
        _exit(0);
    }
    for (int i = 0; i < 40 && read(report[0], &n, sizeof(n)) == sizeof(n); i++)
        all += n;
    if (all > 400L << 20)
        printf("%ld MiB in pipes work\n", all >> 20);
}

/* So are attributes of files in memory and their access lists, which no size of a file counts: a
 * list of 8,000 entries is 64 KiB. */
static void attributes(void)
{
    static struct {
        uint32_t version;
        struct {
            uint16_t tag, rights;
            uint32_t id;
        } entries[8000];
    } list = {.version = 2};
    static const char *const names[] = {"user.a", "trusted.a", "security.a",
                                        "system.posix_acl_access", "system.posix_acl_default"};
    int n = 8000, fd = open("/work/attributes", O_CREAT | O_RDWR, 0600);
    for (int i = 1; i < n - 3; i++) {
        list.entries[i].tag = 2; /* the user of this id */
        list.entries[i].id = getuid();
    }
    list.entries[0].tag = 1; /* the owner, their group, the mask, all others */
    list.entries[n - 3].tag = 4;
    list.entries[n - 2].tag = 0x10;
    list.entries[n - 1].tag = 0x20;
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        MUST_END(names[i], fsetxattr(fd, names[i], &list, sizeof(list), 0), EOPNOTSUPP);
        MUST_END(names[i], setxattr("/work", names[i], &list, sizeof(list), 0), EOPNOTSUPP);
        MUST_END(names[i], lsetxattr("/work", names[i], &list, sizeof(list), 0), EOPNOTSUPP);
    }
    MUST_FAIL("setxattrat", syscall(463, -100, "/work", 0, names[3], &list, sizeof(list)));
    (void)close(fd);
}

/* Rules of Landlock: 65,536 ports in each ruleset, and as many rulesets as descriptors. */
static void rulesets(void)
{
    uint64_t handled[3] = {0, 3, 0};
    struct {
        uint64_t access, port;
    } rule = {1, 80};
    MUST_END("asking for Landlock", syscall(444, NULL, 0, 1), EOPNOTSUPP);
    MUST_END("a ruleset", syscall(444, handled, sizeof(handled), 0), EOPNOTSUPP);
    MUST_END("a rule", syscall(445, 0, 2, &rule, 0), EOPNOTSUPP);
    MUST_END("a ruleset for oneself", syscall(446, 0, 0), EOPNOTSUPP);
}

/* Terminals: one's own is fine, nobody else's is there. */
static void terminals(void)
{
    int own = open("/dev/ptmx", O_RDWR | O_NOCTTY), zero = 0;
    MUST_FAIL("the driver's terminal", open("/dev/tty", O_RDWR));
    MUST_FAIL("/dev/console", open("/dev/console", O_RDWR));
    MUST_FAIL("/dev/pts/0 of somebody", own >= 0 ? -1 : open("/dev/pts/0", O_RDWR));
    if (own >= 0 && ioctl(own, TIOCSPTLCK, &zero) == 0) {
        int end = ioctl(own, TIOCGPTPEER, O_RDWR | O_NOCTTY);
        MUST_END("TIOCSTI on a terminal of one's own", ioctl(end, TIOCSTI, "x"), EPERM);
        MUST_FAIL("TIOCSTI with high bits",
                  syscall(SYS_ioctl, end, 0xffffffff00000000UL | TIOCSTI, "x"));
        MUST_END("TIOCLINUX", ioctl(end, TIOCLINUX, "\2"), EPERM);
        for (int line = 0; line < 32; line++) /* SLIP, PPP, HCI, GSM and so on */
            MUST_END("a line discipline", ioctl(end, TIOCSETD, &line), EPERM);
        MUST_FAIL("TIOCCONS", ioctl(end, TIOCCONS, 0));
    }
    MUST_FAIL("vhangup", syscall(SYS_vhangup));
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } all[] = {{"network", network},  {"kernel", kernel},   {"channels", channels},
               {"threads", threads},  {"timers", timers},   {"terminals", terminals},
               {"pipes", pipes},      {"refused", refused}, {"attributes", attributes},
               {"rulesets", rulesets}};
    for (size_t i = 0; argc > 1 && i < sizeof(all) / sizeof(*all); i++)
        if (strcmp(argv[1], all[i].name) == 0) {
            all[i].run();
            puts("done");
            return 0;
        }
    return 2;
}
