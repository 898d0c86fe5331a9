/*
 * A chat server that may answer anything: the first byte is the status, the first line the
 * Retry-After header, the rest the body of both GET /models and the completion. This file stands
 * in for base/http.c. Whatever comes, the turn ends, and a turn that is taken is one that the
 * session takes into its history; the key is in no text that comes out.
 */
#include "base/http.h"
#include "model/encoding.h"
#include "model/model.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#define KEY "k3y"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct agon_http {
    int unused;
};
struct agon_http_transfer {
    int unused;
};
static struct agon_http client;
static struct agon_http_transfer transfer;
static const uint8_t *answer;
static size_t answer_size;

int agon_http_new(struct agon_http **ret, struct agon_err *err)
{
    (void)err;
    *ret = &client;
    return 0;
}

void agon_http_free(struct agon_http *h)
{
    (void)h;
}

void agon_http_response_deinit(struct agon_http_response *r)
{
    agon_buf_deinit(&r->body);
}

static void respond(struct agon_http_response *ret)
{
    static const long statuses[] = {200, 200, 200, 200, 400, 401, 404, 422, 429, 500, 302};
    const char *text = (const char *)answer + 1, *line = memchr(text, '\n', answer_size - 1);
    *ret =
        (struct agon_http_response){.status = statuses[answer[0] % 11], .body = AGON_BUF(1 << 20)};
    size_t n = line ? (size_t)(line - text) : 0;
    (void)snprintf(ret->retry_after, sizeof(ret->retry_after), "%.*s", (int)(n < 60 ? n : 60),
                   text);
    const char *body = line ? line + 1 : text;
    agon_buf_add(&ret->body, body, answer_size - (size_t)(body - (const char *)answer));
}

int agon_http_run(struct agon_http *h, const struct agon_http_request *req,
                  struct agon_http_response *ret, struct agon_err *err)
{
    (void)h, (void)req, (void)err;
    respond(ret);
    return 0;
}

int agon_http_start(struct agon_http_transfer **ret, struct agon_http *h,
                    const struct agon_http_request *req, struct agon_err *err)
{
    (void)h, (void)req, (void)err;
    *ret = &transfer;
    return 0;
}

int agon_http_poll(struct agon_http *h, int wait_ms, struct agon_err *err)
{
    (void)h, (void)wait_ms, (void)err;
    return 0;
}

int agon_http_take(struct agon_http_transfer *t, struct agon_http_response *ret,
                   struct agon_err *err)
{
    (void)t, (void)err;
    respond(ret);
    return 1;
}

void agon_http_cancel(struct agon_http_transfer *t)
{
    (void)t;
}

static void take_turn(struct agon_model *m, struct agon_session *s)
{
    struct agon_sampling sampling = {.tokens_max = 100, .top_p = 1, .key = "fuzz/1"};
    struct agon_turn turn = {0};
    struct agon_err err;
    char reason[AGON_REASON_SIZE];
    int r = 0;
    assert(agon_session_sample(s, &sampling, &err) == 0);
    while (r == 0)
        assert(agon_model_poll(m, 0, &err) == 0 && (r = agon_session_take(s, &turn, &err)) >= 0);
    assert((turn.end == AGON_TURN_OK) == (turn.message != NULL));
    assert(turn.end == AGON_TURN_OK || turn.end == AGON_TURN_LENGTH || turn.reason[0]);
    assert(!turn.text || !strstr(turn.text, KEY));
    assert(!strstr(turn.reason, KEY));
    if (turn.message)
        assert(agon_message_check(turn.message, reason) == 0);
    agon_turn_deinit(&turn);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_session *s AGON_AUTO(agon_session_freep) = NULL;
    struct agon_model_options options = {.n_tries_max = 1};
    struct agon_err err;
    if (size < 2)
        return 0;
    (void)setenv("AGON_API_KEY", KEY, 1);
    answer = data;
    answer_size = size;
    if (agon_model_open(&m, "http://example.org/v1", &options, &err)) {
        options.model_name = "m";
        if (agon_model_open(&m, "http://example.org/v1", &options, &err)) {
            assert(!strstr(err.text, KEY));
            return 0;
        }
    }
    json_auto_t *messages = json_pack("[{s:s, s:s}]", "role", "user", "content", "x");
    assert(messages);
    enum agon_thinking thinking = data[0] & 0x80 ? AGON_THINKING_ON : AGON_THINKING_OFF;
    assert(agon_session_new(&s, m, thinking, messages, &err) == 0);
    take_turn(m, s);
    return 0;
}
