/* Row H of the threat model: servers that lie, hang and flood, as a model. */
#include "base/file.h"
#include "tests/attacks/webdoor.h"
#include "tests/model/chat.h"

#include <unistd.h>

#define KEY "canary-h-77c1"

static char record[300];

/* A server whose completions do `what`; what it says otherwise is fine. */
static struct agon_model *model_of(const char *what, int n_tries)
{
    struct agon_model *m = NULL;
    struct agon_err err = {0};
    char url[128];
    snprintf(record, sizeof(record), "%s", test_path(what));
    snprintf(url, sizeof(url), "%s/v1", web_url(WEB_PLAIN, what));
    setenv("AGON_API_KEY", KEY, 1);
    struct agon_model_options o = {
        .retry_ms = 1, .n_tries_max = n_tries, .turn_ms_max = 1000, .record_path = record};
    if (!EXPECT(agon_model_open(&m, url, &o, &err) == 0))
        printf("# %s\n", err.text);
    return m;
}

static int lines_of(const char *path)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_err err = {0};
    int n = 0;
    if (agon_file_read(&b, path, 1 << 20, &err))
        return 0;
    EXPECT(!strstr(agon_buf_text(&b), KEY));
    for (size_t i = 0; i < b.size; i++)
        n += b.data[i] == '\n';
    return n;
}

/* The turn fails with one line, and no part of an answer is recorded as one. */
static void expect_failed(const char *what, const char *part)
{
    int failures = test_failures;
    {
        struct agon_model *m AGON_AUTO(agon_model_freep) = model_of(what, 2);
        REQUIRE(m);
        struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "hello", "k");
        EXPECT(t.end == AGON_TURN_FAILED && !strchr(t.reason, '\n') && !strstr(t.reason, KEY));
        EXPECT_HAS(t.reason, part);
    }
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_err err = {0};
    if (agon_file_read(&b, record, 1 << 20, &err) == 0)
        EXPECT(!strstr(agon_buf_text(&b), "five!") && !strstr(agon_buf_text(&b), "assistant"));
    if (test_failures > failures)
        printf("# %s: %.300s\n", what, agon_buf_text(&b));
}

ATTACK(H1_a_model_that_hangs_or_drips)
{
    static const char *const what[] = {"never", "stall", "drip", "slow"};
    for (size_t i = 0; i < sizeof(what) / sizeof(*what); i++)
        expect_failed(what[i], "(2 tries)");
}

ATTACK(H3_a_model_whose_lengths_and_chunks_lie)
{
    static const char *const what[] = {"short",         "early",      "nothing",       "garbage",
                                       "http09",        "negative",   "two_lengths",   "both",
                                       "chunk_short",   "chunk_huge", "chunk_garbage", "te_gzip",
                                       "chunk_unended", "status_text"};
    for (size_t i = 0; i < sizeof(what) / sizeof(*what); i++)
        expect_failed(what[i], "(2 tries)");
}

ATTACK(H4_a_model_that_redirects)
{
    int visits = web_seen("/visited");
    static const char *const what[] = {"redirect_file", "redirect_loop", "redirect_metadata",
                                       "redirect_other", "redirect_user"};
    for (size_t i = 0; i < sizeof(what) / sizeof(*what); i++)
        expect_failed(what[i], "which is not followed");
    EXPECT(web_seen("/visited") == visits);
}

ATTACK(H5_a_model_that_compresses)
{
    expect_failed("gzip", "the body is compressed, which was not asked for");
    expect_failed("zstd", "the body is compressed, which was not asked for");
}

ATTACK(H8_a_model_that_answers_pages)
{
    expect_failed("plain", "the answer is no JSON but '<p>plain text here</p>'");
    expect_failed("cookies", "the answer is no JSON");
    expect_failed("auth", "HTTP 401");
}

ATTACK(X_a_model_that_floods)
{
    b->rss_mib_max = 100;
    b->seconds_max = 60;
    expect_failed("headers", "the headers are over the limit");
    expect_failed("header_long", "a line of the headers is over the limit");
    expect_failed("continues", "the headers are over the limit");
    expect_failed("chunk_trailers", "");
}

/* The first answer is made and lost on its way: asked again, and there is one record. */
ATTACK(H9_an_answer_that_was_lost_is_recorded_once)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = model_of("once", 3);
    REQUIRE(m);
    int before = lines_of(record);
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = chat_ask(m, "hello", "k");
    EXPECT(t.end == AGON_TURN_OK && strcmp(turn_content(&t), "fine") == 0);
    EXPECT(web_seen("POST /once") == 2);
    agon_model_free(AGON_STEAL(m));
    EXPECT(lines_of(record) == before + 1);
}
