#pragma once
/*
 * robots.txt (RFC 9309): may this agent read this path? The text is read in a box
 * (agon_robots_parse(), asked for by agon_parser_robots()); the driver has the rules and compares
 * paths with them, in a bounded number of steps.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

#include <stdint.h>

struct agon_robots;

int agon_robots_new(struct agon_robots **ret, struct agon_err *err) AGON_MUST_USE; /* no rules */
void agon_robots_free(struct agon_robots *r);
AGON_DEFINE_FREEP(struct agon_robots, agon_robots_free)
/* path: without NUL. What is beyond 2,000 rules, and a rule without a path, is left out. */
int agon_robots_add(struct agon_robots *r, bool allow, struct agon_str path,
                    struct agon_err *err) AGON_MUST_USE;
void agon_robots_set_delay(struct agon_robots *r, int64_t ms); /* <0: none; at most 60 s */
int agon_robots_n_rules(const struct agon_robots *r);
const char *agon_robots_rule(const struct agon_robots *r, int i, bool *ret_allow);

/* path with its query, beginning with '/'. */
bool agon_robots_allow(const struct agon_robots *r, const char *path);
int agon_robots_delay_ms(const struct agon_robots *r); /* Crawl-delay, or -1 */

/* In a box: agent: product token ("agon"). Text that is no robots.txt allows everything. */
int agon_robots_parse(struct agon_robots **ret, struct agon_str text, const char *agent,
                      struct agon_err *err) AGON_MUST_USE;
