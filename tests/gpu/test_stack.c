/*
 * The layers of a small model (kernels/cuda_stack.h) against plain loops, stage by stage: what a
 * stage computes is held to what the one before left on the device, so that errors do not add up.
 */
#include "tests/gpu/stack_world.h"

/* ---- plain loops -------------------------------------------------------------------- */

static void normed(double *out, const double *x, const float *w, int n)
{
    double squares = 0;
    for (int i = 0; i < n; i++)
        squares += x[i] * x[i];
    for (int i = 0; i < n; i++)
        out[i] = w[i] * x[i] / sqrt(squares / n + 1e-6);
}

/* out[n] = rows first .. of w by x. */
static void product(double *out, const struct matrix *w, int first, int n, const double *x)
{
    for (int i = 0; i < n; i++) {
        const float *row = w->w + (size_t)(first + i) * (size_t)w->k;
        out[i] = 0;
        for (int j = 0; j < w->k; j++)
            out[i] += (double)row[j] * x[j];
    }
}

static void rotate(double *low, double *high, const struct world *w, int row, int pair)
{
    double c = w->angles[0][row * ROPE / 2 + pair], s = w->angles[1][row * ROPE / 2 + pair];
    double a = *low, b = *high;
    *low = a * c - b * s;
    *high = a * s + b * c;
}

static void rotate_index(double *x, const struct world *w, int row)
{
    for (int i = 0; i < ROPE / 2; i++) {
        if (w->d.interleaved)
            rotate(&x[2 * i], &x[2 * i + 1], w, row, i);
        else
            rotate(&x[i], &x[i + ROPE / 2], w, row, i);
    }
}

/* What a row's attention works with, from its x. */
struct row {
    double input[1024], query[1024], index[8 * DIM], *weights, entry[ENTRY], key[DIM];
};

static void row_of(struct row *to, const struct world *w, const struct layer *l, int r)
{
    const struct dims *d = &w->d;
    double x[512], h[512];
    for (int i = 0; i < d->hidden; i++)
        x[i] = w->x[(size_t)r * (size_t)d->hidden + (size_t)i];
    normed(h, x, l->norms[0], d->hidden);
    product(to->input, &l->input, 0, l->input.n, h);
    const double *kv = to->input + d->q_lora, *key = kv + ENTRY;
    double mean = 0, scatter = 0;
    to->weights = to->input + d->q_lora + ENTRY + DIM;
    normed(h, to->input, l->norms[2], d->q_lora);
    product(to->query, &l->query, 0, d->n_heads * ENTRY, h);
    product(to->index, &l->query, d->n_heads * ENTRY, d->index_heads * DIM, h);
    for (int i = 0; i < d->n_heads; i++)
        for (int j = 0; j < ROPE / 2; j++)
            rotate(&to->query[i * ENTRY + KV + 2 * j], &to->query[i * ENTRY + KV + 2 * j + 1], w, r,
                   j);
    for (int i = 0; i < d->index_heads; i++)
        rotate_index(to->index + i * DIM, w, r);
    normed(to->entry, kv, l->norms[3], KV);
    for (int j = 0; j < ROPE / 2; j++) {
        to->entry[KV + 2 * j] = kv[KV + 2 * j];
        to->entry[KV + 2 * j + 1] = kv[KV + 2 * j + 1];
        rotate(&to->entry[KV + 2 * j], &to->entry[KV + 2 * j + 1], w, r, j);
    }
    for (int i = 0; i < DIM; i++)
        mean += key[i] / DIM;
    for (int i = 0; i < DIM; i++)
        scatter += (key[i] - mean) * (key[i] - mean) / DIM;
    for (int i = 0; i < DIM; i++)
        to->key[i] = l->norms[4][i] * (key[i] - mean) / sqrt(scatter + 1e-6) + l->norms[5][i];
    rotate_index(to->key, w, r);
}

static size_t slot_of(const struct world *w, int layer, int r, int position)
{
    int page = w->pages[r * LD_PAGES + position / AGON_CUDA_PAGE];
    return ((size_t)layer * (size_t)w->n_pages + (size_t)page) * AGON_CUDA_PAGE +
           (size_t)(position % AGON_CUDA_PAGE);
}

static double error_of(const double *a, const double *b, size_t n)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < n; i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        norm += b[i] * b[i];
    }
    return sqrt(difference / norm);
}

/* ---- stages ------------------------------------------------------------------------- */

/* Value i of the cache's entry at a slot of all layers'. */
static double latent_of(const struct world *w, size_t slot, int i)
{
    size_t page = slot / AGON_CUDA_PAGE * AGON_CUDA_PAGE * ENTRY;
    int entry = (int)(slot % AGON_CUDA_PAGE);
    return agon_bf16_decode(w->latents[page + (size_t)agon_stack_entry_at(entry, i)]);
}

/* Entries and keys that stored rows left in the cache. */
static void check_cache(struct world *w, int layer)
{
    struct row row;
    double most = 0;
    gpu_download(w->latents, &w->on_device[8]);
    world_keys_download(w);
    for (int r = 0; r < w->d.n_rows; r++) {
        if (w->store[r] < 0)
            continue;
        size_t slot = slot_of(w, layer, r, w->position[r]);
        double entry[ENTRY], key[DIM];
        row_of(&row, w, &w->layers[layer], r);
        for (int i = 0; i < ENTRY; i++)
            entry[i] = latent_of(w, slot, i);
        for (int i = 0; i < DIM; i++)
            key[i] = w->keys[slot * DIM + (size_t)i];
        most = fmax(most, fmax(error_of(entry, row.entry, ENTRY), error_of(key, row.key, DIM)));
    }
    printf("# layer %d, cache: a row's error at most %.2g\n", layer, most);
    EXPECT(most < 1e-2);
}

static double score_of(const struct world *w, const struct row *row, int layer, int r, int position)
{
    const float *key = w->keys + slot_of(w, layer, r, position) * DIM;
    double score = 0;
    for (int h = 0; h < w->d.index_heads; h++) {
        double dot = 0;
        for (int i = 0; i < DIM; i++)
            dot += row->index[h * DIM + i] * key[i];
        score += dot < 0 ? 0 : row->weights[h] * 0.3 * dot;
    }
    return score;
}

/* As many as there should be are selected, and none that is worse than another by more than 2% of
 * the row's largest score: queries and weights come of products whose inputs are rounded. */
static void check_masks(struct world *w, int layer, const uint64_t *masks)
{
    struct row row;
    int n_wrong = 0;
    for (int r = 0; r < w->d.n_rows; r++) {
        int n = w->sequence[r] < 0 ? 0 : w->position[r] + 1, n_taken = 0;
        double least = INFINITY, most = -INFINITY, size = 0;
        row_of(&row, w, &w->layers[layer], r);
        for (int i = 0; i < LD_PAGES * 64; i++) {
            bool taken = masks[r * LD_PAGES + i / 64] >> i % 64 & 1;
            n_taken += taken;
            n_wrong += taken && i >= n;
            if (i >= n)
                continue;
            double score = score_of(w, &row, layer, r, i);
            size = fmax(size, fabs(score));
            least = taken ? fmin(least, score) : least;
            most = taken ? most : fmax(most, score);
        }
        bool bad = n_taken != (n < w->d.k ? n : w->d.k) || least < most - 2e-2 * size;
        if (bad && n_wrong++ < 4)
            printf(
                "# layer %d, row %d: %d of %d selected; the least %g, the most of others %g, the "
                "largest %g\n",
                layer, r, n_taken, n, least, most, size);
    }
    EXPECT(n_wrong == 0);
}

/* out[n_heads][KV], from what the device has in its cache and its mask. */
static void attend(double *out, const struct world *w, const struct row *row, int layer, int r,
                   const uint64_t *mask)
{
    for (int h = 0; h < w->d.n_heads; h++) {
        double score[LD_PAGES * 64], most = -INFINITY, sum = 0;
        for (int i = 0; i < LD_PAGES * 64; i++) {
            if (!(mask[i / 64] >> i % 64 & 1))
                continue;
            size_t slot = slot_of(w, layer, r, i);
            score[i] = 0;
            for (int j = 0; j < ENTRY; j++)
                score[i] += row->query[h * ENTRY + j] * latent_of(w, slot, j) * 0.125;
            most = fmax(most, score[i]);
        }
        memset(out + h * KV, 0, KV * sizeof(*out));
        for (int i = 0; i < LD_PAGES * 64; i++) {
            if (!(mask[i / 64] >> i % 64 & 1))
                continue;
            size_t slot = slot_of(w, layer, r, i);
            double weight = exp(score[i] - most);
            sum += weight;
            for (int j = 0; j < KV; j++)
                out[h * KV + j] += weight * latent_of(w, slot, j);
        }
        for (int j = 0; j < KV && sum > 0; j++)
            out[h * KV + j] /= sum;
    }
}

/* What attention adds to the residual stream; w->x is from before. */
static void check_attention(struct world *w, int layer, const uint64_t *masks)
{
    const struct dims *d = &w->d;
    size_t n = (size_t)d->n_rows * (size_t)d->hidden;
    float *after = malloc(n * sizeof(*after));
    double got[512], wanted[512], out[1024], most = 0;
    struct row row;
    gpu_download(after, &w->on_device[1]);
    for (int r = 0; r < d->n_rows; r++) {
        size_t at = (size_t)r * (size_t)d->hidden;
        if (w->sequence[r] < 0)
            continue;
        row_of(&row, w, &w->layers[layer], r);
        attend(out, w, &row, layer, r, masks + r * LD_PAGES);
        product(wanted, &w->layers[layer].output, 0, d->hidden, out);
        for (int i = 0; i < d->hidden; i++)
            got[i] = (double)after[at + (size_t)i] - w->x[at + (size_t)i];
        most = fmax(most, error_of(got, wanted, (size_t)d->hidden));
    }
    printf("# layer %d, attention: a row's error at most %.2g\n", layer, most);
    EXPECT(most < 3e-2);
    memcpy(w->x, after, n * sizeof(*after));
    free(after);
}

/* add[hidden] += weight * a group's output for h. */
static void add_group(double *add, const struct world *w, const struct layer *l, int group,
                      const double *h, double weight)
{
    int inner = w->d.inner, hidden = w->d.hidden;
    double both[512], act[256], out[512];
    product(both, &l->gate_up, group * 2 * inner, 2 * inner, h);
    for (int i = 0; i < inner; i++) {
        double gate = both[i / 8 * 16 + i % 8], up = both[i / 8 * 16 + 8 + i % 8];
        act[i] = gate / (1 + exp(-gate)) * up;
    }
    product(out, &l->down, group * hidden, hidden, act);
    for (int i = 0; i < hidden; i++)
        add[i] += weight * out[i];
}

/* What the MLP adds; experts as the device chose them, which must be as good as any. */
static void check_mlp(struct world *w, int layer, const int32_t *ids)
{
    const struct dims *d = &w->d;
    const struct layer *l = &w->layers[layer];
    size_t n = (size_t)d->n_rows * (size_t)d->hidden;
    float *after = malloc(n * sizeof(*after));
    double most = 0;
    int n_wrong = 0;
    gpu_download(after, &w->on_device[1]);
    for (int r = 0; r < d->n_rows; r++) {
        double x[512], h[512], wanted[512] = {0}, got[512], score[EXPERTS_MAX], total = 0;
        uint32_t taken = 0;
        size_t at = (size_t)r * (size_t)d->hidden;
        if (w->sequence[r] < 0)
            continue;
        for (int i = 0; i < d->hidden; i++)
            x[i] = w->x[at + (size_t)i];
        normed(h, x, l->norms[1], d->hidden);
        for (int e = 0; e < d->n_experts; e++) {
            score[e] = 0;
            for (int i = 0; i < d->hidden; i++)
                score[e] += h[i] * l->router[e * d->hidden + i];
            score[e] = 1 / (1 + exp(-score[e]));
        }
        for (int i = 0; layer > 0 && i < d->top_k; i++) {
            int id = ids[r * d->top_k + i];
            n_wrong += id < 0 || id >= d->n_experts || taken >> id & 1;
            for (int e = 0; e < d->n_experts; e++)
                n_wrong +=
                    !(taken >> e & 1) && score[e] + l->bias[e] > score[id] + l->bias[id] + 1e-5;
            taken |= 1U << id;
            total += score[id];
        }
        for (int g = 0; g < (layer > 0 ? d->n_shared : d->pieces); g++)
            add_group(wanted, w, l, g, h, 1);
        for (int e = 0; layer > 0 && e < d->n_experts; e++)
            if (taken >> e & 1)
                add_group(wanted, w, l, d->n_shared + e, h, score[e] / total * 1.5);
        for (int i = 0; i < d->hidden; i++)
            got[i] = (double)after[at + (size_t)i] - w->x[at + (size_t)i];
        most = fmax(most, error_of(got, wanted, (size_t)d->hidden));
    }
    printf("# layer %d, MLP: a row's error at most %.2g\n", layer, most);
    EXPECT(most < 2e-2 && n_wrong == 0);
    memcpy(w->x, after, n * sizeof(*after));
    free(after);
}

static void check_head(struct world *w)
{
    const struct dims *d = &w->d;
    float *logits = malloc((size_t)d->n_rows * (size_t)d->n_vocab * sizeof(*logits));
    double *wanted = malloc((size_t)d->n_vocab * sizeof(*wanted)), most = 0;
    double *got = malloc((size_t)d->n_vocab * sizeof(*got));
    gpu_download(logits, &w->on_device[10]);
    for (int r = 0; r < d->n_rows; r++) {
        double x[512], h[512];
        for (int i = 0; i < d->hidden; i++)
            x[i] = w->x[(size_t)r * (size_t)d->hidden + (size_t)i];
        normed(h, x, w->norm, d->hidden);
        product(wanted, &w->head, 0, d->n_vocab, h);
        for (int i = 0; i < d->n_vocab; i++)
            got[i] = logits[(size_t)r * (size_t)d->n_vocab + (size_t)i];
        most = fmax(most, error_of(got, wanted, (size_t)d->n_vocab));
    }
    printf("# head: a row's error at most %.2g\n", most);
    EXPECT(most < 1e-2);
    free(logits);
    free(wanted);
    free(got);
}

static const struct dims small = {.hidden = 128,
                                  .q_lora = 64,
                                  .n_heads = 6,
                                  .index_heads = 4,
                                  .n_experts = 8,
                                  .top_k = 2,
                                  .n_shared = 1,
                                  .inner = 64,
                                  .pieces = 3,
                                  .n_vocab = 304,
                                  .k = 40,
                                  .n_prefix = 160,
                                  .n_rows = 70};
static const struct dims embedded = {.hidden = 384,
                                     .q_lora = 192,
                                     .n_heads = 6,
                                     .index_heads = 4,
                                     .n_experts = 8,
                                     .top_k = 2,
                                     .n_shared = 1,
                                     .inner = 224,
                                     .pieces = 4,
                                     .n_vocab = 512,
                                     .k = 100,
                                     .n_prefix = 300,
                                     .n_rows = 150};
static const struct dims odd = {.hidden = 256,
                                .q_lora = 128,
                                .n_heads = 3,
                                .index_heads = 8,
                                .n_experts = 5,
                                .top_k = 3,
                                .n_shared = 0,
                                .inner = 96,
                                .pieces = 2,
                                .n_vocab = 160,
                                .k = 64,
                                .n_prefix = 64,
                                .n_rows = 300,
                                .interleaved = true};

/* As many as take the stages' largest tiles; attention's last block has four rows, the others
 * five. */
static const struct dims many = {.hidden = 128,
                                 .q_lora = 64,
                                 .n_heads = 2,
                                 .index_heads = 2,
                                 .n_experts = 8,
                                 .top_k = 2,
                                 .n_shared = 1,
                                 .inner = 96,
                                 .pieces = 3,
                                 .n_vocab = 48,
                                 .k = 32,
                                 .n_prefix = 64,
                                 .n_rows = 604};

static void check_stages(const struct dims *d)
{
    struct world w;
    struct agon_err err = {0};
    struct agon_stack_layer layers[N_LAYERS];
    world_init(&w, d);
    for (int i = 0; i < N_LAYERS; i++)
        layers[i] = w.layers[i].device;
    struct agon_stack s = stack_of(&w, layers, 0, d->n_rows);
    size_t n = (size_t)d->n_rows;
    uint64_t *masks = malloc(n * LD_PAGES * sizeof(*masks));
    int32_t *ids = malloc(n * (size_t)d->top_k * sizeof(*ids));
    GPU_AUTO scratch = gpu_poisoned(agon_stack_scratch(&s), 0xff);
    GPU_AUTO mask = gpu_poisoned(n * LD_PAGES * sizeof(*masks), 0xff);
    GPU_AUTO id = gpu_poisoned(n * (size_t)d->top_k * sizeof(*ids), 0xff);
    s.scratch = scratch.p;
    s.mask = mask.p;
    s.ld_mask = LD_PAGES;
    s.route_ids = id.p;
    EXPECT(agon_stack_does(&s));
    for (int layer = 0; layer < N_LAYERS; layer++) {
        int at = layer * AGON_STACK_STAGES;
        EXPECT(agon_stack_cuda(&s, at, at + AGON_STACK_ATTEND, NULL, &err) == 0);
        check_cache(&w, layer);
        EXPECT(agon_stack_cuda(&s, at + AGON_STACK_ATTEND, at + AGON_STACK_UP, NULL, &err) == 0);
        gpu_download(masks, &mask);
        check_masks(&w, layer, masks);
        check_attention(&w, layer, masks);
        EXPECT(agon_stack_cuda(&s, at + AGON_STACK_UP, at + AGON_STACK_STAGES, NULL, &err) == 0);
        gpu_download(ids, &id);
        check_mlp(&w, layer, ids);
    }
    int head = agon_stack_head(&s);
    EXPECT(agon_stack_cuda(&s, head, head + 1, NULL, &err) == 0);
    check_head(&w);
    free(masks);
    free(ids);
    world_free(&w);
}

TEST(each_stage_is_what_plain_loops_make_of_the_stage_before)
{
    REQUIRE_GPU();
    check_stages(&small);
    check_stages(&embedded);
    check_stages(&odd);
    check_stages(&many);
}

/* For memcheck. */
TEST(few_rows_go_through_each_stage)
{
    REQUIRE_GPU();
    static const struct dims *const all[] = {&embedded, &odd};
    for (int i = 0; i < 2; i++) {
        struct dims few = *all[i];
        few.n_rows = 21;
        check_stages(&few);
    }
}

/* Logits of rows first .. first + n - 1 of a world made anew, by themselves. */
static float *alone(const struct dims *d, int first, int n)
{
    struct world w;
    struct agon_err err = {0};
    struct agon_stack_layer layers[N_LAYERS];
    world_init(&w, d);
    for (int i = 0; i < N_LAYERS; i++)
        layers[i] = w.layers[i].device;
    struct agon_stack s = stack_of(&w, layers, first, n);
    GPU_AUTO scratch = gpu_poisoned(agon_stack_scratch(&s), 0xff);
    float *logits = malloc((size_t)d->n_rows * (size_t)d->n_vocab * sizeof(*logits));
    s.scratch = scratch.p;
    EXPECT(agon_stack_cuda(&s, 0, agon_stack_head(&s) + 1, NULL, &err) == 0);
    gpu_download(logits, &w.on_device[10]);
    world_free(&w);
    return logits;
}

TEST(a_row_is_the_same_among_any_others)
{
    REQUIRE_GPU();
    const struct dims *all[] = {&small, &embedded, &odd, &many};
    const int parts[][2] = {{0, 16}, {13, 30}, {20, 40}, {33, 1}, {5, 140}, {80, 300}};
    for (int i = 0; i < 4; i++) {
        const struct dims *d = all[i];
        float *whole = alone(d, 0, d->n_rows);
        for (int part = 0; part < 6; part++) {
            int first = parts[part][0], n = parts[part][1], n_differ = 0;
            if (first + n > d->n_rows)
                continue;
            float *some = alone(d, first, n);
            for (int r = first; r < first + n; r++)
                n_differ += r % 11 != 7 && memcmp(some + (size_t)r * (size_t)d->n_vocab,
                                                  whole + (size_t)r * (size_t)d->n_vocab,
                                                  (size_t)d->n_vocab * sizeof(*some)) != 0;
            EXPECT(n_differ == 0);
            free(some);
        }
        free(whole);
    }
}
