/*
 * Several steps in one go, for a compute that can (a GPU): where every sequence whose turn it is
 * decodes, and the cache has pages for all that the burst may draw. Anything else is a step of
 * engine.c's.
 */
#include "model/engine_internal.h"

static int smaller(int a, int b)
{
    return a < b ? a : b;
}

int sequence_left(const struct agon_sequence *s)
{
    return smaller(s->generation.tokens_max - s->n_drawn,
                   s->engine->checkpoint->config.window - s->n);
}

void sequence_trim(struct agon_sequence *s)
{
    int page = s->engine->cache.page, n = (s->n_cached + page - 1) / page;
    while (s->n_pages > n)
        agon_page_unref(&s->engine->cache, s->pages[--s->n_pages]);
}

/* May s be in a burst? Its last id alone is to be computed, and for the first time (else its page
 * may be another's, too); and nothing that is recorded of its draws needs logits. */
static bool sequence_bursts(const struct agon_sequence *s)
{
    return s->n_cached == s->n - 1 && s->generation.n_top == 0;
}

/* How many steps the sequences whose turn it is can go together; 0: none. */
static int burst_steps(const struct agon_engine *e)
{
    int n = 0, n_steps = 0;
    for (const struct agon_sequence *s = e->first; s && n < e->n_batch_max; s = s->next, n++) {
        if (!sequence_bursts(s))
            return 0;
        int left = sequence_left(s);
        n_steps = n_steps > left ? n_steps : left;
    }
    /* The ranks of a group cannot end one early. */
    return smaller(n_steps, e->group ? LOOK_STEPS : BURST_MAX);
}

/* Pages for all of them, or for none. */
static bool burst_reserve(struct agon_engine *e, int n_steps)
{
    int n = 0;
    bool good = true;
    for (struct agon_sequence *s = e->first; s && n < e->n_batch_max && good; s = s->next, n++)
        good = sequence_reserve(s, s->n + smaller(n_steps, sequence_left(s)) - 1);
    for (struct agon_sequence *s = e->first; s && !good; s = s->next)
        sequence_trim(s);
    return good;
}

bool engine_burst_begin(struct agon_engine *e, int *ret_n_steps)
{
    int n_steps = e->compute->ops->burst ? burst_steps(e) : 0, n = 0;
    if (n_steps < 2)
        return false;
    if (!burst_reserve(e, n_steps)) {
        n_steps = smaller(n_steps, LOOK_STEPS);
        if (!burst_reserve(e, n_steps))
            return false;
    }
    engine_step_begin(e);
    for (struct agon_sequence *s = e->first; s && n < e->n_batch_max; s = s->next, n++)
        e->parts[e->n_parts++] = (struct step_part){.s = s, .begin = s->n - 1, .end = s->n};
    *ret_n_steps = n_steps;
    return true;
}

void engine_burst_end(struct agon_engine *e)
{
    for (int i = 0; i < e->n_parts; i++)
        if (e->parts[i].s->state != AGON_SEQUENCE_GENERATING)
            sequence_trim(e->parts[i].s);
}

int engine_bucket(int n, int n_most)
{
    int size = 1;
    while (size < n)
        size = size & (size - 1) ? size / 3 * 4 : size == 1 ? 2 : size / 2 * 3;
    return size < n_most ? size : n_most;
}
