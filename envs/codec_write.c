/*
 * Writing Lua values as JSON text (codec.h), and checking them against a schema on the way: one
 * look at each value serves both. Where anything is amiss the text is dropped, and the schema
 * itself says what (codec.c).
 */
#include "base/json.h"
#include "base/text.h"
#include "envs/codec_internal.h"
#include "sandbox/script.h"
#include "sandbox/script_view.h"

#include <lauxlib.h>
#include <lua.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { INTEGER_BYTES = 24 };

struct writer {
    lua_State *L;
    struct agon_codec *codec;
    struct agon_buf *out;
    size_t start; /* of our part of out */
    int depth, nodes;
    bool check; /* a value that does not fit ends it */
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
    if (agon_codec_plain(s, true) == s.size) {
        agon_script_charge(w->L, 1 + (int64_t)(s.size / 32));
        char *at = agon_buf_extend(w->out, s.size + 2);
        if (!at)
            return 0; /* asked for once, at the end */
        at[0] = at[s.size + 1] = '"';
        memcpy(at + 1, s.data, s.size);
        return 0;
    }
    if (memchr(s.data, '\0', s.size))
        return refuse(w, "a string holds a NUL character");
    if (!agon_utf8_valid(s))
        return refuse(w, "a string is not valid UTF-8");
    agon_script_charge(w->L, 1 + (int64_t)(s.size / 32));
    agon_json_dump_string(w->out, s);
    return 0;
}

/* Its end; at most INTEGER_BYTES. */
static char *put_integer(char *to, int64_t value)
{
    char text[INTEGER_BYTES], *at = text + sizeof(text);
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do
        *--at = (char)('0' + rest % 10);
    while ((rest /= 10) > 0);
    if (value < 0)
        *--at = '-';
    size_t n = (size_t)(text + sizeof(text) - at);
    memcpy(to, at, n);
    return to + n;
}

static void write_integer(struct writer *w, int64_t value)
{
    char text[INTEGER_BYTES];
    agon_buf_add(w->out, text, (size_t)(put_integer(text, value) - text));
}

static int write_value(struct writer *w, const struct agon_plan *plan);

/* The member whose value is on the top, which leaves. */
static int write_member(struct writer *w, struct agon_str key, size_t *n)
{
    if ((*n)++)
        agon_buf_add(w->out, ", ", 2);
    int r = write_string(w, key);
    agon_buf_add(w->out, ": ", 2);
    if (!r)
        r = write_value(w, NULL);
    lua_pop(w->L, 1);
    return r;
}

static int write_looked(struct writer *w, const struct agon_plan *plan,
                        const struct agon_look *look);

/* The first one without the comma. */
static struct agon_str key_text(const struct agon_plan_property *property, size_t n)
{
    size_t comma = n ? 0 : 2;
    return (struct agon_str){property->key.data + comma, property->key.size - comma};
}

static void write_key(struct writer *w, const struct agon_plan_property *property, size_t *n)
{
    if (*n)
        agon_buf_add(w->out, ", ", 2);
    agon_script_charge(w->L, 1 + (int64_t)(property->name.size / 32));
    agon_buf_add_str(w->out, key_text(property, 0));
    ++*n;
}

/* What a short text or a number takes at most, or 0: it has to go the long way. */
static size_t simple_bytes(const struct agon_look *look)
{
    switch (look->kind) {
    case AGON_KIND_INTEGER: return INTEGER_BYTES;
    case AGON_KIND_STRING:
        return agon_codec_plain(look->string, true) == look->string.size ? look->string.size + 2
                                                                         : 0;
    case AGON_KIND_NULL:
    case AGON_KIND_BOOLEAN:
    case AGON_KIND_NUMBER:
    case AGON_KIND_ARRAY:
    case AGON_KIND_OBJECT:
    case AGON_KIND_OTHER: break;
    }
    return 0;
}

static char *put(char *at, struct agon_str s)
{
    memcpy(at, s.data, s.size);
    return at + s.size;
}

/*
 * A member that fits, with all that is asked and charged for asked at once. False where anything
 * may be in the way: nothing was done then.
 */
static bool write_simple(struct writer *w, const struct agon_plan_property *property,
                         const struct agon_look *look, size_t n)
{
    const struct agon_plan *plan = property->plan;
    struct agon_buf *out = w->out;
    bool fits = plan->want == look->kind || plan->want == AGON_KIND_OTHER ||
                (plan->want == AGON_KIND_NUMBER && look->kind == AGON_KIND_INTEGER);
    size_t bytes = simple_bytes(look);
    if (!bytes || (w->check && !fits) || w->nodes >= AGON_CODEC_NODES_MAX || out->failed)
        return false;
    struct agon_str key = key_text(property, n);
    bytes += key.size;
    if (out->size - w->start + bytes > AGON_CODEC_BYTES_MAX || out->capacity - out->size <= bytes ||
        out->size_max - out->size < bytes)
        return false;
    int64_t fuel = 2 + (int64_t)(property->name.size / 32);
    if (look->kind == AGON_KIND_STRING)
        fuel += 1 + (int64_t)(look->string.size / 32);
    if (!agon_script_afford(w->L, fuel))
        return false;
    w->nodes++;
    char *at = put(out->data + out->size, key);
    if (look->kind == AGON_KIND_STRING) {
        *at++ = '"';
        at = put(at, look->string);
        *at++ = '"';
    } else {
        at = put_integer(at, look->integer);
    }
    *at = '\0';
    out->size = (size_t)(at - out->data);
    return true;
}

/* Members in the order of the schema's properties. */
static int write_properties(struct writer *w, const struct agon_plan *plan, size_t *n)
{
    for (int i = 0; i < plan->n_properties; i++) {
        const struct agon_plan_property *property = &plan->properties[i];
        struct agon_look look;
        if (!property->plan->rules && agon_codec_look_field(w->L, property->name, &look)) {
            agon_script_room(w->L, 9, "value nested too deep"); /* as if it stood on the stack */
            if (write_simple(w, property, &look, *n)) {
                ++*n;
                continue;
            }
            write_key(w, property, n);
            int r = write_looked(w, property->plan, &look);
            if (r)
                return r;
            continue;
        }
        lua_pushstring(w->L, property->name.data); /* Lua knows it by its address */
        if (lua_rawget(w->L, -2) == LUA_TNIL) {
            lua_pop(w->L, 1);
            if (w->check && property->required)
                return AGON_CODEC_REFUSED;
            continue;
        }
        write_key(w, property, n);
        int r = write_value(w, property->plan);
        lua_pop(w->L, 1);
        if (r)
            return r;
    }
    return 0;
}

/* Members in the order of a row's columns. */
static int write_columns(struct writer *w, const struct agon_shape *shape, size_t *n)
{
    lua_State *L = w->L;
    for (int i = 0; i < shape->n; i++) {
        struct agon_str key = agon_str(shape->names[i]);
        lua_pushstring(L, key.data);
        if (lua_rawget(L, -2) == LUA_TNIL) {
            lua_pop(L, 1);
            continue;
        }
        int r = write_member(w, key, n);
        if (r)
            return r;
    }
    return 0;
}

/* Of the table on the top, or NULL. */
static const struct agon_shape *shape_of(lua_State *L)
{
    if (!lua_getmetatable(L, -1))
        return NULL;
    lua_rawgetp(L, -1, &agon_codec_key_shape);
    const struct agon_shape *shape = lua_touserdata(L, -1);
    lua_pop(L, 2);
    return shape;
}

static bool in_shape(const struct agon_shape *shape, struct agon_str key)
{
    for (int i = 0; shape && i < shape->n; i++)
        if (agon_str_is(key, shape->names[i]))
            return true;
    return false;
}

static bool is_property(const struct agon_plan *plan, struct agon_str key)
{
    for (int i = 0; plan && i < plan->n_properties; i++)
        if (agon_str_equal(plan->properties[i].name, key))
            return true;
    return false;
}

/* What neither schema nor shape named, sorted. */
static int write_rest(struct writer *w, const struct agon_plan *plan,
                      const struct agon_shape *shape, size_t n_all, size_t *n)
{
    lua_State *L = w->L;
    size_t base = w->codec->n_keys;
    (void)agon_codec_keys(w->codec, L, n_all);
    int r = 0;
    for (size_t i = 0; i < n_all && !r; i++) {
        struct agon_str key = w->codec->keys[base + i]; /* nested objects may move the array */
        if (is_property(plan, key) || in_shape(shape, key))
            continue;
        lua_pushlstring(L, key.data, key.size);
        lua_rawget(L, -2);
        r = write_member(w, key, n);
    }
    w->codec->n_keys = base;
    return r;
}

static int write_object(struct writer *w, const struct agon_plan *plan, size_t n_all)
{
    size_t n = 0;
    const struct agon_shape *shape = NULL;
    int r = 0;
    agon_buf_addc(w->out, '{');
    if (plan && plan->has_properties) {
        r = write_properties(w, plan, &n);
    } else if ((shape = shape_of(w->L))) {
        r = write_columns(w, shape, &n);
    }
    if (!r && w->check && plan && plan->closed && n < n_all)
        return AGON_CODEC_REFUSED;
    if (!r && n < n_all)
        r = write_rest(w, plan, shape, n_all, &n);
    agon_buf_addc(w->out, '}');
    return r;
}

static int write_array(struct writer *w, const struct agon_plan *plan, size_t n)
{
    const struct agon_plan *items = plan ? plan->items : NULL;
    agon_buf_addc(w->out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i)
            agon_buf_add(w->out, ", ", 2);
        lua_rawgeti(w->L, -1, (lua_Integer)i + 1);
        int r = write_value(w, items);
        lua_pop(w->L, 1);
        if (r)
            return r;
    }
    agon_buf_addc(w->out, ']');
    return 0;
}

static int write_table(struct writer *w, const struct agon_plan *plan, const struct agon_look *look)
{
    if (w->depth >= AGON_CODEC_DEPTH_MAX)
        return refuse(w, "nested over 32 deep");
    w->depth++;
    int r = look->kind == AGON_KIND_ARRAY ? write_array(w, plan, look->n)
                                          : write_object(w, plan, look->n);
    w->depth--;
    return r;
}

static bool fits(struct writer *w, const struct agon_plan *plan, const struct agon_look *look)
{
    if (!agon_codec_scalar_fits(w->codec, w->L, plan, look))
        return false;
    return plan->want != AGON_KIND_ARRAY ||
           (look->n >= plan->items_min && look->n <= plan->items_max);
}

static int write_other(struct writer *w, const struct agon_look *look)
{
    char why[96];
    snprintf(why, sizeof(why), "%s cannot be written as JSON", look->other);
    return refuse(w, why);
}

/* A value that was looked at; a table stands on the top. */
static int write_looked(struct writer *w, const struct agon_plan *plan,
                        const struct agon_look *look)
{
    if (w->check && plan && !fits(w, plan, look))
        return AGON_CODEC_REFUSED;
    if (++w->nodes > AGON_CODEC_NODES_MAX)
        return refuse(w, "over 100,000 values");
    if (w->out->size - w->start > AGON_CODEC_BYTES_MAX)
        return refuse(w, "over 1,000,000 bytes of JSON");
    agon_script_charge(w->L, 1);
    switch (look->kind) {
    case AGON_KIND_NULL: agon_buf_add(w->out, "null", 4); return 0;
    case AGON_KIND_BOOLEAN: agon_buf_adds(w->out, look->boolean ? "true" : "false"); return 0;
    case AGON_KIND_INTEGER: write_integer(w, look->integer); return 0;
    case AGON_KIND_NUMBER:
        if (!isfinite(look->number))
            return refuse(w, "a number is infinite or not a number");
        agon_json_dump_real(w->out, look->number);
        return 0;
    case AGON_KIND_STRING: return write_string(w, look->string);
    case AGON_KIND_ARRAY:
    case AGON_KIND_OBJECT: return write_table(w, plan, look);
    case AGON_KIND_OTHER: break;
    }
    return write_other(w, look);
}

/* The value on the top; stays there. On a refusal the stack may hold more: the callers reset it. */
static int write_value(struct writer *w, const struct agon_plan *plan)
{
    struct agon_look look;
    agon_script_room(w->L, 8, "value nested too deep");
    agon_codec_look(w->L, plan ? plan->want : AGON_KIND_OTHER, &look);
    return write_looked(w, plan, &look);
}

static int write_run(struct writer *w, const struct agon_plan *plan)
{
    w->start = w->out->size;
    w->codec->n_keys = 0;
    int top = lua_gettop(w->L);
    int r = write_value(w, plan);
    lua_settop(w->L, top);
    /* Escapes make a string up to six times as long, which its buffer may not have had. */
    if (!r && w->out->failed == AGON_ENOMEM)
        agon_script_abort(w->L, "out of memory");
    if (!r && (w->out->failed || w->out->size - w->start > AGON_CODEC_BYTES_MAX))
        r = refuse(w, "over 1,000,000 bytes of JSON");
    return r;
}

int agon_codec_write(struct agon_codec *c, lua_State *L, const json_t *guide, const char *what,
                     struct agon_buf *out, struct agon_err *err)
{
    struct writer w = {.L = L, .codec = c, .out = out, .what = what, .err = err};
    return write_run(&w, agon_codec_plan(c, L, guide));
}

int agon_codec_encode(struct agon_codec *c, lua_State *L, const json_t *schema, const char *what,
                      struct agon_buf *out, struct agon_err *err)
{
    const struct agon_plan *plan = agon_codec_plan(c, L, schema);
    if (!plan)
        return agon_codec_write(c, L, NULL, what, out, err);
    struct writer w = {.L = L, .codec = c, .out = out, .what = what, .err = err, .check = true};
    size_t size = out->size;
    int failed = out->failed;
    if (!plan->odd && write_run(&w, plan) == 0)
        return 0;
    if (out->data)
        out->data[size] = '\0';
    out->size = size;
    out->failed = failed;
    int r = agon_codec_misfit(c, L, schema, what, err);
    return r ? r : agon_codec_write(c, L, schema, what, out, err);
}
