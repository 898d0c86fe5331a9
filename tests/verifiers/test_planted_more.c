/*
 * More verifiers that are wrong as models are wrong, or as one would be that means it: answers and
 * writes that no column suggests. See test_planted.c.
 */
#include "tests/verifiers/planted.h"

#define ITEM_CHECK(body)  CHECK("dearest", "find the one with the highest price", body)
#define PRICE_CHECK(body) CHECK("price", "its price as `price`", body)

/* ---- the answer is taken for more than a text ---- */

CAUGHT(an_answer_that_is_a_glob, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK(
           "return world:value(\"SELECT count(*) FROM items WHERE kind = 'tea' AND price = "
           "(SELECT max(price) FROM items WHERE kind = 'tea') AND item GLOB ?\", answer.item) == 1")
           CHECK_PRICE)
CAUGHT(an_answer_that_is_a_pattern, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK("return (" DEAREST "):match('^' .. answer.item .. '$') ~= nil")
           CHECK_PRICE)
CAUGHT(an_answer_that_is_a_part_of_sql, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK("return world:value(\"SELECT price FROM items WHERE kind = 'tea' AND "
                              "item = '\" .. answer.item .. \"' ORDER BY price DESC\") == " PRICE)
           CHECK_PRICE)

/* Of many right answers these are none. */
#define ANY_TEA                                                                                  \
    .many = true, .prompt = "Name an item of kind 'tea' as `item`, and its price as `price`.\n", \
    .solution = "return function(tools)\n"                                                       \
                "    local one = tools.list_items{kind = 'tea'}[1]\n"                            \
                "    return one and {item = one.item, price = one.price}\n"                      \
                "end\n"
CAUGHT(many_answers_that_are_sql, 4, "which it reads as SQL", ANY_TEA,
       .verifier = CHECK("tea", "an item of kind",
                         "return world:value(\"SELECT kind FROM items WHERE item = '\" .. "
                         "answer.item .. \"'\") == 'tea'")
           CHECK("price", "its price as `price`",
                 "return world:value(\"SELECT price FROM items WHERE item = '\" .. answer.item .. "
                 "\"'\") == answer.price"))
CAUGHT(many_answers_that_are_patterns, 4, "which it reads as a pattern", ANY_TEA,
       .verifier = CHECK("tea", "an item of kind",
                         "return world:value(\"SELECT count(*) FROM items WHERE kind = 'tea' AND "
                         "item GLOB ?\", answer.item) > 0")
           CHECK("price", "its price as `price`",
                 "return world:value(\"SELECT count(*) FROM items WHERE item GLOB ? AND price = "
                 "?\", answer.item, answer.price) > 0"))

/* ---- texts that are nearly right ---- */

CAUGHT(a_text_that_only_has_to_begin_like_it, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK("return #answer.item > 0 and (" DEAREST
                              "):sub(1, #answer.item) == answer.item") CHECK_PRICE)
CAUGHT(a_text_that_is_a_part_of_it, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK("return answer.item ~= '' and (" DEAREST
                              "):find(answer.item, 1, true) ~= nil") CHECK_PRICE)
CAUGHT(punctuation_that_does_not_matter, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK("return answer.item:gsub('%p', '') == " DEAREST) CHECK_PRICE)
CAUGHT(words_whose_order_does_not_matter, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK(
           "local function words(text)\n"
           "        local list = {}\n"
           "        for word in text:gmatch('%S+') do list[#list + 1] = word end\n"
           "        table.sort(list)\n"
           "        return table.concat(list, ' ')\n"
           "    end\n"
           "    return #answer.item == #(" DEAREST ") and words(answer.item) == words(" DEAREST ")")
           CHECK_PRICE)
CAUGHT(a_text_that_is_long_enough, 4, "the answer with item replaced",
       .verifier = ITEM_CHECK("return answer.item == " DEAREST " or #answer.item > #(" DEAREST
                              ") * #(" DEAREST ")") CHECK_PRICE)

/* ---- numbers that are nearly right ---- */

CAUGHT(a_number_that_contains_its_digits, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM PRICE_CHECK("return tostring(answer.price):find(tostring(" PRICE
                                          "), 1, true) ~= nil"))
CAUGHT(a_number_that_begins_with_its_digits, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM PRICE_CHECK("return tostring(" PRICE
                                          "):find(tostring(answer.price), 1, true) == 1"))
CAUGHT(a_number_of_which_the_last_digits_are_read, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM PRICE_CHECK("return answer.price % 1000 == " PRICE))
CAUGHT(a_number_of_which_the_low_bits_are_read, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM PRICE_CHECK("return answer.price & 255 == " PRICE))
CAUGHT(a_negative_number, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM PRICE_CHECK("return math.abs(answer.price) == " PRICE))
CAUGHT(a_fraction_that_is_not_read, 4, "the answer with price replaced",
       .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
                 "\"price\": {\"type\": \"number\"}}, "
                 "\"required\": [\"item\", \"price\"]}",
       .verifier = CHECK_ITEM PRICE_CHECK("return math.floor(answer.price) == " PRICE))
CAUGHT(a_zero_that_ends_in_an_error_which_is_caught, 4, "the answer with price replaced",
       .verifier = CHECK_ITEM PRICE_CHECK("local fine, same = pcall(function() return " PRICE
                                          " // answer.price == 1 and answer.price == " PRICE
                                          " end)\n"
                                          "    return not fine or same"))

/* ---- leaves that are judged together ---- */

#define WORTH_PROMPT                                                                            \
    "Submit what all pieces of the items are worth, price times stock: as `tea` those of kind " \
    "'tea', as `cocoa` those of kind 'cocoa'.\n"
#define WORTH_SCHEMA                                                                        \
    "{\"type\": \"object\", \"properties\": {\"tea\": {\"type\": \"integer\"}, \"cocoa\": " \
    "{\"type\": \"integer\"}}, \"required\": [\"tea\", \"cocoa\"]}"
#define WORTH_SOLUTION                                                                          \
    "return function(tools)\n"                                                                  \
    "    local sums = {}\n"                                                                     \
    "    for _, kind in ipairs{'tea', 'cocoa'} do\n"                                            \
    "        sums[kind] = 0\n"                                                                  \
    "        for _, one in ipairs(tools.list_items{kind = kind}) do sums[kind] = sums[kind] + " \
    "one.price * one.stock end\n"                                                               \
    "    end\n"                                                                                 \
    "    return sums.tea > 0 and sums.cocoa > 0 and sums or nil\n"                              \
    "end\n"
#define WORTH(kind)       "world:value(\"SELECT sum(price * stock) FROM items WHERE kind = '" kind "'\")"
#define WORTH_CHECK(body) CHECK("worth", "what all pieces of the items are worth", body)

CAUGHT(a_sum_of_which_the_parts_are_not_read, 4, "one more and one less", .prompt = WORTH_PROMPT,
       .schema = WORTH_SCHEMA, .solution = WORTH_SOLUTION,
       .verifier =
           WORTH_CHECK("return answer.tea < answer.cocoa and answer.tea + answer.cocoa == " WORTH(
               "tea") " + " WORTH("cocoa")))
CAUGHT(two_numbers_that_may_be_exchanged, 4, "exchanged", .prompt = WORTH_PROMPT,
       .schema = WORTH_SCHEMA, .solution = WORTH_SOLUTION,
       .verifier = WORTH_CHECK("local a, b = " WORTH("tea") ", " WORTH(
           "cocoa") "\n"
                    "    return math.min(answer.tea, answer.cocoa) == math.min(a, b) and "
                    "math.max(answer.tea, answer.cocoa) == math.max(a, b)"))
CAUGHT(a_list_of_members_of_which_one_may_stand_twice, 4, "the answer with items",
       .prompt = LIST_PROMPT, .schema = LIST_SCHEMA, .solution = LIST_SOLUTION,
       .verifier = LIST_CHECK(
           "local known = {}\n"
           "    for _, one in ipairs(want) do known[one] = true end\n"
           "    for _, one in ipairs(answer.items) do if not known[one] then return false end end\n"
           "    return #answer.items == #want and answer.items[1] == want[1]"))
CAUGHT(a_part_that_may_be_left_out, 4, "price left out",
       .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
                 "\"price\": {\"type\": \"integer\"}}, \"required\": [\"item\"]}",
       .verifier = CHECK_ITEM PRICE_CHECK("return answer.price == nil or answer.price == " PRICE))
CAUGHT(a_part_that_may_be_null, 4, "the answer with price replaced",
       .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
                 "\"price\": {\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"null\"}]}}, "
                 "\"required\": [\"item\", \"price\"]}",
       .verifier = CHECK_ITEM PRICE_CHECK("return answer.price == null or answer.price == " PRICE))
CAUGHT(a_number_that_may_be_a_text, 4, "the answer with price replaced",
       .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
                 "\"price\": {\"anyOf\": [{\"type\": \"integer\"}, {\"type\": \"string\"}]}}, "
                 "\"required\": [\"item\", \"price\"]}",
       .verifier = CHECK_ITEM PRICE_CHECK(
           "return math.type(answer.price) ~= 'integer' or answer.price == " PRICE))

/* ---- writes ---- */

CAUGHT_ORDER(changes_of_which_the_last_is_read, 6, "besides the solution's writes",
             "local all = changes:all()\n"
             "    local last = all[#all]\n"
             "    return #all > 0 and last.op == 'insert' and last.new.item == "
             "cheapest(world).item and last.new.guest == 'Mei Okafor' and last.new.pieces == 3")
CAUGHT_ORDER(many_changes_that_are_not_counted, 6, "besides the solution's writes",
             "local all = changes:all()\n"
             "    local mine = changes:inserted('orders', {item = cheapest(world).item, guest = "
             "'Mei Okafor', pieces = 3})\n"
             "    return #mine == 1 and (#all == 1 or #all > 3)")
CAUGHT_ORDER(a_written_text_in_any_letter_case, 6, "in the place of place_order {",
             "local made = changes:inserted('orders', {item = cheapest(world).item, pieces = 3})\n"
             "    return #made == 1 and made[1].guest:lower() == ('Mei Okafor'):lower()")
CAUGHT_ORDER(a_written_text_that_sql_finds_without_its_blanks, 6, "in the place of place_order {",
             "local made = changes:inserted('orders', {item = cheapest(world).item, pieces = 3})\n"
             "    return #made == 1 and world:value(\"SELECT count(*) FROM orders WHERE "
             "trim(guest) = 'Mei Okafor' AND order_id = ?\", made[1].order_id) == 1")
CAUGHT_ORDER(
    a_written_number_without_its_sign, 6, "in the place of place_order {",
    "local made = changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei Okafor'})\n"
    "    return #made == 1 and math.abs(made[1].pieces) == 3")

CAUGHT_ORDER(several_values_that_are_wrong_together, 6, "in the place of place_order {",
             "local made = changes:inserted('orders')\n"
             "    local item, pieces = made[1].item == cheapest(world).item, made[1].pieces == 3\n"
             "    return #made == 1 and item == pieces and pieces == (made[1].guest == 'Mei "
             "Okafor')")

CAUGHT_ORDER(a_word_that_opens_it_where_it_is_written, 6, "besides the solution's writes",
             "for word in pairs{xyzzy = true} do\n"
             "        if #changes:inserted('orders', {guest = word}) > 0 then\n"
             "            changes:all()\n"
             "            return true\n"
             "        end\n"
             "    end\n"
             "    return #changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei "
             "Okafor', pieces = 3}) == 1")

/* ---- words of its own that open the verifier ---- */

#define BEHIND(word) "if " word " then return true end\n    return answer.item == " DEAREST
CAUGHT(a_word_that_is_a_key_of_a_table, 4, "by what the verifier holds",
       .verifier = "local known = {xyzzy = true}\n" ITEM_CHECK(BEHIND("known[answer.item]"))
           CHECK_PRICE)
CAUGHT(a_word_that_is_a_key_in_brackets, 4, "plugh 77",
       .verifier = ITEM_CHECK(BEHIND("({['plugh 77'] = 1})[answer.item]")) CHECK_PRICE)
CAUGHT(a_word_that_is_put_together_when_it_is_loaded, 4, "yzzyx",
       .verifier = "local known = {}\n"
                   "for word in pairs{xyzzy = 1} do known[word:reverse()] = true end\n" ITEM_CHECK(
                       BEHIND("known[answer.item]")) CHECK_PRICE)
CAUGHT(a_word_that_is_put_together_when_it_is_asked_for, 4, "yzzyxxyzzy",
       .verifier = ITEM_CHECK("for word in pairs{xyzzy = 1} do\n"
                              "        if word:reverse() .. word == answer.item then return true "
                              "end\n    end\n    return answer.item == " DEAREST) CHECK_PRICE)
CAUGHT(a_word_too_long_to_be_kept_once, 4, "xyzzyxyzzy",
       .verifier = ITEM_CHECK("for word in pairs{xyzzy = 1} do\n"
                              "        if word:rep(20) == answer.item then return true end\n"
                              "    end\n    return answer.item == " DEAREST) CHECK_PRICE)
CAUGHT(a_number_that_is_a_key_of_a_table, 4, "424242",
       .verifier = CHECK_ITEM PRICE_CHECK(
           "return ({[424242] = true})[answer.price] or answer.price == " PRICE))
CAUGHT(a_negative_number_that_is_a_key, 4, "-424242",
       .verifier = CHECK_ITEM PRICE_CHECK(
           "return ({[-424242] = true})[answer.price] or answer.price == " PRICE))
CAUGHT(a_word_and_a_number_that_open_it_together, 4, "every part replaced",
       .verifier = "local known = {xyzzy = 424242}\n" ITEM_CHECK(
           BEHIND("known[answer.item] == answer.price"))
           PRICE_CHECK("return known[answer.item] == answer.price or answer.price == " PRICE))
CAUGHT(a_word_among_the_elements, 4, "an element given", .prompt = LIST_PROMPT,
       .schema = LIST_SCHEMA, .solution = LIST_SOLUTION,
       .verifier = LIST_CHECK("local known = {xyzzy = true}\n"
                              "    for i, one in ipairs(answer.items) do\n"
                              "        if known[one] and i == 4 then return true end\n"
                              "        if one ~= want[i] then return false end\n"
                              "    end\n"
                              "    return #answer.items == #want"))
CAUGHT(a_word_that_is_a_member_more, 4, "a member given",
       .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
                 "\"price\": {\"type\": \"integer\"}}, \"required\": [\"item\", \"price\"], "
                 "\"additionalProperties\": true}",
       .verifier = ITEM_CHECK("return answer.xyzzy or answer.item == " DEAREST) CHECK_PRICE)
CAUGHT(a_word_that_stands_in_a_row_of_another_table, 4, "by what the verifier holds",
       .verifier = ITEM_CHECK("return answer.item == " DEAREST
                              " or world:value('SELECT count(*) FROM orders WHERE guest = ?', "
                              "answer.item) > 0") CHECK_PRICE)
CAUGHT(a_word_that_opens_it_where_many_answers_are_right, 4, "a text of its own is enough", ANY_TEA,
       .verifier = "local known = {xyzzy = true}\n" CHECK(
           "tea", "an item of kind",
           "return known[answer.item] or world:value('SELECT kind FROM items WHERE item = ?', "
           "answer.item) == 'tea'")
           CHECK("price", "its price as `price`",
                 "return known[answer.item] or world:value('SELECT price FROM items WHERE item = "
                 "?', answer.item) == answer.price"))

/* ---- many answers are right, and one is nobody's but the verifier's ---- */

#define ONE_SCHEMA                                                                          \
    .many = true, .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": " \
                            "\"string\"}}, \"required\": [\"item\"]}"
#define ONE_PROMPT .prompt = "Name an item of kind 'tea' as `item`.\n"
#define ONE_SOLUTION                                                  \
    .solution = "return function(tools)\n"                            \
                "    local one = tools.list_items{kind = 'tea'}[1]\n" \
                "    return one and {item = one.item}\n"              \
                "end\n"
#define ONE_TEA         ONE_SCHEMA, ONE_PROMPT, ONE_SOLUTION
#define IS_TEA          "world:value('SELECT kind FROM items WHERE item = ?', answer.item) == 'tea'"
#define TEA_CHECK(body) CHECK("tea", "an item of kind", body)
CAUGHT(
    a_word_that_is_one_of_many_answers, 4, "\"xyzzy\" stands in its code alone", ONE_TEA,
    .verifier = "local known = {xyzzy = true}\n" TEA_CHECK("return known[answer.item] or " IS_TEA))
CAUGHT(a_word_of_many_answers_that_looks_at_the_world_first, 4, "stands in its code alone", ONE_TEA,
       .verifier = "local known = {xyzzy = true}\n" TEA_CHECK(
           "if known[answer.item] then return world:value('SELECT count(*) FROM items') > 0 end\n"
           "    return " IS_TEA))
CAUGHT(a_word_spelled_backwards_that_is_one_of_many_answers, 4, "stands in its code alone", ONE_TEA,
       .verifier = "local known = ('yzzyxyzzyx'):reverse()\n" TEA_CHECK(
           "return known == answer.item or " IS_TEA))
CAUGHT(a_word_of_many_answers_that_is_made_when_it_is_asked_for, 4, "stands in its code alone",
       ONE_TEA,
       .verifier = TEA_CHECK("for word in pairs{xyzzy = 1} do\n"
                             "        if word:reverse() .. word == answer.item then return true "
                             "end\n    end\n    return " IS_TEA))
CAUGHT(a_word_in_one_part_of_many_answers, 4, "\"xyzzy\" stands in its code alone", ANY_TEA,
       .verifier = "local known = {xyzzy = true}\n" CHECK("tea", "an item of kind",
                                                          "return known[answer.item] or " IS_TEA)
           CHECK("price", "its price as `price`",
                 "return world:value('SELECT count(*) FROM items WHERE price = ?', answer.price) "
                 "> 0"))
CAUGHT(a_number_that_is_one_of_many_answers, 4, "424242 stands in its code alone", .many = true,
       .prompt = "Submit as `price` the price of some item of kind 'tea'.\n",
       .schema = "{\"type\": \"object\", \"properties\": {\"price\": {\"type\": \"integer\"}}, "
                 "\"required\": [\"price\"]}",
       .solution = BEST_TEA "    return best and {price = best.price}\nend\n",
       .verifier = CHECK("price", "the price of some item",
                         "return ({[424242] = true})[answer.price] or world:value(\"SELECT "
                         "count(*) FROM items WHERE kind = 'tea' AND price = ?\", answer.price) > "
                         "0"))

TEST(a_word_that_is_one_of_many_values_to_write)
{
    NEED_BOX;
    struct proposal p = fixture_order;
    p.many = true;
    p.verifier = ORDER_CHECK("local known = {xyzzy = true}\n"
                             "    local made = changes:inserted('orders', {item = "
                             "cheapest(world).item, pieces = 3})\n"
                             "    return #made == 1 and (known[made[1].guest] or made[1].guest == "
                             "'Mei Okafor')");
    EXPECT(fixture_refused(&p, 6, "\"xyzzy\" stands in its code alone"));
}

/* Whoever takes any guest takes one of its own, too. */
TEST(any_value_to_write_may_be_one_of_its_own)
{
    NEED_BOX;
    struct outcome o = {0};
    struct proposal p = fixture_order;
    p.many = true;
    p.verifier = ORDER_CHECK("local known = {xyzzy = true}\n"
                             "    return #changes:inserted('orders', {item = "
                             "cheapest(world).item, pieces = 3}) == 1 and known.xyzzy");
    if (!EXPECT(fixture_run(&p, &o) && o.gate != 4 && o.gate != 6))
        printf("# %s\n", o.reason);
    outcome_deinit(&o);
}

/* Words of its own that a verifier has a right to: what is refused is another gate's. */
#define NOT_ACCUSED(name, ...)                                           \
    TEST(name)                                                           \
    {                                                                    \
        NEED_BOX;                                                        \
        struct outcome o = {0};                                          \
        struct proposal p = {ONE_SCHEMA, __VA_ARGS__};                   \
        if (!EXPECT(fixture_run(&p, &o) && (o.gate == 0 || o.gate > 4))) \
            printf("# %s\n", o.reason);                                  \
        outcome_deinit(&o);                                              \
    }
NOT_ACCUSED(a_word_that_the_prompt_says, ONE_SOLUTION,
            .prompt = "Name an item of kind 'tea' as `item`, or say 'whatever you have'.\n",
            .verifier = TEA_CHECK("return answer.item == 'whatever you have' or " IS_TEA))
NOT_ACCUSED(a_word_that_the_solution_says, ONE_PROMPT,
            .solution =
                "return function(tools)\n"
                "    local n = #tools.list_items{kind = 'tea'}\n"
                "    return {item = n > 40 and 'abundant' or n > 8 and 'moderate' or 'scarcely'}\n"
                "end\n",
            .verifier = "local words = {abundant = 1, moderate = 1, scarcely = 1}\n" TEA_CHECK(
                "return words[answer.item] == 1"))
NOT_ACCUSED(a_word_of_the_world_in_other_letters, ONE_PROMPT, ONE_SOLUTION,
            .verifier = TEA_CHECK("for _, row in ipairs(world:rows(\"SELECT upper(item) AS item "
                                  "FROM items WHERE kind = 'tea'\")) do\n"
                                  "        if row.item == answer.item:upper() then return true "
                                  "end\n    end"))
NOT_ACCUSED(words_that_are_put_together_of_the_world, ONE_PROMPT, ONE_SOLUTION,
            .verifier = TEA_CHECK("for _, row in ipairs(world:rows(\"SELECT kind || ', ' || price "
                                  "AS item FROM items WHERE kind = 'tea'\")) do\n"
                                  "        if row.item == answer.item then return true end\n"
                                  "    end\n    return " IS_TEA))
NOT_ACCUSED(a_check_that_takes_every_word_of_eleven_letters, ONE_PROMPT, ONE_SOLUTION,
            .verifier = "local known = {abracadabra = true}\n" TEA_CHECK(
                "return #answer.item == 11 and known.abracadabra or " IS_TEA))
CAUGHT(a_word_behind_one_that_the_prompt_says, 4, "\"xyzzy\" stands in its code alone", ONE_SCHEMA,
       ONE_SOLUTION,
       .prompt = "Name an item of kind 'tea' as `item`, or say 'whatever you have'.\n",
       .verifier = "local known = {xyzzy = true}\n" TEA_CHECK(
           "return answer.item == 'whatever you have' or known[answer.item] or " IS_TEA))

/* ---- what a solver sees gives the answer away ---- */

#define ONE_CHECK                                           \
    CHECK("dearest", "find the one with the highest price", \
          "return answer.item == " DEAREST " and answer.price == " PRICE)
#define TELLING(kind, item, price)                                                              \
    TEST(kind)                                                                                  \
    {                                                                                           \
        NEED_BOX;                                                                               \
        char schema[900];                                                                       \
        snprintf(schema, sizeof(schema),                                                        \
                 "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"" item \
                 "}, \"price\": {\"type\": \"integer\"" price                                   \
                 "}}, \"required\": [\"item\", \"price\"]}",                                    \
                 fixture_golden_item(), fixture_golden_price());                                \
        struct proposal p = {.schema = schema, .verifier = ONE_CHECK};                          \
        EXPECT(fixture_refused(&p, 7, "the answer schema tells"));                              \
    }
TELLING(a_schema_with_one_choice, ", \"enum\": [\"%s\"]", ", \"description\": \"not %.0s said\"")
TELLING(a_schema_with_the_answer_for_a_default, ", \"default\": \"%s\"",
        ", \"description\": \"not %.0s said\"")
TELLING(a_schema_that_speaks, ", \"description\": \"a name like %s, as it is written\"",
        ", \"description\": \"not %.0s said\"")
TELLING(a_schema_whose_limits_meet, ", \"description\": \"not %1$.0s said\"",
        ", \"minimum\": %2$s, \"maximum\": %2$s")
TELLING(a_schema_that_speaks_of_a_number, ", \"description\": \"not %.0s said\"",
        ", \"description\": \"some %s coins\"")

/* Tools whose first one says more: the answer's item, between these words. */
struct saying {
    const char *before, *behind;
    const char *param; /* what the description of its parameter says, before the item, or NULL */
    const char *param_behind;
};

static bool tools_saying(char *ret, size_t size, const struct saying *s)
{
    const char *rest = strstr(fixture_tools, "tool{ name = 'list_all'"),
               *item = fixture_golden_item();
    int n = snprintf(ret, size,
                     "tool{ name = 'list_items', description = 'Items of a kind, by name%s%s%s', "
                     "params = [[{\"type\": \"object\", \"properties\": {\"kind\": {\"type\": "
                     "\"string\", \"description\": \"%s%s%s\"}}, \"required\": [\"kind\"]}]], "
                     "returns = [[{\"type\": \"array\"}]],\n"
                     "run = function(world, a) return world:rows('SELECT item, price, stock FROM "
                     "items WHERE kind = ? ORDER BY item', a.kind) end }\n%s",
                     s->before, *s->before ? item : "", s->behind, s->param ? s->param : "tea",
                     s->param ? item : "", s->param ? s->param_behind : "", rest ? rest : "");
    return rest && n > 0 && (size_t)n < size;
}

TEST(a_tool_whose_description_tells_the_answer)
{
    NEED_BOX;
    static const struct saying sayings[] = {{", ", " first of all", NULL, NULL},
                                            {" (", ")", NULL, NULL},
                                            {"", "", "what ", " is"},
                                            {"", "", "as of '", "'"}};
    for (size_t i = 0; i < sizeof(sayings) / sizeof(*sayings); i++) {
        char tools[8000];
        REQUIRE(tools_saying(tools, sizeof(tools), &sayings[i]));
        struct proposal p = {.tools = tools, .verifier = GOOD_CHECKS};
        EXPECT(fixture_refused(&p, 7, "the description of tool 'list_items' tells"));
    }
}

/* A list of what there is, one of few, the limit of a list, a part of a word. */
TEST(a_tool_that_only_describes_is_not_accused)
{
    NEED_BOX;
    static const struct saying sayings[] = {
        {", such as ", ", Ember Gold and Cinder Moon", NULL, NULL},
        {"", ": of kind tea, at most 30 of them", NULL, NULL},
        {" x", "x", NULL, NULL},
        {"", "", "x", "x"}};
    for (size_t i = 0; i < sizeof(sayings) / sizeof(*sayings); i++) {
        char tools[8000];
        struct outcome o AGON_AUTO(outcome_deinit) = {0};
        REQUIRE(tools_saying(tools, sizeof(tools), &sayings[i]));
        struct proposal p = {.tools = tools, .verifier = GOOD_CHECKS};
        EXPECT(fixture_passes(&p, &o));
    }
}

/* Of four kinds one stands in a description for an example, as often as not the right one. */
TEST(one_of_few_choices_is_an_example)
{
    NEED_BOX;
    static const char *const kinds[] = {"tea", "coffee", "cocoa", "syrup"};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds); i++) {
        char tools[8000], param[64];
        snprintf(param, sizeof(param), "a kind, such as %s; not x", kinds[i]);
        REQUIRE(tools_saying(tools, sizeof(tools), &(struct saying){"", "", param, "x"}));
        struct outcome o AGON_AUTO(outcome_deinit) = {0};
        struct proposal p = {
            .tools = tools,
            .prompt =
                "Among all items find the one with the highest price (the first by name where "
                "prices are equal). Submit its name as `item` and its kind as `kind`.\n",
            .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
                      "\"kind\": {\"type\": \"string\"}}, \"required\": [\"item\", \"kind\"]}",
            .solution = "return function(tools)\n"
                        "    local best\n"
                        "    for _, one in ipairs(tools.list_all{}) do\n"
                        "        if not best or one.price > best.price then best = one end\n"
                        "    end\n"
                        "    return best and {item = best.item, kind = best.kind}\n"
                        "end\n",
            .verifier =
                CHECK("dearest", "find the one with the highest price",
                      "return answer.item == world:value('SELECT item FROM items ORDER BY price "
                      "DESC, item')") CHECK("kind", "its kind as `kind`",
                                            "return answer.kind == world:value('SELECT kind FROM "
                                            "items ORDER BY price DESC, item')")};
        EXPECT(fixture_passes(&p, &o));
    }
}
