/* Tools, calls and the world under them, run in this process on trusted Lua. */
#include "tests/envs/local.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#define OPEN(l)                                                            \
    struct local l;                                                        \
    const char *text;                                                      \
    local_init(&l);                                                        \
    if (!EXPECT(local_open(&l, sample_world, sample_tools, &text) == 0)) { \
        printf("# %s\n", text);                                            \
        local_deinit(&l);                                                  \
        return;                                                            \
    }

#define CALL(l, writes, tool, arguments, status, expected)                \
    do {                                                                  \
        int got = local_call(&(l), writes, tool, arguments, &text);       \
        if (!EXPECT(got == (status)) || !EXPECT(!strcmp(text, expected))) \
            printf("# got %d: %s\n", got, text);                          \
    } while (0)

TEST(rows_keep_the_order_of_their_columns)
{
    OPEN(l);
    CALL(l, NULL, "hotels", "{\"city\": \"Wien\"}", 0,
         "[{\"name\": \"Astoria\", \"price\": 120.0, \"id\": 1}, {\"name\": \"Corso\", \"price\": "
         "null, \"id\": 3}]");
    CALL(l, NULL, "hotels", "{\"city\": \"Rom\"}", 0, "[]");
    local_deinit(&l);
}

TEST(writes_are_replayed_and_failures_leave_nothing)
{
    OPEN(l);
    CALL(l, NULL, "book", "{\"hotel\": \"Corso\", \"guest\": \"Li\"}", 0,
         "{\"booking\": 1, \"nights\": 1}");
    const char *const one[] = {"book", "{\"hotel\": \"Corso\", \"guest\": \"Li\", \"nights\": 1}",
                               NULL};
    CALL(l, one, "book", "{\"hotel\": \"Corso\", \"guest\": \"Nobody\", \"nights\": 2}", 1,
         "nobody may not book");
    CALL(l, one, "book", "{\"hotel\": \"Ritz\", \"guest\": \"Li\"}", 1, "there is no hotel Ritz");
    EXPECT(local_sql(&l, one, "SELECT count(*) AS n FROM booking", &text) == 0);
    EXPECT(!strcmp(text, "[{\"n\": 1}]"));
    CALL(l, NULL, "book", "{\"hotel\": \"Astoria\", \"guest\": \"Ann\"}", 0,
         "{\"booking\": 1, \"nights\": 1}");
    CALL(l, one, "book", "{\"hotel\": \"Astoria\", \"guest\": \"Ann\"}", 0,
         "{\"booking\": 2, \"nights\": 1}");
    local_deinit(&l);
}

TEST(solutions_get_tools_and_nothing_else)
{
    OPEN(l);
    static const char schema[] =
        "{\"type\":\"object\",\"properties\":{\"names\":{\"type\":\"array\",\"items\":"
        "{\"type\":\"string\"}},\"none\":{\"type\":\"object\"}},\"required\":[\"names\"]}";
    EXPECT(local_solve(&l,
                       "return function(tools) local names = {} for _, h in "
                       "ipairs(tools.hotels{city='Wien'}) do "
                       "names[#names+1] = h.name end return {none={}, names=names} end",
                       schema, &text) == 0);
    EXPECT(!strcmp(text, "{\"names\": [\"Astoria\", \"Corso\"], \"none\": {}}"));
    EXPECT(local_solve(&l, "return function(tools) return world:rows('SELECT 1') end", schema,
                       &text) == 1);
    EXPECT_HAS(text, "attempt to index a nil value (global 'world')");
    EXPECT(local_solve(&l,
                       "return function(tools) local ok, why = pcall(tools.book, {hotel='Ritz', "
                       "guest='x'}) return {names={why}} end",
                       schema, &text) == 0);
    EXPECT(!strcmp(text, "{\"names\": [\"tool 'book': there is no hotel Ritz\"]}"));
    local_deinit(&l);
}

TEST(limits_of_a_solution_are_errors_that_it_may_catch)
{
    OPEN(l);
    static const char many[] = "return function(tools) local ok, why for i = 1, 1001 do "
                               "ok, why = pcall(tools.book, {hotel='Corso', guest='g' .. i}) end "
                               "return {#tools.bookings{}, why} end";
    EXPECT(local_solve(&l, many, "", &text) == 0);
    EXPECT_TEXT(text, "[1000, \"tool 'book': over 1000 writing calls were made\"]");
    static const char long_text[] = "return function(tools) local ok, why = pcall(tools.hotels, "
                                    "{city=('\\1'):rep(900000)}) return why end";
    EXPECT(local_solve(&l, long_text, "", &text) == 0);
    EXPECT_HAS(text, "tool 'hotels': arguments: over 1,000,000 bytes of JSON");
    EXPECT(local_solve(&l, "return function() return ('\\1'):rep(900000) end", "", &text) == 1);
    EXPECT_TEXT(text, "answer: over 1,000,000 bytes of JSON");
    EXPECT(local_solve(&l, "return function(tools) for i = 1, 3000 do tools.bookings{} end end", "",
                       &text) == 1);
    EXPECT_TEXT(text, "the solution made over 2000 tool calls");
    EXPECT(local_solve(&l, "return function(tools) while true do pcall(error) end end", "",
                       &text) == 1);
    EXPECT_TEXT(text, "ran out of fuel");
    local_deinit(&l);
}

TEST(nothing_passes_from_one_call_or_run_to_the_next)
{
    static const char counting[] =
        "local n = 0 tool{ name='count', description='count', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"integer\"}]], run=function(world) n = n + 1 seen = (seen or 0) + 1 "
        "string.format = nil return n + seen end }";
    struct local l;
    const char *text;
    local_init(&l);
    REQUIRE(local_open(&l, sample_world, counting, &text) == 0);
    CALL(l, NULL, "count", "{}", 0, "2");
    CALL(l, NULL, "count", "{}", 0, "2");
    for (int i = 0; i < 2; i++) {
        EXPECT(
            local_solve(&l,
                        "return function(tools) seen = (seen or 0) + 1 local n = tools.count{} "
                        "local count = tools.count tools.count = nil return {seen, n, count{}} end",
                        "", &text) == 0);
        EXPECT_TEXT(text, "[1, 2, 2]");
    }
    local_deinit(&l);
}

/* What a solution's calls gave is kept, so all of it has an end. */
TEST(the_results_of_a_solutions_calls_have_a_size)
{
    static const char talking[] =
        "tool{ name='talk', description='d', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"string\"}]], run=function() return ('x'):rep(900000) end }";
    struct local l;
    const char *text;
    local_init(&l);
    REQUIRE(local_open(&l, sample_world, talking, &text) == 0);
    EXPECT(local_solve(&l, "return function(tools) for i = 1, 18 do tools.talk{} end return 1 end",
                       "", &text) == 0);
    EXPECT(local_solve(&l,
                       "return function(tools) for i = 1, 19 do pcall(tools.talk, {}) end return 1 "
                       "end",
                       "", &text) == 1);
    EXPECT_TEXT(text, "the results of all tool calls are over 16 MiB");
    local_deinit(&l);
}

/* ---- declarations ---- */

#define DECLARED(fields) "tool{ " fields " }"
#define PARAMS           "params=[[{\"type\":\"object\"}]], "
#define RETURNS          "returns=[[{\"type\":\"integer\"}]], "
#define RUN              "run=function() return 1 end"

TEST(a_declaration_that_is_wrong_is_refused_with_the_reason)
{
    static const struct {
        const char *tools, *reason;
    } cases[] = {
        {DECLARED("description='d', " PARAMS RETURNS RUN), "name is missing"},
        {DECLARED("name='Run', description='d', " PARAMS RETURNS RUN), "Run"},
        {DECLARED("name='reset', description='d', " PARAMS RETURNS RUN), "reset"},
        {DECLARED("name='a b', description='d', " PARAMS RETURNS RUN), "a b"},
        {DECLARED("name='t', " PARAMS RETURNS RUN), "description is missing"},
        {DECLARED("name='t', description='', " PARAMS RETURNS RUN), "description is empty"},
        {DECLARED("name='t', description=('d'):rep(4001), " PARAMS RETURNS RUN), "over 4000 bytes"},
        {DECLARED("name='t', description='\\xff', " PARAMS RETURNS RUN), "not UTF-8"},
        {DECLARED("name='t', description='d', " RETURNS RUN), "params is missing"},
        {DECLARED("name='t', description='d', params='{', " RETURNS RUN), "params: "},
        {DECLARED("name='t', description='d', params=[[{\"type\":\"array\"}]], " RETURNS RUN),
         "params: type is not object"},
        {DECLARED("name='t', description='d', params=[[{\"type\":\"object\", \"properties\": "
                  "{\"A b\": {\"type\": \"string\"}}}]], " RETURNS RUN),
         "params: "},
        {DECLARED("name='t', description='d', " PARAMS RUN), "returns is missing"},
        {DECLARED("name='t', description='d', " PARAMS RETURNS "writes='yes', " RUN),
         "writes is neither true nor false"},
        {DECLARED("name='t', description='d', " PARAMS RETURNS "run='x'"), "run is missing"},
        {DECLARED("name='t', description='d', " PARAMS RETURNS "wirtes=true, " RUN),
         "unknown field 'wirtes'"},
        {DECLARED("name='t', description='d', " PARAMS RETURNS RUN)
             DECLARED("name='t', description='e', " PARAMS RETURNS RUN),
         "stands twice"},
        {"local p = {} for i = 1, 33 do p[i] = ('\"p%d\": {\"type\": \"string\"}'):format(i) end "
         "tool{ name='t', description='d', params='{\"type\": \"object\", \"properties\": {' .. "
         "table.concat(p, ', ') .. '}}', " RETURNS RUN " }",
         "over 32 parameters"},
        {"for i = 1, 1000 do tool{ name='t' .. i, description='d', " PARAMS RETURNS RUN " } end",
         "tools"},
        {"tool{ name='t', description='d', " PARAMS RETURNS
         "run=function() tool{} end } error('x')",
         "x"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct local l;
        const char *text = "";
        local_init(&l);
        if (!EXPECT(local_open(&l, sample_world, cases[i].tools, &text) != 0))
            printf("# %s\n", cases[i].tools);
        else
            EXPECT_HAS(text, cases[i].reason);
        local_deinit(&l);
    }
}

/* What may be declared while the file is read is no longer there when a tool runs. */
TEST(no_tool_declares_another)
{
    struct local l;
    const char *text;
    local_init(&l);
    REQUIRE(local_open(&l, sample_world,
                       DECLARED("name='t', description=('d'):rep(4000), " PARAMS RETURNS
                                "run=function() tool{} end"),
                       &text) == 0);
    CALL(l, NULL, "t", "{}", 1, "tools:1: attempt to call a nil value (global 'tool')");
    local_deinit(&l);
}
