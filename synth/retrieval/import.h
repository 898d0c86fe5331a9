#pragma once
/*
 * From a document's table to a table of the world: names folded to identifiers,
 * columns typed by what they hold, a primary key chosen, STRICT, in one
 * transaction. The world is trusted to be ours; the table's text is not.
 */
#include "base/buf.h"
#include "synth/retrieval/table.h"

struct sqlite3;

enum { AGON_IMPORT_REFUSED = 1 }; /* result is one "error: ..." sentence; the world is unchanged */

/*
 * columns: array of headers (as they stand in the document, or folded) to keep, in
 * that order; NULL keeps all. result gets the lines that PROTOCOL.md gives import_table.
 */
int agon_import(struct sqlite3 *world, const struct agon_table *table, const char *into,
                const json_t *columns, struct agon_buf *result, struct agon_err *err) AGON_MUST_USE;
/* header as an identifier: "Miles/(US) gallon" is "miles_us_gallon". At most 40 bytes. */
void agon_import_fold(struct agon_str header, char ret_name[64]);
