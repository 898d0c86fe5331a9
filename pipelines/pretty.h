#pragma once
/*
 * Values for a person in front of a terminal: JSON broken into lines where it is long, rows as an
 * aligned table, running text wrapped. Text of models loses its control characters here. Widths
 * are columns as wcwidth() counts them, for which LC_CTYPE has to be some UTF-8.
 */
#include "base/buf.h"

#include <jansson.h>

/* Columns that a text takes. */
int agon_pretty_width(struct agon_str text);
/* A value, indented by so many columns after the first line; ends without a newline. */
void agon_pretty_json(struct agon_buf *out, const json_t *value, int width, int indent);
/* Is it a list of objects whose values are no lists and no objects, of one shape or nearly? */
bool agon_pretty_is_rows(const json_t *value);
/* Such a list as a table: columns that are too wide are cut; where even that is too wide, each row
 * is a block of lines. */
void agon_pretty_rows(struct agon_buf *out, const json_t *rows, int width);
/* Text in lines of at most `width`, of whose first `used` columns are taken and whose others are
 * indented; its own newlines stay; ends in a newline. */
void agon_pretty_wrap(struct agon_buf *out, struct agon_str text, int width, int used, int indent);
