/* Lines on stderr: see log.h. One mutex guards the level and the progress line;
 * each line leaves in one write, so lines of several processes do not mix. */
#include "base/log.h"

#include "base/file.h"
#include "base/text.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LOG_LINE_MAX = 4096, LOG_BYTES_MAX = 2 * LOG_LINE_MAX, PROGRESS_NS = 200 * 1000 * 1000 };

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static enum agon_log_level log_most = AGON_LOG_INFO;
static bool progress_shown;
static int64_t progress_last_ns;

void agon_log_init(enum agon_log_level most)
{
    pthread_mutex_lock(&log_lock);
    log_most = most;
    pthread_mutex_unlock(&log_lock);
}

/* Nobody can be told that stderr is gone, so a failed write is left at that. */
static void log_write(const struct agon_buf *b)
{
    (void)!agon_fd_write(STDERR_FILENO, agon_buf_str(b));
}

/* A buffer in the caller's storage: that memory has run out must be told, too. */
static struct agon_buf log_buf(char storage[LOG_BYTES_MAX])
{
    storage[0] = '\0';
    return (struct agon_buf){
        .data = storage, .capacity = LOG_BYTES_MAX, .size_max = LOG_BYTES_MAX - 1};
}

static void log_clear_progress(struct agon_buf *b)
{
    if (progress_shown)
        agon_buf_adds(b, "\r\033[K");
    progress_shown = false;
}

void agon_log(enum agon_log_level level, const char *area, const char *fmt, ...)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    if (level > log_most)
        return;
    char text[LOG_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap); /* a longer line is cut */
    va_end(ap);

    char line[LOG_BYTES_MAX];
    struct agon_buf b = log_buf(line);
    pthread_mutex_lock(&log_lock);
    log_clear_progress(&b);
    agon_buf_addf(&b, "%s %s: ", names[level], area);
    agon_text_add_plain(&b, agon_str(text), false);
    agon_buf_addc(&b, '\n');
    log_write(&b);
    pthread_mutex_unlock(&log_lock);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* A progress line that wraps could not be cleared again, so it is cut to the width. */
static size_t terminal_width(void)
{
    struct winsize w;
    return ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col > 1 ? w.ws_col - 1u : 79;
}

static struct agon_str cut_to_width(struct agon_str s, size_t width)
{
    size_t pos = 0;
    for (size_t n = 0; n < width && pos < s.size; n++)
        (void)agon_utf8_next(s, &pos);
    return (struct agon_str){s.data, pos};
}

void agon_progress(bool force, const char *fmt, ...)
{
    if (!isatty(STDERR_FILENO))
        return;
    char text[LOG_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);

    char line[LOG_BYTES_MAX];
    struct agon_buf b = log_buf(line);
    pthread_mutex_lock(&log_lock);
    int64_t now = now_ns();
    if (force || now - progress_last_ns >= PROGRESS_NS) {
        agon_buf_adds(&b, "\r\033[K");
        agon_text_add_plain(&b, cut_to_width(agon_str(text), terminal_width()), false);
        log_write(&b);
        progress_last_ns = now;
        progress_shown = true;
    }
    pthread_mutex_unlock(&log_lock);
}

void agon_progress_end(void)
{
    char line[LOG_BYTES_MAX];
    struct agon_buf b = log_buf(line);
    pthread_mutex_lock(&log_lock);
    log_clear_progress(&b);
    log_write(&b);
    pthread_mutex_unlock(&log_lock);
}
