/*
 * Reading a robots.txt (RFC 9309), in a box: see robots.h. Only the first 500 KiB count, up to a
 * NUL where there is one.
 */
#include "synth/retrieval/robots.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { ROBOTS_BYTES_MAX = 500 << 10, DELAY_MAX = 1 << 30 };

static struct agon_str trim(struct agon_str s)
{
    while (s.size && strchr(" \t\r", s.data[0]))
        s.data++, s.size--;
    while (s.size && strchr(" \t\r", s.data[s.size - 1]))
        s.size--;
    return s;
}

static bool key_is(struct agon_str key, const char *name)
{
    return key.size == strlen(name) && strncasecmp(key.data, name, key.size) == 0;
}

/* Section 2.2.1: the product token, case-insensitively; "*" is everybody. */
static bool agent_matches(struct agon_str value, const char *agent)
{
    size_t n = strlen(agent);
    return value.size >= n && strncasecmp(value.data, agent, n) == 0;
}

/* Seconds, perhaps with a fraction; what is no number ("nan") or negative is no delay. */
static int delay_ms(struct agon_str value)
{
    char text[32];
    (void)snprintf(text, sizeof(text), "%.*s", AGON_STR_ARG(value)); /* cut where too long */
    double ms = strtod(text, NULL) * 1000;
    return ms >= DELAY_MAX ? DELAY_MAX : ms >= 0 ? (int)ms : -1;
}

/* One pass over the groups that name `wanted` ("*" or the agent). *ret_found: was there such a
 * group? */
static int read_groups(struct agon_robots *r, struct agon_str text, const char *agent, bool star,
                       bool *ret_found, struct agon_err *err)
{
    bool in_agents = false, applies = false;
    while (text.size) {
        const char *nl = memchr(text.data, '\n', text.size);
        size_t size = nl ? (size_t)(nl - text.data) : text.size;
        struct agon_str line = {text.data, size};
        text.data += size + (nl ? 1 : 0);
        text.size -= size + (nl ? 1 : 0);
        const char *hash = memchr(line.data, '#', line.size);
        if (hash)
            line.size = (size_t)(hash - line.data);
        const char *colon = memchr(line.data, ':', line.size);
        if (!colon)
            continue;
        struct agon_str key = trim((struct agon_str){line.data, (size_t)(colon - line.data)});
        struct agon_str value =
            trim((struct agon_str){colon + 1, line.size - (size_t)(colon + 1 - line.data)});
        if (key_is(key, "user-agent")) {
            bool match = star ? agon_str_is(value, "*") : agent_matches(value, agent);
            applies = match || (in_agents && applies);
            in_agents = true;
            *ret_found = *ret_found || match;
            continue;
        }
        in_agents = false;
        if (!applies)
            continue;
        if (key_is(key, "crawl-delay"))
            agon_robots_set_delay(r, delay_ms(value));
        bool allow = key_is(key, "allow");
        int bad = allow || key_is(key, "disallow") ? agon_robots_add(r, allow, value, err) : 0;
        if (bad)
            return bad;
    }
    return 0;
}

int agon_robots_parse(struct agon_robots **ret, struct agon_str text, const char *agent,
                      struct agon_err *err)
{
    struct agon_robots *r AGON_AUTO(agon_robots_freep) = NULL;
    size_t size = text.size > ROBOTS_BYTES_MAX ? ROBOTS_BYTES_MAX : text.size;
    struct agon_str body = {text.data, size ? strnlen(text.data, size) : 0};
    bool found = false;
    int bad = agon_robots_new(&r, err);
    if (!bad)
        bad = read_groups(r, body, agent, false, &found, err);
    if (!bad && !found)
        bad = read_groups(r, body, agent, true, &found, err);
    if (bad)
        return bad;
    *ret = AGON_STEAL(r);
    return 0;
}
