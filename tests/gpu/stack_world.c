/* See stack_world.h. */
#include "tests/gpu/stack_world.h"

static struct gpu_buffer keep_uploaded(const void *from, size_t bytes)
{
    struct gpu_buffer b = gpu_upload(from, bytes);
    EXPECT(agon_cuda_sync(NULL, &(struct agon_err){0}) == 0);
    return b;
}

enum packing { PACKED, PACKED_F16, SWIZZLED };

static struct matrix matrix_new(int n, int k, float scale, enum packing packing)
{
    bool half = packing == PACKED_F16;
    struct matrix m = {random_floats((size_t)n * (size_t)k), n, k, {0}, {0}};
    uint16_t *packed = calloc(agon_stack_packed_size(n, k), sizeof(*packed));
    for (int i = 0; i < n; i++)
        for (int j = 0; j < k; j++) {
            float *w = &m.w[(size_t)i * (size_t)k + (size_t)j];
            uint16_t code = half ? agon_f16_encode(*w * scale) : agon_bf16_encode(*w * scale);
            *w = half ? agon_f16_decode(code) : agon_bf16_decode(code);
            packed[packing == SWIZZLED ? agon_stack_swizzled_at(k, i, j)
                                       : agon_stack_packed_at(k, i, j)] = code;
        }
    m.packed = keep_uploaded(packed, agon_stack_packed_size(n, k) * sizeof(*packed));
    free(packed);
    return m;
}

static void matrix_tiles(struct matrix *m)
{
    int whole = (m->k + 63) / 64 * 64;
    uint16_t *tiles = calloc(agon_stack_packed_size(m->n, whole), sizeof(*tiles));
    for (int i = 0; i < m->n; i++)
        for (int j = 0; j < m->k; j++)
            tiles[agon_stack_swizzled_at(whole, i, j)] =
                agon_bf16_encode(m->w[(size_t)i * (size_t)m->k + (size_t)j]);
    m->tiles = keep_uploaded(tiles, agon_stack_packed_size(m->n, whole) * sizeof(*tiles));
    free(tiles);
}

static float *around(float base, float scale, size_t n)
{
    float *x = random_floats(n);
    for (size_t i = 0; i < n; i++)
        x[i] = base + scale * x[i];
    return x;
}

static void layer_init(struct layer *l, const struct dims *d, bool sparse)
{
    int n_groups = sparse ? d->n_shared + d->n_experts : d->pieces;
    const int sizes[] = {d->hidden, d->hidden, d->q_lora, KV, DIM, DIM};
    l->input = matrix_new(d->q_lora + ENTRY + DIM + d->index_heads, d->hidden, 0.15F, PACKED);
    l->query = matrix_new(d->n_heads * ENTRY + d->index_heads * DIM, d->q_lora, 0.2F, PACKED_F16);
    l->output = matrix_new(d->hidden, d->n_heads * KV, 0.1F, PACKED_F16);
    l->gate_up = matrix_new(n_groups * 2 * d->inner, d->hidden, 0.2F, SWIZZLED);
    l->down = matrix_new(n_groups * d->hidden, d->inner, 0.2F, PACKED);
    matrix_tiles(&l->down);
    for (int i = 0; i < 6; i++) {
        l->norms[i] = around(i == 5 ? 0 : 1, 0.1F, (size_t)sizes[i]);
        l->on_device[i] = keep_uploaded(l->norms[i], (size_t)sizes[i] * sizeof(float));
    }
    l->router = around(0, 0.2F, (size_t)(d->n_experts * d->hidden));
    l->bias = around(0, 0.05F, (size_t)d->n_experts);
    l->on_device[6] = keep_uploaded(l->router, (size_t)(d->n_experts * d->hidden) * sizeof(float));
    l->on_device[7] = keep_uploaded(l->bias, (size_t)d->n_experts * sizeof(float));
    l->device = (struct agon_stack_layer){.attention_norm = l->on_device[0].p,
                                          .mlp_norm = l->on_device[1].p,
                                          .q_norm = l->on_device[2].p,
                                          .kv_norm = l->on_device[3].p,
                                          .index_norm = l->on_device[4].p,
                                          .index_bias = l->on_device[5].p,
                                          .input = l->input.packed.p,
                                          .query = l->query.packed.p,
                                          .output = l->output.packed.p,
                                          .router = sparse ? l->on_device[6].p : NULL,
                                          .router_bias = l->on_device[7].p,
                                          .gate_up = l->gate_up.packed.p,
                                          .down = l->down.packed.p,
                                          .down_tiles = l->down.tiles.p,
                                          .n_groups = n_groups,
                                          .inner = d->inner};
}

/* Every 11th row is absent, every 13th short, every 9th shares nothing, every 17th is not stored.
 */
static void rows_init(struct world *w)
{
    const struct dims *d = &w->d;
    size_t n = (size_t)d->n_rows;
    int n_common = d->n_prefix / AGON_CUDA_PAGE;
    w->sequence = malloc(n * sizeof(int32_t));
    w->store = malloc(n * sizeof(int32_t));
    w->position = malloc(n * sizeof(int32_t));
    w->pages = malloc(n * LD_PAGES * sizeof(int32_t));
    w->n_pages = n_common;
    for (int r = 0; r < d->n_rows; r++) {
        bool shares = r % 9 != 3;
        w->position[r] = r % 13 == 5 ? 20 + r % 30 : d->n_prefix + r * 7 % 90;
        w->sequence[r] = r % 11 == 7 ? -1 : r;
        bool stored = w->sequence[r] >= 0 && r % 17 != 4 &&
                      (w->position[r] / AGON_CUDA_PAGE >= n_common || !shares);
        w->store[r] = stored ? r : -1;
        for (int i = 0; i < LD_PAGES; i++)
            w->pages[r * LD_PAGES + i] = i < n_common && shares                 ? i
                                         : i <= w->position[r] / AGON_CUDA_PAGE ? w->n_pages++
                                                                                : 0;
    }
}

static uint16_t *key_part(uint16_t *pool, size_t slot, int dim, int low)
{
    return pool + slot / AGON_CUDA_PAGE * (size_t)(AGON_CUDA_PAGE * DIM * 2) +
           agon_stack_key_at((int)(slot % AGON_CUDA_PAGE), dim, low);
}

/* Keys as the device has them: BF16 and what is left over. w->keys become what they then are. */
static void keys_pack(uint16_t *to, struct world *w, size_t n_slots)
{
    for (size_t slot = 0; slot < n_slots; slot++)
        for (int i = 0; i < DIM; i++) {
            float *x = &w->keys[slot * DIM + (size_t)i];
            uint16_t high = agon_bf16_encode(*x);
            uint16_t low = agon_bf16_encode(*x - agon_bf16_decode(high));
            *key_part(to, slot, i, 0) = high;
            *key_part(to, slot, i, 1) = low;
            *x = agon_bf16_decode(high) + agon_bf16_decode(low);
        }
}

void world_keys_download(struct world *w)
{
    size_t n_slots = (size_t)w->n_pages * AGON_CUDA_PAGE * N_LAYERS;
    uint16_t *from = malloc(n_slots * DIM * sizeof(float));
    gpu_download(from, &w->on_device[9]);
    for (size_t slot = 0; slot < n_slots; slot++)
        for (int i = 0; i < DIM; i++)
            w->keys[slot * DIM + (size_t)i] = agon_bf16_decode(*key_part(from, slot, i, 0)) +
                                              agon_bf16_decode(*key_part(from, slot, i, 1));
    free(from);
}

void world_init(struct world *w, const struct dims *d)
{
    size_t n = (size_t)d->n_rows;
    random_state = 77; /* of this file's own generator: the same world each time */
    *w = (struct world){.d = *d};
    for (int i = 0; i < N_LAYERS; i++)
        layer_init(&w->layers[i], d, i > 0);
    w->head = matrix_new(d->n_vocab, d->hidden, 0.1F, PACKED);
    w->norm = around(1, 0.1F, (size_t)d->hidden);
    rows_init(w);
    size_t slots = (size_t)w->n_pages * AGON_CUDA_PAGE * N_LAYERS;
    w->latents = malloc(slots * ENTRY * sizeof(uint16_t));
    for (size_t i = 0; i < slots * ENTRY; i++)
        w->latents[i] = agon_bf16_encode(random_float());
    w->keys = random_floats(slots * DIM);
    uint16_t *keys = malloc(slots * DIM * sizeof(float));
    keys_pack(keys, w, slots);
    w->x = around(0, 2, n * (size_t)d->hidden);
    for (int i = 0; i < 2; i++)
        w->angles[i] = malloc(n * ROPE / 2 * sizeof(float));
    for (size_t i = 0; i < n * ROPE / 2; i++) {
        float angle = 3 * random_float();
        w->angles[0][i] = cosf(angle);
        w->angles[1][i] = sinf(angle);
    }
    const void *from[] = {w->norm,  w->x,        w->angles[0], w->angles[1], w->sequence,
                          w->store, w->position, w->pages,     w->latents,   keys};
    const size_t bytes[] = {(size_t)d->hidden * 4,
                            n * (size_t)d->hidden * 4,
                            n * ROPE / 2 * 4,
                            n * ROPE / 2 * 4,
                            n * 4,
                            n * 4,
                            n * 4,
                            n * LD_PAGES * 4,
                            slots * ENTRY * 2,
                            slots * DIM * 4};
    for (int i = 0; i < 10; i++)
        w->on_device[i] = keep_uploaded(from[i], bytes[i]);
    free(keys);
    w->on_device[10] = gpu_poisoned(n * (size_t)d->n_vocab * sizeof(float), 0xff);
    for (int i = 0; i < N_LAYERS; i++)
        w->layers[i].device.next_norm =
            i + 1 < N_LAYERS ? w->layers[i + 1].device.attention_norm : w->on_device[0].p;
}

struct agon_stack stack_of(struct world *w, const struct agon_stack_layer *layers, int first, int n)
{
    const struct dims *d = &w->d;
    size_t at = (size_t)first, page = (size_t)w->n_pages * AGON_CUDA_PAGE;
    return (struct agon_stack){
        .hidden = d->hidden,
        .n_heads = d->n_heads,
        .q_lora = d->q_lora,
        .index_heads = d->index_heads,
        .index_topk = d->k,
        .n_layers = N_LAYERS,
        .n_experts = d->n_experts,
        .n_shared = d->n_shared,
        .top_k = d->top_k,
        .pairs_max = d->top_k + d->n_shared > d->pieces ? d->top_k + d->n_shared : d->pieces,
        .inner_max = d->inner,
        .normalise = true,
        .index_interleaved = d->interleaved,
        .route_scale = 1.5F,
        .eps = 1e-6F,
        .latent_eps = 1e-6F,
        .softmax_scale = 0.125F,
        .index_scale = 0.3F,
        .layers = layers,
        .latents = w->on_device[8].p,
        .keys = w->on_device[9].p,
        .latent_layer_bytes = page * ENTRY * 2,
        .keys_layer_bytes = page * DIM * 4,
        .rows = {.n_rows = n,
                 .n_max = LD_PAGES * AGON_CUDA_PAGE,
                 .row_sequence = (int32_t *)w->on_device[4].p + at,
                 .row_position = (int32_t *)w->on_device[6].p + at,
                 .pages = w->on_device[7].p,
                 .ld_pages = LD_PAGES},
        .apart = true,
        .store = (int32_t *)w->on_device[5].p + at,
        .cosine = (float *)w->on_device[2].p + at * ROPE / 2,
        .sine = (float *)w->on_device[3].p + at * ROPE / 2,
        .n_vocab = d->n_vocab,
        .norm = w->on_device[0].p,
        .head = w->head.packed.p,
        .logits = (float *)w->on_device[10].p + at * (size_t)d->n_vocab,
        .x = (float *)w->on_device[1].p + at * (size_t)d->hidden,
        .n_rows_max = n};
}

void world_free(struct world *w)
{
    for (int i = 0; i < N_LAYERS; i++) {
        struct layer *l = &w->layers[i];
        struct matrix *all[] = {&l->input, &l->query, &l->output, &l->gate_up, &l->down};
        for (int j = 0; j < 5; j++) {
            free(all[j]->w);
            gpu_buffer_free(&all[j]->packed);
            gpu_buffer_free(&all[j]->tiles);
        }
        for (int j = 0; j < 6; j++)
            free(l->norms[j]);
        for (int j = 0; j < 8; j++)
            gpu_buffer_free(&l->on_device[j]);
        free(l->router);
        free(l->bias);
    }
    void *owned[] = {w->head.w, w->norm,     w->x,     w->angles[0], w->angles[1], w->sequence,
                     w->store,  w->position, w->pages, w->latents,   w->keys};
    for (size_t i = 0; i < sizeof(owned) / sizeof(owned[0]); i++)
        free(owned[i]);
    gpu_buffer_free(&w->head.packed);
    for (int i = 0; i < 11; i++)
        gpu_buffer_free(&w->on_device[i]);
}
