/*
 * What is refused before it is used, what must not differ between two runs, and code that
 * ends its cells: A14 and C4 as gates are in tests/verifiers/test_gates.c and test_planted.c.
 */
#include "tests/attacks/victim.h"

#include "base/buf.h"
#include "base/json.h"
#include "sandbox/cell.h"
#include "tests/envs/samples.h"
#include "verifiers/taint.h"
#include "verifiers/trial.h"

#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- D1: arguments in the text of SQL ---- */

#define TOOL(parameters, body)                                                                   \
    "tool{ name='t', description='d', params=[[{\"type\":\"object\",\"properties\":{" parameters \
    "}}]], returns=[[{\"type\":\"array\"}]], run=function(world, a) " body " end }"

static enum outcome taint(const char *tools, const char *arguments, char *said, size_t size)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_err err;
    json_auto_t *given = json_loads(arguments, 0, NULL);
    int r = agon_runtime_open(&rt, victim_sandbox(), victim_world(), agon_str(tools), &out, &err);
    if (!r)
        r = agon_taint_check(rt, agon_runtime_tool(rt, 0), given, &out, &err);
    snprintf(said, size, "%s", r < 0 ? err.text : agon_buf_text(&out));
    return r < 0 ? STOP : r ? ITEM_REJECTED : CONTAINED;
}

#define TAINT_ATTACK(id, wanted, part, tools, arguments)                                 \
    ATTACK(id)                                                                           \
    {                                                                                    \
        char said[2000];                                                                 \
        EXPECT_OUTCOME(taint(tools, arguments, said, sizeof(said)), wanted, said, part); \
    }

#define NAME "\"name\":{\"type\":\"string\"}"
TAINT_ATTACK(D1_an_argument_between_quotes, ITEM_REJECTED, "puts the argument 'name' into the text",
             TOOL(NAME,
                  "return world:rows(\"SELECT id FROM hotel WHERE name = '\" .. a.name .. \"'\")"),
             "{\"name\": \"Corso\"}")
TAINT_ATTACK(D1_an_argument_in_a_pattern, ITEM_REJECTED, "'name'",
             TOOL(NAME, "return world:rows(('SELECT id FROM hotel WHERE name LIKE \"%%%s%%\"'):"
                        "format(a.name):gsub('\"', \"'\"))"),
             "{\"name\": \"Corso\"}")
TAINT_ATTACK(D1_an_argument_as_a_column, ITEM_REJECTED, "'name'",
             TOOL(NAME, "return world:rows('SELECT id FROM hotel ORDER BY ' .. a.name)"),
             "{\"name\": \"city\"}")
TAINT_ATTACK(D1_an_argument_as_a_column_in_brackets, ITEM_REJECTED, "'name'",
             TOOL(NAME, "return world:rows('SELECT id FROM hotel ORDER BY [' .. a.name .. ']')"),
             "{\"name\": \"city\"}")
TAINT_ATTACK(D1_an_argument_as_a_table, ITEM_REJECTED, "'name'",
             TOOL(NAME, "return world:rows('SELECT id FROM `' .. a.name .. '`')"),
             "{\"name\": \"hotel\"}")
TAINT_ATTACK(
    D1_an_argument_behind_a_test, ITEM_REJECTED, "'city'",
    TOOL(NAME ",\"city\":{\"type\":\"string\"}",
         "if not world:row('SELECT 1 AS one FROM hotel WHERE name = ?', a.name) then "
         "error('no such hotel') end return world:rows(\"SELECT id FROM hotel WHERE city = "
         "'\" .. a.city .. \"'\")"),
    "{\"name\": \"Corso\", \"city\": \"Wien\"}")
TAINT_ATTACK(D1_an_optional_argument, ITEM_REJECTED, "'name'",
             TOOL(NAME,
                  "local s = 'SELECT id FROM hotel' if a.name then s = s .. \" WHERE name = '\" "
                  ".. a.name .. \"'\" end return world:rows(s)"),
             "{}")
TAINT_ATTACK(D1_a_list_of_arguments, ITEM_REJECTED, "'names'",
             TOOL("\"names\":{\"type\":\"array\",\"items\":{\"type\":\"string\"}}",
                  "return world:rows(\"SELECT id FROM hotel WHERE name IN ('\" .. "
                  "table.concat(a.names, \"','\") .. \"')\")"),
             "{\"names\": [\"Corso\"]}")
TAINT_ATTACK(D1_bound_arguments_are_taken, CONTAINED, "",
             TOOL(NAME,
                  "return world:rows(\"SELECT id FROM hotel WHERE name LIKE '%' || ? || '%'\", "
                  "a.name)"),
             "{\"name\": \"Corso\"}")
TAINT_ATTACK(D1_one_of_a_few_words_is_taken, CONTAINED, "",
             TOOL("\"order_key\":{\"type\":\"string\",\"enum\":[\"id\",\"name\"]}",
                  "return world:rows('SELECT id FROM hotel ORDER BY ' .. a.order_key)"),
             "{\"order_key\": \"id\"}")
TAINT_ATTACK(D1_a_mistake_is_no_injection, CONTAINED, "",
             TOOL(NAME, "return world:rows('SELECT id FROM hotel WHERE WHERE name = ?', a.name)"),
             "{\"name\": \"Corso\"}")
TAINT_ATTACK(D1_an_error_of_its_own_is_taken, CONTAINED, "",
             TOOL(NAME, "error('SQL: no hotel ' .. a.name)"), "{\"name\": \"Corso\"}")

/* ---- C: two runs, one result ---- */

static const char varied[] =
    "local seen = {} for k, v in pairs({b = 1, a = 2, [3] = 'x', [2.5] = 'y', [true] = 1, "
    "['\\xc3\\xbc'] = 2, z = 3}) do seen[#seen + 1] = tostring(k) .. '=' .. tostring(v) end "
    "seen[#seen + 1] = tools.q{sql = \"SELECT name, upper(name) AS u, date('now') AS d, price FROM "
    "hotel ORDER BY name COLLATE NOCASE\"} seen[#seen + 1] = ('\\xc3\\xbc'):upper() "
    "seen[#seen + 1] = string.format('%5.2f %g %q', 1.5, 1e100, 1/3) seen[#seen + 1] = "
    "tostring({}) "
    "seen[#seen + 1] = tostring(1e15) .. tostring(2^53) .. tostring(-0.0) .. (7 // 0.0) "
    "table.sort(seen, function(a, b) return tostring(a) < tostring(b) end) "
    "return {#seen, seen}";

/* The bytes of one answer from a cell of another sandbox. */
static void answer_elsewhere(char *ret, size_t size)
{
    struct agon_sandbox *sb AGON_AUTO(agon_sandbox_closep) = NULL;
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_solved solved AGON_AUTO(agon_solved_deinit) = {0};
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_err err = {0};
    snprintf(ret, size, "?");
    agon_buf_addf(&text, "return function(tools) %s end", varied);
    int r = agon_sandbox_open(&sb, NULL, &err);
    if (!r)
        r = agon_runtime_open(&rt, sb, victim_world(), agon_str(victim_tools), &out, &err);
    if (!r)
        r = agon_runtime_solve(rt, agon_buf_str(&text), NULL, &solved, &out, &err);
    if (!EXPECT(r == 0)) {
        printf("# %s\n", r < 0 ? err.text : agon_buf_text(&out));
        return;
    }
    char *answer = json_dumps(solved.answer, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(ret, size, "%lld %lld %s", (long long)solved.usage.fuel, (long long)solved.usage.ops,
             answer);
    free(answer);
}

ATTACK(C6_locale_zone_environment_folder_and_mask_change_nothing)
{
    char first[4096], second[4096], folder[1024];
    answer_elsewhere(first, sizeof(first));
    REQUIRE(getcwd(folder, sizeof(folder)));
    static const char *const set[][2] = {
        {"TZ", "Asia/Kathmandu"}, {"LC_ALL", "tr_TR.UTF-8"}, {"LANG", "de_DE"},
        {"HOME", "/nowhere"},     {"LUA_INIT", "x = 1"},     {"LUA_PATH", "/tmp/?.lua"},
        {"HOSTNAME", "other"},    {"SQLITE_TMPDIR", "/tmp"}, {"MALLOC_PERTURB_", "7"}};
    for (size_t i = 0; i < sizeof(set) / sizeof(*set); i++)
        EXPECT(setenv(set[i][0], set[i][1], 1) == 0);
    mode_t mask = umask(077);
    EXPECT(chdir("/") == 0);
    answer_elsewhere(second, sizeof(second));
    EXPECT_TEXT(second, first);
    (void)umask(mask);
    EXPECT(chdir(folder) == 0);
    for (size_t i = 0; i < sizeof(set) / sizeof(*set); i++)
        EXPECT(unsetenv(set[i][0]) == 0);
}

/* The bytes that a solution gives with the rows without an order reversed, or a small page cache.
 */
static void replay(const char *code, bool reverse, int cache_kib, char *ret, size_t size)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_trial t AGON_AUTO(agon_trial_deinit) = {0};
    struct agon_err err = {0};
    agon_buf_addf(&text, "return function(tools) %s end", code);
    struct agon_trial_input input = {
        .reverse = reverse, .cache_kib = cache_kib, .solution = agon_buf_str(&text)};
    int r = agon_trial(victim_runtime(), &input, &t, &reason, &err);
    snprintf(ret, size, "?");
    if (!EXPECT(r == 0 && t.solved)) {
        printf("# %s\n", r < 0 ? err.text : r ? agon_buf_text(&reason) : t.unsolved);
        return;
    }
    char *answer = json_dumps(t.run.answer, JSON_ENCODE_ANY);
    snprintf(ret, size, "%s", answer);
    free(answer);
}

ATTACK(C4_rows_and_groups_without_an_order_are_found_by_reversal)
{
    static const char *const loose[] = {
        "return tools.q{sql = 'SELECT id FROM hotel'}",
        "return tools.q{sql = 'SELECT group_concat(name) AS names FROM hotel'}",
        "return tools.q{sql = 'SELECT name FROM hotel LIMIT 1'}",
        "return tools.q{sql = 'SELECT a.id FROM hotel a JOIN hotel b ON a.city = b.city'}",
    };
    char usual[2000], reversed[2000], small[2000];
    for (size_t i = 0; i < sizeof(loose) / sizeof(*loose); i++) {
        replay(loose[i], false, 0, usual, sizeof(usual));
        replay(loose[i], true, 0, reversed, sizeof(reversed));
        if (!EXPECT(strcmp(usual, reversed) != 0))
            printf("# %s: %s\n", loose[i], usual);
    }
    static const char sorted[] = "return tools.q{sql = 'WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL "
                                 "SELECT i + 1 FROM n WHERE i "
                                 "< 3000) SELECT i % 7 AS k, count(DISTINCT i * 37 % 101) AS c "
                                 "FROM n GROUP BY k ORDER BY k'}";
    replay(sorted, false, 0, usual, sizeof(usual));
    replay(sorted, true, 0, reversed, sizeof(reversed));
    replay(sorted, false, 1, small, sizeof(small));
    EXPECT_TEXT(reversed, usual);
    EXPECT_TEXT(small, usual);
}

ATTACK(C7_a_check_says_the_same_a_hundred_times)
{
    char first[sizeof(victim_said)];
    for (int i = 0; i < 100; i++) {
        EXPECT_OUTCOME(
            victim_check(agon_str("local n = 0 for k, v in pairs(world:row('SELECT * FROM hotel "
                                  "WHERE id = 1')) do n = n + #k end error(n .. ' ' .. "
                                  "world:value('SELECT group_concat(name) FROM hotel'))")),
            CONTAINED, victim_said, "Astoria");
        if (i == 0)
            snprintf(first, sizeof(first), "%s", victim_said);
        EXPECT_TEXT(victim_said, first);
        if (i % 10 == 9)
            agon_runtime_renew(victim_runtime());
    }
}

ATTACK(C8_an_order_without_order_gives_one_text)
{
    char first[sizeof(victim_said)];
    for (int i = 0; i < 5; i++) {
        EXPECT_OUTCOME(
            victim_answer(agon_str(
                "local t = {} for i = 1, 50 do t[i] = i * 37 % 51 end "
                "local n = 0 local ok, why = pcall(table.sort, t, function(a, b) n = n + 1 "
                "return n % 3 ~= 0 end) return {tostring(why), table.concat(t, ' ')}")),
            CONTAINED, victim_said, "");
        if (i == 0)
            snprintf(first, sizeof(first), "%s", victim_said);
        EXPECT_TEXT(victim_said, first);
        agon_runtime_renew(victim_runtime());
    }
}

/* The limits themselves are results: the same unit of fuel, the same operation. */
ATTACK(C7_limits_end_at_the_same_place_in_each_cell)
{
    char first[sizeof(victim_said)];
    for (int i = 0; i < 4; i++) {
        EXPECT_OUTCOME(
            victim_answer(agon_str(
                "local n, t = 0, {} local ok, why = pcall(function() for i = 1, 1e9 do "
                "n = n + #tools.q{sql = 'SELECT id, ' .. i % 7 .. ' AS x FROM hotel'} end end) "
                "return {n, tostring(why)}")),
            ITEM_REJECTED, victim_said, "");
        if (i == 0)
            snprintf(first, sizeof(first), "%s", victim_said);
        EXPECT_TEXT(victim_said, first);
        if (i % 2)
            agon_runtime_renew(victim_runtime());
    }
}

/* ---- D13, D14: worlds from elsewhere ---- */

static enum outcome open_image(const char *image, size_t size, char *said, size_t said_size)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_err err;
    const char *path = test_path("image.db");
    FILE *f = fopen(path, "wb");
    if (!EXPECT(f && fwrite(image, 1, size, f) == size && fclose(f) == 0))
        return STOP;
    int r = agon_runtime_open(&rt, victim_sandbox(), path, agon_str(""), &out, &err);
    snprintf(said, said_size, "%s", r < 0 ? err.text : agon_buf_text(&out));
    return r < 0 ? strstr(said, "ended 3 cells") ? WORKER_KILLED : STOP
           : r   ? ITEM_REJECTED
                 : CONTAINED;
}

static struct agon_buf image_of(const char *sql)
{
    struct agon_buf image = AGON_BUF(8 << 20);
    sqlite3 *db = NULL;
    char *why = NULL;
    EXPECT(sqlite3_open(":memory:", &db) == SQLITE_OK);
    if (!EXPECT(sqlite3_exec(db, sql, NULL, NULL, &why) == SQLITE_OK))
        printf("# %s\n", why);
    sqlite3_int64 size = 0;
    unsigned char *bytes = sqlite3_serialize(db, "main", &size, 0);
    agon_buf_add(&image, bytes, (size_t)size);
    sqlite3_free(bytes);
    sqlite3_free(why);
    sqlite3_close(db);
    return image;
}

#define WORLD_ATTACK(id, part, sql)                                                           \
    ATTACK(id)                                                                                \
    {                                                                                         \
        char said[1000];                                                                      \
        struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(sql);                     \
        EXPECT_OUTCOME(open_image(image.data, image.size, said, sizeof(said)), ITEM_REJECTED, \
                       said, part);                                                           \
    }
#define T "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT) STRICT; "
WORLD_ATTACK(D13_a_view, "", T "CREATE VIEW v AS SELECT * FROM t")
WORLD_ATTACK(D13_a_trigger, "", T "CREATE TRIGGER r AFTER INSERT ON t BEGIN DELETE FROM t; END")
WORLD_ATTACK(D13_a_virtual_table, "", "CREATE VIRTUAL TABLE v USING fts5(a)")
WORLD_ATTACK(D13_an_index_on_a_function, "not authorized to use function: printf",
             T "CREATE INDEX i ON t (printf('%.*c', 1000, a))")
WORLD_ATTACK(D13_a_generated_column, "",
             "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT AS (hex(id))) STRICT")
WORLD_ATTACK(D13_a_default_of_chance, "random",
             "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER DEFAULT (random())) STRICT")
WORLD_ATTACK(
    D13_a_default_of_history, "last_insert_rowid",
    "CREATE TABLE t (id INTEGER PRIMARY KEY, a INTEGER DEFAULT (last_insert_rowid())) STRICT")
WORLD_ATTACK(D13_a_partial_index_that_calls, "printf",
             T "CREATE INDEX i ON t (a) WHERE a > printf(1)")
WORLD_ATTACK(D13_a_check_that_calls, "sqlite_version",
             "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT CHECK (a <> sqlite_version())) STRICT")
WORLD_ATTACK(D13_a_table_without_key, "", "CREATE TABLE t (a TEXT) STRICT")
WORLD_ATTACK(D13_a_table_that_is_not_strict, "", "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
WORLD_ATTACK(D13_a_name_that_is_sql, "",
             "CREATE TABLE \"t; DROP TABLE u\" (id INTEGER PRIMARY KEY) STRICT")

ATTACK(D13_a_wal_header)
{
    char said[1000];
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(T);
    image.data[18] = image.data[19] = 2;
    EXPECT_OUTCOME(open_image(image.data, image.size, said, sizeof(said)), ITEM_REJECTED, said,
                   "WAL");
}

ATTACK(D13_no_database)
{
    char said[1000], zeros[8192] = "";
    EXPECT_OUTCOME(open_image("SQLite format 3", 16, said, sizeof(said)), ITEM_REJECTED, said,
                   "not an SQLite database");
    EXPECT_OUTCOME(open_image(zeros, sizeof(zeros), said, sizeof(said)), ITEM_REJECTED, said,
                   "not an SQLite database");
    EXPECT_OUTCOME(open_image("", 0, said, sizeof(said)), CONTAINED, said, ""); /* an empty world */
}

ATTACK(D13_truncated_at_each_page)
{
    char said[1000];
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(sample_world);
    for (size_t size = 4096; size < image.size; size += 4096)
        EXPECT_OUTCOME(open_image(image.data, size, said, sizeof(said)), ITEM_REJECTED, said, "");
}

/* A page that is none any more: told before anything is read from it. */
ATTACK(D13_a_damaged_page)
{
    char said[1000];
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(sample_world);
    REQUIRE(image.size > 2 * 4096);
    for (size_t page = 1; page * 4096 < image.size; page++) {
        struct agon_buf bad AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        agon_buf_add_str(&bad, agon_buf_str(&image));
        memset(bad.data + page * 4096, 0xa5, 200);
        EXPECT_OUTCOME(open_image(bad.data, bad.size, said, sizeof(said)), ITEM_REJECTED, said,
                       "the database is damaged");
    }
}

ATTACK(D13_a_wrong_page_size)
{
    static const unsigned char sizes[][2] = {{0, 0}, {1, 0}, {0, 1}, {2, 0}, {128, 0}, {255, 255}};
    char said[1000];
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(sample_world);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        memcpy(image.data + 16, sizes[i], 2);
        EXPECT_OUTCOME(open_image(image.data, image.size, said, sizeof(said)), ITEM_REJECTED, said,
                       "");
    }
}

#ifdef UNBOXED
enum { rounds_default = 300 };
#else
enum { rounds_default = 40 }; /* a box each */
#endif

/* Bits of a world flip; it is refused, or it opens and each of its tables can be asked. */
ATTACK(D13_bits_flip)
{
    static const char sweep[] =
        "tool{ name='sweep', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"string\"}]], run=function(world) local out = {} "
        "for _, t in ipairs{'hotel', 'booking'} do local ok, why = pcall(function() return "
        "world:rows('SELECT * FROM ' .. t .. ' ORDER BY 2') end) out[#out + 1] = tostring(ok) end "
        "return table.concat(out) end }";
    const char *rounds = getenv("AGON_ATTACK_ROUNDS");
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(sample_world);
    struct agon_buf bad AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    b->seconds_max = rounds ? 1e6 : b->seconds_max;
    int opened = 0, refused = 0;
    for (int i = 0; i < (rounds ? atoi(rounds) : rounds_default); i++) {
        struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
        struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
        struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        struct agon_err err;
        agon_buf_reset(&bad);
        agon_buf_add_str(&bad, agon_buf_str(&image));
        for (uint32_t n = 1 + agon_rng_below(&b->rng, i % 2 ? 60 : 3); n > 0; n--)
            bad.data[agon_rng_below(&b->rng, (uint32_t)bad.size)] ^=
                (char)(1 << agon_rng_below(&b->rng, 8));
        const char *path = test_path("flipped.db");
        FILE *f = fopen(path, "wb");
        REQUIRE(f && fwrite(bad.data, 1, bad.size, f) == bad.size && fclose(f) == 0);
        int r = agon_runtime_open(&rt, victim_sandbox(), path, agon_str(sweep), &out, &err);
        refused += r == AGON_REJECTED;
        if (i == 1)
            printf("# %s\n", agon_buf_text(&out));
        if (r == 0) {
            opened++;
            agon_buf_reset(&out);
            r = agon_instance_new(&in, rt, &err);
            r = r ? r : agon_instance_call(in, "sweep", agon_str("{}"), &out, &err);
        }
        if (!EXPECT(r >= 0))
            printf("# image %d: %s\n", i, err.text);
    }
    printf("# %d were refused, %d opened\n", refused, opened);
    EXPECT(refused > 0 && opened > 0);
}

ATTACK(D14_10_GB)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(4096);
    struct agon_err err = {0};
    const char *path = test_path("huge.db");
    FILE *f = fopen(path, "wb");
    REQUIRE(f && ftruncate(fileno(f), 10LL << 30) == 0 && fclose(f) == 0);
    EXPECT(agon_runtime_open(&rt, victim_sandbox(), path, agon_str(""), &out, &err) < 0);
    EXPECT_HAS(err.text, "huge.db");
    EXPECT(unlink(path) == 0);
}

ATTACK(D14_1000_tables)
{
    char said[1000];
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    for (int i = 0; i < 1000; i++)
        agon_buf_addf(&sql, "CREATE TABLE t%d (id INTEGER PRIMARY KEY) STRICT;", i);
    struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(agon_buf_text(&sql));
    EXPECT_OUTCOME(open_image(image.data, image.size, said, sizeof(said)), ITEM_REJECTED, said,
                   "at most 100");
}

ATTACK(D14_1000_columns)
{
    for (int over = 0; over < 2; over++) { /* ten tables of a hundred, and one column more */
        char said[1000];
        struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
        for (int i = 0; i < 10; i++) {
            agon_buf_addf(&sql, "CREATE TABLE t%d (id INTEGER PRIMARY KEY", i);
            for (int k = 1; k < 100 + (over && i == 9); k++)
                agon_buf_addf(&sql, ", c%d TEXT", k);
            agon_buf_adds(&sql, ") STRICT;");
        }
        struct agon_buf image AGON_AUTO(agon_buf_deinit) = image_of(agon_buf_text(&sql));
        EXPECT_OUTCOME(open_image(image.data, image.size, said, sizeof(said)),
                       over ? ITEM_REJECTED : CONTAINED, said, over ? "over 1000 columns" : "");
    }
}

/* D15: setting an authorizer or a pragma expires statements of ours; the reset goes on. */
ATTACK(D15_the_reset_survives_new_policies)
{
    for (int i = 0; i < 20; i++) {
        EXPECT_OUTCOME(victim_sql("x", "INSERT INTO booking VALUES (7, 1, 'Li', 2)"), CONTAINED,
                       victim_said, "1");
        EXPECT_OUTCOME(
            victim_check(agon_str("return world:value('SELECT count(*) FROM booking') == "
                                  "0")),
            CONTAINED, victim_said, "pass");
        victim_reset();
        EXPECT_OUTCOME(victim_sql("q", "SELECT count(*) AS n FROM booking"), CONTAINED, victim_said,
                       "[{\"n\": 0}]");
    }
}
