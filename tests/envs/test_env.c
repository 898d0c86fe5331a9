/* The folder: stored, loaded, digested, tampered with. */
#include "base/file.h"
#include "base/json.h"
#include "envs/env.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct agon_err err;

static void write_text(const char *path, const char *text)
{
    EXPECT(agon_file_write(path, agon_str(text), false, &err) == 0);
}

/* A folder with one task, stored. */
static bool store(const char *dir, const char *prompt)
{
    char world[4096];
    snprintf(world, sizeof(world), "%s-XXXXXX", test_path("world"));
    if (!EXPECT(sample_world_file(world) == 0))
        return false;
    static char url[] = "http://example.org/hotels.csv", sha256[] = "00", licence[] = "CC0",
                title[] = "";
    struct agon_source source = {url, sha256, licence, title};
    struct agon_task task = {
        .id = strdup("t1_l1"),
        .level = 1,
        .prompt = strdup(prompt),
        .answer_schema = json_pack("{s:s}", "type", "string"),
        .answers = AGON_ANSWERS_ONE,
        .effects = json_array(),
        .solution = strdup("return function(tools) return 'x' end"),
        .verifier = strdup("check{}"),
        .golden = json_pack("{s:s, s:[]}", "answer", "x", "writes"),
        .negatives = json_pack("[{s:s, s:s}]", "answer", "y", "fails", "a"),
    };
    struct agon_env e = {.id = strdup("hotels"),
                         .family = strdup("general"),
                         .category = strdup("travel"),
                         .sources = &source,
                         .n_sources = 1,
                         .tools = strdup(sample_tools),
                         .world_path = world,
                         .tasks = &task,
                         .n_tasks = 1};
    int r = agon_env_store(&e, dir, &err);
    if (!EXPECT(r == 0))
        printf("# %s\n", err.text);
    agon_task_deinit(&task);
    free(e.id);
    free(e.family);
    free(e.category);
    free(e.tools);
    (void)unlink(world);
    return r == 0;
}

TEST(what_is_stored_is_loaded)
{
    const char *dir = test_path("stored");
    REQUIRE(store(dir, "Which hotel?\n"));
    struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
    if (!EXPECT(agon_env_load(&e, dir, &err) == 0))
        printf("# %s\n", err.text);
    REQUIRE(e && e->n_tasks == 1 && e->n_sources == 1);
    EXPECT_TEXT(e->id, "hotels");
    EXPECT_TEXT(e->tools, sample_tools);
    EXPECT_TEXT(e->tasks[0].prompt, "Which hotel?\n");
    EXPECT_TEXT(e->sources[0].licence, "CC0");
    EXPECT(!e->tasks[0].parent && json_array_size(e->tasks[0].negatives) == 1);
    EXPECT_TEXT(agon_json_text(e->tasks[0].golden, "answer", ""), "x");
    EXPECT(agon_env_check_hashes(dir, &err) == 0);
}

TEST(storing_again_replaces_the_whole_folder)
{
    const char *dir = test_path("again");
    char first[65], second[65], third[65], path[4096];
    REQUIRE(store(dir, "one\n") && agon_env_digest(dir, first, &err) == 0);
    snprintf(path, sizeof(path), "%s/stray.txt", dir);
    write_text(path, "x");
    REQUIRE(store(dir, "two\n") && agon_env_digest(dir, second, &err) == 0);
    REQUIRE(store(dir, "one\n") && agon_env_digest(dir, third, &err) == 0);
    EXPECT(strcmp(first, second) != 0);
    EXPECT_TEXT(third, first);
    EXPECT(access(path, F_OK) != 0);
}

TEST(each_kind_of_tampering_is_named)
{
    const char *dir = test_path("tampered");
    static const char *const cases[][3] = {
        {"tools.lua", "x", "tools.lua: sha256 differs from env.json"},
        {"tasks/t1_l1/prompt.md", "other", "tasks/t1_l1/prompt.md: sha256 differs from env.json"},
        {"extra.lua", "x", "extra.lua: not listed in env.json"},
        {"world.db", NULL, "world.db: missing, though env.json lists it"},
        {"env.json", "{}", "env.json: lists no files with their sha256"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char path[4096];
        REQUIRE(store(dir, "one\n"));
        snprintf(path, sizeof(path), "%s/%s", dir, cases[i][0]);
        if (cases[i][1])
            write_text(path, cases[i][1]);
        else
            EXPECT(unlink(path) == 0);
        EXPECT(agon_env_check_hashes(dir, &err) == 1);
        EXPECT_TEXT(err.text, cases[i][2]);
    }
}

TEST(links_and_broken_files_are_refused_with_their_place)
{
    const char *dir = test_path("linked");
    char path[4096];
    static const char *const cases[][3] = {
        {"tasks/t1_l1/task.json", "{\"level\": 1}", "task.json"},
        {"tasks/t1_l1/answers.jsonl", "{\"answer\": 1}\n{\"answer\": 2}\n",
         "answers.jsonl: line 2: two lines without \"fails\""},
        {"tasks/t1_l1/task.json",
         "{\"level\": 4294967297, \"answer_schema\": {}, \"answers\": \"one\"}",
         "task.json: level is above 1000"},
        {"env.json", "{\"id\": \"a\"}", "env.json"},
        {"env.json",
         "{\"id\": \"a\", \"family\": \"b\", \"category\": \"c\", \"format_version\": "
         "4294967297}",
         "format_version 4294967297 is not 1"},
        {"env.json",
         "{\"id\": \"a\\u001b[2J\", \"family\": \"b\", \"category\": \"c\", \"format_version\": 1}",
         "env.json: id is no name"},
        {"env.json",
         "{\"id\": \"\", \"family\": \"b\", \"category\": \"c\", \"format_version\": 1}",
         "env.json: id is no name"},
        {"env.json",
         "{\"id\": \"a\", \"family\": \"../b\", \"category\": \"c\", \"format_version\": 1}",
         "env.json: family is no name"},
        {"tasks/t1_l1/task.json",
         "{\"level\": 2, \"parent\": \"t1\\n\", \"answer_schema\": {\"type\": \"string\"}, "
         "\"answers\": \"one\"}",
         "task.json: parent is no name of a task"},
        {"tools.lua", "\xff", "tools.lua: not UTF-8 text"},
        {"tasks/t1_l1/answers.jsonl", "{\"answer\": 1}\n{\"fails\": \"a\"}\n",
         "answers.jsonl: line 2: a line without \"answer\""},
        {"tasks/t1_l1/answers.jsonl", "[1]\n", "answers.jsonl: line 1: a line without"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
        REQUIRE(store(dir, "one\n"));
        snprintf(path, sizeof(path), "%s/%s", dir, cases[i][0]);
        write_text(path, cases[i][1]);
        EXPECT(agon_env_load(&e, dir, &err) < 0);
        EXPECT_HAS(err.text, cases[i][2]);
    }
    static const char *const texts[] = {"tools.lua", "tasks/t1_l1/prompt.md",
                                        "tasks/t1_l1/solution.lua", "tasks/t1_l1/verifier.lua"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++) {
        struct agon_env *half AGON_AUTO(agon_env_freep) = NULL;
        REQUIRE(store(dir, "one\n"));
        snprintf(path, sizeof(path), "%s/%s", dir, texts[i]);
        EXPECT(agon_file_write(path, (struct agon_str){"-- a\0b", 6}, false, &err) == 0);
        EXPECT(agon_env_load(&half, dir, &err) < 0); /* one reader would see half of it */
        EXPECT_HAS(err.text, "not UTF-8 text");
    }
    static const char hidden[] = "{\"answer\": 1}\n\0\n{\"answer\": 2, \"fails\": \"a\"}\n";
    struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
    REQUIRE(store(dir, "one\n"));
    snprintf(path, sizeof(path), "%s/tasks/t1_l1/answers.jsonl", dir);
    EXPECT(agon_file_write(path, (struct agon_str){hidden, sizeof(hidden) - 1}, false, &err) == 0);
    EXPECT(agon_env_load(&e, dir, &err) < 0); /* the negatives stood behind the NUL, unseen */
    EXPECT_HAS(err.text, "answers.jsonl: not UTF-8 text");
    REQUIRE(store(dir, "one\n"));
    snprintf(path, sizeof(path), "%s/tools.lua", dir);
    EXPECT(unlink(path) == 0 && symlink("/etc/passwd", path) == 0);
    EXPECT(agon_env_load(&e, dir, &err) < 0);
    EXPECT_HAS(err.text, "tools.lua");
}

/* G6: each part of an environment in the place of which something else stands. */
TEST(nothing_of_a_folder_is_read_from_elsewhere)
{
    static const char *const parts[] = {"env.json",
                                        "tools.lua",
                                        "world.db",
                                        "tasks",
                                        "tasks/t1_l1",
                                        "tasks/t1_l1/task.json",
                                        "tasks/t1_l1/prompt.md",
                                        "tasks/t1_l1/solution.lua",
                                        "tasks/t1_l1/verifier.lua",
                                        "tasks/t1_l1/answers.jsonl"};
    const char *dir = test_path("here");
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++)
        for (int kind = 0; kind < 3; kind++) {
            char path[4096], other[4200];
            struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
            struct agon_buf bytes AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
            REQUIRE(store(dir, "one\n"));
            snprintf(path, sizeof(path), "%s/%s", dir, parts[i]);
            snprintf(other, sizeof(other), "%s.elsewhere%zu%d", dir, i, kind);
            REQUIRE(rename(path, other) == 0);
            EXPECT(kind == 0   ? symlink(other, path) == 0 /* the same bytes, elsewhere */
                   : kind == 1 ? mkfifo(path, 0600) == 0
                               : mkdir(path, 0700) == 0);
            int r = agon_env_load(&e, dir, &err);
            if (!r && e->world_path)
                r = agon_file_read(&bytes, e->world_path, 1 << 20, &err);
            int hashes = agon_env_check_hashes(dir, &err);
            /* An empty folder may stand for tasks, or be a task that is not there. */
            if (!EXPECT(hashes != 0) || !EXPECT(r != 0 || (kind == 2 && i == 3)))
                printf("# %s, kind %d: loading %d, hashes %d\n", parts[i], kind, r, hashes);
            REQUIRE(agon_dir_remove(dir, &err) == 0);
        }
}

/* A folder by hand: world.sql instead of world.db, and no hashes. */
static void by_hand(const char *dir, const char *sql)
{
    char path[4096];
    EXPECT(agon_dir_make(dir, &err) == 0);
    snprintf(path, sizeof(path), "%s/env.json", dir);
    write_text(
        path,
        "{\"id\": \"a\", \"family\": \"general\", \"category\": \"b\", \"format_version\": 1}");
    snprintf(path, sizeof(path), "%s/tools.lua", dir);
    write_text(path, "");
    snprintf(path, sizeof(path), "%s/world.sql", dir);
    write_text(path, sql);
}

TEST(a_world_of_sql_is_built_and_removed)
{
    const char *dir = test_path("hand");
    by_hand(dir, sample_world);
    struct agon_env *e = NULL;
    if (!EXPECT(agon_env_load(&e, dir, &err) == 0))
        printf("# %s\n", err.text);
    REQUIRE(e);
    char *path = strdup(e->world_path);
    EXPECT(access(path, R_OK) == 0);
    agon_env_free(e);
    EXPECT(access(path, F_OK) != 0);
    free(path);
}

TEST(a_world_of_sql_can_do_nothing_else)
{
    static const char *const cases[] = {
        "ATTACH '/tmp/agon-test-attached' AS x; CREATE TABLE x.t (a);",
        "CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT; SELECT load_extension('x');",
        "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; END;",
        "VACUUM INTO '/tmp/agon-test-vacuum';",
        ("CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT; INSERT INTO t WITH RECURSIVE n(i) AS "
         "(SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0;"),
    };
    const char *dir = test_path("hostile");
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
        by_hand(dir, cases[i]);
        EXPECT(agon_env_load(&e, dir, &err) == AGON_EINPUT);
        EXPECT_HAS(err.text, "world.sql: ");
    }
    EXPECT(access("/tmp/agon-test-attached", F_OK) != 0 &&
           access("/tmp/agon-test-vacuum", F_OK) != 0);
}
