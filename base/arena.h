#pragma once
/*
 * A bump arena for one unit of work (a task, an episode): everything in it ends
 * together. Memory is zeroed. Blocks grow; reset keeps the first block.
 */
#include "base/err.h"
#include "base/mem.h"
#include "base/str.h"

struct agon_arena;

/* bytes_max bounds the whole arena. */
int agon_arena_new(struct agon_arena **ret, size_t bytes_max, struct agon_err *err) AGON_MUST_USE;
void agon_arena_free(struct agon_arena *a);
AGON_DEFINE_FREEP(struct agon_arena, agon_arena_free)
void agon_arena_reset(struct agon_arena *a);
/* Zeroed, 16-byte aligned; NULL when memory or bytes_max is exhausted. */
void *agon_arena_alloc(struct agon_arena *a, size_t size);
/* NUL-terminated copy; NULL as above. */
char *agon_arena_strdup(struct agon_arena *a, struct agon_str s);
