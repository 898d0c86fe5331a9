/* Documents taken apart, which is done in a parser cell (parse_ops.h): see document.h. */
#include "synth/retrieval/document.h"

#include "base/json.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    DOC_LINKS_SHOWN = 10,
    DOC_ROWS_SHOWN = 3,
    DOC_COLUMNS_SUMMED = 6,
    DOC_ARRAYS_SHOWN = 4,
    DOC_ARRAYS_MAX = 64,
    DOC_ITEM_MAX = 400,
    DOC_TEXT_MAX = 60000,
    DOC_WORDS_MAX = 64 << 10,
};

/* ---- tables */

static bool begins_with_comment(struct agon_str body)
{
    return body.size && body.data[0] == '#';
}

static int csv_table(const struct agon_document *d, const struct agon_table_options *o, bool tabs,
                     struct agon_table **ret, struct agon_err *err)
{
    struct agon_csv_options csv = {.delimiter = tabs ? '\t' : ',', .comment = o->comment};
    if (!csv.comment && begins_with_comment(d->body))
        csv.comment = "#";
    if (o->delimiter && strcmp(o->delimiter, "space") == 0)
        csv.delimiter = ' ';
    else if (o->delimiter && (strcmp(o->delimiter, "tab") == 0 || strcmp(o->delimiter, "\\t") == 0))
        csv.delimiter = '\t';
    else if (o->delimiter && strlen(o->delimiter) == 1)
        csv.delimiter = *o->delimiter;
    else if (o->delimiter && *o->delimiter) {
        (void)agon_fail(err, AGON_EINPUT,
                        "delimiter '%.20s' is neither one character nor \"space\" nor \"tab\"",
                        o->delimiter);
        return AGON_TABLE_NONE;
    }
    return agon_table_read_csv(ret, d->body, &csv, err);
}

static int html_table(const struct agon_document *d, int number, struct agon_table **ret,
                      struct agon_err *err)
{
    struct agon_html html;
    int r = agon_html_parse(&html, d->body, d->address, err);
    if (r)
        return r;
    number = number ? number : 1;
    if (number >= 1 && number <= html.n_tables) {
        *ret = AGON_STEAL(html.tables[number - 1]);
    } else {
        (void)agon_fail(err, AGON_EINPUT, "the page holds %d tables; there is no table %d",
                        html.n_tables, number);
        r = AGON_TABLE_NONE;
    }
    agon_html_deinit(&html);
    return r;
}

/* ---- arrays of objects in a JSON document */

struct array {
    char pointer[200];
    const json_t *value;
};
struct arrays {
    struct array items[DOC_ARRAYS_MAX];
    int n;
};

static void find_arrays(struct arrays *found, const json_t *v, const char *pointer)
{
    const json_t *first = json_array_get(v, 0);
    if ((json_is_object(first) || json_is_array(first)) && found->n < DOC_ARRAYS_MAX) {
        struct array *a = &found->items[found->n++];
        a->value = v;
        snprintf(a->pointer, sizeof(a->pointer), "%s", pointer);
    }
    const char *key;
    json_t *child;
    json_object_foreach((json_t *)(uintptr_t)v, key, child)
    {
        char next[200];
        if (strpbrk(key, "~/") ||
            snprintf(next, sizeof(next), "%s/%s", pointer, key) >= (int)sizeof(next))
            continue;
        find_arrays(found, child, next);
    }
}

static int compare_arrays(const void *a, const void *b)
{
    const struct array *x = a, *y = b;
    size_t nx = json_array_size(x->value), ny = json_array_size(y->value);
    return nx != ny ? (nx < ny) - (nx > ny) : strcmp(x->pointer, y->pointer);
}

static int arrays_of(struct agon_str body, json_t **ret_root, struct arrays *ret,
                     struct agon_err *err)
{
    int r = agon_json_parse(ret_root, body, err);
    if (r)
        return r;
    *ret = (struct arrays){.n = 0};
    find_arrays(ret, *ret_root, "");
    qsort(ret->items, (size_t)ret->n, sizeof(ret->items[0]), compare_arrays);
    return 0;
}

static int json_table(const struct agon_document *d, const char *pointer, struct agon_table **ret,
                      struct agon_err *err)
{
    char largest[200] = "";
    if (!pointer) {
        struct arrays *found = calloc(1, sizeof(*found));
        json_auto_t *root = NULL;
        int r = found ? arrays_of(d->body, &root, found, err)
                      : agon_fail(err, AGON_ENOMEM, "json: out of memory");
        if (!r && found->n)
            memcpy(largest, found->items[0].pointer, sizeof(largest));
        free(found);
        if (r)
            return r == AGON_EINPUT ? AGON_TABLE_NONE : r;
    }
    return agon_table_read_json(ret, d->body, pointer ? pointer : largest, err);
}

int agon_document_table(const struct agon_document *d, const struct agon_table_options *o,
                        struct agon_table **ret, struct agon_err *err)
{
    const char *format = o->format ? o->format : agon_document_kind_name(d->kind);
    if (strcmp(format, "json") == 0)
        return json_table(d, o->pointer, ret, err);
    if (strcmp(format, "html") == 0)
        return html_table(d, o->number, ret, err);
    if (d->kind == AGON_DOC_BINARY || d->kind == AGON_DOC_HTML) {
        (void)agon_fail(err, AGON_EINPUT, "%.150s is %s, not %s", d->address,
                        agon_document_kind_name(d->kind), format);
        return AGON_TABLE_NONE;
    }
    return csv_table(d, o, strcmp(format, "tsv") == 0, ret, err);
}

/* ---- what fetch shows */

static void add_fields(struct agon_buf *b, const struct agon_table *t, int row)
{
    for (int i = 0; i < t->n_columns; i++) {
        struct agon_str s = row < 0 ? t->headers[i] : agon_table_cell(t, row, i)->text;
        agon_buf_adds(b, i ? " | " : "");
        agon_buf_add_str(b, s);
    }
    agon_buf_addc(b, '\n');
}

static int render_csv(const struct agon_document *d, struct agon_buf *b, struct agon_err *err)
{
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_table_options o = {0};
    int r = agon_document_table(d, &o, &t, err);
    if (r < 0)
        return r;
    if (r > 0) {
        agon_buf_addf(b, "%s, empty\n", agon_document_kind_name(d->kind));
        return 0;
    }
    agon_buf_addf(b, "%s, %d row%s, %d columns\n", agon_document_kind_name(d->kind),
                  t->n_rows + t->n_rows_left_out, t->n_rows == 1 ? "" : "s", t->n_columns);
    add_fields(b, t, -1);
    for (int row = 0; row < t->n_rows && row < DOC_ROWS_SHOWN; row++)
        add_fields(b, t, row);
    return 0;
}

static void add_item(struct agon_buf *b, const json_t *item)
{
    struct agon_buf text = AGON_BUF(1 << 20);
    agon_json_dump(&text, item);
    struct agon_str s = agon_buf_str(&text);
    bool cut = s.size > DOC_ITEM_MAX;
    for (s.size = cut ? DOC_ITEM_MAX : s.size;
         cut && s.size && ((unsigned char)s.data[s.size] & 0xC0) == 0x80;)
        s.size--;
    agon_buf_add_str(b, s);
    agon_buf_adds(b, cut ? "…\n" : "\n");
    agon_buf_deinit(&text);
}

static int render_json(const struct agon_document *d, struct agon_buf *b, struct agon_err *err)
{
    json_auto_t *root = NULL;
    struct arrays *found = calloc(1, sizeof(*found));
    if (!found)
        return agon_fail(err, AGON_ENOMEM, "json: out of memory");
    struct agon_err why;
    int r = arrays_of(d->body, &root, found, &why);
    agon_buf_adds(b, "json\n");
    if (r)
        agon_buf_addf(b, "broken: %s\n", why.text);
    for (int i = 0; !r && i < found->n && i < DOC_ARRAYS_SHOWN; i++) {
        const struct array *a = &found->items[i];
        const json_t *first = json_array_get(a->value, 0);
        agon_buf_addf(b, "array %s: %zu items", a->pointer, json_array_size(a->value));
        const char *key;
        json_t *v;
        json_object_foreach((json_t *)(uintptr_t)first, key, v) agon_buf_addf(b, ", %s", key);
        agon_buf_addc(b, '\n');
        add_item(b, first);
    }
    if (!r && !found->n)
        add_item(b, root);
    free(found);
    return 0;
}

static void render_links(const struct agon_html *h, struct agon_buf *b)
{
    int n = 0;
    for (int pass = 0; pass < 2; pass++) { /* data first */
        for (int i = 0; i < h->n_links && n < DOC_LINKS_SHOWN; i++) {
            bool data = agon_document_is_data(h->links[i].url);
            if (data != (pass == 0))
                continue;
            if (n == 0)
                agon_buf_adds(b, "links:\n");
            agon_buf_addf(b, "[%d] %s %s\n", ++n, h->links[i].url,
                          data ? h->links[i].context : h->links[i].label);
        }
    }
}

static int render_html(const struct agon_document *d, struct agon_buf *b, struct agon_err *err)
{
    struct agon_html h;
    int r = agon_html_parse(&h, d->body, d->address, err);
    if (r)
        return r;
    agon_buf_addf(b, "title: %s\n", h.title);
    for (int i = 0; i < h.n_tables; i++) {
        agon_buf_addf(b, "%s[%d] %d rows: ", i ? "" : "tables:\n", i + 1, h.tables[i]->n_rows);
        add_fields(b, h.tables[i], -1);
    }
    render_links(&h, b);
    if (h.text.size) {
        agon_buf_adds(b, "text:\n");
        agon_buf_add_str(b,
                         (struct agon_str){h.text.data, h.text.size > DOC_TEXT_MAX ? DOC_TEXT_MAX
                                                                                   : h.text.size});
    }
    agon_html_deinit(&h);
    return 0;
}

/* Text of unknown encoding, made valid UTF-8 without control characters. */
static void add_text(struct agon_buf *b, struct agon_str s)
{
    size_t kept = 0;
    for (size_t i = 0; i < s.size && kept < DOC_TEXT_MAX;) {
        unsigned char c = (unsigned char)s.data[i];
        size_t n = c < 0x80 ? 1 : c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2;
        struct agon_str one = {s.data + i, n};
        bool good = i + n <= s.size && (c >= 0x20 || c == '\n' || c == '\t') && c != 0x7F &&
                    agon_utf8_valid(one);
        if (good)
            agon_buf_add_str(b, one);
        else if (c >= 0x80)
            agon_buf_adds(b, "\xEF\xBF\xBD");
        i += good ? n : 1;
        kept += n;
    }
}

int agon_document_render(const struct agon_document *d, struct agon_buf *b, struct agon_err *err)
{
    struct agon_buf raw = AGON_BUF(b->size_max);
    int r = 0;
    switch (d->kind) {
    case AGON_DOC_HTML: r = render_html(d, &raw, err); break;
    case AGON_DOC_CSV:
    case AGON_DOC_TSV: r = render_csv(d, &raw, err); break;
    case AGON_DOC_JSON: r = render_json(d, &raw, err); break;
    case AGON_DOC_TEXT:
        agon_buf_adds(&raw, "text\n");
        agon_buf_add_str(&raw, d->body);
        break;
    case AGON_DOC_BINARY:
        agon_buf_addf(&raw, "binary, %zu bytes: it can't be read\n", d->body.size);
        break;
    }
    if (!r)
        r = agon_buf_check(&raw, "fetch", err);
    if (!r) {
        agon_buf_addf(b, "%s\n", d->address);
        add_text(b, agon_buf_str(&raw));
        if (b->size && b->data[b->size - 1] != '\n')
            agon_buf_addc(b, '\n');
    }
    agon_buf_deinit(&raw);
    return r;
}

/* "alpha_3 name numeric …": what a hit says of a data file. Nothing for one that can't be read. */
static int summarise(const struct agon_document *d, struct agon_buf *summary, struct agon_err *err)
{
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_table_options o = {0};
    if (d->kind != AGON_DOC_CSV && d->kind != AGON_DOC_TSV && d->kind != AGON_DOC_JSON)
        return 0;
    int r = agon_document_table(d, &o, &t, err);
    for (int i = 0; !r && i < t->n_columns && i < DOC_COLUMNS_SUMMED; i++) {
        add_text(summary, t->headers[i]);
        agon_buf_addc(summary, ' ');
    }
    if (!r)
        agon_buf_adds(summary, "…");
    return r < 0 ? r : 0;
}

int agon_document_words(const struct agon_document *d, const struct agon_html *html,
                        struct agon_buf *title, struct agon_buf *text, struct agon_buf *summary,
                        struct agon_err *err)
{
    const char *name = strrchr(d->address, '/');
    if (!name)
        name = strchr(d->address, ':');
    agon_buf_adds(title, html && *html->title ? html->title
                         : name && name[1]    ? name + 1
                                              : d->address);
    struct agon_str words = html ? agon_buf_str(&html->text) : d->body;
    if (words.size > DOC_WORDS_MAX)
        words.size = DOC_WORDS_MAX;
    if (d->kind != AGON_DOC_BINARY)
        add_text(text, words);
    int r = summarise(d, summary, err);
    if (r || (r = agon_buf_check(title, "index", err)))
        return r;
    r = agon_buf_check(text, "index", err);
    return r ? r : agon_buf_check(summary, "index", err);
}
