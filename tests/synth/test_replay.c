/* Rollouts of the real solver, made again from their transcripts: the same bytes, pages, refusals
 * and context resets included; and a byte that differs is named. */
#include "base/file.h"
#include "base/json.h"
#include "synth/episode.h"
#include "synth/prompts.h"
#include "synth/replay.h"
#include "synth/solver.h"
#include "tests/envs/open.h"
#include "tests/envs/samples.h"
#include "tests/test.h"
#include "verifiers/verdict.h"

#include <stdlib.h>
#include <unistd.h>

static int verdicts_until_other = -1; /* then one says that its last check fails */

int __real_agon_verdict(struct agon_runtime *rt, const struct agon_task *task,
                        struct agon_str answer, const json_t *writes, struct agon_verdict *ret,
                        struct agon_buf *reason, struct agon_err *err);
int __wrap_agon_verdict(struct agon_runtime *rt, const struct agon_task *task,
                        struct agon_str answer, const json_t *writes, struct agon_verdict *ret,
                        struct agon_buf *reason, struct agon_err *err);

int __wrap_agon_verdict(struct agon_runtime *rt, const struct agon_task *task,
                        struct agon_str answer, const json_t *writes, struct agon_verdict *ret,
                        struct agon_buf *reason, struct agon_err *err)
{
    int r = __real_agon_verdict(rt, task, answer, writes, ret, reason, err);
    if (r == 0 && verdicts_until_other-- == 0) {
        ret->pass = false;
        ret->checks[ret->n_checks - 1].end = AGON_CHECK_FAIL;
    }
    return r;
}

static const char more_tools[] =
    "tool{ name='text', description='so many lines', params=[[{\"type\":\"object\",\"properties\":"
    "{\"lines\":{\"type\":\"integer\"}},\"required\":[\"lines\"]}]], "
    "returns=[[{\"type\":\"string\"}]], run=function(world, a) local t = {} for i = 1, a.lines do "
    "t[i] = 'line ' .. i .. ' of a text that is so long that it comes in pages, one by one' end "
    "return table.concat(t, ', ') end }\n";

static const char verifier[] =
    "check{ name='name', text='the hotel', run=function(world, answer) return answer.name == "
    "'Astoria' end }\n"
    "check{ name='booked', text='book it', run=function(world, answer, changes) return "
    "#changes:inserted('booking', { guest = 'Li' }) == 1 end }\n";

#define CALL(name, arguments)                                                                     \
    "{\"type\": \"function\", \"function\": {\"name\": \"" name "\", \"arguments\": \"" arguments \
    "\"}}"
#define TURN(calls) "{\"tool_calls\": [" calls "]}"

/* What the model does: errors of all kinds, pages, a write, a bad and a good answer. */
static const char
    turns
        [] =
            "[" TURN(
                CALL("hotels", "{\\\"city\\\": \\\"Wien\\\"}") ", " CALL("nosuch", "{}") ", " CALL("hotels", "{\\\"city\\\": 3}") ", " CALL(
                    "hotels",
                    "{\\\"city\\\": \\\"a\\\", \\\"city\\\": "
                    "\\\"b\\\"}") ", " CALL("hotels",
                                            "{\\\"city\\\": "
                                            "\\\"Wien\\\", "
                                            "\\\"more\\\": "
                                            "0}") ", " CALL("hotels", "{\\\"city\\\": "
                                                                      "\\\"Wien\\\", \\\"more\\\": "
                                                                      "4}")) ", " TURN(CALL("text", "{\\\"lines\\\": 700}") ", " CALL("text",
                                                                                                                                      "{\\\"lines\\\": 700, \\\"more\\\": 2}") ", " CALL("text", "{\\\"more\\\": 3, \\\"lines\\\": 700}") ", " CALL("text", "{\\\"lines\\\": 700, \\\"more\\\": 99}")) ", " TURN(CALL("book", "{\\\"hotel\\\": \\\"Astoria\\\", \\\"guest\\\": \\\"Nobody\\\"}") ", " CALL("book",
                                                                                                                                                                                                                                                                                                                                                                                                           "{\\\"hotel\\\": \\\"Astoria\\\", \\\"guest\\\": \\\"Li\\\"}") ", " CALL("bookings", "{}")) ", "
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                       "%s" TURN(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                           CALL(
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "submit_result",
                                                                                                                                                                                                                                                                                                                                                                                                                                                                                                               "{\\\"answer_text\\\": \\\"nonsense\\\"}") ", " CALL("submit_result", "{\\\"answer_text\\\": \\\"{\\\\\\\"name\\\\\\\": \\\\\\\"%s\\\\\\\"}\\\"}")) "]";

struct stage {
    struct open_env o;
    char dir[64];
    json_t *schema;
    struct agon_task task;
    struct agon_prompts *prompts;
    struct agon_model *model;
    struct agon_solver *solver;
    struct agon_rollout rollout;
};

static void stage_end(struct stage *s)
{
    agon_rollout_deinit(&s->rollout);
    agon_solver_free(s->solver);
    agon_model_free(s->model);
    agon_prompts_free(s->prompts);
    env_close(&s->o);
    json_decref(s->schema);
    struct agon_err err;
    if (s->dir[0])
        EXPECT(agon_dir_remove(s->dir, &err) == 0);
}

/* Run one rollout of what turns.py is told. */
static bool stage_run(struct stage *s, const char *told, enum agon_context context,
                      int n_trajectories)
{
    char tools[8192], spec[600], path[128];
    *s = (struct stage){.dir = "/tmp/agon-replay-XXXXXX"};
    snprintf(tools, sizeof(tools), "%s%s", sample_tools, more_tools);
    if (!env_start(&s->o, tools) || !mkdtemp(s->dir))
        return false;
    snprintf(path, sizeof(path), "%s/turns.json", s->dir);
    snprintf(spec, sizeof(spec), "exec+lines:python3 %s/synth/turns.py %s", TEST_SOURCE, path);
    s->schema = json_loads("{\"type\": \"object\", \"properties\": {\"name\": {\"type\": "
                           "\"string\"}}, \"required\": [\"name\"]}",
                           0, NULL);
    s->task = (struct agon_task){.id = (char *)(uintptr_t) "t1_l1",
                                 .prompt = (char *)(uintptr_t) "Book.",
                                 .answer_schema = s->schema,
                                 .verifier = (char *)(uintptr_t)verifier};
    struct agon_model_options mo = {0};
    int r = agon_file_write(path, agon_str(told), false, &s->o.err);
    if (r || (r = agon_prompts_load(&s->prompts, NULL, &s->o.err)) ||
        (r = agon_model_open(&s->model, spec, &mo, &s->o.err)))
        return false;
    struct agon_solver_options so = {.model = s->model,
                                     .prompts = s->prompts,
                                     .family = &agon_family_general,
                                     .rt = s->o.rt,
                                     .task = &s->task,
                                     .sampling = {.temperature = 1, .top_p = 1},
                                     .context = context,
                                     .n_trajectories = n_trajectories,
                                     .key = "test",
                                     .n_first = 1,
                                     .n_max = 1,
                                     .n_parallel = 1};
    agon_rng_init(&so.rng, 1);
    r = agon_solver_new(&s->solver, &so, &s->o.err);
    while (!r && (r = agon_solver_step(s->solver, 1, &s->o.err)) == 0 &&
           (r = agon_solver_take(s->solver, &s->rollout, &s->o.err)) == 0)
        r = agon_model_poll(s->model, 50, &s->o.err);
    if (!EXPECT(r == 1))
        printf("# %d %s\n", r, s->o.err.text);
    return r == 1;
}

/* Run one rollout of these turns. */
static bool stage_begin(struct stage *s, const char *more_turns, const char *hotel,
                        enum agon_context context)
{
    char *text = NULL;
    if (asprintf(&text, turns, more_turns, hotel) < 0)
        return false;
    bool begun = stage_run(s, text, context, 1);
    free(text);
    return begun;
}

/* "same", or where, expected and got. segments NULL: the rollout's own. */
static const char *replayed(struct stage *s, enum agon_context context, const json_t *segments,
                            const char *verdict)
{
    static char said[20000];
    struct agon_replay replay = {.rt = s->o.rt, .task = &s->task, .context = context};
    struct agon_replay_rollout in = {
        .segments = segments ? segments : agon_episode_report(s->rollout.episode)->segments,
        .answer = s->rollout.answer,
        .writes = s->rollout.writes,
        .checks = s->rollout.checks,
        .verdict = verdict ? verdict : s->rollout.verdict,
        .end = s->rollout.end};
    struct agon_replay_result result = {0};
    int r = agon_replay(&replay, &in, 1, &result, &s->o.err);
    if (r)
        snprintf(said, sizeof(said), "%d %s", r, s->o.err.text);
    else if (result.same)
        snprintf(said, sizeof(said), "same, %d calls", result.n_calls);
    else
        snprintf(said, sizeof(said), "%s | %s | %s", agon_buf_text(&result.where),
                 agon_buf_text(&result.expected), agon_buf_text(&result.got));
    agon_replay_result_deinit(&result);
    return said;
}

/* The k-th tool message (from 1) of all segments. */
static json_t *tool_message(const json_t *segments, int k)
{
    size_t i, n;
    json_t *segment, *message;
    json_array_foreach(segments, i, segment) json_array_foreach(
        segment, n, message) if (!strcmp(agon_json_text(message, "role", ""), "tool") &&
                                 --k == 0) return message;
    return NULL;
}

TEST(a_rollout_gives_the_same_bytes_again)
{
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_begin(&s, "", "Astoria", AGON_CONTEXT_NONE));
    EXPECT_TEXT(s.rollout.verdict, "pass");
    const json_t *segments = agon_episode_report(s.rollout.episode)->segments;
    EXPECT_HAS(agon_json_text(tool_message(segments, 7), "content", ""), "\n... page 1 of ");
    EXPECT_HAS(agon_json_text(tool_message(segments, 10), "content", ""), "is past the last");
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_NONE, NULL, NULL), "same, 7 calls");
}

/* A rollout that passed in one cell and failed in the next: no such cell is known, so the second
 * verdict is altered (linked with --wrap=agon_verdict). */
TEST(J6_a_disputed_rollout_keeps_both_traces)
{
    struct stage s AGON_AUTO(stage_end);
    verdicts_until_other = 1;
    REQUIRE(stage_begin(&s, "", "Astoria", AGON_CONTEXT_NONE));
    EXPECT(verdicts_until_other < 0);
    EXPECT_TEXT(s.rollout.verdict, "none");
    EXPECT_TEXT(s.rollout.end, AGON_ROLLOUT_DISPUTED);
    EXPECT(!s.rollout.pass);
    char *checks = json_dumps(s.rollout.checks, 0);
    EXPECT_TEXT(checks, "[{\"name\": \"name\", \"end\": \"pass\", \"cell\": 1}, "
                        "{\"name\": \"booked\", \"end\": \"pass\", \"cell\": 1}, "
                        "{\"name\": \"name\", \"end\": \"pass\", \"cell\": 2}, "
                        "{\"name\": \"booked\", \"end\": \"fail\", \"cell\": 2}]");
    free(checks);
    /* Its calls still give what they gave; there is no verdict to compare. */
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_NONE, NULL, NULL), "same, 7 calls");
}

TEST(a_failed_rollout_gives_the_same_checks_again)
{
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_begin(&s, "", "Corso", AGON_CONTEXT_NONE));
    EXPECT_TEXT(s.rollout.verdict, "fail");
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_NONE, NULL, NULL), "same, 7 calls");
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_NONE, NULL, "pass"), "verdict | pass | fail");
}

/* A hundred pages are more than the window holds: the oldest turns go, and some come again. */
static void resets(enum agon_context context)
{
    static char many[40000];
    size_t used = 0;
    for (int i = 0; i < 20; i++)
        used += (size_t)snprintf(many + used, sizeof(many) - used,
                                 TURN(CALL("text", "{\\\"lines\\\": %d}") ", " CALL(
                                     "text", "{\\\"lines\\\": %d, \\\"more\\\": 2}")) ", ",
                                 700 + i % 3, 700 + i % 3);
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_begin(&s, many, "Astoria", context));
    const json_t *segments = agon_episode_report(s.rollout.episode)->segments;
    EXPECT(json_array_size(segments) >= 2);
    EXPECT_HAS(replayed(&s, context, NULL, NULL), "same, ");
}

TEST(context_resets_are_followed)
{
    resets(AGON_CONTEXT_DISCARD_75);
}

TEST(a_context_that_keeps_nothing_is_followed)
{
    resets(AGON_CONTEXT_DISCARD_ALL);
}

TEST(a_context_that_is_summed_up_is_followed)
{
    resets(AGON_CONTEXT_SUMMARY);
}

/* ---- rollouts of several trajectories */

/* clang-format off */
#define BOOK(hotel) CALL("book", "{\\\"hotel\\\": \\\"" hotel "\\\", \\\"guest\\\": \\\"Li\\\"}")
#define SUBMIT(hotel) \
    CALL("submit_result", "{\\\"answer_text\\\": \\\"{\\\\\\\"name\\\\\\\": \\\\\\\"" hotel "\\\\\\\"}\\\"}")
#define HOTELS TURN(CALL("hotels", "{\\\"city\\\": \\\"Wien\\\"}"))
#define RIGHT  TURN(BOOK("Astoria")) ", " TURN(SUBMIT("Astoria"))
#define WRONG  TURN(BOOK("Corso")) ", " TURN(SUBMIT("Corso"))
#define GUESS  TURN(SUBMIT("Astoria"))
/* clang-format on */
#define TRIES(tries) "{\"tries\": [" tries "]}"

TEST(of_several_trajectories_the_one_that_answers_in_the_fewest_turns_counts)
{
    static const char told[] =
        TRIES("[" HOTELS ", " RIGHT "], [" GUESS "], [" WRONG "], [" RIGHT "], []");
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_run(&s, told, AGON_CONTEXT_PARALLEL, 5));
    /* A guess without a call is no answer; of two equals the first counts, right or wrong. */
    EXPECT_TEXT(s.rollout.verdict, "fail");
    EXPECT_TEXT(s.rollout.answer, "{\"name\": \"Corso\"}");
    EXPECT(agon_episode_report(s.rollout.episode)->turns == 2);
    EXPECT(s.rollout.tokens > agon_episode_report(s.rollout.episode)->tokens);
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_PARALLEL, NULL, NULL), "same, 1 calls");
}

/* The verifier asks for one booking by Li: what other trajectories booked is in other worlds. */
TEST(a_trajectory_has_a_world_of_its_own)
{
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_run(&s, TRIES("[" HOTELS ", " WRONG "], [" RIGHT "]"), AGON_CONTEXT_PARALLEL, 2));
    EXPECT_TEXT(s.rollout.verdict, "pass");
    EXPECT(json_array_size(s.rollout.writes) == 1);
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_PARALLEL, NULL, NULL), "same, 1 calls");
}

TEST(where_no_trajectory_answers_the_one_of_the_fewest_turns_counts)
{
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_run(&s, TRIES("[" HOTELS "], [" GUESS "], []"), AGON_CONTEXT_PARALLEL, 3));
    EXPECT_TEXT(s.rollout.verdict, "fail");
    EXPECT_TEXT(s.rollout.end, "done"); /* a guess */
    EXPECT_TEXT(replayed(&s, AGON_CONTEXT_PARALLEL, NULL, NULL), "same, 0 calls");
}

TEST(a_byte_that_differs_is_named_with_its_call)
{
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_begin(&s, "", "Astoria", AGON_CONTEXT_NONE));
    static const struct {
        int message;
        const char *from, *to, *where, *expected, *got;
    } cases[] = {
        {1, "120.0", "120.5", "call 1, hotels {\"city\": \"Wien\"}: line 1, byte ", "120.5",
         "120.0"},
        {2, "nosuch", "nosuck", "call 2, nosuch {}: line 1, byte ", "nosuck", "nosuch"},
        {8, "line 600", "line 60O", "call 8, text {\"lines\": 700, \"more\": 2}: line 1, byte ",
         "line 60O", "line 600"},
        {12, "\"booking\": 1", "\"booking\": 2", "call 12, book ", "\"booking\": 2",
         "\"booking\": 1"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        json_auto_t *copy = json_deep_copy(agon_episode_report(s.rollout.episode)->segments);
        json_t *message = tool_message(copy, cases[i].message);
        char *text = strdup(agon_json_text(message, "content", "")),
             *at = strstr(text, cases[i].from);
        if (!EXPECT(at != NULL))
            printf("# %s\n", text);
        if (at) {
            memcpy(at, cases[i].to, strlen(cases[i].to));
            json_object_set_new(message, "content", json_string(text));
            const char *said = replayed(&s, AGON_CONTEXT_NONE, copy, NULL);
            EXPECT_HAS(said, cases[i].where);
            EXPECT_HAS(said, cases[i].expected);
            EXPECT_HAS(said, cases[i].got);
        }
        free(text);
    }
}

TEST(a_transcript_that_lacks_a_result_is_named)
{
    struct stage s AGON_AUTO(stage_end);
    REQUIRE(stage_begin(&s, "", "Astoria", AGON_CONTEXT_NONE));
    json_auto_t *copy = json_deep_copy(agon_episode_report(s.rollout.episode)->segments);
    json_t *segment = json_array_get(copy, 0);
    json_array_remove(segment, 4); /* system, user, assistant, result, this one */
    EXPECT_HAS(replayed(&s, AGON_CONTEXT_NONE, copy, NULL),
               "call 2, nosuch {}: line 1, byte 7 | error: arguments.city");
    while (json_array_size(segment) > 4)
        json_array_remove(segment, 4);
    EXPECT_HAS(replayed(&s, AGON_CONTEXT_NONE, copy, NULL), "none in the transcript");
}
