#include "verifiers/foreign.h"

#include "base/json.h"
#include "verifiers/leaves.h"

#include <stdlib.h>
#include <string.h>

enum { CALL_BYTES_MAX = 1 << 16, COLUMNS_TRIED = 24, SMALL_INTEGER_MAX = 10 };

struct foreign {
    struct agon_runtime *rt;
    struct agon_rng *rng;
    json_t *calls, *seen; /* seen: an object keyed by the calls' writing */
    json_t *columns;      /* [{"t","c","k"}] of the world: table, column, declared type */
    json_t *domains;      /* {"argument/type": [values]}, made when first asked for */
};

static void foreign_deinit(struct foreign *f)
{
    json_decref(f->calls);
    json_decref(f->seen);
    json_decref(f->columns);
    json_decref(f->domains);
}

static int world_columns(struct foreign *f, struct agon_err *err)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    int r = agon_instance_new(&in, f->rt, err);
    if (!r)
        r = agon_instance_sql(
            in,
            agon_str("SELECT m.name AS t, c.name AS c, c.type AS k FROM "
                     "sqlite_schema m, pragma_table_info(m.name) c WHERE m.type = "
                     "'table' ORDER BY m.name, c.cid"),
            &f->columns, &reason, err);
    return r > 0 ? agon_fail(err, AGON_ESTORE, "columns: %s", agon_buf_text(&reason)) : r;
}

/* ---- what an argument may be ---- */

/* 2: the column has the argument's name; 1: its type; 0: neither. */
static int column_fits(const json_t *column, const char *argument, const char *type)
{
    const char *kind = agon_json_text(column, "k", "");
    bool same_type = !strcmp(type, "string")    ? !strcmp(kind, "TEXT")
                     : !strcmp(type, "integer") ? !strcmp(kind, "INTEGER")
                                                : !strcmp(kind, "REAL") || !strcmp(kind, "INTEGER");
    if (!same_type)
        return 0;
    return strcmp(agon_json_text(column, "c", ""), argument) ? 1 : 2;
}

/* The names of the columns to draw from: those of the argument's name, else those of its type. */
static json_t *columns_for(const struct foreign *f, const char *argument, const char *type)
{
    json_t *names = json_array();
    size_t i;
    json_t *column;
    for (int fit = 2; fit > 0 && !json_array_size(names); fit--)
        json_array_foreach(f->columns, i, column) if (column_fits(column, argument, type) == fit &&
                                                      json_array_size(names) < COLUMNS_TRIED)
            json_array_append_new(names, json_sprintf("%s.%s", agon_json_text(column, "t", ""),
                                                      agon_json_text(column, "c", "")));
    return names;
}

/* The values to draw an argument from (borrowed); NULL: none. */
static int domain_of(struct foreign *f, const char *argument, const char *type, json_t **ret,
                     struct agon_err *err)
{
    char key[256];
    snprintf(key, sizeof(key), "%.200s/%.40s", argument, type);
    if ((*ret = json_object_get(f->domains, key)))
        return 0;
    struct agon_columns columns AGON_AUTO(agon_columns_deinit) = {0};
    json_auto_t *names = columns_for(f, argument, type);
    int r = agon_columns_read(&columns, f->rt, names, err);
    if (r)
        return r;
    json_t *all = json_array();
    const char *name;
    json_t *values;
    json_object_foreach(columns.values, name, values) json_array_extend(all, values);
    *ret = all;
    return json_object_set_new(f->domains, key, all)
               ? agon_fail(err, AGON_ENOMEM, "foreign: out of memory")
               : 0;
}

static json_t *draw_of(json_t *values, struct agon_rng *rng)
{
    uint32_t n = (uint32_t)json_array_size(values);
    return n ? json_incref(json_array_get(values, agon_rng_below(rng, n))) : NULL;
}

/* A value of the schema (new reference). */
static int draw_value(struct foreign *f, const char *argument, const json_t *schema, json_t **ret,
                      struct agon_err *err)
{
    const char *type = agon_json_text(schema, "type", "string");
    json_t *values = json_object_get(schema, "enum");
    int r = 0;
    if (!values && !strcmp(type, "boolean")) {
        *ret = json_boolean(agon_rng_below(f->rng, 2));
        return 0;
    }
    if (!strcmp(type, "array") || !strcmp(type, "object")) {
        *ret = *type == 'a' ? json_array() : json_object();
        json_t *items = json_object_get(schema, "items"), *one = NULL;
        if (items && !(r = draw_value(f, argument, items, &one, err)))
            json_array_append_new(*ret, one);
        return r;
    }
    if (!values)
        r = domain_of(f, argument, type, &values, err);
    if (!r && !(*ret = draw_of(values, f->rng)))
        *ret = strcmp(type, "string") ? json_integer(1 + agon_rng_below(f->rng, SMALL_INTEGER_MAX))
                                      : json_string("x");
    return r;
}

/* ---- calls ---- */

/* Keep the call (reference taken) unless it was there before. of: see foreign.h; -1: none. */
static int foreign_keep(struct foreign *f, json_t *call_taken, int of, struct agon_err *err)
{
    json_auto_t *call = call_taken;
    struct agon_buf key AGON_AUTO(agon_buf_deinit) = AGON_BUF(CALL_BYTES_MAX);
    agon_json_dump_sorted(&key, call);
    if (!call || agon_buf_check(&key, "foreign", NULL))
        return agon_fail(err, AGON_ENOMEM, "foreign: out of memory");
    if (json_object_get(f->seen, agon_buf_text(&key)))
        return 0;
    json_object_set_new(f->seen, agon_buf_text(&key), json_true());
    if (of >= 0)
        json_object_set_new(call, "of", json_integer(of));
    return json_array_append(f->calls, call) ? agon_fail(err, AGON_ENOMEM, "foreign: out of memory")
                                             : 0;
}

static bool is_required(const json_t *params, const char *name)
{
    size_t i;
    json_t *one;
    json_array_foreach(json_object_get(params, "required"), i,
                       one) if (json_is_string(one) &&
                                !strcmp(json_string_value(one), name)) return true;
    return false;
}

static int draw_call(struct foreign *f, const struct agon_tool *tool, struct agon_err *err)
{
    json_t *arguments = json_object(), *properties = json_object_get(tool->params, "properties");
    const char *name;
    json_t *schema, *value;
    int r = 0;
    json_object_foreach(properties, name, schema)
    {
        if (r || (!is_required(tool->params, name) && agon_rng_below(f->rng, 2)))
            continue;
        if (!(r = draw_value(f, name, schema, &value, err)))
            json_object_set_new(arguments, name, value);
    }
    json_t *call = json_pack("{s:s, s:o}", "tool", tool->name, "arguments", arguments);
    if (!r)
        return foreign_keep(f, call, -1, err);
    json_decref(call);
    return r;
}

static const struct agon_tool *tool_named(const struct agon_runtime *rt, const char *name)
{
    for (int i = 0; i < agon_runtime_n_tools(rt); i++)
        if (!strcmp(agon_runtime_tool(rt, i)->name, name))
            return agon_runtime_tool(rt, i);
    return NULL;
}

/* A golden write with one argument drawn anew. */
static int draw_variant(struct foreign *f, const json_t *writes, size_t of, struct agon_err *err)
{
    const json_t *write = json_array_get(writes, of);
    const struct agon_tool *tool = tool_named(f->rt, agon_json_text(write, "tool", ""));
    json_t *properties = tool ? json_object_get(tool->params, "properties") : NULL, *value = NULL;
    size_t n = json_object_size(properties);
    if (!n)
        return 0;
    uint32_t at = agon_rng_below(f->rng, (uint32_t)n);
    void *iter = json_object_iter(properties);
    while (at--)
        iter = json_object_iter_next(properties, iter);
    const char *name = json_object_iter_key(iter);
    int r = draw_value(f, name, json_object_iter_value(iter), &value, err);
    if (r)
        return r;
    json_t *call = json_deep_copy(write);
    json_object_set_new(json_object_get(call, "arguments"), name, value);
    return foreign_keep(f, call, (int)of, err);
}

int agon_foreign_calls(struct agon_runtime *rt, const json_t *writes, int n_max,
                       struct agon_rng *rng, json_t **ret, struct agon_err *err)
{
    struct foreign f AGON_AUTO(foreign_deinit) = {rt,   rng,          json_array(), json_object(),
                                                  NULL, json_object()};
    int n_tools = 0, r = f.calls && f.seen && f.domains
                             ? 0
                             : agon_fail(err, AGON_ENOMEM, "foreign: out of memory");
    for (int i = 0; i < agon_runtime_n_tools(rt); i++)
        n_tools += agon_runtime_tool(rt, i)->writes;
    size_t n_golden = json_array_size(writes);
    if (!r && n_tools)
        r = world_columns(&f, err);
    for (size_t i = 0; i < n_golden && !r; i++) /* what the task itself asks for is not foreign */
        r = foreign_keep(&f, json_incref(json_array_get(writes, i)), -1, err);
    if (!r)
        json_array_clear(f.calls);
    for (int k = 0; k < n_max && n_tools && !r; k++) {
        if (k % 2 && n_golden)
            r = draw_variant(&f, writes, (size_t)k / 2 % n_golden, err);
        else
            for (int i = 0, at = k / 2 % n_tools; i < agon_runtime_n_tools(rt) && !r; i++)
                if (agon_runtime_tool(rt, i)->writes && at-- == 0)
                    r = draw_call(&f, agon_runtime_tool(rt, i), err);
    }
    if (!r)
        *ret = json_incref(f.calls);
    return r;
}
