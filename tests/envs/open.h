#pragma once
/* An environment in a real cell in a real box, for the tests of this folder and of verifiers/. */
#include "base/mem.h"
#include "envs/runtime.h"
#include "sandbox/cell.h"

struct open_env {
    struct agon_sandbox *sandbox;
    struct agon_runtime *rt;
    struct agon_instance *in;
    struct agon_buf out; /* reasons and results */
    struct agon_err err;
};
/* The sample world with these tools; false (and a failed case) where it does not open. */
bool env_start(struct open_env *o, const char *tools);
void env_close(struct open_env *o);
/* Call and compare status and text. */
void expect_call(struct open_env *o, struct agon_instance *in, const char *tool,
                 const char *arguments, int status, const char *expected);
/* SIGKILL for each cell of this process; how many there were. */
int kill_cells(void);

#define START(o, tools)                           \
    struct open_env o AGON_AUTO(env_close) = {0}; \
    REQUIRE(env_start(&o, tools))
