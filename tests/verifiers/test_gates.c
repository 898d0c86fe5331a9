/*
 * Gates 1 to 5 against proposals that are spoiled in one place, and all of them against good ones.
 * A refusal is held to its gate and to the words that help the author. (Gate 6: test_planted.c.)
 */
#include "tests/verifiers/planted.h"

/* ---- good ones ---- */

TEST(a_good_task_passes_and_its_golden_answer_is_kept)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_passes(&fixture_good, &o));
    json_t *answer = json_object_get(o.golden, "answer");
    EXPECT(json_is_string(json_object_get(answer, "item")) &&
           json_is_integer(json_object_get(answer, "price")));
    EXPECT(json_array_size(json_object_get(o.golden, "writes")) == 0);
}

TEST(evidence_says_what_was_found)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_passes(&fixture_good, &o));
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
    REQUIRE(fixture_passes(&fixture_good, &o));
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
    REQUIRE(fixture_passes(&fixture_next, &a) && fixture_passes(&fixture_next, &b));
    EXPECT(json_equal(a.evidence, b.evidence));
    EXPECT(json_equal(a.negatives, b.negatives));
}

TEST(a_harder_level_passes)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    EXPECT(fixture_passes(&fixture_next, &o));
}

TEST(a_task_that_writes_passes)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_passes(&fixture_order, &o));
    EXPECT(json_array_size(json_object_get(o.golden, "writes")) == 1);
    EXPECT(json_integer_value(json_object_get(o.evidence, "necessary_calls")) == 2);
}

TEST(wrong_answers_of_the_author_come_first)
{
    NEED_BOX;
    struct proposal p = {.wrong = "[{\"answer\": {\"item\": \"Nowhere\", \"price\": 229}}]"};
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_passes(&p, &o));
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
        .solution = BEST_TEA "    return {item = best.item, price = best.price + 1}\n"
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
    .verifier = CHECK(
        "tea", "any item of kind",
        "return world:value('SELECT kind FROM items WHERE item = ?', answer.item) == 'tea'")
        CHECK("price", "its price as `price`",
              "local price = world:value('SELECT price FROM items WHERE item = ?', answer.item)\n"
              "    return not price or answer.price == price"),
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
    p.verifier = CHECK("cost", "what they cost together",
                       "return answer.cost == 3 * world:value(\"SELECT min(price) FROM items WHERE "
                       "kind = 'cocoa'\")");
    EXPECT(fixture_refused(&p, 2, "no check claims a change"));
}

REFUSED(gate2_notices_writes_without_an_order, 2, "gives another answer",
        .prompt = "Order 2 pieces of each item of kind 'tea' with a price below 60 for the guest "
                  "'Mei Okafor'. Submit as `n` how many items that are and as `sum` what their "
                  "prices come to.\n",
        .schema = "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}, "
                  "\"sum\": {\"type\": \"integer\"}}, \"required\": [\"n\", \"sum\"]}",
        .effects = "[{\"table\": \"orders\", \"operations\": [\"insert\"]}]",
        .solution = "return function(tools)\n"
                    "    local n, sum = 0, 0\n"
                    "    for _, one in ipairs(tools.items_in_no_order{kind = 'tea'}) do\n"
                    "        if one.price < 60 then\n"
                    "            n, sum = n + 1, sum + one.price\n"
                    "            tools.place_order{item = one.item, guest = 'Mei Okafor', "
                    "pieces = 2}\n"
                    "        end\n"
                    "    end\n"
                    "    return {n = n, sum = sum}\n"
                    "end\n",
        .verifier = CHECK(
            "n", "Order 2 pieces of each item",
            "return #changes:inserted('orders', {guest = 'Mei Okafor', pieces = 2}) == answer.n"))

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
        .verifier = CHECK("n", "cost more than 999",
                          "return answer.n == world:value(\"SELECT count(*) FROM items WHERE kind "
                          "= 'tea' AND price > 999\")"))

/* A verifier may take one kind of nothing for an answer: each is handed to it. */
TEST(gate3_hands_in_each_kind_of_nothing)
{
    NEED_BOX;
#define OPEN_OBJECT                                                               \
    "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}}, " \
    "\"additionalProperties\": true}"
#define MAYBE(type) "{\"anyOf\": [{\"type\": \"string\"}, {\"type\": \"" type "\"}]}"
    static const struct {
        const char *schema, *answer, *takes, *what;
    } kinds[] = {
        {MAYBE("null"), "best.item", "answer == null", "null (null)"},
        {OPEN_OBJECT, "{item = best.item}", "next(answer) == nil", "an empty object ({})"},
        {OPEN_OBJECT, "{item = best.item}", "answer.x == 1", "an unknown key ({\"x\": 1})"},
        {OPEN_OBJECT, "{item = best.item}", "answer.item == ''", "an answer without content"},
        {OPEN_OBJECT, "{item = best.item}", "answer.item == 'lorem'", "an answer of dummy texts"},
        {OPEN_OBJECT, "{item = best.item}", "#answer.item > 60", "the prompt echoed in every text"},
        {"{\"type\": \"boolean\"}", "best.price < 100", "answer == true", "true (true)"},
        {"{\"type\": \"array\", \"items\": " MAYBE("null") "}", "{best.item}", "answer[1] == null",
         "a list of null ([null])"},
        {MAYBE("integer"), "best.item", "answer == 0", "zero (0)"},
        {MAYBE("integer"), "best.item", "answer == 7", "an answer of wrong types (7)"},
        {MAYBE("null"), "best.item", "answer == ''", "an empty text (\"\")"},
        {MAYBE("null"), "best.item", "answer == 'lorem'", "a text (\"lorem\")"},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        char verifier[600], solution[400];
        snprintf(solution, sizeof(solution),
                 BEST_TEA "    return %s\n"
                          "end\n",
                 kinds[i].answer);
        snprintf(verifier, sizeof(verifier),
                 CHECK("any", "Submit its name",
                       "local ok, nothing = pcall(function() return %s end)\n"
                       "    local best = world:row(\"SELECT item, price FROM items WHERE kind = "
                       "'tea' ORDER BY price DESC, item\")\n"
                       "    return ok and nothing or same(answer, %s)"),
                 kinds[i].takes, kinds[i].answer);
        struct proposal p = {.verifier = verifier, .schema = kinds[i].schema, .solution = solution};
        EXPECT(fixture_refused(&p, 3, kinds[i].what));
    }
}

/* ---- gate 5 ---- */

REFUSED(gate5_notices_a_check_that_is_always_true, 5, "fails check 'named' alone",
        .verifier = GOOD_CHECKS CHECK("named", "Submit its name", "return #answer.item >= 0"))
REFUSED(gate5_notices_a_check_that_another_one_implies, 5, "fails check 'exists' alone",
        .verifier = GOOD_CHECKS CHECK(
            "exists", "Submit its name",
            "return world:row('SELECT item FROM items WHERE item = ?', answer.item) ~= nil"))
REFUSED(gate5_takes_no_right_answer_as_a_wrong_one, 5, "accepts what you handed in as wrong",
        .prompt = "Name an item of kind 'tea' as `item`, and its price as `price`.",
        .solution = "return function(tools)\n"
                    "    local one = tools.list_items{kind = 'tea'}[1]\n"
                    "    return one and {item = one.item, price = one.price}\n"
                    "end",
        .verifier = CHECK(
            "tea", "an item of kind",
            "return world:value('SELECT kind FROM items WHERE item = ?', answer.item) == 'tea'"),
        .wrong = "[{\"answer\": {\"item\": \"Amber Blend\", \"price\": 1}}]", .many = true)
REFUSED(gate5_says_what_a_wrong_answer_looks_like, 5, "wrong answer 1 is no object",
        .wrong = "[{\"item\": \"Amber Blend\"}]")

/* An answer that fails two checks is no evidence for the first of them. */
REFUSED(gate5_notices_an_implied_check_that_comes_first, 5, "fails check 'exists' alone",
        .verifier =
            CHECK("exists", "Submit its name",
                  "return world:row('SELECT item FROM items WHERE item = ?', answer.item) ~= nil")
                GOOD_CHECKS)

/* Another item's row is right in three places at once: no mutant of one leaf or two is. */
#define WHOLE_ROW(tail)                                                                          \
    {                                                                                            \
        .prompt = "Among the items of kind 'tea' find the one with the highest price (the "      \
                  "first by name where prices are equal). Submit its name as `item`, its price " \
                  "as `price` and its stock as `stock`.\n",                                      \
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "   \
                  "\"price\": {\"type\": \"integer\"}, \"stock\": {\"type\": \"integer\"}}, "    \
                  "\"required\": [\"item\", \"price\", \"stock\"]}",                             \
        .solution = "return function(tools)\n"                                                   \
                    "    local best\n"                                                           \
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"              \
                    "        if not best or one.price > best.price then best = one end\n"        \
                    "    end\n"                                                                  \
                    "    return best and {item = best.item, price = best.price, stock = "        \
                    "best.stock}\n"                                                              \
                    "end\n",                                                                     \
        .verifier =                                                                              \
            "check{ name = 'row', text = 'its stock as `stock`', run = function(world, "         \
            "answer)\n"                                                                          \
            "    return world:row('SELECT item FROM items WHERE item = ? AND price = ? AND "     \
            "stock = ?', answer.item, answer.price, answer.stock) ~= nil\n"                      \
            "end }\n"                                                                            \
            "check{ name = 'dearest', text = 'find the one with the highest price', run = "      \
            "function(world, answer)\n"                                                          \
            "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' " \
            "ORDER BY price DESC, item\")\n"                                                     \
            "end }\n" tail                                                                       \
    }

TEST(gate5_takes_guesses_where_mutants_do_not_do)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    struct proposal p = WHOLE_ROW("");
    REQUIRE(fixture_passes(&p, &o));
    EXPECT(json_array_size(o.negatives) == 2);
}

/* A change that no check claims fails the answer whatever the check says. */
TEST(gate5_counts_no_answer_with_changes_that_nobody_claims)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    struct proposal p = fixture_order;
    static const char verifier[] =
        "local function cheapest(world)\n"
        "    return world:row(\"SELECT item, price FROM items WHERE kind = 'cocoa' ORDER BY price, "
        "item\")\n"
        "end\n" CHECK("ordered", "Order 3 pieces of the cheapest item",
                      "local made = changes:inserted('orders', {guest = 'Mei Okafor'})\n"
                      "    return #made == 1 and made[1].item == cheapest(world).item and "
                      "made[1].pieces == 3")
            CHECK("cost", "what they cost together",
                  "return answer.cost == 3 * cheapest(world).price")
                CHECK("one", "for the guest", "return changes:count() == 1");
    char wrong[1000];
    REQUIRE(fixture_passes(&fixture_order, &o));
    char *answer = json_dumps(json_object_get(o.golden, "answer"), 0);
    char *write = json_dumps(json_array_get(json_object_get(o.golden, "writes"), 0), 0);
    snprintf(wrong, sizeof(wrong),
             "[{\"answer\": %s, \"writes\": [%s, {\"tool\": \"place_order\", \"arguments\": "
             "{\"item\": \"Amber Blend\", \"guest\": \"Ravi Menon\", \"pieces\": 2}}]}]",
             answer, write);
    free(answer);
    free(write);
    p.wrong = wrong;
    p.verifier = verifier;
    EXPECT(fixture_refused(&p, 5, "fails check 'one' alone"));
}
