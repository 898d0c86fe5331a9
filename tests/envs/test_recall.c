/*
 * Calls that were made before (envs/recall.h): in no byte, cost, state or event of the log does a
 * cell that remembers differ from one that makes each call again.
 */
#include "envs/recall.h"

#include "tests/alloc.h"
#include "tests/envs/local.h"
#include "tests/test.h"

#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static const char world_sql[] =
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"
    "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parent "
    "ON DELETE CASCADE) STRICT;"
    "CREATE TABLE note (k TEXT PRIMARY KEY, n INTEGER, x REAL, t TEXT) STRICT, WITHOUT ROWID;"
    "CREATE TABLE line (id INTEGER PRIMARY KEY AUTOINCREMENT, n INTEGER UNIQUE) STRICT;"
    "INSERT INTO parent VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, 'd');"
    "INSERT INTO child VALUES (10, 1), (11, 1), (12, 2), (13, 3), (14, 4), (15, 4);"
    "INSERT INTO line VALUES (1, 10), (2, 20);";

#define ROWS "{\"type\":\"array\",\"items\":{\"type\":\"object\"}}"
#define ONE  "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"}]}"
#define TOOL(name, writes, returns, body)                                                \
    "tool{ name='" name "', description='d', writes=" writes                             \
    ", params=[[{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}}}]], " \
    "returns=[[" returns "]], run=function(world, a) " body " end }\n"

/* clang-format off */
static const char tools[] =
    TOOL("children", "false", ROWS, "return world:rows('SELECT id, parent FROM child ORDER BY id')")
    TOOL("notes", "false", ROWS, "return world:rows('SELECT * FROM note ORDER BY k')")
    TOOL("lines", "false", ROWS, "return world:rows('SELECT * FROM line WHERE n <> ? ORDER BY id', a.x)")
    TOOL("name", "false", ONE, "local r = world:row('SELECT name FROM parent WHERE id = ?', a.x) "
         "if not r then error('no parent ' .. a.x, 0) end return r.name")
    TOOL("many", "false", ONE, "return world:value('WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT "
         "i + 1 FROM n WHERE i < 5000) SELECT count(*) FROM n WHERE i <> ?', a.x)")
    TOOL("take_out", "true", ONE, "return world:exec('DELETE FROM parent WHERE id = ?', a.x)")
    TOOL("put_note", "true", ONE, "world:exec('INSERT OR REPLACE INTO note VALUES (?, ?, ?, ?)', "
         "'k' .. a.x % 3, a.x % 2 == 0 and a.x or null, a.x / 3, ('t'):rep(a.x)) "
         "world:exec('UPDATE note SET n = 1 WHERE n IS NULL AND ?', true) "
         "return #world:rows('SELECT k FROM note')")
    TOOL("put_line", "true", ONE, "return world:exec('INSERT INTO line (n) VALUES (?) RETURNING id', a.x)")
    TOOL("add_lines", "true", ONE, "return world:exec('INSERT OR IGNORE INTO line (n) SELECT id * 10 + ? "
         "FROM parent', a.x)")
    TOOL("try_line", "true", ONE, "local ok = pcall(world.exec, world, 'INSERT INTO line VALUES (?, 10)', "
         "a.x + 100) world:exec('UPDATE line SET n = n + 1000 WHERE id = 2') return tostring(ok)")
    TOOL("half_of_it", "true", ONE, "pcall(world.exec, world, 'INSERT OR FAIL INTO line SELECT id + 50, "
         "id * 10 FROM parent WHERE id < 3 ORDER BY id DESC') return 'done'")
    TOOL("give_up", "true", ONE, "world:exec('DELETE FROM line') error('no', 0)")
    TOOL("take_none", "true", ONE, "return world:exec('DELETE FROM line WHERE n = -1')");
/* clang-format on */
static const char *const names[] = {"children", "notes",      "lines",    "name",
                                    "take_out", "put_note",   "put_line", "add_lines",
                                    "try_line", "half_of_it", "give_up",  "take_none"};
enum { N_NAMES = sizeof(names) / sizeof(*names) };

#define OPEN(l)                                   \
    struct local l AGON_AUTO(local_deinit) = {0}; \
    local_init(&l);                               \
    REQUIRE(opened(&l))

static bool opened(struct local *l)
{
    const char *said = "";
    int r = local_open(l, world_sql, tools, &said);
    if (r)
        printf("# %d %s\n", r, said);
    return r == 0;
}

/* What the world holds: all rows and the sequence of keys. */
static unsigned content(struct local *l)
{
    static const char *const sql[] = {
        "SELECT * FROM parent ORDER BY id", "SELECT * FROM child ORDER BY id",
        "SELECT k, n, x, t FROM note ORDER BY k", "SELECT * FROM line ORDER BY id"};
    unsigned hash = 5381;
    for (size_t i = 0; i < sizeof(sql) / sizeof(*sql); i++) {
        struct agon_statement *st;
        if (!EXPECT(agon_statement_get(&st, l->cell->world, AGON_BY_PEOPLE, false, agon_str(sql[i]),
                                       &l->err) == 0))
            return 0;
        while (agon_statement_step(st, &l->err) == AGON_STEP_ROW)
            for (int c = 0; c < agon_statement_n_columns(st); c++)
                for (const char *p =
                         (const char *)sqlite3_column_text(agon_statement_sqlite(st), c);
                     p && *p; p++)
                    hash = hash * 33 + (unsigned char)*p;
        agon_world_settle(l->cell->world);
    }
    return hash;
}

static bool reads_same(struct local *a, struct local *b)
{
    int n, m;
    const uint8_t *x = agon_world_reads(a->cell->world, &n);
    const uint8_t *y = agon_world_reads(b->cell->world, &m);
    return n == m && !memcmp(x, y, (size_t)n);
}

/* Both make the call: what it says, what it costs, what it read and what it logged. */
static bool call_same(struct local *a, struct local *b, const char *tool, const char *arguments)
{
    struct local *both[] = {a, b};
    int r[2];
    for (int i = 0; i < 2; i++) {
        agon_world_forget_reads(both[i]->cell->world);
        r[i] = agon_session_call(both[i]->cell, agon_str(tool), agon_str(arguments), &both[i]->err);
    }
    const struct agon_env_cell *x = a->cell, *y = b->cell;
    bool same = r[0] == r[1] &&
                agon_str_equal(agon_buf_str(&x->result), agon_buf_str(&y->result)) &&
                agon_str_equal(agon_buf_str(&x->canonical), agon_buf_str(&y->canonical)) &&
                x->fuel == y->fuel && x->n_writes == y->n_writes &&
                agon_world_run_ops(x->world) == agon_world_run_ops(y->world) &&
                agon_changes_logged(x->world) == agon_changes_logged(y->world) && reads_same(a, b);
    if (!same)
        printf(
            "# %s %s: %d %s; made again: %d %s; fuel %lld, %lld; operations %lld, %lld; events %d, "
            "%d\n",
            tool, arguments, r[0], agon_buf_text(&x->result), r[1], agon_buf_text(&y->result),
            (long long)x->fuel, (long long)y->fuel, (long long)agon_world_run_ops(x->world),
            (long long)agon_world_run_ops(y->world), agon_changes_logged(x->world),
            agon_changes_logged(y->world));
    return same;
}

/* Both read all tables as a verifier might: what is kept is rows here, and not calls. */
static bool reads_as_well(struct local *a, struct local *b)
{
    static const char *const reading[] = {"children", "notes", "lines"};
    bool same = true;
    a->cell->calls_anew = true;
    for (size_t i = 0; i < sizeof(reading) / sizeof(*reading); i++)
        same = same && call_same(a, b, reading[i], "{\"x\": 3}");
    a->cell->calls_anew = false;
    return same;
}

static bool reset_both(struct local *a, struct local *b)
{
    return agon_session_reset(a->cell, &a->err) == 0 && agon_session_reset(b->cell, &b->err) == 0;
}

TEST(episodes_of_any_calls_are_the_same_to_the_byte)
{
    OPEN(a);
    OPEN(b);
    b.cell->calls_anew = true; /* and asks for rows again */
    uint32_t chance = 7;
    for (int episode = 0; episode < 400; episode++) {
        REQUIRE(reset_both(&a, &b));
        for (int i = 0; i < 6; i++) {
            char arguments[32];
            chance = chance * 1664525 + 1013904223;
            snprintf(arguments, sizeof(arguments), "{\"x\": %u}", (chance >> 24) % 5);
            REQUIRE(call_same(&a, &b, names[(chance >> 16) % N_NAMES], arguments));
            REQUIRE(reads_as_well(&a, &b));
            agon_world_forget_rows(b.cell->world);
        }
        REQUIRE(content(&a) == content(&b));
    }
}

enum { LIST = 4 };

static void add_list(struct agon_buf *b)
{
    static const char *const calls[][2] = {{"take_out", "{\"x\": 1}"},
                                           {"put_note", "{\"x\": 4}"},
                                           {"add_lines", "{\"x\": 2}"},
                                           {"put_line", "{\"x\": 7}"}};
    agon_wire_add_int(b, LIST);
    for (int i = 0; i < LIST; i++) {
        agon_wire_add_text(b, calls[i][0]);
        agon_wire_add_text(b, calls[i][1]);
    }
}

static int go_to_list(struct local *l)
{
    agon_buf_reset(&l->request);
    add_list(&l->request);
    struct agon_wire wire = agon_wire_of(agon_buf_str(&l->request));
    return agon_session_replay(l->cell, &wire, &l->err);
}

TEST(a_list_of_writes_leads_to_the_same_state_each_time)
{
    OPEN(a);
    OPEN(b);
    b.cell->calls_anew = true;
    for (int i = 0; i < 3; i++) {
        REQUIRE(reset_both(&a, &b));
        REQUIRE(call_same(&a, &b, "put_line", "{\"x\": 3}")); /* elsewhere */
        REQUIRE(go_to_list(&a) == 0 && go_to_list(&b) == 0);
        EXPECT(content(&a) == content(&b));
        EXPECT(a.cell->n_writes == 4 && b.cell->n_writes == 4);
        EXPECT(agon_changes_logged(a.cell->world) == agon_changes_logged(b.cell->world));
        EXPECT(call_same(&a, &b, "put_line", "{\"x\": 8}")); /* the next key is the same, too */
        EXPECT(call_same(&a, &b, "lines", "{\"x\": 0}"));
    }
}

TEST(a_call_that_its_budget_would_end_is_made_and_ended)
{
    OPEN(a);
    OPEN(b);
    b.cell->calls_anew = true;
    for (int i = 0; i < 3; i++)
        REQUIRE(reset_both(&a, &b) && call_same(&a, &b, "put_note", "{\"x\": 4}"));
    int64_t used = AGON_CELL_RUN_FUEL - a.cell->fuel;
    for (int64_t fuel = used - 1; fuel <= used; fuel++) {
        REQUIRE(reset_both(&a, &b));
        a.cell->fuel = b.cell->fuel = fuel;
        EXPECT(call_same(&a, &b, "put_note", "{\"x\": 4}"));
    }
    for (int i = 0; i < 3; i++)
        REQUIRE(reset_both(&a, &b) && call_same(&a, &b, "many", "{\"x\": 4}"));
    REQUIRE(reset_both(&a, &b));
    agon_world_set_run_ops(a.cell->world, agon_world_run_ops_max(a.cell->world) - 3000);
    agon_world_set_run_ops(b.cell->world, agon_world_run_ops_max(b.cell->world) - 3000);
    EXPECT(call_same(&a, &b, "many", "{\"x\": 4}"));
    EXPECT(strstr(agon_buf_text(&a.cell->result), "operations"));
}

TEST(another_world_is_not_taken_for_the_one_before)
{
    OPEN(a);
    struct agon_str column = agon_str("parent.name");
    static const char call[] = "{\"x\": 1}";
    char first[64] = "", then[64] = "";
    for (int draw = 0; draw < 20; draw++) {
        struct local b AGON_AUTO(local_deinit) = {0};
        local_init(&b);
        REQUIRE(opened(&b));
        REQUIRE(agon_world_perturb(a.cell->world, 3, draw, &column, 1, &a.err) == 0);
        REQUIRE(agon_world_perturb(b.cell->world, 3, draw, &column, 1, &b.err) == 0);
        REQUIRE(reset_both(&a, &b));
        for (int i = 0; i < 3; i++)
            EXPECT(call_same(&a, &b, "name", call));
        snprintf(then, sizeof(then), "%s", agon_buf_text(&a.cell->result));
        if (!*first)
            snprintf(first, sizeof(first), "%s", then);
        if (strcmp(first, then) != 0)
            return; /* and it did change */
    }
    EXPECT(strcmp(first, then) != 0);
}

TEST(tools_are_not_run_for_what_is_known)
{
    OPEN(a);
    REQUIRE(go_to_list(&a) == 0); /* makes them */
    REQUIRE(agon_session_reset(a.cell, &a.err) == 0);
    struct agon_toolset *without = NULL, *with = a.cell->toolset;
    /* The same tools, of which none works any more. */
    struct agon_buf broken AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    agon_buf_adds(&broken, tools);
    for (char *at = broken.data; (at = strstr(at, "run=function(world, a) "));)
        memcpy(at + strlen("run=function("), "_____, a) ", 10);
    REQUIRE(agon_toolset_load(&without, a.cell->world, agon_buf_str(&broken), &a.err) == 0);
    a.cell->toolset = without;
    int r = go_to_list(&a);
    if (!EXPECT(r == 0))
        printf("# %s\n", a.err.text);
    EXPECT(agon_session_reset(a.cell, &a.err) == 0);
    a.cell->calls_anew = true;
    EXPECT(go_to_list(&a) != 0);
    a.cell->toolset = with;
    agon_toolset_free(without);
}

TEST(each_allocation_may_fail_and_the_state_is_right_or_there_is_an_error)
{
    OPEN(a);
    REQUIRE(go_to_list(&a) == 0);
    unsigned right = content(&a);
    int refused = 0;
    for (long n = 1; alloc_fail_at(n); n++) {
        int r = agon_session_reset(a.cell, &a.err);
        if (!r)
            r = go_to_list(&a);
        bool came = alloc_failed();
        EXPECT(r == 0 || came);
        refused += r != 0;
        if (r == 0 && !EXPECT(content(&a) == right))
            printf("# allocation %ld: another state\n", n);
        if (r) { /* a lost cell: another one comes */
            local_deinit(&a);
            local_init(&a);
            REQUIRE(opened(&a) && go_to_list(&a) == 0);
        }
    }
    printf("# %d refusals\n", refused);
}
