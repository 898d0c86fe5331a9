/*
 * The engine as one rank of a group (group.h): a step is then the same kind of step on all ranks,
 * as often on each. A rank with nothing to do takes part, with no rows of its own.
 */
#include "model/engine_internal.h"

/* Kept sets may make a burst shorter than was agreed. */
static bool records_kept(const struct agon_engine *e)
{
    for (const struct agon_sequence *s = e->first; s; s = s->next)
        if (sequence_records_kept(s))
            return true;
    return false;
}

static bool burst_plan(struct agon_engine *e, struct agon_group_plan *plan)
{
    if (!e->first || records_kept(e) || !engine_burst_begin(e, &plan->n_steps))
        return false;
    plan->kind = AGON_GROUP_BURST;
    plan->n_rows = engine_bucket(e->n_parts, e->n_batch_max);
    for (int i = 0; i < e->n_parts; i++)
        plan->n_max = plan->n_max > e->parts[i].end ? plan->n_max : e->parts[i].end;
    plan->n_max = engine_bucket(plan->n_max + plan->n_steps, e->checkpoint->config.window);
    return true;
}

/* Some other rank needs a plain step: so it is one row of each sequence here. */
static int burst_undo(struct agon_engine *e)
{
    for (struct agon_sequence *s = e->first; s; s = s->next)
        sequence_trim(s);
    engine_step_fill(e);
    return engine_step_take(e);
}

int engine_group_step(struct agon_engine *e)
{
    struct agon_group_plan mine = {.kind = AGON_GROUP_IDLE};
    int r;
    engine_step_begin(e);
    if (!burst_plan(e, &mine) && e->first) {
        engine_step_fill(e);
        if (e->n_parts == 0)
            return engine_step_nobody(e);
        mine = (struct agon_group_plan){.kind = AGON_GROUP_PASS, .n_rows = e->n_rows};
    }
    e->agreed = mine;
    if ((r = agon_group_meet(e->group, &e->agreed, &e->failure)))
        return engine_fail(e);
    if (e->agreed.kind == AGON_GROUP_IDLE)
        return 0;
    if (e->agreed.kind == AGON_GROUP_BURST)
        r = e->compute->ops->burst(e, e->agreed.n_steps, &e->failure);
    else
        r = mine.kind == AGON_GROUP_BURST ? burst_undo(e) : engine_step_take(e);
    if (r)
        return engine_fail(e);
    int n = agon_engine_generating(e);
    return n > 0 ? n : 1; /* somebody did generate: until nobody does, all go on */
}
