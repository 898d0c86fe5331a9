/* World files: a stranger's database taken over through a cell, and a world as prompts show it. */
#include "base/file.h"
#include "base/store.h"
#include "sandbox/cell.h"
#include "synth/render.h"
#include "synth/worldfile.h"
#include "tests/test.h"

#include <stdlib.h>

static struct agon_err err;

struct place {
    char dir[64], from[96], to[96];
    struct agon_sandbox *sb;
};

static bool place_open(struct place *p)
{
    struct agon_sandbox_options so = {0};
    *p = (struct place){.dir = "/tmp/agon-world-XXXXXX"};
    if (!mkdtemp(p->dir))
        return false;
    snprintf(p->from, sizeof(p->from), "%s/from.db", p->dir);
    snprintf(p->to, sizeof(p->to), "%s/to.db", p->dir);
    if (agon_sandbox_open(&p->sb, &so, &err) == 0)
        return true;
    printf("# %s\n", err.text);
    return false;
}

static void place_close(struct place *p)
{
    agon_sandbox_close(p->sb);
    EXPECT(agon_dir_remove(p->dir, &err) == 0);
}

/* Make a database of this SQL and take it over. Returns adopt's result, reason in b. */
static int adopt(struct place *p, const char *sql, struct agon_buf *b)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    agon_buf_reset(b);
    (void)remove(p->from);
    if (agon_store_open(&db, p->from, AGON_STORE_CREATE, &err) || agon_store_exec(db, sql, &err))
        return -100;
    agon_store_close(AGON_STEAL(db));
    return agon_worldfile_adopt(p->sb, p->from, p->to, b, &err);
}

static int64_t count(const char *path, const char *sql)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    if (agon_store_open(&db, path, AGON_STORE_READ, &err) || agon_query_new(&q, db, sql, &err) ||
        agon_query_next(q, &err) != AGON_ROW)
        return -1;
    return agon_query_get_int(q, 0);
}

TEST(rows_of_a_strangers_tables_are_copied)
{
    struct place p;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    REQUIRE(place_open(&p));
    int r = adopt(&p,
                  "CREATE TABLE stops(name TEXT NOT NULL, line INTEGER NOT NULL, km REAL, PRIMARY "
                  "KEY(name, line)) STRICT;"
                  "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1234)"
                  "INSERT INTO stops SELECT 'stop ' || i, i % 7, i / 2.0 FROM n;"
                  "CREATE INDEX by_km ON stops(km)",
                  &b);
    if (!EXPECT(r == 0))
        printf("# %d %s %s\n", r, agon_buf_text(&b), err.text);
    EXPECT(count(p.to, "SELECT count(*) FROM stops") == 1234);
    EXPECT(count(p.to, "SELECT sum(km) * 2 FROM stops") == 1234 * 1235 / 2);
    EXPECT(count(p.to,
                 "SELECT count(*) FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL") ==
           0);
    place_close(&p);
}

TEST(what_is_no_world_is_refused_with_the_reason)
{
    static const struct {
        const char *sql, *part;
    } cases[] = {
        {"CREATE TABLE a(x TEXT PRIMARY KEY)", "STRICT"},
        {"CREATE TABLE a(x TEXT NOT NULL PRIMARY KEY) STRICT; CREATE VIEW v AS SELECT x FROM a",
         "v"},
        {"CREATE TABLE a(\"select\" TEXT NOT NULL PRIMARY KEY) STRICT", "select"},
        {"CREATE TABLE \"A b\"(x TEXT NOT NULL PRIMARY KEY) STRICT", "A b"},
    };
    struct place p;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(8192);
    REQUIRE(place_open(&p));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        EXPECT(adopt(&p, cases[i].sql, &b) == AGON_REJECTED);
        EXPECT_HAS(agon_buf_text(&b), cases[i].part);
    }
    REQUIRE(agon_file_write(p.from, agon_str("no database"), false, &err) == 0);
    agon_buf_reset(&b);
    EXPECT(agon_worldfile_adopt(p.sb, p.from, p.to, &b, &err) == AGON_REJECTED && b.size > 0);
    place_close(&p);
}

TEST(a_world_reads_as_the_protocol_says)
{
    struct place p;
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    struct agon_runtime *rt = NULL;
    struct agon_instance *in = NULL;
    struct agon_rng rng;
    REQUIRE(place_open(&p));
    REQUIRE(
        adopt(&p,
              "CREATE TABLE cars(model TEXT NOT NULL PRIMARY KEY, cyl INTEGER, mpg REAL, note "
              "TEXT) STRICT;"
              "INSERT INTO cars VALUES('a', 4, 21, NULL), ('b', 8, 10.5, NULL), ('c', 4, 12, NULL);"
              "CREATE TABLE one(row_id INTEGER NOT NULL PRIMARY KEY) STRICT; INSERT INTO one "
              "VALUES(7)",
              &b) == 0);
    REQUIRE(agon_runtime_open(&rt, p.sb, p.to, agon_str(""), &b, &err) == 0);
    REQUIRE(agon_instance_new(&in, rt, &err) == 0);
    agon_rng_init(&rng, 1);
    REQUIRE(agon_render_world(&b, in, &rng, &err) == 0);
    EXPECT(strcmp(agon_buf_text(&b), "table cars: 3 rows, key model\n"
                                     "- model TEXT: 3 values: a (1), b (1), c (1)\n"
                                     "- cyl INTEGER: 2 values: 4 (2), 8 (1)\n"
                                     "- mpg REAL: 3 values: 10.5 (1), 12.0 (1), 21.0 (1)\n"
                                     "- note TEXT: 0 values, 3 missing\n"
                                     "rows:\n"
                                     "a | 4 | 21.0 | null\n"
                                     "b | 8 | 10.5 | null\n"
                                     "c | 4 | 12.0 | null\n"
                                     "table one: 1 row, key row_id\n"
                                     "- row_id INTEGER: 1 value: 7 (1)\n"
                                     "rows:\n"
                                     "7\n") == 0);
    agon_instance_free(in);
    agon_runtime_free(rt);
    place_close(&p);
}
