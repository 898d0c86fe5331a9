#pragma once
/*
 * Walking JSON text in the canonical writing (agon_json_rewrite()) without turning it
 * into values: numbers that jansson can't hold survive. The text is known to be valid,
 * so nothing here fails.
 */
#include "base/str.h"

#include <jansson.h>

struct agon_jsontext {
    const char *at; /* at the next member or element, or at the closing bracket */
};

/* Begin to walk an object ('{') or array ('['); false where text is no such thing. */
bool agon_jsontext_open(struct agon_jsontext *w, struct agon_str text, char bracket);
/* The next member's key (a string literal, quotes included) and value; for an array pass
 * NULL as ret_key. false at the end. */
bool agon_jsontext_next(struct agon_jsontext *w, struct agon_str *ret_key,
                        struct agon_str *ret_value);

static inline void agon_json_decrefp(json_t **value)
{
    json_decref(*value);
}
