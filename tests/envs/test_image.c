/* What opens passes SQLite's own check, and usual worlds need not ask for it (envs/world_image.c).
 */
#include "base/rng.h"
#include "envs/world_internal.h"
#include "tests/envs/local.h"
#include "tests/test.h"

#include <stdlib.h>

static struct agon_err err;

/* Rows in several levels of pages, chains of overflow, free blocks and pages, numbers of each size.
 */
static const char rich[] =
    "CREATE TABLE town (name TEXT PRIMARY KEY, size INTEGER, area REAL NOT NULL, note ANY) STRICT;"
    "CREATE TABLE road (nr INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT NOT NULL, image BLOB,"
    "  UNIQUE (a, b)) STRICT;"
    "CREATE TABLE trip (id INTEGER PRIMARY KEY AUTOINCREMENT, road INT NOT NULL) STRICT;"
    "CREATE TABLE gone (a INTEGER PRIMARY KEY, b TEXT) STRICT;"
    "CREATE TABLE none (a TEXT PRIMARY KEY, b INTEGER NOT NULL) STRICT;"
    "CREATE INDEX town_by_size ON town (size, name); CREATE INDEX trip_by_road ON trip (road);"
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 150)"
    "  INSERT INTO town SELECT 'town ' || (i * 7 % 150) || substr('xxxxxxxxxxxxxxxx', i % 17),"
    "    (i * i * i - 900000) << (i % 41), iif(i % 3, i * 2, i / 7.0),"
    "    iif(i % 25, NULL, replace(hex(zeroblob(i * 4)), '00', 'abcd')) FROM n;"
    "INSERT INTO road SELECT (rowid - 99) * 1000003, name, size || 's', zeroblob(abs(size) % 90)"
    "  FROM town;"
    "INSERT INTO road VALUES (-5, 'long', replace(hex(zeroblob(1000)), '00', 'word'), x'00');"
    "INSERT INTO gone SELECT nr, a || b FROM road; INSERT INTO trip SELECT NULL, 1 FROM road;"
    "DELETE FROM town WHERE rowid % 5 = 0; UPDATE road SET b = 'short' || nr WHERE nr % 3 = 0;"
    "UPDATE road SET b = b || ' and longer' WHERE nr % 4 = 0; DROP TABLE gone;";

static void make(struct agon_buf *ret, const char *before, const char *sql)
{
    char *all = NULL;
    agon_buf_reset(ret);
    if (asprintf(&all, "%s;%s", before, sql) < 0)
        abort();
    local_image(ret, all);
    free(all);
}

/* Was SQLite not asked when this world opened? */
static bool unasked(struct agon_world *w, struct agon_str image)
{
    w->trusted++;
    bool sound = world_image_is_sound(w, image);
    w->trusted--;
    return sound;
}

static bool seen_sound(struct agon_str image)
{
    struct agon_world *w AGON_AUTO(agon_world_freep) = NULL;
    err.text[0] = '\0';
    if (!EXPECT(agon_world_open(&w, image, &err) == 0))
        printf("# %s\n", err.text);
    return w && unasked(w, image);
}

TEST(usual_worlds_are_seen_to_be_sound)
{
    static const char *const sizes[] = {"PRAGMA page_size=512", "PRAGMA page_size=1024",
                                        "PRAGMA page_size=4096", "PRAGMA page_size=65536"};
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        make(&image, sizes[i], rich);
        if (!EXPECT(seen_sound(agon_buf_str(&image))))
            printf("# %s\n", sizes[i]);
    }
    make(&image, "", "CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT");
    EXPECT(seen_sound(agon_buf_str(&image)));
}

TEST(what_is_less_usual_is_left_to_SQLite)
{
    static const char *const cases[][2] = {
        {"", "CREATE TABLE t (a INTEGER PRIMARY KEY CHECK (a > 0)) STRICT"},
        {"", "CREATE TABLE t (a TEXT PRIMARY KEY) STRICT, WITHOUT ROWID"},
        {"", "CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT; INSERT INTO t VALUES (1);"
             "ALTER TABLE t ADD COLUMN b TEXT DEFAULT 'x'"},
        {"PRAGMA auto_vacuum=1", "CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT"},
        {"PRAGMA encoding='UTF-16'", "CREATE TABLE t (a INTEGER PRIMARY KEY) STRICT"},
    };
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        make(&image, cases[i][0], cases[i][1]);
        if (!EXPECT(!seen_sound(agon_buf_str(&image))))
            printf("# %s\n", cases[i][1]);
    }
}

/* ---- damage ---- */

static bool quick_check(struct agon_str image)
{
    sqlite3 *db = NULL;
    sqlite3_stmt *q = NULL;
    char *copy = sqlite3_malloc64(image.size);
    memcpy(copy, image.data, image.size);
    bool fine = sqlite3_open(":memory:", &db) == SQLITE_OK &&
                sqlite3_deserialize(db, "main", (unsigned char *)copy, (sqlite3_int64)image.size,
                                    (sqlite3_int64)image.size,
                                    SQLITE_DESERIALIZE_FREEONCLOSE) == SQLITE_OK &&
                sqlite3_prepare_v2(db, "PRAGMA quick_check(1)", -1, &q, NULL) == SQLITE_OK &&
                sqlite3_step(q) == SQLITE_ROW &&
                !strcmp((const char *)sqlite3_column_text(q, 0), "ok");
    sqlite3_finalize(q);
    sqlite3_close(db);
    return fine;
}

/* Most changes go where a page tells what lies on it: a byte becomes another, often one more or
 * less, or a cell's offset that of its neighbour. */
static void damage(struct agon_rng *rng, char *image, uint32_t size, uint32_t page)
{
    for (uint32_t n = 1 + agon_rng_below(rng, 3) / 2; n > 0; n--) {
        uint32_t at = agon_rng_below(rng, size), first = at - at % page;
        switch (agon_rng_below(rng, 5)) {
        case 0: image[at] = (char)agon_rng_u32(rng); break;
        case 1: image[at] = (char)(image[at] + 1); break;
        case 2: image[first + agon_rng_below(rng, 12)] = (char)agon_rng_below(rng, 256); break;
        case 3: image[first + agon_rng_below(rng, 40)]--; break;
        default:
            memcpy(image + first + 8 + at % 24 / 2 * 2, image + first + 10 + at % 24 / 2 * 2, 2);
        }
    }
}

/* Does SQLite's check find this, and ours not call it sound? */
static void expect_seen(const char *what, struct agon_str image)
{
    struct agon_world *w AGON_AUTO(agon_world_freep) = NULL;
    bool opened = agon_world_open(&w, image, &err) == 0;
    if (!EXPECT(!opened && !quick_check(image)))
        printf("# %s\n", what);
}

TEST(damage_that_chance_seldom_makes_is_seen)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    make(&image, "PRAGMA page_size=512", rich);
    struct agon_str bytes = agon_buf_str(&image);
    image.data[39]++;
    expect_seen("one free page more", bytes);
    image.data[39]--;
    static const char page[512] = {0};
    agon_buf_add(&image, page, sizeof(page));
    image.data[31] = (char)(image.size / sizeof(page)); /* below 256 of them */
    REQUIRE(image.size < 256 * sizeof(page));
    expect_seen("a page that nothing refers to", agon_buf_str(&image));
}

/* It is read as NULL, which later versions than 3.40 mind where the column is NOT NULL. */
TEST(what_is_not_a_number_is_left_to_SQLite)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    static const uint8_t pi[] = {0x40, 0x09, 0x21, 0xfb, 0x54, 0x44, 0x2d, 0x18};
    make(&image, "",
         "CREATE TABLE t (a INTEGER PRIMARY KEY, b REAL) STRICT;"
         "INSERT INTO t VALUES (1, 3.141592653589793)");
    char *at = memmem(image.data, image.size, pi, sizeof(pi));
    REQUIRE(at);
    at[0] = 0x7f;
    at[1] = (char)0xff;
    EXPECT(!seen_sound(agon_buf_str(&image)));
}

/* AGON_IMAGE_ROUNDS: for longer runs, with AGON_IMAGE_SEED. */
static uint32_t number(const char *name, uint32_t usual)
{
    const char *text = getenv(name);
    return text ? (uint32_t)strtoul(text, NULL, 10) : usual;
}

TEST(what_opens_passes_quick_check)
{
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = AGON_BUF(64 << 20);
    make(&image, "PRAGMA page_size=512", rich);
    struct agon_rng rng;
    agon_rng_init(&rng, number("AGON_IMAGE_SEED", 9));
    char *copy = malloc(image.size);
    uint32_t rounds = number("AGON_IMAGE_ROUNDS", 4000), n_opened = 0, n_sound = 0;
    for (uint32_t i = 0; copy && i < rounds; i++) {
        struct agon_world *w AGON_AUTO(agon_world_freep) = NULL;
        struct agon_str bytes = {copy, image.size};
        memcpy(copy, image.data, image.size);
        damage(&rng, copy, (uint32_t)image.size, 512);
        if (agon_world_open(&w, bytes, &err) != 0)
            continue;
        n_opened++;
        n_sound += unasked(w, bytes);
        if (!EXPECT(quick_check(bytes)))
            printf("# round %u\n", i);
    }
    free(copy);
    EXPECT(n_sound > rounds / 10 && n_opened < rounds / 10 * 9);
    printf("# %u of %u opened, %u without asking SQLite\n", n_opened, rounds, n_sound);
}
