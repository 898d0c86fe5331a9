#pragma once
/*
 * A request for completions as JSON, in the names of OpenAI's API and vLLM's extensions, checked
 * and turned into ids and options: what `agon model sample` and `agon model serve` read.
 *
 *   prompt                      text, ids, or (serve) a list with one of these
 *   messages, tools             a conversation; thinking (or chat_template_kwargs.thinking)
 *   n, seed, temperature, top_p, top_k, max_tokens (max_completion_tokens)
 *   stop                        a text or a list of texts
 *   ignore_eos, logprobs, top_logprobs, record, return_token_ids, stream, stream_options
 * Text and message contents spell no control token, whatever they contain.
 */
#include "model/replies.h"

#include <jansson.h>

struct agon_ask {
    bool chat; /* messages, not prompt */
    enum agon_thinking thinking;
    struct agon_ids ids;               /* the prompt */
    struct agon_reply_options options; /* options.ids is ids.data; stop borrows from the JSON */
    int n_top;                         /* asked for; -1: no log-probabilities */
    bool stream, stream_usage, return_ids;
};
void agon_ask_deinit(struct agon_ask *ask);
/* json is borrowed and must outlive the ask. AGON_EINPUT names the field. */
int agon_ask_parse(struct agon_ask *ret, const struct agon_model *m, const json_t *json,
                   struct agon_err *err) AGON_MUST_USE;
/* The name of an end in OpenAI's words. */
const char *agon_choice_finish(const struct agon_choice *choice);
