/*
 * JSON text to jansson's values, under the rule in json.h: a recursive descent of our own.
 *
 * jansson's reader is not used: when an allocation fails while it collects a string, it goes on
 * without the bytes it could not keep (lex_save() in 2.14 drops the error), and then unescapes what
 * it has up to a closing quote that is not there, past the end of its buffer. Its constructors
 * report a failed allocation, and no other part of it runs here.
 */
#include "base/json.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct reader {
    struct agon_str text;
    size_t pos;
    int depth, n_values;
    struct agon_buf string; /* one with escapes, undone */
    struct agon_err *err;
};

static int reader_fail(struct reader *r, const char *what)
{
    int line = 1;
    size_t line_start = 0;
    for (size_t i = 0; i < r->pos && i < r->text.size; i++)
        if (r->text.data[i] == '\n') {
            line++;
            line_start = i + 1;
        }
    return agon_fail(r->err, AGON_EINPUT, "line %d column %zu: %s", line, r->pos - line_start + 1,
                     what);
}

static int out_of_memory(struct reader *r)
{
    return agon_fail(r->err, AGON_ENOMEM, "JSON: out of memory");
}

/* The byte at the position, or -1 at the end. */
static int peek(const struct reader *r)
{
    return r->pos < r->text.size ? (unsigned char)r->text.data[r->pos] : -1;
}

/* The next byte that is no white space. */
static int peek_token(struct reader *r)
{
    int c = peek(r);
    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        r->pos++;
        c = peek(r);
    }
    return c;
}

/* ---- strings ------------------------------------------------------------------------ */

/* Four hexadecimal digits. */
static int read_hex4(struct reader *r, uint32_t *ret)
{
    *ret = 0;
    for (int i = 0; i < 4; i++, r->pos++) {
        int c = peek(r);
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return reader_fail(r, "four hexadecimal digits were expected");
        *ret = *ret << 4 | (uint32_t)digit;
    }
    return 0;
}

/* After "\u", with the second half of a pair where it needs one. */
static int read_unicode(struct reader *r, uint32_t *ret)
{
    uint32_t low, code;
    int e = read_hex4(r, &code);
    if (e)
        return e;
    if (code == 0)
        return reader_fail(r, "a NUL character (\\u0000) in a string");
    if (code >= 0xD800 && code < 0xDC00 && r->text.size - r->pos >= 2 &&
        memcmp(r->text.data + r->pos, "\\u", 2) == 0) {
        r->pos += 2;
        if ((e = read_hex4(r, &low)))
            return e;
        if (low >= 0xDC00 && low < 0xE000)
            code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    }
    if (code >= 0xD800 && code < 0xE000)
        return reader_fail(r, "half of a surrogate pair, which is no character");
    *ret = code;
    return 0;
}

/* At the byte after a backslash. */
static int read_escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = peek(r);
    const char *at = c > 0 ? strchr(from, c) : NULL;
    uint32_t code = 0;
    if (c != 'u' && !at)
        return reader_fail(r, "unknown escape in a string");
    r->pos++;
    if (at) {
        agon_buf_addc(&r->string, to[at - from]);
        return 0;
    }
    int e = read_unicode(r, &code);
    if (!e)
        agon_utf8_add(&r->string, code);
    return e;
}

/* Step over bytes that stand for themselves. 0, or <0 where they may not. */
static int read_plain(struct reader *r)
{
    for (;;) {
        int c = peek(r);
        if (c == '"' || c == '\\')
            return 0;
        if (c < 0)
            return reader_fail(r, "a string does not end");
        if (c < 0x20)
            return reader_fail(r, "a control character in a string");
        size_t at = r->pos;
        if (agon_utf8_next(r->text, &r->pos) < 0) {
            r->pos = at;
            return reader_fail(r, "invalid UTF-8");
        }
    }
}

/* At the opening quote. *ret lies in the text, or in r->string until the next one. */
static int read_string(struct reader *r, struct agon_str *ret)
{
    size_t begin = ++r->pos;
    int e = read_plain(r);
    if (e)
        return e;
    *ret = (struct agon_str){r->text.data + begin, r->pos - begin};
    if (peek(r) == '"') {
        r->pos++;
        return 0;
    }
    agon_buf_reset(&r->string);
    agon_buf_add_str(&r->string, *ret);
    while (peek(r) == '\\') {
        r->pos++;
        if ((e = read_escape(r)))
            return e;
        begin = r->pos;
        if ((e = read_plain(r)))
            return e;
        agon_buf_add(&r->string, r->text.data + begin, r->pos - begin);
    }
    r->pos++;
    if (r->string.failed)
        return out_of_memory(r);
    *ret = (struct agon_str){agon_buf_text(&r->string), r->string.size};
    return 0;
}

/* ---- numbers ------------------------------------------------------------------------ */

static bool step_digits(struct reader *r)
{
    size_t from = r->pos;
    while (peek(r) >= '0' && peek(r) <= '9')
        r->pos++;
    return r->pos > from;
}

/* Over a number as RFC 8259 writes it; *ret_real: has it a point or an exponent? */
static int step_number(struct reader *r, bool *ret_real)
{
    *ret_real = false;
    r->pos += peek(r) == '-';
    if (peek(r) == '0')
        r->pos++;
    else if (!step_digits(r))
        return reader_fail(r, "a value was expected");
    if (peek(r) >= '0' && peek(r) <= '9')
        return reader_fail(r, "a number with a leading zero");
    if (peek(r) == '.') {
        *ret_real = true;
        r->pos++;
        if (!step_digits(r))
            return reader_fail(r, "a digit was expected");
    }
    if (peek(r) == 'e' || peek(r) == 'E') {
        *ret_real = true;
        r->pos++;
        r->pos += peek(r) == '+' || peek(r) == '-';
        if (!step_digits(r))
            return reader_fail(r, "a digit was expected");
    }
    return 0;
}

static int read_number(struct reader *r, json_t **ret)
{
    char text[AGON_JSON_NUMBER_MAX + 1];
    size_t begin = r->pos;
    bool is_real;
    int e = step_number(r, &is_real);
    if (e)
        return e;
    size_t size = r->pos - begin, end = r->pos;
    r->pos = begin; /* where a fault is shown */
    if (size > AGON_JSON_NUMBER_MAX)
        return reader_fail(r, "a number of over 400 digits");
    memcpy(text, r->text.data + begin, size);
    text[size] = '\0';
    errno = 0;
    double real = is_real ? strtod(text, NULL) : 0;
    long long integer = is_real ? 0 : strtoll(text, NULL, 10);
    if (!is_real && errno == ERANGE)
        return reader_fail(r, "an integer that does not fit 64 bits");
    if (!isfinite(real))
        return reader_fail(r, "a number out of range");
    r->pos = end;
    *ret = is_real ? json_real(real) : json_integer(integer);
    return *ret ? 0 : out_of_memory(r);
}

/* ---- values ------------------------------------------------------------------------- */

static int read_value(struct reader *r, json_t **ret);

/* Past a comma (1), or past `close` (0). */
static int read_next(struct reader *r, int close)
{
    int c = peek_token(r);
    if (c != ',' && c != close)
        return reader_fail(r, close == ']' ? "',' or ']' was expected" : "',' or '}' was expected");
    r->pos++;
    return c == ',';
}

static int read_items(struct reader *r, json_t *array)
{
    int more = peek_token(r) != ']';
    r->pos += !more;
    while (more) {
        json_t *item = NULL;
        int e = read_value(r, &item);
        if (e)
            return e;
        if (json_array_append_new(array, item))
            return out_of_memory(r);
        if ((more = read_next(r, ']')) < 0)
            return more;
    }
    return 0;
}

/* The value after a key, into the object. */
static int read_member_value(struct reader *r, json_t *object, struct agon_str key)
{
    json_t *value = NULL;
    if (peek_token(r) != ':')
        return reader_fail(r, "':' was expected");
    r->pos++;
    int e = read_value(r, &value);
    if (e)
        return e;
    return json_object_setn_new_nocheck(object, key.data, key.size, value) ? out_of_memory(r) : 0;
}

static int read_member(struct reader *r, json_t *object)
{
    struct agon_str key;
    if (peek_token(r) != '"')
        return reader_fail(r, "a key in double quotes was expected");
    size_t at = r->pos;
    int e = read_string(r, &key);
    if (e)
        return e;
    if (json_object_getn(object, key.data, key.size)) {
        r->pos = at;
        return reader_fail(r, "duplicate key");
    }
    if (key.data != r->string.data) /* it lies in the text */
        return read_member_value(r, object, key);
    char *copy = strndup(key.data, key.size); /* the next string takes its place */
    e = copy ? read_member_value(r, object, (struct agon_str){copy, key.size}) : out_of_memory(r);
    free(copy);
    return e;
}

static int read_members(struct reader *r, json_t *object)
{
    int more = peek_token(r) != '}';
    r->pos += !more;
    while (more) {
        int e = read_member(r, object);
        if (e)
            return e;
        if ((more = read_next(r, '}')) < 0)
            return more;
    }
    return 0;
}

static int read_nested(struct reader *r, bool is_array, json_t **ret)
{
    char what[40];
    (void)snprintf(what, sizeof(what), "nested over %d deep", AGON_JSON_DEPTH_MAX);
    if (r->depth == AGON_JSON_DEPTH_MAX)
        return reader_fail(r, what);
    json_t *value = is_array ? json_array() : json_object();
    if (!value)
        return out_of_memory(r);
    r->pos++;
    r->depth++;
    int e = is_array ? read_items(r, value) : read_members(r, value);
    r->depth--;
    if (e)
        json_decref(value);
    else
        *ret = value;
    return e;
}

static int read_text(struct reader *r, json_t **ret)
{
    struct agon_str text;
    int e = read_string(r, &text);
    if (!e && !(*ret = json_stringn_nocheck(text.data, text.size)))
        e = out_of_memory(r);
    return e;
}

static int read_word(struct reader *r, const char *word, json_t *value, json_t **ret)
{
    size_t n = strlen(word);
    if (r->text.size - r->pos < n || memcmp(r->text.data + r->pos, word, n) != 0)
        return reader_fail(r, "a value was expected");
    r->pos += n;
    *ret = value; /* one of the three that need no memory */
    return 0;
}

static int read_value(struct reader *r, json_t **ret)
{
    if (++r->n_values > AGON_JSON_VALUES_MAX)
        return reader_fail(r, "over 2,097,152 values");
    switch (peek_token(r)) {
    case '{': return read_nested(r, false, ret);
    case '[': return read_nested(r, true, ret);
    case '"': return read_text(r, ret);
    case 't': return read_word(r, "true", json_true(), ret);
    case 'f': return read_word(r, "false", json_false(), ret);
    case 'n': return read_word(r, "null", json_null(), ret);
    case -1: return reader_fail(r, "the text ends too early");
    default: return read_number(r, ret);
    }
}

int agon_json_parse(json_t **ret, struct agon_str text, struct agon_err *err)
{
    struct reader r = {.text = text, .string = AGON_BUF(text.size), .err = err};
    json_t *value = NULL;
    int e = read_value(&r, &value);
    if (!e && peek_token(&r) >= 0)
        e = reader_fail(&r, "nothing was expected after the value");
    agon_buf_deinit(&r.string);
    if (e) {
        json_decref(value);
        return e;
    }
    *ret = value;
    return 0;
}
