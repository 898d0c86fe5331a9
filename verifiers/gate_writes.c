/*
 * Gate 6: the writes. Each golden write dropped, one made twice, or a call that nobody
 * asked for beside them: rejected. A call is foreign only where it succeeds and leaves
 * something else than the golden writes do.
 */
#include "base/json.h"
#include "verifiers/foreign.h"
#include "verifiers/gates_internal.h"

#include <string.h>

enum { FOREIGN_CALLS_MAX = 400, FOREIGN_GROUPS = 40, HELD_CALLS_MAX = 300, CALL_BYTES_MAX = 2000 };

void gate_writes_found_deinit(struct gate_writes_found *f)
{
    json_decref(f->dropped);
    json_decref(f->doubled);
    json_decref(f->replaced);
}

int gate_writes_found(void *user, const struct agon_gate_judged *judged, struct agon_err *err)
{
    struct gate_run *g = user;
    struct gate_writes_found *f = &g->writes_found;
    size_t n = json_array_size(judged->writes), n_golden = json_array_size(g->golden.run.writes);
    (void)err;
    bool dropped = n < n_golden;
    f->n_dropped += dropped;
    if (!judged->brief->pass || (!dropped && !judged->differs))
        return 0;
    json_t **kept = dropped ? &f->dropped : n > n_golden ? &f->doubled : &f->replaced;
    if (!*kept)
        *kept = json_incref((json_t *)(uintptr_t)judged->writes);
    return 0;
}

/* "place_order {...}" of the write at index i; "nothing" beyond the end. */
static void write_text(const json_t *writes, size_t i, struct agon_buf *b)
{
    struct agon_buf arguments AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    const json_t *write = json_array_get(writes, i);
    agon_json_dump(&arguments, json_object_get(write, "arguments"));
    agon_buf_addf(b, "%s ", agon_json_text(write, "tool", "nothing"));
    gate_example(b, agon_buf_str(&arguments));
}

/* The first index at which the two lists part. */
static size_t first_parting(const json_t *a, const json_t *b)
{
    size_t i = 0;
    while (i < json_array_size(a) && json_equal(json_array_get(a, i), json_array_get(b, i)))
        i++;
    return i;
}

static int refuse_dropped(struct gate_run *g)
{
    const json_t *golden = g->golden.run.writes, *left = g->writes_found.dropped;
    struct agon_buf call AGON_AUTO(agon_buf_deinit) = AGON_BUF(CALL_BYTES_MAX);
    if (!json_array_size(left) && json_array_size(golden) > 1)
        agon_buf_adds(&call, "any of them");
    else
        write_text(golden, first_parting(golden, left), &call);
    return gate_refuse(g,
                       "the verifier accepts the solution's writes without %s; let a check claim "
                       "what it changes, or leave the call out of the solution",
                       agon_buf_text(&call));
}

static int refuse_besides(struct gate_run *g, const json_t *writes, size_t at)
{
    struct agon_buf call AGON_AUTO(agon_buf_deinit) = AGON_BUF(CALL_BYTES_MAX);
    write_text(writes, at, &call);
    return gate_refuse(
        g,
        "the verifier accepts %s besides the solution's writes; let the checks claim "
        "only the rows that the prompt asks for, and count them",
        agon_buf_text(&call));
}

static int refuse_replaced(struct gate_run *g, const json_t *other)
{
    const json_t *golden = g->golden.run.writes;
    struct agon_buf call AGON_AUTO(agon_buf_deinit) = AGON_BUF(CALL_BYTES_MAX),
                         own AGON_AUTO(agon_buf_deinit) = AGON_BUF(CALL_BYTES_MAX);
    size_t at = first_parting(golden, other);
    write_text(other, at, &call);
    write_text(golden, at, &own);
    return gate_refuse(g,
                       "the verifier accepts %s in the place of %s, but answers is \"one\"; let a "
                       "check look at every value that is written",
                       agon_buf_text(&call), agon_buf_text(&own));
}

/* ---- foreign calls ---- */

struct foreign_found {
    struct gate_run *g;
    json_t *besides;    /* those that are writes beside the golden ones: owned */
    json_t *candidates; /* of gate_planted(): owned */
    int n_calls, n_writes, n_accepted;
    bool refused; /* with the first that was accepted; the others are counted */
};

static void foreign_found_deinit(struct foreign_found *f)
{
    json_decref(f->besides);
    json_decref(f->candidates);
}

static int foreign_done(void *user, const struct agon_gate_judged *judged, struct agon_err *err)
{
    struct foreign_found *f = user;
    size_t n_golden = json_array_size(f->g->golden.run.writes);
    bool besides = json_array_size(judged->writes) > n_golden;
    f->n_calls++;
    /* A call that fails, or that leaves all as the golden writes do, is no write. */
    if (judged->brief->replay || judged->brief->changes == f->g->golden.own.changes)
        return 0;
    f->n_writes++;
    f->n_accepted += judged->brief->pass && besides;
    if (besides && json_array_size(judged->writes) == n_golden + 1)
        json_array_append(f->besides, json_array_get(judged->writes, n_golden));
    if (!judged->brief->pass || f->refused)
        return 0;
    f->refused = besides || f->g->in->task->answers == AGON_ANSWERS_ONE;
    if (besides)
        (void)refuse_besides(f->g, judged->writes,
                             first_parting(judged->writes, f->g->golden.run.writes));
    else if (f->refused)
        (void)refuse_replaced(f->g, judged->writes);
    return f->refused ? 0 : gate_planted_note(f->g, f->candidates, judged, err);
}

/* The golden writes with the call behind them or, at >= 0, in the place of one. */
static int foreign_add(struct gate_run *g, struct gate_batch *batch, json_t *call, int at,
                       struct agon_err *err)
{
    json_auto_t *writes = json_copy(g->golden.run.writes);
    if (!writes ||
        (at < 0 ? json_array_append(writes, call) : json_array_set(writes, (size_t)at, call)))
        return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    return gate_batch_add(batch, at < 0 ? "a foreign write" : "another write",
                          agon_buf_str(&g->golden_text), writes, err);
}

/* Which golden write it may stand for: that of which it is a variant, else the first call of the
 * same tool; -1: none. */
static int place_of(const struct gate_run *g, const json_t *call)
{
    const json_t *of = json_object_get(call, "of");
    size_t i;
    json_t *write;
    if (of)
        return (int)json_integer_value(of);
    json_array_foreach(g->golden.run.writes, i,
                       write) if (json_equal(json_object_get(write, "tool"),
                                             json_object_get(call, "tool"))) return (int)i;
    return -1;
}

/* Several of them at once, behind the golden writes and before them: a check may count up to some
 * number, or look at one change alone. */
static int foreign_several(struct gate_run *g, struct gate_batch *batch, json_t *besides,
                           struct agon_rng *rng, struct agon_err *err)
{
    static const int sizes[] = {1, 2, 3, 5, 16};
    uint32_t n = (uint32_t)json_array_size(besides);
    int r = 0;
    for (int k = 0; n && k < FOREIGN_GROUPS && !r; k++) {
        json_auto_t *writes = json_copy(g->golden.run.writes);
        for (int i = 0; writes && i < sizes[k % (int)(sizeof(sizes) / sizeof(*sizes))]; i++) {
            json_t *call = json_array_get(besides, agon_rng_below(rng, n));
            if (k % 2 ? json_array_insert(writes, 0, call) : json_array_append(writes, call))
                return agon_fail(err, AGON_ENOMEM, "gates: out of memory");
        }
        r = writes ? gate_batch_add(batch, "foreign writes", agon_buf_str(&g->golden_text), writes,
                                    err)
                   : agon_fail(err, AGON_ENOMEM, "gates: out of memory");
    }
    return r;
}

/* Golden writes with an argument that the verifier holds: no word of its own opens it for a write
 * either. */
static int foreign_held(struct gate_run *g, struct gate_batch *batch, struct agon_err *err)
{
    size_t w, i;
    json_t *write, *held, *value;
    const char *name;
    int n = 0, r = 0;
    json_array_foreach(g->golden.run.writes, w, write)
        json_object_foreach(json_object_get(write, "arguments"), name, value)
            json_array_foreach(g->held, i, held)
    {
        if (r || json_typeof(held) != json_typeof(value) || json_equal(held, value) ||
            n++ >= HELD_CALLS_MAX)
            continue;
        json_auto_t *call = json_deep_copy(write);
        json_object_set(json_object_get(call, "arguments"), name, held);
        r = foreign_add(g, batch, call, -1, err);
        if (!r)
            r = foreign_add(g, batch, call, (int)w, err);
    }
    return r;
}

static int writes_foreign(struct gate_run *g, struct agon_err *err)
{
    struct foreign_found found AGON_AUTO(foreign_found_deinit) = {
        .g = g, .besides = json_array(), .candidates = json_array()};
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    struct agon_rng rng = agon_rng_split(&g->in->rng, agon_str("foreign"));
    json_auto_t *calls = NULL;
    int r =
        agon_foreign_calls(g->in->rt, g->golden.run.writes, FOREIGN_CALLS_MAX, &rng, &calls, err);
    if (!r)
        r = gate_batch_new(&batch, g, foreign_done, &found, err);
    size_t i;
    json_t *call;
    json_array_foreach(calls, i, call)
    {
        int at = place_of(g, call);
        if (!r)
            r = foreign_add(g, batch, call, -1, err);
        if (!r && at >= 0)
            r = foreign_add(g, batch, call, at, err);
    }
    if (!r)
        r = foreign_held(g, batch, err);
    if (!r)
        r = gate_batch_flush(batch, err);
    json_auto_t *besides = json_copy(found.besides);
    if (!r)
        r = foreign_several(g, batch, besides, &rng, err);
    if (!r)
        r = gate_batch_flush(batch, err);
    json_object_set_new(g->report->evidence, "foreign_calls", json_integer(found.n_calls));
    json_object_set_new(g->report->evidence, "foreign_writes", json_integer(found.n_writes));
    json_object_set_new(g->report->evidence, "foreign_accepted", json_integer(found.n_accepted));
    if (!r && !found.refused)
        r = gate_planted(g, found.candidates, err);
    return !r && found.refused ? AGON_REJECTED : r;
}

int gate_writes(struct gate_run *g, struct agon_err *err)
{
    const struct gate_writes_found *f = &g->writes_found;
    json_object_set_new(g->report->evidence, "dropped_writes", json_integer(f->n_dropped));
    if (f->dropped)
        return refuse_dropped(g);
    if (f->doubled)
        return refuse_besides(g, f->doubled, first_parting(f->doubled, g->golden.run.writes));
    if (f->replaced && g->in->task->answers == AGON_ANSWERS_ONE)
        return refuse_replaced(g, f->replaced);
    return writes_foreign(g, err);
}
