/* Against a real server on loopback: server.py beside this file (argv is taken by the runner,
 * so the path comes in AGON_TEST_SERVER). */
#include "base/http.h"
#include "tests/test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

static int server_port;
static pid_t server_pid;

static void server_stop(void)
{
    int status;
    if (waitpid(server_pid, &status, WNOHANG) == server_pid) {
        printf("# the server ended too early, with status 0x%x\n", (unsigned)status);
        return;
    }
    kill(server_pid, SIGTERM);
    waitpid(server_pid, NULL, 0);
}

/* Starts it at the first use; it ends with this program, whose pipe it reads. */
static int port(void)
{
    if (server_port)
        return server_port;
    int in[2], out[2];
    char text[16] = "";
    const char *script = getenv("AGON_TEST_SERVER");
    if (!script || pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC))
        return 1;
    server_pid = fork();
    if (server_pid == 0) {
        dup2(in[0], STDIN_FILENO);
        dup2(out[1], STDOUT_FILENO);
        execlp("python3", "python3", script, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    /* To the end of the line: an unbuffered Python writes the newline by itself. */
    for (size_t n = 0; n < sizeof(text) - 1 && !strchr(text, '\n'); n++)
        if (read(out[0], text + n, 1) <= 0)
            break;
    server_port = atoi(text);
    close(out[0]);
    atexit(server_stop);
    return server_port;
}

static const char *url(const char *path)
{
    static char text[8][200];
    static int next;
    char *at = text[next++ % 8];
    snprintf(at, sizeof(text[0]), "http://127.0.0.1:%d/%s", port(), path);
    return at;
}

static struct agon_http *client(void)
{
    struct agon_http *h = NULL;
    struct agon_err err = {0};
    if (agon_http_new(&h, &err))
        printf("# %s\n", err.text);
    return h;
}

/* One GET with a fresh client. */
static struct agon_http_response get(struct agon_http_request req)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = client();
    struct agon_http_response r = {.end = AGON_HTTP_FAILED, .reason = "no response"};
    struct agon_err err = {0};
    if (!req.body_bytes_max)
        req.body_bytes_max = 10000;
    if (!EXPECT(h && agon_http_run(h, &req, &r, &err) == 0))
        printf("# %s\n", err.text);
    return r;
}
#define GET(...)                                                       \
    struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = \
        get((struct agon_http_request){__VA_ARGS__})

TEST(a_page_comes_whole)
{
    GET(.url = url("ok"));
    EXPECT(r.end == AGON_HTTP_OK && r.status == 200 && r.wall_ms >= 0);
    EXPECT(agon_str_equal(agon_buf_str(&r.body), (struct agon_str){"fine\0\xFF", 6}));
    EXPECT_TEXT(r.content_type, "text/html; charset=utf-8");
    EXPECT_TEXT(r.location, "");
    EXPECT_TEXT(r.retry_after, "");
    EXPECT_TEXT(r.reason, "");
}

TEST(a_missing_page_is_a_complete_response)
{
    GET(.url = url("nowhere"));
    EXPECT(r.end == AGON_HTTP_OK && r.status == 404);
    EXPECT_TEXT(agon_buf_text(&r.body), "nothing here");
}

TEST(a_post_carries_its_bytes_and_headers)
{
    static const char *const headers[] = {"Content-Type: application/json",
                                          "Authorization: Bearer k", NULL};
    GET(.url = url("echo"), .post_body = "a\0b", .post_size = 3, .headers = headers,
        .user_agent = "agon/1");
    EXPECT(r.end == AGON_HTTP_OK && r.status == 200);
    EXPECT_HAS(agon_buf_text(&r.body), "Content-Type: application/json");
    EXPECT_HAS(agon_buf_text(&r.body), "Authorization: Bearer k");
    EXPECT_HAS(agon_buf_text(&r.body), "User-Agent: agon/1");
    EXPECT(r.body.size > 4 && memcmp(r.body.data + r.body.size - 4, "|a\0b", 4) == 0);
}

TEST(a_post_of_no_bytes_is_still_a_post)
{
    GET(.url = url("echo"), .post_body = "", .post_size = 0);
    EXPECT_HAS(agon_buf_text(&r.body), "Content-Length: 0");
}

TEST(no_compressed_body_is_asked_for)
{
    GET(.url = url("headers"));
    EXPECT_HAS(agon_buf_text(&r.body), "Host: 127.0.0.1");
    EXPECT(!strstr(agon_buf_text(&r.body), "Accept-Encoding"));
    EXPECT(!strstr(agon_buf_text(&r.body), "Expect"));
}

TEST(redirects_are_shown_and_not_followed)
{
    GET(.url = url("redirect"));
    EXPECT(r.end == AGON_HTTP_OK && r.status == 302);
    EXPECT_TEXT(r.location, url("ok?x=1"));
    EXPECT_TEXT(agon_buf_text(&r.body), "moved");
}

TEST(retry_after_is_handed_on)
{
    GET(.url = url("busy"));
    EXPECT(r.end == AGON_HTTP_OK && r.status == 503);
    EXPECT_TEXT(r.retry_after, "17");
}

TEST(a_body_of_exactly_the_limit_is_fine)
{
    GET(.url = url("sized"), .body_bytes_max = 100000);
    EXPECT(r.end == AGON_HTTP_OK && r.body.size == 100000);
}

TEST(a_body_that_announces_too_much_is_not_even_read)
{
    GET(.url = url("sized"), .body_bytes_max = 99999);
    EXPECT(r.end == AGON_HTTP_TOO_BIG && r.body.size == 0 && r.status == 0);
    EXPECT_TEXT(r.reason, "the body is over the limit");
}

TEST(an_endless_body_ends_at_the_limit)
{
    GET(.url = url("endless"), .body_bytes_max = 12345);
    EXPECT(r.end == AGON_HTTP_TOO_BIG && r.body.size == 12345);
}

TEST(endless_headers_end_too)
{
    GET(.url = url("headers_endless"));
    EXPECT(r.end == AGON_HTTP_FAILED);
    EXPECT_TEXT(r.reason, "the headers are over the limit");
}

TEST(a_stall_ends_after_its_time)
{
    GET(.url = url("stall"), .stall_ms = 1000);
    EXPECT(r.end == AGON_HTTP_FAILED && r.wall_ms > 500 && r.wall_ms < 8000);
    EXPECT_TEXT(agon_buf_text(&r.body), "half");
    EXPECT_HAS(r.reason, "too slow");
}

TEST(a_trickle_ends_at_the_total_time)
{
    GET(.url = url("trickle"), .total_ms = 700, .stall_ms = 5000);
    EXPECT(r.end == AGON_HTTP_FAILED && r.wall_ms >= 600 && r.wall_ms < 4000);
    EXPECT_HAS(r.reason, "timed out");
}

TEST(a_body_that_breaks_off_is_a_failure)
{
    GET(.url = url("broken"));
    EXPECT(r.end == AGON_HTTP_FAILED && r.status == 0);
    EXPECT_TEXT(agon_buf_text(&r.body), "short");
    EXPECT(r.reason[0]);
}

TEST(bad_addresses_fail_with_a_reason)
{
    static const char *const urls[] = {
        "file:///etc/passwd",  "ftp://127.0.0.1/",    "gopher://x/", "", "http://",
        "http://127.0.0.1:1/", "http://name.invalid/"};
    char with_name[100];
    snprintf(with_name, sizeof(with_name), "http://user:secret@127.0.0.1:%d/ok", port());
    for (size_t i = 0; i <= sizeof(urls) / sizeof(urls[0]); i++) {
        GET(.url = i < sizeof(urls) / sizeof(urls[0]) ? urls[i] : with_name);
        EXPECT(r.end == AGON_HTTP_FAILED && r.reason[0] && r.body.size == 0);
        EXPECT(!strstr(r.reason, "secret"));
    }
}

struct rule {
    char seen[100];
    int n_asked, port;
    bool refuse;
};

static int rule_ask(void *user, const char *ip, int asked_port)
{
    struct rule *rule = user;
    snprintf(rule->seen, sizeof(rule->seen), "%s", ip);
    rule->port = asked_port;
    rule->n_asked++;
    return rule->refuse;
}

/* A socket of our own, where a connection would wait to be accepted. */
TEST(a_refused_address_gets_no_packet)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof(at);
    REQUIRE(fd >= 0 && bind(fd, (struct sockaddr *)&at, size) == 0 && listen(fd, 5) == 0 &&
            getsockname(fd, (struct sockaddr *)&at, &size) == 0);
    char text[100];
    snprintf(text, sizeof(text), "http://127.0.0.1:%d/", ntohs(at.sin_port));
    struct rule rule = {.refuse = true};
    GET(.url = text, .allow_address = rule_ask, .user = &rule);
    EXPECT(r.end == AGON_HTTP_REFUSED);
    EXPECT(accept(fd, NULL, NULL) == -1 && errno == EAGAIN);
    close(fd);
}

TEST(a_rule_hears_address_and_port)
{
    struct rule rule = {.refuse = true};
    GET(.url = url("ok"), .allow_address = rule_ask, .user = &rule);
    EXPECT(r.end == AGON_HTTP_REFUSED);
    EXPECT_TEXT(r.reason, "the address is not allowed");
    EXPECT_TEXT(rule.seen, "127.0.0.1");
    EXPECT(rule.port == port());
}

TEST(names_are_judged_by_the_address_they_resolve_to)
{
    struct rule rule = {.refuse = true};
    char text[100];
    snprintf(text, sizeof(text), "http://localhost:%d/ok", port());
    GET(.url = text, .allow_address = rule_ask, .user = &rule);
    EXPECT(r.end == AGON_HTTP_REFUSED);
    EXPECT(strcmp(rule.seen, "127.0.0.1") == 0 || strcmp(rule.seen, "::1") == 0);
}

TEST(an_ipv4_address_in_ipv6_clothes_is_seen_as_ipv4)
{
    struct rule rule = {.refuse = true};
    char text[100];
    snprintf(text, sizeof(text), "http://[::ffff:127.0.0.1]:%d/ok", port());
    GET(.url = text, .allow_address = rule_ask, .user = &rule);
    EXPECT(r.end == AGON_HTTP_REFUSED || rule.n_asked == 0); /* 0: a host without IPv6 */
    EXPECT(rule.n_asked == 0 || strcmp(rule.seen, "127.0.0.1") == 0);
}

TEST(a_rule_that_allows_lets_the_request_through)
{
    struct rule rule = {0};
    GET(.url = url("ok"), .allow_address = rule_ask, .user = &rule);
    EXPECT(r.end == AGON_HTTP_OK && rule.n_asked >= 1);
}

TEST(a_reused_connection_is_judged_again)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = client();
    struct rule rule = {.refuse = true};
    struct agon_http_request req = {.url = url("peer"), .body_bytes_max = 100};
    struct agon_http_response a AGON_AUTO(agon_http_response_deinit) = {0};
    struct agon_http_response b AGON_AUTO(agon_http_response_deinit) = {0};
    struct agon_http_response c AGON_AUTO(agon_http_response_deinit) = {0};
    REQUIRE(agon_http_run(h, &req, &a, NULL) == 0 && agon_http_run(h, &req, &b, NULL) == 0);
    EXPECT_TEXT(agon_buf_text(&a.body), agon_buf_text(&b.body)); /* connections are reused */
    req.allow_address = rule_ask;
    req.user = &rule;
    REQUIRE(agon_http_run(h, &req, &c, NULL) == 0);
    EXPECT(c.end == AGON_HTTP_REFUSED);
}

TEST(a_rule_turns_the_environments_proxy_off)
{
    struct rule rule = {0};
    setenv("http_proxy", "http://127.0.0.1:1", 1);
    {
        GET(.url = url("ok"), .allow_address = rule_ask, .user = &rule);
        EXPECT(r.end == AGON_HTTP_OK);
    }
    GET(.url = url("ok"));
    EXPECT(r.end == AGON_HTTP_FAILED);
    unsetenv("http_proxy");
}

TEST(many_requests_run_at_once)
{
    enum { N = 8 };
    struct agon_http *h AGON_AUTO(agon_http_freep) = client();
    struct agon_http_request req = {.url = url("slow"), .body_bytes_max = 100};
    struct agon_http_transfer *t[N];
    for (int i = 0; i < N; i++)
        REQUIRE(agon_http_start(&t[i], h, &req, NULL) == 0);
    int64_t most = 0;
    for (int n_left = N; n_left > 0;) {
        REQUIRE(agon_http_poll(h, 1000, NULL) == 0);
        for (int i = 0; i < N; i++) {
            struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = {0};
            if (!t[i] || agon_http_take(t[i], &r, NULL) != 1)
                continue;
            EXPECT(r.end == AGON_HTTP_OK);
            EXPECT_TEXT(agon_buf_text(&r.body), "slow");
            most = r.wall_ms > most ? r.wall_ms : most;
            t[i] = NULL;
            n_left--;
        }
    }
    EXPECT(most < 2400); /* one after the other they would take 3200 ms */
}

TEST(a_cancelled_request_and_those_in_flight_end_with_the_client)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = client();
    struct agon_http_request req = {.url = url("stall"), .body_bytes_max = 100};
    struct agon_http_transfer *a = NULL, *b = NULL, *c = NULL;
    REQUIRE(agon_http_start(&a, h, &req, NULL) == 0 && agon_http_start(&b, h, &req, NULL) == 0 &&
            agon_http_start(&c, h, &req, NULL) == 0);
    REQUIRE(agon_http_poll(h, 50, NULL) == 0);
    struct agon_http_response r = {0};
    REQUIRE(agon_http_take(b, &r, NULL) == 0); /* not over */
    agon_http_cancel(b);
}
