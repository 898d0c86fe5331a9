#pragma once
/*
 * Text that models wrote, or that was cut to fit a buffer, made fit for JSON: bytes
 * that are no UTF-8, and NULs, become '?'. Valid text stays as it is.
 */
#include "base/buf.h"

#include <jansson.h>

/* A JSON string (new reference); NULL only when out of memory. */
json_t *agon_cleantext_json(struct agon_str text);
/* Clean the content of b in place. */
void agon_cleantext_buf(struct agon_buf *b);
