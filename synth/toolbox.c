/* Toolsets: see toolbox.h. */
#include "synth/toolbox.h"

#include <stdio.h>
#include <stdlib.h>

static const char mark[] = "-- ==== ";
static const char mark_end[] = " ====\n";

void agon_toolbox_deinit(struct agon_toolbox *t)
{
    for (int i = 0; i < t->n; i++) {
        free(t->items[i].name);
        free(t->items[i].source);
    }
    free(t->items);
    *t = (struct agon_toolbox){0};
}

int agon_toolbox_find(const struct agon_toolbox *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->items[i].name, name) == 0)
            return i;
    return -1;
}

int agon_toolbox_put(struct agon_toolbox *t, const char *name, struct agon_str source,
                     struct agon_err *err)
{
    char *text = strndup(source.data, source.size);
    int i = agon_toolbox_find(t, name);
    if (text && i >= 0) {
        free(t->items[i].source);
        t->items[i].source = text;
        return 0;
    }
    struct agon_toolbox_item *items = realloc(t->items, ((size_t)t->n + 1) * sizeof(*items));
    char *name_copy = strdup(name);
    if (items)
        t->items = items;
    if (!text || !items || !name_copy) {
        free(text);
        free(name_copy);
        return agon_fail(err, AGON_ENOMEM, "toolbox: out of memory");
    }
    items[t->n++] = (struct agon_toolbox_item){name_copy, text};
    return 0;
}

int agon_toolbox_copy(struct agon_toolbox *to, const struct agon_toolbox *from,
                      struct agon_err *err)
{
    for (int i = 0, r; i < from->n; i++)
        if ((r = agon_toolbox_put(to, from->items[i].name, agon_str(from->items[i].source), err)))
            return r;
    return 0;
}

void agon_toolbox_text(const struct agon_toolbox *t, struct agon_buf *b)
{
    for (int i = 0; i < t->n; i++) {
        const char *source = t->items[i].source;
        size_t n = strlen(source);
        agon_buf_addf(b, "%s%s%s%s%s", mark, t->items[i].name, mark_end, source,
                      n > 0 && source[n - 1] == '\n' ? "" : "\n");
    }
}

/* The next line that begins with the mark, at or after `at`; NULL: none. */
static const char *mark_find(const char *at, const char *text)
{
    for (const char *p = at; (p = strstr(p, mark)); p++)
        if (p == text || p[-1] == '\n')
            return p;
    return NULL;
}

bool agon_toolbox_has_mark(struct agon_str source)
{
    char *text = strndup(source.data, source.size);
    bool has = !text || mark_find(text, text) || strlen(text) != source.size;
    free(text);
    return has;
}

static int toolbox_parse_text(struct agon_toolbox *t, const char *text, struct agon_err *err)
{
    const char *at = mark_find(text, text);
    if (*text && at != text)
        return agon_fail(err, AGON_EINPUT, "tools.lua: does not begin with a line \"%sNAME ====\"",
                         mark);
    while (at) {
        char name[64];
        const char *begin = at + sizeof(mark) - 1, *end = strstr(begin, mark_end);
        if (!end || (size_t)(end - begin) >= sizeof(name))
            return agon_fail(err, AGON_EINPUT, "tools.lua: a line \"%s...\" names no tool", mark);
        snprintf(name, sizeof(name), "%.*s", (int)(end - begin), begin);
        const char *source = end + sizeof(mark_end) - 1;
        at = mark_find(source, text);
        size_t n = at ? (size_t)(at - source) : strlen(source);
        while (n > 0 && source[n - 1] == '\n')
            n--;
        int r = agon_toolbox_put(t, name, (struct agon_str){source, n}, err);
        if (r)
            return r;
    }
    return 0;
}

int agon_toolbox_parse(struct agon_toolbox *t, struct agon_str text, struct agon_err *err)
{
    char *copy = strndup(text.data, text.size);
    if (!copy)
        return agon_fail(err, AGON_ENOMEM, "toolbox: out of memory");
    int r = toolbox_parse_text(t, copy, err);
    free(copy);
    return r;
}
