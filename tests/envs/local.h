#pragma once
/*
 * The cell's ops run inside the test program, on trusted Lua and SQL written by
 * hand: what a cell does, without the box around it.
 */
#include "base/buf.h"
#include "base/err.h"
#include "envs/cell_state.h"
#include "envs/ops.h"
#include "envs/wire.h"
#include "sandbox/worker.h"

struct local {
    struct agon_env_cell *cell;
    struct agon_buf request, reply;
    struct agon_err err;
};

void local_init(struct local *l);
void local_deinit(struct local *l);
/* An SQLite image made of this SQL. */
void local_image(struct agon_buf *ret, const char *sql);
/* Run an op on l->request; its reply is in l->reply. */
int local_op(struct local *l, const char *name);
/* env.open; the status, with the reason or the tools in *ret_text (borrowed until the next op). */
int local_open(struct local *l, const char *world_sql, const char *tools, const char **ret_text);
/* env.call on the instance whose writes are given as pairs of strings ending in NULL. */
int local_call(struct local *l, const char *const *writes, const char *tool, const char *arguments,
               const char **ret_text);
int local_sql(struct local *l, const char *const *writes, const char *sql, const char **ret_text);
/* env.solve; *ret_text: the answer or the reason. */
int local_solve(struct local *l, const char *solution, const char *schema, const char **ret_text);
