#pragma once
/* What verifier.c and verifier_changes.c share. */
#include "envs/changes.h"
#include "envs/world_lua.h"
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
    struct agon_changes changes; /* of the answer that is being judged */
};

/* Push the table `changes`. */
void verifier_push_changes(struct lua_State *L);
