/*
 * A layer of the pass on a GPU: attention (latent cache, lightning indexer, top-k, absorbed MLA)
 * and the MLP (engine.md 4, 5 and 7). What is computed is forward_attention.c's and
 * forward_mlp.c's.
 */
#include "kernels/cuda_latents.h"
#include "model/cuda_forward_internal.h"

/* Both are 1e-6 in every implementation, whatever rms_norm_eps is. */
#define LATENT_EPS 1e-6F

static size_t sizes(int a, int b)
{
    return (size_t)a * (size_t)b;
}

struct agon_cuda_rows cuda_run_rows(const struct cuda_run *run, int begin, int n, bool store)
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

static struct agon_mla_cache cache_of(const struct cuda_run *run)
{
    const struct cuda_forward *f = run->f;
    return (struct agon_mla_cache){.latents =
                                       f->latents + (size_t)run->i_layer * f->latent_layer_bytes,
                                   .format = f->latent_format,
                                   .kv_lora = f->config->kv_lora,
                                   .rope_dim = f->config->rope_dim};
}

static struct agon_cuda_keys keys_of(const struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    return (struct agon_cuda_keys){.pool = f->keys + (size_t)run->i_indexer * f->keys_layer_bytes,
                                   .format = f->keys_format,
                                   .index_dim = f->config->index_dim,
                                   .n_pages = f->n_pages};
}

static struct agon_mla_rows mla_rows(const struct agon_cuda_rows *rows)
{
    return (struct agon_mla_rows){.n_rows = rows->n_rows,
                                  .sequence = rows->row_sequence,
                                  .position = rows->row_position,
                                  .pages = rows->pages,
                                  .ld_pages = rows->ld_pages};
}

/* The q latent, and the cache's new entries. */
static int run_latents(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    bool indexer = c->indexer[run->i_layer];
    struct agon_cuda_latents latents = {.input = f->input,
                                        .ld_input = (size_t)run->layer->input.n,
                                        .q_lora = c->q_lora,
                                        .index_dim = indexer ? c->index_dim : 0,
                                        .eps = LATENT_EPS,
                                        .q_norm = run->layer->q_a_norm,
                                        .kv_norm = run->layer->kv_a_norm,
                                        .index_norm = run->layer->index_norm,
                                        .index_bias = run->layer->index_bias,
                                        .cosine = f->cosine,
                                        .sine = f->sine,
                                        .index_interleaved = c->index_interleaved,
                                        .q_latent = f->q_latent,
                                        .q_dtype = cuda_act_dtype(f),
                                        .cache = cache_of(run),
                                        .keys = keys_of(run),
                                        .entry_rows = f->entry_rows,
                                        .key_rows = f->key_rows,
                                        .store = cuda_run_rows(run, 0, run->pass->n_rows, true)};
    return agon_cuda_latents(&latents, run->stream, run->err);
}

/* ---- what a row reads --------------------------------------------------------------- */

/* While no row sees more than index_topk positions all are selected, and nothing is computed. */
static bool selects_all(const struct cuda_run *run)
{
    return run->pass->n_max <= run->f->config->index_topk && run->f->n_selected == 0 &&
           !run->pass->select_all;
}

/* Does this layer score positions? */
static bool scores_positions(const struct cuda_run *run)
{
    const struct agon_config *c = run->f->config;
    return c->indexer[run->i_layer] && run->pass->n_max > c->index_topk;
}

/* Rows [first, first + n) of a matrix. */
static struct agon_cuda_matrix matrix_rows(const struct agon_cuda_matrix *w, int first, int n)
{
    struct agon_cuda_matrix part = *w;
    part.data = (char *)w->data + (size_t)first * w->ld * agon_dtype_size(w->dtype);
    part.n = n;
    return part;
}

/* absorbed = [q_nope W_UK; rotated q_pe] for each head; the indexer's queries and weights. */
static int run_queries(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    bool scores = scores_positions(run);
    int qk = c->nope_dim + c->rope_dim, entry = cuda_entry_dim(c);
    int n_query = c->n_heads * qk + (scores ? c->index_heads * c->index_dim : 0);
    size_t ld_query = (size_t)n_query, ld_absorbed = sizes(c->n_heads, entry);
    struct agon_cuda_matrix wq = matrix_rows(&run->layer->query, 0, n_query);
    struct cuda_product query = {.out = f->query,
                                 .out_dtype = cuda_query_dtype(f),
                                 .ld_out = ld_query,
                                 .x = f->q_latent,
                                 .x_dtype = cuda_act_dtype(f),
                                 .ld_x = (size_t)c->q_lora};
    struct cuda_product absorb = {.out = f->absorbed,
                                  .out_dtype = cuda_query_dtype(f),
                                  .x_dtype = cuda_query_dtype(f),
                                  .ld_out = ld_absorbed,
                                  .x = f->query,
                                  .ld_x = ld_query,
                                  .n_batch = c->n_heads,
                                  .batch_x = (size_t)qk,
                                  .batch_out = (size_t)entry};
    struct agon_cuda_queries rest = {.query = f->query,
                                     .query_dtype = cuda_query_dtype(f),
                                     .entry_dtype = cuda_query_dtype(f),
                                     .ld_query = ld_query,
                                     .n_heads = c->n_heads,
                                     .nope_dim = c->nope_dim,
                                     .rope_dim = c->rope_dim,
                                     .kv_lora = c->kv_lora,
                                     .entry = f->absorbed,
                                     .index_heads = scores ? c->index_heads : 0,
                                     .index_dim = c->index_dim,
                                     .index_interleaved = c->index_interleaved,
                                     .index_query = f->index_query,
                                     .index_weights_from =
                                         f->input + c->q_lora + entry + c->index_dim,
                                     .ld_weights_from = (size_t)run->layer->input.n,
                                     .index_codes = f->fp8 ? f->index_codes : NULL,
                                     .index_weights = f->index_weights,
                                     .index_scale = f->index_scale,
                                     .cosine = f->cosine,
                                     .sine = f->sine,
                                     .n_rows = run->pass->n_rows};
    int r;
    if (f->fp8) {
        rest.index_weights_from = f->index_input;
        rest.ld_weights_from = (size_t)c->index_heads;
    }
    if ((f->fp8 && scores && (r = cuda_run_index_input(run))) ||
        (r = cuda_run_product(run, &query, &wq, cuda_gemm_mode(f))) ||
        (r = cuda_run_product(run, &absorb, &run->layer->absorb, cuda_gemm_mode(f))))
        return r;
    return agon_cuda_queries(&rest, run->stream, run->err);
}

/* Scores and top-k of rows [begin, begin + n): slots, and positions where somebody wants them. */
static int select_rows(struct cuda_run *run, int begin, int n, bool positions)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    struct agon_cuda_keys keys = keys_of(run);
    struct agon_cuda_rows rows = cuda_run_rows(run, begin, n, false);
    size_t topk = (size_t)c->index_topk, ld = (size_t)run->pass->n_max, at = (size_t)begin * topk;
    size_t first = sizes(begin, c->index_heads * c->index_dim);
    const void *query = f->fp8 ? (const void *)(f->index_codes + first) : f->index_query + first;
    int r = 0;
    rows.plan = cuda_plan_at(run, begin);
    if (scores_positions(run) &&
        (r = agon_cuda_index_scores(f->scores, ld, &keys, query,
                                    f->index_weights + sizes(begin, c->index_heads), c->index_heads,
                                    c->index_topk, &rows, run->stream, run->err)))
        return r;
    r = agon_cuda_topk(f->slots + at, topk, f->n_slots + begin, f->scores, ld, c->index_topk, true,
                       &rows, run->stream, run->err);
    if (r == 0 && positions)
        r = agon_cuda_topk(f->positions + at, topk, NULL, f->scores, ld, c->index_topk, false,
                           &rows, run->stream, run->err);
    return r;
}

static int select_all_rows(struct cuda_run *run, bool positions)
{
    int n_rows = run->pass->n_rows, r = 0;
    int n_most = cuda_score_rows(run);
    for (int begin = 0; begin < n_rows && r == 0; begin += n_most)
        r = select_rows(run, begin, n_rows - begin < n_most ? n_rows - begin : n_most, positions);
    return r;
}

static int run_select(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    if (selects_all(run) || !c->indexer[run->i_layer])
        return 0;
    int r = select_all_rows(run, f->n_selected > 0 || run->pass->select_all);
    if (r || f->n_selected == 0)
        return r;
    struct agon_cuda_rows rows = cuda_run_rows(run, 0, run->pass->n_rows, true);
    return agon_cuda_record_selected(
        f->selected, (size_t)f->n_selected, run->i_indexer * c->index_topk, f->positions,
        (size_t)c->index_topk, c->index_topk, &rows, run->stream, run->err);
}

static int run_attend(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    bool all = selects_all(run);
    struct agon_cuda_rows rows = cuda_run_rows(run, 0, run->pass->n_rows, false);
    struct agon_mla mla = {.cache = cache_of(run),
                           .rows = mla_rows(&rows),
                           .n_heads = c->n_heads,
                           .scale = f->softmax_scale,
                           .q = f->absorbed,
                           .out = f->attended,
                           .q_dtype = cuda_query_dtype(f),
                           .out_dtype = cuda_query_dtype(f),
                           .selected = all ? NULL : f->slots,
                           .n_selected = all ? NULL : f->n_slots,
                           .ld_selected = c->index_topk,
                           .n_positions_max = all ? run->pass->n_max : 0,
                           .split = f->mla_split,
                           .plain = !f->fast,
                           .scratch = f->mla_scratch};
    return agon_mla_cuda(&mla, run->stream, run->err);
}

int cuda_run_attention(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    size_t hidden = (size_t)c->hidden;
    struct cuda_product input = {.out = f->input,
                                 .ld_out = (size_t)run->layer->input.n,
                                 .x = f->h,
                                 .x_dtype = cuda_act_dtype(f),
                                 .ld_x = hidden};
    struct cuda_product value = {.out = f->heads,
                                 .out_dtype = cuda_act_dtype(f),
                                 .ld_out = sizes(c->n_heads, c->v_dim),
                                 .x = f->attended,
                                 .x_dtype = cuda_query_dtype(f),
                                 .ld_x = sizes(c->n_heads, c->kv_lora),
                                 .n_batch = c->n_heads,
                                 .batch_x = (size_t)c->kv_lora,
                                 .batch_out = (size_t)c->v_dim};
    struct cuda_product output = {.out = f->update,
                                  .ld_out = hidden,
                                  .x = f->heads,
                                  .x_dtype = cuda_act_dtype(f),
                                  .ld_x = sizes(c->n_heads, c->v_dim)};
    int r;
    if ((r = cuda_run_product(run, &input, &run->layer->input, cuda_gemm_mode(f))) ||
        (r = run_latents(run)) || (r = run_queries(run)) || (r = run_select(run)) ||
        (r = run_attend(run)) ||
        (r = cuda_run_product(run, &value, &run->layer->value, cuda_gemm_mode(f))) ||
        (r = cuda_run_product(run, &output, &run->layer->output, cuda_gemm_mode(f))))
        return r;
    run->pending = f->update;
    return 0;
}
