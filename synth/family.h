#pragma once
/*
 * A family of environments: one struct of names and functions (DESIGN.md, "The other
 * families"). Nothing outside a family asks which one it is.
 */
#include <stdbool.h>

struct agon_draft;
struct agon_err;
struct agon_stage_run;

/* A stage of the author: one goal, some tools, a budget and an end. */
struct agon_stage {
    const char *name;         /* "retrieve"; levels are named by line and level, "t1_l2" */
    const char *prompt;       /* file of prompts/ */
    const char *const *tools; /* names, in the order shown; ends with NULL */
    int turns_max;
    int proposals_max; /* of propose_task; 0: none */
    bool world;        /* may this stage change the world? */
    /* A turn without calls: is the goal reached? If not, *ret is why not (one sentence), else NULL.
     * Where there is no such function: never. */
    int (*missing)(const struct agon_draft *draft, const char **ret, struct agon_err *err);
};

struct agon_family {
    const char *name;
    const struct agon_stage *retrieve, *tools, *level;
    const char *solver_system, *solver_task; /* files of prompts/ */
    int solver_turns_max;
};

extern const struct agon_family agon_family_general;
/* By name; NULL: none. */
const struct agon_family *agon_family_find(const char *name);
