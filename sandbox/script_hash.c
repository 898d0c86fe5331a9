/*
 * What Lua's hashes cost when keys are chosen to collide. A table's key is looked for
 * along the chain of its main position, a short string along the chain of its bucket
 * among all strings, and when a table grows each key walks its new chain, all within
 * one instruction. Integers are hashed by their remainder and the seed of strings is
 * the same in each cell (determinism wants it so), so a script can make one chain of
 * all its keys, and its work quadratic.
 *
 * As in script_bulk.c, the linker sends Lua's own calls through here. Looking up is
 * done here, counting steps; whatever may make a table grow is charged before it
 * happens, for the chains that the grown table will have and for looking through the
 * old one. Chains up to FREE_STEPS and small tables are free, so that nothing changes
 * for keys that were not chosen.
 */
#include "sandbox/script_layout.h"
#include "sandbox/script_lib.h"
#include "sandbox/script_record.h"

#include <limits.h>
#include <math.h>
#include <string.h>

enum {
    FREE_STEPS = 32,     /* worth two or three instructions */
    STEP_NS = 3,         /* a step along nodes of a table; mostly from the second cache */
    LONG_STEP_NS = 30,   /* with a long string at each */
    STRING_STEP_NS = 16, /* a step along strings that lie anywhere, taken twice: by Lua and here */
    GROW_FREE = 256,     /* slots looked through for nothing when a table grows */
    GROW_NODES_FREE = 32,
    COUNT_BITS = 16,
    ARRAY_BITS = 31,
};
const struct lua_value *__real_luaH_getstr(struct lua_table *t, struct lua_text *key);
void __real_luaH_finishset(lua_State *L, struct lua_table *t, const struct lua_value *key,
                           const struct lua_value *slot, struct lua_value *value);
void __real_luaH_resizearray(lua_State *L, struct lua_table *t, unsigned n);
int __real_luaH_next(lua_State *L, struct lua_table *t, struct lua_value *key);
lua_Unsigned __real_luaH_getn(struct lua_table *t);
struct lua_text *__real_luaS_newlstr(lua_State *L, const char *s, size_t size);
struct lua_text *__real_luaS_new(lua_State *L, const char *s);
unsigned luaS_hashlongstr(struct lua_text *s);

const struct lua_value *__wrap_luaH_getshortstr(struct lua_table *t, const struct lua_text *key);
const struct lua_value *__wrap_luaH_getint(struct lua_table *t, lua_Integer key);
const struct lua_value *__wrap_luaH_get(struct lua_table *t, const struct lua_value *key);
const struct lua_value *__wrap_luaH_getstr(struct lua_table *t, struct lua_text *key);
void __wrap_luaH_finishset(lua_State *L, struct lua_table *t, const struct lua_value *key,
                           const struct lua_value *slot, struct lua_value *value);
void __wrap_luaH_set(lua_State *L, struct lua_table *t, const struct lua_value *key,
                     struct lua_value *value);
void __wrap_luaH_setint(lua_State *L, struct lua_table *t, lua_Integer key,
                        struct lua_value *value);
void __wrap_luaH_resizearray(lua_State *L, struct lua_table *t, unsigned n);
int __wrap_luaH_next(lua_State *L, struct lua_table *t, struct lua_value *key);
lua_Unsigned __wrap_luaH_getn(struct lua_table *t);
struct lua_text *__wrap_luaS_newlstr(lua_State *L, const char *s, size_t size);
struct lua_text *__wrap_luaS_new(lua_State *L, const char *s);

static const struct lua_value absent = {0, TAG_ABSENT};

static const struct lua_value *value_of(const struct lua_node *node)
{
    return (const struct lua_value *)(const void *)node; /* which begins with it */
}

/* ---- main positions ---- */

static uint32_t float_hash(double x)
{
    int exponent = 0;
    double part = frexp(x, &exponent) * -(double)INT_MIN;
    if (!(part >= -0x1p63 && part < 0x1p63)) /* an infinity; NaN is no key */
        return 0;
    uint32_t h = (uint32_t)exponent + (uint32_t)(int64_t)part;
    return h <= INT_MAX ? h : ~h;
}

/* The node where a key's chain would begin among 2^log_nodes. */
static uint32_t position_of(unsigned log_nodes, uint8_t tag, uint64_t bits)
{
    uint32_t mask = (UINT32_C(1) << log_nodes) - 1;
    double x;
    switch (tag) {
    case TAG_INT: /* dividing 32 bits is faster */
        return bits <= INT_MAX ? (uint32_t)bits % (mask | 1) : (uint32_t)(bits % (mask | 1));
    case TAG_FLOAT: memcpy(&x, &bits, sizeof(x)); return float_hash(x) % (mask | 1);
    case TAG_SHORT: return ((const struct lua_text *)(uintptr_t)bits)->hash & mask;    // NOLINT
    case TAG_LONG: return luaS_hashlongstr((struct lua_text *)(uintptr_t)bits) & mask; // NOLINT
    case TAG_FALSE: return 0;
    case TAG_TRUE: return 1 & mask;
    default: return (uint32_t)bits % (mask | 1); /* an address */
    }
}

/* A float that is an integer is a key as that integer. */
static struct lua_value key_normal(const struct lua_value *key)
{
    struct lua_value k = *key;
    double x;
    if (k.tag != TAG_FLOAT)
        return k;
    memcpy(&x, &k.bits, sizeof(x));
    if (x >= -0x1p63 && x < 0x1p63 && floor(x) == x)
        k = (struct lua_value){(uint64_t)(int64_t)x, TAG_INT};
    return k;
}

/* ---- looking up ---- */

static void steps_charge(uint64_t steps, unsigned ns)
{
    if (steps > FREE_STEPS)
        (void)agon_script_bulk((size_t)steps * ns);
}

static inline const struct lua_value *chain_find(const struct lua_node *node, uint8_t tag,
                                                 uint64_t bits)
{
    bool plain = tag == TAG_FALSE || tag == TAG_TRUE; /* whose tag says all */
    for (uint64_t steps = 1;; steps++) {
        bool found = node->key_tag == tag && (plain || node->key == bits);
        if (!found && node->next) {
            node += node->next;
            continue;
        }
        steps_charge(steps, tag == TAG_LONG ? LONG_STEP_NS : STEP_NS);
        return found ? value_of(node) : &absent;
    }
}

static const struct lua_value *key_find(const struct lua_table *t, uint8_t tag, uint64_t bits)
{
    return chain_find(t->nodes + position_of(t->log_nodes, tag, bits), tag, bits);
}

/* Most keys are short strings: these go the shortest way here and below. */
static inline struct lua_node *short_home(const struct lua_table *t, const struct lua_text *key)
{
    return t->nodes + (key->hash & ((UINT32_C(1) << t->log_nodes) - 1));
}

const struct lua_value *__wrap_luaH_getshortstr(struct lua_table *t, const struct lua_text *key)
{
    return chain_find(short_home(t, key), TAG_SHORT, (uintptr_t)key);
}

const struct lua_value *__wrap_luaH_getint(struct lua_table *t, lua_Integer key)
{
    uint64_t i = (uint64_t)key - 1;
    uint32_t limit = t->array_limit; /* a hint of the border (luaH_getn) where the flag is set */
    if (i < limit)
        return &t->array[i];
    if ((t->flags & LIMIT_IS_HINT) && (limit & (limit - 1)) && i < luaH_realasize(t)) {
        t->array_limit = (uint32_t)key;
        return &t->array[i];
    }
    return key_find(t, TAG_INT, (uint64_t)key);
}

const struct lua_value *__wrap_luaH_getstr(struct lua_table *t, struct lua_text *key)
{
    if (key->type == (TAG_SHORT & 0x3f))
        return __wrap_luaH_getshortstr(t, key);
    (void)key_find(t, TAG_LONG, (uintptr_t)key);
    return __real_luaH_getstr(t, key); /* by content */
}

static inline const struct lua_text *short_text(const struct lua_value *key)
{
    return (const struct lua_text *)(uintptr_t)key->bits; // NOLINT
}

const struct lua_value *__wrap_luaH_get(struct lua_table *t, const struct lua_value *key)
{
    if (key->tag == TAG_SHORT)
        return __wrap_luaH_getshortstr(t, short_text(key));
    struct lua_value k = key_normal(key);
    if (lua_tag_is_empty(k.tag))
        return &absent;
    if (k.tag == TAG_INT)
        return __wrap_luaH_getint(t, (lua_Integer)k.bits);
    if (k.tag == TAG_LONG)
        return __wrap_luaH_getstr(t, (struct lua_text *)(uintptr_t)k.bits); // NOLINT
    return key_find(t, k.tag, k.bits);
}

int __wrap_luaH_next(lua_State *L, struct lua_table *t, struct lua_value *key)
{
    if (!lua_tag_is_empty(key->tag))
        (void)__wrap_luaH_get(t, key);
    return __real_luaH_next(L, t, key);
}

static bool int_absent(struct lua_table *t, uint64_t key)
{
    return lua_tag_is_empty(__wrap_luaH_getint(t, (lua_Integer)key)->tag);
}

/* Where the border is not in the array, Lua doubles an index and halves the last step: the same
 * probes again, for what they cost. */
lua_Unsigned __wrap_luaH_getn(struct lua_table *t)
{
    lua_Unsigned n = __real_luaH_getn(t);
    uint64_t size = t->last_free ? luaH_realasize(t) : UINT64_MAX;
    if (n < size || int_absent(t, size + 1))
        return n;
    uint64_t low = size > 0 ? size : 1, high = low;
    while (high <= INT64_MAX / 2 && !int_absent(t, high)) {
        low = high;
        high *= 2;
    }
    while (high - low > 1) {
        uint64_t middle = low + (high - low) / 2;
        *(int_absent(t, middle) ? &high : &low) = middle;
    }
    return n;
}

/* ---- growing ---- */

struct growth {
    uint32_t ints[ARRAY_BITS + 1]; /* keys from 2^(i-1) + 1 to 2^i: candidates for the array */
    uint64_t n_keys, n_array;
    uint32_t array_size;
    unsigned log_nodes;
};

static unsigned log_ceil(uint64_t n)
{
    return n <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(n - 1);
}

static void growth_count(struct growth *g, uint8_t tag, uint64_t bits)
{
    g->n_keys++;
    if (tag == TAG_INT && bits - 1 < UINT64_C(1) << ARRAY_BITS) {
        g->ints[log_ceil(bits)]++;
        g->n_array++;
    }
}

/* What the table will be when it makes room for one more key: Lua's own rule. */
static void growth_plan(struct growth *g, const struct lua_table *t, const struct lua_value *key)
{
    uint32_t size = luaH_realasize(t);
    for (uint32_t i = 0; i < size; i++)
        if (!lua_tag_is_empty(t->array[i].tag))
            growth_count(g, TAG_INT, i + 1);
    for (uint32_t i = 0; i < UINT32_C(1) << t->log_nodes; i++)
        if (!lua_tag_is_empty(t->nodes[i].tag))
            growth_count(g, t->nodes[i].key_tag, t->nodes[i].key);
    growth_count(g, key->tag, key->bits);
    uint64_t below = 0, in_array = 0;
    for (unsigned i = 0; i <= ARRAY_BITS && g->n_array > (UINT64_C(1) << i) / 2; i++) {
        below += g->ints[i];
        if (below > (UINT64_C(1) << i) / 2) {
            g->array_size = UINT32_C(1) << i;
            in_array = below;
        }
    }
    g->log_nodes = log_ceil(g->n_keys - in_array);
}

/* Each key walks the chain of those that came before it. Chains whose positions agree in their
 * last COUNT_BITS bits are taken for one: with so many nodes these are not long. */
static void growth_charge(const struct growth *g, const struct lua_table *t)
{
    static uint32_t counts[1 << COUNT_BITS];
    size_t n_nodes = (size_t)1 << t->log_nodes;
    (void)agon_script_bulk(n_nodes);
    if (g->log_nodes < log_ceil(GROW_NODES_FREE))
        return;
    uint32_t mask = (UINT32_C(1) << (g->log_nodes < COUNT_BITS ? g->log_nodes : COUNT_BITS)) - 1;
    memset(counts, 0, ((size_t)mask + 1) * sizeof(counts[0]));
    uint64_t steps = 0;
    for (size_t i = 0; i < n_nodes; i++) {
        const struct lua_node *node = t->nodes + i;
        bool moves = node->key_tag == TAG_INT && node->key - 1 < g->array_size;
        if (lua_tag_is_empty(node->tag) || moves)
            continue;
        uint32_t *count = &counts[position_of(g->log_nodes, node->key_tag, node->key) & mask];
        steps += *count > FREE_STEPS ? *count : 0;
        ++*count;
    }
    steps_charge(steps, STEP_NS);
}

/* Lua takes free nodes from the end; the same search, and as far. */
static bool has_free_node(struct lua_table *t)
{
    for (; t->last_free > t->nodes; t->last_free--)
        if (lua_tag_is_empty(t->last_free[-1].key_tag))
            return true;
    return false;
}

/*
 * Before a key that is not there is stored. What is charged here may leave no fuel: the
 * allocator then gives nothing for the grown table (script.c), which ends the entry.
 */
static void insert_charge(struct lua_table *t, const struct lua_value *key)
{
    if (key->tag == TAG_SHORT && t->last_free &&
        lua_tag_is_empty(short_home(t, short_text(key))->tag))
        return;
    struct lua_value k = key_normal(key);
    struct lua_node *home = t->nodes + position_of(t->log_nodes, k.tag, k.bits);
    if (lua_tag_is_empty(k.tag) || (t->last_free && lua_tag_is_empty(home->tag)))
        return;
    if (has_free_node(t)) { /* a key that is not at its own position has to go */
        struct lua_node *other = t->nodes + position_of(t->log_nodes, home->key_tag, home->key);
        uint64_t steps = 1;
        for (; other != home && other->next; other += other->next)
            steps++;
        steps_charge(steps, STEP_NS);
        return;
    }
    size_t slots = luaH_realasize(t) + ((size_t)1 << t->log_nodes);
    if (slots <= GROW_FREE && t->log_nodes < log_ceil(GROW_NODES_FREE))
        return;
    struct growth g = {0};
    growth_plan(&g, t, &k);
    (void)agon_script_bulk(slots > GROW_FREE ? slots : 0);
    growth_charge(&g, t);
}

void __wrap_luaH_finishset(lua_State *L, struct lua_table *t, const struct lua_value *key,
                           const struct lua_value *slot, struct lua_value *value)
{
    if (slot->tag == TAG_ABSENT)
        insert_charge(t, key);
    __real_luaH_finishset(L, t, key, slot, value);
}

void __wrap_luaH_set(lua_State *L, struct lua_table *t, const struct lua_value *key,
                     struct lua_value *value)
{
    __wrap_luaH_finishset(L, t, key, __wrap_luaH_get(t, key), value);
}

void __wrap_luaH_setint(lua_State *L, struct lua_table *t, lua_Integer key, struct lua_value *value)
{
    const struct lua_value k = {(uint64_t)key, TAG_INT};
    __wrap_luaH_finishset(L, t, &k, __wrap_luaH_getint(t, key), value);
}

/* A constructor's list goes into the array at once; the other keys are placed anew. */
void __wrap_luaH_resizearray(lua_State *L, struct lua_table *t, unsigned n)
{
    struct growth g = {.array_size = n, .log_nodes = t->log_nodes};
    if (t->last_free)
        growth_charge(&g, t);
    __real_luaH_resizearray(L, t, n);
}

/* ---- strings ---- */

/* Lua keeps each short string once: those in its bucket were walked. */
static struct lua_text *text_charge(lua_State *L, struct lua_text *text)
{
    struct lua_thread thread;
    memcpy(&thread, L, sizeof(thread));
    if (text->type != (TAG_SHORT & 0x3f))
        return text;
    const struct lua_texts *all = thread.global;
    const struct lua_text *at = all->buckets[text->hash & ((uint32_t)all->n_buckets - 1)];
    uint64_t steps = 1;
    if (at == text) /* new, or the newest */
        for (at = text->next; at && steps < INT32_MAX; at = at->next)
            steps++;
    else
        for (; at && at != text; at = at->next)
            steps++;
    steps_charge(steps, STRING_STEP_NS);
    return text;
}

struct lua_text *__wrap_luaS_newlstr(lua_State *L, const char *s, size_t size)
{
    return text_charge(L, __real_luaS_newlstr(L, s, size));
}

struct lua_text *__wrap_luaS_new(lua_State *L, const char *s)
{
    return text_charge(L, __real_luaS_new(L, s));
}

/* Nobody is left to use it, and it may be swept at any time: Lua knows what to do. */
static bool text_is_dead(const struct lua_texts *all, const struct lua_text *text)
{
    return (text->marked & (all->white ^ WHITES) & WHITES) != 0;
}

static void name_hash(struct agon_script_name *name, uint32_t seed)
{
    size_t size = strlen(name->text);
    name->size = size <= SHORT_MAX ? (uint32_t)size : SHORT_MAX + 1;
    name->seed = seed;
    name->hash = size <= SHORT_MAX ? luaS_hash(name->text, size, seed) : 0;
}

const void *agon_script_text(lua_State *L, struct agon_script_name *name)
{
    struct lua_thread thread;
    memcpy(&thread, L, sizeof(thread));
    const struct lua_texts *all = thread.global;
    if (name->seed != all->seed || name->size == 0)
        name_hash(name, all->seed);
    if (name->size > SHORT_MAX)
        return NULL;
    uint64_t steps = 1;
    const struct lua_text *text = all->buckets[name->hash & ((uint32_t)all->n_buckets - 1)];
    for (; text; text = text->next, steps++)
        if (text->hash == name->hash && text->short_size == name->size &&
            !memcmp(text + 1, name->text, name->size))
            break;
    if (!text || text_is_dead(all, text))
        return NULL;
    if (steps == 1) /* as text_charge() does */
        for (const struct lua_text *at = text->next; at && steps < INT32_MAX; at = at->next)
            steps++;
    steps_charge(steps, STRING_STEP_NS);
    return text;
}
