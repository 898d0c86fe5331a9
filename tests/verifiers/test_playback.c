/* Batches of episodes: the same bytes as call by call, verdicts as one by one, nothing left behind.
 */
#include "tests/envs/open.h"
#include "tests/envs/samples.h"
#include "tests/test.h"
#include "verifiers/playback.h"

#include <stdlib.h>
#include <unistd.h>

static const char verifier[] =
    "check{ name='booked', text='book it for Li', run=function(world, answer, changes)\n"
    "  answer[1] = 'changed'\n"
    "  return #changes:inserted('booking', { guest = 'Li' }) == 1 end }\n"
    "check{ name='named', text='name it', run=function(world, answer)\n"
    "  return answer[1] == 'Astoria' end }\n";

static const struct agon_play_call calls[] = {
    {{"book", 4}, {"{\"guest\": \"Li\", \"hotel\": \"Astoria\"}", 35}},
    {{"bookings", 8}, {"", 0}},
    {{"book", 4}, {"{\"guest\": \"Nobody\", \"hotel\": \"Corso\"}", 37}},
    {{"hotels", 6}, {"{\"city\": 5}", 11}},
    {{"bookings", 8}, {"{}", 2}},
    {{"no_such", 7}, {"{}", 2}},
    {{"hotels", 6}, {"{\"city\": \"Wien\"}", 16}},
};
enum { CALLS = sizeof(calls) / sizeof(*calls), FAILING = 3 };

static const struct agon_play episodes[] = {
    {calls, CALLS, {"[\"Astoria\"]", 11}}, /* right */
    {calls + 1, 1, {"[\"Astoria\"]", 11}}, /* nothing booked */
    {calls, 1, {"[\"Corso\"]", 9}},        /* another name */
    {calls, 1, {"", 0}},                   /* not judged */
    {NULL, 0, {"{", 1}},                   /* no JSON */
    {calls, CALLS, {"[\"Astoria\"]", 11}}, /* the first again */
};
enum { EPISODES = sizeof(episodes) / sizeof(*episodes) };

static struct agon_playback_input input_of(bool results)
{
    return (struct agon_playback_input){.verifier = agon_str(verifier),
                                        .episodes = episodes,
                                        .n_episodes = EPISODES,
                                        .results = results};
}

/* Whether the results from `at` on are what the calls of an episode give one by one. */
static bool same_as_alone(struct open_env *b, const struct agon_play *e,
                          const struct agon_played_call *at)
{
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    bool same = agon_instance_new(&in, b->rt, &b->err) == 0;
    for (int i = 0; i < e->n_calls && same; i++) {
        char *tool = strndup(e->calls[i].tool.data, e->calls[i].tool.size);
        int r = agon_instance_call(in, tool, e->calls[i].arguments, &b->out, &b->err);
        same = at[i].failed == (r > 0) && agon_str_equal(at[i].text, agon_buf_str(&b->out));
        if (!same)
            printf("# call %d (%s): '%.*s', alone '%s'\n", i, tool, AGON_STR_ARG(at[i].text),
                   agon_buf_text(&b->out));
        free(tool);
    }
    return same;
}

TEST(gives_the_bytes_and_verdicts_of_single_calls)
{
    START(b, sample_tools);
    struct agon_playback_input input = input_of(true);
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    for (int round = 0; round < 2; round++) {
        REQUIRE(agon_playback(b.rt, &input, &e, &b.out, &b.err) == 0);
        REQUIRE(e.n_ends == EPISODES && e.n_results == 3 * CALLS - CALLS + 3);
        EXPECT(e.ends[0].n_failed == FAILING && e.ends[0].judged && e.ends[0].brief.pass);
        EXPECT(e.ends[1].n_failed == 0 && !e.ends[1].brief.pass && e.ends[1].brief.failed == 1);
        EXPECT(!e.ends[2].brief.pass && e.ends[2].brief.failed == 2);
        EXPECT(!e.ends[3].judged);
        EXPECT(e.ends[4].brief.schema && !e.ends[4].brief.pass);
        EXPECT(e.ends[5].brief.pass);
        const struct agon_played_call *at = e.results;
        for (int i = 0; i < EPISODES; at += episodes[i++].n_calls)
            EXPECT(same_as_alone(&b, &episodes[i], at));
    }
}

TEST(judges_the_same_where_results_are_not_wanted)
{
    START(b, sample_tools);
    struct agon_playback_input input = input_of(false), other = input_of(true);
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    struct agon_playback f AGON_AUTO(agon_playback_deinit) = {0};
    REQUIRE(agon_playback(b.rt, &input, &e, &b.out, &b.err) == 0);
    REQUIRE(agon_playback(b.rt, &other, &f, &b.out, &b.err) == 0);
    EXPECT(e.n_results == 0);
    for (int i = 0; i < EPISODES; i++)
        EXPECT(e.ends[i].n_failed == f.ends[i].n_failed &&
               e.ends[i].brief.pass == f.ends[i].brief.pass &&
               e.ends[i].brief.failed == f.ends[i].brief.failed);
}

TEST(what_was_read_before_changes_no_byte)
{
    START(b, sample_tools);
    struct agon_playback_input input = input_of(true);
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    struct agon_playback f AGON_AUTO(agon_playback_deinit) = {0};
    REQUIRE(agon_playback(b.rt, &input, &e, &b.out, &b.err) == 0);
    REQUIRE(agon_playback(b.rt, &input, &e, &b.out, &b.err) == 0);
    input.anew = true;
    REQUIRE(agon_playback(b.rt, &input, &f, &b.out, &b.err) == 0);
    EXPECT(agon_str_equal(agon_buf_str(&e.reply),
                          agon_buf_str(&f.reply))); /* fuel and operations, too */
}

TEST(two_runtimes_work_at_once)
{
    START(b, sample_tools);
    START(c, sample_tools);
    struct agon_playback_input input = input_of(true);
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    struct agon_playback f AGON_AUTO(agon_playback_deinit) = {0};
    REQUIRE(agon_playback_begin(b.rt, &input, &e, &b.err) == 0);
    REQUIRE(agon_playback_begin(c.rt, &input, &f, &c.err) == 0);
    REQUIRE(agon_playback_end(c.rt, &input, &f, &c.out, &c.err) == 0);
    REQUIRE(agon_playback_end(b.rt, &input, &e, &b.out, &b.err) == 0);
    EXPECT(e.n_results == f.n_results);
    EXPECT(agon_str_equal(agon_buf_str(&e.reply), agon_buf_str(&f.reply)));
}

TEST(says_why_a_verifier_does_not_load)
{
    START(b, sample_tools);
    struct agon_playback_input input = input_of(false);
    struct agon_playback e AGON_AUTO(agon_playback_deinit) = {0};
    input.verifier = agon_str("check{");
    EXPECT(agon_playback(b.rt, &input, &e, &b.out, &b.err) == AGON_REJECTED);
    EXPECT(strstr(agon_buf_text(&b.out), "verifier:1:"));
    input.verifier = agon_str(verifier);
    EXPECT(agon_playback(b.rt, &input, &e, &b.out, &b.err) == 0 && e.ends[0].brief.pass);
}

TEST(another_environment_opens_in_the_same_cell)
{
    START(b, sample_tools);
    char path[] = "/tmp/agon-test-world-XXXXXX";
    static const char one[] =
        "tool{ name='one', description='1', params=[[{\"type\":\"object\"}]], "
        "returns=[[{\"type\":\"integer\"}]], run=function() return 1 end }";
    REQUIRE(sample_world_file(path) == 0);
    expect_call(&b, b.in, "book", "{\"hotel\": \"Astoria\", \"guest\": \"Li\"}", 0,
                "{\"booking\": 1, \"nights\": 1}");
    EXPECT(agon_runtime_reopen(b.rt, path, agon_str("tool{"), &b.out, &b.err) == AGON_REJECTED);
    REQUIRE(agon_runtime_reopen(b.rt, path, agon_str(one), &b.out, &b.err) == 0);
    struct agon_instance *in AGON_AUTO(agon_instance_freep) = NULL;
    REQUIRE(agon_instance_new(&in, b.rt, &b.err) == 0);
    EXPECT(agon_runtime_n_tools(b.rt) == 1);
    expect_call(&b, in, "one", "{}", 0, "1");
    expect_call(&b, in, "bookings", "{}", AGON_TOOL_ERROR, "no tool 'bookings'; there are: one");
    (void)unlink(path); /* a temporary file */
}
