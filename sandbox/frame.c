/* Frames between the driver and a box: see frame.h. */
#include "sandbox/frame.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

void agon_frame_head_init(struct agon_frame_head *ret, const char *op, int status, size_t size)
{
    *ret = (struct agon_frame_head){.magic = AGON_FRAME_MAGIC, .status = status, .size = size};
    snprintf(ret->op, sizeof(ret->op), "%s", op);
}

int agon_frame_check(const struct agon_frame_head *head, struct agon_err *err)
{
    if (head->magic != AGON_FRAME_MAGIC)
        return agon_fail(err, AGON_EINPUT, "frame: wrong magic 0x%08x", head->magic);
    if (head->size > AGON_FRAME_SIZE_MAX)
        return agon_fail(err, AGON_EINPUT, "frame: %llu bytes, at most %d are allowed",
                         (unsigned long long)head->size, AGON_FRAME_SIZE_MAX);
    if (head->status > 0)
        return agon_fail(err, AGON_EINPUT, "frame: unknown status %d", head->status);
    size_t n = strnlen(head->op, sizeof(head->op));
    if (n == 0 || n == sizeof(head->op))
        return agon_fail(err, AGON_EINPUT, "frame: the op's name is %s", n ? "not ended" : "empty");
    for (size_t i = 0; i < n; i++)
        if (head->op[i] <= ' ' || head->op[i] > '~')
            return agon_fail(err, AGON_EINPUT, "frame: the op's name has byte 0x%02x",
                             (unsigned char)head->op[i]);
    return 0;
}

static int read_all(int fd, void *data, size_t size, struct agon_err *err)
{
    for (size_t n = 0; n < size;) {
        ssize_t r = read(fd, (char *)data + n, size - n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return agon_fail(err, AGON_ESYS, "frame: read: %s", strerror(errno));
        if (r == 0)
            return n == 0 ? AGON_FRAME_END
                          : agon_fail(err, AGON_EINPUT, "frame: cut off after %zu of %zu bytes", n,
                                      size);
        n += (size_t)r;
    }
    return 0;
}

static int write_all(int fd, const void *data, size_t size, struct agon_err *err)
{
    for (size_t n = 0; n < size;) {
        ssize_t r = write(fd, (const char *)data + n, size - n);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return agon_fail(err, AGON_ESYS, "frame: write: %s", strerror(errno));
        n += (size_t)r;
    }
    return 0;
}

int agon_frame_read(int fd, struct agon_frame_head *ret_head, struct agon_buf *b,
                    struct agon_err *err)
{
    agon_buf_reset(b);
    int r = read_all(fd, ret_head, sizeof(*ret_head), err);
    if (r || (r = agon_frame_check(ret_head, err)) || ret_head->size == 0)
        return r;
    char *at = agon_buf_extend(b, ret_head->size);
    if (!at)
        return agon_buf_check(b, "frame", err);
    r = read_all(fd, at, ret_head->size, err);
    return r == AGON_FRAME_END ? agon_fail(err, AGON_EINPUT, "frame: no content") : r;
}

int agon_frame_write(int fd, const struct agon_frame_head *head, struct agon_str content,
                     struct agon_err *err)
{
    /* One write where it is small: the reader wakes once. */
    char both[4096];
    if (content.size + sizeof(*head) <= sizeof(both)) {
        memcpy(both, head, sizeof(*head));
        if (content.size > 0)
            memcpy(both + sizeof(*head), content.data, content.size);
        return write_all(fd, both, sizeof(*head) + content.size, err);
    }
    int r = write_all(fd, head, sizeof(*head), err);
    return r ? r : write_all(fd, content.data, content.size, err);
}
