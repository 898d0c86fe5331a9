/* The driver's handle on an open environment: see runtime.h. */
#include "envs/runtime.h"

#include "base/file.h"
#include "base/json.h"
#include "envs/runtime_wire.h"
#include "sandbox/cell.h"
#include "sandbox/interrupt.h"

#include <stdlib.h>

enum { WORLD_BYTES_MAX = 48 << 20, MESSAGE_BYTES_MAX = 64 << 20, CELLS_MAX = 3 };

struct agon_runtime {
    struct agon_sandbox *sandbox; /* borrowed */
    struct agon_cell *cell;       /* owned; NULL: none open */
    struct agon_buf open;         /* the request env.open, at its end tools.lua */
    size_t tools_size;            /* of that */
    struct agon_buf request, reply;
    json_t *signatures;      /* owned; what env.open answered */
    struct agon_tool *tools; /* owned; borrow from signatures */
    int n_tools;
    bool gave_up; /* the last request ended CELLS_MAX cells */
};

struct agon_instance {
    struct agon_runtime *rt; /* borrowed */
    json_t *writes;          /* owned array */
};

/* ---- cells that come and go ---- */

static void runtime_drop_cell(struct agon_runtime *rt)
{
    agon_cell_free(rt->cell);
    rt->cell = NULL;
}

void agon_runtime_renew(struct agon_runtime *rt)
{
    runtime_drop_cell(rt);
}

bool agon_runtime_gave_up(const struct agon_runtime *rt)
{
    return rt->gave_up;
}

/* One request to the cell at hand, with env.open before it where there is none. AGON_CELL_LOST: try
 * again. */
static int runtime_try(struct agon_runtime *rt, const char *op, struct agon_str request,
                       struct agon_buf *reply, char ret_lost[128], struct agon_err *err)
{
    bool fresh = !rt->cell, opens = strcmp(op, "env.open") == 0;
    int r = fresh ? agon_cell_new(&rt->cell, rt->sandbox, err) : 0;
    if (r)
        return r;
    if (fresh || opens)
        r = agon_cell_call(rt->cell, "env.open", agon_buf_str(&rt->open), reply, ret_lost, err);
    if (!r && !opens)
        r = agon_cell_call(rt->cell, op, request, reply, ret_lost, err);
    return r;
}

int agon_runtime_request(struct agon_runtime *rt, const char *op, struct agon_str request,
                         struct agon_buf *reply, struct agon_err *err)
{
    char lost[128] = "";
    rt->gave_up = false;
    for (int i = 0; i < CELLS_MAX; i++) {
        int r = runtime_try(rt, op, request, reply, lost, err);
        if (r <= 0)
            return r;
        runtime_drop_cell(rt);
        if (agon_interrupted())
            return agon_fail(err, AGON_ESYS, "interrupted");
    }
    rt->gave_up = true;
    return agon_fail(err, AGON_ESYS, "refused: %s ended %d cells, the last: %s", op, CELLS_MAX,
                     lost);
}

int agon_runtime_begin(struct agon_runtime *rt, const char *op, struct agon_str request,
                       struct agon_err *err)
{
    int r = rt->cell ? 0 : agon_runtime_request(rt, "env.open", agon_str(""), &rt->reply, err);
    return r ? r : agon_cell_start(rt->cell, op, request, err);
}

int agon_runtime_end(struct agon_runtime *rt, const char *op, struct agon_str request,
                     struct agon_buf *reply, struct agon_err *err)
{
    char lost[128] = "";
    rt->gave_up = false;
    int r = agon_cell_finish(rt->cell, reply, lost, err);
    if (r <= 0)
        return r;
    runtime_drop_cell(rt);
    return agon_runtime_request(rt, op, request, reply, err);
}

/* ---- opening ---- */

static int runtime_read_tools(struct agon_runtime *rt, struct agon_str text, struct agon_err *err)
{
    int r = agon_json_parse(&rt->signatures, text, err);
    if (r)
        return r;
    size_t n = json_array_size(rt->signatures);
    rt->tools = calloc(n + 1, sizeof(*rt->tools));
    if (!rt->tools)
        return agon_fail(err, AGON_ENOMEM, "runtime: out of memory");
    for (size_t i = 0; i < n; i++) {
        struct agon_tool *t = &rt->tools[i];
        json_t *params, *returns;
        int writes;
        if (json_unpack(json_array_get(rt->signatures, i), "{s:s, s:s, s:o, s:o, s:b}", "name",
                        &t->name, "description", &t->description, "params", &params, "returns",
                        &returns, "writes", &writes))
            return agon_fail(err, AGON_EINPUT, "runtime: the cell described its tools badly");
        t->params = params;
        t->returns = returns;
        t->writes = writes;
        rt->n_tools++;
    }
    return 0;
}

static int runtime_fill_open(struct agon_runtime *rt, const char *world_path, struct agon_str tools,
                             struct agon_err *err)
{
    size_t at = agon_wire_begin_str(&rt->open);
    int r = world_path ? agon_file_read(&rt->open, world_path, WORLD_BYTES_MAX, err) : 0;
    if (r)
        return r;
    agon_wire_end_str(&rt->open, at);
    agon_wire_add_str(&rt->open, tools);
    rt->tools_size = tools.size;
    return agon_buf_check(&rt->open, "environment", err);
}

static void runtime_drop_tools(struct agon_runtime *rt)
{
    json_decref(rt->signatures);
    free(rt->tools);
    rt->signatures = NULL;
    rt->tools = NULL;
    rt->n_tools = 0;
}

int agon_runtime_reopen(struct agon_runtime *rt, const char *world_path, struct agon_str tools,
                        struct agon_buf *reason, struct agon_err *err)
{
    runtime_drop_tools(rt);
    agon_buf_reset(&rt->open);
    int r = runtime_fill_open(rt, world_path, tools, err);
    if (!r)
        r = agon_runtime_request(rt, "env.open", agon_str(""), &rt->reply, err);
    if (r)
        return r;
    struct agon_wire wire = agon_wire_of(agon_buf_str(&rt->reply));
    int64_t status = agon_wire_int(&wire);
    struct agon_str text = agon_wire_str(&wire);
    r = agon_wire_end(&wire, "env.open", err);
    if (r)
        return r;
    if (status) {
        agon_buf_add_str(reason, text);
        return AGON_REJECTED;
    }
    return runtime_read_tools(rt, text, err);
}

int agon_runtime_open(struct agon_runtime **ret, struct agon_sandbox *sb, const char *world_path,
                      struct agon_str tools, struct agon_buf *reason, struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = calloc(1, sizeof(*rt));
    if (!rt)
        return agon_fail(err, AGON_ENOMEM, "runtime: out of memory");
    rt->sandbox = sb;
    rt->open = (struct agon_buf)AGON_BUF(MESSAGE_BYTES_MAX);
    rt->request = (struct agon_buf)AGON_BUF(MESSAGE_BYTES_MAX);
    rt->reply = (struct agon_buf)AGON_BUF(MESSAGE_BYTES_MAX);
    int r = agon_runtime_reopen(rt, world_path, tools, reason, err);
    if (!r)
        *ret = AGON_STEAL(rt);
    return r;
}

void agon_runtime_free(struct agon_runtime *rt)
{
    if (!rt)
        return;
    runtime_drop_cell(rt);
    agon_buf_deinit(&rt->open);
    agon_buf_deinit(&rt->request);
    agon_buf_deinit(&rt->reply);
    runtime_drop_tools(rt);
    free(rt);
}

int agon_runtime_n_tools(const struct agon_runtime *rt)
{
    return rt->n_tools;
}

const struct agon_tool *agon_runtime_tool(const struct agon_runtime *rt, int i)
{
    return &rt->tools[i];
}

struct agon_str agon_runtime_tools_text(const struct agon_runtime *rt)
{
    return (struct agon_str){rt->open.data + rt->open.size - rt->tools_size, rt->tools_size};
}

json_t *agon_runtime_tools_json(const struct agon_runtime *rt)
{
    json_t *all = json_array();
    for (int i = 0; all && i < rt->n_tools; i++) {
        const struct agon_tool *t = &rt->tools[i];
        json_t *one = json_pack("{s:s, s:{s:s, s:s, s:O}}", "type", "function", "function", "name",
                                t->name, "description", t->description, "parameters", t->params);
        if (json_array_append_new(all, one)) {
            json_decref(all);
            return NULL;
        }
    }
    return all;
}

/* ---- instances ---- */

int agon_instance_new(struct agon_instance **ret, struct agon_runtime *rt, struct agon_err *err)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = calloc(1, sizeof(*in));
    if (!in || !(in->writes = json_array()))
        return agon_fail(err, AGON_ENOMEM, "instance: out of memory");
    in->rt = rt;
    *ret = AGON_STEAL(in);
    return 0;
}

int agon_instance_fork(struct agon_instance **ret, const struct agon_instance *in,
                       struct agon_err *err)
{
    struct agon_instance *fork AGON_AUTO(agon_instance_freep) = NULL;
    int r = agon_instance_new(&fork, in->rt, err);
    if (!r &&
        json_array_extend(fork->writes, in->writes)) /* a call noted never changes: share them */
        r = agon_fail(err, AGON_ENOMEM, "instance: out of memory");
    if (!r)
        *ret = AGON_STEAL(fork);
    return r;
}

void agon_instance_free(struct agon_instance *in)
{
    if (!in)
        return;
    json_decref(in->writes);
    free(in);
}

const json_t *agon_instance_writes(const struct agon_instance *in)
{
    return in->writes;
}

int agon_instance_set_writes(struct agon_instance *in, const json_t *writes, struct agon_err *err)
{
    struct agon_buf check AGON_AUTO(agon_buf_deinit) = AGON_BUF(MESSAGE_BYTES_MAX);
    int r = agon_wire_add_writes(&check, writes, err);
    if (r)
        return r;
    json_t *copy = json_is_array(writes) ? json_deep_copy(writes) : json_array();
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "instance: out of memory");
    json_decref(in->writes);
    in->writes = copy;
    return 0;
}

static int instance_note(struct agon_instance *in, const char *tool, struct agon_str arguments,
                         struct agon_err *err)
{
    json_t *value = NULL;
    int r = agon_json_parse(&value, arguments, err);
    if (r)
        return r;
    if (json_array_append_new(in->writes,
                              json_pack("{s:s, s:o}", "tool", tool, "arguments", value)))
        return agon_fail(err, AGON_ENOMEM, "instance: out of memory");
    return 0;
}

/* rt->request: the instance's state, then a and b. */
static int instance_request(struct agon_instance *in, const char *op, struct agon_str a,
                            const struct agon_str *b, struct agon_err *err)
{
    struct agon_buf *request = &in->rt->request;
    agon_buf_reset(request);
    int r = agon_wire_add_writes(request, in->writes, err);
    agon_wire_add_str(request, a);
    if (b)
        agon_wire_add_str(request, *b);
    if (!r)
        r = agon_buf_check(request, op, err);
    return r ? r : agon_runtime_request(in->rt, op, agon_buf_str(request), &in->rt->reply, err);
}

int agon_instance_call(struct agon_instance *in, const char *tool, struct agon_str arguments,
                       struct agon_buf *result, struct agon_err *err)
{
    agon_buf_reset(result);
    int r = instance_request(in, "env.call", agon_str(tool), &arguments, err);
    if (r)
        return r;
    struct agon_wire wire = agon_wire_of(agon_buf_str(&in->rt->reply));
    int64_t status = agon_wire_int(&wire);
    agon_wire_reason(&wire, result);
    bool wrote = agon_wire_int(&wire) != 0;
    struct agon_str canonical = agon_wire_str(&wire);
    r = agon_wire_end(&wire, "env.call", err);
    if (!r)
        r = agon_buf_check(result, tool, err);
    if (!r && wrote)
        r = instance_note(in, tool, canonical, err);
    return r ? r : status ? AGON_TOOL_ERROR : 0;
}

int agon_instance_sql(struct agon_instance *in, struct agon_str sql, json_t **ret_rows,
                      struct agon_buf *reason, struct agon_err *err)
{
    int r = instance_request(in, "env.sql", sql, NULL, err);
    if (r)
        return r;
    struct agon_wire wire = agon_wire_of(agon_buf_str(&in->rt->reply));
    int64_t status = agon_wire_int(&wire);
    struct agon_str text = agon_wire_str(&wire);
    r = agon_wire_end(&wire, "env.sql", err);
    if (r)
        return r;
    if (status) {
        agon_buf_add_str(reason, text);
        return AGON_REJECTED;
    }
    return agon_json_parse(ret_rows, text, err);
}

/* ---- solutions ---- */

void agon_solved_deinit(struct agon_solved *s)
{
    json_decref(s->answer);
    json_decref(s->writes);
    json_decref(s->calls);
    json_decref(s->columns);
    *s = (struct agon_solved){0};
}

/* A run that begins with these writes (NULL: none). */
static int runtime_solve(struct agon_runtime *rt, struct agon_str solution,
                         const json_t *answer_schema, const json_t *writes, struct agon_solved *ret,
                         struct agon_buf *reason, struct agon_err *err)
{
    struct agon_buf schema AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    if (answer_schema)
        agon_json_dump(&schema, answer_schema);
    agon_buf_reset(&rt->request);
    agon_wire_add_str(&rt->request, solution);
    agon_wire_add_str(&rt->request, agon_buf_str(&schema));
    int r = agon_wire_add_writes(&rt->request, writes, err);
    if (!r)
        r = agon_buf_check(&rt->request, "solution", err);
    if (!r)
        r = agon_runtime_request(rt, "env.solve", agon_buf_str(&rt->request), &rt->reply, err);
    if (r)
        return r;
    struct agon_wire wire = agon_wire_of(agon_buf_str(&rt->reply));
    int64_t status = agon_wire_int(&wire);
    struct agon_str why = agon_wire_str(&wire);
    if (status) {
        agon_buf_add_str(reason, why);
        return AGON_REJECTED;
    }
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    solved.answer = agon_wire_json(&wire);
    r = agon_wire_solved(&wire, &solved, err);
    if (!r)
        r = agon_wire_end(&wire, "env.solve", err);
    if (!r) {
        *ret = solved;
        solved = (struct agon_solved){0};
    }
    return r;
}

int agon_runtime_solve(struct agon_runtime *rt, struct agon_str solution,
                       const json_t *answer_schema, struct agon_solved *ret,
                       struct agon_buf *reason, struct agon_err *err)
{
    return runtime_solve(rt, solution, answer_schema, NULL, ret, reason, err);
}

int agon_instance_solve(struct agon_instance *in, struct agon_str solution,
                        const json_t *answer_schema, struct agon_solved *ret,
                        struct agon_buf *reason, struct agon_err *err)
{
    int r = runtime_solve(in->rt, solution, answer_schema, in->writes, ret, reason, err);
    if (r)
        return r;
    json_t *writes = json_copy(ret->writes);
    if (!writes)
        return agon_fail(err, AGON_ENOMEM, "instance: out of memory");
    json_decref(in->writes);
    in->writes = writes;
    return 0;
}
