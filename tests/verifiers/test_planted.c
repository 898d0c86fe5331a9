/*
 * Verifiers, solutions and tasks that are wrong in ways that models are wrong: each is
 * caught, by the gate that says so. (test_gates*.c go through the gates' sentences one by
 * one; what only an audit can see is planted in test_audit.c.)
 */
#include "tests/verifiers/planted.h"

/* ---- checks that let near misses pass: gate 4 ---- */

CAUGHT(a_part_of_the_answer_that_no_check_reads, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM)
CAUGHT(a_tolerance_that_lets_the_neighbour_pass, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM CHECK("price", "its price as `price`",
                                    "return near(answer.price, " PRICE ", 1)"))
CAUGHT(a_tolerance_in_per_cent, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM CHECK("price", "its price as `price`",
                                    "return near(answer.price, " PRICE ", 0.02 * " PRICE ")"))
CAUGHT(a_sign_that_does_not_matter, 4, "the answer with worth replaced",
       .prompt = "Submit as `worth` what all pieces of the items of kind 'tea' are worth, price "
                 "times stock.\n",
       .schema = "{\"type\": \"object\", \"properties\": {\"worth\": {\"type\": \"integer\"}}, "
                 "\"required\": [\"worth\"]}",
       .solution = "return function(tools)\n"
                   "    local sum = 0\n"
                   "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do sum = sum + "
                   "one.price * one.stock end\n"
                   "    return sum > 0 and {worth = sum} or nil\n"
                   "end\n",
       .verifier = CHECK("worth", "what all pieces of the items",
                         "return math.abs(answer.worth) == world:value(\"SELECT sum(price * stock) "
                         "FROM items WHERE kind = 'tea'\")"))
CAUGHT(letter_case_that_does_not_matter, 4, "the answer with item replaced",
       .verifier = CHECK("dearest", "find the one with the highest price",
                         "return answer.item:lower() == (" DEAREST "):lower()") CHECK_PRICE)
CAUGHT(blanks_that_do_not_matter, 4, "the answer with item replaced",
       .verifier = CHECK("dearest", "find the one with the highest price",
                         "return answer.item:match('^%s*(.-)%s*$') == " DEAREST) CHECK_PRICE)
CAUGHT(a_text_that_only_has_to_contain_the_name, 4, "the answer with item replaced",
       .verifier = CHECK("dearest", "find the one with the highest price",
                         "return answer.item:find(" DEAREST ", 1, true) ~= nil") CHECK_PRICE)
CAUGHT(a_name_of_which_only_the_first_word_is_read, 4, "answers is \"one\"",
       .verifier = CHECK("dearest", "find the one with the highest price",
                         "return answer.item:match('%a+') == (" DEAREST "):match('%a+')")
           CHECK_PRICE)
CAUGHT(a_prompt_that_many_answers_fit, 9, "or say answers \"many\"",
       .prompt = "Name an item of kind 'tea' as `item`, and its price as `price`.\n",
       .solution = "return function(tools)\n"
                   "    local one = tools.list_items{kind = 'tea'}[1]\n"
                   "    return one and {item = one.item, price = one.price}\n"
                   "end\n",
       .verifier = CHECK("tea", "an item of kind",
                         "return world:value('SELECT kind FROM items WHERE item = ?', answer.item) "
                         "== 'tea'")
           CHECK("price", "its price as `price`",
                 "return answer.price == world:value('SELECT price FROM items WHERE item = ?', "
                 "answer.item)"))
CAUGHT(ties_that_the_verifier_leaves_open, 4, "answers is \"one\"",
       .prompt = "Among the items of kind 'tea' find one with a stock of at least 12. Submit its "
                 "name as `item` and its price as `price`.\n",
       .solution =
           "return function(tools)\n"
           "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
           "        if one.stock >= 12 then return {item = one.item, price = one.price} end\n"
           "    end\n"
           "end\n",
       .verifier = CHECK("stock", "a stock of at least 12",
                         "return world:value(\"SELECT count(*) FROM items WHERE kind = 'tea' AND "
                         "stock >= 12 AND item = ?\", answer.item) == 1")
           CHECK("price", "its price as `price`",
                 "return answer.price == world:value('SELECT price FROM items WHERE item = ?', "
                 "answer.item)"))
CAUGHT(a_list_whose_order_does_not_matter, 4, "two elements swapped", .prompt = LIST_PROMPT,
       .schema = LIST_SCHEMA, .solution = LIST_SOLUTION,
       .verifier = LIST_CHECK("table.sort(want) table.sort(answer.items)\n"
                              "    return same(answer.items, want)"))
CAUGHT(a_list_that_may_be_longer, 4, "an element doubled", .prompt = LIST_PROMPT,
       .schema = LIST_SCHEMA, .solution = LIST_SOLUTION,
       .verifier = LIST_CHECK("for i, one in ipairs(want) do if answer.items[i] ~= one then return "
                              "false end end\n"
                              "    return true"))
CAUGHT(a_list_that_may_be_shorter, 4, "an element dropped", .prompt = LIST_PROMPT,
       .schema = LIST_SCHEMA, .solution = LIST_SOLUTION,
       .verifier = LIST_CHECK("for i, one in ipairs(answer.items) do if want[i] ~= one then return "
                              "false end end\n"
                              "    return #answer.items > 0"))
CAUGHT(a_list_of_which_the_first_element_is_read, 4, "replaced", .prompt = LIST_PROMPT,
       .schema = LIST_SCHEMA, .solution = LIST_SOLUTION,
       .verifier = LIST_CHECK("return answer.items[1] == want[1] and #answer.items == 3"))
CAUGHT(a_mean_that_is_rounded_without_a_word, 4, "the answer with mean replaced",
       .prompt = "Submit as `mean` the mean price of the items of kind 'tea'.\n",
       .schema = "{\"type\": \"object\", \"properties\": {\"mean\": {\"type\": \"number\"}}, "
                 "\"required\": [\"mean\"]}",
       .solution =
           "return function(tools)\n"
           "    local n, sum = 0, 0\n"
           "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do n = n + 1 sum = sum + "
           "one.price end\n"
           "    return n > 0 and {mean = math.floor(sum / n * 10 + 0.5) / 10} or nil\n"
           "end\n",
       .verifier = CHECK("mean", "the mean price of the items",
                         "return math.floor(answer.mean + 0.5) == math.floor(0.5 + "
                         "world:value(\"SELECT avg(price) FROM items WHERE kind = 'tea'\"))"))

/* The same with the tolerance stated is no fault. */
CAUGHT(one_question_asked_twice, 7, "check 'again' asks what check 'dearest' asks already",
       .prompt =
           "Among the items of kind 'tea' find the one with the highest price (by name where "
           "equal) and submit its name as "
           "`item`, its price as `price` and, as `name`, the item of that kind that costs most.\n",
       .schema =
           "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, \"price\": "
           "{\"type\": \"number\"},"
           " \"name\": {\"type\": \"string\"}}, \"required\": [\"item\", \"price\", \"name\"]}",
       .solution = "return function(tools)\n"
                   "    local best\n"
                   "    for _, row in ipairs(tools.list_items{kind = 'tea'}) do\n"
                   "        if not best or row.price > best.price or (row.price == best.price and "
                   "row.item < best.item) then best = row end\n"
                   "    end\n"
                   "    return best and {item = best.item, price = best.price, name = best.item}\n"
                   "end\n",
       .verifier = CHECK_ITEM CHECK_PRICE CHECK("again", "the item of that kind that costs most",
                                                "return answer.name == " DEAREST))

TEST(a_tolerance_that_the_schema_states_is_not_accused)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    struct proposal p = {
        .prompt = "Submit as `mean` the mean price of the items of kind 'tea', to one decimal, and "
                  "as `item` the dearest of them (the first by name where prices are equal).\n",
        .schema =
            "{\"type\": \"object\", \"properties\": {\"mean\": {\"type\": \"number\", "
            "\"tolerance\": 0.1}, \"item\": {\"type\": \"string\"}}, \"required\": [\"mean\", "
            "\"item\"]}",
        .solution = "return function(tools)\n"
                    "    local n, sum, best = 0, 0, nil\n"
                    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                    "        n = n + 1 sum = sum + one.price\n"
                    "        if not best or one.price > best.price then best = one end\n"
                    "    end\n"
                    "    return n > 0 and {mean = math.floor(sum / n * 10 + 0.5) / 10, item = "
                    "best.item} or nil\n"
                    "end\n",
        .verifier =
            CHECK("mean", "the mean price of the items",
                  "return near(answer.mean, world:value(\"SELECT avg(price) FROM items WHERE "
                  "kind = 'tea'\"), 0.1)")
                CHECK("item", "the dearest of them", "return answer.item == " DEAREST),
    };
    REQUIRE(fixture_run(&p, &o));
    if (!EXPECT(o.r == 0))
        printf("# %s\n", o.reason);
}

/* ---- answers = "many" ---- */

/* What passes beside the golden answer is listed with what each check took. */
TEST(survivors_are_listed_with_their_trace)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    struct proposal p = {
        .many = true,
        .prompt = "Name an item of kind 'tea' as `item`, and its price as `price`.\n",
        .solution = "return function(tools)\n"
                    "    local one = tools.list_items{kind = 'tea'}[1]\n"
                    "    return one and {item = one.item, price = one.price}\n"
                    "end\n",
        .verifier = CHECK(
            "tea", "an item of kind",
            "return world:value('SELECT kind FROM items WHERE item = ?', answer.item) "
            "== 'tea'")
            CHECK(
                "price", "its price as `price`",
                "local price = world:value('SELECT price FROM items WHERE item = ?', answer.item)\n"
                "    return not price or answer.price == price"),
    };
    REQUIRE(fixture_run(&p, &o));
    json_t *survivors = json_object_get(o.evidence, "survivors");
    if (!EXPECT(o.r == 0))
        printf("# %s\n", o.reason);
    for (size_t i = 0; i < json_array_size(survivors); i++) {
        json_t *checks = json_object_get(json_array_get(survivors, i), "checks");
        REQUIRE(json_array_size(checks) == 2);
        for (size_t k = 0; k < 2; k++)
            EXPECT(json_integer_value(json_object_get(json_array_get(checks, k), "fuel")) > 0);
    }
    EXPECT(json_integer_value(json_object_get(o.evidence, "n_survivors")) >=
           (json_int_t)json_array_size(survivors));
}

TEST(twenty_survivors_are_listed_and_all_are_counted)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    struct proposal p = {
        .many = true,
        .prompt = "Name an item of kind 'tea' or 'cocoa' as `item`.\n",
        .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}}, "
                  "\"required\": [\"item\"]}",
        .solution = "return function(tools)\n"
                    "    local one = tools.list_items{kind = 'tea'}[1]\n"
                    "    return one and {item = one.item}\n"
                    "end\n",
        .verifier = CHECK("kind", "an item of kind",
                          "local kind = world:value('SELECT kind FROM items WHERE item = ?', "
                          "answer.item)\n"
                          "    return kind == 'tea' or kind == 'cocoa'")};
    REQUIRE(fixture_run(&p, &o)); /* easy to guess, but that is another matter */
    EXPECT(json_array_size(json_object_get(o.evidence, "survivors")) == 20);
    EXPECT(json_integer_value(json_object_get(o.evidence, "n_survivors")) == 23);
}

/* ---- writes: gates 2 and 6 ---- */

CAUGHT_ORDER(a_write_that_need_not_be_made, 6, "without place_order {",
             "local made = changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei "
             "Okafor', pieces = 3})\n"
             "    return #made <= 1 and answer.cost > 20")
CAUGHT_ORDER(
    a_write_that_may_be_made_twice, 6, "besides the solution's writes",
    "return #changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei Okafor', "
    "pieces = 3}) >= 1")
CAUGHT_ORDER(
    a_claim_of_everything, 6, "besides the solution's writes",
    "for _, c in ipairs(changes:all()) do\n"
    "        if c.op == 'insert' and c.new.item == cheapest(world).item and c.new.guest == "
    "'Mei Okafor' and c.new.pieces == 3 then return true end\n"
    "    end\n"
    "    return false")
CAUGHT_ORDER(a_claim_of_more_than_is_counted, 6, "besides the solution's writes",
             "changes:inserted('orders', {guest = 'Mei Okafor'})\n"
             "    return #changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei "
             "Okafor', pieces = 3}) == 1")
CAUGHT_ORDER(
    a_written_value_that_no_check_reads, 6, "in the place of place_order {",
    "if #changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei Okafor', "
    "pieces = 3}) == 1 then return true end\n"
    "    return #changes:inserted('orders', {item = cheapest(world).item, pieces = 3}) == 1")
CAUGHT_ORDER(
    a_write_that_no_check_claims, 2, "no check claims a change",
    "return world:value(\"SELECT count(*) FROM orders WHERE guest = 'Mei Okafor' AND pieces "
    "= 3 AND item = ?\", cheapest(world).item) >= 1")

/* Of many right answers each may have its own writes, and none may have others besides. */
TEST(a_write_besides_where_many_answers_are_right)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    p.many = true;
    p.verifier = ORDER_CHECK("return #changes:inserted('orders', {item = cheapest(world).item, "
                             "guest = 'Mei Okafor', pieces = 3}) >= 1");
    EXPECT(fixture_refused(&p, 6, "besides the solution's writes"));
}

/* Twice is not right, but anything that is beside it is. */
TEST(another_write_besides_where_many_answers_are_right)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    p.many = true;
    p.verifier = ORDER_CHECK("changes:inserted('orders', {guest = 'Ravi Menon'})\n"
                             "    return #changes:inserted('orders', {item = cheapest(world).item, "
                             "guest = 'Mei Okafor', pieces = 3}) == 1");
    EXPECT(fixture_refused(&p, 6, "besides the solution's writes"));
}

/* Values of its own, which no column holds and a foreign call would hardly hit. */
TEST(a_written_number_of_which_a_range_is_accepted)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    p.prompt = "Order 300 pieces of the cheapest item of kind 'cocoa' (the first by name where "
               "prices are equal) for the guest 'Mei Okafor'. Submit what they cost together as "
               "`cost`.\n";
    p.solution = "return function(tools)\n"
                 "    local best\n"
                 "    for _, one in ipairs(tools.list_items{kind = 'cocoa'}) do\n"
                 "        if not best or one.price < best.price then best = one end\n"
                 "    end\n"
                 "    if not best then return nil end\n"
                 "    tools.place_order{item = best.item, guest = 'Mei Okafor', pieces = 300}\n"
                 "    return {cost = 300 * best.price}\n"
                 "end\n";
    p.verifier =
        "local function cheapest(world)\n"
        "    return world:row(\"SELECT item, price FROM items WHERE kind = 'cocoa' ORDER BY price, "
        "item\")\n"
        "end\n" CHECK("ordered", "pieces of the cheapest item",
                      "local made = changes:inserted('orders', {item = cheapest(world).item, guest "
                      "= 'Mei Okafor'})\n"
                      "    return #made == 1 and made[1].pieces >= 300")
            CHECK("cost", "what they cost together",
                  "return answer.cost == 300 * cheapest(world).price");
    EXPECT(fixture_refused(&p, 6, "in the place of place_order {"));
}

/* Each writing tool is tried, not only the one that the solution uses. */
TEST(a_write_by_another_tool_that_the_checks_claim)
{
    NEED_BOX;
    struct proposal p = fixture_order;
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
    p.tools = tools;
    p.verifier = ORDER_CHECK("changes:updated('items')\n"
                             "    return #changes:inserted('orders', {item = cheapest(world).item, "
                             "guest = 'Mei Okafor', pieces = 3}) == 1");
    EXPECT(fixture_refused(&p, 6, "accepts sell_item {"));
}

TEST(a_read_only_task_whose_verifier_shrugs_at_writes)
{
    NEED_BOX;
    struct proposal p = {.verifier =
                             CHECK_ITEM CHECK("price", "its price as `price`",
                                              "changes:all()\n    return answer.price == " PRICE)};
    EXPECT(fixture_refused(&p, 6, "accepts place_order {"));
}

TEST(a_write_of_the_solution_that_leaves_nothing)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    struct agon_buf tools AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    agon_buf_adds(&tools, fixture_tools);
    agon_buf_adds(
        &tools,
        "tool{ name = 'set_stock', description = 'Set the stock of an item.', writes = true,\n"
        "    params = [[{\"type\": \"object\", \"properties\": {\"item\": {\"type\": "
        "\"string\"}, \"stock\": {\"type\": \"integer\"}}, \"required\": [\"item\", "
        "\"stock\"]}]], returns = [[{\"type\": \"object\"}]],\n"
        "    run = function(world, a)\n"
        "        world:exec('UPDATE items SET stock = ? WHERE item = ?', a.stock, a.item)\n"
        "        return {}\n"
        "    end }\n");
    p.tools = agon_buf_text(&tools);
    p.solution = "return function(tools)\n"
                 "    local best\n"
                 "    for _, one in ipairs(tools.list_items{kind = 'cocoa'}) do\n"
                 "        if not best or one.price < best.price then best = one end\n"
                 "    end\n"
                 "    if not best then return nil end\n"
                 "    tools.set_stock{item = best.item, stock = best.stock}\n"
                 "    tools.place_order{item = best.item, guest = 'Mei Okafor', pieces = 3}\n"
                 "    return {cost = 3 * best.price}\n"
                 "end\n";
    EXPECT(fixture_refused(&p, 6, "without set_stock {"));
}

/* ---- what the other gates find ---- */

CAUGHT(a_check_that_is_always_true, 5, "fails check 'named' alone",
       .verifier = CHECK_ITEM CHECK_PRICE CHECK("named", "Submit its name", "return true"))
CAUGHT(a_check_that_says_what_another_says, 5, "alone",
       .verifier = CHECK_ITEM CHECK_PRICE CHECK("again", "Submit its name",
                                                "return answer.item == " DEAREST))
CAUGHT(a_check_that_looks_at_the_form_alone, 5, "fails check 'form' alone",
       .verifier = CHECK_ITEM CHECK_PRICE CHECK("form", "Submit its name",
                                                "return type(answer.item) == 'string'"))
CAUGHT(a_verifier_that_is_always_true, 3, "accepts",
       .verifier = CHECK("price", "its price as `price`", "return true"))
CAUGHT(a_verifier_that_compares_the_answer_with_itself, 3, "accepts",
       .verifier = CHECK("price", "its price as `price`", "return answer.price == answer.price"))
CAUGHT(a_condition_that_the_prompt_does_not_state, 7, "a check compares with 'yes'",
       .solution =
           "return function(tools)\n"
           "    local best\n"
           "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
           "        local more = tools.get_item{item = one.item}\n"
           "        if more.fresh == 'yes' and (not best or one.price > best.price) then best = "
           "one end\n"
           "    end\n"
           "    return best and {item = best.item, price = best.price}\n"
           "end\n",
       .verifier = CHECK("dearest", "find the one with the highest price",
                         "return answer.item == world:value(\"SELECT item FROM items WHERE kind = "
                         "'tea' AND fresh = 'yes' ORDER BY price DESC, item\")")
           CHECK("price", "its price as `price`",
                 "return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
                 "'tea' AND fresh = 'yes'\")"))
CAUGHT(a_condition_of_the_prompt_that_nothing_enforces, 7, "the prompt says 12 but no check",
       .prompt = "Among the items of kind 'tea' with a stock of at least 12 find the one with the "
                 "highest price. Submit its name as `item` and its price as `price`.\n")
CAUGHT(a_check_about_something_that_was_not_asked, 7, "does not stand in the prompt",
       .verifier = CHECK_ITEM CHECK("price", "its price before tax",
                                    "return answer.price == " PRICE))
CAUGHT(
    a_single_yes_or_no, 9, "ask for more leaves",
    .prompt = "Does an item of kind 'tea' cost more than 210? Submit true or false as `found`.\n",
    .schema = "{\"type\": \"object\", \"properties\": {\"found\": {\"type\": \"boolean\"}}, "
              "\"required\": [\"found\"]}",
    .solution = "return function(tools)\n"
                "    local n = 0\n"
                "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do if one.price > 210 "
                "then n = n + 1 end end\n"
                "    return {found = n > 0}\n"
                "end\n",
    .verifier = CHECK("found", "cost more than 210",
                      "return answer.found == (world:value(\"SELECT count(*) FROM items WHERE "
                      "kind = 'tea' AND price > 210\") > 0)"))
CAUGHT(
    a_count_that_is_the_right_one_by_accident, 8, "does not pass",
    .prompt = "Submit as `n` how many items are of kind 'tea', and as `item` the one of them with "
              "the highest price (the first by name where prices are equal).\n",
    .schema = "{\"type\": \"object\", \"properties\": {\"n\": {\"type\": \"integer\"}, "
              "\"item\": {\"type\": \"string\"}}, \"required\": [\"n\", \"item\"]}",
    .solution = "return function(tools)\n"
                "    local n, best = 0, nil\n"
                "    for _, one in ipairs(tools.list_all{}) do\n"
                "        if one.kind == 'tea' then\n"
                "            n = n + 1\n"
                "            if not best or one.price > best.price then best = one end\n"
                "        end\n"
                "    end\n"
                "    return best and {n = n, item = best.item}\n"
                "end\n",
    .verifier = CHECK("n", "how many items are of kind",
                      "return answer.n == world:value('SELECT count(*) / count(DISTINCT kind) FROM "
                      "items')")
        CHECK("item", "with the highest price", "return answer.item == " DEAREST))
CAUGHT(rows_without_an_order, 2, "ORDER BY",
       .prompt = "Name any item of kind 'tea' as `item`, and its price as `price`.\n", .many = true,
       .solution = "return function(tools)\n"
                   "    local one = tools.items_in_no_order{kind = 'tea'}[1]\n"
                   "    return {item = one.item, price = one.price}\n"
                   "end\n",
       .verifier = CHECK("tea", "any item of kind",
                         "return world:value('SELECT kind FROM items WHERE item = ?', answer.item) "
                         "== 'tea'")
           CHECK("price", "its price as `price`",
                 "return answer.price == world:value('SELECT price FROM items WHERE item = ?', "
                 "answer.item)"))
