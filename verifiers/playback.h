#pragma once
/*
 * Episodes in batches: one request makes the calls of many rollouts, each on a fresh
 * instance, and judges their answers. It is what replaying a corpus, rewards for
 * training and the benchmark of the whole runtime are made of: the cost of waking a
 * cell is paid once for all of them.
 *
 * Each call has the budgets that agon_instance_call() gives it, each verdict those of
 * agon_verdict(), and each episode starts from the initial world: the results are
 * the same bytes as call by call.
 */
#include "verifiers/trial.h"

/* A call to make; borrowed. arguments: JSON text ("" is {}). */
struct agon_play_call {
    struct agon_str tool, arguments;
};
struct agon_play {
    const struct agon_play_call *calls; /* borrowed */
    int n_calls;
    struct agon_str answer; /* JSON text as submitted; size 0: not judged */
};
struct agon_playback_input {
    const json_t *answer_schema; /* NULL: any */
    struct agon_str verifier;    /* size 0: nothing is judged */
    const struct agon_play *episodes;
    int n_episodes;
    bool results; /* the calls' results are wanted; without, they are checked and not written */
    /* The same bytes, for who wants to see that or to measure it: each episode asks the database
     * again for what an earlier one has read (envs/memo.h, envs/recall.h); or its calls are made
     * though an earlier one made the same, and only their rows may be known. */
    bool anew, calls_anew;
};

struct agon_played_call {
    bool failed;          /* text is the error's sentence */
    struct agon_str text; /* borrowed from the reply */
};
struct agon_played {
    int n_failed; /* calls that ended in an error */
    bool judged;
    struct agon_brief brief; /* where judged */
};
/* Zero it, use it for many batches, deinit it. What a batch gave stands until the next. */
struct agon_playback {
    struct agon_played *ends; /* n_ends = n_episodes */
    int n_ends;
    struct agon_played_call *results; /* of all calls in order; 0 unless wanted */
    int n_results;
    struct agon_buf request, reply; /* internal */
    int ends_capacity, results_capacity;
};
void agon_playback_deinit(struct agon_playback *e);

/* Returns 0; AGON_REJECTED when the verifier does not load (reason); or <0. */
int agon_playback(struct agon_runtime *rt, const struct agon_playback_input *input,
                  struct agon_playback *ret, struct agon_buf *reason,
                  struct agon_err *err) AGON_MUST_USE;
/*
 * The two halves, to keep several runtimes busy from one thread: begin sends and returns at once,
 * end waits. Between them the runtime takes no other request, and input and ret stand as they are.
 */
int agon_playback_begin(struct agon_runtime *rt, const struct agon_playback_input *input,
                        struct agon_playback *ret, struct agon_err *err) AGON_MUST_USE;
int agon_playback_end(struct agon_runtime *rt, const struct agon_playback_input *input,
                      struct agon_playback *ret, struct agon_buf *reason,
                      struct agon_err *err) AGON_MUST_USE;
