#pragma once
/*
 * A trial: one request to a cell that may perturb the world, run a solution in
 * it, judge its answer and judge a batch of given answers, then puts the world
 * back. Gates, audits and rollouts are made of trials; agon_verdict() is the
 * trial of one answer.
 *
 * Order inside the cell: perturb; probes; solution; its verdict; the items. Each
 * probe, the solution and each item starts from the (perturbed) initial state.
 */
#include "verifiers/verdict.h"

/*
 * Gate 8's perturbation: rows of each named column are dealt anew, by `seed` and
 * `draw` alone. Even draws permute, odd ones draw with replacement; single-column
 * keys and UNIQUE columns are only ever permuted; columns of composite keys (and of
 * references to such) stay. NULLs travel with values. AGON_DRAW_NO_ROW deals nothing: whatever the
 * columns, each table is empty.
 */
struct agon_perturb {
    uint64_t seed;
    int draw;
    const json_t *columns; /* ["table.column", ...], borrowed */
};

/* One answer to judge, borrowed. answer is JSON text as submitted. */
struct agon_trial_item {
    struct agon_str answer;
    const json_t *writes; /* [{"tool","arguments"}] or NULL */
};

/* A verdict in brief. Bit i of failed: check i did not pass. */
struct agon_brief {
    bool pass;
    bool schema;    /* the answer is no JSON or does not fit; then failed is 0 */
    bool replay;    /* a writing call did not succeed; then failed is 0 */
    bool unclaimed; /* a change that no check claimed */
    uint64_t failed;
    uint64_t changes;        /* digest of the net changes, 0: none; equal for equal ones */
    struct agon_usage usage; /* of the checks; all 0 where they did not run */
};

struct agon_trial_input {
    const struct agon_perturb *perturb; /* NULL: the world as it is */
    bool reverse;                       /* PRAGMA reverse_unordered_selects */
    int cache_kib;                      /* PRAGMA cache_size; 0: as usual */
    const json_t *answer_schema;        /* NULL: any */
    struct agon_str verifier;           /* size 0: none; then no verdicts */
    struct agon_str solution;           /* size 0: none */
    /* Results put in the place of the real ones: [{"tool","arguments","result"}]; calls with equal
     * arguments (in the canonical writing, defaults filled in) are not executed. NULL: none. */
    const json_t *overrides;
    const json_t
        *probes; /* calls to make, each on the initial state: [{"tool","arguments"}], or NULL */
    const struct agon_trial_item *items;
    int n_items;
    /* Judge an item no further once so many checks failed; its brief says pass = false and the
     * checks that failed so far, and unclaimed then means nothing. 0: all checks run. */
    int failed_max;
    bool texts; /* also the texts that the verifier's state holds once the items were judged */
    struct agon_tape *tape; /* where request and reply are kept (tape.h); NULL: nowhere */
    int gate;               /* on whose behalf, for the tape */
};

struct agon_trial {
    bool solved;               /* the solution returned an answer that fits */
    struct agon_solved run;    /* what it did, calls until it failed included */
    char *unsolved;            /* why it did not, or NULL */
    struct agon_verdict own;   /* of its answer, when there is a verifier and solved */
    json_t *probes;            /* [{"result": ...} | {"error": "..."}], owned; NULL without */
    struct agon_brief *briefs; /* n_items, owned; NULL without a verifier */
    int n_briefs, n_checks;
    json_t *texts;   /* where asked for: sorted, those that were there when it was loaded first */
    size_t n_loaded; /* which are so many */
    json_t *reads;   /* with them: ["table.column", ...] that the checks read */
};
void agon_trial_deinit(struct agon_trial *t);

/* Returns 0; AGON_REJECTED when solution or verifier do not load (reason); or <0.
 * A solution that raises is no rejection: solved is false and unsolved says why. */
int agon_trial(struct agon_runtime *rt, const struct agon_trial_input *input,
               struct agon_trial *ret, struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
/*
 * The two halves, so that driver and cell work at once: begin sends and returns, end waits. Between
 * them the runtime takes no other request; request (the caller's, empty at begin) stands as it is.
 * input needs no tape here.
 */
int agon_trial_begin(struct agon_runtime *rt, const struct agon_trial_input *input,
                     struct agon_buf *request, struct agon_err *err) AGON_MUST_USE;
int agon_trial_end(struct agon_runtime *rt, const struct agon_trial_input *input,
                   const struct agon_buf *request, struct agon_trial *ret, struct agon_buf *reason,
                   struct agon_err *err) AGON_MUST_USE;
