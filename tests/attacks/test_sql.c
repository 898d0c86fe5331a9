/* C3, D: statements that reach out of the world, write what they may not, or never end. */
#include "tests/attacks/victim.h"

#include "base/buf.h"

SQL_ATTACK(D2_select_1_drop_table_hotel, "q", TOOL_ERROR, "one statement only",
           "SELECT 1; DROP TABLE hotel")
SQL_ATTACK(D2_select_1_select_2, "q", TOOL_ERROR, "one statement only", "SELECT 1; ; SELECT 2")
SQL_ATTACK(D3_nothing, "q", TOOL_ERROR, "empty", "")
SQL_ATTACK(D3_nothing_too, "q", TOOL_ERROR, "empty", "-- nothing")
SQL_ATTACK(D3_attach_etc_passwd_as_p, "q", TOOL_ERROR, "not allowed here",
           "ATTACH '/etc/passwd' AS p")
SQL_ATTACK(D3_vacuum_into_tmp_x, "q", TOOL_ERROR, "this statement writes", "VACUUM INTO '/tmp/x'")
SQL_ATTACK(D5_pragma_writable_schema_1, "q", TOOL_ERROR, "not allowed here",
           "PRAGMA writable_schema=1")
SQL_ATTACK(D3_pragma_max_page_count_1, "q", TOOL_ERROR, "not allowed here",
           "PRAGMA max_page_count=1")
SQL_ATTACK(D3_explain_select_1, "q", TOOL_ERROR, "EXPLAIN", "EXPLAIN SELECT 1")
SQL_ATTACK(D3_explain_query_plan_select_1, "q", TOOL_ERROR, "EXPLAIN",
           "EXPLAIN QUERY PLAN SELECT 1")
SQL_ATTACK(D3_begin, "q", TOOL_ERROR, "not allowed here", "BEGIN")
SQL_ATTACK(D3_rollback, "q", TOOL_ERROR, "not allowed here", "ROLLBACK")
SQL_ATTACK(D3_commit, "q", TOOL_ERROR, "not allowed here", "COMMIT")
SQL_ATTACK(D3_savepoint_a, "q", TOOL_ERROR, "not allowed here", "SAVEPOINT a")
SQL_ATTACK(D3_release_call, "q", TOOL_ERROR, "not allowed here", "RELEASE call")
SQL_ATTACK(D3_select_load_extension_x, "q", TOOL_ERROR, "load_extension",
           "SELECT load_extension('x')")
SQL_ATTACK(D3_select_readfile_etc_passwd, "q", TOOL_ERROR, "no such function",
           "SELECT readfile('/etc/passwd')")
SQL_ATTACK(D3_select_fts3_tokenizer_simple, "q", TOOL_ERROR, "fts3_tokenizer",
           "SELECT fts3_tokenizer('simple')")
SQL_ATTACK(D3_select_printf_c_100000000_x, "q", TOOL_ERROR, "printf",
           "SELECT printf('%.*c', 100000000, 'x')")
SQL_ATTACK(D3_select_format_d_1, "q", TOOL_ERROR, "format", "SELECT format('%d', 1)")
SQL_ATTACK(C3_select_random, "q", TOOL_ERROR, "random", "SELECT random()")
SQL_ATTACK(C3_select_hex_randomblob_4, "q", TOOL_ERROR, "randomblob", "SELECT hex(randomblob(4))")
SQL_ATTACK(C3_select_changes, "q", TOOL_ERROR, "changes", "SELECT changes()")
SQL_ATTACK(C3_select_last_insert_rowid, "q", TOOL_ERROR, "last_insert_rowid",
           "SELECT last_insert_rowid()")
SQL_ATTACK(C3_select_sqlite_version, "q", TOOL_ERROR, "sqlite_version", "SELECT sqlite_version()")
SQL_ATTACK(D3_select_zeroblob_1000000, "q", TOOL_ERROR, "zeroblob", "SELECT zeroblob(1000000)")
SQL_ATTACK(D5_select_from_sqlite_master, "q", TOOL_ERROR, "not allowed here",
           "SELECT * FROM sqlite_master")
SQL_ATTACK(D5_select_count_from_sqlite_schema, "q", TOOL_ERROR, "not allowed here",
           "SELECT count(*) FROM sqlite_schema")
SQL_ATTACK(D5_select_count_from_the_schema_in_capitals, "q", TOOL_ERROR, "not allowed here",
           "SELECT count(*) FROM SQLITE_SCHEMA")
SQL_ATTACK(D5_select_count_from_the_statistics_in_capitals, "q", TOOL_ERROR, "no such table",
           "SELECT count(*) FROM SQLite_Stat1")
SQL_ATTACK(D3_select_name_from_pragma_table_info_hotel, "q", TOOL_ERROR, "not allowed here",
           "SELECT name FROM pragma_table_info('hotel')")
SQL_ATTACK(C3_select_from_pragma_user_version, "q", TOOL_ERROR, "not authorized",
           "SELECT * FROM pragma_user_version")
SQL_ATTACK(D3_select_from_dbstat, "q", TOOL_ERROR, "vtable constructor failed",
           "SELECT * FROM dbstat")
SQL_ATTACK(D3_select_id_as_a_name_as_a_from_hotel, "q", TOOL_ERROR, "two columns are named 'a'",
           "SELECT id AS a, name AS a FROM hotel")
SQL_ATTACK(D3_select_no_such_column_from_hotel, "q", TOOL_ERROR, "no such column",
           "SELECT \"no such column\" FROM hotel")
SQL_ATTACK(D3_select_name, "q", TOOL_ERROR, "plain ?", "SELECT :name")
SQL_ATTACK(D3_select_1, "q", TOOL_ERROR, "plain ?", "SELECT ?1")
SQL_ATTACK(D3_delete_from_hotel, "q", TOOL_ERROR, "not allowed here", "DELETE FROM hotel")
SQL_ATTACK(C3_select_datetime_now_localtime, "q", TOOL_ERROR, "local time",
           "SELECT datetime('now', 'localtime')")
SQL_ATTACK(D5_create_temp_table_t_a, "q", TOOL_ERROR, "not allowed here", "CREATE TEMP TABLE t (a)")
SQL_ATTACK(D5_update_sqlite_schema_set_sql_x, "x", TOOL_ERROR, "may not be modified",
           "UPDATE sqlite_schema SET sql = 'x'")
SQL_ATTACK(D5_insert_into_sqlite_sequence_values_a_1, "x", TOOL_ERROR, "no such table",
           "INSERT INTO sqlite_sequence VALUES ('a', 1)")
SQL_ATTACK(D5_create_table_t_id_integer_primary_key_st, "x", TOOL_ERROR, "not allowed here",
           "CREATE TABLE t (id INTEGER PRIMARY KEY) STRICT")
SQL_ATTACK(D5_create_trigger_tr_after_insert_on_bookin, "x", TOOL_ERROR, "not allowed here",
           "CREATE TRIGGER tr AFTER INSERT ON booking BEGIN DELETE FROM hotel; END")
SQL_ATTACK(D5_create_view_v_as_select_1, "x", TOOL_ERROR, "not allowed here",
           "CREATE VIEW v AS SELECT 1")
SQL_ATTACK(D5_create_virtual_table_v_using_fts5_a, "x", TOOL_ERROR, "not allowed here",
           "CREATE VIRTUAL TABLE v USING fts5(a)")
SQL_ATTACK(D5_drop_table_booking, "x", TOOL_ERROR, "not allowed here", "DROP TABLE booking")
SQL_ATTACK(D5_alter_table_booking_add_column_x_text, "x", TOOL_ERROR, "not allowed here",
           "ALTER TABLE booking ADD COLUMN x TEXT")
SQL_ATTACK(D5_create_index_i_on_hotel_name, "x", TOOL_ERROR, "not allowed here",
           "CREATE INDEX i ON hotel(name)")
SQL_ATTACK(D5_reindex, "x", TOOL_ERROR, "not allowed here", "REINDEX")
SQL_ATTACK(D5_analyze, "x", TOOL_ERROR, "not allowed here", "ANALYZE")
SQL_ATTACK(D3_select_1_too, "x", TOOL_ERROR, "exec is for", "SELECT 1")
SQL_ATTACK(D2_delete_from_hotel_delete_from_booking, "x", TOOL_ERROR, "one statement only",
           "DELETE FROM hotel; DELETE FROM booking")
SQL_ATTACK(D7_insert_into_booking_values_1_99_x_1, "x", TOOL_ERROR, "FOREIGN KEY",
           "INSERT INTO booking VALUES (1, 99, 'x', 1)")
SQL_ATTACK(D7_insert_into_booking_values_1_1_x_0, "x", TOOL_ERROR, "CHECK constraint failed",
           "INSERT INTO booking VALUES (1, 1, 'x', 0)")
SQL_ATTACK(D7_insert_into_booking_values_1_1_x_three, "x", TOOL_ERROR,
           "cannot store TEXT value in INTEGER column",
           "INSERT INTO booking VALUES (1, 1, 'x', 'three')")
SQL_ATTACK(D7_insert_into_hotel_id_name_city_values_9, "x", TOOL_ERROR, "UNIQUE constraint failed",
           "INSERT INTO hotel (id, name, city) VALUES (9, 'Corso', 'Rom')")

/* ---- other ways out ---- */

SQL_ATTACK(X100_a_comment_hides_a_second_statement, "q", TOOL_ERROR, "one statement only",
           "SELECT 1 /* */; /* */ DELETE FROM hotel")
SQL_ATTACK(X100_a_comment_without_end, "q", CONTAINED, "[{\"a\": 1}]", "SELECT 1 AS a /* ; DELETE")
SQL_ATTACK(X101_a_table_of_all_pragmas, "q", TOOL_ERROR, "not a",
           "SELECT * FROM pragma_pragma_list")
SQL_ATTACK(X101_a_table_of_compile_options, "q", TOOL_ERROR, "",
           "SELECT * FROM pragma_compile_options")
SQL_ATTACK(X101_a_table_of_the_database_list, "q", TOOL_ERROR, "",
           "SELECT file FROM pragma_database_list")
SQL_ATTACK(X102_bytecode, "q", TOOL_ERROR, "", "SELECT * FROM bytecode('SELECT 1')")
SQL_ATTACK(X102_statements_of_others, "q", TOOL_ERROR, "", "SELECT sql FROM sqlite_stmt")
SQL_ATTACK(X102_the_temporary_schema, "q", TOOL_ERROR, "", "SELECT * FROM sqlite_temp_schema")
SQL_ATTACK(X102_files_as_tables, "q", TOOL_ERROR, "", "SELECT * FROM fsdir('/')")
SQL_ATTACK(X102_edit, "q", TOOL_ERROR, "", "SELECT edit('x', 'sh')")
SQL_ATTACK(X103_schema_through_a_view_of_json, "q", TOOL_ERROR, "not",
           "SELECT value FROM json_each((SELECT json_group_array(sql) FROM sqlite_schema))")
SQL_ATTACK(X103_json_tree, "q", TOOL_ERROR, "", "SELECT count(*) AS n FROM json_tree('[1]')")
SQL_ATTACK(X104_rowid_beyond_the_key, "q", CONTAINED, "[{\"id\": 1}]",
           "SELECT rowid FROM hotel WHERE rowid = 1")
SQL_ATTACK(X104_a_pointer_as_value, "q", TOOL_ERROR, "", "SELECT fts5(?)")
SQL_ATTACK(X105_collations_that_are_not_there, "q", TOOL_ERROR, "no such collation",
           "SELECT 'a' < 'b' COLLATE evil AS x")
SQL_ATTACK(X105_indexed_by_what_is_not_there, "q", TOOL_ERROR, "no such index",
           "SELECT id FROM hotel INDEXED BY evil")
SQL_ATTACK(X106_savepoint_in_another_case, "q", TOOL_ERROR, "not allowed here", "sAvEpOiNt call")
SQL_ATTACK(X106_end_of_transaction, "x", TOOL_ERROR, "", "END")
SQL_ATTACK(
    X107_a_name_of_64_KiB, "q", TOOL_ERROR, "",
    "SELECT 1 AS \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\" FROM evil")
SQL_ATTACK(
    X108_an_upsert_with_a_second_table, "x", TOOL_ERROR, "no such table: evil",
    "INSERT INTO booking VALUES (1, 1, 'x', 1) ON CONFLICT DO UPDATE SET guest = (SELECT sql "
    "FROM evil)")
SQL_ATTACK(
    X108_an_upsert_reads_the_schema, "x", TOOL_ERROR, "",
    "INSERT INTO booking VALUES (1, 1, 'x', 1) ON CONFLICT DO UPDATE SET guest = (SELECT sql "
    "FROM sqlite_schema)")
SQL_ATTACK(X109_replace_deletes_what_others_refer_to, "x", CONTAINED, "1",
           "REPLACE INTO hotel VALUES (1, 'Astoria', 'Wien', 120, 4)")

SQL_ATTACK(X118_the_tokenizer_of_fts3, "q", TOOL_ERROR, "",
           "SELECT count(*) AS n FROM fts3tokenize('simple')")
SQL_ATTACK(X118_the_pages_of_the_database, "q", TOOL_ERROR, "",
           "SELECT count(*) AS n FROM sqlite_dbpage")
SQL_ATTACK(X118_a_series, "q", TOOL_ERROR, "",
           "SELECT count(*) AS n FROM generate_series(1, 1000000000)")
SQL_ATTACK(X118_a_table_of_another_schema, "q", TOOL_ERROR, "no such table",
           "SELECT id FROM temp.hotel")
SQL_ATTACK(X118_the_schema_by_its_full_name, "q", TOOL_ERROR, "not allowed here",
           "SELECT sql FROM \"main\".[sqlite_schema]")
SQL_ATTACK(X118_the_schema_of_temporary_tables, "x", TOOL_ERROR, "",
           "INSERT INTO temp.sqlite_schema VALUES ('table', 'a', 'a', 2, 'CREATE TABLE a (b)')")
SQL_ATTACK(X119_returning_the_schema, "x", TOOL_ERROR, "not allowed here",
           "INSERT INTO booking VALUES (1, 1, 'x', 1) RETURNING (SELECT sql FROM sqlite_schema)")
SQL_ATTACK(X119_updating_from_the_schema, "x", TOOL_ERROR, "not allowed here",
           "UPDATE hotel SET name = s.sql FROM sqlite_schema s")
SQL_ATTACK(X119_deleting_by_the_schema, "x", TOOL_ERROR, "not allowed here",
           "DELETE FROM booking WHERE EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'hotel')")
SQL_ATTACK(X120_all_names_of_a_row_id, "q", TOOL_ERROR, "two columns are named",
           "SELECT rowid, _rowid_, oid FROM hotel")
SQL_ATTACK(X120_two_characters_as_escape, "q", TOOL_ERROR, "ESCAPE",
           "SELECT id FROM hotel WHERE name LIKE 'a' ESCAPE 'xy'")

/* ---- clock and chance ---- */

SQL_ATTACK(C3_all_clocks_stand_still, "q", CONTAINED,
           "[{\"a\": \"2025-01-01\", \"b\": \"00:00:00\", \"c\": 1735689600, \"d\": 2460676.5, "
           "\"e\": \"2025-01-01 00:00:00\", \"f\": \"1735689600\"}]",
           "SELECT date() AS a, time('now') AS b, unixepoch() AS c, julianday('now') AS d, "
           "CURRENT_TIMESTAMP AS e, strftime('%s', 'now') AS f")
SQL_ATTACK(C3_utc_as_local_time, "q", TOOL_ERROR, "local time",
           "SELECT datetime('now', 'utc') AS a")
SQL_ATTACK(C3_order_by_random, "q", TOOL_ERROR, "random", "SELECT id FROM hotel ORDER BY random()")
SQL_ATTACK(C3_total_changes, "q", TOOL_ERROR, "total_changes", "SELECT total_changes()")
SQL_ATTACK(C3_source_id, "q", TOOL_ERROR, "sqlite_source_id", "SELECT sqlite_source_id()")

/* ---- numbers and bytes: one rule each ---- */

SQL_ATTACK(D11_infinity, "q", TOOL_ERROR, "infinite", "SELECT 9e999 AS v")
SQL_ATTACK(D11_minus_infinity, "q", TOOL_ERROR, "infinite", "SELECT -1e308 * 10 AS v")
SQL_ATTACK(D11_no_number_is_null, "q", CONTAINED, "[{\"v\": null}]", "SELECT 0.0 / 0.0 AS v")
SQL_ATTACK(D11_integers_overflow_to_floats, "q", CONTAINED, "[{\"v\": 9.223372036854776e+18}]",
           "SELECT 9223372036854775807 + 1 AS v")
SQL_ATTACK(D11_the_sum_that_overflows, "q", TOOL_ERROR, "integer overflow",
           "SELECT sum(v) AS s FROM (SELECT 9223372036854775807 AS v UNION ALL SELECT 1)")
SQL_ATTACK(D11_abs_of_the_least_integer, "q", TOOL_ERROR, "integer overflow",
           "SELECT abs(-9223372036854775807 - 1) AS v")
SQL_ATTACK(D11_division_of_the_least_integer, "q", CONTAINED, "9.223372036854776e+18",
           "SELECT (-9223372036854775807 - 1) / -1 AS v")
SQL_ATTACK(D11_remainder_of_the_least_integer, "q", CONTAINED, "[{\"v\": 0}]",
           "SELECT (-9223372036854775807 - 1) % -1 AS v")
SQL_ATTACK(
    D11_shifts_beyond_64_bits, "q", CONTAINED, "[{\"a\": 0, \"b\": -1, \"c\": 0, \"d\": 0}]",
    "SELECT 1 << 64 AS a, -1 >> 9223372036854775807 AS b, 1 << (-9223372036854775807 - 1) AS "
    "c, 1 >> 64 AS d")
SQL_ATTACK(
    D11_windows_beyond_64_bits, "q", CONTAINED, "\"n\": null",
    "SELECT id, lag(id, 9223372036854775807) OVER (ORDER BY id) AS n, sum(id) OVER (ORDER BY "
    "id ROWS BETWEEN 9223372036854775807 PRECEDING AND 9223372036854775807 FOLLOWING) AS s "
    "FROM hotel ORDER BY id")
SQL_ATTACK(D11_windows_of_less_than_nothing, "q", TOOL_ERROR, "non-negative",
           "SELECT sum(id) OVER (ORDER BY id ROWS BETWEEN -1 PRECEDING AND CURRENT ROW) AS s FROM "
           "hotel")
SQL_ATTACK(D11_dates_beyond_the_calendar, "q", CONTAINED,
           "[{\"a\": null, \"b\": null, \"c\": null}]",
           "SELECT date('9999-12-31', '+1000000000000000000 days') AS a, julianday(9e99) AS b, "
           "strftime('%J%J%J', -1e300) AS c")
SQL_ATTACK(D10_a_blob, "q", TOOL_ERROR, "BLOB", "SELECT x'00ff' AS v")
SQL_ATTACK(D10_text_that_is_no_utf8, "q", TOOL_ERROR, "not valid UTF-8",
           "SELECT CAST(x'ff41' AS TEXT) AS v")
SQL_ATTACK(D10_a_surrogate, "q", TOOL_ERROR, "not valid UTF-8",
           "SELECT CAST(x'eda080' AS TEXT) AS v")
SQL_ATTACK(D10_nul, "q", TOOL_ERROR, "NUL", "SELECT 'a' || char(0) || 'b' AS v")
SQL_ATTACK(D10_a_blob_where_text_belongs, "x", TOOL_ERROR, "cannot store BLOB value in TEXT column",
           "INSERT INTO hotel VALUES (9, x'00ff', 'Rom', 1, 1)")
SQL_ATTACK(D10_a_column_named_by_a_quote, "q", CONTAINED, "[{\"\\\"}, {\\\"\": 1}]",
           "SELECT 1 AS \"\"\"}, {\"\"\"")

/* ---- work without end ---- */

#define COUNT "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
SQL_ATTACK(D6_a_recursion_without_end, "q", TOOL_ERROR, "operations in one statement",
           COUNT "SELECT count(*) AS c FROM n")
SQL_ATTACK(
    D6_a_recursion_that_sorts, "q", TOOL_ERROR, "operations in one statement",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i * 7919 % 1000003 + 1 FROM n ORDER BY "
    "1) SELECT max(i) AS i FROM n")
SQL_ATTACK(
    D6_a_cross_join, "q", TOOL_ERROR, "operations in one statement",
    "SELECT count(*) AS c FROM hotel a, hotel b, hotel c, hotel d, hotel e, hotel f, hotel g,"
    " hotel h, hotel i, hotel j, hotel k, hotel l, hotel m")
SQL_ATTACK(D6_correlated_subselects, "q", TOOL_ERROR, "operations in one statement",
           COUNT "SELECT (SELECT count(*) FROM n m WHERE m.i < 1000 AND m.i > n.i LIMIT 1) AS c "
                 "FROM n LIMIT 100000")
SQL_ATTACK(D6_windows, "q", TOOL_ERROR, "operations in one statement",
           COUNT
           "SELECT sum(i) OVER (ORDER BY i ROWS BETWEEN 100000 PRECEDING AND CURRENT ROW) AS s "
           "FROM (SELECT i FROM n LIMIT 1000000)")
SQL_ATTACK(D6_many_rows_for_the_agent, "q", TOOL_ERROR, "over 10000 rows",
           COUNT "SELECT i FROM n LIMIT 10001")
SQL_ATTACK(D7_a_write_without_end, "x", TOOL_ERROR, "",
           "INSERT INTO booking (hotel_id, guest, nights) " COUNT "SELECT 1, 'x', i FROM n")
SQL_ATTACK(D7_a_write_without_end_is_caught, "caught", TOOL_ERROR, "",
           "INSERT INTO booking (hotel_id, guest, nights) " COUNT "SELECT 1, 'x', i FROM n")
SQL_ATTACK(D7_an_update_that_never_ends, "x", TOOL_ERROR, "operations in one statement",
           "UPDATE hotel SET name = name || (" COUNT "SELECT count(*) FROM n)")
SQL_ATTACK(D7_or_rollback, "x", TOOL_ERROR, "UNIQUE constraint failed",
           "INSERT OR ROLLBACK INTO hotel (id, name, city) VALUES (9, 'Corso', 'Rom')")
SQL_ATTACK(D7_or_rollback_is_caught, "caught", TOOL_ERROR, "rolled back",
           "INSERT OR ROLLBACK INTO hotel (id, name, city) VALUES (9, 'Corso', 'Rom')")
SQL_ATTACK(D7_or_fail_keeps_nothing, "x", TOOL_ERROR, "UNIQUE constraint failed",
           "INSERT OR FAIL INTO hotel (id, name, city) SELECT 10 + id, CASE id WHEN 3 THEN 'Corso' "
           "ELSE 'new' || id END, 'Rom' FROM hotel")

/* ---- long values: few operations, much work ---- */

#define BIG                                                                                        \
    "WITH RECURSIVE s(i, t) AS (SELECT 0, 'abcdefghijklmnop' UNION ALL SELECT i + 1, t || t FROM " \
    "s "                                                                                           \
    "WHERE i < 15), big(t) AS (SELECT t FROM s WHERE i = 15), n(i) AS (SELECT 1 UNION ALL SELECT " \
    "i + 1 FROM n) "
#ifndef UNBOXED /* there, memory is not ours and does not tell of long values */
#define BULK_ATTACK(id, expression)                                \
    SQL_ATTACK(id, "q", TOOL_ERROR, "operations in one statement", \
               BIG "SELECT count(" expression ") AS c FROM n, big")
BULK_ATTACK(X110_upper, "upper(t || i)")
BULK_ATTACK(X110_hex, "hex(t || i)")
BULK_ATTACK(X110_quote, "quote(t || i)")
BULK_ATTACK(X110_concatenation, "t || i")
BULK_ATTACK(X110_json, "json_array(t, i)")
BULK_ATTACK(X111_substr_from_the_end, "substr((SELECT t FROM big), -i)")
BULK_ATTACK(X111_substr_far_in, "substr((SELECT t FROM big), 400000 + i % 1000, 1)")
BULK_ATTACK(X112_instr, "instr((SELECT t FROM big), i || 'x')")
BULK_ATTACK(X112_replace, "replace((SELECT t FROM big), i || 'x', '')")
BULK_ATTACK(X112_trim, "trim((SELECT t FROM big), 'abcdefghijklmno' || i)")
BULK_ATTACK(X113_like, "(SELECT t FROM big) LIKE '%' || i || '%p%o%n%m%'")
BULK_ATTACK(X113_like_backtracks,
            "(SELECT t FROM big) LIKE '%abcdefghijklmnopabcdefghijklmnopq' || i")
BULK_ATTACK(X113_glob_of_sets, "(SELECT t FROM big) GLOB '*[a-p][a-p][a-p][a-p][a-p][q-z]' || i")
BULK_ATTACK(X114_comparisons, "t < (SELECT t || i FROM big)")
BULK_ATTACK(X114_groups, "DISTINCT t || i")
#endif
SQL_ATTACK(X115_group_concat, "q", TOOL_ERROR, "",
           BIG "SELECT length(group_concat(t)) AS c FROM (SELECT t FROM n, big LIMIT 1000)")
SQL_ATTACK(X115_aggregates_of_json, "q", TOOL_ERROR, "",
           BIG "SELECT length(json_group_array(t)) AS c FROM (SELECT t FROM n, big LIMIT 1000)")
SQL_ATTACK(
    D9_a_text_that_doubles, "q", TOOL_ERROR, "string or blob too big",
    "WITH RECURSIVE n(i, s) AS (SELECT 1, 'x' UNION ALL SELECT i + 1, s || s FROM n WHERE i < "
    "60) SELECT s FROM n")

static void expect_repeated(const char *start, const char *unit, int n, const char *end)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    agon_buf_adds(&sql, start);
    for (int i = 0; i < n; i++)
        agon_buf_adds(&sql, unit);
    agon_buf_adds(&sql, end);
    victim_expect_sql("q", agon_buf_text(&sql), TOOL_ERROR, "");
}

ATTACK(D9_20000_parentheses)
{
    expect_repeated("SELECT ", "(", 20000, "1");
}

ATTACK(D9_a_list_of_100000)
{
    expect_repeated("SELECT 1 WHERE 1 IN (", "1,", 100000, "1)");
}

ATTACK(D9_2000_columns)
{
    expect_repeated("SELECT ", "1,", 2000, "1");
}

ATTACK(D9_500_compounds)
{
    expect_repeated("SELECT 1 ", "UNION ALL SELECT 1 ", 500, "");
}

ATTACK(D9_like_of_2000_wildcards)
{
    expect_repeated("SELECT name FROM hotel WHERE name LIKE '", "%a", 2000, "'");
    expect_repeated("SELECT name FROM hotel WHERE name GLOB '", "*a", 2000, "'");
}

SQL_ATTACK(X115_replace_that_multiplies, "q", TOOL_ERROR, "too big",
           BIG "SELECT length(replace(t, 'a', t)) AS c FROM big")
SQL_ATTACK(X115_json_of_a_megabyte_of_brackets, "q", CONTAINED, "[{\"v\": 0}]",
           "WITH RECURSIVE s(i, t) AS (SELECT 0, '[[[[[[[[[[[[[[[[' UNION ALL SELECT i + 1, t || t "
           "FROM s WHERE i < 14) SELECT json_valid(t) AS v FROM s WHERE i = 14")
SQL_ATTACK(X115_a_path_of_a_megabyte, "q", CONTAINED, "[{\"v\": null}]",
           "WITH RECURSIVE s(i, t) AS (SELECT 0, '.a.a.a.a.a.a.a.a' UNION ALL SELECT i + 1, t || t "
           "FROM s WHERE i < 15) SELECT json_extract('{}', '$' || t || '[') AS v FROM s WHERE i = "
           "15")

ATTACK(X116_30000_or)
{
    expect_repeated("SELECT 1 WHERE 0 ", "OR 1=2 ", 9000, "");
    expect_repeated("SELECT 1 WHERE 0 ", "OR 1 ", 12000, "");
}

ATTACK(X116_64_joins)
{
    expect_repeated("SELECT 1 FROM hotel ", "JOIN hotel USING (id) ", 70, "");
}

ATTACK(X116_common_tables_that_double)
{
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    agon_buf_adds(&sql, "WITH a0 AS (SELECT id FROM hotel)");
    for (int i = 1; i < 40; i++)
        agon_buf_addf(&sql, ", a%d AS (SELECT id FROM a%d UNION ALL SELECT id FROM a%d)", i, i - 1,
                      i - 1);
    agon_buf_adds(&sql, " SELECT count(*) AS c FROM a39");
    victim_expect_sql("q", agon_buf_text(&sql), TOOL_ERROR, "");
}

/* ---- memory ---- */

static const char eater[] =
    "WITH RECURSIVE n(i, s) AS (SELECT 1, replace(hex('abcdefghijklmnop'), '6', "
    "hex('0123456789abcdef')) UNION ALL SELECT i + 1, CASE WHEN length(s) < %d THEN s || s ELSE s "
    "END FROM n WHERE i < %d) SELECT count(*) AS c FROM (SELECT s || i AS t FROM n ORDER BY t)";

ATTACK(B12_a_statement_that_eats_memory)
{
    char sql[500];
    b->rss_mib_max = 300; /* 192 of SQLite and what frees leave behind */
    snprintf(sql, sizeof(sql), eater, 400000, 5000);
    EXPECT_OUTCOME(victim_sql("q", sql), TOOL_ERROR, victim_said, "");
    snprintf(sql, sizeof(sql), eater, 3000, 100000);
    EXPECT_OUTCOME(victim_sql("q", sql), TOOL_ERROR, victim_said, "");
}

/* Free blocks of one size are of no use to another: what a statement may have must not depend on
 * what others had before it. */
ATTACK(B12_blocks_of_many_sizes_wear_a_cell_out)
{
    char sql[500], first[sizeof(victim_said)];
    b->rss_mib_max = 520; /* the address space of a cell */
    snprintf(sql, sizeof(sql), eater, 100, 2000);
    EXPECT_OUTCOME(victim_sql("q", sql), CONTAINED, victim_said, "[{\"c\": 2000}]");
    for (int size = 500; size < 60000; size += size / 3) {
        snprintf(sql, sizeof(sql), eater, size, 30000);
        (void)victim_sql("q", sql); /* whatever comes of it */
        snprintf(first, sizeof(first), "%s", victim_said);
        agon_runtime_renew(victim_runtime());
        (void)victim_sql("q", sql); /* the same comes of it in a fresh cell */
        EXPECT_TEXT(victim_said, first);
    }
}

ATTACK(B12_a_world_that_grows)
{
    b->rss_mib_max = 200;
    victim_expect_sql("x",
                      "INSERT INTO booking (hotel_id, guest, nights) WITH RECURSIVE n(i, t) AS "
                      "(SELECT 1, 'abcdefghijklmnop' UNION ALL SELECT i + 1, CASE WHEN i < 12 THEN "
                      "t || t ELSE t END FROM n WHERE i < 1000) SELECT 1, t || i, i FROM n",
                      TOOL_ERROR, "size limit");
}

/* ---- budgets ---- */

/* Nothing that was rolled back or caught buys a run new operations. */
ATTACK(D7_a_run_has_one_budget)
{
    static const char solution[] =
        "local failed = 0 for i = 1, 2000 do local ok = pcall(tools.q, {sql = 'WITH RECURSIVE n(i) "
        "AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS c FROM n'}) "
        "if not ok then failed = failed + 1 end end return failed";
    char first[sizeof(victim_said)];
    EXPECT_OUTCOME(victim_answer(agon_str(solution)), CONTAINED, victim_said, "2000");
    snprintf(first, sizeof(first), "%s", victim_said);
    agon_runtime_renew(victim_runtime());
    EXPECT_OUTCOME(victim_answer(agon_str(solution)), CONTAINED, victim_said, first);
}

/* Nothing of the call that went over it stays, and everything of those before. */
ATTACK(D7_a_run_changes_so_many_rows)
{
    static const char some[] =
        "INSERT INTO booking (hotel_id, guest, nights) WITH RECURSIVE n(i) AS "
        "(SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2500) SELECT 1, "
        "'x', i FROM n";
    char rows[64];
    int n = 0;
    while (n < 12 && victim_sql("x", some) == CONTAINED)
        n++;
    EXPECT_HAS(victim_said, "over 20000 rows were changed");
    EXPECT(n == 8);
    snprintf(rows, sizeof(rows), "[{\"n\": %d}]", n * 2500);
    EXPECT_OUTCOME(victim_sql("q", "SELECT count(*) AS n FROM booking"), CONTAINED, victim_said,
                   rows);
    victim_reset();
    EXPECT_OUTCOME(victim_sql("q", "SELECT count(*) AS n FROM booking"), CONTAINED, victim_said,
                   "[{\"n\": 0}]");
}

ATTACK(X117_a_thousand_statements_that_differ)
{
    EXPECT_OUTCOME(
        victim_answer(agon_str("local n = 0 for i = 1, 1000 do n = n + #tools.q{sql = "
                               "'SELECT id FROM hotel WHERE id <> ' .. -i} end return n")),
        CONTAINED, victim_said, "3000");
}

/* ---- bound values ---- */

ATTACK(D1_quotes_in_arguments_stay_values)
{
    static const char *const names[] = {"' OR 1=1 --",
                                        "x'; DROP TABLE hotel; --",
                                        "\\u0027",
                                        "''",
                                        "\\u2019 OR 1=1",
                                        "\\\\' OR 1=1",
                                        "%",
                                        "\\uff07 OR 1=1"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char arguments[200];
        snprintf(arguments, sizeof(arguments), "{\"name\": \"%s\"}", names[i]);
        EXPECT_OUTCOME(victim_call("find", agon_str(arguments)), CONTAINED, victim_said, "[]");
    }
}

ATTACK(D10_text_of_1_MB_through_a_parameter)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    agon_buf_adds(&text, "{\"v\": \"");
    for (int i = 0; i < 100000; i++)
        agon_buf_adds(&text, "0123456789");
    agon_buf_adds(&text, "\"}");
    enum outcome o = victim_call("bound", agon_buf_str(&text));
    EXPECT(o == CONTAINED || o == TOOL_ERROR);
    EXPECT_OUTCOME(victim_call("bound", agon_str("{\"v\": \"\\u00fc\\n\\\"\\ud83d\\ude00\"}")),
                   CONTAINED, victim_said, "[{\"v\": \"ü\\n\\\"😀\"}]");
}

/* ---- long values that stay where they are: each operation is dearer ---- */

#ifndef UNBOXED
#define JSON                                                                                      \
    "WITH RECURSIVE s(i, t) AS (SELECT 0, '1,1,1,1,1,1,1,1' UNION ALL SELECT i + 1, t || ',' || " \
    "t FROM s WHERE i < 15), big(t) AS (SELECT '[' || t || ']' FROM s WHERE i = 15), n(i) AS ("   \
    "SELECT 1 UNION ALL SELECT i + 1 FROM n) "
SQL_ATTACK(X114_a_path_into_json, "q", TOOL_ERROR, "operations in one statement",
           JSON
           "SELECT sum(json_extract((SELECT t FROM big), '$[' || (200000 + i) || ']')) AS c FROM n")
SQL_ATTACK(X114_each_of_json, "q", TOOL_ERROR, "operations in one statement",
           JSON "SELECT count(*) AS c FROM n, json_each((SELECT t FROM big))")
SQL_ATTACK(X114_a_sum_with_a_text_of_digits, "q", TOOL_ERROR, "operations in one statement",
           BIG ", d(t) AS (SELECT replace(hex(substr(t, 1, 250000)), 'A', '1') FROM big) "
               "SELECT sum((SELECT t FROM d) + i) AS c FROM n")
#endif
