#pragma once
/* What the planted faults are made of (test_planted*.c): rows that name the gate which refuses
 * them, and parts of verifiers, of which each row spoils one. */
#include "tests/verifiers/gate_fixture.h"

#define CAUGHT(kind, gate, has, ...)            \
    TEST(kind)                                  \
    {                                           \
        NEED_BOX;                               \
        struct proposal p = {__VA_ARGS__};      \
        EXPECT(fixture_refused(&p, gate, has)); \
    }

#define CHECK(name, text, body)                                                             \
    "check{ name = '" name "', text = '" text "', run = function(world, answer, changes)\n" \
    "    " body "\n"                                                                        \
    "end }\n"
#define DEAREST \
    "world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER BY price DESC, item\")"
#define PRICE "world:value(\"SELECT max(price) FROM items WHERE kind = 'tea'\")"
#define CHECK_ITEM \
    CHECK("dearest", "find the one with the highest price", "return answer.item == " DEAREST)
#define CHECK_PRICE CHECK("price", "its price as `price`", "return answer.price == " PRICE)

/* Both, for more behind them. */
#define GOOD_CHECKS CHECK_ITEM CHECK_PRICE

/* A solution that begins by finding the dearest tea. */
#define BEST_TEA                                                          \
    "return function(tools)\n"                                            \
    "    local best\n"                                                    \
    "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"       \
    "        if not best or one.price > best.price then best = one end\n" \
    "    end\n"

/* A list: the three dearest teas. */
#define LIST_PROMPT                                                                             \
    "List the 3 items of kind 'tea' with the highest prices as `items`, the dearest first (by " \
    "name "                                                                                     \
    "where prices are equal).\n"
#define LIST_SCHEMA                                                                        \
    "{\"type\": \"object\", \"properties\": {\"items\": {\"type\": \"array\", \"items\": " \
    "{\"type\": "                                                                          \
    "\"string\"}}}, \"required\": [\"items\"]}"
#define LIST_SOLUTION                                                                          \
    "return function(tools)\n"                                                                 \
    "    local rows = tools.list_items{kind = 'tea'}\n"                                        \
    "    table.sort(rows, function(a, b) return a.price > b.price or (a.price == b.price and " \
    "a.item < b.item) end)\n"                                                                  \
    "    return rows[3] and {items = {rows[1].item, rows[2].item, rows[3].item}}\n"            \
    "end\n"
#define LIST_WANT                                                                               \
    "local want = {}\n"                                                                         \
    "    for i, row in ipairs(world:rows(\"SELECT item FROM items WHERE kind = 'tea' ORDER BY " \
    "price DESC, item LIMIT 3\")) do want[i] = row.item end\n"                                  \
    "    "
#define LIST_CHECK(body) CHECK("list", "List the 3 items", LIST_WANT body)

/* An order: fixture_order with another check for `ordered`. */
#define ORDER_CHECK(body)                                                                        \
    "local function cheapest(world)\n"                                                           \
    "    return world:row(\"SELECT item, price FROM items WHERE kind = 'cocoa' ORDER BY price, " \
    "item\")\n"                                                                                  \
    "end\n" CHECK("ordered", "Order 3 pieces of the cheapest item", body) CHECK(                 \
        "cost", "what they cost together", "return answer.cost == 3 * cheapest(world).price")
#define CAUGHT_ORDER(kind, gate, has, body)     \
    TEST(kind)                                  \
    {                                           \
        NEED_BOX;                               \
        struct proposal p = fixture_order;      \
        p.verifier = ORDER_CHECK(body);         \
        EXPECT(fixture_refused(&p, gate, has)); \
    }
