/* Batches of episodes on the driver's side: see episodes.h. */
#include "verifiers/playback.h"

#include "base/json.h"
#include "envs/runtime_wire.h"
#include "verifiers/trial_wire.h"

#include <stdlib.h>

enum { MESSAGE_BYTES_MAX = 64 << 20 };

void agon_playback_deinit(struct agon_playback *e)
{
    free(e->ends);
    free(e->results);
    agon_buf_deinit(&e->request);
    agon_buf_deinit(&e->reply);
    *e = (struct agon_playback){0};
}

static int episodes_request(struct agon_buf *b, const struct agon_playback_input *in,
                            struct agon_err *err)
{
    struct agon_buf schema AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    if (in->answer_schema)
        agon_json_dump(&schema, in->answer_schema);
    int r = agon_buf_check(&schema, "answer schema", err);
    agon_wire_add_str(b, agon_buf_str(&schema));
    agon_wire_add_str(b, in->verifier);
    agon_wire_add_int(b, in->results);
    agon_wire_add_int(b, in->anew);
    agon_wire_add_int(b, in->anew || in->calls_anew);
    agon_wire_add_int(b, in->n_episodes);
    for (int i = 0; i < in->n_episodes; i++) {
        const struct agon_play *e = &in->episodes[i];
        agon_wire_add_int(b, e->n_calls);
        for (int k = 0; k < e->n_calls; k++) {
            agon_wire_add_str(b, e->calls[k].tool);
            agon_wire_add_str(b, e->calls[k].arguments);
        }
        agon_wire_add_str(b, in->verifier.size ? e->answer : agon_str(""));
    }
    return r ? r : agon_buf_check(b, "episodes", err);
}

/* Room for all that the reply may hold: what a reply says of more is refused. */
static int episodes_room(struct agon_playback *e, const struct agon_playback_input *in,
                         struct agon_err *err)
{
    int n_results = 0;
    for (int i = 0; in->results && i < in->n_episodes; i++)
        n_results += in->episodes[i].n_calls;
    if (in->n_episodes > e->ends_capacity) {
        free(e->ends);
        e->ends = calloc((size_t)in->n_episodes, sizeof(*e->ends));
        e->ends_capacity = e->ends ? in->n_episodes : 0;
    }
    if (n_results > e->results_capacity) {
        free(e->results);
        e->results = calloc((size_t)n_results, sizeof(*e->results));
        e->results_capacity = e->results ? n_results : 0;
    }
    e->n_ends = e->n_results = 0;
    return e->ends_capacity >= in->n_episodes && e->results_capacity >= n_results
               ? 0
               : agon_fail(err, AGON_ENOMEM, "episodes: out of memory");
}

static void read_episode(struct agon_wire *wire, const struct agon_play *from, bool results,
                         struct agon_playback *ret)
{
    struct agon_played *end = &ret->ends[ret->n_ends++];
    for (int k = 0; results && k < from->n_calls; k++) {
        struct agon_played_call *result = &ret->results[ret->n_results++];
        result->failed = agon_wire_int(wire) != 0;
        result->text = agon_wire_str(wire);
    }
    end->n_failed = (int)agon_wire_int(wire);
    end->judged = agon_wire_int(wire) != 0;
    end->brief = end->judged ? agon_wire_brief(wire) : (struct agon_brief){0};
}

static int episodes_read(struct agon_str reply, const struct agon_playback_input *in,
                         struct agon_playback *ret, struct agon_buf *reason, struct agon_err *err)
{
    struct agon_wire wire = agon_wire_of(reply);
    int64_t status = agon_wire_int(&wire);
    struct agon_str why = agon_wire_str(&wire);
    if (status && !wire.bad) {
        agon_buf_add_str(reason, why);
        return AGON_REJECTED;
    }
    for (int i = 0; i < in->n_episodes && !wire.bad; i++)
        read_episode(&wire, &in->episodes[i], in->results, ret);
    return agon_wire_end(&wire, "verify.episodes", err);
}

int agon_playback_begin(struct agon_runtime *rt, const struct agon_playback_input *input,
                        struct agon_playback *ret, struct agon_err *err)
{
    ret->request.size_max = ret->reply.size_max = MESSAGE_BYTES_MAX;
    agon_buf_reset(&ret->request);
    int r = episodes_room(ret, input, err);
    if (!r)
        r = episodes_request(&ret->request, input, err);
    return r ? r : agon_runtime_begin(rt, "verify.episodes", agon_buf_str(&ret->request), err);
}

int agon_playback_end(struct agon_runtime *rt, const struct agon_playback_input *input,
                      struct agon_playback *ret, struct agon_buf *reason, struct agon_err *err)
{
    int r = agon_runtime_end(rt, "verify.episodes", agon_buf_str(&ret->request), &ret->reply, err);
    return r ? r : episodes_read(agon_buf_str(&ret->reply), input, ret, reason, err);
}

int agon_playback(struct agon_runtime *rt, const struct agon_playback_input *input,
                  struct agon_playback *ret, struct agon_buf *reason, struct agon_err *err)
{
    int r = agon_playback_begin(rt, input, ret, err);
    return r ? r : agon_playback_end(rt, input, ret, reason, err);
}
