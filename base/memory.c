/* Failed allocations: see memory.h. */
#include "base/memory.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_bool memory_ran_out;

static void *noted(void *p)
{
    if (!p)
        atomic_store(&memory_ran_out, true);
    return p;
}

void *agon_memory_alloc(size_t size)
{
    return noted(malloc(size ? size : 1)); /* NULL is a failure, here */
}

void *agon_memory_realloc(void *p, size_t size)
{
    return noted(realloc(p, size ? size : 1));
}

char *agon_memory_strdup(const char *text)
{
    return noted(strdup(text));
}

void agon_memory_watch_json(void)
{
    json_set_alloc_funcs(agon_memory_alloc, free);
}

bool agon_memory_ran_out(void)
{
    return atomic_load(&memory_ran_out);
}

void agon_memory_forget(void)
{
    atomic_store(&memory_ran_out, false);
}
