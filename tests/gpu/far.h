#pragma once
/*
 * Addresses on the device without memory behind most of them: a pool's last entries can be read
 * where the pool itself would not fit. What is put there lies in grains of memory (2 MB) of its
 * own. Source: CUDA driver API 13.0, "Virtual Memory Management".
 */
#include "tests/gpu/gpu.h"

#include <cuda.h>
#include <dlfcn.h>

struct far_range {
    CUdeviceptr begin;
    size_t bytes, grain, put[2]; /* put: where the grains begin that have memory */
    size_t put_bytes[2];
    int n_put;
};

/* Call the driver, which libcudart has opened; what fails ends the program with its line. */
#define FAR_CALL(name, ...) far_check(((__typeof__(&name))far_symbol(#name))(__VA_ARGS__), #name)

static inline void *far_symbol(const char *name)
{
    void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_GLOBAL);
    void *symbol = driver ? dlsym(driver, name) : NULL;
    if (!symbol) {
        printf("Bail out! the driver has no %s\n", name);
        exit(1);
    }
    return symbol;
}
static inline void far_check(CUresult result, const char *name)
{
    if (result != CUDA_SUCCESS) {
        printf("Bail out! %s: error %d\n", name, (int)result);
        exit(1);
    }
}

static inline CUmemAllocationProp far_memory(void)
{
    return (CUmemAllocationProp){.type = CU_MEM_ALLOCATION_TYPE_PINNED,
                                 .location = {.type = CU_MEM_LOCATION_TYPE_DEVICE, .id = 0}};
}

/* So many bytes of addresses, nothing behind them; far_free() gives them back. */
static inline struct far_range far_new(size_t bytes)
{
    struct far_range f = {0};
    CUmemAllocationProp prop = far_memory();
    FAR_CALL(cuMemGetAllocationGranularity, &f.grain, &prop, CU_MEM_ALLOC_GRANULARITY_MINIMUM);
    f.bytes = (bytes + f.grain - 1) / f.grain * f.grain;
    FAR_CALL(cuMemAddressReserve, &f.begin, f.bytes, 0, 0, 0);
    return f;
}

/* Copy n bytes to byte `at`; twice at most, not to the same grains. */
static inline void far_put(struct far_range *f, size_t at, const void *from, size_t n)
{
    struct agon_err err = {0};
    CUmemAllocationProp prop = far_memory();
    CUmemAccessDesc access = {.location = prop.location,
                              .flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
    CUmemGenericAllocationHandle memory;
    size_t begin = at / f->grain * f->grain;
    size_t bytes = (at + n - begin + f->grain - 1) / f->grain * f->grain;
    FAR_CALL(cuMemCreate, &memory, bytes, &prop, 0);
    FAR_CALL(cuMemMap, f->begin + begin, bytes, 0, memory, 0);
    FAR_CALL(cuMemSetAccess, f->begin + begin, bytes, &access, 1);
    FAR_CALL(cuMemRelease, memory); /* goes with the mapping */
    f->put[f->n_put] = begin;
    f->put_bytes[f->n_put++] = bytes;
    if (agon_cuda_copy((char *)f->begin + at, from, n, NULL, &err) || agon_cuda_sync(NULL, &err)) {
        printf("Bail out! %s\n", err.text);
        exit(1);
    }
}

static inline void far_free(struct far_range *f)
{
    for (int i = 0; i < f->n_put; i++)
        FAR_CALL(cuMemUnmap, f->begin + f->put[i], f->put_bytes[i]);
    if (f->begin)
        FAR_CALL(cuMemAddressFree, f->begin, f->bytes);
}
#define FAR_AUTO __attribute__((cleanup(far_free))) struct far_range
