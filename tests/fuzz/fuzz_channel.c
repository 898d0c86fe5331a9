/*
 * What the driver reads from a box: the bytes come in pieces (the first byte says of what size)
 * and then the channel closes. Whatever they are, the call ends, as the reply to the request that
 * was sent or as a lost box with a reason; never as the driver's own failure.
 */
#include "sandbox/boxed.h"

#include <assert.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BYTES_MAX = 60000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Pieces as the scheduler may cut them: the reader looks in between. */
static int feed(struct agon_boxed *b, int far, const uint8_t *data, size_t size,
                struct agon_buf *reply, char *reason)
{
    struct agon_err err;
    size_t step = size ? (size_t)data[0] * 16 + 1 : 1;
    int r = AGON_CELL_TAKE_WAIT;
    for (size_t at = 1; at < size && r == AGON_CELL_TAKE_WAIT; at += step) {
        size_t n = size - at < step ? size - at : step;
        assert(send(far, data + at, n, MSG_NOSIGNAL) == (ssize_t)n);
        r = agon_boxed_take(b, reply, reason, &err);
    }
    (void)close(far);
    return r == AGON_CELL_TAKE_WAIT ? agon_boxed_take(b, reply, reason, &err) : r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const _Atomic uint64_t heartbeat;
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_FRAME_SIZE_MAX);
    struct agon_boxed b = {.stderr_fd = -1, .pid = -1, .heartbeat = &heartbeat, .stall_cpu_ms = -1};
    struct agon_frame_head sent;
    struct agon_err err;
    char reason[AGON_BOXED_REASON] = "";
    int pair[2];
    if (size > BYTES_MAX || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
        return 0;
    b.fd = pair[0];
    b.in = (struct agon_buf)AGON_BUF(AGON_FRAME_SIZE_MAX + (1 << 17));
    assert(agon_boxed_start(&b, "env.call", agon_str("x"), 60000, &err) == 0);
    assert(recv(pair[1], &sent, sizeof(sent), 0) == sizeof(sent));
    int r = feed(&b, pair[1], data, size, &reply, reason);
    assert(r == AGON_CELL_TAKE_DONE || (r == AGON_CELL_TAKE_LOST && reason[0] && b.lost));
    assert(memchr(reason, '\0', sizeof(reason)));
    for (const char *c = reason; *c; c++)
        assert(*c >= ' ' && *c <= '~'); /* it goes to logs and terminals */
    (void)close(pair[0]);
    agon_buf_deinit(&b.in);
    return 0;
}
