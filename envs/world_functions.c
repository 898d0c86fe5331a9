/*
 * instr, replace, trim and substr in the place of SQLite's own (like and glob:
 * world_match.c). The time of some is the product of both sizes: trim() with 10,000
 * characters to trim ran 10 s over 262 KB, and no progress handler is asked within one
 * function. Others walk a long text that stays where it is and give a short one, so
 * that no block of memory tells of it (world_guard.c). Same results; work linear in the
 * texts and charged, for which trim() takes at most TRIM_BYTES_MAX bytes of characters.
 */
#include "envs/world_internal.h"

#include <stdlib.h>

enum { TRIM_BYTES_MAX = 100, TRIM_LEFT = 1, TRIM_RIGHT = 2 };
enum { CHARS_MAX = 1000000000 }; /* as many as SQLite's substr() takes for all of them */

static struct agon_world *world_of(sqlite3_context *c)
{
    return sqlite3_user_data(c);
}

static struct agon_str text_of(sqlite3_value *v)
{
    const char *text = (const char *)sqlite3_value_text(v);
    return (struct agon_str){text ? text : "", (size_t)sqlite3_value_bytes(v)};
}

static bool any_null(int n, sqlite3_value **args)
{
    for (int i = 0; i < n; i++)
        if (sqlite3_value_type(args[i]) == SQLITE_NULL)
            return true;
    return false;
}

static int64_t count_chars(const char *from, const char *to)
{
    int64_t n = 0;
    for (; from < to; from++)
        n += (*from & 0xC0) != 0x80;
    return n;
}

/* instr(X, Y): the first character of Y in X, from 1; 0: none. */
static void fn_instr(sqlite3_context *c, int n, sqlite3_value **args)
{
    if (any_null(n, args))
        return;
    /* Asked before they are read as text; of two BLOBs the bytes are counted. */
    bool bytes =
        sqlite3_value_type(args[0]) == SQLITE_BLOB && sqlite3_value_type(args[1]) == SQLITE_BLOB;
    struct agon_str x = text_of(args[0]), y = text_of(args[1]);
    world_charge(world_of(c), x.size + y.size);
    const char *at = y.size ? memmem(x.data, x.size, y.data, y.size) : x.data;
    int64_t before = !at ? -1 : bytes ? at - x.data : count_chars(x.data, at);
    sqlite3_result_int64(c, 1 + before);
}

/* Copy x with each y as z into out (NULL: only count); the size of the result. */
static size_t replace_into(char *out, struct agon_str x, struct agon_str y, struct agon_str z)
{
    size_t size = 0;
    const char *from = x.data, *end = x.data + x.size, *at;
    while ((at = memmem(from, (size_t)(end - from), y.data, y.size))) {
        if (out) {
            memcpy(out + size, from, (size_t)(at - from));
            memcpy(out + size + (at - from), z.data, z.size);
        }
        size += (size_t)(at - from) + z.size;
        from = at + y.size;
    }
    if (out)
        memcpy(out + size, from, (size_t)(end - from));
    return size + (size_t)(end - from);
}

static void fn_replace(sqlite3_context *c, int n, sqlite3_value **args)
{
    if (any_null(n, args))
        return;
    struct agon_str x = text_of(args[0]), y = text_of(args[1]), z = text_of(args[2]);
    world_charge(world_of(c), x.size + y.size);
    if (y.size == 0) {
        sqlite3_result_value(c, args[0]);
        return;
    }
    size_t size = replace_into(NULL, x, y, z);
    if (size > (size_t)sqlite3_limit(sqlite3_context_db_handle(c), SQLITE_LIMIT_LENGTH, -1)) {
        sqlite3_result_error_toobig(c);
        return;
    }
    char *out = sqlite3_malloc64(size + 1);
    if (!out) {
        sqlite3_result_error_nomem(c);
        return;
    }
    (void)replace_into(out, x, y, z); /* the size is known */
    sqlite3_result_text64(c, out, size, sqlite3_free, SQLITE_UTF8);
}

/* The size of the character at s. */
static size_t char_size(const char *s, const char *end)
{
    size_t n = 1;
    while (s + n < end && (s[n] & 0xC0) == 0x80)
        n++;
    return n;
}

/* How many bytes the text's first (or last) character takes if it is one of chars, else 0. */
static size_t trim_one(struct agon_str text, struct agon_str chars, bool last)
{
    const char *end = chars.data + chars.size;
    for (const char *c = chars.data; c < end;) {
        size_t n = char_size(c, end);
        const char *at = last ? text.data + text.size - n : text.data;
        if (n <= text.size && !memcmp(at, c, n))
            return n;
        c += n;
    }
    return 0;
}

static void trim(sqlite3_context *c, int n, sqlite3_value **args, int sides)
{
    if (any_null(n, args))
        return;
    struct agon_str text = text_of(args[0]), chars = n > 1 ? text_of(args[1]) : agon_str(" ");
    world_charge(world_of(c), text.size);
    if (chars.size > TRIM_BYTES_MAX) {
        sqlite3_result_error(c, "trim: over 100 bytes of characters to trim", -1);
        return;
    }
    size_t cut;
    while (sides & TRIM_LEFT && (cut = trim_one(text, chars, false)) > 0) {
        text.data += cut;
        text.size -= cut;
    }
    while (sides & TRIM_RIGHT && (cut = trim_one(text, chars, true)) > 0)
        text.size -= cut;
    sqlite3_result_text64(c, text.data, text.size, SQLITE_TRANSIENT, SQLITE_UTF8);
}

static void fn_trim(sqlite3_context *c, int n, sqlite3_value **args)
{
    trim(c, n, args, TRIM_LEFT | TRIM_RIGHT);
}

static void fn_ltrim(sqlite3_context *c, int n, sqlite3_value **args)
{
    trim(c, n, args, TRIM_LEFT);
}

static void fn_rtrim(sqlite3_context *c, int n, sqlite3_value **args)
{
    trim(c, n, args, TRIM_RIGHT);
}

/* The range [from, from + count) of characters, or bytes, that substr(X, start, count) means among
 * `size` of them; limited says whether there is a count. As SQLite: start 1 is the first, -1 the
 * last, 0 lies before the first; a negative count takes those before start. */
static void substr_range(int64_t size, int64_t start, bool limited, int64_t count,
                         int64_t *ret_from, int64_t *ret_count)
{
    bool before = limited && count < 0;
    if (before)
        count = -count;
    if (!limited)
        count = CHARS_MAX;
    if (start < 0) {
        start += size;
        if (start < 0) {
            count = count + start < 0 ? 0 : count + start;
            start = 0;
        }
    } else if (start > 0) {
        start--;
    } else if (count > 0) {
        count--;
    }
    if (before) {
        start -= count;
        if (start < 0) {
            count = count + start < 0 ? 0 : count + start;
            start = 0;
        }
    }
    *ret_from = start;
    *ret_count = count;
}

static void fn_substr(sqlite3_context *c, int n, sqlite3_value **args)
{
    if (any_null(n, args))
        return;
    bool blob = sqlite3_value_type(args[0]) == SQLITE_BLOB;
    struct agon_str x = text_of(args[0]);
    const char *nul = blob ? NULL : memchr(x.data, '\0', x.size);
    x.size = nul ? (size_t)(nul - x.data) : x.size;
    const char *end = x.data + x.size, *at = x.data;
    int64_t start = sqlite3_value_int(args[1]), count = n > 2 ? sqlite3_value_int(args[2]) : 0,
            from;
    int64_t size = blob ? (int64_t)x.size : start < 0 ? count_chars(x.data, end) : 0;
    substr_range(size, start, n > 2, count, &from, &count);
    for (; at < end && from > 0; from--)
        at += blob ? 1 : char_size(at, end);
    const char *last = at;
    for (; last < end && count > 0; count--)
        last += blob ? 1 : char_size(last, end);
    world_charge(world_of(c), start < 0 ? x.size : (size_t)(last - x.data));
    if (blob)
        sqlite3_result_blob64(c, at, (sqlite3_uint64)(last - at), SQLITE_TRANSIENT);
    else
        sqlite3_result_text64(c, at, (sqlite3_uint64)(last - at), SQLITE_TRANSIENT, SQLITE_UTF8);
}

int world_functions(struct agon_world *w, struct agon_err *err)
{
    static const struct {
        const char *name;
        int n_args;
        void (*fn)(sqlite3_context *, int, sqlite3_value **);
    } functions[] = {
        {"instr", 2, fn_instr},     {"replace", 3, fn_replace},  {"trim", 1, fn_trim},
        {"trim", 2, fn_trim},       {"ltrim", 1, fn_ltrim},      {"ltrim", 2, fn_ltrim},
        {"rtrim", 1, fn_rtrim},     {"rtrim", 2, fn_rtrim},      {"substr", 2, fn_substr},
        {"substr", 3, fn_substr},   {"substring", 2, fn_substr}, {"substring", 3, fn_substr},
        {"like", 2, world_fn_like}, {"like", 3, world_fn_like},  {"glob", 2, world_fn_glob},
    };
    for (size_t i = 0; i < sizeof(functions) / sizeof(*functions); i++)
        if (sqlite3_create_function(w->db, functions[i].name, functions[i].n_args,
                                    SQLITE_UTF8 | SQLITE_DETERMINISTIC | SQLITE_INNOCUOUS, w,
                                    functions[i].fn, NULL, NULL) != SQLITE_OK)
            return agon_fail(err, AGON_ESTORE, "world: %s: %s", functions[i].name,
                             sqlite3_errmsg(w->db));
    return 0;
}
