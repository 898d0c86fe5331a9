/* Values for people: see pretty.h. */
#include "pipelines/pretty.h"

#include "base/json.h"

#include <stdlib.h>
#include <wchar.h>

enum {
    COLUMNS_MAX = 100,
    COLUMN_MIN = 6, /* a column is cut to no less */
    GAP = 2,        /* between columns */
    TEXT_BYTES_MAX = 64 << 20,
    CELL_BYTES = 2000, /* of one value in a table; wider than any screen */
};

int agon_pretty_width(struct agon_str text)
{
    int width = 0;
    for (size_t at = 0; at < text.size;) {
        int32_t code = agon_utf8_next(text, &at);
        int w = code < 0 ? 1 : wcwidth((wchar_t)code);
        width += w < 0 ? 1 : w; /* a locale that does not know it */
    }
    return width;
}

/* The longest prefix that is no wider; *ret_width: how wide it is. */
static struct agon_str cut_width(struct agon_str text, int width, int *ret_width)
{
    size_t at = 0, end = 0;
    int used = 0;
    while (at < text.size) {
        int32_t code = agon_utf8_next(text, &at);
        int w = code < 0 ? 1 : wcwidth((wchar_t)code);
        w = w < 0 ? 1 : w;
        if (used + w > width)
            break;
        used += w;
        end = at;
    }
    *ret_width = used;
    return (struct agon_str){text.data, end};
}

static void add_spaces(struct agon_buf *out, int n)
{
    while (n-- > 0)
        agon_buf_addc(out, ' ');
}

/* ---- JSON ---- */

static void add_plain_json(struct agon_buf *out, const json_t *value)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_json_dump(&text, value);
    if (text.failed)
        agon_buf_adds(out, "(too long to show)");
    else
        agon_text_add_plain(out, agon_buf_str(&text), false);
}

static void new_line(struct agon_buf *out, int indent)
{
    agon_buf_addc(out, '\n');
    add_spaces(out, indent);
}

static void add_key(struct agon_buf *out, const char *key)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_json_dump_string(&text, agon_str(key));
    agon_text_add_plain(out, agon_buf_str(&text), false);
    agon_buf_adds(out, ": ");
}

static bool is_flat(const json_t *list)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) if (json_is_array(item) || json_is_object(item)) return false;
    return json_is_array(list);
}

/* A list of plain values, as many on a line as fit. */
static void add_filled(struct agon_buf *out, const json_t *list, int width, int indent)
{
    size_t i, n = json_array_size(list);
    json_t *item;
    int used = width; /* the first begins a line */
    agon_buf_addc(out, '[');
    json_array_foreach(list, i, item)
    {
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
        add_plain_json(&text, item);
        agon_buf_adds(&text, i + 1 < n ? "," : "");
        int w = agon_pretty_width(agon_buf_str(&text));
        if (used + 1 + w > width) {
            new_line(out, indent + 2);
            used = indent + 2;
        } else {
            agon_buf_addc(out, ' ');
            used++;
        }
        agon_buf_add_str(out, agon_buf_str(&text));
        used += w;
    }
    new_line(out, indent);
    agon_buf_addc(out, ']');
}

void agon_pretty_json(struct agon_buf *out, const json_t *value, int width, int indent)
{
    size_t from = out->size, i, n = 0;
    const char *key;
    json_t *item, *object = (json_t *)(uintptr_t)value;
    add_plain_json(out, value);
    bool nested = json_array_size(value) || json_object_size(value);
    struct agon_str line = {agon_buf_text(out) + from, out->size - from};
    if (out->failed || !nested || indent + agon_pretty_width(line) <= width)
        return;
    out->size = from;
    out->data[from] = '\0';
    if (is_flat(value)) {
        add_filled(out, value, width, indent);
        return;
    }
    agon_buf_addc(out, json_is_array(value) ? '[' : '{');
    json_array_foreach(value, i, item)
    {
        agon_buf_adds(out, i ? "," : "");
        new_line(out, indent + 2);
        agon_pretty_json(out, item, width, indent + 2);
    }
    json_object_foreach(object, key, item)
    {
        agon_buf_adds(out, n++ ? "," : "");
        new_line(out, indent + 2);
        add_key(out, key);
        agon_pretty_json(out, item, width, indent + 2);
    }
    new_line(out, indent);
    agon_buf_addc(out, json_is_array(value) ? ']' : '}');
}

/* ---- tables ---- */

struct column {
    const char *name; /* borrowed */
    int width;
    bool right; /* all its values are numbers */
};
struct table {
    struct column columns[COLUMNS_MAX];
    int n;
};

bool agon_pretty_is_rows(const json_t *value)
{
    size_t i;
    const char *key;
    json_t *row, *cell;
    if (json_array_size(value) == 0)
        return false;
    json_array_foreach(value, i, row)
    {
        if (!json_is_object(row) || json_object_size(row) == 0 ||
            json_object_size(row) > COLUMNS_MAX / 2)
            return false;
        json_object_foreach(row, key,
                            cell) if (json_is_array(cell) || json_is_object(cell)) return false;
        if (json_object_size(row) != json_object_size(json_array_get(value, 0)))
            return false;
    }
    return true;
}

/* A value as its cell shows it. */
static void add_cell(struct agon_buf *out, const json_t *value)
{
    struct agon_str text = {json_string_value(value), json_string_length(value)};
    if (!value)
        return;
    if (!text.data)
        add_plain_json(out, value);
    else if (text.size == 0)
        agon_buf_adds(out, "\"\"");
    else
        agon_text_add_plain(out, agon_utf8_cut(text, CELL_BYTES), false);
}

static struct column *table_column(struct table *t, const char *name)
{
    for (int i = 0; i < t->n; i++)
        if (strcmp(t->columns[i].name, name) == 0)
            return &t->columns[i];
    if (t->n == COLUMNS_MAX)
        return NULL;
    t->columns[t->n] =
        (struct column){.name = name, .width = agon_pretty_width(agon_str(name)), .right = true};
    return &t->columns[t->n++];
}

static void table_measure(struct table *t, const json_t *rows)
{
    size_t i;
    const char *key;
    json_t *row, *cell;
    json_array_foreach(rows, i, row) json_object_foreach(row, key, cell)
    {
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
        struct column *c = table_column(t, key);
        if (!c)
            continue;
        add_cell(&text, cell);
        int width = agon_pretty_width(agon_buf_str(&text));
        c->width = width > c->width ? width : c->width;
        c->right = c->right && (json_is_number(cell) || json_is_null(cell));
    }
}

/* Make it fit by cutting the widest columns; false: it can't. */
static bool table_fit(struct table *t, int width)
{
    for (;;) {
        int total = (t->n - 1) * GAP, widest = 0;
        for (int i = 0; i < t->n; i++) {
            total += t->columns[i].width;
            widest = t->columns[i].width > t->columns[widest].width ? i : widest;
        }
        if (total <= width)
            return true;
        if (t->columns[widest].width <= COLUMN_MIN)
            return false;
        t->columns[widest].width--;
    }
}

static void add_padded(struct agon_buf *out, struct agon_str text, const struct column *c,
                       bool last)
{
    int width = agon_pretty_width(text);
    bool cut = width > c->width;
    if (cut)
        text = cut_width(text, c->width - 1, &width);
    width += cut;
    if (c->right)
        add_spaces(out, c->width - width);
    agon_buf_add_str(out, text);
    agon_buf_adds(out, cut ? "…" : "");
    if (!c->right && !last)
        add_spaces(out, c->width - width);
    agon_buf_adds(out, last ? "\n" : "  ");
}

static void table_write(struct agon_buf *out, const struct table *t, const json_t *rows)
{
    size_t i;
    json_t *row;
    for (int k = 0; k < t->n; k++)
        add_padded(out, agon_str(t->columns[k].name), &t->columns[k], k == t->n - 1);
    for (int k = 0; k < t->n; k++) {
        for (int n = t->columns[k].width; n > 0; n--)
            agon_buf_addc(out, '-');
        agon_buf_adds(out, k == t->n - 1 ? "\n" : "  ");
    }
    json_array_foreach(rows, i, row) for (int k = 0; k < t->n; k++)
    {
        struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
        add_cell(&text, json_object_get(row, t->columns[k].name));
        add_padded(out, agon_buf_str(&text), &t->columns[k], k == t->n - 1);
    }
}

/* Too many columns for a line: a line for each of them. */
static void blocks_write(struct agon_buf *out, const struct table *t, const json_t *rows, int width)
{
    size_t i;
    json_t *row;
    struct column name = {0};
    for (int k = 0; k < t->n; k++) {
        int w = agon_pretty_width(agon_str(t->columns[k].name));
        name.width = w > name.width ? w : name.width;
    }
    json_array_foreach(rows, i, row)
    {
        agon_buf_addf(out, "-- row %zu\n", i + 1);
        for (int k = 0; k < t->n; k++) {
            struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
            add_padded(out, agon_str(t->columns[k].name), &name, false);
            add_cell(&text, json_object_get(row, t->columns[k].name));
            agon_pretty_wrap(out, agon_buf_str(&text), width, name.width + GAP, name.width + GAP);
        }
    }
}

void agon_pretty_rows(struct agon_buf *out, const json_t *rows, int width)
{
    struct table *t = calloc(1, sizeof(*t));
    if (!t) {
        out->failed = out->failed ? out->failed : AGON_ENOMEM;
        return;
    }
    table_measure(t, rows);
    if (table_fit(t, width))
        table_write(out, t, rows);
    else
        blocks_write(out, t, rows, width);
    free(t);
}

/* ---- running text ---- */

/* One line of text, without a newline, into lines; `used` columns of the first are taken. */
static void wrap_line(struct agon_buf *out, struct agon_str line, int width, int indent, int used)
{
    bool first = true;
    while (line.size > 0) {
        size_t n = 0;
        while (n < line.size && line.data[n] == ' ')
            n++;
        size_t spaces = n;
        while (n < line.size && line.data[n] != ' ')
            n++;
        struct agon_str word = {line.data + spaces, n - spaces};
        int w = agon_pretty_width(word);
        if (!first && used + (int)spaces + w > width) {
            new_line(out, indent);
            used = indent;
        } else {
            add_spaces(out, (int)spaces);
            used += (int)spaces;
        }
        agon_buf_add_str(out, word);
        used += w;
        first = false;
        line.data += n;
        line.size -= n;
    }
    agon_buf_addc(out, '\n');
}

void agon_pretty_wrap(struct agon_buf *out, struct agon_str text, int width, int used, int indent)
{
    struct agon_buf plain AGON_AUTO(agon_buf_deinit) = AGON_BUF(TEXT_BYTES_MAX);
    agon_text_add_plain(&plain, text, true);
    struct agon_str left = agon_buf_str(&plain);
    bool first = true;
    do {
        const char *end = left.size ? memchr(left.data, '\n', left.size) : NULL;
        size_t n = end ? (size_t)(end - left.data) : left.size;
        if (!first)
            add_spaces(out, indent);
        wrap_line(out, (struct agon_str){left.data, n}, width, indent, first ? used : indent);
        n += end != NULL;
        left.data += n;
        left.size -= n;
        first = false;
    } while (left.size > 0);
}
