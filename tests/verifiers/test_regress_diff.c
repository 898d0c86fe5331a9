/* The smallest difference of two values, and of two texts. */
#include "base/json.h"
#include "tests/test.h"
#include "verifiers/regress_diff.h"

/* "path: expected | got", or "equal". */
static const char *diff(const char *expected, const char *got)
{
    static char line[3000];
    struct agon_buf path AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_buf want AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_buf have AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    json_auto_t *a = json_loads(expected, JSON_DECODE_ANY, NULL);
    json_auto_t *b = json_loads(got, JSON_DECODE_ANY, NULL);
    agon_buf_adds(&path, "answer");
    if (!agon_regress_diff(a, b, &path, &want, &have))
        return "equal";
    snprintf(line, sizeof(line), "%s: %s | %s", agon_buf_text(&path), agon_buf_text(&want),
             agon_buf_text(&have));
    return line;
}

static const char *diff_text(const char *expected, const char *got)
{
    static char line[3000];
    struct agon_buf path AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_buf want AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_buf have AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    if (!agon_regress_diff_text(agon_str(expected), agon_str(got), &path, &want, &have))
        return "equal";
    snprintf(line, sizeof(line), "%s: %s | %s", agon_buf_text(&path), agon_buf_text(&want),
             agon_buf_text(&have));
    return line;
}

TEST(the_first_leaf_that_differs_is_named)
{
    EXPECT_TEXT(diff("{\"a\": 1, \"b\": [1, 2]}", "{\"b\": [1, 2], \"a\": 1}"), "equal");
    EXPECT_TEXT(diff("{\"a\": {\"b\": [1, {\"c\": \"x\"}]}, \"d\": 1}",
                     "{\"a\": {\"b\": [1, {\"c\": \"y\"}]}, \"d\": 2}"),
                "answer.a.b[1].c: \"x\" | \"y\"");
    EXPECT_TEXT(diff("{\"a\": 1, \"b\": 2}", "{\"a\": 1, \"b\": 3}"), "answer.b: 2 | 3");
    EXPECT_TEXT(diff("7", "7.0"), "answer: 7 | 7.0");
    EXPECT_TEXT(diff("[]", "{}"), "answer: [] | {}");
}

TEST(what_is_missing_is_nothing)
{
    EXPECT_TEXT(diff("[1, 2]", "[1]"), "answer[1]: 2 | nothing");
    EXPECT_TEXT(diff("[1]", "[1, null]"), "answer[1]: nothing | null");
    EXPECT_TEXT(diff("{\"a\": null}", "{}"), "answer.a: null | nothing");
    EXPECT_TEXT(diff("{}", "{\"a\": 0}"), "answer.a: nothing | 0");
}

TEST(long_values_are_cut_and_no_control_character_is_shown)
{
    char value[2000] = "\"";
    memset(value + 1, 'x', 1000);
    strcpy(value + 1001, "\"");
    EXPECT_HAS(diff(value, "\"\\u001b[2J\""), "… (1002 bytes)");
    EXPECT(strstr(diff(value, "\"a\\u0085b\""), "\xc2\x85") == NULL);
}

TEST(texts_differ_at_a_line_and_a_byte)
{
    EXPECT_TEXT(diff_text("same", "same"), "equal");
    EXPECT_TEXT(diff_text("one\ntwo\n", "one\ntwx\n"), " line 2, byte 6: two | twx");
    EXPECT_TEXT(diff_text("one\n", "one\ntwo"), " line 2, byte 4: nothing | two");
    EXPECT_TEXT(diff_text("", "x"), " line 1, byte 0: nothing | x");
    char expected[400], got[400];
    memset(expected, 'a', 399);
    expected[399] = '\0';
    strcpy(got, expected);
    got[300] = 'b';
    const char *said = diff_text(expected, got);
    EXPECT_HAS(said, " line 1, byte 300: …aaaa");
    EXPECT_HAS(said, "ab");
    EXPECT(strlen(said) < 400);
}

TEST(a_difference_inside_a_character_keeps_it_whole)
{
    EXPECT_TEXT(diff_text("gr\u00fcn", "gr\u00fan"), " line 1, byte 3: gr\u00fcn | gr\u00fan");
    EXPECT_HAS(diff_text("\xff\xfe", "\xff\xfd"), " line 1, byte 1: ");
}
