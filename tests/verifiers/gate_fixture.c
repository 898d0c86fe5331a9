#include "tests/verifiers/gate_fixture.h"

#include "base/file.h"
#include "base/json.h"
#include "base/store.h"
#include "sandbox/cell.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char fixture_tools[] =
    "tool{ name = 'list_items', description = 'Items of a kind, by name.',\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"kind\": {\"type\": \"string\"}}, "
    "\"required\": [\"kind\"]}]],\n"
    "    returns = [[{\"type\": \"array\"}]],\n"
    "    run = function(world, a)\n"
    "        return world:rows('SELECT item, price, stock FROM items WHERE kind = ? ORDER BY "
    "item', a.kind)\n"
    "    end }\n"
    "tool{ name = 'list_all', description = 'All items, by name.', params = [[{\"type\": "
    "\"object\", \"properties\": {}}]],\n"
    "    returns = [[{\"type\": \"array\"}]],\n"
    "    run = function(world) return world:rows('SELECT item, kind, price FROM items ORDER BY "
    "item') end }\n"
    "tool{ name = 'items_in_no_order', description = 'Items of a kind.',\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"kind\": {\"type\": \"string\"}}, "
    "\"required\": [\"kind\"]}]],\n"
    "    returns = [[{\"type\": \"array\"}]],\n"
    "    run = function(world, a) return world:rows('SELECT item, price FROM items WHERE kind = "
    "?', a.kind) end }\n"
    "tool{ name = 'get_item', description = 'One item.',\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}}, "
    "\"required\": [\"item\"]}]],\n"
    "    returns = [[{\"type\": \"object\"}]],\n"
    "    run = function(world, a)\n"
    "        local row = world:row('SELECT kind, price, stock, fresh FROM items WHERE item = ?', "
    "a.item)\n"
    "        if not row then error('no such item', 0) end\n"
    "        return row\n"
    "    end }\n"
    "tool{ name = 'place_order', description = 'Order some of an item.', writes = true,\n"
    "    params = [[{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
    "\"guest\": {\"type\": \"string\"},\n"
    "        \"pieces\": {\"type\": \"integer\"}}, \"required\": [\"item\", \"guest\", "
    "\"pieces\"]}]],\n"
    "    returns = [[{\"type\": \"object\"}]],\n"
    "    run = function(world, a)\n"
    "        local id = world:value('SELECT max(order_id) + 1 FROM orders')\n"
    "        world:exec('INSERT INTO orders VALUES (?, ?, ?, ?)', id, a.item, a.guest, a.pieces)\n"
    "        return {order_id = id}\n"
    "    end }\n";

const struct proposal fixture_good = {
    .level = 1,
    .prompt = "Among the items of kind 'tea' find the one with the highest price (the first by "
              "name where prices are equal). "
              "Submit its name as `item` and its price as `price`.\n",
    .schema = "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, "
              "\"price\": {\"type\": \"integer\"}},"
              " \"required\": [\"item\", \"price\"]}",
    .solution = "return function(tools)\n"
                "    local best\n"
                "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                "        if not best or one.price > best.price then best = one end\n"
                "    end\n"
                "    return best and {item = best.item, price = best.price}\n"
                "end\n",
    .verifier =
        "check{ name = 'dearest', text = 'find the one with the highest price', run = "
        "function(world, answer)\n"
        "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER "
        "BY price DESC, item\")\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
        "'tea'\")\n"
        "end }\n",
};

const struct proposal fixture_next = {
    .level = 2,
    .below = &fixture_good,
    .prompt = "Among the items of kind 'tea' find the one with the highest price (the first by "
              "name where prices are equal). "
              "Submit its name as `item`, its price as `price` and as `scarce` how many items of "
              "that kind have a stock below 12.\n",
    .schema =
        "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\"}, \"price\": "
        "{\"type\": \"integer\"},"
        " \"scarce\": {\"type\": \"integer\"}}, \"required\": [\"item\", \"price\", \"scarce\"]}",
    .solution = "return function(tools)\n"
                "    local best, scarce = nil, 0\n"
                "    for _, one in ipairs(tools.list_items{kind = 'tea'}) do\n"
                "        if not best or one.price > best.price then best = one end\n"
                "        if one.stock < 12 then scarce = scarce + 1 end\n"
                "    end\n"
                "    return best and {item = best.item, price = best.price, scarce = scarce}\n"
                "end\n",
    .verifier =
        "check{ name = 'dearest', text = 'find the one with the highest price', run = "
        "function(world, answer)\n"
        "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER "
        "BY price DESC, item\")\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
        "'tea'\")\n"
        "end }\n"
        "check{ name = 'scarce', text = 'how many items of that kind have a stock below 12', run = "
        "function(world, answer)\n"
        "    return answer.scarce == world:value(\"SELECT count(*) FROM items WHERE kind = 'tea' "
        "AND stock < 12\")\n"
        "end }\n",
};

const struct proposal fixture_order = {
    .level = 1,
    .prompt = "Order 3 pieces of the cheapest item of kind 'cocoa' (the first by name where prices "
              "are equal) for the guest "
              "'Mei Okafor'. Submit what they cost together as `cost`.\n",
    .schema = "{\"type\": \"object\", \"properties\": {\"cost\": {\"type\": \"integer\"}}, "
              "\"required\": [\"cost\"]}",
    .effects = "[{\"table\": \"orders\", \"operations\": [\"insert\"]}]",
    .solution = "return function(tools)\n"
                "    local best\n"
                "    for _, one in ipairs(tools.list_items{kind = 'cocoa'}) do\n"
                "        if not best or one.price < best.price then best = one end\n"
                "    end\n"
                "    if not best then return nil end\n"
                "    tools.place_order{item = best.item, guest = 'Mei Okafor', pieces = 3}\n"
                "    return {cost = 3 * best.price}\n"
                "end\n",
    .verifier =
        "local function cheapest(world)\n"
        "    return world:row(\"SELECT item, price FROM items WHERE kind = 'cocoa' ORDER BY price, "
        "item\")\n"
        "end\n"
        "check{ name = 'ordered', text = 'Order 3 pieces of the cheapest item', run = "
        "function(world, answer, changes)\n"
        "    return #changes:inserted('orders', {item = cheapest(world).item, guest = 'Mei "
        "Okafor', pieces = 3}) == 1\n"
        "end }\n"
        "check{ name = 'cost', text = 'what they cost together', run = function(world, answer)\n"
        "    return answer.cost == 3 * cheapest(world).price\n"
        "end }\n",
};

/* ---- the machinery, opened once ---- */

static struct agon_sandbox *sandbox;
static char world_dir[] = "/tmp/agon-gates-XXXXXX", world_path[64];

static void fixture_close(void)
{
    agon_sandbox_close(sandbox);
    (void)unlink(world_path); /* best effort: a temporary file */
    (void)rmdir(world_dir);
}

static int fixture_world(struct agon_err *err)
{
    struct sqlite3 *db AGON_AUTO(agon_store_closep) = NULL;
    struct agon_buf sql AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    static const char *const kinds[] = {"tea", "cocoa", "coffee", "syrup"};
    static const char *const first[] = {"Amber", "Birch", "Cinder", "Dune", "Ember", "Fern"};
    static const char *const last[] = {"Blend", "Crown",   "Drop", "Flower",
                                       "Gold",  "Harvest", "Leaf", "Moon"};
    static const char *const guests[] = {"Mei Okafor", "Tomas Brandt", "Ines Carvalho",
                                         "Ravi Menon", "Luca Moretti"};
    agon_buf_adds(
        &sql,
        "CREATE TABLE items (item TEXT PRIMARY KEY, kind TEXT NOT NULL, price INTEGER NOT NULL,"
        " stock INTEGER NOT NULL, fresh TEXT NOT NULL) STRICT;"
        "CREATE TABLE orders (order_id INTEGER PRIMARY KEY, item TEXT NOT NULL, guest TEXT NOT "
        "NULL,"
        " pieces INTEGER NOT NULL) STRICT;");
    for (int i = 0; i < 48; i++)
        agon_buf_addf(&sql, "INSERT INTO items VALUES ('%s %s', '%s', %d, %d, '%s');", first[i % 6],
                      last[i / 6], kinds[i * 7 % 4], 20 + i * 37 % 211, i * 29 % 41,
                      i % 3 ? "yes" : "no");
    for (int i = 0; i < 20; i++)
        agon_buf_addf(&sql, "INSERT INTO orders VALUES (%d, '%s %s', '%s', %d);", 100 + i,
                      first[i % 6], last[i % 8], guests[i % 5], 1 + i % 6);
    int r = agon_store_open(&db, world_path, AGON_STORE_CREATE, err);
    return r ? r : agon_store_exec(db, agon_buf_text(&sql), err);
}

static int fixture_open(struct agon_err *err)
{
    if (sandbox)
        return 0;
    struct agon_sandbox_options options = {.cell_program = getenv("AGON_CELL")};
    int r = agon_sandbox_open(&sandbox, &options, err);
    if (r)
        return r;
    atexit(fixture_close);
    if (!mkdtemp(world_dir))
        return agon_fail(err, AGON_ESYS, "mkdtemp: %m");
    snprintf(world_path, sizeof(world_path), "%s/world.db", world_dir);
    return fixture_world(err);
}

const char *fixture_without_box(void)
{
    static struct agon_err err;
    return fixture_open(&err) ? err.text : NULL;
}

/* ---- proposals ---- */

#define FIELD(p, name) ((p)->name ? (p)->name : fixture_good.name)

static json_t *parse(const char *text)
{
    json_t *value = NULL;
    struct agon_err err;
    if (text && agon_json_parse(&value, agon_str(text), &err))
        printf("# %s in %s\n", err.text, text);
    return value;
}

static void task_from(struct agon_task *t, const struct proposal *p)
{
    *t = (struct agon_task){
        .id = strdup(p->level > 1 ? "t1_l2" : "t1_l1"),
        .level = p->level ? p->level : 1,
        .prompt = strdup(FIELD(p, prompt)),
        .answer_schema = parse(FIELD(p, schema)),
        .answers = p->many ? AGON_ANSWERS_MANY : AGON_ANSWERS_ONE,
        .effects = parse(p->effects ? p->effects : "[]"),
        .solution = strdup(FIELD(p, solution)),
        .verifier = strdup(FIELD(p, verifier)),
    };
}

void outcome_deinit(struct outcome *o)
{
    json_decref(o->evidence);
    json_decref(o->golden);
    json_decref(o->negatives);
}

static int fixture_gates(const struct proposal *p, struct outcome *ret, struct agon_err *err)
{
    struct agon_runtime *rt AGON_AUTO(agon_runtime_freep) = NULL;
    struct agon_task task AGON_AUTO(agon_task_deinit) = {0},
                          below AGON_AUTO(agon_task_deinit) = {0};
    struct agon_task other = {.id = (char[]){"t2_l1"}, .prompt = (char *)(uintptr_t)p->other};
    struct agon_gate_report report AGON_AUTO(agon_gate_report_deinit) = {0};
    struct agon_buf reason AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    json_auto_t *wrong = parse(p->wrong);
    int r = fixture_open(err);
    if (!r)
        r = agon_runtime_open(&rt, sandbox, world_path,
                              agon_str(p->tools ? p->tools : fixture_tools), &reason, err);
    if (r == AGON_REJECTED)
        return agon_fail(err, AGON_EINPUT, "the fixture's tools: %s", agon_buf_text(&reason));
    if (r)
        return r;
    task_from(&task, p);
    if (p->below)
        task_from(&below, p->below);
    struct agon_gate_input in = {
        .rt = rt,
        .task = &task,
        .below = p->below ? &below : NULL,
        .others = p->other ? &other : NULL,
        .n_others = p->other != NULL,
        .wrong = wrong,
    };
    agon_rng_init(&in.rng, 7);
    r = agon_gates(&in, &report, err);
    ret->r = r;
    ret->gate = report.gate;
    snprintf(ret->reason, sizeof(ret->reason), "%s", agon_buf_text(&report.reason));
    ret->evidence = json_incref(report.evidence);
    ret->golden = json_incref(task.golden);
    ret->negatives = json_incref(task.negatives);
    return r < 0 ? r : 0;
}

bool fixture_run(const struct proposal *p, struct outcome *ret)
{
    struct agon_err err = {0};
    *ret = (struct outcome){0};
    if (!fixture_gates(p, ret, &err))
        return true;
    printf("# the gates did not run: %s\n", err.text);
    return false;
}

bool fixture_refused(const struct proposal *p, int gate, const char *has)
{
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    if (!fixture_run(p, &o))
        return false;
    if (o.r == AGON_REJECTED && o.gate == gate && strstr(o.reason, has))
        return true;
    printf("# expected gate %d with \"%s\", got gate %d: %s\n", gate, has, o.gate, o.reason);
    return false;
}

bool fixture_passes(const struct proposal *p, struct outcome *ret)
{
    if (fixture_run(p, ret) && ret->r == 0 && ret->gate == 0)
        return true;
    printf("# refused: %s\n", ret->reason);
    return false;
}

const char *fixture_golden_item(void)
{
    static char name[64];
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    if (!name[0] && fixture_passes(&fixture_good, &o))
        snprintf(name, sizeof(name), "%s",
                 json_string_value(json_object_get(json_object_get(o.golden, "answer"), "item")));
    return name;
}

const char *fixture_golden_price(void)
{
    static char price[16];
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    if (!price[0] && fixture_passes(&fixture_good, &o))
        snprintf(price, sizeof(price), "%lld",
                 (long long)json_integer_value(
                     json_object_get(json_object_get(o.golden, "answer"), "price")));
    return price;
}
