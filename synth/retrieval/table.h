#pragma once
/*
 * A table as it stands in a document: headers and cells, all text or missing,
 * before anything is typed. One reader a format; they share nothing but this.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>

/* What a cell is: a format with types of its own (JSON) says so; text is typed later. */
enum agon_cell_kind {
    AGON_CELL_MISSING,
    AGON_CELL_TEXT,
    AGON_CELL_INTEGER,
    AGON_CELL_REAL,
    AGON_CELL_STRING
};
struct agon_cell_value {
    enum agon_cell_kind kind; /* STRING: text that must stay text, whatever it looks like */
    struct agon_str text;
};
enum { AGON_TABLE_COLUMNS_MAX = 64, AGON_TABLE_ROWS_MAX = 20000 };

struct agon_table {
    struct agon_arena *arena; /* owns everything below */
    int n_columns, n_rows;
    struct agon_str *headers;      /* [n_columns] */
    struct agon_cell_value *cells; /* [n_rows][n_columns] */
    int n_rows_left_out;           /* beyond AGON_TABLE_ROWS_MAX */
};
int agon_table_new(struct agon_table **ret, struct agon_err *err) AGON_MUST_USE;
void agon_table_free(struct agon_table *t);
AGON_DEFINE_FREEP(struct agon_table, agon_table_free)
struct agon_cell_value *agon_table_cell(const struct agon_table *t, int row, int column);
enum { AGON_TABLE_FULL = 1 };
/* Room for one more row, all missing. AGON_TABLE_FULL: there are AGON_TABLE_ROWS_MAX, and it is
 * counted as left out. */
int agon_table_add_row(struct agon_cell_value **ret_row, struct agon_table *t,
                       struct agon_err *err) AGON_MUST_USE;

/* Headers c1, c2, ... for a table that names no columns; n from 1 to AGON_TABLE_COLUMNS_MAX. */
int agon_table_number_headers(struct agon_table *t, int n, struct agon_err *err) AGON_MUST_USE;

enum { AGON_TABLE_NONE = 1 }; /* no such table in the document: reason in err's text */

struct agon_csv_options {
    char delimiter;      /* ',' or '\t' or ...; ' ' means runs of white space */
    const char *comment; /* lines that begin so are left out, or NULL */
};
/* RFC 4180 (quotes, embedded newlines, CRLF) plus comments. The header is the first line, or, where
 * comments are declared, the last comment line above the data with at least as many fields as the
 * data has; without either, columns are c1, c2, ... when the first line looks like data (a number
 * in it). Bytes that are no UTF-8, and NULs, become U+FFFD. */
int agon_table_read_csv(struct agon_table **ret, struct agon_str text,
                        const struct agon_csv_options *o, struct agon_err *err) AGON_MUST_USE;
/* An array of objects (or of arrays of scalars) at a JSON pointer (RFC 6901; "" is the whole).
 * Nested values are left out. */
int agon_table_read_json(struct agon_table **ret, struct agon_str text, const char *pointer,
                         struct agon_err *err) AGON_MUST_USE;
