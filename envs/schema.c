/*
 * The JSON-schema subset: is a schema well-formed? See schema.h; whether a value
 * fits one is schema_fits.c.
 *
 * Messages are read by a model that has to repair its call: they name the place
 * first, then what was expected, then what was there.
 */
#include "envs/schema.h"

#include "envs/schema_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const kind_names[] = {
    [AGON_KIND_NULL] = "null",     [AGON_KIND_BOOLEAN] = "boolean", [AGON_KIND_INTEGER] = "integer",
    [AGON_KIND_NUMBER] = "number", [AGON_KIND_STRING] = "string",   [AGON_KIND_ARRAY] = "array",
    [AGON_KIND_OBJECT] = "object", [AGON_KIND_OTHER] = "other",
};

const char *agon_kind_name(enum agon_kind kind)
{
    return kind_names[kind];
}

enum agon_kind schema_kind_of(const char *text)
{
    for (int k = 0; text && k < AGON_KIND_OTHER; k++)
        if (!strcmp(text, kind_names[k]))
            return (enum agon_kind)k;
    return AGON_KIND_OTHER;
}

static size_t path_add(struct schema_path *p, const char *text, size_t size)
{
    size_t was = p->size;
    size_t room = sizeof(p->text) - 1 - p->size;
    size = size < room ? size : room;
    memcpy(p->text + p->size, text, size);
    p->size += size;
    p->text[p->size] = '\0';
    return was;
}

size_t schema_path_key(struct schema_path *p, const char *key)
{
    size_t was = p->size;
    if (p->size)
        path_add(p, ".", 1);
    path_add(p, key, strlen(key));
    return was;
}

size_t schema_path_item(struct schema_path *p, size_t i)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "[%zu]", i);
    return path_add(p, text, (size_t)n);
}

void schema_path_cut(struct schema_path *p, size_t size)
{
    p->size = size;
    p->text[size] = '\0';
}

struct checker {
    struct schema_path path;
    int depth;
    struct agon_err *err;
};

#define REFUSE(c, ...) schema_refuse(c, __VA_ARGS__)

static int schema_refuse(struct checker *c, const char *fmt, ...) AGON_PRINTF(2, 3);
static int schema_refuse(struct checker *c, const char *fmt, ...)
{
    char text[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    agon_fail(c->err, SCHEMA_MISFIT, "%s%s%s", c->path.text, c->path.size ? ": " : "", text);
    return SCHEMA_MISFIT;
}

static int check_schema(struct checker *c, const json_t *schema);

static int check_nested(struct checker *c, const json_t *schema, const char *key)
{
    size_t was = schema_path_key(&c->path, key);
    int r = check_schema(c, schema);
    if (!r)
        schema_path_cut(&c->path, was);
    return r;
}

static int check_keywords(struct checker *c, const json_t *schema)
{
    static const char *const known[] = {
        "type",    "properties", "required",  "enum",        "items",
        "minimum", "maximum",    "minItems",  "maxItems",    "default",
        "anyOf",   "title",      "tolerance", "description", "additionalProperties",
    };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)schema, key, value)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
            found |= !strcmp(key, known[i]);
        if (!found)
            return REFUSE(c, "unknown keyword '%.60s'", key);
        bool text = !strcmp(key, "description") || !strcmp(key, "title");
        if (text && !json_is_string(value))
            return REFUSE(c, "%s is not a string", key);
    }
    return 0;
}

static bool is_scalar_kind(enum agon_kind kind)
{
    return kind != AGON_KIND_ARRAY && kind != AGON_KIND_OBJECT && kind != AGON_KIND_OTHER;
}

static int check_any_of(struct checker *c, const json_t *any)
{
    if (!json_is_array(any) || json_array_size(any) < 2)
        return REFUSE(c, "anyOf is not an array of two or more schemas");
    for (size_t i = 0; i < json_array_size(any); i++) {
        const json_t *one = json_array_get(any, i);
        const char *type = json_string_value(json_object_get(one, "type"));
        bool scalar = type ? is_scalar_kind(schema_kind_of(type)) : !!json_object_get(one, "enum");
        if (!scalar)
            return REFUSE(c, "anyOf holds something other than a scalar type");
        char key[32];
        snprintf(key, sizeof(key), "anyOf[%zu]", i);
        int r = check_nested(c, one, key);
        if (r)
            return r;
    }
    return 0;
}

static int check_enum(struct checker *c, const json_t *values)
{
    if (!json_is_array(values) || !json_array_size(values))
        return REFUSE(c, "enum is not a non-empty array");
    for (size_t i = 0; i < json_array_size(values); i++)
        if (json_is_array(json_array_get(values, i)) || json_is_object(json_array_get(values, i)))
            return REFUSE(c, "enum holds something other than scalars");
    return 0;
}

static int check_object(struct checker *c, const json_t *schema)
{
    json_t *properties = json_object_get(schema, "properties");
    const json_t *required = json_object_get(schema, "required");
    const json_t *more = json_object_get(schema, "additionalProperties");
    if (properties && !json_is_object(properties))
        return REFUSE(c, "properties is not an object");
    const char *key;
    json_t *value;
    json_object_foreach(properties, key, value)
    {
        if (!*key || strlen(key) > 63)
            return REFUSE(c, "a property's name is empty or over 63 bytes");
        size_t was = schema_path_key(&c->path, "properties");
        int r = check_nested(c, value, key);
        if (r)
            return r;
        schema_path_cut(&c->path, was);
    }
    if (required && !json_is_array(required))
        return REFUSE(c, "required is not an array of names");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        if (!name)
            return REFUSE(c, "required is not an array of names");
        if (!json_object_get(properties, name))
            return REFUSE(c, "required names '%.60s', which is no property", name);
    }
    if (more && !json_is_boolean(more))
        return REFUSE(c, "additionalProperties is neither true nor false");
    return 0;
}

static int check_count(struct checker *c, const json_t *schema, const char *key)
{
    const json_t *count = json_object_get(schema, key);
    if (count && (!json_is_integer(count) || json_integer_value(count) < 0))
        return REFUSE(c, "%s is not a count", key);
    return 0;
}

static int check_array(struct checker *c, const json_t *schema)
{
    int r = check_count(c, schema, "minItems");
    if (!r)
        r = check_count(c, schema, "maxItems");
    const json_t *items = json_object_get(schema, "items");
    if (!r && items)
        r = check_nested(c, items, "items");
    return r;
}

static int check_range(struct checker *c, const json_t *schema)
{
    const json_t *low = json_object_get(schema, "minimum"),
                 *high = json_object_get(schema, "maximum");
    const json_t *tolerance = json_object_get(schema, "tolerance");
    if ((low && !json_is_number(low)) || (high && !json_is_number(high)))
        return REFUSE(c, "%s is not a number", low && !json_is_number(low) ? "minimum" : "maximum");
    if (low && high && json_number_value(low) > json_number_value(high))
        return REFUSE(c, "minimum is above maximum");
    if (tolerance && (!json_is_number(tolerance) || json_number_value(tolerance) < 0))
        return REFUSE(c, "tolerance is not a number from 0 up");
    return 0;
}

/* Keywords that belong to one kind of type are refused beside another: they would bind nothing. */
static int check_places(struct checker *c, const json_t *schema, enum agon_kind kind)
{
    static const struct {
        const char *key;
        enum agon_kind kind;
    } places[] = {
        {"properties", AGON_KIND_OBJECT},
        {"required", AGON_KIND_OBJECT},
        {"additionalProperties", AGON_KIND_OBJECT},
        {"items", AGON_KIND_ARRAY},
        {"minItems", AGON_KIND_ARRAY},
        {"maxItems", AGON_KIND_ARRAY},
        {"minimum", AGON_KIND_NUMBER},
        {"maximum", AGON_KIND_NUMBER},
        {"tolerance", AGON_KIND_NUMBER},
    };
    enum agon_kind as = kind == AGON_KIND_INTEGER ? AGON_KIND_NUMBER : kind;
    for (size_t i = 0; i < sizeof(places) / sizeof(*places); i++)
        if (json_object_get(schema, places[i].key) && places[i].kind != as)
            return REFUSE(c, "%s needs type %s", places[i].key, agon_kind_name(places[i].kind));
    return 0;
}

static int check_typed(struct checker *c, const json_t *schema)
{
    const json_t *type = json_object_get(schema, "type"), *values = json_object_get(schema, "enum");
    const json_t *any = json_object_get(schema, "anyOf");
    enum agon_kind kind = schema_kind_of(json_string_value(type));
    if (type && kind == AGON_KIND_OTHER)
        return REFUSE(c,
                      "type is not one of string, integer, number, boolean, object, array, null");
    if (!type && !values && !any)
        return REFUSE(c, "type is missing");
    int r = check_places(c, schema, kind);
    if (!r && any)
        r = check_any_of(c, any);
    if (!r && values)
        r = check_enum(c, values);
    if (!r && kind == AGON_KIND_OBJECT)
        r = check_object(c, schema);
    if (!r && kind == AGON_KIND_ARRAY)
        r = check_array(c, schema);
    if (!r && (kind == AGON_KIND_INTEGER || kind == AGON_KIND_NUMBER))
        r = check_range(c, schema);
    return r;
}

static int check_schema(struct checker *c, const json_t *schema)
{
    if (!json_is_object(schema))
        return REFUSE(c, "a schema is a JSON object");
    if (c->depth >= SCHEMA_DEPTH_MAX)
        return REFUSE(c, "nested over %d deep", SCHEMA_DEPTH_MAX);
    c->depth++;
    int r = check_keywords(c, schema);
    if (!r)
        r = check_typed(c, schema);
    const json_t *value = json_object_get(schema, "default");
    struct agon_err misfit;
    if (!r && value && agon_schema_fits(schema, value, "default", &misfit))
        r = REFUSE(c, "%s", misfit.text);
    c->depth--;
    return r;
}

int agon_schema_check(const json_t *schema, struct agon_err *err)
{
    struct checker c = {.err = err};
    return check_schema(&c, schema);
}
