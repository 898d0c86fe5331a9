#pragma once
/*
 * Log-probabilities of given ids: free, or with recorded experts and kept sets forced, as a
 * trainer recomputes them (DeepSeek-V3.2's report, section 3.1). A recorded completion scored by
 * the weights that drew it gets the log-probabilities it was recorded with.
 */
#include "kernels/kernels.h"
#include "model/engine.h"

struct agon_score_request {
    const int *ids;
    int n, start;                      /* ids [start, n) are scored; start is at least 1 */
    int n_vocab;                       /* distributions are over ids below it; 0: all */
    struct agon_sample_options sample; /* temperature and cuts of the distribution drawn from */
    /* The kept sets of the ids scored (CSR, as agon_trace); NULL: the cuts are made anew. */
    const int *mask_ids, *mask_offsets;
    /* Experts of positions [0, n_expert_rows), as agon_trace; NULL: the router chooses. */
    const uint16_t *experts;
    int n_expert_rows;
};
struct agon_score {
    float logprob;     /* -INFINITY where the id is not among those kept */
    float logprob_raw; /* under softmax(logits) */
    int n_kept, best;  /* best: the likeliest id */
};

/* ret [n - start]. AGON_EINPUT where ids are out of range, or too many for the window. */
int agon_score(struct agon_engine *e, const struct agon_score_request *request,
               struct agon_score *ret, struct agon_err *err) AGON_MUST_USE;
