/*
 * Attention of the forward pass: latent cache, lightning indexer, top-k, a true gather of the
 * selected entries, absorbed MLA (engine.md 4 and 5). Two layouts of RoPE meet here: the heads
 * are nope then rope, rotated interleaved; the indexer's are rope then nope, rotated half-split
 * (or interleaved where the configuration says so).
 */
#include "model/forward_internal.h"

#include <string.h>

/* Both are 1e-6 in every implementation, whatever rms_norm_eps is. */
#define LATENT_EPS 1e-6F

static void rope_index(const struct agon_forward *f, float *x, int row)
{
    int half = f->config->rope_dim / 2;
    const float *cosine = f->cosine + row * half, *sine = f->sine + row * half;
    if (f->config->index_interleaved)
        agon_rope_interleaved_ref(x, cosine, sine, half);
    else
        agon_rope_half_split_ref(x, cosine, sine, half);
}

/* ---- what a row leaves in the cache ------------------------------------------------- */

static void store_index_key(struct agon_forward *f, int row, const float *from, float *key)
{
    const struct agon_config *c = f->config;
    const struct agon_row *at = &f->rows[row];
    f->kernels->layernorm(key, from, f->layer->index_norm, f->layer->index_bias, c->index_dim,
                          LATENT_EPS);
    rope_index(f, key, row);
    float *keys = agon_page_keys(f->cache, at->pages[at->position / AGON_PAGE], f->i_layer);
    for (int d = 0; d < c->index_dim; d++)
        keys[d * AGON_PAGE + at->position % AGON_PAGE] = key[d];
}

/* Norm of the q latent, in place; the entry of the cache; the index key and weights. */
static void latent_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    const struct agon_config *c = f->config;
    int begin, n = forward_task_rows(f, task, &begin), half = c->rope_dim / 2;
    size_t width = (size_t)forward_input_width(c);
    for (int r = begin; r < begin + n; r++) {
        const struct agon_row *at = &f->rows[r];
        float *q = f->input + (size_t)r * width, *kv = q + c->q_lora;
        f->kernels->rmsnorm(q, width, q, width, f->layer->q_a_norm, 1, c->q_lora, LATENT_EPS);
        for (int h = 0; h < c->index_heads && c->indexer[f->i_layer]; h++)
            f->index_weights[r * c->index_heads + h] *= f->index_scale;
        if (!at->store)
            continue;
        float *entry = agon_page_entry(f->cache, at->pages[at->position / AGON_PAGE], f->i_layer,
                                       at->position % AGON_PAGE);
        f->kernels->rmsnorm(entry, 0, kv, 0, f->layer->kv_a_norm, 1, c->kv_lora, LATENT_EPS);
        memcpy(entry + c->kv_lora, kv + c->kv_lora, (size_t)c->rope_dim * sizeof(*entry));
        agon_rope_interleaved_ref(entry + c->kv_lora, f->cosine + r * half, f->sine + r * half,
                                  half);
        if (c->indexer[f->i_layer])
            store_index_key(f, r, kv + c->kv_lora + c->rope_dim, f->scratch[thread].key);
    }
}

/* ---- what a row reads --------------------------------------------------------------- */

/*
 * The positions a row attends to, ascending: all of them while there are no more than
 * index_topk; else the indexer's choice, or in layers without one the choice of the layer
 * before, which f->selected still holds.
 */
static void row_select(struct agon_forward *f, int row, struct attention_scratch *scratch)
{
    const struct agon_config *c = f->config;
    const struct agon_row *at = &f->rows[row];
    int n = at->position + 1, topk = c->index_topk,
        *selected = f->selected + (size_t)row * (size_t)topk;
    if (n <= topk) {
        for (int s = 0; s < n; s++)
            selected[s] = s;
        f->n_selected[row] = n;
        return;
    }
    if (!c->indexer[f->i_layer])
        return;
    float *q = f->query + (size_t)row * (size_t)forward_query_width(c) +
               c->n_heads * (c->nope_dim + c->rope_dim);
    for (int h = 0; h < c->index_heads; h++)
        rope_index(f, q + h * c->index_dim, row);
    for (int p = 0; p * AGON_PAGE < n; p++)
        scratch->keys[p] = agon_page_keys(f->cache, at->pages[p], f->i_layer);
    f->kernels->indexer(scratch->scores, q, f->index_weights + row * c->index_heads, scratch->keys,
                        n, c->index_heads, c->index_dim);
    f->n_selected[row] = f->kernels->topk(selected, scratch->scores, n, topk, scratch->topk);
}

static void row_attend(struct agon_forward *f, int row, int at, struct attention_scratch *scratch)
{
    const struct agon_config *c = f->config;
    const struct agon_row *r = &f->rows[row];
    const int *selected = f->selected + (size_t)row * (size_t)c->index_topk;
    size_t heads = (size_t)c->n_heads;
    int n = f->n_selected[row];
    for (int s = 0; s < n; s++)
        scratch->entries[s] = agon_page_entry(f->cache, r->pages[selected[s] / AGON_PAGE],
                                              f->i_layer, selected[s] % AGON_PAGE);
    f->kernels->mla(scratch->out + (size_t)at * heads * (size_t)f->cache->value_dim,
                    scratch->q + (size_t)at * heads * (size_t)f->cache->entry_dim, scratch->entries,
                    n, c->n_heads, f->cache->entry_dim, f->cache->value_dim, f->softmax_scale,
                    scratch->scores);
}

/* scratch->q of a block of rows: [q_nope W_UK; rotated q_pe; zeros] for each head. */
static void block_queries(struct agon_forward *f, int begin, int n,
                          struct attention_scratch *scratch)
{
    const struct agon_config *c = f->config;
    int qk = c->nope_dim + c->rope_dim, half = c->rope_dim / 2, entry = f->cache->entry_dim;
    size_t width = (size_t)forward_query_width(c), ld = (size_t)c->n_heads * (size_t)entry;
    float *query = f->query + (size_t)begin * width;
    for (int h = 0; h < c->n_heads; h++) {
        const struct agon_matrix *absorb = &f->layer->absorb[h];
        f->kernels->matmul(scratch->q + h * entry, ld, query + h * qk, width, NULL, n, absorb, 0,
                           agon_matrix_panels(absorb));
        for (int r = 0; r < n; r++) {
            float *to = scratch->q + (size_t)r * ld + h * entry + c->kv_lora;
            memcpy(to, query + (size_t)r * width + h * qk + c->nope_dim,
                   (size_t)c->rope_dim * sizeof(*to));
            agon_rope_interleaved_ref(to, f->cosine + (begin + r) * half,
                                      f->sine + (begin + r) * half, half);
        }
    }
}

static void attend_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    const struct agon_config *c = f->config;
    struct attention_scratch *scratch = &f->scratch[thread];
    int begin, n = forward_task_rows(f, task, &begin);
    block_queries(f, begin, n, scratch);
    for (int r = 0; r < n; r++) {
        row_select(f, begin + r, scratch);
        row_attend(f, begin + r, r, scratch);
    }
    size_t ld_out = (size_t)(c->n_heads * c->v_dim);
    size_t ld_x = (size_t)c->n_heads * (size_t)f->cache->value_dim;
    for (int h = 0; h < c->n_heads; h++)
        f->kernels->matmul(f->heads + (size_t)begin * ld_out + h * c->v_dim, ld_out,
                           scratch->out + h * f->cache->value_dim, ld_x, NULL, n,
                           &f->layer->value[h], 0, agon_matrix_panels(&f->layer->value[h]));
}

void forward_attention(struct agon_forward *f)
{
    const struct agon_config *c = f->config;
    const struct agon_layer *layer = f->layer;
    size_t hidden = (size_t)c->hidden;
    struct matmul_job from_hidden = {.x = f->h, .ld_x = hidden, .n_rows = f->n_rows};

    f->jobs[0] = f->jobs[1] = from_hidden;
    f->jobs[0].out = f->input;
    f->jobs[0].ld_out = (size_t)forward_input_width(c);
    f->jobs[0].w = &layer->input;
    f->jobs[1].out = f->index_weights;
    f->jobs[1].ld_out = (size_t)c->index_heads;
    f->jobs[1].w = &layer->index_weights;
    forward_matmuls(f, c->indexer[f->i_layer] ? 2 : 1);
    forward_rows(f, latent_task);

    f->jobs[0] = (struct matmul_job){.out = f->query,
                                     .ld_out = (size_t)forward_query_width(c),
                                     .x = f->input,
                                     .ld_x = (size_t)forward_input_width(c),
                                     .n_rows = f->n_rows,
                                     .w = &layer->query};
    forward_matmuls(f, 1);
    forward_rows(f, attend_task);

    f->jobs[0] = (struct matmul_job){.out = f->update,
                                     .ld_out = hidden,
                                     .x = f->heads,
                                     .ld_x = (size_t)(c->n_heads * c->v_dim),
                                     .n_rows = f->n_rows,
                                     .w = &layer->output};
    forward_matmuls(f, 1);
}
