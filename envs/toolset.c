/* Loading tools.lua and calling its tools: see toolset.h. */
#include "envs/toolset.h"

#include "base/json.h"
#include "base/text.h"
#include "envs/schema.h"
#include "envs/world_lua.h"
#include "sandbox/script.h"
#include "sandbox/script_record.h"

#include <ctype.h>
#include <lauxlib.h>
#include <lua.h>
#include <stdlib.h>

enum { REASON_MAX = 480, DESCRIPTION_MAX = 4000, LOAD_FUEL = 2000000 };

struct agon_toolset {
    struct agon_host host;
    struct agon_script *script; /* owned */
    struct agon_tool_entry tools[AGON_TOOLS_MAX];
    int n_tools;
    struct agon_script_kept functions, world; /* what the keys below stand for */
};

/* Keys in the registry: the functions by number, and the table `world`. */
static const char key_functions, key_world;

/* ---- loading ---- */

static void raise_at(lua_State *L, const char *name, const char *why)
{
    lua_pushfstring(L, "tool '%s': %s", name, why);
    lua_error(L);
}

/* A string field of the declaration at 1, or NULL; stays on the stack. */
static const char *declared_text(lua_State *L, const char *name, const char *field)
{
    if (lua_getfield(L, 1, field) != LUA_TSTRING)
        raise_at(L, name, lua_pushfstring(L, "%s is missing (a string)", field));
    return lua_tostring(L, -1);
}

/* The schema of a signature; raises where it is none. The caller owns it by its place in the
 * toolset. */
static void declared_schema(lua_State *L, const char *name, const char *field, json_t **ret)
{
    struct agon_str text;
    (void)declared_text(L, name, field);
    text.data = lua_tolstring(L, -1, &text.size);
    struct agon_err err;
    int r = agon_json_parse(ret, text, &err);
    if (!r)
        r = agon_schema_check(*ret, &err);
    if (r)
        raise_at(L, name, lua_pushfstring(L, "%s: %s", field, err.text));
}

static void check_params(lua_State *L, const struct agon_tool_entry *t)
{
    const char *type = json_string_value(json_object_get(t->params, "type"));
    if (!type || strcmp(type, "object") != 0)
        raise_at(L, t->name, "params: type is not object");
    json_t *properties = json_object_get(t->params, "properties");
    if (json_object_size(properties) > AGON_TOOL_PARAMS_MAX)
        raise_at(L, t->name, "params: over 32 parameters");
    const char *key;
    json_t *property;
    struct agon_err err;
    json_object_foreach(properties, key, property) if (agon_name_check(key, &err))
        raise_at(L, t->name, lua_pushfstring(L, "params: %s", err.text));
}

static void check_fields(lua_State *L, const char *name)
{
    static const char *const known[] = {"name",    "description", "params",
                                        "returns", "writes",      "run"};
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(no name)";
        bool found = false;
        for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
            found |= !strcmp(key, known[i]);
        if (!found)
            raise_at(L, name, lua_pushfstring(L, "unknown field '%s'", key));
    }
}

static char *copy_text(lua_State *L, const char *text)
{
    char *copy = strdup(text);
    if (!copy)
        agon_script_abort(L, "out of memory");
    return copy;
}

/* tool{ name=, description=, params=, returns=, writes=, run= } */
static int lua_tool(lua_State *L)
{
    struct agon_toolset *ts = ((struct agon_host *)agon_script_user(L))->owner;
    struct agon_err err;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (ts->n_tools == AGON_TOOLS_MAX)
        return luaL_error(L, "over %d tools", AGON_TOOLS_MAX);
    const char *name = declared_text(L, "?", "name");
    if (agon_tool_name_check(name, &err))
        raise_at(L, "?", err.text);
    if (agon_toolset_find(ts, agon_str(name)) >= 0)
        raise_at(L, name, "stands twice");
    check_fields(L, name);
    struct agon_tool_entry *t =
        &ts->tools[ts->n_tools++]; /* owns what follows, whatever is raised */
    t->name = copy_text(L, name);
    const char *description = declared_text(L, name, "description");
    struct agon_str text = agon_str(description);
    if (text.size == 0 || text.size > DESCRIPTION_MAX || !agon_utf8_valid(text))
        raise_at(L, name, "description is empty, over 4000 bytes or not UTF-8");
    t->description = copy_text(L, description);
    declared_schema(L, name, "params", &t->params);
    check_params(L, t);
    declared_schema(L, name, "returns", &t->returns);
    int type = lua_getfield(L, 1, "writes");
    if (type != LUA_TNIL && type != LUA_TBOOLEAN)
        raise_at(L, name, "writes is neither true nor false");
    t->writes = lua_toboolean(L, -1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_functions);
    if (lua_getfield(L, 1, "run") != LUA_TFUNCTION)
        raise_at(L, name, "run is missing (a function)");
    lua_rawseti(L, -2, ts->n_tools);
    return 0;
}

struct loading {
    struct agon_str text;
};

static int toolset_run_chunk(lua_State *L, void *arg)
{
    const struct loading *load = arg;
    struct agon_toolset *ts = ((struct agon_host *)agon_script_user(L))->owner;
    agon_codec_open(L);
    lua_newtable(L);
    ts->functions = agon_script_keep(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_functions);
    agon_world_push(L);
    ts->world = agon_script_keep(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_world);
    lua_pushcfunction(L, lua_tool);
    lua_setglobal(L, "tool");
    agon_script_run_chunk(L, "=tools", load->text, 0);
    lua_pushnil(L);
    lua_setglobal(L, "tool");
    return 0;
}

int agon_toolset_load(struct agon_toolset **ret, struct agon_world *w, struct agon_str text,
                      struct agon_err *err)
{
    struct agon_toolset *ts AGON_AUTO(agon_toolset_freep) = calloc(1, sizeof(*ts));
    if (!ts)
        return agon_fail(err, AGON_ENOMEM, "tools: out of memory");
    ts->host = (struct agon_host){.world = w, .by = AGON_BY_TOOLS, .owner = ts};
    agon_codec_init(&ts->host.codec);
    int r = agon_script_new(&ts->script, NULL, err);
    if (r)
        return r;
    agon_script_set_user(ts->script, &ts->host);
    struct loading load = {text};
    char reason[REASON_MAX];
    r = agon_script_protect(ts->script, toolset_run_chunk, &load, reason, sizeof(reason), err);
    if (r > 0) {
        agon_fail(err, AGON_TOOLSET_REFUSED, "%s", reason);
        return AGON_TOOLSET_REFUSED;
    }
    if (!r)
        r = agon_script_snapshot(ts->script, err);
    if (!r)
        *ret = AGON_STEAL(ts);
    return r < 0 ? r : r ? AGON_TOOLSET_REFUSED : 0;
}

void agon_toolset_free(struct agon_toolset *ts)
{
    if (!ts)
        return;
    for (int i = 0; i < ts->n_tools; i++) {
        free(ts->tools[i].name);
        free(ts->tools[i].description);
        json_decref(ts->tools[i].params);
        json_decref(ts->tools[i].returns);
    }
    agon_script_free(ts->script);
    agon_codec_deinit(&ts->host.codec);
    free(ts);
}

int agon_toolset_count(const struct agon_toolset *ts)
{
    return ts->n_tools;
}

const struct agon_tool_entry *agon_toolset_get(const struct agon_toolset *ts, int i)
{
    return &ts->tools[i];
}

int agon_toolset_find(const struct agon_toolset *ts, struct agon_str name)
{
    for (int i = 0; i < ts->n_tools; i++)
        if (agon_str_is(name, ts->tools[i].name))
            return i;
    return -1;
}

/* ---- calling ---- */

struct calling {
    struct agon_toolset *ts;
    struct agon_tool_call *call;
    bool refused; /* result holds the sentence */
};

static int call_refuse(struct calling *c, const struct agon_err *err)
{
    agon_buf_reset(c->call->result);
    agon_buf_adds(c->call->result, err->text);
    c->refused = true;
    return 0;
}

static int call_in_lua(lua_State *L, void *arg)
{
    struct calling *c = arg;
    struct agon_toolset *ts = c->ts;
    const struct agon_tool_entry *t = &ts->tools[c->call->tool];
    struct agon_codec *codec = &ts->host.codec;
    struct agon_err err;
    struct agon_str text = c->call->arguments.size ? c->call->arguments : agon_str("{}");
    if (agon_codec_decode(codec, L, text, "arguments", &err))
        return call_refuse(c, &err);
    if (agon_codec_has_defaults(codec, L, t->params)) { /* without any, writing checks enough */
        if (agon_codec_fits(codec, L, t->params, "arguments", &err))
            return call_refuse(c, &err);
        agon_codec_defaults(codec, L, t->params);
    }
    if (agon_codec_encode(codec, L, t->params, "arguments", c->call->canonical, &err)) {
        agon_buf_reset(c->call->canonical);
        return call_refuse(c, &err);
    }
    if (c->call->override && c->call->override(c->call->user, c->call))
        return 0;
    agon_script_push(L, ts->functions);
    lua_rawgeti(L, -1, c->call->tool + 1);
    agon_script_push(L, ts->world);
    lua_pushvalue(L, 1);
    lua_call(L, 2, 1);
    if (agon_codec_encode(codec, L, t->returns, "result", c->call->result, &err))
        return call_refuse(c, &err);
    return 0;
}

/* What error('no such city') raised, without the place in tools.lua where it stands: that is for
 * the author, who needs it for a mistake of the code itself. */
static const char *without_place(const char *reason)
{
    bool mistake =
        strstr(reason, "attempt to ") || strstr(reason, "bad argument") || strstr(reason, "SQL: ");
    const char *at = reason;
    if (mistake || strncmp(at, "tools:", 6) != 0)
        return reason;
    at += 6;
    while (isdigit((unsigned char)*at))
        at++;
    return at[0] == ':' && at[1] == ' ' ? at + 2 : reason;
}

int agon_toolset_call(struct agon_toolset *ts, struct agon_tool_call *call, struct agon_err *err)
{
    struct calling c = {ts, call, false};
    char reason[REASON_MAX];
    agon_buf_reset(call->canonical);
    agon_buf_reset(call->result);
    ts->host.may_write = ts->tools[call->tool].writes;
    int64_t fuel = call->fuel < LOAD_FUEL ? call->fuel : LOAD_FUEL;
    agon_script_set_fuel(ts->script, fuel);
    int r = agon_script_protect(ts->script, call_in_lua, &c, reason, sizeof(reason), err);
    call->fuel -= fuel - agon_script_fuel(ts->script);
    agon_script_restore(ts->script);
    agon_world_end_entry(ts->host.world);
    if (r < 0)
        return r;
    if (r > 0) {
        agon_buf_reset(call->result);
        agon_buf_addf(call->result, "%s", without_place(reason));
    } else if (!c.refused && agon_buf_check(call->result, "result", err)) {
        return AGON_ENOMEM;
    }
    return r > 0 || c.refused ? AGON_CALL_ERROR : 0;
}
