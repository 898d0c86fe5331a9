/*
 * Code that ends the process it runs in. No Lua that does is known, so the channel to the cell is
 * cut here whenever a request holds the word LOSE (linked with --wrap=agon_cell_call).
 */
#include "sandbox/cell.h"
#include "tests/verifiers/gate_fixture.h"

static int n_requests, lose_from, lose_until;

int __real_agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                          struct agon_buf *reply, char ret_reason[128], struct agon_err *err);
int __wrap_agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                          struct agon_buf *reply, char ret_reason[128], struct agon_err *err);

int __wrap_agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                          struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    bool lose = memmem(request.data, request.size, "LOSE", 4) && n_requests++ >= lose_from &&
                n_requests <= lose_until;
    if (!lose)
        return __real_agon_cell_call(c, op, request, reply, ret_reason, err);
    snprintf(ret_reason, 128, "killed by signal 11");
    return AGON_CELL_LOST;
}

TEST(code_that_ends_three_cells_is_refused_with_the_reason)
{
    NEED_BOX;
    struct proposal p = {.solution = "return function(tools) return tools.LOSE{} end"};
    n_requests = lose_from = 0;
    lose_until = 1000;
    EXPECT(fixture_refused(&p, 1, "the process that runs it ended, in three fresh ones"));
    EXPECT(n_requests == 3);
}

/* Each request of a gate run in turn ends two cells; the third answers. */
TEST(cells_that_are_lost_change_nothing)
{
    NEED_BOX;
    struct proposal p = fixture_good;
    p.verifier =
        "check{ name = 'dearest', text = 'find the one with the highest price', run = "
        "function(world, answer) -- LOSE\n"
        "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER "
        "BY price DESC, item\")\n"
        "end }\n"
        "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
        "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
        "'tea'\")\n"
        "end }\n";
    struct outcome whole AGON_AUTO(outcome_deinit) = {0};
    n_requests = lose_from = lose_until = 0;
    REQUIRE(fixture_run(&p, &whole) && whole.r == 0);
    int n = n_requests;
    EXPECT(n > 10);
    for (int i = 0; i < n; i += 3) {
        struct outcome cut AGON_AUTO(outcome_deinit) = {0};
        n_requests = 0;
        lose_from = i;
        lose_until = i + 2;
        REQUIRE(fixture_run(&p, &cut));
        EXPECT(cut.r == 0 && json_equal(cut.evidence, whole.evidence) &&
               json_equal(cut.negatives, whole.negatives));
    }
}
