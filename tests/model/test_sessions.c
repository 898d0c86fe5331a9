/* Sessions, programs behind exec:, and recordings. */
#include "base/file.h"
#include "base/json.h"
#include "model/jsontext.h"
#include "tests/model/chat.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define EOS "<｜end▁of▁sentence｜>"

static struct agon_model *open_spec(const char *spec, const struct agon_model_options *options)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    if (!EXPECT(agon_model_open(&m, spec, options, &err) == 0))
        printf("# %s\n", err.text);
    return m;
}

static struct agon_turn ask(const char *spec, const struct agon_model_options *options)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_spec(spec, options);
    return m ? chat_ask(m, "hello", "cat/stage/0/0.0") : (struct agon_turn){0};
}

static void expect_failed(const char *spec, const char *reason)
{
    struct agon_model_options options = {.turn_ms_max = 400};
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = ask(spec, &options);
    EXPECT(t.end == AGON_TURN_FAILED);
    EXPECT_HAS(t.reason, reason);
}

TEST(unknown_specs_are_refused)
{
    static const char *const specs[] = {"ftp://x", "exec:", "exec+lines: ", "bogus", "http://"};
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        struct agon_model *m = NULL;
        struct agon_err err = {0};
        if (!EXPECT(agon_model_open(&m, specs[i], NULL, &err) < 0 && err.text[0]))
            printf("# %s\n", specs[i]);
    }
}

/* ---- messages that fit ---- */

static const struct {
    const char *messages, *error;
} misfits[] = {
    {"{}", "no list"},
    {"[1]", "message 0: unknown role"},
    {"[{\"role\":\"user\"}]", "user: content is no text"},
    {"[{\"role\":\"user\",\"content\":null}]", "user: content is no text"},
    {"[{\"role\":\"tool\",\"content\":\"x\"}]", "no call is open"},
    {"[{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"content\":\"\",\"tool_"
     "calls\":"
     "[{\"function\":{\"name\":\"f\",\"arguments\":\"oops\"}}]}]",
     "message 1: assistant: the arguments of call 0 (f) are no JSON"},
};
#define TWO_CALLS                                                                   \
    "{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\",\"tool_calls\":" \
    "[{\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}},"                        \
    "{\"function\":{\"name\":\"g\",\"arguments\":\"{}\"}}]}"
static const struct {
    const char *messages, *error;
} bad_results[] = {
    {"[{\"role\":\"tool\",\"tool_call_id\":\"call_1\",\"content\":\"x\"}]",
     "the result of \"call_1\" stands where that of \"call_0\" belongs"},
    {"[{\"role\":\"user\",\"content\":\"x\"}]", "only 0 of 2 calls have a result"},
    {"[{\"role\":\"tool\",\"content\":\"1\"},{\"role\":\"tool\",\"content\":\"2\"},"
     "{\"role\":\"tool\",\"content\":\"3\"}]",
     "no call is open"},
};

static json_t *json(const char *text)
{
    json_t *value = NULL;
    EXPECT(agon_json_parse(&value, agon_str(text), NULL) == 0);
    return value;
}

TEST(messages_that_do_not_fit_are_refused)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_spec("exec:true", NULL);
    for (size_t i = 0; i < sizeof(misfits) / sizeof(misfits[0]); i++) {
        json_t *messages AGON_AUTO(agon_json_decrefp) = json(misfits[i].messages);
        struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
        struct agon_err err = {0};
        EXPECT(agon_session_new(&s, m, AGON_THINKING_ON, messages, &err) == AGON_EINPUT);
        EXPECT_HAS(err.text, misfits[i].error);
    }
}

TEST(results_are_matched_by_position_and_count)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) =
        open_spec("exec:printf '%s' 'ok" EOS "'", NULL);
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    json_t *start AGON_AUTO(agon_json_decrefp) = json("[" TWO_CALLS "]");
    struct agon_sampling sampling = {.tokens_max = 1};
    struct agon_err err = {0};
    REQUIRE(agon_session_new(&s, m, AGON_THINKING_OFF, start, NULL) == 0);
    EXPECT(agon_session_sample(s, &sampling, &err) == AGON_EINPUT);
    for (size_t i = 0; i < sizeof(bad_results) / sizeof(bad_results[0]); i++) {
        json_t *messages AGON_AUTO(agon_json_decrefp) = json(bad_results[i].messages);
        EXPECT(agon_session_append(s, messages, &err) == AGON_EINPUT);
        EXPECT_HAS(err.text, bad_results[i].error);
    }
    json_t *one AGON_AUTO(agon_json_decrefp) = json("[{\"role\":\"tool\",\"content\":\"1\"}]");
    EXPECT(agon_session_append(s, one, NULL) == 0);
    EXPECT(agon_session_sample(s, &sampling, &err) == AGON_EINPUT);
    EXPECT(agon_session_append(s, one, NULL) == 0);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_turn(m, s, "k");
    EXPECT(t.end == AGON_TURN_OK);
}

TEST(a_past_that_was_cut_keeps_its_call_ids)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_spec(
        "exec:echo '{\"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {}}}]}'",
        NULL);
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    struct agon_err err = {0};
    json_t *past AGON_AUTO(agon_json_decrefp) =
        json("[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"\","
             "\"tool_calls\":"
             "[{\"id\":\"call_7\",\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":"
             "\"{}\"}}]},"
             "{\"role\":\"tool\",\"tool_call_id\":\"call_7\",\"content\":\"1\"}]");
    if (!EXPECT(agon_session_new(&s, m, AGON_THINKING_OFF, past, &err) == 0))
        printf("# %s\n", err.text);
    REQUIRE(s != NULL);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_turn(m, s, "k");
    REQUIRE(t.end == AGON_TURN_OK);
    const json_t *call = json_array_get(json_object_get(t.message, "tool_calls"), 0);
    EXPECT_TEXT(agon_json_text(call, "id", ""), "call_8");
}

TEST(a_fork_goes_its_own_way)
{
    /* Answers with the number of messages it was sent. */
    struct agon_model *m AGON_AUTO(agon_model_freep) =
        open_spec("exec:n=$(grep -o '\"role\"' | wc -l); printf '%s' \"$n" EOS "\"", NULL);
    struct agon_session *a AGON_AUTO(agon_session_freep) = chat_new(m, "x");
    struct agon_session *b AGON_AUTO(agon_session_freep) = NULL;
    struct agon_turn first AGON_AUTO(agon_turn_deinit) = chat_turn(m, a, "k");
    REQUIRE(agon_session_fork(&b, a, NULL) == 0);
    json_t *more AGON_AUTO(agon_json_decrefp) = json("[{\"role\":\"user\",\"content\":\"y\"}]");
    REQUIRE(agon_session_append(b, more, NULL) == 0 && agon_session_append(b, more, NULL) == 0);
    REQUIRE(agon_session_append(a, more, NULL) == 0);
    struct agon_turn ta AGON_AUTO(agon_turn_deinit) = chat_turn(m, a, "k");
    struct agon_turn tb AGON_AUTO(agon_turn_deinit) = chat_turn(m, b, "k");
    EXPECT(strcmp(turn_content(&first), "1") == 0);
    EXPECT(strcmp(turn_content(&ta), "3") == 0 && strcmp(turn_content(&tb), "4") == 0);
    EXPECT(agon_session_tokens(b) >= agon_session_tokens(a));
}

/* ---- programs ---- */

TEST(a_program_answers_with_a_completion_or_a_message)
{
    struct agon_turn a AGON_AUTO(agon_turn_deinit) =
        ask("exec:cat >/dev/null; echo 'Hi." EOS "'", NULL);
    EXPECT(a.end == AGON_TURN_OK && strcmp(turn_content(&a), "Hi.") == 0);
    EXPECT(strcmp(a.text, "Hi." EOS) == 0);
    struct agon_turn b AGON_AUTO(agon_turn_deinit) =
        ask("exec:echo '{\"content\": \"Ho\", \"tool_calls\": [{\"function\": {\"name\": \"f\", "
            "\"arguments\": {\"a\": 1.5}}}]}'",
            NULL);
    EXPECT(b.end == AGON_TURN_OK && strcmp(turn_content(&b), "Ho") == 0);
    struct agon_turn c AGON_AUTO(agon_turn_deinit) = ask("exec:echo Hi.", NULL);
    EXPECT(c.end == AGON_TURN_MALFORMED);
    EXPECT_HAS(c.reason, "does not end in");
}

TEST(the_request_says_all)
{
    struct agon_turn t AGON_AUTO(agon_turn_deinit) =
        ask("exec:python3 -c 'import json,sys; r=json.load(sys.stdin); "
            "print(json.dumps({\"content\": json.dumps(r, sort_keys=True)}))'",
            NULL);
    EXPECT(
        strcmp(turn_content(&t),
               "{\"key\": \"cat/stage/0/0.0\", \"messages\": [{\"content\": \"hello\", \"role\": "
               "\"user\"}], \"sampling\": {\"seed\": 7, \"temperature\": 0.0, \"tokens_max\": 100, "
               "\"top_k\": 0, \"top_p\": 1.0}, \"thinking\": false}") == 0);
}

TEST(programs_that_fail_are_infrastructure)
{
    expect_failed("exec:exit 3", "ended with exit status 3");
    expect_failed("exec:kill -9 $$", "killed by signal 9");
    expect_failed("exec:/nonexistent/program", "exit status 127");
    expect_failed("exec:sleep 30", "no answer in 400 ms");
    expect_failed("exec:head -c 20000000 /dev/zero; sleep 30", "over 16777216 bytes");
    expect_failed("exec+lines:true", "ended without an answer");
    expect_failed("exec+lines:sleep 30", "no answer in 400 ms");
    expect_failed("exec+lines:read l; echo nonsense; sleep 9", "no JSON");
    expect_failed("exec+lines:read l; printf '{}\\n{}\\n'; sleep 9", "more than one line");
    expect_failed("exec+lines:read l; echo '{\"error\": \"no idea\"}'; sleep 9", "says: no idea");
}

TEST(nothing_that_a_command_started_outlives_its_turn)
{
    char path[] = "/tmp/agon-test-XXXXXX", spec[200], text[32] = "";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    (void)snprintf(spec, sizeof(spec), "exec:sleep 60 & echo $! >%s; sleep 60", path);
    struct agon_model_options options = {.turn_ms_max = 300};
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = ask(spec, &options);
    EXPECT(read(fd, text, sizeof(text) - 1) > 0);
    close(fd);
    unlink(path);
    pid_t pid = (pid_t)strtol(text, NULL, 10);
    REQUIRE(pid > 1);
    (void)snprintf(spec, sizeof(spec), "/proc/%d/stat", pid);
    FILE *f = NULL;
    char state = 'S';
    for (int i = 0; i < 100 && state != 'Z' && state != 'X'; i++) {
        if (!(f = fopen(spec, "re")))
            return; /* gone */
        if (fscanf(f, "%*d %*s %c", &state) != 1)
            state = 'X';
        fclose(f);
        usleep(20000);
    }
    EXPECT(state == 'Z' || state == 'X'); /* killed; whoever adopted it may not have waited yet */
}

TEST(a_big_request_to_a_program_that_reads_nothing_is_no_failure)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) =
        open_spec("exec:exec <&-; sleep 0.2; printf '%s' 'ok" EOS "'", NULL);
    size_t size = 1 << 20;
    char *big = malloc(size + 1);
    memset(big, 'x', size);
    big[size] = '\0';
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, big, "k");
    free(big);
    if (!EXPECT(t.end == AGON_TURN_OK))
        printf("# %s\n", t.reason);
}

/* Answers each line with its own process id and a count. */
#define COUNTER                                                                               \
    "exec+lines:n=0; while read -r line; do n=$((n+1)); printf '{\"completion\": \"%s %s" EOS \
    "\"}\\n' $$ $n; done"

TEST(a_persistent_program_answers_turn_after_turn)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_spec(COUNTER, NULL);
    char pid[32] = "";
    for (int i = 1; i <= 50; i++) {
        char want[16];
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "x", "k");
        const char *said = turn_content(&t);
        (void)snprintf(want, sizeof(want), " %d", i);
        EXPECT_HAS(said, want);
        if (i == 1)
            (void)snprintf(pid, sizeof(pid), "%.*s", (int)strcspn(said, " "), said);
        EXPECT(strncmp(said, pid, strlen(pid)) == 0);
    }
}

TEST(a_persistent_program_that_died_is_started_again)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) =
        open_spec("exec+lines:read -r line; echo '{\"completion\": \"once" EOS "\"}'", NULL);
    for (int i = 0; i < 3; i++) {
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "x", "k");
        if (!EXPECT(t.end == AGON_TURN_OK && strcmp(turn_content(&t), "once") == 0))
            printf("# %s\n", t.reason);
        usleep(50000); /* let it die */
    }
}

TEST(many_programs_run_at_once_and_sessions_may_end_early)
{
    enum { N = 9 };
    struct agon_model_options options = {.n_parallel_max = 3};
    struct agon_model *m AGON_AUTO(agon_model_freep) =
        open_spec("exec:sleep 0.1; printf '%s' 'ok" EOS "'", &options);
    struct agon_session *s[N];
    for (int i = 0; i < N; i++) {
        s[i] = chat_new(m, "x");
        chat_sample(s[i], "k");
    }
    EXPECT(agon_model_poll(m, 10, NULL) == 0);
    agon_session_free(s[0]); /* running */
    agon_session_free(s[8]); /* queued */
    for (int i = 1; i < 8; i++) {
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_take(m, s[i]);
        EXPECT(t.end == AGON_TURN_OK);
        agon_session_free(s[i]);
    }
}

/* ---- recordings ---- */

static char *temporary(void)
{
    static char path[64];
    (void)snprintf(path, sizeof(path), "/tmp/agon-test-XXXXXX");
    int fd = mkstemp(path);
    EXPECT(fd >= 0);
    close(fd);
    return path;
}

static json_t *one_result(void)
{
    return json("[{\"role\":\"tool\",\"content\":\"42\"}]");
}

/* Two turns, the first with a call; the answers joined. */
static void converse(const char *spec, const char *record, char said[512])
{
    struct agon_model_options options = {.record_path = record};
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_spec(spec, &options);
    struct agon_session *s AGON_AUTO(agon_session_freep) = m ? chat_new(m, "question") : NULL;
    (void)snprintf(said, 512, "(no model)");
    if (!s)
        return;
    struct agon_turn a AGON_AUTO(agon_turn_deinit) = chat_turn(m, s, "c/s/0/0.0");
    json_t *result AGON_AUTO(agon_json_decrefp) = one_result();
    struct agon_turn b AGON_AUTO(agon_turn_deinit) = {0};
    if (a.end == AGON_TURN_OK && EXPECT(agon_session_append(s, result, NULL) == 0))
        b = chat_turn(m, s, "c/s/0/1.0");
    char *first = a.message ? json_dumps(a.message, JSON_COMPACT) : strdup(a.reason);
    (void)snprintf(said, 512, "%s|%d|%s|%d", first, b.end, turn_content(&b), b.n_tokens);
    free(first);
}

#define SCRIPT                                                \
    "exec:if grep -q '\"tool\"'; then printf '%s' 'Done." EOS \
    "'; else printf '%s' 'see\n\n<｜DSML"                    \
    "｜function_calls>\n<｜DSML｜invoke "                  \
    "name=\"f\">\n\n</｜DSML｜invoke>\n</｜DSML｜function_calls>'; fi"

TEST(a_recording_answers_as_the_model_did)
{
    char first[512], second[512], spec[128];
    const char *path = temporary();
    converse(SCRIPT, path, first);
    EXPECT_HAS(first, "\"id\":\"call_0\"");
    EXPECT_HAS(first, "|0|Done.|");
    (void)snprintf(spec, sizeof(spec), "replay:%s", path);
    converse(spec, NULL, second);
    if (!EXPECT(strcmp(first, second) == 0))
        printf("# %s\n# %s\n", first, second);
    unlink(path);
}

TEST(a_recording_has_no_order_and_its_torn_end_is_dropped)
{
    char first[512], second[512], spec[128];
    const char *path = temporary();
    converse(SCRIPT, path, first);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_buf turned AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    REQUIRE(agon_file_read(&b, path, 1 << 20, NULL) == 0);
    for (char *end = b.data + b.size; end > b.data;) { /* the lines backwards */
        char *line = memrchr(b.data, '\n', (size_t)(end - b.data) - 1);
        line = line ? line + 1 : b.data;
        agon_buf_add(&turned, line, (size_t)(end - line));
        end = line;
    }
    agon_buf_adds(&turned, "{\"key\": \"c/s/0/9.0\", \"requ");
    REQUIRE(agon_file_write(path, agon_buf_str(&turned), false, NULL) == 0);
    (void)snprintf(spec, sizeof(spec), "replay:%s", path);
    converse(spec, NULL, second);
    EXPECT(strcmp(first, second) == 0);
    converse(SCRIPT, path, second); /* recording goes on behind a whole line */
    converse(spec, NULL, second);
    EXPECT(strcmp(first, second) == 0);
    unlink(path);
}

TEST(a_miss_names_the_turn_and_what_differs)
{
    char said[512], spec[128];
    const char *path = temporary();
    converse(SCRIPT, path, said);
    (void)snprintf(spec, sizeof(spec), "replay:%s", path);
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_spec(spec, NULL);
    struct agon_turn unknown AGON_AUTO(agon_turn_deinit) = chat_ask(m, "question", "c/s/5/0.0");
    EXPECT(unknown.end == AGON_TURN_FAILED);
    EXPECT_HAS(unknown.reason, "holds no turn 'c/s/5/0.0'");
    struct agon_turn other AGON_AUTO(agon_turn_deinit) = chat_ask(m, "other", "c/s/0/0.0");
    EXPECT(other.end == AGON_TURN_FAILED);
    EXPECT_HAS(other.reason, "turn 'c/s/0/0.0': message 0 (user) is not the recorded one");
    struct agon_turn shorter AGON_AUTO(agon_turn_deinit) = chat_ask(m, "question", "c/s/0/1.0");
    EXPECT_HAS(shorter.reason, "turn 'c/s/0/1.0': 1 messages, recorded with 3");
    unlink(path);
}

TEST(malformed_turns_replay_as_malformed)
{
    char spec[128];
    const char *path = temporary();
    struct agon_model_options options = {.record_path = path};
    struct agon_turn a AGON_AUTO(agon_turn_deinit) = ask("exec:echo 'no end'", &options);
    (void)snprintf(spec, sizeof(spec), "replay:%s", path);
    struct agon_turn b AGON_AUTO(agon_turn_deinit) = ask(spec, NULL);
    EXPECT(a.end == AGON_TURN_MALFORMED && b.end == AGON_TURN_MALFORMED);
    EXPECT(strcmp(a.reason, b.reason) == 0 && strcmp(a.text, b.text) == 0);
    unlink(path);
}

TEST(broken_recordings_are_refused_with_the_line)
{
    const char *path = temporary();
    char spec[128];
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    (void)snprintf(spec, sizeof(spec), "replay:%s", path);
    EXPECT(agon_file_write(path, agon_str("{\"window\": 5}\nnonsense\n"), false, NULL) == 0);
    EXPECT(agon_model_open(&m, spec, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "line 2: ");
    EXPECT(agon_file_write(path, agon_str("{\"key\": \"k\"}\n"), false, NULL) == 0);
    EXPECT(agon_model_open(&m, spec, NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "line 1: no recorded turn");
    unlink(path);
    EXPECT(agon_model_open(&m, spec, NULL, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, path);
}

TEST(a_recording_that_can_not_be_written_fails_at_once)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    struct agon_model_options options = {.record_path = "/nonexistent/dir/record.jsonl"};
    EXPECT(agon_model_open(&m, "exec:true", &options, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "recording /nonexistent/dir/record.jsonl: ");
    options.record_path = "/dev/full";
    EXPECT(agon_model_open(&m, "exec:true", &options, &err) == AGON_ESYS);
    EXPECT_HAS(err.text, "No space left on device");
}
