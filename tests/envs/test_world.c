/* The world itself, in this process: what opens, damaged images, perturbation. */
#include "base/rng.h"
#include "envs/changes.h"
#include "envs/world.h"
#include "tests/envs/local.h"
#include "tests/test.h"

#include <sqlite3.h>
#include <stdlib.h>

static struct agon_err err;

static struct agon_world *open_sql(const char *sql)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    struct agon_world *w = NULL;
    local_image(&image, sql);
    int r = agon_world_open(&w, agon_buf_str(&image), &err);
    return r ? NULL : w;
}

TEST(only_plain_strict_tables_with_keys_are_a_world)
{
    static const char *const cases[][2] = {
        {"CREATE TABLE t (a INTEGER PRIMARY KEY)", "'t' is not STRICT"},
        {"CREATE TABLE t (a INTEGER) STRICT", "table 't' has no PRIMARY KEY"},
        {"CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT; CREATE VIEW v AS SELECT 1",
         "'v' is a view"},
        {"CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT; CREATE TRIGGER g AFTER INSERT ON t BEGIN "
         "SELECT 1; END",
         "'g' is a trigger"},
        {"CREATE VIRTUAL TABLE v USING fts5(a)", "is no plain table"},
        {"CREATE TABLE \"order\" (a INTEGER PRIMARY KEY) STRICT", "'order' is a keyword of SQL"},
        {"CREATE TABLE t (\"A b\" INTEGER PRIMARY KEY) STRICT", "'A b' is no name"},
        {"CREATE TABLE t (a INTEGER PRIMARY KEY, b INTEGER AS (a + 1)) STRICT", "'b' is generated"},
        {"CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT) STRICT; CREATE UNIQUE INDEX i ON "
         "t(lower(b))",
         "over an expression"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct agon_world *w = open_sql(cases[i][0]);
        if (EXPECT(!w))
            EXPECT_HAS(err.text, cases[i][1]);
        agon_world_free(w);
    }
}

static const char town[] =
    "CREATE TABLE city (name TEXT PRIMARY KEY, mayor TEXT UNIQUE, size INTEGER) STRICT, WITHOUT "
    "ROWID;"
    "CREATE TABLE street (city TEXT NOT NULL REFERENCES city(name) ON DELETE CASCADE, nr INTEGER "
    "NOT NULL,"
    "  label TEXT, width REAL CHECK (width > nr), PRIMARY KEY (city, nr)) STRICT;"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40)"
    "  INSERT INTO city SELECT 'c' || i, iif(i % 7, 'm' || i, NULL), i % 5 FROM n;"
    "INSERT INTO street SELECT name, k, name || k, k + 0.5 FROM city, (SELECT 1 AS k UNION SELECT "
    "2);";

/* One value of the world, as text. */
static const char *ask(struct agon_world *w, const char *sql)
{
    static char text[8][2000];
    static int next;
    char *t = text[next++ % 8];
    struct agon_statement *st;
    if (!EXPECT(agon_statement_get(&st, w, AGON_BY_PEOPLE, false, agon_str(sql), &err) == 0) ||
        !EXPECT(agon_statement_step(st, &err) == AGON_STEP_ROW)) {
        printf("# %s: %s\n", sql, err.text);
        return "";
    }
    const char *value = (const char *)sqlite3_column_text(agon_statement_sqlite(st), 0);
    snprintf(t, 2000, "%s", value ? value : "NULL");
    (void)agon_statement_end(st);
    return t;
}

TEST(perturbing_keeps_keys_references_and_multisets)
{
    struct agon_world *w AGON_AUTO(agon_world_freep) = open_sql(town);
    REQUIRE(w);
    static const char *const names[] = {"city.name", "city.mayor",   "city.size",   "street.city",
                                        "street.nr", "street.label", "street.width"};
    struct agon_str columns[7];
    for (int i = 0; i < 7; i++)
        columns[i] = agon_str(names[i]);
    static const char mayors[] =
        "SELECT group_concat(m) FROM (SELECT coalesce(mayor, '-') AS m FROM city ORDER BY mayor)";
    static const char sizes[] =
        "SELECT group_concat(s) FROM (SELECT size AS s FROM city ORDER BY size)";
    static const char rows[] = "SELECT group_concat(name || coalesce(mayor, '-') || size) FROM "
                               "(SELECT * FROM city ORDER BY name)";
    static const char keys[] =
        "SELECT group_concat(city || nr) FROM (SELECT * FROM street ORDER BY city, nr)";
    char was_mayors[2000], was_sizes[2000], was_rows[2000], was_keys[2000];
    snprintf(was_mayors, 2000, "%s", ask(w, mayors));
    snprintf(was_sizes, 2000, "%s", ask(w, sizes));
    snprintf(was_rows, 2000, "%s", ask(w, rows));
    snprintf(was_keys, 2000, "%s", ask(w, keys));
    int resized = 0;
    for (int draw = 0; draw < 10; draw++) {
        if (!EXPECT(agon_world_perturb(w, 11, draw, columns, 7, &err) == 0))
            printf("# %s\n", err.text);
        EXPECT_TEXT(ask(w, mayors), was_mayors);
        EXPECT_TEXT(ask(w, keys), was_keys);
        EXPECT(strcmp(ask(w, rows), was_rows) != 0);
        if (draw % 2 == 0)
            EXPECT_TEXT(ask(w, sizes), was_sizes);
        resized += strcmp(ask(w, sizes), was_sizes) != 0;
        EXPECT_TEXT(ask(w, "SELECT count(*) FROM street s LEFT JOIN city c ON c.name = s.city "
                           "WHERE c.name IS NULL"),
                    "0");
        EXPECT(agon_changes_logged(w) == 0);
    }
    EXPECT(resized >= 3);
    REQUIRE(agon_world_perturb(w, 0, AGON_DRAW_NO_ROW, columns, 1, &err) == 0);
    EXPECT_TEXT(ask(w, "SELECT (SELECT count(*) FROM city) + (SELECT count(*) FROM street)"), "0");
    EXPECT(agon_changes_logged(w) == 0);
    REQUIRE(agon_world_perturb(w, 0, 0, NULL, 0, &err) == 0);
    EXPECT_TEXT(ask(w, rows), was_rows);
}

TEST(changes_are_net)
{
    struct agon_world *w AGON_AUTO(agon_world_freep) = open_sql(town);
    REQUIRE(w);
    static const char *const sql[] = {
        "INSERT INTO city VALUES ('x', NULL, 1)",
        "UPDATE city SET size = 9 WHERE name = 'x'", /* inserted x, size 9 */
        "UPDATE city SET size = 77 WHERE name = 'c1'",
        "UPDATE city SET size = 1 WHERE name = 'c1'", /* nothing */
        "INSERT INTO city VALUES ('y', NULL, 1)",
        "DELETE FROM city WHERE name = 'y'",                   /* nothing */
        "DELETE FROM city WHERE name = 'c2'",                  /* with two streets */
        "INSERT OR REPLACE INTO city VALUES ('c3', 'new', 3)", /* updated, and cascades */
        "UPDATE street SET nr = 9, width = 10.0 WHERE city = 'c4' AND nr = 1", /* deleted, inserted
                                                                                */
    };
    for (size_t i = 0; i < sizeof(sql) / sizeof(*sql); i++) {
        struct agon_statement *st;
        REQUIRE(agon_world_begin_call(w, &err) == 0);
        REQUIRE(agon_statement_get(&st, w, AGON_BY_TOOLS, true, agon_str(sql[i]), &err) == 0);
        if (!EXPECT(agon_statement_step(st, &err) == AGON_STEP_END))
            printf("# %s: %s\n", sql[i], err.text);
        REQUIRE(agon_world_end_call(w, true, &err) == 0);
    }
    struct agon_changes c;
    REQUIRE(agon_changes_of(&c, w, &err) == 0);
    struct agon_buf all AGON_AUTO(agon_buf_deinit) = AGON_BUF(4000);
    for (int i = 0; i < c.n; i++) {
        char text[200];
        agon_change_text(w, &c.items[i], text, sizeof(text));
        agon_buf_addf(&all, "%s; ", text);
    }
    agon_changes_deinit(&c);
    EXPECT_TEXT(
        agon_buf_text(&all),
        "inserted city name='x'; deleted city name='c2'; deleted street city='c2', nr=1; deleted "
        "street city='c2', nr=2; "
        "updated city name='c3'; deleted street city='c3', nr=1; deleted street city='c3', nr=2; "
        "deleted street city='c4', nr=1; inserted street city='c4', nr=9; ");
    REQUIRE(agon_world_reset(w, &err) == 0);
    EXPECT(agon_changes_logged(w) == 0);
    EXPECT_TEXT(ask(w, "SELECT count(*) FROM street"), "80");
}

/* Attack D13: an image with random bytes changed is refused, or is a world that can be used. */
TEST(damaged_images_do_no_harm)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    local_image(&image, town);
    struct agon_rng rng;
    agon_rng_init(&rng, 4);
    char *copy = malloc(image.size);
    int opened = 0;
    for (int i = 0; copy && i < 1500; i++) {
        memcpy(copy, image.data, image.size);
        for (uint32_t k = agon_rng_below(&rng, 60) + 1; k > 0; k--)
            copy[agon_rng_below(&rng, (uint32_t)image.size)] ^=
                (char)(1 + agon_rng_below(&rng, 255));
        size_t size = i % 10 ? image.size : agon_rng_below(&rng, (uint32_t)image.size);
        struct agon_world *w = NULL;
        int r = agon_world_open(&w, (struct agon_str){copy, size}, &err);
        opened += r == 0 && size > 0;
        if (r == 0 && size > 0) {
            struct agon_statement *st;
            if (agon_statement_get(
                    &st, w, AGON_BY_TOOLS, false,
                    agon_str("SELECT count(*) FROM street s, city c WHERE c.name = s.city"),
                    &err) == 0)
                (void)agon_statement_step(st, &err);
        }
        agon_world_free(w);
    }
    free(copy);
    printf("# %d of 1500 damaged images still are a world\n", opened);
}
