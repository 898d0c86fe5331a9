/* Bump arenas: see arena.h. Blocks form a list, newest first; the last one is
 * the first block, which reset keeps. */
#include "base/arena.h"

#include <stdlib.h>

enum { ARENA_ALIGN = 16, ARENA_BLOCK_FIRST = 16 << 10, ARENA_BLOCK_MAX = 4 << 20 };

struct arena_block {
    struct arena_block *older; /* owned */
    size_t size, used;
    _Alignas(ARENA_ALIGN) char data[];
};

struct agon_arena {
    struct arena_block *newest; /* owned */
    size_t bytes_max, bytes;    /* bytes: the sum of the blocks' sizes */
};

int agon_arena_new(struct agon_arena **ret, size_t bytes_max, struct agon_err *err)
{
    struct agon_arena *a = calloc(1, sizeof(*a));
    if (!a)
        return agon_fail(err, AGON_ENOMEM, "arena: out of memory");
    a->bytes_max = bytes_max;
    *ret = a;
    return 0;
}

void agon_arena_free(struct agon_arena *a)
{
    if (!a)
        return;
    while (a->newest) {
        struct arena_block *block = a->newest;
        a->newest = block->older;
        free(block);
    }
    free(a);
}

void agon_arena_reset(struct agon_arena *a)
{
    if (!a->newest)
        return;
    while (a->newest->older) {
        struct arena_block *block = a->newest;
        a->newest = block->older;
        a->bytes -= block->size;
        free(block);
    }
    memset(a->newest->data, 0, a->newest->used);
    a->newest->used = 0;
}

/* A new block for at least `size` bytes (a multiple of the alignment). */
static struct arena_block *arena_grow(struct agon_arena *a, size_t size)
{
    size_t want = a->newest ? a->newest->size * 2 : ARENA_BLOCK_FIRST;
    if (want > ARENA_BLOCK_MAX)
        want = ARENA_BLOCK_MAX;
    size_t left = a->bytes_max - a->bytes;
    if (want > left)
        want = left; /* the last block takes what the limit leaves */
    if (want < size)
        want = size;
    if (want > left)
        return NULL;
    struct arena_block *block = calloc(1, sizeof(*block) + want);
    if (!block)
        return NULL;
    block->size = want;
    block->older = a->newest;
    a->newest = block;
    a->bytes += want;
    return block;
}

void *agon_arena_alloc(struct agon_arena *a, size_t size)
{
    if (size > a->bytes_max)
        return NULL; /* also keeps the rounding below from wrapping */
    size_t need = (size + ARENA_ALIGN - 1) / ARENA_ALIGN * ARENA_ALIGN;
    struct arena_block *block = a->newest;
    if (!block || need > block->size - block->used)
        block = arena_grow(a, need);
    if (!block)
        return NULL;
    void *at = block->data + block->used;
    block->used += need;
    return at;
}

char *agon_arena_strdup(struct agon_arena *a, struct agon_str s)
{
    char *copy = s.size < a->bytes_max ? agon_arena_alloc(a, s.size + 1) : NULL;
    if (copy && s.size)
        memcpy(copy, s.data, s.size);
    return copy;
}
