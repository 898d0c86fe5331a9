#include "base/file.h"
#include "base/store.h"
#include "tests/test.h"

#include <sqlite3.h>

/* A fresh database with one table. */
static struct sqlite3 *shop(void)
{
    struct sqlite3 *db = NULL;
    struct agon_err err = {0};
    if (agon_store_open(&db, ":memory:", AGON_STORE_CREATE, &err) ||
        agon_store_exec(db,
                        "CREATE TABLE stock(sku TEXT PRIMARY KEY, qty INTEGER CHECK(qty >= 0), "
                        "price REAL) STRICT;"
                        "INSERT INTO stock VALUES ('a', 1, 0.5), ('b', 2, NULL);",
                        &err))
        printf("# %s\n", err.text);
    return db;
}

static int64_t ask(struct sqlite3 *db, const char *sql)
{
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    if (agon_query_new(&q, db, sql, NULL) || agon_query_next(q, NULL) != AGON_ROW)
        return -1;
    return agon_query_get_int(q, 0);
}

TEST(every_type_goes_in_and_comes_out)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    REQUIRE(agon_query_new(&q, db, "SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7", NULL) == 0);
    agon_query_int(q, 1, INT64_MIN);
    agon_query_real(q, 2, 0.1);
    agon_query_text(q, 3, "caf\xC3\xA9");
    agon_query_str(q, 4, (struct agon_str){"a\0b", 3});
    agon_query_null(q, 5);
    agon_query_text(q, 6, NULL);
    agon_query_str(q, 7, (struct agon_str){NULL, 0});
    REQUIRE(agon_query_next(q, NULL) == AGON_ROW);
    EXPECT(agon_query_get_int(q, 0) == INT64_MIN);
    EXPECT(agon_query_get_real(q, 1) == 0.1);
    EXPECT_TEXT(agon_query_get_text(q, 2), "caf\xC3\xA9");
    EXPECT(agon_str_equal(agon_query_get_str(q, 3), (struct agon_str){"a\0b", 3}));
    EXPECT(agon_query_is_null(q, 4) && agon_query_is_null(q, 5) && !agon_query_is_null(q, 6));
    EXPECT_TEXT(agon_query_get_text(q, 4), "");
    EXPECT_TEXT(agon_query_get_text(q, 6), "");
    EXPECT(agon_query_next(q, NULL) == 0);
}

TEST(a_query_is_reusable_after_its_end_and_after_an_error)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    REQUIRE(agon_query_new(&q, db, "UPDATE stock SET qty = qty - ?2 WHERE sku = ?1;\n", NULL) == 0);
    agon_query_text(q, 1, "a");
    agon_query_int(q, 2, 5);
    struct agon_err err = {0};
    EXPECT(agon_query_run(q, &err) == AGON_ESTORE);
    EXPECT_HAS(err.text, "CHECK constraint failed");
    EXPECT_HAS(err.text, "UPDATE stock");
    agon_query_int(q, 2, 1); /* the binding of ?1 stands */
    EXPECT(agon_query_run(q, NULL) == 0);
    EXPECT(ask(db, "SELECT qty FROM stock WHERE sku = 'a'") == 0);
}

TEST(a_bad_binding_is_reported_once_by_next)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    REQUIRE(agon_query_new(&q, db, "SELECT ?1", NULL) == 0);
    struct agon_err err = {0};
    agon_query_int(q, 7, 1);
    agon_query_int(q, 1, 5);
    EXPECT(agon_query_next(q, &err) == AGON_ESTORE);
    EXPECT_HAS(err.text, "binding");
    EXPECT_HAS(err.text, "SELECT ?1");
    EXPECT(agon_query_next(q, NULL) == AGON_ROW);
    EXPECT(agon_query_get_int(q, 0) == 5);
}

TEST(one_statement_at_a_time)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    static const char *const refused[] = {"SELECT 1; SELECT 2", "", "  ", "-- nothing"};
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        EXPECT(agon_query_new(&q, db, refused[i], NULL) == AGON_EINPUT && !q);
    struct agon_err err = {0};
    EXPECT(agon_query_new(&q, db, "SELECT no_column FROM stock", &err) == AGON_ESTORE);
    EXPECT_HAS(err.text, "no such column: no_column");
}

TEST(double_quotes_never_make_a_string)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    EXPECT(agon_query_new(&q, db, "SELECT \"misspelt\" FROM stock", NULL) == AGON_ESTORE);
}

TEST(rolls_back_unless_committed)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    {
        struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
        REQUIRE(agon_txn_begin(&txn, db, NULL) == 0);
        REQUIRE(agon_store_exec(db, "DELETE FROM stock", NULL) == 0);
    }
    EXPECT(ask(db, "SELECT count(*) FROM stock") == 2);
    {
        struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
        REQUIRE(agon_txn_begin(&txn, db, NULL) == 0);
        EXPECT(agon_txn_begin(&(struct agon_txn){0}, db, NULL) == AGON_ESTORE); /* no nesting */
        REQUIRE(agon_store_exec(db, "DELETE FROM stock WHERE sku = 'a'", NULL) == 0);
        EXPECT(agon_txn_commit(&txn, NULL) == 0);
    }
    EXPECT(ask(db, "SELECT count(*) FROM stock") == 1);
}

TEST(a_transaction_that_sqlite_ended_itself_is_no_error_at_scope_end)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    {
        struct agon_txn txn AGON_AUTO(agon_txn_end) = {0};
        REQUIRE(agon_txn_begin(&txn, db, NULL) == 0);
        EXPECT(agon_store_exec(db, "INSERT OR ROLLBACK INTO stock VALUES ('a', 1, 1)", NULL) ==
               AGON_ESTORE);
        EXPECT(agon_txn_commit(&txn, NULL) == AGON_ESTORE);
    }
    EXPECT(agon_store_exec(db, "BEGIN; COMMIT", NULL) == 0);
}

TEST(settings_hold)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = shop();
    EXPECT(agon_store_exec(db,
                           "CREATE TABLE line(sku TEXT REFERENCES stock);"
                           "INSERT INTO line VALUES ('nothing')",
                           NULL) == AGON_ESTORE); /* foreign keys */
    EXPECT(agon_store_exec(db, "SELECT load_extension('x')", NULL) == AGON_ESTORE);
    EXPECT(ask(db, "PRAGMA writable_schema = 1; ") == -1);
    EXPECT(agon_store_exec(db, "DELETE FROM sqlite_schema", NULL) == AGON_ESTORE); /* defensive */
}

TEST(modes_say_who_may_create_and_write)
{
    const char *path = test_path("shop.db");
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    struct agon_err err = {0};
    EXPECT(agon_store_open(&db, path, AGON_STORE_WRITE, &err) == AGON_ESTORE);
    EXPECT_HAS(err.text, "shop.db: No such file");
    REQUIRE(agon_store_open(&db, path, AGON_STORE_CREATE, NULL) == 0);
    EXPECT(agon_store_exec(db, "CREATE TABLE t(x)", NULL) == 0);
    struct sqlite3 *reader AGON_AUTO(agon_store_closep) = NULL;
    REQUIRE(agon_store_open(&reader, path, AGON_STORE_READ, NULL) == 0);
    EXPECT(ask(reader, "SELECT count(*) FROM t") == 0);
    EXPECT(agon_store_exec(reader, "INSERT INTO t VALUES (1)", &err) == AGON_ESTORE);
    EXPECT_HAS(err.text, "readonly");
}

TEST(a_file_that_is_no_database_fails_at_the_door)
{
    const char *path = test_path("letter.db");
    REQUIRE(agon_file_write(path,
                            agon_str("Dear reader, this is not a database at all. ....."
                                     "...................................................."),
                            false, NULL) == 0);
    struct sqlite3 *db = NULL;
    struct agon_err err = {0};
    EXPECT(agon_store_open(&db, path, AGON_STORE_READ, &err) == AGON_ESTORE && !db);
    EXPECT_HAS(err.text, "file is not a database");
    EXPECT_HAS(err.text, "letter.db");
}
