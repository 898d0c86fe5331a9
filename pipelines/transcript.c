/* Transcripts for people: see transcript.h. */
#include "pipelines/transcript.h"

#include "base/json.h"
#include "pipelines/listing.h"

static void print_tools(FILE *to, const json_t *tools)
{
    size_t i;
    json_t *tool;
    fputs("(tools:", to);
    json_array_foreach(tools, i, tool)
    {
        fputc(' ', to);
        agon_listing_text(to, agon_json_text(json_object_get(tool, "function"), "name", "?"), 64);
    }
    fputs(")\n", to);
}

static void print_calls(FILE *to, const json_t *calls)
{
    size_t i;
    json_t *call, *value;
    const char *key;
    json_array_foreach(calls, i, call)
    {
        const json_t *function = json_object_get(call, "function");
        json_auto_t *arguments = NULL;
        fputs("-> ", to);
        agon_listing_text(to, agon_json_text(function, "name", "?"), 64);
        fputc('\n', to);
        if (agon_json_parse(&arguments, agon_str(agon_json_text(function, "arguments", "{}")),
                            NULL))
            continue;
        json_object_foreach(arguments, key, value)
        {
            struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(16 << 20);
            if (json_is_string(value))
                agon_buf_adds(&b, json_string_value(value));
            else
                agon_json_dump(&b, value);
            bool long_text = strchr(agon_buf_text(&b), '\n') != NULL;
            fprintf(to, "   %s:%s", key, long_text ? "\n" : " ");
            agon_listing_block(to, agon_buf_text(&b));
        }
    }
}

static void print_message(FILE *to, const json_t *message)
{
    const char *thinking = agon_json_text(message, "reasoning_content", "");
    const char *content = agon_json_text(message, "content", "");
    const char *malformed = agon_json_text(message, "malformed", NULL);
    const json_t *tools = json_object_get(message, "tools");
    fprintf(to, "== %s\n", agon_json_text(message, "role", "?"));
    if (*thinking) {
        fputs("(thinking) ", to);
        agon_listing_block(to, thinking);
    }
    if (*content)
        agon_listing_block(to, content);
    if (malformed) {
        fprintf(to, "(malformed: ");
        agon_listing_text(to, agon_json_text(message, "reason", ""), 200);
        fputs(")\n", to);
        agon_listing_block(to, malformed);
    }
    if (tools)
        print_tools(to, tools);
    print_calls(to, json_object_get(message, "tool_calls"));
}

void agon_transcript_print(FILE *to, const json_t *segments)
{
    size_t i, k;
    json_t *segment, *message;
    json_array_foreach(segments, i, segment)
    {
        if (i)
            fputs("==== context reset ====\n", to);
        json_array_foreach(segment, k, message) print_message(to, message);
    }
}
