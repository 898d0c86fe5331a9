/* NCCL by dlopen(): see cuda_nccl.h. */
#include "model/cuda_nccl.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

/* What nccl.h declares of it; the numbers have not changed since NCCL 2.0. */
struct nccl_id {
    char bytes[128];
};
enum { NCCL_UINT8 = 1, NCCL_FLOAT32 = 7, NCCL_SUM = 0 };
enum { NCCL_VERSION_MIN = 20900 }; /* collectives in graphs */

struct nccl_library {
    int (*GetVersion)(int *version);
    int (*GetUniqueId)(struct nccl_id *id);
    int (*CommInitRank)(void **comm, int n_ranks, struct nccl_id id, int rank);
    int (*CommDestroy)(void *comm);
    int (*CommAbort)(void *comm);
    const char *(*GetErrorString)(int result);
    int (*GroupStart)(void);
    int (*GroupEnd)(void);
    int (*AllGather)(const void *from, void *to, size_t count, int type, void *comm, void *stream);
    int (*ReduceScatter)(const void *from, void *to, size_t count, int type, int op, void *comm,
                         void *stream);
};

struct cuda_nccl {
    struct nccl_library library;
    void *comm;
};

static int library_open(struct nccl_library *l, struct agon_err *err)
{
    const char *given = getenv("AGON_NCCL"), *path = given && *given ? given : "libnccl.so.2";
    const struct {
        const char *name;
        void *at; /* the address of a pointer to a function */
    } wanted[] = {
        {"ncclGetVersion", &l->GetVersion},     {"ncclGetUniqueId", &l->GetUniqueId},
        {"ncclCommInitRank", &l->CommInitRank}, {"ncclCommDestroy", &l->CommDestroy},
        {"ncclCommAbort", &l->CommAbort},       {"ncclGetErrorString", &l->GetErrorString},
        {"ncclGroupStart", &l->GroupStart},     {"ncclGroupEnd", &l->GroupEnd},
        {"ncclAllGather", &l->AllGather},       {"ncclReduceScatter", &l->ReduceScatter}};
    void *library = dlopen(path, RTLD_NOW); /* for good: it has threads of its own */
    if (!library)
        return agon_fail(err, AGON_EDEVICE,
                         "several GPUs need NCCL: %s; install it (the package libnccl2, or "
                         "PyTorch's nvidia-nccl) and set AGON_NCCL to its libnccl.so.2",
                         dlerror());
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        void *found = dlsym(library, wanted[i].name);
        if (!found)
            return agon_fail(err, AGON_EDEVICE, "NCCL: %s", dlerror());
        memcpy(wanted[i].at, &found, sizeof(found)); /* ISO C knows no such conversion */
    }
    int version = 0;
    if (l->GetVersion(&version) || version < NCCL_VERSION_MIN)
        return agon_fail(err, AGON_EDEVICE, "NCCL: %s is version %d, and %d is needed", path,
                         version, NCCL_VERSION_MIN);
    return 0;
}

static int check(const struct cuda_nccl *n, const char *what, int result, struct agon_err *err)
{
    return result ? agon_fail(err, AGON_EDEVICE, "NCCL: %s: %s", what,
                              n->library.GetErrorString(result))
                  : 0;
}

int cuda_nccl_new(struct cuda_nccl **ret, struct agon_group *g, int rank, struct agon_err *err)
{
    struct nccl_id id = {{0}};
    struct cuda_nccl *n = calloc(1, sizeof(*n));
    int r = n ? 0 : agon_fail(err, AGON_ENOMEM, "NCCL: out of memory");
    if (r == 0)
        r = library_open(&n->library, err);
    if (r == 0 && rank == 0)
        r = check(n, "an id", n->library.GetUniqueId(&id), err);
    if (r)
        agon_group_fail(g, rank, err); /* before the others meet without it */
    if (r || (r = agon_group_tell(g, rank, &id, sizeof(id), err)) ||
        (r = check(n, "beginning", n->library.CommInitRank(&n->comm, agon_group_ranks(g), id, rank),
                   err))) {
        free(n);
        return r;
    }
    *ret = n;
    return 0;
}

void cuda_nccl_free(struct cuda_nccl *n, bool broken)
{
    if (!n)
        return;
    if (n->comm)
        (void)(broken ? n->library.CommAbort : n->library.CommDestroy)(n->comm); /* it is the end */
    free(n);
}

int cuda_nccl_gather(struct cuda_nccl *n, const struct cuda_nccl_array *arrays, int n_arrays,
                     void *stream, struct agon_err *err)
{
    int r = check(n, "gathering", n->library.GroupStart(), err);
    for (int i = 0; i < n_arrays && r == 0; i++)
        r = check(n, "gathering",
                  n->library.AllGather(arrays[i].from, arrays[i].to, arrays[i].bytes, NCCL_UINT8,
                                       n->comm, stream),
                  err);
    return r ? r : check(n, "gathering", n->library.GroupEnd(), err);
}

int cuda_nccl_sum(struct cuda_nccl *n, float *to, const float *from, size_t count, void *stream,
                  struct agon_err *err)
{
    return check(n, "summing",
                 n->library.ReduceScatter(from, to, count, NCCL_FLOAT32, NCCL_SUM, n->comm, stream),
                 err);
}
