/* Ranks: meetings of threads, and engines on the CPU that go on together. */
#include "model/engine.h"
#include "tests/model/random_checkpoint.h"
#include "tests/model/ranks.h"
#include "tests/test.h"

#include <stdlib.h>
#include <unistd.h>

static struct agon_err err;

/* ---- meetings ----------------------------------------------------------------------- */

enum { N_RANKS = 5, N_MEETINGS = 2000 };
struct meeting {
    struct agon_group *g;
    int n_bad[N_RANKS], n_ended[N_RANKS];
    bool one_fails;
};

static struct agon_group_plan plan_of(int rank, int i)
{
    return (struct agon_group_plan){.kind = (enum agon_group_kind)((rank + i) % 7 == 0),
                                    .n_rows = (rank * 37 + i * 11) % 101,
                                    .n_steps = (rank * 5 + i) % 16,
                                    .n_max = (rank * 13 + i * 7) % 64};
}

static bool is_largest(const struct agon_group_plan *plan, int i)
{
    struct agon_group_plan all = {0};
    for (int rank = 0; rank < N_RANKS; rank++) {
        struct agon_group_plan one = plan_of(rank, i);
        all.kind = one.kind > all.kind ? one.kind : all.kind;
        all.n_rows = one.n_rows > all.n_rows ? one.n_rows : all.n_rows;
        all.n_steps = one.n_steps > all.n_steps ? one.n_steps : all.n_steps;
        all.n_max = one.n_max > all.n_max ? one.n_max : all.n_max;
    }
    return plan->kind == all.kind && plan->n_rows == all.n_rows && plan->n_steps == all.n_steps &&
           plan->n_max == all.n_max;
}

static void meet(void *user, int rank)
{
    struct meeting *m = user;
    struct agon_err why;
    for (int i = 0; i < N_MEETINGS; i++) {
        struct agon_group_plan plan = plan_of(rank, i);
        long told = rank == 0 ? 1000L + i : -1;
        if (m->one_fails && rank == 3 && i == N_MEETINGS / 2) {
            (void)agon_fail(&why, AGON_EDEVICE, "it broke");
            agon_group_fail(m->g, rank, &why);
        }
        if (agon_group_meet(m->g, &plan, &why) ||
            (i % 9 == 0 && agon_group_tell(m->g, rank, &told, sizeof(told), &why))) {
            m->n_ended[rank]++;
            return;
        }
        m->n_bad[rank] += !is_largest(&plan, i) || (i % 9 == 0 && told != 1000L + i);
    }
}

TEST(all_ranks_agree_on_the_largest_plan_and_hear_what_the_first_tells)
{
    struct meeting m = {0};
    REQUIRE(agon_group_new(&m.g, N_RANKS, &err) == 0);
    EXPECT(agon_group_run(m.g, meet, &m, &err) == 0);
    for (int rank = 0; rank < N_RANKS; rank++)
        EXPECT(m.n_bad[rank] == 0 && m.n_ended[rank] == 0);
    agon_group_free(m.g);
}

TEST(one_that_fails_ends_the_meetings_of_all_with_its_line)
{
    struct meeting m = {.one_fails = true};
    REQUIRE(agon_group_new(&m.g, N_RANKS, &err) == 0);
    EXPECT(agon_group_run(m.g, meet, &m, &err) == AGON_EDEVICE);
    EXPECT_TEXT(err.text, "rank 3: it broke");
    for (int rank = 0; rank < N_RANKS; rank++)
        EXPECT(m.n_bad[rank] == 0 && m.n_ended[rank] == 1);
    agon_group_free(m.g);
}

TEST(a_group_has_a_rank_and_not_too_many)
{
    struct agon_group *g = NULL;
    EXPECT(agon_group_new(&g, 0, &err) == AGON_EINPUT);
    EXPECT(agon_group_new(&g, AGON_RANKS_MAX + 1, &err) == AGON_EINPUT);
    EXPECT(!g);
}

/* ---- engines ------------------------------------------------------------------------ */

static struct agon_checkpoint *random_model(void)
{
    const struct random_checkpoint config = {.seed = 9,
                                             .n_vocab = 300,
                                             .hidden = 48,
                                             .n_layers = 2,
                                             .n_heads = 2,
                                             .q_lora = 24,
                                             .kv_lora = 16,
                                             .nope = 8,
                                             .rope = 8,
                                             .v = 8,
                                             .index_heads = 2,
                                             .index_dim = 16,
                                             .index_topk = 16,
                                             .window = 256,
                                             .dense = 64,
                                             .n_dense = 1,
                                             .expert = 16,
                                             .n_experts = 8,
                                             .top_k = 2,
                                             .n_shared = 1,
                                             .n_group = 1,
                                             .topk_group = 1,
                                             .dtype = AGON_F32,
                                             .n_shards = 1};
    struct agon_checkpoint *made = NULL;
    if (!EXPECT(random_checkpoint_load(&made, NULL, &config, &err) == 0))
        printf("# %s\n", err.text);
    return made;
}

TEST(engines_that_go_on_together_draw_what_one_would)
{
    static struct rank_draws alone, together;
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = random_model();
    REQUIRE(checkpoint);
    REQUIRE(rank_draws_make(&alone, checkpoint, "cpu", 0, &err) == 0);
    /* 16 ranks: some have no sequence at all. */
    for (int n_ranks = 1; n_ranks <= 16; n_ranks = n_ranks == 3 ? 16 : n_ranks + 1) {
        EXPECT(rank_draws_make(&together, checkpoint, "cpu", n_ranks, &err) == 0);
        EXPECT(rank_draws_differ(&alone, &together) == 0);
    }
}

TEST(where_the_device_of_one_fails_in_a_pass_all_end_and_say_why)
{
    static struct rank_draws draws;
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = random_model();
    REQUIRE(checkpoint);
    EXPECT(rank_draws_break(&draws, checkpoint, "cpu", 3, &err) == AGON_EDEVICE);
    EXPECT_TEXT(err.text, "rank 2: it broke");
}

TEST(where_a_rank_cannot_begin_all_end_and_say_why)
{
    static struct rank_draws draws;
    struct agon_checkpoint *checkpoint AGON_AUTO(agon_checkpoint_freep) = random_model();
    REQUIRE(checkpoint);
    EXPECT(rank_draws_make(&draws, checkpoint, "no such device", 3, &err) == AGON_EDEVICE);
    EXPECT(strstr(err.text, "no such device") != NULL);
}
