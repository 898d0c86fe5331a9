/* What else came to mind against bash boxes: each a thing that a hostile author may try. */
#include "base/file.h"
#include "tests/attacks/boxdoor.h"

#include <stdlib.h>

BOX_ATTACK(X_terminals_are_nobody_elses)
{
    door_hostile(box, "terminals");
    SAYS(box, "exec 2>&1; echo x > /dev/tty; tty; stty -a | head -1",
         "bash: line 1: /dev/tty: No such device or address\nnot a tty\n"
         "stty: 'standard input': Inappropriate ioctl for device\n");
    SAYS(box,
         "script -qc 'echo in a terminal' /dev/null < /dev/null 2>&1 | tr -d '\\r' | head -c 14; "
         "echo",
         "in a terminal\n\n");
}

BOX_ATTACK(X_timers_signals_and_locked_memory_have_an_end)
{
    door_hostile(box, "timers");
}

BOX_ATTACK(X_signals_do_not_reach_the_runner)
{
    SAYS(box, "for s in KILL STOP TERM HUP INT SEGV ABRT ALRM USR1; do kill -$s 1; done; echo on",
         "on\n");
    (void)door_run(box, "kill -9 -1; sleep 0.1; echo on");
    EXPECT(door_run_for(box, "kill -STOP 0", 300) == 137 && door_result.timed_out);
    SAYS(box, "echo alive", "alive\n");
}

/* The frames between runner and driver are out of reach, and what a command prints is never one. */
BOX_ATTACK(X_frames_are_not_forged)
{
    SAYS(box,
         "for i in 3 4 5 6; do echo x >&$i; done 2>&1 | grep -vc 'Bad file descriptor'; "
         "ls -l /proc/1/fd/ 2>&1 | grep -vc denied; echo x 2>/dev/null > /proc/1/fd/3 || echo no",
         "0\n0\nno\n");
    SAYS(box, "printf 'nogaa\\0\\0\\0\\0\\0\\0\\0\\0run' | wc -c; printf 'noga'", "16\nnoga");
    SAYS(box, "echo next", "next\n");
}

BOX_ATTACK(X_one_command_does_not_prepare_the_next)
{
    (void)door_run(
        box, "for f in .bashrc .bash_profile .profile .bash_login .inputrc bashrc; do "
             "echo 'echo poisoned' > ~/$f; done; mkdir -p bin; echo 'echo poisoned' > bin/ls; "
             "chmod +x bin/ls; export BASH_ENV=/work/.bashrc PATH=/work/bin LD_PRELOAD=/work/x; "
             "alias ls='echo poisoned'; ls() { echo poisoned; }; export -f ls; ulimit -n 3; "
             "umask 777; cd /tmp; echo '.print poisoned' > ~/.sqliterc; exit 0");
    SAYS(box, "pwd; umask; ulimit -n; ls /docs; env | grep -c poisoned; type -t ls",
         "/work\n0022\n128\n0\nfile\n");
}

BOX_ATTACK(X_the_workspace_cannot_be_taken_away)
{
    (void)door_run(
        box, "rm -rf /work /tmp /dev/shm /docs; mv /work /tmp/w; ln -s /usr /work; rmdir /work");
    SAYS(box, "pwd; touch a && ls; touch /tmp/b && ls /tmp | grep b", "/work\na\nusr\nb\n");
    (void)door_run(box, "chmod 0 /work");
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_bashbox_read(box, "a", 100, &content, &door_err) == 1);
    (void)door_run(box, "chmod 700 /work");
    EXPECT(agon_bashbox_read(box, "a", 100, &content, &door_err) == 0);
}

BOX_ATTACK(X_names_may_be_anything)
{
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    (void)door_run(box,
                   "printf x > $'new\\nline'; printf x > -rf; printf x > $'\\xff\\xfe'; printf x > "
                   "$'\\e[2J'; printf x > \"$(printf 'a%.0s' $(seq 255))\"; mkdir -p $(printf "
                   "'d/%.0s' $(seq 700))");
    char deep[2048] = "";
    for (int i = 0; i < 700; i++)
        strcat(deep, "d/");
    strcat(deep, "deep");
    EXPECT(agon_bashbox_read(box, "new\nline", 100, &content, &door_err) == 0);
    EXPECT(agon_bashbox_read(box, "-rf", 100, &content, &door_err) == 0);
    EXPECT(agon_bashbox_read(box, "\xff\xfe", 100, &content, &door_err) == 0);
    EXPECT(agon_bashbox_read(box, deep, 100, &content, &door_err) == 1); /* over 1,024 bytes */
    EXPECT_HAS(door_err.text, "not a file name");
    EXPECT(agon_bashbox_read(box, "\x1b[2J/..", 100, &content, &door_err) == 1);
}

BOX_ATTACK(X_sparse_and_growing_files_are_read_up_to_the_cap)
{
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    (void)door_run(box, "truncate -s 200m sparse; truncate -s 1m small");
    EXPECT(agon_bashbox_read(box, "sparse", 1 << 20, &content, &door_err) == 1);
    EXPECT_HAS(door_err.text, "209715200 bytes, at most 1048576 are allowed");
    EXPECT(agon_bashbox_read(box, "small", 1 << 20, &content, &door_err) == 0 &&
           content.size == 1 << 20);
}

/* Archives are a command's own affair: nothing unpacks outside of the box, and a bomb fills it. */
BOX_ATTACK(X_archives_unpack_into_the_box_alone)
{
    SAYS(box,
         "mkdir a; echo evil > a/f; tar -P -cf slip.tar --transform "
         "'s,^a/f,../../../../tmp/slipped,' a/f; "
         "tar -P -xf slip.tar; cat /tmp/slipped; ln -s /usr/bin out; tar -cf l.tar out; rm out; "
         "tar -xf l.tar; echo x > out/evil 2>/dev/null || echo refused",
         "evil\nbash: line 1: out/evil: Read-only file system\nrefused\n");
    SAYS(box,
         "head -c 80m /dev/zero | gzip -1 > bomb.gz; gunzip -c bomb.gz > /tmp/big 2>/dev/null || "
         "echo "
         "full; "
         "rm -f /tmp/big; gunzip -c bomb.gz | wc -c",
         "full\n83886080\n");
}

BOX_ATTACK(X_command_lines_and_environments_have_an_end)
{
    SAYS(box,
         "x=$(head -c 200000 /dev/zero | tr '\\0' x); /bin/true \"$x\" 2>&1 | grep -c 'too long'; "
         "export x; /bin/true 2>/tmp/e; unset x; grep -c 'too long' /tmp/e",
         "1\n1\n");
    struct agon_buf long_command AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    for (int i = 0; i < 1 << 18; i++)
        agon_buf_adds(&long_command, "echo x;         ");
    EXPECT(door_run(box, agon_buf_text(&long_command)) == 126);
    EXPECT_HAS(door_said, "may be too long");
    SAYS(box,
         "ulimit -n 1000000 2>/dev/null || echo capped; for i in $(seq 10 300); do eval \"exec "
         "$i</dev/null\" "
         "2>/dev/null || { echo $i; break; }; done",
         "capped\n128\n");
}

/* What passes as a world is looked at in a cell only; here: the driver gets bytes or a reason. */
BOX_ATTACK(X_the_world_may_be_anything)
{
    static const char *const made[] = {"mkfifo world.db",
                                       "mkdir world.db",
                                       "ln -s /usr/lib/os-release world.db",
                                       ": > world.db",
                                       "head -c 100000 /dev/urandom > world.db",
                                       "truncate -s 250m world.db",
                                       "true"};
    for (size_t i = 0; i < sizeof(made) / sizeof(*made); i++) {
        struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
        char command[128];
        snprintf(command, sizeof(command), "rm -rf world.db; %s", made[i]);
        (void)door_run(box, command);
        int r = agon_bashbox_read(box, "world.db", 64 << 20, &content, &door_err);
        EXPECT(r == (i == 3 || i == 4 ? 0 : 1));
        EXPECT(agon_bashbox_write(box, "world.db", agon_str("new"), &door_err) ==
               (i <= 2 ? AGON_EINPUT : 0));
    }
}

/* Which lock held shows in the reason: a name that begins at the root is refused before anything is
 * looked for, and what is no file does not open for writing. */
BOX_ATTACK(X_what_is_no_file_is_not_opened)
{
    static const struct {
        const char *name, *why;
    } read[] = {{"/", "a way out of /work"},
                {"/absent", "a way out of /work"},
                {"/work/there", "a way out of /work"},
                {"d/../../absent", "a way out of /work"},
                {"pipe", "not a regular file"},
                {"d", "not a regular file"},
                {".", "not a regular file"}};
    static const struct {
        const char *name, *why;
    } written[] = {{"/absent", "Invalid cross-device link"},
                   {"/work/there", "Invalid cross-device link"},
                   {"pipe", "No such device or address"}, /* nobody reads it */
                   {"d", "Is a directory"},
                   {"link", "Too many levels of symbolic links"}};
    struct agon_buf content AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    (void)door_run(box, "mkdir d; mkfifo pipe; echo x > there; ln -s there link");
    for (size_t i = 0; i < sizeof(read) / sizeof(*read); i++) {
        EXPECT(agon_bashbox_read(box, read[i].name, 100, &content, &door_err) == 1);
        EXPECT_HAS(door_err.text, read[i].why);
    }
    for (size_t i = 0; i < sizeof(written) / sizeof(*written); i++) {
        EXPECT(agon_bashbox_write(box, written[i].name, agon_str("new"), &door_err) == AGON_EINPUT);
        EXPECT_HAS(door_err.text, written[i].why);
    }
    SAYS(box, "cat there", "x\n");
}

BOX_ATTACK(X_limits_cannot_be_raised)
{
    SAYS(box,
         "for l in u v n f q i l; do ulimit -$l unlimited 2>/dev/null && echo raised $l; done; "
         "ulimit -c; ulimit -u; ulimit -v",
         "0\n128\n1048576\n");
    SAYS(box,
         "(prlimit --pid 1 --nofile=9 || renice 19 1 || taskset -p 1 1 >/dev/null || chrt -i -p 0 "
         "1 || "
         "ionice -c 3 -p 1 || echo no) 2>/dev/null",
         "no\n");
    SAYS(box, "(sh -c 'kill -SEGV $$') 2>&1 | grep -c core; ls | wc -l", "0\n0\n");
}

BOX_ATTACK(X_a_busy_loop_ends_at_its_timeout)
{
    EXPECT(door_run_for(box,
                        "trap '' TERM INT XCPU ALRM; while :; do :; done & while :; do :; done",
                        500) == 137);
    EXPECT(door_result.timed_out && door_result.wall_ms < 20000);
    EXPECT(door_run_for(box, "awk 'BEGIN{while(1);}' < /dev/zero", 300) == 137);
    EXPECT(door_run_for(box, "cat", 2000) == 0); /* standard input is empty, not a wait */
}

BOX_ATTACK(X_a_million_files_end)
{
    b->seconds_max = 180;
    (void)door_run_for(box, "mkdir m && cd m && seq 1000000 | xargs touch", 40000);
    EXPECT_HAS(door_said, "more than 100000 files");
    (void)door_run(box, "cd m; seq 200 | xargs mkdir; seq 1000000 | xargs touch");
    EXPECT_HAS(door_said, "[killed: more than");
    SAYS(box, "rm -rf m; echo clean", "clean\n");
}

BOX_ATTACK(X_sqlite_works_where_locks_are_not_told)
{
    SAYS(box,
         "sqlite3 w.db 'create table t(a); insert into t values(1),(2); begin immediate; insert "
         "into t "
         "values(3); commit; select count(*) from t; vacuum; pragma integrity_check'",
         "3\nok\n");
    SAYS(box, "sqlite3 w.db 'begin; update t set a = 9; rollback; select sum(a) from t'", "6\n");
}

BOX_ATTACK(X_pipes_hold_a_bounded_memory)
{
    door_hostile(box, "pipes");
    SAYS(box, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
}

/* Since Linux 6.6 files in memory may have attributes; they count as files do. */
BOX_ATTACK(X_attributes_of_files_are_refused)
{
    door_hostile(box, "attributes");
    SAYS(box,
         "mkdir d; echo x > d/f; chmod 640 d/f; cp -a d e; mv e /tmp/e; mv /tmp/e g; tar -cf t.tar "
         "g; "
         "rm -r g; tar -xpf t.tar; install -m 640 d/f h; stat -c %a g/f h; cat g/f",
         "640\n640\nx\n");
}

BOX_ATTACK(X_rulesets_are_refused)
{
    door_hostile(box, "rulesets");
}

/* All boxes and the host share 4,096: who takes them all keeps everybody else from having one. */
BOX_ATTACK(X_terminals_have_an_end)
{
    struct agon_bashbox *other AGON_AUTO(agon_bashbox_closep) = door_open(0);
    REQUIRE(other);
    EXPECT(door_run(box,
                    "for p in $(seq 40); do (for i in $(seq 10 110); do eval \"exec "
                    "$i<>/dev/ptmx\" || break; done; sleep 20) 2>/dev/null & done; wait") == 137);
    EXPECT_HAS(door_said, "more than 32 terminals");
    SAYS(other, "script -qc 'echo mine' /dev/null < /dev/null 2>&1 | tr -d '\\r' | head -c 4",
         "mine");
    SAYS(box,
         "ls /dev/pts; for i in $(seq 10 30); do eval \"exec $i<>/dev/ptmx\"; done; sleep 0.2; "
         "ls /dev/pts | wc -l",
         "ptmx\n22\n");
}

/* Where the kernel hands cores to a program of the host, no size keeps it from that but one. */
BOX_ATTACK(X_a_crash_hands_nothing_to_the_host)
{
    SAYS(box, "grep 'Max core file size' /proc/self/limits | tr -s ' '; ulimit -c",
         "Max core file size 1 1 bytes \n0\n");
    SAYS(box, "{ (kill -SEGV $BASHPID); (kill -ABRT $BASHPID); } 2>/dev/null; ls", "");
}

BOX_ATTACK(X_the_next_command_has_its_share)
{
    char before[16];
    (void)door_run(box, "nice");
    snprintf(before, sizeof(before), "%.15s", door_said);
    (void)door_run(box, "renice -n 19 -u $(id -u); renice -n 19 -g 0; renice -n 19 -p 1; ionice -c "
                        "3 -u $(id -u)");
    SAYS(box, "nice", before);
}

BOX_ATTACK(X_only_the_usual_devices_are_there)
{
    SAYS(box,
         "cd /dev; echo *; for d in null zero full random urandom tty ptmx; do test -c $d || echo "
         "$d; done",
         "core fd full null ptmx pts random shm stderr stdin stdout tty urandom zero\n");
    SAYS(
        box,
        "mknod /work/sda b 8 0 2>/dev/null || echo no; mknod /tmp/mem c 1 1 2>/dev/null || echo no",
        "no\nno\n");
    SAYS(box,
         "for f in oom_score_adj coredump_filter timerslack_ns mem attr/current loginuid uid_map "
         "setgroups clear_refs comm; do (echo 1 > /proc/self/$f) 2>/dev/null && echo wrote $f; "
         "done; "
         "echo end",
         "end\n");
}

/* What is stopped, traced by nobody, or a zombie is gone with its command as well. */
BOX_ATTACK(X_stopped_processes_end_too)
{
    SAYS(
        box,
        "for i in 1 2 3; do (setsid bash -c 'kill -STOP $$' &) ; done; (sleep 0 & exec sleep 0.1); "
        "bash -c 'sleep 0 & exec sleep 1000' & sleep 0.3; grep -l 'T (stopped)' "
        "/proc/[0-9]*/status "
        "| wc -l",
        "3\n");
    SAYS(box, "p=(/proc/[0-9]*); echo ${#p[@]}", "2\n");
}
