/* Row H of the threat model: servers that lie, hang and flood, as a page's host. */
#include "tests/attacks/webdoor.h"

#include "base/file.h"
#include "synth/retrieval.h"

#include <sys/wait.h>
#include <unistd.h>

/* The response of this path ends so, and nothing of its body is taken for a whole one. */
static void expect_end(const char *path, enum agon_http_end end, const char *part)
{
    struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = web_get(path);
    if (!EXPECT(r.end == end) || !EXPECT(part == NULL || strstr(r.reason, part)))
        printf("# %s: end %d, status %ld, reason '%s', %zu bytes\n", path, (int)r.end, r.status,
               r.reason, r.body.size);
}

ATTACK(H1_a_server_that_never_answers)
{
    expect_end("never", AGON_HTTP_FAILED, "too slow");
}

ATTACK(H1_headers_a_line_a_minute)
{
    expect_end("slow", AGON_HTTP_FAILED, NULL);
}

ATTACK(H1_a_body_that_stalls)
{
    expect_end("stall", AGON_HTTP_FAILED, NULL);
}

ATTACK(H1_a_body_that_drips)
{
    expect_end("drip", AGON_HTTP_FAILED, "timed out");
}

ATTACK(H1_a_handshake_that_stalls)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = NULL;
    struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = {0};
    struct agon_err err = {0};
    char url[64];
    snprintf(url, sizeof(url), "https://127.0.0.1:%d/", web_port(WEB_PLAIN));
    struct agon_http_request req = {.url = url, .body_bytes_max = 1000, .connect_ms = 700};
    REQUIRE(agon_http_new(&h, &err) == 0 && agon_http_run(h, &req, &r, &err) == 0);
    EXPECT(r.end == AGON_HTTP_FAILED && r.wall_ms < 5000);
}

/* One server that hangs holds nobody else up. */
ATTACK(H1_others_go_on)
{
    struct agon_http *h AGON_AUTO(agon_http_freep) = NULL;
    struct agon_http_transfer *hung[8], *good = NULL;
    struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = {0};
    struct agon_err err = {0};
    REQUIRE(agon_http_new(&h, &err) == 0);
    for (int i = 0; i < 8; i++) {
        struct agon_http_request req = {.url = web_url(WEB_PLAIN, "never"), .body_bytes_max = 1000};
        EXPECT(agon_http_start(&hung[i], h, &req, &err) == 0);
    }
    struct agon_http_request req = {.url = web_url(WEB_PLAIN, "plain"), .body_bytes_max = 1000};
    REQUIRE(agon_http_start(&good, h, &req, &err) == 0);
    int done = 0;
    for (int i = 0; i < 100 && done == 0; i++)
        done = agon_http_poll(h, 50, &err) ? -1 : agon_http_take(good, &r, &err);
    EXPECT(done == 1 && r.end == AGON_HTTP_OK);
}

ATTACK(H3_lengths_that_lie)
{
    static const char *const broken[] = {"short",    "length_huge", "length_text",
                                         "negative", "two_lengths", "both"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++)
        expect_end(broken[i],
                   strcmp(broken[i], "length_huge") == 0 ? AGON_HTTP_TOO_BIG : AGON_HTTP_FAILED,
                   NULL);
    struct agon_http_response r AGON_AUTO(agon_http_response_deinit) = web_get("long");
    EXPECT(r.end == AGON_HTTP_OK && strcmp(agon_buf_text(&r.body), "hello") == 0);
}

ATTACK(H3_chunks_that_lie)
{
    static const char *const broken[] = {"chunk_garbage", "chunk_huge",    "chunk_negative",
                                         "chunk_short",   "chunk_unended", "chunk_no_crlf",
                                         "te_gzip"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++)
        expect_end(broken[i], AGON_HTTP_FAILED, NULL);
}

ATTACK(H3_answers_that_are_none)
{
    static const char *const broken[] = {"early",  "nothing",     "garbage",
                                         "http09", "status_huge", "status_text"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++)
        expect_end(broken[i], AGON_HTTP_FAILED, NULL);
}

ATTACK(X_floods_end_at_their_limits)
{
    expect_end("endless", AGON_HTTP_TOO_BIG, NULL);
    expect_end("chunk_endless", AGON_HTTP_TOO_BIG, NULL);
    expect_end("headers", AGON_HTTP_FAILED, "the headers are over the limit");
    expect_end("header_long", AGON_HTTP_FAILED, NULL);
    expect_end("continues", AGON_HTTP_FAILED, "the headers are over the limit");
    expect_end("chunk_trailers", AGON_HTTP_FAILED, "the headers are over the limit");
    expect_end("chunk_extension", AGON_HTTP_FAILED, NULL); /* 3 s of extensions at most */
}

ATTACK(H4_redirects_lead_nowhere_they_may_not)
{
    static const struct {
        const char *path, *part;
    } cases[] = {{"redirect_file", "is no http or https address"},
                 {"redirect_gopher", "is no http or https address"},
                 {"redirect_data", "is no http or https address"},
                 {"redirect_user", "is no http or https address"},
                 {"redirect_loop", "redirects more than 5 times"},
                 {"redirect_metadata", "is a private address"},
                 {"redirect_private", "is a private address"},
                 {"redirect_number", "is a private address"},
                 {"redirect_mapped", "is a private address"},
                 {"redirect_long", "answered with status 302"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        EXPECT(web_fetch(WEB_PLAIN, cases[i].path) == AGON_FETCH_REFUSED);
        EXPECT_HAS(web_said, cases[i].part);
    }
}

ATTACK(H4_nothing_is_carried_to_another_host)
{
    EXPECT(web_fetch(WEB_PLAIN, "cookies") == 0);
    EXPECT(web_fetch(WEB_PLAIN, "redirect_other") == AGON_FETCH_REFUSED); /* 404 there */
    EXPECT(web_seen("/visited") == 1);
    EXPECT(web_seen("cookie") == 0 + web_seen("GET /cookies") && web_seen("key") == 0 &&
           web_seen("referer") == 0);
    EXPECT(web_fetch(WEB_PLAIN, "auth") == AGON_FETCH_REFUSED && web_seen("GET /auth") == 1);
}

ATTACK(H5_compressed_bodies_are_refused)
{
    static const char *const coded[] = {"gzip", "deflate", "br", "zstd"};
    for (size_t i = 0; i < sizeof(coded) / sizeof(*coded); i++)
        expect_end(coded[i], AGON_HTTP_FAILED, "the body is compressed, which was not asked for");
}

ATTACK(H7_names_that_lead_nowhere)
{
    static const struct {
        const char *url, *part;
    } cases[] = {{"http://no-such-host.invalid/", "can't be read"},
                 {"http://", "is no http or https address"},
                 {"http:///x", "is no http or https address"},
                 {"https://user@h/", "is no http or https address"},
                 {"HTTP://127.0.0.1/", "is no http or https address"},
                 {"ftp://h/", "is no http or https address"},
                 {"http://127.0.0.1:1/", "is a private address"},
                 {"http://127.0.0.1:99999/", "can't be read"},
                 {"http://a b/", "can't be read"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        EXPECT(web_fetch(WEB_PLAIN, cases[i].url) == AGON_FETCH_REFUSED);
        EXPECT_HAS(web_said, cases[i].part);
    }
}

/* All the spellings of this machine and its neighbours. */
ATTACK(X_private_addresses_in_any_spelling)
{
    static const char *const urls[] = {"http://127.1/",
                                       "http://2130706433/",
                                       "http://0x7f000001/",
                                       "http://0177.0.0.1/",
                                       "http://127.0.0.1./",
                                       "http://localhost/",
                                       "http://LOCALHOST./",
                                       "http://0/",
                                       "http://0.0.0.0/",
                                       "http://[::1]/",
                                       "http://[::]/",
                                       "http://[::ffff:7f00:1]/",
                                       "http://[::ffff:127.0.0.1]/",
                                       "http://[::127.0.0.1]/",
                                       "http://[fe80::1]/",
                                       "http://[fd00::1]/",
                                       "http://[64:ff9b::7f00:1]/",
                                       "http://[2002:7f00:1::]/",
                                       "http://169.254.169.254/",
                                       "http://10.0.0.1/",
                                       "http://192.168.1.1/",
                                       "http://172.31.255.255/",
                                       "http://100.64.0.1/",
                                       "http://224.0.0.1/",
                                       "http://255.255.255.255/",
                                       "http://\xef\xbc\x91\xef\xbc\x92\xef\xbc\x97.0.0.1/",
                                       "http://\xe2\x91\xa0\xe2\x91\xa1\xe2\x91\xa6.0.0.1/",
                                       "http://%31%32%37.0.0.1/"};
    b->seconds_max = 60;
    for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
        EXPECT(web_fetch(WEB_PLAIN, urls[i]) == AGON_FETCH_REFUSED);
        if (!EXPECT(strstr(web_said, "private address") || strstr(web_said, "resolve") ||
                    strstr(web_said, "bad") || strstr(web_said, "Malformed")))
            printf("# %s: %s\n", urls[i], web_said);
    }
}

ATTACK(X_public_and_private_addresses_are_told_apart)
{
    static const char *const private[] = {"0.1.2.3",
                                          "10.9.8.7",
                                          "100.127.0.1",
                                          "127.255.0.1",
                                          "169.254.0.1",
                                          "172.16.0.1",
                                          "192.0.0.8",
                                          "192.0.2.1",
                                          "192.88.99.1",
                                          "192.168.0.1",
                                          "198.19.0.1",
                                          "198.51.100.1",
                                          "203.0.113.9",
                                          "240.0.0.1",
                                          "::",
                                          "::1",
                                          "::7f00:1",
                                          "::ffff:10.0.0.1",
                                          "64:ff9b::a00:1",
                                          "64:ff9b:1::1",
                                          "100::1",
                                          "2001::1",
                                          "2001:db8::1",
                                          "2002:a00:1::1",
                                          "3fff::1",
                                          "fc00::1",
                                          "fe80::1",
                                          "fec0::1",
                                          "ff02::1",
                                          "no address",
                                          ""};
    static const char *const public[] = {"1.1.1.1",        "100.63.0.1",       "172.32.0.1",
                                         "192.167.0.1",    "2606:4700::1111",  "2a00::1",
                                         "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"};
    for (size_t i = 0; i < sizeof(private) / sizeof(*private); i++)
        if (!EXPECT(agon_fetcher_address_is_private(private[i])))
            printf("# %s\n", private[i]);
    for (size_t i = 0; i < sizeof(public) / sizeof(*public); i++)
        if (!EXPECT(!agon_fetcher_address_is_private(public[i])))
            printf("# %s\n", public[i]);
}

ATTACK(X_robots_txt_that_is_a_bomb)
{
    b->seconds_max = 60;
    char path[1100] = "a";
    for (int i = 0; i < 400; i++)
        path[i] = 'a';
    EXPECT(web_fetch(WEB_STARS, path) == AGON_FETCH_REFUSED); /* cannot be followed in time */
    EXPECT(web_fetch(WEB_RULES, "plain") == 0 && web_fetch(WEB_LINE, "plain") == 0);
    EXPECT(web_fetch(WEB_DELAY, "plain") == 0 && web_fetch(WEB_BINARY, "plain") == 0);
    EXPECT(web_fetch(WEB_ENDLESS, "plain") == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "its robots.txt is too big");
    EXPECT(web_fetch(WEB_HANG, "plain") == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "can't be read");
}

/* That a host is allowed by name allows no other one to which its robots.txt points. */
ATTACK(X_robots_txt_leads_to_no_private_address)
{
    EXPECT(web_fetch(WEB_REDIRECT, "plain") == AGON_FETCH_REFUSED);
    EXPECT_HAS(web_said, "private address");
}

ATTACK(X_a_host_that_hangs_is_left_alone)
{
    const char *const hosts[] = {"127.0.0.1", NULL};
    struct agon_fetcher_options o = {.parser = web_parser(),
                                     .user_agent = "agon/test",
                                     .allow_hosts = hosts,
                                     .delay_ms = -1,
                                     .bytes_max = 1000,
                                     .wall_ms = 1000};
    struct agon_fetcher *f AGON_AUTO(agon_fetcher_freep) = NULL;
    struct agon_err err = {0};
    REQUIRE(agon_fetcher_new(&f, &o, &err) == 0);
    int asked = web_seen("/stall");
    for (int i = 0; i < 50; i++) {
        struct agon_fetched got = {0};
        struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
        EXPECT(agon_fetcher_get(f, web_url(WEB_PLAIN, "stall"), &got, &reason, &err) ==
               AGON_FETCH_REFUSED);
        EXPECT(i < 3 || strstr(agon_buf_text(&reason), "can't be read"));
    }
    EXPECT(web_seen("/stall") - asked == 3);
}

/* Three hundred hosts: the table of hosts turns over, and the first is still served. */
ATTACK(X_many_hosts_push_nobody_out)
{
    const char *const hosts[] = {"127.0.0.1", NULL};
    struct agon_fetcher_options o = {.parser = web_parser(),
                                     .user_agent = "agon/test",
                                     .allow_hosts = hosts,
                                     .delay_ms = -1,
                                     .bytes_max = 1000,
                                     .wall_ms = 2000};
    struct agon_fetcher *f AGON_AUTO(agon_fetcher_freep) = NULL;
    struct agon_err err = {0};
    REQUIRE(agon_fetcher_new(&f, &o, &err) == 0);
    for (int i = 0; i <= 300; i++) {
        char url[128];
        struct agon_fetched got = {0};
        struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
        snprintf(url, sizeof(url), "http://127.0.1.%d:%d/", i % 250, 2000 + i);
        const char *at = i == 300 ? web_url(WEB_PLAIN, "plain") : url;
        EXPECT(agon_fetcher_get(f, at, &got, &reason, &err) == (i == 300 ? 0 : AGON_FETCH_REFUSED));
        agon_fetched_deinit(&got);
    }
}

/* What a search says whose endpoint is http://.../MODE. */
static void search(const char *mode)
{
    struct agon_err err = {0};
    char dir[300], url[200];
    snprintf(dir, sizeof(dir), "%s/library", test_folder());
    snprintf(url, sizeof(url), "%s", web_url(WEB_PLAIN, mode));
    struct agon_library_options o = {.dir = dir, .searxng_url = url, .delay_ms = -1};
    struct agon_library *lib AGON_AUTO(agon_library_closep) = NULL;
    struct agon_retrieval *r AGON_AUTO(agon_retrieval_freep) = NULL;
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    if (!EXPECT(agon_library_open(&lib, &o, &err) == 0 && agon_retrieval_new(&r, lib, &err) == 0 &&
                agon_retrieval_search(r, "anything", &result, &err) == 0))
        printf("# %s: %s\n", mode, err.text);
    snprintf(web_said, sizeof(web_said), "%s", agon_buf_text(&result));
    EXPECT(result.size < sizeof(web_said));
}

/* A search that gets nothing from its endpoint goes on without it; hits are lines of ours. */
ATTACK(X_a_search_endpoint_that_lies)
{
    static const char *const none[] = {"short",   "chunk_garbage", "gzip",     "plain",
                                       "nothing", "garbage",       "endless",  "headers",
                                       "deep",    "not_utf8",      "both",     "redirect_other",
                                       "auth",    "header_long",   "duplicate"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++) {
        search(none[i]);
        if (!EXPECT_TEXT(web_said, "no hits\n"))
            printf("# %s\n", none[i]);
    }
    search("hits");
    EXPECT_HAS(web_said, "1. http://good/\n   a 2. http://forged/    t [2J\n   ccc");
    EXPECT(!strstr(web_said, "\n2. ") && !strstr(web_said, "javascript") && !strchr(web_said, 27));
}
