/* Tables from text: see table.h. Here: the container; CSV is table_csv.c,
 * JSON table_json.c, HTML html.c. */
#include "synth/retrieval/table.h"

#include <stdio.h>
#include <stdlib.h>

enum { TABLE_BYTES_MAX = 256 << 20, TABLE_ROWS_FIRST = 64 };

struct table_store { /* the public table, and what its growth needs */
    struct agon_table table;
    int rows_capacity;
};

int agon_table_new(struct agon_table **ret, struct agon_err *err)
{
    struct table_store *s = calloc(1, sizeof(*s));
    if (!s)
        return agon_fail(err, AGON_ENOMEM, "table: out of memory");
    int r = agon_arena_new(&s->table.arena, TABLE_BYTES_MAX, err);
    if (r) {
        free(s);
        return agon_err_in(err, r, "table");
    }
    *ret = &s->table;
    return 0;
}

void agon_table_free(struct agon_table *t)
{
    if (!t)
        return;
    agon_arena_free(t->arena);
    free(t->cells);
    free(t);
}

struct agon_cell_value *agon_table_cell(const struct agon_table *t, int row, int column)
{
    return &t->cells[(size_t)row * (size_t)t->n_columns + (size_t)column];
}

int agon_table_add_row(struct agon_cell_value **ret_row, struct agon_table *t, struct agon_err *err)
{
    struct table_store *s = (struct table_store *)t;
    if (t->n_rows == AGON_TABLE_ROWS_MAX) {
        t->n_rows_left_out++;
        return AGON_TABLE_FULL;
    }
    if (t->n_rows == s->rows_capacity) {
        int capacity = s->rows_capacity ? s->rows_capacity * 2 : TABLE_ROWS_FIRST;
        size_t size = (size_t)capacity * (size_t)t->n_columns * sizeof(*t->cells);
        struct agon_cell_value *cells = realloc(t->cells, size);
        if (!cells)
            return agon_fail(err, AGON_ENOMEM, "table: out of memory at row %d", t->n_rows);
        t->cells = cells;
        s->rows_capacity = capacity;
    }
    *ret_row = agon_table_cell(t, t->n_rows++, 0);
    memset(*ret_row, 0, (size_t)t->n_columns * sizeof(**ret_row));
    return 0;
}
