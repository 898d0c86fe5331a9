/* The engine on a GPU, in a build without CUDA: what opens a device says so. */
#include "kernels/cuda.h"
#include "model/engine_cuda.h"

int engine_cuda_new(struct agon_engine *e, const struct agon_engine_options *options, bool fast,
                    struct agon_err *err)
{
    struct agon_cuda_info info;
    (void)e, (void)options, (void)fast;
    return agon_cuda_open(&info, 0, err);
}
