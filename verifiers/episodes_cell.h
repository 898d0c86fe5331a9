#pragma once
/*
 * The op verify.episodes inside a cell (episodes.h says what it is for).
 *
 * Request: answer schema's text; verifier's text; results wanted (0/1); anew (0/1); n episodes: n
 * calls (tool, arguments), then the answer (empty: not judged). Reply: status, reason (1: the
 * verifier does not load; nothing follows); then for each episode, where results are wanted each
 * call's status and text; how many calls failed; judged (0/1) and, where 1, a brief as trial_wire.h
 * has it.
 */
#include "sandbox/worker.h"

int verifier_op_episodes(void *state, struct agon_str request, struct agon_buf *reply,
                         struct agon_err *err);
