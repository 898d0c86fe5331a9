/* Trying a tool: see author_try.h. */
#include "synth/author_try.h"

#include "base/json.h"
#include "envs/schema.h"
#include "verifiers/taint.h"

#include <math.h>

enum { TRY_SQL_MAX = 4096, TRY_RESULT_MAX = 4 << 20 };

static void add_quoted(struct agon_buf *sql, const char *name, char quote)
{
    agon_buf_addc(sql, quote);
    for (; *name; name++) {
        if (*name == quote)
            agon_buf_addc(sql, quote);
        agon_buf_addc(sql, *name);
    }
    agon_buf_addc(sql, quote);
}

/* One trusted query that gives one value, or NULL (new reference). */
static int one_value(struct agon_instance *in, const struct agon_buf *sql, json_t **ret,
                     struct agon_err *err)
{
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(TRY_SQL_MAX);
    json_auto_t *rows = NULL;
    int r = agon_buf_check(sql, "define_tool", err);
    if (r || (r = agon_instance_sql(in, agon_buf_str(sql), &rows, &reason, err)) < 0)
        return r;
    *ret = json_incref(json_object_get(json_array_get(rows, 0), "v"));
    return 0;
}

/* A value that stands in a column of this name, or NULL. */
static int value_of_column(struct agon_instance *in, const char *name, json_t **ret,
                           struct agon_err *err)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(TRY_SQL_MAX);
    json_auto_t *table = NULL;
    agon_buf_adds(&sql, "SELECT m.name AS v FROM sqlite_schema m, pragma_table_info(m.name) c "
                        "WHERE m.type = 'table' AND c.name = ");
    add_quoted(&sql, name, '\'');
    agon_buf_adds(&sql, " ORDER BY m.name LIMIT 1");
    int r = one_value(in, &sql, &table, err);
    if (r || !json_is_string(table))
        return r;
    agon_buf_reset(&sql);
    agon_buf_adds(&sql, "SELECT ");
    add_quoted(&sql, name, '"');
    agon_buf_adds(&sql, " AS v FROM ");
    add_quoted(&sql, json_string_value(table), '"');
    agon_buf_adds(&sql, " WHERE v IS NOT NULL ORDER BY v LIMIT 1");
    return one_value(in, &sql, ret, err);
}

/* The simplest value of a type (new reference). */
static json_t *plain_value(const json_t *schema)
{
    const char *type = agon_json_text(schema, "type", "string");
    const json_t *least = json_object_get(schema, "minimum");
    if (strcmp(type, "integer") == 0)
        return json_integer(json_is_number(least) ? (json_int_t)ceil(json_number_value(least)) : 1);
    if (strcmp(type, "number") == 0)
        return json_real(json_is_number(least) ? json_number_value(least) : 1);
    if (strcmp(type, "boolean") == 0)
        return json_true();
    if (strcmp(type, "array") == 0)
        return json_array();
    if (strcmp(type, "object") == 0)
        return json_object();
    return strcmp(type, "null") == 0 ? json_null() : json_string("x");
}

static int argument_for(struct agon_instance *in, const char *name, const json_t *schema,
                        json_t **ret, struct agon_err *err)
{
    json_auto_t *found = NULL;
    const json_t *of_enum = json_array_get(json_object_get(schema, "enum"), 0);
    int r = of_enum ? 0 : value_of_column(in, name, &found, err);
    if (r)
        return r;
    if (of_enum)
        *ret = json_deep_copy(of_enum);
    else if (found && agon_schema_fits(schema, found, name, NULL) == 0)
        *ret = json_incref(found);
    else
        *ret = plain_value(schema);
    return *ret ? 0 : agon_fail(err, AGON_ENOMEM, "define_tool: out of memory");
}

static int arguments_for(struct agon_instance *in, const struct agon_tool *tool, json_t *arguments,
                         struct agon_err *err)
{
    const json_t *properties = json_object_get(tool->params, "properties");
    const json_t *required = json_object_get(tool->params, "required");
    for (size_t i = 0; i < json_array_size(required); i++) {
        const char *name = json_string_value(json_array_get(required, i));
        json_t *value = NULL;
        int r = argument_for(in, name, json_object_get(properties, name), &value, err);
        if (r)
            return r;
        if (json_object_set_new(arguments, name, value))
            return agon_fail(err, AGON_ENOMEM, "define_tool: out of memory");
    }
    return 0;
}

int agon_author_try_tool(struct agon_runtime *rt, struct agon_str source, struct agon_buf *reason,
                         struct agon_err *err)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TRY_RESULT_MAX);
    struct agon_buf result AGON_AUTO(agon_buf_deinit) = AGON_BUF(TRY_RESULT_MAX);
    const struct agon_tool *tool = agon_runtime_tool(rt, 0);
    json_auto_t *arguments = json_object();
    int r = agon_instance_new(&in, rt, err);
    if (!arguments)
        return agon_fail(err, AGON_ENOMEM, "define_tool: out of memory");
    if (r || (r = arguments_for(in, tool, arguments, err)))
        return r;
    agon_json_dump(&text, arguments);
    if ((r = agon_buf_check(&text, "define_tool", err)) ||
        (r = agon_instance_call(in, tool->name, agon_buf_str(&text), &result, err)) < 0)
        return r;
    if (r == 0 || memmem(source.data, source.size, "error(", 6))
        return agon_taint_check(rt, tool, arguments, reason, err);
    agon_buf_addf(reason, "tool '%s': ", tool->name);
    agon_buf_add_str(reason, agon_buf_str(&result));
    return AGON_REJECTED;
}
