#pragma once
/*
 * The weights of a checkpoint folder in the form the forward pass reads: matrices packed in
 * their own dtype, those with a common input stacked, kv_b split into the two halves that the
 * absorbed form of attention multiplies by. Every shape is checked against config.json.
 *
 * The multi-token-prediction block (layers past num_hidden_layers) is left out.
 */
#include "base/mem.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "model/safetensors.h"

#include <stdint.h>

/* One gated MLP: down(silu(gate x) * up x). */
struct agon_mlp {
    struct agon_matrix gate_up; /* [2 * inner][hidden], gate first */
    struct agon_matrix down;    /* [hidden][inner] */
};

struct agon_layer {
    float *attention_norm, *mlp_norm; /* [hidden] */
    struct agon_matrix input;         /* from hidden: q_a, kv_a, and the indexer's wk */
    float *q_a_norm, *kv_a_norm;      /* [q_lora], [kv_lora] */
    struct agon_matrix query;         /* from q_lora: q_b, and the indexer's wq_b */
    struct agon_matrix *absorb;       /* [n_heads]: W_UK transposed, [kv_lora][nope] */
    struct agon_matrix *value;        /* [n_heads]: W_UV, [v][kv_lora] */
    struct agon_matrix output;        /* [hidden][n_heads * v] */
    struct agon_matrix index_weights; /* [index_heads][hidden] */
    float *index_norm, *index_bias;   /* [index_dim] */
    /* Where the layer is dense, dense alone; else the rest. */
    struct agon_mlp dense;
    struct agon_matrix router; /* [n_experts][hidden], F32 */
    float *router_bias;        /* [n_experts] */
    struct agon_mlp *experts;  /* [n_experts] */
    struct agon_mlp shared;    /* [n_shared * expert_dim]; empty when n_shared is 0 */
};

struct agon_checkpoint {
    struct agon_config config;
    struct agon_matrix embedding; /* [n_vocab][hidden]; also the head when tied */
    struct agon_matrix head;      /* empty when tied */
    struct agon_layer *layers;
    float *norm;                     /* [hidden] */
    uint64_t n_parameters, n_active; /* without MTP; active: used by one token */
    uint64_t bytes;                  /* of packed weights in memory */
    struct agon_tensors *tensors;    /* owned; the files, open */
    bool open_only;                  /* nothing was read but headers: no weights here */
};

/*
 * Errors are one line that says folder, file, tensor, what was found and what was expected.
 * AGON_EINPUT: the files are wrong; AGON_ESYS: they can't be read.
 */
int agon_checkpoint_load(struct agon_checkpoint **ret, const char *dir,
                         struct agon_err *err) AGON_MUST_USE;
/*
 * The same without weights: names, shapes and dtypes are checked, values are not. A GPU's engine
 * reads them from the files itself, and never holds the model in this memory.
 */
int agon_checkpoint_open(struct agon_checkpoint **ret, const char *dir,
                         struct agon_err *err) AGON_MUST_USE;
/*
 * Put the weights of dir in the place of c's, which must have the same dimensions. The new ones
 * are read (or opened, where c's are) and checked first: on failure c is as before.
 */
int agon_checkpoint_replace(struct agon_checkpoint *c, const char *dir,
                            struct agon_err *err) AGON_MUST_USE;
void agon_checkpoint_free(struct agon_checkpoint *c);
AGON_DEFINE_FREEP(struct agon_checkpoint, agon_checkpoint_free)
const struct agon_matrix *agon_checkpoint_head(const struct agon_checkpoint *c);
