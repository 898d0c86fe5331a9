/* See serve_openai.h. */
#include "pipelines/serve_openai.h"

#include "base/json.h"
#include "model/engine.h"
#include "model/jsontext.h"

#include <string.h>

void agon_answer_error(struct agon_buf *b, const char *type, const char *code, const char *message)
{
    agon_buf_adds(b, "{\"error\": {\"message\": ");
    agon_json_dump_string(b, agon_str(message));
    agon_buf_addf(b, ", \"type\": \"%s\", \"param\": null, \"code\": ", type);
    if (code)
        agon_buf_addf(b, "\"%s\"}}", code);
    else
        agon_buf_adds(b, "null}}");
}

/* ---- log-probabilities and ids ------------------------------------------------------ */

static struct agon_str id_text(const struct agon_answer *a, int id)
{
    return agon_tokenizer_text(agon_local_tokenizer(a->model), id);
}

static void add_token(struct agon_buf *b, const struct agon_answer *a, int id, float logprob)
{
    struct agon_str text = id_text(a, id);
    agon_buf_adds(b, "{\"token\": ");
    agon_json_dump_string(b, text);
    agon_buf_adds(b, ", \"logprob\": ");
    agon_json_dump_real(b, (double)logprob);
    agon_buf_adds(b, ", \"bytes\": [");
    for (size_t i = 0; i < text.size; i++)
        agon_buf_addf(b, i ? ", %d" : "%d", (unsigned char)text.data[i]);
    agon_buf_adds(b, "]");
}

static void add_chat_logprobs(struct agon_buf *b, const struct agon_answer *a, int index,
                              const struct agon_choice *choice, int from)
{
    agon_buf_adds(b, "{\"content\": [");
    for (int k = from; k < choice->n; k++) {
        const struct agon_top *top = agon_reply_top(a->reply, index, k);
        agon_buf_adds(b, k > from ? ", " : "");
        add_token(b, a, choice->ids[k], choice->drawn[k].logprob_raw);
        agon_buf_adds(b, ", \"top_logprobs\": [");
        for (int t = 0; t < a->ask->n_top && top[t].id >= 0; t++) {
            agon_buf_adds(b, t ? ", " : "");
            add_token(b, a, top[t].id, top[t].logprob_raw);
            agon_buf_addc(b, '}');
        }
        agon_buf_adds(b, "]}");
    }
    agon_buf_adds(b, "]}");
}

static void add_text_logprobs(struct agon_buf *b, const struct agon_answer *a, int index,
                              const struct agon_choice *choice, int from)
{
    size_t offset = 0;
    for (int k = 0; k < from; k++)
        offset += id_text(a, choice->ids[k]).size;
    agon_buf_adds(b, "{\"tokens\": [");
    for (int k = from; k < choice->n; k++) {
        agon_buf_adds(b, k > from ? ", " : "");
        agon_json_dump_string(b, id_text(a, choice->ids[k]));
    }
    agon_buf_adds(b, "], \"token_logprobs\": [");
    for (int k = from; k < choice->n; k++) {
        agon_buf_adds(b, k > from ? ", " : "");
        agon_json_dump_real(b, (double)choice->drawn[k].logprob_raw);
    }
    agon_buf_adds(b, "], \"text_offset\": [");
    for (int k = from; k < choice->n; k++) {
        agon_buf_addf(b, k > from ? ", %zu" : "%zu", offset);
        offset += id_text(a, choice->ids[k]).size;
    }
    agon_buf_adds(b, "], \"top_logprobs\": [");
    for (int k = from; k < choice->n; k++) {
        const struct agon_top *top = agon_reply_top(a->reply, index, k);
        agon_buf_adds(b, k > from ? ", {" : "{");
        for (int t = 0; t < a->ask->n_top && top[t].id >= 0; t++) {
            agon_buf_adds(b, t ? ", " : "");
            agon_json_dump_string(b, id_text(a, top[t].id));
            agon_buf_adds(b, ": ");
            agon_json_dump_real(b, (double)top[t].logprob_raw);
        }
        agon_buf_addc(b, '}');
    }
    agon_buf_adds(b, "]}");
}

static void add_ids(struct agon_buf *b, const char *name, const int *ids, int n)
{
    agon_buf_addf(b, ", \"%s\": [", name);
    for (int i = 0; i < n; i++)
        agon_buf_addf(b, i ? ", %d" : "%d", ids[i]);
    agon_buf_addc(b, ']');
}

/* What both forms of a choice carry beside its text, for the ids from `from` on. */
static void add_extras(struct agon_buf *b, const struct agon_answer *a, int index,
                       const struct agon_choice *choice, int from)
{
    agon_buf_adds(b, ", \"logprobs\": ");
    if (a->ask->n_top < 0)
        agon_buf_adds(b, "null");
    else if (a->ask->chat)
        add_chat_logprobs(b, a, index, choice, from);
    else
        add_text_logprobs(b, a, index, choice, from);
    if (a->ask->return_ids)
        add_ids(b, "token_ids", choice->ids + from, choice->n - from);
}

/* ---- the parts of a turn ------------------------------------------------------------ */

/* Find where thinking ends and calls begin among the ids that are new. */
static void sent_read(struct agon_sent *sent, const struct agon_answer *a,
                      const struct agon_choice *choice)
{
    static const char before[] = "\n\n<";
    for (; sent->n_ids < choice->n; sent->n_ids++) {
        int id = choice->ids[sent->n_ids];
        size_t size = id_text(a, id).size;
        if (choice->stopped_at_id && sent->n_ids == choice->n - 1)
            continue; /* its text is not there */
        if (a->ask->thinking && !sent->think_ended &&
            id == agon_local_token(a->model, AGON_TOKEN_THINK_END)) {
            sent->think_ended = true;
            sent->think_end = sent->offset;
            sent->content_begin = sent->offset + size;
        }
        if (!sent->has_calls && id == agon_local_token(a->model, AGON_TOKEN_DSML)) {
            size_t at = sent->offset;
            for (size_t i = sizeof(before) - 1;
                 i > 0 && at > sent->content_begin && choice->text.data[at - 1] == before[i - 1];
                 i--)
                at--;
            sent->has_calls = true;
            sent->calls_begin = at;
        }
        sent->offset += size;
    }
}

/* While a turn runs, "\n\n<" at its end may belong to calls. */
static size_t hold_back(struct agon_str text, size_t begin, size_t end)
{
    static const char before[] = "\n\n<";
    for (size_t n = sizeof(before) - 1; n > 0; n--)
        if (end - begin >= n && memcmp(text.data + end - n, before, n) == 0)
            return end - n;
    return end;
}

struct turn_text {
    struct agon_str reasoning, content; /* all of it that may be shown by now */
};

/* parsed: the turn is over and is one. */
static struct turn_text turn_text(const struct agon_sent *sent, const struct agon_answer *a,
                                  const struct agon_choice *choice, bool parsed)
{
    struct turn_text t = {0};
    bool over = choice->end != AGON_CHOICE_RUNNING, thinks = a->ask->thinking && !sent->think_ended;
    size_t shown = choice->n_shown < choice->text.size ? choice->n_shown : choice->text.size;
    size_t end = shown, begin = sent->content_begin < shown ? sent->content_begin : shown;
    t.reasoning.data = t.content.data = choice->text.size ? choice->text.data : "";
    if (a->ask->thinking)
        t.reasoning.size = thinks || sent->think_end > shown ? shown : sent->think_end;
    if (thinks)
        return t;
    if (sent->has_calls && (parsed || !over))
        end = sent->calls_begin < end ? sent->calls_begin : end;
    else if (!over)
        end = hold_back(choice->text, begin, end);
    t.content.data += begin;
    t.content.size = end > begin ? end - begin : 0;
    return t;
}

static void add_calls(struct agon_buf *b, const struct agon_answer *a, const json_t *calls,
                      int index, bool numbered)
{
    for (size_t i = 0; i < json_array_size(calls); i++) {
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        agon_buf_addf(b, "%s{", i ? ", " : "");
        if (numbered)
            agon_buf_addf(b, "\"index\": %zu, ", i);
        agon_buf_addf(
            b,
            "\"id\": \"call_%s_%d_%zu\", \"type\": \"function\", \"function\": {\"name\": ", a->id,
            index, i);
        agon_json_dump(b, json_object_get(function, "name"));
        agon_buf_adds(b, ", \"arguments\": ");
        agon_json_dump(b, json_object_get(function, "arguments"));
        agon_buf_adds(b, "}}");
    }
}

/* The turn of a choice that ended at a stop id; turn->end says whether it is one. */
static int parse_turn(struct agon_turn *turn, const struct agon_answer *a,
                      const struct agon_choice *choice, struct agon_err *err)
{
    turn->end = AGON_TURN_MALFORMED;
    if (!a->ask->chat || !choice->stopped_at_id)
        return 0;
    return agon_local_parse(a->model, a->ask->thinking, choice->ids, choice->n, turn, err);
}

static void add_finish(struct agon_buf *b, const struct agon_choice *choice,
                       const struct agon_turn *turn)
{
    bool calls = turn->end == AGON_TURN_OK &&
                 json_array_size(json_object_get(turn->message, "tool_calls")) > 0;
    agon_buf_addf(b, ", \"finish_reason\": \"%s\"",
                  calls ? "tool_calls" : agon_choice_finish(choice));
    if (choice->stop) {
        agon_buf_adds(b, ", \"stop_reason\": ");
        agon_json_dump_string(b, agon_str(choice->stop));
    }
}

static int add_record(struct agon_buf *b, const struct agon_answer *a, int index,
                      const struct agon_choice *choice, struct agon_err *err)
{
    struct agon_trace *trace AGON_AUTO(agon_trace_freep) = NULL;
    if (!a->ask->options.record || choice->n == 0 || choice->end == AGON_CHOICE_FAILED)
        return 0;
    int r = agon_reply_trace(a->reply, index, &trace, err);
    if (r)
        return r;
    agon_buf_adds(b, ", \"record\": {");
    agon_trace_json(b, trace);
    agon_buf_addc(b, '}');
    return 0;
}

/* ---- whole answers ------------------------------------------------------------------ */

static void add_head(struct agon_buf *b, const struct agon_answer *a, const char *object)
{
    agon_buf_addf(b, "{\"id\": \"%s\", \"object\": \"%s\", \"created\": %ld, \"model\": ", a->id,
                  object, a->created);
    agon_json_dump_string(b, agon_str(a->model_name));
}

static void add_usage(struct agon_buf *b, const struct agon_answer *a)
{
    int n_cached, n_prompt = agon_reply_prompt(a->reply, &n_cached), n = 0;
    for (int i = 0; i < agon_reply_choices(a->reply); i++)
        n += agon_reply_choice(a->reply, i).n;
    agon_buf_addf(b,
                  ", \"usage\": {\"prompt_tokens\": %d, \"completion_tokens\": %d, "
                  "\"total_tokens\": %d, \"prompt_tokens_details\": {\"cached_tokens\": %d}}",
                  n_prompt, n, n_prompt + n, n_cached);
}

static void add_message(struct agon_buf *b, const struct agon_answer *a, int index,
                        const struct agon_choice *choice, const struct agon_turn *turn)
{
    struct agon_sent sent = {0};
    sent_read(&sent, a, choice);
    struct turn_text t = turn_text(&sent, a, choice, turn->end == AGON_TURN_OK);
    const json_t *calls = json_object_get(turn->message, "tool_calls");
    agon_buf_adds(b, "\"message\": {\"role\": \"assistant\", \"content\": ");
    agon_json_dump_string(b, t.content);
    if (a->ask->thinking) {
        agon_buf_adds(b, ", \"reasoning_content\": ");
        agon_json_dump_string(b, t.reasoning);
    }
    if (json_array_size(calls) > 0) {
        agon_buf_adds(b, ", \"tool_calls\": [");
        add_calls(b, a, calls, index, false);
        agon_buf_addc(b, ']');
    }
    agon_buf_addc(b, '}');
}

static int add_choice(struct agon_buf *b, const struct agon_answer *a, int index,
                      struct agon_err *err)
{
    struct agon_choice choice = agon_reply_choice(a->reply, index);
    struct agon_turn turn AGON_AUTO(agon_turn_deinit) = {0};
    int r = parse_turn(&turn, a, &choice, err);
    if (r)
        return r;
    agon_buf_addf(b, "%s{\"index\": %d, ", index ? ", " : "", index);
    if (a->ask->chat) {
        add_message(b, a, index, &choice, &turn);
    } else {
        agon_buf_adds(b, "\"text\": ");
        agon_json_dump_string(b, choice.text);
        if (a->ask->return_ids)
            add_ids(b, "prompt_token_ids", a->ask->ids.data, (int)a->ask->ids.n);
    }
    add_finish(b, &choice, &turn);
    add_extras(b, a, index, &choice, 0);
    r = add_record(b, a, index, &choice, err);
    agon_buf_addc(b, '}');
    return r;
}

int agon_answer_whole(const struct agon_answer *a, struct agon_buf *b, struct agon_err *err)
{
    int r = 0;
    add_head(b, a, a->ask->chat ? "chat.completion" : "text_completion");
    agon_buf_adds(b, ", \"choices\": [");
    for (int i = 0; i < agon_reply_choices(a->reply) && r == 0; i++)
        r = add_choice(b, a, i, err);
    agon_buf_addc(b, ']');
    if (a->ask->chat && a->ask->return_ids)
        add_ids(b, "prompt_token_ids", a->ask->ids.data, (int)a->ask->ids.n);
    add_usage(b, a);
    agon_buf_addc(b, '}');
    return r ? r : agon_buf_check(b, "answer", err);
}

/* ---- streams ------------------------------------------------------------------------ */

static void chunk_begin(struct agon_buf *b, const struct agon_answer *a)
{
    agon_buf_adds(b, "data: ");
    add_head(b, a, a->ask->chat ? "chat.completion.chunk" : "text_completion");
}

static void chunk_choice(struct agon_buf *b, const struct agon_answer *a, int index)
{
    chunk_begin(b, a);
    agon_buf_addf(b, ", \"choices\": [{\"index\": %d, ", index);
}

/* One piece of text: content, reasoning_content, or a completion's text. */
static void chunk_text(struct agon_buf *b, const struct agon_answer *a, const char *name,
                       struct agon_str text)
{
    if (!a->ask->chat) {
        agon_buf_adds(b, "\"text\": ");
        agon_json_dump_string(b, text);
        return;
    }
    agon_buf_addf(b, "\"delta\": {\"%s\": ", name);
    agon_json_dump_string(b, text);
    agon_buf_addc(b, '}');
}

static struct agon_str tail(struct agon_str text, size_t *sent)
{
    struct agon_str t = {text.data + *sent, text.size > *sent ? text.size - *sent : 0};
    *sent += t.size;
    return t;
}

static void stream_opening(struct agon_buf *b, const struct agon_answer *a, int index)
{
    chunk_choice(b, a, index);
    agon_buf_adds(b, "\"delta\": {\"role\": \"assistant\", \"content\": \"\"}, \"logprobs\": null, "
                     "\"finish_reason\": null}]");
    if (index == 0 && a->ask->return_ids)
        add_ids(b, "prompt_token_ids", a->ask->ids.data, (int)a->ask->ids.n);
    agon_buf_adds(b, "}\n\n");
}

/* Text that is new, with the log-probabilities and ids that are. */
static void stream_text(struct agon_buf *b, const struct agon_answer *a, int index,
                        const struct agon_choice *choice, bool parsed)
{
    struct agon_sent *sent = &a->sent[index];
    int from = sent->n_ids;
    sent_read(sent, a, choice);
    struct turn_text t = {.content = {choice->text.data, choice->n_shown}};
    if (a->ask->chat)
        t = turn_text(sent, a, choice, parsed);
    struct agon_str reasoning = tail(t.reasoning, &sent->n_reasoning);
    struct agon_str content = tail(t.content, &sent->n_content);
    bool extras = choice->n > from && (a->ask->n_top >= 0 || a->ask->return_ids);
    if (reasoning.size) {
        chunk_choice(b, a, index);
        chunk_text(b, a, "reasoning_content", reasoning);
        if (!content.size && extras)
            add_extras(b, a, index, choice, from);
        agon_buf_adds(b, ", \"finish_reason\": null}]}\n\n");
        extras = extras && content.size;
    }
    if (!content.size && !extras)
        return;
    chunk_choice(b, a, index);
    chunk_text(b, a, "content", content);
    if (extras)
        add_extras(b, a, index, choice, from);
    agon_buf_adds(b, ", \"finish_reason\": null}]}\n\n");
}

static int stream_closing(struct agon_buf *b, const struct agon_answer *a, int index,
                          const struct agon_choice *choice, const struct agon_turn *turn,
                          struct agon_err *err)
{
    const json_t *calls = json_object_get(turn->message, "tool_calls");
    chunk_choice(b, a, index);
    agon_buf_adds(b, a->ask->chat ? "\"delta\": {" : "\"text\": \"\"");
    if (json_array_size(calls) > 0) {
        agon_buf_adds(b, "\"tool_calls\": [");
        add_calls(b, a, calls, index, true);
        agon_buf_addc(b, ']');
    }
    agon_buf_adds(b, a->ask->chat ? "}" : "");
    add_finish(b, choice, turn);
    int r = add_record(b, a, index, choice, err);
    agon_buf_adds(b, "}]}\n\n");
    return r;
}

static int stream_choice(struct agon_buf *b, const struct agon_answer *a, int index,
                         struct agon_err *err)
{
    struct agon_choice choice = agon_reply_choice(a->reply, index);
    struct agon_sent *sent = &a->sent[index];
    struct agon_turn turn AGON_AUTO(agon_turn_deinit) = {0};
    int r = 0;
    if (sent->closed || (choice.n == 0 && choice.end == AGON_CHOICE_RUNNING))
        return 0;
    if (choice.end != AGON_CHOICE_RUNNING && (r = parse_turn(&turn, a, &choice, err)))
        return r;
    if (!sent->opened && a->ask->chat)
        stream_opening(b, a, index);
    sent->opened = true;
    stream_text(b, a, index, &choice, turn.end == AGON_TURN_OK && turn.message);
    if (choice.end == AGON_CHOICE_RUNNING)
        return 0;
    sent->closed = true;
    return stream_closing(b, a, index, &choice, &turn, err);
}

int agon_answer_stream(const struct agon_answer *a, struct agon_buf *b, struct agon_err *err)
{
    int r = 0;
    for (int i = 0; i < agon_reply_choices(a->reply) && r == 0; i++)
        r = stream_choice(b, a, i, err);
    if (r || !agon_reply_done(a->reply))
        return r ? r : agon_buf_check(b, "stream", err);
    if (a->ask->stream_usage) {
        chunk_begin(b, a);
        agon_buf_adds(b, ", \"choices\": []");
        add_usage(b, a);
        agon_buf_adds(b, "}\n\n");
    }
    agon_buf_adds(b, "data: [DONE]\n\n");
    return agon_buf_check(b, "stream", err);
}
