#pragma once
/*
 * Does a checkpoint folder hold what its config.json makes of it? Names, shapes, dtypes and scales
 * of all tensors, their index and the files' sizes: headers are read, data are not, so the
 * published 642 GB take seconds.
 */
#include "base/err.h"

#include <stdint.h>

struct agon_check {
    uint64_t n_tensors, n_parameters, n_scales, bytes; /* found */
    uint64_t n_predict; /* parameters of the prediction block, of these */
    int n_files;
    uint64_t n_problems;
};
/*
 * 0 with *ret filled, whatever was found: each problem goes to fn as one line. AGON_EINPUT where
 * the configuration, the index or a header can't be read at all.
 */
int agon_check(const char *dir, void (*fn)(void *user, const char *problem), void *user,
               struct agon_check *ret, struct agon_err *err) AGON_MUST_USE;
