/* The backend http:// against a real server that also misbehaves (chat_server.py). */
#include "base/file.h"
#include "base/http.h"
#include "base/json.h"
#include "model/jsontext.h"
#include "tests/model/chat.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

#define KEY           "canary-5f1d0c7e9b"
#define HAS_KEY(text) (strstr((text), "5f1d0c7e9b") != NULL)

extern char **environ;
static int server_port;

/* It ends when the pipe to its standard input closes, which our end does. */
static bool server_start(void)
{
    int to[2], from[2];
    char python[] = "python3", script[] = TEST_SOURCE "/model/chat_server.py", line[64] = "";
    char *argv[] = {python, script, NULL};
    pid_t pid;
    if (server_port)
        return true;
    setenv("AGON_API_KEY", KEY, 1);
    posix_spawn_file_actions_t actions;
    if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, to[0], 0);
    posix_spawn_file_actions_adddup2(&actions, from[1], 1);
    int e = posix_spawnp(&pid, python, &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(to[0]);
    close(from[1]);
    if (!EXPECT(e == 0) || !EXPECT(read(from[0], line, sizeof(line) - 1) > 0))
        return false;
    server_port = (int)strtol(line, NULL, 10);
    return EXPECT(server_port > 0);
}

static int try_open(struct agon_model **ret, const char *path, const char *record,
                    struct agon_err *err)
{
    char url[128];
    struct agon_model_options options = {.retry_ms = 20,
                                         .n_tries_max = 4,
                                         .turn_ms_max = 3000,
                                         .record_path = record,
                                         .n_parallel_max = 3};
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d%s", server_port, path);
    return agon_model_open(ret, url, &options, err);
}

static struct agon_model *open_model(const char *record)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    if (!server_start() || !EXPECT(try_open(&m, "/v1/", record, &err) == 0))
        printf("# %s\n", err.text);
    return m;
}

static json_t *server_stats(void)
{
    struct agon_http *http AGON_AUTO(agon_http_freep) = NULL;
    struct agon_http_response a = {0};
    struct agon_http_request req = {.body_bytes_max = 1 << 16};
    char url[64];
    json_t *stats = NULL;
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/stats", server_port);
    req.url = url;
    EXPECT(agon_http_new(&http, NULL) == 0 && agon_http_run(http, &req, &a, NULL) == 0);
    EXPECT(agon_json_parse(&stats, agon_buf_str(&a.body), NULL) == 0);
    agon_http_response_deinit(&a);
    return stats;
}

static int stat_int(const char *name)
{
    json_t *stats AGON_AUTO(agon_json_decrefp) = server_stats();
    return (int)json_integer_value(json_object_get(stats, name));
}

TEST(the_server_tells_name_and_window)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    EXPECT_HAS(agon_model_name(m), "/v1 tiny");
    EXPECT(agon_model_window(m) == 8192);
}

TEST(a_plain_answer_becomes_a_message)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "hello", "k");
    EXPECT(t.end == AGON_TURN_OK && strcmp(turn_content(&t), "Hi.") == 0);
    EXPECT(strcmp(agon_json_text(t.message, "reasoning_content", ""), "because") == 0);
    EXPECT(t.n_prompt_tokens == 11 && t.n_tokens == 7);
}

TEST(the_request_is_what_the_api_expects)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    REQUIRE(m);
    json_t *messages AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s, s:[{s:s, s:{s:s}}]}, {s:s, s:s}, {s:s, s:s, s:s, s:[]}, {s:s, s:s}]",
                  "role", "system", "content", "Sys.", "tools", "type", "function", "function",
                  "name", "f", "role", "user", "content", "one", "role", "assistant", "content",
                  "two", "reasoning_content", "", "tool_calls", "role", "user", "content", "echo");
    struct agon_sampling sampling = {.temperature = 0.5,
                                     .top_p = 0.9,
                                     .top_k = 40,
                                     .tokens_max = 33,
                                     .seed = 0x180000001ULL,
                                     .key = "k"};
    REQUIRE(agon_session_new(&s, m, AGON_THINKING_ON, messages, NULL) == 0);
    REQUIRE(agon_session_sample(s, &sampling, NULL) == 0);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_take(m, s);
    EXPECT(
        strcmp(
            turn_content(&t),
            "{\"chat_template_kwargs\": {\"thinking\": true}, \"max_tokens\": 33, \"messages\": "
            "[{\"content\": \"Sys.\", \"role\": \"system\"}, {\"content\": \"one\", \"role\": "
            "\"user\"}, {\"content\": \"two\", \"role\": \"assistant\"}, {\"content\": \"echo\", "
            "\"role\": \"user\"}], \"model\": \"tiny\", \"seed\": 1, \"stream\": false, "
            "\"temperature\": 0.5, \"tools\": [{\"function\": {\"name\": \"f\"}, \"type\": "
            "\"function\"}], \"top_k\": 40, \"top_p\": 0.9}") == 0);
}

TEST(calls_get_our_ids_and_results_go_back)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_session *s AGON_AUTO(agon_session_freep) = chat_new(m, "call");
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_turn(m, s, "k0");
    json_t *calls = json_object_get(t.message, "tool_calls");
    EXPECT(t.end == AGON_TURN_OK && json_array_size(calls) == 2);
    EXPECT(strcmp(agon_json_text(json_array_get(calls, 1), "id", ""), "call_1") == 0);
    json_t *results AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s, s:s}, {s:s, s:s}]", "role", "tool", "tool_call_id", "call_0",
                  "content", "1", "role", "tool", "content", "echo");
    struct agon_err err = {0};
    REQUIRE(agon_session_append(s, results, &err) == 0);
    struct agon_turn u AGON_AUTO(agon_turn_deinit) = chat_turn(m, s, "k1");
    EXPECT_HAS(turn_content(&u),
               "{\"content\": \"echo\", \"role\": \"tool\", \"tool_call_id\": \"call_1\"}");
    EXPECT_HAS(turn_content(&u), "\"id\": \"call_0\"");
}

static void expect_end(const char *said, enum agon_turn_end end, const char *reason, int n_tries)
{
    char tries[32];
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, said, "k");
    (void)snprintf(tries, sizeof(tries), "(%d %s)", n_tries, n_tries == 1 ? "try" : "tries");
    if (!EXPECT(t.end == end))
        printf("# %s ended as %d: %s\n", said, t.end, t.reason);
    EXPECT_HAS(t.reason, reason);
    EXPECT_HAS(t.reason, n_tries ? tries : "");
    EXPECT(!strchr(t.reason, '\n') && !HAS_KEY(t.reason));
}

TEST(passing_failures_are_tried_again)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_turn flaky AGON_AUTO(agon_turn_deinit) = chat_ask(m, "flaky 1", "k");
    struct agon_turn drop AGON_AUTO(agon_turn_deinit) = chat_ask(m, "drop 1", "k");
    EXPECT(flaky.end == AGON_TURN_OK && strcmp(turn_content(&flaky), "at last") == 0);
    EXPECT(drop.end == AGON_TURN_OK && strcmp(turn_content(&drop), "back") == 0);
}

TEST(an_answer_that_breaks_off_is_no_answer)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "short 1", "k");
    EXPECT(t.end == AGON_TURN_OK && strcmp(turn_content(&t), "whole") == 0);
    EXPECT(t.n_prompt_tokens == 0); /* the server said -5 */
}

TEST(a_stalled_answer_holds_up_no_other)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_session *stalled AGON_AUTO(agon_session_freep) = chat_new(m, "stall");
    chat_sample(stalled, "k");
    for (int i = 0; i < 3; i++) {
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "hello", "k");
        EXPECT(t.end == AGON_TURN_OK);
    }
    struct agon_turn none = {0};
    EXPECT(agon_session_take(stalled, &none, NULL) == 0);
}

TEST(answers_that_are_no_completion_fail_with_a_reason)
{
    expect_end("html", AGON_TURN_FAILED, "no JSON but '<html><body>Welcome", 4);
    expect_end("empty", AGON_TURN_FAILED, "no choices[0].message", 4);
    expect_end("error200", AGON_TURN_FAILED, "the model is loading", 4);
}

TEST(what_will_not_pass_is_tried_once)
{
    expect_end("denied", AGON_TURN_FAILED, "HTTP 401: Incorrect API key provided: ***", 1);
    expect_end("nothing", AGON_TURN_FAILED, "HTTP 404", 1);
}

TEST(a_stalled_answer_times_out)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    char url[64];
    struct agon_model_options options = {.retry_ms = 10, .n_tries_max = 2, .turn_ms_max = 300};
    REQUIRE(server_start());
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%d/v1", server_port);
    REQUIRE(agon_model_open(&m, url, &options, NULL) == 0);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "stall", "k");
    EXPECT(t.end == AGON_TURN_FAILED);
    EXPECT_HAS(t.reason, "(2 tries)");
}

TEST(malformed_and_cut_turns_are_told_apart)
{
    expect_end("badargs", AGON_TURN_MALFORMED, "arguments of call 0 (f) are no JSON", 0);
    expect_end("noname", AGON_TURN_MALFORMED, "no function.name", 0);
    expect_end("long", AGON_TURN_LENGTH, "", 0);
    expect_end("toolong", AGON_TURN_LENGTH, "over the server's window", 0);
}

TEST(a_field_that_the_server_refuses_is_left_out)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    REQUIRE(m);
    json_t *messages AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s}, {s:s, s:s}]", "role", "system", "content",
                  "say \", \"seed\": 1, \" and \"messages\"", "role", "user", "content", "strict");
    struct agon_sampling how = {.top_k = 3, .tokens_max = 9, .key = "k"};
    REQUIRE(agon_session_new(&s, m, AGON_THINKING_ON, messages, NULL) == 0);
    REQUIRE(agon_session_sample(s, &how, NULL) == 0);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_take(m, s);
    if (!EXPECT(t.end == AGON_TURN_OK && strcmp(turn_content(&t), "fine 4") == 0))
        printf("# %s %s\n", turn_content(&t), t.reason);
}

TEST(a_redirect_is_not_followed_and_the_key_stays_here)
{
    expect_end("redirect", AGON_TURN_FAILED, "which is not followed", 1);
    EXPECT(stat_int("other_hits") == 0 && stat_int("stolen") == 0);
}

TEST(retry_after_is_honoured)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "later", "k");
    json_t *stats AGON_AUTO(agon_json_decrefp) = server_stats();
    const json_t *times = json_object_get(stats, "times");
    EXPECT(t.end == AGON_TURN_OK && json_array_size(times) == 2);
    EXPECT(json_number_value(json_array_get(times, 1)) -
               json_number_value(json_array_get(times, 0)) >=
           0.99);
}

TEST(at_most_n_parallel_requests_are_in_flight)
{
    enum { N = 8 };
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    struct agon_session *s[N];
    REQUIRE(m);
    for (int i = 0; i < N; i++) {
        s[i] = chat_new(m, "slow");
        chat_sample(s[i], "k");
    }
    for (int i = N - 1; i >= 0; i--) {
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_take(m, s[i]);
        EXPECT(t.end == AGON_TURN_OK);
        agon_session_free(s[i]);
    }
    EXPECT(stat_int("flying_max") == 3);
}

TEST(a_session_may_end_while_its_turn_is_in_flight)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(NULL);
    REQUIRE(m);
    struct agon_session *s = chat_new(m, "slow");
    chat_sample(s, "k");
    EXPECT(agon_model_poll(m, 10, NULL) == 0);
    agon_session_free(s);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "hello", "k");
    EXPECT(t.end == AGON_TURN_OK);
}

/* ---- opening ---- */

TEST(an_unreachable_endpoint_is_one_line)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    EXPECT(agon_model_open(&m, "http://127.0.0.1:1/v1", NULL, &err) == AGON_EMODEL);
    EXPECT_HAS(err.text, "model at http://127.0.0.1:1/v1: can't be reached: ");
    EXPECT(!strchr(err.text, '\n'));
}

TEST(a_url_that_is_no_endpoint_says_so)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    REQUIRE(server_start());
    EXPECT(try_open(&m, "/wrong", NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "GET /models (HTTP 404) names no model");
    EXPECT(try_open(&m, "/locked", NULL, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "AGON_API_KEY");
    EXPECT(agon_model_open(&m, "http://me:secret@127.0.0.1:1/v1", NULL, &err) == AGON_EINPUT);
    EXPECT(strstr(err.text, "no user or password") && !strstr(err.text, "secret"));
}

/* ---- the key ---- */

static bool file_has_key(const char *path)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 22);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    char chunk[4096];
    ssize_t n;
    while (fd >= 0 && (n = read(fd, chunk, sizeof(chunk))) > 0)
        agon_buf_add(&b, chunk, (size_t)n);
    if (fd >= 0)
        close(fd);
    return b.size && memmem(b.data, b.size, KEY, strlen(KEY));
}

static bool any_cmdline_has_key(void)
{
    DIR *proc = opendir("/proc");
    bool found = false;
    for (struct dirent *d; proc && (d = readdir(proc));) {
        char path[300];
        (void)snprintf(path, sizeof(path), "/proc/%s/cmdline", d->d_name);
        found |= d->d_name[0] >= '0' && d->d_name[0] <= '9' && file_has_key(path);
    }
    if (proc)
        closedir(proc);
    return found;
}

TEST(the_key_is_sent_and_stands_nowhere_else)
{
    char path[] = "/tmp/agon-test-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    {
        struct agon_model *m AGON_AUTO(agon_model_freep) = open_model(path);
        REQUIRE(m);
        int before = stat_int("key_ok");
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "echokey", "k");
        EXPECT(stat_int("key_ok") == before + 1);
        EXPECT_HAS(turn_content(&t), "your key is ****");
        EXPECT(!HAS_KEY(t.text) && !HAS_KEY(agon_model_name(m)));
        struct agon_session *s AGON_AUTO(agon_session_freep) = chat_new(m, "slow");
        chat_sample(s, "k2");
        EXPECT(agon_model_poll(m, 10, NULL) == 0);
        EXPECT(!any_cmdline_has_key());
    }
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_turn u AGON_AUTO(agon_turn_deinit) = {0};
    if (EXPECT(agon_model_open(&m, "exec:printf %s \"[$AGON_API_KEY]<｜end▁of▁sentence｜>\"", NULL,
                               NULL) == 0)) {
        u = chat_ask(m, "hello", "k");
        EXPECT(strcmp(turn_content(&u), "[]") == 0);
    }
    EXPECT(!file_has_key(path));
    unlink(path);
}
