#pragma once
/* What trial.c and tape.c share. */
#include "verifiers/trial.h"

/* A reply to a request that is not full; verified: it had a verifier. As agon_trial(). */
int trial_decode(struct agon_str reply, bool verified, struct agon_trial *ret,
                 struct agon_buf *reason, struct agon_err *err) AGON_MUST_USE;
