#pragma once
/* Private to engine_cuda*.c. */
#include "kernels/cuda_step.h"
#include "model/cuda_forward.h"
#include "model/cuda_share.h"
#include "model/engine_cuda.h"

enum {
    COPIES_MAX = 4096,
    GRAPHS_MAX = 256,
};
/* Ids of kept sets that one burst may record. */
enum { KEPT_MAX = 16 << 20 };

/* A graph of one decode step. */
struct step_graph {
    int n_rows, n_max; /* on every rank of a group */
    bool kept;
    void *graph;
};

struct cuda_compute {
    struct engine_compute base;
    struct agon_engine *engine;
    void *stream;
    struct cuda_forward forward;
    struct cuda_share share; /* where the engine is one of a group */
    /* The block: the same layout here and on the device. */
    char *host, *device;
    size_t block_bytes, ids_at, position_at, sequence_at, store_at, logit_rows_at, count_at,
        pages_at;
    /* Forced experts: [n_sparse][n_chunk_max][top_k], made when first needed. */
    uint16_t *host_forced;
    /* Draws: a slot for each row of logits. */
    struct agon_cuda_slot *host_slots, *slots;
    struct agon_cuda_drawn *host_drawn, *drawn; /* [n_batch_max][BURST_MAX] */
    int32_t *kept, *host_kept;                  /* made when first needed */
    unsigned long long *n_kept, *host_n_kept;
    void *looked; /* an event: the draws of a look are here */
    void *sample_scratch;
    /* Pages to be copied before the next launch. */
    int32_t *host_copies, *copies;
    int n_copies;
    uint32_t *copied_from, copy_round; /* [n_pages]: the round in which a page is a source */
    /* Logits here: those of rows whose draws are recorded, or all of them for a window. */
    float *host_logits;
    void *host_scratch; /* AGON_SAMPLE_SCRATCH [n_vocab] */
    bool all_logits;
    const struct agon_forward_trace *trace;
    struct step_graph graphs[GRAPHS_MAX];
    int n_graphs;
};

static inline struct cuda_compute *cuda_of(struct agon_engine *e)
{
    return (struct cuda_compute *)e->compute;
}

static inline int32_t *host_at(const struct cuda_compute *c, size_t at)
{
    return (int32_t *)(void *)(c->host + at);
}

static inline int32_t *device_at(const struct cuda_compute *c, size_t at)
{
    return (int32_t *)(void *)(c->device + at);
}

/* Wait for all that was launched. */
int cuda_wait(struct cuda_compute *c, struct agon_err *err);
/* Launch the copies of pages that are due. */
int cuda_copies_flush(struct cuda_compute *c, struct agon_err *err);
static inline int cuda_ld_pages(int n_max)
{
    return (n_max + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE;
}
/* The page table of s, ld entries; -1 behind the last. */
void cuda_put_pages(int32_t *to, int ld, const struct agon_sequence *s);
/* The block up to the end of n page tables. */
int cuda_block_upload(struct cuda_compute *c, int n_tables, int ld_pages, struct agon_err *err);

/* ---- engine_cuda_draw.c ------------------------------------------------------------- */

int cuda_draw(struct agon_engine *e, struct agon_err *err);
int cuda_burst(struct agon_engine *e, int n_steps, struct agon_err *err);
