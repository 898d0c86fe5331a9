#pragma once
/*
 * What a checkpoint folder holds by its configuration: every tensor's name, shape and kind, in the
 * layout of the published DeepSeek-V3.2 and GLM-5 (engine.md 2 and 10), the multi-token-prediction
 * block included. One list for the checker and for the generator of random checkpoints; the loader
 * asks for the same names by itself, and the tests hold the two together.
 */
#include "base/err.h"
#include "model/config.h"

#include <jansson.h>
#include <stdint.h>

enum agon_tensor_kind {
    AGON_KIND_MATRIX, /* FP8 with scales where the configuration says so, else as PLAIN */
    AGON_KIND_PLAIN,  /* BF16, F16 or F32: embedding, head, router, weights_proj, eh_proj */
    AGON_KIND_NORM,   /* a vector near one */
    AGON_KIND_BIAS,   /* a vector near nought */
};
struct agon_expected {
    const char *name; /* borrowed, for the time of the call */
    enum agon_tensor_kind kind;
    int n, k;      /* [n][k]; k is 0 for a vector */
    bool optional; /* may be missing: the prediction block, indexers of layers that share one */
};

struct agon_layout {
    struct agon_config config;
    int n_predict;  /* num_nextn_predict_layers: blocks behind the last layer */
    bool norms_f32; /* as V3.2 stores them; else in the dtype of the rest */
    bool as_f32;    /* torch_dtype says float32 */
};

/* From a parsed config.json. */
int agon_layout_of(struct agon_layout *ret, const json_t *config,
                   struct agon_err *err) AGON_MUST_USE;
/* From DIR/config.json. */
int agon_layout_load(struct agon_layout *ret, const char *dir, struct agon_err *err) AGON_MUST_USE;
/* Call fn for each tensor, scales left out (they follow from a matrix's shape). A result that is
 * not 0 ends the walk and is returned. */
int agon_layout_each(const struct agon_layout *l,
                     int (*fn)(void *user, const struct agon_expected *tensor), void *user);
