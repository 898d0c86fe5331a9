/* What stands between the products of a layer with FP8 caches: codes in the caches, and the
 * indexer's queries as codes, are those of the F32 rows by the CPU's quantisation, bit for bit. */
#include "kernels/cuda_latents.h"
#include "tests/gpu/mla.h"

struct shape {
    int n_rows, q_lora, kv_lora, rope_dim, n_heads, nope_dim, index_heads, index_dim;
    bool interleaved;
};
static const struct shape shapes[] = {
    {37, 96, 512, 64, 3, 32, 64, 128, false},
    {5, 33, 48, 16, 2, 8, 3, 32, true},
    {11, 1536, 512, 64, 32, 16, 8, 64, false}, /* a block of threads for each part of a row */
    {9, 17, 200, 8, 1, 16, 5, 96, false}, /* keys of 96 values are not rotated by Hadamard */
};

/* A row's values stand at the position that it writes; every third row writes none. */
struct world {
    struct shape s;
    int ld_input, ld_query, n_pages;
    float *input, *query, *norms, *angles;
    int32_t *sequence, *position, *pages;
    struct gpu_buffer d_input, d_query, d_norms, d_angles, d_sequence, d_position, d_pages;
};

static struct world world_new(struct shape s)
{
    struct world w = {.s = s, .n_pages = 4 * s.n_rows};
    size_t n = (size_t)s.n_rows;
    w.ld_input = s.q_lora + s.kv_lora + s.rope_dim + s.index_dim + 3;
    w.ld_query = s.n_heads * (s.nope_dim + s.rope_dim) + s.index_heads * s.index_dim;
    w.input = random_floats(n * (size_t)w.ld_input);
    w.query = random_floats(n * (size_t)w.ld_query);
    w.norms = random_floats((size_t)(s.q_lora + s.kv_lora + 2 * s.index_dim));
    w.angles = random_floats(n * (size_t)s.rope_dim);
    w.sequence = malloc(n * sizeof(int32_t));
    w.position = malloc(n * sizeof(int32_t));
    w.pages = malloc((size_t)w.n_pages * sizeof(int32_t));
    for (int i = 0; i < w.n_pages; i++)
        w.pages[i] = (i * 7 + 3) % w.n_pages;
    for (int r = 0; r < s.n_rows; r++) {
        w.sequence[r] = r % 3 == 2 ? -1 : r;
        w.position[r] = r * 5 % (4 * AGON_CUDA_PAGE);
    }
    w.d_input = gpu_upload(w.input, n * (size_t)w.ld_input * sizeof(float));
    w.d_query = gpu_upload(w.query, n * (size_t)w.ld_query * sizeof(float));
    w.d_norms =
        gpu_upload(w.norms, (size_t)(s.q_lora + s.kv_lora + 2 * s.index_dim) * sizeof(float));
    w.d_angles = gpu_upload(w.angles, n * (size_t)s.rope_dim * sizeof(float));
    w.d_sequence = gpu_upload(w.sequence, n * sizeof(int32_t));
    w.d_position = gpu_upload(w.position, n * sizeof(int32_t));
    w.d_pages = gpu_upload(w.pages, (size_t)w.n_pages * sizeof(int32_t));
    return w;
}

static void world_free(struct world *w)
{
    struct gpu_buffer *buffers[] = {&w->d_input,    &w->d_query,    &w->d_norms, &w->d_angles,
                                    &w->d_sequence, &w->d_position, &w->d_pages};
    for (size_t i = 0; i < sizeof(buffers) / sizeof(buffers[0]); i++)
        gpu_buffer_free(buffers[i]);
    free(w->input), free(w->query), free(w->norms), free(w->angles);
    free(w->sequence), free(w->position), free(w->pages);
}

static struct agon_cuda_latents latents_of(const struct world *w)
{
    const struct shape *s = &w->s;
    const float *norms = w->d_norms.p, *angles = w->d_angles.p;
    return (struct agon_cuda_latents){
        .input = w->d_input.p,
        .ld_input = (size_t)w->ld_input,
        .q_lora = s->q_lora,
        .index_dim = s->index_dim,
        .eps = 1e-6F,
        .q_norm = norms,
        .kv_norm = norms + s->q_lora,
        .index_norm = norms + s->q_lora + s->kv_lora,
        .index_bias = norms + s->q_lora + s->kv_lora + s->index_dim,
        .cosine = angles,
        .sine = angles + s->n_rows * s->rope_dim / 2,
        .index_interleaved = s->interleaved,
        .cache = {.kv_lora = s->kv_lora, .rope_dim = s->rope_dim},
        .keys = {.index_dim = s->index_dim, .n_pages = w->n_pages},
        .store = {.n_rows = s->n_rows,
                  .n_max = 4 * AGON_CUDA_PAGE,
                  .row_sequence = w->d_sequence.p,
                  .row_position = w->d_position.p,
                  .pages = w->d_pages.p,
                  .ld_pages = 4},
    };
}

/* Both pools after a run, in either format; bytes that are not written are 0xa5. */
struct pools {
    uint8_t *latents, *keys;
};
static struct pools pools_of(const struct world *w, enum agon_latent_format latent_format,
                             enum agon_keys_format keys_format)
{
    static struct agon_err err;
    const struct shape *s = &w->s;
    size_t rows = (size_t)s->n_rows;
    size_t latent_bytes = agon_latent_bytes(latent_format, s->kv_lora, s->rope_dim);
    size_t key_bytes = agon_keys_page_bytes(keys_format, s->index_dim);
    GPU_AUTO latents = gpu_poisoned((size_t)w->n_pages * AGON_CUDA_PAGE * latent_bytes, 0xa5);
    GPU_AUTO keys = gpu_poisoned((size_t)w->n_pages * key_bytes, 0xa5);
    GPU_AUTO q = gpu_poisoned(rows * (size_t)s->q_lora * sizeof(float), 0xff);
    GPU_AUTO entries = gpu_poisoned(rows * (size_t)(s->kv_lora + s->rope_dim) * sizeof(float), 255);
    GPU_AUTO key_rows = gpu_poisoned(rows * (size_t)s->index_dim * sizeof(float), 0xff);
    struct agon_cuda_latents p = latents_of(w);
    p.cache.latents = latents.p;
    p.cache.format = latent_format;
    p.keys.pool = keys.p;
    p.keys.format = keys_format;
    p.q_latent = q.p;
    p.entry_rows = entries.p;
    p.key_rows = key_rows.p;
    if (!EXPECT(agon_cuda_latents(&p, NULL, &err) == 0))
        printf("# %s\n", err.text);
    struct pools ret = {malloc(latents.bytes), malloc(keys.bytes)};
    gpu_download(ret.latents, &latents);
    gpu_download(ret.keys, &keys);
    return ret;
}

static size_t slot_of(const struct world *w, int r)
{
    return (size_t)w->pages[r * 4 + w->position[r] / AGON_CUDA_PAGE] * AGON_CUDA_PAGE +
           (size_t)(w->position[r] % AGON_CUDA_PAGE);
}

static void check_caches(const struct world *w)
{
    const struct shape *s = &w->s;
    struct pools f32 = pools_of(w, AGON_LATENT_F32, AGON_KEYS_F32);
    struct pools fp8 = pools_of(w, AGON_LATENT_FP8, AGON_KEYS_FP8);
    size_t bytes = agon_latent_bytes(AGON_LATENT_FP8, s->kv_lora, s->rope_dim);
    size_t dim = (size_t)s->index_dim, entry = (size_t)(s->kv_lora + s->rope_dim);
    size_t n_slots = (size_t)w->n_pages * AGON_CUDA_PAGE;
    size_t page_bytes = agon_keys_page_bytes(AGON_KEYS_FP8, s->index_dim);
    struct mla_world like = {
        .kv_lora = s->kv_lora, .rope_dim = s->rope_dim, .format = AGON_LATENT_FP8};
    uint8_t *latents = malloc(n_slots * bytes), *keys = malloc((size_t)w->n_pages * page_bytes);
    float *decoded = malloc(entry * sizeof(float)), *key = malloc(dim * sizeof(float));
    memset(latents, 0xa5, n_slots * bytes);
    memset(keys, 0xa5, (size_t)w->n_pages * page_bytes);
    for (int r = 0; r < s->n_rows; r++) {
        size_t slot = slot_of(w, r), in_page = slot % AGON_CUDA_PAGE;
        uint8_t *page = keys + slot / AGON_CUDA_PAGE * page_bytes;
        float scale;
        if (w->sequence[r] < 0)
            continue;
        mla_world_entry(&like, latents + slot * bytes, decoded,
                        (const float *)(void *)f32.latents + slot * entry);
        memcpy(key, (const float *)(void *)f32.keys + slot * dim, dim * sizeof(float));
        if ((dim & (dim - 1)) == 0)
            agon_hadamard_ref(key, key, s->index_dim);
        agon_act_quant_ref(page + in_page * dim, &scale, key, s->index_dim, true);
        memcpy(page + AGON_CUDA_PAGE * dim + in_page * sizeof(scale), &scale, sizeof(scale));
    }
    EXPECT(memcmp(latents, fp8.latents, n_slots * bytes) == 0);
    EXPECT(memcmp(keys, fp8.keys, (size_t)w->n_pages * page_bytes) == 0);
    free(latents), free(keys), free(decoded), free(key);
    free(f32.latents), free(f32.keys), free(fp8.latents), free(fp8.keys);
}

TEST(caches_hold_the_codes_of_the_rows)
{
    REQUIRE_GPU();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct world w = world_new(shapes[i]);
        check_caches(&w);
        world_free(&w);
    }
}

/* ---- queries ------------------------------------------------------------------------ */

static void check_queries(const struct world *w)
{
    static struct agon_err err;
    const struct shape *s = &w->s;
    size_t n_heads = (size_t)s->n_rows * (size_t)s->index_heads, dim = (size_t)s->index_dim;
    size_t n_entry = (size_t)s->n_rows * (size_t)(s->n_heads * (s->kv_lora + s->rope_dim));
    GPU_AUTO entry = gpu_poisoned(n_entry * sizeof(float), 0xa5);
    GPU_AUTO entry_again = gpu_poisoned(n_entry * sizeof(float), 0xa5);
    GPU_AUTO rotated = gpu_poisoned(n_heads * dim * sizeof(float), 0xff);
    GPU_AUTO codes = gpu_poisoned(n_heads * dim, 0xff);
    GPU_AUTO plain = gpu_poisoned(n_heads * sizeof(float), 0xff);
    GPU_AUTO scaled = gpu_poisoned(n_heads * sizeof(float), 0xff);
    const float *angles = w->d_angles.p;
    struct agon_cuda_queries p = {.query = w->d_query.p,
                                  .ld_query = (size_t)w->ld_query,
                                  .n_heads = s->n_heads,
                                  .nope_dim = s->nope_dim,
                                  .rope_dim = s->rope_dim,
                                  .kv_lora = s->kv_lora,
                                  .entry = entry.p,
                                  .index_heads = s->index_heads,
                                  .index_dim = s->index_dim,
                                  .index_interleaved = s->interleaved,
                                  .index_query = rotated.p,
                                  .index_weights_from = w->d_input.p,
                                  .ld_weights_from = (size_t)w->ld_input,
                                  .index_weights = plain.p,
                                  .index_scale = 0.0110485435F,
                                  .cosine = angles,
                                  .sine = angles + s->n_rows * s->rope_dim / 2,
                                  .n_rows = s->n_rows};
    REQUIRE(agon_cuda_queries(&p, NULL, &err) == 0);
    p.entry = entry_again.p;
    p.index_codes = codes.p;
    p.index_weights = scaled.p;
    REQUIRE(agon_cuda_queries(&p, NULL, &err) == 0);
    float *x = malloc(rotated.bytes), *weights = malloc(plain.bytes), *got = malloc(scaled.bytes);
    uint8_t *got_codes = malloc(codes.bytes), *wanted = malloc(codes.bytes);
    uint8_t *entries[] = {malloc(entry.bytes), malloc(entry.bytes)};
    gpu_download(x, &rotated), gpu_download(weights, &plain), gpu_download(got, &scaled);
    gpu_download(got_codes, &codes);
    gpu_download(entries[0], &entry), gpu_download(entries[1], &entry_again);
    int n_wrong = 0;
    for (size_t h = 0; h < n_heads; h++) {
        float scale;
        if ((dim & (dim - 1)) == 0)
            agon_hadamard_ref(x + h * dim, x + h * dim, s->index_dim);
        agon_act_quant_ref(wanted + h * dim, &scale, x + h * dim, s->index_dim, true);
        n_wrong += got[h] != weights[h] * scale; /* a power of two */
    }
    EXPECT(n_wrong == 0);
    EXPECT(memcmp(got_codes, wanted, codes.bytes) == 0);
    EXPECT(memcmp(entries[0], entries[1], entry.bytes) == 0);
    free(x), free(weights), free(got), free(got_codes), free(wanted);
    free(entries[0]), free(entries[1]);
}

TEST(index_queries_are_the_codes_of_the_rotated_heads)
{
    REQUIRE_GPU();
    for (size_t i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++) {
        struct world w = world_new(shapes[i]);
        check_queries(&w);
        world_free(&w);
    }
}
