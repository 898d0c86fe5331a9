/*
 * Tables made from C: see script_record.h. A new table's nodes are filled as luaH_newkey() does,
 * so that nobody could tell.
 *
 * Nothing is allocated, and so nothing collected, between the first store and the last. Names and
 * values are on the stack before the table is: a collection that is under way and has been to the
 * table has been to them, and needs no barrier.
 */
#include "sandbox/script_record.h"

#include "sandbox/script_layout.h"
#include "sandbox/script_view.h"

#include <assert.h>
#include <lauxlib.h>
#include <lua.h>
#include <string.h>

void *luaM_malloc_(lua_State *L, size_t size, int tag);

static struct lua_value *stack_top(lua_State *L)
{
    struct lua_thread thread;
    memcpy(&thread, L, sizeof(thread));
    return thread.top;
}

/* Room for n members in a table that has none. */
static void nodes_new(lua_State *L, struct lua_table *t, int n)
{
    unsigned log = n > 1 ? 32 - (unsigned)__builtin_clz((unsigned)n - 1) : 0;
    struct lua_node *nodes = luaM_malloc_(L, sizeof(*nodes) << log, 0);
    for (size_t i = 0; i < (size_t)1 << log; i++) {
        nodes[i].tag = TAG_EMPTY;
        nodes[i].key_tag = 0;
        nodes[i].next = 0;
    }
    t->nodes = nodes;
    t->log_nodes = (uint8_t)log;
    t->last_free = nodes + ((size_t)1 << log);
}

static struct lua_node *node_home(const struct lua_table *t, uint64_t key)
{
    const struct lua_text *text = (const struct lua_text *)(uintptr_t)key; // NOLINT
    return t->nodes + (text->hash & ((UINT32_C(1) << t->log_nodes) - 1));
}

static struct lua_node *node_free(struct lua_table *t)
{
    do
        t->last_free--;
    while (t->last_free->key_tag != 0);
    return t->last_free;
}

/* One that is not in its home goes elsewhere. */
static void node_move(struct lua_table *t, struct lua_node *from, struct lua_node *to)
{
    struct lua_node *before = node_home(t, from->key);
    while (before + before->next != from)
        before += before->next;
    before->next = (int32_t)(to - before);
    *to = *from;
    if (from->next)
        to->next += (int32_t)(from - to);
    from->next = 0;
}

/* A short name that the table does not have yet, and for which it has room. */
static struct lua_node *node_new(struct lua_table *t, uint64_t key)
{
    struct lua_node *home = node_home(t, key), *node = home;
    if (home->tag != TAG_EMPTY) {
        struct lua_node *spare = node_free(t);
        if (node_home(t, home->key) != home) {
            node_move(t, home, spare);
        } else {
            spare->next = home->next ? (int32_t)(home + home->next - spare) : 0;
            home->next = (int32_t)(spare - home);
            node = spare;
        }
    }
    node->key = key;
    node->key_tag = TAG_SHORT;
    return node;
}

static struct lua_node *node_of(struct lua_table *t, uint64_t key)
{
    for (struct lua_node *node = node_home(t, key);; node += node->next) {
        if (node->key_tag == TAG_SHORT && node->key == key)
            return node;
        if (node->next == 0)
            return node_new(t, key);
    }
}

void agon_script_push(lua_State *L, struct agon_script_kept kept)
{
    struct lua_value *top = stack_top(L);
    top->bits = kept.bits;
    top->tag = kept.tag;
    top++;
    memcpy((char *)L + offsetof(struct lua_thread, top), &top, sizeof(top));
}

struct agon_script_kept agon_script_keep(lua_State *L)
{
    const struct lua_value *value = stack_top(L) - 1;
    return (struct agon_script_kept){value->bits, value->tag};
}

static void push_name(lua_State *L, struct agon_script_name *name)
{
    const void *text = agon_script_text(L, name);
    if (text)
        agon_script_push(L, (struct agon_script_kept){(uintptr_t)text, TAG_SHORT});
    else
        lua_pushstring(L, name->text);
}

void agon_script_record(lua_State *L, struct agon_script_name *names, int n)
{
    assert(n <= AGON_SCRIPT_RECORD_MAX);
    agon_script_room(L, n + 3, "a row of too many columns");
    for (int i = 0; i < n; i++)
        push_name(L, &names[i]);
    lua_createtable(L, 0, 0);
    struct lua_table *t = (struct lua_table *)(uintptr_t)lua_topointer(L, -1);
    if (n == 0)
        return;
    nodes_new(L, t, n);
    const struct lua_value *keys = stack_top(L) - 1 - n, *values = keys - n;
    for (int i = 0; i < n; i++) {
        if (keys[i].tag != TAG_SHORT) { /* over 40 bytes: found by its content */
            lua_pushvalue(L, i - n - 1);
            lua_pushvalue(L, i - 2 * n - 2);
            lua_rawset(L, -3);
            continue;
        }
        struct lua_node *node = node_of(t, keys[i].bits);
        node->bits = values[i].bits;
        node->tag = values[i].tag;
    }
    lua_replace(L, -2 * n - 1);
    lua_pop(L, 2 * n - 1);
}

void agon_script_tag(lua_State *L, const void *key, const void *value)
{
    lua_createtable(L, 0, 0);
    struct lua_table *t = (struct lua_table *)(uintptr_t)lua_topointer(L, -1);
    nodes_new(L, t, 1);
    *t->nodes = (struct lua_node){
        .bits = (uintptr_t)value, .tag = TAG_LIGHT, .key_tag = TAG_LIGHT, .key = (uintptr_t)key};
}
