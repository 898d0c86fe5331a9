#pragma once
/*
 * The shape of a row: its columns' names in their order, which is the order in which it
 * is written as JSON. Rows in Lua refer to it by address, so it has to outlive them: those
 * of tables live as long as the world, those of statements until the entry into Lua ends
 * in which the statement was dropped (agon_world_end_entry).
 */
struct agon_shape {
    const char *const *names;
    int n;
};
