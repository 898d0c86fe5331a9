#pragma once
/*
 * Rollouts made again: the calls of stored transcripts, in their order, on fresh instances, each
 * result held against the stored one byte for byte, and the verdict on the stored answer. No model
 * is asked. Many rollouts go to the cell in one request.
 *
 * The window that the model had is not stored, and pages of long results depend on it: the size of
 * a page is found from the pages themselves.
 */
#include "base/buf.h"
#include "envs/runtime.h"
#include "synth/context.h"

struct agon_replay_rollout { /* as corpus.db holds it; borrowed */
    const json_t *segments;
    const char *answer; /* as submitted, or NULL */
    const json_t *writes, *checks;
    const char *verdict, *end;
};
struct agon_replay_result {
    bool same;
    int n_calls; /* of the environment's tools */
    /* Of the first difference: "call 3, find_hotel {...}: line 1, byte 17", what was stored and
     * what came. */
    struct agon_buf where, expected, got;
};
void agon_replay_result_deinit(struct agon_replay_result *r);

struct agon_replay {
    struct agon_runtime *rt; /* borrowed, as task */
    const struct agon_task *task;
    enum agon_context context; /* of the run */
    size_t page_cap;           /* 0: not known yet; kept from one batch to the next */
};
/* ret: n of them, set up here and the caller's to deinit, in all cases. <0: could not be run. */
int agon_replay(struct agon_replay *replay, const struct agon_replay_rollout *rollouts, int n,
                struct agon_replay_result *ret, struct agon_err *err) AGON_MUST_USE;
