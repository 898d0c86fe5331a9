/* The smallest difference: see regress_diff.h. */
#include "verifiers/regress_diff.h"

#include "base/json.h"

enum { EXCERPT_BYTES = 300, TEXT_BYTES_MAX = 64 << 20, CONTEXT_BYTES = 60 };

static void add_excerpt(struct agon_buf *out, struct agon_str text)
{
    struct agon_str cut = agon_utf8_cut(text, EXCERPT_BYTES);
    agon_text_add_plain(out, cut, false);
    if (cut.size < text.size)
        agon_buf_addf(out, "… (%zu bytes)", text.size);
}

static void add_json(struct agon_buf *out, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    if (!value) {
        agon_buf_adds(out, "nothing");
        return;
    }
    agon_json_dump(&text, value);
    add_excerpt(out, agon_buf_str(&text));
}

static bool differs_here(const json_t *expected, const json_t *got, struct agon_buf *ret_expected,
                         struct agon_buf *ret_got)
{
    add_json(ret_expected, expected);
    add_json(ret_got, got);
    return true;
}

static void path_back(struct agon_buf *path, size_t size)
{
    if (path->size > size) {
        path->size = size;
        path->data[size] = '\0';
    }
}

static bool diff_objects(const json_t *expected, const json_t *got, struct agon_buf *path,
                         struct agon_buf *ret_expected, struct agon_buf *ret_got)
{
    const char *key;
    json_t *value;
    size_t size = path->size;
    json_object_foreach((json_t *)(uintptr_t)expected, key, value)
    {
        agon_buf_addf(path, ".%s", key);
        if (agon_regress_diff(value, json_object_get(got, key), path, ret_expected, ret_got))
            return true;
        path_back(path, size);
    }
    json_object_foreach((json_t *)(uintptr_t)got, key, value)
    {
        if (json_object_get(expected, key))
            continue;
        agon_buf_addf(path, ".%s", key);
        return differs_here(NULL, value, ret_expected, ret_got);
    }
    return false;
}

static bool diff_lists(const json_t *expected, const json_t *got, struct agon_buf *path,
                       struct agon_buf *ret_expected, struct agon_buf *ret_got)
{
    size_t n = json_array_size(expected), m = json_array_size(got), size = path->size;
    for (size_t i = 0; i < n || i < m; i++) {
        agon_buf_addf(path, "[%zu]", i);
        if (agon_regress_diff(json_array_get(expected, i), json_array_get(got, i), path,
                              ret_expected, ret_got))
            return true;
        path_back(path, size);
    }
    return false;
}

bool agon_regress_diff(const json_t *expected, const json_t *got, struct agon_buf *path,
                       struct agon_buf *ret_expected, struct agon_buf *ret_got)
{
    if (expected == got)
        return false;
    if (expected && got && json_equal(expected, got))
        return false;
    if (json_is_object(expected) && json_is_object(got))
        return diff_objects(expected, got, path, ret_expected, ret_got);
    if (json_is_array(expected) && json_is_array(got))
        return diff_lists(expected, got, path, ret_expected, ret_got);
    return differs_here(expected, got, ret_expected, ret_got);
}

/* The line that holds byte `at`, from shortly before it where it is long. */
static struct agon_str line_at(struct agon_str text, size_t at, size_t *ret_from)
{
    size_t from = at < text.size ? at : text.size, end = from;
    while (from > 0 && text.data[from - 1] != '\n' && at - from < CONTEXT_BYTES)
        from--;
    while (from > 0 && from < text.size && ((unsigned char)text.data[from] & 0xC0) == 0x80)
        from--;
    while (end < text.size && text.data[end] != '\n')
        end++;
    *ret_from = from;
    return (struct agon_str){text.data + from, end - from};
}

bool agon_regress_diff_text(struct agon_str expected, struct agon_str got, struct agon_buf *path,
                            struct agon_buf *ret_expected, struct agon_buf *ret_got)
{
    size_t at = 0, from, line = 1;
    if (agon_str_equal(expected, got))
        return false;
    while (at < expected.size && at < got.size && expected.data[at] == got.data[at])
        line += expected.data[at++] == '\n';
    agon_buf_addf(path, " line %zu, byte %zu", line, at);
    struct agon_str a = line_at(expected, at, &from), b = line_at(got, at, &from);
    const struct agon_str *texts[] = {&a, &b};
    struct agon_buf *outs[] = {ret_expected, ret_got};
    for (int i = 0; i < 2; i++) {
        struct agon_str whole = i ? got : expected;
        bool cut = texts[i]->data > whole.data && texts[i]->data[-1] != '\n';
        agon_buf_adds(outs[i], cut ? "…" : "");
        if (at >= whole.size && texts[i]->size == 0)
            agon_buf_adds(outs[i], "nothing");
        else
            add_excerpt(outs[i], *texts[i]);
    }
    return true;
}
