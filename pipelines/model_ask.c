/* See model_ask.h. */
#include "pipelines/model_ask.h"

#include "base/json.h"
#include "base/rng.h"
#include "model/engine.h"
#include "model/jsontext.h"
#include "model/message.h"

#include <stdlib.h>
#include <sys/random.h>

enum { PROMPT_IDS_MAX = 1 << 24, CONTENT_BYTES_MAX = 64 << 20, TOP_LOGPROBS_MAX = 20 };

void agon_ask_deinit(struct agon_ask *ask)
{
    agon_ids_deinit(&ask->ids);
}

/* ---- fields ------------------------------------------------------------------------- */

static const json_t *field(const json_t *json, const char *name)
{
    const json_t *value = json_object_get(json, name);
    return json_is_null(value) ? NULL : value;
}

static int int_field(const json_t *json, const char *name, int64_t min, int64_t max, int *ret,
                     struct agon_err *err)
{
    const json_t *value = field(json, name);
    if (!value)
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < min ||
        json_integer_value(value) > max)
        return agon_fail(err, AGON_EINPUT, "%s: not an integer from %lld to %lld", name,
                         (long long)min, (long long)max);
    *ret = (int)json_integer_value(value);
    return 0;
}

static int real_field(const json_t *json, const char *name, double min, double max, double *ret,
                      struct agon_err *err)
{
    const json_t *value = field(json, name);
    if (!value)
        return 0;
    if (!json_is_number(value) || json_number_value(value) < min || json_number_value(value) > max)
        return agon_fail(err, AGON_EINPUT, "%s: not a number from %g to %g", name, min, max);
    *ret = json_number_value(value);
    return 0;
}

static int bool_field(const json_t *json, const char *name, bool *ret, struct agon_err *err)
{
    const json_t *value = field(json, name);
    if (value && !json_is_boolean(value))
        return agon_fail(err, AGON_EINPUT, "%s: neither true nor false", name);
    if (value)
        *ret = json_is_true(value);
    return 0;
}

static int stop_field(struct agon_reply_options *o, const json_t *json, struct agon_err *err)
{
    const json_t *stop = field(json, "stop");
    size_t n = json_is_array(stop) ? json_array_size(stop) : stop != NULL;
    if (n > AGON_STOPS_MAX)
        return agon_fail(err, AGON_EINPUT, "stop: more than %d texts", AGON_STOPS_MAX);
    for (size_t i = 0; i < n; i++) {
        const json_t *item = json_is_array(stop) ? json_array_get(stop, i) : stop;
        size_t size = json_string_length(item);
        if (!json_is_string(item) || size < 1 || size > AGON_STOP_BYTES_MAX)
            return agon_fail(err, AGON_EINPUT,
                             "stop: not a text of 1 to %d bytes, or a list of such",
                             AGON_STOP_BYTES_MAX);
        o->stop[o->n_stop++] = json_string_value(item);
    }
    return 0;
}

/* A seed where none is given: nobody wants the same answer twice then. */
static int seed_field(struct agon_reply_options *o, const json_t *json, struct agon_err *err)
{
    const json_t *seed = field(json, "seed");
    if (seed && !json_is_integer(seed))
        return agon_fail(err, AGON_EINPUT, "seed: not an integer");
    o->seed = (uint64_t)json_integer_value(seed);
    if (!seed && getrandom(&o->seed, sizeof(o->seed), 0) != (ssize_t)sizeof(o->seed))
        return agon_fail(err, AGON_ESYS, "seed: no random bytes");
    return 0;
}

/* chat: logprobs true, top_logprobs N; completions: logprobs N. */
static int logprobs_fields(struct agon_ask *ask, const json_t *json, struct agon_err *err)
{
    const json_t *logprobs = field(json, "logprobs");
    bool wanted = false;
    ask->n_top = -1;
    if (!ask->chat && json_is_integer(logprobs))
        return int_field(json, "logprobs", 0, TOP_LOGPROBS_MAX, &ask->n_top, err);
    int r = bool_field(json, "logprobs", &wanted, err);
    if (r || !wanted)
        return r;
    ask->n_top = 0;
    return int_field(json, "top_logprobs", 0, TOP_LOGPROBS_MAX, &ask->n_top, err);
}

static int sampling_fields(struct agon_ask *ask, const json_t *json, struct agon_err *err)
{
    struct agon_reply_options *o = &ask->options;
    o->n = 1;
    o->sample.temperature = o->sample.top_p = 1;
    int r, top_k = 0;
    if ((r = int_field(json, "n", 1, AGON_CHOICES_MAX, &o->n, err)) ||
        (r = real_field(json, "temperature", 0, 100, &o->sample.temperature, err)) ||
        (r = real_field(json, "top_p", 0, 1, &o->sample.top_p, err)) ||
        (r = int_field(json, "top_k", -1, 1 << 24, &top_k, err)) ||
        (r = int_field(json, "max_tokens", 1, INT32_MAX, &o->tokens_max, err)) ||
        (r = int_field(json, "max_completion_tokens", 1, INT32_MAX, &o->tokens_max, err)) ||
        (r = bool_field(json, "ignore_eos", &o->ignore_eos, err)) ||
        (r = bool_field(json, "return_token_ids", &ask->return_ids, err)) ||
        (r = stop_field(o, json, err)) || (r = seed_field(o, json, err)) ||
        (r = logprobs_fields(ask, json, err)) ||
        (r = agon_trace_flags_parse(&o->record, field(json, "record"), err)) ||
        (r = bool_field(json, "stream", &ask->stream, err)) ||
        (r = bool_field(field(json, "stream_options"), "include_usage", &ask->stream_usage, err)))
        return r;
    o->sample.top_k = top_k > 0 ? top_k : 0; /* -1 is "off" too */
    o->n_top = ask->n_top > 0 ? ask->n_top : 0;
    return 0;
}

/* Fields that change what is sampled and that this engine does not do. */
static int refused_fields(const json_t *json, struct agon_err *err)
{
    static const char *const zero[] = {"frequency_penalty", "presence_penalty", "min_p"};
    const json_t *format = field(json, "response_format");
    for (size_t i = 0; i < 3; i++)
        if (field(json, zero[i]) && json_number_value(field(json, zero[i])) != 0)
            return agon_fail(err, AGON_EINPUT, "%s: not supported (only 0)", zero[i]);
    if (field(json, "logit_bias") && json_object_size(field(json, "logit_bias")) > 0)
        return agon_fail(err, AGON_EINPUT, "logit_bias: not supported");
    if (format && strcmp(agon_json_text(format, "type", ""), "text") != 0)
        return agon_fail(err, AGON_EINPUT, "response_format: not supported (only text)");
    return 0;
}

/* ---- prompts ------------------------------------------------------------------------ */

static int add_ids(struct agon_ids *ids, const json_t *list, struct agon_err *err)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        json_int_t id = json_integer_value(item);
        if (!json_is_integer(item) || id < 0 || id > INT32_MAX)
            return agon_fail(err, AGON_EINPUT, "prompt[%zu] is no token id", i);
        agon_ids_add(ids, (int)id);
    }
    return 0;
}

/* Text follows BOS, which encoding does not add; ids stand as they are. */
static int prompt_parse(struct agon_ask *ask, const struct agon_model *m, const json_t *prompt,
                        struct agon_err *err)
{
    const json_t *first = json_array_get(prompt, 0);
    if (json_array_size(prompt) == 1 && (json_is_string(first) || json_is_array(first)))
        prompt = first;
    if (json_is_string(prompt)) {
        struct agon_str text = {json_string_value(prompt), json_string_length(prompt)};
        agon_ids_add(&ask->ids, agon_local_token(m, AGON_TOKEN_BOS));
        return agon_tokenizer_encode(agon_local_tokenizer(m), text, false, &ask->ids, err);
    }
    if (!json_is_array(prompt) || json_is_string(first) || json_is_array(first))
        return agon_fail(err, AGON_EINPUT,
                         "prompt: neither a text nor a list of token ids "
                         "(several prompts need several requests)");
    return add_ids(&ask->ids, prompt, err);
}

/* Content as a list of parts, of which text ones are joined. */
static int content_join(json_t *message, size_t at, struct agon_err *err)
{
    const json_t *parts = json_object_get(message, "content");
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(CONTENT_BYTES_MAX);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = agon_json_text(part, "type", "");
        if (strcmp(type, "text") != 0)
            return agon_fail(err, AGON_EINPUT, "messages[%zu].content[%zu]: '%.40s' is no text", at,
                             i, type);
        agon_buf_adds(&text, agon_json_text(part, "text", ""));
    }
    int r = agon_buf_check(&text, "content", err);
    if (r == 0 && json_object_set_new(message, "content", json_string(agon_buf_text(&text))))
        r = agon_fail(err, AGON_ENOMEM, "out of memory");
    return r;
}

/* What OpenAI's clients send and our encoding does not know. */
static int message_adapt(json_t *message, size_t at, struct agon_err *err)
{
    static const char *const dropped[] = {"name", "refusal", "audio", "function_call",
                                          "annotations"};
    if (!json_is_object(message))
        return agon_fail(err, AGON_EINPUT, "messages[%zu]: not an object", at);
    for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
        (void)json_object_del(message, dropped[i]); /* absent is fine */
    json_t *reasoning = json_object_get(message, "reasoning");
    if (reasoning && (json_object_set(message, "reasoning_content", reasoning) ||
                      json_object_del(message, "reasoning")))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    if (json_is_null(json_object_get(message, "tool_calls")))
        (void)json_object_del(message, "tool_calls");
    if (json_is_array(json_object_get(message, "content")))
        return content_join(message, at, err);
    return 0;
}

/* Tools belong to the first message, if that is the system's; else to one put before it. */
static int tools_place(json_t *messages, json_t *tools, struct agon_err *err)
{
    json_t *first = json_array_get(messages, 0);
    bool system = strcmp(agon_json_text(first, "role", ""), "system") == 0;
    if (json_array_size(tools) == 0)
        return 0;
    int r = system ? json_object_set(first, "tools", tools)
                   : json_array_insert_new(messages, 0,
                                           json_pack("{s:s, s:s, s:O}", "role", "system", "content",
                                                     "", "tools", tools));
    return r ? agon_fail(err, AGON_ENOMEM, "out of memory") : 0;
}

static int messages_parse(struct agon_ask *ask, const struct agon_model *m, const json_t *json,
                          struct agon_err *err)
{
    json_t *theirs AGON_AUTO(agon_json_decrefp) = json_deep_copy(json_object_get(json, "messages"));
    json_t *messages AGON_AUTO(agon_json_decrefp) = json_array();
    const json_t *choice = field(json, "tool_choice");
    bool thinking = false, no_tools = choice && json_is_string(choice) &&
                                      strcmp(json_string_value(choice), "none") == 0;
    int n_calls = 0, r;
    if (!theirs || !messages)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    if (choice && !no_tools &&
        !(json_is_string(choice) && strcmp(json_string_value(choice), "auto") == 0))
        return agon_fail(err, AGON_EINPUT, "tool_choice: not supported (only auto and none)");
    if ((r = bool_field(json, "thinking", &thinking, err)) ||
        (r = bool_field(field(json, "chat_template_kwargs"), "thinking", &thinking, err)))
        return r;
    ask->thinking = thinking ? AGON_THINKING_ON : AGON_THINKING_OFF;
    for (size_t i = 0; i < json_array_size(theirs); i++)
        if ((r = message_adapt(json_array_get(theirs, i), i, err)))
            return r;
    if (!no_tools && (r = tools_place(theirs, json_object_get(json, "tools"), err)))
        return r;
    if ((r = agon_messages_append(messages, &n_calls, theirs, err)))
        return r;
    if (!agon_messages_await_turn(messages))
        return agon_fail(err, AGON_EINPUT,
                         "messages: the last one is neither a user's nor the "
                         "result of the last open call");
    return agon_local_encode(m, ask->thinking, messages, &ask->ids, err);
}

int agon_ask_parse(struct agon_ask *ret, const struct agon_model *m, const json_t *json,
                   struct agon_err *err)
{
    struct agon_ask ask AGON_AUTO(agon_ask_deinit) = {.ids = AGON_IDS(PROMPT_IDS_MAX)};
    int r;
    if (!json_is_object(json))
        return agon_fail(err, AGON_EINPUT, "the request is not a JSON object");
    ask.chat = json_object_get(json, "messages") != NULL;
    if (!ask.chat && !field(json, "prompt"))
        return agon_fail(err, AGON_EINPUT, "neither messages nor prompt");
    if ((r = refused_fields(json, err)) || (r = sampling_fields(&ask, json, err)) ||
        (r = ask.chat ? messages_parse(&ask, m, json, err)
                      : prompt_parse(&ask, m, json_object_get(json, "prompt"), err)))
        return r;
    if (ask.ids.failed)
        return agon_fail(err, AGON_ENOMEM, "prompt: out of memory");
    ask.options.ids = ask.ids.data;
    ask.options.n_ids = (int)ask.ids.n;
    *ret = ask;
    ask.ids = (struct agon_ids){0};
    return 0;
}

const char *agon_choice_finish(const struct agon_choice *choice)
{
    switch (choice->end) {
    case AGON_CHOICE_STOP: return "stop";
    case AGON_CHOICE_LENGTH: return "length";
    case AGON_CHOICE_RUNNING:
    case AGON_CHOICE_FAILED: break;
    }
    return "error";
}
