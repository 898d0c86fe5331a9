/*
 * A layer of the pass on a GPU: attention (latent cache, lightning indexer, top-k, absorbed MLA)
 * and the MLP (engine.md 4, 5 and 7). What is computed is forward_attention.c's and
 * forward_mlp.c's.
 */
#include "model/cuda_forward_internal.h"

/* Both are 1e-6 in every implementation, whatever rms_norm_eps is. */
#define LATENT_EPS 1e-6F

static size_t sizes(int a, int b)
{
    return (size_t)a * (size_t)b;
}

/* Rows `begin` to `begin + n`, for reading the cache or for storing. */
static struct agon_cuda_rows rows_of(const struct cuda_run *run, int begin, int n, bool store)
{
    const struct cuda_batch *b = &run->f->batch;
    return (struct agon_cuda_rows){
        .n_rows = n,
        .n_max = run->pass->n_max,
        .row_sequence = (store && run->pass->store_apart ? b->store : b->sequence) + begin,
        .row_position = b->position + begin,
        .pages = b->pages,
        .ld_pages = run->pass->ld_pages};
}

/* ---- what a row leaves in the cache ------------------------------------------------- */

/* n_heads times 2 * half values in place. */
static int rotate(struct cuda_run *run, float *x, size_t ld_x, int n_heads, size_t ld_head,
                  bool interleaved)
{
    const struct cuda_forward *f = run->f;
    struct agon_cuda_rope rope = {.out = x,
                                  .ld_out = ld_x,
                                  .ld_out_head = ld_head,
                                  .x = x,
                                  .ld_x = ld_x,
                                  .ld_head = ld_head,
                                  .n_heads = n_heads,
                                  .half = f->config->rope_dim / 2,
                                  .interleaved = interleaved,
                                  .cosine = f->cosine,
                                  .sine = f->sine,
                                  .n_rows = run->pass->n_rows};
    return agon_cuda_rope(&rope, run->stream, run->err);
}

static int store_latents(struct cuda_run *run, float *kv)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    size_t ld = (size_t)cuda_input_width(c);
    struct agon_cuda_norm norm = {.out = kv,
                                  .out_dtype = AGON_F32,
                                  .ld_out = ld,
                                  .x = kv,
                                  .ld_x = ld,
                                  .w = run->layer->kv_a_norm,
                                  .n = c->kv_lora,
                                  .n_rows = run->pass->n_rows,
                                  .eps = LATENT_EPS};
    struct agon_cuda_rows rows = rows_of(run, 0, run->pass->n_rows, true);
    struct agon_mla_cache cache = {.latents =
                                       f->latents + (size_t)run->i_layer * f->latent_layer_bytes,
                                   .format = f->latent_format,
                                   .kv_lora = c->kv_lora,
                                   .rope_dim = c->rope_dim};
    struct agon_mla_rows at = {.n_rows = rows.n_rows,
                               .sequence = rows.row_sequence,
                               .position = rows.row_position,
                               .pages = rows.pages,
                               .ld_pages = rows.ld_pages};
    int r;
    if ((r = agon_cuda_rmsnorm(&norm, run->stream, run->err)) ||
        (r = rotate(run, kv + c->kv_lora, ld, 1, 0, true)))
        return r;
    return agon_mla_store_cuda(&cache, kv, AGON_F32, ld, &at, run->stream, run->err);
}

static struct agon_cuda_keys keys_of(const struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    return (struct agon_cuda_keys){.pool = f->keys + (size_t)run->i_indexer * f->keys_layer_bytes,
                                   .format = f->keys_format,
                                   .index_dim = f->config->index_dim,
                                   .n_pages = f->n_pages};
}

static int store_keys(struct cuda_run *run, float *key)
{
    const struct agon_config *c = run->f->config;
    size_t ld = (size_t)cuda_input_width(c);
    struct agon_cuda_norm norm = {.out = key,
                                  .out_dtype = AGON_F32,
                                  .ld_out = ld,
                                  .x = key,
                                  .ld_x = ld,
                                  .w = run->layer->index_norm,
                                  .n = c->index_dim,
                                  .n_rows = run->pass->n_rows,
                                  .eps = LATENT_EPS};
    struct agon_cuda_keys keys = keys_of(run);
    struct agon_cuda_rows rows = rows_of(run, 0, run->pass->n_rows, true);
    int r;
    if ((r = agon_cuda_layernorm(&norm, run->layer->index_bias, run->stream, run->err)) ||
        (r = rotate(run, key, ld, 1, 0, c->index_interleaved)))
        return r;
    return agon_cuda_index_store(&keys, key, ld, &rows, run->stream, run->err);
}

/* ---- what a row reads --------------------------------------------------------------- */

/* Rows [first, first + n) of a matrix. */
static struct agon_cuda_matrix matrix_rows(const struct agon_cuda_matrix *w, int first, int n)
{
    struct agon_cuda_matrix part = *w;
    part.data = (char *)w->data + (size_t)first * w->ld * agon_dtype_size(w->dtype);
    part.n = n;
    return part;
}

/* Queries and weights of the indexer. The weights lack the constant 1 / sqrt(heads * dim), which is
 * positive and changes no order. */
static int index_queries(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    int n_query = c->n_heads * (c->nope_dim + c->rope_dim), n = c->index_heads * c->index_dim;
    struct agon_cuda_matrix wq = matrix_rows(&run->layer->query, n_query, n);
    struct cuda_product query = {.out = f->index_query,
                                 .ld_out = (size_t)n,
                                 .x = f->q_latent,
                                 .x_dtype = cuda_act_dtype(f),
                                 .ld_x = (size_t)c->q_lora};
    struct cuda_product weights = {.out = f->index_weights,
                                   .ld_out = (size_t)c->index_heads,
                                   .x = f->h,
                                   .x_dtype = cuda_act_dtype(f),
                                   .ld_x = (size_t)c->hidden};
    int r;
    if ((r = cuda_run_product(run, &query, &wq, cuda_gemm_mode(f))) ||
        (r = cuda_run_product(run, &weights, &run->layer->index_weights, AGON_GEMM_EXACT)))
        return r;
    return rotate(run, f->index_query, (size_t)n, c->index_heads, (size_t)c->index_dim,
                  c->index_interleaved);
}

/* Scores and top-k of rows [begin, begin + n): slots, and positions where somebody wants them. */
static int select_rows(struct cuda_run *run, int begin, int n, bool positions)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    struct agon_cuda_keys keys = keys_of(run);
    struct agon_cuda_rows rows = rows_of(run, begin, n, false);
    size_t topk = (size_t)c->index_topk, ld = (size_t)run->pass->n_max, at = (size_t)begin * topk;
    int r = 0;
    if (run->pass->n_max > c->index_topk)
        r = agon_cuda_index_scores(f->scores, ld, &keys,
                                   f->index_query + sizes(begin, c->index_heads * c->index_dim),
                                   f->index_weights + sizes(begin, c->index_heads), c->index_heads,
                                   c->index_topk, &rows, run->stream, run->err);
    if (r == 0)
        r = agon_cuda_topk(f->slots + at, topk, f->n_slots + begin, f->scores, ld, c->index_topk,
                           true, &rows, run->stream, run->err);
    if (r == 0 && positions)
        r = agon_cuda_topk(f->positions + at, topk, NULL, f->scores, ld, c->index_topk, false,
                           &rows, run->stream, run->err);
    return r;
}

/* While no row sees more than index_topk positions all are selected, and nothing is computed. */
static bool selects_all(const struct cuda_run *run)
{
    return run->pass->n_max <= run->f->config->index_topk && run->f->n_selected == 0 &&
           !run->pass->select_all;
}

static int run_select(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    bool positions = f->n_selected > 0 || run->pass->select_all;
    int n_rows = run->pass->n_rows, r = 0;
    int n_most = (int)(f->scores_bytes / (sizes(run->pass->n_max, sizeof(float))));
    if (selects_all(run) || !c->indexer[run->i_layer])
        return 0;
    if (run->pass->n_max > c->index_topk && (r = index_queries(run)))
        return r;
    for (int begin = 0; begin < n_rows; begin += n_most) {
        int n = n_rows - begin < n_most ? n_rows - begin : n_most;
        if ((r = select_rows(run, begin, n, positions)))
            return r;
    }
    if (f->n_selected == 0)
        return 0;
    struct agon_cuda_rows rows = rows_of(run, 0, n_rows, true);
    return agon_cuda_record_selected(f->selected, (size_t)f->n_selected,
                                     run->i_indexer * c->index_topk, f->positions, c->index_topk,
                                     &rows, run->stream, run->err);
}

/* absorbed = [q_nope W_UK; rotated q_pe] for each head. */
static int run_queries(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    int qk = c->nope_dim + c->rope_dim, entry = cuda_entry_dim(c);
    size_t ld_query = sizes(c->n_heads, qk), ld_absorbed = sizes(c->n_heads, entry);
    struct agon_cuda_matrix wq = matrix_rows(&run->layer->query, 0, c->n_heads * qk);
    struct cuda_product query = {.out = f->query,
                                 .ld_out = ld_query,
                                 .x = f->q_latent,
                                 .x_dtype = cuda_act_dtype(f),
                                 .ld_x = (size_t)c->q_lora};
    struct cuda_product absorb = {.out = f->absorbed,
                                  .ld_out = ld_absorbed,
                                  .x = f->query,
                                  .ld_x = ld_query,
                                  .n_batch = c->n_heads,
                                  .batch_x = (size_t)qk,
                                  .batch_out = (size_t)entry};
    struct agon_cuda_rope rope = {.out = f->absorbed + c->kv_lora,
                                  .ld_out = ld_absorbed,
                                  .ld_out_head = (size_t)entry,
                                  .x = f->query + c->nope_dim,
                                  .ld_x = ld_query,
                                  .ld_head = (size_t)qk,
                                  .n_heads = c->n_heads,
                                  .half = c->rope_dim / 2,
                                  .interleaved = true,
                                  .cosine = f->cosine,
                                  .sine = f->sine,
                                  .n_rows = run->pass->n_rows};
    int r;
    if ((r = cuda_run_product(run, &query, &wq, cuda_gemm_mode(f))) ||
        (r = cuda_run_product(run, &absorb, &run->layer->absorb, cuda_gemm_mode(f))))
        return r;
    return agon_cuda_rope(&rope, run->stream, run->err);
}

static int run_attend(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    const struct cuda_batch *b = &f->batch;
    bool all = selects_all(run);
    struct agon_mla mla = {
        .cache = {.latents = f->latents + (size_t)run->i_layer * f->latent_layer_bytes,
                  .format = f->latent_format,
                  .kv_lora = c->kv_lora,
                  .rope_dim = c->rope_dim},
        .rows = {.n_rows = run->pass->n_rows,
                 .sequence = b->sequence,
                 .position = b->position,
                 .pages = b->pages,
                 .ld_pages = run->pass->ld_pages},
        .n_heads = c->n_heads,
        .scale = f->softmax_scale,
        .q = f->absorbed,
        .out = f->attended,
        .selected = all ? NULL : f->slots,
        .n_selected = all ? NULL : f->n_slots,
        .ld_selected = c->index_topk,
        .n_positions_max = all ? run->pass->n_max : 0};
    struct cuda_product value = {.out = f->heads,
                                 .out_dtype = cuda_act_dtype(f),
                                 .ld_out = sizes(c->n_heads, c->v_dim),
                                 .x = f->attended,
                                 .ld_x = sizes(c->n_heads, c->kv_lora),
                                 .n_batch = c->n_heads,
                                 .batch_x = (size_t)c->kv_lora,
                                 .batch_out = (size_t)c->v_dim};
    int r;
    if ((r = agon_mla_cuda(&mla, run->stream, run->err)))
        return r;
    return cuda_run_product(run, &value, &run->layer->value, cuda_gemm_mode(f));
}

int cuda_run_attention(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    size_t hidden = (size_t)c->hidden, width = (size_t)cuda_input_width(c);
    struct cuda_product input = {
        .out = f->input, .ld_out = width, .x = f->h, .x_dtype = cuda_act_dtype(f), .ld_x = hidden};
    struct agon_cuda_norm norm = {.out = f->q_latent,
                                  .out_dtype = cuda_act_dtype(f),
                                  .ld_out = (size_t)c->q_lora,
                                  .x = f->input,
                                  .ld_x = width,
                                  .w = run->layer->q_a_norm,
                                  .n = c->q_lora,
                                  .n_rows = run->pass->n_rows,
                                  .eps = LATENT_EPS};
    struct cuda_product output = {.out = f->update,
                                  .ld_out = hidden,
                                  .x = f->heads,
                                  .x_dtype = cuda_act_dtype(f),
                                  .ld_x = sizes(c->n_heads, c->v_dim)};
    float *kv = f->input + c->q_lora;
    int r;
    if ((r = cuda_run_product(run, &input, &run->layer->input, cuda_gemm_mode(f))) ||
        (r = agon_cuda_rmsnorm(&norm, run->stream, run->err)) || (r = store_latents(run, kv)) ||
        (c->indexer[run->i_layer] && (r = store_keys(run, kv + cuda_entry_dim(c)))) ||
        (r = run_select(run)) || (r = run_queries(run)) || (r = run_attend(run)) ||
        (r = cuda_run_product(run, &output, &run->layer->output, cuda_gemm_mode(f))))
        return r;
    run->pending = f->update;
    return 0;
}

/* ---- MLP ---------------------------------------------------------------------------- */

/* out = down(silu(gate h) * up h): the dense MLP, or the shared experts. */
static int run_gated(struct cuda_run *run, float *out, int inner)
{
    struct cuda_forward *f = run->f;
    size_t hidden = (size_t)f->config->hidden;
    struct cuda_product gate_up = {.out = f->gate_up,
                                   .ld_out = 2 * (size_t)inner,
                                   .x = f->h,
                                   .x_dtype = cuda_act_dtype(f),
                                   .ld_x = hidden};
    struct cuda_product down = {.out = out,
                                .ld_out = hidden,
                                .x = f->act,
                                .x_dtype = cuda_act_dtype(f),
                                .ld_x = (size_t)inner};
    int r;
    if ((r = cuda_run_product(run, &gate_up, &run->layer->gate_up, cuda_gemm_mode(f))) ||
        (r = agon_cuda_swiglu(f->act, cuda_act_dtype(f), (size_t)inner, f->gate_up,
                              2 * (size_t)inner, inner, run->pass->n_rows, NULL, run->stream,
                              run->err)))
        return r;
    return cuda_run_product(run, &down, &run->layer->down, cuda_gemm_mode(f));
}

/* The experts of each row, and its pairs in their order. */
static int run_route(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    const struct agon_router *router = &c->router;
    int n = run->pass->n_rows;
    const uint16_t *forced =
        run->pass->forced
            ? f->batch.forced + (size_t)run->i_sparse * sizes(f->n_rows_max, router->top_k)
            : NULL;
    struct cuda_product logits = {.out = f->route_logits,
                                  .ld_out = (size_t)router->n_experts,
                                  .x = f->h,
                                  .x_dtype = cuda_act_dtype(f),
                                  .ld_x = (size_t)c->hidden};
    int r;
    if ((r = cuda_run_product(run, &logits, &run->layer->router, AGON_GEMM_EXACT)) ||
        (r = agon_cuda_route(f->route_ids, f->route_weights, f->route_logits,
                             (size_t)router->n_experts, run->layer->router_bias, forced, router, n,
                             NULL, run->stream, run->err)) ||
        (r = agon_cuda_moe_group(f->begin, f->pair_row, f->pair_of, f->route_ids, n, NULL,
                                 router->top_k, router->n_experts, run->stream, run->err)))
        return r;
    if (f->n_experts == 0)
        return 0;
    struct agon_cuda_rows rows = rows_of(run, 0, n, true);
    return agon_cuda_record_experts(f->experts, (size_t)f->n_experts, run->i_sparse * router->top_k,
                                    f->route_ids, router->top_k, &rows, run->stream, run->err);
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
        (r = agon_cuda_moe(&run->layer->moe, &moe, cuda_gemm_mode(f), run->stream, run->err)) ||
        (c->n_shared > 0 && (r = run_gated(run, f->shared_down, c->n_shared * c->expert_dim))))
        return r;
    return agon_cuda_moe_combine(&combine, run->stream, run->err);
}

int cuda_run_mlp(struct cuda_run *run)
{
    if (run->f->config->sparse[run->i_layer])
        return run_experts(run);
    int r = run_gated(run, run->f->update, run->f->config->dense_dim);
    if (r == 0)
        run->pending = run->f->update;
    return r;
}
