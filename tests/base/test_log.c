#include "base/buf.h"
#include "base/log.h"
#include "tests/test.h"

#include <pty.h>
#include <unistd.h>

/* Runs fn with stderr going to fd, then reads what came out of `from`. */
static void capture(int fd, int from, void (*fn)(void), char text[4096])
{
    fflush(stderr);
    int saved = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    fn();
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(fd);
    ssize_t n, size = 0;
    while (size < 4000 && (n = read(from, text + size, (size_t)(4000 - size))) > 0)
        size += n;
    text[size] = '\0';
    close(from);
}

static void capture_pipe(void (*fn)(void), char text[4096])
{
    int fds[2];
    if (pipe(fds) == 0)
        capture(fds[1], fds[0], fn, text);
}

static bool capture_terminal(void (*fn)(void), char text[4096])
{
    int master, slave;
    struct winsize size = {.ws_col = 20, .ws_row = 5};
    if (openpty(&master, &slave, NULL, NULL, &size))
        return false;
    capture(slave, master, fn, text);
    return true;
}

static void three_levels(void)
{
    agon_log_init(AGON_LOG_WARN);
    agon_log(AGON_LOG_ERROR, "store", "no table %s", "stock");
    agon_log(AGON_LOG_WARN, "fetch", "slow");
    agon_log(AGON_LOG_INFO, "fetch", "unseen");
    agon_log_init(AGON_LOG_INFO);
}

TEST(lines_name_level_and_area)
{
    char text[4096];
    capture_pipe(three_levels, text);
    EXPECT_TEXT(text, "error store: no table stock\nwarning fetch: slow\n");
}

static void hostile_line(void)
{
    agon_log(AGON_LOG_INFO, "model", "said %s", "\033[2J\nerror store: forged\xC2\x9B\xFF");
}

TEST(model_text_can_neither_steer_the_terminal_nor_forge_a_line)
{
    char text[4096];
    capture_pipe(hostile_line, text);
    EXPECT_TEXT(text, "info model: said ?[2J error store: forged??\n");
}

static void long_line(void)
{
    static char big[20000];
    memset(big, 'x', sizeof(big) - 1);
    agon_log(AGON_LOG_INFO, "model", "%s", big);
}

TEST(a_long_line_is_cut_and_still_ends)
{
    char text[4096];
    capture_pipe(long_line, text);
    EXPECT(strlen(text) > 3000);
}

static void progress(void)
{
    for (int i = 0; i < 1000; i++)
        agon_progress(i == 0, "step %d of a long, long way", i);
    agon_log(AGON_LOG_INFO, "synth", "done");
    agon_progress(true, "\033]0;x");
    agon_progress_end();
    agon_progress_end();
}

TEST(progress_is_silent_off_a_terminal)
{
    char text[4096];
    capture_pipe(progress, text);
    EXPECT_TEXT(text, "info synth: done\n");
}

TEST(progress_is_one_short_line_that_others_clear_first)
{
    char text[4096];
    REQUIRE(capture_terminal(progress, text));
    EXPECT_TEXT(text,
                "\r\033[Kstep 0 of a long, l\r\033[Kinfo synth: done\r\n\r\033[K?]0;x\r\033[K");
}
