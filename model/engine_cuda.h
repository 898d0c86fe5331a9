#pragma once
/* The engine's compute on a GPU; see engine_internal.h. */
#include "model/engine_internal.h"

/* As engine_cpu_new(). fast: BF16 where the reference mode has F32. AGON_EDEVICE: no GPU, or no
 * library for one (engine_cuda_load.c). */
int engine_cuda_new(struct agon_engine *e, const struct agon_engine_options *options, bool fast,
                    struct agon_err *err) AGON_MUST_USE;

/* The same, in the library that holds it: engine_cuda.c. */
typedef int engine_cuda_new_fn(struct agon_engine *e, const struct agon_engine_options *options,
                               bool fast, struct agon_err *err);
extern engine_cuda_new_fn agon_engine_cuda_new;
