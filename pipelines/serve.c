/* See serve.h: the daemon, the loop, and the end. */
#include "pipelines/serve.h"

#include "base/clock.h"
#include "base/log.h"
#include "pipelines/serve_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    HEADER_BYTES_MAX = 64 << 10, /* of a connection: its request line and headers, and buffers */
    LOOK_MS = 100,               /* how often clients that wait are looked after */
    IDLE_MS = 1000,
};

static int daemon_start(struct server *s, struct agon_err *err)
{
    const struct agon_serve_options *o = &s->options;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)o->port)};
    if (inet_pton(AF_INET, o->host, &address.sin_addr) != 1)
        return agon_fail(err, AGON_EINPUT, "--host: '%.60s' is no IPv4 address", o->host);
    s->daemon = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, (uint16_t)o->port, NULL, NULL,
        exchange_handle, s, MHD_OPTION_SOCK_ADDR, (struct sockaddr *)&address,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->n_connections_max, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)o->idle_seconds, MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HEADER_BYTES_MAX,
        MHD_OPTION_NOTIFY_COMPLETED, exchange_completed, s, MHD_OPTION_END);
    if (!s->daemon)
        return agon_fail(err, AGON_ESYS, "can't listen at %s port %d: %s", o->host, o->port,
                         strerror(errno));
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    agon_log(AGON_LOG_INFO, "serve", "%s as '%s' at http://%s:%d/v1", agon_model_name(s->model),
             o->model_name, o->host, info ? info->port : o->port);
    return 0;
}

/* A client that waits for its answer says nothing; when its side is closed it is gone. MHD does
 * not look after connections that are suspended. */
static void look_after_clients(struct server *s)
{
    struct exchange *next;
    for (struct exchange *x = s->first; x; x = next) {
        char byte;
        next = x->next;
        if (!x->suspended)
            continue;
        const union MHD_ConnectionInfo *info =
            MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
        ssize_t n = info ? recv(info->connect_fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) : 0;
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR))
            exchange_abandon(x);
    }
}

static void wait_for_clients(const struct server *s)
{
    MHD_UNSIGNED_LONG_LONG timeout = IDLE_MS;
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_EPOLL_FD);
    if (MHD_get_timeout(s->daemon, &timeout) != MHD_YES || timeout > IDLE_MS)
        timeout = IDLE_MS;
    struct pollfd on = {.fd = info ? info->epoll_fd : -1, .events = POLLIN};
    (void)poll(&on, 1, (int)timeout); /* a signal ends it too */
}

/* One turn of the loop: connections, a step, answers. */
static void serve_once(struct server *s, int64_t *looked_ms)
{
    s->resumed = false;
    if (MHD_run(s->daemon) != MHD_YES) /* out of memory or descriptors: it is tried again */
        (void)poll(NULL, 0, LOOK_MS);
    int n = agon_replies_step(s->replies);
    for (struct exchange *x = s->first, *next; x; x = next) {
        next = x->next;
        exchange_progress(x);
    }
    if (agon_clock_ms() - *looked_ms >= LOOK_MS) {
        look_after_clients(s);
        *looked_ms = agon_clock_ms();
    }
    if (n == 0 && !s->resumed) /* MHD's own timeout knows nothing of what was resumed */
        wait_for_clients(s);
}

static bool any_under_way(const struct server *s)
{
    for (const struct exchange *x = s->first; x; x = x->next)
        if (x->reply || x->suspended || x->n_out < x->out.size)
            return true;
    return false;
}

/* Take no more, finish what was begun, then let go of the rest. */
static void serve_end(struct server *s, int64_t *looked_ms)
{
    int64_t until = agon_clock_ms() + (int64_t)s->options.stop_seconds * 1000;
    MHD_socket listening = MHD_quiesce_daemon(s->daemon);
    s->stopping = true;
    if (listening >= 0)
        (void)close(listening); /* nobody waits for it any more */
    while (any_under_way(s) && agon_clock_ms() < until)
        serve_once(s, looked_ms);
    for (struct exchange *x = s->first; x; x = x->next) /* none may be suspended at the end */
        exchange_abandon(x);
    for (int i = 0; i < 3; i++)
        (void)MHD_run(s->daemon);
    MHD_stop_daemon(s->daemon);
}

int agon_serve(struct agon_model *m, const struct agon_serve_options *options,
               const volatile int *stop, struct agon_err *err)
{
    struct server *s = calloc(1, sizeof(*s));
    if (!s)
        return agon_fail(err, AGON_ENOMEM, "serve: out of memory");
    s->model = m;
    s->options = *options;
    s->started = (long)time(NULL);
    int64_t looked_ms = 0;
    int r = agon_replies_new(&s->replies, m, err);
    if (r == 0)
        r = daemon_start(s, err);
    if (r == 0) {
        while (!*stop)
            serve_once(s, &looked_ms);
        agon_log(AGON_LOG_INFO, "serve", "stopping");
        serve_end(s, &looked_ms);
    }
    agon_replies_free(s->replies);
    free(s);
    return r;
}
