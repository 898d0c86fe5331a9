/*
 * string: the rest of it (patterns are in script_lib_match.c). The buffer that all
 * libraries build strings in, and string.format without %p.
 */
#include "sandbox/script_lib.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { RESULTS_MAX = 8000 };

void agon_script_buf_init(struct script_buf *b, lua_State *L)
{
    *b = (struct script_buf){.L = L};
    lua_pushnil(L);
    b->slot = lua_gettop(L);
}

char *agon_script_buf_extend(struct script_buf *b, size_t size)
{
    if (b->size + size > b->capacity) {
        size_t capacity = b->capacity < 64 ? 128 : b->capacity * 2;
        while (capacity < b->size + size)
            capacity *= 2;
        luaL_checkstack(b->L, 4, "string buffer");
        char *data = lua_newuserdatauv(b->L, capacity, 0);
        if (b->size > 0)
            memcpy(data, b->data, b->size);
        lua_replace(b->L, b->slot);
        b->data = data;
        b->capacity = capacity;
    }
    b->size += size;
    return b->data + b->size - size;
}

void agon_script_buf_add(struct script_buf *b, const void *data, size_t size)
{
    if (size > 0)
        memcpy(agon_script_buf_extend(b, size), data, size);
}

void agon_script_buf_push(struct script_buf *b)
{
    lua_pushlstring(b->L, b->data ? b->data : "", b->size);
}

/* Positions i and j as Lua counts them, brought into 1..n+1 and 0..n. */
static void range(lua_Integer *i, lua_Integer *j, size_t size)
{
    lua_Integer n = (lua_Integer)size;
    if (*i < 0)
        *i = *i < -n ? 1 : n + *i + 1;
    if (*i < 1)
        *i = 1;
    if (*j < 0)
        *j = *j < -n ? 0 : n + *j + 1;
    if (*j > n)
        *j = n;
}

static int string_len(lua_State *L)
{
    size_t n;
    luaL_checklstring(L, 1, &n);
    lua_pushinteger(L, (lua_Integer)n);
    return 1;
}

static int string_sub(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer i = luaL_checkinteger(L, 2), j = luaL_optinteger(L, 3, -1);
    range(&i, &j, n);
    script_charge_bytes(L, i <= j ? (size_t)(j - i) : 0);
    lua_pushlstring(L, i <= j ? s + i - 1 : "", i <= j ? (size_t)(j - i + 1) : 0);
    return 1;
}

/* lower, upper, reverse: upvalue 1 says which. */
static int string_map(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer what = lua_tointeger(L, lua_upvalueindex(1));
    script_charge_bytes(L, 8 * n);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    char *out = n ? agon_script_buf_extend(&b, n) : NULL;
    for (size_t i = 0; i < n; i++) {
        char c = what == 'r' ? s[n - 1 - i] : s[i];
        if (what == 'l' && c >= 'A' && c <= 'Z')
            c = (char)(c + 32);
        else if (what == 'u' && c >= 'a' && c <= 'z')
            c = (char)(c - 32);
        out[i] = c;
    }
    agon_script_buf_push(&b);
    return 1;
}

static int string_rep(lua_State *L)
{
    size_t n, n_sep;
    const char *s = luaL_checklstring(L, 1, &n), *sep = luaL_optlstring(L, 3, "", &n_sep);
    lua_Integer times = luaL_checkinteger(L, 2);
    script_charge(L, 2);
    if (times <= 0 || n + n_sep == 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    if ((size_t)times > ((size_t)1 << 40) / (n + n_sep))
        return luaL_error(L, "resulting string too large");
    size_t size = (size_t)times * n + (size_t)(times - 1) * n_sep;
    script_charge(L, times / 4);
    script_charge_bytes(L, size);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    char *out = size ? agon_script_buf_extend(&b, size) : NULL;
    for (lua_Integer i = 0; i < times; i++) {
        memcpy(out, s, n);
        out += n;
        if (i + 1 < times && n_sep > 0) {
            memcpy(out, sep, n_sep);
            out += n_sep;
        }
    }
    agon_script_buf_push(&b);
    return 1;
}

static int string_byte(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lua_Integer i = luaL_optinteger(L, 2, 1), j = luaL_optinteger(L, 3, i);
    range(&i, &j, n);
    if (i > j)
        return 0;
    if (j - i >= RESULTS_MAX)
        return luaL_error(L, "string slice too long: at most %d values", RESULTS_MAX);
    script_charge(L, j - i + 1);
    luaL_checkstack(L, (int)(j - i + 1), "string slice too long");
    for (lua_Integer k = i; k <= j; k++)
        lua_pushinteger(L, (unsigned char)s[k - 1]);
    return (int)(j - i + 1);
}

static int string_char(lua_State *L)
{
    int n = lua_gettop(L);
    script_charge(L, 1 + n);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    for (int i = 1; i <= n; i++) {
        lua_Integer c = luaL_checkinteger(L, i);
        luaL_argcheck(L, c >= 0 && c <= 255, i, "value out of range");
        char byte = (char)c;
        agon_script_buf_add(&b, &byte, 1);
    }
    agon_script_buf_push(&b);
    return 1;
}

/* One conversion, "%-5.2f", cut out of the format. */
struct spec {
    char text[24];
    char conversion;
};

static const char *spec_parse(lua_State *L, struct spec *spec, const char *p, const char *end)
{
    const char *start = p; /* behind '%' */
    size_t flags = strspn(p, "-+ #0");
    p += flags;
    for (int i = 0; i < 2 && p < end && *p >= '0' && *p <= '9'; i++)
        p++;
    if (p < end && *p == '.') {
        p++;
        for (int i = 0; i < 2 && p < end && *p >= '0' && *p <= '9'; i++)
            p++;
    }
    if (flags > 5 || p >= end || !*p || !strchr("cdiuoxXaAeEfFgGqs", *p))
        luaL_error(L, "invalid conversion '%%%s' to 'format'",
                   lua_pushlstring(L, start, (size_t)(p < end ? p + 1 - start : p - start)));
    spec->conversion = *p;
    bool integer = strchr("diuoxX", *p) != NULL;
    snprintf(spec->text, sizeof(spec->text), "%%%.*s%s%c", (int)(p - start), start,
             integer ? "ll" : "", *p);
    return p + 1;
}

static void format_quoted(lua_State *L, struct script_buf *b, int arg)
{
    if (lua_type(L, arg) != LUA_TSTRING) {
        luaL_argcheck(L, lua_type(L, arg) <= LUA_TNUMBER && lua_type(L, arg) != LUA_TLIGHTUSERDATA,
                      arg, "value has no literal form");
        char text[64];
        if (lua_type(L, arg) == LUA_TNUMBER && !lua_isinteger(L, arg)) {
            snprintf(text, sizeof(text), "%a", lua_tonumber(L, arg));
            agon_script_buf_add(b, text, strlen(text));
            return;
        }
        agon_script_tostring(L, arg);
        size_t n;
        const char *s = lua_tolstring(L, -1, &n);
        agon_script_buf_add(b, s, n);
        lua_pop(L, 1);
        return;
    }
    size_t n;
    const char *s = lua_tolstring(L, arg, &n);
    script_charge(L, (int64_t)n);
    agon_script_buf_add(b, "\"", 1);
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        char text[8];
        if (c == '"' || c == '\\' || c == '\n')
            snprintf(text, sizeof(text), "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            snprintf(text, sizeof(text),
                     i + 1 < n && s[i + 1] >= '0' && s[i + 1] <= '9' ? "\\%03u" : "\\%u", c);
        else
            snprintf(text, sizeof(text), "%c", c);
        agon_script_buf_add(b, text, strlen(text));
    }
    agon_script_buf_add(b, "\"", 1);
}

static void format_string(lua_State *L, struct script_buf *b, const struct spec *spec, int arg)
{
    agon_script_tostring(L, arg);
    size_t n;
    const char *s = lua_tolstring(L, -1, &n);
    script_charge_bytes(L, n);
    if (strcmp(spec->text, "%s") == 0 || (n >= 100 && !strchr(spec->text, '.'))) {
        agon_script_buf_add(b, s, n);
    } else {
        luaL_argcheck(L, n == strlen(s), arg, "string contains zeros");
        char text[256]; /* width and precision have two digits */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* spec_parse() made it */
        int size = snprintf(text, sizeof(text), spec->text, s);
#pragma GCC diagnostic pop
        agon_script_buf_add(b, text, size > 0 ? (size_t)size : 0);
    }
    lua_pop(L, 1);
}

/* The digits of 1e308 take four microseconds, those of 12.5 a fifth of one. */
static lua_Number number_charged(lua_State *L, int arg)
{
    lua_Number x = luaL_checknumber(L, arg);
    int exponent = 0;
    if (isfinite(x))
        (void)frexp(x, &exponent);
    script_charge(L, abs(exponent) / 8);
    return x;
}

static void format_number(lua_State *L, struct script_buf *b, const struct spec *spec, int arg)
{
    char text[512]; /* %99.99f of the largest number has 409 characters */
    int size;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* spec_parse() made it */
    if (spec->conversion == 'c')
        size = snprintf(text, sizeof(text), spec->text, (int)luaL_checkinteger(L, arg) & 255);
    else if (strchr("diuoxX", spec->conversion))
        size = snprintf(text, sizeof(text), spec->text, (long long)luaL_checkinteger(L, arg));
    else
        size = snprintf(text, sizeof(text), spec->text, number_charged(L, arg));
#pragma GCC diagnostic pop
    agon_script_buf_add(b, text, size > 0 ? (size_t)size : 0);
}

static int string_format(lua_State *L)
{
    int top = lua_gettop(L), arg = 1;
    size_t n;
    const char *p = luaL_checklstring(L, 1, &n), *end = p + n;
    script_charge(L, 2 + (int64_t)n / 8);
    struct script_buf b;
    agon_script_buf_init(&b, L);
    while (p < end) {
        const char *percent = memchr(p, '%', (size_t)(end - p));
        const char *stop = percent ? percent : end;
        agon_script_buf_add(&b, p, (size_t)(stop - p));
        p = stop;
        if (p == end)
            break;
        if (++p < end && *p == '%') {
            agon_script_buf_add(&b, p++, 1);
            continue;
        }
        struct spec spec;
        p = spec_parse(L, &spec, p, end);
        if (++arg > top)
            return luaL_argerror(L, arg, "no value");
        script_charge(L, 8);
        if (spec.conversion == 's')
            format_string(L, &b, &spec, arg);
        else if (spec.conversion == 'q')
            format_quoted(L, &b, arg);
        else
            format_number(L, &b, &spec, arg);
    }
    agon_script_buf_push(&b);
    return 1;
}

/* "10" + 1: arithmetic on strings that look like numbers; upvalue 1 is the LUA_OP*. */
static int string_arith(lua_State *L)
{
    for (int i = 1; i <= 2; i++) {
        size_t n = 0;
        const char *s = lua_type(L, i) == LUA_TSTRING ? lua_tolstring(L, i, &n) : NULL;
        script_charge_bytes(L, 8 * n);
        if (s && lua_stringtonumber(L, s) == n + 1)
            lua_replace(L, i);
        if (lua_type(L, i) != LUA_TNUMBER)
            return luaL_error(L, "attempt to perform arithmetic on a %s value",
                              luaL_typename(L, i));
    }
    int op = (int)lua_tointeger(L, lua_upvalueindex(1));
    lua_settop(L, op == LUA_OPUNM ? 1 : 2);
    lua_arith(L, op);
    return 1;
}

static void string_add_metatable(lua_State *L)
{
    static const struct {
        const char *event;
        int op;
    } ops[] = {{"__add", LUA_OPADD}, {"__sub", LUA_OPSUB},  {"__mul", LUA_OPMUL},
               {"__div", LUA_OPDIV}, {"__mod", LUA_OPMOD},  {"__pow", LUA_OPPOW},
               {"__unm", LUA_OPUNM}, {"__idiv", LUA_OPIDIV}};
    lua_pushliteral(L, "");
    lua_newtable(L);
    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        lua_pushinteger(L, ops[i].op);
        lua_pushcclosure(L, string_arith, 1);
        lua_setfield(L, -2, ops[i].event);
    }
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

int agon_script_open_string(lua_State *L)
{
    static const luaL_Reg own[] = {{"len", string_len},   {"sub", string_sub},
                                   {"rep", string_rep},   {"byte", string_byte},
                                   {"char", string_char}, {"format", string_format},
                                   {NULL, NULL}};
    static const char *const maps[] = {"lower", "upper", "reverse"};
    lua_newtable(L);
    luaL_setfuncs(L, own, 0);
    for (int i = 0; i < 3; i++) {
        lua_pushinteger(L, maps[i][0]);
        lua_pushcclosure(L, string_map, 1);
        lua_setfield(L, -2, maps[i]);
    }
    agon_script_add_match(L);
    string_add_metatable(L);
    return 1;
}
