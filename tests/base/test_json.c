#include "base/file.h"
#include "base/json.h"
#include "tests/test.h"

#include <stdint.h>

struct pair {
    const char *in, *out;
};
#define N(table) (sizeof(table) / sizeof((table)[0]))

/* Each `out` is what Python 3.11's json.dumps(json.loads(in), ensure_ascii=False) gives. */
static const struct pair rewrites[] = {
    {" [1 ,2,\t{\"a\":null , \"b\":[true,false]}]\n",
     "[1, 2, {\"a\": null, \"b\": [true, false]}]"},
    {"{}", "{}"},
    {" [ ] ", "[]"},
    {"\"\"", "\"\""},
    {"12345678901234567890123456789012345678901234567890",
     "12345678901234567890123456789012345678901234567890"},
    {"[-0, 0, -7]", "[0, 0, -7]"},
    {"1.50", "1.5"},
    {"1E5", "100000.0"},
    {"-0.0", "-0.0"},
    {"[1e15, 1e16, 123456789012345680.0]", "[1000000000000000.0, 1e+16, 1.2345678901234568e+17]"},
    {"[0.0001, 0.00001, 1e-7]", "[0.0001, 1e-05, 1e-07]"},
    {"[5e-324, 1.7976931348623157e308, 1e-400]", "[5e-324, 1.7976931348623157e+308, 0.0]"},
    {"[0.1, 0.30000000000000004, 100.25, 3.141592653589793]",
     "[0.1, 0.30000000000000004, 100.25, 3.141592653589793]"},
    {"\"\\u0041\\/\\b\\f\\n\\r\\t\\\"\\\\\\u000b\\u001F\"",
     "\"A/\\b\\f\\n\\r\\t\\\"\\\\\\u000b\\u001f\""},
    {"\"\\u0000\"", "\"\\u0000\""},
    {"\"\\u00e9\\u20ac\\ud83d\\ude00\x7F\\u2028\"",
     "\"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\x7F\xE2\x80\xA8\""},
    {"{\"a\":1,\"b\":2,\"a\":3}", "{\"a\": 3, \"b\": 2}"},
    {"{\"a\":1,\"\\u0061\":[{\"x\":1,\"x\":2}],\"b\":0,\"b\":{}}",
     "{\"a\": [{\"x\": 2}], \"b\": {}}"},
    {"{\"a\":1,\"a\\u0000\":2,\"ab\":3,\"a\":4}", "{\"a\": 4, \"a\\u0000\": 2, \"ab\": 3}"},
};

TEST(rewrite_gives_the_canonical_text)
{
    for (size_t i = 0; i < N(rewrites); i++) {
        struct agon_err err = {0};
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        agon_buf_adds(&b, "before ");
        if (!EXPECT(agon_json_rewrite(&b, agon_str(rewrites[i].in), &err) == 0))
            printf("# %s: %s\n", rewrites[i].in, err.text);
        EXPECT_TEXT(agon_buf_text(&b) + strlen("before "), rewrites[i].out);
    }
}

/* Python prints such text only with ensure_ascii=True. */
static const struct pair surrogates[] = {
    {"\"\\ud800\"", "\"\\ud800\""},
    {"[\"\\udc00\\ud800\", \"\xC3\xA9\xF0\x9F\x98\x80\x7F\"]",
     "[\"\\udc00\\ud800\", \"\\u00e9\\ud83d\\ude00\\u007f\"]"},
    {"\"\\ud83d\\ud83d\\ude00x\"", "\"\\ud83d\\ud83d\\ude00x\""},
    {"\"\\ud83d\\u0041\"", "\"\\ud83dA\""},
    {"{\"a\":\"\\ud800\",\"a\":\"\xC3\xA9\"}", "{\"a\": \"\xC3\xA9\"}"}, /* it is gone again */
};

TEST(rewrite_turns_to_ascii_for_lone_surrogates)
{
    for (size_t i = 0; i < N(surrogates); i++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        EXPECT(agon_json_rewrite(&b, agon_str(surrogates[i].in), NULL) == 0);
        EXPECT_TEXT(agon_buf_text(&b), surrogates[i].out);
    }
}

/* Refused by the rewriter and by the parser. */
static const struct pair broken[] = {
    {"", "line 1 column"},
    {"[1, 2", "line 1 column"},
    {"[1,]", "line 1 column"},
    {"[1 2]", "line 1 column"},
    {"{\"a\" 1}", "line 1 column"},
    {"{a: 1}", "line 1 column"},
    {"{\"a\": 1,}", "line 1 column"},
    {"[1]\n\n x", "line 3 column"},
    {"nul", "line 1 column"},
    {"NaN", "line 1 column"},
    {"[Infinity]", "line 1 column"},
    {"1e400", "line 1 column"},
    {"01", "line 1 column"},
    {"[-]", "line 1 column"},
    {"1.", "line 1 column"},
    {".5", "line 1 column"},
    {"+1", "line 1 column"},
    {"1e", "line 1 column"},
    {"\"a", "line 1 column"},
    {"\"\t\"", "line 1 column"},
    {"\"\\x\"", "line 1 column"},
    {"\"\\u12g4\"", "line 1 column"},
    {"\"\xC3(\"", "line 1 column"},
    {"\"\xED\xA0\x80\"", "line 1 column"},
    {"'a'", "line 1 column"},
    {"[1] // x", "line 1 column"},
};

TEST(broken_text_is_refused_with_its_place)
{
    for (size_t i = 0; i < N(broken); i++) {
        struct agon_err err = {0};
        json_t *value = NULL;
        if (!EXPECT(agon_json_parse(&value, agon_str(broken[i].in), &err) == AGON_EINPUT))
            printf("# parsed: %s\n", broken[i].in);
        EXPECT_HAS(err.text, broken[i].out);
        err.text[0] = '\0';
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        agon_buf_adds(&b, "kept");
        if (!EXPECT(agon_json_rewrite(&b, agon_str(broken[i].in), &err) == AGON_EINPUT))
            printf("# rewrote: %s\n", broken[i].in);
        EXPECT_HAS(err.text, broken[i].out);
        EXPECT_TEXT(agon_buf_text(&b), "kept");
    }
}

/* The rule of base/json.h, line by line: what is read, written again. */
static const struct pair ruled[] = {
    {"[-0, 0, 1, 1.0, -0.0]", "[0, 0, 1, 1.0, -0.0]"},
    {"[9223372036854775807, -9223372036854775808]", "[9223372036854775807, -9223372036854775808]"},
    {"[1e3, 1E-3, 1e-999, 9223372036854775808.0]", "[1000.0, 0.001, 0.0, 9.223372036854776e+18]"},
    {"\"\\ud83d\\ude00\\u00e9\\/\\u001f\"", "\"\xF0\x9F\x98\x80\xC3\xA9/\\u001f\""},
    {"{\"b\": 1, \"a\": {\"b\": 2}, \"\": 3}", "{\"b\": 1, \"a\": {\"b\": 2}, \"\": 3}"},
    {"{\"k\\n\": {\"longer than the key\\t\": \"a\\tb\"}}",
     "{\"k\\n\": {\"longer than the key\\t\": \"a\\tb\"}}"},
    {" \t\r\n null ", "null"},
};
/* And what is not, with the words. */
static const struct pair unruled[] = {
    {"9223372036854775808", "line 1 column 1: an integer that does not fit 64 bits"},
    {"[1,\n -9223372036854775809]", "line 2 column 2: an integer that does not fit 64 bits"},
    {"[1e999]", "line 1 column 2: a number out of range"},
    {"[NaN]", "line 1 column 2: a value was expected"},
    {"-Infinity", "column 2: a value was expected"},
    {"[01]", "a number with a leading zero"},
    {"{\"a\": 1, \"\\u0061\": 2}", "line 1 column 10: duplicate key"},
    {"\"\\ud800\"", "half of a surrogate pair"},
    {"\"\\udc00\\ud800\"", "half of a surrogate pair"},
    {"\"\\ud800\\u0041\"", "half of a surrogate pair"},
    {"\"\xED\xA0\x80\"", "column 2: invalid UTF-8"},
    {"\"\xC0\x80\"", "column 2: invalid UTF-8"},
    {"\"a\xF0\x9F\"", "column 3: invalid UTF-8"},
    {"\xEF\xBB\xBF{}", "line 1 column 1: a value was expected"},
    {"\"\\u0000\"", "a NUL character"},
    {"{\"\\u0000\": 1}", "a NUL character"},
    {"[1,]", "a value was expected"},
    {"{\"a\": 1,}", "a key in double quotes was expected"},
    {"{} {}", "line 1 column 4: nothing was expected after the value"},
};

TEST(one_rule_for_numbers_strings_and_keys)
{
    for (size_t i = 0; i < N(ruled); i++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        json_auto_t *value = NULL;
        struct agon_err err = {0};
        if (!EXPECT(agon_json_parse(&value, agon_str(ruled[i].in), &err) == 0)) {
            printf("# %s: %s\n", ruled[i].in, err.text);
            continue;
        }
        agon_json_dump(&b, value);
        EXPECT_TEXT(agon_buf_text(&b), ruled[i].out);
    }
    for (size_t i = 0; i < N(unruled); i++) {
        json_t *value = NULL;
        struct agon_err err = {0};
        EXPECT(agon_json_parse(&value, agon_str(unruled[i].in), &err) == AGON_EINPUT && !value);
        EXPECT_HAS(err.text, unruled[i].out);
    }
}

TEST(a_number_has_at_most_400_digits)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    json_auto_t *value = NULL;
    struct agon_err err = {0};
    agon_buf_adds(&b, "0.");
    for (int i = 0; i < AGON_JSON_NUMBER_MAX - 2; i++)
        agon_buf_addc(&b, '1');
    EXPECT(agon_json_parse(&value, agon_buf_str(&b), &err) == 0);
    agon_buf_addc(&b, '1');
    json_t *none = NULL;
    EXPECT(agon_json_parse(&none, agon_buf_str(&b), &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "over 400 digits");
}

TEST(a_nul_byte_ends_no_text)
{
    json_t *value = NULL;
    EXPECT(agon_json_parse(&value, (struct agon_str){"1\0 2", 4}, NULL) == AGON_EINPUT);
    EXPECT(agon_json_parse(&value, (struct agon_str){"1\0 ", 3}, NULL) == AGON_EINPUT);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    EXPECT(agon_json_rewrite(&b, (struct agon_str){"1\0 2", 4}, NULL) == AGON_EINPUT);
    EXPECT(agon_json_rewrite(&b, (struct agon_str){"[1]junk", 3}, NULL) == 0);
    EXPECT_TEXT(agon_buf_text(&b), "[1]");
}

TEST(the_parser_refuses_duplicates_and_u0000)
{
    struct agon_err err = {0};
    json_t *value = NULL;
    EXPECT(agon_json_parse(&value, agon_str("{\"a\": 1, \"a\": 2}"), &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "duplicate");
    EXPECT(agon_json_parse(&value, agon_str("\"\\u0000\""), &err) == AGON_EINPUT);
    EXPECT(agon_json_parse(&value, agon_str("99999999999999999999"), &err) == AGON_EINPUT);
}

TEST(depth_ends_at_its_limit)
{
    for (int depth = AGON_JSON_DEPTH_MAX; depth <= AGON_JSON_DEPTH_MAX + 1; depth++) {
        struct agon_buf in AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        agon_buf_adds(&in, "[\"[[[\\\"[[[\", ");
        for (int i = 1; i < depth; i++)
            agon_buf_addc(&in, '[');
        for (int i = 0; i < depth; i++)
            agon_buf_addc(&in, ']');
        bool fits = depth == AGON_JSON_DEPTH_MAX;
        struct agon_err err = {0};
        json_auto_t *value = NULL;
        EXPECT(agon_json_parse(&value, agon_buf_str(&in), &err) == (fits ? 0 : AGON_EINPUT));
        EXPECT(fits || strstr(err.text, "nested"));
        EXPECT(agon_json_rewrite(&out, agon_buf_str(&in), &err) == (fits ? 0 : AGON_EINPUT));
        EXPECT(fits || strstr(err.text, "nested"));
    }
}

TEST(depth_counts_what_is_open_and_not_what_was)
{
    struct agon_buf in AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    agon_buf_adds(&in, "[");
    for (int i = 0; i < 2 * AGON_JSON_DEPTH_MAX; i++)
        agon_buf_adds(&in, i % 2 ? "{}, " : "[], ");
    agon_buf_adds(&in, "0]");
    json_auto_t *value = NULL;
    EXPECT(agon_json_parse(&value, agon_buf_str(&in), NULL) == 0);
    EXPECT(agon_json_rewrite(&out, agon_buf_str(&in), NULL) == 0);
    EXPECT_TEXT(agon_buf_text(&out), agon_buf_text(&in));
}

TEST(rewrite_reports_a_full_buffer)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(12);
    struct agon_err err = {0};
    agon_buf_adds(&b, "kept");
    EXPECT(agon_json_rewrite(&b, agon_str("{\"a\":1,\"a\":2,\"b\":3}"), &err) == AGON_ENOMEM);
    EXPECT_TEXT(agon_buf_text(&b), "kept");
}

TEST(an_object_of_many_equal_keys_takes_no_quadratic_time)
{
    struct agon_buf in AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    for (int i = 0; i < 300000; i++)
        agon_buf_addf(&in, "%c\"k%d\":%d", i ? ',' : '{', i % 3, i);
    agon_buf_addc(&in, '}');
    EXPECT(agon_json_rewrite(&out, agon_buf_str(&in), NULL) == 0);
    EXPECT_TEXT(agon_buf_text(&out), "{\"k0\": 299997, \"k1\": 299998, \"k2\": 299999}");
}

static uint64_t next_random(uint64_t *state) /* splitmix64 */
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

TEST(reals_read_back_and_no_shorter_decimal_does)
{
    uint64_t state = 1;
    for (int i = 0; i < 50000; i++) {
        uint64_t bits = next_random(&state);
        double value;
        memcpy(&value, &bits, sizeof(value));
        if (!isfinite(value))
            continue;
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
        agon_json_dump_real(&b, value);
        REQUIRE(strtod(agon_buf_text(&b), NULL) == value);
        int digits = 0, zeros = 0; /* of the decimal; the zeros around it do not count */
        for (const char *p = agon_buf_text(&b); *p && *p != 'e'; p++) {
            zeros = *p == '0' ? zeros + 1 : *p == '.' || *p == '-' ? zeros : 0;
            digits += *p >= '0' && *p <= '9' && (digits || *p != '0');
        }
        digits -= zeros;
        char shorter[40];
        snprintf(shorter, sizeof(shorter), "%.*e", digits > 1 ? digits - 2 : 0, value);
        REQUIRE(digits == 1 || strtod(shorter, NULL) != value);
    }
}

/* Powers of two whose shortest decimal is not their nearest one of that length. */
TEST(reals_are_shortest_at_powers_of_two)
{
    static const struct {
        int exponent;
        const char *text;
    } cases[] = {{-44, "5.684341886080802e-14"},   {-1017, "7.120236347223045e-307"},
                 {-957, "8.209073602596753e-289"}, {-1074, "5e-324"},
                 {52, "4503599627370496.0"},       {60, "1.152921504606847e+18"},
                 {1023, "8.98846567431158e+307"}};
    for (size_t i = 0; i < N(cases); i++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
        agon_json_dump_real(&b, ldexp(1, cases[i].exponent));
        EXPECT_TEXT(agon_buf_text(&b), cases[i].text);
        agon_buf_reset(&b);
        agon_json_dump_real(&b, -ldexp(1, cases[i].exponent));
        EXPECT(b.data[0] == '-');
        EXPECT_TEXT(agon_buf_text(&b) + 1, cases[i].text);
    }
}

TEST(infinity_and_nan_become_null)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    agon_json_dump_real(&b, (double)INFINITY);
    agon_buf_addc(&b, ' ');
    agon_json_dump_real(&b, (double)NAN);
    EXPECT_TEXT(agon_buf_text(&b), "null null");
}

TEST(dump_writes_values_as_rewrite_writes_text)
{
    for (size_t i = 0; i < N(rewrites); i++) {
        json_auto_t *value = NULL;
        if (agon_json_parse(&value, agon_str(rewrites[i].in), NULL))
            continue; /* duplicate keys, huge integers */
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
        agon_json_dump(&b, value);
        EXPECT_TEXT(agon_buf_text(&b), rewrites[i].out);
    }
}

TEST(dump_sorted_sorts_at_every_depth)
{
    json_auto_t *value = NULL;
    REQUIRE(agon_json_parse(&value, agon_str("{\"b\":{\"z\":1,\"\\u00e9\":2,\"Z\":3},\"a\":[{}]}"),
                            NULL) == 0);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    agon_json_dump_sorted(&b, value);
    EXPECT_TEXT(agon_buf_text(&b), "{\"a\": [{}], \"b\": {\"Z\": 3, \"z\": 1, \"\xC3\xA9\": 2}}");
    agon_buf_reset(&b);
    agon_json_dump(&b, value);
    EXPECT_TEXT(agon_buf_text(&b), "{\"b\": {\"z\": 1, \"\xC3\xA9\": 2, \"Z\": 3}, \"a\": [{}]}");
}

TEST(dump_string_replaces_bytes_that_are_no_utf8)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(100);
    agon_json_dump_string(&b, (struct agon_str){"a\xFF\0\"\xE2\x82", 6});
    EXPECT_TEXT(agon_buf_text(&b), "\"a\xEF\xBF\xBD\\u0000\\\"\xEF\xBF\xBD\xEF\xBF\xBD\"");
}

TEST(load_file_names_the_file_and_the_place)
{
    const char *path = test_path("broken.json");
    REQUIRE(agon_file_write(path, agon_str("{\n  \"a\": oops\n}"), false, NULL) == 0);
    struct agon_err err = {0};
    json_t *value = NULL;
    EXPECT(agon_json_load_file(&value, path, 1000, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "broken.json: line 2 column");
    EXPECT(agon_json_load_file(&value, path, 5, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "over 5 bytes");
}

TEST(text_fields_have_defaults)
{
    json_auto_t *value = json_pack("{s:s, s:i}", "a", "x", "n", 1);
    EXPECT_TEXT(agon_json_text(value, "a", "d"), "x");
    EXPECT_TEXT(agon_json_text(value, "n", "d"), "d");
    EXPECT(agon_json_text(value, "none", NULL) == NULL);
}

TEST(a_value_that_could_not_be_made_is_a_text_that_could_not_be_made)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    struct agon_err err;
    agon_buf_adds(&b, "[");
    agon_json_dump(&b, NULL);
    agon_buf_adds(&b, "]");
    EXPECT(agon_buf_check(&b, "answer", &err) == AGON_ENOMEM);
    EXPECT_HAS(err.text, "out of memory");
    agon_buf_reset(&b);
    agon_json_dump_sorted(&b, NULL);
    EXPECT(agon_buf_check(&b, "answer", &err) == AGON_ENOMEM);
}
