#pragma once
/*
 * Frames: what passes between the driver and a boxed process, in both directions:
 * a head of 48 bytes and then `size` bytes. The driver trusts nothing in a head
 * that comes out of a box: agon_frame_check() is the door.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

enum {
    AGON_FRAME_MAGIC = 0x6e6f6761, /* "agon" */
    AGON_FRAME_OP = 32,            /* bytes of an op's name with its NUL */
    AGON_FRAME_SIZE_MAX = 64 << 20,
};

struct agon_frame_head {
    uint32_t magic;
    int32_t status; /* replies: 0, or the op's <0 with the error's text as content */
    uint64_t size;
    char op[AGON_FRAME_OP]; /* requests; a reply repeats it */
};

void agon_frame_head_init(struct agon_frame_head *ret, const char *op, int status, size_t size);
/* Is it a head that may be believed? AGON_EINPUT says why not. */
int agon_frame_check(const struct agon_frame_head *head, struct agon_err *err) AGON_MUST_USE;

enum { AGON_FRAME_END = 1 };
/* Blocking, for the boxed side. Content is put into b, which is emptied first.
 * Returns 0, AGON_FRAME_END when the other side has closed, or <0. */
int agon_frame_read(int fd, struct agon_frame_head *ret_head, struct agon_buf *b,
                    struct agon_err *err) AGON_MUST_USE;
int agon_frame_write(int fd, const struct agon_frame_head *head, struct agon_str content,
                     struct agon_err *err) AGON_MUST_USE;
