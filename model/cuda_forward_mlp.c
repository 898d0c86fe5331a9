/*
 * The MLP of a layer on a GPU: dense, or routed experts and the shared one (engine.md 7); what
 * forward_mlp.c computes. Small models take fewer launches: the norms go together with the router
 * and with the sum over experts, and the shared expert is one more choice of each row.
 */
#include "kernels/cuda_small.h"
#include "model/cuda_forward_internal.h"
#include "model/cuda_share.h"

/* out = down(silu(gate h) * up h): the dense MLP, or the shared experts. */
static int run_gated(struct cuda_run *run, float *out, int inner)
{
    struct cuda_forward *f = run->f;
    size_t hidden = (size_t)f->config->hidden;
    struct cuda_product gate_up = {.out = f->act,
                                   .out_dtype = cuda_act_dtype(f),
                                   .ld_out = (size_t)inner,
                                   .x = f->h,
                                   .x_dtype = cuda_act_dtype(f),
                                   .ld_x = hidden,
                                   .gated = true};
    struct cuda_product down = {.out = out,
                                .ld_out = hidden,
                                .x = f->act,
                                .x_dtype = cuda_act_dtype(f),
                                .ld_x = (size_t)inner};
    int r = cuda_run_product(run, &gate_up, &run->layer->gate_up, cuda_gemm_mode(f));
    return r ? r : cuda_run_product(run, &down, &run->layer->down, cuda_gemm_mode(f));
}

/* What the router chose, to the records; ids [n_rows][ld_ids]. */
static int record_experts(struct cuda_run *run, size_t ld_ids)
{
    struct cuda_forward *f = run->f;
    int top_k = f->config->router.top_k;
    if (f->n_experts == 0)
        return 0;
    struct agon_cuda_rows rows = cuda_run_rows(run, 0, run->pass->n_rows, true);
    return agon_cuda_record_experts(f->experts, (size_t)f->n_experts, run->i_sparse * top_k,
                                    f->route_ids, ld_ids, top_k, &rows, run->stream, run->err);
}

static const uint16_t *forced_of(const struct cuda_run *run)
{
    const struct cuda_forward *f = run->f;
    size_t layer = (size_t)f->n_rows_max * (size_t)f->config->router.top_k;
    return run->pass->forced ? f->batch.forced + (size_t)run->i_sparse * layer : NULL;
}

/* The experts of each row, and its pairs in their order. */
static int run_route(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    const struct agon_router *router = &c->router;
    int n = run->pass->n_rows;
    struct cuda_product logits = {.out = f->route_logits,
                                  .ld_out = (size_t)router->n_experts,
                                  .x = f->h,
                                  .x_dtype = cuda_act_dtype(f),
                                  .ld_x = (size_t)c->hidden};
    /* A router in BF16 (cuda_weights.h) has exact products and sums in F32 in either way. */
    enum agon_gemm_mode mode =
        run->layer->router.dtype == AGON_BF16 ? AGON_GEMM_FAST : AGON_GEMM_EXACT;
    int r;
    if ((r = cuda_run_product(run, &logits, &run->layer->router, mode)) ||
        (r = agon_cuda_route(f->route_ids, f->route_weights, f->route_logits,
                             (size_t)router->n_experts, run->layer->router_bias, forced_of(run),
                             router, n, NULL, run->stream, run->err)) ||
        (r = agon_cuda_moe_group(f->begin, f->pair_row, f->pair_of, f->route_ids, n, NULL,
                                 router->top_k, router->n_experts, run->stream, run->err)))
        return r;
    return record_experts(run, (size_t)router->top_k);
}

static int run_experts(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    size_t hidden = (size_t)c->hidden;
    struct agon_cuda_moe_run moe = {.y = f->routed,
                                    .ld_y = hidden,
                                    .x = f->h,
                                    .x_dtype = cuda_act_dtype(f),
                                    .ld_x = hidden,
                                    .n_rows = run->pass->n_rows,
                                    .top_k = c->router.top_k,
                                    .begin = f->begin,
                                    .pair_row = f->pair_row,
                                    .scratch = f->moe_scratch};
    struct agon_cuda_combine combine = {.x = f->x,
                                        .ld_x = hidden,
                                        .y = f->routed,
                                        .y_dtype = AGON_F32,
                                        .ld_y = hidden,
                                        .pair_of = f->pair_of,
                                        .weights = f->route_weights,
                                        .top_k = c->router.top_k,
                                        .shared = c->n_shared > 0 ? f->shared_down : NULL,
                                        .ld_shared = hidden,
                                        .n = c->hidden,
                                        .n_rows = run->pass->n_rows};
    int r;
    if ((r = run_route(run)) ||
        (!f->share &&
         (r = agon_cuda_moe(&run->layer->moe, &moe, cuda_gemm_mode(f), run->stream, run->err))) ||
        (c->n_shared > 0 && (r = run_gated(run, f->shared_down, c->n_shared * c->expert_dim))))
        return r;
    return f->share ? cuda_share_experts(run, &combine)
                    : agon_cuda_moe_combine(&combine, run->stream, run->err);
}

/* ---- experts of small models -------------------------------------------------------- */

static int n_shared_choices(const struct cuda_run *run)
{
    return run->f->config->n_shared == 1;
}

/* The weights of all experts, the shared one behind them. */
static struct agon_cuda_matrix with_shared(const struct cuda_run *run,
                                           const struct agon_cuda_matrix *w)
{
    struct agon_cuda_matrix all = *w;
    int n_experts = run->f->config->router.n_experts;
    all.n += n_shared_choices(run) * w->n / n_experts;
    return all;
}

/* act = silu(gate h) * up h and routed = down act, pair by pair: the two products. */
static void small_products(const struct cuda_run *run, struct agon_cuda_gemm *gate_up,
                           struct agon_cuda_gemm *down)
{
    const struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    int n_pairs = run->pass->n_rows * (c->router.top_k + n_shared_choices(run));
    *gate_up = (struct agon_cuda_gemm){.out = f->act,
                                       .out_dtype = AGON_BF16,
                                       .ld_out = (size_t)c->expert_dim,
                                       .x = f->h,
                                       .x_dtype = AGON_BF16,
                                       .ld_x = (size_t)c->hidden,
                                       .rows = f->pair_row,
                                       .n_rows = n_pairs,
                                       .gated = true};
    *down = (struct agon_cuda_gemm){.out = f->routed,
                                    .ld_out = (size_t)c->hidden,
                                    .x = f->act,
                                    .x_dtype = AGON_BF16,
                                    .ld_x = (size_t)c->expert_dim,
                                    .n_rows = n_pairs};
}

static bool experts_are_small(const struct cuda_run *run)
{
    const struct agon_config *c = run->f->config;
    struct agon_cuda_gemm gate_up, down;
    int n_groups = c->router.n_experts + n_shared_choices(run);
    small_products(run, &gate_up, &down);
    return run->f->fast && !run->f->share && c->n_shared <= 1 &&
           agon_cuda_norm_route_fits(&c->router, c->hidden) &&
           agon_cuda_small_does(&gate_up, &run->layer->moe.gate_up, n_groups) &&
           agon_cuda_small_does(&down, &run->layer->moe.down, n_groups);
}

/* h = norm(x + attention), the router's choice and its pairs. */
static int small_route(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    struct agon_cuda_norm_route route = {.norm = cuda_run_norm_of(run, run->layer->mlp_norm),
                                         .router = run->layer->router,
                                         .bias = run->layer->router_bias,
                                         .forced = forced_of(run),
                                         .options = c->router,
                                         .shared = c->n_shared == 1,
                                         .ids = f->route_ids,
                                         .weights = f->route_weights,
                                         .begin = f->begin,
                                         .pair_row = f->pair_row,
                                         .pair_of = f->pair_of,
                                         .counter = f->route_counter};
    run->pending = NULL;
    int r = agon_cuda_norm_route(&route, run->stream, run->err);
    return r ? r : record_experts(run, (size_t)(c->router.top_k + n_shared_choices(run)));
}

static int run_small_experts(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    size_t hidden = (size_t)c->hidden;
    int n_groups = c->router.n_experts + n_shared_choices(run);
    struct agon_cuda_gemm gate_up, down;
    struct agon_cuda_matrix w_gate_up = with_shared(run, &run->layer->moe.gate_up);
    struct agon_cuda_matrix w_down = with_shared(run, &run->layer->moe.down);
    struct agon_cuda_combine combine = {.x = f->x,
                                        .ld_x = hidden,
                                        .y = f->routed,
                                        .ld_y = hidden,
                                        .pair_of = f->pair_of,
                                        .weights = f->route_weights,
                                        .top_k = c->router.top_k + n_shared_choices(run),
                                        .n = c->hidden,
                                        .n_rows = run->pass->n_rows};
    bool last = run->i_layer + 1 == c->n_layers;
    struct agon_cuda_norm norm = cuda_run_norm_of(
        run, last ? f->weights.norm : f->weights.layers[run->i_layer + 1].attention_norm);
    int r;
    norm.add = NULL;
    small_products(run, &gate_up, &down);
    if ((r = small_route(run)) ||
        (r = agon_cuda_small(&gate_up, &w_gate_up, n_groups, f->begin, run->stream, run->err)) ||
        (r = agon_cuda_small(&down, &w_down, n_groups, f->begin, run->stream, run->err)) ||
        (r = agon_cuda_combine_norm(&combine, &norm, run->stream, run->err)))
        return r;
    run->normed = true;
    return 0;
}

int cuda_run_mlp(struct cuda_run *run)
{
    int r;
    if (run->f->config->sparse[run->i_layer] && experts_are_small(run))
        return run_small_experts(run);
    if ((r = cuda_run_norm(run, run->layer->mlp_norm)))
        return r;
    if (run->f->config->sparse[run->i_layer])
        return run_experts(run);
    r = run_gated(run, run->f->update, run->f->config->dense_dim);
    if (r == 0)
        run->pending = run->f->update;
    return r;
}
