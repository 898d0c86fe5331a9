/*
 * Runs inside a bash box and prints the name of each thing that works and must not
 * (rows E11, E12, E16 of the threat model).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MUST_FAIL(what, call)           \
    do {                                \
        errno = 0;                      \
        if ((long)(call) >= 0)          \
            printf("%s works\n", what); \
    } while (0)

static int connect_to(int family, int type, const void *address, socklen_t size)
{
    int fd = socket(family, type, 0);
    return fd < 0 ? -1 : connect(fd, address, size);
}

/* The 32-bit entry: getpid is call 20 there. The process must not survive it. */
static int int80(void)
{
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) {
        long r = 20;
        __asm__ volatile("int $0x80" : "+a"(r)::"memory");
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? -1 : 0;
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

int main(void)
{
    char data[64] = {0};
    struct clone_args args = {.flags = CLONE_NEWUSER};
    unsigned char metadata[16] = {AF_INET & 0xff, 0, 0, 80, 169, 254, 169, 254};
    struct sockaddr_un host = {.sun_family = AF_UNIX, .sun_path = "\0/tmp/.X11-unix/X0"};
    MUST_FAIL("io_uring", syscall(SYS_io_uring_setup, 8, data));
    MUST_FAIL("add_key", syscall(SYS_add_key, "user", "x", "y", 1, -3));
    MUST_FAIL("keyctl", syscall(SYS_keyctl, 0, -3, 0));
    MUST_FAIL("bpf", syscall(SYS_bpf, 0, data, sizeof(data)));
    MUST_FAIL("perf_event_open", syscall(SYS_perf_event_open, data, 0, -1, -1, 0));
    MUST_FAIL("userfaultfd", syscall(SYS_userfaultfd, 0));
    MUST_FAIL("ptrace", ptrace(PTRACE_ATTACH, 1, NULL, NULL));
    MUST_FAIL("process_vm_readv", syscall(SYS_process_vm_readv, getpid(), data, 0, data, 0, 0));
    MUST_FAIL("unshare user", unshare(CLONE_NEWUSER));
    MUST_FAIL("unshare mount", unshare(CLONE_NEWNS));
    MUST_FAIL("clone user", syscall(SYS_clone, CLONE_NEWUSER | 17, NULL, NULL, NULL, NULL));
    MUST_FAIL("clone3 user", syscall(SYS_clone3, &args, sizeof(args)));
    MUST_FAIL("mount", mount("none", "/tmp", "tmpfs", 0, NULL));
    MUST_FAIL("umount", umount2("/docs", MNT_DETACH));
    MUST_FAIL("open_tree", syscall(SYS_open_tree, -100, "/", 1));
    MUST_FAIL("chroot", chroot("/tmp"));
    MUST_FAIL("pivot_root", syscall(SYS_pivot_root, ".", "."));
    MUST_FAIL("setns", setns(0, 0));
    MUST_FAIL("open_by_handle_at", syscall(SYS_open_by_handle_at, -100, data, 0));
    MUST_FAIL("memfd_secret", syscall(SYS_memfd_secret, 0));
    MUST_FAIL("memfd_create", syscall(SYS_memfd_create, "x", 0));
    MUST_FAIL("shmget", syscall(SYS_shmget, 0, 1 << 20, 01600));
    MUST_FAIL("personality", syscall(SYS_personality, 0xffffffffUL));
    MUST_FAIL("TIOCSTI", ioctl(0, TIOCSTI, "x"));
    MUST_FAIL("setuid root", setuid(0));
    MUST_FAIL("sethostname", sethostname("x", 1));
    MUST_FAIL("syslog", syscall(SYS_syslog, 3, data, sizeof(data)));
    MUST_FAIL("int 0x80", int80());
    MUST_FAIL("x32", x32());
    MUST_FAIL("netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    MUST_FAIL("packet", socket(AF_PACKET, SOCK_RAW, 0));
    MUST_FAIL("vsock", socket(40, SOCK_STREAM, 0));
    MUST_FAIL("alg", socket(AF_ALG, SOCK_SEQPACKET, 0));
    MUST_FAIL("raw", socket(AF_INET, SOCK_RAW, 1));
    MUST_FAIL("metadata address", connect_to(AF_INET, SOCK_STREAM, metadata, sizeof(metadata)));
    MUST_FAIL("UDP", connect_to(AF_INET, SOCK_DGRAM, metadata, sizeof(metadata)));
    MUST_FAIL("abstract socket", connect_to(AF_UNIX, SOCK_STREAM, &host, sizeof(host)));
    MUST_FAIL("write to /usr", open("/usr/x", O_WRONLY | O_CREAT, 0600));
    MUST_FAIL("core_pattern", open("/proc/sys/kernel/core_pattern", O_WRONLY));
    MUST_FAIL("sysrq", open("/proc/sysrq-trigger", O_WRONLY));
    MUST_FAIL("the runner's memory", open("/proc/1/mem", O_RDWR));
    puts("done");
    return 0;
}
