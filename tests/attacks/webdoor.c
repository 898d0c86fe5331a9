/* Attacks by web servers: see webdoor.h. */
#include "tests/attacks/webdoor.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;
char web_said[4096];

static int ports[WEB_PORTS], to_server = -1;
static pid_t server;

static void server_drop(void)
{
    if (server <= 0)
        return;
    (void)close(to_server);
    (void)kill(server, SIGTERM);
    (void)waitpid(server, NULL, 0);
    server = 0;
}

static void server_check(void)
{
    char python[] = "python3", script[] = TEST_SOURCE "/attacks/hostile_server.py", line[200] = "";
    char modes[][10] = {"stars", "rules", "line", "delay", "binary", "endless", "redirect", "hang"};
    char *argv[] = {python,   script,   modes[0], modes[1], modes[2], modes[3],
                    modes[4], modes[5], modes[6], modes[7], NULL};
    int to[2], from[2];
    if (server > 0 && waitpid(server, NULL, WNOHANG) == 0)
        return;
    posix_spawn_file_actions_t actions;
    if (!EXPECT(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0))
        return;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    EXPECT(posix_spawnp(&server, python, &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    (void)close(to[0]);
    (void)close(from[1]);
    to_server = to[1];
    for (size_t n = 0; n < sizeof(line) - 1 && !strchr(line, '\n'); n++)
        if (read(from[0], line + n, 1) <= 0)
            break;
    (void)close(from[0]);
    char *at = line;
    for (int i = 0; i < WEB_PORTS; i++)
        ports[i] = (int)strtol(at, &at, 10);
    EXPECT(ports[WEB_PORTS - 1] > 0);
}

__attribute__((constructor)) static void server_add(void)
{
    battery_neighbour(server_check, server_drop);
    (void)atexit(server_drop); /* only a limit of the C library keeps it from being called */
}

int web_port(enum web_port which)
{
    return ports[which];
}

const char *web_url(enum web_port which, const char *path)
{
    static char text[4][512];
    static int next;
    char *at = text[next++ % 4];
    snprintf(at, sizeof(text[0]), "http://127.0.0.1:%d/%s", ports[which], path);
    return at;
}

struct agon_http_response web_get(const char *path)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = NULL;
    struct agon_http_response r = {.end = AGON_HTTP_FAILED, .reason = "no response"};
    struct agon_http_request req = {.url = web_url(WEB_PLAIN, path),
                                    .body_bytes_max = 100000,
                                    .connect_ms = 1000,
                                    .stall_ms = 1000,
                                    .total_ms = 3000};
    struct agon_err err = {0};
    if (!EXPECT(agon_http_new(&h, &err) == 0 && agon_http_run(h, &req, &r, &err) == 0))
        printf("# %s\n", err.text);
    return r;
}

struct agon_parser *web_parser(void)
{
    static struct agon_parser *p; /* kept to the end */
    struct agon_err err;
    if (!p && !EXPECT(agon_parser_new(&p, NULL, &err) == 0))
        printf("# %s\n", err.text);
    return p;
}

int web_fetch(enum web_port which, const char *path)
{
    char host[32], other[32];
    snprintf(host, sizeof(host), "127.0.0.1:%d", ports[which]);
    snprintf(other, sizeof(other), "127.0.0.1:%d", ports[WEB_OTHER]);
    const char *const hosts[] = {host, other, NULL};
    struct agon_fetcher_options o = {.parser = web_parser(),
                                     .user_agent = "agon/test",
                                     .allow_hosts = hosts,
                                     .delay_ms = -1,
                                     .bytes_max = 100000,
                                     .stall_ms = 1000,
                                     .wall_ms = 3000};
    struct agon_fetcher *f AGON_AUTO(agon_fetcher_freep) = NULL;
    struct agon_fetched got = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(sizeof(web_said) - 1);
    struct agon_err err = {0};
    if (!EXPECT(agon_fetcher_new(&f, &o, &err) == 0))
        return -1;
    int r =
        agon_fetcher_get(f, strstr(path, "://") ? path : web_url(which, path), &got, &reason, &err);
    EXPECT(r >= 0);
    snprintf(web_said, sizeof(web_said), "%s", agon_buf_text(r ? &reason : &got.body));
    agon_fetched_deinit(&got);
    return r;
}

int web_seen(const char *part)
{
    struct agon_http_response r = web_get("seen");
    int n = 0;
    for (const char *at = agon_buf_text(&r.body); (at = strstr(at, part)); at++)
        n++;
    agon_http_response_deinit(&r);
    return n;
}
