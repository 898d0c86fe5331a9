#pragma once
/*
 * What a cell can do with an environment (wire.h): env.open, env.call, env.solve,
 * env.sql. The state of the worker is a struct agon_env_cell (cell_state.h).
 *
 *   env.open   world, tools                       -> status [reason | tools as JSON]
 *   env.call   writes, tool, arguments            -> status, result, wrote [arguments]
 *   env.solve  solution, schema, writes           -> status, reason, answer, calls, writes, reads,
 *                                                    usage
 *   env.sql    writes, sql                        -> status, reason | rows as JSON
 *   state.diff writes, writes                     -> status, reason | changes as JSON (state.h)
 *   state.hash writes                             -> status, reason | 64 digits
 *
 * status 0 is success, 1 the model's code is at fault.
 */
#include "sandbox/worker.h"

/* Each ends with a zero entry. */
extern const struct agon_worker_op agon_env_ops[];
extern const struct agon_worker_op agon_state_ops[]; /* state_ops.c */
