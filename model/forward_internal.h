#pragma once
/* Private to forward*.c: the buffers of a pass and how its loops are cut into tasks. */
#include "model/forward.h"

/* One matmul of a parallel region; rows may be NULL (row r is row r). */
struct matmul_job {
    float *out;
    size_t ld_out;
    const float *x;
    size_t ld_x;
    const int *rows;
    int n_rows;
    const struct agon_matrix *w;
    int first_task, n_panel_tasks; /* set by forward_matmuls() */
};

/* Scratch of one thread for attention; sizes in attention_scratch_init(). */
struct attention_scratch {
    float *q, *out;        /* [ATTENTION_ROWS][n_heads][entry_dim], [..][value_dim] */
    float *scores;         /* indexer: [window]; attention: [n_heads][index_topk] */
    uint32_t *topk;        /* [window] */
    const float **entries; /* [index_topk] */
    const float **keys;    /* [window / AGON_PAGE] */
    float *key;            /* [index_dim] */
};
enum { ATTENTION_ROWS = 8 };

/* What the residual stream still has to take up. */
enum pending { PENDING_NONE, PENDING_ATTENTION, PENDING_DENSE, PENDING_EXPERTS };

struct agon_forward {
    const struct agon_checkpoint *checkpoint;
    const struct agon_config *config;
    const struct agon_kernels *kernels;
    struct agon_pool *pool;
    struct agon_cache *cache;
    int n_rows_max, n_logits_max, n_threads;
    double *inv_freq; /* [rope_dim / 2] */
    float softmax_scale, index_scale;

    /* The batch. */
    const struct agon_row *rows;
    int n_rows, rows_per_task;
    const struct agon_forward_trace *trace;
    int i_layer, i_sparse, i_indexer; /* the layer, and those with experts, indexers before it */
    const struct agon_layer *layer;
    const float *norm; /* that of the stage under way */
    enum pending pending;
    bool route; /* the stage under way ends in the router */

    /* Buffers, each [n_rows_max][..] unless said otherwise; one allocation. */
    float *memory;
    float *x, *h;          /* residual stream, normed input */
    float *cosine, *sine;  /* [rope_dim / 2] */
    float *input, *query;  /* the layer's first two projections */
    float *index_weights;  /* [index_heads] */
    float *heads, *update; /* attention's output before and after o_proj; dense's output */
    float *route_logits, *route_weights;
    float *gate_up, *act, *down; /* [n_rows_max * top_k][..]; dense: [n_rows_max] */
    float *shared_gate_up, *shared_act, *shared_down;
    float *logits; /* [n_logits_max][n_vocab] */
    int *integers;
    int *selected, *n_selected; /* [index_topk], [] */
    int *route_ids, *pair_row, *pair_of, *begin, *logit_rows;
    struct attention_scratch *scratch; /* [n_threads] */
    float *scratch_memory;
    const float **scratch_pointers;
    struct matmul_job *jobs;
    int n_jobs, n_job_tasks;
};

static inline int forward_padded(int n)
{
    return (n + AGON_PANEL - 1) / AGON_PANEL * AGON_PANEL;
}

/* The widths of a row in `input` and `query`, with or without the indexer's part. */
int forward_input_width(const struct agon_config *c);
int forward_query_width(const struct agon_config *c);

/* Run all of f->jobs[0 .. n_jobs) in one region. */
void forward_matmuls(struct agon_forward *f, int n_jobs);
/* Call fn for each block of rows_per_task rows. */
void forward_rows(struct agon_forward *f, agon_pool_fn *fn);
/* The rows of a task of forward_rows(). */
static inline int forward_task_rows(const struct agon_forward *f, int task, int *ret_begin)
{
    *ret_begin = task * f->rows_per_task;
    int n = f->n_rows - *ret_begin;
    return n < f->rows_per_task ? n : f->rows_per_task;
}

/* x += attention(h) up to o_proj: fills f->update. */
void forward_attention(struct agon_forward *f);
/* Fills down and shared_down (or update where the layer is dense) from h and the routing. */
void forward_mlp(struct agon_forward *f);
int attention_scratch_init(struct agon_forward *f, struct agon_err *err) AGON_MUST_USE;
