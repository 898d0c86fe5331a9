/* cuda.h in a build without CUDA: what opens a device says so, and nothing else is reached. */
#include "kernels/cuda.h"

static int none(struct agon_err *err)
{
    return agon_fail(
        err, AGON_EDEVICE,
        "this agon was built without CUDA: install CUDA's nvcc (13.0) and build again");
}

int agon_cuda_open(struct agon_cuda_info *ret, int device, struct agon_err *err)
{
    (void)ret, (void)device;
    return none(err);
}

int agon_cuda_alloc(void **ret, size_t bytes, struct agon_err *err)
{
    *ret = NULL;
    (void)bytes;
    return none(err);
}

void agon_cuda_free(void *p)
{
    (void)p; /* never any */
}
