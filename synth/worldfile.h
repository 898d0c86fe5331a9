#pragma once
/*
 * The world file of an environment in the making. The driver writes it (imports)
 * but never opens a file that model-written commands have touched: such a file is
 * read by a cell, and its rows are copied into a new one.
 */
#include "base/buf.h"
#include "base/err.h"
#include "envs/runtime.h"

enum { AGON_WORLD_BYTES_MAX = 64 << 20, AGON_WORLD_TABLES_MAX = 16 };

/* A database without tables; an old file is replaced. */
int agon_worldfile_create(const char *path, struct agon_err *err) AGON_MUST_USE;
/* Number of tables of a file of our own. */
int agon_worldfile_count(const char *path, int *ret_n, struct agon_err *err) AGON_MUST_USE;
/*
 * Copy what a stranger's database file at `from` holds into a new file at `to`: its tables,
 * STRICT, with their primary keys (row_id is added where there is none); nothing else.
 * AGON_REJECTED with the reason: not a database, names that are no identifiers, views,
 * triggers, values of a type the column does not take, too big.
 */
int agon_worldfile_adopt(struct agon_sandbox *sb, const char *from, const char *to,
                         struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
