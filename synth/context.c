/* Context management: see context.h. */
#include "synth/context.h"

#include <string.h>

static const char *const names[] = {"none", "discard-75", "discard-all"};
enum { N_NAMES = sizeof(names) / sizeof(names[0]) };

int agon_context_parse(enum agon_context *ret, const char *name, struct agon_err *err)
{
    for (int i = 0; i < N_NAMES; i++)
        if (strcmp(name, names[i]) == 0) {
            *ret = (enum agon_context)i;
            return 0;
        }
    return agon_fail(err, AGON_EINPUT, "context '%s' is none of none, discard-75, discard-all",
                     name);
}

const char *agon_context_name(enum agon_context context)
{
    return names[context];
}

bool agon_context_full(int n_tokens, int window)
{
    return window > 0 && n_tokens > window / 5 * 4;
}

static bool is_assistant(const json_t *message)
{
    const char *role = json_string_value(json_object_get(message, "role"));
    return role && strcmp(role, "assistant") == 0;
}

json_t *agon_context_shrink(enum agon_context context, const json_t *messages, size_t n_head)
{
    size_t n = json_array_size(messages), n_turns = 0;
    for (size_t i = n_head; i < n; i++)
        n_turns += is_assistant(json_array_get(messages, i));
    size_t keep = context == AGON_CONTEXT_DISCARD_75 ? (n_turns + 3) / 4 : 0;
    size_t skip = n_turns - keep, seen = 0;
    json_t *out = json_array();
    for (size_t i = 0; out && i < n; i++) {
        json_t *message = json_array_get(messages, i);
        seen += i >= n_head && is_assistant(message);
        if ((i < n_head || seen > skip) && json_array_append(out, message)) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}
