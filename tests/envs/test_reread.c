/* What tools have read before and is given again (envs/memo.h): never when it could differ. */
#include "tests/envs/local.h"
#include "tests/test.h"

#include <stdio.h>

static const char world_sql[] =
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT;"
    "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parent "
    "ON DELETE CASCADE) STRICT;"
    "CREATE TABLE other (id INTEGER PRIMARY KEY, n INTEGER NOT NULL UNIQUE) STRICT;"
    "INSERT INTO parent VALUES (1, 'a'), (2, 'b'); INSERT INTO child VALUES (10, 1), (11, 1), (12, "
    "2);"
    "INSERT INTO other VALUES (1, 5), (2, 6);";

#define ROWS "{\"type\":\"array\",\"items\":{\"type\":\"object\"}}"
#define ONE  "{\"anyOf\":[{\"type\":\"integer\"},{\"type\":\"string\"},{\"type\":\"null\"}]}"
#define TOOL(name, writes, returns, sql, method)                                         \
    "tool{ name='" name "', description='d', writes=" writes                             \
    ", params=[[{\"type\":\"object\",\"properties\":{\"x\":{\"type\":\"integer\"}}}]], " \
    "returns=[[" returns "]], run=function(world, a) return world:" method "('" sql      \
    "', a.x) end }\n"

/* clang-format off */
static const char tools[] =
    TOOL("children", "false", ROWS, "SELECT id FROM child WHERE parent >= ? ORDER BY id", "rows")
    TOOL("count", "false", ONE, "SELECT count(*) FROM child WHERE ? > 0", "value")
    TOOL("name", "false", ONE, "SELECT name FROM parent WHERE id = ?", "value")
    TOOL("numbers", "false", ROWS, "SELECT n FROM other WHERE id >= ? ORDER BY id", "rows")
    TOOL("take_out", "true", ONE, "DELETE FROM parent WHERE id = ?", "exec")
    TOOL("put_in", "true", ONE, "INSERT INTO other VALUES (3, ?)", "exec")
    TOOL("put_over", "true", ONE, "INSERT OR REPLACE INTO other VALUES (9, ?)", "exec")
    "tool{ name='add_and_fail', description='d', writes=true, params=[[{\"type\":\"object\"}]], "
    "returns=[[" ONE "]], run=function(world) world:exec('INSERT INTO other VALUES (4, 4)') "
    "world:rows('SELECT n FROM other WHERE id >= ? ORDER BY id', 1) error('no', 0) end }\n";
/* clang-format on */

static const char *const before[] = {"[{\"id\": 10}, {\"id\": 11}, {\"id\": 12}]", "3", "\"a\"",
                                     "[{\"n\": 5}, {\"n\": 6}]"};

static bool read_is(struct local *l, const char *const *writes, const char *tool,
                    const char *expected)
{
    const char *text = "";
    int r = local_call(l, writes, tool, "{\"x\": 1}", &text);
    bool same = r == 0 && !strcmp(text, expected);
    if (!same)
        printf("# %s: %d %s, expected %s\n", tool, r, text, expected);
    return same;
}

static void all_are(struct local *l, const char *const *writes, const char *const expected[4])
{
    static const char *const names[] = {"children", "count", "name", "numbers"};
    for (int i = 0; i < 4; i++)
        EXPECT(read_is(l, writes, names[i], expected[i]));
}

#define OPEN(l)                                              \
    struct local l AGON_AUTO(local_deinit) = {0};            \
    const char *opened = "";                                 \
    local_init(&l);                                          \
    REQUIRE(local_open(&l, world_sql, tools, &opened) == 0); \
    all_are(&l, NULL, before);                               \
    all_are(&l, NULL, before)

TEST(what_hangs_on_a_row_goes_with_it)
{
    OPEN(l);
    const char *const dropped[] = {"[{\"id\": 12}]", "1", "null", "[{\"n\": 5}, {\"n\": 6}]"};
    const char *const writes[] = {"take_out", "{\"x\": 1}", NULL};
    all_are(&l, writes, dropped);
    all_are(&l, writes, dropped);
    all_are(&l, NULL, before);
}

TEST(a_table_that_was_written_is_read_anew_and_others_are_not)
{
    OPEN(l);
    const char *const added[] = {before[0], before[1], before[2],
                                 "[{\"n\": 5}, {\"n\": 6}, {\"n\": 7}]"};
    const char *const writes[] = {"put_in", "{\"x\": 7}", NULL};
    all_are(&l, writes, added);
    all_are(&l, NULL, before);
    all_are(&l, writes, added);
}

TEST(a_row_that_replaces_another_is_seen)
{
    OPEN(l);
    const char *const replaced[] = {before[0], before[1], before[2], "[{\"n\": 6}, {\"n\": 5}]"};
    const char *const writes[] = {"put_over", "{\"x\": 5}", NULL};
    all_are(&l, writes, replaced);
    all_are(&l, NULL, before);
}

TEST(what_a_failed_call_read_of_its_own_writes_is_forgotten)
{
    OPEN(l);
    const char *text = "";
    EXPECT(local_call(&l, NULL, "add_and_fail", "{}", &text) == 1);
    all_are(&l, NULL, before);
    const char *const writes[] = {"take_out", "{\"x\": 2}", NULL};
    EXPECT(local_call(&l, writes, "add_and_fail", "{}", &text) == 1);
    EXPECT(read_is(&l, writes, "numbers", before[3]));
    EXPECT(read_is(&l, writes, "children", "[{\"id\": 10}, {\"id\": 11}]"));
}
