/* See cleantext.h. */
#include "synth/cleantext.h"

#include "base/text.h"

#include <stdlib.h>

/* Overwrite what does not belong; the size stays, so nothing can fail. */
static void clean(char *data, size_t size)
{
    struct agon_str text = {data, size};
    for (size_t at = 0; at < size;) {
        size_t from = at;
        int32_t code = agon_utf8_next(text, &at);
        if (code <= 0)
            memset(data + from, '?', at - from);
    }
}

void agon_cleantext_buf(struct agon_buf *b)
{
    if (b->size > 0)
        clean(b->data, b->size);
}

json_t *agon_cleantext_json(struct agon_str text)
{
    char *copy = strndup(text.data, text.size);
    if (!copy)
        return NULL;
    clean(copy, strlen(copy));
    json_t *value = json_string(copy);
    free(copy);
    return value;
}
