#pragma once
/*
 * NCCL, the little of it that the ranks of a group need. The library (libnccl.so.2, 2.9 or later)
 * is opened when a group is first made on GPUs, by name or where AGON_NCCL says, so that agon
 * builds and runs without it. Everything is launched in the stream given and nothing waits.
 *
 * Source: NCCL's documentation (docs.nvidia.com/deeplearning/nccl), nccl.h of 2.28.
 */
#include "model/group.h"

struct cuda_nccl;

/* A meeting of all ranks; the calling thread's device is the rank's. */
int cuda_nccl_new(struct cuda_nccl **ret, struct agon_group *g, int rank,
                  struct agon_err *err) AGON_MUST_USE;
/* broken: other ranks may never come; what is under way is given up. */
void cuda_nccl_free(struct cuda_nccl *n, bool broken);

/* to[q * bytes ..] = from of rank q, for every q; several arrays in one go. */
struct cuda_nccl_array {
    void *to;
    const void *from;
    size_t bytes;
};
int cuda_nccl_gather(struct cuda_nccl *n, const struct cuda_nccl_array *arrays, int n_arrays,
                     void *stream, struct agon_err *err) AGON_MUST_USE;
/* to[0 .. count) = the sum over ranks of from[rank * count ..]. F32. */
int cuda_nccl_sum(struct cuda_nccl *n, float *to, const float *from, size_t count, void *stream,
                  struct agon_err *err) AGON_MUST_USE;
