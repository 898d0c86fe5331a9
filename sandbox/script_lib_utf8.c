/*
 * utf8 (Lua 5.4 reference manual, 6.5), charged by the byte: the stock functions
 * walk over continuation bytes for nothing. Code points end at U+10FFFF and
 * surrogates are refused (there is no lax mode).
 */
#include "base/text.h"
#include "sandbox/script_lib.h"

enum { RESULTS_MAX = 8000 };

static size_t start_of(lua_Integer i, size_t n)
{
    if (i >= 0)
        return (size_t)i;
    return 0 - (lua_Unsigned)i > n ? 0 : n + (size_t)i + 1;
}

static bool continues(char c)
{
    return ((unsigned char)c & 0xc0) == 0x80;
}

/* Decode the character at s (n > 0 bytes); 0 bytes when it is none. */
static size_t decode(const char *s, size_t n, lua_Integer *ret)
{
    size_t size = 0;
    *ret = n > 0 ? agon_utf8_next((struct agon_str){s, n}, &size) : -1;
    return *ret < 0 ? 0 : size;
}

static size_t encode(lua_Integer c, char *ret)
{
    if (c < 0x80) {
        ret[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--) {
        ret[i] = (char)(0x80 | (c & 0x3f));
        c >>= 6;
    }
    ret[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

static int utf8_char(lua_State *L)
{
    int n = lua_gettop(L);
    script_charge(L, 1 + n);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    for (int i = 1; i <= n; i++) {
        lua_Integer c = luaL_checkinteger(L, i);
        luaL_argcheck(L, c >= 0 && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff), i,
                      "value out of range");
        char text[4];
        size_t size = encode(c, text);
        agon_script_buf_add(&b, text, size);
    }
    agon_script_buf_push(&b);
    return 1;
}

static int utf8_len(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer i = (lua_Integer)start_of(luaL_optinteger(L, 2, 1), n);
    lua_Integer j = (lua_Integer)start_of(luaL_optinteger(L, 3, -1), n), count = 0;
    luaL_argcheck(L, i >= 1 && i - 1 <= (lua_Integer)n, 2, "initial position out of bounds");
    luaL_argcheck(L, j <= (lua_Integer)n, 3, "final position out of bounds");
    for (i--; i < j; count++) {
        lua_Integer c;
        size_t size = decode(s + i, n - (size_t)i, &c);
        script_charge(L, 1);
        if (size == 0) {
            lua_pushnil(L);
            lua_pushinteger(L, i + 1);
            return 2;
        }
        i += (lua_Integer)size;
    }
    lua_pushinteger(L, count);
    return 1;
}

static int utf8_codepoint(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer i = (lua_Integer)start_of(luaL_optinteger(L, 2, 1), n);
    lua_Integer j = (lua_Integer)start_of(luaL_optinteger(L, 3, i), n);
    luaL_argcheck(L, i >= 1, 2, "out of bounds");
    luaL_argcheck(L, j <= (lua_Integer)n, 3, "out of bounds");
    int n_results = 0;
    for (i--; i < j; n_results++) {
        lua_Integer c;
        size_t size = decode(s + i, n - (size_t)i, &c);
        script_charge(L, 1);
        if (size == 0)
            return luaL_error(L, "invalid UTF-8 code");
        if (n_results >= RESULTS_MAX)
            return luaL_error(L, "string slice too long: at most %d values", RESULTS_MAX);
        luaL_checkstack(L, 1, "string slice too long");
        lua_pushinteger(L, c);
        i += (lua_Integer)size;
    }
    return n_results;
}

/* The byte position of the n-th character counted from position i. */
static int utf8_offset(lua_State *L)
{
    size_t size;
    const char *s = luaL_checklstring(L, 1, &size);
    lua_Integer n = luaL_checkinteger(L, 2), len = (lua_Integer)size;
    lua_Integer i = (lua_Integer)start_of(luaL_optinteger(L, 3, n > 0 ? 1 : len + 1), size) - 1;
    luaL_argcheck(L, i >= 0 && i <= len, 3, "position out of bounds");
    if (n == 0) {
        for (; i > 0 && i < len && continues(s[i]); i--)
            script_charge(L, 1);
        lua_pushinteger(L, i + 1);
        return 1;
    }
    if (i < len && continues(s[i]))
        return luaL_error(L, "initial position is a continuation byte");
    for (; n < 0 && i > 0; n++)
        do {
            script_charge(L, 1);
            i--;
        } while (i > 0 && continues(s[i]));
    for (; n > 1 && i < len; n--)
        do {
            script_charge(L, 1);
            i++;
        } while (i < len && continues(s[i]));
    if (n == 0 || n == 1)
        lua_pushinteger(L, i + 1);
    else
        lua_pushnil(L);
    return 1;
}

static int codes_step(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer i = luaL_checkinteger(L, 2), c;
    luaL_argcheck(L, i >= 0, 2, "out of bounds");
    script_charge(L, 2);
    size_t at = 0;
    if (i > 0 && (size_t)i <= n) {
        size_t size = decode(s + i - 1, n - (size_t)i + 1, &c);
        at = (size_t)i - 1 + (size ? size : 1);
    } else if (i > 0) {
        return 0;
    }
    if (at >= n)
        return 0;
    if (decode(s + at, n - at, &c) == 0)
        return luaL_error(L, "invalid UTF-8 code");
    lua_pushinteger(L, (lua_Integer)at + 1);
    lua_pushinteger(L, c);
    return 2;
}

static int utf8_codes(lua_State *L)
{
    luaL_checkstring(L, 1);
    lua_pushcfunction(L, codes_step);
    lua_pushvalue(L, 1);
    lua_pushinteger(L, 0);
    return 3;
}

int agon_script_open_utf8(lua_State *L)
{
    static const luaL_Reg own[] = {{"char", utf8_char},           {"len", utf8_len},
                                   {"codepoint", utf8_codepoint}, {"offset", utf8_offset},
                                   {"codes", utf8_codes},         {NULL, NULL}};
    lua_newtable(L);
    luaL_setfuncs(L, own, 0);
    lua_pushlstring(L, "[\0-\x7F\xC2-\xFD][\x80-\xBF]*", 14);
    lua_setfield(L, -2, "charpattern");
    return 1;
}
