/*
 * Lua patterns (Lua 5.4 reference manual, 6.4.1) by a backtracking matcher that
 * charges one unit of fuel for each step: the stock one runs for ever on twenty lazy
 * quantifiers. find, match, gmatch and gsub stand on it.
 */
#include "sandbox/script_lib.h"

#include <string.h>

enum {
    CAPTURES_MAX = 32,
    RECURSION_MAX = 200,
    CAPTURE_OPEN = -1,
    CAPTURE_POSITION = -2,
};

struct capture {
    const char *at;
    ptrdiff_t size; /* or CAPTURE_* */
};

struct matcher {
    lua_State *L;
    struct agon_script *script;
    const char *text, *text_end, *pattern_end; /* borrowed from strings on the stack */
    int n_captures, depth;
    struct capture captures[CAPTURES_MAX];
};

static const char *match_here(struct matcher *m, const char *s, const char *p);

static inline void matcher_step(struct matcher *m)
{
    if (--m->script->fuel < 0)
        agon_script_out_of_fuel(m->L);
}

/* Classes as in the C locale, whatever the process has set. */
static bool class_has(unsigned char c, char class)
{
    bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z', digit = c >= '0' && c <= '9';
    bool graph = c > 0x20 && c < 0x7f, ret;
    switch (class | 0x20) {
    case 'a': ret = lower || upper; break;
    case 'c': ret = c < 0x20 || c == 0x7f; break;
    case 'd': ret = digit; break;
    case 'g': ret = graph; break;
    case 'l': ret = lower; break;
    case 'p': ret = graph && !lower && !upper && !digit; break;
    case 's': ret = c == ' ' || (c >= '\t' && c <= '\r'); break;
    case 'u': ret = upper; break;
    case 'w': ret = lower || upper || digit; break;
    case 'x': ret = digit || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); break;
    default: return (unsigned char)class == c; /* an escaped character */
    }
    return (class & 0x20) ? ret : !ret; /* %A is the complement of %a */
}

/* The end of the single-character item that begins at p. */
static const char *item_end(struct matcher *m, const char *p)
{
    char c = *p++;
    if (c == '%') {
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    if (c != '[')
        return p;
    p += p < m->pattern_end && *p == '^';
    do { /* a ']' that comes first is a character of the set */
        matcher_step(m);
        if (p == m->pattern_end)
            luaL_error(m->L, "malformed pattern (missing ']')");
        c = *p++;
        if (c == '%' && p < m->pattern_end)
            p++;
    } while (p == m->pattern_end || *p != ']');
    return p + 1;
}

/* p at '[', last at its ']'. */
static bool set_has(struct matcher *m, unsigned char c, const char *p, const char *last)
{
    bool found = true;
    p++;
    if (*p == '^') {
        found = false;
        p++;
    }
    while (p < last) {
        matcher_step(m);
        if (*p == '%') {
            if (class_has(c, p[1]))
                return found;
            p += 2;
        } else if (p[1] == '-' && p + 2 < last) {
            if ((unsigned char)p[0] <= c && c <= (unsigned char)p[2])
                return found;
            p += 3;
        } else {
            if ((unsigned char)*p == c)
                return found;
            p++;
        }
    }
    return !found;
}

/* Does the item p..end take the character at s? */
static bool item_takes(struct matcher *m, const char *s, const char *p, const char *end)
{
    matcher_step(m);
    if (s >= m->text_end)
        return false;
    unsigned char c = (unsigned char)*s;
    switch (*p) {
    case '.': return true;
    case '%': return class_has(c, p[1]);
    case '[': return set_has(m, c, p, end - 1);
    default: return (unsigned char)*p == c;
    }
}

static const char *match_most(struct matcher *m, const char *s, const char *p, const char *end)
{
    ptrdiff_t n = 0;
    while (item_takes(m, s + n, p, end))
        n++;
    for (; n >= 0; n--) {
        const char *r = match_here(m, s + n, end + 1);
        if (r)
            return r;
    }
    return NULL;
}

static const char *match_least(struct matcher *m, const char *s, const char *p, const char *end)
{
    for (;;) {
        const char *r = match_here(m, s, end + 1);
        if (r)
            return r;
        if (!item_takes(m, s, p, end))
            return NULL;
        s++;
    }
}

/* %bxy: the balanced stretch from x to its y. */
static const char *match_balance(struct matcher *m, const char *s, const char *p)
{
    if (m->pattern_end - p < 2)
        luaL_error(m->L, "malformed pattern (missing arguments to '%%b')");
    if (s >= m->text_end || *s != p[0])
        return NULL;
    int64_t open = 1;
    for (const char *at = s + 1; at < m->text_end; at++) {
        matcher_step(m);
        if (*at == p[1]) {
            if (--open == 0)
                return at + 1;
        } else if (*at == p[0]) {
            open++;
        }
    }
    return NULL;
}

static const char *match_open(struct matcher *m, const char *s, const char *p, ptrdiff_t size)
{
    if (m->n_captures >= CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->captures[m->n_captures++] = (struct capture){s, size};
    const char *r = match_here(m, s, p);
    if (!r)
        m->n_captures--;
    return r;
}

static const char *match_close(struct matcher *m, const char *s, const char *p)
{
    int i = m->n_captures - 1;
    while (i >= 0 && m->captures[i].size != CAPTURE_OPEN)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].size = s - m->captures[i].at;
    const char *r = match_here(m, s, p);
    if (!r)
        m->captures[i].size = CAPTURE_OPEN;
    return r;
}

/* %1 to %9: the text of a capture again. */
static const char *match_again(struct matcher *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->n_captures || m->captures[i].size == CAPTURE_OPEN)
        luaL_error(m->L, "invalid capture index %%%d", i + 1);
    if (m->captures[i].size == CAPTURE_POSITION)
        return NULL; /* as the stock matcher has it */
    size_t n = (size_t)m->captures[i].size;
    script_charge_bytes(m->L, n);
    if ((size_t)(m->text_end - s) < n || memcmp(m->captures[i].at, s, n) != 0)
        return NULL;
    return s + n;
}

static bool match_frontier(struct matcher *m, const char *s, const char *p, const char *end)
{
    unsigned char before = s == m->text ? 0 : (unsigned char)s[-1];
    unsigned char here = s < m->text_end ? (unsigned char)*s : 0;
    return !set_has(m, before, p, end - 1) && set_has(m, here, p, end - 1);
}

/* What begins with '%' and is more than one character's class. Returns whether it
 * was such an item; then *s is moved on, or NULL, and *p is behind it. */
static bool match_special(struct matcher *m, const char **s, const char **p)
{
    const char *at = *p;
    if (*at != '%' || at + 1 >= m->pattern_end)
        return false;
    char c = at[1];
    if (c == 'b') {
        *s = match_balance(m, *s, at + 2);
        *p = at + 4;
        return true;
    }
    if (c == 'f') {
        at += 2;
        if (at >= m->pattern_end || *at != '[')
            luaL_error(m->L, "missing '[' after '%%f' in pattern");
        const char *end = item_end(m, at);
        *s = match_frontier(m, *s, at, end) ? *s : NULL;
        *p = end;
        return true;
    }
    if (c >= '0' && c <= '9') {
        *s = match_again(m, *s, c);
        *p = at + 2;
        return true;
    }
    return false;
}

static const char *match_rest(struct matcher *m, const char *s, const char *p)
{
    while (p < m->pattern_end) {
        matcher_step(m);
        if (*p == '(')
            return p + 1 < m->pattern_end && p[1] == ')' ? match_open(m, s, p + 2, CAPTURE_POSITION)
                                                         : match_open(m, s, p + 1, CAPTURE_OPEN);
        if (*p == ')')
            return match_close(m, s, p + 1);
        if (*p == '$' && p + 1 == m->pattern_end)
            return s == m->text_end ? s : NULL;
        if (match_special(m, &s, &p)) {
            if (!s)
                return NULL;
            continue;
        }
        const char *end = item_end(m, p);
        char repeat = end < m->pattern_end ? *end : '\0';
        if (repeat == '*')
            return match_most(m, s, p, end);
        if (repeat == '-')
            return match_least(m, s, p, end);
        bool takes = item_takes(m, s, p, end);
        if (repeat == '+')
            return takes ? match_most(m, s + 1, p, end) : NULL;
        if (repeat == '?') {
            const char *r = takes ? match_here(m, s + 1, end + 1) : NULL;
            if (r)
                return r;
            p = end + 1;
            continue;
        }
        if (!takes)
            return NULL;
        s++;
        p = end;
    }
    return s;
}

static const char *match_here(struct matcher *m, const char *s, const char *p)
{
    if (++m->depth > RECURSION_MAX)
        luaL_error(m->L, "pattern too complex");
    const char *r = match_rest(m, s, p);
    m->depth--;
    return r;
}

static const char *matcher_try(struct matcher *m, const char *s, const char *p)
{
    m->n_captures = 0;
    m->depth = 0;
    return match_here(m, s, p);
}

/* Capture i of a match from s to e; the whole match stands for capture 0 when there is none. */
static void capture_push(struct matcher *m, int i, const char *s, const char *e)
{
    if (i >= m->n_captures) {
        if (i > 0)
            luaL_error(m->L, "invalid capture index %%%d", i + 1);
        lua_pushlstring(m->L, s, (size_t)(e - s));
        return;
    }
    const struct capture *c = &m->captures[i];
    if (c->size == CAPTURE_OPEN)
        luaL_error(m->L, "unfinished capture");
    if (c->size == CAPTURE_POSITION)
        lua_pushinteger(m->L, c->at - m->text + 1);
    else
        lua_pushlstring(m->L, c->at, (size_t)c->size);
}

static int captures_push(struct matcher *m, const char *s, const char *e, bool whole)
{
    int n = m->n_captures == 0 && whole ? 1 : m->n_captures;
    luaL_checkstack(m->L, n, "too many captures");
    for (int i = 0; i < n; i++)
        capture_push(m, i, s, e);
    return n;
}

static void matcher_init(struct matcher *m, lua_State *L, const char *text, size_t text_size,
                         const char *pattern, size_t pattern_size)
{
    *m = (struct matcher){.L = L,
                          .script = script_of(L),
                          .text = text,
                          .text_end = text + text_size,
                          .pattern_end = pattern + pattern_size};
}

static int find_plain(lua_State *L, const char *s, size_t n, size_t from, const char *p, size_t np)
{
    script_charge_bytes(L, 4 * (n - from + np));
    const char *at = np == 0 ? s + from : memmem(s + from, n - from, p, np);
    if (!at) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, at - s + 1);
    lua_pushinteger(L, at - s + (lua_Integer)np);
    return 2;
}

static int find_or_match(lua_State *L, bool find)
{
    size_t n, np;
    const char *s = luaL_checklstring(L, 1, &n), *p = luaL_checklstring(L, 2, &np);
    lua_Integer init = luaL_optinteger(L, 3, 1);
    script_charge(L, 2);
    if (init < 0)
        init = 0 - (lua_Unsigned)init > n ? 1 : (lua_Integer)n + init + 1;
    size_t from = init > 0 ? (size_t)init - 1 : 0;
    if (from > n) {
        lua_pushnil(L);
        return 1;
    }
    bool plain = lua_toboolean(L, 4) || (np < 64 && !memchr(p, 0, np) && !strpbrk(p, "^$*+?.([%-"));
    if (find && plain)
        return find_plain(L, s, n, from, p, np);
    struct matcher m;
    matcher_init(&m, L, s, n, p, np);
    bool anchor = np > 0 && *p == '^';
    p += anchor;
    for (const char *at = s + from; at <= m.text_end && !(anchor && at > s + from); at++) {
        const char *e = matcher_try(&m, at, p);
        if (!e)
            continue;
        if (!find)
            return captures_push(&m, at, e, true);
        lua_pushinteger(L, at - s + 1);
        lua_pushinteger(L, e - s);
        return 2 + captures_push(&m, at, e, false);
    }
    lua_pushnil(L);
    return 1;
}

static int string_find(lua_State *L)
{
    return find_or_match(L, true);
}

static int string_match(lua_State *L)
{
    return find_or_match(L, false);
}

/* Upvalues: text, pattern, where to go on, where the last match ended (or -1). */
static int gmatch_step(lua_State *L)
{
    size_t n, np;
    const char *s = lua_tolstring(L, lua_upvalueindex(1), &n);
    const char *p = lua_tolstring(L, lua_upvalueindex(2), &np);
    lua_Integer from = lua_tointeger(L, lua_upvalueindex(3));
    lua_Integer last = lua_tointeger(L, lua_upvalueindex(4));
    script_charge(L, 2);
    struct matcher m;
    matcher_init(&m, L, s, n, p, np);
    for (; from <= (lua_Integer)n; from++) {
        const char *e = matcher_try(&m, s + from, p);
        if (!e || e - s == last)
            continue;
        lua_pushinteger(L, e - s);
        lua_pushvalue(L, -1);
        lua_replace(L, lua_upvalueindex(3));
        lua_replace(L, lua_upvalueindex(4));
        return captures_push(&m, s + from, e, true);
    }
    lua_pushinteger(L, from);
    lua_replace(L, lua_upvalueindex(3));
    return 0;
}

static int string_gmatch(lua_State *L)
{
    size_t n;
    luaL_checklstring(L, 1, &n);
    luaL_checkstring(L, 2);
    lua_Integer init = luaL_optinteger(L, 3, 1);
    if (init < 0)
        init = 0 - (lua_Unsigned)init > n ? 1 : (lua_Integer)n + init + 1;
    if (init > 0)
        init--;
    if (init > (lua_Integer)n)
        init = (lua_Integer)n + 1;
    lua_settop(L, 2);
    lua_pushinteger(L, init);
    lua_pushinteger(L, -1);
    lua_pushcclosure(L, gmatch_step, 4);
    return 1;
}

static void gsub_string(struct matcher *m, struct script_buf *b, const char *s, const char *e)
{
    lua_State *L = m->L;
    size_t n;
    const char *r = lua_tolstring(L, 3, &n);
    script_charge(L, (int64_t)n / 4);
    for (size_t i = 0; i < n; i++) {
        if (r[i] != '%') {
            agon_script_buf_add(b, r + i, 1);
            continue;
        }
        char c = ++i < n ? r[i] : '\0';
        if (c == '%') {
            agon_script_buf_add(b, "%", 1);
        } else if (c == '0') {
            agon_script_buf_add(b, s, (size_t)(e - s));
        } else if (c >= '1' && c <= '9') {
            capture_push(m, c - '1', s, e);
            size_t size;
            const char *text = lua_tolstring(L, -1, &size);
            agon_script_buf_add(b, text, size);
            lua_pop(L, 1);
        } else {
            luaL_error(L, "invalid use of '%%' in replacement string");
        }
    }
}

/* Append what stands for the match s..e. */
static void gsub_value(struct matcher *m, struct script_buf *b, const char *s, const char *e)
{
    lua_State *L = m->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, captures_push(m, s, e, true), 1);
        break;
    case LUA_TTABLE:
        capture_push(m, 0, s, e);
        lua_gettable(L, 3);
        break;
    default: gsub_string(m, b, s, e); return;
    }
    size_t size = (size_t)(e - s);
    const char *text = s;
    if (lua_toboolean(L, -1)) {
        if (!lua_isstring(L, -1))
            luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
        text = lua_tolstring(L, -1, &size);
    }
    agon_script_buf_add(b, text, size);
    lua_pop(L, 1);
}

static int string_gsub(lua_State *L)
{
    size_t n, np;
    const char *s = luaL_checklstring(L, 1, &n), *p = luaL_checklstring(L, 2, &np);
    int type = lua_type(L, 3);
    luaL_argexpected(L,
                     type == LUA_TNUMBER || type == LUA_TSTRING || type == LUA_TFUNCTION ||
                         type == LUA_TTABLE,
                     3, "string/function/table");
    lua_Integer most = luaL_optinteger(L, 4, (lua_Integer)n + 1), done = 0;
    lua_settop(L, 4);
    if (type == LUA_TNUMBER)
        lua_tolstring(L, 3, NULL);
    bool anchor = np > 0 && *p == '^';
    p += anchor;
    struct matcher m;
    matcher_init(&m, L, s, n, p, np - (size_t)anchor);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    const char *at = s, *last = NULL;
    while (done < most) {
        script_charge(L, 1);
        const char *e = matcher_try(&m, at, p);
        if (e && e != last) {
            done++;
            gsub_value(&m, &b, at, e);
            at = last = e;
        } else if (at < m.text_end) {
            agon_script_buf_add(&b, at++, 1);
        } else {
            break;
        }
        if (anchor)
            break;
    }
    if (at < m.text_end)
        agon_script_buf_add(&b, at, (size_t)(m.text_end - at));
    agon_script_buf_push(&b);
    lua_pushinteger(L, done);
    return 2;
}

void agon_script_add_match(lua_State *L)
{
    static const luaL_Reg own[] = {{"find", string_find},
                                   {"match", string_match},
                                   {"gmatch", string_gmatch},
                                   {"gsub", string_gsub},
                                   {NULL, NULL}};
    luaL_setfuncs(L, own, 0);
}
