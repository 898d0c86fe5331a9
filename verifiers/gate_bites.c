/*
 * Gate 5: every check bites. The pool of answers, judged in batches: the author's wrong
 * answers and gate 4's mutants (both judged there already), mutants of the writes, gate 3's
 * nonsense, and gate 9's draws where those do not do. A check bites when one of them
 * fails it alone: were the check not there, that answer would pass.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"

#include <stdlib.h>
#include <string.h>

enum { WRITE_ARGUMENTS_MAX = 300 };

static int wrong_done(void *user, const struct agon_gate_judged *judged, struct agon_err *err)
{
    (void)err;
    if (!judged->brief->pass)
        return 0;
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1024);
    gate_example(&example, judged->answer);
    return gate_refuse(user, "the verifier accepts what you handed in as wrong: %s",
                       agon_buf_text(&example));
}

int gate_wrong(struct gate_run *g, bool refuse, struct agon_err *err)
{
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    int r = gate_batch_new(&batch, g, refuse ? wrong_done : NULL, g, err);
    size_t i;
    json_t *one;
    json_array_foreach(g->in->wrong, i, one)
    {
        const json_t *answer = json_object_get(one, "answer"),
                     *writes = json_object_get(one, "writes");
        if (r)
            break;
        bool fine = answer && (!writes || json_is_array(writes));
        if (!fine && !refuse)
            continue;
        if (!fine)
            return gate_refuse(
                g, "wrong answer %zu is no object with 'answer' and, if it writes, a list 'writes'",
                i + 1);
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
        agon_json_dump(&text, answer);
        if (!(r = agon_buf_check(&text, "wrong answer", err)))
            r = gate_batch_add(batch, "handed in", agon_buf_str(&text), writes, err);
    }
    return r ? r : gate_batch_flush(batch, err);
}

/* What of the writes is accepted is gate 6's to say; the answers may be negatives here. */
static int pool_writes(struct gate_run *g, struct agon_err *err)
{
    const struct agon_solved *run = &g->golden.run;
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    if (!json_array_size(run->writes))
        return 0;
    int r = gate_batch_new(&batch, g, gate_writes_found, g, err);
    if (!r)
        r = agon_mutants_writes(run->answer, run->writes, &g->columns, WRITE_ARGUMENTS_MAX,
                                gate_batch_add, batch, err);
    return r ? r : gate_batch_flush(batch, err);
}

int gate_bites(struct gate_run *g, struct agon_err *err)
{
    uint64_t all = gate_all_checks(g);
    int r = gate_wrong(g, true, err), writes = 0;
    if (!r || (r == AGON_REJECTED && g->in->go_on))
        writes = pool_writes(g, err); /* gate 6 wants to know what comes of them */
    r = r ? r : writes;
    if (!r && g->bitten != all)
        r = gate_guesses_make(g, err);
    json_object_set_new(g->report->evidence, "checks",
                        json_integer(__builtin_popcountll(g->bitten)));
    if (r || g->bitten == all)
        return r;
    int first = __builtin_ctzll(~g->bitten);
    return gate_refuse(g,
                       "no wrong answer that was tried fails check '%s' alone; hand one in under "
                       "'wrong' (the golden answer "
                       "changed so that only this check minds), or leave the check out",
                       g->checks.checks[first].name);
}
