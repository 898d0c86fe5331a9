#pragma once
/* Rows of rollouts, statistics, tasks and sources in corpus.db; all inside a transaction. */
#include "pipelines/corpus.h"

struct agon_rollout;

struct agon_rollout_key {
    const char *environment, *task, *configuration;
    const char *purpose; /* "filter", "train" or "eval" */
    const char *policy;  /* version of the policy; NULL: "" */
};
struct agon_stats {
    int n, c, n_first, c_first;
    const char *stop; /* "first", "pass", "max" or "estimate" */
};
int agon_rollout_row(struct agon_corpus *c, const struct agon_rollout_key *key,
                     const struct agon_rollout *rollout, struct agon_err *err) AGON_MUST_USE;
int agon_stats_row(struct agon_corpus *c, const struct agon_rollout_key *key,
                   const struct agon_stats *stats, struct agon_err *err) AGON_MUST_USE;
/* Status of a task; a kept one is marked in stats too. */
int agon_task_status(struct agon_corpus *c, const char *environment, const char *task,
                     const char *status, const char *reason, struct agon_err *err) AGON_MUST_USE;
int agon_source_row(struct agon_corpus *c, const char *environment, const json_t *source,
                    struct agon_err *err) AGON_MUST_USE;
/* The row of a configuration (model, sampling and the like), made if missing; its id is 12
 * hexadecimal digits of its digest. */
int agon_configuration_row(struct agon_corpus *c, const char *model, const json_t *sampling,
                           char ret_id[16], struct agon_err *err) AGON_MUST_USE;
