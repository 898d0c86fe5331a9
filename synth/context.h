#pragma once
/*
 * What an episode does when its window fills up (DESIGN.md, "Context"): above 80%
 * the conversation goes on in a fresh session with less of its past. Nothing is
 * lost from the record: a transcript is a list of segments, one for each session.
 */
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

enum agon_context {
    AGON_CONTEXT_NONE,        /* the episode ends when the window is full */
    AGON_CONTEXT_DISCARD_75,  /* the oldest three quarters of the turns go */
    AGON_CONTEXT_DISCARD_ALL, /* all turns go: only system and user message stay */
};

/* "none", "discard-75", "discard-all"; AGON_EINPUT for others. */
int agon_context_parse(enum agon_context *ret, const char *name,
                       struct agon_err *err) AGON_MUST_USE;
const char *agon_context_name(enum agon_context context);
/* Are so many tokens too many for this window? */
bool agon_context_full(int n_tokens, int window);
/*
 * The messages (new reference, its items shared) that the next session begins with.
 * messages: a whole conversation that ends in tool messages; its first n_head
 * messages (system, user) always stay. A turn is an assistant message and the tool
 * messages after it; turns are never torn apart, and the last one stays under
 * discard-75 (so the model sees what its call gave).
 */
json_t *agon_context_shrink(enum agon_context context, const json_t *messages, size_t n_head);
