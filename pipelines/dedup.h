#pragma once
/* The last step of a run: near-duplicate prompts across environments. */
#include "base/err.h"

struct agon_corpus;

/* Not yet where a run is one of several ranks: agon_merge() sees them all. */
int agon_dedup_later(struct agon_corpus *c, struct agon_err *err) AGON_MUST_USE;
/* Of two kept tasks of different environments whose prompts say nearly the same
 * (agon_prompt_likeness()), the one with the later (environment, task) leaves; an environment
 * without tasks leaves too. Marked in `meta` when done, and not done twice. */
int agon_dedup(struct agon_corpus *c, struct agon_err *err) AGON_MUST_USE;
