/*
 * Does a value fit a schema? See schema.h. The rules work through a walk
 * (schema_walk.h); the walk over jansson's values is here, that over Lua's in codec.c.
 */
#include "envs/schema.h"

#include "envs/schema_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

struct fitter {
    const struct agon_walk_ops *ops;
    void *walk;
    struct schema_path path;
    struct agon_err *err;
};

/* What stands there, short enough for a sentence: "string 'Berlin'", "integer 3". */
static void look_text(const struct agon_look *look, char *ret, size_t size)
{
    switch (look->kind) {
    case AGON_KIND_BOOLEAN: snprintf(ret, size, "%s", look->boolean ? "true" : "false"); break;
    case AGON_KIND_INTEGER: snprintf(ret, size, "integer %lld", (long long)look->integer); break;
    case AGON_KIND_NUMBER:
        /* From 1e14 on an exponent shows that it is no integer. */
        snprintf(ret, size, "number %.14g%s", look->number,
                 fabs(look->number) < 1e14 && look->number == trunc(look->number) ? ".0" : "");
        break;
    case AGON_KIND_STRING: {
        int n = 0; /* cut at the end of a character */
        while ((size_t)n < look->string.size && n < 40 && look->string.data[n] != '\n')
            n++;
        while (n > 0 && (size_t)n < look->string.size && (look->string.data[n] & 0xC0) == 0x80)
            n--;
        snprintf(ret, size, "string '%.*s'%s", n, look->string.data,
                 (size_t)n < look->string.size ? "..." : "");
        break;
    }
    case AGON_KIND_OTHER: snprintf(ret, size, "%s", look->other); break;
    case AGON_KIND_NULL:
    case AGON_KIND_ARRAY:
    case AGON_KIND_OBJECT: snprintf(ret, size, "%s", agon_kind_name(look->kind));
    }
}

static int misfit(struct fitter *f, const char *fmt, ...) AGON_PRINTF(2, 3);
static int misfit(struct fitter *f, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    agon_fail(f->err, SCHEMA_MISFIT, "%s: %s", f->path.text, text);
    return SCHEMA_MISFIT;
}

static bool kind_fits(enum agon_kind want, enum agon_kind have)
{
    return want == have || (want == AGON_KIND_NUMBER && have == AGON_KIND_INTEGER);
}

static bool value_is(const json_t *value, const struct agon_look *look)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return look->kind == AGON_KIND_STRING && json_string_length(value) == look->string.size &&
               !memcmp(json_string_value(value), look->string.data, look->string.size);
    case JSON_INTEGER:
        return (look->kind == AGON_KIND_INTEGER && look->integer == json_integer_value(value)) ||
               (look->kind == AGON_KIND_NUMBER &&
                look->number == (double)json_integer_value(value));
    case JSON_REAL:
        return (look->kind == AGON_KIND_NUMBER && look->number == json_real_value(value)) ||
               (look->kind == AGON_KIND_INTEGER && (double)look->integer == json_real_value(value));
    case JSON_TRUE:
    case JSON_FALSE: return look->kind == AGON_KIND_BOOLEAN && look->boolean == json_is_true(value);
    case JSON_NULL: return look->kind == AGON_KIND_NULL;
    case JSON_OBJECT:
    case JSON_ARRAY: break;
    }
    return false;
}

/* "'red', 'green' or 3", cut when long. */
static void enum_text(const json_t *values, char *ret, size_t size)
{
    size_t n = json_array_size(values), used = 0;
    for (size_t i = 0; i < n && used < size - 1; i++) {
        char one[64];
        const json_t *v = json_array_get(values, i);
        if (json_is_string(v))
            snprintf(one, sizeof(one), "'%.50s'", json_string_value(v));
        else if (json_is_integer(v))
            snprintf(one, sizeof(one), "%lld", (long long)json_integer_value(v));
        else if (json_is_real(v))
            snprintf(one, sizeof(one), "%.14g", json_real_value(v));
        else
            snprintf(one, sizeof(one), "%s",
                     json_is_null(v)   ? "null"
                     : json_is_true(v) ? "true"
                                       : "false");
        const char *join = i == 0 ? "" : i + 1 == n ? " or " : ", ";
        if (used + strlen(one) + strlen(join) + 4 > size) {
            snprintf(ret + used, size - used, "...");
            return;
        }
        used += (size_t)snprintf(ret + used, size - used, "%s%s", join, one);
    }
}

static bool scalar_fits(const json_t *schema, const struct agon_look *look)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    if (type && !kind_fits(schema_kind_of(type), look->kind))
        return false;
    const json_t *values = json_object_get(schema, "enum");
    bool found = !values;
    for (size_t i = 0; i < json_array_size(values); i++)
        found |= value_is(json_array_get(values, i), look);
    double number = look->kind == AGON_KIND_INTEGER ? (double)look->integer : look->number;
    bool is_number = look->kind == AGON_KIND_INTEGER || look->kind == AGON_KIND_NUMBER;
    const json_t *low = json_object_get(schema, "minimum"),
                 *high = json_object_get(schema, "maximum");
    return found && (!is_number || !low || number >= json_number_value(low)) &&
           (!is_number || !high || number <= json_number_value(high));
}

static int fit(struct fitter *f, const json_t *schema);

static bool is_known(const json_t *properties, struct agon_str key)
{
    char name[64];
    if (key.size >= sizeof(name) || memchr(key.data, '\0', key.size))
        return false;
    memcpy(name, key.data, key.size);
    name[key.size] = '\0';
    return !!json_object_get(properties, name);
}

static int fit_unknown(struct fitter *f, const json_t *properties, const struct agon_look *look)
{
    struct agon_str key;
    for (size_t i = 0; i < look->n && f->ops->key(f->walk, i, &key); i++) {
        if (is_known(properties, key))
            continue;
        char known[160] = "";
        size_t used = 0;
        const char *name;
        json_t *value;
        json_object_foreach((json_t *)(uintptr_t)properties, name,
                            value) if (used + strlen(name) + 3 < sizeof(known)) used +=
            (size_t)snprintf(known + used, sizeof(known) - used, "%s%s", used ? ", " : "", name);
        return misfit(f, "unknown property '%.*s' (known: %s)",
                      (int)(key.size < 60 ? key.size : 60), key.data, known);
    }
    return 0;
}

static int fit_object(struct fitter *f, const json_t *schema, const struct agon_look *look)
{
    json_t *properties = json_object_get(schema, "properties");
    const json_t *required = json_object_get(schema, "required");
    size_t n_known = 0;
    const char *key;
    json_t *property;
    json_object_foreach(properties, key, property)
    {
        if (!f->ops->enter_key(f->walk, agon_str(key)))
            continue;
        n_known++;
        size_t was = schema_path_key(&f->path, key);
        int r = fit(f, property);
        f->ops->leave(f->walk);
        if (r)
            return r;
        schema_path_cut(&f->path, was);
    }
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!f->ops->enter_key(f->walk, agon_str(name)))
            return misfit(f, "property '%.60s' is missing", name);
        f->ops->leave(f->walk);
    }
    bool closed = properties && !json_is_true(json_object_get(schema, "additionalProperties"));
    if (!properties)
        closed = json_is_false(json_object_get(schema, "additionalProperties"));
    return closed && look->n > n_known ? fit_unknown(f, properties, look) : 0;
}

static int fit_array(struct fitter *f, const json_t *schema, const struct agon_look *look)
{
    const json_t *low = json_object_get(schema, "minItems"),
                 *high = json_object_get(schema, "maxItems");
    if (low && look->n < (size_t)json_integer_value(low))
        return misfit(f, "expected at least %lld items, got %zu",
                      (long long)json_integer_value(low), look->n);
    if (high && look->n > (size_t)json_integer_value(high))
        return misfit(f, "expected at most %lld items, got %zu",
                      (long long)json_integer_value(high), look->n);
    const json_t *items = json_object_get(schema, "items");
    for (size_t i = 0; items && i < look->n; i++) {
        if (!f->ops->enter_item(f->walk, i))
            return misfit(f, "item %zu is missing", i);
        size_t was = schema_path_item(&f->path, i);
        int r = fit(f, items);
        f->ops->leave(f->walk);
        if (r)
            return r;
        schema_path_cut(&f->path, was);
    }
    return 0;
}

/* Why a scalar does not fit, in the order in which a reader would ask. */
static int scalar_misfit(struct fitter *f, const json_t *schema, const struct agon_look *look)
{
    char have[96], want[160];
    look_text(look, have, sizeof(have));
    const char *type = json_string_value(json_object_get(schema, "type"));
    if (type && !kind_fits(schema_kind_of(type), look->kind))
        return misfit(f, "expected %s, got %s", type, have);
    const json_t *values = json_object_get(schema, "enum");
    bool found = !values;
    for (size_t i = 0; i < json_array_size(values); i++)
        found |= value_is(json_array_get(values, i), look);
    if (!found) {
        enum_text(values, want, sizeof(want));
        return misfit(f, "expected %s, got %s", want, have);
    }
    const json_t *low = json_object_get(schema, "minimum");
    double number = look->kind == AGON_KIND_INTEGER ? (double)look->integer : look->number;
    bool below = low && number < json_number_value(low);
    const json_t *bound = below ? low : json_object_get(schema, "maximum");
    return misfit(f, "expected %s %.14g, got %s", below ? "at least" : "at most",
                  json_number_value(bound), have);
}

static int any_misfit(struct fitter *f, const json_t *any, const struct agon_look *look)
{
    char have[96], want[160] = "";
    look_text(look, have, sizeof(have));
    size_t used = 0;
    for (size_t i = 0; i < json_array_size(any) && used < sizeof(want) - 16; i++) {
        const json_t *one = json_array_get(any, i);
        const char *type = json_string_value(json_object_get(one, "type"));
        used += (size_t)snprintf(want + used, sizeof(want) - used, "%s%s", i ? " or " : "",
                                 type ? type : "one of its values");
    }
    return misfit(f, "expected %s, got %s", want, have);
}

static int fit(struct fitter *f, const json_t *schema)
{
    const char *type = json_string_value(json_object_get(schema, "type"));
    enum agon_kind want = schema_kind_of(type);
    struct agon_look look = {0};
    f->ops->look(f->walk, want, &look);
    const json_t *any = json_object_get(schema, "anyOf");
    bool found = !any;
    for (size_t i = 0; i < json_array_size(any) && !found; i++)
        found = scalar_fits(json_array_get(any, i), &look);
    if (!found)
        return any_misfit(f, any, &look);
    if (!scalar_fits(schema, &look))
        return scalar_misfit(f, schema, &look);
    if (want == AGON_KIND_OBJECT)
        return fit_object(f, schema, &look);
    return want == AGON_KIND_ARRAY ? fit_array(f, schema, &look) : 0;
}

int agon_schema_walk(const json_t *schema, const struct agon_walk_ops *ops, void *walk,
                     const char *what, struct agon_err *err)
{
    struct fitter f = {.ops = ops, .walk = walk, .err = err};
    schema_path_key(&f.path, what);
    return fit(&f, schema);
}

/* ---- jansson's values ---- */

struct json_walk {
    const json_t *at[SCHEMA_DEPTH_MAX + 2];
    int depth;
};

static void json_walk_look(void *walk, enum agon_kind want, struct agon_look *ret)
{
    (void)want; /* JSON text knows its own kinds */
    const struct json_walk *w = walk;
    const json_t *v = w->at[w->depth];
    *ret = (struct agon_look){0};
    switch (json_typeof(v)) {
    case JSON_NULL: ret->kind = AGON_KIND_NULL; break;
    case JSON_TRUE:
    case JSON_FALSE:
        ret->kind = AGON_KIND_BOOLEAN;
        ret->boolean = json_is_true(v);
        break;
    case JSON_INTEGER:
        ret->kind = AGON_KIND_INTEGER;
        ret->integer = json_integer_value(v);
        break;
    case JSON_REAL:
        ret->kind = AGON_KIND_NUMBER;
        ret->number = json_real_value(v);
        break;
    case JSON_STRING:
        ret->kind = AGON_KIND_STRING;
        ret->string = (struct agon_str){json_string_value(v), json_string_length(v)};
        break;
    case JSON_ARRAY:
        ret->kind = AGON_KIND_ARRAY;
        ret->n = json_array_size(v);
        break;
    case JSON_OBJECT:
        ret->kind = AGON_KIND_OBJECT;
        ret->n = json_object_size(v);
        break;
    }
}

static bool json_walk_enter(struct json_walk *w, const json_t *child)
{
    if (child)
        w->at[++w->depth] = child;
    return !!child;
}

static bool json_walk_key(void *walk, struct agon_str key)
{
    struct json_walk *w = walk;
    return json_walk_enter(w, json_object_get(w->at[w->depth], key.data));
}

static bool json_walk_item(void *walk, size_t i)
{
    struct json_walk *w = walk;
    return json_walk_enter(w, json_array_get(w->at[w->depth], i));
}

static void json_walk_leave(void *walk)
{
    ((struct json_walk *)walk)->depth--;
}

/* The i-th key in bytewise order, by counting: only called once a key is known to be wrong. */
static bool json_walk_nth_key(void *walk, size_t i, struct agon_str *ret)
{
    const struct json_walk *w = walk;
    json_t *object = (json_t *)(uintptr_t)w->at[w->depth];
    const char *key, *other;
    json_t *value, *other_value;
    json_object_foreach(object, key, value)
    {
        size_t rank = 0;
        json_object_foreach(object, other, other_value) rank += strcmp(other, key) < 0;
        if (rank == i) {
            *ret = agon_str(key);
            return true;
        }
    }
    return false;
}

int agon_schema_fits(const json_t *schema, const json_t *value, const char *what,
                     struct agon_err *err)
{
    static const struct agon_walk_ops ops = {json_walk_look, json_walk_key, json_walk_item,
                                             json_walk_leave, json_walk_nth_key};
    struct json_walk walk = {.at = {value}};
    return agon_schema_walk(schema, &ops, &walk, what, err);
}
