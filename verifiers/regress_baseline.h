#pragma once
/*
 * A baseline: what regression found of environments, kept in a file and held against what it finds
 * later. Lines of JSON, so that git shows what changed:
 *
 *   {"agon_baseline": 1}
 *   {"environment": ID, "world": DIGEST (envs/state.h), "tools": DIGEST}
 *   {"environment": ID, "task": ID, "files": {NAME: DIGEST}, "checks": [NAME],
 *    "golden": {"fuel", "ops"}, "solution": {"fuel", "ops", "calls"},
 *    "negatives": [[the checks that fail]]}
 *
 * Everything is compared for equality but fuel and operations, which may be less, or more by a
 * slack. DIGEST of text is the first 16 digits of its SHA-256.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"

#include <jansson.h>

struct agon_baseline;
struct agon_env;
struct agon_regress_report;
struct agon_trial;

int agon_baseline_load(struct agon_baseline **ret, const char *path,
                       struct agon_err *err) AGON_MUST_USE;
void agon_baseline_free(struct agon_baseline *b);
AGON_DEFINE_FREEP(struct agon_baseline, agon_baseline_free)
/* {"world", "tools", "tasks": {ID: {...}}} of an environment (borrowed), or NULL. Thread-safe. */
const json_t *agon_baseline_find(const struct agon_baseline *b, const char *environment);
/* Environments of the baseline in the order of its lines; NULL past the last. */
const char *agon_baseline_name(const struct agon_baseline *b, int i);

/* Append the first line, and the lines of what was measured. */
void agon_baseline_begin(struct agon_buf *out);
void agon_baseline_add(struct agon_buf *out, const json_t *measured);

/* Hold what was measured of an environment, and of one task, against the baseline's; cases go into
 * the report. <0: no memory. */
int agon_baseline_compare_env(struct agon_regress_report *r, const json_t *expected,
                              const json_t *got, struct agon_err *err) AGON_MUST_USE;
int agon_baseline_compare_task(struct agon_regress_report *r, const char *task,
                               const json_t *expected, const json_t *got, int slack_percent,
                               struct agon_err *err) AGON_MUST_USE;
