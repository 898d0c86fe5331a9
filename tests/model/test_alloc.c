/* Each allocation fails once: an error comes back, nothing leaks (under ASan), and what
 * had been there is as before. */
#include "base/json.h"
#include "model/encoding.h"
#include "model/jsontext.h"
#include "tests/alloc.h"
#include "tests/model/chat.h"

#include <stdlib.h>
#include <unistd.h>

#define EOS "<｜end▁of▁sentence｜>"
#define CALL                                                                                         \
    "r</think>see\n\n<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"f\">\n"                    \
    "<｜DSML｜parameter name=\"a\" string=\"true\">x</｜DSML｜parameter>\n</｜DSML｜invoke>\n" \
    "</｜DSML｜function_calls>" EOS

TEST(encoding)
{
    static const char text[] =
        "{\"thinking_mode\":\"thinking\",\"messages\":[{\"role\":\"system\",\"tools\":[{"
        "\"function\":"
        "{\"name\":\"f\"}}]},{\"role\":\"user\",\"content\":\"x\"},{\"role\":\"assistant\","
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1,\\\"b\\\":"
        "\\\"c\\\"}\"}}]},"
        "{\"role\":\"tool\",\"content\":\"1\"}]}";
    long n = 1;
    for (; alloc_fail_at(n); n++) {
        struct agon_prompt p AGON_AUTO(agon_prompt_deinit) = AGON_PROMPT;
        int r = agon_encode_case(&p, agon_str(text), NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
    }
    EXPECT(n > 20);
}

TEST(parsing)
{
    long n = 1;
    for (; alloc_fail_at(n); n++) {
        json_t *message AGON_AUTO(agon_json_decrefp) = NULL;
        char reason[AGON_REASON_SIZE];
        struct agon_completion c = {.text = agon_str(CALL)};
        int r = agon_completion_parse(&message, &c, AGON_THINKING_ON, reason, NULL);
        EXPECT(alloc_failed() ? r == AGON_ENOMEM && !message : r == 0);
    }
    EXPECT(n > 10);
}

/* A turn as servers, programs and recordings give it; memory fails once, or for good. */
TEST(turns_as_json)
{
    static const char text[] =
        "{\"role\": \"assistant\", \"content\": \"some text with \\\"quotes\\\" and \\u00e9\", "
        "\"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\\n\": [1, 2.5, "
        "null]}}}, {\"function\": {\"name\": \"g\", \"arguments\": \"{}\"}}]}";
    bool (*const fails[])(long) = {alloc_fail_at, alloc_fail_from};
    for (int i = 0; i < 2; i++)
        for (long n = 1; fails[i](n); n++) {
            json_t *message AGON_AUTO(agon_json_decrefp) = NULL;
            char reason[AGON_REASON_SIZE];
            int r = agon_turn_text_parse(&message, agon_str(text), AGON_THINKING_OFF, reason, NULL);
            if (r == 0)
                r = agon_message_check(message, reason);
            EXPECT(alloc_failed() ? r == AGON_ENOMEM : r == 0);
        }
}

/* A whole recorded conversation. Shortage may end it anywhere with an error or a failed turn. */
static int converse(const char *spec, const char *record)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL,
                           *fork AGON_AUTO(agon_session_freep) = NULL;
    struct agon_turn t AGON_AUTO(agon_turn_deinit) = {0};
    struct agon_model_options options = {.record_path = record};
    struct agon_sampling how = {.tokens_max = 9, .key = "k"};
    json_t *start AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s}]", "role", "user", "content", "x");
    json_t *result AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s}]", "role", "tool", "content", "x");
    int r = start && result ? 0 : AGON_ENOMEM;
    if (r || (r = agon_model_open(&m, spec, &options, NULL)) ||
        (r = agon_session_new(&s, m, AGON_THINKING_ON, start, NULL)) ||
        (r = agon_session_sample(s, &how, NULL)))
        return r;
    while ((r = agon_session_take(s, &t, NULL)) == 0)
        if ((r = agon_model_poll(m, 20, NULL)))
            return r;
    if (r < 0 || t.end != AGON_TURN_OK)
        return r < 0 ? r : AGON_ENOMEM;
    if ((r = agon_session_append(s, result, NULL)) || (r = agon_session_fork(&fork, s, NULL)))
        return r;
    return agon_session_tokens(fork) > 0 ? 0 : AGON_ENOMEM;
}

TEST(sessions_programs_and_recordings)
{
    char path[] = "/tmp/agon-test-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    close(fd);
    long n = 1;
    for (; alloc_fail_at(n); n++) {
        int r = converse("exec:printf '%s' '" CALL "'", path);
        EXPECT(alloc_failed() ? r < 0 : r == 0);
    }
    EXPECT(n > 50);
    char replay[64];
    snprintf(replay, sizeof(replay), "replay:%s", path);
    for (n = 1; alloc_fail_at(n); n++) {
        int r = converse(replay, NULL);
        EXPECT(alloc_failed() ? r < 0 : r == 0);
    }
    EXPECT(n > 50);
    unlink(path);
}
