#pragma once
/*
 * A small random model for test_stack.c, its cache and rows, here and on the device: rows that are
 * absent, short, not stored or share pages stand among the others.
 */
#include "kernels/cuda_stack.h"
#include "tests/gpu/gpu.h"

enum { KV = AGON_STACK_KV, ROPE = AGON_STACK_ROPE, ENTRY = AGON_STACK_ENTRY, N_LAYERS = 2 };
enum { DIM = AGON_STACK_INDEX_DIM, LD_PAGES = 12, EXPERTS_MAX = 8 };

struct dims {
    int hidden, q_lora, n_heads, index_heads, n_experts, top_k, n_shared, inner, pieces, n_vocab;
    int k, n_prefix, n_rows;
    bool interleaved;
};

/* Weights as the device has them, and packed there; tiles: swizzled, whole steps of 64. Owned: w.
 */
struct matrix {
    float *w;
    int n, k;
    struct gpu_buffer packed, tiles;
};

struct layer {
    struct matrix input, query, output, gate_up, down;
    float *norms[6], *router, *bias;
    struct gpu_buffer on_device[8];
    struct agon_stack_layer device;
};

struct world {
    struct dims d;
    struct layer layers[N_LAYERS];
    struct matrix head;
    float *norm, *x, *angles[2];
    int32_t *sequence, *store, *position, *pages;
    uint16_t *latents;
    float *keys;
    int n_pages;
    struct gpu_buffer on_device[12];
};

/* The same for the same dims; failures are the test's. The caller frees it. */
void world_init(struct world *w, const struct dims *d);
void world_free(struct world *w);
/* w->keys as the device has them now. */
void world_keys_download(struct world *w);
/* The stack over rows first .. first + n - 1; layers and scratch are the caller's. */
struct agon_stack stack_of(struct world *w, const struct agon_stack_layer *layers, int first,
                           int n);
