/*
 * Gate 9: how often does someone pass who only knows what the values look like? Every
 * filling of the answer's leaves (and of the golden writes' arguments) where there
 * are few, else draws.
 */
#include "base/json.h"
#include "verifiers/gates_internal.h"

#include <stdlib.h>
#include <string.h>

enum { GUESSES = 10000 };

static double guess_rate_max(int level)
{
    return level <= 1 ? 0.05 : level == 2 ? 0.01 : 0.001;
}

static int keep_example(char **example, struct agon_str answer, struct agon_err *err)
{
    if (!*example && !(*example = strndup(answer.data, answer.size)))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    return 0;
}

static int guess_done(void *user, const struct agon_gate_judged *judged, struct agon_err *err)
{
    struct gate_guesses *guesses = user;
    guesses->n++;
    if (!judged->brief->pass)
        return 0;
    guesses->n_passed++;
    int r = keep_example(&guesses->example, judged->answer, err);
    if (r || !judged->differs)
        return r;
    guesses->n_false++;
    return keep_example(&guesses->false_example, judged->answer, err);
}

/* The next filling in counting order, the last leaf fastest. False after the last. */
static bool indices_next(const struct agon_template *t, uint32_t *indices)
{
    for (int i = t->n_leaves - 1; i >= 0; i--) {
        if (++indices[i] < agon_leaf_count(&t->leaves[i]))
            return true;
        indices[i] = 0;
    }
    return false;
}

static void indices_draw(const struct agon_template *t, uint32_t *indices, struct agon_rng *rng)
{
    for (int i = 0; i < t->n_leaves; i++)
        indices[i] = agon_rng_below(rng, agon_leaf_count(&t->leaves[i]));
}

/* Judge the answer (and writes) that these indices make. */
static int guess_add(struct gate_run *g, struct gate_batch *batch, const uint32_t *answer,
                     const uint32_t *writes, struct agon_buf *text, struct agon_err *err)
{
    json_auto_t *calls = NULL;
    int r = 0;
    if (g->writes.n_leaves) {
        agon_buf_reset(text);
        agon_template_fill(&g->writes, writes, text);
        if ((r = agon_buf_check(text, "guess", err)) ||
            (r = agon_json_parse(&calls, agon_buf_str(text), err)))
            return r;
    }
    agon_buf_reset(text);
    agon_template_fill(&g->answer, answer, text);
    if ((r = agon_buf_check(text, "guess", err)))
        return r;
    return gate_batch_add(batch, "a guess", agon_buf_str(text), calls, err);
}

static int guesses_run(struct gate_run *g, struct gate_batch *batch, struct agon_err *err)
{
    uint32_t answer[AGON_LEAVES_MAX] = {0}, writes[AGON_LEAVES_MAX] = {0};
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(GATE_ANSWER_BYTES_MAX);
    struct agon_rng rng = agon_rng_split(&g->in->rng, agon_str("guesses"));
    bool few = agon_template_count(&g->answer, 2.0 * GUESSES) *
                   agon_template_count(&g->writes, 2.0 * GUESSES) <=
               GUESSES;
    int r = 0;
    bool more = true;
    for (int n = 0; more && !r; n++) {
        if (!few) {
            indices_draw(&g->answer, answer, &rng);
            indices_draw(&g->writes, writes, &rng);
        }
        r = guess_add(g, batch, answer, writes, &text, err);
        if (few)
            more = indices_next(&g->answer, answer) || indices_next(&g->writes, writes);
        else
            more = n + 1 < GUESSES;
    }
    return r ? r : gate_batch_flush(batch, err);
}

int gate_guesses_make(struct gate_run *g, struct agon_err *err)
{
    struct gate_batch *batch AGON_AUTO(gate_batch_freep) = NULL;
    if (g->guesses.made)
        return 0;
    int r = gate_prepare(g, err);
    if (!r)
        r = gate_batch_new(&batch, g, guess_done, &g->guesses, err);
    if (!r)
        r = guesses_run(g, batch, err);
    g->guesses.made = !r;
    return r;
}

int gate_guess(struct gate_run *g, struct agon_err *err)
{
    struct gate_guesses *guesses = &g->guesses;
    int r = gate_guesses_make(g, err);
    if (r)
        return r;
    double rate = guesses->n ? (double)guesses->n_passed / guesses->n : 0,
           most = guess_rate_max(g->in->task->level);
    json_object_set_new(g->report->evidence, "guesses", json_integer(guesses->n));
    json_object_set_new(g->report->evidence, "guesses_passed", json_integer(guesses->n_passed));
    json_object_set_new(g->report->evidence, "guess_rate", json_real(rate));
    json_object_set_new(g->report->evidence, "guesses_false", json_integer(guesses->n_false));
    struct agon_buf example AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    if (rate <= most) {
        if (!guesses->n_false || g->in->task->answers == AGON_ANSWERS_MANY)
            return 0;
        gate_example(&example, agon_str(guesses->false_example));
        return gate_refuse(g,
                           "the guess %s passes and is not what the solution does, but answers is "
                           "\"one\"; let the checks tell the two apart, or say answers \"many\"",
                           agon_buf_text(&example));
    }
    gate_example(&example, agon_str(guesses->example));
    return gate_refuse(g,
                       "%d of %d guesses pass (%.4g; level %d allows %g), for example %s; ask for "
                       "more leaves, such as a name and "
                       "a number together",
                       guesses->n_passed, guesses->n, rate, g->in->task->level, most,
                       agon_buf_text(&example));
}
