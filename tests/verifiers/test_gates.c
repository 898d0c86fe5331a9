/*
 * Each gate against proposals that are spoiled in one place, and against good ones. A
 * refusal is held to its gate and to the words that help the author.
 */
#include "tests/test.h"
#include "tests/verifiers/gate_fixture.h"

#include <stdlib.h>

static bool passes(const struct proposal *p, struct outcome *ret)
{
    if (fixture_run(p, ret) && ret->r == 0 && ret->gate == 0)
        return true;
    printf("# refused: %s\n", ret->reason);
    return false;
}

#define REFUSED(name, gate, has, ...)           \
    TEST(name)                                  \
    {                                           \
        NEED_BOX;                               \
        struct proposal p = {__VA_ARGS__};      \
        EXPECT(fixture_refused(&p, gate, has)); \
    }

/* ---- good ones ---- */

TEST(a_good_task_passes_and_its_golden_answer_is_kept)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&fixture_good, &o));
    json_t *answer = json_object_get(o.golden, "answer");
    EXPECT(json_is_string(json_object_get(answer, "item")) &&
           json_is_integer(json_object_get(answer, "price")));
    EXPECT(json_array_size(json_object_get(o.golden, "writes")) == 0);
}

TEST(evidence_says_what_was_found)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&fixture_good, &o));
    EXPECT(json_integer_value(json_object_get(o.evidence, "checks")) == 2);
    EXPECT(json_integer_value(json_object_get(o.evidence, "worlds")) == 32);
    EXPECT(json_integer_value(json_object_get(o.evidence, "calls")) == 1);
    EXPECT(json_integer_value(json_object_get(o.evidence, "necessary_calls")) == 1);
    EXPECT(json_integer_value(json_object_get(o.evidence, "n_survivors")) == 0);
    /* 48 items and fewer prices: all pairs are tried, and one passes. */
    EXPECT(json_integer_value(json_object_get(o.evidence, "guesses_passed")) == 1);
    EXPECT(json_real_value(json_object_get(o.evidence, "guess_rate")) < 0.001);
}

TEST(each_check_gets_a_negative_that_names_it)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&fixture_good, &o));
    REQUIRE(json_array_size(o.negatives) == 2);
    bool dearest = false, price = false;
    for (size_t i = 0; i < 2; i++) {
        const char *fails =
            json_string_value(json_object_get(json_array_get(o.negatives, i), "fails"));
        dearest = dearest || !strcmp(fails, "dearest");
        price = price || !strcmp(fails, "price");
    }
    EXPECT(dearest && price);
}

TEST(the_same_seed_gives_the_same_report)
{
    NEED_BOX;
    struct outcome a AGON_AUTO(outcome_deinit) = {0}, b AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&fixture_next, &a) && passes(&fixture_next, &b));
    EXPECT(json_equal(a.evidence, b.evidence));
    EXPECT(json_equal(a.negatives, b.negatives));
}

TEST(a_harder_level_passes)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    EXPECT(passes(&fixture_next, &o));
}

TEST(a_task_that_writes_passes)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&fixture_order, &o));
    EXPECT(json_array_size(json_object_get(o.golden, "writes")) == 1);
    EXPECT(json_integer_value(json_object_get(o.evidence, "necessary_calls")) == 2);
}

TEST(wrong_answers_of_the_author_come_first)
{
    NEED_BOX;
    struct proposal p = {.wrong = "[{\"answer\": {\"item\": \"Nowhere\", \"price\": 229}}]"};
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&p, &o));
    json_t *first = json_object_get(json_array_get(o.negatives, 0), "answer");
    json_t *golden = json_object_get(o.golden, "answer");
    /* It fails `dearest` alone only where its price is the right one; then it is the negative that
     * is kept. */
    if (json_integer_value(json_object_get(golden, "price")) == 229)
        EXPECT(!strcmp(json_string_value(json_object_get(first, "item")), "Nowhere"));
}

/* ---- gate 1 ---- */

REFUSED(gate1_names_a_verifier_that_does_not_compile, 1, "verifier does not load",
        .verifier = "check{ name = 'x',")
REFUSED(gate1_wants_checks, 1, "no check", .verifier = "local x = 1")
REFUSED(gate1_wants_names_once, 1, "check 'a' stands twice",
        .verifier = "check{ name = 'a', text = 'its name', run = function() return true end }\n"
                    "check{ name = 'a', text = 'its price', run = function() return true end }")
REFUSED(gate1_names_a_solution_that_does_not_compile, 1, "solution does not load",
        .solution = "return function(tools")
REFUSED(gate1_wants_a_valid_schema, 1, "answer schema is not valid",
        .schema = "{\"type\": \"object\", \"patternProperties\": {}}")
REFUSED(gate1_wants_a_prompt, 1, "prompt is empty", .prompt = " \n")

/* ---- gate 2 ---- */

REFUSED(gate2_says_why_a_solution_failed, 2, "no such item",
        .solution = "return function(tools) return tools.get_item{item = 'Unknown'} end")
REFUSED(gate2_names_the_check_that_fails, 2, "check 'price' fails",
        .solution = "return function(tools)\n"
                    "    local best\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                    "        if not best or one.price > best.price then best = one end\n"
                    "    end\n"
                    "    return {item = best.item, price = best.price + 1}\n"
                    "end")
REFUSED(gate2_wants_an_answer, 2, "gives no answer",
        .solution = "return function(tools) tools.list_items{kind = 'tea'} end")
REFUSED(
    gate2_wants_an_answer_that_fits, 2, "gives no answer",
    .solution = "return function(tools) return {item = tools.list_items{kind = 'tea'}[1].item} end")
REFUSED(gate2_names_a_check_that_raises, 2, "ends in an error",
        .verifier = "check{ name = 'dearest', text = 'find the one', run = function(world, answer) "
                    "return answer.x.y end }")
REFUSED(gate2_gives_a_solution_nothing_but_tools, 2, "gives no answer",
        .solution = "return function(tools) return {item = world:value('SELECT item FROM items'), "
                    "price = 1} end")
REFUSED(
    gate2_notices_rows_without_an_order, 2, "ORDER BY",
    .prompt = "Name any item of kind 'tea' as `item`, and its price as `price`.",
    .solution = "return function(tools)\n"
                "    local one = tools.items_in_no_order{kind = 'tea'}[1]\n"
                "    return {item = one.item, price = one.price}\n"
                "end",
    .verifier =
        "check{ name = 'tea', text = 'any item of kind', run = function(world, answer)\n"
        "    return world:value('SELECT kind FROM items WHERE item = ?', answer.item) == 'tea'\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    local price = world:value('SELECT price FROM items WHERE item = ?', answer.item)\n"
        "    return not price or answer.price == price\n"
        "end }",
    .many = true)
REFUSED(gate2_wants_a_tool_call, 2, "calls no tool",
        .solution = "return function(tools) return {item = 'x', price = 2} end",
        .verifier = "check{ name = 'a', text = 'its price', run = function(world, answer) return "
                    "answer.price == 2 end }")

TEST(gate2_wants_every_change_claimed)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    p.solution = "return function(tools)\n"
                 "    local best\n"
                 "    for _, one in ipairs(tools.list_items{kind = 'cocoa'}) do\n"
                 "        if not best or one.price < best.price then best = one end\n"
                 "    end\n"
                 "    tools.place_order{item = best.item, guest = 'Mei Okafor', pieces = 3}\n"
                 "    tools.place_order{item = best.item, guest = 'Ravi Menon', pieces = 3}\n"
                 "    return {cost = 3 * best.price}\n"
                 "end\n";
    EXPECT(fixture_refused(&p, 2, "no check claims a change"));
}

TEST(gate2_wants_writes_looked_at)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    p.verifier =
        "check{ name = 'cost', text = 'what they cost together', run = function(world, answer)\n"
        "    return answer.cost == 3 * world:value(\"SELECT min(price) FROM items WHERE kind = "
        "'cocoa'\")\n"
        "end }\n";
    EXPECT(fixture_refused(&p, 2, "no check claims a change"));
}

/* ---- gate 3 ---- */

REFUSED(gate3_notices_a_verifier_that_accepts_all, 3, "accepts",
        .verifier = "check{ name = 'a', text = 'its price', run = function() return true end }")
REFUSED(gate3_notices_a_verifier_that_only_looks_at_the_kind_of_value, 3, "accepts",
        .verifier = "check{ name = 'a', text = 'its price', run = function(world, answer) return "
                    "type(answer.item) == 'string' end }")
REFUSED(gate3_notices_that_the_right_answer_is_nothing, 3, "must not be nothing",
        .prompt = "How many items of kind 'tea' cost more than 999? Submit it as `n`.",
        .schema = "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}}, "
                  "\"required\": [\"n\"]}",
        .solution = "return function(tools)\n"
                    "    local n = 0\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do if one.price > "
                    "999 then n = n + 1 end end\n"
                    "    return {n = n}\n"
                    "end",
        .verifier =
            "check{ name = 'n', text = 'cost more than 999', run = function(world, answer)\n"
            "    return answer.n == world:value(\"SELECT count(*) FROM items WHERE kind = 'tea' "
            "AND price > 999\")\n"
            "end }")

/* ---- gate 5 ---- */

#define GOOD_CHECKS                                                                               \
    "check{ name = 'dearest', text = 'find the one with the highest price', run = "               \
    "function(world, answer)\n"                                                                   \
    "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER BY " \
    "price DESC, item\")\n"                                                                       \
    "end }\n"                                                                                     \
    "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"       \
    "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "         \
    "'tea'\")\n"                                                                                  \
    "end }\n"

REFUSED(gate5_notices_a_check_that_is_always_true, 5, "fails check 'named' alone",
        .verifier = GOOD_CHECKS
        "check{ name = 'named', text = 'Submit its name', run = function(world, answer)\n"
        "    return #answer.item >= 0\n"
        "end }")
REFUSED(gate5_notices_a_check_that_another_one_implies, 5, "fails check 'exists' alone",
        .verifier = GOOD_CHECKS
        "check{ name = 'exists', text = 'Submit its name', run = function(world, answer)\n"
        "    return world:row('SELECT item FROM items WHERE item = ?', answer.item) ~= nil\n"
        "end }")
REFUSED(
    gate5_takes_no_right_answer_as_a_wrong_one, 5, "accepts what you handed in as wrong",
    .prompt = "Name an item of kind 'tea' as `item`, and its price as `price`.",
    .solution = "return function(tools)\n"
                "    local one = tools.list_items{kind = 'tea'}[1]\n"
                "    return one and {item = one.item, price = one.price}\n"
                "end",
    .verifier =
        "check{ name = 'tea', text = 'an item of kind', run = function(world, answer)\n"
        "    return world:value('SELECT kind FROM items WHERE item = ?', answer.item) == 'tea'\n"
        "end }",
    .wrong = "[{\"answer\": {\"item\": \"Amber Blend\", \"price\": 1}}]", .many = true)
REFUSED(gate5_says_what_a_wrong_answer_looks_like, 5, "wrong answer 1 is no object",
        .wrong = "[{\"item\": \"Amber Blend\"}]")

/* ---- gate 7 ---- */

REFUSED(gate7_wants_the_checks_text_in_the_prompt, 7,
        "does not stand in the prompt word for word: \"find the dearest\"",
        .verifier =
            "check{ name = 'dearest', text = 'find the dearest', run = function(world, answer)\n"
            "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' "
            "ORDER BY price DESC, item\")\n"
            "end }\n"
            "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
            "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
            "'tea'\")\n"
            "end }\n")
REFUSED(gate7_wants_the_prompts_numbers_enforced, 7,
        "the prompt says 12 but no check compares with 12",
        .prompt = "Among the items of kind 'tea' with a stock of at least 12 find the one with the "
                  "highest price. "
                  "Submit its name as `item` and its price as `price`.")
REFUSED(gate7_wants_the_prompts_words_for_numbers_enforced, 7, "the prompt says three but no check",
        .prompt = "Among the three best items of kind 'tea' find the one with the highest price. "
                  "Submit its name as `item` and its price as `price`.")
REFUSED(gate7_wants_the_prompts_names_enforced, 7, "the prompt says 'Amber Leaf' but no check",
        .prompt = "Among the items of kind 'tea' other than 'Amber Leaf' find the one with the "
                  "highest price. "
                  "Submit its name as `item` and its price as `price`.")
REFUSED(gate7_wants_the_prompts_dates_enforced, 7, "the prompt says 2025-03-10 but no check",
        .prompt =
            "On 2025-03-10, among the items of kind 'tea' find the one with the highest price. "
            "Submit its name as `item` and its price as `price`.")
REFUSED(gate7_wants_numbers_in_sql_stated, 7,
        "a check compares with 500 but the prompt does not say so",
        .verifier =
            "check{ name = 'dearest', text = 'find the one with the highest price', run = "
            "function(world, answer)\n"
            "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' AND "
            "price < 500 \"\n"
            "        .. \"ORDER BY price DESC, item\")\n"
            "end }\n"
            "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
            "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
            "'tea'\")\n"
            "end }\n")
REFUSED(gate7_wants_names_in_sql_stated, 7,
        "a check compares with 'tea' but the prompt does not say so",
        .prompt = "Among the leaves that one brews find the one with the highest price (the first "
                  "by name where prices are "
                  "equal). Submit its name as `item` and its price as `price`.")
REFUSED(
    gate7_wants_names_in_lua_stated, 7,
    "a check compares with 'yes' but the prompt does not say so",
    .verifier =
        "check{ name = 'dearest', text = 'find the one with the highest price', run = "
        "function(world, answer)\n"
        "    local best = \"SELECT item FROM items WHERE kind = 'tea' ORDER BY price DESC, item\"\n"
        "    return answer.item ~= 'yes' and answer.item == world:value(best)\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
        "'tea'\")\n"
        "end }\n")
REFUSED(gate7_wants_no_near_duplicate, 7, "nearly the same as that of task t2_l1",
        .other = "Among the items of kind 'tea' find the one with the highest price (the first by "
                 "name where the prices are equal). "
                 "Submit its name as `item` and its price as `price`.")

/* The golden answer, to plant it where it must not stand. */
static const char *golden_item(void)
{
    static char name[64];
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    if (!name[0] && passes(&fixture_good, &o))
        snprintf(name, sizeof(name), "%s",
                 json_string_value(json_object_get(json_object_get(o.golden, "answer"), "item")));
    return name;
}

static const char *golden_price(void)
{
    static char price[16];
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    if (!price[0] && passes(&fixture_good, &o))
        snprintf(price, sizeof(price), "%lld",
                 (long long)json_integer_value(
                     json_object_get(json_object_get(o.golden, "answer"), "price")));
    return price;
}

TEST(gate7_notices_the_answer_in_the_prompt)
{
    NEED_BOX;
    char prompt[500];
    snprintf(prompt, sizeof(prompt),
             "Among the items of kind 'tea' find the one with the highest price. Submit its name "
             "as `item` and "
             "its price as `price`. (It is %s for %s.)",
             golden_item(), golden_price());
    struct proposal p = {.prompt = prompt, .verifier = GOOD_CHECKS, .level = 1};
    /* The price is a number of the prompt that no check has: that is said first, and is just as
     * right. */
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_run(&p, &o));
    EXPECT(o.r == AGON_REJECTED && o.gate == 7);
}

TEST(gate7_notices_that_nothing_is_left_to_find)
{
    NEED_BOX;
    char prompt[500];
    snprintf(prompt, sizeof(prompt),
             "Among the items of kind 'tea' find the one with the highest price, %s. Submit its "
             "name as `item`.",
             golden_item());
    struct proposal p = {
        .prompt = prompt,
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}}, "
                  "\"required\": [\"item\"]}",
        .solution = "return function(tools)\n"
                    "    local best\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                    "        if not best or one.price > best.price then best = one end\n"
                    "    end\n"
                    "    return best and {item = best.item}\n"
                    "end\n",
        .verifier = "check{ name = 'dearest', text = 'find the one with the highest price', run = "
                    "function(world, answer)\n"
                    "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = "
                    "'tea' ORDER BY price DESC, item\")\n"
                    "end }\n",
    };
    EXPECT(fixture_refused(&p, 7, "stands in the prompt already"));
}

TEST(gate7_notices_the_answer_in_the_solution)
{
    NEED_BOX;
    char solution[500];
    snprintf(solution, sizeof(solution),
             "return function(tools)\n"
             "    tools.list_items{kind = 'tea'}\n"
             "    return {item = '%s', price = tools.get_item{item = '%s'}.price}\n"
             "end\n",
             golden_item(), golden_item());
    struct proposal p = {.solution = solution};
    EXPECT(fixture_refused(&p, 7, "the solution contains"));
}

TEST(gate7_notices_the_answer_in_the_verifier)
{
    NEED_BOX;
    char verifier[900];
    snprintf(verifier, sizeof(verifier),
             "check{ name = 'dearest', text = 'find the one with the highest price', run = "
             "function(world, answer)\n"
             "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' "
             "ORDER BY price DESC, item\")\n"
             "end }\n"
             "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
             "    return answer.price == %s\n"
             "end }\n",
             golden_price());
    struct proposal p = {.verifier = verifier};
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_run(&p, &o));
    EXPECT(o.r == AGON_REJECTED && o.gate == 7);
    EXPECT_HAS(o.reason, golden_price());
}

/* ---- gate 8 ---- */

/* Spelled by its bytes, the answer escapes gate 7's eye. */
static void spell_name(char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "string.char(");
    for (const char *p = golden_item(); *p && n < size; p++)
        n += (size_t)snprintf(out + n, size - n, "%s%d", p == golden_item() ? "" : ", ", *p);
    snprintf(out + n, size - n, ")");
}

TEST(gate8_kills_a_hard_coded_answer)
{
    NEED_BOX;
    char name[200], solution[500];
    spell_name(name, sizeof(name));
    snprintf(solution, sizeof(solution),
             "return function(tools)\n"
             "    local rows, price = tools.list_items{kind = 'tea'}, 0\n"
             "    for _, one in ipairs(rows) do price = math.max(price, one.price) end\n"
             "    return {item = %s, price = price}\n"
             "end\n",
             name);
    struct proposal p = {.solution = solution};
    EXPECT(fixture_refused(&p, 8, "does not pass"));
}

TEST(gate8_kills_a_verifier_that_recites)
{
    NEED_BOX;
    char name[200], verifier[900];
    spell_name(name, sizeof(name));
    snprintf(verifier, sizeof(verifier),
             "check{ name = 'dearest', text = 'find the one with the highest price', run = "
             "function(world, answer)\n"
             "    return answer.item == %s\n"
             "end }\n"
             "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
             "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
             "'tea'\")\n"
             "end }\n",
             name);
    struct proposal p = {.verifier = verifier};
    EXPECT(fixture_refused(&p, 8, "check 'dearest' fails"));
}

/* Both recite: the solution passes everywhere, and so does its old answer. */
TEST(gate8_kills_two_that_recite_together)
{
    NEED_BOX;
    char name[200], solution[500], verifier[900];
    spell_name(name, sizeof(name));
    snprintf(solution, sizeof(solution),
             "return function(tools)\n"
             "    tools.list_items{kind = 'tea'}\n"
             "    return {item = %s, price = 42}\n"
             "end\n",
             name);
    snprintf(verifier, sizeof(verifier),
             "check{ name = 'dearest', text = 'find the one with the highest price', run = "
             "function(world, answer)\n"
             "    return answer.item == %s\n"
             "end }\n"
             "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
             "    return answer.price == 42\n"
             "end }\n",
             name);
    struct proposal p = {
        .solution = solution,
        .verifier = verifier,
        .prompt = "Among the items of kind `tea` find the one with the highest price, which is 42. "
                  "Submit its name as `item` and its price as `price`.\n",
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\", "
                  "\"description\": \"a tea\"},"
                  " \"price\": {\"type\": \"integer\"}}, \"required\": [\"item\", \"price\"]}",
    };
    EXPECT(fixture_refused(&p, 8, "same answer in 8 of 8 worlds"));
}

/* A solution that works, with a verifier that would take anything said twice. */
TEST(gate8_wants_a_verifier_that_looks_at_the_world)
{
    NEED_BOX;
    struct proposal p = {
        .many = true,
        .prompt = "Name an item of kind 'tea' as `item`, and the same item again as `again`.",
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\", "
                  "\"description\": \"a tea\"},"
                  " \"again\": {\"type\": \"string\"}}, \"required\": [\"item\", \"again\"]}",
        .solution = "return function(tools)\n"
                    "    local one = tools.list_items{kind = 'tea'}[1]\n"
                    "    return one and {item = one.item, again = one.item}\n"
                    "end",
        .verifier =
            "check{ name = 'again', text = 'the same item again', run = function(world, answer)\n"
            "    return answer.item == answer.again and answer.item:match('^%u%l+ %u%l+$') ~= nil\n"
            "end }",
    };
    EXPECT(fixture_refused(&p, 8, "accepts the old answer in all of 8 worlds"));
}

/* Right wherever there are twelve of them, as here. */
REFUSED(
    gate8_wants_a_solution_that_works_elsewhere, 8, "does not pass",
    .solution =
        "return function(tools)\n"
        "    local best\n"
        "    local rows = tools.list_items{kind = 'tea'}\n"
        "    for _, one in ipairs(rows) do\n"
        "        if not best or one.price > best.price then best = one end\n"
        "    end\n"
        "    return best and {item = best.item, price = best.price + (#rows == 12 and 0 or 1)}\n"
        "end")

/* The verifier takes the last by name where prices are equal, the solution the first: in most
 * worlds no two of the dearest are, so eight worlds may not show it. */
REFUSED(
    gate8_goes_on_where_worlds_are_cheap, 8, "does not pass",
    .verifier =
        "check{ name = 'dearest', text = 'find the one with the highest price', run = "
        "function(world, answer)\n"
        "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER "
        "BY price DESC, item DESC\")\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
        "'tea'\")\n"
        "end }\n")

TEST(gate8_wants_a_task_that_other_worlds_have_too)
{
    NEED_BOX;
    char solution[600];
    int sum = 0;
    for (int i = 0; i < 48; i += 4) /* the teas of the fixture's world */
        sum += (20 + i * 37 % 211) * (i * 29 % 41);
    snprintf(solution, sizeof(solution),
             "return function(tools)\n"
             "    local best, sum = nil, 0\n"
             "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
             "        sum = sum + one.price * one.stock\n"
             "        if not best or one.price > best.price then best = one end\n"
             "    end\n"
             "    if sum ~= %d then return nil end\n"
             "    return {item = best.item, price = best.price}\n"
             "end\n",
             sum);
    struct proposal p = {.solution = solution};
    EXPECT(fixture_refused(&p, 8, "8 are needed"));
}

/* ---- gate 9 ---- */

REFUSED(gate9_refuses_a_single_boolean, 9, "ask for more leaves",
        .prompt = "Does an item of kind 'tea' cost more than 210? Submit true or false as `found`.",
        .schema = "{\"type\": \"object\", \"properties\": {\"found\": {\"type\": \"boolean\"}}, "
                  "\"required\": [\"found\"]}",
        .solution = "return function(tools)\n"
                    "    local n = 0\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do if one.price > "
                    "210 then n = n + 1 end end\n"
                    "    return {found = n > 0}\n"
                    "end",
        .verifier =
            "check{ name = 'found', text = 'cost more than 210', run = function(world, answer)\n"
            "    return answer.found == (world:value(\"SELECT count(*) FROM items WHERE kind = "
            "'tea' AND price > 210\") > 0)\n"
            "end }")
REFUSED(gate9_refuses_one_of_few_kinds, 9, "(0.25; level 1 allows 0.05)",
        .prompt = "What kind is the item with the highest price (the first by name where prices "
                  "are equal)? Submit it as `kind`.",
        .schema = "{\"type\": \"object\", \"properties\": {\"kind\": {\"type\": \"string\"}}, "
                  "\"required\": [\"kind\"]}",
        .solution = "return function(tools)\n"
                    "    local best\n"
                    "    for _, one in ipairs(tools.list_all{}) do\n"
                    "        if not best or one.price > best.price then best = one end\n"
                    "    end\n"
                    "    return {kind = best.kind}\n"
                    "end",
        .verifier = "check{ name = 'kind', text = 'the item with the highest price', run = "
                    "function(world, answer)\n"
                    "    return answer.kind == world:value('SELECT kind FROM items ORDER BY price "
                    "DESC, item')\n"
                    "end }")

TEST(gate9_asks_more_of_higher_levels)
{
    NEED_BOX;
    struct proposal p = {
        .level = 3,
        .prompt = "Among the items of kind 'tea' find the one with the highest price (the first by "
                  "name where prices are equal). "
                  "Submit its name as `item`.",
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}}, "
                  "\"required\": [\"item\"]}",
        .solution = "return function(tools)\n"
                    "    local best\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                    "        if not best or one.price > best.price then best = one end\n"
                    "    end\n"
                    "    return best and {item = best.item}\n"
                    "end\n",
        .verifier = "check{ name = 'dearest', text = 'find the one with the highest price', run = "
                    "function(world, answer)\n"
                    "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = "
                    "'tea' ORDER BY price DESC, item\")\n"
                    "end }\n",
    };
    EXPECT(fixture_refused(&p, 9, "level 3 allows 0.001"));
    p.level = 1; /* one of 48 names is few enough here */
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    EXPECT(passes(&p, &o));
}

/* ---- gate 10 ---- */

REFUSED(gate10_refuses_the_same_again, 10,
        "2 checks that bite and 1 necessary calls, the level below 2 and 1", .level = 2,
        .below = &fixture_good)

TEST(gate10_refuses_an_easier_level)
{
    NEED_BOX;
    struct proposal p = fixture_good;
    p.level = 2;
    p.below = &fixture_next;
    EXPECT(fixture_refused(&p, 10, "the level below 3 and 1"));
}

TEST(gate10_counts_necessary_calls)
{
    NEED_BOX;
    struct proposal p = fixture_good;
    p.level = 2;
    p.below = &fixture_good;
    p.prompt = "Among the items of the kinds 'tea' and 'cocoa' find the one with the highest price "
               "(the first by name where prices "
               "are equal). Submit its name as `item` and its price as `price`.\n";
    p.solution = "return function(tools)\n"
                 "    local best\n"
                 "    for _, kind in ipairs{'tea', 'cocoa'} do\n"
                 "        for _, one in ipairs(tools.list_items{kind = kind}) do\n"
                 "            if not best or one.price > best.price or (one.price == best.price "
                 "and one.item < best.item) then best = one end\n"
                 "        end\n"
                 "    end\n"
                 "    return best and {item = best.item, price = best.price}\n"
                 "end\n";
    p.verifier =
        "check{ name = 'dearest', text = 'find the one with the highest price', run = "
        "function(world, answer)\n"
        "    return answer.item == world:value(\"SELECT item FROM items WHERE kind IN ('tea', "
        "'cocoa') ORDER BY price DESC, item\")\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind IN "
        "('tea', 'cocoa')\")\n"
        "end }\n";
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(passes(&p, &o));
    EXPECT(json_integer_value(json_object_get(o.evidence, "necessary_calls")) == 2);
}

TEST(gate10_does_not_count_calls_for_nothing)
{
    NEED_BOX;
    struct proposal p = fixture_good;
    p.level = 2;
    p.below = &fixture_good;
    p.solution = "return function(tools)\n"
                 "    local best\n"
                 "    tools.list_items{kind = 'cocoa'}\n"
                 "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                 "        if not best or one.price > best.price then best = one end\n"
                 "    end\n"
                 "    return best and {item = best.item, price = best.price}\n"
                 "end\n";
    EXPECT(fixture_refused(&p, 10, "1 necessary calls"));
}

TEST(gate10_notices_that_the_level_below_broke)
{
    NEED_BOX;
    struct proposal below = {.solution = "return function(tools) return tools.list_teas{} end"},
                    p = fixture_good;
    p.level = 2;
    p.below = &below;
    EXPECT(fixture_refused(&p, 10, "no longer passes with these tools"));
}
