/* Tables from JSON: an array of objects, or of arrays of scalars, at a JSON pointer. */
#include "base/buf.h"
#include "base/json.h"
#include "synth/retrieval/table.h"

#include <stdlib.h>

/* RFC 6901 section 4: one reference token, with ~1 and ~0 undone. */
static const json_t *pointer_step(const json_t *at, struct agon_str token)
{
    char key[256];
    size_t n = 0;
    for (size_t i = 0; i < token.size; i++) {
        char c = token.data[i];
        if (c == '~' && i + 1 < token.size &&
            (token.data[i + 1] == '0' || token.data[i + 1] == '1'))
            c = token.data[++i] == '0' ? '~' : '/';
        if (n + 1 >= sizeof(key))
            return NULL;
        key[n++] = c;
    }
    key[n] = '\0';
    if (json_is_object(at))
        return json_object_get(at, key);
    char *end;
    unsigned long index = strtoul(key, &end, 10);
    return n && !*end ? json_array_get(at, index) : NULL;
}

static const json_t *pointer_find(const json_t *at, const char *pointer)
{
    while (at && *pointer == '/') {
        size_t size = strcspn(++pointer, "/");
        at = pointer_step(at, (struct agon_str){pointer, size});
        pointer += size;
    }
    return *pointer ? NULL : at;
}

static bool is_scalar(const json_t *v)
{
    return !json_is_object(v) && !json_is_array(v);
}

static int cell_set(struct agon_table *t, struct agon_cell_value *cell, const json_t *v,
                    struct agon_err *err)
{
    char text[64];
    if (json_is_string(v)) {
        *cell = (struct agon_cell_value){AGON_CELL_STRING,
                                         {json_string_value(v), json_string_length(v)}};
    } else if (json_is_integer(v)) {
        snprintf(text, sizeof(text), "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        *cell = (struct agon_cell_value){AGON_CELL_INTEGER, agon_str(text)};
    } else if (json_is_boolean(v)) {
        *cell = (struct agon_cell_value){AGON_CELL_INTEGER, agon_str(json_is_true(v) ? "1" : "0")};
    } else if (json_is_real(v)) {
        snprintf(text, sizeof(text), "%.17g", json_real_value(v));
        *cell = (struct agon_cell_value){AGON_CELL_REAL, agon_str(text)};
    } else {
        return 0; /* null, and what is nested, is missing */
    }
    cell->text.data = agon_arena_strdup(t->arena, cell->text);
    return cell->text.data ? 0 : agon_fail(err, AGON_ENOMEM, "table: out of memory");
}

/* The keys with scalar values, in the order in which the items first use them. */
static int collect_keys(struct agon_table *t, const json_t *array, struct agon_err *err)
{
    t->headers = agon_arena_alloc(t->arena, AGON_TABLE_COLUMNS_MAX * sizeof(*t->headers));
    if (!t->headers)
        return agon_fail(err, AGON_ENOMEM, "table: out of memory");
    size_t i;
    const json_t *item;
    json_array_foreach((json_t *)(uintptr_t)array, i, item)
    {
        const char *key;
        json_t *v;
        json_object_foreach((json_t *)(uintptr_t)item, key, v)
        {
            int k = 0;
            while (k < t->n_columns && !agon_str_is(t->headers[k], key))
                k++;
            if (k < t->n_columns || k == AGON_TABLE_COLUMNS_MAX || !is_scalar(v))
                continue;
            const char *copy = agon_arena_strdup(t->arena, agon_str(key));
            if (!copy)
                return agon_fail(err, AGON_ENOMEM, "table: out of memory");
            t->headers[t->n_columns++] = agon_str(copy);
        }
    }
    return 0;
}

static int number_keys(struct agon_table *t, size_t n, struct agon_err *err)
{
    if (n == 0)
        return 0; /* empty rows: the caller says that there is nothing in them */
    return agon_table_number_headers(
        t, n < AGON_TABLE_COLUMNS_MAX ? (int)n : AGON_TABLE_COLUMNS_MAX, err);
}

static int add_item(struct agon_table *t, const json_t *item, struct agon_err *err)
{
    struct agon_cell_value *row;
    int r = agon_table_add_row(&row, t, err);
    if (r)
        return r < 0 ? r : 0;
    for (int k = 0; k < t->n_columns; k++) {
        const json_t *v = json_is_array(item)
                              ? json_array_get(item, (size_t)k)
                              : json_object_getn(item, t->headers[k].data, t->headers[k].size);
        if (v && (r = cell_set(t, &row[k], v, err)))
            return r;
    }
    return 0;
}

int agon_table_read_json(struct agon_table **ret, struct agon_str text, const char *pointer,
                         struct agon_err *err)
{
    json_auto_t *root = NULL;
    int r = agon_json_parse(&root, text, err);
    if (r == AGON_EINPUT)
        return AGON_TABLE_NONE;
    if (r)
        return r;
    const json_t *array = pointer_find(root, pointer);
    const json_t *first = json_array_get(array, 0);
    if (!json_is_object(first) && !json_is_array(first)) {
        (void)agon_fail(err, AGON_EINPUT, "there is no array of objects at JSON pointer '%.100s'",
                        pointer);
        return AGON_TABLE_NONE;
    }

    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    if ((r = agon_table_new(&t, err)) ||
        (r = json_is_array(first) ? number_keys(t, json_array_size(first), err)
                                  : collect_keys(t, array, err)))
        return r;
    if (t->n_columns == 0) {
        (void)agon_fail(err, AGON_EINPUT, "the items at '%.100s' hold no plain values", pointer);
        return AGON_TABLE_NONE;
    }
    for (size_t i = 0; i < json_array_size(array); i++)
        if ((r = add_item(t, json_array_get(array, i), err)))
            return r;
    *ret = AGON_STEAL(t);
    return 0;
}
