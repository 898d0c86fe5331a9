#pragma once
/*
 * What a cell can do with verifiers, on the environment that env.open opened
 * (envs/cell_state.h is the state, envs/wire.h the layout):
 *
 *   verify.trial      see trial.h; laid out in trial_wire.h
 *   verify.episodes   see episodes.h; laid out in episodes_cell.h
 *
 * A verifier stays loaded until another one comes.
 */
#include "sandbox/worker.h"

extern const struct agon_worker_op agon_verifier_ops[]; /* ends with a zero entry */
