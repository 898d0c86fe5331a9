#pragma once
/*
 * One try at a task: an instance of its own, the environment's tools over it with
 * submit_result last, and the episode. A rollout is one of them, or the best of several
 * (solver.h).
 */
#include "envs/runtime.h"
#include "synth/episode.h"

struct agon_task;

enum { AGON_TRAJECTORY_TOOLS_MAX = 64 };

struct agon_trajectory {          /* to be read only */
    const struct agon_task *task; /* borrowed */
    struct agon_instance *in;
    struct agon_episode_tool tools[AGON_TRAJECTORY_TOOLS_MAX];
    struct agon_episode *episode;
    char *answer; /* as submitted; NULL: none */
    int calls;    /* of the environment's tools */
    bool over;
};

/* shown: the tools as the model sees them. o: its tools are set here; what it borrows must outlive
 * the trajectory, as shown, rt and task. */
int agon_trajectory_new(struct agon_trajectory **ret, const struct agon_task *task,
                        struct agon_runtime *rt, const json_t *shown,
                        const struct agon_episode_options *o, struct agon_err *err) AGON_MUST_USE;
void agon_trajectory_free(struct agon_trajectory *t);
AGON_DEFINE_FREEP(struct agon_trajectory, agon_trajectory_free)
/* Go as far as is possible without waiting; `over` says whether it has come to its end. */
int agon_trajectory_step(struct agon_trajectory *t, struct agon_err *err) AGON_MUST_USE;
