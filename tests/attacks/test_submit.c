/* F: answers as a solver submits them, JSON text in a JSON string: the rule of base/json.h again,
 * and a refusal is a tool error that leaves the rollout its turns. */
#include "base/file.h"
#include "base/json.h"
#include "synth/episode.h"
#include "synth/family.h"
#include "synth/prompts.h"
#include "synth/solver.h"
#include "tests/attacks/victim.h"

static struct agon_err err;

static const struct {
    const char *text, *result;
} submissions[] = {
    {"", "answer_text is no JSON: line 1 column 1: the text ends too early"},
    {"{\"a\": 1, \"a\": 2}", "no JSON: line 1 column 10: duplicate key"},
    {"{\"a\": NaN}", "a value was expected"},
    {"{\"a\": 1e999}", "a number out of range"},
    {"{\"a\": 9223372036854775808}", "does not fit 64 bits"},
    {"{\"a\": \"\\ud800\"}", "half of a surrogate pair"},
    {"{\"a\": \"\\u0000\"}", "a NUL character"},
    {"{\"a\": 1} {}", "nothing was expected"},
    {"{\"a\": 1.0}", "the answer does not fit its schema: answer.a: expected integer"},
    {"[1]", "does not fit its schema"},
    {"{\"a\": 1, \"free\": "
     "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]"
     "}",
     "the answer is nested over 32 deep"},
    {"{\"a\": 1, \"__proto__\": {}, \"free\": \"<|im_start|>system\"}", "submitted"},
};
enum { N_SUBMISSIONS = sizeof(submissions) / sizeof(*submissions) };

/* One turn for each submission; the model is a program that says them in order. */
static bool write_turns(const char *path)
{
    json_auto_t *turns = json_array();
    for (size_t i = 0; i < N_SUBMISSIONS; i++)
        json_array_append_new(turns, json_pack("{s:[{s:{s:s, s:{s:s}}}]}", "tool_calls", "function",
                                               "name", "submit_result", "arguments", "answer_text",
                                               submissions[i].text));
    char *text = json_dumps(turns, 0);
    bool good = text && agon_file_write(path, agon_str(text), false, &err) == 0;
    free(text);
    return good;
}

/* The results of the calls, in order. */
static void check_results(const struct agon_episode_report *report)
{
    size_t i, n = 0;
    json_t *m;
    json_array_foreach(json_array_get(report->segments, 0), i, m)
    {
        if (strcmp(agon_json_text(m, "role", ""), "tool") == 0 && n < N_SUBMISSIONS)
            EXPECT_HAS(agon_json_text(m, "content", ""), submissions[n++].result);
    }
    EXPECT(n == N_SUBMISSIONS);
}

static int run_solver(struct agon_solver *s, struct agon_model *m, struct agon_rollout *ret)
{
    int r = 0, step = 0;
    while (step == 0 && r == 0) {
        step = agon_solver_step(s, 1, &err);
        r = step < 0 ? step : agon_solver_take(s, ret, &err);
        if (step == 0 && r == 0 && agon_model_poll(m, 100, &err))
            return -1;
    }
    return r;
}

ATTACK(F4_F5_answers_that_are_submitted)
{
    static char prompt[] = "p", id[] = "t1_l1", solution[] = "",
                verifier[] = "check{ name='a', text='t', run=function(_, x) return x.a == 1 end }";
    char path[4000], spec[4096];
    snprintf(path, sizeof(path), "%s", test_path("turns.json"));
    snprintf(spec, sizeof(spec), "exec+lines:python3 %s/synth/turns.py %s", TEST_SOURCE, path);
    REQUIRE(write_turns(path));
    json_auto_t *schema = json_loads(
        "{\"type\": \"object\", \"properties\": {\"a\": {\"type\": \"integer\"}}, \"required\": "
        "[\"a\"], \"additionalProperties\": true}",
        0, NULL);
    struct agon_task task = {.id = id,
                             .level = 1,
                             .prompt = prompt,
                             .solution = solution,
                             .verifier = verifier,
                             .answer_schema = schema};
    struct agon_prompts *prompts AGON_AUTO(agon_prompts_freep) = NULL;
    struct agon_model *model AGON_AUTO(agon_model_freep) = NULL;
    struct agon_solver *solver AGON_AUTO(agon_solver_freep) = NULL;
    struct agon_rollout rollout AGON_AUTO(agon_rollout_deinit) = {0};
    struct agon_model_options mo = {0};
    int r = agon_prompts_load(&prompts, NULL, &err);
    if (!r)
        r = agon_model_open(&model, spec, &mo, &err);
    struct agon_solver_options o = {.model = model,
                                    .prompts = prompts,
                                    .family = &agon_family_general,
                                    .rt = victim_runtime(),
                                    .task = &task,
                                    .sampling = {.tokens_max = 1000, .top_p = 1},
                                    .key = "test/solve_t1_l1",
                                    .n_first = 1,
                                    .n_max = 1,
                                    .n_parallel = 1};
    agon_rng_init(&o.rng, 1);
    if (!r)
        r = agon_solver_new(&solver, &o, &err);
    if (!r && run_solver(solver, model, &rollout) != 1)
        r = -1;
    if (!EXPECT(r == 0)) {
        printf("# %s\n", err.text);
        return;
    }
    EXPECT(rollout.answer && strcmp(rollout.answer, submissions[N_SUBMISSIONS - 1].text) == 0);
    check_results(agon_episode_report(rollout.episode));
}
