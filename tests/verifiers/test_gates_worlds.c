/* Gates 8 to 10: other worlds, guesses, and what a level has over the one below. */
#include "tests/verifiers/planted.h"

/* ---- gate 8 ---- */

/* Spelled by its bytes, the answer escapes gate 7's eye. */
static void spell_name(char *out, size_t size)
{
    size_t n = (size_t)snprintf(out, size, "string.char(");
    for (const char *p = fixture_golden_item(); *p && n < size; p++)
        n +=
            (size_t)snprintf(out + n, size - n, "%s%d", p == fixture_golden_item() ? "" : ", ", *p);
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
             CHECK("dearest", "find the one with the highest price", "return answer.item == %s")
                 CHECK_PRICE,
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
             CHECK("dearest", "find the one with the highest price", "return answer.item == %s")
                 CHECK("price", "its price as `price`", "return answer.price == 42"),
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
        .verifier = CHECK(
            "again", "the same item again",
            "return answer.item == answer.again and answer.item:match('^%u%l+ %u%l+$') ~= nil"),
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
REFUSED(gate8_goes_on_where_worlds_are_cheap, 8, "does not pass",
        .verifier = CHECK("dearest", "find the one with the highest price",
                          "return answer.item == world:value(\"SELECT item FROM items WHERE kind = "
                          "'tea' ORDER BY price DESC, item DESC\")") CHECK_PRICE)

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

/* An answer that is another one where the teas' worth leaves this remainder: in one world of 37. */
static void rare_answer(struct proposal *p, int remainder)
{
    static char prompt[400], solution[700], verifier[900];
    snprintf(
        prompt, sizeof(prompt),
        "Submit as `total` how many items there are, and as `sort` 'rare' if price times stock "
        "of all items of kind 'tea' leaves %d when it is divided by 37, else 'common'.\n",
        remainder);
    snprintf(solution, sizeof(solution),
             "return function(tools)\n"
             "    local worth = 0\n"
             "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
             "        worth = worth + one.price * one.stock\n"
             "    end\n"
             "    return {total = #tools.list_all{}, sort = worth %% 37 == %d and 'rare' or "
             "'common'}\n"
             "end\n",
             remainder);
    snprintf(verifier, sizeof(verifier),
             CHECK("total", "how many items there are",
                   "return answer.total == world:value('SELECT count(*) FROM items')")
                 CHECK("sort", "price times stock",
                       "local worth = world:value(\"SELECT sum(price * stock) FROM items WHERE "
                       "kind = 'tea'\")\n"
                       "    return answer.sort == (worth %% 37 == %d and 'rare' or 'common')"),
             remainder);
    *p = (struct proposal){.prompt = prompt,
                           .solution = solution,
                           .verifier = verifier,
                           .schema = "{\"type\": \"object\", \"properties\": {\"total\": "
                                     "{\"type\": \"integer\"}, \"sort\": {\"type\": "
                                     "\"string\"}}, \"required\": [\"total\", \"sort\"]}"};
}

TEST(gate8_wants_more_than_one_world_with_another_answer)
{
    NEED_BOX;
    bool found = false;
    for (int remainder = 2; remainder < 37 && !found; remainder++) {
        struct outcome o AGON_AUTO(outcome_deinit) = {0};
        struct proposal p;
        int same = 0, all = 0;
        rare_answer(&p, remainder);
        REQUIRE(fixture_run(&p, &o));
        const char *said = strstr(o.reason, "the same answer in ");
        found = said && sscanf(said, "the same answer in %d of %d", &same, &all) == 2 &&
                same == all - 1 && o.gate == 8;
    }
    EXPECT(found);
}

/* The same answer everywhere is none where what is written differs. */
TEST(gate8_takes_other_writes_for_another_answer)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    struct proposal p = {
        .prompt = "Order 3 pieces of the cheapest item of kind 'cocoa' (the first by name where "
                  "prices are equal) for the guest 'Mei Okafor'. Submit as `total` how many items "
                  "there are.\n",
        .schema = "{\"type\": \"object\", \"properties\": {\"total\": {\"type\": "
                  "\"integer\"}}, \"required\": [\"total\"]}",
        .effects = fixture_order.effects,
        .solution = "return function(tools)\n"
                    "    local best\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'cocoa'}) do\n"
                    "        if not best or one.price < best.price then best = one end\n"
                    "    end\n"
                    "    if not best then return nil end\n"
                    "    tools.place_order{item = best.item, guest = 'Mei Okafor', pieces = 3}\n"
                    "    return {total = #tools.list_all{}}\n"
                    "end\n",
        .verifier = CHECK("ordered", "Order 3 pieces of the cheapest item",
                          "local item = world:value(\"SELECT item FROM items WHERE kind = 'cocoa' "
                          "ORDER BY price, item\")\n"
                          "    return #changes:inserted('orders', {item = item, guest = 'Mei "
                          "Okafor', pieces = 3}) == 1")
            CHECK("total", "how many items",
                  "return answer.total == world:value('SELECT count(*) FROM items')")};
    EXPECT(fixture_passes(&p, &o));
}

/* In a few worlds there is an answer, but not in as many as it takes. */
TEST(gate8_counts_the_worlds_that_have_an_answer)
{
    NEED_BOX;
    bool found = false;
    int sum = 0;
    for (int i = 0; i < 48; i += 4) /* the teas of the fixture's world */
        sum += (20 + i * 37 % 211) * (i * 29 % 41);
    for (int part = 11; part < 24 && !found; part++) {
        char solution[600];
        int counted = 0;
        snprintf(solution, sizeof(solution),
                 "return function(tools)\n"
                 "    local best, sum = nil, 0\n"
                 "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                 "        sum = sum + one.price * one.stock\n"
                 "        if not best or one.price > best.price then best = one end\n"
                 "    end\n"
                 "    if sum %% %d ~= %d then return nil end\n"
                 "    return {item = best.item, price = best.price}\n"
                 "end\n",
                 part, sum % part);
        struct outcome o AGON_AUTO(outcome_deinit) = {0};
        struct proposal p = {.solution = solution};
        REQUIRE(fixture_run(&p, &o));
        const char *said = strstr(o.reason, "finds an answer in ");
        found = o.gate == 8 && said && sscanf(said, "finds an answer in %d", &counted) == 1 &&
                counted > 1;
    }
    EXPECT(found);
}

TEST(gate8_wants_a_solution_that_reads)
{
    NEED_BOX;
    struct proposal p = {
        .tools = "tool{ name = 'count_items', description = 'How many items there are.', params = "
                 "[[{\"type\": \"object\", \"properties\": {}}]], returns = [[{\"type\": "
                 "\"integer\"}]], run = function(world) return world:value('SELECT count(*) FROM "
                 "items') end }\n",
        .prompt = "Submit as `total` how many items there are.\n",
        .schema = "{\"type\": \"object\", \"properties\": {\"total\": {\"type\": "
                  "\"integer\"}}, \"required\": [\"total\"]}",
        .solution = "return function(tools) return {total = tools.count_items{}} end\n",
        .verifier = CHECK("total", "how many items there are",
                          "return answer.total == world:value('SELECT count(*) FROM items')")};
    EXPECT(fixture_refused(&p, 8, "reads no column of the world"));
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
        .verifier = CHECK("found", "cost more than 210",
                          "return answer.found == (world:value(\"SELECT count(*) FROM items WHERE "
                          "kind = 'tea' AND price > 210\") > 0)"))
REFUSED(
    gate9_refuses_one_of_few_kinds, 9, "(0.25; level 1 allows 0.05)",
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
    .verifier = CHECK(
        "kind", "the item with the highest price",
        "return answer.kind == world:value('SELECT kind FROM items ORDER BY price DESC, item')"))

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
        .solution = BEST_TEA "    return best and {item = best.item}\n"
                             "end\n",
        .verifier = CHECK_ITEM,
    };
    EXPECT(fixture_refused(&p, 9, "level 3 allows 0.001"));
    p.level = 2;
    EXPECT(fixture_refused(&p, 9, "level 2 allows 0.01)"));
    p.level = 1; /* one of 48 names is few enough here */
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    EXPECT(fixture_passes(&p, &o));
}

/* Where few answers and few writes are possible, each answer is tried with each of the writes. */
TEST(gate9_tries_all_writes_with_all_answers)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    char tools[8192];
    snprintf(tools, sizeof(tools),
             "%stool{ name = 'sell_item', description = 'Mark an item as sold.', writes = true, "
             "params = [[{\"type\": \"object\", \"properties\": {\"item\": {\"type\": "
             "\"string\"}}, \"required\": [\"item\"]}]], returns = [[{\"type\": \"object\"}]],\n"
             "    run = function(world, a)\n"
             "        world:exec(\"UPDATE items SET fresh = 'sold' WHERE item = ?\", a.item)\n"
             "        return {}\n"
             "    end }\n",
             fixture_tools);
    struct proposal p = {
        .tools = tools,
        .prompt = "Mark the item of kind 'tea' with the highest price (the first by name where "
                  "prices are equal) as 'sold'. Submit its price as `price`.\n",
        .schema = "{\"type\": \"object\", \"properties\": {\"price\": {\"type\": "
                  "\"integer\"}}, \"required\": [\"price\"]}",
        .effects = "[{\"table\": \"items\", \"operations\": [\"update\"]}]",
        .solution = BEST_TEA "    if not best then return nil end\n"
                             "    tools.sell_item{item = best.item}\n"
                             "    return {price = best.price}\n"
                             "end\n",
        .verifier =
            CHECK("sold", "Mark the item of kind",
                  "local item = " DEAREST "\n"
                  "    return #changes:updated('items', {item = item, fresh = 'sold'}) == 1")
                CHECK_PRICE};
    REQUIRE(fixture_passes(&p, &o));
    json_int_t n = json_integer_value(json_object_get(o.evidence, "guesses"));
    EXPECT(n > 48 * 40 && n % 48 == 0); /* each item sold, with each price */
    EXPECT(json_integer_value(json_object_get(o.evidence, "guesses_passed")) == 1);
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
    p.verifier = CHECK("dearest", "find the one with the highest price",
                       "return answer.item == world:value(\"SELECT item FROM items WHERE kind IN "
                       "('tea', 'cocoa') ORDER BY price DESC, item\")")
        CHECK("price", "its price as `price`",
              "return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind IN "
              "('tea', 'cocoa')\")");
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_passes(&p, &o));
    EXPECT(json_integer_value(json_object_get(o.evidence, "necessary_calls")) == 2);
}

/* place_order() that says nothing: no other world's result can be put in the place of its own. */
static const char silent_tools[] =
    "tool{ name = 'list_items', description = 'Items of a kind, by name.',\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"kind\": {\"type\": \"string\"}}, "
    "\"required\": [\"kind\"]}]], returns = [[{\"type\": \"array\"}]],\n"
    "    run = function(world, a) return world:rows('SELECT item, price FROM items WHERE kind = ? "
    "ORDER BY item', a.kind) end }\n"
    "tool{ name = 'place_order', description = 'Order some of an item.', writes = true,\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
    "\"guest\": {\"type\": \"string\"}, \"pieces\": {\"type\": \"integer\"}}, "
    "\"required\": [\"item\", \"guest\", \"pieces\"]}]], returns = [[{\"type\": \"object\"}]],\n"
    "    run = function(world, a)\n"
    "        world:exec('INSERT INTO orders SELECT max(order_id) + 1, ?, ?, ? FROM orders', "
    "a.item, "
    "a.guest, a.pieces)\n"
    "        return {}\n"
    "    end }\n";

TEST(gate10_counts_a_writing_call_that_always_says_the_same)
{
    NEED_BOX;
    struct proposal below = fixture_order, p = fixture_order;
    below.tools = p.tools = silent_tools;
    p.level = 2;
    p.below = &below;
    p.prompt =
        "Order 3 pieces of the cheapest item of kind 'cocoa' (the first by name where prices "
        "are equal) for the guest 'Mei Okafor', and 3 pieces of it for the guest 'Ravi "
        "Menon'. Submit what they cost together as `cost`.\n";
    p.solution = "return function(tools)\n"
                 "    local best\n"
                 "    for _, one in ipairs(tools.list_items{kind = 'cocoa'}) do\n"
                 "        if not best or one.price < best.price then best = one end\n"
                 "    end\n"
                 "    if not best then return nil end\n"
                 "    tools.place_order{item = best.item, guest = 'Mei Okafor', pieces = 3}\n"
                 "    tools.place_order{item = best.item, guest = 'Ravi Menon', pieces = 3}\n"
                 "    return {cost = 3 * best.price + 3 * best.price}\n"
                 "end\n";
    p.verifier =
        "local function cheapest(world)\n"
        "    return world:row(\"SELECT item, price FROM items WHERE kind = 'cocoa' ORDER BY price, "
        "item\")\n"
        "end\n" CHECK("ordered", "Order 3 pieces of the cheapest item",
                      "local one = cheapest(world).item\n"
                      "    return #changes:inserted('orders', {item = one, guest = 'Mei Okafor', "
                      "pieces = 3}) == 1\n"
                      "        and #changes:inserted('orders', {item = one, guest = 'Ravi Menon', "
                      "pieces = 3}) == 1") CHECK("cost", "what they cost together",
                                                 "local price = cheapest(world).price\n"
                                                 "    return answer.cost == 3 * price + 3 * price");
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    REQUIRE(fixture_passes(&p, &o));
    EXPECT(json_integer_value(json_object_get(o.evidence, "necessary_calls")) == 3);
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
