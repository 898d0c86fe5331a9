/* Values for people: tables that fit, JSON in lines, text that is wrapped, nothing that moves a
 * cursor. */
#include "base/json.h"
#include "pipelines/pretty.h"
#include "tests/test.h"

#include <locale.h>

static const char *rows(const char *json, int width)
{
    static struct agon_buf out;
    json_auto_t *value = json_loads(json, 0, NULL);
    agon_buf_deinit(&out);
    out = (struct agon_buf)AGON_BUF(1 << 20);
    if (!EXPECT(agon_pretty_is_rows(value)))
        return "";
    agon_pretty_rows(&out, value, width);
    return agon_buf_text(&out);
}

static const char *pretty(const char *json, int width)
{
    static struct agon_buf out;
    json_auto_t *value = json_loads(json, JSON_DECODE_ANY, NULL);
    agon_buf_deinit(&out);
    out = (struct agon_buf)AGON_BUF(1 << 20);
    agon_pretty_json(&out, value, width, 0);
    return agon_buf_text(&out);
}

static const char *wrap(const char *text, int width, int used, int indent)
{
    static struct agon_buf out;
    agon_buf_deinit(&out);
    out = (struct agon_buf)AGON_BUF(1 << 20);
    agon_pretty_wrap(&out, agon_str(text), width, used, indent);
    return agon_buf_text(&out);
}

TEST(a_table_is_aligned_numbers_to_the_right)
{
    EXPECT_TEXT(rows("[{\"name\": \"Astoria\", \"n\": 7}, {\"name\": \"B\", \"n\": 12.5}]", 80),
                "name        n\n-------  ----\nAstoria     7\nB        12.5\n");
    EXPECT_TEXT(rows("[{\"a\": null, \"b\": \"\"}, {\"a\": 1, \"b\": true}]", 80),
                "   a  b\n----  ----\nnull  \"\"\n   1  true\n");
}

TEST(wide_columns_are_cut_to_the_width)
{
    EXPECT_TEXT(rows("[{\"a\": \"0123456789012345\", \"b\": \"short\"}]", 16),
                "a          b\n---------  -----\n01234567…  short\n");
}

TEST(too_many_columns_become_blocks)
{
    EXPECT_TEXT(rows("[{\"aa\": \"first\", \"b\": \"a longer text\"}, {\"aa\": 2, \"b\": 3}]", 12),
                "-- row 1\naa  first\nb   a longer\n    text\n-- row 2\naa  2\nb   3\n");
}

TEST(characters_count_by_their_width)
{
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        SKIP("no locale C.UTF-8");
    EXPECT_TEXT(rows("[{\"a\": \"日本\", \"b\": \"x\"}, {\"a\": \"Béla\", \"b\": \"y\"}]", 80),
                "a     b\n----  -\n日本  x\nBéla  y\n");
    EXPECT(agon_pretty_width(agon_str("日本")) == 4 && agon_pretty_width(agon_str("e\u0301")) == 1);
}

TEST(no_text_moves_the_cursor)
{
    EXPECT_TEXT(rows("[{\"a\": \"x\\u001b[2Jy\\nz\"}]", 80), "a\n--------\nx?[2Jy z\n");
    EXPECT(strchr(pretty("{\"k\\u001b\": \"\\u009b1m\"}", 80), '\033') == NULL);
    EXPECT_TEXT(wrap("a\033[1mb", 80, 0, 0), "a?[1mb\n");
}

TEST(what_is_no_list_of_flat_objects_is_no_table)
{
    static const char *const others[] = {"[]",
                                         "[1]",
                                         "{\"a\": 1}",
                                         "[{\"a\": []}]",
                                         "[{}]",
                                         "[{\"a\": 1}, {\"a\": 1, \"b\": 2}]",
                                         "[{\"a\": 1}, 3]"};
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        json_auto_t *value = json_loads(others[i], 0, NULL);
        EXPECT(!agon_pretty_is_rows(value));
    }
}

TEST(json_breaks_where_it_is_long)
{
    EXPECT_TEXT(pretty("{\"a\": [1, 2]}", 80), "{\"a\": [1, 2]}");
    EXPECT_TEXT(pretty("{\"a\": [1, 2], \"b\": {\"c\": 3}}", 14),
                "{\n  \"a\": [1, 2],\n  \"b\": {\"c\": 3}\n}");
    EXPECT_TEXT(pretty("[\"aaaa\", \"bbbb\"]", 8), "[\n  \"aaaa\",\n  \"bbbb\"\n]");
    EXPECT_TEXT(pretty("[1, 22, 333, 4444, 55555, 6]", 14),
                "[\n  1, 22, 333,\n  4444, 55555,\n  6\n]");
    EXPECT_TEXT(pretty("\"a text that is longer than the line\"", 10),
                "\"a text that is longer than the line\"");
}

TEST(text_is_wrapped_between_words)
{
    EXPECT_TEXT(wrap("one two three", 8, 0, 2), "one two\n  three\n");
    EXPECT_TEXT(wrap("one two three", 8, 4, 4), "one\n    two\n    three\n");
    EXPECT_TEXT(wrap("a\n- b  c\n", 80, 0, 2), "a\n  - b  c\n");
    EXPECT_TEXT(wrap("toolongforaline", 5, 0, 0), "toolongforaline\n");
    EXPECT_TEXT(wrap("", 5, 0, 0), "\n");
}
