/* Log-probabilities of given ids: see score.h. */
#include "model/score.h"

#include "model/engine_internal.h"

#include <math.h>
#include <stdlib.h>

struct scorer {
    const struct agon_score_request *request;
    const struct agon_kernels *kernels;
    struct agon_score *scores;
    int n_vocab, *kept; /* kept: [n_vocab] */
    void *scratch;      /* AGON_SAMPLE_SCRATCH [n_vocab] */
    bool good;
};

static int best_of(const float *logits, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static double log_sum(const float *logits, int n, double largest)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += exp(logits[i] - largest);
    return log(sum);
}

/* The log-probability of id among the kept ones. */
static double kept_logprob(const struct scorer *s, const float *logits, const int *kept, int n_kept,
                           int id)
{
    double temperature = s->request->sample.temperature, largest = -INFINITY, mass = 0;
    bool found = false;
    for (int i = 0; i < n_kept; i++) {
        found |= kept[i] == id;
        largest = fmax(largest, logits[kept[i]]);
    }
    if (!found)
        return -INFINITY;
    if (temperature <= 0)
        return 0;
    for (int i = 0; i < n_kept; i++)
        mass += exp((logits[kept[i]] - largest) / temperature);
    return (logits[id] - largest) / temperature - log(mass);
}

/* What sampling would keep of these logits; false where they are no numbers. */
static bool cut(struct scorer *s, const float *logits, int *ret_n_kept)
{
    struct agon_sample drawn;
    if (!s->kernels->sample(&drawn, logits, s->n_vocab, &s->request->sample, 0, s->scratch))
        return false;
    *ret_n_kept = s->kernels->topk(s->kept, logits, s->n_vocab, drawn.n_kept, s->scratch);
    return true;
}

static void score_row(void *user, const struct agon_evaluated *row)
{
    struct scorer *s = user;
    const struct agon_score_request *q = s->request;
    int at = row->position + 1 - q->start;
    if (at < 0)
        return;
    int id = q->ids[row->position + 1], best = best_of(row->logits, s->n_vocab), n_kept = 0;
    const int *kept = s->kept;
    double largest = row->logits[best];
    if (!cut(s, row->logits, &n_kept)) {
        s->good = false;
        return;
    }
    if (q->mask_ids) {
        kept = q->mask_ids + q->mask_offsets[at];
        n_kept = q->mask_offsets[at + 1] - q->mask_offsets[at];
    }
    s->scores[at] =
        (struct agon_score){.logprob = (float)kept_logprob(s, row->logits, kept, n_kept, id),
                            .logprob_raw = (float)(row->logits[id] - largest -
                                                   log_sum(row->logits, s->n_vocab, largest)),
                            .n_kept = n_kept,
                            .best = best};
}

/* The last id is scored and not fed; those before the first scored one need no logits. */
static int score_sequence(struct scorer *s, struct agon_engine *e, struct agon_err *err)
{
    const struct agon_score_request *q = s->request;
    struct agon_sequence *sequence AGON_AUTO(agon_sequence_freep) = NULL;
    int r;
    if ((r = agon_sequence_new(&sequence, e, err)))
        return r;
    if (q->experts)
        agon_sequence_force(sequence, q->experts, q->n_expert_rows);
    if ((r = agon_sequence_append(sequence, q->ids, q->start - 1, err)) ||
        (r = agon_sequence_compute(sequence, err)) ||
        (r = agon_sequence_append(sequence, q->ids + q->start - 1, q->n - q->start, err)) ||
        (r = agon_sequence_evaluate(sequence, e->n_batch_max, score_row, s, err)))
        return r;
    return s->good ? 0 : agon_fail(err, AGON_EINPUT, "score: the model's logits are no numbers");
}

int agon_score(struct agon_engine *e, const struct agon_score_request *request,
               struct agon_score *ret, struct agon_err *err)
{
    int n_all = agon_engine_config(e)->n_vocab;
    struct scorer s = {.request = request,
                       .kernels = e->kernels,
                       .scores = ret,
                       .n_vocab = request->n_vocab > 0 ? request->n_vocab : n_all,
                       .good = true};
    if (s.n_vocab > n_all || request->start < 1 || request->start > request->n)
        return agon_fail(err, AGON_EINPUT, "score: start %d is not from 1 to %d", request->start,
                         request->n);
    for (int i = request->start; i < request->n; i++)
        if (request->ids[i] < 0 || request->ids[i] >= s.n_vocab)
            return agon_fail(err, AGON_EINPUT, "score: token id %d is not from 0 to %d",
                             request->ids[i], s.n_vocab - 1);
    s.kept = calloc((size_t)s.n_vocab, sizeof(*s.kept));
    s.scratch = malloc((size_t)s.n_vocab * AGON_SAMPLE_SCRATCH);
    int r = s.kept && s.scratch ? score_sequence(&s, e, err)
                                : agon_fail(err, AGON_ENOMEM, "score: out of memory");
    free(s.kept);
    free(s.scratch);
    return r;
}
