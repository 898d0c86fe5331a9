/* Gate 7: what prompt, checks and answer must say of each other, spoiled in one place each. */
#include "tests/verifiers/planted.h"

REFUSED(gate7_wants_the_checks_text_in_the_prompt, 7,
        "does not stand in the prompt word for word: \"find the dearest\"",
        .verifier = CHECK("dearest", "find the dearest", "return answer.item == " DEAREST)
            CHECK_PRICE)
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
        .verifier = CHECK("dearest", "find the one with the highest price",
                          "return answer.item == world:value(\"SELECT item FROM items WHERE kind = "
                          "'tea' AND price < 500 \"\n"
                          "        .. \"ORDER BY price DESC, item\")") CHECK_PRICE)
REFUSED(gate7_wants_names_in_sql_stated, 7,
        "a check compares with 'tea' but the prompt does not say so",
        .prompt = "Among the leaves that one brews find the one with the highest price (the first "
                  "by name where prices are "
                  "equal). Submit its name as `item` and its price as `price`.")
REFUSED(gate7_wants_names_in_lua_stated, 7,
        "a check compares with 'yes' but the prompt does not say so",
        .verifier = CHECK(
            "dearest", "find the one with the highest price",
            "local best = \"SELECT item FROM items WHERE kind = 'tea' ORDER BY price DESC, item\"\n"
            "    return answer.item ~= 'yes' and answer.item == world:value(best)") CHECK_PRICE)
REFUSED(gate7_wants_no_near_duplicate, 7, "nearly the same as that of task t2_l1",
        .other = "Among the items of kind 'tea' find the one with the highest price (the first by "
                 "name where the prices are equal). "
                 "Submit its name as `item` and its price as `price`.")

TEST(gate7_notices_the_answer_in_the_prompt)
{
    NEED_BOX;
    char prompt[500];
    snprintf(prompt, sizeof(prompt),
             "Among the items of kind 'tea' find the one with the highest price. Submit its name "
             "as `item` and "
             "its price as `price`. (It is %s for %s.)",
             fixture_golden_item(), fixture_golden_price());
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
             fixture_golden_item());
    struct proposal p = {
        .prompt = prompt,
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}}, "
                  "\"required\": [\"item\"]}",
        .solution = BEST_TEA "    return best and {item = best.item}\n"
                             "end\n",
        .verifier = CHECK_ITEM,
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
             fixture_golden_item(), fixture_golden_item());
    struct proposal p = {.solution = solution};
    EXPECT(fixture_refused(&p, 7, "the solution contains"));
}

TEST(gate7_notices_the_answer_in_the_verifier)
{
    NEED_BOX;
    char verifier[900];
    snprintf(verifier, sizeof(verifier),
             CHECK_ITEM CHECK("price", "its price as `price`", "return answer.price == %s"),
             fixture_golden_price());
    struct proposal p = {.verifier = verifier};
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_run(&p, &o));
    EXPECT(o.r == AGON_REJECTED && o.gate == 7);
    EXPECT_HAS(o.reason, fixture_golden_price());
}

TEST(gate7_notices_a_number_of_the_answer_in_the_solution)
{
    NEED_BOX;
    char solution[500];
    snprintf(solution, sizeof(solution),
             "return function(tools)\n"
             "    local best\n"
             "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
             "        if one.price == %s then best = one end\n"
             "    end\n"
             "    return best and {item = best.item, price = best.price}\n"
             "end\n",
             fixture_golden_price());
    struct proposal p = {.solution = solution};
    EXPECT(fixture_refused(&p, 7, "the solution contains"));
}

TEST(gate7_notices_the_whole_answer_as_it_is_submitted)
{
    NEED_BOX;
    char prompt[600], schema[400];
    snprintf(prompt, sizeof(prompt),
             "Among the items of kind 'tea' find the one with the highest price (the first by name "
             "where prices are equal). Submit {\"item\": \"%s\"}.\n",
             fixture_golden_item());
    snprintf(schema, sizeof(schema),
             "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\", "
             "\"description\": \"%s, say\"}}, \"required\": [\"item\"]}",
             fixture_golden_item());
    struct proposal p = {
        .prompt = prompt,
        .schema = schema,
        .solution = BEST_TEA "    return best and {item = best.item}\n"
                             "end\n",
        .verifier = CHECK_ITEM,
    };
    EXPECT(fixture_refused(&p, 7, "the prompt contains the whole answer"));
}

/* ---- what is said in another way is said ---- */

#define ACCEPTED(name, ...)                               \
    TEST(name)                                            \
    {                                                     \
        NEED_BOX;                                         \
        struct proposal p = {__VA_ARGS__};                \
        struct outcome o AGON_AUTO(outcome_deinit) = {0}; \
        EXPECT(fixture_passes(&p, &o));                   \
    }
#define ITEM_AND(name, type)                                                            \
    "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, \"" name \
    "\": {\"type\": \"" type "\"}}, \"required\": [\"item\", \"" name "\"]}"

ACCEPTED(gate7_knows_a_part_of_a_hundred,
         .prompt = "Among the items of kind 'tea' find the one with the highest price (the first "
                   "by name where prices are equal). Submit its name as `item` and as `tax` 19% "
                   "of its price.\n",
         .schema = ITEM_AND("tax", "number"),
         .solution = BEST_TEA "    return best and {item = best.item, tax = best.price * 0.19}\n"
                              "end\n",
         .verifier = CHECK_ITEM CHECK("tax", "of its price",
                                      "local most = " PRICE "\n"
                                      "    return answer.tax == most * 0.19"))

ACCEPTED(
    gate7_knows_the_third_by_its_index,
    .prompt = "Find the 3rd item of kind 'tea' by name. Submit its name as `item` and its "
              "price as `price`.\n",
    .schema = ITEM_AND("price", "integer"),
    .solution = "return function(tools)\n"
                "    local third = tools.list_items{kind = 'tea'}[3]\n"
                "    return third and {item = third.item, price = third.price}\n"
                "end\n",
    .verifier =
        "local third = \" FROM items WHERE kind = 'tea' ORDER BY item LIMIT 1 OFFSET 2\"\n" CHECK(
            "third", "the 3rd item of kind",
            "return answer.item == world:value('SELECT item' .. third)")
            CHECK("price", "price as `price`",
                  "return answer.price == world:value('SELECT price' .. third)"))

/* `orders` is written and never read: that it is a table is known from what the task says it does.
 */
ACCEPTED(
    gate7_knows_the_tables_that_a_task_writes,
    .tools = "tool{ name = 'list_items', description = 'Items of a kind, by name.', params = "
             "[[{\"type\": \"object\", \"properties\": {\"kind\": {\"type\": \"string\"}}, "
             "\"required\": [\"kind\"]}]], returns = [[{\"type\": \"array\"}]],\n"
             "    run = function(world, a) return world:rows('SELECT item, price FROM items "
             "WHERE kind = ? ORDER BY item', a.kind) end }\n"
             "tool{ name = 'add_order', description = 'Add an order.', writes = true, params = "
             "[[{\"type\": \"object\", \"properties\": {\"number\": {\"type\": \"integer\"}, "
             "\"item\": {\"type\": \"string\"}}, \"required\": [\"number\", \"item\"]}]], returns "
             "= [[{\"type\": \"object\"}]],\n"
             "    run = function(world, a) world:exec('INSERT INTO orders VALUES (?, ?, ?, 1)', "
             "a.number, a.item, 'us') return {} end }\n",
    .prompt = "Place an order with number 9000 for the item of kind 'tea' with the highest price "
              "(the first by name where prices are equal). Submit that price as `price`.\n",
    .schema = "{\"type\": \"object\", \"properties\": {\"price\": {\"type\": \"integer\"}}, "
              "\"required\": [\"price\"]}",
    .effects = "[{\"table\": \"orders\", \"operations\": [\"insert\"]}]",
    .solution = BEST_TEA "    if not best then return nil end\n"
                         "    tools.add_order{number = 9000, item = best.item}\n"
                         "    return {price = best.price}\n"
                         "end\n",
    .verifier = "local made = 'orders'\n" CHECK(
        "added", "order with number 9000",
        "local item = " DEAREST "\n"
        "    return #changes:inserted(made, {order_id = 9000, item = item}) == 1")
        CHECK("price", "Submit that price", "return answer.price == " PRICE))
