#pragma once
/*
 * An episode: one conversation of a model with tools. The author's stages and the
 * solver's rollouts are this one loop with other tools and other limits.
 *
 * A turn may hold many calls; they run in their order and come back as one tool
 * message each. Results longer than the page cap are paged by the argument `more`,
 * which every tool takes. A completion that does not parse never enters the
 * history: it is sampled again (the next try of the same turn) while tries last,
 * else it ends the episode.
 *
 * Where the window fills up and the model is to sum up its past (context.h), it is asked in a
 * session that holds that past and one more user message, and the summary is what it then says,
 * without calls. It is no turn: it counts for no budget, and a bad one is what a bad turn is.
 *
 * Episodes are stepped: agon_episode_step() never waits for the model, so that many
 * run at once over one agon_model_poll(). All randomness is a function of the
 * episode's rng, the turn and the try: never of what else runs.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/mem.h"
#include "base/rng.h"
#include "model/model.h"
#include "synth/call.h"
#include "synth/context.h"

struct agon_episode;
struct agon_prompts;

struct agon_episode_options {
    struct agon_model *model;
    struct agon_session
        *prefix;        /* a session that holds head already, to be forked; NULL: begin anew */
    const json_t *head; /* [system with tools, user] */
    const struct agon_episode_tool *tools;
    int n_tools;
    int turns_max;
    int tries_max; /* of a turn whose completion does not parse; 1: final at once */
    struct agon_sampling
        sampling;        /* seed and key are set by the episode; tokens_max 0: by the window */
    struct agon_rng rng; /* this episode's own stream */
    const char *key;     /* "category/stage/sample": names its turns in recordings; copied */
    enum agon_context context;
    const struct agon_prompts *prompts; /* of AGON_CONTEXT_SUMMARY alone */
};

enum agon_episode_end {
    AGON_EPISODE_RUNNING,
    AGON_EPISODE_DONE,      /* a call ended it (AGON_CALL_LAST) */
    AGON_EPISODE_SILENT,    /* a turn without calls */
    AGON_EPISODE_TURNS,     /* turns_max */
    AGON_EPISODE_MALFORMED, /* no try of a turn parsed, or was a summary */
    AGON_EPISODE_LENGTH,    /* a turn ran out of tokens */
    AGON_EPISODE_WINDOW,    /* the window is full */
};
const char *agon_episode_end_name(enum agon_episode_end end); /* "done", "silent", ... */

/* What is known of an episode so far; owned by it. */
struct agon_episode_report {
    enum agon_episode_end end;
    char reason[256]; /* of MALFORMED */
    int turns, calls; /* turns that parsed; calls made (unknown tools not counted) */
    int refused;      /* calls that gave an error */
    int malformed;    /* completions that did not parse or ran out of tokens */
    int resets;       /* of the context */
    int64_t tokens;   /* generated, all tries, summaries included */
    json_t *segments; /* array of arrays of messages */
};

/* Everything in o but key is borrowed and must outlive the episode. */
int agon_episode_new(struct agon_episode **ret, const struct agon_episode_options *o,
                     struct agon_err *err) AGON_MUST_USE;
void agon_episode_free(struct agon_episode *e); /* cancels a turn in flight */
AGON_DEFINE_FREEP(struct agon_episode, agon_episode_free)

enum { AGON_EPISODE_ENDED = 1 };
/*
 * Go as far as is possible without waiting: 0 (a turn is in flight; poll the model),
 * AGON_EPISODE_ENDED, or <0. A server, program or recording that fails is AGON_EMODEL.
 */
int agon_episode_step(struct agon_episode *e, struct agon_err *err) AGON_MUST_USE;
const struct agon_episode_report *agon_episode_report(const struct agon_episode *e);
