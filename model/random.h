#pragma once
/*
 * Random checkpoints of any size in the published layout: config.json, shards with an index, FP8
 * with scales where the configuration says so, the prediction block included. What such a model
 * says is noise; it is there to load and to measure. A tensor's values are a function of seed and
 * name, whatever the shards.
 */
#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct agon_random_options {
    const char *config_path;    /* config.json to follow; copied */
    const char *tokenizer_path; /* tokenizer.json to copy; NULL: none */
    int n_shards;               /* 1: model.safetensors; else with an index */
    uint64_t seed;
    bool hollow; /* headers alone: data are holes that take no room and read as nought */
};
/* dir is made where it is missing; a folder that holds weights is refused (AGON_EINPUT). */
int agon_random_write(const char *dir, const struct agon_random_options *options,
                      uint64_t *ret_bytes, struct agon_err *err) AGON_MUST_USE;
