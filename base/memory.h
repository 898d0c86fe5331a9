#pragma once
/*
 * Failed allocations that nobody passes on. Code that builds JSON values or HTML trees has
 * hundreds of small steps, and a step left out for lack of memory leaves a value that is whole
 * to look at: a field is missing, a page ends early. So the libraries that make them get their
 * memory here, the first failure is kept for the life of the process, and whoever is about to
 * make something last (a commit, an exit with 0) asks.
 */
#include <stdbool.h>
#include <stddef.h>

/* From now on jansson gets its memory here. Before its first use, and in main() only. */
void agon_memory_watch_json(void);
/* For the same call of other libraries. */
void *agon_memory_alloc(size_t size);
void *agon_memory_realloc(void *p, size_t size);
char *agon_memory_strdup(const char *text);
/* Has one of them failed, ever? */
bool agon_memory_ran_out(void);
void agon_memory_forget(void); /* for tests that go on */
