#pragma once
/*
 * What a parser cell does (sandbox/worker.h, wire.h): documents from elsewhere are taken apart
 * in a box, and the driver (parser.h) gets plain texts back.
 *
 *   doc.render  address, kind, body           -> text
 *   doc.words   address, kind, body, page     -> title, text, summary, n, n times {url, context}
 *   doc.table   address, kind, body, options  -> status, reason | table
 *
 * options: has, format; has, pointer; number; has, delimiter; has, comment. table: n_columns,
 * n_rows, rows left out, headers, cells as {kind, text} row by row. page 1: the HTML of the body is
 * parsed; 0: its bytes are the text.
 */
#include "sandbox/worker.h"

/* Ends with a zero entry. */
extern const struct agon_worker_op agon_parse_ops[];
/* Load what pages in other encodings need, while files can still be opened. */
void agon_parse_prepare(void);
