#pragma once
/*
 * Regression over environments that are already accepted: nothing was altered, golden
 * answers still pass, solutions still find them, negatives still fail on the check they name.
 * What `agon verify` prints. Runs in cells; nothing on disk changes.
 */
#include "base/buf.h"
#include "base/err.h"

struct agon_sandbox;

struct agon_regress_report {
    int n_envs, n_tasks, n_negatives;
    int n_failures;
    struct agon_buf lines; /* a line for each environment and for each failure */
};
void agon_regress_report_init(struct agon_regress_report *r);
void agon_regress_report_deinit(struct agon_regress_report *r);

/*
 * Verify the environment in dir and add to the report. 0: all as it should be;
 * AGON_REJECTED: some failure, with its line ("trip/t1_l2: the golden answer does not
 * pass: check 'seats' fails"); <0: could not be judged.
 */
int agon_regress_env(struct agon_sandbox *sb, const char *dir, struct agon_regress_report *report,
                     struct agon_err *err) AGON_MUST_USE;
/* The same for every environment (a directory with an env.json) at or below dir, in bytewise order
 * of paths. AGON_EINPUT where there is none. */
int agon_regress_corpus(struct agon_sandbox *sb, const char *dir,
                        struct agon_regress_report *report, struct agon_err *err) AGON_MUST_USE;
