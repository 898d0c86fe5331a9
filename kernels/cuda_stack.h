#pragma once
/*
 * The layers of a small model in six launches each, seven or eight where rows are many: see
 * stack.cu. What is computed is what the operators of cuda_ops.h, cuda_gemm.h and cuda_mla.h
 * compute in fast mode: BF16 products with F32 sums, the residual stream, norms and router in F32.
 * A row's result depends on its own past alone.
 *
 * Two products of attention are one here, multiplied when the weights are loaded: a head's query
 * comes from the q latent in the latents' space (W_UK^T W_Q), its output goes from there to the
 * residual stream (W_O W_UV). They are in F16: rounded to BF16 they would add as much error again
 * as all else of fast mode has.
 */
#include "kernels/cuda_indexer.h"
#include "kernels/cuda_mla.h"
#include "kernels/cuda_ops.h"
#include "kernels/cuda_sample.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    AGON_STACK_KV = 128,
    AGON_STACK_ROPE = 16,
    AGON_STACK_ENTRY = AGON_STACK_KV + AGON_STACK_ROPE,
    AGON_STACK_INDEX_DIM = 32,
    AGON_STACK_HEADS_MAX = 6,
    AGON_STACK_GROUPS_MAX = 16,
    AGON_STACK_WINDOW_MAX = 4096,
    AGON_STACK_KEYS_UNIT = 16,
};

#ifdef __CUDACC__
#define AGON_STACK_BOTH __host__ __device__
#else
#define AGON_STACK_BOTH
#endif

/*
 * Packed weights: W [n][k] as tensor cores read it, tiles of 8 outputs (n rounded up, zeros
 * behind), [tile][k / 32][lane of 32][8] BF16 or F16. How many of them, and the place of (i, j) in
 * it.
 */
static inline size_t agon_stack_packed_size(int n, int k)
{
    return (size_t)((n + 7) / 8) * 8 * (size_t)k;
}
static inline size_t agon_stack_packed_at(int k, int i, int j)
{
    size_t tile = (size_t)(i / 8) * (size_t)(k / 32) + (size_t)(j / 32);
    int lane = i % 8 * 4 + j % 8 / 2;
    return (tile * 32 + (size_t)lane) * 8 + (size_t)(j % 32 / 8 * 2 + j % 2);
}
/* The same as shared memory has it for wgmma (kernels/wgmma.cuh): tiles of 8 outputs by 64 of k. */
static inline size_t agon_stack_swizzled_at(int k, int i, int j)
{
    size_t tile = (size_t)(i / 8) * (size_t)(k / 64) + (size_t)(j / 64);
    return (tile * 8 + (size_t)(i % 8)) * 64 + (size_t)((j % 64 / 8 ^ i % 8) * 8 + j % 8);
}

/*
 * Where value i of a page's entry is: a page of latents lies here as matrix instructions want it in
 * shared memory, where it goes as it is. First two chunks of 64 values of all entries, rows of
 * eight units of 8 values that change places, unit u of entry e at u ^ e % 8; behind them the last
 * 16 values, a unit of all entries and then the other.
 */
static inline AGON_STACK_BOTH int agon_stack_entry_at(int entry, int i)
{
    int unit = i / 8, n_values = AGON_STACK_KV / 8;
    int at = unit < n_values ? (unit / 8 * AGON_CUDA_PAGE + entry) * 8 + (unit % 8 ^ entry % 8)
                             : unit * AGON_CUDA_PAGE + entry;
    return at * 8 + i % 8;
}

/*
 * Index keys in the cache, for the same bytes as F32 takes: of each value a BF16 and, low, what
 * that leaves over as another, in units of AGON_STACK_KEYS_UNIT keys as tensor cores read them:
 * [unit][high, low][dim / 16][lane of 32][8]. The place in a page of dim `dim` of key `slot`.
 */
static inline AGON_STACK_BOTH int agon_stack_key_at(int slot, int dim, int low)
{
    int unit = slot / AGON_STACK_KEYS_UNIT, row = slot % AGON_STACK_KEYS_UNIT;
    int lane = row % 8 * 4 + dim % 8 / 2, at = row / 8 * 2 + dim % 16 / 8 * 4 + dim % 2;
    return (((unit * 2 + low) * (AGON_STACK_INDEX_DIM / 16) + dim / 16) * 32 + lane) * 8 + at;
}

/* Device pointers. */
struct agon_stack_layer {
    /* [hidden]; next_norm: of what follows this layer. */
    const float *attention_norm, *mlp_norm, *next_norm;
    const float *q_norm, *kv_norm, *index_norm, *index_bias; /* of latents */
    /* Packed; query and output F16, all else BF16. input: [q_lora + entry + index_dim +
     * index_heads][hidden]; query: of each head [entry], then of each index head [index_dim], from
     * q_lora; output: [hidden][n_heads * kv_lora]. */
    const void *input, *query, *output;
    const float *router, *router_bias; /* [n_experts][hidden], [n_experts]; NULL: a dense layer */
    /* Groups: the shared expert (where there is one), then the experts; or pieces of the dense MLP.
     * gate_up, swizzled: [n_groups][inner / 8][gate, up][8][hidden]; down:
     * [n_groups][hidden][inner]; down_tiles: the same swizzled, inner rounded up to a multiple of
     * 64, zeros behind. */
    const void *gate_up, *down, *down_tiles;
    int n_groups, inner;
};

struct agon_stack {
    /* The model. */
    int hidden, n_heads, q_lora, index_heads, index_topk, n_layers;
    int n_experts, n_shared, top_k; /* n_shared: 0 or 1 */
    int pairs_max,
        inner_max; /* of all layers: how many groups a row goes through, and their width */
    bool normalise, index_interleaved;
    float route_scale, eps, latent_eps, softmax_scale, index_scale;
    const struct agon_stack_layer *layers; /* [n_layers], of the host */
    /* The cache: pools of the first layer (BF16 latents, each page as agon_stack_entry_at() says;
     * keys as agon_stack_key_at() does), bytes from one to the next. */
    char *latents, *keys;
    size_t latent_layer_bytes, keys_layer_bytes;
    /* The batch. A row is computed where sequence is not below 0, and stored where store is not. */
    struct agon_cuda_rows rows;
    bool apart; /* no two rows are of one sequence */
    const int32_t *store;
    float *cosine, *sine; /* [n_rows][rope / 2] */
    /*
     * How rows begin: x comes from row ids[r] of the table, angles from the position and inv_freq
     * [rope / 2]; where table.data is NULL both are there. Before that, where slots is not NULL,
     * the first *n_slots of them make ids and the batch's positions and sequences (which are
     * slot_position and slot_sequence then), as agon_cuda_step_rows() does.
     */
    struct agon_cuda_matrix table;
    int32_t *ids;
    const double *inv_freq;
    const struct agon_cuda_slot *slots;
    const int32_t *n_slots;
    int32_t *slot_position, *slot_sequence;
    const uint16_t *forced; /* [n_rows][top_k] of the layer that begins, or NULL */
    /* The head: packed [n_vocab][hidden]; row r of logits is of logit_rows[r], or of r (NULL). A
     * launch of the head alone has rows.n_rows rows of logits. */
    int n_vocab;
    const float *norm;
    const void *head;
    const int32_t *logit_rows;
    float *logits;
    float *x; /* [n_rows][hidden]: in and out */
    /* Results on the way, where they are wanted: of the last layer that runs. */
    int32_t *route_ids; /* [n_rows][top_k] */
    uint64_t *mask;     /* [n_rows][ld_mask] */
    int ld_mask;
    void *scratch; /* agon_stack_scratch() bytes, of n_rows_max rows: of any launch */
    int n_rows_max;
};

/* Stages of a layer; number: layer * AGON_STACK_STAGES + stage. */
enum {
    AGON_STACK_INPUT,  /* norm, and the products of the residual stream */
    AGON_STACK_QUERY,  /* queries; the rows' entries to the cache */
    AGON_STACK_ATTEND, /* selection and attention */
    AGON_STACK_OUTPUT, /* to the residual stream */
    AGON_STACK_UP,     /* norm, router, gate and up of the experts */
    AGON_STACK_DOWN,   /* to the residual stream */
    AGON_STACK_STAGES,
};
/* After the last layer's: norm and head. */
static inline int agon_stack_head(const struct agon_stack *stack)
{
    return stack->n_layers * AGON_STACK_STAGES;
}

bool agon_stack_does(const struct agon_stack *stack);
size_t agon_stack_scratch(const struct agon_stack *stack);
/* Stages [begin, end), the last of which may be agon_stack_head(): a launch each. What a stage
 * leaves for the next is in scratch. */
int agon_stack_cuda(const struct agon_stack *stack, int begin, int end, void *stream,
                    struct agon_err *err) AGON_MUST_USE;
/* A mask as a list: selected [n_rows][k], ascending, -1 behind the last; n_selected [n_rows]. */
int agon_stack_list_cuda(int32_t *selected, int32_t *n_selected, int k, const uint64_t *mask,
                         int ld_mask, int n_rows, void *stream, struct agon_err *err) AGON_MUST_USE;

#ifdef __cplusplus
}
#endif
