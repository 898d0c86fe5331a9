/*
 * Any bytes as a server's side of an HTTP exchange, through a socket of this machine: the transfer
 * ends, as a complete response within its limit or with a reason.
 */
#include "base/http.h"

#include <arpa/inet.h>
#include <assert.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_BYTES_MAX = 2000, POLLS_MAX = 200 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int listening(int *ret_port)
{
    static int fd = -1, port;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    if (fd < 0) {
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        assert(fd >= 0 && bind(fd, (struct sockaddr *)&at, size) == 0 && listen(fd, 8) == 0);
        assert(getsockname(fd, (struct sockaddr *)&at, &size) == 0);
        port = ntohs(at.sin_port);
    }
    *ret_port = port;
    return fd;
}

static void check(const struct agon_http_response *a)
{
    assert(a->body.size <= BODY_BYTES_MAX);
    assert(a->end == AGON_HTTP_OK ? a->status >= 100 : a->reason[0] || a->end != AGON_HTTP_FAILED);
    assert(memchr(a->content_type, 0, sizeof(a->content_type)));
    assert(memchr(a->location, 0, sizeof(a->location)));
    assert(memchr(a->retry_after, 0, sizeof(a->retry_after)));
}

/* Whoever has connected gets the bytes and the end. */
static void serve(int fd, const uint8_t *data, size_t size)
{
    char request[4096];
    int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0)
        return;
    (void)!send(peer, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)shutdown(peer, SHUT_WR);
    while (recv(peer, request, sizeof(request), MSG_DONTWAIT) > 0) {
    }
    (void)close(peer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agon_http *h;
    struct agon_http_transfer *t = NULL;
    struct agon_http_response a = {0};
    struct agon_err err;
    char url[64];
    int port, fd = listening(&port), r = 0;
    if (!h)
        assert(agon_http_new(&h, &err) == 0);
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/a", port);
    struct agon_http_request req = {
        .url = url, .body_bytes_max = BODY_BYTES_MAX, .total_ms = 2000, .stall_ms = 1000};
    assert(agon_http_start(&t, h, &req, &err) == 0);
    for (int i = 0; i < POLLS_MAX && r == 0; i++) {
        assert(agon_http_poll(h, i < 4 ? 0 : 20, &err) == 0);
        serve(fd, data, size);
        r = agon_http_take(t, &a, &err);
    }
    assert(r == 1);
    check(&a);
    agon_http_response_deinit(&a);
    return 0;
}
