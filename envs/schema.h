#pragma once
/*
 * The JSON-schema subset of signatures and answers (DESIGN.md, "Signatures"):
 * type, properties, required, enum, items, minimum, maximum, minItems, maxItems,
 * default, anyOf of scalars, description, additionalProperties, and "tolerance"
 * on a numeric leaf of an answer. Others are refused. An object schema with
 * "properties" is closed unless additionalProperties says otherwise; one without
 * is open. integer and number stay distinct: 3 fits both, 3.0 only number. Each
 * schema states "type" (one name), "anyOf" or "enum".
 */
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>

/* Is this schema well-formed? 0, or 1 with the reason in err's text ("properties.city: unknown
 * keyword 'pattern'"). */
int agon_schema_check(const json_t *schema, struct agon_err *err) AGON_MUST_USE;
/* Does value fit? 0, or 1 with "answer.city: expected string, got integer 3". what: "answer",
 * "arguments". */
int agon_schema_fits(const json_t *schema, const json_t *value, const char *what,
                     struct agon_err *err) AGON_MUST_USE;
/* An identifier of agon (column, table, argument): [a-z][a-z0-9_]*, at most 63 bytes, no keyword
 * of C, Python, SQL or Lua. 0, or 1 with the reason ("'order' is a keyword of SQL"). */
int agon_name_check(const char *name, struct agon_err *err) AGON_MUST_USE;
/* The same for a tool, which must not take a reserved name either (reset, step, ...). */
int agon_tool_name_check(const char *name, struct agon_err *err) AGON_MUST_USE;
