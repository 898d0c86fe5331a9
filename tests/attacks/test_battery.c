/* The frame itself: it sees what an attack must not achieve. */
#include "base/file.h"
#include "tests/attacks/battery.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static pid_t child;

/* Runs an attack that must be noticed; its failures are taken back. */
static void expect_noticed(const char *id, void (*attack)(struct battery *b))
{
    int before = test_failures;
    battery_run(id, attack);
    int noticed = test_failures - before;
    test_failures = before;
    EXPECT(noticed == 1);
    if (child > 0) {
        (void)kill(child, SIGKILL); /* it may have ended */
        (void)waitpid(child, NULL, 0);
    }
    child = 0;
}

static void sleep_on(struct battery *b)
{
    (void)b;
    child = fork();
    if (child == 0) {
        (void)sleep(100); /* killed long before */
        _exit(0);
    }
}

TEST(a_process_that_is_left_is_noticed)
{
    expect_noticed("left", sleep_on);
}

/* Two forks and a session of its own: nobody's child but the subreaper's. */
static void hide(struct battery *b)
{
    (void)b;
    int tell[2];
    REQUIRE(pipe(tell) == 0);
    pid_t first = fork();
    if (first == 0) {
        (void)setsid(); /* a new session, if it may */
        pid_t second = fork();
        if (second == 0) {
            (void)sleep(100); /* killed long before */
            _exit(0);
        }
        _exit(write(tell[1], &second, sizeof(second)) < 0);
    }
    EXPECT(read(tell[0], &child, sizeof(child)) == sizeof(child));
    (void)waitpid(first, NULL, 0);
    (void)close(tell[0]);
    (void)close(tell[1]);
}

TEST(a_process_that_left_its_parents_is_noticed)
{
    expect_noticed("hidden", hide);
}

static void eat(struct battery *b)
{
    b->rss_mib_max = 40;
    pid_t pid = fork();
    if (pid == 0) {
        volatile char *p = malloc(64 << 20);
        for (size_t i = 0; i < 64 << 20; i += 4096)
            p[i] = 1;
        (void)usleep(200000); /* long enough to be seen */
        _exit(0);
    }
    (void)waitpid(pid, NULL, 0);
}

TEST(memory_that_was_given_back_is_noticed)
{
    expect_noticed("memory", eat);
}

static void dawdle(struct battery *b)
{
    b->seconds_max = 0.01;
    (void)usleep(30000); /* cut short or not */
}

TEST(time_is_noticed)
{
    expect_noticed("time", dawdle);
}

static void change(struct battery *b)
{
    struct agon_err err;
    (void)b;
    EXPECT(agon_file_write(test_path("guarded/a"), agon_str("c"), false, &err) == 0);
}

TEST(a_changed_byte_is_noticed)
{
    struct agon_err err;
    EXPECT(agon_dir_make(test_path("guarded"), &err) == 0);
    EXPECT(agon_file_write(test_path("guarded/a"), agon_str("b"), false, &err) == 0);
    battery_guard(test_path("guarded"));
    expect_noticed("change", change);
}
