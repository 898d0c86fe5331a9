/* Writing recordings: see record.h. replay.c reads them. */
#include "model/record.h"

#include "base/file.h"
#include "base/json.h"
#include "model/jsontext.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

struct agon_record {
    int fd;
    char *path;
};

enum { LINE_BYTES_MAX = 64 << 20 };

const char *agon_turn_end_name(enum agon_turn_end end)
{
    static const char *const names[] = {
        [AGON_TURN_OK] = "ok",
        [AGON_TURN_MALFORMED] = "malformed",
        [AGON_TURN_LENGTH] = "length",
        [AGON_TURN_FAILED] = "failed",
    };
    return names[end];
}

/* Cut what follows the last newline. The lock keeps a writer's line whole meanwhile. */
static int record_cut_torn_line(const struct agon_record *record, struct agon_err *err)
{
    char tail[4096];
    off_t end = lseek(record->fd, 0, SEEK_END), keep = end;
    bool found = end <= 0;
    while (!found && keep > 0) {
        size_t size = keep < (off_t)sizeof(tail) ? (size_t)keep : sizeof(tail);
        ssize_t n = pread(record->fd, tail, size, keep - (off_t)size);
        if (n <= 0)
            return agon_fail(err, AGON_ESYS, "recording %s: %s", record->path, strerror(errno));
        const char *newline = memrchr(tail, '\n', (size_t)n);
        found = newline != NULL;
        keep = keep - (off_t)size + (newline ? newline + 1 - tail : 0);
    }
    if (keep < end && ftruncate(record->fd, keep))
        return agon_fail(err, AGON_ESYS, "recording %s: %s", record->path, strerror(errno));
    return 0;
}

static int record_write(const struct agon_record *record, const struct agon_buf *b,
                        struct agon_err *err)
{
    int r = agon_buf_check(b, "recording", err);
    if (r)
        return r;
    if (agon_fd_write(record->fd, agon_buf_str(b)))
        return agon_fail(err, AGON_ESYS, "recording %s: %s", record->path, strerror(errno));
    return 0;
}

static int record_head(const struct agon_record *record, const struct agon_model *m,
                       struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(LINE_BYTES_MAX);
    agon_buf_adds(&b, "{\"model\": ");
    agon_json_dump_string(&b, agon_str(m->name));
    agon_buf_addf(&b, ", \"window\": %d, \"counts_tokens\": %s}\n", m->window,
                  m->backend->tokens ? "true" : "false");
    return record_write(record, &b, err);
}

int agon_record_open(struct agon_record **ret, const char *path, const struct agon_model *m,
                     struct agon_err *err)
{
    struct agon_record *record = calloc(1, sizeof(*record));
    int r = 0;
    if (!record || !(record->path = strdup(path))) {
        free(record);
        return agon_fail(err, AGON_ENOMEM, "recording: out of memory");
    }
    struct stat st;
    record->fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (record->fd < 0)
        r = agon_fail(err, AGON_ESYS, "recording %s: %s", path, strerror(errno));
    else if (fstat(record->fd, &st) || flock(record->fd, LOCK_EX))
        r = agon_fail(err, AGON_ESYS, "recording %s: %s", path, strerror(errno));
    else if (S_ISREG(st.st_mode))
        r = record_cut_torn_line(record, err);
    if (r == 0)
        r = record_head(record, m, err);
    if (record->fd >= 0)
        (void)flock(record->fd, LOCK_UN); /* closing would do it too */
    if (r) {
        agon_record_free(record);
        return r;
    }
    *ret = record;
    return 0;
}

void agon_record_free(struct agon_record *record)
{
    if (!record)
        return;
    if (record->fd >= 0)
        (void)close(record->fd); /* every line has been written by then */
    free(record->path);
    free(record);
}

int agon_request_digest(const struct agon_session *s, char ret_hex[AGON_SHA256_HEX],
                        json_t *digests, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_PROMPT_BYTES_MAX);
    struct agon_sha256 all;
    agon_sha256_init(&all);
    const char *mode = s->thinking ? "thinking\n" : "chat\n";
    agon_sha256_add(&all, mode, strlen(mode));
    for (size_t i = 0; i < json_array_size(s->messages); i++) {
        agon_buf_reset(&b);
        agon_json_dump_sorted(&b, json_array_get(s->messages, i));
        agon_buf_addc(&b, '\n');
        int r = agon_buf_check(&b, "request", err);
        if (r)
            return r;
        agon_sha256_add(&all, b.data, b.size);
        char one[AGON_SHA256_HEX];
        agon_sha256_of(agon_buf_str(&b), one);
        if (digests && json_array_append_new(digests, json_stringn(one, AGON_DIGEST_SIZE - 1)))
            return agon_fail(err, AGON_ENOMEM, "request: out of memory");
    }
    agon_sha256_hex(&all, ret_hex);
    return 0;
}

/* Would a reader of the text come to another message? Then the line must carry it. */
static int text_tells_all(const struct agon_session *s, const struct agon_turn *turn, bool *ret,
                          struct agon_err *err)
{
    struct agon_turn again AGON_AUTO(agon_turn_deinit) = {0};
    int r = agon_turn_fill_text(&again, agon_str(turn->text), s->thinking, err);
    if (r)
        return r;
    *ret = again.end == turn->end &&
           (turn->end != AGON_TURN_OK || json_equal(again.message, turn->message));
    return 0;
}

static int record_line(struct agon_buf *b, const struct agon_session *s,
                       const struct agon_turn *turn, struct agon_err *err)
{
    char sha[AGON_SHA256_HEX];
    json_t *digests AGON_AUTO(agon_json_decrefp) = json_array();
    bool tells_all = true;
    int r;
    if (!digests || (r = agon_request_digest(s, sha, digests, err)))
        return digests ? r : agon_fail(err, AGON_ENOMEM, "recording: out of memory");
    if (turn->end != AGON_TURN_LENGTH && (r = text_tells_all(s, turn, &tells_all, err)))
        return r;
    agon_buf_adds(b, "{\"key\": ");
    agon_json_dump_string(b, agon_str(s->key));
    agon_buf_addf(b, ", \"request_sha256\": \"%s\", \"messages\": ", sha);
    agon_json_dump(b, digests);
    agon_buf_addf(b, ", \"end\": \"%s\", \"text\": ", agon_turn_end_name(turn->end));
    agon_json_dump_string(b, agon_str(turn->text));
    if (turn->reason[0]) {
        agon_buf_adds(b, ", \"reason\": ");
        agon_json_dump_string(b, agon_str(turn->reason));
    }
    if (!tells_all && turn->message) {
        agon_buf_adds(b, ", \"message\": ");
        agon_json_dump(b, turn->message);
    }
    agon_buf_addf(b, ", \"n_prompt_tokens\": %d, \"n_tokens\": %d}\n", turn->n_prompt_tokens,
                  turn->n_tokens);
    return agon_buf_check(b, "recording", err);
}

int agon_record_turn(struct agon_record *record, const struct agon_session *s,
                     const struct agon_turn *turn, struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(LINE_BYTES_MAX);
    int r = record_line(&b, s, turn, err);
    return r ? r : record_write(record, &b, err);
}
