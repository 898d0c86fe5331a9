#pragma once
/* What schema.c (is a schema well-formed) and schema_fits.c (does a value fit) share. */
#include "base/str.h"
#include "envs/schema_walk.h"

/* Deep enough for any hand-written answer; equal to the codec's depth of values. */
enum { SCHEMA_DEPTH_MAX = 32, SCHEMA_PATH_MAX = 200, SCHEMA_MISFIT = 1 };

/* OTHER where text (NULL is fine) names no type. */
enum agon_kind schema_kind_of(const char *text);

/* A dotted place, cut when too long: it serves a message only. The adders return the size before.
 */
struct schema_path {
    char text[SCHEMA_PATH_MAX];
    size_t size;
};
size_t schema_path_key(struct schema_path *p, const char *key);
size_t schema_path_item(struct schema_path *p, size_t i);
void schema_path_cut(struct schema_path *p, size_t size);
