/* JSON text <-> Lua values, in this process. */
#include "base/json.h"
#include "envs/codec.h"
#include "sandbox/script.h"
#include "tests/test.h"

#include <lauxlib.h>
#include <lua.h>

struct trip { /* text -> Lua, through a chunk, -> text */
    const char *in, *chunk, *schema;
    struct agon_codec codec;
    struct agon_buf out;
    int refused;
    struct agon_err err;
};

static int run_trip(lua_State *L, void *arg)
{
    struct trip *t = arg;
    json_t *schema = NULL;
    agon_codec_open(L);
    agon_script_run_chunk(L, "=test", agon_str(t->chunk), 1);
    t->refused = agon_codec_decode(&t->codec, L, agon_str(t->in), "value", &t->err);
    if (t->refused)
        return 0;
    lua_call(L, 1, 1);
    if (t->schema)
        (void)!agon_json_parse(&schema, agon_str(t->schema), NULL);
    t->refused = agon_codec_encode(&t->codec, L, schema, "value", &t->out, &t->err);
    json_decref(schema);
    return 0;
}

/* The text that comes out, or the refusal, or what Lua raised. */
static const char *through(const char *in, const char *chunk, const char *schema)
{
    static char result[4000];
    static char reason[400];
    struct agon_script *s AGON_AUTO(agon_script_freep) = NULL;
    struct agon_err err;
    struct trip t = {.in = in, .chunk = chunk, .schema = schema, .out = AGON_BUF(4 << 20)};
    agon_codec_init(&t.codec);
    if (agon_script_new(&s, NULL, &err))
        return err.text[0] ? "no script" : "";
    int r = agon_script_protect(s, run_trip, &t, reason, sizeof(reason), &err);
    snprintf(result, sizeof(result), "%.3999s",
             r           ? reason
             : t.refused ? t.err.text
                         : agon_buf_text(&t.out));
    agon_buf_deinit(&t.out);
    agon_codec_deinit(&t.codec);
    return result;
}

#define SAME "return function(v) return v end"

TEST(json_comes_back_canonical)
{
    static const char *const cases[][2] = {
        {"null", "null"},
        {"true", "true"},
        {" [1,2.0 ,-0,1e2,0.1] ", "[1, 2.0, 0, 100.0, 0.1]"},
        {"[1e16, 1e-5, 123456789012345680.0]", "[1e+16, 1e-05, 1.2345678901234568e+17]"},
        {"[9223372036854775807, -9223372036854775808]",
         "[9223372036854775807, -9223372036854775808]"},
        {"{\"b\":1,\"a\":{}, \"c\":[]}", "{\"a\": {}, \"b\": 1, \"c\": []}"},
        {"[[],[[]],{\"x\":[{}]}]", "[[], [[]], {\"x\": [{}]}]"},
        {"\"\\u00e4\\/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\ud83d\\ude00\"",
         "\"ä/\\\"\\\\\\b\\f\\n\\r\\t\\u0001😀\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        EXPECT_TEXT(through(cases[i][0], SAME, NULL), cases[i][1]);
}

TEST(the_schema_says_what_an_empty_table_is_and_in_which_order_keys_stand)
{
    EXPECT_TEXT(through("null", "return function() return {b={}, a={}} end",
                        "{\"type\":\"object\",\"properties\":{\"b\":{\"type\":\"object\"},\"a\":{"
                        "\"type\":\"array\"}}}"),
                "{\"b\": {}, \"a\": []}");
    EXPECT_TEXT(through("null", "return function() return {z=1, c=2, b=3} end",
                        "{\"type\":\"object\",\"properties\":{\"c\":{\"type\":\"integer\"}},"
                        "\"additionalProperties\":true}"),
                "{\"c\": 2, \"b\": 3, \"z\": 1}");
}

TEST(what_is_no_json_is_refused)
{
    static const char *const cases[][2] = {
        {"return function() return print end", ""},
        {"return function() return function() end end",
         "value: a function cannot be written as JSON"},
        {"return function() return {1, nil, 3} end", "a table whose keys are not 1, 2, 3, ..."},
        {"return function() return {1, a=2} end", "a table with both names and numbers as keys"},
        {"return function() return {[1.5]=1} end", "a table whose keys are not 1, 2, 3, ..."},
        {"return function() return 1/0 end", "value: a number is infinite or not a number"},
        {"return function() return 0/0 end", "value: a number is infinite or not a number"},
        {"return function() return 'a\\0b' end", "value: a string holds a NUL character"},
        {"return function() return '\\xff' end", "value: a string is not valid UTF-8"},
        {"return function() local t = {} t[1] = t return t end", "value: nested over 32 deep"},
        {"return function() local t = {} for i = 1, 100001 do t[i] = i end return t end",
         "value: over 100,000 values"},
        {"return function() return ('x'):rep(1000001) end", "value: over 1,000,000 bytes of JSON"},
        {"return function() local t, s = {}, ('x'):rep(100000) for i = 1, 11 do t[i] = s end "
         "return t end",
         "value: over 1,000,000 bytes of JSON"},
    };
    for (size_t i = 1; i < sizeof(cases) / sizeof(*cases); i++)
        EXPECT_HAS(through("null", cases[i][0], NULL), cases[i][1]);
}

TEST(values_are_nested_32_deep_and_no_deeper)
{
    for (int depth = 31; depth <= 34; depth++) {
        char text[100] = "", code[200];
        memset(text, '[', (size_t)depth);
        memset(text + depth, ']', (size_t)depth);
        text[2 * depth] = '\0';
        EXPECT_TEXT(through(text, "return function(v) return 1 end", NULL),
                    depth <= 32 ? "1" : "value: not JSON at byte 33: nested over 32 deep");
        snprintf(code, sizeof(code),
                 "return function() local t = {} for i = 2, %d do t = {t} end return t end", depth);
        EXPECT(strstr(through("null", code, NULL), "nested over 32 deep") == NULL || depth > 32);
        EXPECT(depth <= 32 || strstr(through("null", code, NULL), "value: nested over 32 deep"));
    }
}

TEST(pure_helpers_compare_values)
{
    static const char *const cases[][2] = {
        {"same({1, {a=2}}, {1, {a=2.0}})", "true"},
        {"same({1}, {1, 2})", "false"},
        {"same({a=1}, {a=1, b=2})", "false"},
        {"same(null, nil)", "false"},
        {"same(null, null)", "true"},
        {"same('1', 1)", "false"},
        {"near(1.0, 1.005, 0.01)", "true"},
        {"near(1, 2, 0.5)", "false"},
        {"near('1', 1, 1)", "false"},
        {"tostring(null)", "\"null\""},
        {"v.x == null", "true"},
        {"type(v.x)", "\"userdata\""},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char chunk[200];
        snprintf(chunk, sizeof(chunk), "return function(v) return %s end", cases[i][0]);
        EXPECT_TEXT(through("{\"x\": null}", chunk, NULL), cases[i][1]);
    }
}

TEST(looking_through_a_table_that_was_emptied_is_paid_for)
{
    /* 30,000 times 65,536 empty slots: over a second of looking, if it were free */
    EXPECT_TEXT(through("null",
                        "return function() local t, l = {}, {} for i = 1, 40000 do t['k' .. i] = 1 "
                        "end for i = 1, 40000 do t['k' .. i] = nil end for i = 1, 30000 do l[i] = "
                        "t end return l end",
                        NULL),
                "ran out of fuel");
}

TEST(a_text_of_more_values_than_are_taken_is_refused)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_buf_adds(&text, "[1");
    while (text.size < 2 * 99999)
        agon_buf_adds(&text, ",1");
    agon_buf_addc(&text, ']'); /* the list is a value, too */
    EXPECT_TEXT(through(agon_buf_text(&text), "return function(v) return #v end", NULL), "99999");
    text.size--;
    agon_buf_adds(&text, ",1]");
    EXPECT_HAS(through(agon_buf_text(&text), "return function(v) return #v end", NULL),
               "over 100,000 values");
}

TEST(a_value_that_does_not_fit_is_not_written)
{
    static const char form[] =
        "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}, \"b\": "
        "{\"type\": \"string\"}}, \"required\": [\"a\"]}";
    static const char *const cases[][2] = {
        {"{a = 1}", "{\"a\": 1}"},
        {"{a = 1, b = 'x'}", "{\"a\": 1, \"b\": \"x\"}"},
        {"{b = 'x'}", "value: property 'a' is missing"},
        {"{a = 1, c = 2}", "value: unknown property 'c' (known: a, b)"},
        {"{a = 1.5}", "value.a: expected integer, got number 1.5"},
        {"{a = 1, b = 2}", "value.b: expected string, got integer 2"},
        {"{1}", "value: expected object, got array"},
        {"'a'", "value: expected object, got string 'a'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char chunk[100];
        snprintf(chunk, sizeof(chunk), "return function() return %s end", cases[i][0]);
        EXPECT_HAS(through("null", chunk, form), cases[i][1]);
    }
}
