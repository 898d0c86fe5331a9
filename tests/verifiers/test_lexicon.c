#include "verifiers/lexicon.h"

#include "tests/test.h"

#include <stdio.h>

/* The prompt's mentions as "number:12 quoted:rain ..." */
static const char *mentions_of(const char *prompt)
{
    static const char *const kinds[] = {"number", "moment", "quoted"};
    static char out[1000];
    struct agon_mentions m;
    struct agon_err err;
    size_t n = 0;
    out[0] = '\0';
    if (agon_prompt_mentions(&m, agon_str(prompt), &err))
        return "out of memory";
    for (size_t i = 0; i < m.n; i++)
        n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%s:%s%s", i ? " " : "",
                              kinds[m.items[i].kind], m.items[i].text, m.items[i].loose ? "?" : "");
    agon_mentions_deinit(&m);
    return out;
}

/* What the code compares with, as "12 'rain' ..."; all: the other literals too, in brackets. */
static const char *literals_of(const char *lua, bool all)
{
    static char out[2000];
    struct agon_literals l;
    struct agon_err err;
    json_auto_t *identifiers = json_pack("{s:b, s:b}", "bookings", 1, "guest", 1);
    size_t n = 0;
    out[0] = '\0';
    if (agon_lua_literals(&l, agon_str(lua), identifiers, &err))
        return "out of memory";
    for (size_t i = 0; i < l.n; i++) {
        const struct agon_literal *one = &l.items[i];
        const char *quote = one->is_number ? "" : "'";
        if (one->compared)
            n += (size_t)snprintf(out + n, sizeof(out) - n, "%s%s%s%s", n ? " " : "", quote,
                                  one->text, quote);
        else if (all)
            n += (size_t)snprintf(out + n, sizeof(out) - n, "%s[%s]", n ? " " : "", one->text);
    }
    agon_literals_deinit(&l);
    return out;
}

static bool gives(const char *got, const char *want)
{
    if (!strcmp(got, want))
        return true;
    printf("# got  %s\n# want %s\n", got, want);
    return false;
}

TEST(numbers_are_found_as_digits_and_as_words)
{
    EXPECT(gives(mentions_of("Find three cars with at least 12 or 1,200 km."),
                 "number:three number:12 number:1,200"));
    EXPECT(gives(mentions_of("20% of 3.5, the 3rd."), "number:20 number:3.5 number:3"));
    EXPECT(
        gives(mentions_of("between 200-500, then 7,8"), "number:200 number:500 number:7 number:8"));
    EXPECT(gives(mentions_of("Twelve of them; eleven"), "number:Twelve number:eleven"));
}

TEST(a_word_that_only_may_be_a_number_is_loose)
{
    EXPECT(gives(mentions_of("one of both, twice"), "number:one? number:both? number:twice?"));
}

TEST(how_many_decimals_is_no_number_to_compare_with)
{
    EXPECT(gives(mentions_of("to 2 decimals, three decimal places, 4-digit, 5 places, 2 dec"),
                 "number:2? number:three? number:4? number:5 number:2"));
}

TEST(digits_inside_names_are_no_numbers)
{
    EXPECT(gives(mentions_of("Room B12, 7a, x2y and H1_3"), ""));
}

TEST(dates_and_times_are_one_token)
{
    EXPECT(gives(mentions_of("from 2025-10-01 to 2025-11 at 09:30"),
                 "moment:2025-10-01 moment:2025-11 moment:09:30"));
    EXPECT(gives(mentions_of("from 1990-1995"), "number:1990 number:1995"));
}

TEST(list_numbering_says_nothing)
{
    EXPECT(gives(mentions_of("Do this:\n1. Pick 4 cars.\n 2) Stop."), "number:4"));
}

TEST(quoted_names_are_told_from_apostrophes)
{
    EXPECT(gives(mentions_of("Lend Mei's copy of 'The Salt Road' to the members' desk, not \"x\"."),
                 "quoted:The Salt Road quoted:x"));
    EXPECT(gives(mentions_of("'The Clockmaker's Debt' and `lent` and \xe2\x80\x9cHall\xe2\x80\x9d"),
                 "quoted:The Clockmaker's Debt quoted:lent quoted:Hall"));
}

TEST(a_number_is_found_by_value)
{
    struct agon_mentions m;
    struct agon_err err;
    REQUIRE(agon_prompt_mentions(&m, agon_str("20% of 3 at 4.0 on 2025-10-02"), &err) == 0);
    EXPECT(agon_mentions_number(&m, 0.2) && agon_mentions_number(&m, 20));
    EXPECT(agon_mentions_number(&m, 4) && agon_mentions_number(&m, 3));
    EXPECT(agon_mentions_number(&m, 2025)); /* a date states its digits */
    EXPECT(!agon_mentions_number(&m, 12));
    agon_mentions_deinit(&m);
}

TEST(comparisons_are_found)
{
    EXPECT(gives(literals_of("return answer.x == 'Hall' and n >= 12 or n ~= -4.5", false),
                 "'Hall' 12 4.5"));
    EXPECT(gives(literals_of("return same(answer, {'a b', [[c d]]})", false), "'a b' 'c d'"));
}

TEST(zero_one_indices_and_keys_are_not_compared)
{
    EXPECT(
        gives(literals_of("return a[3].b == 0 and a['k'] == 1 and ({['x'] = y})[2]", false), ""));
    EXPECT(gives(literals_of("for i = 1, 7 do x(i) end", false), ""));
    EXPECT(gives(literals_of("for _, v in ipairs{5, 6} do x(v) end", false), "5 6"));
}

TEST(identifiers_tables_and_labels_are_not_compared)
{
    EXPECT(gives(literals_of("changes:inserted('orders', {guest = 'Li'}); f(row, 'guest')", false),
                 "'Li'"));
    EXPECT(gives(literals_of("check{ name = 'n1', text = 'Find ' .. \"three\", run = function() "
                             "return {name = 'Li'} end }",
                             true),
                 "[n1] [Find ] [three] 'Li'"));
    EXPECT(gives(literals_of("check({ name = 'n1', text = 't' })", true), "[n1] [t]"));
}

TEST(formats_roundings_and_tolerances_are_not_compared)
{
    EXPECT(gives(
        literals_of("math.floor(x * 100 + 0.5) / 100 == s:sub(3, 7) and near(a, 15, 0.01)", false),
        "15"));
    EXPECT(
        gives(literals_of("string.format('%5d, ', x) == y and type(x) == 'string' and (x .. ', ')",
                          false),
              ""));
}

TEST(literals_inside_sql_are_found)
{
    EXPECT(gives(literals_of("world:rows(\"SELECT a FROM t WHERE b = 'it''s' AND c > 4.5 AND d "
                             "LIKE '%rain%' LIMIT 3\", 'Li')",
                             false),
                 "'it''s' 4.5 'rain' 3 'Li'"));
    EXPECT(gives(
        literals_of("world:value([[select count(*) from t where k = ]] .. n .. [[ and m < 9]])",
                    false),
        "9"));
}

TEST(places_inside_sql_are_not_compared)
{
    EXPECT(gives(literals_of("world:value(\"SELECT round(avg(x), 2), substr(d, 6, 2) FROM t1 WHERE "
                             "y = ?2 LIMIT 1 OFFSET 2\")",
                             false),
                 ""));
    EXPECT(gives(literals_of("world:value(\"SELECT strftime('%Y-%m', d), date(d, '+1 day') FROM t "
                             "WHERE d < date('2025-03-01')\")",
                             false),
                 "'2025-03-01'"));
}

TEST(a_part_of_a_statement_is_no_text)
{
    EXPECT(gives(literals_of("local rest = ' FROM t WHERE a > 5 ORDER BY b' "
                             "world:value('SELECT a' .. rest) return x == 'from here'",
                             false),
                 "5 'from here'"));
}

TEST(comments_and_escapes_are_understood)
{
    EXPECT(gives(
        literals_of("-- 99 'x'\n--[[ 98 ]] return a == 'q\\'s\\65' and b == 0x10 --[==[ 97", false),
        "'q'sA' 0x10"));
}

TEST(what_is_no_lua_yields_tokens_and_no_crash)
{
    static const char *const texts[] = {"'open", "[[open", "[==[ ]=]", "))))",
                                        "\"\\",  "1e",     "0x",       "--[[",
                                        "'",     "[",      "\\",       "world:rows('SELECT ''"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(*texts); i++)
        EXPECT(literals_of(texts[i], true) != NULL);
}

TEST(likeness_tells_the_same_question_from_another)
{
    struct agon_str a =
        agon_str("Which of the cars with 8 cylinders has the greatest weight? Give its name.");
    EXPECT(agon_prompt_likeness(a, a) == 1.0);
    EXPECT(
        agon_prompt_likeness(
            a,
            agon_str(
                "which of the cars, with 8 cylinders, has the greatest weight; give its NAME")) ==
        1.0);
    EXPECT(agon_prompt_likeness(a, agon_str("How many members live in Oslo?")) == 0.0);
    double other_name = agon_prompt_likeness(
        a, agon_str("Which of the cars with 6 cylinders has the greatest weight? Give its name."));
    EXPECT(other_name > 0.5 && other_name < 0.8);
}
