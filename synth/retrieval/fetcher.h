#pragma once
/*
 * Reading the web politely: robots.txt, one request at a time with a pause a host,
 * size, time and redirect limits, no private addresses unless their host is
 * allowed by name, and no way from https to http. A host that fails three times in a row is
 * not asked again. Every refusal is one sentence.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

struct agon_fetcher;
struct agon_parser;

struct agon_fetcher_options {
    struct agon_parser *parser;     /* borrowed: reads robots.txt, in a box */
    const char *user_agent;         /* "agon/0.1"; its product token is looked up in robots.txt */
    const char *const *allow_hosts; /* "host" or "host:port", NULL-terminated, or NULL */
    int delay_ms;                   /* <0: 1000, for allowed hosts 0 */
    size_t bytes_max;
    int stall_ms; /* without a byte; 0: 20 s */
    int wall_ms;  /* of one fetch, its redirects and robots.txt included, without the pauses of
                     politeness; 0: 3 minutes */
};
int agon_fetcher_new(struct agon_fetcher **ret, const struct agon_fetcher_options *options,
                     struct agon_err *err) AGON_MUST_USE;
void agon_fetcher_free(struct agon_fetcher *f);
AGON_DEFINE_FREEP(struct agon_fetcher, agon_fetcher_free)

/* Is this (as inet_ntop(3) writes it) no address of a public site? */
bool agon_fetcher_address_is_private(const char *ip);

struct agon_fetched {
    char *url; /* after redirects; owned */
    char content_type[128];
    struct agon_buf body;
};
void agon_fetched_deinit(struct agon_fetched *f);

enum { AGON_FETCH_REFUSED = 1 };
/* 0, AGON_FETCH_REFUSED with a sentence (without "error: ") in reason, or <0. */
int agon_fetcher_get(struct agon_fetcher *f, const char *url, struct agon_fetched *ret,
                     struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
