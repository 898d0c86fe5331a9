/* Tables seen from C: see script_view.h. */
#include "sandbox/script_view.h"

#include "sandbox/script_layout.h"

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

static const struct lua_text *text_of(uint64_t bits)
{
    return (const struct lua_text *)(uintptr_t)bits; // NOLINT
}

static struct agon_str short_str(const struct lua_text *text)
{
    return (struct agon_str){(const char *)(text + 1), text->short_size};
}

static const struct lua_node *node_find(const struct lua_table *t, struct agon_str name)
{
    for (size_t i = 0; i < (size_t)1 << t->log_nodes; i++) {
        const struct lua_node *node = &t->nodes[i];
        if (node->key_tag == TAG_SHORT && agon_str_equal(short_str(text_of(node->key)), name))
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
