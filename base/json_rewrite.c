/*
 * JSON text to canonical JSON text: see agon_json_rewrite() in json.h.
 *
 * A recursive descent over the text that writes as it reads, so integers of any
 * size pass through. For each open object it notes where each member stands in
 * the output; when the object closes, the notes are sorted by key, and only if
 * two are equal is the object put together again. A lone surrogate left in the
 * output, which UTF-8 cannot hold, starts everything over with ASCII output.
 */
#include "base/json.h"

#include <math.h>
#include <stdlib.h>

struct member { /* offsets into the output */
    size_t key, value, end;
    size_t index; /* in its object */
};

struct rewriter {
    struct agon_str text;
    size_t pos;
    int depth;
    bool ascii;          /* write beyond ASCII as \uXXXX */
    bool lone_surrogate; /* one was seen; a later duplicate key may have dropped it */
    struct agon_buf *out;
    struct member *members; /* a stack: those of all open objects */
    size_t n_members, members_capacity;
    struct agon_err *err;
};

static int rw_fail(struct rewriter *w, const char *what)
{
    int line = 1;
    size_t line_start = 0;
    for (size_t i = 0; i < w->pos && i < w->text.size; i++)
        if (w->text.data[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    return agon_fail(w->err, AGON_EINPUT, "line %d column %zu: %s", line, w->pos - line_start + 1,
                     what);
}

/* The byte at the position, or 0 at the end (0 is no JSON outside of strings either). */
static char rw_peek(const struct rewriter *w)
{
    return w->pos < w->text.size ? w->text.data[w->pos] : '\0';
}

static void rw_space(struct rewriter *w)
{
    while (rw_peek(w) == ' ' || rw_peek(w) == '\t' || rw_peek(w) == '\n' || rw_peek(w) == '\r')
        w->pos++;
}

static int rw_word(struct rewriter *w, const char *word)
{
    size_t n = strlen(word);
    if (w->text.size - w->pos < n || memcmp(w->text.data + w->pos, word, n) != 0)
        return rw_fail(w, "a value was expected");
    w->pos += n;
    agon_buf_adds(w->out, word);
    return 0;
}

static bool rw_digits(struct rewriter *w)
{
    size_t from = w->pos;
    while (rw_peek(w) >= '0' && rw_peek(w) <= '9')
        w->pos++;
    return w->pos > from;
}

static int rw_real(struct rewriter *w, struct agon_str number)
{
    char small[64];
    char *copy = number.size < sizeof(small) ? small : malloc(number.size + 1);
    if (!copy)
        return agon_fail(w->err, AGON_ENOMEM, "JSON: out of memory");
    memcpy(copy, number.data, number.size);
    copy[number.size] = '\0';
    double value = strtod(copy, NULL);
    if (copy != small)
        free(copy);
    if (!isfinite(value))
        return rw_fail(w, "number too large");
    agon_json_dump_real(w->out, value);
    return 0;
}

static int rw_number(struct rewriter *w)
{
    size_t from = w->pos;
    bool real = false;
    if (rw_peek(w) == '-')
        w->pos++;
    if (rw_peek(w) == '0')
        w->pos++;
    else if (!rw_digits(w))
        return rw_fail(w, "a value was expected");
    if (rw_peek(w) == '.') {
        real = true;
        w->pos++;
        if (!rw_digits(w))
            return rw_fail(w, "a digit was expected");
    }
    if (rw_peek(w) == 'e' || rw_peek(w) == 'E') {
        real = true;
        w->pos++;
        if (rw_peek(w) == '+' || rw_peek(w) == '-')
            w->pos++;
        if (!rw_digits(w))
            return rw_fail(w, "a digit was expected");
    }
    struct agon_str number = {w->text.data + from, w->pos - from};
    if (real)
        return rw_real(w, number);
    /* Python's integers know no negative zero. */
    agon_buf_add_str(w->out, agon_str_is(number, "-0") ? agon_str("0") : number);
    return 0;
}

static int rw_hex4(struct rewriter *w, uint32_t *ret)
{
    uint32_t code = 0;
    for (int i = 0; i < 4; i++, w->pos++) {
        char c = rw_peek(w);
        uint32_t digit = c >= '0' && c <= '9'   ? (uint32_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint32_t)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (uint32_t)(c - 'A' + 10)
                                                : 16;
        if (digit == 16)
            return rw_fail(w, "four hexadecimal digits were expected");
        code = code << 4 | digit;
    }
    *ret = code;
    return 0;
}

/* After "\u": the code point; a surrogate that has no partner is returned as it is. */
static int rw_unicode_escape(struct rewriter *w, uint32_t *ret)
{
    uint32_t code, low;
    int r = rw_hex4(w, &code);
    if (r)
        return r;
    size_t after = w->pos;
    bool pair = code >= 0xD800 && code < 0xDC00 && w->text.size - w->pos >= 6 &&
                w->text.data[w->pos] == '\\' && w->text.data[w->pos + 1] == 'u';
    if (pair) {
        w->pos += 2;
        r = rw_hex4(w, &low);
        if (r)
            return r;
        if (low >= 0xDC00 && low < 0xE000)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        else
            w->pos = after; /* two escapes of their own */
    }
    *ret = code;
    return 0;
}

static int rw_escape(struct rewriter *w, uint32_t *ret)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = rw_peek(w);
    const char *at = c ? strchr(from, c) : NULL;
    if (c != 'u' && !at)
        return rw_fail(w, "unknown escape in a string");
    w->pos++;
    if (c == 'u')
        return rw_unicode_escape(w, ret);
    *ret = (unsigned char)to[at - from];
    return 0;
}

static void rw_put_char(struct rewriter *w, uint32_t c)
{
    static const char names[] = "btn\0fr"; /* from U+0008 on; \v has no short form */
    if (c >= 0xD800 && c < 0xE000)
        w->lone_surrogate = true;
    if (c == '"' || c == '\\')
        agon_buf_addf(w->out, "\\%c", (char)c);
    else if (c >= '\b' && c <= '\r' && names[c - '\b'])
        agon_buf_addf(w->out, "\\%c", names[c - '\b']);
    else if (c < 0x20 || (w->ascii && c >= 0x7F && c < 0x10000))
        agon_buf_addf(w->out, "\\u%04x", c);
    else if (w->ascii && c >= 0x10000)
        agon_buf_addf(w->out, "\\u%04x\\u%04x", 0xD800 + ((c - 0x10000) >> 10),
                      0xDC00 + ((c - 0x10000) & 0x3FF));
    else
        agon_utf8_add(w->out, c);
}

static int rw_string(struct rewriter *w)
{
    w->pos++; /* the opening quote */
    agon_buf_addc(w->out, '"');
    for (;;) {
        if (w->pos >= w->text.size)
            return rw_fail(w, "the text ends inside a string");
        size_t at = w->pos;
        int32_t c = agon_utf8_next(w->text, &w->pos);
        if (c == '"')
            break;
        uint32_t code = (uint32_t)c;
        if (c < 0x20) {
            w->pos = at;
            return rw_fail(w, c < 0 ? "invalid UTF-8" : "a control character in a string");
        }
        int r = c == '\\' ? rw_escape(w, &code) : 0;
        if (r)
            return r;
        rw_put_char(w, code);
    }
    agon_buf_addc(w->out, '"');
    return 0;
}

static int rw_value(struct rewriter *w);

/* Steps past a comma (1), or past `close` (0). */
static int rw_next(struct rewriter *w, char close)
{
    rw_space(w);
    char c = rw_peek(w);
    if (c != ',' && c != close)
        return rw_fail(w, close == ']' ? "',' or ']' was expected" : "',' or '}' was expected");
    w->pos++;
    if (c == ',')
        agon_buf_adds(w->out, ", ");
    return c == ',';
}

static int rw_array(struct rewriter *w)
{
    w->pos++;
    agon_buf_addc(w->out, '[');
    rw_space(w);
    int more = rw_peek(w) != ']';
    if (!more)
        w->pos++;
    while (more) {
        int r = rw_value(w);
        if (r)
            return r;
        more = rw_next(w, ']');
        if (more < 0)
            return more;
    }
    agon_buf_addc(w->out, ']');
    return 0;
}

static int rw_note(struct rewriter *w, struct member note)
{
    if (w->n_members == w->members_capacity) {
        size_t capacity = w->members_capacity ? 2 * w->members_capacity : 32;
        struct member *members = realloc(w->members, capacity * sizeof(*members));
        if (!members)
            return agon_fail(w->err, AGON_ENOMEM, "JSON: out of memory");
        w->members = members;
        w->members_capacity = capacity;
    }
    w->members[w->n_members++] = note;
    return 0;
}

static int rw_member(struct rewriter *w, size_t index)
{
    rw_space(w);
    if (rw_peek(w) != '"')
        return rw_fail(w, "a key in double quotes was expected");
    struct member note = {.key = w->out->size, .index = index};
    int r = rw_string(w);
    if (r)
        return r;
    rw_space(w);
    if (rw_peek(w) != ':')
        return rw_fail(w, "':' was expected");
    w->pos++;
    agon_buf_adds(w->out, ": ");
    note.value = w->out->size;
    r = rw_value(w);
    if (r)
        return r;
    note.end = w->out->size;
    return rw_note(w, note);
}

/* Including the ": " after it, so no key is the start of another. */
static struct agon_str member_key(const struct member *m, const char *out)
{
    return (struct agon_str){out + m->key, m->value - m->key};
}

static int member_order(const void *a, const void *b, void *out)
{
    const struct member *x = a, *y = b;
    struct agon_str s = member_key(x, out), t = member_key(y, out);
    int order = memcmp(s.data, t.data, s.size < t.size ? s.size : t.size);
    return order ? order : x->index < y->index ? -1 : x->index > y->index;
}

static int member_order_index(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Sorted by key, then index: keep one member for each key, the first with the last one's value. */
static size_t members_fold(struct member *m, size_t n, const char *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (kept && agon_str_equal(member_key(&m[kept - 1], out), member_key(&m[i], out)))
            m[kept - 1] = (struct member){m[i].key, m[i].value, m[i].end, m[kept - 1].index};
        else
            m[kept++] = m[i];
    }
    return kept;
}

static int rw_drop_duplicates(struct rewriter *w, size_t first, size_t object_start)
{
    size_t n = w->n_members - first;
    w->n_members = first;
    if (n < 2 || w->out->failed)
        return 0; /* a failed buffer holds less than the notes say; it is reported at the end */
    struct member *m = w->members + first;
    qsort_r(m, n, sizeof(*m), member_order, w->out->data);
    size_t kept = members_fold(m, n, w->out->data);
    if (kept == n)
        return 0;
    qsort(m, kept, sizeof(*m), member_order_index);
    struct agon_buf again AGON_AUTO(agon_buf_deinit) = AGON_BUF(w->out->size_max);
    for (size_t i = 0; i < kept; i++) {
        agon_buf_adds(&again, i ? ", " : "");
        agon_buf_add(&again, w->out->data + m[i].key, m[i].end - m[i].key);
    }
    int r = agon_buf_check(&again, "JSON", w->err);
    if (r)
        return r;
    w->out->size = object_start;
    agon_buf_add_str(w->out, agon_buf_str(&again));
    return 0;
}

static int rw_object(struct rewriter *w)
{
    w->pos++;
    agon_buf_addc(w->out, '{');
    size_t object_start = w->out->size, first = w->n_members;
    rw_space(w);
    int more = rw_peek(w) != '}';
    if (!more)
        w->pos++;
    for (size_t i = 0; more; i++) {
        int r = rw_member(w, i);
        if (r)
            return r;
        more = rw_next(w, '}');
        if (more < 0)
            return more;
    }
    int r = rw_drop_duplicates(w, first, object_start);
    agon_buf_addc(w->out, '}');
    return r;
}

static int rw_value(struct rewriter *w)
{
    rw_space(w);
    char c = rw_peek(w);
    if (c == '[' || c == '{') {
        if (++w->depth > AGON_JSON_DEPTH_MAX)
            return rw_fail(w, "nested too deep");
        int r = c == '[' ? rw_array(w) : rw_object(w);
        w->depth--;
        return r;
    }
    switch (c) {
    case '"': return rw_string(w);
    case 't': return rw_word(w, "true");
    case 'f': return rw_word(w, "false");
    case 'n': return rw_word(w, "null");
    default: return rw_number(w);
    }
}

static int rw_text(struct rewriter *w)
{
    int r = rw_value(w);
    if (r)
        return r;
    rw_space(w);
    if (w->pos < w->text.size)
        return rw_fail(w, "nothing was expected after the value");
    return agon_buf_check(w->out, "JSON", w->err);
}

int agon_json_rewrite(struct agon_buf *b, struct agon_str text, struct agon_err *err)
{
    size_t start = b->size;
    struct rewriter w = {.text = text, .out = b, .err = err};
    int r = rw_text(&w);
    struct agon_str written = {agon_buf_text(b) + start, b->size - start};
    if (!r && w.lone_surrogate && !agon_utf8_valid(written)) {
        b->size = start;
        w.pos = 0;
        w.ascii = true;
        r = rw_text(&w);
    }
    free(w.members);
    if (r && b->data) {
        b->size = start;
        b->data[start] = '\0';
    }
    return r;
}
