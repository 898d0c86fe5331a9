#pragma once
/*
 * What Lua sees of a world: world:rows, world:row, world:value and world:exec,
 * for the tools (exec where the tool writes) and for the verifier (reading only).
 */
#include "envs/codec.h"
#include "envs/world.h"

struct lua_State;
struct sqlite3_value;

/* The owner of one Lua state hands this to agon_script_set_user(); it outlives the state. */
struct agon_host {
    struct agon_world *world; /* borrowed */
    enum agon_principal by;
    bool may_write; /* the running tool declares writes=true */
    struct agon_codec codec;
    void *owner; /* the toolset, solution or verifier itself */
};

/* Push the table `world`. */
void agon_world_push(struct lua_State *L);
/* Push one SQL value of column c (c may be NULL); raises on a BLOB. */
void agon_world_push_value(struct lua_State *L, struct sqlite3_value *value,
                           const struct agon_column *c);
