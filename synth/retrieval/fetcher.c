/* Fetching: see fetcher.h. */
#include "synth/retrieval/fetcher.h"

#include "base/clock.h"
#include "base/http.h"
#include "synth/retrieval/parser.h"
#include "synth/retrieval/robots.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    FETCH_REDIRECTS_MAX = 5,
    FETCH_HOSTS_MAX = 256,
    FETCH_DELAY_MS = 1000,
    FETCH_ROBOTS_MAX = 512 << 10,
    FETCH_WALL_MS = 180 * 1000,
    FETCH_FAILURES_MAX = 3, /* in a row, then the host is left alone */
};

struct host {
    char origin[300];           /* "http://host:port" */
    struct agon_robots *robots; /* NULL: everything is allowed */
    bool known, closed;         /* closed: robots.txt could not be had, so nothing may be read */
    bool named;                 /* on the list of allowed hosts */
    int64_t last_ms;
    int n_failures; /* in a row */
    char why[160];  /* closed: what went wrong */
};

struct agon_fetcher {
    struct agon_http *http;
    struct agon_fetcher_options options; /* strings borrowed */
    char product[64];
    struct host hosts[FETCH_HOSTS_MAX];
    int n_hosts;
    int64_t deadline_ms; /* of the fetch at work */
};

int agon_fetcher_new(struct agon_fetcher **ret, const struct agon_fetcher_options *options,
                     struct agon_err *err)
{
    struct agon_fetcher *f AGON_AUTO(agon_fetcher_freep) = calloc(1, sizeof(*f));
    if (!f)
        return agon_fail(err, AGON_ENOMEM, "fetcher: out of memory");
    f->options = *options;
    snprintf(f->product, sizeof(f->product), "%.*s", (int)strcspn(options->user_agent, "/ "),
             options->user_agent);
    int r = agon_http_new(&f->http, err);
    if (r)
        return r;
    *ret = AGON_STEAL(f);
    return 0;
}

void agon_fetcher_free(struct agon_fetcher *f)
{
    if (!f)
        return;
    for (int i = 0; i < f->n_hosts; i++)
        agon_robots_free(f->hosts[i].robots);
    agon_http_free(f->http);
    free(f);
}

void agon_fetched_deinit(struct agon_fetched *f)
{
    free(f->url);
    agon_buf_deinit(&f->body);
}

/* ---- addresses */

/* RFC 6890's special-purpose blocks: nothing there is a public site. */
static bool ipv4_is_private(uint32_t a)
{
    static const struct {
        uint32_t net;
        int bits;
    } blocks[] = {{0x00000000, 8},  {0x0A000000, 8},  {0x64400000, 10}, {0x7F000000, 8},
                  {0xA9FE0000, 16}, {0xAC100000, 12}, {0xC0000000, 24}, {0xC0000200, 24},
                  {0xC0586300, 24}, {0xC0A80000, 16}, {0xC6120000, 15}, {0xC6336400, 24},
                  {0xCB007100, 24}, {0xE0000000, 3}};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
        if ((a & ~(UINT32_MAX >> blocks[i].bits)) == blocks[i].net)
            return true;
    return false;
}

static uint32_t ipv4_at(const uint8_t *b)
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* Public is what is global unicast (2000::/3) but not set aside within that, and what leads to
 * a public IPv4 address: mapped, by NAT64 (RFC 6052) or by 6to4 (RFC 3056). */
static bool ipv6_is_private(const uint8_t *b)
{
    static const uint8_t mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF};
    static const uint8_t nat64[12] = {0, 0x64, 0xFF, 0x9B};
    if (memcmp(b, mapped, 12) == 0 || memcmp(b, nat64, 12) == 0)
        return ipv4_is_private(ipv4_at(b + 12));
    if ((b[0] & 0xE0) != 0x20)
        return true;
    if (b[0] == 0x20 && b[1] == 0x02)
        return ipv4_is_private(ipv4_at(b + 2));
    bool protocols = b[0] == 0x20 && b[1] == 0x01 && b[2] < 2; /* Teredo and others */
    bool documents = (b[0] == 0x20 && b[1] == 0x01 && b[2] == 0x0D && b[3] == 0xB8) ||
                     (b[0] == 0x3F && b[1] == 0xFF && b[2] < 16);
    return protocols || documents;
}

bool agon_fetcher_address_is_private(const char *ip)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, ip, &v4) == 1)
        return ipv4_is_private(ntohl(v4.s_addr));
    return inet_pton(AF_INET6, ip, &v6) != 1 || ipv6_is_private(v6.s6_addr);
}

static int allow_address(void *user, const char *ip, int port)
{
    (void)port;
    const struct host *host = user;
    return !host->named && agon_fetcher_address_is_private(ip);
}

/* ---- hosts */

static bool host_is_named(const struct agon_fetcher *f, const char *url)
{
    const char *at = strstr(url, "://") + 3;
    char host[300];
    if ((size_t)snprintf(host, sizeof(host), "%.*s", (int)strcspn(at, "/?#"), at) >= sizeof(host))
        return false;
    size_t bare = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    for (const char *const *h = f->options.allow_hosts; h && *h; h++)
        if (strcmp(*h, host) == 0 || (strlen(*h) == bare && strncmp(*h, host, bare) == 0))
            return true;
    return false;
}

/* Where there is no room for another host, the one that was asked longest ago is forgotten. */
static struct host *host_oldest(struct agon_fetcher *f)
{
    struct host *oldest = &f->hosts[0];
    for (int i = 1; i < f->n_hosts; i++)
        if (f->hosts[i].last_ms < oldest->last_ms)
            oldest = &f->hosts[i];
    agon_robots_free(oldest->robots);
    return oldest;
}

/* The host's entry; *ret_path is where its path begins. NULL: no address that can be fetched. */
static struct host *host_of(struct agon_fetcher *f, const char *url, const char **ret_path)
{
    size_t scheme = strncmp(url, "http://", 7) == 0 ? 7 : strncmp(url, "https://", 8) == 0 ? 8 : 0;
    size_t size = scheme ? scheme + strcspn(url + scheme, "/?#") : 0;
    if (size == scheme || size >= sizeof(f->hosts[0].origin) ||
        memchr(url + scheme, '@', size - scheme))
        return NULL;
    *ret_path = url[size] == '/' ? url + size : "/";
    for (int i = 0; i < f->n_hosts; i++)
        if (strlen(f->hosts[i].origin) == size && strncmp(f->hosts[i].origin, url, size) == 0)
            return &f->hosts[i];
    struct host *h = f->n_hosts < FETCH_HOSTS_MAX ? &f->hosts[f->n_hosts++] : host_oldest(f);
    *h = (struct host){.last_ms = INT64_MIN / 2};
    memcpy(h->origin, url, size);
    h->named = host_is_named(f, h->origin);
    return h;
}

static void be_polite(struct agon_fetcher *f, struct host *h)
{
    int delay = f->options.delay_ms >= 0 ? f->options.delay_ms : h->named ? 0 : FETCH_DELAY_MS;
    int asked = h->robots ? agon_robots_delay_ms(h->robots) : -1;
    int64_t wait = h->last_ms + (asked > delay ? asked : delay) - agon_clock_ms();
    if (wait > 0) {
        struct timespec t = {wait / 1000, wait % 1000 * 1000000};
        nanosleep(&t, NULL);
        f->deadline_ms += wait;
    }
    h->last_ms = agon_clock_ms();
}

static void close_host(struct host *h, const struct agon_http_response *res)
{
    h->closed = true;
    if (res->end == AGON_HTTP_OK)
        snprintf(h->why, sizeof(h->why), "its robots.txt answers with status %ld", res->status);
    else if (res->end == AGON_HTTP_REFUSED)
        snprintf(h->why, sizeof(h->why),
                 "it is a private address that is not on the list of allowed hosts");
    else
        snprintf(h->why, sizeof(h->why), "%.150s",
                 res->end == AGON_HTTP_TOO_BIG ? "its robots.txt is too big" : res->reason);
}

static int get_once(struct agon_fetcher *f, struct host *h, const char *url, size_t bytes_max,
                    struct agon_http_response *ret, struct agon_err *err)
{
    be_polite(f, h);
    int64_t left = f->deadline_ms - agon_clock_ms();
    struct agon_http_request req = {.url = url,
                                    .user_agent = f->options.user_agent,
                                    .body_bytes_max = bytes_max,
                                    .stall_ms = f->options.stall_ms,
                                    .total_ms = left > 0 ? (int)left : 1,
                                    .allow_address = allow_address,
                                    .user = h};
    int r = agon_http_run(f->http, &req, ret, err);
    h->n_failures = !r && ret->end == AGON_HTTP_FAILED ? h->n_failures + 1 : 0;
    if (h->n_failures >= FETCH_FAILURES_MAX)
        close_host(h, ret);
    return r;
}

/* From https to http is a step down that nobody asked for. */
static bool steps_down(const char *from, const char *to)
{
    return strncmp(from, "https:", 6) == 0 && strncmp(to, "http:", 5) == 0;
}

static bool is_web(const char *url)
{
    return strncmp(url, "http://", 7) == 0 || strncmp(url, "https://", 8) == 0;
}

/* Rules that cannot be read forbid everything. */
static int read_robots(struct agon_fetcher *f, struct host *h, const char *url,
                       struct agon_str text, struct agon_err *err)
{
    int r = agon_parser_robots(f->options.parser, url, text, f->product, &h->robots, err);
    if (r <= 0)
        return r;
    h->closed = true;
    snprintf(h->why, sizeof(h->why), "its robots.txt can't be read");
    return 0;
}

/* RFC 9309 section 2.3.1: 4xx means no rules, 5xx or no answer means keep out; redirects are
 * followed. */
static int learn_robots(struct agon_fetcher *f, struct host *h, struct agon_err *err)
{
    char url[2048];
    snprintf(url, sizeof(url), "%s/robots.txt", h->origin);
    struct host at = *h; /* what rules hold where a redirect leads; forgotten afterwards */
    at.robots = NULL;
    for (int hop = 0; hop <= FETCH_REDIRECTS_MAX; hop++) {
        struct agon_http_response res = {0};
        at.named = host_is_named(f, url);
        int r = get_once(f, &at, url, FETCH_ROBOTS_MAX, &res, err);
        if (r)
            return r;
        bool moved =
            res.end == AGON_HTTP_OK && res.status >= 300 && res.status < 400 && *res.location;
        if (moved && (!is_web(res.location) || steps_down(url, res.location)))
            moved = false; /* as a missing one: there are no rules */
        else if (moved)
            snprintf(url, sizeof(url), "%.2040s", res.location);
        else if (res.end == AGON_HTTP_OK && res.status == 200)
            r = read_robots(f, h, url, agon_buf_str(&res.body), err);
        else if (res.end != AGON_HTTP_OK || res.status >= 500)
            close_host(h, &res);
        agon_http_response_deinit(&res);
        if (r || !moved)
            break;
    }
    h->last_ms = at.last_ms;
    h->known = true;
    return 0;
}

static int refuse(struct agon_buf *reason, const char *fmt, ...) AGON_PRINTF(2, 3);
static int refuse(struct agon_buf *reason, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    agon_buf_addv(reason, fmt, ap);
    va_end(ap);
    return AGON_FETCH_REFUSED;
}

static int judge_response(const struct agon_fetcher *f, const struct host *h, const char *url,
                          const struct agon_http_response *res, struct agon_buf *reason)
{
    switch (res->end) {
    case AGON_HTTP_OK: break;
    case AGON_HTTP_REFUSED:
        return refuse(reason,
                      "%s is at a private address; its host is not on the list of allowed hosts",
                      h->origin);
    case AGON_HTTP_TOO_BIG:
        return refuse(reason, "%.200s is larger than %zu bytes", url, f->options.bytes_max);
    case AGON_HTTP_FAILED: return refuse(reason, "%.200s could not be read: %s", url, res->reason);
    }
    if (res->status != 200)
        return refuse(reason, "%.200s answered with status %ld", url, res->status);
    return 0;
}

int agon_fetcher_get(struct agon_fetcher *f, const char *address, struct agon_fetched *ret,
                     struct agon_buf *reason, struct agon_err *err)
{
    char url[2048];
    if (strlen(address) >= sizeof(url))
        return refuse(reason, "an address of %zu bytes is too long", strlen(address));
    snprintf(url, sizeof(url), "%.*s", (int)strcspn(address, "#"), address);
    f->deadline_ms = agon_clock_ms() + (f->options.wall_ms ? f->options.wall_ms : FETCH_WALL_MS);
    for (int hop = 0; hop <= FETCH_REDIRECTS_MAX; hop++) {
        const char *path;
        struct host *h = host_of(f, url, &path);
        if (!h)
            return refuse(reason, "%.200s is no http or https address", url);
        int r = h->known ? 0 : learn_robots(f, h, err);
        if (r)
            return r;
        if (h->closed)
            return refuse(reason, "%s can't be read: %s", h->origin, h->why);
        if (h->robots && !agon_robots_allow(h->robots, path))
            return refuse(reason, "robots.txt of %s forbids %.200s", h->origin, path);

        struct agon_http_response res = {0};
        if ((r = get_once(f, h, url, f->options.bytes_max, &res, err)))
            return r;
        if (res.end == AGON_HTTP_OK && res.status >= 300 && res.status < 400 && *res.location) {
            bool down = steps_down(url, res.location);
            snprintf(url, sizeof(url), "%.*s", (int)strcspn(res.location, "#"), res.location);
            agon_http_response_deinit(&res);
            if (down)
                return refuse(reason, "%.200s redirects from https to http", address);
            continue;
        }
        r = judge_response(f, h, url, &res, reason);
        if (!r && !(ret->url = strdup(url)))
            r = agon_fail(err, AGON_ENOMEM, "fetcher: out of memory");
        if (!r) {
            memcpy(ret->content_type, res.content_type, sizeof(ret->content_type));
            ret->body = res.body; /* handed over */
            res.body = (struct agon_buf)AGON_BUF(0);
        }
        agon_http_response_deinit(&res);
        return r;
    }
    return refuse(reason, "%.200s redirects more than %d times", address, FETCH_REDIRECTS_MAX);
}
