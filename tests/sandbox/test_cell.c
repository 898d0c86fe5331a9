/* Cells: round trips, and every way in which one can be lost. */
#include "sandbox/cell.h"

#include "base/file.h"
#include "sandbox/boxed.h"
#include "tests/test.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static char reason[128];
static struct agon_err err;

static struct agon_sandbox *open_sandbox(void)
{
    struct agon_sandbox *sb = NULL;
    if (!EXPECT(agon_sandbox_open(&sb, NULL, &err) == 0)) /* never a skip */
        printf("# %s\n", err.text);
    return sb;
}

TEST(echoes_requests_of_all_sizes)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = open_sandbox();
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    REQUIRE(sb && agon_cell_new(&c, sb, &err) == 0);
    static char big[(64 << 20) + 1];
    for (size_t i = 0; i < sizeof(big); i++)
        big[i] = (char)(i * 31);
    static const size_t sizes[] = {0, 1, 4048, 4096, 4097, 65488, 65536, 300000, 5000000, 64 << 20};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        struct agon_str request = {big, sizes[i]};
        int r = agon_cell_call(c, "echo", request, &reply, reason, &err);
        EXPECT(r == 0 && agon_str_equal(agon_buf_str(&reply), request));
    }
    EXPECT(agon_cell_call(c, "echo", (struct agon_str){big, sizeof(big)}, &reply, reason, &err) ==
           AGON_EINPUT);
    EXPECT_HAS(err.text, "at most");
    EXPECT(agon_cell_call(c, "echo", agon_str("still there"), &reply, reason, &err) == 0);
}

TEST(several_cells_work_at_once)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = open_sandbox();
    struct agon_cell *c[3] = {0};
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    REQUIRE(sb);
    for (int i = 0; i < 3; i++)
        REQUIRE(agon_cell_new(&c[i], sb, &err) == 0);
    for (int i = 0; i < 3; i++)
        EXPECT(agon_cell_start(c[i], "echo", agon_str((const char *[]){"a", "b", "c"}[i]), &err) ==
               0);
    EXPECT(agon_cell_start(c[0], "echo", agon_str("again"), &err) == AGON_EINPUT);
    for (int i = 2; i >= 0; i--) {
        int r;
        while ((r = agon_cell_take(c[i], &reply, reason, &err)) == AGON_CELL_TAKE_WAIT)
            poll(&(struct pollfd){.fd = agon_cell_fd(c[i]), .events = POLLIN}, 1, 250);
        EXPECT(r == AGON_CELL_TAKE_DONE && agon_buf_text(&reply)[0] == "abc"[i]);
    }
    for (int i = 0; i < 3; i++)
        agon_cell_free(c[i]);
}

TEST(an_op_that_fails_loses_the_cell_with_its_words)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = open_sandbox();
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    REQUIRE(sb && agon_cell_new(&c, sb, &err) == 0);
    EXPECT(agon_cell_call(c, "nonsense", agon_str(""), &reply, reason, &err) == AGON_CELL_LOST);
    EXPECT_HAS(reason, "no operation 'nonsense'");
    EXPECT(agon_cell_call(c, "echo", agon_str(""), &reply, reason, &err) == AGON_CELL_LOST);
    EXPECT_HAS(reason, "no operation 'nonsense'");
}

TEST(a_missing_program_is_named)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_sandbox_options o = {.cell_program = "/nowhere/agon-cell"};
    EXPECT(agon_sandbox_open(&sb, &o, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "sandbox: /nowhere/agon-cell: No such file");
}

TEST(a_program_that_is_no_cell_is_refused)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_sandbox_options o = {.cell_program = "/bin/false"};
    EXPECT(agon_sandbox_open(&sb, &o, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "nothing is run");
    EXPECT_HAS(err.text, "ended with status 1");
}

TEST(a_missing_bubblewrap_is_told_with_its_remedy)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_sandbox_options o = {.bwrap = "/nowhere/bwrap"};
    EXPECT(agon_sandbox_open(&sb, &o, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "apt-get install bubblewrap");
    o.bwrap = "/bin/false";
    EXPECT(agon_sandbox_open(&sb, &o, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "no box can be built here, so nothing is run");
}

static void put(const char *root, const char *dir, const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof(path), "%s%s", root, dir);
    EXPECT(agon_dir_make(path, &err) == 0);
    snprintf(path, sizeof(path), "%s%s/%s", root, dir, name);
    EXPECT(agon_file_write(path, agon_str(text), false, &err) == 0);
}

TEST(each_obstacle_has_its_remedy)
{
    char root[] = "/tmp/agon-root-XXXXXX", remedy[256];
    REQUIRE(mkdtemp(root));
    agon_probe_remedy(root, remedy, sizeof(remedy));
    EXPECT(remedy[0] == '\0');
    put(root, "/proc/sys/kernel", "apparmor_restrict_unprivileged_userns", "0\n");
    put(root, "/proc/sys/user", "max_user_namespaces", "96365\n");
    agon_probe_remedy(root, remedy, sizeof(remedy));
    EXPECT(remedy[0] == '\0');
    put(root, "/run", ".containerenv", "");
    agon_probe_remedy(root, remedy, sizeof(remedy));
    EXPECT_HAS(remedy, "container");
    put(root, "/proc/sys/kernel", "apparmor_restrict_unprivileged_userns", "1\n");
    agon_probe_remedy(root, remedy, sizeof(remedy));
    EXPECT_HAS(remedy, "/etc/apparmor.d");
    put(root, "/proc/sys/user", "max_user_namespaces", "0\n");
    agon_probe_remedy(root, remedy, sizeof(remedy));
    EXPECT_HAS(remedy, "sysctl -w user.max_user_namespaces=10000");
    put(root, "/proc/sys/kernel", "unprivileged_userns_clone", "0\n");
    agon_probe_remedy(root, remedy, sizeof(remedy));
    EXPECT_HAS(remedy, "sysctl -w kernel.unprivileged_userns_clone=1");
    EXPECT(agon_dir_remove(root, &err) == 0);
}

/* In a user namespace of its own, whose limit of further ones is then 0. */
static int without_namespaces(void)
{
    struct agon_sandbox *sb = NULL;
    int fd = unshare(CLONE_NEWUSER) ? -1 : open("/proc/sys/user/max_user_namespaces", O_WRONLY);
    if (fd < 0 || write(fd, "0", 1) != 1)
        return 2;
    if (agon_sandbox_open(&sb, NULL, &err) != AGON_ESYS)
        return 3;
    printf("# %s\n", err.text);
    fflush(stdout);
    return strstr(err.text, "sysctl -w user.max_user_namespaces=10000") ? 0 : 4;
}

TEST(without_user_namespaces_nothing_is_run)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(without_namespaces());
    int status;
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
}

/* I15: with few descriptors it works, with too few it says so. */
static int with_descriptors(rlim_t most)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){most, most}) < 0)
        return 9;
    int r = agon_sandbox_open(&sb, NULL, &err);
    r = r ? r : agon_cell_new(&c, sb, &err);
    r = r ? r : agon_cell_call(c, "echo", agon_str("x"), &reply, reason, &err);
    if (r)
        printf("# %s\n", err.text);
    fflush(stdout);
    return r == 0 ? 0 : r == AGON_ESYS && strstr(err.text, "Too many open files") ? 1 : 2;
}

TEST(few_descriptors_suffice_and_too_few_are_told)
{
    static const struct {
        rlim_t most;
        int end;
    } cases[] = {{32, 0}, {8, 1}, {5, 1}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        pid_t pid = fork();
        if (pid == 0)
            _exit(with_descriptors(cases[i].most));
        int status;
        EXPECT(waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
               WEXITSTATUS(status) == cases[i].end);
    }
}
