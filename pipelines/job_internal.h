#pragma once
/* A job, shared by job.c (the author's stages) and job_solve.c (rollouts, filter, publishing). */
#include "pipelines/run.h"
#include "synth/draft.h"
#include "synth/stage.h"

enum job_step { JOB_STAGE, JOB_SOLVE, JOB_PUBLISH, JOB_DONE };

struct agon_solver;

/* A task under the solver. */
struct job_task {
    struct agon_solver *solver; /* NULL once over */
    int n, c, n_first, c_first;
    bool disputed;
};

struct agon_job {
    struct agon_run *run;
    char *id;
    struct agon_rng rng;
    enum job_step step;
    struct agon_stage_place place; /* of JOB_STAGE */
    struct agon_draft *draft;      /* as the last finished stage left it */
    struct agon_stage_run *stage;  /* at work */
    char dir[AGON_STAGE_NAME];     /* folder in work/ID/ that draft came from; "" none */
    char scratch[4096];
    int64_t stage_began_ms;
    struct agon_runtime *rt; /* of JOB_SOLVE */
    struct job_task *tasks;  /* of JOB_SOLVE, one for each of draft's */
    char shown[64];
};

/* JOB_SOLVE: open solvers (from the rollouts known already) on first use and move them on.
 * 0, or AGON_JOB_OVER when the stage is over and committed. */
int agon_job_solve(struct agon_job *job, int parallel, struct agon_err *err) AGON_MUST_USE;
/* JOB_PUBLISH: decide, store the environment with what is kept, commit. */
int agon_job_publish(struct agon_job *job, struct agon_err *err) AGON_MUST_USE;
/* Remove work/ID/: all of the environment is in its place. */
int agon_job_clear(struct agon_job *job, struct agon_err *err) AGON_MUST_USE;
/* Write an event of this job; call inside a transaction. detail is taken. */
int agon_job_event(struct agon_job *job, const char *stage, const char *kind, json_t *detail,
                   struct agon_err *err) AGON_MUST_USE;
/* Mark the environment's end: status "kept", "empty" or "failed". Inside a transaction. */
int agon_job_status(struct agon_job *job, const char *status, const char *reason,
                    struct agon_err *err) AGON_MUST_USE;
