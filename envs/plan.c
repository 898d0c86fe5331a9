/* Schemas made ready: see plan.h. */
#include "envs/plan.h"

#include "base/json.h"
#include "base/uthash.h"
#include "envs/schema_internal.h"

#include <stdlib.h>

enum { PLANS_MAX = 256, KEY_BYTES_MAX = 4096 };

struct plan_entry {
    json_t *schema; /* a reference, so that no other schema gets this address */
    struct agon_plan *plan;
    UT_hash_handle hh;
};

static void plan_free(struct agon_plan *p)
{
    if (!p)
        return;
    for (int i = 0; i < p->n_properties; i++) {
        free((char *)(uintptr_t)p->properties[i].key.data);
        plan_free(p->properties[i].plan);
    }
    free(p->properties);
    plan_free(p->items);
    free(p);
}

static struct agon_plan *plan_new(const json_t *schema, int depth);

static bool plan_property(struct agon_plan *p, const char *name, const json_t *schema, int depth)
{
    struct agon_plan_property *property = &p->properties[p->n_properties++];
    struct agon_buf key = AGON_BUF(KEY_BYTES_MAX);
    agon_buf_adds(&key, ", ");
    agon_json_dump_string(&key, agon_str(name));
    agon_buf_adds(&key, ": ");
    size_t size = key.size;
    char *text = agon_buf_steal(&key);
    agon_buf_deinit(&key);
    property->name = agon_str(name);
    property->key = (struct agon_str){text, size};
    property->plan = plan_new(schema, depth + 1);
    if (!text || !property->plan)
        return false;
    p->odd |= property->plan->odd;
    p->defaults |= property->plan->defaults || json_object_get(schema, "default");
    return true;
}

static void plan_require(struct agon_plan *p, const char *name)
{
    for (int i = 0; i < p->n_properties; i++)
        if (name && agon_str_is(p->properties[i].name, name)) {
            p->properties[i].required = true;
            return;
        }
    p->odd = true;
}

static bool plan_object(struct agon_plan *p, int depth)
{
    json_t *properties = json_object_get(p->schema, "properties"), *property;
    const json_t *required = json_object_get(p->schema, "required");
    const json_t *further = json_object_get(p->schema, "additionalProperties");
    const char *name;
    p->has_properties = properties != NULL;
    p->closed = properties ? !json_is_true(further) : json_is_false(further);
    p->properties = calloc(json_object_size(properties) + 1, sizeof(*p->properties));
    if (!p->properties)
        return false;
    json_object_foreach(properties, name, property)
    {
        if (!plan_property(p, name, property, depth))
            return false;
    }
    for (size_t i = 0; i < json_array_size(required); i++)
        plan_require(p, json_string_value(json_array_get(required, i)));
    return true;
}

static bool plan_array(struct agon_plan *p, int depth)
{
    const json_t *low = json_object_get(p->schema, "minItems"),
                 *high = json_object_get(p->schema, "maxItems"),
                 *items = json_object_get(p->schema, "items");
    p->items_min = low ? (size_t)json_integer_value(low) : 0;
    p->items_max = high ? (size_t)json_integer_value(high) : SIZE_MAX;
    if (items && !(p->items = plan_new(items, depth + 1)))
        return false;
    p->odd |= items && p->items->odd;
    p->defaults |= items && p->items->defaults;
    return true;
}

static struct agon_plan *plan_new(const json_t *schema, int depth)
{
    struct agon_plan *p = depth <= SCHEMA_DEPTH_MAX + 1 ? calloc(1, sizeof(*p)) : NULL;
    if (!p)
        return NULL;
    p->schema = schema;
    p->want = schema_kind_of(json_string_value(json_object_get(schema, "type")));
    p->rules = json_object_get(schema, "enum") || json_object_get(schema, "anyOf") ||
               json_object_get(schema, "minimum") || json_object_get(schema, "maximum");
    /* Whatever its type: a guide without one still says the order of keys. */
    if (plan_object(p, depth) && plan_array(p, depth))
        return p;
    plan_free(p);
    return NULL;
}

void agon_plans_deinit(struct agon_plans *plans)
{
    struct plan_entry *e, *next;
    HASH_ITER(hh, plans->all, e, next)
    {
        HASH_DEL(plans->all, e);
        plan_free(e->plan);
        json_decref(e->schema);
        free(e);
    }
}

const struct agon_plan *agon_plan_of(struct agon_plans *plans, const json_t *schema)
{
    struct plan_entry *e;
    if (!schema)
        return NULL;
    HASH_FIND_PTR(plans->all, &schema, e);
    if (e)
        return e->plan;
    if (HASH_COUNT(plans->all) >= PLANS_MAX) /* answer schemas that come and go */
        agon_plans_deinit(plans);
    e = calloc(1, sizeof(*e));
    if (!e || !(e->plan = plan_new(schema, 0))) {
        free(e);
        return NULL;
    }
    e->schema = json_incref((json_t *)(uintptr_t)schema);
    HASH_ADD_PTR(plans->all, schema, e);
    if (!e->hh.tbl) {
        plan_free(e->plan);
        json_decref(e->schema);
        free(e);
        return NULL;
    }
    return e->plan;
}
