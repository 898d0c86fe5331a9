/* Running a solution: see solution.h. */
#include "envs/solution.h"

#include "base/json.h"
#include "envs/cell_state.h"
#include "envs/codec.h"
#include "sandbox/script.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

enum { REASON_MAX = 480, SOLUTION_FUEL = 5000000, CALL_FUEL = 50 };

struct agon_solution {
    struct agon_env_cell *cell; /* borrowed */
    struct agon_script *script; /* owned */
    struct agon_codec codec;
    struct agon_buf arguments;        /* of the call that is being made */
    struct agon_solve_result *result; /* of the run, borrowed */
    struct agon_err broken;           /* code < 0: the cell itself failed under the solution */
};

static const char key_tools;

static void record_call(struct agon_solution *s, const char *tool, bool failed)
{
    struct agon_buf *b = &s->result->calls;
    agon_buf_adds(b, s->result->n_calls++ ? ", {\"tool\": " : "[{\"tool\": ");
    agon_json_dump_string(b, agon_str(tool));
    agon_buf_adds(b, ", \"arguments\": ");
    agon_buf_add_str(b,
                     agon_buf_str(s->cell->canonical.size ? &s->cell->canonical : &s->arguments));
    agon_buf_adds(b, failed ? ", \"error\": " : ", \"result\": ");
    if (failed)
        agon_json_dump_string(b, agon_buf_str(&s->cell->result));
    else
        agon_buf_add_str(b, agon_buf_str(&s->cell->result));
    agon_buf_addc(b, '}');
}

/* tools.name(arguments) */
static int lua_call_tool(lua_State *L)
{
    struct agon_solution *s = agon_script_user(L);
    const struct agon_tool_entry *t =
        agon_toolset_get(s->cell->toolset, (int)lua_tointeger(L, lua_upvalueindex(1)));
    struct agon_err err;
    agon_script_charge(L, CALL_FUEL);
    if (lua_gettop(L) > 1 || (!lua_isnoneornil(L, 1) && !lua_istable(L, 1)))
        return luaL_error(L, "call it as tools.%s{ argument = value, ... }", t->name);
    if (s->result->n_calls == AGON_CELL_CALLS_MAX)
        agon_script_abort(L, "the solution made over 2000 tool calls");
    lua_settop(L, 1);
    if (lua_isnil(L, 1)) {
        lua_newtable(L);
        lua_replace(L, 1);
    }
    agon_buf_reset(&s->arguments);
    if (agon_codec_write(&s->codec, L, t->params, "arguments", &s->arguments, &err))
        return luaL_error(L, "tool '%s': %s", t->name, err.text);
    int r = agon_session_call(s->cell, agon_str(t->name), agon_buf_str(&s->arguments), &err);
    if (r < 0) {
        s->broken = err;
        s->broken.code = r;
        agon_script_abort(L, "the cell failed");
    }
    record_call(s, t->name, r > 0);
    if (s->result->calls.failed == AGON_ENOMEM)
        agon_script_abort(L, "out of memory");
    if (s->result->calls.failed)
        agon_script_abort(L, "the results of all tool calls are over 16 MiB");
    if (r) {
        lua_pushfstring(L, "tool '%s': %s", t->name, agon_buf_text(&s->cell->result));
        return lua_error(L);
    }
    if (agon_codec_decode(&s->codec, L, agon_buf_str(&s->cell->result), "result", &err))
        return luaL_error(L, "tool '%s': %s", t->name, err.text);
    return 1;
}

static int solution_fill(lua_State *L, void *arg)
{
    const struct agon_solution *s = arg;
    agon_codec_open(L);
    int n = agon_toolset_count(s->cell->toolset);
    lua_createtable(L, 0, n);
    for (int i = 0; i < n; i++) {
        lua_pushinteger(L, i);
        lua_pushcclosure(L, lua_call_tool, 1);
        lua_setfield(L, -2, agon_toolset_get(s->cell->toolset, i)->name);
    }
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_tools);
    return 0;
}

int agon_solution_new(struct agon_solution **ret, struct agon_env_cell *cell, struct agon_err *err)
{
    struct agon_solution *s AGON_AUTO(agon_solution_freep) = calloc(1, sizeof(*s));
    if (!s)
        return agon_fail(err, AGON_ENOMEM, "solution: out of memory");
    s->cell = cell;
    s->arguments = (struct agon_buf)AGON_BUF(2 << 20);
    agon_codec_init(&s->codec);
    int r = agon_script_new(&s->script, NULL, err);
    if (r)
        return r;
    agon_script_set_user(s->script, s);
    char reason[REASON_MAX];
    r = agon_script_protect(s->script, solution_fill, s, reason, sizeof(reason), err);
    if (r > 0)
        return agon_fail(err, AGON_ESCRIPT, "solution: %s", reason);
    if (!r)
        r = agon_script_snapshot(s->script, err);
    if (r)
        return r < 0 ? r : agon_fail(err, AGON_ESCRIPT, "solution: no snapshot");
    *ret = AGON_STEAL(s);
    return 0;
}

void agon_solution_free(struct agon_solution *s)
{
    if (!s)
        return;
    agon_script_free(s->script);
    agon_codec_deinit(&s->codec);
    agon_buf_deinit(&s->arguments);
    free(s);
}

void agon_solve_result_deinit(struct agon_solve_result *r)
{
    agon_buf_deinit(&r->answer);
    agon_buf_deinit(&r->calls);
}

struct solving {
    struct agon_solution *s;
    struct agon_str text;
    const json_t *schema;
    enum agon_solve_end end;
    struct agon_err misfit;
};

static int solve_in_lua(lua_State *L, void *arg)
{
    struct solving *v = arg;
    agon_script_run_chunk(L, "=solution", v->text, 1);
    if (!lua_isfunction(L, -1))
        return luaL_error(
            L, "solution: does not return a function; write: return function(tools) ... end");
    v->end = AGON_SOLVE_FAILED;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_tools);
    lua_call(L, 1, 1);
    if (!agon_codec_encode(&v->s->codec, L, v->schema, "answer", &v->s->result->answer, &v->misfit))
        v->end = AGON_SOLVE_OK;
    return 0;
}

/* What the run used, its budgets being new when it began. */
static void solution_count(const struct agon_solution *s, int64_t tools_fuel,
                           struct agon_usage *ret)
{
    int64_t own = SOLUTION_FUEL - agon_script_fuel(s->script);
    *ret = (struct agon_usage){own + tools_fuel, agon_world_run_ops(s->cell->world), 0};
    agon_usage_raise(ret, own, SOLUTION_FUEL);
    agon_usage_raise(ret, tools_fuel, AGON_CELL_RUN_FUEL);
    agon_usage_raise(ret, ret->ops, agon_world_run_ops_max(s->cell->world));
}

int agon_solution_run(struct agon_solution *s, struct agon_str text, const json_t *schema,
                      struct agon_solve_result *ret, struct agon_err *err)
{
    struct solving v = {s, text, schema, AGON_SOLVE_NO_LOAD, {0}};
    *ret = (struct agon_solve_result){
        .answer = AGON_BUF(2 << 20),
        .calls = AGON_BUF(AGON_CELL_RECORD_MAX),
    };
    s->result = ret;
    s->broken.code = 0;
    char reason[REASON_MAX];
    int64_t tools_fuel = s->cell->fuel;
    agon_script_set_fuel(s->script, SOLUTION_FUEL);
    int r = agon_script_protect(s->script, solve_in_lua, &v, reason, sizeof(reason), err);
    solution_count(s, tools_fuel - s->cell->fuel, &ret->usage);
    agon_script_restore(s->script);
    s->result = NULL;
    agon_buf_adds(&ret->calls, ret->n_calls ? "]" : "[]");
    if (r >= 0 && s->broken.code < 0) {
        *err = s->broken;
        return s->broken.code;
    }
    if (r < 0)
        return r;
    if (r > 0)
        agon_fail(err, v.end, "%s", reason);
    else if (v.end)
        agon_fail(err, v.end, "%s", v.misfit.text);
    if (r > 0 && v.end == AGON_SOLVE_OK)
        v.end = AGON_SOLVE_FAILED;
    return v.end;
}
