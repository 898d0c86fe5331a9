/*
 * Hostile SQL and hostile arguments in a real cell (spec of attacks, D and F): each
 * ends in one sentence, and the world is as it was.
 */
#include "tests/envs/open.h"
#include "tests/test.h"

#include "base/json.h"
#include "base/rng.h"
#include "envs/state.h"
#include "envs/world.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <time.h>

/* What no single call may take; sanitizers take their time. */
#ifdef UNBOXED
enum { SECONDS_MAX = 30 };
#else
enum { SECONDS_MAX = 5 };
#endif

/* Tools that run whatever SQL they are given: what a careless author might write. */
static const char open_tools[] =
    "local any = [[{\"type\":\"array\",\"items\":{\"type\":\"object\"}}]]\n"
    "local sql = "
    "[[{\"type\":\"object\",\"properties\":{\"sql\":{\"type\":\"string\"}},\"required\":[\"sql\"]}]"
    "]\n"
    "tool{ name='q', description='read', params=sql, returns=any, run=function(world, a) return "
    "world:rows(a.sql) end }\n"
    "tool{ name='x', description='write', writes=true, params=sql, "
    "returns=[[{\"type\":\"integer\"}]],"
    " run=function(world, a) return world:exec(a.sql) end }\n"
    "tool{ name='caught', description='write and catch', writes=true, params=sql, "
    "returns=[[{\"type\":\"string\"}]],"
    " run=function(world, a) local ok, why = pcall(world.exec, world, a.sql) return tostring(why) "
    "end }\n"
    "tool{ name='bound', description='bind', "
    "params=[[{\"type\":\"object\",\"properties\":{\"v\":{\"anyOf\":[{\"type\":\"string\"},"
    "{\"type\":\"number\"},{\"type\":\"null\"},{\"type\":\"boolean\"}]}},\"required\":[\"v\"]}]], "
    "returns=any,"
    " run=function(world, a) return world:rows('SELECT ? AS v', a.v) end }\n"
    "tool{ name='find', description='by name', "
    "params=[[{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\"},"
    "\"most\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9,\"default\":3}},\"required\":["
    "\"name\"]}]], returns=any,"
    " run=function(world, a) return world:rows('SELECT id FROM hotel WHERE name = ? LIMIT ?', "
    "a.name, a.most) end }\n";

static char *request(const char *key, const char *text)
{
    json_auto_t *value = json_pack("{s:s}", key, text);
    return json_dumps(value, 0);
}

/* The tool's error for this SQL; fails the case where it is none. */
static const char *refusal(struct open_env *o, const char *tool, const char *sql)
{
    char *arguments = request("sql", sql);
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    int r = agon_instance_call(o->in, tool, agon_str(arguments), &o->out, &o->err);
    clock_gettime(CLOCK_MONOTONIC, &to);
    free(arguments);
    double seconds = (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9;
    if (!EXPECT(r == AGON_TOOL_ERROR) || !EXPECT(seconds < SECONDS_MAX))
        printf("# %.60s: %d in %.1f s: %.300s\n", sql, r, seconds,
               r < 0 ? o->err.text : agon_buf_text(&o->out));
    return agon_buf_text(&o->out);
}

static void expect_untouched(struct open_env *o)
{
    json_t *rows = NULL;
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    EXPECT(agon_instance_sql(
               o->in,
               agon_str(
                   "SELECT (SELECT count(*) FROM hotel) AS h, (SELECT count(*) FROM booking) AS b,"
                   " (SELECT sum(stars) FROM hotel) AS s"),
               &rows, &reason, &o->err) == 0);
    char *text = json_dumps(rows, 0);
    EXPECT_TEXT(text, "[{\"h\": 3, \"b\": 0, \"s\": 7}]");
    free(text);
    json_decref(rows);
}

TEST(endless_statements_end_and_a_lost_transaction_is_made_again)
{
    static const char endless[] = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
                                  "SELECT count(*) AS c FROM n";
    static const char endless_write[] = "INSERT INTO booking (hotel_id, guest, nights) WITH "
                                        "RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
                                        " SELECT 1, 'x', i FROM n";
    START(o, open_tools);
    EXPECT_HAS(refusal(&o, "q", endless), "operations in one statement");
    EXPECT_HAS(refusal(&o, "q",
                       "SELECT count(*) AS c FROM hotel a, hotel b, hotel c, hotel d, hotel e, "
                       "hotel f, hotel g,"
                       " hotel h, hotel i, hotel j, hotel k, hotel l, hotel m"),
               "operations in one statement");
    expect_call(&o, o.in, "x", "{\"sql\": \"INSERT INTO booking VALUES (7, 1, 'Li', 2)\"}", 0, "1");
    EXPECT_HAS(refusal(&o, "x", endless_write), "");
    EXPECT_HAS(refusal(&o, "caught", endless_write), "");
    expect_call(&o, o.in, "q", "{\"sql\": \"SELECT id, guest FROM booking\"}", 0,
                "[{\"id\": 7, \"guest\": \"Li\"}]");
    EXPECT_HAS(refusal(&o, "x",
                       "UPDATE hotel SET name = name || (WITH RECURSIVE n(i) AS (SELECT 1 UNION "
                       "ALL SELECT i + 1"
                       " FROM n WHERE i < 100000) SELECT count(*) FROM n)"),
               "operations in one statement");
    expect_call(&o, o.in, "q", "{\"sql\": \"SELECT id, guest FROM booking\"}", 0,
                "[{\"id\": 7, \"guest\": \"Li\"}]");
    EXPECT(json_array_size(agon_instance_writes(o.in)) == 1);
}

TEST(a_conflict_that_rolls_everything_back_takes_no_earlier_write_with_it)
{
    START(o, open_tools);
    static const char conflict[] =
        "INSERT OR ROLLBACK INTO hotel (id, name, city) VALUES (9, 'Corso', 'Rom')";
    expect_call(&o, o.in, "x", "{\"sql\": \"INSERT INTO booking VALUES (7, 1, 'Li', 2)\"}", 0, "1");
    EXPECT_HAS(refusal(&o, "x", conflict), "UNIQUE constraint failed");
    EXPECT_HAS(refusal(&o, "caught", conflict), "rolled back");
    expect_call(&o, o.in, "q", "{\"sql\": \"SELECT id, guest FROM booking\"}", 0,
                "[{\"id\": 7, \"guest\": \"Li\"}]");
}

/*
 * D7: a call whose transaction SQLite rolls back as a whole is a tool error, and the state is made
 * again from the list of calls: wherever it happens in a run, the world, the changes, and what
 * every later call says are what they are without it.
 */
TEST(D7_a_call_that_loses_the_transaction_might_as_well_not_have_been)
{
    static const char twice[] =
        "INSERT OR ROLLBACK INTO booking SELECT id + 50, id, 'many', 1 FROM "
        "hotel UNION ALL SELECT 51, 1, 'twice', 1";
    static const char *const lost[] = {
        "INSERT OR ROLLBACK INTO hotel (id, name, city) VALUES (9, 'Corso', 'Rom')",
        "UPDATE OR ROLLBACK hotel SET id = 1",
        twice,
    };
    START(o, open_tools);
    struct agon_rng rng;
    agon_rng_init(&rng, 7);
    int n_lost = 0;
    for (int round = 0; round < 12; round++) {
        struct agon_instance *plain AGON_AUTO(agon_instance_freep) = NULL;
        struct agon_instance *thrown AGON_AUTO(agon_instance_freep) = NULL;
        REQUIRE(agon_instance_new(&plain, o.rt, &o.err) == 0);
        REQUIRE(agon_instance_new(&thrown, o.rt, &o.err) == 0);
        for (int i = 0; i < 12; i++) {
            char sql[200], said[200];
            struct agon_instance *kept = o.in;
            o.in = thrown;
            for (unsigned k = agon_rng_below(&rng, 3); k > 0; k--, n_lost++)
                (void)refusal(&o, agon_rng_below(&rng, 2) ? "x" : "caught",
                              lost[agon_rng_below(&rng, 3)]);
            o.in = kept;
            switch (agon_rng_below(&rng, 3)) {
            case 0:
                snprintf(sql, sizeof(sql), "INSERT INTO booking VALUES (%d, 1, 'g%d', 2)", i, i);
                break;
            case 1:
                snprintf(sql, sizeof(sql), "UPDATE hotel SET stars = (stars + %d) %% 6", i);
                break;
            default: snprintf(sql, sizeof(sql), "DELETE FROM booking WHERE id < %d", i / 2);
            }
            char *arguments = request("sql", sql);
            REQUIRE(agon_instance_call(plain, "x", agon_str(arguments), &o.out, &o.err) == 0);
            snprintf(said, sizeof(said), "%s", agon_buf_text(&o.out));
            expect_call(&o, thrown, "x", arguments, 0, said);
            free(arguments);
        }
        char hashes[2][AGON_STATE_HEX];
        const json_t *from = agon_instance_writes(plain), *to = agon_instance_writes(thrown);
        EXPECT(json_array_size(from) > 4 && json_equal(from, to));
        EXPECT(agon_state_hash(o.rt, from, hashes[0], &o.out, &o.err) == 0);
        EXPECT(agon_state_hash(o.rt, to, hashes[1], &o.out, &o.err) == 0);
        EXPECT_TEXT(hashes[1], hashes[0]);
        static const char all[] =
            "{\"sql\": \"SELECT (SELECT group_concat(id || guest || nights) FROM "
            "booking) AS b, (SELECT group_concat(id || stars) FROM hotel) AS h\"}";
        char said[2000];
        REQUIRE(agon_instance_call(plain, "q", agon_str(all), &o.out, &o.err) == 0);
        snprintf(said, sizeof(said), "%s", agon_buf_text(&o.out));
        expect_call(&o, thrown, "q", all, 0, said);
    }
    EXPECT(n_lost > 50);
}

/* A solution that loses its transaction again and again ends, in the same way each time. */
TEST(a_run_has_one_budget_however_often_it_is_thrown_back)
{
    START(o, open_tools);
    static const char solution[] =
        "return function(tools)\n"
        "  for i = 1, 20 do tools.x{sql = \"INSERT INTO booking VALUES (\" .. i .. \", 1, 'Li', "
        "2)\"} end\n"
        "  local failed = 0\n"
        "  for i = 1, 1000 do\n"
        "    local ok = pcall(tools.x, {sql = \"INSERT INTO booking (hotel_id, guest, nights) WITH "
        "RECURSIVE n(i) AS\"\n"
        "      .. \" (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT 1, 'x', i FROM n\"})\n"
        "    if not ok then failed = failed + 1 end\n"
        "  end\n"
        "  return {failed, #tools.q{sql = 'SELECT id FROM booking'}}\n"
        "end\n";
    char first[300] = "";
    for (int i = 0; i < 2; i++) {
        struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
        struct timespec from, to;
        clock_gettime(CLOCK_MONOTONIC, &from);
        int r = agon_runtime_solve(o.rt, agon_str(solution), NULL, &solved, &o.out, &o.err);
        clock_gettime(CLOCK_MONOTONIC, &to);
        char *answer = solved.answer ? json_dumps(solved.answer, 0) : strdup(agon_buf_text(&o.out));
        printf("# %d %.200s after %ld s\n", r, r < 0 ? o.err.text : answer,
               (long)(to.tv_sec - from.tv_sec));
        EXPECT(r >= 0 && to.tv_sec - from.tv_sec < 4 * SECONDS_MAX);
        if (i)
            EXPECT_TEXT(answer, first);
        snprintf(first, sizeof(first), "%s", answer);
        free(answer);
        agon_runtime_renew(o.rt);
    }
}

/* What a solution used, in fuel and operations; its answer must be this. */
static struct agon_usage usage_of(struct open_env *o, const char *solution, const char *answer)
{
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    int r = agon_runtime_solve(o->rt, agon_str(solution), NULL, &solved, &o->out, &o->err);
    char *text = solved.answer ? json_dumps(solved.answer, JSON_ENCODE_ANY) : NULL;
    if (!EXPECT(r == 0 && text))
        printf("# %d %s\n", r, r < 0 ? o->err.text : agon_buf_text(&o->out));
    else
        EXPECT_TEXT(text, answer);
    free(text);
    return solved.usage;
}

/* Making the state again costs nothing and gives nothing back. */
TEST(a_run_pays_for_what_it_did_before_it_was_thrown_back)
{
    START(o, open_tools);
    static const char plain[] =
        "return function(tools)\n"
        "  tools.x{sql = \"INSERT INTO booking VALUES (1, 1, 'Li', 2)\"}\n"
        "  for i = 1, 20 do tools.q{sql = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 "
        "FROM n LIMIT 9000) SELECT count(*) AS c FROM n -- ' .. i} end\n"
        "  local ok = %s\n"
        "  return #tools.q{sql = 'SELECT id FROM booking'}\n"
        "end\n";
    char whole[1000], thrown[1000];
    snprintf(whole, sizeof(whole), plain, "true");
    snprintf(thrown, sizeof(thrown), plain,
             "pcall(tools.x, {sql = \"INSERT OR ROLLBACK INTO hotel (id, name, city) VALUES (9, "
             "'Corso', 'Rom')\"})");
    struct agon_usage a = usage_of(&o, whole, "1"), b = usage_of(&o, thrown, "1");
    printf("# %lld fuel and %lld operations, thrown back %lld and %lld\n", (long long)a.fuel,
           (long long)a.ops, (long long)b.fuel, (long long)b.ops);
    EXPECT(a.ops > 2000000 && b.ops >= a.ops && b.fuel >= a.fuel);
}

/* For all calls together, however many of them end at the limit of one. */
TEST(the_tools_of_a_run_have_one_budget)
{
    static const char burning[] =
        "tool{ name='burn', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"integer\"}]], run=function() while true do end end }\n";
    START(o, burning);
    struct agon_usage u = usage_of(
        &o, "return function(tools) for i = 1, 15 do pcall(tools.burn, {}) end return 1 end", "1");
    printf("# %lld fuel, %d per mille of a limit\n", (long long)u.fuel, u.share);
    EXPECT(u.fuel >= 20000000 && u.fuel < 21000000 && u.share >= 1000);
}

/* Operations of SQL, too: statements that each stay within what one may take, until all have. */
TEST(the_statements_of_a_run_have_one_budget)
{
    START(o, open_tools);
    struct agon_usage u = usage_of(
        &o,
        "return function(tools)\n"
        "  local done, why = 0, 'none ended'\n"
        "  for i = 1, 120 do\n"
        "    local ok, said = pcall(tools.q, {sql = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
        "SELECT i + 1 FROM n LIMIT 12000) SELECT count(*) AS c FROM n -- ' .. i})\n"
        "    if ok then done = done + 1 else why = said:match('operations in [a-z ]+') end\n"
        "  end\n"
        "  return (done > 40 and done < 80) and why or done\n"
        "end\n",
        "\"operations in all\"");
    int64_t most = (int64_t)AGON_WORLD_OPS_RUN * (AGON_WORLD_OPS + 3 * AGON_WORLD_OPS_ROW);
    printf("# %lld operations of %lld\n", (long long)u.ops, (long long)most);
    EXPECT(u.ops > most - 200000 && u.ops < most + 300000 && u.share >= 1000);
}

static char *repeat(const char *text, int n, const char *end)
{
    struct agon_buf b = AGON_BUF(8 << 20);
    for (int i = 0; i < n; i++)
        agon_buf_adds(&b, text);
    agon_buf_adds(&b, end);
    return agon_buf_steal(&b);
}

TEST(functions_over_long_texts_take_no_longer_than_their_size)
{
    START(o, open_tools);
    static const char big[] =
        "(SELECT replace(hex(s), '61', 'a') AS b FROM (WITH RECURSIVE n(i, s) AS (SELECT 1, "
        "'aaaaaaaaaaaaaaaa' UNION ALL"
        " SELECT i + 1, s || s FROM n WHERE i < 15) SELECT s FROM n ORDER BY i DESC LIMIT 1))";
    static const char *const cases[][2] = {
        {"SELECT instr(b, substr(b, 1, 100000) || 'x') AS n FROM ", "[{\"n\": 0}]"},
        {"SELECT length(replace(b, substr(b, 1, 100000) || 'x', '')) AS n FROM ",
         "[{\"n\": 262144}]"},
        {"SELECT length(trim(b, 'xyza')) AS n FROM ", "[{\"n\": 0}]"},
        {"SELECT b LIKE '%a%a%a%a%a%a%a%a%a%a%a%a%a%x' AS n FROM ", "[{\"n\": 0}]"},
    };
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char sql[600];
        snprintf(sql, sizeof(sql), "%s%s", cases[i][0], big);
        char *arguments = request("sql", sql);
        expect_call(&o, o.in, "q", arguments, 0, cases[i][1]);
        free(arguments);
    }
    clock_gettime(CLOCK_MONOTONIC, &to);
    EXPECT(to.tv_sec - from.tv_sec < SECONDS_MAX);
    EXPECT_HAS(refusal(&o, "q",
                       "SELECT trim('a', "
                       "hex('012345678901234567890123456789012345678901234567890123456789')) AS t"),
               "over 100 bytes");
}

/* Our own instr, replace and trim give what SQLite's give. */
TEST(text_functions_are_those_of_sqlite)
{
    static const char *const cases[] = {
        "instr('abcabc', 'ca')",
        "instr('äöü', 'ü')",
        "instr('abc', '')",
        "instr('', 'a')",
        "instr(NULL, 'a')",
        "instr(12345, 34)",
        "instr(x'c3a9a9', x'a9')",
        "instr(x'a9a9aa', x'aa')",
        "instr(x'0041', 'A')",
        "instr('é', 'é')",
        "substr('abc', 9223372036854775807)",
        "substr('abc', -9223372036854775807 - 1)",
        "substr('abc', -2147483648)",
        "substr('abc', -1000000000)",
        "substr('abc', 2, -2147483648)",
        "substr('abc', 2147483647, 2147483647)",
        "substr('abc', -2, 2147483647)",
        "replace('aaa', 'aa', 'b')",
        "replace('abc', '', 'x')",
        "replace('äbä', 'ä', 'oe')",
        "replace(121, 2, 'x')",
        "replace('abc', 'b', NULL)",
        "replace('abc', 'c', '')",
        "trim('  a b ')",
        "ltrim('  a ') || '.'",
        "rtrim('  a ') || '.'",
        "trim('äxä', 'ä')",
        "trim('xyabyx', 'xy')",
        "trim('aaa', 'a') || '.'",
        "trim(' a', '')",
        "trim(NULL)",
        "trim(101, 1)",
    };
    START(o, open_tools);
    sqlite3 *db = NULL;
    REQUIRE(sqlite3_open(":memory:", &db) == SQLITE_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char sql[200];
        sqlite3_stmt *q = NULL;
        snprintf(sql, sizeof(sql), "SELECT typeof(%s) || ':' || coalesce(%s, 'NULL') AS v",
                 cases[i], cases[i]);
        REQUIRE(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW);
        json_t *rows = NULL;
        REQUIRE(agon_instance_sql(o.in, agon_str(sql), &rows, &o.out, &o.err) == 0);
        EXPECT_TEXT(agon_json_text(json_array_get(rows, 0), "v", "?"),
                    (const char *)sqlite3_column_text(q, 0));
        json_decref(rows);
        sqlite3_finalize(q);
    }
    sqlite3_close(db);
}

/* And so do like, glob and substr, on random texts. */
TEST(patterns_and_parts_are_those_of_sqlite)
{
    static const char *const bits[] = {"a",    "B",    "b",    "ä", "%", "_", "*",
                                       "?",    "[ab]", "[^b]", "-", "x", "A", "[a-c]",
                                       "[]b]", "[",    "\\",   "é", "]", "^"};
    START(o, open_tools);
    struct agon_rng rng;
    sqlite3 *db = NULL;
    agon_rng_init(&rng, 3);
    REQUIRE(sqlite3_open(":memory:", &db) == SQLITE_OK);
    for (int i = 0; i < 1500 && test_failures == 0; i++) {
        char text[64] = "", pattern[64] = "", sql[600];
        for (uint32_t n = agon_rng_below(&rng, 8); n > 0; n--)
            strcat(text, bits[agon_rng_below(&rng, i % 2 ? 4 : 20)]);
        for (uint32_t n = agon_rng_below(&rng, 7); n > 0; n--)
            strcat(pattern, bits[agon_rng_below(&rng, 20)]);
        int from = (int)agon_rng_below(&rng, 20) - 10, count = (int)agon_rng_below(&rng, 20) - 10;
        snprintf(sql, sizeof(sql),
                 "SELECT ('%s' LIKE '%s') || ('%s' GLOB '%s') || ('%s' LIKE '%s' ESCAPE '\\') || "
                 "'.' || substr('%s', %d, %d) || '.' || substr('%s', %d) || '.' || "
                 "hex(substr(x'010203', %d, %d)) AS v",
                 text, pattern, text, pattern, text, pattern, text, from, count, text, from, from,
                 count);
        sqlite3_stmt *q = NULL;
        json_t *rows = NULL;
        REQUIRE(sqlite3_prepare_v2(db, sql, -1, &q, NULL) == SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW);
        REQUIRE(agon_instance_sql(o.in, agon_str(sql), &rows, &o.out, &o.err) == 0);
        if (!EXPECT_TEXT(agon_json_text(json_array_get(rows, 0), "v", "?"),
                         (const char *)sqlite3_column_text(q, 0)))
            printf("# %s\n", sql);
        json_decref(rows);
        sqlite3_finalize(q);
    }
    sqlite3_close(db);
}

/* SQLite would read the first half of it, and all else that looks at a statement the whole. */
TEST(a_statement_that_holds_a_nul_is_refused)
{
    static const char hidden[] =
        "tool{ name='hidden', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"string\"}]], run=function(world)\n"
        "  local ok, said = pcall(world.rows, world, 'SELECT 1 AS a\\0, id FROM hotel')\n"
        "  return ok and 'it ran' or said\n"
        "end }\n";
    START(o, hidden);
    EXPECT(agon_instance_call(o.in, "hidden", agon_str("{}"), &o.out, &o.err) == 0);
    EXPECT_HAS(agon_buf_text(&o.out), "NUL character");
}

/* Each limit by itself: what it forbids is small, so that no other limit is met first. */
TEST(each_limit_of_a_statement_holds_by_itself)
{
    static const struct {
        const char *start, *unit;
        int n;
        const char *end, *said;
    } cases[] = {
        {"SELECT 1 AS a /*", "xxxxxxxxxxxxxxxx", 4096, "*/", "too big"},
        {"SELECT 1 AS z", "", 0, "", NULL},
        {"SELECT 1 WHERE 1 IN (1", ", 1", 300, ")", NULL},
        {"SELECT 1", " + 1", 110, " AS a", "maximum depth 100"},
        {"SELECT 1", " + 1", 98, " AS a", NULL},
        {"SELECT 1 AS a", " UNION ALL SELECT 1", 30, "", "too many terms in compound SELECT"},
        {"SELECT 1 AS a", " UNION ALL SELECT 1", 29, "", NULL},
        {"SELECT 'a' LIKE '", "a", 101, "' AS a", "pattern too complex"},
        {"SELECT 'a' LIKE '", "a", 100, "' AS a", NULL},
        {"SELECT 1 AS a WHERE 1 IN (?", ", ?", 250, ")", "too many SQL variables"},
        {"SELECT max(1", ", 1", 32, ") AS a", "too many arguments on function max"},
        {"SELECT max(1", ", 1", 31, ") AS a", NULL},
    };
    START(o, open_tools);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        agon_buf_adds(&sql, cases[i].start);
        for (int k = 0; k < cases[i].n; k++)
            agon_buf_adds(&sql, cases[i].unit);
        agon_buf_adds(&sql, cases[i].end);
        if (cases[i].said) {
            EXPECT_HAS(refusal(&o, "q", agon_buf_text(&sql)), cases[i].said);
            continue;
        }
        char *arguments = request("sql", agon_buf_text(&sql));
        if (!EXPECT(agon_instance_call(o.in, "q", agon_str(arguments), &o.out, &o.err) == 0))
            printf("# %.60s: %s\n", agon_buf_text(&sql), agon_buf_text(&o.out));
        free(arguments);
    }
    struct agon_buf columns AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_buf_adds(&columns, "SELECT 0 AS c0");
    for (int k = 1; k < 257; k++)
        agon_buf_addf(&columns, ", %d AS c%d", k, k);
    EXPECT_HAS(refusal(&o, "q", agon_buf_text(&columns)), "too many columns");
}

TEST(the_clock_stands_still_and_numbers_stay_json)
{
    START(o, open_tools);
    expect_call(&o, o.in, "q",
                "{\"sql\": \"SELECT datetime('now') AS a, CURRENT_TIMESTAMP AS b, date('now', '+1 "
                "day') AS c\"}",
                0,
                "[{\"a\": \"2025-01-01 00:00:00\", \"b\": \"2025-01-01 00:00:00\", \"c\": "
                "\"2025-01-02\"}]");
    expect_call(&o, o.in, "q",
                "{\"sql\": \"SELECT 0.0 / 0.0 AS nan, 9223372036854775807 + 1 AS big, 7 / 2 AS i, "
                "7 / 2.0 AS r\"}",
                0, "[{\"nan\": null, \"big\": 9.223372036854776e+18, \"i\": 3, \"r\": 3.5}]");
    EXPECT_HAS(refusal(&o, "q", "SELECT 1e400 AS inf"), "infinite");
    EXPECT_HAS(refusal(&o, "q", "SELECT x'00ff' AS b"), "BLOB");
    EXPECT_HAS(refusal(&o, "q", "SELECT CAST(x'c328' AS TEXT) AS b"), "not valid UTF-8");
    EXPECT_HAS(refusal(&o, "q", "SELECT 'a' || char(0) AS b"), "NUL");
}

/* After the largest number SQLite draws one by lot: the same one each time, whatever came before.
 */
TEST(a_drawn_row_number_is_the_same_every_time)
{
    char ids[4][256];
    for (int i = 0; i < 4; i++) {
        START(o, open_tools);
        for (int n = 0; n <= i / 2; n++) {
            EXPECT(agon_instance_call(o.in, "x", agon_str("{\"sql\": \"DELETE FROM booking\"}"),
                                      &o.out, &o.err) == 0);
            expect_call(&o, o.in, "x",
                        "{\"sql\": \"INSERT INTO booking VALUES (9223372036854775807, 1, 'x', 1), "
                        "(NULL, 1, 'y', 1)\"}",
                        0, "2");
        }
        char *sql = request("sql", "SELECT id FROM booking ORDER BY id");
        EXPECT(agon_instance_call(o.in, "q", agon_str(sql), &o.out, &o.err) == 0);
        free(sql);
        snprintf(ids[i], sizeof(ids[i]), "%s", agon_buf_text(&o.out));
        if (!EXPECT(strcmp(ids[i & 2], ids[i]) == 0))
            printf("# %s, %s\n", ids[i & 2], ids[i]);
    }
}

TEST(people_see_the_schema_and_tools_do_not)
{
    START(o, open_tools);
    json_t *rows = NULL;
    EXPECT(agon_instance_sql(
               o.in,
               agon_str("SELECT i.name AS c FROM sqlite_schema m, pragma_table_info(m.name) i"
                        " WHERE m.name = 'booking'"),
               &rows, &o.out, &o.err) == 0);
    EXPECT(json_array_size(rows) == 4);
    json_decref(rows);
    EXPECT(agon_instance_sql(o.in, agon_str("DELETE FROM hotel"), &rows, &o.out, &o.err) ==
           AGON_REJECTED);
    expect_call(&o, o.in, "q",
                "{\"sql\": \"SELECT id FROM hotel WHERE id IN (SELECT value FROM json_each('[1, "
                "3]')) ORDER BY id\"}",
                0, "[{\"id\": 1}, {\"id\": 3}]");
    expect_call(&o, o.in, "q",
                "{\"sql\": \"WITH a AS (SELECT id FROM hotel) SELECT count(*) AS n FROM a\"}", 0,
                "[{\"n\": 3}]");
    expect_untouched(&o);
}

TEST(parameters_are_bound_and_never_become_sql)
{
    START(o, open_tools);
    expect_call(&o, o.in, "find", "{\"name\": \"' OR 1=1 --\"}", 0, "[]");
    expect_call(&o, o.in, "find", "{\"name\": \"x'; DROP TABLE hotel; --\"}", 0, "[]");
    expect_call(&o, o.in, "find", "{\"name\": \"Béla\"}", 0, "[{\"id\": 2}]");
    expect_call(&o, o.in, "bound", "{\"v\": null}", 0, "[{\"v\": null}]");
    expect_call(&o, o.in, "bound", "{\"v\": true}", 0, "[{\"v\": 1}]");
    expect_call(&o, o.in, "bound", "{\"v\": 2.0}", 0, "[{\"v\": 2.0}]");
    expect_call(&o, o.in, "bound", "{\"v\": \"\\u00fc\\n\\\"\\ud83d\\ude00\"}", 0,
                "[{\"v\": \"ü\\n\\\"😀\"}]");
    expect_untouched(&o);
}

TEST(arguments_that_do_not_fit_are_told_so)
{
    static const char *const cases[][3] = {
        {"find", "{\"name\": 3}", "arguments.name: expected string, got integer 3"},
        {"find", "{}", "arguments: property 'name' is missing"},
        {"find", "{\"name\": \"a\", \"nmae\": 1}",
         "arguments: unknown property 'nmae' (known: name, most)"},
        {"find", "{\"name\": {\"a\": 1}}", "arguments.name: expected string, got object"},
        {"find", "{\"name\": \"a\", \"most\": 10}",
         "arguments.most: expected at most 9, got integer 10"},
        {"find", "{\"name\": \"a\", \"most\": 2.0}",
         "arguments.most: expected integer, got number 2.0"},
        {"find", "[1]", "arguments: expected object, got array"},
        {"find", "{\"name\": \"a\"", "arguments: not JSON at byte 13: expected ',' or '}'"},
        {"find", "{\"name\": \"a\", \"name\": \"b\"}",
         "arguments: not JSON at byte 21: a key stands twice"},
        {"find", "{\"name\": NaN}", "arguments: not JSON at byte 10: unexpected character"},
        {"find", "{\"name\": \"\\ud800\"}", "arguments: not JSON at byte 17: a lone surrogate"},
        {"find", "{\"name\": \"a\\u0000\"}",
         "arguments: not JSON at byte 18: a string holds a NUL character"},
        {"find", "{\"name\": \"\xc3\x28\"}", "arguments: not JSON at byte 1: not valid UTF-8"},
        {"find", "{\"name\": 9223372036854775808}",
         "arguments: not JSON at byte 10: an integer does not fit 64 bits"},
        {"find", "{\"name\": 1e999}", "arguments: not JSON at byte 10: a number is out of range"},
        {"../find", "{}", "no tool '../find'; there are: q, x, caught, bound, find"},
        {"__index", "{}", "no tool '__index'; there are: q, x, caught, bound, find"},
        {"fіnd", "{}", "no tool 'fіnd'; there are: q, x, caught, bound, find"},
    };
    START(o, open_tools);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        expect_call(&o, o.in, cases[i][0], cases[i][1], AGON_TOOL_ERROR, cases[i][2]);
    char *deep = repeat("[", 100000, "");
    EXPECT(agon_instance_call(o.in, "find", agon_str(deep), &o.out, &o.err) == AGON_TOOL_ERROR);
    EXPECT_HAS(agon_buf_text(&o.out), "nested over 32 deep");
    free(deep);
    expect_untouched(&o);
}
