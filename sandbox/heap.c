/*
 * The heap of one Lua state: see heap.h.
 *
 * Up to 2 KiB, a block is a multiple of 16 bytes, kept in a free list for its size when it
 * is freed. A new one is taken from its list, else cut off the smallest larger block that is
 * free, else cut from a shared chunk: so what loading a script leaves behind is used before
 * the heap grows, and there is less to copy at each restore. After the snapshot the rest of the
 * chunk, which no restore copies, comes before larger blocks: that is shorter. Above 2 KiB a block
 * is a run of pages found first-fit in a bitmap, so that freed neighbours join by themselves. Small
 * memory never becomes pages again; the mapping is therefore twice as large as what may be handed
 * out.
 *
 * Invariants: 1. everything that changes lies in the mapping; 2. pages at or above
 * head->high, and the last chunk from head->chunk on, have never been used since the
 * snapshot was restored; 3. shrinking needs no new memory: the tail is cut off in place;
 * 4. after the first snapshot nothing is written to the zone by this file: what is freed
 * there is lost until the restore.
 */
#include "sandbox/heap.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

enum {
    PAGE = 4096,
    LINE = 64, /* what the processor moves at once */
    GRAIN = 16,
    LIST_MAX = 1024,  /* lists for each multiple of 16 up to here */
    SMALL_MAX = 2048, /* then for each multiple of 128 */
    N_FINE = LIST_MAX / GRAIN,
    N_LISTS = N_FINE + (SMALL_MAX - LIST_MAX) / 128 + 1,
    CHUNK_PAGES = 4,   /* small blocks are cut from chunks of this size */
    ZONE_PAGES = 128,  /* for what never changes; what has no room there lies with the rest */
    TRIM_PAGES = 1024, /* give memory back to the kernel above this much growth */
};

struct free_block {
    struct free_block *next;
};

struct heap_head {
    size_t used, used_max;
    char *chunk, *chunk_end; /* where the next small block is cut */
    uint32_t n_pages, first_free, high;
    struct free_block *lists[N_LISTS];
    uint64_t filled[(N_LISTS + 63) / 64]; /* a bit a list: it is not empty */
    uint64_t taken[];                     /* a bit a page */
};

struct zone_head { /* at the zone's begin; of use until the first snapshot */
    struct free_block *lists[LIST_MAX / GRAIN + 1]; /* by size in grains */
};

static struct heap_head *heap_head(const struct agon_heap *h)
{
    return (struct heap_head *)(void *)h->base;
}

static size_t line_up(size_t size)
{
    return (size + LINE - 1) & ~(size_t)(LINE - 1);
}

static size_t block_size(size_t size)
{
    if (size <= LIST_MAX)
        return (size + GRAIN - 1) & ~(size_t)(GRAIN - 1);
    size_t unit = size <= SMALL_MAX ? 128 : PAGE;
    return (size + unit - 1) & ~(unit - 1);
}

static unsigned list_of(size_t rounded)
{
    return rounded <= LIST_MAX ? (unsigned)(rounded / GRAIN) - 1
                               : (unsigned)(N_FINE + (rounded - LIST_MAX) / 128) - 1;
}

/* The first list from here on that is not empty, or N_LISTS. */
static unsigned list_filled(const struct heap_head *d, unsigned from)
{
    for (unsigned i = from / 64; i < sizeof(d->filled) / sizeof(*d->filled); i++) {
        uint64_t some = i == from / 64 ? d->filled[i] >> from % 64 << from % 64 : d->filled[i];
        if (some)
            return i * 64 + (unsigned)__builtin_ctzll(some);
    }
    return N_LISTS;
}

static size_t list_size(unsigned list)
{
    return list < N_FINE ? (size_t)(list + 1) * GRAIN
                         : LIST_MAX + (size_t)(list - N_FINE + 1) * 128;
}

static void *list_take(struct heap_head *d, unsigned list)
{
    struct free_block *f = d->lists[list];
    d->lists[list] = f->next;
    if (!f->next)
        d->filled[list / 64] &= ~(UINT64_C(1) << list % 64);
    return f;
}

static void list_give(struct heap_head *d, unsigned list, char *at)
{
    struct free_block *f = (struct free_block *)(void *)at;
    f->next = d->lists[list];
    d->lists[list] = f;
    d->filled[list / 64] |= UINT64_C(1) << list % 64;
}

static bool page_taken(const struct heap_head *d, uint32_t page)
{
    return d->taken[page / 64] >> (page % 64) & 1;
}

static void pages_mark(struct heap_head *d, uint32_t first, uint32_t n, bool taken)
{
    for (uint32_t p = first; p < first + n; p++) {
        uint64_t bit = UINT64_C(1) << (p % 64);
        d->taken[p / 64] = taken ? d->taken[p / 64] | bit : d->taken[p / 64] & ~bit;
    }
    if (!taken && first < d->first_free)
        d->first_free = first;
    if (taken && first + n > d->high)
        d->high = first + n;
}

static uint32_t pages_free_from(const struct heap_head *d, uint32_t first, uint32_t n)
{
    uint32_t run = 0;
    while (run < n && first + run < d->n_pages && !page_taken(d, first + run))
        run++;
    return run;
}

static void *pages_take(struct agon_heap *h, size_t size)
{
    struct heap_head *d = heap_head(h);
    if (size > (size_t)d->n_pages * PAGE)
        return NULL;
    uint32_t n = (uint32_t)(size / PAGE), p = d->first_free;
    bool lowest = true; /* nothing free was passed over yet */
    while (p < d->n_pages) {
        if (p % 64 == 0 && d->taken[p / 64] == UINT64_MAX) {
            p += 64;
            continue;
        }
        uint32_t run = pages_free_from(d, p, n);
        if (run == n) {
            pages_mark(d, p, n, true);
            if (lowest)
                d->first_free = p + n;
            return h->base + (size_t)p * PAGE;
        }
        if (run > 0 && lowest) {
            d->first_free = p;
            lowest = false;
        }
        p += run + 1;
    }
    return NULL;
}

static void pages_give(struct agon_heap *h, char *at, size_t size)
{
    if (size > 0)
        pages_mark(heap_head(h), (uint32_t)((size_t)(at - h->base) / PAGE), (uint32_t)(size / PAGE),
                   false);
}

/* Put a stretch that is a multiple of 16 bytes into the lists. */
static void small_give(struct heap_head *d, char *at, size_t size)
{
    while (size > 0) {
        size_t piece = size > LIST_MAX && size != block_size(size) ? LIST_MAX : size;
        piece = piece > SMALL_MAX ? LIST_MAX : piece;
        list_give(d, list_of(piece), at);
        at += piece;
        size -= piece;
    }
}

/* Off a larger free block; NULL: there is none. */
static void *small_cut(struct heap_head *d, size_t rounded, unsigned list)
{
    unsigned larger = list_filled(d, list);
    if (larger == N_LISTS)
        return NULL;
    char *at = list_take(d, larger);
    small_give(d, at + rounded, list_size(larger) - rounded);
    return at;
}

static void *chunk_cut(struct heap_head *d, size_t rounded)
{
    char *at = d->chunk;
    d->chunk += rounded;
    return at;
}

static void *small_take(struct agon_heap *h, size_t rounded)
{
    struct heap_head *d = heap_head(h);
    unsigned list = list_of(rounded);
    if (d->lists[list])
        return list_take(d, list);
    if (h->settled && (size_t)(d->chunk_end - d->chunk) >= rounded)
        return chunk_cut(d, rounded);
    void *free_one = small_cut(d, rounded, list);
    if (free_one)
        return free_one;
    if ((size_t)(d->chunk_end - d->chunk) < rounded) {
        char *chunk = pages_take(h, (size_t)CHUNK_PAGES * PAGE);
        if (!chunk)
            return NULL;
        if (chunk != d->chunk_end) { /* else the old chunk simply goes on */
            small_give(d, d->chunk, (size_t)(d->chunk_end - d->chunk));
            d->chunk = chunk;
        }
        d->chunk_end = chunk + (size_t)CHUNK_PAGES * PAGE;
    }
    return chunk_cut(d, rounded);
}

static void *heap_take(struct agon_heap *h, size_t rounded)
{
    return rounded <= SMALL_MAX ? small_take(h, rounded) : pages_take(h, rounded);
}

static void heap_give(struct agon_heap *h, void *block, size_t rounded)
{
    if (rounded <= SMALL_MAX)
        small_give(heap_head(h), block, rounded);
    else
        pages_give(h, block, rounded);
}

static void heap_shrink(struct agon_heap *h, char *block, size_t was, size_t now)
{
    struct heap_head *d = heap_head(h);
    if (was <= SMALL_MAX) {
        small_give(d, block + now, was - now);
        return;
    }
    size_t kept = (now + PAGE - 1) & ~(size_t)(PAGE - 1);
    pages_give(h, block + kept, was - kept);
    if (now <= SMALL_MAX)
        small_give(d, block + now, kept - now); /* the page is small memory from now on */
}

static bool heap_extend(struct agon_heap *h, char *block, size_t was, size_t now)
{
    struct heap_head *d = heap_head(h);
    if (was <= SMALL_MAX)
        return false;
    uint32_t end = (uint32_t)((size_t)(block - h->base + (ptrdiff_t)was) / PAGE);
    uint32_t n = (uint32_t)((now - was) / PAGE);
    if (pages_free_from(d, end, n) < n)
        return false;
    pages_mark(d, end, n, true);
    return true;
}

/* ---- the zone ---- */

static bool zone_has(const struct agon_heap *h, const char *block)
{
    return block < h->base;
}

static size_t zone_size(size_t size)
{
    return (size + GRAIN - 1) & ~(size_t)(GRAIN - 1);
}

static struct free_block **zone_list(const struct agon_heap *h, size_t rounded)
{
    return &((struct zone_head *)(void *)h->zone)->lists[rounded / GRAIN];
}

static void *zone_take(struct agon_heap *h, size_t rounded)
{
    struct free_block **list = rounded <= LIST_MAX ? zone_list(h, rounded) : NULL;
    if (list && *list) {
        struct free_block *f = *list;
        *list = f->next;
        return f;
    }
    if ((size_t)(h->base - h->zone_at) < rounded)
        return NULL;
    char *at = h->zone_at;
    h->zone_at += rounded;
    return at;
}

static void zone_give(struct agon_heap *h, char *at, size_t rounded)
{
    if (h->settled || rounded == 0 || rounded > LIST_MAX)
        return;
    struct free_block *f = (struct free_block *)(void *)at, **list = zone_list(h, rounded);
    f->next = *list;
    *list = f;
}

void *agon_heap_take_fixed(struct agon_heap *h, size_t size)
{
    struct heap_head *d = heap_head(h);
    if (h->settled || size > d->used_max - d->used || block_size(size) > d->used_max - d->used)
        return NULL;
    void *block = zone_take(h, zone_size(size));
    if (block)
        d->used += block_size(size);
    return block;
}

/* The block leaves the zone where it grows. */
static void *zone_realloc(struct agon_heap *h, char *block, size_t old, size_t size)
{
    struct heap_head *d = heap_head(h);
    d->used -= block_size(old);
    if (size <= old) {
        zone_give(h, block + zone_size(size), zone_size(old) - zone_size(size));
        d->used += block_size(size);
        return size ? block : NULL;
    }
    void *now = agon_heap_take_fixed(h, size);
    if (!now)
        now = agon_heap_realloc(h, NULL, 0, size);
    if (now) {
        memcpy(now, block, old);
        zone_give(h, block, zone_size(old));
    } else {
        d->used += block_size(old);
    }
    return now;
}

static void *take_other(struct agon_heap *h, size_t size)
{
    struct heap_head *d = heap_head(h);
    size_t rounded = block_size(size);
    if (size > d->used_max || rounded > d->used_max - d->used)
        return NULL;
    void *block = heap_take(h, rounded);
    if (block)
        d->used += rounded;
    return block;
}

void *agon_heap_take(struct agon_heap *h, size_t size)
{
    struct heap_head *d = heap_head(h);
    size_t rounded = (size + GRAIN - 1) & ~(size_t)(GRAIN - 1);
    bool room = size <= LIST_MAX && rounded <= d->used_max - d->used;
    if (!room || !h->settled || (size_t)(d->chunk_end - d->chunk) < rounded ||
        d->lists[list_of(rounded)])
        return take_other(h, size);
    d->used += rounded;
    return chunk_cut(d, rounded);
}

void *agon_heap_realloc(struct agon_heap *h, void *block, size_t old, size_t size)
{
    if (!block)
        return size > 0 ? agon_heap_take(h, size) : NULL;
    if (zone_has(h, block))
        return zone_realloc(h, block, old, size);
    struct heap_head *d = heap_head(h);
    size_t was = block_size(old);
    if (size > d->used_max && size > old)
        return NULL;
    size_t now = block_size(size);
    if (now == was)
        return block;
    if (now > was && d->used - was + now > d->used_max)
        return NULL;

    void *ret = block;
    if (now == 0) {
        heap_give(h, block, was);
        ret = NULL;
    } else if (now < was) {
        heap_shrink(h, block, was, now);
    } else if (!heap_extend(h, block, was, now)) {
        ret = heap_take(h, now);
        if (ret) {
            memcpy(ret, block, old);
            heap_give(h, block, was);
        }
    }
    if (ret || now == 0)
        d->used = d->used - was + now;
    return ret;
}

size_t agon_heap_used(const struct agon_heap *h)
{
    return heap_head(h)->used;
}

/* Heaps get the addresses FIRST + i * STEP, the lowest that is free. */
static void *heap_map(size_t size)
{
    const uintptr_t first = UINT64_C(0x200000000000), step = UINT64_C(1) << 32;
    for (uintptr_t i = 0; i < 64; i++) {
        void *want = (void *)(first + i * step); // NOLINT(performance-no-int-to-ptr)
        void *p = mmap(want, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
        if (p == want)
            return p;
        if (p != MAP_FAILED)
            munmap(p, size); /* a kernel before 4.17 took the address for a hint */
        else if (errno != EEXIST)
            break;
    }
    return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1,
                0);
}

int agon_heap_init(struct agon_heap *h, size_t bytes_max, struct agon_err *err)
{
    *h = (struct agon_heap){0};
    if (bytes_max > SIZE_MAX / 8 || bytes_max < PAGE)
        return agon_fail(err, AGON_EINPUT, "script: memory limit %zu is out of range", bytes_max);
    size_t n_data = 2 * bytes_max / PAGE + CHUNK_PAGES;
    size_t head = sizeof(struct heap_head) + (n_data / 64 + 2) * 8;
    size_t n_head = (head + PAGE - 1) / PAGE;
    h->mapped = (ZONE_PAGES + n_head + n_data) * PAGE;
    void *zone = heap_map(h->mapped);
    if (zone == MAP_FAILED) {
        h->mapped = 0;
        return agon_fail(err, AGON_ENOMEM, "script: no address space for %zu bytes", bytes_max);
    }
    h->zone = zone;
    h->zone_at = h->zone + line_up(sizeof(struct zone_head));
    h->base = h->zone + (size_t)ZONE_PAGES * PAGE;
    struct heap_head *d = heap_head(h);
    d->used_max = bytes_max;
    d->n_pages = (uint32_t)(n_data + n_head);
    pages_mark(d, 0, (uint32_t)n_head, true);
    d->first_free = (uint32_t)n_head;
    d->chunk = h->base + line_up(head); /* the rest of its page */
    d->chunk_end = h->base + n_head * PAGE;
    return 0;
}

/* What is in use of it; no more from the first snapshot on. */
static size_t zone_extent(const struct agon_heap *h)
{
    return (size_t)(h->zone_at - h->zone);
}

/* The zone's part of a copy. */
static size_t copy_zone_bytes(const struct agon_heap *h)
{
    return (zone_extent(h) + PAGE - 1) & ~(size_t)(PAGE - 1);
}

static void copy_deinit(struct agon_heap_copy *c, const struct agon_heap *h)
{
    if (c->zone)
        munmap(c->zone, copy_zone_bytes(h) + c->capacity);
    *c = (struct agon_heap_copy){0};
}

void agon_heap_deinit(struct agon_heap *h)
{
    copy_deinit(&h->saved, h);
    copy_deinit(&h->layer, h);
    if (h->zone)
        munmap(h->zone, h->mapped);
    *h = (struct agon_heap){0};
}

/* What has to be copied: up to the highest page in use, but for what is left of the chunk. */
static struct agon_heap_copy heap_extent(struct agon_heap *h)
{
    struct heap_head *d = heap_head(h);
    while (!page_taken(d, d->high - 1)) /* the head's page is taken */
        d->high--;
    return (struct agon_heap_copy){.size = (size_t)d->high * PAGE,
                                   .gap = line_up((size_t)(d->chunk - h->base)),
                                   .gap_end = (size_t)(d->chunk_end - h->base)};
}

static void copy_move(const struct agon_heap_copy *c, char *to, const char *from)
{
    memcpy(to, from, c->gap);
    memcpy(to + c->gap_end, from + c->gap_end, c->size - c->gap_end);
}

static int copy_keep(struct agon_heap_copy *c, struct agon_heap *h, bool zone, struct agon_err *err)
{
    struct agon_heap_copy now = heap_extent(h);
    size_t before = copy_zone_bytes(h);
    if (now.size > c->capacity) {
        void *p = mmap(NULL, before + now.size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (p == MAP_FAILED)
            return agon_fail(err, AGON_ENOMEM, "script: no memory for a snapshot of %zu bytes",
                             now.size);
        copy_deinit(c, h);
        c->zone = p;
        c->data = c->zone + before;
        c->capacity = now.size;
    }
    now.zone = c->zone;
    now.data = c->data;
    now.capacity = c->capacity;
    *c = now;
    copy_move(c, c->data, h->base);
    if (zone)
        memcpy(c->zone, h->zone, zone_extent(h));
    return 0;
}

/* zone: what goes back into it, or NULL. */
static void copy_restore(const struct agon_heap_copy *c, struct agon_heap *h, const char *zone)
{
    size_t high = (size_t)heap_head(h)->high * PAGE;
    if (high > c->size + (size_t)TRIM_PAGES * PAGE)
        (void)madvise(h->base + c->size, high - c->size, MADV_DONTNEED); /* only saves memory */
    copy_move(c, h->base, c->data);
    if (zone) {
        memcpy(h->zone, zone, zone_extent(h));
        h->stirred = zone != h->saved.zone; /* a collection may be under way in the layer */
    }
}

int agon_heap_snapshot(struct agon_heap *h, struct agon_err *err)
{
    h->layered = false;
    h->settled = true;
    h->stirred = false;
    return copy_keep(&h->saved, h, true, err);
}

int agon_heap_layer(struct agon_heap *h, struct agon_err *err)
{
    int r = copy_keep(&h->layer, h, h->stirred, err);
    h->layer_stirred = h->stirred;
    h->layered = r == 0;
    return r;
}

void agon_heap_stir(struct agon_heap *h)
{
    h->stirred = true;
}

void agon_heap_drop_layer(struct agon_heap *h)
{
    h->layered = false;
}

void agon_heap_restore(struct agon_heap *h)
{
    const char *zone = h->layered && h->layer_stirred ? h->layer.zone : h->saved.zone;
    if (h->saved.data)
        copy_restore(h->layered ? &h->layer : &h->saved, h, h->stirred ? zone : NULL);
}
