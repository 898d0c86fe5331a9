#pragma once
/* What env.c, env_store.c and env_build.c share. */
#include "base/err.h"
#include "base/mem.h"

#include <stdlib.h>

enum { AGON_ENV_FORMAT = 1 };

/* Build a temporary database file from world.sql's text; *ret_path is its owned path. */
int env_build_world(char **ret_path, const char *sql, struct agon_err *err) AGON_MUST_USE;

static inline void env_free_text(char **text)
{
    free(*text);
}
