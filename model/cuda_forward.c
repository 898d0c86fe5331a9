/*
 * The pass on a GPU: see cuda_forward.h. The order of layers and stages is forward.c's; each stage
 * is a launch.
 */
#include "kernels/cuda_small.h"
#include "model/cuda_forward_internal.h"
#include "model/cuda_share.h"

#include <math.h>
#include <stdlib.h>

struct agon_cuda_norm cuda_run_norm_of(const struct cuda_run *run, const float *w)
{
    struct cuda_forward *f = run->f;
    size_t hidden = (size_t)f->config->hidden;
    return (struct agon_cuda_norm){.out = f->h,
                                   .out_dtype = cuda_act_dtype(f),
                                   .ld_out = hidden,
                                   .x = f->x,
                                   .ld_x = hidden,
                                   .add = run->pending,
                                   .ld_add = hidden,
                                   .w = w,
                                   .n = f->config->hidden,
                                   .n_rows = run->pass->n_rows,
                                   .eps = f->config->norm_eps};
}

int cuda_run_norm(struct cuda_run *run, const float *w)
{
    struct agon_cuda_norm norm = cuda_run_norm_of(run, w);
    if (run->normed) {
        run->normed = false;
        return 0;
    }
    run->pending = NULL;
    return agon_cuda_rmsnorm(&norm, run->stream, run->err);
}

int cuda_run_product(struct cuda_run *run, const struct cuda_product *p,
                     const struct agon_cuda_matrix *w, enum agon_gemm_mode mode)
{
    struct agon_cuda_gemm gemm = {.out = p->out,
                                  .out_dtype = p->out_dtype,
                                  .ld_out = p->ld_out,
                                  .x = p->x,
                                  .x_dtype = p->x_dtype,
                                  .ld_x = p->ld_x,
                                  .n_rows = run->pass->n_rows,
                                  .n_batch = p->n_batch,
                                  .batch_x = p->batch_x,
                                  .batch_out = p->batch_out,
                                  .gated = p->gated};
    if (mode == AGON_GEMM_FAST && w->dtype == AGON_E4M3)
        return cuda_run_product_fp8(run, p, w);
    /* Each head's matrix of a model in FP8 mode is of a size that the pipeline does faster. */
    bool pipeline = run->f->fp8 && p->n_batch > 1;
    if (mode == AGON_GEMM_FAST && !pipeline && agon_cuda_small_does(&gemm, w, 0))
        return agon_cuda_small(&gemm, w, 0, NULL, run->stream, run->err);
    return agon_cuda_gemm(&gemm, w, mode, run->stream, run->err);
}

static int run_begin(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct cuda_batch *b = &f->batch;
    const struct cuda_pass *pass = run->pass;
    int r = pass->slots ? agon_cuda_step_rows(b->ids, b->position, b->sequence, pass->slots,
                                              pass->n_rows, pass->n_slots, run->stream, run->err)
                        : 0;
    if (r)
        return r;
    r = agon_cuda_embed(f->x, (size_t)f->config->hidden, f->batch.ids, &f->weights.embedding,
                        run->pass->n_rows, NULL, run->stream, run->err);
    return r ? r
             : agon_cuda_rope_angles(f->cosine, f->sine, f->weights.inv_freq,
                                     f->config->rope_dim / 2, f->batch.position, run->pass->n_rows,
                                     NULL, run->stream, run->err);
}

static int run_logits(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    struct agon_cuda_gemm gemm = {.out = f->logits,
                                  .out_dtype = AGON_F32,
                                  .ld_out = (size_t)f->config->n_vocab,
                                  .x = f->h,
                                  .x_dtype = cuda_act_dtype(f),
                                  .ld_x = (size_t)f->config->hidden,
                                  .rows = f->batch.logit_rows,
                                  .n_rows = run->pass->n_logits};
    if (f->fast && agon_cuda_small_does(&gemm, &f->weights.head, 0))
        return agon_cuda_small(&gemm, &f->weights.head, 0, NULL, run->stream, run->err);
    return agon_cuda_gemm(&gemm, &f->weights.head, cuda_gemm_mode(f), run->stream, run->err);
}

/* No rows here: this rank's experts work for the others. */
static int run_for_others(struct cuda_run *run)
{
    const struct agon_config *c = run->f->config;
    struct agon_cuda_combine none = {0};
    int r = 0;
    for (; r == 0 && run->i_layer < c->n_layers; run->i_layer++) {
        run->layer = &run->f->weights.layers[run->i_layer];
        if (c->sparse[run->i_layer])
            r = cuda_share_experts(run, &none);
    }
    return r;
}

int cuda_forward_run(struct cuda_forward *f, const struct cuda_pass *pass, void *stream,
                     struct agon_err *err)
{
    struct cuda_run run = {.f = f, .pass = pass, .stream = stream, .err = err};
    if (pass->n_rows == 0)
        return f->share ? run_for_others(&run) : 0;
    int r;
    if (f->stack.used)
        return cuda_stack_run(&run);
    if ((r = run_begin(&run)))
        return r;
    r = cuda_run_plan(&run);
    for (; r == 0 && run.i_layer < f->config->n_layers; run.i_layer++) {
        run.layer = &f->weights.layers[run.i_layer];
        if ((r = cuda_run_norm(&run, run.layer->attention_norm)) ||
            (r = cuda_run_attention(&run)) ||
            (pass->layer_done && (r = pass->layer_done(pass->user, run.i_layer, err))) ||
            (r = cuda_run_mlp(&run)))
            break;
        run.i_sparse += f->config->sparse[run.i_layer];
        run.i_indexer += f->config->indexer[run.i_layer];
    }
    if (r || pass->n_logits == 0 || (r = cuda_run_norm(&run, f->weights.norm)))
        return r;
    return run_logits(&run);
}

/* ---- buffers ------------------------------------------------------------------------ */

enum { BUFFER_ALIGN = 256 };
/* Scores are computed for as many rows at a time as fit. */
static const size_t scores_bytes_max = (size_t)256 << 20;

int cuda_buffers_alloc(char **ret_memory, const struct cuda_buffer *wanted, size_t n,
                       struct agon_err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += (wanted[i].bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
    void *memory;
    int r = agon_cuda_alloc(&memory, total, err);
    if (r)
        return agon_err_in(err, r, "engine: buffers");
    *ret_memory = memory;
    char *at = memory;
    for (size_t i = 0; i < n; i++) {
        *(void **)wanted[i].at = wanted[i].bytes ? at : NULL;
        at += (wanted[i].bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
    }
    r = agon_cuda_set(memory, 0, total, NULL, err);
    return r ? r : agon_cuda_sync(NULL, err);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* All layers with experts have the same dimensions. */
static size_t moe_scratch_bytes(const struct cuda_forward *f)
{
    for (int i = 0; i < f->config->n_layers; i++)
        if (f->config->sparse[i])
            return agon_cuda_moe_scratch(&f->weights.layers[i].moe, f->n_rows_max,
                                         f->config->router.top_k, cuda_gemm_mode(f));
    return 0;
}

static size_t mla_scratch_bytes(const struct cuda_forward *f)
{
    const struct agon_config *c = f->config;
    struct agon_mla mla = {
        .cache = {.format = f->latent_format, .kv_lora = c->kv_lora, .rope_dim = c->rope_dim},
        .rows = {.n_rows = f->n_rows_max},
        .n_heads = c->n_heads,
        .ld_selected = c->index_topk,
        .plain = !f->fast};
    return agon_mla_scratch(&mla);
}

/* The widest input of a product. */
static size_t codes_width(const struct agon_config *c)
{
    size_t k = larger((size_t)c->hidden, (size_t)c->q_lora);
    k = larger(k, (size_t)c->n_heads * (size_t)c->v_dim);
    k = larger(k, larger((size_t)c->dense_dim, (size_t)c->n_shared * (size_t)c->expert_dim));
    return (k + AGON_SCALE_BLOCK - 1) / AGON_SCALE_BLOCK * AGON_SCALE_BLOCK;
}

static int forward_buffers(struct cuda_forward *f, struct agon_err *err)
{
    const struct agon_config *c = f->config;
    size_t rows = (size_t)f->n_rows_max, f32 = sizeof(float), i32 = sizeof(int32_t);
    size_t act = agon_dtype_size(cuda_act_dtype(f)), hidden = (size_t)c->hidden;
    size_t heads = (size_t)c->n_heads, half = (size_t)c->rope_dim / 2;
    size_t pairs = rows * (size_t)(c->router.top_k + 1), n_experts = (size_t)c->router.n_experts;
    size_t inner = larger((size_t)c->dense_dim, (size_t)(c->n_shared * c->expert_dim));
    inner = larger(inner, (size_t)(c->router.top_k + 1) * (size_t)c->expert_dim);
    size_t moe = moe_scratch_bytes(f);
    size_t codes = f->fp8 ? rows * codes_width(c) : 0, index = rows * (size_t)c->index_heads;
    size_t plan = f->fp8 ? rows * (agon_cuda_index_plan_bytes(1) + 16) : 0;
    size_t one = (size_t)c->window * f32;
    f->scores_bytes = larger(one, rows * one < scores_bytes_max ? rows * one : scores_bytes_max);
    const struct cuda_buffer wanted[] = {
        {&f->x, rows * hidden * f32},
        {&f->h, rows * hidden * act},
        {&f->cosine, rows * half * f32},
        {&f->sine, rows * half * f32},
        {&f->input, rows * (size_t)cuda_input_width(c) * f32},
        {&f->q_latent, rows * (size_t)c->q_lora * act},
        {&f->query, rows *
                        (heads * (size_t)(c->nope_dim + c->rope_dim) +
                         (size_t)(c->index_heads * c->index_dim)) *
                        f32},
        {&f->index_query, rows * (size_t)(c->index_heads * c->index_dim) * f32},
        {&f->index_weights, rows * (size_t)c->index_heads * f32},
        {&f->absorbed, rows * heads * (size_t)cuda_entry_dim(c) * f32},
        {&f->attended, rows * heads * (size_t)c->kv_lora * f32},
        {&f->heads, rows * heads * (size_t)c->v_dim * act},
        {&f->update, rows * hidden * f32},
        {&f->act, rows * inner * act},
        {&f->shared_down, rows * hidden * f32},
        {&f->routed, pairs * hidden * f32},
        {&f->route_logits, rows * n_experts * f32},
        {&f->route_weights, pairs * f32},
        {&f->route_ids, pairs * i32},
        {&f->begin, (n_experts + 2) * i32},
        {&f->route_counter, i32},
        {&f->pair_row, pairs * i32},
        {&f->pair_of, pairs * i32},
        {&f->slots, rows * (size_t)c->index_topk * i32},
        {&f->n_slots, rows * i32},
        {&f->positions, rows * (size_t)c->index_topk * i32},
        {&f->scores, f->scores_bytes},
        {&f->mask, rows * (size_t)((c->window + 63) / 64) * sizeof(uint64_t)},
        {&f->codes, codes},
        {&f->code_scales, codes / AGON_SCALE_BLOCK * f32},
        {&f->entry_rows, f->fp8 ? rows * (size_t)cuda_entry_dim(c) * f32 : 0},
        {&f->key_rows, f->fp8 ? rows * (size_t)c->index_dim * f32 : 0},
        {&f->index_input, f->fp8 ? index * f32 : 0},
        {&f->index_codes, f->fp8 ? index * (size_t)c->index_dim : 0},
        {&f->plan, plan},
        {&f->mla_scratch, mla_scratch_bytes(f)},
        {&f->moe_scratch, moe},
        {&f->logits, (size_t)f->n_logits_max * (size_t)c->n_vocab * f32},
    };
    return cuda_buffers_alloc(&f->memory, wanted, sizeof(wanted) / sizeof(wanted[0]), err);
}

/* ---- pools -------------------------------------------------------------------------- */

static size_t rounded(size_t bytes)
{
    return (bytes + 15) / 16 * 16;
}

static int pool_alloc(void *ret, size_t bytes, struct agon_err *err)
{
    void *pool;
    int r = agon_cuda_alloc(&pool, bytes, err);
    if (r)
        return agon_err_in(err, r, "the cache");
    *(void **)ret = pool;
    return bytes ? agon_cuda_set(pool, 0, bytes, NULL, err) : 0;
}

static int forward_pools(struct cuda_forward *f, const struct cuda_forward_options *options,
                         struct agon_err *err)
{
    const struct agon_config *c = f->config;
    size_t latent =
        (size_t)AGON_CUDA_PAGE * agon_latent_bytes(f->latent_format, c->kv_lora, c->rope_dim);
    size_t keys = agon_keys_page_bytes(f->keys_format, c->index_dim);
    f->n_experts = options->record_routing ? agon_config_sparse_layers(c) * c->router.top_k : 0;
    f->n_selected = options->record_indexer ? agon_config_indexers(c) * c->index_topk : 0;
    size_t experts = AGON_CUDA_PAGE * (size_t)f->n_experts * sizeof(*f->experts);
    size_t selected = AGON_CUDA_PAGE * (size_t)f->n_selected * sizeof(*f->selected);
    size_t layers = (size_t)c->n_layers, indexers = (size_t)agon_config_indexers(c);
    size_t page = layers * latent + indexers * keys + experts + selected;
    size_t bytes = options->cache_bytes_max, n = bytes / page;
    if (bytes == 0) {
        struct agon_cuda_info info;
        int r = agon_cuda_open(&info, options->rank, err);
        if (r)
            return r;
        n = info.memory_free / 10 * 8 / page;
    }
    n = n < INT32_MAX / AGON_CUDA_PAGE - 1 ? n : INT32_MAX / AGON_CUDA_PAGE - 1; /* slot numbers */
    if (n == 0)
        return agon_fail(err, AGON_ENOMEM, "the cache: no room for a page of %zu bytes", page);
    f->n_pages = (int)n;
    f->latent_layer_bytes = rounded(n * latent);
    f->keys_layer_bytes = rounded(n * keys);
    int r;
    if ((r = pool_alloc(&f->latents, layers * f->latent_layer_bytes, err)) ||
        (r = pool_alloc(&f->keys, indexers * f->keys_layer_bytes, err)) ||
        (r = pool_alloc(&f->experts, n * experts, err)) ||
        (r = pool_alloc(&f->selected, n * selected, err)))
        return r;
    return agon_cuda_sync(NULL, err);
}

int cuda_forward_prepare(struct cuda_forward *f, const struct agon_config *c,
                         const struct cuda_forward_options *options, struct agon_err *err)
{
    f->config = c;
    f->n_rows_max = options->n_rows_max;
    f->n_logits_max = options->n_logits_max;
    f->fast = options->fast;
    f->fp8 = options->fast && options->fp8;
    f->softmax_scale = (float)agon_rope_softmax_scale(&c->rope, c->nope_dim + c->rope_dim);
    f->index_scale = (float)(1 / sqrt((double)c->index_heads) / sqrt((double)c->index_dim));
    f->latent_format = f->fp8 ? AGON_LATENT_FP8 : f->fast ? AGON_LATENT_BF16 : AGON_LATENT_F32;
    f->keys_format = f->fp8 ? AGON_KEYS_FP8 : AGON_KEYS_F32;
    int r = forward_buffers(f, err);
    return r ? r : forward_pools(f, options, err);
}

int cuda_forward_init(struct cuda_forward *f, const struct agon_checkpoint *checkpoint,
                      const struct cuda_forward_options *options, struct agon_err *err)
{
    *f = (struct cuda_forward){0};
    struct cuda_weights_options weights = {.fast = options->fast,
                                           .fp8 = options->fp8,
                                           .rank = options->rank,
                                           .n_ranks = options->n_ranks};
    int r = cuda_weights_init(&f->weights, checkpoint, &weights, err);
    if (r || (r = cuda_forward_prepare(f, &checkpoint->config, options, err)))
        return r;
    return options->stack ? cuda_stack_init(f, err) : 0;
}

int cuda_forward_clear(struct cuda_forward *f, struct agon_err *err)
{
    size_t layers = (size_t)f->config->n_layers, indexers = (size_t)agon_config_indexers(f->config);
    int r;
    if ((r = agon_cuda_set(f->latents, 0, layers * f->latent_layer_bytes, NULL, err)) ||
        (r = agon_cuda_set(f->keys, 0, indexers * f->keys_layer_bytes, NULL, err)))
        return r;
    return agon_cuda_sync(NULL, err);
}

void cuda_forward_deinit(struct cuda_forward *f)
{
    cuda_stack_deinit(&f->stack);
    cuda_weights_deinit(&f->weights);
    agon_cuda_free(f->memory);
    agon_cuda_free(f->latents);
    agon_cuda_free(f->keys);
    agon_cuda_free(f->experts);
    agon_cuda_free(f->selected);
    *f = (struct cuda_forward){0};
}
