/*
 * The engine on a GPU is a program of its own, agon-cuda.so beside the executable, loaded when
 * a GPU is first asked for: CUDA's runtime registers kernels before main() with allocations that it
 * does not check, and nobody who runs on a CPU should pay or crash for that. Programs that link
 * model_cuda (tests) have it already.
 */
#include "base/file.h"
#include "model/engine_cuda.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

__attribute__((weak)) engine_cuda_new_fn agon_engine_cuda_new;

static int load(engine_cuda_new_fn **ret, struct agon_err *err)
{
    char path[4096];
    int r = agon_program_beside(path, sizeof(path), "agon-cuda.so", err);
    if (r)
        return agon_err_in(err, r, "cuda");
    if (access(path, F_OK))
        return agon_fail(err, AGON_EDEVICE,
                         "there is no %s: this agon was built without CUDA; install CUDA's nvcc "
                         "(13.0) and build again",
                         path);
    void *library = dlopen(path, RTLD_NOW); /* for good: what it registers cannot be taken back */
    void *found = library ? dlsym(library, "agon_engine_cuda_new") : NULL;
    if (!found)
        return agon_fail(err, AGON_EDEVICE, "cuda: %s", dlerror());
    memcpy(ret, &found, sizeof(found)); /* ISO C knows no conversion to a function's address */
    return 0;
}

int engine_cuda_new(struct agon_engine *e, const struct agon_engine_options *options,
                    enum engine_cuda_mode mode, struct agon_err *err)
{
    engine_cuda_new_fn *make = agon_engine_cuda_new;
    int r = make ? 0 : load(&make, err);
    return r ? r : make(e, options, mode, err);
}
