#pragma once
/* The small world of tests/envs/samples.h, opened; for the targets of what runs in a cell. */
struct agon_world;

struct agon_world *fuzz_world(void); /* the caller owns it */
