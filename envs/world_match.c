/*
 * like() and glob() in the place of SQLite's own: same results, but each step is charged
 * (world_charge), and at most the product of both sizes is done, since a wildcard that
 * was passed is never tried again once a later one was reached.
 */
#include "base/text.h"
#include "envs/world_internal.h"

enum { STEP_BYTES = 4 }; /* a step takes as long as copying so many bytes */

struct match {
    struct agon_str pattern, text;
    int32_t many, one, escape; /* characters; 0: none */
    bool fold, sets;           /* ASCII case does not count; [...] is a set */
    size_t steps;
};

/* The character at *at, which moves on; 0 at the end, where it stays. */
static int32_t next_char(struct agon_str s, size_t *at)
{
    if (*at >= s.size)
        return 0;
    int32_t c = agon_utf8_next(s, at);
    return c < 0 ? 0xFFFD : c;
}

static int32_t fold(int32_t c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/* Is c in the set that begins at *at, behind its bracket? *at moves behind the set. */
static bool set_has(const struct match *m, size_t *at, int32_t c)
{
    int32_t p = next_char(m->pattern, at), before = 0;
    bool seen = false, invert = p == '^';
    if (invert)
        p = next_char(m->pattern, at);
    if (p == ']') {
        seen = c == ']';
        p = next_char(m->pattern, at);
    }
    for (; p && p != ']'; p = next_char(m->pattern, at)) {
        bool range = p == '-' && before && *at < m->pattern.size && m->pattern.data[*at] != ']';
        if (range) {
            p = next_char(m->pattern, at);
            seen = seen || (c >= before && c <= p);
            before = 0;
        } else {
            seen = seen || c == p;
            before = p;
        }
    }
    return p == ']' && seen != invert;
}

/* Does the pattern's next item, which is no `many`, take the text's next character? */
static bool match_one(const struct match *m, size_t *p, size_t *t)
{
    int32_t want = next_char(m->pattern, p);
    int32_t c = next_char(m->text, t);
    if (!c)
        return false;
    if (want == m->escape && m->escape)
        want = next_char(m->pattern, p);
    else if (want == m->one)
        return true;
    else if (want == '[' && m->sets)
        return set_has(m, p, c);
    return want && (want == c || (m->fold && fold(want) == fold(c)));
}

static bool match_run(struct match *m)
{
    size_t p = 0, t = 0, again_p = 0, again_t = 0;
    bool wildcard = false;
    for (;;) {
        m->steps++;
        size_t look = p;
        int32_t next = next_char(m->pattern, &look);
        if (next == m->many && next) {
            wildcard = true;
            p = again_p = look;
            again_t = t;
            if (p == m->pattern.size)
                return true;
            continue;
        }
        if (!next && t == m->text.size)
            return true;
        if (next && match_one(m, &p, &t))
            continue;
        if (!wildcard || again_t >= m->text.size)
            return false;
        (void)next_char(m->text, &again_t); /* the wildcard takes one more */
        p = again_p;
        t = again_t;
    }
}

/* As SQLite, up to a NUL character. */
static struct agon_str text_of(sqlite3_value *v)
{
    const char *text = (const char *)sqlite3_value_text(v);
    size_t size = (size_t)sqlite3_value_bytes(v);
    return (struct agon_str){text ? text : "", text ? strnlen(text, size) : 0};
}

static void match_result(sqlite3_context *c, struct match *m, sqlite3_value **args)
{
    struct agon_world *w = sqlite3_user_data(c);
    int most = sqlite3_limit(w->db, SQLITE_LIMIT_LIKE_PATTERN_LENGTH, -1);
    if (sqlite3_value_bytes(args[0]) > most) {
        sqlite3_result_error(c, "LIKE or GLOB pattern too complex", -1);
        return;
    }
    if (sqlite3_value_type(args[0]) == SQLITE_NULL || sqlite3_value_type(args[1]) == SQLITE_NULL)
        return;
    m->pattern = text_of(args[0]);
    m->text = text_of(args[1]);
    sqlite3_result_int(c, match_run(m));
    world_charge(w, m->steps * STEP_BYTES);
}

void world_fn_like(sqlite3_context *c, int n, sqlite3_value **args)
{
    struct match m = {.many = '%', .one = '_', .fold = true};
    if (n == 3) {
        struct agon_str escape = text_of(args[2]);
        size_t at = 0;
        if (sqlite3_value_type(args[2]) == SQLITE_NULL)
            return;
        m.escape = next_char(escape, &at);
        if (!escape.size || at != escape.size) {
            sqlite3_result_error(c, "ESCAPE expression must be a single character", -1);
            return;
        }
        m.many = m.escape == m.many ? 0 : m.many;
        m.one = m.escape == m.one ? 0 : m.one;
    }
    match_result(c, &m, args);
}

void world_fn_glob(sqlite3_context *c, int n, sqlite3_value **args)
{
    (void)n;
    struct match m = {.many = '*', .one = '?', .sets = true};
    match_result(c, &m, args);
}
