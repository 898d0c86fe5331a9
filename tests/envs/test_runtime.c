/* Environments in real cells, in real boxes. */
#include "envs/runtime.h"
#include "sandbox/cell.h"
#include "tests/envs/samples.h"
#include "tests/test.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

struct open_env {
    struct agon_sandbox *sandbox;
    struct agon_runtime *rt;
    struct agon_instance *in;
    struct agon_buf out;
    struct agon_err err;
};

static void env_close(struct open_env *o)
{
    agon_instance_free(o->in);
    agon_runtime_free(o->rt);
    agon_sandbox_close(o->sandbox);
    agon_buf_deinit(&o->out);
}

static bool env_start(struct open_env *o, const char *tools)
{
    *o = (struct open_env){.out = AGON_BUF(1 << 20)};
    char path[] = "/tmp/agon-test-world-XXXXXX";
    int r = agon_sandbox_open(&o->sandbox, NULL, &o->err);
    if (!r)
        r = sample_world_file(path);
    if (!r)
        r = agon_runtime_open(&o->rt, o->sandbox, path, agon_str(tools), &o->out, &o->err);
    if (!r)
        r = agon_instance_new(&o->in, o->rt, &o->err);
    (void)unlink(path);
    if (!EXPECT(r == 0))
        printf("# %d %s %s\n", r, r < 0 ? o->err.text : "", agon_buf_text(&o->out));
    return r == 0;
}

#define START(o)                                     \
    struct open_env o AGON_AUTO(env_close) = {0};    \
    REQUIRE(env_start(&o, sample_tools))

static void expect_call(struct open_env *o, struct agon_instance *in, const char *tool, const char *arguments,
                        int status, const char *expected)
{
    int r = agon_instance_call(in, tool, agon_str(arguments), &o->out, &o->err);
    if (!EXPECT(r == status) || !EXPECT(!strcmp(agon_buf_text(&o->out), expected)))
        printf("# %d: %s\n", r, r < 0 ? o->err.text : agon_buf_text(&o->out));
}

TEST(a_fork_goes_its_own_way)
{
    START(o);
    struct agon_instance *fork AGON_AUTO(agon_instance_freep) = NULL;
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Li\"}", 0, "{\"booking\": 1, \"nights\": 1}");
    REQUIRE(agon_instance_fork(&fork, o.in, &o.err) == 0);
    expect_call(&o, fork, "book", "{\"hotel\": \"Corso\", \"guest\": \"Ann\"}", 0, "{\"booking\": 2, \"nights\": 1}");
    expect_call(&o, o.in, "bookings", "", 0, "[{\"id\": 1, \"guest\": \"Li\"}]");
    expect_call(&o, fork, "bookings", "{}", 0, "[{\"id\": 1, \"guest\": \"Li\"}, {\"id\": 2, \"guest\": \"Ann\"}]");
    EXPECT(json_array_size(agon_instance_writes(o.in)) == 1 && json_array_size(agon_instance_writes(fork)) == 2);
}

TEST(a_failed_call_leaves_nothing)
{
    START(o);
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Nobody\"}", AGON_TOOL_ERROR, "nobody may not book");
    expect_call(&o, o.in, "bookings", "{}", 0, "[]");
    EXPECT(json_array_size(agon_instance_writes(o.in)) == 0);
}

static int parent_of(int pid)
{
    char path[64], stat[512] = "";
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    size_t size = fread(stat, 1, sizeof(stat) - 1, f);
    stat[size] = '\0';
    fclose(f);
    char *end = strrchr(stat, ')');
    return end ? atoi(end + 4) : 0;
}

/* SIGKILL for each process "agon-cell" that descends from this one. */
static int kill_cells(void)
{
    int n = 0;
    FILE *p = popen("pgrep -f 'agon-cell --cell'", "r");
    char line[64];
    while (p && fgets(line, sizeof(line), p)) {
        int pid = atoi(line), up = pid;
        while (up > 1 && up != (int)getpid())
            up = parent_of(up);
        if (up == (int)getpid() && pid != up)
            n += kill(pid, SIGKILL) == 0;
    }
    if (p)
        pclose(p);
    return n;
}

TEST(a_killed_cell_is_replaced_and_its_writes_are_replayed)
{
    START(o);
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Li\"}", 0, "{\"booking\": 1, \"nights\": 1}");
    EXPECT(kill_cells() >= 1);
    expect_call(&o, o.in, "book", "{\"hotel\": \"Corso\", \"guest\": \"Ann\"}", 0, "{\"booking\": 2, \"nights\": 1}");
    agon_runtime_renew(o.rt);
    expect_call(&o, o.in, "bookings", "{}", 0, "[{\"id\": 1, \"guest\": \"Li\"}, {\"id\": 2, \"guest\": \"Ann\"}]");
}

TEST(tools_are_described_for_the_solver)
{
    START(o);
    json_auto_t *tools = agon_runtime_tools_json(o.rt);
    EXPECT(json_array_size(tools) == 3);
    EXPECT(agon_runtime_n_tools(o.rt) == 3 && agon_runtime_tool(o.rt, 1)->writes);
}

TEST(a_solution_reports_what_it_did)
{
    START(o);
    struct agon_solved s AGON_AUTO(agon_solved_deinit) = {0};
    int r = agon_runtime_solve(o.rt, agon_str("return function(tools) local h = tools.hotels{city='Wien'}[1]"
                                              " tools.book{hotel=h.name, guest='Li'} return h.price end"),
                               NULL, &s, &o.out, &o.err);
    REQUIRE(r == 0);
    char *columns = json_dumps(s.columns, 0), *writes = json_dumps(s.writes, 0);
    EXPECT(json_real_value(s.answer) == 120.0 && json_array_size(s.calls) == 2);
    EXPECT(!strcmp(columns, "[\"booking.id\", \"hotel.city\", \"hotel.id\", \"hotel.name\", \"hotel.price\"]"));
    EXPECT(!strcmp(writes, "[{\"tool\": \"book\", \"arguments\": {\"hotel\": \"Astoria\", \"guest\": \"Li\", \"nights\": 1}}]"));
    if (test_failures)
        printf("# %s %s\n", columns, writes);
    free(columns);
    free(writes);
    expect_call(&o, o.in, "bookings", "{}", 0, "[]");
}

TEST(two_cells_give_the_same_bytes)
{
    START(o);
    struct agon_buf first AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    static const char solution[] =
        "return function(tools) local seen = {} for k, v in pairs({b=1, a=2, [3]='x', c={1,2.5}}) do "
        "seen[#seen+1] = tostring(k) .. tostring(v) end seen[#seen+1] = tools.hotels{city='Wien'} return seen end";
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
