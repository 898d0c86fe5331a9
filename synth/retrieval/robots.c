/* The rules of a robots.txt: see robots.h. */
#include "synth/retrieval/robots.h"

#include "base/mem.h"

#include <stdlib.h>

enum {
    ROBOTS_RULES_MAX = 2000,
    ROBOTS_DELAY_MAX = 60000,
    ROBOTS_STEPS_MAX = 5000000 /* of one question: 20 ms */
};

struct rule {
    bool allow;
    char *path; /* owned */
};
struct agon_robots {
    struct rule rules[ROBOTS_RULES_MAX];
    int n_rules;
    int delay_ms;
};

int agon_robots_new(struct agon_robots **ret, struct agon_err *err)
{
    struct agon_robots *r = calloc(1, sizeof(*r));
    if (!r)
        return agon_fail(err, AGON_ENOMEM, "robots.txt: out of memory");
    r->delay_ms = -1;
    *ret = r;
    return 0;
}

int agon_robots_add(struct agon_robots *r, bool allow, struct agon_str path, struct agon_err *err)
{
    if (path.size == 0 || r->n_rules == ROBOTS_RULES_MAX)
        return 0;
    char *copy = strndup(path.data, path.size);
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "robots.txt: out of memory");
    r->rules[r->n_rules++] = (struct rule){allow, copy};
    return 0;
}

void agon_robots_set_delay(struct agon_robots *r, int64_t ms)
{
    r->delay_ms = ms > ROBOTS_DELAY_MAX ? ROBOTS_DELAY_MAX : ms < 0 ? -1 : (int)ms;
}

int agon_robots_n_rules(const struct agon_robots *r)
{
    return r->n_rules;
}

const char *agon_robots_rule(const struct agon_robots *r, int i, bool *ret_allow)
{
    *ret_allow = r->rules[i].allow;
    return r->rules[i].path;
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
