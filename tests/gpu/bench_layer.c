/*
 * One decoder layer of DeepSeek-V3.2's dimensions (128 heads, entries of 512 + 64, 64 index heads,
 * 256 experts of 2,048, 8 a row, all weights e4m3), as the engine runs it with FP8 caches: decode
 * steps and chunks of prompts by length of context, sparse (indexer, top-k, 2,048 entries a row)
 * beside dense (absorbed attention over all entries, no indexer). Medians over replays of a graph.
 *
 * Weights, inputs and caches are random; every sequence has pages of its own, in shuffled order.
 */
#include "model/cuda_forward_internal.h"
#include "tests/gpu/median.h"

enum {
    LAYER_ROWS_MAX = 2048,
    N_VOCAB = 4096,
    WINDOW = 131072,
    TOPK = 2048,
    BLOCK_BYTES = 1 << 24,
};

struct layer_bench {
    struct agon_config sparse, dense;
    struct cuda_layer layer;
    struct cuda_forward forward;
    struct cuda_pass pass;
    struct gpu_buffer ids, position, sequence, pages;
    bool is_sparse;
};

static void fail_if(int r, const struct agon_err *err)
{
    if (r) {
        printf("failed: %s\n", err->text);
        exit(1);
    }
}

/* ---- weights ------------------------------------------------------------------------ */

/* Fill bytes of the device with repeats of a random block of valid numbers; floats are scales. */
static void fill(void *to, size_t bytes, enum agon_dtype dtype, float width)
{
    struct agon_err err = {0};
    size_t size = agon_dtype_size(dtype), n = BLOCK_BYTES / size;
    uint8_t *block = malloc(BLOCK_BYTES);
    for (size_t i = 0; i < n; i++) {
        float x = random_float();
        if (dtype == AGON_E4M3)
            block[i] = agon_e4m3_encode(448 * x);
        else if (dtype == AGON_BF16)
            ((uint16_t *)(void *)block)[i] = agon_bf16_encode(width * x);
        else
            ((float *)(void *)block)[i] = width;
    }
    GPU_AUTO source = gpu_upload(block, BLOCK_BYTES);
    for (size_t at = 0; at < bytes; at += BLOCK_BYTES)
        fail_if(agon_cuda_copy((char *)to + at, source.p,
                               bytes - at < BLOCK_BYTES ? bytes - at : BLOCK_BYTES, NULL, &err),
                &err);
    fail_if(agon_cuda_sync(NULL, &err), &err);
    free(block);
}

/* Variance 1 / k, as of a layer at its beginning. */
static struct agon_cuda_matrix matrix_new(int n, int k, enum agon_dtype dtype, int scale_rows)
{
    struct agon_err err = {0};
    struct agon_cuda_matrix w;
    float width = sqrtf(3.0F / (float)k);
    fail_if(agon_cuda_matrix_alloc(&w, n, k, dtype, scale_rows, &err), &err);
    fill(w.data, (size_t)n * w.ld * agon_dtype_size(dtype), dtype, width);
    if (dtype == AGON_E4M3)
        fill(w.scale, cuda_blocks(n * 128 / scale_rows) * (size_t)w.ld_scale * sizeof(float),
             AGON_F32, agon_ue8m0_round_up(width / 448));
    return w;
}

static float *vector_new(int n, float value)
{
    float *x = malloc((size_t)n * sizeof(*x));
    for (int i = 0; i < n; i++)
        x[i] = value;
    struct gpu_buffer b = gpu_upload(x, (size_t)n * sizeof(*x));
    free(x);
    return b.p;
}

static struct agon_config config_of_v32(void)
{
    struct agon_config c = {.n_vocab = N_VOCAB,
                            .hidden = 7168,
                            .n_layers = 1,
                            .window = WINDOW,
                            .n_heads = 128,
                            .q_lora = 1536,
                            .kv_lora = 512,
                            .nope_dim = 128,
                            .rope_dim = 64,
                            .v_dim = 128,
                            .index_heads = 64,
                            .index_dim = 128,
                            .index_topk = TOPK,
                            .dense_dim = 18432,
                            .expert_dim = 2048,
                            .n_shared = 1,
                            .norm_eps = 1e-6F,
                            .fp8 = true};
    c.sparse[0] = c.indexer[0] = true;
    c.router = (struct agon_router){.n_experts = 256,
                                    .n_group = 8,
                                    .topk_group = 4,
                                    .top_k = 8,
                                    .normalise = true,
                                    .scale = 2.5F};
    c.rope = (struct agon_rope){.dim = 64,
                                .theta = 10000,
                                .yarn = true,
                                .factor = 40,
                                .beta_fast = 32,
                                .beta_slow = 1,
                                .mscale_all_dim = 1,
                                .original_positions = 4096};
    return c;
}

static void weights_new(struct layer_bench *b)
{
    const struct agon_config *c = &b->sparse;
    struct cuda_layer *l = &b->layer;
    int qk = c->nope_dim + c->rope_dim, latents = c->q_lora + c->kv_lora + c->rope_dim;
    l->attention_norm = vector_new(c->hidden, 1);
    l->mlp_norm = vector_new(c->hidden, 1);
    l->q_a_norm = vector_new(c->q_lora, 1);
    l->kv_a_norm = vector_new(c->kv_lora, 1);
    l->index_norm = vector_new(c->index_dim, 1);
    l->index_bias = vector_new(c->index_dim, 0);
    l->router_bias = vector_new(c->router.n_experts, 0);
    l->input = matrix_new(latents + c->index_dim, c->hidden, AGON_E4M3, 1);
    l->index_weights = matrix_new(c->index_heads, c->hidden, AGON_BF16, 0);
    l->query =
        matrix_new(c->n_heads * qk + c->index_heads * c->index_dim, c->q_lora, AGON_E4M3, 128);
    l->absorb = matrix_new(c->n_heads * c->kv_lora, c->nope_dim, AGON_BF16, 0);
    l->value = matrix_new(c->n_heads * c->v_dim, c->kv_lora, AGON_BF16, 0);
    l->output = matrix_new(c->hidden, c->n_heads * c->v_dim, AGON_E4M3, 128);
    l->router = matrix_new(c->router.n_experts, c->hidden, AGON_BF16, 0);
    l->gate_up = matrix_new(2 * c->expert_dim, c->hidden, AGON_E4M3, 128);
    l->down = matrix_new(c->hidden, c->expert_dim, AGON_E4M3, 128);
    int n = c->router.n_experts;
    l->moe = (struct agon_cuda_moe){.n_experts = n, .hidden = c->hidden, .inner = c->expert_dim};
    l->moe.gate_up = matrix_new(n * 2 * c->expert_dim, c->hidden, AGON_E4M3, 128);
    l->moe.down = matrix_new(n * c->hidden, c->expert_dim, AGON_E4M3, 128);
    double inv_freq[32];
    agon_rope_frequencies(inv_freq, &c->rope);
    b->forward.weights =
        (struct cuda_weights){.embedding = matrix_new(N_VOCAB, c->hidden, AGON_BF16, 0),
                              .layers = l,
                              .inv_freq = gpu_upload(inv_freq, sizeof(inv_freq)).p,
                              .n_layers = 1};
}

/* ---- rows and their past ------------------------------------------------------------ */

/* Every page of the pools gets entries and keys from random rows, no two the same. */
static void cache_fill(struct layer_bench *b)
{
    enum { PART = 16384, WIDTH = 576 };
    struct cuda_forward *f = &b->forward;
    struct agon_err err = {0};
    size_t n_slots = (size_t)f->n_pages * AGON_CUDA_PAGE;
    int n_parts = (int)((n_slots + PART - 1) / PART);
    float *values = random_floats((size_t)PART * WIDTH + (size_t)n_parts);
    int32_t *zero = calloc(PART, sizeof(*zero)), *position = malloc(PART * sizeof(*position));
    int32_t *pages = malloc(sizeof(*pages) * PART / AGON_CUDA_PAGE);
    for (int i = 0; i < PART; i++)
        position[i] = i;
    GPU_AUTO d_values =
        gpu_upload(values, ((size_t)PART * WIDTH + (size_t)n_parts) * sizeof(*values));
    GPU_AUTO d_zero = gpu_upload(zero, PART * sizeof(*zero));
    GPU_AUTO d_position = gpu_upload(position, PART * sizeof(*position));
    for (int p = 0; p < n_parts; p++) {
        int first = p * (PART / AGON_CUDA_PAGE), n = f->n_pages - first;
        n = n < PART / AGON_CUDA_PAGE ? n : PART / AGON_CUDA_PAGE;
        for (int i = 0; i < n; i++)
            pages[i] = first + i;
        GPU_AUTO d_pages = gpu_upload(pages, (size_t)n * sizeof(*pages));
        struct agon_cuda_rows rows = {n * AGON_CUDA_PAGE, PART, d_zero.p, d_position.p,
                                      d_pages.p,          n,    NULL};
        struct agon_mla_rows latent_rows = {n * AGON_CUDA_PAGE, d_zero.p, d_position.p, d_pages.p,
                                            n};
        struct agon_mla_cache cache = {f->latents, f->latent_format, 512, 64};
        struct agon_cuda_keys keys = {f->keys, f->keys_format, 128, f->n_pages};
        const float *from = (const float *)d_values.p + p; /* others for each part */
        fail_if(agon_mla_store_cuda(&cache, from, AGON_F32, WIDTH, &latent_rows, NULL, &err), &err);
        fail_if(agon_cuda_index_store(&keys, from, WIDTH, &rows, NULL, &err), &err);
        fail_if(agon_cuda_sync(NULL, &err), &err);
    }
    free(values), free(zero), free(position), free(pages);
}

static void batch_free(struct layer_bench *b)
{
    gpu_buffer_free(&b->ids), gpu_buffer_free(&b->position);
    gpu_buffer_free(&b->sequence), gpu_buffer_free(&b->pages);
}

/* n_sequences with n_context positions each, the last n_rows / n_sequences of which are rows. */
static void batch_new(struct layer_bench *b, int n_sequences, int n_rows, int n_context)
{
    int each = n_rows / n_sequences, ld = n_context / AGON_CUDA_PAGE, n_pages = n_sequences * ld;
    int32_t *ids = malloc((size_t)n_rows * sizeof(*ids));
    int32_t *position = malloc((size_t)n_rows * sizeof(*position));
    int32_t *sequence = malloc((size_t)n_rows * sizeof(*sequence));
    int32_t *pages = malloc((size_t)n_pages * sizeof(*pages));
    for (int r = 0; r < n_rows; r++) {
        ids[r] = random_below(N_VOCAB);
        sequence[r] = r / each;
        position[r] = n_context - each + r % each;
    }
    for (int i = 0; i < n_pages; i++) {
        int j = random_below(i + 1);
        pages[i] = pages[j];
        pages[j] = i;
    }
    batch_free(b);
    b->ids = gpu_upload(ids, (size_t)n_rows * sizeof(*ids));
    b->position = gpu_upload(position, (size_t)n_rows * sizeof(*position));
    b->sequence = gpu_upload(sequence, (size_t)n_rows * sizeof(*sequence));
    b->pages = gpu_upload(pages, (size_t)n_pages * sizeof(*pages));
    free(ids), free(position), free(sequence), free(pages);
    b->forward.batch = (struct cuda_batch){
        .ids = b->ids.p, .position = b->position.p, .sequence = b->sequence.p, .pages = b->pages.p};
    b->pass = (struct cuda_pass){.n_rows = n_rows, .n_max = n_context, .ld_pages = ld};
}

/* ---- what is timed ------------------------------------------------------------------ */

static struct cuda_run run_of(struct layer_bench *b, void *stream, struct agon_err *err)
{
    b->forward.config = b->is_sparse ? &b->sparse : &b->dense;
    return (struct cuda_run){
        .f = &b->forward, .pass = &b->pass, .layer = &b->layer, .stream = stream, .err = err};
}

static int run_layer(void *arg, void *stream, struct agon_err *err)
{
    struct layer_bench *b = arg;
    (void)run_of(b, stream, err);
    return cuda_forward_run(&b->forward, &b->pass, stream, err);
}

static int run_mlp(void *arg, void *stream, struct agon_err *err)
{
    struct cuda_run run = run_of(arg, stream, err);
    return cuda_run_mlp(&run);
}

/* The routed experts alone: all of them on this device, or the first n_experts, whose pairs are
 * then n_rows rows of one choice each, spread evenly. */
struct experts_bench {
    struct layer_bench *b;
    struct agon_cuda_moe moe;
    struct agon_cuda_moe_run run;
};

static int run_experts(void *arg, void *stream, struct agon_err *err)
{
    struct experts_bench *e = arg;
    return agon_cuda_moe(&e->moe, &e->run, AGON_GEMM_FAST, stream, err);
}

static double experts_us(struct layer_bench *b, int n_experts, int n_rows, int top_k)
{
    struct agon_err err = {0};
    int32_t *ids = malloc((size_t)(n_rows * top_k) * sizeof(*ids));
    for (int r = 0; r < n_rows; r++)
        for (int k = 0; k < top_k; k++) /* different ones, in all groups alike */
            ids[r * top_k + k] = (r * 37 + k * (n_experts / top_k)) % n_experts;
    GPU_AUTO d_ids = gpu_upload(ids, (size_t)(n_rows * top_k) * sizeof(*ids));
    GPU_AUTO begin = gpu_poisoned(((size_t)n_experts + 1) * sizeof(int32_t), 0);
    GPU_AUTO pair_row = gpu_poisoned((size_t)(n_rows * top_k) * sizeof(int32_t), 0);
    GPU_AUTO pair_of = gpu_poisoned((size_t)(n_rows * top_k) * sizeof(int32_t), 0);
    struct cuda_forward *f = &b->forward;
    struct experts_bench e = {.b = b, .moe = b->layer.moe};
    e.moe.n_experts = n_experts;
    e.moe.gate_up.n = n_experts * 2 * e.moe.inner;
    e.moe.down.n = n_experts * e.moe.hidden;
    e.run = (struct agon_cuda_moe_run){.y = f->routed,
                                       .ld_y = (size_t)e.moe.hidden,
                                       .x = f->h,
                                       .x_dtype = AGON_BF16,
                                       .ld_x = (size_t)e.moe.hidden,
                                       .n_rows = n_rows,
                                       .top_k = top_k,
                                       .begin = begin.p,
                                       .pair_row = pair_row.p,
                                       .scratch = f->moe_scratch};
    fail_if(agon_cuda_moe_group(begin.p, pair_row.p, pair_of.p, d_ids.p, n_rows, NULL, top_k,
                                n_experts, NULL, &err) ||
                agon_cuda_sync(NULL, &err),
            &err);
    free(ids);
    return gpu_median_us((struct gpu_launch){run_experts, &e}, 2);
}

/* The root mean square of the layer's output, computed once more: random weights keep its size near
 * that of its input. What is no number ends the benchmark. */
static double output_rms(struct layer_bench *b, bool is_sparse)
{
    struct agon_err err = {0};
    size_t n = (size_t)b->pass.n_rows * (size_t)b->sparse.hidden;
    float *x = malloc(n * sizeof(*x));
    double square = 0;
    b->is_sparse = is_sparse;
    int r = run_layer(b, NULL, &err);
    if (r || (r = agon_cuda_sync(NULL, &err)) ||
        (r = agon_cuda_copy(x, b->forward.x, n * sizeof(*x), NULL, &err)) ||
        (r = agon_cuda_sync(NULL, &err)))
        printf("%s: ", is_sparse ? "sparse" : "dense");
    fail_if(r, &err);
    for (size_t i = 0; i < n; i++)
        square += (double)x[i] * x[i];
    free(x);
    if (!isfinite(square)) {
        printf("%s, %d rows at %d: the layer's output has what is no number\n",
               is_sparse ? "sparse" : "dense", b->pass.n_rows, b->pass.n_max);
        exit(1);
    }
    return sqrt(square / (double)n);
}

/* The best of n ways to cut a row's entries into blocks of threads (0: not at all). */
static double layer_us(struct layer_bench *b, bool is_sparse, const int *splits, int n, int *best)
{
    double least = INFINITY;
    b->is_sparse = is_sparse;
    for (int i = 0; i < n; i++) {
        struct agon_mla mla = {.cache = {b->forward.latents, b->forward.latent_format, 512, 64},
                               .rows = {.n_rows = b->pass.n_rows},
                               .n_heads = 128,
                               .scale = 1,
                               .ld_selected = TOPK,
                               .selected = is_sparse ? b->forward.slots : NULL,
                               .n_positions_max = b->pass.n_max,
                               .split = splits[i]};
        struct agon_err err = {0};
        GPU_AUTO scratch = gpu_poisoned(agon_mla_scratch(&mla) + 16, 0xff);
        fail_if(agon_cuda_sync(NULL, &err), &err); /* other streams do not wait for the poison */
        b->forward.mla_split = splits[i];
        b->forward.mla_scratch = scratch.p;
        double us = gpu_median_us((struct gpu_launch){run_layer, b}, 1);
        *best = us < least ? splits[i] : *best;
        least = us < least ? us : least;
    }
    b->forward.mla_split = 0;
    return least;
}

static void bench(struct layer_bench *b, const struct agon_cuda_info *gpu, int n_sequences,
                  int n_rows, int n_context)
{
    bool decode = n_sequences == n_rows;
    int n_splits = decode && n_rows < 512 ? 3 : 1, best_sparse = 0, best_dense = 0;
    const int of_sparse[] = {0, 512, 1024}, of_dense[] = {0, n_context / 4, n_context / 16};
    if ((long)n_sequences * n_context > (long)b->forward.n_pages * AGON_CUDA_PAGE) {
        printf("%d sequences of %d positions: no room on this device\n", n_sequences, n_context);
        return;
    }
    batch_new(b, n_sequences, n_rows, n_context);
    double sparse = layer_us(b, true, of_sparse, n_splits, &best_sparse);
    double mlp = gpu_median_us((struct gpu_launch){run_mlp, b}, 1);
    double dense = layer_us(b, false, of_dense, n_splits, &best_dense);
    double rms_sparse = output_rms(b, true), rms_dense = output_rms(b, false);
    /* Its part of the experts where 32 devices share them, each with as many rows: 8 experts, and
     * n_rows * 8 * 32 / 32 pairs. (On this device there is room for LAYER_ROWS_MAX of them.) */
    int n_pairs = 8 * n_rows < LAYER_ROWS_MAX ? 8 * n_rows : LAYER_ROWS_MAX;
    double all = experts_us(b, 256, n_rows, 8);
    double part = experts_us(b, 8, n_pairs, 1) * (8.0 * n_rows / n_pairs);
    double sparse_ep = sparse - all + part, dense_ep = dense - all + part;
    printf("%s: layer of V3.2, FP8, %s of %d rows at %dK: sparse %.0f us, dense %.0f us, "
           "dense/sparse %.2f; without the MLP's %.0f us: %.0f, %.0f, %.2f; with a 32nd of the "
           "experts: %.0f, %.0f, %.2f (split %d, %d; outputs' rms %.3f, %.3f)\n",
           gpu->name, decode ? "decode" : "prefill", n_rows, n_context / 1024, sparse, dense,
           dense / sparse, mlp, sparse - mlp, dense - mlp, (dense - mlp) / (sparse - mlp),
           sparse_ep, dense_ep, dense_ep / sparse_ep, best_sparse, best_dense, rms_sparse,
           rms_dense);
    fflush(stdout);
}

/* ---- the layer's products ----------------------------------------------------------- */

struct product_bench {
    struct layer_bench *b;
    const char *name;
    const struct agon_cuda_matrix *w;
    struct cuda_product product;
};

static int run_product(void *arg, void *stream, struct agon_err *err)
{
    struct product_bench *p = arg;
    struct cuda_run run = run_of(p->b, stream, err);
    return cuda_run_product(&run, &p->product, p->w, AGON_GEMM_FAST);
}

static void bench_products(struct layer_bench *b, const struct agon_cuda_info *gpu, int n_rows)
{
    struct cuda_forward *f = &b->forward;
    const struct cuda_layer *l = &b->layer;
    struct product_bench products[] = {
        {.name = "q_a, kv_a, wk", .w = &l->input, {.out = f->input, .x = f->h}},
        {.name = "weights_proj", .w = &l->index_weights, {.out = f->index_input, .x = f->h}},
        {.name = "q_b, wq_b",
         .w = &l->query,
         {.out = f->query, .out_dtype = AGON_BF16, .x = f->q_latent}},
        {.name = "absorbed W_UK",
         .w = &l->absorb,
         {.out = f->absorbed,
          .out_dtype = AGON_BF16,
          .x = f->query,
          .ld_out = 128 * 576,
          .ld_x = 128 * 192,
          .n_batch = 128,
          .batch_x = 192,
          .batch_out = 576}},
        {.name = "W_UV",
         .w = &l->value,
         {.out = f->heads,
          .out_dtype = AGON_BF16,
          .x = f->attended,
          .ld_out = 128 * 128,
          .ld_x = 128 * 512,
          .n_batch = 128,
          .batch_x = 512,
          .batch_out = 128}},
        {.name = "o_proj", .w = &l->output, {.out = f->update, .x = f->heads}},
        {.name = "router", .w = &l->router, {.out = f->route_logits, .x = f->h}},
        {.name = "shared gate, up",
         .w = &l->gate_up,
         {.out = f->act, .out_dtype = AGON_BF16, .x = f->h, .ld_out = 2048, .gated = true}},
        {.name = "shared down", .w = &l->down, {.out = f->shared_down, .x = f->act}},
    };
    batch_new(b, n_rows, n_rows, 64);
    printf("%s: products of %d rows, with their inputs' codes:", gpu->name, n_rows);
    for (size_t i = 0; i < sizeof(products) / sizeof(products[0]); i++) {
        struct product_bench *p = &products[i];
        p->b = b;
        p->product.x_dtype = AGON_BF16;
        p->product.ld_x = p->product.ld_x ? p->product.ld_x : (size_t)p->w->k;
        p->product.ld_out = p->product.ld_out ? p->product.ld_out : (size_t)p->w->n;
        printf(" %s %.1f us,", p->name, gpu_median_us((struct gpu_launch){run_product, p}, 3));
    }
    printf(" all experts and the shared one %.0f us\n",
           gpu_median_us((struct gpu_launch){run_mlp, b}, 1));
    fflush(stdout);
}

/* With a number: the products of so many rows alone. With three (sequences, rows, context): that
 * pass alone, once, for a sanitizer; and a word behind them: measured. */
int main(int argc, char **argv)
{
    struct agon_err err = {0};
    struct agon_cuda_info gpu = gpu_or_leave();
    static struct layer_bench b;
    static const int batches[] = {16, 64, 128, 256, 512, 768, 1024},
                     contexts[] = {4096, 32768, 131072};
    size_t page = AGON_CUDA_PAGE * agon_latent_bytes(AGON_LATENT_FP8, 512, 64) +
                  agon_keys_page_bytes(AGON_KEYS_FP8, 128);
    size_t n_pages = (size_t)1024 * 2048; /* beside weights and what a pass needs */
    while (n_pages > (size_t)64 * 2048 && page * n_pages + ((size_t)24 << 30) > gpu.memory_free)
        n_pages -= (size_t)64 * 2048;
    if (argc > 3)
        n_pages = (size_t)atoi(argv[1]) * (size_t)atoi(argv[3]) / AGON_CUDA_PAGE;
    else if (argc > 1)
        n_pages = LAYER_ROWS_MAX;
    struct cuda_forward_options options = {.n_rows_max = LAYER_ROWS_MAX,
                                           .n_logits_max = 1,
                                           .cache_bytes_max = page * n_pages,
                                           .fast = true,
                                           .fp8 = true};
    b.sparse = b.dense = config_of_v32();
    b.dense.indexer[0] = false;
    b.dense.index_topk = WINDOW; /* all of the past */
    weights_new(&b);
    fail_if(cuda_forward_prepare(&b.forward, &b.sparse, &options, &err), &err);
    cache_fill(&b);
    if (argc == 2) {
        bench_products(&b, &gpu, atoi(argv[1]));
        return 0;
    }
    if (argc > 3)
        batch_new(&b, atoi(argv[1]), atoi(argv[2]), atoi(argv[3]));
    else
        batch_new(&b, 64, 64, 4096);
    printf("%d rows at %d: the output's root mean square: sparse %g, dense %g\n", b.pass.n_rows,
           b.pass.n_max, output_rms(&b, true), output_rms(&b, false));
    if (argc > 4)
        bench(&b, &gpu, atoi(argv[1]), atoi(argv[2]), atoi(argv[3]));
    if (argc > 1)
        return 0;
    bench_products(&b, &gpu, 128);
    bench_products(&b, &gpu, 2048);
    for (size_t c = 0; c < sizeof(contexts) / sizeof(contexts[0]); c++)
        bench(&b, &gpu, 1, LAYER_ROWS_MAX, contexts[c]);
    for (size_t c = sizeof(contexts) / sizeof(contexts[0]); c-- > 0;)
        for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++)
            bench(&b, &gpu, batches[i], batches[i], contexts[c]);
    return 0;
}
