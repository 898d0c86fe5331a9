/* Environments in real cells, in real boxes. */
#include "envs/runtime_wire.h"
#include "tests/envs/open.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#include <stdlib.h>

TEST(a_fork_goes_its_own_way)
{
    START(o, sample_tools);
    struct agon_instance *fork AGON_AUTO(agon_instance_freep) = NULL;
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Li\"}", 0,
                "{\"booking\": 1, \"nights\": 1}");
    REQUIRE(agon_instance_fork(&fork, o.in, &o.err) == 0);
    expect_call(&o, fork, "book", "{\"hotel\": \"Corso\", \"guest\": \"Ann\"}", 0,
                "{\"booking\": 2, \"nights\": 1}");
    expect_call(&o, o.in, "bookings", "", 0, "[{\"id\": 1, \"guest\": \"Li\"}]");
    expect_call(&o, fork, "bookings", "{}", 0,
                "[{\"id\": 1, \"guest\": \"Li\"}, {\"id\": 2, \"guest\": \"Ann\"}]");
    EXPECT(json_array_size(agon_instance_writes(o.in)) == 1 &&
           json_array_size(agon_instance_writes(fork)) == 2);
}

TEST(a_failed_call_leaves_nothing)
{
    START(o, sample_tools);
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Nobody\"}", AGON_TOOL_ERROR,
                "nobody may not book");
    expect_call(&o, o.in, "bookings", "{}", 0, "[]");
    EXPECT(json_array_size(agon_instance_writes(o.in)) == 0);
}

#ifndef UNBOXED /* there, this program is its own cell */
TEST(a_killed_cell_is_replaced_and_its_writes_are_replayed)
{
    START(o, sample_tools);
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Li\"}", 0,
                "{\"booking\": 1, \"nights\": 1}");
    EXPECT(kill_cells() >= 1);
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Ann\"}", 0,
                "{\"booking\": 2, \"nights\": 1}");
    agon_runtime_renew(o.rt);
    expect_call(&o, o.in, "bookings", "{}", 0,
                "[{\"id\": 1, \"guest\": \"Li\"}, {\"id\": 2, \"guest\": \"Ann\"}]");
}
#endif

TEST(tools_are_described_for_the_solver)
{
    START(o, sample_tools);
    json_auto_t *tools = agon_runtime_tools_json(o.rt);
    EXPECT(json_array_size(tools) == 3);
    EXPECT(agon_runtime_n_tools(o.rt) == 3 && agon_runtime_tool(o.rt, 1)->writes);
}

TEST(a_solution_reports_what_it_did)
{
    START(o, sample_tools);
    struct agon_solved s AGON_AUTO(agon_solved_deinit) = {0};
    int r =
        agon_runtime_solve(o.rt,
                           agon_str("return function(tools) local h = tools.hotels{city='Wien'}[1]"
                                    " tools.book{hotel=h.name, guest='Li'} return h.price end"),
                           NULL, &s, &o.out, &o.err);
    REQUIRE(r == 0);
    char *columns = json_dumps(s.columns, 0), *writes = json_dumps(s.writes, 0);
    EXPECT(json_real_value(s.answer) == 120.0 && json_array_size(s.calls) == 2);
    EXPECT(
        !strcmp(columns,
                "[\"booking.id\", \"hotel.city\", \"hotel.id\", \"hotel.name\", \"hotel.price\"]"));
    EXPECT(!strcmp(writes, "[{\"tool\": \"book\", \"arguments\": {\"hotel\": \"Astoria\", "
                           "\"guest\": \"Li\", \"nights\": 1}}]"));
    if (test_failures)
        printf("# %s %s\n", columns, writes);
    free(columns);
    free(writes);
    expect_call(&o, o.in, "bookings", "{}", 0, "[]");
}

TEST(two_cells_give_the_same_bytes)
{
    START(o, sample_tools);
    struct agon_buf first AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    static const char solution[] = "return function(tools) local seen = {} for k, v in pairs({b=1, "
                                   "a=2, [3]='x', c={1,2.5}}) do "
                                   "seen[#seen+1] = tostring(k) .. tostring(v) end seen[#seen+1] = "
                                   "tools.hotels{city='Wien'} return seen end";
    for (int i = 0; i < 3; i++) {
        struct agon_solved s AGON_AUTO(agon_solved_deinit) = {0};
        REQUIRE(agon_runtime_solve(o.rt, agon_str(solution), NULL, &s, &o.out, &o.err) == 0);
        char *text = json_dumps(s.answer, 0);
        if (i == 0)
            agon_buf_adds(&first, text);
        EXPECT(!strcmp(agon_buf_text(&first), text));
        free(text);
        agon_runtime_renew(o.rt);
    }
}

TEST(what_ends_three_cells_is_refused)
{
    START(o, sample_tools);
    struct agon_buf reply AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    EXPECT(agon_runtime_request(o.rt, "env.nonsense", agon_str(""), &reply, &o.err) == AGON_ESYS);
    EXPECT_HAS(o.err.text, "refused: env.nonsense ended 3 cells, the last: ");
    EXPECT_HAS(o.err.text, "no operation 'env.nonsense'");
    expect_call(&o, o.in, "bookings", "{}", 0, "[]");
}
