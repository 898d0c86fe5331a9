/* States: forks, named snapshots, the difference of two as rows, the digest of a world. */
#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "envs/state.h"
#include "tests/envs/open.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <unistd.h>

/* sample_tools, and one that runs any statement. */
static const char *tools(void)
{
    static char text[8192];
    snprintf(text, sizeof(text),
             "%stool{ name='sql', description='any', writes=true, "
             "params=[[{\"type\":\"object\",\"properties\":{\"s\":{\"type\":\"string\"}},"
             "\"required\":[\"s\"]}]], returns=[[{\"type\":\"integer\"}]], "
             "run=function(world, a) return world:exec(a.s) end }\n",
             sample_tools);
    return text;
}

static void write_sql(struct open_env *o, struct agon_instance *in, const char *sql)
{
    json_auto_t *arguments = json_pack("{s:s}", "s", sql);
    char *text = json_dumps(arguments, 0);
    int r = agon_instance_call(in, "sql", agon_str(text), &o->out, &o->err);
    if (!EXPECT(r == 0))
        printf("# %s: %s\n", sql, r < 0 ? o->err.text : agon_buf_text(&o->out));
    free(text);
}

/* The difference as text, or the reason. Valid until the next call. */
static const char *diff(struct open_env *o, const json_t *from, const json_t *to)
{
    static struct agon_buf text;
    json_auto_t *changes = NULL;
    agon_buf_deinit(&text);
    text = (struct agon_buf)AGON_BUF(1 << 20);
    int r = agon_state_diff(o->rt, from, to, &changes, &text, &o->err);
    if (r < 0)
        agon_buf_adds(&text, o->err.text);
    if (r == 0)
        agon_json_dump(&text, changes);
    return agon_buf_text(&text);
}

static const json_t *writes_of(const struct agon_instance *in)
{
    return agon_instance_writes(in);
}

TEST(the_difference_of_two_states_is_rows_with_their_keys)
{
    START(o, tools());
    struct agon_instance *fork AGON_AUTO(agon_instance_freep) = NULL;
    EXPECT_TEXT(diff(&o, NULL, writes_of(o.in)), "[]");
    write_sql(&o, o.in, "INSERT INTO booking VALUES (7, 1, 'Li', 2)");
    write_sql(&o, o.in, "UPDATE hotel SET price = 90 WHERE id = 2");
    REQUIRE(agon_instance_fork(&fork, o.in, &o.err) == 0);
    write_sql(&o, fork, "DELETE FROM hotel WHERE id = 3");
    write_sql(&o, fork, "UPDATE booking SET guest = 'Ann' WHERE id = 7");
    EXPECT_TEXT(diff(&o, NULL, writes_of(o.in)),
                "[{\"change\": \"inserted\", \"table\": \"booking\", \"key\": {\"id\": 7}, "
                "\"after\": {\"id\": 7, \"hotel_id\": 1, \"guest\": \"Li\", \"nights\": 2}}, "
                "{\"change\": \"updated\", \"table\": \"hotel\", \"key\": {\"id\": 2}, "
                "\"before\": {\"id\": 2, \"name\": \"Béla\", \"city\": \"Budapest\", "
                "\"price\": 80.5, \"stars\": null}, \"after\": {\"id\": 2, \"name\": \"Béla\", "
                "\"city\": \"Budapest\", \"price\": 90.0, \"stars\": null}}]");
    EXPECT_TEXT(diff(&o, writes_of(o.in), writes_of(fork)),
                "[{\"change\": \"updated\", \"table\": \"booking\", \"key\": {\"id\": 7}, "
                "\"before\": {\"id\": 7, \"hotel_id\": 1, \"guest\": \"Li\", \"nights\": 2}, "
                "\"after\": {\"id\": 7, \"hotel_id\": 1, \"guest\": \"Ann\", \"nights\": 2}}, "
                "{\"change\": \"deleted\", \"table\": \"hotel\", \"key\": {\"id\": 3}, "
                "\"before\": {\"id\": 3, \"name\": \"Corso\", \"city\": \"Wien\", \"price\": null, "
                "\"stars\": 3}}]");
    /* back again: what came goes, what went comes */
    EXPECT_HAS(diff(&o, writes_of(fork), NULL), "\"change\": \"deleted\", \"table\": \"booking\"");
    EXPECT_HAS(diff(&o, writes_of(fork), NULL), "\"change\": \"inserted\", \"table\": \"hotel\"");
    EXPECT_TEXT(diff(&o, writes_of(fork), writes_of(fork)), "[]");
}

TEST(writes_that_take_themselves_back_are_no_difference)
{
    START(o, tools());
    write_sql(&o, o.in, "UPDATE hotel SET stars = 5 WHERE id = 1");
    write_sql(&o, o.in, "UPDATE hotel SET stars = 4 WHERE id = 1");
    write_sql(&o, o.in, "INSERT INTO booking VALUES (1, 1, 'Li', 2)");
    write_sql(&o, o.in, "DELETE FROM booking");
    EXPECT_TEXT(diff(&o, NULL, writes_of(o.in)), "[]");
}

TEST(a_row_whose_key_changes_is_one_gone_and_one_come)
{
    START(o, tools());
    write_sql(&o, o.in, "UPDATE hotel SET id = 9 WHERE id = 1");
    const char *text = diff(&o, NULL, writes_of(o.in));
    EXPECT_HAS(text, "[{\"change\": \"deleted\", \"table\": \"hotel\", \"key\": {\"id\": 1}");
    EXPECT_HAS(text, "{\"change\": \"inserted\", \"table\": \"hotel\", \"key\": {\"id\": 9}");
}

TEST(a_list_of_writes_that_does_not_succeed_is_named)
{
    START(o, tools());
    json_auto_t *bad = json_pack("[{s:s, s:{s:s}}]", "tool", "sql", "arguments", "s", "nonsense");
    EXPECT_HAS(diff(&o, NULL, bad), "call 1 (sql): ");
    char hex[AGON_STATE_HEX];
    agon_buf_reset(&o.out);
    EXPECT(agon_state_hash(o.rt, bad, hex, &o.out, &o.err) == AGON_REJECTED);
    EXPECT_HAS(agon_buf_text(&o.out), "call 1 (sql): ");
}

/* ---- snapshots ---- */

TEST(snapshots_keep_states_by_name)
{
    START(o, tools());
    struct agon_snapshots kept AGON_AUTO(agon_snapshots_deinit) = {0};
    struct agon_instance *back AGON_AUTO(agon_instance_freep) = NULL;
    REQUIRE(agon_snapshots_put(&kept, "start", o.in, &o.err) == 0);
    write_sql(&o, o.in, "INSERT INTO booking VALUES (1, 1, 'Li', 2)");
    REQUIRE(agon_snapshots_put(&kept, "booked", o.in, &o.err) == 0);
    write_sql(&o, o.in, "DELETE FROM booking");
    REQUIRE(agon_snapshots_get(&kept, "booked", &back, &o.err) == 0);
    EXPECT(json_array_size(writes_of(back)) == 1);
    expect_call(&o, back, "bookings", "{}", 0, "[{\"id\": 1, \"guest\": \"Li\"}]");
    /* what is taken out goes its own way */
    write_sql(&o, back, "DELETE FROM booking");
    agon_instance_free(AGON_STEAL(back));
    REQUIRE(agon_snapshots_get(&kept, "booked", &back, &o.err) == 0);
    EXPECT(json_array_size(writes_of(back)) == 1);
    EXPECT(kept.n == 2 && !strcmp(kept.items[0].name, "booked"));
    REQUIRE(agon_snapshots_put(&kept, "start", back, &o.err) == 0);
    EXPECT(kept.n == 2 && json_array_size(writes_of(kept.items[1].in)) == 1);
    EXPECT(agon_snapshots_get(&kept, "none", &back, &o.err) == AGON_SNAPSHOT_NONE);
    EXPECT(agon_snapshots_remove(&kept, "booked") && !agon_snapshots_remove(&kept, "booked"));
    EXPECT(kept.n == 1 && !strcmp(kept.items[0].name, "start"));
}

TEST(names_of_snapshots_are_checked)
{
    START(o, tools());
    struct agon_snapshots kept AGON_AUTO(agon_snapshots_deinit) = {0};
    char longest[66];
    memset(longest, 'a', 65);
    longest[65] = '\0';
    EXPECT(agon_snapshots_put(&kept, "", o.in, &o.err) == AGON_EINPUT);
    EXPECT(agon_snapshots_put(&kept, "two words", o.in, &o.err) == AGON_EINPUT);
    EXPECT(agon_snapshots_put(&kept, "\033[2J", o.in, &o.err) == AGON_EINPUT);
    EXPECT(agon_snapshots_put(&kept, longest, o.in, &o.err) == AGON_EINPUT);
    longest[64] = '\0';
    EXPECT(agon_snapshots_put(&kept, longest, o.in, &o.err) == 0 && kept.n == 1);
}

/* ---- the digest ---- */

/* The digest of a world that this SQL makes. */
static void hash_of(struct open_env *o, const char *sql, char ret[AGON_STATE_HEX])
{
    char path[] = "/tmp/agon-test-world-XXXXXX";
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    sqlite3 *db = NULL;
    int fd = mkstemp(path);
    snprintf(ret, AGON_STATE_HEX, "none of %.40s", sql);
    REQUIRE(fd >= 0);
    close(fd);
    int rc = sqlite3_open(path, &db);
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    sqlite3_close(db);
    int r = agon_runtime_open(&rt, o->sandbox, path, agon_str(tools()), &o->out, &o->err);
    (void)unlink(path);
    if (!EXPECT(rc == SQLITE_OK && r == 0))
        printf("# %s %s\n", o->err.text, agon_buf_text(&o->out));
    if (r == 0)
        EXPECT(agon_state_hash(rt, NULL, ret, &o->out, &o->err) == 0);
}

static const char small[] = "CREATE TABLE t (id INTEGER, name TEXT, x REAL, PRIMARY KEY (name, id))"
                            " STRICT;";

TEST(a_digest_is_of_content_and_not_of_layout)
{
    START(o, tools());
    char a[AGON_STATE_HEX], b[AGON_STATE_HEX], sql[1000];
    snprintf(sql, sizeof(sql),
             "%s INSERT INTO t VALUES (1, 'a', 2), (2, 'a', NULL), (1, 'b', 0.5);", small);
    hash_of(&o, sql, a);
    snprintf(sql, sizeof(sql),
             "PRAGMA page_size = 512; CREATE TABLE u (i INTEGER PRIMARY KEY) STRICT; %s"
             " INSERT INTO t VALUES (1, 'b', 0.5), (9, 'z', 1), (2, 'a', NULL), (1, 'a', 2.0);"
             " DELETE FROM t WHERE id = 9; DROP TABLE u; CREATE INDEX i ON t (x DESC);",
             small);
    hash_of(&o, sql, b);
    EXPECT_TEXT(b, a);
    /* the documented lines, digested here */
    char expected[AGON_SHA256_HEX];
    agon_sha256_of(agon_str("table t\ncolumn id INTEGER 2\ncolumn name TEXT 1\ncolumn x REAL 0\n"
                            "[1, \"a\", 2.0]\n[2, \"a\", null]\n[1, \"b\", 0.5]\n"),
                   expected);
    EXPECT_TEXT(a, expected);
}

TEST(a_digest_tells_worlds_apart)
{
    START(o, tools());
    static const char *const rows[] = {
        "INSERT INTO t VALUES (1, 'a', 2)",    "INSERT INTO t VALUES (1, 'a', 2.5)",
        "INSERT INTO t VALUES (1, 'a', NULL)", "INSERT INTO t VALUES (1, 'null', 2)",
        "INSERT INTO t VALUES (1, 'a\nb', 2)", "SELECT 1"};
    enum { N = sizeof(rows) / sizeof(rows[0]) };
    char all[N][AGON_STATE_HEX], sql[1000];
    for (int i = 0; i < N; i++) {
        snprintf(sql, sizeof(sql), "%s %s;", small, rows[i]);
        hash_of(&o, sql, all[i]);
        for (int k = 0; k < i; k++)
            EXPECT(strcmp(all[i], all[k]) != 0);
    }
}

TEST(a_state_has_its_own_digest)
{
    START(o, tools());
    char before[AGON_STATE_HEX], after[AGON_STATE_HEX], again[AGON_STATE_HEX];
    REQUIRE(agon_state_hash(o.rt, NULL, before, &o.out, &o.err) == 0);
    write_sql(&o, o.in, "UPDATE hotel SET stars = 5 WHERE id = 1");
    REQUIRE(agon_state_hash(o.rt, writes_of(o.in), after, &o.out, &o.err) == 0);
    EXPECT(strcmp(before, after) != 0);
    write_sql(&o, o.in, "UPDATE hotel SET stars = 4 WHERE id = 1");
    REQUIRE(agon_state_hash(o.rt, writes_of(o.in), again, &o.out, &o.err) == 0);
    EXPECT_TEXT(again, before);
}
