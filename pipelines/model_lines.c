/* See model_lines.h. */
#include "pipelines/model_lines.h"

#include "base/json.h"
#include "model/jsontext.h"
#include "model/local.h"
#include "model/score.h"

#include <math.h>
#include <stdlib.h>

void agon_lines_id(struct agon_buf *reply, const json_t *request)
{
    const json_t *id = json_object_get(request, "id");
    if (!id)
        return;
    agon_buf_adds(reply, "\"id\": ");
    agon_json_dump(reply, id);
    agon_buf_adds(reply, ", ");
}

static int real_field(const json_t *object, const char *name, double min, double max, double *ret,
                      struct agon_err *err)
{
    const json_t *value = json_object_get(object, name);
    double v = json_number_value(value);
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_number(value) || v < min || v > max)
        return agon_fail(err, AGON_EINPUT, "%s: not a number from %g to %g", name, min, max);
    *ret = v;
    return 0;
}

int agon_lines_sampling(struct agon_sampling *ret, const json_t *object, struct agon_err *err)
{
    double top_k = 0;
    int r;
    ret->temperature = ret->top_p = 1;
    if ((r = real_field(object, "temperature", 0, 100, &ret->temperature, err)) ||
        (r = real_field(object, "top_p", 0, 1, &ret->top_p, err)) ||
        (r = real_field(object, "top_k", -1, 1 << 24, &top_k, err)))
        return r;
    ret->top_k = top_k > 0 ? (int)top_k : 0; /* -1 is "off" elsewhere */
    return 0;
}

/* ---- score -------------------------------------------------------------------------- */

struct score_job {
    int *ids, *mask_ids, *mask_offsets;
    uint16_t *experts;
    struct agon_score *scores;
    struct agon_score_request request;
};

static void score_job_deinit(struct score_job *job)
{
    free(job->ids);
    free(job->mask_ids);
    free(job->mask_offsets);
    free(job->experts);
    free(job->scores);
}

static int ids_add(struct score_job *job, const json_t *list, const char *name,
                   struct agon_err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX)
            return agon_fail(err, AGON_EINPUT, "%s[%zu] is no id", name, i);
        job->ids[job->request.n++] = (int)id;
    }
    return 0;
}

/* prompt_token_ids, which are not scored, and token_ids, which are. */
static int score_ids(struct score_job *job, const json_t *request, struct agon_err *err)
{
    const json_t *prompt = json_object_get(request, "prompt_token_ids");
    const json_t *ids = json_object_get(request, "token_ids");
    size_t n = json_array_size(prompt) + json_array_size(ids);
    int r;
    if (json_array_size(prompt) == 0 || json_array_size(ids) == 0)
        return agon_fail(err, AGON_EINPUT,
                         "prompt_token_ids and token_ids: two lists of ids, neither empty");
    job->ids = calloc(n, sizeof(*job->ids));
    job->scores = calloc(json_array_size(ids), sizeof(*job->scores));
    if (!job->ids || !job->scores)
        return agon_fail(err, AGON_ENOMEM, "score: out of memory");
    if ((r = ids_add(job, prompt, "prompt_token_ids", err)))
        return r;
    job->request.start = job->request.n;
    r = ids_add(job, ids, "token_ids", err);
    job->request.ids = job->ids;
    return r;
}

static int score_forced(struct score_job *job, const struct agon_model *m, const json_t *request,
                        struct agon_err *err)
{
    const struct agon_config *c = agon_engine_config(agon_local_engine(m));
    const json_t *mask = json_object_get(request, "sampling_mask");
    const json_t *routing = json_object_get(request, "routed_experts");
    int r = 0;
    if (mask && !json_is_null(mask))
        r = agon_trace_mask_parse(&job->mask_ids, &job->mask_offsets, mask,
                                  job->request.n - job->request.start, job->request.n_vocab, err);
    if (r == 0 && routing && !json_is_null(routing))
        r = agon_trace_experts_parse(&job->experts, &job->request.n_expert_rows, routing,
                                     agon_config_sparse_layers(c), c->router.top_k,
                                     c->router.n_experts, err);
    job->request.mask_ids = job->mask_ids;
    job->request.mask_offsets = job->mask_offsets;
    job->request.experts = job->experts;
    return r;
}

static void score_reply(const struct score_job *job, const struct agon_model *m,
                        struct agon_buf *reply)
{
    int n = job->request.n - job->request.start;
    agon_buf_addf(reply, "\"weight_version\": %llu", (unsigned long long)agon_model_version(m));
    for (int which = 0; which < 4; which++) {
        static const char *const names[] = {"logprobs", "logprobs_raw", "n_kept", "argmax"};
        agon_buf_addf(reply, ", \"%s\": [", names[which]);
        for (int i = 0; i < n; i++) {
            const struct agon_score *s = &job->scores[i];
            agon_buf_adds(reply, i ? ", " : "");
            if (which < 2) /* null where the id was not kept: minus infinity */
                agon_json_dump_real(reply, (double)(which ? s->logprob_raw : s->logprob));
            else
                agon_buf_addf(reply, "%d", which == 2 ? s->n_kept : s->best);
        }
        agon_buf_addc(reply, ']');
    }
}

int agon_lines_score(struct agon_model *m, const json_t *request, struct agon_buf *reply,
                     struct agon_err *err)
{
    struct score_job job AGON_AUTO(score_job_deinit) = {0};
    struct agon_sampling sampling = {0};
    const json_t *options = json_object_get(request, "sampling");
    int r;
    job.request.n_vocab = agon_tokenizer_size(agon_local_tokenizer(m));
    if ((r = agon_lines_sampling(&sampling, options ? options : request, err)) ||
        (r = score_ids(&job, request, err)) || (r = score_forced(&job, m, request, err)))
        return r;
    job.request.sample = (struct agon_sample_options){
        .temperature = sampling.temperature, .top_p = sampling.top_p, .top_k = sampling.top_k};
    if ((r = agon_score(agon_local_engine(m), &job.request, job.scores, err)))
        return r;
    score_reply(&job, m, reply);
    return 0;
}
