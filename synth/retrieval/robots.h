#pragma once
/* robots.txt (RFC 9309): may this agent read this path? */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct agon_robots;

/* agent: product token ("agon"). Text that is no robots.txt allows everything. */
int agon_robots_parse(struct agon_robots **ret, struct agon_str text, const char *agent,
                      struct agon_err *err) AGON_MUST_USE;
void agon_robots_free(struct agon_robots *r);
AGON_DEFINE_FREEP(struct agon_robots, agon_robots_free)
/* path with its query, beginning with '/'. */
bool agon_robots_allow(const struct agon_robots *r, const char *path);
int agon_robots_delay_ms(const struct agon_robots *r); /* Crawl-delay, or -1; at most 60 s */
