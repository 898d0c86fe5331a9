/* Schemas: which are well-formed, which values fit, in which words the others are refused. */
#include "base/json.h"
#include "envs/schema.h"
#include "tests/test.h"

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct agon_err err;
    if (!EXPECT(agon_json_parse(&value, agon_str(text), &err) == 0))
        printf("# %s: %s\n", text, err.text);
    return value;
}

TEST(malformed_schemas_are_refused_by_place)
{
    static const char *const cases[][2] = {
        {"[]", "a schema is a JSON object"},
        {"{}", "type is missing"},
        {"{\"type\": \"strnig\"}",
         "type is not one of string, integer, number, boolean, object, array, null"},
        {"{\"type\": [\"string\", \"null\"]}",
         "type is not one of string, integer, number, boolean, object, array, null"},
        {"{\"type\": \"string\", \"pattern\": \"a\"}", "unknown keyword 'pattern'"},
        {"{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\", \"pattern\": "
         "\"a\"}}}",
         "properties.city: unknown keyword 'pattern'"},
        {"{\"type\": \"object\", \"properties\": {}, \"required\": [\"a\"]}",
         "required names 'a', which is no property"},
        {"{\"type\": \"array\", \"items\": {\"type\": \"array\", \"items\": 3}}",
         "items.items: a schema is a JSON object"},
        {"{\"type\": \"string\", \"items\": {\"type\": \"string\"}}", "items needs type array"},
        {"{\"type\": \"string\", \"minimum\": 1}", "minimum needs type number"},
        {"{\"type\": \"integer\", \"minimum\": 3, \"maximum\": 2}", "minimum is above maximum"},
        {"{\"type\": \"array\", \"minItems\": -1}", "minItems is not a count"},
        {"{\"enum\": []}", "enum is not a non-empty array"},
        {"{\"enum\": [[1]]}", "enum holds something other than scalars"},
        {"{\"anyOf\": [{\"type\": \"string\"}]}", "anyOf is not an array of two or more schemas"},
        {"{\"anyOf\": [{\"type\": \"object\"}, {\"type\": \"null\"}]}",
         "anyOf holds something other than a scalar type"},
        {"{\"type\": \"integer\", \"default\": \"x\"}",
         "default: expected integer, got string 'x'"},
        {"{\"type\": \"object\", \"additionalProperties\": {\"type\": \"string\"}}",
         "additionalProperties is neither true nor false"},
        {"{\"type\": \"number\", \"tolerance\": -1}", "tolerance is not a number from 0 up"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        json_auto_t *schema = parse(cases[i][0]);
        struct agon_err err = {0};
        if (EXPECT(agon_schema_check(schema, &err) == 1))
            EXPECT_TEXT(err.text, cases[i][1]);
        else
            printf("# accepted %s\n", cases[i][0]);
    }
}

static const char trip[] =
    "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\", \"enum\": [\"Wien\", "
    "\"Rom\"]},"
    " \"nights\": {\"type\": \"integer\", \"minimum\": 1}, \"price\": {\"type\": \"number\", "
    "\"tolerance\": 0.01},"
    " \"stops\": {\"type\": \"array\", \"minItems\": 1, \"maxItems\": 2, \"items\": {\"type\": "
    "\"object\","
    " \"properties\": {\"at\": {\"type\": \"string\"}}, \"required\": [\"at\"]}},"
    " \"note\": {\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"null\"}]}, \"free\": {\"type\": "
    "\"object\"}},"
    " \"required\": [\"city\"]}";

TEST(values_fit_or_are_refused_by_place)
{
    static const char *const cases[][2] = {
        {"{\"city\": \"Wien\"}", ""},
        {"{\"city\": \"Rom\", \"nights\": 2, \"price\": 3, \"stops\": [{\"at\": \"x\"}], \"note\": "
         "null, \"free\": {\"a\": [1]}}",
         ""},
        {"{\"city\": \"Rom\", \"price\": 3.5, \"note\": \"\"}", ""},
        {"{}", "answer: property 'city' is missing"},
        {"[]", "answer: expected object, got array"},
        {"{\"city\": \"Linz\"}", "answer.city: expected 'Wien' or 'Rom', got string 'Linz'"},
        {"{\"city\": null}", "answer.city: expected string, got null"},
        {"{\"city\": \"Rom\", \"nights\": 0}", "answer.nights: expected at least 1, got integer 0"},
        {"{\"city\": \"Rom\", \"nights\": 2.0}", "answer.nights: expected integer, got number 2.0"},
        {"{\"city\": \"Rom\", \"price\": \"3\"}", "answer.price: expected number, got string '3'"},
        {"{\"city\": \"Rom\", \"stops\": []}", "answer.stops: expected at least 1 items, got 0"},
        {"{\"city\": \"Rom\", \"stops\": [{\"at\": \"a\"}, {\"at\": 1}]}",
         "answer.stops[1].at: expected string, got integer 1"},
        {"{\"city\": \"Rom\", \"stops\": [{}, {}, {}]}",
         "answer.stops: expected at most 2 items, got 3"},
        {"{\"city\": \"Rom\", \"note\": 1}", "answer.note: expected string or null, got integer 1"},
        {"{\"city\": \"Rom\", \"zoo\": 1}",
         "answer: unknown property 'zoo' (known: city, nights, price, stops, note, free)"},
    };
    json_auto_t *schema = parse(trip);
    struct agon_err err = {0};
    REQUIRE(agon_schema_check(schema, &err) == 0);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        json_auto_t *value = parse(cases[i][0]);
        int r = agon_schema_fits(schema, value, "answer", &err);
        EXPECT(r == (*cases[i][1] != '\0'));
        if (r)
            EXPECT_TEXT(err.text, cases[i][1]);
    }
}

TEST(bounds_hold_for_numbers_to_the_last_digit)
{
    json_auto_t *schema = parse("{\"type\": \"number\", \"minimum\": -1, \"maximum\": 3}");
    static const char *const in[] = {"[3]", "[3.0]", "[-1]", "[-1.0]", "[2.999999999]", "[0]"};
    static const char *const out[] = {"[3.5]", "[3.000000001]", "[4]", "[-1.000000001]", "[-2]"};
    struct agon_err err = {0};
    REQUIRE(agon_schema_check(schema, &err) == 0);
    for (size_t i = 0; i < sizeof(in) / sizeof(*in); i++) {
        json_auto_t *value = parse(in[i]);
        if (!EXPECT(agon_schema_fits(schema, json_array_get(value, 0), "answer", &err) == 0))
            printf("# %s\n", in[i]);
    }
    for (size_t i = 0; i < sizeof(out) / sizeof(*out); i++) {
        json_auto_t *value = parse(out[i]);
        if (!EXPECT(agon_schema_fits(schema, json_array_get(value, 0), "answer", &err) == 1))
            printf("# %s\n", out[i]);
    }
}

TEST(names_need_no_quoting_anywhere)
{
    static const char *const good[] = {"a",     "city", "price_eur", "x9",
                                       "state", "step", "year",      "date"};
    static const char *const bad[][2] = {
        {"", "is no name"},
        {"City", "is no name"},
        {"9a", "is no name"},
        {"_a", "is no name"},
        {"a-b", "is no name"},
        {"a b", "is no name"},
        {"stra\xc3\x9f\x65", "is no name"},
        {"order", "a keyword of SQL"},
        {"from", "a keyword of SQL"},
        {"class", "a keyword of Python"},
        {"register", "a keyword of C"},
        {"local", "a keyword of Lua"},
    };
    struct agon_err err;
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        EXPECT(agon_name_check(good[i], &err) == 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        if (EXPECT(agon_name_check(bad[i][0], &err) == 1))
            EXPECT_HAS(err.text, bad[i][1]);
    EXPECT(agon_tool_name_check("state", &err) == 1 &&
           agon_tool_name_check("submit_result", &err) == 1);
    EXPECT(agon_tool_name_check("get_state", &err) == 0);
}
