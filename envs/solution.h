#pragma once
/*
 * The solution's principal inside a cell: a Lua state that holds the restricted
 * libraries, null, near, same and nothing else; the solution gets `tools`, a table
 * of functions, as its argument. It never sees the world.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "envs/usage.h"

#include <jansson.h>
#include <stdint.h>

struct agon_env_cell;
struct agon_solution;

int agon_solution_new(struct agon_solution **ret, struct agon_env_cell *cell,
                      struct agon_err *err) AGON_MUST_USE;
void agon_solution_free(struct agon_solution *s);
AGON_DEFINE_FREEP(struct agon_solution, agon_solution_free)

enum agon_solve_end {
    AGON_SOLVE_OK,
    AGON_SOLVE_FAILED,  /* it raised, hit a limit, or its answer does not fit: sentence in err */
    AGON_SOLVE_NO_LOAD, /* it does not compile, or returns no function: sentence in err */
};
struct agon_solve_result {
    struct agon_buf answer; /* JSON text */
    struct agon_buf calls;  /* JSON text: [{"tool","arguments","result"|"error"}] */
    int n_calls;
    struct agon_usage usage; /* of the tools that it called, too */
};
/* Run a solution from the session's present state; it leaves the state that it made. Returns an
 * agon_solve_end or <0. schema may be NULL. */
int agon_solution_run(struct agon_solution *s, struct agon_str text, const json_t *schema,
                      struct agon_solve_result *ret, struct agon_err *err) AGON_MUST_USE;
void agon_solve_result_deinit(struct agon_solve_result *r);
