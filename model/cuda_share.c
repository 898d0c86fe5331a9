/* Experts among several devices: see cuda_share.h. */
#include "model/cuda_share.h"

#include "kernels/cuda_exchange.h"
#include "model/cuda_forward_internal.h"

#include <sched.h>

/* Rows beyond what fits go in several exchanges. */
static const size_t exchange_bytes_max = (size_t)2 << 30;

/* Bytes of all buffers that grow with the rows of a slice. */
static size_t row_bytes(const struct cuda_share *s, const struct cuda_forward *f)
{
    size_t hidden = (size_t)f->config->hidden, choices = (size_t)f->config->router.top_k;
    return (size_t)s->n_ranks * hidden * (2 * choices + 1) * sizeof(float) +
           choices * hidden * sizeof(float);
}

static const struct agon_cuda_moe *moe_of(const struct cuda_forward *f)
{
    for (int i = 0; i < f->config->n_layers; i++)
        if (f->config->sparse[i])
            return &f->weights.layers[i].moe;
    return NULL;
}

static int share_alloc(struct cuda_share *s, const struct cuda_forward *f, struct agon_err *err)
{
    const struct agon_cuda_moe *moe = moe_of(f);
    size_t hidden = (size_t)f->config->hidden, i32 = sizeof(int32_t), f32 = sizeof(float);
    size_t fits = exchange_bytes_max / row_bytes(s, f);
    s->n_slice = fits < 1 ? 1 : fits < (size_t)f->n_rows_max ? (int)fits : f->n_rows_max;
    int top_k = f->config->router.top_k, n_rows = s->n_ranks * s->n_slice;
    size_t choices = (size_t)n_rows * (size_t)top_k, own = (size_t)s->n_slice * (size_t)top_k;
    const struct cuda_buffer wanted[] = {
        {&s->rows, (size_t)n_rows * hidden * agon_dtype_size(cuda_act_dtype(f))},
        {&s->ids, choices * i32},
        {&s->local, choices * i32},
        {&s->begin, ((size_t)s->n_here + 1) * i32},
        {&s->pair_row, choices * i32},
        {&s->pair_of, choices * i32},
        {&s->each, own * i32},
        {&s->y, choices * hidden * f32},
        {&s->wide, choices * hidden * f32},
        {&s->mine, own * hidden * f32},
        {&s->scratch,
         s->n_here > 0 ? agon_cuda_moe_scratch(moe, n_rows, top_k, cuda_gemm_mode(f)) : 0},
    };
    int r = cuda_buffers_alloc(&s->memory, wanted, sizeof(wanted) / sizeof(wanted[0]), err);
    if (r || (r = agon_cuda_exchange_count(s->each, (int)own, NULL, err)))
        return r;
    return agon_cuda_sync(NULL, err);
}

int cuda_share_init(struct cuda_share *s, struct cuda_forward *f, struct agon_group *g, int rank,
                    struct agon_err *err)
{
    *s = (struct cuda_share){.group = g, .n_ranks = agon_group_ranks(g)};
    cuda_weights_part(f->config->router.n_experts, rank, s->n_ranks, &s->first, &s->n_here);
    int r = moe_of(f) ? share_alloc(s, f, err) : 0;
    if (r || (r = cuda_nccl_new(&s->nccl, g, rank, err)))
        return r;
    f->share = s;
    return 0;
}

void cuda_share_deinit(struct cuda_share *s)
{
    cuda_nccl_free(s->nccl, s->group && agon_group_failed(s->group));
    agon_cuda_free(s->memory);
    *s = (struct cuda_share){0};
}

/* What this rank's experts make of everybody's rows: y, for the pairs of s->local. */
static int compute_here(struct cuda_share *s, struct cuda_run *run, int n)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    int top_k = c->router.top_k, n_rows = s->n_ranks * n;
    struct agon_cuda_moe_run moe = {.y = s->y,
                                    .ld_y = (size_t)c->hidden,
                                    .x = s->rows,
                                    .x_dtype = cuda_act_dtype(f),
                                    .ld_x = (size_t)c->hidden,
                                    .n_rows = n_rows,
                                    .top_k = top_k,
                                    .begin = s->begin,
                                    .pair_row = s->pair_row,
                                    .scratch = s->scratch};
    int r;
    if ((r = agon_cuda_exchange_local(s->local, s->ids, n_rows * top_k, s->first, s->n_here,
                                      run->stream, run->err)) ||
        s->n_here == 0 ||
        (r = agon_cuda_moe_group(s->begin, s->pair_row, s->pair_of, s->local, n_rows, NULL, top_k,
                                 s->n_here, run->stream, run->err)))
        return r;
    return agon_cuda_moe(&run->layer->moe, &moe, cuda_gemm_mode(f), run->stream, run->err);
}

/* Rows begin .. begin + n of every rank, `own` of which this one has. */
static int exchange(struct cuda_share *s, struct cuda_run *run, int begin, int n, int own)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    size_t top_k = (size_t)c->router.top_k, hidden = (size_t)c->hidden;
    size_t row = hidden * agon_dtype_size(cuda_act_dtype(f));
    int32_t *ids = f->route_ids + (size_t)begin * top_k;
    int n_choices = s->n_ranks * n * (int)top_k, r = 0;
    const struct cuda_nccl_array arrays[] = {
        {s->rows, (const char *)f->h + (size_t)begin * row, (size_t)n * row},
        {s->ids, ids, (size_t)n * top_k * sizeof(*ids)},
    };
    if (own < n) /* -1 is nobody's */
        r = agon_cuda_set(ids + (size_t)own * top_k, 0xff, (size_t)(n - own) * top_k * sizeof(*ids),
                          run->stream, run->err);
    if (r || (r = cuda_nccl_gather(s->nccl, arrays, 2, run->stream, run->err)) ||
        (r = compute_here(s, run, n)) ||
        (r = agon_cuda_exchange_spread(s->wide, s->y, hidden, s->pair_of, s->local, s->n_here,
                                       c->hidden, n_choices, run->stream, run->err)))
        return r;
    return cuda_nccl_sum(s->nccl, s->mine, s->wide, (size_t)n * top_k * hidden, run->stream,
                         run->err);
}

int cuda_share_experts(struct cuda_run *run, const struct agon_cuda_combine *combine)
{
    struct cuda_share *s = run->f->share;
    int n_all = run->pass->n_group_rows, r = 0;
    for (int begin = 0; begin < n_all && r == 0; begin += s->n_slice) {
        int n = n_all - begin < s->n_slice ? n_all - begin : s->n_slice;
        int own = combine->n_rows - begin;
        own = own < 0 ? 0 : own < n ? own : n;
        if ((r = exchange(s, run, begin, n, own)) || own == 0)
            continue;
        struct agon_cuda_combine part = *combine;
        part.x += (size_t)begin * part.ld_x;
        part.weights += begin * part.top_k;
        part.shared += part.shared ? (size_t)begin * part.ld_shared : 0;
        part.y = s->mine;
        part.y_dtype = AGON_F32;
        part.ld_y = (size_t)part.n;
        part.pair_of = s->each;
        part.n_rows = own;
        r = agon_cuda_moe_combine(&part, run->stream, run->err);
    }
    return r;
}

int cuda_share_sync(struct cuda_share *s, void *stream, struct agon_err *err)
{
    bool done = false;
    int r = 0;
    while (r == 0 && !done) {
        if (agon_group_failed(s->group)) {
            struct agon_group_plan none = {0};
            cuda_nccl_free(s->nccl, true); /* frees the stream of what waits for others */
            s->nccl = NULL;
            return agon_group_meet(s->group, &none, err); /* tells why */
        }
        r = agon_cuda_done(&done, stream, err);
        if (!done)
            (void)sched_yield(); /* a wish */
    }
    return r;
}
