/* What must hold for any bytes on a channel: a frame that is taken has a head that keeps
 * the rules and exactly its content; all else is an error or the end. */
#include "sandbox/frame.h"

#include <assert.h>
#include <fcntl.h>
#include <unistd.h>

enum { PIPE_BYTES = 1 << 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int p[2];
    struct agon_frame_head head;
    struct agon_err err;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(PIPE_BYTES);
    if (size > PIPE_BYTES || pipe2(p, O_CLOEXEC) < 0)
        return 0;
    assert(write(p[1], data, size) == (ssize_t)size);
    close(p[1]);
    size_t used = 0;
    int r;
    while ((r = agon_frame_read(p[0], &head, &b, &err)) == 0) {
        assert(head.magic == AGON_FRAME_MAGIC && head.size == b.size && head.status <= 0);
        assert(memchr(head.op, 0, sizeof(head.op)) && head.op[0] > ' ');
        used += sizeof(head) + b.size;
        assert(used <= size);
    }
    assert(r == AGON_FRAME_END ? used == size : r < 0);
    close(p[0]);
    return 0;
}
