/* JSON text <-> Lua values: see codec.h. Reading is codec_read.c, writing codec_write.c. */
#include "envs/codec.h"

#include "base/json.h"
#include "base/text.h"
#include "envs/codec_internal.h"
#include "envs/schema_walk.h"
#include "sandbox/script.h"
#include "sandbox/script_record.h"
#include "sandbox/script_view.h"

#include <inttypes.h>
#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { SPARSE_FREE = 512 }; /* empty slots of a table that cost nothing */

/* Keys of our own, which no script can have: in the registry the markers of empty
 * tables, in a row's metatable the order of its columns. */
static const char key_list, key_object;
const char agon_codec_key_shape;

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
    agon_plans_deinit(&c->plans);
    free(c->keys);
    *c = (struct agon_codec){0};
}

/* The highest bit of each byte of x that is less than `below`; exact up to the first of them. */
static uint64_t bytes_below(uint64_t x, unsigned char below)
{
    return (x - UINT64_C(0x0101010101010101) * below) & ~x & UINT64_C(0x8080808080808080);
}

size_t agon_codec_plain(struct agon_str s, bool ascii)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    size_t i = 0;
    for (uint64_t x; i + sizeof(x) <= s.size; i += sizeof(x)) { /* eight at a time */
        memcpy(&x, s.data + i, sizeof(x));
        uint64_t stop =
            bytes_below(x, ' ') | bytes_below(x ^ ones * '"', 1) | bytes_below(x ^ ones * '\\', 1);
        stop |= ascii ? x & ones * 0x80 : 0;
        if (stop)
            return i + (size_t)__builtin_ctzll(stop) / 8;
    }
    for (; i < s.size; i++) {
        unsigned char c = (unsigned char)s.data[i];
        if (c < 0x20 || c == '"' || c == '\\' || (ascii && c >= 0x80))
            break;
    }
    return i;
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

void agon_codec_push_shape(lua_State *L, const struct agon_shape *shape)
{
    agon_script_tag(L, &agon_codec_key_shape, shape);
}

/* ---- a Lua value under the schema's cursor ---- */

struct lua_walk {
    lua_State *L;
    struct agon_codec *codec;
};

/* A table is a list, an object or neither. */
static void look_table(lua_State *L, enum agon_kind want, struct agon_look *ret)
{
    size_t n_list = 0;
    struct agon_script_keys keys;
    agon_script_room(L, 4, "value nested too deep");
    if (!agon_script_names(L, -1, &keys)) {
        n_list = lua_rawlen(L, -1);
        keys = agon_script_keys(L, -1, n_list);
    }
    size_t n_keys = keys.n_items + keys.n_names + keys.n_other;
    agon_script_charge(L, 1 + (int64_t)(n_keys / 4));
    if (keys.n_slots > SPARSE_FREE + 4 * n_keys) /* no table that was only filled */
        agon_script_charge(L, (int64_t)(keys.n_slots / 32));
    ret->n = keys.n_items + keys.n_names;
    if (keys.n_other || (keys.n_items && keys.n_names) || keys.n_items != n_list) {
        ret->kind = AGON_KIND_OTHER;
        ret->other = keys.n_names ? "a table with both names and numbers as keys"
                                  : "a table whose keys are not 1, 2, 3, ...";
    } else if (keys.n_items) {
        ret->kind = AGON_KIND_ARRAY;
    } else if (keys.n_names) {
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

bool agon_codec_look_field(lua_State *L, struct agon_str name, struct agon_look *ret)
{
    struct agon_script_field field;
    if (!agon_script_field(L, -1, name, &field))
        return false;
    *ret = (struct agon_look){.boolean = field.boolean,
                              .integer = field.integer,
                              .number = field.number,
                              .string = field.text};
    ret->kind = field.type == LUA_TBOOLEAN  ? AGON_KIND_BOOLEAN
                : field.type == LUA_TSTRING ? AGON_KIND_STRING
                : field.is_integer          ? AGON_KIND_INTEGER
                                            : AGON_KIND_NUMBER;
    return true;
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

struct agon_str *agon_codec_keys(struct agon_codec *c, lua_State *L, size_t n)
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
    *ret = agon_codec_keys(w->codec, w->L, look.n)[i];
    w->codec->n_keys -= look.n;
    return true;
}

const struct agon_plan *agon_codec_plan(struct agon_codec *c, lua_State *L, const json_t *schema)
{
    const struct agon_plan *plan = agon_plan_of(&c->plans, schema);
    if (schema && !plan)
        agon_script_abort(L, "out of memory for a schema");
    return plan;
}

int agon_codec_misfit(struct agon_codec *c, lua_State *L, const json_t *schema, const char *what,
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

static bool plan_fits(struct agon_codec *c, lua_State *L, const struct agon_plan *p);

static bool plan_fits_members(struct agon_codec *c, lua_State *L, const struct agon_plan *p,
                              size_t n)
{
    size_t known = 0;
    for (int i = 0; i < p->n_properties; i++) {
        const struct agon_plan_property *property = &p->properties[i];
        struct agon_look look;
        if (!property->plan->rules && agon_codec_look_field(L, property->name, &look)) {
            agon_script_room(L, 9, "value nested too deep"); /* as if it stood on the stack */
            if (!agon_codec_scalar_fits(c, L, property->plan, &look))
                return false;
            known++;
            continue;
        }
        lua_pushstring(L, property->name.data); /* Lua knows it by its address */
        bool there = lua_rawget(L, -2) != LUA_TNIL;
        bool fits = there ? plan_fits(c, L, property->plan) : !property->required;
        lua_pop(L, 1);
        if (!fits)
            return false;
        known += there;
    }
    return known == n || !p->closed;
}

static bool plan_fits_items(struct agon_codec *c, lua_State *L, const struct agon_plan *p, size_t n)
{
    if (n < p->items_min || n > p->items_max)
        return false;
    for (size_t i = 0; p->items && i < n; i++) {
        lua_rawgeti(L, -1, (lua_Integer)i + 1);
        bool fits = plan_fits(c, L, p->items);
        lua_pop(L, 1);
        if (!fits)
            return false;
    }
    return true;
}

bool agon_codec_scalar_fits(struct agon_codec *c, lua_State *L, const struct agon_plan *p,
                            const struct agon_look *look)
{
    if (p->rules)
        return agon_codec_misfit(c, L, p->schema, "", NULL) == 0;
    return p->want == AGON_KIND_OTHER || p->want == look->kind ||
           (p->want == AGON_KIND_NUMBER && look->kind == AGON_KIND_INTEGER);
}

/* Whether the value on the top fits; a plan that is odd may not be asked. */
static bool plan_fits(struct agon_codec *c, lua_State *L, const struct agon_plan *p)
{
    struct agon_look look;
    agon_script_room(L, 8, "value nested too deep");
    agon_codec_look(L, p->want, &look);
    if (!agon_codec_scalar_fits(c, L, p, &look))
        return false;
    if (p->want == AGON_KIND_OBJECT)
        return plan_fits_members(c, L, p, look.n);
    return p->want != AGON_KIND_ARRAY || plan_fits_items(c, L, p, look.n);
}

int agon_codec_fits(struct agon_codec *c, lua_State *L, const json_t *schema, const char *what,
                    struct agon_err *err)
{
    const struct agon_plan *plan = agon_codec_plan(c, L, schema);
    int top = lua_gettop(L);
    bool fits = plan && !plan->odd && plan_fits(c, L, plan);
    lua_settop(L, top);
    return fits ? 0 : agon_codec_misfit(c, L, schema, what, err);
}

static void fill_defaults(struct agon_codec *c, lua_State *L, const json_t *schema);

bool agon_codec_has_defaults(struct agon_codec *c, lua_State *L, const json_t *schema)
{
    return agon_codec_plan(c, L, schema)->defaults;
}

void agon_codec_defaults(struct agon_codec *c, lua_State *L, const json_t *schema)
{
    if (agon_codec_plan(c, L, schema)->defaults)
        fill_defaults(c, L, schema);
}

static void fill_defaults(struct agon_codec *c, lua_State *L, const json_t *schema)
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
            if (c->value.failed ||
                agon_codec_decode(c, L, agon_buf_str(&c->value), "default", NULL))
                agon_script_abort(L, "out of memory"); /* it was checked with the schema */
            lua_pushstring(L, key);
            lua_insert(L, -2);
            lua_rawset(L, -3);
        } else {
            fill_defaults(c, L, property);
            lua_pop(L, 1);
        }
    }
    const json_t *items = json_object_get(schema, "items");
    for (size_t i = 1; items && i <= lua_rawlen(L, -1); i++) {
        lua_rawgeti(L, -1, (lua_Integer)i);
        fill_defaults(c, L, items);
        lua_pop(L, 1);
    }
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
