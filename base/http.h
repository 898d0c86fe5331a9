#pragma once
/*
 * The HTTP client: libcurl behind one struct, several transfers at once in one
 * multi handle. Only http and https; redirects are off (callers follow them
 * under their own rules); bodies are capped; connect, stall and total time limits.
 * Secrets go in headers given here and are never logged.
 */
#include "base/buf.h"
#include "base/err.h"

#include <stdint.h>

struct agon_http;          /* one multi handle */
struct agon_http_transfer; /* one request in flight */

struct agon_http_request {
    const char *url;
    const char *post_body; /* NULL: GET */
    size_t post_size;
    const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
    const char *user_agent;
    size_t body_bytes_max;
    /* 0: the defaults (10 s, 20 s, 120 s). A stall is a time without any byte, so an
     * endpoint that thinks long before it answers needs a longer one. */
    int connect_ms, stall_ms, total_ms;
    /* Called with the peer's address before anything is sent; non-zero refuses
     * (private addresses). NULL allows all, and only then are the proxies used
     * that the environment names. IPv4 addresses within IPv6 come as IPv4. */
    int (*allow_address)(void *user, const char *ip, int port);
    void *user;
};

enum agon_http_end {
    AGON_HTTP_OK,      /* a complete response of any status */
    AGON_HTTP_REFUSED, /* allow_address said no */
    AGON_HTTP_TOO_BIG, /* over body_bytes_max */
    AGON_HTTP_FAILED,  /* could not connect, timed out, broke off: see reason */
};
struct agon_http_response {
    enum agon_http_end end;
    long status;          /* 200, 404, ... when end is OK */
    struct agon_buf body; /* owned by the response; what came of it when end is not OK */
    char content_type[128];
    char location[2048]; /* absolute URL of a redirect, or "" (also when longer) */
    char retry_after[64];
    char reason[256]; /* libcurl's words when end is not OK */
    int64_t wall_ms;
};
void agon_http_response_deinit(struct agon_http_response *r);

int agon_http_new(struct agon_http **ret, struct agon_err *err) AGON_MUST_USE;
/* Ends and frees all transfers still in flight. */
void agon_http_free(struct agon_http *h);
AGON_DEFINE_FREEP(struct agon_http, agon_http_free)

/* Start a request; everything in req is copied. */
int agon_http_start(struct agon_http_transfer **ret, struct agon_http *h,
                    const struct agon_http_request *req, struct agon_err *err) AGON_MUST_USE;
/* Move all transfers on, waiting at most wait_ms for something to happen. */
int agon_http_poll(struct agon_http *h, int wait_ms, struct agon_err *err) AGON_MUST_USE;
/* The response when the transfer is over (fill ret, free the transfer, return 1), else 0.
 * <0 (out of memory) frees the transfer too. */
int agon_http_take(struct agon_http_transfer *t, struct agon_http_response *ret,
                   struct agon_err *err) AGON_MUST_USE;
void agon_http_cancel(struct agon_http_transfer *t);
/* One request to its end. */
int agon_http_run(struct agon_http *h, const struct agon_http_request *req,
                  struct agon_http_response *ret, struct agon_err *err) AGON_MUST_USE;
