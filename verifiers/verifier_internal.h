#pragma once
/* What verifier.c, verifier_changes.c, ops.c and playback_cell.c share. */
#include "envs/changes.h"
#include "envs/world_lua.h"
#include "sandbox/script_record.h"
#include "verifiers/verifier.h"

struct agon_script;
struct lua_State;

struct check {
    char *name, *text; /* owned */
};
struct agon_verifier {
    struct agon_host host;
    struct agon_script *script; /* owned */
    char *source;               /* owned */
    size_t source_size;
    struct check checks[AGON_CHECKS_MAX];
    int n_checks;
    struct agon_script_kept functions, world, table; /* by number; `world`; `changes` */
    struct agon_changes changes;                     /* of the answer that is being judged */
};

struct agon_env_cell;

/* The cell's verifier, loaded from this text unless it is the one at hand; *ret is borrowed from
 * the cell. As agon_verifier_load(). (ops.c) */
int verifier_at_hand(struct agon_env_cell *cell, struct agon_str text, struct agon_verifier **ret,
                     struct agon_err *err);
/* Append a brief (trial_wire.h). (ops.c) */
void verifier_add_brief(struct agon_buf *out, const struct agon_judgement *j);

/* A number that stands for the net changes: equal for equal ones, in whatever order they were made;
 * 0 without any. */
uint64_t verifier_changes_digest(const struct agon_verifier *v);
/* Push the table `changes`. */
void verifier_push_changes(struct lua_State *L);
