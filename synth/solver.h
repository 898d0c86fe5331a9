#pragma once
/*
 * The solver on one task: rollouts, each an episode with the environment's tools and
 * submit_result, all forked from one session that holds the prompt. The first
 * n_first always run; where none of them passes, more follow up to n_max and the
 * first pass, in the order of indices, ends it (`estimate`: all n_max run). Rollouts
 * come out in the order of their indices whatever order they finish in; what is
 * beyond the end is discarded.
 *
 * Under AGON_CONTEXT_PARALLEL a rollout is n_trajectories independent episodes, each with its own
 * randomness and instance, and the one that answered (by submit_result, after a call) in the
 * fewest turns is the rollout, the first of equals; where none did, the one of the fewest turns.
 * What is right is not asked. The others are not kept, but what they cost counts.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "envs/runtime.h"
#include "model/model.h"
#include "synth/context.h"
#include "synth/family.h"

struct agon_prompts;
struct agon_episode_report;
struct agon_solver;

struct agon_solver_options {
    struct agon_model *model; /* all borrowed, to outlive the solver */
    const struct agon_prompts *prompts;
    const struct agon_family *family;
    struct agon_runtime *rt;
    const struct agon_task *task;
    struct agon_sampling sampling;
    enum agon_context context;
    int n_trajectories;  /* of a rollout, under AGON_CONTEXT_PARALLEL */
    struct agon_rng rng; /* the task's stream */
    const char *key;     /* "category/solve_t1_l2": rollout i's turns are "key/i/turn.try", those
                          * of its trajectory k "key/i/k/turn.try" */
    int n_first, n_max;
    bool estimate;
    int n_parallel;       /* episodes at once */
    int n_done, n_passed; /* rollouts 0..n_done-1 are known already (a resumed run) */
};

/* The end of a rollout that passed and failed in a second, fresh cell: its task is not kept. */
#define AGON_ROLLOUT_DISPUTED "disputed"
/* One rollout and its verdict. */
struct agon_rollout {
    int index;
    bool pass;
    const char *verdict; /* "pass", "fail" or "none" (nothing was submitted); constant */
    const char *end;     /* of the episode; constant. "no_calls": passed without any tool call */
    char *answer;        /* owned: as submitted, or NULL */
    json_t *writes;      /* owned: successful writing calls */
    json_t *checks; /* owned: [{"name","end","reason"?}] and what was unclaimed; where disputed, of
                     * both cells, each check with its "cell", 1 or 2 */
    struct agon_episode *episode; /* owned; agon_episode_report() */
    int64_t tokens;               /* generated, in all trajectories */
};
/* Trajectories that a user may ask for, and what is done where none were named. */
enum { AGON_TRAJECTORIES_MAX = 64, AGON_TRAJECTORIES_DEFAULT = 4 };
void agon_rollout_deinit(struct agon_rollout *r);

int agon_solver_new(struct agon_solver **ret, const struct agon_solver_options *o,
                    struct agon_err *err) AGON_MUST_USE;
void agon_solver_free(struct agon_solver *s);
AGON_DEFINE_FREEP(struct agon_solver, agon_solver_free)

enum { AGON_SOLVER_OVER = 1 };
/* Move every rollout on as far as it goes without waiting. at_most: episodes that may be in
 * flight after it (more where a single rollout has more). 0, AGON_SOLVER_OVER once every rollout
 * that counts was taken, or <0. */
int agon_solver_step(struct agon_solver *s, int at_most, struct agon_err *err) AGON_MUST_USE;
/* The next rollout in order of index: 1 with *ret filled, 0 (none yet), or <0. The first pass
 * is judged again in a fresh cell before it is handed out. */
int agon_solver_take(struct agon_solver *s, struct agon_rollout *ret,
                     struct agon_err *err) AGON_MUST_USE;
int agon_solver_in_flight(const struct agon_solver *s);
