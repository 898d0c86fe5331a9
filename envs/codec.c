/* JSON text <-> Lua values: see codec.h. Reading is codec_read.c. */
#include "envs/codec.h"

#include "base/json.h"
#include "base/text.h"
#include "envs/codec_internal.h"
#include "envs/schema_walk.h"
#include "sandbox/script.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Keys of our own, which no script can have: in the registry the markers of empty
 * tables, in a row's metatable the order of its columns. */
static const char key_list, key_object, key_order;

void agon_codec_init(struct agon_codec *c)
{
    *c = (struct agon_codec){
        .text = AGON_BUF(AGON_CODEC_BYTES_MAX + 64),
        .value = AGON_BUF(AGON_CODEC_BYTES_MAX),
    };
}

void agon_codec_deinit(struct agon_codec *c)
{
    agon_buf_deinit(&c->text);
    agon_buf_deinit(&c->value);
    free(c->keys);
    *c = (struct agon_codec){0};
}

void agon_codec_push_null(lua_State *L)
{
    lua_pushlightuserdata(L, NULL);
}

bool agon_codec_is_null(lua_State *L, int index)
{
    return lua_islightuserdata(L, index) && !lua_touserdata(L, index);
}

static void marker_set(lua_State *L, const void *key)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    lua_setmetatable(L, -2);
}

void agon_codec_mark_list(lua_State *L)
{
    marker_set(L, &key_list);
}

void agon_codec_mark_object(lua_State *L)
{
    marker_set(L, &key_object);
}

static bool marker_is(lua_State *L, int index, const void *key)
{
    if (!lua_getmetatable(L, index))
        return false;
    lua_rawgetp(L, LUA_REGISTRYINDEX, key);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

void agon_codec_push_shape(lua_State *L, const char *const *names, int n)
{
    lua_createtable(L, 0, 1);
    lua_createtable(L, n, n);
    for (int i = 0; i < n; i++) {
        lua_pushstring(L, names[i]);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, i + 1);
        lua_pushboolean(L, 1);
        lua_rawset(L, -3);
    }
    lua_rawsetp(L, -2, &key_order);
}

/* ---- a Lua value under the schema's cursor ---- */

struct lua_walk {
    lua_State *L;
    struct agon_codec *codec;
};

/* A table is a list, an object or neither. */
static void look_table(lua_State *L, enum agon_kind want, struct agon_look *ret)
{
    size_t n_list = lua_rawlen(L, -1), n_items = 0, n_names = 0, n_other = 0;
    luaL_checkstack(L, 4, "value nested too deep");
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        lua_Integer i = lua_isinteger(L, -2) ? lua_tointeger(L, -2) : 0;
        if (lua_type(L, -2) == LUA_TSTRING)
            n_names++;
        else if (i >= 1 && (size_t)i <= n_list)
            n_items++;
        else
            n_other++;
    }
    agon_script_charge(L, 1 + (int64_t)(n_items + n_names + n_other) / 4);
    ret->n = n_items + n_names;
    if (n_other || (n_items && n_names) || n_items != n_list) {
        ret->kind = AGON_KIND_OTHER;
        ret->other = n_names ? "a table with both names and numbers as keys"
                             : "a table whose keys are not 1, 2, 3, ...";
    } else if (n_items) {
        ret->kind = AGON_KIND_ARRAY;
    } else if (n_names) {
        ret->kind = AGON_KIND_OBJECT;
    } else if (want == AGON_KIND_ARRAY || want == AGON_KIND_OBJECT) {
        ret->kind = want;
    } else {
        ret->kind = marker_is(L, -1, &key_object) ? AGON_KIND_OBJECT : AGON_KIND_ARRAY;
    }
}

void agon_codec_look(lua_State *L, enum agon_kind want, struct agon_look *ret)
{
    *ret = (struct agon_look){.kind = AGON_KIND_OTHER};
    switch (lua_type(L, -1)) {
    case LUA_TNIL: ret->kind = AGON_KIND_NULL; break;
    case LUA_TBOOLEAN:
        ret->kind = AGON_KIND_BOOLEAN;
        ret->boolean = lua_toboolean(L, -1);
        break;
    case LUA_TNUMBER:
        ret->kind = lua_isinteger(L, -1) ? AGON_KIND_INTEGER : AGON_KIND_NUMBER;
        if (ret->kind == AGON_KIND_INTEGER)
            ret->integer = lua_tointeger(L, -1);
        else
            ret->number = lua_tonumber(L, -1);
        break;
    case LUA_TSTRING:
        ret->kind = AGON_KIND_STRING;
        ret->string.data = lua_tolstring(L, -1, &ret->string.size);
        break;
    case LUA_TTABLE: look_table(L, want, ret); break;
    case LUA_TFUNCTION: ret->other = "a function"; break;
    default:
        ret->other = "no JSON value";
        if (agon_codec_is_null(L, -1))
            ret->kind = AGON_KIND_NULL;
    }
}

static void walk_look(void *walk, enum agon_kind want, struct agon_look *ret)
{
    agon_codec_look(((struct lua_walk *)walk)->L, want, ret);
}

static bool walk_key(void *walk, struct agon_str key)
{
    lua_State *L = ((struct lua_walk *)walk)->L;
    luaL_checkstack(L, 4, "value nested too deep");
    lua_pushlstring(L, key.data, key.size);
    if (lua_rawget(L, -2) != LUA_TNIL)
        return true;
    lua_pop(L, 1);
    return false;
}

static bool walk_item(void *walk, size_t i)
{
    lua_State *L = ((struct lua_walk *)walk)->L;
    luaL_checkstack(L, 4, "value nested too deep");
    lua_rawgeti(L, -1, (lua_Integer)i + 1);
    return true;
}

static void walk_leave(void *walk)
{
    lua_pop(((struct lua_walk *)walk)->L, 1);
}

static int str_order(const void *a, const void *b)
{
    const struct agon_str *x = a, *y = b;
    size_t n = x->size < y->size ? x->size : y->size;
    int c = memcmp(x->data, y->data, n);
    return c ? c : (x->size > y->size) - (x->size < y->size);
}

/* Push the n sorted string keys of the table on the top onto the codec's own stack. */
static struct agon_str *keys_push(struct agon_codec *c, lua_State *L, size_t n)
{
    if (c->n_keys + n > c->keys_capacity) {
        size_t capacity = 2 * (c->n_keys + n) + 16;
        struct agon_str *keys = realloc(c->keys, capacity * sizeof(*keys));
        if (!keys)
            agon_script_abort(L, "out of memory for keys");
        c->keys = keys;
        c->keys_capacity = capacity;
    }
    size_t start = c->n_keys;
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
        struct agon_str *key = &c->keys[c->n_keys];
        if (lua_type(L, -2) != LUA_TSTRING || c->n_keys - start == n)
            continue;
        key->data = lua_tolstring(L, -2, &key->size);
        c->n_keys++;
    }
    qsort(c->keys + start, n, sizeof(*c->keys), str_order);
    agon_script_charge(L, (int64_t)n);
    return c->keys + start;
}

static bool walk_nth_key(void *walk, size_t i, struct agon_str *ret)
{
    struct lua_walk *w = walk;
    struct agon_look look;
    agon_codec_look(w->L, AGON_KIND_OBJECT, &look);
    if (i >= look.n)
        return false;
    *ret = keys_push(w->codec, w->L, look.n)[i];
    w->codec->n_keys -= look.n;
    return true;
}

int agon_codec_fits(struct agon_codec *c, lua_State *L, const json_t *schema, const char *what,
                    struct agon_err *err)
{
    static const struct agon_walk_ops ops = {walk_look, walk_key, walk_item, walk_leave,
                                             walk_nth_key};
    struct lua_walk walk = {L, c};
    int top = lua_gettop(L);
    c->n_keys = 0;
    int r = agon_schema_walk(schema, &ops, &walk, what, err);
    lua_settop(L, top);
    return r;
}

void agon_codec_defaults(struct agon_codec *c, lua_State *L, const json_t *schema)
{
    if (!lua_istable(L, -1))
        return;
    luaL_checkstack(L, 6, "value nested too deep");
    json_t *properties = json_object_get(schema, "properties");
    const char *key;
    json_t *property;
    json_object_foreach(properties, key, property)
    {
        const json_t *value = json_object_get(property, "default");
        lua_pushstring(L, key);
        if (lua_rawget(L, -2) == LUA_TNIL && value) {
            lua_pop(L, 1);
            agon_buf_reset(&c->value);
            agon_json_dump(&c->value, value);
            if (agon_codec_decode(c, L, agon_buf_str(&c->value), "default", NULL))
                agon_codec_push_null(L); /* a default was checked when the schema was */
            lua_pushstring(L, key);
            lua_insert(L, -2);
            lua_rawset(L, -3);
        } else {
            agon_codec_defaults(c, L, property);
            lua_pop(L, 1);
        }
    }
    const json_t *items = json_object_get(schema, "items");
    for (size_t i = 1; items && i <= lua_rawlen(L, -1); i++) {
        lua_rawgeti(L, -1, (lua_Integer)i);
        agon_codec_defaults(c, L, items);
        lua_pop(L, 1);
    }
}

/* ---- writing ---- */

struct writer {
    lua_State *L;
    struct agon_codec *codec;
    struct agon_buf *out;
    size_t start; /* of our part of out */
    int depth, nodes;
    const char *what;
    struct agon_err *err;
};

static int refuse(struct writer *w, const char *why)
{
    agon_fail(w->err, AGON_CODEC_REFUSED, "%s: %s", w->what, why);
    return AGON_CODEC_REFUSED;
}

static int write_string(struct writer *w, struct agon_str s)
{
    if (s.size > AGON_CODEC_BYTES_MAX || w->out->size - w->start + s.size > AGON_CODEC_BYTES_MAX)
        return refuse(w, "over 1,000,000 bytes of JSON");
    if (memchr(s.data, '\0', s.size))
        return refuse(w, "a string holds a NUL character");
    if (!agon_utf8_valid(s))
        return refuse(w, "a string is not valid UTF-8");
    agon_script_charge(w->L, 1 + (int64_t)(s.size / 32));
    agon_json_dump_string(w->out, s);
    return 0;
}

static int write_value(struct writer *w, const json_t *schema);

static int write_member(struct writer *w, struct agon_str key, const json_t *schema, size_t *n)
{
    if ((*n)++)
        agon_buf_adds(w->out, ", ");
    int r = write_string(w, key);
    agon_buf_adds(w->out, ": ");
    if (!r)
        r = write_value(w, schema);
    lua_pop(w->L, 1);
    return r;
}

/* Members in the order of the schema's properties. */
static int write_properties(struct writer *w, const json_t *properties, size_t *n)
{
    const char *key;
    json_t *property;
    json_object_foreach((json_t *)(uintptr_t)properties, key, property)
    {
        lua_pushstring(w->L, key);
        if (lua_rawget(w->L, -2) == LUA_TNIL) {
            lua_pop(w->L, 1);
            continue;
        }
        int r = write_member(w, agon_str(key), property, n);
        if (r)
            return r;
    }
    return 0;
}

/* Members in the order of a row's columns; the table of the order is on the top, the row below. */
static int write_columns(struct writer *w, size_t *n)
{
    lua_State *L = w->L;
    for (lua_Integer i = 1; lua_rawgeti(L, -1, i) == LUA_TSTRING; i++) {
        struct agon_str key;
        key.data = lua_tolstring(L, -1, &key.size); /* held by the order's table */
        int r = 0;
        if (lua_rawget(L, -3) == LUA_TNIL)
            lua_pop(L, 1);
        else
            r = write_member(w, key, NULL, n);
        if (r)
            return r;
    }
    lua_pop(L, 1);
    return 0;
}

static bool push_order(lua_State *L)
{
    if (!lua_getmetatable(L, -1))
        return false;
    lua_rawgetp(L, -1, &key_order);
    lua_remove(L, -2);
    if (lua_istable(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

static bool in_order(lua_State *L, struct agon_str key)
{
    lua_pushlstring(L, key.data, key.size);
    lua_rawget(L, -2);
    bool is = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return is;
}

/* What neither schema nor shape named, sorted. */
static int write_rest(struct writer *w, const json_t *properties, bool shaped, size_t n_all,
                      size_t *n)
{
    lua_State *L = w->L;
    size_t base = w->codec->n_keys;
    (void)keys_push(w->codec, L, n_all);
    int r = 0;
    for (size_t i = 0; i < n_all && !r; i++) {
        struct agon_str key = w->codec->keys[base + i]; /* nested objects may move the array */
        bool done = properties && json_object_get(properties, key.data);
        if (!done && shaped && push_order(L)) {
            done = in_order(L, key);
            lua_pop(L, 1);
        }
        if (done)
            continue;
        lua_pushlstring(L, key.data, key.size);
        lua_rawget(L, -2);
        r = write_member(w, key, NULL, n);
    }
    w->codec->n_keys = base;
    return r;
}

static int write_object(struct writer *w, const json_t *schema, size_t n_all)
{
    const json_t *properties = json_object_get(schema, "properties");
    size_t n = 0;
    bool shaped = false;
    int r = 0;
    agon_buf_addc(w->out, '{');
    if (properties) {
        r = write_properties(w, properties, &n);
    } else if (push_order(w->L)) {
        shaped = true;
        r = write_columns(w, &n);
        lua_pop(w->L, 1);
    }
    if (!r && n < n_all)
        r = write_rest(w, properties, shaped, n_all, &n);
    agon_buf_addc(w->out, '}');
    return r;
}

static int write_array(struct writer *w, const json_t *schema, size_t n)
{
    const json_t *items = json_object_get(schema, "items");
    agon_buf_addc(w->out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            agon_buf_adds(w->out, ", ");
        lua_rawgeti(w->L, -1, (lua_Integer)i + 1);
        int r = write_value(w, items);
        lua_pop(w->L, 1);
        if (r)
            return r;
    }
    agon_buf_addc(w->out, ']');
    return 0;
}

static int write_table(struct writer *w, const json_t *schema, const struct agon_look *look)
{
    if (w->depth >= AGON_CODEC_DEPTH_MAX)
        return refuse(w, "nested over 32 deep");
    luaL_checkstack(w->L, 8, "value nested too deep");
    w->depth++;
    int r = look->kind == AGON_KIND_ARRAY ? write_array(w, schema, look->n)
                                          : write_object(w, schema, look->n);
    w->depth--;
    return r;
}

static enum agon_kind wanted(const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    bool array = type && !strcmp(type, "array"), object = type && !strcmp(type, "object");
    return array ? AGON_KIND_ARRAY : object ? AGON_KIND_OBJECT : AGON_KIND_OTHER;
}

/* The value on the top; stays there. On a refusal the stack may hold more: encode() resets it. */
static int write_value(struct writer *w, const json_t *schema)
{
    struct agon_look look;
    agon_codec_look(w->L, wanted(schema), &look);
    if (++w->nodes > AGON_CODEC_NODES_MAX)
        return refuse(w, "over 100,000 values");
    if (w->out->size - w->start > AGON_CODEC_BYTES_MAX)
        return refuse(w, "over 1,000,000 bytes of JSON");
    agon_script_charge(w->L, 1);
    switch (look.kind) {
    case AGON_KIND_NULL: agon_buf_adds(w->out, "null"); return 0;
    case AGON_KIND_BOOLEAN: agon_buf_adds(w->out, look.boolean ? "true" : "false"); return 0;
    case AGON_KIND_INTEGER: agon_buf_addf(w->out, "%" PRId64, look.integer); return 0;
    case AGON_KIND_NUMBER:
        if (!isfinite(look.number))
            return refuse(w, "a number is infinite or not a number");
        agon_json_dump_real(w->out, look.number);
        return 0;
    case AGON_KIND_STRING: return write_string(w, look.string);
    case AGON_KIND_ARRAY:
    case AGON_KIND_OBJECT: return write_table(w, schema, &look);
    case AGON_KIND_OTHER: break;
    }
    char why[96];
    snprintf(why, sizeof(why), "%s cannot be written as JSON", look.other);
    return refuse(w, why);
}

int agon_codec_write(struct agon_codec *c, lua_State *L, const json_t *guide, const char *what,
                     struct agon_buf *out, struct agon_err *err)
{
    struct writer w = {
        .L = L, .codec = c, .out = out, .start = out->size, .what = what, .err = err};
    c->n_keys = 0;
    int top = lua_gettop(L);
    int r = write_value(&w, guide);
    lua_settop(L, top);
    /* Escapes make a string up to six times as long, which its buffer may not have had. */
    if (!r && (out->failed || out->size - w.start > AGON_CODEC_BYTES_MAX))
        r = refuse(&w, "over 1,000,000 bytes of JSON");
    return r;
}

int agon_codec_encode(struct agon_codec *c, lua_State *L, const json_t *schema, const char *what,
                      struct agon_buf *out, struct agon_err *err)
{
    int r = schema ? agon_codec_fits(c, L, schema, what, err) : 0;
    return r ? r : agon_codec_write(c, L, schema, what, out, err);
}

static int null_tostring(lua_State *L)
{
    lua_pushliteral(L, "null");
    return 1;
}

void agon_codec_open(lua_State *L)
{
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_list);
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_object);
    agon_codec_push_null(L);
    lua_createtable(L, 0, 1); /* of all light userdata; null is the only one that scripts see */
    lua_pushcfunction(L, null_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_setmetatable(L, -2);
    lua_setglobal(L, "null");
    agon_codec_open_logic(L);
}
