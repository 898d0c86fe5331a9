#pragma once
/*
 * config.json of a DeepSeek sparse-attention model, checked: every dimension is in a range in
 * which no later product overflows, and what this engine does not do is refused by name.
 * Both spellings are read: rope_scaling + rope_theta + torch_dtype (hub) and rope_parameters +
 * dtype (transformers 5).
 */
#include "base/err.h"
#include "kernels/kernels.h"

#include <jansson.h>

enum { AGON_LAYERS_MAX = 512, AGON_EOS_MAX = 8 };

struct agon_config {
    char model_type[32];
    int n_vocab, hidden, n_layers, window; /* window: max_position_embeddings */
    int n_heads, q_lora, kv_lora, nope_dim, rope_dim, v_dim;
    int index_heads, index_dim, index_topk;
    bool index_interleaved; /* the indexer's RoPE layout; V3.2: half-split */
    /* By layer: routed experts instead of one MLP; its own indexer instead of the selection
     * of the layer before. */
    bool sparse[AGON_LAYERS_MAX], indexer[AGON_LAYERS_MAX];
    int dense_dim, expert_dim, n_shared;
    struct agon_router router;
    struct agon_rope rope;
    float norm_eps;
    bool tied;                         /* the embedding is the head */
    bool fp8;                          /* quantization_config says 128 x 128 blocks */
    int bos, n_eos, eos[AGON_EOS_MAX]; /* -1 where there is none */
};

int agon_config_sparse_layers(const struct agon_config *c); /* how many have routed experts */
int agon_config_indexers(const struct agon_config *c);      /* how many have an indexer */

/* What an engine made for a can't take from b: the name of the first such field, or NULL.
 * (Which ids end a turn may differ, and how weights are stored.) */
const char *agon_config_difference(const struct agon_config *a, const struct agon_config *b);

/* AGON_EINPUT: "max_position_embeddings: 0 is not from 1 to ...". */
int agon_config_parse(struct agon_config *ret, const json_t *root,
                      struct agon_err *err) AGON_MUST_USE;
/* DIR/config.json. */
int agon_config_load(struct agon_config *ret, const char *dir, struct agon_err *err) AGON_MUST_USE;
