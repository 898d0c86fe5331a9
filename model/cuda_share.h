#pragma once
/*
 * The experts of a model shared out among the ranks of a group (expert parallelism): rank r of R
 * holds experts r E / R .. (r + 1) E / R of each layer, and computes them for the rows of all.
 *
 * A layer: every rank's rows and choices to all (all-gather); each computes its experts' choices;
 * each choice's vector back to its row's rank (reduce-scatter over choices, where all but one rank
 * have zeros); there they are combined as one device would, in the order of a row's choices. So a
 * row's result does not depend on the number of ranks, to the bit, in both modes.
 *
 * What moves, for n rows of a rank, K choices, R ranks: n (R - 1) hidden inputs to each rank, which
 * is nearly what sending each row where it is wanted would move as long as K is above R; and
 * n K (R - 1) hidden sums, R times what sending the vectors alone would. For that no rank needs to
 * know the others' counts, so nothing waits for the host and a burst stays one graph.
 */
#include "model/cuda_nccl.h"
#include "model/cuda_weights.h"

struct cuda_forward;
struct cuda_run;

struct cuda_share {
    struct agon_group *group; /* borrowed */
    struct cuda_nccl *nccl;   /* owned */
    int n_ranks;
    int first, n_here;    /* this rank's experts */
    int n_slice;          /* rows of a rank that go together */
    char *memory;         /* owned: all that follows, on the device */
    void *rows;           /* [n_ranks * n_slice][hidden]: everybody's, as they are */
    int32_t *ids, *local; /* [n_ranks * n_slice][top_k] */
    int32_t *begin;       /* [n_here + 1] */
    int32_t *pair_row, *pair_of, *each;
    float *y, *wide; /* [n_ranks * n_slice * top_k][hidden] */
    float *mine;     /* [n_slice * top_k][hidden]: what the experts made of this rank's rows */
    void *scratch;
};

/* A meeting of all ranks, after f's weights are there; f then shares its experts. */
int cuda_share_init(struct cuda_share *s, struct cuda_forward *f, struct agon_group *g, int rank,
                    struct agon_err *err) AGON_MUST_USE;
void cuda_share_deinit(struct cuda_share *s);

/* x += the experts' sum and the shared one, as combine says (its y and pair_of are set here), for
 * the rows whose choices are in f->route_ids; every rank calls it for every layer with experts. */
int cuda_share_experts(struct cuda_run *run, const struct agon_cuda_combine *combine);
/* agon_cuda_sync(), but for other ranks that have failed. */
int cuda_share_sync(struct cuda_share *s, void *stream, struct agon_err *err) AGON_MUST_USE;
