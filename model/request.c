/* A request as JSON text, for backends that ask by text: see agon_request_dump(). */
#include "base/json.h"
#include "model/backend.h"

static bool is_empty(const json_t *value)
{
    return json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

/* Servers refuse an empty tool_calls, and tools inside a message; content must stay. */
static bool field_goes(const char *key, const json_t *value)
{
    return strcmp(key, "tools") != 0 && strcmp(key, "response_format") != 0 &&
           (strcmp(key, "content") == 0 || !is_empty(value));
}

static void dump_api_message(struct agon_buf *b, json_t *message)
{
    const char *key, *comma = "";
    json_t *value;
    agon_buf_addc(b, '{');
    json_object_foreach(message, key, value)
    {
        if (!field_goes(key, value))
            continue;
        agon_buf_adds(b, comma);
        agon_json_dump_string(b, agon_str(key));
        agon_buf_adds(b, ": ");
        agon_json_dump(b, value);
        comma = ", ";
    }
    agon_buf_addc(b, '}');
}

static void dump_tools(struct agon_buf *b, const struct agon_session *s)
{
    const char *comma = ", \"tools\": [";
    for (size_t i = 0; i < json_array_size(s->messages); i++) {
        const json_t *tools = json_object_get(json_array_get(s->messages, i), "tools");
        for (size_t t = 0; t < json_array_size(tools); t++) {
            agon_buf_adds(b, comma);
            agon_json_dump(b, json_array_get(tools, t));
            comma = ", ";
        }
    }
    if (comma[2] == '\0') /* at least one was written */
        agon_buf_addc(b, ']');
}

int agon_request_dump(struct agon_buf *b, const struct agon_session *s, bool for_api,
                      struct agon_err *err)
{
    const json_t *format = NULL;
    agon_buf_adds(b, "\"messages\": [");
    for (size_t i = 0; i < json_array_size(s->messages); i++) {
        json_t *message = json_array_get(s->messages, i);
        agon_buf_adds(b, i ? ", " : "");
        if (for_api)
            dump_api_message(b, message);
        else
            agon_json_dump(b, message);
        if (json_object_get(message, "response_format"))
            format = json_object_get(message, "response_format");
    }
    agon_buf_addc(b, ']');
    dump_tools(b, s);
    if (for_api && format) {
        agon_buf_adds(b, ", \"response_format\": ");
        agon_json_dump(b, format);
    }
    return agon_buf_check(b, "request", err);
}
