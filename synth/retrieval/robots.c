/* robots.txt: see robots.h. */
#include "synth/retrieval/robots.h"

#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
    ROBOTS_BYTES_MAX = 500 << 10,
    ROBOTS_RULES_MAX = 2000,
    ROBOTS_DELAY_MAX = 60000,
    ROBOTS_STEPS_MAX = 5000000 /* of one question: 20 ms */
};

struct rule {
    bool allow;
    char *path;
};
struct agon_robots {
    struct rule rules[ROBOTS_RULES_MAX];
    int n_rules;
    int delay_ms;
};

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
    return ms >= ROBOTS_DELAY_MAX ? ROBOTS_DELAY_MAX : ms >= 0 ? (int)ms : -1;
}

/* One pass over the groups that name `wanted` ("*" or the agent). *ret_found: was there such a
 * group? */
static int read_groups(struct agon_robots *r, struct agon_str text, const char *agent, bool star,
                       bool *ret_found)
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
        if (key_is(key, "crawl-delay")) {
            r->delay_ms = delay_ms(value);
        }
        bool allow = key_is(key, "allow");
        if ((!allow && !key_is(key, "disallow")) || value.size == 0 ||
            r->n_rules == ROBOTS_RULES_MAX)
            continue;
        char *path = strndup(value.data, value.size);
        if (!path)
            return AGON_ENOMEM;
        r->rules[r->n_rules++] = (struct rule){allow, path};
    }
    return 0;
}

int agon_robots_parse(struct agon_robots **ret, struct agon_str text, const char *agent,
                      struct agon_err *err)
{
    struct agon_robots *r AGON_AUTO(agon_robots_freep) = calloc(1, sizeof(*r));
    char *copy = strndup(text.data, text.size > ROBOTS_BYTES_MAX ? ROBOTS_BYTES_MAX : text.size);
    bool found = false;
    int bad = !r || !copy;
    if (!bad) {
        r->delay_ms = -1;
        bad = read_groups(r, agon_str(copy), agent, false, &found) ||
              (!found && read_groups(r, agon_str(copy), agent, true, &found));
    }
    free(copy);
    if (bad)
        return agon_fail(err, AGON_ENOMEM, "robots.txt: out of memory");
    *ret = AGON_STEAL(r);
    return 0;
}

void agon_robots_free(struct agon_robots *r)
{
    if (!r)
        return;
    for (int i = 0; i < r->n_rules; i++)
        free(r->rules[i].path);
    free(r);
}

/* Section 2.2.3: '*' is any run of characters, '$' at the end anchors. Greedy with one
 * point of return, so linear in practice and at worst quadratic. */
static bool path_matches(const char *pattern, const char *path, int *steps)
{
    const char *star = NULL, *from = NULL;
    while (*steps > 0) {
        --*steps;
        if (*pattern == '$' && !pattern[1] && !*path)
            return true;
        if (!*pattern)
            return true; /* a prefix is enough */
        if (*pattern == '*') {
            star = ++pattern;
            from = path;
            continue;
        }
        if (*path && *pattern == *path) {
            pattern++, path++;
            continue;
        }
        if (!star || !*from)
            return false;
        pattern = star;
        path = ++from;
    }
    return false;
}

/* Section 2.2.2: the longest match wins; allow wins a tie. */
bool agon_robots_allow(const struct agon_robots *r, const char *path)
{
    size_t longest = 0;
    int steps = ROBOTS_STEPS_MAX;
    bool allow = true;
    if (strcmp(path, "/robots.txt") == 0)
        return true;
    for (int i = 0; i < r->n_rules; i++) {
        size_t size = strlen(r->rules[i].path);
        if (!path_matches(r->rules[i].path, path, &steps) || size < longest)
            continue;
        allow = size > longest ? r->rules[i].allow : allow || r->rules[i].allow;
        longest = size;
    }
    return allow && steps > 0; /* rules that cannot be followed forbid */
}

int agon_robots_delay_ms(const struct agon_robots *r)
{
    return r->delay_ms;
}
