/* Row E of the threat model: what bash commands do to their box, their host and each other. */
#include "base/file.h"
#include "sandbox/cell.h"
#include "tests/attacks/boxdoor.h"

#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CANARY "canary-e-5d20"

BOX_ATTACK(E2_proc_shows_the_box_alone)
{
    SAYS(box,
         "cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n' | cut -d= -f1 | sort -u | tr '\\n' ' '",
         "HOME LANG PATH PWD SHLVL TERM TZ _ ");
    SAYS(box, "p=(/proc/[0-9]*); echo ${#p[@]}; cat /proc/1/comm", "2\n5\n");
    SAYS(box, "cat /proc/1/environ /proc/1/maps /proc/1/mem /proc/1/auxv 2>&1 | grep -vc denied",
         "0\n");
    SAYS(box, "ls /proc/1/fd /proc/1/root/ /proc/1/cwd/ /proc/1/map_files 2>&1 | grep -vc denied",
         "0\n");
    SAYS(box, "ls -A /root /home /var /run /sys /boot /mnt /srv /opt /media 2>/dev/null", "");
    SAYS(box, "ls -A /etc | tr '\\n' ' '", "alternatives ld.so.cache ");
    SAYS(box, "uname -n", "agon\n");
}

/* What the driver holds open when it forks the launcher does not come along. */
ATTACK(E3_descriptors_are_not_inherited)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_bashbox *box AGON_AUTO(agon_bashbox_closep) = NULL;
    FILE *secret = tmpfile(); /* without close-on-exec on purpose */
    REQUIRE(secret && fputs(CANARY, secret) >= 0 && fflush(secret) == 0);
    int high = dup2(fileno(secret), 200);
    setenv("AGON_TEST_SECRET", CANARY, 1);
    REQUIRE(agon_sandbox_open(&sb, NULL, &door_err) == 0 &&
            agon_bashbox_open(&box, sb, &(struct agon_bashbox_options){0}, &door_err) == 0);
    SAYS(box, "cd /proc/self/fd; echo *; readlink 0", "0 1 2 3\n/dev/null\n");
    SAYS(box,
         "for i in 3 4 5 6 7 8 9 10 200 255; do cat <&$i; done 2>&1 | grep -c canary; env | "
         "grep -c canary",
         "0\n0\n");
    unsetenv("AGON_TEST_SECRET");
    (void)close(high);
    (void)fclose(secret);
}

static bool reads(struct agon_bashbox *box, const char *name)
{
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    int r = agon_bashbox_read(box, name, 1 << 20, &content, &door_err);
    EXPECT(r >= 0 && !strstr(agon_buf_text(&content), "root:")); /* /etc/passwd of the host */
    return r == 0;
}

BOX_ATTACK(E4_links_are_not_followed_out_of_the_workspace)
{
    (void)door_run(box, "mkdir d; echo text > d/file; ln -s /etc/passwd passwd; ln -s / root; "
                        "ln -s ../../../../../../etc up; ln -s d inside; ln -s /proc/self/root me; "
                        "ln -s /proc/1/root one; ln d/file hard; mkfifo pipe; ln -s pipe p2; "
                        "ln -s self self; ln -s /work/d/file absolute; mkdir closed; "
                        "echo x > closed/x; chmod 0 closed; echo y > secret; chmod 0 secret");
    static const char *const refused[] = {"passwd",
                                          "root/etc/passwd",
                                          "up/passwd",
                                          "inside/file",
                                          "me/etc/passwd",
                                          "one/etc/passwd",
                                          "pipe",
                                          "p2",
                                          "self",
                                          "absolute",
                                          "d",
                                          ".",
                                          "..",
                                          "../etc",
                                          "/etc/passwd",
                                          "d/../../etc/alternatives/awk",
                                          "closed/x",
                                          "secret",
                                          "",
                                          "d/file/",
                                          "./../work/../etc/ld.so.cache"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(*refused); i++)
        if (!EXPECT(!reads(box, refused[i])))
            printf("# %s was read\n", refused[i]);
    EXPECT(reads(box, "d/file") && reads(box, "hard"));
}

/* A command that swaps a file for a link as fast as it can: it is dead before the driver reads. */
BOX_ATTACK(E4_nothing_swaps_files_under_a_read)
{
    for (int i = 0; i < 20; i++) {
        SAYS(box,
             "echo fine > a; ln -sf /etc/ld.so.cache l; (trap '' HUP TERM; while :; do mv -T l f; "
             "mv a f; ln -sf /etc/ld.so.cache l; echo fine > a; done) >/dev/null 2>&1 & disown",
             "");
        struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        int r = agon_bashbox_read(box, "f", 1 << 20, &content, &door_err);
        EXPECT(r == 1 ||
               (r == 0 && (content.size == 0 || strcmp(agon_buf_text(&content), "fine\n") == 0)));
    }
}

BOX_ATTACK(E6_a_fork_bomb_ends_with_its_command)
{
    EXPECT(door_run_for(box, ":(){ :|:& };: 2>/dev/null; sleep 20", 1500) != 0);
    SAYS(box, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
    /* Until a fork fails, however long that takes: the first line that the loop says. */
    EXPECT(door_run(box, "exec 3< <(for i in $(seq 300); do sleep 300 & done 2>&1); read -r said "
                         "<&3; echo \"$said\"") == 0);
    EXPECT_HAS(door_said, "Resource temporarily unavailable");
    SAYS(box, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
}

BOX_ATTACK(E6_ten_thousand_threads)
{
    door_hostile(box, "threads");
}

BOX_ATTACK(E7_one_process_has_a_gibibyte)
{
    HAS(box, "head -c 2000m /dev/zero | tail -c 2000m | wc -c", "memory exhausted");
}

BOX_ATTACK(E7_all_processes_have_two)
{
    EXPECT(door_run(box,
                    "for i in 1 2 3 4 5 6; do (head -c 700m /dev/zero | tail -c 700m | (sleep 20; "
                    "wc -c)) & done; wait") == 137);
    EXPECT_HAS(door_said, "more than 2048 MiB together");
    SAYS(box, "echo alive", "alive\n");
}

enum { CHILDREN_MAX = 512 }; /* zombies among them: what was orphaned comes to us */

static int children_of(int parent, int ret[CHILDREN_MAX])
{
    char path[64], text[4096] = "", *at = text;
    int n = 0;
    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", parent, parent);
    FILE *f = fopen(path, "r");
    size_t size = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    text[size] = '\0';
    for (long pid; n < CHILDREN_MAX && (pid = strtol(at, &at, 10)) > 0;)
        ret[n++] = (int)pid;
    if (f)
        (void)fclose(f);
    return n;
}

static bool file_has(const char *path, const char *part)
{
    char text[4096] = "";
    FILE *f = fopen(path, "r");
    size_t size = f ? fread(text, 1, sizeof(text) - 1, f) : 0;
    text[size] = '\0';
    if (f)
        (void)fclose(f);
    return strstr(text, part) != NULL;
}

static void count_boxes(int *ret_n, int *ret_grouped)
{
    int launchers[CHILDREN_MAX], boxes[CHILDREN_MAX];
    *ret_n = *ret_grouped = 0;
    for (int i = children_of((int)getpid(), launchers) - 1; i >= 0; i--)
        for (int k = children_of(launchers[i], boxes) - 1; k >= 0; k--) {
            char path[64];
            snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", boxes[k]);
            EXPECT(file_has(path, "1000"));
            snprintf(path, sizeof(path), "/proc/%d/cgroup", boxes[k]);
            *ret_grouped += file_has(path, "/agon-");
            ++*ret_n;
        }
}

/* Where this user can make groups each box is in one with limits; all can say they are last in
 * line when memory runs out. */
BOX_ATTACK(E7_boxes_are_counted_and_the_first_to_go)
{
    int n_boxes = 0, n_grouped = 0;
    /* The kernel's list of children leaves some out while others are ending. */
    for (int tries = 0; n_boxes < 2 && tries < 100; tries++) {
        (void)usleep(10000);
        count_boxes(&n_boxes, &n_grouped);
    }
    EXPECT(n_boxes >= 2);
    printf("# %d of %d boxes are in a control group\n", n_grouped, n_boxes);
    if (geteuid() == 0 && access("/sys/fs/cgroup/memory/cgroup.procs", F_OK) == 0)
        EXPECT(n_grouped == n_boxes);
    SAYS(box, "echo -1000 > /proc/self/oom_score_adj; cat /proc/self/oom_score_adj",
         "bash: line 1: /proc/self/oom_score_adj: Read-only file system\n1000\n");
}

ATTACK(E8_every_writable_place_has_an_end)
{
    struct agon_bashbox *box AGON_AUTO(agon_bashbox_closep) = door_open(8 << 20);
    REQUIRE(box);
    SAYS(box,
         "find / -xdev -writable ! -type l 2>/dev/null | sort; for d in /tmp /dev/shm /work; do "
         "test -w "
         "$d && echo $d; done",
         "/tmp\n/work\n/tmp\n/dev/shm\n/work\n");
    HAS(box, "for i in $(seq 9); do head -c 1000000 /dev/zero > f$i || break; done; rm f*",
        "No space left");
    HAS(box, "head -c 9000000 /dev/zero > big; rm -f big", "File size limit exceeded");
    HAS(box, "for i in $(seq 99); do head -c 7m /dev/zero > /tmp/f$i || break; done; rm /tmp/*",
        "No space left");
    HAS(box,
        "for i in $(seq 9); do head -c 7m /dev/zero > /dev/shm/f$i || break; done; rm /dev/shm/*",
        "No space left");
    SAYS(box, "(fallocate -l 1g x || truncate -s 1g x || echo no) 2>&1 | grep -cx no; rm -f x",
         "1\n");
}

BOX_ATTACK(E10_daemons_end_with_their_command)
{
    SAYS(box,
         "sleep 1000 & disown; setsid nohup sleep 1000 & (trap '' TERM HUP INT; (setsid sleep 1000 "
         "&) &); "
         "coproc sleep 1000; echo done",
         "done\n");
    SAYS(box, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
    EXPECT(door_run_for(box, "trap '' TERM; setsid sleep 1000 & sleep 1000", 300) == 137 &&
           door_result.timed_out);
}

BOX_ATTACK(E11_no_network_of_any_family)
{
    door_hostile(box, "network");
    SAYS(box,
         "for h in 1.1.1.1/80 169.254.169.254/80 127.0.0.1/22; do (echo > /dev/tcp/$h) 2>&1 | "
         "grep -c 'not supported'; done; (echo > /dev/udp/1.1.1.1/53) 2>&1 | grep -c 'not "
         "supported'",
         "2\n2\n2\n2\n");
    SAYS(box, "ls /sys/class/net 2>/dev/null; grep -c : /proc/net/dev", "1\n");
}

BOX_ATTACK(E12_no_door_into_the_kernel)
{
    door_hostile(box, "kernel");
    door_hostile(box, "refused");
    SAYS(box, "unshare -U true 2>/dev/null || echo no; unshare -r true 2>/dev/null || echo no",
         "no\nno\n");
}

BOX_ATTACK(E14_floods_end_at_the_cap)
{
    EXPECT(door_run(box, "head -c 300m /dev/zero | tr '\\0' x") == 137 &&
           door_result.output_capped);
    EXPECT_HAS(door_said + 262100, "[output cut at 262144 bytes, and the command killed]");
    EXPECT(door_run(box, "cat /dev/urandom") == 137 && door_result.output_capped);
    EXPECT(door_run(box, "yes >&2 & yes & wait") == 137 && door_result.output_capped);
    SAYS(box, "printf 'no newline'", "no newline");
    SAYS(box, "printf 'a\\0b\\xff\\xc3\\xa9\\xed\\xa0\\x80\\xf5c'",
         "a\ufffdb\ufffd\u00e9\ufffd\ufffd\ufffd\ufffdc");
    SAYS(box, "exec >&- 2>&-; echo lost", "");
    SAYS(box, "(sleep 0.2; yes late) & echo first", "first\n");
    SAYS(box, "echo second", "second\n");
}

BOX_ATTACK(E15_no_program_raises_privileges)
{
    SAYS(box,
         "grep -E '^(CapEff|CapPrm|CapBnd|CapAmb|NoNewPrivs|Seccomp):' /proc/self/status | tr -d "
         "'\\t\\n'",
         "CapPrm:0000000000000000CapEff:0000000000000000CapBnd:0000000000000000CapAmb:"
         "0000000000000000"
         "NoNewPrivs:1Seccomp:2");
    SAYS(box,
         "for p in $(find /usr/bin /usr/sbin -perm /6000 -type f 2>/dev/null); do "
         "echo id | timeout 2 $p -c id 2>/dev/null </dev/null | grep -c 'uid=0'; done | sort -u | "
         "grep -v 0",
         "");
    SAYS(box,
         "cp /usr/bin/id i && chmod u+s i && ./i -u; cp /bin/bash b && chmod 6755 b && ./b -p -c "
         "'id -u'",
         "65534\n65534\n");
}

BOX_ATTACK(E16_nothing_is_shared_with_another_box)
{
    door_hostile(box, "channels");
}

struct sender {
    struct agon_bashbox *box;
    int status;
};

static void *sender_run(void *user)
{
    struct sender *s = user;
    struct agon_bash_result r;
    s->status = agon_bashbox_run(
        s->box,
        agon_str(
            "exec 9</usr/bin/bash; flock -s 9; echo here > /dev/shm/x; echo here > /tmp/x; "
            "sqlite3 w.db 'create table t(a); begin exclusive; select 1;' >/dev/null; sleep 2"),
        10000, &r, &door_err);
    agon_bash_result_deinit(&r);
    return NULL;
}

/* Really two of them at once. */
BOX_ATTACK(E16_one_box_does_not_hear_another)
{
    pthread_t thread;
    struct sender s = {.box = door_open(0)};
    REQUIRE(s.box && pthread_create(&thread, NULL, sender_run, &s) == 0);
    SAYS(box,
         "sleep 0.7; exec 9</usr/bin/bash; for i in 1 2 3; do flock -n -x 9 2>/dev/null && echo "
         "got || "
         "echo none; done; ls -A /dev/shm /tmp /work | tr '\\n' ' '; p=(/proc/[0-9]*); echo "
         "${#p[@]}",
         "none\nnone\nnone\n/dev/shm:  /tmp:  /work: 2\n");
    (void)pthread_join(thread, NULL); /* it was started */
    EXPECT(s.status == 0);
    agon_bashbox_close(s.box);
}
