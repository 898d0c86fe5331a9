#pragma once
/*
 * Writes a checkpoint folder with random weights in the Hugging Face layout: any dimensions,
 * any dtype, single or sharded, with a tokenizer. For tests and for measuring speed; what such
 * a model says is noise.
 */
#include "base/buf.h"
#include "base/err.h"
#include "kernels/kernels.h"
#include "model/checkpoint.h"

struct random_checkpoint {
    uint64_t seed;
    int n_vocab, hidden, n_layers, n_heads, q_lora, kv_lora, nope, rope, v;
    int index_heads, index_dim, index_topk, window;
    int dense, n_dense, expert, n_experts, top_k, n_shared, n_group, topk_group;
    enum agon_dtype dtype; /* F32, BF16 or E4M3 (128 x 128 blocks); norms and router stay F32 */
    bool tied, yarn, hub_spelling; /* rope_scaling + torch_dtype instead of rope_parameters */
    int n_shards;                  /* 1: model.safetensors */
    bool silent;                   /* every logit is 0 */
    int n_tokens;                  /* of the tokenizer; 0: n_vocab */
};

/* The dimensions planned for the embedded model. */
#define RANDOM_CHECKPOINT_EMBEDDED                                                             \
    {                                                                                          \
        .seed = 1, .n_vocab = 2048, .hidden = 384, .n_layers = 8, .n_heads = 6, .q_lora = 192, \
        .kv_lora = 128, .nope = 48, .rope = 16, .v = 64, .index_heads = 4, .index_dim = 32,    \
        .index_topk = 256, .window = 4096, .dense = 1024, .n_dense = 1, .expert = 224,         \
        .n_experts = 8, .top_k = 2, .n_shared = 1, .n_group = 1, .topk_group = 1,              \
        .dtype = AGON_E4M3, .tied = true, .n_shards = 1,                                       \
    }

/* What small ones have in common: two layers of 32, the second one with experts. Left to say: seed,
 * n_vocab, index_topk, window, dtype. */
#define RANDOM_CHECKPOINT_TINY                                                                    \
    .hidden = 32, .n_layers = 2, .n_heads = 2, .q_lora = 16, .kv_lora = 16, .nope = 8, .rope = 4, \
    .v = 8, .index_heads = 2, .index_dim = 8, .dense = 32, .n_dense = 1, .expert = 16,            \
    .n_experts = 4, .top_k = 2, .n_shared = 1, .n_group = 1, .topk_group = 1, .n_shards = 1

/* Dimensions of which none is a multiple of what vectors and tiles are wide. Left to say: seed,
 * n_layers, n_heads, window, n_experts, n_group, topk_group, dtype, n_shards. */
#define RANDOM_CHECKPOINT_ODD                                                                     \
    .n_vocab = 301, .hidden = 72, .q_lora = 40, .kv_lora = 28, .nope = 12, .rope = 10, .v = 18,   \
    .index_heads = 3, .index_dim = 22, .index_topk = 12, .dense = 90, .n_dense = 1, .expert = 26, \
    .top_k = 3, .n_shared = 2

/* The smallest whose attention, indexer and products a GPU does by its fast kernels in FP8. Left to
 * say: seed, index_topk, window, n_experts, top_k, n_group, topk_group, n_shards. */
#define RANDOM_CHECKPOINT_FP8                                                                  \
    .n_vocab = 512, .hidden = 384, .n_layers = 3, .n_heads = 8, .q_lora = 256, .kv_lora = 512, \
    .nope = 128, .rope = 64, .v = 128, .index_heads = 32, .index_dim = 128, .dense = 512,      \
    .n_dense = 1, .expert = 256, .n_shared = 1, .dtype = AGON_E4M3

/* dir is made where it is missing. */
int random_checkpoint_write(const char *dir, const struct random_checkpoint *r,
                            struct agon_err *err) AGON_MUST_USE;
/* Written to dir (NULL: to a temporary folder, which is removed) and loaded. */
int random_checkpoint_load(struct agon_checkpoint **ret_checkpoint, const char *dir,
                           const struct random_checkpoint *r, struct agon_err *err) AGON_MUST_USE;

/* ---- tokenizer.json, also by itself ------------------------------------------------- */

/* V3.2's pre-tokenizer, as its tokenizer.json writes it. */
extern const char v32_pre_tokenizer[];
/* The byte written in the byte alphabet, as a JSON string's content. */
void byte_alphabet_add(struct agon_buf *b, unsigned char byte);
/*
 * A tokenizer.json: ids 0, 1, 2 are BOS, EOS and pad; then the 256 bytes; then the tokens that
 * the merges make; then the chat's control tokens. n_merges pairs are drawn at random over
 * printable ASCII; arrays chooses the spelling ["a","b"].
 */
void tokenizer_json_add(struct agon_buf *b, int n_merges, bool arrays, uint64_t seed);
