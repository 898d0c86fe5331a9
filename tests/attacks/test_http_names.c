/*
 * Rows H7 and our own: names and certificates. Each attack runs on a machine of its own in so far
 * as a mount namespace makes one, with other /etc/hosts and another list of authorities.
 */
#include "base/file.h"
#include "tests/attacks/webdoor.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- nginx */

static struct {
    pid_t pid;
    int to, good, expired, self, v6;
    char folder[256];
} tls;

static void tls_drop(void)
{
    if (tls.pid <= 0)
        return;
    (void)close(tls.to);
    (void)waitpid(tls.pid, NULL, 0);
    tls.pid = 0;
}

static void tls_check(void)
{
    char python[] = "python3", script[] = TEST_SOURCE "/attacks/tls_site.py", line[400] = "";
    char *argv[] = {python, script, NULL};
    int to[2], from[2];
    if (tls.pid > 0)
        return;
    posix_spawn_file_actions_t actions;
    if (!EXPECT(pipe2(to, O_CLOEXEC) == 0 && pipe2(from, O_CLOEXEC) == 0))
        return;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    EXPECT(posix_spawnp(&tls.pid, python, &actions, NULL, argv, environ) == 0);
    posix_spawn_file_actions_destroy(&actions);
    (void)close(to[0]);
    (void)close(from[1]);
    tls.to = to[1];
    for (size_t n = 0; n < sizeof(line) - 1 && !strchr(line, '\n'); n++)
        if (read(from[0], line + n, 1) <= 0)
            break;
    (void)close(from[0]);
    EXPECT(sscanf(line, "%255s %d %d %d %d", tls.folder, &tls.good, &tls.expired, &tls.self,
                  &tls.v6) == 5);
}

__attribute__((constructor)) static void tls_add(void)
{
    battery_neighbour(tls_check, tls_drop);
    (void)atexit(tls_drop); /* only a limit of the C library keeps it from being called */
}

/* ---- a machine of one's own */

static char hosts_path[300];

static void set_hosts(const char *text)
{
    struct agon_err err = {0};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    agon_buf_adds(&b, text);
    int fd = open(hosts_path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC,
                  0644); /* in place: it is mounted */
    EXPECT(fd >= 0 && write(fd, b.data, b.size) == (ssize_t)b.size && !err.code);
    (void)close(fd);
}

static bool own_machine(void)
{
    static const char authorities[] = "/etc/ssl/certs/ca-certificates.crt";
    char ca[300];
    snprintf(ca, sizeof(ca), "%s/ca.pem", tls.folder);
    snprintf(hosts_path, sizeof(hosts_path), "%s", test_path("hosts"));
    set_hosts("127.0.0.1 localhost\n");
    return (unshare(CLONE_NEWNS) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0) &&
           mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
           mount(hosts_path, "/etc/hosts", NULL, MS_BIND, NULL) == 0 &&
           mount(ca, authorities, NULL, MS_BIND, NULL) == 0;
}

static void on_own_machine(void (*attack)(void))
{
    int status = 1;
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        int failures = test_failures;
        if (EXPECT(own_machine()))
            attack();
        fflush(stdout);
        _exit(test_failures > failures);
    }
    EXPECT(waitpid(pid, &status, 0) == pid && status == 0);
}

/* What a fetch of scheme://name:port/path says; named: the host may be private. */
static int fetch(const char *scheme, const char *name, int port, const char *path, bool named)
{
    char url[200];
    const char *const hosts[] = {named ? name : "nobody.test", "[::1]", "good.test", NULL};
    snprintf(url, sizeof(url), "%s://%s:%d/%s", scheme, name, port, path);
    struct agon_fetcher_options o = {.parser = web_parser(),
                                     .user_agent = "agon/test",
                                     .allow_hosts = hosts,
                                     .delay_ms = -1,
                                     .bytes_max = 100000,
                                     .wall_ms = 5000};
    struct agon_fetcher *f AGON_AUTO(agon_fetcher_freep) = NULL;
    struct agon_fetched got = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(sizeof(web_said) - 1);
    struct agon_err err = {0};
    if (!EXPECT(agon_fetcher_new(&f, &o, &err) == 0))
        return -1;
    int r = agon_fetcher_get(f, url, &got, &reason, &err);
    snprintf(web_said, sizeof(web_said), "%s", agon_buf_text(r ? &reason : &got.body));
    agon_fetched_deinit(&got);
    return r;
}

static void certificates(void)
{
    set_hosts("127.0.0.1 good.test wrong.test\n");
    EXPECT(fetch("https", "good.test", tls.good, "", true) == 0);
    EXPECT_HAS(web_said, "a page of nginx");
    EXPECT(fetch("https", "wrong.test", tls.good, "", true) == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "SSL: no alternative certificate subject name matches");
    EXPECT(fetch("https", "good.test", tls.expired, "", true) == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "certificate has expired");
    EXPECT(fetch("https", "good.test", tls.self, "", true) == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "self-signed certificate");
    EXPECT(fetch("https", "good.test", web_port(WEB_PLAIN), "", true) ==
           AGON_FETCH_REFUSED);                                                   /* no TLS there */
    EXPECT(fetch("http", "good.test", tls.good, "", true) == AGON_FETCH_REFUSED); /* TLS there */
}

ATTACK(H7_certificates_that_are_none)
{
    on_own_machine(certificates);
}

static void downgrade(void)
{
    set_hosts("127.0.0.1 good.test\n::1 good.test\n");
    EXPECT(fetch("https", "good.test", tls.good, "down", true) == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "redirects from https to http");
}

ATTACK(H7_no_silent_step_down_from_https)
{
    on_own_machine(downgrade);
}

static void only_v6(void)
{
    set_hosts("::1 six.test\n");
    EXPECT(fetch("http", "six.test", tls.v6, "", true) == 0);
    EXPECT_HAS(web_said, "a page of nginx");
    EXPECT(fetch("http", "[::1]", tls.v6, "", true) == 0);
    EXPECT(fetch("http", "six.test", tls.v6, "", false) == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "private address");
}

ATTACK(H7_a_host_with_ipv6_alone)
{
    if (access("/proc/net/if_inet6", F_OK) < 0)
        SKIP("no IPv6 here");
    on_own_machine(only_v6);
}

/* Whatever a name says, and however many addresses it has: the address that is connected to counts.
 */
static void names(void)
{
    static const char *const hosts[] = {"127.0.0.1 evil.test\n",
                                        "169.254.169.254 evil.test\n",
                                        "::1 evil.test\n",
                                        "203.0.113.7 evil.test\n127.0.0.1 evil.test\n",
                                        "127.0.0.1 evil.test\n203.0.113.7 evil.test\n",
                                        "0.0.0.0 evil.test\n",
                                        "::ffff:127.0.0.1 evil.test\n",
                                        "10.1.2.3 evil.test\n"};
    for (size_t i = 0; i < sizeof(hosts) / sizeof(*hosts); i++) {
        set_hosts(hosts[i]);
        EXPECT(fetch("http", "evil.test", web_port(WEB_PLAIN), "rebound", false) ==
               AGON_FETCH_REFUSED);
        EXPECT_HAS(web_said, "private address");
    }
    set_hosts("127.0.0.1 localhost\n");
    EXPECT(fetch("http", "evil.test", web_port(WEB_PLAIN), "rebound", false) == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "can't be read"); /* unknown, or no name server answers */
}

ATTACK(X_names_that_resolve_to_private_addresses)
{
    on_own_machine(names);
    EXPECT(web_seen("rebound") == 0);
}

static int only_second(void *user, const char *ip, int port)
{
    (void)user, (void)port;
    return strcmp(ip, "127.0.0.2") != 0;
}

/* A name that was good when it was judged and points elsewhere when it is connected to. */
static void rebinding(void)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = NULL;
    struct agon_err err = {0};
    char url[128];
    snprintf(url, sizeof(url), "http://turn.test:%d/rebound", web_port(WEB_PLAIN));
    struct agon_http_request req = {.url = url,
                                    .body_bytes_max = 1000,
                                    .allow_address = only_second,
                                    .connect_ms = 1000,
                                    .total_ms = 2000};
    REQUIRE(agon_http_new(&h, &err) == 0);
    for (int i = 0; i < 6; i++) {
        struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = {0};
        set_hosts(i % 2 ? "127.0.0.1 turn.test\n" : "127.0.0.2 turn.test\n");
        if (i == 3) { /* one that has forgotten what it knew */
            agon_http_free(AGON_STEAL(h));
            REQUIRE(agon_http_new(&h, &err) == 0);
        }
        EXPECT(agon_http_run(h, &req, &r, &err) == 0 && r.end != AGON_HTTP_OK);
        EXPECT(i < 3 || r.end == AGON_HTTP_REFUSED);
    }
}

ATTACK(X_a_name_that_turns_after_it_was_judged)
{
    on_own_machine(rebinding);
    EXPECT(web_seen("rebound") == 0);
}
