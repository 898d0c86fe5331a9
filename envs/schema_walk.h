#pragma once
/*
 * One validator for two kinds of value: jansson's in the driver, Lua's in a
 * cell. A walk is a cursor over a value; schema.c checks whatever it can walk,
 * so an answer is judged by the same rules on both sides of the box.
 */
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdint.h>

enum agon_kind {
    AGON_KIND_NULL,
    AGON_KIND_BOOLEAN,
    AGON_KIND_INTEGER,
    AGON_KIND_NUMBER, /* a float */
    AGON_KIND_STRING,
    AGON_KIND_ARRAY,
    AGON_KIND_OBJECT,
    AGON_KIND_OTHER, /* no JSON value: a function, a mixed table */
};

/* What the cursor stands on. */
struct agon_look {
    enum agon_kind kind;
    bool boolean;
    int64_t integer;
    double number;
    struct agon_str string; /* borrowed until the cursor leaves */
    size_t n;               /* items or members */
    const char *other;      /* OTHER: what it is ("a function") */
};

struct agon_walk_ops {
    /* want: what the schema hopes for; an empty Lua table is either. */
    void (*look)(void *walk, enum agon_kind want, struct agon_look *ret);
    bool (*enter_key)(void *walk, struct agon_str key); /* false: absent */
    bool (*enter_item)(void *walk, size_t i);           /* from 0; false: no memory */
    void (*leave)(void *walk);
    /* The i-th key in bytewise order; keys are gathered on i == 0 for the object the cursor is on.
     */
    bool (*key)(void *walk, size_t i, struct agon_str *ret);
};

/* agon_schema_fits() for any walk. */
int agon_schema_walk(const json_t *schema, const struct agon_walk_ops *ops, void *walk,
                     const char *what, struct agon_err *err) AGON_MUST_USE;
/* "string" for AGON_KIND_STRING, and so on. */
const char *agon_kind_name(enum agon_kind kind);
