/* Top-k on the GPU against its CPU twin: exact, so every comparison is for equality. */
#include "tests/gpu/paged.h"

enum { POISON = 0x5a };

/* Scores with ties on purpose: mostly zeros of both signs, a few levels, or all different. */
static float tied_score(int kind)
{
    if (random_below(64) == 0)
        return random_below(3) ? -0.0F : NAN;
    if (random_below(200) == 0)
        return random_below(2) ? INFINITY : -INFINITY;
    switch (kind) {
    case 0: return random_float() * 1e-3F;
    case 1: return (float)(random_below(5) - 2);
    case 2: return random_below(50) ? 0 : random_float();
    case 3: return random_below(3) ? -1 : random_float() - 1;
    default: return 0.25F;
    }
}

/* Or, from kind 5 on, by position i of n: the largest side by side; those that a sample sees high
 * above the others; those below. */
static float score_at(int kind, int i, int n)
{
    bool seen = n >= 2048 && i % (n / 2048) < 4;
    switch (kind) {
    case 5: return i > n - 3000 ? 5 + (float)(i % 1000) : random_float();
    case 6: return random_float() + (seen ? 9 : 0);
    case 7: return random_float() + (seen ? 0 : 9);
    default: return tied_score(kind);
    }
}

/* One launch of rows with given lengths, against the twin; the same again for the bytes. */
static void check_topk(const int *lengths, int n_rows, int k, size_t ld_extra, bool as_slots,
                       int kind)
{
    struct agon_err err = {0};
    int n_max = 1;
    for (int r = 0; r < n_rows; r++)
        n_max = lengths[r] > n_max ? lengths[r] : n_max;
    int ld_pages = (n_max + AGON_CUDA_PAGE - 1) / AGON_CUDA_PAGE;
    PAGED_AUTO paged = paged_new(n_rows, n_rows, ld_pages, 1);
    for (int r = 0; r < n_rows; r++) {
        paged.row_sequence[r] = lengths[r] ? (r + 1) % n_rows : -1;
        paged.row_position[r] = lengths[r] - 1;
    }
    paged_upload(&paged);
    size_t ld = (size_t)n_max + ld_extra, ld_selected = (size_t)k + 3;
    float *scores = poisoned_floats((size_t)n_rows * ld);
    for (int r = 0; r < n_rows; r++)
        for (int i = 0; i < lengths[r]; i++)
            scores[(size_t)r * ld + (size_t)i] = score_at(kind, i, lengths[r]);
    GPU_AUTO d_scores = gpu_upload(scores, (size_t)n_rows * ld * sizeof(float));
    size_t bytes = (size_t)n_rows * ld_selected * sizeof(int32_t);
    int32_t *got = malloc(bytes), *again = malloc(bytes),
            *counts = malloc((size_t)n_rows * sizeof(int32_t));
    int *expected = malloc((size_t)k * sizeof(int));
    uint32_t *scratch = malloc((size_t)n_max * sizeof(*scratch));
    for (int run = 0; run < 2; run++) {
        GPU_AUTO d_selected = gpu_poisoned(bytes, POISON);
        GPU_AUTO d_count = gpu_poisoned((size_t)n_rows * sizeof(int32_t), POISON);
        REQUIRE(agon_cuda_topk(d_selected.p, ld_selected, d_count.p, d_scores.p, ld, k, as_slots,
                               &paged.rows, NULL, &err) == 0);
        gpu_download(run ? again : got, &d_selected);
        gpu_download(counts, &d_count);
    }
    EXPECT(memcmp(got, again, bytes) == 0);
    int n_wrong = 0;
    for (int r = 0; r < n_rows; r++) {
        int n = agon_kernels_for(AGON_CPU_PORTABLE)
                    ->topk(expected, scores + (size_t)r * ld, lengths[r], k, scratch);
        const int32_t *row = got + (size_t)r * ld_selected;
        n_wrong += counts[r] != n;
        for (int i = 0; i < k; i++) {
            int32_t wanted = i >= n     ? -1
                             : as_slots ? (int32_t)paged_slot(&paged, r, expected[i])
                                        : expected[i];
            if (row[i] != wanted && n_wrong++ < 3)
                printf("# kind %d k %d row %d of %d, length %d, count %d of %d: entry %d is %d, "
                       "not %d\n",
                       kind, k, r, n_rows, lengths[r], counts[r], n, i, row[i], wanted);
        }
        for (int i = k; i < (int)ld_selected; i++)
            n_wrong += row[i] != 0x5a5a5a5a;
    }
    EXPECT(n_wrong == 0);
    free(scores), free(got), free(again), free(counts), free(expected), free(scratch);
}

TEST(is_exact_on_short_rows_of_every_length_with_ties)
{
    REQUIRE_GPU();
    for (int kind = 0; kind < 5; kind++)
        for (int k = 1; k < 300; k = k * 2 + 1) {
            int lengths[70];
            for (int r = 0; r < 70; r++)
                lengths[r] = r == 5 ? 0 : 1 + random_below(r < 10 ? k + 3 : 700);
            check_topk(lengths, 70, k, (size_t)random_below(5), kind % 2, kind);
        }
}

/* For racecheck: each of the ways that a row is done, once. */
TEST(is_exact_on_few_rows)
{
    REQUIRE_GPU();
    check_topk((int[]){300, 40, 0}, 3, 20, 1, true, 1);
    check_topk((int[]){40000, 700}, 2, 512, 3, false, 0);
    check_topk((int[17]){9000, 300}, 17, 100, 0, false, 0);
}

TEST(is_exact_where_several_blocks_share_a_row)
{
    REQUIRE_GPU();
    static const int n_rows[] = {1, 3, 9, 20, 40};
    for (int kind = 0; kind < 5; kind++)
        for (int s = 0; s < 5; s++) {
            int lengths[40];
            for (int r = 0; r < n_rows[s]; r++)
                lengths[r] = r ? 1 + random_below(40000) : 40000 - 7 * kind;
            check_topk(lengths, n_rows[s], kind == 1 ? 512 : 2048, (size_t)random_below(5),
                       kind % 2, kind);
        }
}

TEST(is_exact_on_rows_that_shared_memory_does_not_hold)
{
    REQUIRE_GPU();
    check_topk((int[]){131072}, 1, 2048, 0, true, 0);
    check_topk((int[]){1000003, 999}, 2, 2048, 1, true, 0);
    check_topk((int[]){700001}, 1, 2048, 0, false, 2);
    int lengths[70];
    for (int r = 0; r < 70; r++)
        lengths[r] = 100000 + random_below(31072);
    check_topk(lengths, 70, 2048, 3, false, 0);
}

/* So many rows are sieved, where they are long enough; kinds 2 to 4 and 6 and 7 lead the sieve
 * astray, or to scores of which many are equal. */
TEST(is_exact_on_many_long_rows)
{
    REQUIRE_GPU();
    for (int kind = 0; kind < 8; kind++) {
        int lengths[20];
        for (int r = 0; r < 20; r++)
            lengths[r] = r == 3 ? 0 : r == 4 ? 1000 : r < 8 ? 8180 + r * 4 : random_below(140000);
        check_topk(lengths, 20, kind % 3 == 1 ? 64 : 2048, (size_t)random_below(5), kind % 2, kind);
    }
}

TEST(tells_of_rows_that_do_not_fit)
{
    REQUIRE_GPU();
    struct agon_cuda_rows rows = {.n_rows = 1, .n_max = 100, .ld_pages = 1};
    EXPECT(agon_cuda_topk(NULL, 8, NULL, NULL, 100, 8, false, &rows, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "top-k: 1 rows of up to 100 positions, 1 pages a sequence");
    rows.ld_pages = 2;
    EXPECT(agon_cuda_topk(NULL, 7, NULL, NULL, 100, 8, false, &rows, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "8 of rows of 100 scores for 100 positions into rows of 7");
}
