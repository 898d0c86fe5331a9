/* Bash boxes: what works inside, and section E of the threat model. */
#include "sandbox/bashbox.h"

#include "base/file.h"
#include "sandbox/cell.h"
#include "tests/test.h"

#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct agon_err err;
static struct agon_sandbox *shared_sandbox;

static struct agon_sandbox *sandbox(void)
{
    if (!shared_sandbox && !EXPECT(agon_sandbox_open(&shared_sandbox, NULL, &err) == 0))
        printf("# %s\n", err.text); /* never a skip */
    return shared_sandbox;
}

static struct agon_bashbox *box_open(size_t work_bytes_max)
{
    struct agon_bashbox *b = NULL;
    struct agon_bashbox_options o = {.work_bytes_max = work_bytes_max};
    if (sandbox() && !EXPECT(agon_bashbox_open(&b, sandbox(), &o, &err) == 0))
        printf("# %s\n", err.text);
    return b;
}

static struct agon_bash_result run_for(struct agon_bashbox *b, const char *command, int timeout_ms)
{
    struct agon_bash_result r = {.exit_status = -1};
    if (!EXPECT(agon_bashbox_run(b, agon_str(command), timeout_ms, &r, &err) == 0))
        printf("# %s: %s\n", command, err.text);
    return r;
}

/* The command's output is this. */
#define SAYS(b, command, text)                                                         \
    do {                                                                               \
        struct agon_bash_result r_ = run_for(b, command, 20000);                       \
        if (!EXPECT(strcmp(agon_buf_text(&r_.output), text) == 0))                     \
            printf("# %s\n#   said \"%.600s\"\n", command, agon_buf_text(&r_.output)); \
        agon_bash_result_deinit(&r_);                                                  \
    } while (0)
#define OUTPUT_HAS(b, command, part)                                                   \
    do {                                                                               \
        struct agon_bash_result r_ = run_for(b, command, 20000);                       \
        if (!EXPECT(strstr(agon_buf_text(&r_.output), part) != NULL))                  \
            printf("# %s\n#   said \"%.600s\"\n", command, agon_buf_text(&r_.output)); \
        agon_bash_result_deinit(&r_);                                                  \
    } while (0)

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

TEST(commands_work)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    SAYS(b, "echo out; echo err >&2; pwd", "out\nerr\n/work\n");
    SAYS(b, "printf 'b 2\\na 1\\n' | sort | awk '{print $2}' | sed 's/$/!/' | tr '\\n' ' '",
         "1! 2! ");
    SAYS(b, "echo 'create table t(a); insert into t values (42); select a from t' | sqlite3 x.db",
         "42\n");
    SAYS(b, "sqlite3 x.db 'select a + 1 from t'", "43\n");
    SAYS(b, "echo '{\"a\": [1, 2]}' | jq -c .a", "[1,2]\n");
    SAYS(b, "cd /tmp && mktemp -d XXX | wc -c; diff <(echo a) <(echo a) && echo same", "4\nsame\n");
    SAYS(b, "env | grep -v _= | sort",
         "HOME=/work\nLANG=C.UTF-8\nPATH=/usr/bin:/bin:/usr/sbin:/sbin\n"
         "PWD=/work\nSHLVL=1\nTERM=dumb\nTZ=UTC\n");
    struct agon_bash_result r = run_for(b, "exit 7", 1000);
    EXPECT(r.exit_status == 7 && !r.timed_out && r.output.size == 0);
    r = run_for(b, "kill -9 $$", 1000);
    EXPECT(r.exit_status == 137 && !r.timed_out);
    r = run_for(b, "if", 1000);
    EXPECT(r.exit_status == 2);
    EXPECT_HAS(agon_buf_text(&r.output), "syntax error");
    agon_bash_result_deinit(&r);
    EXPECT(agon_bashbox_run(b, (struct agon_str){"echo a\0b", 8}, 1000, &r, &err) == 0);
    EXPECT(r.exit_status == 126);
    EXPECT_HAS(agon_buf_text(&r.output), "a NUL byte");
    agon_bash_result_deinit(&r);
    OUTPUT_HAS(b, "x=$(head -c 200000 /dev/zero | tr '\\0' x); /bin/true $x; echo", "too long");
}

TEST(world_and_documents_are_there)
{
    char dir[] = "/tmp/agon-test-XXXXXX", path[64];
    REQUIRE(mkdtemp(dir) && chmod(dir, 0755) == 0);
    snprintf(path, sizeof(path), "%s/page.txt", dir);
    EXPECT(agon_file_write(path, agon_str("a page"), false, &err) == 0);
    struct agon_bashbox_options o = {.docs_dir = dir, .world_path = path};
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = NULL;
    REQUIRE(sandbox() && agon_bashbox_open(&b, sandbox(), &o, &err) == 0);
    SAYS(b, "cat /docs/page.txt world.db; rm /docs/page.txt 2>/dev/null || echo refused",
         "a pagea pagerefused\n");
    snprintf(path, sizeof(path), "%s/later.txt", dir);
    EXPECT(agon_file_write(path, agon_str("fetched later"), false, &err) == 0);
    SAYS(b, "cat /docs/later.txt; ls /mnt 2>&1 | head -c 20", "fetched laterls: cannot access '/");
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

/* E2, E3, E15 and the canary: environment, descriptors, files and processes of the host. */
TEST(nothing_of_the_host_is_seen)
{
    setenv("AGON_TEST_SECRET", "canary-7261", 1);
    int fd = open("/etc/shadow", O_RDONLY); /* inheritable on purpose */
    fd = fd < 0 ? open("/etc/passwd", O_RDONLY) : fd;
    char host[] = "/tmp/agon-canary-XXXXXX";
    int canary = mkstemp(host);
    REQUIRE(canary >= 0 && write(canary, "canary-7261", 11) == 11);
    const gid_t more = 4242;
    struct rlimit core;
    EXPECT(geteuid() != 0 || setgroups(1, &more) == 0);
    REQUIRE(getrlimit(RLIMIT_CORE, &core) == 0);
    core.rlim_cur = core.rlim_max;
    EXPECT(setrlimit(RLIMIT_CORE, &core) == 0);
    agon_sandbox_close(shared_sandbox); /* the launcher inherits what is open and set now */
    shared_sandbox = NULL;
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    SAYS(b, "cat /proc/*/environ 2>/dev/null | grep -c canary", "0\n");
    SAYS(b,
         "for p in /proc/[0-9]*; do ls $p/fd $p/root $p/cwd; done 2>/dev/null | grep -c -e shadow",
         "0\n");
    SAYS(b, "cd /proc/self/fd; echo *", "0 1 2 3\n"); /* 3: the directory being read */
    SAYS(b, "readlink /proc/self/fd/0", "/dev/null\n");
    SAYS(b, "ls -d /root /home /var /etc/passwd /etc/shadow /run /sys /boot /mnt /srv 2>/dev/null",
         "");
    SAYS(b, "ls /tmp /etc | tr '\\n' ' '", "/etc: alternatives ld.so.cache  /tmp: ");
    OUTPUT_HAS(b, "cat /proc/1/mem; readlink /proc/1/exe; cat /proc/1/maps", "Permission denied");
    SAYS(b, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n"); /* the runner and bash */
    SAYS(b, "grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t\\n'",
         "CapEff:0000000000000000CapBnd:0000000000000000NoNewPrivs:1Seccomp:2");
    SAYS(b, "grep ^Groups: /proc/self/status; ulimit -c; ulimit -s; cat /proc/self/oom_score_adj",
         "Groups:\t \n0\n8192\n1000\n");
    SAYS(b, "id -u; hostname; su -c id 2>&1 | grep -c 'uid=0'", "65534\nagon\n0\n");
    SAYS(b, "grep -c canary /work/* /tmp/* 2>/dev/null", "");
    close(fd);
    close(canary);
    unlink(host);
}

/* E8, E9: every place that takes bytes is read-only or has a size. */
TEST(every_writable_place_has_a_size)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(8 << 20);
    REQUIRE(b);
    SAYS(b,
         "for d in / /usr /usr/local /etc /docs /proc /dev /proc/sys /lib; do "
         "touch $d/x 2>/dev/null && echo wrote $d; done; "
         "echo 1 > /proc/sys/kernel/printk_ratelimit; true",
         "bash: line 1: /proc/sys/kernel/printk_ratelimit: No such file or directory\n");
    OUTPUT_HAS(
        b, "for i in 1 2 3 4 5 6 7 8 9; do head -c 1000000 /dev/zero > f$i || break; done; rm f*",
        "No space left");
    OUTPUT_HAS(b, "head -c 9000000 /dev/zero > big; rm big", "File size limit exceeded");
    OUTPUT_HAS(b,
               "for i in $(seq 9); do head -c 7m /dev/zero >> /tmp/f$i || break; for j in 1 2; do "
               "cat /tmp/f$i > /tmp/g$i$j || break 2; done; done 2>&1; rm /tmp/*",
               "No space left");
    OUTPUT_HAS(
        b,
        "for i in $(seq 9); do head -c 7m /dev/zero > /dev/shm/f$i || break; done; rm /dev/shm/*",
        "No space left");
    SAYS(b, "df --output=size -k /work /tmp /dev/shm | tail -3 | tr -d ' '",
         "8192\n65536\n16384\n");
}

/* E6, E7 */
TEST(bombs_stay_in_their_box)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    struct agon_bash_result r = run_for(b, ":(){ :|:& };: 2>/dev/null; sleep 600", 1500);
    EXPECT(r.timed_out || r.exit_status != 0);
    agon_bash_result_deinit(&r);
    SAYS(b, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
    /* Until a fork fails, however long that takes on a busy machine: the first line of the loop. */
    r = run_for(b,
                "exec 3< <(for i in $(seq 300); do sleep 300 & done 2>&1); read -r said <&3; "
                "echo \"$said\"",
                100000);
    EXPECT_HAS(agon_buf_text(&r.output), "Resource temporarily unavailable");
    agon_bash_result_deinit(&r);
    OUTPUT_HAS(b, "head -c 2000m /dev/zero | tail -c 2000m | wc -c", "memory exhausted");
    r = run_for(b,
                "for i in 1 2 3 4; do (head -c 800m /dev/zero | tail -c 800m | (sleep 20; wc -c)) "
                "& done; wait",
                100000);
    EXPECT_HAS(agon_buf_text(&r.output), "more than 2048 MiB together");
    EXPECT(r.exit_status == 137);
    agon_bash_result_deinit(&r);
    r = run_for(b, "mkdir m && cd m && seq 5000000 | xargs touch", 100000);
    EXPECT_HAS(agon_buf_text(&r.output), "more than 100000 files");
    agon_bash_result_deinit(&r);
    SAYS(b, "rm -r m; echo still here", "still here\n");
}

/* E10 */
TEST(what_a_command_starts_dies_with_it)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    SAYS(b,
         "sleep 1000 & disown; setsid nohup sleep 1000 & (trap '' TERM HUP; (sleep 1000 &) &) ; "
         "echo done",
         "done\n");
    SAYS(b, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
    int64_t start = now_ms();
    struct agon_bash_result r = run_for(b, "trap '' TERM; setsid sleep 1000 & sleep 1000", 300);
    EXPECT(r.timed_out && r.exit_status == 137 && r.wall_ms >= 300 && now_ms() - start < 5000);
    agon_bash_result_deinit(&r);
    r = run_for(b, "kill -STOP $$", 300);
    EXPECT(r.timed_out);
    agon_bash_result_deinit(&r);
    r = run_for(b, "exec 1>&- 2>&-; sleep 1000", 300);
    EXPECT(r.timed_out);
    agon_bash_result_deinit(&r);
    r = run_for(b, "(while :; do echo noise; done) & sleep 0.01; exit 5", 3000);
    EXPECT(r.exit_status == 5 || r.output_capped);
    agon_bash_result_deinit(&r);
    SAYS(b, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
}

/* E14 */
TEST(output_is_capped_and_valid_utf8)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    int64_t start = now_ms();
    struct agon_bash_result r = run_for(b, "yes", 10000);
    EXPECT(r.output_capped && r.exit_status == 137 && !r.timed_out && now_ms() - start < 5000);
    EXPECT_HAS(agon_buf_text(&r.output) + 262100, "[output cut at 262144 bytes");
    agon_bash_result_deinit(&r);
    r = run_for(b, "head -c 262144 /dev/zero | tr '\\0' x", 10000);
    EXPECT(!r.output_capped && r.output.size == 262144);
    agon_bash_result_deinit(&r);
    SAYS(b, "printf 'a\\0b\\xff\\xc3\\xa9\\xed\\xa0\\x80\\xf5c'",
         "a\ufffdb\ufffd\u00e9\ufffd\ufffd\ufffd\ufffdc");
    SAYS(b, "exec >&- 2>&-; echo lost", "");
}

/* E4: what commands plant is not followed. */
TEST(only_regular_files_are_read_back)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    REQUIRE(b);
    SAYS(b,
         "mkdir d; echo text > d/file; ln -s /proc/self/status link; ln -s / root; ln -s file d/l; "
         "ln -s d inside; "
         "mkfifo pipe; ln d/file hard; head -c 40m /dev/zero | tr '\\0' z > big; : > empty",
         "");
    EXPECT(agon_bashbox_read(b, "d/file", 100, &content, &err) == 0 &&
           strcmp(agon_buf_text(&content), "text\n") == 0);
    EXPECT(agon_bashbox_read(b, "hard", 100, &content, &err) == 0);
    EXPECT(agon_bashbox_read(b, "empty", 100, &content, &err) == 0 && content.size == 0);
    static const char *const refused[] = {"link",
                                          "inside/file",
                                          "root/usr/bin/bash",
                                          "d/l",
                                          "pipe",
                                          "d",
                                          "../proc/self/status",
                                          "/usr/bin/bash",
                                          "nothing",
                                          "",
                                          "d/../../etc/alternatives/awk",
                                          "../../../../../../etc/passwd",
                                          "."};
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        if (!EXPECT(agon_bashbox_read(b, refused[i], 1 << 20, &content, &err) == 1))
            printf("# %s\n", refused[i]);
    EXPECT(agon_bashbox_read(b, "link", 100, &content, &err) == 1);
    EXPECT_HAS(err.text, "/work/link: a link, or a way out of /work");
    EXPECT(agon_bashbox_read(b, "d/file", 4, &content, &err) == 1);
    EXPECT_HAS(err.text, "5 bytes, at most 4 are allowed");
    EXPECT(agon_bashbox_read(b, "big", 64 << 20, &content, &err) == 0 && content.size == 40 << 20);
    EXPECT(agon_bashbox_write(b, "link", agon_str("x"), &err) == AGON_EINPUT);
    EXPECT(agon_bashbox_write(b, "../tmp/x", agon_str("x"), &err) == AGON_EINPUT);
    EXPECT(agon_bashbox_write(b, "pipe", agon_str("x"), &err) == AGON_EINPUT);
    EXPECT(agon_bashbox_write(b, "d/new", agon_str("new"), &err) == 0);
    SAYS(b, "cat d/new", "new");
    EXPECT(agon_bashbox_write(b, "big2", agon_buf_str(&content), &err) == 0);
    SAYS(b, "cmp big big2 && echo same", "same\n");
}

static int children_of(int parent, int ret[8])
{
    int n = 0;
    DIR *d = opendir("/proc");
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[64], text[512];
        int pid = atoi(e->d_name), its_parent;
        snprintf(path, sizeof(path), "/proc/%d/stat", pid);
        FILE *f = pid > 0 ? fopen(path, "r") : NULL;
        size_t size = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
        text[size] = '\0';
        const char *name_end = strrchr(text, ')');
        if (name_end && sscanf(name_end, ") %*c %d", &its_parent) == 1 && its_parent == parent &&
            n < 8)
            ret[n++] = pid;
        if (f)
            fclose(f);
    }
    if (d)
        closedir(d);
    return n;
}

/* bubblewrap as real root is no sandbox: sysctl checks look at the kernel's uid. */
TEST(boxes_never_run_as_root)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    int launcher[8], boxes[8], n = 0;
    for (int i = children_of(getpid(), launcher) - 1; i >= 0; i--)
        for (int k = children_of(launcher[i], boxes) - 1; k >= 0; k--) {
            char path[64];
            struct stat st;
            snprintf(path, sizeof(path), "/proc/%d", boxes[k]);
            EXPECT(stat(path, &st) == 0 && st.st_uid != 0 && st.st_gid != 0);
            n++;
        }
    EXPECT(n >= 1);
}

/* How the box ends within a second of a kill: a command may win the race against it. */
static int end_of_killed(struct agon_bashbox *b)
{
    struct agon_bash_result r;
    int end = 0;
    for (int64_t until = now_ms() + 1000; end == 0 && now_ms() < until;)
        if ((end = agon_bashbox_run(b, agon_str("true"), 1000, &r, &err)) == 0)
            agon_bash_result_deinit(&r);
    return end;
}

/* E19: the box dies: that is told as such, and the next one works. */
TEST(a_killed_box_is_lost)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(b);
    SAYS(b, "kill -9 1; echo alive", "alive\n"); /* the first process of a namespace is immune */
    int any = 0, launcher[8], boxes[8];
    for (int i = children_of(getpid(), launcher) - 1; i >= 0; i--)
        for (int k = children_of(launcher[i], boxes) - 1; k >= 0; k--)
            any += kill(boxes[k], SIGKILL) == 0;
    EXPECT(any >= 1);
    EXPECT(end_of_killed(b) == AGON_BASHBOX_LOST);
    EXPECT_HAS(err.text, "bash box lost: killed by signal 9");
    struct agon_bashbox *next AGON_AUTO(agon_bashbox_closep) = box_open(0);
    REQUIRE(next);
    SAYS(next, "echo next", "next\n");
}

/* E19, I2: the launcher dies, and its boxes with it. */
TEST(a_killed_launcher_takes_its_boxes_along)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = NULL, *next = NULL;
    agon_sandbox_close(shared_sandbox);
    shared_sandbox = NULL;
    REQUIRE(agon_sandbox_open(&sb, NULL, &err) == 0);
    REQUIRE(agon_bashbox_open(&b, sb, &(struct agon_bashbox_options){0}, &err) == 0);
    int launcher[8], n = 0;
    REQUIRE(children_of(getpid(), launcher) == 1 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    kill(launcher[0], SIGKILL);
    EXPECT(end_of_killed(b) == AGON_BASHBOX_LOST);
    EXPECT(agon_bashbox_open(&next, sb, &(struct agon_bashbox_options){0}, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "launcher: ");
    int64_t start = now_ms();
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 && now_ms() - start < 2000) {
        n += pid > 0;
        usleep(1000);
    }
    EXPECT(pid < 0 && n >= 2 && now_ms() - start < 1000);
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void driver_to_be_killed(int ready)
{
    struct agon_sandbox *sb;
    struct agon_bashbox *b;
    struct agon_cell *c;
    struct agon_bash_result r;
    struct agon_bashbox_options o = {0};
    if (agon_sandbox_open(&sb, NULL, &err) || agon_bashbox_open(&b, sb, &o, &err) ||
        agon_cell_new(&c, sb, &err))
        _exit(1);
    if (fork() == 0) { /* one that has a command running */
        (void)!write(ready, "x", 1);
        (void)!agon_bashbox_run(b, agon_str("setsid sleep 1000 & sleep 1000"), 100000, &r, &err);
        _exit(0);
    }
    pause();
}

/* E19: kill -9 of the driver leaves no process after a second. */
TEST(nothing_outlives_a_killed_driver)
{
    int ready[2];
    char c;
    REQUIRE(pipe2(ready, O_CLOEXEC) == 0 && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    agon_sandbox_close(shared_sandbox);
    shared_sandbox = NULL;
    pid_t driver = fork();
    if (driver == 0) {
        setpgid(0, 0);
        driver_to_be_killed(ready[1]);
        _exit(1);
    }
    close(ready[1]);
    REQUIRE(read(ready[0], &c, 1) == 1);
    close(ready[0]);
    usleep(300000);
    kill(-driver, SIGKILL); /* the launcher has its own session: it must see for itself */
    int64_t start = now_ms();
    int n = 0;
    pid_t pid;
    while ((pid = waitpid(-1, NULL, WNOHANG)) >= 0 && now_ms() - start < 2000) {
        n += pid > 0; /* orphans come to us, the boxes' processes among them */
        usleep(1000);
    }
    EXPECT(pid < 0 && now_ms() - start < 1000);
    EXPECT(n >= 3); /* the driver, its child, the launcher at least */
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void driver_that_opens(void)
{
    struct agon_sandbox *sb;
    struct agon_cell *c;
    for (;;)
        if (agon_sandbox_open(&sb, NULL, &err) == 0 && agon_cell_new(&c, sb, &err) == 0)
            agon_sandbox_close(sb); /* the cell is left to it, and leaks */
}

/* Also when it was killed while a box was being made: bubblewrap's own child then waited for
 * ever for the uid map that its dead parent was to write. */
TEST(nothing_outlives_a_driver_killed_at_any_time)
{
    REQUIRE(sandbox() && prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    agon_sandbox_close(shared_sandbox);
    shared_sandbox = NULL;
    for (int i = 0; i < 60 && test_failures == 0; i++) {
        pid_t driver = fork();
        if (driver == 0)
            driver_that_opens();
        usleep((unsigned)(1000 + 331 * i));
        kill(driver, SIGKILL);
        int64_t start = now_ms();
        while (waitpid(-1, NULL, WNOHANG) >= 0 && now_ms() - start < 3000)
            usleep(500);
        EXPECT(now_ms() - start < 1000);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static int as_nobody(const char *program)
{
    struct agon_bash_result r;
    struct agon_bashbox *b;
    struct agon_sandbox *sb;
    struct agon_sandbox_options so = {.cell_program = program};
    struct agon_bashbox_options o = {0};
    if (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
        return 1;
    if (agon_sandbox_open(&sb, &so, &err) || agon_bashbox_open(&b, sb, &o, &err) ||
        agon_bashbox_run(b, agon_str("id -u; echo $((6 * 7))"), 5000, &r, &err)) {
        printf("# %s\n", err.text);
        return 2;
    }
    int bad = strcmp(agon_buf_text(&r.output), "65534\n42\n") != 0;
    agon_bashbox_close(b);
    agon_sandbox_close(sb);
    return bad ? 3 : 0;
}

/* The whole again as an ordinary user, with a program from a place that he can read. */
TEST(boxes_work_for_an_ordinary_user)
{
    if (geteuid() != 0)
        SKIP("already one");
    char dir[] = "/tmp/agon-user-XXXXXX", path[64];
    struct agon_buf program AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
    REQUIRE(mkdtemp(dir) && chmod(dir, 0755) == 0);
    snprintf(path, sizeof(path), "%s/agon-cell", dir);
    REQUIRE(agon_file_read(&program, getenv("AGON_CELL"), 1 << 26, &err) == 0);
    REQUIRE(agon_file_write(path, agon_buf_str(&program), false, &err) == 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(as_nobody(path));
    int status;
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

/* Not only boxes that the uid dropped to could not read anyway: a directory for root alone. */
TEST(the_program_may_lie_where_only_root_goes)
{
    if (geteuid() != 0)
        SKIP("needs root");
    char dir[] = "/tmp/agon-root-XXXXXX", path[64];
    struct agon_buf program AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 26);
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    REQUIRE(mkdtemp(dir) && chmod(dir, 0700) == 0);
    snprintf(path, sizeof(path), "%s/agon-cell", dir);
    REQUIRE(agon_file_read(&program, getenv("AGON_CELL"), 1 << 26, &err) == 0);
    REQUIRE(agon_file_write(path, agon_buf_str(&program), false, &err) == 0);
    struct agon_sandbox_options so = {.cell_program = path};
    EXPECT(agon_sandbox_open(&sb, &so, &err) == 0);
    snprintf(path, sizeof(path), "%s/docs", dir);
    EXPECT(agon_dir_make(path, &err) == 0);
    struct agon_bashbox_options o = {.docs_dir = path};
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = NULL;
    REQUIRE(sb && agon_bashbox_open(&b, sb, &o, &err) == 0);
    char page[96];
    snprintf(page, sizeof(page), "%s/p", path);
    EXPECT(agon_file_write(page, agon_str("page"), false, &err) == 0);
    SAYS(b, "cat /docs/p", "page");
    EXPECT(agon_dir_remove(dir, &err) == 0);
}
