/* The gated MLPs of the forward pass: dense, or routed experts and the shared one (engine.md 7).
 * Rows are grouped by expert, so each expert's weights are read once for the batch. */
#include "model/forward_internal.h"

static struct matmul_job job_of(float *out, int ld_out, const float *x, int ld_x, int n_rows,
                                const struct agon_matrix *w)
{
    return (struct matmul_job){.out = out,
                               .ld_out = (size_t)ld_out,
                               .x = x,
                               .ld_x = (size_t)ld_x,
                               .n_rows = n_rows,
                               .w = w};
}

static void swiglu_rows(struct agon_forward *f, float *act, const float *gate_up, int begin, int n,
                        int inner)
{
    f->kernels->swiglu(act + (size_t)begin * (size_t)inner, (size_t)inner,
                       gate_up + 2 * (size_t)begin * (size_t)inner, 2 * (size_t)inner, n, inner);
}

static void dense_act_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    int begin, n = forward_task_rows(f, task, &begin);
    (void)thread; /* needs no scratch */
    swiglu_rows(f, f->act, f->gate_up, begin, n, f->config->dense_dim);
}

/* As many pairs as rows * top_k: a task takes the pairs of its share, and its shared rows. */
static void experts_act_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    const struct agon_config *c = f->config;
    int begin, n = forward_task_rows(f, task, &begin), top_k = c->router.top_k;
    (void)thread; /* needs no scratch */
    swiglu_rows(f, f->act, f->gate_up, begin * top_k, n * top_k, c->expert_dim);
    if (c->n_shared > 0)
        swiglu_rows(f, f->shared_act, f->shared_gate_up, begin, n, c->n_shared * c->expert_dim);
}

static void forward_dense(struct agon_forward *f)
{
    int hidden = f->config->hidden, inner = f->config->dense_dim;
    const struct agon_mlp *mlp = &f->layer->dense;
    f->jobs[0] = job_of(f->gate_up, 2 * inner, f->h, hidden, f->n_rows, &mlp->gate_up);
    forward_matmuls(f, 1);
    forward_rows(f, dense_act_task);
    f->jobs[0] = job_of(f->update, hidden, f->act, inner, f->n_rows, &mlp->down);
    forward_matmuls(f, 1);
}

static void forward_experts(struct agon_forward *f)
{
    const struct agon_config *c = f->config;
    int hidden = c->hidden, inner = c->expert_dim, shared = c->n_shared * inner, n_jobs = 0;
    agon_moe_group(f->begin, f->pair_row, f->pair_of, f->route_ids, f->n_rows, c->router.top_k,
                   c->router.n_experts);
    for (int e = 0; e < c->router.n_experts; e++) {
        int first = f->begin[e], n = f->begin[e + 1] - first;
        f->jobs[n_jobs] = job_of(f->gate_up + 2 * (size_t)first * (size_t)inner, 2 * inner, f->h,
                                 hidden, n, &f->layer->experts[e].gate_up);
        f->jobs[n_jobs++].rows = f->pair_row + first;
    }
    if (shared > 0)
        f->jobs[n_jobs++] = job_of(f->shared_gate_up, 2 * shared, f->h, hidden, f->n_rows,
                                   &f->layer->shared.gate_up);
    forward_matmuls(f, n_jobs);
    forward_rows(f, experts_act_task);

    n_jobs = 0;
    for (int e = 0; e < c->router.n_experts; e++) {
        int first = f->begin[e], n = f->begin[e + 1] - first;
        f->jobs[n_jobs++] =
            job_of(f->down + (size_t)first * (size_t)hidden, hidden,
                   f->act + (size_t)first * (size_t)inner, inner, n, &f->layer->experts[e].down);
    }
    if (shared > 0)
        f->jobs[n_jobs++] = job_of(f->shared_down, hidden, f->shared_act, shared, f->n_rows,
                                   &f->layer->shared.down);
    forward_matmuls(f, n_jobs);
}

void forward_mlp(struct agon_forward *f)
{
    if (f->config->sparse[f->i_layer])
        forward_experts(f);
    else
        forward_dense(f);
}
