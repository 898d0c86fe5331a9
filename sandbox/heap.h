#pragma once
/*
 * The heap of one Lua state: one mapping at a fixed address whose bookkeeping lies
 * inside it, so that copying its used part back restores every object, list and
 * counter at once (0.1 us for 13 KB). Blocks have no headers: Lua tells the size
 * of what it frees.
 *
 * Half of what loading a script leaves are strings and code, which nobody writes to but the
 * collector. They are kept apart, in a zone that is copied back only where that has been about.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Mappings are page-aligned as base is, since memcpy between different page offsets is 17 times
 * slower on Zen 3. */
struct agon_heap_copy {
    char *zone; /* owned mapping, or NULL: what the zone held, where that is needed, and */
    char *data;
    size_t size, capacity; /* of data */
    size_t gap, gap_end;   /* between these is nothing */
};
struct agon_heap {
    char *zone; /* owned mapping: the zone, filled up to zone_at, and from base on all else */
    size_t mapped;
    char *zone_at, *base;               /* page-aligned */
    struct agon_heap_copy saved, layer; /* the snapshot; what was made on top of it */
    bool stirred, layer_stirred;        /* the zone may not be as in the snapshot */
    bool settled;                       /* there is a snapshot: the zone takes nothing more */
    bool layered;                       /* the layer is what is restored */
};

/* bytes_max bounds what is handed out. Mappings go to the same addresses in each
 * process where these are free, since Lua's hash seed depends on them. */
int agon_heap_init(struct agon_heap *h, size_t bytes_max, struct agon_err *err) AGON_MUST_USE;
void agon_heap_deinit(struct agon_heap *h);
/* A new block of at least one byte, or NULL. */
void *agon_heap_take(struct agon_heap *h, size_t size);
/* lua_Alloc's contract: size 0 frees, shrinking never fails, NULL when there is no room. */
void *agon_heap_realloc(struct agon_heap *h, void *block, size_t old, size_t size);
/* A block for what nobody but the collector will write to; NULL after the first snapshot, or where
 * there is no room: take another one. It is resized and freed as any. */
void *agon_heap_take_fixed(struct agon_heap *h, size_t size);
/* The collector is about, or whatever else may write to such blocks. */
void agon_heap_stir(struct agon_heap *h);
/* Bytes handed out now, rounded to the sizes of blocks. */
size_t agon_heap_used(const struct agon_heap *h);
int agon_heap_snapshot(struct agon_heap *h, struct agon_err *err) AGON_MUST_USE;
/* A second snapshot on top of the first, which is restored from then on, until it is dropped: for
 * what several runs begin with. */
int agon_heap_layer(struct agon_heap *h, struct agon_err *err) AGON_MUST_USE;
void agon_heap_drop_layer(struct agon_heap *h);
void agon_heap_restore(struct agon_heap *h); /* no-op without a snapshot */
