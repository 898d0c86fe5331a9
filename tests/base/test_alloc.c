/* Each allocation of each constructor fails once: an error comes back, nothing leaks (ASan
 * and LeakSanitizer watch), and the same work then succeeds. */
#include "base/arena.h"
#include "base/file.h"
#include "base/http.h"
#include "base/json.h"
#include "base/memory.h"
#include "base/opt.h"
#include "base/store.h"
#include "tests/alloc.h"
#include "tests/test.h"

TEST(buffers)
{
    for (long n = 1; alloc_fail_at(n); n++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(10000);
        for (int i = 0; i < 50; i++)
            agon_buf_addf(&b, "line %d of several\n", i);
        bool failed = alloc_failed();
        EXPECT(agon_buf_check(&b, "b", NULL) == (failed ? AGON_ENOMEM : 0));
        char *text = agon_buf_steal(&b);
        EXPECT((text != NULL) == !failed);
        free(text);
    }
}

TEST(arenas)
{
    for (long n = 1; alloc_fail_at(n); n++) {
        struct agon_arena *a AGON_AUTO(agon_arena_freep) = NULL;
        int r = agon_arena_new(&a, 1 << 20, NULL);
        bool all = !r;
        for (int i = 0; !r && i < 100; i++)
            all = agon_arena_alloc(a, 1000) && all;
        EXPECT(all == !alloc_failed());
    }
}

/* Long and short strings, escapes of each kind, keys with and without them, all kinds of numbers.
 */
static const char json_sample[] =
    "{\"b\": [1, 2.5, \"x\", -0, 1e3], \"a\\u00e9\": {\"c\": null, \"d\": true, \"\": []},"
    " \"text\": \"a string that is longer than what a reader holds at first, with \\\"quotes\\\","
    " \\\\ and \\ud83d\\ude00 in its middle, and an end that a lost byte would hide\","
    " \"a key that is longer than what a reader holds at first \\n\": [[[[{}]]]]}";

TEST(json_parsing_and_writing)
{
    for (long n = 1; alloc_fail_at(n); n++) {
        json_auto_t *value = NULL;
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        int r = agon_json_parse(&value, agon_str(json_sample), NULL);
        if (!r) {
            agon_json_dump_sorted(&b, value);
            r = agon_buf_check(&b, "dump", NULL);
        }
        EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
        EXPECT(r == 0 || !value || b.failed);
    }
}

/* jansson's reader went on with the bytes it had memory for, and past their end. */
TEST(json_without_memory_from_some_point_on)
{
    for (long n = 1; alloc_fail_from(n); n++) {
        json_auto_t *value = NULL;
        int r = agon_json_parse(&value, agon_str(json_sample), NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM && !value : r == 0);
    }
}

TEST(broken_json_under_failing_memory_leaks_nothing)
{
    static const char *const broken[] = {
        "[{\"a\\n\": [1, \"\\u0041bc\", {\"x\": tru", "{\"\\u0061\": 1, \"a\": 2}",
        "[\"a\", \"b\\n", "[[[1, 2, 3], \"\\ud800\"]]", "{\"a\": 99999999999999999999}"};
    for (size_t i = 0; i < sizeof(broken) / sizeof(*broken); i++)
        for (long n = 1; alloc_fail_at(n); n++) {
            json_t *value = NULL;
            int r = agon_json_parse(&value, agon_str(broken[i]), NULL);
            EXPECT(r == AGON_EINPUT || (alloc_failed() && r == AGON_ENOMEM));
            EXPECT(!value);
        }
}

TEST(json_rewriting)
{
    static const char text[] =
        "[{\"b\": 1, \"a\": {\"x\": \"\\ud800\"}, \"b\": [2]}, "
        "0.000000000000000000000000000000000000000000000000000000000000000001]";
    for (long n = 1; alloc_fail_at(n); n++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        int r = agon_json_rewrite(&b, agon_str(text), NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
        EXPECT(r == 0 || b.size == 0);
    }
}

TEST(files)
{
    for (long n = 1; alloc_fail_at(n); n++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        const char *path = test_path("alloc/deep/file");
        int r = agon_dir_make(test_path("alloc/deep"), NULL);
        if (!r)
            r = agon_file_write(path, agon_str("content"), true, NULL);
        if (!r)
            r = agon_file_read(&b, path, 100, NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
        EXPECT(agon_dir_remove(test_path("alloc"), NULL) == 0); /* no leftovers in the way */
    }
}

static int store_round_trip(void)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    int r = agon_store_open(&db, ":memory:", AGON_STORE_CREATE, NULL);
    if (!r)
        r = agon_store_exec(db, "CREATE TABLE t(x TEXT) STRICT", NULL);
    if (!r)
        r = agon_txn_begin(&txn, db, NULL);
    if (!r)
        r = agon_query_new(&q, db, "INSERT INTO t VALUES (?1)", NULL);
    if (r)
        return r;
    agon_query_text(q, 1, "some text");
    r = agon_query_run(q, NULL);
    return r ? r : agon_txn_commit(&txn, NULL);
}

TEST(the_store)
{
    for (long n = 1; alloc_fail_at(n); n++) {
        int r = store_round_trip();
        /* SQLite does without some of its caches: such a failure need not show. */
        EXPECT(alloc_failed() ? r == AGON_ENOMEM || r == 0 : r == 0);
    }
}

static const struct agon_opt table[] = {{.name = "n", .type = AGON_OPT_INT}, {0}};

TEST(options)
{
    for (long n = 1; alloc_fail_at(n); n++) {
        json_auto_t *dump = agon_opt_dump(table, &(int64_t){7});
        EXPECT((dump == NULL) == alloc_failed());
    }
}

/* A stored configuration: read, taken over, written again. */
TEST(options_from_json)
{
    static const char text[] = "{\"n\": 12}";
    for (long n = 1; alloc_fail_at(n); n++) {
        json_auto_t *read = NULL;
        int64_t options = 0;
        int r = agon_json_parse(&read, agon_str(text), NULL);
        if (!r)
            r = agon_opt_load(table, &options, read, NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM && options == 0 : r == 0 && options == 12);
    }
}

TEST(http_requests)
{
    static const char *const headers[] = {"X-A: b", NULL};
    struct agon_http_request req = {.url = "http://127.0.0.1:9/",
                                    .post_body = "x",
                                    .post_size = 1,
                                    .headers = headers,
                                    .user_agent = "test"};
    for (long n = 1; alloc_fail_at(n); n++) {
        struct agon_http *h AGON_AUTO(agon_http_freep) = NULL;
        struct agon_http_transfer *t = NULL;
        int r = agon_http_new(&h, NULL);
        if (!r)
            r = agon_http_start(&t, h, &req, NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
    }
}

TEST(nothing_is_committed_once_memory_ran_out_unseen)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
    struct agon_err err;
    REQUIRE(agon_store_open(&db, ":memory:", AGON_STORE_CREATE, &err) == 0);
    REQUIRE(agon_store_exec(db, "CREATE TABLE t(a INTEGER PRIMARY KEY) STRICT", &err) == 0);
    REQUIRE(agon_txn_begin(&txn, db, &err) == 0);
    REQUIRE(alloc_fail_at(1));
    EXPECT(!agon_memory_alloc(10));
    EXPECT(alloc_failed() && agon_memory_ran_out());
    EXPECT(agon_txn_commit(&txn, &err) == AGON_ENOMEM);
    EXPECT_HAS(err.text, "out of memory");
    agon_memory_forget();
    EXPECT(agon_txn_commit(&txn, &err) == 0);
}
