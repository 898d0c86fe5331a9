/* Reading JSON text onto the Lua stack (codec.h): a parser by recursive descent. */
#include "base/text.h"
#include "envs/codec_internal.h"
#include "sandbox/script.h"

#include <ctype.h>
#include <errno.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    NUMBER_BYTES_MAX = 400,
    SHORT_INTEGER = 18,
    MEMBERS_USUAL = 4, /* room for so many at once: a table that grows is made three times */
};

struct reader {
    lua_State *L;
    struct agon_codec *codec;
    struct agon_str text;
    size_t at;
    int depth, nodes;
    const char *what;
    struct agon_err *err;
};

static int refuse(struct reader *r, const char *why)
{
    agon_fail(r->err, AGON_CODEC_REFUSED, "%s: not JSON at byte %zu: %s", r->what, r->at + 1, why);
    return AGON_CODEC_REFUSED;
}

static int peek(struct reader *r)
{
    while (r->at < r->text.size && (r->text.data[r->at] == ' ' || r->text.data[r->at] == '\t' ||
                                    r->text.data[r->at] == '\n' || r->text.data[r->at] == '\r'))
        r->at++;
    return r->at < r->text.size ? (unsigned char)r->text.data[r->at] : -1;
}

/* Four hexadecimal digits at pos, or -1. */
static int hex4(const struct reader *r, size_t pos)
{
    int value = 0;
    if (pos + 4 > r->text.size)
        return -1;
    for (size_t i = pos; i < pos + 4; i++) {
        int c = (unsigned char)r->text.data[i];
        if (!isxdigit(c))
            return -1;
        value = value * 16 + (isdigit(c) ? c - '0' : tolower(c) - 'a' + 10);
    }
    return value;
}

/* The escape \uXXXX (at: past the u), with its second half where it needs one. */
static int read_unicode(struct reader *r)
{
    int code = hex4(r, r->at);
    if (code < 0)
        return refuse(r, "\\u needs four hexadecimal digits");
    r->at += 4;
    if (code >= 0xD800 && code < 0xDC00) {
        bool pair = r->at + 6 <= r->text.size && !memcmp(r->text.data + r->at, "\\u", 2);
        int low = pair ? hex4(r, r->at + 2) : -1;
        if (low < 0xDC00 || low > 0xDFFF)
            return refuse(r, "a lone surrogate");
        code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
        r->at += 6;
    } else if (code >= 0xDC00 && code <= 0xDFFF) {
        return refuse(r, "a lone surrogate");
    }
    if (code == 0)
        return refuse(r, "a string holds a NUL character");
    agon_utf8_add(&r->codec->text, (uint32_t)code);
    return 0;
}

static int read_escape(struct reader *r)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    int c = r->at < r->text.size ? r->text.data[r->at] : 0;
    const char *known = c ? strchr(from, c) : NULL;
    r->at++;
    if (c == 'u')
        return read_unicode(r);
    if (!known)
        return refuse(r, "unknown escape");
    agon_buf_addc(&r->codec->text, to[known - from]);
    return 0;
}

/* Past the letters that stand for themselves. */
static size_t skip_plain(const struct reader *r, size_t i)
{
    return i + agon_codec_plain((struct agon_str){r->text.data + i, r->text.size - i}, false);
}

static int push_text(struct reader *r, size_t start, struct agon_str text)
{
    agon_script_charge(r->L, 1 + (int64_t)((r->at - start) / 32));
    lua_pushlstring(r->L, text.data, text.size);
    return 0;
}

/* At the opening quote. */
static int read_string(struct reader *r)
{
    struct agon_buf *b = &r->codec->text;
    size_t start = ++r->at, plain = start;
    r->at = skip_plain(r, start);
    if (r->at < r->text.size && r->text.data[r->at] == '"') {
        r->at++;
        return push_text(r, start, (struct agon_str){r->text.data + start, r->at - 1 - start});
    }
    agon_buf_reset(b);
    for (;;) {
        agon_buf_add(b, r->text.data + plain, r->at - plain);
        if (r->at >= r->text.size)
            return refuse(r, "a string does not end");
        char c = r->text.data[r->at];
        if ((unsigned char)c < 0x20)
            return refuse(r, "a control character in a string");
        r->at++;
        if (c == '"')
            break;
        int e = read_escape(r);
        if (e)
            return e;
        plain = r->at;
        r->at = skip_plain(r, plain);
    }
    if (b->failed)
        agon_script_abort(r->L, "out of memory for a string");
    return push_text(r, start, agon_buf_str(b));
}

static size_t skip_digits(const struct reader *r, size_t i)
{
    while (i < r->text.size && isdigit((unsigned char)r->text.data[i]))
        i++;
    return i;
}

static int read_number(struct reader *r)
{
    const char *t = r->text.data;
    size_t end = r->text.size, i = r->at + (t[r->at] == '-'), digits = i;
    bool real = false;
    i = skip_digits(r, i);
    if (i == digits || (t[digits] == '0' && i > digits + 1))
        return refuse(r, i == digits ? "unexpected character" : "a number with a leading zero");
    if (i < end && t[i] == '.') {
        size_t point = ++i;
        i = skip_digits(r, i);
        real = true;
        if (i == point)
            return refuse(r, "digits are missing after the point");
    }
    if (i < end && (t[i] == 'e' || t[i] == 'E')) {
        i += 1 + (i + 1 < end && (t[i + 1] == '+' || t[i + 1] == '-'));
        size_t power = i;
        i = skip_digits(r, i);
        real = true;
        if (i == power)
            return refuse(r, "digits are missing in the exponent");
    }
    size_t size = i - r->at;
    if (!real && size <= SHORT_INTEGER) {
        int64_t value = 0;
        for (size_t k = digits; k < i; k++)
            value = value * 10 + (t[k] - '0');
        lua_pushinteger(r->L, digits > r->at ? -value : value);
        r->at = i;
        return 0;
    }
    char text[NUMBER_BYTES_MAX + 1];
    if (size > NUMBER_BYTES_MAX)
        return refuse(r, "a number of over 400 digits");
    memcpy(text, t + r->at, size);
    text[size] = '\0';
    errno = 0;
    if (real) {
        double value = strtod(text, NULL);
        if (!isfinite(value))
            return refuse(r, "a number is out of range");
        lua_pushnumber(r->L, value);
    } else {
        long long value = strtoll(text, NULL, 10);
        if (errno == ERANGE)
            return refuse(r, "an integer does not fit 64 bits");
        lua_pushinteger(r->L, value);
    }
    r->at = i;
    return 0;
}

static int read_value(struct reader *r);

static int read_array(struct reader *r)
{
    lua_newtable(r->L);
    r->at++;
    lua_Integer n = 0;
    if (peek(r) == ']') {
        r->at++;
        agon_codec_mark_list(r->L);
        return 0;
    }
    for (;;) {
        int e = read_value(r);
        if (e)
            return e;
        lua_rawseti(r->L, -2, ++n);
        int c = peek(r);
        if (c != ',' && c != ']')
            return refuse(r, "expected ',' or ']'");
        r->at++;
        if (c == ']')
            return 0;
    }
}

static int read_member(struct reader *r)
{
    lua_State *L = r->L;
    if (peek(r) != '"')
        return refuse(r, "expected a key in double quotes");
    int e = read_string(r);
    if (e)
        return e;
    lua_pushvalue(L, -1);
    if (lua_rawget(L, -3) != LUA_TNIL)
        return refuse(r, "a key stands twice");
    lua_pop(L, 1);
    if (peek(r) != ':')
        return refuse(r, "expected ':'");
    r->at++;
    e = read_value(r);
    if (!e)
        lua_rawset(L, -3);
    return e;
}

static int read_object(struct reader *r)
{
    r->at++;
    if (peek(r) == '}') {
        lua_newtable(r->L);
        r->at++;
        agon_codec_mark_object(r->L);
        return 0;
    }
    lua_createtable(r->L, 0, MEMBERS_USUAL);
    for (;;) {
        int e = read_member(r);
        if (e)
            return e;
        int c = peek(r);
        if (c != ',' && c != '}')
            return refuse(r, "expected ',' or '}'");
        r->at++;
        if (c == '}')
            return 0;
    }
}

static int read_word(struct reader *r, const char *word)
{
    size_t size = strlen(word);
    if (r->text.size - r->at < size || memcmp(r->text.data + r->at, word, size) != 0)
        return refuse(r, "unexpected character");
    r->at += size;
    if (*word == 'n')
        agon_codec_push_null(r->L);
    else
        lua_pushboolean(r->L, *word == 't');
    return 0;
}

static int read_nested(struct reader *r, int (*read)(struct reader *))
{
    if (r->depth >= AGON_CODEC_DEPTH_MAX)
        return refuse(r, "nested over 32 deep");
    luaL_checkstack(r->L, 6, "value nested too deep");
    r->depth++;
    int e = read(r);
    r->depth--;
    return e;
}

static int read_value(struct reader *r)
{
    if (++r->nodes > AGON_CODEC_NODES_MAX)
        return refuse(r, "over 100,000 values");
    agon_script_charge(r->L, 1);
    switch (peek(r)) {
    case '{': return read_nested(r, read_object);
    case '[': return read_nested(r, read_array);
    case '"': return read_string(r);
    case 't': return read_word(r, "true");
    case 'f': return read_word(r, "false");
    case 'n': return read_word(r, "null");
    case -1: return refuse(r, "the text ends too early");
    default: return read_number(r);
    }
}

int agon_codec_decode(struct agon_codec *c, lua_State *L, struct agon_str text, const char *what,
                      struct agon_err *err)
{
    struct reader r = {.L = L, .codec = c, .text = text, .what = what, .err = err};
    if (text.size > AGON_CODEC_BYTES_MAX)
        return refuse(&r, "over 1,000,000 bytes");
    if (!agon_utf8_valid(text))
        return refuse(&r, "not valid UTF-8");
    luaL_checkstack(L, 8, "value nested too deep");
    int top = lua_gettop(L);
    int e = read_value(&r);
    if (!e && peek(&r) != -1)
        e = refuse(&r, "text follows the value");
    if (e)
        lua_settop(L, top);
    return e;
}
