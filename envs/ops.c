/* The ops of envs/ inside a cell: see ops.h. */
#include "envs/ops.h"

#include "base/json.h"
#include "base/text.h"
#include "envs/cell_state.h"
#include "envs/codec.h"
#include "envs/solution.h"

#include <math.h>
#include <sqlite3.h>
#include <stdlib.h>

static void reply_status(struct agon_buf *reply, int status, const char *text)
{
    agon_wire_add_int(reply, status);
    agon_wire_add_text(reply, text);
}

static int need_open(const struct agon_env_cell *cell, struct agon_err *err)
{
    return cell->world ? 0 : agon_fail(err, AGON_EINPUT, "no environment is open");
}

static void describe_tools(const struct agon_toolset *ts, struct agon_buf *out)
{
    agon_buf_addc(out, '[');
    for (int i = 0; i < agon_toolset_count(ts); i++) {
        const struct agon_tool_entry *t = agon_toolset_get(ts, i);
        agon_buf_adds(out, i ? ", {\"name\": " : "{\"name\": ");
        agon_json_dump_string(out, agon_str(t->name));
        agon_buf_adds(out, ", \"description\": ");
        agon_json_dump_string(out, agon_str(t->description));
        agon_buf_adds(out, ", \"params\": ");
        agon_json_dump(out, t->params);
        agon_buf_adds(out, ", \"returns\": ");
        agon_json_dump(out, t->returns);
        agon_buf_addf(out, ", \"writes\": %s}", t->writes ? "true" : "false");
    }
    agon_buf_addc(out, ']');
}

static int op_open(void *state, struct agon_str request, struct agon_buf *reply,
                   struct agon_err *err)
{
    struct agon_env_cell *cell = state;
    struct agon_wire wire = agon_wire_of(request);
    struct agon_str world = agon_wire_str(&wire), tools = agon_wire_str(&wire);
    int r = agon_wire_end(&wire, "env.open", err);
    if (r)
        return r;
    agon_env_cell_close(cell);
    r = agon_world_open(&cell->world, world, err);
    if (!r)
        r = agon_toolset_load(&cell->toolset, cell->world, tools, err);
    if (!r)
        r = agon_solution_new(&cell->solution, cell, err);
    if (r) {
        agon_env_cell_close(cell);
        if (r > 0)
            reply_status(reply, 1, err->text);
        return r < 0 ? r : 0;
    }
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    describe_tools(cell->toolset, &text);
    reply_status(reply, 0, agon_buf_text(&text));
    return agon_buf_check(&text, "tools", err);
}

/* Open, and as the writes at the head of the request left it. */
static int begin_instance(struct agon_env_cell *cell, struct agon_wire *wire, struct agon_err *err)
{
    int r = need_open(cell, err);
    if (!r)
        r = agon_session_replay(cell, wire, err);
    return r > 0 ? agon_err_in(err, AGON_EINPUT, "the instance does not replay") : r;
}

static int op_call(void *state, struct agon_str request, struct agon_buf *reply,
                   struct agon_err *err)
{
    struct agon_env_cell *cell = state;
    struct agon_wire wire = agon_wire_of(request);
    int r = begin_instance(cell, &wire, err);
    if (r)
        return r;
    struct agon_str tool = agon_wire_str(&wire), arguments = agon_wire_str(&wire);
    int n_writes = cell->n_writes;
    if ((r = agon_wire_end(&wire, "env.call", err)))
        return r;
    r = agon_session_call(cell, tool, arguments, err);
    if (r < 0)
        return r;
    bool wrote = cell->n_writes > n_writes;
    agon_wire_add_int(reply, r);
    agon_wire_add_str(reply, agon_buf_str(&cell->result));
    agon_wire_add_int(reply, wrote);
    agon_wire_add_str(reply, wrote ? agon_buf_str(&cell->canonical) : agon_str(""));
    return 0;
}

static int op_solve(void *state, struct agon_str request, struct agon_buf *reply,
                    struct agon_err *err)
{
    struct agon_env_cell *cell = state;
    struct agon_wire wire = agon_wire_of(request);
    struct agon_str solution = agon_wire_str(&wire), schema_text = agon_wire_str(&wire);
    json_auto_t *schema = NULL;
    int r = begin_instance(cell, &wire, err);
    if (!r)
        r = agon_wire_end(&wire, "env.solve", err);
    if (!r && schema_text.size)
        r = agon_json_parse(&schema, schema_text, err);
    if (r)
        return r;
    agon_world_forget_reads(cell->world);
    struct agon_solve_result result AGON_AUTO(agon_solve_result_deinit) = {0};
    r = agon_solution_run(cell->solution, solution, schema, &result, err);
    if (r < 0)
        return r;
    reply_status(reply, r ? 1 : 0, r ? err->text : "");
    agon_wire_add_str(reply, agon_buf_str(&result.answer));
    agon_wire_add_str(reply, agon_buf_str(&result.calls));
    agon_session_add_writes(cell, reply);
    agon_session_add_reads(cell, reply);
    agon_session_add_usage(&result.usage, reply);
    return 0;
}

/* ---- queries of people ---- */

static int sql_value(sqlite3_stmt *q, int i, struct agon_buf *out, struct agon_err *err)
{
    double real;
    struct agon_str text;
    switch (sqlite3_column_type(q, i)) {
    case SQLITE_INTEGER:
        agon_buf_addf(out, "%lld", (long long)sqlite3_column_int64(q, i));
        return 0;
    case SQLITE_FLOAT:
        real = sqlite3_column_double(q, i);
        if (isfinite(real))
            agon_json_dump_real(out, real);
        else
            agon_buf_adds(out, "null"); /* JSON has no infinity */
        return 0;
    case SQLITE_NULL: agon_buf_adds(out, "null"); return 0;
    case SQLITE_TEXT:
        text.data = (const char *)sqlite3_column_text(q, i);
        text.size = (size_t)sqlite3_column_bytes(q, i);
        if (!agon_utf8_valid(text) || memchr(text.data, '\0', text.size))
            break;
        agon_json_dump_string(out, text);
        return 0;
    default: break;
    }
    agon_fail(err, AGON_WORLD_REFUSED,
              "SQL: column '%.60s' holds bytes that are no text; read it with hex()",
              sqlite3_column_name(q, i));
    return AGON_WORLD_REFUSED;
}

static int sql_rows(struct agon_statement *st, struct agon_buf *out, struct agon_err *err)
{
    sqlite3_stmt *q = agon_statement_sqlite(st);
    int step, n = 0;
    while ((step = (int)agon_statement_step(st, err)) == AGON_STEP_ROW) {
        if (n++ == AGON_WORLD_ROWS_PEOPLE) {
            agon_fail(err, AGON_WORLD_REFUSED, "SQL: over %d rows; narrow it with WHERE or LIMIT",
                      AGON_WORLD_ROWS_PEOPLE);
            return AGON_WORLD_REFUSED;
        }
        agon_buf_adds(out, n > 1 ? ", {" : "[{");
        for (int i = 0; i < agon_statement_n_columns(st); i++) {
            agon_buf_adds(out, i ? ", " : "");
            agon_json_dump_string(out, agon_str(agon_statement_shape(st)->names[i]));
            agon_buf_adds(out, ": ");
            int r = sql_value(q, i, out, err);
            if (r)
                return r;
        }
        agon_buf_addc(out, '}');
    }
    agon_buf_adds(out, n ? "]" : "[]");
    return step == AGON_STEP_END ? 0 : AGON_WORLD_REFUSED;
}

static int op_sql(void *state, struct agon_str request, struct agon_buf *reply,
                  struct agon_err *err)
{
    struct agon_env_cell *cell = state;
    struct agon_wire wire = agon_wire_of(request);
    int r = begin_instance(cell, &wire, err);
    if (r)
        return r;
    struct agon_str sql = agon_wire_str(&wire);
    if ((r = agon_wire_end(&wire, "env.sql", err)))
        return r;
    struct agon_buf rows AGON_AUTO(agon_buf_deinit) = AGON_BUF(32 << 20);
    struct agon_statement *st;
    r = agon_statement_get(&st, cell->world, AGON_BY_PEOPLE, false, sql, err);
    if (!r)
        r = sql_rows(st, &rows, err);
    agon_world_settle(cell->world);
    if (r < 0)
        return r;
    if (rows.failed == AGON_ENOMEM)
        return agon_buf_check(&rows, "SQL", err);
    if (!r && rows.failed)
        r = agon_fail(err, 1, "SQL: the rows are over 32 MiB");
    reply_status(reply, r ? 1 : 0, r ? err->text : agon_buf_text(&rows));
    return 0;
}

const struct agon_worker_op agon_env_ops[] = {
    {"env.open", op_open}, {"env.call", op_call}, {"env.solve", op_solve},
    {"env.sql", op_sql},   {NULL, NULL},
};
