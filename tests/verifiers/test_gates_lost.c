/*
 * Code that ends the process it runs in, and cells that disagree. No Lua that does either is known,
 * so the channel to the cell is cut, or a reply altered, whenever a request holds the word LOSE
 * (linked with --wrap=agon_cell_call, and --wrap=agon_cell_new to count the cells).
 */
#include "sandbox/cell.h"
#include "tests/verifiers/gate_fixture.h"

static int n_requests, lose_from, lose_until, alter_at = -1;

int __real_agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                          struct agon_buf *reply, char ret_reason[128], struct agon_err *err);
int __wrap_agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                          struct agon_buf *reply, char ret_reason[128], struct agon_err *err);

int __wrap_agon_cell_call(struct agon_cell *c, const char *op, struct agon_str request,
                          struct agon_buf *reply, char ret_reason[128], struct agon_err *err)
{
    bool marked = memmem(request.data, request.size, "LOSE", 4);
    bool alter = marked && n_requests == alter_at;
    bool lose = marked && n_requests++ >= lose_from && n_requests <= lose_until;
    if (!lose) {
        int r = __real_agon_cell_call(c, op, request, reply, ret_reason, err);
        if (!r && alter)
            reply->data[reply->size - 48] ^= 1; /* the last answer passes, or does not */
        return r;
    }
    snprintf(ret_reason, 128, "killed by signal 11");
    return AGON_CELL_LOST;
}

static int n_cells;

int __real_agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err);
int __wrap_agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err);

int __wrap_agon_cell_new(struct agon_cell **ret, struct agon_sandbox *sb, struct agon_err *err)
{
    n_cells++;
    return __real_agon_cell_new(ret, sb, err);
}

/* One to begin with, one for gate 2, and one in which all is asked once more. */
TEST(a_proposal_is_judged_in_three_cells)
{
    NEED_BOX;
    struct outcome o AGON_AUTO(outcome_deinit) = {0};
    n_cells = 0;
    REQUIRE(fixture_passes(&fixture_good, &o));
    EXPECT(n_cells == 3);
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

static const char marked_verifier[] =
    "check{ name = 'dearest', text = 'find the one with the highest price', run = "
    "function(world, answer) -- LOSE\n"
    "    return answer.item == world:value(\"SELECT item FROM items WHERE kind = 'tea' ORDER "
    "BY price DESC, item\")\n"
    "end }\n"
    "check{ name = 'price', text = 'its price as `price`', run = function(world, answer)\n"
    "    return answer.price == world:value(\"SELECT max(price) FROM items WHERE kind = "
    "'tea'\")\n"
    "end }\n";

TEST(J6_cells_that_disagree_are_a_refusal_with_both_traces)
{
    NEED_BOX;
    struct proposal p = fixture_good;
    struct outcome whole AGON_AUTO(outcome_deinit) = {0}, o AGON_AUTO(outcome_deinit) = {0};
    p.verifier = marked_verifier;
    n_requests = lose_from = lose_until = 0;
    REQUIRE(fixture_run(&p, &whole) && whole.r == 0);
    EXPECT(!json_object_get(whole.evidence, "disagreement"));
    /* The first request only loads the verifier; all others are asked twice. The second of these is
     * gate 2's, whose one given answer is the golden one. */
    alter_at = 1 + (n_requests - 1) / 2 + 1;
    EXPECT(n_requests > 20 && n_requests % 2 == 1);
    n_requests = 0;
    REQUIRE(fixture_run(&p, &o));
    alter_at = -1;
    EXPECT(o.r == AGON_REJECTED && o.gate == 2 && !o.golden);
    EXPECT_HAS(o.reason, "gate 2 (golden): a second, fresh process judges the same otherwise");
    json_t *both = json_object_get(o.evidence, "disagreement");
    json_t *first = json_object_get(json_object_get(both, "first"), "verdict");
    json_t *second = json_object_get(json_object_get(both, "second"), "verdict");
    EXPECT(json_is_true(json_object_get(first, "pass")));
    EXPECT(json_is_false(json_object_get(second, "pass")));
    json_t *request = json_object_get(both, "request");
    EXPECT_HAS(json_string_value(json_object_get(request, "verifier")), "LOSE");
    EXPECT_HAS(json_string_value(json_object_get(json_object_get(request, "item"), "answer")),
               "\"item\": ");
}

/* Each request of a gate run in turn ends two cells; the third answers. */
TEST(cells_that_are_lost_change_nothing)
{
    NEED_BOX;
    struct proposal p = fixture_good;
    p.verifier = marked_verifier;
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
