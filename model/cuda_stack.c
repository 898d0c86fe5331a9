/* Small models: see cuda_stack.h. */
#include "model/cuda_stack.h"

#include "model/cuda_forward_internal.h"

#include <stdlib.h>
#include <string.h>

/* As in cuda_forward_attention.c. */
#define LATENT_EPS 1e-6F

/* ---- weights ------------------------------------------------------------------------ */

/* One layer's packed matrices, one behind the other: elements from its beginning. */
struct packed_layout {
    size_t input, query, output, gate_up, down, down_tiles, end;
};

/* Pieces of a dense MLP: as wide as experts may be, all alike; 0: there is no such width. */
static int dense_piece(int dense_dim)
{
    int piece = 256;
    while (piece > 0 && dense_dim % piece)
        piece -= 32;
    return piece;
}

static int layer_inner(const struct agon_config *c, int layer)
{
    return c->sparse[layer] ? c->expert_dim : dense_piece(c->dense_dim);
}

static int layer_groups(const struct agon_config *c, int layer)
{
    return c->sparse[layer] ? c->router.n_experts + c->n_shared
                            : c->dense_dim / dense_piece(c->dense_dim);
}

/* Inner values, as down_tiles has them. */
static int whole_steps(int inner)
{
    return (inner + 63) / 64 * 64;
}

static struct packed_layout layout_of(const struct agon_config *c, int layer)
{
    struct packed_layout p = {0};
    size_t groups = (size_t)layer_groups(c, layer);
    int inner = layer_inner(c, layer);
    int n_input = c->q_lora + c->kv_lora + c->rope_dim + c->index_dim + c->index_heads;
    int n_query = c->n_heads * (c->kv_lora + c->rope_dim) + c->index_heads * c->index_dim;
    p.query = p.input + agon_stack_packed_size(n_input, c->hidden);
    p.output = p.query + agon_stack_packed_size(n_query, c->q_lora);
    p.gate_up = p.output + agon_stack_packed_size(c->hidden, c->n_heads * c->kv_lora);
    p.down = p.gate_up + groups * agon_stack_packed_size(2 * inner, c->hidden);
    p.down_tiles = p.down + groups * agon_stack_packed_size(c->hidden, inner);
    p.end = p.down_tiles + groups * agon_stack_packed_size(c->hidden, whole_steps(inner));
    return p;
}

/* A matrix of BF16 as the device has it. Owned: rows. */
struct fetched {
    uint16_t *rows;
    int n, k;
};

/* n rows of w from `first` on. */
static int fetch(struct fetched *ret, const struct agon_cuda_matrix *w, int first, int n,
                 struct agon_err *err)
{
    size_t k = (size_t)w->k, bytes = (size_t)n * w->ld * sizeof(*ret->rows);
    const uint16_t *from = (const uint16_t *)w->data + (size_t)first * w->ld;
    uint16_t *rows = malloc(bytes ? bytes : 1);
    if (!rows)
        return agon_fail(err, AGON_ENOMEM, "weights: out of memory");
    int r = agon_cuda_copy(rows, from, bytes, NULL, err);
    if (r == 0)
        r = agon_cuda_sync(NULL, err);
    for (size_t i = 1; i < (size_t)n && w->ld > k; i++)
        memmove(rows + i * k, rows + i * w->ld, k * sizeof(*rows));
    *ret = (struct fetched){rows, n, w->k};
    return r;
}

static void fetched_free(struct fetched *f)
{
    free(f->rows);
}
#define FETCHED_AUTO __attribute__((cleanup(fetched_free))) struct fetched

static const uint16_t *fetched_row(const struct fetched *f, int i)
{
    return f->rows + (size_t)i * (size_t)f->k;
}

static void pack_row(uint16_t *to, int k, int i, const uint16_t *row)
{
    for (int j = 0; j < k; j++)
        to[agon_stack_packed_at(k, i, j)] = row[j];
}

/* n of the k values of row i. */
static void swizzle_row(uint16_t *to, int k, int i, const uint16_t *row, int n)
{
    for (int j = 0; j < n; j++)
        to[agon_stack_swizzled_at(k, i, j)] = row[j];
}

/* As F16. */
static void pack_floats(uint16_t *to, int k, int i, const float *row)
{
    for (int j = 0; j < k; j++)
        to[agon_stack_packed_at(k, i, j)] = agon_f16_encode(row[j]);
}

static void pack_row_f16(uint16_t *to, int k, int i, const uint16_t *row)
{
    for (int j = 0; j < k; j++)
        to[agon_stack_packed_at(k, i, j)] = agon_f16_encode(agon_bf16_decode(row[j]));
}

static int pack_matrix(uint16_t *to, const struct agon_cuda_matrix *w, struct agon_err *err)
{
    FETCHED_AUTO from = {0};
    int r = fetch(&from, w, 0, w->n, err);
    for (int i = 0; i < w->n && r == 0; i++)
        pack_row(to, w->k, i, fetched_row(&from, i));
    return r;
}

/* to[k] += weight * row. */
static void add_row(float *to, float weight, const uint16_t *row, int k)
{
    for (int j = 0; j < k; j++)
        to[j] += weight * agon_bf16_decode(row[j]);
}

/* W_UK^T W_Q of each head and its rotated part, then the indexer's queries. made: for a row. */
static int pack_query(uint16_t *to, const struct agon_config *c, const struct cuda_layer *l,
                      float *made, struct agon_err *err)
{
    int qk = c->nope_dim + c->rope_dim, entry = c->kv_lora + c->rope_dim, k = c->q_lora, r;
    FETCHED_AUTO query = {0};
    FETCHED_AUTO absorb = {0};
    if ((r = fetch(&query, &l->query, 0, l->query.n, err)) ||
        (r = fetch(&absorb, &l->absorb, 0, l->absorb.n, err)))
        return r;
    for (int h = 0; h < c->n_heads; h++) {
        for (int i = 0; i < c->kv_lora; i++) {
            const uint16_t *weights = fetched_row(&absorb, h * c->kv_lora + i);
            memset(made, 0, (size_t)k * sizeof(*made));
            for (int n = 0; n < c->nope_dim; n++)
                add_row(made, agon_bf16_decode(weights[n]), fetched_row(&query, h * qk + n), k);
            pack_floats(to, k, h * entry + i, made);
        }
        for (int i = 0; i < c->rope_dim; i++)
            pack_row_f16(to, k, h * entry + c->kv_lora + i,
                         fetched_row(&query, h * qk + c->nope_dim + i));
    }
    for (int i = 0; i < c->index_heads * c->index_dim; i++)
        pack_row_f16(to, k, c->n_heads * entry + i, fetched_row(&query, c->n_heads * qk + i));
    return 0;
}

/* W_O W_UV. made: for a row. */
static int pack_output(uint16_t *to, const struct agon_config *c, const struct cuda_layer *l,
                       float *made, struct agon_err *err)
{
    int kv = c->kv_lora, k = c->n_heads * kv, r;
    FETCHED_AUTO output = {0};
    FETCHED_AUTO value = {0};
    if ((r = fetch(&output, &l->output, 0, l->output.n, err)) ||
        (r = fetch(&value, &l->value, 0, l->value.n, err)))
        return r;
    for (int i = 0; i < c->hidden; i++) {
        const uint16_t *weights = fetched_row(&output, i);
        memset(made, 0, (size_t)k * sizeof(*made));
        for (int v = 0; v < c->n_heads * c->v_dim; v++)
            add_row(made + v / c->v_dim * kv, agon_bf16_decode(weights[v]), fetched_row(&value, v),
                    kv);
        pack_floats(to, k, i, made);
    }
    return 0;
}

/* Where a group's matrices go. */
struct packed_mlp {
    uint16_t *gate_up, *down, *down_tiles;
};

/* Piece `piece` of an MLP, `inner` values wide. */
static void pack_mlp(const struct packed_mlp *to, const struct agon_config *c,
                     const struct fetched *both, const struct fetched *last, int inner, int piece)
{
    for (int part = 0; part < 2; part++)
        for (int i = 0; i < inner; i++)
            swizzle_row(to->gate_up, c->hidden, (i / 8 * 2 + part) * 8 + i % 8,
                        fetched_row(both, part * last->k + piece * inner + i), c->hidden);
    for (int i = 0; i < c->hidden; i++) {
        const uint16_t *row = fetched_row(last, i) + piece * inner;
        pack_row(to->down, inner, i, row);
        swizzle_row(to->down_tiles, whole_steps(inner), i, row, inner);
    }
}

static int pack_groups(struct packed_mlp to, const struct agon_config *c, int layer,
                       const struct cuda_layer *l, struct agon_err *err)
{
    int inner = layer_inner(c, layer), n = layer_groups(c, layer), r = 0;
    bool sparse = c->sparse[layer];
    for (int g = 0; g < n && r == 0; g++) {
        /* The shared one, the first here, stands behind the others there. */
        int expert = g < c->n_shared ? c->router.n_experts : g - c->n_shared;
        FETCHED_AUTO both = {0};
        FETCHED_AUTO last = {0};
        const struct agon_cuda_matrix *up = sparse ? &l->moe.gate_up : &l->gate_up;
        const struct agon_cuda_matrix *out = sparse ? &l->moe.down : &l->down;
        int n_up = sparse ? 2 * inner : up->n;
        if ((r = fetch(&both, up, sparse ? expert * n_up : 0, n_up, err)) ||
            (r = fetch(&last, out, sparse ? expert * c->hidden : 0, c->hidden, err)))
            return r;
        pack_mlp(&to, c, &both, &last, inner, sparse ? 0 : g);
        to.gate_up += agon_stack_packed_size(2 * inner, c->hidden);
        to.down += agon_stack_packed_size(c->hidden, inner);
        to.down_tiles += agon_stack_packed_size(c->hidden, whole_steps(inner));
    }
    return r;
}

static int pack_layer(uint16_t *to, const struct cuda_forward *f, int i, float *made,
                      struct agon_err *err)
{
    const struct agon_config *c = f->config;
    const struct cuda_layer *l = &f->weights.layers[i];
    struct packed_layout at = layout_of(c, i);
    int r;
    if ((r = pack_matrix(to + at.input, &l->input, err)) ||
        (r = pack_query(to + at.query, c, l, made, err)) ||
        (r = pack_output(to + at.output, c, l, made, err)))
        return r;
    return pack_groups((struct packed_mlp){to + at.gate_up, to + at.down, to + at.down_tiles}, c, i,
                       l, err);
}

/* Where layer i stands on the device; what is not packed is where the weights have it. */
static struct agon_stack_layer layer_of(const struct cuda_forward *f, int i, const char *packed)
{
    const struct agon_config *c = f->config;
    const struct cuda_layer *l = &f->weights.layers[i];
    struct packed_layout at = layout_of(c, i);
    size_t size = sizeof(uint16_t);
    const float *next = i + 1 < c->n_layers ? l[1].attention_norm : f->weights.norm;
    return (struct agon_stack_layer){.attention_norm = l->attention_norm,
                                     .mlp_norm = l->mlp_norm,
                                     .next_norm = next,
                                     .q_norm = l->q_a_norm,
                                     .kv_norm = l->kv_a_norm,
                                     .index_norm = l->index_norm,
                                     .index_bias = l->index_bias,
                                     .input = packed + at.input * size,
                                     .query = packed + at.query * size,
                                     .output = packed + at.output * size,
                                     .router = c->sparse[i] ? l->router.data : NULL,
                                     .router_bias = l->router_bias,
                                     .gate_up = packed + at.gate_up * size,
                                     .down = packed + at.down * size,
                                     .down_tiles = packed + at.down_tiles * size,
                                     .n_groups = layer_groups(c, i),
                                     .inner = layer_inner(c, i)};
}

static size_t head_size(const struct agon_config *c)
{
    return agon_stack_packed_size(c->n_vocab, c->hidden);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

int cuda_stack_pack(struct cuda_forward *f, struct agon_err *err)
{
    const struct agon_config *c = f->config;
    size_t size = head_size(c), at = 0;
    if (!f->stack.used)
        return 0;
    for (int i = 0; i < c->n_layers; i++)
        size = larger(size, layout_of(c, i).end);
    uint16_t *packed = malloc(size * sizeof(*packed));
    float *made =
        malloc(larger((size_t)c->q_lora, (size_t)(c->n_heads * c->kv_lora)) * sizeof(*made));
    int r = packed && made ? 0 : agon_fail(err, AGON_ENOMEM, "weights: out of memory");
    for (int i = 0; i <= c->n_layers && r == 0; i++) {
        bool head = i == c->n_layers;
        size_t bytes = (head ? head_size(c) : layout_of(c, i).end) * sizeof(*packed);
        memset(packed, 0, bytes);
        if ((r = head ? pack_matrix(packed, &f->weights.head, err)
                      : pack_layer(packed, f, i, made, err)) ||
            (r = agon_cuda_copy(f->stack.weights + at, packed, bytes, NULL, err)))
            break;
        if (!head)
            f->stack.layers[i] = layer_of(f, i, f->stack.weights + at);
        r = agon_cuda_sync(NULL, err);
        at += bytes;
    }
    free(packed);
    free(made);
    return r;
}

/* ---- making it ---------------------------------------------------------------------- */

/* What config.json must say, beside what agon_stack_does() asks. */
static bool config_fits(const struct agon_config *c)
{
    for (int i = 0; i < c->n_layers; i++)
        if (!c->indexer[i] || layer_inner(c, i) <= 0 || layer_inner(c, i) % 32 ||
            layer_groups(c, i) > AGON_STACK_GROUPS_MAX)
            return false;
    return c->kv_lora == AGON_STACK_KV && c->rope_dim == AGON_STACK_ROPE &&
           c->index_dim == AGON_STACK_INDEX_DIM && c->window <= AGON_STACK_WINDOW_MAX &&
           c->router.n_group == 1;
}

static struct agon_stack model_of(const struct cuda_forward *f)
{
    const struct agon_config *c = f->config;
    struct agon_stack s = {.hidden = c->hidden,
                           .n_heads = c->n_heads,
                           .q_lora = c->q_lora,
                           .index_heads = c->index_heads,
                           .index_topk = c->index_topk,
                           .n_layers = c->n_layers,
                           .n_vocab = c->n_vocab,
                           .n_experts = c->router.n_experts,
                           .n_shared = c->n_shared,
                           .top_k = c->router.top_k,
                           .normalise = c->router.normalise,
                           .index_interleaved = c->index_interleaved,
                           .route_scale = c->router.scale,
                           .eps = c->norm_eps,
                           .latent_eps = LATENT_EPS,
                           .softmax_scale = f->softmax_scale,
                           .index_scale = f->index_scale,
                           .latents = f->latents,
                           .keys = f->keys,
                           .latent_layer_bytes = f->latent_layer_bytes,
                           .keys_layer_bytes = f->keys_layer_bytes,
                           .rows = {.n_max = c->window},
                           .n_rows_max = f->n_rows_max};
    for (int i = 0; i < c->n_layers; i++) {
        int pairs = c->sparse[i] ? c->router.top_k + c->n_shared : layer_groups(c, i);
        s.pairs_max = s.pairs_max > pairs ? s.pairs_max : pairs;
        s.inner_max = s.inner_max > layer_inner(c, i) ? s.inner_max : layer_inner(c, i);
    }
    return s;
}

int cuda_stack_init(struct cuda_forward *f, struct agon_err *err)
{
    const struct agon_config *c = f->config;
    if (!f->fast || f->fp8 || f->latent_format != AGON_LATENT_BF16 ||
        f->keys_format != AGON_KEYS_F32 || !config_fits(c))
        return 0;
    struct agon_stack model = model_of(f);
    size_t bytes = 0;
    void *weights, *scratch;
    int r;
    if (!agon_stack_does(&model))
        return 0;
    for (int i = 0; i < c->n_layers; i++)
        bytes += layout_of(c, i).end * sizeof(uint16_t);
    size_t head_at = bytes;
    bytes += head_size(c) * sizeof(uint16_t);
    if ((r = agon_cuda_alloc(&weights, bytes, err)))
        return agon_err_in(err, r, "weights");
    f->stack.weights = weights;
    f->stack.layers = calloc((size_t)c->n_layers, sizeof(*f->stack.layers));
    if (!f->stack.layers)
        return agon_fail(err, AGON_ENOMEM, "weights: out of memory");
    if ((r = agon_cuda_alloc(&scratch, agon_stack_scratch(&model), err)))
        return agon_err_in(err, r, "engine: buffers");
    f->stack.scratch = scratch;
    model.layers = f->stack.layers;
    model.scratch = scratch;
    model.head = f->stack.weights + head_at;
    model.norm = f->weights.norm;
    model.logits = f->logits;
    model.x = f->x;
    model.cosine = f->cosine;
    model.sine = f->sine;
    f->stack.model = model;
    f->stack.used = true;
    return cuda_stack_pack(f, err);
}

void cuda_stack_deinit(struct cuda_stack *stack)
{
    agon_cuda_free(stack->weights);
    free(stack->layers);
    agon_cuda_free(stack->scratch);
    *stack = (struct cuda_stack){0};
}

/* ---- the pass ----------------------------------------------------------------------- */

static struct agon_stack stack_of(const struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    struct agon_stack s = f->stack.model;
    s.rows = cuda_run_rows(run, 0, run->pass->n_rows, false);
    s.store = cuda_run_rows(run, 0, run->pass->n_rows, true).row_sequence;
    s.apart = run->pass->apart;
    s.table = f->weights.embedding;
    s.ids = f->batch.ids;
    s.inv_freq = f->weights.inv_freq;
    s.slots = run->pass->slots;
    s.n_slots = run->pass->n_slots;
    s.slot_position = f->batch.position;
    s.slot_sequence = f->batch.sequence;
    return s;
}

/* What layer i selected, to the records and to the trace. */
static int selection_done(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    int n = run->pass->n_rows, r;
    if ((r = agon_stack_list_cuda(f->positions, f->n_slots, c->index_topk, f->mask,
                                  run->pass->ld_pages, n, run->stream, run->err)))
        return r;
    struct agon_cuda_rows rows = cuda_run_rows(run, 0, n, true);
    if (f->n_selected > 0 &&
        (r = agon_cuda_record_selected(
             f->selected, (size_t)f->n_selected, run->i_layer * c->index_topk, f->positions,
             (size_t)c->index_topk, c->index_topk, &rows, run->stream, run->err)))
        return r;
    return run->pass->layer_done ? run->pass->layer_done(run->pass->user, run->i_layer, run->err)
                                 : 0;
}

/* The experts of the layer that ran, to the records. */
static int experts_done(struct cuda_run *run)
{
    struct cuda_forward *f = run->f;
    int top_k = f->config->router.top_k;
    struct agon_cuda_rows rows = cuda_run_rows(run, 0, run->pass->n_rows, true);
    return agon_cuda_record_experts(f->experts, (size_t)f->n_experts, run->i_sparse * top_k,
                                    f->route_ids, (size_t)top_k, top_k, &rows, run->stream,
                                    run->err);
}

/* A layer by itself, and what is recorded of it. */
static int run_layer(struct cuda_run *run, struct agon_stack *s)
{
    const struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    int at = run->i_layer * AGON_STACK_STAGES, from = at + AGON_STACK_ATTEND, r;
    size_t forced = (size_t)f->n_rows_max * (size_t)c->router.top_k;
    bool sparse = c->sparse[run->i_layer];
    bool selects = f->n_selected > 0 || run->pass->select_all || run->pass->layer_done;
    s->mask = selects ? f->mask : NULL;
    s->ld_mask = run->pass->ld_pages;
    s->forced =
        run->pass->forced && sparse ? f->batch.forced + (size_t)run->i_sparse * forced : NULL;
    s->route_ids = sparse && f->n_experts > 0 ? f->route_ids : NULL;
    if ((r = agon_stack_cuda(s, at, from, run->stream, run->err)))
        return r;
    if (selects) {
        if ((r = agon_stack_cuda(s, from, from + 1, run->stream, run->err)) ||
            (r = selection_done(run)))
            return r;
        from++;
    }
    r = agon_stack_cuda(s, from, at + AGON_STACK_STAGES, run->stream, run->err);
    return r || !s->route_ids ? r : experts_done(run);
}

int cuda_stack_run(struct cuda_run *run)
{
    const struct cuda_forward *f = run->f;
    const struct agon_config *c = f->config;
    const struct cuda_pass *pass = run->pass;
    struct agon_stack s = stack_of(run);
    int r = 0, head = agon_stack_head(&s);
    bool recorded = f->n_selected > 0 || f->n_experts > 0;
    if (!recorded && !pass->forced && !pass->select_all && !pass->layer_done) {
        r = agon_stack_cuda(&s, 0, head, run->stream, run->err);
        run->i_layer = c->n_layers;
    }
    for (; r == 0 && run->i_layer < c->n_layers; run->i_layer++) {
        r = run_layer(run, &s);
        run->i_sparse += c->sparse[run->i_layer];
    }
    s.rows.n_rows = pass->n_logits;
    s.logit_rows = pass->apart ? NULL : f->batch.logit_rows;
    return r ? r : agon_stack_cuda(&s, head, head + 1, run->stream, run->err);
}
