/* System call filters: see filter.h. Other architectures than the native one are killed. */
#include "sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/*
 * Ways to the kernel's inside, to other processes, or out of the namespaces; memory that
 * no limit of a box counts (a memory file is in no tmpfs with a size and in no process's
 * resident set, a System V segment outlives its processes, a message queue, a semaphore
 * set or an AIO context is the kernel's own); and what tells one box of another: the page cache and
 * the events of files of /usr, which all boxes share, and the machine's load. And what makes all
 * others wait: writing out every disk of the machine.
 */
static const int refused[] = {
    SCMP_SYS(_sysctl),
    SCMP_SYS(acct),
    SCMP_SYS(add_key),
    SCMP_SYS(adjtimex),
    SCMP_SYS(bpf),
    SCMP_SYS(chroot),
    SCMP_SYS(clock_adjtime),
    SCMP_SYS(clock_settime),
    SCMP_SYS(create_module),
    SCMP_SYS(delete_module),
    SCMP_SYS(fanotify_init),
    SCMP_SYS(fanotify_mark),
    SCMP_SYS(finit_module),
    SCMP_SYS(fsconfig),
    SCMP_SYS(fsmount),
    SCMP_SYS(fsopen),
    SCMP_SYS(fspick),
    SCMP_SYS(get_kernel_syms),
    SCMP_SYS(get_mempolicy),
    SCMP_SYS(init_module),
    SCMP_SYS(inotify_init),
    SCMP_SYS(inotify_init1),
    SCMP_SYS(io_setup),
    SCMP_SYS(io_uring_enter),
    SCMP_SYS(io_uring_register),
    SCMP_SYS(io_uring_setup),
    SCMP_SYS(ioperm),
    SCMP_SYS(iopl),
    SCMP_SYS(kcmp),
    SCMP_SYS(kexec_file_load),
    SCMP_SYS(kexec_load),
    SCMP_SYS(keyctl),
    SCMP_SYS(lookup_dcookie),
    SCMP_SYS(mbind),
    SCMP_SYS(memfd_create),
    SCMP_SYS(memfd_secret),
    SCMP_SYS(migrate_pages),
    SCMP_SYS(mincore),
    SCMP_SYS(modify_ldt),
    SCMP_SYS(mount),
    SCMP_SYS(mount_setattr),
    SCMP_SYS(move_mount),
    SCMP_SYS(move_pages),
    SCMP_SYS(mq_open),
    SCMP_SYS(msgget),
    SCMP_SYS(name_to_handle_at),
    SCMP_SYS(nfsservctl),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(open_tree),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(personality),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(pivot_root),
    SCMP_SYS(process_madvise),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(ptrace),
    SCMP_SYS(query_module),
    SCMP_SYS(quotactl),
    SCMP_SYS(quotactl_fd),
    SCMP_SYS(reboot),
    SCMP_SYS(request_key),
    SCMP_SYS(semget),
    SCMP_SYS(set_mempolicy),
    SCMP_SYS(setdomainname),
    SCMP_SYS(sethostname),
    SCMP_SYS(setns),
    SCMP_SYS(settimeofday),
    SCMP_SYS(shmat),
    SCMP_SYS(shmget),
    SCMP_SYS(stime),
    SCMP_SYS(swapoff),
    SCMP_SYS(swapon),
    SCMP_SYS(sync),
    SCMP_SYS(syncfs),
    SCMP_SYS(sysfs),
    SCMP_SYS(sysinfo),
    SCMP_SYS(syslog),
    SCMP_SYS(umount2),
    SCMP_SYS(unshare),
    SCMP_SYS(uselib),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(ustat),
    SCMP_SYS(vhangup),
    SCMP_SYS(vmsplice),
    451, /* cachestat, which this libseccomp does not know by name */
    467, /* open_tree_attr */
};

/* What a worker does between two requests and nothing else: its channel, memory, the
 * clock of its own use, and an end. mmap is added without PROT_EXEC. */
static const int cell_allowed[] = {
    SCMP_SYS(read),           SCMP_SYS(write),        SCMP_SYS(munmap),     SCMP_SYS(mremap),
    SCMP_SYS(madvise),        SCMP_SYS(brk),          SCMP_SYS(futex),      SCMP_SYS(clock_gettime),
    SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(getpid),     SCMP_SYS(gettid),
    SCMP_SYS(tgkill),         SCMP_SYS(exit),         SCMP_SYS(exit_group),
};

static int filter_fail(int r, struct agon_err *err)
{
    return agon_fail(err, AGON_ESYS, "seccomp filter: %s", strerror(-r));
}

/* A call that this libseccomp or architecture does not know is no rule. */
static int rule_add(scmp_filter_ctx ctx, uint32_t action, int call)
{
    int r = call < 0 ? 0 : seccomp_rule_add(ctx, action, call, 0);
    return r == -EDOM ? 0 : r;
}

/* The runner has the uid of what it runs: its limits and its share of the processor are
 * out of their reach; one's own can be lowered. */
static int box_rules_others(scmp_filter_ctx ctx)
{
    static const int calls[] = {SCMP_SYS(prlimit64), SCMP_SYS(sched_setaffinity),
                                SCMP_SYS(sched_setattr), SCMP_SYS(sched_setparam),
                                SCMP_SYS(sched_setscheduler)};
    const uint32_t no = SCMP_ACT_ERRNO(EPERM);
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(calls) / sizeof(*calls); i++)
        r = seccomp_rule_add(ctx, no, calls[i], 1, SCMP_A0(SCMP_CMP_NE, 0));
    static const int by_kind[] = {SCMP_SYS(setpriority), SCMP_SYS(ioprio_set)};
    for (size_t i = 0; r == 0 && i < sizeof(by_kind) / sizeof(*by_kind); i++)
        r = seccomp_rule_add(ctx, no, by_kind[i], 1, SCMP_A1(SCMP_CMP_NE, 0));
    /* Nobody in particular, but all processes of the user: the runner is one. */
    static const uint64_t user_of[] = {PRIO_USER, 3 /* IOPRIO_WHO_USER */};
    for (size_t i = 0; r == 0 && i < sizeof(by_kind) / sizeof(*by_kind); i++)
        r = seccomp_rule_add(ctx, no, by_kind[i], 1,
                             SCMP_A0(SCMP_CMP_MASKED_EQ, UINT64_C(0xffffffff), user_of[i]));
    return r;
}

static int box_rules(scmp_filter_ctx ctx)
{
    const uint32_t no = SCMP_ACT_ERRNO(EPERM);
    const uint64_t spaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWPID |
                            CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(refused) / sizeof(*refused); i++)
        r = rule_add(ctx, no, refused[i]);
    /* clone3's flags lie in memory, where no filter sees them; the C library falls back to clone.
     */
    if (r == 0)
        r = rule_add(ctx, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3));
    for (uint64_t bit = 1; r == 0 && bit <= spaces; bit <<= 1)
        if (spaces & bit)
            r = seccomp_rule_add(ctx, no, SCMP_SYS(clone), 1,
                                 SCMP_A0(SCMP_CMP_MASKED_EQ, bit, bit));
    /* Locks on files that all boxes share would carry messages. A lock of flock() is refused
     * altogether; one of fcntl() may be taken, which SQLite needs, but not asked for: on files that
     * are read-only only read locks can be had, and these never collide. */
    if (r == 0)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOLCK), SCMP_SYS(flock), 0);
    static const uint64_t asking[] = {F_GETLK, F_OFD_GETLK, F_SETLEASE, F_GETLEASE, F_NOTIFY};
    for (size_t i = 0; r == 0 && i < sizeof(asking) / sizeof(*asking); i++)
        r = seccomp_rule_add(ctx, SCMP_ACT_ERRNO(ENOLCK), SCMP_SYS(fcntl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, UINT64_C(0xffffffff), asking[i]));
    r = r ? r : box_rules_others(ctx);
    /* Files of /usr out of the cache that all boxes share. */
    r = r ? r
          : seccomp_rule_add(
                ctx, no, SCMP_SYS(fadvise64), 1,
                SCMP_A3(SCMP_CMP_MASKED_EQ, UINT64_C(0xffffffff), POSIX_FADV_DONTNEED));
    /* Typing into a terminal that someone shares, and another line discipline for one's own, for
     * which the kernel loads modules that nobody needs here. */
    static const uint64_t terminal[] = {TIOCSTI, TIOCLINUX, TIOCSETD};
    for (size_t i = 0; r == 0 && i < sizeof(terminal) / sizeof(*terminal); i++)
        r = seccomp_rule_add(ctx, no, SCMP_SYS(ioctl), 1,
                             SCMP_A1(SCMP_CMP_MASKED_EQ, UINT64_C(0xffffffff), terminal[i]));
    /* Access lists and other attributes of files are kernel memory that no limit counts, 64 KiB for
     * each, and so are Landlock's rules, 4 MiB for each descriptor; programs do without them where
     * a file system or the kernel has none. */
    static const int absent[] = {SCMP_SYS(setxattr),
                                 SCMP_SYS(lsetxattr),
                                 SCMP_SYS(fsetxattr),
                                 463 /* setxattrat */,
                                 SCMP_SYS(landlock_create_ruleset),
                                 SCMP_SYS(landlock_add_rule),
                                 SCMP_SYS(landlock_restrict_self)};
    for (size_t i = 0; r == 0 && i < sizeof(absent) / sizeof(*absent); i++)
        r = rule_add(ctx, SCMP_ACT_ERRNO(EOPNOTSUPP), absent[i]);
    /* Nobody is there to talk to, and what lies in a socket is memory that no limit counts. */
    r = r ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 0);
    return r ? r : seccomp_rule_add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socketpair), 0);
}

static int cell_rules(scmp_filter_ctx ctx)
{
    int r = 0;
    for (size_t i = 0; r == 0 && i < sizeof(cell_allowed) / sizeof(*cell_allowed); i++)
        r = rule_add(ctx, SCMP_ACT_ALLOW, cell_allowed[i]);
    return r ? r
             : seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(mmap), 1,
                                SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0));
}

/* 0, or a negative errno; what it writes goes to a descriptor only. */
static int filter_write(int fd)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ALLOW);
    int r = ctx ? box_rules(ctx) : -ENOMEM;
    if (!r) /* a tree: every system call of a box passes through, most of them to the end of a list
             */
        r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2);
    if (!r)
        r = seccomp_export_bpf(ctx, fd);
    seccomp_release(ctx);
    return r;
}

/* In a process of its own: libseccomp 2.5.4 frees twice, or crashes, where memory runs out while it
 * puts the filter together. */
static int filter_make(int fd, struct agon_err *err)
{
    int status = 0;
    pid_t pid = fork();
    if (pid == 0)
        _exit(-filter_write(fd) & 0xff);
    if (pid < 0 || TEMP_FAILURE_RETRY(waitpid(pid, &status, 0)) != pid)
        return agon_fail(err, AGON_ESYS, "seccomp filter: fork: %s", strerror(errno));
    if (!WIFEXITED(status))
        return agon_fail(err, AGON_ENOMEM, "seccomp filter: its maker was killed by signal %d",
                         WTERMSIG(status));
    return WEXITSTATUS(status) ? filter_fail(-WEXITSTATUS(status), err) : 0;
}

int agon_filter_box(struct agon_buf *b, struct agon_err *err)
{
    int fd = memfd_create("filter", MFD_CLOEXEC);
    if (fd < 0)
        return agon_fail(err, AGON_ESYS, "seccomp filter: memfd_create: %s", strerror(errno));
    int r = filter_make(fd, err);
    if (r) {
        (void)close(fd); /* nothing is kept in it */
        return r;
    }
    off_t size = lseek(fd, 0, SEEK_END);
    char *at = agon_buf_extend(b, (size_t)size);
    bool whole = at && pread(fd, at, (size_t)size, 0) == size;
    (void)close(fd); /* nothing is kept in it */
    return whole ? 0
                 : agon_fail(err, at ? AGON_ESYS : AGON_ENOMEM,
                             "seccomp filter: reading it back failed");
}

int agon_filter_cell_load(struct agon_err *err)
{
    scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(EPERM));
    if (!ctx)
        return agon_fail(err, AGON_ENOMEM, "seccomp filter: out of memory");
    int r = cell_rules(ctx);
    r = r ? r : seccomp_load(ctx);
    seccomp_release(ctx);
    return r ? filter_fail(r, err) : 0;
}
