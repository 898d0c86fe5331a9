#pragma once
/*
 * Tables and strings as Lua keeps them, for script_hash.c, script_record.c and script_view.c. The
 * layout is that of Lua 5.4.3 to 5.4.6; with another one nothing would be found in any table, and
 * each test fail.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    SHORT_MAX = 40,       /* bytes of a string that is kept once */
    WHITES = 0x18,        /* of the bits in `marked` */
    LIMIT_IS_HINT = 0x80, /* in a table's flags */
    TAG_FALSE = 0x01,
    TAG_LIGHT = 0x02, /* a light userdata */
    TAG_INT = 0x03,
    TAG_EMPTY = 0x10, /* of a node that was never in use */
    TAG_TRUE = 0x11,
    TAG_FLOAT = 0x13,
    TAG_ABSENT = 0x20,
    TAG_SHORT = 0x44,
    TAG_LONG = 0x54,
};

struct lua_value { /* TValue */
    uint64_t bits;
    uint8_t tag;
};
struct lua_node { /* Node: a value, and its key */
    uint64_t bits;
    uint8_t tag, key_tag;
    int32_t next; /* how many nodes further the chain goes on, or 0 */
    uint64_t key;
};
struct lua_text { /* TString */
    void *all;
    uint8_t type, marked, extra, short_size;
    uint32_t hash;
    struct lua_text *next; /* in its bucket, where it is short; else its size */
};
struct lua_table { /* Table */
    void *all;
    uint8_t type, marked, flags, log_nodes;
    uint32_t array_limit;
    struct lua_value *array;
    struct lua_node *nodes;
    struct lua_node *last_free; /* all nodes from here on are taken; NULL: there are no nodes */
};
struct lua_texts { /* global_State as far as what concerns short strings, and all objects */
    void *counters[6];
    struct lua_text **buckets; /* of all of them */
    int n_texts, n_buckets;
    struct lua_value registry, nil;
    uint32_t seed;
    uint8_t white; /* the bit of what is new; with the other one, what a collection found dead */
    uint8_t collector[11];
    struct lua_text *objects; /* strings or not: each begins with the next one and its type */
};
struct lua_call { /* CallInfo */
    void *function;
    void *top; /* how far its part of the stack reaches */
};
struct lua_thread { /* lua_State */
    void *all;
    uint8_t type, marked, status, allow_hook;
    uint16_t n_calls;
    void *top;
    struct lua_texts *global;
    const struct lua_call *call;
};
_Static_assert(sizeof(struct lua_node) == 24 && sizeof(struct lua_value) == 16, "layout");

unsigned luaH_realasize(const struct lua_table *t);
unsigned luaS_hash(const char *s, size_t size, unsigned seed);

static inline bool lua_tag_is_empty(uint8_t tag)
{
    return (tag & 0x0f) == 0; /* nil of each kind */
}
