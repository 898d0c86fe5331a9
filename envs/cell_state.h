#pragma once
/*
 * The state of a cell that has an environment open: the world, its tools, the
 * writing calls made since the reset, and a Lua state for solutions. Shared by
 * the ops of envs/ and verifiers/; one to a cell.
 */
#include "base/buf.h"
#include "envs/changes.h"
#include "envs/recall.h"
#include "envs/toolset.h"
#include "envs/usage.h"
#include "envs/wire.h"
#include "envs/world.h"

struct agon_solution;

enum {
    AGON_CELL_WRITES_MAX = 1000,     /* in one instance */
    AGON_CELL_CALLS_MAX = 2000,      /* of one solution */
    AGON_CELL_RECORD_MAX = 16 << 20, /* bytes of a solution's recorded calls */
    AGON_CELL_RUN_FUEL = 20000000,   /* for all tool calls of one solution */
};

struct agon_write {
    char *tool, *arguments; /* owned; arguments in the canonical writing */
};
struct agon_override { /* a result to give in the place of the real one */
    char *tool, *arguments, *result;
};

struct agon_env_cell {
    struct agon_world *world; /* NULL until env.open */
    struct agon_toolset *toolset;
    struct agon_solution *solution;
    struct agon_write *writes; /* successful writing calls since the reset */
    int n_writes;
    struct agon_override *overrides;
    int n_overrides;
    struct agon_recall *recall;        /* owned; NULL until a call is made */
    int64_t state;                     /* its number of the state that the world is in */
    bool calls_anew;                   /* every call is made, though it was made before */
    int64_t fuel;                      /* left for tool calls of this run */
    struct agon_buf canonical, result; /* of the last call */
    void *verifier;                    /* owned by verifiers/, with its end below */
    void (*verifier_free)(void *verifier);
};

struct agon_env_cell *agon_env_cell_new(void); /* NULL: no memory */
void agon_env_cell_free(struct agon_env_cell *cell);
AGON_DEFINE_FREEP(struct agon_env_cell, agon_env_cell_free)
/* Drop what is open. */
void agon_env_cell_close(struct agon_env_cell *cell);

/* The initial (or perturbed) state, fresh fuel, no writes. */
int agon_session_reset(struct agon_env_cell *cell, struct agon_err *err) AGON_MUST_USE;
/* Fresh budgets for the next call, as each call of an instance has them. */
void agon_session_budgets(struct agon_env_cell *cell);
enum { AGON_SESSION_ERROR = 1 };
/* One call; cell->result is the result or the error's sentence, cell->canonical the arguments.
 * A failed call leaves nothing. Returns 0, AGON_SESSION_ERROR or <0. */
int agon_session_call(struct agon_env_cell *cell, struct agon_str tool, struct agon_str arguments,
                      struct agon_err *err) AGON_MUST_USE;
/* The state after exactly these writes, doing as little as possible. AGON_SESSION_ERROR with a
 * sentence in err when one does not succeed. Reads n, then n times (tool, arguments), from wire. */
int agon_session_replay(struct agon_env_cell *cell, struct agon_wire *wire,
                        struct agon_err *err) AGON_MUST_USE;
/* Append fuel, operations, share. */
void agon_session_add_usage(const struct agon_usage *usage, struct agon_buf *out);
/* Append n and the writes, as above. */
void agon_session_add_writes(const struct agon_env_cell *cell, struct agon_buf *out);
/* Append a count and "table.column" strings, sorted: what was read since agon_world_forget_reads().
 */
void agon_session_add_reads(const struct agon_env_cell *cell, struct agon_buf *out);
