#pragma once
/*
 * A schema made ready: what schema_fits.c looks up in jansson's objects each time, as
 * plain fields. It serves the codec, which writes and checks in one pass; whatever the
 * plan does not know by itself (enum, anyOf, bounds of numbers) is asked of the schema,
 * and the sentence of a misfit is always the schema's.
 */
#include "base/str.h"
#include "envs/schema_walk.h"

struct agon_plan;
struct agon_plan_property {
    struct agon_str name; /* ends in NUL; borrowed from the schema */
    struct agon_str key;  /* owned: the name as a JSON string, between ", " and ": " */
    bool required;
    struct agon_plan *plan; /* owned */
};
struct agon_plan {
    const json_t *schema; /* borrowed from the root's reference */
    enum agon_kind want;  /* of "type"; OTHER: any */
    bool rules;           /* of a scalar: the schema says whether it fits */
    bool has_properties, closed;
    bool odd; /* here or below: a required property that is not listed; only the schema can tell */
    bool defaults; /* here or below */
    struct agon_plan_property *properties;
    int n_properties;
    struct agon_plan *items; /* owned or NULL */
    size_t items_min, items_max;
};

/* Plans by schema, each made once. Zero it, deinit it. */
struct agon_plans {
    struct plan_entry *all;
};
void agon_plans_deinit(struct agon_plans *plans);
/* The plan of a schema, which is kept alive; NULL for NULL and where there is no memory. It stands
 * until the next call. */
const struct agon_plan *agon_plan_of(struct agon_plans *plans, const json_t *schema);
