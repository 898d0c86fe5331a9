/* Each allocation of loading, checking and reading an environment's folder fails once: an error
 * comes back, nothing leaks (LeakSanitizer watches), and the same work then succeeds. */
#include "base/file.h"
#include "envs/env.h"
#include "envs/schema.h"
#include "tests/alloc.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#include <stdlib.h>

static struct agon_err err;

/* jansson 2.14 writes past its buffer when the buffer's growth fails (strbuffer_append_bytes() is
 * not asked), so its allocations are left alone here: by a function that is not wrapped. */
static void *jansson_malloc(size_t size)
{
    return aligned_alloc(16, (size + 15) / 16 * 16);
}

static void put(const char *dir, const char *name, const char *text)
{
    char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    EXPECT(agon_file_write(path, agon_str(text), false, &err) == 0);
}

static const char *folder(void)
{
    const char *dir = test_path("alloc");
    char tasks[4096];
    json_set_alloc_funcs(jansson_malloc, free);
    snprintf(tasks, sizeof(tasks), "%s/tasks/t1_l1", dir);
    EXPECT(agon_dir_make(tasks, &err) == 0);
    put(dir, "env.json",
        "{\"id\": \"a\", \"family\": \"general\", \"category\": \"b\", \"format_version\": 1,"
        " \"sources\": [{\"url\": \"u\", \"sha256\": \"00\"}]}");
    put(dir, "tools.lua", sample_tools);
    put(dir, "world.sql", sample_world);
    put(tasks, "task.json",
        "{\"level\": 2, \"parent\": \"t1_l0\", \"answer_schema\": {\"type\": \"string\"}, "
        "\"answers\": \"one\"}");
    put(tasks, "prompt.md", "p\n");
    put(tasks, "solution.lua", "s");
    put(tasks, "verifier.lua", "v");
    put(tasks, "answers.jsonl",
        "{\"answer\": \"x\", \"writes\": []}\n{\"answer\": \"y\", \"fails\": \"a\"}\n");
    return dir;
}

TEST(loading)
{
    const char *dir = folder();
    for (long n = 1; alloc_fail_at(n); n++) {
        struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
        int r = agon_env_load(&e, dir, &err);
        bool failed = alloc_failed();
        /* jansson and SQLite do not tell all that they lacked was memory; SQLite may do without. */
        EXPECT(r == 0 || failed);
        EXPECT(r <= 0 && (r == 0) == (e != NULL));
    }
}

TEST(storing_and_hashing)
{
    struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
    REQUIRE(agon_env_load(&e, folder(), &err) == 0);
    const char *dir = test_path("alloc_stored");
    char whole[65], hex[65];
    REQUIRE(agon_env_store(e, dir, &err) == 0 && agon_env_digest(dir, whole, &err) == 0);
    for (long n = 1; alloc_fail_at(n); n++) {
        int r = agon_env_store(e, dir, &err);
        bool failed = alloc_failed();
        EXPECT(failed ? r <= 0 : r == 0);
        EXPECT(agon_env_digest(dir, hex, &err) == 0); /* never half of an environment */
        EXPECT_TEXT(hex, whole);
    }
    for (long n = 1; alloc_fail_at(n); n++) {
        int r = agon_env_check_hashes(dir, &err);
        EXPECT(alloc_failed() ? r <= 0 : r == 0);
    }
}
