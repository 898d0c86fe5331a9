#pragma once
/*
 * OpenAI's JSON for what a local model says: whole answers, chunks of a stream, errors. Field names
 * beyond OpenAI's are vLLM's (reasoning_content, token_ids, prompt_token_ids, stop_reason);
 * `record` is ours. A conversation's text is split by the ids drawn, not by what it spells:
 * thinking up to
 * </think>, content, and calls, which go out when the turn is over and parses.
 */
#include "pipelines/model_ask.h"

/* What has been sent of a choice. */
struct agon_sent {
    int n_ids;     /* read */
    size_t offset; /* of them in the text */
    bool opened, closed;
    bool think_ended, has_calls;
    size_t think_end, content_begin, calls_begin;
    size_t n_reasoning, n_content; /* bytes that went out */
};

struct agon_answer {
    const struct agon_model *model;
    const struct agon_reply *reply;
    const struct agon_ask *ask;
    const char *id, *model_name; /* "chatcmpl-..."; what the client calls the model */
    long created;                /* seconds since 1970 */
    struct agon_sent *sent;      /* [choices] */
};

/* The whole answer, once the reply is done. */
int agon_answer_whole(const struct agon_answer *a, struct agon_buf *b,
                      struct agon_err *err) AGON_MUST_USE;
/* Append what is new as server-sent events; with the reply's end the last ones and [DONE]. */
int agon_answer_stream(const struct agon_answer *a, struct agon_buf *b,
                       struct agon_err *err) AGON_MUST_USE;
/* {"error": {"message", "type", "param": null, "code"}}; code may be NULL. */
void agon_answer_error(struct agon_buf *b, const char *type, const char *code, const char *message);
