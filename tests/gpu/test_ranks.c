/*
 * The experts of a model among several GPUs: draws do not depend on the number of ranks. One rank
 * goes the whole way, too (choices, exchange, spreading, sums), on any machine with a GPU and NCCL.
 */
#include "tests/gpu/engine.h"
#include "tests/model/random_checkpoint.h"
#include "tests/model/ranks.h"

#include <unistd.h>

static int n_devices(void)
{
    struct agon_cuda_info info;
    return agon_cuda_open(&info, 0, &err) ? 0 : info.n_devices;
}

/* 7 experts, of which 2 ranks have 3 and 4; several layers. One with dimensions that no fast kernel
 * of attention does, one in e4m3 with such as FP8 mode's do. */
static const struct random_checkpoint configs[] = {
    {RANDOM_CHECKPOINT_ODD, .seed = 11, .n_layers = 4, .n_heads = 3, .window = 400, .n_experts = 7,
     .n_group = 1, .topk_group = 1, .dtype = AGON_F32, .n_shards = 1},
    {RANDOM_CHECKPOINT_FP8, .seed = 12, .index_topk = 64, .window = 400, .n_experts = 7, .top_k = 3,
     .n_group = 1, .topk_group = 1, .n_shards = 1}};
enum model { ODD, FP8, EMBEDDED };

static const struct agon_checkpoint *model_of(enum model model)
{
    static struct agon_checkpoint *made[2];
    if (model == EMBEDDED)
        return embedded();
    if (!made[model] &&
        !EXPECT(random_checkpoint_load(&made[model], NULL, &configs[model], &err) == 0))
        printf("# %s\n", err.text);
    return made[model];
}

/* Draws of n_ranks against those of `wanted`. */
static void check_ranks(const struct rank_draws *wanted, const struct agon_checkpoint *checkpoint,
                        const char *device, int n_ranks)
{
    static struct rank_draws got;
    if (rank_draws_make(&got, checkpoint, device, n_ranks, &err)) {
        printf("# %s, %d ranks: %s\n", device, n_ranks, err.text);
        test_failures++;
        return;
    }
    int n_differ = rank_draws_differ(wanted, &got);
    printf("# %s, %d ranks: %d of %d sequences differ\n", device, n_ranks, n_differ,
           RANKS_SEQUENCES);
    EXPECT(n_differ == 0);
}

/* The draws of one rank against an engine without a group, which only reference mode promises. */
static void check_one(enum model m)
{
    static struct rank_draws alone;
    REQUIRE(model_of(m));
    REQUIRE(rank_draws_make(&alone, model_of(m), "cuda:reference", 0, &err) == 0);
    check_ranks(&alone, model_of(m), "cuda:reference", 1);
}
/* The draws of 2 ranks to n against those of one. */
static void check_up_to(int n, enum model m, const char *device)
{
    static struct rank_draws one;
    REQUIRE(model_of(m));
    if (!EXPECT(rank_draws_make(&one, model_of(m), device, 1, &err) == 0))
        printf("# %s: %s\n", device, err.text);
    for (int n_ranks = 2; n_ranks <= n; n_ranks++)
        check_ranks(&one, model_of(m), device, n_ranks);
}

/* Those named few_models are for memcheck. */
TEST(few_models_draw_on_one_rank_what_an_engine_without_a_group_does)
{
    if (n_devices() == 0)
        SKIP(err.text);
    check_one(ODD);
    check_one(FP8);
}

TEST(few_models_draw_on_two_ranks_what_they_do_on_one)
{
    int n = n_devices();
    if (n < 2)
        SKIP(n == 0 ? err.text : "this machine has one GPU");
    check_up_to(2, ODD, "cuda:reference");
    check_up_to(2, FP8, "cuda:fp8");
}

TEST(the_embedded_model_draws_on_one_rank_what_an_engine_without_a_group_does)
{
    if (n_devices() == 0)
        SKIP(err.text);
    check_one(EMBEDDED);
}

TEST(any_number_of_ranks_draws_the_same_in_every_mode)
{
    static const struct {
        enum model model;
        const char *device;
    } cases[] = {{ODD, "cuda:reference"}, {ODD, "cuda"},     {EMBEDDED, "cuda:reference"},
                 {EMBEDDED, "cuda"},      {FP8, "cuda:fp8"}, {ODD, "cuda:fp8"}};
    int n = n_devices();
    if (n < 2)
        SKIP(n == 0 ? err.text : "this machine has one GPU");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        check_up_to(n, cases[i].model, cases[i].device);
}

/* The others wait in an exchange that one never comes to. */
TEST(a_device_that_fails_in_a_pass_ends_all_with_its_line)
{
    static struct rank_draws draws;
    int n = n_devices();
    if (n < 2)
        SKIP(n == 0 ? err.text : "this machine has one GPU");
    EXPECT(rank_draws_break(&draws, model_of(ODD), "cuda:reference", 2, &err) == AGON_EDEVICE);
    EXPECT_TEXT(err.text, "rank 1: it broke");
}

TEST(a_rank_without_a_device_ends_all_with_its_line)
{
    static struct rank_draws draws;
    int n = n_devices();
    if (n == 0)
        SKIP(err.text);
    EXPECT(rank_draws_make(&draws, model_of(ODD), "cuda:reference", n + 1, &err) == AGON_EDEVICE);
    EXPECT(strstr(err.text, "CUDA device") != NULL);
}
