/*
 * Is the image of a world sound (world_internal.h)? All that `PRAGMA quick_check` looks at in the
 * worlds that agon makes, in a quarter of its time: whatever is less usual (a CHECK, WITHOUT ROWID,
 * a row that is shorter than its table, reserved bytes, auto-vacuum) is not surely sound, and then
 * SQLite is asked itself, whose words an author reads.
 *
 * What must hold: each page belongs to one tree, one chain of overflow or the list of free pages;
 * the cells, free blocks and fragments of a page cover it and do not overlap; leaves are equally
 * deep; row numbers ascend; a record is as long as its header says; each value is of a type that
 * its column takes. Every read is inside of the image.
 * Source: "Database File Format", sqlite.org/fileformat2.html; checkTreePage() in SQLite's btree.c.
 */
#include "envs/world_internal.h"

#include <limits.h>
#include <stdlib.h>

enum {
    LEAF_TABLE = 13,
    INNER_TABLE = 5,
    LEAF_INDEX = 10,
    INNER_INDEX = 2,
    HEADER = 100, /* of the file, on its first page */
    PAGE_MIN = 512,
    PAGE_MAX = 65536,
    CELL_MIN = 4,
    DEPTH_MAX = 20,
    N_SHORT = 12, /* types of a record; those from here on have their size in them */
    SPAN = 64,
};

struct image {
    const uint8_t *data;
    uint32_t page_size, n_pages, n_seen;
    uint8_t *seen;                     /* owned: a byte for each page */
    uint64_t covered[PAGE_MAX / SPAN]; /* of the page at hand: a bit for each byte */
    /* of the tree at hand */
    const struct agon_table
        *table; /* whose rows these are; NULL: an index, or a table of SQLite's */
    bool index;
    uint32_t local_max, local_min; /* bytes of a payload in its cell; of a longer one at least */
    int leaf_depth;                /* -1 before the first leaf */
    bool has_last;
    int64_t last; /* row number */
};
struct page {
    const uint8_t *data, *end, *head;
    uint32_t n_cells, cells, top; /* offsets: of the cells' offsets, of the first cell */
    bool leaf;
};
struct cell {
    const uint8_t *content; /* of `local` bytes, the rest in a chain */
    uint32_t size, local, left;
    uint64_t payload;
    int64_t key;
};

static uint32_t be16(const uint8_t *p)
{
    return (uint32_t)p[0] << 8 | p[1];
}

static uint32_t be32(const uint8_t *p)
{
    return be16(p) << 16 | be16(p + 2);
}

static const uint8_t *varint_long(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    uint64_t x = 0;
    for (int i = 0; p < end; i++, p++) {
        if (i == 8) {
            *ret = x << 8 | *p;
            return p + 1;
        }
        x = x << 7 | (*p & 0x7f);
        if (*p < 0x80) {
            *ret = x;
            return p + 1;
        }
    }
    return NULL;
}

/* What follows it, or NULL where it does not end before `end`. */
static inline const uint8_t *varint(const uint8_t *p, const uint8_t *end, uint64_t *ret)
{
    if (p >= end || *p >= 0x80)
        return varint_long(p, end, ret);
    *ret = *p;
    return p + 1;
}

static const uint8_t *page_at(const struct image *m, uint32_t number)
{
    return m->data + (size_t)(number - 1) * m->page_size;
}

static bool page_once(struct image *m, uint32_t number)
{
    if (number == 0 || number > m->n_pages || m->seen[number - 1])
        return false;
    m->seen[number - 1] = 1;
    m->n_seen++;
    return true;
}

/* ---- records ---- */

/* What a type of a record stands for, and its size; 0: nothing. */
static inline uint8_t type_of(uint64_t type, uint64_t *ret_size)
{
    static const uint8_t sizes[N_SHORT] = {0, 1, 2, 3, 4, 6, 8, 8};
    static const uint8_t stored[N_SHORT] = {
        AGON_STORED_NULL,    AGON_STORED_INTEGER, AGON_STORED_INTEGER, AGON_STORED_INTEGER,
        AGON_STORED_INTEGER, AGON_STORED_INTEGER, AGON_STORED_INTEGER, AGON_STORED_REAL,
        AGON_STORED_INTEGER, AGON_STORED_INTEGER};
    if (type < N_SHORT) {
        *ret_size = sizes[type];
        return stored[type];
    }
    *ret_size = (type - N_SHORT) / 2;
    return type & 1 ? AGON_STORED_TEXT : AGON_STORED_BLOB;
}

/* Not a number, which SQLite reads as NULL; or not here to be looked at. */
static bool real_is_odd(const struct cell *c, uint64_t at)
{
    if (at + 8 > c->local)
        return true;
    uint64_t bits = (uint64_t)be32(c->content + at) << 32 | be32(c->content + at + 4);
    return (bits & INT64_MAX) > UINT64_C(0x7ff) << 52;
}

static bool record_is_sound(const struct image *m, const struct cell *c)
{
    const uint8_t *end = c->content + c->local, *p;
    uint64_t size, type, bytes;
    int n = 0, n_most = m->table ? m->table->n_columns : INT_MAX;
    p = varint(c->content, end, &size);
    if (!p || size > c->local)
        return false;
    end = c->content + size;
    for (; p < end; n++) {
        p = varint(p, end, &type);
        if (!p || type > UINT32_MAX)
            return false;
        uint8_t as = type_of(type, &bytes);
        if (n == n_most || !(as & (m->table ? m->table->columns[n].stored : AGON_STORED_ANY)))
            return false;
        if (as == AGON_STORED_REAL && real_is_odd(c, size))
            return false;
        size += bytes;
    }
    return p == end && size == c->payload && (!m->table || n == m->table->n_columns);
}

/* ---- pages ---- */

/* Note that these bytes of the page are in use; false where some already are. */
static inline bool cover(struct image *m, uint32_t at, uint32_t size)
{
    uint64_t *word = &m->covered[at / SPAN], twice = 0, mask = UINT64_MAX << at % SPAN;
    uint32_t end = at % SPAN + size;
    for (; end > SPAN; end -= SPAN, mask = UINT64_MAX) {
        twice |= *word & mask;
        *word++ |= mask;
    }
    mask &= UINT64_MAX >> (SPAN - end);
    twice |= *word & mask;
    *word |= mask;
    return !twice;
}

/* The pages that hold what of a payload is not in its cell. */
static bool chain_is_sound(struct image *m, uint32_t first, uint64_t bytes)
{
    uint32_t each = m->page_size - 4;
    for (; bytes > 0; bytes -= bytes < each ? bytes : each) {
        if (!page_once(m, first))
            return false;
        first = be32(page_at(m, first));
    }
    return first == 0;
}

/* How much of a payload that is too long lies in its cell. */
static uint32_t payload_local(const struct image *m, uint64_t payload)
{
    uint32_t some = m->local_min + (uint32_t)((payload - m->local_min) % (m->page_size - 4));
    return some <= m->local_max ? some : m->local_min;
}

static bool cell_read(const struct image *m, const struct page *g, uint32_t at, struct cell *ret)
{
    const uint8_t *start = g->data + at, *p = start;
    uint64_t key = 0;
    *ret = (struct cell){0};
    if (!g->leaf) {
        ret->left = be32(p); /* there are 4 bytes at least */
        p += 4;
    }
    if (m->index || g->leaf)
        p = varint(p, g->end, &ret->payload);
    if (p && !m->index)
        p = varint(p, g->end, &key);
    if (!p || ret->payload > INT32_MAX)
        return false;
    ret->key = (int64_t)key;
    ret->content = p;
    bool whole = ret->payload <= m->local_max;
    ret->local = whole ? (uint32_t)ret->payload : payload_local(m, ret->payload);
    ret->size = (uint32_t)(p - start) + ret->local + (whole ? 0 : 4);
    ret->size = ret->size < CELL_MIN ? CELL_MIN : ret->size;
    return ret->size <= (size_t)(g->end - start);
}

/* A leaf's rows in their order; of an inner page that is what walking down tells. */
static bool cell_is_sound(struct image *m, const struct page *g, const struct cell *c)
{
    if (c->local < c->payload &&
        !chain_is_sound(m, be32(c->content + c->local), c->payload - c->local))
        return false;
    if (m->index || !g->leaf)
        return true;
    if (m->has_last && c->key <= m->last)
        return false;
    m->has_last = true;
    m->last = c->key;
    return record_is_sound(m, c);
}

/* Free blocks, in ascending order and never next to each other. */
static bool free_blocks_cover(struct image *m, const struct page *g, uint32_t *bytes)
{
    uint32_t at = be16(g->head + 1), last = 0;
    while (at) {
        if (at < g->top || at > m->page_size - 4 || (last && at <= last + 3))
            return false;
        uint32_t size = be16(g->data + at + 2);
        if (size < 4 || at + size > m->page_size || !cover(m, at, size))
            return false;
        *bytes += size;
        last = at + size;
        at = be16(g->data + at);
    }
    return true;
}

static bool page_is_covered(struct image *m, const struct page *g)
{
    uint32_t bytes = 0;
    struct cell c;
    memset(m->covered, 0, m->page_size / 8);
    for (uint32_t i = 0; i < g->n_cells; i++) {
        uint32_t at = be16(g->data + g->cells + 2 * (size_t)i);
        if (at < g->top || at > m->page_size - 4 || !cell_read(m, g, at, &c) ||
            !cover(m, at, c.size) || !cell_is_sound(m, g, &c))
            return false;
        bytes += c.size;
    }
    return free_blocks_cover(m, g, &bytes) && m->page_size - g->top == bytes + g->head[7];
}

static bool page_open(struct image *m, uint32_t number, struct page *ret)
{
    if (!page_once(m, number))
        return false;
    const uint8_t *data = page_at(m, number), *head = data + (number == 1 ? HEADER : 0);
    bool leaf = *head == (m->index ? LEAF_INDEX : LEAF_TABLE);
    if (!leaf && *head != (m->index ? INNER_INDEX : INNER_TABLE))
        return false;
    uint32_t cells = (uint32_t)(head - data) + (leaf ? 8 : 12), n = be16(head + 3);
    uint32_t top = be16(head + 5);
    *ret = (struct page){.data = data,
                         .end = data + m->page_size,
                         .head = head,
                         .n_cells = n,
                         .cells = cells,
                         .top = top ? top : PAGE_MAX,
                         .leaf = leaf};
    return ret->top <= m->page_size && cells + 2 * n <= ret->top;
}

static bool tree_is_sound(struct image *m, uint32_t number, int depth);

/* Each child's row numbers end at the cell that points to it. */
static bool children_are_sound(struct image *m, const struct page *g, int depth)
{
    for (uint32_t i = 0; i < g->n_cells; i++) {
        struct cell c;
        if (!cell_read(m, g, be16(g->data + g->cells + 2 * (size_t)i), &c) ||
            !tree_is_sound(m, c.left, depth + 1))
            return false;
        if (m->index)
            continue;
        if (m->last > c.key)
            return false;
        m->last = c.key;
    }
    return tree_is_sound(m, be32(g->head + 8), depth + 1);
}

static bool tree_is_sound(struct image *m, uint32_t number, int depth)
{
    struct page g;
    if (depth > DEPTH_MAX || !page_open(m, number, &g) || !page_is_covered(m, &g))
        return false;
    if (g.n_cells == 0 && (depth > 0 || !g.leaf))
        return false;
    if (!g.leaf)
        return children_are_sound(m, &g, depth);
    if (m->leaf_depth < 0)
        m->leaf_depth = depth;
    return m->leaf_depth == depth;
}

/* ---- the file ---- */

static bool header_is_usual(const uint8_t *p, size_t size, struct image *ret)
{
    uint32_t page_size = be16(p + 16) == 1 ? PAGE_MAX : be16(p + 16);
    if (page_size < PAGE_MIN || (page_size & (page_size - 1)) || size % page_size)
        return false;
    *ret =
        (struct image){.data = p, .page_size = page_size, .n_pages = (uint32_t)(size / page_size)};
    return p[18] == 1 && p[19] == 1 && p[20] == 0 && p[21] == 64 && p[22] == 32 && p[23] == 32 &&
           be32(p + 28) == ret->n_pages && be32(p + 24) == be32(p + 92) && be32(p + 44) == 4 &&
           be32(p + 52) == 0 && be32(p + 56) == 1 && be32(p + 64) == 0;
}

static bool free_pages_are_sound(struct image *m)
{
    uint32_t left = be32(m->data + 36);
    for (uint32_t trunk = be32(m->data + 32); trunk; trunk = be32(page_at(m, trunk))) {
        if (!page_once(m, trunk))
            return false;
        const uint8_t *p = page_at(m, trunk);
        uint32_t n = be32(p + 4);
        if (n > m->page_size / 4 - 2 || n >= left)
            return false;
        left -= n + 1;
        for (uint32_t i = 0; i < n; i++)
            if (!page_once(m, be32(p + 8 + 4 * (size_t)i)))
                return false;
    }
    return left == 0;
}

static bool root_is_sound(struct image *m, bool index, const struct agon_table *t, uint32_t number)
{
    m->index = index;
    m->table = t;
    m->local_max = index ? (m->page_size - 12) * 64 / 255 - 23 : m->page_size - 35;
    m->local_min = (m->page_size - 12) * 32 / 255 - 23;
    m->leaf_depth = -1;
    m->has_last = false;
    return tree_is_sound(m, number, 0);
}

/* A table or an index, as the schema has it. */
static bool entry_is_sound(struct image *m, const struct agon_world *w, sqlite3_stmt *q)
{
    const char *type = (const char *)sqlite3_column_text(q, 0);
    const char *name = (const char *)sqlite3_column_text(q, 1);
    const char *sql = (const char *)sqlite3_column_text(q, 2);
    sqlite3_int64 root = sqlite3_column_int64(q, 3);
    if (!type || !name || root < 2 || root > m->n_pages)
        return false;
    if (!strcmp(type, "index"))
        return root_is_sound(m, true, NULL, (uint32_t)root);
    int t = agon_world_find_table(w, agon_str(name));
    if (strcmp(type, "table") != 0 || !sql || world_sql_has_word(sql, "check") ||
        (t < 0 && strncmp(name, "sqlite_", 7) != 0))
        return false;
    return root_is_sound(m, false, t < 0 ? NULL : &w->tables[t], (uint32_t)root);
}

static bool entries_are_sound(struct image *m, const struct agon_world *w)
{
    sqlite3_stmt *q = NULL;
    int rc = sqlite3_prepare_v2(w->db, "SELECT type, name, sql, rootpage FROM sqlite_schema", -1,
                                &q, NULL);
    bool sound = rc == SQLITE_OK && root_is_sound(m, false, NULL, 1);
    while (sound && (rc = sqlite3_step(q)) == SQLITE_ROW)
        sound = entry_is_sound(m, w, q);
    sqlite3_finalize(q);
    return sound && rc == SQLITE_DONE;
}

bool world_image_is_sound(const struct agon_world *w, struct agon_str bytes)
{
    struct image *m = calloc(1, sizeof(*m)); /* its covered are too much for the stack */
    bool sound = m && bytes.size >= PAGE_MIN &&
                 header_is_usual((const uint8_t *)bytes.data, bytes.size, m) &&
                 (m->seen = calloc(m->n_pages, 1)) && free_pages_are_sound(m) &&
                 entries_are_sound(m, w) && m->n_seen == m->n_pages;
    if (m)
        free(m->seen);
    free(m);
    return sound;
}
