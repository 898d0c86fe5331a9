/* The sampler against agon_sample_ref(): for equal logits the same id, the same cut, the same
 * log-probabilities; and what it makes of its slots. */
#include "kernels/cuda_sample.h"
#include "tests/gpu/gpu.h"

enum { STEPS = 3, STOP_ID = 1 };

/* Logits of one kind by row: smooth, with many ties, peaked, flat, with -inf among them. */
static void logits_fill(float *x, int n, int kind)
{
    for (int i = 0; i < n; i++) {
        float u = random_float();
        x[i] = kind == 0   ? 6 * u
               : kind == 1 ? (float)random_below(5)
               : kind == 2 ? (random_below(n) < 3 ? 30 : 2 * u)
               : kind == 3 ? 0.25F
                           : (random_below(4) == 0 ? -INFINITY : 3 * u);
    }
    if (kind == 4)
        x[n / 2] = 1; /* one at least */
}

struct batch {
    int n_rows, n;
    float *logits;
    struct agon_cuda_slot *slots;
    struct agon_cuda_drawn *drawn;
    int *kept;
    struct gpu_buffer d_logits, d_slots, d_drawn, d_kept, d_n_kept, d_scratch;
};

static void batch_free(struct batch *b)
{
    struct gpu_buffer *all[] = {&b->d_logits, &b->d_slots,  &b->d_drawn,
                                &b->d_kept,   &b->d_n_kept, &b->d_scratch};
    for (size_t i = 0; i < 6; i++)
        gpu_buffer_free(all[i]);
    free(b->logits), free(b->slots), free(b->drawn), free(b->kept);
}

static struct batch batch_new(int n_rows, int n)
{
    struct batch b = {.n_rows = n_rows, .n = n};
    size_t rows = (size_t)n_rows;
    b.logits = malloc(rows * (size_t)n * sizeof(float));
    b.slots = calloc(rows, sizeof(*b.slots));
    b.drawn = calloc(rows * STEPS, sizeof(*b.drawn));
    b.kept = calloc(rows * (size_t)n, sizeof(int));
    for (int r = 0; r < n_rows; r++)
        logits_fill(b.logits + (size_t)r * (size_t)n, n, r % 5);
    return b;
}

static void batch_run(struct batch *b, struct agon_err *err)
{
    size_t rows = (size_t)b->n_rows;
    b->d_logits = gpu_upload(b->logits, rows * (size_t)b->n * sizeof(float));
    b->d_slots = gpu_upload(b->slots, rows * sizeof(*b->slots));
    b->d_drawn = gpu_poisoned(rows * STEPS * sizeof(*b->drawn), 0xff);
    b->d_kept = gpu_poisoned(rows * (size_t)b->n * sizeof(int), 0xff);
    b->d_n_kept = gpu_poisoned(8, 0);
    b->d_scratch = gpu_poisoned(agon_cuda_sample_scratch(b->n_rows, b->n), 0xff);
    struct agon_cuda_sampler sampler = {.logits = b->d_logits.p,
                                        .ld_logits = (size_t)b->n,
                                        .n_rows = b->n_rows,
                                        .n = b->n,
                                        .slots = b->d_slots.p,
                                        .drawn = b->d_drawn.p,
                                        .ld_drawn = STEPS,
                                        .kept = b->d_kept.p,
                                        .n_kept_max = (int64_t)b->n_rows * b->n,
                                        .n_kept = b->d_n_kept.p,
                                        .scratch = b->d_scratch.p};
    EXPECT(agon_cuda_sample(&sampler, NULL, err) == 0);
    gpu_download(b->slots, &b->d_slots);
    gpu_download(b->drawn, &b->d_drawn);
    gpu_download(b->kept, &b->d_kept);
}

static void row_check(const struct batch *b, int r, const struct agon_cuda_slot *before)
{
    struct agon_sample want;
    struct agon_sample_options options = {before->temperature, before->top_p, before->top_k};
    const float *logits = b->logits + (size_t)r * (size_t)b->n;
    int n = before->n_ids ? before->n_ids : b->n;
    double uniform = agon_draw_uniform(before->seed, (uint64_t)before->position);
    REQUIRE(agon_sample_ref(&want, logits, n, &options, uniform, NULL));
    const struct agon_cuda_drawn *got = &b->drawn[r * STEPS];
    bool same = got->id == want.id && got->n_kept == want.n_kept;
    EXPECT(same);
    EXPECT(fabs(got->logprob - want.logprob) < 1e-5 &&
           fabs(got->logprob_raw - want.logprob_raw) < 1e-5);
    if (!same)
        printf("# row %d of %d: temperature %g, top_p %g, top_k %d, uniform %.17g: id %d kept %d, "
               "wanted id %d kept %d\n",
               r, n, options.temperature, options.top_p, options.top_k, uniform, got->id,
               got->n_kept, want.id, want.n_kept);
    if (!before->keep || got->n_kept == b->n || n < b->n)
        return;
    REQUIRE(got->kept_at >= 0);
    int *ids = malloc((size_t)n * sizeof(int));
    uint32_t *scratch = malloc((size_t)n * sizeof(uint32_t));
    agon_kernels_for(AGON_CPU_BEST)->topk(ids, logits, n, want.n_kept, scratch);
    EXPECT(memcmp(ids, b->kept + got->kept_at, (size_t)want.n_kept * sizeof(int)) == 0);
    free(ids), free(scratch);
}

static void draw_case(int n, int n_rows)
{
    struct agon_err err = {0};
    const double temperatures[] = {1, 0.6, 0, 2.5}, tops[] = {1, 0.95, 0.5, 0.001, 0};
    const int ks[] = {0, 1, 40, 3};
    for (int variant = 0; variant < 8; variant++) {
        struct batch b = batch_new(n_rows, n);
        for (int r = 0; r < n_rows; r++)
            b.slots[r] = (struct agon_cuda_slot){.temperature = temperatures[(r + variant) % 4],
                                                 .top_p = tops[(r / 4 + variant) % 5],
                                                 .top_k = ks[(r / 3 + variant / 2) % 4],
                                                 .seed = (uint64_t)(r * 7919 + variant),
                                                 .n_ids = variant == 7 && n > 9 ? n - 8 : 0,
                                                 .position = r + variant,
                                                 .n_drawn_max = 10,
                                                 .state = AGON_SLOT_RUNNING,
                                                 .keep = variant & 1};
        struct agon_cuda_slot *before = malloc((size_t)n_rows * sizeof(*before));
        memcpy(before, b.slots, (size_t)n_rows * sizeof(*before));
        batch_run(&b, &err);
        for (int r = 0; r < n_rows; r++) {
            row_check(&b, r, &before[r]);
            EXPECT(b.slots[r].position == before[r].position + 1 && b.slots[r].n_drawn == 1);
            EXPECT(b.slots[r].id == b.drawn[r * STEPS].id);
        }
        free(before);
        batch_free(&b);
    }
}

TEST(equal_logits_give_the_twin_s_draw)
{
    REQUIRE_GPU();
    draw_case(2048, 120);
    draw_case(1, 20);
    draw_case(33, 120);
    draw_case(4096, 40);
    draw_case(4097, 40);
    draw_case(129280, 12);
}

/* For racecheck: a small vocabulary that one warp cuts, one that a block does, a large one. */
TEST(few_rows_give_the_twin_s_draw)
{
    REQUIRE_GPU();
    draw_case(33, 5);
    draw_case(700, 3);
    draw_case(4097, 2);
}

TEST(a_slot_stops_at_its_stop_id_its_limit_and_at_nan)
{
    REQUIRE_GPU();
    struct batch b = batch_new(6, 40);
    for (int r = 0; r < 6; r++) {
        b.slots[r] = (struct agon_cuda_slot){.n_drawn_max = 2,
                                             .n_drawn = r == 1,
                                             .state = AGON_SLOT_RUNNING,
                                             .n_stop = 2,
                                             .stop = {STOP_ID, 7}};
        for (int i = 0; i < 40; i++)
            b.logits[r * 40 + i] = i == (r == 2 ? STOP_ID : 5);
    }
    b.slots[3].state = AGON_SLOT_IDLE;
    b.logits[4 * 40 + 39] = NAN;
    for (int i = 0; i < 40; i++)
        b.logits[5 * 40 + i] = -INFINITY;
    batch_run(&b, &err);
    const int want[] = {AGON_SLOT_RUNNING, AGON_SLOT_LENGTH, AGON_SLOT_STOPPED,
                        AGON_SLOT_IDLE,    AGON_SLOT_NAN,    AGON_SLOT_NAN};
    for (int r = 0; r < 6; r++)
        EXPECT(b.slots[r].state == want[r]);
    EXPECT(b.slots[0].id == 5 && b.slots[2].id == STOP_ID && b.slots[3].n_drawn == 0);
    EXPECT(b.drawn[1 * STEPS + 1].id == 5); /* its second */
    EXPECT(b.slots[4].n_drawn == 0 && b.drawn[4 * STEPS].id == -1 && b.drawn[5 * STEPS].id == -1);
    batch_free(&b);
}

TEST(the_uniform_number_is_the_engine_s)
{
    /* Made with base/rng.h: seeds 0, 1 and 2^64 - 1, positions 0, 7 and 163839. */
    EXPECT(agon_draw_uniform(0, 0) == 0x1.dcb72791f8558p-2);
    EXPECT(agon_draw_uniform(1, 7) == 0x1.312430d4adc14p-1);
    EXPECT(agon_draw_uniform(UINT64_MAX, 163839) == 0x1.3fd197dad027ap-1);
}
