#pragma once
/* What the files of regression share: regress.c, regress_task.c, regress_measure.c. */
#include "envs/env.h"
#include "verifiers/regress.h"
#include "verifiers/trial.h"

struct regress {
    struct agon_regress_report *report;
    const struct agon_regress_options *options;
    const struct agon_env *env; /* borrowed, as the rest */
    const json_t *baseline;     /* of this environment, or NULL */
    struct agon_runtime *rt;
};

enum { REGRESS_REASON_MAX = 4000, REGRESS_TEXT_MAX = 16 << 20 };

/* regress_task.c: one task, in one request to the cell. */
int regress_task(struct regress *g, const struct agon_task *task, struct agon_err *err);
/* regress_measure.c: what a baseline keeps of the environment, and of a task, goes to
 * report->measured. */
int regress_measure_env(struct regress *g, struct agon_err *err);
int regress_measure_task(struct regress *g, const struct agon_task *task,
                         const struct agon_trial *t, struct agon_err *err);
int regress_no_memory(struct agon_err *err);
