#pragma once
/*
 * Regression over environments that are already accepted: no file was altered, golden answers
 * still pass, solutions still find them by the same writes, negatives still fail on the check that
 * they name, runs stay clear of their limits; and, where a baseline is given, everything is as it
 * was recorded (baseline.h). What `agon verify` prints. Runs in cells; nothing on disk changes.
 *
 * A report is cases: one thing that was looked at each, with a stable name ("golden", "solution",
 * "negative 3", "budget", ...), so that a CI system can follow each of them over time.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>
#include <stdint.h>

struct agon_arena;
struct agon_baseline;
struct agon_sandbox;

/* All text is owned by the report. */
struct agon_regress_case {
    const char *task; /* its id; NULL: of the environment itself */
    const char *name; /* what was looked at */
    bool failed;
    const char *message;        /* of a failed one: one sentence */
    const char *expected, *got; /* of a failed one: the smallest difference; NULL: none */
};
struct agon_regress_report {
    struct agon_arena *arena;
    const char *id; /* of the environment; its folder where env.json can't be read */
    struct agon_regress_case *cases;
    int n_cases, n_cases_capacity;
    int n_tasks, n_negatives, n_failures;
    int share_most; /* of a limit, in thousandths, and the task whose golden run took it */
    const char *share_task;
    json_t *measured; /* what a baseline records, where it was asked for: an array of objects */
    int64_t wall_ms;
};
/* Empty, with the name of the environment; deinit it even where this fails. */
int agon_regress_report_init(struct agon_regress_report *r, const char *id,
                             struct agon_err *err) AGON_MUST_USE;
void agon_regress_report_deinit(struct agon_regress_report *r);
/* For people: a line for each failed case, then one for the environment. */
void agon_regress_lines(const struct agon_regress_report *r, struct agon_buf *out);
/* Note that something is wrong; fmt makes the message. False: no memory. */
bool agon_regress_fail(struct agon_regress_report *r, const char *task, const char *name,
                       const char *expected, const char *got, const char *fmt, ...)
    AGON_PRINTF(6, 7);
/* Note that something is as it should be. */
bool agon_regress_pass(struct agon_regress_report *r, const char *task, const char *name);

struct agon_regress_options {
    const struct agon_baseline *baseline; /* or NULL */
    bool measure;                         /* fill `measured`; implied by a baseline */
    int share_max;     /* of a limit, in thousandths, that a golden run may take; 0: 1000 */
    int slack_percent; /* by which a run may use more than the baseline's */
};

/*
 * Verify the environment in dir. 0: all as it should be; AGON_REJECTED: some case failed; <0: could
 * not be judged. ret is filled in all cases and is the caller's to deinit.
 */
int agon_regress_env(struct agon_sandbox *sb, const char *dir,
                     const struct agon_regress_options *options, struct agon_regress_report *ret,
                     struct agon_err *err) AGON_MUST_USE;

/* Folders of environments (with an env.json) at or below a folder, in bytewise order of paths; zero
 * it, links are not followed. */
struct agon_regress_dirs {
    char **items;
    int n;
};
int agon_regress_find(struct agon_regress_dirs *dirs, const char *dir,
                      struct agon_err *err) AGON_MUST_USE;
void agon_regress_dirs_deinit(struct agon_regress_dirs *dirs);
