/* Batches of episodes inside a cell: see episodes.h. */
#include "verifiers/episodes_cell.h"

#include "base/json.h"
#include "envs/cell_state.h"
#include "verifiers/trial_wire.h"
#include "verifiers/verifier.h"
#include "verifiers/verifier_internal.h"

struct batch {
    struct agon_env_cell *cell;
    struct agon_wire in;
    struct agon_buf *out;
    json_t *schema;                 /* owned or NULL */
    struct agon_verifier *verifier; /* borrowed from the cell, or NULL */
    bool results, anew;
};

static int batch_calls(struct batch *b, int *ret_failed, struct agon_err *err)
{
    int n = agon_wire_count(&b->in);
    for (int i = 0; i < n; i++) {
        struct agon_str tool = agon_wire_str(&b->in), arguments = agon_wire_str(&b->in);
        if (b->in.bad)
            return agon_fail(err, AGON_EINPUT, "episodes: the calls are cut short");
        agon_session_budgets(b->cell);
        int r = agon_session_call(b->cell, tool, arguments, err);
        if (r < 0)
            return r;
        *ret_failed += r != 0;
        if (!b->results)
            continue;
        agon_wire_add_int(b->out, r);
        agon_wire_add_str(b->out, agon_buf_str(&b->cell->result));
    }
    return 0;
}

static int batch_judge(struct batch *b, struct agon_str answer, struct agon_err *err)
{
    struct agon_judgement j AGON_AUTO(agon_judgement_deinit) = {0};
    int r = agon_world_set_query_only(b->cell->world, true, err);
    agon_world_set_run_ops(b->cell->world, 0); /* what the tools spent is not the verifier's */
    if (!r)
        r = agon_verifier_run(b->verifier, b->schema, answer, false, 0, &j, err);
    if (!r)
        verifier_add_brief(b->out, &j);
    return r;
}

static int batch_episode(struct batch *b, struct agon_err *err)
{
    int n_failed = 0;
    agon_worker_beat();
    if (b->anew)
        agon_world_forget_rows(b->cell->world);
    int r = agon_world_set_query_only(b->cell->world, false, err);
    if (!r)
        r = agon_session_reset(b->cell, err);
    if (!r)
        r = batch_calls(b, &n_failed, err);
    if (r)
        return r;
    struct agon_str answer = agon_wire_str(&b->in);
    bool judged = b->verifier && answer.size;
    agon_wire_add_int(b->out, n_failed);
    agon_wire_add_int(b->out, judged);
    return judged ? batch_judge(b, answer, err) : 0;
}

/* 1 with a sentence in err: the verifier does not load. */
static int batch_run(struct batch *b, struct agon_err *err)
{
    struct agon_str schema = agon_wire_str(&b->in), verifier = agon_wire_str(&b->in);
    b->results = agon_wire_int(&b->in) != 0;
    b->anew = agon_wire_int(&b->in) != 0;
    b->cell->calls_anew = agon_wire_int(&b->in) != 0;
    int n = agon_wire_count(&b->in), r = 0;
    if (schema.size)
        r = agon_json_parse(&b->schema, schema, err);
    if (!r && verifier.size)
        r = verifier_at_hand(b->cell, verifier, &b->verifier, err);
    for (int i = 0; i < n && !r; i++)
        r = batch_episode(b, err);
    return r ? r : agon_wire_end(&b->in, "verify.episodes", err);
}

/* The world as it was, for the next request. */
static int batch_end(struct batch *b, struct agon_err *err)
{
    json_decref(b->schema);
    b->cell->calls_anew = false;
    int r = agon_world_set_query_only(b->cell->world, false, err);
    return r ? r : agon_session_reset(b->cell, err);
}

int verifier_op_episodes(void *state, struct agon_str request, struct agon_buf *reply,
                         struct agon_err *err)
{
    struct batch b = {.cell = state, .in = agon_wire_of(request), .out = reply};
    if (!b.cell->world)
        return agon_fail(err, AGON_EINPUT, "no environment is open");
    agon_wire_add_int(reply, 0);
    agon_wire_add_text(reply, "");
    int r = batch_run(&b, err);
    if (r > 0) {
        agon_buf_reset(reply);
        agon_wire_add_int(reply, 1);
        agon_wire_add_text(reply, err->text);
    }
    return r < 0 ? r : batch_end(&b, err);
}
