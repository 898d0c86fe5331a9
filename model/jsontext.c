/* Walking canonical JSON text: see jsontext.h. */
#include "model/jsontext.h"

/* From the opening quote to behind the closing one. */
static const char *string_end(const char *at)
{
    for (at++; *at != '"'; at++)
        if (*at == '\\')
            at++;
    return at + 1;
}

static const char *value_end(const char *at)
{
    int depth = 0;
    for (;;) {
        if (*at == '"') {
            at = string_end(at);
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            depth--;
            at++;
        } else {
            at += strcspn(at, depth ? "\"{}[]" : ",}]");
        }
        if (depth == 0)
            return at;
    }
}

bool agon_jsontext_open(struct agon_jsontext *w, struct agon_str text, char bracket)
{
    if (text.size < 2 || text.data[0] != bracket)
        return false;
    w->at = text.data + 1;
    return true;
}

bool agon_jsontext_next(struct agon_jsontext *w, struct agon_str *ret_key,
                        struct agon_str *ret_value)
{
    if (*w->at == '}' || *w->at == ']')
        return false;
    if (ret_key) {
        const char *end = string_end(w->at);
        *ret_key = (struct agon_str){w->at, (size_t)(end - w->at)};
        w->at = end + strlen(": ");
    }
    const char *end = value_end(w->at);
    *ret_value = (struct agon_str){w->at, (size_t)(end - w->at)};
    w->at = end + (*end == ',' ? strlen(", ") : 0);
    return true;
}
