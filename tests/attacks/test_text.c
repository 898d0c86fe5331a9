/* F: JSON that a model writes, at each door through which JSON comes in: one rule at all of them
 * (base/json.h; submit_result is in test_submit.c). And names and arguments of calls. */
#include "base/file.h"
#include "base/json.h"
#include "base/opt.h"
#include "envs/env.h"
#include "model/encoding.h"
#include "tests/attacks/victim.h"
#include "verifiers/verdict.h"

#include <unistd.h>

static struct agon_err err;

/* ---- the doors: does a value written so come in, and what is said? ------------------ */

static char said[4096];

static bool say(bool in, const char *text)
{
    snprintf(said, sizeof(said), "%s", text);
    return in;
}

/* before + value + after, in one buffer. */
static struct agon_buf wrap(const char *before, struct agon_str value, const char *after)
{
    struct agon_buf b = AGON_BUF(16 << 20);
    agon_buf_adds(&b, before);
    agon_buf_add_str(&b, value);
    agon_buf_adds(&b, after);
    EXPECT(!b.failed);
    return b;
}

static bool by_reader(struct agon_str value)
{
    json_auto_t *read = NULL;
    err.text[0] = '\0';
    return say(agon_json_parse(&read, value, &err) == 0, err.text);
}

/* Arguments of a call, read in a cell: of a tool that takes whatever is JSON. */
static bool by_arguments(struct agon_str value)
{
    static const char tool[] =
        "tool{ name='any', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"boolean\"}]], run=function(world, a) return true end }";
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = wrap("{\"v\": ", value, "}");
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    int r = agon_runtime_open(&rt, victim_sandbox(), NULL, agon_str(tool), &out, &err);
    if (!r)
        r = agon_instance_new(&in, rt, &err);
    if (!r)
        r = agon_instance_call(in, "any", agon_buf_str(&b), &out, &err);
    EXPECT(r == 0 || r == AGON_TOOL_ERROR);
    return say(r == 0, agon_buf_text(&out));
}

/* An answer before the verifier. */
static bool by_answer(struct agon_str value)
{
    static char verifier[] = "check{ name='a', text='t', run=function() return true end }";
    struct agon_task task = {.verifier = verifier};
    struct agon_verdict v AGON_AUTO(agon_verdict_deinit) = {0};
    struct agon_buf out AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    EXPECT(agon_verdict(victim_runtime(), &task, value, NULL, &v, &out, &err) == 0);
    return say(v.pass, v.schema ? v.schema : "");
}

/* A value that a signature allows, in tools.lua. */
static bool by_signature(struct agon_str value)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = wrap(
        "tool{ name='a', description='d', params=[==[{\"type\":\"object\",\"properties\":"
        "{\"v\":{\"enum\":[",
        value, ",5]}}}]==], returns=[[{\"type\":\"integer\"}]], run=function() return 1 end }");
    enum outcome o = victim_open(NULL, agon_buf_str(&b));
    EXPECT(o == CONTAINED || o == ITEM_REJECTED);
    /* Refused as a schema, or as a source too long to be compiled: as JSON it came in. */
    bool as_json =
        strstr(victim_said, "other than scalars") || strstr(victim_said, "the chunk has");
    return say(o == CONTAINED || as_json, victim_said);
}

/* The golden answer on disk. */
static bool by_folder(struct agon_str value)
{
    static const char *const files[][2] = {
        {"env.json", "{\"id\": \"a\", \"family\": \"g\", \"category\": \"c\", "
                     "\"format_version\": 1}"},
        {"tools.lua", ""},
        {"tasks/t1_l1/task.json", "{\"level\": 1, \"answer_schema\": {\"type\": \"string\"}, "
                                  "\"answers\": \"one\"}"},
        {"tasks/t1_l1/prompt.md", "p"},
        {"tasks/t1_l1/solution.lua", ""},
        {"tasks/t1_l1/verifier.lua", ""}};
    char dir[4000], path[4096];
    snprintf(dir, sizeof(dir), "%s", test_path("folder"));
    snprintf(path, sizeof(path), "%s/tasks/t1_l1", dir);
    EXPECT(agon_dir_make(path, &err) == 0);
    for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i][0]);
        EXPECT(agon_file_write(path, agon_str(files[i][1]), false, &err) == 0);
    }
    struct agon_buf line AGON_AUTO(agon_buf_deinit) = wrap("{\"answer\": ", value, "}\n");
    snprintf(path, sizeof(path), "%s/tasks/t1_l1/answers.jsonl", dir);
    EXPECT(agon_file_write(path, agon_buf_str(&line), false, &err) == 0);
    struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
    err.text[0] = '\0';
    int r = agon_env_load(&e, dir, &err);
    EXPECT(r == 0 || r == AGON_EINPUT);
    return say(r == 0, err.text);
}

/* A turn as a server, a program or a recording gives it, with arguments as an object. */
static bool by_reply(struct agon_str value)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) =
        wrap("{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{\"function\": "
             "{\"name\": \"f\", \"arguments\": {\"v\": ",
             value, "}}}]}");
    json_auto_t *message = NULL;
    char reason[AGON_REASON_SIZE] = "";
    int r = agon_turn_text_parse(&message, agon_buf_str(&b), AGON_THINKING_OFF, reason, &err);
    EXPECT(r == 0 || r == AGON_PARSE_MALFORMED);
    return say(r == 0, reason);
}

/* A stored configuration: an integer option and a list beside it. */
static bool by_options(struct agon_str value)
{
    struct options {
        const char *text;
    } options = {0};
    static const struct agon_opt table[] = {{.name = "text", .type = AGON_OPT_TEXT}, {0}};
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = wrap("{\"text\": [", value, "]}");
    json_auto_t *read = NULL;
    err.text[0] = '\0';
    if (agon_json_parse(&read, agon_buf_str(&b), &err))
        return say(false, err.text);
    EXPECT(agon_opt_load(table, &options, read, &err) == AGON_EINPUT); /* a list is no text */
    return say(true, "");
}

static const struct door {
    const char *name;
    bool (*comes_in)(struct agon_str value);
    bool in_cell; /* with the narrower limits of cells */
} doors[] = {{"reader", by_reader, false},        {"arguments", by_arguments, true},
             {"answer", by_answer, true},         {"signature", by_signature, false},
             {"folder", by_folder, false},        {"reply", by_reply, false},
             {"configuration", by_options, false}};

enum { SOURCE_BYTES = 90000 }; /* a longer one is refused before anything reads it */
enum where { NOWHERE, IN_THE_DRIVER, EVERYWHERE };

/* The value comes in where `where` says, and a refusal says something on one line. */
static void expect_doors(struct agon_str value, enum where where)
{
    for (size_t i = 0; i < sizeof(doors) / sizeof(*doors); i++) {
        if (doors[i].comes_in == by_signature && value.size > SOURCE_BYTES)
            continue;
        bool wanted = where == EVERYWHERE || (where == IN_THE_DRIVER && !doors[i].in_cell);
        bool in = doors[i].comes_in(value);
        if (!EXPECT(in == wanted))
            printf("# %s: %.100s %s: %s\n", doors[i].name, value.data, in ? "came in" : "did not",
                   said);
        EXPECT(in || (said[0] && !strchr(said, '\n') && strlen(said) < 1000));
    }
}

#define JSON_ATTACK(id, where, value)                                     \
    ATTACK(id)                                                            \
    {                                                                     \
        expect_doors((struct agon_str){value, sizeof(value) - 1}, where); \
    }

/* ---- F1: depth and size ------------------------------------------------------------- */

static void expect_repeated(const char *unit, int n, const char *middle, const char *close,
                            enum where where)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    for (int i = 0; i < n; i++)
        agon_buf_adds(&b, unit);
    agon_buf_adds(&b, middle);
    for (int i = 0; i < n && *close; i++)
        agon_buf_adds(&b, close);
    expect_doors(agon_buf_str(&b), where);
}

ATTACK(F1_a_megabyte_of_open_lists)
{
    expect_repeated("[", 1 << 20, "", "", NOWHERE);
}

ATTACK(F1_objects_100000_deep)
{
    expect_repeated("{\"a\":", 100000, "1", "}", NOWHERE);
}

ATTACK(F1_a_cell_reads_31_deep_within_an_object)
{
    expect_repeated("[", 31, "1", "]", EVERYWHERE);
}

ATTACK(F1_deeper_than_a_cell_reads)
{
    expect_repeated("[", 40, "1", "]", IN_THE_DRIVER);
}

ATTACK(F1_a_megabyte_of_empty_lists)
{
    b->rss_mib_max = 600; /* 260,000 values in the driver, more than a cell takes */
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    agon_buf_adds(&text, "[[]");
    for (int i = 0; i < 260000; i++)
        agon_buf_adds(&text, ",[]");
    agon_buf_adds(&text, "]");
    expect_doors(agon_buf_str(&text), IN_THE_DRIVER);
}

ATTACK(F1_more_values_than_anything_needs)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
    json_auto_t *none = NULL;
    agon_buf_addc(&text, '[');
    for (int i = 0; i < AGON_JSON_VALUES_MAX; i++)
        agon_buf_adds(&text, "1,");
    agon_buf_adds(&text, "1]");
    EXPECT(agon_json_parse(&none, agon_buf_str(&text), &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "over 2,097,152 values");
}

/* ---- F3: a key twice ---------------------------------------------------------------- */

JSON_ATTACK(F3_a_key_twice, NOWHERE, "{\"a\": 1, \"a\": 2}")
JSON_ATTACK(F3_a_key_twice_in_two_spellings, NOWHERE, "{\"a\": 1, \"\\u0061\": 1}")
JSON_ATTACK(F3_a_key_twice_deep_within, NOWHERE, "[{\"x\": [{\"\": 1, \"\": null}]}]")
JSON_ATTACK(F3_keys_that_only_look_alike, EVERYWHERE, "{\"a\": 1, \"A\": 2, \"\xD0\xB0\": 3}")

/* ---- F4: numbers -------------------------------------------------------------------- */

JSON_ATTACK(F4_nan, NOWHERE, "NaN")
JSON_ATTACK(F4_infinity, NOWHERE, "-Infinity")
JSON_ATTACK(F4_1e999, NOWHERE, "1e999")
JSON_ATTACK(F4_minus_1e999, NOWHERE, "-1e999")
JSON_ATTACK(F4_2_to_the_63rd, NOWHERE, "9223372036854775808")
JSON_ATTACK(F4_below_the_least_integer, NOWHERE, "-9223372036854775809")
JSON_ATTACK(F4_the_largest_integer, EVERYWHERE, "9223372036854775807")
JSON_ATTACK(F4_the_least_integer, EVERYWHERE, "-9223372036854775808")
JSON_ATTACK(F4_minus_zero, EVERYWHERE, "-0")
JSON_ATTACK(F4_minus_zero_with_a_point, EVERYWHERE, "-0.0")
JSON_ATTACK(F4_too_small_to_tell_from_zero, EVERYWHERE, "1e-999")
JSON_ATTACK(F4_leading_zero, NOWHERE, "01")
JSON_ATTACK(F4_hexadecimal, NOWHERE, "0x10")
JSON_ATTACK(F4_plus, NOWHERE, "+1")
JSON_ATTACK(F4_bare_point, NOWHERE, "1.")
JSON_ATTACK(F4_digits_of_another_script, NOWHERE, "\xD9\xA1")

ATTACK(F4_a_number_of_a_megabyte)
{
    expect_repeated("1", 1 << 20, "", "", NOWHERE);
}

/* What comes back from SQL and Lua tells the kinds apart. */
ATTACK(F4_one_is_no_float_and_1_0_no_integer)
{
    static const char *const cases[][2] = {
        {"{\"v\": 1}", "[{\"v\": 1}]"},
        {"{\"v\": 1.0}", "[{\"v\": 1.0}]"},
        {"{\"v\": -0}", "[{\"v\": 0}]"},
        {"{\"v\": 1e2}", "[{\"v\": 100.0}]"},
        {"{\"v\": -0.0}", "[{\"v\": -0.0}]"},
        {"{\"v\": 9007199254740993}", "[{\"v\": 9007199254740993}]"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        EXPECT(victim_call("bound", agon_str(cases[i][0])) == CONTAINED);
        EXPECT_TEXT(victim_said, cases[i][1]);
    }
    EXPECT_OUTCOME(victim_call("find", agon_str("{\"name\": \"x\", \"most\": 1.0}")), TOOL_ERROR,
                   victim_said, "arguments.most: expected integer, got number 1.0");
    EXPECT(victim_call("find", agon_str("{\"name\": \"x\", \"most\": 1}")) == CONTAINED);
}

/* ---- F5: text ----------------------------------------------------------------------- */

JSON_ATTACK(F5_a_byte_that_is_no_utf8, NOWHERE, "\"\xff\"")
JSON_ATTACK(F5_overlong_slash, NOWHERE, "\"\xC0\xAF\"")
JSON_ATTACK(F5_overlong_nul, NOWHERE, "\"\xC0\x80\"")
JSON_ATTACK(F5_encoded_surrogate, NOWHERE, "\"\xED\xA0\x80\"")
JSON_ATTACK(F5_beyond_unicode, NOWHERE, "\"\xF4\x90\x80\x80\"")
JSON_ATTACK(F5_cut_character, NOWHERE, "\"\xF0\x9F\x98\"")
JSON_ATTACK(F5_lone_high_surrogate, NOWHERE, "\"\\ud800\"")
JSON_ATTACK(F5_lone_low_surrogate, NOWHERE, "\"x\\udc00\"")
JSON_ATTACK(F5_a_high_surrogate_before_a_letter, NOWHERE, "\"\\ud800\\ue000\"")
JSON_ATTACK(F5_surrogates_the_wrong_way_round, NOWHERE, "\"\\udc00\\ud800\"")
JSON_ATTACK(F5_a_pair, EVERYWHERE, "\"\\ud83d\\ude00\"")
JSON_ATTACK(F5_byte_order_mark, NOWHERE,
            "\xEF\xBB\xBF"
            "1")
JSON_ATTACK(F5_escaped_nul, NOWHERE, "\"a\\u0000b\"")
JSON_ATTACK(F5_escaped_nul_in_a_key, NOWHERE, "{\"a\\u0000b\": 1}")
JSON_ATTACK(F5_raw_nul_in_a_string, NOWHERE, "\"a\0b\"")
JSON_ATTACK(F5_raw_nul_after_a_number, NOWHERE, "1\0")
JSON_ATTACK(F5_raw_newline_in_a_string, NOWHERE, "\"a\nb\"")
JSON_ATTACK(F5_comment, NOWHERE, "1 /* x */")
JSON_ATTACK(F5_trailing_comma, NOWHERE, "[1,]")
JSON_ATTACK(F5_single_quotes, NOWHERE, "'a'")
JSON_ATTACK(F5_no_break_space, NOWHERE,
            "\xC2\xA0"
            "1")

/* ---- F7: names ---------------------------------------------------------------------- */

static void expect_no_tool(const char *name)
{
    enum outcome o = victim_call(name, agon_str("{\"v\": 1}"));
    EXPECT_OUTCOME(o, TOOL_ERROR, victim_said, "");
    EXPECT(strlen(victim_said) < 1000); /* a long name is not told back in full */
}

ATTACK(F7_names_match_exactly)
{
    static const char *const names[] = {"",
                                        " bound",
                                        "bound ",
                                        "Bound",
                                        "bound\n",
                                        "b\xD0\xBEund", /* a Cyrillic o */
                                        "bound\xE2\x80\x8B",
                                        "__index",
                                        "../bound",
                                        "bound;x",
                                        "bound(",
                                        "%s%n",
                                        "submit_result",
                                        "\xff\xfe",
                                        "<\xEF\xBD\x9CUser\xEF\xBD\x9C>"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        expect_no_tool(names[i]);
}

ATTACK(F7_a_name_of_a_megabyte)
{
    struct agon_buf name AGON_AUTO(agon_buf_deinit) = AGON_BUF(2 << 20);
    while (name.size < 1 << 20)
        agon_buf_adds(&name, "bound");
    expect_no_tool(agon_buf_text(&name));
}

/* ---- F8: arguments ------------------------------------------------------------------ */

ATTACK(F8_arguments_that_do_not_fit)
{
    static const char *const cases[][2] = {
        {"{}", "name"},
        {"{\"name\": 1}", "expected string, got integer 1"},
        {"{\"name\": null}", "expected string"},
        {"{\"name\": {\"a\": [1]}}", "expected string"},
        {"{\"name\": [\"x\"]}", "expected string"},
        {"{\"name\": \"x\", \"extra\": 1}", "extra"},
        {"{\"name\": \"x\", \"most\": 0}", "most"},
        {"{\"name\": \"x\", \"most\": 10}", "most"},
        {"{\"name\": \"x\", \"most\": \"3\"}", "most"},
        {"{\"name\": \"x\", \"most\": true}", "most"},
        {"{\"name\": \"x\", \"most\": null}", "most"},
        {"{\"name\": \"x\", \"NAME\": \"y\"}", "NAME"},
        {"[]", "arguments"},
        {"[\"x\"]", "arguments"},
        {"\"x\"", "arguments"},
        {"null", "arguments"},
        {"1", "arguments"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++)
        EXPECT_OUTCOME(victim_call("find", agon_str(cases[i][0])), TOOL_ERROR, victim_said,
                       cases[i][1]);
}

/* A word that is 1 MB long is data, not structure; it comes back as it went in, or is refused. */
ATTACK(F8_an_argument_of_a_megabyte)
{
    struct agon_buf b1 AGON_AUTO(agon_buf_deinit) = AGON_BUF(4 << 20);
    agon_buf_adds(&b1, "{\"name\": \"");
    while (b1.size < 990000)
        agon_buf_adds(&b1, "\\u0041");
    agon_buf_adds(&b1, "\"}");
    EXPECT(victim_call("find", agon_buf_str(&b1)) == CONTAINED);
    EXPECT_TEXT(victim_said, "[]");
    b1.size -= 2;
    while (b1.size < 1100000)
        agon_buf_adds(&b1, "A");
    agon_buf_adds(&b1, "\"}");
    EXPECT_OUTCOME(victim_call("find", agon_buf_str(&b1)), TOOL_ERROR, victim_said,
                   "over 1,000,000 bytes");
}
