#pragma once
/*
 * An environment at work: the driver's handle on a world and toolset opened in a
 * cell. A lost cell is replaced and the instance's writing calls are replayed
 * behind the caller's back, three times at most; then AGON_ESYS "refused".
 *
 * An instance is (world, list of successful writing calls): cheap, driver-side.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "envs/env.h"
#include "envs/usage.h"

struct agon_sandbox;
struct agon_runtime;
struct agon_instance;

/* A tool as the solver sees it. */
struct agon_tool {
    const char *name, *description;
    const json_t *params, *returns; /* schemas */
    bool writes;
};

enum { AGON_REJECTED = 1 }; /* the model's code is at fault: the reason says what */

/*
 * Open world (a database file; NULL: an empty world) and tools.lua text in a
 * cell. AGON_REJECTED with a one-sentence reason when the tools do not load.
 */
int agon_runtime_open(struct agon_runtime **ret, struct agon_sandbox *sb, const char *world_path,
                      struct agon_str tools, struct agon_buf *reason,
                      struct agon_err *err) AGON_MUST_USE;
/*
 * Another environment in the place of this one, in the same cell where that is well: a box less to
 * start for each environment of a corpus. Instances of the old one end first. As
 * agon_runtime_open(); where it fails the runtime can only be freed or opened again.
 */
int agon_runtime_reopen(struct agon_runtime *rt, const char *world_path, struct agon_str tools,
                        struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
void agon_runtime_free(struct agon_runtime *rt);
/* Drop the cell: the next call opens a fresh one (for a second, independent verdict). */
void agon_runtime_renew(struct agon_runtime *rt);
AGON_DEFINE_FREEP(struct agon_runtime, agon_runtime_free)
/* Did the last request end three fresh cells? Then its AGON_ESYS is the fault of the code in it, to
 * be refused, and not of the machine. */
bool agon_runtime_gave_up(const struct agon_runtime *rt);
int agon_runtime_n_tools(const struct agon_runtime *rt);
const struct agon_tool *agon_runtime_tool(const struct agon_runtime *rt, int i);
/* tools.lua as it was opened; borrowed until the runtime is opened again. */
struct agon_str agon_runtime_tools_text(const struct agon_runtime *rt);
/* The toolset as OpenAI function tools (new reference), in definition order. */
json_t *agon_runtime_tools_json(const struct agon_runtime *rt);

int agon_instance_new(struct agon_instance **ret, struct agon_runtime *rt,
                      struct agon_err *err) AGON_MUST_USE;
int agon_instance_fork(struct agon_instance **ret, const struct agon_instance *in,
                       struct agon_err *err) AGON_MUST_USE;
void agon_instance_free(struct agon_instance *in);
AGON_DEFINE_FREEP(struct agon_instance, agon_instance_free)

enum { AGON_TOOL_ERROR = 1 };
/* Call a tool with arguments as JSON text. 0: result is canonical JSON text;
 * AGON_TOOL_ERROR: result is the error sentence for the model, nothing changed. */
int agon_instance_call(struct agon_instance *in, const char *tool, struct agon_str arguments,
                       struct agon_buf *result, struct agon_err *err) AGON_MUST_USE;
/* The successful writing calls so far: array of {"tool","arguments"} (borrowed). */
const json_t *agon_instance_writes(const struct agon_instance *in);
/* Replace the list (to replay a record). */
int agon_instance_set_writes(struct agon_instance *in, const json_t *writes,
                             struct agon_err *err) AGON_MUST_USE;
/* Trusted query for people and for the driver's own texts: rows as a JSON array of
 * objects. Read-only, one statement; AGON_REJECTED with the reason. */
int agon_instance_sql(struct agon_instance *in, struct agon_str sql, json_t **ret_rows,
                      struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;

/* One run of a solution against a fresh instance. */
struct agon_solved {
    json_t *answer;  /* owned */
    json_t *writes;  /* owned: successful writing calls */
    json_t *calls;   /* owned: [{"tool","arguments","result"|"error"}] in order */
    json_t *columns; /* owned: sorted ["table.column", ...] that the run read */
    struct agon_usage usage;
};
void agon_solved_deinit(struct agon_solved *s);
/* answer_schema guides {} against [] and the order of keys, and the answer must fit it; NULL:
 * unguided. AGON_REJECTED: the solution does not load, raises, or its answer does not fit (reason).
 * Returning nil (unsolvable) is the answer null, or AGON_REJECTED where the schema has no null. */
int agon_runtime_solve(struct agon_runtime *rt, struct agon_str solution,
                       const json_t *answer_schema, struct agon_solved *ret,
                       struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
/* The same from the state of an instance, which goes on to the one that the run leaves; where it
 * fails, the instance stays. writes in ret: all since the world was new. */
int agon_instance_solve(struct agon_instance *in, struct agon_str solution,
                        const json_t *answer_schema, struct agon_solved *ret,
                        struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
