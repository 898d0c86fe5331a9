#pragma once
/*
 * What an episode does when its window fills up (DESIGN.md, "Context"): above 80%
 * the conversation goes on in a fresh session with less of its past. Nothing is
 * lost from the record: a transcript is a list of segments, one for each session.
 *
 * Source: DeepSeek-V3.2 report, section 4.4 (context management of search agents).
 */
#include "base/err.h"
#include "base/str.h"

#include <jansson.h>
#include <stdbool.h>

enum agon_context {
    AGON_CONTEXT_NONE,        /* the episode ends when the window is full */
    AGON_CONTEXT_DISCARD_75,  /* the oldest three quarters of the turns go */
    AGON_CONTEXT_DISCARD_ALL, /* all turns go: only system and user message stay */
    /* All turns go; the model sums them up first, and its text stands with the task from then on.
     */
    AGON_CONTEXT_SUMMARY,
    /* No window is made room in: a rollout is several episodes, of which the one with the fewest
     * turns counts (solver.h). An author's stage has another way to do that (its samples) and
     * takes this as AGON_CONTEXT_NONE. */
    AGON_CONTEXT_PARALLEL,
};
/* The names, for --help. */
#define AGON_CONTEXT_NAMES "none, discard-75, discard-all, summary, parallel-fewest-step"

/* By its name; AGON_EINPUT for others. */
int agon_context_parse(enum agon_context *ret, const char *name,
                       struct agon_err *err) AGON_MUST_USE;
const char *agon_context_name(enum agon_context context);
/* Are so many tokens too many for this window? */
bool agon_context_full(int n_tokens, int window);
/* Does a full window lead to a fresh session? */
bool agon_context_resets(enum agon_context context);
/*
 * The messages (new reference, its items shared) that the next session begins with.
 * messages: a whole conversation that ends in tool messages; its first n_head
 * messages (system, user) always stay. A turn is an assistant message and the
 * messages after it; turns are never torn apart, and the last one stays under
 * discard-75 (so the model sees what its call gave).
 */
json_t *agon_context_shrink(enum agon_context context, const json_t *messages, size_t n_head);

/*
 * Less of a conversation that is to be summed up and too long for that (new reference): half
 * of the turns, the older ones, go; of a single one half of each result. NULL: nothing is left
 * that could go, or out of memory.
 */
json_t *agon_context_halve(const json_t *messages, size_t n_head);
/* The head (system, user) with another text in its last message (new reference); NULL: out of
 * memory, or no UTF-8. */
json_t *agon_context_retext(const json_t *head, struct agon_str text);
