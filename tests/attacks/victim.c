/* The environment under attack: see victim.h. */
#include "tests/attacks/victim.h"

#include "base/file.h"
#include "base/json.h"
#include "sandbox/cell.h"
#include "tests/envs/samples.h"
#include "verifiers/verdict.h"

#include <sqlite3.h>
#include <unistd.h>

/* Tools that run whatever SQL they are given: what a careless author might write. */
const char victim_tools[] =
    "local any = [[{\"type\":\"array\",\"items\":{\"type\":\"object\"}}]]\n"
    "local sql = [[{\"type\":\"object\",\"properties\":{\"sql\":{\"type\":\"string\"}},"
    "\"required\":[\"sql\"]}]]\n"
    "tool{ name='q', description='read', params=sql, returns=any,"
    " run=function(world, a) return world:rows(a.sql) end }\n"
    "tool{ name='x', description='write', writes=true, params=sql, "
    "returns=[[{\"type\":\"integer\"}]], run=function(world, a) return world:exec(a.sql) end }\n"
    "tool{ name='caught', description='write and catch', writes=true, params=sql, "
    "returns=[[{\"type\":\"string\"}]], run=function(world, a)"
    " local ok, why = pcall(world.exec, world, a.sql) return tostring(why) end }\n"
    "tool{ name='bound', description='bind', "
    "params=[[{\"type\":\"object\",\"properties\":{\"v\":{\"anyOf\":[{\"type\":\"string\"},"
    "{\"type\":\"number\"},{\"type\":\"null\"},{\"type\":\"boolean\"}]}},\"required\":[\"v\"]}]], "
    "returns=any, run=function(world, a) return world:rows('SELECT ? AS v', a.v) end }\n"
    "tool{ name='find', description='by name', "
    "params=[[{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
    "\"most\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,\"default\":3}},"
    "\"required\":[\"name\"]}]], returns=any, run=function(world, a) return "
    "world:rows('SELECT id FROM hotel WHERE name = ? LIMIT ?', a.name, a.most) end }\n";

char victim_said[4096];

static struct {
    struct agon_sandbox *sandbox;
    struct agon_runtime *rt;
    struct agon_instance *in;
    char world[128]; /* path of the sample world */
    char rows[2000]; /* its content */
    struct agon_buf out;
    struct agon_err err;
} victim = {.out = AGON_BUF(16 << 20)};

static void say(const char *text)
{
    snprintf(victim_said, sizeof(victim_said), "%s", text);
}

static struct agon_buf *out_fresh(void)
{
    agon_buf_reset(&victim.out);
    return &victim.out;
}

/* A result of the library as an outcome; what it said is in victim.out or victim.err. */
static enum outcome outcome_of(int r, enum outcome refused)
{
    say(r < 0 ? victim.err.text : agon_buf_text(&victim.out));
    if (r < 0)
        return strstr(victim.err.text, "ended 3 cells") ? WORKER_KILLED : STOP;
    return r ? refused : CONTAINED;
}

/* ---- the shared environment ---- */

static void world_rows(char *ret, size_t size)
{
    static const char sql[] =
        "SELECT 'hotel' AS t, id, name, city, price, stars FROM hotel UNION ALL "
        "SELECT 'booking', id, guest, '', hotel_id, nights FROM booking ORDER BY 1, 2";
    json_auto_t *rows = NULL;
    snprintf(ret, size, "?");
    if (!EXPECT(agon_instance_sql(victim.in, agon_str(sql), &rows, out_fresh(), &victim.err) == 0))
        return;
    char *text = json_dumps(rows, 0);
    snprintf(ret, size, "%s", text);
    free(text);
}

/* The same bytes as at the start, the same answer from a tool. */
static void neighbour_check(void)
{
    char rows[sizeof(victim.rows)];
    victim_reset();
    world_rows(rows, sizeof(rows));
    EXPECT_TEXT(rows, victim.rows);
    EXPECT(victim_call("find", agon_str("{\"name\": \"Béla\"}")) == CONTAINED);
    EXPECT_TEXT(victim_said, "[{\"id\": 2}]");
}

static void neighbour_drop(void)
{
    agon_runtime_renew(victim.rt);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    EXPECT(agon_file_write(path, agon_str(text), false, &victim.err) == 0);
}

/* A corpus as an attack would find it: an environment's folder and a database. */
static void make_corpus(void)
{
    const char *corpus = test_path("corpus");
    char env[4096], db_path[4096];
    sqlite3 *db = NULL;
    snprintf(env, sizeof(env), "%s/hotels", corpus);
    snprintf(db_path, sizeof(db_path), "%s/corpus.db", corpus);
    EXPECT(agon_dir_make(env, &victim.err) == 0);
    put(env, "tools.lua", victim_tools);
    put(env, "world.sql", sample_world);
    EXPECT(sqlite3_open(db_path, &db) == SQLITE_OK &&
           sqlite3_exec(db, sample_world, NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(db);
    battery_guard(corpus);
}

static void victim_end(void)
{
    agon_instance_free(victim.in);
    agon_runtime_free(victim.rt);
    agon_sandbox_close(victim.sandbox);
    agon_buf_deinit(&victim.out);
    (void)unlink(victim.world);
}

/* Before the first attack, so that each finds it running. */
__attribute__((constructor(65535))) static void victim_start(void)
{
    snprintf(victim.world, sizeof(victim.world), "/tmp/agon-test-world-XXXXXX");
    int r = agon_sandbox_open(&victim.sandbox, NULL, &victim.err);
    if (!r)
        r = sample_world_file(victim.world);
    if (!r)
        r = agon_runtime_open(&victim.rt, victim.sandbox, victim.world, agon_str(victim_tools),
                              out_fresh(), &victim.err);
    if (!r)
        r = agon_instance_new(&victim.in, victim.rt, &victim.err);
    if (r) { /* no case could say so */
        printf("Bail out! %s\n", r < 0 ? victim.err.text : agon_buf_text(&victim.out));
        exit(1);
    }
    (void)atexit(victim_end); /* there is room for 32 */
    make_corpus();
    world_rows(victim.rows, sizeof(victim.rows));
    battery_neighbour(neighbour_check, neighbour_drop);
}

void victim_reset(void)
{
    json_auto_t *none = json_array();
    EXPECT(agon_instance_set_writes(victim.in, none, &victim.err) == 0);
}

struct agon_runtime *victim_runtime(void)
{
    return victim.rt;
}

struct agon_instance *victim_instance(void)
{
    return victim.in;
}

struct agon_sandbox *victim_sandbox(void)
{
    return victim.sandbox;
}

const char *victim_world(void)
{
    return victim.world;
}

/* ---- the doors ---- */

enum outcome victim_call(const char *tool, struct agon_str arguments)
{
    return outcome_of(agon_instance_call(victim.in, tool, arguments, out_fresh(), &victim.err),
                      TOOL_ERROR);
}

enum outcome victim_sql(const char *tool, const char *sql)
{
    json_auto_t *value = json_pack("{s:s}", "sql", sql);
    char *arguments = value ? json_dumps(value, 0) : NULL;
    enum outcome o = STOP;
    if (EXPECT(arguments != NULL))
        o = victim_call(tool, agon_str(arguments));
    free(arguments);
    return o;
}

/* head, code, tail as one text. */
static struct agon_buf around(const char *head, struct agon_str code, const char *tail)
{
    struct agon_buf text = AGON_BUF(64 << 20);
    agon_buf_adds(&text, head);
    agon_buf_add_str(&text, code);
    agon_buf_adds(&text, tail);
    EXPECT(!text.failed);
    return text;
}

enum outcome victim_open(const char *world_sql, struct agon_str tools)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    const char *path = victim.world;
    sqlite3 *db = NULL;
    if (world_sql) {
        path = test_path("world.db");
        (void)unlink(path); /* of the attack before */
        EXPECT(sqlite3_open(path, &db) == SQLITE_OK &&
               sqlite3_exec(db, world_sql, NULL, NULL, NULL) == SQLITE_OK);
        sqlite3_close(db);
    }
    return outcome_of(agon_runtime_open(&rt, victim.sandbox, path, tools, out_fresh(), &victim.err),
                      ITEM_REJECTED);
}

enum outcome victim_tool(bool writes, struct agon_str code)
{
    char head[400];
    snprintf(head, sizeof(head),
             "tool{ name='attack', description='d', writes=%s, params=[[{\"type\":\"object\"}]], "
             "returns=[[{\"type\":\"string\"}]], run=function(world, a) local tostring = tostring "
             "return tostring((function() ",
             writes ? "true" : "false");
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = around(head, code, "\nend)()) end }\n");
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    int r = agon_runtime_open(&rt, victim.sandbox, victim.world, agon_buf_str(&text), out_fresh(),
                              &victim.err);
    if (r)
        return outcome_of(r, ITEM_REJECTED);
    if (!(r = agon_instance_new(&in, rt, &victim.err)))
        r = agon_instance_call(in, "attack", agon_str("{}"), out_fresh(), &victim.err);
    return outcome_of(r, TOOL_ERROR);
}

static enum outcome solve(const char *head, struct agon_str code, const char *tail)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = around(head, code, tail);
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    int r =
        agon_runtime_solve(victim.rt, agon_buf_str(&text), NULL, &solved, out_fresh(), &victim.err);
    enum outcome o = outcome_of(r, ITEM_REJECTED);
    if (!r) {
        char *answer = json_dumps(solved.answer, JSON_ENCODE_ANY);
        say(answer);
        free(answer);
    }
    return o;
}

enum outcome victim_solution(struct agon_str code)
{
    return solve("return function(tools) local tostring = tostring return tostring((function() ",
                 code, "\nend)()) end");
}

enum outcome victim_answer(struct agon_str code)
{
    return solve("return function(tools) ", code, "\nend");
}

enum outcome victim_check(struct agon_str code)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = around(
        "check{ name='attack', text='t', run=function(world, answer, changes) ", code, "\nend }");
    struct agon_task task = {.verifier = (char *)(uintptr_t)agon_buf_text(&text)}; /* borrowed */
    struct agon_verdict v = {0};
    int r = agon_verdict(victim.rt, &task, agon_str("1"), NULL, &v, out_fresh(), &victim.err);
    enum outcome o = outcome_of(r, ITEM_REJECTED);
    if (!r)
        say(v.pass                                  ? "pass"
            : v.n_checks == 1 && v.checks[0].reason ? v.checks[0].reason
            : v.unclaimed                           ? v.unclaimed
                                                    : "fail");
    agon_verdict_deinit(&v);
    return o;
}

void victim_expect_lua(struct agon_str code, enum outcome wanted, const char *part)
{
    EXPECT_OUTCOME(victim_tool(false, code), wanted, victim_said, part);
    EXPECT_OUTCOME(victim_solution(code), wanted == TOOL_ERROR ? ITEM_REJECTED : wanted,
                   victim_said, part);
    if (wanted != CONTAINED) /* what a tool may return, a check need not */
        EXPECT_OUTCOME(victim_check(code), wanted == TOOL_ERROR ? CONTAINED : wanted, victim_said,
                       part);
}

void victim_expect_sql(const char *tool, const char *sql, enum outcome wanted, const char *part)
{
    char first[sizeof(victim_said)];
    EXPECT_OUTCOME(victim_sql(tool, sql), wanted, victim_said, part);
    memcpy(first, victim_said, sizeof(first));
    victim_reset();
    EXPECT_OUTCOME(victim_sql(tool, sql), wanted, victim_said, part);
    EXPECT_TEXT(victim_said, first);
}
