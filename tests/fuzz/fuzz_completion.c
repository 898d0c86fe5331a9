/*
 * Completions of a model: the first byte says the mode (bit 0) and whether marks are given
 * (bit 1: those that text spells, without every third). A completion that parses and can
 * stand in a history is encoded again and must come back as the same message.
 */
#include "base/json.h"
#include "model/encoding.h"
#include "model/jsontext.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MARKS_MAX = 256 };

static size_t find_marks(struct agon_mark marks[MARKS_MAX], struct agon_str text)
{
    size_t n = 0, seen = 0;
    for (size_t at = 0; at < text.size && n < MARKS_MAX; at++)
        for (int t = 0; t < AGON_N_TOKENS && n < MARKS_MAX; t++) {
            struct agon_str token = agon_token_text((enum agon_token)t);
            if (token.size <= text.size - at && !memcmp(text.data + at, token.data, token.size) &&
                ++seen % 3)
                marks[n++] = (struct agon_mark){(enum agon_token)t, at};
        }
    return n;
}

/* Arguments are written anew, so they are compared in the canonical writing. */
static void rewrite_arguments(json_t *message)
{
    json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
        json_t *function = json_object_get(json_array_get(calls, i), "function");
        if (agon_json_rewrite(&b, agon_str(agon_json_text(function, "arguments", "")), NULL))
            abort();
        json_object_set_new(function, "arguments", json_stringn(b.data, b.size));
    }
}

static void expect_round_trip(json_t *message, enum agon_thinking thinking)
{
    struct agon_prompt p AGON_AUTO(agon_prompt_deinit) = AGON_PROMPT;
    json_t *messages AGON_AUTO(agon_json_decrefp) =
        json_pack("[{s:s, s:s}]", "role", "user", "content", "x");
    json_t *again AGON_AUTO(agon_json_decrefp) = NULL;
    char reason[AGON_REASON_SIZE];
    struct agon_encode_options options = {.thinking = thinking, .n_context = 1};
    json_array_append(messages, message);
    bool empty = !*agon_json_text(message, "reasoning_content", "") &&
                 !json_array_size(json_object_get(message, "tool_calls"));
    int r = agon_encode(&p, messages, &options, NULL);
    if (thinking && empty)
        return; /* the encoder asks for reasoning or calls */
    struct agon_completion c = {.text = agon_buf_str(&p.text)};
    if (r || agon_completion_parse(&again, &c, thinking, reason, NULL))
        abort();
    rewrite_arguments(message);
    if (!json_equal(message, again))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct agon_mark marks[MARKS_MAX];
    char reason[AGON_REASON_SIZE];
    json_t *message AGON_AUTO(agon_json_decrefp) = NULL;
    if (size == 0)
        return 0;
    enum agon_thinking thinking = data[0] & 1 ? AGON_THINKING_ON : AGON_THINKING_OFF;
    struct agon_completion c = {.text = {(const char *)data + 1, size - 1}};
    c.marked = data[0] & 2;
    c.marks = marks;
    c.n_marks = c.marked ? find_marks(marks, c.text) : 0;
    if (agon_completion_parse(&message, &c, thinking, reason, NULL) == 0 && !c.marked &&
        agon_message_check(message, reason) == 0)
        expect_round_trip(message, thinking);
    json_t *either AGON_AUTO(agon_json_decrefp) = NULL;
    return agon_turn_text_parse(&either, c.text, thinking, reason, NULL) < 0; /* no memory */
}
