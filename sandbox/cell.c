/* The sandbox, and cells as the driver sees them: see cell.h. */
#include "sandbox/cell.h"

#include "base/file.h"
#include "sandbox/boxed.h"
#include "sandbox/filter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    FILTER_BYTES_MAX = 64 << 10,
    PROGRAM_BYTES_MAX = 1 << 30,
    PARSER_HANG_CPU_MS = 20000,
    CALL_WALL_MS = 1800000, /* a cell that was taken over can beat for ever */
};
static const size_t cell_bytes_default = 512U << 20, parser_bytes_max = 1U << 30;

struct agon_cell {
    struct agon_boxed *boxed; /* owned */
};

static int find_bwrap(char *ret, size_t size, const char *given, struct agon_err *err)
{
    static const char *const places[] = {"/usr/bin/bwrap", "/bin/bwrap", "/usr/local/bin/bwrap"};
    if (given && access(given, X_OK) == 0) {
        snprintf(ret, size, "%s", given);
        return 0;
    }
    for (size_t i = 0; !given && i < sizeof(places) / sizeof(*places); i++)
        if (access(places[i], X_OK) == 0) {
            snprintf(ret, size, "%s", places[i]);
            return 0;
        }
    return agon_fail(err, AGON_ESYS,
                     "sandbox: bubblewrap is missing (no %s), and nothing is run without it: "
                     "apt-get install bubblewrap",
                     given ? given : places[0]);
}

static int cell_path(char *ret, size_t size, const char *given, struct agon_err *err)
{
    const char *path = given ? given : getenv("AGON_CELL");
    if (path) {
        snprintf(ret, size, "%s", path);
        return 0;
    }
    int r = agon_program_beside(ret, size, "agon-cell", err);
    return r ? agon_err_in(err, r, "sandbox") : 0;
}

/*
 * The program in memory: the box's user may not be allowed to go where it lies, and
 * what is rebuilt during a run does not change the run. Its pages are shared by all boxes.
 */
static int program_open(int *ret, const char *path, struct agon_err *err)
{
    struct stat st;
    int from = open(path, O_RDONLY | O_CLOEXEC);
    if (from < 0)
        return agon_fail(
            err, AGON_ESYS,
            "sandbox: %s: %s (it belongs beside agon; AGON_CELL names another agon-cell)", path,
            strerror(errno));
    int fd = -1;
    bool ok = fstat(from, &st) == 0 && S_ISREG(st.st_mode) && st.st_size < PROGRAM_BYTES_MAX &&
              (fd = memfd_create("agon-program", MFD_CLOEXEC | MFD_ALLOW_SEALING)) >= 0;
    off_t at = 0;
    while (ok && at < st.st_size)
        ok = sendfile(fd, from, &at, (size_t)(st.st_size - at)) > 0 || errno == EINTR;
    if (ok)
        ok = fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) == 0;
    int e = errno;
    (void)close(from); /* read only */
    if (ok) {
        *ret = fd;
        return 0;
    }
    if (fd >= 0)
        (void)close(fd); /* not used */
    return agon_fail(err, AGON_ESYS, "sandbox: copying %s: %s", path, strerror(e));
}

/* Build one box and let it answer: where that fails, say what is in the way. keep: it is as good as
 * a fresh one for the first who asks, since nothing but the echo went through it. */
static int sandbox_probe(struct agon_sandbox *sb, bool keep, struct agon_err *err)
{
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = NULL;
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(64);
    char reason[AGON_BOXED_REASON];
    int r = agon_cell_new(&c, sb, err);
    if (r == 0)
        r = agon_cell_call(c, "echo", agon_str("probe"), &reply, reason, err);
    if (r == 0 && agon_str_is(agon_buf_str(&reply), "probe")) {
        if (keep)
            sb->spare = AGON_STEAL(c);
        return 0;
    }
    if (r >= 0)
        agon_fail(err, AGON_ESYS, "the first box was lost: %s", r ? reason : "wrong echo");
    char remedy[420] = "", what[256];
    if (sb->start_failed)
        agon_probe_here(remedy, sizeof(remedy));
    snprintf(what, sizeof(what), "%.*s", (int)sizeof(what) - 1, err->text);
    return agon_fail(err, AGON_ESYS,
                     "sandbox: no box can be built here, so nothing is run. %s%s(%s)", remedy,
                     remedy[0] ? " " : "", what);
}

int agon_sandbox_open(struct agon_sandbox **ret, const struct agon_sandbox_options *options,
                      struct agon_err *err)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = calloc(1, sizeof(*sb));
    if (!sb)
        return agon_fail(err, AGON_ENOMEM, "sandbox: out of memory");
    sb->program_fd = sb->parser_fd = -1;
    sb->filter = (struct agon_buf)AGON_BUF(FILTER_BYTES_MAX);
    sb->cell_bytes_max =
        options && options->cell_bytes_max ? options->cell_bytes_max : cell_bytes_default;
    char path[4096];
    int r = find_bwrap(sb->bwrap, sizeof(sb->bwrap), options ? options->bwrap : NULL, err);
    if (r || (r = agon_launcher_new(&sb->launcher, err)) ||
        (r = cell_path(path, sizeof(path), options ? options->cell_program : NULL, err)) ||
        (r = program_open(&sb->program_fd, path, err)) || (r = agon_filter_box(&sb->filter, err)) ||
        (r = sandbox_probe(sb, options && options->keep_first, err)))
        return r;
    const char *slash = strrchr(path, '/');
    snprintf(sb->parser_path, sizeof(sb->parser_path), "%.*sagon-parse",
             slash ? (int)(slash + 1 - path) : 0, path);
    *ret = AGON_STEAL(sb);
    return 0;
}

void agon_sandbox_close(struct agon_sandbox *sb)
{
    if (!sb)
        return;
    agon_cell_free(sb->spare);
    agon_launcher_free(sb->launcher);
    agon_buf_deinit(&sb->filter);
    if (sb->program_fd >= 0)
        (void)close(sb->program_fd); /* a memory file */
    if (sb->parser_fd >= 0)
        (void)close(sb->parser_fd); /* a memory file */
    free(sb);
}

static int cell_open(struct agon_cell **ret, struct agon_sandbox *sb,
                     const struct agon_box_options *options, struct agon_err *err)
{
    struct agon_cell *c AGON_AUTO(agon_cell_freep) = calloc(1, sizeof(*c));
    if (!c)
        return agon_fail(err, AGON_ENOMEM, "cell: out of memory");
    int r = agon_boxed_open(&c->boxed, sb, options, err);
    if (r)
        return agon_err_in(err, r, "cell");
    *ret = AGON_STEAL(c);
    return 0;
}

int agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    if (sb->spare) {
        *ret = AGON_STEAL(sb->spare);
        return 0;
    }
    char argument[48];
    snprintf(argument, sizeof(argument), "--cell=%zu", sb->cell_bytes_max);
    return cell_open(ret, sb,
                     &(struct agon_box_options){.kind = AGON_BOX_CELL, .argument = argument}, err);
}

int agon_cell_new_parser(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    char argument[48];
    snprintf(argument, sizeof(argument), "--parse=%zu", parser_bytes_max);
    int r = sb->parser_fd >= 0 ? 0 : program_open(&sb->parser_fd, sb->parser_path, err);
    if (r)
        return r;
    struct agon_box_options o = {.kind = AGON_BOX_CELL,
                                 .argument = argument,
                                 .program_fd = sb->parser_fd,
                                 .hang_cpu_ms = PARSER_HANG_CPU_MS};
    return cell_open(ret, sb, &o, err);
}

void agon_cell_free(struct agon_cell *c)
{
    if (!c)
        return;
    agon_boxed_close(c->boxed);
    free(c);
}

int agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                   struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    return agon_boxed_call(c->boxed, op, request, CALL_WALL_MS, reply, ret_reason, err);
}

int agon_cell_start(struct agon_cell *c, const char *op, struct agon_str request,
                    struct agon_err *err)
{
    return agon_boxed_start(c->boxed, op, request, CALL_WALL_MS, err);
}

int agon_cell_finish(struct agon_cell *c, struct agon_buf *reply, char ret_reason[128],
                     struct agon_err *err)
{
    return agon_boxed_finish(c->boxed, reply, ret_reason, err);
}

int agon_cell_fd(const struct agon_cell *c)
{
    return c->boxed->fd;
}

int agon_cell_take(struct agon_cell *c, struct agon_buf *reply, char ret_reason[128],
                   struct agon_err *err)
{
    return agon_boxed_take(c->boxed, reply, ret_reason, err);
}
