/* Messages from outside: see message.h, and agon_message_check() in encoding.h. */
#include "model/message.h"

#include "base/json.h"
#include "model/jsontext.h"

#include <stdarg.h>
#include <stdio.h>

enum { ARGUMENTS_BYTES_MAX = 16 << 20 };

static int malformed(char reason[AGON_REASON_SIZE], const char *fmt, ...) AGON_PRINTF(2, 3);
static int malformed(char reason[AGON_REASON_SIZE], const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(reason, AGON_REASON_SIZE, fmt, ap); /* cut where too long */
    va_end(ap);
    return AGON_PARSE_MALFORMED;
}

static bool role_is(const json_t *message, const char *role)
{
    return strcmp(agon_json_text(message, "role", ""), role) == 0;
}

/* ---- assistant messages of others ---- */

/* A text field; absent and null are "". NULL where it is something else. */
static const char *text_or_empty(const json_t *object, const char *field)
{
    const json_t *value = json_object_get(object, field);
    return !value || json_is_null(value) ? "" : json_string_value(value);
}

static int adopt_call(json_t *calls, const json_t *from, char reason[AGON_REASON_SIZE],
                      struct agon_err *err)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(ARGUMENTS_BYTES_MAX);
    const json_t *function = json_object_get(from, "function");
    const json_t *name = json_object_get(function, "name");
    const json_t *arguments = json_object_get(function, "arguments");
    if (!json_is_string(name))
        return malformed(reason, "call %zu has no function.name", json_array_size(calls));
    if (json_is_object(arguments))
        agon_json_dump(&b, arguments);
    else if (json_is_string(arguments))
        agon_buf_add(&b, json_string_value(arguments), json_string_length(arguments));
    else
        return malformed(reason, "call %zu has no function.arguments", json_array_size(calls));
    int r = agon_buf_check(&b, "arguments", err);
    if (r)
        return r;
    json_t *call = json_pack("{s:s, s:{s:s, s:s}}", "type", "function", "function", "name",
                             json_string_value(name), "arguments", agon_buf_text(&b));
    return json_array_append_new(calls, call) ? agon_fail(err, AGON_ENOMEM, "out of memory") : 0;
}

int agon_message_adopt(json_t **ret, const json_t *from, char reason[AGON_REASON_SIZE],
                       struct agon_err *err)
{
    if (!json_is_object(from))
        return malformed(reason, "no message object");
    if (json_object_get(from, "role") && !role_is(from, "assistant"))
        return malformed(reason, "the message's role is not \"assistant\"");
    const char *content = text_or_empty(from, "content");
    const char *reasoning = text_or_empty(from, "reasoning_content");
    if (reasoning && !*reasoning)
        reasoning = text_or_empty(from, "reasoning");
    const json_t *theirs = json_object_get(from, "tool_calls");
    if (!content || !reasoning)
        return malformed(reason, "content or reasoning_content is no text");
    if (theirs && !json_is_null(theirs) && !json_is_array(theirs))
        return malformed(reason, "tool_calls is no list");

    json_t *calls AGON_AUTO(agon_json_decrefp) = json_array();
    for (size_t i = 0; i < json_array_size(theirs); i++) {
        int r = adopt_call(calls, json_array_get(theirs, i), reason, err);
        if (r)
            return r;
    }
    json_t *message = json_pack("{s:s, s:s, s:s, s:O}", "role", "assistant", "content", content,
                                "reasoning_content", reasoning, "tool_calls", calls);
    if (!message)
        return agon_fail(err, AGON_ENOMEM, "message: out of memory");
    *ret = message;
    return 0;
}

int agon_turn_text_parse(json_t **ret, struct agon_str text, enum agon_thinking thinking,
                         char reason[AGON_REASON_SIZE], struct agon_err *err)
{
    /* A completion ends in EOS or in the tag that closes its calls, never in a brace. */
    if (text.size < 2 || text.data[0] != '{' || text.data[text.size - 1] != '}')
        return agon_completion_parse(ret, &(struct agon_completion){.text = text}, thinking, reason,
                                     err);
    json_t *from AGON_AUTO(agon_json_decrefp) = NULL;
    struct agon_err why;
    int r = agon_json_parse(&from, text, &why);
    if (r == AGON_EINPUT)
        return malformed(reason, "the message is no JSON: %.200s", why.text);
    if (r)
        return agon_fail(err, r, "%s", why.text);
    return agon_message_adopt(ret, from, reason, err);
}

int agon_message_check(const json_t *message, char reason[AGON_REASON_SIZE])
{
    const json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(ARGUMENTS_BYTES_MAX);
        const json_t *function = json_object_get(json_array_get(calls, i), "function");
        const char *name = agon_json_text(function, "name", "");
        const char *arguments = agon_json_text(function, "arguments", "");
        struct agon_err why = {0};
        int r = agon_json_rewrite(&b, agon_str(arguments), &why);
        if (r == AGON_ENOMEM || b.failed)
            return AGON_ENOMEM;
        if (r)
            return malformed(reason, "the arguments of call %zu (%.40s) are no JSON: %.120s", i,
                             name, why.text);
        if (agon_buf_text(&b)[0] != '{')
            return malformed(reason, "the arguments of call %zu (%.40s) are no JSON object", i,
                             name);
    }
    return 0;
}

/* ---- the list of a session ---- */

/* The message whose calls are open at the end of list, with the number of its results so far. */
static const json_t *list_open_calls(const json_t *list, size_t *ret_n_results)
{
    size_t n = json_array_size(list), n_results = 0;
    while (n_results < n && role_is(json_array_get(list, n - 1 - n_results), "tool"))
        n_results++;
    const json_t *asked = n_results < n ? json_array_get(list, n - 1 - n_results) : NULL;
    const json_t *calls = json_object_get(asked, "tool_calls");
    *ret_n_results = n_results;
    return role_is(asked, "assistant") && n_results < json_array_size(calls) ? calls : NULL;
}

bool agon_messages_await_turn(const json_t *list)
{
    size_t n = json_array_size(list), n_results;
    const json_t *last = n ? json_array_get(list, n - 1) : NULL;
    return (role_is(last, "user") || role_is(last, "developer") || role_is(last, "tool")) &&
           !list_open_calls(list, &n_results);
}

int agon_message_number(json_t *message, int *n_calls, struct agon_err *err)
{
    json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        char id[32];
        (void)snprintf(id, sizeof(id), "call_%d", (*n_calls)++); /* fits */
        if (json_object_set_new(json_array_get(calls, i), "id", json_string(id)))
            return agon_fail(err, AGON_ENOMEM, "out of memory");
    }
    return 0;
}

/* A turn of the past keeps the ids that its results carry; later calls are counted on from there.
 */
static int number_past(json_t *message, int *n_calls, struct agon_err *err)
{
    json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        int number, end = 0;
        const char *id = agon_json_text(json_array_get(calls, i), "id", NULL);
        if (!id)
            return agon_message_number(message, n_calls, err);
        if (sscanf(id, "call_%9d%n", &number, &end) == 1 && !id[end] && number >= *n_calls)
            *n_calls = number + 1;
    }
    return 0;
}

static int check_result(const json_t *list, json_t *message, struct agon_err *err)
{
    size_t n_results;
    const json_t *calls = list_open_calls(list, &n_results);
    if (!calls)
        return agon_fail(err, AGON_EINPUT, "a result, but no call is open");
    const char *id = agon_json_text(json_array_get(calls, n_results), "id", "");
    const char *given = agon_json_text(message, "tool_call_id", id);
    if (strcmp(given, id) != 0)
        return agon_fail(err, AGON_EINPUT,
                         "the result of \"%.60s\" stands where that of \"%s\" belongs", given, id);
    if (json_object_set_new(message, "tool_call_id", json_string(id)))
        return agon_fail(err, AGON_ENOMEM, "out of memory");
    return 0;
}

static int check_message(const json_t *list, json_t *message, int *n_calls, struct agon_err *err)
{
    static const char *const roles[] = {"system", "developer", "user", "assistant", "tool"};
    char reason[AGON_REASON_SIZE];
    size_t n_results, known = 0;
    while (known < 5 && !role_is(message, roles[known]))
        known++;
    if (known == 5)
        return agon_fail(err, AGON_EINPUT, "unknown role \"%.40s\"",
                         agon_json_text(message, "role", ""));
    const json_t *content = json_object_get(message, "content");
    bool optional = role_is(message, "assistant") || role_is(message, "system");
    if (!json_is_string(content) && !(optional && (!content || json_is_null(content))))
        return agon_fail(err, AGON_EINPUT, "%s: content is no text", roles[known]);
    if (role_is(message, "tool"))
        return check_result(list, message, err);
    const json_t *calls = list_open_calls(list, &n_results);
    if (calls)
        return agon_fail(err, AGON_EINPUT, "%s, but only %zu of %zu calls have a result",
                         roles[known], n_results, json_array_size(calls));
    if (!role_is(message, "assistant"))
        return 0;
    int r = agon_message_check(message, reason);
    if (r)
        return r < 0 ? agon_fail(err, r, "out of memory")
                     : agon_fail(err, AGON_EINPUT, "assistant: %s", reason);
    return number_past(message, n_calls, err);
}

int agon_messages_append(json_t *list, int *n_calls, const json_t *messages, struct agon_err *err)
{
    size_t n_before = json_array_size(list);
    int n_calls_before = *n_calls, r = 0;
    if (!json_is_array(messages))
        return agon_fail(err, AGON_EINPUT, "messages: no list");
    for (size_t i = 0; i < json_array_size(messages) && r == 0; i++) {
        json_t *copy AGON_AUTO(agon_json_decrefp) = json_deep_copy(json_array_get(messages, i));
        r = copy ? check_message(list, copy, n_calls, err)
                 : agon_fail(err, AGON_ENOMEM, "out of memory");
        if (r == 0 && json_array_append(list, copy))
            r = agon_fail(err, AGON_ENOMEM, "out of memory");
        if (r)
            (void)agon_err_in(err, r, "message %zu", n_before + i);
    }
    if (r) {
        *n_calls = n_calls_before;
        while (json_array_size(list) > n_before)
            (void)json_array_remove(list, n_before); /* can't fail: the index exists */
    }
    return r;
}
