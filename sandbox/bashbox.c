/* The bash box as the driver sees it: see bashbox.h. The other end is runner.c. */
#include "sandbox/bashbox.h"

#include "base/file.h"
#include "base/text.h"
#include "sandbox/boxed.h"
#include "sandbox/runner.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    WORK_BYTES_DEFAULT = 256 << 20,
    TIMEOUT_MS_MAX = 600000,
    GRACE_MS = 10000,     /* for the runner to end a command and answer */
    FILE_WALL_MS = 60000, /* for a piece of a file */
    MARKER_BYTES = 256,
    /* The runner is ours. Where its box is at the limit of its memory the kernel looks for pages on
     * the runner's account, and it does not come to beat: slow, but no hang. */
    RUNNER_HANG_CPU_MS = 4000,
};

struct agon_bashbox {
    struct agon_boxed *boxed; /* owned */
    struct agon_buf request, reply;
};

static int call_lost(const char *reason, struct agon_err *err)
{
    agon_fail(err, AGON_ESYS, "bash box lost: %s", reason);
    return AGON_BASHBOX_LOST;
}

static int put_piece(struct agon_bashbox *b, const char *name, uint64_t offset,
                     struct agon_str piece, struct agon_err *err)
{
    char reason[AGON_BOXED_REASON];
    struct agon_runner_file q = {.offset = offset, .name_size = (uint32_t)strlen(name)};
    struct agon_runner_done done;
    agon_buf_reset(&b->request);
    agon_buf_add(&b->request, &q, sizeof(q));
    agon_buf_adds(&b->request, name);
    agon_buf_add_str(&b->request, piece);
    int r = agon_buf_check(&b->request, "bash box", err);
    if (r)
        return r;
    r = agon_boxed_call(b->boxed, "write", agon_buf_str(&b->request), FILE_WALL_MS, &b->reply,
                        reason, err);
    if (r)
        return r < 0 ? r : agon_fail(err, AGON_ESYS, "bash box lost: %s", reason);
    if (b->reply.size < sizeof(done))
        return agon_fail(err, AGON_ESYS, "bash box: a short reply");
    memcpy(&done, b->reply.data, sizeof(done));
    if (done.file_size < 0)
        return agon_fail(err, AGON_EINPUT, "/work/%s: %.200s", name,
                         agon_buf_text(&b->reply) + sizeof(done));
    return 0;
}

int agon_bashbox_write(struct agon_bashbox *b, const char *name, struct agon_str content,
                       struct agon_err *err)
{
    size_t at = 0;
    do {
        size_t left = content.size - at;
        struct agon_str piece = {content.data + at,
                                 left < AGON_RUNNER_PIECE_MAX ? left : AGON_RUNNER_PIECE_MAX};
        int r = put_piece(b, name, at, piece, err);
        if (r)
            return r;
        at += piece.size;
    } while (at < content.size);
    return 0;
}

static int put_world(struct agon_bashbox *b, const char *path, size_t size_max,
                     struct agon_err *err)
{
    struct agon_buf world AGON_AUTO(agon_buf_deinit) = AGON_BUF(size_max);
    int r = agon_file_read(&world, path, size_max, err);
    return r ? r : agon_bashbox_write(b, "world.db", agon_buf_str(&world), err);
}

int agon_bashbox_open(struct agon_bashbox **ret, struct agon_sandbox *sb,
                      const struct agon_bashbox_options *options, struct agon_err *err)
{
    struct agon_bashbox *b AGON_AUTO(agon_bashbox_closep) = calloc(1, sizeof(*b));
    if (!b)
        return agon_fail(err, AGON_ENOMEM, "bash box: out of memory");
    b->request = (struct agon_buf)AGON_BUF(AGON_FRAME_SIZE_MAX);
    b->reply = (struct agon_buf)AGON_BUF(AGON_FRAME_SIZE_MAX);
    size_t work = options->work_bytes_max ? options->work_bytes_max : WORK_BYTES_DEFAULT;
    char argument[48];
    snprintf(argument, sizeof(argument), "--bash=%zu", work);
    struct agon_box_options o = {.kind = AGON_BOX_BASH,
                                 .hang_cpu_ms = RUNNER_HANG_CPU_MS,
                                 .docs = options->docs_dir,
                                 .work_bytes_max = work,
                                 .argument = argument};
    int r = agon_boxed_open(&b->boxed, sb, &o, err);
    if (r == 0 && options->world_path)
        r = put_world(b, options->world_path, work, err);
    if (r)
        return agon_err_in(err, r, "bash box");
    *ret = AGON_STEAL(b);
    return 0;
}

void agon_bashbox_close(struct agon_bashbox *b)
{
    if (!b)
        return;
    agon_boxed_close(b->boxed);
    agon_buf_deinit(&b->request);
    agon_buf_deinit(&b->reply);
    free(b);
}

void agon_bash_result_deinit(struct agon_bash_result *r)
{
    agon_buf_deinit(&r->output);
}

/* Valid UTF-8: each byte that belongs to no character, and NUL, becomes U+FFFD. */
static void add_text(struct agon_buf *b, struct agon_str s)
{
    size_t start = 0, at = 0;
    while (at < s.size) {
        size_t was = at;
        if (agon_utf8_next(s, &at) > 0)
            continue;
        agon_buf_add_str(b, (struct agon_str){s.data + start, was - start});
        agon_utf8_add(b, 0xfffd);
        start = at;
    }
    agon_buf_add_str(b, (struct agon_str){s.data + start, s.size - start});
}

static int result_fill(struct agon_bash_result *ret, struct agon_str reply, struct agon_err *err)
{
    struct agon_runner_ran ran;
    if (reply.size < sizeof(ran) || reply.size > sizeof(ran) + AGON_RUNNER_OUTPUT_MAX)
        return call_lost("a reply of the wrong size", err);
    memcpy(&ran, reply.data, sizeof(ran));
    struct agon_buf text = AGON_BUF(3 * AGON_RUNNER_OUTPUT_MAX + MARKER_BYTES);
    add_text(&text, (struct agon_str){reply.data + sizeof(ran), reply.size - sizeof(ran)});
    if (ran.output_capped)
        agon_buf_addf(&text, "\n[output cut at %d bytes, and the command killed]\n",
                      AGON_RUNNER_OUTPUT_MAX);
    if (ran.over_memory)
        agon_buf_addf(&text, "\n[killed: its processes used more than %d MiB together]\n",
                      AGON_RUNNER_MIB_MAX);
    if (ran.over_files)
        agon_buf_addf(&text, "\n[killed: more than %d files in /work and /tmp]\n",
                      AGON_RUNNER_FILES_MAX);
    if (ran.over_terminals)
        agon_buf_addf(&text, "\n[killed: more than %d terminals]\n", AGON_RUNNER_TERMINALS_MAX);
    int r = agon_buf_check(&text, "bash box: output", err);
    if (r) {
        agon_buf_deinit(&text);
        return r;
    }
    *ret = (struct agon_bash_result){.exit_status = ran.exit_status & 0xff,
                                     .timed_out = ran.timed_out != 0,
                                     .output_capped = ran.output_capped != 0,
                                     .wall_ms = ran.wall_ms,
                                     .output = text};
    return 0;
}

int agon_bashbox_run(struct agon_bashbox *b, struct agon_str command, int timeout_ms,
                     struct agon_bash_result *ret, struct agon_err *err)
{
    char reason[AGON_BOXED_REASON];
    if (timeout_ms <= 0 || timeout_ms > TIMEOUT_MS_MAX)
        return agon_fail(err, AGON_EINPUT, "bash box: a timeout of %d ms, allowed are 1 to %d",
                         timeout_ms, TIMEOUT_MS_MAX);
    if (command.size > 0 &&
        memchr(command.data, 0, command.size)) { /* bash would see the part before it only */
        *ret = (struct agon_bash_result){.exit_status = 126, .output = AGON_BUF(MARKER_BYTES)};
        agon_buf_adds(&ret->output, "bash: the command contains a NUL byte\n");
        return agon_buf_check(&ret->output, "bash box", err);
    }
    struct agon_runner_run q = {timeout_ms};
    agon_buf_reset(&b->request);
    agon_buf_add(&b->request, &q, sizeof(q));
    agon_buf_add_str(&b->request, command);
    int r = agon_buf_check(&b->request, "bash box: command", err);
    if (r)
        return r;
    r = agon_boxed_call(b->boxed, "run", agon_buf_str(&b->request), timeout_ms + GRACE_MS,
                        &b->reply, reason, err);
    if (r)
        return r < 0 ? r : call_lost(reason, err);
    return result_fill(ret, agon_buf_str(&b->reply), err);
}

/* One piece; *ret_size is the whole file's size. 0, 1 with the reason, or <0. */
static int get_piece(struct agon_bashbox *b, const char *name, uint64_t offset, uint64_t size_max,
                     struct agon_buf *content, int64_t *ret_size, struct agon_err *err)
{
    char reason[AGON_BOXED_REASON];
    struct agon_runner_file q = {.offset = offset, .size_max = size_max};
    struct agon_runner_done done;
    agon_buf_reset(&b->request);
    agon_buf_add(&b->request, &q, sizeof(q));
    agon_buf_adds(&b->request, name);
    int r = agon_buf_check(&b->request, "bash box: name", err);
    if (r)
        return r;
    r = agon_boxed_call(b->boxed, "read", agon_buf_str(&b->request), FILE_WALL_MS, &b->reply,
                        reason, err);
    if (r)
        return r < 0 ? r : agon_fail(err, AGON_ESYS, "bash box lost: %s", reason);
    if (b->reply.size < sizeof(done) || b->reply.size - sizeof(done) > size_max + 1024)
        return agon_fail(err, AGON_ESYS, "bash box: a reply of the wrong size");
    memcpy(&done, b->reply.data, sizeof(done));
    struct agon_str rest = {b->reply.data + sizeof(done), b->reply.size - sizeof(done)};
    if (done.file_size < 0) {
        agon_fail(err, AGON_EINPUT, "/work/%.200s: %.*s", name,
                  (int)(rest.size < 200 ? rest.size : 200), rest.data);
        return 1;
    }
    *ret_size = done.file_size;
    agon_buf_add_str(content, rest);
    return agon_buf_check(content, name, err);
}

int agon_bashbox_read(struct agon_bashbox *b, const char *name, size_t size_max,
                      struct agon_buf *content, struct agon_err *err)
{
    int64_t size = 0;
    agon_buf_reset(content);
    do {
        size_t was = content->size;
        int r = get_piece(b, name, was, size_max - was, content, &size, err);
        if (r)
            return r;
        if (size > 0 && (uint64_t)size > size_max) {
            agon_fail(err, AGON_EINPUT, "/work/%.200s: %lld bytes, at most %zu are allowed", name,
                      (long long)size, size_max);
            return 1;
        }
        if (content->size == was)
            break; /* it became shorter, or is empty */
    } while (content->size < (size_t)size);
    return 0;
}
