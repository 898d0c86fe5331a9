/* Context management: see context.h. */
#include "synth/context.h"

#include "base/json.h"
#include "base/text.h"

#include <string.h>

enum { RESULT_BYTES_MIN = 64 }; /* a shorter result is not halved */

static const char *const names[] = {"none", "discard-75", "discard-all", "summary",
                                    "parallel-fewest-step"};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

int agon_context_parse(enum agon_context *ret, const char *name, struct agon_err *err)
{
    for (int i = 0; i < N_NAMES; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum agon_context)i;
            return 0;
        }
    return agon_fail(err, AGON_EINPUT, "context '%s' is none of " AGON_CONTEXT_NAMES, name);
}

const char *agon_context_name(enum agon_context context)
{
    return names[context];
}

bool agon_context_full(int n_tokens, int window)
{
    return window > 0 && n_tokens > window / 5 * 4;
}

bool agon_context_resets(enum agon_context context)
{
    return context != AGON_CONTEXT_NONE && context != AGON_CONTEXT_PARALLEL;
}

static bool is_role(const json_t *message, const char *role)
{
    return strcmp(agon_json_text(message, "role", ""), role) == 0;
}

static size_t count_turns(const json_t *messages, size_t n_head)
{
    size_t n_turns = 0;
    for (size_t i = n_head; i < json_array_size(messages); i++)
        n_turns += is_role(json_array_get(messages, i), "assistant");
    return n_turns;
}

/* The head and the messages from turn `skip` (from 0) on. */
static json_t *without_turns(const json_t *messages, size_t n_head, size_t skip)
{
    size_t seen = 0;
    json_t *out = json_array();
    for (size_t i = 0; out && i < json_array_size(messages); i++) {
        json_t *message = json_array_get(messages, i);
        seen += i >= n_head && is_role(message, "assistant");
        if ((i < n_head || seen > skip) && json_array_append(out, message)) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

json_t *agon_context_shrink(enum agon_context context, const json_t *messages, size_t n_head)
{
    size_t n_turns = count_turns(messages, n_head);
    size_t keep = context == AGON_CONTEXT_DISCARD_75 ? (n_turns + 3) / 4 : 0;
    return without_turns(messages, n_head, n_turns - keep);
}

/* A copy of the conversation whose longer results have lost their second half. */
static json_t *halve_results(const json_t *messages)
{
    size_t i, n_halved = 0;
    json_t *message;
    json_t *out = json_array();
    int bad = !out;
    json_array_foreach(messages, i, message)
    {
        const json_t *content = json_object_get(message, "content");
        struct agon_str text = {json_string_value(content), json_string_length(content)};
        json_t *copy = json_copy(message);
        if (is_role(message, "tool") && text.size > RESULT_BYTES_MIN) {
            text = agon_utf8_cut(text, text.size / 2);
            bad |= json_object_set_new(copy, "content", json_stringn(text.data, text.size));
            n_halved++;
        }
        bad |= json_array_append_new(out, copy);
    }
    if (!bad && n_halved > 0)
        return out;
    json_decref(out);
    return NULL;
}

json_t *agon_context_halve(const json_t *messages, size_t n_head)
{
    size_t n_turns = count_turns(messages, n_head);
    return n_turns > 1 ? without_turns(messages, n_head, n_turns / 2) : halve_results(messages);
}

json_t *agon_context_retext(const json_t *head, struct agon_str text)
{
    json_t *out = json_copy((json_t *)(uintptr_t)head);
    size_t last = json_array_size(out) - 1;
    json_t *message = json_copy(json_array_get(out, last)); /* taken by the list in all cases */
    int bad = json_object_set_new(message, "content", json_stringn(text.data, text.size));
    bad |= json_array_set_new(out, last, message);
    if (!bad)
        return out;
    json_decref(out);
    return NULL;
}
