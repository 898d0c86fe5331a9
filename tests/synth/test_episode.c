/* The episode loop against a program that says what a test tells it to. */
#include "base/file.h"
#include "base/json.h"
#include "synth/episode.h"
#include "synth/prompts.h"
#include "tests/test.h"

#include <stdlib.h>
#include <unistd.h>

static struct agon_err err;
static enum agon_context context; /* of the episodes that begin */
static const char *prompts_dir;   /* and their prompts; NULL: our own */

/* An episode with two tools: echo gives its argument back, stop ends the episode. */
struct stage {
    char dir[64], spec[512];
    struct agon_model *model;
    struct agon_prompts *prompts;
    json_t *echo, *stop, *head;
    struct agon_episode_tool tools[2];
    struct agon_episode *episode;
    int n_echo;
};

static int echo(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                struct agon_err *e)
{
    struct stage *s = user;
    (void)name;
    (void)e;
    s->n_echo++;
    if (json_object_get(arguments, "more"))
        agon_buf_adds(result, "more was not taken out");
    for (json_int_t i = json_integer_value(json_object_get(arguments, "times")); i > 0; i--)
        agon_buf_adds(result, agon_json_text(arguments, "text", ""));
    return strcmp(agon_json_text(arguments, "text", ""), "bad") == 0 ? AGON_CALL_REFUSED : 0;
}

static int stop(void *user, const char *name, const json_t *arguments, struct agon_buf *result,
                struct agon_err *e)
{
    (void)user;
    (void)name;
    (void)arguments;
    (void)e;
    agon_buf_adds(result, "stopped");
    return AGON_CALL_LAST;
}

static bool stage_begin(struct stage *s, const char *turns, int turns_max, int tries_max)
{
    char path[128];
    *s = (struct stage){.dir = "/tmp/agon-episode-XXXXXX"};
    if (!mkdtemp(s->dir))
        return false;
    snprintf(path, sizeof(path), "%s/turns.json", s->dir);
    snprintf(s->spec, sizeof(s->spec), "exec+lines:python3 %s/synth/turns.py %s", TEST_SOURCE,
             path);
    s->echo =
        json_loads("{\"type\":\"function\",\"function\":{\"name\":\"echo\",\"description\":\"e\","
                   "\"parameters\":{\"type\":\"object\",\"properties\":{\"text\":{\"type\":"
                   "\"string\"},\"times\":{\"type\":\"integer\"}},\"required\":[\"text\","
                   "\"times\"]}}}",
                   0, NULL);
    s->stop =
        json_loads("{\"type\":\"function\",\"function\":{\"name\":\"stop\",\"description\":\"s\","
                   "\"parameters\":{\"type\":\"object\",\"properties\":{}}}}",
                   0, NULL);
    s->head = json_pack("[{s:s, s:s, s:[O,O]}, {s:s, s:s}]", "role", "system", "content", "s",
                        "tools", s->echo, s->stop, "role", "user", "content", "u");
    s->tools[0] = (struct agon_episode_tool){"echo", s->echo, false, echo, s};
    s->tools[1] = (struct agon_episode_tool){"stop", s->stop, false, stop, s};
    struct agon_model_options mo = {0};
    if (agon_file_write(path, agon_str(turns), false, &err) ||
        agon_prompts_load(&s->prompts, prompts_dir, &err) ||
        agon_model_open(&s->model, s->spec, &mo, &err))
        return false;
    struct agon_episode_options o = {.model = s->model,
                                     .head = s->head,
                                     .tools = s->tools,
                                     .n_tools = 2,
                                     .turns_max = turns_max,
                                     .tries_max = tries_max,
                                     .key = "test/stage/0",
                                     .context = context,
                                     .prompts = s->prompts};
    agon_rng_init(&o.rng, 1);
    return agon_episode_new(&s->episode, &o, &err) == 0;
}

static const struct agon_episode_report *stage_run(struct stage *s)
{
    int r;
    while ((r = agon_episode_step(s->episode, &err)) == 0)
        if (agon_model_poll(s->model, 100, &err))
            return NULL;
    if (r != AGON_EPISODE_ENDED)
        printf("# %s\n", err.text);
    return r == AGON_EPISODE_ENDED ? agon_episode_report(s->episode) : NULL;
}

static void stage_end(struct stage *s)
{
    agon_episode_free(s->episode);
    agon_model_free(s->model);
    agon_prompts_free(s->prompts);
    json_decref(s->echo);
    json_decref(s->stop);
    json_decref(s->head);
    EXPECT(agon_dir_remove(s->dir, &err) == 0);
}

/* Content of the i-th tool message. */
static const char *result(const struct agon_episode_report *report, int i)
{
    size_t k;
    json_t *m;
    json_array_foreach(json_array_get(report->segments, 0), k,
                       m) if (strcmp(agon_json_text(m, "role", ""), "tool") == 0 &&
                              i-- == 0) return agon_json_text(m, "content", "");
    return "(none)";
}

#define CALL(name, arguments) "{\"function\":{\"name\":\"" name "\",\"arguments\":" arguments "}}"
#define TURN(calls)           "{\"tool_calls\":[" calls "]}"
#define ECHO(text)            CALL("echo", "{\"text\":\"" text "\",\"times\":1}")

TEST(calls_of_a_turn_run_in_order)
{
    struct stage s;
    REQUIRE(stage_begin(&s, "[" TURN(ECHO("a") "," ECHO("b")) "]", 4, 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_SILENT && report->turns == 2 && report->calls == 2);
    EXPECT(strcmp(result(report, 0), "a") == 0 && strcmp(result(report, 1), "b") == 0);
    stage_end(&s);
}

TEST(a_call_that_ends_the_episode_leaves_later_calls_undone)
{
    struct stage s;
    REQUIRE(stage_begin(&s, "[" TURN(ECHO("a") "," CALL("stop", "{}") "," ECHO("b")) "]", 4, 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_DONE && s.n_echo == 1);
    EXPECT(strcmp(result(report, 1), "stopped") == 0);
    stage_end(&s);
}

TEST(unknown_tools_and_wrong_arguments_are_results)
{
    struct stage s;
    REQUIRE(stage_begin(
        &s,
        "[" TURN(CALL("nope", "{}") "," CALL("echo", "{\"text\":3,\"times\":1}") "," CALL(
            "echo",
            "{\"text\":\"a\"}") "," CALL("echo",
                                         "{\"text\":\"bad\",\"times\":1}") "," CALL("echo",
                                                                                    "\"{"
                                                                                    "\\\"text\\\":"
                                                                                    "\\\"a\\\","
                                                                                    "\\\"times\\\":"
                                                                                    "{\\\"a\\\":1,"
                                                                                    "\\\"a\\\":2}}"
                                                                                    "\"")) "]",
        4, 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(strcmp(result(report, 0), "error: no tool 'nope'; there are: echo, stop") == 0);
    EXPECT(strcmp(result(report, 1), "error: arguments.text: expected string, got integer 3") == 0);
    EXPECT_HAS(result(report, 2), "error: arguments");
    EXPECT(strcmp(result(report, 3), "error: bad") == 0);
    EXPECT_HAS(result(report, 4), "error: arguments: line 1");
    EXPECT_HAS(result(report, 4), "duplicate");
    EXPECT(report->refused == 5 && s.n_echo == 1);
    stage_end(&s);
}

TEST(long_results_are_paged_and_not_called_again)
{
    struct stage s;
#define LONG(more) CALL("echo", "{\"text\":\"0123456789, \",\"times\":4000" more "}")
    REQUIRE(stage_begin(&s,
                        "[" TURN(LONG("")) "," TURN(LONG(",\"more\":2")) "," TURN(
                            LONG(",\"more\":9")) "," TURN(LONG(",\"more\":0")) "]",
                        9, 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT_HAS(result(report, 0), "0123456789, \n... page 1 of 2; the next: \"more\": 2");
    EXPECT_HAS(result(report, 1), "... page 2 of 2");
    EXPECT(!strstr(result(report, 1), "the next"));
    EXPECT(strcmp(result(report, 2), "error: page 9 is past the last, 2") == 0);
    EXPECT_HAS(result(report, 3), "error: arguments.more");
    EXPECT(s.n_echo == 1);
    EXPECT(strlen(result(report, 0)) + strlen(result(report, 1)) > 48000);
    stage_end(&s);
}

TEST(a_malformed_turn_is_sampled_again_and_leaves_no_trace)
{
    struct stage s;
    REQUIRE(
        stage_begin(&s, "[[\"no end of thinking\", \"still none\", " TURN(ECHO("a")) "]]", 4, 4));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_SILENT && report->malformed == 2 && report->turns == 2);
    EXPECT(json_array_size(json_array_get(report->segments, 0)) == 5);
    stage_end(&s);
}

TEST(a_solvers_malformed_turn_is_final)
{
    struct stage s;
    REQUIRE(stage_begin(&s, "[[\"no end of thinking\", " TURN(ECHO("a")) "]]", 4, 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_MALFORMED && report->turns == 0 && report->reason[0]);
    const json_t *segment = json_array_get(report->segments, 0);
    EXPECT_HAS(agon_json_text(json_array_get(segment, 2), "malformed", ""), "no end of thinking");
    stage_end(&s);
}

/* Sixteen results of a page each, together over 80% of the window. */
#define FLOOD \
    LONG("")  \
    "," LONG("") "," LONG("") "," LONG("") "," LONG("") "," LONG("") "," LONG("") "," LONG("")
TEST(a_full_window_goes_on_in_a_new_segment)
{
    struct stage s;
    context = AGON_CONTEXT_DISCARD_75;
    bool begun = stage_begin(
        &s, "[" TURN(FLOOD "," FLOOD) "," TURN(ECHO("a")) "," TURN(ECHO("b")) "]", 9, 1);
    context = AGON_CONTEXT_NONE;
    REQUIRE(begun);
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->resets == 1 && json_array_size(report->segments) == 2);
    const json_t *first = json_array_get(report->segments, 0),
                 *second = json_array_get(report->segments, 1);
    EXPECT(json_array_size(first) == 2 + 17 + 2);
    EXPECT(json_array_size(second) >= 4 && json_array_size(second) < json_array_size(first));
    EXPECT(json_equal(json_array_get(first, 1), json_array_get(second, 1)));
    EXPECT_HAS(agon_json_text(json_array_get(second, 3), "content", ""), "a");
    stage_end(&s);
}

/* ---- summaries: turns.py says them, and their requests' sizes */

static bool summary_begin(struct stage *s, const char *turns, int tries_max)
{
    context = AGON_CONTEXT_SUMMARY;
    bool begun = stage_begin(s, turns, 9, tries_max);
    context = AGON_CONTEXT_NONE;
    return begun;
}

static const char *content(const struct agon_episode_report *report, size_t segment, size_t message)
{
    return agon_json_text(json_array_get(json_array_get(report->segments, segment), message),
                          "content", "(none)");
}

#define AFTER "\"after\": [" TURN(ECHO("b")) "," TURN(CALL("stop", "{}")) "]"
TEST(a_full_window_is_summed_up_and_the_task_begun_anew_with_that)
{
    struct stage s;
    REQUIRE(summary_begin(&s, "{\"turns\": [" TURN(FLOOD "," FLOOD) "], " AFTER "}", 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_DONE && report->resets == 1 && report->turns == 3);
    const json_t *first = json_array_get(report->segments, 0),
                 *second = json_array_get(report->segments, 1);
    /* head, turn, 16 results, the question, the summary; then head and two turns */
    REQUIRE(json_array_size(first) == 2 + 17 + 2 && json_array_size(second) == 2 + 4);
    EXPECT_HAS(content(report, 0, 19), "The window is nearly full");
    EXPECT_HAS(content(report, 0, 20), "notes of ");
    EXPECT(json_equal(json_array_get(first, 0), json_array_get(second, 0)));
    char wanted[300];
    snprintf(wanted, sizeof(wanted),
             "u\n\nThis work was begun in an earlier conversation. The notes of it:\n%s",
             content(report, 0, 20));
    EXPECT_TEXT(content(report, 1, 1), wanted);
    EXPECT_TEXT(content(report, 1, 3), "b");
    stage_end(&s);
}

/* 48 pages are three windows: one turn loses halves of its results, of two the older one goes. */
TEST(what_is_too_long_to_be_summed_up_is_halved)
{
    static const char *const turns[] = {
        "{\"turns\": [" TURN(FLOOD "," FLOOD "," FLOOD "," FLOOD "," FLOOD "," FLOOD) "], " AFTER
                                                                                      "}",
        "{\"turns\": [" TURN(LONG("")) "," TURN(FLOOD "," FLOOD) "], " AFTER "}"};
    for (int i = 0; i < 2; i++) {
        struct stage s;
        REQUIRE(summary_begin(&s, turns[i], 1));
        const struct agon_episode_report *report = stage_run(&s);
        REQUIRE(report);
        EXPECT(report->end == AGON_EPISODE_DONE && report->resets == 1);
        const json_t *first = json_array_get(report->segments, 0);
        long bytes = 0;
        const char *said = content(report, 0, json_array_size(first) - 1);
        REQUIRE(sscanf(said, "notes of %ld bytes", &bytes) == 1);
        /* four bytes a token, a tenth of the window free */
        EXPECT(bytes < 4L * agon_model_window(s.model) / 10 * 9 + 8192);
        EXPECT(bytes > agon_model_window(s.model));
        EXPECT(strlen(result(report, 0)) > 20000); /* the record is whole */
        stage_end(&s);
    }
}

TEST(a_bad_summary_is_sampled_again_or_is_the_end)
{
    static const char turns[] = "{\"turns\": [" TURN(
        FLOOD "," FLOOD) "], \"summary\": [{\"content\": \"notes\", "
                         "\"tool_calls\": [" ECHO(
                             "a") "]}, \"no end of thinking\", {\"content\": \"notes\"}], " AFTER
                                  "}";
    struct stage s;
    REQUIRE(summary_begin(&s, turns, 3));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_DONE && report->malformed == 2 && s.n_echo == 17);
    EXPECT(json_array_size(json_array_get(report->segments, 0)) == 2 + 17 + 2);
    stage_end(&s);
    REQUIRE(summary_begin(&s, turns, 1));
    report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_MALFORMED && s.n_echo == 16);
    EXPECT_TEXT(report->reason, "a summary makes no calls");
    EXPECT(json_array_size(report->segments) == 1);
    stage_end(&s);
    REQUIRE(summary_begin(&s, "{\"turns\": [" TURN(FLOOD "," FLOOD) "], \"summary\": {}}", 1));
    report = stage_run(&s);
    REQUIRE(report);
    EXPECT_TEXT(report->reason, "a summary has a text");
    stage_end(&s);
}

TEST(a_summary_without_its_prompts_is_refused_at_the_start)
{
    struct stage s;
    static const char *const files[] = {"author.md", "retrieve.md", "tools.md",  "level.md",
                                        "solver.md", "task.md",     "tools.json"};
    char dir[] = "/tmp/agon-prompts-XXXXXX", path[64];
    REQUIRE(mkdtemp(dir));
    for (int i = 0; i < 7; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
        REQUIRE(agon_file_write(path, agon_str(i < 6 ? "text" : "[]"), false, &err) == 0);
    }
    prompts_dir = dir;
    EXPECT(!summary_begin(&s, "[]", 1));
    EXPECT_HAS(err.text, "context summary needs summary.md and restart.md");
    stage_end(&s);
    EXPECT(stage_begin(&s, "[]", 1, 1)); /* nobody else needs them */
    stage_end(&s);
    prompts_dir = NULL;
    EXPECT(agon_dir_remove(dir, &err) == 0);
}

TEST(turns_run_out)
{
    struct stage s;
    REQUIRE(stage_begin(&s, "[" TURN(ECHO("a")) "," TURN(ECHO("a")) "," TURN(ECHO("a")) "]", 2, 1));
    const struct agon_episode_report *report = stage_run(&s);
    REQUIRE(report);
    EXPECT(report->end == AGON_EPISODE_TURNS && report->turns == 2 && s.n_echo == 2);
    stage_end(&s);
}

TEST(a_failed_program_is_a_failure_of_the_model)
{
    struct stage s;
    REQUIRE(stage_begin(&s, "this is no JSON", 2, 1));
    int r;
    while ((r = agon_episode_step(s.episode, &err)) == 0)
        if (agon_model_poll(s.model, 100, &err))
            break;
    EXPECT(r == AGON_EMODEL);
    EXPECT_HAS(err.text, "test/stage/0/0.0");
    stage_end(&s);
}
