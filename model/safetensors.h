#pragma once
/*
 * The tensors of a checkpoint folder: model.safetensors, or the shards that
 * model.safetensors.index.json lists. Headers are read and checked when opening: sizes,
 * offsets without gaps or overlaps, names unique. Data is read with pread() when asked for, so
 * a file that shrinks afterwards is an error and no crash. Shard names are single path
 * components; the files themselves may be symbolic links, as in the hub's cache.
 *
 * Format: github.com/huggingface/safetensors, "Format".
 */
#include "base/err.h"
#include "base/mem.h"
#include "kernels/kernels.h"

#include <stdint.h>

enum { AGON_TENSOR_DIMS_MAX = 8 };

struct agon_tensor {
    char *name;    /* owned by the set */
    int file;      /* which of the set's files */
    bool readable; /* its dtype is one of agon_dtype's */
    enum agon_dtype dtype;
    int n_dims;
    int64_t dims[AGON_TENSOR_DIMS_MAX];
    uint64_t at, size; /* bytes, from the start of the file */
};

struct agon_tensors;

int agon_tensors_open(struct agon_tensors **ret, const char *dir,
                      struct agon_err *err) AGON_MUST_USE;
void agon_tensors_free(struct agon_tensors *t);
AGON_DEFINE_FREEP(struct agon_tensors, agon_tensors_free)

size_t agon_tensors_count(const struct agon_tensors *t);
/* In bytewise order of names; borrowed. */
const struct agon_tensor *agon_tensors_at(const struct agon_tensors *t, size_t i);
/* NULL where there is none. */
const struct agon_tensor *agon_tensors_find(const struct agon_tensors *t, const char *name);
/* Part of a model, whose tensors' names begin alike: "model.layers.3.self_attn.". */
struct agon_tensor_scope {
    const struct agon_tensors *tensors; /* borrowed */
    char prefix[256];
};
void agon_tensor_scope_set(struct agon_tensor_scope *scope, const char *fmt, ...) AGON_PRINTF(2, 3);
/* The tensor whose name is the prefix, name and suffix; borrowed. AGON_EINPUT where there is none,
 * with its name. */
int agon_tensor_scope_find(const struct agon_tensor **ret, const struct agon_tensor_scope *scope,
                           const char *name, const char *suffix,
                           struct agon_err *err) AGON_MUST_USE;
/* The name of the file that holds it, for messages; borrowed. */
const char *agon_tensors_file(const struct agon_tensors *t, const struct agon_tensor *tensor);
/* Bytes of data in all files. */
uint64_t agon_tensors_bytes(const struct agon_tensors *t);
/* Read all of a tensor's bytes into data[tensor->size]. */
int agon_tensor_read(const struct agon_tensors *t, const struct agon_tensor *tensor, void *data,
                     struct agon_err *err) AGON_MUST_USE;
/* Bytes [at, at + size) of them, which lie in it. Threads may read at the same time. */
int agon_tensor_read_part(const struct agon_tensors *t, const struct agon_tensor *tensor,
                          uint64_t at, uint64_t size, void *data,
                          struct agon_err *err) AGON_MUST_USE;
/* Its values as floats, *ret owned by the caller. AGON_EINPUT: E4M3, which means nothing without
 * scales, and NaN and infinity. */
int agon_tensor_floats(const struct agon_tensors *t, const struct agon_tensor *tensor, float **ret,
                       struct agon_err *err) AGON_MUST_USE;
/* "[3, 4]", for messages. */
void agon_tensor_shape(const struct agon_tensor *tensor, char *text, size_t size);
