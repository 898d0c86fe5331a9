#pragma once
/* The engine's compute on a GPU; see engine_internal.h. */
#include "model/engine_internal.h"

/* F32; BF16 where the reference mode has F32; e4m3 for weights that are, and in the caches. */
enum engine_cuda_mode {
    ENGINE_CUDA_REFERENCE,
    ENGINE_CUDA_FAST,
    ENGINE_CUDA_FP8
};

/* As engine_cpu_new(). AGON_EDEVICE: no GPU, or no library for one (engine_cuda_load.c). */
int engine_cuda_new(struct agon_engine *e, const struct agon_engine_options *options,
                    enum engine_cuda_mode mode, struct agon_err *err) AGON_MUST_USE;

/* The same, in the library that holds it: engine_cuda.c. */
typedef int engine_cuda_new_fn(struct agon_engine *e, const struct agon_engine_options *options,
                               enum engine_cuda_mode mode, struct agon_err *err);
extern engine_cuda_new_fn agon_engine_cuda_new;
