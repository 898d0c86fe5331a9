/* Slots of the prompts: see render.h. */
#include "synth/render.h"

#include "base/json.h"

#include <stdlib.h>

enum {
    VALUES_LISTED = 6, /* distinct values that a column's line lists with counts */
    ROWS_SHOWN = 3,
    TEXT_CHARACTERS = 40,
    SQL_BYTES_MAX = 64 << 10,
};

/* ---- values ------------------------------------------------------------------ */

static void render_text(struct agon_buf *b, struct agon_str s)
{
    int n = 0;
    for (size_t i = 0; i < s.size; n++) {
        size_t from = i++;
        while (i < s.size && ((unsigned char)s.data[i] & 0xC0) == 0x80)
            i++;
        if (n == TEXT_CHARACTERS) {
            agon_buf_adds(b, "…");
            return;
        }
        unsigned char c = (unsigned char)s.data[from];
        if (c < 0x20 || c == 0x7F)
            agon_buf_addc(b, ' ');
        else
            agon_buf_add(b, s.data + from, i - from);
    }
}

void agon_render_value(struct agon_buf *b, const json_t *value)
{
    if (json_is_string(value))
        render_text(b, (struct agon_str){json_string_value(value), json_string_length(value)});
    else if (!value || json_is_null(value))
        agon_buf_adds(b, "null");
    else
        agon_json_dump(b, value);
}

/* ---- the world --------------------------------------------------------------- */

/* Rows of a query of ours (new reference). A world that can't answer it is broken. */
static int world_rows(struct agon_instance *in, const struct agon_buf *sql, json_t **ret,
                      struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    int r = agon_buf_check(sql, "world", err);
    if (r || (r = agon_instance_sql(in, agon_buf_str(sql), ret, &reason, err)) <= 0)
        return r;
    return agon_fail(err, AGON_ESTORE, "world: %.200s: %.200s", agon_buf_text(&reason),
                     agon_buf_text(sql));
}

static json_t *row_get(const json_t *rows, size_t i, const char *column)
{
    return json_object_get(json_array_get(rows, i), column);
}

static const char *row_text(const json_t *rows, size_t i, const char *column)
{
    return agon_json_text(json_array_get(rows, i), column, "");
}

static json_int_t row_int(const json_t *rows, size_t i, const char *column)
{
    return json_integer_value(row_get(rows, i, column));
}

/* n different numbers below `below`, upwards (Floyd's algorithm). */
static int sample_upwards(struct agon_rng *rng, uint32_t below, int n, uint32_t *picked)
{
    int k = 0;
    for (uint32_t j = below > (uint32_t)n ? below - (uint32_t)n : 0; j < below; j++) {
        uint32_t x = agon_rng_below(rng, j + 1);
        for (int i = 0; i < k; i++)
            if (picked[i] == x)
                x = j;
        int at = k++;
        for (; at > 0 && picked[at - 1] > x; at--)
            picked[at] = picked[at - 1];
        picked[at] = x;
    }
    return k;
}

struct table {
    struct agon_instance *in;
    const char *name;
    const json_t *columns; /* [{name, type, pk}] in order */
    struct agon_rng rng;
};

/* ", like A, B, C": three of the distinct values, in their order. */
static int render_samples(struct agon_buf *b, struct table *t, const char *column, uint32_t n,
                          struct agon_err *err)
{
    uint32_t picked[ROWS_SHOWN];
    int k = sample_upwards(&t->rng, n, ROWS_SHOWN, picked);
    for (int i = 0; i < k; i++) {
        struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
        json_auto_t *rows = NULL;
        agon_buf_addf(&sql,
                      "SELECT DISTINCT \"%s\" AS x FROM \"%s\" WHERE \"%s\" IS NOT NULL ORDER BY x "
                      "LIMIT 1 OFFSET %u",
                      column, t->name, column, picked[i]);
        int r = world_rows(t->in, &sql, &rows, err);
        if (r)
            return r;
        agon_buf_adds(b, i ? ", " : ", like ");
        agon_render_value(b, row_get(rows, 0, "x"));
    }
    return 0;
}

/* ": A (3), B (2)": all values with their counts. */
static int render_counts(struct agon_buf *b, struct table *t, const char *column,
                         struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    json_auto_t *rows = NULL;
    agon_buf_addf(
        &sql,
        "SELECT \"%s\" AS x, count(*) AS n FROM \"%s\" WHERE \"%s\" IS NOT NULL GROUP BY x "
        "ORDER BY n DESC, x",
        column, t->name, column);
    int r = world_rows(t->in, &sql, &rows, err);
    if (r)
        return r;
    for (size_t i = 0; i < json_array_size(rows); i++) {
        agon_buf_adds(b, i ? ", " : ": ");
        agon_render_value(b, row_get(rows, i, "x"));
        agon_buf_addf(b, " (%" JSON_INTEGER_FORMAT ")", row_int(rows, i, "n"));
    }
    return 0;
}

static int render_column(struct agon_buf *b, struct table *t, const char *column, const char *type,
                         struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    json_auto_t *rows = NULL;
    agon_buf_addf(&sql,
                  "SELECT count(*) AS n, count(\"%s\") AS present, count(DISTINCT \"%s\") AS d, "
                  "min(\"%s\") AS lo, max(\"%s\") AS hi FROM \"%s\"",
                  column, column, column, column, t->name);
    int r = world_rows(t->in, &sql, &rows, err);
    if (r)
        return r;
    json_int_t n = row_int(rows, 0, "d");
    json_int_t missing = row_int(rows, 0, "n") - row_int(rows, 0, "present");
    agon_buf_addf(b, "- %s %s: %" JSON_INTEGER_FORMAT " value%s", column, type, n,
                  n == 1 ? "" : "s");
    if (n <= VALUES_LISTED) {
        r = render_counts(b, t, column, err);
    } else if (strcmp(type, "TEXT") == 0) {
        r = render_samples(b, t, column, (uint32_t)n, err);
    } else {
        agon_buf_adds(b, ", ");
        agon_render_value(b, row_get(rows, 0, "lo"));
        agon_buf_adds(b, " to ");
        agon_render_value(b, row_get(rows, 0, "hi"));
    }
    if (missing > 0)
        agon_buf_addf(b, ", %" JSON_INTEGER_FORMAT " missing", missing);
    agon_buf_addc(b, '\n');
    return r;
}

/* The columns of the primary key, joined by ", "; `quote` around each. */
static void render_key(struct agon_buf *b, const json_t *columns, const char *quote)
{
    size_t n = json_array_size(columns);
    int shown = 0;
    for (json_int_t at = 1; at <= (json_int_t)n; at++)
        for (size_t i = 0; i < n; i++)
            if (row_int(columns, i, "pk") == at)
                agon_buf_addf(b, "%s%s%s%s", shown++ ? ", " : "", quote,
                              row_text(columns, i, "name"), quote);
    if (!shown)
        agon_buf_addf(b, "rowid");
}

static int render_row(struct agon_buf *b, struct table *t, uint32_t at, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    json_auto_t *rows = NULL;
    agon_buf_addf(&sql, "SELECT * FROM \"%s\" ORDER BY ", t->name);
    render_key(&sql, t->columns, "\"");
    agon_buf_addf(&sql, " LIMIT 1 OFFSET %u", at);
    int r = world_rows(t->in, &sql, &rows, err);
    for (size_t i = 0; !r && i < json_array_size(t->columns); i++) {
        if (i)
            agon_buf_adds(b, " | ");
        agon_render_value(b, row_get(rows, 0, row_text(t->columns, i, "name")));
    }
    agon_buf_addc(b, '\n');
    return r;
}

static int render_table(struct agon_buf *b, struct agon_instance *in, const char *name,
                        const struct agon_rng *rng, struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    json_auto_t *columns = NULL, *count = NULL;
    agon_buf_addf(&sql, "SELECT name, type, pk FROM pragma_table_info('%s') ORDER BY cid", name);
    int r = world_rows(in, &sql, &columns, err);
    agon_buf_reset(&sql);
    agon_buf_addf(&sql, "SELECT count(*) AS n FROM \"%s\"", name);
    if (r || (r = world_rows(in, &sql, &count, err)))
        return r;
    struct table t = {in, name, columns, agon_rng_split(rng, agon_str(name))};
    uint32_t n = (uint32_t)row_int(count, 0, "n"), picked[ROWS_SHOWN];
    agon_buf_addf(b, "table %s: %u row%s, key ", name, n, n == 1 ? "" : "s");
    render_key(b, columns, "");
    agon_buf_addc(b, '\n');
    for (size_t i = 0; i < json_array_size(columns); i++)
        if ((r = render_column(b, &t, row_text(columns, i, "name"), row_text(columns, i, "type"),
                               err)))
            return agon_err_in(err, r, "table %s", name);
    agon_buf_adds(b, "rows:\n");
    int k = sample_upwards(&t.rng, n, ROWS_SHOWN, picked);
    for (int i = 0; i < k; i++)
        if ((r = render_row(b, &t, picked[i], err)))
            return agon_err_in(err, r, "table %s", name);
    return 0;
}

int agon_render_world(struct agon_buf *b, struct agon_instance *in, const struct agon_rng *rng,
                      struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(SQL_BYTES_MAX);
    json_auto_t *tables = NULL;
    agon_buf_adds(&sql, "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT GLOB "
                        "'sqlite_*' ORDER BY rowid");
    int r = world_rows(in, &sql, &tables, err);
    for (size_t i = 0; !r && i < json_array_size(tables); i++)
        r = render_table(b, in, row_text(tables, i, "name"), rng, err);
    if (!r && json_array_size(tables) == 0)
        agon_buf_adds(b, "(empty)\n");
    return r;
}

/* ---- signatures and tasks ---------------------------------------------------- */

void agon_render_type(struct agon_buf *b, const json_t *schema)
{
    const char *type = agon_json_text(schema, "type", NULL), *key;
    const json_t *any = json_object_get(schema, "anyOf");
    json_t *properties = json_object_get(schema, "properties"), *item;
    size_t i;
    int n = 0;
    if (any) {
        json_array_foreach(any, i, item)
        {
            agon_buf_adds(b, i ? " or " : "");
            agon_render_type(b, item);
        }
    } else if (type && strcmp(type, "array") == 0 && json_object_get(schema, "items")) {
        agon_buf_adds(b, "array of ");
        agon_render_type(b, json_object_get(schema, "items"));
    } else if (properties) {
        json_object_foreach(properties, key, item)
        {
            agon_buf_addf(b, "%s%s: ", n++ ? ", " : "{", key);
            agon_render_type(b, item);
        }
        agon_buf_adds(b, n ? "}" : "object");
    } else {
        agon_buf_adds(b, type ? type : "string"); /* an enum alone */
    }
}

static bool is_required(const json_t *schema, const char *key)
{
    size_t i;
    json_t *name;
    json_array_foreach(json_object_get(schema, "required"), i,
                       name) if (strcmp(json_string_value(name), key) == 0) return true;
    return false;
}

void agon_render_signature(struct agon_buf *b, const struct agon_tool *tool)
{
    const char *key;
    json_t *item;
    int n = 0;
    agon_buf_addf(b, "%s(", tool->name);
    json_object_foreach(json_object_get(tool->params, "properties"), key, item)
    {
        agon_buf_addf(b, "%s%s%s: ", n++ ? ", " : "", key,
                      is_required(tool->params, key) ? "" : "?");
        agon_render_type(b, item);
    }
    agon_buf_adds(b, ") -> ");
    agon_render_type(b, tool->returns);
}

void agon_render_tools(struct agon_buf *b, const struct agon_runtime *rt)
{
    for (int i = 0; i < agon_runtime_n_tools(rt); i++) {
        const struct agon_tool *tool = agon_runtime_tool(rt, i);
        agon_buf_adds(b, "- ");
        agon_render_signature(b, tool);
        agon_buf_addf(b, ": %s\n", tool->description);
    }
}

void agon_render_below(struct agon_buf *b, const struct agon_task *below)
{
    if (!below)
        return;
    agon_buf_addf(b, "The task of level %d:\nprompt: %s\nanswer_schema: ", below->level,
                  below->prompt);
    agon_json_dump(b, below->answer_schema);
    agon_buf_addf(b, "\nsolution:\n%s\nverifier:\n%s\n", below->solution, below->verifier);
}

void agon_render_others(struct agon_buf *b, const struct agon_task *tasks, int n)
{
    if (n > 0)
        agon_buf_adds(b, "Tasks that exist already:\n");
    for (int i = 0; i < n; i++) {
        agon_buf_adds(b, "- ");
        for (const char *p = tasks[i].prompt; *p; p++)
            agon_buf_addc(b, *p == '\n' ? ' ' : *p);
        agon_buf_addc(b, '\n');
    }
}
