#include "verifiers/leaves.h"

#include "base/json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    ANSWER_BYTES_MAX = 1 << 20,
    PATH_BYTES_MAX = 256,
    STEPS_MAX = 1000000000, /* of a computed number's range */
};

/* ---- columns ---- */

void agon_columns_deinit(struct agon_columns *c)
{
    json_decref(c->values);
    *c = (struct agon_columns){0};
}

/* One row of one trusted query, as a new reference; NULL with *ret_r set otherwise. */
static json_t *columns_query(struct agon_instance *in, const char *sql, int *ret_r,
                             struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    json_t *rows = NULL;
    int r = agon_instance_sql(in, agon_str(sql), &rows, &reason, err);
    if (r == AGON_REJECTED)
        r = agon_fail(err, AGON_ESTORE, "columns: %s (%s)", agon_buf_text(&reason), sql);
    *ret_r = r;
    return r ? NULL : rows;
}

static int columns_read_one(struct agon_columns *c, struct agon_instance *in, const char *name,
                            struct agon_err *err)
{
    const char *dot = strchr(name, '.');
    if (!dot)
        return agon_fail(err, AGON_EINPUT, "columns: '%s' is no table.column", name);
    char sql[512];
    int r, table_size = (int)(dot - name);
    /* Names are identifiers without quotes (agon_name_check). */
    snprintf(sql, sizeof(sql),
             "SELECT DISTINCT \"%s\" AS v FROM \"%.*s\" WHERE v IS NOT NULL ORDER BY 1 LIMIT %d",
             dot + 1, table_size, name, AGON_COLUMN_VALUES_MAX);
    json_auto_t *rows = columns_query(in, sql, &r, err);
    if (!rows)
        return r;
    json_t *values = json_array();
    size_t i;
    json_t *row;
    json_array_foreach(rows, i, row) json_array_append(values, json_object_get(row, "v"));
    if (json_object_set_new(c->values, name, values))
        return agon_fail(err, AGON_ENOMEM, "columns: out of memory");

    snprintf(sql, sizeof(sql), "SELECT count(*) AS v FROM \"%.*s\"", table_size, name);
    json_auto_t *count = columns_query(in, sql, &r, err);
    if (!count)
        return r;
    int64_t n_rows = json_integer_value(json_object_get(json_array_get(count, 0), "v"));
    if (n_rows > c->n_rows_max)
        c->n_rows_max = n_rows;
    return 0;
}

int agon_columns_read(struct agon_columns *ret, struct agon_runtime *rt, const json_t *names,
                      struct agon_err *err)
{
    *ret = (struct agon_columns){.values = json_object()};
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    int r = ret->values ? agon_instance_new(&in, rt, err)
                        : agon_fail(err, AGON_ENOMEM, "columns: out of memory");
    size_t i;
    json_t *name;
    json_array_foreach(names, i, name) if (!r) r =
        columns_read_one(ret, in, json_string_value(name), err);
    if (r)
        agon_columns_deinit(ret);
    return r;
}

/* ---- domains ---- */

json_t *agon_real_rounded(double value, int decimals)
{
    char digits[400]; /* the largest double has 309 before its point */
    snprintf(digits, sizeof(digits), "%.*f", decimals, value);
    return json_real(strtod(digits, NULL));
}

uint32_t agon_leaf_count(const struct agon_leaf *leaf)
{
    return leaf->kind == AGON_DOMAIN_RANGE ? leaf->n_steps + 1
                                           : (uint32_t)json_array_size(leaf->values);
}

json_t *agon_leaf_value(const struct agon_leaf *leaf, uint32_t i)
{
    if (leaf->kind == AGON_DOMAIN_VALUES)
        return json_incref(json_array_get(leaf->values, i));
    if (json_is_integer(leaf->value))
        return json_integer(i);
    return agon_real_rounded(i * leaf->step, leaf->decimals);
}

/* The schema of a member or element, or NULL where it says nothing. */
static const json_t *schema_below(const json_t *schema, const char *key)
{
    if (!schema)
        return NULL;
    return key ? json_object_get(json_object_get(schema, "properties"), key)
               : json_object_get(schema, "items");
}

/* A set keyed by the values' canonical writing, in the order of their coming. */
static void values_add(json_t *values, json_t *seen, json_t *value)
{
    struct agon_buf key = AGON_BUF(ANSWER_BYTES_MAX);
    agon_json_dump(&key, value);
    if (!json_object_get(seen, agon_buf_text(&key))) {
        json_object_set_new(seen, agon_buf_text(&key), json_true());
        json_array_append(values, value);
    }
    agon_buf_deinit(&key);
}

int agon_real_decimals(double value)
{
    for (int n = 0; n < 6; n++) {
        double scaled = value * pow(10, n);
        if (fabs(scaled - round(scaled)) < 1e-9 * fmax(1.0, fabs(scaled)))
            return n;
    }
    return 6;
}

/* A computed number: uniform from 0 to twice its value at its decimals, integers at least to the
 * rows read. */
static void leaf_range(struct agon_leaf *leaf, int64_t n_rows)
{
    double most = 2 * fabs(json_number_value(leaf->value));
    leaf->kind = AGON_DOMAIN_RANGE;
    leaf->computed = true;
    leaf->step = 1;
    if (json_is_integer(leaf->value)) {
        most = fmax(most, (double)n_rows);
    } else {
        leaf->decimals = agon_real_decimals(json_real_value(leaf->value));
        leaf->step = pow(10, -leaf->decimals);
    }
    leaf->n_steps = (uint32_t)fmin(round(most / leaf->step), STEPS_MAX);
}

static int leaf_domain(struct agon_leaf *leaf, const json_t *schema,
                       const struct agon_columns *columns)
{
    json_auto_t *seen = json_object();
    leaf->values = json_array();
    if (!leaf->values || !seen)
        return AGON_ENOMEM;
    size_t i;
    json_t *one;
    const char *name;
    json_array_foreach(json_object_get(schema, "enum"), i, one) values_add(leaf->values, seen, one);
    if (json_array_size(leaf->values))
        return 0;
    if (json_is_boolean(leaf->value)) {
        values_add(leaf->values, seen, json_false());
        values_add(leaf->values, seen, json_true());
        return 0;
    }
    json_t *column;
    json_object_foreach(columns->values, name, column)
    {
        if (agon_json_array_has(column, leaf->value))
            json_array_foreach(column, i, one) if (json_typeof(one) == json_typeof(leaf->value))
                values_add(leaf->values, seen, one);
    }
    if (json_array_size(leaf->values))
        return 0;
    if (json_is_number(leaf->value))
        leaf_range(leaf, columns->n_rows_max);
    else
        json_array_append(leaf->values, leaf->value);
    return 0;
}

/* ---- templates ---- */

void agon_template_deinit(struct agon_template *t)
{
    for (int i = 0; i < t->n_leaves; i++) {
        json_decref(t->leaves[i].value);
        json_decref(t->leaves[i].values);
        free(t->leaves[i].path);
    }
    for (int i = 0; t->segments && i <= t->n_leaves; i++)
        free(t->segments[i]);
    free(t->leaves);
    free(t->segments);
    *t = (struct agon_template){0};
}

struct walk {
    struct agon_template *t;
    const struct agon_columns *columns;
    struct agon_buf segment; /* since the last leaf */
    char path[PATH_BYTES_MAX];
    int r;
};

static void walk_value(struct walk *w, json_t *value, const json_t *schema);

static void walk_leaf(struct walk *w, json_t *value, const json_t *schema)
{
    struct agon_template *t = w->t;
    if (t->n_leaves == AGON_LEAVES_MAX) {
        agon_json_dump(&w->segment, value);
        return;
    }
    struct agon_leaf *leaf = &t->leaves[t->n_leaves];
    *leaf = (struct agon_leaf){.value = json_incref(value), .path = strdup(w->path)};
    t->segments[t->n_leaves++] = agon_buf_steal(&w->segment);
    agon_buf_reset(&w->segment);
    if (!leaf->path || !t->segments[t->n_leaves - 1] || leaf_domain(leaf, schema, w->columns))
        w->r = AGON_ENOMEM;
}

/* Go into a member (key) or element (index) and take the path back afterwards. */
static void walk_into(struct walk *w, json_t *value, const json_t *schema, const char *key,
                      size_t index)
{
    size_t size = strlen(w->path);
    if (key)
        snprintf(w->path + size, sizeof(w->path) - size, "%s%s", size ? "." : "", key);
    else
        snprintf(w->path + size, sizeof(w->path) - size, "[%zu]", index);
    walk_value(w, value, schema_below(schema, key));
    w->path[size] = '\0';
}

static void walk_value(struct walk *w, json_t *value, const json_t *schema)
{
    if (json_is_object(value)) {
        void *at = json_object_iter(value);
        const char *between = "{";
        for (; at && !w->r; at = json_object_iter_next(value, at), between = ", ") {
            const char *key = json_object_iter_key(at);
            agon_buf_adds(&w->segment, between);
            agon_json_dump_string(&w->segment, agon_str(key));
            agon_buf_adds(&w->segment, ": ");
            walk_into(w, json_object_iter_value(at), schema, key, 0);
        }
        agon_buf_adds(&w->segment, json_object_size(value) ? "}" : "{}");
    } else if (json_is_array(value)) {
        agon_buf_adds(&w->segment, "[");
        for (size_t i = 0; i < json_array_size(value) && !w->r; i++) {
            agon_buf_adds(&w->segment, i ? ", " : "");
            walk_into(w, json_array_get(value, i), schema, NULL, i);
        }
        agon_buf_adds(&w->segment, "]");
    } else {
        walk_leaf(w, value, schema);
    }
}

int agon_template_init(struct agon_template *ret, const json_t *value, const json_t *schema,
                       const struct agon_columns *columns, struct agon_err *err)
{
    *ret = (struct agon_template){
        .leaves = calloc(AGON_LEAVES_MAX, sizeof(*ret->leaves)),
        .segments = calloc(AGON_LEAVES_MAX + 1, sizeof(*ret->segments)),
    };
    struct walk w = {.t = ret, .columns = columns, .segment = AGON_BUF(ANSWER_BYTES_MAX)};
    /* A walk reads only; the cast serves json_object_iter(), which wants it so. */
    json_auto_t *copy = json_copy((json_t *)(uintptr_t)value);
    if (!ret->leaves || !ret->segments || !copy)
        w.r = AGON_ENOMEM;
    else
        walk_value(&w, copy, schema);
    if (!w.r && !(ret->segments[ret->n_leaves] = agon_buf_steal(&w.segment)))
        w.r = AGON_ENOMEM;
    agon_buf_deinit(&w.segment);
    if (!w.r)
        return 0;
    agon_template_deinit(ret);
    return agon_fail(err, AGON_ENOMEM, "answer: out of memory, or over %d bytes", ANSWER_BYTES_MAX);
}

double agon_template_count(const struct agon_template *t, double most)
{
    double n = 1;
    for (int i = 0; i < t->n_leaves && n < most; i++)
        n *= agon_leaf_count(&t->leaves[i]);
    return n < most ? n : most;
}

void agon_template_fill(const struct agon_template *t, const uint32_t *indices, struct agon_buf *b)
{
    for (int i = 0; i < t->n_leaves; i++) {
        const struct agon_leaf *leaf = &t->leaves[i];
        agon_buf_adds(b, t->segments[i]);
        if (indices[i] == UINT32_MAX) {
            agon_json_dump(b, leaf->value);
        } else {
            json_auto_t *value = agon_leaf_value(leaf, indices[i]);
            agon_json_dump(b, value);
        }
    }
    agon_buf_adds(b, t->segments[t->n_leaves]);
}
