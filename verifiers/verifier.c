/* Loading and running a verifier's checks: see verifier.h. */
#include "verifiers/verifier.h"

#include "base/text.h"
#include "sandbox/script.h"
#include "sandbox/script_record.h"
#include "sandbox/script_view.h"
#include "verifiers/verifier_internal.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    REASON_MAX = 480,
    NAME_BYTES_MAX = 100,
    TEXT_BYTES_MAX = 2000,
    HELD_BYTES_MAX = 200,
    HELD_MAX = 2000
};

/* Keys in the registry: the checks' functions by number, the tables `world` and `changes`, and the
 * answer that is being judged. */
static const char key_functions, key_world, key_changes, key_answer;

/* ---- loading ---- */

/* A field of the check at 1, copied; owned by the verifier from then on. */
static void copy_field(lua_State *L, const char *field, size_t size_max, char **ret)
{
    if (lua_getfield(L, 1, field) != LUA_TSTRING)
        luaL_error(L, "check: %s is missing (a string)", field);
    struct agon_str s;
    s.data = lua_tolstring(L, -1, &s.size);
    if (s.size == 0 || s.size > size_max || memchr(s.data, '\0', s.size) || !agon_utf8_valid(s))
        luaL_error(L, "check: %s is empty, over %d bytes or not UTF-8", field, (int)size_max);
    *ret = strndup(s.data, s.size);
    if (!*ret)
        agon_script_abort(L, "out of memory");
    lua_pop(L, 1);
}

static void check_fields(lua_State *L)
{
    for (lua_pushnil(L); lua_next(L, 1); lua_pop(L, 1)) {
        const char *key = lua_type(L, -2) == LUA_TSTRING ? lua_tostring(L, -2) : "(no name)";
        if (strcmp(key, "name") != 0 && strcmp(key, "text") != 0 && strcmp(key, "run") != 0)
            luaL_error(L, "check: unknown field '%s'", key);
    }
}

/* check{ name=, text=, run= } */
static int lua_check(lua_State *L)
{
    struct agon_verifier *v = ((struct agon_host *)agon_script_user(L))->owner;
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (v->n_checks == AGON_CHECKS_MAX)
        return luaL_error(L, "over %d checks", AGON_CHECKS_MAX);
    check_fields(L);
    struct check *c = &v->checks[v->n_checks++]; /* owns what follows, whatever is raised */
    copy_field(L, "name", NAME_BYTES_MAX, &c->name);
    for (int i = 0; i + 1 < v->n_checks; i++)
        if (!strcmp(v->checks[i].name, c->name))
            return luaL_error(L, "check '%s' stands twice", c->name);
    copy_field(L, "text", TEXT_BYTES_MAX, &c->text);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &key_functions);
    if (lua_getfield(L, 1, "run") != LUA_TFUNCTION)
        return luaL_error(L, "check '%s': run is missing (a function)", c->name);
    lua_rawseti(L, -2, v->n_checks);
    return 0;
}

static int verifier_run_chunk(lua_State *L, void *arg)
{
    struct agon_verifier *v = arg;
    agon_codec_open(L);
    lua_newtable(L);
    v->functions = agon_script_keep(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_functions);
    agon_world_push(L);
    v->world = agon_script_keep(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_world);
    verifier_push_changes(L);
    v->table = agon_script_keep(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_changes);
    lua_pushboolean(L, false);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_answer);
    lua_pushcfunction(L, lua_check);
    lua_setglobal(L, "check");
    agon_script_run_chunk(L, "=verifier", (struct agon_str){v->source, v->source_size}, 0);
    lua_pushnil(L);
    lua_setglobal(L, "check");
    if (v->n_checks == 0)
        return luaL_error(L, "verifier: it has no check{ ... }");
    return 0;
}

int agon_verifier_load(struct agon_verifier **ret, struct agon_world *w, struct agon_str text,
                       struct agon_err *err)
{
    struct agon_verifier *v AGON_AUTO(agon_verifier_freep) = calloc(1, sizeof(*v));
    if (!v || !(v->source = malloc(text.size + 1)))
        return agon_fail(err, AGON_ENOMEM, "verifier: out of memory");
    memcpy(v->source, text.data, text.size);
    v->source_size = text.size;
    v->host = (struct agon_host){.world = w, .by = AGON_BY_VERIFIER, .owner = v};
    agon_codec_init(&v->host.codec);
    int r = agon_script_new(&v->script, NULL, err);
    if (r)
        return r;
    agon_script_set_user(v->script, &v->host);
    char reason[REASON_MAX];
    r = agon_script_protect(v->script, verifier_run_chunk, v, reason, sizeof(reason), err);
    if (!r)
        r = agon_script_snapshot(v->script, err);
    else if (r > 0)
        agon_fail(err, AGON_VERIFIER_REFUSED, "%s", reason);
    if (r)
        return r < 0 ? r : AGON_VERIFIER_REFUSED;
    *ret = AGON_STEAL(v);
    return 0;
}

void agon_verifier_free(struct agon_verifier *v)
{
    if (!v)
        return;
    for (int i = 0; i < v->n_checks; i++) {
        free(v->checks[i].name);
        free(v->checks[i].text);
    }
    agon_changes_deinit(&v->changes);
    agon_script_free(v->script);
    agon_codec_deinit(&v->host.codec);
    free(v->source);
    free(v);
}

bool agon_verifier_is(const struct agon_verifier *v, struct agon_str text)
{
    return agon_str_equal((struct agon_str){v->source, v->source_size}, text);
}

int agon_verifier_count(const struct agon_verifier *v)
{
    return v->n_checks;
}

const char *agon_verifier_name(const struct agon_verifier *v, int i)
{
    return v->checks[i].name;
}

const char *agon_verifier_text(const struct agon_verifier *v, int i)
{
    return v->checks[i].text;
}

/* ---- judging ---- */

/*
 * The answer is decoded once and kept in a layer over the snapshot. Each check starts from there,
 * so what it does to its answer, globals or upvalues is gone for the next one, and is charged for
 * the decoding as if it had done it.
 */
struct judging {
    struct agon_verifier *v;
    const json_t *schema;
    struct agon_str answer;
    struct agon_script_kept kept; /* the answer, decoded */
    int64_t decode_fuel;
    int check;
    bool pass, refused;
    struct agon_err why; /* refused: it does not fit */
    json_t *texts;       /* borrowed: that the state holds */
    bool loaded;         /* no check has run */
};

static int decode_in_lua(lua_State *L, void *arg)
{
    struct judging *j = arg;
    j->refused = agon_codec_decode(&j->v->host.codec, L, j->answer, "answer", &j->why) != 0;
    if (j->refused)
        return 0;
    j->kept = agon_script_keep(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &key_answer);
    return 0;
}

static int fits_in_lua(lua_State *L, void *arg)
{
    struct judging *j = arg;
    agon_script_push(L, j->kept);
    j->refused = agon_codec_fits(&j->v->host.codec, L, j->schema, "answer", &j->why) != 0;
    return 0;
}

static int check_in_lua(lua_State *L, void *arg)
{
    struct judging *j = arg;
    agon_script_push(L, j->v->functions);
    lua_rawgeti(L, -1, j->check + 1);
    agon_script_push(L, j->v->world);
    agon_script_push(L, j->kept);
    agon_script_push(L, j->v->table);
    lua_call(L, 3, 1);
    if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
        return luaL_error(L, "check '%s' returned a %s; a check returns true or false",
                          j->v->checks[j->check].name, luaL_typename(L, -1));
    j->pass = lua_toboolean(L, -1);
    return 0;
}

/* One entry into the verifier's state; *ret_fuel is what it took. */
static int judge_enter(struct judging *j, int (*fn)(lua_State *L, void *arg),
                       char reason[REASON_MAX], int64_t *ret_fuel, struct agon_err *err)
{
    struct agon_script *script = j->v->script;
    agon_script_set_fuel(script, AGON_CHECK_FUEL - j->decode_fuel);
    int r = agon_script_protect(script, fn, j, reason, REASON_MAX, err);
    *ret_fuel = AGON_CHECK_FUEL - agon_script_fuel(script);
    return r;
}

static void judge_spent(struct agon_usage *usage, int64_t fuel)
{
    usage->fuel += fuel;
    agon_usage_raise(usage, fuel, AGON_CHECK_FUEL);
}

/* Decode and compare with the schema; the layer stands unless this fails. As agon_script_protect().
 */
static int judge_answer(struct judging *j, char reason[REASON_MAX], struct agon_usage *usage,
                        struct agon_err *err)
{
    int64_t fuel;
    int r = judge_enter(j, decode_in_lua, reason, &fuel, err);
    if (!r && !j->refused)
        r = agon_script_layer(j->v->script, err);
    if (!r && !j->refused && j->schema) {
        j->decode_fuel = fuel;
        uint64_t allocs = agon_script_n_allocs(j->v->script);
        r = judge_enter(j, fits_in_lua, reason, &fuel, err);
        if (allocs != agon_script_n_allocs(j->v->script))
            agon_script_restore(j->v->script);
    } else if (!r) {
        j->decode_fuel = fuel;
    }
    judge_spent(usage, fuel);
    return r;
}

/* The state is the layer's; what the check leaves in it is for the caller to restore. */
static int judge_check(struct judging *j, char reason[REASON_MAX], struct agon_usage *usage,
                       struct agon_err *err)
{
    int64_t fuel;
    int r = judge_enter(j, check_in_lua, reason, &fuel, err);
    judge_spent(usage, fuel);
    agon_world_end_entry(j->v->host.world);
    return r;
}

static void text_held(void *user, struct agon_str text)
{
    struct judging *j = user;
    if (json_object_size(j->texts) >= HELD_MAX || text.size > HELD_BYTES_MAX ||
        memchr(text.data, '\0', text.size) || !agon_utf8_valid(text) ||
        json_object_get(j->texts, text.data))
        return;
    json_object_set_new(j->texts, text.data, json_boolean(j->loaded));
}

static int texts_in_lua(lua_State *L, void *arg)
{
    agon_script_texts(L, text_held, arg);
    return 0;
}

/* What the state holds now, before it is put back. */
static int judge_texts(struct judging *j, bool loaded, struct agon_judgement *ret,
                       struct agon_err *err)
{
    char reason[REASON_MAX];
    int64_t fuel;
    j->texts = ret->texts;
    j->loaded = loaded;
    return ret->texts ? judge_enter(j, texts_in_lua, reason, &fuel, err) : 0;
}

static int judge_checks(struct judging *j, bool want_reasons, int failed_max,
                        struct agon_judgement *ret, struct agon_err *err)
{
    char reason[REASON_MAX];
    int n_failed = 0, held = judge_texts(j, true, ret, err);
    if (held < 0)
        return held;
    for (int i = 0; i < j->v->n_checks && (!failed_max || n_failed < failed_max); i++) {
        int64_t fuel = ret->usage.fuel, ops = agon_world_run_ops(j->v->host.world);
        j->check = i;
        if (i > 0)
            agon_script_restore(j->v->script);
        int r = judge_check(j, reason, &ret->usage, err);
        if (r < 0 || (held = judge_texts(j, false, ret, err)) < 0)
            return r < 0 ? r : held;
        ret->costs[i] = (struct agon_check_cost){ret->usage.fuel - fuel,
                                                 agon_world_run_ops(j->v->host.world) - ops};
        if (r == 0 && j->pass)
            continue;
        n_failed++;
        ret->failed |= UINT64_C(1) << i;
        ret->raised |= (uint64_t)(r > 0) << i;
        if (r > 0 && want_reasons && !(ret->reasons[i] = strdup(reason)))
            return agon_fail(err, AGON_ENOMEM, "verifier: out of memory");
    }
    return 0;
}

/* The answer fits: its checks, and that they claim all changes. */
static int judge_world(struct judging *j, bool want_reasons, int failed_max,
                       struct agon_judgement *ret, struct agon_err *err)
{
    struct agon_verifier *v = j->v;
    agon_changes_deinit(&v->changes);
    int r = agon_changes_of(&v->changes, v->host.world, err);
    ret->changes = verifier_changes_digest(v);
    if (!r)
        r = judge_checks(j, want_reasons, failed_max, ret, err);
    for (int i = 0; !r && i < v->changes.n && !ret->unclaimed; i++) {
        if (v->changes.items[i].claimed)
            continue;
        ret->unclaimed = true;
        agon_change_text(v->host.world, &v->changes.items[i], ret->why, sizeof(ret->why));
    }
    ret->pass = !r && !ret->failed && !ret->unclaimed;
    ret->usage.ops = agon_world_run_ops(v->host.world);
    agon_usage_raise(&ret->usage, ret->usage.ops, agon_world_run_ops_max(v->host.world));
    return r;
}

int agon_verifier_run(struct agon_verifier *v, const json_t *schema, struct agon_str answer,
                      bool want_reasons, int failed_max, struct agon_judgement *ret,
                      struct agon_err *err)
{
    struct judging j = {.v = v, .schema = schema, .answer = answer};
    char reason[REASON_MAX];
    int r = judge_answer(&j, reason, &ret->usage, err);
    if (r > 0 || j.refused) {
        ret->schema = true;
        snprintf(ret->why, sizeof(ret->why), "%.255s", r > 0 ? reason : j.why.text);
        r = 0;
    } else if (!r) {
        r = judge_world(&j, want_reasons, failed_max, ret, err);
    }
    agon_script_drop_layer(v->script);
    agon_script_restore(v->script);
    return r;
}

void agon_judgement_deinit(struct agon_judgement *j)
{
    for (uint64_t left = j->raised; left; left &= left - 1) /* the others have none */
        free(j->reasons[__builtin_ctzll(left)]);
    *j = (struct agon_judgement){0};
}
