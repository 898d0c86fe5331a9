/*
 * The forward pass: see forward.h. A layer is a sequence of parallel regions over all rows of
 * the batch:
 *
 *   rows    x += what the stage before left pending; h = norm(x)
 *   matmul  input = h [q_a; kv_a; wk]^T, index weights
 *   rows    q latent normed; k entry normed, rotated, stored        forward_attention.c
 *   matmul  query = q latent [q_b; wq_b]^T
 *   rows    indexer, top-k, gather, attention, W_UV
 *   matmul  update = heads o_proj^T
 *   rows    x += update; h = norm(x); router
 *   matmul  experts' gate and up, shared expert's too               forward_mlp.c
 *   rows    SwiGLU
 *   matmul  down
 */
#include "model/forward.h"

#include "model/forward_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MATMUL_TASK_ROWS = 72, /* whole tiles of both kernels */
    MATMUL_TASK_PANELS = 8,
};

int forward_input_width(const struct agon_config *c)
{
    return forward_padded(c->q_lora + c->kv_lora + c->rope_dim + c->index_dim);
}

int forward_query_width(const struct agon_config *c)
{
    return forward_padded(c->n_heads * (c->nope_dim + c->rope_dim) + c->index_heads * c->index_dim);
}

/* ---- regions ------------------------------------------------------------------------ */

static int row_tasks(int n_rows)
{
    return (n_rows + MATMUL_TASK_ROWS - 1) / MATMUL_TASK_ROWS;
}

static void matmul_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    (void)thread; /* needs no scratch */
    int low = 0, high = f->n_jobs - 1;
    while (low < high) { /* the last job whose first task is not past this one */
        int middle = (low + high + 1) / 2;
        if (f->jobs[middle].first_task <= task)
            low = middle;
        else
            high = middle - 1;
    }
    const struct matmul_job *job = &f->jobs[low];
    int at = task - job->first_task, n_panels = agon_matrix_panels(job->w);
    int panels = (n_panels + job->n_panel_tasks - 1) / job->n_panel_tasks;
    panels += panels & 1; /* pairs, as the wide kernel takes them */
    int panel = at % job->n_panel_tasks * panels, row = at / job->n_panel_tasks * MATMUL_TASK_ROWS;
    int panel_end = panel + panels < n_panels ? panel + panels : n_panels;
    int n_rows = job->n_rows - row < MATMUL_TASK_ROWS ? job->n_rows - row : MATMUL_TASK_ROWS;
    if (panel >= panel_end)
        return;
    f->kernels->matmul(job->out + (size_t)row * job->ld_out, job->ld_out,
                       job->rows ? job->x : job->x + (size_t)row * job->ld_x, job->ld_x,
                       job->rows ? job->rows + row : NULL, n_rows, job->w, panel, panel_end);
}

void forward_matmuls(struct agon_forward *f, int n_jobs)
{
    f->n_jobs = 0;
    f->n_job_tasks = 0;
    for (int i = 0; i < n_jobs; i++) {
        struct matmul_job job = f->jobs[i];
        if (job.n_rows == 0)
            continue;
        int n_panels = agon_matrix_panels(job.w);
        job.first_task = f->n_job_tasks;
        job.n_panel_tasks = (n_panels + MATMUL_TASK_PANELS - 1) / MATMUL_TASK_PANELS;
        if (n_panels >= 4 && job.n_panel_tasks < 2 * f->n_threads)
            job.n_panel_tasks = n_panels / 2 < 2 * f->n_threads ? n_panels / 2 : 2 * f->n_threads;
        if (f->n_threads == 1)
            job.n_panel_tasks = 1;
        f->n_job_tasks += job.n_panel_tasks * row_tasks(job.n_rows);
        f->jobs[f->n_jobs++] = job;
    }
    agon_pool_run(f->pool, matmul_task, f, f->n_job_tasks);
}

void forward_rows(struct agon_forward *f, agon_pool_fn *fn)
{
    agon_pool_run(f->pool, fn, f, (f->n_rows + f->rows_per_task - 1) / f->rows_per_task);
}

/* ---- residual stream ---------------------------------------------------------------- */

static void embed_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    const struct agon_config *c = f->config;
    int begin, n = forward_task_rows(f, task, &begin), half = c->rope_dim / 2;
    (void)thread; /* needs no scratch */
    for (int r = begin; r < begin + n; r++) {
        agon_matrix_row(&f->checkpoint->embedding, f->rows[r].id,
                        f->x + (size_t)r * (size_t)c->hidden);
        agon_rope_angles(f->cosine + r * half, f->sine + r * half, f->inv_freq, half,
                         f->rows[r].position);
    }
}

static void add(float *x, const float *y, int n)
{
    for (int i = 0; i < n; i++)
        x[i] += y[i];
}

static void row_take_up(struct agon_forward *f, int r)
{
    const struct agon_config *c = f->config;
    float *x = f->x + (size_t)r * (size_t)c->hidden;
    int top_k = c->router.top_k;
    switch (f->pending) {
    case PENDING_NONE: break;
    case PENDING_ATTENTION:
    case PENDING_DENSE: add(x, f->update + (size_t)r * (size_t)c->hidden, c->hidden); break;
    case PENDING_EXPERTS:
        agon_moe_combine(x, f->down, (size_t)c->hidden, f->pair_of + r * top_k,
                         f->route_weights + r * top_k, top_k, c->hidden);
        if (c->n_shared > 0)
            add(x, f->shared_down + (size_t)r * (size_t)c->hidden, c->hidden);
        break;
    }
}

static void row_route(struct agon_forward *f, int r)
{
    const struct agon_router *router = &f->config->router;
    const uint16_t *forced = f->rows[r].experts;
    int *ids = f->route_ids + r * router->top_k;
    float *weights = f->route_weights + r * router->top_k;
    const float *logits = f->route_logits + r * router->n_experts;
    if (!forced) {
        agon_router_ref(ids, weights, logits, f->layer->router_bias, router);
        return;
    }
    for (int s = 0; s < router->top_k; s++)
        ids[s] = forced[f->i_sparse * router->top_k + s];
    agon_router_weights_ref(weights, logits, ids, router);
}

/* x += pending; h = norm(x); where the stage ends in the router, the choice of experts. */
static void norm_task(void *user, int task, int thread)
{
    struct agon_forward *f = user;
    const struct agon_config *c = f->config;
    int begin, n = forward_task_rows(f, task, &begin), n_experts = c->router.n_experts;
    size_t hidden = (size_t)c->hidden;
    float *h = f->h + (size_t)begin * hidden;
    (void)thread; /* needs no scratch */
    for (int r = begin; r < begin + n; r++)
        row_take_up(f, r);
    f->kernels->rmsnorm(h, hidden, f->x + (size_t)begin * hidden, hidden, f->norm, n, c->hidden,
                        c->norm_eps);
    if (!f->route)
        return;
    float *logits = f->route_logits + begin * n_experts;
    f->kernels->matmul(logits, (size_t)n_experts, h, hidden, NULL, n, &f->layer->router, 0,
                       agon_matrix_panels(&f->layer->router));
    for (int r = begin; r < begin + n; r++)
        row_route(f, r);
}

static void stage_norm(struct agon_forward *f, const float *norm, enum pending pending, bool route)
{
    f->norm = norm;
    f->pending = pending;
    f->route = route;
    forward_rows(f, norm_task);
}

/* ---- trace, logits, the pass -------------------------------------------------------- */

/* What the cache records of the layer, in the pages of the rows that are stored. */
static void record_layer(struct agon_forward *f)
{
    const struct agon_config *c = f->config;
    const struct agon_cache *cache = f->cache;
    bool experts = cache->n_experts > 0 && c->sparse[f->i_layer];
    bool selected = cache->n_selected > 0 && c->indexer[f->i_layer];
    for (int r = 0; (experts || selected) && r < f->n_rows; r++) {
        const struct agon_row *row = &f->rows[r];
        if (!row->store)
            continue;
        const struct agon_page *page = row->pages[row->position / AGON_PAGE];
        int slot = row->position % AGON_PAGE, top_k = c->router.top_k, topk = c->index_topk;
        if (experts) {
            uint16_t *to = agon_page_experts(cache, page, slot) + f->i_sparse * top_k;
            for (int s = 0; s < top_k; s++)
                to[s] = (uint16_t)f->route_ids[r * top_k + s];
        }
        if (selected) {
            int32_t *to =
                agon_page_selected(cache, page, slot) + (size_t)f->i_indexer * (size_t)topk;
            const int *from = f->selected + (size_t)r * (size_t)topk;
            for (int s = 0; s < topk; s++)
                to[s] = s < f->n_selected[r] ? from[s] : -1;
        }
    }
}

static void trace_layer(struct agon_forward *f)
{
    const struct agon_forward_trace *t = f->trace;
    size_t topk = (size_t)f->config->index_topk;
    for (int r = 0; t && r < f->n_rows; r++) {
        size_t at = (size_t)f->i_layer * (size_t)f->n_rows_max + (size_t)r;
        int n = f->n_selected[r];
        t->n_selected[at] = n;
        memcpy(t->selected + at * topk, f->selected + (size_t)r * topk, (size_t)n * sizeof(int));
    }
}

static void stage_logits(struct agon_forward *f)
{
    int n = 0;
    for (int r = 0; r < f->n_rows; r++)
        if (f->rows[r].logits >= 0) {
            f->logit_rows[f->rows[r].logits] = r;
            n = f->rows[r].logits + 1 > n ? f->rows[r].logits + 1 : n;
        }
    f->jobs[0] = (struct matmul_job){.out = f->logits,
                                     .ld_out = (size_t)f->config->n_vocab,
                                     .x = f->h,
                                     .ld_x = (size_t)f->config->hidden,
                                     .rows = f->logit_rows,
                                     .n_rows = n,
                                     .w = agon_checkpoint_head(f->checkpoint)};
    forward_matmuls(f, 1);
}

void agon_forward_run(struct agon_forward *f, const struct agon_row *rows, int n_rows,
                      const struct agon_forward_trace *trace)
{
    f->rows = rows;
    f->n_rows = n_rows;
    f->trace = trace;
    /* Some four tasks a thread, so that one that is held up costs little. */
    f->rows_per_task = n_rows / (4 * f->n_threads);
    f->rows_per_task = f->rows_per_task < 1                ? 1
                       : f->rows_per_task > ATTENTION_ROWS ? ATTENTION_ROWS
                                                           : f->rows_per_task;
    forward_rows(f, embed_task);
    enum pending pending = PENDING_NONE;
    f->i_sparse = f->i_indexer = 0;
    for (f->i_layer = 0; f->i_layer < f->config->n_layers; f->i_layer++) {
        bool sparse = f->config->sparse[f->i_layer];
        f->layer = &f->checkpoint->layers[f->i_layer];
        stage_norm(f, f->layer->attention_norm, pending, false);
        forward_attention(f);
        stage_norm(f, f->layer->mlp_norm, PENDING_ATTENTION, sparse);
        forward_mlp(f);
        trace_layer(f);
        record_layer(f);
        f->i_sparse += sparse;
        f->i_indexer += f->config->indexer[f->i_layer];
        pending = sparse ? PENDING_EXPERTS : PENDING_DENSE;
    }
    stage_norm(f, f->checkpoint->norm, pending, false);
    stage_logits(f);
}

const float *agon_forward_logits(const struct agon_forward *f, int i)
{
    return f->logits + (size_t)i * (size_t)f->config->n_vocab;
}

/* ---- buffers ------------------------------------------------------------------------ */

struct floats_wanted {
    float **at;
    size_t n;
};

/* Every buffer starts on a cache line of its own. */
static int floats_alloc(float **ret_memory, const struct floats_wanted *wanted, size_t n,
                        struct agon_err *err)
{
    size_t total = 0;
    for (size_t i = 0; i < n; i++)
        total += (wanted[i].n + 15) / 16 * 16;
    float *memory = aligned_alloc(64, (total ? total : 16) * sizeof(*memory));
    if (!memory)
        return agon_fail(err, AGON_ENOMEM, "engine: no memory for buffers of %zu bytes",
                         total * sizeof(*memory));
    memset(memory, 0, total * sizeof(*memory));
    *ret_memory = memory;
    for (size_t i = 0; i < n; i++) {
        *wanted[i].at = memory;
        memory += (wanted[i].n + 15) / 16 * 16;
    }
    return 0;
}

static int forward_alloc(struct agon_forward *f, struct agon_err *err)
{
    const struct agon_config *c = f->config;
    size_t rows = (size_t)f->n_rows_max, logits = (size_t)f->n_logits_max;
    size_t pairs = rows * (size_t)c->router.top_k, hidden = (size_t)c->hidden;
    size_t expert = (size_t)c->expert_dim, dense = (size_t)c->dense_dim;
    size_t shared = (size_t)(c->n_shared * c->expert_dim), half = (size_t)c->rope_dim / 2;
    size_t inner = pairs * expert > rows * dense ? pairs * expert : rows * dense;
    const struct floats_wanted wanted[] = {
        {&f->x, rows * hidden},
        {&f->h, rows * hidden},
        {&f->cosine, rows * half},
        {&f->sine, rows * half},
        {&f->input, rows * (size_t)forward_input_width(c)},
        {&f->query, rows * (size_t)forward_query_width(c)},
        {&f->index_weights, rows * (size_t)c->index_heads},
        {&f->heads, rows * (size_t)(c->n_heads * c->v_dim)},
        {&f->update, rows * hidden},
        {&f->route_logits, rows * (size_t)c->router.n_experts},
        {&f->route_weights, pairs},
        {&f->gate_up, 2 * inner},
        {&f->act, inner},
        {&f->down, pairs * hidden},
        {&f->shared_gate_up, 2 * rows * shared},
        {&f->shared_act, rows * shared},
        {&f->shared_down, rows * hidden},
        {&f->logits, logits * (size_t)c->n_vocab},
    };
    int r = floats_alloc(&f->memory, wanted, sizeof(wanted) / sizeof(wanted[0]), err);
    if (r)
        return r;
    size_t selected = rows * (size_t)c->index_topk;
    size_t n_integers = selected + rows + 3 * pairs + AGON_EXPERTS_MAX + 1 + logits;
    f->integers = calloc(n_integers, sizeof(*f->integers));
    f->jobs = calloc((size_t)c->router.n_experts + 4, sizeof(*f->jobs));
    f->inv_freq = calloc(half, sizeof(*f->inv_freq));
    if (!f->integers || !f->jobs || !f->inv_freq)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    f->selected = f->integers;
    f->n_selected = f->selected + selected;
    f->route_ids = f->n_selected + rows;
    f->pair_row = f->route_ids + pairs;
    f->pair_of = f->pair_row + pairs;
    f->begin = f->pair_of + pairs;
    f->logit_rows = f->begin + AGON_EXPERTS_MAX + 1;
    return attention_scratch_init(f, err);
}

int attention_scratch_init(struct agon_forward *f, struct agon_err *err)
{
    const struct agon_config *c = f->config;
    size_t heads = (size_t)c->n_heads, window = (size_t)forward_padded(c->window);
    size_t topk = (size_t)forward_padded(c->index_topk);
    size_t n_q = ATTENTION_ROWS * heads * (size_t)f->cache->entry_dim;
    size_t n_out = ATTENTION_ROWS * heads * (size_t)f->cache->value_dim;
    size_t n_scores = window > heads * topk ? window : heads * topk;
    size_t n_pages = window / AGON_PAGE, n = (size_t)f->n_threads;
    float *q, *out, *scores, *counters, *key;
    const struct floats_wanted wanted[] = {{&q, n * n_q},
                                           {&out, n * n_out},
                                           {&scores, n * n_scores},
                                           {&counters, n * window},
                                           {&key, n * (size_t)forward_padded(c->index_dim)}};
    int r = floats_alloc(&f->scratch_memory, wanted, 5, err);
    if (r)
        return r;
    f->scratch = calloc(n, sizeof(*f->scratch));
    f->scratch_pointers = calloc(n * (topk + n_pages), sizeof(*f->scratch_pointers));
    if (!f->scratch || !f->scratch_pointers)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    for (size_t i = 0; i < n; i++)
        f->scratch[i] = (struct attention_scratch){
            .q = q + i * n_q,
            .out = out + i * n_out,
            .scores = scores + i * n_scores,
            .topk = (uint32_t *)(void *)(counters + i * window), /* never used as floats */
            .entries = f->scratch_pointers + i * (topk + n_pages),
            .keys = f->scratch_pointers + i * (topk + n_pages) + topk,
            .key = key + i * (size_t)forward_padded(c->index_dim)};
    return 0;
}

int agon_forward_new(struct agon_forward **ret, const struct agon_checkpoint *checkpoint,
                     const struct agon_kernels *kernels, struct agon_pool *pool,
                     struct agon_cache *cache, int n_rows_max, int n_logits_max,
                     struct agon_err *err)
{
    struct agon_forward *f AGON_AUTO(agon_forward_freep) = calloc(1, sizeof(*f));
    if (!f)
        return agon_fail(err, AGON_ENOMEM, "engine: out of memory");
    const struct agon_config *c = &checkpoint->config;
    f->checkpoint = checkpoint;
    f->config = c;
    f->kernels = kernels;
    f->pool = pool;
    f->cache = cache;
    f->n_rows_max = n_rows_max;
    f->n_logits_max = n_logits_max;
    f->n_threads = agon_pool_threads(pool);
    int r = forward_alloc(f, err);
    if (r)
        return r;
    agon_rope_frequencies(f->inv_freq, &c->rope);
    f->softmax_scale = (float)agon_rope_softmax_scale(&c->rope, c->nope_dim + c->rope_dim);
    f->index_scale = (float)(1 / sqrt((double)c->index_heads) / sqrt((double)c->index_dim));
    *ret = AGON_STEAL(f);
    return 0;
}

void agon_forward_free(struct agon_forward *f)
{
    if (!f)
        return;
    free(f->memory);
    free(f->integers);
    free(f->jobs);
    free(f->inv_freq);
    free(f->scratch);
    free(f->scratch_memory);
    free(f->scratch_pointers);
    free(f);
}
