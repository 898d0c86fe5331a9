#pragma once
/* What the files of regression share: regress.c, regress_task.c, regress_measure.c. */
#include "envs/env.h"
#include "verifiers/regress.h"
#include "verifiers/trial.h"

struct regress_turn;
struct regress {
    struct agon_regress_report *report;
    const struct agon_regress_options *options;
    const struct agon_env *env; /* borrowed, as the rest */
    const json_t *baseline;     /* of this environment, or NULL */
    struct agon_runtime *rt;
    struct regress_turn *ahead; /* the next task, whose trial may be under way; or NULL */
};

enum { REGRESS_REASON_MAX = 4000, REGRESS_TEXT_MAX = 16 << 20 };

/* regress_task.c: all tasks, each in one request to the cell, which has the next one while the
 * answers to one are looked at. */
int regress_all(struct regress *g, struct agon_err *err);
/* regress_measure.c: what a baseline keeps of the environment, and of a task, goes to
 * report->measured. */
int regress_measure_env(struct regress *g, struct agon_err *err);
int regress_measure_task(struct regress *g, const struct agon_task *task,
                         const struct agon_trial *t, struct agon_err *err);
int regress_no_memory(struct agon_err *err);
