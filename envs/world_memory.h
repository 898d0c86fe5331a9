#pragma once
/*
 * Memory for a cell's SQLite. A cell has one thread, and statements take and give some
 * 30 small blocks each; Debian's SQLite is built without lookaside, so each of them goes
 * through a mutex, the statistics and malloc. Here they come from lists by size.
 *
 * Invariants: 1. what is handed out never exceeds AGON_WORLD_HEAP_MAX, and what is spared: a
 * statement that wants more runs out of memory, which is an outcome, the same in each cell: where
 * free blocks of other sizes have used up the address space, the process ends, and a fresh cell
 * decides; 2. once everything was given back the memory goes back to the kernel, but for 4 MiB; 3.
 * nothing of it depends on addresses.
 */
#include <stddef.h>

enum {
    AGON_WORLD_HEAP_MAX = 192 << 20, /* a world of 48 MiB may double, and sort */
    AGON_WORLD_LARGE = 8 << 10,      /* above a page of the cache */
    AGON_WORLD_WORN_STATUS = 71,
};

/* For a process that is a cell, before SQLite is used: one thread, no statistics, this memory.
 * Where SQLite is in use already nothing changes, and its own limit holds. */
void agon_world_memory_use(void);
/* At most so many bytes more than now may be handed out; SIZE_MAX: up to AGON_WORLD_HEAP_MAX. */
void agon_world_memory_limit(size_t more);
/* So many bytes of what is handed out do not count: what is kept for later, and might not be. */
void agon_world_memory_spare(size_t bytes);
/* fn(user, n) is told of each block of AGON_WORLD_LARGE bytes and more; NULL: nobody is. */
void agon_world_memory_watch(void (*fn)(void *user, size_t n), void *user);
/* Give back what is free, where all of it is. */
void agon_world_memory_trim(void);
/* Bytes handed out now. */
size_t agon_world_memory_used(void);
