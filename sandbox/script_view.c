/* Tables seen from C: see script_view.h. */
#include "sandbox/script_view.h"

#include "sandbox/script_layout.h"

#include <lauxlib.h>
#include <lua.h>
#include <string.h>

enum { SMALL_LOG_NODES = 4 }; /* up to here looking at each node is faster than its hash */

static const struct lua_table *table_at(lua_State *L, int index)
{
    return lua_topointer(L, index);
}

static void count_key(struct agon_script_keys *keys, uint8_t tag, uint64_t bits, size_t length)
{
    if (tag == TAG_SHORT || tag == TAG_LONG)
        keys->n_names++;
    else if (tag == TAG_INT && bits - 1 < length)
        keys->n_items++;
    else
        keys->n_other++;
}

struct agon_script_keys agon_script_keys(lua_State *L, int index, size_t length)
{
    const struct lua_table *t = table_at(L, index);
    struct agon_script_keys keys = {0};
    unsigned size = luaH_realasize(t);
    keys.n_slots = size + ((size_t)1 << t->log_nodes);
    for (unsigned i = 0; i < size; i++)
        if (!lua_tag_is_empty(t->array[i].tag))
            count_key(&keys, TAG_INT, (uint64_t)i + 1, length);
    for (size_t i = 0; i < (size_t)1 << t->log_nodes; i++)
        if (!lua_tag_is_empty(t->nodes[i].tag))
            count_key(&keys, t->nodes[i].key_tag, t->nodes[i].key, length);
    return keys;
}

bool agon_script_names(lua_State *L, int index, struct agon_script_keys *ret)
{
    const struct lua_table *t = table_at(L, index);
    struct agon_script_keys keys = {.n_slots = (size_t)1 << t->log_nodes};
    if (t->array_limit > 0 || t->log_nodes > SMALL_LOG_NODES)
        return false;
    for (const struct lua_node *node = t->nodes, *end = node + keys.n_slots; node < end; node++) {
        if (lua_tag_is_empty(node->tag))
            continue;
        if (node->key_tag == TAG_INT)
            return false;
        bool text = node->key_tag == TAG_SHORT || node->key_tag == TAG_LONG;
        keys.n_names += text;
        keys.n_other += !text;
    }
    *ret = keys;
    return true;
}

void agon_script_room(lua_State *L, int n, const char *message)
{
    struct lua_thread thread;
    memcpy(&thread, L, sizeof(thread));
    ptrdiff_t room = (const char *)thread.call->top - (const char *)thread.top;
    if (room <= n * (ptrdiff_t)sizeof(struct lua_value))
        luaL_checkstack(L, n, message);
}

static const struct lua_text *text_of(uint64_t bits)
{
    return (const struct lua_text *)(uintptr_t)bits; // NOLINT
}

static struct agon_str short_str(const struct lua_text *text)
{
    return (struct agon_str){(const char *)(text + 1), text->short_size};
}

/* Names are short: that is over before a call of memcmp() has begun. */
static bool same_bytes(const char *a, const char *b, size_t n)
{
    uint64_t x, y;
    size_t i = 0;
    for (; i + sizeof(x) <= n; i += sizeof(x)) {
        memcpy(&x, a + i, sizeof(x));
        memcpy(&y, b + i, sizeof(y));
        if (x != y)
            return false;
    }
    while (i < n && a[i] == b[i])
        i++;
    return i == n;
}

static const struct lua_node *node_find(const struct lua_table *t, struct agon_str name)
{
    for (size_t i = 0; i < (size_t)1 << t->log_nodes; i++) {
        const struct lua_node *node = &t->nodes[i];
        if (node->key_tag != TAG_SHORT)
            continue;
        struct agon_str key = short_str(text_of(node->key));
        if (key.size == name.size && same_bytes(key.data, name.data, name.size))
            return node;
    }
    return NULL;
}

bool agon_script_field(lua_State *L, int index, struct agon_str name, struct agon_script_field *ret)
{
    const struct lua_table *t = table_at(L, index);
    const struct lua_node *node = t->log_nodes <= SMALL_LOG_NODES ? node_find(t, name) : NULL;
    *ret = (struct agon_script_field){0};
    if (!node)
        return false;
    switch (node->tag) {
    case TAG_FALSE:
    case TAG_TRUE:
        ret->type = LUA_TBOOLEAN;
        ret->boolean = node->tag == TAG_TRUE;
        return true;
    case TAG_INT:
        ret->type = LUA_TNUMBER;
        ret->is_integer = true;
        ret->integer = (int64_t)node->bits;
        return true;
    case TAG_FLOAT:
        ret->type = LUA_TNUMBER;
        memcpy(&ret->number, &node->bits, sizeof(ret->number));
        return true;
    case TAG_SHORT:
        ret->type = LUA_TSTRING;
        ret->text = short_str(text_of(node->bits));
        return true;
    default: return false; /* long texts among them: their length lies elsewhere */
    }
}

void agon_script_texts(lua_State *L, void (*fn)(void *user, struct agon_str text), void *user)
{
    struct lua_thread thread;
    memcpy(&thread, L, sizeof(thread));
    for (struct lua_text *at = thread.global->objects; at; at = at->all) {
        if (at->type == (TAG_SHORT & 0x3f))
            fn(user, short_str(at));
        else if (at->type == (TAG_LONG & 0x3f))
            fn(user, (struct agon_str){(const char *)(at + 1), (size_t)(uintptr_t)at->next});
    }
}
