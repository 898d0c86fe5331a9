/*
 * SQLite's memory in a cell: see world_memory.h. A block has its size in the 8 bytes before it.
 * Sizes are multiples of 16 up to 1 KiB, then four steps to each power of two up to 64 KiB; a list
 * of free blocks for each. They are cut from chunks; larger blocks are mappings of their own.
 */
#include "envs/world_memory.h"

#include <sqlite3.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    HEAD = 8,
    FINE_MAX = 1024,
    LISTED_MAX = 64 << 10,
    N_FINE = FINE_MAX / 16,
    N_LISTS = N_FINE + 6 * 4, /* 1 KiB to 64 KiB */
    CHUNK = 256 << 10,
    CHUNKS_KEPT = 16, /* for the next world: 4 MiB */
    PAGE = 4096,
};

struct block { /* a free one; its memory is the user's otherwise */
    struct block *next;
};
struct chunk { /* at the head of each */
    struct chunk *next;
    size_t pad;
};

static struct {
    struct block *lists[N_LISTS];
    struct chunk *chunks, *kept; /* in use; for later */
    int n_kept;
    char *at, *end; /* where the next block is cut */
    size_t used;    /* bytes handed out, heads not counted */
} heap;
static size_t limit = AGON_WORLD_HEAP_MAX, spared;
static void (*large_fn)(void *user, size_t n);
static void *large_user;

/* The size that a request gets; all of it is the user's. */
static size_t size_of(size_t size)
{
    if (size <= FINE_MAX)
        return size ? (size + 15) & ~(size_t)15 : 16;
    if (size > LISTED_MAX)
        return ((size + HEAD + 8 + PAGE - 1) & ~(size_t)(PAGE - 1)) - HEAD - 8;
    size_t step = (size_t)1 << (61 - __builtin_clzl(size - 1)); /* a quarter of the power below */
    return (size + step - 1) & ~(step - 1);
}

/* Of a size that size_of() gave, at most LISTED_MAX. */
static unsigned list_of(size_t size)
{
    if (size <= FINE_MAX)
        return (unsigned)(size / 16 - 1);
    unsigned power = 63 - (unsigned)__builtin_clzl(size - 1); /* from 10 */
    return N_FINE + (power - 10) * 4 + (unsigned)((size - 1) >> (power - 2) & 3);
}

static size_t *head_of(void *p)
{
    return (size_t *)(void *)((char *)p - HEAD);
}

/*
 * What may be handed out always fits into a fresh cell. If it does not fit into this one, free
 * blocks of other sizes are in the way, and whether it does must not depend on them.
 */
static void *map(size_t size, int flags)
{
    static const char worn[] = "the memory of SQLite is worn\n";
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    if (p != MAP_FAILED)
        return p;
    (void)!write(STDERR_FILENO, worn, sizeof(worn) - 1); /* the driver shows it */
    _exit(AGON_WORLD_WORN_STATUS);
}

/* A mapping of its own: 16 bytes before the user's, for the head. */
static void *take_mapping(size_t size)
{
    return (char *)map(size + HEAD + 8, 0) + HEAD + 8;
}

/* All of a chunk's pages come at once: one by one, each is a fault of half a microsecond or more.
 */
static void chunk_new(void)
{
    struct chunk *c = heap.kept;
    if (c) {
        heap.kept = c->next;
        heap.n_kept--;
    } else {
        c = map(CHUNK, MAP_POPULATE);
    }
    c->next = heap.chunks;
    heap.chunks = c;
    heap.at = (char *)(c + 1) + HEAD; /* so that what follows a head is aligned to 16 */
    heap.end = (char *)c + CHUNK;
}

/* What is left of a chunk that is too short for the next block goes into the lists. */
static void chunk_end(void)
{
    while (heap.end - heap.at >= HEAD + 16) {
        size_t size = (size_t)(heap.end - heap.at) - HEAD;
        size = size > FINE_MAX ? FINE_MAX : size & ~(size_t)15;
        struct block *b = (struct block *)(void *)(heap.at + HEAD);
        *head_of(b) = size;
        b->next = heap.lists[list_of(size)];
        heap.lists[list_of(size)] = b;
        heap.at += HEAD + size + 8; /* heads stay 8 past a multiple of 16 */
    }
}

static void *take_listed(size_t size)
{
    struct block **list = &heap.lists[list_of(size)], *b = *list;
    if (b) {
        *list = b->next;
        return b;
    }
    if ((size_t)(heap.end - heap.at) < HEAD + size) {
        chunk_end();
        chunk_new();
    }
    char *p = heap.at + HEAD;
    heap.at = p + size + 8;
    if (heap.at > heap.end)
        heap.at = heap.end;
    return p;
}

static void *heap_malloc(int n)
{
    size_t size = size_of((size_t)n);
    if (n <= 0 || heap.used > limit || size > limit - heap.used)
        return NULL;
    void *p = size <= LISTED_MAX ? take_listed(size) : take_mapping(size);
    *head_of(p) = size;
    heap.used += size;
    if (size >= AGON_WORLD_LARGE && large_fn)
        large_fn(large_user, (size_t)n);
    return p;
}

static void heap_free(void *p)
{
    size_t size = *head_of(p);
    heap.used -= size;
    if (size > LISTED_MAX) {
        (void)munmap((char *)p - HEAD - 8, size + HEAD + 8); /* a whole mapping of ours */
        return;
    }
    struct block *b = p;
    b->next = heap.lists[list_of(size)];
    heap.lists[list_of(size)] = b;
}

static int heap_size(void *p)
{
    return p ? (int)*head_of(p) : 0;
}

static void *heap_realloc(void *p, int n)
{
    size_t had = *head_of(p);
    if (n > 0 && size_of((size_t)n) == had)
        return p;
    void *now = heap_malloc(n);
    if (!now)
        return NULL;
    memcpy(now, p, had < (size_t)n ? had : (size_t)n);
    heap_free(p);
    return now;
}

static int heap_roundup(int n)
{
    return (int)size_of((size_t)n);
}

static int heap_init(void *unused)
{
    (void)unused;
    return SQLITE_OK;
}

static void heap_shutdown(void *unused)
{
    (void)unused;
}

void agon_world_memory_use(void)
{
    static const sqlite3_mem_methods methods = {heap_malloc,  heap_free, heap_realloc,  heap_size,
                                                heap_roundup, heap_init, heap_shutdown, NULL};
    /* Refused once SQLite is in use; then it goes on as it was. */
    if (sqlite3_config(SQLITE_CONFIG_MALLOC, &methods) != SQLITE_OK)
        return;
    (void)sqlite3_config(SQLITE_CONFIG_SINGLETHREAD);
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
}

void agon_world_memory_limit(size_t more)
{
    size_t all = AGON_WORLD_HEAP_MAX + spared;
    size_t left = heap.used < all ? all - heap.used : 0;
    limit = heap.used + (more < left ? more : left);
}

void agon_world_memory_spare(size_t bytes)
{
    spared = bytes;
    agon_world_memory_limit(SIZE_MAX);
}

void agon_world_memory_watch(void (*fn)(void *user, size_t n), void *user)
{
    large_fn = fn;
    large_user = user;
}

void agon_world_memory_trim(void)
{
    if (heap.used > 0)
        return;
    struct chunk *kept = heap.kept;
    int n_kept = heap.n_kept;
    for (struct chunk *c = heap.chunks, *next; c; c = next) {
        next = c->next;
        if (n_kept == CHUNKS_KEPT) {
            (void)munmap(c, CHUNK); /* a whole mapping of ours */
            continue;
        }
        c->next = kept;
        kept = c;
        n_kept++;
    }
    memset(&heap, 0, sizeof(heap));
    heap.kept = kept;
    heap.n_kept = n_kept;
}

size_t agon_world_memory_used(void)
{
    return heap.used;
}
