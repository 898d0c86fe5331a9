/*
 * A case of the reference's tests, as JSON text, to a prompt: see agon_encode_case().
 *
 * Tools and response formats are lifted out of the text as they stand (in the canonical
 * writing) and handed to agon_encode() as JSON text in a string, because a value tree
 * would round integers of more than 64 bits.
 */
#include "model/encoding.h"

#include "base/json.h"
#include "model/jsontext.h"

struct fields { /* members of the case's object; no data where absent */
    struct agon_str messages, context, tools, thinking_mode, drop_thinking, add_bos;
};

static bool text_is_null(struct agon_str text)
{
    return !text.data || agon_str_is(text, "null");
}

static int lift_text(json_t *into, const char *field, struct agon_str text)
{
    return json_object_set_new(into, field, json_stringn(text.data, text.size));
}

/* [{"type":..., "function":{...}}, ...] becomes [{"function":"{...}"}, ...]. */
static int lift_tools(json_t *message, struct agon_str text, struct agon_err *err)
{
    struct agon_jsontext list, tool;
    struct agon_str element, key, value;
    if (text_is_null(text))
        return 0;
    if (!agon_jsontext_open(&list, text, '['))
        return agon_fail(err, AGON_EINPUT, "tools is no list");
    json_t *tools = json_array();
    if (!tools || json_object_set_new(message, "tools", tools))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    while (agon_jsontext_next(&list, NULL, &element)) {
        json_t *lifted = json_object();
        if (!lifted || json_array_append_new(tools, lifted))
            return agon_fail(err, AGON_ENOMEM, "out of memory");
        if (!agon_jsontext_open(&tool, element, '{'))
            return agon_fail(err, AGON_EINPUT, "a tool is no object");
        while (agon_jsontext_next(&tool, &key, &value))
            if (agon_str_is(key, "\"function\"") && lift_text(lifted, "function", value))
                return agon_fail(err, AGON_ENOMEM, "out of memory");
    }
    return 0;
}

static int lift_field(json_t *message, struct agon_str key, struct agon_str value,
                      struct agon_err *err)
{
    static const char *const plain[] = {"role", "content", "reasoning_content", "tool_calls"};
    if (agon_str_is(key, "\"tools\""))
        return lift_tools(message, value, err);
    if (agon_str_is(key, "\"response_format\""))
        return lift_text(message, "response_format", value)
                   ? agon_fail(err, AGON_ENOMEM, "out of memory")
                   : 0;
    for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
        struct agon_str name = {key.data + 1, key.size - 2};
        if (!agon_str_is(name, plain[i]))
            continue;
        json_t *parsed;
        int r = agon_json_parse(&parsed, value, err);
        if (r)
            return agon_err_in(err, r, "%s", plain[i]);
        if (json_object_set_new(message, plain[i], parsed))
            return agon_fail(err, AGON_ENOMEM, "out of memory");
    }
    return 0; /* other fields do not reach the prompt */
}

static int lift_messages(json_t *messages, struct agon_str text, const char *what,
                         struct agon_err *err)
{
    struct agon_jsontext list, members;
    struct agon_str element, key, value;
    if (!agon_jsontext_open(&list, text, '['))
        return agon_fail(err, AGON_EINPUT, "%s: no list", what);
    while (agon_jsontext_next(&list, NULL, &element)) {
        json_t *message = json_object();
        if (!message || json_array_append_new(messages, message))
            return agon_fail(err, AGON_ENOMEM, "out of memory");
        if (!agon_jsontext_open(&members, element, '{'))
            return agon_fail(err, AGON_EINPUT, "%s: element %zu is no object", what,
                             json_array_size(messages) - 1);
        while (agon_jsontext_next(&members, &key, &value)) {
            int r = lift_field(message, key, value, err);
            if (r)
                return agon_err_in(err, r, "%s: element %zu", what, json_array_size(messages) - 1);
        }
    }
    return 0;
}

static int read_fields(struct fields *f, struct agon_str text, struct agon_err *err)
{
    const struct {
        const char *name;
        struct agon_str *into;
    } table[] = {
        {"\"messages\"", &f->messages},
        {"\"context\"", &f->context},
        {"\"tools\"", &f->tools},
        {"\"thinking_mode\"", &f->thinking_mode},
        {"\"drop_thinking\"", &f->drop_thinking},
        {"\"add_default_bos_token\"", &f->add_bos},
    };
    struct agon_jsontext members;
    struct agon_str key, value;
    if (!agon_jsontext_open(&members, text, '{'))
        return agon_fail(err, AGON_EINPUT, "no JSON object with \"messages\"");
    while (agon_jsontext_next(&members, &key, &value))
        for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
            if (agon_str_is(key, table[i].name))
                *table[i].into = value;
    if (!f->messages.data)
        return agon_fail(err, AGON_EINPUT, "no field \"messages\"");
    return 0;
}

/* A flag that is true where it is absent. */
static int read_flag(struct agon_str text, const char *name, bool *ret, struct agon_err *err)
{
    bool yes = !text.data || agon_str_is(text, "true");
    if (!yes && !agon_str_is(text, "false"))
        return agon_fail(err, AGON_EINPUT, "%s: neither true nor false", name);
    *ret = yes;
    return 0;
}

int agon_encode_case(struct agon_prompt *p, struct agon_str text, struct agon_err *err)
{
    struct agon_buf canonical AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_PROMPT_BYTES_MAX);
    json_t *messages AGON_AUTO(agon_json_decrefp) = json_array();
    struct agon_encode_options options = {0};
    struct fields f = {0};
    bool drop_thinking, add_bos;
    int r;
    if (!messages)
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    if ((r = agon_json_rewrite(&canonical, text, err)) ||
        (r = agon_buf_check(&canonical, "case", err)) ||
        (r = read_fields(&f, agon_buf_str(&canonical), err)) ||
        (r = read_flag(f.drop_thinking, "drop_thinking", &drop_thinking, err)) ||
        (r = read_flag(f.add_bos, "add_default_bos_token", &add_bos, err)) ||
        (!text_is_null(f.context) && (r = lift_messages(messages, f.context, "context", err))))
        return r;
    options.n_context = json_array_size(messages);
    if ((r = lift_messages(messages, f.messages, "messages", err)))
        return r;
    if (f.tools.data && (r = lift_tools(json_array_get(messages, 0), f.tools, err)))
        return agon_err_in(err, r, "tools");
    if (!agon_str_is(f.thinking_mode, "\"chat\"") && !agon_str_is(f.thinking_mode, "\"thinking\""))
        return agon_fail(err, AGON_EINPUT, "thinking_mode: neither \"chat\" nor \"thinking\"");
    options.thinking =
        agon_str_is(f.thinking_mode, "\"thinking\"") ? AGON_THINKING_ON : AGON_THINKING_OFF;
    options.keep_thinking = !drop_thinking;
    options.no_bos = !add_bos;
    return agon_encode(p, messages, &options, err);
}
