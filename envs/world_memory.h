#pragma once
/*
 * Memory for a cell's SQLite. A cell has one thread, and statements take and give some
 * 30 small blocks each; Debian's SQLite is built without lookaside, so each of them goes
 * through a mutex, the statistics and malloc. Here they come from lists by size.
 *
 * Invariants: 1. what is handed out never exceeds AGON_WORLD_HEAP_MAX: a statement that
 * wants more runs out of memory, which is an outcome; 2. once everything was given back
 * the memory goes back to the kernel; 3. nothing of it depends on addresses.
 */
#include <stddef.h>

enum { AGON_WORLD_HEAP_MAX = 384 << 20 };

/* For a process that is a cell, before SQLite is used: one thread, no statistics, this memory.
 * Where SQLite is in use already nothing changes, and its own limit holds. */
void agon_world_memory_use(void);
/* Give back what is free, where all of it is. */
void agon_world_memory_trim(void);
/* Bytes handed out now. */
size_t agon_world_memory_used(void);
