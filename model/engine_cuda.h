#pragma once
/* The engine's compute on a GPU; see engine_internal.h. */
#include "model/engine_internal.h"

/* As engine_cpu_new(). fast: BF16 where the reference mode has F32. */
int engine_cuda_new(struct agon_engine *e, const struct agon_engine_options *options, bool fast,
                    struct agon_err *err) AGON_MUST_USE;
