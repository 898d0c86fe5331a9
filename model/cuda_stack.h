#pragma once
/*
 * The layers of a small model in few launches (kernels/cuda_stack.h): weights packed for it, and
 * the pass.
 */
#include "kernels/cuda_stack.h"
#include "model/config.h"

struct cuda_run;
struct cuda_forward;

struct cuda_stack {
    bool used;                       /* asked for, and the model is one that it does */
    struct agon_stack model;         /* the batch left open */
    char *weights;                   /* owned: packed, of all layers */
    struct agon_stack_layer *layers; /* owned */
    void *scratch;                   /* owned */
};

/* Decide whether it is used; f has its weights and pools. */
int cuda_stack_init(struct cuda_forward *f, struct agon_err *err) AGON_MUST_USE;
/* The weights of f have others of the same dimensions now: pack them again. */
int cuda_stack_pack(struct cuda_forward *f, struct agon_err *err) AGON_MUST_USE;
void cuda_stack_deinit(struct cuda_stack *stack);
/* All layers of a pass, over x, and its logits. */
int cuda_stack_run(struct cuda_run *run) AGON_MUST_USE;
