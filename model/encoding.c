/* Messages to prompt: see encoding.h. The rules of each role stand in render_*(). */
#include "model/encoding.h"

#include "base/json.h"
#include "model/jsontext.h"

#include <stdlib.h>

#define DSML "｜DSML｜"

static const char *const token_texts[AGON_N_TOKENS] = {
    [AGON_TOKEN_BOS] = "<｜begin▁of▁sentence｜>",
    [AGON_TOKEN_EOS] = "<｜end▁of▁sentence｜>",
    [AGON_TOKEN_USER] = "<｜User｜>",
    [AGON_TOKEN_ASSISTANT] = "<｜Assistant｜>",
    [AGON_TOKEN_THINK] = "<think>",
    [AGON_TOKEN_THINK_END] = "</think>",
    [AGON_TOKEN_DSML] = DSML,
};

/* The tools block, up to the schemas and from them on. Text of DeepSeek's encoder (MIT). */
static const char tools_head[] =
    "## Tools\n\n"
    "You have access to a set of tools you can use to answer the user's question.\n"
    "You can invoke functions by writing a \"<" DSML "function_calls>\" block like the following"
    " as part of your reply to the user:\n"
    "<" DSML "function_calls>\n"
    "<" DSML "invoke name=\"$FUNCTION_NAME\">\n"
    "<" DSML "parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</" DSML
    "parameter>\n"
    "...\n"
    "</" DSML "invoke>\n"
    "<" DSML "invoke name=\"$FUNCTION_NAME2\">\n"
    "...\n"
    "</" DSML "invoke>\n"
    "</" DSML "function_calls>\n\n"
    "String and scalar parameters should be specified as is without any escaping or quotes, while"
    " lists and objects should use JSON format. The \"string\" attribute should be set to \"true\""
    " for string type parameters and \"false\" for other types (numbers, booleans, arrays,"
    " objects).\n\n"
    "If the thinking_mode is enabled, then after function results you should strongly consider"
    " outputting a thinking block. Here is an example:\n\n"
    "<" DSML "function_calls>\n"
    "...\n"
    "</" DSML "function_calls>\n\n"
    "<function_results>\n"
    "...\n"
    "</function_results>\n\n"
    "<think>...thinking about results</think>\n\n"
    "Here are the functions available in JSONSchema format:\n"
    "<functions>\n";
static const char tools_tail[] = "\n</functions>\n";

struct agon_str agon_token_text(enum agon_token token)
{
    return agon_str(token_texts[token]);
}

void agon_prompt_deinit(struct agon_prompt *p)
{
    agon_buf_deinit(&p->text);
    free(p->segments);
    p->segments = NULL;
    p->n_segments = p->capacity = 0;
}

/* ---- segments; a failure sticks to p->text, as in agon_buf ---- */

/* Everything written since `at` is one segment; it joins a neighbour of its kind. */
static void prompt_close(struct agon_prompt *p, enum agon_segment_kind kind, enum agon_token token,
                         size_t at)
{
    size_t size = p->text.size - at;
    if (p->text.failed || size == 0)
        return;
    struct agon_segment *last = p->n_segments ? &p->segments[p->n_segments - 1] : NULL;
    if (last && last->kind == kind && kind != AGON_SEGMENT_TOKEN) {
        last->size += size;
        return;
    }
    if (p->n_segments == p->capacity) {
        size_t capacity = p->capacity ? p->capacity * 2 : 64;
        struct agon_segment *grown = reallocarray(p->segments, capacity, sizeof(*grown));
        if (!grown) {
            p->text.failed = AGON_ENOMEM;
            return;
        }
        p->segments = grown;
        p->capacity = capacity;
    }
    p->segments[p->n_segments++] = (struct agon_segment){kind, token, at, size};
}

static void prompt_token(struct agon_prompt *p, enum agon_token token)
{
    size_t at = p->text.size;
    agon_buf_adds(&p->text, token_texts[token]);
    prompt_close(p, AGON_SEGMENT_TOKEN, token, at);
}

static void prompt_text(struct agon_prompt *p, struct agon_str text)
{
    size_t at = p->text.size;
    agon_buf_add_str(&p->text, text);
    prompt_close(p, AGON_SEGMENT_TEXT, 0, at);
}

/* Text of our own. Control tokens that it spells become such; a literal only, never outside text.
 */
static void prompt_markup(struct agon_prompt *p, const char *text)
{
    while (*text) {
        const char *first = NULL;
        enum agon_token token = AGON_TOKEN_BOS;
        for (int t = 0; t < AGON_N_TOKENS; t++) {
            const char *hit = strstr(text, token_texts[t]);
            if (hit && (!first || hit < first)) {
                first = hit;
                token = (enum agon_token)t;
            }
        }
        size_t at = p->text.size;
        agon_buf_add(&p->text, text, first ? (size_t)(first - text) : strlen(text));
        prompt_close(p, AGON_SEGMENT_MARKUP, 0, at);
        if (!first)
            return;
        prompt_token(p, token);
        text = first + strlen(token_texts[token]);
    }
}

/* A JSON value, or JSON text in a string, in the canonical writing. */
static int prompt_json(struct agon_prompt *p, const json_t *value, struct agon_err *err)
{
    size_t at = p->text.size;
    if (json_is_string(value)) {
        struct agon_str text = {json_string_value(value), json_string_length(value)};
        int r = agon_json_rewrite(&p->text, text, err);
        if (r)
            return r;
    } else {
        agon_json_dump(&p->text, value);
    }
    prompt_close(p, AGON_SEGMENT_TEXT, 0, at);
    return 0;
}

/* ---- fields, read as Python reads them: absent, null and empty are the same ---- */

static struct agon_str json_str(const json_t *string)
{
    return (struct agon_str){json_string_value(string), json_string_length(string)};
}

/* *ret_text is NULL-data where the field is absent or null. */
static int message_text(const json_t *message, const char *field, struct agon_str *ret_text,
                        struct agon_err *err)
{
    const json_t *value = json_object_get(message, field);
    if (value && !json_is_null(value) && !json_is_string(value))
        return agon_fail(err, AGON_EINPUT, "%s is no text", field);
    *ret_text = json_is_string(value) ? json_str(value) : (struct agon_str){NULL, 0};
    return 0;
}

static bool json_is_falsy(const json_t *value)
{
    static const char *const falsy[] = {"null", "false", "0", "0.0", "-0.0", "\"\"", "{}", "[]"};
    if (!value || json_is_null(value) || json_is_false(value))
        return true;
    if (!json_is_string(value))
        return json_is_number(value) ? json_number_value(value) == 0
                                     : !json_is_true(value) && json_array_size(value) == 0 &&
                                           json_object_size(value) == 0;
    for (size_t i = 0; i < sizeof(falsy) / sizeof(falsy[0]); i++)
        if (strcmp(json_string_value(value), falsy[i]) == 0)
            return true;
    return json_string_length(value) == 0;
}

static int message_array(const json_t *message, const char *field, const json_t **ret,
                         struct agon_err *err)
{
    const json_t *value = json_object_get(message, field);
    if (!json_is_falsy(value) && !json_is_array(value))
        return agon_fail(err, AGON_EINPUT, "%s is no list", field);
    *ret = json_array_size(value) ? value : NULL;
    return 0;
}

/* ---- the roles ---- */

struct rendering {
    struct agon_prompt *p;
    const json_t *messages;
    enum agon_thinking thinking;
    ptrdiff_t last_user; /* index of the last user or developer message, or -1 */
};

static int render_tools(struct rendering *r, const json_t *tools, struct agon_err *err)
{
    prompt_markup(r->p, "\n\n");
    prompt_markup(r->p, tools_head);
    for (size_t i = 0; i < json_array_size(tools); i++) {
        const json_t *function = json_object_get(json_array_get(tools, i), "function");
        if (!json_is_object(function) && !json_is_string(function))
            return agon_fail(err, AGON_EINPUT, "tool %zu has no \"function\"", i);
        if (i)
            prompt_markup(r->p, "\n");
        int e = prompt_json(r->p, function, err);
        if (e)
            return agon_err_in(err, e, "tool %zu", i);
    }
    prompt_markup(r->p, tools_tail);
    return 0;
}

/* The tools and the response format of a system or developer message. */
static int render_extras(struct rendering *r, const json_t *message, struct agon_err *err)
{
    const json_t *tools = NULL;
    int e;
    if ((e = message_array(message, "tools", &tools, err)) ||
        (tools && (e = render_tools(r, tools, err))))
        return e;
    const json_t *format = json_object_get(message, "response_format");
    if (json_is_falsy(format))
        return 0;
    prompt_markup(r->p, "\n\n## Response Format:\n\n"
                        "You MUST strictly adhere to the following schema to reply:\n");
    e = prompt_json(r->p, format, err);
    return e ? agon_err_in(err, e, "response_format") : 0;
}

/* The end of what the user says: the assistant's turn opens with its thinking, or without. */
static void render_turn_opens(struct rendering *r, bool thinks)
{
    prompt_token(r->p, thinks && r->thinking ? AGON_TOKEN_THINK : AGON_TOKEN_THINK_END);
}

static int render_system(struct rendering *r, const json_t *message, struct agon_err *err)
{
    struct agon_str content = {0};
    int e = message_text(message, "content", &content, err);
    if (e)
        return e;
    prompt_text(r->p, content);
    return render_extras(r, message, err);
}

static int render_user(struct rendering *r, const json_t *message, size_t i, bool developer,
                       struct agon_err *err)
{
    struct agon_str content = {0};
    int e = message_text(message, "content", &content, err);
    if (e)
        return e;
    if (developer && content.size == 0)
        return agon_fail(err, AGON_EINPUT, "a developer message needs content");
    prompt_token(r->p, AGON_TOKEN_USER);
    if (developer) {
        if ((e = render_extras(r, message, err)))
            return e;
        prompt_markup(r->p, "\n\n# The user's message is: ");
    }
    prompt_text(r->p, content.data ? content : agon_str("None"));
    prompt_token(r->p, AGON_TOKEN_ASSISTANT);
    render_turn_opens(r, (ptrdiff_t)i == r->last_user);
    return 0;
}

static int render_parameter(struct rendering *r, struct agon_str key_text,
                            struct agon_str value_text, struct agon_err *err)
{
    json_t *key AGON_AUTO(agon_json_decrefp) = NULL;
    json_t *value AGON_AUTO(agon_json_decrefp) = NULL;
    bool is_text = value_text.data[0] == '"';
    int e;
    if ((e = agon_json_parse(&key, key_text, err)) ||
        (is_text && (e = agon_json_parse(&value, value_text, err))))
        return e;
    prompt_markup(r->p, "<" DSML "parameter name=\"");
    prompt_text(r->p, json_str(key));
    prompt_markup(r->p, is_text ? "\" string=\"true\">" : "\" string=\"false\">");
    prompt_text(r->p, is_text ? json_str(value) : value_text);
    prompt_markup(r->p, "</" DSML "parameter>");
    return 0;
}

static int render_call(struct rendering *r, const json_t *call, struct agon_err *err)
{
    const json_t *function = json_object_get(call, "function");
    const json_t *name = json_object_get(function, "name");
    const json_t *arguments = json_object_get(function, "arguments");
    if (!json_is_string(name) || !json_is_string(arguments))
        return agon_fail(err, AGON_EINPUT, "needs function.name and function.arguments, as text");

    struct agon_buf canonical AGON_AUTO(agon_buf_deinit) = AGON_BUF(AGON_PROMPT_BYTES_MAX);
    int e;
    if ((e = agon_json_rewrite(&canonical, json_str(arguments), err)) ||
        (e = agon_buf_check(&canonical, "arguments", err)))
        return agon_err_in(err, e, "arguments");
    struct agon_jsontext at;
    if (!agon_jsontext_open(&at, agon_buf_str(&canonical), '{'))
        return agon_fail(err, AGON_EINPUT, "arguments are no JSON object");

    prompt_markup(r->p, "<" DSML "invoke name=\"");
    prompt_text(r->p, json_str(name));
    prompt_markup(r->p, "\">\n");
    struct agon_str key, value;
    for (bool first = true; agon_jsontext_next(&at, &key, &value); first = false) {
        if (!first)
            prompt_markup(r->p, "\n");
        if ((e = render_parameter(r, key, value, err)))
            return agon_err_in(err, e, "arguments");
    }
    prompt_markup(r->p, "\n</" DSML "invoke>");
    return 0;
}

static int render_assistant(struct rendering *r, const json_t *message, size_t i,
                            struct agon_err *err)
{
    struct agon_str content = {0}, reasoning = {0};
    const json_t *calls = NULL;
    int e;
    if ((e = message_text(message, "content", &content, err)) ||
        (e = message_text(message, "reasoning_content", &reasoning, err)) ||
        (e = message_array(message, "tool_calls", &calls, err)))
        return e;
    if (r->thinking && (ptrdiff_t)i > r->last_user) {
        if (reasoning.size == 0 && !calls)
            return agon_fail(err, AGON_EINPUT,
                             "in thinking mode an assistant message after the last "
                             "user message needs reasoning_content or tool_calls");
        prompt_text(r->p, reasoning);
        prompt_token(r->p, AGON_TOKEN_THINK_END);
    }
    prompt_text(r->p, content);
    if (calls)
        prompt_markup(r->p, "\n\n<" DSML "function_calls>\n");
    for (size_t c = 0; c < json_array_size(calls); c++) {
        if (c)
            prompt_markup(r->p, "\n");
        if ((e = render_call(r, json_array_get(calls, c), err)))
            return agon_err_in(err, e, "call %zu", c);
    }
    if (calls)
        prompt_markup(r->p, "\n</" DSML "function_calls>");
    prompt_token(r->p, AGON_TOKEN_EOS);
    return 0;
}

/* Results are matched to calls by position: the n-th after the assistant's message. */
static int render_tool(struct rendering *r, const json_t *message, size_t i, struct agon_err *err)
{
    size_t first = i;
    while (first > 0 &&
           strcmp(agon_json_text(json_array_get(r->messages, first - 1), "role", ""), "tool") == 0)
        first--;
    const json_t *asked = first > 0 ? json_array_get(r->messages, first - 1) : NULL;
    const json_t *calls = NULL;
    struct agon_str content = {0};
    int e;
    if (asked && strcmp(agon_json_text(asked, "role", ""), "assistant") == 0 &&
        (e = message_array(asked, "tool_calls", &calls, err)))
        return e;
    if ((e = message_text(message, "content", &content, err)))
        return e;
    size_t order = i - first + 1;
    if (order > json_array_size(calls))
        return agon_fail(err, AGON_EINPUT, "result %zu of an assistant message with %zu calls",
                         order, json_array_size(calls));
    if (order == 1)
        prompt_markup(r->p, "\n\n<function_results>");
    prompt_markup(r->p, "\n<result>");
    prompt_text(r->p, content.data ? content : agon_str("None"));
    prompt_markup(r->p, "</result>");
    if (order == json_array_size(calls)) {
        prompt_markup(r->p, "\n</function_results>\n\n");
        render_turn_opens(r, (ptrdiff_t)i >= r->last_user);
    }
    return 0;
}

static int render_message(struct rendering *r, size_t i, struct agon_err *err)
{
    const json_t *message = json_array_get(r->messages, i);
    const char *role = agon_json_text(message, "role", "");
    int e;
    if (strcmp(role, "system") == 0)
        e = render_system(r, message, err);
    else if (strcmp(role, "user") == 0 || strcmp(role, "developer") == 0)
        e = render_user(r, message, i, role[0] == 'd', err);
    else if (strcmp(role, "assistant") == 0)
        e = render_assistant(r, message, i, err);
    else if (strcmp(role, "tool") == 0)
        e = render_tool(r, message, i, err);
    else
        return agon_fail(err, AGON_EINPUT, "message %zu: unknown role \"%.40s\"", i, role);
    return e ? agon_err_in(err, e, "message %zu (%s)", i, role) : 0;
}

int agon_encode(struct agon_prompt *p, const json_t *messages,
                const struct agon_encode_options *options, struct agon_err *err)
{
    if (!json_is_array(messages))
        return agon_fail(err, AGON_EINPUT, "messages: no list");
    struct rendering r = {p, messages, options->thinking, -1};
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const char *role = agon_json_text(json_array_get(messages, i), "role", "");
        if (strcmp(role, "user") == 0 || strcmp(role, "developer") == 0)
            r.last_user = (ptrdiff_t)i;
    }
    if (options->n_context == 0 && !options->no_bos)
        prompt_token(p, AGON_TOKEN_BOS);
    for (size_t i = options->n_context; i < json_array_size(messages); i++) {
        int e = render_message(&r, i, err);
        if (e)
            return e;
    }
    return agon_buf_check(&p->text, "prompt", err);
}
