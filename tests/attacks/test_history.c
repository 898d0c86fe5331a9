/*
 * What a cell remembers (statements, rows and calls: envs/memo.h, recall.h) and what lies beside
 * the rows of a world: nothing that a tool or a check did before, for this rollout or another one,
 * shows in what comes after.
 */
#include "envs/world_memory.h"
#include "tests/attacks/battery.h"
#include "tests/envs/local.h"

#include <stdio.h>
#include <stdlib.h>

static const char world_sql[] =
    "CREATE TABLE booking (id INTEGER PRIMARY KEY, guest TEXT NOT NULL) STRICT;"
    "CREATE TABLE said (id INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT;"
    "CREATE TABLE line (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER UNIQUE) STRICT;"
    "INSERT INTO booking VALUES (1, 'Ada'), (2, 'Bo');"
    "INSERT INTO line VALUES (1, 10), (2, 20);";

#define TOOL(name, writes, body)                                                    \
    "tool{ name='" name "', description='d', writes=" writes                        \
    ", params=[[{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}," \
    "\"sql\":{\"type\":\"string\"}}}]], "                                           \
    "returns=[[{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}]], "      \
    "run=function(world, a) " body " end }\n"

/* clang-format off */
static const char tools[] =
    TOOL("ask", "false", "return world:value(a.sql) or 'nothing'")
    TOOL("book", "true", "return world:exec('INSERT INTO booking VALUES (?, ?)', a.x, 'Cy')")
    TOOL("again", "true", "return world:exec('INSERT OR IGNORE INTO line (n) VALUES (?)', a.x)")
    TOOL("line", "true", "world:exec('INSERT INTO line (n) VALUES (?)', a.x) "
         "return world:value('SELECT max(id) FROM line')")
    TOOL("few", "false", "for i = 1, a.x do world:value('SELECT ' .. i) end return a.x")
    TOOL("wide", "false", "local name = ('n'):rep(60000) for i = 1, a.x or 400 do "
         "local ok, why = pcall(world.value, world, 'SELECT ' .. i .. ' AS ' .. name) "
         "if not ok then return i .. ' ' .. why end end return 0")
    "tool{ name='say', description='d', writes=true, params=[[{\"type\":\"object\",\"properties\":{\"i\":{\"type\":\"integer\"},"
    "\"n\":{\"type\":\"number\"},\"e\":{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"number\"},{\"type\":\"string\"},{\"type\":\"null\"}]},"
    "\"l\":{\"type\":\"array\"},\"o\":{\"type\":\"object\",\"additionalProperties\":true},\"s\":{\"type\":\"string\"},"
    "\"d\":{\"type\":\"number\",\"default\":1e2}}}]], returns=[[{\"type\":\"string\"}]], run=function(world, a)\n"
    "local function show(v) if type(v) ~= 'table' then return (math.type(v) or type(v)) .. ':' .. (v == null and 'null' or tostring(v)) end\n"
    "local t = {'#' .. #v} for k, x in pairs(v) do t[#t + 1] = tostring(k) .. '=' .. show(x) end return '{' .. table.concat(t, ' ') .. '}' end\n"
    "local what = show(a) world:exec('INSERT INTO said (what) VALUES (?)', what) return what end }\n"
    TOOL("heavy", "false", "local t = {} for i = 1, 250 do t[i] = ('abs('):rep(12) .. 'id' .. (')'):rep(12) .. (' + id'):rep(30) .. ' AS c' .. i end "
         "local list = table.concat(t, ', ') for i = a.x, a.x + (a.sql and 2 or 30) do "
         "world:rows('SELECT ' .. i .. ' AS n, ' .. list .. ' FROM booking') end return a.x");
/* clang-format on */

static bool opened(struct local *l)
{
    agon_world_memory_use(); /* as in a cell; the first time */
    const char *said = "";
    local_init(l);
    int r = local_open(l, world_sql, tools, &said);
    if (r)
        printf("# %d %s\n", r, said);
    return EXPECT(r == 0 && agon_session_reset(l->cell, &l->err) == 0);
}

#define OPEN(l)                                   \
    struct local l AGON_AUTO(local_deinit) = {0}; \
    REQUIRE(opened(&l))

/* What the call says, good or not; stands until the next one. */
static const char *call(struct local *l, const char *tool, const char *arguments)
{
    agon_session_budgets(l->cell);
    EXPECT(agon_session_call(l->cell, agon_str(tool), agon_str(arguments), &l->err) >= 0);
    return agon_buf_text(&l->cell->result);
}

/* Without a column of its own a table is announced as it is written, and not as it is named. */
ATTACK(X200_a_table_written_otherwise_is_read_anew)
{
    static const char *const sql[] = {
        "SELECT count(*) FROM BOOKING",
        "SELECT count(*) FROM \\\"Booking\\\"",
        "SELECT count(*) FROM main.bOOKING AS x",
        "SELECT count(*) FROM (SELECT 1 FROM BOOKING)",
        "SELECT sum(n) FROM (SELECT 1 AS n FROM BOOKING UNION ALL SELECT 1 FROM BOOKING)",
        "SELECT EXISTS (SELECT 1 FROM BOOKING LIMIT 1 OFFSET 2)",
        "SELECT count(*) FROM line LEFT JOIN BOOKING",
        "WITH x AS (SELECT 1 FROM BOOKING) SELECT count(*) FROM x",
        "SELECT count(ROWID) FROM BOOKING",
        "SELECT 3 IN (SELECT rowid FROM BOOKING)",
        "SELECT max(OID) FROM Booking",
    };
    for (size_t i = 0; i < sizeof(sql) / sizeof(*sql); i++) {
        char arguments[200], before[64];
        OPEN(l);
        snprintf(arguments, sizeof(arguments), "{\"sql\": \"%s\"}", sql[i]);
        for (int k = 0; k < 3; k++)
            snprintf(before, sizeof(before), "%s", call(&l, "ask", arguments));
        EXPECT_TEXT(call(&l, "book", "{\"x\": 3}"), "1");
        if (!EXPECT(strcmp(call(&l, "ask", arguments), before) != 0))
            printf("# %s: %s before and after\n", sql[i], before);
        agon_world_forget_rows(l.cell->world);
        l.cell->calls_anew = true;
        char known[64];
        snprintf(known, sizeof(known), "%s", call(&l, "ask", arguments));
        EXPECT(strcmp(known, before) != 0);
    }
}

/* Its counter is no row: no log of changes shows it, and no list of writes makes it again. */
ATTACK(X201_an_insert_that_is_ignored_draws_no_key)
{
    OPEN(l);
    for (int episode = 0; episode < 3; episode++) {
        EXPECT(agon_session_reset(l.cell, &l.err) == 0);
        for (int i = 0; i < 4; i++)
            EXPECT_TEXT(call(&l, "again", "{\"x\": 10}"), "0");
        EXPECT_TEXT(call(&l, "line", "{\"x\": 30}"), "3");
        EXPECT(l.cell->n_writes == 1);
        EXPECT_TEXT(call(&l, "again", "{\"x\": 30}"), "0"); /* after a write, too */
        EXPECT_TEXT(call(&l, "line", "{\"x\": 40}"), "4");
    }
}

ATTACK(X202_statements_of_before_do_not_end_a_call_earlier)
{
    static const int before[] = {0, 1, 50, 100, 127, 128};
    char first[200] = "", then[200];
    for (size_t i = 0; i < sizeof(before) / sizeof(*before); i++) {
        char arguments[32];
        OPEN(l);
        snprintf(arguments, sizeof(arguments), "{\"x\": %d}", before[i]);
        if (before[i])
            (void)call(&l, "few", arguments);
        snprintf(then, sizeof(then), "%s", call(&l, "wide", "{}"));
        EXPECT_HAS(then, "too many different statements");
        if (!*first)
            snprintf(first, sizeof(first), "%s", then);
        EXPECT_TEXT(then, first);
    }
}

/* The same statements as before: each call counts them for itself. */
ATTACK(X207_statements_that_are_at_hand_end_a_call_no_later)
{
    char first[200] = "";
    for (int before = 0; before < 6; before++) {
        char arguments[32];
        OPEN(l);
        snprintf(arguments, sizeof(arguments), "{\"x\": %d}", before);
        for (int again = 0; again < 3 && before > 0; again++)
            EXPECT_TEXT(call(&l, "wide", arguments), "0");
        const char *then = call(&l, "wide", "{}");
        EXPECT_HAS(then, "too many different statements");
        if (!*first)
            snprintf(first, sizeof(first), "%s", then);
        EXPECT_TEXT(then, first);
    }
}

/* Half a megabyte each, kept for three principals, they were more than SQLite's memory in a cell.
 */
ATTACK(X203_statements_of_before_take_no_memory)
{
    OPEN(l);
    size_t clean = agon_world_memory_used(), most = 0;
    for (int i = 0; i < 3; i++) {
        char arguments[32];
        snprintf(arguments, sizeof(arguments), "{\"x\": %d}", 100 * i);
        EXPECT(atoi(call(&l, "heavy", arguments)) == 100 * i);
        size_t used = agon_world_memory_used() - clean;
        most = used > most ? used : most;
    }
    printf("# %zu KiB\n", most >> 10);
    EXPECT(most > 0 && most < 33 << 20);
    for (int i = 0; i < 40; i++) { /* few in each call, and as many as are kept in all */
        char arguments[64];
        snprintf(arguments, sizeof(arguments), "{\"x\": %d, \"sql\": \"few\"}", 1000 + 3 * i);
        EXPECT(atoi(call(&l, "heavy", arguments)) == 1000 + 3 * i);
    }
    size_t used = agon_world_memory_used() - clean;
    printf("# %zu KiB\n", used >> 10);
    EXPECT(used < 20 << 20);
}

/* A list of writes holds the arguments as we write them, and not as they came. */
ATTACK(X204_arguments_written_otherwise_are_the_same_in_a_replay)
{
    static const char *const values[] = {
        "\"i\": 1",
        "\"i\": 1.0",
        "\"i\": 1e0",
        "\"i\": -0",
        "\"i\": 9007199254740993",
        "\"i\": 9223372036854775807",
        "\"n\": 1",
        "\"n\": 1.0",
        "\"n\": 1E+0",
        "\"n\": -0.0",
        "\"n\": -0",
        "\"n\": 0.1e1",
        "\"n\": 1e-7",
        "\"n\": 123456789012345678",
        "\"n\": 0.1",
        "\"n\": 1e15",
        "\"n\": 1e16",
        "\"n\": 12345678901234567890",
        "\"n\": 1e308",
        "\"n\": 5e-324",
        "\"n\": 0.30000000000000004",
        "\"e\": 1",
        "\"e\": 1.0",
        "\"e\": \"1\"",
        "\"e\": null",
        "\"e\": \"\\u0061\\u00e9\\ud83d\\ude00\\/\\u007f\"",
        "\"l\": []",
        "\"l\": [[], {}, null, [null], {\"b\": 1, \"a\": []}]",
        "\"l\": [null, null]",
        "\"l\": [1, 1.0, true, \"\", -0.0]",
        "\"o\": {}",
        "\"o\": {\"b\": {}, \"a\": [], \"1\": 1, \"\\u0031\\u0030\": 2}",
        "\"s\": \"\\t\\n\\\\ \\\"\"",
        "\"d\": 100",
        "\"s\": \"\"",
    };
    OPEN(l);
    int made = 0;
    for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
        char arguments[200], live[500], again[500];
        snprintf(arguments, sizeof(arguments), " { %s } ", values[i]);
        REQUIRE(agon_session_reset(l.cell, &l.err) == 0);
        snprintf(live, sizeof(live), "%s", call(&l, "say", arguments));
        if (l.cell->n_writes == 0) { /* refused: say so, and neither is there a write */
            printf("# %s: %s\n", values[i], live);
            continue;
        }
        made++;
        char written[500];
        snprintf(written, sizeof(written), "%s", l.cell->writes[0].arguments);
        REQUIRE(agon_session_reset(l.cell, &l.err) == 0);
        snprintf(again, sizeof(again), "%s", call(&l, "say", written));
        if (!EXPECT_TEXT(again, live))
            printf("# %s, written as %s\n", values[i], written);
        EXPECT_TEXT(l.cell->writes[0].arguments, written);
    }
    EXPECT(made >= 30);
}

/* A cell serves one environment after another, and the first call of one found the number of the
 * state in which the one before was left: what it did to the new world was given again in a later
 * state. */
ATTACK(X205_states_of_the_environment_before_are_none_of_this_one)
{
    for (int left = 1; left <= 4; left++) {
        OPEN(l);
        const char *said = "";
        char arguments[32], id[16];
        for (int i = 0; i < left; i++) { /* its states have the numbers 1, 2, 3, 4 */
            snprintf(arguments, sizeof(arguments), "{\"x\": %d}", 100 + i);
            (void)call(&l, "line", arguments);
        }
        EXPECT(l.cell->state == left);
        REQUIRE(local_open(&l, world_sql, tools, &said) == 0);
        EXPECT(l.cell->state == AGON_STATE_CLEAN);
        EXPECT_TEXT(call(&l, "line", "{\"x\": 30}"), "3"); /* state 1 */
        REQUIRE(agon_session_reset(l.cell, &l.err) == 0);
        for (int i = 0; l.cell->state < left || i == 0; i++) { /* states 2, 3 ... */
            snprintf(arguments, sizeof(arguments), "{\"x\": %d}", 200 + i);
            snprintf(id, sizeof(id), "%d", 3 + i);
            EXPECT_TEXT(call(&l, "line", arguments), id);
        }
        snprintf(id, sizeof(id), "%d", 1 + atoi(id));
        EXPECT_TEXT(call(&l, "line", "{\"x\": 30}"), id);
    }
}

/* SQLite asks about a deferred reference at COMMIT, which never comes here: each call is a whole.
 */
ATTACK(X206_a_deferred_reference_is_asked_about_at_the_end_of_each_call)
{
    static const char family_sql[] =
        "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"
        "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parent(id) "
        "DEFERRABLE INITIALLY DEFERRED) STRICT;"
        "INSERT INTO parent VALUES (1, 'Ada'), (2, 'Bo'); INSERT INTO child VALUES (1, 1);";
    static const char family[] = TOOL("ask", "false", "return world:value(a.sql) or 'nothing'")
        TOOL("any", "true", "return world:exec(a.sql)") TOOL(
            "child", "true", "return world:exec('INSERT INTO child VALUES (?, ?)', a.x, a.x)")
            TOOL("both", "true",
                 "world:exec('INSERT INTO child VALUES (?, ?)', a.x, a.x) "
                 "return world:exec('INSERT INTO parent VALUES (?, ?)', a.x, 'Cy')")
                TOOL("caught", "true",
                     "pcall(world.exec, world, 'INSERT INTO child VALUES (9, 9)') return 'done'");
    static const char count[] =
        "{\"sql\": \"SELECT (SELECT count(*) FROM child) * 10 + (SELECT count(*) FROM parent)\"}";
    const char *said = "";
    struct local l AGON_AUTO(local_deinit) = {0};
    local_init(&l);
    int opened = local_open(&l, family_sql, family, &said);
    if (!EXPECT(opened == 0))
        printf("# %d %s\n", opened, said);
    REQUIRE(!opened);
    for (int again = 0; again < 3; again++) { /* from memory, too */
        EXPECT(agon_session_reset(l.cell, &l.err) == 0);
        EXPECT_HAS(call(&l, "child", "{\"x\": 7}"), "FOREIGN KEY constraint failed");
        EXPECT_HAS(call(&l, "caught", "{}"), "FOREIGN KEY constraint failed");
        EXPECT_HAS(call(&l, "any", "{\"sql\": \"DELETE FROM parent WHERE id = 1\"}"),
                   "FOREIGN KEY constraint failed");
        EXPECT_TEXT(call(&l, "ask", count), "12");
        EXPECT_TEXT(call(&l, "both", "{\"x\": 7}"), "1"); /* within one call the order is free */
        EXPECT_HAS(call(&l, "child", "{\"x\": 8}"), "FOREIGN KEY constraint failed");
        EXPECT_TEXT(call(&l, "child", "{\"x\": 2}"), "1");
        EXPECT_TEXT(call(&l, "ask", count), "33");
        EXPECT(l.cell->n_writes == 2);
    }
}
